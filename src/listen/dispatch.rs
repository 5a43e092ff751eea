//! What happens to a query around [`answer`](crate::answer::answer), for every transport alike.
//!
//! ```text
//! decide -> reply                      finish: limit, log, count -> the transport sends it
//!        -> deferred: forward, zone    complete: wait, then finish -> the transport sends it
//! ```
//! The transports read packets and send replies, and nothing else. `decide` and `finish` run on the UDP hot path: they do
//! not allocate, lock or wait unless the query is deferred.

use super::{
    Core, answer_traced,
    limit::Verdict,
    respond,
    workers::{Dropped, Limited, Writer},
};
use crate::{
    answer::{self, Answered, Client, Cookie, Moment, Noted, Outcome, Trace, Transport, known::Asked},
    clock,
    forward::{self, AdmissionPermit, CompletedReply},
    query_log::{Said, Tap},
    snapshot::Snapshot,
    transfer::{self, Part},
    wire::{
        name,
        query::{HEADER, rcode},
    },
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::OwnedSemaphorePermit;

/// The room for the reply that tells the log who asked about a zone, in octets (RFC 1035, 2.3.4).
const MIN_REPLY: usize = 512;
/// A reply about a zone that is no longer than this always has room, in octets: that to an UPDATE is shorter.
const SHORT_REPLY: usize = 4096;

/// A reply over UDP with more octets than this, and more than this many times those of its query, is large.
const LARGE_OCTETS: usize = 512;
const LARGE_FACTOR: usize = 10;
/// A reply over UDP that takes longer than this is not sent: answers that wait long and then go out at the same time would
/// amplify an attack (DNSBomb, CVE-2024-33655). A client asks again about then, and finds it in the cache.
const MAX_UDP_AGE: Duration = Duration::from_millis(2400);

/// A query as it came.
pub struct Arrival<'p> {
    pub client: &'p Client,
    pub packet: &'p [u8],
    pub received: SystemTime,
}

/// What is to be done with a query.
pub enum Decision {
    /// The reply is made; none if the query gets no reply.
    Finish(Option<Answered>),
    /// The query waits; [`complete`] answers it.
    Defer(Deferred),
}

/// What a query waits for. It holds a slot among those that wait for the same.
pub enum Deferred {
    /// Upstream servers, which are asked this first.
    Forward(AdmissionPermit, Asked),
    /// The transfer, the update or the signed answer of a zone.
    Zone(OwnedSemaphorePermit),
}

/// Where the replies of one transport or thread are counted and logged.
pub struct Ledger {
    /// The counters.
    pub writer: Writer,
    tap: Tap,
    is_logged: bool,
}

impl Ledger {
    /// Counts by `writer`, and logs by `tap`.
    pub fn new(writer: Writer, tap: Tap) -> Ledger {
        Ledger { writer, tap, is_logged: false }
    }

    /// Prepares for replies that are made from this snapshot.
    pub fn prepare(&mut self, snapshot: &Snapshot) {
        self.writer.make_room(snapshot);
        self.is_logged = self.tap.make_ready(snapshot);
    }

    /// Whether the log wants to know how replies come about.
    pub fn is_logged(&self) -> bool {
        self.is_logged
    }

    /// Limits, logs and counts a reply, which the limit may change. Returns its length; none if nothing is to be sent.
    pub fn finish(
        &mut self,
        core: &Core,
        snapshot: &Snapshot,
        arrival: &Arrival,
        noted: &Noted,
        reply: Option<(Answered, &mut [u8])>,
    ) -> Option<usize> {
        let Arrival { client, packet, received } = *arrival;
        if self.is_logged {
            let reply = reply.as_ref().map(|(answered, reply)| (answered, &**reply));
            self.tap.log(snapshot, &Said { noted, client, packet, received, reply });
        }
        let Some((mut answered, reply)) = reply else {
            self.writer.dropped(Dropped::Silent);
            return None;
        };
        if client.transport == Transport::Udp
            && answered.cookie != Cookie::Valid
            && !apply_limits(core, &mut self.writer, arrival, &mut answered, reply)
        {
            return None;
        }
        self.writer.answered(&answered);
        Some(answered.len)
    }
}

/// Answers a query, the reply going to `reply`, or finds out what it has to wait for.
pub fn decide<T: Trace>(
    core: &Arc<Core>,
    snapshot: &Snapshot,
    client: &Client,
    moment: Moment,
    packet: &[u8],
    reply: &mut [u8],
    trace: &mut T,
) -> Decision {
    let mut outcome = answer_traced(snapshot, &core.forwarding.cache, client, moment, packet, reply, trace);
    if let Outcome::Forward(forward) = &outcome {
        if let Some(seat) = core.forwarding.wait(client, forward) {
            return Decision::Defer(Deferred::Forward(seat, forward.to_asked()));
        }
        outcome = forward::fail(snapshot, client, moment, packet, reply, forward::NOT_ADMITTED);
    }
    let Outcome::Reply(answered) = outcome else { return Decision::Finish(None) };
    if transfer::may_concern(answered.rcode, packet)
        && let Some(slot) = core.transfers.admit()
    {
        return Decision::Defer(Deferred::Zone(slot));
    }
    if answered.refresh {
        forward::refresh(&core.forwarding, client, packet);
    }
    Decision::Finish(Some(answered))
}

