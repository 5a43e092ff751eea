//! A question in flight: the events of all of its attempts arrive in one queue, so that a late
//! response to an earlier attempt is accepted too.

use super::query::RandomisedQuestion;
use std::{
    borrow::Cow,
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};
use tokio::time::Sleep;

/// The maximum number of suspected forgeries in the queue of a question. One is enough to reject
/// responses by UDP, and packets may arrive faster than the question handles them.
const MAX_SUSPECTED_FORGERIES: usize = 8;

/// A question, and the events of its attempts. The transports share it.
pub struct PendingQuestion {
    /// The question.
    pub question: RandomisedQuestion,
    queue: Mutex<EventQueue>,
}

#[derive(Default)]
struct EventQueue {
    /// The number of an attempt, and its event, in the order of arrival.
    events: Vec<(usize, AttemptEvent)>,
    waker: Option<Waker>,
}

/// An event of an attempt.
pub enum AttemptEvent {
    /// A message with the ID and the question of the query.
    Response(Vec<u8>),
    /// A packet arrived at the right port with another ID, name or case: somebody may be guessing
    /// at responses.
    ForgerySuspected,
    /// A message that is right except for the case of the name, from a server that keeps case.
    CaseFolded(Vec<u8>),
    /// No response will come.
    Failed(AttemptError),
}

impl AttemptEvent {
    fn is_suspected_forgery(&self) -> bool {
        matches!(self, AttemptEvent::ForgerySuspected | AttemptEvent::CaseFolded(_))
    }
}

/// The reason why an attempt got no response, or an unusable one.
#[derive(Clone, Debug)]
pub struct AttemptError {
    /// The kind of error, which decides about retries and the server's health.
    pub kind: AttemptErrorKind,
    /// A predicate whose subject is the server, for example "refuses the connection".
    pub text: Cow<'static, str>,
}

/// The kinds of errors of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptErrorKind {
    /// The server cannot be reached, refuses connections, or is silent on one.
    Unreachable,
    /// The server cannot be used until its operator changes it: for example, its certificate has
    /// expired.
    Misconfigured,
    /// The server closed a connection that was idle, or on which it had answered other questions.
    Closed,
    /// The server closed a connection without an answer, and this question was the only one on it.
    ClosedUnanswered,
    /// The server closed a connection without an answer, and several questions were on it: any of
    /// them may be the reason.
    ClosedAmbiguous,
    /// The server sent a response that is of no use.
    BadResponse,
    /// The reason is on this node, for example a limit on sockets. The server has no part in it.
    Local,
}

impl AttemptError {
    /// An error with a text whose subject is the server.
    pub fn new(kind: AttemptErrorKind, text: impl Into<Cow<'static, str>>) -> AttemptError {
        AttemptError { kind, text: text.into() }
    }
}

impl PendingQuestion {
    /// A question without attempts.
    pub fn new(question: RandomisedQuestion) -> PendingQuestion {
        PendingQuestion { question, queue: Mutex::default() }
    }

    /// Adds an event of attempt `number`, and wakes the task that waits. Suspected forgeries beyond
    /// [`MAX_SUSPECTED_FORGERIES`] are dropped.
    pub fn post(&self, number: usize, event: AttemptEvent) {
        let mut queue = self.queue();
        let suspected = || queue.events.iter().filter(|(_, event)| event.is_suspected_forgery()).count();
        if event.is_suspected_forgery() && suspected() >= MAX_SUSPECTED_FORGERIES {
            return;
        }
        queue.events.push((number, event));
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the next event of any attempt. None if `sleep` ends first.
    pub async fn next(&self, mut sleep: Pin<&mut Sleep>) -> Option<(usize, AttemptEvent)> {
        poll_fn(|context| {
            let mut queue = self.queue();
            if !queue.events.is_empty() {
                return Poll::Ready(Some(queue.events.remove(0)));
            }
            if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                queue.waker = Some(context.waker().clone());
            }
            drop(queue);
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    fn queue(&self) -> MutexGuard<'_, EventQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answer::known::Question, wire::query::LookupName};

    #[test]
    fn limits_the_suspected_forgeries_in_the_queue_of_a_question() {
        let name = LookupName::new(b"\x03www\x04corp\0").unwrap();
        let question = Question { name: &name, qtype: 1, dnssec_ok: false, checking_disabled: false };
        let pending = PendingQuestion::new(RandomisedQuestion::new(&question));
        for number in 0..1000 {
            pending.post(number, AttemptEvent::CaseFolded(vec![0; 60_000]));
            pending.post(number, AttemptEvent::ForgerySuspected);
        }
        pending.post(0, AttemptEvent::Response(vec![]));
        let queue = pending.queue();
        assert_eq!(queue.events.len(), MAX_SUSPECTED_FORGERIES + 1);
        assert!(matches!(queue.events.last(), Some((0, AttemptEvent::Response(_)))));
    }
}
