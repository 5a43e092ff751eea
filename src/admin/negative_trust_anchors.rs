//! `/v1/negative_trust_anchors`: names whose answers count as insecure until a time (RFC 7646).

use super::{Admin, problem::ApiError};
use crate::{
    clock::now,
    forward::{
        cache::Scope,
        recursion::negative_anchors::{
            MAX_ANCHORS, MAX_DURATION, MAX_REASON, NegativeAnchor, NegativeAnchors, Refused,
        },
    },
    wire::Name,
};
use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The negative trust anchors of a node.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnchorReports {
    /// The anchors that have not ended, in the order of their names.
    pub negative_trust_anchors: Vec<AnchorReport>,
}

/// A negative trust anchor.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnchorReport {
    /// The name. Answers at and below it count as insecure.
    pub name: String,
    /// End of the anchor, in seconds since 1970.
    pub until: i64,
    /// Reason that the operator gave. It may be empty.
    pub reason: String,
    /// Origin of the anchor: `zonal.yaml` or `admin`.
    pub source: String,
}

/// Body of a `PUT` request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Addition {
    /// Duration of the anchor, in seconds.
    for_seconds: u64,
    #[serde(default)]
    reason: String,
}

fn report(anchor: NegativeAnchor) -> AnchorReport {
    let source = if anchor.is_configured { "zonal.yaml" } else { "admin" };
    AnchorReport { name: anchor.name.to_string(), until: anchor.until, reason: anchor.reason, source: source.into() }
}

fn anchors(admin: &Admin) -> Result<Arc<NegativeAnchors>, ApiError> {
    let recursion = admin.core.forwarding.recursion.as_ref();
    let detail = "the node has no negative trust anchors: it validates answers only with `internet_resolver: \
                  {recursive: true}`";
    recursion
        .map(|recursion| recursion.negative_anchors.clone())
        .ok_or_else(|| ApiError::new(StatusCode::CONFLICT, detail))
}

fn parse(text: &str) -> Result<Name, ApiError> {
    Name::absolute(text).map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, format!("name: `{text}`: {error}")))
}

/// `GET /v1/negative_trust_anchors`: returns all anchors.
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<AnchorReports>, ApiError> {
    let list = anchors(&admin)?.list(now());
    Ok(Json(AnchorReports { negative_trust_anchors: list.into_iter().map(report).collect() }))
}

/// `PUT /v1/negative_trust_anchors/<name>`: adds an anchor, or replaces it.
pub(super) async fn add(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    body: Result<Json<Addition>, JsonRejection>,
) -> Result<Json<AnchorReport>, ApiError> {
    let Json(addition) = body.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    let (anchors, name) = (anchors(&admin)?, parse(&name)?);
    let refuse = |detail: String| Err(ApiError::new(StatusCode::BAD_REQUEST, detail));
    if !(1..=MAX_DURATION.as_secs()).contains(&addition.for_seconds) {
        let max = MAX_DURATION.as_secs();
        return refuse(format!("for_seconds: {}: it must be from 1 to {max}", addition.for_seconds));
    }
    if addition.reason.len() > MAX_REASON {
        return refuse(format!("reason: it has {} octets; the maximum is {MAX_REASON}", addition.reason.len()));
    }
    let until = now() + addition.for_seconds as i64;
    let anchor = NegativeAnchor { name: name.clone(), until, reason: addition.reason, is_configured: false };
    let added = anchor.clone();
    change(&admin, &name, move || anchors.add(added, now())).await?;
    Ok(Json(report(anchor)))
}

/// `DELETE /v1/negative_trust_anchors/<name>`: removes an anchor.
pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
) -> Result<Json<AnchorReports>, ApiError> {
    let (anchors, name) = (anchors(&admin)?, parse(&name)?);
    let removed = name.clone();
    change(&admin, &name, move || anchors.remove(&removed, now())).await?;
    list(State(admin)).await
}

/// Changes the anchors, and forgets the answers at and below the name.
async fn change(
    admin: &Admin,
    name: &Name,
    change: impl FnOnce() -> Result<(), Refused> + Send + 'static,
) -> Result<(), ApiError> {
    // The change writes a file.
    let result = tokio::task::spawn_blocking(change).await;
    let result = result.map_err(|_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end"))?;
    result.map_err(|refused| match refused {
        Refused::TooMany => {
            let detail = format!("{name}: the node has {MAX_ANCHORS} negative trust anchors, which is the maximum");
            ApiError::new(StatusCode::CONFLICT, detail)
        }
        Refused::Configured => ApiError::new(
            StatusCode::CONFLICT,
            format!("{name}: `internet_resolver.negative_trust_anchors` of zonal.yaml has this name; change it there"),
        ),
        Refused::Unknown => {
            ApiError::new(StatusCode::NOT_FOUND, format!("{name}: there is no such negative trust anchor"))
        }
        Refused::Trusted => ApiError::new(
            StatusCode::CONFLICT,
            format!("{name}: the trust anchor of this name takes precedence; change `internet_resolver` instead"),
        ),
        Refused::NotStored(error) => ApiError::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("{name}: the negative trust anchors cannot be stored in the state directory: {error}"),
        ),
    })?;
    admin.core.forwarding.cache.flush(Some(&Scope::new(name, true)));
    Ok(())
}
