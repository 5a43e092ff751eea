//! The state of the control plane, as the admin API, the metrics and the command line report it.
//!
//! The publisher, the sources and the server write [`Status`]; the admin API reads it. It holds
//! copies: nothing that is served is read from here.

use super::{guard::HeldDeletions, persisted::PersistedState, prepare::Reasons};
use crate::clock::now;
use crate::manifest::{
    KINDS, Manifest, Problem,
    collection::{Key, MASTER_FILES, Replacement, Replacements},
    decode::suggestion,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The maximum number of problems, or of held resources, that a report lists. Counts are of all.
const MAX_LISTED: usize = 20;
/// The maximum number of unknown keys that are remembered: a wrong prefix of etcd may hold any
/// number of them.
const MAX_UNKNOWN_KEYS: usize = 1000;

/// The maximum number of events of one kind that one load or change logs.
pub(super) const MAX_LOGGED: usize = 20;

/// A load that failed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LoadError {
    /// When it failed, in seconds since 1970.
    pub time: i64,
    /// The first error, and the number of errors.
    pub message: String,
    /// The first 20 errors, one line each.
    pub problems: Vec<String>,
}

impl LoadError {
    /// Sums up the problems of a load that failed.
    pub fn new(problems: &[Problem]) -> LoadError {
        let errors = || problems.iter().filter(|problem| problem.is_error());
        let first = errors().next().or(problems.first()).map_or("unknown error".into(), Problem::to_string);
        LoadError {
            time: now(),
            message: match errors().count() {
                0 | 1 => first,
                count => format!("{first} (the first of {count} errors)"),
            },
            problems: errors().take(MAX_LISTED).map(Problem::to_string).collect(),
        }
    }
}

/// The version that is served of a resource that is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// Its last valid version.
    Older,
    /// Nothing.
    Nothing,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fallback::Older => "older",
            Fallback::Nothing => "nothing",
        })
    }
}

/// A resource that is not served as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SetAsideResource {
    /// Its kind.
    pub kind: String,
    /// Its identifier.
    pub id: String,
    /// The version that is served instead.
    pub served: Fallback,
    /// The reasons: the first 20.
    pub problems: Vec<String>,
}

impl SetAsideResource {
    /// A resource for which `instead` is served, and the reasons.
    pub fn new(key: &Key, instead: Option<&Replacement>, reasons: &[Problem]) -> SetAsideResource {
        let served = match instead {
            Some(Replacement::Older(..)) => Fallback::Older,
            _ => Fallback::Nothing,
        };
        let problems = reasons.iter().take(MAX_LISTED).map(Problem::to_string).collect();
        SetAsideResource { kind: key.kind.into(), id: key.id.clone(), served, problems }
    }

    /// A key of the source that belongs to no resource.
    fn unknown_key(key: &str) -> SetAsideResource {
        let (kind, id) = key.split_once('/').unwrap_or((key, ""));
        let known = KINDS.iter().copied().chain([MASTER_FILES]);
        let problem = match id {
            "" => "the key is no `<kind>/<id>`".to_string(),
            // A key of a known kind is unknown only if it cannot be read.
            _ if Key::new(kind, id).is_some() => "the identifier is not UTF-8".to_string(),
            _ => {
                let help = suggestion(kind, known).map_or(String::new(), |help| format!(" ({help})"));
                format!("there is no kind `{kind}`{help}")
            }
        };
        SetAsideResource { kind: kind.into(), id: id.into(), served: Fallback::Nothing, problems: vec![problem] }
    }
}

/// The state directory.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StateDirectoryReport {
    /// Its path.
    pub path: String,
    /// Why the node cannot write to it; null if it can.
    pub error: Option<String>,
}

/// Deletions that the guard holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeldDeletionsReport {
    /// Number of resources that the source has deleted and the node still serves.
    pub count: usize,
    /// Revision of the last deletion: as the value of `allow_deletion` it lets all of them pass.
    pub revision: u64,
    /// The first 20 resources, as `kind/identifier`.
    pub resources: Vec<String>,
}

impl HeldDeletionsReport {
    /// The report; none if no deletion is held.
    pub fn new(held: &HeldDeletions) -> Option<HeldDeletionsReport> {
        Some(HeldDeletionsReport {
            count: held.len(),
            revision: held.values().copied().max()?,
            resources: held.keys().take(MAX_LISTED).map(|key| format!("{}/{}", key.kind, key.id)).collect(),
        })
    }
}

/// The state of a source that is on another machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SourceState {
    /// Whether the node reaches it.
    pub is_connected: bool,
    /// The time of the last contact with it, in seconds since 1970.
    pub last_contact: Option<i64>,
    /// Why the node does not reach it.
    pub error: Option<String>,
}

impl SourceState {
    /// Notes a contact with the source.
    pub fn connected(&mut self) {
        if self.error.is_some() {
            tracing::info!("source reached again");
        }
        *self = SourceState { is_connected: true, last_contact: Some(now()), error: None };
    }

    /// Notes that the node does not reach the source, and why.
    pub fn lost(&mut self, error: String) {
        self.is_connected = false;
        self.error = Some(error);
    }
}

/// The state of the control plane and of the listeners, shared by its writers and its readers.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

