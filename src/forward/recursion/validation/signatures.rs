//! Record sets and the signatures over them (RFC 4035, section 5.3).
//!
//! This module takes the keys of a zone as given. `chain` finds and proves them.

use super::{
    super::errand::Work,
    proven::{Reason, Unproven},
};
use crate::clock::now;
use hickory_server::proto::{
    dnssec::{
        Verifier,
        rdata::{DNSKEY, DNSSECRData, RRSIG},
    },
    rr::{DNSClass, Name, RData, Record, RecordType},
    serialize::binary::{BinEncodable, BinEncoder, NameEncoding},
};

/// Maximum number of record sets of one section that the validator reads. Answers to ANY have the
/// most.
pub const MAX_SETS: usize = 64;
/// Maximum number of signatures of one record set that the validator reads.
pub const MAX_SIGNATURES: usize = 8;
/// Maximum number of keys of one zone that the validator reads.
pub const MAX_KEYS: usize = 32;

/// A record set of one section, with its signatures.
pub struct SignedSet<'m> {
    /// The owner name of the records.
    pub owner: &'m Name,
    /// The type of the records.
    pub rtype: RecordType,
    /// The records. Empty if only signatures are present.
    pub records: Vec<&'m Record>,
    /// The first [`MAX_SIGNATURES`] signatures.
    pub signatures: Vec<&'m RRSIG>,
}

/// The proven keys of a signed zone.
#[derive(Clone, Debug)]
pub struct ZoneKeys {
    /// The name of the zone.
    pub apex: Name,
    /// The keys, with their tags.
    pub keys: Vec<(u16, DNSKEY)>,
}

/// Properties of a record set with a good signature.
#[derive(Clone, Copy, Debug)]
pub struct Signed {
    /// Number of labels of the original owner name in the zone. Fewer labels than the owner has
    /// mean that the records come from a wildcard.
    pub labels: u8,
    /// Longest TTL that the records may have, in seconds (RFC 4035, section 5.3.3).
    pub ttl: u32,
}

/// Number of labels of a name. A leading asterisk counts; the root does not.
pub fn labels(name: &Name) -> usize {
    name.iter().len()
}

/// Returns the signature in an RRSIG record.
pub fn signature(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => Some(signature),
        _ => None,
    }
}

/// Groups the records of a section into record sets. Ignores sets beyond [`MAX_SETS`].
pub fn sets(section: &[Record]) -> Vec<SignedSet<'_>> {
    let mut sets: Vec<SignedSet> = Vec::new();
    for record in section.iter().filter(|record| record.dns_class == DNSClass::IN) {
        let signature = signature(record);
        let rtype = signature.map_or_else(|| record.record_type(), |signature| signature.input().type_covered);
        let at = match sets.iter().position(|set| set.rtype == rtype && *set.owner == record.name) {
            Some(at) => at,
            None if sets.len() == MAX_SETS => continue,
            None => {
                sets.push(SignedSet { owner: &record.name, rtype, records: Vec::new(), signatures: Vec::new() });
                sets.len() - 1
            }
        };
        match signature {
            Some(signature) if sets[at].signatures.len() < MAX_SIGNATURES => sets[at].signatures.push(signature),
            Some(_) => {}
            None => sets[at].records.push(record),
        }
    }
    sets
}

