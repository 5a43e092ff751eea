//! The counters of the transports: connections, and through [`workers`](super::workers) replies.

use super::workers::Workers;
use crate::{
    instruments::{counters, gauge, register},
    snapshot::published::Published,
};
use prometheus::{IntCounterVec, IntGauge, Registry};

/// The counters of the transports.
pub struct Counters {
    /// The counters of the replies, a block for each worker.
    pub workers: Workers,
    /// Open TCP and QUIC connections.
    pub tcp_connections: IntGauge,
    /// How many there may be.
    pub tcp_connections_limit: IntGauge,
    /// TCP connections by what became of them on arrival.
    pub tcp_connections_total: IntCounterVec,
    /// TCP connections cut off, by reason.
    pub tcp_timeouts: IntCounterVec,
    /// Handshakes that failed, by transport.
    pub handshakes_failed: IntCounterVec,
}

impl Counters {
    /// All of them are zero. Labels are those of the snapshot that is served.
    pub fn new(snapshot: Published) -> Counters {
        Counters {
            workers: Workers::new(snapshot),
            tcp_connections: gauge("zonal_tcp_connections", "Open TCP and QUIC connections"),
            tcp_connections_limit: gauge("zonal_tcp_connections_limit", "TCP and QUIC connections that may be open"),
            tcp_connections_total: counters(
                "zonal_tcp_connections_total",
                "TCP and QUIC connections on arrival. result: accepted, client_limit (too many of one client), \
                 failed",
                &["result"],
                &[&["accepted", "client_limit", "failed"]],
            ),
            tcp_timeouts: counters(
                "zonal_tcp_timeouts_total",
                "TCP and QUIC connections, and streams of them, cut off. reason: idle, incomplete (a message did not arrive \
                 in time), unread (the client did not read), displaced (too many in all: the longest idle one of who has most)",
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

    /// Registers all of them.
    pub fn register(&self, registry: &Registry) {
        register(registry, self.workers.clone());
        register(registry, self.tcp_connections.clone());
        register(registry, self.tcp_connections_limit.clone());
        register(registry, self.tcp_connections_total.clone());
        register(registry, self.tcp_timeouts.clone());
        register(registry, self.handshakes_failed.clone());
    }
}
