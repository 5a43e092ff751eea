//! Validation (RFC 4035, 5): whether what authoritative servers said is proven from the trust anchor on, or proven to need no
//! proof, or neither.
//!
//! hickory has a validator too. It takes an opt-out NSEC3 record that covers a name as proof that a zone below is not signed,
//! without the closest encloser (RFC 5155, 8.6), which lets anybody on the path forge signed names. It finds zone cuts by
//! asking the servers below the cut. And the work that it does for one response has no bound. Its proofs cannot be checked
//! from the outside, as they are made on the way down the chain of trust. So of hickory only the primitives are used here:
//! records, keys, digests and signatures.
//!
//! ```text
//! proven      what comes of a proof, and why there is none
//! signatures  record sets, and whether the keys of a zone have signed them (RFC 4035, 5.3)
//! nsec        what NSEC records prove (RFC 4035, 5.4)
//! nsec3       what NSEC3 records prove (RFC 5155, 8)
//! delegation  what is at a name without DS records
//! chain       from the trust anchor to the zone that a name is in (RFC 4035, 5.2)
//! ```
//! All work is taken from the [`Budget`] of the client query.

mod chain;
mod delegation;
mod nsec;
mod nsec3;
pub mod proven;
mod signatures;
#[cfg(test)]
mod tests;

use super::errand::Budget;
pub use chain::{Anchors, MAX_SERVERS, Source};
use chain::{Chain, Denial, Zone};
use hickory_server::proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use proven::{Proof, Reason, Unproven};
pub use signatures::{MAX_SETS, MAX_SIGNATURES, labels, signature};
use signatures::{SignedSet, ZoneKeys, sets};
use std::sync::Arc;

/// Validates what is said of one name.
pub struct Validator<S> {
    chain: Chain<S>,
}

/// A record set that was made from a wildcard: of which zone, and how many labels the wildcard's parent has.
type Expanded = (Arc<ZoneKeys>, u8);

impl<S: Source> Validator<S> {
    /// A validator that trusts these keys, and gets all others from a source.
    pub fn new(source: S, anchors: Anchors) -> Validator<S> {
        Validator { chain: Chain::new(source, anchors) }
    }

    /// Whether a response is secure or insecure. It has only what is said of the name in question; of a chain, the first link.
    /// TTLs in it become what the signatures allow (RFC 4035, 5.3.3).
    ///
    /// # Errors
    /// The response is neither.
    pub async fn validate(
        &self,
        query: &Query,
        message: &mut Message,
        budget: &Arc<Budget>,
    ) -> Result<Proof, Unproven> {
        let (mut ttls, mut exists) = (Vec::new(), false);
        // Signatures without what they are over say nothing, except where they are what was asked for.
        let is_record = |record: &Record| query.query_type == RecordType::RRSIG || signature(record).is_none();
        let proof = match message.answers.iter().any(is_record) {
            true => self.answer(query, message, budget, &mut ttls).await?,
            false => self.nothing(query, message, budget, &mut ttls, &mut exists).await?,
        };
        if exists {
            message.metadata.response_code = ResponseCode::NoError;
        }
        for record in message.answers.iter_mut().chain(&mut message.authorities) {
            let rtype =
                signature(record).map_or_else(|| record.record_type(), |signature| signature.input().type_covered);
            let of_set = ttls.iter().filter(|(owner, of, _)| *of == rtype && *owner == record.name);
            record.ttl = of_set.map(|(_, _, ttl)| *ttl).fold(record.ttl, u32::min);
        }
        Ok(proof)
    }

    /// What is there.
    async fn answer(
        &self,
        query: &Query,
        message: &Message,
        budget: &Arc<Budget>,
        ttls: &mut Vec<(Name, RecordType, u32)>,
    ) -> Result<Proof, Unproven> {
        let mut proof = Proof::Secure;
        let mut expanded: Option<Expanded> = None;
        let sets = sets(&message.answers);
        let dname = sets.iter().find(|set| set.rtype == RecordType::DNAME && set.owner != &query.name);
        for set in &sets {
            let is_made = |dname: &&SignedSet| set.rtype == RecordType::CNAME && is_made_from(set, dname);
            if set.records.is_empty() {
                // Nothing signs signatures.
                proof = Proof::Insecure;
                continue;
            }
            if set.signatures.is_empty() && dname.filter(is_made).is_some() {
                // It has no signature of its own: the DNAME has (RFC 6672, 5.3.1).
                continue;
            }
            match self.set(set, budget, ttls).await? {
                None => proof = Proof::Insecure,
                Some((zone, labels)) if labels < set.owner.num_labels() => expanded = Some((zone, labels)),
                Some(_) => {}
            }
        }
        if message.response_code == ResponseCode::YXDomain && dname.is_none_or(|dname| !is_too_long(&query.name, dname))
        {
            return Err(Unproven::new(Reason::Bogus, format!("{} would not become too long", query.name)));
        }
        // That there is no CNAME is not signed.
        let proof = if message.response_code == ResponseCode::YXDomain { Proof::Insecure } else { proof };
        let Some((zone, wildcard_labels)) = expanded else { return Ok(proof) };
        let denial = Denial::new(message, &zone, &budget.work)?;
        match denial.proves_no_closer_name(&query.name, wildcard_labels)? {
            Some(Proof::Secure) => Ok(proof),
            Some(Proof::Insecure) => Ok(Proof::Insecure),
            None => Err(Unproven::new(
                Reason::DenialMissing,
                format!("{}: a name closer than the wildcard {}", query.name, Reason::DenialMissing),
            )),
        }
    }

