//! The state of the publisher: the snapshot that is served, and everything that the next generation
//! is compiled from.

use super::{counters::Counters, guard::CountHistory, persisted::PersistedState};
use crate::{
    clock::now,
    manifest::{
        Loaded, Manifest, Problem, Transferred, catalog,
        check::{Checked, protected_associations},
        collection::Served,
        connectivity::Connectivity,
        overlay::{Overlays, digest_with},
        presets,
    },
    snapshot::{self, Node, Snapshot, published::Published},
};
use std::{sync::Arc, time::Instant};

/// The snapshot that is served, and its sources. Only the
/// [`Publisher`](super::publisher::Publisher) changes them.
pub(super) struct Current {
    pub(super) snapshot: Published,
    pub(super) node: Arc<Node>,
    /// The state in the state directory.
    pub(super) state: PersistedState,
    /// The manifest.
    pub(super) served: Served,
    /// The digest of the manifest, without dynamic updates.
    pub(super) manifest_digest: [u8; 32],
    /// The problems of the manifest.
    pub(super) checked: Checked,
    /// The record sets that dynamic updates have changed.
    pub(super) overlays: Overlays,
    /// The zones that are transferred from primaries.
    pub(super) transferred: Transferred,
    pub(super) history: CountHistory,
    pub(super) counters: Counters,
}

impl Current {
    /// Serves `snapshot`, before the first manifest.
    pub(super) fn new(snapshot: Published, node: Arc<Node>, counters: Counters) -> Current {
        let (state, served, manifest_digest, checked, overlays, transferred, history) = Default::default();
        Current { snapshot, node, state, served, manifest_digest, checked, overlays, transferred, history, counters }
    }

    /// Whether a manifest lacks a resource that is served.
    pub(super) fn loses_resources(&self, manifest: &Manifest) -> bool {
        manifest.resource_changes(&self.served.manifest).iter().any(|change| change.new.is_none())
    }

    /// Checks a manifest and compiles it, together with the transferred zones. Returns warnings
    /// with the snapshot.
    ///
    /// # Errors
    ///
    /// All problems, if one of them is an error.
    pub(super) fn check_and_compile(
        &self,
        loaded: Loaded,
        previous: &Snapshot,
    ) -> Result<(Snapshot, Checked, Vec<Problem>), Vec<Problem>> {
        let started = Instant::now();
        let manifest = &presets::complete(&loaded.manifest, &previous.manifest);
        let mut problems = protected_associations(&self.served.manifest, manifest);
        let checked = match previous.connectivity_of(manifest) {
            Some(connectivity) => {
                let before = presets::complete(&self.served.manifest, &previous.manifest);
                self.checked.follow(&before, manifest, connectivity, now())
            }
            None => Checked::new(manifest, &Connectivity::new(manifest), now()),
        };
        let loaded = complete(loaded, &self.transferred, previous);
        let compiled = snapshot::compile_checked(&loaded, &self.node, Some(previous), {
            problems.extend(checked.problems());
            problems
        });
        self.counters.compile_seconds.set(started.elapsed().as_secs_f64());
        let (snapshot, problems) = compiled?;
        Ok((snapshot, checked, problems))
    }

    /// Compiles the manifest that is served, with other dynamic updates and other transferred
    /// zones. Returns the transferred zones that are still in the manifest or in a catalog with the
    /// snapshot.
    ///
    /// # Errors
    ///
    /// The problems of the records, if one of them is an error.
    pub(super) fn recompile(
        &self,
        overlays: &Overlays,
        transferred: &Transferred,
        previous: &Snapshot,
    ) -> Result<(Snapshot, Transferred), Vec<Problem>> {
        let loaded = Loaded {
            manifest: self.served.manifest.clone(),
            digest: digest_with(self.manifest_digest, overlays),
            overlays: overlays.clone(),
            ..Loaded::default()
        };
        let loaded = complete(loaded, transferred, previous);
        let (mut snapshot, _) = snapshot::compile(&loaded, &self.node, Some(previous))?;
        snapshot.is_stale = previous.is_stale;
        Ok((snapshot, loaded.transferred))
    }
}

/// Adds the services of presets and the transferred zones to a manifest.
fn complete(loaded: Loaded, transferred: &Transferred, previous: &Snapshot) -> Loaded {
    let manifest = presets::complete(&loaded.manifest, &previous.manifest);
    catalog::complete(Loaded { manifest, ..loaded }, transferred, &previous.manifest)
}

/// The snapshot before the first manifest: generation 0, which answers no query.
pub fn empty_snapshot(node: &Arc<Node>) -> Snapshot {
    match snapshot::compile(&Loaded::default(), node, None) {
        Ok((mut snapshot, _)) => {
            snapshot.generation = 0;
            snapshot
        }
        Err(problems) => unreachable!("an empty manifest has no errors, but {problems:?}"),
    }
}
