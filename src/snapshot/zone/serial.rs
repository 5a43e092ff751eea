//! Serials: a zone that others copy has another one with each change of what it holds.

use super::{Set, Zone};
use crate::{
    manifest::{digest::Digest, transferred::is_newer},
    wire::rdata::rtype,
};
use sha2::{Digest as _, Sha256};

/// The serial that a zone has, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// The serial.
    pub number: u32,
    /// A digest of all records, the serial aside.
    pub digest: [u8; 32],
}

impl Serial {
    /// The serial of a zone that had `last`, holds what `digest` says now, and whose source says `own`, if it says anything.
    /// `first` is for zones that had none before.
    fn after(last: Option<&Serial>, digest: [u8; 32], own: Option<u32>, first: u32) -> Serial {
        let number = match (last, own) {
            (None, own) => own.unwrap_or(first),
            (Some(last), own) => {
                let next = if last.digest == digest { last.number } else { last.number.wrapping_add(1) };
                own.filter(|own| is_newer(*own, last.number)).unwrap_or(next)
            }
        };
        Serial { number, digest }
    }
}

impl Zone {
    /// Gives the zone its serial. `first` is that of a zone without an own one that had none before.
    pub(super) fn count_on(&mut self, last: Option<&Serial>, first: u32) -> Serial {
        let own = (!self.has_made_soa).then(|| self.serial());
        let serial = Serial::after(last, self.content_digest(), own, first);
        let apex = self.apex_node().set(rtype::SOA).map(Set::end);
        for end in [apex, Some(self.negative().end())].into_iter().flatten() {
            self.block[end - 20..end - 16].copy_from_slice(&serial.number.to_be_bytes());
        }
        serial
    }

    /// A digest of all records, whatever their order, the serial aside.
    fn content_digest(&self) -> [u8; 32] {
        let mut sum = Digest::default();
        for (owner, set) in self.record_sets() {
            for mut value in set.values() {
                if set.rtype() == rtype::SOA
                    && let Some(at) = value.len().checked_sub(20)
                {
                    value[at..at + 4].fill(0);
                }
                let mut digest = Sha256::new();
                digest.update(&owner);
                digest.update(set.rtype().to_be_bytes());
                digest.update(set.ttl().to_be_bytes());
                digest.update(&value);
                sum.add(&digest.finalize().into());
            }
        }
        sum.octets()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_rise_and_never_fall() {
        let (same, other) = ([1; 32], [2; 32]);
        let last = |number| Some(Serial { number, digest: same });
        for (last, digest, own, expected) in [
            (None, same, None, 99),
            (None, same, Some(7), 7),
            (last(7), same, Some(7), 7),
            (last(7), other, Some(7), 8),
            (last(7), other, Some(6), 8),
            (last(7), other, None, 8),
            (last(7), same, Some(9), 9),
            (last(7), other, Some(9), 9),
            (last(7), same, Some(6), 7),
            (last(u32::MAX), other, Some(u32::MAX), 0),
            (last(u32::MAX), other, Some(5), 5),
            (last(5), same, Some(u32::MAX), 5),
        ] {
            assert_eq!(Serial::after(last.as_ref(), digest, own, 99), Serial { number: expected, digest });
        }
    }
}
