//! Answers the queries that do not come as packets: over connections, each from its own client.

use super::{Core, Ledger, answer_traced, bodies::Hall, respond};
use crate::clock::{random_seed, seconds};
use crate::{
    answer::{Answered, Client, Moment, Noted, Outcome, Transport, known::Asked},
    forward::{self, Response, Waiting},
    metrics::Dropped,
    query_log::{SMALL_RING, Said},
    transfer::{self, Part},
};
use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::SystemTime,
};
use tokio::sync::OwnedSemaphorePermit;

/// The longest message, in octets.
pub const MESSAGE_SIZE: usize = u16::MAX as usize;

thread_local! {
    /// Where an answer is made, and where is noted how. They are never held across an await.
    static REPLY: RefCell<(Vec<u8>, Noted)> = RefCell::new((vec![0; MESSAGE_SIZE], Noted::default()));
}

/// A query that has to wait, with the time when it came.
pub type Late = (Pending, SystemTime);

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
    /// Where the larger ones of them have room.
    pub hall: Hall,
    /// Locked for each count only; connections of several threads count in it.
    ledger: Mutex<Ledger>,
    draw: AtomicU32,
}

impl Responder {
    /// One for queries that arrive on a port, which has not answered anything yet.
    pub fn new(core: &Arc<Core>, transport: Transport, port: u16) -> Arc<Responder> {
        Arc::new(Responder {
            ledger: Mutex::new(core.ledger(core.metrics.writer(transport), SMALL_RING, port)),
            draw: AtomicU32::new(random_seed().0 as u32),
            transport,
            hall: Hall::default(),
            core: core.clone(),
        })
    }

    /// Answers one query, the answer going to the end of `output`, which is left as it is if there is nothing to say; or
    /// takes a place for it among those that wait.
    pub fn answer(&self, client: &Client, query: &[u8], output: &mut Vec<u8>) -> Option<Late> {
        let received = SystemTime::now();
        let moment = Moment { now: seconds(received), draw: self.draw.fetch_add(1, Relaxed) };
        let snapshot = self.core.snapshot.load();
        REPLY.with_borrow_mut(|(reply, noted)| {
            noted.clear();
            let cache = &self.core.forwarding.cache;
            let mut outcome = answer_traced(&snapshot, cache, client, moment, query, reply, noted);
            if let Outcome::Forward(forward) = &outcome {
                if let Some(place) = self.core.forwarding.wait(client, forward) {
                    return Some((Pending::Others(place, forward.to_asked()), received));
                }
                outcome = forward::fail(&snapshot, client, moment, query, reply, forward::NO_ROOM);
            }
            let answered = match outcome {
                Outcome::Reply(answered) => Some(answered),
                _ => None,
            };
            if answered.is_some_and(|answered| transfer::may_concern(answered.rcode, query))
                && let Some(place) = self.core.transfers.admit()
            {
                return Some((Pending::Zone(place), received));
            }
            if answered.is_some_and(|answered| answered.refresh) {
                forward::refresh(&self.core, client, query);
            }
            let mut ledger = self.count(answered.as_ref());
            if ledger.tap.make_ready(&snapshot) {
                let reply = answered.as_ref().map(|answered| (answered, &**reply));
                ledger.tap.log(&snapshot, &Said { noted, client, packet: query, received, reply });
            }
            drop(ledger);
            output.extend_from_slice(answered.map_or(&[], |answered| &reply[..answered.len.min(MESSAGE_SIZE)]));
            None
        })
    }

    /// Answers one query that has to wait. The reply is empty if there is nothing to say.
    pub async fn answer_late(self: Arc<Self>, client: Client, query: Box<[u8]>, late: Late) -> Part {
        let (pending, received) = late;
        match pending {
            Pending::Others(place, asked) => {
                let response = respond(&self.core, &client, &query, Some(asked), Some(&place)).await;
                drop(place);
                let mut ledger = self.count(response.as_ref().map(|response| &response.answered));
                let Some(response) = response else { return Part::whole(Vec::new()) };
                ledger.log(&client, &query, received, &response);
                Part { answered: Some(response.answered), reply: response.reply, rest: None }
            }
            Pending::Zone(place) => {
                let mut part = Box::pin(transfer::respond(&self.core, &client, &query)).await;
                drop(place);
                let mut ledger = self.count(part.answered.as_ref());
                if let Some(answered) = part.answered {
                    let reply = std::mem::take(&mut part.reply);
                    let response = Response::of_zone(&self.core, &client, &query, answered, reply);
                    ledger.log(&client, &query, received, &response);
                    part.reply = response.reply;
                }
                part
            }
        }
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

    /// Counts an answer. Returns the ledger, for what else is to be told.
    fn count(&self, answered: Option<&Answered>) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            None => ledger.writer.dropped(Dropped::Silent),
            Some(answered) => {
                ledger.writer.make_room(&self.core.snapshot.load());
                ledger.writer.answered(answered);
            }
        }
        ledger
    }
}
