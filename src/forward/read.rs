//! From a response to what is known: only what was asked for is taken, and only from those whose affair it is.

use super::cache::Lifetimes;
use crate::{
    answer::known::{Entry, Key, OWNER, Question, Records},
    snapshot::routes::{NameServer, RouteId},
    wire::{
        codes::{flag, rcode},
        name::MAX_NAME,
        query::LookupName,
        rdata::rtype,
        response::{Record, Response},
    },
};
use std::{borrow::Cow, sync::Arc};

/// How many links of a chain are taken from one response.
const MOST_LINKS: usize = 16;

/// How many name servers are taken from one referral. Of these, few are asked.
const MAX_NAME_SERVERS: usize = 64;

/// What a response says.
pub enum Read {
    /// This, link by link: of the name asked for, and of the targets that it leads to.
    Answers(Vec<(Key, Arc<Entry>)>),
    /// That others are to be asked.
    Referral {
        /// The name that they answer for, in lower case and wire format.
        domain: Box<[u8]>,
        /// Who they are.
        name_servers: Vec<NameServer>,
    },
}

/// What is wrong with a response, to be read behind the name of the server that sent it.
pub type Useless = Cow<'static, str>;

/// Reads the response of one who answers for `domain`. What it says is kept under `route`.
///
/// # Errors
/// The response is of no use: another server may have a better one (RFC 1034, 5.3.3, step 4.c).
pub fn read(
    message: &[u8],
    (route, domain): (RouteId, &[u8]),
    question: &Question,
    now: i64,
    lifetimes: &Lifetimes,
) -> Result<Read, Useless> {
    let Some(response) = Response::read(message) else { return Err("sent an answer that cannot be read".into()) };
    if !matches!(response.rcode, rcode::NOERROR | rcode::NXDOMAIN | rcode::YXDOMAIN) {
        return Err(format!("answered RCODE {}", response.rcode).into());
    }
    let reader = Reader { response: &response, domain, question, now };
    let mut answers: Vec<(Key, Arc<Entry>)> = Vec::new();
    let mut followed: Option<LookupName> = None;
    while answers.len() < MOST_LINKS {
        let name = followed.as_ref().unwrap_or(question.name);
        let Some(mut entry) = reader.link(name, answers.is_empty()) else { break };
        lifetimes.limit(&mut entry);
        let target = entry.target.and_then(|at| LookupName::new(&entry.answer.octets[at.into()..]));
        answers.push((Key::new(route, &Question { name, ..*question }), Arc::new(entry)));
        // Of what is outside of its domain a server is not believed.
        match target.filter(|target| is_within(target, domain)) {
            Some(target) if answers.iter().all(|(key, _)| *key.name != *target.wire()) => followed = Some(target),
            _ => break,
        }
    }
    match answers.is_empty() {
        true if response.rcode == rcode::YXDOMAIN => Err("answered YXDOMAIN without the DNAME".into()),
        true => reader.referral(),
        false => Ok(Read::Answers(answers)),
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

impl<'a> Reader<'a> {
    /// What the response says of one name; none if it says nothing.
    fn link(&self, name: &LookupName, first: bool) -> Option<Entry> {
        let Question { qtype, dnssec_ok, .. } = *self.question;
        let [answer, authority, _] = &self.response.sections;
        let at_name = |record: &&Record| record.class == 1 && record.owner.eq_ignore_ascii_case(name.wire());
        let wanted = |record: &&Record| {
            at_name(record) && (record.rtype == qtype || qtype == rtype::ANY || self.is_signature(record, qtype))
        };
        let synthesized;
        let mut found: Vec<&Record> = answer.iter().filter(wanted).collect();
        let (mut target, mut is_too_long) = (None, false);
        let is_found = found.iter().any(|record| record.rtype == qtype || qtype == rtype::ANY);
        // For these types, a CNAME is the answer: it is not followed.
        let is_last = matches!(qtype, rtype::CNAME | rtype::ANY);
        if !is_found || is_last {
            // DNAMEs above the name, which the CNAME at the name was made from, and their signatures.
            let is_made_from = |record: &&Record| {
                let below = (1..=name.labels()).any(|skip| record.owner.eq_ignore_ascii_case(name.suffix(skip)));
                let is_dname = record.rtype == rtype::DNAME || self.is_signature(record, rtype::DNAME);
                record.class == 1 && below && is_dname && self.is_ours(&record.owner)
            };
            let front: Vec<&Record> = answer.iter().filter(is_made_from).collect();
            if !is_found {
                found = answer.iter().filter(|r| at_name(r) && r.rtype == rtype::CNAME).take(1).collect();
            }
            // The name that a DNAME would make may be too long: then there is no CNAME (RFC 6672, 2.2).
            is_too_long = found.is_empty() && self.response.rcode == rcode::YXDOMAIN;
            synthesized = front.iter().find(|r| r.rtype == rtype::DNAME).and_then(|dname| cname(name, dname));
            if let (Some(made), false) = (&synthesized, is_too_long) {
                // The server may have made it from the name in the case in which it was asked for.
                let is_same = |record: &&mut &Record| {
                    record.rtype == rtype::CNAME && record.rdata.eq_ignore_ascii_case(&made.rdata)
                };
                if let Some(sent) = found.iter_mut().find(is_same) {
                    *sent = made;
                } else if found.is_empty() {
                    found.push(made);
                }
            }
            let has_cname = found.iter().any(|record| record.rtype == rtype::CNAME);
            if has_cname || is_too_long {
                target = (has_cname && !is_last).then_some(front.len());
                found.splice(0..0, front);
                if !is_found {
                    found.extend(answer.iter().filter(|r| at_name(r) && self.is_signature(r, rtype::CNAME)));
                }
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
        let mut code = if is_too_long { rcode::YXDOMAIN } else { rcode::NOERROR };
        if found.is_empty() {
            if is_too_long {
                return None;
            }
            let soa = authority.iter().find(|record| {
                let above = (0..=name.labels()).any(|skip| record.owner.eq_ignore_ascii_case(name.suffix(skip)));
                record.rtype == rtype::SOA && record.class == 1 && above
            });
            // Of a target it is told only by a SOA record or by NXDOMAIN that it has nothing.
            if self.response.rcode == rcode::NOERROR && soa.is_none() && !(first && self.has_no_data(name)) {
                return None;
            }
            code = self.response.rcode;
            if let Some(soa) = soa {
                let minimum = soa.rdata.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum));
                ttl = time(soa.ttl).min(time(minimum));
            }
            // That of a zone above the domain says how long, but is not passed on.
            if let Some(soa) = soa.filter(|soa| self.is_ours(&soa.owner)) {
                behind.push(soa);
                let of_soa = |r: &&Record| r.owner == soa.owner && self.is_signature(r, rtype::SOA);
                behind.extend(authority.iter().filter(of_soa));
            }
        }
        // What is there needs a proof only where it is made from a wildcard (RFC 4035, 3.1.3.3): what else is proven is
        // the affair of other links.
        let is_made = |record: &&Record| {
            let labels = record.rdata.get(3).map(|labels| usize::from(*labels));
            at_name(record) && record.rtype == rtype::RRSIG && labels.is_some_and(|labels| labels < name.labels())
        };
        if found.is_empty() || found.iter().any(is_made) {
            behind.extend(authority.iter().filter(proves));
        }
        // No record's time is to become longer.
        ttl = behind.iter().map(|record| time(record.ttl)).fold(ttl, u32::min);
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
            details: None,
        })
    }

    /// Whether a record is a signature of a type, and signatures are wanted.
    fn is_signature(&self, record: &Record, of: u16) -> bool {
        self.question.dnssec_ok && record.rtype == rtype::RRSIG && covered(record) == Some(of)
    }

    fn is_ours(&self, owner: &[u8]) -> bool {
        LookupName::new(owner).is_some_and(|owner| is_within(&owner, self.domain))
    }

    /// Whether a response without a SOA record and without the records in question means that there are none. It does not
    /// if it names only other servers to ask, if it is about other names, or if it is empty and from a server that neither
    /// has the zone nor recurses.
    fn has_no_data(&self, name: &LookupName) -> bool {
        let [answer, authority, _] = &self.response.sections;
        let is_authoritative = self.response.flags & flag::AA != 0;
        let refers = authority.iter().any(|record| record.rtype == rtype::NS);
        match answer.is_empty() {
            true => is_authoritative || !refers && self.response.flags & flag::RA != 0,
            false => answer.iter().any(|record| record.owner.eq_ignore_ascii_case(name.wire())),
        }
    }

    /// The name servers that it names, with those of their addresses that it is believed to know: those below the name
    /// that they answer for, which is itself below that of the server and not above the name in question.
    fn referral(&self) -> Result<Read, Useless> {
        let [answer, authority, additional] = &self.response.sections;
        if !answer.is_empty() {
            return Err("answered for other names".into());
        }
        if !authority.iter().any(|record| record.rtype == rtype::NS) {
            return Err("does not have the zone and does not recurse: its answer is empty".into());
        }
        let name = self.question.name;
        let is_cut = |record: &&Record| {
            let above = (0..name.labels()).any(|skip| record.owner.eq_ignore_ascii_case(name.suffix(skip)));
            record.rtype == rtype::NS && record.class == 1 && above && record.owner.len() > self.domain.len()
        };
        let first = authority.iter().find(is_cut).filter(|first| self.is_ours(&first.owner));
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
            let of_name = additional.iter().filter(|r| r.class == 1 && r.owner.eq_ignore_ascii_case(&name));
            let is_below = LookupName::new(&name).is_some_and(|name| is_within(&name, &domain));
            let addresses = of_name.filter(|_| is_below).filter_map(Record::address).collect();
            NameServer { name: name.into(), addresses }
        });
        Ok(Read::Referral { name_servers: name_servers.collect(), domain: domain.into() })
    }
}