/// The content of [`Status`].
#[derive(Clone, Debug, Default)]
pub struct State {
    /// When the present generation was published, in seconds since 1970.
    pub since: i64,
    /// Why the last load failed; none if it succeeded.
    pub last_error: Option<LoadError>,
    /// The state in the state directory.
    pub persisted: PersistedState,
    /// The source, if it is on another machine.
    pub source: Option<SourceState>,
    /// The node serves the state of an earlier run, and has not reached its source since.
    pub is_stale: bool,
    /// The copies of journals and serials that were damaged in the state directory.
    pub damaged: Vec<PathBuf>,
    /// The state directory, if there is one.
    pub state_directory: Option<StateDirectoryReport>,
    /// Resources that are not served as they were delivered.
    pub set_aside: Vec<SetAsideResource>,
    /// Keys of the source, without its prefix, that belong to no resource.
    pub unknown_keys: BTreeSet<String>,
    /// TSIG keys that zones name and the node does not have.
    pub missing_tsig_keys: Vec<String>,
    /// Number of warnings of the last load.
    pub warnings: usize,
    /// Number of resources that are served, by kind. Kinds without resources are left out.
    pub resources: BTreeMap<&'static str, usize>,
    /// Addresses that take queries.
    pub listeners: Vec<String>,
}

impl State {
    /// The reason why the node serves a stale manifest.
    pub fn stale_reason(&self) -> String {
        match self.damaged.first() {
            _ if self.persisted.is_incomplete => "the state directory was damaged: acknowledged changes may be missing from the \
                                             served manifest; push the whole manifest"
                .into(),
            Some(copy) => format!(
                "a file of the state directory was damaged: acknowledged dynamic updates or serials may be missing; repeat the \
                 updates, and remove the copy {}",
                copy.display()
            ),
            None => "the node serves the saved manifest of an earlier run: the control plane has sent nothing since the start"
                .into(),
        }
    }

    /// All resources that are not served as they were delivered, and the unknown keys of the
    /// source.
    pub fn all_set_aside(&self) -> Vec<SetAsideResource> {
        let unknown = self.unknown_keys.iter().map(|key| SetAsideResource::unknown_key(key));
        self.set_aside.iter().cloned().chain(unknown).collect()
    }
}

impl Status {
    /// Locks the state, to read or to change it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a key of the source that belongs to no resource. Keys beyond [`MAX_UNKNOWN_KEYS`] are
    /// not remembered.
    pub fn add_unknown_key(&self, key: String) {
        let mut state = self.state();
        if state.unknown_keys.len() < MAX_UNKNOWN_KEYS && state.unknown_keys.insert(key.clone()) {
            drop(state);
            let SetAsideResource { problems, .. } = SetAsideResource::unknown_key(&key);
            tracing::warn!(key, problem = problems.concat(), "unknown key in the source");
        }
    }

    /// Replaces the unknown keys of the source.
    pub fn set_unknown_keys(&self, keys: BTreeSet<String>) {
        self.state().unknown_keys.retain(|key| keys.contains(key));
        keys.into_iter().for_each(|key| self.add_unknown_key(key));
    }

    /// Changes the state of the source.
    pub fn update_source(&self, update: impl FnOnce(&mut SourceState)) {
        update(self.state().source.get_or_insert_default());
    }

    /// Notes how many resources of each kind are served.
    pub fn set_resources(&self, manifest: &Manifest) {
        let resources: BTreeMap<_, _> = manifest.counts().filter(|(_, count)| *count > 0).collect();
        if resources.is_empty() {
            tracing::warn!("manifest is empty");
        }
        self.state().resources = resources;
    }

    /// Notes the result of a load: its number of warnings, and whether it failed.
    pub(super) fn set_load_result(&self, warnings: usize, has_failed: bool) {
        let mut state = self.state();
        state.warnings = warnings;
        if !has_failed {
            state.last_error = None;
        }
    }

    /// Notes the resources that are set aside, and logs those that were not before.
    pub(super) fn report_set_aside(&self, aside: &Replacements, reasons: &Reasons) {
        let resource = |(key, reasons): &(Key, Vec<Problem>)| SetAsideResource::new(key, aside.get(key), reasons);
        let all: Vec<SetAsideResource> = reasons.iter().map(resource).collect();
        let before = std::mem::replace(&mut self.state().set_aside, all.clone());
        let before: HashSet<&SetAsideResource> = before.iter().collect();
        let new: Vec<&SetAsideResource> = all.iter().filter(|resource| !before.contains(resource)).collect();
        for SetAsideResource { kind, id, served, problems } in new.iter().take(MAX_LOGGED) {
            let problem = problems.first().map_or("", String::as_str);
            tracing::warn!(kind, id, %served, problem, "resource set aside");
        }
        if new.len() > MAX_LOGGED {
            tracing::warn!(count = new.len() - MAX_LOGGED, "more resources set aside");
        }
    }
}

/// Logs the warnings of a manifest that is published.
pub(super) fn log_warnings(problems: &[Problem]) {
    for problem in problems.iter().take(MAX_LOGGED) {
        tracing::warn!(%problem, "manifest warning");
    }
    if problems.len() > MAX_LOGGED {
        tracing::warn!(count = problems.len() - MAX_LOGGED, "more manifest warnings");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_have_a_reason() {
        for (key, expected) in [
            ("vpcs/a\u{fffd}", "the identifier is not UTF-8"),
            ("vpc/a", "there is no kind `vpc` (did you mean `vpcs`?)"),
            ("vpcs", "the key is no `<kind>/<id>`"),
            ("vpcs/", "the key is no `<kind>/<id>`"),
        ] {
            assert_eq!(SetAsideResource::unknown_key(key).problems, [expected], "{key}");
        }
    }
}
