//! What is served of a collection that has errors: the collection without the resources that are set aside.
//!
//! The resources are settled in the order in which they refer to one another, in rounds. The first rounds settle the
//! resources that cannot be read: each falls back to the version that is served. The next rounds settle the resources of one
//! kind each, in the order of [`KINDS`](crate::manifest::KINDS), so that a resource is judged only when all that it refers to
//! is settled. In one round a resource takes at most one step, however many problems it has:
//!
//! ```text
//! as delivered -> the version that is served -> nothing
//! ```

use super::{
    change::Position,
    guard::Held,
    keeper::{Keeper, LOGGED},
    kept::Kept,
    status::SetAsideResource,
};
use crate::{
    config::OnError,
    manifest::{
        KINDS, Problem,
        check::Checked,
        collection::{Aside, Collection, Instead, Key, Served},
        overlay::digest_with,
        problem::printable,
    },
    snapshot::Snapshot,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Why resources are set aside. A resource comes behind the resources that it refers to: the cause first.
pub(super) type Reasons = Vec<(Key, Vec<Problem>)>;

/// What is to be served, of what was delivered.
pub(super) struct Decided {
    pub(super) kept: Kept,
    pub(super) served: Served,
    pub(super) snapshot: Snapshot,
    pub(super) checked: Checked,
    /// Warnings.
    pub(super) warnings: Vec<Problem>,
    pub(super) reasons: Reasons,
    /// Deletions in it count for those that follow.
    pub(super) is_judged: bool,
    /// Why deletions are held, if some are that were not before.
    pub(super) held_because: Option<String>,
}

/// A kind's place in the order in which kinds refer to one another.
fn rank(kind: &str) -> usize {
    KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len())
}

/// The errors of resources, by resource. Errors of no resource are left out.
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

impl Keeper {
    /// What is to be served of a collection: all of it, or without the resources that are set aside. Resources that are
    /// `held` are served as they were.
    pub(super) fn decide(
        &self,
        collection: Collection,
        position: Position,
        on_error: OnError,
        mut held: Held,
    ) -> Result<Decided, Vec<Problem>> {
        let previous = self.snapshot.load_full();
        let mut aside = Aside::new();
        for key in held.keys().cloned().collect::<Vec<_>>() {
            match self.served.older(&key).or_else(|| self.kept.aside.get(&key).cloned()) {
                Some(Instead::Older(resource, texts) | Instead::Unfit(resource, texts)) => {
                    aside.insert(key, Instead::Older(resource, texts));
                }
                _ => drop(held.remove(&key)),
            }
        }
        let mut found: HashMap<Key, Vec<Problem>> = HashMap::new();
        let mut order: Vec<Key> = Vec::new();
        loop {
            let mut candidate = collection.candidate(&aside, &self.served);
            candidate.loaded.overlays = self.overlays.clone();
            candidate.loaded.digest = digest_with(candidate.loaded.digest, &self.overlays);
            let mut problems = candidate.problems;
            let mut steps = by_resource(&problems);
            let is_readable = !problems.iter().any(Problem::is_error);
            // What refers to a resource that cannot be read is judged when it is known what is served of that.
            if is_readable || on_error == OnError::Refuse {
                match self.check_and_compile(candidate.loaded, &previous) {
                    Ok((snapshot, checked, more)) if is_readable => {
                        problems.extend(more);
                        let (generation, is_incomplete) = (snapshot.generation, self.kept.is_incomplete);
                        let kept = Kept { collection, aside, held, position, generation, is_incomplete };
                        let reasons = order.into_iter().filter_map(|key| found.remove_entry(&key)).collect();
                        let (served, warnings) = (candidate.served, problems);
                        let (is_judged, held_because) = (false, None);
                        return Ok(Decided {
                            kept,
                            served,
                            snapshot,
                            checked,
                            warnings,
                            reasons,
                            is_judged,
                            held_because,
                        });
                    }
                    Ok((.., more)) | Err(more) => problems.extend(more),
                }
                steps = by_resource(&problems);
            }
            if on_error == OnError::Refuse {
                return Err(problems);
            }
            // All that cannot be read in one round; of the rest, the first kind of which something can be settled.
            let mut settled = None;
            for ((rank, key), errors) in steps {
                if settled.is_some_and(|settled| is_readable && settled != rank) {
                    break;
                }
                if !self.set_aside(&collection, &mut aside, &key) {
                    continue;
                }
                settled = Some(rank);
                let told = found.entry(key.clone()).or_insert_with(|| {
                    order.push(key);
                    Vec::new()
                });
                let known: HashSet<&Problem> = told.iter().collect();
                let new: Vec<Problem> = errors.into_iter().filter(|error| !known.contains(error)).cloned().collect();
                told.extend(new);
            }
            if settled.is_none() {
                return Err(problems);
            }
        }
    }

    /// Sets something aside; false if it is already. What was served of it before is tried first.
    fn set_aside(&self, collection: &Collection, aside: &mut Aside, key: &Key) -> bool {
        let next = match aside.get(key).cloned() {
            Some(Instead::Nothing | Instead::Unfit(..)) => return false,
            Some(Instead::Older(resource, texts)) => Instead::Unfit(resource, texts),
            None => match self.served.older(key).or_else(|| self.kept.aside.get(key).cloned()) {
                Some(Instead::Older(resource, texts) | Instead::Unfit(resource, texts))
                    if !texts.is_empty()
                        || collection.manifest().resource(key.kind, &key.id).as_ref() != Some(&resource) =>
                {
                    Instead::Older(resource, texts)
                }
                _ => Instead::Nothing,
            },
        };
        aside.insert(key.clone(), next);
        true
    }

    /// Tells what is set aside, and why: to the status, and what is new of it to the log.
    pub(super) fn tell_set_aside(&self, reasons: &Reasons) {
        let told = |(key, why): &(Key, Vec<Problem>)| SetAsideResource::new(key, self.kept.aside.get(key), why);
        let set_aside: Vec<SetAsideResource> = reasons.iter().map(told).collect();
        let before = std::mem::replace(&mut self.status.state().set_aside, set_aside.clone());
        let before: HashSet<&SetAsideResource> = before.iter().collect();
        let new: Vec<&SetAsideResource> = set_aside.iter().filter(|new| !before.contains(new)).collect();
        for new in new.iter().take(LOGGED) {
            let why = new.problems.first().map_or("", String::as_str);
            let line = format!("{}.{} is set aside, {} is served of it: {why}", new.kind, new.id, new.served);
            tracing::warn!("{}", printable(&line));
        }
        if new.len() > LOGGED {
            tracing::warn!("{} more resources are set aside: see `zonal status --format json`", new.len() - LOGGED);
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
pub(super) mod tests;
