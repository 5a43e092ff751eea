//! The transports. Each one turns packets into calls of [`crate::answer::answer`] and sends what it says.

pub mod bodies;
pub mod connections;
pub mod dispatch;
pub mod https;
pub mod limit;
pub mod linger;
pub mod proxy;
pub mod quic;
pub mod responder;
pub mod stream;
pub mod tls;
pub mod udp;
pub mod unread;

use crate::{
    clock::random_seed,
    forward::{self, Forwarding, upstream::Upstreams},
    metrics::{Metrics, Writer},
    query_log::{QueryLog, SMALL_RING, Tap},
    snapshot::published::Published,
    transfer::{Transfers, inward::Inward, primary::Bounds, tsig::Keys},
};
use connections::Connections;
use dispatch::Ledger;
use limit::{LargeLimit, RateLimit};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::runtime::Handle;

#[cfg(not(test))]
use crate::{answer::answer_traced, forward::respond};
#[cfg(test)]
use tests::{answer_traced, respond};

/// What all listeners share.
pub struct Core {
    /// What is served.
    pub snapshot: Published,
    /// The limit on error answers over UDP.
    pub error_limit: RateLimit,
    /// The limit on large replies over UDP.
    pub large_limit: LargeLimit,
    /// The connections that there are, and the limits on them.
    pub connections: Arc<Connections>,
    /// What asks others.
    pub forwarding: Arc<Forwarding>,
    /// The keys that transfers and updates are signed with.
    pub keys: Keys,
    /// The zones that are transferred from their primaries.
    pub inward: Inward,
    /// What transfers and updates of zones have in common.
    pub transfers: Transfers,
    /// Where tasks run.
    pub runtime: Handle,
    /// The query log.
    pub query_log: Arc<QueryLog>,
    /// The counters.
    pub metrics: Metrics,
}

impl Core {
    /// Listeners' common state, with the limits of the configuration.
    pub fn new(snapshot: Published, limits: &Limits, upstreams: Arc<Upstreams>, keys: Keys, runtime: &Handle) -> Core {
        let metrics = Metrics::new(snapshot.clone());
        metrics.tcp_connections_limit.set(limits.tcp_connections as i64);
        let forwarding = Arc::new(Forwarding::new(&limits.forwarding, upstreams.clone()));
        metrics.watch_forwarding(&forwarding);
        let query_log = QueryLog::new(&metrics.query_log_entries, &metrics.query_log_failed, &metrics.dnstap_messages);
        // Set for the first and only time.
        let _ = upstreams.counters.tap.set(Mutex::new(Tap::new(&query_log, SMALL_RING, 0)));
        Core {
            query_log,
            metrics,
            snapshot,
            keys,
            inward: Inward::new(limits.transfers),
            transfers: Transfers::default(),
            runtime: runtime.clone(),
            error_limit: RateLimit::new(limits.error_answers_per_second, random_seed()),
            large_limit: LargeLimit::new(limits.large_answers_per_second, random_seed()),
            connections: Arc::new(Connections::new(limits)),
            forwarding,
        }
    }
}

impl Core {
    /// The ledger of one who counts by this writer, with so many octets of room for what is logged of queries that arrive on
    /// this port.
    pub fn ledger(&self, writer: Writer, room: usize, port: u16) -> Ledger {
        Ledger::new(writer, Tap::new(&self.query_log, room, random_seed().0 as u32).on_port(port))
    }
}

