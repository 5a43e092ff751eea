//! Outgoing transfers, as messages: of a whole zone (AXFR, RFC 5936), or of differences (IXFR, RFC
//! 1995).

use super::{
    Transfers,
    access::{self, Purpose, Refused},
    history::{self, Record, Step},
    is_stream,
    message::{Request, Writer},
    tsig::Session,
    wait_for_history,
};
use crate::{
    answer::{Client, Transport},
    clock::now,
    manifest::transferred::is_newer,
    snapshot::zone::{Cursor, Zone, soa_serial},
    wire::{
        Name,
        codes::{class, rcode},
        rdata::rtype,
    },
};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::OwnedSemaphorePermit;

/// An answer of several messages. Each message is made when the one before was sent.
pub struct Outgoing {
    transfers: Arc<Transfers>,
    request: Request,
    records: Box<dyn Iterator<Item = Record> + Send>,
    /// The record that did not fit into the message before.
    pending: Option<Record>,
    session: Option<Session>,
    is_first: bool,
    /// The result that is counted.
    result: &'static str,
    is_complete: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Starts the answer to a request for a transfer.
///
/// # Errors
///
/// The client may not transfer the zone, or the request cannot be answered.
pub async fn start(
    transfers: &Arc<Transfers>,
    client: &Client,
    request: &Request,
    key: Option<&Name>,
) -> Result<Start, Refused> {
    let refused = |rcode: u16, client_text: &'static str| {
        let reason = format!("{} asks for {}: {client_text}", client.source, request.zone);
        Refused { rcode, client_text: client_text.into(), reason }
    };
    if request.qclass != class::IN {
        return Err(refused(rcode::REFUSED, "only class IN is served"));
    }
    let is_ixfr = request.qtype == rtype::IXFR;
    let is_udp = client.transport == Transport::Udp;
    if !(is_stream(client.transport) || is_ixfr && is_udp) {
        return Err(refused(rcode::REFUSED, "zones are transferred by TCP, TLS and QUIC"));
    }
    let latest = latest(transfers, client, request, key).await?;
    let from = match is_ixfr {
        false => None,
        true => {
            let soa = request.sections[1].iter().find(|record| record.rtype == rtype::SOA);
            let soa = soa.ok_or_else(|| refused(rcode::FORMERR, "an IXFR query has the SOA record of its client"))?;
            Some(soa_serial(&soa.rdata))
        }
    };
    if is_udp || from.is_some_and(|from| !is_newer(latest.serial(), from)) {
        // By UDP, the client learns whether there is a newer version. It comes back by TCP (RFC
        // 1995, section 2).
        return Ok(Start::new(transfers, request, "current", [history::soa(&latest)].into_iter(), None));
    }
    let Ok(permit) = transfers.transfers.clone().try_acquire_owned() else {
        return Err(refused(rcode::SERVFAIL, "too many transfers go out: try again later"));
    };
    let log_start = |protocol: &str, zone: &Zone| {
        let (name, serial) = (&request.zone, zone.serial());
        tracing::info!(zone = zone.id, %name, serial, client = %client.source, protocol, "outgoing transfer started");
    };
    if let Some(from) = from
        && let Some((zone, steps)) = transfers.history.steps(&latest.id, from)
    {
        log_start("IXFR", &zone);
        return Ok(Start::new(transfers, request, "ixfr", differences(&zone, steps), Some(permit)));
    }
    log_start("AXFR", &latest);
    Ok(Start::new(transfers, request, "axfr", whole(latest), Some(permit)))
}

