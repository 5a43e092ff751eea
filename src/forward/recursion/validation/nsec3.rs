//! What NSEC3 records prove (RFC 5155, 8). All records that come here are signed by the zone, and not made from a wildcard.

use super::{
    super::errand::Work,
    delegation::Delegation,
    nsec::{has_dname, is_below, is_delegation, lacks, wildcard},
    proven::{Proof, Reason, Unproven},
    signatures::labels,
};
use data_encoding::BASE32HEX_NOPAD;
use hickory_server::proto::{
    dnssec::rdata::NSEC3,
    rr::{Name, RecordType, RecordTypeSet},
};

/// Beyond so many iterations, what a zone denies is insecure (RFC 9276, 3.2). Unbound and BIND have the same bound.
pub const MAX_ITERATIONS: u16 = 150;

/// The NSEC3 records of a zone.
pub struct Nsec3s<'m> {
    apex: &'m Name,
    /// The hash in the owner's first label, and the record.
    records: Vec<(Vec<u8>, &'m NSEC3)>,
    work: &'m Work,
}

/// The closest encloser of a name that does not exist.
struct Closest {
    /// Its name.
    name: Name,
    /// Whether unsigned delegations may be in the span of the name below it.
    opts_out: bool,
}

impl<'m> Nsec3s<'m> {
    /// RFC 5155, 8.1 and 8.2: records with flags that are not known are left out, and all have the same parameters.
    pub fn new(apex: &'m Name, records: &[(&'m Name, &'m NSEC3)], work: &'m Work) -> Result<Nsec3s<'m>, Unproven> {
        let mut found: Vec<(Vec<u8>, &NSEC3)> = Vec::new();
        for (owner, nsec3) in records {
            // Opt-out is the only flag that is known.
            let is_usable = nsec3.flags() & !1 == 0 && labels(owner) == labels(apex) + 1;
            let hash = owner.iter().next().map(<[u8]>::to_ascii_uppercase);
            let hash = hash.and_then(|label| BASE32HEX_NOPAD.decode(&label).ok());
            if let Some(hash) = hash.filter(|hash| is_usable && hash.len() == nsec3.next_hashed_owner_name().len()) {
                found.push((hash, nsec3));
            }
        }
        let parameters = |nsec3: &NSEC3| (nsec3.hash_algorithm(), nsec3.iterations(), nsec3.salt().to_vec());
        let first = found.first().map(|(_, nsec3)| parameters(nsec3));
        if found.iter().any(|(_, nsec3)| Some(parameters(nsec3)) != first) {
            return Err(Unproven::new(Reason::Bogus, format!("{apex} NSEC3 records have different parameters")));
        }
        Ok(Nsec3s { apex, records: found, work })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether to hash names would take too many iterations (RFC 9276).
    pub fn are_costly(&self) -> bool {
        self.records.first().is_some_and(|(_, nsec3)| nsec3.iterations() > MAX_ITERATIONS)
    }

