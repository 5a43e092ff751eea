//! zonal, called in-process with messages that hickory makes and reads.

use super::{
    names::{Data, N, Seen, name_wire},
    oracle::{Ask, World},
    upstream::INTERNET,
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
    serialize::binary::BinDecodable,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};
use zonal::{
    answer::{Client, Moment, Outcome, Transport, answer, known::KnownAnswers},
    manifest::{Loaded, MasterFile, Problem, Record as FileRecord, ZoneData},
    snapshot::{
        Node, Snapshot, compile,
        health::TargetId,
        routes::{Route, Servers},
    },
};

/// A world as a loaded manifest.
pub fn loaded(world: &World) -> Loaded {
    let zone_data = world.data.iter().map(|(id, records)| {
        let records = records.iter().enumerate().map(|(line, rr)| FileRecord {
            owner: zonal::wire::Name::from_wire(&name_wire(&rr.owner)).expect("a short name"),
            rtype: rr.rtype,
            ttl: rr.ttl,
            rdata: rr.data.wire().into(),
            file: 0,
            line: line as u32 + 1,
        });
        let file = MasterFile { files: vec![Arc::from(Path::new("z.zone"))], records: records.collect() };
        (id.clone(), ZoneData::Read(file))
    });
    Loaded {
        manifest: world.manifest.clone().into(),
        zone_data: zone_data.collect::<BTreeMap<_, _>>(),
        ..Loaded::default()
    }
}

/// Compiles a world.
pub fn snapshot(world: &World) -> Result<Snapshot, Vec<Problem>> {
    let internet = || Arc::new(Route::new(INTERNET.into(), [0].into(), Servers::Recursion));
    let node = Node { internet: world.internet.then(internet), ..Node::default() };
    let snapshot = compile(&loaded(world), &Arc::new(node), None).map(|(snapshot, _)| snapshot)?;
    set_health(world, &snapshot);
    Ok(snapshot)
}

/// Sets the verdicts of the world's health checks.
pub fn set_health(world: &World, snapshot: &Snapshot) {
    for id in snapshot.manifest.health_checks.keys() {
        let target = snapshot.health_targets.get(&TargetId::Check(id.clone())).expect("a target for each check");
        target.verdict.set(!world.unhealthy.contains(id));
    }
}

/// The packet of a query with EDNS. With `mixed`, the name is in mixed case.
pub fn packet(ask: &Ask, mixed: bool) -> Vec<u8> {
    let labels = ask.name.iter().map(|label| {
        let letters = label.bytes().enumerate();
        let flip = |(at, octet): (usize, u8)| if mixed && at % 2 == 0 { octet.to_ascii_uppercase() } else { octet };
        letters.map(flip).collect::<Vec<u8>>()
    });
    let name = Name::from_labels(labels.collect::<Vec<_>>()).expect("a short name");
    let mut query = Query::query(name, RecordType::from(ask.qtype));
    query.set_query_class(DNSClass::IN);
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = ask.rd;
    message.add_query(query);
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message.to_vec().expect("a small message")
}

/// The octets of the reply. None if zonal drops the query.
pub fn exchange(
    snapshot: &Snapshot,
    ask: &Ask,
    transport: Transport,
    now: i64,
    draw: u32,
    query: &[u8],
) -> Option<Vec<u8>> {
    let client = Client { source: ask.source, port: 0, local: ask.local, transport };
    let mut reply = vec![0; 65_535];
    match answer(snapshot, &(), &client, Moment { now, draw }, query, &mut reply) {
        Outcome::Reply(answered) => {
            reply.truncate(answered.len);
            Some(reply)
        }
        Outcome::Drop | Outcome::Forward(_) => None,
    }
}

/// A reply, in the model's terms.
#[derive(Debug)]
pub struct Got {
    pub message: Message,
    pub rcode: u16,
    pub aa: bool,
    pub answer: BTreeSet<Seen>,
    pub authority: BTreeSet<(String, u16, Option<u32>)>,
    pub ede: Option<u16>,
    pub ede_text: String,
    /// The rule that forwards the query, and the name, instead of a reply.
    pub forward: Option<(String, N)>,
}