    /// A record set: its zone and the labels in its signature; none if it is insecure.
    async fn set(
        &self,
        set: &SignedSet<'_>,
        budget: &Arc<Budget>,
        ttls: &mut Vec<(Name, RecordType, u32)>,
    ) -> Result<Option<Expanded>, Unproven> {
        let mut unproven = set.unproven(Reason::SignaturesMissing);
        for signer in set.signers() {
            let zone = match self.chain.zone_of(signer, budget).await? {
                // What is below an insecure zone is insecure.
                Zone::Insecure => return Ok(None),
                Zone::Secure(zone) => zone,
            };
            match set.verify(&zone, &budget.work) {
                Ok(signed) => {
                    ttls.push((set.owner.clone(), set.rtype, signed.ttl));
                    return Ok(Some((zone, signed.labels)));
                }
                Err(error) if error.reason == Reason::TooMuchWork => return Err(error),
                Err(error) if error.reason >= unproven.reason => unproven = error,
                Err(_) => {}
            }
        }
        // It may be in a zone further down that is not signed.
        match self.chain.zone_of(&zone_name(set.owner, set.rtype), budget).await? {
            Zone::Insecure => Ok(None),
            Zone::Secure(_) => Err(unproven),
        }
    }

    /// What is not there.
    async fn nothing(
        &self,
        query: &Query,
        message: &Message,
        budget: &Arc<Budget>,
        ttls: &mut Vec<(Name, RecordType, u32)>,
        exists: &mut bool,
    ) -> Result<Proof, Unproven> {
        let (name, rtype) = (&query.name, query.query_type);
        let is_no_name = message.response_code == ResponseCode::NXDomain;
        let sets = sets(&message.authorities);
        let denies = |set: &&SignedSet| matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3);
        let may_deny =
            |signer: &&Name| signer.zone_of(name) && !(rtype == RecordType::DS && *signer == name && !name.is_root());
        let mut signers: Vec<&Name> =
            sets.iter().filter(denies).flat_map(SignedSet::signers).filter(may_deny).collect();
        signers.sort_by_key(|signer| std::cmp::Reverse(labels(signer)));
        signers.dedup();
        for signer in signers {
            let zone = match self.chain.zone_of(signer, budget).await? {
                Zone::Insecure => return Ok(Proof::Insecure),
                Zone::Secure(zone) => zone,
            };
            if zone.apex != *signer {
                continue;
            }
            let denial = Denial::new(message, &zone, &budget.work)?;
            let proof = match is_no_name {
                true => denial.proves_no_name(name)?,
                false => denial.proves_no_data(name, rtype)?,
            };
            // Some servers say NXDOMAIN of a name that has only names below it. What is signed counts.
            let is_there = proof.is_none() && is_no_name;
            let proof = if is_there { denial.proves_no_data(name, rtype)? } else { proof };
            *exists |= is_there && proof.is_some();
            if let Some(proof) = proof {
                // What is denied lasts no longer than what denies it (RFC 9077).
                ttls.extend(sets.iter().map(|set| (set.owner.clone(), set.rtype, denial.ttl)));
                for soa in sets.iter().filter(|set| set.rtype == RecordType::SOA) {
                    self.set(soa, budget, ttls).await?;
                }
                return Ok(proof);
            }
        }
        match self.chain.zone_of(&zone_name(name, rtype), budget).await? {
            Zone::Insecure => Ok(Proof::Insecure),
            Zone::Secure(_) => {
                Err(Unproven::new(Reason::DenialMissing, format!("{name} {rtype} {}", Reason::DenialMissing)))
            }
        }
    }
}

/// The name whose zone has the records of a type at a name: DS records are above the cut.
fn zone_name(name: &Name, rtype: RecordType) -> Name {
    match rtype {
        RecordType::DS => name.base_name(),
        _ => name.clone(),
    }
}

/// The target of a DNAME record. hickory has no type for it.
fn dname_target(record: &Record) -> Option<Name> {
    use hickory_server::proto::serialize::binary::BinDecodable;
    match &record.data {
        RData::Unknown { rdata, .. } if record.record_type() == RecordType::DNAME => {
            Name::from_bytes(&rdata.anything).ok()
        }
        _ => None,
    }
}

/// The name that a DNAME record makes of one below it. None if that would be too long.
fn substitute(name: &Name, dname: &Record) -> Option<Name> {
    let kept = labels(name).checked_sub(labels(&dname.name))?;
    let target = dname_target(dname)?;
    Name::from_labels(name.iter().take(kept).chain(target.iter())).ok()
}

/// Whether a CNAME is the one that a DNAME above it makes.
fn is_made_from(cname: &SignedSet, dname: &SignedSet) -> bool {
    let ([cname], [record]) = (&cname.records[..], &dname.records[..]) else { return false };
    let RData::CNAME(target) = &cname.data else { return false };
    nsec::is_below(dname.owner, &cname.name) && substitute(&cname.name, record).is_some_and(|made| made == target.0)
}

/// Whether a name below a DNAME becomes too long by it (RFC 6672, 2.2).
fn is_too_long(name: &Name, dname: &SignedSet) -> bool {
    let [record] = &dname.records[..] else { return false };
    nsec::is_below(dname.owner, name) && dname_target(record).is_some() && substitute(name, record).is_none()
}
