//! etcd: one key per resource, listed at a revision and watched from there on.
//!
//! A transaction of etcd comes as one piece, and so becomes one change. When the watch is lost, or what it would go on from is
//! compacted, everything is listed anew and the difference is made. What etcd says is so, whether it can be served or not:
//! the keeper decides what becomes of errors.

use super::{
    Message,
    change::{Change, Mark, Position, Ready, Refusal},
    guard::{Allowance, Deletions, FEW, MOST_DELETED},
    status::Status,
};
use crate::{
    config::{Etcd, remedy::explain_unreachable},
    manifest::{
        KINDS,
        collection::{Collection, Edit, Key, MASTER_FILES},
    },
};
use anyhow::{Context, anyhow, bail};
use etcd_client::{
    Certificate, Client, ConnectOptions, EventType, GetOptions, Identity, KeyValue, KvClient, TlsOptions, WatchOptions,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

/// How long connecting may take, and one request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the other side of an idle connection is asked for a sign of life, and how long it may take for it.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));
/// The pause before the next try, at first and at most; half of it is chance.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// After this time without a word from the watch, etcd is asked how far it has come.
const PROGRESS: Duration = Duration::from_secs(5);
/// Keys in one answer of a list.
const PAGE: i64 = 1000;
/// The largest message that is taken, in octets: etcd limits a request to 1.5 MiB, but not an answer.
pub const MAX_RESPONSE_OCTETS: usize = 1 << 30;
/// The key, behind the prefix, whose value says that the deletions up to that revision are meant. So are those of the transaction
/// that puts the key, whatever its value.
pub const ALLOW_DELETION: &str = "allow_deletion";

/// Follows etcd for as long as somebody takes what it says. `position` is how far it was followed before.
pub async fn follow(config: Etcd, changes: Sender<Message>, status: Arc<Status>, position: Position) {
    let mut source =
        Source { config, changes, status, position, has_strangers: false, allowance: Allowance::default() };
    let mut pause = PAUSES.0;
    for turn in 0.. {
        let Some(endpoint) = source.config.endpoints.get(turn % source.config.endpoints.len().max(1)).cloned() else {
            return;
        };
        let before = source.position.clone();
        let error = match source.session(&endpoint).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let served =
            if source.position.revision > 0 { "what was served goes on being served" } else { "nothing is served yet" };
        tracing::warn!("etcd at {endpoint}: {error:#}; {served}");
        source.status.source(|state| state.lost(format!("etcd at {endpoint}: {error:#}")));
        pause = if source.position == before { (2 * pause).min(PAUSES.1) } else { PAUSES.0 };
        let chance = f64::from(crate::clock::random_seed().0 as u16) / f64::from(u16::MAX);
        sleep(pause.mul_f64(0.5 + chance / 2.0)).await;
    }
}

/// etcd, and how far it was followed.
struct Source {
    config: Etcd,
    changes: Sender<Message>,
    status: Arc<Status>,
    position: Position,
    /// Whether the keys that are of no kind are known.
    has_strangers: bool,
    /// Which deletions are meant.
    allowance: Allowance,
}

impl Source {
    /// Follows one member. Ends without an error when nobody takes what it says any more.
    async fn session(&mut self, endpoint: &str) -> anyhow::Result<()> {
        let client = connect(&self.config, endpoint).await?;
        let mut kv = client.kv_client().max_decoding_message_size(MAX_RESPONSE_OCTETS);
        let now = self.now(&mut kv).await?;
        let is_older = self.position.revision > 0
            && (now.store != self.position.store
                || now.revision < self.position.revision
                || !self.has_mark(&mut kv).await?);
        if is_older {
            tracing::warn!(
                "etcd's revision is {} (cluster {:x}), and {} (cluster {:x}) was seen before: the store was put back to an \
                 older state, or is another one",
                now.revision,
                now.store,
                self.position.revision,
                self.position.store
            );
        }
        if self.position.revision == 0 || is_older {
            self.list(&mut kv, is_older).await?;
        } else {
            if !self.has_strangers {
                self.find_strangers(&mut kv).await?;
            }
            let allowed = in_time(kv.get(self.allow_deletion(), None)).await?;
            self.allowance.until = allowed.kvs().first().map_or(0, allowed_until);
            self.status.source(|state| state.connected());
        }
        loop {
            let compacted = self.watch(&client).await?;
            if !compacted {
                return Ok(());
            }
            tracing::info!(
                "what has changed in etcd since revision {} is compacted: listing anew",
                self.position.revision
            );
            self.list(&mut kv, false).await?;
        }
    }

    /// Whether the store has what was last seen of it: one that was put back, and has come as far since, has not.
    async fn has_mark(&self, kv: &mut KvClient) -> anyhow::Result<bool> {
        let Some(mark) = &self.position.mark else { return Ok(true) };
        let options = GetOptions::new().with_revision(mark.revision as i64);
        let found = match timeout(REQUEST_TIMEOUT, kv.get(mark.key.as_str(), Some(options))).await? {
            Err(etcd_client::Error::GRpcStatus(status)) if status.message().contains("compacted") => {
                // What it is now can still be compared, if it was not changed since.
                let response = in_time(kv.get(mark.key.as_str(), None)).await?;
                match response.kvs().first().and_then(marked) {
                    Some(found) if found.revision == mark.revision => Some(found),
                    _ => return Ok(true),
                }
            }
            response => response.map_err(told)?.kvs().first().and_then(marked),
        };
        Ok(found.as_ref() == Some(mark))
    }

    /// How far the store has come.
    async fn now(&self, kv: &mut KvClient) -> anyhow::Result<Position> {
        let options = GetOptions::new().with_prefix().with_count_only();
        let response = in_time(kv.get(self.config.prefix.as_str(), Some(options))).await?;
        let header = response.header().ok_or_else(|| anyhow!("its answer has no header"))?;
        Ok(Position { revision: header.revision() as u64, store: header.cluster_id(), ..Position::default() })
    }

    /// Reads everything at one revision, and has the difference made.
    async fn list(&mut self, kv: &mut KvClient, is_older: bool) -> anyhow::Result<()> {
        let prefix = self.config.prefix.clone().into_bytes();
        let end = end_of(&prefix);
        let (mut from, mut position) = (prefix, Position::default());
        let (mut edits, mut strangers) = (Vec::new(), BTreeSet::new());
        let (mut allowed, mut allowed_at) = (0, 0);
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if position.revision > 0 {
                options = options.with_revision(position.revision as i64);
            }
            let response = in_time(kv.get(from.clone(), Some(options))).await?;
            if position.revision == 0 {
                let header = response.header().ok_or_else(|| anyhow!("its answer has no header"))?;
                position =
                    Position { revision: header.revision() as u64, store: header.cluster_id(), ..Position::default() };
            }
            position.mark = latest(position.mark.take(), response.kvs());
            for pair in response.kvs() {
                match self.key(pair.key()) {
                    _ if pair.key() == self.allow_deletion().as_bytes() => {
                        (allowed, allowed_at) = (allowed_until(pair), pair.mod_revision() as u64);
                    }
                    Ok(key) => edits.push(Edit { key, value: Some(pair.value().into()) }),
                    Err(stranger) => drop(strangers.insert(stranger)),
                }
            }
            match response.kvs().last() {
                Some(last) if response.more() => from = [last.key(), &[0]].concat(),
                _ => break,
            }
        }
        self.status.set_strangers(strangers);
        self.has_strangers = true;
        let mut listed = Collection::default();
        listed.apply(&edits);
        let next = position.clone();
        // When the missing keys were deleted is not known. They were before this list, and are meant if somebody has said so
        // since this node has heard of the store.
        let is_meant = allowed >= position.revision || !is_older && allowed_at > self.position.revision;
        self.allowance.until = allowed;
        let allowance = Allowance { until: if is_meant { u64::MAX } else { 0 }, ..Allowance::default() };
        let deletions = Deletions { allowance, ..Deletions::default() };
        let prepare = move |old: &Collection, was: &Position| {
            let edits = listed.edits_from(old);
            let deleted = edits.iter().filter(|edit| edit.value.is_none()).count();
            if is_older && !is_meant && old.len() >= FEW && deleted * 100 > old.len() * MOST_DELETED {
                return Err(Refusal::Conflict(format!(
                    "etcd's store was put back from revision {} to {}, and {deleted} of {} resources are missing in it: what \
                     was served goes on being served until less than {MOST_DELETED} % are missing, or until the key \
                     `{ALLOW_DELETION}` has a revision that is not below {1}",
                    was.revision,
                    next.revision,
                    old.len()
                )));
            }
            // What a list of an older store may take away was judged here.
            let deletions = (is_meant || !is_older).then(|| deletions.clone());
            Ok(Ready { edits, position: next.clone(), deletions, is_whole: true })
        };
        let (reply, answer) = oneshot::channel();
        // What is listed is so, unless the list itself is doubted.
        let change = Change {
            prepare: Box::new(prepare),
            is_fact: true,
            dry_run: false,
            since: Instant::now(),
            reply: Some(reply),
        };
        self.changes.send(Message::Change(change)).map_err(|_| anyhow!("the server ends"))?;
        match answer.await.context("the server ends")? {
            Ok(_) | Err(Refusal::Problems(_)) => {}
            Err(refusal) => bail!("{refusal}"),
        }
        self.position = position;
        self.status.source(|state| state.connected());
        Ok(())
    }

    /// Takes what changes. Returns true if what it would go on from is compacted, false if nobody takes it any more.
    ///
    /// How far all has been seen is told by events alone: releases of etcd before 3.4.25 and 3.5.8 may answer a request for
    /// progress with a revision whose events are still to come.
    async fn watch(&mut self, client: &Client) -> anyhow::Result<bool> {
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(self.position.revision as i64 + 1)
            .with_progress_notify();
        let mut watcher = client.watch_client().max_decoding_message_size(MAX_RESPONSE_OCTETS);
        let mut stream = in_time(watcher.watch(self.config.prefix.as_str(), Some(options))).await?;
        // What comes before the answer to this is what has changed while nobody watched.
        stream.request_progress().await.map_err(told)?;
        let (mut is_asked, mut is_told) = (true, false);
        loop {
            let response = match timeout(PROGRESS, stream.message()).await {
                Ok(response) => response.map_err(told)?.ok_or_else(|| anyhow!("the watch has ended"))?,
                Err(_) if is_asked => bail!("the watch is silent"),
                Err(_) => {
                    is_asked = true;
                    stream.request_progress().await.map_err(told)?;
                    continue;
                }
            };
            is_asked = false;
            if response.compact_revision() > 0 {
                return Ok(true);
            }
            if response.canceled() {
                bail!("the watch is refused: {}", response.cancel_reason());
            }
            self.status.source(|state| state.connected());
            let (mut edits, mut revisions) = (Vec::new(), BTreeMap::new());
            self.allowance.transactions.clear();
            for event in response.events() {
                let Some(pair) = event.kv() else { continue };
                let is_put = event.event_type() == EventType::Put;
                match self.key(pair.key()) {
                    _ if pair.key() == self.allow_deletion().as_bytes() => {
                        self.allowance.until = if is_put { allowed_until(pair) } else { 0 };
                        self.allowance.transactions.extend(is_put.then_some(pair.mod_revision() as u64));
                    }
                    Ok(key) => {
                        if !is_put {
                            revisions.insert(key.clone(), pair.mod_revision() as u64);
                        }
                        edits.push(Edit { key, value: is_put.then(|| pair.value().into()) });
                    }
                    Err(stranger) if is_put => self.status.add_stranger(stranger),
                    Err(stranger) => drop(self.status.state().strangers.remove(&stranger)),
                }
            }
            let last = response.events().iter().filter_map(|event| event.kv()).map(KeyValue::mod_revision).max();
            let put = response.events().iter().filter(|event| event.event_type() == EventType::Put);
            self.position.mark = latest(self.position.mark.take(), put.filter_map(|event| event.kv()));
            match last {
                Some(last) => self.position.revision = self.position.revision.max(last as u64),
                // An empty change says that this is the present state, which ends staleness.
                None if !response.created() && !is_told => is_told = true,
                None => continue,
            }
            let deletions = Deletions { revisions, allowance: self.allowance.clone() };
            if self.changes.send(Message::Change(Change::guarded(edits, self.position.clone(), deletions))).is_err() {
                return Ok(false);
            }
        }
    }

    /// Looks for keys that are of no kind, which a list has: they are in front of, between and behind those of the kinds.
    async fn find_strangers(&mut self, kv: &mut KvClient) -> anyhow::Result<()> {
        let prefix = &self.config.prefix;
        let mut kinds: Vec<&str> = KINDS.iter().copied().chain([MASTER_FILES]).collect();
        kinds.sort_unstable();
        let firsts = kinds.iter().map(|kind| format!("{prefix}{kind}/\0").into_bytes());
        let ends = firsts.chain([end_of(prefix.as_bytes())]);
        let starts = [prefix.clone().into_bytes()].into_iter();
        let starts = starts.chain(kinds.iter().map(|kind| end_of(format!("{prefix}{kind}/").as_bytes())));
        let mut strangers = BTreeSet::new();
        for (from, end) in starts.zip(ends) {
            let options = GetOptions::new().with_range(end).with_keys_only().with_limit(PAGE);
            let response = in_time(kv.get(from, Some(options))).await?;
            let known = self.allow_deletion().into_bytes();
            let others = response.kvs().iter().filter(|pair| pair.key() != known);
            strangers.extend(others.filter_map(|pair| self.key(pair.key()).err()));
        }
        self.status.set_strangers(strangers);
        self.has_strangers = true;
        Ok(())
    }

    /// The key that lets deletions pass.
    fn allow_deletion(&self) -> String {
        format!("{}{ALLOW_DELETION}", self.config.prefix)
    }

    /// The resource that a key of etcd is for; or, for one of no kind, what there is behind the prefix.
    fn key(&self, key: &[u8]) -> Result<Key, String> {
        let text = String::from_utf8_lossy(key.strip_prefix(self.config.prefix.as_bytes()).unwrap_or(key));
        let known = std::str::from_utf8(key).ok().and_then(|_| text.split_once('/'));
        known.and_then(|(kind, id)| Key::new(kind, id)).ok_or_else(|| text.to_string())
    }
}

