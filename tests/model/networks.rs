//! The networks of a manifest and their connections. Each query computes all paths again.

use std::net::IpAddr;
use zonal::manifest::{Attachment, Manifest, PeeringStatus};

/// A network of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    Vpc(String),
    OnPremises(String),
}

/// Whether a CIDR block of the network contains an address.
pub fn contains(manifest: &Manifest, net: &Net, address: IpAddr) -> bool {
    let blocks = match net {
        Net::Vpc(id) => &manifest.vpcs[id].cidr_blocks,
        Net::OnPremises(id) => &manifest.on_premises_networks[id].cidr_blocks,
    };
    blocks.iter().any(|block| block.contains(&address))
}

/// The AZ ID of the subnet with the longest prefix that contains the address.
pub fn az(manifest: &Manifest, vpc: &str, address: IpAddr) -> Option<String> {
    let subnets = manifest.vpcs[vpc].subnets.values();
    let blocks = subnets.flat_map(|subnet| subnet.cidr_blocks.iter().map(move |block| (block, subnet)));
    let holding = blocks.filter(|(block, _)| block.contains(&address));
    holding.max_by_key(|(block, _)| block.prefix_len()).map(|(_, subnet)| subnet.availability_zone_id.clone())
}

/// All networks.
pub fn all(manifest: &Manifest) -> Vec<Net> {
    let vpcs = manifest.vpcs.keys().cloned().map(Net::Vpc);
    vpcs.chain(manifest.on_premises_networks.keys().cloned().map(Net::OnPremises)).collect()
}

/// The networks that are connected to `net`, without itself.
pub fn connected(manifest: &Manifest, net: &Net) -> Vec<Net> {
    all(manifest).into_iter().filter(|other| other != net && reaches(manifest, net, other)).collect()
}

/// Whether two networks are connected, or the same.
pub fn reaches(manifest: &Manifest, a: &Net, b: &Net) -> bool {
    is_connected(manifest, a, b, false)
}

/// Whether clients in `a` can resolve the autodefined names of `b`.
pub fn resolves_names_of(manifest: &Manifest, a: &Net, b: &Net) -> bool {
    is_connected(manifest, a, b, true)
}

fn is_connected(manifest: &Manifest, a: &Net, b: &Net, names: bool) -> bool {
    if a == b {
        return true;
    }
    let peered = |a: &str, b: &str| {
        manifest.vpc_peering_connections.values().any(|peering| {
            peering.status == PeeringStatus::Active
                && (!names || peering.allow_remote_vpc_dns_resolution)
                && peering.vpc_ids.iter().any(|id| id == a)
                && peering.vpc_ids.iter().any(|id| id == b)
        })
    };
    let straight = match (a, b) {
        (Net::Vpc(a), Net::Vpc(b)) => peered(a, b),
        (Net::OnPremises(place), Net::Vpc(vpc)) | (Net::Vpc(vpc), Net::OnPremises(place)) => {
            manifest.on_premises_networks[place].vpc_ids.contains(vpc)
        }
        _ => false,
    };
    let over_gateway = manifest.transit_gateways.iter().any(|(id, gateway)| {
        let starts = gateway.attachments.iter().filter(|attachment| is_to(attachment, a));
        starts.into_iter().any(|start| walk(manifest, id, start, b, names, &mut vec![id.clone()]))
    });
    straight || over_gateway
}

fn is_to(attachment: &Attachment, net: &Net) -> bool {
    match net {
        Net::Vpc(id) => attachment.vpc_id.as_ref() == Some(id),
        Net::OnPremises(id) => attachment.on_premises_network_id.as_ref() == Some(id),
    }
}

/// Whether each attachment propagates to the table of the other.
fn exchange(a: &Attachment, b: &Attachment) -> bool {
    let table = |a: &Attachment| a.route_table.clone().unwrap_or_default();
    let routes_of = |a: &Attachment| a.propagates_to.clone().unwrap_or(vec![String::new()]);
    routes_of(a).contains(&table(b)) && routes_of(b).contains(&table(a))
}

/// Whether a query that enters by `entry` reaches `goal`, at this gateway or through peered
/// gateways.
fn walk(manifest: &Manifest, at: &str, entry: &Attachment, goal: &Net, names: bool, seen: &mut Vec<String>) -> bool {
    if names && !entry.dns_support {
        return false;
    }
    let usable = |other: &&Attachment| (!names || other.dns_support) && exchange(entry, other);
    let here = attachments(manifest, at);
    if here.iter().filter(usable).any(|other| is_to(other, goal)) {
        return true;
    }
    for other in here.iter().filter(usable) {
        let Some(peer) = &other.transit_gateway_id else { continue };
        if seen.contains(peer) || !manifest.transit_gateways.contains_key(peer) {
            continue;
        }
        seen.push(peer.clone());
        let far = attachments(manifest, peer);
        let mut far_ends = far.iter().filter(|end| end.transit_gateway_id.as_deref() == Some(at));
        if far_ends.any(|end| walk(manifest, peer, end, goal, names, seen)) {
            return true;
        }
        seen.pop();
    }
    false
}

/// The attachments of a gateway. If only one end lists a peering, the other end uses the default
/// route table.
fn attachments(manifest: &Manifest, id: &str) -> Vec<Attachment> {
    let mut list = manifest.transit_gateways[id].attachments.clone();
    for (other, gateway) in &manifest.transit_gateways {
        let names_us = gateway.attachments.iter().any(|a| a.transit_gateway_id.as_deref() == Some(id));
        if names_us && !list.iter().any(|a| a.transit_gateway_id.as_ref() == Some(other)) {
            list.push(Attachment {
                transit_gateway_id: Some(other.clone()),
                dns_support: true,
                ..Attachment::default()
            });
        }
    }
    list
}
