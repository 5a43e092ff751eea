//! Example queries: `dig` commands that zonal prints when it runs on loopback addresses, as in the demo.

use crate::manifest::{
    ClientRoutingPolicy, Direction, EndpointState, Health, Id, Manifest, PrivateDnsScope, VpcEndpoint, ZonalShift,
    problem::printable,
};
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

/// The maximum number of commands.
const MAX_LINES: usize = 5;

/// `dig` commands for clients in different networks and AZs of the manifest. None unless all listeners have loopback
/// addresses, and the manifest has clients on the loopback device and a private name.
pub fn example_queries(manifest: &Manifest, listeners: &[SocketAddr]) -> Option<String> {
    let port = listeners.first()?.port();
    if !listeners.iter().all(|listener| listener.ip().is_loopback()) {
        return None;
    }
    let name = private_name(manifest)?;
    let clients = clients(manifest, listeners);
    if clients.is_empty() {
        return None;
    }
    let mut text = String::from("Example queries of clients in different networks and zones:\n");
    for client in clients.into_iter().take(MAX_LINES) {
        let line = format!("dig -b {} @{} -p {port} {name}", client.address, client.entry_point);
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {line:<68}  # {}", printable(&client.network));
    }
    Some(text)
}

struct Client {
    network: String,
    address: IpAddr,
    entry_point: IpAddr,
}

/// Clients on the loopback device: one in each AZ of the first VPC, and one of each other network. VPCs with endpoints of
/// their own come last.
fn clients(manifest: &Manifest, listeners: &[SocketAddr]) -> Vec<Client> {
    let listens = |entry_point: &IpAddr| listeners.iter().any(|listener| listener.ip() == *entry_point);
    let shared_entry_point = Some(IpAddr::from([127, 0, 0, 1])).filter(listens);
    let mut of_networks: Vec<Vec<Client>> = Vec::new();
    let has_endpoints = |id: &Id| manifest.vpc_endpoints.values().any(|endpoint| endpoint.vpc_id == *id);
    let (with, without): (Vec<_>, Vec<_>) = manifest.vpcs.iter().partition(|(id, _)| has_endpoints(id));
    for (id, vpc) in without.into_iter().chain(with) {
        let Some(entry_point) = shared_entry_point.or(vpc.resolver_addresses.iter().copied().find(listens)) else {
            continue;
        };
        let mut azs = BTreeSet::new();
        let subnets = vpc.subnets.values().filter(|subnet| azs.insert(&subnet.availability_zone_id));
        let clients = subnets.filter_map(|subnet| {
            let network = format!("{id}, {}", subnet.availability_zone_id);
            Some(Client { network, address: subnet.cidr_blocks.iter().find_map(loopback_host)?, entry_point })
        });
        of_networks.push(clients.collect());
    }
    let inbound = manifest.resolver_endpoints.values().filter(|endpoint| endpoint.direction == Direction::Inbound);
    let inbound = inbound.flat_map(|endpoint| &endpoint.ip_addresses).map(|address| address.ip).find(listens);
    if let Some(entry_point) = inbound {
        let on_premises = manifest.on_premises_networks.iter().filter_map(|(id, on_premises)| {
            let network = format!("{id}, through the inbound endpoint");
            Some(vec![Client {
                network,
                address: on_premises.cidr_blocks.iter().find_map(loopback_host)?,
                entry_point,
            }])
        });
        let end = of_networks.len().min(1);
        of_networks.splice(end..end, on_premises.collect::<Vec<_>>());
    }
    of_networks.retain(|clients| !clients.is_empty());
    let mut of_networks = of_networks.into_iter();
    let mut clients = of_networks.next().unwrap_or_default();
    clients.extend(of_networks.flat_map(|clients| clients.into_iter().take(1)));
    clients
}

/// The seventh address of a block on the loopback device.
fn loopback_host(block: &IpNet) -> Option<IpAddr> {
    match block {
        IpNet::V4(block) => block.hosts().nth(6).filter(|address| address.is_loopback()).map(IpAddr::V4),
        IpNet::V6(_) => None,
    }
}