/// Connects to a member.
pub async fn connect(config: &Etcd, endpoint: &str) -> anyhow::Result<Client> {
    let options = options(config)?;
    let connected = timeout(2 * CONNECT_TIMEOUT, Client::connect([endpoint], Some(options))).await;
    connected.context("it does not answer in time")?.map_err(told)
}

/// How a member is connected to.
pub fn options(config: &Etcd) -> anyhow::Result<ConnectOptions> {
    let Etcd { username, password_file, tls, .. } = config;
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
        .with_keep_alive_while_idle(true)
        .with_require_leader(true);
    let read =
        |path: &std::path::Path| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    if let Some(username) = username {
        let password = match password_file {
            Some(file) => String::from_utf8(read(file)?).with_context(|| format!("{} is not UTF-8", file.display()))?,
            None => String::new(),
        };
        options = options.with_user(username, password.trim_end_matches(['\r', '\n']));
    }
    if let Some(files) = tls {
        let mut tls = TlsOptions::new().with_native_roots();
        if let Some(authority) = &files.certificate_authority {
            tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(authority)?));
        }
        if let (Some(certificate), Some(key)) = (&files.certificate, &files.private_key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        options = options.with_tls(tls);
    }
    Ok(options)
}

/// The revision up to which a value of the key that allows deletions allows them.
pub fn allowed_until(pair: &KeyValue) -> u64 {
    let value = String::from_utf8_lossy(pair.value());
    value.trim().parse().unwrap_or_else(|_| {
        tracing::warn!("the value of the key `{ALLOW_DELETION}` is {value:?}; expected a revision, such as 1234");
        0
    })
}

