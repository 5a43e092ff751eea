//! Generations as they come: server-sent events.

use super::{Admin, problem::Trouble};
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

/// How many may follow at the same time; the admin API has places for more.
pub const FOLLOWERS: usize = 16;
/// How often those who follow get a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// `GET /v1/events`: the present generation, and each one after it that is not overtaken before it is told.
pub(super) async fn follow(State(admin): State<Arc<Admin>>) -> Result<Response, Trouble> {
    let place = admin.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        Trouble::new(StatusCode::SERVICE_UNAVAILABLE, format!("{FOLLOWERS} others follow the generations already"))
    })?;
    let mut generations = admin.generations.clone();
    generations.mark_changed();
    let events = stream::unfold((admin, generations, place), |(admin, mut generations, place)| async move {
        generations.changed().await.ok()?;
        generations.borrow_and_update();
        let event = event(&admin);
        Some((Ok::<_, Infallible>(event), (admin, generations, place)))
    });
    let sign = KeepAlive::new().interval(SIGN_OF_LIFE);
    Ok(Sse::new(events).keep_alive(sign).into_response())
}

fn event(admin: &Admin) -> Event {
    let snapshot = admin.core.snapshot.load_full();
    let (revision, since) = {
        let state = admin.status.state();
        (state.persisted.position.revision, state.since)
    };
    let told = json!({
        "generation": snapshot.generation,
        "revision": revision,
        "digest": HEXLOWER.encode(&snapshot.digest),
        "time": since,
    });
    Event::default().event("generation").id(snapshot.generation.to_string()).data(told.to_string())
}
