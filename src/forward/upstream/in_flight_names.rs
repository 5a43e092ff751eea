//! The names in flight, in their random case: a query in the same case may be one of this node's
//! own that came back.

use super::query;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number of slots in the table.
const SLOTS: usize = 1 << 14;
/// The number of slots that a fingerprint may be in, one after the other.
const SLOTS_PER_FINGERPRINT: usize = 8;

/// A lock-free table of the [fingerprints](query::fingerprint) of questions in flight; 0 is an
/// empty slot.
pub struct InFlightNames(Box<[AtomicU64]>);

impl Default for InFlightNames {
    fn default() -> InFlightNames {
        InFlightNames((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl InFlightNames {
    /// The slots that a fingerprint may be in.
    fn slots(&self, fingerprint: u64) -> impl Iterator<Item = &AtomicU64> {
        (0..SLOTS_PER_FINGERPRINT).map(move |step| &self.0[(fingerprint as usize).wrapping_add(step) % SLOTS])
    }

    /// Adds a fingerprint. If its slots are full, it is dropped, and the question is not recognised
    /// when it comes back.
    pub fn insert(&self, fingerprint: u64) {
        let _ = self.slots(fingerprint).any(|slot| slot.compare_exchange(0, fingerprint, Relaxed, Relaxed).is_ok());
    }

    /// Removes a fingerprint once.
    pub fn remove(&self, fingerprint: u64) {
        let _ = self.slots(fingerprint).any(|slot| slot.compare_exchange(fingerprint, 0, Relaxed, Relaxed).is_ok());
    }

    /// Whether a question for this name, in this case, and this type is in flight.
    pub fn contains(&self, name: &[u8], qtype: u16) -> bool {
        let fingerprint = query::fingerprint(name, qtype);
        self.slots(fingerprint).any(|slot| slot.load(Relaxed) == fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_a_name_in_the_same_case_until_it_is_removed() {
        let names = InFlightNames::default();
        let fingerprint = query::fingerprint(b"\x03wWw\0", 1);
        assert!(!names.contains(b"\x03wWw\0", 1));
        names.insert(fingerprint);
        names.insert(fingerprint);
        assert!(names.contains(b"\x03wWw\0", 1));
        assert!(!names.contains(b"\x03www\0", 1) && !names.contains(b"\x03wWw\0", 28));
        names.remove(fingerprint);
        assert!(names.contains(b"\x03wWw\0", 1), "it was inserted twice");
        names.remove(fingerprint);
        assert!(!names.contains(b"\x03wWw\0", 1));
    }
}
