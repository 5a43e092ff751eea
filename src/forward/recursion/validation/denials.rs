//! Validated denials, from which zonal makes negative answers (RFC 8198).
//!
//! A NSEC or NSEC3 record proves more than the name in question does not exist: it denies all names
//! of a span. This store has such records of signed zones. The validator takes the records for a name
//! from here, and checks them like those of a response. So this store decides nothing.
//!
//! NSEC3 records with the opt-out flag are not stored: a name in their span may exist.

use super::{
    super::errand::Work,
    nsec::{Nsecs, wildcard},
    signatures::{SignedSet, labels, sets},
};
use data_encoding::BASE32HEX_NOPAD;
use hickory_server::proto::{
    dnssec::rdata::{DNSSECRData, NSEC, NSEC3},
    op::Message,
    rr::{Name, RData, Record, RecordType},
};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Included, Unbounded},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Maximum number of stored record sets. Beyond it, the zone with the most of them loses all.
const MAX_SETS: usize = 16_384;
/// Maximum number of stored record sets of one zone. Beyond it, the zone loses all of them. Servers
/// that sign each denial online would fill the store with records that deny one name each.
const MAX_SETS_OF_ZONE: usize = 4_096;
/// Maximum number of labels between the zone and a name that is looked for in NSEC3 records. Each of
/// them takes a hash.
const MAX_LABELS: usize = 8;

/// Validated denials, by zone.
#[derive(Default)]
pub struct Denials(Mutex<Stock>);

#[derive(Default)]
struct Stock {
    zones: HashMap<Name, OfZone>,
    /// The sum of [`OfZone::len`].
    sets: usize,
}

#[derive(Default)]
struct OfZone {
    soa: Option<Stored>,
    nsecs: BTreeMap<Name, Stored>,
    /// By the hash in the owner name.
    nsec3s: BTreeMap<Vec<u8>, Stored>,
}

/// A record set with its signatures.
struct Stored {
    records: Vec<Record>,
    until: Instant,
}

impl Stored {
    fn new(set: &SignedSet, message: &Message, until: Instant) -> Stored {
        let is_of_set = |record: &&Record| {
            let rtype =
                super::signature(record).map_or(record.record_type(), |signature| signature.input().type_covered);
            rtype == set.rtype && record.name == *set.owner
        };
        Stored { records: message.authorities.iter().filter(is_of_set).cloned().collect(), until }
    }

    /// The records with the TTL that is left.
    fn aged(&self, now: Instant) -> impl Iterator<Item = Record> {
        let ttl = u32::try_from(self.until.saturating_duration_since(now).as_secs()).unwrap_or(u32::MAX);
        self.records.iter().map(move |record| {
            let mut record = record.clone();
            record.ttl = record.ttl.min(ttl);
            record
        })
    }

    fn nsec(&self) -> Option<(&Name, &NSEC)> {
        self.records.iter().find_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) => Some((&record.name, nsec)),
            _ => None,
        })
    }

    fn nsec3(&self) -> Option<&NSEC3> {
        self.records.iter().find_map(|record| match &record.data {
            RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => Some(nsec3),
            _ => None,
        })
    }
}

impl Denials {
    fn all(&self) -> MutexGuard<'_, Stock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the denials in a validated response of a zone for `ttl` seconds. `is_proven` tells
    /// whether the NSEC or NSEC3 record of an owner has a good signature. Stores the SOA record only
    /// if `has_soa` says that it is validated.
    pub fn store(&self, apex: &Name, message: &Message, ttl: u32, has_soa: bool, is_proven: impl Fn(&Name) -> bool) {
        let until = Instant::now() + Duration::from_secs(ttl.into());
        let mut all = self.all();
        let stock = &mut *all;
        let key = apex.to_lowercase();
        let before = stock.zones.get(&key).map_or(0, OfZone::len);
        let zone = stock.zones.entry(key).or_default();
        for set in sets(&message.authorities) {
            let stored = || Stored::new(&set, message, until);
            match set.rtype {
                RecordType::SOA if has_soa && set.owner == apex => zone.soa = Some(stored()),
                RecordType::NSEC if is_proven(set.owner) => {
                    zone.nsec3s.clear();
                    zone.nsecs.insert(set.owner.to_lowercase(), stored());
                }
                RecordType::NSEC3 if is_proven(set.owner) => {
                    let stored = stored();
                    if let (Some(hash), Some(false)) = (hash_in(set.owner), stored.nsec3().map(NSEC3::opt_out)) {
                        zone.nsecs.clear();
                        zone.nsec3s.insert(hash, stored);
                    }
                }
                _ => {}
            }
        }
        if zone.len() > MAX_SETS_OF_ZONE {
            *zone = OfZone::default();
        }
        stock.sets = stock.sets - before + zone.len();
        if stock.sets > MAX_SETS {
            let largest = stock.zones.iter().max_by_key(|(_, zone)| zone.len()).map(|(apex, _)| apex.clone());
            stock.sets -= largest.and_then(|apex| stock.zones.remove(&apex)).map_or(0, |zone| zone.len());
        }
    }

