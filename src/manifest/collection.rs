//! Resources that a source delivers one by one, as JSON: by HTTP, or from etcd.
//!
//! The delivered collection and the served manifest can differ. A resource with an error is set
//! aside, together with the resources that refer to it; zonal serves its previous version instead,
//! if that still fits. All maps are persistent: a copy, on which a change is tried, shares
//! everything that the change does not touch.

use super::{
    Change, Id, KINDS, Loaded, Location, Manifest, PrivateHostedZone, Problem, Resource, WithMetadata, ZoneData,
    changes,
    digest::Digest,
    document::{self, Node, Span, SyntaxError, Value},
    kind_of,
    kinds::digest_of_octets,
    master,
};
use imbl::{OrdMap, ordmap::DiffItem};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::Arc,
};

/// The kind of master files, which zones refer to. They are delivered like resources.
pub const MASTER_FILES: &str = "master_files";

/// The key of a resource or master file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind: one of [`KINDS`](super::KINDS), or [`MASTER_FILES`].
    pub kind: &'static str,
    /// The identifier.
    pub id: Id,
}

impl Key {
    /// The key with this kind and identifier. None if there is no such kind, or if the identifier
    /// is empty.
    pub fn new(kind: &str, id: &str) -> Option<Key> {
        let kind = if kind == MASTER_FILES { MASTER_FILES } else { kind_of(kind)? };
        (!id.is_empty()).then(|| Key { kind, id: id.into() })
    }
}

/// The change of a resource or master file.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The key.
    pub key: Key,
    /// The new content. None deletes it.
    pub value: Option<Content>,
}

/// The content of a resource or master file.
#[derive(Clone, Debug)]
pub enum Content {
    /// JSON, or the text of a master file.
    Text(Arc<[u8]>),
    /// A resource that was read or made before.
    Resource(Resource),
}

impl Content {
    /// The content as text.
    pub fn text(&self) -> Arc<[u8]> {
        match self {
            Content::Text(text) => text.clone(),
            Content::Resource(resource) => resource.to_json().into(),
        }
    }
}

impl<T: Into<Arc<[u8]>>> From<T> for Content {
    fn from(text: T) -> Content {
        Content::Text(text.into())
    }
}

/// All resources and master files that were delivered.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    manifest: Manifest,
    /// The resources that cannot be read, with their errors.
    unreadable: OrdMap<Key, Arc<Unreadable>>,
    master_files: OrdMap<Id, Arc<[u8]>>,
}

/// A resource that cannot be read.
#[derive(Debug, PartialEq)]
pub struct Unreadable {
    /// The delivered text.
    pub text: Arc<[u8]>,
    /// The errors in it.
    pub problems: Vec<Problem>,
}

/// The replacement of a resource that is set aside.
#[derive(Clone, Debug)]
pub enum Replacement {
    /// The previous version, with the master files that it referred to.
    Older(Resource, MasterTexts),
    /// Nothing, because the previous version does not fit the other resources. It is tried again at
    /// each change.
    Unfit(Resource, MasterTexts),
    /// Nothing.
    Nothing,
}

/// The resources and master files that are set aside, and what is served instead of each.
pub type Replacements = OrdMap<Key, Replacement>;

/// The master files that a zone refers to, with their texts. None for a file that does not exist.
pub type MasterTexts = Vec<(Id, Option<Arc<[u8]>>)>;

/// The served manifest of a collection.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// The resources.
    pub manifest: Arc<Manifest>,
    /// The zones that have a master file.
    zones: OrdMap<Id, Arc<ZoneFile>>,
    /// The master files of the collection.
    master_files: OrdMap<Id, Arc<[u8]>>,
    /// Whether a zone is served in its previous version, with the master files of that version.
    has_older_zones: bool,
    /// The zones whose master files the next candidate reads again.
    read_again: BTreeSet<Id>,
    digest: Digest,
}

/// A zone with a master file.
#[derive(Debug)]
struct ZoneFile {
    texts: MasterTexts,
    digest: [u8; 32],
}

/// A manifest that zonal can serve if it has no errors.
pub struct Candidate {
    /// The manifest, as the next served one.
    pub served: Served,
    /// The manifest, as the input of the compiler.
    pub loaded: Loaded,
    /// The errors in master files, and in unreadable resources that are not set aside.
    pub problems: Vec<Problem>,
}

