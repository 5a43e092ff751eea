//! The wiring: configuration, first load, sockets, workers, admin HTTP, watch, and the end.

mod certificates;
mod descriptors;
mod invitation;
mod listeners;
mod node;

use crate::{
    admin::{self, Admin},
    config::{Config, InternetResolver, Source},
    control_plane::{
        self, Message,
        directory::Watch,
        edits::{Edits, Journals, KeptSerials},
        etcd,
        etcd_edit::EtcdEditor,
        internet::Internet,
        keeper::{self, Keeper, Loading},
        kept::Kept,
        status::{LastError, Status},
        store::{Found, Store},
    },
    forward::{self, cache::Lifetimes, recursion::Recursion, upstream::Upstreams},
    listen::{Core, Limits},
    manifest::{Manifest, Problem, load::Loader, overlay::Overlays},
    query_log::Running,
    transfer::{self, copies::Copies, inward, primary::Bounds, tsig::Keys, update::Updates},
};
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use certificates::Certificates;
use listeners::Listeners;
use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed, mpsc::Sender},
    time::{Duration, SystemTime},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, watch},
};

pub use invitation::invitation;

/// How long the end may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// The first manifest has errors, and there is none to go on with.
#[derive(Debug)]
pub struct Rejected(pub Vec<Problem>);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the manifest is refused, and there is no earlier one: `zonal check` shows all that is wrong")
    }
}

impl std::error::Error for Rejected {}

