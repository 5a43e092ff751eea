//! Builds a server from its parts: configuration, first load, sockets, threads, admin API. Then waits for signals, changes
//! and a takeover, until the server ends. The parts themselves are in other rooms.

mod certificates;
mod descriptors;
mod example_queries;
pub mod files;
mod inherited;
mod listeners;
mod memory;
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
        empty_snapshot, etcd,
        internet::Internet,
        persisted::PersistedState,
        publisher::{LoadResult, Publisher},
        state_store::StateStore,
        status::{LoadError, Status},
        updates::{Journals, SerialStore, UpdateStorage},
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
    query_log::{EntrySender, QueryLog, RunningWriter, SMALL_RING_OCTETS},
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
use takeover::{OldProcess, TakeoverListener, TakeoverRequest};
use tokio::{
    runtime::{Handle, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, mpsc, watch},
    time::{Interval, interval},
};

pub use example_queries::example_queries;

/// The first manifest has errors, and no earlier one was saved.
#[derive(Debug)]
pub struct Rejected(pub Vec<Problem>);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the manifest is refused, and no earlier one was saved; `zonal check` shows every error")
    }
}

impl std::error::Error for Rejected {}

/// Serves until SIGTERM or SIGINT, or until a new process has taken over. An error is one sentence that says what to do;
/// [`Rejected`] has the problems.
pub fn serve(config: &Config) -> anyhow::Result<()> {
    let mut inherited = Inherited::from_environment();
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("tcp").enable_all().build()?;
    // These signals are caught from the first moment on: a reload that comes early must not end the process.
    let [hang_up, renew] = signals(&runtime, [SignalKind::hangup(), SignalKind::user_defined2()])?;

    // Read: the files of the configuration, the state that is there, and the manifest.
    let source = config.control_plane.source();
    let directory = match source {
        Source::Directory(directory) => Some(directory),
        Source::Etcd(_) | Source::Push => None,
    };
    let started = SystemTime::now();
    let mut internet = Internet::new(config, listeners::own_addresses(config));
    let node = Arc::new(node::node(config, internet.read())?);
    let keys = Keys::read(&config.tsig_keys)?;
    let access = admin::Access::new(&config.admin)?;
    let takeover_socket = takeover_socket(config);
    let StartState { old_process, store, kept, had_resources } =
        StartState::find(config, directory, takeover_socket.as_deref(), &mut inherited)?;
    let keeps_texts = store.is_some() || config.control_plane.on_error() == OnError::SetAside;
    let (serials, kept_serials) = config.state_directory.as_deref().map(SerialStore::open).transpose()?.unzip();
    let mut nothing = empty_snapshot(&node);
    nothing.serials = kept_serials.unwrap_or_default();
    let snapshot = Arc::new(ArcSwap::from_pointee(nothing));
    let limit = descriptors::raise_limit();
    let status = Arc::new(Status::default());
    let mut watch = Watch::new(directory);
    let core = core(config, limit, snapshot, keys, updates(&source, &watch, &status), runtime.handle())?;
    let on_error = config.control_plane.on_error();
    let mut publisher = Publisher::new(core.snapshot.clone(), node, status.clone(), on_error, store);
    let copies = Copies::new(config.state_directory.as_deref());
    let found = copies.read();
    publisher.set_transferred(found.iter().map(|(id, copy)| (id.clone(), copy.held(started))).collect());
    let (storage, overlays) = update_storage(&source, config.state_directory.as_deref())?;
    publisher.set_updates(storage, overlays, serials);
    watch.add(internet.files());
    let mut loader = directory.map(|directory| loader(directory, keeps_texts, had_resources));
    start(&mut publisher, loader.as_mut(), kept, matches!(source, Source::Etcd(_)), on_error)?;
    watch.follow(&loader.iter().flat_map(Loader::inputs).collect::<Vec<_>>(), started);

    // Bind: all sockets, of which nothing is read yet.
    let certificates = Arc::new(Certificates::default());
    let bound = bind(config, &core, &certificates, &mut inherited)?;
    let admin_address = config.admin.address;
    let admin_listener = admin::bind(admin_address, inherited.take(Type::STREAM, admin_address).pop())?;
    let admin_socket = Socket::from(admin_listener.try_clone()?);
    let admin_address = admin_listener.local_addr()?;
    let admin_tls = admin_tls(config, &certificates)?;
    let log = start_query_log(config, &core, publisher.generations(), runtime.handle())?;
    let takeover_listener = takeover_socket.as_deref().map(TakeoverListener::new).transpose()?;
    let can_be_replaced = takeover_listener.is_some();

    // Take over: all steps that are likely to fail are done. The old process has gone on until here, and this one has
    // answered nothing. From now on the signals end this process in order.
    let [terminate, interrupt] = signals(&runtime, [SignalKind::terminate(), SignalKind::interrupt()])?;
    let quic_is_free = old_process.map_or_else(|| Ok(watch::channel(true).1), OldProcess::take_over)?;

    // Answer.
    let (messages, generations) = (watch.sender(), publisher.generations());
    let mut listeners = Listeners::new(core.clone(), runtime.handle().clone(), quic_is_free);
    for bound in bound {
        listeners.start(bound)?;
    }
    let health = Health::start(health_settings(config), &core.forwarding, publisher.generations(), runtime.handle())?;
    let metrics = metrics(&core, publisher.counters(), &status, &certificates);
    health.counters.register(&metrics.registry, &core.snapshot);
    let admin = Arc::new(Admin {
        metrics,
        core: core.clone(),
        counters: publisher.counters().clone(),
        status: status.clone(),
        health: health.clone(),
        bound: AtomicBool::new(true),
        ready_when_stale: config.control_plane.ready_when_stale,
        access,
        takes_changes: matches!(source, Source::Push),
        max_body_octets: config.admin.max_body_octets as usize,
        messages: messages.clone(),
        generations: generations.clone(),
        followers: Arc::new(Semaphore::new(admin::MAX_FOLLOWERS)),
        scrapes: Arc::new(Semaphore::new(admin::MAX_SCRAPES)),
        manifests: Arc::new(Semaphore::new(admin::MAX_MANIFESTS)),
    });
    let (admin_stop, admin_is_stopped) = watch::channel(false);
    admin::start(admin_listener, admin.clone(), admin_tls, admin_is_stopped)?;

    // Follow: certificates, etcd, primaries, secondaries, and changes of the manifest.
    runtime.spawn(certificates.clone().follow());
    runtime.spawn(memory::return_free_memory());
    if let Source::Etcd(etcd) = source {
        start_etcd(etcd::follow(etcd.clone(), watch.sender(), status.clone(), publisher.position().clone()))?;
    }
    let times = found.into_iter().map(|(id, copy)| (id, copy.refreshed)).collect();
    runtime.spawn(inward::follow(core.transfers.clone(), watch.sender(), publisher.generations(), copies, times));
    runtime.spawn(transfer::follow(core.transfers.clone(), status, publisher.generations()));
    let manifest = publisher.manifest().clone();
    std::thread::Builder::new()
        .name("control-plane".into())
        .spawn(move || control_plane::run(watch, loader, internet, publisher))
        .context("the control plane's thread cannot be started")?;
    let (request, takeover_requests) = mpsc::channel(1);
    takeover_listener.map_or(Ok(()), |takeover_listener| takeover_listener.open(messages.clone(), request))?;
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
        takeover_requests,
        can_be_replaced,
    };
    server.announce(&manifest, admin_address);
    let result = runtime.block_on(server.run());
    log.stop();
    // Clients that keep their connections may be left, and a load whose result nobody needs any more.
    Runtime::shutdown_background(runtime);
    result
}

