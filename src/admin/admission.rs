//! Admission of connections to the admin API. Slow clients must not delay others, least of all probes.
//!
//! A connection first has a short slot. When all short slots are taken, a new connection displaces one that has sent no request
//! yet, or takes too long: of the client that has most. A long request moves to a long slot.

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

/// The maximum number of connections with a short request, or without a request yet.
const MAX_SHORT: usize = 64;
/// The maximum number of connections with a long request, in all and of one client.
const MAX_LONG: usize = 48;
pub(super) const MAX_LONG_PER_CLIENT: usize = 32;
/// The maximum number of connections, with one that waits for a slot.
pub const MAX_CONNECTIONS: usize = MAX_SHORT + MAX_LONG + 1;
/// The time in which a connection with a short request is not displaced.
const REQUEST_GRACE: Duration = Duration::from_secs(1);

/// The admitted connections.
#[derive(Default)]
pub(super) struct Admission {
    admitted: Mutex<Vec<Arc<Admitted>>>,
    freed: Notify,
}

struct Admitted {
    client: IpAddr,
    since: Instant,
    is_requested: AtomicBool,
    is_long: AtomicBool,
    displaced: Notify,
}

impl Admission {
    fn admitted(&self) -> MutexGuard<'_, Vec<Arc<Admitted>>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot, and admits a connection.
    pub async fn admit(self: &Arc<Self>, client: IpAddr) -> AdmissionGuard {
        let client = limited_prefix(client.to_canonical());
        loop {
            let next = match self.find_slot() {
                Ok(mut admitted) => {
                    let (is_requested, is_long) = (AtomicBool::new(false), AtomicBool::new(false));
                    let new =
                        Admitted { client, since: Instant::now(), is_requested, is_long, displaced: Notify::new() };
                    let new = Arc::new(new);
                    admitted.push(new.clone());
                    return AdmissionGuard(AdmissionHandle { admission: self.clone(), admitted: new });
                }
                Err(next) => next,
            };
            let _ = timeout_at(next, self.freed.notified()).await;
        }
    }

    /// The admitted connections, with a free slot. The error is the time of the next attempt.
    fn find_slot(&self) -> Result<MutexGuard<'_, Vec<Arc<Admitted>>>, Instant> {
        let mut admitted = self.admitted();
        let short: Vec<_> = admitted.iter().filter(|other| !other.is_long.load(Relaxed)).cloned().collect();
        if short.len() < MAX_SHORT {
            return Ok(admitted);
        }
        let count = |client: IpAddr| short.iter().filter(|other| other.client == client).count();
        let may_displace =
            |other: &&Arc<Admitted>| !other.is_requested.load(Relaxed) || other.since.elapsed() >= REQUEST_GRACE;
        let victim = short.iter().filter(may_displace).max_by_key(|other| (count(other.client), Reverse(other.since)));
        match victim {
            Some(victim) => {
                admitted.retain(|other| !Arc::ptr_eq(other, victim));
                victim.displaced.notify_one();
                Ok(admitted)
            }
            None => Err(short.iter().map(|other| other.since).min().unwrap_or_else(Instant::now) + REQUEST_GRACE),
        }
    }
}

/// The admission of a connection, for its request.
#[derive(Clone)]
pub(super) struct AdmissionHandle {
    admission: Arc<Admission>,
    admitted: Arc<Admitted>,
}

impl AdmissionHandle {
    /// Notes that the request has arrived.
    pub fn set_requested(&self) {
        self.admitted.is_requested.store(true, Relaxed);
    }

    /// Moves the connection to a long slot. False if none is free for its client.
    pub fn try_extend(&self) -> bool {
        let admitted = self.admission.admitted();
        let is_here = admitted.iter().any(|other| Arc::ptr_eq(other, &self.admitted));
        let long = || admitted.iter().filter(|other| other.is_long.load(Relaxed));
        let of_client = long().filter(|other| other.client == self.admitted.client).count();
        let may = is_here && long().count() < MAX_LONG && of_client < MAX_LONG_PER_CLIENT;
        if may {
            self.admitted.is_long.store(true, Relaxed);
            self.admission.freed.notify_one();
        }
        may
    }

    /// Whether the connection has a long slot.
    pub fn is_long(&self) -> bool {
        self.admitted.is_long.load(Relaxed)
    }
}

/// An admitted connection. It has its slot until this is dropped.
pub(super) struct AdmissionGuard(AdmissionHandle);

impl AdmissionGuard {
    /// The handle for the request of the connection.
    pub fn handle(&self) -> &AdmissionHandle {
        &self.0
    }

    /// Serves the connection until it ends or is displaced.
    pub async fn serve(self, serve: impl Future<Output = ()>) {
        tokio::select! {
            () = self.0.admitted.displaced.notified() => {}
            () = serve => {}
        }
    }
}

impl Drop for AdmissionGuard {
    fn drop(&mut self) {
        self.0.admission.admitted().retain(|other| !Arc::ptr_eq(other, &self.0.admitted));
        self.0.admission.freed.notify_one();
    }
}
