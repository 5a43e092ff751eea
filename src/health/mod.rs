//! Health checks: sends requests to the targets of the snapshot, and writes the verdicts for
//! answers.
//!
//! One thread with its own runtime does all the work, so no query waits for a check. Answers read
//! one [`Verdict`](crate::snapshot::health::Verdict) per target, and share nothing else with this
//! thread.
//!
//! ```text
//! snapshot --targets--> schedule --due--> probe --outcome--> history --change--> isolation --> verdict --> answers
//!                          ^                                                                     |
//!            /v1/health: force, report                                               store (state directory)
//! ```
//!
//! - `schedule` decides when to check each target, and how many at once.
//! - `timers` has the actions that are due later.
//! - `check` finds the address of a target for an attempt.
//! - `probe` makes one attempt: TCP, HTTP or HTTPS.
//! - `history` derives a state from the attempts at one target: thresholds, flapping.
//! - `isolation` distinguishes an isolated node from unhealthy targets.
//! - `fleet` has the verdicts of other nodes, if nodes share them.
//! - `store` keeps states and forced verdicts over a restart.
//! - `counters` holds the metrics.

mod check;
pub mod counters;
pub mod fleet;
mod history;
mod isolation;
pub mod probe;
mod schedule;
mod store;
mod timers;

use crate::{forward::Forwarding, snapshot::health::TargetId};
use anyhow::Context;
use counters::Counters;
use fleet::FleetMessage;
use probe::LazyTls;
use schedule::Schedule;
use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};
use store::Store;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};

/// Longest time for which a verdict can be forced.
pub const MAX_FORCED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Settings of the health checks on this node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Maximum number of concurrent attempts.
    pub max_in_flight: usize,
    /// Time for which an isolated node keeps its verdicts. After that, every target counts as
    /// healthy.
    pub freeze_for: Duration,
    /// PEM file of certificate authorities, in addition to those of the system.
    pub authorities: Option<PathBuf>,
    /// Directory for states and forced verdicts. Without it, a restart loses them.
    pub state_directory: Option<PathBuf>,
    /// Share of the nodes that must see a target healthy, if nodes share their verdicts.
    pub quorum: f64,
    /// AZ ID of this node. Without it, the AZ of the subnet with one of `addresses`.
    pub availability_zone_id: Option<String>,
    /// Addresses of this node.
    pub addresses: Vec<IpAddr>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_in_flight: 256,
            freeze_for: Duration::from_secs(600),
            authorities: None,
            state_directory: None,
            quorum: 0.18,
            availability_zone_id: None,
            addresses: Vec::new(),
        }
    }
}

/// Handle of the health check thread.
#[derive(Debug)]
pub struct Health {
    commands: mpsc::UnboundedSender<Command>,
    /// Start of the isolation, in seconds since 1970; 0 if the node is not isolated.
    isolated_since: AtomicI64,
    /// Number that rises with each change of this node's own verdicts.
    own_changes: watch::Sender<u64>,
    /// Metrics of the health checks.
    pub counters: Counters,
}

/// A command to the health check thread.
#[derive(Debug)]
enum Command {
    /// Force a verdict until a time, in seconds since 1970. `None` ends a forced verdict.
    Force { id: TargetId, forced: Option<(bool, i64)>, reply: oneshot::Sender<Result<(), Refused>> },
    /// Report the health of an EXTERNAL check.
    Report { id: TargetId, is_healthy: bool, reply: oneshot::Sender<Result<(), Refused>> },
    /// Reports of EXTERNAL checks from the source of the manifest.
    Keys(Vec<(TargetId, Option<KeyReport>)>),
    /// Apply messages about nodes that share their verdicts.
    Fleet(Vec<FleetMessage>),
    /// Return this node's own verdicts.
    Own(oneshot::Sender<OwnVerdicts>),
    /// Write all states to the state directory, so that another process can read them, and end the thread.
    Stop(oneshot::Sender<()>),
}

/// Report of an EXTERNAL check in the source of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyReport {
    /// Whether the check is healthy.
    pub is_healthy: bool,
    /// Whether the report does not age, because it ends with the lease of its author.
    pub is_leased: bool,
}

