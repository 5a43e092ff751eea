//! Messages about zones as a whole: requests for transfers and updates, and their answers.

use crate::wire::{
    Name,
    codes::{class, ede, flag, opcode, option, pointer, rcode},
    query::{HEADER, edns_of, flags, skip_name},
    rdata::{self, rtype},
    reply::MAX_UDP_OCTETS,
    response::{Record, read_name, read_record},
};
use std::collections::HashMap;

/// The maximum length of a message, in octets.
const MAX_MESSAGE_OCTETS: usize = u16::MAX as usize;
/// The index of the additional section among the sections after the question. OPT and TSIG records
/// are there only.
const ADDITIONAL: usize = 2;
/// The length of an OPT record without options, in octets.
const OPT_OCTETS: usize = 11;

/// Whether a packet that was refused may be about a zone as a whole: a transfer, an update, a
/// notification, or the query of a secondary for the SOA record.
pub fn is_of_zone(packet: &[u8]) -> bool {
    if packet.len() < HEADER || flags(packet) & flag::QR != 0 {
        return false;
    }
    match opcode::of_flags(flags(packet)) {
        opcode::UPDATE | opcode::NOTIFY => true,
        opcode::QUERY => {
            let qtype = skip_name(packet, HEADER).and_then(|at| packet.get(at..)?.first_chunk());
            let qtype = qtype.map(|octets| u16::from_be_bytes(*octets));
            packet[4..6] == [0, 1] && matches!(qtype, Some(rtype::SOA | rtype::IXFR | rtype::AXFR))
        }
        _ => false,
    }
}

/// Whether a packet that was refused may be a signed request. Its reply has to be signed, too.
pub fn is_signed(packet: &[u8]) -> bool {
    let number = |at: usize| packet.get(at..at + 2).map_or(0, |pair| usize::from(pair[0]) << 8 | usize::from(pair[1]));
    let records = number(6) + number(8) + number(10);
    let last = || {
        let mut at = HEADER;
        for _ in 0..number(4) {
            at = skip_name(packet, at)? + 4;
        }
        for _ in 1..records {
            let fixed = skip_name(packet, at)?;
            at = fixed + 10 + number(fixed + 8);
        }
        skip_name(packet, at)
    };
    packet.len() >= HEADER
        && number(10) > 0
        && flags(packet) & flag::QR == 0
        && last().is_some_and(|fixed| number(fixed) == usize::from(rtype::TSIG))
}

/// Whether a packet that was answered with this RCODE may be a request for this room.
pub fn may_concern(rcode: u16, packet: &[u8]) -> bool {
    match rcode {
        rcode::REFUSED | rcode::NOTIMP => is_of_zone(packet),
        rcode::NOTAUTH => is_signed(packet),
        _ => false,
    }
}

/// A request about a zone.
#[derive(Clone, Debug)]
pub struct Request {
    id: [u8; 2],
    flags: u16,
    /// The opcode.
    pub opcode: u8,
    /// The zone.
    pub zone: Name,
    /// The type in the question; in an update, the type in the zone section.
    pub qtype: u16,
    /// The class in the question.
    pub qclass: u16,
    /// The octets of the question.
    question: Vec<u8>,
    /// The sections after the question. The additional section is without OPT and TSIG records.
    pub sections: [Vec<Record>; 3],
    has_edns: bool,
}

impl Request {
    /// Reads a message with one question; none if it is malformed.
    pub fn read(packet: &[u8]) -> Option<Request> {
        let number = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
        let counts = [number(6)?, number(8)?, number(10)?];
        if number(4)? != 1 {
            return None;
        }
        let mut name = Vec::new();
        let end = read_name(packet, HEADER, &mut name)?;
        let (qtype, qclass) = (number(end)?, number(end + 2)?);
        let mut request = Request {
            id: [packet[0], packet[1]],
            flags: flags(packet),
            opcode: opcode::of_flags(flags(packet)),
            zone: Name::from_wire(&name).ok()?,
            qtype,
            qclass,
            question: [&name, packet.get(end..end + 4)?].concat(),
            sections: Default::default(),
            has_edns: false,
        };
        let mut at = end + 4;
        for (section, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                let (record, next) = record(packet, at)?;
                at = next;
                match (section, record.rtype) {
                    (ADDITIONAL, rtype::OPT) => request.has_edns = true,
                    (ADDITIONAL, rtype::TSIG) => {}
                    _ => request.sections[section].push(record),
                }
            }
        }
        (at == packet.len()).then_some(request)
    }

    /// A reply without records. A client with EDNS gets the text as an extended error (RFC 8914).
    pub fn error(&self, rcode: u16, ede: Option<&str>) -> Vec<u8> {
        self.with_opt(Writer::new(self, 0, true).finish(rcode), ede)
    }

    /// A truncated reply: the whole answer is too long for UDP.
    pub fn truncated(&self) -> Vec<u8> {
        let mut reply = self.error(0, None);
        let bits = flags(&reply) | flag::TC;
        reply[2..4].copy_from_slice(&bits.to_be_bytes());
        reply
    }

    /// Adds an OPT record to a reply, if the request has one.
    fn with_opt(&self, reply: Vec<u8>, ede: Option<&str>) -> Vec<u8> {
        if self.has_edns { with_opt(reply, ede) } else { reply }
    }

    /// The reply to a message that cannot be read.
    pub fn malformed(packet: &[u8], rcode: u16) -> Vec<u8> {
        let bits = flag::QR | flags(packet) & flag::OPCODE | rcode;
        let reply = [&packet[..2], &bits.to_be_bytes(), &[0; 8]].concat();
        if edns_of(packet).is_some() { with_opt(reply, None) } else { reply }
    }
}

