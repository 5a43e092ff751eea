//! The steps around [`answer`](crate::answer::answer), equal for all transports: forward, wait, limit, log, count.
//!
//! ```text
//! decide -> reply                      finish: limit, log, count -> the transport sends it
//!        -> deferred: forward, zone    complete: wait, then finish -> the transport sends it
//! ```
//! The transports read packets and send replies, and nothing else. `decide` and `finish` run on the UDP hot path: they do
//! not allocate, lock or wait unless the query is deferred.

use super::{
    Core,
    blocked::BlockedSender,
    limit::Verdict,
    workers::{DropReason, LimitAction, WorkerCounters},
};
use crate::{
    answer::{
        self, Answered, Client, Cookie, Moment, Outcome, QueryLogTrace, Received, Trace, Transport,
        known::OwnedRoutedQuestion,
    },
    clock,
    forward::{self, AdmissionPermit, CompletedReply},
    query_log::{EntrySender, LoggedAnswer, LoggedAnswers},
    snapshot::Snapshot,
    transfer::{self, Part},
    wire::{codes::rcode, name, query::HEADER},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::OwnedSemaphorePermit;

/// The size of the buffer for a reply that is made only to log its client, in octets (RFC 1035, 2.3.4).
const LOG_REPLY_OCTETS: usize = 512;
/// A reply about a zone up to this size is sent even if the client has many unread octets. Replies to UPDATE are shorter.
const MAX_UNCHECKED_OCTETS: usize = 4096;

/// A reply over UDP is large if it has more than `LARGE_OCTETS`, and more than `LARGE_FACTOR` times the octets of its query.
const LARGE_OCTETS: usize = 512;
const LARGE_FACTOR: usize = 10;
/// The maximum age of a reply over UDP. Later replies are not sent: many replies that wait and then leave together would
/// amplify an attack (DNSBomb, CVE-2024-33655). The client asks again about then, and gets the answer from the cache.
const MAX_UDP_AGE: Duration = Duration::from_millis(2400);

/// A query, its client, and the time when it arrived.
pub struct Arrival<'p> {
    pub client: &'p Client,
    pub packet: &'p [u8],
    pub received: SystemTime,
}

/// The result of [`decide`].
pub enum Decision {
    /// The reply is in the buffer. None if the query gets no reply.
    Finish(Option<Answered>),
    /// The query must wait. [`complete`] answers it.
    Defer(Deferred),
}

/// The reason why a query waits. It holds a slot of the limit on such queries.
pub enum Deferred {
    /// Upstream servers must answer this first.
    Forward(AdmissionPermit, OwnedRoutedQuestion),
    /// The query is a transfer or an update of a zone, or needs a signed answer.
    Zone(OwnedSemaphorePermit),
}

/// Limits, counts and logs the replies of one transport or thread.
pub struct ReplyRecorder {
    /// The counters.
    pub counters: WorkerCounters,
    entries: EntrySender,
    blocked: BlockedSender,
    logged: LoggedAnswers,
}

impl ReplyRecorder {
    /// A recorder that counts in `counters`, logs to `entries`, and passes blocked names to `blocked`.
    pub fn new(counters: WorkerCounters, entries: EntrySender, blocked: BlockedSender) -> ReplyRecorder {
        ReplyRecorder { counters, entries, blocked, logged: LoggedAnswers::None }
    }

    /// Prepares for replies from this snapshot.
    pub fn prepare(&mut self, snapshot: &Snapshot) {
        self.counters.prepare(snapshot);
        self.blocked.prepare(snapshot);
        self.logged = self.entries.prepare(snapshot);
    }

    /// The answers whose steps the query log records.
    pub fn logged(&self) -> LoggedAnswers {
        self.logged
    }

    /// Limits, logs and counts a reply. A limit may change the reply. Returns its length; none if nothing is to be sent.
    pub fn finish(
        &mut self,
        core: &Core,
        snapshot: &Snapshot,
        arrival: &Arrival,
        noted: &QueryLogTrace,
        reply: Option<(Answered, &mut [u8])>,
    ) -> Option<usize> {
        let Arrival { client, packet, received } = *arrival;
        let is_reported = |(answered, _): &(Answered, _)| answered.firewall.is_reported();
        let is_logged = match self.logged {
            LoggedAnswers::None => false,
            LoggedAnswers::Reported => reply.as_ref().is_some_and(is_reported),
            LoggedAnswers::All => true,
        };
        if is_logged {
            let reply = reply.as_ref().map(|(answered, reply)| (answered, &**reply));
            self.entries.log(snapshot, &LoggedAnswer { noted, client, packet, received, reply });
        }
        let Some((mut answered, reply)) = reply else {
            self.counters.dropped(DropReason::Silent);
            return None;
        };
        if let (Some(rule), Some(view)) = (answered.firewall.blocked_by(), answered.view)
            && let Some(name) = reply.get(HEADER..).filter(|_| answered.len > 0)
        {
            let name = &name[..name::wire_len(name).unwrap_or(0)];
            self.blocked.send(view, rule, client.source, name);
        }
        if answered.len == 0 {
            // A DNS Firewall rule drops the query.
            self.counters.filtered(&answered);
            self.counters.dropped(DropReason::Silent);
            return None;
        }
        if client.transport == Transport::Udp
            && answered.cookie != Cookie::Valid
            && !apply_limits(core, &mut self.counters, arrival, &mut answered, reply)
        {
            return None;
        }
        self.counters.answered(&answered);
        Some(answered.len)
    }
}

