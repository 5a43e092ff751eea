//! Domains that clients send data to, by the information in the names below them: information-based heavy hitters (ibHH, Ozery,
//! Nadler and Shabtai, NDSS 2024).
//!
//! An entry has two sketches of the names, which begin 12 hours apart. A name counts only if the older one does not have it.
//! So names that clients ask for again and again count once in 12 to 24 hours, and a tunnel, which never repeats a name, counts
//! in every hour.
//!
//! A full set of entries makes room as Misra and Gries do (1982): a new domain takes octets from the entry with the fewest, and
//! replaces it once that has none. So the entries of heavy domains stay, and light ones come and go.

use super::{HOUR, sketch::Sketch};
use crate::{snapshot::firewall::detections::Numbers, wire::query::LookupName};

/// The number of sets of entries.
const SETS: usize = 128;
/// The number of entries of a set.
const WAYS: usize = 8;
/// The age at which a sketch is replaced by the younger one, in seconds.
const SKETCH_AGE: i64 = 12 * HOUR;

/// The octets of information in the labels in front of a registered domain, of which there are `below`.
///
/// A label counts once, so a search list that repeats a domain adds nothing. An address counts as its 4 or 16 octets, however it
/// is written: queries to block lists have addresses. Names of reverse zones count nothing.
pub(super) fn information(name: &LookupName, below: usize) -> u32 {
    let count = name.labels();
    if count > 0 && name.label(count - 1) == b"arpa" {
        return 0;
    }
    let is_octet = |label: &[u8]| {
        let number = std::str::from_utf8(label).ok().filter(|_| label.len() <= 3);
        number.is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()) && number.parse::<u8>().is_ok())
    };
    let is_nibble = |label: &[u8]| matches!(label, [digit] if digit.is_ascii_hexdigit());
    let begins_with = |labels: usize, is_part: &dyn Fn(&[u8]) -> bool| {
        below >= labels && (0..labels).all(|index| is_part(name.label(index)))
    };
    let (mut octets, first) = if begins_with(32, &is_nibble) {
        (16, 32)
    } else if begins_with(4, &is_octet) {
        (4, 4)
    } else {
        (0, 0)
    };
    for index in first..below {
        let label = name.label(index);
        if !(first..index).any(|before| name.label(before) == label) {
            octets += label.len() as u32;
        }
    }
    octets
}

/// A domain with names below it.
struct Entry {
    /// The hash of the registered domain.
    domain: u64,
    /// The octets that other domains have to bring before they replace the entry.
    credit: f64,
    /// The time at which the current hour began.
    since: i64,
    /// The octets of new names in the current hour.
    octets: f64,
    /// The number of new names in the current hour.
    names: f64,
    /// The older sketch, which decides whether a name is new, and the younger one.
    sketches: [Sketch; 2],
    /// The time at which the younger sketch began.
    younger_since: i64,
}

impl Entry {
    fn new(domain: u64, now: i64) -> Entry {
        let sketches = Default::default();
        Entry { domain, credit: 0.0, since: now, octets: 0.0, names: 0.0, sketches, younger_since: now }
    }

    /// Adds a name. The numbers of the current hour, if the name is new.
    fn add(&mut self, name: u64, octets: u32, now: i64) -> Option<Numbers> {
        if now - self.since >= HOUR || now < self.since {
            let is_old = now - self.since >= 2 * HOUR;
            self.credit = if is_old { 0.0 } else { self.credit / 2.0 };
            (self.since, self.octets, self.names) = (now, 0.0, 0.0);
        }
        if now - self.younger_since >= SKETCH_AGE {
            self.sketches.swap(0, 1);
            self.sketches[1] = Sketch::default();
            self.younger_since = now;
        }
        let [older, younger] = &mut self.sketches;
        younger.add(name);
        let names = older.add(name)?;
        let information = names * f64::from(octets);
        self.names += names;
        self.octets += information;
        self.credit += information;
        Some(Numbers { amount: self.octets as u32, names: self.names as u32 })
    }
}

/// The domains of a VPC.
pub(super) struct Tunnels {
    sets: Box<[Vec<Entry>]>,
    /// The number of queries for domains that found no room.
    uncounted: u64,
}

impl Default for Tunnels {
    fn default() -> Tunnels {
        Tunnels { sets: (0..SETS).map(|_| Vec::new()).collect(), uncounted: 0 }
    }
}

impl Tunnels {
    /// Adds a name below a domain, both by their hashes. The numbers of the domain in the current hour, if the name is new and
    /// there is room.
    pub(super) fn add(&mut self, domain: u64, name: u64, octets: u32, now: i64) -> Option<Numbers> {
        let set = &mut self.sets[(domain >> 32) as usize % SETS];
        if let Some(entry) = set.iter_mut().find(|entry| entry.domain == domain) {
            return entry.add(name, octets, now);
        }
        if set.len() >= WAYS {
            let credit = |entry: &Entry| if now - entry.since >= 2 * HOUR { 0.0 } else { entry.credit };
            let lightest = set.iter_mut().min_by(|a, b| credit(a).total_cmp(&credit(b)))?;
            if credit(lightest) > f64::from(octets) {
                lightest.credit -= f64::from(octets);
                self.uncounted += 1;
                return None;
            }
            *lightest = Entry::new(domain, now);
            return lightest.add(name, octets, now);
        }
        set.push(Entry::new(domain, now));
        set.last_mut()?.add(name, octets, now)
    }

    /// The number of entries, and of queries that were not counted.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.sets.iter().map(Vec::len).sum(), self.uncounted)
    }
}
