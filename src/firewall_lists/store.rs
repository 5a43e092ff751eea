//! The last good copies of lists, in the state directory.
//!
//! Each copy is a text as it was downloaded, and a file of what is known about it. A copy is replaced by a rename, after it
//! was compiled: a failure leaves the old one.

use super::fetch::Validators;
use crate::manifest::Id;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The name of the directory in the state directory.
const DIRECTORY: &str = "firewall-lists";

/// What is known about a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CopyInfo {
    /// The list.
    pub id: Id,
    /// The place that it is from.
    pub location: String,
    /// The entity tag.
    pub etag: Option<String>,
    /// The time of the last change, as the server writes it.
    pub last_modified: Option<String>,
    /// When it was downloaded, in seconds since 1970.
    pub fetched: i64,
    /// When its source last confirmed it, in seconds since 1970.
    pub confirmed: i64,
    /// The number of its entries.
    pub entries: u64,
}

impl CopyInfo {
    /// What to send with the next request.
    pub fn validators(&self) -> Validators {
        Validators { etag: self.etag.clone(), last_modified: self.last_modified.clone() }
    }
}

/// The directory of copies.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    is_temporary: bool,
}

impl Store {
    /// In a state directory; without one, in the system's temporary directory until the end.
    pub fn new(state_directory: Option<&Path>) -> Store {
        match state_directory {
            Some(directory) => Store { directory: directory.join(DIRECTORY), is_temporary: false },
            None => {
                let name = format!("zonal-{DIRECTORY}-{}", std::process::id());
                Store { directory: std::env::temp_dir().join(name), is_temporary: true }
            }
        }
    }

    fn path(&self, id: &str, extension: &str) -> PathBuf {
        let name = HEXLOWER.encode(&Sha256::digest(id.as_bytes())[..16]);
        self.directory.join(format!("{name}.{extension}"))
    }

    /// The file of the copy.
    pub fn text(&self, id: &str) -> PathBuf {
        self.path(id, "text")
    }

    /// The file that a new copy is written to.
    ///
    /// # Errors
    ///
    /// If the directory cannot be made.
    pub fn draft(&self, id: &str) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.directory)?;
        Ok(self.path(id, "new"))
    }

    /// A new path for the text of an import. The thread that reads the text may end after the request.
    ///
    /// # Errors
    ///
    /// If the directory cannot be made.
    pub fn draft_of_import(&self) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.directory)?;
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // During a takeover, two processes use the directory.
        let name = format!("import-{}-{}.new", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        Ok(self.directory.join(name))
    }

    /// What is known about the copy of a list, if it is from this source.
    pub fn find(&self, id: &str, location: &str) -> Option<CopyInfo> {
        let info: CopyInfo = serde_json::from_slice(&fs::read(self.path(id, "json")).ok()?).ok()?;
        (info.id == id && info.location == location && self.text(id).is_file()).then_some(info)
    }

    /// Replaces the copy of a list by its draft.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn replace(&self, info: &CopyInfo) -> io::Result<()> {
        fs::rename(self.path(&info.id, "new"), self.text(&info.id))?;
        self.write_info(info)
    }

    /// Writes what is known about the copy.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write_info(&self, info: &CopyInfo) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let draft = self.path(&info.id, "json.new");
        fs::write(&draft, serde_json::to_vec(info)?)?;
        fs::rename(draft, self.path(&info.id, "json"))
    }

    /// Removes all files of a list.
    pub fn remove(&self, id: &str) {
        for extension in ["json", "json.new", "new", "text"] {
            let _ = fs::remove_file(self.path(id, extension));
        }
    }

    /// Removes the copies of all lists but these.
    pub fn retain(&self, is_kept: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_info = path.extension().is_some_and(|extension| extension == "json");
            let info = is_info.then(|| fs::read(&path).ok()).flatten();
            let info = info.and_then(|octets| serde_json::from_slice::<CopyInfo>(&octets).ok());
            if let Some(info) = info.filter(|info| !is_kept(&info.id)) {
                self.remove(&info.id);
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_copy_until_its_list_is_removed() {
        let directory = std::env::temp_dir().join(format!("zonal-list-store-{}", std::process::id()));
        let store = Store::new(Some(&directory));
        let info = CopyInfo {
            id: "rslvr-fdl-../x".into(),
            location: "https://lists.example/".into(),
            etag: Some("\"1\"".into()),
            fetched: 5,
            confirmed: 6,
            entries: 1,
            ..CopyInfo::default()
        };
        assert_eq!(store.find(&info.id, &info.location), None);
        fs::write(store.draft(&info.id).unwrap(), "bad.example\n").unwrap();
        store.replace(&info).unwrap();
        assert_eq!(store.find(&info.id, &info.location).as_ref(), Some(&info));
        assert_eq!(store.find(&info.id, "https://other.example/"), None);
        assert_eq!(fs::read_to_string(store.text(&info.id)).unwrap(), "bad.example\n");
        store.retain(|id| id == info.id);
        assert!(store.find(&info.id, &info.location).is_some());
        store.retain(|_| false);
        assert_eq!(store.find(&info.id, &info.location), None);
        assert_eq!(fs::read_dir(directory.join(DIRECTORY)).unwrap().count(), 0);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn two_imports_have_two_files() {
        let store = Store::new(None);
        assert_ne!(store.draft_of_import().unwrap(), store.draft_of_import().unwrap());
    }
}