/// This node's own verdicts, for other nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnVerdicts {
    /// AZ ID of the node.
    pub availability_zone_id: Option<String>,
    /// Verdicts of the targets that the node checks. An isolated node has none.
    pub verdicts: Vec<(TargetId, bool)>,
}

/// Reason why a command fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No target has the identifier.
    Unknown,
    /// The check is not of type EXTERNAL.
    NotExternal,
    /// The verdict cannot be written to the state directory.
    NotKept(String),
    /// The server is shutting down.
    Ending,
}

impl Health {
    /// Starts the health check thread.
    ///
    /// `generations` announces each new snapshot. Names of targets are resolved on `runtime`.
    ///
    /// # Errors
    /// The runtime or the thread cannot be started.
    pub fn start(
        settings: Settings,
        forwarding: &Arc<Forwarding>,
        generations: watch::Receiver<u64>,
        runtime: &Handle,
    ) -> anyhow::Result<Arc<Health>> {
        let (commands, received) = mpsc::unbounded_channel();
        let health = Arc::new(Health {
            commands,
            isolated_since: AtomicI64::new(0),
            own_changes: watch::channel(0).0,
            counters: Counters::default(),
        });
        let store = settings.state_directory.as_deref().map(Store::open);
        let context = schedule::Context {
            health: health.clone(),
            snapshot: forwarding.snapshot.clone(),
            forwarding: forwarding.clone(),
            resolving: runtime.clone(),
            tls: Arc::new(LazyTls::new(settings.authorities.clone())),
            settings,
        };
        // The first answers already follow the states of an earlier process.
        let mut schedule = Schedule::new(context, store);
        schedule.follow();
        let own = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("health".into())
            .spawn(move || own.block_on(schedule.run(received, generations)))
            .context("the thread of health checks cannot be started")?;
        Ok(health)
    }

    /// Forces a verdict until a time, in seconds since 1970. `None` ends a forced verdict.
    ///
    /// # Errors
    /// The target is unknown, the verdict cannot be stored, or the server is shutting down.
    pub async fn force(&self, id: TargetId, forced: Option<(bool, i64)>) -> Result<(), Refused> {
        self.ask(|reply| Command::Force { id, forced, reply }).await
    }

    /// Reports the health of an EXTERNAL check.
    ///
    /// # Errors
    /// The target is unknown or not of type EXTERNAL, or the server is shutting down.
    pub async fn report(&self, id: TargetId, is_healthy: bool) -> Result<(), Refused> {
        self.ask(|reply| Command::Report { id, is_healthy, reply }).await
    }

    /// Reports EXTERNAL checks from the source of the manifest. `None` withdraws a report. The checks may be unknown yet.
    pub fn report_keys(&self, reports: Vec<(TargetId, Option<KeyReport>)>) {
        // Sending fails if the thread has already ended.
        let _ = self.commands.send(Command::Keys(reports));
    }

    /// Applies messages about nodes that share their verdicts.
    pub fn apply_fleet(&self, messages: Vec<FleetMessage>) {
        let _ = self.commands.send(Command::Fleet(messages));
    }

    /// Announces changes of this node's own verdicts.
    pub fn own_changes(&self) -> watch::Receiver<u64> {
        self.own_changes.subscribe()
    }

    /// Returns this node's own verdicts. `None` if the server is shutting down.
    pub async fn own_verdicts(&self) -> Option<OwnVerdicts> {
        let (reply, verdicts) = oneshot::channel();
        self.commands.send(Command::Own(reply)).ok()?;
        verdicts.await.ok()
    }

    /// Ends all checks, and writes all states to the state directory, for a process that takes over. The verdicts do not
    /// change any more.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        // Sending fails if the thread has already ended.
        if self.commands.send(Command::Stop(reply)).is_ok() {
            let _ = done.await;
        }
        // The task that shares the verdicts of this node finds that they have ended.
        self.own_changes.send_modify(|number| *number += 1);
    }

    /// Start of the isolation, in seconds since 1970. `None` if the node is not isolated.
    pub fn isolated_since(&self) -> Option<i64> {
        Some(self.isolated_since.load(Relaxed)).filter(|since| *since > 0)
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Result<(), Refused>>) -> Command) -> Result<(), Refused> {
        let (reply, done) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| Refused::Ending)?;
        done.await.map_err(|_| Refused::Ending)?
    }
}
