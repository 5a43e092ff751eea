//! The findings of the DNS Firewall detectors, which answers read.
//!
//! All snapshots share the findings of a VPC, as they share the verdicts of health checks. The detectors
//! ([`detect`](crate::detect)) are the only writer. A finding compiles nothing, and makes no new generation.
//!
//! ```text
//! cache miss -> detect::Detectors -> Detections { tunnels: domain -> numbers, clients: address -> numbers }
//!                                                  ^
//!                                     answer::firewall reads: atomic words, no lock
//! ```
//!
//! A finding ends by itself after [`LIFETIME`]. Names and addresses are in it as 64-bit hashes with a random seed.

use crate::{
    manifest::{ConfidenceThreshold, DnsThreatProtection},
    wire::query::{LookupName, child_hash, root_hash},
};
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

/// The time in seconds for which a finding holds after the last query that confirmed it.
pub const LIFETIME: i64 = 6 * 3600;
/// The number of sets of findings.
const SETS: usize = 32;
/// The number of findings of a set. Each VPC has at most `SETS * WAYS` findings of a kind.
const WAYS: usize = 8;

/// The number that a detector must have counted within an hour for a rule: octets in the names below a domain for
/// `DNS_TUNNELING`, registered domains that a client looked for in vain for `DGA`.
pub fn threshold(protection: DnsThreatProtection, confidence: ConfidenceThreshold) -> u32 {
    match (protection, confidence) {
        (DnsThreatProtection::DnsTunneling, ConfidenceThreshold::Low) => 10_000,
        (DnsThreatProtection::DnsTunneling, ConfidenceThreshold::Medium) => 100_000,
        (DnsThreatProtection::DnsTunneling, ConfidenceThreshold::High) => 500_000,
        (_, ConfidenceThreshold::Low) => 10,
        (_, ConfidenceThreshold::Medium) => 20,
        (_, ConfidenceThreshold::High) => 40,
    }
}

/// The hash by which the findings about a client are stored.
pub fn client_key(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(address) => child_hash(root_hash(), &address.octets()),
        IpAddr::V6(address) => child_hash(root_hash(), &address.octets()),
    }
}

/// The numbers of a finding: the largest ones of an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The number that is compared with the threshold: octets or registered domains.
    pub amount: u32,
    /// The number of distinct names.
    pub names: u32,
}

/// The findings of the detectors for the clients of a VPC. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Detections(Arc<Both>);

#[derive(Debug, Default)]
struct Both {
    tunnels: Findings,
    clients: Findings,
}

impl Detections {
    /// The domains that clients send data to, by the hash of the registered domain.
    #[inline]
    pub fn tunnels(&self) -> &Findings {
        &self.0.tunnels
    }

    /// The clients that look for generated names, by [`client_key`].
    #[inline]
    pub fn clients(&self) -> &Findings {
        &self.0.clients
    }

    /// The finding about the domain of a name: the number of labels in front of the domain, and the numbers.
    #[inline]
    pub fn tunnel_of(&self, name: &LookupName, now: i64) -> Option<(usize, Numbers)> {
        if self.0.tunnels.is_empty() {
            return None;
        }
        (0..name.labels()).find_map(|below| Some((below, self.0.tunnels.get(name.hash(below), now)?)))
    }

    /// Whether both are the same object in memory.
    pub fn is_same(&self, other: &Detections) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether no snapshot has these findings any more, and only one clone is left.
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// Findings by hash. Readers and the one writer use them at the same time.
#[derive(Debug)]
pub struct Findings {
    /// Whether there was ever a finding: 0 or 1.
    any: AtomicU32,
    sets: Box<[Set]>,
}

/// A set of findings. Its keys are in one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    /// The hashes; 0 for a slot that was never used.
    keys: [AtomicU64; WAYS],
    slots: [Slot; WAYS],
}

#[derive(Debug, Default)]
struct Slot {
    amount: AtomicU32,
    names: AtomicU32,
    until: AtomicI64,
}

impl Default for Findings {
    fn default() -> Findings {
        Findings { any: AtomicU32::new(0), sets: (0..SETS).map(|_| Set::default()).collect() }
    }
}

impl Set {
    /// The slot with a key.
    fn slot(&self, key: u64) -> Option<&Slot> {
        let at = self.keys.iter().position(|own| own.load(Relaxed) == key)?;
        self.slots.get(at)
    }
}

impl Findings {
    /// Whether there was never a finding.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.any.load(Relaxed) == 0
    }

    fn set(&self, key: u64) -> &Set {
        &self.sets[(key >> 32) as usize % SETS]
    }

    /// The numbers of a finding that holds.
    pub fn get(&self, key: u64, now: i64) -> Option<Numbers> {
        let slot = self.set(key).slot(key)?;
        let numbers = Numbers { amount: slot.amount.load(Relaxed), names: slot.names.load(Relaxed) };
        (slot.until.load(Relaxed) > now).then_some(numbers)
    }

    /// Stores a finding, and returns the numbers that it had before. The largest numbers stay. A full set loses its oldest
    /// finding. Only one thread at a time may call this.
    pub fn put(&self, key: u64, numbers: Numbers, now: i64) -> Numbers {
        let before = self.get(key, now).unwrap_or_default();
        let set = self.set(key);
        let own = set.keys.iter().position(|own| own.load(Relaxed) == key);
        let until = |at: &usize| set.slots[*at].until.load(Relaxed);
        let at = own.or_else(|| (0..WAYS).min_by_key(until)).unwrap_or_default();
        let slot = &set.slots[at];
        if own.is_none() {
            // A reader must not take the numbers of one finding for those of another.
            slot.until.store(0, Relaxed);
        }
        slot.amount.store(numbers.amount.max(before.amount), Relaxed);
        slot.names.store(numbers.names.max(before.names), Relaxed);
        set.keys[at].store(key, Relaxed);
        slot.until.store(now + LIFETIME, Relaxed);
        self.any.store(1, Relaxed);
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_keeps_its_largest_numbers_until_it_ends() {
        let findings = Findings::default();
        assert!(findings.is_empty());
        let numbers = |amount, names| Numbers { amount, names };
        assert_eq!(findings.put(7, numbers(10, 2), 100), Numbers::default());
        assert_eq!(findings.put(7, numbers(5, 3), 200), numbers(10, 2));
        assert_eq!(findings.get(7, 200), Some(numbers(10, 3)));
        assert_eq!(findings.get(7, 200 + LIFETIME), None);
        assert_eq!(findings.get(8, 200), None);
        assert_eq!(
            findings.put(7, numbers(1, 1), 200 + LIFETIME),
            Numbers::default(),
            "the finding starts from zero after its lifetime"
        );
    }

    #[test]
    fn a_full_set_loses_its_oldest_finding() {
        let findings = Findings::default();
        let keys: Vec<u64> = (0..=WAYS as u64).map(|low| 5 << 32 | low).collect();
        for (time, key) in (1..).zip(&keys) {
            findings.put(*key, Numbers { amount: 1, names: 1 }, time);
        }
        assert_eq!(findings.get(keys[0], 20), None);
        assert!(keys[1..].iter().all(|key| findings.get(*key, 20).is_some()));
    }
}
