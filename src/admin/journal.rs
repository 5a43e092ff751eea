//! `/v1/journals`: the records that dynamic updates have changed in zones with files.

use super::{
    Admin,
    pages::{Content, page},
    problem::ApiError,
};
use crate::{
    control_plane::{Message, change::JournalDrop, updates::journal_json},
    manifest::{Id, problem::printable},
    snapshot::{Snapshot, zone::Zone},
    wire::Name,
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The journal of a zone, as JSON. None without a journal.
fn journal(zone: &Zone) -> Option<Value> {
    zone.overlay.as_ref().map(|overlay| journal_json(&zone.id, Some(&zone.source.name), overlay))
}

/// Finds a zone with a journal, by its identifier or its name.
fn find<'s>(snapshot: &'s Snapshot, zone: &str) -> Result<&'s Zone, ApiError> {
    let name = Name::absolute(zone).ok();
    let all = || snapshot.zones().filter(|zone| zone.overlay.is_some());
    let by_id = all().find(|found| found.id == zone).map(|found| &**found);
    let by_name: Vec<&Zone> = match by_id {
        Some(found) => vec![found],
        None => all().filter(|found| Some(&found.source.name) == name.as_ref()).map(|found| &**found).collect(),
    };
    match &by_name[..] {
        [one] => Ok(one),
        [] => {
            let detail = format!("zone {}: there is no journal for it", printable(zone));
            Err(ApiError::new(StatusCode::NOT_FOUND, detail))
        }
        several => {
            let ids: Vec<&Id> = several.iter().map(|zone| &zone.id).collect();
            let detail = format!("zone {}: several zones have the name; name one of {ids:?}", printable(zone));
            Err(ApiError::new(StatusCode::CONFLICT, detail))
        }
    }
}

/// `GET /v1/journals`
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    let permits = admin.manifests.clone();
    page(&permits, move || {
        let snapshot = admin.core.snapshot.load_full();
        Content::json(&json!({"journals": snapshot.zones().filter_map(|zone| journal(zone)).collect::<Vec<_>>()}))
    })
    .await
}

/// `GET /v1/journals/<zone>`
pub(super) async fn show(State(admin): State<Arc<Admin>>, Path(zone): Path<String>) -> Result<Response, ApiError> {
    let permits = admin.manifests.clone();
    page(&permits, move || {
        let snapshot = admin.core.snapshot.load_full();
        Content::json(&journal(find(&snapshot, &zone)?).unwrap_or_default())
    })
    .await
}

/// `DELETE /v1/journals/<zone>`
pub(super) async fn drop_one(
    State(admin): State<Arc<Admin>>,
    Path(zone): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let zone = find(&admin.core.snapshot.load(), &zone)?.id.clone();
    let (reply, answer) = oneshot::channel();
    let ends = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end");
    admin.messages.send(Message::DropJournal(JournalDrop { zone: zone.clone(), reply })).map_err(|_| ends())?;
    let dropped = answer.await.map_err(|_| ends())?.map_err(|why| ApiError::new(StatusCode::CONFLICT, why))?;
    Ok(Json(json!({"zone": zone, "dropped": dropped})))
}
