//! `/v1/health`: the targets of health checks, and forced verdicts.

use super::{
    Admin,
    pages::{Content, page},
    problem::ApiError,
};
use crate::{
    clock::now,
    health::{MAX_FORCED, Refused},
    snapshot::health::{Report, Target, TargetId, Work},
};
use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Targets of a node, and the isolation of the node.
#[derive(Debug, Serialize, Deserialize)]
pub struct HealthReport {
    /// Start of the isolation, in seconds since 1970. `None` if the node is not isolated.
    pub isolated_since: Option<i64>,
    /// Targets in the order of their identifiers.
    pub targets: Vec<TargetReport>,
}

/// A target and its verdict.
#[derive(Debug, Serialize, Deserialize)]
pub struct TargetReport {
    /// ID of a health check, or ID of an endpoint with an address: `vpce-0a/10.1.0.4`.
    pub id: String,
    /// Type of the check.
    #[serde(rename = "type")]
    pub check_type: String,
    /// Whether answers use the target.
    pub healthy: bool,
    /// State of the target: `unknown`, `healthy` or `unhealthy`; `disabled` if the check is off.
    pub state: String,
    /// Time of the last change of the state, in seconds since 1970. `None` before the first change.
    pub since: Option<i64>,
    /// Forced verdict, if there is one.
    pub forced: Option<ForcedReport>,
    /// Time until which the target is held unhealthy because its state changes too often, in
    /// seconds since 1970.
    pub held_until: Option<i64>,
    /// Whether the verdict is frozen because the node is isolated.
    pub frozen: bool,
    /// Time at which the verified certificate of the target expires, in seconds since 1970.
    #[serde(default)]
    pub certificate_expiry: Option<i64>,
    /// Verdicts of all nodes, if they decide together.
    #[serde(default)]
    pub fleet: Option<FleetReport>,
    /// Last attempts, newest first.
    pub attempts: Vec<AttemptReport>,
}

/// Verdicts of all nodes that share them.
#[derive(Debug, Serialize, Deserialize)]
pub struct FleetReport {
    /// Number of nodes that have a verdict, with this one.
    pub reporters: u16,
    /// Number of nodes whose verdict is healthy.
    pub healthy: u16,
}

/// A forced verdict.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForcedReport {
    /// Whether answers use the target.
    pub healthy: bool,
    /// Time at which the forced verdict ends, in seconds since 1970.
    pub until: i64,
}

/// Result of one attempt.
#[derive(Debug, Serialize, Deserialize)]
pub struct AttemptReport {
    /// Time at which the attempt ended, in seconds since 1970.
    pub at: i64,
    /// Whether the attempt counts as a success.
    pub success: bool,
    /// Answer of the target, or the reason for the failure.
    pub result: String,
}

fn report(target: &Target) -> TargetReport {
    let Report { state, since, attempts, forced, held_until, is_frozen, certificate_expiry, fleet } =
        target.verdict.report().clone();
    let check_type = match &target.work {
        Work::Probe(probe) => probe.question.probe_type.word(),
        Work::Calculated { .. } => "CALCULATED",
        Work::External { .. } => "EXTERNAL",
    };
    TargetReport {
        id: target.id.to_string(),
        check_type: check_type.into(),
        healthy: target.verdict.is_healthy(),
        state: if target.disabled { "disabled" } else { state.word() }.into(),
        since: Some(since).filter(|since| *since > 0),
        forced: forced.map(|forced| ForcedReport { healthy: forced.is_healthy, until: forced.until }),
        held_until,
        frozen: is_frozen,
        certificate_expiry,
        fleet: fleet.map(|fleet| FleetReport { reporters: fleet.reporters, healthy: fleet.healthy }),
        attempts: attempts
            .iter()
            .map(|attempt| AttemptReport {
                at: attempt.at,
                success: attempt.is_success,
                result: attempt.result.to_string(),
            })
            .collect(),
    }
}

/// `GET /v1/health`: returns all targets.
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    let permits = admin.manifests.clone();
    page(&permits, move || {
        let snapshot = admin.core.snapshot.load_full();
        let targets = snapshot.health_targets.iter().map(|target| report(target)).collect();
        Content::json(&HealthReport { isolated_since: admin.health.isolated_since(), targets })
    })
    .await
}

fn unknown(id: &TargetId) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("{id}: there is no such health check or checked address"))
}

/// `GET /v1/health/<target>`: returns one target.
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<TargetReport>, ApiError> {
    let id = TargetId::parse(&id);
    let snapshot = admin.core.snapshot.load_full();
    snapshot.health_targets.get(&id).map(|target| Json(report(target))).ok_or_else(|| unknown(&id))
}

/// Body of a `PUT` request: the health of a target.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    status: Status,
    /// Time for which the verdict is forced, in seconds. Without it, `status` is a report for an
    /// EXTERNAL check.
    for_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Healthy,
    Unhealthy,
}

/// `PUT /v1/health/<target>`: forces a verdict, or reports the health of an EXTERNAL check.
pub(super) async fn set(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    body: Result<Json<Setting>, JsonRejection>,
) -> Result<Json<TargetReport>, ApiError> {
    let Json(setting) = body.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    let (target, is_healthy) = (TargetId::parse(&id), setting.status == Status::Healthy);
    let result = match setting.for_seconds {
        None => admin.health.report(target.clone(), is_healthy).await,
        Some(seconds) if seconds == 0 || seconds > MAX_FORCED.as_secs() => {
            let detail = format!("for_seconds: {seconds}: it must be from 1 to {}", MAX_FORCED.as_secs());
            return Err(ApiError::new(StatusCode::BAD_REQUEST, detail));
        }
        Some(seconds) => admin.health.force(target.clone(), Some((is_healthy, now() + seconds as i64))).await,
    };
    done(&admin, &target, result)
}

/// `DELETE /v1/health/<target>`: ends a forced verdict.
pub(super) async fn clear(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<TargetReport>, ApiError> {
    let target = TargetId::parse(&id);
    let result = admin.health.force(target.clone(), None).await;
    done(&admin, &target, result)
}

fn done(admin: &Admin, id: &TargetId, result: Result<(), Refused>) -> Result<Json<TargetReport>, ApiError> {
    let refused = |refused| match refused {
        Refused::Unknown => unknown(id),
        Refused::NotExternal => ApiError::new(
            StatusCode::CONFLICT,
            format!("{id}: only an EXTERNAL check takes reports; to force a verdict for a time, add `for_seconds`"),
        ),
        Refused::NotKept(error) => ApiError::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("{id}: the verdict cannot be stored in the state directory: {error}"),
        ),
        Refused::Ending => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end"),
    };
    result.map_err(refused)?;
    let snapshot = admin.core.snapshot.load_full();
    snapshot.health_targets.get(id).map(|target| Json(report(target))).ok_or_else(|| unknown(id))
}
