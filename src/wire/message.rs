//! A reply as data: zonal reads its own replies again to show them (`explain`), to compare them and
//! to test them.

use super::{
    Name,
    codes::{flag, option, rcode},
    rdata::{type_to_text, write},
    response::{self, Response},
};
use std::fmt;

/// A reply, parsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The header's flags, without the RCODE.
    pub flags: u16,
    /// The RCODE, with the upper bits that the OPT record holds.
    pub rcode: u16,
    /// Answer, authority and additional section. The OPT record is not among the records.
    pub sections: [Vec<Record>; 3],
    /// The first extended DNS error: its INFO-CODE and text (RFC 8914).
    pub ede: Option<(u16, String)>,
}

/// A record of a reply, with uncompressed data.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The owner.
    pub owner: Name,
    /// The number of the record type.
    pub rtype: u16,
    /// Time to live in seconds.
    pub ttl: u32,
    /// The record data in wire format.
    pub rdata: Vec<u8>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {} ", self.owner, self.ttl, type_to_text(self.rtype))?;
        write(f, self.rtype, &self.rdata)
    }
}

impl Message {
    /// Reads a reply. None if the message is malformed.
    pub fn read(message: &[u8]) -> Option<Message> {
        let Response { flags, rcode, sections, options } = Response::read(message)?;
        let record = |record: response::Record| {
            let response::Record { owner, rtype, ttl, rdata, .. } = record;
            Some(Record { owner: Name::from_wire(&owner).ok()?, rtype, ttl, rdata })
        };
        let [answer, authority, additional] = sections;
        let section = |records: Vec<response::Record>| records.into_iter().map(record).collect::<Option<Vec<_>>>();
        let sections = [section(answer)?, section(authority)?, section(additional)?];
        Some(Message { flags, rcode, sections, ede: options.and_then(|options| read_ede(&options)) })
    }

    /// The mnemonic of the RCODE; `?` if zonal never sends this RCODE.
    pub fn status(&self) -> &'static str {
        let known = rcode::MNEMONICS.iter().find(|(code, _)| *code == self.rcode);
        known.map_or("?", |(_, mnemonic)| mnemonic)
    }

    /// The names of the flags that are set, as dig prints them.
    pub fn flag_names(&self) -> Vec<&'static str> {
        let all = [
            (flag::QR, "qr"),
            (flag::AA, "aa"),
            (flag::TC, "tc"),
            (flag::RD, "rd"),
            (flag::RA, "ra"),
            (flag::AD, "ad"),
            (flag::CD, "cd"),
        ];
        all.into_iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, name)| name).collect()
    }
}

fn read_ede(mut options: &[u8]) -> Option<(u16, String)> {
    while let [c1, c2, l1, l2, rest @ ..] = options {
        let (data, next) = rest.split_at_checked(u16::from_be_bytes([*l1, *l2]) as usize)?;
        if let (option::EDE, [e1, e2, text @ ..]) = (u16::from_be_bytes([*c1, *c2]), data) {
            return Some((u16::from_be_bytes([*e1, *e2]), String::from_utf8_lossy(text).into_owned()));
        }
        options = next;
    }
    None
}
