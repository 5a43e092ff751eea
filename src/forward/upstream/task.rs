//! A query in its own task, for transports with a stream for each query: DoH and DoQ.

use super::{
    case_behaviour::{Acceptance, CaseBehaviour},
    counters::UpstreamCounters,
    pending::{AttemptError, AttemptErrorKind, AttemptEvent, PendingQuestion},
};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// A query that was sent. Dropping it gives the query up.
pub struct TaskHandle(AbortHandle);

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs the exchange of a query for a response in a task, and posts its outcome as attempt
/// `number`.
pub fn spawn(
    pending: &Arc<PendingQuestion>,
    number: usize,
    randomised: bool,
    (case, counters): (Arc<CaseBehaviour>, Arc<UpstreamCounters>),
    exchange: impl Future<Output = Result<Vec<u8>, AttemptError>> + Send + 'static,
) -> TaskHandle {
    let pending = pending.clone();
    let task = tokio::spawn(async move {
        let event = match exchange.await {
            Err(error) => AttemptEvent::Failed(error),
            Ok(message) => {
                match case.evaluate(pending.question.echo(&message, randomised), randomised, &pending.question, true) {
                    Acceptance::Accepted => AttemptEvent::Response(message),
                    _ => {
                        counters.unexpected.inc();
                        AttemptEvent::Failed(AttemptError::new(
                            AttemptErrorKind::BadResponse,
                            "answered another question",
                        ))
                    }
                }
            }
        };
        pending.post(number, event);
    });
    TaskHandle(task.abort_handle())
}
