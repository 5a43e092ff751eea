//! `TestDNSAnswer`: what zonal answers a client, without asking other servers.

use super::{
    hosted_zones::{self, error},
    record_sets::{name_text, read_name},
};
use crate::{
    answer::{Client, Moment, Outcome, Transport, answer, identify::QueryTemplate},
    aws::{
        codec::server::ServiceError,
        model::Service::Route53,
        operations::{Context, Entry, Parameters, ReadResult, table::read},
    },
    manifest::PrivateHostedZone,
    wire::{
        message::{Message, Record},
        rdata::{type_from_text, write},
    },
};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::{AddrParseError, IpAddr};

/// The operation.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[read(
    Route53,
    "TestDNSAnswer",
    test_dns_answer,
    "HostedZoneId RecordName RecordType ResolverIP EDNS0ClientSubnetIP EDNS0ClientSubnetMask",
)];

/// The asker of a question: its own address, the address that it asks, and the forwarder in front of it.
struct Asker {
    from: IpAddr,
    to: IpAddr,
    via: Option<IpAddr>,
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) }
}

fn address(parameters: Parameters, member: &str) -> Result<Option<IpAddr>, ServiceError> {
    let invalid = |_: AddrParseError| error("InvalidInput", format!("{member}: expected an IP address"));
    parameters.given_text(member).map(|text| text.parse::<IpAddr>().map_err(invalid)).transpose()
}

/// The client of a request. Without an address, it is one of the zone's first VPC.
fn asker(context: &Context, zone: &PrivateHostedZone, parameters: Parameters) -> Result<Asker, ServiceError> {
    let resolver = address(parameters, "ResolverIP")?;
    let subnet = address(parameters, "EDNS0ClientSubnetIP")?;
    let subnet = match (subnet, parameters.given_text("EDNS0ClientSubnetMask")) {
        (Some(address), Some(mask)) => {
            let network = mask.parse().ok().and_then(|mask| IpNet::new(address, mask).ok());
            let network =
                network.ok_or_else(|| error("InvalidInput", "EDNS0ClientSubnetMask: expected a length of a prefix"))?;
            Some(network.network())
        }
        (subnet, _) => subnet,
    };
    match (resolver, subnet) {
        (Some(via), Some(from)) => Ok(Asker { from, to: unspecified(via), via: Some(via) }),
        (Some(from), None) | (None, Some(from)) => Ok(Asker { from, to: unspecified(from), via: None }),
        (None, None) => {
            let vpcs = &context.manifest().vpcs;
            let vpc = match zone.vpc_ids.first() {
                Some(id) => vpcs.get(id),
                None => vpcs.values().find(|vpc| context.has_vpc(vpc)),
            };
            let found = vpc.and_then(|vpc| Some((vpc, vpc.cidr_blocks.first()?.network())));
            let missing = || error("InvalidInput", "ResolverIP: it is missing, and no VPC has the zone");
            let (vpc, from) = found.ok_or_else(missing)?;
            Ok(Asker {
                from,
                to: vpc.resolver_addresses.first().copied().unwrap_or_else(|| unspecified(from)),
                via: None,
            })
        }
    }
}

fn test_dns_answer(context: &Context, parameters: Parameters) -> ReadResult {
    let (_, zone) = hosted_zones::find(context, parameters.text("HostedZoneId"))?;
    let (text, rtype) = (parameters.text("RecordName"), parameters.text("RecordType"));
    let name = read_name(text).filter(|name| name.is_at_or_below(&zone.name));
    let name =
        name.ok_or_else(|| error("InvalidInput", format!("RecordName: {text} is not a name of {}", zone.name)))?;
    let qtype = type_from_text(rtype);
    let qtype = qtype.ok_or_else(|| error("InvalidInput", format!("RecordType: zonal does not know {rtype}")))?;
    let Asker { from, to, via } = asker(context, zone, parameters)?;
    // What zonal answers the clients of another account is not for the caller to see.
    if let Some(address) = [Some(from), via].into_iter().flatten().find(|address| context.is_foreign(*address)) {
        return Err(error("InvalidInput", format!("{address} is in a VPC of another account")));
    }
    let snapshot = context.snapshot;
    let client = Client { source: via.unwrap_or(from), port: 0, local: to, transport: Transport::Tcp };
    let template = match via {
        None => QueryTemplate::default(),
        Some(_) => QueryTemplate::named(snapshot, &client, from),
    };
    let packet = template.packet(name.as_wire(), qtype);
    let mut reply = vec![0; usize::from(u16::MAX)];
    let moment = Moment { now: context.now, draw: 0 };
    let message = match answer(snapshot, &(), &client, moment, &packet, &mut reply) {
        Outcome::Reply(answered) => Message::read(&reply[..answered.len]).unwrap_or_default(),
        Outcome::Forward(forward) => {
            let rule = &forward.route.rule;
            let by = if rule.is_empty() { "to the internet".into() } else { format!("by the rule {rule}") };
            return Err(error("InvalidInput", format!("RecordName: zonal forwards the question {by}")));
        }
        _ => return Err(error("InvalidInput", "ResolverIP: zonal does not answer this client")),
    };
    let answers = &message.sections[0];
    let of_type = |record: &&Record| record.rtype == qtype;
    let has_type = answers.iter().any(|record| of_type(&record));
    let data: Vec<Value> =
        answers.iter().filter(|record| !has_type || of_type(record)).map(|record| shown(record).into()).collect();
    Ok(json!({
        "Nameserver": format!("ns.{}", zone.name).trim_end_matches('.'),
        "RecordName": name_text(&name),
        "RecordType": rtype,
        "RecordData": data,
        "ResponseCode": message.status(),
        "Protocol": "UDP",
    }))
}

/// The data of a record, as text.
fn shown(record: &Record) -> String {
    let mut text = String::new();
    let _ = write(&mut text, record.rtype, &record.rdata);
    text
}
