//! The properties that must hold for any input.

use crate::{harness, model::program};
use hickory_proto::{op::Message, serialize::binary::BinDecodable};
use std::{
    cell::Cell,
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
};
use zonal::{
    answer::{Client, Moment, Outcome, Transport, answer},
    config::TsigAlgorithm,
    manifest::{
        Loaded, Manifest, MasterFile, PrivateHostedZone, Record, ZoneData,
        load::Loader,
        master,
        transferred::{Content, ZoneCopy},
    },
    snapshot::{Node, Snapshot, compile},
    transfer::{
        answer::{Reader, RecordLimits, Transferred},
        is_of_zone, is_signed,
        message::Request,
        tsig::{self, Key, Keys},
        update::rules::edits,
    },
    wire::{
        Name,
        proxy::{self, MAX_HEADER},
        rdata::{parse_text, type_from_text, type_to_text},
        response::Response,
    },
};

/// Packets to the example network in `zones`.
pub struct Packets {
    snapshot: Snapshot,
    draw: Cell<u32>,
}

impl Packets {
    pub fn new() -> Packets {
        Packets { snapshot: harness::snapshot(&harness::tree("zones")), draw: Cell::new(0) }
    }

    /// Sends a packet with any octets. A reply must be a valid reply to the packet.
    pub fn packet(&self, query: &[u8]) {
        let draw = self.draw.get();
        self.draw.set(draw.wrapping_add(1));
        let sources = [Ipv4Addr::new(127, 1, 0, 7), Ipv4Addr::new(127, 2, 0, 7), Ipv4Addr::new(192, 0, 2, 1)];
        let locals = [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 2, 0, 53)];
        let transport = if draw & 1 == 0 { Transport::Udp } else { Transport::Tcp };
        let client = Client {
            source: IpAddr::V4(sources[draw as usize / 2 % 3]),
            port: 0,
            local: IpAddr::V4(locals[draw as usize / 6 % 2]),
            transport,
        };
        self.of_zone(query);
        let mut reply = vec![0; if transport == Transport::Udp { 1232 } else { 65_535 }];
        let Outcome::Reply(answered) = answer(&self.snapshot, &(), &client, Moment { now: 0, draw }, query, &mut reply)
        else {
            return;
        };
        let reply = &reply[..answered.len];
        assert!(reply.len() >= 12 && query.len() >= 2, "a reply has a header, and so had the query");
        assert_eq!(reply[..2], query[..2], "the ID comes back");
        assert_eq!(reply[2] & 0x80, 0x80, "QR is set");
        assert_eq!(query[2] & 0x80, 0, "a reply is never answered");
        assert_eq!((reply[2] ^ query[2]) & 0x78, 0, "the opcode comes back");
        let truncated = reply[2] & 2 != 0;
        assert!(!truncated || transport == Transport::Udp, "TC is for UDP");
        let message = Message::from_bytes(reply).unwrap_or_else(|error| panic!("{error}: {reply:02x?}"));
        assert!(message.queries.len() <= 1);
        if reply[5] == 1 {
            let end = 12
                + query[12..].iter().scan(0, |skip, octet| Some(step(skip, *octet))).take_while(|go| *go).count()
                + 5;
            assert_eq!(reply[12..end], query[12..end], "the question comes back as it was written");
        }
        assert!(message.metadata.response_code != hickory_proto::op::ResponseCode::ServFail || answered.rcode == 2);
        program::parse(reply);
    }
}

impl Packets {
    /// Reads and verifies a request about a whole zone, and applies an update to each zone.
    fn of_zone(&self, query: &[u8]) {
        let keys = Keys::of([Key::new(&Name::absolute("k").unwrap(), TsigAlgorithm::HmacSha256, b"secret")]);
        if !(is_signed(query) || is_of_zone(query)) {
            return;
        }
        let _ = tsig::verify(&keys, query, 0);
        let Some(request) = Request::read(query) else { return };
        assert_eq!(request.error(5, Some("no"))[..2], query[..2], "the ID comes back");
        for zone in self.snapshot.zones() {
            let _ = edits(zone, &request);
        }
    }
}

/// Packets from forwarders: with PROXY headers or client subnets.
pub struct Forwarded {
    snapshot: Snapshot,
}

impl Forwarded {
    pub fn new() -> Forwarded {
        Forwarded { snapshot: harness::snapshot(&harness::tree("tests/fixtures/forwarders")) }
    }

    /// Sends a packet with any octets. A reply must be a reply to the query behind the header.
    pub fn packet(&self, packet: &[u8]) {
        let rest = match proxy::read(packet) {
            Ok((_, rest)) => {
                assert!(packet.ends_with(rest) && packet.len() - rest.len() <= MAX_HEADER);
                Some(rest)
            }
            Err(error) => error.rest,
        };
        for (last, query) in [(20, Some(packet)), (21, rest), (22, Some(packet))] {
            let source = IpAddr::from([127, 21, 0, last]);
            let client = Client { source, port: 0, local: [127, 21, 0, 53].into(), transport: Transport::Udp };
            let mut reply = [0; 1232];
            let outcome = answer(&self.snapshot, &(), &client, Moment { now: 0, draw: 0 }, packet, &mut reply);
            let Outcome::Reply(answered) = outcome else { continue };
            let (reply, query) = (&reply[..answered.len], query.expect("a packet with a reply has a query"));
            assert!(reply.len() >= 12 && reply[..2] == query[..2], "the ID comes back");
            zonal::wire::message::Message::read(reply).expect("a valid reply");
        }
    }
}

