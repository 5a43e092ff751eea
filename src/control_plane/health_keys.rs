//! Keys of health in etcd: reports of EXTERNAL health checks, and the verdicts that nodes share.
//!
//! ```text
//! <prefix>health/<check>                     healthy | unhealthy; another program writes it
//! <prefix>health_reports/<node>/node         {"availability_zone_id": "use1-az1"}
//! <prefix>health_reports/<node>/<part>       lines of +<target> (healthy) or -<target>; 64 parts
//! ```
//!
//! A node writes its keys with a lease, so they end with the node. It writes changes only. A task of its own follows the
//! keys: health is not a change of the manifest. Nodes never wait for each other. A node that loses etcd decides alone.

use super::etcd::{
    BACK_OFF, HEALTH, HEALTH_REPORTS, MAX_RESPONSE_OCTETS, PAGE_KEYS, connect, end_of, error_of, pause, with_timeout,
};
use crate::{
    config::Etcd,
    health::{
        Health, KeyReport, OwnVerdicts,
        fleet::{FleetMessage, part_of},
    },
    snapshot::health::TargetId,
};
use anyhow::{anyhow, bail};
use etcd_client::{
    Client, EventType, GetOptions, KeyValue, LeaseKeepAliveStream, LeaseKeeper, PutOptions, WatchOptions,
    WatchResponse, WatchStream,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, interval, timeout_at},
};

/// The time after which the keys of a node end if it does not renew its lease.
const LEASE: Duration = Duration::from_secs(15);
/// The interval in which a node renews its lease.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The time without an answer after which a node counts as cut off from etcd.
const SILENCE: Duration = Duration::from_secs(10);
/// The shortest time between two writes of a node's own verdicts.
const WRITE_PAUSE: Duration = Duration::from_millis(100);
/// The key with the properties of a node, after its name.
const NODE: &str = "node";

/// The name of a node in its keys: `name` if there is one, and a random part, so that two processes never write the same keys.
pub fn node_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(64).collect();
    format!("{}-{:08x}", if name.is_empty() { "node" } else { &name }, crate::clock::random_seed().0 as u32)
}

/// The properties of a node.
#[derive(Default, Serialize, Deserialize)]
struct NodeProperties {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    availability_zone_id: Option<String>,
}

/// Follows the keys of health until the server ends. With `node`, shares the verdicts of this node under that name.
pub async fn follow(config: Etcd, health: Arc<Health>, node: Option<String>) {
    let mut follower = Follower { config, health, node, keys: HashMap::new() };
    let mut back_off = BACK_OFF.0;
    for attempt in 0.. {
        let endpoints = &follower.config.endpoints;
        let Some(endpoint) = endpoints.get(attempt % endpoints.len().max(1)).cloned() else { return };
        let begin = Instant::now();
        let error = match follower.session(&endpoint).await {
            Ok(()) => return,
            Err(error) => format!("{error:#}"),
        };
        tracing::warn!(endpoint, error, shares = follower.node.is_some(), "etcd session for health ended");
        follower.lose();
        back_off = if begin.elapsed() > BACK_OFF.1 { BACK_OFF.0 } else { (2 * back_off).min(BACK_OFF.1) };
        pause(back_off).await;
    }
}

struct Follower {
    config: Etcd,
    health: Arc<Health>,
    /// The name under which this node shares its verdicts.
    node: Option<String>,
    /// The reports of EXTERNAL checks, each with the revision of its key.
    keys: HashMap<TargetId, (i64, KeyReport)>,
}

impl Follower {
    /// Follows one member. Ends without an error when the server ends.
    async fn session(&mut self, endpoint: &str) -> anyhow::Result<()> {
        let mut client = connect(&self.config, endpoint).await?;
        let health = format!("{}{HEALTH}", self.config.prefix);
        let (pairs, from) = list(&client, &health).await?;
        self.take_reports(&health, &pairs);
        let mut watched = Watched::new(&client, &health, from).await?;
        let mut shared = match self.node.clone() {
            Some(node) => Some(self.share(&mut client, &mut watched, node).await?),
            None => None,
        };
        loop {
            let next = match &mut shared {
                None => watched.next().await.map(Next::Watched)?,
                Some(shared) => tokio::select! {
                    response = watched.next() => Next::Watched(response?),
                    next = shared.next() => next?,
                },
            };
            match (next, &mut shared) {
                (Next::Watched(response), _) => self.take_events(&health, &response),
                (Next::OwnChange, Some(shared)) => {
                    let Some(own) = self.health.own_verdicts().await else {
                        // Another process may share the verdicts of this node from now on.
                        with_timeout(client.lease_revoke(shared.lease)).await?;
                        return Ok(());
                    };
                    shared.write(&mut client, &own).await?;
                }
                (Next::OwnChange, None) => {}
                (Next::Ended, _) => return Ok(()),
            }
        }
    }