impl Collection {
    /// A collection of resources that were read elsewhere, and the master files that they refer to.
    pub fn of(manifest: &Manifest, master_files: OrdMap<Id, Arc<[u8]>>) -> Collection {
        Collection { manifest: manifest.clone(), unreadable: OrdMap::new(), master_files }
    }

    /// The same collection, with some resources as unreadable.
    pub fn without(mut self, unreadable: BTreeMap<Key, Vec<Problem>>) -> Collection {
        for (key, problems) in unreadable {
            self.manifest.remove(key.kind, &key.id);
            self.unreadable.insert(key, Arc::new(Unreadable { text: Arc::default(), problems }));
        }
        self
    }

    /// Reads a whole manifest. It has the additional members `master_files`, and `generation`,
    /// whose number is returned.
    ///
    /// # Errors
    ///
    /// All errors in the manifest.
    pub fn read_whole(node: &Node, file: &Arc<Path>) -> Result<(Collection, Option<u64>), Vec<Problem>> {
        let mut collection = Collection::default();
        let (mut generation, mut problems) = (None, Vec::new());
        let error = |span: Span, message: String| {
            let help = Some(format!("known kinds are {}", KINDS.join(", ")));
            Problem::of_text(SyntaxError { span, message, help }, file)
        };
        let Value::Map(members) = &node.value else { return Err(vec![error(node.span, "expected an object".into())]) };
        for member in members {
            if &*member.key == "generation" {
                // A higher generation must always exist, also for programs with signed numbers.
                let number = match &member.node.value {
                    Value::Scalar { text, plain: true } => text.parse().ok().filter(|number| *number < i64::MAX as u64),
                    _ => None,
                };
                if number.is_none() {
                    let message = "generation: expected a whole number from 0 to 2^63 - 2".into();
                    problems.push(Problem::of_text(SyntaxError { span: member.node.span, message, help: None }, file));
                }
                generation = number;
                continue;
            }
            let Some(Key { kind, .. }) = Key::new(&member.key, "x") else {
                problems.push(error(member.key_span, format!("there is no kind `{}`", member.key)));
                continue;
            };
            let Value::Map(entries) = &member.node.value else {
                problems.push(error(member.node.span, format!("{kind}: expected an object")));
                continue;
            };
            for entry in entries {
                let Some(key) = Key::new(kind, &entry.key) else {
                    problems.push(error(entry.key_span, format!("{kind}: the identifier is empty")));
                    continue;
                };
                match (&entry.node.value, read_node(&key, &entry.node, file)) {
                    (Value::Scalar { text, plain: false }, _) if kind == MASTER_FILES => {
                        collection.master_files.insert(key.id, text.as_bytes().into());
                    }
                    _ if kind == MASTER_FILES => {
                        problems.push(error(entry.node.span, format!("{kind}: expected a text")))
                    }
                    (_, Ok(resource)) => drop(collection.manifest.put(&key.id, resource)),
                    (_, Err(more)) => problems.extend(more),
                }
            }
        }
        if problems.is_empty() { Ok((collection, generation)) } else { Err(problems) }
    }

    /// SHA-256 over kind, identifier and text of a resource or master file. None if it does not
    /// exist.
    pub fn digest(&self, key: &Key) -> Option<[u8; 32]> {
        Some(digest_of_octets(key.kind, &key.id, &self.text(key)?))
    }

    /// Applies changes. [`Collection::candidate`] reports the errors in them.
    pub fn apply(&mut self, edits: &[Edit]) {
        for Edit { key, value } in edits {
            match (key.kind, value) {
                (MASTER_FILES, Some(content)) => {
                    let text = content.text();
                    if self.master_files.get(&key.id).is_none_or(|old| *old != text) {
                        self.master_files.insert(key.id.clone(), text);
                    }
                }
                (MASTER_FILES, None) => drop(self.master_files.remove(&key.id)),
                (_, Some(Content::Text(text))) => self.put(key, text),
                (_, Some(Content::Resource(resource))) => {
                    self.unreadable.remove(key);
                    self.manifest.put(&key.id, self.sharing(key, resource.clone()));
                }
                (_, None) => {
                    self.manifest.remove(key.kind, &key.id);
                    self.unreadable.remove(key);
                }
            }
        }
    }

