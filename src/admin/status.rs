//! The body of `GET /v1/status`: one type, which the server writes and the command line reads.

use super::{
    Admin,
    pages::{Content, page},
    problem::ApiError,
};
use crate::{
    control_plane::status::{HeldDeletionsReport, LoadError, SetAsideResource, SourceState, StateDirectoryReport},
    transfer,
};
use axum::{extract::State, response::Response};
use data_encoding::HEXLOWER;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// What a node serves, and its state. Times are in seconds since 1970.
///
/// A member that a server of another version does not send has its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeStatus {
    /// Version of zonal.
    pub version: String,
    /// Name of the node: `nsid`.
    pub node: String,
    /// Whether clients may be sent to the node, as `/ready` says.
    pub ready: bool,
    /// Why the node is not ready.
    pub unready_reason: Option<String>,
    /// Generation that is served; 0 before the first manifest.
    pub generation: u64,
    /// Digest of what is served, in hexadecimal digits: equal on nodes that serve the same.
    pub digest: String,
    /// When the generation was published.
    pub since: i64,
    /// Whether the node serves the state of an earlier run, and has not reached its source since.
    pub stale: bool,
    /// Why the node is stale.
    pub stale_reason: Option<String>,
    /// Revision of the source that is served: etcd's, or the number of changes that were pushed.
    pub revision: u64,
    /// State of a source that is on another machine.
    pub source: Option<SourceState>,
    /// Resources that are not served as they were delivered, causes first.
    pub set_aside: Vec<SetAsideResource>,
    /// Deletions that the node holds.
    pub held_deletions: Option<HeldDeletionsReport>,
    /// The state directory.
    pub state_directory: Option<StateDirectoryReport>,
    /// Age of the generation, in seconds.
    pub age_seconds: u64,
    /// Why the last load failed; null if it succeeded.
    pub last_error: Option<LoadError>,
    /// Number of warnings of the last load.
    pub warnings: usize,
    /// TSIG keys that zones name and this node does not have.
    pub missing_tsig_keys: Vec<String>,
    /// Number of resources that are served, by kind. Kinds without resources are left out.
    pub resources: BTreeMap<String, usize>,
    /// Zones that are transferred into the node.
    pub zones_transferred: Vec<transfer::incoming::TransferredZoneStatus>,
    /// When the node became isolated: nearly all of its health checks failed at once.
    pub isolated_since: Option<i64>,
    /// Addresses that take queries.
    pub listeners: Vec<String>,
}

/// Answers `GET /v1/status`.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    let permits = admin.scrapes.clone();
    page(&permits, move || Content::json(&status(&admin))).await
}

fn status(admin: &Admin) -> NodeStatus {
    let snapshot = admin.core.snapshot.load_full();
    let state = admin.status.state().clone();
    let unready_reason = admin.unready_reason();
    let stale_reason = snapshot.is_stale.then(|| state.stale_reason());
    NodeStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        node: String::from_utf8_lossy(&snapshot.node.nsid).into_owned(),
        ready: unready_reason.is_none(),
        unready_reason,
        generation: snapshot.generation,
        digest: HEXLOWER.encode(&snapshot.digest),
        since: state.since,
        stale: snapshot.is_stale,
        stale_reason,
        revision: state.persisted.position.revision,
        set_aside: state.all_set_aside(),
        held_deletions: HeldDeletionsReport::new(&state.persisted.held),
        source: state.source,
        state_directory: state.state_directory,
        age_seconds: admin.counters.age().as_secs(),
        last_error: state.last_error,
        warnings: state.warnings,
        missing_tsig_keys: state.missing_tsig_keys,
        resources: state.resources.into_iter().map(|(kind, count)| (kind.into(), count)).collect(),
        zones_transferred: admin.core.transfers.incoming.report(&snapshot),
        isolated_since: admin.health.isolated_since(),
        listeners: state.listeners,
    }
}
