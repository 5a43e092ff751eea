//! Tests of answers from the members of Profiles.

use crate::{
    answer::{Client, PrefetchHint, Transport, find_prefetch_hint},
    explain::{Explanation, Question, Request, of_manifest},
    manifest::{Loaded, Manifest, share_unchanged},
    snapshot::{Node, Snapshot, compile},
    wire::{Name, query::LookupName},
};
use serde_json::{Value, json};
use std::sync::Arc;

fn compiled(manifest: &Value, previous: Option<&Snapshot>) -> Snapshot {
    let mut manifest: Manifest = serde_json::from_value(manifest.clone()).unwrap();
    previous.inspect(|previous| share_unchanged(&mut manifest, &previous.manifest));
    let loaded = Loaded { manifest: Arc::new(manifest), ..Loaded::default() };
    compile(&loaded, &Arc::new(Node::default()), previous).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

fn explained(snapshot: &Snapshot, from: &str, to: Option<&str>, name: &str, rtype: &str) -> Explanation {
    let (from, to) = (from.parse().unwrap(), to.map(|to| to.parse().unwrap()));
    let request = Request { from, to, via: None, name: name.into(), rtype: rtype.into(), resolve: false };
    of_manifest(snapshot, &Question::new(&request).unwrap(), 0)
}

/// The answer in a few words.
fn ask(snapshot: &Snapshot, from: &str, name: &str) -> String {
    explained(snapshot, from, None, name, "A").summary().join("; ")
}

fn zone(name: &str, vpcs: &[&str], address: &str) -> Value {
    json!({"name": name, "vpc_ids": vpcs, "records": [{"name": "@", "type": "A", "ttl": 60, "records": [address]},
                                                     {"name": "www", "type": "A", "ttl": 60, "records": [address]}]})
}

fn rule(domain: &str, vpcs: &[&str]) -> Value {
    json!({"domain_name": domain, "rule_type": "FORWARD", "vpc_ids": vpcs, "target_ips": [{"ip": "192.0.2.1"}]})
}

/// VPC `a` has two Profiles: `first`, and then `second`. VPC `b` has the second one only, and `c` none.
fn manifest() -> Value {
    let vpc = |octet: u8, profiles: Value| json!({"region": "us-east-1", "cidr_blocks": [format!("10.{octet}.0.0/16")], "profiles": profiles});
    json!({
        "vpcs": {
            "a": vpc(1, json!([{"profile_id": "second", "priority": 200}, {"profile_id": "first", "priority": 7}])),
            "b": vpc(2, json!([{"profile_id": "second"}])),
            "c": vpc(3, json!([])),
        },
        "profiles": {
            "first": {"private_hosted_zones": ["F", "F1"], "resolver_rules": ["f"]},
            "second": {"private_hosted_zones": ["S", "S1", "R"], "resolver_rules": ["s"]},
        },
        "private_hosted_zones": {
            "OWN": zone("own.example", &["a"], "192.0.2.10"),
            "F": zone("own.example", &[], "192.0.2.21"),
            "F1": zone("both.example", &[], "192.0.2.22"),
            "S": zone("both.example", &[], "192.0.2.31"),
            "S1": zone("deep.both.example", &[], "192.0.2.32"),
            "R": zone("10.in-addr.arpa", &[], "192.0.2.33"),
        },
        "resolver_rules": {
            "f": rule("deep.both.example", &[]),
            "s": rule("own.example", &[]),
        },
    })
}

#[test]
fn the_own_members_come_first_and_then_those_of_the_profiles_by_priority() {
    let snapshot = compiled(&manifest(), None);
    for (from, name, expected) in [
        // The VPC's own zone comes before the zone and the rule of its Profiles.
        ("10.1.0.7", "www.own.example", "www.own.example. 60 A 192.0.2.10"),
        ("10.2.0.7", "www.own.example", "forwarded by rule s"),
        ("10.3.0.7", "www.own.example", "REFUSED"),
        // The lower priority comes first.
        ("10.1.0.7", "www.both.example", "www.both.example. 60 A 192.0.2.22"),
        ("10.2.0.7", "www.both.example", "www.both.example. 60 A 192.0.2.31"),
        // The most specific name comes before all.
        ("10.1.0.7", "www.deep.both.example", "forwarded by rule f"),
        ("10.2.0.7", "www.deep.both.example", "www.deep.both.example. 60 A 192.0.2.32"),
        ("10.2.0.7", "deep.both.example", "deep.both.example. 60 A 192.0.2.32"),
        ("10.2.0.7", "x.both.example", "NXDOMAIN"),
    ] {
        assert_eq!(ask(&snapshot, from, name), expected, "{from} {name}");
    }
    // The autodefined reverse zone of the VPC is more specific than the zone of the Profile.
    let reverse = |name: &str| explained(&snapshot, "10.2.0.7", None, name, "PTR").summary().join("; ");
    assert!(reverse("7.0.2.10.in-addr.arpa").contains("ip-10-2-0-7.ec2.internal."));
    let text = explained(&snapshot, "10.1.0.7", None, "www.both.example", "A").to_text("");
    assert!(text.contains("matches private hosted zone F1 of Profile first (both.example.)"), "{text}");
    assert!(text.contains("weaker matches: private hosted zone S of Profile second (both.example.)"), "{text}");
    let text = explained(&snapshot, "10.1.0.7", None, "own.example", "A").to_text("");
    assert!(text.contains("matches private hosted zone OWN (own.example.)"), "{text}");
}

/// Two services: `near` with an endpoint in the hub, which VPC `a` and the on-premises network reach, and `far` with one in a
/// VPC that nobody reaches.
fn endpoints(members: &[&str]) -> Value {
    let service = |name: &str| json!({"owner_id": "amazon", "region": "us-east-1", "dns_name": format!("{name}.vpce.example"), "private_dns_names": [format!("{name}.example"), format!("*.{name}.example")]});
    let endpoint = |service: &str, vpc: &str, address: &str| {
        json!({"vpc_endpoint_type": "Interface", "service_name": service, "vpc_id": vpc, "state": "Available",
        "private_dns_enabled": true, "network_interfaces": [{"availability_zone_id": "use1-az1", "ipv4": address}]})
    };
    let vpc = |octet: u8, has_profile: bool| {
        let profiles = if has_profile { json!([{"profile_id": "p"}]) } else { json!([]) };
        json!({"region": "us-east-1", "cidr_blocks": [format!("10.{octet}.0.0/16")], "profiles": profiles,
               "availability_zones": {"us-east-1a": "use1-az1"}})
    };
    json!({
        "vpcs": {"hub": vpc(1, false), "a": vpc(2, true), "lone": vpc(3, true), "far": vpc(4, false)},
        "on_premises_networks": {"dc": {"cidr_blocks": ["192.168.0.0/16"], "vpc_ids": ["hub", "a"]},
                                 "branch": {"cidr_blocks": ["172.16.0.0/16"], "vpc_ids": ["a"]}},
        "vpc_peering_connections": {"pcx": {"vpc_ids": ["hub", "a"]}},
        "resolver_endpoints": {"in": {"direction": "INBOUND", "vpc_id": "a", "ip_addresses": [{"ip": "10.2.0.53"}],
                                      "allowed_cidr_blocks": ["0.0.0.0/0"]}},
        "vpc_endpoint_services": {"near": service("near"), "far": service("far")},
        "vpc_endpoints": {"vpce-near": endpoint("near", "hub", "10.1.0.9"), "vpce-far": endpoint("far", "far", "10.4.0.9")},
        "profiles": {"p": {"vpc_endpoints": members}},
    })
}

#[test]
fn an_endpoint_of_a_profile_answers_clients_that_reach_it_whatever_its_scope_is() {
    let snapshot = compiled(&endpoints(&["vpce-near", "vpce-far"]), None);
    let ask = |from: &str, to: Option<&str>, name: &str| explained(&snapshot, from, to, name, "A").summary().join("; ");
    for (from, to, near, far) in [
        // The scope of both is their own VPC.
        ("10.1.0.7", None, "A 10.1.0.9", "REFUSED"),
        ("10.2.0.7", None, "A 10.1.0.9", "REFUSED"),
        ("10.3.0.7", None, "REFUSED", "REFUSED"),
        ("10.4.0.7", None, "REFUSED", "A 10.4.0.9"),
        // On the inbound path, the client and the VPC must reach the endpoint.
        ("192.168.0.7", Some("10.2.0.53"), "A 10.1.0.9", "REFUSED"),
        ("172.16.0.7", Some("10.2.0.53"), "REFUSED", "REFUSED"),
        ("203.0.113.7", Some("10.2.0.53"), "REFUSED", "REFUSED"),
    ] {
        for (name, expected) in [("near.example", near), ("x.near.example", near), ("far.example", far)] {
            let found = ask(from, to, name);
            assert!(found.ends_with(expected), "{from} {name}: {found}");
        }
    }
    let text = |from: &str, name: &str| explained(&snapshot, from, None, name, "A").to_text("");
    let found = text("10.2.0.7", "near.example");
    assert!(found.contains("private name of endpoint vpce-near of Profile p (near.example.)"), "{found}");
    let found = text("10.3.0.7", "near.example");
    assert!(found.contains("it is in a Profile of lone, but its VPC hub is not connected to lone"), "{found}");
    // An endpoint that leaves the Profile leaves its VPCs.
    let mut changed = endpoints(&["vpce-far"]);
    changed["vpc_endpoints"]["vpce-near"]["dns_name_suffix"] = json!("x");
    let after = compiled(&changed, Some(&snapshot));
    let found = |from: &str| explained(&after, from, None, "near.example", "A").summary().join("; ");
    assert_eq!((found("10.2.0.7").as_str(), found("10.1.0.7").as_str()), ("REFUSED", "near.example. 60 A 10.1.0.9"));
}

#[test]
fn settings_come_from_the_first_profile_that_has_them() {
    let vpc = |octet: u8, own: Value, profiles: Value| {
        let mut vpc =
            json!({"region": "us-east-1", "cidr_blocks": [format!("10.{octet}.0.0/16")], "profiles": profiles});
        vpc.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        vpc
    };
    let both = json!([{"profile_id": "local", "priority": 1}, {"profile_id": "off", "priority": 2}]);
    let manifest = |off: &str| {
        json!({
            "vpcs": {
                "a": vpc(1, json!({}), both.clone()),
                "b": vpc(2, json!({"autodefined_reverse": true, "dnssec_validation": true}), both.clone()),
                "c": vpc(3, json!({}), json!([{"profile_id": "local"}])),
            },
            "profiles": {"local": {}, "off": {"autodefined_reverse": off, "dnssec_validation": off}},
        })
    };
    let settings = |snapshot: &Snapshot| -> Vec<(bool, Option<bool>)> {
        let view = |vpc: &str| {
            let at = snapshot.networks.vpc_at(vpc).unwrap();
            snapshot.views.iter().find(|view| view.vpc == at).map(|view| (view.has_reverse, view.dnssec_validation))
        };
        ["a", "b", "c"].into_iter().filter_map(view).collect()
    };
    let off = compiled(&manifest("disabled"), None);
    assert_eq!(settings(&off), [(false, Some(false)), (true, Some(true)), (true, None)]);
    let text = explained(&off, "10.1.0.7", None, "7.0.1.10.in-addr.arpa", "PTR").to_text("");
    assert!(text.contains("`autodefined_reverse` of its Profile off is disabled"), "{text}");
    let on = compiled(&manifest("enabled"), Some(&off));
    assert_eq!(settings(&on), [(true, Some(true)), (true, Some(true)), (true, None)]);
    let local = compiled(&manifest("use_local"), Some(&on));
    assert_eq!(settings(&local), [(true, None), (true, Some(true)), (true, None)]);
}

#[test]
fn rule_groups_of_vpcs_and_profiles_are_in_one_order() {
    let group = |vpcs: Value| json!({"rules": [{"name": "r", "priority": 1, "action": "BLOCK", "firewall_domain_list_id": "l"}], "vpc_associations": vpcs});
    let manifest = |p: Value| {
        json!({
            "vpcs": {"a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"],
                           "profiles": [{"profile_id": "p", "priority": 2}, {"profile_id": "q", "priority": 1}]}},
            "profiles": {"p": p, "q": {"firewall_rule_groups": [{"id": "g1", "priority": 20}, {"id": "g4", "priority": 9}]}},
            "firewall_domain_lists": {"l": {"domains": ["bad.example"]}},
            "firewall_rule_groups": {"g1": group(json!([])), "g2": group(json!([{"vpc_id": "a", "priority": 20}])),
                                     "g3": group(json!([])), "g4": group(json!([{"vpc_id": "a", "priority": 30}]))},
        })
    };
    let groups = |snapshot: &Snapshot| -> (Vec<String>, bool) {
        let view = snapshot.views.iter().next().unwrap();
        let rules = snapshot.firewall.of(view).unwrap();
        let text = |group: &crate::snapshot::firewall::rules::PlacedGroup| {
            format!("{} {} {}", group.priority, group.id, group.profile.as_deref().unwrap_or("-"))
        };
        (rules.groups.iter().map(text).collect(), rules.fails_open)
    };
    let members = json!({"firewall_rule_groups": [{"id": "g3", "priority": 20}], "firewall_fail_open": "enabled"});
    let first = compiled(&manifest(members), None);
    // The VPC comes before its Profiles, and these are in their order. A group is evaluated once.
    let expected = ["9 g4 q", "20 g2 -", "20 g1 q", "20 g3 p"].map(String::from).to_vec();
    assert_eq!(groups(&first), (expected, true));
    let second = compiled(&manifest(json!({})), Some(&first));
    assert_eq!(groups(&second), (["9 g4 q", "20 g2 -", "20 g1 q"].map(String::from).to_vec(), false));
}

