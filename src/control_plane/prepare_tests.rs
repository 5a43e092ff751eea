use crate::{
    config::OnError,
    control_plane::{
        change::{Change, Position},
        current::empty_snapshot,
        guard::{Allowance, Deletions},
        publisher::Publisher,
        status::{Fallback, SetAsideResource, Status},
    },
    manifest::collection::{Edit, Key},
    snapshot::published::Published,
};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// A publisher, what it serves, and its status.
pub(in crate::control_plane) struct World {
    pub(in crate::control_plane) publisher: Publisher,
    pub(in crate::control_plane) snapshot: Published,
    pub(in crate::control_plane) status: Arc<Status>,
    pub(in crate::control_plane) revision: u64,
    /// The deletions that are intended.
    pub(in crate::control_plane) allowance: Allowance,
}

impl World {
    pub(in crate::control_plane) fn new(on_error: OnError, resources: &[(&str, &str)]) -> World {
        let node = Arc::default();
        let snapshot: Published = Arc::new(ArcSwap::from_pointee(empty_snapshot(&node)));
        let status = Arc::new(Status::default());
        let publisher = Publisher::new(snapshot.clone(), node, status.clone(), on_error, None);
        let mut world = World { publisher, snapshot, status, revision: 0, allowance: Allowance::default() };
        world.put(resources);
        world
    }

    /// Delivers resources as facts in one change. An empty text deletes a resource. Returns the
    /// revision of the change.
    pub(in crate::control_plane) fn put(&mut self, resources: &[(&str, &str)]) -> u64 {
        let edit = |(key, text): &(&str, &str)| {
            let (kind, id) = key.split_once('/').unwrap();
            let value = (!text.is_empty()).then(|| text.as_bytes().into());
            Edit { key: Key::new(kind, id).unwrap(), value }
        };
        self.revision += 1;
        let position = Position { revision: self.revision, ..Position::default() };
        let deletions = Deletions { allowance: self.allowance.clone(), ..Deletions::default() };
        self.publisher.apply(vec![Change::guarded_fact(resources.iter().map(edit).collect(), position, deletions)]);
        self.revision
    }

    /// The resources that are set aside, in the order of the status: `kind/id` if an older version
    /// is served, else `-kind/id`.
    pub(in crate::control_plane) fn set_aside(&self) -> Vec<String> {
        let text = |one: &SetAsideResource| {
            format!("{}{}/{}", if one.served == Fallback::Older { "" } else { "-" }, one.kind, one.id)
        };
        self.status.state().set_aside.iter().map(text).collect()
    }

    pub(in crate::control_plane) fn served(&self, key: &str) -> Option<String> {
        let (kind, id) = key.split_once('/').unwrap();
        let resource = self.snapshot.load().manifest.resource(kind, id)?;
        Some(String::from_utf8(resource.to_json()).unwrap())
    }
}

