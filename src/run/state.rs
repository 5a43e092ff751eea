//! The state directory at the start, and what another process has handed over in place of it.

use crate::control_plane::{
    freeze::Frozen,
    persisted::PersistedState,
    state_store::{self, StateStore},
};
use anyhow::{Context, bail};
use std::path::Path;

/// Opens the state directory, if there is one, and returns what was acknowledged last, if anything was.
pub fn open(
    directory: Option<&Path>,
    handed: Option<Frozen>,
) -> anyhow::Result<(Option<StateStore>, Option<PersistedState>)> {
    let (lock, memory) = match handed {
        Some(Frozen::Directory(lock)) => (Some(lock), None),
        Some(Frozen::Memory(file)) => {
            let kept = state_store::from_memory(file).context("what the zonal that runs serves cannot be read")?;
            (None, Some(kept))
        }
        None => (None, None),
    };
    let opened = match (directory, lock) {
        (Some(directory), Some(lock)) if state_store::is_at(&lock, &state_store::lock_file(directory)) => {
            Some(StateStore::open_locked(directory, lock)?)
        }
        (_, Some(_)) => bail!(
            "the zonal that runs has another `state_directory`: what it was told is there, so that this one cannot take over; \
             stop it first"
        ),
        (Some(directory), None) => Some(StateStore::open(directory)?),
        (None, None) => None,
    };
    let Some((store, recovered)) = opened else { return Ok((None, memory)) };
    recovered.log_damage();
    Ok((Some(store), memory.or(recovered.state)))
}
