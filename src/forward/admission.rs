//! Admission: which queries may wait for other servers, and which one leaves when there are too many.
//!
//! Each waiting query holds a seat. A seat counts in four groups: the client, the tenant (the client's view), the rule,
//! and all. Each group is a list in the order of arrival with a limit. When a group is full, the newest query takes the
//! seat of the group's oldest one, if that has waited for [`SLOW`]; otherwise the newest query is refused. So names
//! that no server answers push out each other, and a name that is answered soon always finds a seat.
//!
//! ```text
//! client   an eighth of the seats      -> its own oldest query leaves
//! tenant   a quarter                   -> its own oldest query leaves
//! rule     half                        -> the oldest query of the rule leaves
//! all      10,000 ([`super::Limits`])  -> the oldest query leaves
//! ```

use crate::snapshot::routes::RouteId;
use futures_util::task::AtomicWaker;
use std::{
    collections::HashMap,
    future::poll_fn,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

/// A query that has waited for less than this is never replaced: it may be answered any moment.
const SLOW: Duration = Duration::from_millis(200);
/// What a client, a tenant and a rule may have of all seats: one part in this many.
const PARTS: [usize; 3] = [8, 4, 2];
/// No seat.
const NONE: u32 = u32::MAX;

/// Who wants a seat.
#[derive(Clone, Copy, Debug)]
pub struct Applicant {
    /// The client's address, as far as clients are told apart.
    pub client: IpAddr,
    /// The client's view.
    pub tenant: u32,
    /// The route that its query takes.
    pub route: RouteId,
}

impl Applicant {
    /// What is asked anew before it ends: a tenant of its own.
    pub const REFRESH: Applicant =
        Applicant { client: IpAddr::V4(Ipv4Addr::UNSPECIFIED), tenant: u32::MAX, route: RouteId(0) };

    fn groups(&self) -> [Group; 4] {
        [Group::Client(self.tenant, self.client), Group::Tenant(self.tenant), Group::Rule(self.route), Group::All]
    }
}

/// The seats of queries that wait for other servers.
pub struct Admission {
    most: usize,
    table: Mutex<Table>,
    /// Queries that are not done yet: those with a seat, and those that have just lost it.
    unfinished: AtomicUsize,
    refused: AtomicU64,
    replaced: AtomicU64,
}

/// What is counted of seats.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Queries that wait.
    pub waiting: usize,
    /// Queries that may wait.
    pub most: usize,
    /// Queries that are not done yet: those that wait, and those that have just lost their seat.
    pub unfinished: usize,
    /// Queries that found no seat.
    pub refused: u64,
    /// Queries that lost their seat to a newer one.
    pub replaced: u64,
}

#[derive(Default)]
struct Table {
    seats: Vec<Option<Seat>>,
    free: Vec<u32>,
    lists: HashMap<Group, List>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    Client(u32, IpAddr),
    Tenant(u32),
    Rule(RouteId),
    All,
}

/// The seats of a group, from the oldest to the newest.
struct List {
    first: u32,
    last: u32,
    len: usize,
}

struct Seat {
    since: Instant,
    groups: [Group; 4],
    /// In each group's list: the seat before it, and the one behind it.
    links: [(u32, u32); 4],
    notice: Arc<Notice>,
}

/// Where the holder of a seat learns that it has lost it.
#[derive(Default)]
struct Notice {
    is_replaced: AtomicBool,
    waker: AtomicWaker,
}

/// A seat, until it is dropped.
pub struct Waiting {
    admission: Arc<Admission>,
    at: u32,
    notice: Arc<Notice>,
}

impl Admission {
    /// Room for this many queries.
    pub fn new(most: usize) -> Arc<Admission> {
        Arc::new(Admission {
            most,
            table: Mutex::default(),
            unfinished: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
        })
    }

    /// Takes a seat; none if a group of the applicant is full of queries that have not waited for long, or if there are so
    /// many queries without a seat that are not done yet that the processor cannot keep up.
    pub fn admit(self: &Arc<Self>, applicant: &Applicant) -> Option<Waiting> {
        let (now, groups) = (Instant::now(), applicant.groups());
        if self.unfinished.load(Relaxed) >= 2 * self.most {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        let mut table = self.table();
        for (at, group) in groups.iter().enumerate() {
            let limit = PARTS.get(at).map_or(self.most, |part| (self.most / part).max(1));
            let Some(list) = table.lists.get(group).filter(|list| list.len >= limit) else { continue };
            let oldest = list.first;
            let seat = table.seats.get(oldest as usize).and_then(Option::as_ref);
            if seat.is_none_or(|seat| now.saturating_duration_since(seat.since) < SLOW) {
                self.refused.fetch_add(1, Relaxed);
                return None;
            }
            if let Some(seat) = table.leave(oldest) {
                seat.notice.is_replaced.store(true, Relaxed);
                seat.notice.waker.wake();
                self.replaced.fetch_add(1, Relaxed);
            }
        }
        let notice = Arc::<Notice>::default();
        let at = table.enter(Seat { since: now, groups, links: [(NONE, NONE); 4], notice: notice.clone() });
        self.unfinished.fetch_add(1, Relaxed);
        Some(Waiting { admission: self.clone(), at, notice })
    }

    /// How many queries wait, and what became of others.
    pub fn counts(&self) -> Counts {
        Counts {
            waiting: self.table().lists.get(&Group::All).map_or(0, |list| list.len),
            most: self.most,
            unfinished: self.unfinished.load(Relaxed),
            refused: self.refused.load(Relaxed),
            replaced: self.replaced.load(Relaxed),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Puts a seat at the end of the lists of its groups.
    fn enter(&mut self, mut seat: Seat) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.seats.push(None);
            self.seats.len() as u32 - 1
        });
        for (which, group) in seat.groups.iter().enumerate() {
            let list = self.lists.entry(*group).or_insert(List { first: at, last: NONE, len: 0 });
            let before = std::mem::replace(&mut list.last, at);
            list.len += 1;
            seat.links[which].0 = before;
            if let Some(Some(before)) = self.seats.get_mut(before as usize) {
                before.links[which].1 = at;
            }
        }
        self.seats[at as usize] = Some(seat);
        at
    }

