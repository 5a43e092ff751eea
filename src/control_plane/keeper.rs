//! The keeper: the only writer of what is served.
//!
//! A directory is loaded as a whole ([`Keeper::load`]); other sources deliver [changes](Change) ([`Keeper::take`]). Either way
//! it is checked, compiled, kept on disk and published as one generation, or what was served goes on being served.

use super::{
    change::{Accepted, Change, Position, Ready, Refusal, ZoneTransfer},
    counters::Counters,
    decide::Decided,
    edits::{Edits, KeptSerials},
    guard::{Held, History, Pending},
    kept::Kept,
    status::{LastError, StateDirectory, Status},
    store::Store,
};
use crate::{
    clock::now,
    config::OnError,
    difference,
    manifest::{
        Loaded, Manifest, Problem, Transferred, catalog,
        check::Checked,
        collection::{Collection, Served},
        connectivity::Connectivity,
        load::{Due, Loader},
        overlay::{Overlays, digest_with},
        presets,
    },
    snapshot::{
        self, Node, Snapshot,
        published::Published,
        routes::{Route, Servers},
    },
};
use data_encoding::HEXLOWER;
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How many problems of one load are logged.
pub(super) const LOGGED: usize = 20;
/// How many answers that would change are told of a dry run.
const MOST_ANSWERS: usize = 1000;

/// What came of a load.
#[derive(Debug, PartialEq, Eq)]
pub enum Loading {
    /// A new generation is served.
    Changed,
    /// The data is what is served already.
    Unchanged,
    /// It has errors; what was served before still is.
    Failed(Vec<Problem>),
    /// It has errors, or something is gone: more may be on its way.
    Early,
}

/// Takes what sources deliver, compiles it and publishes it. Bad input never empties what is served.
pub struct Keeper {
    pub(super) snapshot: Published,
    pub(super) node: Arc<Node>,
    pub(super) status: Arc<Status>,
    counters: Counters,
    generation: watch::Sender<u64>,
    on_error: OnError,
    /// Where what is served is kept.
    pub(super) store: Option<Store>,
    /// What was delivered, and how far the source has come with it.
    pub(super) delivered: (Collection, Position),
    /// The last of it that could be served, and what of that is set aside.
    pub(super) kept: Kept,
    pub(super) served: Served,
    /// The digest of what was loaded, without what updates have made of it.
    pub(super) loaded_digest: [u8; 32],
    /// What updates have made of zones, and where that is kept.
    pub(super) overlays: Overlays,
    pub(super) edits: Edits,
    pub(super) serials: Option<KeptSerials>,
    /// The checks of what is served.
    checked: Checked,
    /// What is kept of zones that are transferred.
    transferred: Transferred,
    /// How many resources there were lately.
    pub(super) history: History,
}

/// What is served before anything was loaded: nothing, as generation 0.
pub fn nothing(node: &Arc<Node>) -> Snapshot {
    match snapshot::compile(&Loaded::default(), node, None) {
        Ok((mut snapshot, _)) => {
            snapshot.generation = 0;
            snapshot
        }
        Err(problems) => unreachable!("an empty manifest has no errors, but {problems:?}"),
    }
}

impl Keeper {
    /// A keeper of what is served, which keeps it in `store` too.
    pub fn new(
        snapshot: Published,
        node: Arc<Node>,
        status: Arc<Status>,
        on_error: OnError,
        store: Option<Store>,
    ) -> Keeper {
        let generation = watch::channel(snapshot.load().generation).0;
        let (delivered, kept, served, loaded_digest, checked, transferred) = Default::default();
        let (overlays, edits, serials) = Default::default();
        Keeper {
            snapshot,
            node,
            status,
            counters: Counters::new(),
            generation,
            on_error,
            store,
            delivered,
            kept,
            served,
            loaded_digest,
            overlays,
            edits,
            serials,
            checked,
            transferred,
            history: History::default(),
        }
    }

    /// The counters. A copy counts the same.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Goes on with what an earlier run has kept of zones that are transferred.
    pub fn hold(&mut self, transferred: Transferred) {
        self.transferred = transferred;
    }

    /// Keeps what updates change, and goes on with what they have changed in an earlier run.
    pub fn take_edits(&mut self, edits: Edits, overlays: Overlays, serials: Option<KeptSerials>) {
        (self.edits, self.overlays, self.serials) = (edits, overlays, serials);
    }

