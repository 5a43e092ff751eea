use super::rules::edits;
use crate::control_plane::change::UpdateError;
use crate::{
    manifest::{Loaded, overlay::Overlay, rewrite::text},
    snapshot::{Snapshot, compile, zone::Zone},
    transfer::message::Request,
    wire::{
        Name,
        codes::class,
        codes::rcode::{FORMERR, NOTZONE, NXDOMAIN, NXRRSET, YXDOMAIN, YXRRSET},
        rdata::{parse_text, rtype, type_from_text, type_to_text},
    },
};
use std::sync::Arc;

const ZONE: &str = "corp.example";

fn loaded() -> Loaded {
    let set = |name: &str, rtype: &str, values: &[&str]| serde_json::json!({"name": name, "type": rtype, "ttl": 60, "records": values});
    let manifest = serde_json::json!({
        "vpcs": {"a": {"region": "r", "cidr_blocks": ["10.0.0.0/8"]}},
        "private_hosted_zones": {"Z": {"name": ZONE, "vpc_ids": ["a"], "allow_update": [{"tsig_key": "k"}], "records": [
            set("@", "SOA", &["ns.corp.example. h.corp.example. 7 1 1 1 60"]),
            set("@", "NS", &["ns1.corp.example.", "ns2.corp.example."]),
            set("@", "MX", &["10 Mail.corp.example."]),
            set("www", "A", &["192.0.2.1", "192.0.2.2"]),
            set("www", "TXT", &["\"x\""]),
            set("c", "CNAME", &["www.corp.example."]),
            set("deep.empty", "A", &["192.0.2.1"]),
            {"name": "alias", "type": "A", "alias": {"name": "www.corp.example"}},
            {"name": "fixed", "type": "A", "ttl": 60, "records": ["192.0.2.5"], "protected": true, "protection_comment": "ask Ann"},
        ]}},
    });
    Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() }
}

fn snapshot() -> Snapshot {
    compile(&loaded(), &Arc::default(), None).unwrap().0
}

