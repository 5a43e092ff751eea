//! The query that servers are sent, and what their answers have to be like.

use super::random;
use crate::{
    answer::known::Question,
    wire::{
        codes::{class, edns_flag, flag, option, rcode},
        query::{HEADER, child_hash, flags, root_hash, skip_name},
        rdata::rtype,
    },
};

/// The longest query, in octets: header, name, type and class, OPT, padding.
pub const MAX_QUERY: usize = 512;
/// The largest UDP answer that is asked for.
const UDP_SIZE: u16 = 1232;
/// Queries on encrypted transports are a multiple of this (RFC 8467, 4.1), in octets.
const PADDING: usize = 128;
/// In a name with fewer letters, case proves nothing.
const TELLING_LETTERS: usize = 4;
/// In a name with fewer letters, two random spellings are the same too often.
const UNIQUE_LETTERS: usize = 8;

/// A question in the spelling in which it is asked: letters are in random case (draft-vixie-dnsext-dns0x20), which an
/// answer has to repeat.
pub struct Spelt {
    /// The name in lower case, and behind it as it is spelt.
    names: Box<[u8]>,
    letters: u8,
    qtype: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
    wants_ad: bool,
}

/// How a query is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// In random case.
    pub spelt: bool,
    /// With EDNS.
    pub edns: bool,
    /// With padding.
    pub padded: bool,
}

/// What an answer makes of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// It is spelt as in the query.
    Exact,
    /// It is in another case.
    Folded,
    /// An error without a question.
    Absent,
    /// It is something else, or no answer at all.
    Other,
}

impl Spelt {
    /// Draws a spelling for a question.
    pub fn new(question: &Question) -> Spelt {
        let wire = question.name.wire();
        let mut names: Box<[u8]> = [wire, wire].concat().into();
        let spelt = &mut names[wire.len()..];
        let (mut bits, mut letters, mut capitals, mut first) = (0, 0, 0, None);
        for (at, octet) in spelt.iter_mut().enumerate() {
            if at.is_multiple_of(64) {
                bits = random::octets().map_or(0, u64::from_ne_bytes);
            }
            // The length octets of labels are no letters.
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
            spelt[first].make_ascii_uppercase();
        }
        Spelt {
            names,
            letters,
            qtype: question.qtype,
            dnssec_ok: question.dnssec_ok,
            checking_disabled: question.checking_disabled,
            wants_ad: false,
        }
    }

    /// With AD in the query, the server tells whether the answer is validated (RFC 6840, 5.7).
    pub fn with_ad(self, wants_ad: bool) -> Spelt {
        Spelt { wants_ad, ..self }
    }

    /// The name, in random case or in lower case.
    pub fn name(&self, spelt: bool) -> &[u8] {
        let (lower, random) = self.names.split_at(self.names.len() / 2);
        if spelt { random } else { lower }
    }

    /// Whether an answer in the same case shows that a server keeps it.
    pub fn is_telling(&self) -> bool {
        usize::from(self.letters) >= TELLING_LETTERS
    }

    /// Whether DNSSEC records are wanted.
    pub fn dnssec_ok(&self) -> bool {
        self.dnssec_ok
    }

    /// A number that only a query with this spelling and type has; none if the spelling is too common.
    pub fn mark(&self) -> Option<u64> {
        (usize::from(self.letters) >= UNIQUE_LETTERS).then(|| mark(self.name(true), self.qtype))
    }

