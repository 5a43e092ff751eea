//! From a response to cache entries: which of its records are accepted.
//!
//! A response is accepted for the name in question and for the targets of its CNAME and DNAME
//! records, as far as they are within the domain that the server was asked about. Records for other
//! names are discarded, and so are addresses of name servers outside the delegated domain.

use super::cache::Lifetimes;
use crate::{
    answer::known::{Entry, Key, OWNER, Question, Records},
    snapshot::routes::{NameServer, RouteId},
    wire::{
        codes::{class, flag, rcode},
        name::MAX_NAME,
        query::LookupName,
        rdata::rtype,
        response::{Record, Response},
    },
};
use std::{
    borrow::{Borrow, Cow},
    sync::Arc,
};

/// The maximum number of links of a CNAME chain that are accepted from one response.
const MAX_LINKS: usize = 16;

/// The maximum number of name servers that are accepted from one referral. The caller asks only a
/// few of them.
const MAX_NAME_SERVERS: usize = 64;

/// The content of a response that is accepted.
pub enum ParsedResponse {
    /// The answers, one entry for each link of the chain: the name in question first, then the
    /// targets it leads to.
    Answers(Vec<(Key, Arc<Entry>)>),
    /// Other servers are responsible.
    Referral {
        /// The delegated domain, in lower case and wire format.
        domain: Box<[u8]>,
        /// The name servers of the domain.
        name_servers: Vec<NameServer>,
    },
}

/// The reason why a response is rejected: a predicate whose subject is the server that sent it.
pub type RejectionReason = Cow<'static, str>;

/// Reads the response of a server that was asked about `domain`. The entries get keys of `route`,
/// and TTLs within `lifetimes`. `now` is in seconds since 1970.
///
/// # Errors
/// The response is rejected: another server may have a usable one (RFC 1034, section 5.3.3, step
/// 4.d).
pub fn parse_response(
    message: &[u8],
    (route, domain): (RouteId, &[u8]),
    question: &Question,
    now: i64,
    lifetimes: &Lifetimes,
) -> Result<ParsedResponse, RejectionReason> {
    let Some(response) = Response::read(message) else { return Err("sent an answer that cannot be read".into()) };
    if !matches!(response.rcode, rcode::NOERROR | rcode::NXDOMAIN | rcode::YXDOMAIN) {
        return Err(format!("answered RCODE {}", response.rcode).into());
    }
    let reader = Reader { response: &response, domain, question, now };
    let mut answers: Vec<(Key, Arc<Entry>)> = Vec::new();
    let mut followed: Option<LookupName> = None;
    while answers.len() < MAX_LINKS {
        let name = followed.as_ref().unwrap_or(question.name);
        let Some(mut entry) = reader.link(name, answers.is_empty()) else { break };
        lifetimes.limit(&mut entry);
        let target = entry.target.and_then(|at| LookupName::new(&entry.answer.octets[at.into()..]));
        answers.push((Key::new(route, &Question { name, ..*question }), Arc::new(entry)));
        // Records outside the server's domain are not accepted.
        match target.filter(|target| is_within(target, domain)) {
            Some(target) if answers.iter().all(|(key, _)| *key.name != *target.wire()) => followed = Some(target),
            _ => break,
        }
    }
    match answers.is_empty() {
        true if response.rcode == rcode::YXDOMAIN => Err("answered YXDOMAIN without the DNAME".into()),
        true => reader.referral(),
        false => Ok(ParsedResponse::Answers(answers)),
    }
}

/// Whether a name is at or below a domain.
fn is_within(name: &LookupName, domain: &[u8]) -> bool {
    (0..=name.labels()).any(|skip| name.suffix(skip) == domain)
}

struct Reader<'a> {
    response: &'a Response,
    domain: &'a [u8],
    question: &'a Question<'a>,
    now: i64,
}

