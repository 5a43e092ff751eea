//! Generated worlds. A list of numbers determines everything. Fewer and smaller numbers make a
//! simpler world, so proptest shrinks a world by shrinking its list.

use super::{
    names::{A, AAAA, ANY, CNAME, DNAME, DS, Data, MX, N, NS, PTR, Rr, SOA, SRV, TXT, name, text, under},
    networks::{self, Net},
    oracle::{Ask, World},
    policies::{collection, groups, health_checks, place, profiles},
    zone::{Found, Outside, Zone},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};
use zonal::manifest::{Manifest, Resources};

/// The list of numbers. Behind its end, all numbers are 0.
pub struct Dice<'a> {
    numbers: &'a [u16],
    at: usize,
}

impl<'a> Dice<'a> {
    pub fn new(numbers: &'a [u16]) -> Dice<'a> {
        Dice { numbers, at: 0 }
    }

    pub fn below(&mut self, count: usize) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        (number as usize * count) >> 16
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    pub fn pick<'b, T>(&mut self, list: &'b [T]) -> &'b T {
        &list[self.below(list.len())]
    }
}

/// 2026-11-24T10:00:00Z.
pub const NOW: i64 = 1_795_514_400;
const SHARED: &str = "vpc-b";
const REGIONS: [&str; 2] = ["us-east-1", "eu-west-1"];

fn azs(region: &str) -> [&'static str; 3] {
    if region == REGIONS[0] { ["use1-az1", "use1-az2", "use1-az3"] } else { ["euw1-az1", "euw1-az2", "euw1-az3"] }
}

pub fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

pub fn add<T: DeserializeOwned>(kind: &mut Resources<T>, id: impl Into<String>, value: Value) {
    kind.insert(id.into(), Arc::new(read(value)));
}

/// A world with networks, endpoints, zones and rules.
pub fn world(dice: &mut Dice) -> World {
    let mut world = World { now: NOW, ..World::default() };
    networks(dice, &mut world.manifest);
    services(dice, &mut world.manifest);
    endpoints(dice, &mut world.manifest);
    entry_points(dice, &mut world.manifest);
    health_checks(dice, &mut world);
    add(&mut world.manifest.cidr_collections, "places", collection(dice));
    let targets = targets(&world.manifest);
    for number in 0..dice.below(5) {
        zone(dice, &mut world, number, &targets);
    }
    rules(dice, &mut world.manifest);
    profiles(dice, &mut world.manifest);
    world.internet = dice.percent(50);
    world
}

