//! A filter in front of the table. It knows the last two labels of each name: nearly all queries ask for names below
//! domains of which no list has a name, and read one cache line.
//!
//! It is a Bloom filter whose bits for one value are in one block of 64 octets. Values can be added while others read it:
//! a bit more never makes an answer wrong, only a search longer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The bits for each value that the filter has room for.
const BITS: u64 = 12;
/// The bits that each value sets.
const PROBES: u32 = 5;

/// One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Block([AtomicU64; 8]);

/// A set of hashes, which can say "yes" for a few more.
#[derive(Debug)]
pub(super) struct Front {
    blocks: Box<[Block]>,
    capacity: u64,
    /// The number of values that were not in it when they were added.
    added: AtomicU64,
}

impl Front {
    /// An empty set with room for so many values.
    pub fn new(capacity: u64) -> Front {
        let blocks = (capacity * BITS).div_ceil(512);
        Front { blocks: (0..blocks).map(|_| Block::default()).collect(), capacity, added: AtomicU64::new(0) }
    }

    /// Whether `more` values can be added.
    pub fn has_room(&self, more: u64) -> bool {
        self.added.load(Relaxed) + more <= self.capacity
    }

    #[inline]
    fn place(&self, hash: u64) -> Option<(&Block, u64)> {
        // The hashes of the table choose shards and slots by the same bits.
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (hash >> 29);
        let at = ((u128::from(mixed) * self.blocks.len() as u128) >> 64) as usize;
        Some((self.blocks.get(at)?, mixed.wrapping_mul(0xd6e8_feb8_6659_fd93)))
    }

    /// Adds a value.
    pub fn add(&self, hash: u64) {
        let Some((block, bits)) = self.place(hash) else { return };
        let mut is_new = false;
        for probe in 0..PROBES {
            let bit = bits >> (64 - 9 * (probe + 1)) & 511;
            let mask = 1 << (bit & 63);
            is_new |= block.0[(bit >> 6) as usize].fetch_or(mask, Relaxed) & mask == 0;
        }
        self.added.fetch_add(u64::from(is_new), Relaxed);
    }

    /// Whether a value was added. Rarely true for a value that was not.
    #[inline]
    pub fn has(&self, hash: u64) -> bool {
        let Some((block, bits)) = self.place(hash) else { return false };
        (0..PROBES).all(|probe| {
            let bit = bits >> (64 - 9 * (probe + 1)) & 511;
            block.0[(bit >> 6) as usize].load(Relaxed) & 1 << (bit & 63) != 0
        })
    }

    /// The address that [`Front::has`] reads.
    #[inline]
    pub fn address(&self, hash: u64) -> Option<*const u8> {
        self.place(hash).map(|(block, _)| std::ptr::from_ref(block).cast())
    }

    /// The size in memory, in octets.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::query::{child_hash, root_hash};

    fn value(n: u32) -> u64 {
        child_hash(root_hash(), &n.to_be_bytes())
    }

    #[test]
    fn has_all_values_and_few_others() {
        let front = Front::new(100_000);
        (0..100_000).for_each(|n| front.add(value(n)));
        assert!((0..100_000).all(|n| front.has(value(n))));
        let wrong = (100_000..200_000).filter(|n| front.has(value(*n))).count();
        assert!(wrong < 2_000, "{wrong} of 100,000");
        assert!(front.has_room(0) && !front.has_room(10_000));
        assert!(front.memory() < 100_000 * 12 / 8 + 64);
    }

    #[test]
    fn without_room_it_has_nothing() {
        let front = Front::new(0);
        front.add(1);
        assert!(!front.has(1));
    }
}