/// What clients may take from the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Error answers over UDP per second and source prefix; 0 for no limit.
    pub error_answers_per_second: u32,
    /// Large replies over UDP per second, source prefix, view and name; 0 for no limit.
    pub large_answers_per_second: u32,
    /// TCP connections at the same time, in all.
    pub tcp_connections: usize,
    /// TCP connections at the same time from one address.
    pub tcp_connections_per_client: usize,
    /// How long a TCP connection may be idle, a message may take to arrive, and a client may take to read.
    pub tcp_idle_timeout: Duration,
    /// What queries that wait for others, and the cache, may take.
    pub forwarding: forward::Limits,
    /// What the transfer of a zone may take.
    pub transfers: Bounds,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::snapshot::Snapshot;
    use crate::{
        answer::{
            Answered, Client, Cookie, Kind, Moment, Outcome, Trace,
            known::{Asked, Forward, Known, Question},
        },
        forward::Response,
        manifest::Loaded,
        snapshot::{
            Node, compile,
            routes::{Route, Servers},
        },
        wire::query::LookupName,
    };
    use arc_swap::ArcSwap;
    use std::sync::LazyLock;
    use tokio::runtime::Runtime;

    /// Stands for the function that answers: the reply is the query, then the client's local address as text. A query
    /// that begins with `drop` has no reply, with `error` it is REFUSED, and `size` followed by two octets asks for a
    /// reply of that length. With `late` it is one for others.
    pub fn answer_traced<'s, K: Known, T: Trace>(
        _: &'s Snapshot,
        _: &K,
        client: &Client,
        _: Moment,
        query: &[u8],
        reply: &mut [u8],
        _: &mut T,
    ) -> Outcome<'s> {
        let mut text = query.to_vec();
        match query {
            [b'd', b'r', b'o', b'p', ..] => return Outcome::Drop,
            [b'l', b'a', b't', b'e', ..] => {
                static ROUTE: LazyLock<Arc<Route>> =
                    LazyLock::new(|| Arc::new(Route::new("rule".into(), [0].into(), Servers::Recursion)));
                let name = &LookupName::root();
                let question = Question { name, qtype: 1, dnssec_ok: false, checking_disabled: false };
                return Outcome::Forward(Forward::new(&ROUTE, ROUTE.id, &question));
            }
            [b's', b'i', b'z', b'e', high, low, ..] => text.resize(u16::from_be_bytes([*high, *low]).into(), b'.'),
            _ => text.extend(format!(" at {}", client.local).bytes()),
        }
        reply[..text.len()].copy_from_slice(&text);
        Outcome::Reply(answered(text.len(), if query.starts_with(b"error") { 5 } else { 0 }))
    }

    pub fn answered(len: usize, rcode: u16) -> Answered {
        let (kind, cookie) = (Kind::Zone, Cookie::Absent);
        Answered { len, view: None, rcode, kind, door: None, locality: None, cookie, refresh: false }
    }

    /// Stands for the function that asks others: the reply is the query, after as many hundredths of a second as the
    /// octet behind `late` says, and none at all to `lately`.
    pub async fn respond(
        core: &Arc<Core>,
        _: &Client,
        query: &[u8],
        _: Option<Asked>,
        _: Option<&crate::forward::Waiting>,
    ) -> Option<Response> {
        tokio::time::sleep(Duration::from_millis(10 * u64::from(query[4]))).await;
        let (answered, snapshot) = (answered(query.len(), 0), core.snapshot.load_full());
        let response = Response { answered, reply: query.to_vec(), noted: Box::default(), snapshot };
        (!query.starts_with(b"lately")).then_some(response)
    }

    /// Where the tasks of all tests run.
    pub fn runtime() -> &'static Runtime {
        static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
        &RUNTIME
    }

    pub fn limits() -> Limits {
        Limits {
            error_answers_per_second: 50,
            large_answers_per_second: 20,
            tcp_connections: 10,
            tcp_connections_per_client: 5,
            tcp_idle_timeout: Duration::from_millis(300),
            forwarding: forward::Limits::default(),
            transfers: Bounds::default(),
        }
    }

    pub fn core(limits: &Limits) -> Arc<Core> {
        let node = Arc::new(Node { cookie_secrets: vec![[7; 16]], ..Node::default() });
        let (snapshot, _) = compile(&Loaded::default(), &node, None).unwrap();
        Arc::new(Core::new(
            Arc::new(ArcSwap::from_pointee(snapshot)),
            limits,
            Upstreams::new(),
            Keys::default(),
            runtime().handle(),
        ))
    }
}
