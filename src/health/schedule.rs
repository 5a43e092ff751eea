//! Decides when to check each target, and applies the results.
//!
//! One task owns all states. So only the reports, which other threads read, need a lock.
//!
//! Invariants:
//!
//! - At most one attempt per target is in progress, and at most `max_in_flight` in total.
//! - At most half of `max_in_flight` are attempts at targets whose last attempt timed out, or that
//!   have not answered yet. So targets that never answer do not delay the others, not even when a
//!   manifest adds thousands of them.

mod connects;
mod verdicts;

use super::{
    Command, Health, KeyReport, OwnVerdicts, Refused, Settings,
    check::{check, sources},
    fleet::{Fleet, FleetMessage, Touched},
    history::{Change, History},
    isolation::Isolation,
    probe::{LazyTls, Outcome},
    store::{Kept, Store},
    timers::Timers,
};
use crate::{
    clock::now,
    forward::Forwarding,
    manifest::{ProbeType, WhenStale},
    snapshot::{
        endpoints::Az,
        health::{
            Attempt, FleetReport, Forced, Probe, REMEMBERED_ATTEMPTS, State, Target, TargetId, Targets, Work, clients,
        },
        published::Published,
    },
};
use connects::Connects;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    time::sleep_until,
};

/// Shortest time between two writes of the file in the state directory.
const MIN_STORE_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two writes. It must be well below
/// [`store::MAX_AGE`](super::store::MAX_AGE).
const MAX_STORE_PAUSE: Duration = Duration::from_secs(60);
/// Random variation of each delay between attempts, in percent.
const JITTER_PERCENT: u32 = 10;
/// Lateness of a timer that isolates the node, if it is also longer than the target's interval.
const MIN_LATENESS: Duration = Duration::from_secs(1);
/// Time after which the schedule looks at connections in progress, at the next tick.
const MIN_CONNECT: Duration = Duration::from_millis(1);
/// Reason of an isolation in the log.
const ALL_FAILED: &str = "nearly all targets failed at once";
/// A delay that is longer than any timer.
const NEVER: Duration = Duration::from_secs(86_400);

/// Services that the schedule uses.
pub(super) struct Context {
    pub health: Arc<Health>,
    pub snapshot: Published,
    pub forwarding: Arc<Forwarding>,
    /// Runtime on which names are resolved.
    pub resolving: Handle,
    pub tls: Arc<LazyTls>,
    pub settings: Settings,
}

/// A target and its state.
struct Tracked {
    target: Arc<Target>,
    history: History,
    /// Last report for an EXTERNAL check.
    reported: Option<Reported>,
    /// Address of the last attempt.
    address: Option<IpAddr>,
    next: NextAttempt,
    /// Whether the last attempt timed out, or no process has made one yet.
    is_slow: bool,
}

/// The next attempt at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextAttempt {
    /// None is planned.
    Never,
    /// It is due at the tick with this time. An action of another tick is out of date.
    DueAt(Instant),
    /// It waits for a free slot.
    Waiting,
    /// It is in progress.
    Running,
}

/// A report for an EXTERNAL check.
#[derive(Clone, Copy, Debug)]
struct Reported {
    is_healthy: bool,
    /// The time of the report. `None` if the report was withdrawn: it is stale.
    at: Option<Instant>,
    /// Whether the report does not age.
    is_leased: bool,
}

/// An action that is due at a time.
#[derive(Debug)]
enum Due {
    /// Make an attempt at the target.
    Attempt(TargetId),
    /// Update the verdict because a forced verdict, a report or a freeze may have expired.
    Review(TargetId),
    /// Write the file in the state directory.
    Store,
    /// Take the attempts by TCP that have ended.
    Connects,
}

/// The result of a finished attempt.
struct Done {
    target: Arc<Target>,
    /// The class in which the attempt began.
    class: usize,
    address: Option<IpAddr>,
    outcome: Outcome,
}

