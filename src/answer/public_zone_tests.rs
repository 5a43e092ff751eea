//! Public hosted zones: every client has them, below everything else, and above the internet.

use super::{Client, Moment, Outcome, Transport, answer};
use crate::{
    manifest::Loaded,
    snapshot::{
        Node, Snapshot, compile,
        routes::{Route, Servers},
    },
    wire::{Name, codes::rcode, message::Message, rdata::rtype},
};
use serde_json::{Value, json};
use std::sync::Arc;

fn manifest() -> Value {
    let a = |name: &str, address: &str| json!({"name": name, "type": "A", "records": [address]});
    json!({
        "vpcs": {
            "vpc-a": {"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"]},
            "vpc-b": {"region": "us-east-1", "cidr_blocks": ["10.2.0.0/16"]},
        },
        "private_hosted_zones": {
            "ZPRIVATE": {"name": "split.example", "vpc_ids": ["vpc-a"], "records": [a("www", "10.1.0.1")]},
            "ZSPLIT": {"name": "split.example", "public": true, "records": [a("www", "192.0.2.1"), a("more", "192.0.2.2")]},
            "ZDEEP": {"name": "deep.below.split.example", "public": true, "records": [a("@", "192.0.2.3")]},
            "ZCUT": {"name": "cut.example", "public": true, "records": [
                {"name": "sub", "type": "NS", "records": ["ns.elsewhere.example"]}, a("*", "192.0.2.4")]},
            "ZTEST": {"name": "acme.test", "public": true, "records": [a("www", "192.0.2.6")]},
            "ZLEFT": {"name": "left.example", "public": true, "fallthrough": true, "records": [a("www", "192.0.2.5")]},
        },
        "resolver_rules": {
            "rslvr-rr-1": {"domain_name": "ruled.example", "rule_type": "FORWARD", "vpc_ids": ["vpc-b"],
                "target_ips": [{"ip": "192.0.2.53"}]},
            "rslvr-rr-2": {"domain_name": "split.example", "rule_type": "SYSTEM", "vpc_ids": ["vpc-b"]},
        },
    })
}

fn snapshot(manifest: &Value, has_internet: bool, previous: Option<&Snapshot>) -> Snapshot {
    let internet = has_internet.then(|| Arc::new(Route::new(String::new(), [0].into(), Servers::Recursion)));
    let loaded = Loaded { manifest: serde_json::from_value(manifest.clone()).unwrap(), ..Loaded::default() };
    let node = Node { internet, ..Node::default() };
    compile(&loaded, &Arc::new(node), previous).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

/// The answer to a client: its RCODE and addresses, `internet` or the rule that forwards it.
fn ask_type(snapshot: &Snapshot, source: &str, name: &str, qtype: u16) -> String {
    let address = source.parse().unwrap();
    let client = Client { source: address, port: 0, local: address, transport: Transport::Tcp };
    let name = Name::absolute(name).unwrap();
    let query = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name.as_wire(), &qtype.to_be_bytes(), &[0, 1]].concat();
    let mut reply = vec![0; 65_535];
    match answer(snapshot, &(), &client, Moment { now: 0, draw: 0 }, &query, &mut reply) {
        Outcome::Forward(question) if question.route.rule.is_empty() => "internet".into(),
        Outcome::Forward(question) => question.route.rule.clone(),
        Outcome::Reply(answered) => {
            let message = Message::read(&reply[..answered.len]).unwrap();
            let addresses = message.sections[0].iter().filter(|record| record.rtype == rtype::A);
            let addresses: Vec<String> =
                addresses.map(|record| record.rdata.iter().map(u8::to_string).collect::<Vec<_>>().join(".")).collect();
            let is_authoritative = reply[2] & 4 != 0;
            match (reply[3] as u16 & 15, is_authoritative) {
                (rcode::NOERROR, true) if addresses.is_empty() => "no data".into(),
                (rcode::NOERROR, true) => addresses.join(" "),
                (rcode::NOERROR, false) => "referral".into(),
                (rcode::NXDOMAIN, true) => "no name".into(),
                (rcode::REFUSED, _) => "refused".into(),
                (other, _) => format!("rcode {other}"),
            }
        }
        _ => "no reply".into(),
    }
}