/// Adds an OPT record to a reply, with an extended error if there is a text.
pub fn with_opt(mut reply: Vec<u8>, ede: Option<&str>) -> Vec<u8> {
    let mut options = Vec::new();
    if let Some(text) = ede {
        options.extend_from_slice(&option::EDE.to_be_bytes());
        options.extend_from_slice(&(2 + text.len() as u16).to_be_bytes());
        options.extend_from_slice(&ede::PROHIBITED.to_be_bytes());
        options.extend_from_slice(text.as_bytes());
    }
    let ([t1, t2], [high, low]) = (rtype::OPT.to_be_bytes(), (MAX_UDP_OCTETS as u16).to_be_bytes());
    reply.extend_from_slice(&[0, t1, t2, high, low, 0, 0, 0, 0]);
    reply.extend_from_slice(&(options.len() as u16).to_be_bytes());
    reply.extend_from_slice(&options);
    reply[11] = 1;
    reply
}

/// Reads a record. Records of updates may have no data, whatever their type (RFC 2136, section
/// 2.4).
fn record(packet: &[u8], at: usize) -> Option<(Record, usize)> {
    let mut owner = Vec::new();
    let fixed = read_name(packet, at, &mut owner)?;
    let [t1, t2, c1, c2, ttl @ .., l1, l2] = packet.get(fixed..fixed + 10)? else { return None };
    if [*l1, *l2] != [0, 0] {
        return read_record(packet, at);
    }
    let (rtype, class) = (u16::from_be_bytes([*t1, *t2]), u16::from_be_bytes([*c1, *c2]));
    let ttl = u32::from_be_bytes(ttl.try_into().ok()?);
    Some((Record { owner, rtype, class, ttl, rdata: Vec::new() }, fixed + 10))
}

/// Writes a reply with records in its answer section.
pub struct Writer<'r> {
    request: &'r Request,
    is_first: bool,
    message: Vec<u8>,
    /// The maximum length of the message, in octets.
    max_octets: usize,
    count: u16,
    /// The offsets of names, for compression pointers.
    names: HashMap<Box<[u8]>, u16>,
}

