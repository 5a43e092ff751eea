//! Answers the queries that do not come as packets: over connections, each from its own client.

use super::{
    Core,
    bodies::Hall,
    connections::Held,
    dispatch::{self, Arrival, Decision, Deferred, Ledger},
    unread::Unread,
};
use crate::{
    answer::{Client, Moment, QueryLogTrace, Transport},
    clock::{random_seed, seconds},
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
use tokio::time::timeout;

/// The longest message, in octets.
pub const MESSAGE_SIZE: usize = u16::MAX as usize;

thread_local! {
    /// Where an answer is made, and where is noted how. They are never held across an await.
    static REPLY: RefCell<(Vec<u8>, QueryLogTrace)> = RefCell::new((vec![0; MESSAGE_SIZE], QueryLogTrace::default()));
}

/// What a query waits for.
pub enum Late {
    /// Others, since it came at this time.
    Deferred(Deferred, SystemTime),
    /// Room for a reply of so many octets among those that the client has not read yet.
    Room(usize),
}

/// A reply, which counts as unread until the second is dropped.
pub type Reply = (Part, Option<Unread>);

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
            ledger: Mutex::new(core.ledger(core.counters.workers.writer(transport, None), SMALL_RING, port)),
            draw: AtomicU32::new(random_seed().0 as u32),
            transport,
            hall: Hall::default(),
            core: core.clone(),
        })
    }

    /// Answers one query, the answer going to the end of `output`, which is left as it is if there is nothing to say; or
    /// finds out what it has to wait for. `has_room` tells whether a reply of this length may be made.
    pub fn answer(
        &self,
        client: &Client,
        query: &[u8],
        output: &mut Vec<u8>,
        has_room: impl FnOnce(usize) -> bool,
    ) -> Option<Late> {
        let received = SystemTime::now();
        let moment = Moment { now: seconds(received), draw: self.draw.fetch_add(1, Relaxed) };
        let snapshot = self.core.snapshot.load();
        REPLY.with_borrow_mut(|(reply, noted)| {
            noted.clear();
            let answered = match dispatch::decide(&self.core, &snapshot, client, moment, query, reply, noted) {
                Decision::Defer(deferred) => return Some(Late::Deferred(deferred, received)),
                Decision::Finish(answered) => answered,
            };
            if let Some(answered) = &answered
                && !has_room(answered.len)
            {
                return Some(Late::Room(answered.len));
            }
            let mut ledger = dispatch::lock(&self.ledger);
            ledger.prepare(&snapshot);
            let arrival = Arrival { client, packet: query, received };
            let reply_and = answered.map(|answered| (answered, &mut **reply));
            let len = ledger.finish(&self.core, &snapshot, &arrival, noted, reply_and);
            drop(ledger);
            output.extend_from_slice(&reply[..len.unwrap_or(0).min(MESSAGE_SIZE)]);
            None
        })
    }

    /// Answers one query that has to wait. The reply is empty if there is nothing to say; none if the client does not read
    /// earlier ones.
    pub async fn answer_late(
        self: Arc<Self>,
        held: Arc<Held>,
        client: Client,
        query: Box<[u8]>,
        mut late: Late,
    ) -> Option<Reply> {
        let mut unread = None;
        loop {
            let octets = match late {
                Late::Room(octets) => octets,
                Late::Deferred(deferred, received) => {
                    let arrival = Arrival { client: &client, packet: &query, received };
                    let has_room = |octets| self.has_room(&held, octets, &mut unread);
                    match dispatch::complete(&self.core, &self.ledger, &arrival, deferred, has_room).await {
                        Ok((part, _slot)) => return Some((part, unread)),
                        Err(octets) => octets,
                    }
                }
            };
            drop(unread.take());
            let room = Unread::wait(&self.core, &held, octets.min(MESSAGE_SIZE));
            unread = timeout(self.core.connections.patience, room).await.ok().flatten();
            if unread.is_none() {
                self.core.timed_out("unread");
                return None;
            }
            let mut reply = Vec::new();
            match self.answer(&client, &query, &mut reply, |octets| self.has_room(&held, octets, &mut unread)) {
                None => return Some((Part::whole(reply), unread)),
                Some(next) => late = next,
            }
        }
    }

    /// Whether a reply has room among the unread ones, in what it already has or in more.
    fn has_room(&self, held: &Arc<Held>, octets: usize, unread: &mut Option<Unread>) -> bool {
        if unread.as_ref().is_none_or(|unread| !unread.holds(octets)) {
            drop(unread.take());
            *unread = Unread::try_count(&self.core, held, octets.min(MESSAGE_SIZE));
        }
        unread.is_some()
    }

    /// Answers one query. The reply is empty if there is nothing to say; none if the client does not read earlier ones.
    pub async fn respond(self: &Arc<Self>, held: &Arc<Held>, client: Client, query: &[u8]) -> Option<Reply> {
        let (mut reply, mut unread) = (Vec::new(), None);
        match self.answer(&client, query, &mut reply, |octets| self.has_room(held, octets, &mut unread)) {
            None => Some((Part::whole(reply), unread)),
            Some(late) => {
                // Others may wait for what this client asks for, when it is gone.
                let late = tokio::spawn(self.clone().answer_late(held.clone(), client, query.into(), late)).await;
                late.unwrap_or_else(|_| Some((Part::whole(Vec::new()), None)))
            }
        }
    }
}