fn networks(dice: &mut Dice, manifest: &mut Manifest) {
    let count = 2 + dice.below(4);
    for number in 0..count {
        // In some worlds the last VPC has the first VPC's addresses, and is then connected to no
        // other network.
        let block = if number == count - 1 && count > 3 && dice.percent(30) { 0 } else { number };
        let region = REGIONS[usize::from(dice.percent(20))];
        let turn = dice.below(3);
        let az_names: BTreeMap<String, &str> =
            (0..3).map(|n| (format!("{region}{}", ['a', 'b', 'c'][n]), azs(region)[(n + turn) % 3])).collect();
        let mut blocks = vec![format!("10.{block}.0.0/16")];
        let mut first = vec![format!("10.{block}.0.0/20")];
        if dice.percent(60) {
            blocks.push(format!("fd00:{block}::/56"));
            first.push(format!("fd00:{block}::/64"));
        }
        let mut subnets = json!({
            "subnet-1": {"availability_zone_id": azs(region)[0], "cidr_blocks": first},
            "subnet-2": {"availability_zone_id": azs(region)[1], "cidr_blocks": [format!("10.{block}.16.0/20")]}});
        if dice.percent(30) {
            subnets["subnet-3"] =
                json!({"availability_zone_id": azs(region)[2], "cidr_blocks": [format!("10.{block}.32.0/24")]});
        }
        let entry_points = if dice.percent(70) { vec![format!("127.0.{number}.2")] } else { Vec::new() };
        let value = json!({"owner_id": "1", "region": region, "cidr_blocks": blocks, "resolver_addresses": entry_points,
            "enable_dns_support": !dice.percent(5), "enable_dns_hostnames": !dice.percent(8),
            "autodefined_reverse": *dice.pick(&[None, None, None, Some(true), Some(true), Some(false)]), "availability_zones": az_names, "subnets": subnets});
        add(&mut manifest.vpcs, format!("vpc-{}", ['a', 'b', 'c', 'd', 'e'][number]), value);
    }
    let first = &manifest.vpcs["vpc-a"].cidr_blocks[0];
    let ids: Vec<String> = manifest
        .vpcs
        .iter()
        .filter(|(id, vpc)| *id == "vpc-a" || vpc.cidr_blocks[0] != *first)
        .map(|(id, _)| id.clone())
        .collect();
    for number in 0..dice.below(4) {
        let (a, b) = (dice.pick(&ids).clone(), dice.pick(&ids).clone());
        if a != b {
            let status = *dice.pick(&["active", "active", "active", "pending-acceptance", "deleted"]);
            let value = json!({"vpc_ids": [a, b], "status": status,
                "allow_remote_vpc_dns_resolution": dice.percent(50)});
            add(&mut manifest.vpc_peering_connections, format!("pcx-{number}"), value);
        }
    }
    for number in 0..dice.below(3) {
        let mut value = json!({"cidr_blocks": [format!("192.168.{number}.0/24"), format!("fd01:{number}::/64")]});
        if dice.percent(60) {
            value["vpc_ids"] = json!([dice.pick(&ids)]);
        }
        if dice.percent(60) {
            value["availability_zone_id"] = json!(dice.pick(&azs(REGIONS[0])));
        }
        if dice.percent(40) {
            value["coordinates"] = place(dice);
        }
        add(&mut manifest.on_premises_networks, format!("dc-{number}"), value);
    }
    let places: Vec<String> = manifest.on_premises_networks.keys().cloned().collect();
    let gateways = dice.below(4);
    for number in 0..gateways {
        let mut attachments = Vec::new();
        for _ in 0..dice.below(5) {
            let mut attachment = if !places.is_empty() && dice.percent(25) {
                json!({"on_premises_network_id": dice.pick(&places)})
            } else {
                json!({"vpc_id": dice.pick(&ids)})
            };
            routing(dice, &mut attachment);
            attachments.push(attachment);
        }
        // Peerings form a chain. Each peering is listed at both ends or at one end.
        for other in [number.wrapping_sub(1), number + 1] {
            if other < gateways && dice.percent(60) {
                let mut attachment = json!({"transit_gateway_id": format!("tgw-{other}")});
                routing(dice, &mut attachment);
                attachments.push(attachment);
            }
        }
        let value = json!({"region": REGIONS[0], "attachments": attachments});
        add(&mut manifest.transit_gateways, format!("tgw-{number}"), value);
    }
}

fn routing(dice: &mut Dice, attachment: &mut Value) {
    attachment["dns_support"] = json!(!dice.percent(20));
    if dice.percent(25) {
        attachment["route_table"] = json!(dice.pick(&["spokes", "shared"]));
    }
    if dice.percent(25) {
        attachment["propagates_to"] = dice.pick(&[json!(["shared"]), json!(["spokes", "shared"]), json!([])]).clone();
    }
}

fn services(dice: &mut Dice, manifest: &mut Manifest) {
    let aws: [(&str, &[&str]); 5] = [
        ("sqs", &["sqs.us-east-1.aws.test"]),
        ("s3", &["s3.us-east-1.aws.test", "*.s3.us-east-1.aws.test"]),
        ("dkr", &["*.dkr.us-east-1.aws.test"]),
        ("sub", &["a.sqs.us-east-1.aws.test", "b.dkr.us-east-1.aws.test"]),
        ("new", &["new.us-east-1.api.aws", "new.us-east-1.aws.test"]),
    ];
    for (id, names) in aws {
        let value = json!({"owner_id": "amazon", "region": "us-east-1",
            "dns_name": format!("{id}.us-east-1.vpce.example"), "private_dns_names": names});
        add(&mut manifest.vpc_endpoint_services, format!("com.amazonaws.us-east-1.{id}"), value);
    }
    for (id, names) in [("one", &["api.saas.test"][..]), ("two", &["*.a.saas.test"][..])] {
        let state = *dice.pick(&["verified", "verified", "verified", "pendingVerification", "failed"]);
        let value = json!({"owner_id": "9", "region": "us-east-1", "private_dns_names": names,
            "dns_name": format!("vpce-svc-{id}.us-east-1.vpce.example"),
            "private_dns_name_configuration": {"state": state}});
        add(&mut manifest.vpc_endpoint_services, format!("com.amazonaws.vpce.us-east-1.vpce-svc-{id}"), value);
    }
}

