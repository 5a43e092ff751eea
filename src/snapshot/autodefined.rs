//! Autodefined zones: names that every VPC resolves without configuration (docs/concepts/which-answer.md; RFC 6303; RFC 6761).
//!
//! This module says which zones a view has. `answer::autodefined` makes their records.

use super::{
    names::NameMap,
    networks::{NetworkAt, Networks},
};
use crate::wire::{Name, query::LookupName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

/// The TTL of all autodefined records, in seconds.
pub const TTL: u32 = 60;

/// The records of an autodefined zone beside SOA and NS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Autodefined {
    /// None.
    Empty,
    /// The loopback addresses, at the apex and below it (RFC 6761, 6.3).
    Localhost,
    /// The PTR record of the IPv6 loopback address, at the apex.
    Loopback,
    /// PTR records of addresses of VPCs, and of 127.0.0.1.
    Reverse,
    /// `ip-10-1-0-5` and its like: addresses of the VPCs of this Region.
    Addresses(String),
    /// CNAME records from the reverse names of IPv6 addresses in the client's DNS64 prefix to those of the IPv4 addresses in
    /// them (RFC 6147, 5.3.1). No view has this zone: clients with DNS64 have it.
    Translated,
}

/// The zones that every resolver serves locally: RFC 6303, RFC 6761, RFC 7793, RFC 9462, and those of Route 53 Resolver.
pub static LOCALLY_SERVED: LazyLock<NameMap<Autodefined>> = LazyLock::new(|| {
    let mut zones: BTreeMap<String, Autodefined> = BTreeMap::new();
    let mut add = |zone: String, records: Autodefined| drop(zones.insert(zone, records));
    add("localdomain".into(), Autodefined::Empty);
    // Another resolver answers this zone with its own addresses, which are not zonal's.
    add("resolver.arpa".into(), Autodefined::Empty);
    add(format!("1.{}ip6.arpa", "0.".repeat(31)), Autodefined::Loopback);
    add(format!("{}ip6.arpa", "0.".repeat(32)), Autodefined::Empty);
    for zone in ["10", "127", "168.192", "254.169"] {
        add(format!("{zone}.in-addr.arpa"), Autodefined::Reverse);
    }
    (16..32).for_each(|octet| add(format!("{octet}.172.in-addr.arpa"), Autodefined::Reverse));
    (64..128).for_each(|octet| add(format!("{octet}.100.in-addr.arpa"), Autodefined::Reverse));
    for zone in ["0", "2.0.192", "100.51.198", "113.0.203", "255.255.255.255"] {
        add(format!("{zone}.in-addr.arpa"), Autodefined::Empty);
    }
    for zone in ["d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f", "8.b.d.0.1.0.0.2"] {
        add(format!("{zone}.ip6.arpa"), Autodefined::Empty);
    }
    map(zones)
});

/// [`LOCALLY_SERVED`] without reverse zones.
static LOCALLY_SERVED_NAMES: LazyLock<NameMap<Autodefined>> =
    LazyLock::new(|| map(["localdomain", "resolver.arpa"].map(|zone| (zone.into(), Autodefined::Empty)).into()));

/// The zones that every resolver serves locally, with or without reverse zones.
#[inline]
pub fn locally_served(has_reverse: bool) -> &'static NameMap<Autodefined> {
    if has_reverse { &LOCALLY_SERVED } else { &LOCALLY_SERVED_NAMES }
}

/// Makes all tables. Without this, the first query makes them.
pub fn make_tables() {
    LazyLock::force(&LOCALLY_SERVED);
    LazyLock::force(&LOCALLY_SERVED_NAMES);
    LazyLock::force(&SPECIAL_USE);
}

/// The zones of special-use names, which zonal never asks of other servers, also for VPCs without autodefined names: RFC 6761,
/// RFC 7686, RFC 8375, RFC 9476, RFC 9665.
pub static SPECIAL_USE: LazyLock<NameMap<Autodefined>> = LazyLock::new(|| {
    let zones = ["invalid", "test", "onion", "alt", "home.arpa", "service.arpa"];
    let empty = zones.map(|zone| (zone.to_string(), Autodefined::Empty));
    map(empty.into_iter().chain([("localhost".into(), Autodefined::Localhost)]).collect())
});

fn map(zones: BTreeMap<String, Autodefined>) -> NameMap<Autodefined> {
    NameMap::new(zones.into_iter().filter_map(|(zone, records)| Some((wire(&zone)?, records))).collect()).with_above()
}

fn wire(text: &str) -> Option<Box<[u8]>> {
    Name::absolute(text).ok().map(|name| name.to_lowercase().as_wire().into())
}

/// The domain of a Region's address names.
pub fn domain(region: &str) -> String {
    match region {
        "us-east-1" => "ec2.internal".into(),
        _ => format!("{region}.compute.internal"),
    }
}

/// The autodefined zones that only some views have: the domains of the Regions of `named`. Views also have
/// [locally served zones](locally_served) and, unless `autodefined_reverse` is false, the [reverse zones](ReverseZones) of
/// their VPCs.
pub fn autodefined(networks: &Networks, named: &[NetworkAt]) -> Arc<NameMap<Autodefined>> {
    let regions: BTreeSet<&String> =
        named.iter().filter_map(|network| networks.vpc(*network)).map(|vpc| &vpc.region).collect();
    let domains = regions.into_iter().filter_map(|region| {
        let domain = wire(&domain(region))?;
        Some((domain, Autodefined::Addresses(region.clone())))
    });
    Arc::new(NameMap::new(domains.collect()).with_above())
}

/// A name in `in-addr.arpa` or `ip6.arpa`, read as an address block.
#[derive(Clone, Copy)]
struct Tree {
    /// The addresses below the name.
    block: IpNet,
    /// The number of bits of a label.
    bits: u8,
    autodefined: &'static Autodefined,
}