    /// Writes the query; returns its length.
    pub fn write(&self, query: &mut [u8; MAX_QUERY], id: u16, look: Look) -> usize {
        let cd = if self.checking_disabled { flag::CD } else { 0 };
        let ad = if self.wants_ad { flag::AD } else { 0 };
        let header = [id, flag::RD | cd | ad, 1, 0, 0, u16::from(look.edns)];
        for (at, number) in header.iter().enumerate() {
            query[2 * at..2 * at + 2].copy_from_slice(&number.to_be_bytes());
        }
        let name = self.name(look.spelt);
        let mut len = HEADER;
        let mut put = |octets: &[u8]| {
            query[len..len + octets.len()].copy_from_slice(octets);
            len += octets.len();
            len
        };
        put(name);
        put(&self.qtype.to_be_bytes());
        let mut end = put(&class::IN.to_be_bytes());
        if look.edns {
            put(&[0]);
            put(&rtype::OPT.to_be_bytes());
            put(&UDP_SIZE.to_be_bytes());
            put(&[0, 0]);
            end = put(&if self.dnssec_ok { edns_flag::DO } else { 0 }.to_be_bytes());
            let padding = match look.padded {
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

    /// Makes the case in an answer what it would be without our spelling: that of the question, to which names in the
    /// records may point, and of names that the server has copied from it.
    pub fn restore(&self, message: &mut [u8]) {
        let (lower, spelt) = (self.name(false), self.name(true));
        let Some(question) = message.get_mut(HEADER..HEADER + lower.len()) else { return };
        question.copy_from_slice(lower);
        let count = |at: usize| usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
        let records = count(6) + count(8) + count(10);
        let mut at = HEADER + lower.len() + 4;
        for _ in 0..records {
            restore_name(message, at, spelt);
            let Some(fixed) = skip_name(message, at) else { return };
            let Some(&[t1, t2, .., l1, l2]) = message.get(fixed..fixed + 10) else { return };
            at = fixed + 10 + usize::from(u16::from_be_bytes([l1, l2]));
            let Some((before, names)) = names_in(u16::from_be_bytes([t1, t2])) else { continue };
            let mut name_at = fixed + 10 + before;
            for _ in 0..names {
                if name_at >= at {
                    break;
                }
                restore_name(message, name_at, spelt);
                let Some(next) = skip_name(message, name_at) else { return };
                name_at = next;
            }
        }
    }

    /// How an answer repeats the question that was asked in this case. The id is for others to check.
    pub fn echo(&self, message: &[u8], spelt: bool) -> Echo {
        if message.len() < HEADER || flags(message) & flag::QR == 0 || flags(message) & flag::OPCODE != 0 {
            return Echo::Other;
        }
        let name = self.name(spelt);
        let (type_at, end) = (HEADER + name.len(), HEADER + name.len() + 4);
        match [message[4], message[5]] {
            [0, 1] => {}
            // Some servers do so when they cannot read the query.
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

/// Where the data of a type has names that are the same in any case, for signatures too (RFC 4034, 6.2): behind how many
/// octets, and how many names.
fn names_in(rtype: u16) -> Option<(usize, usize)> {
    match rtype {
        rtype::NS | rtype::CNAME | rtype::DNAME | rtype::PTR => Some((0, 1)),
        rtype::SOA => Some((0, 2)),
        rtype::MX => Some((2, 1)),
        rtype::SRV => Some((6, 1)),
        _ => None,
    }
}

/// Makes labels lower case that stand at this place as they do in a spelling of ours.
fn restore_name(message: &mut [u8], at: usize, spelt: &[u8]) {
    let mut end = at;
    while let Some(len @ 1..64) = message.get(end).copied() {
        end += 1 + usize::from(len);
    }
    let Some(labels) = message.get_mut(at..end).filter(|labels| !labels.is_empty()) else { return };
    let mut from = 0;
    while let Some(len @ 1..) = spelt.get(from).copied() {
        if spelt[from..].starts_with(labels) {
            labels.make_ascii_lowercase();
            return;
        }
        from += 1 + usize::from(len);
    }
}

/// Whether another server would say the same.
fn is_final(code: u16) -> bool {
    matches!(code, rcode::NOERROR | rcode::NXDOMAIN | rcode::YXDOMAIN)
}

/// The number that a query with this spelling and type has.
pub fn mark(name: &[u8], qtype: u16) -> u64 {
    child_hash(root_hash() ^ u64::from(qtype), name).max(1)
}

/// What an answer amounts to.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// Records, or that there are none.
    Usable,
    /// There is more than fits.
    Truncated,
    /// An error: the RCODE, and an extended error (RFC 8914).
    Error(u16, Option<(u16, String)>),
    /// Nothing that can be read.
    Garbage,
}

/// Looks through an answer whose question is right. Record data is not looked into.
pub fn said(message: &[u8]) -> Said {
    if flags(message) & flag::TC != 0 {
        return Said::Truncated;
    }
    let mut code = flags(message) & flag::RCODE;
    let Some(options) = options(message) else {
        // Errors may be sloppy.
        return match code {
            code if is_final(code) => Said::Garbage,
            _ => Said::Error(code, None),
        };
    };
    if let Some((extended, _)) = options {
        code |= u16::from(extended) << 4;
    }
    match code {
        // With the DNAME that makes a name too long; without, it says nothing.
        rcode::YXDOMAIN if message[6..8] == [0, 0] => Said::Error(code, None),
        code if is_final(code) => Said::Usable,
        _ => Said::Error(code, options.and_then(|(_, options)| extended_error(options))),
    }
}

/// Walks over all records: none if they do not fit; else the extended RCODE and the options of the OPT record, if there
/// is one.
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
            // It goes on into an answer of ours: printable, and not long.
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

    fn spelt(name: &[u8]) -> Spelt {
        let name = LookupName::new(name).unwrap();
        Spelt::new(&Question { name: &name, qtype: 28, dnssec_ok: true, checking_disabled: true })
    }

    const NAME: &[u8] = b"\x03www\x07example\x04corp\0";

    #[test]
    fn a_query_can_be_read() {
        let spelt = spelt(NAME);
        assert_ne!(spelt.name(true), NAME);
        assert!(spelt.name(true).eq_ignore_ascii_case(NAME));
        for (edns, padded) in [(false, false), (true, false), (true, true)] {
            for random in [false, true] {
                let mut query = [0; MAX_QUERY];
                let len = spelt.write(&mut query, 0x1234, Look { spelt: random, edns, padded });
                let mut name = LookupName::root();
                let Packet::Query(read) = Packet::read(&query[..len], &mut name) else { panic!() };
                assert_eq!((read.qtype, read.qclass, read.packet[..4].to_vec()), (28, 1, vec![0x12, 0x34, 1, 0x10]));
                assert_eq!(read.question[..NAME.len()], *spelt.name(random));
                assert_eq!(read.edns.map(|edns| (edns.udp_size, edns.dnssec_ok)), edns.then_some((1232, true)));
                assert_eq!(len.is_multiple_of(128), padded, "{len}");
            }
        }
    }

    #[test]
    fn our_spelling_is_left_nowhere_in_an_answer() {
        let spelt = spelt(NAME);
        let random = spelt.name(true).to_vec();
        let record = |owner: &[u8], rtype: u8, data: &[u8]| {
            [owner, &[0, rtype, 0, 1, 0, 0, 0, 60, 0, data.len() as u8], data].concat()
        };
        let head = |name: &[u8]| {
            let counts = [0, 7, 0x81, 0x80, 0, 1, 0, 5, 0, 1, 0, 0];
            [&counts[..], name, &[0, 28, 0, 1]].concat()
        };
        let records = |name: &[u8]| {
            [
                // Pointers to the question, the owner in full, and names in data: all of the name, and its end.
                record(b"\xc0\x0c", 5, b"\x05Other\xc0\x10"),
                record(name, 1, &[10, 0, 0, 1]),
                record(b"\xc0\x0c", 15, &[&[0, 10], name].concat()),
                record(b"\xc0\x0c", 33, &[&[0; 6], &name[4..]].concat()),
                // A text is what it is.
                record(b"\xc0\x0c", 16, b"\x03WwW"),
                record(&name[4..], 6, &[&name[4..], b"\x05Admin\xc0\x10", &[0; 20]].concat()),
            ]
            .concat()
        };
        let mut answer = [head(&random), records(&random)].concat();
        spelt.restore(&mut answer);
        assert_eq!(answer, [head(NAME), records(NAME)].concat());
        for len in 0..answer.len() {
            spelt.restore(&mut answer[..len]);
        }
    }

    #[test]
    fn the_longest_query_fits() {
        let name = [&[63; 64][..], &[63; 64], &[63; 64], &[61; 62], &[0]].concat();
        let mut query = [0; MAX_QUERY];
        let look = Look { spelt: true, edns: true, padded: true };
        assert_eq!(spelt(&name).write(&mut query, 0, look), 384);
    }

    #[test]
    fn answers_have_to_repeat_the_question() {
        let spelt = spelt(NAME);
        let mut query = [0; MAX_QUERY];
        let len = spelt.write(&mut query, 7, Look { spelt: true, edns: false, padded: false });
        let answer = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut answer = query[..len].to_vec();
            answer[2] |= 0x80;
            change(&mut answer);
            spelt.echo(&answer, true)
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
    fn answers_are_looked_through() {
        let answer = |flags: [u8; 2], tail: &[u8], count: u8| {
            let head = [0, 7, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, count];
            said(&[&head[..], NAME, &[0, 28, 0, 1], tail].concat())
        };
        let opt = |extended, options: &[u8]| {
            [&[0, 0, 41, 4, 208, extended, 0, 0, 0, 0, options.len() as u8][..], options].concat()
        };
        assert_eq!(answer([0x81, 0x80], &[], 0), Said::Usable);
        assert_eq!(answer([0x81, 0x83], &opt(0, b""), 1), Said::Usable);
        assert_eq!(answer([0x83, 0x80], &[], 9), Said::Truncated);
        assert_eq!(answer([0x81, 0x86], &[], 0), Said::Error(rcode::YXDOMAIN, None));
        let dname = b"\0\x07\x84\x86\0\0\0\x01\0\0\0\0\x04corp\0\0\x27\0\x01\0\0\0\x3c\0\x01\0";
        assert_eq!(said(dname), Said::Usable);
        assert_eq!(answer([0x81, 0x80], &opt(1, b""), 1), Said::Error(rcode::BADVERS, None));
        assert_eq!(answer([0x81, 0x80], &opt(0, b""), 2), Said::Garbage);
        assert_eq!(answer([0x81, 0x85], &[1, 2, 3], 2), Said::Error(rcode::REFUSED, None));
        let bogus = b"\0\x0f\0\x06\0\x06b\nad".to_vec();
        assert_eq!(answer([0x81, 0x82], &opt(0, &bogus[..9]), 1), Said::Error(rcode::SERVFAIL, None));
        assert_eq!(
            answer([0x81, 0x82], &opt(0, &bogus), 1),
            Said::Error(rcode::SERVFAIL, Some((ede::DNSSEC_BOGUS, "bad".into())))
        );
    }

    #[test]
    fn a_spelling_is_known_again() {
        let one = spelt(NAME);
        assert_eq!(one.mark(), Some(mark(one.name(true), 28)));
        assert_ne!(one.mark(), Some(mark(NAME, 28)));
        assert_eq!(spelt(b"\x01a\x02bc\0").mark(), None);
    }
}
