//! The chain of trust: the zone of a name, and the keys of that zone (RFC 4035, section 5.2).
//!
//! The validator follows the chain down from the trust anchor. At each name on the way, it asks the
//! zone above for DS records. That zone has DS records, or proves that no zone begins at the name,
//! or proves that an unsigned zone begins there. The validator never asks the servers below for a
//! zone cut, because load balancers do not know their cut.

use super::{
    super::errand::{Budget, Said, Work},
    delegation::Delegation,
    denials::Denials,
    nsec::{Nsecs, is_below},
    nsec3::Nsec3s,
    proven::{Proof, Reason, Unproven},
    signatures::{MAX_KEYS, SignedSet, ZoneKeys, labels, sets},
};
use crate::{answer::Stage, forward::upstream::Failure};
use hickory_server::proto::{
    dnssec::{
        DigestType, PublicKey, PublicKeyBuf,
        rdata::{DNSKEY, DNSSECRData, DS},
    },
    op::Message,
    rr::{Name, RData, Record, RecordType},
};
use moka::sync::Cache;
use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Maximum size of the cache of zones, in octets.
const MAX_OCTETS: u64 = 16 << 20;
/// Estimated memory of a cached zone without its keys, in octets.
const STATUS_OCTETS: u32 = 400;
/// Longest time that the status of a name stays in the cache, in seconds.
const MAX_TTL: u32 = 86_400;
/// Time for which a bogus zone stays in the cache, in seconds (RFC 9520, section 3.2).
const BOGUS_TTL: u32 = 10;
/// Maximum number of DS records of one delegation that the validator reads.
const MAX_DS: usize = 16;
/// Maximum number of servers of a zone that are asked until one sends a valid response.
pub const MAX_SERVERS: usize = 4;

/// Source of the records that the validator needs.
pub trait Source: Send + Sync {
    /// Asks authoritative servers for a record set. Does not use the servers in `avoided`.
    fn ask(
        &self,
        name: &Name,
        rtype: RecordType,
        avoided: &[IpAddr],
        budget: &Arc<Budget>,
    ) -> impl Future<Output = Result<Said, Failure>> + Send;
}

/// Trust anchors: zones, and the keys that each zone must have.
pub type Anchors = Vec<(Name, Vec<PublicKeyBuf>)>;

/// Security of the zone that contains a name.
#[derive(Clone, Debug)]
pub enum Zone {
    /// A signed zone with these keys.
    Secure(Arc<ZoneKeys>),
    /// A zone that is proven to be unsigned, or that no trust anchor covers.
    Insecure,
}

/// Status of a name below a signed zone.
#[derive(Clone, Debug)]
enum Status {
    /// A zone begins at the name.
    Zone(Zone),
    /// The name is in the same zone as its parent.
    Within,
    /// The name does not exist.
    NoName,
    /// The status of the name cannot be proven.
    Bogus(Unproven),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Zone(Zone::Secure(zone)) => {
                let tags: Vec<String> = zone.keys.iter().map(|(tag, _)| tag.to_string()).collect();
                write!(f, "a signed zone, with the keys {}", tags.join(", "))
            }
            Status::Zone(Zone::Insecure) => {
                f.write_str("an unsigned zone: the zone above proves that it has no DS record")
            }
            Status::Within => f.write_str("no zone begins here"),
            Status::NoName => f.write_str("the name does not exist"),
            Status::Bogus(unproven) => write!(f, "bogus: {}", unproven.text),
        }
    }
}

#[derive(Clone, Debug)]
struct Known {
    status: Status,
    until: Instant,
}

/// The chain of trust down from the anchors, with a cache.
pub struct Chain<S> {
    source: S,
    anchors: Anchors,
    known: Cache<Name, Known>,
    /// Denials of signed zones.
    pub denials: Denials,
}

impl<S: Source> Chain<S> {
    /// Creates a chain with an empty cache.
    pub fn new(source: S, anchors: Anchors) -> Chain<S> {
        let octets = |_: &Name, known: &Known| {
            let keys = match &known.status {
                Status::Zone(Zone::Secure(zone)) => &zone.keys[..],
                _ => &[],
            };
            keys.iter().fold(STATUS_OCTETS, |sum, (_, key)| sum + 100 + key.public_key().public_bytes().len() as u32)
        };
        let known = Cache::builder().max_capacity(MAX_OCTETS).weigher(octets);
        let known = known.time_to_live(Duration::from_secs(MAX_TTL.into())).build();
        Chain { source, anchors, known, denials: Denials::default() }
    }

