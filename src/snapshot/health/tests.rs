use super::*;
use crate::{
    manifest::{Loaded, Resources},
    snapshot::{Node, Snapshot, compile},
};

const MANIFEST: &str = r#"{
    "vpcs": {"v": {"region": "r", "cidr_blocks": ["10.0.0.0/8", "fd00::/16"], "availability_zones": {"r-a": "az1", "r-b": "az2"}}},
    "vpc_endpoint_services": {"s": {"owner_id": "amazon", "region": "r", "dns_name": "s.example",
        "private_dns_names": ["*.p.example", "p.example"], "health_check": {"type": "HTTPS"}}},
    "vpc_endpoints": {"e": {"vpc_endpoint_type": "Interface", "vpc_id": "v", "state": "Available", "service_name": "s",
        "private_dns_enabled": true, "network_interfaces": [
            {"availability_zone_id": "az1", "ipv4": "10.0.0.1", "ipv6": "fd00::1"},
            {"availability_zone_id": "az2", "ipv4": "10.0.0.2"}]}},
    "health_checks": {
        "tcp": {"type": "TCP", "ip_address": "10.0.0.9", "port": 5432},
        "all": {"type": "CALCULATED", "child_health_checks": ["tcp"], "health_threshold": 1}}}"#;

fn snapshot(value: &serde_json::Value, previous: Option<&Snapshot>) -> Result<Snapshot, Vec<Problem>> {
    let mut manifest: Manifest = serde_json::from_value(value.clone()).unwrap();
    if let Some(previous) = previous {
        let old = &previous.manifest;
        share(&mut manifest.vpcs, &old.vpcs);
        share(&mut manifest.vpc_endpoint_services, &old.vpc_endpoint_services);
        share(&mut manifest.vpc_endpoints, &old.vpc_endpoints);
        share(&mut manifest.health_checks, &old.health_checks);
    }
    let loaded = Loaded { manifest: Arc::new(manifest), ..Loaded::default() };
    compile(&loaded, &Arc::new(Node::default()), previous).map(|(snapshot, _)| snapshot)
}

/// Shares equal resources between two manifests, as loading does.
fn share<T: PartialEq>(new: &mut Resources<T>, old: &Resources<T>) {
    for (id, old) in old {
        if new.get(id) == Some(old) {
            new.insert(id.clone(), old.clone());
        }
    }
}

fn ids(snapshot: &Snapshot) -> Vec<String> {
    snapshot.health_targets.iter().map(|target| target.id.to_string()).collect()
}

#[test]
fn each_address_of_an_interface_and_each_check_is_a_target() {
    let value = serde_json::from_str(MANIFEST).unwrap();
    let first = snapshot(&value, None).unwrap();
    assert_eq!(ids(&first), ["all", "tcp", "e/10.0.0.1", "e/10.0.0.2", "e/fd00::1"]);
    let interface = TargetId::parse("e/fd00::1");
    let Work::Probe(probe) = &first.health_targets.get(&interface).unwrap().work else { panic!("no probe") };
    assert_eq!((probe.question.port, probe.question.max_status), (443, 499));
    assert_eq!(probe.question.name.as_ref().unwrap().to_string(), "p.example.", "the first name that is no wildcard");
}

#[test]
fn an_interface_is_used_for_the_families_whose_address_is_healthy() {
    use crate::snapshot::endpoints::Family;
    let value = serde_json::from_str(MANIFEST).unwrap();
    let first = snapshot(&value, None).unwrap();
    let endpoint = first.endpoints.iter().next().unwrap();
    let usable = |family| endpoint.interfaces.iter().map(|i| i.is_usable(family, None, 0)).collect::<Vec<_>>();
    assert_eq!((usable(Family::V4), usable(Family::V6)), (vec![true, true], vec![true, true]));
    first.health_targets.get(&TargetId::parse("e/10.0.0.1")).unwrap().verdict.set(false);
    assert_eq!((usable(Family::V4), usable(Family::V6)), (vec![false, true], vec![true, true]));
}

