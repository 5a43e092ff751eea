//! The queries to upstream servers in wire format, and the checks of their responses.

use super::random;
use crate::{
    answer::known::Question,
    wire::{
        codes::{class, edns_flag, flag, option, rcode},
        query::{HEADER, child_hash, flags, root_hash, skip_name},
        rdata::rtype,
        reply::MAX_UDP_OCTETS,
    },
};
use std::fmt::Write;

/// The maximum length of a query, in octets: header, name, type and class, OPT record, padding.
pub const MAX_QUERY: usize = 512;
/// The length of queries on encrypted transports is a multiple of this, in octets (RFC 8467,
/// section 4.1).
const PADDING: usize = 128;
/// The minimum number of letters in a name whose case shows whether a server keeps case.
const MIN_LETTERS_FOR_CASE: usize = 4;
/// The minimum number of letters in a name whose random case is unlikely to be drawn twice.
const MIN_LETTERS_FOR_FINGERPRINT: usize = 8;

/// A question with its name in random case (0x20, draft-vixie-dnsext-dns0x20). A response must
/// repeat the case.
pub struct RandomisedQuestion {
    /// The name in lower case, followed by the name in random case.
    names: Box<[u8]>,
    letters: u8,
    qtype: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
    wants_ad: bool,
}

/// The format of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryFormat {
    /// The name is in random case.
    pub randomised: bool,
    /// The query has EDNS.
    pub edns: bool,
    /// The query has padding.
    pub padded: bool,
}

/// The way in which a message repeats a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// With the name in the case of the query.
    Exact,
    /// With the name in another case.
    Folded,
    /// The message is an error response without a question.
    Absent,
    /// The message is not a response to the question.
    Other,
}

impl RandomisedQuestion {
    /// Draws random case for a question. At least one letter becomes upper case.
    pub fn new(question: &Question) -> RandomisedQuestion {
        let wire = question.name.wire();
        let mut names: Box<[u8]> = [wire, wire].concat().into();
        let randomised = &mut names[wire.len()..];
        let (mut bits, mut letters, mut capitals, mut first) = (0, 0, 0, None);
        for (at, octet) in randomised.iter_mut().enumerate() {
            if at.is_multiple_of(64) {
                bits = random::octets().map_or(0, u64::from_ne_bytes);
            }
            // The length octets of labels are below the letters.
            if octet.is_ascii_lowercase() {
                letters += 1;
                first = first.or(Some(at));
                if bits >> (at % 64) & 1 != 0 {
                    octet.make_ascii_uppercase();
                    capitals += 1;
                }
            }
        }
        if let (0, Some(first)) = (capitals, first) {
            randomised[first].make_ascii_uppercase();
        }
        RandomisedQuestion {
            names,
            letters,
            qtype: question.qtype,
            dnssec_ok: question.dnssec_ok,
            checking_disabled: question.checking_disabled,
            wants_ad: false,
        }
    }

    /// With AD in the query, the server tells whether the answer is validated (RFC 6840, section
    /// 5.7).
    pub fn with_ad(self, wants_ad: bool) -> RandomisedQuestion {
        RandomisedQuestion { wants_ad, ..self }
    }

    /// The name in random case, or in lower case.
    pub fn name(&self, randomised: bool) -> &[u8] {
        let (lower, random) = self.names.split_at(self.names.len() / 2);
        if randomised { random } else { lower }
    }

    /// Whether the name has enough letters for a response to show that a server keeps case.
    pub fn shows_case(&self) -> bool {
        usize::from(self.letters) >= MIN_LETTERS_FOR_CASE
    }

    /// Whether the question is for DNSSEC records.
    pub fn dnssec_ok(&self) -> bool {
        self.dnssec_ok
    }

    /// The fingerprint of the name in random case and the type. None if the name has too few
    /// letters.
    pub fn fingerprint(&self) -> Option<u64> {
        (usize::from(self.letters) >= MIN_LETTERS_FOR_FINGERPRINT).then(|| fingerprint(self.name(true), self.qtype))
    }