fn endpoints(dice: &mut Dice, manifest: &mut Manifest) {
    let services: Vec<String> = manifest.vpc_endpoint_services.keys().cloned().collect();
    let vpcs: Vec<String> = manifest.vpcs.keys().cloned().collect();
    let mut taken = Vec::new();
    for number in 0..2 + dice.below(7) {
        let service = dice.pick(&services).clone();
        let home = if dice.percent(40) { SHARED.to_owned() } else { dice.pick(&vpcs).clone() };
        let vpc = manifest.vpcs[&home].clone();
        let kind = *dice.pick(&[
            "Interface",
            "Interface",
            "Interface",
            "Interface",
            "Interface",
            "Interface",
            "GatewayLoadBalancer",
        ]);
        let states = [
            "Available",
            "Available",
            "Available",
            "Available",
            "Available",
            "Available",
            "Partial",
            "Pending",
            "Pending",
            "PendingAcceptance",
            "Deleting",
            "Deleted",
            "Rejected",
            "Failed",
            "Expired",
        ];
        let state = *dice.pick(&states);
        let wants_private = dice.percent(75) && !taken.contains(&(service.clone(), home.clone()));
        if wants_private {
            taken.push((service.clone(), home.clone()));
        }
        let scope = match dice.below(4) {
            0 | 1 => json!("connected"),
            2 => json!("vpc"),
            _ => {
                let mut listed = vpcs.clone();
                listed.retain(|_| dice.percent(50));
                json!(listed)
            }
        };
        let inbound_only = wants_private && dice.percent(10);
        if inbound_only {
            let gateway = json!({"vpc_endpoint_type": "Gateway", "service_name": service, "vpc_id": home,
                "state": "Available"});
            add(&mut manifest.vpc_endpoints, format!("vpce-gw{number}"), gateway);
        }
        let block: u8 = vpc.cidr_blocks[0].to_string().split('.').nth(1).and_then(|b| b.parse().ok()).unwrap_or(0);
        let mut interfaces = Vec::new();
        for (az, subnet) in vpc.subnets.values().enumerate() {
            if dice.percent(25) {
                continue;
            }
            let mut interface = json!({"availability_zone_id": subnet.availability_zone_id});
            if !dice.percent(10) {
                interface["ipv4"] = json!(Ipv4Addr::new(10, block, az as u8 * 16, 20 + number as u8));
            }
            if az == 0 && vpc.cidr_blocks.len() > 1 && !dice.percent(30) {
                interface["ipv6"] = json!(format!("fd00:{block}::{}", 20 + number));
            }
            if dice.percent(20) {
                interface["health"] = json!("unhealthy");
            }
            interfaces.push(interface);
        }
        let policies = ["availability_zone_affinity", "partial_availability_zone_affinity", "any_availability_zone"];
        let types = ["ipv4", "dualstack", "ipv6", "service-defined"];
        let mut value = json!({"vpc_endpoint_type": kind, "service_name": service, "vpc_id": home, "state": state,
            "private_dns_enabled": wants_private, "private_dns_scope": scope,
            "dns_options": {"dns_record_ip_type": dice.pick(&types),
                "private_dns_only_for_inbound_resolver_endpoint": inbound_only},
            "client_routing_policy": dice.pick(&policies), "network_interfaces": interfaces});
        if dice.percent(60) {
            value["dns_name_suffix"] = json!(format!("Sfx{number}"));
        }
        add(&mut manifest.vpc_endpoints, format!("vpce-{number}"), value);
    }
    for number in 0..dice.below(3) {
        let mut resources: Vec<String> = vec!["*".into()];
        resources.extend(manifest.vpc_endpoints.keys().cloned());
        resources.extend(services.iter().cloned());
        let mut value = json!({"resource": dice.pick(&resources), "away_from": dice.pick(&azs(REGIONS[0]))});
        let ends = [None, Some(-3600), Some(-1), Some(0), Some(1), Some(3600)];
        if let Some(offset) = dice.pick(&ends) {
            let end = jiff::Timestamp::from_second(NOW + offset).expect("in range");
            value["expires_at"] = json!(end.to_string());
        }
        add(&mut manifest.zonal_shifts, format!("zs-{number}"), value);
    }
}

