//! A directory of manifest files and master files, read again only where it changed.

mod file;
mod parts;
#[cfg(test)]
mod tests;
mod unread;

pub use unread::unread;

use super::{
    Id, Loaded, Manifest, MasterFile, Place, PrivateHostedZone, Problem, Severity, ZoneData, changes,
    collection::{Key, MASTER_FILES},
    digest::Digest,
    document::{self, Node},
    kinds::digest_of_octets,
    master,
};
use file::Stamp;
use imbl::OrdMap;
use parts::{Parts, merge, read_parts, replace};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How often a directory is read that changes meanwhile.
const TRIES: usize = 3;

/// Reads the manifest of a directory: at first all of it, then what has changed.
#[derive(Debug)]
pub struct Loader {
    directory: PathBuf,
    /// The manifest files as last read, by path.
    files: BTreeMap<Arc<Path>, File>,
    /// The union of the files as last read.
    manifest: Arc<Manifest>,
    /// Of all in that union, and of the zones below.
    digest: Digest,
    /// What is in two files, as problems. While there is something, all files are put together anew.
    doubles: Vec<Problem>,
    /// The zones with a master file as last read.
    zones: BTreeMap<Id, Zone>,
    /// Those of them that were not part of a load that was accepted.
    unaccepted: BTreeSet<Id>,
    /// The texts of all master files by their names, if they are kept.
    master_files: OrdMap<String, Arc<[u8]>>,
    /// What the last load has read.
    read: Vec<PathBuf>,
    /// Places that were looked up, by kind, identifier and field, in files that are what they were then.
    places: HashMap<(&'static str, String, String), Place>,
    /// The last load has not come to the files that may have changed.
    is_behind: bool,
    /// Something could not be opened for want of room at the last load.
    starved: bool,
    /// The texts of master files are kept, for [`Loader::master_files`].
    keeps_texts: bool,
    /// There were manifest files when somebody else read them.
    expects_files: bool,
}

/// Files, with what they were like when they were read; without that if they could not be read.
type Inputs = Vec<(PathBuf, Option<Stamp>)>;

/// A manifest file.
#[derive(Debug)]
struct File {
    /// None if it could not be read.
    stamp: Option<Stamp>,
    parts: Parts,
    problems: Vec<Problem>,
}

/// A zone with a master file.
#[derive(Debug)]
struct Zone {
    resource: Arc<PrivateHostedZone>,
    /// The master file's path.
    path: PathBuf,
    inputs: Inputs,
    /// What they hold, if that is kept, by their names within the directory.
    texts: Vec<(String, Arc<[u8]>)>,
    /// Over the octets of all inputs, in the order in which they were opened.
    digest: [u8; 32],
    problems: Vec<Problem>,
    /// One of them could not be opened for want of room.
    starved: bool,
}

/// What may have changed since the last load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// Anything that does not look as it did.
    #[default]
    All,
    /// Anything, whatever it looks like.
    Anew,
    /// These files, as [`Loader::inputs`] names them, whatever they look like; and which manifest files there are.
    Files(BTreeSet<PathBuf>),
}

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// What may have changed.
    pub extent: Extent,
    /// Files that somebody is writing, as [`Loader::inputs`] names them or would: they are not looked at yet.
    pub underway: BTreeSet<PathBuf>,
}

/// What a load came to.
type Load = Result<(Loaded, Vec<Problem>), Vec<Problem>>;

impl Loader {
    /// A loader that has read nothing yet.
    pub fn new(directory: impl Into<PathBuf>) -> Loader {
        Loader {
            directory: directory.into(),
            files: BTreeMap::new(),
            manifest: Arc::default(),
            digest: Digest::default(),
            doubles: Vec::new(),
            zones: BTreeMap::new(),
            unaccepted: BTreeSet::new(),
            master_files: OrdMap::new(),
            read: Vec::new(),
            places: HashMap::new(),
            is_behind: false,
            starved: false,
            keeps_texts: false,
            expects_files: false,
        }
    }

    /// The same, which keeps the texts of master files in memory.
    pub fn keeping_texts(self) -> Loader {
        Loader { keeps_texts: true, ..self }
    }

    /// The same, for which a directory without manifest files is one that has lost them: an earlier process had some.
    pub fn expecting_files(self) -> Loader {
        Loader { expects_files: true, ..self }
    }