    /// Writes the query, and returns its length.
    pub fn write(&self, query: &mut [u8; MAX_QUERY], id: u16, format: QueryFormat) -> usize {
        let cd = if self.checking_disabled { flag::CD } else { 0 };
        let ad = if self.wants_ad { flag::AD } else { 0 };
        let header = [id, flag::RD | cd | ad, 1, 0, 0, u16::from(format.edns)];
        for (at, number) in header.iter().enumerate() {
            query[2 * at..2 * at + 2].copy_from_slice(&number.to_be_bytes());
        }
        let name = self.name(format.randomised);
        let mut len = HEADER;
        let mut put = |octets: &[u8]| {
            query[len..len + octets.len()].copy_from_slice(octets);
            len += octets.len();
            len
        };
        put(name);
        put(&self.qtype.to_be_bytes());
        let mut end = put(&class::IN.to_be_bytes());
        if format.edns {
            put(&[0]);
            put(&rtype::OPT.to_be_bytes());
            put(&(MAX_UDP_OCTETS as u16).to_be_bytes());
            put(&[0, 0]);
            end = put(&if self.dnssec_ok { edns_flag::DO } else { 0 }.to_be_bytes());
            let padding = match format.padded {
                true => (end + 6).next_multiple_of(PADDING) - (end + 6),
                false => return put(&[0, 0]),
            };
            put(&(padding as u16 + 4).to_be_bytes());
            put(&option::PADDING.to_be_bytes());
            put(&(padding as u16).to_be_bytes());
            end = put(&[0; PADDING][..padding]);
        }
        end
    }

    /// Replaces the random case in a response by lower case: in the question, which names in
    /// records may point to, and in names that the server has copied from it.
    pub fn restore(&self, message: &mut [u8]) {
        let (lower, randomised) = (self.name(false), self.name(true));
        let Some(question) = message.get_mut(HEADER..HEADER + lower.len()) else { return };
        question.copy_from_slice(lower);
        let count = |at: usize| usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
        let records = count(6) + count(8) + count(10);
        let mut at = HEADER + lower.len() + 4;
        for _ in 0..records {
            restore_name(message, at, randomised);
            let Some(fixed) = skip_name(message, at) else { return };
            let Some(&[t1, t2, .., l1, l2]) = message.get(fixed..fixed + 10) else { return };
            at = fixed + 10 + usize::from(u16::from_be_bytes([l1, l2]));
            let Some((before, names)) = names_in(u16::from_be_bytes([t1, t2])) else { continue };
            let mut name_at = fixed + 10 + before;
            for _ in 0..names {
                if name_at >= at {
                    break;
                }
                restore_name(message, name_at, randomised);
                let Some(next) = skip_name(message, name_at) else { return };
                name_at = next;
            }
        }
    }

    /// The way in which a message repeats the question, whose name was sent in random case if
    /// `randomised`. The caller checks the ID.
    pub fn echo(&self, message: &[u8], randomised: bool) -> Echo {
        if message.len() < HEADER || flags(message) & flag::QR == 0 || flags(message) & flag::OPCODE != 0 {
            return Echo::Other;
        }
        let name = self.name(randomised);
        let (type_at, end) = (HEADER + name.len(), HEADER + name.len() + 4);
        match [message[4], message[5]] {
            [0, 1] => {}
            // Some servers send this when they cannot read the query.
            [0, 0] if !is_final(flags(message) & flag::RCODE) => return Echo::Absent,
            _ => return Echo::Other,
        }
        let ([t1, t2], [c1, c2]) = (self.qtype.to_be_bytes(), class::IN.to_be_bytes());
        if message.get(type_at..end) != Some(&[t1, t2, c1, c2]) {
            return Echo::Other;
        }
        match &message[HEADER..type_at] {
            echoed if echoed == name => Echo::Exact,
            echoed if echoed.eq_ignore_ascii_case(name) => Echo::Folded,
            _ => Echo::Other,
        }
    }
}

