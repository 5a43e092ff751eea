//! A primary with wrong answers: zonal serves none of them, and continues to serve the previous
//! version.

use super::{
    notified::{answer, soa},
    *,
};
use crate::harness::fake::{Asked, Fake, Say, a};
use hickory_proto::rr::Record;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The replies of the primary. The first label of the zone selects the case.
fn replies(asked: &Asked, endless: &AtomicU32) -> Vec<Say> {
    let zone = asked.name();
    let label = asked.label();
    let is_soa = asked.message.queries[0].query_type() == RecordType::SOA;
    if is_soa && label != "wrong-zone" {
        return vec![Say::Now(answer(asked, vec![soa(&zone, 5)]))];
    }
    let whole = |records: Vec<Record>| {
        let records = [vec![soa(&zone, 5)], records, vec![soa(&zone, 5)]].concat();
        vec![Say::Now(answer(asked, records))]
    };
    let www = || a(&format!("www.{zone}"), 60, "192.0.2.1");
    match label.as_str() {
        "good" => whole(vec![www()]),
        "wrong-id" => {
            let mut message = answer(asked, vec![soa(&zone, 5), www(), soa(&zone, 5)]);
            message[1] ^= 1;
            vec![Say::Now(message)]
        }
        "wrong-zone" => vec![Say::Now(answer(asked, vec![soa("other.example", 5)]))],
        "wrong-question" => {
            let mut message = answer(asked, vec![soa(&zone, 5), www(), soa(&zone, 5)]);
            message[13] ^= 1;
            vec![Say::Now(message)]
        }
        "outside" => whole(vec![www(), a("www.other.example", 60, "192.0.2.66")]),
        "two-soas" => vec![Say::Now(answer(asked, vec![soa(&zone, 5), www(), soa(&zone, 6)]))],
        "no-soa" => vec![Say::Now(answer(asked, vec![www(), soa(&zone, 5)]))],
        "after-the-end" => whole(vec![www(), soa(&zone, 5), www()]),
        "empty" => vec![Say::Now(answer(asked, Vec::new()))],
        "garbage" => vec![Say::Now(answer(asked, vec![soa(&zone, 5)])[..40].to_vec())],
        "short" => vec![Say::Now(answer(asked, vec![soa(&zone, 5), www()])), Say::Raw(Vec::new())],
        "refuses" => vec![Say::Now(asked.fails(hickory_proto::op::ResponseCode::Refused))],
        "errors" => whole(vec![www(), crate::harness::fake::cname(&format!("www.{zone}"), 60, "x.example")]),
        "endless" => {
            let first = vec![soa(&zone, 5)];
            let many = (0..2000u32).map(|number| {
                let number = number + 2000 * endless.fetch_add(1, Relaxed);
                let records = (0..100).map(|at| a(&format!("n{number}-{at}.{zone}"), 60, "192.0.2.1")).collect();
                Say::Now(answer(asked, records))
            });
            std::iter::once(Say::Now(answer(asked, first))).chain(many).collect()
        }
        label => panic!("{label}"),
    }
}

#[test]
fn refuses_wrong_transfers() {
    let scratch = Scratch::new();
    let endless = AtomicU32::new(0);
    let fake = Fake::start("127.0.0.1:0", move |asked| replies(asked, &endless));
    let cases = [
        ("wrong-id", "another identifier"),
        ("wrong-zone", "no SOA record for the zone"),
        ("wrong-question", "to another question"),
        ("outside", "www.other.example. A is outside of the zone"),
        ("two-soas", "the last SOA record is another one than the first"),
        ("no-soa", "does not begin with the SOA record"),
        ("after-the-end", "records after the last one"),
        ("empty", "a message without records"),
        ("garbage", "cannot be read"),
        ("short", "closed the connection"),
        ("refuses", "it answers REFUSED"),
        ("errors", "has a CNAME record and other records"),
        ("endless", "more than 1000000 octets"),
    ];
    let zones: String = cases
        .iter()
        .map(|(label, _)| *label)
        .chain(["good"])
        .map(|label| {
            format!("  {label}: {{name: {label}.example, vpc_ids: [vpc-a], primaries: [{}]}}\n", fake.target())
        })
        .collect();
    scratch.write("zones/m.yaml", manifest(&zones));
    let server = Server::start_with(&scratch.path().join("zones"), "limits: {transfer_octets: 1000000}\n");
    wait_for_address(&server, IN_A, "www.good.example", "192.0.2.1");
    for (label, error) in cases {
        let status = wait_for_error(&server, label, error);
        assert_eq!((&status["state"], &status["serial"]), (&"pending".into(), &serde_json::Value::Null), "{status}");
        let reply = ask(server.port, IN_A, &format!("www.{label}.example"), RecordType::A);
        assert_eq!((reply.status.as_str(), &reply.ede[..]), ("SERVFAIL", &[24][..]), "{label}\n{reply}");
    }
}

/// This applies to differences from another version, and to a primary that cannot send differences.
#[test]
fn transfers_the_whole_zone_after_wrong_differences() {
    for case in ["deletes", "formerr", "notimp", "garbage", "wrong-serials", "single"] {
        let scratch = Scratch::new();
        let serial = std::sync::Arc::new(AtomicU32::new(1));
        let current = serial.clone();
        let fake = Fake::start("127.0.0.1:0", move |asked| {
            let serial = current.load(Relaxed);
            let zone = "a.example";
            let www = |serial: u32| a("www.a.example", 60, &format!("192.0.2.{serial}"));
            let failed = |code| vec![Say::Now(asked.fails(code))];
            let answer_of = |records: Vec<Record>| vec![Say::Now(answer(asked, records))];
            match asked.message.queries[0].query_type() {
                RecordType::SOA => answer_of(vec![soa(zone, serial)]),
                RecordType::IXFR => match case {
                    "deletes" => answer_of(vec![
                        soa(zone, serial),
                        soa(zone, 1),
                        a("no.a.example", 60, "192.0.2.1"),
                        soa(zone, serial),
                        www(serial),
                        soa(zone, serial),
                    ]),
                    "formerr" => failed(hickory_proto::op::ResponseCode::FormErr),
                    "notimp" => failed(hickory_proto::op::ResponseCode::NotImp),
                    "wrong-serials" => {
                        answer_of(vec![soa(zone, serial), soa(zone, 1), soa(zone, 9), soa(zone, 8), soa(zone, serial)])
                    }
                    "single" => vec![Say::Now(answer(asked, vec![soa(zone, serial)])), Say::Raw(Vec::new())],
                    _ => vec![Say::Raw(vec![0xff; 40])],
                },
                _ => answer_of(vec![soa(zone, serial), www(serial), soa(zone, serial)]),
            }
        });
        let zones = format!("  Z1: {{name: a.example, vpc_ids: [vpc-a], primaries: [{}]}}\n", fake.target());
        scratch.write("zones/m.yaml", manifest(&zones));
        let server = Server::start_with(&scratch.path().join("zones"), "");
        wait_for_address(&server, IN_A, "www.a.example", "192.0.2.1");
        serial.store(2, Relaxed);
        let _ = super::notified::notify(server.port, "127.0.0.1", "a.example", None);
        wait_for_address(&server, IN_A, "www.a.example", "192.0.2.2");
        wait_for_transfers(&server, "axfr", 2.0);
        assert_eq!(transfers(&server, "ixfr"), 0.0, "{case}");
        assert!(fake.count(|asked| asked.message.queries[0].query_type() == RecordType::IXFR) > 0, "{case}");
    }
}
