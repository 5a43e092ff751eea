//! Answers the queries that do not come as packets: over connections, each from its own client.

use super::{Core, answer, now, random_seed, respond};
use crate::{
    answer::{Answered, Client, Moment, Outcome, Transport, known::Asked},
    forward::{self, Waiting},
    metrics::{Dropped, Writer},
    transfer::{self, Part},
    wire::query::rcode,
};
use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use tokio::sync::OwnedSemaphorePermit;

/// The longest message, in octets.
pub const MESSAGE_SIZE: usize = u16::MAX as usize;

thread_local! {
    /// Where an answer is made. It is never held across an await.
    static REPLY: RefCell<Vec<u8>> = RefCell::new(vec![0; MESSAGE_SIZE]);
}

/// What a query waits for.
pub enum Pending {
    /// Others, who have to be asked this first. It has a place among the queries that wait for them.
    Others(Waiting, Asked),
    /// What is to be done with a zone as a whole.
    Zone(OwnedSemaphorePermit),
}

/// Answers queries that come by one transport, and counts them.
pub struct Responder {
    /// What all listeners share.
    pub core: Arc<Core>,
    /// How the queries come.
    pub transport: Transport,
    /// Locked for each count only; connections of several threads count in it.
    writer: Mutex<Writer>,
    draw: AtomicU32,
}

impl Responder {
    /// One that has not answered anything yet.
    pub fn new(core: &Arc<Core>, transport: Transport) -> Arc<Responder> {
        Arc::new(Responder {
            writer: Mutex::new(core.metrics.writer(transport)),
            draw: AtomicU32::new(random_seed().0 as u32),
            transport,
            core: core.clone(),
        })
    }

    /// Answers one query, the answer going to the end of `output`, which is left as it is if there is nothing to say; or
    /// takes a place for it among those that wait.
    pub fn answer(&self, client: &Client, query: &[u8], output: &mut Vec<u8>) -> Option<Pending> {
        if transfer::is_signed(query)
            && let Some(place) = self.core.transfers.admit()
        {
            return Some(Pending::Zone(place));
        }
        let moment = Moment { now: now(), draw: self.draw.fetch_add(1, Relaxed) };
        let snapshot = self.core.snapshot.load();
        REPLY.with_borrow_mut(|reply| {
            let mut outcome = answer(&snapshot, &self.core.forwarding.cache, client, moment, query, reply);
            if let Outcome::Forward(forward) = &outcome {
                if let Some(place) = self.core.forwarding.wait(forward.route.id) {
                    return Some(Pending::Others(place, forward.to_asked()));
                }
                outcome = forward::fail(&snapshot, client, moment, query, reply, forward::NO_ROOM);
            }
            let answered = match outcome {
                Outcome::Reply(answered) => Some(answered),
                _ => None,
            };
            if answered.is_some_and(|answered| matches!(answered.rcode, rcode::REFUSED | rcode::NOTIMP))
                && transfer::is_of_zone(query)
                && let Some(place) = self.core.transfers.admit()
            {
                return Some(Pending::Zone(place));
            }
            if answered.is_some_and(|answered| answered.refresh) {
                forward::refresh(&self.core, client, query);
            }
            self.count(answered.as_ref());
            output.extend_from_slice(answered.map_or(&[], |answered| &reply[..answered.len.min(MESSAGE_SIZE)]));
            None
        })
    }

    /// Answers one query that has to wait. The reply is empty if there is nothing to say.
    pub async fn answer_late(self: Arc<Self>, client: Client, query: Box<[u8]>, pending: Pending) -> Part {
        let part = match pending {
            Pending::Others(place, asked) => {
                let response = respond(&self.core, &client, &query, Some(asked)).await;
                drop(place);
                let (answered, reply) = response.unzip();
                Part { answered, reply: reply.unwrap_or_default(), rest: None }
            }
            Pending::Zone(place) => {
                let part = Box::pin(transfer::respond(&self.core, &client, &query)).await;
                drop(place);
                part
            }
        };
        self.count(part.answered.as_ref());
        part
    }

    /// Answers one query. The reply is empty if there is nothing to say.
    pub async fn respond(self: &Arc<Self>, client: Client, query: &[u8]) -> Part {
        let mut reply = Vec::new();
        match self.answer(&client, query, &mut reply) {
            None => Part::whole(reply),
            Some(pending) => {
                let late = tokio::spawn(self.clone().answer_late(client, query.into(), pending)).await;
                late.unwrap_or_else(|_| Part::whole(Vec::new()))
            }
        }
    }

    fn count(&self, answered: Option<&Answered>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            None => writer.dropped(Dropped::Silent),
            Some(answered) => {
                writer.make_room(self.core.snapshot.load().view_labels().len());
                writer.answered(answered);
            }
        }
    }
}
