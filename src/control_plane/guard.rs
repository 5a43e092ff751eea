//! The guard against mass deletions: what a source that is followed has deleted, and is still served as it looks like a mistake.
//!
//! A command such as `etcdctl del --prefix` reaches all nodes at once. The guard holds the deletions of a change when too many
//! resources would be lost: more than [`MOST_DELETED`] percent of all, or of one kind. It counts the resources that a deletion
//! takes along, and what was deleted in the [`WINDOW`] before, so that one key after the other comes to the same. All other
//! changes go on. Held resources are served until they are put again, or until an [`Allowance`] lets the deletion pass.
//!
//! The guard is for sources that nobody answers to. Who pushes a change is answered and can try it first (`dry_run`), and a
//! directory's files are those of its owner.

use super::{decide::Decided, keeper::Keeper};
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

/// A change may delete this share of the resources, in percent.
pub const MOST_DELETED: usize = 30;
/// Of fewer resources than this, all may be deleted.
pub const FEW: usize = 10;
/// Of so many VPCs, and of so many resources of another kind, some have to stay, however many resources there are in all.
const LEAST_VPCS: usize = 2;
const LEAST_OF_KIND: usize = 3;
/// Deletions count for this time.
const WINDOW: Duration = Duration::from_secs(3600);
/// Counts of the same minute are remembered as one.
const STEP: Duration = Duration::from_secs(60);
/// A kind whose resources are there for a while only.
const PASSING: &str = "zonal_shifts";

/// Resources that the source has deleted and that are still served, with the revision of their deletion.
pub type Held = OrdMap<Key, u64>;

/// Which deletions are meant.
#[derive(Clone, Debug, Default)]
pub struct Allowance {
    /// Those up to this revision.
    pub until: u64,
    /// And those of the transactions with these revisions.
    pub transactions: BTreeSet<u64>,
}

impl Allowance {
    fn allows(&self, revision: u64) -> bool {
        revision <= self.until || self.transactions.contains(&revision)
    }
}

/// What a source knows of the deletions in a change.
#[derive(Clone, Debug, Default)]
pub struct Deletions {
    /// When keys were deleted; one that is not here, with the change.
    pub revisions: BTreeMap<Key, u64>,
    /// Which deletions are meant.
    pub allowance: Allowance,
}

/// How many resources there are of each kind, without those that are there for a while only.
type Counts = BTreeMap<&'static str, usize>;

fn counts(manifest: &Manifest) -> Counts {
    manifest.counts().filter(|(kind, _)| *kind != PASSING).collect()
}

/// Why so many deletions look like a mistake; none if they do not. `all` is what there was.
fn judge(all: &Counts, lost: &Counts) -> Option<String> {
    let total: usize = all.values().sum();
    if total < FEW {
        return None;
    }
    let is_too_much = |lost: usize, all: usize| lost * 100 > all * MOST_DELETED;
    let sum: usize = lost.values().sum();
    if is_too_much(sum, total) {
        return Some(format!("{sum} of {total} resources"));
    }
    lost.iter().find_map(|(kind, lost)| {
        let all = all.get(kind).copied().unwrap_or(0);
        let least = if *kind == "vpcs" { LEAST_VPCS } else { LEAST_OF_KIND };
        let is_held = all >= FEW && is_too_much(*lost, all) || all >= least && *lost >= all;
        is_held.then(|| format!("{lost} of {all} {kind}"))
    })
}

/// How many resources there were lately.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<(Instant, Counts)>);

impl History {
    /// The most that there were of each kind within the window.
    fn most(&self, now: Instant, mut counts: Counts) -> Counts {
        for (_, before) in self.0.iter().filter(|(time, _)| now.duration_since(*time) < WINDOW) {
            for (kind, count) in before {
                let most = counts.entry(kind).or_default();
                *most = (*most).max(*count);
            }
        }
        counts
    }

    /// Notes what was served before and after a change. Only deletions that the guard has judged count later.
    pub(super) fn note(&mut self, before: &Manifest, after: &Manifest, is_judged: bool) {
        let now = Instant::now();
        let (before, after) = (counts(before), counts(after));
        self.0.retain(|(time, _)| now.duration_since(*time) < WINDOW);
        match self.0.back_mut() {
            Some((time, last)) if now.duration_since(*time) < STEP => {
                for (kind, count) in &before {
                    let most = last.entry(kind).or_default();
                    *most = (*most).max(*count);
                }
            }
            _ => self.0.push_back((now, before.clone())),
        }
        if is_judged {
            return;
        }
        for (kind, count) in before {
            let gone = count.saturating_sub(after.get(kind).copied().unwrap_or(0));
            for (_, counts) in &mut self.0 {
                counts.entry(kind).and_modify(|count| *count = count.saturating_sub(gone));
            }
        }
    }
}

