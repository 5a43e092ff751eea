//! `/v1/firewall`: the lists of DNS Firewall.

use super::{
    Admin,
    pages::{Content, page},
    problem::ApiError,
};
use crate::firewall_lists::FirewallListStatus;
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

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

/// `POST /v1/firewall/lists/<list>/refresh`: downloads a list now.
pub(super) async fn refresh(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    match admin.firewall_lists.refresh(&id) {
        true => Ok(Json(json!({"refreshing": id}))),
        false => Err(ApiError::new(StatusCode::NOT_FOUND, format!("{id}: this node downloads no such list"))),
    }
}
