//! Deferred replies: answers to queries by UDP that must wait.

use super::{BATCH, ReturnPath, send_deferred};
use crate::{
    answer::{Client, Transport},
    forward::AdmissionPermit,
    listen::{
        Core,
        dispatch::{self, Arrival, Deferred, ReplyRecorder},
        workers::DropReason,
    },
    query_log::SMALL_RING_OCTETS,
};
use socket2::Socket;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::task::yield_now;

/// A query that must wait.
pub struct DeferredQuery {
    pub client: Client,
    pub query: Box<[u8]>,
    /// The time when it arrived.
    pub received: SystemTime,
    pub path: ReturnPath,
    /// The reason why it waits.
    pub deferred: Deferred,
}

/// The deferred replies of a socket. Replies that are ready at the same time are sent by one system call.
pub struct ReplyQueue {
    core: Arc<Core>,
    socket: Arc<Socket>,
    recorder: Mutex<ReplyRecorder>,
    replies: Mutex<Vec<DeferredReply>>,
}

/// A reply to a query that has waited.
pub struct DeferredReply {
    pub path: ReturnPath,
    pub reply: Vec<u8>,
    /// The slot of its query. It is held until the reply is sent, because a server that stops waits for all slots.
    _slot: Option<AdmissionPermit>,
}

impl ReplyQueue {
    /// A queue for the replies of a socket. `port` is the port of the listener.
    pub fn new(core: &Arc<Core>, socket: &Arc<Socket>, port: u16) -> Arc<ReplyQueue> {
        let recorder =
            Mutex::new(core.recorder(core.counters.workers.add_worker(Transport::Udp, None), SMALL_RING_OCTETS, port));
        Arc::new(ReplyQueue { core: core.clone(), socket: socket.clone(), recorder, replies: Mutex::default() })
    }

    /// Answers queries, each in a task of its own. A task of the runtime spawns them: that is cheaper than to spawn each one
    /// from this thread.
    pub fn answer_all(self: &Arc<Self>, queries: Vec<DeferredQuery>) {
        let this = self.clone();
        self.core.runtime.spawn(async move {
            for query in queries {
                tokio::spawn(this.clone().answer(query));
            }
        });
    }

    async fn answer(self: Arc<Self>, query: DeferredQuery) {
        let DeferredQuery { client, query, received, path, deferred } = query;
        let arrival = Arrival { client: &client, packet: &query, received };
        let completed = dispatch::complete(&self.core, &self.recorder, &arrival, deferred, |_| true).await;
        let Ok((part, slot)) = completed else { return };
        if part.reply.is_empty() {
            return;
        }
        match self.push(DeferredReply { path, reply: part.reply, _slot: slot }) {
            // Other tasks that are ready run first, and may add their replies.
            1 => {
                yield_now().await;
                self.send();
            }
            // A client with many queries has no buffer for more replies at once.
            BATCH.. => self.send(),
            _ => {}
        }
    }

    /// Adds a reply to the queue. Returns the length of the queue.
    fn push(&self, reply: DeferredReply) -> usize {
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        replies.push(reply);
        replies.len()
    }

    fn send(&self) {
        let mut replies = std::mem::take(&mut *self.replies.lock().unwrap_or_else(PoisonError::into_inner));
        let unsent = send_deferred(&self.socket, &mut replies);
        if unsent > 0 {
            let mut recorder = dispatch::lock(&self.recorder);
            (0..unsent).for_each(|_| recorder.counters.dropped(DropReason::Unsent));
        }
    }
}