/// The names in the data of a type whose case has no meaning, also for signatures (RFC 4034,
/// section 6.2): the number of octets before them, and their number.
fn names_in(rtype: u16) -> Option<(usize, usize)> {
    match rtype {
        rtype::NS | rtype::CNAME | rtype::DNAME | rtype::PTR => Some((0, 1)),
        rtype::SOA => Some((0, 2)),
        rtype::MX => Some((2, 1)),
        rtype::SRV => Some((6, 1)),
        _ => None,
    }
}

/// Makes the labels at an offset lower case, if they are the end of the name in random case.
fn restore_name(message: &mut [u8], at: usize, randomised: &[u8]) {
    let mut end = at;
    while let Some(len @ 1..64) = message.get(end).copied() {
        end += 1 + usize::from(len);
    }
    let Some(labels) = message.get_mut(at..end).filter(|labels| !labels.is_empty()) else { return };
    let mut from = 0;
    while let Some(len @ 1..) = randomised.get(from).copied() {
        if randomised[from..].starts_with(labels) {
            labels.make_ascii_lowercase();
            return;
        }
        from += 1 + usize::from(len);
    }
}

/// Whether an RCODE is an answer, which another server would give too.
fn is_final(code: u16) -> bool {
    matches!(code, rcode::NOERROR | rcode::NXDOMAIN | rcode::YXDOMAIN)
}

/// A hash of a name in its case and a type. Never 0.
pub fn fingerprint(name: &[u8], qtype: u16) -> u64 {
    child_hash(root_hash() ^ u64::from(qtype), name).max(1)
}

/// The kind of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// Records, or a negative answer.
    Usable,
    /// The response is truncated.
    Truncated,
    /// An error: the RCODE, and the extended error (RFC 8914).
    Error(u16, Option<(u16, String)>),
    /// The message cannot be read.
    Garbage,
}

/// Classifies a response whose question is right. Record data is not checked.
pub fn classify_response(message: &[u8]) -> ResponseKind {
    if flags(message) & flag::TC != 0 {
        return ResponseKind::Truncated;
    }
    let mut code = flags(message) & flag::RCODE;
    let Some(options) = options(message) else {
        // Error responses may be malformed behind the header.
        return match code {
            code if is_final(code) => ResponseKind::Garbage,
            _ => ResponseKind::Error(code, None),
        };
    };
    if let Some((extended, _)) = options {
        code |= u16::from(extended) << 4;
    }
    match code {
        // YXDOMAIN comes with the DNAME that makes a name too long; without, it is an error.
        rcode::YXDOMAIN if message[6..8] == [0, 0] => ResponseKind::Error(code, None),
        code if is_final(code) => ResponseKind::Usable,
        _ => ResponseKind::Error(code, options.and_then(|(_, options)| extended_error(options))),
    }
}

/// An error response as a predicate whose subject is the server.
pub fn describe_error(code: u16, extended: Option<(u16, String)>) -> String {
    let known = rcode::MNEMONICS.iter().find(|(known, _)| *known == code);
    let mut text = known.map_or(format!("answered RCODE {code}"), |(_, mnemonic)| format!("answered {mnemonic}"));
    if let Some((code, why)) = extended {
        let _ = write!(text, " (EDE {code}{}{why})", if why.is_empty() { "" } else { ": " });
    }
    text
}

/// Walks over all records. None if the message is malformed; else the extended RCODE and the
/// options of the OPT record, if there is one.
fn options(message: &[u8]) -> Option<Option<(u8, &[u8])>> {
    let count = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let mut at = HEADER;
    for _ in 0..count(4) {
        at = skip_name(message, at)? + 4;
    }
    let mut found = None;
    for _ in 0..u32::from(count(6)) + u32::from(count(8)) + u32::from(count(10)) {
        let fixed = skip_name(message, at)?;
        let &[t1, t2, _, _, extended, _, _, _, l1, l2] = message.get(fixed..fixed + 10)? else { return None };
        at = fixed + 10 + usize::from(u16::from_be_bytes([l1, l2]));
        let data = message.get(fixed + 10..at)?;
        if u16::from_be_bytes([t1, t2]) == rtype::OPT {
            found = Some((extended, data));
        }
    }
    Some(found)
}

