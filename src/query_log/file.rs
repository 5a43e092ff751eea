//! A log in a file, which is put aside when it is full.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file that is written to its end, and those that were before it.
pub struct File {
    path: PathBuf,
    max_octets: u64,
    keep: u32,
    open: Option<fs::File>,
}

impl File {
    /// The file at a path, which is opened when there is something to write.
    pub fn new(path: PathBuf, max_octets: u64, keep: u32) -> File {
        File { path, max_octets, keep, open: None }
    }

    /// Opens it anew at the next write, as it may be another one by then.
    pub fn reopen(&mut self) {
        self.open = None;
    }

    /// Writes lines: all of them or, where there is no room, none.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut file = match self.open.take() {
            Some(file) => file,
            None => {
                let failed =
                    |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
                open(&self.path).map_err(failed)?
            }
        };
        // Somebody else may have made it shorter.
        let mut len = file.metadata()?.len();
        if len > 0 && len + lines.len() as u64 > self.max_octets {
            put_aside(&self.path, self.keep)?;
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
                    // No line stays that is not whole, unless somebody else has written behind it.
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
    // A pipe would wait for a reader.
    let options = options.create(true).append(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let is_no_file = || io::Error::other("it is no regular file");
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => is_no_file(),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(is_no_file()) }
}

/// Gives a full file the name of an older one, as all older ones are given those of still older ones. The oldest one goes.
fn put_aside(path: &Path, keep: u32) -> io::Result<()> {
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
    // Where one is missing, those behind it stay.
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
    fn files_are_put_aside_and_the_oldest_ones_go() {
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
        // What is there already counts.
        let mut file = File::new(path.clone(), 10, 0);
        file.write(b"line 7\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 7\n");
        assert_eq!(names(&directory.join("below")), ["log", "log.1", "log.2"]);
        fs::rename(&path, directory.join("elsewhere")).unwrap();
        file.reopen();
        file.write(b"8\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "8\n");
        // What somebody else makes shorter is not full yet.
        let path = directory.join("shorter");
        let mut file = File::new(path.clone(), 10, 1);
        for number in 0..5 {
            file.write(format!("line {number}\n").as_bytes()).unwrap();
            fs::write(&path, "").unwrap();
        }
        assert!(!directory.join("shorter.1").exists());
        // Links are not followed, and devices are no files.
        std::os::unix::fs::symlink("/dev/null", directory.join("link")).unwrap();
        assert!(File::new(directory.join("link"), 10, 0).write(b"x").is_err());
        assert!(File::new("/dev/null".into(), 10, 0).write(b"x").is_err());
        // Nor are pipes, which nobody waits for.
        let pipe = directory.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let mut file = File::new(pipe.clone(), 10, 0);
        assert!(file.write(b"x").unwrap_err().to_string().ends_with("pipe: it is no regular file"));
        fs::remove_file(&pipe).unwrap();
        file.write(b"x\n").unwrap();
        assert_eq!(fs::read_to_string(&pipe).unwrap(), "x\n");
        fs::remove_dir_all(&directory).unwrap();
    }
}
