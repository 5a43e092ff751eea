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
mod prepare;
mod state;
mod supervisor;
mod takeover;

use crate::{
    admin::{self, Admin},
    config::{Config, LogFormat, Source},
    control_plane::{Message, counters::Counters, health_keys, status::Status},
    firewall_events,
    health::{self, Health},
    listen::Core,
    log,
    manifest::{Manifest, Protocol, problem::printable},
    metrics::Metrics,
    query_log::{Events, RunningWriter},
};
use anyhow::bail;
use certificates::Certificates;
use inherited::Inherited;
use listeners::{Bound, Listeners};
use prepare::Prepared;
use rustls::server::ResolvesServerCert;
use socket2::{Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::Sender},
    time::Duration,
};
use takeover::{OldProcess, TakeoverListener, TakeoverRequest};
use tokio::{
    runtime::{Handle, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{Interval, interval},
};

pub use example_queries::example_queries;
pub use prepare::Rejected;

/// Serves until SIGTERM or SIGINT, or until a new process has taken over. An error is one sentence that says what to do;
/// [`Rejected`] has the problems.
pub fn serve(config: &Config) -> anyhow::Result<()> {
    let mut inherited = Inherited::from_environment();
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("tcp").enable_all().build()?;
    // These signals are caught from the first moment on: a reload that comes early must not end the process.
    let [hang_up, renew] = signals(&runtime, [SignalKind::hangup(), SignalKind::user_defined2()])?;
    let takeover_socket = takeover_socket(config);

    // Read: the files of the configuration, the saved state, and the manifest.
    let access = admin::Access::new(&config.admin)?;
    let mut prepared = Prepared::read(config, takeover_socket.as_deref(), &mut inherited, runtime.handle())?;
    let (core, status) = (prepared.core.clone(), prepared.status.clone());

    // Bind: all sockets, of which nothing is read yet.
    let certificates = Arc::new(Certificates::default());
    let bound = bind(config, &core, &certificates, &mut inherited)?;
    let admin_address = config.admin.address;
    let admin_listener = admin::bind(admin_address, inherited.take(Type::STREAM, admin_address).pop())?;
    let admin_socket = Socket::from(admin_listener.try_clone()?);
    let admin_address = admin_listener.local_addr()?;
    let admin_tls = admin_tls(config, &certificates)?;
    let log = start_query_log(config, &core, prepared.publisher.generations(), runtime.handle())?;
    let takeover_listener = takeover_socket.as_deref().map(TakeoverListener::new).transpose()?;
    let can_be_replaced = takeover_listener.is_some();

    // Take over: all steps that are likely to fail are done. The old process has gone on until here, and this one has
    // answered nothing. From now on the signals end this process in order.
    let [terminate, interrupt] = signals(&runtime, [SignalKind::terminate(), SignalKind::interrupt()])?;
    let old_process = prepared.old_process.take();
    let quic_is_free = old_process.map_or_else(|| Ok(watch::channel(true).1), OldProcess::take_over)?;

    // Answer. The first answer already follows the health states of an earlier process.
    let (messages, generations) = (prepared.watch.sender(), prepared.publisher.generations());
    let addresses = bound.iter().map(Bound::ip).filter(|ip| !ip.is_unspecified()).collect();
    let settings = health_settings(config, addresses);
    let health = Health::start(settings, &core.forwarding, generations.clone(), runtime.handle())?;
    let mut listeners = Listeners::new(core.clone(), runtime.handle().clone(), quic_is_free);
    for bound in bound {
        listeners.start(bound)?;
    }
    if let Source::Etcd(etcd) = config.control_plane.source() {
        let name = String::from_utf8_lossy(&core.snapshot.load().node.nsid).into_owned();
        let node = config.health.share.then(|| health_keys::node_name(&name));
        runtime.spawn(health_keys::follow(etcd.clone(), health.clone(), node));
    }
    let metrics = metrics(&core, prepared.publisher.counters(), &status, &certificates);
    health.counters.register(&metrics.registry, &core.snapshot);
    let firewall_lists = prepared.firewall_lists.clone();
    firewall_lists.register(&metrics.registry);
    firewall_lists.start(messages.clone(), generations.clone())?;
    let admin = Arc::new(prepared.admin(config, access, metrics, health));
    let (admin_stop, admin_is_stopped) = watch::channel(false);
    admin::start(admin_listener, admin.clone(), admin_tls, admin_is_stopped)?;

    // Follow: certificates, changes of the manifest, and other servers.
    runtime.spawn(certificates.clone().follow());
    runtime.spawn(memory::return_free_memory());
    let manifest = prepared.publisher.manifest().clone();
    prepared.follow(config, &runtime)?;
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
    // Connections of slow clients may be left, and a load of the manifest that is not needed any more.
    Runtime::shutdown_background(runtime);
    result
}

/// Catches signals from now on.
fn signals<const N: usize>(runtime: &Runtime, kinds: [SignalKind; N]) -> io::Result<[Signal; N]> {
    let _runtime = runtime.enter();
    let signals = kinds.into_iter().map(signal).collect::<io::Result<Vec<_>>>()?;
    signals.try_into().map_err(|_| io::Error::other("a signal is lost"))
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
    let events = config.firewall.events.as_ref().map(|settings| {
        let counts = core.query_log.events.clone();
        let (output, delivery) = firewall_events::channel(firewall_events::Server {
            url: settings.url.clone(),
            host: settings.host().unwrap_or_default().into(),
            authorities: config.certificate_authority.clone(),
            node: String::from_utf8_lossy(&core.snapshot.load().node.nsid).into_owned(),
            counts: counts.clone(),
        });
        runtime.spawn(delivery.run());
        Events::new(Duration::from_secs(settings.deduplicate_seconds.into()), output, counts)
    });
    let directory = config.query_log.directory.clone();
    Ok(RunningWriter::start(&core.query_log, &core.snapshot, directory, dnstap, events, generations, runtime)?)
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
fn health_settings(config: &Config, addresses: Vec<IpAddr>) -> health::Settings {
    health::Settings {
        max_in_flight: config.health.max_in_flight as usize,
        freeze_for: Duration::from_secs(config.health.freeze_for.into()),
        authorities: config.certificate_authority.clone(),
        state_directory: config.state_directory.clone(),
        quorum: config.health.quorum,
        availability_zone_id: config.health.availability_zone_id.clone(),
        addresses,
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
                    TakeoverRequest::SendSockets(reply) => match self.sockets() {
                        // A closed channel means that the new process has ended.
                        Ok(sockets) => drop(reply.send(sockets)),
                        Err(error) => tracing::warn!(%error, "sockets not handed over"),
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
        // A new process reads the health states when it is told to start.
        self.admin.health.stop().await;
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