fn entry_points(dice: &mut Dice, manifest: &mut Manifest) {
    let vpcs: Vec<String> = manifest.vpcs.keys().cloned().collect();
    for number in 0..dice.below(4) {
        let direction = *dice.pick(&["INBOUND", "INBOUND", "INBOUND", "INBOUND_DELEGATION", "OUTBOUND"]);
        let home = if dice.percent(50) { SHARED } else { dice.pick(&vpcs) };
        let protocols = if dice.percent(8) { json!(["DoT"]) } else { json!(["Do53"]) };
        let mut value = json!({"direction": direction, "vpc_id": home, "protocols": protocols, "ip_addresses": [
            {"ip": format!("127.1.{number}.53"), "availability_zone_id": "use1-az1"},
            {"ip": format!("127.2.{number}.53"), "availability_zone_id": "use1-az2"}]});
        if dice.percent(25) {
            value["allowed_cidr_blocks"] = json!(["10.0.0.0/18", "192.168.0.0/25", "203.0.113.0/24"]);
        }
        add(&mut manifest.resolver_endpoints, format!("rslvr-{number}"), value);
    }
}

fn rules(dice: &mut Dice, manifest: &mut Manifest) {
    let vpcs: Vec<String> = manifest.vpcs.keys().cloned().collect();
    let domains = [
        ".",
        "test",
        "a.test",
        "b.a.test",
        "aws.test",
        "sqs.us-east-1.aws.test",
        "onprem.example",
        "a.onprem.example",
        "10.in-addr.arpa",
        "vpce.example",
        "c.test",
    ];
    for number in 0..dice.below(5) {
        let domain = *dice.pick(&domains);
        let mut listed = vpcs.clone();
        listed.retain(|id| {
            dice.percent(60)
                && !manifest.resolver_rules.values().any(|rule| {
                    rule.vpc_ids.contains(id)
                        && rule.domain_name.to_string().trim_end_matches('.') == domain.trim_end_matches('.')
                })
        });
        let kind = *dice.pick(&["FORWARD", "SYSTEM", "FORWARD", "RECURSIVE"]);
        let mut value = json!({"domain_name": domain, "rule_type": kind, "vpc_ids": listed,
            "enabled": !dice.percent(15)});
        if kind == "FORWARD" {
            value["target_ips"] = json!([{"ip": "192.168.0.53"}]);
        }
        add(&mut manifest.resolver_rules, format!("rslvr-rr-{number}"), value);
    }
}

/// The names that endpoints can have: Regional, zonal and private.
fn targets(manifest: &Manifest) -> Vec<N> {
    let mut out = Vec::new();
    for (id, endpoint) in &manifest.vpc_endpoints {
        let service = &manifest.vpc_endpoint_services[&endpoint.service_name];
        let label = match &endpoint.dns_name_suffix {
            Some(suffix) => format!("{id}-{suffix}"),
            None => id.clone(),
        };
        let parent = service.dns_name.to_string();
        out.push(name(&format!("{label}.{parent}")));
        for (az_name, az) in &manifest.vpcs[&endpoint.vpc_id].availability_zones {
            if endpoint.network_interfaces.iter().any(|i| i.availability_zone_id == *az) {
                out.push(name(&format!("{label}-{az_name}.{parent}")));
            }
        }
    }
    out
}

fn private_names(manifest: &Manifest) -> Vec<N> {
    let services = manifest.vpc_endpoint_services.values();
    let names = services.flat_map(|service| &service.private_dns_names).map(|private| name(&private.to_string()));
    names.map(|labels| if labels[0] == "*" { under("any", &labels[1..]) } else { labels }).collect()
}

