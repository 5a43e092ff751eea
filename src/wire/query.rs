//! Reading a query: header, question and EDNS. Reading copies the name only and allocates nothing.
//!
//! [`LookupName`] is the name in the form that all maps of a snapshot are searched with: each of
//! its suffixes has a hash.

use super::{
    codes::{class, edns_flag, flag, option, pointer},
    name::{MAX_LABEL, MAX_NAME, wire_len},
    rdata::rtype,
};
use std::sync::LazyLock;

/// The length of a DNS message's header, in octets.
pub const HEADER: usize = 12;

/// The seed of all name hashes of this process. It is random, so that nobody outside can choose
/// names that collide.
static SEED: LazyLock<u64> = LazyLock::new(|| getrandom::u64().unwrap_or(0x5bd1_e995_9d1b_58d3));

/// The hash of the root. The hash of every other name is computed from it, label by label.
pub fn root_hash() -> u64 {
    *SEED
}

/// The hash of the name that consists of `label` (in lower case) and the parent whose hash is
/// `parent`.
#[inline]
pub fn child_hash(parent: u64, label: &[u8]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let mut hash = parent ^ label.len() as u64;
    let mut chunks = label.chunks_exact(8);
    for chunk in &mut chunks {
        hash = fold(hash ^ u64::from_le_bytes(chunk.try_into().unwrap_or_default()), 0xa076_1d64_78bd_642f);
    }
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    fold(hash ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db)
}

/// The hash of a wire-format name in lower case.
pub fn name_hash(wire: &[u8]) -> u64 {
    LookupName::new(wire).map_or_else(root_hash, |name| name.hash(0))
}

/// A name that is prepared for lookups: in lower case, with the offset and the hash of each of its
/// suffixes.
#[derive(Clone)]
pub struct LookupName {
    wire: [u8; MAX_NAME + 1],
    len: u8,
    labels: u8,
    starts: [u8; 128],
    hashes: [u64; 128],
}

impl LookupName {
    /// The root. [`fill`](LookupName::fill) replaces it by another name.
    #[inline]
    pub fn root() -> LookupName {
        let mut name = LookupName { wire: [0; MAX_NAME + 1], len: 1, labels: 0, starts: [0; 128], hashes: [0; 128] };
        name.hashes[0] = root_hash();
        name
    }

    /// Reads the uncompressed name at the start of `bytes`. None if there is no valid name.
    pub fn new(bytes: &[u8]) -> Option<LookupName> {
        let mut name = LookupName::root();
        name.fill(bytes).then_some(name)
    }

    /// Replaces this name by the uncompressed name at the start of `bytes`. False, and the root, if
    /// there is no valid name. It is quick if this is the name already.
    #[inline]
    pub fn fill(&mut self, bytes: &[u8]) -> bool {
        if bytes.starts_with(self.wire()) {
            return true;
        }
        let mut at = 0;
        let mut labels = 0;
        loop {
            let Some(&len) = bytes.get(at) else { return self.fail() };
            if len == 0 {
                break;
            }
            if len as usize > MAX_LABEL || at + len as usize + 1 >= MAX_NAME {
                return self.fail();
            }
            self.starts[labels] = at as u8;
            labels += 1;
            at += len as usize + 1;
        }
        self.starts[labels] = at as u8;
        self.labels = labels as u8;
        self.len = at as u8 + 1;
        self.wire[..=at].copy_from_slice(&bytes[..=at]);
        self.wire[..=at].make_ascii_lowercase(); // length octets are below `A`
        let mut hash = root_hash();
        self.hashes[labels] = hash;
        for label in (0..labels).rev() {
            let (from, to) = (self.starts[label] as usize + 1, self.starts[label + 1] as usize);
            hash = child_hash(hash, &self.wire[from..to]);
            self.hashes[label] = hash;
        }
        true
    }

    #[cold]
    fn fail(&mut self) -> bool {
        *self = LookupName::root();
        false
    }

