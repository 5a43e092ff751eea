//! A file that is only added to: entries in JSON, one a line, each with a checksum.
//!
//! What was added last may be there in part after a crash: it is cut off, as nobody was told that it is there.

use super::store::is_at;
use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file of entries.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Lines {
    /// Opens a file, which is made if it is not there, and reads it. What cannot be read is kept beside it, and told.
    pub fn open<T: DeserializeOwned>(path: &Path) -> anyhow::Result<(Lines, Vec<T>)> {
        let told = || format!("cannot use {}", path.display());
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(told)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = file.with_context(told)?;
        let octets = fs::read(path).with_context(told)?;
        let (entries, len) = entries(&octets);
        let rest = &octets[len..];
        if rest.contains(&b'\n') {
            let aside = copy_of(path);
            fs::write(&aside, &octets).with_context(told)?;
            tracing::error!(
                "{} is damaged from octet {len} on: what is before that is used, a copy is in {}",
                path.display(),
                aside.display()
            );
        }
        file.set_len(len as u64).with_context(told)?;
        file.seek(SeekFrom::End(0)).with_context(told)?;
        sync_directory(path).with_context(told)?;
        Ok((Lines { path: path.into(), file, len: len as u64 }, entries))
    }

    /// Reads a file, and leaves it as it is. What cannot be read is left out.
    pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Vec<T>> {
        Ok(entries(&fs::read(path)?).0)
    }

    /// The copy that was made when the file was damaged, as long as nobody has removed it.
    pub fn damaged_copy(&self) -> Option<PathBuf> {
        Some(copy_of(&self.path)).filter(|copy| copy.exists())
    }

    /// Adds entries, all or none. They are on the disk when this returns.
    pub fn add(&mut self, entries: impl Iterator<Item = impl Serialize>) -> io::Result<()> {
        let mut octets = Vec::new();
        for entry in entries {
            octets.extend_from_slice(&line(&entry)?);
        }
        let written = self.file.write_all(&octets).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What is there of it must not be in front of what comes next.
            self.file.set_len(self.len)?;
            self.file.seek(SeekFrom::Start(self.len))?;
            return Err(error);
        }
        self.len += octets.len() as u64;
        Ok(())
    }

    /// How long the file is, in octets.
    pub fn octets(&self) -> u64 {
        self.len
    }

    /// Whether what is added is at the path still. If not, all of it is to be written anew.
    pub fn is_there(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Writes the file anew, with these entries alone.
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
        (self.file, self.len) = (file, octets.len() as u64);
        Ok(())
    }
}

/// The copy of a damaged file.
pub(super) fn copy_of(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

/// The entries up to the first that cannot be read, and how long they are, in octets.
fn entries<T: DeserializeOwned>(octets: &[u8]) -> (Vec<T>, usize) {
    let (mut entries, mut len) = (Vec::new(), 0);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        let Some(entry) = read(line) else { break };
        entries.push(entry);
        len += line.len();
    }
    (entries, len)
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn line(entry: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry)?;
    Ok([format!("{:08x} ", crc32c::crc32c(&json)).as_bytes(), &json, b"\n"].concat())
}

fn read<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (sum, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let sum = u32::from_str_radix(std::str::from_utf8(&sum[..8]).ok()?, 16).ok()?;
    if sum != crc32c::crc32c(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_in_part_is_cut_off() {
        let directory = std::env::temp_dir().join(format!("zonal-lines-{}", std::process::id()));
        let path = directory.join("a/b.journal");
        let open = || Lines::open::<u32>(&path).unwrap();
        let (mut lines, entries) = open();
        assert!(entries.is_empty());
        lines.add([1, 2].iter()).unwrap();
        lines.add([3].iter()).unwrap();
        let whole = fs::read(&path).unwrap();
        for len in 0..=whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let (mut lines, entries) = open();
            assert_eq!(entries.len(), whole[..len].iter().filter(|octet| **octet == b'\n').count());
            lines.add([9].iter()).unwrap();
            assert_eq!(open().1.len(), entries.len() + 1);
            assert_eq!(lines.damaged_copy(), None);
        }
        let mut damaged = whole.clone();
        damaged[12] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(open().1.len(), 1);
        assert_eq!(fs::read(open().0.damaged_copy().unwrap()).unwrap(), damaged);

        let (mut lines, _) = open();
        lines.replace([7, 8].iter()).unwrap();
        lines.add([9].iter()).unwrap();
        assert_eq!(open().1, [7, 8, 9]);
        assert_eq!(lines.octets(), fs::metadata(&path).unwrap().len());

        fs::remove_dir_all(&directory).unwrap();
        assert!(!lines.is_there());
        lines.replace([7, 8].iter()).unwrap();
        assert!(lines.is_there());
        assert_eq!(open().1, [7, 8]);
        fs::remove_dir_all(directory).unwrap();
    }
}