    /// Begins to share verdicts: reads those of other nodes, and writes those of this node.
    async fn share(&self, client: &mut Client, watched: &mut Watched, node: String) -> anyhow::Result<Shared> {
        let reports = format!("{}{HEALTH_REPORTS}", self.config.prefix);
        let changes = self.health.own_changes();
        let (pairs, from) = list(client, &reports).await?;
        let mut messages = vec![FleetMessage::Connected];
        messages.extend(pairs.iter().filter_map(|pair| self.message(pair, true)));
        self.health.apply_fleet(messages);
        watched.add(&reports, from).await?;
        let lease = with_timeout(client.lease_grant(LEASE.as_secs() as i64, None)).await?.id();
        let (keeper, answers) = with_timeout(client.lease_keep_alive(lease)).await?;
        let mut shared = Shared {
            prefix: format!("{reports}{node}/"),
            lease,
            keeper,
            answers,
            last_answer: Instant::now(),
            heartbeat: interval(HEARTBEAT),
            changes,
            next_write: Instant::now(),
            written: BTreeMap::new(),
        };
        if let Some(own) = self.health.own_verdicts().await {
            shared.write(client, &own).await?;
        }
        Ok(shared)
    }

    /// Takes the reports of EXTERNAL checks in a list. Reports without a key are withdrawn.
    fn take_reports(&mut self, prefix: &str, pairs: &[KeyValue]) {
        let mut reports = Vec::new();
        let mut listed = HashMap::new();
        for pair in pairs {
            let Some(id) = check_of(prefix, pair) else { continue };
            let Some(report) = report_of(pair) else { continue };
            // A report that has not changed does not become younger.
            if self.keys.get(&id) != Some(&(pair.mod_revision(), report)) {
                reports.push((id.clone(), Some(report)));
            }
            listed.insert(id, (pair.mod_revision(), report));
        }
        let gone = self.keys.keys().filter(|id| !listed.contains_key(id)).map(|id| (id.clone(), None));
        reports.extend(gone);
        self.keys = listed;
        self.health.report_keys(reports);
    }

    /// Takes the changes of keys.
    fn take_events(&mut self, health: &str, response: &WatchResponse) {
        let (mut reports, mut messages) = (Vec::new(), Vec::new());
        for event in response.events() {
            let Some(pair) = event.kv() else { continue };
            let is_put = event.event_type() == EventType::Put;
            match check_of(health, pair) {
                Some(id) if is_put => {
                    let Some(report) = report_of(pair) else { continue };
                    self.keys.insert(id.clone(), (pair.mod_revision(), report));
                    reports.push((id, Some(report)));
                }
                Some(id) => {
                    self.keys.remove(&id);
                    reports.push((id, None));
                }
                None => messages.extend(self.message(pair, is_put)),
            }
        }
        if !reports.is_empty() {
            self.health.report_keys(reports);
        }
        if !messages.is_empty() {
            self.health.apply_fleet(messages);
        }
    }

    /// The message of a key of another node. None for a key of this node, and for a key that cannot be read.
    fn message(&self, pair: &KeyValue, is_put: bool) -> Option<FleetMessage> {
        let reports = format!("{}{HEALTH_REPORTS}", self.config.prefix);
        let (node, part) = pair.key_str().ok()?.strip_prefix(&reports)?.split_once('/')?;
        if self.node.as_deref() == Some(node) {
            return None;
        }
        let node: Box<str> = node.into();
        match (part, is_put) {
            (NODE, true) => {
                let properties: NodeProperties = serde_json::from_slice(pair.value()).ok()?;
                Some(FleetMessage::Node(node, properties.availability_zone_id))
            }
            (NODE, false) => Some(FleetMessage::Gone(node, None)),
            (part, true) => Some(FleetMessage::Part(node, part.parse().ok()?, read_part(pair.value_str().ok()?))),
            (part, false) => Some(FleetMessage::Gone(node, Some(part.parse().ok()?))),
        }
    }