    /// The master files of the last load, by their names within the directory; none without
    /// [`keeping_texts`](Loader::keeping_texts).
    pub fn master_files(&self) -> OrdMap<String, Arc<[u8]>> {
        self.master_files.clone()
    }

    /// Reads what has changed since the last load. With the manifest come warnings; instead of it, errors and warnings.
    /// All of them know their place.
    pub fn load(&mut self) -> Load {
        self.load_due(&Due::default())
    }

    /// The same, where it is known what may have changed. What follows it takes as long as there is to read.
    pub fn load_due(&mut self, due: &Due) -> Load {
        self.read.clear();
        let all = Due { extent: Extent::All, underway: due.underway.clone() };
        let is_all = self.is_behind && due.extent != Extent::Anew;
        let mut load = self.load_once(if is_all { &all } else { due });
        for _ in 1..TRIES {
            match load {
                // One file is never half old and half new, but the directory could be.
                Some((load, true)) => return load,
                _ => load = self.load_once(&all),
            }
        }
        match load {
            Some((load, _)) => load,
            None => Err(vec![self.problem("the directory changes all the time while it is read".into())]),
        }
    }

    /// Remembers the last load as the one that is served: what it read need not be read again.
    pub fn accept(&mut self) {
        self.unaccepted.clear();
    }

    /// Whether the last load failed for a reason that may be gone by itself: too many open files.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// What could be read of the manifest at the last load, be it with errors.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// All files of the last load: manifest files, master files and what those include. Some may not exist.
    pub fn inputs(&self) -> Vec<PathBuf> {
        let zones = self.zones.values().flat_map(|zone| zone.inputs.iter().map(|(path, _)| path.clone()));
        let all: BTreeSet<PathBuf> = self.files.keys().map(|path| path.to_path_buf()).chain(zones).collect();
        all.into_iter().collect()
    }

    /// The files that the last load has read, as [`Loader::inputs`] names them.
    pub fn last_read(&self) -> &[PathBuf] {
        &self.read
    }

    /// What cannot be read of the last load, with its problems: resources with errors in them, or in two files. None if a file
    /// as a whole cannot be read, so that nobody knows which resources are in it.
    pub fn unreadable(&self) -> Option<BTreeMap<Key, Vec<Problem>>> {
        let mut unreadable: BTreeMap<Key, Vec<Problem>> = BTreeMap::new();
        let problems = self.files.values().flat_map(|file| &file.problems).chain(&self.doubles);
        for problem in problems.filter(|problem| problem.is_error()) {
            let (kind, id) = problem.resource.as_ref()?;
            unreadable.entry(Key::new(kind, id)?).or_default().push(problem.clone());
        }
        (!self.is_behind).then_some(unreadable)
    }

    /// Finds the places of problems that know only their resource and field. A field that is not there has the place of
    /// the nearest one above it that is.
    pub fn locate(&mut self, problems: &mut [Problem]) {
        let key = |problem: &Problem| {
            let (kind, id) = problem.resource.as_ref()?;
            Some((*kind, id.clone(), problem.field.clone()))
        };
        for problem in problems.iter_mut().filter(|problem| problem.place.is_none()) {
            problem.place = key(problem).and_then(|key| self.places.get(&key).cloned());
        }
        let mut documents: HashMap<&Path, Option<Node>> = HashMap::new();
        let mut holders: HashMap<(&str, &str), &Arc<Path>> = HashMap::new();
        if problems.iter().filter(|problem| problem.place.is_none() && problem.resource.is_some()).count() > 16 {
            for (path, file) in &self.files {
                file.parts.each(|kind, id| {
                    holders.entry((kind, id)).or_insert(path);
                });
            }
        }
        for problem in problems.iter_mut().filter(|problem| problem.place.is_none()) {
            let Some((kind, id)) = &problem.resource else { continue };
            let holder = match holders.is_empty() {
                true => {
                    self.files.iter().find(|(_, file)| file.parts.span_of(kind, id).is_some()).map(|(path, _)| path)
                }
                false => holders.get(&(*kind, id.as_str())).copied(),
            };
            let Some(path) = holder else { continue };
            let document = documents.entry(path).or_insert_with(|| {
                file::read(path).ok().and_then(|(bytes, _)| document::read(&bytes, is_json(path)).0)
            });
            let resource = document.as_ref().and_then(|root| root.entry(kind)?.node.entry(id));
            let span = match resource {
                Some(entry) => entry.node.locate(&problem.field).unwrap_or(entry.key_span),
                None => continue,
            };
            problem.place = Some(span.place(path));
            self.places.extend(key(problem).zip(problem.place.clone()));
        }
    }

