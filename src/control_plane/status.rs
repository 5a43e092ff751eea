//! What the control plane last did, for the admin API.

use super::{guard::Held, kept::Kept};
use crate::clock::now;
use crate::manifest::{
    KINDS, Manifest, Problem,
    collection::{Instead, Key, MASTER_FILES},
    decode::suggestion,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many problems are shown; the count is given of all.
const SHOWN: usize = 20;
/// How many keys of no kind are remembered: with a wrong prefix there is no end of them.
const MOST_STRANGERS: usize = 1000;

/// A load that failed.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// When, in seconds since 1970.
    pub time: i64,
    /// The first problem, and how many there are.
    pub message: String,
    /// The first problems, one line each.
    pub problems: Vec<String>,
}

impl LastError {
    /// Sums up the problems of a load that failed.
    pub fn new(problems: &[Problem]) -> LastError {
        let errors = || problems.iter().filter(|problem| problem.is_error());
        let first = errors().next().or(problems.first()).map_or("unknown error".into(), Problem::to_string);
        LastError {
            time: now(),
            message: match errors().count() {
                0 | 1 => first,
                count => format!("{first} (the first of {count} errors)"),
            },
            problems: errors().take(SHOWN).map(Problem::to_string).collect(),
        }
    }
}

/// A resource that is not served as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SetAside {
    /// Its kind.
    pub kind: String,
    /// Its identifier.
    pub id: String,
    /// What is served instead: `older`, what was served of it before, or `nothing`.
    pub served: &'static str,
    /// Why.
    pub problems: Vec<String>,
}

impl SetAside {
    /// Something for which `instead` is served, for these reasons.
    pub fn new(key: &Key, instead: Option<&Instead>, why: &[Problem]) -> SetAside {
        let served = match instead {
            Some(Instead::Older(..)) => "older",
            _ => "nothing",
        };
        let problems = why.iter().take(SHOWN).map(Problem::to_string).collect();
        SetAside { kind: key.kind.into(), id: key.id.clone(), served, problems }
    }

    /// What a source has under a key that is none of ours.
    fn stranger(key: &str) -> SetAside {
        let (kind, id) = key.split_once('/').unwrap_or((key, ""));
        let known = KINDS.iter().copied().chain([MASTER_FILES]);
        let problem = match id {
            "" => "the key is no `<kind>/<id>`".to_string(),
            // Of these there are only such as cannot be read.
            _ if Key::new(kind, id).is_some() => "the identifier is not UTF-8".to_string(),
            _ => {
                let help = suggestion(kind, known).map_or(String::new(), |help| format!(" ({help})"));
                format!("there is no kind `{kind}`{help}")
            }
        };
        SetAside { kind: kind.into(), id: id.into(), served: "nothing", problems: vec![problem] }
    }
}

/// The state directory.
#[derive(Clone, Debug, Serialize)]
pub struct StateDirectory {
    /// Where it is.
    pub path: String,
    /// Why what is served cannot be kept in it; none if it can.
    pub error: Option<String>,
}

/// Deletions that the guard holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldDeletions {
    /// How many resources the source has deleted and the node still serves.
    pub count: usize,
    /// The revision of the last deletion: as the value of `allow_deletion` it lets all of them pass.
    pub revision: u64,
    /// The first of the resources, as `kind/identifier`.
    pub resources: Vec<String>,
}

impl HeldDeletions {
    /// What is told of them; none if there are none.
    pub fn of(held: &Held) -> Option<HeldDeletions> {
        Some(HeldDeletions {
            count: held.len(),
            revision: held.values().copied().max()?,
            resources: held.keys().take(SHOWN).map(|key| format!("{}/{}", key.kind, key.id)).collect(),
        })
    }
}

/// What is known of a source that is elsewhere.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceState {
    /// Whether it can be reached.
    pub is_connected: bool,
    /// When it was last heard of, in seconds since 1970.
    pub last_contact: Option<i64>,
    /// Why it cannot be reached.
    pub error: Option<String>,
}

impl SourceState {
    /// It was heard of.
    pub fn connected(&mut self) {
        if self.error.is_some() {
            tracing::info!("the source can be reached again");
        }
        *self = SourceState { is_connected: true, last_contact: Some(now()), error: None };
    }

