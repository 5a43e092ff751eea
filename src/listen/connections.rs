//! The open connections of all transports: their limits, their owners, and their end. The transports themselves are in other
//! modules.
//!
//! Above the limit of all connections, the longest idle one is closed. Clients that send queries keep their connections,
//! however many addresses an attacker has for idle ones.

use super::{Core, Limits, unread::Backlog};
use crate::wire::subnet::limited_prefix;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// The open connections.
pub struct Connections {
    /// The maximum time that a connection is idle, a message takes to arrive, and a client takes to read a reply.
    pub client_timeout: Duration,
    max: usize,
    max_per_client: usize,
    open: Mutex<Open>,
    /// Octets of replies that clients have not read yet.
    pub(super) unread: AtomicUsize,
    phase: watch::Sender<Phase>,
    /// Every connection holds a receiver. When all receivers are dropped, all connections have ended.
    alive: watch::Sender<()>,
}

/// The phase of the server, which decides when connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connections stay open.
    Open,
    /// A connection ends when it becomes idle. No new ones are accepted.
    Draining,
    /// A connection ends when the queries that were read are answered.
    Stopped,
}

/// The owner of connections that count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Client(IpAddr),
    /// A forwarder whose PROXY header has not arrived yet, or names no client.
    Forwarder(IpAddr),
    /// A client that a forwarder names.
    BehindForwarder(IpAddr, IpAddr),
}

/// The part of a connection that other connections see.
pub struct ConnectionState {
    /// The time of the last query or reply.
    last_activity: Mutex<Instant>,
    /// The replies that the client has not read yet.
    pub(super) backlog: Backlog,
    displaced: Notify,
}