    fn problem(&self, message: String) -> Problem {
        let (severity, resource, field, help) = (Severity::Error, None, String::new(), None);
        Problem {
            severity,
            place: None,
            resource,
            field,
            message: format!("{}: {message}", self.directory.display()),
            help,
        }
    }

    /// None if a file was there when the directory was listed, and then was not. The flag says whether all files stayed
    /// what they were until the end.
    fn load_once(&mut self, due: &Due) -> Option<(Load, bool)> {
        self.starved = false;
        self.is_behind = true;
        let paths = match self.list(due) {
            Ok(paths) => paths,
            Err(error) => {
                self.starved = is_starved(&error);
                let problem = self.problem(describe(&error));
                let help = "`control_plane.directory` of zonal.yaml, or `zonal check --directory`, names the manifest's directory";
                let problem = match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => problem.help(help),
                    _ => problem,
                };
                return Some((Err(vec![problem]), true));
            }
        };
        if paths.is_empty() && (self.expects_files || !self.files.is_empty()) {
            // A volume that is not mounted looks like this, and so does a directory that is being made anew.
            let message = "there are no manifest files any more; to serve nothing, leave an empty one".into();
            return Some((Err(vec![self.problem(message)]), true));
        }
        let changed: Vec<Arc<Path>> = {
            let is_known = |path: &Path| {
                self.files.get(path).is_some_and(|file| file.stamp.is_some_and(|stamp| due.is_as_it_was(path, &stamp)))
            };
            paths.iter().filter(|path| !is_known(path)).cloned().collect()
        };
        let read_files = !changed.is_empty();
        let read = in_parallel(&changed, |path| read_file(path, &self.manifest));
        if read.iter().any(|file| matches!(file, Err(error) if error.kind() == io::ErrorKind::NotFound))
            && self.list(due).is_ok_and(|now| now != paths)
        {
            return None;
        }
        self.is_behind = false;
        let before = self.manifest.clone();
        self.take(&paths, changed, read);
        let mut problems: Vec<Problem> = self.files.values().flat_map(|file| file.problems.iter().cloned()).collect();
        problems.extend(self.doubles.iter().cloned());
        let (zone_data, read_zones) = self.load_zones(&before, due);
        problems.extend(self.zones.values().flat_map(|zone| zone.problems.iter().cloned()));
        // What is told of each file that changes tells of these too.
        let is_current = |path: &Path, stamp: &Option<Stamp>| {
            // One that could not be read is a problem already.
            due.underway.contains(path) || stamp.is_none_or(|stamp| stamp.is_still_of(path))
        };
        let settled = matches!(due.extent, Extent::Files(_))
            || !(read_files || read_zones)
            || self.list(due).is_ok_and(|now| now == paths)
                && self.files.iter().all(|(path, file)| is_current(path, &file.stamp))
                // If none was read, all were looked at when the last manifest file had been read.
                && (!read_zones || self.zones.values().flat_map(|zone| &zone.inputs).all(|(path, stamp)| is_current(path, stamp)));
        let load = match problems.iter().any(Problem::is_error) {
            true => Err(problems),
            false => {
                let (manifest, digest) = (self.manifest.clone(), self.digest.octets());
                Ok((Loaded { manifest, zone_data, digest, ..Loaded::default() }, problems))
            }
        };
        Some((load, settled))
    }

    /// Takes in what was read, and that only these files are left.
    fn take(&mut self, paths: &[Arc<Path>], changed: Vec<Arc<Path>>, read: Vec<io::Result<File>>) {
        let current: BTreeSet<&Arc<Path>> = paths.iter().collect();
        self.places.retain(|_, place| current.contains(&place.file) && !changed.contains(&place.file));
        let gone: Vec<Arc<Path>> = self.files.keys().filter(|path| !current.contains(path)).cloned().collect();
        let mut out: Vec<Parts> =
            gone.iter().filter_map(|path| self.files.remove(path)).map(|file| file.parts).collect();
        self.read.extend(changed.iter().map(|path| path.to_path_buf()));
        let mut taken: Vec<Arc<Path>> = Vec::with_capacity(changed.len());
        for (path, file) in changed.into_iter().zip(read) {
            let file = file.unwrap_or_else(|error| {
                self.starved |= is_starved(&error);
                unreadable(&path, &error)
            });
            out.extend(self.files.insert(path.clone(), file).map(|file| file.parts));
            taken.push(path);
        }
        if out.is_empty() && taken.is_empty() {
            return;
        }
        let into: Vec<&Parts> = taken.iter().filter_map(|path| self.files.get(path)).map(|file| &file.parts).collect();
        let mut union = ((*self.manifest).clone(), self.digest);
        let is_simple = self.doubles.is_empty() && replace(&mut union.0, &mut union.1, &out, &into);
        if !is_simple {
            self.doubles.clear();
            // Some may be those of the other one.
            self.places.clear();
            let all: Vec<(&Arc<Path>, &Parts)> = self.files.iter().map(|(path, file)| (path, &file.parts)).collect();
            let mut digest = Digest::default();
            self.zones.values().for_each(|zone| digest.add(&zone.digest));
            union = (merge(&all, &mut digest, &mut self.doubles), digest);
        }
        (self.manifest, self.digest) = (Arc::new(union.0), union.1);
    }

    /// The manifest files of the directory, in order. One that is new and being written is not there yet.
    fn list(&self, due: &Due) -> io::Result<Vec<Arc<Path>>> {
        let mut paths: Vec<Arc<Path>> = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let path = entry.path();
            let named = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json");
            let is_there = !due.underway.contains(&path) || self.files.contains_key(path.as_path());
            if named && !hidden && is_there {
                paths.push(path.into());
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Reads the master files that are not what they were at the last accepted load. Returns whether there were any.
    fn load_zones(&mut self, before: &Manifest, due: &Due) -> (BTreeMap<Id, ZoneData>, bool) {
        let mut data = BTreeMap::new();
        let mut jobs: Vec<(Id, Arc<PrivateHostedZone>, PathBuf)> = Vec::new();
        let mut is_other = false;
        for id in self.touched_zones(before, due) {
            let resource = self.manifest.private_hosted_zones.get(&id).filter(|resource| resource.file.is_some());
            let Some((resource, file)) = resource.and_then(|resource| Some((resource, resource.file.as_ref()?))) else {
                if let Some(zone) = self.zones.remove(&id) {
                    self.digest.remove(&zone.digest);
                    is_other = true;
                }
                self.unaccepted.remove(&id);
                continue;
            };
            let path = self.directory.join(file);
            let is_unchanged = !self.unaccepted.contains(&id)
                && self.zones.get(&id).is_some_and(|zone| {
                    zone.path == path
                        && Arc::ptr_eq(&zone.resource, resource)
                        && zone
                            .inputs
                            .iter()
                            .all(|(path, stamp)| stamp.is_some_and(|stamp| due.is_as_it_was(path, &stamp)))
                });
            match is_unchanged {
                true => drop(data.insert(id, ZoneData::Unchanged)),
                false => jobs.push((id, resource.clone(), path)),
            }
        }
        let within = self.keeps_texts.then_some(&*self.directory);
        let read = in_parallel(&jobs, |(id, resource, path)| read_zone(id, resource, path, within, &due.underway));
        let read_any = !jobs.is_empty();
        for ((id, ..), (master_file, mut zone)) in jobs.into_iter().zip(read) {
            self.locate(&mut zone.problems);
            self.starved |= zone.starved;
            self.read.extend(zone.inputs.iter().map(|(path, _)| path.clone()));
            self.digest.add(&zone.digest);
            self.unaccepted.insert(id.clone());
            if let Some(old) = self.zones.insert(id.clone(), zone) {
                self.digest.remove(&old.digest);
            }
            data.insert(id, ZoneData::Read(master_file));
        }
        if read_any || is_other {
            self.master_files = self.zones.values().flat_map(|zone| zone.texts.iter().cloned()).collect();
        }
        (data, read_any)
    }

    /// The zones that are other resources than `before`, or whose master files may be others.
    fn touched_zones(&self, before: &Manifest, due: &Due) -> BTreeSet<Id> {
        let changed = changes(&before.private_hosted_zones, &self.manifest.private_hosted_zones);
        let mut touched: BTreeSet<Id> = changed.into_iter().map(|change| change.id.clone()).collect();
        touched.extend(self.unaccepted.iter().cloned());
        // Thousands of zones need no look where only manifest files have changed.
        let is_master = |path: &PathBuf| !self.files.contains_key(path.as_path());
        if matches!(&due.extent, Extent::Files(files) if !files.iter().any(is_master)) {
            return touched;
        }
        let may_be_other = |zone: &Zone| match &due.extent {
            Extent::Files(files) => zone.inputs.iter().any(|(path, _)| files.contains(path)),
            Extent::All | Extent::Anew => true,
        };
        touched.extend(self.zones.iter().filter(|(_, zone)| may_be_other(zone)).map(|(id, _)| id.clone()));
        touched
    }
}

impl Due {
    /// Whether a file that was read is to be taken for what it was.
    fn is_as_it_was(&self, path: &Path, stamp: &Stamp) -> bool {
        self.underway.contains(path)
            || match &self.extent {
                Extent::All => stamp.is_surely_of(path),
                Extent::Anew => false,
                Extent::Files(files) => !files.contains(path),
            }
    }
}

/// The octets of a file that a problem is in, to show its lines. Pipes, devices and huge files are not read.
pub fn source(path: &Path) -> io::Result<Vec<u8>> {
    file::read(path).map(|(bytes, _)| bytes)
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn read_file(path: &Arc<Path>, last: &Manifest) -> io::Result<File> {
    let (bytes, stamp) = file::read(path)?;
    let (root, faults) = document::read(&bytes, is_json(path));
    let mut problems: Vec<Problem> = faults.into_iter().map(|fault| Problem::of_text(fault, path)).collect();
    let parts = root.map(|root| read_parts(&root, path, last, &mut problems)).unwrap_or_default();
    Ok(File { stamp: Some(stamp), parts, problems })
}

fn unreadable(path: &Arc<Path>, error: &io::Error) -> File {
    let problem = Problem {
        severity: Severity::Error,
        place: Some(Place { file: path.clone(), line: 1, column: 1, length: 1 }),
        resource: None,
        field: String::new(),
        message: format!("the file cannot be read: {}", describe(error)),
        help: None,
    };
    File { stamp: None, parts: Parts::default(), problems: vec![problem] }
}

/// Whether the system had no room for an open file: that passes without any file changing.
fn is_starved(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// What went wrong, and what to do.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "the permission to read it is missing".into(),
        io::ErrorKind::NotADirectory => "it is not a directory".into(),
        io::ErrorKind::IsADirectory => "it is a directory, not a regular file".into(),
        _ if is_starved(error) => format!("{error}; it is tried again"),
        _ => error.to_string(),
    }
}

/// Reads a zone's master file; keeps the texts if it is told within which directory their names are.
fn read_zone(
    id: &str,
    resource: &Arc<PrivateHostedZone>,
    path: &Path,
    within: Option<&Path>,
    underway: &BTreeSet<PathBuf>,
) -> (MasterFile, Zone) {
    let mut inputs = Inputs::new();
    let mut texts = Vec::new();
    let is_absolute = resource.file.as_ref().is_some_and(|file| Path::new(file).is_absolute());
    let within = within.map(|directory| (!is_absolute).then(|| format!("{}/", directory.display())));
    let mut digest = Sha256::new();
    let mut starved = false;
    let read = |path: &Path| match underway.contains(path) {
        true => Err(io::Error::other("somebody is writing it")),
        false => file::read(path),
    };
    let mut opener = |path: &Path| match read(path) {
        Ok((bytes, stamp)) => {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(&bytes);
            inputs.push((path.to_path_buf(), Some(stamp)));
            if let Some(prefix) = &within {
                let name = path.to_string_lossy();
                let within = prefix.as_ref().and_then(|prefix| name.strip_prefix(prefix.as_str()));
                texts.push((within.unwrap_or(&name).to_string(), bytes.as_slice().into()));
            }
            Ok(bytes)
        }
        Err(error) => {
            starved |= is_starved(&error);
            inputs.push((path.to_path_buf(), None));
            Err(io::Error::new(error.kind(), describe(&error)))
        }
    };
    let (master_file, problems) = master::read(&mut opener, path, &resource.name, id);
    let (resource, path) = (resource.clone(), path.to_path_buf());
    let digest = digest_of_octets(MASTER_FILES, id, &digest.finalize());
    (master_file, Zone { resource, path, inputs, texts, digest, problems, starved })
}

/// Does the work of all jobs on two threads; the results are in the order of the jobs.
fn in_parallel<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    if jobs.len() < 4 {
        return jobs.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return };
            let result = work(job);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        worker();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
