//! Tests of the clients that forwarders may name, and of the scope of answers, for every address of small networks.

use super::*;
use crate::snapshot::endpoints::Azs;
use serde_json::{Value, json};

fn networks(manifest: Value) -> Networks {
    let manifest: Manifest = serde_json::from_value(manifest).unwrap();
    Networks::compile(&manifest, &mut Azs::default(), &[])
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// VPCs with the same addresses and different entry points, and a forwarder at the same address in two of them.
fn overlapping() -> Networks {
    let vpc = |entry_point: &str| {
        json!({"region": "r", "cidr_blocks": ["10.2.0.0/16"], "resolver_addresses": [entry_point],
               "subnets": {"s": {"availability_zone_id": "az1", "cidr_blocks": ["10.2.0.0/24"]}}})
    };
    let forwarder = |vpc: &str, identity: &str| json!({"vpc_id": vpc, "cidr_blocks": ["10.2.0.20/32"], "client_identity": identity});
    networks(json!({
        "vpcs": {"a": vpc("10.2.0.2"), "b": vpc("10.2.0.3"), "c": vpc("10.2.0.4")},
        "forwarders": {"f": forwarder("a", "edns_client_subnet"), "g": forwarder("b", "proxy_protocol_v2")},
    }))
}

#[test]
fn a_forwarder_counts_only_in_its_own_network() {
    let networks = overlapping();
    let at = |source: &str, entry_point: &str| {
        networks
            .forwarder(address(source), address(entry_point), Protocol::Do53)
            .map(|(forwarder, _)| forwarder.id.as_str())
    };
    assert_eq!(at("10.2.0.20", "10.2.0.2"), Some("f"));
    assert_eq!(at("10.2.0.20", "10.2.0.3"), Some("g"));
    assert_eq!(at("10.2.0.20", "10.2.0.4"), None, "a client like any other");
    assert_eq!(at("10.2.0.20", "192.0.2.1"), None, "the address is not an entry point");
    assert_eq!(at("10.2.0.21", "10.2.0.2"), None);
}

#[test]
fn the_vpc_endpoint_in_the_header_decides_between_overlapping_vpcs() {
    let networks = overlapping();
    let (forwarder, _) = networks.forwarder(address("10.2.0.20"), address("10.2.0.3"), Protocol::Do53).unwrap();
    let (a, b) = (networks.vpc_at("a"), networks.vpc_at("b"));
    let named = |source: &str, local: &str, vpc| {
        networks.named(forwarder, address(source), address(local), Protocol::Do53, vpc).map(|found| Some(found.vpc))
    };
    let no_entry_point = "192.0.2.1";
    assert_eq!(named("10.2.0.7", no_entry_point, None), Err(Refusal::SeveralNetworks));
    assert_eq!(named("10.2.0.7", no_entry_point, b), Ok(b));
    assert_eq!(named("10.2.0.7", no_entry_point, a), Err(Refusal::ClientNotAllowed));
    assert_eq!(named("10.9.0.7", no_entry_point, b), Err(Refusal::UnknownNetwork), "it is not in that VPC");
    assert_eq!(named("10.2.0.7", "10.2.0.3", None), Ok(b));
    assert_eq!(
        named("10.2.0.7", "10.2.0.2", None),
        Err(Refusal::ClientNotAllowed),
        "that entry point belongs to another VPC"
    );
}

/// Networks in 256 addresses, and entry points of all kinds.
fn world(random: &mut dyn FnMut(u32) -> u32) -> Value {
    let mut block = |shortest: u32| {
        let len = shortest + random(33 - shortest);
        let start = random(256) & !((1u32 << (32 - len)) - 1);
        format!("10.0.0.{start}/{len}")
    };
    let mut vpcs = serde_json::Map::new();
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        let blocks = [block(24), block(26)];
        let subnets = json!({
            "s1": {"availability_zone_id": "az1", "cidr_blocks": [block(26)]},
            "s2": {"availability_zone_id": "az2", "cidr_blocks": [block(25), block(28)]},
            "s3": {"availability_zone_id": "az1", "cidr_blocks": [block(27)], "enable_dns64": at == 0},
        });
        let vpc = json!({"region": "r", "cidr_blocks": blocks, "resolver_addresses": [format!("10.9.0.{at}")],
                         "subnets": subnets});
        vpcs.insert(id.into(), vpc);
    }
    let inbound = |ip: &str, allowed: Value| {
        json!({"vpc_id": "a", "allowed_cidr_blocks": allowed,
               "ip_addresses": [{"ip": ip, "availability_zone_id": "az3"}]})
    };
    json!({
        "vpcs": vpcs,
        "vpc_peering_connections": {"ab": {"vpc_ids": ["a", "b"], "status": "active"}},
        "on_premises_networks": {
            "dc": {"cidr_blocks": [block(26)], "vpc_ids": ["a"], "availability_zone_id": "az2"},
            "far": {"cidr_blocks": [block(26)], "vpc_ids": ["c"]},
        },
        "resolver_endpoints": {
            "in": inbound("10.9.1.1", json!([])),
            "some": inbound("10.9.1.2", json!([block(25), block(26), block(26)])),
        },
        "forwarders": {"f": {"vpc_id": "a", "cidr_blocks": ["10.0.0.0/24"], "speaks_for": ["a", "b", "c", "dc", "far"]}},
    })
}

