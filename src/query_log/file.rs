//! The output of a log to a file, with rotation.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file, and its rotated predecessors.
pub struct File {
    path: PathBuf,
    max_octets: u64,
    keep: u32,
    open: Option<fs::File>,
}

impl File {
    /// The file at a path. It is opened when there is something to write.
    pub fn new(path: PathBuf, max_octets: u64, keep: u32) -> File {
        File { path, max_octets, keep, open: None }
    }

    /// Opens the file again at the next write, because another program may have renamed it.
    pub fn reopen(&mut self) {
        self.open = None;
    }

    /// Writes lines: all of them, or none if the disk is full.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut file = match self.open.take() {
            Some(file) => file,
            None => {
                let failed =
                    |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
                open(&self.path).map_err(failed)?
            }
        };
        // Another program may have truncated the file.
        let mut len = file.metadata()?.len();
        if len > 0 && len + lines.len() as u64 > self.max_octets {
            rotate(&self.path, self.keep)?;
            file = open(&self.path)?;
            len = file.metadata()?.len();
        }
        let file = self.open.insert(file);
        let mut rest = lines;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    len += written as u64;
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Removes a partial line, unless another program has written after it.
                    let written = (lines.len() - rest.len()) as u64;
                    if written > 0 && file.metadata().is_ok_and(|data| data.len() == len) {
                        file.set_len(len - written)?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut options = OpenOptions::new();
    // Without O_NONBLOCK, the open of a pipe would wait for a reader.
    let options = options.create(true).append(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let is_no_file = || io::Error::other("not a regular file");
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => is_no_file(),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(is_no_file()) }
}

/// Rotates: renames the file to `.1`, `.1` to `.2`, and so on. Deletes the oldest file.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let older = |number: u32| {
        let mut name = OsString::from(path);
        match number {
            0 => {}
            _ => name.push(format!(".{number}")),
        }
        PathBuf::from(name)
    };
    if keep == 0 {
        return fs::remove_file(path);
    }
    // Files after a gap in the numbers keep their names.
    let last = (1..keep).find(|number| !older(*number).exists()).unwrap_or(keep);
    for number in (0..last).rev() {
        fs::rename(older(number), older(number + 1))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn rotates_full_files_and_deletes_the_oldest() {
        let directory =
            std::env::temp_dir().join(format!("zonal-file-{}-{:?}", std::process::id(), std::thread::current().id()));
        let path = directory.join("below").join("log");
        let mut file = File::new(path.clone(), 10, 2);
        for number in 0..7 {
            file.write(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(names(&directory.join("below")), ["log", "log.1", "log.2"]);
        assert_eq!(fs::read_to_string(path.with_extension("2")).unwrap(), "line 4\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 6\n");
        // The size of an existing file counts.
        let mut file = File::new(path.clone(), 10, 0);
        file.write(b"line 7\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 7\n");
        assert_eq!(names(&directory.join("below")), ["log", "log.1", "log.2"]);
        fs::rename(&path, directory.join("elsewhere")).unwrap();
        file.reopen();
        file.write(b"8\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "8\n");
        // A file that another program truncates is not full.
        let path = directory.join("shorter");
        let mut file = File::new(path.clone(), 10, 1);
        for number in 0..5 {
            file.write(format!("line {number}\n").as_bytes()).unwrap();
            fs::write(&path, "").unwrap();
        }
        assert!(!directory.join("shorter.1").exists());
        // Symbolic links are not followed, and devices are refused.
        std::os::unix::fs::symlink("/dev/null", directory.join("link")).unwrap();
        assert!(File::new(directory.join("link"), 10, 0).write(b"x").is_err());
        assert!(File::new("/dev/null".into(), 10, 0).write(b"x").is_err());
        // Pipes are refused, and the open does not wait for a reader.
        let pipe = directory.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let mut file = File::new(pipe.clone(), 10, 0);
        assert!(file.write(b"x").unwrap_err().to_string().ends_with("pipe: not a regular file"));
        fs::remove_file(&pipe).unwrap();
        file.write(b"x\n").unwrap();
        assert_eq!(fs::read_to_string(&pipe).unwrap(), "x\n");
        fs::remove_dir_all(&directory).unwrap();
    }
}
