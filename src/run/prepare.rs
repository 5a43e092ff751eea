//! The first phase of a start: reads the files of the configuration, the saved state and the manifest, and publishes the first
//! snapshot. Nothing is bound or answered yet, so that a failure harms no running process.

use super::{descriptors, inherited::Inherited, listeners, node, state, takeover::OldProcess};
use crate::{
    admin::{self, Admin},
    config::{Config, Dnstap, DnstapMessage, DnstapMessages, InternetResolver, OnError, Source},
    control_plane::{
        self,
        directory::Watch,
        empty_snapshot, etcd,
        etcd_writer::EtcdWriter,
        internet::Internet,
        persisted::PersistedState,
        publisher::{LoadResult, Publisher},
        state_store::StateStore,
        status::{LoadError, Status},
        updates::{Journals, SerialStore, UpdateStorage},
    },
    firewall_lists::{self, FirewallLists, transfers::list_id},
    forward::{self, Forwarding, cache::Lifetimes, recursion::Recursion, upstream::Upstreams},
    health::Health,
    listen::{Core, Limits},
    manifest::{
        Id, Problem,
        load::{LoadScope, Loader},
        overlay::Overlays,
    },
    metrics::Metrics,
    query_log::{EntrySender, QueryLog, SMALL_RING_OCTETS},
    snapshot::published::Published,
    transfer::{
        self, Transfers,
        copies::Copies,
        incoming::{self, ListTransfers},
        primary::TransferLimits,
        tsig::Keys,
        update::{Updates, etcd::EtcdEditor},
    },
};
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    fmt, io,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime},
};
use tokio::{
    runtime::{Handle, Runtime},
    sync::Semaphore,
};

/// The first manifest has errors, and no earlier one was saved.
#[derive(Debug)]
pub struct Rejected(pub Vec<Problem>);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the manifest is refused, and no earlier one was saved; `zonal check` shows every error")
    }
}

impl std::error::Error for Rejected {}

/// A server that has read everything, and serves nothing yet.
pub struct Prepared {
    /// The state that all listeners share, with the first snapshot.
    pub core: Arc<Core>,
    /// The state of the control plane.
    pub status: Arc<Status>,
    /// The publisher of snapshots.
    pub publisher: Publisher,
    /// The watch of files, and the channel of the control plane's thread.
    pub watch: Watch,
    /// The running process that this one replaces.
    pub old_process: Option<OldProcess>,
    /// The DNS Firewall lists that have a source.
    pub firewall_lists: Arc<FirewallLists>,
    /// The writer to etcd, if etcd is the source of the manifest.
    etcd: Option<Arc<EtcdWriter>>,
    loader: Option<Loader>,
    internet: Internet,
    copies: Copies,
    /// The times of the last refresh of transferred zones.
    refresh_times: BTreeMap<Id, SystemTime>,
}