#[test]
fn every_address_in_the_scope_of_an_answer_gets_this_answer() {
    let mut state = 11u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let (mut identified, mut refused, mut longer) = (0, 0, 0);
    for _ in 0..60 {
        let manifest = world(&mut random);
        let networks = networks(manifest.clone());
        let every: Vec<&Forwarder> = networks.forwarders.v4.values().flatten().collect();
        let forwarder = every[0];
        let at = |last: u32| IpAddr::from([10, 0, 0, last as u8]);
        for entry_point in ["10.9.0.0", "10.9.0.1", "10.9.0.2", "10.9.1.1", "10.9.1.2", "192.0.2.1"].map(address) {
            // The view, network, AZ and DNS64 of each address that sends a query itself.
            let own: Vec<_> = (0..256)
                .map(|last| {
                    let found = networks.identify(at(last), entry_point, Protocol::Do53).ok()?;
                    let dns64 = found.subnet.is_some_and(|subnet| networks.subnets[subnet as usize].dns64);
                    Some((found.view(), found.network, found.az, dns64))
                })
                .collect();
            let holders: Vec<bool> = (0..256).map(|last| !networks.holding(at(last)).is_empty()).collect();
            for _ in 0..80 {
                let (last, len) = (random(256), 24 + random(9) as u8);
                let prefix = IpNet::new(at(last), len).unwrap().trunc();
                let within = |len: u8| {
                    let block = IpNet::new(prefix.addr(), len).unwrap().trunc();
                    (0..256usize).filter(move |other| block.contains(&at(*other as u32)))
                };
                let first = prefix.addr().to_string().rsplit('.').next().unwrap().parse::<usize>().unwrap();
                let clients: Vec<_> = within(len).filter(|other| holders[*other]).map(|other| own[other]).collect();
                let found = networks.named_by_prefix(forwarder, prefix, entry_point, Protocol::Do53);
                let context = || format!("{prefix} at {entry_point} in {manifest:#}");
                let Ok((found, scope)) = found else {
                    // A prefix is refused if it is in several networks, or if a client in it is refused.
                    let network = |client: &Option<(_, Option<NetworkAt>, _, _)>| client.and_then(|client| client.1);
                    let is_one = clients.first().is_some_and(|one| {
                        network(one).is_some() && clients.iter().all(|other| network(other) == network(one))
                    });
                    let is_allowed = || {
                        networks
                            .entry_points
                            .get(&entry_point)
                            .and_then(|entry_point| entry_point.allowed.as_ref())
                            .is_none_or(|allowed| allowed.iter().any(|block| block.contains(&prefix)))
                    };
                    assert!(!is_one || !is_allowed(), "{}", context());
                    refused += 1;
                    continue;
                };
                identified += 1;
                // Whether no other network has addresses in the prefix.
                let alone = |len: u8| {
                    let members = within(len).flat_map(|other| networks.holding(at(other as u32)));
                    members.into_iter().all(|member| Some(member.network) == found.network)
                };
                let answered = (found.view(), found.network, found.az);
                for client in &clients {
                    let client = client.unwrap_or_else(|| panic!("{}", context()));
                    assert_eq!((client.0, client.1), (found.view(), found.network), "{}", context());
                }
                if scope <= len {
                    // Every address in the scope gets this answer.
                    let mine = own[first].unwrap_or_else(|| panic!("{}", context()));
                    assert_eq!((mine.0, mine.1, mine.2), answered, "{}", context());
                    assert!(within(scope).all(|other| own[other] == Some(mine)), "scope {scope}: {}", context());
                    // The scope is as short as possible, if no other network has addresses in the shorter prefix.
                    let is_decisive = scope > 24 && alone(scope - 1);
                    assert!(
                        !is_decisive || within(scope - 1).any(|other| own[other] != Some(mine)),
                        "scope {scope}: {}",
                        context()
                    );
                } else {
                    longer += 1;
                    // A longer prefix would give a more exact answer.
                    let mine = own[first];
                    let is_alike = mine.is_some() && within(len).all(|other| own[other] == mine);
                    let has_subnet = networks.holding(prefix.addr()).iter().any(|member| member.subnet.is_some());
                    assert!(!is_alike || has_subnet || !alone(len), "scope {scope}: {}", context());
                }
            }
        }
    }
    assert!(
        identified > 2000 && refused > 2000 && longer > 300,
        "{identified} identified, {refused} refused, {longer} with a longer scope"
    );
}
