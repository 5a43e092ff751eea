use crate::{
    answer::{Client, Moment, Outcome, PrefetchHint, Transport, answer, find_prefetch_hint},
    manifest::{Loaded, Manifest, share_unchanged},
    snapshot::{Snapshot, compile},
    wire::{message::Message, query::LookupName, rdata::rtype},
};
use serde_json::{Value, json};
use std::sync::Arc;

fn manifest() -> Value {
    let record = |name: &str, identifier: &str, address: &str, location: &str| {
        json!({"name": name, "type": "A", "records": [address], "set_identifier": identifier,
               "cidr_routing_policy": {"collection_id": "c", "location_name": location}})
    };
    json!({
        "vpcs": {"a": {"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"]}},
        "forwarders": {"f": {"vpc_id": "a", "cidr_blocks": ["10.1.255.1/32"]}},
        "cidr_collections": {"c": {"locations": {
            "wide": ["10.1.0.0/17"], "narrow": ["10.1.2.0/24", "10.1.3.128/25"]}}},
        "private_hosted_zones": {"Z": {"name": "z.example", "vpc_ids": ["a"], "records": [
            record("all", "w", "192.0.2.1", "wide"),
            record("all", "n", "192.0.2.2", "narrow"),
            record("all", "d", "192.0.2.3", "*"),
            record("some", "n", "192.0.2.2", "narrow"),
            {"name": "alias", "type": "A", "alias": {"name": "all.z.example"}},
            {"name": "plain", "type": "A", "records": ["192.0.2.9"]},
        ]}},
    })
}

fn compiled(manifest: Value, previous: Option<&Snapshot>) -> Snapshot {
    let mut manifest: Manifest = serde_json::from_value(manifest).unwrap();
    previous.inspect(|previous| share_unchanged(&mut manifest, &previous.manifest));
    let loaded = Loaded { manifest: Arc::new(manifest), ..Loaded::default() };
    compile(&loaded, &Arc::default(), previous).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

/// Asks for the A records of a name below `z.example`, from an address, with the data of a client subnet if it is not empty.
/// Returns the last octets of the addresses, and the scope in the reply.
fn ask(snapshot: &Snapshot, source: [u8; 4], name: &str, subnet: &[u8]) -> (Vec<u8>, Option<u8>) {
    let client = Client { source: source.into(), port: 0, local: [10, 1, 0, 2].into(), transport: Transport::Udp };
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, name.len() as u8];
    query.extend_from_slice(name.as_bytes());
    query.extend_from_slice(b"\x01z\x07example\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0");
    match subnet.len() as u8 {
        0 => query.push(0),
        len => query.extend_from_slice(&[&[len + 4, 0, 8, 0, len], subnet].concat()),
    }
    let mut reply = vec![0; 1232];
    let Outcome::Reply(answered) = answer(snapshot, &(), &client, Moment { now: 0, draw: 0 }, &query, &mut reply)
    else {
        panic!("no reply")
    };
    let message = Message::read(&reply[..answered.len]).unwrap();
    let addresses = message.sections[0].iter().filter(|record| record.rtype == rtype::A).map(|record| record.rdata[3]);
    // The option begins with its code, its length and the address family.
    let option = reply[..answered.len].windows(6).position(|octets| octets[..2] == [0, 8] && octets[4..] == [0, 1]);
    (addresses.collect(), option.map(|at| reply[at + 7]))
}

#[test]
fn the_address_of_the_client_chooses_the_location() {
    let snapshot = compiled(manifest(), None);
    for (source, name, expected) in [
        ([10, 1, 2, 7], "all", &[2][..]),
        ([10, 1, 3, 7], "all", &[1]),
        ([10, 1, 3, 200], "all", &[2]),
        ([10, 1, 200, 7], "all", &[3]),
        ([10, 1, 2, 7], "alias", &[2]),
        ([10, 1, 2, 7], "some", &[2]),
        ([10, 1, 3, 7], "some", &[]),
    ] {
        assert_eq!(ask(&snapshot, source, name, &[]), (expected.to_vec(), None), "{source:?} {name}");
    }
}