/// The answer records of one name.
struct LinkAnswer<'a> {
    /// The records, DNAMEs first. Empty if the response has none for the name.
    records: Vec<Cow<'a, Record>>,
    /// The index of the CNAME whose target the chain follows.
    followed: Option<usize>,
    /// The name that a DNAME makes is too long (RFC 6672, section 2.2): there is no CNAME.
    is_too_long: bool,
}

/// The content of a negative answer.
struct Negative<'a> {
    rcode: u16,
    ttl: u32,
    /// The SOA record with its signatures.
    authority: Vec<&'a Record>,
}

impl<'a> Reader<'a> {
    /// The entry for one name of the chain. None if the response says nothing about the name.
    fn link(&self, name: &LookupName, is_first: bool) -> Option<Entry> {
        // Step 1: the records of the type, or the CNAME and the DNAMEs in their place.
        let LinkAnswer { records: answer, followed, is_too_long } = self.link_answer(name);
        let mut ttl = answer.iter().map(|record| effective_ttl(record.ttl)).min().unwrap_or(0);
        let mut code = if is_too_long { rcode::YXDOMAIN } else { rcode::NOERROR };
        // Step 2: without records, a negative answer with its SOA record.
        let mut authority: Vec<&Record> = Vec::new();
        if answer.is_empty() {
            if is_too_long {
                return None;
            }
            let negative = self.negative(name, is_first)?;
            (code, ttl, authority) = (negative.rcode, negative.ttl, negative.authority);
        }
        // Step 3: the DNSSEC proof. A positive answer needs one only if it was made from a wildcard
        // (RFC 4035, section 3.1.3.3): other proofs in the response belong to other links.
        let is_from_wildcard = |record: &Record| {
            let labels = record.rdata.get(3).map(|labels| usize::from(*labels));
            is_at(record, name) && record.rtype == rtype::RRSIG && labels.is_some_and(|labels| labels < name.labels())
        };
        if answer.is_empty() || answer.iter().any(|record| is_from_wildcard(record)) {
            let [_, section, _] = &self.response.sections;
            authority.extend(section.iter().filter(|record| self.is_proof(record)));
        }
        // The entry has one TTL: the shortest, so that no record's TTL is lengthened.
        ttl = authority.iter().map(|record| effective_ttl(record.ttl)).fold(ttl, u32::min);
        let (answer, data_offsets) = compact_records(&answer, name);
        Some(Entry {
            rcode: code,
            authentic: false,
            ttl,
            since: self.now,
            answer,
            target: followed.and_then(|index| u16::try_from(*data_offsets.get(index)?).ok()),
            authority: compact_records(&authority, name).0,
            ede: None,
            details: None,
            servers: None,
        })
    }