#[test]
fn a_verdict_is_kept_as_long_as_the_same_is_asked_of_the_same_address() {
    let mut value: serde_json::Value = serde_json::from_str(MANIFEST).unwrap();
    let mut last = snapshot(&value, None).unwrap();
    last.health_targets.iter().for_each(|target| target.verdict.set(false));
    let healthy = |snapshot: &Snapshot| -> Vec<String> {
        let all = snapshot.health_targets.iter().filter(|target| target.verdict.is_healthy());
        all.map(|target| target.id.to_string()).collect()
    };
    for (path, new, expected) in [
        ("/vpc_endpoints/e/network_interfaces/0/availability_zone_id", "az3".into(), &[][..]),
        ("/health_checks/tcp/request_interval", 10.into(), &[]),
        ("/health_checks/tcp/port", 5433.into(), &["tcp"]),
        ("/vpc_endpoint_services/s/health_check/failure_threshold", 5.into(), &[]),
        ("/vpc_endpoint_services/s/health_check/port", 8443.into(), &["e/10.0.0.1", "e/10.0.0.2", "e/fd00::1"]),
        ("/vpc_endpoints/e/network_interfaces/1/ipv4", "10.0.0.3".into(), &["e/10.0.0.3"]),
        ("/vpc_endpoints/e/state", "Deleted".into(), &[]),
        ("/vpc_endpoints/e/state", "Available".into(), &["e/10.0.0.1", "e/10.0.0.3", "e/fd00::1"]),
    ] {
        let (parent, key) = path.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[key] = new;
        let next = snapshot(&value, Some(&last)).unwrap();
        assert_eq!(healthy(&next), expected, "{path}");
        next.health_targets.iter().for_each(|target| target.verdict.set(false));
        let anew = snapshot(&value, None).unwrap();
        assert_eq!(ids(&next), ids(&anew), "{path}");
        last = next;
    }
}

#[test]
fn checks_ask_only_networks_of_the_manifest_and_allowed_blocks() {
    let mut value: serde_json::Value = serde_json::from_str(MANIFEST).unwrap();
    value["vpcs"]["v"]["cidr_blocks"] = serde_json::json!(["0.0.0.0/1", "169.0.0.0/8", "fd00::/16", "fe80::/10"]);
    for (address, is_allowed) in [
        ("10.0.0.9", true),
        ("192.0.2.1", false),
        ("169.254.169.254", false),
        ("fe80::1", false),
        ("fd00:ec2::254", false),
    ] {
        value["health_checks"]["tcp"]["ip_address"] = address.into();
        let result = snapshot(&value, None);
        assert_eq!(result.is_ok(), is_allowed, "{address}");
        if let Err(problems) = result {
            assert_eq!(problems[0].message, format!("{address} is in no network of the manifest"));
        }
        let node = Node { health_allow: vec![address.parse::<IpAddr>().unwrap().into()], ..Node::default() };
        let manifest: Manifest = serde_json::from_value(value.clone()).unwrap();
        let loaded = Loaded { manifest: Arc::new(manifest), ..Loaded::default() };
        assert!(compile(&loaded, &Arc::new(node), None).is_ok(), "{address} is allowed by the node");
    }
}

#[test]
fn a_name_leads_checks_only_to_networks_that_its_vpc_reaches() {
    let manifest = serde_json::json!({
        "vpcs": {
            "v": {"region": "r", "cidr_blocks": ["10.0.0.0/16", "169.254.0.0/16"]},
            "near": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]},
            "other": {"region": "r", "cidr_blocks": ["10.2.0.0/16"]},
        },
        "vpc_peering_connections": {"p": {"vpc_ids": ["v", "near"]}},
    });
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    let node = Node { health_allow: vec!["192.0.2.0/24".parse().unwrap()], ..Node::default() };
    let snapshot = compile(&loaded, &Arc::new(node), None).unwrap().0;
    for (vpc, address, is_allowed) in [
        ("v", "10.0.0.1", true),
        ("v", "10.1.0.1", true),
        ("v", "10.2.0.1", false),
        ("v", "::ffff:10.2.0.1", false),
        ("v", "169.254.169.254", false),
        ("v", "192.0.2.1", true),
        ("v", "198.51.100.1", false),
        ("other", "10.2.0.1", true),
        ("gone", "10.2.0.1", false),
    ] {
        assert_eq!(snapshot.may_check_from(vpc, address.parse().unwrap()), is_allowed, "{vpc} {address}");
    }
}

#[test]
fn a_disabled_check_is_healthy_or_if_inverted_unhealthy_from_the_first_snapshot() {
    let mut value: serde_json::Value = serde_json::from_str(MANIFEST).unwrap();
    let mut set = |disabled: bool, inverted: bool, previous: Option<&Snapshot>| {
        value["health_checks"]["tcp"]["disabled"] = disabled.into();
        value["health_checks"]["tcp"]["inverted"] = inverted.into();
        let snapshot = snapshot(&value, previous).unwrap();
        let is_healthy = snapshot.health_targets.get(&TargetId::parse("tcp")).unwrap().verdict.is_healthy();
        (snapshot, is_healthy)
    };
    let (first, is_healthy) = set(true, false, None);
    assert!(is_healthy);
    let (second, is_healthy) = set(true, true, Some(&first));
    assert!(!is_healthy);
    let (third, is_healthy) = set(true, false, Some(&second));
    assert!(is_healthy);
    let (_, is_healthy) = set(false, true, Some(&third));
    assert!(is_healthy, "an enabled check counts as healthy until it has failed");
}
