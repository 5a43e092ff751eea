//! The record sets of a zone: a list whose versions share the parts that are equal.
//!
//! ```text
//! RecordSets -> [chunk, chunk, …]
//! chunk      -> [set, set, …, set]   the last set ends the chunk: 7 bits of its hash are zero
//! ```
//! A change copies a chunk, which has about 128 sets, and computes the digest of that chunk.
//!
//! Invariant: the sets alone decide where chunks end, not the changes that led to them. So equal
//! lists have equal chunks, and [`RecordSets::digest`] is equal for equal lists. If someone chooses
//! the names of a zone so that no set ends a chunk, the zone has one large chunk, and its changes are
//! slower.

use super::{ResourceRecordSet, work};
use crate::wire::{Name, rdata::type_from_text};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    fmt, slice,
    sync::{Arc, OnceLock},
};

/// The bits of a set's hash that are zero if the set ends a chunk.
const CHUNK_MASK: u64 = 0x7f;
/// The number of chunks in which the comparison of two lists searches the next shared chunk.
const MAX_SEARCHED: usize = 32;

/// The record sets of a zone, in the order of the resource.
#[derive(Clone, Default)]
pub struct RecordSets {
    chunks: Vec<Arc<Chunk>>,
    /// The index of a zone of this name: its sets by their keys.
    by_key: OnceLock<(Name, SetsByKey)>,
}

/// Owner and type of a record set.
pub type SetKey = (Name, u16);
type SetsByKey = imbl::HashMap<SetKey, Vec<Arc<ResourceRecordSet>>>;

struct Chunk {
    sets: Vec<Arc<ResourceRecordSet>>,
    has_protected: bool,
    digest: OnceLock<[u8; 32]>,
}

/// A run of record sets that differs between two versions of a list.
#[derive(Debug)]
pub struct ChangedRun<'a> {
    /// The position in the old list.
    pub old_at: usize,
    /// The position in the new list.
    pub new_at: usize,
    /// The sets that only the old list has.
    pub gone: Vec<&'a Arc<ResourceRecordSet>>,
    /// The sets that only the new list has.
    pub came: Vec<&'a Arc<ResourceRecordSet>>,
}

/// Returns the owner and the type of a record set in a zone of the name `apex`. None if one of them is invalid.
pub fn key_of(apex: &Name, set: &ResourceRecordSet) -> Option<SetKey> {
    let name = Name::parse(set.name.as_bytes(), Some(apex)).ok()?;
    Some((name, type_from_text(&set.record_type)?))
}

/// Whether a set is the last one of its chunk. Depends on its name, type and identifier, by the hash FNV-1a.
fn ends_chunk(set: &ResourceRecordSet) -> bool {
    let identifier = set.set_identifier.as_deref().unwrap_or_default();
    let parts: [&str; 5] = [&set.name, "\0", &set.record_type, "\0", identifier];
    let octets = parts.iter().flat_map(|part| part.bytes());
    let hash =
        octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ hash >> 32) & CHUNK_MASK == 0
}

impl Chunk {
    fn new(sets: Vec<Arc<ResourceRecordSet>>) -> Arc<Chunk> {
        let has_protected = sets.iter().any(|set| set.protected);
        Arc::new(Chunk { sets, has_protected, digest: OnceLock::new() })
    }

    fn is_open(&self) -> bool {
        self.sets.last().is_some_and(|last| !ends_chunk(last))
    }

    /// SHA-256 over the JSON texts of the sets, each after its length.
    fn digest(&self) -> &[u8; 32] {
        self.digest.get_or_init(|| {
            work::count(self.sets.len());
            let (mut digest, mut text) = (Sha256::new(), Vec::new());
            for set in &self.sets {
                text.clear();
                // Writing to memory cannot fail.
                let _ = serde_json::to_writer(&mut text, set);
                digest.update((text.len() as u64).to_be_bytes());
                digest.update(&text);
            }
            digest.finalize().into()
        })
    }
}

