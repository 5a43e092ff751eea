//! The state directory at the start, or the state that the old process hands over.

use crate::control_plane::{
    freeze::Frozen,
    persisted::PersistedState,
    state_store::{self, StateStore},
};
use anyhow::{Context, bail};
use std::path::Path;

/// Opens the state directory, if one is configured. Returns the last acknowledged state, if there is one. `frozen` is the
/// state of the old process.
pub fn open(
    directory: Option<&Path>,
    frozen: Option<Frozen>,
) -> anyhow::Result<(Option<StateStore>, Option<PersistedState>)> {
    let (lock, memory) = match frozen {
        Some(Frozen::Directory(lock)) => (Some(lock), None),
        Some(Frozen::Memory(file)) => {
            let saved = state_store::from_memory(file).context("the state of the running zonal cannot be read")?;
            (None, Some(saved))
        }
        None => (None, None),
    };
    let opened = match (directory, lock) {
        (Some(directory), Some(lock)) if state_store::is_at(&lock, &state_store::lock_file(directory)) => {
            Some(StateStore::open_locked(directory, lock)?)
        }
        (_, Some(_)) => bail!(
            "the running zonal has another `state_directory`, which has its acknowledged changes: this one cannot take over; \
             stop the running one first"
        ),
        (Some(directory), None) => Some(StateStore::open(directory)?),
        (None, None) => None,
    };
    let Some((store, recovered)) = opened else { return Ok((None, memory)) };
    recovered.log_damage();
    Ok((Some(store), memory.or(recovered.state)))
}
