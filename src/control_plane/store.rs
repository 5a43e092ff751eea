//! The state directory: what is served, kept for a start without the control plane.
//!
//! ```text
//! base.<n>      everything, as it was when journal.<n> was begun; it ends with an empty frame
//! journal.<n>   what was added since, one frame a change
//! frame         length u32, checksum of the length u32, checksum of the octets u32, the octets: an entry in JSON
//! ```
//! A base is written beside what goes on, and is there under its name only when it is whole. Two bases are kept: if the newer
//! one is damaged, the older one and both journals lead to the same.

use super::kept::{Entry, Kept};
use anyhow::{Context, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// What each file begins with.
const MAGIC: &[u8] = b"zonal state 1\n";
/// Octets in front of those of an entry.
const HEADER: usize = 12;
/// The largest entry, in octets.
const MOST_OCTETS: u32 = 1 << 30;
/// A new base is made when the journal is larger than this, and than half of the base, in octets.
const LEAST_JOURNAL: u64 = if cfg!(test) { 4 << 10 } else { 4 << 20 };
/// How long another process may take to let go of the directory: as long as a server takes to stop.
const LOCK_PATIENCE: Duration = Duration::from_secs(6);

/// A state directory that this process writes to.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Locked for as long as it is open, here or in a process that it was handed to.
    lock: File,
    journal: File,
    /// The number of the journal.
    number: u64,
    /// How long it is, in octets, without what a failed write has left.
    len: u64,
    /// How large the newest base is, in octets.
    base_len: u64,
    /// What is in it.
    kept: Kept,
    /// A base that is being written.
    compaction: Option<JoinHandle<io::Result<u64>>>,
    /// What was written last may not be on the disk yet.
    is_dirty: bool,
}

/// What was found in a state directory.
#[derive(Debug, Default)]
pub struct Found {
    /// What an earlier run has kept; none if it has not kept anything that can be read.
    pub kept: Option<Kept>,
    /// What is damaged, one sentence each.
    pub damage: Vec<String>,
}

impl Store {
    /// Opens a directory, which is made if it is not there, and reads what an earlier run has left in it.
    pub fn open(directory: &Path) -> anyhow::Result<(Store, Found)> {
        fs::create_dir_all(directory).with_context(|| told(directory))?;
        Store::open_locked(directory, lock(directory)?)
    }

    /// The same for a directory that another process has handed over, with the lock on it.
    pub fn open_locked(directory: &Path, lock: File) -> anyhow::Result<(Store, Found)> {
        let told = || told(directory);
        let numbers = numbers(directory).with_context(told)?;
        let mut found = Found::default();
        let loaded = load(directory, &numbers, &mut found.damage).with_context(told)?;
        let newest = numbers.iter().map(|(_, number)| *number).max().unwrap_or(0);
        let is_sound = found.damage.is_empty() && loaded.is_some();
        found.kept = loaded.as_ref().map(|loaded| loaded.kept.clone());
        let Loaded { kept, number, len, base_len } = loaded.unwrap_or_default();
        let (number, (journal, len), base_len) = match is_sound {
            true => (number, open_journal(directory, number, len).with_context(told)?, base_len),
            false => {
                let number = newest + 1;
                let journal = new_journal(directory, number).with_context(told)?;
                let base_len = write_base(directory, number, &kept).with_context(told)?;
                remove_older(directory);
                (number, journal, base_len)
            }
        };
        let (directory, compaction) = (directory.to_path_buf(), None);
        let store = Store { directory, lock, journal, number, len, base_len, kept, compaction, is_dirty: false };
        Ok((store, found))
    }