    /// Source of the records.
    #[cfg(test)]
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Returns the zone that contains a name.
    ///
    /// # Errors
    /// A link of the chain between the trust anchor and the name cannot be proven.
    pub async fn zone_of(&self, name: &Name, budget: &Arc<Budget>) -> Result<Zone, Unproven> {
        let above = self.anchors.iter().filter(|(anchor, _)| anchor.zone_of(name));
        let Some((anchor, trusted)) = above.max_by_key(|(anchor, _)| labels(anchor)) else { return Ok(Zone::Insecure) };
        let step = |at: &Name, status: &Status| {
            budget.steps.note(Stage::Validation, || format!("{at}: {status}"));
        };
        let status = match self.known_at(anchor) {
            Some(status @ (Status::Zone(Zone::Secure(_)) | Status::Bogus(_))) => status,
            _ => self.settle(anchor, self.keys(anchor, &|key| is_trusted(key, trusted), budget)).await?,
        };
        step(anchor, &status);
        let mut zone = match status {
            Status::Zone(Zone::Secure(zone)) => zone,
            Status::Bogus(unproven) => return Err(unproven),
            _ => return Ok(Zone::Insecure),
        };
        for count in labels(anchor) + 1..=labels(name) {
            let at = name.trim_to(count);
            let status = match self.known_at(&at) {
                Some(status) => status,
                None => self.settle(&at, self.delegation(&at, &zone, budget)).await?,
            };
            step(&at, &status);
            match status {
                Status::Zone(Zone::Secure(next)) => zone = next,
                Status::Zone(Zone::Insecure) => return Ok(Zone::Insecure),
                Status::Within => {}
                Status::NoName => break,
                Status::Bogus(unproven) => return Err(unproven),
            }
        }
        Ok(Zone::Secure(zone))
    }

