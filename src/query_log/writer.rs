//! The thread that formats entries and passes them to the sinks.

use super::{
    DNSTAP, QueryLog,
    dnstap::Encoder,
    entry::{Entry, drain},
    events::Events,
    json::Formatter,
    sink::{Batch, Counts, Output, Sink},
    stream::{Peer, Stream},
};
use crate::{
    config::Dnstap,
    manifest::{QueryLogConfig, problem::printable},
    snapshot::published::Published,
    snapshot::{
        Snapshot,
        query_logs::{Configured, QueryLogs, SLOTS},
    },
};
use prometheus::{IntCounter, IntGauge};
use rtrb::Consumer;
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::watch};

/// The time that the writer sleeps when the rings are empty.
const IDLE_SLEEP: Duration = Duration::from_millis(5);
/// After this number of sleeps without an entry, the next entry wakes the writer. By then, no batch waits.
const MAX_SLEEPS: u32 = 20;
/// The maximum time until a parked writer follows a new snapshot, or finds an entry that did not wake it.
const MAX_PARKED: Duration = Duration::from_millis(250);
/// A batch goes to its sink when it has this many octets,
const BATCH_OCTETS: usize = 1 << 17;
/// or when its first entry is this old.
const MAX_BATCH_AGE: Duration = Duration::from_millis(50);
/// The maximum time that the sinks have for their last batches at the end.
const STOP_TIMEOUT: Duration = Duration::from_millis(900);

/// The outcomes of entries, as metric labels.
const OUTCOMES: [&str; 4] = ["written", "dropped", "over_rate", "not_allowed"];

/// An active query log.
struct Log {
    id: String,
    since: u64,
    resource: Arc<QueryLogConfig>,
    /// None if the configuration of the node does not allow the destination, or if the sink could not start.
    sink: Option<Sink>,
    batch: Batch,
    /// The time of the first entry in the batch.
    begun: Instant,
    /// The start of the current second, and the number of entries in it.
    second: (Instant, u32),
    lost: IntCounter,
    over_rate: IntCounter,
    not_allowed: IntCounter,
}

/// A dnstap stream.
struct DnstapStream {
    encoder: Encoder,
    sink: Sink,
    batch: Batch,
    begun: Instant,
    lost: IntCounter,
}

struct Writer {
    log: Arc<QueryLog>,
    snapshot: Published,
    /// The configuration of the active logs.
    logs_of: Option<Arc<QueryLogs>>,
    generation: u64,
    directory: PathBuf,
    logs: Vec<Option<Log>>,
    dnstap_stream: Option<DnstapStream>,
    events: Option<Events>,
    formatter: Formatter,
    alive: Sender<()>,
}

/// The running writer.
pub struct RunningWriter {
    log: Arc<QueryLog>,
    thread: JoinHandle<()>,
    ended: Receiver<()>,
    wake: Arc<tokio::sync::Notify>,
}

impl RunningWriter {
    /// Starts the writer. Files are below `directory`. DNS Firewall events go to `events`. The writer follows the snapshot when `generations` changes.
    pub fn start(
        log: &Arc<QueryLog>,
        snapshot: &Published,
        directory: Option<PathBuf>,
        dnstap: Option<(&Dnstap, Vec<u8>)>,
        events: Option<Events>,
        mut generations: watch::Receiver<u64>,
        runtime: &Handle,
    ) -> io::Result<RunningWriter> {
        let (alive, ended) = channel();
        let dnstap_stream =
            dnstap.map(|(dnstap, identity)| DnstapStream::start(log, dnstap, identity, alive.clone())).transpose()?;
        let mut writer = Writer {
            log: log.clone(),
            snapshot: snapshot.clone(),
            logs_of: None,
            generation: 0,
            directory: directory.unwrap_or_default(),
            logs: (0..SLOTS).map(|_| None).collect(),
            dnstap_stream,
            events,
            formatter: Formatter::default(),
            alive,
        };
        let wake = Arc::new(tokio::sync::Notify::new());
        let (runtime, woken) = (runtime.clone(), wake.clone());
        let thread = thread::Builder::new().name("query-log".into()).spawn(move || {
            writer.run(|| {
                runtime.block_on(async {
                    tokio::select! {
                        _ = generations.changed() => {}
                        () = woken.notified() => {}
                    }
                });
            });
        })?;
        Ok(RunningWriter { log: log.clone(), thread, ended, wake })
    }

