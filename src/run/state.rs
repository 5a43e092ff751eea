//! The state directory at the start, or the state that the old process hands over.

use crate::control_plane::{
    freeze::Frozen,
    kept::Kept,
    store::{self, Found, Store},
};
use anyhow::{Context, bail};
use std::path::Path;

/// Opens the state directory, if one is configured. Returns the last acknowledged state, if there is one. `frozen` is the
/// state of the old process.
pub fn open(directory: Option<&Path>, frozen: Option<Frozen>) -> anyhow::Result<(Option<Store>, Option<Kept>)> {
    let (lock, memory) = match frozen {
        Some(Frozen::Directory(lock)) => (Some(lock), None),
        Some(Frozen::Memory(file)) => {
            let kept = store::from_memory(file).context("the state of the running zonal cannot be read")?;
            (None, Some(kept))
        }
        None => (None, None),
    };
    let opened = match (directory, lock) {
        (Some(directory), Some(lock)) if store::is_at(&lock, &store::lock_file(directory)) => {
            Some(Store::open_locked(directory, lock)?)
        }
        (_, Some(_)) => bail!(
            "the running zonal has another `state_directory`, which has its acknowledged changes: this one cannot take over; \
             stop the running one first"
        ),
        (Some(directory), None) => Some(Store::open(directory)?),
        (None, None) => None,
    };
    let Some((store, Found { kept, damage })) = opened else { return Ok((None, memory)) };
    damage.iter().for_each(|damage| tracing::error!(error = damage, "state directory damaged"));
    Ok((Some(store), memory.or(kept)))
}
