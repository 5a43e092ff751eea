//! Counters, and how they are exported: `docs/reference/metrics.md` lists all of them.
//!
//! Who answers counts in counters of its own ([`workers`]): plain stores, without a lock or a look-up. All else is counted
//! where it happens, or read off at a scrape ([`watched`]). Labels are words of ours, and what the manifest and the
//! configuration name: nothing that comes with a query.

mod family;
mod watched;
mod workers;

use crate::{answer::Transport, control_plane::status::Status, forward::Forwarding, snapshot::published::Published};
use family::Family;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use socket2::Socket;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};
use watched::Watched;
use workers::Workers;
pub use workers::{Dropped, Limited, Writer};

/// How long changes take, in seconds: one resource to a million records.
const CHANGE_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All metrics of the server.
pub struct Metrics {
    registry: Registry,
    workers: Workers,
    snapshot: Published,
    published_at: Arc<Mutex<Instant>>,
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
    /// When certificates expire, by their file.
    pub certificate_expiry: IntGaugeVec,
    /// Whether the last load of a certificate failed, by its file.
    pub certificate_failed: IntGaugeVec,
    /// Zone transfers, by direction and what came of them.
    pub transfers: IntCounterVec,
    /// Zones that are transferred from primaries, by how it is with them.
    pub transferred_zones: IntGaugeVec,
    /// Entries of query logs, by configuration and what became of them.
    pub query_log_entries: IntCounterVec,
    /// Whether a query log's destination does not take entries.
    pub query_log_failed: IntGaugeVec,
    /// dnstap messages, by what became of them.
    pub dnstap_messages: IntCounterVec,
    /// Notifications, by direction and what came of them.
    pub notifies: IntCounterVec,
    /// Dynamic updates, by what came of them.
    pub updates: IntCounterVec,
    /// Loads by what came of them.
    pub reloads: IntCounterVec,
    /// Whether the last load failed.
    pub reload_failed: IntGauge,
    /// Whether what is served could not be kept.
    pub state_write_failed: IntGauge,
    /// How long the last compilation took.
    pub compile_seconds: Gauge,
    /// How long changes took from when they were noticed until they were served, in seconds.
    pub change_seconds: Histogram,
    /// Problems of the last load.
    pub problems: IntGaugeVec,
}

