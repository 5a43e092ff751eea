//! Dynamic updates of zones in etcd: zonal writes an update in a transaction, and answers when the
//! source etcd has delivered it and it is served.

use super::rules::edits;
use crate::{
    control_plane::{
        change::UpdateError,
        etcd_writer::EtcdWriter,
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
use etcd_client::{Compare, CompareOp};
use std::sync::Arc;

/// The maximum number of attempts when other clients change the same keys.
const MAX_ATTEMPTS: usize = 10;
/// Writes updates to etcd.
pub struct EtcdEditor(Arc<EtcdWriter>);

/// A key with its value and the revision of its last change.
struct StoredKey {
    edit: Edit,
    revision: i64,
}

impl EtcdEditor {
    /// An editor that uses this writer.
    pub fn new(writer: Arc<EtcdWriter>) -> EtcdEditor {
        EtcdEditor(writer)
    }

    /// Makes an update of a zone. Returns the number of changed record sets, when they are served.
    ///
    /// # Errors
    ///
    /// Why nothing was written, or why it is not served yet.
    pub async fn edit(&self, snapshot: &Published, id: &str, request: &Request) -> Result<usize, UpdateError> {
        for _ in 0..MAX_ATTEMPTS {
            match self.try_edit(snapshot, id, request).await {
                Ok(Some((sets, revision))) => {
                    let key = zone_key(id);
                    let served = self.0.wait_until_served(revision, [&key].into_iter()).await;
                    return served.map(|()| sets).map_err(UpdateError::Failed);
                }
                Ok(None) => {}
                Err(WriteError::UpdateError(rejected)) => return Err(rejected),
                Err(WriteError::Etcd(error)) => return Err(UpdateError::Failed(format!("etcd: {error:#}"))),
            }
        }
        Err(UpdateError::Failed("others change the zone in etcd all the time".into()))
    }

    /// Reads the zone, and writes the updated one if the keys have not changed meanwhile. Returns
    /// the number of changed sets and the revision; none if a key has changed.
    async fn try_edit(
        &self,
        snapshot: &Published,
        id: &str,
        request: &Request,
    ) -> Result<Option<(usize, u64)>, WriteError> {
        let gone = || UpdateError::Failed("the zone is not in etcd any more".into());
        let zone = self.get(zone_key(id)).await?.ok_or_else(gone)?;
        let mut collection = Collection::default();
        collection.apply(std::slice::from_ref(&zone.edit));
        let resource = collection.manifest().private_hosted_zones.get(id).cloned();
        let resource = resource.ok_or_else(|| UpdateError::Failed("the zone in etcd cannot be read".into()))?;
        let mut keys = vec![zone];
        if let Some(file) = &resource.file {
            keys.extend(self.get(Key { kind: MASTER_FILES, id: file.as_str().into() }).await?);
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
        let compare =
            |key: &StoredKey| Compare::mod_revision(self.0.path(&key.edit.key), CompareOp::Equal, key.revision);
        let unchanged: Vec<Compare> = keys.iter().map(compare).collect();
        let revision = self.0.write(unchanged, &edits).await.map_err(WriteError::Etcd)?;
        Ok(revision.map(|revision| (sets.len(), revision)))
    }

    async fn get(&self, key: Key) -> Result<Option<StoredKey>, WriteError> {
        let response = self.0.get(&key).await.map_err(WriteError::Etcd)?;
        Ok(response.kvs().first().map(|pair| StoredKey {
            edit: Edit { key, value: Some(pair.value().into()) },
            revision: pair.mod_revision(),
        }))
    }
}

fn zone_key(id: &str) -> Key {
    Key { kind: "private_hosted_zones", id: id.into() }
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