    /// The whole name in lower case.
    #[inline]
    pub fn wire(&self) -> &[u8] {
        &self.wire[..self.len as usize]
    }

    /// The number of labels, without the root.
    #[inline]
    pub fn labels(&self) -> usize {
        self.labels as usize
    }

    /// The offset of the suffix that remains without the first `skip` labels.
    #[inline]
    pub fn start(&self, skip: usize) -> usize {
        self.starts[skip] as usize
    }

    /// The suffix that remains without the first `skip` labels.
    #[inline]
    pub fn suffix(&self, skip: usize) -> &[u8] {
        &self.wire[self.start(skip)..self.len as usize]
    }

    /// The hash of the suffix that remains without the first `skip` labels.
    #[inline]
    pub fn hash(&self, skip: usize) -> u64 {
        self.hashes[skip]
    }

    /// The label with this index, counted from the left, from 0.
    pub fn label(&self, index: usize) -> &[u8] {
        &self.wire[self.start(index) + 1..self.start(index + 1)]
    }
}

/// The contents of a query's OPT record (EDNS, RFC 6891).
#[derive(Clone, Copy, Default)]
pub struct Edns<'a> {
    /// The largest UDP message that the client accepts, in octets.
    pub udp_size: u16,
    /// The EDNS version. zonal implements version 0.
    pub version: u8,
    /// The DO flag: the client accepts DNSSEC records.
    pub dnssec_ok: bool,
    /// The cookie option: a client cookie of 8 octets, and a server cookie of 8 to 32 octets or
    /// none (RFC 7873, section 4).
    pub cookie: Option<&'a [u8]>,
    /// The data of the client subnet option, unchecked: [`subnet::read`](super::subnet::read)
    /// checks it. Empty, which is malformed, if the query has the option more than once.
    pub client_subnet: Option<&'a [u8]>,
    /// Whether the client asks for the name server's identifier (RFC 5001).
    pub nsid: bool,
    /// Whether the client sent the edns-tcp-keepalive option (RFC 7828).
    pub keepalive: bool,
}

/// A query that can be answered.
pub struct Query<'a> {
    /// The whole packet.
    pub packet: &'a [u8],
    /// The octets of the question section.
    pub question: &'a [u8],
    /// The queried name.
    pub name: &'a mut LookupName,
    /// The queried type.
    pub qtype: u16,
    /// The queried class.
    pub qclass: u16,
    /// The OPT record, if the query has one.
    pub edns: Option<Edns<'a>>,
}

