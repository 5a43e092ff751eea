//! Health checks: asks the targets of the snapshot, and writes the verdicts that answers read.
//!
//! One thread with a runtime of its own does all of it, so that no query waits for a check. Answers read one word for each
//! target ([`Verdict`](crate::snapshot::health::Verdict)); nothing else is shared with them.
//!
//! ```text
//! snapshot --targets--> schedule --due--> probe --outcome--> history --change--> isolation --> verdict --> answers
//!                          ^                                                                     |
//!            /v1/health: force, report                                               store (state directory)
//! ```
//!
//! - `schedule` decides when each target is asked, and how many at once.
//! - `probe` makes one attempt: TCP, HTTP or HTTPS.
//! - `history` makes a state of the attempts at one target: thresholds, flapping.
//! - `isolation` tells a node that is cut off from targets that are down.
//! - `store` keeps states and forced verdicts over a restart.
//! - `counters` has the metrics.

pub mod counters;
mod history;
mod isolation;
pub mod probe;
mod schedule;
mod store;

use crate::{forward::Forwarding, snapshot::health::TargetId};
use anyhow::Context;
use counters::Counters;
use probe::LazyTls;
use schedule::Schedule;
use std::{
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

/// The longest time that a verdict can be forced for.
pub const MAX_FORCED: Duration = Duration::from_secs(30 * 24 * 3600);

/// How the node checks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of attempts at the same time.
    pub max_in_flight: usize,
    /// How long a node that is cut off keeps its verdicts. After that, every target counts as healthy.
    pub freeze_for: Duration,
    /// PEM file of authorities that verify targets' certificates, beside those of the system.
    pub authorities: Option<PathBuf>,
    /// Where states and forced verdicts are kept; none: a restart forgets them.
    pub state_directory: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { max_in_flight: 256, freeze_for: Duration::from_secs(600), authorities: None, state_directory: None }
    }
}

/// The room's handle: what others ask of it.
#[derive(Debug)]
pub struct Health {
    commands: mpsc::UnboundedSender<Command>,
    /// Since when the node is isolated, in seconds since 1970; 0 if it is not.
    isolated_since: AtomicI64,
    /// What is counted.
    pub counters: Counters,
}

/// What somebody wants of a target.
#[derive(Debug)]
enum Command {
    /// Its verdict is to be this until that time, in seconds since 1970; or no longer a forced one.
    Force { id: TargetId, forced: Option<(bool, i64)>, reply: oneshot::Sender<Result<(), Refused>> },
    /// An EXTERNAL check is this.
    Report { id: TargetId, is_healthy: bool, reply: oneshot::Sender<Result<(), Refused>> },
    /// All that is known is written down; another process may read it.
    Save(oneshot::Sender<()>),
    /// The room ends. It writes nothing more: another process may have written since.
    Stop,
}

/// Why a command is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such target.
    Unknown,
    /// The check is not an EXTERNAL one.
    NotExternal,
    /// The verdict cannot be kept in the state directory.
    NotKept(String),
    /// The server is about to end.
    Ending,
}

impl Health {
    /// Starts the room's thread. `generations` tells of each new snapshot; names are resolved on `runtime`.
    pub fn start(
        settings: Settings,
        forwarding: &Arc<Forwarding>,
        generations: watch::Receiver<u64>,
        runtime: &Handle,
    ) -> anyhow::Result<Arc<Health>> {
        let (commands, received) = mpsc::unbounded_channel();
        let health = Arc::new(Health { commands, isolated_since: AtomicI64::new(0), counters: Counters::default() });
        let store = settings.state_directory.as_deref().map(Store::open);
        let context = schedule::Context {
            health: health.clone(),
            snapshot: forwarding.snapshot.clone(),
            forwarding: forwarding.clone(),
            resolving: runtime.clone(),
            tls: Arc::new(LazyTls::new(settings.authorities.clone())),
            settings,
        };
        let own = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("health".into())
            .spawn(move || own.block_on(Schedule::new(context, store).run(received, generations)))
            .context("the thread of health checks cannot be started")?;
        Ok(health)
    }

    /// Sets a verdict by hand until `until`, in seconds since 1970, or ends one that was set.
    pub async fn force(&self, id: TargetId, forced: Option<(bool, i64)>) -> Result<(), Refused> {
        self.ask(|reply| Command::Force { id, forced, reply }).await
    }

    /// Reports the health of an EXTERNAL check.
    pub async fn report(&self, id: TargetId, is_healthy: bool) -> Result<(), Refused> {
        self.ask(|reply| Command::Report { id, is_healthy, reply }).await
    }

    /// Writes all that is known to the state directory, for a process that takes over.
    pub async fn save(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Save(reply)).is_ok() {
            let _ = done.await;
        }
    }

    /// Ends all checks. Verdicts stay as they are.
    pub fn stop(&self) {
        // Without a receiver it has ended already.
        let _ = self.commands.send(Command::Stop);
    }

    /// Since when the node is isolated, in seconds since 1970.
    pub fn isolated_since(&self) -> Option<i64> {
        Some(self.isolated_since.load(Relaxed)).filter(|since| *since > 0)
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Result<(), Refused>>) -> Command) -> Result<(), Refused> {
        let (reply, done) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| Refused::Ending)?;
        done.await.map_err(|_| Refused::Ending)?
    }
}
