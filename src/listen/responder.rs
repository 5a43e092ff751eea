//! Answers the queries that do not come as packets: over connections, each from its own client.

use super::{
    Core,
    bodies::Hall,
    dispatch::{self, Arrival, Decision, Deferred, Ledger},
    random_seed, seconds,
};
use crate::{
    answer::{Client, Moment, Noted, Transport},
    query_log::SMALL_RING,
    transfer::Part,
};
use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::SystemTime,
};

/// The longest message, in octets.
pub const MESSAGE_SIZE: usize = u16::MAX as usize;

thread_local! {
    /// Where an answer is made, and where is noted how. They are never held across an await.
    static REPLY: RefCell<(Vec<u8>, Noted)> = RefCell::new((vec![0; MESSAGE_SIZE], Noted::default()));
}

/// What a query waits for, with the time when it came.
pub type Late = (Deferred, SystemTime);

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
    /// One that has not answered anything yet.
    pub fn new(core: &Arc<Core>, transport: Transport) -> Arc<Responder> {
        Arc::new(Responder {
            ledger: Mutex::new(core.ledger(core.metrics.writer(transport), SMALL_RING)),
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
            let answered = match dispatch::decide(&self.core, &snapshot, client, moment, query, reply, noted) {
                Decision::Defer(deferred) => return Some((deferred, received)),
                Decision::Finish(answered) => answered,
            };
            let mut ledger = dispatch::lock(&self.ledger);
            ledger.prepare(&snapshot);
            let arrival = Arrival { client, packet: query, received };
            let len = ledger.finish(
                &self.core,
                &snapshot,
                &arrival,
                noted,
                answered.map(|answered| (answered, &mut **reply)),
            );
            drop(ledger);
            output.extend_from_slice(&reply[..len.unwrap_or(0).min(MESSAGE_SIZE)]);
            None
        })
    }

    /// Answers one query that has to wait. The reply is empty if there is nothing to say.
    pub async fn answer_late(self: Arc<Self>, client: Client, query: Box<[u8]>, late: Late) -> Part {
        let (deferred, received) = late;
        let arrival = Arrival { client: &client, packet: &query, received };
        dispatch::complete(&self.core, &self.ledger, &arrival, deferred).await.0
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
}
