//! The connections that there are, whatever their transport: how many, of whom, and their end.

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

/// The connections that there are.
pub struct Connections {
    /// How long one may be idle, a message may take to arrive, and a client may take to read.
    pub patience: Duration,
    most: usize,
    most_per_client: usize,
    open: Mutex<Open>,
    /// Octets of replies that no client has read yet.
    pub(super) unread: AtomicUsize,
    phase: watch::Sender<Phase>,
    /// Every connection holds a receiver: when all are gone, all have ended.
    alive: watch::Sender<()>,
}

/// How long connections may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// As long as they like.
    Open,
    /// As long as something comes by them: no new ones are taken.
    Left,
    /// Until what was read is answered.
    Stopped,
}

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Client(IpAddr),
    /// A forwarder whose header, which names the client, is yet to come, or names nobody.
    Forwarder(IpAddr),
    /// Whom a forwarder names.
    Behind(IpAddr, IpAddr),
}

/// A connection, as others see it.
pub struct Held {
    /// When it last had a query or an answer.
    last: Mutex<Instant>,
    /// The replies that its client has not read yet.
    pub(super) backlog: Backlog,
    displaced: Notify,
}

impl Held {
    /// Something came by the connection.
    pub fn is_active(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Serves the connection, unless another one gets its place: then it ends at once.
    pub async fn until_displaced(self: Arc<Self>, serve: impl Future<Output = ()>) {
        tokio::select! {
            () = self.displaced.notified() => {}
            () = serve => {}
        }
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that has been idle for so long makes room for others, whoever has it.
const LONG_IDLE: Duration = Duration::from_secs(2);

/// Since when the idlest connection of a holder is known to be idle, at the earliest; and a number, as no two are the same.
type Noted = (Instant, u64);

/// The connections of a holder.
struct Share {
    noted: Noted,
    connections: Vec<Arc<Held>>,
}

impl Share {
    fn idlest(&self) -> Option<&Arc<Held>> {
        self.connections.iter().min_by_key(|held| held.last())
    }
}

#[derive(Default)]
struct Open {
    all: usize,
    changes: u64,
    holders: HashMap<Holder, Share>,
    /// By how many connections they have: last is who has most, of several the one with the idlest.
    ranks: BTreeMap<(usize, Reverse<Noted>), Holder>,
    /// By their idlest connections.
    idle: BTreeMap<Noted, Holder>,
}

impl Open {
    fn count(&self, holder: &Holder) -> usize {
        self.holders.get(holder).map_or(0, |share| share.connections.len())
    }

    fn change(&mut self, holder: Holder, change: impl FnOnce(&mut Share)) {
        self.changes += 1;
        let new = Share { noted: (Instant::now(), self.changes), connections: Vec::new() };
        let share = self.holders.entry(holder).or_insert(new);
        let before = share.connections.len();
        self.ranks.remove(&(before, Reverse(share.noted)));
        self.idle.remove(&share.noted);
        change(share);
        let (count, noted) = (share.connections.len(), share.noted);
        self.all = self.all + count - before;
        if count == 0 {
            self.holders.remove(&holder);
            return;
        }
        self.ranks.insert((count, Reverse(noted)), holder);
        self.idle.insert(noted, holder);
    }

    fn add(&mut self, holder: Holder, held: &Arc<Held>) {
        self.change(holder, |share| {
            share.noted.0 = share.noted.0.min(held.last());
            share.connections.push(held.clone());
        });
    }

    /// Nothing is changed by one that is not there any more.
    fn remove(&mut self, holder: Holder, held: &Arc<Held>) {
        self.change(holder, |share| share.connections.retain(|other| !Arc::ptr_eq(other, held)));
    }

    /// Notes how idle a holder is, as of now. Returns whether that is later than it was noted: each time there was something
    /// by its connections meanwhile.
    fn note(&mut self, holder: Holder) -> bool {
        let Some(share) = self.holders.get(&holder) else { return false };
        let last = share.idlest().map_or(share.noted.0, |held| held.last());
        let is_later = last > share.noted.0;
        if is_later {
            self.change(holder, |share| share.noted.0 = last);
        }
        is_later
    }

    /// Ends the connection that has been idle for longest (RFC 7766, 6.2.3), if that is long; else the idlest of whoever has
    /// most: of `holder`, who wants one more, if nobody has more. So those who ask keep theirs, however many addresses
    /// somebody has for idle ones.
    fn displace(&mut self, holder: Holder, now: Instant) {
        let first = loop {
            let Some((&(since, _), &first)) = self.idle.first_key_value() else { return };
            if now.saturating_duration_since(since) < LONG_IDLE {
                break None;
            }
            if !self.note(first) {
                break Some(first);
            }
        };
        let victim = first.or_else(|| {
            loop {
                let (&(most, _), &last) = self.ranks.last_key_value()?;
                if self.count(&holder) >= most {
                    return Some(holder);
                }
                if !self.note(last) {
                    return Some(last);
                }
            }
        });
        let Some(victim) = victim else { return };
        if let Some(held) = self.holders.get(&victim).and_then(Share::idlest).cloned() {
            self.remove(victim, &held);
            held.displaced.notify_one();
        }
    }
}

impl Connections {
    /// Connections within the limits of the configuration.
    pub fn new(limits: &Limits) -> Connections {
        Connections {
            patience: limits.tcp_idle_timeout,
            most: limits.tcp_connections,
            most_per_client: limits.tcp_connections_per_client,
            open: Mutex::default(),
            unread: AtomicUsize::new(0),
            phase: watch::channel(Phase::Open).0,
            alive: watch::channel(()).0,
        }
    }

    /// Ends all connections: what was read is answered, nothing more is read.
    pub async fn stop(&self) {
        self.phase.send_replace(Phase::Stopped);
        self.alive.closed().await;
    }

    /// Waits until all connections have ended: by their protocol's own word for it where there is one (GOAWAY), else as soon as
    /// nothing comes by them for a while.
    pub async fn leave(&self) {
        self.phase.send_replace(Phase::Left);
        self.alive.closed().await;
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up a connection, unless its holder has too many. It may be in the place of another: then this is told, too.
    fn take(&self, holder: Holder) -> Option<(Arc<Held>, bool)> {
        let mut open = self.open();
        if !self.may_have_more(&open, &holder) {
            return None;
        }
        let is_full = open.all >= self.most;
        if is_full {
            open.displace(holder, Instant::now());
        }
        let held =
            Arc::new(Held { last: Mutex::new(Instant::now()), backlog: Backlog::default(), displaced: Notify::new() });
        open.add(holder, &held);
        Some((held, is_full))
    }

    /// Closes the connection whose client has read nothing for the longest time, of those that have something to read.
    /// Returns whether there is one.
    pub(super) fn close_stalled(&self) -> bool {
        let mut open = self.open();
        let of_all =
            open.holders.iter().flat_map(|(holder, share)| share.connections.iter().map(|held| (*holder, held)));
        let stalled = of_all.filter_map(|(holder, held)| Some((held.backlog.stalled_since()?, holder, held)));
        let Some((_, holder, held)) = stalled.min_by_key(|(since, ..)| *since) else { return false };
        let held = held.clone();
        open.remove(holder, &held);
        self.unread.fetch_sub(held.backlog.forget(), Relaxed);
        held.displaced.notify_one();
        true
    }

    /// A forwarder may have all, as those behind it are counted one by one.
    fn may_have_more(&self, open: &Open, holder: &Holder) -> bool {
        matches!(holder, Holder::Forwarder(_)) || open.count(holder) < self.most_per_client
    }
}

impl Core {
    /// Takes up a connection of a client, unless it has too many. One of a forwarder is its client's from when that is
    /// [named](Place::is_of).
    pub fn admit(self: &Arc<Self>, client: IpAddr, is_forwarder: bool) -> Option<Place> {
        let holder = if is_forwarder { Holder::Forwarder(client) } else { Holder::Client(limited_prefix(client)) };
        let Some((held, is_full)) = self.connections.take(holder) else {
            self.arrived("client_limit");
            return None;
        };
        if is_full {
            self.timed_out("displaced");
        }
        self.arrived("accepted");
        self.counters.tcp_connections.inc();
        let (phase, alive) = (self.connections.phase.subscribe(), self.connections.alive.subscribe());
        Some(Place { core: self.clone(), holder, held, phase, _alive: alive })
    }

    /// Counts what became of a connection on its arrival.
    pub fn arrived(&self, result: &str) {
        self.counters.tcp_connections_total.with_label_values(&[result]).inc();
    }

    /// Counts a connection, or a stream of one, that is cut off.
    pub fn timed_out(&self, reason: &str) {
        self.counters.tcp_timeouts.with_label_values(&[reason]).inc();
    }
}

/// A connection's place among those that are allowed.
pub struct Place {
    core: Arc<Core>,
    holder: Holder,
    held: Arc<Held>,
    phase: watch::Receiver<Phase>,
    _alive: watch::Receiver<()>,
}

impl Place {
    /// What is to be told that something comes by the connection.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Whether the client that a forwarder names may have the connection; from now on it is that one's.
    pub fn is_of(&mut self, client: IpAddr) -> bool {
        let Holder::Forwarder(forwarder) = self.holder else { return true };
        let holder = Holder::Behind(forwarder, limited_prefix(client));
        let mut open = self.core.connections.open();
        if !self.core.connections.may_have_more(&open, &holder) {
            drop(open);
            self.core.arrived("client_limit");
            return false;
        }
        // Who is displaced already does not come back.
        let before = open.all;
        open.remove(self.holder, &self.held);
        if open.all < before {
            open.add(holder, &self.held);
        }
        self.holder = holder;
        true
    }

    /// Waits until the connection has to end.
    pub async fn stopped(&mut self) {
        // A sender that is gone says the same.
        let _ = self.phase.wait_for(|phase| *phase == Phase::Stopped).await;
    }

    /// Waits for a later phase than this one.
    pub async fn later(&mut self, than: Phase) -> Phase {
        self.phase.wait_for(|phase| *phase > than).await.map_or(Phase::Stopped, |phase| *phase)
    }

    /// Waits until the connection has to end when its client can do without it, or at once.
    pub async fn left(&mut self) {
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Left).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.backlog.close();
        self.core.connections.open().remove(self.holder, &self.held);
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

    /// Whether a connection has lost its place.
    fn is_displaced(place: &Option<Place>) -> bool {
        let held = place.as_ref().unwrap().held();
        let is_displaced = held.displaced.notified().now_or_never().is_some();
        if is_displaced {
            held.displaced.notify_one();
        }
        is_displaced
    }

    #[test]
    fn a_client_has_its_share() {
        let core = core(&limits());
        let mut places: Vec<_> = (0..6).map(|_| core.admit(IpAddr::from([10, 0, 0, 1]), false)).collect();
        assert!(places[..5].iter().all(Option::is_some) && places[5].is_none());
        assert_eq!(core.counters.tcp_connections.get(), 5);
        places.clear();
        let address = |subnet: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, subnet, 0, 0, 0, host]);
        let mut places: Vec<_> = (0..6).map(|n| core.admit(address(n, n), false)).collect();
        assert!(places[..5].iter().all(Option::is_some) && places[5].is_none(), "one /56");
        assert!(core.admit(address(0x100, 1), false).is_some(), "another /56");
        places.clear();
        assert_eq!((core.counters.tcp_connections.get(), all(&core)), (0, 0));
        let open = core.connections.open();
        assert!(open.holders.is_empty() && open.ranks.is_empty() && open.idle.is_empty());
    }

    #[test]
    fn who_asks_does_not_make_room_for_the_idle() {
        let core = core(&limits());
        let ago = |place: &Option<Place>, seconds| {
            let last = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
            *place.as_ref().unwrap().held().last.lock().unwrap() = last;
        };
        // The first one of all, with several connections, and the only one that asks.
        let asks: Vec<_> = (0..3).map(|_| core.admit(IpAddr::from([10, 0, 0, 1]), false)).collect();
        let idle: Vec<_> = (0..7).map(|n| core.admit(IpAddr::from([10, 0, 1, n]), false)).collect();
        (0..).zip(&idle).for_each(|(n, place)| ago(place, 20 - n));
        {
            let mut open = core.connections.open();
            let holders: Vec<Holder> = open.holders.keys().copied().collect();
            let long_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
            holders.into_iter().for_each(|holder| open.change(holder, |share| share.noted.0 = long_ago));
        }
        asks.iter().for_each(|place| place.as_ref().unwrap().held().is_active());
        let more: Vec<_> = (0..3).map(|n| core.admit(IpAddr::from([10, 0, 2, n]), false)).collect();
        let displaced: Vec<bool> = idle.iter().map(is_displaced).collect();
        assert_eq!(displaced, [true, true, true, false, false, false, false], "the longest idle ones");
        assert!(asks.iter().chain(&more).all(|place| !is_displaced(place)));
    }

    #[test]
    fn of_those_with_as_many_the_idlest_makes_room() {
        let core = core(&limits());
        let places: Vec<_> = (0..10).map(|n| core.admit(IpAddr::from([10, 0, 0, n]), false)).collect();
        places[0].as_ref().unwrap().held().is_active();
        let more: Vec<_> = (0..9).map(|n| core.admit(IpAddr::from([10, 0, 1, n]), false)).collect();
        assert!(!is_displaced(&places[0]) && places[1..].iter().all(is_displaced));
        assert!(more.iter().all(|place| !is_displaced(place)));
    }

    #[test]
    fn who_has_most_makes_room() {
        let core = core(&limits());
        let mut hoarders: Vec<_> = (0..10).map(|n| core.admit(IpAddr::from([10, 0, 0, n / 5]), false)).collect();
        hoarders[0].as_ref().unwrap().held().is_active();
        let quiet: Vec<_> = (0..4).map(|n| core.admit(IpAddr::from([10, 0, 1, n]), false)).collect();
        assert!(quiet.iter().all(Option::is_some));
        let displaced: Vec<bool> = hoarders.iter().map(is_displaced).collect();
        let f = false;
        assert_eq!(displaced, [f, true, true, f, f, true, true, f, f, f], "those that were idle for longest, in turn");
        assert_eq!(all(&core), 10);
        // Who wants more than all others makes room for itself.
        let more = core.admit(IpAddr::from([10, 0, 0, 0]), false);
        assert!(more.is_some() && is_displaced(&hoarders[3]));
        assert!(quiet.iter().all(|place| !is_displaced(place)));
        assert!(page(&core).contains("zonal_tcp_timeouts_total{reason=\"displaced\"} 5\n"));
        hoarders.clear();
        assert_eq!(all(&core), 5, "nobody is counted as gone twice");
        drop((quiet, more));
        assert_eq!((core.counters.tcp_connections.get(), all(&core)), (0, 0));
    }

    #[test]
    fn those_behind_a_forwarder_are_counted_one_by_one() {
        let core = core(&limits());
        let forwarder = IpAddr::from([10, 0, 0, 53]);
        let mut places: Vec<_> = (0..8).filter_map(|_| core.admit(forwarder, true)).collect();
        assert_eq!(places.len(), 8, "more than of a client");
        let client = |n| IpAddr::from([10, 1, 0, n]);
        let may: Vec<bool> = places.iter_mut().take(6).map(|place| place.is_of(client(1))).collect();
        assert_eq!(may, [true, true, true, true, true, false]);
        assert!(places[6].is_of(client(2)));
        assert!(core.admit(client(1), false).is_some(), "somebody else with that address");
        places.clear();
        assert_eq!((core.counters.tcp_connections.get(), all(&core)), (0, 0));
    }
}