#[test]
fn delegate_rules_and_zones_of_vpcs_and_profiles_work_together() {
    let delegating = |name: &str, vpcs: &[&str]| json!({"name": name, "vpc_ids": vpcs, "records": [{"name": "cut", "type": "NS", "ttl": 60, "records": ["ns.out.test."]}]});
    let delegate = |vpcs: &[&str]| json!({"domain_name": "out.test", "rule_type": "DELEGATE", "vpc_ids": vpcs});
    let manifest = |own_rule: &[&str], profile_rules: &[&str]| {
        let vpc = |octet: u8, profiles: Value| json!({"region": "r", "cidr_blocks": [format!("10.{octet}.0.0/16")], "profiles": profiles});
        json!({
            "vpcs": {"a": vpc(1, json!([{"profile_id": "p"}])), "b": vpc(2, json!([]))},
            "profiles": {"p": {"private_hosted_zones": ["P"], "resolver_rules": profile_rules}},
            "private_hosted_zones": {"P": delegating("p.example", &[]), "O": delegating("o.example", &["a", "b"])},
            "resolver_rules": {"own": delegate(own_rule), "of-profile": delegate(&[])},
        })
    };
    let rules = |snapshot: &Snapshot| {
        [("10.1.0.7", "x.cut.p.example"), ("10.1.0.7", "x.cut.o.example"), ("10.2.0.7", "x.cut.o.example")]
            .map(|(from, name)| ask(snapshot, from, name))
    };
    let referral = |zone: &str| format!("delegated: cut.{zone}.example. 60 NS ns.out.test.");
    let none = compiled(&manifest(&[], &[]), None);
    assert_eq!(rules(&none), [referral("p"), referral("o"), referral("o")]);
    let of_profile = compiled(&manifest(&[], &["of-profile"]), Some(&none));
    let by = |rule: &str| format!("forwarded by rule {rule}");
    assert_eq!(rules(&of_profile), [by("of-profile"), by("of-profile"), referral("o")]);
    let own = compiled(&manifest(&["a", "b"], &["of-profile"]), Some(&of_profile));
    assert_eq!(rules(&own), [by("own"), by("own"), by("own")]);
    let gone = compiled(&manifest(&[], &[]), Some(&own));
    assert_eq!(rules(&gone), rules(&none));
}

