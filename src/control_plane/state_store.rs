//! The state directory: what is served, on disk, for a start without the control plane.
//!
//! ```text
//! base.<n>      the whole state, as it was when journal.<n> began; it ends with an empty frame
//! journal.<n>   what changed since then: one frame for each change frame         length u32,
//! checksum of the length u32, checksum of the octets u32, the octets: an entry in JSON
//! ```
//! A base is written under another name, and renamed when it is whole. The directory holds two
//! bases: if the newer one is damaged, the older one and both journals lead to the same state.
//!
//! An entry of a journal has only the changed record sets of a zone. In version 1 of the format, an entry had the whole zone. A
//! base still has whole zones. So an older zonal can read a base, but refuses a journal that it would read incompletely.
//!
//! Invariant: the directory never holds a part of a change. A frame that was written in part is cut
//! off at the next start.

use super::persisted::{PersistedState, StateEntry};
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

/// The first octets of a base.
const BASE_MAGIC: &[u8] = b"zonal state 1\n";
/// The first octets of a journal. A journal of an earlier version begins with [`BASE_MAGIC`].
const JOURNAL_MAGIC: &[u8] = b"zonal state 2\n";
/// The length of a frame's header, in octets.
const HEADER_OCTETS: usize = 12;
/// The largest entry, in octets.
const MAX_ENTRY_OCTETS: u32 = 1 << 30;
/// The time that another process has to unlock the directory: as long as a server takes to stop.
const LOCK_TIMEOUT: Duration = Duration::from_secs(6);
/// The interval between two attempts to lock the directory.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// How a store writes.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// A store writes a new base when the journal is larger than this, and than half of the base,
    /// in octets.
    pub min_journal_octets: u64,
    /// The buffer through which a base is written, in octets.
    pub buffer_octets: usize,
    /// Whether a thread writes the base. If not, [`StateStore::write`] does, before it returns.
    pub in_background: bool,
    /// Called with the name of each step. A process that is killed at any step loses nothing that
    /// was acknowledged.
    pub on_step: fn(&str),
}

impl Default for WriteOptions {
    fn default() -> WriteOptions {
        WriteOptions { min_journal_octets: 4 << 20, buffer_octets: 1 << 20, in_background: true, on_step: |_| {} }
    }
}

/// A state directory that this process writes to.
#[derive(Debug)]
pub struct StateStore {
    directory: PathBuf,
    options: WriteOptions,
    /// Locked as long as it is open, in this process or in one that it was handed over to.
    lock: File,
    journal: File,
    /// The number of the journal.
    number: u64,
    /// The length of the journal without the rest of a failed write, in octets.
    journal_octets: u64,
    /// The length of the newest base, in octets.
    base_octets: u64,
    /// The state in the directory.
    state: PersistedState,
    /// The thread that writes a base, which returns the length of the base.
    compaction: Option<JoinHandle<io::Result<u64>>>,
    /// The last entry may not be on the disk yet.
    is_dirty: bool,
}

/// The content of a state directory at the start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The state that an earlier run has written; none if the directory holds none that can be
    /// read.
    pub state: Option<PersistedState>,
    /// Damaged files, one sentence each.
    pub damage: Vec<String>,
}

impl StateStore {
    /// Creates the directory if it does not exist, locks it, and reads what an earlier run has
    /// written.
    ///
    /// # Errors
    ///
    /// Another process has locked the directory, or a file cannot be read or written.
    pub fn open(directory: &Path) -> anyhow::Result<(StateStore, Recovered)> {
        StateStore::open_with(directory, WriteOptions::default())
    }

    /// Opens the directory as [`StateStore::open`] does, and writes with these options.
    ///
    /// # Errors
    ///
    /// As [`StateStore::open`].
    pub fn open_with(directory: &Path, options: WriteOptions) -> anyhow::Result<(StateStore, Recovered)> {
        fs::create_dir_all(directory).with_context(|| unusable(directory))?;
        StateStore::open_locked_with(directory, lock(directory)?, options)
    }

