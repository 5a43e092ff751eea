//! Answers queries that arrive over connections: TCP, TLS, HTTPS and QUIC. UDP has its own threads in [`udp`](super::udp).

use super::{
    Core,
    bodies::SharedBudget,
    connections::ConnectionState,
    dispatch::{self, Arrival, Decision, Deferred, ReplyRecorder},
    unread::Unread,
};
use crate::{
    answer::{Client, Moment, QueryLogTrace, Received, Transport},
    clock::{random_seed, seconds},
    query_log::SMALL_RING_OCTETS,
    transfer::Part,
    wire::query::LookupName,
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

/// The maximum length of a DNS message, in octets.
pub const MAX_MESSAGE_OCTETS: usize = u16::MAX as usize;

thread_local! {
    /// The buffer for an answer, and the trace of its steps. They are never held across an await.
    static REPLY: RefCell<(Vec<u8>, QueryLogTrace)> = RefCell::new((vec![0; MAX_MESSAGE_OCTETS], QueryLogTrace::default()));
}

/// The reason why a query is not answered yet.
pub enum Pending {
    /// The query waits for other servers or for a zone. It arrived at this time.
    Deferred(Deferred, SystemTime),
    /// The client has not read earlier replies. The number is the size of this reply, in octets.
    UnreadReplies(usize),
}

/// A reply. Its octets count as unread until the second part is dropped.
pub type Reply = (Part, Option<Unread>);

/// Answers, counts and logs the queries of one transport.
pub struct Responder {
    /// The state that all listeners share.
    pub core: Arc<Core>,
    /// The transport of the queries.
    pub transport: Transport,
    /// The budget for large queries of all connections.
    pub body_budget: SharedBudget,
    /// Connections of several threads record here. Locked for each record only.
    recorder: Mutex<ReplyRecorder>,
    draw: AtomicU32,
}

impl Responder {
    /// A responder for queries that arrive on a port.
    pub fn new(core: &Arc<Core>, transport: Transport, port: u16) -> Arc<Responder> {
        Arc::new(Responder {
            recorder: Mutex::new(core.recorder(
                core.counters.workers.add_worker(transport, None),
                SMALL_RING_OCTETS,
                port,
            )),
            draw: AtomicU32::new(random_seed().0 as u32),
            transport,
            body_budget: SharedBudget::default(),
            core: core.clone(),
        })
    }

    /// Answers one query: appends the reply to `output`, or nothing if the query gets no reply. If the query must wait, returns
    /// the reason. `has_room` says whether a reply of this length may be made.
    pub fn answer(
        &self,
        client: &Client,
        query: &[u8],
        output: &mut Vec<u8>,
        has_room: impl FnOnce(usize) -> bool,
    ) -> Option<Pending> {
        let received = SystemTime::now();
        let moment = Moment { now: seconds(received), draw: self.draw.fetch_add(1, Relaxed) };
        let snapshot = self.core.snapshot.load();
        REPLY.with_borrow_mut(|(reply, noted)| {
            noted.clear();
            let packet = Received { packet: query, name: &mut LookupName::root(), matched: None };
            let answered = match dispatch::decide(&self.core, &snapshot, client, moment, packet, reply, noted) {
                Decision::Defer(deferred) => return Some(Pending::Deferred(deferred, received)),
                Decision::Finish(answered) => answered,
            };
            if let Some(answered) = &answered
                && !has_room(answered.len)
            {
                return Some(Pending::UnreadReplies(answered.len));
            }
            let mut recorder = dispatch::lock(&self.recorder);
            recorder.prepare(&snapshot);
            let arrival = Arrival { client, packet: query, received };
            let answer = answered.map(|answered| (answered, &mut **reply));
            let len = recorder.finish(&self.core, &snapshot, &arrival, noted, answer);
            drop(recorder);
            output.extend_from_slice(&reply[..len.unwrap_or(0).min(MAX_MESSAGE_OCTETS)]);
            None
        })
    }

    /// Answers one query that must wait. The reply is empty if the query gets no reply. None if the client does not read earlier
    /// replies in time.
    pub async fn answer_pending(
        self: Arc<Self>,
        state: Arc<ConnectionState>,
        client: Client,
        query: Box<[u8]>,
        mut pending: Pending,
    ) -> Option<Reply> {
        let mut unread = None;
        loop {
            let octets = match pending {
                Pending::UnreadReplies(octets) => octets,
                Pending::Deferred(deferred, received) => {
                    let arrival = Arrival { client: &client, packet: &query, received };
                    let has_room = |octets| self.has_room(&state, octets, &mut unread);
                    match dispatch::complete(&self.core, &self.recorder, &arrival, deferred, has_room).await {
                        Ok((part, _slot)) => return Some((part, unread)),
                        Err(octets) => octets,
                    }
                }
            };
            drop(unread.take());
            let counted = Unread::wait(&self.core, &state, octets.min(MAX_MESSAGE_OCTETS));
            unread = timeout(self.core.connections.client_timeout, counted).await.ok().flatten();
            if unread.is_none() {
                self.core.timed_out("unread");
                return None;
            }
            let mut reply = Vec::new();
            match self.answer(&client, &query, &mut reply, |octets| self.has_room(&state, octets, &mut unread)) {
                None => return Some((Part::whole(reply), unread)),
                Some(next) => pending = next,
            }
        }
    }

    /// Counts the octets of a reply as unread, in place of `unread`. False if the client has too many unread octets.
    fn has_room(&self, state: &Arc<ConnectionState>, octets: usize, unread: &mut Option<Unread>) -> bool {
        if unread.as_ref().is_none_or(|unread| !unread.covers(octets)) {
            drop(unread.take());
            *unread = Unread::try_count(&self.core, state, octets.min(MAX_MESSAGE_OCTETS));
        }
        unread.is_some()
    }

    /// Answers one query, and waits where needed. The reply is empty if the query gets no reply. None if the client does not
    /// read earlier replies in time.
    pub async fn respond(
        self: &Arc<Self>,
        state: &Arc<ConnectionState>,
        client: Client,
        query: &[u8],
    ) -> Option<Reply> {
        let (mut reply, mut unread) = (Vec::new(), None);
        match self.answer(&client, query, &mut reply, |octets| self.has_room(state, octets, &mut unread)) {
            None => Some((Part::whole(reply), unread)),
            Some(pending) => {
                // The task continues when the client is gone: other clients may wait for the same answer.
                let pending =
                    tokio::spawn(self.clone().answer_pending(state.clone(), client, query.into(), pending)).await;
                pending.unwrap_or_else(|_| Some((Part::whole(Vec::new()), None)))
            }
        }
    }
}