    fn put(&mut self, key: &Key, text: &Arc<[u8]>) {
        match read(key, text) {
            Ok(resource) => {
                self.unreadable.remove(key);
                let resource = self.sharing(key, resource);
                let old = self.manifest.resource(key.kind, &key.id);
                // Names are equal in any case, but a change of their case must not be lost.
                if old.is_none_or(|old| old.digest(&key.id) != resource.digest(&key.id)) {
                    self.manifest.put(&key.id, resource);
                }
            }
            Err(problems) => {
                self.manifest.remove(key.kind, &key.id);
                self.unreadable.insert(key.clone(), Arc::new(Unreadable { text: text.clone(), problems }));
            }
        }
    }

    /// A resource. A zone shares the equal record sets with its last version.
    fn sharing(&self, key: &Key, resource: Resource) -> Resource {
        match (&resource, self.manifest.private_hosted_zones.get(&key.id)) {
            (Resource::PrivateHostedZone(zone), Some(old)) if !zone.records.shares(&old.records) => {
                let records = zone.records.sharing(&old.records);
                Resource::PrivateHostedZone(Arc::new(PrivateHostedZone { records, ..(**zone).clone() }))
            }
            _ => resource,
        }
    }

    /// The edits that turn `old` into this collection.
    pub fn edits_from(&self, old: &Collection) -> Vec<Edit> {
        let mut edits = Vec::new();
        let keys: BTreeSet<Key> = {
            let resources = self.manifest.resource_changes(&old.manifest);
            let resources = resources.into_iter().map(|change| Key { kind: change.kind, id: change.id });
            let unreadable = changed_keys(&old.unreadable, &self.unreadable);
            let files = changed_keys(&old.master_files, &self.master_files);
            let files = files.into_iter().map(|id| Key { kind: MASTER_FILES, id });
            resources.chain(unreadable).chain(files).collect()
        };
        for key in keys {
            let [was, is] = [old, self].map(|collection| collection.manifest.resource(key.kind, &key.id));
            let value = match (was, is) {
                // Names are equal in any case, but a change of their case must not be lost. A large resource that differs is
                // not written for the comparison.
                (Some(was), Some(is)) if was == is && was.digest(&key.id) == is.digest(&key.id) => continue,
                (_, Some(is)) => Some(Content::Resource(is)),
                (_, None) => {
                    let text = self.text(&key);
                    if text == old.text(&key) {
                        continue;
                    }
                    text.map(Content::Text)
                }
            };
            edits.push(Edit { key, value });
        }
        edits
    }

    /// The edits that turn an empty collection into this one.
    pub fn edits(&self) -> Vec<Edit> {
        self.edits_from(&Collection::default())
    }

    /// The text of a resource or master file. None if it does not exist.
    pub fn text(&self, key: &Key) -> Option<Arc<[u8]>> {
        if key.kind == MASTER_FILES {
            return self.master_files.get(&key.id).cloned();
        }
        match self.manifest.resource(key.kind, &key.id) {
            Some(resource) => Some(resource.to_json().into()),
            None => self.unreadable.get(key).map(|unreadable| unreadable.text.clone()),
        }
    }

    /// Whether a resource or master file exists.
    pub fn contains(&self, key: &Key) -> bool {
        match key.kind {
            MASTER_FILES => self.master_files.contains_key(&key.id),
            kind => self.manifest.resource(kind, &key.id).is_some() || self.unreadable.contains_key(key),
        }
    }

    /// A collection of one zone and all master files.
    pub fn only_zone(&self, id: &str) -> Collection {
        let mut manifest = Manifest::default();
        let zones = &mut manifest.private_hosted_zones;
        if let Some(zone) = self.manifest.private_hosted_zones.get(id) {
            zones.insert(id.into(), zone.clone());
        }
        Collection { manifest, unreadable: OrdMap::new(), master_files: self.master_files.clone() }
    }

    /// The resources that can be read.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The resources that cannot be read.
    pub fn unreadable(&self) -> &OrdMap<Key, Arc<Unreadable>> {
        &self.unreadable
    }

    /// The master files, by name.
    pub fn master_files(&self) -> &OrdMap<Id, Arc<[u8]>> {
        &self.master_files
    }