impl Tree {
    const IN_ADDR: &[u8] = b"\x07in-addr\x04arpa\0";
    const IP6: &[u8] = b"\x03ip6\x04arpa\0";

    #[inline]
    fn of(name: &LookupName) -> Option<Tree> {
        let wire = name.wire();
        if !wire.ends_with(b"\x04arpa\0") || name.labels() < 2 {
            return None;
        }
        Tree::read(name)
    }

    /// Reads the labels from the right, up to the first one that is not part of an address.
    fn read(name: &LookupName) -> Option<Tree> {
        let count = name.labels() - 2;
        let labels = (0..count).rev().map(|at| name.label(at));
        match name.suffix(count) {
            Tree::IN_ADDR => {
                let mut octets = [0; 4];
                let mut len = 0;
                for (octet, value) in octets.iter_mut().zip(labels.map_while(decimal)) {
                    *octet = value;
                    len += 8;
                }
                let block = Ipv4Net::new(octets.into(), len).ok()?.into();
                Some(Tree { block, bits: 8, autodefined: &Autodefined::Reverse })
            }
            Tree::IP6 => {
                let digit = |label: &[u8]| match label {
                    [digit] => char::from(*digit).to_digit(16),
                    _ => None,
                };
                let (mut address, mut len) = (0u128, 0);
                for value in labels.map_while(digit).take(32) {
                    address |= u128::from(value) << (124 - len);
                    len += 4;
                }
                let block = Ipv6Net::new(address.into(), len).ok()?.into();
                Some(Tree { block, bits: 4, autodefined: &Autodefined::Empty })
            }
            _ => None,
        }
    }

    /// The prefix length of the zones that make up a block of a VPC, in bits; none if the block is of the other family.
    fn zone_bits(&self, block: &IpNet) -> Option<u8> {
        let is_of_tree = block.max_prefix_len() == self.block.max_prefix_len();
        is_of_tree.then(|| block.prefix_len().div_ceil(self.bits).max(1) * self.bits)
    }
}

/// The autodefined reverse zones above a name. A CIDR block of a VPC is made up of one zone per whole octet (IPv6: half octet),
/// as in Route 53. They are computed, not stored: an IPv4 block can be 128 zones, an IPv6 block 8.
#[derive(Clone, Copy, Default)]
pub struct ReverseZones {
    /// The numbers of labels by which they are below `in-addr.arpa` or `ip6.arpa`, one bit each.
    depths: u64,
    autodefined: Option<&'static Autodefined>,
}

impl ReverseZones {
    /// The zones of the VPCs in `named` that are at a name or above it.
    #[inline]
    pub fn above(networks: &Networks, named: &[NetworkAt], name: &LookupName) -> ReverseZones {
        match Tree::of(name) {
            None => ReverseZones::default(),
            Some(tree) => ReverseZones::in_tree(tree, networks, |network| named.binary_search(&network).is_ok()),
        }
    }

    /// The zones of all VPCs that are at a name or above it.
    pub fn of_all(networks: &Networks, name: &LookupName) -> ReverseZones {
        Tree::of(name).map_or_else(ReverseZones::default, |tree| ReverseZones::in_tree(tree, networks, |_| true))
    }

    fn in_tree(tree: Tree, networks: &Networks, is_named: impl Fn(NetworkAt) -> bool) -> ReverseZones {
        let address = tree.block.network();
        let members = networks.holding(address).iter().filter(|member| is_named(member.network));
        let vpcs = members.filter_map(|member| networks.vpc(member.network));
        let blocks = vpcs.flat_map(|vpc| &vpc.cidr_blocks).filter(|block| block.contains(&address));
        let depths = blocks
            .filter_map(|block| tree.zone_bits(block))
            .filter(|bits| *bits <= tree.block.prefix_len())
            .fold(0, |depths, bits| depths | 1 << (bits / tree.bits));
        ReverseZones { depths, autodefined: Some(tree.autodefined) }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.depths == 0
    }

    /// The zone at the suffix that is left when `skip` labels are taken from `name`.
    #[inline]
    pub fn find(self, name: &LookupName, skip: usize) -> Option<&'static Autodefined> {
        let depth = (name.labels() - skip).checked_sub(2)?;
        if depth < 64 && self.depths & 1 << depth != 0 { self.autodefined } else { None }
    }

    /// Whether there are zones below the suffix that is left when `skip` labels are taken from `name`.
    pub fn are_below(
        networks: &Networks,
        mut named: impl Iterator<Item = NetworkAt>,
        name: &LookupName,
        skip: usize,
    ) -> bool {
        let suffix = LookupName::new(name.suffix(skip));
        let Some((tree, suffix)) = suffix.and_then(|suffix| Some((Tree::of(&suffix)?, suffix))) else {
            return false;
        };
        // A label that is not part of an address has nothing below it.
        usize::from(tree.block.prefix_len() / tree.bits) == suffix.labels() - 2
            && named.any(|network| {
                let vpc = networks.vpc(network);
                vpc.into_iter().flat_map(|vpc| &vpc.cidr_blocks).any(|block| {
                    let is_below = |bits: u8| bits > tree.block.prefix_len();
                    tree.zone_bits(block).is_some_and(is_below)
                        && (tree.block.contains(&block.network()) || block.contains(&tree.block.network()))
                })
            })
    }
}

/// A decimal number up to 255, without leading zeros.
pub fn decimal(text: &[u8]) -> Option<u8> {
    let is_plain = text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text.first() != Some(&b'0'));
    if !is_plain { None } else { std::str::from_utf8(text).ok()?.parse().ok() }
}
