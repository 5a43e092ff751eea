//! The wiring: configuration, first load, sockets, workers, admin HTTP, watch, and the end.

mod certificates;
mod descriptors;
pub mod files;
mod inherited;
mod invitation;
mod listeners;
mod node;
mod state;
mod supervisor;
mod takeover;

use crate::{
    admin::{self, Admin},
    config::{Config, Dnstap, DnstapMessages, InternetResolver, LogFormat, OnError, Source},
    control_plane::{
        self, Message,
        counters::Counters,
        directory::Watch,
        edits::{Edits, Journals, KeptSerials},
        etcd,
        internet::Internet,
        keeper::{self, Keeper, Loading},
        kept::Kept,
        status::{LastError, Status},
    },
    forward::{self, Forwarding, cache::Lifetimes, recursion::Recursion, upstream::Upstreams},
    health::{self, Health},
    listen::{Core, Limits},
    log,
    manifest::{
        Manifest, Problem, Protocol,
        load::{Due, Loader},
        overlay::Overlays,
        problem::printable,
    },
    metrics::Metrics,
    query_log::{QueryLog, Running, SMALL_RING, Tap},
    snapshot::published::Published,
    transfer::{
        self, Transfers,
        copies::Copies,
        inward,
        primary::Bounds,
        tsig::Keys,
        update::{Updates, etcd::EtcdEditor},
    },
};
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use certificates::Certificates;
use inherited::Inherited;
use listeners::{Bound, Listeners};
use rustls::server::ResolvesServerCert;
use socket2::{Socket, Type};
use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool, atomic::Ordering::Relaxed, mpsc::Sender},
    time::{Duration, SystemTime},
};
use takeover::{Predecessor, TakeoverListener, Wish};
use tokio::{
    runtime::{Handle, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, mpsc, watch},
    time::{Interval, interval},
};

pub use invitation::invitation;

/// The first manifest has errors, and there is none to go on with.
#[derive(Debug)]
pub struct Rejected(pub Vec<Problem>);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the manifest is refused, and there is no earlier one: `zonal check` shows all that is wrong")
    }
}

impl std::error::Error for Rejected {}

