//! What is counted of all servers together.

use super::tally;
use crate::query_log::EntrySender;
use prometheus::{Histogram, HistogramOpts, IntCounter, core::Collector};
use std::sync::{Mutex, atomic::AtomicUsize};

/// What is counted.
pub struct Counters {
    /// Queries that were sent.
    pub queries: IntCounter,
    /// Answers that were taken, errors among them.
    pub answers: IntCounter,
    /// Queries without an answer in time.
    pub timeouts: IntCounter,
    /// Queries that were sent again, to the same or another server.
    pub retries: IntCounter,
    /// Queries that went to TCP after UDP.
    pub fallbacks: IntCounter,
    /// Queries that went to UDP with another port and id after a guess, as TCP was of no use.
    pub renewals: IntCounter,
    /// Packets that nobody asked for: of another id, question or case.
    pub strangers: IntCounter,
    /// Queries to look whether a server is there.
    pub probes: IntCounter,
    /// Questions that no server answered.
    pub failures: IntCounter,
    /// How long questions to the authoritative servers took, from the root on, in seconds.
    pub recursion: Histogram,
    /// Connections by TCP and DoT beyond the usual number to each server, over all of them.
    pub extra_connections: AtomicUsize,
    /// Where dnstap is told of queries and answers, if it is.
    pub tap: Option<Mutex<EntrySender>>,
}

impl Counters {
    /// All of them are zero.
    pub fn new(tap: Option<EntrySender>) -> Counters {
        let counter =
            |name: &str, help: &str| IntCounter::new(name, help).unwrap_or_else(|error| panic!("{name}: {error}"));
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(tally::BUCKETS.to_vec());
            Histogram::with_opts(options).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        Counters {
            queries: counter("zonal_upstream_queries_total", "Queries sent to other servers"),
            answers: counter("zonal_upstream_answers_total", "Answers of other servers, errors among them"),
            timeouts: counter("zonal_upstream_timeouts_total", "Queries to other servers without an answer in time"),
            retries: counter("zonal_upstream_retries_total", "Queries sent again, to the same or another server"),
            fallbacks: counter("zonal_upstream_tcp_fallbacks_total", "Queries asked again by TCP"),
            renewals: counter(
                "zonal_upstream_udp_renewals_total",
                "Queries asked again by UDP from another port, as somebody guessed at the answer and TCP failed",
            ),
            strangers: counter(
                "zonal_upstream_strangers_total",
                "Packets with another id, question or case than what was asked",
            ),
            probes: counter("zonal_upstream_probes_total", "Queries that look whether a server is there"),
            failures: counter("zonal_upstream_failures_total", "Questions that no server answered"),
            recursion: histogram(
                "zonal_recursion_seconds",
                "How long questions took that were asked from the root on, answered or not, in seconds",
            ),
            extra_connections: AtomicUsize::new(0),
            tap: tap.map(Mutex::new),
        }
    }

    /// All of them, to be registered.
    pub fn all(&self) -> Vec<Box<dyn Collector>> {
        let Counters {
            queries,
            answers,
            timeouts,
            retries,
            fallbacks,
            renewals,
            strangers,
            probes,
            failures,
            recursion,
            ..
        } = self;
        let counters = [queries, answers, timeouts, retries, fallbacks, renewals, strangers, probes, failures];
        let mut all: Vec<Box<dyn Collector>> = Vec::new();
        all.extend(counters.map(|counter| Box::new(counter.clone()) as Box<dyn Collector>));
        all.push(Box::new(recursion.clone()));
        all
    }
}

impl Default for Counters {
    fn default() -> Counters {
        Counters::new(None)
    }
}