    /// Stops the writer. Entries that were logged are written, if the sinks take them within [`STOP_TIMEOUT`].
    pub fn stop(self) {
        self.log.stop.store(true, Relaxed);
        self.wake.notify_one();
        self.log.wake.wake();
        let _ = self.thread.join();
        // Nothing is ever sent: the channel closes when the last sink ends.
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}

impl DnstapStream {
    fn start(log: &QueryLog, dnstap: &Dnstap, identity: Vec<u8>, alive: Sender<()>) -> io::Result<DnstapStream> {
        let peer = match (&dnstap.unix, dnstap.tcp) {
            (Some(path), _) => Peer::Unix(path.clone()),
            (None, Some(address)) => Peer::Tcp(address.to_string()),
            (None, None) => return Err(io::Error::other("`dnstap` has neither `unix` nor `tcp`")),
        };
        let [written, dropped] = ["written", "dropped"].map(|outcome| log.messages.with_label_values(&[outcome]));
        let failed = IntGauge::new("failed", "failed").map_err(io::Error::other)?;
        let counts = Counts { written, dropped: dropped.clone(), failed };
        let output = Output::Stream(Stream::new(peer, true));
        Ok(DnstapStream {
            encoder: Encoder { identity },
            sink: Sink::start("dnstap".into(), output, counts, alive)?,
            batch: Batch::default(),
            begun: Instant::now(),
            lost: dropped,
        })
    }
}

impl Log {
    fn start(configured: &Configured, writer: &Writer) -> Log {
        let Configured { id, resource, since, is_allowed } = configured;
        let [written, lost, over_rate, not_allowed] =
            OUTCOMES.map(|outcome| writer.log.entries.with_label_values(&[id.as_str(), outcome]));
        let counts = Counts { written, dropped: lost.clone(), failed: writer.log.failed.with_label_values(&[id]) };
        let start = || {
            let output = Output::new(&resource.destination, &writer.directory)?;
            Sink::start(id.to_string(), output, counts.clone(), writer.alive.clone())
        };
        let sink = is_allowed.then(start).and_then(|sink| {
            sink.inspect_err(|error| tracing::warn!(log = %printable(id), %error, "query log output not started")).ok()
        });
        counts.failed.set(sink.is_none().into());
        let (id, since, resource, now) = (id.clone(), *since, resource.clone(), Instant::now());
        Log {
            id,
            since,
            resource,
            sink,
            batch: Batch::default(),
            begun: now,
            second: (now, 0),
            lost,
            over_rate,
            not_allowed,
        }
    }

    /// Whether the log keeps its sink under a changed configuration.
    fn continues_as(&self, configured: &Configured) -> bool {
        self.id == configured.id
            && self.since == configured.since
            && self.sink.is_some() == configured.is_allowed
            && self.resource.destination == configured.resource.destination
    }