/// The latest version of the zone of a request. The history has it, too, unless it takes too long.
async fn latest(
    transfers: &Transfers,
    client: &Client,
    request: &Request,
    key: Option<&Name>,
) -> Result<Arc<Zone>, Refused> {
    let (zone, generation) = {
        let snapshot = transfers.snapshot.load_full();
        (access::zone(&snapshot, client, request, Purpose::Transfer, key)?.clone(), snapshot.generation)
    };
    if let Some(missing) = &zone.missing {
        let reason = format!("{} asks for {}: {missing}", client.source, request.zone);
        return Err(Refused { rcode: rcode::SERVFAIL, client_text: "the zone is not there".into(), reason });
    }
    wait_for_history(transfers, generation).await;
    Ok(transfers.history.latest(&zone.id).filter(|latest| latest.apex == zone.apex).unwrap_or(zone))
}

/// The answer to a secondary that asks for the SOA record.
///
/// # Errors
///
/// The client may not transfer the zone.
pub async fn soa(
    transfers: &Arc<Transfers>,
    client: &Client,
    request: &Request,
    key: Option<&Name>,
) -> Result<Vec<u8>, Refused> {
    let soa = history::soa(&*latest(transfers, client, request, key).await?);
    let mut writer = Writer::new(request, 0, true);
    writer.record(&soa.owner, soa.rtype, soa.ttl, &soa.rdata);
    Ok(writer.finish_records())
}

/// All records of a zone: first and last the SOA record (RFC 5936, section 2.2).
fn whole(zone: Arc<Zone>) -> impl Iterator<Item = Record> + Send {
    let soa = history::soa(&zone);
    let mut at = Cursor::default();
    let mut node = VecDeque::new();
    let records = std::iter::from_fn(move || {
        while node.is_empty() {
            let (records, next) = history::records_at(&zone, at)?;
            node = records;
            at = next;
        }
        node.pop_front()
    });
    [soa.clone()].into_iter().chain(records).chain([soa])
}

/// The removed and the added records of each step, between SOA records (RFC 1995, section 4).
fn differences(zone: &Zone, steps: Vec<Arc<Step>>) -> impl Iterator<Item = Record> + Send + use<> {
    let soa = history::soa(zone);
    let records = |step: Arc<Step>| {
        let len = step.removed.len() + step.added.len();
        (0..len).map(move |at| step.removed.get(at).unwrap_or_else(|| &step.added[at - step.removed.len()]).clone())
    };
    [soa.clone()].into_iter().chain(steps.into_iter().flat_map(records)).chain([soa])
}

/// An answer that is not signed yet.
pub struct Start(Outgoing);

impl Start {
    fn new(
        transfers: &Arc<Transfers>,
        request: &Request,
        result: &'static str,
        records: impl Iterator<Item = Record> + Send + 'static,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Start {
        Start(Outgoing {
            transfers: transfers.clone(),
            request: request.clone(),
            records: Box::new(records),
            pending: None,
            session: None,
            is_first: true,
            result,
            is_complete: false,
            _permit: permit,
        })
    }

    /// The answer, with each message signed if there is a session.
    pub fn signed(mut self, session: Option<Session>) -> Outgoing {
        self.0.session = session;
        self.0
    }
}

impl Outgoing {
    /// The next message, and the rest of the answer. None if a record is larger than a message.
    pub fn next(mut self) -> Option<(Vec<u8>, Option<Outgoing>)> {
        let reserved = self.session.as_ref().map_or(0, Session::size);
        let mut writer = Writer::new(&self.request, reserved, self.is_first);
        while let Some(record) = self.pending.take().or_else(|| self.records.next()) {
            if !writer.record(&record.owner, record.rtype, record.ttl, &record.rdata) {
                if writer.is_empty() {
                    return None;
                }
                self.pending = Some(record);
                break;
            }
        }
        let mut message = writer.finish_records();
        self.is_first = false;
        if let Some(session) = &mut self.session {
            session.sign(&mut message, now() as u64);
        }
        self.is_complete = self.pending.is_none();
        let rest = (!self.is_complete).then_some(self);
        Some((message, rest))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // The client did not read an incomplete answer to its end.
        let result = if self.is_complete { self.result } else { "failed" };
        self.transfers.counters.transfers.with_label_values(&["out", result]).inc();
    }
}
