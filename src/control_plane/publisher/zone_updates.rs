//! Dynamic updates: each one is a generation, and a journal, or the pushed resources, keep it.

use super::{LoadResult, Publisher};
use crate::{
    control_plane::{
        change::{Change, ChangeError, JournalDrop, Position, PreparedChange, UpdateError, ZoneUpdate},
        current::Current,
        updates::{self, UpdateStorage},
    },
    manifest::{
        Problem,
        collection::Collection,
        load::{Extent, LoadScope, Loader},
        overlay::EditedSet,
    },
};
use std::time::Instant;
use tokio::sync::oneshot;

impl Publisher {
    /// Makes a dynamic update, all or nothing. The reply is sent when the update is served.
    pub fn update_zone(&mut self, update: ZoneUpdate) {
        let sets = match self.current.snapshot.load().zone(&update.zone) {
            Some(zone) => (update.compute)(zone),
            None => Err(UpdateError::Failed("the zone is gone".into())),
        };
        let result = sets.and_then(|sets| match (sets.is_empty(), &self.updates) {
            (true, _) => Ok(0),
            (false, UpdateStorage::Nowhere) => {
                let reason = "without a `state_directory` there is nowhere to keep it";
                Err(UpdateError::Refused(reason.into()))
            }
            (false, UpdateStorage::Pushed) => self.update_pushed(&update.zone, &sets).map(|()| sets.len()),
            (false, UpdateStorage::Journals(_)) => self.update_journal(&update.zone, &sets).map(|()| sets.len()),
        });
        // A client that is gone sends the update again.
        let _ = update.reply.send(result);
    }

    fn update_journal(&mut self, id: &str, sets: &[EditedSet]) -> Result<(), UpdateError> {
        let started = Instant::now();
        let previous = self.current.snapshot.load_full();
        let overlays = updates::overlays_with(&self.current.overlays, id, sets)?;
        let recompiled = self.current.recompile(&overlays, &self.current.transferred, &previous);
        let (mut snapshot, _) = recompiled.map_err(|problems| updates::refusal(&problems))?;
        drop(previous);
        if let UpdateStorage::Journals(journals) = &mut self.updates {
            journals.add(id, sets, &overlays).map_err(|error| UpdateError::Failed(format!("{error:#}")))?;
        }
        self.current.overlays = overlays;
        snapshot.generation = self.next_generation(&snapshot);
        self.publish(snapshot, "update", started, None, false);
        Ok(())
    }

    fn update_pushed(&mut self, id: &str, sets: &[EditedSet]) -> Result<(), UpdateError> {
        let Current { served, state, .. } = &self.current;
        let edits = updates::pushed_change(&self.delivered.0, served, &state.aside, id, sets)?;
        let prepare = move |_: &Collection, position: &Position| {
            let position = Position { revision: position.revision + 1, ..position.clone() };
            Ok(PreparedChange { edits: edits.clone(), position, deletions: None, is_whole: false })
        };
        let (reply, mut result) = oneshot::channel();
        let change = Change {
            prepare: Box::new(prepare),
            is_fact: false,
            trial: None,
            is_strict: false,
            since: Instant::now(),
            reply: Some(reply),
        };
        self.apply(vec![change]);
        match result.try_recv() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(ChangeError::Problems(problems))) => Err(updates::refusal(&problems)),
            Ok(Err(error)) => Err(UpdateError::Failed(error.to_string())),
            Err(_) => Err(UpdateError::Failed("the server ends".into())),
        }
    }

    /// Drops the dynamic updates of a zone, and serves its files. If these have errors, the journal
    /// stays.
    pub fn drop_journal(&mut self, drop: JournalDrop, loader: Option<&mut Loader>) {
        let result = match (loader, &self.updates) {
            (Some(loader), UpdateStorage::Journals(_)) => self.serve_without_journal(&drop.zone, loader),
            _ => Err("this node has no journals of dynamic updates".into()),
        };
        // A client that is gone asks again.
        let _ = drop.reply.send(result);
    }

    fn serve_without_journal(&mut self, id: &str, loader: &mut Loader) -> Result<usize, String> {
        let before = (self.current.overlays.clone(), self.current.manifest_digest);
        let overlay = self.current.overlays.remove(id).ok_or("there is no journal for the zone")?;
        // The files have not changed, and are read all the same: the records of the zone are
        // nowhere else.
        self.current.manifest_digest = Default::default();
        self.current.served.read_again(id);
        let scope = LoadScope { extent: Extent::Anew, ..LoadScope::default() };
        if let LoadResult::Failed(problems) = self.load(loader, &scope, false) {
            (self.current.overlays, self.current.manifest_digest) = before;
            let error = problems.iter().find(|problem| problem.is_error()).map_or(String::new(), Problem::to_string);
            return Err(format!("the journal stays, as the files have errors: {error}"));
        }
        if let UpdateStorage::Journals(journals) = &mut self.updates {
            let removed = journals.remove(id);
            removed.map_err(|error| format!("the files are served, but the journal comes back: {error}"))?;
        }
        let served = self.current.snapshot.load_full();
        if served.is_stale {
            // The node is still stale if another file was damaged.
            self.swap(served.with_stale(false));
        }
        tracing::info!(zone = id, record_sets = overlay.len(), "journal dropped");
        Ok(overlay.len())
    }
}
