//! Storage of dynamic updates.
//!
//! Updates go into the resources that were pushed, or into journals of the node. zonal does not
//! write to the files of a directory, so a journal keeps the updates beside these files.
//!
//! A journal belongs to one zone. Its entries are lists of record sets. The last set of a name and
//! type counts. All sets of a zone are its overlay, which overrides the zone's files.

use super::{
    change::UpdateError,
    journal_file::{JournalFile, copy_of, sync_directory},
};
use crate::{
    manifest::{
        Id, MasterFile, Problem, Resource, ZoneData,
        collection::{Collection, Content, Edit, Key, MASTER_FILES, Replacements, Served},
        overlay::{self, EditedSet, Overlay, Overlays},
        rewrite::{rewrite, text},
    },
    snapshot::{zone::Serial, zones::Serials},
    wire::{
        Name,
        rdata::{parse_text, type_from_text, type_to_text},
    },
};
use anyhow::Context;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Name of the directory of the journals in the state directory.
const DIRECTORY: &str = "updates";
/// Size in octets beyond which a journal is rewritten, if later entries override more than half of
/// it.
const MIN_REWRITTEN_OCTETS: u64 = 1 << 20;
/// Maximum number of spare entries in the file of serials. The file is rewritten if it has more
/// entries than this plus twice the number of zones.
const MAX_SPARE_SERIALS: usize = 1000;

/// Destination to which the publisher writes dynamic updates.
#[derive(Default)]
pub enum UpdateStorage {
    /// No destination: zonal refuses updates.
    #[default]
    Nowhere,
    /// The resources that were pushed.
    Pushed,
    /// The journals of the node.
    Journals(Journals),
}

/// The journals of a node.
#[derive(Debug)]
pub struct Journals {
    directory: PathBuf,
    /// Journal of each zone, with the number of its entries.
    open: BTreeMap<Id, (JournalFile, usize)>,
}

/// A record set in a journal. A set without records removes the set from the zone.
#[derive(Debug, Serialize, Deserialize)]
struct JournalSet {
    name: String,
    r#type: String,
    ttl: u32,
    records: Vec<String>,
}

impl JournalSet {
    fn new(set: &EditedSet) -> JournalSet {
        JournalSet {
            name: set.owner.to_string(),
            r#type: type_to_text(set.rtype).into(),
            ttl: set.ttl,
            records: set.values.iter().map(|value| text(set.rtype, value)).collect(),
        }
    }

    fn set(&self) -> Option<EditedSet> {
        let rtype = type_from_text(&self.r#type)?;
        let values = self.records.iter().map(|value| parse_text(rtype, value, &Name::root()).ok());
        let owner = Name::absolute(&self.name).ok()?;
        Some(EditedSet { owner, rtype, ttl: self.ttl, values: values.collect::<Option<_>>()? })
    }
}

/// Returns the file name of a zone's journal. Escapes all characters of the identifier except ASCII
/// letters, digits, `-` and `_`.
fn file_of(id: &str) -> String {
    let mut file = String::new();
    for octet in id.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => file.push(octet.into()),
            _ => file += &format!("%{octet:02x}"),
        }
    }
    file + ".journal"
}

/// Returns the identifier of the zone to which a journal file belongs. `None` for other files.
fn id_of(file: &str) -> Option<Id> {
    let mut octets = Vec::new();
    let mut rest = file.strip_suffix(".journal")?.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                octets.push(u8::from_str_radix(std::str::from_utf8(&[*high, *low]).ok()?, 16).ok()?);
                tail
            }
            _ => {
                octets.push(*first);
                tail
            }
        };
    }
    String::from_utf8(octets).ok()
}

impl Journals {
    /// Opens and reads the journals in a state directory.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn open(state_directory: &Path) -> anyhow::Result<(Journals, Overlays)> {
        let directory = state_directory.join(DIRECTORY);
        let context = || format!("{} cannot be used; check `state_directory`", directory.display());
        fs::create_dir_all(&directory).with_context(context)?;
        let (mut open, mut overlays) = (BTreeMap::new(), Overlays::new());
        for entry in fs::read_dir(&directory).with_context(context)? {
            let file = entry.with_context(context)?.file_name();
            let Some(id) = file.to_str().and_then(id_of) else { continue };
            let (journal, entries) = JournalFile::open::<Vec<JournalSet>>(&directory.join(&file))?;
            let mut overlay = Overlay::default();
            for item in entries.iter().flatten() {
                match item.set() {
                    Some(set) => overlay.add(&[set]),
                    None => {
                        tracing::error!(zone = %id, name = %item.name, rtype = %item.r#type, "journal entry ignored")
                    }
                }
            }
            open.insert(id.clone(), (journal, entries.len()));
            overlays.insert(id, Arc::new(overlay));
        }
        Ok((Journals { directory, open }, overlays))
    }

