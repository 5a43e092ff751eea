//! The transports. Each one turns packets into calls of [`crate::answer::answer`] and sends what it says.

pub mod bodies;
pub mod connections;
mod core;
pub mod counters;
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
pub mod workers;

pub use self::core::{Core, Limits};

#[cfg(not(test))]
use crate::{answer::answer_traced, forward::respond};
#[cfg(test)]
use tests::{answer_traced, respond};

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::snapshot::Snapshot;
    use crate::{
        answer::{
            Answered, Client, Cookie, Kind, Moment, Outcome, Trace,
            known::{Asked, Forward, Known, Question},
        },
        config::DnstapMessages,
        forward::{self, CompletedReply, Forwarding, upstream::Upstreams},
        manifest::Loaded,
        metrics::Metrics,
        query_log::QueryLog,
        snapshot::{
            Node, compile,
            routes::{Route, Servers},
        },
        transfer::{Transfers, primary::Bounds, tsig::Keys, update::Updates},
        wire::query::LookupName,
    };
    use arc_swap::ArcSwap;
    use std::{
        sync::{Arc, LazyLock},
        time::Duration,
    };
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
        Answered { len, view: None, rcode, kind, entry_point: None, locality: None, cookie, refresh: false }
    }

    /// Stands for the function that asks others: the reply is the query, after as many hundredths of a second as the
    /// octet behind `late` says, and none at all to `lately`.
    pub async fn respond(
        forwarding: &Arc<Forwarding>,
        _: &Client,
        query: &[u8],
        _: Option<Asked>,
        _: Option<&crate::forward::AdmissionPermit>,
    ) -> Option<CompletedReply> {
        tokio::time::sleep(Duration::from_millis(10 * u64::from(query[4]))).await;
        let (answered, snapshot) = (answered(query.len(), 0), forwarding.snapshot.load_full());
        let response = CompletedReply { answered, reply: query.to_vec(), noted: Box::default(), snapshot };
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
        }
    }

    pub fn core(limits: &Limits) -> Arc<Core> {
        let node = Arc::new(Node { cookie_secrets: vec![[7; 16]], ..Node::default() });
        let (snapshot, _) = compile(&Loaded::default(), &node, None).unwrap();
        core_of(snapshot, limits)
    }

    pub fn core_of(snapshot: Snapshot, limits: &Limits) -> Arc<Core> {
        core_with(snapshot, limits, &forward::Limits::default())
    }

    pub fn core_with(snapshot: Snapshot, limits: &Limits, waiting: &forward::Limits) -> Arc<Core> {
        let (snapshot, runtime) = (Arc::new(ArcSwap::from_pointee(snapshot)), runtime().handle());
        let forwarding = Forwarding::new(snapshot.clone(), waiting, Upstreams::new(), None, runtime);
        let updates = Updates::Keeper(std::sync::mpsc::channel().0);
        let (keys, bounds) = (Keys::default(), Bounds::default());
        let transfers = Transfers::new(snapshot.clone(), forwarding.clone(), keys, bounds, updates, runtime);
        let query_log = QueryLog::new(DnstapMessages::default());
        Arc::new(Core::new(snapshot, limits, forwarding, transfers, query_log, runtime))
    }

    /// The page of metrics of what all listeners share.
    pub fn page(core: &Core) -> String {
        let metrics = Metrics::new();
        core.register(&metrics.registry);
        metrics.text()
    }
}
