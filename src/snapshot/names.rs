//! From names to what they stand for: hash tables that are probed with hashes made once for each query.

use crate::wire::query::{LookupName, name_hash};

/// An open-addressing hash table of numbers. The names are kept by whoever keeps the table: one look at the table
/// (eight octets to a slot, half of them free) and one at the name are all that a find costs.
#[derive(Debug, Default)]
pub struct Table {
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The upper half of the hash.
    tag: u32,
    /// The number; [`FREE`] where there is none.
    number: u32,
}

const FREE: u32 = u32::MAX;

impl Table {
    /// Makes a table of numbers under their hashes. No number may be `u32::MAX`.
    pub fn new(entries: impl ExactSizeIterator<Item = (u64, u32)>) -> Table {
        if entries.len() == 0 {
            return Table::default();
        }
        let size = (entries.len() * 2).next_power_of_two();
        let mut slots = vec![Slot { tag: 0, number: FREE }; size].into_boxed_slice();
        for (hash, number) in entries {
            let mut at = hash as usize & (size - 1);
            while slots[at].number != FREE {
                at = (at + 1) & (size - 1);
            }
            slots[at] = Slot { tag: (hash >> 32) as u32, number };
        }
        Table { slots }
    }

    /// The number under this hash that is the right one.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
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
            if slot.tag == (hash >> 32) as u32 && is_it(slot.number) {
                return Some(slot.number);
            }
            at = (at + 1) & mask;
        }
    }

    /// Where in memory a find begins.
    #[inline]
    pub fn first_look(&self, hash: u64) -> *const u8 {
        let at = hash as usize & self.slots.len().wrapping_sub(1);
        self.slots.get(at).map_or(std::ptr::null(), |slot| std::ptr::from_ref(slot).cast())
    }

    /// A number that stands under this hash, as far as the table alone can tell: very likely what a find finds.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Octets of memory.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.slots)
    }
}

/// A map from names to values, which finds suffixes of names.
#[derive(Debug)]
pub struct NameMap<V> {
    table: Table,
    entries: Box<[(Box<[u8]>, V)]>,
    /// Which numbers of labels its names have: a bit for each.
    depths: u128,
}

impl<V> Default for NameMap<V> {
    fn default() -> NameMap<V> {
        NameMap { table: Table::default(), entries: Box::default(), depths: 0 }
    }
}

impl<V> NameMap<V> {
    /// Makes a map. The names are in lower case and wire format, each of them once.
    pub fn new(entries: Vec<(Box<[u8]>, V)>) -> NameMap<V> {
        let depths = entries.iter().fold(0, |bits, (name, _)| bits | 1 << crate::wire::name::labels(name).count());
        let table = Table::new(entries.iter().enumerate().map(|(at, (name, _))| (name_hash(name), at as u32)));
        NameMap { table, entries: entries.into(), depths }
    }

    /// What stands under the suffix of `name` that is left when `skip` labels are taken away.
    #[inline]
    pub fn find(&self, name: &LookupName, skip: usize) -> Option<&V> {
        if self.depths & 1 << (name.labels() - skip) == 0 {
            return None;
        }
        let suffix = name.suffix(skip);
        let found = self.table.find(name.hash(skip), |at| *self.entries[at as usize].0 == *suffix)?;
        Some(&self.entries[found as usize].1)
    }

    /// Names and values, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = &(Box<[u8]>, V)> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    fn wire(text: &str) -> Box<[u8]> {
        Name::absolute(text).unwrap().to_lowercase().as_wire().into()
    }

    #[test]
    fn finds_suffixes() {
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
    fn holds_many() {
        let map = NameMap::new((0..10_000).map(|n| (wire(&format!("n{n}.example")), n)).collect());
        for n in 0..20_000 {
            let name = LookupName::new(&wire(&format!("n{n}.example"))).unwrap();
            assert_eq!(map.find(&name, 0).copied(), (n < 10_000).then_some(n));
        }
    }
}
