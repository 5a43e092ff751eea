//! Zones to and from other servers: transfers, notifications and dynamic updates, and the
//! signatures that authenticate them.
//!
//! Out: [`answer`](crate::answer::answer) refuses requests about zones as a whole, and signed
//! requests ([`may_concern`]). [`respond`] answers them in a task: `access` finds the zone and
//! checks the client, `outgoing` makes the messages of a transfer, `update` hands an update to its
//! writer. One task follows the generations: `history` keeps the steps between the versions of a
//! zone, and `notify` notifies the secondaries.
//!
//! In: `incoming` runs a task for each zone with primaries. It waits by a `schedule`, asks a
//! `primary`, and reads its `answer`. The publisher serves the zone, and `copies` writes it to the
//! state directory, a large DNS Firewall list as a `list_copy`. `notified` receives notifications.

mod access;
pub mod answer;
pub mod copies;
mod counters;
mod history;
pub mod incoming;
mod list_copy;
pub mod message;
pub mod notified;
mod notify;
mod outgoing;
pub mod primary;
pub mod schedule;
pub mod timers;
pub mod tsig;
pub mod update;

use crate::{
    answer::{AnswerKind, Answered, Client, Cookie, Transport},
    clock::now,
    forward::{self, Forwarding},
    snapshot::published::Published,
    wire::{
        Name,
        codes::{class, flag, opcode, rcode},
        rdata::rtype,
        reply::MAX_UDP_OCTETS,
    },
};
use access::Refused;
use counters::Counters;
use history::History;
use incoming::IncomingTransfers;
use message::Request;
use outgoing::Outgoing;
use primary::TransferLimits;
use prometheus::Registry;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tsig::{Keys, Session};
use update::Updates;

pub use message::{is_of_zone, is_signed, may_concern};
pub use notify::follow;

/// The maximum number of outgoing transfers at the same time. More are answered with SERVFAIL.
const MAX_TRANSFERS: usize = 64;
/// The maximum number of requests about zones at the same time. More are refused.
const MAX_REQUESTS: usize = 256;
/// The time that a request waits until the history has the latest version of the zone.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(5);

/// The state that transfers, notifications and updates share.
pub struct Transfers {
    /// The snapshot that is served.
    snapshot: Published,
    /// Answers the queries of secondaries, and opens TLS connections to primaries.
    forwarding: Arc<Forwarding>,
    /// The keys that sign transfers and updates.
    keys: Keys,
    /// The zones that are transferred from their primaries.
    pub incoming: IncomingTransfers,
    /// The writer of updates.
    updates: Updates,
    counters: Counters,
    /// Runs the tasks.
    runtime: Handle,
    history: History,
    /// The last generation in the history.
    followed: watch::Sender<u64>,
    transfers: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    /// When a refusal was last logged, in seconds since 1970.
    refusal_logged_at: AtomicI64,
    /// The number of refusals since then that were not logged.
    unlogged_refusals: AtomicU64,
}

impl Transfers {
    /// Without any zone yet. `limits` apply to each transfer from a primary.
    pub fn new(
        snapshot: Published,
        forwarding: Arc<Forwarding>,
        keys: Keys,
        limits: TransferLimits,
        updates: Updates,
        runtime: &Handle,
    ) -> Arc<Transfers> {
        Arc::new(Transfers {
            snapshot,
            forwarding,
            keys,
            incoming: IncomingTransfers::new(limits),
            updates,
            counters: Counters::new(),
            runtime: runtime.clone(),
            history: History::default(),
            followed: watch::channel(0).0,
            transfers: Arc::new(Semaphore::new(MAX_TRANSFERS)),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            refusal_logged_at: AtomicI64::new(0),
            unlogged_refusals: AtomicU64::new(0),
        })
    }

    /// Registers the counters.
    pub fn register(&self, registry: &Registry) {
        self.counters.register(registry);
    }

    /// Admits a request; none if [`MAX_REQUESTS`] are being answered.
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.requests.clone().try_acquire_owned().ok()
    }

    /// Logs why a request is refused, at most once a second: any client can cause a refusal.
    fn log_refusal(&self, reason: &str) {
        let now = now();
        if self.refusal_logged_at.swap(now, Relaxed) == now {
            self.unlogged_refusals.fetch_add(1, Relaxed);
            return;
        }
        let others = self.unlogged_refusals.swap(0, Relaxed);
        tracing::warn!(reason, others, "zone request refused");
    }
}

/// A message of an answer, and the rest of the answer.
pub struct Part {
    /// The answer for the counters; none for a message that continues an answer.
    pub answered: Option<Answered>,
    /// The message; empty if the request gets no answer.
    pub reply: Vec<u8>,
    /// The rest, for a transport that carries several messages.
    pub rest: Option<Outgoing>,
}

impl Part {
    /// An answer of one message.
    pub fn whole(reply: Vec<u8>) -> Part {
        Part { answered: None, reply, rest: None }
    }

    fn new(reply: Vec<u8>, rest: Option<Outgoing>) -> Part {
        let code = reply.get(3).map_or(0, |octet| u16::from(*octet) & flag::RCODE);
        let kind = match code {
            rcode::FORMERR => AnswerKind::Malformed,
            rcode::REFUSED | rcode::NOTAUTH => AnswerKind::Refused,
            _ => AnswerKind::Zone,
        };
        let (len, cookie) = (reply.len(), Cookie::Absent);
        let (view, entry_point, locality, firewall) = Default::default();
        let refresh = false;
        let answered = Answered { len, view, rcode: code, kind, entry_point, locality, cookie, firewall, refresh };
        Part { answered: Some(answered), reply, rest }
    }
}

