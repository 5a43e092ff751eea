//! Dynamic updates of zones in etcd: zonal writes an update in a transaction, and answers when the
//! source etcd has delivered it and it is served.

use super::rules::edits;
use crate::{
    config::Etcd,
    control_plane::{
        change::UpdateError,
        etcd::{MAX_RESPONSE_OCTETS, connect, with_timeout},
        status::Status,
        updates::{edits_of, master_file},
    },
    manifest::{
        Problem,
        collection::{Collection, Edit, Key, MASTER_FILES},
    },
    snapshot::{
        Snapshot,
        published::Published,
        zone::{self, Zone},
    },
    transfer::message::Request,
};
use anyhow::{Context, anyhow};
use etcd_client::{Client, Compare, CompareOp, KvClient, Txn, TxnOp};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// The maximum number of attempts when other clients change the same keys.
const MAX_ATTEMPTS: usize = 10;
/// The time from a transaction until its changes are served.
const SERVED_TIMEOUT: Duration = Duration::from_secs(4);
/// The interval between two checks whether they are served.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Writes updates to etcd.
pub struct EtcdEditor {
    config: Etcd,
    status: Arc<Status>,
    client: Mutex<Option<Client>>,
}

/// A key with its value and the revision of its last change.
struct StoredKey {
    edit: Edit,
    path: String,
    revision: i64,
}

impl EtcdEditor {
    /// A writer to a cluster.
    pub fn new(config: Etcd, status: Arc<Status>) -> EtcdEditor {
        EtcdEditor { config, status, client: Mutex::new(None) }
    }

