//! The counters of the transports: connections and handshakes. [`workers`](super::workers) counts replies.

use super::workers::Workers;
use crate::{
    instruments::{counters, gauge, register},
    snapshot::published::Published,
};
use prometheus::{IntCounterVec, IntGauge, Registry};

/// The counters of the transports.
pub struct Counters {
    /// The counters of replies, separate for each worker.
    pub workers: Workers,
    /// Open TCP and QUIC connections.
    pub tcp_connections: IntGauge,
    /// The maximum number of open connections.
    pub tcp_connections_limit: IntGauge,
    /// TCP connections by the result of their arrival.
    pub tcp_connections_total: IntCounterVec,
    /// TCP connections that zonal closed, by reason.
    pub tcp_timeouts: IntCounterVec,
    /// Failed handshakes, by transport.
    pub handshakes_failed: IntCounterVec,
}

impl Counters {
    /// Counters that are all zero. The labels come from the current snapshot.
    pub fn new(snapshot: Published) -> Counters {
        Counters {
            workers: Workers::new(snapshot),
            tcp_connections: gauge("zonal_tcp_connections", "Open TCP and QUIC connections"),
            tcp_connections_limit: gauge(
                "zonal_tcp_connections_limit",
                "Maximum number of open TCP and QUIC connections",
            ),
            tcp_connections_total: counters(
                "zonal_tcp_connections_total",
                "TCP and QUIC connections that arrived. result: accepted, client_limit (the client has too many), \
                 failed",
                &["result"],
                &[&["accepted", "client_limit", "failed"]],
            ),
            tcp_timeouts: counters(
                "zonal_tcp_timeouts_total",
                "TCP and QUIC connections, and streams of them, that zonal closed. reason: idle, incomplete (a message did not arrive in \
                 time), unread (the client did not read its replies), displaced (a new connection needed the slot)",
                &["reason"],
                &[&["idle", "incomplete", "unread", "displaced"]],
            ),
            handshakes_failed: counters(
                "zonal_tls_handshakes_failed_total",
                "TLS and QUIC handshakes that failed or took too long",
                &["transport"],
                &[&["tls", "https", "quic", "h3"]],
            ),
        }
    }

    /// Registers all counters.
    pub fn register(&self, registry: &Registry) {
        register(registry, self.workers.clone());
        register(registry, self.tcp_connections.clone());
        register(registry, self.tcp_connections_limit.clone());
        register(registry, self.tcp_connections_total.clone());
        register(registry, self.tcp_timeouts.clone());
        register(registry, self.handshakes_failed.clone());
    }
}
