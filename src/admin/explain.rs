//! `/v1/explain`: explains an answer of this server, with its cache and the state of its upstream servers.

use super::{Admin, problem::ApiError};
use crate::{
    clock::now,
    explain::{Explanation, Question, Request, Server, explain},
    forward::{
        self, Forwarding,
        upstream::{ServerState as TargetState, TargetReport},
    },
    snapshot::routes::Route,
};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
};
use std::{borrow::Cow, sync::Arc, time::Instant};

/// `POST /v1/explain`: see [`Request`] for the body.
pub(super) async fn answer(
    State(admin): State<Arc<Admin>>,
    body: Result<Json<Request>, JsonRejection>,
) -> Result<Json<Explanation>, ApiError> {
    let Json(request) = body.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    let question = Question::new(&request).map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error))?;
    // Upstream servers are asked on the runtime that asks them for clients.
    let forwarding = admin.core.forwarding.clone();
    let explaining = async move { explain_here(&forwarding, &question, request.resolve).await };
    let explained = admin.core.runtime.spawn(explaining).await;
    explained.map(Json).map_err(|_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end"))
}

/// Explains an answer of this server. With `resolve`, asks upstream servers as for a client.
async fn explain_here(forwarding: &Arc<Forwarding>, question: &Question, resolve: bool) -> Explanation {
    let explain_now = || {
        let snapshot = forwarding.snapshot.load_full();
        explain(&snapshot, &forwarding.cache, question, now(), |route| {
            forwarding.upstreams.report(route).into_iter().map(|report| reported(route, report)).collect()
        })
    };
    let before = explain_now();
    if !resolve || !before.is_forwarded() {
        return before;
    }
    let (start, client) = (Instant::now(), question.client());
    let packet = question.packet(&forwarding.snapshot.load());
    let (response, recursion) = forward::respond_explained(forwarding, &client, &packet).await;
    let (after, elapsed) = (explain_now(), start.elapsed());
    let reply = response.as_ref().map(|response| &response.reply[..response.answered.len]);
    before.resolved(after, elapsed, recursion, reply)
}

/// An upstream server with its state.
fn reported(route: &Route, report: TargetReport) -> Server {
    let (state, down_seconds) = match report.state {
        TargetState::Unknown => ("unknown", None),
        TargetState::Up => ("up", None),
        TargetState::Down(since) => ("down", Some(since.elapsed().as_secs())),
    };
    Server {
        state: Some(state.into()),
        rtt_ms: report.rtt.map(|rtt| (rtt.as_secs_f64() * 1e5).round() / 100.0),
        down_seconds,
        trouble: report.error.map(Cow::into_owned),
        ..Server::new(route, &report.target)
    }
}