impl SignedSet<'_> {
    /// Returns the signer names that may own the record set, the lowest zone first.
    pub fn signers(&self) -> Vec<&Name> {
        let may_sign = |signer: &&Name| {
            // DS records belong to the zone above the cut.
            signer.zone_of(self.owner) && !(self.rtype == RecordType::DS && *signer == self.owner)
        };
        let mut signers: Vec<&Name> =
            self.signatures.iter().map(|signature| &signature.input().signer_name).filter(may_sign).collect();
        signers.sort_by_key(|signer| std::cmp::Reverse(labels(signer)));
        signers.dedup();
        signers
    }

    /// Checks the signatures with the keys of a zone until one is good (RFC 4035, sections 5.3.1 to
    /// 5.3.3).
    ///
    /// # Errors
    /// No signature is good, or the work budget of the client query is used up.
    pub fn verify(&self, zone: &ZoneKeys, work: &Work) -> Result<Signed, Unproven> {
        let mut reason = Reason::SignaturesMissing;
        let now = now() as u32;
        for signature in &self.signatures {
            let input = signature.input();
            if input.signer_name != zone.apex || !zone.apex.zone_of(self.owner) || !input.algorithm.is_supported() {
                continue;
            }
            if input.num_labels > self.owner.num_labels() {
                reason = reason.max(Reason::Bogus);
                continue;
            }
            // Serial number arithmetic (RFC 4034, section 3.1.5).
            let is_past = |time: u32| (now.wrapping_sub(time) as i32) > 0;
            if is_past(input.sig_expiration.get()) {
                reason = reason.max(Reason::Expired);
                continue;
            }
            if !is_past(input.sig_inception.get()) && input.sig_inception.get() != now {
                reason = reason.max(Reason::NotYetValid);
                continue;
            }
            let fits = |(tag, key): &&(u16, DNSKEY)| {
                *tag == input.key_tag && key.algorithm() == input.algorithm && key.zone_key() && !key.revoke()
            };
            for (_, key) in zone.keys.iter().filter(fits) {
                let Some(data) = self.signed_data(signature) else { continue };
                work.take_signature()?;
                if key.verify(&data, signature.sig()).is_ok() {
                    let left = input.sig_expiration.get().wrapping_sub(now);
                    return Ok(Signed { labels: input.num_labels, ttl: input.original_ttl.min(left) });
                }
                work.take_bad_signature()?;
                reason = Reason::Bogus;
            }
            if reason == Reason::SignaturesMissing {
                reason = Reason::KeyMissing;
            }
        }
        Err(self.unproven(reason))
    }

    /// Creates a failed proof whose text names this record set.
    pub fn unproven(&self, reason: Reason) -> Unproven {
        Unproven::new(reason, format!("{} {} {reason}", self.owner, self.rtype))
    }

    /// Returns the octets that a signature covers (RFC 4035, section 5.3.2). `None` if a record
    /// cannot be encoded.
    fn signed_data(&self, signature: &RRSIG) -> Option<Vec<u8>> {
        let input = signature.input();
        let mut data = canonical(input)?;
        // RRSIG_RDATA | RR(1) | RR(2)…
        let owner = match input.num_labels < self.owner.num_labels() {
            true => Name::from_labels([b"*".as_slice()])
                .ok()?
                .append_domain(&self.owner.trim_to(input.num_labels.into()))
                .ok()?,
            false => self.owner.clone(),
        };
        let mut head = Vec::new();
        owner.to_lowercase().emit(&mut BinEncoder::new(&mut head)).ok()?;
        head.extend_from_slice(&u16::from(self.rtype).to_be_bytes());
        head.extend_from_slice(&u16::from(DNSClass::IN).to_be_bytes());
        head.extend_from_slice(&input.original_ttl.to_be_bytes());
        // Canonical order without duplicates (RFC 4034, section 6.3).
        let mut all = self.records.iter().map(|record| rdata(record)).collect::<Option<Vec<_>>>()?;
        all.sort_unstable();
        all.dedup();
        for rdata in all {
            data.extend_from_slice(&head);
            data.extend_from_slice(&u16::try_from(rdata.len()).ok()?.to_be_bytes());
            data.extend_from_slice(&rdata);
        }
        Some(data)
    }
}

/// Encodes the data of a record in canonical form (RFC 4034, section 6.2).
fn rdata(record: &Record) -> Option<Vec<u8>> {
    match &record.data {
        // The canonical form of a DNAME target is lower case. The change does not affect the length
        // octets, because they are below the range of letters.
        RData::Unknown { rdata, .. } if record.record_type() == RecordType::DNAME => {
            Some(rdata.anything.to_ascii_lowercase())
        }
        data => canonical(data),
    }
}

fn canonical(data: &impl BinEncodable) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let mut encoder = BinEncoder::new(&mut octets);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder).ok()?;
    Some(octets)
}
