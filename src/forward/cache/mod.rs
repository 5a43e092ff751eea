//! The cache: the answers of other servers, until their TTL ends, and after that as stale answers
//! for when the servers fail.
//!
//! ```text
//! nodes   hash of key -> Node { answer, failure, use counters }   a concurrent map: readers take no lock
//! writer  the eviction queues ([`queues`]) and the labels          one lock, for tasks that have asked other servers
//! ```
//!
//! A node never changes, except for its use counters: a writer replaces it. The writer also evicts,
//! so that the memory of all nodes never exceeds the budget.

mod counters;
mod queues;
mod show;
#[cfg(test)]
mod tests;

use super::{STALE_TTL, identity_hasher::IdentityHasher};
use crate::{
    answer::known::{Entry, Key, KnownAnswer, KnownAnswers, Question},
    snapshot::routes::RouteId,
    wire::codes::rcode,
};
use counters::CacheCounters;
pub use counters::CacheCounts;
use papaya::ResizeMode;
use queues::Queues;
pub use show::Scope;
use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed},
    },
};

/// The TTL of the first failure of a question, in seconds. It doubles with each failure that
/// follows (RFC 9520, section 3.2).
const FAILURE_TTL: u32 = 5;
/// The maximum TTL of a failure, in seconds.
const MAX_FAILURE_TTL: u32 = 60;
/// The time after the end of a failure, in seconds, within which the next failure follows it.
const FAILURE_MEMORY: i64 = 60;
/// The minimum TTL of an entry that is refreshed before it expires, in seconds.
const MIN_REFRESH_TTL: u32 = 10;
/// The minimum number of uses of an entry that is refreshed before it expires.
const MIN_REFRESH_USES: u32 = 2;
/// After this many uses of an entry, every `SAMPLE`th hit is recorded, and counts as `SAMPLE` uses:
/// a counter that all threads write would slow all of them down.
const SAMPLE: u32 = 16;
/// The maximum heat of a node: the number of recent uses that decides about its eviction.
const MAX_HEAT: u8 = 3;
/// The number of labels beyond which labels of routes without entries are removed.
const MAX_LABELS: usize = 1024;
/// The overhead of the memory allocator for each allocation, in octets: an estimate.
const MALLOC_OVERHEAD: usize = 16;
/// The number of nodes that each write moves while the map grows. Removed nodes are not freed until
/// all have moved.
const NODES_MOVED_PER_WRITE: usize = 512;
/// Nodes larger than this many octets are freed as soon as no reader uses them; smaller ones in
/// batches.
const LARGE_NODE_OCTETS: usize = 2048;

/// The limits of TTLs and of stale answers, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// The minimum TTL.
    pub min_ttl: u32,
    /// The maximum TTL of positive answers.
    pub max_ttl: u32,
    /// The maximum TTL of negative answers (RFC 2308, section 5).
    pub max_negative_ttl: u32,
    /// The time after its end in which an answer may be served as stale (RFC 8767); 0 turns stale
    /// answers off.
    pub max_stale: u32,
}

impl Default for Lifetimes {
    fn default() -> Lifetimes {
        Lifetimes { min_ttl: 0, max_ttl: 86_400, max_negative_ttl: 10_800, max_stale: 86_400 }
    }
}

impl Lifetimes {
    /// Brings the TTL of an answer within the limits. Call it for each answer before it is used.
    pub fn limit(&self, entry: &mut Entry) {
        let max_ttl = match entry.answer.count {
            0 => self.max_negative_ttl.min(self.max_ttl),
            _ => self.max_ttl,
        };
        entry.ttl = entry.ttl.max(self.min_ttl).min(max_ttl);
    }

    /// The end of an answer's use, also as a stale answer, in seconds since 1970.
    fn end(&self, entry: &Entry) -> i64 {
        entry.end() + i64::from(self.max_stale)
    }
}

/// The answers of other servers, by route and question.
pub struct Cache {
    nodes: Nodes,
    writer: Mutex<Writer>,
    lifetimes: Lifetimes,
    counters: CacheCounters,
}

