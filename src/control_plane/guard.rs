//! The guard against mass deletions: it holds deletions that look like a mistake, and zonal
//! continues to serve the resources.
//!
//! A command such as `etcdctl del --prefix` reaches all nodes at once. The guard holds the
//! deletions of a change when too many resources would be lost: more than [`MAX_DELETED_PERCENT`]
//! percent of all, or of one kind. It counts the resources that a deletion takes along, and the
//! deletions within the [`WINDOW`] before, so that deleting one key after the other gives the same
//! result. All other changes are published. zonal serves the held resources until they are put
//! again, or until an [`Allowance`] lets the deletion pass.
//!
//! The guard is for etcd, which gets no answer from zonal. A sender that pushes changes is answered
//! and can try them first (`dry_run`), and the files of a directory belong to one owner.

use super::{
    change::Position,
    current::Current,
    prepare::{PreparedGeneration, prepare},
};
use crate::{
    config::OnError,
    manifest::{
        Manifest, Problem,
        collection::{Collection, Key},
    },
};
use imbl::OrdMap;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// The maximum share of the resources that a change may delete, in percent.
pub const MAX_DELETED_PERCENT: usize = 30;
/// The share is judged from this number of resources on. All of fewer resources may be deleted.
pub const MIN_JUDGED: usize = 10;
/// From this number of VPCs on, at least one has to stay, however many resources of other kinds
/// there are.
const MIN_JUDGED_VPCS: usize = 2;
/// The same number for every other kind.
const MIN_JUDGED_OF_KIND: usize = 3;
/// The time that a deletion counts for.
const WINDOW: Duration = Duration::from_secs(3600);
/// Counts of this interval are remembered as one.
const COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// A kind of resources that exist for a short time only. The guard does not count them.
const TEMPORARY_KIND: &str = "zonal_shifts";

/// Resources that the source has deleted and that are still served, with the revision of their
/// deletion.
pub type HeldDeletions = OrdMap<Key, u64>;

/// The deletions that are intended.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    /// All deletions up to this revision are.
    pub until: u64,
    /// The deletions of the transactions with these revisions are.
    pub transactions: BTreeSet<u64>,
}

impl Allowance {
    fn allows(&self, revision: u64) -> bool {
        revision <= self.until || self.transactions.contains(&revision)
    }
}

/// A source's knowledge about the deletions of a change.
#[derive(Clone, Debug, Default)]
pub struct Deletions {
    /// The revisions of deletions. A key that is not here was deleted with the change.
    pub revisions: BTreeMap<Key, u64>,
    /// The deletions that are intended.
    pub allowance: Allowance,
}

/// The number of resources of each kind, without [`TEMPORARY_KIND`].
type Counts = BTreeMap<&'static str, usize>;

fn counts(manifest: &Manifest) -> Counts {
    manifest.counts().filter(|(kind, _)| *kind != TEMPORARY_KIND).collect()
}

/// Why so many deletions look like a mistake; none if they do not. `all` are the resources before.
fn judge(all: &Counts, lost: &Counts) -> Option<String> {
    let total: usize = all.values().sum();
    if total < MIN_JUDGED {
        return None;
    }
    let is_too_much = |lost: usize, all: usize| lost * 100 > all * MAX_DELETED_PERCENT;
    let sum: usize = lost.values().sum();
    if is_too_much(sum, total) {
        return Some(format!("{sum} of {total} resources"));
    }
    lost.iter().find_map(|(kind, lost)| {
        let all = all.get(kind).copied().unwrap_or(0);
        let min = if *kind == "vpcs" { MIN_JUDGED_VPCS } else { MIN_JUDGED_OF_KIND };
        let is_held = all >= MIN_JUDGED && is_too_much(*lost, all) || all >= min && *lost >= all;
        is_held.then(|| format!("{lost} of {all} {kind}"))
    })
}

/// The numbers of resources within the [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct CountHistory(VecDeque<(Instant, Counts)>);

impl CountHistory {
    /// The highest number of each kind within the window; at least `counts`.
    fn max(&self, now: Instant, mut counts: Counts) -> Counts {
        for (_, before) in self.0.iter().filter(|(time, _)| now.duration_since(*time) < WINDOW) {
            for (kind, count) in before {
                let max = counts.entry(kind).or_default();
                *max = (*max).max(*count);
            }
        }
        counts
    }

    /// Notes the manifests before and after a change. Only deletions that the guard has judged
    /// count later.
    pub(super) fn note(&mut self, before: &Manifest, after: &Manifest, is_judged: bool) {
        let now = Instant::now();
        let (before, after) = (counts(before), counts(after));
        self.0.retain(|(time, _)| now.duration_since(*time) < WINDOW);
        match self.0.back_mut() {
            Some((time, last)) if now.duration_since(*time) < COUNT_INTERVAL => {
                for (kind, count) in &before {
                    let max = last.entry(kind).or_default();
                    *max = (*max).max(*count);
                }
            }
            _ => self.0.push_back((now, before.clone())),
        }
        if is_judged {
            return;
        }
        for (kind, count) in before {
            let deleted = count.saturating_sub(after.get(kind).copied().unwrap_or(0));
            for (_, counts) in &mut self.0 {
                counts.entry(kind).and_modify(|count| *count = count.saturating_sub(deleted));
            }
        }
    }
}

