//! What others answered, for as long as it holds, and for a while longer in case they fail.
//!
//! Those who answer queries read a map without ever waiting. Those who have asked others take turns to write: whoever
//! writes also says goodbye to what is in the way ([`queues`]), so that the memory that all of this takes never passes
//! the budget.

mod counters;
mod queues;
mod show;
#[cfg(test)]
mod tests;

use super::{STALE_TTL, hash::Hash};
use crate::{
    answer::known::{Entry, Key, KnownAnswer, KnownAnswers, Question},
    snapshot::routes::RouteId,
    wire::codes::rcode,
};
use counters::Counters;
pub use counters::Counts;
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

/// How long a first failure is known, in seconds; each one that follows it holds for twice as long (RFC 9520, 3.2).
const FAILURE_TTL: u32 = 5;
/// The longest that a failure is known, in seconds.
const MAX_FAILURE_TTL: u32 = 60;
/// A failure this long after the end of the last one, in seconds, is a first one again.
const FAILURE_MEMORY: i64 = 60;
/// What holds for less than this, in seconds, is not fetched before it ends.
const MIN_REFRESH_TTL: u32 = 10;
/// How often an entry must have been used to be fetched again before it ends.
const MIN_REFRESH_USES: u32 = 2;
/// From how many uses on only each so-manieth hit is written down, as so many: what many threads read should not be
/// written by all of them all the time.
const SAMPLE: u32 = 16;
/// More heat than this an entry cannot gather.
const MAX_HEAT: u8 = 3;
/// Routes with a label, beyond which those without an entry are forgotten.
const MOST_LABELS: usize = 1024;
/// What the memory allocator takes for itself, for each piece.
const MALLOC: usize = 16;
/// How many nodes who writes has to move when the map moves to another table. What is taken out meanwhile is not freed.
const MOVED: usize = 512;
/// Larger nodes than this are freed as soon as nobody can have them in hand; smaller ones some at a time.
const LARGE: usize = 2048;

/// How long answers are kept, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// The least TTL.
    pub min_ttl: u32,
    /// The largest TTL of records.
    pub max_ttl: u32,
    /// The largest TTL of an answer that there are none (RFC 2308, 5).
    pub max_negative_ttl: u32,
    /// How long what has ended may still be used when nobody can be asked (RFC 8767); 0: not at all.
    pub max_stale: u32,
}

impl Default for Lifetimes {
    fn default() -> Lifetimes {
        Lifetimes { min_ttl: 0, max_ttl: 86_400, max_negative_ttl: 10_800, max_stale: 86_400 }
    }
}

impl Lifetimes {
    /// Puts the TTL of an answer within the limits: for all that comes from others, before anybody gets it.
    pub fn limit(&self, entry: &mut Entry) {
        let most = match entry.answer.count {
            0 => self.max_negative_ttl.min(self.max_ttl),
            _ => self.max_ttl,
        };
        entry.ttl = entry.ttl.max(self.min_ttl).min(most);
    }

    /// Until when an entry is of any use, in seconds since 1970.
    fn end(&self, entry: &Entry) -> i64 {
        entry.end() + i64::from(self.max_stale)
    }
}

/// The cache.
pub struct Cache {
    nodes: Nodes,
    writer: Mutex<Writer>,
    lifetimes: Lifetimes,
    counters: Counters,
}

/// All nodes by the hash of their key. It is 64 bits long and nobody outside can know it; where two keys share one
/// all the same, only the newer is kept.
type Nodes = papaya::HashMap<u64, Node, BuildHasherDefault<Hash>>;

/// What those who write share.
struct Writer {
    queues: Queues,
    /// The rules that routes come from.
    labels: HashMap<RouteId, Arc<str>, BuildHasherDefault<Hash>>,
}

/// What is known of one key. But for how much it is used nothing of it ever changes: whoever knows more makes a new one.
struct Node {
    key: Key,
    rule: Arc<str>,
    /// An answer. It may have ended.
    good: Option<Arc<Entry>>,
    /// The last failure to get one, beside it: what has ended is still of use then.
    failure: Option<Arc<Entry>>,
    /// Octets of memory, all that hangs on it included.
    size: usize,
    /// Its place in a queue carries the same number.
    ticket: u64,
    /// It is in the main queue.
    is_main: AtomicBool,
    /// How much it was used of late.
    heat: AtomicU8,
    /// How often it was used, those before it with the same key included.
    uses: AtomicU32,
    uses_before: u32,
    /// Somebody was told to fetch it anew.
    is_refreshed: AtomicBool,
}

