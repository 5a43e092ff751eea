//! Dynamic updates of zones whose source is etcd: zonal writes an update to etcd by a transaction, and answers it when the
//! watch has brought it back and it is served.

use super::rules::edits;
use crate::{
    config::Etcd,
    control_plane::{
        change::Rejected,
        edits::{edits_of, master_file},
        etcd::{MAX_RESPONSE_OCTETS, connect, in_time},
        status::Status,
    },
    manifest::{
        Problem,
        collection::{Collection, Edit, Key, MASTER_FILES},
    },
    snapshot::published::Published,
    snapshot::zone,
    transfer::message::Request,
};
use anyhow::{Context, anyhow};
use etcd_client::{Client, Compare, CompareOp, KvClient, Txn, TxnOp};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

/// How often it is tried when somebody else changes the same.
const TRIES: usize = 10;
/// How long what was written may take until it is served.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often it is looked whether it is.
const POLL: Duration = Duration::from_millis(2);

/// Writes updates to etcd.
pub struct EtcdEditor {
    config: Etcd,
    status: Arc<Status>,
    client: Mutex<Option<Client>>,
}

/// A key with its value, and when it was changed.
struct Seen {
    edit: Edit,
    path: String,
    revision: i64,
}

impl EtcdEditor {
    /// Writes to this cluster.
    pub fn new(config: Etcd, status: Arc<Status>) -> EtcdEditor {
        EtcdEditor { config, status, client: Mutex::new(None) }
    }

    /// Makes an update of a zone. Returns how many sets have changed, when they are served.
    pub async fn edit(&self, snapshot: &Published, id: &str, request: &Request) -> Result<usize, Rejected> {
        for _ in 0..TRIES {
            let mut kv = self.kv().await.map_err(|error| Rejected::Failed(format!("etcd: {error:#}")))?;
            match self.try_edit(snapshot, &mut kv, id, request).await {
                Ok(Some((sets, revision))) => {
                    self.wait(id, revision).await?;
                    return Ok(sets);
                }
                Ok(None) => {}
                Err(Fault::Rejected(rejected)) => return Err(rejected),
                Err(Fault::Etcd(error)) => {
                    *self.client.lock().await = None;
                    return Err(Rejected::Failed(format!("etcd: {error:#}")));
                }
            }
        }
        Err(Rejected::Failed("others change the zone in etcd all the time".into()))
    }

    /// A connection: the one that there is, or one to the first member that answers.
    async fn kv(&self) -> anyhow::Result<KvClient> {
        let mut held = self.client.lock().await;
        if held.is_none() {
            let mut last = anyhow!("there are no endpoints");
            for endpoint in &self.config.endpoints {
                match connect(&self.config, endpoint).await {
                    Ok(client) => {
                        *held = Some(client);
                        break;
                    }
                    Err(error) => last = error.context(endpoint.clone()),
                }
            }
            if held.is_none() {
                return Err(last);
            }
        }
        let client = held.as_ref().context("there is no connection")?;
        Ok(client.kv_client().max_decoding_message_size(MAX_RESPONSE_OCTETS))
    }

