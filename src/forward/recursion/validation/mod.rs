//! DNSSEC validation (RFC 4035, section 5): decides whether a response is secure, insecure or
//! bogus.
//!
//! hickory also has a validator, but zonal does not use it, for four reasons:
//!
//! - It accepts an opt-out NSEC3 record that covers a name as proof that a zone below is unsigned.
//!   It does not require the closest encloser (RFC 5155, section 8.6). So an attacker on the path
//!   can forge names in signed zones.
//! - It finds zone cuts by asking the servers below the cut.
//! - Its work for one response has no bound.
//! - Its proofs cannot be checked from outside, because it makes them on the way down the chain of
//!   trust.
//!
//! From hickory, this module uses only the primitives: records, keys, digests and signatures.
//!
//! ```text
//! proven      results of a proof, and reasons for a failure
//! signatures  record sets, and their signatures by the keys of a zone (RFC 4035, section 5.3)
//! nsec        proofs by NSEC records (RFC 4035, section 5.4)
//! nsec3       proofs by NSEC3 records (RFC 5155, section 8)
//! delegation  meaning of a name without DS records
//! denials     validated denials, from which negative answers are made (RFC 8198)
//! chain       from the trust anchor to the zone of a name (RFC 4035, section 5.2)
//! ```
//! All work is charged to the [`Budget`] of the client query.

mod chain;
mod delegation;
mod denials;
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
use signatures::SignedSet;
pub use signatures::{MAX_KEYS, MAX_SETS, MAX_SIGNATURES, ZoneKeys, labels, sets, signature};
use std::sync::Arc;

/// Maximum number of labels of the zones whose keys are proven before the response is there.
const MAX_EARLY: usize = 2;

/// Validates responses about one name.
pub struct Validator<S> {
    chain: Chain<S>,
}

/// A record set with a good signature: its zone, and the number of labels in the signature. Fewer
/// labels than the owner has mean that the records come from a wildcard.
type Expanded = (Arc<ZoneKeys>, u8);

impl<S: Source> Validator<S> {
    /// Creates a validator that trusts the keys in `anchors`, and gets all other keys from
    /// `source`.
    pub fn new(source: S, anchors: Anchors) -> Validator<S> {
        Validator { chain: Chain::new(source, anchors) }
    }

