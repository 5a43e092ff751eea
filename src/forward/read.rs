//! From a response to what is known: only what was asked for is taken, and only from those whose affair it is.

use super::{cache::Lifetimes, upstream::Failure};
use crate::{
    answer::known::{Entry, Key, OWNER, Question, Records},
    snapshot::routes::Route,
    wire::{
        query::{LookupName, flag, rcode},
        rdata::rtype,
        response::{Record, Response},
    },
};
use std::sync::Arc;

/// How many links of a chain are taken from one response.
const MOST_LINKS: usize = 16;

/// Takes from a response, link by link, what it says of the name asked for and of the targets that this leads to. The
/// first of the answers is that to the question.
pub fn read(
    message: &[u8],
    route: &Route,
    question: &Question,
    now: i64,
    lifetimes: &Lifetimes,
) -> Result<Vec<(Key, Arc<Entry>)>, Failure> {
    let failure = |code, text: &str| Failure { code, text: text.into() };
    let Some(response) = Response::read(message) else { return Err(failure(0, "the answer is malformed")) };
    if !matches!(response.rcode, rcode::NOERROR | rcode::NXDOMAIN) {
        return Err(failure(22, &format!("the server failed with RCODE {}", response.rcode)));
    }
    let reader = Reader { response: &response, route, question, now };
    let mut answers = Vec::new();
    let mut name = question.name.clone();
    while answers.len() < MOST_LINKS {
        match reader.link(&name, answers.is_empty()) {
            Some(mut entry) => {
                lifetimes.limit(&mut entry);
                let target = entry.target.and_then(|at| LookupName::new(&entry.answer.octets[at.into()..]));
                answers.push((Key::new(route.id, &Question { name: &name, ..*question }), Arc::new(entry)));
                // Of what is outside of its domain a server is not believed.
                match target.filter(|target| is_within(target, &route.domain)) {
                    Some(target) if answers.iter().all(|(key, _)| *key.name != *target.wire()) => name = target,
                    _ => break,
                }
            }
            None => break,
        }
    }
    match answers.is_empty() {
        true => Err(failure(22, "the server knows only other servers to ask")),
        false => Ok(answers),
    }
}

/// Whether a name is at or below a domain.
fn is_within(name: &LookupName, domain: &[u8]) -> bool {
    (0..=name.labels()).any(|skip| name.suffix(skip) == domain)
}

struct Reader<'a> {
    response: &'a Response,
    route: &'a Route,
    question: &'a Question<'a>,
    now: i64,
}

