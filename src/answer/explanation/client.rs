//! Steps about the client: how it was identified, or why it is refused and what to do.

use crate::{
    answer::{Client, identify::IdentifiedClient},
    manifest::connectivity::Network,
    snapshot::{
        Snapshot,
        networks::{ClientPath, MatchedClient, Refusal},
    },
};
use std::net::IpAddr;

/// The largest number of entry points that the advice for a refused client names.
const MAX_ENTRY_POINTS: usize = 6;

fn kind(network: &Network) -> &'static str {
    match network {
        Network::Vpc(_) => "VPC",
        Network::OnPremises(_) => "on-premises network",
    }
}

/// The forwarder that named the client, if one did.
pub fn forwarder(snapshot: &Snapshot, peer: &Client, identified: &IdentifiedClient) -> Vec<String> {
    let Some(forwarder) = identified.forwarder else { return Vec::new() };
    let networks = &snapshot.networks;
    let name = |at: &u32| networks.info(*at).network.id();
    let kind = kind(&networks.info(forwarder.network).network);
    let spoken_for: Vec<&str> = forwarder.speaks_for.iter().map(name).collect();
    vec![format!(
        "{} is forwarder {} in {kind} {}: it may name clients of {}, by {}",
        peer.source,
        forwarder.id,
        name(&forwarder.network),
        spoken_for.join(", "),
        forwarder.identity
    )]
}

/// The entry point, the client's network and AZ, and the view that follows from them.
pub fn client(snapshot: &Snapshot, client: &Client, matched: &MatchedClient) -> Vec<String> {
    let networks = &snapshot.networks;
    let network = match matched.network.map(|network| &networks.info(network).network) {
        Some(network) => format!("{} is in {} {}", client.source, kind(network), network.id()),
        None => format!("{} is in no network of the manifest, but in `allowed_cidr_blocks`", client.source),
    };
    let az = match (matched.az, matched.subnet) {
        (Some(az), Some(subnet)) => {
            let subnet = &networks.subnets[subnet as usize].id;
            format!("its subnet {subnet} is in AZ {}", snapshot.azs.id(az))
        }
        (Some(az), None) if matched.network.and_then(|network| networks.info(network).az) == Some(az) => {
            format!("`availability_zone_id` of its network is {}", snapshot.azs.id(az))
        }
        (Some(az), None) => {
            format!("it is in no subnet, so it gets the AZ of the address that it asked: {}", snapshot.azs.id(az))
        }
        (None, _) => "it is in no subnet, so its AZ is unknown".into(),
    };
    let view = networks.info(matched.vpc).network.id();
    vec![
        entry_point(snapshot, client),
        format!("{network}; {az}"),
        format!("it gets the view of VPC {view}, path {}", matched.path.label()),
    ]
}

/// The entry point that was asked.
fn entry_point(snapshot: &Snapshot, client: &Client) -> String {
    match snapshot.networks.entry_points.get(&client.local) {
        Some(entry_point) if entry_point.path == ClientPath::InVpc => {
            format!("{} is a resolver address of VPC {}", client.local, entry_point.id)
        }
        Some(entry_point) => format!("{} is an address of Resolver endpoint {}", client.local, entry_point.id),
        None if client.local.is_unspecified() => "no entry point is given, so the source address alone decides".into(),
        None => format!("{} is not an entry point, so the source address alone decides", client.local),
    }
}

/// The reason why a client is refused, and what to do.
pub fn refusal(snapshot: &Snapshot, client: &Client, refusal: Refusal) -> Vec<String> {
    let networks = &snapshot.networks;
    let holding: Vec<String> = networks
        .holding(client.source)
        .iter()
        .map(|member| &networks.info(member.network).network)
        .map(|network| format!("{} {}", kind(network), network.id()))
        .collect();
    let entry_point_is_here = networks.entry_points.contains_key(&client.local);
    let why = match refusal {
        Refusal::UnknownNetwork if holding.is_empty() => "no network of the manifest has its address",
        Refusal::UnknownNetwork if entry_point_is_here => "this entry point does not allow its network",
        Refusal::UnknownNetwork => "clients of on-premises networks have to ask at an entry point",
        Refusal::SeveralNetworks => "its address is in more than one network, so the address alone does not decide",
        Refusal::DnsDisabled => "`enable_dns_support` of the VPC is false",
        Refusal::Transport => &format!("`protocols` of the entry point does not list {}", client.transport.protocol()),
        Refusal::ClientNotAllowed => "`speaks_for` of the forwarder does not list its network",
        Refusal::PrefixTooShort => "the prefix that the forwarder sent is in more than one network",
        Refusal::BadProxyHeader => {
            "the forwarder has to send a PROXY protocol v2 header, and sent none or a malformed one"
        }
        Refusal::UnknownVpcEndpoint => "the VPC endpoint in the PROXY header is not in the manifest",
    };
    let holding = if holding.is_empty() { "no network of the manifest".into() } else { holding.join(" and ") };
    vec![
        entry_point(snapshot, client),
        format!("{} is in {holding}", client.source),
        format!("refused: {why}"),
        advice(snapshot, client, refusal),
    ]
}

/// The change that gives a refused client an answer.
fn advice(snapshot: &Snapshot, client: &Client, refusal: Refusal) -> String {
    let networks = &snapshot.networks;
    let mut entry_points: Vec<IpAddr> = networks.entry_points.keys().copied().collect();
    entry_points
        .retain(|entry_point| networks.identify(client.source, *entry_point, client.transport.protocol()).is_ok());
    entry_points.sort_unstable();
    let listed: Vec<String> = entry_points
        .iter()
        .take(MAX_ENTRY_POINTS)
        .filter_map(|address| Some(format!("{address} ({})", networks.entry_points.get(address)?.id)))
        .collect();
    match refusal {
        Refusal::ClientNotAllowed => "add its network to `speaks_for` of the forwarder".into(),
        Refusal::PrefixTooShort => "configure the forwarder to send longer prefixes; /32 and /128 are best".into(),
        Refusal::BadProxyHeader => "configure the forwarder to send PROXY protocol v2; by UDP, in front of every packet".into(),
        Refusal::UnknownVpcEndpoint => "add the VPC endpoint to `vpc_endpoints`".into(),
        _ if !entry_points.is_empty() => {
            let more = if entry_points.len() > MAX_ENTRY_POINTS { ", …" } else { "" };
            format!("it may ask at {}{more}: try `--to {}`", listed.join(", "), entry_points[0])
        }
        Refusal::DnsDisabled => "set `enable_dns_support` to true, or use another resolver in that VPC".into(),
        Refusal::UnknownNetwork if networks.holding(client.source).is_empty() => {
            "add its address to `cidr_blocks` of its VPC or on-premises network, or to `allowed_cidr_blocks` of an inbound \
             endpoint"
                .into()
        }
        Refusal::UnknownNetwork => "no entry point allows it: connect its network to a VPC with an inbound endpoint, or add its address to \
             `allowed_cidr_blocks` of an inbound endpoint"
            .into(),
        Refusal::SeveralNetworks | Refusal::Transport => {
            let protocol = client.transport.protocol();
            format!("give its VPC `resolver_addresses` or an inbound endpoint with {protocol}, and let the client ask there")
        }
    }
}