const ZONES: [&str; 10] = [
    "a.test",
    "test",
    "b.a.test",
    "aws.test",
    "sqs.us-east-1.aws.test",
    "c.b.a.test",
    "c.test",
    "saas.test",
    "10.in-addr.arpa",
    "any.dkr.us-east-1.aws.test",
];

fn zone(dice: &mut Dice, world: &mut World, number: usize, endpoints: &[N]) {
    let apex = *dice.pick(&ZONES);
    let id = format!("Z{number}");
    let mut vpcs: Vec<String> = world.manifest.vpcs.keys().cloned().collect();
    vpcs.retain(|vpc| {
        dice.percent(70)
            && !world
                .manifest
                .private_hosted_zones
                .values()
                .any(|zone| zone.vpc_ids.contains(vpc) && name(&zone.name.to_string()) == name(apex))
    });
    let mut outside = private_names(&world.manifest);
    outside.extend(endpoints.iter().cloned());
    outside.extend(["a.test", "b.a.test", "x.c.test", "x.onprem.example", "nowhere.example"].map(name));
    let count = dice.below(15);
    let content = records(dice, &name(apex), count, &outside);
    let mut aliases = Vec::new();
    let plain = Zone::of(name(apex), content.clone(), Vec::new(), Vec::new());
    let nothing = Outside { is_above: &|_| false, choose: &|_| Vec::new() };
    for alias in 0..dice.below(4) {
        let label = ["@", "alias", "b.alias", "*.b"][alias];
        let owner = if label == "@" { name(apex) } else { [name(label), name(apex)].concat() };
        let rtype = *dice.pick(&["A", "AAAA"]);
        let number = if rtype == "A" { A } else { AAAA };
        let free = !content
            .iter()
            .any(|rr| rr.owner == owner && matches!(rr.rtype, CNAME | DNAME | NS) && rr.owner != name(apex))
            && !content.iter().any(|rr| rr.owner == owner && rr.rtype == number);
        let has = |rr: &&Rr| matches!(plain.search(&rr.owner, number, &nothing), Found::Records(_));
        let owners: Vec<N> = content.iter().filter(has).map(|rr| rr.owner.clone()).collect();
        let target = match dice.below(4) {
            0 | 1 if !endpoints.is_empty() => dice.pick(endpoints).clone(),
            _ if owners.is_empty() => continue,
            _ => dice.pick(&owners).clone(),
        };
        if free && target != owner {
            let mut shown = text(&target);
            if dice.percent(50) {
                shown.pop();
            }
            aliases.push(json!({"name": label, "type": rtype, "alias": {"name": shown}}));
        }
    }
    let has = |rr: &&Rr| matches!(plain.search(&rr.owner, A, &nothing), Found::Records(_));
    let addresses: Vec<N> = content.iter().filter(has).map(|rr| rr.owner.clone()).collect();
    // A DNAME at the apex hides all other names.
    if !content.iter().any(|rr| rr.owner == name(apex) && rr.rtype == DNAME) {
        groups(dice, apex, endpoints, &addresses, &world.manifest, &mut aliases);
    }
    let value = json!({"name": apex, "vpc_ids": vpcs, "file": format!("{id}.zone"), "fallthrough": dice.percent(25),
        "records": aliases});
    add(&mut world.manifest.private_hosted_zones, id.clone(), value);
    world.data.insert(id, content);
}