/// A packet, sorted by how it is answered.
pub enum Packet<'a> {
    /// A query.
    Query(Query<'a>),
    /// No question, but a cookie: the client asks for a server cookie (RFC 7873, section 5.4).
    CookieOnly(Edns<'a>),
    /// Not answered: the packet is shorter than a header, or it is a response.
    Ignore,
    /// The operation is not QUERY. The OPT record is included if it is readable.
    NotImplemented(Option<Edns<'a>>),
    /// A query with a TSIG record (RFC 8945). Its content does not count before the signature is
    /// verified.
    Signed {
        /// The octets of the question section.
        question: &'a [u8],
        /// The OPT record, if the query has one.
        edns: Option<Edns<'a>>,
    },
    /// A malformed query.
    Malformed {
        /// The octets of the question section; empty if that is malformed too.
        question: &'a [u8],
        /// The OPT record, if it is readable.
        edns: Option<Edns<'a>>,
    },
}

/// The header's flags. Panics if the packet is shorter than 4 octets.
#[inline]
pub fn flags(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

impl<'a> Packet<'a> {
    /// Reads a packet. The queried name is written to `name`, which the caller reuses: it is large,
    /// and is not moved.
    #[inline]
    pub fn read(packet: &'a [u8], name: &'a mut LookupName) -> Packet<'a> {
        if packet.len() < HEADER || flags(packet) & flag::QR != 0 {
            return Packet::Ignore;
        }
        if flags(packet) & flag::OPCODE != 0 {
            return Packet::NotImplemented(edns_of(packet));
        }
        let count = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let (questions, answers, authorities, additionals) = (count(4), count(6), count(8), count(10));
        let malformed = |question| Packet::Malformed { question, edns: edns_of(packet) };
        match questions {
            1 => {}
            0 if answers == 0 && authorities == 0 => {
                return match read_additional(packet, HEADER, additionals) {
                    Ok((Some(edns), false)) if edns.cookie.is_some() => Packet::CookieOnly(edns),
                    _ => malformed(&[]),
                };
            }
            _ => return malformed(&[]),
        }
        if !name.fill(&packet[HEADER..]) {
            return malformed(&[]);
        }
        let type_at = HEADER + name.wire().len();
        let Some(&[t1, t2, c1, c2]) = packet.get(type_at..type_at + 4) else { return malformed(&[]) };
        let (qtype, qclass) = (u16::from_be_bytes([t1, t2]), u16::from_be_bytes([c1, c2]));
        let question = &packet[HEADER..type_at + 4];
        // An IXFR query has the client's SOA record in its authority section (RFC 1995, section 3).
        // No other query has records there.
        let mut rest = type_at + 4;
        if answers != 0 || authorities != 0 {
            let is_ixfr = qtype == rtype::IXFR && answers == 0 && authorities == 1;
            match skip_record(packet, rest) {
                Some(next) if is_ixfr && type_of(packet, rest) == Some(rtype::SOA) => rest = next,
                _ => return malformed(question),
            }
        }
        match read_additional(packet, rest, additionals) {
            Ok((edns, false)) => Packet::Query(Query { packet, question, name, qtype, qclass, edns }),
            Ok((edns, true)) => Packet::Signed { question, edns },
            Err(()) => malformed(question),
        }
    }
}

/// The OPT record of a message that may be malformed elsewhere: its reply needs an OPT record too
/// (RFC 6891, section 6.1.1). None if there is no readable OPT record.
#[cold]
pub fn edns_of(packet: &[u8]) -> Option<Edns<'_>> {
    let count = |at: usize| packet.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut at = HEADER;
    for _ in 0..count(4)? {
        at = skip_name(packet, at)? + 4;
    }
    for _ in 0..u32::from(count(6)?) + u32::from(count(8)?) {
        at = skip_record(packet, at)?;
    }
    for _ in 0..count(10)? {
        let (fixed, end) = (skip_name(packet, at)?, skip_record(packet, at)?);
        if packet[at] == 0 && packet[fixed..fixed + 2] == rtype::OPT.to_be_bytes() {
            return read_opt(&packet[fixed + 2..end]).ok();
        }
        at = end;
    }
    None
}

fn type_of(packet: &[u8], at: usize) -> Option<u16> {
    let fixed = skip_name(packet, at)?;
    packet.get(fixed..fixed + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// The offset behind the name at `at`, which may be compressed. None if the name is malformed.
/// Pointers are not followed.
pub fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            len if len as usize <= MAX_LABEL => at += 1 + len as usize,
            len if pointer::begins_with(len) => return Some(at + 2),
            _ => return None,
        }
    }
}

fn skip_record(packet: &[u8], at: usize) -> Option<usize> {
    let at = skip_name(packet, at)?;
    let length = packet.get(at + 8..at + 10)?;
    let end = at + 10 + u16::from_be_bytes([length[0], length[1]]) as usize;
    (end <= packet.len()).then_some(end)
}