    /// Serves what was kept of an earlier run, as the generation that it was. It is stale if there is a source that may have
    /// come further since. Fails where it has errors, as it may have for another version of this program.
    pub fn restore(&mut self, kept: Kept, is_stale: bool) -> Result<(), Vec<Problem>> {
        let (collection, position, generation) = (kept.collection.clone(), kept.position.clone(), kept.generation);
        self.kept = kept;
        let Decided { kept, served, mut snapshot, checked, warnings, reasons, .. } =
            self.decide(collection, position, OnError::SetAside, self.kept.held.clone())?;
        self.delivered = (kept.collection.clone(), kept.position.clone());
        self.loaded_digest = served.digest();
        (self.kept, self.served, self.checked) = (kept, served, checked);
        self.tell_set_aside(&reasons);
        let is_stale = is_stale || self.kept.is_incomplete;
        (snapshot.generation, snapshot.is_stale) = (generation, is_stale);
        self.publish(snapshot, &warnings);
        tracing::info!(generation, revision = self.kept.position.revision, is_stale, "serving what was kept");
        Ok(())
    }

    /// Counts on from a generation of an earlier run, of which nothing else is used.
    pub fn count_from(&mut self, generation: u64) {
        self.kept.generation = generation;
    }

    /// Follows the generations that are served.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The manifest that is served.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.served.manifest
    }

    /// How far the source has come with what was delivered.
    pub fn position(&self) -> &Position {
        &self.delivered.1
    }

    /// Loads, compiles and publishes. It takes its time and is not for threads that answer. While a change may be `early`,
    /// the first part of several, it is served only where it is whole by itself.
    pub fn load(&mut self, loader: &mut Loader, due: &Due, early: bool) -> Loading {
        let started = Instant::now();
        let load = loader.load_due(due);
        if self.on_error == OnError::SetAside
            && let Some(unreadable) = loader.unreadable()
        {
            let collection = Collection::of(loader.manifest(), loader.master_files()).without(unreadable);
            return self.load_in_part(loader, collection, early);
        }
        let (mut loaded, mut problems) = match load {
            Ok(loaded) => loaded,
            Err(_) if early => return Loading::Early,
            Err(mut problems) => {
                if self.on_error == OnError::SetAside {
                    // Those of resources would not have refused it.
                    problems.sort_by_key(|problem| problem.resource.is_some());
                }
                return self.refuse(problems);
            }
        };
        if early && self.loses(&loaded.manifest) {
            return Loading::Early;
        }
        let loaded_digest = loaded.digest;
        loaded.overlays = self.overlays.clone();
        loaded.digest = digest_with(loaded_digest, &self.overlays);
        let previous = self.snapshot.load_full();
        if previous.generation > 0 && self.loaded_digest == loaded_digest {
            loader.accept();
            self.count("unchanged", &problems);
            if previous.is_stale {
                self.swap(previous.again(false));
            }
            tracing::info!(generation = previous.generation, "loaded: nothing has changed");
            return Loading::Unchanged;
        }
        let manifest = loaded.manifest.clone();
        let (mut snapshot, checked, more) = match self.check_and_compile(loaded, &previous) {
            Ok(compiled) => compiled,
            Err(_) if early => return Loading::Early,
            Err(mut more) => {
                loader.locate(&mut more);
                problems.append(&mut more);
                return self.refuse(problems);
            }
        };
        let first = problems.len();
        problems.extend(more);
        loader.locate(&mut problems[first..]);
        // An earlier run may have come further.
        let generation = snapshot.generation.max(self.kept.generation + 1);
        let collection = Collection::of(&manifest, loader.master_files());
        self.kept = Kept { collection, generation, ..Kept::default() };
        (self.served, self.loaded_digest, self.checked) = (Served::of(manifest), loaded_digest, checked);
        snapshot.generation = generation;
        let digest = HEXLOWER.encode(&snapshot.digest);
        self.publish(snapshot, &problems);
        let _ = self.keep(false);
        loader.accept();
        tracing::info!(generation, digest, elapsed = ?started.elapsed(), "loaded");
        retire(previous);
        Loading::Changed
    }

    /// Publishes what was loaded without what has errors.
    fn load_in_part(&mut self, loader: &mut Loader, collection: Collection, early: bool) -> Loading {
        let mut decided = match self.decide(collection, Position::default(), OnError::SetAside, Held::new()) {
            Ok(decided) => decided,
            Err(_) if early => return Loading::Early,
            Err(mut problems) => {
                loader.locate(&mut problems);
                return self.refuse(problems);
            }
        };
        if early && (!decided.reasons.is_empty() || self.loses(&decided.served.manifest)) {
            return Loading::Early;
        }
        loader.locate(&mut decided.warnings);
        decided.reasons.iter_mut().for_each(|(_, problems)| loader.locate(problems));
        decided.kept.is_incomplete = false;
        loader.accept();
        let before = self.generation();
        self.settle(decided, Vec::new());
        if before == self.generation() { Loading::Unchanged } else { Loading::Changed }
    }

    /// Whether something that is served is not in a manifest.
    fn loses(&self, manifest: &Manifest) -> bool {
        manifest.resource_changes(&self.served.manifest).iter().any(|change| change.new.is_none())
    }

    /// Makes changes, in their order: all at once, or, if that fails, each by itself.
    pub fn take(&mut self, changes: Vec<Change>) {
        let (trials, changes): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.dry_run);
        let together = match &changes[..] {
            [] | [_] => None,
            several => self.decide_all(several).ok(),
        };
        match together {
            Some(decided) => self.settle(decided, changes),
            None => changes.into_iter().for_each(|change| self.make(change)),
        }
        for trial in trials {
            let accepted = self.decide_all(std::slice::from_ref(&trial)).map(|decided| {
                let served = self.snapshot.load_full();
                let answers = difference::answers(&served, &decided.snapshot, now(), MOST_ANSWERS);
                Accepted { answers: Some(answers), ..self.accepted(&decided) }
            });
            answer(trial, accepted);
        }
    }

    /// Makes one change.
    fn make(&mut self, change: Change) {
        let refusal = match self.decide_all(std::slice::from_ref(&change)) {
            Ok(decided) => return self.settle(decided, vec![change]),
            Err(refusal) => refusal,
        };
        match &refusal {
            Refusal::Problems(problems) if change.is_fact => {
                if let Ok(ready) = (change.prepare)(&self.delivered.0, &self.delivered.1) {
                    self.delivered.0.apply(&ready.edits);
                    self.delivered.1 = ready.position;
                }
                self.refuse(problems.clone());
            }
            // Its sender is told, and all that is to be served is.
            Refusal::Problems(_) => self.counters.reloads.with_label_values(&["failed"]).inc(),
            _ => {}
        }
        answer(change, Err(refusal));
    }

    /// What is to be served after these changes.
    fn decide_all(&self, changes: &[Change]) -> Result<Decided, Refusal> {
        let (mut collection, mut position) = self.delivered.clone();
        let (mut pending, mut is_whole) = (Pending::default(), false);
        for change in changes {
            let Ready { edits, position: next, deletions, is_whole: all } = (change.prepare)(&collection, &position)?;
            is_whole |= all;
            collection.apply(&edits);
            pending.add(deletions);
            position = next;
        }
        let mut decided =
            self.decide_guarded(collection, position, self.on_error, pending).map_err(Refusal::Problems)?;
        decided.kept.is_incomplete &= !is_whole;
        Ok(decided)
    }

    /// What a change would come to, or has come to.
    fn accepted(&self, decided: &Decided) -> Accepted {
        Accepted {
            generation: decided.kept.generation,
            position: decided.kept.position.clone(),
            differences: decided.served.manifest.resource_changes(&self.served.manifest),
            answers: None,
            problems: decided
                .warnings
                .iter()
                .chain(decided.reasons.iter().flat_map(|(_, problems)| problems))
                .cloned()
                .collect(),
        }
    }

    /// Keeps what was decided, publishes it, and tells who wants to know.
    fn settle(&mut self, decided: Decided, changes: Vec<Change>) {
        let started = Instant::now();
        let previous = self.snapshot.load_full();
        let mut accepted = self.accepted(&decided);
        let Decided { mut kept, served, mut snapshot, checked, warnings, reasons, is_judged, held_because } = decided;
        let is_unchanged = previous.generation > 0 && previous.digest == snapshot.digest;
        kept.generation = match is_unchanged {
            true => previous.generation,
            false => snapshot.generation.max(self.kept.generation + 1),
        };
        accepted.generation = kept.generation;
        let before = std::mem::replace(&mut self.kept, kept);
        // Who is told that it is done can rely on it. What the source has anyway is served at once.
        let is_awaited = changes.iter().any(|change| change.reply.is_some());
        if is_awaited
            && let Err(error) = self.keep(true)
            && changes.iter().any(|change| !change.is_fact)
        {
            self.kept = before;
            let (facts, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.is_fact);
            others.into_iter().for_each(|change| answer(change, Err(Refusal::not_kept(&error))));
            return facts.into_iter().for_each(|change| self.make(change));
        }
        self.delivered = (self.kept.collection.clone(), self.kept.position.clone());
        self.loaded_digest = served.digest();
        self.history.note(&self.served.manifest, &served.manifest, is_judged);
        (self.served, self.checked) = (served, checked);
        self.tell_set_aside(&reasons);
        self.tell_held(&before.held, held_because.as_deref());
        if !is_unchanged {
            let (generation, digest) = (self.kept.generation, HEXLOWER.encode(&snapshot.digest));
            (snapshot.generation, snapshot.is_stale) = (generation, self.kept.is_incomplete);
            self.publish(snapshot, &warnings);
            let Position { revision, .. } = self.kept.position;
            tracing::info!(generation, digest, revision, elapsed = ?started.elapsed(), "changed");
        } else {
            self.count("unchanged", &warnings);
            match previous.is_stale != self.kept.is_incomplete {
                true => self.swap(previous.again(self.kept.is_incomplete)),
                false => self.status.state().kept = self.kept.clone(),
            }
        }
        changes.into_iter().for_each(|change| answer(change, Ok(accepted.clone())));
        if !is_awaited {
            // What went wrong is told.
            let _ = self.keep(false);
        }
        // What goes on being served is not to be waited for.
        if !Arc::ptr_eq(&previous, &self.snapshot.load_full()) {
            retire(previous);
        }
    }

    /// Keeps what is served in the state directory. With `sync` it is on the disk when this returns.
    pub(super) fn keep(&mut self, sync: bool) -> io::Result<()> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let result = store.keep(&self.kept, sync);
        self.counters.state_write_failed.set(result.is_err().into());
        let error = result.as_ref().err().map(ToString::to_string);
        let path = store.directory().display().to_string();
        self.status.state().state_directory = Some(StateDirectory { path, error });
        if let Err(error) = &result {
            tracing::error!("what is served cannot be kept in the state directory: {error}");
        }
        result
    }

    /// Checks a manifest and compiles it. With the snapshot come warnings; instead of it, all errors and warnings.
    pub(super) fn check_and_compile(
        &self,
        loaded: Loaded,
        previous: &Snapshot,
    ) -> Result<(Snapshot, Checked, Vec<Problem>), Vec<Problem>> {
        let compiling = Instant::now();
        let manifest = &presets::complete(&loaded.manifest, &previous.manifest);
        let checked = match previous.connectivity_of(manifest) {
            Some(connectivity) => {
                let before = presets::complete(&self.served.manifest, &previous.manifest);
                self.checked.follow(&before, manifest, connectivity, now())
            }
            None => Checked::new(manifest, &Connectivity::new(manifest), now()),
        };
        let loaded = self.complete(loaded, previous);
        let compiled = snapshot::compile_checked(&loaded, &self.node, Some(previous), checked.problems());
        self.counters.compile_seconds.set(compiling.elapsed().as_secs_f64());
        let (snapshot, problems) = compiled?;
        Ok((snapshot, checked, problems))
    }

    /// Completes what was loaded with the services of presets and with what is transferred.
    pub(super) fn complete(&self, loaded: Loaded, previous: &Snapshot) -> Loaded {
        complete(loaded, &self.transferred, previous)
    }

    /// Serves zones as they were transferred: all at once, or, if that fails, each by itself.
    pub fn transferred(&mut self, transfers: Vec<ZoneTransfer>) {
        let served = match &transfers[..] {
            [] | [_] => false,
            several => self.serve_transferred(several).is_ok(),
        };
        for transfer in transfers {
            let result = if served { Ok(()) } else { self.serve_transferred(std::slice::from_ref(&transfer)) };
            // Who has gone away has gone with the zone.
            let _ = transfer.reply.send(result);
        }
    }

    fn serve_transferred(&mut self, transfers: &[ZoneTransfer]) -> Result<(), Vec<Problem>> {
        let started = Instant::now();
        let previous = self.snapshot.load_full();
        let mut transferred = self.transferred.clone();
        transferred.extend(transfers.iter().map(|transfer| (transfer.zone.clone(), transfer.held.clone())));
        let loaded = Loaded {
            manifest: self.served.manifest.clone(),
            digest: digest_with(self.loaded_digest, &self.overlays),
            overlays: self.overlays.clone(),
            ..Loaded::default()
        };
        let loaded = complete(loaded, &transferred, &previous);
        let (mut snapshot, _) = snapshot::compile(&loaded, &self.node, Some(&previous))?;
        if snapshot.digest == previous.digest {
            self.transferred = loaded.transferred;
            return Ok(());
        }
        snapshot.is_stale = previous.is_stale;
        let generation = snapshot.generation;
        let zones: Vec<String> =
            transfers.iter().take(LOGGED).map(|transfer| transfer.held.describe(&transfer.zone)).collect();
        self.swap(snapshot);
        let _ = self.keep(false);
        tracing::info!(generation, elapsed = ?started.elapsed(), "transferred: {}", zones.join(", "));
        retire(previous);
        Ok(())
    }

    /// Publishes what is served already, with another internet resolver if this one is another.
    pub fn follow(&mut self, internet: Option<Arc<Route>>) {
        if self.node.internet == internet {
            return;
        }
        match &internet {
            Some(route) if matches!(&route.servers, Servers::Targets { targets, .. } if targets.is_empty()) => {
                tracing::warn!("there is no server for names that are not ours: they get SERVFAIL");
            }
            Some(route) => tracing::info!("names that are not ours go to {}", route.servers),
            None => tracing::info!("names that are not ours are refused"),
        }
        self.node = Arc::new(Node { internet, ..(*self.node).clone() });
        let previous = self.snapshot.load_full();
        if previous.generation > 0 {
            self.swap(previous.with_node(self.node.clone()));
            let _ = self.keep(false);
            retire(previous);
        }
    }

    /// The generation that is served.
    pub fn generation(&self) -> u64 {
        self.snapshot.load().generation
    }

    /// Counts how long a change took that is served now.
    pub fn tell_delay(&self, delay: Duration) {
        self.counters.change_seconds.observe(delay.as_secs_f64());
    }

    pub(super) fn swap(&mut self, snapshot: Snapshot) {
        let previous = self.snapshot.load().serials.clone();
        if let Some(serials) = &mut self.serials
            && !Arc::ptr_eq(&previous, &snapshot.serials)
        {
            // No other server may have seen a serial that another version gets after a crash.
            serials.keep(&previous, &snapshot.serials);
        }
        let (generation, is_stale) = (snapshot.generation, snapshot.is_stale);
        self.kept.generation = generation;
        // What is not in the manifest any more is let go of.
        self.transferred = snapshot.transferred.clone();
        self.snapshot.store(Arc::new(snapshot));
        self.counters.published();
        let mut state = self.status.state();
        state.kept = self.kept.clone();
        state.is_stale = is_stale;
        state.since = now();
        drop(state);
        self.generation.send_replace(generation);
    }

    fn publish(&mut self, snapshot: Snapshot, problems: &[Problem]) {
        self.status.serves(&self.served.manifest);
        self.swap(snapshot);
        self.count("changed", problems);
        for problem in problems.iter().take(LOGGED) {
            tracing::warn!("{problem}");
        }
        if problems.len() > LOGGED {
            tracing::warn!("and {} more warnings: see `zonal check`", problems.len() - LOGGED);
        }
    }

    /// Goes on with what is served, and tells why that is not what was delivered.
    pub fn refuse(&self, problems: Vec<Problem>) -> Loading {
        let error = LastError::new(&problems);
        let generation = self.snapshot.load().generation;
        if generation > 0 {
            tracing::error!("the manifest is refused, generation {generation} is still served: {}", error.message);
        }
        self.status.state().last_error = Some(error);
        self.count("failed", &problems);
        Loading::Failed(problems)
    }

    fn count(&self, result: &str, problems: &[Problem]) {
        let counters = &self.counters;
        counters.reloads.with_label_values(&[result]).inc();
        counters.reload_failed.set((result == "failed").into());
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        counters.problems.with_label_values(&["error"]).set(errors as i64);
        counters.problems.with_label_values(&["warning"]).set((problems.len() - errors) as i64);
        let mut state = self.status.state();
        state.warnings = problems.len() - errors;
        if result != "failed" {
            state.last_error = None;
        }
    }
}

/// Completes what was loaded with the services of presets and with what is transferred.
fn complete(loaded: Loaded, transferred: &Transferred, previous: &Snapshot) -> Loaded {
    let manifest = presets::complete(&loaded.manifest, &previous.manifest);
    catalog::complete(Loaded { manifest, ..loaded }, transferred, &previous.manifest)
}

/// Tells who wants to know it what came of a change.
fn answer(change: Change, result: Result<Accepted, Refusal>) {
    if let Some(reply) = change.reply {
        // Who has gone away will find it out otherwise.
        let _ = reply.send(result);
    }
}

/// Frees a snapshot here, on the keeper's thread, and not on that of a worker which happens to hold it last.
pub(super) fn retire(snapshot: Arc<Snapshot>) {
    for _ in 0..1000 {
        if Arc::strong_count(&snapshot) == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
