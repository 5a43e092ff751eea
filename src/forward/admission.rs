//! Admission: which queries may wait for other servers, and which one leaves when there are too
//! many.
//!
//! Each waiting query holds a permit. A permit counts in four groups: the client, the tenant (the
//! client's view), the rule, and all. Each group is a list in the order of arrival, with a limit.
//! When a group is full, the newest query takes the permit of the group's oldest query if that has
//! waited for [`MIN_WAIT_BEFORE_REPLACEMENT`]; otherwise the newest query is refused. So queries
//! for names that no server answers replace each other, and a query that is answered soon always
//! gets a permit.
//!
//! ```text
//! group    limit                       the query that is replaced
//! client   an eighth of the permits    the client's oldest query
//! tenant   a quarter                   the tenant's oldest query
//! rule     half                        the rule's oldest query
//! all      10,000 ([`super::Limits`])  the oldest query
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

/// A query is replaced only after it has waited for this long: most answers come sooner.
const MIN_WAIT_BEFORE_REPLACEMENT: Duration = Duration::from_millis(200);
/// The share of all permits that a client, a tenant and a rule may hold: one in this many.
const GROUP_SHARES: [usize; 3] = [8, 4, 2];
/// The index that means "no permit" in a list.
const NONE: u32 = u32::MAX;

/// A query that asks for a permit.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionRequest {
    /// The client's address, shortened to the prefix that counts as one client.
    pub client: IpAddr,
    /// The client's view: [`View::slot`](crate::snapshot::views::View::slot).
    pub tenant: u32,
    /// The route of the query.
    pub route: RouteId,
}

impl AdmissionRequest {
    /// A refresh of a cache entry before it expires. All refreshes together count as one tenant.
    pub const REFRESH: AdmissionRequest =
        AdmissionRequest { client: IpAddr::V4(Ipv4Addr::UNSPECIFIED), tenant: u32::MAX, route: RouteId(0) };

    fn groups(&self) -> [Group; 4] {
        [Group::Client(self.tenant, self.client), Group::Tenant(self.tenant), Group::Rule(self.route), Group::All]
    }
}

/// All permits of queries that wait for other servers.
pub struct Admission {
    max_waiting: usize,
    table: Mutex<PermitTable>,
    /// Queries that have not ended: queries with a permit, and replaced queries that have not been
    /// answered yet.
    unfinished: AtomicUsize,
    refused: AtomicU64,
    replaced: AtomicU64,
}

/// The numbers that metrics and draining read.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionCounts {
    /// Queries that hold a permit.
    pub waiting: usize,
    /// The maximum number of queries that may hold a permit.
    pub max_waiting: usize,
    /// Queries that have not ended: queries with a permit, and replaced queries that have not been
    /// answered yet.
    pub unfinished: usize,
    /// Queries that got no permit, since the start.
    pub refused: u64,
    /// Queries that lost their permit to a newer query, since the start.
    pub replaced: u64,
}

#[derive(Default)]
struct PermitTable {
    permits: Vec<Option<Permit>>,
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

/// The permits of a group as a doubly linked list, from the oldest to the newest.
struct List {
    first: u32,
    last: u32,
    len: usize,
}

struct Permit {
    since: Instant,
    groups: [Group; 4],
    /// The indices of the previous and the next permit, in the list of each group.
    links: [(u32, u32); 4],
    notice: Arc<ReplacementNotice>,
}

/// Tells the holder of a permit that a newer query has replaced it.
#[derive(Default)]
struct ReplacementNotice {
    is_replaced: AtomicBool,
    waker: AtomicWaker,
}

/// The permission to wait for other servers. Dropping it returns the permit.
pub struct AdmissionPermit {
    admission: Arc<Admission>,
    index: u32,
    notice: Arc<ReplacementNotice>,
}

impl Admission {
    /// Permits for this many queries.
    pub fn new(max_waiting: usize) -> Arc<Admission> {
        Arc::new(Admission {
            max_waiting,
            table: Mutex::default(),
            unfinished: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
        })
    }

