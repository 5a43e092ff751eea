//! Failures whose reason is on this node: they are neither cached nor counted against a server.

use super::*;
use crate::{
    answer::Transport,
    clock::now,
    forward::upstream::ServerState,
    manifest::Loaded,
    snapshot::{Node, compile},
    wire::{codes::rcode, response},
};
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use tokio::net::UdpSocket;

const CLIENT: Client = Client {
    source: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 7)),
    port: 0,
    local: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 1)),
    transport: Transport::Udp,
};

/// One VPC with two rules for one target: `corp`, and `far`, whose outbound endpoint has no address
/// on this node.
fn forwarding(target: SocketAddr, waiting: usize) -> Arc<Forwarding> {
    let target = serde_json::json!([{"ip": target.ip(), "port": target.port()}]);
    let manifest = serde_json::json!({
        "vpcs": {"a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]}},
        "resolver_endpoints": {
            "out": {"direction": "OUTBOUND", "vpc_id": "a", "ip_addresses": [{"ip": "10.1.0.54"}]},
        },
        "resolver_rules": {
            "rr-near": {"domain_name": "corp", "rule_type": "FORWARD", "vpc_ids": ["a"], "target_ips": target},
            "rr-far": {"domain_name": "far", "rule_type": "FORWARD", "vpc_ids": ["a"], "target_ips": target,
                       "resolver_endpoint_id": "out"},
        },
    });
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    let (snapshot, _) = compile(&loaded, &Arc::new(Node::default()), None).unwrap();
    let limits = Limits { waiting, ..Limits::default() };
    Forwarding::new(Arc::new(ArcSwap::from_pointee(snapshot)), &limits, Upstreams::new(), None, &Handle::current())
}

/// A query for the A records of `www.` and a domain of one label.
fn query(domain: &str) -> Vec<u8> {
    let header = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03www";
    [header, &[domain.len() as u8][..], domain.as_bytes(), b"\0\0\x01\0\x01"].concat()
}

/// The RCODE of a reply.
fn rcode_of(reply: &[u8]) -> u16 {
    response::Response::read(reply).unwrap().rcode
}

/// Checks that nothing is cached, and that the servers of the route of a query are neither down nor
/// dead.
fn assert_no_trace(forwarding: &Forwarding, query: &[u8]) {
    assert_eq!(forwarding.cache.counts().entries, 0);
    let (snapshot, mut reply) = (forwarding.snapshot.load_full(), [0; 512]);
    let moment = Moment { now: now(), draw: 0 };
    let outcome = answer(&snapshot, &forwarding.cache, &CLIENT, moment, query, &mut reply);
    let Outcome::Forward(forward) = outcome else { panic!("the query is answered without its servers") };
    let report = forwarding.upstreams.report(forward.route);
    assert_eq!(report.iter().map(|server| server.state).collect::<Vec<_>>(), [ServerState::Unknown]);
    assert!(report.iter().all(|server| server.error.is_none()), "{report:?}");
}

#[tokio::test]
async fn a_query_that_gets_no_permit_is_neither_cached_nor_counted_against_its_servers() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let forwarding = forwarding(silent.local_addr().unwrap(), 0);
    let (snapshot, query, mut reply) = (forwarding.snapshot.load_full(), query("corp"), [0; 512]);
    let moment = Moment { now: now(), draw: 0 };
    for _ in 0..20 {
        let outcome = answer(&snapshot, &forwarding.cache, &CLIENT, moment, &query, &mut reply);
        let Outcome::Forward(forward) = outcome else { panic!("the query is answered without its servers") };
        assert!(forwarding.wait(&CLIENT, &forward).is_none());
        let Outcome::Reply(answered) = fail(&snapshot, &CLIENT, moment, &query, &mut reply, NOT_ADMITTED) else {
            panic!("the query gets no reply")
        };
        assert_eq!(rcode_of(&reply[..answered.len]), rcode::SERVFAIL);
        assert_no_trace(&forwarding, &query);
    }
    assert_eq!(forwarding.admission.counts().refused, 20);
}

#[tokio::test]
async fn a_query_that_loses_its_permit_is_not_cached() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let forwarding = forwarding(silent.local_addr().unwrap(), 1);
    let admit = || forwarding.admission.admit(&AdmissionRequest::REFRESH);
    let (permit, query) = (admit().unwrap(), query("corp"));
    let replacing = async {
        loop {
            match admit() {
                Some(newer) => return newer,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let (response, _newer) = tokio::join!(respond(&forwarding, &CLIENT, &query, None, Some(&permit)), replacing);
    assert_eq!(rcode_of(&response.unwrap().reply), rcode::SERVFAIL);
    assert_eq!((forwarding.admission.counts().replaced, forwarding.cache.counts().entries), (1, 0));
}

#[tokio::test]
async fn a_query_that_cannot_be_sent_is_neither_cached_nor_counted_against_its_servers() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let forwarding = forwarding(silent.local_addr().unwrap(), 10);
    let query = query("far");
    for _ in 0..20 {
        let response = respond(&forwarding, &CLIENT, &query, None, None).await.unwrap();
        assert_eq!(rcode_of(&response.reply), rcode::SERVFAIL);
        assert_no_trace(&forwarding, &query);
    }
}
