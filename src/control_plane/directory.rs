//! The watch on the directory of a manifest, and the queue of everything else that the control
//! plane's thread has to do.
//!
//! A change counts when a file is complete: closed after writing, renamed to its name, removed, or
//! created as a link. The watch covers the directories of all files that were read, and of all
//! links on the way to them, so that it follows the `..data` link of Kubernetes and a directory
//! that is itself a link.
//!
//! Invariant: no change is lost. Whatever happens to files and directories, their last content is
//! loaded.

use super::{
    Message,
    change::{Change, JournalDrop, ListsUpdate, ZoneTransfer, ZoneUpdate},
    freeze::FreezeRequest,
};
use crate::manifest::load::{Extent, LoadScope};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Changes with less time between them are loaded together, unless each is complete.
const QUIET_INTERVAL: Duration = Duration::from_millis(10);
/// The maximum time that a change waits for others.
const MAX_DELAY: Duration = Duration::from_millis(200);
/// The interval between two checks of the watched directories, and of files that cannot be watched.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The resolution of the times of files: the kernel's clock tick, with a reserve.
const FILE_TIME_RESOLUTION: Duration = Duration::from_millis(5);
/// A file that is open for writing is complete when nothing was written for this time.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);
/// The maximum number of links on the way to a file. More are a loop.
const MAX_LINKS: usize = 40;

/// The next task of the control plane's thread.
pub enum Wake {
    /// Load the directory.
    Load {
        /// The files that may have changed.
        scope: LoadScope,
        /// Other files may be about to change.
        is_early: bool,
    },
    /// Make these changes, in their order.
    Changes(Vec<Change>),
    /// Serve these zones, which were transferred or have expired.
    Transfers(Vec<ZoneTransfer>),
    /// Make a dynamic update.
    Update(ZoneUpdate),
    /// Drop the dynamic updates of a zone.
    DropJournal(JournalDrop),
    /// Serve other names in DNS Firewall lists.
    Lists(ListsUpdate),
    /// Change nothing until it is decided which process continues.
    Freeze(FreezeRequest),
    /// End.
    Stop,
}

/// A watch on the directory of a manifest and on all files that were read; without a directory, on
/// other files only. It also queues the messages of other sources.
pub struct Watch {
    directory: Option<PathBuf>,
    /// Files outside the directory.
    files: Vec<PathBuf>,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    changes: Vec<Change>,
    transfers: Vec<ZoneTransfer>,
    updates: VecDeque<ZoneUpdate>,
    drops: VecDeque<JournalDrop>,
    lists: VecDeque<ListsUpdate>,
    freeze: Option<FreezeRequest>,
    /// None if the system has no more watches: then the times of files are compared.
    watcher: Option<RecommendedWatcher>,
    /// The files and links whose changes count.
    relevant: HashSet<PathBuf>,
    /// The names that relevant files are read by, if each has one name only.
    names: HashMap<PathBuf, PathBuf>,
    /// The files that have changed since the last load.
    changed: ChangedFiles,
    /// Files that are being written, with the time of the last write, by the names in events.
    being_written: HashMap<PathBuf, Instant>,
    /// Relevant files that are mount points: their directories do not report all changes.
    mounted: Vec<PathBuf>,
    /// The last load was early and incomplete: wait for other changes.
    pub(super) is_unsettled: bool,
    /// The directories of relevant files, each with device and inode if it is watched.
    watched: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// Directories that this user may enter but not read. They cannot be watched.
    unreadable: HashSet<PathBuf>,
    /// The directory of the manifest, with all links resolved.
    real_directory: PathBuf,
    /// The times of files that cannot be watched, as a hash.
    stamp: u64,
    /// A file may have changed between the load and the watch.
    must_load: bool,
    /// When the next change was noticed.
    pub(super) noticed: Instant,
    /// Load again after [`CHECK_INTERVAL`], even if nothing changes.
    pub(super) retry: bool,
}

/// The files that have changed.
#[derive(Debug, Default)]
struct ChangedFiles {
    files: BTreeSet<PathBuf>,
    /// Other files may have changed, too.
    has_others: bool,
    /// All files are to be read, even if their times have not changed.
    is_forced: bool,
}

impl ChangedFiles {
    fn take(&mut self) -> Extent {
        match std::mem::take(self) {
            ChangedFiles { is_forced: true, .. } => Extent::Anew,
            ChangedFiles { has_others: true, .. } => Extent::All,
            ChangedFiles { files, .. } => Extent::Files(files),
        }
    }
}