/// All nodes, by the 64-bit hash of their key. A client cannot compute the hash. Of two keys with
/// one hash, the newer stays.
type Nodes = papaya::HashMap<u64, Node, BuildHasherDefault<IdentityHasher>>;

/// The state that writers share, behind one lock.
struct Writer {
    queues: Queues,
    /// The rule that each route comes from, by its ID.
    labels: HashMap<RouteId, Arc<str>, BuildHasherDefault<IdentityHasher>>,
}

/// The answer and the failure of one question. Immutable except for the use counters.
struct Node {
    key: Key,
    rule: Arc<str>,
    /// The last answer. It may be stale.
    good: Option<Arc<Entry>>,
    /// The last failure, if no answer came after it. A stale answer may be served while it lasts.
    failure: Option<Arc<Entry>>,
    /// The memory of the node with its entries, in octets.
    size: usize,
    /// The number that marks the node's slot in a queue.
    ticket: u64,
    /// Whether the node is in the main queue.
    is_main: AtomicBool,
    /// The number of recent uses, up to [`MAX_HEAT`].
    heat: AtomicU8,
    /// The number of uses, with those of earlier nodes of the same key.
    uses: AtomicU32,
    /// `uses` when the answer came.
    uses_before: u32,
    /// Whether a query was told to refresh the answer.
    is_refreshed: AtomicBool,
}

impl Node {
    fn new(key: Key, rule: Arc<str>, good: Option<Arc<Entry>>, failure: Option<Arc<Entry>>) -> Node {
        let entries = [&good, &failure].into_iter().flatten();
        // Four allocations for each entry: the entry, two sections and a text.
        let entries: usize = entries.map(|entry| entry.size() + 2 * size_of::<usize>() + 4 * MALLOC_OVERHEAD).sum();
        let size = size_of::<(u64, Node)>() + MALLOC_OVERHEAD + key.name.len() + MALLOC_OVERHEAD + entries;
        Node {
            key,
            rule,
            good,
            failure,
            size,
            ticket: 0,
            is_main: AtomicBool::new(false),
            heat: AtomicU8::new(0),
            uses: AtomicU32::new(0),
            uses_before: 0,
            is_refreshed: AtomicBool::new(false),
        }
    }

    /// The end of the node's use, also for stale answers, in seconds since 1970.
    fn end(&self, lifetimes: &Lifetimes) -> i64 {
        let good = self.good.as_ref().map(|entry| lifetimes.end(entry));
        good.max(self.failure.as_ref().map(|entry| entry.end())).unwrap_or(i64::MIN)
    }

    /// The answer at this time: a valid answer; during a failure, a stale answer; else the failure.
    #[inline]
    fn find(&self, lifetimes: &Lifetimes, now: i64) -> Option<KnownAnswer<'_>> {
        if let Some(entry) = &self.good
            && entry.holds(now)
        {
            // The clock of the thread may be behind the clock of the writer: the TTL does not
            // exceed the original TTL.
            let ttl = (entry.end() - now).min(entry.ttl.into()) as u32;
            let refresh = entry.ttl >= MIN_REFRESH_TTL
                && ttl <= entry.ttl / super::REFRESH_FRACTION
                && self.uses.load(Relaxed).wrapping_sub(self.uses_before) >= MIN_REFRESH_USES
                && !self.is_refreshed.load(Relaxed)
                && !self.is_refreshed.swap(true, Relaxed);
            return Some(KnownAnswer { entry, ttl, stale: false, refresh });
        }
        let failure = self.failure.as_ref().filter(|failure| failure.holds(now))?;
        let stale = self.good.as_ref().filter(|entry| lifetimes.end(entry) > now);
        Some(match stale {
            Some(entry) => KnownAnswer { entry, ttl: STALE_TTL, stale: true, refresh: false },
            None => KnownAnswer { entry: failure, ttl: (failure.end() - now) as u32, stale: false, refresh: false },
        })
    }

    /// Records a use. `hits` is the number of hits of the thread before it, for sampling.
    #[inline]
    fn used(&self, hits: u64) {
        let uses = self.uses.load(Relaxed);
        if uses.wrapping_sub(self.uses_before) < SAMPLE {
            self.uses.store(uses.wrapping_add(1), Relaxed);
        } else if hits.is_multiple_of(SAMPLE.into()) {
            self.uses.store(uses.wrapping_add(SAMPLE), Relaxed);
        }
        let heat = self.heat.load(Relaxed);
        if heat < MAX_HEAT {
            self.heat.store(heat + 1, Relaxed);
        }
    }
}

