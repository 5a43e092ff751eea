//! What transcripts are too small for.

use super::{Client, Moment, Outcome, Transport, answer};
use crate::{
    manifest::Loaded,
    snapshot::{Snapshot, compile},
    wire::{Name, message::Message, query::rcode, rdata::rtype},
};
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc};

fn snapshot(zone: serde_json::Value) -> Snapshot {
    let manifest = json!({
        "vpcs": {"a": {"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"]}},
        "private_hosted_zones": {"Z": zone},
    });
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    compile(&loaded, &Arc::default(), None).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

fn ask(snapshot: &Snapshot, transport: Transport, name: &[u8], qtype: u16) -> Vec<u8> {
    let address = "10.1.0.7".parse().unwrap();
    let client = Client { source: address, port: 0, local: address, transport };
    let query = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], name, &qtype.to_be_bytes(), &[0, 1]].concat();
    let mut reply = vec![0; 65_535];
    let Outcome::Reply(answered) = answer(snapshot, &(), &client, Moment { now: 0, draw: 0 }, &query, &mut reply)
    else {
        panic!("no reply")
    };
    reply.truncate(answered.len);
    reply
}

/// A compression pointer reaches 16,383 octets far (RFC 1035, 4.1.4); messages by TCP are longer.
#[test]
fn names_beyond_the_reach_of_a_pointer() {
    let hosts = 0..1200;
    let exchangers: Vec<String> = hosts.clone().map(|n| format!("{n} host{n}.z.example")).collect();
    let mut records = vec![json!({"name": "@", "type": "MX", "records": exchangers})];
    records.extend(hosts.clone().map(|n| {
        let (high, low) = (n / 256, n % 256);
        json!({"name": format!("host{n}"), "type": "A",
               "records": [format!("10.1.{high}.{low}"), format!("10.2.{high}.{low}"), format!("10.3.{high}.{low}")]})
    }));
    let snapshot = snapshot(json!({"name": "z.example", "vpc_ids": ["a"], "records": records}));
    let reply = ask(&snapshot, Transport::Tcp, b"\x01z\x07example\0", rtype::MX);
    assert!(reply.len() > 60_000);
    let message = Message::read(&reply).unwrap();
    assert_eq!(message.sections[0].len(), 1200);
    for record in &message.sections[2] {
        let [10, _, high, low] = record.rdata[..] else { panic!("{record}") };
        let number = u16::from_be_bytes([high, low]);
        assert_eq!(record.owner, Name::absolute(&format!("host{number}.z.example")).unwrap());
    }
    let owners: BTreeSet<_> = message.sections[2].iter().map(|record| record.owner.to_string()).collect();
    assert_eq!(message.sections[2].len(), 3 * owners.len(), "no set is there in part");
}