    /// Reads what is there, and writes what becomes of it, if that is still there. None if it is not.
    async fn try_edit(
        &self,
        snapshot: &Published,
        kv: &mut KvClient,
        id: &str,
        request: &Request,
    ) -> Result<Option<(usize, u64)>, Fault> {
        let gone = || Rejected::Failed("the zone is not in etcd any more".into());
        let zone = self.get(kv, "private_hosted_zones", id).await?.ok_or_else(gone)?;
        let mut collection = Collection::default();
        collection.apply(std::slice::from_ref(&zone.edit));
        let resource = collection.manifest().private_hosted_zones.get(id).cloned();
        let resource = resource.ok_or_else(|| Rejected::Failed("the zone in etcd cannot be read".into()))?;
        let mut seen = vec![zone];
        if let Some(file) = &resource.file {
            seen.extend(self.get(kv, MASTER_FILES, file).await?);
            collection.apply(&seen.iter().map(|seen| seen.edit.clone()).collect::<Vec<_>>());
        }
        let data = master_file(&collection, id).map_err(Rejected::Refused)?;
        let snapshot = snapshot.load_full();
        let serial = (snapshot.serials.get(id).copied(), 1);
        let (key, mut problems) = (id.to_string(), Vec::new());
        let job = zone::Job { data: data.as_ref(), serial, ..zone::Job::new(&key, &resource) };
        let built = zone::build(job, &mut problems);
        let (zone, _) = built.ok_or_else(|| {
            let first = problems.iter().find(|problem| problem.is_error()).map(Problem::to_string);
            Rejected::Refused(first.unwrap_or("it has errors".into()))
        })?;
        let sets = edits(&zone, request)?;
        if sets.is_empty() {
            return Ok(Some((0, 0)));
        }
        let edits = edits_of(&collection, id, &sets).map_err(Rejected::Refused)?;
        let writes_file = edits.iter().any(|edit| edit.key.kind == MASTER_FILES);
        let shares = |(other, zone): (&String, &Arc<_>)| other != id && shares_file(zone, &resource);
        if writes_file && snapshot.manifest.private_hosted_zones.iter().any(shares) {
            return Err(Rejected::Refused("other zones use its master file too".into()).into());
        }
        self.check(&collection, &edits, id, &snapshot)?;
        // The keeper waits for those who hold what was served before.
        drop(snapshot);
        let unchanged: Vec<Compare> = seen
            .iter()
            .map(|seen| Compare::mod_revision(seen.path.as_str(), CompareOp::Equal, seen.revision))
            .collect();
        let puts: Vec<TxnOp> = edits
            .iter()
            .map(|edit| TxnOp::put(self.path(&edit.key), edit.value.as_deref().unwrap_or_default(), None))
            .collect();
        let response = in_time(kv.txn(Txn::new().when(unchanged).and_then(puts))).await.map_err(Fault::Etcd)?;
        let revision = response.header().map_or(0, |header| header.revision() as u64);
        Ok(response.succeeded().then_some((sets.len(), revision)))
    }

    /// Whether what would be written can be served: in etcd it would only be set aside.
    fn check(
        &self,
        collection: &Collection,
        edits: &[Edit],
        id: &str,
        snapshot: &crate::snapshot::Snapshot,
    ) -> Result<(), Fault> {
        let mut changed = collection.clone();
        changed.apply(edits);
        let refused = |problem: Option<&Problem>| {
            Fault::from(Rejected::Refused(problem.map_or("it has errors".into(), Problem::to_string)))
        };
        let data = master_file(&changed, id).map_err(Rejected::Refused)?;
        let source = changed.manifest().private_hosted_zones.get(id).ok_or_else(|| refused(None))?;
        let (key, mut problems) = (id.to_string(), Vec::new());
        let serial = (snapshot.serials.get(id).copied(), 1);
        let job = zone::Job { data: data.as_ref(), serial, ..zone::Job::new(&key, source) };
        match zone::build(job, &mut problems) {
            Some(_) => Ok(()),
            None => Err(refused(problems.iter().find(|problem| problem.is_error()))),
        }
    }

    /// Waits until what was written is served.
    async fn wait(&self, id: &str, revision: u64) -> Result<(), Rejected> {
        let end = Instant::now() + PATIENCE;
        while self.status.state().kept.position.revision < revision {
            if Instant::now() > end {
                return Err(Rejected::Failed("it is written to etcd, but does not come back from there".into()));
            }
            sleep(POLL).await;
        }
        let is_aside = self.status.state().set_aside.iter().any(|aside| aside.id == id);
        match is_aside {
            true => Err(Rejected::Failed("the zone in etcd is set aside".into())),
            false => Ok(()),
        }
    }

    fn path(&self, key: &Key) -> String {
        format!("{}{}/{}", self.config.prefix, key.kind, key.id)
    }

    async fn get(&self, kv: &mut KvClient, kind: &'static str, id: &str) -> Result<Option<Seen>, Fault> {
        let key = Key { kind, id: id.into() };
        let path = self.path(&key);
        let response = in_time(kv.get(path.as_str(), None)).await.map_err(Fault::Etcd)?;
        Ok(response.kvs().first().map(|pair| Seen {
            edit: Edit { key, value: Some(pair.value().into()) },
            path,
            revision: pair.mod_revision(),
        }))
    }
}

fn shares_file(one: &crate::manifest::PrivateHostedZone, other: &crate::manifest::PrivateHostedZone) -> bool {
    one.file.is_some() && one.file == other.file
}

/// Why an update was not written.
enum Fault {
    Rejected(Rejected),
    /// etcd fails.
    Etcd(anyhow::Error),
}

impl From<Rejected> for Fault {
    fn from(rejected: Rejected) -> Fault {
        Fault::Rejected(rejected)
    }
}
