//! Loading a manifest from a directory of manifest files and master files. A load reads only the
//! files that changed since the last one. All files of a load are of one point in time: if a file
//! changes during the load, the load starts again.

mod file;
mod ignored_files;
mod resource_files;
#[cfg(test)]
mod tests;

pub use ignored_files::ignored_files;

use super::{
    Id, Loaded, Location, Manifest, MasterFile, PrivateHostedZone, Problem, Severity, WithMetadata, ZoneData, changes,
    collection::{Key, MASTER_FILES},
    digest::Digest,
    document::{self, Node},
    kinds::digest_of_octets,
    master,
};
use file::Stamp;
use imbl::OrdMap;
use resource_files::{FileResources, merge, read_resources, replace};
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

/// The number of times that a directory is read if it changes during the load.
const MAX_ATTEMPTS: usize = 3;

/// Loads the manifest of a directory: the first time all of it, then the files that changed.
#[derive(Debug)]
pub struct Loader {
    directory: PathBuf,
    /// The manifest files of the last load, by path.
    files: BTreeMap<Arc<Path>, File>,
    /// The union of the manifest files of the last load.
    manifest: Arc<Manifest>,
    /// The digest of `manifest` and `zones`.
    digest: Digest,
    /// Errors about resources that are in two files. While there are any, each load merges all
    /// files again.
    duplicates: Vec<Problem>,
    /// The zones with a master file of the last load.
    zones: BTreeMap<Id, Zone>,
    /// The zones that are not part of an accepted load.
    unaccepted: BTreeSet<Id>,
    /// The texts of all master files by name, if `keeps_texts`.
    master_files: OrdMap<String, Arc<[u8]>>,
    /// The files that the last load read.
    read: Vec<PathBuf>,
    /// Locations that were looked up, by kind, identifier and field. Those in changed files are
    /// removed.
    locations: HashMap<(&'static str, String, String), Location>,
    /// The last load failed before it read the changed files, so that the next one must look at all
    /// files.
    is_outdated: bool,
    /// The last load could not open a file because the system was out of file descriptors or
    /// memory.
    out_of_resources: bool,
    /// Whether the texts of master files are kept, for [`Loader::master_files`].
    keeps_texts: bool,
    /// Whether an earlier process read manifest files from the directory.
    expects_files: bool,
}

/// Files with their stamps. None for a file that could not be read.
type Inputs = Vec<(PathBuf, Option<Stamp>)>;

/// A manifest file.
#[derive(Debug)]
struct File {
    /// None if the file could not be read.
    stamp: Option<Stamp>,
    resources: FileResources,
    problems: Vec<Problem>,
}

/// A zone with a master file.
#[derive(Debug)]
struct Zone {
    resource: Arc<PrivateHostedZone>,
    /// The path of the master file.
    path: PathBuf,
    inputs: Inputs,
    /// The texts of the inputs by name within the directory, if the loader keeps texts.
    texts: Vec<(String, Arc<[u8]>)>,
    /// SHA-256 over the octets of all inputs, in the order in which they were opened.
    digest: [u8; 32],
    problems: Vec<Problem>,
    /// Whether an input could not be opened because the system was out of file descriptors or
    /// memory.
    out_of_resources: bool,
}

/// The files that may have changed since the last load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// All files whose metadata differs.
    #[default]
    All,
    /// All files, whatever their metadata.
    Anew,
    /// These files, as named by [`Loader::inputs`], whatever their metadata; and the list of
    /// manifest files.
    Files(BTreeSet<PathBuf>),
}

/// The scope of a load.
#[derive(Clone, Debug, Default)]
pub struct LoadScope {
    /// The files that may have changed.
    pub extent: Extent,
    /// Files that are being written, as named by [`Loader::inputs`]: this load does not read them.
    pub being_written: BTreeSet<PathBuf>,
}

/// The result of a load.
type Load = Result<(Loaded, Vec<Problem>), Vec<Problem>>;