/// What is deleted in changes that are decided together.
#[derive(Default)]
pub(super) struct Pending {
    /// Whether the source's deletions are guarded.
    is_guarded: bool,
    deletions: Deletions,
}

impl Pending {
    /// Takes in what a source knows; none of a source that is not guarded.
    pub(super) fn add(&mut self, deletions: Option<Deletions>) {
        let Some(Deletions { revisions, allowance }) = deletions else { return };
        self.is_guarded = true;
        self.deletions.revisions.extend(revisions);
        self.deletions.allowance.until = allowance.until;
        self.deletions.allowance.transactions.extend(allowance.transactions);
    }
}

impl Keeper {
    /// What is to be served of a collection; deletions that look like a mistake are held.
    pub(super) fn decide_guarded(
        &self,
        collection: Collection,
        position: super::change::Position,
        on_error: OnError,
        pending: Pending,
    ) -> Result<Decided, Vec<Problem>> {
        let Deletions { revisions, allowance } = pending.deletions;
        let is_gone = |key: &Key| collection.text(key).is_none();
        let held = self.kept.held.iter().filter(|(key, revision)| is_gone(key) && !allowance.allows(**revision));
        let held: Held = held.map(|(key, revision)| (key.clone(), *revision)).collect();
        if !pending.is_guarded {
            return self.decide(collection, position, on_error, held);
        }
        let gone =
            collection.manifest().resource_changes(&self.served.manifest).into_iter().filter(|one| one.new.is_none());
        let gone =
            gone.map(|one| Key { kind: one.kind, id: one.id }).filter(|key| is_gone(key) && !held.contains_key(key));
        let deleted_at = |key: &Key| revisions.get(key).or(self.kept.held.get(key)).copied();
        let revision = |key: &Key| deleted_at(key).unwrap_or(position.revision);
        let (allowed, new): (Vec<_>, Vec<_>) =
            gone.map(|key| (revision(&key), key)).partition(|(revision, _)| allowance.allows(*revision));
        let is_released = self.kept.held.iter().any(|(key, revision)| is_gone(key) && allowance.allows(*revision));
        if new.is_empty() {
            return self.decide(collection, position, on_error, held);
        }
        let served = counts(&self.served.manifest);
        let most = self.history.most(Instant::now(), served.clone());
        let judge = |gone: &mut dyn Iterator<Item = &'static str>| {
            let mut lost: Counts =
                most.iter().map(|(kind, most)| (*kind, most - served.get(kind).unwrap_or(&0))).collect();
            gone.filter(|kind| *kind != PASSING).for_each(|kind| *lost.entry(kind).or_default() += 1);
            judge(&most, &lost)
        };
        let mut reason = judge(&mut new.iter().map(|(_, key)| key.kind));
        if reason.is_none() {
            let decided = self.decide(collection.clone(), position.clone(), on_error, held.clone())?;
            // What goes with a deletion that is meant is meant, too.
            if allowed.is_empty() && !is_released {
                let lost = decided.served.manifest.resource_changes(&self.served.manifest);
                reason = judge(&mut lost.iter().filter(|one| one.new.is_none()).map(|one| one.kind));
            }
            if reason.is_none() {
                return Ok(Decided { is_judged: allowed.is_empty() && !is_released, ..decided });
            }
        }
        let mut holding = held;
        holding.extend(new.into_iter().map(|(revision, key)| (key, revision)));
        self.decide(collection, position, on_error, holding).map(|decided| Decided { held_because: reason, ..decided })
    }

    /// Tells which deletions are held: of those that were not before, in the log.
    pub(super) fn tell_held(&self, before: &Held, because: Option<&str>) {
        let held = &self.kept.held;
        if let Some(because) = because {
            let new = held.iter().filter(|(key, _)| !before.contains_key(*key));
            let revision = new.clone().map(|(_, revision)| *revision).max();
            let first = new.clone().next().map(|(key, _)| format!("{}/{}", key.kind, key.id));
            tracing::error!(
                held = held.len(),
                revision,
                first,
                "deletions are held: {because} would be lost; if they are meant, put the revision into the key \
                 `allow_deletion`, or run `zonal apply --force`; if not, put the resources again"
            );
        } else if !before.is_empty() && held.is_empty() {
            tracing::info!("no deletion is held any more");
        }
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
