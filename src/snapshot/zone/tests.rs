use super::{Job, Search, Zone, build};
use crate::{
    manifest::{MasterFile, PrivateHostedZone, Problem, Record},
    wire::{
        Name,
        query::LookupName,
        rdata::{parse_text, rtype},
    },
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

const APEX: &str = "z.example";

fn record(owner: &str, rtype: u16, data: &str) -> Record {
    let owner = Name::absolute(owner).unwrap();
    Record { owner, rtype, ttl: 60, rdata: parse_text(rtype, data, &Name::root()).unwrap(), file: 0, line: 0 }
}

/// A zone of these records, and of a SOA and an NS record.
fn zone(mut records: Vec<Record>) -> (Option<Zone>, Vec<Problem>) {
    records.push(record(APEX, rtype::SOA, "ns.z.example. h.z.example. 1 1 1 1 1"));
    records.push(record(APEX, rtype::NS, "ns.elsewhere.example."));
    let source = Arc::new(PrivateHostedZone::empty(Name::absolute(APEX).unwrap()));
    let data = MasterFile { files: Vec::new(), records };
    let id = "Z".to_string();
    let job = Job { data: Some(&data), ..Job::new(&id, &source) };
    let mut problems = Vec::new();
    (build(job, &mut problems).map(|(zone, _)| zone), problems)
}

fn found(zone: &Zone, name: &str) -> String {
    let name = LookupName::new(Name::absolute(name).unwrap().as_wire()).unwrap();
    match zone.search(&name) {
        Search::Node(node) => format!("node {}", node.name()),
        Search::Wildcard(node) => format!("wildcard {}", node.name()),
        Search::Cut(node) => format!("cut {}", node.name()),
        Search::Dname(node) => format!("dname {}", node.name()),
        Search::Empty | Search::EmptyWildcard(_) => "empty".into(),
        Search::Missing => "missing".into(),
    }
}

/// The result of a search by RFC 1034, 4592 and 6672, from a map of names and their types.
fn expected(names: &BTreeMap<String, u16>, name: &str) -> String {
    let above = |name: &str| name.split_once('.').map(|(_, parent)| parent.to_string()).filter(|p| p != "example.");
    let mut path = vec![name.to_string()];
    while let Some(parent) = above(&path[path.len() - 1]) {
        path.push(parent);
    }
    for (at, name) in path.iter().enumerate().rev() {
        match names.get(name) {
            Some(&rtype::NS) => return format!("cut {name}"),
            Some(&rtype::DNAME) if at > 0 => return format!("dname {name}"),
            _ => {}
        }
    }
    let at = |name: &str, what: &str| match names.keys().any(|other| other == name) {
        true => Some(format!("{what} {name}")),
        false => names.keys().any(|other| other.ends_with(&format!(".{name}"))).then(|| "empty".to_string()),
    };
    at(name, "node").unwrap_or_else(|| {
        let encloser = path.iter().find(|name| **name == "z.example." || at(name, "").is_some()).unwrap();
        at(&format!("*.{encloser}"), "wildcard").unwrap_or("missing".into())
    })
}

proptest! {
    #[test]
    fn search_agrees_with_the_rfcs(
        owners in vec((vec("[ab*]", 1..6), 0..12u8), 1..8),
        asked in vec(vec("[abc*]", 1..8), 1..40),
    ) {
        let mut names: BTreeMap<String, u16> = [("z.example.".to_string(), rtype::SOA)].into();
        let mut records = Vec::new();
        for (owner, kind) in owners {
            let is_wildcard = owner[0] == "*";
            let owner = format!("{}.z.example.", owner.join("."));
            let (rtype, data) = match kind {
                0 if !is_wildcard => (rtype::NS, "ns.elsewhere.example."),
                1 if !is_wildcard => (rtype::DNAME, "elsewhere.example."),
                _ => (rtype::A, "192.0.2.1"),
            };
            if let std::collections::btree_map::Entry::Vacant(entry) = names.entry(owner) {
                records.push(record(entry.key(), rtype, data));
                entry.insert(rtype);
            }
        }
        let zone = zone(records).0.unwrap();
        for name in asked {
            let name = format!("{}.z.example.", name.join("."));
            prop_assert_eq!(found(&zone, &name), expected(&names, &name), "{} of {:?}", name, names);
        }
    }
}

#[test]
fn the_memory_of_a_name_follows_its_length() {
    let names = 500;
    for label in ["a.", "*."] {
        // 115 labels that no other name shares.
        let owner = |number: usize| format!("{}n{number}.z.example.", label.repeat(115));
        let deep = zone((0..names).map(|number| record(&owner(number), rtype::A, "192.0.2.1")).collect()).0.unwrap();
        assert!(deep.memory() < names * 20 * 255, "{} octets for {names} names", deep.memory());
        assert_eq!(found(&deep, &owner(7)), format!("node {}", owner(7)));
        assert_eq!(found(&deep, &owner(7)[2..]), "empty");
        assert_eq!(found(&deep, "n7.z.example."), "empty");
        assert_eq!(found(&deep, "n500.z.example."), "missing");
        assert_eq!(deep.nodes().count(), names + 1);
    }
}

#[test]
fn rejects_a_large_record_set_without_comparing_all_of_its_records() {
    let number = 60_000u32;
    let address = |at: u32| std::net::Ipv4Addr::from(0x0a00_0000 + at).to_string();
    let mut records: Vec<Record> = (0..number).map(|at| record("a.z.example", rtype::A, &address(at))).collect();
    // Equal records count once.
    records.extend((0..number).map(|at| record("b.z.example", rtype::A, &address(at % 4000))));
    let (zone, problems) = zone(records);
    assert!(zone.is_none());
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    let expected = "the A records of a.z.example. have more than 65200 octets, the maximum of a message";
    assert_eq!(messages, [expected]);
}

#[test]
fn limits_the_listed_problems_of_a_zone_and_the_types_of_a_name() {
    let ttl =
        |at: u32| Record { ttl: at, ..record("a.z.example", rtype::A, &std::net::Ipv4Addr::from(at).to_string()) };
    let (zone_, problems) = zone((1..2000).map(ttl).collect());
    assert!(zone_.is_some() && problems.len() == 101, "{}", problems.len());
    assert_eq!(problems[100].message, "the zone has 1998 problems; 100 of them are shown");
    let of_type = |rtype: u16| Record { rtype, rdata: [0][..].into(), ..record("a.z.example", 1, "192.0.2.1") };
    assert!(zone((1000..1256).map(of_type).collect()).0.is_some());
    let (zone, problems) = zone((1000..1257).map(of_type).collect());
    assert!(zone.is_none());
    assert_eq!(problems[0].message, "a.z.example. has more than 256 record sets");
}

#[test]
fn a_name_has_records_or_an_alias_or_a_group_of_one_type() {
    let kinds = [
        ("values", json!({"records": ["192.0.2.2"]})),
        ("alias", json!({"alias": {"name": "target.z.example"}})),
        ("group", json!({"records": ["192.0.2.3"], "set_identifier": "a", "weighted_routing_policy": {"weight": 1}})),
    ];
    let set = |name: &str, members: &Value| {
        let mut set = json!({"name": name, "type": "A"});
        set.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        set
    };
    for (at, (one, members)) in kinds.iter().enumerate() {
        for (other, others) in kinds.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, kind)| kind) {
            let records = [set("target", &kinds[0].1), set("www", members), set("www", others)];
            let source = json!({"name": APEX, "vpc_ids": [], "records": records});
            let source: Arc<PrivateHostedZone> = Arc::new(serde_json::from_value(source).unwrap());
            let mut problems = Vec::new();
            let built = build(Job::new(&"Z".to_string(), &source), &mut problems);
            let errors: Vec<String> = problems.iter().map(Problem::to_string).collect();
            assert!(built.is_none(), "{one}, then {other}: {errors:?}");
            assert!(errors.len() == 1 && errors[0].contains("www.z.example. has "), "{one}, then {other}: {errors:?}");
        }
    }
}