/// Divides sets into chunks.
fn chunks_of(sets: impl IntoIterator<Item = Arc<ResourceRecordSet>>) -> Vec<Arc<Chunk>> {
    let (mut chunks, mut open) = (Vec::new(), Vec::new());
    for set in sets {
        let is_end = ends_chunk(&set);
        open.push(set);
        if is_end {
            chunks.push(Chunk::new(std::mem::take(&mut open)));
        }
    }
    if !open.is_empty() {
        chunks.push(Chunk::new(open));
    }
    chunks
}

impl RecordSets {
    /// The number of sets.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.sets.len()).sum()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// All sets, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { chunks: self.chunks.iter(), sets: slice::Iter::default() }
    }

    /// The protected sets.
    pub fn protected(&self) -> impl Iterator<Item = &Arc<ResourceRecordSet>> {
        let chunks = self.chunks.iter().filter(|chunk| chunk.has_protected);
        chunks.flat_map(|chunk| &chunk.sets).filter(|set| set.protected)
    }

    /// A digest of the list: SHA-256 over the digests of its chunks.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        self.chunks.iter().for_each(|chunk| digest.update(chunk.digest()));
        digest.finalize().into()
    }

    // Sets by key

    /// The sets with this owner and type, in a zone of the name `apex`. Without an index, this looks at all sets.
    pub fn of_key(&self, apex: &Name, key: &SetKey) -> Vec<Arc<ResourceRecordSet>> {
        match self.by_key.get() {
            Some((known, sets)) if known == apex => sets.get(key).cloned().unwrap_or_default(),
            _ => self.keyed(apex).remove(key).unwrap_or_default(),
        }
    }

    /// Makes an index of the sets of a zone of the name `apex`. Later versions of the list have it too.
    pub fn index(&self, apex: &Name) {
        self.by_key.get_or_init(|| (apex.clone(), self.keyed(apex)));
    }

    /// Whether there is an index for a zone of the name `apex`.
    pub fn is_indexed(&self, apex: &Name) -> bool {
        self.by_key.get().is_some_and(|(known, _)| known == apex)
    }

    fn keyed(&self, apex: &Name) -> SetsByKey {
        let mut all = SetsByKey::default();
        for set in self.iter() {
            work::count(1);
            if let Some(key) = key_of(apex, set) {
                all.entry(key).or_default().push(set.clone());
            }
        }
        all
    }

    // Changes

    /// Adds a set at the end.
    pub fn push(&mut self, set: Arc<ResourceRecordSet>) {
        self.splice(self.len(), 0, [set]);
    }

    /// Puts `new` in the position of `old`, or at the end if there is no `old`. Without `new`, removes `old`.
    pub fn replace(&mut self, old: Option<&Arc<ResourceRecordSet>>, new: Option<Arc<ResourceRecordSet>>) {
        let position = match old {
            Some(old) => self.position(old),
            None => self.locate(self.len()),
        };
        if let Some((chunk, at)) = position {
            self.splice_chunk(chunk, at, usize::from(old.is_some()), new);
        }
    }

    /// Puts `added` in the place of `removed` sets from the position `at` on. Returns false, and changes nothing, if the list
    /// does not have these sets.
    pub fn splice(
        &mut self,
        at: usize,
        removed: usize,
        added: impl IntoIterator<Item = Arc<ResourceRecordSet>>,
    ) -> bool {
        let is_in_list = at.checked_add(removed).is_some_and(|end| end <= self.len());
        let position = if is_in_list { self.locate(at) } else { None };
        let Some((chunk, at)) = position else { return false };
        self.splice_chunk(chunk, at, removed, added);
        true
    }

    /// The number of the chunk that a position is in, and the position in this chunk. The end of the list is in the last
    /// chunk, if no set ends it.
    fn locate(&self, at: usize) -> Option<(usize, usize)> {
        let mut rest = at;
        for (number, chunk) in self.chunks.iter().enumerate() {
            let is_in_open_end = rest == chunk.sets.len() && number + 1 == self.chunks.len() && chunk.is_open();
            if rest < chunk.sets.len() || is_in_open_end {
                return Some((number, rest));
            }
            rest -= chunk.sets.len();
        }
        (rest == 0).then_some((self.chunks.len(), 0))
    }

    /// The chunk of a set, and its position in this chunk.
    fn position(&self, set: &Arc<ResourceRecordSet>) -> Option<(usize, usize)> {
        let in_chunk = |chunk: &Arc<Chunk>| chunk.sets.iter().position(|other| Arc::ptr_eq(other, set));
        self.chunks.iter().enumerate().find_map(|(number, chunk)| Some((number, in_chunk(chunk)?)))
    }

    /// Divides the sets from chunk `first` on into chunks again, up to the first chunk that the change does not concern.
    fn splice_chunk(
        &mut self,
        first: usize,
        at: usize,
        removed: usize,
        added: impl IntoIterator<Item = Arc<ResourceRecordSet>>,
    ) {
        let (mut sets, mut end) = (Vec::new(), first);
        while end < self.chunks.len() && (end == first || sets.len() < at + removed) {
            sets.extend_from_slice(&self.chunks[end].sets);
            end += 1;
        }
        let added: Vec<Arc<ResourceRecordSet>> = added.into_iter().collect();
        let gone: Vec<_> = sets.splice(at..at + removed, added.iter().cloned()).collect();
        // A chunk that has lost its end continues with the next one.
        while end < self.chunks.len() && sets.last().is_some_and(|last| !ends_chunk(last)) {
            sets.extend_from_slice(&self.chunks[end].sets);
            end += 1;
        }
        work::count(sets.len());
        drop(self.chunks.splice(first..end, chunks_of(sets)));
        self.follow(&gone, &added);
    }

    /// Removes sets from the index, and adds others.
    fn follow(&mut self, gone: &[Arc<ResourceRecordSet>], came: &[Arc<ResourceRecordSet>]) {
        let Some((apex, by_key)) = self.by_key.get_mut() else { return };
        for (set, key) in gone.iter().filter_map(|set| Some((set, key_of(apex, set)?))) {
            let sets = by_key.entry(key.clone()).or_default();
            if let Some(at) = sets.iter().position(|other| Arc::ptr_eq(other, set)) {
                sets.remove(at);
            }
            if sets.is_empty() {
                by_key.remove(&key);
            }
        }
        for (set, key) in came.iter().filter_map(|set| Some((set, key_of(apex, set)?))) {
            by_key.entry(key).or_default().push(set.clone());
        }
    }

    /// Whether the list is known to share chunks with an older version, or is empty.
    pub fn shares(&self, old: &RecordSets) -> bool {
        let (before, after) = until_shared(&old.chunks, &self.chunks);
        self.is_empty() || before < old.chunks.len() && after < self.chunks.len()
    }

    /// The same list, which shares the equal parts of an older version. Compares all sets.
    pub fn sharing(&self, old: &RecordSets) -> RecordSets {
        let mut shared = old.clone();
        // The positions are those in the old list, so the last run comes first.
        for run in self.changes_since(old).into_iter().rev() {
            shared.splice(run.old_at, run.gone.len(), run.came.into_iter().cloned());
        }
        shared
    }

    // Differences

    /// The runs of sets that differ from an older version. If both versions share chunks, the cost depends on the difference
    /// only. A run may have equal sets at other positions.
    pub fn changes_since<'a>(&'a self, old: &'a RecordSets) -> Vec<ChangedRun<'a>> {
        let (mut left, mut right) = (&old.chunks[..], &self.chunks[..]);
        let (mut old_at, mut new_at, mut runs) = (0, 0, Vec::new());
        while !left.is_empty() || !right.is_empty() {
            let (before, after) = until_shared(left, right);
            if before + after > 0 {
                let [gone, came] = [&left[..before], &right[..after]].map(|chunks| {
                    chunks.iter().flat_map(|chunk| &chunk.sets).collect::<Vec<&Arc<ResourceRecordSet>>>()
                });
                compare((old_at, &gone), (new_at, &came), &mut runs);
                (old_at, new_at) = (old_at + gone.len(), new_at + came.len());
                (left, right) = (&left[before..], &right[after..]);
            }
            // Both lists go on with the same chunk, or end.
            if let (Some((shared, left_rest)), Some((_, right_rest))) = (left.split_first(), right.split_first()) {
                (old_at, new_at) = (old_at + shared.sets.len(), new_at + shared.sets.len());
                (left, right) = (left_rest, right_rest);
            }
        }
        runs
    }
}

