//! The detectors on queries that clients really send: tunnels, names of algorithms, and traps that look like them.

use super::*;
use crate::{
    answer::identify::QueryTemplate,
    answer::{Client, Transport},
    manifest::Loaded,
    snapshot::{Snapshot, compile},
    wire::{Name, query::child_hash, query::root_hash, rdata::rtype},
};
use serde_json::json;

/// A snapshot whose VPCs `a` and `b` have rules with both detectors at LOW.
fn snapshot(previous: Option<&Snapshot>, has_rules: bool) -> Snapshot {
    let rule = |priority: u8, protection: &str| {
        json!({"name": protection, "priority": priority, "action": "ALERT", "dns_threat_protection": protection,
               "confidence_threshold": "LOW"})
    };
    let associations = json!([{"vpc_id": "a", "priority": 1}, {"vpc_id": "b", "priority": 1}]);
    let manifest = json!({
        "vpcs": {
            "a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]},
            "b": {"region": "r", "cidr_blocks": ["10.2.0.0/16"]},
        },
        "firewall_rule_groups": {"g": {
            "rules": [rule(1, "DNS_TUNNELING"), rule(2, "DGA")],
            "vpc_associations": if has_rules { associations } else { json!([]) },
        }},
    });
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    compile(&loaded, &Arc::default(), previous).unwrap().0
}

/// A network with detectors, and its clock.
struct World {
    snapshot: Snapshot,
    detectors: Detectors,
    now: i64,
    /// The index of the rule that ends the evaluation for all names.
    end: u32,
}

impl World {
    fn new() -> World {
        World { snapshot: snapshot(None, true), detectors: Detectors::default(), now: 1_000_000, end: u32::MAX }
    }

    /// The findings of the VPC of a client.
    fn detections(&self, client: [u8; 4]) -> (&Detections, &RuleSet) {
        let client = Client { source: client.into(), port: 0, local: [192, 0, 2, 1].into(), transport: Transport::Udp };
        let packet = QueryTemplate::default().packet(b"\x01x\0", rtype::A);
        let template = QueryTemplate::of(&self.snapshot, &client, &packet);
        let view = self.snapshot.views.get(template.view.unwrap()).unwrap();
        let firewall = &self.snapshot.firewall;
        (firewall.detections(view).unwrap(), firewall.of(view).unwrap())
    }