    /// Opens a directory that another process has handed over together with its lock.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn open_locked(directory: &Path, lock: File) -> anyhow::Result<(StateStore, Recovered)> {
        StateStore::open_locked_with(directory, lock, WriteOptions::default())
    }

    fn open_locked_with(
        directory: &Path,
        lock: File,
        options: WriteOptions,
    ) -> anyhow::Result<(StateStore, Recovered)> {
        let context = || unusable(directory);
        let numbers = numbers(directory).with_context(context)?;
        let mut damage = Vec::new();
        let loaded = load(directory, &options, &numbers, &mut damage).with_context(context)?;
        let newest = numbers.iter().map(|(_, number)| *number).max().unwrap_or(0);
        // The journal of an earlier version is not continued.
        let is_sound = damage.is_empty() && loaded.is_some() && {
            let newest = loaded.as_ref().map_or(0, |loaded| loaded.number);
            is_current_journal(&path(directory, "journal", newest)).with_context(context)?
        };
        let recovered = loaded.as_ref().map(|loaded| loaded.state.clone());
        let Loaded { state, number, journal_octets, base_octets } = loaded.unwrap_or_default();
        let (number, (journal, journal_octets), base_octets) = match is_sound {
            true => (number, open_journal(directory, number, journal_octets).with_context(context)?, base_octets),
            false => {
                let number = newest + 1;
                let journal = new_journal(directory, &options, number).with_context(context)?;
                let base_octets = write_base(directory, &options, number, &state).with_context(context)?;
                remove_older(directory, &options);
                (number, journal, base_octets)
            }
        };
        let (directory, compaction, is_dirty) = (directory.to_path_buf(), None, false);
        let store = StateStore {
            directory,
            options,
            lock,
            journal,
            number,
            journal_octets,
            base_octets,
            state,
            compaction,
            is_dirty,
        };
        Ok((store, Recovered { state: recovered, damage }))
    }

    /// Replaces the state in the directory. With `sync` it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The directory cannot be written. It holds the former state then.
    pub fn write(&mut self, state: &PersistedState, sync: bool) -> io::Result<()> {
        if self.compaction.as_ref().is_some_and(JoinHandle::is_finished) {
            self.await_compaction();
        }
        if !self.is_in_place() {
            self.recreate()?;
        }
        let frame = frame(&serde_json::to_vec(&state.entry_since(&self.state))?)?;
        if let Err(error) = self.append(&frame, sync) {
            // The part that was written must not be in front of the next entry.
            self.journal.set_len(self.journal_octets)?;
            self.journal.seek(SeekFrom::Start(self.journal_octets))?;
            return Err(error);
        }
        self.journal_octets += frame.len() as u64;
        self.state = state.clone();
        if self.journal_octets > self.options.min_journal_octets.max(self.base_octets / 2)
            && self.compaction.is_none()
            && let Err(error) = self.compact()
        {
            self.warn_of_failed_compaction(&error);
        }
        Ok(())
    }

    /// Whether the open files are those in the directory. Someone may have removed or replaced the
    /// directory.
    fn is_in_place(&self) -> bool {
        is_at(&self.journal, &path(&self.directory, "journal", self.number))
            && is_at(&self.lock, &lock_file(&self.directory))
    }

    /// Writes the whole state to a directory that has lost it, and that may have to be created.
    fn recreate(&mut self) -> io::Result<()> {
        self.await_compaction();
        let directory = &self.directory;
        tracing::warn!(path = %directory.display(), "state directory recreated");
        fs::create_dir_all(directory)?;
        if !is_at(&self.lock, &lock_file(directory)) {
            let lock = open_lock(directory)?;
            match lock.try_lock() {
                Ok(()) => self.lock = lock,
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::other("another zonal process has locked the directory"));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        let newest = numbers(directory)?.last().map_or(0, |(_, number)| *number);
        let number = newest.max(self.number) + 1;
        self.base_octets = write_base(directory, &self.options, number, &self.state)?;
        let (journal, octets) = new_journal(directory, &self.options, number)?;
        (self.journal, self.number, self.journal_octets, self.is_dirty) = (journal, number, octets, false);
        remove_older(directory, &self.options);
        Ok(())
    }

    fn append(&mut self, frame: &[u8], sync: bool) -> io::Result<()> {
        (self.options.on_step)("append");
        self.journal.write_all(&frame[..frame.len() / 2])?;
        (self.options.on_step)("half an entry");
        self.journal.write_all(&frame[frame.len() / 2..])?;
        (self.options.on_step)("an entry");
        self.is_dirty = true;
        if sync { self.sync() } else { Ok(()) }
    }

    /// Waits until all entries are on the disk.
    ///
    /// # Errors
    ///
    /// The disk does not take them.
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

    /// Waits until all entries are on the disk, and stops writing. Returns the lock, for the
    /// process that takes over.
    ///
    /// # Errors
    ///
    /// The directory cannot be written.
    pub fn release(&mut self) -> io::Result<File> {
        self.await_compaction();
        if !self.is_in_place() {
            self.recreate()?;
        }
        self.sync()?;
        self.lock.try_clone()
    }

    /// Reads the directory again after [`StateStore::release`]: the other process may have written
    /// to it.
    ///
    /// # Errors
    ///
    /// As [`StateStore::open_locked`].
    pub fn reopen(&mut self) -> anyhow::Result<()> {
        let (store, recovered) = StateStore::open_locked_with(&self.directory, self.lock.try_clone()?, self.options)?;
        recovered.log_damage();
        *self = store;
        Ok(())
    }

    /// Begins a new journal, and writes the base that it belongs to.
    fn compact(&mut self) -> io::Result<()> {
        self.sync()?;
        let (journal, octets) = new_journal(&self.directory, &self.options, self.number + 1)?;
        self.number += 1;
        (self.journal, self.journal_octets) = (journal, octets);
        let (directory, options, number) = (self.directory.clone(), self.options, self.number);
        if !options.in_background {
            let written = write_base(&directory, &options, number, &self.state);
            self.end_compaction(written);
            return Ok(());
        }
        let state = self.state.clone();
        let write = move || write_base(&directory, &options, number, &state);
        self.compaction = Some(std::thread::Builder::new().name("state".into()).spawn(write)?);
        Ok(())
    }

    fn await_compaction(&mut self) {
        let Some(compaction) = self.compaction.take() else { return };
        let written = compaction.join().unwrap_or_else(|_| Err(io::Error::other("the thread has panicked")));
        self.end_compaction(written);
    }

    /// Removes what a new base has made unnecessary.
    fn end_compaction(&mut self, written: io::Result<u64>) {
        match written {
            Ok(octets) => {
                self.base_octets = octets;
                remove_older(&self.directory, &self.options);
            }
            Err(error) => self.warn_of_failed_compaction(&error),
        }
    }

    fn warn_of_failed_compaction(&self, error: &io::Error) {
        tracing::warn!(path = %self.directory.display(), %error, "state directory not compacted");
    }
}

