//! Tests of answers that are too large or too malformed for transcripts.

use super::{Client, Moment, Outcome, Transport, answer};
use crate::{
    explain::{Question, Request, of_manifest},
    manifest::Loaded,
    snapshot::{
        Node, Snapshot, compile,
        routes::{Route, Servers, Target},
    },
    wire::{Name, codes::rcode, message::Message, rdata::rtype},
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

/// A compression pointer reaches 16,383 octets (RFC 1035, 4.1.4). Messages by TCP can be longer.
#[test]
fn writes_whole_owners_beyond_the_reach_of_a_pointer() {
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

/// Some C libraries do not retry by TCP (musl before 1.2.4).
#[test]
fn a_truncated_answer_has_the_addresses_that_fit() {
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
        let min_records = (512 - before) / size;
        assert!(reply.len() <= 512 && set.len() >= min_records, "{name} {qtype}: {} addresses", set.len());
        assert!(qtype != rtype::TXT || set.is_empty(), "a truncated answer has no part of another set");
        let whole = ask(&snapshot, Transport::Tcp, &wire, qtype);
        let whole = Message::read(&whole).unwrap();
        assert_eq!(whole.sections[0].len(), links + 100);
        assert!(set.iter().all(|record| whole.sections[0].contains(record)));
    }
}

/// A label may have any octet, so the question does not end at its first zero octet.
#[test]
fn keeps_a_question_with_a_zero_octet_when_the_chain_is_too_long() {
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

/// By encrypted transports, the length of a reply to a query with EDNS tells nothing about the reply.
#[test]
fn pads_replies_by_encrypted_transports() {
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
    for (transport, _) in Transport::LABELS {
        let is_encrypted = !matches!(transport, Transport::Udp | Transport::Tcp);
        for (name, source) in [(&b"\x01a"[..], "10.1.0.7"), (b"\x04long", "10.1.0.7"), (b"", "10.9.0.7")] {
            let with = length(transport, name, &opt, source);
            assert_eq!(with % 468 == 0, is_encrypted, "{with} octets by {transport:?} to {name:?}");
            assert!(length(transport, name, b"", source) % 468 > 0, "{name:?}");
        }
    }
}

const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

/// The reply to a message of these records behind the question `a.z.example A`, by section, from a client in the VPC.
fn reply_to(opcode: u8, qtype: u16, sections: [&[&[u8]]; 3]) -> Vec<u8> {
    let snapshot = snapshot(json!({"name": "z.example", "vpc_ids": ["a"], "records": [
        {"name": "a", "type": "A", "records": ["10.1.0.1"]}]}));
    let counts = sections.map(|section| section.len() as u8);
    let header = [0, 7, opcode << 3 | 1, 0, 0, 1, 0, counts[0], 0, counts[1], 0, counts[2]];
    let question = [&b"\x01a\x01z\x07example\0"[..], &qtype.to_be_bytes(), &[0, 1]].concat();
    let packet = [&header[..], &question, &sections.concat().concat()].concat();
    let address = "10.1.0.7".parse().unwrap();
    let client = Client { source: address, port: 0, local: address, transport: Transport::Udp };
    let mut reply = vec![0; 1232];
    let Outcome::Reply(answered) = answer(&snapshot, &(), &client, Moment { now: 0, draw: 0 }, &packet, &mut reply)
    else {
        panic!("no reply")
    };
    reply.truncate(answered.len);
    assert!(Message::read(&reply).is_some());
    reply
}

/// A signature, with these octets at its end: error and other data.
fn signature(class: u8, end: &[u8]) -> Vec<u8> {
    let data = [b"\x0bhmac-sha256\0\0\0\0\0\0\x07\x01\x2c\0\x20", &[0xaa; 32][..], &[0, 7], end].concat();
    [b"\x03key\0\0\xfa\0", &[class, 0, 0, 0, 0, 0, data.len() as u8][..], &data].concat()
}

/// RFC 8945, 5.1 and 5.2: a signature is the last record of the additional section, and complete. `answer` does not verify it.
#[test]
fn answers_formerr_to_a_misplaced_or_malformed_signature() {
    let good = signature(255, &[0, 0, 0, 0]);
    let with_error = signature(255, &[0, 16, 0, 0]);
    let with_other = signature(255, &[0, 18, 0, 6, 0, 0, 0, 0, 0, 9]);
    let cut = signature(255, &[0, 0, 0]);
    let too_long = signature(255, &[0, 0, 0, 1]);
    let no_data = b"\x03key\0\0\xfa\0\xff\0\0\0\0\0\0".to_vec();
    let (formerr, notauth) = (rcode::FORMERR, rcode::NOTAUTH);
    for (what, qtype, sections, expected) in [
        ("good", rtype::A, [&[][..], &[], &[&OPT[..], &good]], notauth),
        ("good, without EDNS", rtype::A, [&[], &[], &[&good]], notauth),
        ("with an error", rtype::A, [&[], &[], &[&OPT[..], &with_error]], notauth),
        ("with other data", rtype::A, [&[], &[], &[&OPT[..], &with_other]], notauth),
        ("in front of OPT", rtype::A, [&[], &[], &[&good, &OPT[..]]], formerr),
        ("twice", rtype::A, [&[], &[], &[&OPT[..], &good, &good]], formerr),
        ("as an answer", rtype::A, [&[&good], &[], &[&OPT[..]]], formerr),
        ("as authority", rtype::A, [&[], &[&good], &[&OPT[..]]], formerr),
        ("as authority of an IXFR", rtype::IXFR, [&[], &[&good], &[&OPT[..]]], formerr),
        ("cut", rtype::A, [&[], &[], &[&OPT[..], &cut]], formerr),
        ("too long", rtype::A, [&[], &[], &[&OPT[..], &too_long]], formerr),
        ("without data", rtype::A, [&[], &[], &[&OPT[..], &no_data]], formerr),
        ("of class IN", rtype::A, [&[], &[], &[&OPT[..], &signature(1, &[0, 0, 0, 0])]], formerr),
    ] {
        let sections: [&[&[u8]]; 3] = sections;
        let reply = reply_to(0, qtype, sections);
        let has_opt = sections[2].iter().any(|record| *record == OPT);
        assert_eq!((reply[3] & 15, reply[11]), (expected as u8, has_opt.into()), "{what}");
        assert_eq!(reply[6..10], [0; 4], "{what}: nothing is answered");
    }
}

/// RFC 6891, 6.1.1: a query with EDNS gets a reply with EDNS, whatever else is wrong.
#[test]
fn errors_have_an_opt_record_if_the_query_has_one() {
    let record: &[u8] = b"\x01x\0\0\x01\0\x01\0\0\0\0\0\x04\x0a\0\0\x01";
    let opt: &[u8] = &OPT;
    let with_cookie = [&OPT[..10], &[12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
    for opcode in [1, 2, 3, 4, 5, 6, 9, 15] {
        assert_eq!(reply_to(opcode, rtype::A, [&[], &[], &[]])[2..], [0x80 | opcode << 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        let reply = reply_to(opcode, rtype::A, [&[record], &[record], &[record, opt]]);
        assert_eq!((&reply[2..4], reply[11]), (&[0x80 | opcode << 3, 4][..], 1), "opcode {opcode}");
        let message = Message::read(&reply_to(opcode, rtype::A, [&[], &[], &[&with_cookie]])).unwrap();
        assert_eq!(message.rcode, rcode::NOTIMP);
    }
    for sections in [[&[record][..], &[], &[opt]], [&[], &[record], &[opt]], [&[record], &[record], &[record, opt]]] {
        let reply = reply_to(0, rtype::A, sections);
        assert_eq!((reply[3] & 15, reply[11]), (rcode::FORMERR as u8, 1));
    }
    assert_eq!(reply_to(0, rtype::A, [&[record], &[], &[]])[11], 0);
    let bad_version = [0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0];
    assert_eq!(reply_to(2, rtype::A, [&[], &[], &[&bad_version]])[11], 1);
}

fn compiled(manifest: serde_json::Value, node: Node) -> Snapshot {
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    compile(&loaded, &Arc::new(node), None).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

/// The answer to a question of a client: status and records, or the question to other servers.
fn answer_for(snapshot: &Snapshot, source: &str, local: &str, name: &str, rtype: &str) -> Vec<String> {
    let request = Request {
        from: source.parse().unwrap(),
        to: Some(local.parse().unwrap()),
        via: None,
        name: name.into(),
        rtype: rtype.into(),
        resolve: false,
    };
    of_manifest(snapshot, &Question::new(&request).unwrap(), 0).summary()
}

#[test]
fn reverse_zones_end_with_autodefined_reverse_false_and_names_stay() {
    let vpcs = |autodefined_reverse: Option<bool>| {
        let mut vpcs = json!({"a": {"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16", "2001:db8::/56"]}});
        if let Some(value) = autodefined_reverse {
            vpcs["a"]["autodefined_reverse"] = json!(value);
        }
        compiled(json!({"vpcs": vpcs}), Node::default())
    };
    let ask = |snapshot: &Snapshot, name: &str, rtype: &str| {
        answer_for(snapshot, "10.1.0.7", "10.1.0.7", name, rtype).join("; ")
    };
    let ipv6 = format!("{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(24));
    for with in [vpcs(None), vpcs(Some(true))] {
        assert!(ask(&with, "7.0.1.10.in-addr.arpa", "PTR").contains("ip-10-1-0-7.ec2.internal."));
        for name in ["1.2.3.10.in-addr.arpa", "1.0.168.192.in-addr.arpa", &ipv6] {
            assert_eq!(ask(&with, name, "PTR"), "NXDOMAIN", "{name}");
        }
    }
    let without = vpcs(Some(false));
    for name in
        ["7.0.1.10.in-addr.arpa", "10.in-addr.arpa", "1.0.168.192.in-addr.arpa", "1.0.0.127.in-addr.arpa", &ipv6]
    {
        assert_eq!(ask(&without, name, "PTR"), "REFUSED", "{name}");
    }
    assert!(ask(&without, "ip-10-1-0-7.ec2.internal", "A").contains("10.1.0.7"));
    for name in ["x.localdomain", "x.resolver.arpa", "x.home.arpa"] {
        assert_eq!(ask(&without, name, "A"), "NXDOMAIN", "{name}");
    }
    let request = Request {
        from: "10.1.0.7".parse().unwrap(),
        to: None,
        via: None,
        name: "7.0.1.10.in-addr.arpa".into(),
        rtype: "PTR".into(),
        resolve: false,
    };
    let text = of_manifest(&without, &Question::new(&request).unwrap(), 0).to_text("");
    assert!(text.contains("VPC a has no autodefined reverse zones: its `autodefined_reverse` is false"), "{text}");
}

/// Clients of an inbound endpoint with DNS64 get its prefix. A subnet's own DNS64 comes first.
#[test]
fn dns64_of_an_inbound_endpoint_uses_its_prefix() {
    let endpoint = |ip: &str, more: serde_json::Value| {
        let mut endpoint = json!({"direction": "INBOUND", "vpc_id": "a", "ip_addresses": [{"ip": ip}]});
        endpoint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        endpoint
    };
    let subnet = |block: &str, enable: bool| json!({"availability_zone_id": "az1", "cidr_blocks": [block], "enable_dns64": enable});
    let snapshot = compiled(
        json!({
            "vpcs": {"a": {"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"], "subnets": {
                "with": subnet("10.1.1.0/24", true), "without": subnet("10.1.2.0/24", false)}}},
            "on_premises_networks": {"dc": {"cidr_blocks": ["192.168.0.0/16"], "vpc_ids": ["a"]}},
            "resolver_endpoints": {
                "plain": endpoint("10.1.0.51", json!({})),
                "well": endpoint("10.1.0.52", json!({"dns64": true})),
                "own": endpoint("10.1.0.53", json!({"dns64": true, "dns64_prefix": "2001:db8:1:2::/64"})),
                "authority": endpoint("10.1.0.54", json!({"direction": "INBOUND_DELEGATION", "dns64": true})),
            },
            "private_hosted_zones": {"Z": {"name": "z.example", "vpc_ids": ["a"], "records": [
                {"name": "four", "type": "A", "ttl": 60, "records": ["10.1.0.9"]},
                {"name": "both", "type": "A", "ttl": 60, "records": ["10.1.0.9"]},
                {"name": "both", "type": "AAAA", "ttl": 60, "records": ["2001:db8::9"]}]}},
        }),
        Node::default(),
    );
    let ask = |source: &str, local: &str, name: &str, rtype: &str| {
        answer_for(&snapshot, source, local, name, rtype).join("; ")
    };
    for (source, local, expected) in [
        ("192.168.0.7", "10.1.0.51", "no data"),
        ("192.168.0.7", "10.1.0.52", "four.z.example. 60 AAAA 64:ff9b::a01:9"),
        ("192.168.0.7", "10.1.0.53", "four.z.example. 60 AAAA 2001:db8:1:2:a:100:900:0"),
        ("192.168.0.7", "10.1.0.54", "no data"),
        ("10.1.2.7", "10.1.0.53", "four.z.example. 60 AAAA 2001:db8:1:2:a:100:900:0"),
        ("10.1.1.7", "10.1.0.53", "four.z.example. 60 AAAA 64:ff9b::a01:9"),
        ("10.1.1.7", "10.1.0.51", "four.z.example. 60 AAAA 64:ff9b::a01:9"),
        ("10.1.2.7", "10.1.0.51", "no data"),
        ("10.1.2.7", "10.9.9.9", "no data"),
    ] {
        assert_eq!(ask(source, local, "four.z.example", "AAAA"), expected, "{source} at {local}");
        assert_eq!(ask(source, local, "both.z.example", "AAAA"), "both.z.example. 60 AAAA 2001:db8::9");
    }
    // A reverse name of a synthesised address leads to the name of the IPv4 address.
    let reverse = |address: &str| {
        let digits = format!("{:032x}", u128::from(address.parse::<std::net::Ipv6Addr>().unwrap()));
        digits.chars().rev().map(|digit| format!("{digit}.")).collect::<String>() + "ip6.arpa"
    };
    let own = reverse("2001:db8:1:2:a:100:900:0");
    let found = ask("192.168.0.7", "10.1.0.53", &own, "PTR");
    assert!(found.contains("CNAME 9.0.1.10.in-addr.arpa.") && found.contains("ip-10-1-0-9.ec2.internal."), "{found}");
    assert!(!ask("192.168.0.7", "10.1.0.52", &own, "PTR").contains("CNAME"), "it is no address of the prefix");
    let broken = reverse("2001:db8:1:2:a:100:900:1");
    assert_eq!(ask("192.168.0.7", "10.1.0.53", &broken, "PTR"), "NXDOMAIN");
    assert_eq!(ask("192.168.0.7", "10.1.0.53", broken.split_once('.').unwrap().1, "PTR"), "no data");
}

/// Recursion without validation has entries of its own in the cache: those of queries with CD.
#[test]
fn recursion_is_asked_without_validation_for_vpcs_that_do_not_want_it() {
    let snapshot = |is_validation_off: bool| {
        let vpc = |block: &str, more: serde_json::Value| {
            let mut vpc = json!({"region": "us-east-1", "cidr_blocks": [block]});
            vpc.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            vpc
        };
        let internet = Some(Arc::new(Route::new(String::new(), [0].into(), Servers::Recursion)));
        let manifest = json!({"vpcs": {
            "default": vpc("10.1.0.0/16", json!({})),
            "on": vpc("10.2.0.0/16", json!({"dnssec_validation": true})),
            "off": vpc("10.3.0.0/16", json!({"dnssec_validation": false})),
        }});
        compiled(manifest, Node { internet, is_validation_off, ..Node::default() })
    };
    let ask = |snapshot: &Snapshot, source: [u8; 4], cd: bool| {
        let client = Client { source: source.into(), port: 0, local: source.into(), transport: Transport::Udp };
        let query =
            [&[0, 7, 1, if cd { 0x10 } else { 0 }, 0, 1, 0, 0, 0, 0, 0, 0], &b"\x01x\0\0\x01\0\x01"[..]].concat();
        match answer(snapshot, &(), &client, Moment { now: 0, draw: 0 }, &query, &mut [0; 512]) {
            Outcome::Forward(question) => question.checking_disabled,
            _ => panic!("{source:?} is not forwarded"),
        }
    };
    for (is_validation_off, unvalidated) in [(false, [false, false, true]), (true, [true, false, true])] {
        let snapshot = snapshot(is_validation_off);
        for (octet, expected) in [1, 2, 3].into_iter().zip(unvalidated) {
            assert_eq!(ask(&snapshot, [10, octet, 0, 7], false), expected, "10.{octet}.0.7 {is_validation_off}");
            assert!(ask(&snapshot, [10, octet, 0, 7], true), "a query with CD is never validated");
        }
    }
    // Targets get the CD bit of the query: they decide about validation themselves.
    let mut node = Node { is_validation_off: true, ..Node::default() };
    let targets = vec![Target::do53([192, 0, 2, 1].into())];
    let servers = Servers::Targets { targets, sources: Vec::new(), trust_ad: false };
    node.internet = Some(Arc::new(Route::new(String::new(), [0].into(), servers)));
    let manifest = json!({"vpcs": {"a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"], "dnssec_validation": true}}});
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    let (snapshot, warnings) = compile(&loaded, &Arc::new(node), None).unwrap();
    assert!(!ask(&snapshot, [10, 1, 0, 7], false));
    assert!(
        warnings.iter().any(|warning| warning.field == "dnssec_validation" && warning.message.contains("no effect")),
        "{warnings:?}"
    );
}