    /// Takes a seat out of all lists.
    fn leave(&mut self, at: u32) -> Option<Seat> {
        let seat = self.seats.get_mut(at as usize)?.take()?;
        self.free.push(at);
        for (which, group) in seat.groups.iter().enumerate() {
            let (before, behind) = seat.links[which];
            if let Some(Some(before)) = self.seats.get_mut(before as usize) {
                before.links[which].1 = behind;
            }
            if let Some(Some(behind)) = self.seats.get_mut(behind as usize) {
                behind.links[which].0 = before;
            }
            let Some(list) = self.lists.get_mut(group) else { continue };
            list.len -= 1;
            if list.first == at {
                list.first = behind;
            }
            if list.last == at {
                list.last = before;
            }
            if list.len == 0 {
                self.lists.remove(group);
            }
        }
        Some(seat)
    }
}

/// Ends when a newer query has taken the seat; never where there is none.
pub async fn replaced(seat: Option<&Waiting>) {
    poll_fn(|context| {
        let Some(Waiting { notice, .. }) = seat else { return Poll::Pending };
        notice.waker.register(context.waker());
        match notice.is_replaced.load(Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut table = self.admission.table();
        // Who has lost a seat must not take it from whoever has it now.
        let is_own = |seat: &Seat| Arc::ptr_eq(&seat.notice, &self.notice);
        if table.seats.get(self.at as usize).is_some_and(|seat| seat.as_ref().is_some_and(is_own)) {
            table.leave(self.at);
        }
        drop(table);
        self.admission.unfinished.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applicant(client: u8, tenant: u32, rule: u128) -> Applicant {
        Applicant { client: IpAddr::V4(Ipv4Addr::new(10, 0, 0, client)), tenant, route: RouteId(rule) }
    }

    fn is_replaced(waiting: &Waiting) -> bool {
        waiting.notice.is_replaced.load(Relaxed)
    }

    /// Makes all who wait look as if they had waited for long.
    fn age(admission: &Admission) {
        for seat in admission.table().seats.iter_mut().flatten() {
            seat.since -= SLOW;
        }
    }

    #[test]
    fn each_group_has_a_limit_of_its_own() {
        let admission = Admission::new(80);
        let mut seats = Vec::new();
        let mut admitted = |client, tenant, rule| {
            let mut count = 0;
            while let Some(seat) = admission.admit(&applicant(client, tenant, rule)) {
                seats.push(seat);
                count += 1;
            }
            count
        };
        assert_eq!(admitted(1, 1, 1), 10, "a client");
        assert_eq!((admitted(2, 1, 1), admitted(3, 1, 1)), (10, 0), "a tenant");
        assert_eq!((admitted(1, 2, 1), admitted(2, 2, 1), admitted(1, 3, 1)), (10, 10, 0), "a rule");
        assert_eq!((admitted(1, 3, 2), admitted(2, 3, 2)), (10, 10));
        assert_eq!((admitted(1, 4, 3), admitted(2, 4, 3), admitted(1, 5, 4)), (10, 10, 0), "all");
        drop(seats);
        assert_eq!(admission.counts().waiting, 0);
        let table = admission.table();
        assert!(table.lists.is_empty() && table.seats.iter().all(Option::is_none));
    }

    #[tokio::test]
    async fn the_newest_query_replaces_the_oldest_slow_one_of_its_group() {
        let admission = Admission::new(80);
        let admit = |client, tenant, rule| admission.admit(&applicant(client, tenant, rule));
        let attack: Vec<_> = (0..20).map(|n| admit(1 + n / 10, 1, 1).unwrap()).collect();
        let other = admit(1, 2, 1).unwrap();
        assert!(admit(1, 1, 1).is_none(), "nobody has waited for long");
        age(&admission);
        let newest = admit(2, 1, 1).unwrap();
        let lost: Vec<_> = (0..20).filter(|at| is_replaced(&attack[*at])).collect();
        assert_eq!(lost, [10], "the oldest of the same client");
        let third = admit(3, 1, 1).unwrap();
        let lost: Vec<_> = (0..20).filter(|at| is_replaced(&attack[*at])).collect();
        assert_eq!(lost, [0, 10], "the oldest of the same tenant");
        assert!(!is_replaced(&other) && !is_replaced(&newest));
        replaced(Some(&attack[0])).await;
        assert_eq!((admission.counts().waiting, admission.counts().unfinished), (21, 23));
        // Those who have lost their seats leave those of others alone.
        drop(attack);
        assert_eq!(admission.counts().waiting, 3);
        assert_eq!(admission.counts().unfinished, 3);
        drop((other, newest, third));
        assert!(admission.table().lists.is_empty());
        assert_eq!((admission.counts().refused, admission.counts().replaced), (1, 2));
    }
}
