//! A question that waits for an answer, whoever it comes from.

use super::query::Spelt;
use std::{
    borrow::Cow,
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};
use tokio::time::Sleep;

/// The maximum number of events about guesses that wait for a question. One is enough to doubt the answers by UDP.
const MAX_GUESSES: usize = 8;

/// A question that was sent. All tries share it, so that a late answer is one too.
pub struct Pending {
    /// The question.
    pub question: Spelt,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    events: Vec<(usize, Event)>,
    waker: Option<Waker>,
}

/// What became of a try.
pub enum Event {
    /// An answer: a message with the id and the question of the query.
    Answer(Vec<u8>),
    /// Somebody guesses at answers: one came to the right port, with another id, name or case.
    Guessed,
    /// An answer came that is right but for the case of the name, from a server that keeps case.
    Folded(Vec<u8>),
    /// There will be no answer.
    Failed(Trouble),
}

impl Event {
    fn is_guess(&self) -> bool {
        matches!(self, Event::Guessed | Event::Folded(_))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What sort of trouble it is.
    pub kind: Kind,
    /// What the server did, to be read behind its address.
    pub text: Cow<'static, str>,
}

/// Sorts of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server cannot be spoken with now.
    Network,
    /// It cannot be spoken with as things are: its certificate is wrong, for one.
    Unfit,
    /// It has closed a connection that was kept, as servers do.
    Closed,
    /// It has ended a connection on which it had answered nothing, or nothing that was asked.
    Broken,
    /// Likewise, with several questions on it: whose fault that is cannot be told.
    Doubtful,
    /// It is there, and its answer is of no use.
    Answer,
    /// It is our own: the server has no part in it.
    Local,
}

impl Trouble {
    /// Trouble of that sort.
    pub fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Trouble {
        Trouble { kind, text: text.into() }
    }
}

impl Pending {
    /// A question that nobody was sent yet.
    pub fn new(question: Spelt) -> Pending {
        Pending { question, inbox: Mutex::default() }
    }

    /// Tells what became of a try.
    pub fn post(&self, number: usize, event: Event) {
        let mut inbox = self.inbox();
        // A server or an attacker can send such packets faster than the question takes the events.
        if event.is_guess() && inbox.events.iter().filter(|(_, event)| event.is_guess()).count() >= MAX_GUESSES {
            return;
        }
        inbox.events.push((number, event));
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for news of any try; none if the time is over.
    pub async fn next(&self, mut sleep: Pin<&mut Sleep>) -> Option<(usize, Event)> {
        poll_fn(|context| {
            let mut inbox = self.inbox();
            if !inbox.events.is_empty() {
                return Poll::Ready(Some(inbox.events.remove(0)));
            }
            if !inbox.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                inbox.waker = Some(context.waker().clone());
            }
            drop(inbox);
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answer::known::Question, wire::query::LookupName};

    #[test]
    fn few_events_about_guesses_wait_for_a_question() {
        let name = LookupName::new(b"\x03www\x04corp\0").unwrap();
        let question = Question { name: &name, qtype: 1, dnssec_ok: false, checking_disabled: false };
        let pending = Pending::new(Spelt::new(&question));
        for number in 0..1000 {
            pending.post(number, Event::Folded(vec![0; 60_000]));
            pending.post(number, Event::Guessed);
        }
        pending.post(0, Event::Answer(vec![]));
        let inbox = pending.inbox();
        assert_eq!(inbox.events.len(), MAX_GUESSES + 1);
        assert!(matches!(inbox.events.last(), Some((0, Event::Answer(_)))));
    }
}