    /// The records of a zone that may deny a name: the SOA record, and NSEC or NSEC3 records. `None`
    /// if some are missing.
    pub fn records(&self, apex: &Name, name: &Name, work: &Work) -> Option<Vec<Record>> {
        let (now, all) = (Instant::now(), self.all());
        let zone = all.zones.get(apex)?;
        let is_valid = |stored: &&Stored| now < stored.until;
        let soa = zone.soa.as_ref().filter(is_valid)?;
        let denials =
            if zone.nsecs.is_empty() { zone.nsec3s_for(apex, name, work)? } else { zone.nsecs_for(apex, name)? };
        let all_valid = denials.iter().all(is_valid);
        all_valid.then(|| denials.into_iter().chain([soa]).flat_map(|stored| stored.aged(now)).collect())
    }
}

impl OfZone {
    /// The number of record sets, with the SOA record set or its place, so that no zone is free.
    fn len(&self) -> usize {
        1 + self.nsecs.len() + self.nsec3s.len()
    }

    /// The NSEC record at or before a name, and the one at or before the wildcard of its closest
    /// encloser.
    fn nsecs_for(&self, apex: &Name, name: &Name) -> Option<Vec<&Stored>> {
        let at_or_before = |name: &Name| {
            self.nsecs.range::<Name, _>((Unbounded, Included(name))).next_back().map(|(_, stored)| stored)
        };
        let first = at_or_before(name)?;
        let closest = Nsecs { apex, records: vec![first.nsec()?] }.closest_encloser(name);
        let wildcard = closest.as_ref().and_then(wildcard);
        let second =
            wildcard.and_then(|wildcard| at_or_before(&wildcard)).filter(|second| !std::ptr::eq(*second, first));
        Some([Some(first), second].into_iter().flatten().collect())
    }

    /// The NSEC3 records that match or cover a name, its closest encloser, the next closer name and
    /// the wildcard.
    fn nsec3s_for(&self, apex: &Name, name: &Name, work: &Work) -> Option<Vec<&Stored>> {
        let any = self.nsec3s.values().next()?.nsec3()?;
        if labels(name).checked_sub(labels(apex))? > MAX_LABELS || any.iterations() > super::nsec3::MAX_ITERATIONS {
            return None;
        }
        let hash = |name: &Name| -> Option<Vec<u8>> {
            work.take_hash().ok()?;
            Some(any.hash_algorithm().hash(any.salt(), name, any.iterations()).ok()?.as_ref().to_vec())
        };
        // The last record of the zone covers what is before the first one.
        let at_or_before = |hash: &Vec<u8>| {
            let before = self.nsec3s.range::<Vec<u8>, _>((Unbounded, Included(hash))).next_back();
            before.or_else(|| self.nsec3s.last_key_value())
        };
        let mut found: Vec<&Stored> = Vec::new();
        for count in (labels(apex)..=labels(name)).rev() {
            let candidate = name.trim_to(count);
            let hashed = hash(&candidate)?;
            let (owner, stored) = at_or_before(&hashed)?;
            found.push(stored);
            if *owner == hashed {
                if count < labels(name) {
                    found.push(at_or_before(&hash(&wildcard(&candidate)?)?)?.1);
                }
                found.dedup_by(|a, b| std::ptr::eq(*a, *b));
                return Some(found);
            }
        }
        None
    }
}

/// The hash in the owner name of a NSEC3 record.
fn hash_in(owner: &Name) -> Option<Vec<u8>> {
    BASE32HEX_NOPAD.decode(&owner.iter().next()?.to_ascii_uppercase()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_without_denials_are_bounded_too() {
        let denials = Denials::default();
        let zones = MAX_SETS + 10;
        for number in 0..zones {
            let apex = Name::from_ascii(format!("n{number}.example.")).unwrap();
            denials.store(&apex, &Message::query(), 60, false, |_| false);
        }
        let stock = denials.all();
        assert!(stock.zones.len() <= MAX_SETS, "{} of {zones} zones", stock.zones.len());
        assert_eq!(stock.sets, stock.zones.values().map(OfZone::len).sum::<usize>());
    }
}