impl Drop for StateStore {
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            tracing::error!(path = %self.directory.display(), %error, "state not written");
        }
        self.await_compaction();
    }
}

impl Recovered {
    /// Logs each damaged file.
    pub fn log_damage(&self) {
        self.damage.iter().for_each(|damage| tracing::error!(error = damage, "state directory damaged"));
    }
}

/// The state that the files of a directory lead to.
#[derive(Default)]
struct Loaded {
    state: PersistedState,
    /// The number of the newest journal.
    number: u64,
    /// The length of the part of that journal that is whole, in octets.
    journal_octets: u64,
    base_octets: u64,
}

fn unusable(directory: &Path) -> String {
    format!("the state directory {} cannot be used; check `state_directory`", directory.display())
}

/// The file in a directory that a process locks.
pub fn lock_file(directory: &Path) -> PathBuf {
    directory.join("lock")
}

fn open_lock(directory: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_file(directory))
}

/// Whether an open file is the one at a path.
pub fn is_at(file: &File, path: &Path) -> bool {
    let identity = |data: io::Result<fs::Metadata>| data.ok().map(|data| (data.dev(), data.ino()));
    let found = identity(fs::metadata(path));
    found.is_some() && identity(file.metadata()) == found
}

/// Locks a directory. No other process uses it as long as the returned file is open.
///
/// # Errors
///
/// Another process has locked it for [`LOCK_TIMEOUT`], or the lock file cannot be created.
pub fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = lock_file(directory);
    let file = open_lock(directory)
        .with_context(|| format!("{} cannot be opened; check `state_directory`", path.display()))?;
    let end = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOCK_INTERVAL),
            Err(TryLockError::WouldBlock) => bail!(
                "the state directory {} is in use by another zonal process; give each its own `state_directory`",
                directory.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{} cannot be locked", path.display()));
            }
        }
    }
}

