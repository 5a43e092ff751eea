//! Lines to try, for those who run the server on their own machine.

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
    let clients = clients(manifest, listeners);
    if clients.is_empty() {
        return None;
    }
    let mut text = String::from("Try, as clients in different places:\n");
    for client in clients.into_iter().take(LINES) {
        let line = format!("dig -b {} @{} -p {port} {name}", client.address, client.entry_point);
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {line:<68}  # {}", printable(&client.place));
    }
    Some(text)
}

struct Client {
    place: String,
    address: IpAddr,
    entry_point: IpAddr,
}

/// Clients on the loopback device: of one VPC one in each AZ, of all other networks one, those with endpoints of their
/// own at the end.
fn clients(manifest: &Manifest, listeners: &[SocketAddr]) -> Vec<Client> {
    let listens = |entry_point: &IpAddr| listeners.iter().any(|listener| listener.ip() == *entry_point);
    let nobodys_entry_point = Some(IpAddr::from([127, 0, 0, 1])).filter(listens);
    let mut of_networks: Vec<Vec<Client>> = Vec::new();
    let has_endpoints = |id: &Id| manifest.vpc_endpoints.values().any(|endpoint| endpoint.vpc_id == *id);
    let (with, without): (Vec<_>, Vec<_>) = manifest.vpcs.iter().partition(|(id, _)| has_endpoints(id));
    for (id, vpc) in without.into_iter().chain(with) {
        let Some(entry_point) = nobodys_entry_point.or(vpc.resolver_addresses.iter().copied().find(listens)) else {
            continue;
        };
        let mut azs = BTreeSet::new();
        let subnets = vpc.subnets.values().filter(|subnet| azs.insert(&subnet.availability_zone_id));
        let clients = subnets.filter_map(|subnet| {
            let place = format!("{id}, {}", subnet.availability_zone_id);
            Some(Client { place, address: subnet.cidr_blocks.iter().find_map(loopback_host)?, entry_point })
        });
        of_networks.push(clients.collect());
    }
    let inbound = manifest.resolver_endpoints.values().filter(|endpoint| endpoint.direction == Direction::Inbound);
    let inbound = inbound.flat_map(|endpoint| &endpoint.ip_addresses).map(|address| address.ip).find(listens);
    if let Some(entry_point) = inbound {
        let on_premises = manifest.on_premises_networks.iter().filter_map(|(id, network)| {
            let place = format!("{id}, through the inbound endpoint");
            Some(vec![Client { place, address: network.cidr_blocks.iter().find_map(loopback_host)?, entry_point }])
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

/// The private name that is the most worth asking for: the most clients have it, its answer differs by AZ, AWS's service
/// is known to all, and it is short.
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
    // An AZ without an interface that is usable gets another one's address, which hides what there is to see.
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
        let everybody = endpoint.private_dns_scope == PrivateDnsScope::Connected;
        Some((!everybody, !differs((id, endpoint)), !service.is_amazon(), name.len(), name))
    });
    ranked.min().map(|(.., name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_clients_in_different_places() {
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
        let text = invitation(&manifest, &listeners).unwrap();
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "dig -b 127.1.0.7 @127.0.0.1 -p 5300 sqs.example # vpc-b, az1",
            "dig -b 127.1.128.7 @127.0.0.1 -p 5300 sqs.example # vpc-b, az2\u{fffd}",
            "dig -b 127.4.0.7 @127.2.0.53 -p 5300 sqs.example # dc, through the inbound endpoint",
            "dig -b 127.2.0.7 @127.0.0.1 -p 5300 sqs.example # vpc-a, az1",
        ];
        assert_eq!(lines[1..], expected);
        assert_eq!(invitation(&manifest, &["0.0.0.0:53".parse().unwrap()]), None);
        assert_eq!(invitation(&Manifest::default(), &listeners), None);
    }
}