    /// Returns the paths of the copies of damaged journals.
    pub(super) fn damaged_copies(&self) -> impl Iterator<Item = PathBuf> {
        self.open.values().filter_map(|(journal, _)| journal.damaged_copy())
    }

    /// Reads the journals in a state directory without changing them.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn read(state_directory: &Path) -> io::Result<Overlays> {
        let mut overlays = Overlays::new();
        let entries = match fs::read_dir(state_directory.join(DIRECTORY)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(overlays),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|file| id_of(file.to_str()?)) else { continue };
            let entries = JournalFile::read::<Vec<JournalSet>>(&path)?;
            let sets: Vec<EditedSet> = entries.iter().flatten().filter_map(JournalSet::set).collect();
            let mut overlay = Overlay::default();
            overlay.add(&sets);
            if !overlay.is_empty() {
                overlays.insert(id, Arc::new(overlay));
            }
        }
        Ok(overlays)
    }

    /// Removes the journal of a zone, and its damaged copy, from a state directory.
    ///
    /// No server may use the directory.
    ///
    /// # Errors
    ///
    /// The file cannot be removed.
    pub fn remove_file(state_directory: &Path, id: &str) -> io::Result<()> {
        remove(&state_directory.join(DIRECTORY).join(file_of(id)))
    }

    /// Removes the journal of a zone, and its damaged copy.
    pub(super) fn remove(&mut self, id: &str) -> io::Result<()> {
        self.open.remove(id);
        remove(&self.directory.join(file_of(id)))
    }

    /// Appends the sets of an update to the journal of a zone. `overlays` already contain the sets.
    pub(super) fn add(&mut self, id: &str, sets: &[EditedSet], overlays: &Overlays) -> anyhow::Result<()> {
        for (id, (journal, count)) in &mut self.open {
            if let Some(overlay) = overlays.get(id).filter(|_| !journal.is_in_place()) {
                // The file was removed or replaced outside zonal, so the journal is written again.
                journal.replace(overlay.sets().map(|set| vec![JournalSet::new(set)]))?;
                *count = overlay.len();
            }
        }
        let (journal, count) = match self.open.entry(id.into()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let (journal, _) = JournalFile::open::<Vec<JournalSet>>(&self.directory.join(file_of(id)))?;
                entry.insert((journal, 0))
            }
        };
        journal.add([sets.iter().map(JournalSet::new).collect::<Vec<_>>()].iter())?;
        *count += 1;
        if let Some(overlay) = overlays.get(id)
            && journal.octets() > MIN_REWRITTEN_OCTETS
            && *count > 2 * overlay.len()
        {
            journal.replace(overlay.sets().map(|set| vec![JournalSet::new(set)]))?;
            *count = overlay.len();
        }
        Ok(())
    }
}

