//! Bounds on the octets of replies that clients have not read.
//!
//! A connection has at most [`MAX_OF_CONNECTION`] of them: a reply beyond that is discarded, and its query is answered again
//! when the client has read some. All connections together have at most [`MAX_OF_ALL`]: beyond that, the connection that has
//! read nothing for the longest time is closed. So a client that reads is served, however many others do not.

use super::{
    Core,
    connections::{Connections, Held},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Octets of unread replies per connection. The longest reply has 64 kB.
pub const MAX_OF_CONNECTION: usize = 256 << 10;
/// Octets of unread replies in all connections.
const MAX_OF_ALL: usize = 64 << 20;

/// The unread replies of a connection.
pub struct Backlog {
    room: Arc<Semaphore>,
    octets: AtomicUsize,
    /// When the client last read something, or began to have something to read.
    progress: Mutex<Instant>,
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog {
            room: Arc::new(Semaphore::new(MAX_OF_CONNECTION)),
            octets: AtomicUsize::new(0),
            progress: Mutex::new(Instant::now()),
        }
    }
}

impl Backlog {
    /// Since when the client has read nothing; none if there is nothing to read.
    pub fn stalled_since(&self) -> Option<Instant> {
        let is_empty = self.octets.load(Relaxed) == 0;
        (!is_empty).then(|| *self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does not count the octets any more: the connection is closed.
    pub fn forget(&self) -> usize {
        self.octets.swap(0, Relaxed)
    }

    /// Queries that wait for room wait no longer: the connection has ended.
    pub fn close(&self) {
        self.room.close();
    }

    fn note_progress(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A part of a connection's backlog: it counts until this is dropped.
pub struct Unread {
    connections: Arc<Connections>,
    held: Arc<Held>,
    octets: usize,
    _room: Option<OwnedSemaphorePermit>,
}

impl Unread {
    /// Counts octets that are there already, without a bound for the connection.
    pub fn count(core: &Core, held: &Arc<Held>, octets: usize) -> Unread {
        Unread::new(core, held, octets, None)
    }

    /// Counts a reply, if the connection has room for it.
    pub fn try_count(core: &Core, held: &Arc<Held>, octets: usize) -> Option<Unread> {
        let room = held.backlog.room.clone().try_acquire_many_owned(octets as u32).ok()?;
        Some(Unread::new(core, held, octets, Some(room)))
    }

    /// Waits until the connection has room for a reply; none if the connection ends before.
    pub async fn wait(core: &Core, held: &Arc<Held>, octets: usize) -> Option<Unread> {
        let room = held.backlog.room.clone().acquire_many_owned(octets as u32).await.ok()?;
        Some(Unread::new(core, held, octets, Some(room)))
    }

    /// Whether it has room for a reply of this length.
    pub fn holds(&self, octets: usize) -> bool {
        octets <= self.octets
    }

    fn new(core: &Core, held: &Arc<Held>, octets: usize, room: Option<OwnedSemaphorePermit>) -> Unread {
        let (connections, held) = (core.connections.clone(), held.clone());
        if held.backlog.octets.fetch_add(octets, Relaxed) == 0 {
            held.backlog.note_progress();
        }
        if connections.unread.fetch_add(octets, Relaxed) + octets > MAX_OF_ALL && connections.close_stalled() {
            core.timed_out("unread");
        }
        Unread { connections, held, octets, _room: room }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // What a closed connection had is counted as gone already.
        let before =
            self.held.backlog.octets.fetch_update(Relaxed, Relaxed, |all| Some(all.saturating_sub(self.octets)));
        self.connections.unread.fetch_sub(before.unwrap_or(0).min(self.octets), Relaxed);
        self.held.backlog.note_progress();
    }
}

/// A reply that counts as unread as long as somebody holds its octets.
pub struct Counted {
    pub reply: Vec<u8>,
    pub unread: Option<Unread>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::tests::{core, limits, page};
    use futures_util::FutureExt;
    use std::net::IpAddr;

    #[test]
    fn a_connection_has_room_for_so_many_unread_octets() {
        let core = core(&limits());
        let place = core.admit(IpAddr::from([10, 0, 0, 1]), false).unwrap();
        let held = place.held().clone();
        let mut unread: Vec<_> = std::iter::from_fn(|| Unread::try_count(&core, &held, 60_000)).collect();
        assert_eq!(unread.len(), MAX_OF_CONNECTION / 60_000);
        assert!(Unread::try_count(&core, &held, 1000).is_some(), "a small one has room");
        let mut waits = Box::pin(Unread::wait(&core, &held, 60_000));
        assert!(waits.as_mut().now_or_never().is_none());
        unread.pop();
        assert!(waits.now_or_never().flatten().is_some_and(|unread| unread.holds(60_000)));
        drop(unread);
        assert_eq!(core.connections.unread.load(Relaxed), 0);
        assert!(held.backlog.stalled_since().is_none());
        let all = Unread::try_count(&core, &held, MAX_OF_CONNECTION);
        let waits = Box::pin(Unread::wait(&core, &held, 1));
        drop(place);
        assert!(waits.now_or_never().unwrap().is_none(), "a connection that has ended");
        drop(all);
    }

    #[test]
    fn beyond_the_bound_of_all_the_connection_that_reads_nothing_is_closed() {
        let core = core(&limits());
        let places: Vec<_> = (0..10).map(|n| core.admit(IpAddr::from([10, 0, 0, n]), false).unwrap()).collect();
        let octets = MAX_OF_ALL / 10;
        let mut unread: Vec<_> = places.iter().map(|place| Unread::count(&core, place.held(), octets)).collect();
        // The first one reads, and has more to read then.
        drop(unread.remove(0));
        unread.extend((0..2).map(|_| Unread::count(&core, places[0].held(), octets)));
        assert!(core.connections.unread.load(Relaxed) <= MAX_OF_ALL);
        let is_closed: Vec<bool> = places
            .iter()
            .map(|place| place.held().clone().until_displaced(std::future::pending()).now_or_never().is_some())
            .collect();
        let closed: Vec<usize> = (0..10).filter(|n| is_closed[*n]).collect();
        assert_eq!(closed, [1], "the one that has read nothing for the longest time");
        assert!(page(&core).contains("zonal_tcp_timeouts_total{reason=\"unread\"} 1\n"));
        drop((unread, places));
        assert_eq!(core.connections.unread.load(Relaxed), 0);
    }
}
