//! Sends DNS Firewall events to an HTTP server, in batches. The query log makes the events, and no query waits for them.
//!
//! ```text
//! query_log::Events -> channel -> Delivery: batch -> POST -> the server
//!                                     ^                |
//!                                     +-- back-off ----+   while the server fails
//! ```
//!
//! The channel has a limited length. While the server fails, the oldest events wait, and new ones that have no room are lost and
//! counted. Events that wait when the process ends are lost too.

use crate::{firewall_lists::fetch::Client, query_log::EventCounts};
use hyper::StatusCode;
use std::{path::PathBuf, time::Duration};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{sleep, timeout},
};

/// The maximum number of events that wait for the server.
const MAX_WAITING: usize = 4096;
/// The maximum number of events in a request.
const MAX_BATCH: usize = 256;
/// The time that a batch waits for more events.
const LINGER: Duration = Duration::from_millis(500);
/// The time-out of a request, with the connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a failure. It doubles with each further one,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// up to this.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The server that receives the events.
pub struct Server {
    /// The URL.
    pub url: String,
    /// The host of the URL, with its port if the URL has one. Only this part is logged: the rest can be a secret.
    pub host: String,
    /// PEM file of certificate authorities, in addition to those of the system.
    pub authorities: Option<PathBuf>,
    /// The name of this node.
    pub node: String,
    /// The counters of events.
    pub counts: EventCounts,
}

/// The task that sends events.
pub struct Delivery {
    server: Server,
    client: Client,
    waiting: Receiver<Vec<u8>>,
}

/// The end for events, as JSON objects, and the task that sends them.
pub fn channel(server: Server) -> (Sender<Vec<u8>>, Delivery) {
    let (sender, waiting) = mpsc::channel(MAX_WAITING);
    let client = Client::new(vec![server.host.clone()], server.authorities.clone());
    (sender, Delivery { server, client, waiting })
}

impl Delivery {
    /// Sends events until the sender is dropped.
    pub async fn run(mut self) {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        while let Some(first) = self.waiting.recv().await {
            batch.push(first);
            sleep(LINGER).await;
            while batch.len() < MAX_BATCH
                && let Ok(next) = self.waiting.try_recv()
            {
                batch.push(next);
            }
            self.send(&batch).await;
            batch.clear();
        }
    }

    /// Sends a batch, as often as needed.
    async fn send(&self, batch: &[Vec<u8>]) {
        let body = hyper::body::Bytes::from(body(&self.server.node, batch));
        let Server { url, host, counts, .. } = &self.server;
        let (mut pause, mut last_error) = (FIRST_PAUSE, None);
        loop {
            let error = match timeout(REQUEST_TIMEOUT, self.client.post(url, body.clone())).await {
                Ok(Ok(status)) if status.is_success() => {
                    counts.sent.inc_by(batch.len() as u64);
                    if last_error.is_some() {
                        tracing::info!(server = host, "firewall events sent again");
                    }
                    return;
                }
                Ok(Ok(status)) if !is_temporary(status) => {
                    counts.lost.inc_by(batch.len() as u64);
                    let error = format!("the server answers with status {}", status.as_u16());
                    tracing::warn!(server = host, lost = batch.len(), error, "firewall events refused");
                    return;
                }
                Ok(Ok(status)) => format!("the server answers with status {}", status.as_u16()),
                Ok(Err(error)) => error,
                Err(_) => "the server is silent".into(),
            };
            if last_error.as_ref() != Some(&error) {
                tracing::warn!(server = host, error, "firewall events not sent");
                last_error = Some(error);
            }
            sleep(pause).await;
            pause = (2 * pause).min(MAX_PAUSE);
        }
    }
}

/// Whether the same request may succeed later.
fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::TOO_MANY_REQUESTS
}

/// The text of a request: an object with the events of a batch.
fn body(node: &str, batch: &[Vec<u8>]) -> Vec<u8> {
    let mut body = format!("{{\"node\":{},\"events\":[", serde_json::Value::from(node)).into_bytes();
    body.extend(batch.join(&b','));
    body.extend(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_request_is_one_object() {
        for (batch, expected) in [(vec!["{\"a\":1}"], json!([{"a": 1}])), (vec!["{}", "{}"], json!([{}, {}]))] {
            let batch: Vec<Vec<u8>> = batch.into_iter().map(Vec::from).collect();
            let body: Value = serde_json::from_slice(&body("n\"1", &batch)).unwrap();
            assert_eq!(body, json!({"node": "n\"1", "events": expected}));
        }
    }

    #[test]
    fn only_failures_of_the_server_are_temporary() {
        for (status, expected) in
            [(500, true), (503, true), (429, true), (408, true), (400, false), (404, false), (302, false)]
        {
            assert_eq!(is_temporary(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