pub(super) struct Schedule {
    context: Arc<Context>,
    store: Option<Store>,
    targets: Targets,
    tracked: HashMap<TargetId, Tracked>,
    /// CALCULATED checks, by the check that they count.
    parents: HashMap<TargetId, Vec<TargetId>>,
    timers: Timers<Due>,
    /// Targets whose attempt is due and waits for a free slot. The first queue has targets that
    /// answer in time, the second has all others.
    waiting: [VecDeque<TargetId>; 2],
    in_flight: [usize; 2],
    isolation: Isolation,
    /// Addresses and intervals of targets that had just turned unhealthy when an earlier process stored their states.
    just_failed: Vec<(IpAddr, Duration)>,
    /// Other nodes that share their verdicts.
    fleet: Fleet,
    /// AZ ID of this node, and its number.
    own_az: (Option<String>, Option<Az>),
    /// Reports of EXTERNAL checks in the source of the manifest. A check can come after its report.
    keys: HashMap<TargetId, Reported>,
    is_changed: bool,
    stored: Option<Instant>,
    /// Attempts without a task.
    connects: Connects,
    /// Attempts with a task send their results.
    ended: (mpsc::UnboundedSender<Done>, mpsc::UnboundedReceiver<Done>),
    /// Counter for pseudo-random numbers.
    draw: u32,
}

impl Schedule {
    pub(super) fn new(context: Context, store: Option<Store>) -> Schedule {
        Schedule {
            context: Arc::new(context),
            store,
            targets: Targets::default(),
            tracked: HashMap::new(),
            parents: HashMap::new(),
            timers: Timers::new(Instant::now()),
            waiting: Default::default(),
            in_flight: [0; 2],
            isolation: Isolation::default(),
            just_failed: Vec::new(),
            fleet: Fleet::default(),
            own_az: (None, None),
            keys: HashMap::new(),
            is_changed: false,
            stored: None,
            connects: Connects::default(),
            ended: mpsc::unbounded_channel(),
            draw: crate::clock::random_seed().0 as u32,
        }
    }