/// Answers a deferred query. Returns the reply, which is empty if nothing is to be sent, and the slot of a forwarded query:
/// who stops waits until all of them are dropped. A reply for which there is no room is discarded, and its length is the
/// error: then the query may be answered again. What has changed a zone is not done again: its short reply has room.
pub async fn complete(
    core: &Arc<Core>,
    ledger: &Mutex<Ledger>,
    arrival: &Arrival<'_>,
    deferred: Deferred,
    has_room: impl FnOnce(usize) -> bool,
) -> Result<(Part, Option<AdmissionPermit>), usize> {
    let Arrival { client, packet, .. } = *arrival;
    let (response, slot, rest) = match deferred {
        Deferred::Forward(seat, asked) => {
            (respond(&core.forwarding, client, packet, Some(asked), Some(&seat)).await, Some(seat), None)
        }
        Deferred::Zone(_slot) => {
            let Part { answered, reply, rest } = Box::pin(transfer::respond(&core.transfers, client, packet)).await;
            let response = answered.map(|answered| {
                let (snapshot, noted) = (core.snapshot.load_full(), Box::default());
                CompletedReply { answered, reply, noted, snapshot }
            });
            (response, None, rest)
        }
    };
    if let Some(CompletedReply { reply, .. }) = &response
        && !has_room(reply.len())
        && (slot.is_some() || reply.len() > SHORT_REPLY)
    {
        return Err(reply.len());
    }
    let mut ledger = lock(ledger);
    let Some(CompletedReply { answered, mut reply, mut noted, snapshot }) = response else {
        ledger.writer.dropped(Dropped::Silent);
        return Ok((Part::whole(Vec::new()), slot));
    };
    ledger.prepare(&snapshot);
    // What has changed a zone is told, however late.
    let is_late = slot.is_some()
        && client.transport == Transport::Udp
        && answered.cookie != Cookie::Valid
        && matches!(answered.rcode, rcode::NOERROR | rcode::NXDOMAIN)
        && arrival.received.elapsed().is_ok_and(|age| age > MAX_UDP_AGE);
    if is_late {
        ledger.writer.dropped(Dropped::Late);
        return Ok((Part::whole(Vec::new()), slot));
    }
    if ledger.is_logged && slot.is_none() {
        note_client(&snapshot, client, packet, &mut noted);
    }
    let len = ledger.finish(core, &snapshot, arrival, &noted, Some((answered, &mut reply)));
    reply.truncate(len.unwrap_or(0));
    Ok((Part { answered: Some(answered), reply, rest }, slot))
}

/// Notes who asked about a zone as a whole: the log is told no more of such a query.
fn note_client(snapshot: &Snapshot, client: &Client, packet: &[u8], noted: &mut Noted) {
    let moment = Moment { now: clock::now(), draw: 0 };
    answer::answer_traced(snapshot, &(), client, moment, packet, &mut [0; MIN_REPLY], noted);
}

/// Locks a ledger, for a moment only.
pub fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds a reply over UDP to the limits. Its client has not shown by a cookie that its address is no forgery. False when
/// nothing is to be sent.
fn apply_limits(
    core: &Core,
    writer: &mut Writer,
    arrival: &Arrival,
    answered: &mut Answered,
    reply: &mut [u8],
) -> bool {
    if !matches!(answered.rcode, rcode::NOERROR | rcode::NXDOMAIN) {
        return apply_error_limit(core, writer, arrival, answered, reply);
    }
    if answered.len > LARGE_OCTETS && answered.len > LARGE_FACTOR * arrival.packet.len() {
        apply_large_limit(core, writer, arrival, answered, reply);
    }
    true
}

/// Truncates a large reply that is beyond the limit: an honest client asks again by TCP.
#[cold]
fn apply_large_limit(core: &Core, writer: &mut Writer, arrival: &Arrival, answered: &mut Answered, reply: &mut [u8]) {
    let name = reply.get(HEADER..answered.len).unwrap_or_default();
    let name = &name[..name::wire_len(name).unwrap_or(0)];
    if !core.large_limit.allows(arrival.client.source, answered.view, name) {
        answered.len = answer::truncate_large(reply, answered.len);
        writer.large_truncated();
    }
}