/// Serves until SIGTERM or SIGINT. An error is one sentence that says what to do; [`Rejected`] has the problems.
pub fn serve(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("tcp").enable_all().build()?;
    let hang_up = {
        // Caught from the first moment on, as a reload that comes early must not end the process.
        let _runtime = runtime.enter();
        signal(SignalKind::hangup())?
    };
    let source = config.control_plane.source();
    let directory = match source {
        Source::Directory(directory) => Some(directory),
        Source::Etcd(_) | Source::Push => None,
    };
    directory.map_or(Ok(()), check_directory)?;
    let started = SystemTime::now();
    let mut internet = Internet::new(config, listeners::own_addresses(config));
    let node = Arc::new(node::node(config, internet.read())?);
    let state = config.state_directory.as_deref();
    let (store, found) = state.map(Store::open).transpose()?.unzip();
    let Found { kept, damage } = found.unwrap_or_default();
    damage.iter().for_each(|damage| tracing::error!("{damage}"));
    let has_store = store.is_some();
    let (serials, kept_serials) = state.map(KeptSerials::open).transpose()?.unzip();
    let mut nothing = keeper::nothing(&node);
    nothing.serials = kept_serials.unwrap_or_default();
    let snapshot = Arc::new(ArcSwap::from_pointee(nothing));
    let limit = descriptors::raise_limit();
    let core = Arc::new(Core::new(
        snapshot,
        &limits(config, limit),
        Upstreams::trusting(config.certificate_authority.clone()),
        Keys::read(&config.tsig_keys)?,
        runtime.handle(),
    ));
    let status = Arc::new(Status::default());
    core.metrics.watch_control_plane(&status);
    if let InternetResolver::Recursive(recursion) = &config.internet_resolver {
        // Set for the first and only time.
        let _ = core.forwarding.recursion.set(Recursion::new(recursion)?);
    }
    let on_error = config.control_plane.on_error();
    let mut keeper = Keeper::new(core.clone(), node, status.clone(), on_error, store);
    let copies = Copies::new(config.state_directory.as_deref());
    let found = copies.read();
    keeper.hold(found.iter().map(|(id, copy)| (id.clone(), copy.held(started))).collect());
    let (edits, overlays) = match (source, state) {
        (Source::Directory(_), Some(state)) => {
            let (journals, overlays) = Journals::open(state)?;
            (Edits::Journals(journals), overlays)
        }
        (Source::Push, _) => (Edits::Pushed, Overlays::default()),
        (Source::Directory(_), None) | (Source::Etcd(_), _) => (Edits::Nowhere, Overlays::default()),
    };
    keeper.take_edits(edits, overlays, serials);
    let mut watch = Watch::new(directory);
    watch.add(internet.files());
    let loader = directory.map(Loader::new);
    let mut loader = loader.map(|loader| if has_store { loader.keeping_texts() } else { loader });
    start(&mut keeper, loader.as_mut(), kept, matches!(source, Source::Etcd(_)))?;
    watch.follow(&loader.iter().flat_map(Loader::inputs).collect::<Vec<_>>(), started);

    let mut listeners = Listeners::new(core.clone(), runtime.handle().clone());
    let certificates = Arc::new(Certificates::default());
    bind(config, &core, &mut listeners, &certificates)?;
    runtime.spawn(certificates.clone().follow(core.clone()));
    if let Source::Etcd(etcd) = source {
        let position = keeper.position().clone();
        let follow = etcd::follow(etcd.clone(), watch.sender(), status.clone(), position);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("etcd".into()).spawn(move || runtime.block_on(follow))?;
    }
    let times = found.into_iter().map(|(id, copy)| (id, copy.refreshed)).collect();
    runtime.spawn(inward::follow(core.clone(), watch.sender(), keeper.generations(), copies, times));
    let updates = match source {
        Source::Etcd(etcd) => Updates::Etcd(EtcdEditor::new(etcd.clone(), status.clone()).into()),
        Source::Directory(_) | Source::Push => Updates::Keeper(watch.sender()),
    };
    // Set for the first and only time.
    let _ = core.transfers.updates.set(updates);
    runtime.spawn(transfer::follow(core.clone(), status.clone(), keeper.generations()));
    let dnstap = config.dnstap.as_ref().map(|dnstap| {
        let identity = dnstap.identity.as_ref().map_or(&*core.snapshot.load().node.nsid, String::as_bytes).to_vec();
        (dnstap, identity)
    });
    let directory = config.query_log.directory.clone();
    let log =
        Running::start(&core.query_log, &core.snapshot, directory, dnstap, keeper.generations(), runtime.handle())?;
    let (messages, generations) = (watch.sender(), keeper.generations());
    let admin = Arc::new(Admin {
        core: core.clone(),
        status,
        bound: AtomicBool::new(true),
        ready_when_stale: config.control_plane.ready_when_stale,
        access: admin::Access::new(&config.admin)?,
        takes_changes: matches!(source, Source::Push),
        max_body_octets: config.admin.max_body_octets as usize,
        messages: messages.clone(),
        generations: generations.clone(),
        followers: Arc::new(Semaphore::new(admin::FOLLOWERS)),
        scrapes: Arc::new(Semaphore::new(admin::SCRAPES)),
    });
    let tls = config.admin.tls.as_ref().map(|tls| certificates.get(tls, &core.metrics)).transpose()?;
    let tls = tls.map(|certificate| admin::Tls::new(&config.admin, certificate)).transpose()?;
    let admin_address = admin::start(config.admin.address, admin.clone(), tls)?;
    let server = Server { config, core, listeners, certificates, admin, messages, generations, hang_up };
    server.greet(keeper.manifest(), admin_address);
    std::thread::Builder::new()
        .name("control-plane".into())
        .spawn(move || control_plane::run(watch, loader, internet, keeper))
        .context("the control plane's thread cannot be started")?;
    let result = runtime.block_on(server.run());
    log.stop();
    // What is left are clients that do not let go, and maybe a load that nobody waits for any more.
    Runtime::shutdown_background(runtime);
    result
}

/// Serves what there is at the start: what can be loaded, or else what an earlier run has kept.
fn start(
    keeper: &mut Keeper,
    loader: Option<&mut Loader>,
    kept: Option<Kept>,
    is_followed: bool,
) -> Result<(), Rejected> {
    let kept = kept.filter(|kept| kept.generation > 0);
    let Some(loader) = loader else {
        if let Some(Err(problems)) = kept.map(|kept| keeper.restore(kept, is_followed)) {
            let error = LastError::new(&problems).message;
            tracing::error!("what was kept in the state directory cannot be served: {error}");
        }
        return Ok(());
    };
    keeper.count_from(kept.as_ref().map_or(0, |kept| kept.generation));
    let Loading::Failed(problems) = keeper.load(loader) else { return Ok(()) };
    let Some(kept) = kept else { return Err(Rejected(problems)) };
    keeper.restore(kept, true).map_err(Rejected)?;
    keeper.refuse(problems);
    Ok(())
}