/// Catches signals from now on.
fn signals<const N: usize>(runtime: &Runtime, kinds: [SignalKind; N]) -> io::Result<[Signal; N]> {
    let _runtime = runtime.enter();
    let signals = kinds.into_iter().map(signal).collect::<io::Result<Vec<_>>>()?;
    signals.try_into().map_err(|_| io::Error::other("a signal is lost"))
}

/// What is there at the start: another process, and the state of an earlier run.
struct StartState {
    /// The running process that this one replaces.
    old_process: Option<OldProcess>,
    store: Option<StateStore>,
    /// The manifest that was served last. A directory of files is read again; without a state directory it is the only source.
    kept: Option<PersistedState>,
    /// Whether there were resources in the manifest that was served last.
    had_resources: bool,
}

impl StartState {
    fn find(
        config: &Config,
        directory: Option<&Path>,
        takeover_socket: Option<&Path>,
        inherited: &mut Inherited,
    ) -> anyhow::Result<StartState> {
        let unusable = directory.and_then(|directory| check_directory(directory).err());
        let found = takeover_socket.map(|path| OldProcess::find(path, inherited)).transpose()?;
        let (old_process, frozen) = found.flatten().unzip();
        let (store, kept) = state::open(config.state_directory.as_deref(), frozen)?;
        let had_resources = kept.as_ref().is_some_and(|kept| kept.generation > 0 && !kept.collection.is_empty());
        let kept = kept.filter(|_| store.is_some() || directory.is_none());
        match unusable {
            Some(unusable) if kept.is_none() || !had_resources => Err(unusable),
            _ => Ok(StartState { old_process, store, kept, had_resources }),
        }
    }
}

