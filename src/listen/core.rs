//! What all listeners of a server share. `admin` and `run` know it too, and no room below the transports.

use super::{
    connections::Connections,
    counters::Counters,
    dispatch::Ledger,
    limit::{LargeLimit, RateLimit},
    workers::Writer,
};
use crate::{
    clock::random_seed,
    forward::Forwarding,
    query_log::{QueryLog, Tap},
    snapshot::published::Published,
    transfer::Transfers,
};
use prometheus::Registry;
use std::{sync::Arc, time::Duration};
use tokio::runtime::Handle;

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
    /// What asks upstream servers.
    pub forwarding: Arc<Forwarding>,
    /// Transfers, notifications and updates of zones.
    pub transfers: Arc<Transfers>,
    /// Where tasks run.
    pub runtime: Handle,
    /// The query log.
    pub query_log: Arc<QueryLog>,
    /// The counters of the transports.
    pub counters: Counters,
}

impl Core {
    /// Listeners' common state, with the limits of the configuration.
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
}
