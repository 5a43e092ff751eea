//! Answers from autodefined zones (docs/concepts/which-answer.md).

use super::{
    known::KnownAnswers,
    resolve::{Decision, Resolver},
    trace::{Stage, Trace},
};
use crate::{
    snapshot::autodefined::{Autodefined, TTL, decimal},
    wire::{
        codes::{pointer, rcode},
        dns64::Translated,
        name::name_text,
        rdata::rtype,
        reply::{Full, Section},
    },
};
use ipnet::IpNet;
use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The RNAME of the SOA record of a locally served zone (RFC 6303, 3).
pub const CONTACT: &[u8] = b"\x06nobody\x07invalid\0";
/// The numbers of that SOA record: serial, refresh, retry, expire and minimum.
const SOA: [u32; 5] = [1, 3600, 1200, 604_800, TTL];

/// The data of an autodefined zone at a name.
enum Data<'s> {
    /// The name does not exist.
    Missing,
    /// The name exists, without records of its own.
    Empty,
    /// The name has this address.
    Address(IpAddr),
    /// The reverse name of a loopback address.
    Loopback,
    /// `localhost` or a name below it.
    Localhost,
    /// The reverse name of an address in a VPC of this Region.
    AddressName(Ipv4Addr, &'s str),
    /// A CNAME to the reverse name of this address.
    Alias(Ipv4Addr),
}

