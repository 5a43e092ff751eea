//! The cost of a Profile that many VPCs share: compile time, memory of the snapshot, and the time of a change of one
//! member. The benchmark compares VPCs with a Profile, one VPC with it, VPCs without one, and VPCs with which the same
//! members are associated directly.
//!
//! `cargo bench --bench profiles [-- VPCS [MEMBERS [DIRECT]]]`: VPCS is the number of VPCs (default: 10,000), MEMBERS the
//! number of members (default: 1,000; zones, rules and endpoints, a third each), and DIRECT the number of VPCs with direct
//! associations (default: 1,000).

use serde_json::{Map, Value, json};
use std::{
    alloc::{GlobalAlloc, Layout},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};
use zonal::{
    manifest::{Loaded, Manifest, PrivateHostedZone, ResourceRecordSet},
    snapshot::{Node, Snapshot, compile},
};

/// The allocator of the program, which counts the octets in use.
struct Counting;

static IN_USE: AtomicI64 = AtomicI64::new(0);

fn count(octets: i64) {
    IN_USE.fetch_add(octets, Ordering::Relaxed);
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { mimalloc::MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { mimalloc::MiMalloc.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The number of changes of one member.
const CHANGES: u32 = 20;

fn vpc_id(number: u32) -> String {
    format!("vpc-{number:05}")
}

/// How VPCs have the members.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Profile,
    Association,
    Nothing,
}

/// VPCs that reach one VPC with endpoints over a Transit Gateway, and members.
fn manifest(vpcs: u32, members: u32, by: By) -> Manifest {
    let vpc = |number: u32| {
        let block = format!("10.{}.{}.0/24", number / 256, number % 256);
        let profiles = if by == By::Profile { json!([{"profile_id": "rp"}]) } else { json!([]) };
        (vpc_id(number), json!({"region": "us-east-1", "cidr_blocks": [block], "profiles": profiles}))
    };
    let hub = json!({"region": "us-east-1", "cidr_blocks": ["172.16.0.0/12"], "availability_zones": {"us-east-1a": "use1-az1"}});
    let all: Vec<String> = (0..vpcs).map(vpc_id).collect();
    let ids = if by == By::Association { json!(all) } else { json!([]) };
    let third = members / 3;
    let attachments: Vec<Value> =
        [&"hub".to_string()].into_iter().chain(&all).map(|id| json!({"vpc_id": id})).collect();
    let zone = |number: u32| {
        let records = json!([{"name": "www", "type": "A", "records": ["10.0.0.1"]}]);
        (
            format!("Z{number:05}"),
            json!({"name": format!("z{number}.corp.example"), "vpc_ids": ids, "records": records}),
        )
    };
    let rule = |number: u32| {
        let targets = json!([{"ip": "192.0.2.1"}]);
        (
            format!("rr-{number:05}"),
            json!({"domain_name": format!("r{number}.example.net"), "rule_type": "FORWARD", "vpc_ids": ids, "target_ips": targets}),
        )
    };
    let service = |number: u32| {
        let name = format!("s{number}.us-east-1.amazonaws.com");
        (
            format!("svc-{number:05}"),
            json!({"owner_id": "amazon", "region": "us-east-1", "dns_name": format!("s{number}.vpce.example"), "private_dns_names": [name]}),
        )
    };
    let endpoint = |number: u32| {
        let address = format!("172.16.{}.{}", number / 250, number % 250 + 1);
        let interfaces = json!([{"availability_zone_id": "use1-az1", "ipv4": address}]);
        let scope = if by == By::Association { ids.clone() } else { json!("vpc") };
        (
            format!("vpce-{number:05}"),
            json!({"vpc_endpoint_type": "Interface", "service_name": format!("svc-{number:05}"), "vpc_id": "hub",
            "state": "Available", "private_dns_enabled": true, "private_dns_scope": scope, "network_interfaces": interfaces}),
        )
    };
    fn map(all: impl Iterator<Item = (String, Value)>) -> Map<String, Value> {
        all.collect()
    }
    let profile = json!({
        "private_hosted_zones": (0..third).map(|n| zone(n).0).collect::<Vec<_>>(),
        "resolver_rules": (0..third).map(|n| rule(n).0).collect::<Vec<_>>(),
        "vpc_endpoints": (0..third).map(|n| endpoint(n).0).collect::<Vec<_>>(),
    });
    let value = json!({
        "vpcs": map((0..vpcs).map(vpc).chain([("hub".to_string(), hub)])),
        "transit_gateways": {"tgw": {"region": "us-east-1", "attachments": attachments}},
        "private_hosted_zones": map((0..third).map(zone)),
        "resolver_rules": map((0..third).map(rule)),
        "vpc_endpoint_services": map((0..third).map(service)),
        "vpc_endpoints": map((0..third).map(endpoint)),
        "profiles": if by == By::Profile { json!({"rp": profile}) } else { json!({}) },
    });
    serde_json::from_value(value).expect("a manifest")
}

/// The memory in use, in megabytes.
fn memory_megabytes() -> f64 {
    IN_USE.load(Ordering::Relaxed) as f64 / 1e6
}

fn compiled(manifest: Arc<Manifest>, previous: Option<&Snapshot>) -> Snapshot {
    let loaded = Loaded { manifest, ..Loaded::default() };
    compile(&loaded, &Arc::new(Node::default()), previous).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

/// The median time of a change, in milliseconds.
fn changes(mut snapshot: Snapshot, change: impl Fn(&mut Manifest, u32)) -> f64 {
    let mut durations = Vec::new();
    for number in 0..CHANGES {
        let mut manifest = Manifest::clone(&snapshot.manifest);
        change(&mut manifest, number);
        let manifest = Arc::new(manifest);
        let start = Instant::now();
        snapshot = compiled(manifest, Some(&snapshot));
        durations.push(start.elapsed().as_secs_f64() * 1e3);
    }
    durations.sort_by(f64::total_cmp);
    durations[durations.len() / 2]
}

/// Changes the address in a zone.
fn change_records(manifest: &mut Manifest, number: u32) {
    let id = format!("Z{:05}", number % 7);
    let Some(old) = manifest.private_hosted_zones.get(&id) else { return };
    let records = vec![format!("10.0.1.{number}")];
    let set = ResourceRecordSet { name: "www".into(), record_type: "A".into(), records, ..Default::default() };
    let zone = PrivateHostedZone { records: [Arc::new(set)].into_iter().collect(), ..PrivateHostedZone::clone(old) };
    manifest.private_hosted_zones.insert(id, Arc::new(zone));
}

/// Takes a rule away, or puts it back.
fn change_rule(manifest: &mut Manifest, number: u32) {
    let id = "rr-00003".to_string();
    let Some(old) = manifest.resolver_rules.get(&id) else { return };
    let mut rule = zonal::manifest::ResolverRule::clone(old);
    rule.enabled = !number.is_multiple_of(2);
    manifest.resolver_rules.insert(id, Arc::new(rule));
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u32>().ok());
    let (vpcs, members) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(1_000));
    let direct = numbers.next().unwrap_or(1_000);
    println!(
        "{:44} {:>11} {:>11} {:>16} {:>16}",
        format!("{members} members"),
        "compiled in",
        "memory",
        "records changed",
        "rule changed"
    );
    for (what, vpcs, by) in [
        ("1 VPC with the Profile", 1, By::Profile),
        ("VPCs without it", vpcs, By::Nothing),
        ("VPCs with the Profile", vpcs, By::Profile),
        ("VPCs with direct associations", direct, By::Association),
    ] {
        let manifest = Arc::new(manifest(vpcs, members, by));
        let (before, start) = (memory_megabytes(), Instant::now());
        let snapshot = compiled(manifest.clone(), None);
        let (elapsed, memory) = (start.elapsed().as_secs_f64() * 1e3, memory_megabytes() - before);
        let records = changes(compiled(manifest.clone(), Some(&snapshot)), change_records);
        let rule = changes(compiled(manifest, Some(&snapshot)), change_rule);
        println!(
            "{:44} {elapsed:8.0} ms {memory:8.1} MB {records:13.2} ms {rule:13.2} ms",
            format!("{vpcs} {what}").replace("1 1 VPC", "1 VPC")
        );
    }
}
