//! `/v1/events`: a stream of generations, as server-sent events.

use super::{Admin, problem::ApiError};
use axum::{
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use data_encoding::HEXLOWER;
use futures_util::stream;
use serde_json::json;
use std::{convert::Infallible, sync::Arc, time::Duration};

/// The maximum number of concurrent streams. It is below the number of long slots of the admin API.
pub const MAX_FOLLOWERS: usize = 16;
/// The interval between keep-alive comments in a stream.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// `GET /v1/events`: the current generation, and each later one. A generation that is replaced before it is sent is left out.
pub(super) async fn follow(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    let permit = admin.followers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{MAX_FOLLOWERS} clients follow the generations already; try again later"),
        )
    })?;
    let mut generations = admin.generations.clone();
    generations.mark_changed();
    let events = stream::unfold((admin, generations, permit), |(admin, mut generations, permit)| async move {
        generations.changed().await.ok()?;
        generations.borrow_and_update();
        let event = event(&admin);
        Some((Ok::<_, Infallible>(event), (admin, generations, permit)))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_INTERVAL);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

fn event(admin: &Admin) -> Event {
    let snapshot = admin.core.snapshot.load_full();
    let (revision, since) = {
        let state = admin.status.state();
        (state.persisted.position.revision, state.since)
    };
    let data = json!({
        "generation": snapshot.generation,
        "revision": revision,
        "digest": HEXLOWER.encode(&snapshot.digest),
        "time": since,
    });
    Event::default().event("generation").id(snapshot.generation.to_string()).data(data.to_string())
}
