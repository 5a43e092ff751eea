//! The publisher: the only writer of the published snapshot.
//!
//! The publisher loads a directory as a whole ([`Publisher::load`]). Other sources deliver
//! [changes](Change) ([`Publisher::apply`]). In both cases the publisher checks and compiles the
//! manifest. It publishes the result as one generation, or continues to serve the previous
//! generation. Transferred zones, dynamic updates and a changed internet resolver make new
//! generations of the same manifest.
//!
//! Every new generation goes through `Publisher::publish`. Bad input never removes served data.

use super::{
    change::{AcceptedChange, Change, ChangeError, ListsUpdate, Position, ZoneTransfer},
    counters::Counters,
    current::Current,
    freeze::{Decision, FreezeRequest, Frozen, RESUME_INTERVAL},
    guard::HeldDeletions,
    persisted::PersistedState,
    prepare::{PreparedGeneration, prepare},
    state_store::{self, StateStore},
    status::{self, LoadError, MAX_LOGGED, StateDirectoryReport, Status},
    updates::{Journals, SerialStore, UpdateStorage},
};
use crate::{
    clock::now,
    config::OnError,
    manifest::{
        Manifest, Problem, Transferred,
        check::Checked,
        collection::{Collection, Served},
        load::{LoadScope, Loader},
        overlay::{Overlays, digest_with},
    },
    snapshot::{
        Node, Snapshot,
        firewall::table::Lists,
        published::Published,
        routes::{Route, Servers},
    },
};
use anyhow::Context;
use data_encoding::HEXLOWER;
use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

mod changes;
mod zone_updates;

/// Maximum number of answers that a dry run compares.
const MAX_COMPARED_ANSWERS: usize = 1000;
/// Time for which the publisher waits until queries release the previous snapshot.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// Result of a load.
#[derive(Debug, PartialEq, Eq)]
pub enum LoadResult {
    /// A new generation is served.
    Changed,
    /// The manifest is already served.
    Unchanged,
    /// The manifest has errors. The previous one is still served.
    Failed(Vec<Problem>),
    /// The manifest has errors or lacks a served resource, and other files may be about to change.
    Incomplete,
}

/// Publishes the resources that sources deliver.
pub struct Publisher {
    pub(super) current: Current,
    status: Arc<Status>,
    counters: Counters,
    generations: watch::Sender<u64>,
    on_error: OnError,
    store: Option<StateStore>,
    /// Resources that the source delivered, and its position.
    pub(super) delivered: (Collection, Position),
    updates: UpdateStorage,
    serials: Option<SerialStore>,
    /// Copies of damaged journals and serials. While one of them exists, the node is stale.
    damaged: Vec<PathBuf>,
}

impl Publisher {
    /// Creates a publisher that writes to `snapshot` and to the state directory, if there is one.
    pub fn new(
        snapshot: Published,
        node: Arc<Node>,
        status: Arc<Status>,
        on_error: OnError,
        store: Option<StateStore>,
    ) -> Publisher {
        let generations = watch::channel(snapshot.load().generation).0;
        let counters = Counters::new();
        let current = Current::new(snapshot, node, counters.clone());
        let (delivered, updates, serials, damaged) = Default::default();
        Publisher { current, status, counters, generations, on_error, store, delivered, updates, serials, damaged }
    }

    /// Metrics of the publisher. Clones share their values.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Generation that is served.
    pub fn generation(&self) -> u64 {
        self.current.snapshot.load().generation
    }