impl<'a> Reader<'a> {
    /// What the response says of one name; none if it says nothing.
    fn link(&self, name: &LookupName, first: bool) -> Option<Entry> {
        let Question { qtype, dnssec_ok, .. } = *self.question;
        let [answer, authority, _] = &self.response.sections;
        let at_name = |record: &&Record| record.class == 1 && record.owner.eq_ignore_ascii_case(name.wire());
        let wanted = |record: &&Record| {
            at_name(record) && (record.rtype == qtype || qtype == rtype::ANY || self.is_signature(record, qtype))
        };
        let mut found: Vec<&Record> = answer.iter().filter(wanted).collect();
        let mut target = None;
        if !found.iter().any(|record| record.rtype == qtype || qtype == rtype::ANY) {
            found = answer.iter().filter(|r| at_name(r) && r.rtype == rtype::CNAME).take(1).collect();
            if !found.is_empty() {
                let is_made_from = |record: &&Record| {
                    let below = (1..=name.labels()).any(|skip| record.owner.eq_ignore_ascii_case(name.suffix(skip)));
                    let is_dname = record.rtype == rtype::DNAME || self.is_signature(record, rtype::DNAME);
                    record.class == 1 && below && is_dname && self.is_ours(&record.owner)
                };
                let front: Vec<&Record> = answer.iter().filter(is_made_from).collect();
                target = Some(front.len());
                found.splice(0..0, front);
                found.extend(answer.iter().filter(|r| at_name(r) && self.is_signature(r, rtype::CNAME)));
            }
        }
        let mut ttl = found.iter().map(|record| time(record.ttl)).min().unwrap_or(0);
        let mut behind: Vec<&Record> = Vec::new();
        let proves = |record: &&Record| {
            let is_proof = |rtype| matches!(rtype, rtype::NSEC | rtype::NSEC3);
            dnssec_ok
                && record.class == 1
                && (is_proof(record.rtype) || record.rtype == rtype::RRSIG && covered(record).is_some_and(is_proof))
                && self.is_ours(&record.owner)
        };
        let mut code = rcode::NOERROR;
        if found.is_empty() {
            let soa = authority.iter().find(|record| {
                let above = (0..=name.labels()).any(|skip| record.owner.eq_ignore_ascii_case(name.suffix(skip)));
                record.rtype == rtype::SOA && record.class == 1 && above && self.is_ours(&record.owner)
            });
            // Of a target it is told only by a SOA record or by NXDOMAIN that it has nothing.
            if self.response.rcode == rcode::NOERROR && soa.is_none() && (!first || self.is_referral()) {
                return None;
            }
            code = self.response.rcode;
            if let Some(soa) = soa {
                let minimum = soa.rdata.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum));
                ttl = time(soa.ttl).min(time(minimum));
                behind.push(soa);
                let of_soa = |r: &&Record| r.owner == soa.owner && self.is_signature(r, rtype::SOA);
                behind.extend(authority.iter().filter(of_soa));
            }
        }
        behind.extend(authority.iter().filter(proves));
        let (answer, places) = records(&found, name);
        Some(Entry {
            rcode: code,
            authentic: false,
            ttl,
            since: self.now,
            answer,
            target: target.and_then(|at| u16::try_from(*places.get(at)?).ok()),
            authority: records(&behind, name).0,
            ede: None,
        })
    }

    /// Whether a record is a signature of a type, and signatures are wanted.
    fn is_signature(&self, record: &Record, of: u16) -> bool {
        self.question.dnssec_ok && record.rtype == rtype::RRSIG && covered(record) == Some(of)
    }

    fn is_ours(&self, owner: &[u8]) -> bool {
        LookupName::new(owner).is_some_and(|owner| is_within(&owner, &self.route.domain))
    }

    /// Whether the response names only other servers to ask.
    fn is_referral(&self) -> bool {
        let [answer, authority, _] = &self.response.sections;
        self.response.flags & flag::AA == 0
            && answer.is_empty()
            && authority.iter().any(|record| record.rtype == rtype::NS)
    }
}

/// A TTL with the highest bit set is 0 (RFC 2181, 8).
fn time(ttl: u32) -> u32 {
    if ttl >> 31 == 0 { ttl } else { 0 }
}

fn covered(signature: &Record) -> Option<u16> {
    Some(u16::from_be_bytes(*signature.rdata.first_chunk()?))
}

/// Makes records of them that can be put into any reply about `name`; and tells where the data of each is.
fn records(found: &[&Record], name: &LookupName) -> (Records, Vec<usize>) {
    let mut octets = Vec::with_capacity(found.iter().map(|record| record.rdata.len() + 16).sum());
    let mut places = Vec::with_capacity(found.len());
    for record in found {
        match (0..=name.labels()).find(|skip| record.owner.eq_ignore_ascii_case(name.suffix(*skip))) {
            Some(skip) => octets.extend([OWNER, skip as u8]),
            None => octets.extend_from_slice(&record.owner),
        }
        octets.extend_from_slice(&record.rtype.to_be_bytes());
        octets.extend_from_slice(&record.class.to_be_bytes());
        octets.extend_from_slice(&[0; 4]);
        octets.extend_from_slice(&(record.rdata.len() as u16).to_be_bytes());
        places.push(octets.len());
        octets.extend_from_slice(&record.rdata);
    }
    (Records { count: found.len() as u16, octets: octets.into() }, places)
}
