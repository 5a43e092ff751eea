//! Signed zones in memory, and the answers of their servers.

use super::super::{
    super::errand::{Budget, Said},
    chain::Source,
    nsec::is_below,
    signatures::labels,
};
use crate::{clock::now, forward::upstream::Failure};
use data_encoding::BASE32HEX_NOPAD;
use hickory_server::proto::{
    dnssec::{
        Algorithm, DigestType, Nsec3HashAlgorithm, SigningKey, TBS,
        crypto::Ed25519SigningKey,
        rdata::{DNSKEY, DNSSECRData, DS, NSEC, NSEC3, RRSIG, sig::SigInput},
    },
    op::{Message, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, CNAME, NS, SOA},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, OnceLock},
};

pub fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// The way in which a zone proves denials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Denies {
    Unsigned,
    Nsec,
    Nsec3 { opt_out: bool, iterations: u16 },
}

pub struct Zone {
    pub apex: Name,
    pub denies: Denies,
    key: Ed25519SigningKey,
    dnskey: DNSKEY,
    pub records: BTreeMap<Name, BTreeMap<RecordType, Vec<RData>>>,
    chain: OnceLock<Vec<Vec<Record>>>,
}

impl Zone {
    pub fn new(apex: &str, denies: Denies) -> Zone {
        let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8().unwrap()).unwrap();
        let dnskey = DNSKEY::new(true, true, false, key.to_public_key().unwrap());
        let apex = name(apex);
        let mut zone =
            Zone { apex: apex.clone(), denies, key, dnskey, records: BTreeMap::new(), chain: OnceLock::new() };
        let soa = SOA::new(apex.clone(), apex.clone(), 1, 1, 1, 1, 300);
        zone.add(&apex, RData::SOA(soa));
        zone.add(&apex, RData::NS(NS(apex.clone())));
        if denies != Denies::Unsigned {
            let dnskey = zone.dnskey.clone();
            zone.add(&apex, RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)));
        }
        zone
    }

    pub fn add(&mut self, owner: &Name, data: RData) {
        self.records.entry(owner.clone()).or_default().entry(data.record_type()).or_default().push(data);
    }

    pub fn address(&mut self, owner: &str, last: u8) {
        self.add(&name(owner), RData::A(A(Ipv4Addr::new(192, 0, 2, last))));
    }

    pub fn cname(&mut self, owner: &str, target: &str) {
        self.add(&name(owner), RData::CNAME(CNAME(name(target))));
    }

    /// Adds the delegation to a child zone.
    pub fn delegate(&mut self, child: &Zone) {
        self.add(&child.apex, RData::NS(NS(child.apex.clone())));
        if child.denies != Denies::Unsigned {
            let digest = child.dnskey.to_digest(&child.apex, DigestType::SHA256).unwrap();
            let tag = child.dnskey.calculate_key_tag().unwrap();
            let ds = DS::new(tag, Algorithm::ED25519, DigestType::SHA256, digest.as_ref().to_vec());
            self.add(&child.apex, RData::DNSSEC(DNSSECRData::DS(ds)));
        }
    }

    pub fn key(&self) -> &DNSKEY {
        &self.dnskey
    }

    /// The zone cut at or above a name, below the apex.
    pub fn cut(&self, name: &Name) -> Option<Name> {
        let above = (labels(&self.apex) + 1..=labels(name)).map(|count| name.trim_to(count));
        above.into_iter().find(|name| self.records.get(name).is_some_and(|sets| sets.contains_key(&RecordType::NS)))
    }

    /// Whether the zone has a name, including empty non-terminals.
    pub fn has(&self, name: &Name) -> bool {
        self.records.keys().any(|owner| owner == name || is_below(name, owner))
    }

    /// A record set with its signature. `from` is the name in the zone from which the records come.
    fn signed(&self, owner: &Name, from: &Name, data: &[RData]) -> Vec<Record> {
        let mut records: Vec<Record> =
            data.iter().map(|data| Record::from_rdata(owner.clone(), 300, data.clone())).collect();
        if self.denies == Denies::Unsigned {
            return records;
        }
        let input = SigInput {
            type_covered: data[0].record_type(),
            algorithm: Algorithm::ED25519,
            num_labels: from.num_labels(),
            original_ttl: 300,
            sig_expiration: (now() as u32 + 10_000).into(),
            sig_inception: (now() as u32 - 10_000).into(),
            key_tag: self.dnskey.calculate_key_tag().unwrap(),
            signer_name: self.apex.clone(),
        };
        let tbs = TBS::from_input(owner, DNSClass::IN, &input, records.iter()).unwrap();
        let signature = RRSIG::from_sig(input, self.key.sign(&tbs).unwrap());
        records.push(Record::from_rdata(owner.clone(), 300, RData::DNSSEC(DNSSECRData::RRSIG(signature))));
        records
    }

    fn set(&self, owner: &Name, rtype: RecordType) -> Vec<Record> {
        let is_signed = rtype != RecordType::NS || *owner == self.apex;
        let data = self.records.get(owner).and_then(|sets| sets.get(&rtype)).cloned().unwrap_or_default();
        match data.is_empty() {
            true => Vec::new(),
            false if is_signed => self.signed(owner, owner, &data),
            false => data.into_iter().map(|data| Record::from_rdata(owner.clone(), 300, data)).collect(),
        }
    }

    fn types(&self, owner: &Name) -> Vec<RecordType> {
        self.records.get(owner).map(|sets| sets.keys().copied().collect()).unwrap_or_default()
    }

    /// All NSEC or NSEC3 records. They are signed once.
    pub fn chain(&self) -> Vec<Vec<Record>> {
        self.chain.get_or_init(|| self.make_chain()).clone()
    }

    fn make_chain(&self) -> Vec<Vec<Record>> {
        let is_visible = |owner: &&Name| self.cut(owner).is_none_or(|cut| cut == **owner);
        let owners: Vec<&Name> = self.records.keys().filter(is_visible).collect();
        match self.denies {
            Denies::Unsigned => Vec::new(),
            Denies::Nsec => (0..owners.len())
                .map(|at| {
                    let next = owners[(at + 1) % owners.len()].clone();
                    let nsec = NSEC::new_cover_self(next, self.types(owners[at]));
                    self.signed(owners[at], owners[at], &[RData::DNSSEC(DNSSECRData::NSEC(nsec))])
                })
                .collect(),
            Denies::Nsec3 { opt_out, iterations } => {
                let mut all: BTreeSet<Name> = BTreeSet::new();
                for owner in owners {
                    let types = self.types(owner);
                    let is_unsigned_cut =
                        *owner != self.apex && types.contains(&RecordType::NS) && !types.contains(&RecordType::DS);
                    if opt_out && is_unsigned_cut {
                        continue;
                    }
                    all.extend((labels(&self.apex)..=labels(owner)).map(|count| owner.trim_to(count)));
                }
                let hash =
                    |name: &Name| Nsec3HashAlgorithm::SHA1.hash(&[1, 2], name, iterations).unwrap().as_ref().to_vec();
                let hashed: BTreeMap<Vec<u8>, Name> = all.into_iter().map(|name| (hash(&name), name)).collect();
                let order: Vec<&Vec<u8>> = hashed.keys().collect();
                (0..order.len())
                    .map(|at| {
                        let types = self.types(&hashed[order[at]]);
                        let next = order[(at + 1) % order.len()].clone();
                        let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, opt_out, iterations, vec![1, 2], next, types);
                        let label = BASE32HEX_NOPAD.encode(order[at]).to_ascii_lowercase();
                        let owner = self.apex.prepend_label(label).unwrap();
                        self.signed(&owner, &owner, &[RData::DNSSEC(DNSSECRData::NSEC3(nsec3))])
                    })
                    .collect()
            }
        }
    }

    /// The answer of a server of the zone. A negative answer has the whole chain of NSEC or NSEC3
    /// records, because none of them is wrong.
    pub fn answer(&self, query: &Query) -> Message {
        let (name, rtype) = (&query.name, query.query_type);
        let mut message = Message::query();
        message.add_query(query.clone());
        message.metadata.authoritative = true;
        let found = |owner: &Name| {
            let set = self.set(owner, rtype);
            if set.is_empty() { self.set(owner, RecordType::CNAME) } else { set }
        };
        let answer = found(name);
        if !answer.is_empty() {
            message.add_answers(answer);
            return message.into_response();
        }
        let mut is_name = self.has(name);
        if !is_name {
            let closest = (0..labels(name)).rev().map(|count| name.trim_to(count)).find(|name| self.has(name)).unwrap();
            let wildcard = closest.prepend_label("*").unwrap();
            is_name = self.has(&wildcard);
            let rtype = if self.set(&wildcard, rtype).is_empty() { RecordType::CNAME } else { rtype };
            if let Some(data) = self.records.get(&wildcard).and_then(|sets| sets.get(&rtype)) {
                message.add_answers(self.expanded(name, &wildcard, data));
            }
        }
        if message.answers.is_empty() {
            message.metadata.response_code = if is_name { ResponseCode::NoError } else { ResponseCode::NXDomain };
            message.add_authorities(self.set(&self.apex, RecordType::SOA));
        }
        message.add_authorities(self.chain().into_iter().flatten());
        message.into_response()
    }

    fn expanded(&self, owner: &Name, wildcard: &Name, data: &[RData]) -> Vec<Record> {
        let mut records = self.signed(wildcard, wildcard, data);
        records.iter_mut().for_each(|record| record.name = owner.clone());
        records
    }
}

/// Zones from the root down.
pub struct World {
    pub zones: Vec<Zone>,
    /// Forged responses, which replace the servers' responses to some queries.
    pub forged: Vec<(Query, Message)>,
}

impl World {
    /// The zone that owns the records of a type at a name.
    pub fn zone(&self, name: &Name, rtype: RecordType) -> &Zone {
        let has = |zone: &&Zone| {
            zone.apex.zone_of(name) && !(rtype == RecordType::DS && zone.apex == *name && !name.is_root())
        };
        self.zones.iter().filter(has).max_by_key(|zone| labels(&zone.apex)).unwrap()
    }

    /// The servers' true response.
    pub fn answer(&self, query: &Query) -> Message {
        self.zone(&query.name, query.query_type).answer(query)
    }
}

impl Source for Arc<World> {
    async fn ask(&self, name: &Name, rtype: RecordType, _: &[IpAddr], _: &Arc<Budget>) -> Result<Said, Failure> {
        let query = Query::query(name.clone(), rtype);
        let forged = self.forged.iter().find(|(of, _)| *of == query).map(|(_, message)| message.clone());
        Ok(Said { message: Arc::new(forged.unwrap_or_else(|| self.answer(&query))), server: None })
    }
}
