//! Names and records of the model: names are lists of labels in lower case.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A domain name: its labels from left to right, in lower case, without the root.
pub type N = Vec<String>;

/// Reads a name that has no escapes.
pub fn name(text: &str) -> N {
    text.split('.').filter(|label| !label.is_empty()).map(str::to_ascii_lowercase).collect()
}

/// Prints a name with its last dot.
pub fn text(name: &[String]) -> String {
    let mut out: String = name.iter().map(|label| format!("{label}.")).collect();
    if out.is_empty() {
        out.push('.');
    }
    out
}

/// Puts `label` before `rest`.
pub fn under(label: &str, rest: &[String]) -> N {
    std::iter::once(label.to_owned()).chain(rest.iter().cloned()).collect()
}

/// Whether `name` is `other` or below it.
pub fn at_or_below(name: &[String], other: &[String]) -> bool {
    name.ends_with(other)
}

/// The octets of a name in wire format.
pub fn name_wire(name: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const DNAME: u16 = 39;
pub const DS: u16 = 43;
pub const ANY: u16 = 255;

/// The name of a type in a master file.
pub fn type_text(rtype: u16) -> String {
    match rtype {
        A => "A".into(),
        NS => "NS".into(),
        CNAME => "CNAME".into(),
        SOA => "SOA".into(),
        PTR => "PTR".into(),
        MX => "MX".into(),
        TXT => "TXT".into(),
        AAAA => "AAAA".into(),
        SRV => "SRV".into(),
        DNAME => "DNAME".into(),
        DS => "DS".into(),
        other => format!("TYPE{other}"),
    }
}

/// Record data.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Address(IpAddr),
    /// NS, CNAME, PTR, DNAME.
    Name(N),
    Mx(u16, N),
    Srv(u16, u16, u16, N),
    Txt(String),
    Soa(N, N, [u32; 5]),
    Ds(u16, [u8; 20]),
}

impl Data {
    pub fn v4(a: u8, b: u8, c: u8, d: u8) -> Data {
        Data::Address(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    }

    pub fn v6(last: u16) -> Data {
        Data::Address(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)))
    }

    /// In the format of a master file, names absolute.
    pub fn text(&self) -> String {
        match self {
            Data::Address(address) => address.to_string(),
            Data::Name(name) => text(name),
            Data::Mx(preference, name) => format!("{preference} {}", text(name)),
            Data::Srv(priority, weight, port, name) => format!("{priority} {weight} {port} {}", text(name)),
            Data::Txt(string) => format!("\"{string}\""),
            Data::Soa(primary, contact, numbers) => {
                let mut out = format!("{} {}", text(primary), text(contact));
                for number in numbers {
                    let _ = write!(out, " {number}");
                }
                out
            }
            Data::Ds(tag, digest) => {
                let hex: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
                format!("{tag} 8 1 {hex}")
            }
        }
    }

    /// In uncompressed wire format.
    pub fn wire(&self) -> Vec<u8> {
        match self {
            Data::Address(IpAddr::V4(address)) => address.octets().to_vec(),
            Data::Address(IpAddr::V6(address)) => address.octets().to_vec(),
            Data::Name(name) => name_wire(name),
            Data::Mx(preference, name) => [preference.to_be_bytes().to_vec(), name_wire(name)].concat(),
            Data::Srv(priority, weight, port, name) => {
                let numbers: Vec<u8> = [priority, weight, port].iter().flat_map(|n| n.to_be_bytes()).collect();
                [numbers, name_wire(name)].concat()
            }
            Data::Txt(string) => [vec![string.len() as u8], string.as_bytes().to_vec()].concat(),
            Data::Soa(primary, contact, numbers) => {
                let numbers: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
                [name_wire(primary), name_wire(contact), numbers].concat()
            }
            Data::Ds(tag, digest) => [&tag.to_be_bytes()[..], &[8, 1], digest].concat(),
        }
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub struct Rr {
    pub owner: N,
    pub rtype: u16,
    pub ttl: u32,
    pub data: Data,
}

impl Rr {
    pub fn new(owner: &[String], rtype: u16, ttl: u32, data: Data) -> Rr {
        Rr { owner: owner.to_vec(), rtype, ttl, data }
    }
}

/// A record in the form in which records are compared: owner, type, TTL, data as text.
pub type Seen = (String, u16, u32, String);

impl From<&Rr> for Seen {
    fn from(rr: &Rr) -> Seen {
        (text(&rr.owner), rr.rtype, rr.ttl, rr.data.text())
    }
}
