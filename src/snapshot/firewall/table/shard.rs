//! A part of the table: the records of the names whose hashes begin with some bits.

use super::{
    packed,
    posting::{Posting, Postings},
};
use crate::wire::{
    name::wire_len,
    query::{child_hash, root_hash},
};
use std::sync::Arc;

/// A hash table from names to records. A search usually reads one slot and one record.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// The upper 12 bits are a tag, the lower 20 bits the offset of the record; [`FREE`] in a free slot.
    slots: Arc<[u32]>,
    records: Arc<[u8]>,
    /// The number of names.
    pub names: u32,
    /// The number of first bits that the hashes share.
    pub depth: u8,
    /// The numbers of labels that its names have, one bit each.
    pub depths: u128,
    /// The lists that its entries belong to.
    pub lists: ListSet,
}

/// Numbers of lists. It can seem to have a few more than it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ListSet(u64);

impl ListSet {
    /// Adds the number of a list.
    pub fn add(&mut self, list: u32) {
        self.0 |= 1 << (list % u64::BITS);
    }

    /// Adds the numbers of another set.
    pub fn add_all(&mut self, other: ListSet) {
        self.0 |= other.0;
    }

    /// Whether it has the number of a list. Exact while there are at most 64 lists.
    pub fn has(self, list: u32) -> bool {
        self.0 & 1 << (list % u64::BITS) != 0
    }
}

const FREE: u32 = u32::MAX;
const OFFSET_BITS: u32 = 20;
/// The largest size of all records of a shard, in octets.
pub(super) const MAX_RECORDS: usize = (1 << OFFSET_BITS) - 1;

impl Default for Shard {
    fn default() -> Shard {
        let lists = ListSet::default();
        Shard { slots: [].into(), records: [].into(), names: 0, depth: 0, depths: 0, lists }
    }
}

#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 & ((1 << (32 - OFFSET_BITS)) - 1)
}

#[inline]
fn first_slot(hash: u64, slots: usize) -> usize {
    (((hash & 0xffff_ffff) * slots as u64) >> 32) as usize
}

/// The hashes of a name in wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hashes {
    /// The hash of the whole name.
    pub name: u64,
    /// The hash of its last two labels, if it has two.
    pub front: Option<u64>,
    /// The number of labels.
    pub labels: u8,
}

impl Hashes {
    /// The hashes of the uncompressed name at the start of `wire`, in lower case. None if there is no valid name.
    pub fn new(wire: &[u8]) -> Option<Hashes> {
        let end = wire_len(wire)? - 1;
        let (mut starts, mut labels, mut at) = ([0u8; 128], 0, 0);
        while at < end {
            starts[labels] = at as u8;
            labels += 1;
            at += 1 + wire[at] as usize;
        }
        let (mut hash, mut front, mut to) = (root_hash(), None, end);
        for (count, &start) in starts[..labels].iter().rev().enumerate() {
            hash = child_hash(hash, &wire[start as usize + 1..to]);
            to = start as usize;
            if count == 1 {
                front = Some(hash);
            }
        }
        Some(Hashes { name: hash, front, labels: labels as u8 })
    }

    /// The hashes of the packed name at the start of `octets`.
    pub fn of_packed(octets: &[u8]) -> Option<Hashes> {
        Hashes::new(packed::unpack(octets, &mut [0; 255])?)
    }
}

/// A record of a shard to be built: a name and its postings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Built<'b> {
    pub hash: u64,
    pub labels: u8,
    pub lists: ListSet,
    pub octets: &'b [u8],
}

impl Shard {
    /// Builds a shard. All records together must have at most [`MAX_RECORDS`] octets.
    pub fn new(depth: u8, built: &[Built]) -> Shard {
        if built.is_empty() {
            return Shard { depth, ..Shard::default() };
        }
        let mut slots = vec![FREE; built.len() + built.len() / 4 + 1];
        let mut records = Vec::with_capacity(built.iter().map(|record| record.octets.len()).sum());
        let (mut depths, mut lists) = (0, ListSet::default());
        for record in built {
            depths |= 1 << record.labels;
            lists.add_all(record.lists);
            let mut at = first_slot(record.hash, slots.len());
            while slots[at] != FREE {
                at = (at + 1) % slots.len();
            }
            slots[at] = tag(record.hash) << OFFSET_BITS | records.len() as u32;
            records.extend_from_slice(record.octets);
        }
        Shard { slots: slots.into(), records: records.into(), names: built.len() as u32, depth, depths, lists }
    }

    /// The offset of the record of a name in wire format and lower case.
    #[inline]
    pub fn find(&self, hash: u64, name: &[u8]) -> Option<u32> {
        self.candidates(hash).find(|offset| packed::is(&self.records[*offset as usize..], name))
    }

