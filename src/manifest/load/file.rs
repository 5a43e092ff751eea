//! Files on disk: whether a file changed, and how a file is read that can change at the same time.

use crate::manifest::document::MAX_FILE_OCTETS;
use std::{
    fs::{self, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The metadata that changes when a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The state of a file when it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    identity: Identity,
    /// Whether the file was changed just before it was read: another change in the same step of the
    /// clock has the same times.
    is_fresh: bool,
}

/// An upper bound of the granularity of file times. Linux has steps of at most 10 ms.
const CLOCK_STEP: Duration = Duration::from_millis(20);

impl Identity {
    fn new(metadata: &Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Stamp {
    fn new(identity: Identity) -> Stamp {
        let (seconds, nanoseconds) = identity.changed;
        let changed = UNIX_EPOCH + Duration::new(seconds.max(0) as u64, nanoseconds as u32);
        let is_fresh = SystemTime::now().duration_since(changed).is_ok_and(|age| age < CLOCK_STEP);
        Stamp { identity, is_fresh }
    }

    /// Whether the file at this path has the same metadata.
    pub(super) fn is_still_of(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| Identity::new(&metadata) == self.identity)
    }

    /// Whether the file at this path is certainly unchanged.
    pub(super) fn is_surely_of(&self, path: &Path) -> bool {
        !self.is_fresh && self.is_still_of(path)
    }
}

/// The number of times that a file is read if it changes or vanishes at the same time.
const MAX_ATTEMPTS: usize = 3;
/// The pause between two attempts, in which a writer can finish.
const PAUSE: Duration = Duration::from_millis(2);

/// Reads a file that does not change while it is read.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for attempt in 0..MAX_ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        match read_once(path) {
            Ok(Some(read)) => return Ok(read),
            Ok(None) => last = io::Error::other("the file changed while it was read"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn check_regular(metadata: &Metadata) -> io::Result<()> {
    match metadata.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::other("not a regular file")),
    }
}

fn read_once(path: &Path) -> io::Result<Option<(Vec<u8>, Stamp)>> {
    // Opening a device can have an effect.
    check_regular(&fs::metadata(path)?)?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // The file can have been replaced by a pipe. Opening must not wait for its writer.
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let before = file.metadata()?;
    check_regular(&before)?;
    if before.len() > MAX_FILE_OCTETS {
        return Err(io::Error::other(format!("larger than {} MiB", MAX_FILE_OCTETS >> 20)));
    }
    let mut bytes = Vec::with_capacity(before.len() as usize + 1);
    (&mut file).take(MAX_FILE_OCTETS + 1).read_to_end(&mut bytes)?;
    let identity = Identity::new(&before);
    let stamp = Stamp::new(identity);
    let settled =
        bytes.len() as u64 == before.len() && Identity::new(&file.metadata()?) == identity && stamp.is_still_of(path);
    Ok(settled.then_some((bytes, stamp)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_regular_files_only() {
        let directory = std::env::temp_dir().join(format!("zonal-file-{}", std::process::id()));
        let pipe = directory.join("pipe");
        fs::create_dir_all(&directory).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&pipe, Path::new("/dev/null")] {
            let error = read_once(path).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{}: {error}", path.display());
        }
        assert_eq!(read_once(&directory).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        fs::remove_dir_all(directory).unwrap();
    }
}
