//! Changes of the table: a batch of entries of one list replaces its entries for some names.

use super::{
    Entry, Lists,
    front::Front,
    packed,
    posting::{Posting, Postings},
    shard::{Built, Hashes, ListSet, MAX_RECORDS, Shard, write_record},
};
use std::{fmt, sync::Arc, thread::yield_now};

/// The names whose entries of the list a batch replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Of `count` parts of all names, the part with this number. `count` is a power of two.
    Part {
        /// The number of the part, from 0.
        number: u32,
        /// The number of parts.
        count: u32,
    },
    /// The names that are in the batch.
    Names,
}

impl Extent {
    /// All names.
    pub const ALL: Extent = Extent::Part { number: 0, count: 1 };

    fn contains(self, hash: u64) -> bool {
        match self {
            Extent::Part { number, count } => ((u128::from(hash) * u128::from(count)) >> 64) as u32 == number,
            Extent::Names => true,
        }
    }
}

/// One name has too many different entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyNames;

impl fmt::Display for TooManyNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one name has more than 4096 different entries; remove those that are not needed")
    }
}

impl std::error::Error for TooManyNames {}

/// Entries of one list.
#[derive(Debug)]
pub struct Batch {
    list: u32,
    extent: Extent,
    /// The number of names that the list will have in all.
    expected: u64,
    /// The packed names, each with at most one posting.
    octets: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    hash: u64,
    at: usize,
    labels: u8,
    /// The entries of the list for this name go.
    is_removal: bool,
}

impl Batch {
    /// An empty batch of entries of a list that will have about `expected` names.
    pub fn new(list: u32, extent: Extent, expected: u64) -> Batch {
        let items = match extent {
            Extent::Part { count, .. } => expected / u64::from(count.max(1)),
            Extent::Names => 0,
        };
        // Hashes are random: parts differ little in size.
        let items = (items + items / 32).min(MAX_RESERVED) as usize;
        Batch { list, extent, expected, octets: Vec::with_capacity(items * 32), items: Vec::with_capacity(items) }
    }

    /// Adds an entry, if its name is within the extent.
    pub fn add(&mut self, entry: &Entry) {
        let Some(hashes) = Hashes::new(entry.name).filter(|hashes| self.extent.contains(hashes.name)) else { return };
        let posting = Posting { list: self.list, scope: entry.scope, line: entry.line, detail: entry.detail };
        self.push(entry.name, hashes, Some(posting));
    }

    /// Removes all entries of the list for a name, before those that the batch adds.
    pub fn remove(&mut self, name: &[u8]) {
        if let Some(hashes) = Hashes::new(name) {
            self.push(name, hashes, None);
        }
    }

    fn push(&mut self, name: &[u8], hashes: Hashes, posting: Option<Posting>) {
        let at = self.octets.len();
        self.items.push(Item { hash: hashes.name, at, labels: hashes.labels, is_removal: posting.is_none() });
        packed::pack(name, &mut self.octets);
        if let Some(posting) = posting {
            posting.write(false, &mut self.octets);
        }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The packed name at an offset.
    fn name(&self, at: usize) -> &[u8] {
        let octets = &self.octets[at..];
        &octets[..packed::len(octets).unwrap_or_default()]
    }
}

/// The largest number of entries that a new batch has memory for.
const MAX_RESERVED: u64 = 1 << 22;
/// The largest number of different entries of a name.
const MAX_POSTINGS: usize = 4096;
/// A shard with more names is divided.
const MAX_NAMES: usize = 3072;
/// The number of items that are processed before another thread may run, which may have to answer a query.
const ITEMS_PER_TURN: usize = 1024;
/// More names are built in several steps.
const NAMES_OF_STEP: usize = 16 * MAX_NAMES;
/// A shard with larger records is divided.
const DIVIDED_OCTETS: usize = MAX_RECORDS / 2;
/// The largest number of first bits that the hashes of a shard share.
const MAX_DEPTH: u8 = 24;

/// A name of a shard that is built: from the old shard, or from the batch.
#[derive(Clone, Copy)]
struct Source<'s> {
    hash: u64,
    /// The packed name.
    name: &'s [u8],
    labels: u8,
    origin: Origin<'s>,
}

#[derive(Clone, Copy)]
enum Origin<'s> {
    Shard(&'s Postings<'s>),
    Batch { postings: &'s [u8], is_removal: bool },
}

/// A record, as a place in the octets of all records.
struct Record {
    hash: u64,
    labels: u8,
    lists: ListSet,
    from: usize,
    to: usize,
}

