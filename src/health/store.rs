//! Stores states and forced verdicts in the state directory, so that they survive a restart.

use super::history::KeptChanges;
use crate::{
    snapshot::health::{Forced, State, TargetId},
    state_file::{StateFile, Unreadable},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io, path::Path};

/// Name of the file.
const FILE: &str = "health.json";
/// Age in seconds beyond which a stored state is ignored.
pub const MAX_AGE: i64 = 300;
/// Maximum size of the file, in octets. A larger file is set aside.
const MAX_OCTETS: u64 = 256 << 20;

/// Stored data of a target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Word of the state, such as `unhealthy`.
    pub state: String,
    /// Time of the last change of the state, in seconds since 1970.
    pub since: i64,
    /// Time at which the state was last confirmed, in seconds since 1970.
    pub observed: i64,
    /// Forced verdict and its end, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<(bool, i64)>,
    /// Last changes of the state.
    #[serde(skip_serializing_if = "KeptChanges::is_empty")]
    pub changes: KeptChanges,
}

impl Kept {
    /// Returns the state if it is recent enough at `now`, in seconds since 1970.
    pub fn state_at(&self, now: i64) -> Option<State> {
        State::of_word(&self.state).filter(|_| (0..=MAX_AGE).contains(&(now - self.observed)))
    }

    /// Returns the forced verdict if it has not ended at `now`, in seconds since 1970.
    pub fn forced_at(&self, now: i64) -> Option<Forced> {
        self.forced.map(|(is_healthy, until)| Forced { is_healthy, until }).filter(|forced| now < forced.until)
    }
}

/// The file of states in the state directory.
pub struct Store {
    file: StateFile,
    /// Data that an earlier process stored.
    pub found: BTreeMap<TargetId, Kept>,
}

impl Store {
    /// Opens the file in the state directory, and reads the data of an earlier process.
    pub fn open(directory: &Path) -> Store {
        let file = StateFile::new(directory, FILE, MAX_OCTETS);
        let found: BTreeMap<String, Kept> = match file.read() {
            Ok(found) => found.unwrap_or_default(),
            Err(Unreadable { error, is_aside }) => {
                tracing::warn!(file = %file.path().display(), %error, set_aside = is_aside, "health states unreadable");
                BTreeMap::new()
            }
        };
        Store { file, found: found.into_iter().map(|(id, kept)| (TargetId::parse(&id), kept)).collect() }
    }

    /// Replaces the file as a whole. Without states, there is no file: a takeover does not wait for the disk.
    ///
    /// # Errors
    /// The new file cannot be written or renamed. The old file remains.
    pub fn write(&self, kept: &BTreeMap<String, Kept>) -> io::Result<()> {
        if kept.is_empty() { self.file.remove() } else { self.file.write(kept) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn keeps_states_and_forced_verdicts_and_sets_a_damaged_file_aside() {
        let directory = std::env::temp_dir().join(format!("zonal-health-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let changes = KeptChanges { times: vec![5], holds: 1, held_until: Some(160), successes: 0, failures: 2 };
        let kept = Kept { state: "unhealthy".into(), since: 5, observed: 100, forced: Some((true, 150)), changes };
        let all = BTreeMap::from([("hc".to_string(), kept.clone()), ("vpce/10.0.0.1".to_string(), kept.clone())]);
        Store::open(&directory).write(&all).unwrap();
        let found = Store::open(&directory).found;
        let interface = TargetId::Interface { endpoint: "vpce".into(), address: "10.0.0.1".parse().unwrap() };
        assert_eq!(found, BTreeMap::from([(TargetId::Check("hc".into()), kept.clone()), (interface, kept.clone())]));
        assert_eq!(kept.state_at(400), Some(State::Unhealthy));
        assert_eq!((kept.state_at(401), kept.state_at(99)), (None, None));
        assert!(kept.forced_at(149).is_some() && kept.forced_at(150).is_none());
        for damaged in ["", "{", "[]", "{\"hc\": 7}"] {
            fs::write(directory.join(FILE), damaged).unwrap();
            assert!(Store::open(&directory).found.is_empty());
            assert_eq!(fs::read_to_string(directory.join("health.json.damaged")).unwrap(), damaged);
        }
        Store::open(&directory).write(&all).unwrap();
        (0..2).for_each(|_| Store::open(&directory).write(&BTreeMap::new()).unwrap());
        assert!(!directory.join(FILE).exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
