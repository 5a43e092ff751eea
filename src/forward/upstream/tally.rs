//! What was asked of a server, and how it answered, for its metrics.

use super::State;
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

/// The upper bounds of response times, in seconds: from a neighbour in the AZ to the last moment that a client waits.
pub const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// How many RCODEs are told apart: those that we know by name, and all others together.
pub const RCODES: usize = MNEMONICS.len() + 1;

/// The counters of one server. Its probes are counted like queries of clients.
pub struct Tally {
    queries: AtomicU64,
    timeouts: AtomicU64,
    answers: [AtomicU64; RCODES],
    response: Histogram,
}

/// What they have counted.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Queries that were sent.
    pub queries: u64,
    /// Queries without an answer in time.
    pub timeouts: u64,
    /// Answers, by the place of their RCODE among [`MNEMONICS`].
    pub answers: [u64; RCODES],
    /// How long answers took, in seconds.
    pub response: proto::Histogram,
}

/// A server as it is when metrics are read.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which one.
    pub target: Target,
    /// The addresses that it is asked from; empty for the node's own.
    pub sources: Vec<IpAddr>,
    /// Its smoothed round trip time.
    pub rtt: Option<Duration>,
    /// Whether it answers.
    pub state: State,
    /// Queries that are on their way to it.
    pub in_flight: usize,
    /// What was counted.
    pub counts: Counts,
}

impl Default for Tally {
    fn default() -> Tally {
        let options = HistogramOpts::new("response", "response").buckets(BUCKETS.to_vec());
        Tally {
            queries: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            answers: [const { AtomicU64::new(0) }; RCODES],
            response: Histogram::with_opts(options).unwrap_or_else(|error| panic!("{error}")),
        }
    }
}

impl Tally {
    /// A query was sent.
    pub fn asked(&self) {
        self.queries.fetch_add(1, Relaxed);
    }

    /// No answer came in time.
    pub fn timed_out(&self) {
        self.timeouts.fetch_add(1, Relaxed);
    }

    /// This message came, after this time.
    pub fn answered(&self, message: &[u8], after: Duration) {
        let code = message.get(3).map_or(0, |octet| u16::from(*octet) & flag::RCODE);
        let at = MNEMONICS.iter().position(|(other, _)| *other == code).unwrap_or(MNEMONICS.len());
        self.answers[at].fetch_add(1, Relaxed);
        self.response.observe(after.as_secs_f64());
    }

    /// What they have counted.
    pub fn counts(&self) -> Counts {
        Counts {
            queries: self.queries.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            answers: std::array::from_fn(|at| self.answers[at].load(Relaxed)),
            response: self.response.metric().get_histogram().clone(),
        }
    }
}