    /// The number of resources and master files.
    pub fn len(&self) -> usize {
        let resources: usize = self.manifest.counts().map(|(_, count)| count).sum();
        resources + self.unreadable.len() + self.master_files.len()
    }

    /// Whether the collection is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The manifest that would be served if `aside` were set aside. `old` is the served manifest,
    /// whose snapshot is the previous one for the compiler.
    pub fn candidate(&self, aside: &Replacements, old: &Served) -> Candidate {
        let mut manifest = self.manifest.clone();
        for (key, instead) in aside {
            match instead {
                Replacement::Older(resource, _) => drop(manifest.put(&key.id, resource.clone())),
                Replacement::Unfit(..) | Replacement::Nothing => drop(manifest.remove(key.kind, &key.id)),
            }
        }
        let unreadable = self.unreadable.iter().filter(|(key, _)| !aside.contains_key(*key));
        let mut problems: Vec<Problem> = unreadable.flat_map(|(_, unreadable)| unreadable.problems.clone()).collect();
        let mut digest = old.digest;
        for change in manifest.resource_changes(&old.manifest) {
            change.old.iter().for_each(|resource| digest.remove(&resource.digest(&change.id)));
            change.new.iter().for_each(|resource| digest.add(&resource.digest(&change.id)));
        }
        let mut zones = old.zones.clone();
        let mut zone_data = BTreeMap::new();
        for id in self.touched_zones(&manifest, aside, old) {
            if let Some(zone) = zones.remove(&id) {
                digest.remove(&zone.digest);
            }
            let Some(zone) = manifest.private_hosted_zones.get(&id) else { continue };
            let Some(file) = &zone.file else { continue };
            let key = Key { kind: "private_hosted_zones", id };
            let own = match aside.get(&key) {
                Some(Replacement::Older(_, texts)) => Some(texts),
                _ => None,
            };
            let (zone_file, data, found) = self.read_zone(&key.id, zone, Path::new(file), own);
            problems.extend(found);
            digest.add(&zone_file.digest);
            zones.insert(key.id.clone(), Arc::new(zone_file));
            zone_data.insert(key.id, data);
        }
        let manifest = Arc::new(manifest);
        let loaded = Loaded { manifest: manifest.clone(), zone_data, digest: digest.octets(), ..Loaded::default() };
        let (master_files, has_older_zones) = (self.master_files.clone(), has_zones(aside));
        let served = Served { manifest, zones, master_files, has_older_zones, read_again: BTreeSet::new(), digest };
        Candidate { served, loaded, problems }
    }

    /// The zones whose resource or master files changed since `old`.
    fn touched_zones(&self, manifest: &Manifest, aside: &Replacements, old: &Served) -> BTreeSet<Id> {
        let changed = changes(&old.manifest.private_hosted_zones, &manifest.private_hosted_zones);
        let is_served_like = |change: &Change<PrivateHostedZone>| {
            change.old.zip(change.new).is_some_and(|(old, new)| old.is_served_like(new))
        };
        let changed = changed.into_iter().filter(|change| !is_served_like(change));
        let mut touched: BTreeSet<Id> = changed.map(|change| change.id.clone()).collect();
        touched.extend(old.read_again.iter().cloned());
        let files = changed_keys(&old.master_files, &self.master_files);
        if files.is_empty() && !old.has_older_zones && !has_zones(aside) {
            return touched;
        }
        for (id, zone) in &old.zones {
            let own = match aside.get(&Key { kind: "private_hosted_zones", id: id.clone() }) {
                Some(Replacement::Older(_, texts)) => Some(texts),
                _ => None,
            };
            let is_same = |(name, text): &(Id, Option<Arc<[u8]>>)| match (text, self.text_of(name, own)) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                (None, None) => true,
                _ => false,
            };
            if !zone.texts.iter().all(is_same) {
                touched.insert(id.clone());
            }
        }
        touched
    }

    fn text_of<'a>(&'a self, name: &str, own: Option<&'a MasterTexts>) -> Option<&'a Arc<[u8]>> {
        match own {
            Some(own) => own.iter().find(|(other, _)| other == name).and_then(|(_, text)| text.as_ref()),
            None => self.master_files.get(name),
        }
    }

    fn read_zone(
        &self,
        id: &str,
        zone: &PrivateHostedZone,
        file: &Path,
        own: Option<&MasterTexts>,
    ) -> (ZoneFile, ZoneData, Vec<Problem>) {
        let mut texts = MasterTexts::new();
        let mut digest = Sha256::new();
        let mut opener = |path: &Path| {
            let name = path.to_string_lossy().into_owned();
            let text = self.text_of(&name, own).cloned();
            digest.update(text.as_ref().map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
            digest.update(text.as_deref().unwrap_or_default());
            texts.push((name, text.clone()));
            let missing = || io::Error::new(io::ErrorKind::NotFound, "`master_files` has no file of this name");
            Ok(text.ok_or_else(missing)?.to_vec())
        };
        let (data, mut problems) = master::read(&mut opener, file, &zone.name, id);
        for problem in &mut problems {
            problem.resource.get_or_insert_with(|| ("private_hosted_zones", id.into()));
        }
        let digest = digest_of_octets(MASTER_FILES, id, &digest.finalize());
        (ZoneFile { texts, digest }, ZoneData::Read(data), problems)
    }
}

