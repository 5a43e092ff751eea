//! Everything that has to ask others: the second verb, [`respond`].
//!
//! `respond` calls [`answer`](crate::answer::answer) again and again: each time that it says whom to ask, they are asked,
//! and what they said is known the next time. Nothing of a half-made answer is carried over an await.

pub mod admission;
mod ask;
pub mod cache;
mod counters;
mod flights;
mod hash;
pub mod lookup;
pub mod read;
pub mod recursion;
pub mod upstream;

use crate::{
    answer::{
        Answered, Client, Moment, Outcome, QueryLogTrace, answer,
        known::{Entry, Key, KnownAnswer, KnownAnswers, OwnedRoutedQuestion, Question, RoutedQuestion},
    },
    snapshot::{Snapshot, published::Published, routes::RouteId},
    wire::{codes::ede, subnet::limited_prefix},
};
pub use admission::Waiting;
use admission::{Admission, Applicant};
use ask::Asker;
use cache::{Cache, Lifetimes};
use flights::Flights;
use prometheus::Registry;
use recursion::Recursion;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize},
    },
    time::Duration,
};
use tokio::{runtime::Handle, time::sleep};
use upstream::Upstreams;

/// A client never waits longer than this.
const PATIENCE: Duration = Duration::from_millis(4500);
/// After how long a client gets what has ended, if there is that (RFC 8767, 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);
/// After how long something else is asked for that will do as well, if there is that.
const HASTY_PATIENCE: Duration = Duration::from_millis(2000);
/// The TTL of what has ended (RFC 8767, 4), in seconds.
pub const STALE_TTL: u32 = 30;
/// What is in demand is asked for anew when no more than this part of its TTL is left.
pub const REFRESH: u32 = 10;

/// What a client is told whose query finds no seat among those that wait.
pub const NO_ROOM: &str = "too many queries wait for other servers";
/// What a client is told whose query has lost its seat.
const REPLACED: &str = "too many queries wait for other servers, and newer ones replaced this one";
/// Questions that may go on when no query waits for them any more, since it was answered with something else.
const MAX_DETACHED: usize = 2_500;

/// What asking others takes.
pub struct Forwarding {
    /// What is served.
    pub snapshot: Published,
    /// What they answered.
    pub cache: Cache,
    /// Those who are asked.
    pub upstreams: Arc<Upstreams>,
    /// What asks the authoritative servers, where the configuration has it so.
    pub recursion: Option<Recursion>,
    /// Which queries may wait for others.
    pub admission: Arc<Admission>,
    flights: Flights,
    /// Questions that go on for no query that waits.
    detached: Arc<AtomicUsize>,
    draw: AtomicU32,
    /// Where tasks run.
    runtime: Handle,
}

/// Limits of what waits and of what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Queries that may wait for others at the same time.
    pub waiting: usize,
    /// Octets that the cache may take.
    pub cache_octets: usize,
    /// How long answers are kept.
    pub lifetimes: Lifetimes,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { waiting: 10_000, cache_octets: 64 << 20, lifetimes: Lifetimes::default() }
    }
}

impl Forwarding {
    /// Nothing is known yet.
    pub fn new(
        snapshot: Published,
        limits: &Limits,
        upstreams: Arc<Upstreams>,
        recursion: Option<Recursion>,
        runtime: &Handle,
    ) -> Arc<Forwarding> {
        Arc::new(Forwarding {
            snapshot,
            cache: Cache::new(limits.cache_octets, limits.lifetimes),
            upstreams,
            recursion,
            admission: Admission::new(limits.waiting),
            flights: Flights::default(),
            detached: Arc::default(),
            draw: AtomicU32::new(0),
            runtime: runtime.clone(),
        })
    }

    /// Registers the counters of the cache, of the queries that wait, and of the servers that are asked.
    pub fn register(self: &Arc<Self>, registry: &Registry) {
        counters::register(registry, self);
    }