impl ConnectionState {
    /// Notes that the connection has a query or a reply now.
    pub fn touch(&self) {
        *self.last_activity.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Serves the connection until it ends, or until another connection needs its slot.
    pub async fn until_displaced(self: Arc<Self>, serve: impl Future<Output = ()>) {
        tokio::select! {
            () = self.displaced.notified() => {}
            () = serve => {}
        }
    }

    fn last_activity(&self) -> Instant {
        *self.last_activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The idle time after which a connection is closed for a new one, whatever its owner.
const LONG_IDLE: Duration = Duration::from_secs(2);

/// The time since which the longest idle connection of an owner is idle, or an earlier time; and a number that makes it unique.
type IdleKey = (Instant, u64);

/// The connections of an owner.
struct OwnerConnections {
    idle_key: IdleKey,
    connections: Vec<Arc<ConnectionState>>,
}

impl OwnerConnections {
    fn idlest(&self) -> Option<&Arc<ConnectionState>> {
        self.connections.iter().min_by_key(|state| state.last_activity())
    }
}

#[derive(Default)]
struct Open {
    all: usize,
    changes: u64,
    owners: HashMap<Owner, OwnerConnections>,
    /// Owners by their number of connections. The last one has most; of several, the one with the longest idle connection.
    ranks: BTreeMap<(usize, Reverse<IdleKey>), Owner>,
    /// Owners by their longest idle connections.
    idle: BTreeMap<IdleKey, Owner>,
}

impl Open {
    fn count(&self, owner: &Owner) -> usize {
        self.owners.get(owner).map_or(0, |group| group.connections.len())
    }

    fn change(&mut self, owner: Owner, change: impl FnOnce(&mut OwnerConnections)) {
        self.changes += 1;
        let new = OwnerConnections { idle_key: (Instant::now(), self.changes), connections: Vec::new() };
        let group = self.owners.entry(owner).or_insert(new);
        let before = group.connections.len();
        self.ranks.remove(&(before, Reverse(group.idle_key)));
        self.idle.remove(&group.idle_key);
        change(group);
        let (count, idle_key) = (group.connections.len(), group.idle_key);
        self.all = self.all + count - before;
        if count == 0 {
            self.owners.remove(&owner);
            return;
        }
        self.ranks.insert((count, Reverse(idle_key)), owner);
        self.idle.insert(idle_key, owner);
    }

    fn add(&mut self, owner: Owner, state: &Arc<ConnectionState>) {
        self.change(owner, |group| {
            group.idle_key.0 = group.idle_key.0.min(state.last_activity());
            group.connections.push(state.clone());
        });
    }

    /// Removes a connection. Does nothing if it is not there any more.
    fn remove(&mut self, owner: Owner, state: &Arc<ConnectionState>) {
        self.change(owner, |group| group.connections.retain(|other| !Arc::ptr_eq(other, state)));
    }

    /// Updates the idle key of an owner. Returns whether it has changed: then a connection of the owner was active meanwhile.
    fn refresh_idle_key(&mut self, owner: Owner) -> bool {
        let Some(group) = self.owners.get(&owner) else { return false };
        let last = group.idlest().map_or(group.idle_key.0, |state| state.last_activity());
        let is_later = last > group.idle_key.0;
        if is_later {
            self.change(owner, |group| group.idle_key.0 = last);
        }
        is_later
    }

    /// Closes the connection that is idle for the longest time (RFC 7766, 6.2.3), if that is at least [`LONG_IDLE`]. Otherwise
    /// closes the longest idle connection of the owner that has most: of `owner`, which wants one more, if no other has more.
    fn displace(&mut self, owner: Owner, now: Instant) {
        let first = loop {
            let Some((&(since, _), &first)) = self.idle.first_key_value() else { return };
            if now.saturating_duration_since(since) < LONG_IDLE {
                break None;
            }
            if !self.refresh_idle_key(first) {
                break Some(first);
            }
        };
        let victim = first.or_else(|| {
            loop {
                let (&(most, _), &last) = self.ranks.last_key_value()?;
                if self.count(&owner) >= most {
                    return Some(owner);
                }
                if !self.refresh_idle_key(last) {
                    return Some(last);
                }
            }
        });
        let Some(victim) = victim else { return };
        if let Some(state) = self.owners.get(&victim).and_then(OwnerConnections::idlest).cloned() {
            self.remove(victim, &state);
            state.displaced.notify_one();
        }
    }
}

impl Connections {
    /// No connections yet.
    pub fn new(limits: &Limits) -> Connections {
        Connections {
            client_timeout: limits.tcp_idle_timeout,
            max: limits.tcp_connections,
            max_per_client: limits.tcp_connections_per_client,
            open: Mutex::default(),
            unread: AtomicUsize::new(0),
            phase: watch::channel(Phase::Open).0,
            alive: watch::channel(()).0,
        }
    }

    /// Ends all connections. Queries that were read are answered; nothing more is read.
    pub async fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
        self.alive.closed().await;
    }

    /// Waits until all connections have ended: by the means of their protocol where there is one (GOAWAY), otherwise when they
    /// become idle.
    pub async fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
        self.alive.closed().await;
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection. None if its owner has too many. True if another connection was closed for it.
    fn admit(&self, owner: Owner) -> Option<(Arc<ConnectionState>, bool)> {
        let mut open = self.open();
        if !self.may_open_more(&open, &owner) {
            return None;
        }
        let is_full = open.all >= self.max;
        if is_full {
            open.displace(owner, Instant::now());
        }
        let state = Arc::new(ConnectionState {
            last_activity: Mutex::new(Instant::now()),
            backlog: Backlog::default(),
            displaced: Notify::new(),
        });
        open.add(owner, &state);
        Some((state, is_full))
    }

    /// Closes the connection whose client has read nothing for the longest time although it has unread replies. False if no
    /// connection has unread replies.
    pub(super) fn close_stalled(&self) -> bool {
        let mut open = self.open();
        let of_all =
            open.owners.iter().flat_map(|(owner, group)| group.connections.iter().map(|state| (*owner, state)));
        let stalled = of_all.filter_map(|(owner, state)| Some((state.backlog.stalled_since()?, owner, state)));
        let Some((_, owner, state)) = stalled.min_by_key(|(since, ..)| *since) else { return false };
        let state = state.clone();
        open.remove(owner, &state);
        self.unread.fetch_sub(state.backlog.take_octets(), Relaxed);
        state.displaced.notify_one();
        true
    }

    /// Whether an owner may open one more connection. A forwarder may always, because its clients are counted one by one.
    fn may_open_more(&self, open: &Open, owner: &Owner) -> bool {
        matches!(owner, Owner::Forwarder(_)) || open.count(owner) < self.max_per_client
    }
}

impl Core {
    /// Admits a connection of a client. None if the client has too many. A connection of a forwarder counts for its client from
    /// [`ConnectionGuard::assign_to`] on.
    pub fn admit(self: &Arc<Self>, client: IpAddr, is_forwarder: bool) -> Option<ConnectionGuard> {
        let owner = if is_forwarder { Owner::Forwarder(client) } else { Owner::Client(limited_prefix(client)) };
        let Some((state, is_full)) = self.connections.admit(owner) else {
            self.arrived("client_limit");
            return None;
        };
        if is_full {
            self.timed_out("displaced");
        }
        self.arrived("accepted");
        self.counters.tcp_connections.inc();
        let (phase, alive) = (self.connections.phase.subscribe(), self.connections.alive.subscribe());
        Some(ConnectionGuard { core: self.clone(), owner, state, phase, _alive: alive })
    }

    /// Counts an arrived connection, by its result.
    pub fn arrived(&self, result: &str) {
        self.counters.tcp_connections_total.with_label_values(&[result]).inc();
    }

    /// Counts a connection, or a stream of one, that zonal closes for a reason.
    pub fn timed_out(&self, reason: &str) {
        self.counters.tcp_timeouts.with_label_values(&[reason]).inc();
    }
}

/// An admitted connection. It counts in the limits until this is dropped.
pub struct ConnectionGuard {
    core: Arc<Core>,
    owner: Owner,
    state: Arc<ConnectionState>,
    phase: watch::Receiver<Phase>,
    _alive: watch::Receiver<()>,
}

impl ConnectionGuard {
    /// The part of the connection that other connections see.
    pub fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    /// Counts the connection for the client that a forwarder names. False if that client has too many.
    pub fn assign_to(&mut self, client: IpAddr) -> bool {
        let Owner::Forwarder(forwarder) = self.owner else { return true };
        let owner = Owner::BehindForwarder(forwarder, limited_prefix(client));
        let mut open = self.core.connections.open();
        if !self.core.connections.may_open_more(&open, &owner) {
            drop(open);
            self.core.arrived("client_limit");
            return false;
        }
        // A connection that is displaced already is not added again.
        let before = open.all;
        open.remove(self.owner, &self.state);
        if open.all < before {
            open.add(owner, &self.state);
        }
        self.owner = owner;
        true
    }

    /// Waits until the connection must end at once.
    pub async fn stopped(&mut self) {
        // A dropped sender means the same.
        let _ = self.phase.wait_for(|phase| *phase == Phase::Stopped).await;
    }

    /// Waits for a later phase.
    pub async fn next_phase(&mut self, than: Phase) -> Phase {
        self.phase.wait_for(|phase| *phase > than).await.map_or(Phase::Stopped, |phase| *phase)
    }

    /// Waits until the connection must end, at once or when it becomes idle.
    pub async fn draining(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Draining).await;
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.state.backlog.close();
        self.core.connections.open().remove(self.owner, &self.state);
        self.core.counters.tcp_connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::tests::{core, limits, page};
    use futures_util::FutureExt;

    fn all(core: &Core) -> usize {
        core.connections.open().all
    }

    /// Whether a connection was closed for another one.
    fn is_displaced(guard: &Option<ConnectionGuard>) -> bool {
        let state = guard.as_ref().unwrap().state();
        let is_displaced = state.displaced.notified().now_or_never().is_some();
        if is_displaced {
            state.displaced.notify_one();
        }
        is_displaced
    }

    #[test]
    fn limits_the_connections_of_a_client_or_prefix() {
        let core = core(&limits());
        let mut guards: Vec<_> = (0..6).map(|_| core.admit(IpAddr::from([10, 0, 0, 1]), false)).collect();
        assert!(guards[..5].iter().all(Option::is_some) && guards[5].is_none());
        assert_eq!(core.counters.tcp_connections.get(), 5);
        guards.clear();
        let address = |subnet: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, subnet, 0, 0, 0, host]);
        let mut guards: Vec<_> = (0..6).map(|n| core.admit(address(n, n), false)).collect();
        assert!(guards[..5].iter().all(Option::is_some) && guards[5].is_none(), "one /56");
        assert!(core.admit(address(0x100, 1), false).is_some(), "another /56");
        guards.clear();
        assert_eq!((core.counters.tcp_connections.get(), all(&core)), (0, 0));
        let open = core.connections.open();
        assert!(open.owners.is_empty() && open.ranks.is_empty() && open.idle.is_empty());
    }