    /// Asks for a record set until `judge` accepts a server's response.
    ///
    /// Another server may have records or signatures that the first server lacks.
    ///
    /// # Errors
    /// No server has an acceptable response.
    pub async fn ask<T>(
        &self,
        name: &Name,
        rtype: RecordType,
        budget: &Arc<Budget>,
        judge: impl Fn(&Message) -> Result<T, Unproven>,
    ) -> Result<T, Unproven> {
        let mut avoided: Vec<IpAddr> = Vec::new();
        let mut unproven: Option<Unproven> = None;
        loop {
            let said = match self.source.ask(name, rtype, &avoided, budget).await {
                Ok(said) => said,
                Err(failure) => {
                    let text = format!("{name} {rtype} cannot be had: {}", failure.text);
                    let failed = Unproven { failure: Some(failure), ..Unproven::new(Reason::DenialMissing, text) };
                    return Err(unproven.unwrap_or(failed));
                }
            };
            match judge(&said.message) {
                Ok(judged) => return Ok(judged),
                Err(error) => match said.server {
                    Some(server) if error.may_be_elsewhere() && avoided.len() + 1 < MAX_SERVERS => {
                        avoided.push(server);
                        unproven = Some(error);
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// Returns the signed zone of this name, if its keys are in the cache.
    pub fn known_zone(&self, apex: &Name) -> Option<Arc<ZoneKeys>> {
        match self.known_at(apex)? {
            Status::Zone(Zone::Secure(zone)) => Some(zone),
            _ => None,
        }
    }

    fn known_at(&self, name: &Name) -> Option<Status> {
        self.known.get(name).filter(|known| Instant::now() < known.until).map(|known| known.status)
    }

    /// Caches the status of a name. Does not cache a failure to reach the servers.
    async fn settle(
        &self,
        name: &Name,
        found: impl Future<Output = Result<(Status, u32), Unproven>>,
    ) -> Result<Status, Unproven> {
        let (status, ttl) = match Box::pin(found).await {
            Ok(found) => found,
            Err(unproven) if !unproven.may_be_elsewhere() => return Err(unproven),
            Err(unproven) => (Status::Bogus(unproven), BOGUS_TTL),
        };
        let until = Instant::now() + Duration::from_secs(ttl.clamp(1, MAX_TTL).into());
        self.known.insert(name.to_lowercase(), Known { status: status.clone(), until });
        Ok(status)
    }

    /// Proves the DNSKEY records of a zone (RFC 4035, section 5.2).
    ///
    /// One of the keys must sign them all. The DS records of the zone above or the trust anchor
    /// must name that key.
    async fn keys(
        &self,
        apex: &Name,
        is_named: &(dyn Fn(&DNSKEY) -> bool + Sync),
        budget: &Arc<Budget>,
    ) -> Result<(Status, u32), Unproven> {
        self.ask(apex, RecordType::DNSKEY, budget, |message| {
            let missing = || Unproven::new(Reason::KeyMissing, format!("{apex} DNSKEY is missing"));
            let sets = sets(&message.answers);
            let set =
                sets.iter().find(|set| set.rtype == RecordType::DNSKEY && set.owner == apex).ok_or_else(missing)?;
            let keys = || {
                set.records.iter().take(MAX_KEYS).filter_map(|record| match &record.data {
                    RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Some((key.calculate_key_tag().ok()?, key.clone())),
                    _ => None,
                })
            };
            let entry = ZoneKeys { apex: apex.clone(), keys: keys().filter(|(_, key)| is_named(key)).collect() };
            if entry.keys.is_empty() {
                return Err(set.unproven(Reason::KeyMissing));
            }
            let signed = set.verify(&entry, &budget.work)?;
            let ttl = set.records.iter().map(|record| record.ttl).min().unwrap_or(0).min(signed.ttl);
            let zone = ZoneKeys { apex: apex.clone(), keys: keys().collect() };
            Ok((Status::Zone(Zone::Secure(Arc::new(zone))), ttl))
        })
        .await
    }

    /// Determines the status of a name below a signed zone. The name may be a zone cut.
    async fn delegation(
        &self,
        name: &Name,
        zone: &Arc<ZoneKeys>,
        budget: &Arc<Budget>,
    ) -> Result<(Status, u32), Unproven> {
        let found = self
            .ask(name, RecordType::DS, budget, |message| {
                let sets = sets(&message.answers);
                let of = |rtype| sets.iter().filter(move |set| set.rtype == rtype);
                if let Some(set) = of(RecordType::DS).find(|set| set.owner == name) {
                    let signed = set.verify(zone, &budget.work)?;
                    if signed.labels < name.num_labels() {
                        return Err(set.unproven(Reason::Bogus));
                    }
                    let ttl = set.records.iter().map(|record| record.ttl).min().unwrap_or(0).min(signed.ttl);
                    return Ok((Err(usable(set)), ttl));
                }
                // No zone begins below a DNAME record.
                if let Some(set) = of(RecordType::DNAME).find(|set| is_below(set.owner, name)) {
                    let signed = set.verify(zone, &budget.work)?;
                    return Ok((Ok(Status::NoName), signed.ttl));
                }
                if let Some(set) = of(RecordType::CNAME).find(|set| set.owner == name) {
                    let signed = set.verify(zone, &budget.work)?;
                    if signed.labels == name.num_labels() {
                        return Ok((Ok(Status::Within), signed.ttl));
                    }
                    // The CNAME comes from a wildcard, so the name does not exist.
                    let denial = Denial::new(message, zone, &budget.work)?;
                    return match denial.proves_no_closer_name(name, signed.labels)? {
                        Some(_) => Ok((Ok(Status::NoName), signed.ttl.min(denial.ttl))),
                        None => {
                            Err(Unproven::new(Reason::DenialMissing, format!("{name} DS {}", Reason::DenialMissing)))
                        }
                    };
                }
                let denial = Denial::new(message, zone, &budget.work)?;
                self.denials.store(&zone.apex, message, denial.ttl, false, |owner| denial.has(owner));
                let status = match denial.delegation(name)? {
                    Some(Delegation::Insecure) => Status::Zone(Zone::Insecure),
                    Some(Delegation::None) => Status::Within,
                    Some(Delegation::NoName) => Status::NoName,
                    None => {
                        return Err(Unproven::new(
                            Reason::DenialMissing,
                            format!("{name} DS {}", Reason::DenialMissing),
                        ));
                    }
                };
                Ok((Ok(status), denial.ttl))
            })
            .await?;
        match found {
            (Ok(status), ttl) => Ok((status, ttl)),
            // A zone with only unknown algorithms counts as unsigned (RFC 4035, section 5.2; RFC
            // 6840, section 5.2).
            (Err(usable), ttl) if usable.is_empty() => Ok((Status::Zone(Zone::Insecure), ttl)),
            (Err(usable), ttl) => {
                let is_named = |key: &DNSKEY| usable.iter().any(|ds| ds.covers(name, key).unwrap_or(false));
                let (status, keys_ttl) = self.keys(name, &is_named, budget).await?;
                Ok((status, ttl.min(keys_ttl)))
            }
        }
    }
}

/// Returns the DS records with known algorithms. SHA-1 digests do not count if a better digest is
/// present (RFC 4509, section 3).
fn usable(set: &SignedSet) -> Vec<DS> {
    let all = set.records.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::DS(ds)) => Some(ds),
        _ => None,
    });
    let known = all.filter(|ds| ds.algorithm().is_supported() && ds.digest_type().is_supported()).take(MAX_DS);
    let mut usable: Vec<DS> = known.cloned().collect();
    if usable.iter().any(|ds| ds.digest_type() != DigestType::SHA1) {
        usable.retain(|ds| ds.digest_type() != DigestType::SHA1);
    }
    usable
}

fn is_trusted(key: &DNSKEY, trusted: &[PublicKeyBuf]) -> bool {
    let key = key.public_key();
    trusted.iter().any(|one| one.algorithm() == key.algorithm() && one.public_bytes() == key.public_bytes())
}

/// Denial of existence by a zone: its NSEC or NSEC3 records with good signatures.
pub struct Denial<'m> {
    nsecs: Nsecs<'m>,
    nsec3s: Nsec3s<'m>,
    owners: Vec<&'m Name>,
    /// Shortest TTL of the records, in seconds.
    pub ttl: u32,
}

impl<'m> Denial<'m> {
    /// Collects the NSEC and NSEC3 records that the zone signed. Skips records from a wildcard.
    ///
    /// # Errors
    /// The work budget is used up, or the NSEC3 records have different parameters.
    pub fn new(message: &'m Message, zone: &'m ZoneKeys, work: &'m Work) -> Result<Denial<'m>, Unproven> {
        let (mut nsecs, mut nsec3s, mut ttl) = (Vec::new(), Vec::new(), MAX_TTL);
        for set in sets(&message.authorities) {
            if !matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3) || set.records.len() != 1 {
                continue;
            }
            let signed = match set.verify(zone, work) {
                Ok(signed) => signed,
                Err(unproven) if unproven.reason == Reason::TooMuchWork => return Err(unproven),
                Err(_) => continue,
            };
            if signed.labels < set.owner.num_labels() {
                continue;
            }
            let record: &'m Record = set.records[0];
            match &record.data {
                RData::DNSSEC(DNSSECRData::NSEC(nsec)) => nsecs.push((&record.name, nsec)),
                RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => nsec3s.push((&record.name, nsec3)),
                _ => continue,
            }
            ttl = ttl.min(record.ttl).min(signed.ttl);
        }
        let owners = nsecs.iter().map(|(owner, _)| *owner).chain(nsec3s.iter().map(|(owner, _)| *owner)).collect();
        let nsecs = Nsecs { apex: &zone.apex, records: nsecs };
        Ok(Denial { nsecs, nsec3s: Nsec3s::new(&zone.apex, &nsec3s, work)?, owners, ttl })
    }