    /// Takes a seat among the queries that wait for others; none if there is none for it.
    pub fn wait(&self, client: &Client, forward: &RoutedQuestion) -> Option<Waiting> {
        let RoutedQuestion { id: route, tenant, .. } = *forward;
        self.admission.admit(&Applicant { client: limited_prefix(client.source), tenant, route })
    }

    /// Waits until no query waits for others any more.
    pub async fn drain(&self) {
        while self.admission.counts().unfinished > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What came of a query.
pub struct Response {
    /// What counters and limits want to know of the reply.
    pub answered: Answered,
    /// The reply.
    pub reply: Vec<u8>,
    /// How it came about.
    pub noted: Box<QueryLogTrace>,
    /// What answered.
    pub snapshot: Arc<Snapshot>,
}

/// Answers one query, and asks others if need be, as is already known if it was [answered](crate::answer::answer) so. None
/// if there is nothing to say. It fails when it loses its seat. Run it in a task of its own: others may wait for what it
/// asks.
pub async fn respond(
    forwarding: &Arc<Forwarding>,
    client: &Client,
    query: &[u8],
    asked: Option<OwnedRoutedQuestion>,
    seat: Option<&Waiting>,
) -> Option<Response> {
    let asker = Asker::new(forwarding, client, query);
    let response = tokio::select! {
        biased;
        response = asker.respond(query, asked, false) => response,
        () = admission::replaced(seat) => asker.fail(query, REPLACED),
    };
    if response.as_ref().is_some_and(|response| response.answered.refresh) {
        refresh(forwarding, client, query);
    }
    response
}

/// Asks anew, in a task of its own, for what a query was answered with and what ends soon.
#[cold]
pub fn refresh(forwarding: &Arc<Forwarding>, client: &Client, query: &[u8]) {
    let Some(seat) = forwarding.admission.admit(&Applicant::REFRESH) else { return };
    let (asker, query) = (Asker::new(forwarding, client, query), query.to_vec());
    forwarding.runtime.spawn(async move {
        tokio::select! {
            biased;
            _ = asker.respond(&query, None, true) => {}
            () = admission::replaced(Some(&seat)) => {}
        }
    });
}

/// Fails a query that there is no room for.
pub fn fail<'s>(
    snapshot: &'s Snapshot,
    client: &Client,
    moment: Moment,
    query: &[u8],
    reply: &mut [u8],
    why: &'static str,
) -> Outcome<'s> {
    answer(snapshot, &Failing(Entry::failure(ede::OTHER, why, moment.now, 0)), client, moment, query, reply)
}

/// What others said: the answer to the question is the first; then what it leads to.
type Answers = Arc<Vec<(Key, Arc<Entry>)>>;

/// What is known to one query: what was asked for it, and then the cache.
struct Gathered<'c> {
    cache: &'c Cache,
    /// What is known but ends soon counts as not known.
    renew: bool,
    /// With whether they have ended.
    entries: Vec<(Answers, bool)>,
}

impl KnownAnswers for Gathered<'_> {
    fn with<R>(
        &self,
        route: RouteId,
        question: &Question,
        now: i64,
        use_it: impl FnOnce(Option<KnownAnswer>) -> R,
    ) -> R {
        for (answers, stale) in &self.entries {
            if let Some((_, entry)) = answers.iter().find(|(key, _)| key.is(route, question)) {
                let ttl = if *stale { STALE_TTL } else { (entry.end() - now).clamp(0, entry.ttl.into()) as u32 };
                return use_it(Some(KnownAnswer { entry, ttl, stale: *stale, refresh: false }));
            }
        }
        self.cache.with(route, question, now, |found| match found {
            Some(found) if self.renew && found.ttl <= found.entry.ttl / REFRESH => use_it(None),
            found => use_it(found),
        })
    }
}

/// Knows of every question that it fails.
struct Failing(Entry);

impl KnownAnswers for Failing {
    fn with<R>(&self, _: RouteId, _: &Question, _: i64, use_it: impl FnOnce(Option<KnownAnswer>) -> R) -> R {
        use_it(Some(KnownAnswer { entry: &self.0, ttl: 0, stale: false, refresh: false }))
    }
}