    #[test]
    fn closes_idle_connections_before_active_ones() {
        let core = core(&limits());
        let ago = |guard: &Option<ConnectionGuard>, seconds| {
            let last = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
            *guard.as_ref().unwrap().state().last_activity.lock().unwrap() = last;
        };
        // This client came first, has several connections, and is the only one that sends queries.
        let asks: Vec<_> = (0..3).map(|_| core.admit(IpAddr::from([10, 0, 0, 1]), false)).collect();
        let idle: Vec<_> = (0..7).map(|n| core.admit(IpAddr::from([10, 0, 1, n]), false)).collect();
        (0..).zip(&idle).for_each(|(n, guard)| ago(guard, 20 - n));
        {
            let mut open = core.connections.open();
            let owners: Vec<Owner> = open.owners.keys().copied().collect();
            let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
            owners.into_iter().for_each(|owner| open.change(owner, |group| group.idle_key.0 = long_ago));
        }
        asks.iter().for_each(|guard| guard.as_ref().unwrap().state().touch());
        let more: Vec<_> = (0..3).map(|n| core.admit(IpAddr::from([10, 0, 2, n]), false)).collect();
        let displaced: Vec<bool> = idle.iter().map(is_displaced).collect();
        assert_eq!(displaced, [true, true, true, false, false, false, false], "the longest idle ones");
        assert!(asks.iter().chain(&more).all(|guard| !is_displaced(guard)));
    }