    /// Whether the denial has a record of this owner.
    pub fn has(&self, owner: &Name) -> bool {
        self.owners.contains(&owner)
    }

    /// Whether the zone proves that the name has no records of the type.
    pub fn proves_no_data(&self, name: &Name, rtype: RecordType) -> Result<Option<Proof>, Unproven> {
        match self.nsecs.proves_no_data(name, rtype) {
            true => Ok(Some(Proof::Secure)),
            false if self.nsec3s.are_costly() => Ok(Some(Proof::Insecure)),
            false => self.nsec3s.proves_no_data(name, rtype),
        }
    }

    /// Whether the zone proves that the name does not exist.
    pub fn proves_no_name(&self, name: &Name) -> Result<Option<Proof>, Unproven> {
        match self.nsecs.proves_no_name(name) {
            true => Ok(Some(Proof::Secure)),
            false if self.nsec3s.are_costly() => Ok(Some(Proof::Insecure)),
            false => self.nsec3s.proves_no_name(name),
        }
    }

    /// Whether the zone proves that no name is closer than the wildcard of an answer. The parent of
    /// the wildcard has `wildcard_labels` labels.
    pub fn proves_no_closer_name(&self, name: &Name, wildcard_labels: u8) -> Result<Option<Proof>, Unproven> {
        match self.nsecs.proves_no_closer_name(name, wildcard_labels) {
            true => Ok(Some(Proof::Secure)),
            false if self.nsec3s.are_costly() => Ok(Some(Proof::Insecure)),
            false => self.nsec3s.proves_no_closer_name(name, wildcard_labels),
        }
    }

    /// Returns the meaning of a name without DS records. `None` if the zone proves nothing.
    fn delegation(&self, name: &Name) -> Result<Option<Delegation>, Unproven> {
        match self.nsecs.delegation(name) {
            Some(delegation) => Ok(Some(delegation)),
            None if self.nsec3s.is_empty() => Ok(None),
            None if self.nsec3s.are_costly() => Ok(Some(Delegation::Insecure)),
            None => self.nsec3s.delegation(name),
        }
    }
}
