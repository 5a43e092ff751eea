//! On-premises resolvers that forward the names of VPCs to both addresses of an inbound endpoint,
//! while one of the two zonal nodes is killed or does not answer.

use crate::harness::{ZONAL, can_run, forwarder::Kind, lab::Lab, stub::Stub, wait_until};
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

const MANIFEST: &str = r#"
vpcs:
  vpc: {region: us-east-1, cidr_blocks: [10.2.0.0/16]}
on_premises_networks:
  dc: {cidr_blocks: [192.168.0.0/16], vpc_ids: [vpc]}
resolver_endpoints:
  in:
    direction: INBOUND
    vpc_id: vpc
    ip_addresses: [{ip: 10.2.0.53, availability_zone_id: use1-az1}, {ip: 10.2.16.53, availability_zone_id: use1-az2}]
private_hosted_zones:
  Z1: {name: corp.example.com, vpc_ids: [vpc], records: [{name: "*", type: A, ttl: 60, records: [10.2.0.80]}]}
"#;

/// The number of names for each resolver in each state of the nodes.
const NAMES: usize = 25;

const FORWARDERS: [(Kind, &str); 5] = [
    (Kind::Bind, "192.168.0.11"),
    (Kind::Unbound, "192.168.0.12"),
    (Kind::Dnsmasq, "192.168.0.13"),
    (Kind::KnotResolver, "192.168.0.14"),
    (Kind::Dnsdist, "192.168.0.15"),
];

/// Every client of every resolver gets an answer, after at most two attempts.
fn all_answered(lab: &Lab, what: &str) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    lab.inside("dc", || {
        thread::scope(|scope| {
            for (kind, address) in FORWARDERS {
                scope.spawn(move || {
                    for _ in 0..NAMES {
                        let name = format!("n{}.corp.example.com", COUNT.fetch_add(1, Relaxed));
                        let stub = Stub::new("192.168.0.7", (address, 53));
                        let mut said = stub.ask(&name);
                        if said.reply.status != "NOERROR" {
                            said = stub.ask(&name);
                        }
                        assert_eq!(said.reply.data("A"), ["10.2.0.80"], "{what}, through {kind:?}: {}", said.reply);
                    }
                });
            }
        });
    });
}

#[test]
fn resolvers_answer_while_one_of_two_inbound_addresses_fails() {
    if !can_run(&["ip", "dig", "setpriv", "sysctl", "named", "unbound", "dnsmasq", "kresd", "dnsdist"]) {
        return;
    }
    let mut lab = Lab::new();
    lab.router("tgw");
    lab.router("edge");
    lab.link("tgw", &["10.2.0.0/16"], "edge", &["192.168.0.0/16"]);
    lab.host("dc", "edge", &["192.168.0.7"]);
    lab.host("server-a", "tgw", &["10.2.0.53"]);
    lab.host("server-b", "tgw", &["10.2.16.53"]);
    lab.scratch.write("zones/manifest.yaml", MANIFEST);
    let config =
        lab.scratch.write("zonal.yaml", "listen: [{address: \"0.0.0.0:53\"}]\ncontrol_plane: {directory: zones}\n");
    let zonal = |lab: &Lab, node: &str| {
        let mut server = lab.start(node, &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
        wait_until("zonal answers", || {
            server.assert_alive();
            (lab.dig(node, "@127.0.0.1 version.zonal A +time=1").status == "REFUSED").then_some(())
        });
        server
    };
    let (first, second) = (zonal(&lab, "server-a"), zonal(&lab, "server-b"));
    let mut forwarders = Vec::new();
    for (kind, address) in FORWARDERS {
        lab.host(kind.program(), "edge", &[address]);
        forwarders.push(kind.start(&lab, kind.program(), address, None, true));
    }
    for (forwarder, (kind, address)) in forwarders.iter_mut().zip(FORWARDERS) {
        wait_until(&format!("{kind:?} answers"), || {
            forwarder.assert_alive();
            let reply = lab.dig("dc", &format!("@{address} ready.corp.example.com A +time=2"));
            (reply.status == "NOERROR").then_some(())
        });
    }
    all_answered(&lab, "both work");
    drop(first);
    all_answered(&lab, "the first one is killed");
    let first = zonal(&lab, "server-a");
    all_answered(&lab, "the first one is back");
    lab.cut("tgw", &["10.2.16.53"], true);
    all_answered(&lab, "the second one is silent");
    lab.cut("tgw", &["10.2.16.53"], false);
    drop(second);
    all_answered(&lab, "the second one is killed");
    drop(first);
}
