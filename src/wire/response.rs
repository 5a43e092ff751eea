//! Reading a response of another server. The response can be malformed or hostile; a malformed
//! response is discarded whole.

use super::{
    codes::{class, flag, pointer},
    name::{MAX_LABEL, MAX_NAME},
    query::{HEADER, flags, skip_name},
    rdata::{self, rtype},
};
use std::net::IpAddr;

/// A record of a response, with uncompressed names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The owner in wire format, in its original case.
    pub owner: Vec<u8>,
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
    /// Time to live in seconds.
    pub ttl: u32,
    /// The data.
    pub rdata: Vec<u8>,
}

impl Record {
    /// Whether the data of an A, AAAA or TXT record is valid. Callers rely on the form of these
    /// three types.
    fn is_valid(&self) -> bool {
        self.class != class::IN
            || !matches!(self.rtype, rtype::A | rtype::AAAA | rtype::TXT)
            || rdata::check(self.rtype, &self.rdata)
    }

    /// The address of an A or AAAA record.
    pub fn address(&self) -> Option<IpAddr> {
        match self.rtype {
            rtype::A => <[u8; 4]>::try_from(&self.rdata[..]).ok().map(IpAddr::from),
            rtype::AAAA => <[u8; 16]>::try_from(&self.rdata[..]).ok().map(IpAddr::from),
            _ => None,
        }
    }
}

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The header's flags, without the RCODE.
    pub flags: u16,
    /// The RCODE, with the upper bits that the OPT record holds.
    pub rcode: u16,
    /// Answer, authority and additional section. The OPT record is not among the records.
    pub sections: [Vec<Record>; 3],
    /// The options: the data of the OPT record, if there is one.
    pub options: Option<Vec<u8>>,
}

impl Response {
    /// Reads a response with at most one question. None if it is malformed.
    pub fn read(message: &[u8]) -> Option<Response> {
        let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        if message.len() < HEADER || flags(message) & flag::QR == 0 || number(4)? > 1 {
            return None;
        }
        let bits = flags(message);
        let mut this = Response { flags: bits & !flag::RCODE, rcode: bits & flag::RCODE, ..Response::default() };
        let mut at = HEADER;
        if number(4)? == 1 {
            at = skip_name(message, at)? + 4;
        }
        for section in 0..3 {
            for _ in 0..number(6 + 2 * section)? {
                let (record, next) = read_record(message, at)?;
                at = next;
                if !record.is_valid() {
                    return None;
                }
                if record.rtype == rtype::OPT {
                    if this.options.is_some() || section != 2 {
                        return None;
                    }
                    this.rcode |= (record.ttl >> 20) as u16 & 0xff0;
                    this.options = Some(record.rdata);
                } else {
                    this.sections[section].push(record);
                }
            }
        }
        Some(this)
    }
}

/// Reads the name at `at` and appends it to `out`, uncompressed. Returns the offset behind it in
/// the message. None if it is malformed, or if a pointer does not point backwards.
pub fn read_name(message: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let start = out.len();
    let (mut end, mut min_offset) = (None, at);
    loop {
        match *message.get(at)? {
            first if pointer::begins_with(first) => {
                let to = pointer::offset(first, *message.get(at + 1)?);
                end.get_or_insert(at + 2);
                // Each pointer leads further back, so that the loop ends.
                if to >= min_offset {
                    return None;
                }
                (at, min_offset) = (to, to);
            }
            0 => {
                out.push(0);
                return Some(end.unwrap_or(at + 1));
            }
            len if usize::from(len) <= MAX_LABEL => {
                let len = usize::from(len);
                out.extend_from_slice(message.get(at..=at + len)?);
                if out.len() - start >= MAX_NAME {
                    return None;
                }
                at += 1 + len;
            }
            _ => return None,
        }
    }
}