    /// The records in the answer section for a name: those of the type in question with their
    /// signatures; without any, its CNAME, after the DNAMEs that the CNAME was made from.
    fn link_answer(&self, name: &LookupName) -> LinkAnswer<'a> {
        let qtype = self.question.qtype;
        let [answer, ..] = &self.response.sections;
        let is_type = |record: &Record| record.rtype == qtype || qtype == rtype::ANY;
        let is_wanted = |record: &&Record| is_at(record, name) && (is_type(record) || self.is_signature(record, qtype));
        let mut records: Vec<Cow<Record>> = answer.iter().filter(is_wanted).map(Cow::Borrowed).collect();
        let has_type = records.iter().any(|record| is_type(record));
        // A CNAME is the answer to a question for these types: it is not followed.
        let is_cname_final = matches!(qtype, rtype::CNAME | rtype::ANY);
        if has_type && !is_cname_final {
            return LinkAnswer { records, followed: None, is_too_long: false };
        }
        let dnames: Vec<&Record> = answer.iter().filter(|record| self.is_dname_above(record, name)).collect();
        if !has_type {
            let cname = answer.iter().find(|record| is_at(record, name) && record.rtype == rtype::CNAME);
            records = cname.map(Cow::Borrowed).into_iter().collect();
        }
        let is_too_long = records.is_empty() && self.response.rcode == rcode::YXDOMAIN;
        let dname = dnames.iter().find(|record| record.rtype == rtype::DNAME);
        if let Some(synthesized) = dname.and_then(|dname| synthesize_cname(name, dname)).filter(|_| !is_too_long) {
            // The server may have made the same CNAME from the name in random case.
            let is_same = |record: &Cow<Record>| {
                record.rtype == rtype::CNAME && record.rdata.eq_ignore_ascii_case(&synthesized.rdata)
            };
            match records.iter().position(is_same) {
                Some(index) => records[index] = Cow::Owned(synthesized),
                None if records.is_empty() => records.push(Cow::Owned(synthesized)),
                None => {}
            }
        }
        let has_cname = records.iter().any(|record| record.rtype == rtype::CNAME);
        let followed = (has_cname && !is_cname_final).then_some(dnames.len());
        if has_cname || is_too_long {
            records.splice(0..0, dnames.into_iter().map(Cow::Borrowed));
            if !has_type {
                let is_cname_signature =
                    |record: &&Record| is_at(record, name) && self.is_signature(record, rtype::CNAME);
                records.extend(answer.iter().filter(is_cname_signature).map(Cow::Borrowed));
            }
        }
        LinkAnswer { records, followed, is_too_long }
    }

    /// The negative answer for a name. None if the response does not say that the name or the type
    /// does not exist.
    fn negative(&self, name: &LookupName, is_first: bool) -> Option<Negative<'a>> {
        let [_, section, _] = &self.response.sections;
        let soa = section.iter().find(|record| {
            let is_above = (0..=name.labels()).any(|skip| record.owner.eq_ignore_ascii_case(name.suffix(skip)));
            record.rtype == rtype::SOA && record.class == class::IN && is_above
        });
        // For the target of a CNAME, only a SOA record or NXDOMAIN is a negative answer.
        if self.response.rcode == rcode::NOERROR && soa.is_none() && !(is_first && self.is_empty_answer(name)) {
            return None;
        }
        let ttl = soa.map_or(0, |soa| {
            let minimum = soa.rdata.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum));
            effective_ttl(soa.ttl).min(effective_ttl(minimum))
        });
        // The SOA record of a zone above the server's domain limits the TTL, but is not passed on.
        let authority = soa.filter(|soa| self.is_in_domain(&soa.owner)).map_or(Vec::new(), |soa| {
            let is_soa_signature = |r: &&Record| r.owner == soa.owner && self.is_signature(r, rtype::SOA);
            std::iter::once(soa).chain(section.iter().filter(is_soa_signature)).collect()
        });
        Some(Negative { rcode: self.response.rcode, ttl, authority })
    }

    /// Whether a record is a DNAME above a name, or the signature of one, within the server's
    /// domain.
    fn is_dname_above(&self, record: &Record, name: &LookupName) -> bool {
        let is_above = || (1..=name.labels()).any(|skip| record.owner.eq_ignore_ascii_case(name.suffix(skip)));
        let is_dname = record.rtype == rtype::DNAME || self.is_signature(record, rtype::DNAME);
        record.class == class::IN && is_dname && is_above() && self.is_in_domain(&record.owner)
    }

    /// Whether a record is an NSEC or NSEC3 record or the signature of one, within the server's
    /// domain, and DNSSEC records are wanted.
    fn is_proof(&self, record: &Record) -> bool {
        let is_nsec = |rtype| matches!(rtype, rtype::NSEC | rtype::NSEC3);
        let is_signature = || record.rtype == rtype::RRSIG && type_covered(record).is_some_and(is_nsec);
        self.question.dnssec_ok
            && record.class == class::IN
            && (is_nsec(record.rtype) || is_signature())
            && self.is_in_domain(&record.owner)
    }

    /// Whether a record is a signature of a type, and signatures are wanted.
    fn is_signature(&self, record: &Record, of: u16) -> bool {
        self.question.dnssec_ok && record.rtype == rtype::RRSIG && type_covered(record) == Some(of)
    }

    /// Whether a name is within the domain that the server was asked about.
    fn is_in_domain(&self, owner: &[u8]) -> bool {
        LookupName::new(owner).is_some_and(|owner| is_within(&owner, self.domain))
    }

    /// Whether a response without a SOA record and without records of the type means "no data". It
    /// does not if it refers to other servers, if its answer is for other names, or if it is empty
    /// and the server is neither authoritative nor recursive.
    fn is_empty_answer(&self, name: &LookupName) -> bool {
        let [answer, authority, _] = &self.response.sections;
        let is_authoritative = self.response.flags & flag::AA != 0;
        let refers = authority.iter().any(|record| record.rtype == rtype::NS);
        match answer.is_empty() {
            true => is_authoritative || !refers && self.response.flags & flag::RA != 0,
            false => answer.iter().any(|record| record.owner.eq_ignore_ascii_case(name.wire())),
        }
    }

    /// The referral in the response. The delegated domain must be below the server's domain, and
    /// not below the name in question. Addresses are accepted for name servers below the delegated
    /// domain only.
    fn referral(&self) -> Result<ParsedResponse, RejectionReason> {
        let [answer, authority, additional] = &self.response.sections;
        if !answer.is_empty() {
            return Err("answered for other names".into());
        }
        if !authority.iter().any(|record| record.rtype == rtype::NS) {
            return Err("does not have the zone and does not recurse: its answer is empty".into());
        }
        let name = self.question.name;
        let is_cut = |record: &&Record| {
            let is_above = (0..name.labels()).any(|skip| record.owner.eq_ignore_ascii_case(name.suffix(skip)));
            record.rtype == rtype::NS && record.class == class::IN && is_above && record.owner.len() > self.domain.len()
        };
        let first = authority.iter().find(is_cut).filter(|first| self.is_in_domain(&first.owner));
        let Some(first) = first else {
            return Err("refers to other servers".into());
        };
        let domain = first.owner.to_ascii_lowercase();
        let of_cut = authority
            .iter()
            .filter(|r| r.rtype == rtype::NS && r.owner.eq_ignore_ascii_case(&domain))
            .take(MAX_NAME_SERVERS);
        let name_servers = of_cut.map(|record| {
            let name = record.rdata.to_ascii_lowercase();
            let of_name = additional.iter().filter(|r| r.class == class::IN && r.owner.eq_ignore_ascii_case(&name));
            let is_below = LookupName::new(&name).is_some_and(|name| is_within(&name, &domain));
            let addresses = of_name.filter(|_| is_below).filter_map(Record::address).collect();
            NameServer { name: name.into(), addresses }
        });
        Ok(ParsedResponse::Referral { name_servers: name_servers.collect(), domain: domain.into() })
    }
}

