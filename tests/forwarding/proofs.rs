//! Answers that zonal combines from several responses, with each record in its section and with the
//! right TTL; and DNS64.

use super::Resolver;
use crate::harness::fake::{Asked, Fake, Say, a, cname, soa};
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, Record, RecordType, rdata},
};
use std::time::Duration;

/// A private zone lies below the forwarded domain, and one subnet has DNS64.
const MANIFEST: &str = "vpcs:
  vpc-a:
    region: us-east-1
    cidr_blocks: [127.70.0.0/16]
    availability_zones: {us-east-1a: use1-az1}
    subnets: {six: {availability_zone_id: use1-az1, cidr_blocks: [127.70.6.0/24], enable_dns64: true}}
private_hosted_zones:
  Z: {name: sub.fwd.example, vpc_ids: [vpc-a], records: [
    {name: www, type: A, ttl: 60, records: [10.1.1.1]}, {name: www, type: MX, ttl: 60, records: [10 www.sub.fwd.example]},
    {name: below, type: NS, ttl: 60, records: [ns.below.sub.fwd.example]}, {name: ns.below, type: A, ttl: 60, records: [10.1.1.2]}]}
resolver_rules:
  rr: {domain_name: fwd.example, rule_type: FORWARD, vpc_ids: [vpc-a], target_ips: [TARGET]}
";

fn record(owner: &str, ttl: u32, rtype: u16, data: &[u8]) -> Record {
    let rdata = RData::Unknown { code: RecordType::from(rtype), rdata: rdata::NULL::with(data.to_vec()) };
    Record::from_rdata(Name::from_ascii(owner).unwrap(), ttl, rdata)
}

fn nsec(owner: &str, ttl: u32) -> Record {
    record(owner, ttl, 47, b"\x02zz\x03fwd\x07example\0\0\x01\x40")
}

/// A signature of a name with this number of labels.
fn rrsig(owner: &str, of: u16, labels: u8) -> Record {
    record(owner, 300, 46, &[&of.to_be_bytes()[..], &[13, labels], &[0; 14], b"\x03fwd\x07example\0sig"].concat())
}

fn say(asked: &Asked) -> Vec<Say> {
    let (name, owner) = (asked.name(), asked.owner().to_ascii());
    let mut response = asked.response();
    let aaaa = asked.message.queries[0].query_type() == RecordType::AAAA;
    match asked.label().as_str() {
        // The answer of a validating resolver that does not know the private name.
        "private" => {
            response.metadata.response_code = ResponseCode::NXDomain;
            response.answers = vec![cname(&owner, 300, "www.sub.fwd.example")];
            response.authorities = vec![soa("fwd.example", 60), nsec("fwd.example.", 60)];
        }
        // Each of these records is synthesised from a wildcard.
        label @ ("made" | "twice" | "failing" | "away") => {
            let target = match label {
                "made" => "www.sub.fwd.example",
                "away" => "x.below.sub.fwd.example",
                "failing" => "servfail.fwd.example",
                _ => "made.fwd.example",
            };
            response.answers = vec![cname(&owner, 300, target), rrsig(&owner, 5, 2)];
            response.authorities = vec![nsec(&format!("{label}.fwd.example."), 60)];
        }
        "servfail" => response.metadata.response_code = ResponseCode::ServFail,
        "silent" if aaaa => return Vec::new(),
        "mixed" if aaaa => {
            let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 1, 1, 1]].concat();
            let address = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1]].concat();
            response.answers =
                vec![record(&owner, 60, 28, &mapped), record(&owner, 60, 28, &address), rrsig(&owner, 28, 3)];
        }
        "long" => {
            response.metadata.response_code = ResponseCode::YXDomain;
            response.answers = vec![record("fwd.example.", 60, 39, b"\x04test\0")];
        }
        _ if aaaa => response.authorities = vec![soa("fwd.example", 60)],
        _ => response.answers = vec![a(&name, 60, "192.0.2.1")],
    }
    vec![Say::Now(response.to_vec().unwrap())]
}

fn types(records: &[String]) -> Vec<String> {
    let line = |record: &String| record.split(' ').take(3).collect::<Vec<_>>().join(" ");
    records.iter().map(line).collect()
}