fn extended_error(mut options: &[u8]) -> Option<(u16, String)> {
    while let [c1, c2, l1, l2, rest @ ..] = options {
        let (data, next) = rest.split_at_checked(u16::from_be_bytes([*l1, *l2]).into())?;
        if let (option::EDE, [e1, e2, text @ ..]) = (u16::from_be_bytes([*c1, *c2]), data) {
            // The text goes into a response to a client: printable characters only, and not many.
            let text = String::from_utf8_lossy(text);
            let text = text.chars().filter(|char| !char.is_control()).take(80).collect();
            return Some((u16::from_be_bytes([*e1, *e2]), text));
        }
        options = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        codes::ede,
        query::{LookupName, Packet},
    };

    fn randomised(name: &[u8]) -> RandomisedQuestion {
        let name = LookupName::new(name).unwrap();
        RandomisedQuestion::new(&Question { name: &name, qtype: 28, dnssec_ok: true, checking_disabled: true })
    }

    const NAME: &[u8] = b"\x03www\x07example\x04corp\0";

    #[test]
    fn writes_queries_that_can_be_parsed() {
        let randomised = randomised(NAME);
        assert_ne!(randomised.name(true), NAME);
        assert!(randomised.name(true).eq_ignore_ascii_case(NAME));
        for (edns, padded) in [(false, false), (true, false), (true, true)] {
            for random in [false, true] {
                let mut query = [0; MAX_QUERY];
                let len = randomised.write(&mut query, 0x1234, QueryFormat { randomised: random, edns, padded });
                let mut name = LookupName::root();
                let Packet::Query(read) = Packet::read(&query[..len], &mut name) else { panic!() };
                assert_eq!((read.qtype, read.qclass, read.packet[..4].to_vec()), (28, 1, vec![0x12, 0x34, 1, 0x10]));
                assert_eq!(read.question[..NAME.len()], *randomised.name(random));
                assert_eq!(read.edns.map(|edns| (edns.udp_size, edns.dnssec_ok)), edns.then_some((1232, true)));
                assert_eq!(len.is_multiple_of(128), padded, "{len}");
            }
        }
    }

    #[test]
    fn restores_lower_case_everywhere_in_a_response() {
        let randomised = randomised(NAME);
        let random = randomised.name(true).to_vec();
        let record = |owner: &[u8], rtype: u8, data: &[u8]| {
            [owner, &[0, rtype, 0, 1, 0, 0, 0, 60, 0, data.len() as u8], data].concat()
        };
        let head = |name: &[u8]| {
            let counts = [0, 7, 0x81, 0x80, 0, 1, 0, 5, 0, 1, 0, 0];
            [&counts[..], name, &[0, 28, 0, 1]].concat()
        };
        let records = |name: &[u8]| {
            [
                // Owners as pointers and in full, and names in data: the whole name, and its end.
                record(b"\xc0\x0c", 5, b"\x05Other\xc0\x10"),
                record(name, 1, &[10, 0, 0, 1]),
                record(b"\xc0\x0c", 15, &[&[0, 10], name].concat()),
                record(b"\xc0\x0c", 33, &[&[0; 6], &name[4..]].concat()),
                // The data of other types is left as it is.
                record(b"\xc0\x0c", 16, b"\x03WwW"),
                record(&name[4..], 6, &[&name[4..], b"\x05Admin\xc0\x10", &[0; 20]].concat()),
            ]
            .concat()
        };
        let mut answer = [head(&random), records(&random)].concat();
        randomised.restore(&mut answer);
        assert_eq!(answer, [head(NAME), records(NAME)].concat());
        for len in 0..answer.len() {
            randomised.restore(&mut answer[..len]);
        }
    }

    #[test]
    fn the_longest_query_fits_into_its_buffer() {
        let name = [&[63; 64][..], &[63; 64], &[63; 64], &[61; 62], &[0]].concat();
        let mut query = [0; MAX_QUERY];
        let format = QueryFormat { randomised: true, edns: true, padded: true };
        assert_eq!(randomised(&name).write(&mut query, 0, format), 384);
    }

    #[test]
    fn compares_the_question_of_a_response() {
        let randomised = randomised(NAME);
        let mut query = [0; MAX_QUERY];
        let len = randomised.write(&mut query, 7, QueryFormat { randomised: true, edns: false, padded: false });
        let answer = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut answer = query[..len].to_vec();
            answer[2] |= 0x80;
            change(&mut answer);
            randomised.echo(&answer, true)
        };
        assert_eq!(answer(&|_| {}), Echo::Exact);
        assert_eq!(answer(&|answer| answer[12..].make_ascii_lowercase()), Echo::Folded);
        assert_eq!(answer(&|answer| answer[2] = 1), Echo::Other, "a query");
        assert_eq!(answer(&|answer| answer[2] |= 0x28), Echo::Other, "an update");
        assert_eq!(answer(&|answer| answer[14] = b'x'), Echo::Other, "another name");
        assert_eq!(answer(&|answer| answer[len - 3] = 1), Echo::Other, "another type");
        assert_eq!(answer(&|answer| answer[len - 1] = 3), Echo::Other, "another class");
        assert_eq!(answer(&|answer| answer[5] = 0), Echo::Other, "no question");
        assert_eq!(answer(&|answer| (answer[3], answer[5]) = (1, 0)), Echo::Absent);
        for cut in 0..len {
            assert_eq!(answer(&|answer| answer.truncate(cut)), Echo::Other);
        }
    }

    #[test]
    fn classifies_responses() {
        let answer = |flags: [u8; 2], tail: &[u8], count: u8| {
            let head = [0, 7, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, count];
            classify_response(&[&head[..], NAME, &[0, 28, 0, 1], tail].concat())
        };
        let opt = |extended, options: &[u8]| {
            [&[0, 0, 41, 4, 208, extended, 0, 0, 0, 0, options.len() as u8][..], options].concat()
        };
        assert_eq!(answer([0x81, 0x80], &[], 0), ResponseKind::Usable);
        assert_eq!(answer([0x81, 0x83], &opt(0, b""), 1), ResponseKind::Usable);
        assert_eq!(answer([0x83, 0x80], &[], 9), ResponseKind::Truncated);
        assert_eq!(answer([0x81, 0x86], &[], 0), ResponseKind::Error(rcode::YXDOMAIN, None));
        let dname = b"\0\x07\x84\x86\0\0\0\x01\0\0\0\0\x04corp\0\0\x27\0\x01\0\0\0\x3c\0\x01\0";
        assert_eq!(classify_response(dname), ResponseKind::Usable);
        assert_eq!(answer([0x81, 0x80], &opt(1, b""), 1), ResponseKind::Error(rcode::BADVERS, None));
        assert_eq!(answer([0x81, 0x80], &opt(0, b""), 2), ResponseKind::Garbage);
        assert_eq!(answer([0x81, 0x85], &[1, 2, 3], 2), ResponseKind::Error(rcode::REFUSED, None));
        let bogus = b"\0\x0f\0\x06\0\x06b\nad".to_vec();
        assert_eq!(answer([0x81, 0x82], &opt(0, &bogus[..9]), 1), ResponseKind::Error(rcode::SERVFAIL, None));
        assert_eq!(
            answer([0x81, 0x82], &opt(0, &bogus), 1),
            ResponseKind::Error(rcode::SERVFAIL, Some((ede::DNSSEC_BOGUS, "bad".into())))
        );
    }

    #[test]
    fn a_fingerprint_depends_on_case_and_type() {
        let one = randomised(NAME);
        assert_eq!(one.fingerprint(), Some(fingerprint(one.name(true), 28)));
        assert_ne!(one.fingerprint(), Some(fingerprint(NAME, 28)));
        assert_eq!(randomised(b"\x01a\x02bc\0").fingerprint(), None);
    }
}