    /// The offsets of the records whose names can have a hash.
    #[inline]
    fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        let mut at = first_slot(hash, self.slots.len());
        std::iter::from_fn(move || {
            loop {
                // There is always a free slot, unless there are none.
                let slot = *self.slots.get(at)?;
                if slot == FREE {
                    return None;
                }
                at += 1;
                if at == self.slots.len() {
                    at = 0;
                }
                if slot >> OFFSET_BITS == tag(hash) {
                    return Some(slot & MAX_RECORDS as u32);
                }
            }
        })
    }

    /// The first address that [`Shard::find`] reads.
    #[inline]
    pub fn first_address(&self, hash: u64) -> Option<*const u8> {
        self.slots.get(first_slot(hash, self.slots.len())).map(|slot| std::ptr::from_ref(slot).cast())
    }

    /// The address of the record, if there probably is one. It is found in the memory at the first address.
    #[inline]
    pub fn second_address(&self, hash: u64) -> Option<*const u8> {
        let offset = self.candidates(hash).next()?;
        self.records.get(offset as usize).map(std::ptr::from_ref)
    }

    /// The postings of the record at an offset.
    #[inline]
    pub fn postings(&self, offset: u32) -> Postings<'_> {
        let record = self.records.get(offset as usize..).unwrap_or_default();
        let len = packed::len(record).unwrap_or(record.len());
        Postings::new(&record[len..])
    }

    /// All records: the packed name and its postings.
    pub fn records(&self) -> impl Iterator<Item = (&[u8], Postings<'_>)> {
        let mut rest = &self.records[..];
        std::iter::from_fn(move || {
            let (name, tail) = rest.split_at(packed::len(rest)?);
            let postings = Postings::new(tail);
            let mut end = postings.clone();
            end.by_ref().for_each(drop);
            rest = end.rest();
            Some((name, postings))
        })
    }

    /// Whether it is the same memory as another shard.
    #[cfg(test)]
    pub fn shares_memory_with(&self, other: &Shard) -> bool {
        Arc::ptr_eq(&self.records, &other.records)
    }

    /// The size in memory, in octets, without the structure itself.
    pub fn memory(&self) -> usize {
        const COUNTS_OF_ARC: usize = 16;
        size_of_val(&*self.slots) + self.records.len() + 2 * COUNTS_OF_ARC
    }
}

/// Appends a record of a packed name.
pub(super) fn write_record(name: &[u8], postings: &[Posting], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    for (at, posting) in postings.iter().enumerate() {
        posting.write(at + 1 < postings.len(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        snapshot::firewall::table::{Detail, Scope},
        wire::{Name, query::LookupName},
    };

    fn wire(text: &str) -> Box<[u8]> {
        Name::absolute(text).unwrap().to_lowercase().as_wire().into()
    }

    fn record(name: &[u8], line: u32) -> Vec<u8> {
        let mut octets = Vec::new();
        let posting = |scope| Posting { list: 1, scope, line, detail: Detail::Plain };
        let mut packed = Vec::new();
        packed::pack(name, &mut packed);
        write_record(&packed, &[posting(Scope::Exact), posting(Scope::Below)], &mut octets);
        octets
    }

    #[test]
    fn names_whose_hashes_are_equal_keep_apart() {
        let ends = ["example", "com", "co.uk", "uk"];
        let names: Vec<Box<[u8]>> = (0..50).map(|n| wire(&format!("n{n}.{}", ends[n % 4]))).collect();
        let records: Vec<Vec<u8>> = names.iter().enumerate().map(|(n, name)| record(name, n as u32)).collect();
        for hash in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
            let lists = ListSet::default();
            let built: Vec<Built> = records.iter().map(|octets| Built { hash, labels: 2, lists, octets }).collect();
            let shard = Shard::new(0, &built);
            for (n, name) in names.iter().enumerate() {
                let found = shard.postings(shard.find(hash, name).unwrap());
                assert_eq!(found.map(|posting| posting.line).collect::<Vec<_>>(), [n as u32; 2]);
            }
            for other in [
                "n50.example",
                "example",
                ".",
                "n0.example.x",
                "x.n0.example",
                "n1.com.uk",
                "n1",
                "com",
                "n1.net",
                "n2.uk",
            ] {
                assert_eq!(shard.find(hash, &wire(other)), None, "{other}");
            }
            let unpacked = |octets: &[u8]| packed::unpack(octets, &mut [0; 255]).map(Box::<[u8]>::from);
            assert_eq!(shard.records().filter_map(|(name, _)| unpacked(name)).collect::<Vec<_>>(), names);
        }
        assert_eq!(Shard::default().find(0, &[0]), None);
    }

    #[test]
    fn its_hashes_are_those_of_queries() {
        let max = "a.".repeat(127);
        for text in [".", "com", "example.com", "www.example.com", "a.very-long-label-of-more-than-eight.b.c", &max] {
            let (name, hashes) = (wire(text), Hashes::new(&wire(text)).unwrap());
            let lookup = LookupName::new(&name).unwrap();
            assert_eq!((hashes.name, hashes.labels as usize), (lookup.hash(0), lookup.labels()), "{text}");
            assert_eq!(hashes.front, lookup.labels().checked_sub(2).map(|skip| lookup.hash(skip)), "{text}");
            assert_eq!(Hashes::of_packed(&record(&name, 1)), Some(hashes), "{text}");
        }
        assert_eq!(Hashes::new(b"\x03www"), None);
    }
}