/// Sends a query as if over TCP, so that the reply is not truncated.
pub fn ask(snapshot: &Snapshot, known: &impl KnownAnswers, ask: &Ask, now: i64, draw: u32) -> Got {
    let query = packet(ask, draw % 2 == 1);
    let client = Client { source: ask.source, port: 0, local: ask.local, transport: Transport::Tcp };
    let mut reply = vec![0; 65_535];
    let reply = match answer(snapshot, known, &client, Moment { now, draw }, &query, &mut reply) {
        Outcome::Reply(answered) => &reply[..answered.len],
        Outcome::Forward(forward) => {
            assert_eq!(forward.qtype, ask.qtype);
            let name = name_of(forward.name().wire());
            let nothing = Message::new(4711, MessageType::Response, OpCode::Query).to_vec().expect("a small message");
            return Got { forward: Some((forward.route.rule.clone(), name)), ..parse(&nothing) };
        }
        Outcome::Drop => panic!("a good query gets a reply"),
    };
    let got = parse(reply);
    assert_eq!(reply[..2], query[..2], "the ID comes back");
    let question = 12..query.len() - 11;
    assert_eq!(reply[question.clone()], query[question], "the question comes back as it was written");
    got
}

/// Reads a reply.
pub fn parse(reply: &[u8]) -> Got {
    let message = Message::from_bytes(reply).unwrap_or_else(|error| panic!("{error}: {reply:02x?}"));
    assert_eq!(message.metadata.message_type, MessageType::Response);
    let (mut ede, mut ede_text) = (None, String::new());
    if let Some(edns) = &message.edns
        && let Some(EdnsOption::Unknown(_, octets)) = edns.option(EdnsCode::Unknown(15))
    {
        ede = Some(u16::from_be_bytes([octets[0], octets[1]]));
        ede_text = String::from_utf8(octets[2..].to_vec()).expect("EDE text is UTF-8");
    }
    Got {
        rcode: u16::from(message.metadata.response_code),
        aa: message.metadata.authoritative,
        answer: message.answers.iter().map(seen).collect(),
        authority: message
            .authorities
            .iter()
            .map(|record| {
                let rtype = u16::from(record.record_type());
                (lower(&record.name), rtype, (rtype == 6).then_some(record.ttl))
            })
            .collect(),
        ede,
        ede_text,
        message,
        forward: None,
    }
}

pub fn lower(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') { text } else { text + "." }
}

/// A record in the model's terms.
pub fn seen(record: &Record) -> Seen {
    let data = match &record.data {
        RData::A(address) => address.0.to_string(),
        RData::AAAA(address) => address.0.to_string(),
        RData::CNAME(name) => lower(&name.0),
        RData::NS(name) => lower(&name.0),
        RData::PTR(name) => lower(&name.0),
        RData::MX(mx) => format!("{} {}", mx.preference, lower(&mx.exchange)),
        RData::SRV(srv) => format!("{} {} {} {}", srv.priority, srv.weight, srv.port, lower(&srv.target)),
        RData::TXT(txt) => txt.txt_data.iter().map(|s| format!("\"{}\"", String::from_utf8_lossy(s))).collect(),
        RData::SOA(soa) => format!(
            "{} {} {} {} {} {} {}",
            lower(&soa.mname),
            lower(&soa.rname),
            soa.serial,
            soa.refresh,
            soa.retry,
            soa.expire,
            soa.minimum
        ),
        RData::Unknown { code, rdata } => opaque(u16::from(*code), &rdata.anything),
        other => other.to_string().to_ascii_lowercase(),
    };
    (lower(&record.name), u16::from(record.record_type()), record.ttl, data)
}

/// Types that hickory does not read here.
fn opaque(rtype: u16, octets: &[u8]) -> String {
    match rtype {
        super::names::DNAME => super::names::text(&name_of(octets)),
        super::names::DS if octets.len() == 24 => {
            let digest = octets[4..].try_into().expect("20 octets");
            Data::Ds(u16::from_be_bytes([octets[0], octets[1]]), digest).text()
        }
        _ => format!("{octets:02x?}"),
    }
}

/// The labels of a name in wire format.
pub fn name_of(octets: &[u8]) -> N {
    let (mut labels, mut rest) = (Vec::new(), octets);
    while let Some((length @ 1..=63, tail)) = rest.split_first() {
        let (label, tail) = tail.split_at(*length as usize);
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        rest = tail;
    }
    labels
}
