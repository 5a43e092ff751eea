//! The detectors of DNS Firewall: the time of a cache miss that they look at, and of an answer that reads their findings.
//!
//! `cargo bench --bench detectors`. Compare two commits in one session, because the figures vary between machines and over time.

use std::{hint::black_box, net::IpAddr, sync::Arc, time::Instant};
use zonal::{
    answer::{Client, Moment, Outcome, Transport, answer, identify::QueryTemplate},
    detect::{Detectors, Miss},
    manifest::Loaded,
    snapshot::{Snapshot, compile},
    wire::{Name, query::LookupName, rdata::rtype},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of calls that are measured.
const CALLS: usize = 1_000_000;
/// The number of names that the calls are about.
const NAMES: usize = 20_000;

/// A snapshot with one VPC, a zone, and rules with detectors if `has_detectors`.
fn snapshot(has_detectors: bool) -> Snapshot {
    let rule = |priority: u8, protection: &str| {
        serde_json::json!({"name": protection, "priority": priority, "action": "ALERT", "dns_threat_protection": protection,
                           "confidence_threshold": "HIGH"})
    };
    let list = serde_json::json!({"name": "list", "priority": 9, "action": "BLOCK", "firewall_domain_list_id": "l"});
    let rules = match has_detectors {
        true => vec![rule(1, "DNS_TUNNELING"), rule(2, "DGA"), list],
        false => vec![list],
    };
    let manifest = serde_json::json!({
        "vpcs": {"a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]}},
        "private_hosted_zones": {"Z": {"name": "corp.example", "vpc_ids": ["a"], "records": [
            {"name": "www", "type": "A", "ttl": 60, "records": ["10.0.0.1"]}]}},
        "firewall_domain_lists": {"l": {"domains": ["bad.example"]}},
        "firewall_rule_groups": {"g": {"rules": rules, "vpc_associations": [{"vpc_id": "a", "priority": 1}]}},
    });
    let loaded = Loaded { manifest: serde_json::from_value(manifest).expect("a manifest"), ..Loaded::default() };
    compile(&loaded, &Arc::default(), None).expect("a valid manifest").0
}

fn client() -> Client {
    Client { source: [10, 1, 0, 7].into(), port: 0, local: [192, 0, 2, 1].into(), transport: Transport::Udp }
}

/// The time of a call in nanoseconds.
fn measure(what: &str, mut call: impl FnMut(usize)) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        (0..CALLS).for_each(&mut call);
        best = best.min(started.elapsed().as_secs_f64() * 1e9 / CALLS as f64);
    }
    println!("{what:<60} {best:>7.1} ns");
}

fn misses(snapshot: &Snapshot) {
    let packet = QueryTemplate::default().packet(b"\x01x\0", rtype::A);
    let view = QueryTemplate::of(snapshot, &client(), &packet).view.expect("the client has a view");
    let view = snapshot.views.get(view).expect("the view exists");
    let (Some(detections), Some(rules)) = (snapshot.firewall.detections(view), snapshot.firewall.of(view)) else {
        return;
    };
    let lookup = |name: String| LookupName::new(Name::absolute(&name).expect("a name").as_wire()).expect("a name");
    let scattered = |n: usize| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let client: IpAddr = [10, 1, 0, 7].into();
    type Names<'a> = (&'a str, bool, Vec<LookupName>);
    let cases: [Names; 4] = [
        (
            "a cache miss: one of 20,000 sites",
            false,
            (0..NAMES).map(|n| lookup(format!("www.site{}.com", scattered(n) % 20_000))).collect(),
        ),
        (
            "a cache miss: a query of a tunnel",
            false,
            (0..NAMES)
                .map(|n| lookup(format!("{:016x}{:016x}.t.tunnel.example", scattered(n), scattered(n + 7))))
                .collect(),
        ),
        (
            "a cache miss: the domain itself",
            false,
            (0..NAMES).map(|n| lookup(format!("site{}.com", scattered(n) % 20_000))).collect(),
        ),
        (
            "a cache miss: a generated name that does not exist",
            true,
            (0..NAMES).map(|n| lookup(format!("q{:x}zxj.com", scattered(n)))).collect(),
        ),
    ];
    for (what, is_nxdomain, names) in cases {
        let detectors = Detectors::default();
        measure(what, |n| {
            let (name, now, end) = (&names[n % NAMES], 1_000_000, u32::MAX);
            detectors.observe(black_box(&Miss { vpc: "a", detections, rules, end, client, name, is_nxdomain, now }));
        });
    }
}

fn answers(what: &str, snapshot: &Snapshot) {
    let name = Name::absolute("www.corp.example").expect("a name");
    let packet = QueryTemplate::default().packet(name.as_wire(), rtype::A);
    let mut reply = vec![0; 1232];
    measure(what, |n| {
        let moment = Moment { now: 1_000_000, draw: n as u32 };
        let outcome = answer(snapshot, &(), &client(), moment, black_box(&packet), &mut reply);
        assert!(matches!(outcome, Outcome::Reply(_)));
    });
}

fn main() {
    answers("an answer with a rule on a list", &snapshot(false));
    let with_detectors = snapshot(true);
    answers("the same with detectors that have found nothing", &with_detectors);
    misses(&with_detectors);
    answers("the same with a tunnel and a client that were found", &with_detectors);
}