impl Loader {
    /// A loader of a directory. It reads nothing yet.
    pub fn new(directory: impl Into<PathBuf>) -> Loader {
        Loader {
            directory: directory.into(),
            files: BTreeMap::new(),
            manifest: Arc::default(),
            digest: Digest::default(),
            duplicates: Vec::new(),
            zones: BTreeMap::new(),
            unaccepted: BTreeSet::new(),
            master_files: OrdMap::new(),
            read: Vec::new(),
            locations: HashMap::new(),
            is_outdated: false,
            out_of_resources: false,
            keeps_texts: false,
            expects_files: false,
        }
    }

    /// The same loader, which also keeps the texts of master files in memory.
    pub fn keeping_texts(self) -> Loader {
        Loader { keeps_texts: true, ..self }
    }

    /// The same loader, for a directory from which an earlier process read manifest files: a
    /// directory without any is an error.
    pub fn expecting_files(self) -> Loader {
        Loader { expects_files: true, ..self }
    }

    /// The master files of the last load, by name within the directory. Empty without
    /// [`keeping_texts`](Loader::keeping_texts).
    pub fn master_files(&self) -> OrdMap<String, Arc<[u8]>> {
        self.master_files.clone()
    }

    /// Reads the files that changed since the last load. Returns the manifest and its warnings. All
    /// problems have a location.
    ///
    /// # Errors
    ///
    /// All errors and warnings, if there is an error.
    pub fn load(&mut self) -> Load {
        self.load_scope(&LoadScope::default())
    }

    /// Like [`load`](Loader::load), for a known scope. It takes time in proportion to the files
    /// that it reads.
    ///
    /// # Errors
    ///
    /// As [`load`](Loader::load).
    pub fn load_scope(&mut self, scope: &LoadScope) -> Load {
        self.read.clear();
        let all = LoadScope { extent: Extent::All, being_written: scope.being_written.clone() };
        let is_all = self.is_outdated && scope.extent != Extent::Anew;
        let mut load = self.load_once(if is_all { &all } else { scope });
        for _ in 1..MAX_ATTEMPTS {
            match load {
                // Each file is of one point in time, but the directory may not be.
                Some((load, true)) => return load,
                _ => load = self.load_once(&all),
            }
        }
        match load {
            Some((load, _)) => load,
            None => Err(vec![self.problem(
                "the directory changed during each of several attempts to read it; zonal tries again".into(),
            )]),
        }
    }

    /// Marks the last load as served: the next load does not read its files again unless they
    /// change.
    pub fn accept(&mut self) {
        self.unaccepted.clear();
    }

    /// Whether the last load could not open a file because the system was out of file descriptors
    /// or memory. A later attempt can succeed without a change of the files.
    pub fn was_out_of_resources(&self) -> bool {
        self.out_of_resources
    }

    /// The resources that the last load could read, even if it had errors.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// All files of the last load: manifest files, master files and the files that those include.
    /// Some may not exist.
    pub fn inputs(&self) -> Vec<PathBuf> {
        let zones = self.zones.values().flat_map(|zone| zone.inputs.iter().map(|(path, _)| path.clone()));
        let all: BTreeSet<PathBuf> = self.files.keys().map(|path| path.to_path_buf()).chain(zones).collect();
        all.into_iter().collect()
    }

    /// The files that the last load read, as named by [`Loader::inputs`].
    pub fn last_read(&self) -> &[PathBuf] {
        &self.read
    }

    /// The resources that the last load could not read, with their errors: resources with errors in
    /// them, or in two files. None if a whole file could not be read, because its resources are
    /// unknown.
    pub fn unreadable(&self) -> Option<BTreeMap<Key, Vec<Problem>>> {
        let mut unreadable: BTreeMap<Key, Vec<Problem>> = BTreeMap::new();
        let problems = self.files.values().flat_map(|file| &file.problems).chain(&self.duplicates);
        for problem in problems.filter(|problem| problem.is_error()) {
            let (kind, id) = problem.resource.as_ref()?;
            unreadable.entry(Key::new(kind, id)?).or_default().push(problem.clone());
        }
        (!self.is_outdated).then_some(unreadable)
    }