/// Removes a journal, and its damaged copy. Returns after the removal is on the disk.
fn remove(path: &Path) -> io::Result<()> {
    for path in [&copy_of(path), path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_directory(path)
}

/// Converts the journal of a zone to JSON, for the admin API and the command line.
pub fn journal_json(id: &str, name: Option<&Name>, overlay: &Overlay) -> Value {
    let sets: Vec<JournalSet> = overlay.sets().map(JournalSet::new).collect();
    json!({"zone": id, "name": name.map(Name::to_string), "sets": sets})
}

/// Serials of zones, stored for the next start.
#[derive(Debug)]
pub struct SerialStore {
    file: JournalFile,
    count: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct SerialItem {
    zone: Id,
    serial: u32,
    digest: String,
}

impl SerialStore {
    /// Opens and reads the file in a state directory.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written.
    pub fn open(state_directory: &Path) -> anyhow::Result<(SerialStore, Serials)> {
        let (file, entries) = JournalFile::open::<SerialItem>(&state_directory.join("serials"))?;
        let count = entries.len();
        let serials = entries.into_iter().map(|item| {
            // An unreadable digest differs from all others, so the zone gets the next serial.
            let digest = HEXLOWER.decode(item.digest.as_bytes()).unwrap_or_default().try_into().unwrap_or_default();
            (item.zone, Serial { number: item.serial, digest })
        });
        Ok((SerialStore { file, count }, Arc::new(serials.collect())))
    }

    /// Returns the path of the copy of the file, if the file was damaged.
    pub(super) fn damaged_copy(&self) -> Option<PathBuf> {
        self.file.damaged_copy()
    }

    /// Writes the changed serials, and returns after they are on the disk. Logs a failure.
    pub(super) fn write(&mut self, old: &Serials, new: &Serials) {
        let item = |(id, serial): (&Id, &Serial)| SerialItem {
            zone: id.clone(),
            serial: serial.number,
            digest: HEXLOWER.encode(&serial.digest),
        };
        let changed = || new.iter().filter(|(id, serial)| old.get(*id) != Some(serial));
        self.count += changed().count();
        let written = match self.count > 2 * new.len() + MAX_SPARE_SERIALS || !self.file.is_in_place() {
            false => self.file.add(changed().map(item)),
            true => {
                self.count = new.len();
                self.file.replace(new.iter().map(item))
            }
        };
        if let Err(error) = written {
            tracing::error!(%error, "serials not written");
        }
    }
}

/// Returns the overlays with the sets of an update added.
///
/// # Errors
///
/// The overlay of the zone would be larger than [`overlay::MAX_OCTETS`].
pub(super) fn overlays_with(overlays: &Overlays, id: &str, sets: &[EditedSet]) -> Result<Overlays, UpdateError> {
    let mut overlay = overlays.get(id).map_or_else(Overlay::default, |overlay| (**overlay).clone());
    overlay.add(sets);
    if overlay.octets() > overlay::MAX_OCTETS {
        let max = overlay::MAX_OCTETS >> 20;
        let reason = format!("the record sets that updates have changed in the zone would take more than {max} MiB");
        return Err(UpdateError::Refused(reason));
    }
    Ok(overlays.update(id.into(), Arc::new(overlay)))
}

/// Returns the edits with which an update changes a zone that was pushed.
///
/// # Errors
///
/// An older version of the zone is served, or its master file cannot be written.
pub(super) fn pushed_change(
    collection: &Collection,
    served: &Served,
    aside: &Replacements,
    id: &str,
    sets: &[EditedSet],
) -> Result<Vec<Edit>, UpdateError> {
    let delivered = collection.manifest().private_hosted_zones.get(id);
    if delivered != served.manifest.private_hosted_zones.get(id)
        || aside.keys().any(|key| key.kind == "private_hosted_zones" && key.id == id)
    {
        let reason = "the zone that was pushed last has errors, and an older version is served";
        return Err(UpdateError::Failed(reason.into()));
    }
    edits_of(collection, id, sets).map_err(UpdateError::Refused)
}

/// Returns the edits with which an update changes a zone and its master file.
///
/// # Errors
///
/// The reason why the zone or the file cannot be written.
pub fn edits_of(collection: &Collection, id: &str, sets: &[EditedSet]) -> Result<Vec<Edit>, String> {
    let zones = &collection.manifest().private_hosted_zones;
    let zone = zones.get(id).ok_or("the zone is gone")?;
    let data = master_file(collection, id)?;
    let (changed, text) = rewrite(zone, data.as_ref(), sets)?;
    let mut edits = Vec::new();
    let key = |kind: &'static str, id: &str| Key { kind, id: id.into() };
    if changed != **zone {
        let changed = Resource::PrivateHostedZone(Arc::new(changed));
        edits.push(Edit { key: key("private_hosted_zones", id), value: Some(Content::Resource(changed)) });
    }
    if let (Some(text), Some(file)) = (text, &zone.file) {
        let includes_file = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.contains("$INCLUDE") && text.contains(file.as_str())
        };
        if zones.iter().any(|(other, zone)| other != id && zone.file.as_ref() == Some(file))
            || collection.master_files().iter().any(|(name, text)| name != file && includes_file(text))
        {
            return Err(format!("other zones use its master file {file} too"));
        }
        edits.push(Edit { key: key(MASTER_FILES, file), value: Some(text.into_bytes().into()) });
    }
    Ok(edits)
}

/// Returns the records of a zone's master file in a collection. `None` if the zone has no file.
///
/// # Errors
///
/// The reason why the file cannot be read.
pub fn master_file(collection: &Collection, id: &str) -> Result<Option<MasterFile>, String> {
    let mut candidate = collection.only_zone(id).candidate(&Replacements::new(), &Served::default());
    if let Some(problem) = candidate.problems.into_iter().find(Problem::is_error) {
        return Err(problem.to_string());
    }
    match candidate.loaded.zone_data.remove(id) {
        Some(ZoneData::Read(data)) => Ok(Some(data)),
        _ => Ok(None),
    }
}

/// Returns the refusal of an update whose records have an error.
pub(super) fn refusal(problems: &[Problem]) -> UpdateError {
    let first = problems.iter().find(|problem| problem.is_error());
    UpdateError::Refused(first.map_or("the records have errors".into(), Problem::to_string))
}

#[cfg(test)]
#[path = "updates_tests.rs"]
mod tests;