impl Cache {
    /// An empty cache with a maximum memory in octets.
    pub fn new(octets: usize, lifetimes: Lifetimes) -> Cache {
        Cache {
            nodes: papaya::HashMap::builder()
                .hasher(BuildHasherDefault::default())
                .resize_mode(ResizeMode::Incremental(NODES_MOVED_PER_WRITE))
                .build(),
            writer: Mutex::new(Writer { queues: Queues::new(octets), labels: HashMap::default() }),
            lifetimes,
            counters: CacheCounters::default(),
        }
    }

    /// The limits of TTLs and of stale answers.
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.lifetimes
    }

    /// Inserts an answer whose TTL is within the [limits](Lifetimes::limit). `rule` names the route
    /// for operators. An answer with the TTL 0 is not cached, and removes the node of the key.
    pub fn insert(&self, rule: &str, key: Key, entry: Arc<Entry>) {
        debug_assert!(entry.rcode != rcode::SERVFAIL, "a failure is inserted with insert_failure");
        let now = entry.since;
        let mut writer = self.writer();
        if entry.ttl == 0 {
            return self.remove(&mut writer, key.hash());
        }
        let rule = writer.label(key.route, rule);
        self.put(&mut writer, Node::new(key, rule, Some(entry), None), now);
    }

    /// Inserts a failure: no server gave a usable answer. The TTL is set here, and doubles with
    /// each failure that follows. An earlier answer stays, for stale answers. Returns the failure
    /// with its TTL.
    pub fn insert_failure(&self, rule: &str, key: Key, failure: Entry) -> Arc<Entry> {
        let now = failure.since;
        let mut writer = self.writer();
        let (good, last) = {
            let guard = self.nodes.guard();
            let node = self.nodes.get(&key.hash(), &guard).filter(|node| node.key == key);
            node.map_or((None, None), |node| (node.good.clone(), node.failure.clone()))
        };
        let ttl = match last {
            Some(last) if last.holds(now) => last.ttl,
            Some(last) if (last.end()..last.end() + FAILURE_MEMORY).contains(&now) => {
                (2 * last.ttl).min(MAX_FAILURE_TTL)
            }
            _ => FAILURE_TTL,
        };
        let failure = Arc::new(Entry { ttl, ..failure });
        let good = good.filter(|entry| self.lifetimes.end(entry) > now);
        let rule = writer.label(key.route, rule);
        self.put(&mut writer, Node::new(key, rule, good, Some(failure.clone())), now);
        failure
    }

    /// The last answer, valid or stale (RFC 8767).
    pub fn stale(&self, route: RouteId, question: &Question, now: i64) -> Option<Arc<Entry>> {
        let guard = self.nodes.guard();
        let node = self.nodes.get(&question.hash(route), &guard).filter(|node| node.key.is(route, question))?;
        let entry = node.good.as_ref().filter(|entry| self.lifetimes.end(entry) > now)?;
        Some(entry.clone())
    }

    /// Whether the cache has a valid answer for a key.
    pub fn holds(&self, key: &Key, now: i64) -> bool {
        let guard = self.nodes.guard();
        let node = self.nodes.get(&key.hash(), &guard).filter(|node| node.key == *key);
        node.and_then(|node| node.good.as_ref()).is_some_and(|entry| entry.holds(now))
    }

    /// Counts a question that was answered with a [stale](Cache::stale) answer.
    pub fn count_stale(&self) {
        self.counters.mine().stale();
    }

    /// Counts a question that the cache does not answer.
    pub fn count_miss(&self) {
        self.counters.mine().missed();
    }

    /// Removes the entries of all names in a scope, or all entries, and returns their number.
    /// Answers to questions in flight may be inserted afterwards.
    pub fn flush(&self, scope: Option<&Scope>) -> usize {
        let guard = self.nodes.guard();
        let nodes = self.nodes.iter(&guard).filter(|(_, node)| scope.is_none_or(|scope| scope.holds(&node.key.name)));
        // The search takes no lock, so that writers need not wait for it.
        let hashes: Vec<u64> = nodes.map(|(hash, _)| *hash).collect();
        let mut writer = self.writer();
        for hash in &hashes {
            if let Some(node) = self.nodes.remove(hash, &guard) {
                writer.queues.count_left(node);
            }
        }
        writer.queues.tidy(&self.nodes, &guard);
        hashes.len()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the node with the same hash, or appends a new node to a queue. Evicts as many nodes
    /// as needed.
    fn put(&self, writer: &mut Writer, mut node: Node, now: i64) {
        let hash = node.key.hash();
        let queues = &mut writer.queues;
        if !queues.takes(node.size) {
            return self.remove(writer, hash);
        }
        loop {
            // Evicted nodes are freed only after the guard is dropped, so each round has its own.
            let guard = self.nodes.guard();
            if queues.has_room(node.size, self.nodes.get(&hash, &guard).map(|node| node.size)) {
                break;
            }
            let Some(size) = queues.evict(&self.nodes, &guard, |node| node.end(&self.lifetimes) <= now) else { return };
            self.counters.evicted();
            flush_large(size, &guard);
        }
        let guard = self.nodes.guard();
        match self.nodes.get(&hash, &guard) {
            Some(old) => {
                let uses = old.uses.load(Relaxed);
                node.uses_before = uses;
                if is_same(&old.good, &node.good) {
                    node.uses_before = old.uses_before;
                    *node.is_refreshed.get_mut() = old.is_refreshed.load(Relaxed);
                }
                *node.uses.get_mut() = uses;
                *node.heat.get_mut() = old.heat.load(Relaxed);
                *node.is_main.get_mut() = old.is_main.load(Relaxed);
                node.ticket = old.ticket;
                queues.count_left(old);
                queues.count_entered(&node);
            }
            None => queues.enter(hash, &mut node, &self.nodes, &guard),
        }
        if let Some(old) = self.nodes.insert(hash, node, &guard) {
            flush_large(old.size, &guard);
        }
    }

    fn remove(&self, writer: &mut Writer, hash: u64) {
        let guard = self.nodes.guard();
        if let Some(node) = self.nodes.remove(&hash, &guard) {
            writer.queues.count_left(node);
        }
    }
}