/// Answers a request about a zone as a whole, or a signed request.
pub async fn respond(transfers: &Arc<Transfers>, client: &Client, packet: &[u8]) -> Part {
    if let Some(reply) = notified::notified(transfers, client.source, packet) {
        return Part::new(reply, None);
    }
    let time = now() as u64;
    let authenticated = access::authenticate(&transfers.keys, packet, time);
    let (Some(request), Ok(authenticated)) = (Request::read(packet), authenticated) else {
        return Part::new(Request::malformed(packet, rcode::FORMERR), None);
    };
    let session = match authenticated {
        Ok(session) => session,
        Err(failure) => {
            let reason = match failure.error {
                tsig::error::BADKEY => "the key is not known, or is for another algorithm (BADKEY)",
                tsig::error::BADSIG => "the signature is wrong: the secrets differ (BADSIG)",
                tsig::error::BADTIME => "the clocks differ by more than its fudge (BADTIME)",
                _ => "the MAC is too short (BADTRUNC)",
            };
            let zone = &request.zone;
            count(transfers, &request, "refused");
            transfers.log_refusal(&format!(
                "{} asks for {zone} with the key {}: {reason}",
                client.source,
                failure.key()
            ));
            let mut reply = request.error(rcode::NOTAUTH, None);
            failure.answer(&mut reply, time);
            return Part::new(reply, None);
        }
    };
    let key = session.as_ref().map(|session| session.key().name.clone());
    let refused = match (request.opcode, request.qtype) {
        (opcode::UPDATE, _) => match update(transfers, client, &request, key.as_ref()).await {
            Ok(code) => return signed(request.error(code, None), session),
            Err(refused) => refused,
        },
        (opcode::QUERY, rtype::AXFR | rtype::IXFR) => {
            match outgoing::start(transfers, client, &request, key.as_ref()).await {
                Ok(outgoing) => match outgoing.signed(session).next() {
                    Some((reply, rest)) => return Part::new(reply, rest),
                    None => return Part::new(request.error(rcode::SERVFAIL, None), None),
                },
                Err(refused) => {
                    count(transfers, &request, if refused.rcode == rcode::SERVFAIL { "failed" } else { "refused" });
                    refused
                }
            }
        }
        _ => return ask(transfers, client, packet, &request, session).await,
    };
    transfers.log_refusal(&refused.reason);
    if session.is_none() && request.opcode == opcode::QUERY && refused.rcode == rcode::REFUSED {
        // A client without access gets the same answer as to any other query.
        return ask(transfers, client, packet, &request, None).await;
    }
    signed(request.error(refused.rcode, Some(&refused.client_text)), session)
}

/// Answers a query: of a secondary for the SOA record, or any query that is signed.
async fn ask(
    transfers: &Arc<Transfers>,
    client: &Client,
    packet: &[u8],
    request: &Request,
    session: Option<Session>,
) -> Part {
    let key = session.as_ref().map(|session| session.key().name.clone());
    if (request.opcode, request.qtype, request.qclass) == (opcode::QUERY, rtype::SOA, class::IN)
        && let Ok(reply) = outgoing::soa(transfers, client, request, key.as_ref()).await
    {
        return signed(reply, session);
    }
    // The signature was verified already.
    let plain = session.as_ref().and_then(|_| tsig::without_signature(packet));
    let packet = plain.as_deref().unwrap_or(packet);
    let Some(forward::CompletedReply { answered, mut reply, .. }) =
        forward::respond(&transfers.forwarding, client, packet, None, None).await
    else {
        return Part::whole(Vec::new());
    };
    if let Some(mut session) = session {
        if client.transport == Transport::Udp && reply.len() + session.size() > MAX_UDP_OCTETS {
            reply = request.truncated();
        }
        session.sign(&mut reply, now() as u64);
    }
    Part { answered: Some(Answered { len: reply.len(), ..answered }), reply, rest: None }
}

fn signed(mut reply: Vec<u8>, session: Option<Session>) -> Part {
    if let Some(mut session) = session {
        session.sign(&mut reply, now() as u64);
    }
    Part::new(reply, None)
}

fn count(transfers: &Transfers, request: &Request, result: &str) {
    match request.opcode {
        opcode::UPDATE => transfers.counters.updates.with_label_values(&[result]).inc(),
        _ => transfers.counters.transfers.with_label_values(&["out", result]).inc(),
    }
}

/// Makes an update. Returns the RCODE.
async fn update(
    transfers: &Arc<Transfers>,
    client: &Client,
    request: &Request,
    key: Option<&Name>,
) -> Result<u16, Refused> {
    let (result, answer) = match update::update(transfers, client, request, key).await {
        Ok((code, result)) => (result, Ok(code)),
        Err(refused) => (if refused.rcode == rcode::SERVFAIL { "failed" } else { "refused" }, Err(refused)),
    };
    count(transfers, request, result);
    answer
}

/// Whether a transport carries an answer of several messages.
fn is_stream(transport: Transport) -> bool {
    matches!(transport, Transport::Tcp | Transport::Tls | Transport::Quic)
}

/// Waits until the history has a generation, for [`HISTORY_TIMEOUT`] at most.
async fn wait_for_history(transfers: &Transfers, generation: u64) {
    let mut followed = transfers.followed.subscribe();
    let _ = timeout(HISTORY_TIMEOUT, followed.wait_for(|followed| *followed >= generation)).await;
}