impl Lists {
    /// Estimates the work of replacing the entries of a list by `entries` new entries: the number of names that the table has
    /// to write again. A shard is written as a whole, so the names of other lists in its shards count too.
    pub fn rebuilt_names(&self, list: u32, entries: u64) -> u64 {
        let with_list = self.shards().map(|(_, shard)| shard).filter(|shard| shard.lists.has(list));
        let old: u64 = with_list.map(|shard| u64::from(shard.names)).sum();
        self.names.min(entries.saturating_mul(MAX_NAMES as u64)).max(old)
    }

    /// These lists with the entries of a batch. Shards that the batch does not concern are shared.
    ///
    /// # Errors
    ///
    /// If one name has too many different entries.
    pub fn with_batch(&self, batch: &mut Batch) -> Result<Lists, TooManyNames> {
        // In the order of names, entries keep their order. The last sort merges the sorted chunks.
        for chunk in batch.items.chunks_mut(ITEMS_PER_TURN) {
            chunk.sort_by_key(|item| item.hash);
            yield_now();
        }
        batch.items.sort_by_key(|item| item.hash);
        let front = self.front_with(batch);
        let mut shards: Vec<(u64, Shard)> = Vec::new();
        let mut items = &batch.items[..];
        for (index, old) in self.shards() {
            let (first, last) = self.hashes_of(index, old.depth);
            let (ours, rest) = items.split_at(items.partition_point(|item| item.hash <= last));
            items = rest;
            let has_old_entries = match batch.extent {
                Extent::Names => false,
                Extent::Part { .. } => old.lists.has(batch.list) && batch.extent.meets(first, last),
            };
            match has_old_entries || !ours.is_empty() {
                true => {
                    rebuild(first, old, batch, ours, &mut shards)?;
                    yield_now();
                }
                false => shards.push((first, old.clone())),
            }
        }
        let bits = shards.iter().map(|(_, shard)| u32::from(shard.depth)).max().unwrap_or_default();
        let mut directory = Vec::with_capacity(1 << bits);
        for (_, shard) in &shards {
            directory.extend(std::iter::repeat_n(shard, 1 << (bits - u32::from(shard.depth))).cloned());
        }
        Ok(Lists {
            front,
            directory: directory.into(),
            bits,
            depths: shards.iter().fold(0, |depths, (_, shard)| depths | shard.depths),
            names: shards.iter().map(|(_, shard)| u64::from(shard.names)).sum(),
            lists: self.lists.clone(),
            servers_version: self.servers_version,
        })
    }

    /// The first and the last hash of a shard.
    fn hashes_of(&self, index: usize, depth: u8) -> (u64, u64) {
        let first = (index as u64).checked_shl(64 - self.bits).unwrap_or_default();
        (first, first | u64::MAX.checked_shr(u32::from(depth)).unwrap_or_default())
    }

    /// The filter, with the names of a batch.
    fn front_with(&self, batch: &Batch) -> Arc<Front> {
        let front = match self.front.has_room(batch.items.len() as u64) {
            true => self.front.clone(),
            false => {
                let capacity = self.names + batch.expected.max(batch.items.len() as u64);
                let front = Front::new(capacity + capacity / 4);
                for (name, _) in self.shards().flat_map(|(_, shard)| shard.records()) {
                    Hashes::of_packed(name)
                        .and_then(|hashes| hashes.front)
                        .into_iter()
                        .for_each(|hash| front.add(hash));
                }
                Arc::new(front)
            }
        };
        for chunk in batch.items.chunks(ITEMS_PER_TURN) {
            for item in chunk.iter().filter(|item| !item.is_removal) {
                let hashes = Hashes::of_packed(batch.name(item.at));
                hashes.and_then(|hashes| hashes.front).into_iter().for_each(|hash| front.add(hash));
            }
            yield_now();
        }
        front
    }
}

impl Extent {
    /// Whether it has hashes from `first` to `last`.
    fn meets(self, first: u64, last: u64) -> bool {
        match self {
            Extent::Part { number, count } => {
                let part = |hash: u64| ((u128::from(hash) * u128::from(count)) >> 64) as u32;
                part(first) <= number && number <= part(last)
            }
            Extent::Names => true,
        }
    }
}

/// A record of an old shard: the hashes of its name, the packed name, and its postings.
type OldRecord<'s> = (Hashes, &'s [u8], Postings<'s>);

