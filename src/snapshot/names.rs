//! Maps from names to values: hash tables that find suffixes of a name, with hashes that are made once per query.

use crate::wire::query::{LookupName, name_hash};
use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

/// An open-addressing hash table of numbers. The owner of the table keeps the names. A search usually reads one slot (8
/// octets; half of the slots are free) and one name.
#[derive(Clone, Debug, Default)]
pub struct Table {
    slots: Arc<[Slot]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The upper half of the hash.
    tag: u32,
    /// The number; [`FREE`] in a free slot.
    number: u32,
}

const FREE: u32 = u32::MAX;

impl Table {
    /// Makes a table of numbers by their hashes. No number may be `u32::MAX`.
    pub fn new(entries: impl ExactSizeIterator<Item = (u64, u32)>) -> Table {
        if entries.len() == 0 {
            return Table::default();
        }
        let size = (entries.len() * 2).next_power_of_two();
        let mut slots = vec![Slot { tag: 0, number: FREE }; size];
        for (hash, number) in entries {
            let mut at = hash as usize & (size - 1);
            while slots[at].number != FREE {
                at = (at + 1) & (size - 1);
            }
            slots[at] = Slot { tag: (hash >> 32) as u32, number };
        }
        Table { slots: slots.into() }
    }

    /// The number with a hash for which `matches` is true.
    #[inline]
    pub fn find(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<u32> {
        self.find_slot(hash, matches).map(|(_, number)| number)
    }

    /// The slot and the number with a hash for which `matches` is true.
    #[inline]
    pub fn find_slot(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.number == FREE {
                return None;
            }
            if slot.tag == (hash >> 32) as u32 && matches(slot.number) {
                return Some((at, slot.number));
            }
            at = (at + 1) & mask;
        }
    }

    /// The address that a search reads first.
    #[inline]
    pub fn first_address(&self, hash: u64) -> *const u8 {
        let at = hash as usize & self.slots.len().wrapping_sub(1);
        self.slots.get(at).map_or(std::ptr::null(), |slot| std::ptr::from_ref(slot).cast())
    }

    /// The first number whose tag matches a hash, without a look at the name: very likely the one that a search finds.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// The number of slots.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The size in memory, in octets.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.slots)
    }
}

/// Numbers by the hashes of names, to which numbers can be added. The owner keeps the names.
#[derive(Default)]
pub struct Numbering(HashMap<u64, u32, BuildHasherDefault<IdentityHasher>>);

/// A hasher whose result is the hash that it is given.
#[derive(Default)]
pub struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.0 = self.0.rotate_left(8) ^ u64::from(*octet));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Numbering {
    /// The number with a hash for which `matches` is true.
    pub fn find(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<u32> {
        let mut slot = hash;
        // Names with equal hashes are in the next slots.
        while let Some(&number) = self.0.get(&slot) {
            if matches(number) {
                return Some(number);
            }
            slot = slot.wrapping_add(1);
        }
        None
    }

    /// Adds a number that the map does not have for this hash.
    pub fn insert(&mut self, hash: u64, number: u32) {
        let mut slot = hash;
        while self.0.contains_key(&slot) {
            slot = slot.wrapping_add(1);
        }
        self.0.insert(slot, number);
    }
}

/// A map from names to values, which finds suffixes of names.
#[derive(Debug)]
pub struct NameMap<V> {
    table: Table,
    entries: Box<[(Box<[u8]>, V)]>,
    /// The numbers of labels that its names have, one bit each.
    depths: u128,
    above: Above,
}

impl<V> Default for NameMap<V> {
    fn default() -> NameMap<V> {
        NameMap { table: Table::default(), entries: Box::default(), depths: 0, above: Above::default() }
    }
}

impl<V> NameMap<V> {
    /// Makes a map. The names are in lower case and wire format, and all different.
    pub fn new(entries: Vec<(Box<[u8]>, V)>) -> NameMap<V> {
        let depths = entries.iter().fold(0, |bits, (name, _)| bits | 1 << crate::wire::name::labels(name).count());
        let table = Table::new(entries.iter().enumerate().map(|(at, (name, _))| (name_hash(name), at as u32)));
        NameMap { table, entries: entries.into(), depths, above: Above::default() }
    }

    /// Adds the set of the names above its names.
    pub fn with_above(mut self) -> NameMap<V> {
        self.above = Above::new(self.entries.iter().map(|(name, _)| &**name));
        self
    }

    /// The names above its names; empty unless they were [added](NameMap::with_above).
    pub fn above(&self) -> &Above {
        &self.above
    }

    /// The value of the suffix that is left when `skip` labels are taken from `name`.
    #[inline]
    pub fn find(&self, name: &LookupName, skip: usize) -> Option<&V> {
        if self.depths & 1 << (name.labels() - skip) == 0 {
            return None;
        }
        let suffix = name.suffix(skip);
        let found = self.table.find(name.hash(skip), |at| *self.entries[at as usize].0 == *suffix)?;
        Some(&self.entries[found as usize].1)
    }

    /// Names and values, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &(Box<[u8]>, V)> {
        self.entries.iter()
    }
}