/// `name class type [data]`, the class as in a prerequisite or update: `IN`, `ANY`, `NONE`.
fn record(line: &str, ttl: u32) -> Vec<u8> {
    let [name, class, rtype, data @ ..] = &line.splitn(4, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let rtype = type_from_text(rtype).unwrap();
    let data = data.first().map_or(Box::default(), |data| parse_text(rtype, data, &Name::root()).unwrap());
    let class: u16 = match *class {
        "IN" => class::IN,
        "NONE" => class::NONE,
        "ANY" => class::ANY,
        other => other.parse().unwrap(),
    };
    let ttl = if class == 1 { ttl } else { 0 };
    let mut octets = Name::absolute(name).unwrap().as_wire().to_vec();
    octets.extend_from_slice(&[rtype.to_be_bytes(), class.to_be_bytes()].concat());
    octets.extend_from_slice(&ttl.to_be_bytes());
    octets.extend_from_slice(&(data.len() as u16).to_be_bytes());
    octets.extend_from_slice(&data);
    octets
}

fn request(prerequisites: &[&str], updates: &[&str]) -> Request {
    let mut packet = b"\0\x07\x28\0\0\x01".to_vec();
    for count in [prerequisites.len(), updates.len(), 0] {
        packet.extend_from_slice(&(count as u16).to_be_bytes());
    }
    packet.extend_from_slice(Name::absolute(ZONE).unwrap().as_wire());
    packet.extend_from_slice(&[0, 6, 0, 1]);
    prerequisites.iter().for_each(|line| packet.extend_from_slice(&record(line, 0)));
    updates.iter().for_each(|line| packet.extend_from_slice(&record(line, 30)));
    Request::read(&packet).unwrap()
}

/// The changed sets, as `name ttl type values`.
fn made(zone: &Zone, updates: &[&str]) -> Vec<String> {
    let sets = edits(zone, &request(&[], updates)).unwrap();
    let texts = sets.iter().map(|set| {
        let values: Vec<String> = set.values.iter().map(|value| text(set.rtype, value)).collect();
        format!("{} {} {} [{}]", set.owner, set.ttl, type_to_text(set.rtype), values.join(", "))
    });
    texts.collect()
}

#[test]
fn checks_prerequisites() {
    let snapshot = snapshot();
    let zone = snapshot.zone("Z").unwrap();
    for (lines, code) in [
        (&["www.corp.example ANY ANY"][..], None),
        (&["WWW.corp.example ANY A"], None),
        (&["no.corp.example ANY ANY"], Some(NXDOMAIN)),
        // An empty non-terminal exists, but is not in use (RFC 2136, section 2.4.4).
        (&["empty.corp.example ANY ANY"], Some(NXDOMAIN)),
        (&["empty.corp.example NONE ANY"], None),
        (&["www.corp.example ANY AAAA"], Some(NXRRSET)),
        (&["www.corp.example NONE ANY"], Some(YXDOMAIN)),
        (&["www.corp.example NONE A"], Some(YXRRSET)),
        (&["no.corp.example NONE ANY", "www.corp.example NONE AAAA", "c.corp.example NONE A"], None),
        (&["www.corp.example IN A 192.0.2.2", "www.corp.example IN A 192.0.2.1"], None),
        (&["www.corp.example IN A 192.0.2.2"], Some(NXRRSET)),
        (&["www.corp.example IN A 192.0.2.1", "www.corp.example IN A 192.0.2.3"], Some(NXRRSET)),
        (&["no.corp.example IN A 192.0.2.1"], Some(NXRRSET)),
        (&["corp.example IN MX 10 mail.CORP.example."], None),
        (&["alias.corp.example IN A 192.0.2.1", "alias.corp.example IN A 192.0.2.2"], None),
        (&["www.corp.example 3 A"], Some(FORMERR)),
        (&["www.corp.example ANY A 192.0.2.1"], Some(FORMERR)),
        (&["www.example ANY A"], Some(NOTZONE)),
    ] {
        let result = edits(zone, &request(lines, &["x.corp.example IN A 192.0.2.9"]));
        assert_eq!(result.err(), code.map(UpdateError::Rcode), "{lines:?}");
    }
}

#[test]
fn applies_updates() {
    let snapshot = snapshot();
    let zone = snapshot.zone("Z").unwrap();
    for (lines, expected) in [
        (&["x.corp.example IN A 192.0.2.9"][..], &["x.corp.example. 30 A [192.0.2.9]"][..]),
        (&["www.corp.example IN A 192.0.2.9"], &["www.corp.example. 30 A [192.0.2.1, 192.0.2.2, 192.0.2.9]"]),
        // The same record again changes the TTL.
        (&["www.corp.example IN A 192.0.2.1"], &["www.corp.example. 30 A [192.0.2.1, 192.0.2.2]"]),
        (&["www.corp.example ANY A"], &["www.corp.example. 0 A []"]),
        (&["www.corp.example ANY ANY"], &["www.corp.example. 0 A []", "www.corp.example. 0 TXT []"]),
        (&["www.corp.example NONE A 192.0.2.1"], &["www.corp.example. 60 A [192.0.2.2]"]),
        (&["www.corp.example NONE A 192.0.2.7"], &[]),
        (&["www.corp.example NONE A 192.0.2.1", "www.corp.example NONE A 192.0.2.2"], &["www.corp.example. 0 A []"]),
        (&["no.corp.example ANY ANY", "no.corp.example ANY A"], &[]),
        // A record that is added and removed again is no change.
        (&["x.corp.example IN A 192.0.2.9", "x.corp.example ANY ANY"], &[]),
        // The SOA record and the name servers of the zone stay (RFC 2136, sections 3.4.2.3 and
        // 3.4.2.4).
        (&["corp.example ANY ANY"], &["corp.example. 0 MX []"]),
        (&["corp.example ANY NS", "corp.example ANY SOA"], &[]),
        (
            &["corp.example NONE NS ns1.corp.example.", "corp.example NONE NS ns2.corp.example."],
            &["corp.example. 60 NS [ns2.corp.example.]"],
        ),
        (&["corp.example NONE MX 10 MAIL.corp.example."], &["corp.example. 0 MX []"]),
        (&["corp.example IN SOA a. b. 7 1 1 1 60"], &[]),
        (&["corp.example IN SOA a. b. 6 1 1 1 60"], &[]),
        (&["corp.example IN SOA a. b. 9 1 1 1 60"], &["corp.example. 30 SOA [a. b. 9 1 1 1 60]"]),
        (&["www.corp.example IN SOA a. b. 9 1 1 1 60"], &[]),
        // CNAME and other data exclude each other (RFC 2136, section 3.4.2.2).
        (&["www.corp.example IN CNAME x."], &[]),
        (&["c.corp.example IN A 192.0.2.9"], &[]),
        (&["c.corp.example IN CNAME x."], &["c.corp.example. 30 CNAME [x.]"]),
        (
            &["c.corp.example ANY ANY", "c.corp.example IN A 192.0.2.9"],
            &["c.corp.example. 30 A [192.0.2.9]", "c.corp.example. 0 CNAME []"],
        ),
    ] {
        assert_eq!(made(zone, lines), expected, "{lines:?}");
    }
}

#[test]
fn refuses_malformed_updates() {
    let snapshot = snapshot();
    let zone = snapshot.zone("Z").unwrap();
    for (line, code) in [
        ("www.example IN A 192.0.2.1", NOTZONE),
        ("x.corp.example 3 A", FORMERR),
        ("x.corp.example IN A", FORMERR),
        ("x.corp.example NONE ANY", FORMERR),
        ("x.corp.example NONE A", FORMERR),
        ("x.corp.example IN ANY", FORMERR),
        ("x.corp.example ANY AXFR", FORMERR),
        ("x.corp.example IN TYPE41", FORMERR),
        ("x.corp.example ANY TYPE41", FORMERR),
        ("x.corp.example IN TYPE250", FORMERR),
        ("x.corp.example ANY A 192.0.2.1", FORMERR),
    ] {
        // The whole update fails.
        let result = edits(zone, &request(&[], &["y.corp.example IN A 192.0.2.1", line]));
        assert_eq!(result.err(), Some(UpdateError::Rcode(code)), "{line}");
    }
    let result = edits(zone, &request(&[], &["alias.corp.example ANY A"]));
    assert!(matches!(result, Err(UpdateError::Refused(why)) if why.contains("alias")));
}

/// A zone that is compiled from its former version and an overlay equals one that is compiled from
/// its source and the overlay.
#[test]
fn compiles_the_same_zone_with_and_without_its_former_version() {
    let (loaded, first) = (loaded(), snapshot());
    let all = |zone: &Zone| -> Vec<String> {
        let sets = zone.record_sets().flat_map(|(owner, set)| {
            let owner = Name::from_wire(&owner).unwrap();
            let text_of = move |value: Vec<u8>| {
                let value = if set.rtype() == rtype::SOA { String::new() } else { text(set.rtype(), &value) };
                format!("{owner} {} {} {value}", set.ttl(), set.rtype())
            };
            set.values().map(text_of).collect::<Vec<_>>()
        });
        let mut all: Vec<String> = sets.collect();
        all.sort();
        all
    };
    let mut overlay = Overlay::default();
    let mut latest = first;
    for (number, line) in
        ["x.corp.example IN A 192.0.2.9", "deep.empty.corp.example ANY ANY", "www.corp.example NONE A 192.0.2.2"]
            .iter()
            .enumerate()
    {
        let sets = edits(latest.zone("Z").unwrap(), &request(&[], &[line])).unwrap();
        overlay.add(&sets);
        let overlays = [("Z".to_string(), Arc::new(overlay.clone()))].into_iter().collect();
        let loaded = Loaded { overlays, digest: [number as u8; 32], ..loaded.clone() };
        latest = compile(&loaded, &Arc::default(), Some(&latest)).unwrap().0;
        let zone = latest.zone("Z").unwrap();
        assert_eq!(zone.serial(), 8 + number as u32);
        let anew = compile(&loaded, &Arc::default(), None).unwrap().0;
        assert_eq!(all(anew.zone("Z").unwrap()), all(zone), "{line}");
        // After a restart, the zone has the same serial.
        let mut restarted = compile(&Loaded::default(), &Arc::default(), None).unwrap().0;
        restarted.serials = latest.serials.clone();
        let again = compile(&loaded, &Arc::default(), Some(&restarted)).unwrap().0;
        assert_eq!(again.zone("Z").unwrap().serial(), zone.serial());
    }
    let zone = latest.zone("Z").unwrap();
    assert!(zone.node_of(Name::absolute("empty.corp.example").unwrap().as_wire()).is_none(), "it is no name any more");
    assert_eq!(zone.alias(0).to_string(), "www.corp.example.");
}

#[test]
fn refuses_updates_of_protected_record_sets() {
    let snapshot = snapshot();
    let zone = snapshot.zone("Z").unwrap();
    for lines in [
        &["fixed.corp.example IN A 192.0.2.6"][..],
        &["FIXED.corp.example IN A 192.0.2.6", "x.corp.example IN A 192.0.2.9"],
        &["fixed.corp.example ANY A"],
        &["fixed.corp.example ANY ANY"],
        &["fixed.corp.example NONE A 192.0.2.5"],
    ] {
        let refusal = UpdateError::Protected("fixed.corp.example. A is protected (ask Ann)".into());
        assert_eq!(edits(zone, &request(&[], lines)), Err(refusal), "{lines:?}");
    }
    // Other types of the name are not protected, and an update that changes nothing is none.
    assert_eq!(made(zone, &["fixed.corp.example IN TXT \"x\""]), ["fixed.corp.example. 30 TXT [\"x\"]"]);
    assert!(made(zone, &["fixed.corp.example NONE A 192.0.2.7"]).is_empty());
}