/// Reads the additional section, which must end where the packet ends. Returns its OPT record, and
/// whether its last record is a TSIG record. Two OPT records, or a TSIG record in another position,
/// are an error.
#[inline]
fn read_additional(packet: &[u8], mut at: usize, count: u16) -> Result<(Option<Edns<'_>>, bool), ()> {
    let (mut edns, mut is_signed) = (None, false);
    for left in (0..count).rev() {
        let end = skip_record(packet, at).ok_or(())?;
        let fixed = skip_name(packet, at).ok_or(())?;
        match u16::from_be_bytes([packet[fixed], packet[fixed + 1]]) {
            rtype::OPT if edns.is_some() || packet[at] != 0 => return Err(()), // RFC 6891, 6.1.1
            rtype::OPT => edns = Some(read_opt(&packet[fixed + 2..end])?),
            rtype::TSIG if left > 0 || !is_signature(&packet[fixed + 2..end]) => return Err(()), // RFC 8945, 5.1
            rtype::TSIG => is_signed = true,
            _ => {}
        }
        at = end;
    }
    if at == packet.len() { Ok((edns, is_signed)) } else { Err(()) }
}

/// Whether a TSIG record is well-formed, from its CLASS on (RFC 8945, section 4.2).
#[cold]
fn is_signature(record: &[u8]) -> bool {
    let Some((&[c1, c2, 0, 0, 0, 0, _, _], data)) = record.split_first_chunk() else { return false };
    if u16::from_be_bytes([c1, c2]) != class::ANY {
        return false;
    }
    // The fields behind the algorithm name: time signed (6 octets), fudge (2), MAC size (2) and
    // MAC, original ID (2), error (2), other length (2) and other data.
    let field = |at: usize| data.get(at..at + 2).map(|pair| usize::from(pair[0]) << 8 | usize::from(pair[1]));
    let end = || {
        let algorithm = wire_len(data)?;
        let other = algorithm + 10 + field(algorithm + 8)? + 4;
        Some(other + 2 + field(other)?)
    };
    end() == Some(data.len())
}