/// Builds the shards of the hashes of an old shard, from `first` on. Many names are built in several steps, so that there is
/// memory for those of one step only.
fn rebuild(
    first: u64,
    old: &Shard,
    batch: &Batch,
    mut items: &[Item],
    shards: &mut Vec<(u64, Shard)>,
) -> Result<(), TooManyNames> {
    let olds: Vec<OldRecord> =
        old.records().filter_map(|(name, postings)| Some((Hashes::of_packed(name)?, name, postings))).collect();
    let bits = ((olds.len() + items.len()) / NAMES_OF_STEP).checked_ilog2().map_or(0, |bits| bits as u8 + 1);
    let depth = (old.depth + bits).min(MAX_DEPTH.max(old.depth));
    let mut olds = &olds[..];
    for step in 0..1u64 << (depth - old.depth) {
        let first = first | step.checked_shl(64 - u32::from(depth)).unwrap_or_default();
        let last = first | u64::MAX.checked_shr(depth.into()).unwrap_or_default();
        let (our_olds, later_olds) = olds.split_at(olds.partition_point(|(hashes, ..)| hashes.name <= last));
        let (our_items, later_items) = items.split_at(items.partition_point(|item| item.hash <= last));
        (olds, items) = (later_olds, later_items);
        rebuild_step(first, depth, our_olds, batch, our_items, shards)?;
    }
    Ok(())
}

fn rebuild_step(
    first: u64,
    depth: u8,
    olds: &[OldRecord],
    batch: &Batch,
    items: &[Item],
    shards: &mut Vec<(u64, Shard)>,
) -> Result<(), TooManyNames> {
    let from_old = olds.iter().map(|(hashes, name, postings)| Source {
        hash: hashes.name,
        name,
        labels: hashes.labels,
        origin: Origin::Shard(postings),
    });
    let from_batch = items.iter().map(|item| {
        let name = batch.name(item.at);
        let postings = &batch.octets[item.at + name.len()..];
        Source {
            hash: item.hash,
            name,
            labels: item.labels,
            origin: Origin::Batch { postings, is_removal: item.is_removal },
        }
    });
    let mut sources: Vec<Source> = from_old.chain(from_batch).collect();
    // The sort is stable: within one name, the old shard is first.
    sources.sort_by(|a, b| a.hash.cmp(&b.hash).then_with(|| a.name.cmp(b.name)));
    let (mut octets, mut records) = (Vec::new(), Vec::new());
    let mut postings = Vec::new();
    for group in sources.chunk_by(|a, b| a.hash == b.hash && a.name == b.name) {
        postings.clear();
        merge(group, batch, &mut postings)?;
        let Some(source) = group.first().filter(|_| !postings.is_empty()) else { continue };
        let from = octets.len();
        write_record(source.name, &postings, &mut octets);
        let mut lists = ListSet::default();
        postings.iter().for_each(|posting| lists.add(posting.list));
        records.push(Record { hash: source.hash, labels: source.labels, lists, from, to: octets.len() });
    }
    divide(first, depth, &records, &octets, shards)
}

/// The postings of a name: those of the old shard that stay, then those of the batch, each once.
fn merge(group: &[Source], batch: &Batch, postings: &mut Vec<Posting>) -> Result<(), TooManyNames> {
    let is_removed = match batch.extent {
        Extent::Part { .. } => group.first().is_some_and(|source| batch.extent.contains(source.hash)),
        Extent::Names => group.iter().any(|source| matches!(source.origin, Origin::Batch { is_removal: true, .. })),
    };
    for source in group {
        match source.origin {
            Origin::Shard(old) => {
                postings.extend(old.clone().filter(|posting| !is_removed || posting.list != batch.list));
            }
            Origin::Batch { is_removal: true, .. } => {}
            Origin::Batch { postings: new, .. } => {
                for posting in Postings::new(new) {
                    let is_same = |other: &Posting| {
                        (other.list, other.scope, other.detail) == (posting.list, posting.scope, posting.detail)
                    };
                    if !postings.iter().any(is_same) {
                        postings.push(posting);
                    }
                    if postings.len() > MAX_POSTINGS {
                        return Err(TooManyNames);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Makes one shard of records, or several if they are too many. The records are in the order of their hashes.
fn divide(
    first: u64,
    depth: u8,
    records: &[Record],
    octets: &[u8],
    shards: &mut Vec<(u64, Shard)>,
) -> Result<(), TooManyNames> {
    let size: usize = records.iter().map(|record| record.to - record.from).sum();
    let is_large = records.len() > MAX_NAMES || size > DIVIDED_OCTETS;
    if !is_large || depth >= MAX_DEPTH {
        if size >= MAX_RECORDS {
            return Err(TooManyNames);
        }
        let built = |record: &Record| Built {
            hash: record.hash,
            labels: record.labels,
            lists: record.lists,
            octets: &octets[record.from..record.to],
        };
        shards.push((first, Shard::new(depth, &records.iter().map(built).collect::<Vec<_>>())));
        return Ok(());
    }
    let middle = first | 1 << (63 - depth);
    let (lower, upper) = records.split_at(records.partition_point(|record| record.hash < middle));
    divide(first, depth + 1, lower, octets, shards)?;
    divide(middle, depth + 1, upper, octets, shards)
}
