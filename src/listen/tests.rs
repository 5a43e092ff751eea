//! A server for the tests of the transports: zones with short and long answers, and an upstream server that answers late.

use super::{Core, Limits};
use crate::{
    answer::{AnswerKind, Answered, Cookie},
    config::DnstapMessages,
    forward::{self, Forwarding, upstream::Upstreams},
    manifest::Loaded,
    metrics::Metrics,
    query_log::QueryLog,
    snapshot::{Node, Snapshot, compile},
    transfer::{Transfers, primary::TransferLimits, tsig::Keys, update::Updates},
    wire::{codes::rcode, query::HEADER, rdata::rtype, response::Response},
};
use arc_swap::ArcSwap;
use std::{
    net::UdpSocket,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::runtime::Runtime;

/// The TXT record of this name is the address that the query was sent to.
pub const HERE: &str = "here.test";
/// The TXT records of this name make a reply of more than 65,000 octets.
pub const LONG: &str = "long.test";

/// The addresses that [`HERE`] has an answer for.
const ADDRESSES: [&str; 6] = ["127.0.0.1", "127.0.0.3", "127.0.0.9", "127.8.7.6", "127.77.0.1", "::1"];

/// A name whose TXT record `late` comes from an upstream server after this many hundredths of a second. No other query
/// shares the answer, if `number` is its own.
pub fn late(number: u16, hundredths: u8) -> String {
    format!("{hundredths}.n{number}.late.test")
}

/// A query for the TXT records of a name.
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let mut query = [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0"].concat();
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(b"\0\0\x10\0\x01");
    query
}

/// The same query, padded to a number of octets (RFC 7830).
pub fn padded(mut query: Vec<u8>, octets: usize) -> Vec<u8> {
    query[11] = 1;
    let padding = octets - query.len() - 15;
    query.extend_from_slice(b"\0\0\x29\xff\xff\0\0\0\0");
    query.extend_from_slice(&[((padding + 4) as u16).to_be_bytes(), [0, 12], (padding as u16).to_be_bytes()].concat());
    query.resize(octets, 0);
    query
}

/// The identifier of a reply, and its first TXT string; without one, the RCODE.
pub fn read(reply: &[u8]) -> (u16, String) {
    let message = Response::read(reply).unwrap_or_else(|| panic!("{reply:02x?}"));
    let text = message.sections[0].iter().find(|record| record.rtype == rtype::TXT);
    let text = text.map(|record| String::from_utf8_lossy(&record.rdata[1..1 + usize::from(record.rdata[0])]).into());
    (u16::from_be_bytes([reply[0], reply[1]]), text.unwrap_or_else(|| format!("RCODE {}", reply[3] & 15)))
}

/// The port of an upstream server that answers queries for [`late`] names.
static UPSTREAM: LazyLock<u16> = LazyLock::new(|| {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    let _runtime = runtime().enter();
    let socket = Arc::new(tokio::net::UdpSocket::from_std(socket).unwrap());
    runtime().spawn(async move {
        loop {
            let mut message = [0; 512];
            let Ok((len, from)) = socket.recv_from(&mut message).await else { continue };
            let (socket, query) = (socket.clone(), message[..len].to_vec());
            tokio::spawn(async move {
                let hundredths = std::str::from_utf8(&query[HEADER + 1..][..query[HEADER].into()]).unwrap();
                tokio::time::sleep(Duration::from_millis(10 * hundredths.parse::<u64>().unwrap())).await;
                let end = HEADER + query[HEADER..].iter().position(|octet| *octet == 0).unwrap() + 5;
                let header = [&query[..2], b"\x81\x80\0\x01\0\x01\0\0\0\0"].concat();
                let record = b"\xc0\x0c\0\x10\0\x01\0\0\0\0\0\x05\x04late";
                let _ = socket.send_to(&[&header, &query[HEADER..end], record].concat(), from).await;
            });
        }
    });
    port
});

/// The runtime of the tasks of all tests.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    &RUNTIME
}

pub fn limits() -> Limits {
    Limits {
        error_answers_per_second: 50,
        large_answers_per_second: 20,
        tcp_connections: 10,
        tcp_connections_per_client: 5,
        tcp_idle_timeout: Duration::from_millis(300),
    }
}

