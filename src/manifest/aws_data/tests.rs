use super::*;
use crate::manifest::{decode::decode, document};
use serde_json::json;

fn read<T: de::DeserializeOwned + JsonSchema>(text: &str) -> Result<T, Vec<String>> {
    let (node, errors) = document::read(text.as_bytes(), false);
    assert!(errors.is_empty(), "{errors:?}");
    let errors = |errors: Vec<crate::manifest::decode::ValueError>| {
        errors.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
    };
    decode(&node.unwrap()).map_err(errors)
}

#[test]
fn keeps_opaque_data_with_the_types_that_yaml_gives_them() {
    let text = "{vpc_ids: [a], name: z.example, tags: {team: net, cost: 7}, aws: {n: 7, half: 0.5, yes: true, none: null, \
                account: 000000000042, text: '7', list: [1, {deep: [x]}], map: {}}}";
    let zone: PrivateHostedZone = read(text).unwrap();
    assert_eq!(zone.tags["cost"], "7");
    let expected = json!({"n": 7, "half": 0.5, "yes": true, "none": null, "account": "000000000042", "text": "7",
                          "list": [1, {"deep": ["x"]}], "map": {}});
    assert_eq!(serde_json::to_value(&zone.aws).unwrap(), expected);
    let json = serde_json::to_string(&zone).unwrap();
    assert_eq!(serde_json::from_str::<PrivateHostedZone>(&json).unwrap(), zone);
}

#[test]
fn refuses_metadata_of_another_type() {
    let errors = read::<ZonalShift>("{resource: '*', away_from: a, tags: [a], aws: [b], name: {c: d}}").unwrap_err();
    assert_eq!(
        errors,
        ["tags: expected a map, found a list", "aws: expected a map", "name: expected text, found a map"]
    );
    let errors = read::<ZonalShift>("{resource: '*', away_from: a, tags: {a: [b]}}").unwrap_err();
    assert_eq!(errors, ["tags.a: expected text, found a list"]);
}

#[test]
fn leaves_resources_without_metadata_as_they_were() {
    let shift: ZonalShift = read("{resource: '*', away_from: a}").unwrap();
    assert_eq!(serde_json::to_string(&shift).unwrap(), r#"{"resource":"*","away_from":"a"}"#);
}

/// A manifest with a resource of each kind, with metadata wherever there can be some.
fn manifest(tag: &str) -> Value {
    let with = |value: Value| {
        let mut value = value;
        value["name"] = json!(format!("name-{tag}"));
        value["tags"] = json!({"tag": tag});
        value["aws"] = json!({"created": tag});
        value
    };
    json!({
        "dhcp_options": {"dopt-1": with(json!({"domain_name": tag}))},
        "vpcs": {"vpc-a": with(json!({"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"], "dhcp_options_id": tag,
            "subnets": {"s": with(json!({"availability_zone_id": "az1", "cidr_blocks": ["10.1.0.0/20"]}))}}))},
        "vpc_peering_connections": {"pcx-1": with(json!({"vpc_ids": ["vpc-a", "vpc-b"]}))},
        "transit_gateways": {"tgw-1": with(json!({"attachments": [
            with(json!({"vpc_id": "vpc-a", "attachment_id": tag, "subnet_ids": [tag]}))]}))},
        "on_premises_networks": {"dc": with(json!({"cidr_blocks": ["10.9.0.0/16"]}))},
        "vpc_endpoint_services": {"svc": with(json!({"owner_id": "amazon", "region": "us-east-1", "dns_name": "s.example",
            "service_id": tag}))},
        "vpc_endpoints": {"vpce-1": with(json!({"vpc_endpoint_type": "Interface", "service_name": "svc", "vpc_id": "vpc-a",
            "state": "Available", "network_interfaces": [
                {"availability_zone_id": "az1", "ipv4": "10.1.0.9", "network_interface_id": tag, "subnet_id": tag}]}))},
        "zonal_shifts": {"zs-1": with(json!({"resource": "*", "away_from": "az1"}))},
        "private_hosted_zones": {"Z1": {"name": "z.example", "vpc_ids": ["vpc-a"], "tags": {"tag": tag}, "aws": {"tag": tag}}},
        "resolver_endpoints": {"rslvr-in-1": with(json!({"vpc_id": "vpc-a", "ip_addresses": [
            {"ip": "10.1.0.53", "ip_id": tag, "subnet_id": tag}]}))},
        "resolver_rules": {"rslvr-rr-1": with(json!({"domain_name": "r.example", "rule_type": "FORWARD",
            "target_ips": [{"ip": "192.0.2.1"}]}))},
        "forwarders": {"f": with(json!({"vpc_id": "vpc-a"}))},
        "query_log_configs": {"rqlc-1": with(json!({"destination": {"stdout": {}}}))},
        "health_checks": {"hc": with(json!({"type": "TCP", "ip_address": "10.1.0.9", "port": 80}))},
        "cidr_collections": {"cc": with(json!({"locations": {"here": ["10.9.0.0/16"]}}))},
        "profiles": {"rp": with(json!({"resolver_rules": ["rslvr-rr-1"]}))},
        "firewall_domain_lists": {"fdl": with(json!({"domains": ["bad.example"]}))},
        "firewall_rule_groups": {"frg": with(json!({"rules": []}))},
        "delegation_sets": {"N1": with(json!({"name_servers": ["ns1.example", "ns2.example"]}))},
        "security_groups": {"sg-1": with(json!({"vpc_id": "vpc-a", "ip_permissions": [{"IpProtocol": tag}]}))},
    })
}

fn parsed(value: &Value) -> Manifest {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn takes_resources_of_each_kind_as_unchanged_if_only_metadata_changed() {
    let (old, new) = (parsed(&manifest("one")), parsed(&manifest("two")));
    assert!(
        old.counts().all(|(_, count)| count == 1),
        "each kind has a resource: {:?}",
        old.counts().collect::<Vec<_>>()
    );
    assert_eq!(new.resource_changes(&old).len(), KINDS.len());
    let served = new.served_like(&old, &old);
    assert!(served.resource_changes(&old).is_empty());
    // The next change is found, although the served resource has older metadata.
    let mut edited = manifest("two");
    edited["resolver_rules"]["rslvr-rr-1"]["domain_name"] = json!("other.example");
    let edited = parsed(&edited);
    let mut next = new.clone();
    next.put("rslvr-rr-1", edited.resource("resolver_rules", "rslvr-rr-1").unwrap());
    next.remove("zonal_shifts", "zs-1");
    let later = next.served_like(&new, &served);
    let changed: Vec<_> = later.resource_changes(&served).into_iter().map(|change| change.id).collect();
    assert_eq!(changed, ["zs-1", "rslvr-rr-1"]);
    // The case of a name is content.
    let mut edited = manifest("three");
    edited["private_hosted_zones"]["Z1"]["name"] = json!("Z.example");
    let served = parsed(&edited).served_like(&new, &new);
    assert_eq!(served.resource_changes(&new).into_iter().map(|change| change.id).collect::<Vec<_>>(), ["Z1"]);
}