impl Prepared {
    /// Reads everything. A running process at `takeover_socket` makes no changes from then on.
    pub fn read(
        config: &Config,
        takeover_socket: Option<&Path>,
        inherited: &mut Inherited,
        runtime: &Handle,
    ) -> anyhow::Result<Prepared> {
        let source = config.control_plane.source();
        let directory = match source {
            Source::Directory(directory) => Some(directory),
            Source::Etcd(_) | Source::Push => None,
        };
        let state_directory = config.state_directory.as_deref();
        let started = SystemTime::now();
        let mut internet = Internet::new(config, listeners::own_addresses(config));
        let node = Arc::new(node::node(config, internet.read())?);
        let keys = Keys::read(&config.tsig_keys)?;
        let StartState { old_process, store, saved, had_resources } =
            StartState::find(config, directory, takeover_socket, inherited)?;
        let on_error = config.control_plane.on_error();
        let keeps_texts = store.is_some() || on_error == OnError::SetAside;
        let (serials, saved_serials) = state_directory.map(SerialStore::open).transpose()?.unzip();
        let mut nothing = empty_snapshot(&node);
        nothing.serials = saved_serials.unwrap_or_default();
        let snapshot = Arc::new(ArcSwap::from_pointee(nothing));
        let limit = descriptors::raise_limit();
        let status = Arc::new(Status::default());
        let mut watch = Watch::new(directory);
        let etcd = match &source {
            Source::Etcd(etcd) => Some(Arc::new(EtcdWriter::new((*etcd).clone(), status.clone()))),
            Source::Directory(_) | Source::Push => None,
        };
        let updates = match &etcd {
            Some(writer) => Updates::Etcd(EtcdEditor::new(writer.clone())),
            None => Updates::Publisher(watch.sender()),
        };
        let core = core(config, limit, snapshot, keys, updates, runtime)?;
        let mut publisher = Publisher::new(core.snapshot.clone(), node, status.clone(), on_error, store);
        let copies = Copies::new(state_directory);
        let found = copies.read();
        let zones = found.iter().filter(|(id, _)| list_id(id).is_none());
        publisher.set_transferred(zones.map(|(id, copy)| (id.clone(), copy.zone_copy(started))).collect());
        let (storage, overlays) = update_storage(&source, state_directory)?;
        publisher.set_updates(storage, overlays, serials);
        watch.add(internet.files());
        let mut loader = directory.map(|directory| loader(directory, keeps_texts, had_resources));
        publish_first(&mut publisher, loader.as_mut(), saved, matches!(source, Source::Etcd(_)), on_error)?;
        let firewall_lists = FirewallLists::new(lists_settings(config, directory), core.snapshot.clone())?;
        let of_list = |id| list_id(id).map(Id::from);
        let transferred = found.iter().filter_map(|(id, copy)| Some((of_list(id)?, copy.zone_copy(started)))).collect();
        firewall_lists.load_first(&mut publisher, transferred);
        watch.follow(&loader.iter().flat_map(Loader::inputs).collect::<Vec<_>>(), started);
        let refresh_times = found.into_iter().map(|(id, copy)| (id, copy.refreshed)).collect();
        Ok(Prepared {
            core,
            status,
            publisher,
            watch,
            old_process,
            firewall_lists,
            etcd,
            loader,
            internet,
            copies,
            refresh_times,
        })
    }

    /// The state that the admin API serves.
    pub fn admin(&self, config: &Config, access: admin::Access, metrics: Metrics, health: Arc<Health>) -> Admin {
        Admin {
            metrics,
            core: self.core.clone(),
            counters: self.publisher.counters().clone(),
            status: self.status.clone(),
            health,
            firewall_lists: self.firewall_lists.clone(),
            bound: AtomicBool::new(true),
            ready_when_stale: config.control_plane.ready_when_stale,
            access,
            takes_changes: matches!(config.control_plane.source(), Source::Push),
            etcd: self.etcd.clone(),
            max_body_octets: config.admin.max_body_octets as usize,
            messages: self.watch.sender(),
            generations: self.publisher.generations(),
            followers: Arc::new(Semaphore::new(admin::MAX_FOLLOWERS)),
            scrapes: Arc::new(Semaphore::new(admin::MAX_SCRAPES)),
            manifests: Arc::new(Semaphore::new(admin::MAX_MANIFESTS)),
            aws: admin::AwsState::default(),
        }
    }

    /// Starts the threads and tasks that follow etcd, primaries, secondaries, and changes of the manifest.
    pub fn follow(self, config: &Config, runtime: &Runtime) -> anyhow::Result<()> {
        let Prepared {
            core, status, publisher, watch, loader, internet, copies, refresh_times, firewall_lists, ..
        } = self;
        if let Source::Etcd(etcd) = config.control_plane.source() {
            let position = publisher.position().clone();
            start_etcd(etcd::follow(etcd.clone(), watch.sender(), status.clone(), position))?;
        }
        let generations = || publisher.generations();
        let transfers = &core.transfers;
        let lists = ListTransfers { messages: firewall_lists.start_transfers(watch.sender())?, lists: firewall_lists };
        let run = incoming::run_tasks(transfers.clone(), watch.sender(), generations(), copies, refresh_times, lists);
        runtime.spawn(run);
        runtime.spawn(transfer::follow(transfers.clone(), status, generations()));
        std::thread::Builder::new()
            .name("control-plane".into())
            .spawn(move || control_plane::run(watch, loader, internet, publisher))
            .context("the control plane's thread cannot be started")?;
        Ok(())
    }
}

