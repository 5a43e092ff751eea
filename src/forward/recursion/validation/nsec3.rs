//! Proofs by NSEC3 records (RFC 5155, section 8).
//!
//! The caller has verified that the zone signed all records, and that none comes from a wildcard.

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

/// Number of iterations beyond which a denial counts as insecure (RFC 9276, section 3.2). Unbound
/// and BIND have the same bound.
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
    /// Whether the span that covers the next closer name has the opt-out flag. Such a span may
    /// contain unsigned delegations.
    opts_out: bool,
}

impl<'m> Nsec3s<'m> {
    /// Collects the usable records (RFC 5155, sections 8.1 and 8.2): no unknown flags, same
    /// parameters.
    ///
    /// # Errors
    /// The records have different parameters.
    pub fn new(apex: &'m Name, records: &[(&'m Name, &'m NSEC3)], work: &'m Work) -> Result<Nsec3s<'m>, Unproven> {
        let mut found: Vec<(Vec<u8>, &NSEC3)> = Vec::new();
        for (owner, nsec3) in records {
            // Opt-out is the only known flag.
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

    /// Whether no usable record is present.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether hashing names would take too many iterations (RFC 9276).
    pub fn are_costly(&self) -> bool {
        self.records.first().is_some_and(|(_, nsec3)| nsec3.iterations() > MAX_ITERATIONS)
    }

    /// Hashes a name with the parameters of the records (RFC 5155, section 5).
    fn hash(&self, name: &Name) -> Result<Vec<u8>, Unproven> {
        let Some((_, nsec3)) = self.records.first() else { return Ok(Vec::new()) };
        self.work.take_hash()?;
        let hash = nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations());
        let hash = hash.map_err(|error| Unproven::new(Reason::Bogus, format!("{name}: {error}")))?;
        Ok(hash.as_ref().to_vec())
    }

    /// The types in the record that matches a hash.
    fn at(&self, hash: &[u8]) -> Option<&'m RecordTypeSet> {
        self.records.iter().find(|(owner, _)| owner == hash).map(|(_, nsec3)| nsec3.type_set())
    }

    /// The record whose span contains a hash.
    fn over(&self, hash: &[u8]) -> Option<&'m NSEC3> {
        let spans = |(owner, nsec3): &&(Vec<u8>, &NSEC3)| {
            let (owner, next) = (owner.as_slice(), nsec3.next_hashed_owner_name());
            match owner < next {
                true => owner < hash && hash < next,
                // The last record of the zone points to the first. If the zone has only one record,
                // its span contains all other hashes.
                false => owner < hash || hash < next,
            }
        };
        self.records.iter().find(spans).map(|(_, nsec3)| *nsec3)
    }

    /// Returns the closest encloser (RFC 5155, section 8.3): a record matches it, and a span covers
    /// the next closer name.
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
                // This zone cannot deny names below a delegation or a DNAME.
                let ends_here = has_dname(types) || is_delegation(types);
                let span = self.over(&next_closer).filter(|_| !ends_here);
                return Ok(span.map(|span| Closest { name: candidate, opts_out: span.opt_out() }));
            }
            next_closer = hash;
        }
        Ok(None)
    }

    /// Whether neither the name nor its wildcard exists (RFC 5155, section 8.4).
    ///
    /// If the next closer name is in an opt-out span, an unsigned delegation may exist. Then the
    /// result is insecure (RFC 5155, section 9.2).
    pub fn proves_no_name(&self, name: &Name) -> Result<Option<Proof>, Unproven> {
        if self.at(&self.hash(name)?).is_some() {
            return Ok(None);
        }
        let Some(closest) = self.closest_encloser(name)? else { return Ok(None) };
        let Some(wildcard) = wildcard(&closest.name) else { return Ok(None) };
        Ok(self.over(&self.hash(&wildcard)?).map(|_| closest.proof()))
    }

    /// Whether the name has no records of the type (RFC 5155, sections 8.5 to 8.7).
    pub fn proves_no_data(&self, name: &Name, rtype: RecordType) -> Result<Option<Proof>, Unproven> {
        // Sections 8.5 and 8.6: a record matches the name.
        if let Some(types) = self.at(&self.hash(name)?) {
            return Ok(lacks(types, name, rtype).then_some(Proof::Secure));
        }
        let Some(closest) = self.closest_encloser(name)? else { return Ok(None) };
        // Section 8.7: a record matches the wildcard.
        let wildcard = wildcard(&closest.name);
        let types = wildcard.as_ref().map(|wildcard| self.hash(wildcard)).transpose()?.and_then(|hash| self.at(&hash));
        if let (Some(types), Some(wildcard)) = (types, &wildcard) {
            return Ok(lacks(types, wildcard, rtype).then_some(closest.proof()));
        }
        // Section 8.6, and erratum 3441 for other types: an unsigned delegation may exist.
        Ok(closest.opts_out.then_some(Proof::Insecure))
    }

    /// Whether the next closer name below the wildcard's parent does not exist (RFC 5155, section
    /// 8.8). The parent has `wildcard_labels` labels.
    pub fn proves_no_closer_name(&self, name: &Name, wildcard_labels: u8) -> Result<Option<Proof>, Unproven> {
        let next_closer = name.trim_to(usize::from(wildcard_labels) + 1);
        if !is_below(self.apex, &next_closer) {
            return Ok(None);
        }
        let span = self.over(&self.hash(&next_closer)?);
        Ok(span.map(|span| if span.opt_out() { Proof::Insecure } else { Proof::Secure }))
    }

    /// Returns the meaning of a name without DS records (RFC 5155, sections 8.6 and 8.9).
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
