//! Classifies responses, and removes records that cannot matter for the question.
//!
//! So the memory and the validation work for a response have a bound, whatever a server sends.

use super::validation::{MAX_SETS, MAX_SIGNATURES, labels, signature};
use hickory_server::proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
};

/// Maximum number of NSEC and NSEC3 record sets that remain in a response. A denial takes three.
const MAX_DENIALS: usize = 8;
/// Maximum number of name servers that remain in a referral. Few zones have more.
pub const MAX_NAME_SERVERS: usize = 13;
/// Maximum number of addresses that remain for one name server, per address family.
const MAX_ADDRESSES: usize = 2;

/// The meaning of a response for its query.
#[derive(Debug, PartialEq)]
pub enum Kind {
    /// The response has records at the name, or denies them.
    Answer,
    /// The response names the servers of a lower zone that contains the name. The value is the
    /// number of labels of that zone's name.
    Referral(usize),
    /// The server may not have the zone: the response is empty, or comes from another server's
    /// data.
    Doubtful,
    /// The response is about another name: the server does not have the zone.
    Lame,
}

/// Returns the type of a record; for a signature, the type that it covers.
fn covered(record: &Record) -> RecordType {
    signature(record).map_or_else(|| record.record_type(), |signature| signature.input().type_covered)
}

/// Whether a record is a DNAME above the name, or a signature over one.
fn is_dname_above(record: &Record, name: &Name) -> bool {
    covered(record) == RecordType::DNAME && record.name.zone_of(name) && record.name != *name
}

/// Classifies a response.
pub fn kind(message: &Message, query: &Query) -> Kind {
    let name = &query.name;
    if message.answers.iter().any(|record| record.name == *name || is_dname_above(record, name)) {
        let is_secondhand = message.recursion_available && !message.authoritative;
        return if is_secondhand { Kind::Doubtful } else { Kind::Answer };
    }
    if !message.answers.is_empty() {
        return Kind::Lame;
    }
    let has = |rtype| message.authorities.iter().any(|record| record.record_type() == rtype);
    if message.response_code != ResponseCode::NoError || has(RecordType::SOA) {
        return Kind::Answer;
    }
    let cut = message.authorities.iter().find(|record| record.record_type() == RecordType::NS);
    match cut {
        // A server that does not have the zone refers to the root, and some set AA nevertheless.
        Some(cut) if cut.name.is_root() && !name.is_root() => Kind::Lame,
        // Some servers set AA in referrals. A server of the zone would have the NS records in the answer section, and no
        // DS records.
        Some(cut)
            if cut.name.zone_of(name)
                && (has(RecordType::DS) || (query.query_type == RecordType::NS && cut.name == *name)) =>
        {
            Kind::Referral(labels(&cut.name))
        }
        // Some servers send no SOA record in a negative answer.
        _ if message.authoritative => Kind::Answer,
        Some(cut) if cut.name.zone_of(name) && !cut.name.is_root() => Kind::Referral(labels(&cut.name)),
        Some(_) => Kind::Lame,
        None if has(RecordType::NSEC) || has(RecordType::NSEC3) => Kind::Answer,
        None => Kind::Doubtful,
    }
}

/// Removes records from an answer that cannot matter.
///
/// These records remain: records of the type or a CNAME at the name, a DNAME above the name,
/// records that prove a denial, and the signatures of all these.
pub fn keep_answer(message: &mut Message, query: &Query) {
    let (name, rtype) = (&query.name, query.query_type);
    let has_type = rtype == RecordType::ANY
        || message.answers.iter().any(|record| record.name == *name && record.record_type() == rtype);
    let is_asked = |record: &Record| match covered(record) {
        of if rtype == RecordType::ANY => of != RecordType::DNAME || record.name == *name,
        _ if rtype == RecordType::RRSIG => true,
        of if has_type => of == rtype,
        of => of == RecordType::CNAME,
    };
    message.answers.retain(|record| (record.name == *name && is_asked(record)) || is_dname_above(record, name));
    bound(&mut message.answers, MAX_SETS);
    let is_expanded =
        |record: &Record| signature(record).is_some_and(|s| s.input().num_labels < record.name.num_labels());
    match message.answers.is_empty() {
        true => {
            let is_above = |record: &Record| record.name.zone_of(name);
            message.authorities.retain(|record| match covered(record) {
                RecordType::SOA => is_above(record),
                RecordType::NSEC | RecordType::NSEC3 => true,
                _ => false,
            });
            bound(&mut message.authorities, MAX_DENIALS + 1);
        }
        false => {
            // The caller asks for the target of a CNAME separately.
            if message.response_code == ResponseCode::NXDomain {
                message.metadata.response_code = ResponseCode::NoError;
            }
            let is_proof = |record: &Record| matches!(covered(record), RecordType::NSEC | RecordType::NSEC3);
            match message.answers.iter().any(is_expanded) {
                true => message.authorities.retain(is_proof),
                false => message.authorities.clear(),
            }
            bound(&mut message.authorities, MAX_DENIALS);
        }
    }
    message.additionals.clear();
    message.edns = None;
    message.metadata.authoritative = true;
}