/// Serves until SIGTERM or SIGINT, or until another process has taken over. An error is one sentence that says what to do;
/// [`Rejected`] has the problems.
pub fn serve(config: &Config) -> anyhow::Result<()> {
    let mut inherited = Inherited::from_environment();
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("tcp").enable_all().build()?;
    let (hang_up, renew) = {
        // Caught from the first moment on, as a reload that comes early must not end the process.
        let _runtime = runtime.enter();
        (signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?)
    };
    let source = config.control_plane.source();
    let directory = match source {
        Source::Directory(directory) => Some(directory),
        Source::Etcd(_) | Source::Push => None,
    };
    let unusable = directory.and_then(|directory| check_directory(directory).err());
    let started = SystemTime::now();
    let mut internet = Internet::new(config, listeners::own_addresses(config));
    let node = Arc::new(node::node(config, internet.read())?);
    let keys = Keys::read(&config.tsig_keys)?;
    let access = admin::Access::new(&config.admin)?;
    let state = config.state_directory.as_deref();
    let takeover_socket = takeover_socket(config);
    let found = takeover_socket.as_deref().map(|path| Predecessor::find(path, &mut inherited)).transpose()?;
    let (predecessor, handed) = found.flatten().unzip();
    let (store, kept) = state::open(state, handed)?;
    let had_resources = kept.as_ref().is_some_and(|kept| kept.generation > 0 && !kept.collection.is_empty());
    // A directory of files is read again; without a state directory it is all that there is.
    let kept = kept.filter(|_| store.is_some() || directory.is_none());
    if let (Some(unusable), false) = (unusable, kept.is_some() && had_resources) {
        return Err(unusable);
    }
    let has_store = store.is_some();
    let (serials, kept_serials) = state.map(KeptSerials::open).transpose()?.unzip();
    let mut nothing = keeper::nothing(&node);
    nothing.serials = kept_serials.unwrap_or_default();
    let snapshot = Arc::new(ArcSwap::from_pointee(nothing));
    let limit = descriptors::raise_limit();
    let status = Arc::new(Status::default());
    let mut watch = Watch::new(directory);
    let core = core(config, limit, snapshot, keys, updates(&source, &watch, &status), runtime.handle())?;
    let on_error = config.control_plane.on_error();
    let mut keeper = Keeper::new(core.snapshot.clone(), node, status.clone(), on_error, store);
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
    watch.add(internet.files());
    let loader = directory.map(Loader::new);
    let keeps_texts = has_store || on_error == OnError::SetAside;
    let loader = loader.map(|loader| if keeps_texts { loader.keeping_texts() } else { loader });
    let mut loader = loader.map(|loader| if had_resources { loader.expecting_files() } else { loader });
    start(&mut keeper, loader.as_mut(), kept, matches!(source, Source::Etcd(_)), on_error)?;
    watch.follow(&loader.iter().flat_map(Loader::inputs).collect::<Vec<_>>(), started);

    let certificates = Arc::new(Certificates::default());
    let bound = bind(config, &core, &certificates, &mut inherited)?;
    let admin_address = config.admin.address;
    let admin_listener = admin::bind(admin_address, inherited.take(Type::STREAM, admin_address).pop())?;
    let admin_socket = Socket::from(admin_listener.try_clone()?);
    let admin_address = admin_listener.local_addr()?;
    let tls = config.admin.tls.as_ref().map(|tls| certificates.get(tls)).transpose()?;
    let tls = tls.map(|certificate| admin::Tls::new(&config.admin, certificate)).transpose()?;
    let dnstap = config.dnstap.as_ref().map(|dnstap| {
        let identity = dnstap.identity.as_ref().map_or(&*core.snapshot.load().node.nsid, String::as_bytes).to_vec();
        (dnstap, identity)
    });
    let logs = config.query_log.directory.clone();
    let log = Running::start(&core.query_log, &core.snapshot, logs, dnstap, keeper.generations(), runtime.handle())?;
    let takeover_listener = takeover_socket.as_deref().map(TakeoverListener::new).transpose()?;
    let can_be_replaced = takeover_listener.is_some();

    // All that may fail for a reason is done: until here a process that runs has gone on, and nothing was answered by this one.
    let (terminate, interrupt) = {
        // From now on the end is one in order.
        let _runtime = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let quic_is_free = predecessor.map_or_else(|| Ok(watch::channel(true).1), Predecessor::take_over)?;
    let (messages, generations) = (watch.sender(), keeper.generations());
    let mut listeners = Listeners::new(core.clone(), runtime.handle().clone(), quic_is_free);
    for bound in bound {
        listeners.start(bound)?;
    }
    let health = Health::start(health_settings(config), &core.forwarding, keeper.generations(), runtime.handle())?;
    let metrics = metrics(&core, keeper.counters(), &status, &certificates);
    health.counters.register(&metrics.registry, &core.snapshot);
    let admin = Arc::new(Admin {
        core: core.clone(),
        metrics,
        counters: keeper.counters().clone(),
        status: status.clone(),
        health: health.clone(),
        bound: AtomicBool::new(true),
        ready_when_stale: config.control_plane.ready_when_stale,
        access,
        takes_changes: matches!(source, Source::Push),
        max_body_octets: config.admin.max_body_octets as usize,
        messages: messages.clone(),
        generations: generations.clone(),
        followers: Arc::new(Semaphore::new(admin::FOLLOWERS)),
        scrapes: Arc::new(Semaphore::new(admin::SCRAPES)),
        manifests: Arc::new(Semaphore::new(admin::MANIFESTS)),
    });
    let (admin_stop, admin_is_stopped) = watch::channel(false);
    admin::start(admin_listener, admin.clone(), tls, admin_is_stopped)?;
    runtime.spawn(certificates.clone().follow());
    if let Source::Etcd(etcd) = source {
        let position = keeper.position().clone();
        let follow = etcd::follow(etcd.clone(), watch.sender(), status.clone(), position);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("etcd".into()).spawn(move || runtime.block_on(follow))?;
    }
    let times = found.into_iter().map(|(id, copy)| (id, copy.refreshed)).collect();
    runtime.spawn(inward::follow(core.transfers.clone(), watch.sender(), keeper.generations(), copies, times));
    runtime.spawn(transfer::follow(core.transfers.clone(), status, keeper.generations()));
    let manifest = keeper.manifest().clone();
    std::thread::Builder::new()
        .name("control-plane".into())
        .spawn(move || control_plane::run(watch, loader, internet, keeper))
        .context("the control plane's thread cannot be started")?;
    let (wish, wishes) = mpsc::channel(1);
    takeover_listener.map_or(Ok(()), |takeover_listener| takeover_listener.open(messages.clone(), wish))?;
    supervisor::keep(Type::STREAM, admin_address, &admin_socket);
    for (kind, address) in inherited.close() {
        supervisor::forget(kind, address);
    }
    let server = Server {
        config,
        core,
        listeners,
        certificates,
        admin,
        admin_socket,
        admin_stop,
        messages,
        generations,
        terminate,
        interrupt,
        hang_up,
        renew,
        wishes,
        can_be_replaced,
    };
    server.greet(&manifest, admin_address);
    let result = runtime.block_on(server.run());
    log.stop();
    // What is left are clients that do not let go, and maybe a load that nobody waits for any more.
    Runtime::shutdown_background(runtime);
    result
}

/// What all listeners share: what asks upstream servers, what transfers zones, and the query log.
fn core(
    config: &Config,
    open_files: Option<u64>,
    snapshot: Published,
    keys: Keys,
    updates: Updates,
    runtime: &Handle,
) -> anyhow::Result<Arc<Core>> {
    let query_log = QueryLog::new(config.dnstap.as_ref().map_or_else(DnstapMessages::default, Dnstap::messages));
    let tap = Tap::new(&query_log, SMALL_RING, 0);
    let upstreams = Upstreams::trusting(config.certificate_authority.clone(), Some(tap));
    let recursion = match &config.internet_resolver {
        InternetResolver::Recursive(recursion) => Some(Recursion::new(recursion)?),
        _ => None,
    };
    let cache = &config.cache;
    let limits_of_forwarding = forward::Limits {
        cache_octets: cache.size_octets as usize,
        lifetimes: Lifetimes {
            min_ttl: cache.min_ttl_seconds,
            max_ttl: cache.max_ttl_seconds,
            max_negative_ttl: cache.max_negative_ttl_seconds,
            max_stale: cache.max_stale_seconds,
        },
        ..forward::Limits::default()
    };
    let forwarding = Forwarding::new(snapshot.clone(), &limits_of_forwarding, upstreams, recursion, runtime);
    let bounds = Bounds { octets: config.limits.transfer_octets as usize, ..Bounds::default() };
    let transfers = Transfers::new(snapshot.clone(), forwarding.clone(), keys, bounds, updates, runtime);
    let limits = limits(config, open_files);
    Ok(Arc::new(Core::new(snapshot, &limits, forwarding, transfers, query_log, runtime)))
}

/// The page of metrics, with the counters of all rooms. `admin` adds whether the node is ready.
fn metrics(core: &Core, counters: &Counters, status: &Arc<Status>, certificates: &Certificates) -> Metrics {
    let metrics = Metrics::new();
    core.register(&metrics.registry);
    counters.register(&metrics.registry, &core.snapshot, status);
    certificates.register(&metrics.registry);
    metrics
}

/// How this node runs health checks.
fn health_settings(config: &Config) -> health::Settings {
    health::Settings {
        max_in_flight: config.health.max_in_flight as usize,
        freeze_for: Duration::from_secs(config.health.freeze_for.into()),
        authorities: config.certificate_authority.clone(),
        state_directory: config.state_directory.clone(),
    }
}

/// Where dynamic updates go.
fn updates(source: &Source, watch: &Watch, status: &Arc<Status>) -> Updates {
    match source {
        Source::Etcd(etcd) => Updates::Etcd(EtcdEditor::new((*etcd).clone(), status.clone()).into()),
        Source::Directory(_) | Source::Push => Updates::Keeper(watch.sender()),
    }
}

/// Where other processes take over from this one, or this one from others.
fn takeover_socket(config: &Config) -> Option<PathBuf> {
    let made_by_systemd = || {
        let directories = std::env::var_os("RUNTIME_DIRECTORY")?;
        std::env::split_paths(&directories).next().map(|directory| directory.join("takeover"))
    };
    config.takeover_socket.clone().or_else(made_by_systemd)
}

/// Serves what there is at the start: what can be loaded, or else what an earlier run has kept.
fn start(
    keeper: &mut Keeper,
    loader: Option<&mut Loader>,
    kept: Option<Kept>,
    is_followed: bool,
    on_error: OnError,
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
    // What is set aside is served as it was, which is known of what was kept.
    let is_restored =
        on_error == OnError::SetAside && kept.clone().is_some_and(|kept| keeper.restore(kept, true).is_ok());
    let Loading::Failed(problems) = keeper.load(loader, &Due::default(), false) else { return Ok(()) };
    if is_restored {
        return Ok(());
    }
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
    let limits = &config.limits;
    let listeners = config.listen.as_ref().map_or(1, Vec::len);
    Limits {
        error_answers_per_second: limits.error_answers_per_second,
        large_answers_per_second: limits.large_answers_per_second,
        tcp_connections: descriptors::tcp_connections(limits.tcp_connections as usize, open_files, listeners),
        tcp_connections_per_client: limits.tcp_connections_per_client as usize,
        tcp_idle_timeout: Duration::from_secs(limits.tcp_idle_timeout_seconds.into()),
    }
}

fn bind(
    config: &Config,
    core: &Core,
    certificates: &Certificates,
    inherited: &mut Inherited,
) -> anyhow::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    let Some(listen) = &config.listen else {
        for address in listeners::default_addresses(&core.snapshot.load().entry_point_addresses()) {
            match Bound::new(address, Protocol::Do53, None, inherited) {
                Ok(sockets) => bound.push(sockets),
                Err(error) if error.is_foreign() => tracing::warn!("{error}"),
                Err(error) => return Err(error.into()),
            }
        }
        return Ok(bound);
    };
    for listen in listen {
        let certificate = listen.tls.as_ref().map(|tls| certificates.get(tls)).transpose()?;
        let certificate = certificate.map(|certificate| certificate as Arc<dyn ResolvesServerCert>);
        bound.push(Bound::new(listen.address, listen.protocol, certificate, inherited)?);
    }
    Ok(bound)
}

