//! Proofs by NSEC records (RFC 4035, section 5.4; RFC 6840, section 4).
//!
//! The caller has verified that the zone signed all records, and that none comes from a wildcard.

use super::{delegation::Delegation, signatures::labels};
use hickory_server::proto::{
    dnssec::rdata::NSEC,
    rr::{Name, RecordType, RecordTypeSet},
};

/// The NSEC records of a zone.
pub struct Nsecs<'m> {
    /// The name of the zone.
    pub apex: &'m Name,
    /// The records, with their owners.
    pub records: Vec<(&'m Name, &'m NSEC)>,
}

impl<'m> Nsecs<'m> {
    /// The types at a name that exists.
    fn at(&self, name: &Name) -> Option<&'m RecordTypeSet> {
        self.records.iter().find(|(owner, _)| *owner == name).map(|(_, nsec)| nsec.type_set())
    }

    /// The record whose span contains a name. It proves that the name does not exist, or that the
    /// name is an empty non-terminal.
    fn over(&self, name: &Name) -> Option<(&'m Name, &'m NSEC)> {
        let spans = |(owner, nsec): &&(&Name, &NSEC)| {
            let next = nsec.next_domain_name();
            // The last record of the zone points to the apex.
            let is_before_next = name < next || next == self.apex;
            // A record above the name proves nothing if the name is in another zone, or below a
            // DNAME (RFC 6840, section 4.1).
            let ends_above = is_below(owner, name) && (is_delegation(nsec.type_set()) || has_dname(nsec.type_set()));
            *owner < name && is_before_next && self.apex.zone_of(next) && !ends_above
        };
        self.records.iter().find(spans).copied()
    }

    /// Whether a name has no records itself, but exists because names below it exist.
    fn is_empty_non_terminal(&self, name: &Name) -> bool {
        self.over(name).is_some_and(|(_, nsec)| is_below(name, nsec.next_domain_name()))
    }

    /// The closest encloser of a name that does not exist. The owner, the next name and all their
    /// ancestors exist.
    pub fn closest_encloser(&self, name: &Name) -> Option<Name> {
        let (owner, nsec) = self.over(name).filter(|_| !self.is_empty_non_terminal(name))?;
        let common = common_labels(name, owner).max(common_labels(name, nsec.next_domain_name()));
        Some(name.trim_to(common))
    }

    /// Whether the records prove that the name has no records of the type.
    ///
    /// - RFC 4035, sections 5.4 and 3.1.3.1: the name exists, and does not have the type.
    /// - RFC 4035, section 3.1.3.4: the name does not exist, and its wildcard does not have the
    ///   type.
    pub fn proves_no_data(&self, name: &Name, rtype: RecordType) -> bool {
        let has_none = |name: &Name| match self.at(name) {
            Some(types) => lacks(types, name, rtype),
            None => self.is_empty_non_terminal(name),
        };
        match self.at(name) {
            Some(_) => has_none(name),
            None if self.is_empty_non_terminal(name) => true,
            None => {
                self.closest_encloser(name).and_then(|closest| wildcard(&closest)).is_some_and(|name| has_none(&name))
            }
        }
    }

    /// Whether neither the name nor its wildcard exists (RFC 4035, section 3.1.3.2).
    pub fn proves_no_name(&self, name: &Name) -> bool {
        let closest = self.closest_encloser(name).filter(|_| self.at(name).is_none());
        let Some(wildcard) = closest.as_ref().and_then(wildcard) else { return false };
        self.at(&wildcard).is_none() && self.over(&wildcard).is_some() && !self.is_empty_non_terminal(&wildcard)
    }

    /// Whether no name is closer than the wildcard, whose parent has `wildcard_labels` labels (RFC
    /// 4035, sections 3.1.3.3 and 5.3.4).
    pub fn proves_no_closer_name(&self, name: &Name, wildcard_labels: u8) -> bool {
        self.at(name).is_none()
            && self.closest_encloser(name).is_some_and(|closest| labels(&closest) == usize::from(wildcard_labels))
    }

    /// Returns the meaning of a name without DS records (RFC 4035, section 5.2; RFC 6840, section
    /// 4.4).
    pub fn delegation(&self, name: &Name) -> Option<Delegation> {
        match self.at(name) {
            Some(types) => Delegation::of(types),
            None if self.is_empty_non_terminal(name) => Some(Delegation::None),
            None => self.over(name).map(|_| Delegation::NoName),
        }
    }
}

/// Whether the types in an NSEC or NSEC3 record prove that its name lacks a type.
///
/// The name must have neither the type nor a CNAME. The record must come from the zone that owns
/// the type. A record from above a cut proves nothing about the zone below, except for DS records
/// (RFC 6840, section 4.1). A record from below a cut proves nothing about DS records (RFC 5155,
/// sections 8.6 and 8.9).
pub fn lacks(types: &RecordTypeSet, name: &Name, rtype: RecordType) -> bool {
    let is_of_zone = match rtype {
        RecordType::DS if !name.is_root() => !types.contains(RecordType::SOA),
        _ => !is_delegation(types),
    };
    let has = match rtype {
        RecordType::ANY => types.iter().any(|rtype| !matches!(rtype, RecordType::NSEC | RecordType::RRSIG)),
        rtype => types.contains(rtype),
    };
    is_of_zone && !has && !types.contains(RecordType::CNAME)
}

/// Whether the types are those of a delegation in the zone above the cut.
pub fn is_delegation(types: &RecordTypeSet) -> bool {
    types.contains(RecordType::NS) && !types.contains(RecordType::SOA)
}

/// Whether the types include DNAME, so that no name below exists.
pub fn has_dname(types: &RecordTypeSet) -> bool {
    types.contains(RecordType::DNAME)
}

/// Whether `name` is below `above`.
pub fn is_below(above: &Name, name: &Name) -> bool {
    above.zone_of(name) && labels(above) < labels(name)
}

/// Returns the wildcard directly below a name. `None` if the wildcard would be too long.
pub fn wildcard(closest: &Name) -> Option<Name> {
    closest.prepend_label("*").ok()
}

/// Number of labels that two names have in common, counted from the root.
fn common_labels(a: &Name, b: &Name) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
}
