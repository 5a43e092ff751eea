//! The source etcd: one key for each resource. zonal lists all keys at a revision, and watches the
//! changes after it.
//!
//! A transaction in etcd becomes one change. When the watch is lost, zonal watches again from the
//! last revision. If etcd has compacted that revision, zonal lists all keys and delivers the
//! difference. A change in etcd is a fact: the publisher decides what is served if it has errors.
//!
//! Invariant: the position moves on only with what was delivered, and with keys of health, which are never delivered.

use super::{
    Message,
    change::{Change, ChangeError, HistoryMark, Position, PreparedChange},
    guard::{Allowance, Deletions, MAX_DELETED_PERCENT, MIN_JUDGED},
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

/// The time-out of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The error of a request without an answer in [`REQUEST_TIMEOUT`].
pub const NO_ANSWER: &str = "no answer in time";
/// The time-out of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of keep-alive messages on an idle connection, and the time-out of their answers.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));
/// The first and the longest back-off between two sessions. Half of it is random.
pub const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The time without an event after which the watch has to report its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// The maximum number of keys in one response of a list.
pub const PAGE_KEYS: i64 = 1000;
/// The largest message that zonal reads, in octets. etcd limits a request to 1.5 MiB, but not a
/// response.
pub const MAX_RESPONSE_OCTETS: usize = 1 << 30;
/// The key, after the prefix, that lets deletions pass the guard: those up to the revision in its
/// value, and those of the transaction that puts the key.
pub const ALLOW_DELETION: &str = "allow_deletion";

/// The reports of EXTERNAL health checks, after the prefix. They are no resources.
pub const HEALTH: &str = "health/";
/// The verdicts that nodes share, after the prefix. They are no resources.
pub const HEALTH_REPORTS: &str = "health_reports/";

/// The ranges of the keys of resources: all keys with the prefix but those of health. Each has a start and an end.
pub fn ranges_of_resources(prefix: &str) -> [(Vec<u8>, Vec<u8>); 3] {
    let [health, reports] = [HEALTH, HEALTH_REPORTS].map(|part| format!("{prefix}{part}").into_bytes());
    let (after_health, after_reports) = (end_of(&health), end_of(&reports));
    [(prefix.into(), health), (after_health, reports), (after_reports, end_of(prefix.as_bytes()))]
}

/// Follows etcd from a position until the publisher is gone. It asks one member after the other.
pub async fn follow(config: Etcd, changes: Sender<Message>, status: Arc<Status>, position: Position) {
    let mut source =
        EtcdSource { config, changes, status, position, has_unknown_keys: false, allowance: Allowance::default() };
    let mut back_off = BACK_OFF.0;
    for attempt in 0.. {
        let Some(endpoint) = source.config.endpoints.get(attempt % source.config.endpoints.len().max(1)).cloned()
        else {
            return;
        };
        let before = source.position.clone();
        let error = match source.session(&endpoint).await {
            Ok(()) => return,
            Err(error) => format!("{error:#}"),
        };
        tracing::warn!(endpoint, error, served_revision = source.position.revision, "etcd session ended");
        source.status.update_source(|state| state.lost(format!("etcd at {endpoint}: {error}")));
        back_off = if source.position == before { (2 * back_off).min(BACK_OFF.1) } else { BACK_OFF.0 };
        pause(back_off).await;
    }
}

/// Waits for a back-off, half of which is random.
pub async fn pause(back_off: Duration) {
    let random = f64::from(crate::clock::random_seed().0 as u16) / f64::from(u16::MAX);
    sleep(back_off.mul_f64(0.5 + random / 2.0)).await;
}

/// A cluster of etcd that is followed.
struct EtcdSource {
    config: Etcd,
    changes: Sender<Message>,
    status: Arc<Status>,
    /// The position of the last change that was delivered.
    position: Position,
    /// Whether the status has the unknown keys of the store.
    has_unknown_keys: bool,
    /// The deletions that are intended.
    allowance: Allowance,
}

impl EtcdSource {
    /// Follows one member. Ends without an error when the publisher is gone.
    async fn session(&mut self, endpoint: &str) -> anyhow::Result<()> {
        let client = connect(&self.config, endpoint).await?;
        let mut kv = client.kv_client().max_decoding_message_size(MAX_RESPONSE_OCTETS);
        let now = self.now(&mut kv).await?;
        let is_older = self.position.revision > 0
            && (now.cluster_id != self.position.cluster_id
                || now.revision < self.position.revision
                || !self.has_mark(&mut kv).await?);
        if is_older {
            tracing::warn!(
                revision = now.revision,
                cluster = format!("{:x}", now.cluster_id),
                former_revision = self.position.revision,
                former_cluster = format!("{:x}", self.position.cluster_id),
                "etcd store was restored or replaced"
            );
        }
        if self.position.revision == 0 || is_older {
            self.list(&mut kv, is_older).await?;
        } else {
            if !self.has_unknown_keys {
                self.find_unknown_keys(&mut kv).await?;
            }
            let allowed = with_timeout(kv.get(self.allow_deletion(), None)).await?;
            self.allowance.until = allowed.kvs().first().map_or(0, allowed_until);
            self.status.update_source(|state| state.connected());
        }
        loop {
            let is_compacted = self.watch(&client).await?;
            if !is_compacted {
                return Ok(());
            }
            tracing::info!(revision = self.position.revision, "etcd keys listed again");
            self.list(&mut kv, false).await?;
        }
    }

    /// Whether the store has the last change that was delivered. A store that was restored from a
    /// backup, and has reached the same revision since, has not.
    async fn has_mark(&self, kv: &mut KvClient) -> anyhow::Result<bool> {
        let Some(mark) = &self.position.mark else { return Ok(true) };
        let options = GetOptions::new().with_revision(mark.revision as i64);
        let found = match timeout(REQUEST_TIMEOUT, kv.get(mark.key.as_str(), Some(options))).await? {
            Err(etcd_client::Error::GRpcStatus(status)) if status.message().contains("compacted") => {
                // The key can still be compared if it has not changed since.
                let response = with_timeout(kv.get(mark.key.as_str(), None)).await?;
                match response.kvs().first().and_then(mark_of) {
                    Some(found) if found.revision == mark.revision => Some(found),
                    _ => return Ok(true),
                }
            }
            response => response.map_err(error_of)?.kvs().first().and_then(mark_of),
        };
        Ok(found.as_ref() == Some(mark))
    }

    /// The present position of the store.
    async fn now(&self, kv: &mut KvClient) -> anyhow::Result<Position> {
        let options = GetOptions::new().with_prefix().with_count_only();
        let response = with_timeout(kv.get(self.config.prefix.as_str(), Some(options))).await?;
        let header = response.header().ok_or_else(|| anyhow!("the response has no header"))?;
        Ok(Position { revision: header.revision() as u64, cluster_id: header.cluster_id(), ..Position::default() })
    }

    /// Lists all keys at one revision, and delivers the difference.
    ///
    /// # Errors
    ///
    /// The list cannot be read, or the store was restored and lacks too many resources.
    async fn list(&mut self, kv: &mut KvClient, is_older: bool) -> anyhow::Result<()> {
        let prefix = self.config.prefix.clone().into_bytes();
        let end = end_of(&prefix);
        let (mut from, mut position) = (prefix, Position::default());
        let (mut edits, mut unknown_keys) = (Vec::new(), BTreeSet::new());
        let (mut allowed, mut allowed_at) = (0, 0);
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE_KEYS);
            if position.revision > 0 {
                options = options.with_revision(position.revision as i64);
            }
            let response = with_timeout(kv.get(from.clone(), Some(options))).await?;
            if position.revision == 0 {
                let header = response.header().ok_or_else(|| anyhow!("the response has no header"))?;
                position = Position {
                    revision: header.revision() as u64,
                    cluster_id: header.cluster_id(),
                    ..Position::default()
                };
            }
            let resources = response.kvs().iter().filter(|pair| !self.is_of_health(pair.key()));
            position.mark = latest(position.mark.take(), resources);
            for pair in response.kvs() {
                match self.key(pair.key()) {
                    _ if self.is_of_health(pair.key()) => {}
                    _ if pair.key() == self.allow_deletion().as_bytes() => {
                        (allowed, allowed_at) = (allowed_until(pair), pair.mod_revision() as u64);
                    }
                    Ok(key) => edits.push(Edit { key, value: Some(pair.value().into()) }),
                    Err(key) => drop(unknown_keys.insert(key)),
                }
            }
            match response.kvs().last() {
                Some(last) if response.more() => from = [last.key(), &[0]].concat(),
                _ => break,
            }
        }
        self.status.set_unknown_keys(unknown_keys);
        self.has_unknown_keys = true;
        let mut listed = Collection::default();
        listed.apply(&edits);
        let next = position.clone();
        // A list does not show when missing keys were deleted. Their deletion is intended if the
        // key `allow_deletion` was put since this node last read the store.
        let is_intended = allowed >= position.revision || !is_older && allowed_at > self.position.revision;
        self.allowance.until = allowed;
        let allowance = Allowance { until: if is_intended { u64::MAX } else { 0 }, ..Allowance::default() };
        let deletions = Deletions { allowance, ..Deletions::default() };
        let prepare = move |old: &Collection, was: &Position| {
            let edits = listed.edits_from(old);
            let deleted = edits.iter().filter(|edit| edit.value.is_none()).count();
            if is_older && !is_intended && old.len() >= MIN_JUDGED && deleted * 100 > old.len() * MAX_DELETED_PERCENT {
                return Err(ChangeError::Conflict(format!(
                    "etcd's store was restored from revision {} to {}, and {deleted} of {} resources are missing in it; restore \
                     them, or put a revision of at least {1} into the key `{ALLOW_DELETION}`",
                    was.revision,
                    next.revision,
                    old.len()
                )));
            }
            // The deletions of an older store were judged above.
            let deletions = (is_intended || !is_older).then(|| deletions.clone());
            Ok(PreparedChange { edits, position: next.clone(), deletions, is_whole: true })
        };
        let (reply, result) = oneshot::channel();
        let change = Change {
            prepare: Box::new(prepare),
            is_fact: true,
            trial: None,
            is_strict: false,
            since: Instant::now(),
            reply: Some(reply),
        };
        self.changes.send(Message::Change(change)).map_err(|_| anyhow!("the server ends"))?;
        match result.await.context("the server ends")? {
            Ok(_) | Err(ChangeError::Problems(_)) => {}
            Err(error) => bail!("{error}"),
        }
        self.position = position;
        self.status.update_source(|state| state.connected());
        Ok(())
    }

    /// Delivers changes. Returns true if etcd has compacted the position, false if the publisher is
    /// gone.
    ///
    /// Only events move the position on: etcd before 3.4.25 and 3.5.8 may report progress up to a
    /// revision whose events are still to come.
    async fn watch(&mut self, client: &Client) -> anyhow::Result<bool> {
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(self.position.revision as i64 + 1)
            .with_progress_notify();
        let mut watcher = client.watch_client().max_decoding_message_size(MAX_RESPONSE_OCTETS);
        let mut stream = with_timeout(watcher.watch(self.config.prefix.as_str(), Some(options))).await?;
        // The events before the progress report are the changes since the position.
        stream.request_progress().await.map_err(error_of)?;
        let (mut is_requested, mut is_confirmed) = (true, false);
        loop {
            let response = match timeout(PROGRESS_INTERVAL, stream.message()).await {
                Ok(response) => response.map_err(error_of)?.ok_or_else(|| anyhow!("the watch has ended"))?,
                Err(_) if is_requested => bail!("the watch does not answer"),
                Err(_) => {
                    is_requested = true;
                    stream.request_progress().await.map_err(error_of)?;
                    continue;
                }
            };
            is_requested = false;
            if response.compact_revision() > 0 {
                return Ok(true);
            }
            if response.canceled() {
                bail!("the watch is refused: {}", response.cancel_reason());
            }
            self.status.update_source(|state| state.connected());
            let (mut edits, mut revisions) = (Vec::new(), BTreeMap::new());
            self.allowance.transactions.clear();
            // Health is not a change of the manifest. The position moves on, so that a new watch does not repeat it.
            let is_of_health = |pair: &&KeyValue| self.is_of_health(pair.key());
            let last_of_health = response.events().iter().filter_map(|event| event.kv()).filter(is_of_health);
            let last_of_health = last_of_health.map(KeyValue::mod_revision).max();
            for event in response.events() {
                let Some(pair) = event.kv().filter(|pair| !self.is_of_health(pair.key())) else { continue };
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
                    Err(key) if is_put => self.status.add_unknown_key(key),
                    Err(key) => drop(self.status.state().unknown_keys.remove(&key)),
                }
            }
            let resources = || {
                response.events().iter().filter(|event| event.kv().is_some_and(|pair| !self.is_of_health(pair.key())))
            };
            let last = resources().filter_map(|event| event.kv()).map(KeyValue::mod_revision).max();
            let put = resources().filter(|event| event.event_type() == EventType::Put);
            let mark = latest(self.position.mark.clone(), put.filter_map(|event| event.kv()));
            self.position.mark = mark;
            if let Some(last) = last_of_health {
                self.position.revision = self.position.revision.max(last as u64);
            }
            match last {
                None if last_of_health.is_some() => continue,
                Some(last) => self.position.revision = self.position.revision.max(last as u64),
                // An empty change tells the publisher that this is the present state, which ends
                // staleness.
                None if !response.created() && !is_confirmed => is_confirmed = true,
                None => continue,
            }
            let deletions = Deletions { revisions, allowance: self.allowance.clone() };
            if self
                .changes
                .send(Message::Change(Change::guarded_fact(edits, self.position.clone(), deletions)))
                .is_err()
            {
                return Ok(false);
            }
        }
    }

    /// Reads the unknown keys: they sort before, between and after the keys of the kinds.
    async fn find_unknown_keys(&mut self, kv: &mut KvClient) -> anyhow::Result<()> {
        let prefix = &self.config.prefix;
        let health = [HEALTH, HEALTH_REPORTS].map(|part| part.trim_end_matches('/'));
        let mut kinds: Vec<&str> = KINDS.iter().copied().chain([MASTER_FILES]).chain(health).collect();
        kinds.sort_unstable();
        let firsts = kinds.iter().map(|kind| format!("{prefix}{kind}/\0").into_bytes());
        let ends = firsts.chain([end_of(prefix.as_bytes())]);
        let starts = [prefix.clone().into_bytes()].into_iter();
        let starts = starts.chain(kinds.iter().map(|kind| end_of(format!("{prefix}{kind}/").as_bytes())));
        let mut unknown_keys = BTreeSet::new();
        for (from, end) in starts.zip(ends) {
            let options = GetOptions::new().with_range(end).with_keys_only().with_limit(PAGE_KEYS);
            let response = with_timeout(kv.get(from, Some(options))).await?;
            let known = self.allow_deletion().into_bytes();
            let others = response.kvs().iter().filter(|pair| pair.key() != known);
            unknown_keys.extend(others.filter_map(|pair| self.key(pair.key()).err()));
        }
        self.status.set_unknown_keys(unknown_keys);
        self.has_unknown_keys = true;
        Ok(())
    }

    /// Whether a key is about health, which `health_keys` follows.
    fn is_of_health(&self, key: &[u8]) -> bool {
        let name = key.strip_prefix(self.config.prefix.as_bytes()).unwrap_or(key);
        name.starts_with(HEALTH.as_bytes()) || name.starts_with(HEALTH_REPORTS.as_bytes())
    }

    /// The key that lets deletions pass the guard.
    fn allow_deletion(&self) -> String {
        format!("{}{ALLOW_DELETION}", self.config.prefix)
    }

    /// The resource of a key.
    ///
    /// # Errors
    ///
    /// The key without the prefix, if it belongs to no resource.
    fn key(&self, key: &[u8]) -> Result<Key, String> {
        let text = String::from_utf8_lossy(key.strip_prefix(self.config.prefix.as_bytes()).unwrap_or(key));
        let known = std::str::from_utf8(key).ok().and_then(|_| text.split_once('/'));
        known.and_then(|(kind, id)| Key::new(kind, id)).ok_or_else(|| text.to_string())
    }
}