    /// It cannot be reached.
    pub fn lost(&mut self, error: String) {
        self.is_connected = false;
        self.error = Some(error);
    }
}

/// The state of the control plane and of the listeners.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

/// What [`Status`] holds.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// When the present generation was published, in seconds since 1970.
    pub since: i64,
    /// Why the last load failed; none when it did not.
    pub last_error: Option<LastError>,
    /// What was delivered, and how far the source has come with it.
    pub kept: Kept,
    /// The source, if it is elsewhere.
    pub source: Option<SourceState>,
    /// What is served is what was kept of an earlier run: the source has not been heard of since the start.
    pub is_stale: bool,
    /// The copies of journals and serials that were damaged in the state directory.
    pub damaged: Vec<PathBuf>,
    /// The state directory, if there is one.
    pub state_directory: Option<StateDirectory>,
    /// Resources that are not served as they were delivered.
    pub set_aside: Vec<SetAside>,
    /// Keys of the source, behind its prefix, that are of no kind.
    pub strangers: BTreeSet<String>,
    /// TSIG keys that zones name and the node does not have.
    pub missing_tsig_keys: Vec<String>,
    /// How many warnings the last load had.
    pub warnings: usize,
    /// How many resources of each kind are served; kinds without any are left out.
    pub resources: BTreeMap<&'static str, usize>,
    /// The addresses that queries are taken on.
    pub listeners: Vec<String>,
}

impl State {
    /// Why what is served is stale, if it is.
    pub fn stale_reason(&self) -> String {
        let damaged = self.damaged.first().map(|copy| copy.display());
        match (damaged, self.kept.is_incomplete) {
            (_, true) => {
                "the state directory was damaged, so that what is served may be older than what was acknowledged; \
                          push the whole manifest"
                    .into()
            }
            (Some(copy), _) => format!(
                "a file of the state directory was damaged, so that dynamic updates or serials may be older than what was \
                 acknowledged; repeat the updates, and remove the copy {copy}"
            ),
            _ => "what is served was kept of an earlier run, and the control plane has not been heard of since".into(),
        }
    }

    /// All that is not served as it was delivered.
    pub fn all_set_aside(&self) -> Vec<SetAside> {
        let strangers = self.strangers.iter().map(|key| SetAside::stranger(key));
        self.set_aside.iter().cloned().chain(strangers).collect()
    }
}

impl Status {
    /// The state, to read or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a key of the source that is of no kind.
    pub fn add_stranger(&self, key: String) {
        let mut state = self.state();
        if state.strangers.len() < MOST_STRANGERS && state.strangers.insert(key.clone()) {
            drop(state);
            let SetAside { problems, .. } = SetAside::stranger(&key);
            tracing::warn!("the source has a key {key:?} that is not served: {}", problems.concat());
        }
    }

    /// Notes all of them.
    pub fn set_strangers(&self, keys: BTreeSet<String>) {
        self.state().strangers.retain(|key| keys.contains(key));
        keys.into_iter().for_each(|key| self.add_stranger(key));
    }

    /// Notes something of the source.
    pub fn source(&self, note: impl FnOnce(&mut SourceState)) {
        note(self.state().source.get_or_insert_default());
    }

    /// Notes how many resources of each kind are served.
    pub fn serves(&self, manifest: &Manifest) {
        let resources: BTreeMap<_, _> = manifest.counts().filter(|(_, count)| *count > 0).collect();
        if resources.is_empty() {
            tracing::warn!(
                "the manifest is empty, so that all clients are refused: is its source the right one (`control_plane`: the \
                 directory, or etcd's prefix)?"
            );
        }
        self.state().resources = resources;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_why() {
        for (key, expected) in [
            ("vpcs/a\u{fffd}", "the identifier is not UTF-8"),
            ("vpc/a", "there is no kind `vpc` (did you mean `vpcs`?)"),
            ("vpcs", "the key is no `<kind>/<id>`"),
            ("vpcs/", "the key is no `<kind>/<id>`"),
        ] {
            assert_eq!(SetAside::stranger(key).problems, [expected], "{key}");
        }
    }
}
