//! Prepares the generation that serves a collection with errors: the collection without the
//! resources that are set aside.
//!
//! Resources are settled in the order in which they refer to one another, in rounds. The first
//! rounds settle the resources that cannot be read: each falls back to the version that is served.
//! Each of the next rounds settles the resources of one kind, in the order of
//! [`KINDS`](crate::manifest::KINDS), so that a resource is judged only when all that it refers to
//! is settled. In one round a resource takes at most one step, however many problems it has:
//!
//! ```text
//! as delivered -> the version that is served -> nothing
//! ```

use super::{change::Position, current::Current, guard::HeldDeletions, persisted::PersistedState};
use crate::{
    config::OnError,
    manifest::{
        KINDS, Problem,
        check::Checked,
        collection::{Collection, Key, Replacement, Replacements, Served},
        overlay::digest_with,
    },
    snapshot::Snapshot,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Why resources are set aside. A resource comes after the resources that it refers to: the cause
/// first.
pub(super) type Reasons = Vec<(Key, Vec<Problem>)>;

/// A generation that is not served yet.
pub(super) struct PreparedGeneration {
    pub(super) state: PersistedState,
    pub(super) served: Served,
    pub(super) snapshot: Snapshot,
    pub(super) checked: Checked,
    pub(super) warnings: Vec<Problem>,
    pub(super) reasons: Reasons,
    /// The guard has judged its deletions, which count for later ones.
    pub(super) is_judged: bool,
    /// The number of resources that would be lost, if deletions are held that were not before.
    pub(super) held_reason: Option<String>,
}

/// The position of a kind in the order in which kinds refer to one another.
fn rank(kind: &str) -> usize {
    KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len())
}

/// The errors of resources, by resource. Errors that belong to no resource are left out.
fn by_resource(problems: &[Problem]) -> BTreeMap<(usize, Key), Vec<&Problem>> {
    let mut errors: BTreeMap<(usize, Key), Vec<&Problem>> = BTreeMap::new();
    for problem in problems.iter().filter(|problem| problem.is_error()) {
        let key = problem.resource.as_ref().and_then(|(kind, id)| Key::new(kind, id));
        if let Some(key) = key {
            errors.entry((rank(key.kind), key)).or_default().push(problem);
        }
    }
    errors
}

/// Prepares the generation that serves a collection: all of it, or without the resources that are
/// set aside. The resources that are `held` are served as they were.
///
/// # Errors
///
/// All problems, if `on_error` is [`OnError::Refuse`] and one of them is an error, or if an error
/// belongs to no resource.
pub(super) fn prepare(
    current: &Current,
    collection: Collection,
    position: Position,
    on_error: OnError,
    mut held: HeldDeletions,
) -> Result<PreparedGeneration, Vec<Problem>> {
    let previous = current.snapshot.load_full();
    let mut aside = Replacements::new();
    for key in held.keys().cloned().collect::<Vec<_>>() {
        match last_version(current, &key) {
            Some(Replacement::Older(resource, texts) | Replacement::Unfit(resource, texts)) => {
                aside.insert(key, Replacement::Older(resource, texts));
            }
            _ => drop(held.remove(&key)),
        }
    }
    let mut found: HashMap<Key, Vec<Problem>> = HashMap::new();
    let mut order: Vec<Key> = Vec::new();
    loop {
        let mut candidate = collection.candidate(&aside, &current.served);
        candidate.loaded.overlays = current.overlays.clone();
        candidate.loaded.digest = digest_with(candidate.loaded.digest, &current.overlays);
        let mut problems = candidate.problems;
        let mut errors = by_resource(&problems);
        let is_readable = !problems.iter().any(Problem::is_error);
        // A resource that refers to one that cannot be read is judged when it is known what is
        // served of that.
        if is_readable || on_error == OnError::Refuse {
            match current.check_and_compile(candidate.loaded, &previous) {
                Ok((snapshot, checked, more)) if is_readable => {
                    problems.extend(more);
                    let (generation, is_incomplete) = (snapshot.generation, current.state.is_incomplete);
                    return Ok(PreparedGeneration {
                        state: PersistedState { collection, aside, held, position, generation, is_incomplete },
                        served: candidate.served,
                        snapshot,
                        checked,
                        warnings: problems,
                        reasons: order.into_iter().filter_map(|key| found.remove_entry(&key)).collect(),
                        is_judged: false,
                        held_reason: None,
                    });
                }
                Ok((.., more)) | Err(more) => problems.extend(more),
            }
            errors = by_resource(&problems);
        }
        if on_error == OnError::Refuse {
            return Err(problems);
        }
        // One round settles all resources that cannot be read; or else the first kind that has
        // something to settle.
        let mut settled = None;
        for ((rank, key), errors) in errors {
            if settled.is_some_and(|settled| is_readable && settled != rank) {
                break;
            }
            if !set_aside(current, &collection, &mut aside, &key) {
                continue;
            }
            settled = Some(rank);
            let reasons = found.entry(key.clone()).or_insert_with(|| {
                order.push(key);
                Vec::new()
            });
            let known: HashSet<&Problem> = reasons.iter().collect();
            let new: Vec<Problem> = errors.into_iter().filter(|error| !known.contains(error)).cloned().collect();
            reasons.extend(new);
        }
        if settled.is_none() {
            return Err(problems);
        }
    }
}

/// The last version of a resource that was served.
fn last_version(current: &Current, key: &Key) -> Option<Replacement> {
    current.served.older(key).or_else(|| current.state.aside.get(key).cloned())
}

/// Moves a resource one step on: to its last version, then to nothing. Returns false if nothing is
/// served of it already.
fn set_aside(current: &Current, collection: &Collection, aside: &mut Replacements, key: &Key) -> bool {
    let next = match aside.get(key).cloned() {
        Some(Replacement::Nothing | Replacement::Unfit(..)) => return false,
        Some(Replacement::Older(resource, texts)) => Replacement::Unfit(resource, texts),
        None => match last_version(current, key) {
            Some(Replacement::Older(resource, texts) | Replacement::Unfit(resource, texts))
                if !texts.is_empty()
                    || collection.manifest().resource(key.kind, &key.id).as_ref() != Some(&resource) =>
            {
                Replacement::Older(resource, texts)
            }
            _ => Replacement::Nothing,
        },
    };
    aside.insert(key.clone(), next);
    true
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
pub(super) mod tests;
