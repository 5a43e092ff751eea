//! Answers to queries that had to wait.

use super::{BATCH, ReturnPath, apply_limit, is_limited, send_letters};
use crate::{
    answer::{Client, Transport},
    forward::{Response, Waiting},
    listen::{Core, Ledger, respond, responder::Pending},
    metrics::Dropped,
    query_log::SMALL_RING,
    transfer::{self, Part},
};
use socket2::Socket;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    pub pending: Pending,
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
    /// The place of its query is kept until it is gone: who stops waits for that.
    _place: Option<Waiting>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// That of a socket, on this port.
    pub fn new(core: &Arc<Core>, socket: &Arc<Socket>, port: u16) -> Arc<Outbox> {
        let ledger = Mutex::new(core.ledger(core.metrics.writer(Transport::Udp), SMALL_RING, port));
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
        let Late { client, query, received, path, pending } = late;
        let (response, place) = match pending {
            Pending::Others(place, asked) => {
                (respond(&self.core, &client, &query, Some(asked), Some(&place)).await, Some(place))
            }
            Pending::Zone(_place) => {
                let Part { answered, reply, .. } = Box::pin(transfer::respond(&self.core, &client, &query)).await;
                (answered.map(|answered| Response::of_zone(&self.core, &client, &query, answered, reply)), None)
            }
        };
        let reply = {
            let mut ledger = lock(&self.ledger);
            let Some(response) = response else { return ledger.writer.dropped(Dropped::Silent) };
            ledger.log(&client, &query, received, &response);
            let (writer, Response { mut answered, mut reply, .. }) = (&mut ledger.writer, response);
            if is_limited(&answered) && !apply_limit(&self.core, writer, client.source, &mut answered, &mut reply) {
                return;
            }
            writer.make_room(&self.core.snapshot.load());
            writer.answered(&answered);
            reply.truncate(answered.len);
            reply
        };
        match self.post(Letter { path, reply, _place: place }) {
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
        let mut letters = lock(&self.letters);
        letters.push(letter);
        letters.len()
    }

    fn send(&self) {
        let mut letters = std::mem::take(&mut *lock(&self.letters));
        let unsent = send_letters(&self.socket, &mut letters);
        if unsent > 0 {
            let mut ledger = lock(&self.ledger);
            (0..unsent).for_each(|_| ledger.writer.dropped(Dropped::Unsent));
        }
    }
}
