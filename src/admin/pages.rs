//! Responses that can be large. Semaphores bound how many are made or sent at the same time, so that clients that do not read
//! cannot fill the memory.

use super::problem::ApiError;
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

/// The octets of a large response that are sent at once.
const PIECE_OCTETS: usize = 64 << 10;
/// The maximum time of a large body: this, and one second for each `OCTETS_PER_SECOND`.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(30);
const OCTETS_PER_SECOND: usize = 32 << 10;

/// The maximum time of a body of this size.
pub(super) fn transfer_time(octets: usize) -> Duration {
    TRANSFER_TIMEOUT + Duration::from_secs((octets / OCTETS_PER_SECOND) as u64)
}

/// The content of a large response.
pub(super) struct Content {
    pub media_type: &'static str,
    /// The entity tag.
    pub tag: Option<String>,
    pub text: Vec<u8>,
}

impl Content {
    /// JSON without an entity tag.
    pub fn json(value: &impl Serialize) -> Result<Content, ApiError> {
        let text = serde_json::to_vec(value);
        let text = text.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        Ok(Content { media_type: "application/json", tag: None, text })
    }
}

/// A large response. It holds its permit until it is sent.
struct PermittedPage(
    Vec<u8>,
    #[expect(dead_code, reason = "the permit is held until this is dropped")] OwnedSemaphorePermit,
);

impl AsRef<[u8]> for PermittedPage {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Waits for a permit, and makes the response on a thread of its own, so that probes are answered meanwhile. The body is sent in
/// pieces, and fails when the client reads too slowly.
pub(super) async fn page(
    permits: &Arc<Semaphore>,
    make: impl FnOnce() -> Result<Content, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let is_ending = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is about to end");
    let permit = permits.clone().acquire_owned().await.map_err(|_| is_ending())?;
    let work = move || {
        let Content { media_type, tag, text } = make()?;
        Ok((media_type, tag, Bytes::from_owner(PermittedPage(text, permit))))
    };
    let made: Result<_, ApiError> = tokio::task::spawn_blocking(work).await.map_err(|_| is_ending())?;
    let (media_type, tag, page) = made?;
    let head: [(HeaderName, String); 2] =
        [(header::CONTENT_TYPE, media_type.into()), (header::CONTENT_LENGTH, page.len().to_string())];
    let due = Instant::now() + transfer_time(page.len());
    let pieces = (0..page.len()).step_by(PIECE_OCTETS).map(move |start| match Instant::now() < due {
        true => Ok(page.slice(start..page.len().min(start + PIECE_OCTETS))),
        false => Err(io::Error::from(io::ErrorKind::TimedOut)),
    });
    let mut response = (head, Body::from_stream(futures_util::stream::iter(pieces))).into_response();
    if let Some(tag) = tag.and_then(|tag| tag.parse().ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