/// How this node reads DNS Firewall lists.
fn lists_settings(config: &Config, directory: Option<&Path>) -> firewall_lists::Settings {
    firewall_lists::Settings {
        allow_sources: config.firewall.allow_sources.clone(),
        authorities: config.certificate_authority.clone(),
        manifest_directory: directory.map(Path::to_path_buf),
        state_directory: config.state_directory.clone(),
    }
}

/// Starts the thread that follows etcd.
fn start_etcd(follow: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("etcd".into()).spawn(move || runtime.block_on(follow))?;
    Ok(())
}

/// The state at the start: a running process, and the saved state of an earlier run.
struct StartState {
    /// The running process that this one replaces.
    old_process: Option<OldProcess>,
    store: Option<StateStore>,
    /// The manifest that was served last. A directory of files is read again; without a state directory it is the only source.
    saved: Option<PersistedState>,
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
        let (store, saved) = state::open(config.state_directory.as_deref(), frozen)?;
        let had_resources = saved.as_ref().is_some_and(|saved| saved.generation > 0 && !saved.collection.is_empty());
        let saved = saved.filter(|_| store.is_some() || directory.is_none());
        match unusable {
            Some(unusable) if saved.is_none() || !had_resources => Err(unusable),
            _ => Ok(StartState { old_process, store, saved, had_resources }),
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

/// Builds the part of the server that all listeners share: forwarding, zone transfers and the query log.
fn core(
    config: &Config,
    open_files: Option<u64>,
    snapshot: Published,
    keys: Keys,
    updates: Updates,
    runtime: &Handle,
) -> anyhow::Result<Arc<Core>> {
    let messages = config.dnstap.as_ref().map_or_else(DnstapMessages::default, Dnstap::messages);
    let query_log = QueryLog::new(messages);
    let taps_forwarded =
        [DnstapMessage::ForwarderQuery, DnstapMessage::ForwarderResponse].into_iter().any(|kind| messages.has(kind));
    let entry_sender = taps_forwarded.then(|| EntrySender::new(&query_log, SMALL_RING_OCTETS, 0));
    let upstreams = Upstreams::trusting(config.certificate_authority.clone(), entry_sender);
    let recursion = match &config.internet_resolver {
        InternetResolver::Recursive(recursion) => Some(Recursion::new(recursion, config.state_directory.as_deref())?),
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
    let mut limits_of_transfers = TransferLimits {
        octets: config.limits.transfer_octets as usize,
        list_octets: config.limits.list_transfer_octets as usize,
        ..TransferLimits::default()
    };
    if let Some(directory) = Copies::new(config.state_directory.as_deref()).directory() {
        limits_of_transfers.directory = directory.into();
    }
    let transfers = Transfers::new(snapshot.clone(), forwarding.clone(), keys, limits_of_transfers, updates, runtime);
    let limits = limits(config, open_files);
    Ok(Arc::new(Core::new(snapshot, &limits, forwarding, transfers, query_log, runtime)))
}

/// Publishes the first snapshot: from the files, or else from the manifest that an earlier run has saved.
fn publish_first(
    publisher: &mut Publisher,
    loader: Option<&mut Loader>,
    saved: Option<PersistedState>,
    is_followed: bool,
    on_error: OnError,
) -> Result<(), Rejected> {
    let saved = saved.filter(|saved| saved.generation > 0);
    let Some(loader) = loader else {
        if let Some(Err(problems)) = saved.map(|saved| publisher.restore(saved, is_followed)) {
            let error = LoadError::new(&problems).message;
            tracing::error!(error, "saved manifest rejected");
        }
        return Ok(());
    };
    publisher.count_from(saved.as_ref().map_or(0, |saved| saved.generation));
    // zonal serves the saved version of each resource that the files have errors in.
    let is_restored =
        on_error == OnError::SetAside && saved.clone().is_some_and(|saved| publisher.restore(saved, true).is_ok());
    let LoadResult::Failed(problems) = publisher.load(loader, &LoadScope::default(), false) else { return Ok(()) };
    if is_restored {
        return Ok(());
    }
    let Some(saved) = saved else { return Err(Rejected(problems)) };
    publisher.restore(saved, true).map_err(Rejected)?;
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