impl Node {
    fn new(key: Key, rule: Arc<str>, good: Option<Arc<Entry>>, failure: Option<Arc<Entry>>) -> Node {
        let entries = [&good, &failure].into_iter().flatten();
        // The pieces of an entry: itself, two sections and a text.
        let entries: usize = entries.map(|entry| entry.size() + 2 * size_of::<usize>() + 4 * MALLOC).sum();
        let size = size_of::<(u64, Node)>() + MALLOC + key.name.len() + MALLOC + entries;
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

    /// When it is of no more use, in seconds since 1970.
    fn end(&self, lifetimes: &Lifetimes) -> i64 {
        let good = self.good.as_ref().map(|entry| lifetimes.end(entry));
        good.max(self.failure.as_ref().map(|entry| entry.end())).unwrap_or(i64::MIN)
    }

    /// What is known at this time, if that is anything that may be said.
    #[inline]
    fn find(&self, lifetimes: &Lifetimes, now: i64) -> Option<KnownAnswer<'_>> {
        if let Some(entry) = &self.good
            && entry.holds(now)
        {
            // Nor by a little, while clocks are apart.
            let ttl = (entry.end() - now).min(entry.ttl.into()) as u32;
            let refresh = entry.ttl >= MIN_REFRESH_TTL
                && ttl <= entry.ttl / super::REFRESH
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

    /// Notes a use, which is the `hits`th of its thread.
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
    /// An empty cache that takes at most this many octets.
    pub fn new(octets: usize, lifetimes: Lifetimes) -> Cache {
        Cache {
            nodes: papaya::HashMap::builder()
                .hasher(BuildHasherDefault::default())
                .resize_mode(ResizeMode::Incremental(MOVED))
                .build(),
            writer: Mutex::new(Writer { queues: Queues::new(octets), labels: HashMap::default() }),
            lifetimes,
            counters: Counters::default(),
        }
    }

    /// How long answers are kept.
    pub fn lifetimes(&self) -> &Lifetimes {
        &self.lifetimes
    }

    /// Keeps an answer, which is no failure and within the [limits](Lifetimes::limit). `rule` names for people the route
    /// that it came by. One with the TTL 0 takes away what was known before.
    pub fn insert(&self, rule: &str, key: Key, entry: Arc<Entry>) {
        debug_assert!(entry.rcode != rcode::SERVFAIL, "that is a failure");
        let now = entry.since;
        let mut writer = self.writer();
        if entry.ttl == 0 {
            return self.remove(&mut writer, key.hash());
        }
        let rule = writer.label(key.route, rule);
        self.put(&mut writer, Node::new(key, rule, Some(entry), None), now);
    }

    /// Keeps that no server gave an answer, and why. The TTL is set here: it is longer if it was so the last time. What was answered before stays, to be used when it has ended. Returns what is known now.
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

    /// The last answer, if it may be used when others fail, though it has ended (RFC 8767).
    pub fn stale(&self, route: RouteId, question: &Question, now: i64) -> Option<Arc<Entry>> {
        let guard = self.nodes.guard();
        let node = self.nodes.get(&question.hash(route), &guard).filter(|node| node.key.is(route, question))?;
        let entry = node.good.as_ref().filter(|entry| self.lifetimes.end(entry) > now)?;
        Some(entry.clone())
    }

    /// Whether an answer is known that has not ended.
    pub fn holds(&self, key: &Key, now: i64) -> bool {
        let guard = self.nodes.guard();
        let node = self.nodes.get(&key.hash(), &guard).filter(|node| node.key == *key);
        node.and_then(|node| node.good.as_ref()).is_some_and(|entry| entry.holds(now))
    }

    /// Counts that somebody was answered with what is [stale](Cache::stale).
    pub fn went_stale(&self) {
        self.counters.mine().stale();
    }

    /// Counts a question that others have to be asked, or that somebody waits for who has asked the same.
    pub fn missed(&self) {
        self.counters.mine().missed();
    }

    /// Forgets all names in a scope, or everything. What others are being asked at the time may come in afterwards.
    /// Returns how many entries there were.
    pub fn flush(&self, scope: Option<&Scope>) -> usize {
        let guard = self.nodes.guard();
        let nodes = self.nodes.iter(&guard).filter(|(_, node)| scope.is_none_or(|scope| scope.holds(&node.key.name)));
        // Who inserts need not wait until all names are looked at.
        let hashes: Vec<u64> = nodes.map(|(hash, _)| *hash).collect();
        let mut writer = self.writer();
        for hash in &hashes {
            if let Some(node) = self.nodes.remove(hash, &guard) {
                writer.queues.left(node);
            }
        }
        writer.queues.tidy(&self.nodes, &guard);
        hashes.len()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a node in the place of the one with the same hash, or at the end of a queue.
    fn put(&self, writer: &mut Writer, mut node: Node, now: i64) {
        let hash = node.key.hash();
        let queues = &mut writer.queues;
        if !queues.takes(node.size) {
            return self.remove(writer, hash);
        }
        loop {
            // What is evicted is not freed before the guard is gone.
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
                queues.left(old);
                queues.came(&node);
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
            writer.queues.left(node);
        }
    }
}

/// Has what was taken out freed soon, if it is large: otherwise each thread keeps some of it for later.
fn flush_large(size: usize, guard: &impl papaya::Guard) {
    if size > LARGE {
        guard.flush();
    }
}

/// Whether both are the same entry, and not only equal ones.
fn is_same(one: &Option<Arc<Entry>>, other: &Option<Arc<Entry>>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
}

impl Writer {
    /// The label of a route, which all of its entries share.
    fn label(&mut self, route: RouteId, rule: &str) -> Arc<str> {
        if self.labels.len() >= MOST_LABELS && !self.labels.contains_key(&route) {
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
