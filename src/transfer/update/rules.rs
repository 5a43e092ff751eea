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
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A record set. An edit of a value costs the value, not the set.
#[derive(Debug, Default)]
struct Set {
    ttl: u32,
    /// The values in the order of their arrival; none in the place of a removed value.
    values: Vec<Option<Vec<u8>>>,
    /// The place of each value, by its canonical form.
    places: HashMap<Vec<u8>, usize>,
}

impl Set {
    /// Adds a value, or replaces an equal one.
    fn insert(&mut self, rtype: u16, value: Vec<u8>) {
        let place = *self.places.entry(canonical(rtype, &value)).or_insert(self.values.len());
        match self.values.get_mut(place) {
            Some(old) => *old = Some(value),
            None => self.values.push(Some(value)),
        }
    }

    fn remove(&mut self, rtype: u16, value: &[u8]) {
        if let Some(place) = self.places.remove(&canonical(rtype, value)) {
            self.values[place] = None;
        }
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn values(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.values.iter().flatten()
    }
}

impl PartialEq for Set {
    fn eq(&self, other: &Set) -> bool {
        self.ttl == other.ttl && self.values().eq(other.values())
    }
}

/// A zone, and the record sets that the update has changed so far. A set without data is removed.
struct UpdatedZone<'z> {
    zone: &'z Zone,
    apex: Name,
    edited: BTreeMap<(Name, u16), Option<Set>>,
    /// The types of the names that the update has changed so far.
    types: HashMap<Name, BTreeSet<u16>>,
}

/// The record sets of a zone that an update changes.
///
/// # Errors
///
/// The RCODE of RFC 2136, or the reason why the zone cannot be changed.
pub fn edits(zone: &Zone, request: &Request) -> Result<Vec<EditedSet>, UpdateError> {
    let (apex, edited, types) = (request.zone.to_lowercase(), BTreeMap::new(), HashMap::new());
    let mut updated = UpdatedZone { zone, apex, edited, types };
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
        if let Some(kind) = fixed_kind(zone, &owner, rtype) {
            let what = type_to_text(rtype);
            return Err(UpdateError::Refused(format!(
                "{owner} {what} {kind} in the manifest, which no update can change"
            )));
        }
        if let Some(refusal) = zone.protected.as_ref().and_then(|protected| protected.refusal(&owner, rtype)) {
            return Err(UpdateError::Protected(refusal));
        }
        let Set { ttl, values, .. } = set.unwrap_or_default();
        let values = values.into_iter().flatten().map(Vec::into_boxed_slice).collect();
        sets.push(EditedSet { owner, rtype, ttl, values });
    }
    Ok(sets)
}

/// A record set as it is served.
fn served(zone: &Zone, owner: &Name, rtype: u16) -> Option<Set> {
    let set = zone.node_of(owner.as_wire())?.set(rtype)?;
    let followed = zone.follow_alias(set)?;
    let mut served = Set { ttl: followed.ttl(), ..Set::default() };
    followed.values().for_each(|value| served.insert(rtype, value));
    Some(served)
}

/// The types of a name in the zone. Aliases to endpoints are among them.
fn served_types(zone: &Zone, owner: &Name) -> impl Iterator<Item = u16> {
    zone.node_of(owner.as_wire()).into_iter().flat_map(|node| node.sets().map(|set| set.rtype()).collect::<Vec<_>>())
}

/// The reason why updates cannot change a record set: its routing policy or its alias. `None` if updates can change it.
fn fixed_kind(zone: &Zone, owner: &Name, rtype: u16) -> Option<&'static str> {
    let set = zone.node_of(owner.as_wire())?.set(rtype)?;
    match (set.group(), set.alias()) {
        (Some(_), _) => Some("has a routing policy"),
        (None, Some(_)) => Some("is an alias"),
        (None, None) => None,
    }
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

    /// A record set, as the update has changed it so far.
    fn set(&mut self, owner: &Name, rtype: u16) -> &mut Option<Set> {
        let zone = self.zone;
        self.edited.entry((owner.clone(), rtype)).or_insert_with(|| served(zone, owner, rtype))
    }

    /// The types of a name, as the update has changed it so far.
    fn types(&mut self, owner: &Name) -> &mut BTreeSet<u16> {
        let zone = self.zone;
        self.types.entry(owner.clone()).or_insert_with(|| served_types(zone, owner).collect())
    }

    fn remove(&mut self, owner: &Name, rtype: u16) {
        *self.set(owner, rtype) = None;
        self.types(owner).remove(&rtype);
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
            let is_there = served_types(self.zone, &owner).any(|other| rtype == rtype::ANY || rtype == other);
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
            let set = served(self.zone, &owner, rtype).ok_or(UpdateError::Rcode(rcode::NXRRSET))?;
            if set.len() != wanted.len() || !wanted.iter().all(|value| set.places.contains_key(value)) {
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
                let types: Vec<u16> = self.types(&owner).iter().copied().filter(|rtype| !is_kept(*rtype)).collect();
                types.into_iter().for_each(|rtype| self.remove(&owner, rtype));
            }
            (ANY, rtype) if !is_kept(rtype) && self.types(&owner).contains(&rtype) => self.remove(&owner, rtype),
            (NONE, rtype) if rtype != rtype::SOA => {
                let Some(set) = self.set(&owner, rtype) else { return Ok(()) };
                // The last name server of the zone stays (RFC 2136, section 3.4.2.4).
                if set.len() > 1 || !is_kept(rtype) {
                    set.remove(rtype, &record.rdata);
                }
                if set.len() == 0 {
                    self.remove(&owner, rtype);
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
                let soa = self.set(&owner, rtype).as_ref().and_then(|set| set.values().next());
                let serial = soa.map(|soa| soa_serial(soa));
                owner != self.apex || serial.is_some_and(|serial| !is_newer(soa_serial(&record.rdata), serial))
            }
            _ => types.contains(&rtype::CNAME) && !is_of_dnssec(rtype),
        };
        if is_in_the_way {
            return;
        }
        self.types(&owner).insert(rtype);
        let set = self.set(&owner, rtype).get_or_insert_default();
        if is_single(rtype) {
            *set = Set::default();
        }
        // A record set has one TTL (RFC 2181, section 5.2): that of its last record.
        set.ttl = record.ttl;
        set.insert(rtype, record.rdata.clone());
    }
}
