//! Autodefined names: what every VPC resolves without anybody having said so (docs/concepts/which-answer.md; RFC 6303; RFC 6761).

use super::{
    names::NameMap,
    networks::{NetworkAt, Networks},
};
use crate::wire::Name;
use ipnet::{IpNet, Ipv4Net};
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, LazyLock},
};

/// The TTL of all autodefined records, in seconds.
pub const TTL: u32 = 60;

/// What an autodefined zone holds beside its SOA and NS record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Autodefined {
    /// Nothing.
    Empty,
    /// The loopback addresses, at the apex and below it (RFC 6761, 6.3).
    Localhost,
    /// The PTR record of the IPv6 loopback address, at the apex.
    Loopback,
    /// PTR records of addresses of VPCs, and of 127.0.0.1.
    Reverse,
    /// `ip-10-1-0-5` and its like: addresses of the VPCs of this Region.
    Addresses(String),
    /// CNAME records from the names of IPv6 addresses that stand for IPv4 addresses to the names of those (RFC 6147,
    /// 5.3.1). Clients have it, and not views: those in subnets with DNS64.
    Translated,
}

/// The zones that everybody serves locally: RFC 6303, RFC 6761, RFC 7793, RFC 9462, and those of Route 53 Resolver.
pub static LOCALLY_SERVED: LazyLock<NameMap<Autodefined>> = LazyLock::new(|| {
    let mut zones: BTreeMap<String, Autodefined> = BTreeMap::new();
    let mut add = |zone: String, what: Autodefined| drop(zones.insert(zone, what));
    add("localhost".into(), Autodefined::Localhost);
    add("localdomain".into(), Autodefined::Empty);
    // What another resolver says of its own addresses must not be taken for ours.
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
    NameMap::new(zones.into_iter().filter_map(|(zone, what)| Some((wire(&zone)?, what))).collect())
});

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

/// The autodefined zones of a view beside those that all have: the domains of the Regions of the VPCs that it has
/// names of, and the reverse zones of their blocks that are not private (research: one for each whole octet).
pub fn autodefined(networks: &Networks, named: &[NetworkAt]) -> Arc<NameMap<Autodefined>> {
    let mut zones: BTreeMap<Box<[u8]>, Autodefined> = BTreeMap::new();
    for vpc in named.iter().filter_map(|network| networks.vpc(*network)) {
        if let Some(domain) = wire(&domain(&vpc.region)) {
            zones.insert(domain, Autodefined::Addresses(vpc.region.clone()));
        }
        for block in &vpc.cidr_blocks {
            if let IpNet::V4(block) = block {
                reverse_zones(*block).for_each(|zone| drop(zones.insert(zone, Autodefined::Reverse)));
            }
        }
    }
    Arc::new(NameMap::new(zones.into_iter().collect()))
}

/// The zones of `in-addr.arpa` that make up a block, where they are not within a locally served one.
fn reverse_zones(block: Ipv4Net) -> impl Iterator<Item = Box<[u8]>> {
    let address = block.network();
    let [a, b, ..] = address.octets();
    let is_local = address.is_private() || address.is_link_local() || a == 127 || (a == 100 && b & 0xc0 == 64);
    let octets = block.prefix_len().div_ceil(8).max(1) as usize;
    // A block shorter than /8 would be many zones of a whole octet each: up to 256 of them.
    let count = if is_local { 0 } else { 1u32 << (8 * octets as u32 - u32::from(block.prefix_len())) };
    (0..count).filter_map(move |number| {
        let first = u32::from(address).wrapping_add(number << (32 - 8 * octets as u32));
        let octets: Vec<String> = Ipv4Addr::from(first).octets()[..octets].iter().rev().map(u8::to_string).collect();
        wire(&format!("{}.in-addr.arpa", octets.join(".")))
    })
}
