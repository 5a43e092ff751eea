//! Bounds on the octets of replies that clients have not read.
//!
//! A connection has at most [`MAX_OCTETS_PER_CONNECTION`] of them. A reply beyond that is discarded, and its query is answered
//! again when the client has read some. All connections together have at most [`MAX_OCTETS`]. Beyond that, zonal closes the
//! connection whose client has read nothing for the longest time. So a client that reads is served, however many others do not.

use super::{
    Core,
    connections::{ConnectionState, Connections},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The maximum octets of unread replies of a connection. The longest reply has 64 KiB.
pub const MAX_OCTETS_PER_CONNECTION: usize = 256 << 10;
/// The maximum octets of unread replies of all connections.
const MAX_OCTETS: usize = 64 << 20;

/// The unread replies of a connection.
pub struct Backlog {
    permits: Arc<Semaphore>,
    octets: AtomicUsize,
    /// The time when the client last read a reply, or when the backlog became non-empty.
    progress: Mutex<Instant>,
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog {
            permits: Arc::new(Semaphore::new(MAX_OCTETS_PER_CONNECTION)),
            octets: AtomicUsize::new(0),
            progress: Mutex::new(Instant::now()),
        }
    }
}

impl Backlog {
    /// The time since which the client has read nothing. None if there is nothing to read.
    pub fn stalled_since(&self) -> Option<Instant> {
        let is_empty = self.octets.load(Relaxed) == 0;
        (!is_empty).then(|| *self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the number of octets to 0, and returns it: the connection is closed.
    pub fn take_octets(&self) -> usize {
        self.octets.swap(0, Relaxed)
    }

    /// Ends the wait of all queries of the connection, which has ended.
    pub fn close(&self) {
        self.permits.close();
    }

    fn note_progress(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Octets in the backlog of a connection. They count until this is dropped.
pub struct Unread {
    connections: Arc<Connections>,
    state: Arc<ConnectionState>,
    octets: usize,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Unread {
    /// Counts octets of replies that are made already, also above the limit of the connection.
    pub fn count(core: &Core, state: &Arc<ConnectionState>, octets: usize) -> Unread {
        Unread::new(core, state, octets, None)
    }

    /// Counts the octets of a reply. None if that would exceed the limit of the connection.
    pub fn try_count(core: &Core, state: &Arc<ConnectionState>, octets: usize) -> Option<Unread> {
        let permits = state.backlog.permits.clone().try_acquire_many_owned(octets as u32).ok()?;
        Some(Unread::new(core, state, octets, Some(permits)))
    }

    /// Waits until the octets of a reply are within the limit of the connection. None if the connection ends before.
    pub async fn wait(core: &Core, state: &Arc<ConnectionState>, octets: usize) -> Option<Unread> {
        let permits = state.backlog.permits.clone().acquire_many_owned(octets as u32).await.ok()?;
        Some(Unread::new(core, state, octets, Some(permits)))
    }

    /// Whether these octets cover a reply of this length.
    pub fn covers(&self, octets: usize) -> bool {
        octets <= self.octets
    }

    fn new(core: &Core, state: &Arc<ConnectionState>, octets: usize, permits: Option<OwnedSemaphorePermit>) -> Unread {
        let (connections, state) = (core.connections.clone(), state.clone());
        if state.backlog.octets.fetch_add(octets, Relaxed) == 0 {
            state.backlog.note_progress();
        }
        if connections.unread.fetch_add(octets, Relaxed) + octets > MAX_OCTETS && connections.close_stalled() {
            core.timed_out("unread");
        }
        Unread { connections, state, octets, _permit: permits }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // The octets of a closed connection are subtracted already.
        let before =
            self.state.backlog.octets.fetch_update(Relaxed, Relaxed, |all| Some(all.saturating_sub(self.octets)));
        self.connections.unread.fetch_sub(before.unwrap_or(0).min(self.octets), Relaxed);
        self.state.backlog.note_progress();
    }
}

/// A reply whose octets count as unread until it is dropped.
pub struct CountedReply {
    /// The message.
    pub reply: Vec<u8>,
    /// Its octets in the backlog.
    pub unread: Option<Unread>,
}

impl AsRef<[u8]> for CountedReply {
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
    fn limits_the_unread_octets_of_a_connection() {
        let core = core(&limits());
        let guard = core.admit(IpAddr::from([10, 0, 0, 1]), false).unwrap();
        let state = guard.state().clone();
        let mut unread: Vec<_> = std::iter::from_fn(|| Unread::try_count(&core, &state, 60_000)).collect();
        assert_eq!(unread.len(), MAX_OCTETS_PER_CONNECTION / 60_000);
        assert!(Unread::try_count(&core, &state, 1000).is_some(), "a small reply is within the limit");
        let mut waits = Box::pin(Unread::wait(&core, &state, 60_000));
        assert!(waits.as_mut().now_or_never().is_none());
        unread.pop();
        assert!(waits.now_or_never().flatten().is_some_and(|unread| unread.covers(60_000)));
        drop(unread);
        assert_eq!(core.connections.unread.load(Relaxed), 0);
        assert!(state.backlog.stalled_since().is_none());
        let all = Unread::try_count(&core, &state, MAX_OCTETS_PER_CONNECTION);
        let waits = Box::pin(Unread::wait(&core, &state, 1));
        drop(guard);
        assert!(waits.now_or_never().unwrap().is_none(), "a connection that has ended");
        drop(all);
    }

    #[test]
    fn closes_the_connection_that_reads_nothing_beyond_the_limit_of_all() {
        let core = core(&limits());
        let guards: Vec<_> = (0..10).map(|n| core.admit(IpAddr::from([10, 0, 0, n]), false).unwrap()).collect();
        let octets = MAX_OCTETS / 10;
        let mut unread: Vec<_> = guards.iter().map(|guard| Unread::count(&core, guard.state(), octets)).collect();
        // The first client reads, and gets more replies then.
        drop(unread.remove(0));
        unread.extend((0..2).map(|_| Unread::count(&core, guards[0].state(), octets)));
        assert!(core.connections.unread.load(Relaxed) <= MAX_OCTETS);
        let is_closed: Vec<bool> = guards
            .iter()
            .map(|guard| guard.state().clone().until_displaced(std::future::pending()).now_or_never().is_some())
            .collect();
        let closed: Vec<usize> = (0..10).filter(|n| is_closed[*n]).collect();
        assert_eq!(closed, [1], "the client that has read nothing for the longest time");
        assert!(page(&core).contains("zonal_tcp_timeouts_total{reason=\"unread\"} 1\n"));
        drop((unread, guards));
        assert_eq!(core.connections.unread.load(Relaxed), 0);
    }
}