/// Connects to a member of the cluster.
///
/// # Errors
///
/// A file of the configuration cannot be read, or the member does not answer.
pub async fn connect(config: &Etcd, endpoint: &str) -> anyhow::Result<Client> {
    let options = options(config)?;
    let connected = timeout(2 * CONNECT_TIMEOUT, Client::connect([endpoint], Some(options))).await;
    connected.context("no answer in time")?.map_err(error_of)
}

/// The options of a connection: time-outs, user and TLS.
///
/// # Errors
///
/// A file of the configuration cannot be read.
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

/// The revision in the key [`ALLOW_DELETION`]; 0 if its value is not a number.
pub fn allowed_until(pair: &KeyValue) -> u64 {
    let value = String::from_utf8_lossy(pair.value());
    value.trim().parse().unwrap_or_else(|_| {
        tracing::warn!(key = ALLOW_DELETION, ?value, "etcd key has no revision as its value");
        0
    })
}

/// The mark of a key.
fn mark_of(pair: &KeyValue) -> Option<HistoryMark> {
    let numbers = [pair.mod_revision(), pair.create_revision(), pair.version()].map(i64::to_be_bytes).concat();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&numbers), pair.value());
    Some(HistoryMark { key: pair.key_str().ok()?.into(), revision: pair.mod_revision() as u64, checksum })
}

/// The mark of the key that was changed last.
fn latest<'p>(mark: Option<HistoryMark>, pairs: impl IntoIterator<Item = &'p KeyValue>) -> Option<HistoryMark> {
    let newest = pairs.into_iter().max_by_key(|pair| pair.mod_revision()).and_then(mark_of);
    newest.filter(|newest| mark.as_ref().is_none_or(|mark| mark.revision <= newest.revision)).or(mark)
}

/// The end of the range of keys with a prefix.
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

/// Waits for the response to a request, for [`REQUEST_TIMEOUT`] at most.
///
/// # Errors
///
/// etcd does not answer in time, or answers with an error.
pub async fn with_timeout<T>(request: impl Future<Output = Result<T, etcd_client::Error>>) -> anyhow::Result<T> {
    timeout(REQUEST_TIMEOUT, request).await.context(NO_ANSWER)?.map_err(error_of)
}

/// An error of etcd without its gRPC details.
pub fn error_of(error: etcd_client::Error) -> anyhow::Error {
    match error {
        etcd_client::Error::GRpcStatus(status) => anyhow!("{}", status.message()),
        error => match explain_unreachable(&error) {
            Some(text) => anyhow!(text),
            None => anyhow!(error),
        },
    }
}