/// The bases and journals of a directory, by number.
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

/// Reads the newest base that is whole, and the journals that follow it.
fn load(
    directory: &Path,
    options: &WriteOptions,
    numbers: &[(&str, u64)],
    damage: &mut Vec<String>,
) -> io::Result<Option<Loaded>> {
    for (_, first) in numbers.iter().rev().filter(|(kind, _)| *kind == "base") {
        let damaged_bases = damage.len();
        let file = path(directory, "base", *first);
        let mut state = PersistedState::default();
        let base_octets = match read(File::open(&file)?, &mut state)? {
            End::Marked(octets) => octets,
            End::Unmarked(_) | End::Torn(_) => {
                rename_damaged(&file, "it ends too early", damage);
                continue;
            }
            End::Damaged(reason) => {
                rename_damaged(&file, &reason, damage);
                continue;
            }
        };
        let (mut number, mut octets) = (*first, None);
        let journals = numbers.iter().filter(|(kind, number)| *kind == "journal" && number >= first);
        let mut expected = *first;
        for (_, journal) in journals {
            if *journal != expected {
                damage.push(format!("{} is missing", path(directory, "journal", expected).display()));
                break;
            }
            let file = path(directory, "journal", *journal);
            let end = read(File::open(&file)?, &mut state)?;
            (number, expected) = (*journal, journal + 1);
            match end {
                End::Unmarked(at) => octets = Some(at),
                End::Torn(at) if was_written(&file, at)? => {
                    rename_damaged(&file, "its last entry is damaged", damage);
                    break;
                }
                End::Torn(at) if !numbers.contains(&("journal", expected)) => {
                    // The process ended before it served this change.
                    tracing::info!(path = %file.display(), "incomplete state entry removed");
                    octets = Some(at);
                }
                End::Torn(_) | End::Marked(_) => {
                    rename_damaged(&file, "it ends within an entry", damage);
                    break;
                }
                End::Damaged(reason) => {
                    rename_damaged(&file, &reason, damage);
                    break;
                }
            }
        }
        if octets.is_none() && damage.is_empty() {
            // The process ended after it wrote a base and before it created the journal.
            let (_, created) = new_journal(directory, options, number)?;
            octets = Some(created);
        }
        // An older base and all journals lead to the same state as the newer base.
        let last = numbers.iter().filter(|(kind, _)| *kind == "journal").map(|(_, number)| *number).max();
        state.is_incomplete |= damage.len() > damaged_bases || last.is_some_and(|last| last >= expected);
        return Ok(Some(Loaded { state, number, journal_octets: octets.unwrap_or(0), base_octets }));
    }
    Ok(None)
}

/// How a file ends, with the length of the part that is whole, in octets.
enum End {
    /// With the empty frame of a base.
    Marked(u64),
    /// After a frame.
    Unmarked(u64),
    /// Within a frame that was being written.
    Torn(u64),
    /// With octets that no process has written, for this reason.
    Damaged(String),
}

