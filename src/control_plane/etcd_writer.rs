//! Writes resources to etcd. The source etcd delivers them to every node, this one included.
//!
//! A write is one transaction. Its conditions are the revisions that the writer has read, so that no write of another
//! client is lost. A write is done when this node serves it.

use super::{
    etcd::{ALLOW_DELETION, MAX_RESPONSE_OCTETS, connect, with_timeout},
    status::Status,
};
use crate::{
    config::Etcd,
    manifest::collection::{Edit, Key},
};
use anyhow::{Context, anyhow};
use etcd_client::{Client, Compare, CompareOp, GetResponse, KvClient, Txn, TxnOp};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// The time from a transaction until its changes are served.
const SERVED_TIMEOUT: Duration = Duration::from_secs(4);
/// The interval between two checks whether they are served.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A writer to a cluster.
pub struct EtcdWriter {
    config: Etcd,
    status: Arc<Status>,
    client: Mutex<Option<Client>>,
}

impl EtcdWriter {
    /// A writer to a cluster, which connects when it is used first.
    pub fn new(config: Etcd, status: Arc<Status>) -> EtcdWriter {
        EtcdWriter { config, status, client: Mutex::new(None) }
    }

    /// The open connection, or a new one to the first member that answers.
    async fn kv(&self) -> anyhow::Result<KvClient> {
        let mut current = self.client.lock().await;
        if current.is_none() {
            let mut last = anyhow!("there are no endpoints");
            for endpoint in &self.config.endpoints {
                match connect(&self.config, endpoint).await {
                    Ok(client) => {
                        *current = Some(client);
                        break;
                    }
                    Err(error) => last = error.context(endpoint.clone()),
                }
            }
            if current.is_none() {
                return Err(last);
            }
        }
        let client = current.as_ref().context("there is no connection")?;
        Ok(client.kv_client().max_decoding_message_size(MAX_RESPONSE_OCTETS))
    }

    /// Closes the connection after a failed request: the next one may go to another member.
    async fn reconnect_after<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        if result.is_err() {
            *self.client.lock().await = None;
        }
        result
    }

    /// The path of a resource's key.
    pub fn path(&self, key: &Key) -> String {
        format!("{}{}/{}", self.config.prefix, key.kind, key.id)
    }

    /// Reads a key.
    ///
    /// # Errors
    ///
    /// etcd cannot be reached, or does not answer in time.
    pub async fn get(&self, key: &Key) -> anyhow::Result<GetResponse> {
        let mut kv = self.kv().await?;
        self.reconnect_after(with_timeout(kv.get(self.path(key), None)).await).await
    }

    /// Makes edits if all conditions hold. Returns the revision of the transaction; none if a condition does not hold.
    /// Nodes do not hold the deletions of the transaction.
    ///
    /// # Errors
    ///
    /// etcd cannot be reached, refuses the transaction, or does not answer in time. In the last case, it may have made
    /// the transaction.
    pub async fn write(&self, conditions: Vec<Compare>, edits: &[Edit]) -> anyhow::Result<Option<u64>> {
        let mut kv = self.kv().await?;
        let operation = |Edit { key, value }: &Edit| match value {
            Some(content) => TxnOp::put(self.path(key), content.text().to_vec(), None),
            None => TxnOp::delete(self.path(key), None),
        };
        let mut operations: Vec<TxnOp> = edits.iter().map(operation).collect();
        if edits.iter().any(|edit| edit.value.is_none()) {
            let allow = format!("{}{ALLOW_DELETION}", self.config.prefix);
            let response = self.reconnect_after(with_timeout(kv.get(allow.as_str(), None)).await).await?;
            let before = response.kvs().first().map_or(b"0".to_vec(), |pair| pair.value().to_vec());
            operations.push(TxnOp::put(allow, before, None));
        }
        let transaction = Txn::new().when(conditions).and_then(operations);
        let response = self.reconnect_after(with_timeout(kv.txn(transaction)).await).await?;
        let revision = response.header().map_or(0, |header| header.revision() as u64);
        Ok(response.succeeded().then_some(revision))
    }

    /// The conditions that resources are as they were at a revision. Each comes with whether it existed then.
    pub fn unchanged_since<'k>(&self, revision: u64, keys: impl Iterator<Item = (&'k Key, bool)>) -> Vec<Compare> {
        let conditions = |(key, existed): (&Key, bool)| {
            let path = self.path(key);
            match existed {
                true => vec![
                    Compare::version(path.as_str(), CompareOp::Greater, 0),
                    Compare::mod_revision(path, CompareOp::Less, revision as i64 + 1),
                ],
                false => vec![Compare::version(path, CompareOp::Equal, 0)],
            }
        };
        keys.flat_map(conditions).collect()
    }

    /// Waits until this node has read a revision, and serves these resources as they are in etcd.
    ///
    /// # Errors
    ///
    /// The time is over, or a resource is set aside.
    pub async fn wait_until_served(&self, revision: u64, keys: impl Iterator<Item = &Key>) -> Result<(), String> {
        let end = Instant::now() + SERVED_TIMEOUT;
        while self.status.state().persisted.position.revision < revision {
            if Instant::now() > end {
                let seconds = SERVED_TIMEOUT.as_secs();
                return Err(format!("it is written to etcd, but this node has not read it back within {seconds} s"));
            }
            sleep(POLL_INTERVAL).await;
        }
        let state = self.status.state();
        let is_aside = |key: &&Key| state.set_aside.iter().any(|aside| aside.kind == key.kind && aside.id == key.id);
        match { keys }.find(is_aside) {
            Some(key) => Err(format!("{}/{} in etcd is set aside", key.kind, key.id)),
            None => Ok(()),
        }
    }

    /// Waits until this node has read a later revision, for at most `max`.
    pub async fn wait_for_later(&self, revision: u64, max: Duration) {
        let end = Instant::now() + max;
        while self.status.state().persisted.position.revision <= revision && Instant::now() < end {
            sleep(POLL_INTERVAL).await;
        }
    }
}
