//! The record sets after an update, by the rules of RFC 2136, section 3.

use crate::{
    control_plane::change::UpdateError,
    manifest::overlay::EditedSet,
    manifest::transferred::is_newer,
    snapshot::zone::{Zone, soa_serial},
    transfer::message::Request,
    wire::{
        Name,
        codes::{
            class::{ANY, IN, NONE},
            rcode,
        },
        rdata::{self, rtype, type_to_text},
        response::Record,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// The TTL and the data of a record set.
#[derive(Clone, Debug, PartialEq)]
struct Set {
    ttl: u32,
    values: Vec<Vec<u8>>,
}

/// A zone, and the record sets that the update has changed so far. A set without data is removed.
struct UpdatedZone<'z> {
    zone: &'z Zone,
    apex: Name,
    edited: BTreeMap<(Name, u16), Option<Set>>,
}

/// The record sets of a zone that an update changes.
///
/// # Errors
///
/// The RCODE of RFC 2136, or the reason why the zone cannot be changed.
pub fn edits(zone: &Zone, request: &Request) -> Result<Vec<EditedSet>, UpdateError> {
    let mut updated = UpdatedZone { zone, apex: request.zone.to_lowercase(), edited: BTreeMap::new() };
    let [prerequisites, updates, _] = &request.sections;
    // 3.2 Process the prerequisite section
    updated.check(prerequisites)?;
    // 3.4.1 Prescan of the update section
    for record in updates {
        updated.scan(record)?;
    }
    // 3.4.2 Update
    for record in updates {
        updated.update(record)?;
    }
    let UpdatedZone { edited, .. } = updated;
    let mut sets = Vec::new();
    for ((owner, rtype), set) in edited {
        if set == served(zone, &owner, rtype) {
            continue;
        }
        if is_alias(zone, &owner, rtype) {
            let what = type_to_text(rtype);
            return Err(UpdateError::Refused(format!(
                "{owner} {what} is an alias in the manifest, which no update can change"
            )));
        }
        let Set { ttl, values } = set.unwrap_or(Set { ttl: 0, values: Vec::new() });
        sets.push(EditedSet { owner, rtype, ttl, values: values.into_iter().map(Vec::into_boxed_slice).collect() });
    }
    Ok(sets)
}

/// A record set as it is served.
fn served(zone: &Zone, owner: &Name, rtype: u16) -> Option<Set> {
    let set = zone.node_of(owner.as_wire())?.set(rtype)?;
    let set = zone.follow_alias(set)?;
    Some(Set { ttl: set.ttl(), values: set.values().collect() })
}

fn is_alias(zone: &Zone, owner: &Name, rtype: u16) -> bool {
    let set = zone.node_of(owner.as_wire()).and_then(|node| node.set(rtype));
    set.is_some_and(|set| set.alias().is_some())
}

/// Whether a type is no data type (RFC 6895, section 3.1).
fn is_meta(rtype: u16) -> bool {
    matches!(rtype, 0 | rtype::OPT | 128..=255)
}

/// Whether records of a type may be at the same name as a CNAME record (RFC 4034).
fn is_of_dnssec(rtype: u16) -> bool {
    matches!(rtype, rtype::RRSIG | rtype::NSEC | rtype::KEY)
}

/// Whether a name has at most one record of a type (RFC 2136, section 3.4.2.2).
fn is_single(rtype: u16) -> bool {
    matches!(rtype, rtype::SOA | rtype::CNAME | rtype::DNAME)
}

/// Record data with its names in lower case, for comparison.
fn canonical(rtype: u16, data: &[u8]) -> Vec<u8> {
    let mut canonical = data.to_vec();
    for (name, _) in rdata::names(rtype, data) {
        canonical[name].make_ascii_lowercase();
    }
    canonical
}

fn fail<T>(code: u16) -> Result<T, UpdateError> {
    Err(UpdateError::Rcode(code))
}

impl UpdatedZone<'_> {
    fn owner(&self, record: &Record) -> Result<Name, UpdateError> {
        let owner = Name::from_wire(&record.owner).map_err(|_| UpdateError::Rcode(rcode::FORMERR))?.to_lowercase();
        if owner.is_at_or_below(&self.apex) { Ok(owner) } else { fail(rcode::NOTZONE) }
    }

    fn set(&self, owner: &Name, rtype: u16) -> Option<Set> {
        match self.edited.get(&(owner.clone(), rtype)) {
            Some(edited) => edited.clone(),
            None => served(self.zone, owner, rtype),
        }
    }

    /// Whether there is such a set; an alias to an endpoint is one whose data are not known.
    fn has(&self, owner: &Name, rtype: u16) -> bool {
        match self.edited.get(&(owner.clone(), rtype)) {
            Some(edited) => edited.is_some(),
            None => self.zone.node_of(owner.as_wire()).is_some_and(|node| node.set(rtype).is_some()),
        }
    }

    /// The types that a name has.
    fn types(&self, owner: &Name) -> BTreeSet<u16> {
        let node = self.zone.node_of(owner.as_wire());
        let served = node.into_iter().flat_map(|node| node.sets().map(|set| set.rtype()).collect::<Vec<_>>());
        let edited = self.edited.range((owner.clone(), 0)..=(owner.clone(), u16::MAX)).map(|((_, rtype), _)| *rtype);
        let all: BTreeSet<u16> = served.chain(edited).collect();
        all.into_iter().filter(|rtype| self.has(owner, *rtype)).collect()
    }

    /// Checks the prerequisites (RFC 2136, 3.2).
    fn check(&self, prerequisites: &[Record]) -> Result<(), UpdateError> {
        let mut wanted: BTreeMap<(Name, u16), BTreeSet<Vec<u8>>> = BTreeMap::new();
        for record in prerequisites {
            let owner = self.owner(record)?;
            let rtype = record.rtype;
            if record.ttl != 0 || (record.class != IN && !record.rdata.is_empty()) {
                return fail(rcode::FORMERR);
            }
            let is_there = match rtype {
                rtype::ANY => !self.types(&owner).is_empty(),
                _ => self.has(&owner, rtype),
            };
            match (record.class, rtype) {
                (ANY, rtype::ANY) if !is_there => return fail(rcode::NXDOMAIN),
                (ANY, _) if !is_there => return fail(rcode::NXRRSET),
                (NONE, rtype::ANY) if is_there => return fail(rcode::YXDOMAIN),
                (NONE, _) if is_there => return fail(rcode::YXRRSET),
                (ANY | NONE, _) => {}
                (IN, _) if !is_meta(rtype) => {
                    wanted.entry((owner, rtype)).or_default().insert(canonical(rtype, &record.rdata));
                }
                _ => return fail(rcode::FORMERR),
            }
        }
        for ((owner, rtype), wanted) in wanted {
            let set = self.set(&owner, rtype).ok_or(UpdateError::Rcode(rcode::NXRRSET))?;
            let values: BTreeSet<Vec<u8>> = set.values.iter().map(|value| canonical(rtype, value)).collect();
            if values != wanted {
                return fail(rcode::NXRRSET);
            }
        }
        Ok(())
    }

    /// Checks a record of the update section before anything is changed (RFC 2136, section 3.4.1).
    fn scan(&self, record: &Record) -> Result<(), UpdateError> {
        self.owner(record)?;
        let is_good = match record.class {
            IN => !is_meta(record.rtype) && rdata::check(record.rtype, &record.rdata) && record.ttl <= i32::MAX as u32,
            ANY => {
                let is_type = record.rtype == rtype::ANY || !is_meta(record.rtype);
                record.ttl == 0 && record.rdata.is_empty() && is_type
            }
            NONE => record.ttl == 0 && !is_meta(record.rtype) && rdata::check(record.rtype, &record.rdata),
            _ => false,
        };
        if is_good { Ok(()) } else { fail(rcode::FORMERR) }
    }

    /// Applies a record of the update section (RFC 2136, section 3.4.2).
    fn update(&mut self, record: &Record) -> Result<(), UpdateError> {
        let owner = self.owner(record)?;
        let is_apex = owner == self.apex;
        let is_kept = |rtype: u16| is_apex && matches!(rtype, rtype::SOA | rtype::NS);
        match (record.class, record.rtype) {
            (IN, _) => self.add(owner, record),
            (ANY, rtype::ANY) => {
                for rtype in self.types(&owner).into_iter().filter(|rtype| !is_kept(*rtype)) {
                    self.edited.insert((owner.clone(), rtype), None);
                }
            }
            (ANY, rtype) if !is_kept(rtype) && self.has(&owner, rtype) => {
                self.edited.insert((owner, rtype), None);
            }
            (NONE, rtype) if rtype != rtype::SOA => {
                let Some(mut set) = self.set(&owner, rtype) else { return Ok(()) };
                let gone = canonical(rtype, &record.rdata);
                let before = set.values.len();
                set.values.retain(|value| canonical(rtype, value) != gone);
                // The last name server of the zone stays (RFC 2136, section 3.4.2.4).
                if set.values.len() < before && !(set.values.is_empty() && is_kept(rtype)) {
                    self.edited.insert((owner, rtype), (!set.values.is_empty()).then_some(set));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, owner: Name, record: &Record) {
        let rtype = record.rtype;
        let types = self.types(&owner);
        let is_in_the_way = match rtype {
            rtype::CNAME => types.iter().any(|other| *other != rtype::CNAME && !is_of_dnssec(*other)),
            rtype::SOA => {
                let serial = self.set(&owner, rtype).and_then(|set| set.values.first().map(|soa| soa_serial(soa)));
                owner != self.apex || serial.is_some_and(|serial| !is_newer(soa_serial(&record.rdata), serial))
            }
            _ => types.contains(&rtype::CNAME) && !is_of_dnssec(rtype),
        };
        if is_in_the_way {
            return;
        }
        let mut set = self.set(&owner, rtype).unwrap_or(Set { ttl: record.ttl, values: Vec::new() });
        // A record set has one TTL (RFC 2181, section 5.2): that of its last record.
        set.ttl = record.ttl;
        let same = canonical(rtype, &record.rdata);
        match set.values.iter_mut().find(|value| is_single(rtype) || canonical(rtype, value) == same) {
            Some(value) => *value = record.rdata.clone(),
            None => set.values.push(record.rdata.clone()),
        }
        self.edited.insert((owner, rtype), Some(set));
    }
}