impl Served {
    /// A served manifest whose master files are read elsewhere.
    pub fn of(manifest: Arc<Manifest>) -> Served {
        Served { manifest, ..Served::default() }
    }

    /// Lets the next candidate read the master files of a zone, even if they did not change.
    pub fn read_again(&mut self, id: &str) {
        self.read_again.insert(id.into());
    }

    /// The digest of the manifest and its master files.
    pub fn digest(&self) -> [u8; 32] {
        self.digest.octets()
    }

    /// The served version of a resource, to be served [instead](Replacement) of another version. None
    /// if it is not served.
    pub fn older(&self, key: &Key) -> Option<Replacement> {
        let resource = self.manifest.resource(key.kind, &key.id)?;
        let zone = self.zones.get(&key.id).filter(|_| key.kind == "private_hosted_zones");
        Some(Replacement::Older(resource, zone.map_or(MasterTexts::new(), |zone| zone.texts.clone())))
    }
}

fn has_zones(aside: &Replacements) -> bool {
    aside.keys().any(|key| key.kind == "private_hosted_zones")
}

/// The keys whose values differ in two maps.
fn changed_keys<K: Ord + Clone, V: Clone + PartialEq>(old: &OrdMap<K, V>, new: &OrdMap<K, V>) -> Vec<K> {
    let key = |item: DiffItem<K, V>| match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => key.clone(),
    };
    old.diff(new).map(key).collect()
}

/// Checks that the text of a resource can be read.
///
/// # Errors
///
/// All errors in the text.
pub fn check(key: &Key, text: &[u8]) -> Result<(), Vec<Problem>> {
    if key.kind == MASTER_FILES { Ok(()) } else { read(key, text).map(drop) }
}

/// Reads a resource, or returns all errors in it.
fn read(key: &Key, text: &[u8]) -> Result<Resource, Vec<Problem>> {
    let file: Arc<Path> = Path::new(key.kind).join(&key.id).into();
    let of_resource = |problem: Problem| Problem { resource: Some((key.kind, key.id.clone())), ..problem };
    let (node, errors) = document::read(text, true);
    if !errors.is_empty() {
        return Err(errors.into_iter().map(|error| of_resource(Problem::of_text(error, &file))).collect());
    }
    match node {
        Some(node) => read_node(key, &node, &file),
        None => Err(vec![Problem::error(key.kind, &key.id, "", "the resource is empty")]),
    }
}

/// Reads a resource from a part of a document.
fn read_node(key: &Key, node: &Node, file: &Arc<Path>) -> Result<Resource, Vec<Problem>> {
    match Resource::read(key.kind, node) {
        Some(Ok(resource)) => Ok(resource),
        Some(Err(errors)) => Err(errors
            .into_iter()
            .map(|error| Problem {
                help: error.help,
                ..Problem::error(key.kind, &key.id, error.field, error.message)
                    .at(Location::new(error.span.unwrap_or(node.span), file))
            })
            .collect()),
        None => Err(vec![Problem::error(key.kind, &key.id, "", format!("there is no kind `{}`", key.kind))]),
    }
}