/// The private name for the example. Prefers, in this order: a name that all connected networks have; one with another answer
/// in each AZ; one of an AWS service; a short one.
fn private_name(manifest: &Manifest) -> Option<String> {
    let is_open = |endpoint: &&VpcEndpoint| {
        endpoint.private_dns_enabled
            && matches!(endpoint.state, EndpointState::Available | EndpointState::Partial)
            && !endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint
    };
    let name = |endpoint: &VpcEndpoint| {
        let service = manifest.vpc_endpoint_services.get(&endpoint.service_name)?;
        let name = service.private_dns_names.iter().find(|name| !name.is_wildcard())?;
        Some(name.to_string().trim_end_matches('.').to_string())
    };
    // An AZ without a usable interface gets the address of another AZ, so that the answers would not show the difference.
    let differs = |(id, endpoint): (&Id, &VpcEndpoint)| {
        let interfaces = &endpoint.network_interfaces;
        let azs: BTreeSet<&Id> = interfaces.iter().map(|interface| &interface.availability_zone_id).collect();
        let is_shifted = |shift: &ZonalShift| [&**id, &*endpoint.service_name, "*"].contains(&&*shift.resource);
        endpoint.client_routing_policy == ClientRoutingPolicy::AvailabilityZoneAffinity
            && azs.len() > 1
            && interfaces.iter().all(|interface| interface.health == Health::Healthy)
            && !manifest.zonal_shifts.values().any(|shift| is_shifted(shift))
    };
    let endpoints = manifest.vpc_endpoints.iter().map(|(id, endpoint)| (id, &**endpoint));
    let ranked = endpoints.filter(|(_, endpoint)| is_open(endpoint)).filter_map(|(id, endpoint)| {
        let (name, service) = (name(endpoint)?, manifest.vpc_endpoint_services.get(&endpoint.service_name)?);
        let is_connected = endpoint.private_dns_scope == PrivateDnsScope::Connected;
        Some((!is_connected, !differs((id, endpoint)), !service.is_amazon(), name.len(), name))
    });
    ranked.min().map(|(.., name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_queries_of_clients_in_different_networks_and_zones() {
        let manifest: Manifest = serde_json::from_str(
            r#"{"vpcs": {
                "vpc-a": {"region": "r", "cidr_blocks": ["127.2.0.0/16"], "subnets": {
                    "s": {"availability_zone_id": "az1", "cidr_blocks": ["127.2.0.0/17"]}}},
                "vpc-b": {"region": "r", "cidr_blocks": ["127.1.0.0/16"], "subnets": {
                    "s1": {"availability_zone_id": "az1", "cidr_blocks": ["10.0.0.0/8", "127.1.0.0/17"]},
                    "s2": {"availability_zone_id": "az2\u001b", "cidr_blocks": ["127.1.128.0/17"]},
                    "s3": {"availability_zone_id": "az3", "cidr_blocks": ["10.1.0.0/16"]}}}},
                "on_premises_networks": {"dc": {"cidr_blocks": ["127.4.0.0/16"]}},
                "resolver_endpoints": {"in": {"vpc_id": "vpc-a", "ip_addresses": [{"ip": "127.2.0.53"}]}},
                "vpc_endpoint_services": {"s": {"owner_id": "amazon", "region": "r", "dns_name": "vpce.example",
                    "private_dns_names": ["*.sqs.example", "sqs.example"]},
                    "t": {"owner_id": "amazon", "region": "r", "dns_name": "vpce.example",
                    "private_dns_names": ["a.example"]}},
                "vpc_endpoints": {"vpce-1": {"vpc_endpoint_type": "Interface", "service_name": "s", "vpc_id": "vpc-a",
                    "state": "Available", "private_dns_enabled": true, "private_dns_scope": "connected",
                    "network_interfaces": [{"availability_zone_id": "az1"}, {"availability_zone_id": "az2"}]},
                    "vpce-2": {"vpc_endpoint_type": "Interface", "service_name": "t", "vpc_id": "vpc-a",
                    "state": "Available", "private_dns_enabled": true, "private_dns_scope": "connected",
                    "network_interfaces": [{"availability_zone_id": "az1"},
                        {"availability_zone_id": "az2", "health": "unhealthy"}]}}}"#,
        )
        .unwrap();
        let listeners = ["127.0.0.1:5300", "127.2.0.53:5300"].map(|address| address.parse().unwrap());
        let text = example_queries(&manifest, &listeners).unwrap();
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "dig -b 127.1.0.7 @127.0.0.1 -p 5300 sqs.example # vpc-b, az1",
            "dig -b 127.1.128.7 @127.0.0.1 -p 5300 sqs.example # vpc-b, az2\u{fffd}",
            "dig -b 127.4.0.7 @127.2.0.53 -p 5300 sqs.example # dc, through the inbound endpoint",
            "dig -b 127.2.0.7 @127.0.0.1 -p 5300 sqs.example # vpc-a, az1",
        ];
        assert_eq!(lines[1..], expected);
        assert_eq!(example_queries(&manifest, &["0.0.0.0:53".parse().unwrap()]), None);
        assert_eq!(example_queries(&Manifest::default(), &listeners), None);
    }
}