/// One resource of each kind, with several versions of it that have errors.
const EACH_KIND: &[(&str, &str, &[&str])] = &[
    (
        "vpcs/v",
        r#"{"region": "r", "cidr_blocks": ["10.0.0.0/16"], "availability_zones": {"r-a": "az1"}}"#,
        &[
            r#"{"region": "r", "cidr_blocks": ["10.0.0.0/99", "x"]}"#,
            r#"{"region": "r", "cidr_blocks": ["10.0.0.0/16"], "subnetz": [], "azs": {}}"#,
            r#"{"regionz": "r", "cidr_blocks": ["10.0.0.0/16"]}"#,
            // A single error, a value that does not fit, and text that is not JSON.
            r#"{"region": "r", "cidr_blocks": ["10.0.0.0/16"], "subnetz": []}"#,
            r#"{"region": "r", "cidr_blocks": ["10.0.0.0/16"], "resolver_addresses": ["10.0.0.2", "10.0.0.2", "10.0.0.2"]}"#,
            r#"{"region": "r", "cidr_blocks": ["10.0.0.0/16"], "subnets": [{"cidr_block": "11.0.0.0/24", "availability_zone_id": "az1"}, {"cidr_block": "12.0.0.0/24", "availability_zone_id": "az1"}]}"#,
            "{",
            "",
        ],
    ),
    ("vpcs/w", r#"{"region": "r", "cidr_blocks": ["10.1.0.0/16"]}"#, &[r#"{"region": 1, "cidr_blocks": 7}"#]),
    (
        "vpc_peering_connections/p",
        r#"{"vpc_ids": ["v", "w"]}"#,
        &[r#"{"vpc_idz": ["v"], "state": "w"}"#, r#"{"vpc_ids": ["x", "y"]}"#],
    ),
    (
        "transit_gateways/t",
        r#"{"attachments": [{"vpc_id": "w"}, {"on_premises_network_id": "o"}]}"#,
        &[
            r#"{"attachments": [{"vpc": "w"}, {"on_premises_network": "o"}]}"#,
            r#"{"attachments": [{"vpc_id": "x"}, {"on_premises_network_id": "y"}]}"#,
        ],
    ),
    (
        "on_premises_networks/o",
        r#"{"cidr_blocks": ["192.168.0.0/16"]}"#,
        &[r#"{"cidr_blocks": ["192.168.0.0/16", "a", "b"]}"#, r#"{"cidr": [], "x": 1}"#],
    ),
    (
        "vpc_endpoint_services/s",
        r#"{"owner_id": "amazon", "region": "r", "dns_name": "s.vpce.example", "private_dns_names": ["s.example"]}"#,
        &[
            r#"{"owner_id": "amazon", "region": "r", "dns_name": "s..vpce.example", "private_dns_names": ["..", "a..b"]}"#,
            r#"{"owner": "amazon", "region": "r", "dns_name": "s.vpce.example"}"#,
        ],
    ),
    (
        "vpc_endpoints/e",
        r#"{"vpc_endpoint_type": "Interface", "state": "Available", "service_name": "s", "vpc_id": "v", "private_dns_enabled": true, "network_interfaces": [{"availability_zone_id": "az1", "ipv4": "10.0.0.9"}]}"#,
        &[
            r#"{"vpc_endpoint_type": "Interface", "state": "Available", "service_name": "s", "vpc_idz": "v", "network_interfaces": [{"availability_zone_id": "az1", "ipv4": "10.0.0.9"}]}"#,
            r#"{"vpc_endpoint_type": "Interface", "state": "Available", "service_name": "s", "vpc_id": "v", "network_interfaces": [{"availability_zone_id": "az1", "ipv4": "10.9.0.9"}, {"availability_zone_id": "az1", "ipv4": "10.9.0.8"}]}"#,
            r#"{"vpc_endpoint_type": "Interface", "state": "Available", "service_name": "x", "vpc_id": "y", "network_interfaces": []}"#,
        ],
    ),
    (
        "zonal_shifts/z",
        r#"{"resource": "s", "away_from": "az1"}"#,
        &[r#"{"resource": "s", "away": "az1"}"#, r#"{"resource": "x", "away_from": 1, "y": 2}"#],
    ),
    (
        "private_hosted_zones/Z",
        r#"{"name": "z.example", "vpc_ids": ["v", "w"], "records": [{"name": "a", "type": "A", "records": ["10.10.0.66"]}, {"name": "b", "type": "A", "records": ["10.10.0.67"]}]}"#,
        &[
            r#"{"name": "z.example", "vpc_ids": ["v"], "records": [{"name": "a", "type": "A", "records": ["10.10.0.666"]}, {"name": "b", "type": "A", "records": ["10.10.0.666"]}]}"#,
            r#"{"name": "z.example", "vpc_ids": ["x", "y"], "records": [{"name": "a", "type": "A", "records": ["10.10.0.666"]}, {"name": "b", "type": "NONE", "records": ["x"]}]}"#,
            r#"{"name": "z.example", "vpc_id": ["v"], "record": []}"#,
            r#"{"name": "z.example", "vpc_ids": ["v"], "records": [{"name": "a", "type": "A", "records": ["10.10.0.1"]}, {"name": "a", "type": "CNAME", "records": ["b"]}, {"name": "b", "type": "A", "records": ["10.10.0.1"]}, {"name": "b", "type": "CNAME", "records": ["a"]}]}"#,
            r#"{"name": "z.example", "vpc_ids": ["v"], "file": "none.zone"}"#,
        ],
    ),
    ("master_files/f.zone", "@ 60 SOA ns h 1 1 1 1 60\n@ 60 NS ns\nns 60 A 10.0.0.1\n", &[]),
    (
        "private_hosted_zones/F",
        r#"{"name": "f.example", "vpc_ids": ["v"], "file": "f.zone"}"#,
        &[r#"{"name": "f.example", "vpc_ids": ["x"], "file": "none.zone"}"#],
    ),
    (
        "resolver_endpoints/out",
        r#"{"direction": "OUTBOUND", "vpc_id": "v", "ip_addresses": [{"ip": "10.0.0.20"}, {"ip": "10.0.0.21"}]}"#,
        &[
            r#"{"direction": "OUTWARD", "vpc_id": "v", "ip_addresses": [{"ip": "10.0.0.2000"}]}"#,
            r#"{"direction": "OUTBOUND", "vpc_id": "v", "ip_addresses": [{"ip": "10.9.0.20"}, {"ip": "10.9.0.21"}]}"#,
        ],
    ),
    (
        "resolver_rules/r",
        r#"{"domain_name": "r.example", "rule_type": "FORWARD", "vpc_ids": ["v"], "resolver_endpoint_id": "out", "target_ips": [{"ip": "192.168.0.1"}]}"#,
        &[
            r#"{"domain_name": "r..example", "rule_type": "FORWARDS", "vpc_ids": ["v"], "target_ips": [{"ip": "192.168.0.1"}]}"#,
            r#"{"domain_name": "r.example", "rule_type": "FORWARD", "vpc_ids": ["x", "y"], "resolver_endpoint_id": "none", "target_ips": [{"ip": "192.168.0.1"}]}"#,
            r#"{"domain": "r.example", "rule_type": "FORWARD", "vpc_ids": ["v"]}"#,
        ],
    ),
    (
        "forwarders/fw",
        r#"{"vpc_id": "v", "cidr_blocks": ["10.0.0.7/32"]}"#,
        &[
            r#"{"vpc": "v", "cidr_blocks": ["10.0.0.7/32"]}"#,
            r#"{"vpc_id": "x", "cidr_blocks": ["10.77.0.7/32", "10.78.0.7/32"]}"#,
        ],
    ),
    (
        "cidr_collections/c",
        r#"{"locations": {"here": ["10.0.0.0/20"], "there": ["10.1.0.0/20"]}}"#,
        &[
            r#"{"locations": {"here": ["10.0.0.0/99", "x"], "there": 7}}"#,
            r#"{"locations": {"here": ["10.0.0.0/20"], "there": ["10.0.0.0/20"], "*": []}}"#,
        ],
    ),
    (
        "profiles/rp",
        r#"{"private_hosted_zones": ["Z"], "resolver_rules": ["r"], "vpc_endpoints": ["e"], "query_log_configs": ["q"]}"#,
        &[
            r#"{"private_hosted_zones": "Z", "dnssec_validation": "maybe"}"#,
            r#"{"private_hosted_zone": ["Z"], "firewall_rule_groups": [{"id": "g"}]}"#,
        ],
    ),
    (
        "query_log_configs/q",
        r#"{"vpc_ids": ["v"], "destination": {"file": {"path": "q.json"}}}"#,
        &[
            r#"{"vpc_id": ["v"], "destination": {}}"#,
            r#"{"vpc_ids": ["x", "y"], "destination": {"file": {"path": "q.json"}}}"#,
        ],
    ),
];

fn each_kind() -> World {
    let all: Vec<(&str, &str)> = EACH_KIND.iter().map(|(key, text, _)| (*key, *text)).collect();
    let world = World::new(OnError::SetAside, &all);
    assert_eq!(world.set_aside(), [""; 0], "{:?}", world.status.state().set_aside);
    world
}

/// Whatever the errors of a resource are, its last version is served, and so are the resources that
/// refer to it.
#[test]
fn serves_the_last_good_version_of_a_resource_with_any_number_of_problems() {
    for (key, text, versions) in EACH_KIND {
        for broken in *versions {
            // An empty text deletes the resource, which another test does.
            if broken.is_empty() {
                continue;
            }
            let mut world = each_kind();
            let all = |world: &World| -> Vec<Option<String>> {
                EACH_KIND
                    .iter()
                    .filter(|(key, ..)| !key.starts_with("master"))
                    .map(|(key, ..)| world.served(key))
                    .collect()
            };
            let before = all(&world);
            world.put(&[(key, broken)]);
            assert_eq!(world.set_aside(), [*key], "{key}: {broken}: {:?}", world.status.state().set_aside);
            assert_eq!(all(&world), before, "{key}: {broken}");
            // The same holds after changes of other resources, valid or not.
            world.put(&[("vpcs/new", r#"{"region": "r", "cidr_blocks": ["10.200.0.0/16"]}"#)]);
            world.put(&[("vpcs/new", "{"), (key, broken)]);
            let expected = [key, "vpcs/new"];
            assert!(world.set_aside().iter().all(|key| expected.contains(&&**key)), "{:?}", world.set_aside());
            assert_eq!(all(&world), before, "{key}: {broken}");
            world.put(&[("vpcs/new", ""), (key, text)]);
            assert_eq!(world.set_aside(), [""; 0]);
        }
    }
}

/// All resources have errors at once: the last versions of all are served.
#[test]
fn serves_the_last_good_versions_when_everything_is_broken_at_once() {
    for at in 0..2 {
        let mut world = each_kind();
        let broken =
            EACH_KIND.iter().filter_map(|(key, _, versions)| Some((*key, *versions.get(at).or(versions.first())?)));
        let broken: Vec<(&str, &str)> = broken.collect();
        let before = world.snapshot.load().manifest.clone();
        world.put(&broken);
        let after = world.snapshot.load().manifest.clone();
        let lost: Vec<String> =
            before.resource_changes(&after).iter().map(|d| format!("{}/{}", d.kind, d.id)).collect();
        assert_eq!(lost, [""; 0], "{:?}", world.status.state().set_aside);
    }
}

/// A deleted resource is not served. Resources that refer to it are set aside, causes first.
#[test]
fn sets_aside_what_refers_to_a_deleted_resource() {
    let mut world = each_kind();
    // The deletion of the VPC takes nearly all resources along, which is intended.
    world.allowance.until = u64::MAX;
    world.put(&[("vpcs/v", ""), ("private_hosted_zones/F", "{")]);
    assert_eq!(world.served("vpcs/v"), None);
    for key in ["vpc_endpoints/e", "private_hosted_zones/Z", "resolver_endpoints/out", "resolver_rules/r"] {
        assert!(world.set_aside().contains(&format!("-{key}")), "{key} of {:?}", world.set_aside());
        assert_eq!(world.served(key), None, "{key}");
    }
    // The file of the zone cannot be read, and its last version refers to the VPC.
    assert_eq!(world.set_aside()[0], "-private_hosted_zones/F");
    world.put(&[("vpcs/v", EACH_KIND[0].1)]);
    assert!(world.served("private_hosted_zones/Z").is_some());
    assert_eq!(world.set_aside(), ["private_hosted_zones/F"], "what was served last is served again");
}

/// A Profile is served without a member that is deleted, and so are its VPCs.
#[test]
fn the_deletion_of_a_member_takes_neither_its_profile_nor_the_vpcs_along() {
    let mut world = each_kind();
    world.allowance.until = u64::MAX;
    world.put(&[("vpcs/w", r#"{"region": "r", "cidr_blocks": ["10.1.0.0/16"], "profiles": [{"profile_id": "rp"}]}"#)]);
    assert_eq!(world.set_aside(), [""; 0]);
    world.put(&[("resolver_rules/r", ""), ("private_hosted_zones/Z", "")]);
    assert_eq!(world.set_aside(), [""; 0]);
    assert!(world.served("profiles/rp").is_some() && world.served("vpcs/w").is_some());
    // A VPC that names a Profile is not served without it: the Profile may protect its clients.
    world.put(&[("profiles/rp", "")]);
    assert_eq!(world.set_aside()[0], "-vpcs/w");
}

/// The problems belong to a master file, and to the resource that names it.
#[test]
fn serves_the_last_good_records_of_a_broken_master_file() {
    let mut world = each_kind();
    let has = |world: &World, name: &str| {
        let name = crate::wire::Name::absolute(name).unwrap();
        world.snapshot.load().zone("F").is_some_and(|zone| zone.node_of(name.as_wire()).is_some())
    };
    for broken in ["", "@ 60 SOA ns h 1 1 1 1 60\nns 60 A 10.0.0.666\nm 60 MX x\n", "ns A\nns A\nns A\n"] {
        world.put(&[("master_files/f.zone", broken)]);
        assert_eq!(world.set_aside(), ["private_hosted_zones/F"], "{broken}");
        assert!(has(&world, "ns.f.example"), "{broken}");
        world.put(&[("private_hosted_zones/F", r#"{"name": "f.example", "vpc_ids": ["x"], "file": "f.zone"}"#)]);
        assert_eq!(world.set_aside(), ["private_hosted_zones/F"], "{broken}");
        assert!(has(&world, "ns.f.example"), "{broken}");
        world.put(&[("private_hosted_zones/F", r#"{"name": "f.example", "vpc_ids": ["v"], "file": "f.zone"}"#)]);
    }
    world
        .put(&[("master_files/f.zone", "@ 60 SOA ns h 1 1 1 1 60\n@ 60 NS ns\nns 60 A 10.0.0.1\nnew 60 A 10.0.0.2\n")]);
    assert_eq!(world.set_aside(), [""; 0]);
    assert!(has(&world, "new.f.example"));
}
