//! Zones from and to other servers: transfers, notifications and updates, with what authenticates them.
//!
//! What [`answer`](crate::answer::answer) refuses, and what [`may_concern`] zones as a whole or a signature, is answered here, in
//! tasks: [`respond`] finds the zone that is meant and who may have it (`access`), and makes messages of its records (`outgoing`), or hands an update on to
//! those who write (`update`). A task follows what is served, keeps the steps from version to version (`history`) and tells
//! secondaries of them (`notify`).
//!
//! The other way, another task for each zone that has primaries (`inward`) waits by a `schedule`, asks a `primary` and reads its
//! `answer`; what it has is handed to the keeper, and kept in `copies`. It is woken by those who have `notified` us.

mod access;
pub mod answer;
pub mod copies;
mod counters;
mod history;
pub mod inward;
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
    answer::{Answered, Client, Cookie, Kind, Transport},
    clock::now,
    forward::{self, Forwarding},
    snapshot::published::Published,
    wire::{
        Name,
        query::{opcode, rcode},
        rdata::rtype,
        reply::MAX_UDP,
    },
};
use access::Refused;
use counters::Counters;
use history::History;
use inward::Inward;
use message::Request;
use outgoing::Outgoing;
use primary::Bounds;
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

/// How many transfers go out at the same time.
const MOST_TRANSFERS: usize = 64;
/// How many requests about zones are answered at the same time.
const MOST_REQUESTS: usize = 256;
/// How long a request waits for the zone's latest version to be known.
const PATIENCE: Duration = Duration::from_secs(5);

/// What transfers, notifications and updates have in common.
pub struct Transfers {
    /// What is served.
    snapshot: Published,
    /// What answers the questions of secondaries, and makes TLS to primaries.
    forwarding: Arc<Forwarding>,
    /// The keys that transfers and updates are signed with.
    keys: Keys,
    /// The zones that are transferred from their primaries.
    pub inward: Inward,
    /// Where updates go.
    updates: Updates,
    counters: Counters,
    /// Where tasks run.
    runtime: Handle,
    history: History,
    /// The generation that the history has come to.
    followed: watch::Sender<u64>,
    transfers: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    /// Refusals are told once a second: when the last one was, and how many were not told since.
    told: AtomicI64,
    untold: AtomicU64,
}

impl Transfers {
    /// Nothing is transferred yet. Each transfer from a primary is held to `bounds`.
    pub fn new(
        snapshot: Published,
        forwarding: Arc<Forwarding>,
        keys: Keys,
        bounds: Bounds,
        updates: Updates,
        runtime: &Handle,
    ) -> Arc<Transfers> {
        Arc::new(Transfers {
            snapshot,
            forwarding,
            keys,
            inward: Inward::new(bounds),
            updates,
            counters: Counters::new(),
            runtime: runtime.clone(),
            history: History::default(),
            followed: watch::channel(0).0,
            transfers: Arc::new(Semaphore::new(MOST_TRANSFERS)),
            requests: Arc::new(Semaphore::new(MOST_REQUESTS)),
            told: AtomicI64::new(0),
            untold: AtomicU64::new(0),
        })
    }

    /// Registers the counters.
    pub fn register(&self, registry: &Registry) {
        self.counters.register(registry);
    }

    /// A place among the requests that are answered; none if there is no room.
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.requests.clone().try_acquire_owned().ok()
    }

    /// Says in the log why something is refused; not more often than once a second, as anybody can ask for it.
    fn tell(&self, why: &str) {
        let now = now();
        if self.told.swap(now, Relaxed) == now {
            self.untold.fetch_add(1, Relaxed);
            return;
        }
        match self.untold.swap(0, Relaxed) {
            0 => tracing::warn!("{why}"),
            others => tracing::warn!("{why} (and {others} other refusals)"),
        }
    }
}

/// A message of an answer, and what follows it.
pub struct Part {
    /// What counters want to know; none for messages that go on with an answer.
    pub answered: Option<Answered>,
    /// The message; empty if there is nothing to say.
    pub reply: Vec<u8>,
    /// The rest, for transports that have room for it.
    pub rest: Option<Outgoing>,
}

impl Part {
    /// An answer of one message.
    pub fn whole(reply: Vec<u8>) -> Part {
        Part { answered: None, reply, rest: None }
    }

    fn new(reply: Vec<u8>, rest: Option<Outgoing>) -> Part {
        let code = reply.get(3).map_or(0, |octet| u16::from(octet & 15));
        let kind = match code {
            rcode::FORMERR => Kind::Malformed,
            rcode::REFUSED | rcode::NOTAUTH => Kind::Refused,
            _ => Kind::Zone,
        };
        let (len, cookie) = (reply.len(), Cookie::Absent);
        let answered =
            Answered { len, view: None, rcode: code, kind, entry_point: None, locality: None, cookie, refresh: false };
        Part { answered: Some(answered), reply, rest }
    }
}

/// Answers a request about a zone as a whole.
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
            let why = match failure.error {
                tsig::error::BADKEY => "the key is not known, or is for another algorithm (BADKEY)",
                tsig::error::BADSIG => "the signature is wrong: the secrets differ (BADSIG)",
                tsig::error::BADTIME => "the clocks differ by more than its fudge (BADTIME)",
                _ => "the MAC is too short (BADTRUNC)",
            };
            let zone = &request.zone;
            count(transfers, &request, "refused");
            transfers.tell(&format!("{} asks for {zone} with the key {}: {why}", client.source, failure.key()));
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
    transfers.tell(&refused.why);
    if session.is_none() && request.opcode == opcode::QUERY && refused.rcode == rcode::REFUSED {
        // That is what everybody gets who asks for this.
        return ask(transfers, client, packet, &request, None).await;
    }
    signed(request.error(refused.rcode, Some(refused.told)), session)
}

/// Answers a question as such: of a secondary, or of somebody who has signed it.
async fn ask(
    transfers: &Arc<Transfers>,
    client: &Client,
    packet: &[u8],
    request: &Request,
    session: Option<Session>,
) -> Part {
    let key = session.as_ref().map(|session| session.key().name.clone());
    if (request.opcode, request.qtype, request.qclass) == (opcode::QUERY, rtype::SOA, 1)
        && let Ok(reply) = outgoing::soa(transfers, client, request, key.as_ref()).await
    {
        return signed(reply, session);
    }
    // What a signature says is known by now.
    let plain = session.as_ref().and_then(|_| tsig::without_signature(packet));
    let packet = plain.as_deref().unwrap_or(packet);
    let Some(forward::CompletedReply { answered, mut reply, .. }) =
        forward::respond(&transfers.forwarding, client, packet, None, None).await
    else {
        return Part::whole(Vec::new());
    };
    if let Some(mut session) = session {
        if client.transport == Transport::Udp && reply.len() + session.size() > MAX_UDP {
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

/// Has a zone updated. Returns the RCODE.
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

/// Whether a transport carries an answer of many messages.
fn is_stream(transport: Transport) -> bool {
    matches!(transport, Transport::Tcp | Transport::Tls | Transport::Quic)
}

/// Waits until the history has come as far as what is served.
async fn wait_for_history(transfers: &Transfers, generation: u64) {
    let mut followed = transfers.followed.subscribe();
    let _ = timeout(PATIENCE, followed.wait_for(|followed| *followed >= generation)).await;
}
