//! What is kept in the state directory, for a start without the control plane: all that was delivered, and what is served
//! in the place of what is set aside.

use super::{change::Position, guard::Held};
use crate::manifest::{
    Resource,
    collection::{Aside, Collection, Edit, Instead, Key},
    document,
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use std::{io, sync::Arc};

/// Edits in one entry of a base.
const PIECE: usize = 1000;

/// What one change adds to what is kept.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The generation that it is served in.
    pub generation: u64,
    /// How far the source has come with it.
    pub position: Position,
    /// What becomes of what was delivered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    edits: Vec<Item>,
    /// What is served instead of something: all that has changed in that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aside: Vec<AsideItem>,
    /// Deletions that are held: all that has changed in that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<HeldItem>,
    /// Some of what came before was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_incomplete: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    kind: String,
    id: String,
    #[serde(flatten)]
    text: Option<Text>,
}

/// Octets; none of both: it is gone.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Text {
    Text(String),
    Base64(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct AsideItem {
    kind: String,
    id: String,
    instead: Option<InsteadItem>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct HeldItem {
    kind: String,
    id: String,
    /// The revision of the deletion; none: it is not held any more.
    revision: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum InsteadItem {
    Nothing,
    Older {
        resource: Text,
        texts: Vec<(String, Option<Text>)>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_unfit: bool,
    },
}

impl Text {
    fn new(octets: &[u8]) -> Text {
        match std::str::from_utf8(octets) {
            Ok(text) => Text::Text(text.into()),
            Err(_) => Text::Base64(BASE64.encode(octets)),
        }
    }

    fn octets(&self) -> io::Result<Arc<[u8]>> {
        match self {
            Text::Text(text) => Ok(text.as_bytes().into()),
            Text::Base64(text) => Ok(BASE64.decode(text.as_bytes()).map_err(io::Error::other)?.into()),
        }
    }
}

impl Item {
    fn new(edit: &Edit) -> Item {
        let text = edit.value.as_deref().map(Text::new);
        Item { kind: edit.key.kind.into(), id: edit.key.id.clone(), text }
    }

    /// None: it is of a kind that this version does not know.
    fn edit(&self) -> io::Result<Option<Edit>> {
        let Some(key) = Key::new(&self.kind, &self.id) else { return Ok(None) };
        Ok(Some(Edit { key, value: self.text.as_ref().map(Text::octets).transpose()? }))
    }
}

impl InsteadItem {
    fn new(instead: &Instead) -> InsteadItem {
        match instead {
            Instead::Nothing => InsteadItem::Nothing,
            Instead::Older(resource, texts) | Instead::Unfit(resource, texts) => InsteadItem::Older {
                resource: Text::new(&resource.to_json()),
                texts: texts.iter().map(|(name, text)| (name.clone(), text.as_deref().map(Text::new))).collect(),
                is_unfit: matches!(instead, Instead::Unfit(..)),
            },
        }
    }

    fn instead(&self, kind: &str) -> io::Result<Instead> {
        let InsteadItem::Older { resource, texts, is_unfit } = self else { return Ok(Instead::Nothing) };
        let (node, _) = document::read(&resource.octets()?, true);
        let Some(Some(Ok(resource))) = node.map(|node| Resource::read(kind, &node)) else {
            return Ok(Instead::Nothing);
        };
        let texts = texts.iter().map(|(name, text)| Ok((name.clone(), text.as_ref().map(Text::octets).transpose()?)));
        let texts = texts.collect::<io::Result<_>>()?;
        Ok(if *is_unfit { Instead::Unfit(resource, texts) } else { Instead::Older(resource, texts) })
    }
}

/// All that is kept.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// What was delivered.
    pub collection: Collection,
    /// What is set aside.
    pub aside: Aside,
    /// What the source has deleted and is served for the time being. What is served of it is in `aside`.
    pub held: Held,
    /// How far the source had come.
    pub position: Position,
    /// The generation that was served.
    pub generation: u64,
    /// Some of what was acknowledged was lost, as the state directory was damaged: all this may be older than it should be.
    pub is_incomplete: bool,
}

impl Kept {
    /// What has to be added to `old` to make it this.
    pub fn since(&self, old: &Kept) -> Entry {
        let aside = |key: &Key| self.aside.get(key).map(InsteadItem::new);
        let changed = self.aside.keys().chain(old.aside.keys().filter(|key| !self.aside.contains_key(*key)));
        let changed = changed.filter(|key| aside(key) != old.aside.get(*key).map(InsteadItem::new));
        let held = self.held.keys().chain(old.held.keys().filter(|key| !self.held.contains_key(*key)));
        let held = held.filter(|key| self.held.get(*key) != old.held.get(*key)).map(|key| HeldItem {
            kind: key.kind.into(),
            id: key.id.clone(),
            revision: self.held.get(key).copied(),
        });
        Entry {
            generation: self.generation,
            position: self.position.clone(),
            edits: self.collection.edits_from(&old.collection).iter().map(Item::new).collect(),
            aside: changed
                .map(|key| AsideItem { kind: key.kind.into(), id: key.id.clone(), instead: aside(key) })
                .collect(),
            held: held.collect(),
            is_incomplete: self.is_incomplete,
        }
    }

    /// All of it, as entries one after the other.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut all = self.since(&Kept::default());
        let mut edits = std::mem::take(&mut all.edits).into_iter();
        let (generation, position, is_incomplete) = (all.generation, all.position.clone(), all.is_incomplete);
        let mut first = Some(all);
        std::iter::from_fn(move || {
            let edits: Vec<Item> = edits.by_ref().take(PIECE).collect();
            match first.take() {
                Some(all) => Some(Entry { edits, ..all }),
                None if edits.is_empty() => None,
                None => {
                    Some(Entry { generation, position: position.clone(), edits, is_incomplete, ..Entry::default() })
                }
            }
        })
    }

    /// Takes in an entry.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        let edits: Vec<Option<Edit>> = entry.edits.iter().map(Item::edit).collect::<io::Result<_>>()?;
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
