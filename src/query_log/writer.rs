//! The thread that makes text of entries and hands it to the sinks.

use super::{
    DNSTAP, QueryLog,
    dnstap::Sender as Tapper,
    entry::{Entry, drain},
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

/// How long the writer sleeps when nothing is there.
const NAP: Duration = Duration::from_millis(5);
/// A batch is handed over when it has as many octets,
const BATCH_SIZE: usize = 1 << 17;
/// or has waited for so long.
const BATCH_TIME: Duration = Duration::from_millis(50);
/// How long sinks may take for the rest at the end.
const END: Duration = Duration::from_millis(900);

/// What becomes of entries, as the metrics call it.
const OUTCOMES: [&str; 4] = ["written", "dropped", "over_rate", "not_allowed"];

/// A log that is written.
struct Log {
    id: String,
    since: u64,
    resource: Arc<QueryLogConfig>,
    /// None where the node does not allow it, or it could not be started.
    sink: Option<Sink>,
    batch: Batch,
    /// When the first entry came into the batch.
    begun: Instant,
    /// Entries of the second that began then.
    second: (Instant, u32),
    lost: IntCounter,
    over_rate: IntCounter,
    not_allowed: IntCounter,
}

/// A dnstap stream.
struct Tap {
    tapper: Tapper,
    sink: Sink,
    batch: Batch,
    begun: Instant,
    lost: IntCounter,
}

struct Writer {
    log: Arc<QueryLog>,
    snapshot: Published,
    /// What the logs were made from.
    logs_of: Option<Arc<QueryLogs>>,
    generation: u64,
    directory: PathBuf,
    logs: Vec<Option<Log>>,
    tap: Option<Tap>,
    formatter: Formatter,
    alive: Sender<()>,
}

/// The writer, as long as it runs.
pub struct Running {
    log: Arc<QueryLog>,
    thread: JoinHandle<()>,
    ended: Receiver<()>,
    wake: Arc<tokio::sync::Notify>,
}

impl Running {
    /// Starts the writer. Files are below `directory`; what is served is told anew by `generations`.
    pub fn start(
        log: &Arc<QueryLog>,
        snapshot: &Published,
        directory: Option<PathBuf>,
        dnstap: Option<(&Dnstap, Vec<u8>)>,
        mut generations: watch::Receiver<u64>,
        runtime: &Handle,
    ) -> io::Result<Running> {
        let (alive, ended) = channel();
        let tap = dnstap.map(|(dnstap, identity)| Tap::start(log, dnstap, identity, alive.clone())).transpose()?;
        let mut writer = Writer {
            log: log.clone(),
            snapshot: snapshot.clone(),
            logs_of: None,
            generation: 0,
            directory: directory.unwrap_or_default(),
            logs: (0..SLOTS).map(|_| None).collect(),
            tap,
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
        Ok(Running { log: log.clone(), thread, ended, wake })
    }

    /// Has all written that was logged, as far as the sinks take it in time.
    pub fn stop(self) {
        self.log.stop.store(true, Relaxed);
        self.wake.notify_one();
        let _ = self.thread.join();
        // Nobody sends: it ends when the last sink does.
        let _ = self.ended.recv_timeout(END);
    }
}

impl Tap {
    fn start(log: &QueryLog, dnstap: &Dnstap, identity: Vec<u8>, alive: Sender<()>) -> io::Result<Tap> {
        let peer = match (&dnstap.unix, dnstap.tcp) {
            (Some(path), _) => Peer::Unix(path.clone()),
            (None, Some(address)) => Peer::Tcp(address.to_string()),
            (None, None) => return Err(io::Error::other("`dnstap` has neither `unix` nor `tcp`")),
        };
        let [written, dropped] = ["written", "dropped"].map(|outcome| log.messages.with_label_values(&[outcome]));
        let failed = IntGauge::new("failed", "failed").map_err(io::Error::other)?;
        let counts = Counts { written, dropped: dropped.clone(), failed };
        let output = Output::Stream(Stream::new(peer, true));
        Ok(Tap {
            tapper: Tapper { identity },
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

    /// Whether it goes on as it is, but maybe for what does not concern its sink.
    fn is_still(&self, configured: &Configured) -> bool {
        self.id == configured.id
            && self.since == configured.since
            && self.sink.is_some() == configured.is_allowed
            && self.resource.destination == configured.resource.destination
    }

    fn take(&mut self, entry: &Entry, formatter: &mut Formatter, now: Instant) {
        let Some(sink) = &self.sink else { return self.not_allowed.inc() };
        if let Some(most) = self.resource.max_per_second {
            if now.saturating_duration_since(self.second.0) >= Duration::from_secs(1) {
                self.second = (now, 0);
            }
            if self.second.1 >= most {
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
        if self.batch.octets.len() >= BATCH_SIZE {
            sink.write(&mut self.batch);
        }
    }
}

impl Writer {
    /// Writes until it is told to stop. `sleep` returns when something else may be served.
    fn run(&mut self, mut sleep: impl FnMut()) {
        let (mut rings, mut scratch): (Vec<Consumer<u8>>, Vec<u8>) = Default::default();
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
            self.hand_over(is_last && count == 0);
            match (count, is_last) {
                (0, true) => return,
                (0, false) if self.is_idle() => sleep(),
                (0, false) => thread::sleep(NAP),
                _ => {}
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.tap.is_none() && self.logs.iter().all(Option::is_none)
    }

    fn take(&mut self, entry: &Entry, now: Instant) {
        if entry.generation > self.generation {
            // It is served already.
            self.follow();
        }
        let mut slots = entry.slots & !DNSTAP;
        while slots != 0 {
            let slot = slots.trailing_zeros() as usize;
            slots &= slots - 1;
            // What was logged before the slot was given to another one is for nobody any more.
            if let Some(log) = self.logs[slot].as_mut().filter(|log| entry.generation >= log.since) {
                log.take(entry, &mut self.formatter, now);
            }
        }
        if let Some(tap) = self.tap.as_mut().filter(|_| entry.slots & DNSTAP != 0) {
            if tap.batch.entries == 0 {
                tap.begun = now;
            }
            tap.batch.entries += tap.tapper.frames(entry, &mut tap.batch.octets);
            if tap.batch.octets.len() >= BATCH_SIZE {
                tap.sink.write(&mut tap.batch);
            }
        }
    }

    /// Hands over what has waited long enough.
    fn hand_over(&mut self, all: bool) {
        let is_due = |batch: &Batch, begun: Instant| batch.entries > 0 && (all || begun.elapsed() >= BATCH_TIME);
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
        if let Some(tap) = self.tap.as_mut().filter(|tap| is_due(&tap.batch, tap.begun)) {
            tap.sink.write(&mut tap.batch);
        }
    }

    fn count_lost(&mut self) {
        let taps = self.tap.as_ref().map(|tap| &tap.lost);
        let counters = self.logs.iter().map(|log| log.as_ref().map(|log| &log.lost)).chain([taps]);
        for (lost, counter) in self.log.lost.iter().zip(counters) {
            if lost.load(Relaxed) > 0 {
                let lost = lost.swap(0, Relaxed);
                counter.into_iter().for_each(|counter| counter.inc_by(lost));
            }
        }
    }

    /// Follows what is served: logs begin, change and end.
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
                (Some(mut log), Some(configured)) if log.is_still(configured) => {
                    log.resource = configured.resource.clone();
                    self.logs[slot] = Some(log);
                }
                (old, configured) => {
                    if let Some(log) = old {
                        let begins_anew = configured.is_some_and(|configured| configured.id == log.id);
                        self.end(log, begins_anew);
                    }
                    self.logs[slot] = configured.map(|configured| Log::start(configured, self));
                }
            }
        }
    }

    /// Ends a log, what it has gathered being written. Unless it begins anew, it is in no metric any more.
    fn end(&self, mut log: Log, begins_anew: bool) {
        if let Some(sink) = log.sink.take().filter(|_| log.batch.entries > 0) {
            sink.write(&mut log.batch);
        }
        if !begins_anew {
            for outcome in OUTCOMES {
                let _ = self.log.entries.remove_label_values(&[&log.id, outcome]);
            }
            let _ = self.log.failed.remove_label_values(&[&log.id]);
        }
    }
}