/// A server that runs.
struct Server<'a> {
    config: &'a Config,
    core: Arc<Core>,
    listeners: Listeners,
    certificates: Arc<Certificates>,
    admin: Arc<Admin>,
    admin_socket: Socket,
    admin_stop: watch::Sender<bool>,
    messages: Sender<Message>,
    generations: watch::Receiver<u64>,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// SIGUSR2: another process is to take over.
    renew: Signal,
    wishes: mpsc::Receiver<Wish>,
    can_be_replaced: bool,
}

impl Server<'_> {
    /// Says what is served, where, and how to try it.
    fn greet(&self, manifest: &Manifest, admin: SocketAddr) {
        self.tell_listeners();
        let state = self.admin.status.state().clone();
        let resources: Vec<String> = state.resources.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let resources = if resources.is_empty() { "an empty manifest".into() } else { resources.join(", ") };
        let scheme = if self.config.admin.tls.is_some() { "https" } else { "http" };
        let file = self.config.file.as_ref();
        let configuration =
            file.map_or("no configuration file".into(), |file| format!("configuration file {}", file.display()));
        let text = format!(
            "zonal {}, {}: serving {resources} on {}, admin API on {scheme}://{admin}",
            env!("CARGO_PKG_VERSION"),
            printable(&configuration),
            state.listeners.join(", ")
        );
        tracing::info!(generation = self.core.snapshot.load().generation, "{text}");
        supervisor::ready(&text);
        let is_for_people = self.config.log.format == LogFormat::Human;
        if let Some(text) = invitation(manifest, &self.listeners.addresses()).filter(|_| is_for_people) {
            log::write(&text);
        }
    }

    fn tell_listeners(&self) {
        self.admin.status.state().listeners = self.listeners.names();
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let mut beats = supervisor::watchdog().map(interval);
        let successor = loop {
            tokio::select! {
                biased;
                _ = self.terminate.recv() => break None,
                _ = self.interrupt.recv() => break None,
                Some(wish) = self.wishes.recv() => match wish {
                    Wish::Leave(successor) => break Some(successor),
                    Wish::Sockets(reply) => {
                        // The other process goes on from what this one knows.
                        self.admin.health.save().await;
                        match self.sockets() {
                            // Who has gone away has changed its mind.
                            Ok(sockets) => drop(reply.send(sockets)),
                            Err(error) => tracing::warn!("the sockets cannot be handed over: {error}"),
                        }
                    }
                },
                _ = self.hang_up.recv() => {
                    // Without a receiver the control plane has failed, which the last arm tells.
                    let _ = self.messages.send(Message::Reload);
                    self.certificates.reload.notify_one();
                    self.core.query_log.reopen();
                }
                _ = self.renew.recv() => self.start_successor(),
                Some(()) = next(&mut beats) => supervisor::alive(),
                changed = self.generations.changed() => match changed {
                    Ok(()) => self.follow_entry_points(),
                    Err(_) => bail!("the control plane's thread has failed"),
                }
            }
        };
        self.admin.bound.store(false, Relaxed);
        if successor.is_none() {
            self.admin.health.save().await;
        }
        self.admin.health.stop();
        let Some(successor) = successor else {
            tracing::info!("stopping");
            supervisor::stopping();
            let _ = self.messages.send(Message::Stop);
            self.listeners.stop(supervisor::is_there()).await;
            return Ok(());
        };
        tracing::info!("process {} has taken over: the connections that are here go on for a while", successor.process);
        supervisor::follow(successor.process);
        self.admin_stop.send_replace(true);
        successor.start();
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = self.listeners.leave(|| successor.start_quic()) => {}
        }
        Ok(())
    }

    /// All sockets, for a process that takes over.
    fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = self.listeners.sockets()?;
        sockets.push(self.admin_socket.try_clone()?.into());
        Ok(sockets)
    }

    fn start_successor(&self) {
        if !self.can_be_replaced {
            return tracing::warn!("SIGUSR2: without `takeover_socket` no other process can take over");
        }
        if let Err(error) = takeover::start_successor() {
            tracing::error!("SIGUSR2: no other process takes over: {error:#}");
        }
    }

    /// Without configured addresses, the entry points of the manifest decide which there are.
    fn follow_entry_points(&mut self) {
        if self.config.listen.is_some() {
            return;
        }
        let wanted = listeners::default_addresses(&self.core.snapshot.load().entry_point_addresses());
        for error in self.listeners.set(&wanted) {
            tracing::warn!("{error:#}");
        }
        self.tell_listeners();
    }
}

/// Waits for the next beat; none if there are no beats.
async fn next(beats: &mut Option<Interval>) -> Option<()> {
    beats.as_mut()?.tick().await;
    Some(())
}

#[cfg(test)]
mod page_tests;