/// Valid records of a zone at about `count` names. They cover the special cases of RFC 1034, RFC
/// 4592 and RFC 6672.
pub fn records(dice: &mut Dice, apex: &[String], count: usize, outside: &[N]) -> Vec<Rr> {
    let numbers = [1, 7200, 900, 1_209_600, *dice.pick(&[60, 5, 3600])];
    let soa = Data::Soa(under("ns", apex), under("hostmaster", apex), numbers);
    let mut out = vec![Rr::new(apex, SOA, 300, soa)];
    if !dice.percent(15) {
        out.push(Rr::new(apex, NS, 300, Data::Name(under("a", apex))));
    }
    let mut pool: Vec<N> = outside.to_vec();
    for _ in 0..count {
        let mut owner = apex.to_vec();
        for _ in 0..dice.below(4) {
            let label = *dice.pick(&["a", "b", "*", "c"]);
            owner = under(label, &owner);
        }
        pool.push(owner.clone());
        let here: Vec<u16> = out.iter().filter(|rr| rr.owner == owner).map(|rr| rr.rtype).collect();
        let bare = owner.iter().all(|label| label != "*");
        let at_apex = owner == apex;
        let target = |dice: &mut Dice| {
            let label = *dice.pick(&["a", "b", "x", "c"]);
            let near = under(label, if dice.percent(50) { &owner[1..] } else { apex });
            if dice.percent(55) { near } else { dice.pick(&pool).clone() }
        };
        let kind = dice.below(12);
        if here.contains(&CNAME) || (here.contains(&NS) && !at_apex && kind != 6) {
            continue;
        }
        let ttl = here.first().map_or_else(|| *dice.pick(&[300, 60, 0]), |_| 300);
        let mut push = |rtype: u16, data: Data| {
            let ttl = out.iter().find(|rr| rr.owner == owner && rr.rtype == rtype).map_or(ttl, |rr| rr.ttl);
            let rr = Rr::new(&owner, rtype, ttl, data);
            if !out.contains(&rr) {
                out.push(rr);
            }
        };
        match kind {
            0 | 1 => (0..=dice.below(3)).for_each(|n| push(A, Data::v4(10, 0, 200, n as u8 + 1))),
            2 => push(AAAA, Data::v6(dice.below(3) as u16)),
            3 => push(TXT, Data::Txt(format!("text {}", dice.below(3)))),
            4 | 5 if here.is_empty() && !at_apex => push(CNAME, Data::Name(target(dice))),
            6 if bare && !at_apex && here.iter().all(|rtype| matches!(*rtype, NS | DS)) => {
                let server = if dice.percent(60) { under("ns", &owner) } else { target(dice) };
                push(NS, Data::Name(server.clone()));
                if dice.percent(30) {
                    push(DS, Data::Ds(dice.below(9) as u16, [7; 20]));
                }
                if server == under("ns", &owner) && dice.percent(70) {
                    out.push(Rr::new(&server, A, 300, Data::v4(10, 0, 201, 1)));
                }
            }
            7 if bare && here.iter().all(|rtype| !matches!(*rtype, DNAME | DS) && (at_apex || *rtype != NS)) => {
                push(DNAME, Data::Name(target(dice)));
            }
            8 => push(MX, Data::Mx(10, target(dice))),
            9 => push(SRV, Data::Srv(1, 2, 443, target(dice))),
            10 => push(PTR, Data::Name(target(dice))),
            _ => push(TXT, Data::Txt("more".into())),
        }
    }
    out.retain(|rr| !(rr.rtype == DS && rr.owner == apex));
    dedup(out)
}

/// Removes records that cannot exist beside others of the same name.
fn dedup(records: Vec<Rr>) -> Vec<Rr> {
    let mut out: Vec<Rr> = Vec::new();
    for rr in records {
        let with_cname = |other: &Rr| other.owner == rr.owner && (other.rtype == CNAME || rr.rtype == CNAME);
        if !out.contains(&rr) && !out.iter().any(with_cname) {
            out.push(rr);
        }
    }
    out
}

/// The names of a world that are worth a query.
pub fn interesting(world: &World) -> Vec<N> {
    let manifest = &world.manifest;
    let mut out = targets(manifest);
    out.extend(private_names(manifest));
    for (id, zone) in &manifest.private_hosted_zones {
        let apex = name(&zone.name.to_string());
        for set in &zone.records {
            out.push([name(set.name.trim_matches('@')), apex.clone()].concat());
        }
        out.push(apex);
        out.extend(world.data.get(id).into_iter().flatten().map(|rr| rr.owner.clone()));
    }
    out.extend(manifest.resolver_rules.values().map(|rule| name(&rule.domain_name.to_string())));
    let fixed = [
        "ip-10-0-0-5.ec2.internal",
        "ip-10-1-3-4.ec2.internal",
        "ip-10-2-0-1.eu-west-1.compute.internal",
        "ip-10-0-0-5.eu-west-1.compute.internal",
        "5.0.0.10.in-addr.arpa",
        "4.3.1.10.in-addr.arpa",
        "0.10.in-addr.arpa",
        "1.0.99.10.in-addr.arpa",
        "10.in-addr.arpa",
        "ec2.internal",
        "localhost",
        "nowhere.example",
    ];
    out.extend(fixed.map(name));
    out
}

