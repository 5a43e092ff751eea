//! Changes that a source delivers: prepared together, published as one generation, and answered.

use super::{MAX_COMPARED_ANSWERS, Publisher, answer};
use crate::{
    clock::now,
    control_plane::{
        change::{AcceptedChange, Change, ChangeError, PreparedChange, Trial},
        guard::{self, PendingDeletions},
        prepare::PreparedGeneration,
    },
    difference,
    manifest::{Problem, collection::Key},
};
use std::{
    collections::{BTreeMap, HashSet},
    time::Instant,
};

impl Publisher {
    /// Applies changes in their order: all in one generation, or, if that fails, each half for itself. Tries the trials after
    /// them.
    pub fn apply(&mut self, changes: Vec<Change>) {
        let (trials, changes): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.trial.is_some());
        self.apply_together(changes);
        for trial in trials {
            let accepted = self.prepare_change(&trial).map(|prepared| {
                let answers = (trial.trial == Some(Trial::Answers)).then(|| {
                    let served = self.current.snapshot.load_full();
                    difference::answers(&served, &prepared.snapshot, now(), MAX_COMPARED_ANSWERS)
                });
                AcceptedChange { answers, ..self.accepted(&prepared) }
            });
            answer(trial, accepted);
        }
    }

    fn apply_together(&mut self, mut changes: Vec<Change>) {
        if changes.len() < 2 {
            return changes.into_iter().for_each(|change| self.apply_one(change));
        }
        match self.prepare_changes(&changes) {
            Ok((prepared, mut refused)) => {
                let (mut made, mut refusals) = (Vec::new(), Vec::new());
                for (at, change) in changes.into_iter().enumerate() {
                    match refused.remove(&at) {
                        None => made.push(change),
                        Some(error) => refusals.push((change, error)),
                    }
                }
                self.settle(prepared, made);
                refusals.into_iter().for_each(|(change, error)| answer(change, Err(error)));
            }
            // The errors are those of one change or of a few: the others are not delayed by one generation each.
            Err(_) => {
                let rest = changes.split_off(changes.len() / 2);
                self.apply_together(changes);
                self.apply_together(rest);
            }
        }
    }

    fn apply_one(&mut self, change: Change) {
        let error = match self.prepare_change(&change) {
            Ok(prepared) => return self.settle(prepared, vec![change]),
            Err(error) => error,
        };
        match &error {
            ChangeError::Problems(problems) if change.is_fact => {
                // Later changes are relative to this change, although it is not served.
                if let Ok(prepared) = (change.prepare)(&self.delivered.0, &self.delivered.1) {
                    self.delivered.0.apply(&prepared.edits);
                    self.delivered.1 = prepared.position;
                }
                self.refuse(problems.clone());
            }
            // The sender gets the error, which is no fault of the node.
            ChangeError::Problems(_) => self.counters.reloads.with_label_values(&["failed"]).inc(),
            _ => {}
        }
        answer(change, Err(error));
    }

    /// Prepares the generation after one change.
    fn prepare_change(&self, change: &Change) -> Result<PreparedGeneration, ChangeError> {
        self.prepare_changes(std::slice::from_ref(change)).map(|(prepared, _)| prepared)
    }

    /// Prepares the generation after these changes. Also returns the changes that cannot be made after those before them, by
    /// their positions: the generation is without them.
    ///
    /// # Errors
    ///
    /// None of the changes can be made, or the resources would have errors.
    fn prepare_changes(
        &self,
        changes: &[Change],
    ) -> Result<(PreparedGeneration, BTreeMap<usize, ChangeError>), ChangeError> {
        let (mut collection, mut position) = self.delivered.clone();
        let (mut pending, mut is_whole) = (PendingDeletions::default(), false);
        let mut refused = BTreeMap::new();
        let mut edited: HashSet<Key> = HashSet::new();
        for (at, change) in changes.iter().enumerate() {
            let prepared = match (change.prepare)(&collection, &position) {
                Ok(prepared) => prepared,
                Err(error) if refused.len() + 1 == changes.len() => return Err(error),
                Err(error) => {
                    refused.insert(at, error);
                    continue;
                }
            };
            let PreparedChange { edits, position: next, deletions, is_whole: replaces_all } = prepared;
            is_whole |= replaces_all;
            collection.apply(&edits);
            if change.is_strict {
                edited.extend(edits.into_iter().map(|edit| edit.key));
            }
            pending.add(deletions);
            position = next;
        }
        let prepared = guard::prepare_guarded(&self.current, collection, position, self.on_error, pending);
        let mut prepared = prepared.map_err(ChangeError::Problems)?;
        if changes.iter().any(|change| change.is_strict) {
            // zonal would not serve the change either if the resource is already set aside.
            let is_refused = |key: &Key| edited.contains(key) || !self.current.state.aside.contains_key(key);
            let reasons = prepared.reasons.iter().filter(|(key, _)| is_refused(key));
            let problems: Vec<Problem> = reasons.flat_map(|(_, problems)| problems.iter().cloned()).collect();
            if !problems.is_empty() {
                return Err(ChangeError::Problems(problems));
            }
        }
        prepared.state.is_incomplete &= !is_whole;
        Ok((prepared, refused))
    }

    /// Returns the reply to the sender of a change.
    fn accepted(&self, prepared: &PreparedGeneration) -> AcceptedChange {
        let reasons = prepared.reasons.iter().flat_map(|(_, problems)| problems);
        AcceptedChange {
            generation: prepared.state.generation,
            position: prepared.state.position.clone(),
            differences: prepared.served.manifest.resource_changes(&self.current.served.manifest),
            answers: None,
            problems: prepared.warnings.iter().chain(reasons).cloned().collect(),
        }
    }

    /// Publishes a prepared generation, and answers the senders of its changes.
    pub(super) fn settle(&mut self, prepared: PreparedGeneration, changes: Vec<Change>) {
        let started = Instant::now();
        let previous = self.current.snapshot.load_full();
        let mut accepted = self.accepted(&prepared);
        let PreparedGeneration { mut state, served, mut snapshot, checked, warnings, reasons, is_judged, held_reason } =
            prepared;
        let is_unchanged = previous.generation > 0 && previous.digest == snapshot.digest;
        state.generation = if is_unchanged { previous.generation } else { self.next_generation(&snapshot) };
        accepted.generation = state.generation;
        let before = std::mem::replace(&mut self.current.state, state);
        // The sender of a change relies on the reply, so the change is on the disk before it is
        // served. If no sender waits, the change is published at once, because the source still has
        // it.
        let is_awaited = changes.iter().any(|change| change.reply.is_some());
        if is_awaited
            && let Err(error) = self.write_state(true)
            && changes.iter().any(|change| !change.is_fact)
        {
            self.current.state = before;
            let (facts, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.is_fact);
            others.into_iter().for_each(|change| answer(change, Err(ChangeError::not_written(&error))));
            return facts.into_iter().for_each(|change| self.apply_one(change));
        }
        self.current.history.note(&self.current.served.manifest, &served.manifest, is_judged);
        let state = self.current.state.clone();
        self.set_manifest(state, served, checked);
        self.status.report_set_aside(&self.current.state.aside, &reasons);
        guard::log_held(&before.held, &self.current.state.held, held_reason.as_deref());
        let is_stale = self.current.state.is_incomplete || self.has_lost_updates();
        if !is_unchanged {
            drop(previous);
            (snapshot.generation, snapshot.is_stale) = (self.current.state.generation, is_stale);
            self.publish(snapshot, "change", started, Some(&warnings), is_awaited);
        } else {
            self.count("unchanged", &warnings);
            match previous.is_stale != is_stale {
                true => self.swap(previous.with_stale(is_stale)),
                false => self.status.state().persisted = self.current.state.clone(),
            }
            if !is_awaited {
                let _ = self.write_state(false);
            }
        }
        changes.into_iter().for_each(|change| answer(change, Ok(accepted.clone())));
    }
}
