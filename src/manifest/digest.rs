//! A digest of a set of resources that is updated with each change of the set.

/// The sum of the SHA-256 digests of all items of a set, modulo 2^64 in each of four lanes. It is
/// equal on two nodes that have equal data, whatever the order in which the items were added. It
/// serves to compare nodes, and does not resist forgery: two sets with the same sum can be
/// constructed (generalized birthday attack).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u64; 4]);

impl Digest {
    /// Adds an item to the set, by its SHA-256 digest.
    pub fn add(&mut self, item: &[u8; 32]) {
        self.each(item, u64::wrapping_add);
    }

    /// Removes an item from the set, by its SHA-256 digest.
    pub fn remove(&mut self, item: &[u8; 32]) {
        self.each(item, u64::wrapping_sub);
    }

    fn each(&mut self, item: &[u8; 32], operation: fn(u64, u64) -> u64) {
        let lanes = item.chunks_exact(8).map(|lane| lane.iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet)));
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum = operation(*sum, lane);
        }
    }

    /// The digest as octets.
    pub fn octets(&self) -> [u8; 32] {
        let mut octets = [0; 32];
        for (octets, lane) in octets.chunks_exact_mut(8).zip(self.0) {
            octets.copy_from_slice(&lane.to_be_bytes());
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_independent_of_the_order_of_items() {
        let items: Vec<[u8; 32]> = (1..=9).map(|number: u8| [number.wrapping_mul(57); 32]).collect();
        let mut all = Digest::default();
        items.iter().for_each(|item| all.add(item));
        let mut other = Digest::default();
        items.iter().rev().for_each(|item| other.add(item));
        assert_eq!(all, other);
        other.remove(&items[3]);
        assert_ne!(all.octets(), other.octets());
        items.iter().enumerate().filter(|(at, _)| *at != 3).for_each(|(_, item)| other.remove(item));
        assert_eq!(other, Digest::default());
    }
}