/// Adds all whole entries of a file to a state.
fn read(open: File, state: &mut PersistedState) -> io::Result<End> {
    let size = open.metadata()?.len();
    let mut input = BufReader::with_capacity(1 << 20, open);
    let mut magic = Vec::new();
    (&mut input).take(BASE_MAGIC.len() as u64).read_to_end(&mut magic)?;
    if magic != BASE_MAGIC && magic != JOURNAL_MAGIC {
        let is_torn = [BASE_MAGIC, JOURNAL_MAGIC].iter().any(|known| known.starts_with(&magic));
        return Ok(match is_torn || magic.iter().all(|octet| *octet == 0) {
            true => End::Torn(0),
            false => End::Damaged("it is of another kind".into()),
        });
    }
    let mut at = BASE_MAGIC.len() as u64;
    loop {
        let rest = size - at;
        if rest == 0 {
            return Ok(End::Unmarked(at));
        }
        let mut header = Vec::with_capacity(HEADER_OCTETS);
        (&mut input).take(HEADER_OCTETS as u64).read_to_end(&mut header)?;
        let Ok(header) = <[u8; HEADER_OCTETS]>::try_from(header) else { return Ok(End::Torn(at)) };
        let [len, len_checksum, octets_checksum] =
            [0, 4, 8].map(|at| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
        if crc32c::crc32c(&header[..4]) != len_checksum || len > MAX_ENTRY_OCTETS {
            // The file system may extend a file with zeros before it writes the octets.
            let mut tail = Vec::new();
            input.read_to_end(&mut tail)?;
            return Ok(match header.iter().chain(&tail).all(|octet| *octet == 0) {
                true => End::Torn(at),
                false => End::Damaged(format!("there is no entry at octet {at}")),
            });
        }
        let mut octets = Vec::with_capacity(len as usize);
        (&mut input).take(len.into()).read_to_end(&mut octets)?;
        let next = at + HEADER_OCTETS as u64 + u64::from(len);
        if next > size {
            return Ok(End::Torn(at));
        }
        if crc32c::crc32c(&octets) != octets_checksum {
            // Octets that were not written are read as zeros, which are in no JSON text.
            return Ok(match next == size {
                true => End::Torn(at),
                false => End::Damaged(format!("the entry at octet {at} is damaged")),
            });
        }
        if octets.is_empty() {
            return Ok(End::Marked(next));
        }
        let added =
            serde_json::from_slice::<StateEntry>(&octets).map_err(io::Error::other).and_then(|entry| state.add(&entry));
        if let Err(error) = added {
            return Ok(End::Damaged(format!("the entry at octet {at} cannot be read: {error}")));
        }
        at = next;
    }
}

/// Whether a torn entry was written whole. Then it may have been served, and is damaged. An entry
/// that was not written whole is too short, or has zeros in it.
fn was_written(file: &Path, at: u64) -> io::Result<bool> {
    let mut open = File::open(file)?;
    open.seek(SeekFrom::Start(at))?;
    let mut rest = Vec::new();
    open.read_to_end(&mut rest)?;
    let Some((header, octets)) = rest.split_first_chunk::<HEADER_OCTETS>() else { return Ok(false) };
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    Ok(len as usize == octets.len() && !octets.contains(&0))
}

fn frame(octets: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(octets.len()).ok().filter(|len| *len <= MAX_ENTRY_OCTETS);
    let len = len.ok_or_else(|| io::Error::other("the change is larger than 1 GiB"))?.to_le_bytes();
    let checksums = [crc32c::crc32c(&len), crc32c::crc32c(octets)].map(u32::to_le_bytes);
    Ok([&len[..], &checksums[0], &checksums[1], octets].concat())
}

/// Gives a damaged file another name, and adds a sentence about it to `damage`.
fn rename_damaged(file: &Path, reason: &str, damage: &mut Vec<String>) {
    let renamed = file.with_file_name(format!("{}.damaged", file.file_name().unwrap_or_default().to_string_lossy()));
    let result = match fs::rename(file, &renamed) {
        Ok(()) => format!("it is now {}", renamed.display()),
        Err(error) => format!("it cannot be renamed: {error}"),
    };
    damage.push(format!("{} is damaged: {reason}; {result}", file.display()));
}

/// Opens a journal at the end of its first `octets` octets, and cuts off the rest. Returns it with
/// its length.
fn open_journal(directory: &Path, number: u64, octets: u64) -> io::Result<(File, u64)> {
    let mut journal = OpenOptions::new().write(true).open(path(directory, "journal", number))?;
    let mut octets = octets;
    journal.set_len(octets)?;
    if octets == 0 {
        journal.write_all(JOURNAL_MAGIC)?;
        octets = JOURNAL_MAGIC.len() as u64;
    }
    journal.seek(SeekFrom::Start(octets))?;
    journal.sync_all()?;
    Ok((journal, octets))
}

fn create(path: &Path, magic: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(magic)?;
    Ok(file)
}

/// Whether a journal is in the current format, or has no octets yet.
fn is_current_journal(path: &Path) -> io::Result<bool> {
    let mut magic = Vec::new();
    File::open(path)?.take(JOURNAL_MAGIC.len() as u64).read_to_end(&mut magic)?;
    Ok(JOURNAL_MAGIC.starts_with(&magic))
}

/// Creates a journal. Returns it with its length, in octets.
fn new_journal(directory: &Path, options: &WriteOptions, number: u64) -> io::Result<(File, u64)> {
    (options.on_step)("a new journal");
    let file = create(&path(directory, "journal", number), JOURNAL_MAGIC)?;
    file.sync_all()?;
    sync_directory(directory)?;
    (options.on_step)("after a new journal");
    Ok((file, JOURNAL_MAGIC.len() as u64))
}

/// Writes a state and the end mark to a file that has its first octets.
fn write(out: File, options: &WriteOptions, state: &PersistedState) -> io::Result<File> {
    let mut out = BufWriter::with_capacity(options.buffer_octets, out);
    for entry in state.entries() {
        out.write_all(&frame(&serde_json::to_vec(&entry)?)?)?;
        (options.on_step)("within a base");
    }
    out.write_all(&frame(&[])?)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Writes a state to a file in memory, for a process that takes over from one without a state
/// directory.
///
/// # Errors
///
/// The kernel gives no memory.
pub fn in_memory(state: &PersistedState) -> io::Result<File> {
    let mut file = File::from(memfd_create("zonal", MemfdFlags::CLOEXEC)?);
    file.write_all(BASE_MAGIC)?;
    write(file, &WriteOptions::default(), state)
}

/// Reads a file that [`in_memory`] has written.
///
/// # Errors
///
/// The file is not whole.
pub fn from_memory(mut file: File) -> io::Result<PersistedState> {
    let mut state = PersistedState::default();
    file.seek(SeekFrom::Start(0))?;
    match read(file, &mut state)? {
        End::Marked(_) => Ok(state),
        _ => Err(io::Error::other("it is not whole")),
    }
}

/// Writes a base. Returns its length, in octets.
fn write_base(directory: &Path, options: &WriteOptions, number: u64, state: &PersistedState) -> io::Result<u64> {
    let (draft, file) = (directory.join("base.new"), path(directory, "base", number));
    (options.on_step)("a new base");
    let out = write(create(&draft, BASE_MAGIC)?, options, state)?;
    out.sync_all()?;
    (options.on_step)("a base without its name");
    let octets = out.metadata()?.len();
    fs::rename(draft, file)?;
    sync_directory(directory)?;
    (options.on_step)("after a new base");
    Ok(octets)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes the bases and journals that are older than the last two bases.
fn remove_older(directory: &Path, options: &WriteOptions) {
    let numbers = numbers(directory).unwrap_or_default();
    let second = numbers.iter().rev().filter(|(kind, _)| *kind == "base").nth(1).map_or(0, |(_, number)| *number);
    for (kind, number) in numbers.into_iter().filter(|(_, number)| *number < second) {
        (options.on_step)("removing an older file");
        let path = path(directory, kind, number);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "older state file not removed");
        }
    }
}

#[cfg(test)]
#[path = "state_store_tests.rs"]
mod tests;
