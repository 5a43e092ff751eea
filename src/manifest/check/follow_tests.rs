//! The check of a changed manifest reports the same problems as a full check.

use super::*;
use crate::manifest::{ResourceRecordSet, VpcEndpoint, decode::decode, document};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::json;
use std::sync::Arc;

const BASE: &str = "\
vpcs:
  a: {region: r, cidr_blocks: [10.1.0.0/16], availability_zones: {r-a: az1, r-b: az2}}
  b: {region: r, cidr_blocks: [10.2.0.0/16], availability_zones: {r-a: az1}}
vpc_endpoint_services:
  s3: {owner_id: amazon, region: r, dns_name: s3.vpce.example, private_dns_names: [s3.example]}
  also: {owner_id: amazon, region: r, dns_name: also.vpce.example, private_dns_names: [also.example, s3.example]}
zonal_shifts:
  z: {resource: s3, away_from: az3}
private_hosted_zones:
  Z1: {name: corp.example, vpc_ids: []}
forwarders:
  f: {vpc_id: a, cidr_blocks: [10.1.0.7/32]}
";

/// For each identifier, the versions of the endpoint. It can also be missing.
const ENDPOINTS: &[(&str, &[&str])] = &[
    (
        "vpce-1",
        &[
            // Without conflict; in an AZ without a name, which the shift omits; with a name of the
            // next endpoint.
            "service_name: s3, vpc_id: a, network_interfaces: [{availability_zone_id: az1, ipv4: 10.1.0.1}]",
            "service_name: s3, vpc_id: b, private_dns_enabled: true, network_interfaces: [{availability_zone_id: az3, ipv4: 10.2.0.1}]",
            "service_name: s3, vpc_id: a, dns_name_suffix: r-a, network_interfaces: [{availability_zone_id: az1, ipv4: 10.1.0.4}]",
        ],
    ),
    // Its name is a zonal name of the first endpoint.
    ("VPCE-1-r-a", &["service_name: s3, vpc_id: b, network_interfaces: [{availability_zone_id: az1, ipv4: 10.2.0.2}]"]),
    (
        "vpce-2",
        &[
            // The address of the first endpoint; the private names of the third; a scope without
            // connected VPCs.
            "service_name: also, vpc_id: a, network_interfaces: [{availability_zone_id: az2, ipv4: 10.1.0.1}]",
            "service_name: also, vpc_id: b, private_dns_enabled: true, network_interfaces: [{availability_zone_id: az1, ipv4: 10.2.0.3}]",
            "service_name: also, vpc_id: b, private_dns_scope: [a], network_interfaces: [{availability_zone_id: az1, ipv4: 10.2.0.3}]",
        ],
    ),
    (
        "vpce-3",
        &[
            // For inbound endpoints only, which needs the Gateway endpoint; with an unknown
            // service.
            "service_name: s3, vpc_id: b, private_dns_enabled: true, dns_options: \
             {private_dns_only_for_inbound_resolver_endpoint: true}, \
             network_interfaces: [{availability_zone_id: az2, ipv4: 10.2.0.4}]",
            "service_name: gone, vpc_id: b",
        ],
    ),
    ("vpce-4", &["service_name: s3, vpc_id: b, vpc_endpoint_type: Gateway"]),
];

fn manifest(text: &str) -> Manifest {
    decode(&document::read(text.as_bytes(), false).0.unwrap()).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes:?}"))
}

fn endpoint(fields: &str) -> Arc<VpcEndpoint> {
    let kind = if fields.contains("vpc_endpoint_type") { "" } else { ", vpc_endpoint_type: Interface" };
    manifest(&format!("vpc_endpoints: {{x: {{{fields}, state: Available{kind}}}}}")).vpc_endpoints["x"].clone()
}

#[test]
fn change_of_endpoints_has_the_problems_of_a_full_check() {
    let base = manifest(BASE);
    let endpoints: Vec<(&str, Vec<Arc<VpcEndpoint>>)> =
        ENDPOINTS.iter().map(|(id, all)| (*id, all.iter().map(|fields| endpoint(fields)).collect())).collect();
    let sizes: Vec<usize> = endpoints.iter().map(|(_, all)| all.len() + 1).collect();
    // A number for each choice of endpoints.
    let chosen = |mut number: usize| {
        let mut manifest = base.clone();
        for ((id, all), size) in endpoints.iter().zip(&sizes) {
            if let Some(endpoint) = all.get(number % size) {
                manifest.vpc_endpoints.insert(id.to_string(), endpoint.clone());
            }
            number /= size;
        }
        manifest
    };
    let all: Vec<Manifest> = (0..sizes.iter().product()).map(chosen).collect();
    let connectivity = Connectivity::new(&base);
    let checked: Vec<Checked> = all.iter().map(|manifest| Checked::new(manifest, &connectivity, 0)).collect();
    let has_errors = |checked: &Checked| checked.problems().iter().any(Problem::is_error);
    let (broken, valid): (Vec<usize>, Vec<usize>) = (0..all.len()).partition(|at| has_errors(&checked[*at]));
    assert!(broken.len() > 50 && valid.len() > 50, "{} broken, {} valid", broken.len(), valid.len());
    for old in valid {
        for new in 0..all.len() {
            let followed = checked[old].follow(&all[old], &all[new], &connectivity, 0).problems();
            let (from, to) = (&all[old].vpc_endpoints, &all[new].vpc_endpoints);
            assert_eq!(followed, checked[new].problems(), "from {from:#?} to {to:#?}");
        }
    }
}

