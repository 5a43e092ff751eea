//! A query in a task of its own, on the transports that have a stream for each.

use super::{
    case::{Case, Judged},
    counters::Counters,
    pending::{Event, Kind, Pending, Trouble},
};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// A query that was sent. It is forgotten when this is dropped.
pub struct Sent(AbortHandle);

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs an exchange of a query for a message, and posts what becomes of it.
pub fn spawn(
    pending: &Arc<Pending>,
    number: usize,
    spelt: bool,
    (case, counters): (Arc<Case>, Arc<Counters>),
    exchange: impl Future<Output = Result<Vec<u8>, Trouble>> + Send + 'static,
) -> Sent {
    let pending = pending.clone();
    let task = tokio::spawn(async move {
        let event = match exchange.await {
            Err(trouble) => Event::Failed(trouble),
            Ok(message) => match case.judge(pending.question.echo(&message, spelt), spelt, &pending.question, true) {
                Judged::Answer => Event::Answer(message),
                _ => {
                    counters.strangers.inc();
                    Event::Failed(Trouble::new(Kind::Answer, "answered another question"))
                }
            },
        };
        pending.post(number, event);
    });
    Sent(task.abort_handle())
}
