//! Record sets and the signatures over them (RFC 4035, 5.3). What keys a zone has is known here; how they are found is not.

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

/// Record sets of one section that are looked at. An answer to ANY has the most.
pub const MAX_SETS: usize = 64;
/// Signatures of one record set that are looked at.
pub const MAX_SIGNATURES: usize = 8;
/// Keys of one zone that are looked at.
pub const MAX_KEYS: usize = 32;

/// A record set with its signatures, as it is in a section.
pub struct SignedSet<'m> {
    /// The name that the records are at.
    pub owner: &'m Name,
    /// The type of the records.
    pub rtype: RecordType,
    /// The records; empty where signatures came without them.
    pub records: Vec<&'m Record>,
    /// The first [`MAX_SIGNATURES`] signatures.
    pub signatures: Vec<&'m RRSIG>,
}

/// The keys of a signed zone that are known to be its own.
#[derive(Clone, Debug)]
pub struct ZoneKeys {
    /// The name of the zone.
    pub apex: Name,
    /// The keys, with their tags.
    pub keys: Vec<(u16, DNSKEY)>,
}

/// What a good signature says of a record set.
#[derive(Clone, Copy, Debug)]
pub struct Signed {
    /// The labels of the name in the zone that the records are from: fewer than the owner's if they were made from a wildcard.
    pub labels: u8,
    /// The TTL that the records may have at most, in seconds (RFC 4035, 5.3.3).
    pub ttl: u32,
}

/// The number of labels of a name, with a leading asterisk, without the root.
pub fn labels(name: &Name) -> usize {
    name.iter().len()
}

/// The signature in a record.
pub fn signature(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => Some(signature),
        _ => None,
    }
}

/// The record sets of a section, the first [`MAX_SETS`].
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
    /// The zones that the signatures say to be of, and that the owner can be in: the lowest first.
    pub fn signers(&self) -> Vec<&Name> {
        let may_sign = |signer: &&Name| {
            // A DS record is in the zone above the cut.
            signer.zone_of(self.owner) && !(self.rtype == RecordType::DS && *signer == self.owner)
        };
        let mut signers: Vec<&Name> =
            self.signatures.iter().map(|signature| &signature.input().signer_name).filter(may_sign).collect();
        signers.sort_by_key(|signer| std::cmp::Reverse(labels(signer)));
        signers.dedup();
        signers
    }

    /// Checks the signatures with the keys of a zone until one is good (RFC 4035, 5.3.1 to 5.3.3).
    ///
    /// # Errors
    /// None is good, or the work for a client's query is used up.
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
            // Serial number arithmetic (RFC 4034, 3.1.5).
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

    /// A failure that names this record set.
    pub fn unproven(&self, reason: Reason) -> Unproven {
        Unproven::new(reason, format!("{} {} {reason}", self.owner, self.rtype))
    }

    /// The octets that a signature is made over (RFC 4035, 5.3.2). None if the records cannot be written.
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
        // In canonical order and without duplicates (RFC 4034, 6.3).
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

/// The data of a record in canonical form (RFC 4034, 6.2).
fn rdata(record: &Record) -> Option<Vec<u8>> {
    match &record.data {
        // The name in a DNAME record is in lower case. Its length octets are no letters.
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
