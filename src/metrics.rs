//! Counters, and how they are exported.
//!
//! | Metric | Type | Labels | Meaning |
//! |---|---|---|---|
//! | `zonal_answers_total` | counter | `view`, `outcome`, `rcode`, `transport` | Answers sent. `view` is `none` for clients that have none; `outcome` says what answered: `zone`, `endpoint`, `autodefined`, `whoami`, `forward`, `refused`, `malformed` |
//! | `zonal_dropped_total` | counter | `reason`, `transport` | Messages without an answer: `silent` (nothing to say to that, as to a response), `unsent` (the kernel did not take the answer), `receive` (the kernel failed to deliver) |
//! | `zonal_error_answers_limited_total` | counter | `action` | Error answers beyond the limit, by what became of them: `truncated`, `dropped`, `bad_cookie` |
//! | `zonal_tcp_connections` | gauge | | Open TCP and QUIC connections |
//! | `zonal_tcp_connections_total` | counter | `result` | TCP and QUIC connections by what became of them on arrival: `accepted`, `limit` (too many in all), `client_limit` (too many of one client), `failed` |
//! | `zonal_tcp_timeouts_total` | counter | `reason` | TCP and QUIC connections, and streams of them, cut off: `idle`, `incomplete` (a message did not arrive in time), `unread` (the client did not read) |
//! | `zonal_tls_handshakes_failed_total` | counter | `transport` | Handshakes that failed or took too long |
//! | `zonal_certificate_expiry_timestamp_seconds` | gauge | `certificate` | When the certificate that is in use expires, in seconds since 1970 |
//! | `zonal_certificate_reload_failed` | gauge | `certificate` | 1 when the certificate's file has changed to something bad, and the one before it is in use |
//! | `zonal_cache_entries` | gauge | | Entries of the cache |
//! | `zonal_cache_bytes` | gauge | | Memory that they take |
//! | `zonal_cache_hits_total` | counter | | Names that others answer for and that were answered from the cache |
//! | `zonal_cache_misses_total` | counter | | Names that others had to be asked for |
//! | `zonal_cache_stale_answers_total` | counter | | Names answered with what had ended, as nobody could be asked |
//! | `zonal_cache_evictions_total` | counter | | Entries that gave way to others |
//! | `zonal_cache_prefetches_total` | counter | | Entries asked for anew before they ended |
//! | `zonal_upstream_queries_total` | counter | | Queries sent to other servers |
//! | `zonal_upstream_answers_total` | counter | | Answers of other servers, errors among them |
//! | `zonal_upstream_timeouts_total` | counter | | Queries to other servers without an answer in time |
//! | `zonal_upstream_retries_total` | counter | | Queries sent again, to the same or another server |
//! | `zonal_upstream_tcp_fallbacks_total` | counter | | Queries that went to TCP after UDP |
//! | `zonal_upstream_strangers_total` | counter | | Packets from other servers that nobody asked for |
//! | `zonal_upstream_probes_total` | counter | | Queries to look whether a server is there |
//! | `zonal_upstream_failures_total` | counter | | Questions that no server answered |
//! | `zonal_query_log_entries_total` | counter | `config`, `outcome` | Entries of a query log: `written`, `dropped` (its destination does not take them, or there were too many at once), `over_rate`, `not_allowed` (this node's configuration does not let it go there) |
//! | `zonal_query_log_failed` | gauge | `config` | 1 while the destination of a query log does not take entries |
//! | `zonal_dnstap_messages_total` | counter | `outcome` | dnstap messages: `written`, `dropped` |
//! | `zonal_transfers_total` | counter | `direction`, `result` | Zone transfers: `in` or `out`; `axfr`, `ixfr`, `current`, `refused`, `failed` |
//! | `zonal_transferred_zones` | gauge | `state` | Zones that are transferred from primaries: `pending`, `current`, `retrying`, `expired` |
//! | `zonal_notifies_total` | counter | `direction`, `result` | Notifications of changed zones: `in` or `out`; `accepted`, `refused`, `failed` |
//! | `zonal_updates_total` | counter | `result` | Dynamic updates: `changed`, `unchanged`, `prerequisite`, `refused`, `failed` |
//! | `zonal_generation` | gauge | | Generation of what is served |
//! | `zonal_snapshot_age_seconds` | gauge | | How long that generation has been served |
//! | `zonal_reloads_total` | counter | `result` | Loads by what came of them: `changed`, `unchanged`, `failed` |
//! | `zonal_reload_failed` | gauge | | 1 when the last load failed and an older manifest is served |
//! | `zonal_stale` | gauge | | 1 while what is served is what was kept of an earlier run, and the source has not been heard of |
//! | `zonal_source_connected` | gauge | | 1 while the source, where it is elsewhere, can be reached |
//! | `zonal_source_contact_age_seconds` | gauge | | How long ago it was last heard of |
//! | `zonal_source_revision` | gauge | | The revision of the source that is served |
//! | `zonal_resources_set_aside` | gauge | | Resources that are not served as they were delivered |
//! | `zonal_state_write_failed` | gauge | | 1 when what is served could not be kept in the state directory |
//! | `zonal_compile_seconds` | gauge | | How long the last compilation took |
//! | `zonal_problems` | gauge | `severity` | Problems of the last load: `error`, `warning` |
//! | `zonal_build_info` | gauge | `version` | Always 1 |
//! | `process_resident_memory_bytes` | gauge | | Resident memory |
//! | `process_start_time_seconds` | gauge | | When the process started, in seconds since 1970 |

