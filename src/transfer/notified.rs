//! Notifications of primaries that a zone has changed (RFC 1996).

use super::{
    Transfers,
    incoming::TransferredZone,
    message::with_opt,
    tsig::{self, Signed},
};
use crate::{
    clock::now,
    manifest::transferred::Soa,
    wire::{
        Name,
        codes::{class, flag, opcode, rcode},
        query::{HEADER, edns_of, flags},
        rdata::rtype,
        response::{Response, read_name},
    },
};
use std::net::IpAddr;

/// The opcode NOTIFY, at its place in the flags of the header.
const NOTIFY: u16 = opcode::to_flags(opcode::NOTIFY);

/// The result of a notification, with the RCODE of the reply.
enum Verdict {
    Accepted,
    Refused(u16),
    Failed(u16),
}

/// Whether a message is a notification.
pub fn is_notification(message: &[u8]) -> bool {
    message.len() >= HEADER && flags(message) & (flag::QR | flag::OPCODE) == NOTIFY
}

/// Receives a notification, and refreshes the zone soon if the sender may notify zonal. Returns the
/// reply; none if the message is not a notification. `client` is the address of the sender.
pub fn notified(transfers: &Transfers, client: IpAddr, message: &[u8]) -> Option<Vec<u8>> {
    if !is_notification(message) {
        return None;
    }
    let time = now() as u64;
    let (verdict, mut reply, signed) = match tsig::verify(&transfers.keys, message, time) {
        Err(tsig::Malformed) => (Verdict::Failed(rcode::FORMERR), reply_to(message, None), Signed::No),
        Ok(signed @ Signed::Not(_)) => {
            (Verdict::Refused(rcode::NOTAUTH), reply_to(message, question(message).map(|(_, end)| end)), signed)
        }
        Ok(signed) => match question(message) {
            None => (Verdict::Failed(rcode::FORMERR), reply_to(message, None), signed),
            Some((name, end)) => {
                let key = match &signed {
                    Signed::By(session) => Some(session.key().name.clone()),
                    _ => None,
                };
                let zones = transfers.incoming.named(&name);
                let allowed: Vec<_> = zones.iter().filter(|zone| is_allowed(zone, client, key.as_ref())).collect();
                let verdict = match (allowed.is_empty(), &key) {
                    (false, _) => Verdict::Accepted,
                    // A client with a key may know which zones exist.
                    (true, Some(_)) if zones.is_empty() => Verdict::Refused(rcode::NOTAUTH),
                    (true, _) => Verdict::Refused(rcode::REFUSED),
                };
                let serial = serial(message, &name);
                allowed.iter().for_each(|zone| zone.notify(client, serial));
                (verdict, reply_to(message, Some(end)), signed)
            }
        },
    };
    let (result, code) = match verdict {
        Verdict::Accepted => ("accepted", rcode::NOERROR),
        Verdict::Refused(code) => ("refused", code),
        Verdict::Failed(code) => ("failed", code),
    };
    transfers.counters.notifies.with_label_values(&["in", result]).inc();
    reply[3] |= code as u8;
    if edns_of(message).is_some() {
        reply = with_opt(reply, None);
    }
    match signed {
        Signed::No => {}
        Signed::By(mut session) => session.sign(&mut reply, time),
        Signed::Not(failure) => failure.answer(&mut reply, time),
    }
    Some(reply)
}

/// The zone in the question, and the offset of the end of the question.
fn question(message: &[u8]) -> Option<(Name, usize)> {
    let mut name = Vec::new();
    let end = (message[4..6] == [0, 1]).then(|| read_name(message, HEADER, &mut name))??;
    let is_soa = message.get(end..end + 4)? == [rtype::SOA.to_be_bytes(), class::IN.to_be_bytes()].concat();
    let name = Name::from_wire(&name).ok()?;
    is_soa.then_some((name, end + 4))
}

/// The serial of the zone, if the notification has the SOA record.
fn serial(message: &[u8], zone: &Name) -> Option<u32> {
    let mut message = message.to_vec();
    let bits = flags(&message) | flag::QR;
    message[2..4].copy_from_slice(&bits.to_be_bytes());
    let [answer, ..] = Response::read(&message)?.sections;
    let soa =
        answer.iter().find(|record| record.rtype == rtype::SOA && record.owner.eq_ignore_ascii_case(zone.as_wire()));
    Some(Soa::read(&soa?.rdata)?.serial)
}

/// A reply without an RCODE. `question` is the end of the question; none if the question cannot be
/// read.
fn reply_to(message: &[u8], question: Option<usize>) -> Vec<u8> {
    let mut reply = message[..question.unwrap_or(HEADER)].to_vec();
    reply[2..4].copy_from_slice(&(flag::QR | flag::AA | NOTIFY).to_be_bytes());
    reply[4..HEADER].fill(0);
    reply[5] = question.is_some().into();
    reply
}

/// Whether a client may notify zonal about a zone: `allow_notify` decides, or else the list of
/// primaries.
fn is_allowed(zone: &TransferredZone, client: IpAddr, key: Option<&Name>) -> bool {
    let source = &zone.source;
    match source.allow_notify.is_empty() {
        true => source
            .primaries
            .iter()
            .any(|primary| primary.ip == client && primary.tsig_key.as_ref().is_none_or(|wanted| Some(wanted) == key)),
        false => source.allow_notify.iter().any(|allowed| {
            allowed.cidr_block.is_none_or(|block| block.contains(&client))
                && allowed.tsig_key.as_ref().is_none_or(|wanted| Some(wanted) == key)
        }),
    }
}