#[test]
fn keeps_each_record_in_its_section() {
    let fake = Fake::start("127.70.0.53:0", say);
    let resolver = Resolver::serve(&MANIFEST.replace("TARGET", &fake.target()));
    let address = "www.sub.fwd.example. 60 A";
    let made = ["made.fwd.example. 60 CNAME", "made.fwd.example. 60 RRSIG"];
    let proof = "made.fwd.example. 60 NSEC";
    let soa = "sub.fwd.example. 60 SOA";
    let below = "below.sub.fwd.example. 60 NS";
    /// Client, question, status, and sections.
    type Case<'a> = (&'a str, &'a str, &'a str, [&'a [&'a str]; 3]);
    let cases: &[Case] = &[
        // zonal omits the proof that the public name does not exist, because it concerns neither
        // the CNAME nor the private name.
        (
            "127.70.0.7",
            "private.fwd.example +dnssec",
            "NOERROR",
            [&["private.fwd.example. 300 CNAME", address], &[], &[]],
        ),
        ("127.70.0.7", "made.fwd.example +dnssec", "NOERROR", [&[made[0], made[1], address], &[proof], &[]]),
        ("127.70.0.7", "made.fwd.example", "NOERROR", [&["made.fwd.example. 300 CNAME", address], &[], &[]]),
        (
            "127.70.0.7",
            "made.fwd.example MX +dnssec",
            "NOERROR",
            [&[made[0], made[1], "www.sub.fwd.example. 60 MX"], &[proof], &["www.sub.fwd.example. 60 A"]],
        ),
        ("127.70.0.7", "made.fwd.example TXT +dnssec", "NOERROR", [&made, &[proof, soa], &[]]),
        (
            "127.70.0.7",
            "twice.fwd.example +dnssec",
            "NOERROR",
            [
                &[made[0], made[1], "twice.fwd.example. 60 CNAME", "twice.fwd.example. 60 RRSIG", address],
                &[proof, "twice.fwd.example. 60 NSEC"],
                &[],
            ],
        ),
        // The proof comes before the glue.
        (
            "127.70.0.7",
            "away.fwd.example +dnssec",
            "NOERROR",
            [
                &["away.fwd.example. 60 CNAME", "away.fwd.example. 60 RRSIG"],
                &["away.fwd.example. 60 NSEC", below],
                &["ns.below.sub.fwd.example. 60 A"],
            ],
        ),
        // The answer contains no records of a chain that fails.
        ("127.70.0.7", "failing.fwd.example +dnssec", "SERVFAIL", [&[], &[], &[]]),
        // DNS64 keeps the records of earlier links, and makes no AAAA records of glue.
        (
            "127.70.6.7",
            "made.fwd.example AAAA +dnssec",
            "NOERROR",
            [&[made[0], made[1], "www.sub.fwd.example. 60 AAAA"], &[proof], &[]],
        ),
        ("127.70.6.7", "x.below.sub.fwd.example AAAA", "NOERROR", [&[], &[below], &["ns.below.sub.fwd.example. 60 A"]]),
        // The answer contains neither excluded addresses nor the signature over the whole set.
        ("127.70.6.7", "mixed.fwd.example AAAA +dnssec", "NOERROR", [&["mixed.fwd.example. 60 AAAA"], &[], &[]]),
        // A name that would be too long.
        ("127.70.0.7", "long.fwd.example", "YXDOMAIN", [&["fwd.example. 60 DNAME"], &[], &[]]),
    ];
    for (source, question, status, sections) in cases {
        let reply = resolver.stub_at(source).ask(question).reply;
        let found = [&reply.answer, &reply.authority, &reply.additional].map(|section| types(section));
        assert_eq!(
            (&*reply.status, found),
            (*status, sections.map(|s| s.iter().map(ToString::to_string).collect())),
            "{question}"
        );
    }
}

/// A time-out for AAAA records counts as "no AAAA records" (RFC 6147, section 5.1.3).
#[test]
fn dns64_uses_a_records_when_aaaa_queries_time_out() {
    let fake = Fake::start("127.70.0.54:0", say);
    let resolver = Resolver::serve(&MANIFEST.replace("TARGET", &fake.target()));
    let said = resolver.stub_at("127.70.6.7").ask("silent.fwd.example AAAA");
    assert_eq!(said.reply.answer, ["silent.fwd.example. 60 AAAA 64:ff9b::c000:201"], "{}", said.why);
    assert!(said.took < Duration::from_millis(3_500), "{:?}", said.took);
}
