//! DNS Firewall lists that have a source: reads files, downloads URLs, and keeps the table of all lists up to date.
//!
//! ```text
//! manifest --sources--> tasks --text--> load: check, compile in parts --> control plane --> snapshot
//!                         |               ^
//!                       fetch           store: last good copies in the state directory
//! ```
//!
//! - `fetch` downloads a text, from allowed hosts only.
//! - `gzip` decompresses it.
//! - `store` keeps the last good copy of each download.
//! - `transfers` turns response policy zones that are transferred into entries.
//! - `load` checks a text and compiles it, list by list.
//! - `import` reads a list once, for AWS's API.
//! - `check` warns of sources that cannot be read.
//! - `counters` holds the metrics.
//! - `worker` is the thread that reads and compiles, so that no query waits for it.
//!
//! Whatever a source delivers, the names that were loaded before stay until others replace them, or until they expire.

pub mod check;
pub mod counters;
pub mod fetch;
mod gzip;
mod import;
mod load;
mod store;
mod tasks;
pub mod transfers;
mod worker;

use crate::{
    clock::now,
    control_plane::publisher::Publisher,
    manifest::{
        FirewallDomainList, FirewallListFormat, FirewallListSource, Id, Manifest, changes,
        domain_lists::{Content, Skipped},
        transferred::ZoneCopy,
    },
    snapshot::{
        firewall::table::{ListState, Lists},
        published::Published,
    },
};
use counters::Counters;
use fetch::Client;
use load::{Publish, Stamp, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Sender},
};
use store::{CopyInfo, Store};
use tokio::sync::Notify;
use transfers::TransferredList;
use worker::Job;

/// Settings of lists on this node.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The hosts that lists may be downloaded from.
    pub allow_sources: Vec<String>,
    /// PEM file of certificate authorities, in addition to those of the system.
    pub authorities: Option<PathBuf>,
    /// The directory of the manifest. Without it, the manifest comes from elsewhere, and names no files.
    pub manifest_directory: Option<PathBuf>,
    /// Directory for the copies of downloads. Without it, a restart loses them.
    pub state_directory: Option<PathBuf>,
}

/// The lists of this node that have a source.
pub struct FirewallLists {
    settings: Settings,
    client: Client,
    store: Store,
    states: Mutex<BTreeMap<Id, State>>,
    /// Wakes the tasks of downloads before their time.
    wakers: Mutex<BTreeMap<Id, Arc<Notify>>>,
    /// The lock of the import that runs now.
    importing: tokio::sync::Mutex<()>,
    /// The thread that compiles lists, one after the other.
    jobs: Sender<Job>,
    /// The lists that are transferred.
    transferred: Mutex<BTreeMap<Id, TransferredList>>,
    snapshot: Published,
    counters: Counters,
}

/// What this node knows about a list with a source.
#[derive(Clone, Debug, Default)]
struct State {
    content: Content,
    /// The file that was read last, as it was then.
    stamp: Option<Stamp>,
    updated: Option<i64>,
    confirmed: Option<i64>,
    next: Option<i64>,
    error: Option<String>,
}

/// The status of a DNS Firewall list. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FirewallListStatus {
    /// Its identifier.
    pub id: Id,
    /// Its state.
    pub state: FirewallListState,
    /// The file, the URL, or the zone and its first primary; none if the manifest has its names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The number of its entries.
    pub entries: u64,
    /// The number of lines that are not understood.
    #[serde(default)]
    pub skipped_lines: u64,
    /// The first of these lines, with the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_skipped: Vec<String>,
    /// The number of entries for names and addresses of name servers that this node does not apply: it does not resolve
    /// names itself.
    #[serde(default)]
    pub not_applied: u64,
    /// When its entries were replaced last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<i64>,
    /// When its source last confirmed the entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<i64>,
    /// When the node downloads it next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_refresh: Option<i64>,
    /// When its entries expire, unless the source confirms them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// Why the last reading failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The state of a DNS Firewall list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirewallListState {
    /// Rules match its entries.
    Loaded,
    /// It was never loaded.
    Missing,
    /// Its entries have expired.
    Expired,
}

