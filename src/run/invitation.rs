//! Lines to try, for those who run the server on their own machine.

use crate::manifest::{Direction, Manifest, VpcEndpoint};
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

/// How many lines there are at most.
const LINES: usize = 5;

/// `dig` lines for clients in different places of the manifest's network; none unless all listeners are loopback
/// addresses and the manifest has such clients and a private name.
pub fn invitation(manifest: &Manifest, listeners: &[SocketAddr]) -> Option<String> {
    let port = listeners.first()?.port();
    if !listeners.iter().all(|listener| listener.ip().is_loopback()) {
        return None;
    }
    let name = private_name(manifest)?;
    let mut clients: Vec<Client> = clients(manifest, listeners);
    // One of each network first, then the second ones of those.
    clients.sort_by_key(|client| client.nth_of_network);
    clients.truncate(LINES);
    let mut text = String::from("Try, as clients in different places:\n");
    for client in clients {
        let line = format!("dig -b {} @{} -p {port} {name}", client.address, client.door);
        writeln!(text, "  {line:<66} # {}", client.place).ok()?;
    }
    text.contains("dig").then_some(text)
}

struct Client {
    place: String,
    address: IpAddr,
    door: IpAddr,
    nth_of_network: usize,
}

fn clients(manifest: &Manifest, listeners: &[SocketAddr]) -> Vec<Client> {
    let listens = |door: &IpAddr| listeners.iter().any(|listener| listener.ip() == *door);
    let localhost = IpAddr::from([127, 0, 0, 1]);
    let mut clients = Vec::new();
    for (id, vpc) in &manifest.vpcs {
        let own_door = vpc.resolver_addresses.iter().copied().find(listens);
        let Some(door) = Some(localhost).filter(listens).or(own_door) else { continue };
        let mut azs = BTreeSet::new();
        for subnet in vpc.subnets.values().filter(|subnet| azs.insert(&subnet.availability_zone_id)) {
            let Some(address) = subnet.cidr_blocks.iter().find_map(loopback_host) else { continue };
            let place = format!("{id}, {}", subnet.availability_zone_id);
            clients.push(Client { place, address, door, nth_of_network: 0 });
        }
    }
    for (id, network) in &manifest.on_premises_networks {
        let inbound = manifest.resolver_endpoints.values().filter(|e| e.direction == Direction::Inbound);
        let doors = inbound.flat_map(|endpoint| &endpoint.ip_addresses).map(|address| address.ip);
        let Some(address) = network.cidr_blocks.iter().find_map(loopback_host) else { continue };
        clients.extend(doors.clone().find(listens).map(|door| {
            let place = format!("{id}, through the inbound endpoint");
            Client { place, address, door, nth_of_network: 0 }
        }));
    }
    number(&mut clients);
    clients
}

/// Counts the clients of each network.
fn number(clients: &mut [Client]) {
    for index in 1..clients.len() {
        let network = |client: &Client| client.place.split(',').next().map(str::to_string);
        if network(&clients[index - 1]) == network(&clients[index]) {
            clients[index].nth_of_network = clients[index - 1].nth_of_network + 1;
        }
    }
}

/// The seventh address of a block on the loopback device.
fn loopback_host(block: &IpNet) -> Option<IpAddr> {
    match block {
        IpNet::V4(block) => block.hosts().nth(6).filter(|address| address.is_loopback()).map(IpAddr::V4),
        IpNet::V6(_) => None,
    }
}

/// A private name without a wildcard, that the most clients have.
fn private_name(manifest: &Manifest) -> Option<String> {
    let names = |endpoint: &VpcEndpoint| {
        let service = manifest.vpc_endpoint_services.get(&endpoint.service_name)?;
        let name = service.private_dns_names.iter().find(|name| !name.is_wildcard())?;
        Some(name.to_string().trim_end_matches('.').to_string())
    };
    let has_names = |endpoint: &&VpcEndpoint| {
        endpoint.private_dns_enabled && !endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint
    };
    let mut endpoints: Vec<&VpcEndpoint> = manifest.vpc_endpoints.values().map(|e| &**e).filter(has_names).collect();
    use crate::manifest::{ClientRoutingPolicy, PrivateDnsScope};
    endpoints.sort_by_key(|endpoint| {
        let affinity = endpoint.client_routing_policy == ClientRoutingPolicy::default();
        let usable = endpoint.network_interfaces.len();
        (endpoint.private_dns_scope != PrivateDnsScope::Connected, !affinity, usize::MAX - usable)
    });
    endpoints.into_iter().find_map(names)
}
