//! A change of names, tags and data of AWS's API compiles nothing anew.

use super::{Node, Snapshot, compile};
use crate::manifest::{KINDS, Loaded, ResourceChange};
use serde_json::{Value, json};
use std::sync::Arc;

fn manifest() -> Value {
    json!({
        "vpcs": {
            "vpc-a": {"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"], "resolver_addresses": ["10.1.0.2"],
                "availability_zones": {"us-east-1a": "use1-az1"},
                "subnets": {"subnet-a": {"availability_zone_id": "use1-az1", "cidr_blocks": ["10.1.0.0/20"]}}},
            "vpc-b": {"region": "us-east-1", "cidr_blocks": ["10.2.0.0/16"]},
        },
        "dhcp_options": {"dopt-1": {"domain_name": "a.example"}},
        "security_groups": {"sg-1": {"vpc_id": "vpc-a"}},
        "delegation_sets": {"N1": {"name_servers": ["ns1.example"]}},
        "vpc_peering_connections": {"pcx-1": {"vpc_ids": ["vpc-a", "vpc-b"]}},
        "transit_gateways": {"tgw-1": {"attachments": [{"vpc_id": "vpc-a"}, {"vpc_id": "vpc-b"}]}},
        "on_premises_networks": {"dc": {"cidr_blocks": ["10.9.0.0/16"], "vpc_ids": ["vpc-a"]}},
        "vpc_endpoint_services": {"svc": {"owner_id": "amazon", "region": "us-east-1", "dns_name": "svc.vpce.example",
            "private_dns_names": ["svc.example"]}},
        "vpc_endpoints": {"vpce-1": {"vpc_endpoint_type": "Interface", "service_name": "svc", "vpc_id": "vpc-a",
            "state": "Available", "private_dns_enabled": true, "private_dns_scope": "connected", "network_interfaces": [
                {"availability_zone_id": "use1-az1", "ipv4": "10.1.0.9"}]}},
        "private_hosted_zones": {
            "Z1": {"name": "z.example", "vpc_ids": ["vpc-a"], "records": [{"name": "www", "type": "A", "records": ["10.1.0.1"]}]},
            "Z2": {"name": "p.example", "public": true},
        },
        "resolver_endpoints": {"rslvr-in-1": {"vpc_id": "vpc-a", "ip_addresses": [{"ip": "10.1.0.53"}]}},
        "resolver_rules": {"rslvr-rr-1": {"domain_name": "r.example", "rule_type": "FORWARD", "vpc_ids": ["vpc-a"],
            "target_ips": [{"ip": "192.0.2.1"}]}},
        "forwarders": {"f": {"vpc_id": "vpc-a", "cidr_blocks": ["10.1.0.7/32"]}},
        "query_log_configs": {"rqlc-1": {"vpc_ids": ["vpc-a"], "destination": {"stdout": {}}}},
        "zonal_shifts": {"zs-1": {"resource": "*", "away_from": "use1-az9"}},
        "cidr_collections": {"cc-1": {"locations": {"here": ["10.9.0.0/16"]}}},
        "profiles": {"rp-1": {"vpc_endpoints": ["vpce-1"]}},
        "firewall_domain_lists": {"fdl-1": {"domains": ["bad.example"]}},
        "firewall_rule_groups": {"frg-1": {"vpc_associations": [{"vpc_id": "vpc-a", "priority": 101}], "rules": [
            {"name": "r", "priority": 1, "action": "BLOCK", "firewall_domain_list_id": "fdl-1"}]}},
        "health_checks": {"hc-1": {"type": "TCP", "ip_address": "10.1.0.9", "port": 80}},
    })
}

fn compile_after(manifest: &Value, previous: Option<&Snapshot>) -> Snapshot {
    let manifest = Arc::new(serde_json::from_value(manifest.clone()).unwrap());
    // As sources do: a resource that did not change is the same allocation.
    let mut shared = previous.map_or_else(Default::default, |previous| (*previous.manifest).clone());
    for ResourceChange { kind, id, old, new } in crate::manifest::Manifest::resource_changes(&manifest, &shared.clone())
    {
        match new {
            Some(new) if old.as_ref() != Some(&new) => drop(shared.put(&id, new)),
            Some(_) => {}
            None => drop(shared.remove(kind, &id)),
        }
    }
    let loaded = Loaded { manifest: Arc::new(shared), ..Loaded::default() };
    let compiled = compile(&loaded, &Arc::new(Node::default()), previous);
    compiled.unwrap_or_else(|problems| panic!("{problems:?}")).0
}