/// The mark of a key.
fn marked(pair: &KeyValue) -> Option<Mark> {
    let numbers = [pair.mod_revision(), pair.create_revision(), pair.version()].map(i64::to_be_bytes).concat();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&numbers), pair.value());
    Some(Mark { key: pair.key_str().ok()?.into(), revision: pair.mod_revision() as u64, checksum })
}

/// The mark of what was changed last.
fn latest<'p>(mark: Option<Mark>, pairs: impl IntoIterator<Item = &'p KeyValue>) -> Option<Mark> {
    let newest = pairs.into_iter().max_by_key(|pair| pair.mod_revision()).and_then(marked);
    newest.filter(|newest| mark.as_ref().is_none_or(|mark| mark.revision <= newest.revision)).or(mark)
}

/// The end of the range of keys that begin with a prefix.
pub fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// What etcd answers, if it does so in time.
pub async fn in_time<T>(asked: impl Future<Output = Result<T, etcd_client::Error>>) -> anyhow::Result<T> {
    timeout(REQUEST_TIMEOUT, asked).await.context("it does not answer in time")?.map_err(told)
}

/// What went wrong, for those who read.
pub fn told(error: etcd_client::Error) -> anyhow::Error {
    match error {
        etcd_client::Error::GRpcStatus(status) => anyhow!("{}", status.message()),
        error => match explain_unreachable(&error) {
            Some(told) => anyhow!(told),
            None => anyhow!(error),
        },
    }
}
