//! Answers to queries that had to wait.

use super::{BATCH, ReturnPath, send_letters};
use crate::{
    answer::{Client, Transport},
    forward::AdmissionPermit,
    listen::{
        Core,
        dispatch::{self, Arrival, Deferred, Ledger},
        workers::Dropped,
    },
    query_log::SMALL_RING,
};
use socket2::Socket;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::task::yield_now;

/// A query that has to wait.
pub struct Late {
    pub client: Client,
    pub query: Box<[u8]>,
    /// When it came.
    pub received: SystemTime,
    pub path: ReturnPath,
    /// What it waits for.
    pub deferred: Deferred,
}

/// Where the late answers of a socket go out: those that are ready at the same time go together.
pub struct Outbox {
    core: Arc<Core>,
    socket: Arc<Socket>,
    ledger: Mutex<Ledger>,
    letters: Mutex<Vec<Letter>>,
}

/// An answer on its way.
pub struct Letter {
    pub path: ReturnPath,
    pub reply: Vec<u8>,
    /// The slot of its query is kept until it is sent: who stops waits for that.
    _slot: Option<AdmissionPermit>,
}

impl Outbox {
    /// That of a socket, on this port.
    pub fn new(core: &Arc<Core>, socket: &Arc<Socket>, port: u16) -> Arc<Outbox> {
        let ledger = Mutex::new(core.ledger(core.counters.workers.writer(Transport::Udp, None), SMALL_RING, port));
        Arc::new(Outbox { core: core.clone(), socket: socket.clone(), ledger, letters: Mutex::default() })
    }

    /// Has queries answered, each in a task of its own. The tasks are made where they run: that is cheaper.
    pub fn take_up(self: &Arc<Self>, queries: Vec<Late>) {
        let this = self.clone();
        self.core.runtime.spawn(async move {
            for late in queries {
                tokio::spawn(this.clone().answer(late));
            }
        });
    }

    async fn answer(self: Arc<Self>, late: Late) {
        let Late { client, query, received, path, deferred } = late;
        let arrival = Arrival { client: &client, packet: &query, received };
        let completed = dispatch::complete(&self.core, &self.ledger, &arrival, deferred, |_| true).await;
        let Ok((part, slot)) = completed else { return };
        if part.reply.is_empty() {
            return;
        }
        match self.post(Letter { path, reply: part.reply, _slot: slot }) {
            // Everything else that is ready has its turn first.
            1 => {
                yield_now().await;
                self.send();
            }
            // More at once, and a client that asks much has no room for them.
            BATCH.. => self.send(),
            _ => {}
        }
    }

    /// Puts an answer among those to send. Returns how many there are then.
    fn post(&self, letter: Letter) -> usize {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(letter);
        letters.len()
    }

    fn send(&self) {
        let mut letters = std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner));
        let unsent = send_letters(&self.socket, &mut letters);
        if unsent > 0 {
            let mut ledger = dispatch::lock(&self.ledger);
            (0..unsent).for_each(|_| ledger.writer.dropped(Dropped::Unsent));
        }
    }
}