/// Reads the record at `at`, with uncompressed names. Returns the offset behind it. None if it is
/// malformed.
pub fn read_record(message: &[u8], at: usize) -> Option<(Record, usize)> {
    let mut owner = Vec::with_capacity(32);
    let at = read_name(message, at, &mut owner)?;
    let fixed: &[u8; 10] = message.get(at..at + 10)?.try_into().ok()?;
    let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let (rtype, class) = (number(0), number(2));
    let ttl = u32::from(number(4)) << 16 | u32::from(number(6));
    let start = at + 10;
    let end = start + usize::from(number(8));
    if end > message.len() {
        return None;
    }
    Some((Record { owner, rtype, class, ttl, rdata: expand_data(message, rtype, start, end)? }, end))
}

/// Where a type has names in its data that a sender may compress (RFC 3597, section 4): the number
/// of octets in front of the names, and the number of names.
fn compressible_names(rtype: u16) -> Option<(usize, usize)> {
    match rtype {
        rtype::NS | rtype::MD | rtype::MF | rtype::CNAME | rtype::MB | rtype::MG | rtype::MR => Some((0, 1)),
        rtype::PTR | rtype::DNAME | rtype::NSEC => Some((0, 1)),
        rtype::SOA | rtype::MINFO | rtype::RP => Some((0, 2)),
        rtype::MX | rtype::AFSDB | rtype::RT | rtype::KX => Some((2, 1)),
        rtype::PX => Some((2, 2)),
        rtype::SRV => Some((6, 1)),
        rtype::SIG | rtype::RRSIG => Some((18, 1)),
        _ => None,
    }
}

/// Record data with uncompressed names.
fn expand_data(message: &[u8], rtype: u16, start: usize, end: usize) -> Option<Vec<u8>> {
    let Some((before, names)) = compressible_names(rtype) else { return Some(message[start..end].to_vec()) };
    let mut data = message.get(start..start + before).filter(|_| start + before <= end)?.to_vec();
    let mut at = start + before;
    for _ in 0..names {
        at = read_name(message, at, &mut data)?;
    }
    data.extend_from_slice(message.get(at..end)?);
    let fits = match rtype {
        rtype::SOA => at + 20 == end,
        rtype::NS | rtype::CNAME | rtype::PTR | rtype::MX | rtype::SRV | rtype::DNAME => at == end,
        _ => true,
    };
    (fits && data.len() <= u16::MAX.into()).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_names_and_refuses_pointer_loops() {
        let mut message = vec![0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        message.extend_from_slice(b"\x03www\x07example\0\0\x05\0\x01");
        message.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x10");
        let response = Response::read(&message).unwrap();
        assert_eq!(response.sections[0][0].owner, b"\x03www\x07example\0");
        assert_eq!(response.sections[0][0].rdata, b"\x01a\x07example\0");
        let last = message.len() - 1;
        for pointer in [last as u8 - 1, last as u8 - 3, 200] {
            message[last] = pointer;
            assert_eq!(Response::read(&message), None, "{pointer}");
        }
        for len in 0..message.len() {
            assert_eq!(Response::read(&message[..len]), None);
        }
    }

    #[test]
    fn refuses_invalid_data_of_addresses_and_texts() {
        for (rtype, class, rdata, is_valid) in [
            (rtype::A, class::IN, &b"\x0a\0\0\x01"[..], true),
            (rtype::A, class::IN, b"\x0a\0\0", false),
            (rtype::A, class::IN, b"\x0a\0\0\x01\0", false),
            (rtype::A, class::IN, b"", false),
            (rtype::A, class::CH, b"\x0a", true),
            (rtype::AAAA, class::IN, &[0; 16], true),
            (rtype::AAAA, class::IN, &[0; 4], false),
            (rtype::TXT, class::IN, b"\x02hi", true),
            (rtype::TXT, class::IN, b"\x03hi", false),
            (65_280, class::IN, b"", true),
        ] {
            let mut message = b"\0\x07\x81\x80\0\0\0\x01\0\0\0\0\0".to_vec();
            message.extend([rtype.to_be_bytes(), u16::to_be_bytes(class)].concat());
            message.extend([0, 0, 0, 60, 0, rdata.len() as u8]);
            message.extend(rdata);
            assert_eq!(Response::read(&message).is_some(), is_valid, "{rtype} {class} {rdata:?}");
        }
    }
}