/// The deletions of changes that are published together.
#[derive(Default)]
pub(super) struct PendingDeletions {
    /// Whether the guard judges the deletions.
    is_guarded: bool,
    deletions: Deletions,
}

impl PendingDeletions {
    /// Adds what the source knows about the deletions of a change; none if the guard does not judge
    /// the source.
    pub(super) fn add(&mut self, deletions: Option<Deletions>) {
        let Some(Deletions { revisions, allowance }) = deletions else { return };
        self.is_guarded = true;
        self.deletions.revisions.extend(revisions);
        self.deletions.allowance.until = allowance.until;
        self.deletions.allowance.transactions.extend(allowance.transactions);
    }
}

/// Prepares the generation that serves a collection, and holds the deletions that look like a
/// mistake.
///
/// # Errors
///
/// As [`prepare`].
pub(super) fn prepare_guarded(
    current: &Current,
    collection: Collection,
    position: Position,
    on_error: OnError,
    pending: PendingDeletions,
) -> Result<PreparedGeneration, Vec<Problem>> {
    let Deletions { revisions, allowance } = pending.deletions;
    let is_deleted = |key: &Key| collection.text(key).is_none();
    // Deletions that are held already, and stay so.
    let before = &current.state.held;
    let held = before.iter().filter(|(key, revision)| is_deleted(key) && !allowance.allows(**revision));
    let held: HeldDeletions = held.map(|(key, revision)| (key.clone(), *revision)).collect();
    if !pending.is_guarded {
        return prepare(current, collection, position, on_error, held);
    }
    // New deletions: those that are intended, and those that are to be judged.
    let deleted = collection.manifest().resource_changes(&current.served.manifest).into_iter();
    let deleted = deleted.filter(|one| one.new.is_none()).map(|one| Key { kind: one.kind, id: one.id });
    let deleted = deleted.filter(|key| is_deleted(key) && !held.contains_key(key));
    let revision = |key: &Key| revisions.get(key).or(before.get(key)).copied().unwrap_or(position.revision);
    let (allowed, new): (Vec<_>, Vec<_>) =
        deleted.map(|key| (revision(&key), key)).partition(|(revision, _)| allowance.allows(*revision));
    let is_released = before.iter().any(|(key, revision)| is_deleted(key) && allowance.allows(*revision));
    if new.is_empty() {
        return prepare(current, collection, position, on_error, held);
    }
    let served = counts(&current.served.manifest);
    let max = current.history.max(Instant::now(), served.clone());
    let judge = |deleted: &mut dyn Iterator<Item = &'static str>| {
        let mut lost: Counts = max.iter().map(|(kind, max)| (*kind, max - served.get(kind).unwrap_or(&0))).collect();
        deleted.filter(|kind| *kind != TEMPORARY_KIND).for_each(|kind| *lost.entry(kind).or_default() += 1);
        judge(&max, &lost)
    };
    let mut reason = judge(&mut new.iter().map(|(_, key)| key.kind));
    if reason.is_none() {
        let prepared = prepare(current, collection.clone(), position.clone(), on_error, held.clone())?;
        // A resource that an intended deletion takes along is intended, too.
        let is_judged = allowed.is_empty() && !is_released;
        if is_judged {
            let lost = prepared.served.manifest.resource_changes(&current.served.manifest);
            reason = judge(&mut lost.iter().filter(|one| one.new.is_none()).map(|one| one.kind));
        }
        if reason.is_none() {
            return Ok(PreparedGeneration { is_judged, ..prepared });
        }
    }
    let mut holding = held;
    holding.extend(new.into_iter().map(|(revision, key)| (key, revision)));
    let prepared = prepare(current, collection, position, on_error, holding)?;
    Ok(PreparedGeneration { held_reason: reason, ..prepared })
}

/// Logs the deletions that are held now and were not before.
pub(super) fn log_held(before: &HeldDeletions, now: &HeldDeletions, reason: Option<&str>) {
    if let Some(reason) = reason {
        let new = now.iter().filter(|(key, _)| !before.contains_key(*key));
        let revision = new.clone().map(|(_, revision)| *revision).max();
        let first = new.clone().next().map(|(key, _)| format!("{}/{}", key.kind, key.id));
        tracing::error!(held = now.len(), lost = reason, revision, first, "deletions held");
    } else if !before.is_empty() && now.is_empty() {
        tracing::info!("held deletions ended");
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
