//! The counters of all upstream servers together.

use super::server_counters;
use crate::query_log::EntrySender;
use prometheus::{Histogram, HistogramOpts, IntCounter, core::Collector};
use std::sync::{Mutex, atomic::AtomicUsize};

/// The counters of all upstream servers together.
pub struct UpstreamCounters {
    /// Queries sent.
    pub queries: IntCounter,
    /// Responses received, errors among them.
    pub answers: IntCounter,
    /// Queries without a response in time.
    pub timeouts: IntCounter,
    /// Queries sent again, to the same or another server.
    pub retries: IntCounter,
    /// Queries sent by TCP after UDP.
    pub fallbacks: IntCounter,
    /// Queries sent again by UDP from another port: a forgery was suspected, and TCP failed.
    pub renewals: IntCounter,
    /// Packets that are not responses to a query: of another ID, question or case.
    pub unexpected: IntCounter,
    /// Probes sent.
    pub probes: IntCounter,
    /// Questions that no server answered.
    pub failures: IntCounter,
    /// The time of questions to the authoritative servers, from the root, in seconds.
    pub recursion: Histogram,
    /// The number of open connections by TCP and DoT beyond the shared ones, over all servers.
    pub extra_connections: AtomicUsize,
    /// Takes queries and responses for dnstap, if dnstap has messages of forwarders.
    pub tap: Option<Mutex<EntrySender>>,
}

impl UpstreamCounters {
    /// Counters at zero.
    pub fn new(tap: Option<EntrySender>) -> UpstreamCounters {
        let counter =
            |name: &str, help: &str| IntCounter::new(name, help).unwrap_or_else(|error| panic!("{name}: {error}"));
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(server_counters::BUCKETS.to_vec());
            Histogram::with_opts(options).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        UpstreamCounters {
            queries: counter("zonal_upstream_queries_total", "Queries sent to upstream servers"),
            answers: counter("zonal_upstream_answers_total", "Responses of upstream servers, with error responses"),
            timeouts: counter(
                "zonal_upstream_timeouts_total",
                "Queries to upstream servers without a response in time",
            ),
            retries: counter(
                "zonal_upstream_retries_total",
                "Queries sent again, to the same or another upstream server",
            ),
            fallbacks: counter("zonal_upstream_tcp_fallbacks_total", "Queries sent again by TCP after UDP"),
            renewals: counter(
                "zonal_upstream_udp_renewals_total",
                "Queries sent again by UDP from another port, after a suspected forgery and an error by TCP",
            ),
            unexpected: counter(
                "zonal_upstream_unexpected_packets_total",
                "Packets that are not responses to a query: of another ID, question or case",
            ),
            probes: counter("zonal_upstream_probes_total", "Probes sent to upstream servers"),
            failures: counter("zonal_upstream_failures_total", "Questions that no upstream server answered"),
            recursion: histogram(
                "zonal_recursion_seconds",
                "Time of questions to the authoritative servers, from the root, answered or not, in seconds",
            ),
            extra_connections: AtomicUsize::new(0),
            tap: tap.map(Mutex::new),
        }
    }

    /// The counters for registration.
    pub fn all(&self) -> Vec<Box<dyn Collector>> {
        let UpstreamCounters {
            queries,
            answers,
            timeouts,
            retries,
            fallbacks,
            renewals,
            unexpected,
            probes,
            failures,
            recursion,
            ..
        } = self;
        let counters = [queries, answers, timeouts, retries, fallbacks, renewals, unexpected, probes, failures];
        let mut all: Vec<Box<dyn Collector>> = Vec::new();
        all.extend(counters.map(|counter| Box::new(counter.clone()) as Box<dyn Collector>));
        all.push(Box::new(recursion.clone()));
        all
    }
}

impl Default for UpstreamCounters {
    fn default() -> UpstreamCounters {
        UpstreamCounters::new(None)
    }
}