impl<'s, K: KnownAnswers, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Answers from the autodefined zone whose apex is `skip` labels above the current name.
    pub fn autodefined(&mut self, zone: &'s Autodefined, skip: usize) -> Decision<'s> {
        self.set_authoritative();
        let apex = self.suffix_at(skip);
        let name = &self.name;
        self.trace.note(Stage::Cut, || format!("{} is an autodefined zone", name_text(name.suffix(skip))));
        self.write_autodefined(zone, skip, apex).unwrap_or_else(|Full| {
            self.reply.truncate();
            Decision::Answered(rcode::NOERROR)
        })
    }

    fn write_autodefined(&mut self, zone: &Autodefined, skip: usize, apex: usize) -> Result<Decision<'s>, Full> {
        let data = self.data(zone, skip);
        let owner = pointer::to(self.name_at);
        let before = self.reply.count(Section::Answer);
        let any = self.qtype == rtype::ANY;
        match (&data, self.qtype) {
            (Data::Missing, _) => {
                self.trace.note(Stage::Zone, || "the autodefined zone does not have the name: NXDOMAIN".into());
                self.soa_record(Section::Authority, apex, TTL, CONTACT, SOA)?;
                return Ok(Decision::Answered(rcode::NXDOMAIN));
            }
            (_, rtype::SOA) | (Data::Empty, rtype::ANY) if skip == 0 => {
                self.soa_record(Section::Answer, apex, TTL, CONTACT, SOA)?
            }
            (_, rtype::NS) if skip == 0 => {
                self.reply.record(Section::Answer, owner, rtype::NS, TTL, &[&owner.to_be_bytes()])?;
            }
            (Data::Localhost, rtype::A | rtype::ANY) => self.address_record(owner, TTL, Ipv4Addr::LOCALHOST.into())?,
            (Data::Localhost, rtype::AAAA) => self.address_record(owner, TTL, Ipv6Addr::LOCALHOST.into())?,
            (Data::Address(address), rtype::A | rtype::ANY) => self.address_record(owner, TTL, *address)?,
            (Data::Loopback, _) if any || self.qtype == rtype::PTR => {
                self.reply.record(Section::Answer, owner, rtype::PTR, TTL, &[b"\x09localhost\0"])?;
            }
            (Data::AddressName(address, region), _) if any || self.qtype == rtype::PTR => {
                let mut name = WireName { octets: [0; 128], len: 0 };
                name.label(format_args!("ip-{}", Dashed(*address)));
                match *region {
                    "us-east-1" => name.label(format_args!("ec2")),
                    _ => {
                        name.label(format_args!("{region}"));
                        name.label(format_args!("compute"));
                    }
                }
                name.label(format_args!("internal"));
                self.reply.record(Section::Answer, owner, rtype::PTR, TTL, &[name.wire()])?;
            }
            (Data::Alias(address), _) => {
                let mut name = WireName { octets: [0; 128], len: 0 };
                for octet in address.octets().iter().rev() {
                    name.label(format_args!("{octet}"));
                }
                name.label(format_args!("in-addr"));
                name.label(format_args!("arpa"));
                let target = self.reply.record(Section::Answer, owner, rtype::CNAME, TTL, &[name.wire()])?;
                return Ok(if any || self.qtype == rtype::CNAME {
                    Decision::Answered(rcode::NOERROR)
                } else {
                    Decision::Target(target)
                });
            }
            _ => {}
        }
        if self.reply.count(Section::Answer) == before {
            self.trace.note(Stage::Zone, || "the name exists, but has no records of this type: NODATA".into());
            self.soa_record(Section::Authority, apex, TTL, CONTACT, SOA)?;
        }
        Ok(Decision::Answered(rcode::NOERROR))
    }

    /// The data at the current name.
    fn data(&self, zone: &Autodefined, skip: usize) -> Data<'s> {
        match zone {
            Autodefined::Localhost => Data::Localhost,
            Autodefined::Loopback if skip == 0 => Data::Loopback,
            _ if skip == 0 && !matches!(zone, Autodefined::Reverse) => Data::Empty,
            Autodefined::Empty | Autodefined::Loopback => Data::Missing,
            Autodefined::Reverse if skip == 0 && self.name.labels() < 6 => Data::Empty,
            Autodefined::Reverse => self.reverse(),
            Autodefined::Translated => self.translated(skip),
            Autodefined::Addresses(region) => match (skip, address_of_label(self.name.label(0))) {
                (1, Some(address)) if self.region_of(address) == Some(region) => Data::Address(address.into()),
                _ => Data::Missing,
            },
        }
    }

    /// The data at a name in `in-addr.arpa`. A name of fewer than four octets is an empty non-terminal, if addresses below it
    /// have names.
    fn reverse(&self) -> Data<'s> {
        let count = self.name.labels() - 2;
        let mut octets = [0; 4];
        if count > 4 {
            return Data::Missing;
        }
        for (at, octet) in octets.iter_mut().enumerate().take(count) {
            match decimal(self.name.label(count - 1 - at)) {
                Some(value) => *octet = value,
                None => return Data::Missing,
            }
        }
        let address = Ipv4Addr::from(octets);
        match self.region_of(address) {
            _ if count < 4 && self.has_addresses(&octets[..count]) => Data::Empty,
            _ if count < 4 => Data::Missing,
            _ if address == Ipv4Addr::LOCALHOST => Data::Loopback,
            Some(region) => Data::AddressName(address, region),
            None => Data::Missing,
        }
    }

    /// The data at a name `skip` labels below the reverse name of the client's DNS64 prefix.
    fn translated(&self, skip: usize) -> Data<'s> {
        match self.dns64.map(|prefix| prefix.read_reverse(self.name, skip)) {
            Some(Translated::Address(address)) => Data::Alias(address),
            Some(Translated::Above) => Data::Empty,
            Some(Translated::Missing) | None => Data::Missing,
        }
    }

    /// Whether an address that begins with these octets has a name.
    fn has_addresses(&self, octets: &[u8]) -> bool {
        let (mut low, mut high) = ([0; 4], [255; 4]);
        low[..octets.len()].copy_from_slice(octets);
        high[..octets.len()].copy_from_slice(octets);
        let (low, high) = (Ipv4Addr::from(low), Ipv4Addr::from(high));
        let vpcs = self.context.view.named.iter().filter_map(|network| self.context.snapshot.networks.vpc(*network));
        let overlaps = vpcs.flat_map(|vpc| &vpc.cidr_blocks).any(|block| match block {
            IpNet::V4(block) => block.network() <= high && low <= block.broadcast(),
            IpNet::V6(_) => false,
        });
        overlaps || (low <= Ipv4Addr::LOCALHOST && Ipv4Addr::LOCALHOST <= high)
    }

    /// The Region of the VPC that contains an address, if this view has names for that VPC.
    fn region_of(&self, address: Ipv4Addr) -> Option<&'s String> {
        let networks = &self.context.snapshot.networks;
        let members = networks.holding(address.into());
        let vpc = members.iter().find(|member| self.context.view.named.binary_search(&member.network).is_ok())?;
        networks.vpc(vpc.network).map(|vpc| &vpc.region)
    }
}

/// The address in a label such as `ip-10-1-0-5`.
fn address_of_label(label: &[u8]) -> Option<Ipv4Addr> {
    let mut parts = label.strip_prefix(b"ip-")?.split(|octet| *octet == b'-');
    let mut octets = [0; 4];
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// An address with dashes instead of dots.
struct Dashed(Ipv4Addr);

impl std::fmt::Display for Dashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d] = self.0.octets();
        write!(f, "{a}-{b}-{c}-{d}")
    }
}

/// A short name in wire format, built without allocation.
struct WireName {
    octets: [u8; 128],
    len: usize,
}

impl WireName {
    fn label(&mut self, text: std::fmt::Arguments) {
        let at = self.len;
        self.len += 1;
        let _ = self.write_fmt(text);
        self.octets[at] = (self.len - at - 1) as u8;
    }

    /// The name, its root label included.
    fn wire(&self) -> &[u8] {
        &self.octets[..=self.len]
    }
}

impl Write for WireName {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        // Two octets stay free, for the length of the next label and the root label.
        self.octets[..126].get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