use crate::{
    answer::{Answered, Kind, Transport},
    control_plane::status::{self, Status},
    forward::Forwarding,
    listen::Published,
    wire::query::rcode::MNEMONICS,
};
use prometheus::{
    Encoder, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

const KINDS: [(Kind, &str); 7] = [
    (Kind::Zone, "zone"),
    (Kind::Endpoint, "endpoint"),
    (Kind::Autodefined, "autodefined"),
    (Kind::Whoami, "whoami"),
    (Kind::Forward, "forward"),
    (Kind::Refused, "refused"),
    (Kind::Malformed, "malformed"),
];

/// How many RCODEs are told apart: those that we send, and all others together.
const RCODES: usize = MNEMONICS.len() + 1;

/// The counters of one view.
const PER_VIEW: usize = KINDS.len() * RCODES;
/// How many views' counters are made at once.
const VIEWS_PER_CHUNK: usize = 64;

type Chunk = Arc<[AtomicU64]>;

/// Which counter of a view an answer is counted in.
fn index_of(kind: Kind, rcode: u16) -> usize {
    let kind = KINDS.iter().position(|(other, _)| *other == kind).unwrap_or_default();
    let rcode = MNEMONICS.iter().position(|(other, _)| *other == rcode).unwrap_or(MNEMONICS.len());
    kind * RCODES + rcode
}

/// Why a message had no answer.
#[derive(Clone, Copy, Debug)]
pub enum Dropped {
    /// There is nothing to say to it.
    Silent,
    /// The kernel did not take the answer.
    Unsent,
    /// The kernel failed to deliver.
    Receive,
}

/// What became of an error answer beyond the limit.
#[derive(Clone, Copy, Debug)]
pub enum Limited {
    /// A truncated answer was sent.
    Truncated,
    /// Nothing was sent.
    Dropped,
    /// A BADCOOKIE was sent.
    BadCookie,
}

const DROPPED: [&str; 3] = ["silent", "unsent", "receive"];
const LIMITED: [&str; 3] = ["truncated", "dropped", "bad_cookie"];

/// One worker's counters, as scrapes see them.
struct Block {
    transport: Transport,
    answers: Mutex<Vec<Chunk>>,
    dropped: [AtomicU64; DROPPED.len()],
    limited: [AtomicU64; LIMITED.len()],
}

/// One worker's counters. It is their only writer, so that counting is a plain load and store.
pub struct Writer {
    block: Arc<Block>,
    /// The same chunks that the block has, at hand without its lock.
    answers: Vec<Chunk>,
}

impl Writer {
    /// Makes room for so many views. To be called when a new snapshot is taken up, not for each query.
    pub fn make_room(&mut self, views: usize) {
        // The first slot is for clients without a view.
        while self.answers.len() * VIEWS_PER_CHUNK < views + 1 {
            let chunk: Chunk = (0..VIEWS_PER_CHUNK * PER_VIEW).map(|_| AtomicU64::new(0)).collect();
            lock(&self.block.answers).push(chunk.clone());
            self.answers.push(chunk);
        }
    }

    /// Counts an answer. One of a view that there is no room for is counted as without a view.
    pub fn answered(&mut self, answered: &Answered) {
        let index = index_of(answered.kind, answered.rcode);
        let slot = answered.view.map_or(0, |view| view as usize + 1);
        let chunk = self.answers.get(slot / VIEWS_PER_CHUNK);
        let (chunk, slot) = match chunk {
            Some(chunk) => (chunk, slot % VIEWS_PER_CHUNK),
            None => (&self.answers[0], 0),
        };
        increase(&chunk[slot * PER_VIEW + index]);
    }

    /// Counts a message without an answer.
    pub fn dropped(&mut self, reason: Dropped) {
        increase(&self.block.dropped[reason as usize]);
    }

    /// Counts an error answer beyond the limit.
    pub fn limited(&mut self, action: Limited) {
        increase(&self.block.limited[action as usize]);
    }
}

fn increase(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All metrics of the server.
pub struct Metrics {
    registry: Registry,
    workers: Workers,
    published_at: Arc<Mutex<Instant>>,
    /// Open TCP and QUIC connections.
    pub tcp_connections: IntGauge,
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
    /// Problems of the last load.
    pub problems: IntGaugeVec,
}

impl Metrics {
    /// The metrics of a server that serves what `snapshot` points to.
    pub fn new(snapshot: Published) -> Metrics {
        let registry = Registry::new();
        let workers = Workers {
            desc: desc("zonal_answers_total", "Answers sent"),
            blocks: Arc::default(),
            retired: Arc::default(),
            snapshot: snapshot.clone(),
        };
        let published_at = Arc::new(Mutex::new(Instant::now()));
        let metrics = Metrics {
            tcp_connections: gauge("zonal_tcp_connections", "Open TCP and QUIC connections"),
            tcp_connections_total: counters(
                "zonal_tcp_connections_total",
                "TCP and QUIC connections on arrival",
                &["result"],
            ),
            tcp_timeouts: counters("zonal_tcp_timeouts_total", "TCP and QUIC connections cut off", &["reason"]),
            handshakes_failed: counters("zonal_tls_handshakes_failed_total", "Handshakes that failed", &["transport"]),
            certificate_expiry: gauges("zonal_certificate_expiry_timestamp_seconds", "When it expires", "certificate"),
            certificate_failed: gauges("zonal_certificate_reload_failed", "1 when its file is bad", "certificate"),
            transfers: counters("zonal_transfers_total", "Zone transfers", &["direction", "result"]),
            transferred_zones: gauges("zonal_transferred_zones", "Zones that are transferred from primaries", "state"),
            query_log_entries: counters(
                "zonal_query_log_entries_total",
                "Entries of query logs",
                &["config", "outcome"],
            ),
            query_log_failed: gauges("zonal_query_log_failed", "1 while entries cannot be written", "config"),
            dnstap_messages: counters("zonal_dnstap_messages_total", "dnstap messages", &["outcome"]),
            notifies: counters("zonal_notifies_total", "Notifications of changed zones", &["direction", "result"]),
            updates: counters("zonal_updates_total", "Dynamic updates", &["result"]),
            reloads: counters("zonal_reloads_total", "Loads by what came of them", &["result"]),
            reload_failed: gauge("zonal_reload_failed", "1 when the last load failed and an older manifest is served"),
            state_write_failed: gauge("zonal_state_write_failed", "1 when what is served could not be kept"),
            compile_seconds: valid(Gauge::new("zonal_compile_seconds", "How long the last compilation took")),
            problems: gauges("zonal_problems", "Problems of the last load", "severity"),
            registry,
            workers,
            published_at,
        };
        let build = gauges("zonal_build_info", "Always 1", "version");
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for result in ["changed", "unchanged", "failed"] {
            metrics.reloads.with_label_values(&[result]);
        }
        for result in ["accepted", "limit", "client_limit", "failed"] {
            metrics.tcp_connections_total.with_label_values(&[result]);
        }
        for reason in ["idle", "incomplete", "unread"] {
            metrics.tcp_timeouts.with_label_values(&[reason]);
        }
        let process = Process {
            desc: desc("zonal_generation", "Generation of what is served"),
            snapshot,
            published_at: metrics.published_at.clone(),
            start: SystemTime::now(),
        };
        metrics.register(build);
        metrics.register(process);
        metrics.register(metrics.workers.clone());
        metrics.register(metrics.tcp_connections.clone());
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
        metrics.register(metrics.problems.clone());
        metrics
    }

    /// Tells of the cache too.
    pub fn watch_forwarding(&self, forwarding: &Arc<Forwarding>) {
        self.register(Cache {
            desc: desc("zonal_cache_entries", "Entries of the cache"),
            forwarding: forwarding.clone(),
        });
        for counter in forwarding.upstreams.counters.all() {
            self.register(counter.clone());
        }
    }

    fn register(&self, collector: impl Collector + 'static) {
        valid(self.registry.register(Box::new(collector)));
    }

    /// Counters for one more worker. They are summed up with the others' for as long as the server runs.
    pub fn writer(&self, transport: Transport) -> Writer {
        self.workers.fold();
        let block = Arc::new(Block {
            transport,
            answers: Mutex::default(),
            dropped: Default::default(),
            limited: Default::default(),
        });
        lock(&self.workers.blocks).push(block.clone());
        let mut writer = Writer { block, answers: Vec::new() };
        writer.make_room(0);
        writer
    }

    /// Tells of the control plane too.
    pub fn watch_control_plane(&self, status: &Arc<Status>) {
        self.register(ControlPlane {
            desc: desc("zonal_stale", "1 while what is served is of an earlier run"),
            status: status.clone(),
        });
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
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!("metrics cannot be written: {error}");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// The names and labels of metrics are constants, and right; the tests make them all.
fn valid<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a valid metric")
}

fn gauge(name: &str, help: &str) -> IntGauge {
    valid(IntGauge::new(name, help))
}

fn gauges(name: &str, help: &str, label: &str) -> IntGaugeVec {
    valid(IntGaugeVec::new(Opts::new(name, help), &[label]))
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    valid(IntCounterVec::new(Opts::new(name, help), labels))
}

fn desc(name: &str, help: &str) -> Desc {
    valid(Desc::new(name.into(), help.into(), Vec::new(), Default::default()))
}

/// Sums up the counters of all workers.
#[derive(Clone)]
struct Workers {
    /// Collectors are told apart by this.
    desc: Desc,
    blocks: Arc<Mutex<Vec<Arc<Block>>>>,
    /// What the workers that have ended counted, by transport.
    retired: Arc<Mutex<[Totals; Transport::WORDS.len()]>>,
    snapshot: Published,
}

/// The sums of one transport's workers.
#[derive(Clone, Default)]
struct Totals {
    answers: Vec<u64>,
    dropped: [u64; DROPPED.len()],
    limited: [u64; LIMITED.len()],
}

impl Totals {
    fn add(&mut self, block: &Block) {
        for (number, chunk) in lock(&block.answers).iter().enumerate() {
            let start = number * VIEWS_PER_CHUNK * PER_VIEW;
            if self.answers.len() < start + chunk.len() {
                self.answers.resize(start + chunk.len(), 0);
            }
            for (total, counter) in self.answers[start..].iter_mut().zip(chunk.iter()) {
                *total += counter.load(Relaxed);
            }
        }
        for (total, counter) in self.dropped.iter_mut().zip(&block.dropped) {
            *total += counter.load(Relaxed);
        }
        for (total, counter) in self.limited.iter_mut().zip(&block.limited) {
            *total += counter.load(Relaxed);
        }
    }
}

impl Workers {
    /// Folds the blocks whose worker has ended into what is kept of them.
    fn fold(&self) {
        let mut retired = lock(&self.retired);
        lock(&self.blocks).retain(|block| {
            let ended = Arc::strong_count(block) == 1;
            if ended {
                retired[block.transport as usize].add(block);
            }
            !ended
        });
    }

    /// The totals of each transport.
    fn totals(&self) -> [Totals; Transport::WORDS.len()] {
        self.fold();
        let mut totals = lock(&self.retired).clone();
        for block in lock(&self.blocks).iter() {
            totals[block.transport as usize].add(block);
        }
        totals
    }

    fn metrics(&self) -> [IntCounterVec; 3] {
        [
            counters("zonal_answers_total", "Answers sent", &["view", "outcome", "rcode", "transport"]),
            counters("zonal_dropped_total", "Messages without an answer", &["reason", "transport"]),
            counters("zonal_error_answers_limited_total", "Error answers beyond the limit", &["action"]),
        ]
    }
}

impl Collector for Workers {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let [answers, dropped, limited] = self.metrics();
        let snapshot = self.snapshot.load();
        let labels = snapshot.view_labels();
        for (totals, (_, transport)) in self.totals().iter().zip(Transport::WORDS) {
            for (index, &count) in totals.answers.iter().enumerate().filter(|(_, count)| **count > 0) {
                let view = match (index / PER_VIEW).checked_sub(1) {
                    None => "none",
                    Some(view) => labels.get(view).map_or("unknown", |label| label),
                };
                let outcome = KINDS[index % PER_VIEW / RCODES].1;
                let rcode = MNEMONICS.get(index % RCODES).map_or("other", |(_, mnemonic)| *mnemonic);
                answers.with_label_values(&[view, outcome, rcode, transport]).inc_by(count);
            }
            for (reason, &count) in DROPPED.iter().zip(&totals.dropped) {
                dropped.with_label_values(&[*reason, transport]).inc_by(count);
            }
            for (action, &count) in LIMITED.iter().zip(&totals.limited) {
                limited.with_label_values(&[*action]).inc_by(count);
            }
        }
        [answers.collect(), dropped.collect(), limited.collect()].concat()
    }
}

/// What the cache counts itself.
struct Cache {
    desc: Desc,
    forwarding: Arc<Forwarding>,
}

impl Collector for Cache {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = self.forwarding.cache.counts();
        let mut all = Vec::new();
        for (name, help, value) in [
            ("zonal_cache_entries", "Entries of the cache", counts.entries),
            ("zonal_cache_bytes", "Memory that the entries of the cache take", counts.octets),
        ] {
            let gauge = gauge(name, help);
            gauge.set(value as i64);
            all.extend(gauge.collect());
        }
        for (name, help, value) in [
            ("zonal_cache_hits_total", "Names answered from the cache", counts.hits),
            ("zonal_cache_misses_total", "Names that others had to be asked for", counts.misses),
            ("zonal_cache_stale_answers_total", "Names answered with what had ended", counts.stale),
            ("zonal_cache_evictions_total", "Entries that gave way to others", counts.evictions),
            ("zonal_cache_prefetches_total", "Entries asked for anew before they ended", counts.prefetches),
        ] {
            let counter = valid(IntCounter::new(name, help));
            counter.inc_by(value);
            all.extend(counter.collect());
        }
        all
    }
}

/// What the control plane's status says at a scrape.
struct ControlPlane {
    desc: Desc,
    status: Arc<Status>,
}

impl Collector for ControlPlane {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (is_stale, set_aside, source, revision) = {
            let state = self.status.state();
            (state.is_stale, state.set_aside.len(), state.source.clone(), state.kept.position.revision)
        };
        let mut all = Vec::new();
        let mut tell = |name: &str, help: &str, value: i64| {
            let gauge = gauge(name, help);
            gauge.set(value);
            all.extend(gauge.collect());
        };
        tell("zonal_stale", "1 while what is served is of an earlier run", is_stale.into());
        tell("zonal_resources_set_aside", "Resources that are not served as they were delivered", set_aside as i64);
        tell("zonal_source_revision", "The revision of the source that is served", revision as i64);
        if let Some(source) = source {
            tell("zonal_source_connected", "1 while the source can be reached", source.is_connected.into());
            let now = status::seconds(SystemTime::now());
            if let Some(contact) = source.last_contact {
                let age = now.saturating_sub(contact) as i64;
                tell("zonal_source_contact_age_seconds", "How long ago it was last heard of", age);
            }
        }
        all
    }
}