/// A manifest with a VPC for each address, whose clients have a zone with the names above.
fn snapshot() -> Snapshot {
    let (mut vpcs, mut zones) = (serde_json::Map::new(), serde_json::Map::new());
    let long = vec![format!("\"{}\"", "x".repeat(255)); 20].join(" ");
    let long: Vec<String> = (10..22).map(|number| format!("\"{number}\" {long}")).collect();
    for (number, address) in ADDRESSES.into_iter().enumerate() {
        let vpc = serde_json::json!({"region": "r", "cidr_blocks": ["127.0.0.0/8", "::1/128"],
            "resolver_addresses": [address]});
        let zone = serde_json::json!({"name": "test", "vpc_ids": [format!("vpc-{number}")], "records": [
            {"name": "here", "type": "TXT", "records": [format!("\"{address}\"")]},
            {"name": "long", "type": "TXT", "records": long},
        ]});
        vpcs.insert(format!("vpc-{number}"), vpc);
        zones.insert(format!("Z{number}"), zone);
    }
    let vpc_ids: Vec<&String> = vpcs.keys().collect();
    let manifest = serde_json::json!({
        "resolver_endpoints": {"out": {"direction": "OUTBOUND", "vpc_id": "vpc-0", "ip_addresses": [{"ip": "127.0.0.1"}]}},
        "resolver_rules": {"rule": {"domain_name": "late.test", "rule_type": "FORWARD", "vpc_ids": vpc_ids,
            "resolver_endpoint_id": "out", "target_ips": [{"ip": "127.0.0.1", "port": *UPSTREAM}]}},
        "private_hosted_zones": zones,
        "vpcs": vpcs,
    });
    let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
    let node = Arc::new(Node { cookie_secrets: vec![[7; 16]], ..Node::default() });
    compile(&loaded, &node, None).unwrap_or_else(|problems| panic!("{problems:?}")).0
}

/// The state of a server with the names above.
pub fn core(limits: &Limits) -> Arc<Core> {
    core_of(snapshot(), limits)
}

pub fn core_of(snapshot: Snapshot, limits: &Limits) -> Arc<Core> {
    core_with(snapshot, limits, &forward::Limits::default())
}

pub fn core_with(snapshot: Snapshot, limits: &Limits, waiting: &forward::Limits) -> Arc<Core> {
    let (snapshot, runtime) = (Arc::new(ArcSwap::from_pointee(snapshot)), runtime().handle());
    let forwarding = Forwarding::new(snapshot.clone(), waiting, Upstreams::new(), None, runtime);
    let updates = Updates::Publisher(std::sync::mpsc::channel().0);
    let (keys, transfer_limits) = (Keys::default(), TransferLimits::default());
    let transfers = Transfers::new(snapshot.clone(), forwarding.clone(), keys, transfer_limits, updates, runtime);
    let query_log = QueryLog::new(DnstapMessages::default());
    Arc::new(Core::new(snapshot, limits, forwarding, transfers, query_log, runtime))
}

/// An answer from a zone, of a client in no view.
pub fn answered(len: usize, rcode: u16) -> Answered {
    let (kind, cookie) = (AnswerKind::Zone, Cookie::Absent);
    Answered {
        len,
        view: None,
        rcode,
        kind,
        entry_point: None,
        locality: None,
        cookie,
        firewall: Default::default(),
        refresh: false,
    }
}

/// The metrics page of what all listeners share.
pub fn page(core: &Core) -> String {
    let metrics = Metrics::new();
    core.register(&metrics.registry);
    metrics.text()
}

#[test]
fn names_of_the_test_server_are_answered() {
    let core = core(&limits());
    let client = crate::answer::Client {
        source: [127, 0, 0, 1].into(),
        port: 0,
        local: [127, 0, 0, 9].into(),
        transport: crate::answer::Transport::Tcp,
    };
    let responder = super::responder::Responder::new(&core, client.transport, 0);
    let mut output = Vec::new();
    assert!(responder.answer(&client, &query(7, HERE), &mut output, |_| true).is_none());
    assert_eq!(read(&output), (7, "127.0.0.9".into()));
    output.clear();
    let longest = padded(query(8, LONG), u16::MAX.into());
    assert!(responder.answer(&client, &longest, &mut output, |_| true).is_none());
    assert!(output.len() > 60_000 && output[3] & 15 == rcode::NOERROR as u8, "{}", output.len());
    output.clear();
    assert!(responder.answer(&client, &query(9, &late(9, 1)), &mut output, |_| true).is_some() && output.is_empty());
}