    /// Returns a receiver of the served generations.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generations.subscribe()
    }

    /// Manifest that is served.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.current.served.manifest
    }

    /// Position of the source after its last delivery.
    pub fn position(&self) -> &Position {
        &self.delivered.1
    }

    /// Sets the copies of transferred zones that an earlier process has written.
    pub fn set_transferred(&mut self, transferred: Transferred) {
        self.current.transferred = transferred;
    }

    /// Sets the storage of updates, with the updates and serials that an earlier process has
    /// written.
    pub fn set_updates(&mut self, updates: UpdateStorage, overlays: Overlays, serials: Option<SerialStore>) {
        self.damaged = serials.iter().filter_map(SerialStore::damaged_copy).collect();
        if let UpdateStorage::Journals(journals) = &updates {
            self.damaged.extend(journals.damaged_copies());
        }
        (self.updates, self.current.overlays, self.serials) = (updates, overlays, serials);
    }

    /// Continues the count of generations of an earlier process whose state is not used.
    pub fn count_from(&mut self, generation: u64) {
        self.current.state.generation = generation;
    }

    // The state of an earlier run

    /// Publishes the state of an earlier process under the generation that it had.
    ///
    /// If `is_stale`, the source may have changed since then, and the snapshot is marked as stale.
    ///
    /// # Errors
    ///
    /// The problems of the state. Another version of zonal may have accepted it.
    pub fn restore(&mut self, state: PersistedState, is_stale: bool) -> Result<(), Vec<Problem>> {
        let started = Instant::now();
        let (collection, position) = (state.collection.clone(), state.position.clone());
        let (generation, held) = (state.generation, state.held.clone());
        self.current.state = state;
        let prepared = prepare(&self.current, collection, position, OnError::SetAside, held)?;
        let PreparedGeneration { state, served, mut snapshot, checked, warnings, reasons, .. } = prepared;
        let is_stale = is_stale || state.is_incomplete;
        (snapshot.generation, snapshot.is_stale) = (generation, is_stale);
        self.set_manifest(state, served, checked);
        self.status.report_set_aside(&self.current.state.aside, &reasons);
        self.publish(snapshot, "restart", started, Some(&warnings), true);
        Ok(())
    }

    // A directory

    /// Loads a directory, and publishes the manifest. This is too slow for threads that answer
    /// queries.
    ///
    /// While `is_early`, other files may be about to change. The publisher then does not publish a
    /// manifest that has errors or lacks a served resource.
    pub fn load(&mut self, loader: &mut Loader, scope: &LoadScope, is_early: bool) -> LoadResult {
        let started = Instant::now();
        let result = loader.load_scope(scope);
        if self.on_error == OnError::SetAside
            && let Some(unreadable) = loader.unreadable()
        {
            let collection = Collection::of(loader.manifest(), loader.master_files()).without(unreadable);
            return self.load_in_part(loader, collection, is_early);
        }
        let (mut loaded, mut problems) = match result {
            Ok(loaded) => loaded,
            Err(_) if is_early => return LoadResult::Incomplete,
            Err(mut problems) => {
                if self.on_error == OnError::SetAside {
                    // `on_error` accepts errors of single resources. The other errors are the
                    // reason for the refusal, so they come first.
                    problems.sort_by_key(|problem| problem.resource.is_some());
                }
                return self.refuse(problems);
            }
        };
        if is_early && self.current.loses_resources(&loaded.manifest) {
            return LoadResult::Incomplete;
        }
        let manifest_digest = loaded.digest;
        loaded.overlays = self.current.overlays.clone();
        loaded.digest = digest_with(manifest_digest, &self.current.overlays);
        let previous = self.current.snapshot.load_full();
        if previous.generation > 0 && self.current.manifest_digest == manifest_digest {
            loader.accept();
            self.count("unchanged", &problems);
            if previous.is_stale {
                self.swap(previous.with_stale(false));
            }
            tracing::info!(generation = previous.generation, "manifest unchanged");
            return LoadResult::Unchanged;
        }
        let manifest = loaded.manifest.clone();
        let (mut snapshot, checked, more) = match self.current.check_and_compile(loaded, &previous) {
            Ok(compiled) => compiled,
            Err(_) if is_early => return LoadResult::Incomplete,
            Err(mut more) => {
                loader.locate(&mut more);
                problems.append(&mut more);
                return self.refuse(problems);
            }
        };
        drop(previous);
        let first = problems.len();
        problems.extend(more);
        loader.locate(&mut problems[first..]);
        snapshot.generation = self.next_generation(&snapshot);
        let collection = Collection::of(&manifest, loader.master_files());
        self.current.state =
            PersistedState { collection, generation: snapshot.generation, ..PersistedState::default() };
        self.current.served = Served::of(manifest);
        (self.current.manifest_digest, self.current.checked) = (manifest_digest, checked);
        loader.accept();
        self.publish(snapshot, "load", started, Some(&problems), false);
        LoadResult::Changed
    }

    /// Publishes the resources of a directory that have no errors.
    fn load_in_part(&mut self, loader: &mut Loader, collection: Collection, is_early: bool) -> LoadResult {
        let none_held = HeldDeletions::new();
        let prepared = prepare(&self.current, collection, Position::default(), OnError::SetAside, none_held);
        let mut prepared = match prepared {
            Ok(prepared) => prepared,
            Err(_) if is_early => return LoadResult::Incomplete,
            Err(mut problems) => {
                loader.locate(&mut problems);
                return self.refuse(problems);
            }
        };
        if is_early && (!prepared.reasons.is_empty() || self.current.loses_resources(&prepared.served.manifest)) {
            return LoadResult::Incomplete;
        }
        loader.locate(&mut prepared.warnings);
        prepared.reasons.iter_mut().for_each(|(_, problems)| loader.locate(problems));
        prepared.state.is_incomplete = false;
        loader.accept();
        let before = self.generation();
        self.settle(prepared, Vec::new());
        if before == self.generation() { LoadResult::Unchanged } else { LoadResult::Changed }
    }

    /// Continues to serve the previous manifest, and reports the problems.
    pub fn refuse(&self, problems: Vec<Problem>) -> LoadResult {
        let error = LoadError::new(&problems);
        let generation = self.generation();
        if generation > 0 {
            tracing::error!(generation, error = error.message, "manifest refused");
        }
        self.status.state().last_error = Some(error);
        self.count("failed", &problems);
        LoadResult::Failed(problems)
    }

    // DNS Firewall lists

    /// The names of the lists that are served.
    pub fn firewall_lists(&self) -> Arc<Lists> {
        self.current.snapshot.load().firewall_lists.clone()
    }

    /// Serves other names in lists, in the same generation, which is not announced again. Returns false, and serves nothing else, if `base` is not served
    /// any more.
    pub fn set_firewall_lists(&mut self, base: &Arc<Lists>, lists: Arc<Lists>) -> bool {
        let previous = self.current.snapshot.load_full();
        if !Arc::ptr_eq(&previous.firewall_lists, base) {
            return false;
        }
        self.replace(previous.with_firewall_lists(lists));
        retire(previous);
        true
    }

    /// Makes an update of lists, and answers its sender.
    pub fn update_lists(&mut self, update: ListsUpdate) {
        let ListsUpdate { base, lists, reply } = update;
        // A sender that no longer waits has ended.
        let _ = reply.send(self.set_firewall_lists(&base, lists));
    }

    // Zones that are transferred

    /// Publishes transferred zones: all in one generation, or, if that fails, each in its own.
    pub fn publish_transfers(&mut self, transfers: Vec<ZoneTransfer>) {
        let is_published = match &transfers[..] {
            [] | [_] => false,
            several => self.try_transfers(several).is_ok(),
        };
        for transfer in transfers {
            let result = if is_published { Ok(()) } else { self.try_transfers(std::slice::from_ref(&transfer)) };
            // Sending fails if the zone, and with it the receiver, was removed.
            let _ = transfer.reply.send(result);
        }
    }

    fn try_transfers(&mut self, transfers: &[ZoneTransfer]) -> Result<(), Vec<Problem>> {
        let started = Instant::now();
        let previous = self.current.snapshot.load_full();
        let mut transferred = self.current.transferred.clone();
        transferred.extend(transfers.iter().map(|transfer| (transfer.zone.clone(), transfer.copy.clone())));
        let (mut snapshot, transferred) = self.current.recompile(&self.current.overlays, &transferred, &previous)?;
        if snapshot.digest == previous.digest {
            self.current.transferred = transferred;
            return Ok(());
        }
        drop(previous);
        snapshot.generation = self.next_generation(&snapshot);
        for transfer in transfers.iter().take(MAX_LOGGED) {
            tracing::info!(zone = %transfer.zone, content = transfer.copy.describe(&transfer.zone), "transferred zone compiled");
        }
        self.publish(snapshot, "transfer", started, None, false);
        Ok(())
    }

    /// Publishes the same manifest with another internet resolver. Does nothing if it has not
    /// changed.
    pub fn set_internet_resolver(&mut self, route: Option<Arc<Route>>) {
        if self.current.node.internet == route {
            return;
        }
        let started = Instant::now();
        match &route {
            Some(route) if matches!(&route.servers, Servers::Targets { targets, .. } if targets.is_empty()) => {
                tracing::warn!("internet resolver has no servers");
            }
            Some(route) => tracing::info!(servers = %route.servers, "internet resolver changed"),
            None => tracing::info!("internet resolver disabled"),
        }
        self.current.node = Arc::new(Node { internet: route, ..(*self.current.node).clone() });
        let previous = self.current.snapshot.load_full();
        if previous.generation > 0 {
            let snapshot = previous.with_node(self.current.node.clone());
            drop(previous);
            self.publish(snapshot, "internet_resolver", started, None, false);
        }
    }

    /// Asks the clients of the remaining connections to close them after their answers (RFC 7828,
    /// section 3.4).
    pub fn ask_clients_to_leave(&mut self) {
        let previous = self.current.snapshot.load_full();
        let node = Arc::new(Node { tcp_keepalive: 0, ..(*previous.node).clone() });
        let mut last = previous.with_node(node);
        last.generation = previous.generation;
        self.swap(last);
    }

    // Another process that takes over

    /// Stops all changes until the decision which process continues.
    pub fn freeze(&mut self, request: FreezeRequest) -> Decision {
        let frozen = match &mut self.store {
            Some(store) => store.release().map(Frozen::Directory),
            None => state_store::in_memory(&self.current.state).map(Frozen::Memory),
        };
        let frozen = match frozen {
            Ok(frozen) => frozen,
            Err(error) => {
                tracing::error!(%error, "takeover refused");
                return Decision::GoOn;
            }
        };
        if request.frozen.send(frozen).is_err() {
            return Decision::GoOn;
        }
        let decision = request.decision.recv().unwrap_or(Decision::GoOn);
        match decision {
            Decision::Leave => self.ask_clients_to_leave(),
            Decision::GoOn => {
                while let Err(error) = self.resume() {
                    tracing::error!(error = format!("{error:#}"), "state directory not taken back");
                    std::thread::sleep(RESUME_INTERVAL);
                }
            }
        }
        decision
    }

    /// Takes the state directory back. The other process may have written to it, but has not
    /// acknowledged any change.
    fn resume(&mut self) -> anyhow::Result<()> {
        let Some(store) = &mut self.store else { return Ok(()) };
        store.reopen()?;
        let directory = store.directory().to_path_buf();
        if self.serials.is_some() {
            self.serials = Some(SerialStore::open(&directory)?.0);
        }
        if matches!(self.updates, UpdateStorage::Journals(_)) {
            self.updates = UpdateStorage::Journals(Journals::open(&directory)?.0);
        }
        self.write_state(true).context("the state cannot be written")
    }

    // Publishing

    /// Returns the number of a new generation. It exceeds the numbers of this and of earlier
    /// processes.
    fn next_generation(&self, snapshot: &Snapshot) -> u64 {
        snapshot.generation.max(self.current.state.generation + 1)
    }

    /// Sets the manifest that is served next, and records its state as delivered.
    fn set_manifest(&mut self, state: PersistedState, served: Served, checked: Checked) {
        self.delivered = (state.collection.clone(), state.position.clone());
        self.current.manifest_digest = served.digest();
        (self.current.state, self.current.served, self.current.checked) = (state, served, checked);
    }

    /// Publishes a new generation.
    ///
    /// - `cause` is the cause of the generation: `load`, `change`, `restart`, `transfer`, `update`
    ///   or `internet_resolver`.
    /// - `problems` has the warnings of a new manifest. `None` if the manifest is the same.
    /// - `is_written` means that the state is already in the state directory.
    fn publish(
        &mut self,
        snapshot: Snapshot,
        cause: &'static str,
        started: Instant,
        problems: Option<&[Problem]>,
        is_written: bool,
    ) {
        let previous = self.current.snapshot.load_full();
        let (generation, digest) = (snapshot.generation, HEXLOWER.encode(&snapshot.digest));
        if problems.is_some() {
            self.status.set_resources(&self.current.served.manifest);
        }
        self.swap(snapshot);
        if let Some(problems) = problems {
            self.count("changed", problems);
            status::log_warnings(problems);
        }
        if !is_written {
            // `write_state` logs a failure, and adds it to the status.
            let _ = self.write_state(false);
        }
        let (revision, elapsed) = (self.current.state.position.revision, started.elapsed());
        let is_stale = self.current.snapshot.load().is_stale;
        tracing::info!(generation, cause, digest, revision, is_stale, ?elapsed, "generation published");
        retire(previous);
    }

    /// Whether a journal or the serials were damaged. No source can deliver the lost data again.
    fn has_lost_updates(&mut self) -> bool {
        self.damaged.retain(|copy| copy.exists());
        !self.damaged.is_empty()
    }

    /// Replaces the snapshot, and announces it.
    fn swap(&mut self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.replace(snapshot);
        self.counters.set_published();
        let mut state = self.status.state();
        state.persisted = self.current.state.clone();
        state.is_stale = self.current.snapshot.load().is_stale;
        state.damaged.clone_from(&self.damaged);
        state.since = now();
        drop(state);
        self.generations.send_replace(generation);
    }

    /// Replaces the snapshot. No other function does so.
    fn replace(&mut self, mut snapshot: Snapshot) {
        snapshot.is_stale |= self.has_lost_updates();
        let previous = self.current.snapshot.load().serials.clone();
        if let Some(serials) = &mut self.serials
            && !Arc::ptr_eq(&previous, &snapshot.serials)
        {
            // The serials are written before the zones are served. So a crash cannot lead to two
            // versions of a zone with the same serial.
            serials.write(&previous, &snapshot.serials);
        }
        self.current.state.generation = snapshot.generation;
        // The snapshot lacks the zones that were removed from the manifest.
        self.current.transferred = snapshot.transferred.clone();
        self.current.snapshot.store(Arc::new(snapshot));
    }

    /// Writes the state to the state directory, and with `sync` waits until it is on the disk.
    ///
    /// A failure is logged, and added to the status.
    fn write_state(&mut self, sync: bool) -> io::Result<()> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let result = store.write(&self.current.state, sync);
        self.counters.state_write_failed.set(result.is_err().into());
        let error = result.as_ref().err().map(ToString::to_string);
        let path = store.directory().display().to_string();
        if let Err(error) = &result {
            tracing::error!(path, %error, "state not written");
        }
        self.status.state().state_directory = Some(StateDirectoryReport { path, error });
        result
    }

    /// Records the delay from a change until it was served.
    pub fn observe_delay(&self, delay: Duration) {
        self.counters.change_seconds.observe(delay.as_secs_f64());
    }

    fn count(&self, result: &str, problems: &[Problem]) {
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        let warnings = problems.len() - errors;
        self.counters.count_load(result, errors, warnings);
        self.status.set_load_result(warnings, result == "failed");
    }
}

/// Sends the result to the sender of a change, if the sender waits for it.
fn answer(change: Change, result: Result<AcceptedChange, ChangeError>) {
    if let Some(reply) = change.reply {
        // A sender that no longer waits reads the result from the status.
        let _ = reply.send(result);
    }
}

/// Frees a snapshot on the publisher's thread, and not on the thread of the last query that uses
/// it.
fn retire(snapshot: Arc<Snapshot>) {
    let end = Instant::now() + RETIRE_TIMEOUT;
    while Arc::strong_count(&snapshot) > 1 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