    fn take(&mut self, entry: &Entry, formatter: &mut Formatter, now: Instant) {
        let Some(sink) = &self.sink else { return self.not_allowed.inc() };
        if let Some(max_per_second) = self.resource.max_per_second {
            if now.saturating_duration_since(self.second.0) >= Duration::from_secs(1) {
                self.second = (now, 0);
            }
            if self.second.1 >= max_per_second {
                return self.over_rate.inc();
            }
            self.second.1 += 1;
        }
        if self.batch.entries == 0 {
            self.begun = now;
        }
        if formatter.line(entry, self.resource.client_address, &mut self.batch.octets) {
            self.batch.entries += 1;
        }
        if self.batch.octets.len() >= BATCH_OCTETS {
            sink.write(&mut self.batch);
        }
    }
}

impl Writer {
    /// Writes until the stop. `sleep` returns when the snapshot may have changed.
    fn run(&mut self, mut sleep: impl FnMut()) {
        let (mut rings, mut scratch): (Vec<Consumer<u8>>, Vec<u8>) = Default::default();
        let mut sleeps = 0;
        loop {
            let is_last = self.log.stop.load(Relaxed);
            self.follow();
            rings.append(&mut self.log.rings.lock().unwrap_or_else(PoisonError::into_inner));
            let mut count = 0;
            for ring in &mut rings {
                let now = Instant::now();
                count += drain(ring, &mut scratch, |entry| self.take(entry, now));
            }
            rings.retain(|ring| !ring.is_abandoned() || !ring.is_empty());
            self.count_lost();
            self.flush(is_last && count == 0);
            match (count, is_last) {
                (0, true) => return,
                (0, false) if self.is_idle() => sleep(),
                (0, false) if sleeps < MAX_SLEEPS => {
                    sleeps += 1;
                    thread::sleep(IDLE_SLEEP);
                }
                (0, false) => {
                    let has_work = || self.log.stop.load(Relaxed) || rings.iter().any(|ring| !ring.is_empty());
                    self.log.wake.park(MAX_PARKED, has_work);
                }
                _ => sleeps = 0,
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.dnstap_stream.is_none() && self.events.is_none() && self.logs.iter().all(Option::is_none)
    }

    fn take(&mut self, entry: &Entry, now: Instant) {
        if entry.generation > self.generation {
            // A newer snapshot is served already.
            self.follow();
        }
        let mut slots = entry.slots & !DNSTAP;
        while slots != 0 {
            let slot = slots.trailing_zeros() as usize;
            slots &= slots - 1;
            // An entry from before the slot belonged to this log is dropped.
            if let Some(log) = self.logs[slot].as_mut().filter(|log| entry.generation >= log.since) {
                log.take(entry, &mut self.formatter, now);
            }
        }
        if let Some(events) = self.events.as_mut().filter(|_| !entry.firewall.is_empty()) {
            events.take(entry, &mut self.formatter, now);
        }
        if let Some(dnstap_stream) = self.dnstap_stream.as_mut().filter(|_| entry.slots & DNSTAP != 0) {
            if dnstap_stream.batch.entries == 0 {
                dnstap_stream.begun = now;
            }
            dnstap_stream.batch.entries += dnstap_stream.encoder.frames(entry, &mut dnstap_stream.batch.octets);
            if dnstap_stream.batch.octets.len() >= BATCH_OCTETS {
                dnstap_stream.sink.write(&mut dnstap_stream.batch);
            }
        }
    }

    /// Passes batches that are old enough to their sinks; with `all`, all batches.
    fn flush(&mut self, all: bool) {
        let is_due = |batch: &Batch, begun: Instant| batch.entries > 0 && (all || begun.elapsed() >= MAX_BATCH_AGE);
        let reopen = self.log.reopen.swap(false, Relaxed);
        for log in self.logs.iter_mut().flatten() {
            let Some(sink) = &log.sink else { continue };
            if is_due(&log.batch, log.begun) {
                sink.write(&mut log.batch);
            }
            if reopen {
                sink.reopen();
            }
        }
        if let Some(dnstap_stream) =
            self.dnstap_stream.as_mut().filter(|dnstap_stream| is_due(&dnstap_stream.batch, dnstap_stream.begun))
        {
            dnstap_stream.sink.write(&mut dnstap_stream.batch);
        }
    }

    fn count_lost(&mut self) {
        let dnstap_lost = self.dnstap_stream.as_ref().map(|dnstap_stream| &dnstap_stream.lost);
        let counters = self.logs.iter().map(|log| log.as_ref().map(|log| &log.lost)).chain([dnstap_lost]);
        for (lost, counter) in self.log.lost.iter().zip(counters) {
            if lost.load(Relaxed) > 0 {
                let lost = lost.swap(0, Relaxed);
                counter.into_iter().for_each(|counter| counter.inc_by(lost));
            }
        }
    }

    /// Follows the current snapshot: starts, changes and ends logs.
    fn follow(&mut self) {
        let snapshot = self.snapshot.load();
        let snapshot: &Snapshot = &snapshot;
        self.generation = snapshot.generation;
        let new = &snapshot.query_logs;
        if self.logs_of.as_ref().is_some_and(|old| Arc::ptr_eq(old, new)) {
            return;
        }
        self.logs_of = Some(new.clone());
        for slot in 0..self.logs.len() {
            let configured = new.slots.get(slot).and_then(Option::as_ref);
            match (self.logs[slot].take(), configured) {
                (Some(mut log), Some(configured)) if log.continues_as(configured) => {
                    log.resource = configured.resource.clone();
                    self.logs[slot] = Some(log);
                }
                (old, configured) => {
                    if let Some(log) = old {
                        let starts_again = configured.is_some_and(|configured| configured.id == log.id);
                        self.end(log, starts_again);
                    }
                    self.logs[slot] = configured.map(|configured| Log::start(configured, self));
                }
            }
        }
    }

    /// Ends a log, and writes its last batch. Removes its metrics, unless it starts again.
    fn end(&self, mut log: Log, starts_again: bool) {
        if let Some(sink) = log.sink.take().filter(|_| log.batch.entries > 0) {
            sink.write(&mut log.batch);
        }
        if !starts_again {
            for outcome in OUTCOMES {
                let _ = self.log.entries.remove_label_values(&[&log.id, outcome]);
            }
            let _ = self.log.failed.remove_label_values(&[&log.id]);
        }
    }
}