#[test]
fn a_changed_member_changes_the_answers_of_all_vpcs_of_the_profile() {
    let mut value = manifest();
    let first = compiled(&value, None);
    let mut snapshot = compiled(&value, Some(&first));
    let mut step = |edit: &mut dyn FnMut(&mut Value), name: &str, expected: [&str; 3]| {
        edit(&mut value);
        snapshot = compiled(&value, Some(&snapshot));
        let whole = compiled(&value, None);
        for (from, expected) in ["10.1.0.7", "10.2.0.7", "10.3.0.7"].into_iter().zip(expected) {
            assert_eq!(ask(&snapshot, from, name), expected, "{from} {name}");
            assert_eq!(ask(&whole, from, name), expected, "{from} {name}");
        }
    };
    let name = "www.new.example";
    step(&mut |_| {}, name, ["REFUSED"; 3]);
    let new = "www.new.example. 60 A 192.0.2.40";
    let mut add = |value: &mut Value| {
        value["private_hosted_zones"]["N"] = zone("new.example", &[], "192.0.2.40");
        value["profiles"]["second"]["private_hosted_zones"] = json!(["N", "S"]);
    };
    step(&mut add, name, [new, new, "REFUSED"]);
    let mut rename = |value: &mut Value| value["private_hosted_zones"]["N"]["name"] = json!("other.example");
    step(&mut rename, name, ["REFUSED"; 3]);
    let mut records = |value: &mut Value| value["private_hosted_zones"]["N"] = zone("new.example", &[], "192.0.2.41");
    step(&mut records, name, ["www.new.example. 60 A 192.0.2.41", "www.new.example. 60 A 192.0.2.41", "REFUSED"]);
    let mut by_rule = |value: &mut Value| {
        value["resolver_rules"]["n"] = rule("new.example", &[]);
        value["profiles"]["second"]["resolver_rules"] = json!(["n"]);
    };
    step(&mut by_rule, name, ["forwarded by rule n", "forwarded by rule n", "REFUSED"]);
    let mut disable = |value: &mut Value| value["resolver_rules"]["n"]["enabled"] = json!(false);
    step(&mut disable, name, ["www.new.example. 60 A 192.0.2.41", "www.new.example. 60 A 192.0.2.41", "REFUSED"]);
    let mut other = |value: &mut Value| value["vpcs"]["c"]["profile_id"] = json!("second");
    step(&mut other, name, ["www.new.example. 60 A 192.0.2.41"; 3]);
    let mut empty = |value: &mut Value| value["profiles"]["second"] = json!({});
    step(&mut empty, name, ["REFUSED"; 3]);
}