/// Steps through the octets of a name. Returns false at its end.
fn step(skip: &mut u8, octet: u8) -> bool {
    match skip {
        0 if octet == 0 => return false,
        0 => *skip = octet,
        _ => *skip -= 1,
    }
    true
}

/// Loads any file as a manifest. It compiles, or has errors with a location.
pub fn manifest(scratch: &harness::Scratch, octets: &[u8]) {
    let name = if octets.first() == Some(&b'{') { "m.json" } else { "m.yaml" };
    let path = scratch.path().join(name);
    std::fs::write(&path, octets).expect("written");
    let load = Loader::new(scratch.path()).load();
    std::fs::remove_file(&path).expect("removed");
    match load {
        Ok((loaded, _)) => match compile(&loaded, &Arc::new(Node::default()), None) {
            Ok((snapshot, _)) => drop(snapshot.entry_point_addresses()),
            Err(problems) => assert!(!problems.is_empty()),
        },
        Err(problems) => {
            assert!(!problems.is_empty());
            problems.iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
        }
    }
}

/// Reads any octets as a master file. zonal can write and compile the records, or reports errors.
pub fn master_file(octets: &[u8]) {
    let apex = Name::absolute("z.example").expect("a name");
    let mut opener = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
        Some("z.zone") => Ok(octets.to_vec()),
        Some("other.zone") => Ok(b"x A 10.0.0.1\n".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let (file, problems): (MasterFile, _) = master::read(&mut opener, Path::new("/z/z.zone"), &apex, "Z1");
    problems.iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
    for record in &file.records {
        assert!(!type_to_text(record.rtype).is_empty() && record.owner.is_at_or_below(&apex));
        let mut shown = String::new();
        assert!(zonal::wire::rdata::write(&mut shown, record.rtype, &record.rdata).is_ok());
    }
    let mut manifest = Manifest::default();
    let zone = PrivateHostedZone { file: Some("z.zone".into()), ..PrivateHostedZone::empty(apex) };
    manifest.private_hosted_zones.insert("Z1".into(), Arc::new(zone));
    let zone_data = [("Z1".to_owned(), ZoneData::Read(file))].into();
    let loaded = Loaded { manifest: manifest.into(), zone_data, ..Loaded::default() };
    if let Err(problems) = compile(&loaded, &Arc::new(Node::default()), None) {
        assert!(!problems.is_empty());
    }
}

/// Reads any octets as a primary's response to AXFR and IXFR. The zone compiles, or the response is
/// refused.
pub fn transfer(octets: &[u8]) {
    let Some(response) = Response::read(octets) else { return };
    let zone = Name::absolute("a.example").expect("a name");
    let record = |owner: &str, rtype: &str, text: &str| {
        let rtype = type_from_text(rtype).expect("a type");
        let owner = Name::parse(owner.as_bytes(), Some(&zone)).expect("a name");
        Record { owner, rtype, ttl: 60, rdata: parse_text(rtype, text, &zone).expect("data"), file: 0, line: 0 }
    };
    let before = vec![record("@", "SOA", "ns hm 1 60 30 600 5"), record("www", "A", "10.0.0.1")];
    let before = Content::of(zone.clone(), &before).expect("a zone");
    for old in [None, Some(&before)] {
        let mut reader = Reader::new(&zone, old, RecordLimits::new(1000, 1 << 20));
        let mut transferred = None;
        for record in response.sections[0].clone() {
            match reader.push(record) {
                Ok(next) => transferred = next,
                Err(error) => {
                    assert!(!error.is_empty());
                    transferred = None;
                    break;
                }
            }
        }
        let Some(Transferred::Whole(content) | Transferred::Changed(content)) = transferred else { continue };
        let records = content.sets().flat_map(|(owner, rtype, values)| {
            let record = |(ttl, rdata): (u32, &[u8])| (owner.clone(), rtype, ttl, rdata.into());
            values.iter().map(record).collect::<Vec<_>>()
        });
        let record = |(owner, rtype, ttl, rdata)| Record { owner, rtype, ttl, rdata, file: 0, line: 0 };
        let records: Vec<Record> = records.map(record).collect();
        let again = Content::of(zone.clone(), &records).expect("what is transferred is a zone");
        assert_eq!((again.digest(), again.soa), (content.digest(), content.soa));
        if let Err(error) = content.members() {
            assert!(!error.is_empty());
        }
        let source = serde_json::json!({"name": "a.example", "vpc_ids": [], "primaries": [{"ip": "192.0.2.1"}],
                                        "catalog": {"vpc_ids": []}});
        let manifest = serde_json::from_value(serde_json::json!({"private_hosted_zones": {"Z1": source}}));
        let loaded = Loaded { manifest: manifest.expect("a manifest"), ..Loaded::default() };
        let held = ZoneCopy { content: Arc::new(content), is_expired: false };
        let kept = [("Z1".to_owned(), held)].into_iter().collect();
        let loaded = zonal::manifest::catalog::complete(loaded, &kept, &Manifest::default());
        if let Err(problems) = compile(&loaded, &Arc::new(Node::default()), None) {
            assert!(!problems.is_empty());
        }
    }
}