    /// Decides alone, because etcd cannot be reached. Reports with a lease become older from now on.
    fn lose(&mut self) {
        if self.node.is_some() {
            self.health.apply_fleet(vec![FleetMessage::Lost]);
        }
        let mut reports = Vec::new();
        for (id, (revision, report)) in &mut self.keys {
            if report.is_leased {
                report.is_leased = false;
                // The next list renews it.
                *revision = 0;
                reports.push((id.clone(), Some(*report)));
            }
        }
        if !reports.is_empty() {
            self.health.report_keys(reports);
        }
    }
}

/// The next thing that a session has to do.
enum Next {
    /// Keys have changed.
    Watched(WatchResponse),
    /// The verdicts of this node have changed.
    OwnChange,
    /// The server ends.
    Ended,
}

/// The watch of keys. etcd has to answer within [`SILENCE`].
struct Watched {
    stream: WatchStream,
    deadline: Instant,
    is_requested: bool,
}

impl Watched {
    async fn new(client: &Client, prefix: &str, from: i64) -> anyhow::Result<Watched> {
        let mut watcher = client.watch_client().max_decoding_message_size(MAX_RESPONSE_OCTETS);
        let stream = with_timeout(watcher.watch(prefix, Some(options(from)))).await?;
        Ok(Watched { stream, deadline: Instant::now() + SILENCE / 2, is_requested: false })
    }

    /// Watches the keys with another prefix too.
    async fn add(&mut self, prefix: &str, from: i64) -> anyhow::Result<()> {
        with_timeout(self.stream.watch(prefix, Some(options(from)))).await
    }

    /// The next response. May be dropped and called again.
    async fn next(&mut self) -> anyhow::Result<WatchResponse> {
        loop {
            let response = match timeout_at(self.deadline, self.stream.message()).await {
                Ok(response) => response.map_err(error_of)?.ok_or_else(|| anyhow!("the watch has ended"))?,
                Err(_) if self.is_requested => bail!("the watch does not answer"),
                Err(_) => {
                    (self.deadline, self.is_requested) = (Instant::now() + SILENCE / 2, true);
                    self.stream.request_progress().await.map_err(error_of)?;
                    continue;
                }
            };
            (self.deadline, self.is_requested) = (Instant::now() + SILENCE / 2, false);
            if response.compact_revision() > 0 {
                bail!("etcd has compacted the revision of the watch");
            }
            if response.canceled() {
                bail!("the watch is refused: {}", response.cancel_reason());
            }
            if !response.events().is_empty() {
                return Ok(response);
            }
        }
    }
}

fn options(from: i64) -> WatchOptions {
    WatchOptions::new().with_prefix().with_start_revision(from)
}

/// The keys of this node.
struct Shared {
    prefix: String,
    lease: i64,
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    last_answer: Instant,
    heartbeat: tokio::time::Interval,
    changes: watch::Receiver<u64>,
    next_write: Instant,
    /// The values of the keys, as they are in etcd.
    written: BTreeMap<String, String>,
}

impl Shared {
    /// Renews the lease, until there is something to write. May be dropped and called again.
    async fn next(&mut self) -> anyhow::Result<Next> {
        loop {
            let has_changed = self.changes.has_changed().is_ok_and(|has_changed| has_changed);
            tokio::select! {
                _ = self.heartbeat.tick() => {
                    if self.last_answer.elapsed() > SILENCE {
                        bail!("etcd does not renew the lease");
                    }
                    self.keeper.keep_alive().await.map_err(error_of)?;
                }
                answer = self.answers.message() => {
                    let answer = answer.map_err(error_of)?.ok_or_else(|| anyhow!("the lease is not renewed"))?;
                    if answer.ttl() == 0 {
                        bail!("the lease has ended");
                    }
                    self.last_answer = Instant::now();
                }
                changed = self.changes.changed(), if !has_changed => match changed {
                    // The value counts as unseen until the pause is over.
                    Ok(()) => self.changes.mark_changed(),
                    Err(_) => return Ok(Next::Ended),
                },
                () = tokio::time::sleep_until(self.next_write), if has_changed => {
                    self.changes.mark_unchanged();
                    self.next_write = Instant::now() + WRITE_PAUSE;
                    return Ok(Next::OwnChange);
                }
            }
        }
    }

    /// Writes the keys that have changed.
    async fn write(&mut self, client: &mut Client, own: &OwnVerdicts) -> anyhow::Result<()> {
        let keys = keys(own);
        let put = Some(PutOptions::new().with_lease(self.lease));
        for (key, value) in &keys {
            if self.written.get(key) != Some(value) {
                let key = format!("{}{key}", self.prefix);
                with_timeout(client.put(key, value.as_str(), put.clone())).await?;
            }
        }
        for key in self.written.keys().filter(|key| !keys.contains_key(*key)) {
            with_timeout(client.delete(format!("{}{key}", self.prefix), None)).await?;
        }
        self.written = keys;
        Ok(())
    }
}