/// Frees a removed node soon if it is large. Otherwise the map frees removed nodes in batches of
/// each thread.
fn flush_large(size: usize, guard: &impl papaya::Guard) {
    if size > LARGE_NODE_OCTETS {
        guard.flush();
    }
}

/// Whether both are the same allocation.
fn is_same(one: &Option<Arc<Entry>>, other: &Option<Arc<Entry>>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
}

impl Writer {
    /// The label of a route, shared by all of its entries.
    fn label(&mut self, route: RouteId, rule: &str) -> Arc<str> {
        if self.labels.len() >= MAX_LABELS && !self.labels.contains_key(&route) {
            self.labels.retain(|_, label| Arc::strong_count(label) > 1);
        }
        self.labels.entry(route).or_insert_with(|| rule.into()).clone()
    }
}

impl KnownAnswers for Cache {
    #[inline]
    fn with<R>(
        &self,
        route: RouteId,
        question: &Question,
        now: i64,
        use_it: impl FnOnce(Option<KnownAnswer>) -> R,
    ) -> R {
        let guard = self.nodes.guard();
        let node = self.nodes.get(&question.hash(route), &guard).filter(|node| node.key.is(route, question));
        let Some((node, found)) = node.and_then(|node| Some((node, node.find(&self.lifetimes, now)?))) else {
            return use_it(None);
        };
        node.used(self.counters.mine().hit(found.stale, found.refresh));
        use_it(Some(found))
    }
}