/// A TTL with the highest bit set is 0 (RFC 2181, 8).
fn time(ttl: u32) -> u32 {
    if ttl >> 31 == 0 { ttl } else { 0 }
}

/// The CNAME of a name that a DNAME makes, where a server has left it to those who ask (RFC 6672, 3.4).
fn cname(name: &LookupName, dname: &Record) -> Option<Record> {
    let below = name.wire().len().checked_sub(dname.owner.len())?;
    let target = [name.wire().get(..below)?, &dname.rdata].concat();
    let owner = name.wire().to_vec();
    (target.len() <= MAX_NAME).then(|| Record { owner, rtype: rtype::CNAME, rdata: target, ..dname.clone() })
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
                // Of a name with so many labels.
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

    /// What is taken of a response to `name`, type A, from the servers of `domain`, in a line for each link.
    fn taken(domain: &str, name: &str, dnssec_ok: bool, message: &[u8]) -> Vec<String> {
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
        match read(message, (RouteId(1), &domain), &question, 0, &Lifetimes::default()) {
            Ok(Read::Answers(answers)) => answers.iter().map(line).collect(),
            Ok(Read::Referral { domain, name_servers }) => {
                let server =
                    |server: &NameServer| format!("{} {:?}", Name::from_wire(&server.name).unwrap(), server.addresses);
                let servers: Vec<String> = name_servers.iter().map(server).collect();
                vec![format!("referral {}: {}", Name::from_wire(&domain).unwrap(), servers.join(", "))]
            }
            Err(useless) => vec![useless.into()],
        }
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let nothing: &[&str] = &[];
        for (domain, dnssec_ok, bits, sections, expected) in [
            // Of one set the shortest TTL holds, and what comes beside it is not believed.
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
            // A chain is followed within the domain, and not out of it.
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
            // A DNAME goes in front of the CNAME that it makes.
            (
                "example.",
                false,
                0,
                [&["example. 300 DNAME test.", "a.example. 300 CNAME a.test."], nothing, nothing],
                &["a.example. 0 ttl 300 2+0 -> a.test."],
            ),
            // It makes one that is not there, too, but for nobody else's names, nor for its own.
            (
                "example.",
                false,
                0,
                [&["example. 300 DNAME b.example.", "a.b.example. 30 A 10.0.0.1"], nothing, nothing],
                &["a.example. 0 ttl 300 2+0 -> a.b.example.", "a.b.example. 0 ttl 30 1+0"],
            ),
            ("a.example.", false, 0, [&["example. 300 DNAME test."], nothing, nothing], &["answered for other names"]),
            ("example.", false, 0, [&["a.example. 300 DNAME test."], nothing, nothing], &["a.example. 0 ttl 0 0+0"]),
            // "No" is for as long as the SOA record says, and of the last name.
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
            // Signatures are for those who ask for them.
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
            // A proof belongs to what it is about: that there is nothing, or that something is made from a wildcard.
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
            // A DNAME may make a name that is too long; of which DNAME, has to be told.
            ("example.", false, 6, [&["example. 300 DNAME test."], nothing, nothing], &["a.example. 6 ttl 300 1+0"]),
            (
                "example.",
                false,
                6,
                [&["b.example. 300 DNAME test."], nothing, nothing],
                &["answered YXDOMAIN without the DNAME"],
            ),
            // A referral leads down, and of addresses only those below it are believed.
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
            assert_eq!(taken(domain, "a.example.", dnssec_ok, &message), expected, "{sections:?}");
            for len in 0..message.len() {
                taken(domain, "a.example.", dnssec_ok, &message[..len]);
            }
        }
    }

    #[test]
    fn few_name_servers_are_taken_from_a_referral() {
        let lines: Vec<String> = (0..1700).map(|n| format!("example. 60 NS ns{n}.test.")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let taken = taken(".", "a.example.", false, &response(0, [&[], &lines, &[]]));
        assert_eq!(taken[0].matches("ns").count(), MAX_NAME_SERVERS, "{taken:?}");
    }

    #[test]
    fn times_with_the_highest_bit_are_none() {
        let message = response(0, [&["a.example. 2147483648 A 10.0.0.1"], &[], &[]]);
        assert_eq!(taken(".", "a.example.", false, &message), ["a.example. 0 ttl 0 1+0"]);
    }
}