/// Moves the DS records of a referral to the answer section.
///
/// A server may answer a DS query with a referral because it does not know that DS records belong
/// to the zone above the cut. It has the records nevertheless.
pub fn take_ds(message: &mut Message, name: &Name) {
    let is_ds = |record: &mut Record| record.name == *name && covered(record) == RecordType::DS;
    message.answers.extend(message.authorities.extract_if(.., is_ds));
}

/// Removes records from a referral that cannot matter.
///
/// The name servers and their reachable addresses remain. All TTLs are clamped to `lifetimes`, in
/// seconds.
pub fn keep_referral(message: &mut Message, cut: &Name, lifetimes: &RangeInclusive<u32>) {
    let mut names: Vec<Name> = Vec::new();
    for records in [&mut message.answers, &mut message.authorities] {
        records.retain(|record| match &record.data {
            RData::NS(ns) if record.name == *cut && names.len() < MAX_NAME_SERVERS => {
                names.push(ns.0.clone());
                true
            }
            // The SOA record gives the negative TTL.
            RData::SOA(_) => true,
            _ => false,
        });
    }
    let has_ipv6 = has_ipv6();
    let mut counts = vec![[0; 2]; names.len()];
    message.additionals.retain(|record| {
        let Some(at) = names.iter().position(|name| *name == record.name) else { return false };
        let family = match record.record_type() {
            RecordType::A => 0,
            RecordType::AAAA if has_ipv6 => 1,
            _ => return false,
        };
        counts[at][family] += 1;
        counts[at][family] <= MAX_ADDRESSES
    });
    for record in message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals) {
        record.ttl = record.ttl.clamp(*lifetimes.start(), *lifetimes.end());
    }
}

/// Limits the number of record sets to `most`, and the number of signatures of each set.
fn bound(section: &mut Vec<Record>, most: usize) {
    let mut sets: Vec<(Name, RecordType, usize)> = Vec::new();
    section.retain(|record| {
        let rtype = covered(record);
        let known = sets.iter().position(|(owner, of, _)| *of == rtype && *owner == record.name);
        let at = match known {
            Some(at) => at,
            None if sets.len() == most => return false,
            None => {
                sets.push((record.name.clone(), rtype, 0));
                sets.len() - 1
            }
        };
        if signature(record).is_some() {
            sets[at].2 += 1;
        }
        signature(record).is_none() || sets[at].2 <= MAX_SIGNATURES
    });
}

/// Whether this machine has a route to the IPv6 Internet. Connecting a UDP socket sends no packet.
pub fn has_ipv6() -> bool {
    let somewhere = SocketAddr::new(IpAddr::from([0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30]), 53);
    UdpSocket::bind("[::]:0").and_then(|socket| socket.connect(somewhere)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_server::proto::rr::rdata::{A, NS};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// A response with AA, an A record of each name in `answer`, and a NS record of each in `authority`.
    fn authoritative(answer: &[&str], authority: &[&str]) -> Message {
        let mut message = Message::query();
        message.metadata.authoritative = true;
        message.add_answers(
            answer.iter().map(|owner| Record::from_rdata(name(owner), 60, RData::A(A::new(192, 0, 2, 1)))),
        );
        let servers =
            authority.iter().map(|owner| Record::from_rdata(name(owner), 60, RData::NS(NS(name("ns.test.")))));
        message.add_authorities(servers);
        message.into_response()
    }

    #[test]
    fn tells_answers_referrals_and_lame_responses_apart() {
        for (rtype, answer, authority, is_authoritative, expected) in [
            (RecordType::A, &["www.zone.test."][..], &[][..], true, Kind::Answer),
            (RecordType::A, &["other.zone.test."], &[], true, Kind::Lame),
            (RecordType::A, &[], &[], true, Kind::Answer),
            (RecordType::A, &[], &[], false, Kind::Doubtful),
            (RecordType::A, &[], &["zone.test."], false, Kind::Referral(2)),
            // No data, with the servers of the zone itself.
            (RecordType::A, &[], &["zone.test."], true, Kind::Answer),
            // A server of the zone has the records in the answer section.
            (RecordType::NS, &[], &["www.zone.test."], true, Kind::Referral(3)),
            (RecordType::NS, &[], &["zone.test."], true, Kind::Answer),
            (RecordType::A, &[], &["."], true, Kind::Lame),
            (RecordType::A, &[], &["."], false, Kind::Lame),
            (RecordType::A, &[], &["else.test."], false, Kind::Lame),
        ] {
            let mut message = authoritative(answer, authority);
            message.metadata.authoritative = is_authoritative;
            let query = Query::query(name("www.zone.test."), rtype);
            assert_eq!(kind(&message, &query), expected, "{rtype} {answer:?} {authority:?} {is_authoritative}");
        }
    }
}
