//! The state in the state directory: the resources that the source delivered, and the versions that
//! replace resources with errors.
//!
//! [`PersistedState`] is the whole state. A [`StateEntry`] is one change of it, as it is on disk.
//! All entries, applied in their order to an empty state, give the state.

use super::{change::Position, guard::HeldDeletions};
use crate::manifest::{
    PrivateHostedZone, Resource, ResourceRecordSet,
    collection::{Collection, Content, Edit, Key, Replacement, Replacements},
    document,
    record_sets::ChangedRun,
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use std::{io, sync::Arc};

/// Maximum number of edits in one entry of a base.
const MAX_EDITS: usize = 1000;

/// One change of a state.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StateEntry {
    /// Generation in which the change is served.
    generation: u64,
    /// Position of the source after the change.
    position: Position,
    /// Changes of the delivered resources and master files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    edits: Vec<EditItem>,
    /// Changes of the versions that replace resources with errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aside: Vec<AsideItem>,
    /// Changes of the held deletions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<HeldItem>,
    /// Whether earlier entries were lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_incomplete: bool,
}

/// A resource or a master file with its new content, or a zone with the changes of its records. Without content and changes,
/// the edit deletes the resource or file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct EditItem {
    kind: String,
    id: String,
    #[serde(flatten)]
    text: Option<Octets>,
    /// Changes of the zone's record sets, by position. All other members of the zone are as they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    records: Vec<RecordsItem>,
}

/// Record sets that replace other record sets.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct RecordsItem {
    /// The position of the first one in the list before the change.
    at: usize,
    /// The number of record sets that are removed there.
    removed: usize,
    /// The record sets that are added there.
    added: Vec<Arc<ResourceRecordSet>>,
}

/// Octets, stored as text if they are UTF-8, otherwise as Base64.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Octets {
    Text(String),
    Base64(String),
}

