//! Reading a reply of our own again, for those who want to see it.

use super::{
    Name,
    query::{HEADER, flag, option, rcode, skip_name},
    rdata::{rtype, type_to_text, write},
    reply::expand_name,
};
use std::fmt;

/// A reply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The header's flags.
    pub flags: u16,
    /// The extended RCODE.
    pub rcode: u16,
    /// Answer, authority and additional section, the OPT record left out.
    pub sections: [Vec<Record>; 3],
    /// The extended DNS error, with its text.
    pub ede: Option<(u16, String)>,
}

/// A record of a reply, its data without compression.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The owner.
    pub owner: Name,
    /// The type's number.
    pub rtype: u16,
    /// Time to live in seconds.
    pub ttl: u32,
    /// The data.
    pub rdata: Vec<u8>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {} ", self.owner, self.ttl, type_to_text(self.rtype))?;
        write(f, self.rtype, &self.rdata)
    }
}

impl Message {
    /// Reads a reply; none if it is not one that we write.
    pub fn read(message: &[u8]) -> Option<Message> {
        let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
        let mut this = Message { flags: number(2)? & !15, rcode: number(2)? & 15, ..Message::default() };
        let mut at = HEADER;
        if number(4)? == 1 {
            at = skip_name(message, at)? + 4;
        }
        for section in 0..3 {
            for _ in 0..number(6 + 2 * section)? {
                let owner = name_at(message, at)?;
                at = skip_name(message, at)?;
                let (rtype, length) = (number(at)?, number(at + 8)? as usize);
                let ttl = u32::from(number(at + 4)?) << 16 | u32::from(number(at + 6)?);
                at += 10;
                message.get(at..at + length)?;
                if rtype == rtype::OPT {
                    this.rcode |= (ttl >> 20) as u16 & 0xff0;
                    this.ede = read_ede(&message[at..at + length]);
                } else {
                    let rdata = expand(message, rtype, at, length)?;
                    this.sections[section].push(Record { owner, rtype, ttl, rdata });
                }
                at += length;
            }
        }
        Some(this)
    }

    /// The RCODE's mnemonic.
    pub fn status(&self) -> &'static str {
        let known = rcode::MNEMONICS.iter().find(|(code, _)| *code == self.rcode);
        known.map_or("?", |(_, mnemonic)| mnemonic)
    }

    /// The flags that are set, as dig prints them.
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

fn name_at(message: &[u8], at: usize) -> Option<Name> {
    skip_name(message, at)?;
    let mut wire = [0; 256];
    let len = expand_name(message, at, &mut wire);
    Name::from_wire(&wire[..len]).ok()
}

/// Record data with the names in it in full.
fn expand(message: &[u8], rtype: u16, at: usize, length: usize) -> Option<Vec<u8>> {
    let (before, names) = match rtype {
        rtype::NS | rtype::CNAME | rtype::PTR => (0, 1),
        rtype::MX => (2, 1),
        rtype::SOA | 14 => (0, 2),   // 14: MINFO
        3 | 4 | 7 | 8 | 9 => (0, 1), // MD, MF, MB, MG, MR
        _ => (length, 0),
    };
    let mut rdata = message.get(at..at + before)?.to_vec();
    let mut from = at + before;
    for _ in 0..names {
        rdata.extend_from_slice(name_at(message, from)?.as_wire());
        from = skip_name(message, from)?;
    }
    rdata.extend_from_slice(message.get(from..at + length)?);
    Some(rdata)
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