#[test]
fn the_scope_of_an_answer_excludes_other_locations() {
    let snapshot = compiled(manifest(), None);
    let forwarder = [10, 1, 255, 1];
    for (name, subnet, expected, scope) in [
        ("all", &[0, 1, 32, 0, 10, 1, 2, 7][..], &[2][..], 24),
        ("all", &[0, 1, 24, 0, 10, 1, 2], &[2], 24),
        ("alias", &[0, 1, 24, 0, 10, 1, 2], &[2], 24),
        // The whole prefix is in the wider location only. The scope asks for a longer prefix.
        ("all", &[0, 1, 20, 0, 10, 1, 0], &[1], 23),
        ("all", &[0, 1, 24, 0, 10, 1, 3], &[1], 25),
        ("all", &[0, 1, 25, 0, 10, 1, 3, 128], &[2], 25),
        ("all", &[0, 1, 24, 0, 10, 1, 200], &[3], 17),
        ("some", &[0, 1, 24, 0, 10, 1, 200], &[], 17),
        // Records without the policy have the scope of the view.
        ("plain", &[0, 1, 24, 0, 10, 1, 2], &[9], 16),
        // The forwarder asks for itself.
        ("all", &[0, 1, 0, 0], &[3], 0),
    ] {
        let found = ask(&snapshot, forwarder, name, subnet);
        assert_eq!(found, (expected.to_vec(), Some(scope)), "{name} {subnet:?}");
    }
}

#[test]
fn a_changed_collection_changes_answers_without_a_change_of_the_zone() {
    let first = compiled(manifest(), None);
    let mut changed = manifest();
    changed["cidr_collections"]["c"]["locations"]["narrow"] = json!(["10.1.4.0/24"]);
    let second = compiled(changed, Some(&first));
    assert!(Arc::ptr_eq(&first.zone("Z").unwrap().source, &second.zone("Z").unwrap().source));
    assert_eq!(ask(&second, [10, 1, 2, 7], "all", &[]).0, [1]);
    assert_eq!(ask(&second, [10, 1, 4, 7], "all", &[]).0, [2]);
    let mut same = manifest();
    same["vpcs"]["a"]["owner_id"] = json!("1");
    let third = compiled(same, Some(&first));
    assert!(Arc::ptr_eq(first.zone("Z").unwrap(), third.zone("Z").unwrap()), "an unchanged collection changes no zone");
}

/// The addresses of each stage that a worker prefetches for a query from 10.1.2.7.
fn prefetched(snapshot: &Snapshot, name: &str) -> Vec<usize> {
    let client =
        Client { source: [10, 1, 2, 7].into(), port: 0, local: [10, 1, 0, 2].into(), transport: Transport::Udp };
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
    query.extend_from_slice(name.as_bytes());
    query.extend_from_slice(b"\x01z\x07example\0\0\x01\0\x01");
    let (mut hint, _) = find_prefetch_hint(snapshot, &client, &query, &mut LookupName::root()).unwrap();
    let mut visited = |stage| {
        let mut count = 0;
        assert!(hint.visit_addresses(stage, 7, &mut |_| count += 1), "{name}");
        count
    };
    (0..PrefetchHint::STAGES).map(&mut visited).collect()
}

#[test]
fn a_worker_prefetches_the_group_and_then_its_verdicts_and_records() {
    let mut manifest = manifest();
    manifest["health_checks"] = json!({"h": {"type": "EXTERNAL", "stale_after": 90}});
    let records = manifest["private_hosted_zones"]["Z"]["records"].as_array_mut().unwrap();
    records[0]["health_check_id"] = json!("h");
    records[1]["health_check_id"] = json!("h");
    let snapshot = compiled(manifest, None);
    // Two lines of the group; then two verdicts, and two lines of records.
    assert_eq!(prefetched(&snapshot, "all"), [1, 2, 2, 4]);
    assert_eq!(prefetched(&snapshot, "plain"), [1, 2, 0, 0]);
}