    /// Keeps all of it, instead of what was kept before. With `sync` it is on the disk when this returns.
    pub fn keep(&mut self, kept: &Kept, sync: bool) -> io::Result<()> {
        self.end_compaction();
        if !self.is_there() {
            self.begin_anew()?;
        }
        let frame = frame(&serde_json::to_vec(&kept.since(&self.kept))?)?;
        if let Err(error) = self.append(&frame, sync) {
            // What is there of it must not be in front of what comes next.
            self.journal.set_len(self.len)?;
            self.journal.seek(SeekFrom::Start(self.len))?;
            return Err(error);
        }
        self.len += frame.len() as u64;
        self.kept = kept.clone();
        if self.len > LEAST_JOURNAL.max(self.base_len / 2)
            && self.compaction.is_none()
            && let Err(error) = self.compact()
        {
            tracing::warn!("{} cannot be condensed: {error}", self.directory.display());
        }
        Ok(())
    }

    /// Whether what is written is in the directory still. Somebody may have removed it, or put another in its place.
    fn is_there(&self) -> bool {
        is_at(&self.journal, &path(&self.directory, "journal", self.number))
            && is_at(&self.lock, &lock_file(&self.directory))
    }

    /// Keeps what is kept in a directory that does not have it any more, or that has to be made.
    fn begin_anew(&mut self) -> io::Result<()> {
        self.await_compaction();
        let directory = &self.directory;
        tracing::warn!("what was kept in {} is gone: it is written there anew", directory.display());
        fs::create_dir_all(directory)?;
        if !is_at(&self.lock, &lock_file(directory)) {
            let lock = open_lock(directory)?;
            match lock.try_lock() {
                Ok(()) => self.lock = lock,
                Err(TryLockError::WouldBlock) => return Err(io::Error::other("another zonal has the directory now")),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let newest = numbers(directory)?.last().map_or(0, |(_, number)| *number);
        let number = newest.max(self.number) + 1;
        self.base_len = write_base(directory, number, &self.kept)?;
        let (journal, len) = new_journal(directory, number)?;
        (self.journal, self.number, self.len, self.is_dirty) = (journal, number, len, false);
        remove_older(directory);
        Ok(())
    }

    fn append(&mut self, frame: &[u8], sync: bool) -> io::Result<()> {
        step("append");
        self.journal.write_all(&frame[..frame.len() / 2])?;
        step("half an entry");
        self.journal.write_all(&frame[frame.len() / 2..])?;
        step("an entry");
        self.is_dirty = true;
        if sync { self.sync() } else { Ok(()) }
    }

    /// Has all that was kept on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.is_dirty {
            self.journal.sync_data()?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has all that was kept on the disk, and leaves the directory alone from now on. Whoever has the lock may take it up.
    pub fn rest(&mut self) -> io::Result<File> {
        self.await_compaction();
        if !self.is_there() {
            self.begin_anew()?;
        }
        self.sync()?;
        self.lock.try_clone()
    }

    /// Takes the directory up again, as it is now.
    pub fn reopen(&mut self) -> anyhow::Result<()> {
        let (store, found) = Store::open_locked(&self.directory, self.lock.try_clone()?)?;
        found.damage.iter().for_each(|damage| tracing::error!("{damage}"));
        *self = store;
        Ok(())
    }

    /// Begins a new journal, and has a base written to it beside what goes on.
    fn compact(&mut self) -> io::Result<()> {
        self.sync()?;
        let (journal, len) = new_journal(&self.directory, self.number + 1)?;
        self.number += 1;
        (self.journal, self.len) = (journal, len);
        let (directory, number, kept) = (self.directory.clone(), self.number, self.kept.clone());
        let work = move || write_base(&directory, number, &kept);
        #[cfg(test)]
        {
            // So that the steps of a test follow one another.
            let base_len = work();
            self.compaction = Some(std::thread::spawn(|| base_len));
        }
        #[cfg(not(test))]
        {
            self.compaction = Some(std::thread::Builder::new().name("state".into()).spawn(work)?);
        }
        Ok(())
    }

    /// Takes notice of a base that is written, and removes what is older than the one before it.
    fn end_compaction(&mut self) {
        if self.compaction.as_ref().is_some_and(|compaction| compaction.is_finished() || cfg!(test)) {
            self.await_compaction();
        }
    }

    fn await_compaction(&mut self) {
        let Some(compaction) = self.compaction.take() else { return };
        match compaction.join().unwrap_or_else(|_| Err(io::Error::other("it has failed"))) {
            Ok(base_len) => {
                self.base_len = base_len;
                remove_older(&self.directory);
            }
            Err(error) => tracing::warn!("{} could not be condensed: {error}", self.directory.display()),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::warn!("{} could not be written: {error}", self.directory.display());
        }
        self.await_compaction();
    }
}

/// What a directory holds.
#[derive(Default)]
struct Loaded {
    kept: Kept,
    /// The newest journal, and how long what is whole of it is.
    number: u64,
    len: u64,
    base_len: u64,
}

fn told(directory: &Path) -> String {
    format!("cannot use the state directory {}: check `state_directory`", directory.display())
}

/// The file that is locked in a directory.
pub fn lock_file(directory: &Path) -> PathBuf {
    directory.join("lock")
}

fn open_lock(directory: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_file(directory))
}

/// Whether an open file is the one at a path.
pub fn is_at(file: &File, path: &Path) -> bool {
    let identity = |data: io::Result<fs::Metadata>| data.ok().map(|data| (data.dev(), data.ino()));
    let there = identity(fs::metadata(path));
    there.is_some() && identity(file.metadata()) == there
}

/// Locks a directory: no other process uses it for as long as the file is open.
pub fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = lock_file(directory);
    let file =
        open_lock(directory).with_context(|| format!("cannot open {}: check `state_directory`", path.display()))?;
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => bail!(
                "the state directory {} is in use by another zonal: each needs its own `state_directory`",
                directory.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

/// The bases and journals of a directory.
fn numbers(directory: &Path) -> io::Result<Vec<(&'static str, u64)>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some((kind, number)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        let kind = match kind {
            "base" => "base",
            "journal" => "journal",
            _ => continue,
        };
        numbers.extend(number.parse().ok().map(|number| (kind, number)));
    }
    numbers.sort_by_key(|(_, number)| *number);
    Ok(numbers)
}

