//! The state that all listeners of a server share. `admin` and `run` know it too; no room that `listen` imports does.

use super::{
    blocked::BlockedNames,
    connections::Connections,
    counters::Counters,
    dispatch::ReplyRecorder,
    limit::{LargeLimit, RateLimit},
    workers::WorkerCounters,
};
use crate::{
    clock::random_seed,
    forward::Forwarding,
    query_log::{EntrySender, QueryLog},
    snapshot::published::Published,
    transfer::Transfers,
};
use prometheus::Registry;
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// The state that all listeners share.
pub struct Core {
    /// The snapshot that answers come from.
    pub snapshot: Published,
    /// The limit on error answers over UDP.
    pub error_limit: RateLimit,
    /// The limit on large replies over UDP.
    pub large_limit: LargeLimit,
    /// The open connections, and their limits.
    pub connections: Arc<Connections>,
    /// Queries to upstream servers, and their cache.
    pub forwarding: Arc<Forwarding>,
    /// Transfers, notifications and updates of zones.
    pub transfers: Arc<Transfers>,
    /// The runtime of all tasks.
    pub runtime: Handle,
    /// The query log.
    pub query_log: Arc<QueryLog>,
    /// The names that DNS Firewall blocked.
    pub blocked: Arc<BlockedNames>,
    /// The counters of the transports.
    pub counters: Counters,
}

impl Core {
    /// The state of a server without listeners yet.
    pub fn new(
        snapshot: Published,
        limits: &Limits,
        forwarding: Arc<Forwarding>,
        transfers: Arc<Transfers>,
        query_log: Arc<QueryLog>,
        runtime: &Handle,
    ) -> Core {
        let counters = Counters::new(snapshot.clone());
        counters.tcp_connections_limit.set(limits.tcp_connections as i64);
        Core {
            snapshot,
            error_limit: RateLimit::new(limits.error_answers_per_second, random_seed()),
            large_limit: LargeLimit::new(limits.large_answers_per_second, random_seed()),
            connections: Arc::new(Connections::new(limits)),
            forwarding,
            transfers,
            runtime: runtime.clone(),
            query_log,
            blocked: BlockedNames::start(runtime),
            counters,
        }
    }

    /// Registers the counters of the transports and of what they share.
    pub fn register(&self, registry: &Registry) {
        self.counters.register(registry);
        self.forwarding.register(registry);
        self.transfers.register(registry);
        self.query_log.register(registry);
    }

    /// The recorder of one thread or transport, for queries that arrive on this port. Its query log ring has `ring_octets`.
    pub fn recorder(&self, counters: WorkerCounters, ring_octets: usize, port: u16) -> ReplyRecorder {
        ReplyRecorder::new(
            counters,
            EntrySender::new(&self.query_log, ring_octets, random_seed().0 as u32).on_port(port),
            self.blocked.sender(),
        )
    }
}

/// The limits on clients.
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
    /// The maximum time that a TCP connection is idle, a message takes to arrive, and a client takes to read a reply.
    pub tcp_idle_timeout: Duration,
}