/// Whether a record is of class IN and its owner is this name.
fn is_at(record: &Record, name: &LookupName) -> bool {
    record.class == class::IN && record.owner.eq_ignore_ascii_case(name.wire())
}

/// The TTL that a record's TTL field means: 0 if its highest bit is set (RFC 2181, section 8).
fn effective_ttl(ttl: u32) -> u32 {
    if ttl >> 31 == 0 { ttl } else { 0 }
}

/// The CNAME record that a DNAME makes for a name. A server may leave it to the resolver (RFC 6672,
/// section 3.4). None if the target is too long for a name.
fn synthesize_cname(name: &LookupName, dname: &Record) -> Option<Record> {
    let prefix_len = name.wire().len().checked_sub(dname.owner.len())?;
    let target = [name.wire().get(..prefix_len)?, &dname.rdata].concat();
    let owner = name.wire().to_vec();
    (target.len() <= MAX_NAME).then(|| Record { owner, rtype: rtype::CNAME, rdata: target, ..dname.clone() })
}

/// The type that an RRSIG record covers.
fn type_covered(signature: &Record) -> Option<u16> {
    Some(u16::from_be_bytes(*signature.rdata.first_chunk()?))
}

/// Writes records in the form of [`Records`], for replies about `name`. Also returns the offset of
/// each record's data.
fn compact_records(records: &[impl Borrow<Record>], name: &LookupName) -> (Records, Vec<usize>) {
    let records = || records.iter().map(Borrow::borrow);
    let mut octets = Vec::with_capacity(records().map(|record: &Record| record.rdata.len() + 16).sum());
    let mut data_offsets = Vec::with_capacity(records().len());
    for record in records() {
        match (0..=name.labels()).find(|skip| record.owner.eq_ignore_ascii_case(name.suffix(*skip))) {
            Some(skip) => octets.extend([OWNER, skip as u8]),
            None => octets.extend_from_slice(&record.owner),
        }
        octets.extend_from_slice(&record.rtype.to_be_bytes());
        octets.extend_from_slice(&record.class.to_be_bytes());
        octets.extend_from_slice(&[0; 4]);
        octets.extend_from_slice(&(record.rdata.len() as u16).to_be_bytes());
        data_offsets.push(octets.len());
        octets.extend_from_slice(&record.rdata);
    }
    (Records { count: records().len() as u16, octets: octets.into() }, data_offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Name, rdata};

    fn wire(name: &str) -> Vec<u8> {
        Name::absolute(name).unwrap().as_wire().to_vec()
    }

    /// A response: flags and RCODE, then sections of `owner TTL type data`.
    fn response(bits: u16, sections: [&[&str]; 3]) -> Vec<u8> {
        let mut message = vec![0, 7];
        message.extend((flag::QR | bits).to_be_bytes());
        message.extend([0, 0]);
        message.extend(sections.iter().flat_map(|section| (section.len() as u16).to_be_bytes()));
        for line in sections.into_iter().flatten() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            let rtype = rdata::type_from_text(words[2]).unwrap();
            let data = match words[2] {
                "A" => words[3].parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec(),
                "SOA" => [wire(words[3]), wire(words[3]), [[0, 0, 0, 60]; 5].concat()].concat(),
                // The type covered, and the number of labels.
                "RRSIG" => {
                    let (of, labels) = words[3].split_once(' ').unwrap_or((words[3], "2"));
                    let labels = [0, labels.parse().unwrap()];
                    let of = rdata::type_from_text(of).unwrap().to_be_bytes();
                    [&of[..], &labels, &[0; 14], b"\0sig"].concat()
                }
                _ => wire(words[3]),
            };
            message.extend(wire(words[0]));
            message.extend(rtype.to_be_bytes());
            message.extend([0, 1]);
            message.extend(words[1].parse::<u32>().unwrap().to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(data);
        }
        message
    }

    /// The accepted content of a response to `name`, type A, from the servers of `domain`: one line
    /// for each link.
    fn accepted(domain: &str, name: &str, dnssec_ok: bool, message: &[u8]) -> Vec<String> {
        let name = LookupName::new(&wire(name)).unwrap();
        let question = Question { name: &name, qtype: rtype::A, dnssec_ok, checking_disabled: false };
        let domain = wire(domain);
        let line = |(key, entry): &(Key, Arc<Entry>)| {
            let target = entry.target.and_then(|at| LookupName::new(&entry.answer.octets[at.into()..]));
            let target = target.map(|target| Name::from_wire(target.wire()).unwrap());
            let target = target.map_or(String::new(), |target| format!(" -> {target}"));
            let (answers, authorities) = (entry.answer.count, entry.authority.count);
            let name = Name::from_wire(&key.name).unwrap();
            format!("{name} {} ttl {} {answers}+{authorities}{target}", entry.rcode, entry.ttl)
        };
        match parse_response(message, (RouteId(1), &domain), &question, 0, &Lifetimes::default()) {
            Ok(ParsedResponse::Answers(answers)) => answers.iter().map(line).collect(),
            Ok(ParsedResponse::Referral { domain, name_servers }) => {
                let server =
                    |server: &NameServer| format!("{} {:?}", Name::from_wire(&server.name).unwrap(), server.addresses);
                let servers: Vec<String> = name_servers.iter().map(server).collect();
                vec![format!("referral {}: {}", Name::from_wire(&domain).unwrap(), servers.join(", "))]
            }
            Err(useless) => vec![useless.into()],
        }
    }

    #[test]
    fn accepts_records_for_the_question_only() {
        let nothing: &[&str] = &[];
        for (domain, dnssec_ok, bits, sections, expected) in [
            // The shortest TTL of a record set counts. Records of other names are discarded.
            (
                "example.",
                false,
                0,
                [
                    &["a.example. 300 A 10.0.0.1", "a.example. 200 A 10.0.0.2", "b.example. 60 A 10.6.6.6"][..],
                    &["example. 60 NS ns.evil.test."],
                    &["ns.evil.test. 60 A 10.6.6.6"],
                ],
                &["a.example. 0 ttl 200 2+0"][..],
            ),
            ("example.", false, 0, [&["b.example. 300 A 10.6.6.6"], nothing, nothing], &["answered for other names"]),
            // A chain is followed within the domain only.
            (
                "example.",
                false,
                0,
                [
                    &["a.example. 300 CNAME b.example.", "b.example. 30 CNAME c.test.", "c.test. 60 A 10.6.6.6"],
                    nothing,
                    nothing,
                ],
                &["a.example. 0 ttl 300 1+0 -> b.example.", "b.example. 0 ttl 30 1+0 -> c.test."],
            ),
            (
                ".",
                false,
                0,
                [&["a.example. 300 CNAME c.test.", "c.test. 60 A 10.0.0.1"], nothing, nothing],
                &["a.example. 0 ttl 300 1+0 -> c.test.", "c.test. 0 ttl 60 1+0"],
            ),
            (
                ".",
                false,
                0,
                [&["a.example. 300 CNAME b.example.", "b.example. 300 CNAME a.example."], nothing, nothing],
                &["a.example. 0 ttl 300 1+0 -> b.example.", "b.example. 0 ttl 300 1+0 -> a.example."],
            ),
            // A DNAME comes before the CNAME that it makes.
            (
                "example.",
                false,
                0,
                [&["example. 300 DNAME test.", "a.example. 300 CNAME a.test."], nothing, nothing],
                &["a.example. 0 ttl 300 2+0 -> a.test."],
            ),
            // A missing CNAME is made from the DNAME, for names below it and within the domain.
            (
                "example.",
                false,
                0,
                [&["example. 300 DNAME b.example.", "a.b.example. 30 A 10.0.0.1"], nothing, nothing],
                &["a.example. 0 ttl 300 2+0 -> a.b.example.", "a.b.example. 0 ttl 30 1+0"],
            ),
            ("a.example.", false, 0, [&["example. 300 DNAME test."], nothing, nothing], &["answered for other names"]),
            ("example.", false, 0, [&["a.example. 300 DNAME test."], nothing, nothing], &["a.example. 0 ttl 0 0+0"]),
            // A negative answer has the TTL of the SOA record, and is for the last name of the
            // chain.
            ("example.", false, 3, [nothing, &["example. 90 SOA ns."], nothing], &["a.example. 3 ttl 60 0+1"]),
            ("a.example.", false, 3, [nothing, &["example. 90 SOA ns."], nothing], &["a.example. 3 ttl 60 0+0"]),
            ("example.", false, 3, [nothing, &["test. 90 SOA ns."], nothing], &["a.example. 3 ttl 0 0+0"]),
            (
                "example.",
                false,
                3,
                [&["a.example. 300 CNAME b.example."], &["example. 90 SOA ns."], nothing],
                &["a.example. 0 ttl 300 1+0 -> b.example.", "b.example. 3 ttl 60 0+1"],
            ),
            // Signatures are accepted if DNSSEC records are wanted.
            (
                "example.",
                false,
                0,
                [&["a.example. 300 A 10.0.0.1", "a.example. 300 RRSIG A"], nothing, nothing],
                &["a.example. 0 ttl 300 1+0"],
            ),
            (
                "example.",
                true,
                0,
                [&["a.example. 300 A 10.0.0.1", "a.example. 300 RRSIG A", "a.example. 9 RRSIG MX"], nothing, nothing],
                &["a.example. 0 ttl 300 2+0"],
            ),
            // Proofs are accepted with a negative answer, or with an answer from a wildcard.
            (
                "example.",
                true,
                0,
                [
                    &["a.example. 300 A 10.0.0.1", "a.example. 300 RRSIG A"],
                    &["b.example. 60 NSEC c.example.", "b.example. 60 RRSIG NSEC"],
                    nothing,
                ],
                &["a.example. 0 ttl 300 2+0"],
            ),
            (
                "example.",
                true,
                0,
                [
                    &["a.example. 300 A 10.0.0.1", "a.example. 300 RRSIG A 1"],
                    &["b.example. 60 NSEC c.example.", "b.example. 90 RRSIG NSEC"],
                    nothing,
                ],
                &["a.example. 0 ttl 60 2+2"],
            ),
            (
                "example.",
                true,
                3,
                [
                    &["a.example. 300 CNAME b.example.", "a.example. 300 RRSIG CNAME"],
                    &["example. 90 SOA ns.", "b.example. 30 NSEC c.example.", "b.example. 30 RRSIG NSEC"],
                    nothing,
                ],
                &["a.example. 0 ttl 300 2+0 -> b.example.", "b.example. 3 ttl 30 0+3"],
            ),
            // YXDOMAIN means that a DNAME makes a name that is too long: the DNAME must be in the
            // answer.
            ("example.", false, 6, [&["example. 300 DNAME test."], nothing, nothing], &["a.example. 6 ttl 300 1+0"]),
            (
                "example.",
                false,
                6,
                [&["b.example. 300 DNAME test."], nothing, nothing],
                &["answered YXDOMAIN without the DNAME"],
            ),
            // A referral must lead down, and addresses outside the delegated domain are discarded.
            ("test.", false, 0, [nothing, &["example. 60 NS ns.example."], nothing], &["refers to other servers"]),
            (
                ".",
                false,
                0,
                [
                    nothing,
                    &["example. 60 NS ns.example.", "example. 60 NS ns.test."],
                    &["ns.example. 60 A 10.0.0.1", "ns.test. 60 A 10.6.6.6"],
                ],
                &["referral example.: ns.example. [10.0.0.1], ns.test. []"],
            ),
            ("example.", false, 5, [nothing, nothing, nothing], &["answered RCODE 5"]),
        ] {
            let message = response(bits, sections);
            assert_eq!(accepted(domain, "a.example.", dnssec_ok, &message), expected, "{sections:?}");
            for len in 0..message.len() {
                accepted(domain, "a.example.", dnssec_ok, &message[..len]);
            }
        }
    }

    #[test]
    fn limits_the_name_servers_of_a_referral() {
        let lines: Vec<String> = (0..1700).map(|n| format!("example. 60 NS ns{n}.test.")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let accepted = accepted(".", "a.example.", false, &response(0, [&[], &lines, &[]]));
        assert_eq!(accepted[0].matches("ns").count(), MAX_NAME_SERVERS, "{accepted:?}");
    }

    #[test]
    fn a_ttl_with_the_highest_bit_set_is_zero() {
        let message = response(0, [&["a.example. 2147483648 A 10.0.0.1"], &[], &[]]);
        assert_eq!(accepted(".", "a.example.", false, &message), ["a.example. 0 ttl 0 1+0"]);
    }
}