fn ask(snapshot: &Snapshot, source: &str, name: &str) -> String {
    ask_type(snapshot, source, name, rtype::A)
}

#[test]
fn answers_every_client_below_private_zones_and_rules() {
    let snapshot = snapshot(&manifest(), true, None);
    for (source, name, expected) in [
        ("10.1.0.7", "www.split.example", "10.1.0.1"),
        ("10.2.0.7", "www.split.example", "192.0.2.1"),
        ("10.1.0.7", "more.split.example", "no name"),
        ("10.2.0.7", "more.split.example", "192.0.2.2"),
        ("10.2.0.7", "none.split.example", "no name"),
        ("10.2.0.7", "below.split.example", "no data"),
        ("10.2.0.7", "deep.below.split.example", "192.0.2.3"),
        ("10.2.0.7", "x.deep.below.split.example", "no name"),
        ("10.1.0.7", "host.cut.example", "192.0.2.4"),
        ("10.1.0.7", "www.left.example", "192.0.2.5"),
        ("10.1.0.7", "other.left.example", "internet"),
        ("10.1.0.7", "elsewhere.example", "internet"),
        // A special-use name is not asked of the internet, but a zone below it is served.
        ("10.1.0.7", "www.acme.test", "192.0.2.6"),
        ("10.1.0.7", "none.acme.test", "no name"),
        ("10.1.0.7", "other.test", "no name"),
        ("10.9.0.7", "www.split.example", "refused"),
    ] {
        assert_eq!(ask(&snapshot, source, name), expected, "{source} {name}");
    }
}

#[test]
fn leaves_delegated_names_to_the_internet() {
    assert_eq!(ask(&snapshot(&manifest(), true, None), "10.1.0.7", "www.sub.cut.example"), "internet");
    assert_eq!(ask(&snapshot(&manifest(), false, None), "10.1.0.7", "www.sub.cut.example"), "referral");
    assert_eq!(ask(&snapshot(&manifest(), false, None), "10.1.0.7", "elsewhere.example"), "refused");
}

#[test]
fn leaves_type_ds_at_the_apex_to_the_parent() {
    let with = snapshot(&manifest(), true, None);
    assert_eq!(ask_type(&with, "10.2.0.7", "cut.example", rtype::DS), "internet");
    // The zone above says that there is no DS record, not that the name does not exist.
    assert_eq!(ask_type(&with, "10.2.0.7", "deep.below.split.example", rtype::DS), "no data");
    let without = snapshot(&manifest(), false, None);
    assert_eq!(ask_type(&without, "10.2.0.7", "cut.example", rtype::DS), "no data");
}

#[test]
fn follows_changes_of_public_zones() {
    let mut edited = manifest();
    let first = snapshot(&edited, true, None);
    edited["private_hosted_zones"]["ZSPLIT"]["public"] = json!(false);
    edited["private_hosted_zones"]["ZSPLIT"]["vpc_ids"] = json!([]);
    let second = snapshot(&edited, true, Some(&first));
    assert_eq!(ask(&second, "10.2.0.7", "www.split.example"), "internet");
    edited["private_hosted_zones"]["ZNEW"] = json!({"name": "new.example", "public": true, "records": [
        {"name": "@", "type": "A", "records": ["192.0.2.9"]}]});
    let third = snapshot(&edited, true, Some(&second));
    assert_eq!(ask(&third, "10.1.0.7", "new.example"), "192.0.2.9");
    edited["private_hosted_zones"]["ZNEW"]["records"][0]["records"] = json!(["192.0.2.10"]);
    let fourth = snapshot(&edited, true, Some(&third));
    assert_eq!(ask(&fourth, "10.1.0.7", "new.example"), "192.0.2.10");
    edited["private_hosted_zones"].as_object_mut().unwrap().remove("ZNEW");
    let fifth = snapshot(&edited, true, Some(&fourth));
    assert_eq!(ask(&fifth, "10.1.0.7", "new.example"), "internet");
}