/// The compiled parts that are not the same allocation in both snapshots.
fn recompiled(old: &Snapshot, new: &Snapshot) -> Vec<&'static str> {
    let zones = old.zones().zip(new.zones()).all(|(old, new)| Arc::ptr_eq(old, new));
    let endpoint = |snapshot: &Snapshot| snapshot.endpoints.get(0).map(|endpoint| endpoint as *const _ as usize);
    let parts = [
        ("views", Arc::ptr_eq(&old.views, &new.views)),
        ("networks", Arc::ptr_eq(&old.networks, &new.networks)),
        ("query logs", Arc::ptr_eq(&old.query_logs, &new.query_logs)),
        (
            "firewall",
            Arc::ptr_eq(&old.firewall, &new.firewall) && Arc::ptr_eq(&old.firewall_lists, &new.firewall_lists),
        ),
        ("health targets", old.health_targets.is_same(&new.health_targets)),
        ("zones", zones && old.zones().len() == new.zones().len()),
        ("endpoints", endpoint(old).is_some() && endpoint(old) == endpoint(new)),
    ];
    parts.iter().filter(|(_, is_same)| !is_same).map(|(part, _)| *part).collect()
}

#[test]
fn a_change_of_tags_alone_recompiles_nothing() {
    let mut edited = manifest();
    let first = compile_after(&edited, None);
    let mut last = compile_after(&edited, Some(&first));
    assert!(recompiled(&first, &last).is_empty(), "{:?}", recompiled(&first, &last));
    let kinds: Vec<&str> = KINDS.iter().copied().filter(|kind| edited.get(*kind).is_some()).collect();
    assert!(kinds.len() == KINDS.len());
    for (number, kind) in kinds.into_iter().enumerate() {
        for resource in edited[kind].as_object_mut().unwrap().values_mut() {
            resource["tags"] = json!({"number": number.to_string()});
            resource["aws"] = json!({"created": number});
            if kind != "private_hosted_zones" {
                resource["name"] = json!(format!("{kind}-{number}"));
            }
        }
        let next = compile_after(&edited, Some(&last));
        assert!(recompiled(&first, &next).is_empty(), "{kind}: {:?}", recompiled(&first, &next));
        assert_eq!(next.generation, last.generation + 1);
        // Readers of the manifest see the new tags.
        let mut is_there = false;
        next.manifest.each_of(kind, None, |_, resource| {
            let resource: Value = serde_json::from_slice(&resource.to_json()).unwrap();
            is_there = resource["tags"]["number"] == number.to_string().as_str();
            is_there
        });
        assert!(is_there, "{kind}");
        last = next;
    }
    // Nested resources have tags too.
    edited["vpcs"]["vpc-a"]["subnets"]["subnet-a"]["tags"] = json!({"a": "b"});
    edited["vpcs"]["vpc-a"]["dhcp_options_id"] = json!("dopt-1");
    edited["transit_gateways"]["tgw-1"]["attachments"][0]["attachment_id"] = json!("tgw-attach-1");
    edited["vpc_endpoints"]["vpce-1"]["network_interfaces"][0]["network_interface_id"] = json!("eni-1");
    edited["resolver_endpoints"]["rslvr-in-1"]["ip_addresses"][0]["ip_id"] = json!("rni-1");
    let next = compile_after(&edited, Some(&last));
    assert!(recompiled(&first, &next).is_empty(), "{:?}", recompiled(&first, &next));
}

#[test]
fn a_change_of_answers_together_with_tags_is_compiled() {
    let mut edited = manifest();
    let first = compile_after(&edited, None);
    edited["resolver_rules"]["rslvr-rr-1"]["tags"] = json!({"a": "b"});
    let second = compile_after(&edited, Some(&first));
    edited["resolver_rules"]["rslvr-rr-1"]["domain_name"] = json!("other.example");
    edited["private_hosted_zones"]["Z1"]["tags"] = json!({"a": "b"});
    edited["private_hosted_zones"]["Z1"]["records"][0]["records"] = json!(["10.1.0.2"]);
    let third = compile_after(&edited, Some(&second));
    assert_eq!(recompiled(&second, &third), ["views", "zones"]);
    let rule = |snapshot: &Snapshot| {
        let view = snapshot.views.iter().find(|view| snapshot.views.policies(view).is_some()).unwrap();
        let rules = snapshot.views.policies(view).unwrap().names.iter().filter_map(|(_, policy)| policy.rule.as_ref());
        rules.map(|rule| rule.resource.domain_name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((rule(&second), rule(&third)), (vec!["r.example.".into()], vec!["other.example.".into()]));
    edited["vpcs"].as_object_mut().unwrap().remove("vpc-b");
    edited["vpc_peering_connections"] = json!({});
    edited["transit_gateways"] = json!({});
    let fourth = compile_after(&edited, Some(&third));
    assert!(recompiled(&third, &fourth).contains(&"networks"));
    assert!(fourth.manifest.vpcs.get("vpc-b").is_none());
}
