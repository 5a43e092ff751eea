//! Serials: a zone that secondaries copy gets a new serial with each change of its records.

use super::{
    Node, Set, Zone,
    groups::{Content, Member},
};
use crate::{
    manifest::{digest::Digest, transferred::is_newer, work},
    wire::rdata::rtype,
};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// The serial of a zone, and the content that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// The serial number.
    pub number: u32,
    /// A digest of all records without the serial.
    pub digest: [u8; 32],
}

impl Serial {
    /// The next serial of a zone. `last` is its last serial, `digest` its content now, `own` the serial of its source, and
    /// `first` the serial of a zone without `last` and `own`.
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
    /// Gives the zone its next serial.
    pub(super) fn set_next_serial(&mut self, last: Option<&Serial>, first: u32) -> Serial {
        let own = (!self.has_made_soa).then(|| self.serial());
        let serial = Serial::after(last, self.digest.octets(), own, first);
        let ends = [self.apex_node().set(rtype::SOA).map(Set::end), Some(self.negative().end())];
        let block = match &mut self.changes {
            None => Arc::get_mut(&mut self.block),
            Some(changes) => Some(changes.head_mut()),
        };
        // The block has just been made, so no other zone shares it.
        if let Some(block) = block {
            for end in ends.into_iter().flatten() {
                block[end - 20..end - 16].copy_from_slice(&serial.number.to_be_bytes());
            }
        }
        serial
    }

    /// A digest of all records without the serial. It does not depend on their order.
    pub(super) fn content_digest(&self) -> Digest {
        let mut sum = Digest::default();
        self.nodes().for_each(|node| self.digest_node(node, |item| sum.add(item)));
        sum
    }

    /// A digest of what a group answers with and by which rules, without health.
    pub fn digest_of_group(&self, set: Set) -> [u8; 32] {
        let mut digest = Sha256::new();
        for member in set.group().and_then(|number| self.group(number)).into_iter().flat_map(|group| &group.members) {
            let Member { identifier, content, rule, health_check, .. } = member;
            digest.update(format!("{identifier:?} {rule:?} {health_check:?}"));
            match content {
                Content::Alias { target, evaluate_target_health } => {
                    digest.update([u8::from(*evaluate_target_health)]);
                    digest.update(target.as_wire());
                }
                Content::Records(at) => {
                    for set in self.member_node(*at).sets() {
                        digest.update(set.ttl().to_be_bytes());
                        set.values().for_each(|value| digest.update(value));
                    }
                }
            }
        }
        digest.finalize().into()
    }

    /// Calls `each` with a digest of each record of a node. The digest of an alias is that of its target's name.
    pub(super) fn digest_node(&self, node: Node, mut each: impl FnMut(&[u8; 32])) {
        let owner = [node.relative(), &self.apex].concat();
        for set in node.sets() {
            let mut one = |ttl: u32, value: &[u8]| {
                work::count(1);
                let mut digest = Sha256::new();
                digest.update(&owner);
                digest.update(set.rtype().to_be_bytes());
                digest.update(ttl.to_be_bytes());
                digest.update(value);
                each(&digest.finalize().into());
            };
            if let Some(number) = set.alias() {
                one(0, self.alias(number).as_wire());
                continue;
            }
            if set.group().is_some() {
                one(0, &self.digest_of_group(set));
                continue;
            }
            for mut value in set.values() {
                if set.rtype() == rtype::SOA
                    && let Some(at) = value.len().checked_sub(20)
                {
                    value[at..at + 4].fill(0);
                }
                one(set.ttl(), &value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_never_fall() {
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