impl<'r> Writer<'r> {
    /// Begins a reply, with or without the question. `reserved` octets are left free.
    pub fn new(request: &'r Request, reserved: usize, with_question: bool) -> Writer<'r> {
        let aa = if request.opcode == opcode::UPDATE { 0 } else { flag::AA };
        let bits = flag::QR | aa | request.flags & (flag::OPCODE | flag::RD);
        let mut message = [&request.id[..], &bits.to_be_bytes(), &[0; 8]].concat();
        let max_octets = MAX_MESSAGE_OCTETS - reserved - OPT_OCTETS;
        let (names, is_first) = (HashMap::new(), with_question);
        let mut writer = Writer { request, is_first, message: Vec::new(), max_octets, count: 0, names };
        if with_question {
            message[5] = 1;
            message.extend_from_slice(&request.question);
            writer.remember(request.zone.as_wire(), HEADER);
        }
        writer.message = message;
        writer
    }

    /// Adds a record. Returns false, and adds nothing, if it does not fit.
    pub fn record(&mut self, owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> bool {
        let start = self.message.len();
        self.name(owner);
        self.message.extend_from_slice(&rtype.to_be_bytes());
        self.message.extend_from_slice(&class::IN.to_be_bytes());
        self.message.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.message.len();
        self.message.extend_from_slice(&[0, 0]);
        let mut copied = 0;
        for (name, _) in rdata::names(rtype, rdata).filter(|(_, may_be_compressed)| *may_be_compressed) {
            self.message.extend_from_slice(&rdata[copied..name.start]);
            self.name(&rdata[name.clone()]);
            copied = name.end;
        }
        self.message.extend_from_slice(&rdata[copied..]);
        if self.message.len() > self.max_octets || self.count == u16::MAX {
            self.message.truncate(start);
            self.names.retain(|_, at| usize::from(*at) < start);
            return false;
        }
        let length = (self.message.len() - length_at - 2) as u16;
        self.message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        self.count += 1;
        true
    }

    /// Whether the reply has no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Completes a reply with records. The first message of an answer has an OPT record, if the
    /// request has one.
    pub fn finish_records(self) -> Vec<u8> {
        let (request, is_first) = (self.request, self.is_first);
        let message = self.finish(0);
        if is_first { request.with_opt(message, None) } else { message }
    }

    /// Completes the reply.
    pub fn finish(mut self, code: u16) -> Vec<u8> {
        let bits = flags(&self.message) | code;
        let bits = if code == rcode::NOERROR { bits } else { bits & !flag::AA };
        self.message[2..4].copy_from_slice(&bits.to_be_bytes());
        self.message[6..8].copy_from_slice(&self.count.to_be_bytes());
        self.message
    }

    /// Writes a name. A suffix that was written before becomes a compression pointer.
    fn name(&mut self, name: &[u8]) {
        let mut at = 0;
        while name[at] != 0 {
            if let Some(known) = self.names.get(&name[at..]) {
                self.message.extend_from_slice(&name[..at]);
                let pointer = pointer::to(usize::from(*known));
                let start = self.message.len() - at;
                self.message.extend_from_slice(&pointer.to_be_bytes());
                return self.remember(name, start);
            }
            at += 1 + name[at] as usize;
        }
        let start = self.message.len();
        self.message.extend_from_slice(name);
        self.remember(name, start);
    }

    /// Remembers the offsets of a name and of its parents, unless they are known.
    fn remember(&mut self, name: &[u8], start: usize) {
        let mut at = 0;
        while name[at] != 0 && start + at <= pointer::MAX_OFFSET {
            if self.names.contains_key(&name[at..]) {
                return;
            }
            self.names.insert(name[at..].into(), (start + at) as u16);
            at += 1 + name[at] as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::response::Response;

    fn request(qtype: u16) -> Vec<u8> {
        let mut packet = b"\0\x07\0\0\0\x01\0\0\0\0\0\0\x04corp\x07example\0".to_vec();
        packet.extend_from_slice(&qtype.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        packet
    }

    fn request_of(qtype: u16) -> Request {
        Request::read(&request(qtype)).unwrap()
    }

    #[test]
    fn recognises_requests_about_zones_and_signed_requests() {
        let update = b"\0\x07\x28\0\0\x01\0\0\0\0\0\0\0\0\x06\0\x01";
        assert!(is_of_zone(&request(252)) && is_of_zone(&request(251)) && is_of_zone(&request(6)));
        assert!(is_of_zone(update) && !is_of_zone(&request(1)));
        let mut response = request(252);
        let bits = flags(&response) | flag::QR;
        response[2..4].copy_from_slice(&bits.to_be_bytes());
        assert!(!is_of_zone(&response));
        for len in 0..request(252).len() - 2 {
            assert!(!is_of_zone(&request(252)[..len]));
        }
        let mut signed = request(1);
        assert!(!is_signed(&signed));
        signed[11] = 2;
        signed.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        assert!(!is_signed(&signed));
        let key = crate::transfer::tsig::Key::new(&request_of(252).zone, Default::default(), b"secret");
        signed[11] = 1;
        crate::transfer::tsig::Session::request(&std::sync::Arc::new(key), &mut signed, 7);
        assert!(is_signed(&signed));
        // A message that is cut off is malformed.
        for len in 0..signed.len() {
            let is_read = is_signed(&signed[..len]) && Request::read(&signed[..len]).is_some();
            assert!(!is_read, "{len}");
        }
        for len in 0..request(252).len() {
            assert!(Request::read(&request(252)[..len]).is_none());
        }
    }

    #[test]
    fn writes_messages_that_can_be_read() {
        let request = Request::read(&request(252)).unwrap();
        let mut writer = Writer::new(&request, 100, true);
        let names: Vec<Vec<u8>> = (0..3000u16)
            .map(|number| [&[5][..], format!("n{number:04}").as_bytes(), request.zone.as_wire()].concat())
            .collect();
        let mut written = Vec::new();
        for name in &names {
            let mx = [&[0, 10][..], name].concat();
            if !(writer.record(name, rtype::MX, 60, &mx) && writer.record(name, rtype::TXT, 60, b"\x01x")) {
                break;
            }
            written.push((name.clone(), mx));
        }
        let message = writer.finish(0);
        assert!(
            message.len() <= MAX_MESSAGE_OCTETS - 100 && message.len() > MAX_MESSAGE_OCTETS - 250,
            "{}",
            message.len()
        );
        let response = Response::read(&message).unwrap();
        let records: Vec<_> = response.sections[0].iter().filter(|record| record.rtype == rtype::MX).collect();
        assert!(written.len() > 1000 && records.len() >= written.len());
        for (record, (name, mx)) in records.iter().zip(&written) {
            assert_eq!((&record.owner, &record.rdata), (name, mx));
        }
    }

    #[test]
    fn adds_the_question_and_the_reason_to_errors() {
        let mut packet = request(252);
        packet[11] = 1;
        packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let request = Request::read(&packet).unwrap();
        let reply = crate::wire::message::Message::read(&request.error(5, Some("no"))).unwrap();
        assert_eq!((reply.rcode, reply.ede), (5, Some((ede::PROHIBITED, "no".into()))));
        assert_eq!(Request::malformed(&packet, 1)[..4], [0, 7, 0x80, 1]);
    }
}
