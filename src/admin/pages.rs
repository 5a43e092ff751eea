//! Pages that may be large. Few are made or on their way at the same time, whoever does not read them.

use super::problem::Trouble;
use axum::{
    body::{Body, Bytes},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many octets of a page are handed to the connection at once.
const PIECE: usize = 64 << 10;
/// A page or a body may take this long, and a second more for each [`OCTETS_PER_SECOND`].
const TRANSFER_PATIENCE: Duration = Duration::from_secs(30);
const OCTETS_PER_SECOND: usize = 32 << 10;

/// How long so many octets may take to come or go.
pub(super) fn transfer_time(octets: usize) -> Duration {
    TRANSFER_PATIENCE + Duration::from_secs((octets / OCTETS_PER_SECOND) as u64)
}

/// The content of a page.
pub(super) struct Made {
    /// Its media type.
    pub media_type: &'static str,
    /// Its entity tag.
    pub tag: Option<String>,
    pub text: Vec<u8>,
}

impl Made {
    pub fn json(value: &impl Serialize) -> Result<Made, Trouble> {
        let text = serde_json::to_vec(value);
        let text = text.map_err(|error| Trouble::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        Ok(Made { media_type: "application/json", tag: None, text })
    }
}

/// A page that is on its way, and the place that it has.
struct Page(Vec<u8>, #[expect(dead_code, reason = "it is there to be dropped")] OwnedSemaphorePermit);

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Makes a page as soon as it has one of these places, which it keeps until it is read. It is made on a thread of its own, so
/// that probes are answered meanwhile.
pub(super) async fn page(
    places: &Arc<Semaphore>,
    make: impl FnOnce() -> Result<Made, Trouble> + Send + 'static,
) -> Result<Response, Trouble> {
    let is_ending = || Trouble::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end");
    let place = places.clone().acquire_owned().await.map_err(|_| is_ending())?;
    let work = move || make().map(|made| (made.media_type, made.tag, Bytes::from_owner(Page(made.text, place))));
    let (media_type, tag, page) = tokio::task::spawn_blocking(work).await.map_err(|_| is_ending())??;
    let head: [(HeaderName, String); 2] =
        [(header::CONTENT_TYPE, media_type.into()), (header::CONTENT_LENGTH, page.len().to_string())];
    let due = Instant::now() + transfer_time(page.len());
    let pieces = (0..page.len()).step_by(PIECE).map(move |start| match Instant::now() < due {
        true => Ok(page.slice(start..page.len().min(start + PIECE))),
        false => Err(io::Error::from(io::ErrorKind::TimedOut)),
    });
    let mut response = (head, Body::from_stream(futures_util::stream::iter(pieces))).into_response();
    if let Some(tag) = tag.and_then(|tag| tag.parse().ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
