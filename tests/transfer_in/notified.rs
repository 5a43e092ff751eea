//! Notifications: many at a time, and from senders that are not allowed.

use super::*;
use crate::harness::fake::{Asked, Fake, Say};
use hickory_proto::rr::{RData, Record, rdata};
use std::{net::UdpSocket, time::Instant};

/// A SOA record with a serial, and a refresh interval of an hour.
pub fn soa(zone: &str, serial: u32) -> Record {
    let name = |text: &str| {
        let mut name = Name::from_ascii(text).unwrap();
        name.set_fqdn(true);
        name
    };
    let soa = rdata::SOA::new(name("ns.invalid"), name("hostmaster.invalid"), serial, 3600, 1, 86_400, 60);
    Record::from_rdata(name(zone), 60, RData::SOA(soa))
}

/// An authoritative answer with these records.
pub fn answer(asked: &Asked, records: Vec<Record>) -> Vec<u8> {
    let mut response = asked.response();
    response.metadata.authoritative = true;
    response.answers = records;
    response.to_vec().unwrap()
}

fn notification(zone: &str, serial: Option<u32>) -> Vec<u8> {
    let mut message = Message::new(9, MessageType::Query, OpCode::Notify);
    message.metadata.authoritative = true;
    let record = soa(zone, serial.unwrap_or(0));
    message.add_query(Query::query(record.name.clone(), RecordType::SOA));
    message.answers.extend(serial.map(|_| record));
    message.to_vec().unwrap()
}

/// The reply to a notification.
pub fn notify(port: u16, from: &str, zone: &str, serial: Option<u32>) -> Reply {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(&notification(zone, serial), (Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).unwrap();
    Reply::of_message(&buffer[..len])
}

#[test]
fn limits_and_authenticates_notifications() {
    let scratch = Scratch::new();
    let fake = Fake::start("127.0.0.1:0", |asked| {
        let records = match asked.message.queries[0].query_type() {
            RecordType::SOA => vec![soa("a.example", 1)],
            _ => vec![soa("a.example", 1), soa("a.example", 1)],
        };
        vec![Say::Now(answer(asked, records))]
    });
    let zones = format!(
        "  Z1: {{name: a.example, vpc_ids: [vpc-a], primaries: [{{ip: 127.0.0.1, port: {}}}], \
         allow_notify: [{{cidr_block: 127.0.0.8/29}}]}}\n",
        fake.address.port()
    );
    scratch.write("zones/m.yaml", manifest(&zones));
    let server = Server::start_with(&scratch.path().join("zones"), "");
    wait_for_state(&server, "Z1", Some("current"));
    let queries = || fake.count(|asked| asked.message.queries[0].query_type() == RecordType::SOA);
    assert_eq!(queries(), 1);

    for (from, name, status) in [
        ("127.0.0.1", "a.example", "REFUSED"),
        ("127.1.0.7", "a.example", "REFUSED"),
        // A sender without a key does not learn whether the zone exists.
        ("127.0.0.9", "b.example", "REFUSED"),
        ("127.0.0.9", "www.a.example", "REFUSED"),
    ] {
        let reply = notify(server.port, from, name, None);
        assert_eq!((reply.status.as_str(), reply.flags.as_str()), (status, "qr aa"), "{from} {name}");
    }
    assert_eq!(notify(server.port, "127.0.0.9", "a.example", Some(1)).status, "NOERROR", "it is what we have");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(queries(), 1, "nobody was to be believed, or had anything new");

    let socket = UdpSocket::bind(("127.0.0.9", 0)).unwrap();
    let message = notification("a.example", None);
    let begin = Instant::now();
    for number in 0..10_000 {
        socket.send_to(&message, (Ipv4Addr::LOCALHOST, server.port)).unwrap();
        if number % 100 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    wait_until("some are heard", || (server.metric(&["zonal_notifies_total", "accepted"]) > 100.0).then_some(()));
    wait_until("it was asked", || (queries() > 1).then_some(()));
    std::thread::sleep(Duration::from_millis(1200));
    let most = 3 + begin.elapsed().as_millis() / 500;
    assert!((queries() as u128) < most, "{} queries, and not fewer than {most}", queries());
    assert_eq!(ask(server.port, IN_A, "a.example", RecordType::SOA).status, "NOERROR");
}
