//! The cost of one call of `answer` without sockets, in nanoseconds, over a zone of 100,000 names.
//!
//! `cargo bench --bench answer`. Compare two commits in one session, because the figures vary
//! between machines and over time.

use std::{hint::black_box, sync::Arc, time::Instant};
use zonal::{
    answer::{Client, Moment, Outcome, Transport, answer},
    manifest::{Loaded, Manifest, MasterFile, Record, ZoneData},
    snapshot::{Node, compile},
    wire::Name,
};

const NAMES: u32 = 100_000;

fn main() {
    let manifest: Manifest = serde_json::from_str(
        r#"{"vpcs": {"vpc-t": {"region": "eu-west-1", "cidr_blocks": ["127.0.0.0/8"],
                "subnets": {"s": {"availability_zone_id": "euw1-az1", "cidr_blocks": ["127.0.0.0/8"]}}}},
            "private_hosted_zones": {"Z": {"name": "bench.example", "vpc_ids": ["vpc-t"], "file": "-"}},
            "vpc_endpoint_services": {"com.amazonaws.eu-west-1.sqs": {"owner_id": "amazon", "region": "eu-west-1",
                "dns_name": "sqs.eu-west-1.vpce.amazonaws.com", "private_dns_names": ["sqs.eu-west-1.amazonaws.com"]}},
            "vpc_endpoints": {"vpce-0": {"vpc_endpoint_type": "Interface", "vpc_id": "vpc-t", "state": "Available",
                "service_name": "com.amazonaws.eu-west-1.sqs", "private_dns_enabled": true, "network_interfaces": [
                {"availability_zone_id": "euw1-az1", "ipv4": "127.0.1.1"},
                {"availability_zone_id": "euw1-az2", "ipv4": "127.0.1.2"}]}}}"#,
    )
    .unwrap();
    let name = |text: String| Name::absolute(&text).unwrap();
    let record = |owner, rtype, rdata: &[u8]| Record { owner, rtype, ttl: 3600, rdata: rdata.into(), file: 0, line: 1 };
    let soa = [b"\x02ns\x07example\0\x02ns\x07example\0".as_slice(), &[0; 20]].concat();
    let mut records = vec![record(name("bench.example".into()), 6, &soa)];
    records.extend((0..NAMES).map(|n| record(name(format!("h{n:06}.bench.example")), 1, &n.to_be_bytes())));
    let mut loaded = Loaded { manifest: Arc::new(manifest), ..Loaded::default() };
    loaded.zone_data.insert("Z".into(), ZoneData::Read(MasterFile { files: Vec::new(), records }));
    let (snapshot, _) = compile(&loaded, &Arc::new(Node::default()), None).unwrap_or_else(|p| panic!("{p:?}"));

    let scatter = |n: u32| n.wrapping_mul(2_654_435_761) % NAMES;
    let every = |text: &dyn Fn(u32) -> String, edns: bool| -> Vec<Vec<u8>> {
        (0..NAMES)
            .map(|n| {
                let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns as u8];
                packet.extend_from_slice(name(text(n)).as_wire());
                packet.extend_from_slice(&[0, 1, 0, 1]);
                if edns {
                    packet.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
                }
                packet
            })
            .collect()
    };
    let runs: [(&str, Vec<Vec<u8>>); 5] = [
        ("zone, hit", every(&|n| format!("h{:06}.bench.example", scatter(n)), false)),
        ("zone, hit, EDNS", every(&|n| format!("h{:06}.bench.example", scatter(n)), true)),
        ("zone, NXDOMAIN", every(&|n| format!("x{n}.bench.example"), false)),
        ("endpoint, private name", every(&|_| "sqs.eu-west-1.amazonaws.com".into(), true)),
        ("refused: not ours", every(&|n| format!("x{n}.example.org"), true)),
    ];
    let address = "127.0.0.1".parse().unwrap();
    let client = Client { source: address, port: 0, local: address, transport: Transport::Udp };
    let mut reply = [0; 1232];
    for (what, packets) in &runs {
        let mut best = f64::MAX;
        for round in 0..7u32 {
            let start = Instant::now();
            for (packet, draw) in packets.iter().zip(round..) {
                let moment = Moment { now: 1_800_000_000, draw };
                let Outcome::Reply(answered) = answer(&snapshot, &(), &client, moment, packet, &mut reply) else {
                    panic!()
                };
                black_box(answered.len);
            }
            best = best.min(start.elapsed().as_nanos() as f64 / packets.len() as f64);
        }
        println!("{what:24} {best:7.1} ns");
    }
}