/// What is read off at a scrape.
struct Process {
    desc: Desc,
    snapshot: Published,
    published_at: Arc<Mutex<Instant>>,
    start: SystemTime,
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let generation = gauge("zonal_generation", "Generation of what is served");
        generation.set(self.snapshot.load().generation as i64);
        let age = Gauge::new("zonal_snapshot_age_seconds", "How long that generation has been served");
        let age = valid(age);
        age.set(lock(&self.published_at).elapsed().as_secs_f64());
        let start = Gauge::new("process_start_time_seconds", "When the process started, in seconds since 1970");
        let start = valid(start);
        start.set(self.start.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));
        let mut all = [generation.collect(), age.collect(), start.collect()].concat();
        if let Some(bytes) = resident_memory() {
            let memory = gauge("process_resident_memory_bytes", "Resident memory");
            memory.set(bytes);
            all.extend(memory.collect());
        }
        all
    }
}

fn resident_memory() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answer::Cookie, listen::tests};

    fn answered(view: Option<u32>, kind: Kind, rcode: u16) -> Answered {
        Answered { len: 12, view, rcode, kind, cookie: Cookie::Absent, refresh: false }
    }

    #[test]
    fn workers_are_summed_up() {
        let core = tests::core(&tests::limits());
        let mut one = core.metrics.writer(Transport::Udp);
        let mut other = core.metrics.writer(Transport::Udp);
        let mut tcp = core.metrics.writer(Transport::Tcp);
        one.answered(&answered(None, Kind::Refused, 5));
        other.answered(&answered(None, Kind::Refused, 5));
        other.answered(&answered(None, Kind::Malformed, 16));
        tcp.answered(&answered(None, Kind::Zone, 3));
        tcp.dropped(Dropped::Silent);
        one.limited(Limited::BadCookie);
        drop(other); // what a worker counted stays when it ends
        for _ in 0..2 {
            let text = core.metrics.text();
            for line in [
                r#"zonal_answers_total{outcome="refused",rcode="REFUSED",transport="udp",view="none"} 2"#,
                r#"zonal_answers_total{outcome="malformed",rcode="BADVERS",transport="udp",view="none"} 1"#,
                r#"zonal_answers_total{outcome="zone",rcode="NXDOMAIN",transport="tcp",view="none"} 1"#,
                r#"zonal_dropped_total{reason="silent",transport="tcp"} 1"#,
                r#"zonal_error_answers_limited_total{action="bad_cookie"} 1"#,
                "zonal_generation 1",
            ] {
                assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
            }
            assert_eq!(text.matches("zonal_answers_total{").count(), 3, "only what was counted");
        }
    }

    #[test]
    fn room_grows_with_the_views() {
        let core = tests::core(&tests::limits());
        let mut writer = core.metrics.writer(Transport::Udp);
        let total = |view: usize| {
            let [udp, ..] = core.metrics.workers.totals();
            udp.answers.get((view + 1) * PER_VIEW + index_of(Kind::Zone, 0)).copied()
        };
        writer.make_room(10);
        writer.answered(&answered(Some(9), Kind::Zone, 0));
        assert_eq!((total(9), total(1000)), (Some(1), None));
        writer.answered(&answered(Some(1000), Kind::Zone, 0));
        writer.make_room(1001);
        writer.answered(&answered(Some(1000), Kind::Zone, 0));
        assert_eq!((total(9), total(1000)), (Some(1), Some(1)));
    }

    #[test]
    fn every_metric_is_in_the_table() {
        let core = tests::core(&tests::limits());
        core.metrics.problems.with_label_values(&["error"]).set(1);
        core.metrics.writer(Transport::Udp).answered(&answered(None, Kind::Refused, 5));
        let source = include_str!("metrics.rs");
        for line in core.metrics.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(source.contains(&format!("//! | `{name}` | {kind} |")), "{line}");
        }
    }
}
