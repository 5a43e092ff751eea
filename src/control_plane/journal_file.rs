//! A file that entries are appended to: JSON, one entry a line, each with a checksum.
//!
//! A crash may leave a part of the last line. It is cut off when the file is opened: the entry was
//! not acknowledged.

use super::state_store::is_at;
use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file of entries that is open for writing.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
    octets: u64,
}

impl JournalFile {
    /// Opens a file, creates it if it does not exist, and reads its entries. A damaged file is
    /// copied to `<name>.damaged` and cut off at the damage.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn open<T: DeserializeOwned>(path: &Path) -> anyhow::Result<(JournalFile, Vec<T>)> {
        let context = || format!("{} cannot be used; check `state_directory`", path.display());
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(context)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = file.with_context(context)?;
        let octets = fs::read(path).with_context(context)?;
        let (entries, len) = entries(&octets);
        let rest = &octets[len..];
        if rest.contains(&b'\n') {
            let copy = copy_of(path);
            fs::write(&copy, &octets).with_context(context)?;
            tracing::error!(path = %path.display(), octet = len, copy = %copy.display(), "journal damaged");
        }
        file.set_len(len as u64).with_context(context)?;
        file.seek(SeekFrom::End(0)).with_context(context)?;
        sync_directory(path).with_context(context)?;
        Ok((JournalFile { path: path.into(), file, octets: len as u64 }, entries))
    }

    /// Reads the entries of a file up to the first that is damaged, and leaves the file as it is.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
        Ok(entries(&fs::read(path)?).0)
    }

    /// The copy that was made when the file was damaged. None if there is none, or someone has
    /// removed it.
    pub fn damaged_copy(&self) -> Option<PathBuf> {
        Some(copy_of(&self.path)).filter(|copy| copy.exists())
    }

    /// Appends entries, all or none. They are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn add(&mut self, entries: impl Iterator<Item = impl Serialize>) -> io::Result<()> {
        let mut octets = Vec::new();
        for entry in entries {
            octets.extend_from_slice(&line(&entry)?);
        }
        let written = self.file.write_all(&octets).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // The part that was written must not be in front of the next entry.
            self.file.set_len(self.octets)?;
            self.file.seek(SeekFrom::Start(self.octets))?;
            return Err(error);
        }
        self.octets += octets.len() as u64;
        Ok(())
    }

    /// The length of the file, in octets.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether the open file is still the one at its path. If not, all entries have to be written
    /// again.
    pub fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Replaces all entries.
    ///
    /// # Errors
    ///
    /// The file cannot be written. The former file is still there then.
    pub fn replace(&mut self, entries: impl Iterator<Item = impl Serialize>) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let draft = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        let mut octets = Vec::new();
        for entry in entries {
            octets.extend_from_slice(&line(&entry)?);
        }
        file.write_all(&octets)?;
        file.sync_data()?;
        fs::rename(&draft, &self.path)?;
        sync_directory(&self.path)?;
        (self.file, self.octets) = (file, octets.len() as u64);
        Ok(())
    }
}

/// The path of the copy of a damaged file.
pub(super) fn copy_of(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

/// The entries up to the first that is damaged, and their length in octets.
fn entries<T: DeserializeOwned>(octets: &[u8]) -> (Vec<T>, usize) {
    let (mut entries, mut len) = (Vec::new(), 0);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        let Some(entry) = read_line(line) else { break };
        entries.push(entry);
        len += line.len();
    }
    (entries, len)
}

/// Waits until the directory entry of a file is on the disk.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn line(entry: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry)?;
    Ok([format!("{:08x} ", crc32c::crc32c(&json)).as_bytes(), &json, b"\n"].concat())
}

fn read_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (checksum, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let checksum = u32::from_str_radix(std::str::from_utf8(&checksum[..8]).ok()?, 16).ok()?;
    if checksum != crc32c::crc32c(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_off_an_entry_that_was_written_in_part() {
        let directory = std::env::temp_dir().join(format!("zonal-journal-file-{}", std::process::id()));
        let path = directory.join("a/b.journal");
        let open = || JournalFile::open::<u32>(&path).unwrap();
        let (mut journal, entries) = open();
        assert!(entries.is_empty());
        journal.add([1, 2].iter()).unwrap();
        journal.add([3].iter()).unwrap();
        let whole = fs::read(&path).unwrap();
        for len in 0..=whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let (mut journal, entries) = open();
            assert_eq!(entries.len(), whole[..len].iter().filter(|octet| **octet == b'\n').count());
            journal.add([9].iter()).unwrap();
            assert_eq!(open().1.len(), entries.len() + 1);
            assert_eq!(journal.damaged_copy(), None);
        }
        let mut damaged = whole.clone();
        damaged[12] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(open().1.len(), 1);
        assert_eq!(fs::read(open().0.damaged_copy().unwrap()).unwrap(), damaged);

        let (mut journal, _) = open();
        journal.replace([7, 8].iter()).unwrap();
        journal.add([9].iter()).unwrap();
        assert_eq!(open().1, [7, 8, 9]);
        assert_eq!(journal.octets(), fs::metadata(&path).unwrap().len());

        fs::remove_dir_all(&directory).unwrap();
        assert!(!journal.is_in_place());
        journal.replace([7, 8].iter()).unwrap();
        assert!(journal.is_in_place());
        assert_eq!(open().1, [7, 8]);
        fs::remove_dir_all(directory).unwrap();
    }
}