/// Reads a directory of manifest files. `keeps_texts` says that resources are saved as they were written. With
/// `expects_files`, an empty directory is an error.
fn loader(directory: &Path, keeps_texts: bool, expects_files: bool) -> Loader {
    let loader = Loader::new(directory);
    let loader = if keeps_texts { loader.keeping_texts() } else { loader };
    if expects_files { loader.expecting_files() } else { loader }
}

/// The storage of dynamic updates, and the updates in it.
fn update_storage(source: &Source, state: Option<&Path>) -> anyhow::Result<(UpdateStorage, Overlays)> {
    Ok(match (source, state) {
        (Source::Directory(_), Some(state)) => {
            let (journals, overlays) = Journals::open(state)?;
            (UpdateStorage::Journals(journals), overlays)
        }
        (Source::Push, _) => (UpdateStorage::Pushed, Overlays::default()),
        (Source::Directory(_), None) | (Source::Etcd(_), _) => (UpdateStorage::Nowhere, Overlays::default()),
    })
}

fn admin_tls(config: &Config, certificates: &Certificates) -> anyhow::Result<Option<admin::Tls>> {
    let certificate = config.admin.tls.as_ref().map(|tls| certificates.get(tls)).transpose()?;
    certificate.map(|certificate| admin::Tls::new(&config.admin, certificate)).transpose()
}

fn start_query_log(
    config: &Config,
    core: &Core,
    generations: watch::Receiver<u64>,
    runtime: &Handle,
) -> anyhow::Result<RunningWriter> {
    let dnstap = config.dnstap.as_ref().map(|dnstap| {
        let identity = dnstap.identity.as_ref().map_or(&*core.snapshot.load().node.nsid, String::as_bytes).to_vec();
        (dnstap, identity)
    });
    let directory = config.query_log.directory.clone();
    Ok(RunningWriter::start(&core.query_log, &core.snapshot, directory, dnstap, generations, runtime)?)
}

/// Starts the thread that follows etcd.
fn start_etcd(follow: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("etcd".into()).spawn(move || runtime.block_on(follow))?;
    Ok(())
}