impl Watch {
    /// Watches `directory`, if there is one. [`Watch::follow`] adds the files that were read from
    /// it.
    pub fn new(directory: Option<&Path>) -> Watch {
        let (sender, messages) = mpsc::channel();
        let handler = sender.clone();
        let watcher = notify::recommended_watcher(move |event| {
            // Without a receiver, the process is about to end.
            let _ = handler.send(Message::Event(event));
        });
        let mut watch = Watch {
            directory: directory.map(|directory| std::path::absolute(directory).unwrap_or_else(|_| directory.into())),
            files: Vec::new(),
            messages,
            sender,
            changes: Vec::new(),
            transfers: Vec::new(),
            updates: VecDeque::new(),
            drops: VecDeque::new(),
            lists: VecDeque::new(),
            freeze: None,
            watcher: None,
            relevant: HashSet::new(),
            names: HashMap::new(),
            changed: ChangedFiles::default(),
            being_written: HashMap::new(),
            mounted: Vec::new(),
            is_unsettled: false,
            watched: BTreeMap::new(),
            unreadable: HashSet::new(),
            real_directory: PathBuf::new(),
            stamp: 0,
            must_load: false,
            noticed: Instant::now(),
            retry: false,
        };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.poll_instead(&error),
        }
        watch.follow(&[], SystemTime::now());
        watch.must_load = false;
        watch
    }

    /// Adds files outside the directory. The next [`Watch::follow`] watches them.
    pub fn add(&mut self, files: Vec<PathBuf>) {
        let absolute = |file: PathBuf| std::path::absolute(&file).unwrap_or(file);
        self.files.extend(files.into_iter().map(absolute));
    }

    /// The sender of messages to the control plane's thread.
    pub fn sender(&self) -> Sender<Message> {
        self.sender.clone()
    }

    /// Watches the files that the load which began at `started` has read, and no longer those of
    /// the load before.
    pub fn follow(&mut self, inputs: &[PathBuf], started: SystemTime) {
        self.relevant.clear();
        self.names.clear();
        if let Some(directory) = &self.directory {
            let trail = self::trail(directory);
            self.real_directory = trail.last().cloned().unwrap_or_else(|| directory.clone());
            self.relevant.extend(trail);
        }
        // Many files share a few directories.
        let mut parents: HashMap<&Path, PathBuf> = HashMap::new();
        // Files that are read by two names, or that links lead to.
        let mut ambiguous = Vec::new();
        self.mounted.clear();
        for (at, input) in inputs.iter().chain(&self.files).enumerate() {
            let (Some(parent), Some(name)) = (input.parent(), input.file_name()) else { continue };
            let real = parents.entry(parent).or_insert_with(|| {
                let trail = self::trail(parent);
                let real = trail.last().cloned().unwrap_or_default();
                self.relevant.extend(trail);
                real
            });
            let trail = trail_from(real.clone(), Path::new(name));
            let file = trail.last().expect("a trail has an end");
            let kind = FileKind::of(file);
            let has_other_name = self.names.insert(file.clone(), input.clone()).is_some();
            if has_other_name || trail.len() > 1 || at >= inputs.len() || kind != FileKind::Plain {
                ambiguous.push(file.clone());
            }
            if at >= inputs.len() {
                self.mounted.extend(trail.iter().cloned());
            } else if kind == FileKind::Mounted {
                self.mounted.push(file.clone());
            }
            self.relevant.extend(trail);
        }
        for file in ambiguous {
            self.names.remove(&file);
        }
        let mut wanted: BTreeSet<PathBuf> =
            self.relevant.iter().filter_map(|path| path.parent()).map(Path::to_path_buf).collect();
        if self.directory.is_some() {
            wanted.insert(self.real_directory.clone());
        }
        let gone: Vec<PathBuf> = self.watched.keys().filter(|path| !wanted.contains(*path)).cloned().collect();
        for path in gone {
            self.unwatch(&path);
            self.unreadable.remove(&path);
        }
        let mut added = Vec::new();
        for path in wanted {
            let identity = identity(&path);
            let present = self.watched.get(&path).copied().flatten();
            if present.is_some() && present == identity {
                continue;
            }
            self.unwatch(&path);
            let watched = identity.filter(|_| self.watch(&path));
            if watched.is_some() {
                self.unreadable.remove(&path);
                added.push(path.clone());
            }
            self.watched.insert(path, watched);
        }
        let since = started - FILE_TIME_RESOLUTION;
        self.must_load = added.iter().any(|path| {
            changed_since(path, since)
                || self.relevant.iter().any(|file| file.parent() == Some(path) && changed_since(file, since))
        });
        self.stamp = self.stamp();
    }

    /// Watches more files, together with those that are watched already. Returns false if it cannot
    /// do so without the list of all files.
    pub fn follow_more(&mut self, inputs: &[PathBuf]) -> bool {
        inputs.iter().all(|input| {
            let (Some(parent), Some(name)) = (input.parent(), input.file_name()) else { return false };
            let mut links = self::trail(parent);
            let real = links.pop().unwrap_or_default();
            let trail = trail_from(real.clone(), Path::new(name));
            let [file] = &trail[..] else { return false };
            if FileKind::of(file) != FileKind::Plain {
                return false;
            }
            match self.names.get(file) {
                Some(known) => known == input,
                None => {
                    let is_watched = self.watched.get(&real).is_some_and(Option::is_some)
                        && links.iter().all(|link| self.relevant.contains(link));
                    is_watched && self.relevant.insert(file.clone()) && {
                        self.names.insert(file.clone(), input.clone());
                        true
                    }
                }
            }
        })
    }

    fn watch(&mut self, path: &Path) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        match watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                if path.exists() {
                    self.not_watched(path, &error);
                }
                false
            }
        }
    }

    fn not_watched(&mut self, path: &Path, error: &notify::Error) {
        match &error.kind {
            notify::ErrorKind::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                if self.unreadable.insert(path.into()) {
                    tracing::warn!(path = %path.display(), "directory cannot be watched");
                }
            }
            _ => self.poll_instead(error),
        }
    }

    fn unwatch(&mut self, path: &Path) {
        if let (Some(Some(_)), Some(watcher)) = (self.watched.remove(path), &mut self.watcher) {
            // The kernel removes the watch together with the directory.
            let _ = watcher.unwatch(path);
        }
    }

    fn poll_instead(&mut self, error: &notify::Error) {
        tracing::warn!(%error, "files cannot be watched");
        self.watcher = None;
        self.watched.values_mut().for_each(|identity| *identity = None);
    }

    /// Waits until there is something to do.
    pub fn wait(&mut self) -> Wake {
        if self.must_load {
            return self.load_all();
        }
        if std::mem::take(&mut self.is_unsettled) {
            return self.wait_for_quiet();
        }
        // Frequent events of other files must not put off the check.
        let mut next_check = Instant::now() + CHECK_INTERVAL;
        loop {
            if !(self.changes.is_empty() && self.transfers.is_empty()) {
                return self.take_changes();
            }
            if let Some(update) = self.updates.pop_front() {
                return Wake::Update(update);
            }
            if let Some(update) = self.lists.pop_front() {
                return Wake::Lists(update);
            }
            if let Some(drop) = self.drops.pop_front() {
                return Wake::DropJournal(drop);
            }
            if let Some(request) = self.freeze.take() {
                return Wake::Freeze(request);
            }
            let message = self.messages.recv_timeout(next_check.saturating_duration_since(Instant::now()));
            self.noticed = Instant::now();
            match message.map(|message| self.receive(message)) {
                Ok(Received::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
                Ok(Received::Reload) => return self.load(false),
                Ok(Received::Event(Effect::Whole)) => return self.load_whole(),
                Ok(Received::Event(Effect::Complete)) => return self.wait_for_quiet(),
                Ok(Received::Event(Effect::Unfinished | Effect::Nothing) | Received::Queued)
                | Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_check {
                if self.retry || self.is_stale() {
                    return self.load_all();
                }
                if self.has_abandoned() {
                    return self.load(false);
                }
                next_check = Instant::now() + CHECK_INTERVAL;
            }
        }
    }

    fn load_all(&mut self) -> Wake {
        self.changed.has_others = true;
        self.load(false)
    }

    fn load(&mut self, is_early: bool) -> Wake {
        let being_written = self.being_written.keys().filter_map(|path| self.name_of(path)).collect();
        Wake::Load { scope: LoadScope { extent: self.changed.take(), being_written }, is_early }
    }

    /// The name that a file is read by, or would be read by.
    fn name_of(&self, path: &Path) -> Option<PathBuf> {
        let new = || {
            let directory = self.directory.as_ref().filter(|_| path.parent() == Some(&self.real_directory))?;
            Some(directory.join(path.file_name()?))
        };
        self.names.get(path).cloned().or_else(new)
    }

    /// Whether files are left open and no longer written. They count as changed.
    fn has_abandoned(&mut self) -> bool {
        let abandoned = self.being_written.extract_if(|_, last| last.elapsed() >= ABANDONED_AFTER);
        let paths: Vec<PathBuf> = abandoned.map(|(path, _)| path).collect();
        paths.iter().for_each(|path| self.note_change(path));
        !paths.is_empty()
    }

    fn note_change(&mut self, path: &Path) {
        match self.names.get(path) {
            Some(name) => drop(self.changed.files.insert(name.clone())),
            // A load lists the files of the directory in any case.
            None => self.changed.has_others |= self.relevant.contains(path),
        }
    }

    /// Queues a message.
    fn receive(&mut self, message: Message) -> Received {
        match message {
            Message::Stop => return Received::Stop,
            Message::Reload => {
                self.changed.is_forced = true;
                return Received::Reload;
            }
            Message::Event(event) => return Received::Event(self.note(&event)),
            Message::Change(change) => self.changes.push(change),
            Message::Transfer(transfer) => self.transfers.push(transfer),
            Message::Update(update) => self.updates.push_back(update),
            Message::DropJournal(drop) => self.drops.push_back(drop),
            Message::Lists(update) => self.lists.push_back(update),
            Message::Freeze(request) => self.freeze = Some(request),
        }
        Received::Queued
    }

    /// Takes all transfers, or else all changes, that were received while the thread did something
    /// else.
    fn take_changes(&mut self) -> Wake {
        while let Ok(message) = self.messages.try_recv() {
            match self.receive(message) {
                Received::Stop => return Wake::Stop,
                Received::Reload => self.must_load = true,
                Received::Event(effect) => self.is_unsettled |= effect >= Effect::Complete,
                Received::Queued => {}
            }
        }
        // Transfers come first: there is at most one for each zone, so that a flood of changes does
        // not keep them waiting.
        match self.transfers.is_empty() {
            false => Wake::Transfers(std::mem::take(&mut self.transfers)),
            true => Wake::Changes(std::mem::take(&mut self.changes)),
        }
    }

    /// Loads at once, unless one of the events so far is a part of a larger change.
    fn load_whole(&mut self) -> Wake {
        while let Ok(message) = self.messages.try_recv() {
            match self.receive(message) {
                Received::Stop => return Wake::Stop,
                Received::Reload => return self.load(false),
                Received::Event(Effect::Complete) => return self.wait_for_quiet(),
                Received::Event(_) | Received::Queued => {}
            }
        }
        self.load(true)
    }

    /// Loads when nothing has changed for [`QUIET_INTERVAL`], but after [`MAX_DELAY`] at the
    /// latest.
    fn wait_for_quiet(&mut self) -> Wake {
        let end = Instant::now() + MAX_DELAY;
        let mut quiet = Instant::now() + QUIET_INTERVAL;
        loop {
            let message = self.messages.recv_timeout(quiet.min(end).saturating_duration_since(Instant::now()));
            match message.map(|message| self.receive(message)) {
                Ok(Received::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
                Err(RecvTimeoutError::Timeout) => break,
                Ok(Received::Event(Effect::Nothing) | Received::Reload | Received::Queued) => {}
                Ok(Received::Event(_)) => quiet = Instant::now() + QUIET_INTERVAL,
            }
            if Instant::now() >= end {
                break;
            }
        }
        self.load(false)
    }

    /// Notes the files of an event. Returns the effect of the event.
    fn note(&mut self, event: &notify::Result<Event>) -> Effect {
        let effect = self.effect(event);
        let Ok(event) = event.as_ref() else {
            self.changed.has_others = true;
            return effect;
        };
        self.changed.has_others |= event.need_rescan();
        let is_gone = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Any))
        );
        if is_gone {
            // The watch of a directory is gone with it. The same directory may come back under the
            // same name.
            let below = |path: &Path| event.paths.iter().any(|gone| path.starts_with(gone));
            self.watched.iter_mut().filter(|(path, _)| below(path)).for_each(|(_, identity)| *identity = None);
        }
        for path in &event.paths {
            match effect {
                Effect::Unfinished => drop(self.being_written.insert(path.clone(), Instant::now())),
                Effect::Complete | Effect::Whole => {
                    self.being_written.remove(path);
                    self.note_change(path);
                }
                Effect::Nothing => {}
            }
        }
        effect
    }

    fn effect(&self, event: &notify::Result<Event>) -> Effect {
        let event = match event {
            Ok(event) if event.need_rescan() => return Effect::Complete,
            Ok(event) => event,
            Err(_) => return Effect::Complete,
        };
        if !event.paths.iter().any(|path| self.is_relevant(path)) {
            return Effect::Nothing;
        }
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                match event.paths.iter().all(|path| !self.relevant.contains(path) || self.names.contains_key(path)) {
                    true => Effect::Whole,
                    false => Effect::Complete,
                }
            }
            // An event for each of the two names came before.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => Effect::Nothing,
            EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) | EventKind::Remove(_) => Effect::Complete,
            EventKind::Create(_) if event.paths.iter().any(|path| is_born_complete(path)) => Effect::Complete,
            EventKind::Create(_) | EventKind::Modify(_) => Effect::Unfinished,
            _ => Effect::Nothing,
        }
    }

    fn is_relevant(&self, path: &Path) -> bool {
        self.relevant.contains(path) || path.parent() == Some(&self.real_directory) && is_manifest(path)
    }

    /// Whether a watched directory was replaced, or a file that cannot be watched has changed.
    fn is_stale(&self) -> bool {
        match self.watcher {
            Some(_) => {
                let is_other = |(path, watched): (&PathBuf, &Option<_>)| {
                    identity(path) != *watched && !self.unreadable.contains(path)
                };
                self.watched.iter().any(is_other) || self.stamp() != self.stamp
            }
            None => self.stamp() != self.stamp,
        }
    }

    /// The times of files that cannot be watched, as a hash. Mounted files are among them: a
    /// container's resolv.conf may change outside of its mount.
    fn stamp(&self) -> u64 {
        let is_unwatched = |path: &Path| path.parent().is_some_and(|parent| self.unreadable.contains(parent));
        let mut paths: Vec<&PathBuf> = self
            .relevant
            .iter()
            .filter(|path| self.watcher.is_none() || is_unwatched(path))
            .chain(&self.mounted)
            .collect();
        paths.sort();
        let mut hasher = DefaultHasher::new();
        for path in paths {
            let stamp =
                fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec()));
            (path, stamp).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// The kind of a message that was received.