fn path(directory: &Path, kind: &str, number: u64) -> PathBuf {
    directory.join(format!("{kind}.{number}"))
}

/// Reads the newest base that is whole, and the journals from there on.
fn load(directory: &Path, numbers: &[(&str, u64)], damage: &mut Vec<String>) -> io::Result<Option<Loaded>> {
    for (_, first) in numbers.iter().rev().filter(|(kind, _)| *kind == "base") {
        let damaged_bases = damage.len();
        let file = path(directory, "base", *first);
        let mut kept = Kept::default();
        let end = read(File::open(&file)?, &mut kept)?;
        let base_len = match end {
            End::Marked(len) => len,
            End::Unmarked(_) | End::Torn(_) => {
                set_aside(&file, "it ends too early", damage);
                continue;
            }
            End::Damaged(why) => {
                set_aside(&file, &why, damage);
                continue;
            }
        };
        let (mut number, mut len) = (*first, None);
        let journals = numbers.iter().filter(|(kind, number)| *kind == "journal" && number >= first);
        let mut expected = *first;
        for (_, journal) in journals {
            if *journal != expected {
                damage.push(format!("{} is missing", path(directory, "journal", expected).display()));
                break;
            }
            let file = path(directory, "journal", *journal);
            let end = read(File::open(&file)?, &mut kept)?;
            (number, expected) = (*journal, journal + 1);
            match end {
                End::Unmarked(at) => len = Some(at),
                End::Torn(at) if was_written(&file, at)? => {
                    set_aside(&file, "its last entry is damaged", damage);
                    break;
                }
                End::Torn(at) if !numbers.contains(&("journal", expected)) => {
                    tracing::info!("the last entry of {} is incomplete: it was not served", file.display());
                    len = Some(at);
                }
                End::Torn(_) | End::Marked(_) => {
                    set_aside(&file, "it ends within an entry", damage);
                    break;
                }
                End::Damaged(why) => {
                    set_aside(&file, &why, damage);
                    break;
                }
            }
        }
        if len.is_none() && damage.is_empty() {
            // The process ended between a base and its journal.
            let (_, made) = new_journal(directory, number)?;
            len = Some(made);
        }
        // An older base and all journals lead to the same as the newer one.
        let last = numbers.iter().filter(|(kind, _)| *kind == "journal").map(|(_, number)| *number).max();
        kept.is_incomplete |= damage.len() > damaged_bases || last.is_some_and(|last| last >= expected);
        return Ok(Some(Loaded { kept, number, len: len.unwrap_or(0), base_len }));
    }
    Ok(None)
}