/// A list with a source that is read by this room.
#[derive(Clone, Debug, PartialEq)]
struct Sourced {
    id: Id,
    place: Place,
    format: FirewallListFormat,
    zone: Option<crate::wire::Name>,
    refresh: u32,
    expires_after: Option<u32>,
}

/// Where a text is.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    File(PathBuf),
    Url(String),
    /// It cannot be read on this node.
    Nowhere(String),
}

/// The time between two downloads if the manifest gives none, in seconds.
const DEFAULT_REFRESH: u32 = 3600;

impl FirewallLists {
    /// The lists of the published snapshots. [`FirewallLists::load_first`] and [`FirewallLists::start`] do the rest.
    ///
    /// # Errors
    ///
    /// If the thread that compiles lists cannot be started.
    pub fn new(settings: Settings, snapshot: Published) -> io::Result<Arc<FirewallLists>> {
        Ok(Arc::new(FirewallLists {
            client: Client::new(settings.allow_sources.clone(), settings.authorities.clone()),
            store: Store::new(settings.state_directory.as_deref()),
            settings,
            states: Mutex::default(),
            wakers: Mutex::default(),
            importing: tokio::sync::Mutex::default(),
            jobs: worker::start()?,
            transferred: Mutex::default(),
            snapshot,
            counters: Counters::default(),
        }))
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<Id, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut State)) {
        change(self.states().entry(id.into()).or_default());
    }

    /// A list of the manifest as a source. None if its names are in the manifest, or are transferred.
    fn sourced(&self, id: &Id, list: &FirewallDomainList) -> Option<Sourced> {
        let source = list.source.as_ref().filter(|source| source.primaries.is_empty())?;
        let FirewallListSource { file, url, zone, format, refresh, expires_after, .. } = source;
        let place = match (file, url, &self.settings.manifest_directory) {
            (Some(file), _, Some(directory)) => Place::File(directory.join(file)),
            (Some(_), _, None) => Place::Nowhere("lists are read from files only with control_plane.directory".into()),
            (None, Some(url), _) => Place::Url(url.clone()),
            (None, None, _) => return None,
        };
        Some(Sourced {
            id: id.clone(),
            place,
            format: format.unwrap_or(FirewallListFormat::Domains),
            zone: zone.clone(),
            refresh: refresh.unwrap_or(DEFAULT_REFRESH),
            expires_after: *expires_after,
        })
    }

    /// The lists whose sources are other than those of a former manifest, and those that were removed.
    fn changed(&self, before: &Manifest, manifest: &Manifest) -> (Vec<Sourced>, Vec<Id>) {
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        for change in changes(&before.firewall_domain_lists, &manifest.firewall_domain_lists) {
            let old = change.old.and_then(|old| self.sourced(change.id, old));
            let new = change.new.and_then(|new| self.sourced(change.id, new));
            match new {
                new if new == old => {}
                Some(new) => changed.push(new),
                None => removed.push(change.id.clone()),
            }
        }
        (changed, removed)
    }

    /// Loads all files, and all copies of downloads that an earlier process has kept. Nothing is answered yet.
    /// `transferred` are the copies of lists that an earlier process has transferred.
    pub fn load_first(self: &Arc<Self>, publisher: &mut Publisher, transferred: Vec<(Id, ZoneCopy)>) {
        let work = move |lists: &FirewallLists, publish: &mut Publish| {
            let manifest = lists.snapshot.load().manifest.clone();
            for list in lists.changed(&Manifest::default(), &manifest).0 {
                lists.load_at_start(&list, publish);
            }
            for (id, copy) in transferred {
                // A copy of a list that is not in the manifest is an error, which nobody waits for.
                let current = ZoneCopy { is_expired: false, ..copy.clone() };
                if lists.serve_copy(&id, current, publish).is_ok() && copy.is_expired {
                    let _ = lists.serve_copy(&id, copy, publish);
                }
            }
        };
        self.run_on_worker(work, |update| publisher.update_lists(update));
    }

    /// The state of a list in the table.
    fn state_of(&self, id: &str) -> ListState {
        let snapshot = self.snapshot.load();
        let lists = &snapshot.firewall_lists;
        lists.number(id).map_or(ListState::Missing, |number| lists.state(number))
    }

    fn load_at_start(&self, list: &Sourced, publish: &mut Publish) {
        match &list.place {
            Place::File(_) => self.load_file(list, publish),
            Place::Nowhere(reason) => self.failed(&list.id, reason.clone()),
            Place::Url(url) => {
                let Some(info) = self.store.find(&list.id, url) else { return };
                match self.load_copy(list, &info, publish) {
                    Ok(()) => self.expire_if_due(list, publish),
                    Err(error) => self.failed(&list.id, error),
                }
            }
        }
    }

    /// Loads the file of a list, and notes its state.
    fn load_file(&self, list: &Sourced, publish: &mut Publish) {
        let Some(text) = self.text(list) else { return };
        let stamp = text.stamp();
        let result = self.load(list, &text, None, publish);
        self.change(&list.id, |state| state.stamp = stamp);
        match result {
            Ok(content) => self.loaded(&list.id, content, now(), now()),
            Err(error) => self.failed(&list.id, error),
        }
    }

    fn load_copy(&self, list: &Sourced, info: &CopyInfo, publish: &mut Publish) -> Result<(), String> {
        let text = self.text(list).ok_or("no text")?;
        let content = self.load(list, &text, None, publish)?;
        self.loaded(&list.id, content, info.fetched, info.confirmed);
        Ok(())
    }

    /// The file that has the text of a list.
    fn text(&self, list: &Sourced) -> Option<Text> {
        let path = match &list.place {
            Place::File(path) => path.clone(),
            Place::Url(_) => self.store.text(&list.id),
            Place::Nowhere(_) => return None,
        };
        Some(Text { path, format: list.format, zone: list.zone.clone() })
    }

    /// Checks a text and compiles it. `previous` is the number of entries of the copy that it replaces.
    fn load(
        &self,
        list: &Sourced,
        text: &Text,
        previous: Option<u64>,
        publish: &mut Publish,
    ) -> Result<Content, String> {
        let content = text.inspect()?;
        let is_file = matches!(list.place, Place::File(_));
        // The owner of a file may empty it.
        let is_emptied = is_file && load::entries_of(&content) == 0 && content.skipped == 0;
        if let Some(refusal) = load::refusal(&content, previous).filter(|_| !is_emptied) {
            return Err(refusal);
        }
        let lists = self.snapshot.load().firewall_lists.clone();
        let is_current = || {
            let snapshot = self.snapshot.load();
            let newest = snapshot.manifest.firewall_domain_lists.get(&list.id);
            newest.and_then(|newest| self.sourced(&list.id, newest)).as_ref() == Some(list)
        };
        load::compile(&|visit| text.read(visit), &list.id, &content, lists, &is_current, publish)?;
        Ok(content)
    }

    fn loaded(&self, id: &str, content: Content, updated: i64, confirmed: i64) {
        let (entries, skipped) = (load::entries_of(&content), content.skipped);
        tracing::info!(list = id, entries, skipped, "firewall list loaded");
        self.counters.refreshed("loaded");
        self.change(id, |state| {
            let (updated, confirmed) = (Some(updated), Some(confirmed));
            let content = Content { local: Vec::new(), conditions: Vec::new(), ..content };
            let (stamp, next) = (state.stamp, state.next);
            *state = State { content, stamp, updated, confirmed, next, error: None };
        });
    }

    /// Notes that the source of a list has confirmed its entries, at a time in seconds since 1970.
    pub fn confirmed(&self, id: &str, time: i64) {
        self.change(id, |state| (state.confirmed, state.error) = (Some(time), None));
    }

    /// Notes the failure of a reading. An equal failure is logged once.
    fn failed(&self, id: &str, error: String) {
        self.counters.refreshed("failed");
        let before = self.states().get(id).and_then(|state| state.error.clone());
        if before.as_ref() != Some(&error) {
            tracing::warn!(list = id, error, "firewall list not loaded");
        }
        self.change(id, |state| state.error = Some(error));
    }

    /// When the entries of a list expire, in seconds since 1970.
    fn expiry(&self, list: &Sourced) -> Option<i64> {
        let confirmed = self.states().get(&list.id)?.confirmed?;
        list.expires_after.map(|age| confirmed + i64::from(age))
    }

    /// Marks a list as expired, if it is time.
    fn expire_if_due(&self, list: &Sourced, publish: &mut Publish) {
        if self.expiry(list).is_none_or(|expiry| now() < expiry) {
            return;
        }
        if self.set_state(&list.id, ListState::Loaded, ListState::Expired, publish) {
            tracing::error!(list = list.id, "firewall list expired");
        }
    }

    /// Sets the state of a list from `old` to `new`. Returns whether it was `old`.
    fn set_state(&self, id: &str, old: ListState, new: ListState, publish: &mut Publish) -> bool {
        let lists = self.snapshot.load().firewall_lists.clone();
        let is_old = |lists: &Lists| lists.number(id).filter(|number| lists.state(*number) == old);
        if is_old(&lists).is_none() {
            return false;
        }
        let result = publish(&mut |lists| {
            let mut changed = lists.clone();
            is_old(lists).into_iter().for_each(|number| changed.set_state(number, new));
            Ok(changed)
        });
        result.is_ok()
    }

    /// Downloads a list now. Returns false if the node does not download a list with this identifier.
    pub fn refresh(&self, id: &str) -> bool {
        let waker = self.wakers.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        waker.iter().for_each(|waker| waker.notify_one());
        waker.is_some()
    }

    /// The status of all lists, by identifier.
    pub fn report(&self) -> Vec<FirewallListStatus> {
        let snapshot = self.snapshot.load_full();
        let states = self.states();
        let lists = &snapshot.firewall_lists;
        let report = |(id, list): (&Id, &Arc<FirewallDomainList>)| {
            let state = states.get(id).cloned().unwrap_or_default();
            let (nsdname, nsip) = state.content.of_servers();
            let sourced = self.sourced(id, list);
            let zone = transfers::zone_of(list);
            let transferred =
                zone.and_then(|zone| Some(format!("{} of {}", zone.name, zone.primaries.first()?.address())));
            let location = sourced.as_ref().and_then(|sourced| match &sourced.place {
                Place::File(path) => Some(path.display().to_string()),
                Place::Url(url) => Some(url.clone()),
                Place::Nowhere(_) => None,
            });
            let location = location.or(transferred);
            let expires_after = sourced.as_ref().and_then(|sourced| sourced.expires_after);
            let entries = match list.source {
                None => list.domains.len() as u64,
                Some(_) => load::entries_of(&state.content),
            };
            FirewallListStatus {
                id: id.clone(),
                state: match lists.number(id).map_or(ListState::Missing, |number| lists.state(number)) {
                    ListState::Loaded => FirewallListState::Loaded,
                    ListState::Missing => FirewallListState::Missing,
                    ListState::Expired => FirewallListState::Expired,
                },
                location,
                entries,
                skipped_lines: state.content.skipped,
                first_skipped: state.content.first_skipped.iter().map(text_of).collect(),
                not_applied: if snapshot.node.resolves_names() { 0 } else { nsdname + nsip },
                updated: state.updated,
                confirmed: state.confirmed,
                next_refresh: state.next,
                expires: state.confirmed.zip(expires_after).map(|(confirmed, age)| confirmed + i64::from(age)),
                error: state.error,
            }
        };
        snapshot.manifest.firewall_domain_lists.iter().map(report).collect()
    }
}

fn text_of(skipped: &Skipped) -> String {
    format!("line {}: `{}`: {}", skipped.line, skipped.text, skipped.reason)
}

#[cfg(test)]
mod tests;