#[cold]
fn apply_error_limit(
    core: &Core,
    writer: &mut Writer,
    arrival: &Arrival,
    answered: &mut Answered,
    reply: &mut [u8],
) -> bool {
    match core.error_limit.check(arrival.client.source) {
        Verdict::Send => true,
        Verdict::Truncate => {
            answered.len = answer::truncate(reply, answered.len);
            writer.limited(Limited::Truncated);
            true
        }
        Verdict::Drop if answered.cookie == Cookie::Client => {
            answered.len = answer::bad_cookie(reply, answered.len);
            answered.rcode = rcode::BADCOOKIE;
            writer.limited(Limited::BadCookie);
            true
        }
        Verdict::Drop => {
            writer.limited(Limited::Dropped);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        listen::tests::{answered, core, limits, page},
        wire::reply::MAX_UDP,
    };

    #[test]
    fn excess_error_answers_are_truncated_dropped_or_bad_cookie() {
        let core = core(&limits());
        let mut writer = core.counters.workers.writer(Transport::Udp, None);
        let snapshot = core.snapshot.load();
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x01x\0\0\x01\0\x01";
        let plain = [&query[..], b"\0\0\x29\x04\xd0\0\0\0\0\0\0"].concat();
        let cookie = [&query[..], b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08octets08"].concat();
        let mut results = Vec::new();
        for (query, source) in [(&plain, [192, 0, 2, 1]), (&cookie, [198, 51, 100, 1])] {
            let client =
                Client { source: source.into(), port: 0, local: [10, 0, 0, 2].into(), transport: Transport::Udp };
            for number in 0..104 {
                let mut reply = [0; MAX_UDP];
                let moment = Moment { now: 0, draw: 0 };
                let Outcome::Reply(mut answered) = answer::answer(&snapshot, &(), &client, moment, query, &mut reply)
                else {
                    panic!("no reply");
                };
                let arrival = Arrival { client: &client, packet: query, received: SystemTime::now() };
                let sent = apply_limits(&core, &mut writer, &arrival, &mut answered, &mut reply);
                let truncated = reply[2] & 2 != 0;
                if number < 100 {
                    assert!(sent && !truncated && answered.rcode == 5);
                } else {
                    results.push((sent, truncated, answered.rcode));
                }
            }
        }
        let (truncated, dropped, bad_cookie) = ((true, true, 5), (false, false, 5), (true, false, 23));
        assert_eq!(results[..4], [truncated, dropped, truncated, dropped]);
        assert_eq!(results[4..], [truncated, bad_cookie, truncated, bad_cookie]);
    }

    /// How many of so many replies are sent whole, truncated and not at all.
    fn finish(core: &Core, transport: Transport, answered: Answered, times: usize) -> (usize, usize, usize) {
        let snapshot = core.snapshot.load();
        let mut ledger = core.ledger(core.counters.workers.writer(transport, None), 1 << 10, 0);
        ledger.prepare(&snapshot);
        let packet = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x05large\0\0\x10\0\x01";
        let local = [10, 0, 0, 2].into();
        let client = Client { source: [192, 0, 2, 1].into(), port: 0, local, transport };
        let arrival = Arrival { client: &client, packet, received: SystemTime::now() };
        let mut counts = (0, 0, 0);
        for _ in 0..times {
            let mut reply = packet.to_vec();
            reply[2..8].copy_from_slice(&[0x85, 0x80, 0, 1, 0, 1]);
            // One record, which is as long as is left.
            let rest = answered.len.saturating_sub(packet.len() + 12);
            reply.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, (rest >> 8) as u8, rest as u8]);
            reply.resize(answered.len, b'x');
            match ledger.finish(core, &snapshot, &arrival, &Noted::default(), Some((answered, &mut reply))) {
                None => counts.2 += 1,
                Some(len) if reply[2] & 2 != 0 => {
                    assert_eq!((len, &reply[4..12]), (packet.len(), &[0, 1, 0, 0, 0, 0, 0, 0][..]));
                    counts.1 += 1;
                }
                Some(len) => {
                    assert_eq!(len, answered.len);
                    counts.0 += 1;
                }
            }
        }
        counts
    }

    #[test]
    fn large_answers_beyond_the_limit_are_truncated_for_clients_by_udp_without_a_cookie() {
        for (transport, len, cookie, is_limited) in [
            (Transport::Udp, 1232, Cookie::Absent, true),
            (Transport::Udp, 1232, Cookie::Client, true),
            (Transport::Udp, 1232, Cookie::Valid, false),
            (Transport::Udp, 512, Cookie::Absent, false),
            (Transport::Tcp, 1232, Cookie::Absent, false),
            (Transport::Https, 1232, Cookie::Absent, false),
        ] {
            for code in [rcode::NOERROR, rcode::NXDOMAIN] {
                let core = core(&limits());
                let answered = Answered { cookie, ..answered(len, code) };
                let (whole, truncated, dropped) = finish(&core, transport, answered, 500);
                assert_eq!((whole + truncated, dropped), (500, 0), "{transport:?} {len} {cookie:?}");
                // A little is added to the budget while this runs.
                let is_budget = if is_limited { (40..100).contains(&whole) } else { whole == 500 };
                assert!(is_budget, "{transport:?} {len} {cookie:?}: {whole}");
                let line = format!("zonal_large_answers_truncated_total {truncated}\n");
                assert!(page(&core).contains(&line), "{line}");
            }
        }
    }
}