/// How a file ends, and where what is whole of it does.
enum End {
    /// With the empty frame of a base.
    Marked(u64),
    /// Behind a frame.
    Unmarked(u64),
    /// Within a frame that was being written.
    Torn(u64),
    /// With something that was never written so.
    Damaged(String),
}

/// Takes all whole entries of a file in.
fn read(open: File, kept: &mut Kept) -> io::Result<End> {
    let size = open.metadata()?.len();
    let mut input = BufReader::with_capacity(1 << 20, open);
    let mut magic = Vec::new();
    (&mut input).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    if magic != MAGIC {
        return Ok(match MAGIC.starts_with(&magic) || magic.iter().all(|octet| *octet == 0) {
            true => End::Torn(0),
            false => End::Damaged("it is of another kind".into()),
        });
    }
    let mut at = MAGIC.len() as u64;
    loop {
        let rest = size - at;
        if rest == 0 {
            return Ok(End::Unmarked(at));
        }
        let mut header = Vec::with_capacity(HEADER);
        (&mut input).take(HEADER as u64).read_to_end(&mut header)?;
        let Ok(header) = <[u8; HEADER]>::try_from(header) else { return Ok(End::Torn(at)) };
        let [len, of_len, of_octets] =
            [0, 4, 8].map(|at| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
        if crc32c::crc32c(&header[..4]) != of_len || len > MOST_OCTETS {
            // A file that was made longer before its octets were written looks like this.
            let mut tail = Vec::new();
            input.read_to_end(&mut tail)?;
            return Ok(match header.iter().chain(&tail).all(|octet| *octet == 0) {
                true => End::Torn(at),
                false => End::Damaged(format!("at octet {at} there is no entry")),
            });
        }
        let mut octets = Vec::with_capacity(len as usize);
        (&mut input).take(len.into()).read_to_end(&mut octets)?;
        let next = at + HEADER as u64 + u64::from(len);
        if next > size {
            return Ok(End::Torn(at));
        }
        if crc32c::crc32c(&octets) != of_octets {
            // What was never written is read as zeros, which are in no text.
            return Ok(match next == size {
                true => End::Torn(at),
                false => End::Damaged(format!("the entry at octet {at} is damaged")),
            });
        }
        if octets.is_empty() {
            return Ok(End::Marked(next));
        }
        let added =
            serde_json::from_slice::<Entry>(&octets).map_err(io::Error::other).and_then(|entry| kept.add(&entry));
        if let Err(error) = added {
            return Ok(End::Damaged(format!("the entry at octet {at} cannot be read: {error}")));
        }
        at = next;
    }
}

/// Whether an entry that is torn was written as a whole: then it may have been served, and is damaged. What was never written is
/// missing, or reads as zeros.
fn was_written(file: &Path, at: u64) -> io::Result<bool> {
    let mut open = File::open(file)?;
    open.seek(SeekFrom::Start(at))?;
    let mut rest = Vec::new();
    open.read_to_end(&mut rest)?;
    let Some((header, octets)) = rest.split_first_chunk::<HEADER>() else { return Ok(false) };
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    Ok(len as usize == octets.len() && !octets.contains(&0))
}

fn frame(octets: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(octets.len()).ok().filter(|len| *len <= MOST_OCTETS);
    let len = len.ok_or_else(|| io::Error::other("the change is larger than 1 GiB"))?.to_le_bytes();
    let checksums = [crc32c::crc32c(&len), crc32c::crc32c(octets)].map(u32::to_le_bytes);
    Ok([&len[..], &checksums[0], &checksums[1], octets].concat())
}

/// Gives a damaged file another name.
fn set_aside(file: &Path, why: &str, damage: &mut Vec<String>) {
    let aside = file.with_file_name(format!("{}.damaged", file.file_name().unwrap_or_default().to_string_lossy()));
    let kept = match fs::rename(file, &aside) {
        Ok(()) => format!("it is now {}", aside.display()),
        Err(error) => format!("it cannot be renamed: {error}"),
    };
    damage.push(format!("{} is damaged: {why}; {kept}", file.display()));
}

/// Opens a journal behind its first `len` octets, and says how long it is.
fn open_journal(directory: &Path, number: u64, len: u64) -> io::Result<(File, u64)> {
    let mut journal = OpenOptions::new().write(true).open(path(directory, "journal", number))?;
    let mut len = len;
    journal.set_len(len)?;
    if len == 0 {
        journal.write_all(MAGIC)?;
        len = MAGIC.len() as u64;
    }
    journal.seek(SeekFrom::Start(len))?;
    journal.sync_all()?;
    Ok((journal, len))
}

fn create(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(MAGIC)?;
    Ok(file)
}

fn new_journal(directory: &Path, number: u64) -> io::Result<(File, u64)> {
    step("a new journal");
    let file = create(&path(directory, "journal", number))?;
    file.sync_all()?;
    sync_directory(directory)?;
    step("after a new journal");
    Ok((file, MAGIC.len() as u64))
}

/// Writes everything behind what the file begins with, and an end.
fn write(out: File, kept: &Kept) -> io::Result<File> {
    let mut out = BufWriter::with_capacity(1 << 20, out);
    for entry in kept.entries() {
        out.write_all(&frame(&serde_json::to_vec(&entry)?)?)?;
        #[cfg(test)]
        out.flush()?;
        step("within a base");
    }
    out.write_all(&frame(&[])?)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Everything as a base that is on no disk, for a process that takes over from one without a state directory.
pub fn in_memory(kept: &Kept) -> io::Result<File> {
    let mut file = File::from(memfd_create("zonal", MemfdFlags::CLOEXEC)?);
    file.write_all(MAGIC)?;
    write(file, kept)
}

/// Reads what [`in_memory`] has written.
pub fn from_memory(mut file: File) -> io::Result<Kept> {
    let mut kept = Kept::default();
    file.seek(SeekFrom::Start(0))?;
    match read(file, &mut kept)? {
        End::Marked(_) => Ok(kept),
        _ => Err(io::Error::other("it is not whole")),
    }
}

/// Writes a base. Returns how large it is.
fn write_base(directory: &Path, number: u64, kept: &Kept) -> io::Result<u64> {
    let (draft, file) = (directory.join("base.new"), path(directory, "base", number));
    step("a new base");
    let out = write(create(&draft)?, kept)?;
    out.sync_all()?;
    step("a base without its name");
    let len = out.metadata()?.len();
    fs::rename(draft, file)?;
    sync_directory(directory)?;
    step("after a new base");
    Ok(len)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes the bases and journals in front of the last two bases.
fn remove_older(directory: &Path) {
    let numbers = numbers(directory).unwrap_or_default();
    let second = numbers.iter().rev().filter(|(kind, _)| *kind == "base").nth(1).map_or(0, |(_, number)| *number);
    for (kind, number) in numbers.into_iter().filter(|(_, number)| *number < second) {
        step("removing what is older");
        if let Err(error) = fs::remove_file(path(directory, kind, number)) {
            tracing::warn!("{} cannot be removed: {error}", path(directory, kind, number).display());
        }
    }
}

/// Where a process may be killed: tests look at what the directory holds there.
fn step(name: &str) {
    #[cfg(test)]
    tests::step(name);
    let _ = name;
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