    fn ask(&self, client: [u8; 4], name: &str, is_nxdomain: bool) {
        let (detections, rules) = self.detections(client);
        let vpc = if client[1] == 1 { "a" } else { "b" };
        let name = Name::absolute(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (client, name) = (client.into(), &LookupName::new(name.as_wire()).unwrap());
        let miss = Miss { vpc, detections, rules, end: self.end, client, name, is_nxdomain, now: self.now };
        self.detectors.observe(&miss);
    }

    /// The octets that the detector found for the domain of a name.
    fn tunnel(&self, client: [u8; 4], name: &str) -> Option<Numbers> {
        let name = LookupName::new(Name::absolute(name).unwrap().as_wire()).unwrap();
        self.detections(client).0.tunnel_of(&name, self.now).map(|(_, numbers)| numbers)
    }

    fn is_bot(&self, client: [u8; 4]) -> bool {
        self.detections(client).0.clients().get(client_key(client.into()), self.now).is_some()
    }
}

const A: [u8; 4] = [10, 1, 0, 7];
const B: [u8; 4] = [10, 2, 0, 7];

/// Hexadecimal digits that only the number decides.
fn hex(number: u32, digits: usize) -> String {
    let word = |salt: u8| format!("{:016x}", child_hash(root_hash(), &[&number.to_be_bytes()[..], &[salt]].concat()));
    (0..4).map(word).collect::<String>()[..digits].into()
}

#[test]
fn finds_a_tunnel_once_it_has_sent_the_octets_of_the_threshold() {
    let world = World::new();
    for number in 0..300 {
        world.ask(A, &format!("{}.t.tunnel.example", hex(number, 60)), false);
    }
    let found = world.tunnel(A, "other.tunnel.example").unwrap();
    let expected = 300 * 61;
    assert!(found.amount.abs_diff(expected) < expected / 3, "{found:?}");
    assert!(found.names.abs_diff(300) < 100, "{found:?}");
    assert_eq!(world.tunnel(A, "www.example.com"), None);
    assert_eq!(world.tunnel(B, "x.tunnel.example"), None, "another VPC has its own findings");
    assert!(!world.is_bot(A));
}

#[test]
fn names_that_are_asked_for_again_count_once() {
    let mut world = World::new();
    for hour in 0..12 {
        world.now = 1_000_000 + hour * HOUR;
        for number in 0..200 {
            // A company with many hosts; each is asked for in each hour.
            world.ask(A, &format!("{}.hosts.corp.example", hex(number, 20)), false);
        }
        assert_eq!(world.tunnel(A, "x.corp.example"), None, "hour {hour}");
    }
}

#[test]
fn a_heavy_domain_stays_among_many_light_ones() {
    let world = World::new();
    for number in 0..20_000 {
        world.ask(A, &format!("www.{}.example", hex(number, 12)), false);
        if number % 40 == 0 {
            world.ask(A, &format!("{}.slow.tunnel.example", hex(number, 50)), false);
        }
    }
    assert!(world.tunnel(A, "x.tunnel.example").is_some());
    let entries: usize =
        lock(&world.detectors.vpcs).values().map(|of_vpc| lock(&of_vpc.tables).tunnels.counts().0).sum();
    assert_eq!(entries, 1024, "the table is full, and does not grow");
}

#[test]
fn a_rule_on_a_list_in_front_exempts_its_names() {
    for (end, has_tunnel, has_bot) in [(0, false, false), (1, true, false), (2, true, true)] {
        let world = World { end, ..World::new() };
        for number in 0..300 {
            world.ask(A, &format!("{}.tunnel.example", hex(number, 60)), false);
            world.ask(A, &format!("{}.com", generated(number)), true);
        }
        assert_eq!((world.tunnel(A, "x.tunnel.example").is_some(), world.is_bot(A)), (has_tunnel, has_bot), "{end}");
    }
}

#[test]
fn findings_outlive_a_change_of_the_manifest_and_end_with_the_rules() {
    let mut world = World::new();
    for number in 0..300 {
        world.ask(A, &format!("{}.tunnel.example", hex(number, 60)), false);
    }
    world.snapshot = snapshot(Some(&world.snapshot), true);
    assert!(world.tunnel(A, "x.tunnel.example").is_some());
    let without = snapshot(Some(&world.snapshot), false);
    world.snapshot = snapshot(Some(&without), true);
    assert_eq!(world.tunnel(A, "x.tunnel.example"), None);
    world.ask(A, "www.tunnel.example", false);
    assert_eq!(world.tunnel(A, "x.tunnel.example"), None, "the detector starts from zero too");
    world.ask(B, "www.tunnel.example", false);
    assert_eq!(lock(&world.detectors.vpcs).len(), 2);
}

/// A label that an algorithm makes, and that has a good deal of rare trigrams.
fn generated(number: u32) -> String {
    let letters = b"qxzjkvwbfghyuiopmnrtlcdsae";
    let hash = hex(number, 32);
    hash.bytes().map(|digit| char::from(letters[usize::from(digit) % 26])).take(16).collect()
}

#[test]
fn finds_a_client_that_asks_for_generated_names_in_vain() {
    let mut world = World::new();
    let count = (0..20).filter(|number| looks_generated(generated(*number).as_bytes())).count();
    assert!(count >= 12, "{count}");
    for number in 0..20 {
        world.ask(A, &format!("{}.com", generated(number)), false);
    }
    assert!(!world.is_bot(A), "the names exist");
    for _ in 0..3 {
        for number in 0..6 {
            world.ask(A, &format!("{}.com", generated(number)), true);
        }
    }
    assert!(!world.is_bot(A), "each domain counts once");
    world.now += HOUR;
    for number in 6..12 {
        world.ask(A, &format!("{}.com", generated(number)), true);
    }
    assert!(!world.is_bot(A), "an hour later the count starts from zero");
    for number in 0..20 {
        world.ask(A, &format!("{}.com", generated(number)), true);
    }
    assert!(world.is_bot(A) && !world.is_bot([10, 1, 0, 8]) && !world.is_bot(B));
}

/// One hour of queries that look like a tunnel or like an algorithm, and are neither. Each has the number of names in an hour
/// of a network with some hundred hosts.
fn traps() -> Vec<(&'static str, Vec<String>)> {
    let many = |count: u32, name: &dyn Fn(u32) -> String| (0..count).map(name).collect::<Vec<_>>();
    let octets = |number: u32| number.to_be_bytes().map(|octet| octet.to_string()).join(".");
    vec![
        ("content delivery", many(3000, &|n| format!("d{}.cloudfront.net", hex(n, 13)))),
        ("buckets", many(3000, &|n| format!("bucket-{}.s3.amazonaws.com", hex(n, 16)))),
        ("load balancers", many(500, &|n| format!("internal-{}.eu-west-1.elb.amazonaws.com", hex(n, 24)))),
        ("video edges", many(800, &|n| format!("rr{}---sn-{}.googlevideo.com", n % 9, hex(n, 8)))),
        ("telemetry", many(400, &|n| format!("{}.metrics.vendor.com", hex(n, 32)))),
        ("reputation of files", many(1200, &|n| format!("{}.{}.avqs.scanner.com", hex(n, 26), n % 8))),
        ("block lists", many(10_000, &|n| format!("{}.zen.blocklist.org", octets(n.wrapping_mul(2_654_435_761))))),
        (
            "block lists of IPv6",
            many(2000, &|n| {
                let nibbles: Vec<String> = hex(n, 32).chars().map(String::from).collect();
                format!("{}.zen.blocklist.org", nibbles.join("."))
            }),
        ),
        ("reverse names", many(20_000, &|n| format!("{}.in-addr.arpa", octets(n)))),
        (
            "reverse names of IPv6",
            many(5000, &|n| {
                let nibbles: Vec<String> = hex(n, 32).chars().map(String::from).collect();
                format!("{}.ip6.arpa", nibbles.join("."))
            }),
        ),
        ("search lists", many(2000, &|n| format!("www.site{n}.com.team{}.svc.corp.example", n % 5))),
        ("search list loops", many(200, &|n| format!("host{n}{}", ".corp.example".repeat(15)))),
        ("probes of browsers", many(600, &|n| hex(n, 12).replace(|c: char| c.is_ascii_digit(), "q"))),
        ("probes with a search list", many(600, &|n| format!("{}.corp.example", generated(n)))),
        ("SPF macros", many(1000, &|n| format!("{}._ip.sender{}._spf.mailer.com", octets(n), n % 50))),
        ("certificates", many(300, &|n| format!("_acme-challenge.host{n}.corp.example"))),
        ("mail keys", many(300, &|n| format!("selector{n}._domainkey.sender.com"))),
        ("service discovery", many(300, &|n| format!("_http._tcp.printer{n}.office.example"))),
        ("international names", many(300, &|n| format!("xn--{}.co.jp", hex(n, 40)))),
        ("private zones", many(3000, &|n| format!("ip-10-1-{}-{}.eu-west-1.compute.internal", n / 250, n % 250))),
    ]
}

#[test]
fn traps_do_not_reach_the_threshold_of_medium() {
    for (trap, names) in traps() {
        let world = World::new();
        for name in &names {
            world.ask(A, name, true);
        }
        let highest = names.iter().filter_map(|name| world.tunnel(A, name)).map(|numbers| numbers.amount).max();
        let medium = threshold(DnsTunneling, ConfidenceThreshold::Medium);
        assert!(highest.is_none_or(|octets| octets < medium), "{trap}: {highest:?}");
        assert!(!world.is_bot(A), "{trap}");
    }
}