#[test]
fn change_of_any_other_kind_is_checked() {
    let old = manifest(BASE);
    let checked = Checked::new(&old, &Connectivity::new(&old), 0);
    for (part, other, expected) in [
        ("[10.1.0.7/32]", "[10.1.0.7/32], speaks_for: [c]", "error: forwarders.f.speaks_for[0]: there is no VPC"),
        ("vpc_ids: []", "vpc_ids: [c]", "error: private_hosted_zones.Z1.vpc_ids[0]: there is no VPC `c`"),
        ("resource: s3", "resource: s4", "error: zonal_shifts.z.resource: there is no endpoint or service"),
        ("{vpc_id: a,", "{vpc_id: b,", "error: forwarders.f.cidr_blocks[0]: 10.1.0.7/32 is outside"),
    ] {
        assert_eq!(BASE.matches(part).count(), 1, "{part}");
        let new = manifest(&BASE.replace(part, other));
        let found = checked.follow(&old, &new, &Connectivity::new(&new), 0).problems();
        assert!(found.iter().any(|problem| problem.to_string().starts_with(expected)), "{other}\n{found:#?}");
    }
}

/// Record sets without problems, with warnings, and with errors: alone, or beside others.
fn record_sets() -> Vec<Arc<ResourceRecordSet>> {
    let weighted = |name: &str, identifier: &str, weight: u8| {
        json!({"name": name, "type": "A", "records": ["192.0.2.1"], "set_identifier": identifier,
            "weighted_routing_policy": {"weight": weight}})
    };
    let all = [
        json!({"name": "a", "type": "A", "records": ["192.0.2.1"]}),
        json!({"name": "A.corp.example.", "type": "A", "records": ["192.0.2.2"]}),
        json!({"name": "a", "type": "AAAA", "records": ["2001:db8::1", "2001:db8::1"]}),
        json!({"name": "b", "type": "A", "records": ["192.0.2.1"], "protection_comment": "no"}),
        json!({"name": "b", "type": "A", "records": ["192.0.2.1"]}),
        json!({"name": "c", "type": "A", "ttl": 5, "alias": {"name": "a.corp.example"}}),
        json!({"name": "@", "type": "A", "alias": {"name": "a.corp.example"}}),
        json!({"name": "c", "type": "TXT", "records": ["a b"]}),
        json!({"name": "c", "type": "NOTHING", "records": ["x"]}),
        json!({"name": "c", "type": "A"}),
        json!({"name": "e", "type": "A", "records": ["192.0.2.1"], "health_check_id": "h"}),
        weighted("a", "one", 0),
        weighted("d", "one", 0),
        weighted("d", "two", 0),
        weighted("d", "three", 1),
    ];
    all.into_iter().map(|set| Arc::new(serde_json::from_value(set).unwrap())).collect()
}

proptest! {
    #[test]
    fn change_of_record_sets_has_the_problems_of_a_full_check(
        steps in vec((0..12_usize, proptest::option::of(select(record_sets())), any::<bool>()), 1..30),
    ) {
        let mut old = manifest(BASE);
        let connectivity = Connectivity::new(&old);
        let mut checked = Checked::new(&old, &connectivity, 0);
        for (at, set, is_indexed) in steps {
            let mut zone = (*old.private_hosted_zones["Z1"]).clone();
            if is_indexed {
                zone.records.index(&zone.name);
            }
            let current = zone.records.iter().nth(at).cloned();
            // Each version has allocations of its own.
            let set = set.map(|set| Arc::new((*set).clone()));
            zone.records.replace(current.as_ref(), set);
            let mut new = old.clone();
            new.private_hosted_zones.insert("Z1".into(), Arc::new(zone));
            let followed = checked.follow(&old, &new, &connectivity, 0);
            prop_assert_eq!(followed.problems(), Checked::new(&new, &connectivity, 0).problems());
            if !followed.problems().iter().any(Problem::is_error) {
                (old, checked) = (new, followed);
            }
        }
    }
}
