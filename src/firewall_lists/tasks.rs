//! The thread that keeps lists up to date: one task for each list that has a source.

use super::{
    FirewallLists, ListState, Place, Sourced,
    fetch::{Fetched, MAX_OCTETS},
    gzip,
    load::{self, Publish, Stamp},
    store::CopyInfo,
};
use crate::{
    clock::{now, random_seed},
    control_plane::Message,
    manifest::{Id, Manifest},
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, mpsc::Sender},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::sleep,
};

/// The time between two looks at a file. A file is read when two looks see the same change.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The time after which a failed download is tried again. It doubles with each failure.
const MIN_RETRY: u64 = 30;

impl FirewallLists {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the runtime or the thread cannot be started.
    pub fn start(self: &Arc<Self>, messages: Sender<Message>, generations: watch::Receiver<u64>) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let lists = self.clone();
        std::thread::Builder::new()
            .name("firewall-sources".into())
            .spawn(move || runtime.block_on(lists.follow(messages, generations)))
            .context("the thread of DNS Firewall lists cannot be started")?;
        Ok(())
    }

    /// Starts and stops tasks, so that each list with a source has one, until the publisher is gone.
    async fn follow(self: Arc<Self>, messages: Sender<Message>, mut generations: watch::Receiver<u64>) {
        let mut tasks: BTreeMap<Id, AbortHandle> = BTreeMap::new();
        let mut before = Arc::new(Manifest::default());
        let mut is_first = true;
        loop {
            let snapshot = self.snapshot.load_full();
            let (manifest, generation) = (snapshot.manifest.clone(), snapshot.generation);
            let has_removed = !snapshot.firewall_lists.removed().is_empty();
            // The publisher waits until a former snapshot is free.
            drop(snapshot);
            let (changed, removed) = self.changed(&before, &manifest);
            before = manifest;
            for id in removed {
                tasks.remove(&id).iter().for_each(AbortHandle::abort);
                self.states().remove(&id);
                self.wakers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                self.store.remove(&id);
            }
            for list in changed {
                if self.state_of(&list.id) == ListState::Missing {
                    // What is known is about another source.
                    self.states().remove(&list.id);
                }
                tasks.remove(&list.id).iter().for_each(AbortHandle::abort);
                let task = tokio::spawn(self.clone().keep(list.clone(), messages.clone()));
                tasks.insert(list.id, task.abort_handle());
            }
            if is_first && generation > 0 {
                is_first = false;
                self.store.retain(|id| before.firewall_domain_lists.contains_key(id));
            }
            if has_removed {
                let purge = |lists: &FirewallLists, publish: &mut Publish| {
                    let newest = lists.snapshot.load().firewall_lists.clone();
                    load::purge(newest, publish)
                };
                self.on_worker(&messages, purge).await;
            }
            self.on_worker(&messages, FirewallLists::serve_copies_again).await;
            if generations.changed().await.is_err() {
                return;
            }
        }
    }

    /// Keeps a list up to date.
    async fn keep(self: Arc<Self>, list: Sourced, messages: Sender<Message>) {
        match &list.place {
            Place::File(_) => self.keep_file(list, messages).await,
            Place::Url(url) => self.keep_download(&list, url, messages).await,
            Place::Nowhere(reason) => self.failed(&list.id, reason.clone()),
        }
    }

    async fn keep_file(self: Arc<Self>, list: Sourced, messages: Sender<Message>) {
        let Some(text) = self.text(&list) else { return };
        let read = |lists: &FirewallLists| lists.states().get(&list.id).and_then(|state| state.stamp);
        let is_there = self.state_of(&list.id) == ListState::Loaded;
        // The file was read at the start, or the list is new.
        let mut last: Option<Stamp> = if is_there { read(&self) } else { None };
        if !is_there {
            let list = list.clone();
            self.on_worker(&messages, move |lists, publish| lists.load_file(&list, publish)).await;
            last = read(&self);
        }
        let mut seen = last;
        loop {
            sleep(POLL_INTERVAL).await;
            let stamp = text.stamp();
            if stamp == seen && stamp != last {
                let list = list.clone();
                self.on_worker(&messages, move |lists, publish| lists.load_file(&list, publish)).await;
                last = stamp;
            }
            seen = stamp;
        }
    }

    async fn keep_download(self: Arc<Self>, list: &Sourced, url: &str, messages: Sender<Message>) {
        if let Err(error) = self.client.check(url) {
            return self.failed(&list.id, error);
        }
        if !self.is_known(list) && self.store.find(&list.id, url).is_some() {
            // The manifest came later than the start.
            let list = list.clone();
            self.on_worker(&messages, move |lists, publish| lists.load_at_start(&list, publish)).await;
        }
        let waker = Arc::new(Notify::new());
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).insert(list.id.clone(), waker.clone());
        let mut failures = 0u32;
        let mut wait = match self.store.find(&list.id, url).filter(|_| self.is_known(list)) {
            // It was downloaded by an earlier process.
            Some(info) => (info.confirmed + i64::from(list.refresh) - now()).clamp(0, i64::from(list.refresh)) as u64,
            None => 0,
        };
        loop {
            self.change(&list.id, |state| state.next = Some(now() + wait as i64));
            tokio::select! {
                () = self.wait(list, wait, &messages) => {}
                () = waker.notified() => {}
            }
            match self.download(list, url, &messages).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    self.failed(&list.id, error);
                }
            }
            let refresh = u64::from(list.refresh);
            wait = match failures {
                0 => jittered(refresh),
                _ => jittered((MIN_RETRY << (failures - 1).min(16)).min(refresh)),
            };
        }
    }

    /// Whether the copy of a list is served, or has expired.
    fn is_known(&self, list: &Sourced) -> bool {
        self.states().get(&list.id).is_some_and(|state| state.confirmed.is_some())
    }

    /// Waits some seconds. If the list expires meanwhile, it becomes expired.
    async fn wait(self: &Arc<Self>, list: &Sourced, seconds: u64, messages: &Sender<Message>) {
        let end = now() + seconds as i64;
        loop {
            let rest = end - now();
            let to_expiry = self.expiry(list).map(|expiry| expiry - now()).filter(|rest| *rest > 0);
            sleep(Duration::from_secs(to_expiry.unwrap_or(rest).min(rest).max(0) as u64)).await;
            if self.expiry(list).is_some_and(|expiry| expiry <= now()) {
                let list = list.clone();
                self.on_worker(messages, move |lists, publish| lists.expire_if_due(&list, publish)).await;
            }
            if now() >= end {
                return;
            }
        }
    }

    async fn download(self: &Arc<Self>, list: &Sourced, url: &str, messages: &Sender<Message>) -> Result<(), String> {
        let known = self.store.find(&list.id, url);
        // An entity tag counts only if its text is served.
        let is_served = self.is_known(list);
        let validators = known.as_ref().filter(|_| is_served).map(CopyInfo::validators).unwrap_or_default();
        let draft = self.store.draft(&list.id).map_err(|error| error.to_string())?;
        let fetched = self.client.fetch(url, &validators, &draft, MAX_OCTETS).await?;
        let (list, url) = (list.clone(), url.to_string());
        let finish = move |lists: &FirewallLists, publish: &mut Publish| {
            let result = match fetched {
                Fetched::Unchanged => lists.confirm(&list, known, publish),
                Fetched::Text(validators) => {
                    let info = CopyInfo {
                        id: list.id.clone(),
                        location: url,
                        etag: validators.etag,
                        last_modified: validators.last_modified,
                        fetched: now(),
                        confirmed: now(),
                        entries: 0,
                    };
                    lists.accept(&list, info, known, publish)
                }
            };
            let _ = std::fs::remove_file(draft);
            result
        };
        self.on_worker(messages, finish).await.unwrap_or_else(|| Err("the server ends".into()))
    }

    /// The source says that the copy is still valid.
    fn confirm(&self, list: &Sourced, known: Option<CopyInfo>, publish: &mut Publish) -> Result<(), String> {
        let Some(known) = known else {
            return Err("the server says that a text is unchanged which zonal does not have".into());
        };
        let info = CopyInfo { confirmed: now(), ..known };
        self.store.write_info(&info).map_err(|error| format!("the copy is not kept: {error}"))?;
        self.counters.refreshed("unchanged");
        self.confirmed(&list.id, info.confirmed);
        self.set_state(&list.id, ListState::Expired, ListState::Loaded, publish);
        Ok(())
    }

    /// Checks a new text, compiles it, and keeps it as the copy.
    fn accept(
        &self,
        list: &Sourced,
        mut info: CopyInfo,
        known: Option<CopyInfo>,
        publish: &mut Publish,
    ) -> Result<(), String> {
        let draft = self.store.draft(&list.id).map_err(|error| error.to_string())?;
        gzip::unpack(&draft, MAX_OCTETS).map_err(|error| error.to_string())?;
        let text = load::Text { path: draft, format: list.format, zone: list.zone.clone() };
        let content = self.load(list, &text, known.map(|known| known.entries), publish)?;
        info.entries = load::entries_of(&content);
        let (fetched, confirmed) = (info.fetched, info.confirmed);
        let kept = self.store.replace(&info);
        self.loaded(&list.id, content, fetched, confirmed);
        kept.map_err(|error| format!("the copy is not kept: {error}"))
    }
}

/// A time in seconds that is up to a tenth shorter or longer: nodes do not ask a server all at once.
fn jittered(seconds: u64) -> u64 {
    let span = seconds / 5;
    seconds - span / 2 + random_seed().0 % (span + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_downloads_varies_by_a_tenth() {
        for seconds in [0, 1, 9, 60, 3600] {
            for _ in 0..100 {
                let jittered = jittered(seconds);
                assert!(jittered >= seconds - seconds / 10 && jittered <= seconds + seconds / 10 + 1, "{jittered}");
            }
        }
    }
}