fn check_directory(directory: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(directory) {
        Ok(data) if data.is_dir() => Ok(()),
        Ok(_) => bail!("{} is not a directory: `control_plane.directory` names the manifest's", directory.display()),
        Err(error) => bail!(
            "the manifest's directory {} cannot be read ({error}): make it, or name another in `control_plane.directory`",
            directory.display()
        ),
    }
}

fn limits(config: &Config, open_files: Option<u64>) -> Limits {
    let Config { limits, cache, .. } = config;
    let listeners = config.listen.as_ref().map_or(1, Vec::len);
    Limits {
        error_answers_per_second: limits.error_answers_per_second,
        tcp_connections: descriptors::tcp_connections(limits.tcp_connections as usize, open_files, listeners),
        tcp_connections_per_client: limits.tcp_connections_per_client as usize,
        tcp_idle_timeout: Duration::from_secs(limits.tcp_idle_timeout_seconds.into()),
        forwarding: forward::Limits {
            cache_octets: cache.size_octets as usize,
            lifetimes: Lifetimes {
                min_ttl: cache.min_ttl_seconds,
                max_ttl: cache.max_ttl_seconds,
                max_negative_ttl: cache.max_negative_ttl_seconds,
                max_stale: cache.max_stale_seconds,
            },
            ..forward::Limits::default()
        },
        transfers: Bounds { octets: limits.transfer_octets as usize, ..Bounds::default() },
    }
}

fn bind(config: &Config, core: &Core, listeners: &mut Listeners, certificates: &Certificates) -> anyhow::Result<()> {
    match &config.listen {
        Some(listen) => {
            for listen in listen {
                match &listen.tls {
                    None => listeners.open(listen.address)?,
                    Some(tls) => {
                        let certificate = certificates.get(tls, &core.metrics)?;
                        listeners.open_encrypted(listen.address, listen.protocol, certificate)?
                    }
                };
            }
        }
        None => {
            for address in listeners::default_addresses(&core.snapshot.load().door_addresses()) {
                if let Err(error) = listeners.open(address) {
                    match error.is_foreign() {
                        true => tracing::warn!("{error}"),
                        false => return Err(error.into()),
                    }
                }
            }
        }
    }
    Ok(())
}

/// A server that runs.
struct Server<'a> {
    config: &'a Config,
    core: Arc<Core>,
    listeners: Listeners,
    certificates: Arc<Certificates>,
    admin: Arc<Admin>,
    messages: Sender<Message>,
    generations: watch::Receiver<u64>,
    hang_up: Signal,
}

impl Server<'_> {
    /// Says what is served, where, and how to try it.
    fn greet(&self, manifest: &Manifest, admin: SocketAddr) {
        self.tell_listeners();
        let state = self.admin.status.state().clone();
        let resources: Vec<String> = state.resources.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        tracing::info!(
            generation = self.core.snapshot.load().generation,
            "serving {} on {}, admin API on http://{admin}",
            if resources.is_empty() { "an empty manifest".into() } else { resources.join(", ") },
            state.listeners.join(", "),
        );
        if let Some(text) = invitation(manifest, &self.listeners.addresses()) {
            eprint!("{text}");
        }
    }

    fn tell_listeners(&self) {
        self.admin.status.state().listeners = self.listeners.names();
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = self.hang_up.recv() => {
                    // Without a receiver the control plane has failed, which the next arm tells.
                    let _ = self.messages.send(Message::Reload);
                    self.certificates.reload.notify_one();
                    self.core.query_log.reopen();
                }
                changed = self.generations.changed() => match changed {
                    Ok(()) => self.follow_doors(),
                    Err(_) => bail!("the control plane's thread has failed"),
                }
            }
        }
        tracing::info!("stopping");
        self.admin.bound.store(false, Relaxed);
        let _ = self.messages.send(Message::Stop);
        if tokio::time::timeout(STOP_TIMEOUT, self.listeners.stop()).await.is_err() {
            tracing::warn!("some clients did not let go in time");
        }
        Ok(())
    }

    /// Without configured addresses, the doors of the manifest decide which there are.
    fn follow_doors(&mut self) {
        if self.config.listen.is_some() {
            return;
        }
        let wanted = listeners::default_addresses(&self.core.snapshot.load().door_addresses());
        for error in self.listeners.set(&wanted) {
            tracing::warn!("{error}");
        }
        self.tell_listeners();
    }
}