    /// Sets the locations of problems that have a resource and a field only. The location of a
    /// missing field is that of the nearest field above it.
    pub fn locate(&mut self, problems: &mut [Problem]) {
        let key = |problem: &Problem| {
            let (kind, id) = problem.resource.as_ref()?;
            Some((*kind, id.clone(), problem.field.clone()))
        };
        for problem in problems.iter_mut().filter(|problem| problem.location.is_none()) {
            problem.location = key(problem).and_then(|key| self.locations.get(&key).cloned());
        }
        let mut documents: HashMap<&Path, Option<Node>> = HashMap::new();
        let mut holders: HashMap<(&str, &str), &Arc<Path>> = HashMap::new();
        if problems.iter().filter(|problem| problem.location.is_none() && problem.resource.is_some()).count() > 16 {
            for (path, file) in &self.files {
                file.resources.each(|kind, id| {
                    holders.entry((kind, id)).or_insert(path);
                });
            }
        }
        for problem in problems.iter_mut().filter(|problem| problem.location.is_none()) {
            let Some((kind, id)) = &problem.resource else { continue };
            let holder = match holders.is_empty() {
                true => {
                    self.files.iter().find(|(_, file)| file.resources.span_of(kind, id).is_some()).map(|(path, _)| path)
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
            problem.location = Some(Location::new(span, path));
            self.locations.extend(key(problem).zip(problem.location.clone()));
        }
    }

    fn problem(&self, message: String) -> Problem {
        let (severity, resource, field, help) = (Severity::Error, None, String::new(), None);
        Problem {
            severity,
            location: None,
            resource,
            field,
            message: format!("{}: {message}", self.directory.display()),
            help,
        }
    }

    /// Loads once. None if a listed file did not exist any more when it was read. The flag tells
    /// whether all files stayed unchanged until the end of the load.
    fn load_once(&mut self, scope: &LoadScope) -> Option<(Load, bool)> {
        self.out_of_resources = false;
        self.is_outdated = true;
        let paths = match self.list(scope) {
            Ok(paths) => paths,
            Err(error) => {
                self.out_of_resources = is_out_of_resources(&error);
                let problem = self.problem(describe(&error));
                let help = "set `control_plane.directory` in zonal.yaml, or `zonal check --directory`, to the manifest's directory";
                let problem = match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => problem.help(help),
                    _ => problem,
                };
                return Some((Err(vec![problem]), true));
            }
        };
        if paths.is_empty() && (self.expects_files || !self.files.is_empty()) {
            // A volume that is not mounted looks like this, and so does a directory that is being
            // replaced.
            let message = "the directory has no manifest files any more; to serve nothing, leave an empty file".into();
            return Some((Err(vec![self.problem(message)]), true));
        }
        let changed: Vec<Arc<Path>> = {
            let is_known = |path: &Path| {
                self.files
                    .get(path)
                    .is_some_and(|file| file.stamp.is_some_and(|stamp| scope.is_unchanged(path, &stamp)))
            };
            paths.iter().filter(|path| !is_known(path)).cloned().collect()
        };
        let read_files = !changed.is_empty();
        let read = in_parallel(&changed, |path| read_file(path, &self.manifest));
        if read.iter().any(|file| matches!(file, Err(error) if error.kind() == io::ErrorKind::NotFound))
            && self.list(scope).is_ok_and(|now| now != paths)
        {
            return None;
        }
        self.is_outdated = false;
        let before = self.manifest.clone();
        self.apply(&paths, changed, read);
        let mut problems: Vec<Problem> = self.files.values().flat_map(|file| file.problems.iter().cloned()).collect();
        problems.extend(self.duplicates.iter().cloned());
        let (zone_data, read_zones) = self.load_zones(&before, scope);
        problems.extend(self.zones.values().flat_map(|zone| zone.problems.iter().cloned()));
        let is_current = |path: &Path, stamp: &Option<Stamp>| {
            // A file that could not be read is reported as an error.
            scope.being_written.contains(path) || stamp.is_none_or(|stamp| stamp.is_still_of(path))
        };
        let settled = matches!(scope.extent, Extent::Files(_))
            || !(read_files || read_zones)
            || self.list(scope).is_ok_and(|now| now == paths)
                && self.files.iter().all(|(path, file)| is_current(path, &file.stamp))
                // If no zone was read, all inputs were checked after the last manifest file was
                // read.
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

    /// Applies the files that were read, and removes the files that do not exist any more.
    fn apply(&mut self, paths: &[Arc<Path>], changed: Vec<Arc<Path>>, read: Vec<io::Result<File>>) {
        let current: BTreeSet<&Arc<Path>> = paths.iter().collect();
        self.locations.retain(|_, location| current.contains(&location.file) && !changed.contains(&location.file));
        let gone: Vec<Arc<Path>> = self.files.keys().filter(|path| !current.contains(path)).cloned().collect();
        let mut out: Vec<FileResources> =
            gone.iter().filter_map(|path| self.files.remove(path)).map(|file| file.resources).collect();
        self.read.extend(changed.iter().map(|path| path.to_path_buf()));
        let mut taken: Vec<Arc<Path>> = Vec::with_capacity(changed.len());
        for (path, file) in changed.into_iter().zip(read) {
            let file = file.unwrap_or_else(|error| {
                self.out_of_resources |= is_out_of_resources(&error);
                unreadable(&path, &error)
            });
            out.extend(self.files.insert(path.clone(), file).map(|file| file.resources));
            taken.push(path);
        }
        if out.is_empty() && taken.is_empty() {
            return;
        }
        let into: Vec<&FileResources> =
            taken.iter().filter_map(|path| self.files.get(path)).map(|file| &file.resources).collect();
        let mut union = ((*self.manifest).clone(), self.digest);
        let is_simple = self.duplicates.is_empty() && replace(&mut union.0, &mut union.1, &out, &into);
        if !is_simple {
            self.duplicates.clear();
            // The location of a duplicate can be in either file.
            self.locations.clear();
            let all: Vec<(&Arc<Path>, &FileResources)> =
                self.files.iter().map(|(path, file)| (path, &file.resources)).collect();
            let mut digest = Digest::default();
            self.zones.values().for_each(|zone| digest.add(&zone.digest));
            union = (merge(&all, &mut digest, &mut self.duplicates), digest);
        }
        (self.manifest, self.digest) = (Arc::new(union.0), union.1);
    }

    /// The manifest files of the directory, sorted, without new files that are being written.
    fn list(&self, scope: &LoadScope) -> io::Result<Vec<Arc<Path>>> {
        let mut paths: Vec<Arc<Path>> = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let path = entry.path();
            let named = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json");
            let is_there = !scope.being_written.contains(&path) || self.files.contains_key(path.as_path());
            if named && !hidden && is_there {
                paths.push(path.into());
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Reads the master files that changed since the last accepted load. Returns the records, and
    /// whether any file was read.
    fn load_zones(&mut self, before: &Manifest, scope: &LoadScope) -> (BTreeMap<Id, ZoneData>, bool) {
        let mut data = BTreeMap::new();
        let mut jobs: Vec<(Id, Arc<PrivateHostedZone>, PathBuf)> = Vec::new();
        let mut is_other = false;
        for id in self.touched_zones(before, scope) {
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
                        && (Arc::ptr_eq(&zone.resource, resource) || zone.resource.is_served_like(resource))
                        && zone
                            .inputs
                            .iter()
                            .all(|(path, stamp)| stamp.is_some_and(|stamp| scope.is_unchanged(path, &stamp)))
                });
            match is_unchanged {
                true => drop(data.insert(id, ZoneData::Unchanged)),
                false => jobs.push((id, resource.clone(), path)),
            }
        }
        let within = self.keeps_texts.then_some(&*self.directory);
        let read =
            in_parallel(&jobs, |(id, resource, path)| read_zone(id, resource, path, within, &scope.being_written));
        let read_any = !jobs.is_empty();
        for ((id, ..), (master_file, mut zone)) in jobs.into_iter().zip(read) {
            self.locate(&mut zone.problems);
            self.out_of_resources |= zone.out_of_resources;
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

    /// The zones whose resource changed since `before`, or whose master files may have changed.
    fn touched_zones(&self, before: &Manifest, scope: &LoadScope) -> BTreeSet<Id> {
        let changed = changes(&before.private_hosted_zones, &self.manifest.private_hosted_zones);
        let mut touched: BTreeSet<Id> = changed.into_iter().map(|change| change.id.clone()).collect();
        touched.extend(self.unaccepted.iter().cloned());
        // If only manifest files changed, the master files of thousands of zones need no check.
        let is_master = |path: &PathBuf| !self.files.contains_key(path.as_path());
        if matches!(&scope.extent, Extent::Files(files) if !files.iter().any(is_master)) {
            return touched;
        }
        let may_be_other = |zone: &Zone| match &scope.extent {
            Extent::Files(files) => zone.inputs.iter().any(|(path, _)| files.contains(path)),
            Extent::All | Extent::Anew => true,
        };
        touched.extend(self.zones.iter().filter(|(_, zone)| may_be_other(zone)).map(|(id, _)| id.clone()));
        touched
    }
}

impl LoadScope {
    /// Whether a file that was read before is taken as unchanged.
    fn is_unchanged(&self, path: &Path, stamp: &Stamp) -> bool {
        self.being_written.contains(path)
            || match &self.extent {
                Extent::All => stamp.is_surely_of(path),
                Extent::Anew => false,
                Extent::Files(files) => !files.contains(path),
            }
    }
}

/// Reads a file that a problem is in, to show its lines.
///
/// # Errors
///
/// If the file cannot be read, is not a regular file, or is too large.
pub fn source(path: &Path) -> io::Result<Vec<u8>> {
    file::read(path).map(|(bytes, _)| bytes)
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn read_file(path: &Arc<Path>, last: &Manifest) -> io::Result<File> {
    let (bytes, stamp) = file::read(path)?;
    let (root, errors) = document::read(&bytes, is_json(path));
    let mut problems: Vec<Problem> = errors.into_iter().map(|error| Problem::of_text(error, path)).collect();
    let resources = root.map(|root| read_resources(&root, path, last, &mut problems)).unwrap_or_default();
    Ok(File { stamp: Some(stamp), resources, problems })
}

fn unreadable(path: &Arc<Path>, error: &io::Error) -> File {
    let problem = Problem {
        severity: Severity::Error,
        location: Some(Location { file: path.clone(), line: 1, column: 1, length: 1 }),
        resource: None,
        field: String::new(),
        message: format!("the file cannot be read: {}", describe(error)),
        help: None,
    };
    File { stamp: None, resources: FileResources::default(), problems: vec![problem] }
}

/// Whether the system was out of file descriptors or memory.
fn is_out_of_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// The message for an error of the file system.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::NotADirectory => "not a directory".into(),
        io::ErrorKind::IsADirectory => "a directory, not a regular file".into(),
        _ if is_out_of_resources(error) => format!("{error}; zonal tries again"),
        _ => error.to_string(),
    }
}

/// Reads the master file of a zone. Keeps the texts, named relative to the directory `within`, if
/// that is given.
fn read_zone(
    id: &str,
    resource: &Arc<PrivateHostedZone>,
    path: &Path,
    within: Option<&Path>,
    being_written: &BTreeSet<PathBuf>,
) -> (MasterFile, Zone) {
    let mut inputs = Inputs::new();
    let mut texts = Vec::new();
    let is_absolute = resource.file.as_ref().is_some_and(|file| Path::new(file).is_absolute());
    let within = within.map(|directory| (!is_absolute).then(|| format!("{}/", directory.display())));
    let mut digest = Sha256::new();
    let mut out_of_resources = false;
    let read = |path: &Path| match being_written.contains(path) {
        true => Err(io::Error::other("the file is being written")),
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
            out_of_resources |= is_out_of_resources(&error);
            inputs.push((path.to_path_buf(), None));
            Err(io::Error::new(error.kind(), describe(&error)))
        }
    };
    let (master_file, problems) = master::read(&mut opener, path, &resource.name, id);
    let (resource, path) = (resource.clone(), path.to_path_buf());
    let digest = digest_of_octets(MASTER_FILES, id, &digest.finalize());
    (master_file, Zone { resource, path, inputs, texts, digest, problems, out_of_resources })
}

/// Does all jobs on two threads. The results are in the order of the jobs.
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