/// The numbers of chunks in front of the first shared chunk of two lists. All chunks, if no shared one is near.
fn until_shared(left: &[Arc<Chunk>], right: &[Arc<Chunk>]) -> (usize, usize) {
    for sum in 0..=2 * MAX_SEARCHED {
        for before in sum.saturating_sub(MAX_SEARCHED)..=sum.min(MAX_SEARCHED) {
            let after = sum - before;
            if let (Some(one), Some(other)) = (left.get(before), right.get(after))
                && Arc::ptr_eq(one, other)
            {
                return (before, after);
            }
        }
    }
    (left.len(), right.len())
}

/// Whether two sets have the same content, including the case of names.
fn is_same(one: &Arc<ResourceRecordSet>, other: &Arc<ResourceRecordSet>) -> bool {
    fn target(set: &ResourceRecordSet) -> Option<&[u8]> {
        set.alias.as_ref().map(|alias| alias.name.as_wire())
    }
    Arc::ptr_eq(one, other) || one == other && target(one) == target(other)
}

/// Adds the differing runs of two parts of lists.
fn compare<'a>(
    (old_at, left): (usize, &[&'a Arc<ResourceRecordSet>]),
    (new_at, right): (usize, &[&'a Arc<ResourceRecordSet>]),
    runs: &mut Vec<ChangedRun<'a>>,
) {
    let (mut before, mut after, mut is_in_run) = (0, 0, false);
    while before < left.len() || after < right.len() {
        let (one, other) = (left.get(before).copied(), right.get(after).copied());
        let (gone, came) = match (one, other) {
            (Some(one), Some(other)) => {
                if is_same(one, other) {
                    (before, after, is_in_run) = (before + 1, after + 1, false);
                    continue;
                }
                let is_next = right.get(after + 1).is_some_and(|next| is_same(next, one));
                let is_of_same = (&one.name, &one.record_type) == (&other.name, &other.record_type);
                (Some(one).filter(|_| !is_next), Some(other).filter(|_| is_next || is_of_same))
            }
            ends => ends,
        };
        work::count(1);
        if !std::mem::replace(&mut is_in_run, true) {
            let (gone, came) = (Vec::new(), Vec::new());
            runs.push(ChangedRun { old_at: old_at + before, new_at: new_at + after, gone, came });
        }
        if let Some(run) = runs.last_mut() {
            (before, after) = (before + usize::from(gone.is_some()), after + usize::from(came.is_some()));
            run.gone.extend(gone);
            run.came.extend(came);
        }
    }
}

/// An iterator over record sets.
pub struct Iter<'a> {
    chunks: slice::Iter<'a, Arc<Chunk>>,
    /// The rest of the current chunk.
    sets: slice::Iter<'a, Arc<ResourceRecordSet>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Arc<ResourceRecordSet>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(set) = self.sets.next() {
                return Some(set);
            }
            self.sets = self.chunks.next()?.sets.iter();
        }
    }
}

impl<'a> IntoIterator for &'a RecordSets {
    type Item = &'a Arc<ResourceRecordSet>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<Arc<ResourceRecordSet>> for RecordSets {
    fn from_iter<I: IntoIterator<Item = Arc<ResourceRecordSet>>>(sets: I) -> RecordSets {
        RecordSets { chunks: chunks_of(sets), by_key: OnceLock::new() }
    }
}

impl PartialEq for RecordSets {
    fn eq(&self, other: &RecordSets) -> bool {
        let is_equal = |(one, other): (&Arc<Chunk>, &Arc<Chunk>)| Arc::ptr_eq(one, other) || one.sets == other.sets;
        self.chunks.len() == other.chunks.len() && self.chunks.iter().zip(&other.chunks).all(is_equal)
    }
}

impl fmt::Debug for RecordSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl Serialize for RecordSets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for RecordSets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RecordSets, D::Error> {
        Ok(Vec::<Arc<ResourceRecordSet>>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl JsonSchema for RecordSets {
    fn inline_schema() -> bool {
        Vec::<ResourceRecordSet>::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        Vec::<ResourceRecordSet>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<ResourceRecordSet>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests;
