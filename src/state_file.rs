//! A JSON file in the state directory, which a process reads when it starts and replaces as a whole.
//!
//! A write makes a draft and renames it: after a crash, the file is the old one or the new one. A damaged file is set aside,
//! because a lost state is no reason to refuse to start.

use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A JSON file in the state directory.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    max_octets: u64,
}

/// The file cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The reason.
    pub error: io::Error,
    /// Whether the file has been renamed: `.damaged` is added to its name.
    pub is_aside: bool,
}

impl StateFile {
    /// The file with a name. A file of more than `max_octets` octets counts as damaged.
    pub fn new(directory: &Path, name: &str, max_octets: u64) -> StateFile {
        StateFile { path: directory.join(name), max_octets }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file; none if it does not exist.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is too large, or does not contain a `T`. The file is then set aside.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, Unreadable> {
        let content = || -> io::Result<T> {
            if fs::metadata(&self.path)?.len() > self.max_octets {
                return Err(io::Error::other("the file is too large"));
            }
            Ok(serde_json::from_slice(&fs::read(&self.path)?)?)
        };
        match content() {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let is_aside = fs::rename(&self.path, self.path.with_extension("json.damaged")).is_ok();
                Err(Unreadable { error, is_aside })
            }
        }
    }

    /// Replaces the file. The new one is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The new file cannot be written or renamed. The old one stays.
    pub fn write(&self, content: &impl Serialize) -> io::Result<()> {
        let draft = self.path.with_extension("json.new");
        let mut out = fs::File::create(&draft)?;
        out.write_all(&serde_json::to_vec(content)?)?;
        out.sync_all()?;
        fs::rename(draft, &self.path)
    }

    /// Removes the file, if it exists.
    ///
    /// # Errors
    ///
    /// The error of the file system.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_file_and_sets_a_damaged_or_too_large_one_aside() {
        let directory = std::env::temp_dir().join(format!("zonal-state-file-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = StateFile::new(&directory, "numbers.json", 12);
        assert_eq!(file.read::<Vec<u32>>().unwrap(), None);
        for numbers in [vec![1, 2], vec![3]] {
            file.write(&numbers).unwrap();
            assert_eq!(file.read().unwrap(), Some(numbers));
        }
        for damaged in ["", "[", "{}", "[1,2,3,4,5,6,7]"] {
            fs::write(file.path(), damaged).unwrap();
            assert!(file.read::<Vec<u32>>().unwrap_err().is_aside, "{damaged}");
            assert_eq!(fs::read_to_string(directory.join("numbers.json.damaged")).unwrap(), damaged);
            assert_eq!(file.read::<Vec<u32>>().unwrap(), None);
        }
        file.write(&[4]).unwrap();
        (0..2).for_each(|_| file.remove().unwrap());
        assert!(!file.path().exists() && !directory.join("numbers.json.new").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