    #[test]
    fn closes_the_longest_idle_connection_of_clients_with_equally_many() {
        let core = core(&limits());
        let guards: Vec<_> = (0..10).map(|n| core.admit(IpAddr::from([10, 0, 0, n]), false)).collect();
        guards[0].as_ref().unwrap().state().touch();
        let more: Vec<_> = (0..9).map(|n| core.admit(IpAddr::from([10, 0, 1, n]), false)).collect();
        assert!(!is_displaced(&guards[0]) && guards[1..].iter().all(is_displaced));
        assert!(more.iter().all(|guard| !is_displaced(guard)));
    }

    #[test]
    fn closes_connections_of_the_client_with_most() {
        let core = core(&limits());
        let mut hoarders: Vec<_> = (0..10).map(|n| core.admit(IpAddr::from([10, 0, 0, n / 5]), false)).collect();
        hoarders[0].as_ref().unwrap().state().touch();
        let quiet: Vec<_> = (0..4).map(|n| core.admit(IpAddr::from([10, 0, 1, n]), false)).collect();
        assert!(quiet.iter().all(Option::is_some));
        let displaced: Vec<bool> = hoarders.iter().map(is_displaced).collect();
        let f = false;
        assert_eq!(displaced, [f, true, true, f, f, true, true, f, f, f], "the longest idle ones, in turn");
        assert_eq!(all(&core), 10);
        // The client with most loses a connection of its own.
        let more = core.admit(IpAddr::from([10, 0, 0, 0]), false);
        assert!(more.is_some() && is_displaced(&hoarders[3]));
        assert!(quiet.iter().all(|guard| !is_displaced(guard)));
        assert!(page(&core).contains("zonal_tcp_timeouts_total{reason=\"displaced\"} 5\n"));
        hoarders.clear();
        assert_eq!(all(&core), 5, "no connection is subtracted twice");
        drop((quiet, more));
        assert_eq!((core.counters.tcp_connections.get(), all(&core)), (0, 0));
    }

    #[test]
    fn counts_clients_behind_a_forwarder_one_by_one() {
        let core = core(&limits());
        let forwarder = IpAddr::from([10, 0, 0, 53]);
        let mut guards: Vec<_> = (0..8).filter_map(|_| core.admit(forwarder, true)).collect();
        assert_eq!(guards.len(), 8, "more than a client may have");
        let client = |n| IpAddr::from([10, 1, 0, n]);
        let may: Vec<bool> = guards.iter_mut().take(6).map(|guard| guard.assign_to(client(1))).collect();
        assert_eq!(may, [true, true, true, true, true, false]);
        assert!(guards[6].assign_to(client(2)));
        assert!(core.admit(client(1), false).is_some(), "another client with that address");
        guards.clear();
        assert_eq!((core.counters.tcp_connections.get(), all(&core)), (0, 0));
    }
}