/// There are C libraries that do not come again by TCP (musl before 1.2.4): a truncated answer has some addresses.
#[test]
fn addresses_that_fit_are_in_a_truncated_answer() {
    let addresses = |prefix: &str| (0..100).map(|n| json!(format!("{prefix}{n}"))).collect::<Vec<_>>();
    let snapshot = snapshot(json!({"name": "z.example", "vpc_ids": ["a"], "records": [
        {"name": "many", "type": "A", "records": addresses("10.1.0.")},
        {"name": "many", "type": "AAAA", "records": addresses("2001:db8::")},
        {"name": "many", "type": "TXT", "records": addresses("some text ")},
        {"name": "alias", "type": "A", "alias": {"name": "many.z.example"}},
        {"name": "chain", "type": "CNAME", "records": ["many.z.example."]},
    ]}));
    for (name, qtype, links, size) in [
        ("many", rtype::A, 0, 16),
        ("many", rtype::AAAA, 0, 28),
        ("alias", rtype::A, 0, 16),
        ("chain", rtype::A, 1, 16),
        ("many", rtype::TXT, 0, usize::MAX),
    ] {
        let wire = [&[name.len() as u8], name.as_bytes(), b"\x01z\x07example\0"].concat();
        let reply = ask(&snapshot, Transport::Udp, &wire, qtype);
        assert_eq!(reply[2] & 2, 2, "{name} {qtype}: TC is set");
        let message = Message::read(&reply).unwrap();
        let (chain, set) = message.sections[0].split_at(links);
        let owner = if name == "chain" { "many.z.example" } else { &format!("{name}.z.example") };
        assert!(set.iter().all(|record| record.rtype == qtype && record.owner == Name::absolute(owner).unwrap()));
        let before = 12 + wire.len() + 4 + chain.iter().map(|link| 12 + link.rdata.len()).sum::<usize>();
        let least = (512 - before) / size;
        assert!(reply.len() <= 512 && set.len() >= least, "{name} {qtype}: {} addresses", set.len());
        assert!(qtype != rtype::TXT || set.is_empty(), "of other sets nothing is there");
        let whole = ask(&snapshot, Transport::Tcp, &wire, qtype);
        let whole = Message::read(&whole).unwrap();
        assert_eq!(whole.sections[0].len(), links + 100);
        assert!(set.iter().all(|record| whole.sections[0].contains(record)));
    }
}

/// A label may hold any octet: where the question ends is not where its first zero is.
#[test]
fn too_long_a_chain_from_a_name_with_a_zero_octet() {
    let mut records = vec![json!({"name": "\\000x", "type": "CNAME", "records": ["h0.z.example"]})];
    records.extend((0..17).map(|n| {
        let target = format!("h{}.z.example", n + 1);
        json!({"name": format!("h{n}"), "type": "CNAME", "records": [target]})
    }));
    let snapshot = snapshot(json!({"name": "z.example", "vpc_ids": ["a"], "records": records}));
    let name = b"\x02\0x\x01z\x07example\0";
    let reply = ask(&snapshot, Transport::Udp, name, rtype::A);
    assert_eq!(reply[3] & 15, rcode::SERVFAIL as u8);
    assert_eq!(reply[12..], [&name[..], &[0, 1, 0, 1]].concat());
}

/// Over encrypted transports the length of a reply to a query with EDNS tells nothing, whatever the reply is.
#[test]
fn encrypted_replies_are_padded() {
    let text = "x".repeat(200);
    let snapshot = snapshot(json!({"name": "z.example", "vpc_ids": ["a"], "records": [
        {"name": "a", "type": "A", "records": ["10.1.0.1"]},
        {"name": "long", "type": "TXT", "records": (0..5).map(|n| format!("\"{n}{text}\"")).collect::<Vec<_>>()},
    ]}));
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 11, 0, 0];
    let length = |transport, name: &[u8], opt: &[u8], source: &str| {
        let source = source.parse().unwrap();
        let client = Client { source, port: 0, local: "10.1.0.2".parse().unwrap(), transport };
        let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, !opt.is_empty() as u8];
        let query = [&header[..], name, b"\x01z\x07example\0", &[0, 16, 0, 1], opt].concat();
        let mut reply = vec![0xff; 65_535];
        let Outcome::Reply(answered) = answer(&snapshot, &(), &client, Moment { now: 0, draw: 0 }, &query, &mut reply)
        else {
            panic!("no reply")
        };
        assert!(Message::read(&reply[..answered.len]).is_some());
        answered.len
    };
    for (transport, _) in Transport::WORDS {
        let is_encrypted = !matches!(transport, Transport::Udp | Transport::Tcp);
        for (name, source) in [(&b"\x01a"[..], "10.1.0.7"), (b"\x04long", "10.1.0.7"), (b"", "10.9.0.7")] {
            let with = length(transport, name, &opt, source);
            assert_eq!(with % 468 == 0, is_encrypted, "{with} octets by {transport:?} to {name:?}");
            assert!(length(transport, name, b"", source) % 468 > 0, "{name:?}");
        }
    }
}