/// The set of all names above some names, without the root. It has only their hashes: a client cannot make hashes collide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Above(Box<[u64]>);

impl Above {
    /// The names above `names`, which are in lower case and wire format.
    pub fn new<'n>(names: impl Iterator<Item = &'n [u8]>) -> Above {
        let mut hashes = Vec::new();
        for name in names.filter_map(LookupName::new) {
            hashes.extend((1..name.labels()).map(|skip| name.hash(skip)));
        }
        hashes.sort_unstable();
        hashes.dedup();
        Above(hashes.into())
    }

    /// Whether it has the suffix that is left when `skip` labels are taken from `name`.
    pub fn has(&self, name: &LookupName, skip: usize) -> bool {
        self.0.binary_search(&name.hash(skip)).is_ok()
    }
}

/// A large map from names to values, whose copies share unchanged parts.
#[derive(Clone, Debug)]
pub struct SharedNameMap<V> {
    parts: Vec<Arc<NameMap<V>>>,
    len: usize,
    /// The numbers of labels that its names have or had, one bit each.
    depths: u128,
}

impl<V> Default for SharedNameMap<V> {
    fn default() -> SharedNameMap<V> {
        SharedNameMap { parts: Vec::new(), len: 0, depths: 0 }
    }
}

/// The number of names in a part of a new map. A map that has grown to four times as many per part is made again.
const NAMES_OF_PART: usize = 128;

impl<V: Clone> SharedNameMap<V> {
    /// The value of the suffix that is left when `skip` labels are taken from `name`.
    #[inline]
    pub fn find(&self, name: &LookupName, skip: usize) -> Option<&V> {
        if self.depths & 1 << (name.labels() - skip) == 0 {
            return None;
        }
        self.parts[part_of(name.hash(skip), self.parts.len())].find(name, skip)
    }

    /// The value of a name in lower case and wire format.
    pub fn get(&self, name: &[u8]) -> Option<&V> {
        let hash = name_hash(name);
        let part = self.parts.get(part_of(hash, self.parts.len()))?;
        let at = part.table.find(hash, |at| *part.entries[at as usize].0 == *name)?;
        Some(&part.entries[at as usize].1)
    }

    /// Sets the values of names, or removes names.
    pub fn edit(&mut self, edits: BTreeMap<Box<[u8]>, Option<V>>) {
        if self.parts.is_empty() || self.len + edits.len() > 4 * NAMES_OF_PART * self.parts.len() {
            let old = self.parts.iter().flat_map(|part| part.entries.iter());
            let mut all: BTreeMap<Box<[u8]>, V> = old.cloned().collect();
            for (name, value) in edits {
                match value {
                    Some(value) => drop(all.insert(name, value)),
                    None => drop(all.remove(&name)),
                }
            }
            return *self = SharedNameMap::new(all);
        }
        let mut touched: BTreeMap<usize, BTreeMap<Box<[u8]>, Option<V>>> = BTreeMap::new();
        for (name, value) in edits {
            let part = part_of(name_hash(&name), self.parts.len());
            touched.entry(part).or_default().insert(name, value);
        }
        for (at, mut edits) in touched {
            let old = &self.parts[at];
            let mut entries = Vec::with_capacity(old.entries.len() + edits.len());
            entries.extend(old.entries.iter().filter(|(name, _)| !edits.contains_key(name)).cloned());
            while let Some((name, value)) = edits.pop_first() {
                entries.extend(value.map(|value| (name, value)));
            }
            self.len = self.len + entries.len() - old.entries.len();
            let part = NameMap::new(entries);
            self.depths |= part.depths;
            self.parts[at] = Arc::new(part);
        }
    }

