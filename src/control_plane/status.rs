//! What the control plane last did, for the admin API.

use super::kept::Kept;
use crate::manifest::{
    Manifest, Problem,
    collection::{Instead, Key},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// How many problems are shown; the count is given of all.
const SHOWN: usize = 20;

/// A load that failed.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// When, in seconds since 1970.
    pub time: u64,
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
            time: seconds(SystemTime::now()),
            message: match errors().count() {
                0 | 1 => first,
                count => format!("{first} (the first of {count} errors)"),
            },
            problems: errors().take(SHOWN).map(Problem::to_string).collect(),
        }
    }
}

/// A resource that is not served as it was delivered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetAside {
    /// Its kind.
    pub kind: &'static str,
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
        SetAside { kind: key.kind, id: key.id.clone(), served, problems }
    }
}

/// What is known of a source that is elsewhere.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceState {
    /// Whether it can be reached.
    pub is_connected: bool,
    /// When it was last heard of, in seconds since 1970.
    pub last_contact: Option<u64>,
    /// Why it cannot be reached.
    pub error: Option<String>,
}

impl SourceState {
    /// It was heard of.
    pub fn connected(&mut self) {
        *self = SourceState { is_connected: true, last_contact: Some(seconds(SystemTime::now())), error: None };
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
    pub since: u64,
    /// Why the last load failed; none when it did not.
    pub last_error: Option<LastError>,
    /// What was delivered, and how far the source has come with it.
    pub kept: Kept,
    /// The source, if it is elsewhere.
    pub source: Option<SourceState>,
    /// What is served is what was kept of an earlier run: the source has not been heard of since the start.
    pub is_stale: bool,
    /// What is not served as it was delivered.
    pub set_aside: Vec<SetAside>,
    /// TSIG keys that zones name and the node does not have.
    pub missing_tsig_keys: Vec<String>,
    /// How many warnings the last load had.
    pub warnings: usize,
    /// How many resources of each kind are served; kinds without any are left out.
    pub resources: BTreeMap<&'static str, usize>,
    /// The addresses that queries are taken on.
    pub listeners: Vec<String>,
}

impl Status {
    /// The state, to read or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    /// Notes something of the source.
    pub fn source(&self, note: impl FnOnce(&mut SourceState)) {
        note(self.state().source.get_or_insert_default());
    }
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How many resources of each kind there are.
pub fn resources(manifest: &Manifest) -> BTreeMap<&'static str, usize> {
    manifest.counts().filter(|(_, count)| *count > 0).collect()
}