/// Reads an OPT record from its CLASS on.
fn read_opt(record: &[u8]) -> Result<Edns<'_>, ()> {
    let mut edns = Edns {
        udp_size: u16::from_be_bytes([record[0], record[1]]),
        version: record[3],
        dnssec_ok: u16::from_be_bytes([record[4], record[5]]) & edns_flag::DO != 0,
        ..Edns::default()
    };
    let mut rest = &record[8..];
    while let [c1, c2, l1, l2, tail @ ..] = rest {
        let length = u16::from_be_bytes([*l1, *l2]) as usize;
        if tail.len() < length {
            return Err(());
        }
        let (data, next) = tail.split_at(length);
        match u16::from_be_bytes([*c1, *c2]) {
            option::NSID => edns.nsid = true,
            option::TCP_KEEPALIVE => edns.keepalive = true,
            option::CLIENT_SUBNET => edns.client_subnet = Some(if edns.client_subnet.is_some() { &[] } else { data }),
            // Other lengths are a format error (RFC 7873, section 5.2.2). Of several cookies the
            // first one counts (section 5).
            option::COOKIE if edns.version == 0 && edns.cookie.is_none() => match length {
                8 | 16..=40 => edns.cookie = Some(data),
                _ => return Err(()),
            },
            _ => {}
        }
        rest = next;
    }
    if rest.is_empty() { Ok(edns) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(tail: &[u8], counts: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0, 7, 1, 0, 0, counts[0], 0, counts[1], 0, counts[2], 0, counts[3]];
        packet.extend_from_slice(b"\x03WwW\x07example\x00\x00\x01\x00\x01");
        packet.extend_from_slice(tail);
        packet
    }

    #[test]
    fn reads_question_and_edns_of_a_query() {
        let packet = query(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x04\x00\x03\x00\x00", [1, 0, 0, 1]);
        let mut name = LookupName::root();
        let Packet::Query(query) = Packet::read(&packet, &mut name) else { panic!() };
        assert_eq!(query.name.wire(), b"\x03www\x07example\x00");
        assert_eq!((query.qtype, query.qclass, query.name.labels()), (1, 1, 2));
        assert_eq!(query.name.suffix(1), b"\x07example\x00");
        assert_eq!(query.name.hash(1), name_hash(b"\x07example\x00"));
        assert_eq!(query.name.hash(2), root_hash());
        let edns = query.edns.unwrap();
        assert!(edns.nsid && edns.dnssec_ok && edns.udp_size == 4096 && edns.cookie.is_none());
    }

    #[test]
    fn a_name_is_filled_like_a_new_one_whatever_it_was_before() {
        let names: [&[u8]; 7] =
            [b"\x01a\x02bc\0", b"\x01a\x02bc\0\0\x01", b"\x01A\x02bC\0", b"\x01a\0", b"\0", b"\x01a\x02b", b""];
        let parts = |name: &LookupName| {
            let suffixes: Vec<_> =
                (0..=name.labels()).map(|skip| (name.suffix(skip).to_vec(), name.hash(skip))).collect();
            (name.wire().to_vec(), suffixes)
        };
        for before in names {
            for bytes in names {
                let mut name = LookupName::new(before).unwrap_or_else(LookupName::root);
                let is_valid = name.fill(bytes);
                assert_eq!(is_valid, LookupName::new(bytes).is_some(), "{bytes:?}");
                assert_eq!(parts(&name), parts(&LookupName::new(bytes).unwrap_or_else(LookupName::root)), "{bytes:?}");
            }
        }
    }

    #[test]
    fn uses_the_first_of_several_cookies() {
        let options = b"\x00\x0a\x00\x08first---\x00\x0a\x00\x08second--\x00\x0a\x00\x01x";
        let opt = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00";
        let packet = query(&[&opt[..], &[options.len() as u8], options].concat(), [1, 0, 0, 1]);
        let mut name = LookupName::root();
        let Packet::Query(query) = Packet::read(&packet, &mut name) else { panic!() };
        assert_eq!(query.edns.unwrap().cookie, Some(&b"first---"[..]));
    }

    #[test]
    fn sorts_packets_by_how_they_are_answered() {
        for (packet, what) in [
            (query(b"", [1, 0, 0, 0])[..11].to_vec(), "ignore"),
            (query(b"", [2, 0, 0, 0]), "malformed"),
            (query(b"", [0, 0, 0, 0]), "malformed"),
            (query(b"x", [1, 0, 0, 0]), "malformed"),
            (query(b"", [1, 0, 0, 1]), "malformed"),
            (query(b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x05\x00\x03\x00\x00\x00", [1, 0, 0, 1]), "malformed"),
            (query(b"\x01a\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00", [1, 0, 0, 1]), "malformed"),
            (b"\0\0\0\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01".to_vec(), "malformed"),
            (b"\0\0\x80\0\0\x01\0\0\0\0\0\0\0\0\x01\0\x01".to_vec(), "ignore"),
            (b"\0\0\x28\0\0\x01\0\0\0\0\0\0\0\0\x01\0\x01".to_vec(), "not implemented"),
        ] {
            let is = match Packet::read(&packet, &mut LookupName::root()) {
                Packet::Query(_) => "query",
                Packet::CookieOnly(_) => "cookie",
                Packet::Ignore => "ignore",
                Packet::NotImplemented(_) => "not implemented",
                Packet::Signed { .. } => "signed",
                Packet::Malformed { .. } => "malformed",
            };
            assert_eq!(is, what, "{packet:?}");
        }
    }

    #[test]
    fn accepts_names_of_at_most_255_octets() {
        let mut wire = b"\x3f".to_vec();
        for length in [63, 63, 63] {
            wire.extend(std::iter::repeat_n(b'a', length));
            wire.push(if wire.len() < 190 { 63 } else { 61 });
        }
        wire.extend(std::iter::repeat_n(b'a', 61));
        wire.push(0);
        assert_eq!(wire.len(), 255);
        assert!(LookupName::new(&wire).is_some());
        wire[192] = 62;
        wire.insert(200, b'a');
        assert!(LookupName::new(&wire).is_none());
        let many = [&b"\x01a".repeat(127)[..], b"\x00"].concat();
        assert_eq!(LookupName::new(&many).unwrap().labels(), 127);
    }
}
