//! `/v1/firewall`: the lists of DNS Firewall.

use super::{
    Admin,
    pages::{Content, page},
    problem::ApiError,
};
use crate::{firewall_lists::FirewallListStatus, listen::blocked::BlockedName, wire::name::name_text};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{net::IpAddr, sync::Arc};

/// The DNS Firewall lists of a node.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FirewallListsReport {
    /// The lists, in the order of their identifiers.
    pub lists: Vec<FirewallListStatus>,
    /// The number of names in the table of all lists.
    pub names: u64,
    /// The memory of the table, in octets.
    pub octets: u64,
}

/// `GET /v1/firewall/lists`: returns all lists.
pub(super) async fn lists(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    let permits = admin.manifests.clone();
    page(&permits, move || {
        let table = admin.core.snapshot.load().firewall_lists.clone();
        Content::json(&FirewallListsReport {
            lists: admin.firewall_lists.report(),
            names: table.len(),
            octets: table.memory() as u64,
        })
    })
    .await
}

/// A name that DNS Firewall blocked, with the number of queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedName {
    /// The name of the query.
    pub name: String,
    /// The view: a VPC, at an inbound endpoint VPC/network of the client.
    pub view: String,
    /// The number of blocked queries since the start of the server. It may be too high by `error`.
    pub count: u64,
    /// The largest error of `count`.
    pub error: u64,
    /// The rule group of the last block.
    pub group: String,
    /// The rule of the last block.
    pub rule: String,
    /// The list of the rule; empty for a rule without one.
    pub list: String,
    /// The address that the last query came from.
    pub last_client: IpAddr,
    /// The time of the last query, in seconds since 1970.
    pub last_seen: i64,
}

/// The names that DNS Firewall blocked on a node.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ObservedReport {
    /// The names, the most frequent one first.
    pub names: Vec<ObservedName>,
}

/// `GET /v1/firewall/observed`: returns the names that were blocked most often.
pub(super) async fn observed(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    let permits = admin.manifests.clone();
    page(&permits, move || {
        let snapshot = admin.core.snapshot.load();
        let observed = |blocked: BlockedName| {
            let label = snapshot.firewall.labels.get(blocked.rule as usize)?;
            let view = snapshot.view_labels().get(blocked.view as usize)?;
            Some(ObservedName {
                name: name_text(&blocked.name),
                view: view.to_string(),
                count: blocked.count,
                error: blocked.error,
                group: label.group.to_string(),
                rule: label.rule.to_string(),
                list: label.list.to_string(),
                last_client: blocked.last_client,
                last_seen: blocked.last_seen,
            })
        };
        Content::json(&ObservedReport { names: admin.core.blocked.report().into_iter().filter_map(observed).collect() })
    })
    .await
}

/// `POST /v1/firewall/lists/<list>/refresh`: downloads a list now.
pub(super) async fn refresh(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    match admin.firewall_lists.refresh(&id) {
        true => Ok(Json(json!({"refreshing": id}))),
        false => Err(ApiError::new(StatusCode::NOT_FOUND, format!("{id}: this node downloads no such list"))),
    }
}