impl Metrics {
    /// The metrics of a server that serves what `snapshot` points to.
    pub fn new(snapshot: Published) -> Metrics {
        let metrics = Metrics {
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
            certificate_expiry: gauges(
                "zonal_certificate_expiry_timestamp_seconds",
                "When the certificate that is in use expires, in seconds since 1970",
                "certificate",
                &[],
            ),
            certificate_failed: gauges(
                "zonal_certificate_reload_failed",
                "1 when the certificate's files have become bad, and the one before is in use",
                "certificate",
                &[],
            ),
            transfers: counters(
                "zonal_transfers_total",
                "Zone transfers. direction: in, out. result: axfr, ixfr, current (nothing is new), refused, failed",
                &["direction", "result"],
                &[&["in", "out"], &["axfr", "ixfr", "current", "refused", "failed"]],
            ),
            transferred_zones: gauges(
                "zonal_transferred_zones",
                "Zones that are transferred from primaries. state: pending, current, retrying, expired",
                "state",
                &["pending", "current", "retrying", "expired"],
            ),
            query_log_entries: counters(
                "zonal_query_log_entries_total",
                "Entries of query logs. outcome: written, dropped (the destination does not take them, or there were too many \
                 at once), over_rate, not_allowed (the node's configuration does not let them go there)",
                &["config", "outcome"],
                &[&[]],
            ),
            query_log_failed: gauges(
                "zonal_query_log_failed",
                "1 while the destination of a query log does not take entries",
                "config",
                &[],
            ),
            dnstap_messages: counters(
                "zonal_dnstap_messages_total",
                "dnstap messages. outcome: written, dropped",
                &["outcome"],
                &[&["written", "dropped"]],
            ),
            notifies: counters(
                "zonal_notifies_total",
                "Notifications of changed zones. direction: in, out. result: accepted, refused, failed",
                &["direction", "result"],
                &[&["in", "out"], &["accepted", "refused", "failed"]],
            ),
            updates: counters(
                "zonal_updates_total",
                "Dynamic updates. result: changed, unchanged, prerequisite (one does not hold), refused, failed",
                &["result"],
                &[&["changed", "unchanged", "prerequisite", "refused", "failed"]],
            ),
            reloads: counters(
                "zonal_reloads_total",
                "Loads of a manifest, or changes to it. result: changed, unchanged, failed",
                &["result"],
                &[&["changed", "unchanged", "failed"]],
            ),
            reload_failed: gauge("zonal_reload_failed", "1 when the last load failed and an older manifest is served"),
            state_write_failed: gauge(
                "zonal_state_write_failed",
                "1 when what is served could not be kept in the state directory",
            ),
            compile_seconds: valid(Gauge::new("zonal_compile_seconds", "How long the last compilation took")),
            change_seconds: valid(Histogram::with_opts(
                HistogramOpts::new(
                    "zonal_change_seconds",
                    "How long changes took from when they were noticed until they were served",
                )
                .buckets(CHANGE_BUCKETS.to_vec()),
            )),
            problems: gauges(
                "zonal_problems",
                "Problems of the last load. severity: error, warning",
                "severity",
                &["error", "warning"],
            ),
            registry: Registry::new(),
            workers: Workers::new(snapshot.clone()),
            snapshot,
            published_at: Arc::new(Mutex::new(Instant::now())),
        };
        let build = gauges("zonal_build_info", "Always 1", "version", &[]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.register(build);
        metrics.register(metrics.workers.clone());
        let (snapshot, published_at) = (metrics.snapshot.clone(), metrics.published_at.clone());
        metrics.watch("zonal_generation", move || watched::served(&snapshot, &published_at));
        let start = SystemTime::now();
        metrics.watch("process_start_time_seconds", move || watched::process(start));
        metrics.watch("zonal_log_lines_lost_total", watched::log);
        metrics.register(metrics.tcp_connections.clone());
        metrics.register(metrics.tcp_connections_limit.clone());
        metrics.register(metrics.tcp_connections_total.clone());
        metrics.register(metrics.tcp_timeouts.clone());
        metrics.register(metrics.handshakes_failed.clone());
        metrics.register(metrics.certificate_expiry.clone());
        metrics.register(metrics.certificate_failed.clone());
        metrics.register(metrics.transfers.clone());
        metrics.register(metrics.transferred_zones.clone());
        metrics.register(metrics.query_log_entries.clone());
        metrics.register(metrics.query_log_failed.clone());
        metrics.register(metrics.dnstap_messages.clone());
        metrics.register(metrics.notifies.clone());
        metrics.register(metrics.updates.clone());
        metrics.register(metrics.reloads.clone());
        metrics.register(metrics.reload_failed.clone());
        metrics.register(metrics.state_write_failed.clone());
        metrics.register(metrics.compile_seconds.clone());
        metrics.register(metrics.change_seconds.clone());
        metrics.register(metrics.problems.clone());
        metrics
    }

    /// Tells of the cache and of those who are asked too.
    pub fn watch_forwarding(&self, forwarding: &Arc<Forwarding>) {
        for counter in forwarding.upstreams.counters.all() {
            valid(self.registry.register(counter));
        }
        let (snapshot, upstreams) = (self.snapshot.clone(), forwarding.upstreams.clone());
        self.watch("zonal_target_up", move || watched::targets(&snapshot.load_full(), &upstreams.measured()));
        let forwarding = forwarding.clone();
        self.watch("zonal_cache_entries", move || watched::forwarding(&forwarding));
    }

    /// Tells of the control plane too.
    pub fn watch_control_plane(&self, status: &Arc<Status>) {
        let status = status.clone();
        self.watch("zonal_stale", move || watched::control_plane(&status));
    }

    /// Tells too whether the node is ready.
    pub fn watch_readiness(&self, is_ready: impl Fn() -> bool + Send + Sync + 'static) {
        self.watch("zonal_ready", move || watched::readiness(is_ready()));
    }

    fn watch(&self, name: &str, tell: impl Fn() -> Vec<MetricFamily> + Send + Sync + 'static) {
        self.register(Watched::new(name, tell));
    }

    fn register(&self, collector: impl Collector + 'static) {
        valid(self.registry.register(Box::new(collector)));
    }

    /// Counters for one more worker. They are summed up with the others' for as long as the server runs.
    pub fn writer(&self, transport: Transport) -> Writer {
        self.workers.writer(transport, None)
    }

    /// Counters for a thread that takes packets from a socket at `listener`, as number so many of those there.
    pub fn udp_writer(&self, listener: SocketAddr, number: usize, socket: &Arc<Socket>) -> Writer {
        self.workers.writer(Transport::Udp, Some((listener, number, socket)))
    }

    /// Says that a new snapshot is served from now on.
    pub fn published(&self) {
        *lock(&self.published_at) = Instant::now();
    }

    /// How long the present snapshot has been served.
    pub fn age(&self) -> std::time::Duration {
        lock(&self.published_at).elapsed()
    }

    /// All metrics in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::warn!("metrics cannot be written: {error}");
        }
        text
    }
}

/// The names and labels of metrics are constants, and right; the tests make them all.
fn valid<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a valid metric")
}

fn gauge(name: &str, help: &str) -> IntGauge {
    valid(IntGauge::new(name, help))
}

/// A gauge for each value of a label, of which these are known to come.
fn gauges(name: &str, help: &str, label: &str, values: &[&str]) -> IntGaugeVec {
    let gauges = valid(IntGaugeVec::new(Opts::new(name, help), &[label]));
    values.iter().for_each(|value| drop(gauges.with_label_values(&[*value])));
    gauges
}

/// A counter for each combination of the labels' values, which are there from the start on: of what begins with its first
/// event, Prometheus does not see that.
fn counters(name: &str, help: &str, labels: &[&str], values: &[&[&'static str]]) -> IntCounterVec {
    let counters = valid(IntCounterVec::new(Opts::new(name, help), labels));
    let mut combinations: Vec<Vec<&'static str>> = vec![Vec::new()];
    for values in values {
        let with = |before: &Vec<&'static str>| values.iter().map(|value| [&before[..], &[*value]].concat()).collect();
        combinations = combinations.iter().flat_map::<Vec<_>, _>(with).collect();
    }
    combinations.iter().for_each(|values| drop(counters.with_label_values(values)));
    counters
}

/// What tells a collector from others.
fn desc(name: &str) -> Desc {
    valid(Desc::new(name.into(), name.into(), Vec::new(), Default::default()))
}

#[cfg(test)]
mod tests;