    /// RFC 5155, 5.
    fn hash(&self, name: &Name) -> Result<Vec<u8>, Unproven> {
        let Some((_, nsec3)) = self.records.first() else { return Ok(Vec::new()) };
        self.work.take_hash()?;
        let hash = nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations());
        let hash = hash.map_err(|error| Unproven::new(Reason::Bogus, format!("{name}: {error}")))?;
        Ok(hash.as_ref().to_vec())
    }

    /// The types at a name that exists.
    fn at(&self, hash: &[u8]) -> Option<&'m RecordTypeSet> {
        self.records.iter().find(|(owner, _)| owner == hash).map(|(_, nsec3)| nsec3.type_set())
    }

    /// The record whose span a hash is in.
    fn over(&self, hash: &[u8]) -> Option<&'m NSEC3> {
        let spans = |(owner, nsec3): &&(Vec<u8>, &NSEC3)| {
            let (owner, next) = (owner.as_slice(), nsec3.next_hashed_owner_name());
            match owner < next {
                true => owner < hash && hash < next,
                // The last record of the zone leads back to the first. A zone with one record has it alone.
                false => owner < hash || hash < next,
            }
        };
        self.records.iter().find(spans).map(|(_, nsec3)| *nsec3)
    }

    /// RFC 5155, 8.3: the closest encloser matches a record, and the next closer name is in the span of one.
    fn closest_encloser(&self, name: &Name) -> Result<Option<Closest>, Unproven> {
        let (longest, shortest) = (labels(name), labels(self.apex));
        if !self.apex.zone_of(name) {
            return Ok(None);
        }
        let mut next_closer = self.hash(name)?;
        for count in (shortest..longest).rev() {
            let candidate = name.trim_to(count);
            let hash = self.hash(&candidate)?;
            if let Some(types) = self.at(&hash) {
                // What is below a delegation or a DNAME is not for this zone to deny.
                let ends_here = has_dname(types) || is_delegation(types);
                let span = self.over(&next_closer).filter(|_| !ends_here);
                return Ok(span.map(|span| Closest { name: candidate, opts_out: span.opt_out() }));
            }
            next_closer = hash;
        }
        Ok(None)
    }

    /// RFC 5155, 8.4: neither the name exists nor the wildcard that it would be made from. Where the next closer name is in an
    /// opt-out span, there may be an unsigned delegation (RFC 5155, 9.2).
    pub fn proves_no_name(&self, name: &Name) -> Result<Option<Proof>, Unproven> {
        if self.at(&self.hash(name)?).is_some() {
            return Ok(None);
        }
        let Some(closest) = self.closest_encloser(name)? else { return Ok(None) };
        let Some(wildcard) = wildcard(&closest.name) else { return Ok(None) };
        Ok(self.over(&self.hash(&wildcard)?).map(|_| closest.proof()))
    }

    /// RFC 5155, 8.5 to 8.7.
    pub fn proves_no_data(&self, name: &Name, rtype: RecordType) -> Result<Option<Proof>, Unproven> {
        // 8.5, 8.6: a record matches the name.
        if let Some(types) = self.at(&self.hash(name)?) {
            return Ok(lacks(types, name, rtype).then_some(Proof::Secure));
        }
        let Some(closest) = self.closest_encloser(name)? else { return Ok(None) };
        // 8.7: a record matches the wildcard.
        let wildcard = wildcard(&closest.name);
        let types = wildcard.as_ref().map(|wildcard| self.hash(wildcard)).transpose()?.and_then(|hash| self.at(&hash));
        if let (Some(types), Some(wildcard)) = (types, &wildcard) {
            return Ok(lacks(types, wildcard, rtype).then_some(closest.proof()));
        }
        // 8.6, and for other types erratum 3441: an unsigned delegation may be there.
        Ok(closest.opts_out.then_some(Proof::Insecure))
    }

    /// RFC 5155, 8.8: the next closer name below the wildcard's parent, which has so many labels, does not exist.
    pub fn proves_no_closer_name(&self, name: &Name, wildcard_labels: u8) -> Result<Option<Proof>, Unproven> {
        let next_closer = name.trim_to(usize::from(wildcard_labels) + 1);
        if !is_below(self.apex, &next_closer) {
            return Ok(None);
        }
        let span = self.over(&self.hash(&next_closer)?);
        Ok(span.map(|span| if span.opt_out() { Proof::Insecure } else { Proof::Secure }))
    }

    /// RFC 5155, 8.6 and 8.9: what there is at a name that has no DS records.
    pub fn delegation(&self, name: &Name) -> Result<Option<Delegation>, Unproven> {
        if let Some(types) = self.at(&self.hash(name)?) {
            return Ok(Delegation::of(types));
        }
        let closest = self.closest_encloser(name)?;
        Ok(closest.map(|closest| if closest.opts_out { Delegation::Insecure } else { Delegation::NoName }))
    }
}

impl Closest {
    fn proof(&self) -> Proof {
        if self.opts_out { Proof::Insecure } else { Proof::Secure }
    }
}