    /// Runs the checks until the handle stops them or is dropped, or the control plane ends.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut generations: watch::Receiver<u64>,
    ) {
        self.follow();
        loop {
            let next = self.timers.next().unwrap_or_else(|| Instant::now() + NEVER);
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None => return,
                    Some(command) => {
                        let is_last = matches!(command, Command::Stop(_));
                        self.obey(command);
                        if is_last {
                            return;
                        }
                    }
                },
                changed = generations.changed() => match changed {
                    Ok(()) => self.follow(),
                    // The control plane has ended. Its own thread logs this.
                    Err(_) => return,
                },
                Some(done) = self.ended.1.recv() => {
                    self.take(done);
                    while let Ok(done) = self.ended.1.try_recv() {
                        self.take(done);
                    }
                    self.start_waiting();
                }
                () = sleep_until(next.into()) => self.work(Instant::now()),
            }
        }
    }

    /// Applies the targets of the published snapshot.
    pub(super) fn follow(&mut self) {
        let snapshot = self.context.snapshot.load_full();
        self.find_azs(&snapshot);
        let targets = snapshot.health_targets.clone();
        if targets.is_same(&self.targets) {
            return;
        }
        let (instant, time) = (Instant::now(), now());
        let gone: Vec<TargetId> = self.tracked.keys().filter(|id| targets.get(id).is_none()).cloned().collect();
        gone.iter().for_each(|id| self.forget(id));
        for target in targets.iter() {
            match self.tracked.get_mut(&target.id) {
                Some(tracked) if Arc::ptr_eq(&tracked.target, target) => continue,
                Some(tracked) if tracked.target.verdict == target.verdict => tracked.target = target.clone(),
                Some(_) => {
                    self.forget(&target.id);
                    self.begin(target, instant, time);
                }
                None => self.begin(target, instant, time),
            }
            self.start_timer(target, instant);
        }
        self.parents.clear();
        for target in targets.iter() {
            let Work::Calculated { children, .. } = &target.work else { continue };
            for child in children {
                self.parents.entry(TargetId::Check(child.clone())).or_default().push(target.id.clone());
            }
        }
        if self.stored.is_none() {
            self.stored = Some(instant);
            self.timers.push(instant + MIN_STORE_PAUSE, Due::Store);
        }
        self.targets = targets;
        let all: Vec<TargetId> = self.tracked.keys().cloned().collect();
        self.review(all);
        let failed = std::mem::take(&mut self.just_failed);
        failed.iter().for_each(|_| self.isolation.is_healthy());
        let turn = |(address, interval): &(IpAddr, Duration)| self.isolation.has_turned(*address, *interval, instant);
        // All failures count, also those after the one that isolates the node.
        if failed.iter().map(turn).fold(false, |is_isolated, isolates| is_isolated | isolates) {
            self.freeze(ALL_FAILED);
        }
        self.context.health.counters.set_targets(self.tracked.len());
        self.announce();
    }

    /// Starts to track a target, with the state that an earlier process stored.
    fn begin(&mut self, target: &Arc<Target>, instant: Instant, time: i64) {
        let kept = self.store.as_mut().and_then(|store| store.found.remove(&target.id)).unwrap_or_default();
        let is_probe = matches!(target.work, Work::Probe(_));
        let recent = kept.state_at(time).filter(|_| is_probe);
        let (state, mut changes) = recent.map(|state| (state, kept.changes.clone())).unwrap_or_default();
        // After a pause of more than two intervals, the counts of attempts in a row begin again.
        if !matches!(&target.work, Work::Probe(probe) if time - kept.observed <= 2 * probe.interval.as_secs() as i64) {
            (changes.successes, changes.failures) = (0, 0);
        }
        let is_external = matches!(target.work, Work::External { .. });
        // The age of a report starts at zero after a restart.
        let known = State::of_word(&kept.state).filter(|state| is_external && *state != State::Unknown);
        let tracked = Tracked {
            target: target.clone(),
            history: History::restored(state, &changes, instant, time),
            reported: self.keys.get(&target.id).copied().filter(|_| is_external).or(known.map(|state| Reported {
                is_healthy: state == State::Healthy,
                at: Some(instant),
                is_leased: false,
            })),
            address: None,
            next: NextAttempt::Never,
            is_slow: state == State::Unknown,
        };
        if let Work::Probe(probe) = &target.work {
            let address = probe.question.address.unwrap_or(IpAddr::from([0; 4]));
            let is_recent = time - kept.since <= 2 * probe.interval.as_secs() as i64;
            match state {
                State::Healthy => self.isolation.is_healthy(),
                // The earlier process was in the middle of a failure, perhaps of its own network.
                State::Unhealthy if is_recent => self.just_failed.push((address, probe.interval)),
                _ => {}
            }
        }
        {
            let mut report = target.verdict.report();
            (report.state, report.since) = (state, if state == State::Unknown { 0 } else { kept.since });
            report.held_until = changes.held_until;
            report.forced = kept.forced_at(time);
            if let Some(forced) = report.forced {
                self.timers.push(after(instant, forced.until - time), Due::Review(target.id.clone()));
            }
        }
        if let (Work::External { stale_after: Some(age), .. }, Some(at)) =
            (&target.work, tracked.reported.and_then(|reported| reported.at))
        {
            self.timers.push(at + *age, Due::Review(target.id.clone()));
        }
        self.tracked.insert(target.id.clone(), tracked);
    }

    /// Schedules the first attempt at a random time within the interval, so that the attempts at
    /// many targets are evenly distributed.
    fn start_timer(&mut self, target: &Target, instant: Instant) {
        let Work::Probe(probe) = &target.work else { return };
        let first = probe.interval.mul_f64(self.chance());
        let Some(tracked) = self.tracked.get_mut(&target.id) else { return };
        // An attempt that waits or is in progress plans the next one.
        if !target.disabled && !matches!(tracked.next, NextAttempt::Waiting | NextAttempt::Running) {
            tracked.next = NextAttempt::DueAt(self.timers.push(instant + first, Due::Attempt(target.id.clone())));
        }
    }

    /// Returns a pseudo-random number from 0 to 1.
    fn chance(&mut self) -> f64 {
        self.draw = self.draw.wrapping_add(0x9e37_79b9);
        let mut x = self.draw;
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        f64::from(x ^ (x >> 16)) / f64::from(u32::MAX)
    }

    fn forget(&mut self, id: &TargetId) {
        let Some(tracked) = self.tracked.remove(id) else { return };
        if matches!(tracked.target.work, Work::Probe(_)) && tracked.history.state() == State::Healthy {
            self.isolation.is_gone();
        }
    }

    /// Runs all due actions.
    fn work(&mut self, instant: Instant) {
        while let Some((at, actions)) = self.timers.take_due(instant) {
            for due in actions {
                match due {
                    Due::Attempt(id) => self.wait_for_slot(id, at, instant),
                    Due::Review(id) => self.review(vec![id]),
                    Due::Store => self.store(),
                    Due::Connects => self.take_connects(instant),
                }
            }
        }
        self.start_waiting();
    }

    /// Queues a target whose attempt is due.
    fn wait_for_slot(&mut self, id: TargetId, at: Instant, instant: Instant) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let Work::Probe(probe) = &tracked.target.work else { return };
        if tracked.next != NextAttempt::DueAt(at) || tracked.target.disabled {
            return;
        }
        tracked.next = NextAttempt::Waiting;
        let is_late = instant - at > probe.interval.max(MIN_LATENESS);
        self.waiting[usize::from(tracked.is_slow)].push_back(id);
        if is_late && self.isolation.is_late(instant) {
            self.freeze("timers are late");
        }
    }

    /// Starts waiting attempts up to the limits.
    fn start_waiting(&mut self) {
        let limit = self.context.settings.max_in_flight.max(2);
        let limits = [limit, limit / 2];
        for class in [0, 1] {
            while self.in_flight[0] + self.in_flight[1] < limit && self.in_flight[class] < limits[class] {
                let Some(id) = self.waiting[class].pop_front() else { break };
                self.start(&id, class);
            }
        }
    }

    fn start(&mut self, id: &TargetId, class: usize) {
        let waits = |tracked: &&mut Tracked| tracked.next == NextAttempt::Waiting;
        let Some(tracked) = self.tracked.get_mut(id).filter(waits) else { return };
        tracked.next = NextAttempt::Running;
        self.in_flight[class] += 1;
        self.context.health.counters.attempts.inc();
        let (target, context, ended) = (tracked.target.clone(), self.context.clone(), self.ended.0.clone());
        if let Work::Probe(probe) = &target.work
            && probe.question.probe_type == ProbeType::Tcp
            && let Some(address) = probe.question.address
        {
            return self.connect(&target, class, probe, address);
        }
        tokio::spawn(async move {
            let Work::Probe(probe) = &target.work else { return };
            let (address, outcome) = check(&context, probe).await;
            // Sending fails if the schedule has ended.
            let _ = ended.send(Done { target, class, address, outcome });
        });
    }

    /// Makes an attempt by TCP without a task.
    fn connect(&mut self, target: &Arc<Target>, class: usize, probe: &Probe, address: IpAddr) {
        let (instant, is_first) = (Instant::now(), self.connects.is_empty());
        let begun = sources(&self.context, probe, address)
            .map(|sources| self.connects.begin((target, class), probe, (address, &sources), instant));
        let ended = match begun {
            Ok(None) => {
                if is_first {
                    self.timers.push(instant + MIN_CONNECT, Due::Connects);
                }
                return;
            }
            Ok(Some(outcome)) | Err(outcome) => outcome,
        };
        let done = Done { target: target.clone(), class, address: Some(address), outcome: ended };
        // The schedule itself receives it.
        let _ = self.ended.0.send(done);
    }

    /// Applies the outcomes of the attempts by TCP that have ended.
    fn take_connects(&mut self, instant: Instant) {
        self.connects.take_ended(instant).into_iter().for_each(|done| self.take(done));
        if !self.connects.is_empty() {
            self.timers.push(instant + MIN_CONNECT, Due::Connects);
        }
    }

    /// Applies the outcome of an attempt, and frees its slot.
    fn take(&mut self, done: Done) {
        self.in_flight[done.class] -= 1;
        let (instant, time) = (Instant::now(), now());
        let id = &done.target.id;
        // The outcome at a target that has changed belongs to the old question.
        let is_same = |tracked: &&mut Tracked| tracked.target.verdict == done.target.verdict;
        let Some(tracked) = self.tracked.get_mut(id).filter(is_same) else { return };
        let target = tracked.target.clone();
        let Work::Probe(probe) = &target.work else { return };
        tracked.is_slow = done.outcome.is_slow;
        let is_success = done.outcome.is_success != target.inverted;
        let before = tracked.history.state();
        let change = tracked.history.observe(is_success, probe, instant);
        let state = tracked.history.state();
        tracked.address = done.address.or(tracked.address);
        let (address, held) = (tracked.address, tracked.history.held_until());
        {
            let mut report = target.verdict.report();
            report.attempts.insert(0, Attempt { at: time, is_success, result: done.outcome.result });
            report.attempts.truncate(REMEMBERED_ATTEMPTS);
            report.state = state;
            // An expired certificate ends the attempt before it is known.
            report.certificate_expiry = done.outcome.certificate_expiry.or(report.certificate_expiry);
            report.held_until = held.map(|until| time + until.saturating_duration_since(instant).as_secs() as i64);
            if before != state {
                report.since = time;
            }
        }
        self.context.health.counters.ended(is_success);
        match change {
            Change::None => {}
            Change::Healthy => {
                self.isolation.is_healthy();
                tracing::info!(check = %id, "target healthy");
            }
            Change::Unhealthy | Change::Held => {
                match change {
                    Change::Held => tracing::warn!(check = %id, "target flapping"),
                    _ => tracing::warn!(check = %id, "target unhealthy"),
                }
                let address = address.unwrap_or(IpAddr::from([0; 4]));
                if self.isolation.has_turned(address, probe.interval, instant) {
                    self.freeze(ALL_FAILED);
                }
            }
        }
        if change != Change::None {
            self.is_changed = true;
            self.store_soon(instant);
            self.announce();
            self.review(vec![id.clone()]);
        }
        if self.isolation.thaw() {
            self.thaw();
        }
        self.plan_attempt(id, probe, instant);
    }

    /// Plans the attempt after one that has ended at `instant`.
    fn plan_attempt(&mut self, id: &TargetId, probe: &Probe, instant: Instant) {
        let jitter = 1.0 + f64::from(JITTER_PERCENT) / 100.0 * (2.0 * self.chance() - 1.0);
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        let at = instant + tracked.history.delay(probe).mul_f64(jitter);
        tracked.next = match tracked.target.disabled {
            true => NextAttempt::Never,
            false => NextAttempt::DueAt(self.timers.push(at, Due::Attempt(id.clone()))),
        };
    }

    fn freeze(&mut self, reason: &'static str) {
        tracing::warn!(reason, "node isolated");
        self.context.health.isolated_since.store(now(), Relaxed);
        self.context.health.counters.isolated.set(1);
        self.announce();
        let ends = Instant::now() + self.context.settings.freeze_for;
        let time = now();
        for (id, tracked) in &self.tracked {
            let Work::Probe(probe) = &tracked.target.work else { continue };
            let mut report = tracked.target.verdict.report();
            report.is_frozen = true;
            // Targets that turned unhealthy together with the others become healthy again.
            let window = 2 * probe.interval.as_secs() as i64 + 1;
            let has_turned = report.state == State::Unhealthy && report.since >= time - window;
            if has_turned && report.forced.is_none() {
                tracked.target.verdict.set(true);
            }
            self.timers.push(ends, Due::Review(id.clone()));
        }
        self.settle(self.tracked.keys().cloned().collect());
    }

    fn thaw(&mut self) {
        tracing::info!("node no longer isolated");
        self.context.health.isolated_since.store(0, Relaxed);
        self.context.health.counters.isolated.set(0);
        self.announce();
        let all: Vec<TargetId> = self.tracked.keys().cloned().collect();
        for tracked in self.tracked.values() {
            tracked.target.verdict.report().is_frozen = false;
        }
        self.review(all);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Force { id, forced, reply } => {
                let _ = reply.send(self.force(&id, forced));
            }
            Command::Report { id, is_healthy, reply } => {
                let _ = reply.send(self.report(&id, is_healthy));
            }
            Command::Keys(reports) => reports.into_iter().for_each(|(id, report)| self.take_key(id, report)),
            Command::Fleet(messages) => self.take_messages(messages),
            Command::Own(reply) => drop(reply.send(self.own_verdicts())),
            Command::Stop(done) => {
                if let Err(error) = self.write() {
                    tracing::error!(%error, "health states not written");
                }
                let _ = done.send(());
            }
        }
    }

    fn force(&mut self, id: &TargetId, forced: Option<(bool, i64)>) -> Result<(), Refused> {
        let tracked = self.tracked.get(id).ok_or(Refused::Unknown)?;
        let forced = forced.map(|(is_healthy, until)| Forced { is_healthy, until });
        let before = std::mem::replace(&mut tracked.target.verdict.report().forced, forced);
        // The verdict is written to the file before the command is acknowledged.
        if let Err(error) = self.write() {
            if let Some(tracked) = self.tracked.get(id) {
                tracked.target.verdict.report().forced = before;
            }
            return Err(Refused::NotKept(error.to_string()));
        }
        if let Some(forced) = forced {
            let ends = after(Instant::now(), forced.until - now());
            self.timers.push(ends, Due::Review(id.clone()));
        }
        let word = forced.map_or("none", |forced| state_of(forced.is_healthy).word());
        tracing::info!(check = %id, forced = word, "verdict forced");
        self.review(vec![id.clone()]);
        Ok(())
    }

    fn report(&mut self, id: &TargetId, is_healthy: bool) -> Result<(), Refused> {
        let instant = Instant::now();
        let tracked = self.tracked.get(id).ok_or(Refused::Unknown)?;
        let Work::External { .. } = &tracked.target.work else { return Err(Refused::NotExternal) };
        self.take_report(id, Reported { is_healthy, at: Some(instant), is_leased: false }, "reported");
        Ok(())
    }

    /// Schedules a write of the file as soon as `MIN_STORE_PAUSE` allows.
    fn store_soon(&mut self, instant: Instant) {
        if self.store.is_none() {
            return;
        }
        let last = self.stored.unwrap_or(instant);
        self.timers.push((last + MIN_STORE_PAUSE).max(instant), Due::Store);
    }

    fn store(&mut self) {
        let instant = Instant::now();
        let is_due = self.stored.is_none_or(|stored| instant >= stored + MAX_STORE_PAUSE);
        if (!self.is_changed && !is_due) || self.tracked.is_empty() || self.store.is_none() {
            return;
        }
        if let Err(error) = self.write() {
            tracing::error!(%error, "health states not written");
        }
        self.timers.push(instant + MAX_STORE_PAUSE, Due::Store);
    }

    /// Writes the file now.
    fn write(&mut self) -> std::io::Result<()> {
        (self.stored, self.is_changed) = (Some(Instant::now()), false);
        let Some(store) = &self.store else { return Ok(()) };
        let (instant, time) = (Instant::now(), now());
        let mut all: BTreeMap<String, Kept> = BTreeMap::new();
        for (id, tracked) in &self.tracked {
            let report = tracked.target.verdict.report();
            let state = match (&tracked.target.work, tracked.reported) {
                (Work::External { .. }, reported) => reported.map(|reported| state_of(reported.is_healthy)),
                // The next process begins with the verdicts that an isolated node keeps.
                (Work::Probe(_), _)
                    if self.isolation.is_frozen() && report.state == State::Unhealthy && report.forced.is_none() =>
                {
                    Some(state_of(tracked.target.verdict.is_healthy()))
                }
                _ => Some(report.state),
            };
            let kept = Kept {
                state: state.unwrap_or_default().word().into(),
                since: report.since,
                observed: time,
                forced: report.forced.map(|forced| (forced.is_healthy, forced.until)),
                changes: tracked.history.kept_changes(instant, time),
            };
            if kept.state != State::Unknown.word() || kept.forced.is_some() || !kept.changes.is_empty() {
                all.insert(id.to_string(), kept);
            }
        }
        store.write(&all)
    }
}

fn state_of(is_healthy: bool) -> State {
    if is_healthy { State::Healthy } else { State::Unhealthy }
}

/// Returns the time `seconds` after `instant`.
fn after(instant: Instant, seconds: i64) -> Instant {
    instant + Duration::from_secs(seconds.clamp(0, NEVER.as_secs() as i64) as u64)
}