/// The keys of a node, after its name, and their values.
fn keys(own: &OwnVerdicts) -> BTreeMap<String, String> {
    let properties = NodeProperties { availability_zone_id: own.availability_zone_id.clone() };
    let mut parts: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for (id, is_healthy) in &own.verdicts {
        let sign = if *is_healthy { '+' } else { '-' };
        parts.entry(part_of(id)).or_default().push(format!("{sign}{id}"));
    }
    let mut keys = BTreeMap::from([(NODE.to_string(), serde_json::to_string(&properties).unwrap_or_default())]);
    for (part, mut lines) in parts {
        lines.sort_unstable();
        keys.insert(part.to_string(), lines.join("\n"));
    }
    keys
}

/// Reads the verdicts in a part. Lines that cannot be read are left out.
fn read_part(text: &str) -> Vec<(TargetId, bool)> {
    let line = |line: &str| match line.split_at_checked(1)? {
        ("+", id) => Some((TargetId::parse(id), true)),
        ("-", id) => Some((TargetId::parse(id), false)),
        _ => None,
    };
    text.lines().filter_map(line).collect()
}

/// The check of a key.
fn check_of(prefix: &str, pair: &KeyValue) -> Option<TargetId> {
    let id = pair.key_str().ok()?.strip_prefix(prefix).filter(|id| !id.is_empty())?;
    Some(TargetId::Check(id.into()))
}

/// The report in a key. None, and a log line, if it cannot be read.
fn report_of(pair: &KeyValue) -> Option<KeyReport> {
    let is_healthy = match pair.value_str().unwrap_or_default().trim() {
        "healthy" => true,
        "unhealthy" => false,
        other => {
            let (key, value) = (pair.key_str().unwrap_or_default(), other.chars().take(100).collect::<String>());
            tracing::warn!(key, ?value, "etcd key has no health as its value");
            return None;
        }
    };
    Some(KeyReport { is_healthy, is_leased: pair.lease() != 0 })
}

/// Lists the keys with a prefix at one revision. Returns them with the revision after it.
async fn list(client: &Client, prefix: &str) -> anyhow::Result<(Vec<KeyValue>, i64)> {
    let mut kv = client.kv_client().max_decoding_message_size(MAX_RESPONSE_OCTETS);
    let (mut from, end) = (prefix.as_bytes().to_vec(), end_of(prefix.as_bytes()));
    let (mut pairs, mut revision) = (Vec::new(), 0);
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE_KEYS).with_revision(revision);
        let mut response = with_timeout(kv.get(from, Some(options))).await?;
        if revision == 0 {
            revision = response.header().map_or(0, |header| header.revision());
        }
        let more = response.more();
        pairs.append(&mut response.take_kvs());
        match pairs.last() {
            Some(last) if more => from = [last.key(), &[0]].concat(),
            _ => return Ok((pairs, revision + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_the_verdicts_that_were_written() {
        let ids = ["hc-a", "vpce-0a/10.1.0.4", "vpce-0a/fd00::1"];
        let verdicts = ids.iter().zip([true, false, true]).map(|(id, healthy)| (TargetId::parse(id), healthy));
        let own = OwnVerdicts { availability_zone_id: Some("use1-az1".into()), verdicts: verdicts.collect() };
        let mut read = Vec::new();
        let written = keys(&own);
        assert_eq!(written["node"], r#"{"availability_zone_id":"use1-az1"}"#);
        for (key, value) in written.iter().filter(|(key, _)| *key != NODE) {
            for (id, healthy) in read_part(value) {
                assert_eq!(part_of(&id).to_string(), *key);
                read.push((id, healthy));
            }
        }
        read.sort();
        let mut expected = own.verdicts;
        expected.sort();
        assert_eq!(read, expected);
        assert_eq!(read_part("\nx\n?hc\n+hc"), [(TargetId::Check("hc".into()), true)]);
        assert!(read_part("é").is_empty(), "the first character is longer than one octet");
    }

    #[test]
    fn names_of_nodes_have_no_slash_and_differ() {
        let names = [node_name("a/b c"), node_name("a/b c"), node_name("")];
        assert!(names[0].starts_with("a_b_c-") && names[2].starts_with("node-"), "{names:?}");
        assert_ne!(names[0], names[1]);
    }
}