/// A change of the version that replaces a resource. `None`: the resource itself is served again.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct AsideItem {
    kind: String,
    id: String,
    instead: Option<ReplacementItem>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct HeldItem {
    kind: String,
    id: String,
    /// Revision of the deletion. `None`: the deletion is no longer held.
    revision: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum ReplacementItem {
    Nothing,
    Older {
        resource: Octets,
        texts: Vec<(String, Option<Octets>)>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_unfit: bool,
    },
}

impl Octets {
    fn new(octets: &[u8]) -> Octets {
        match std::str::from_utf8(octets) {
            Ok(text) => Octets::Text(text.into()),
            Err(_) => Octets::Base64(BASE64.encode(octets)),
        }
    }

    fn decode(&self) -> io::Result<Arc<[u8]>> {
        match self {
            Octets::Text(text) => Ok(text.as_bytes().into()),
            Octets::Base64(text) => Ok(BASE64.decode(text.as_bytes()).map_err(io::Error::other)?.into()),
        }
    }
}

/// Returns the changes that turn the records of one version of a zone into those of another. `None` if something else differs,
/// or if the changes are no shorter than the zone.
fn record_changes(old: &PrivateHostedZone, new: &PrivateHostedZone) -> Option<Vec<RecordsItem>> {
    let [one, other] = [old, new].map(|zone| serde_json::to_vec(&zone.without_records()).ok());
    if one != other {
        return None;
    }
    let runs = new.records.changes_since(&old.records);
    let changed: usize = runs.iter().map(|run| run.came.len()).sum();
    let item = |run: &ChangedRun| RecordsItem {
        at: run.old_at,
        removed: run.gone.len(),
        added: run.came.iter().map(|set| (*set).clone()).collect(),
    };
    (!runs.is_empty() && changed < new.records.len()).then(|| runs.iter().map(item).collect())
}

impl EditItem {
    fn new(edit: &Edit, old: &Collection) -> EditItem {
        let (kind, id) = (edit.key.kind.into(), edit.key.id.clone());
        let records = match &edit.value {
            Some(Content::Resource(Resource::PrivateHostedZone(new))) => {
                let old = old.manifest().private_hosted_zones.get(&id);
                old.and_then(|old| record_changes(old, new))
            }
            _ => None,
        };
        if let Some(records) = records {
            return EditItem { kind, id, text: None, records };
        }
        let text = edit.value.as_ref().map(|content| Octets::new(&content.text()));
        EditItem { kind, id, text, records: Vec::new() }
    }

    /// Decodes the edit, which was made of the collection `old`. `None` if this version of zonal does not know the kind.
    fn edit(&self, old: &Collection) -> io::Result<Option<Edit>> {
        let Some(key) = Key::new(&self.kind, &self.id) else { return Ok(None) };
        let value = match self.records.is_empty() {
            true => self.text.as_ref().map(Octets::decode).transpose()?.map(Content::Text),
            false => Some(Content::Resource(self.zone(old)?)),
        };
        Ok(Some(Edit { key, value }))
    }

    /// Returns the zone with the changes of its records.
    fn zone(&self, old: &Collection) -> io::Result<Resource> {
        let missing = || io::Error::other(format!("the zone {} lacks the record sets that change", self.id));
        let mut zone = PrivateHostedZone::clone(old.manifest().private_hosted_zones.get(&self.id).ok_or_else(missing)?);
        // The positions are those before the change, so the last change comes first.
        for RecordsItem { at, removed, added } in self.records.iter().rev() {
            if !zone.records.splice(*at, *removed, added.iter().cloned()) {
                return Err(missing());
            }
        }
        Ok(Resource::PrivateHostedZone(Arc::new(zone)))
    }
}

impl ReplacementItem {
    fn new(instead: &Replacement) -> ReplacementItem {
        match instead {
            Replacement::Nothing => ReplacementItem::Nothing,
            Replacement::Older(resource, texts) | Replacement::Unfit(resource, texts) => ReplacementItem::Older {
                resource: Octets::new(&resource.to_json()),
                texts: texts.iter().map(|(name, text)| (name.clone(), text.as_deref().map(Octets::new))).collect(),
                is_unfit: matches!(instead, Replacement::Unfit(..)),
            },
        }
    }

    fn instead(&self, kind: &str) -> io::Result<Replacement> {
        let ReplacementItem::Older { resource, texts, is_unfit } = self else { return Ok(Replacement::Nothing) };
        let (node, _) = document::read(&resource.decode()?, true);
        let Some(Some(Ok(resource))) = node.map(|node| Resource::read(kind, &node)) else {
            return Ok(Replacement::Nothing);
        };
        let texts = texts.iter().map(|(name, text)| Ok((name.clone(), text.as_ref().map(Octets::decode).transpose()?)));
        let texts = texts.collect::<io::Result<_>>()?;
        Ok(if *is_unfit { Replacement::Unfit(resource, texts) } else { Replacement::Older(resource, texts) })
    }
}

/// The whole state.
#[derive(Clone, Debug, Default)]
pub struct PersistedState {
    /// Resources that the source delivered.
    pub collection: Collection,
    /// Versions that are served instead of resources that are set aside.
    pub aside: Replacements,
    /// Resources that the source has deleted and that are still served. `aside` has the served
    /// versions.
    pub held: HeldDeletions,
    /// Position of the source.
    pub position: Position,
    /// Generation that was served.
    pub generation: u64,
    /// Whether the state directory was damaged. The state may then be older than the last
    /// acknowledged change.
    pub is_incomplete: bool,
}

impl PersistedState {
    /// Returns the entry that turns `old` into this state.
    pub fn entry_since(&self, old: &PersistedState) -> StateEntry {
        let aside = |key: &Key| self.aside.get(key).map(ReplacementItem::new);
        let changed = self.aside.keys().chain(old.aside.keys().filter(|key| !self.aside.contains_key(*key)));
        let changed = changed.filter(|key| aside(key) != old.aside.get(*key).map(ReplacementItem::new));
        let held = self.held.keys().chain(old.held.keys().filter(|key| !self.held.contains_key(*key)));
        let held = held.filter(|key| self.held.get(*key) != old.held.get(*key)).map(|key| HeldItem {
            kind: key.kind.into(),
            id: key.id.clone(),
            revision: self.held.get(key).copied(),
        });
        let edits = self.collection.edits_from(&old.collection);
        StateEntry {
            generation: self.generation,
            position: self.position.clone(),
            edits: edits.iter().map(|edit| EditItem::new(edit, &old.collection)).collect(),
            aside: changed
                .map(|key| AsideItem { kind: key.kind.into(), id: key.id.clone(), instead: aside(key) })
                .collect(),
            held: held.collect(),
            is_incomplete: self.is_incomplete,
        }
    }

    /// Returns entries that turn an empty state into this state, with at most [`MAX_EDITS`] edits
    /// each.
    pub fn entries(&self) -> impl Iterator<Item = StateEntry> {
        let mut all = self.entry_since(&PersistedState::default());
        let mut edits = std::mem::take(&mut all.edits).into_iter();
        let (generation, position, is_incomplete) = (all.generation, all.position.clone(), all.is_incomplete);
        let mut first = Some(all);
        std::iter::from_fn(move || {
            let edits: Vec<EditItem> = edits.by_ref().take(MAX_EDITS).collect();
            match first.take() {
                Some(all) => Some(StateEntry { edits, ..all }),
                None if edits.is_empty() => None,
                None => Some(StateEntry {
                    generation,
                    position: position.clone(),
                    edits,
                    is_incomplete,
                    ..StateEntry::default()
                }),
            }
        })
    }

    /// Applies an entry.
    ///
    /// # Errors
    ///
    /// The entry has text that is not Base64, or changes record sets that the state does not have. The state may then contain a
    /// part of the entry.
    pub fn add(&mut self, entry: &StateEntry) -> io::Result<()> {
        let edits = entry.edits.iter().map(|item| item.edit(&self.collection)).collect::<io::Result<Vec<_>>>()?;
        let edits: Vec<Edit> = edits.into_iter().flatten().collect();
        self.collection.apply(&edits);
        for item in &entry.aside {
            let Some(key) = Key::new(&item.kind, &item.id) else { continue };
            match &item.instead {
                Some(instead) => drop(self.aside.insert(key, instead.instead(&item.kind)?)),
                None => drop(self.aside.remove(&key)),
            }
        }
        for item in &entry.held {
            let Some(key) = Key::new(&item.kind, &item.id) else { continue };
            match item.revision {
                Some(revision) => drop(self.held.insert(key, revision)),
                None => drop(self.held.remove(&key)),
            }
        }
        self.generation = entry.generation;
        self.is_incomplete = entry.is_incomplete;
        self.position = entry.position.clone();
        Ok(())
    }
}