    /// Makes an update of a zone. Returns the number of changed record sets, when they are served.
    ///
    /// # Errors
    ///
    /// Why nothing was written, or why it is not served yet.
    pub async fn edit(&self, snapshot: &Published, id: &str, request: &Request) -> Result<usize, UpdateError> {
        for _ in 0..MAX_ATTEMPTS {
            let mut kv = self.kv().await.map_err(|error| UpdateError::Failed(format!("etcd: {error:#}")))?;
            match self.try_edit(snapshot, &mut kv, id, request).await {
                Ok(Some((sets, revision))) => {
                    self.wait(id, revision).await?;
                    return Ok(sets);
                }
                Ok(None) => {}
                Err(WriteError::UpdateError(rejected)) => return Err(rejected),
                Err(WriteError::Etcd(error)) => {
                    *self.client.lock().await = None;
                    return Err(UpdateError::Failed(format!("etcd: {error:#}")));
                }
            }
        }
        Err(UpdateError::Failed("others change the zone in etcd all the time".into()))
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

    /// Reads the zone, and writes the updated one if the keys have not changed meanwhile. Returns
    /// the number of changed sets and the revision; none if a key has changed.
    async fn try_edit(
        &self,
        snapshot: &Published,
        kv: &mut KvClient,
        id: &str,
        request: &Request,
    ) -> Result<Option<(usize, u64)>, WriteError> {
        let gone = || UpdateError::Failed("the zone is not in etcd any more".into());
        let zone = self.get(kv, "private_hosted_zones", id).await?.ok_or_else(gone)?;
        let mut collection = Collection::default();
        collection.apply(std::slice::from_ref(&zone.edit));
        let resource = collection.manifest().private_hosted_zones.get(id).cloned();
        let resource = resource.ok_or_else(|| UpdateError::Failed("the zone in etcd cannot be read".into()))?;
        let mut keys = vec![zone];
        if let Some(file) = &resource.file {
            keys.extend(self.get(kv, MASTER_FILES, file).await?);
            collection.apply(&keys.iter().map(|key| key.edit.clone()).collect::<Vec<_>>());
        }
        let snapshot = snapshot.load_full();
        // In most cases etcd has the version that is served.
        let served = snapshot.zone(id).filter(|zone| resource.file.is_none() && zone.is_of(&resource)).cloned();
        let zone = match served {
            Some(zone) => zone,
            None => Arc::new(build(&collection, id, None, &snapshot)?),
        };
        let sets = edits(&zone, request)?;
        if sets.is_empty() {
            return Ok(Some((0, 0)));
        }
        let edits = edits_of(&collection, id, &sets).map_err(UpdateError::Refused)?;
        let writes_file = edits.iter().any(|edit| edit.key.kind == MASTER_FILES);
        let shares = |(other, zone): (&String, &Arc<_>)| other != id && shares_file(zone, &resource);
        if writes_file && snapshot.manifest.private_hosted_zones.iter().any(shares) {
            return Err(UpdateError::Refused("other zones use its master file too".into()).into());
        }
        // In etcd, a zone with errors would be set aside.
        let mut changed = collection.clone();
        changed.apply(&edits);
        build(&changed, id, Some(&zone), &snapshot)?;
        // The publisher waits until a former snapshot is free.
        drop(snapshot);
        let unchanged: Vec<Compare> =
            keys.iter().map(|key| Compare::mod_revision(key.path.as_str(), CompareOp::Equal, key.revision)).collect();
        let puts: Vec<TxnOp> = edits
            .iter()
            .map(|edit| TxnOp::put(self.path(&edit.key), edit.value.as_deref().unwrap_or_default(), None))
            .collect();
        let response =
            with_timeout(kv.txn(Txn::new().when(unchanged).and_then(puts))).await.map_err(WriteError::Etcd)?;
        let revision = response.header().map_or(0, |header| header.revision() as u64);
        Ok(response.succeeded().then_some((sets.len(), revision)))
    }

    /// Waits until a revision is served.
    async fn wait(&self, id: &str, revision: u64) -> Result<(), UpdateError> {
        let end = Instant::now() + SERVED_TIMEOUT;
        while self.status.state().persisted.position.revision < revision {
            if Instant::now() > end {
                return Err(UpdateError::Failed("it is written to etcd, but does not come back from there".into()));
            }
            sleep(POLL_INTERVAL).await;
        }
        let is_aside = self.status.state().set_aside.iter().any(|aside| aside.id == id);
        match is_aside {
            true => Err(UpdateError::Failed("the zone in etcd is set aside".into())),
            false => Ok(()),
        }
    }

    fn path(&self, key: &Key) -> String {
        format!("{}{}/{}", self.config.prefix, key.kind, key.id)
    }

    async fn get(&self, kv: &mut KvClient, kind: &'static str, id: &str) -> Result<Option<StoredKey>, WriteError> {
        let key = Key { kind, id: id.into() };
        let path = self.path(&key);
        let response = with_timeout(kv.get(path.as_str(), None)).await.map_err(WriteError::Etcd)?;
        Ok(response.kvs().first().map(|pair| StoredKey {
            edit: Edit { key, value: Some(pair.value().into()) },
            path,
            revision: pair.mod_revision(),
        }))
    }
}

/// Compiles the zone of a collection. `before` is the zone before the last change.
fn build(collection: &Collection, id: &str, before: Option<&Zone>, snapshot: &Snapshot) -> Result<Zone, UpdateError> {
    let refused =
        |problem: Option<&Problem>| UpdateError::Refused(problem.map_or("it has errors".into(), Problem::to_string));
    let data = master_file(collection, id).map_err(UpdateError::Refused)?;
    let source = collection.manifest().private_hosted_zones.get(id).ok_or_else(|| refused(None))?;
    let (key, mut problems) = (id.to_string(), Vec::new());
    let serial = (snapshot.serials.get(id).copied(), 1);
    let base = before.filter(|_| data.is_none());
    let job = zone::Job { data: data.as_ref(), base, serial, ..zone::Job::new(&key, source) };
    let built = zone::build(job, &mut problems);
    let (zone, _) = built.ok_or_else(|| refused(problems.iter().find(|problem| problem.is_error())))?;
    Ok(zone)
}

fn shares_file(one: &crate::manifest::PrivateHostedZone, other: &crate::manifest::PrivateHostedZone) -> bool {
    one.file.is_some() && one.file == other.file
}

/// Why an update was not written.
enum WriteError {
    UpdateError(UpdateError),
    /// A request to etcd has failed.
    Etcd(anyhow::Error),
}

impl From<UpdateError> for WriteError {
    fn from(rejected: UpdateError) -> WriteError {
        WriteError::UpdateError(rejected)
    }
}