    fn new(all: BTreeMap<Box<[u8]>, V>) -> SharedNameMap<V> {
        let (len, count) = (all.len(), all.len().div_ceil(NAMES_OF_PART).next_power_of_two());
        let mut parts: Vec<Vec<(Box<[u8]>, V)>> = (0..count).map(|_| Vec::new()).collect();
        for (name, value) in all {
            parts[part_of(name_hash(&name), count)].push((name, value));
        }
        let parts: Vec<_> = parts.into_iter().map(|entries| Arc::new(NameMap::new(entries))).collect();
        let depths = parts.iter().fold(0, |depths, part| depths | part.depths);
        SharedNameMap { parts, len, depths }
    }

    /// Names and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &(Box<[u8]>, V)> {
        self.parts.iter().flat_map(|part| part.iter())
    }
}

/// The part of a name. It depends on bits of the hash that decide neither the slot in a part's table nor, except in the largest
/// maps, the tag.
#[inline]
fn part_of(hash: u64, parts: usize) -> usize {
    (hash >> 16) as usize & parts.wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        /// Compares each copy with a plain map.
        #[test]
        fn copies_that_share_parts_keep_their_own_entries(all in vec(vec((0..3000u32, any::<bool>()), 1..1500), 1..6)) {
            let (mut map, mut plain) = (SharedNameMap::default(), BTreeMap::new());
            let mut before = Vec::new();
            for edits in all {
                let edit = |(n, is_in): (u32, bool)| (wire(&format!("n{n}.example")), is_in.then_some(n));
                let edits: BTreeMap<Box<[u8]>, Option<u32>> = edits.into_iter().map(edit).collect();
                before.push((map.clone(), plain.clone()));
                plain.extend(edits.clone());
                map.edit(edits);
            }
            before.push((map, plain));
            for (map, plain) in before {
                let there = plain.values().flatten().count();
                prop_assert_eq!(map.iter().count(), there);
                for n in 0..3000 {
                    let name = wire(&format!("n{n}.example"));
                    let expected = plain.get(&name).copied().flatten();
                    prop_assert_eq!(map.get(&name).copied(), expected);
                    prop_assert_eq!(map.find(&LookupName::new(&name).unwrap(), 0).copied(), expected);
                }
            }
        }
    }

    fn wire(text: &str) -> Box<[u8]> {
        Name::absolute(text).unwrap().to_lowercase().as_wire().into()
    }

    #[test]
    fn finds_the_suffixes_of_a_name() {
        let map = NameMap::new(vec![
            (wire("."), 0),
            (wire("com"), 1),
            (wire("Example.com"), 2),
            (wire("a.b.example.com"), 3),
        ]);
        let name = LookupName::new(&wire("x.a.B.example.COM")).unwrap();
        let found: Vec<_> = (0..=name.labels()).map(|skip| map.find(&name, skip).copied()).collect();
        assert_eq!(found, [None, Some(3), None, Some(2), Some(1), Some(0)]);
        assert_eq!(NameMap::<u8>::default().find(&name, 0), None);
    }

    #[test]
    fn finds_each_of_ten_thousand_names() {
        let map = NameMap::new((0..10_000).map(|n| (wire(&format!("n{n}.example")), n)).collect());
        for n in 0..20_000 {
            let name = LookupName::new(&wire(&format!("n{n}.example"))).unwrap();
            assert_eq!(map.find(&name, 0).copied(), (n < 10_000).then_some(n));
        }
    }
}