/// Answers a query into `reply`, or finds out why it must wait.
pub fn decide<'s, T: Trace>(
    core: &Arc<Core>,
    snapshot: &'s Snapshot,
    client: &Client,
    moment: Moment,
    received: Received<'_, 's>,
    reply: &mut [u8],
    trace: &mut T,
) -> Decision {
    let packet = received.packet;
    let mut outcome = answer::answer_received(snapshot, &core.forwarding.cache, client, moment, received, reply, trace);
    if let Outcome::Forward(forward) = &outcome {
        if let Some(slot) = core.forwarding.wait(client, forward) {
            return Decision::Defer(Deferred::Forward(slot, forward.to_owned_question()));
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

/// Answers a deferred query. Returns the reply and the slot of a forwarded query. The reply is empty if nothing is to be
/// sent. A server that stops waits until all slots are dropped.
///
/// `has_room` says whether a reply of this length can be sent. If not, the reply is discarded, its length is the error, and
/// the caller may answer the query again. A reply of at most [`MAX_UNCHECKED_OCTETS`] about a zone is never discarded, because
/// an update must not run twice.
pub async fn complete(
    core: &Arc<Core>,
    recorder: &Mutex<ReplyRecorder>,
    arrival: &Arrival<'_>,
    deferred: Deferred,
    has_room: impl FnOnce(usize) -> bool,
) -> Result<(Part, Option<AdmissionPermit>), usize> {
    let Arrival { client, packet, .. } = *arrival;
    let (response, slot, rest) = match deferred {
        Deferred::Forward(slot, asked) => {
            (forward::respond(&core.forwarding, client, packet, Some(asked), Some(&slot)).await, Some(slot), None)
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
        && (slot.is_some() || reply.len() > MAX_UNCHECKED_OCTETS)
    {
        return Err(reply.len());
    }
    let mut recorder = lock(recorder);
    let Some(CompletedReply { answered, mut reply, mut noted, snapshot }) = response else {
        recorder.counters.dropped(DropReason::Silent);
        return Ok((Part::whole(Vec::new()), slot));
    };
    recorder.prepare(&snapshot);
    // A reply about a zone is sent however late it is, because the zone has changed.
    let is_late = slot.is_some()
        && client.transport == Transport::Udp
        && answered.cookie != Cookie::Valid
        && matches!(answered.rcode, rcode::NOERROR | rcode::NXDOMAIN)
        && arrival.received.elapsed().is_ok_and(|age| age > MAX_UDP_AGE);
    if is_late {
        recorder.counters.dropped(DropReason::Late);
        return Ok((Part::whole(Vec::new()), slot));
    }
    if recorder.logged == LoggedAnswers::All && slot.is_none() {
        note_client(&snapshot, client, packet, &mut noted);
    }
    let len = recorder.finish(core, &snapshot, arrival, &noted, Some((answered, &mut reply)));
    reply.truncate(len.unwrap_or(0));
    Ok((Part { answered: Some(answered), reply, rest }, slot))
}

/// Traces the client of a query about a zone as a whole. The query log gets no other steps of such a query.
fn note_client(snapshot: &Snapshot, client: &Client, packet: &[u8], noted: &mut QueryLogTrace) {
    let moment = Moment { now: clock::now(), draw: 0 };
    answer::answer_traced(snapshot, &(), client, moment, packet, &mut [0; LOG_REPLY_OCTETS], noted);
}

/// Locks a recorder. Never hold the lock across an await.
pub fn lock(recorder: &Mutex<ReplyRecorder>) -> MutexGuard<'_, ReplyRecorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Applies the limits to a reply over UDP whose client has no valid cookie: its address may be forged. False when nothing is
/// to be sent.
fn apply_limits(
    core: &Core,
    counters: &mut WorkerCounters,
    arrival: &Arrival,
    answered: &mut Answered,
    reply: &mut [u8],
) -> bool {
    if !matches!(answered.rcode, rcode::NOERROR | rcode::NXDOMAIN) {
        return apply_error_limit(core, counters, arrival, answered, reply);
    }
    if answered.len > LARGE_OCTETS && answered.len > LARGE_FACTOR * arrival.packet.len() {
        apply_large_limit(core, counters, arrival, answered, reply);
    }
    true
}

/// Truncates a large reply beyond the limit. A client with a genuine address asks again by TCP.
#[cold]
fn apply_large_limit(
    core: &Core,
    counters: &mut WorkerCounters,
    arrival: &Arrival,
    answered: &mut Answered,
    reply: &mut [u8],
) {
    let name = reply.get(HEADER..answered.len).unwrap_or_default();
    let name = &name[..name::wire_len(name).unwrap_or(0)];
    if !core.large_limit.allows(arrival.client.source, answered.view, name) {
        answered.len = answer::truncate_large(reply, answered.len);
        counters.large_truncated();
    }
}

#[cold]
fn apply_error_limit(
    core: &Core,
    counters: &mut WorkerCounters,
    arrival: &Arrival,
    answered: &mut Answered,
    reply: &mut [u8],
) -> bool {
    match core.error_limit.check(arrival.client.source) {
        Verdict::Send => true,
        Verdict::Truncate => {
            answered.len = answer::truncate(reply, answered.len);
            counters.limited(LimitAction::Truncated);
            true
        }
        Verdict::Drop if answered.cookie == Cookie::Client => {
            answered.len = answer::bad_cookie(reply, answered.len);
            answered.rcode = rcode::BADCOOKIE;
            counters.limited(LimitAction::BadCookie);
            true
        }
        Verdict::Drop => {
            counters.limited(LimitAction::Dropped);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        listen::tests::{answered, core, limits, page},
        wire::{codes::pointer, reply::MAX_UDP_OCTETS},
    };

    #[test]
    fn truncates_drops_or_answers_badcookie_beyond_the_error_limit() {
        let core = core(&limits());
        let mut counters = core.counters.workers.add_worker(Transport::Udp, None);
        let snapshot = core.snapshot.load();
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x01x\0\0\x01\0\x01";
        let plain = [&query[..], b"\0\0\x29\x04\xd0\0\0\0\0\0\0"].concat();
        let cookie = [&query[..], b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x08octets08"].concat();
        let mut results = Vec::new();
        for (query, source) in [(&plain, [192, 0, 2, 1]), (&cookie, [198, 51, 100, 1])] {
            let client =
                Client { source: source.into(), port: 0, local: [10, 0, 0, 2].into(), transport: Transport::Udp };
            for number in 0..104 {
                let mut reply = [0; MAX_UDP_OCTETS];
                let moment = Moment { now: 0, draw: 0 };
                let Outcome::Reply(mut answered) = answer::answer(&snapshot, &(), &client, moment, query, &mut reply)
                else {
                    panic!("no reply");
                };
                let arrival = Arrival { client: &client, packet: query, received: SystemTime::now() };
                let sent = apply_limits(&core, &mut counters, &arrival, &mut answered, &mut reply);
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

    /// Finishes a reply several times. Returns how many are sent complete, truncated, and not at all.
    fn finish(core: &Core, transport: Transport, answered: Answered, times: usize) -> (usize, usize, usize) {
        let snapshot = core.snapshot.load();
        let mut recorder = core.recorder(core.counters.workers.add_worker(transport, None), 1 << 10, 0);
        recorder.prepare(&snapshot);
        let packet = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x05large\0\0\x10\0\x01";
        let local = [10, 0, 0, 2].into();
        let client = Client { source: [192, 0, 2, 1].into(), port: 0, local, transport };
        let arrival = Arrival { client: &client, packet, received: SystemTime::now() };
        let mut counts = (0, 0, 0);
        for _ in 0..times {
            let mut reply = packet.to_vec();
            reply[2..8].copy_from_slice(&[0x85, 0x80, 0, 1, 0, 1]);
            // One record that fills the rest of the reply.
            let rest = answered.len.saturating_sub(packet.len() + 12);
            reply.extend_from_slice(&pointer::to(HEADER).to_be_bytes());
            reply.extend_from_slice(&[0, 16, 0, 1, 0, 0, 0, 60, (rest >> 8) as u8, rest as u8]);
            reply.resize(answered.len, b'x');
            match recorder.finish(core, &snapshot, &arrival, &QueryLogTrace::default(), Some((answered, &mut reply))) {
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
    fn truncates_large_udp_answers_beyond_the_limit_without_a_valid_cookie() {
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
                // The budget grows a little while the test runs.
                let is_budget = if is_limited { (40..100).contains(&whole) } else { whole == 500 };
                assert!(is_budget, "{transport:?} {len} {cookie:?}: {whole}");
                let line = format!("zonal_large_answers_truncated_total {truncated}\n");
                assert!(page(&core).contains(&line), "{line}");
            }
        }
    }
}