enum Received {
    Stop,
    Reload,
    Event(Effect),
    /// The message is in a queue.
    Queued,
}

/// How the watch of a directory reports changes of a file in it.
#[derive(Debug, PartialEq, Eq)]
enum FileKind {
    /// By the name of the file.
    Plain,
    /// By another name of the file, maybe in another directory.
    Linked,
    /// Not at all, if it changes outside of its mount.
    Mounted,
}

impl FileKind {
    fn of(path: &Path) -> FileKind {
        match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::NLINK) {
            Ok(data) if data.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) => FileKind::Mounted,
            Ok(data) if data.stx_nlink > 1 => FileKind::Linked,
            // A file that does not exist yet will be a plain one.
            _ => FileKind::Plain,
        }
    }
}

/// The effect of an event on the manifest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// No file of the manifest has changed.
    Nothing,
    /// A file is being written.
    Unfinished,
    /// A change is complete, and others may belong to it.
    Complete,
    /// A file is complete, and needs no other change.
    Whole,
}

/// Whether a file of this name directly in the directory is part of the manifest.
fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Links, hard links and directories are complete when they are created. Other files are written
/// after that.
fn is_born_complete(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| !data.is_file() || data.nlink() > 1)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|data| (data.dev(), data.ino()))
}

fn changed_since(path: &Path, time: SystemTime) -> bool {
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    fs::symlink_metadata(path).is_ok_and(|data| Duration::new(data.ctime() as u64, data.ctime_nsec() as u32) > time)
}

/// All links on the way to `path`, followed by its target. None of these paths has a link in its
/// parents.
fn trail(path: &Path) -> Vec<PathBuf> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    trail_from(PathBuf::new(), &path)
}

/// The trail of a path in a directory that has no link in its own path.
fn trail_from(mut here: PathBuf, path: &Path) -> Vec<PathBuf> {
    let mut ahead: VecDeque<PathBuf> = path.components().map(|part| PathBuf::from(part.as_os_str())).collect();
    let mut trail = Vec::new();
    while let Some(part) = ahead.pop_front() {
        match part.components().next() {
            Some(Component::ParentDir) => {
                here.pop();
                continue;
            }
            Some(Component::CurDir) | None => continue,
            _ => here.push(&part),
        }
        if let Ok(target) = fs::read_link(&here)
            && trail.len() < MAX_LINKS
        {
            trail.push(here.clone());
            here.pop();
            for part in target.components().rev() {
                ahead.push_front(PathBuf::from(part.as_os_str()));
            }
        }
    }
    trail.push(here);
    trail
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
