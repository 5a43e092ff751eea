//! The counters of one upstream server.

use super::ServerState;
use crate::{
    snapshot::routes::Target,
    wire::codes::{flag, rcode::MNEMONICS},
};
use prometheus::{Histogram, HistogramOpts, core::Metric, proto};
use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The upper bounds of response time buckets, in seconds: from a server in the same AZ to the last
/// moment that a client waits.
pub const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The number of counted RCODEs: those with a mnemonic, and all others together.
pub const RCODES: usize = MNEMONICS.len() + 1;

/// The counters of one server, with its probes.
pub struct ServerCounters {
    queries: AtomicU64,
    timeouts: AtomicU64,
    answers: [AtomicU64; RCODES],
    response: Histogram,
}

/// The values of the counters.
#[derive(Clone, Debug)]
pub struct ServerCounts {
    /// Queries sent.
    pub queries: u64,
    /// Queries without a response in time.
    pub timeouts: u64,
    /// Responses, by the index of their RCODE in [`MNEMONICS`].
    pub answers: [u64; RCODES],
    /// Response times, in seconds.
    pub response: proto::Histogram,
}

/// The metrics of a server.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    /// The server.
    pub target: Target,
    /// The source addresses of its queries; empty for the node's own.
    pub sources: Vec<IpAddr>,
    /// The smoothed round trip time.
    pub rtt: Option<Duration>,
    /// Whether the server answers.
    pub state: ServerState,
    /// The number of queries in flight to the server.
    pub in_flight: usize,
    /// The values of its counters.
    pub counts: ServerCounts,
}

impl Default for ServerCounters {
    fn default() -> ServerCounters {
        let options = HistogramOpts::new("response", "response").buckets(BUCKETS.to_vec());
        ServerCounters {
            queries: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            answers: [const { AtomicU64::new(0) }; RCODES],
            response: Histogram::with_opts(options).unwrap_or_else(|error| panic!("{error}")),
        }
    }
}

impl ServerCounters {
    /// Counts a query.
    pub fn count_query(&self) {
        self.queries.fetch_add(1, Relaxed);
    }

    /// Counts a time-out.
    pub fn count_timeout(&self) {
        self.timeouts.fetch_add(1, Relaxed);
    }

    /// Counts a response and its response time.
    pub fn count_answer(&self, message: &[u8], after: Duration) {
        let code = message.get(3).map_or(0, |octet| u16::from(*octet) & flag::RCODE);
        let at = MNEMONICS.iter().position(|(other, _)| *other == code).unwrap_or(MNEMONICS.len());
        self.answers[at].fetch_add(1, Relaxed);
        self.response.observe(after.as_secs_f64());
    }

    /// The values of the counters.
    pub fn counts(&self) -> ServerCounts {
        ServerCounts {
            queries: self.queries.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            answers: std::array::from_fn(|at| self.answers[at].load(Relaxed)),
            response: self.response.metric().get_histogram().clone(),
        }
    }
}
