//! Who is served by the admin API at the same time, so that nobody keeps others, and probes least of all, from being served.
//!
//! There are places for requests that are answered soon. Where all are taken, a new connection gets the place of one that has
//! asked for nothing yet, or takes too long, of whoever has most. What takes its time has places of its own.

use crate::wire::subnet::limited_prefix;
use std::{
    cmp::Reverse,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Connections whose request is yet to come, or answered soon.
const SHORT: usize = 64;
/// Connections that send a change, follow the generations, or get a manifest; and how many of them one client may have.
const LONG: usize = 48;
pub(super) const LONG_PER_CLIENT: usize = 32;
/// Connections at the same time; one more waits.
pub const CONNECTIONS: usize = SHORT + LONG + 1;
/// What has been asked for is answered for so long, whoever waits for the place.
const GRACE: Duration = Duration::from_secs(1);

/// The places.
#[derive(Default)]
pub(super) struct Places {
    taken: Mutex<Vec<Arc<Taken>>>,
    freed: Notify,
}

struct Taken {
    client: IpAddr,
    since: Instant,
    has_asked: AtomicBool,
    is_long: AtomicBool,
    displaced: Notify,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Taken>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection, as soon as there is one.
    pub async fn take(self: &Arc<Self>, client: IpAddr) -> Place {
        let client = limited_prefix(client.to_canonical());
        loop {
            let next = match self.make_room() {
                Ok(mut taken) => {
                    let (has_asked, is_long) = (AtomicBool::new(false), AtomicBool::new(false));
                    let new = Taken { client, since: Instant::now(), has_asked, is_long, displaced: Notify::new() };
                    let new = Arc::new(new);
                    taken.push(new.clone());
                    return Place(Turn { places: self.clone(), taken: new });
                }
                Err(next) => next,
            };
            let _ = timeout_at(next, self.freed.notified()).await;
        }
    }

    /// What is taken, with room for one more; or when there may be some.
    fn make_room(&self) -> Result<MutexGuard<'_, Vec<Arc<Taken>>>, Instant> {
        let mut taken = self.taken();
        let short: Vec<_> = taken.iter().filter(|other| !other.is_long.load(Relaxed)).cloned().collect();
        if short.len() < SHORT {
            return Ok(taken);
        }
        let count = |client: IpAddr| short.iter().filter(|other| other.client == client).count();
        let has_to_go = |other: &&Arc<Taken>| !other.has_asked.load(Relaxed) || other.since.elapsed() >= GRACE;
        let victim = short.iter().filter(has_to_go).max_by_key(|other| (count(other.client), Reverse(other.since)));
        match victim {
            Some(victim) => {
                taken.retain(|other| !Arc::ptr_eq(other, victim));
                victim.displaced.notify_one();
                Ok(taken)
            }
            None => Err(short.iter().map(|other| other.since).min().unwrap_or_else(Instant::now) + GRACE),
        }
    }
}

/// A connection's turn, as its request sees it.
#[derive(Clone)]
pub(super) struct Turn {
    places: Arc<Places>,
    taken: Arc<Taken>,
}

impl Turn {
    /// The request has come.
    pub fn has_asked(&self) {
        self.taken.has_asked.store(true, Relaxed);
    }

    /// Whether the answer may take its time, for which there has to be a place.
    pub fn takes_long(&self) -> bool {
        let taken = self.places.taken();
        let is_here = taken.iter().any(|other| Arc::ptr_eq(other, &self.taken));
        let long = || taken.iter().filter(|other| other.is_long.load(Relaxed));
        let of_client = long().filter(|other| other.client == self.taken.client).count();
        let may = is_here && long().count() < LONG && of_client < LONG_PER_CLIENT;
        if may {
            self.taken.is_long.store(true, Relaxed);
            self.places.freed.notify_one();
        }
        may
    }

    /// Whether it does.
    pub fn is_long(&self) -> bool {
        self.taken.is_long.load(Relaxed)
    }
}

/// A connection's place.
pub(super) struct Place(Turn);

impl Place {
    /// The turn of the connection that has this place.
    pub fn turn(&self) -> &Turn {
        &self.0
    }

    /// Serves the connection, unless another one gets its place.
    pub async fn serve(self, serve: impl Future<Output = ()>) {
        tokio::select! {
            () = self.0.taken.displaced.notified() => {}
            () = serve => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.taken().retain(|other| !Arc::ptr_eq(other, &self.0.taken));
        self.0.places.freed.notify_one();
    }
}