#[test]
fn vpcs_share_the_tables_of_their_profile() {
    let mut value = endpoints(&["vpce-near", "vpce-far"]);
    for number in 0..300 {
        let vpc = format!("v{number}");
        let block = format!("10.{}.{}.0/24", 100 + number / 256, number % 256);
        value["vpcs"][&vpc] = json!({"region": "us-east-1", "cidr_blocks": [block], "profiles": [{"profile_id": "p"}]});
        let connection = json!({"vpc_ids": ["hub", vpc]});
        value["vpc_peering_connections"][format!("pcx{number}")] = connection;
    }
    let snapshot = compiled(&value, None);
    let mut tables: Vec<*const ()> = Vec::new();
    for view in snapshot.views.iter().filter(|view| view.has_profiles()) {
        let layer = snapshot.views.layer(view, 0).unwrap();
        tables.push(std::ptr::from_ref(layer.profile).cast());
        tables.extend(layer.names.map(|names| std::ptr::from_ref(names).cast()));
    }
    assert!(tables.len() > 600, "{}", tables.len());
    tables.sort_unstable();
    tables.dedup();
    // The Profile, and the names of `vpce-near` in VPCs and for the clients of the inbound endpoint.
    assert_eq!(tables.len(), 3);
    assert!(ask(&snapshot, "10.100.7.7", "near.example").ends_with("A 10.1.0.9"));
}

#[test]
fn a_worker_prefetches_the_zones_of_the_vpc_and_of_its_profiles() {
    let snapshot = compiled(&manifest(), None);
    for (octet, name, expected) in [
        (1, "www.own.example", Some("OWN")),
        (1, "www.both.example", Some("F1")),
        (2, "www.both.example", Some("S")),
        (2, "www.deep.both.example", Some("S1")),
        (3, "www.own.example", None),
    ] {
        let client = Client {
            source: [10, octet, 0, 7].into(),
            port: 0,
            local: [10, octet, 0, 2].into(),
            transport: Transport::Udp,
        };
        let wire = Name::absolute(name).unwrap();
        let query = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], wire.as_wire(), &[0, 1, 0, 1]].concat();
        let hint = find_prefetch_hint(&snapshot, &client, &query, &mut LookupName::root());
        let zone = hint.and_then(|(hint, _)| match hint {
            PrefetchHint::Zone { zone, .. } => Some(&*zone.id),
            _ => None,
        });
        assert_eq!(zone, expected, "{name}");
    }
}
