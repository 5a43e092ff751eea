use super::*;
use crate::{
    manifest::Loaded,
    snapshot::{Node, Snapshot, compile},
};
use serde_json::json;

fn compiled(manifest: serde_json::Value, previous: Option<&Snapshot>) -> Snapshot {
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    let node = Arc::new(Node { loads_firewall_lists: true, ..Node::default() });
    compile(&loaded, &node, previous).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

/// The rule set of a VPC's own view.
fn of<'s>(snapshot: &'s Snapshot, vpc: &str) -> Option<&'s RuleSet> {
    let at = snapshot.networks.vpc_at(vpc).unwrap();
    let view = snapshot.views.iter().find(|view| view.vpc == at && view.path == ClientPath::InVpc).unwrap();
    snapshot.firewall.of(view)
}

fn names(set: &RuleSet) -> Vec<String> {
    set.rules.iter().map(|rule| format!("{}/{}", rule.label.group, rule.label.rule)).collect()
}

fn manifest(priority_of_g: u32) -> serde_json::Value {
    let associations =
        |priority: u32| json!([{"vpc_id": "a", "priority": priority}, {"vpc_id": "b", "priority": priority}]);
    let endpoint =
        |direction: &str, ip: &str| json!({"direction": direction, "vpc_id": "a", "ip_addresses": [{"ip": ip}]});
    json!({
        "vpcs": {"a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]}, "b": {"region": "r", "cidr_blocks": ["10.2.0.0/16"]},
                 "c": {"region": "r", "cidr_blocks": ["10.3.0.0/16"]}},
        "resolver_endpoints": {"in": endpoint("INBOUND", "10.1.0.53"), "del": endpoint("INBOUND_DELEGATION", "10.1.0.54")},
        "firewall_domain_lists": {"l": {"domains": ["bad.example"]}, "m": {"domains": ["worse.example"]}},
        "firewall_rule_groups": {
            "g": {"rules": [
                {"name": "second", "priority": 20, "action": "ALLOW", "firewall_domain_list_id": "l"},
                {"name": "first", "priority": 10, "action": "BLOCK", "firewall_domain_list_id": "m"},
            ], "vpc_associations": associations(priority_of_g)},
            "h": {"rules": [{"name": "third", "priority": 1, "action": "BLOCK", "firewall_domain_list_id": "l"},
                            {"name": "addresses", "priority": 2, "action": "BLOCK", "answer_addresses": ["10.0.0.0/8"]}],
                  "vpc_associations": associations(50)},
        },
    })
}

#[test]
fn rules_are_in_the_order_of_groups_and_priorities_and_vpcs_with_equal_groups_share_them() {
    let snapshot = compiled(manifest(7), None);
    let set = of(&snapshot, "a").unwrap();
    assert_eq!(names(set), ["g/first", "g/second", "h/third", "h/addresses"]);
    assert!(std::ptr::eq(set, of(&snapshot, "b").unwrap()) && of(&snapshot, "c").is_none());
    let with = |list: &str| -> Vec<u32> {
        let number = snapshot.firewall_lists.number(list).unwrap();
        set.of_list(number).map(|(index, _)| index).collect()
    };
    assert_eq!((with("l"), with("m"), &*set.of_answers), (vec![1, 2], vec![0], &[3][..]));
    assert_eq!(set.of_list(1000).count(), 0);
    let other = compiled(manifest(99), Some(&snapshot));
    assert_eq!(names(of(&other, "a").unwrap()), ["h/third", "h/addresses", "g/first", "g/second"]);
    assert_eq!(other.firewall.labels.len(), 4, "the rules keep their slots");
}

#[test]
fn delegation_endpoints_are_not_filtered_and_inbound_endpoints_are() {
    let snapshot = compiled(manifest(7), None);
    for view in snapshot.views.iter().filter(|view| view.label.starts_with('a')) {
        let is_filtered = snapshot.firewall.of(view).is_some();
        assert_eq!(is_filtered, view.path != ClientPath::InboundDelegation, "{}", view.label);
    }
}

#[test]
fn rules_follow_the_state_of_their_lists() {
    let mut manifest = manifest(7);
    manifest["firewall_domain_lists"]["m"] = json!({"source": {"file": "m.txt"}});
    let snapshot = compiled(manifest, None);
    let set = of(&snapshot, "a").unwrap();
    assert_eq!((&*set.unready, set.rules[0].state), (&[0][..], ListState::Missing));
    let mut lists = (*snapshot.firewall_lists).clone();
    let number = lists.number("m").unwrap();
    lists.set_state(number, ListState::Loaded);
    let loaded = snapshot.with_firewall_lists(Arc::new(lists.clone()));
    assert!(of(&loaded, "a").unwrap().unready.is_empty());
    let offline = loaded.with_node(Arc::default()).with_firewall_lists(snapshot.firewall_lists.clone());
    let set = of(&offline, "a").unwrap();
    assert!(set.is_offline && set.unready.is_empty(), "nobody reads the list");
    lists.set_state(number, ListState::Expired);
    let expired = loaded.with_firewall_lists(Arc::new(lists));
    assert_eq!(of(&expired, "a").unwrap().rules[0].state, ListState::Expired);
}

#[test]
fn a_manifest_without_associations_filters_nothing() {
    let mut value = manifest(7);
    value["firewall_rule_groups"]["g"]["vpc_associations"] = json!([]);
    value["firewall_rule_groups"]["h"]["vpc_associations"] = json!([]);
    let before = compiled(manifest(7), None);
    let snapshot = compiled(value, Some(&before));
    assert!(snapshot.firewall.is_empty() && !before.firewall.is_empty());
    let again = compiled(manifest(7), Some(&snapshot));
    assert_eq!(again.firewall.rules().count(), 4);
    let same = Loaded { manifest: again.manifest.clone(), ..Loaded::default() };
    let same = compile(&same, &again.node, Some(&again)).unwrap_or_else(|_| panic!("no errors")).0;
    assert!(Arc::ptr_eq(&same.firewall, &again.firewall));
}
