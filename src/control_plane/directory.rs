//! Watches the directory that a manifest is read from.
//!
//! What counts is that a file is complete: closed after writing, moved to its name, removed, or a link. Watched are the
//! directories of all files that were read and of all links on the way to them, so that the `..data` link of Kubernetes
//! and a directory that is itself a link are followed.

use super::{
    Message,
    change::{Change, JournalDrop, ZoneEdit, ZoneTransfer},
    freeze::Freeze,
};
use crate::manifest::load::{Due, Extent};
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

/// Changes are one when they are not further apart, unless each is whole by itself.
const QUIET: Duration = Duration::from_millis(10);
/// But nobody waits longer than this.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often it is checked that the watched directories are still the ones that have their names.
const TICK: Duration = Duration::from_secs(1);
/// The clock of files may be late by a tick of the kernel.
const CLOCK_STEP: Duration = Duration::from_millis(5);
/// What is written to a file is complete when nothing was written for so long, even though nobody has closed it.
const ABANDONED: Duration = Duration::from_secs(5);
/// More links on the way to a file than this are a loop.
const MOST_LINKS: usize = 40;

/// What is to be done.
pub enum Wake {
    /// Something may have changed: load. It is early where more may be on its way, that was not waited for.
    Load { due: Due, early: bool },
    /// These are to be made, in their order.
    Changes(Vec<Change>),
    /// These zones were transferred, or have expired.
    Transferred(Vec<ZoneTransfer>),
    /// A zone is to be changed.
    Edit(ZoneEdit),
    /// What updates have made of a zone is to be dropped.
    DropJournal(JournalDrop),
    /// Nothing may change until it is decided who goes on.
    Freeze(Freeze),
    /// The server ends.
    Stop,
}

/// A watch on a directory and on all that was read from it; or, without one, on other files alone. Whatever else is to be done
/// comes by it too.
pub struct Watch {
    directory: Option<PathBuf>,
    /// Files elsewhere that matter too.
    files: Vec<PathBuf>,
    events: Receiver<Message>,
    sender: Sender<Message>,
    /// What has come while something else was waited for.
    changes: Vec<Change>,
    transfers: Vec<ZoneTransfer>,
    edits: VecDeque<ZoneEdit>,
    drops: VecDeque<JournalDrop>,
    freeze: Option<Freeze>,
    /// None when the system has no more watches to give: then stamps are compared.
    watcher: Option<RecommendedWatcher>,
    /// The files and links whose change matters.
    relevant: HashSet<PathBuf>,
    /// Those of them that are read as they are: the names that they are read by.
    names: HashMap<PathBuf, PathBuf>,
    /// What has changed since the last load.
    changed: Changed,
    /// Files that are being written, with when that was last seen, by the names that events have.
    underway: HashMap<PathBuf, Instant>,
    /// Files that matter of which their directories do not tell all that happens: those that are mounted.
    mounted: Vec<PathBuf>,
    /// The last load was early, and something was wrong with it: wait for what belongs to it.
    pub(super) unsettled: bool,
    /// The directories that they are in, each with device and inode if it is watched.
    watched: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// Those of them that may be entered but not read, and so not watched: what matters in them is compared.
    unreadable: HashSet<PathBuf>,
    /// The directory of the manifest, with all links resolved.
    real_directory: PathBuf,
    stamp: u64,
    /// Something may have changed between the load and the watch.
    again: bool,
    /// When what is to be done next was noticed.
    pub(super) noticed: Instant,
    /// The load is to be tried again, even though nothing changes.
    pub(super) retry: bool,
}

/// Files that have changed.
#[derive(Debug, Default)]
struct Changed {
    files: BTreeSet<PathBuf>,
    /// There may be others.
    others: bool,
    /// Whatever they look like.
    anew: bool,
}

impl Changed {
    fn take(&mut self) -> Extent {
        match std::mem::take(self) {
            Changed { anew: true, .. } => Extent::Anew,
            Changed { others: true, .. } => Extent::All,
            Changed { files, .. } => Extent::Files(files),
        }
    }
}