/// Builds the part of the server that all listeners share: forwarding, zone transfers and the query log.
fn core(
    config: &Config,
    open_files: Option<u64>,
    snapshot: Published,
    keys: Keys,
    updates: Updates,
    runtime: &Handle,
) -> anyhow::Result<Arc<Core>> {
    let query_log = QueryLog::new(config.dnstap.as_ref().map_or_else(DnstapMessages::default, Dnstap::messages));
    let entry_sender = EntrySender::new(&query_log, SMALL_RING_OCTETS, 0);
    let upstreams = Upstreams::trusting(config.certificate_authority.clone(), Some(entry_sender));
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

/// The metrics page, with the counters of all rooms. `admin` adds the readiness of the node.
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

/// The receiver of dynamic updates: etcd, or the control plane's thread.
fn updates(source: &Source, watch: &Watch, status: &Arc<Status>) -> Updates {
    match source {
        Source::Etcd(etcd) => Updates::Etcd(EtcdEditor::new((*etcd).clone(), status.clone()).into()),
        Source::Directory(_) | Source::Push => Updates::Publisher(watch.sender()),
    }
}

/// The path of the takeover socket: from the configuration, or in the runtime directory of the systemd unit.
fn takeover_socket(config: &Config) -> Option<PathBuf> {
    let made_by_systemd = || {
        let directories = std::env::var_os("RUNTIME_DIRECTORY")?;
        std::env::split_paths(&directories).next().map(|directory| directory.join("takeover"))
    };
    config.takeover_socket.clone().or_else(made_by_systemd)
}

/// Publishes the first snapshot: from the files, or else from the manifest that an earlier run has saved.
fn start(
    publisher: &mut Publisher,
    loader: Option<&mut Loader>,
    kept: Option<PersistedState>,
    is_followed: bool,
    on_error: OnError,
) -> Result<(), Rejected> {
    let kept = kept.filter(|kept| kept.generation > 0);
    let Some(loader) = loader else {
        if let Some(Err(problems)) = kept.map(|kept| publisher.restore(kept, is_followed)) {
            let error = LoadError::new(&problems).message;
            tracing::error!(error, "saved manifest rejected");
        }
        return Ok(());
    };
    publisher.count_from(kept.as_ref().map_or(0, |kept| kept.generation));
    // zonal serves the saved version of each resource that the files have errors in.
    let is_restored =
        on_error == OnError::SetAside && kept.clone().is_some_and(|kept| publisher.restore(kept, true).is_ok());
    let LoadResult::Failed(problems) = publisher.load(loader, &Due::default(), false) else { return Ok(()) };
    if is_restored {
        return Ok(());
    }
    let Some(kept) = kept else { return Err(Rejected(problems)) };
    publisher.restore(kept, true).map_err(Rejected)?;
    publisher.refuse(problems);
    Ok(())
}

fn check_directory(directory: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(directory) {
        Ok(data) if data.is_dir() => Ok(()),
        Ok(_) => bail!(
            "control_plane.directory: {} is not a directory; give the directory of the manifest",
            directory.display()
        ),
        Err(error) => bail!(
            "control_plane.directory: {} cannot be read: {error}; create the directory, or give another one",
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
                Err(error) if error.is_address_missing() => tracing::warn!(%error, "listen address not opened"),
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

/// A running server.
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
    /// SIGUSR2: start a new process that takes over.
    renew: Signal,
    takeover_requests: mpsc::Receiver<TakeoverRequest>,
    can_be_replaced: bool,
}

impl Server<'_> {
    /// Logs that the server answers. Adds example queries for a person at a terminal.
    fn announce(&self, manifest: &Manifest, admin: SocketAddr) {
        self.report_listeners();
        let state = self.admin.status.state().clone();
        let resources: Vec<String> = state.resources.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let resources = if resources.is_empty() { "an empty manifest".into() } else { resources.join(", ") };
        let scheme = if self.config.admin.tls.is_some() { "https" } else { "http" };
        let (version, listeners) = (env!("CARGO_PKG_VERSION"), state.listeners.join(", "));
        let configuration = self.config.file.as_ref().map(|file| printable(&file.display().to_string()));
        tracing::info!(
            version,
            configuration = configuration.as_ref().map(tracing::field::display),
            generation = self.core.snapshot.load().generation,
            %resources,
            %listeners,
            admin_api = %format_args!("{scheme}://{admin}"),
            "serving"
        );
        let configuration =
            configuration.map_or("no configuration file".into(), |file| format!("configuration file {file}"));
        supervisor::ready(&format!(
            "zonal {version}, {configuration}: serving {resources} on {listeners}, admin API on {scheme}://{admin}"
        ));
        let is_human = self.config.log.format == LogFormat::Human;
        if let Some(text) = example_queries(manifest, &self.listeners.addresses()).filter(|_| is_human) {
            log::write(&text);
        }
    }

    fn report_listeners(&self) {
        self.admin.status.state().listeners = self.listeners.names();
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let mut watchdog = supervisor::watchdog().map(interval);
        let new_process = loop {
            tokio::select! {
                biased;
                _ = self.terminate.recv() => break None,
                _ = self.interrupt.recv() => break None,
                Some(request) = self.takeover_requests.recv() => match request {
                    TakeoverRequest::Stop(new_process) => break Some(new_process),
                    TakeoverRequest::SendSockets(reply) => {
                        // The new process begins with the health states of this one.
                        self.admin.health.save().await;
                        match self.sockets() {
                            // A closed channel means that the new process has ended.
                            Ok(sockets) => drop(reply.send(sockets)),
                            Err(error) => tracing::warn!(%error, "sockets not handed over"),
                        }
                    }
                },
                _ = self.hang_up.recv() => {
                    // Without a receiver, the control plane's thread has failed. The last arm reports that.
                    let _ = self.messages.send(Message::Reload);
                    self.certificates.reload.notify_one();
                    self.core.query_log.reopen();
                }
                _ = self.renew.recv() => self.start_new_process(),
                Some(()) = next(&mut watchdog) => supervisor::alive(),
                changed = self.generations.changed() => match changed {
                    Ok(()) => self.follow_entry_points(),
                    Err(_) => bail!("the control plane's thread has failed"),
                }
            }
        };
        self.admin.bound.store(false, Relaxed);
        if new_process.is_none() {
            self.admin.health.save().await;
        }
        self.admin.health.stop();
        let Some(new_process) = new_process else {
            tracing::info!("stopping");
            supervisor::stopping();
            let _ = self.messages.send(Message::Stop);
            self.listeners.stop(supervisor::is_there()).await;
            return Ok(());
        };
        tracing::info!(process = new_process.id, "new process took over");
        supervisor::follow(new_process.id);
        self.admin_stop.send_replace(true);
        new_process.start();
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = self.listeners.leave(|| new_process.start_quic()) => {}
        }
        Ok(())
    }

    /// Copies of all sockets, for a new process.
    fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = self.listeners.sockets()?;
        sockets.push(self.admin_socket.try_clone()?.into());
        Ok(sockets)
    }

    fn start_new_process(&self) {
        if !self.can_be_replaced {
            return tracing::warn!("SIGUSR2 ignored");
        }
        if let Err(error) = takeover::start_new_process() {
            tracing::error!(error = format!("{error:#}"), "new process not started");
        }
    }

    /// Opens and closes listeners after a change of the entry points, when `zonal.yaml` configures no addresses.
    fn follow_entry_points(&mut self) {
        if self.config.listen.is_some() {
            return;
        }
        let wanted = listeners::default_addresses(&self.core.snapshot.load().entry_point_addresses());
        for error in self.listeners.set(&wanted) {
            tracing::warn!(error = format!("{error:#}"), "listen address not opened");
        }
        self.report_listeners();
    }
}

/// Waits for the next tick. None without an interval.
async fn next(interval: &mut Option<Interval>) -> Option<()> {
    interval.as_mut()?.tick().await;
    Some(())
}

#[cfg(test)]
mod page_tests;
