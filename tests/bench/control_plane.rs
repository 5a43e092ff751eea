//! The cost of a change at scale: 1,000,000 records in 5,000 zones, and 100,000 endpoints in 10,000
//! VPCs, without a source and without sockets. The benchmark prints the memory after each kind of
//! resource. For each kind of change it prints the time until the publisher serves it.
//!
//! `cargo bench --bench control_plane [-- PERCENT [CHANGES]]`: PERCENT is the size in percent of
//! the size above (default: 100), and CHANGES the number of changes of each kind (default: 100).

use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use zonal::{
    config::OnError,
    control_plane::{
        change::{AcceptedChange, Change, ChangeError, Position},
        empty_snapshot,
        publisher::Publisher,
    },
    manifest::collection::{Edit, Key, MASTER_FILES},
    snapshot::Node,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SERVICES: u32 = 50;
const ENDPOINTS_OF_VPC: u32 = 10;
const RECORDS_OF_ZONE: u32 = 200;
/// The number of VPCs in a group. The first VPC shares its endpoints with the others.
const VPCS_OF_GROUP: u32 = 200;

fn edit(kind: &'static str, id: String, value: &Value) -> Edit {
    Edit { key: Key { kind, id }, value: Some(value.to_string().into_bytes().into()) }
}

fn deletion(kind: &'static str, id: String) -> Edit {
    Edit { key: Key { kind, id }, value: None }
}

fn address(vpc: u32, last: u32) -> String {
    format!("10.{}.{}.{last}", vpc / 256, vpc % 256)
}

fn vpc(v: u32) -> Edit {
    let value = json!({
        "owner_id": format!("{:012}", v / 10), "region": "us-east-1", "cidr_blocks": [address(v, 0) + "/24"],
        "resolver_addresses": [address(v, 2)],
        "availability_zones": {"us-east-1a": "use1-az1", "us-east-1b": "use1-az2"},
        "subnets": {
            format!("subnet-{v:05}a"): {"availability_zone_id": "use1-az1", "cidr_blocks": [address(v, 0) + "/25"]},
            format!("subnet-{v:05}b"): {"availability_zone_id": "use1-az2", "cidr_blocks": [address(v, 128) + "/25"]},
        },
    });
    edit("vpcs", format!("vpc-{v:017x}"), &value)
}

fn vpc_id(v: u32) -> String {
    format!("vpc-{v:017x}")
}

fn endpoint(e: u32, is_healthy: bool) -> Edit {
    let (v, turn) = (e / ENDPOINTS_OF_VPC, e % ENDPOINTS_OF_VPC);
    let service = (turn + v * ENDPOINTS_OF_VPC) % SERVICES;
    let value = json!({
        "vpc_endpoint_type": "Interface", "service_name": format!("com.amazonaws.us-east-1.svc-{service}"), "vpc_id": vpc_id(v),
        "state": "Available", "private_dns_enabled": true, "dns_name_suffix": format!("{e:08x}"),
        "private_dns_scope": if v % VPCS_OF_GROUP == 0 { "connected" } else { "vpc" },
        "network_interfaces": [
            {"availability_zone_id": "use1-az1", "ipv4": address(v, 10 + turn), "health": if is_healthy { "healthy" } else { "unhealthy" }},
            {"availability_zone_id": "use1-az2", "ipv4": address(v, 138 + turn)}],
    });
    edit("vpc_endpoints", format!("vpce-{e:017x}"), &value)
}

fn services() -> Vec<Edit> {
    let service = |s| {
        let value = json!({
            "owner_id": "amazon", "region": "us-east-1", "dns_name": format!("svc-{s}.us-east-1.vpce.amazonaws.com"),
            "private_dns_names": [format!("svc-{s}.us-east-1.amazonaws.com")],
        });
        edit("vpc_endpoint_services", format!("com.amazonaws.us-east-1.svc-{s}"), &value)
    };
    (0..SERVICES).map(service).collect()
}

/// Gateways of up to 5,000 VPCs. Each VPC reaches the VPCs that share endpoints, which reach all
/// VPCs.
fn gateways(vpcs: u32) -> Vec<Edit> {
    let attachment = |v: u32| match v.is_multiple_of(VPCS_OF_GROUP) {
        true => json!({"vpc_id": vpc_id(v), "route_table": "shared", "propagates_to": ["shared", "spokes"]}),
        false => json!({"vpc_id": vpc_id(v), "route_table": "spokes", "propagates_to": ["shared"]}),
    };
    let gateway = |g: u32| {
        let attachments: Vec<Value> = (g * 5000..vpcs.min(g * 5000 + 5000)).map(attachment).collect();
        edit("transit_gateways", format!("tgw-{g}"), &json!({"region": "us-east-1", "attachments": attachments}))
    };
    (0..vpcs.div_ceil(5000)).map(gateway).collect()
}

fn peering(v: u32, allow: bool) -> Edit {
    let value = json!({"vpc_ids": [vpc_id(v), vpc_id(v + 1)], "allow_remote_vpc_dns_resolution": allow});
    edit("vpc_peering_connections", format!("pcx-{v:017x}"), &value)
}

/// A zone. Its records are in a master file if its number is even, and in the resource otherwise.
fn zone(z: u32, vpcs: u32, serial: u32) -> Vec<Edit> {
    let name = format!("z{z:04}.example.com");
    let vpc_ids: Vec<String> = (0..2).map(|n| vpc_id((z * 2 + n) % vpcs)).collect();
    let value = |r| format!("10.{}.{}.{}", (serial + z) % 256, r / 256, r % 256);
    if z.is_multiple_of(2) {
        let mut text = format!(
            "$ORIGIN {name}.\n$TTL 300\n@ SOA ns hostmaster {serial} 7200 900 1209600 60\n@ NS ns\nns A 10.0.0.53\n"
        );
        (3..RECORDS_OF_ZONE).for_each(|r| text += &format!("host-{r:04} A {}\n", value(r)));
        let file = Edit { key: Key { kind: MASTER_FILES, id: name.clone() }, value: Some(text.into_bytes().into()) };
        let resource = json!({"name": name, "vpc_ids": vpc_ids, "file": name});
        return vec![file, edit("private_hosted_zones", format!("Z{z:020}"), &resource)];
    }
    let mut records: Vec<Value> = (3..RECORDS_OF_ZONE)
        .map(|r| json!({"name": format!("host-{r:04}"), "type": "A", "records": [value(r)]}))
        .collect();
    if z % 10 == 1 {
        let alias = endpoint_name(z * ENDPOINTS_OF_VPC % (vpcs * ENDPOINTS_OF_VPC));
        records.push(json!({"name": "service", "type": "A", "alias": {"name": alias}}));
    }
    vec![edit(
        "private_hosted_zones",
        format!("Z{z:020}"),
        &json!({"name": name, "vpc_ids": vpc_ids, "records": records}),
    )]
}

fn endpoint_name(e: u32) -> String {
    let (v, turn) = (e / ENDPOINTS_OF_VPC, e % ENDPOINTS_OF_VPC);
    format!("vpce-{e:017x}-{e:08x}.svc-{}.us-east-1.vpce.amazonaws.com", (turn + v * ENDPOINTS_OF_VPC) % SERVICES)
}

fn rule(r: u32, vpcs: u32, port: u32) -> Edit {
    let value = json!({
        "domain_name": format!("corp-{r}.example.net"), "rule_type": "FORWARD",
        "target_ips": [{"ip": "192.0.2.53", "port": port}], "vpc_ids": (0..20).map(|n| vpc_id((r * 20 + n) % vpcs)).collect::<Vec<_>>(),
    });
    edit("resolver_rules", format!("rslvr-rr-{r:017x}"), &value)
}

/// The memory of the process in megabytes.
fn memory_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let pss = status.lines().find_map(|line| line.strip_prefix("Pss:"));
    pss.and_then(|value| value.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

struct World {
    publisher: Publisher,
    revision: u64,
    /// The reply to the last change.
    reply: Option<oneshot::Receiver<Result<AcceptedChange, ChangeError>>>,
}

impl World {
    fn apply(&mut self, edits: Vec<Edit>) -> f64 {
        self.revision += 1;
        let (reply, receiver) = oneshot::channel();
        let position = Position { revision: self.revision, ..Position::default() };
        let change = Change { reply: Some(reply), ..Change::fact(edits, position) };
        let start = Instant::now();
        self.publisher.apply(vec![change]);
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        self.reply = Some(receiver);
        match self.reply.as_mut().map(|receiver| receiver.try_recv()) {
            Some(Ok(Ok(accepted))) => assert_eq!(accepted.position.revision, self.revision),
            other => panic!("the change was not accepted: {other:?}"),
        }
        elapsed
    }

    fn add(&mut self, what: &str, count: usize, edits: Vec<Edit>) {
        let before = memory_megabytes();
        let elapsed = self.apply(edits);
        let after = memory_megabytes();
        let each = (after - before) * 1024.0 * 1024.0 / count as f64;
        println!("{what:40} {elapsed:9.0} ms {after:8.0} MB {each:8.0} octets each");
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u32>().ok());
    let (percent, times) = (numbers.next().unwrap_or(100), numbers.next().unwrap_or(100));
    let (vpcs, zones) = (100 * percent, 50 * percent);
    let endpoints = vpcs * ENDPOINTS_OF_VPC;

    let node: Arc<Node> = Arc::default();
    let published = Arc::new(arc_swap::ArcSwap::from_pointee(empty_snapshot(&node)));
    let publisher = Publisher::new(published, node, Arc::default(), OnError::SetAside, None);
    let mut world = World { publisher, revision: 0, reply: None };

    println!("{:40} {:>12} {:>11}", "resources", "applied in", "memory");
    let vpc_edits: Vec<Edit> = (0..vpcs).map(vpc).chain(services()).chain(gateways(vpcs)).collect();
    world.add("VPCs, services and gateways", vpcs as usize, vpc_edits);
    world.add("peering connections", vpcs as usize / 20, (0..vpcs / 20).map(|p| peering(p * 20 + 3, true)).collect());
    world.add("endpoints", endpoints as usize, (0..endpoints).map(|e| endpoint(e, true)).collect());
    let records = |zones: u32| (zones * RECORDS_OF_ZONE) as usize;
    let even = (0..zones).step_by(2).flat_map(|z| zone(z, vpcs, 1)).collect();
    world.add("records of zones with master files", records(zones.div_ceil(2)), even);
    let odd = (1..zones).step_by(2).flat_map(|z| zone(z, vpcs, 1)).collect();
    world.add("records of zones without a file", records(zones / 2), odd);
    world.add("rules", vpcs as usize / 20, (0..vpcs / 20).map(|r| rule(r, vpcs, 53)).collect());

    println!("\n{:40} {:>9} {:>9} {:>9}   (ms, of {times} changes)", "change", "median", "p99", "max");
    // Spreads the changes over all resources.
    let scatter = |n: u32, count: u32| n.wrapping_mul(2_654_435_761) % count;
    type ChangeKind<'a> = (&'a str, Box<dyn Fn(u32) -> Vec<Edit>>);
    let kinds: Vec<ChangeKind> = vec![
        ("an interface becomes unhealthy", Box::new(move |n| vec![endpoint(scatter(n, endpoints), false)])),
        ("an interface becomes healthy", Box::new(move |n| vec![endpoint(scatter(n, endpoints), true)])),
        (
            "an endpoint is deleted",
            Box::new(move |n| vec![deletion("vpc_endpoints", format!("vpce-{:017x}", scatter(n, endpoints)))]),
        ),
        ("an endpoint is added", Box::new(move |n| vec![endpoint(scatter(n, endpoints), true)])),
        ("records of a zone", Box::new(move |n| zone(scatter(n, zones) | 1, vpcs, n + 2))),
        ("a zone's master file", Box::new(move |n| zone(scatter(n, zones) & !1, vpcs, n + 2))),
        ("a zone's vpc_ids", Box::new(move |n| zone(scatter(n, zones), vpcs / 2 + n % 2, 1))),
        ("a rule's target", Box::new(move |n| vec![rule(scatter(n, vpcs / 20), vpcs, 1000 + n)])),
        ("a peering is added", Box::new(move |n| vec![peering(scatter(n, vpcs / 20) * 20 + 7, true)])),
        (
            "a peering is deleted",
            Box::new(move |n| {
                vec![deletion("vpc_peering_connections", format!("pcx-{:017x}", scatter(n, vpcs / 20) * 20 + 7))]
            }),
        ),
        ("a VPC is added", Box::new(move |n| vec![vpc(vpcs + n)])),
        ("a VPC is deleted", Box::new(move |n| vec![deletion("vpcs", vpc_id(vpcs + n))])),
    ];
    // The time for one kind of change. After this time, the benchmark stops early, with at least 3
    // changes.
    let max_duration = Duration::from_secs(30);
    for (what, make) in &kinds {
        let (mut durations, start) = (Vec::new(), Instant::now());
        for n in 0..times {
            if start.elapsed() > max_duration && n >= 3 {
                break;
            }
            durations.push(world.apply(make(n)));
        }
        durations.sort_by(f64::total_cmp);
        let at = |share: f64| durations[((durations.len() - 1) as f64 * share).round() as usize];
        println!("{what:40} {:9.2} {:9.2} {:9.2}", at(0.5), at(0.99), at(1.0));
    }
    println!("\nmemory after all changes: {:.0} MB", memory_megabytes());
}