    /// Decides whether a response is secure or insecure.
    ///
    /// The response must contain only records about the name in question, and only the first link
    /// of a chain. The validator reduces TTLs to the limit that the signatures allow (RFC 4035,
    /// section 5.3.3).
    ///
    /// # Errors
    /// The response is neither secure nor insecure.
    pub async fn validate(
        &self,
        query: &Query,
        message: &mut Message,
        budget: &Arc<Budget>,
    ) -> Result<Proof, Unproven> {
        let (mut ttls, mut exists) = (Vec::new(), false);
        // A signature without its records proves nothing, unless the query asks for RRSIG.
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

    /// Proves the keys of the zones above a name, so that they are in the cache when the response is
    /// validated.
    ///
    /// This runs while the recursor looks for the response. It proves two levels at most: the names
    /// below may be in one zone.
    pub async fn prove_above(&self, name: &Name, budget: &Arc<Budget>) {
        let above = name.trim_to(labels(name).saturating_sub(1).min(MAX_EARLY));
        // The validation of the response reports a failure.
        let _ = self.chain.zone_of(&above, budget).await;
    }

    /// Makes a negative answer from denials that are known, without a query (RFC 8198). `None` if
    /// they do not prove one.
    pub fn deny(&self, query: &Query, budget: &Budget) -> Option<Message> {
        let (name, rtype) = (&query.name, query.query_type);
        if matches!(rtype, RecordType::ANY | RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3) {
            return None;
        }
        // The zone above a cut denies DS records.
        let longest = labels(name).checked_sub(usize::from(rtype == RecordType::DS))?;
        (0..=longest).rev().find_map(|count| {
            let zone = self.chain.known_zone(&name.trim_to(count))?;
            let mut message = Message::query();
            message.add_query(query.clone());
            message.metadata.authoritative = true;
            message.add_authorities(self.chain.denials.records(&zone.apex, name, &budget.work)?);
            let mut message = message.into_response();
            let code = {
                let denial = Denial::new(&message, &zone, &budget.work).ok()?;
                let is_secure = |proof: Result<Option<Proof>, Unproven>| matches!(proof, Ok(Some(Proof::Secure)));
                match is_secure(denial.proves_no_name(name)) {
                    true => ResponseCode::NXDomain,
                    false if is_secure(denial.proves_no_data(name, rtype)) => ResponseCode::NoError,
                    false => return None,
                }
            };
            message.metadata.response_code = code;
            Some(message)
        })
    }

    /// Validates the records of an answer.
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
                // No signature covers signatures.
                proof = Proof::Insecure;
                continue;
            }
            if set.signatures.is_empty() && dname.filter(is_made).is_some() {
                // The signature of the DNAME covers this CNAME too (RFC 6672, section 5.3.1).
                continue;
            }
            match self.set(set, query, budget, ttls).await? {
                None => proof = Proof::Insecure,
                Some((zone, labels)) if labels < set.owner.num_labels() => expanded = Some((zone, labels)),
                Some(_) => {}
            }
        }
        if message.response_code == ResponseCode::YXDomain && dname.is_none_or(|dname| !is_too_long(&query.name, dname))
        {
            return Err(Unproven::new(Reason::Bogus, format!("{} would not become too long", query.name)));
        }
        // No signature proves that the CNAME is absent.
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

    /// Validates a record set. Returns its zone and the number of labels in its signature, or
    /// `None` if the record set is insecure.
    async fn set(
        &self,
        set: &SignedSet<'_>,
        query: &Query,
        budget: &Arc<Budget>,
        ttls: &mut Vec<(Name, RecordType, u32)>,
    ) -> Result<Option<Expanded>, Unproven> {
        // The zone above a delegation answers for DS (RFC 4035, section 3.1.4.1), also if it answers
        // with a CNAME: that the zone below is unsigned excuses no answer.
        let is_about_ds = query.query_type == RecordType::DS && *set.owner == query.name;
        let home = zone_name(set.owner, if is_about_ds { RecordType::DS } else { set.rtype });
        let mut unproven = set.unproven(Reason::SignaturesMissing);
        for signer in set.signers().into_iter().filter(|signer| !is_about_ds || signer.zone_of(&home)) {
            let zone = match self.chain.zone_of(signer, budget).await? {
                // All names below an insecure zone are insecure.
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
        // The records may be in a lower zone that is unsigned.
        match self.chain.zone_of(&home, budget).await? {
            Zone::Insecure => Ok(None),
            Zone::Secure(_) => Err(unproven),
        }
    }

    /// Validates a negative answer. Sets `exists` if the response code is NXDOMAIN but the name
    /// exists.
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
            // Some servers answer NXDOMAIN for an empty non-terminal. The signed proof decides. An opt-out span
            // does not prove that a name exists.
            let is_there = proof.is_none() && is_no_name;
            let proof = match is_there {
                true => denial.proves_no_data(name, rtype)?.filter(|proof| *proof == Proof::Secure),
                false => proof,
            };
            *exists |= is_there && proof.is_some();
            if let Some(proof) = proof {
                // A negative answer lives no longer than the records that prove it (RFC 9077).
                ttls.extend(sets.iter().map(|set| (set.owner.clone(), set.rtype, denial.ttl)));
                let mut has_soa = false;
                for soa in sets.iter().filter(|set| set.rtype == RecordType::SOA) {
                    let signed = self.set(soa, query, budget, ttls).await?;
                    has_soa |= *soa.owner == zone.apex && signed.is_some();
                }
                if proof == Proof::Secure {
                    // A negative answer lives no longer than its SOA record says (RFC 2308, section 5).
                    let negative_ttl =
                        sets.iter().flat_map(|set| &set.records).filter_map(|record| match &record.data {
                            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                            _ => None,
                        });
                    let ttl = negative_ttl.fold(denial.ttl, u32::min);
                    self.chain.denials.store(&zone.apex, message, ttl, has_soa, |owner| denial.has(owner));
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

/// Returns a name in the zone that owns the records: for DS records, the zone above the cut.
fn zone_name(name: &Name, rtype: RecordType) -> Name {
    match rtype {
        RecordType::DS => name.base_name(),
        _ => name.clone(),
    }
}

/// Returns the target of a DNAME record. hickory has no type for DNAME.
fn dname_target(record: &Record) -> Option<Name> {
    use hickory_server::proto::serialize::binary::BinDecodable;
    match &record.data {
        RData::Unknown { rdata, .. } if record.record_type() == RecordType::DNAME => {
            Name::from_bytes(&rdata.anything).ok()
        }
        _ => None,
    }
}

/// Substitutes a DNAME in a name below its owner. Returns `None` if the result is too long.
fn substitute(name: &Name, dname: &Record) -> Option<Name> {
    let kept = labels(name).checked_sub(labels(&dname.name))?;
    let target = dname_target(dname)?;
    Name::from_labels(name.iter().take(kept).chain(target.iter())).ok()
}

/// Whether a CNAME is the result of a DNAME above it.
fn is_made_from(cname: &SignedSet, dname: &SignedSet) -> bool {
    let ([cname], [record]) = (&cname.records[..], &dname.records[..]) else { return false };
    let RData::CNAME(target) = &cname.data else { return false };
    nsec::is_below(dname.owner, &cname.name) && substitute(&cname.name, record).is_some_and(|made| made == target.0)
}

/// Whether the substitution of a DNAME makes a name too long (RFC 6672, section 2.2).
fn is_too_long(name: &Name, dname: &SignedSet) -> bool {
    let [record] = &dname.records[..] else { return false };
    nsec::is_below(dname.owner, name) && dname_target(record).is_some() && substitute(name, record).is_none()
}