impl Watch {
    /// Watches `directory`, if there is one. What is read from it is told by [`Watch::follow`].
    pub fn new(directory: Option<&Path>) -> Watch {
        let (sender, events) = mpsc::channel();
        let handler = sender.clone();
        let watcher = notify::recommended_watcher(move |event| {
            // Without a receiver the server is ending.
            let _ = handler.send(Message::Event(event));
        });
        let mut watch = Watch {
            directory: directory.map(|directory| std::path::absolute(directory).unwrap_or_else(|_| directory.into())),
            files: Vec::new(),
            events,
            sender,
            changes: Vec::new(),
            transfers: Vec::new(),
            edits: VecDeque::new(),
            drops: VecDeque::new(),
            freeze: None,
            watcher: None,
            relevant: HashSet::new(),
            names: HashMap::new(),
            changed: Changed::default(),
            underway: HashMap::new(),
            mounted: Vec::new(),
            unsettled: false,
            watched: BTreeMap::new(),
            unreadable: HashSet::new(),
            real_directory: PathBuf::new(),
            stamp: 0,
            again: false,
            noticed: Instant::now(),
            retry: false,
        };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.poll_instead(&error),
        }
        watch.follow(&[], SystemTime::now());
        watch.again = false;
        watch
    }

    /// Watches these files too, wherever they are, from the next [`Watch::follow`] on.
    pub fn add(&mut self, files: Vec<PathBuf>) {
        let absolute = |file: PathBuf| std::path::absolute(&file).unwrap_or(file);
        self.files.extend(files.into_iter().map(absolute));
    }

    /// Where signals and the end are announced.
    pub fn sender(&self) -> Sender<Message> {
        self.sender.clone()
    }

    /// Watches what the load that began at `started` has read, and no longer what the one before it had.
    pub fn follow(&mut self, inputs: &[PathBuf], started: SystemTime) {
        self.relevant.clear();
        self.names.clear();
        if let Some(directory) = &self.directory {
            let trail = self::trail(directory);
            self.real_directory = trail.last().cloned().unwrap_or_else(|| directory.clone());
            self.relevant.extend(trail);
        }
        // Thousands of files are in few directories.
        let mut parents: HashMap<&Path, PathBuf> = HashMap::new();
        // Files that are read by two names, and those that others lead to.
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
            let nature = Nature::of(file);
            let is_by_two = self.names.insert(file.clone(), input.clone()).is_some();
            if is_by_two || trail.len() > 1 || at >= inputs.len() || nature != Nature::Plain {
                ambiguous.push(file.clone());
            }
            if at >= inputs.len() {
                self.mounted.extend(trail.iter().cloned());
            } else if nature == Nature::Mounted {
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
        let since = started - CLOCK_STEP;
        self.again = added.iter().any(|path| {
            changed_since(path, since)
                || self.relevant.iter().any(|file| file.parent() == Some(path) && changed_since(file, since))
        });
        self.stamp = self.stamp();
    }

    /// Watches these files too, and all that were watched before. False if that would need a look at all of them.
    pub fn follow_more(&mut self, inputs: &[PathBuf]) -> bool {
        inputs.iter().all(|input| {
            let (Some(parent), Some(name)) = (input.parent(), input.file_name()) else { return false };
            let mut links = self::trail(parent);
            let real = links.pop().unwrap_or_default();
            let trail = trail_from(real.clone(), Path::new(name));
            let [file] = &trail[..] else { return false };
            if Nature::of(file) != Nature::Plain {
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
                    tracing::warn!(
                        "{} cannot be watched, as this user may not read it: it is looked at every second",
                        path.display()
                    );
                }
            }
            _ => self.poll_instead(error),
        }
    }

    fn unwatch(&mut self, path: &Path) {
        if let (Some(Some(_)), Some(watcher)) = (self.watched.remove(path), &mut self.watcher) {
            // The watch of a directory that is gone has gone with it.
            let _ = watcher.unwatch(path);
        }
    }

    fn poll_instead(&mut self, error: &notify::Error) {
        tracing::warn!(
            "files cannot be watched ({error}), so that they are looked at every second: raise \
             fs.inotify.max_user_watches or fs.inotify.max_user_instances"
        );
        self.watcher = None;
        self.watched.values_mut().for_each(|identity| *identity = None);
    }

    /// Waits until there is something to do.
    pub fn wait(&mut self) -> Wake {
        if self.again {
            return self.load_all();
        }
        if std::mem::take(&mut self.unsettled) {
            return self.gather();
        }
        // What happens to other files all the time must not put the look at the directories off.
        let mut tick = Instant::now() + TICK;
        loop {
            if !(self.changes.is_empty() && self.transfers.is_empty()) {
                return self.gather_changes();
            }
            if let Some(edit) = self.edits.pop_front() {
                return Wake::Edit(edit);
            }
            if let Some(drop) = self.drops.pop_front() {
                return Wake::DropJournal(drop);
            }
            if let Some(freeze) = self.freeze.take() {
                return Wake::Freeze(freeze);
            }
            let message = self.events.recv_timeout(tick.saturating_duration_since(Instant::now()));
            self.noticed = Instant::now();
            match message.map(|message| self.hear(message)) {
                Ok(Heard::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
                Ok(Heard::Reload) => return self.load(false),
                Ok(Heard::Event(Effect::Whole)) => return self.gather_whole(),
                Ok(Heard::Event(Effect::Complete)) => return self.gather(),
                Ok(Heard::Event(Effect::Underway | Effect::Nothing) | Heard::Other)
                | Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= tick {
                if self.retry || self.is_stale() {
                    return self.load_all();
                }
                if self.has_abandoned() {
                    return self.load(false);
                }
                tick = Instant::now() + TICK;
            }
        }
    }

    fn load_all(&mut self) -> Wake {
        self.changed.others = true;
        self.load(false)
    }

    fn load(&mut self, early: bool) -> Wake {
        let underway = self.underway.keys().filter_map(|path| self.name_of(path)).collect();
        Wake::Load { due: Due { extent: self.changed.take(), underway }, early }
    }

    /// The name that a file is read by, or would be.
    fn name_of(&self, path: &Path) -> Option<PathBuf> {
        let new = || {
            let directory = self.directory.as_ref().filter(|_| path.parent() == Some(&self.real_directory))?;
            Some(directory.join(path.file_name()?))
        };
        self.names.get(path).cloned().or_else(new)
    }

    /// Whether there are files that nobody goes on writing to. They count as changed.
    fn has_abandoned(&mut self) -> bool {
        let abandoned = self.underway.extract_if(|_, last| last.elapsed() >= ABANDONED);
        let paths: Vec<PathBuf> = abandoned.map(|(path, _)| path).collect();
        paths.iter().for_each(|path| self.note_change(path));
        !paths.is_empty()
    }

    fn note_change(&mut self, path: &Path) {
        match self.names.get(path) {
            Some(name) => drop(self.changed.files.insert(name.clone())),
            // Which manifest files there are is looked at in any case.
            None => self.changed.others |= self.relevant.contains(path),
        }
    }

    /// Takes in what has come. What is to be done about it has its turn.
    fn hear(&mut self, message: Message) -> Heard {
        match message {
            Message::Stop => return Heard::Stop,
            Message::Reload => {
                self.changed.anew = true;
                return Heard::Reload;
            }
            Message::Event(event) => return Heard::Event(self.note(&event)),
            Message::Change(change) => self.changes.push(change),
            Message::Transferred(transfer) => self.transfers.push(transfer),
            Message::Edit(edit) => self.edits.push_back(edit),
            Message::DropJournal(drop) => self.drops.push_back(drop),
            Message::Freeze(freeze) => self.freeze = Some(freeze),
        }
        Heard::Other
    }

    /// The changes that have come by now: more than one only if they came while something else was done.
    fn gather_changes(&mut self) -> Wake {
        while let Ok(message) = self.events.try_recv() {
            match self.hear(message) {
                Heard::Stop => return Wake::Stop,
                // It has its turn next.
                Heard::Reload => self.again = true,
                Heard::Event(effect) => self.unsettled |= effect >= Effect::Complete,
                Heard::Other => {}
            }
        }
        // There is one at most for each zone, so that a flood of changes does not wait for ever.
        match self.transfers.is_empty() {
            false => Wake::Transferred(std::mem::take(&mut self.transfers)),
            true => Wake::Changes(std::mem::take(&mut self.changes)),
        }
    }

    /// What has happened by now, if all of it is whole by itself: there is nothing to wait for.
    fn gather_whole(&mut self) -> Wake {
        while let Ok(message) = self.events.try_recv() {
            match self.hear(message) {
                Heard::Stop => return Wake::Stop,
                Heard::Reload => return self.load(false),
                Heard::Event(Effect::Complete) => return self.gather(),
                Heard::Event(_) | Heard::Other => {}
            }
        }
        self.load(true)
    }

    /// Waits until nothing more happens.
    fn gather(&mut self) -> Wake {
        let end = Instant::now() + PATIENCE;
        let mut quiet = Instant::now() + QUIET;
        loop {
            let message = self.events.recv_timeout(quiet.min(end).saturating_duration_since(Instant::now()));
            match message.map(|message| self.hear(message)) {
                Ok(Heard::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
                Err(RecvTimeoutError::Timeout) => break,
                Ok(Heard::Event(Effect::Nothing) | Heard::Reload | Heard::Other) => {}
                Ok(Heard::Event(_)) => quiet = Instant::now() + QUIET,
            }
            if Instant::now() >= end {
                break;
            }
        }
        self.load(false)
    }

    /// What an event means; what has changed is remembered.
    fn note(&mut self, event: &notify::Result<Event>) -> Effect {
        let effect = self.effect(event);
        let Ok(event) = event.as_ref() else {
            self.changed.others = true;
            return effect;
        };
        self.changed.others |= event.need_rescan();
        let is_gone = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Any))
        );
        if is_gone {
            // The watches of directories go with them, and one of the same name may be the same one, come back.
            let below = |path: &Path| event.paths.iter().any(|gone| path.starts_with(gone));
            self.watched.iter_mut().filter(|(path, _)| below(path)).for_each(|(_, identity)| *identity = None);
        }
        for path in &event.paths {
            match effect {
                Effect::Underway => drop(self.underway.insert(path.clone(), Instant::now())),
                Effect::Complete | Effect::Whole => {
                    self.underway.remove(path);
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
            // Both names were told of by then.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => Effect::Nothing,
            EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Metadata(_)) | EventKind::Remove(_) => Effect::Complete,
            EventKind::Create(_) if event.paths.iter().any(|path| is_born_complete(path)) => Effect::Complete,
            EventKind::Create(_) | EventKind::Modify(_) => Effect::Underway,
            _ => Effect::Nothing,
        }
    }

    fn is_relevant(&self, path: &Path) -> bool {
        self.relevant.contains(path) || path.parent() == Some(&self.real_directory) && is_manifest(path)
    }

    /// Whether a directory is no longer the one that is watched, or, without watches, a file has changed.
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

    /// What the files are like that no watch tells of. Nor does it tell of all that happens to a file that is mounted from
    /// elsewhere, as containers have their resolv.conf.
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

/// What has come.
enum Heard {
    Stop,
    /// All is to be read anew.
    Reload,
    Event(Effect),
    /// Something that waits for its turn.
    Other,
}

/// What a file is to those who watch its directory.
#[derive(Debug, PartialEq, Eq)]
enum Nature {
    /// What happens to it is told by its name.
    Plain,
    /// It has other names.
    Linked,
    /// It is mounted there by itself: what happens to it elsewhere is not told.
    Mounted,
}

impl Nature {
    fn of(path: &Path) -> Nature {
        match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::NLINK) {
            Ok(data) if data.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) => Nature::Mounted,
            Ok(data) if data.stx_nlink > 1 => Nature::Linked,
            // None is what it will be when there is one.
            _ => Nature::Plain,
        }
    }
}

/// What an event means for the manifest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// It changes nothing that is read.
    Nothing,
    /// A file is being written: not yet, but soon.
    Underway,
    /// A change is complete, and others may belong to it.
    Complete,
    /// A file is there, as a whole.
    Whole,
}

/// Whether a file of this name directly in the directory is part of the manifest.
fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Links, hard links and directories are there at once; other files are still to be written.
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

/// All links on the way to `path`, and at last what it leads to. None of them has a link in its parents.
fn trail(path: &Path) -> Vec<PathBuf> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    trail_from(PathBuf::new(), &path)
}

/// The same from a directory on that has no link in its path.
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
            && trail.len() < MOST_LINKS
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