    /// Gives a query a permit. None if a group of the query is full and its oldest query has waited
    /// for less than [`MIN_WAIT_BEFORE_REPLACEMENT`], or if twice the limit of queries have not
    /// ended: the processor cannot keep up.
    pub fn admit(self: &Arc<Self>, request: &AdmissionRequest) -> Option<AdmissionPermit> {
        let (now, groups) = (Instant::now(), request.groups());
        if self.unfinished.load(Relaxed) >= 2 * self.max_waiting {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        let mut table = self.table();
        for (at, group) in groups.iter().enumerate() {
            let limit = GROUP_SHARES.get(at).map_or(self.max_waiting, |part| (self.max_waiting / part).max(1));
            let Some(list) = table.lists.get(group).filter(|list| list.len >= limit) else { continue };
            let oldest = list.first;
            let permit = table.permits.get(oldest as usize).and_then(Option::as_ref);
            if permit.is_none_or(|permit| now.saturating_duration_since(permit.since) < MIN_WAIT_BEFORE_REPLACEMENT) {
                self.refused.fetch_add(1, Relaxed);
                return None;
            }
            if let Some(permit) = table.remove(oldest) {
                permit.notice.is_replaced.store(true, Relaxed);
                permit.notice.waker.wake();
                self.replaced.fetch_add(1, Relaxed);
            }
        }
        let notice = Arc::<ReplacementNotice>::default();
        let index = table.append(Permit { since: now, groups, links: [(NONE, NONE); 4], notice: notice.clone() });
        self.unfinished.fetch_add(1, Relaxed);
        Some(AdmissionPermit { admission: self.clone(), index, notice })
    }

    /// The current numbers.
    pub fn counts(&self) -> AdmissionCounts {
        AdmissionCounts {
            waiting: self.table().lists.get(&Group::All).map_or(0, |list| list.len),
            max_waiting: self.max_waiting,
            unfinished: self.unfinished.load(Relaxed),
            refused: self.refused.load(Relaxed),
            replaced: self.replaced.load(Relaxed),
        }
    }

    fn table(&self) -> MutexGuard<'_, PermitTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PermitTable {
    /// Appends a permit to the lists of its groups, and returns its index.
    fn append(&mut self, mut permit: Permit) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.permits.push(None);
            self.permits.len() as u32 - 1
        });
        for (which, group) in permit.groups.iter().enumerate() {
            let list = self.lists.entry(*group).or_insert(List { first: at, last: NONE, len: 0 });
            let before = std::mem::replace(&mut list.last, at);
            list.len += 1;
            permit.links[which].0 = before;
            if let Some(Some(before)) = self.permits.get_mut(before as usize) {
                before.links[which].1 = at;
            }
        }
        self.permits[at as usize] = Some(permit);
        at
    }

    /// Removes a permit from the lists of its groups.
    fn remove(&mut self, at: u32) -> Option<Permit> {
        let permit = self.permits.get_mut(at as usize)?.take()?;
        self.free.push(at);
        for (which, group) in permit.groups.iter().enumerate() {
            let (before, behind) = permit.links[which];
            if let Some(Some(before)) = self.permits.get_mut(before as usize) {
                before.links[which].1 = behind;
            }
            if let Some(Some(behind)) = self.permits.get_mut(behind as usize) {
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
        Some(permit)
    }
}

/// Completes when a newer query has replaced the permit. Without a permit, it never completes.
pub async fn replaced(permit: Option<&AdmissionPermit>) {
    poll_fn(|context| {
        let Some(AdmissionPermit { notice, .. }) = permit else { return Poll::Pending };
        notice.waker.register(context.waker());
        match notice.is_replaced.load(Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let mut table = self.admission.table();
        // The index of a replaced permit may belong to another query by now.
        let is_own = |permit: &Permit| Arc::ptr_eq(&permit.notice, &self.notice);
        if table.permits.get(self.index as usize).is_some_and(|permit| permit.as_ref().is_some_and(is_own)) {
            table.remove(self.index);
        }
        drop(table);
        self.admission.unfinished.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(client: u8, tenant: u32, rule: u128) -> AdmissionRequest {
        AdmissionRequest { client: IpAddr::V4(Ipv4Addr::new(10, 0, 0, client)), tenant, route: RouteId(rule) }
    }

    fn is_replaced(waiting: &AdmissionPermit) -> bool {
        waiting.notice.is_replaced.load(Relaxed)
    }

    /// Moves the start of all waits into the past, so that any query may be replaced.
    fn age(admission: &Admission) {
        for permit in admission.table().permits.iter_mut().flatten() {
            permit.since -= MIN_WAIT_BEFORE_REPLACEMENT;
        }
    }

    #[test]
    fn limits_the_permits_of_each_client_tenant_and_rule() {
        let admission = Admission::new(80);
        let mut permits = Vec::new();
        let mut admitted = |client, tenant, rule| {
            let mut count = 0;
            while let Some(permit) = admission.admit(&request(client, tenant, rule)) {
                permits.push(permit);
                count += 1;
            }
            count
        };
        assert_eq!(admitted(1, 1, 1), 10, "a client");
        assert_eq!((admitted(2, 1, 1), admitted(3, 1, 1)), (10, 0), "a tenant");
        assert_eq!((admitted(1, 2, 1), admitted(2, 2, 1), admitted(1, 3, 1)), (10, 10, 0), "a rule");
        assert_eq!((admitted(1, 3, 2), admitted(2, 3, 2)), (10, 10));
        assert_eq!((admitted(1, 4, 3), admitted(2, 4, 3), admitted(1, 5, 4)), (10, 10, 0), "all");
        drop(permits);
        assert_eq!(admission.counts().waiting, 0);
        let table = admission.table();
        assert!(table.lists.is_empty() && table.permits.iter().all(Option::is_none));
    }

    #[tokio::test]
    async fn the_newest_query_replaces_the_oldest_slow_one_of_its_group() {
        let admission = Admission::new(80);
        let admit = |client, tenant, rule| admission.admit(&request(client, tenant, rule));
        let attack: Vec<_> = (0..20).map(|n| admit(1 + n / 10, 1, 1).unwrap()).collect();
        let other = admit(1, 2, 1).unwrap();
        assert!(admit(1, 1, 1).is_none(), "no query has waited for long enough");
        age(&admission);
        let newest = admit(2, 1, 1).unwrap();
        let replaced_at: Vec<_> = (0..20).filter(|at| is_replaced(&attack[*at])).collect();
        assert_eq!(replaced_at, [10], "the oldest of the same client");
        let third = admit(3, 1, 1).unwrap();
        let replaced_at: Vec<_> = (0..20).filter(|at| is_replaced(&attack[*at])).collect();
        assert_eq!(replaced_at, [0, 10], "the oldest of the same tenant");
        assert!(!is_replaced(&other) && !is_replaced(&newest));
        replaced(Some(&attack[0])).await;
        assert_eq!((admission.counts().waiting, admission.counts().unfinished), (21, 23));
        // A replaced permit that is dropped does not free the index of another query.
        drop(attack);
        assert_eq!(admission.counts().waiting, 3);
        assert_eq!(admission.counts().unfinished, 3);
        drop((other, newest, third));
        assert!(admission.table().lists.is_empty());
        assert_eq!((admission.counts().refused, admission.counts().replaced), (1, 2));
    }
}
