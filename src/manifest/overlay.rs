//! The record sets that dynamic updates (RFC 2136) changed in a zone whose source cannot be
//! rewritten. They override the source.

use super::{Id, digest::Digest};
use crate::wire::Name;
use imbl::{OrdMap, ordmap::DiffItem};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// A record set after an update. It replaces the record set of the same owner and type in the
/// zone's source.
#[derive(Clone, Debug, PartialEq)]
pub struct EditedSet {
    /// The owner name.
    pub owner: Name,
    /// The number of the record type.
    pub rtype: u16,
    /// Time to live in seconds.
    pub ttl: u32,
    /// The data of its records, in uncompressed wire format. Empty if the update deleted the set.
    pub values: Vec<Box<[u8]>>,
}

/// All record sets of a zone that updates changed.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    sets: OrdMap<(Name, u16), Arc<EditedSet>>,
    octets: usize,
    digest: Digest,
}

/// The largest memory that the overlay of a zone can use, in octets.
pub const MAX_OCTETS: usize = 256 << 20;

/// The overlays of all zones, by the identifiers of the zones.
pub type Overlays = OrdMap<Id, Arc<Overlay>>;

impl EditedSet {
    /// The memory that the set uses, in octets. The owner counts twice: it is in the key too.
    fn octets(&self) -> usize {
        let values: usize = self.values.iter().map(|value| size_of::<Box<[u8]>>() + value.len()).sum();
        size_of::<EditedSet>() + 2 * self.owner.as_wire().len() + values
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.owner.as_wire());
        digest.update(self.rtype.to_be_bytes());
        digest.update(self.ttl.to_be_bytes());
        for value in &self.values {
            digest.update((value.len() as u64).to_be_bytes());
            digest.update(value);
        }
        digest.finalize().into()
    }
}

impl Overlay {
    /// Adds the record sets that an update changed.
    pub fn add(&mut self, sets: &[EditedSet]) {
        for set in sets {
            self.octets += set.octets();
            self.digest.add(&set.digest());
            if let Some(old) = self.sets.insert((set.owner.clone(), set.rtype), Arc::new(set.clone())) {
                self.octets -= old.octets();
                self.digest.remove(&old.digest());
            }
        }
    }

    /// The memory that the overlay uses, in octets.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// The record set of an owner and type. None if no update changed it.
    pub fn get(&self, owner: &Name, rtype: u16) -> Option<&EditedSet> {
        self.sets.get(&(owner.clone(), rtype)).map(|set| &**set)
    }

    /// Whether an update changed the record set of an owner and type.
    pub fn has(&self, owner: &Name, rtype: u16) -> bool {
        self.sets.contains_key(&(owner.clone(), rtype))
    }

    /// The record sets of a later overlay that differ from this overlay. None if the later overlay
    /// lacks a set of this one.
    pub fn changed<'a>(&'a self, later: &'a Overlay) -> Option<Vec<&'a EditedSet>> {
        let changed = self.sets.diff(&later.sets).map(|item| match item {
            DiffItem::Add(_, new) | DiffItem::Update { new: (_, new), .. } => Some(&**new),
            DiffItem::Remove(..) => None,
        });
        changed.collect()
    }

    /// All record sets.
    pub fn sets(&self) -> impl Iterator<Item = &EditedSet> {
        self.sets.values().map(|set| &**set)
    }

    /// The number of record sets.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether the overlay is empty.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
}

/// The digest of a manifest with its overlays. It is the digest of the manifest if there are no
/// overlays.
pub fn digest_with(manifest: [u8; 32], overlays: &Overlays) -> [u8; 32] {
    if overlays.is_empty() {
        return manifest;
    }
    let mut digest = Sha256::new();
    digest.update(manifest);
    for (id, overlay) in overlays {
        digest.update((id.len() as u64).to_be_bytes());
        digest.update(id);
        digest.update(overlay.digest.octets());
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_memory_of_record_sets() {
        let set = |owner: &str, values: usize| EditedSet {
            owner: Name::absolute(owner).unwrap(),
            rtype: 1,
            ttl: 60,
            values: vec![[0; 4][..].into(); values],
        };
        let (one, many) = (set("a.example", 1), set("a.example", 9));
        let mut overlay = Overlay::default();
        overlay.add(&[one.clone(), set("b.example", 2)]);
        let first = overlay.octets();
        overlay.add(std::slice::from_ref(&many));
        assert_eq!(overlay.octets() - first, 8 * 20);
        overlay.add(&[one, set("b.example", 2)]);
        assert_eq!(overlay.octets(), first);
    }
}