/// A query for a name of the pool or a related name. Most queries are not refused.
pub fn ask(dice: &mut Dice, world: &World, pool: &[N]) -> Ask {
    let mut ask = any_ask(dice, world, pool);
    for _ in 0..4 {
        if dice.percent(90) && world.ask(&ask, true).rcode == 5 {
            ask = any_ask(dice, world, pool);
        }
    }
    ask
}

fn any_ask(dice: &mut Dice, world: &World, pool: &[N]) -> Ask {
    let source = source(dice, world);
    let local = local(dice, world, source);
    let mut asked = dice.pick(pool).clone();
    let mut types = vec![A, A, A, AAAA, AAAA, CNAME, NS, SOA, MX, TXT, DS, ANY, PTR, SRV, DNAME];
    if dice.percent(50) {
        // Types that the name has.
        let here = world.data.values().flatten().filter(|rr| rr.owner == asked).map(|rr| rr.rtype);
        types.truncate(4);
        types.extend(here.flat_map(|rtype| [rtype; 4]));
    } else {
        for _ in 0..dice.below(3) {
            match dice.below(5) {
                0 => asked = under("zz", &asked),
                1 => {
                    let label = *dice.pick(&["a", "b", "*", "zz"]);
                    asked = under(label, &asked);
                }
                2 if !asked.is_empty() => drop(asked.remove(0)),
                3 if !asked.is_empty() => asked[0] = (*dice.pick(&["a", "b", "c", "*", "zz"])).into(),
                _ => {}
            }
        }
    }
    Ask { source, local, name: asked, qtype: *dice.pick(&types), rd: !dice.percent(30) }
}

/// An address of a network, of an interface, or of neither.
pub fn source(dice: &mut Dice, world: &World) -> IpAddr {
    let vpcs: Vec<String> = world.manifest.vpcs.keys().cloned().collect();
    let block = |dice: &mut Dice| {
        let net = Net::Vpc(dice.pick(&vpcs).clone());
        (0..=9u8).find(|b| networks::contains(&world.manifest, &net, Ipv4Addr::new(10, *b, 0, 1).into())).unwrap_or(0)
    };
    match dice.below(20) {
        0..=13 => {
            let third = *dice.pick(&[0, 16, 32, 100]);
            Ipv4Addr::new(10, block(dice), third, 5).into()
        }
        14 | 15 => Ipv6Addr::new(0xfd00, u16::from(block(dice)), 0, dice.below(2) as u16, 0, 0, 0, 5).into(),
        16 | 17 => Ipv4Addr::new(192, 168, dice.below(3) as u8, *dice.pick(&[5, 200])).into(),
        18 => Ipv6Addr::new(0xfd01, dice.below(2) as u16, 0, 0, 0, 0, 0, 5).into(),
        _ => (*dice.pick(&[Ipv4Addr::new(203, 0, 113, 7), Ipv4Addr::new(8, 8, 8, 8)])).into(),
    }
}

/// An entry point. Most entry points permit the client.
fn local(dice: &mut Dice, world: &World, source: IpAddr) -> IpAddr {
    let mut entry_points: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
    entry_points.extend(world.manifest.vpcs.values().flat_map(|vpc| vpc.resolver_addresses.iter().copied()));
    entry_points.extend(world.manifest.resolver_endpoints.values().flat_map(|e| e.ip_addresses.iter().map(|a| a.ip)));
    if dice.percent(85) {
        let open: Vec<IpAddr> =
            entry_points.iter().copied().filter(|entry_point| world.who(source, *entry_point).is_some()).collect();
        if !open.is_empty() {
            return *dice.pick(&open);
        }
    }
    *dice.pick(&entry_points)
}
