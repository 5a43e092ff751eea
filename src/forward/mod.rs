//! Answers to queries that need other servers: the second verb, [`respond`].
//!
//! `respond` calls [`answer`](crate::answer::answer) in a loop. Each time that `answer` returns a
//! route and a question, `respond` asks the servers of the route, and `answer` finds their records
//! in the next round. No unfinished answer is held across an await.
//!
//! ```text
//! request        one query of a client, from its first question to other servers to its reply
//! single_flight  equal questions in flight are asked once
//! admission      how many queries may wait, and which one gives way
//! upstream       the servers of a route: order, attempts, transports, health
//! recursion      questions to the authoritative servers, from the root
//! read           the records of a response that are accepted
//! cache          the answers of other servers
//! lookup         the addresses of a name, for health checks
//! ```

pub mod admission;
pub mod cache;
mod counters;
mod identity_hasher;
pub mod lookup;
pub mod read;
pub mod recursion;
mod request;
mod single_flight;
#[cfg(test)]
mod tests;
pub mod upstream;

use crate::{
    answer::{
        Answered, Client, Moment, Outcome, QueryLogTrace, Step, answer,
        known::{Entry, Key, KnownAnswer, KnownAnswers, OwnedRoutedQuestion, Question, RoutedQuestion},
    },
    detect::Detectors,
    snapshot::{Snapshot, published::Published, routes::RouteId},
    wire::{codes::ede, subnet::limited_prefix},
};
pub use admission::AdmissionPermit;
use admission::{Admission, AdmissionRequest};
use cache::{Cache, Lifetimes};
use prometheus::Registry;
use recursion::{Budget, Recursion};
use request::ClientRequest;
use single_flight::SingleFlight;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize},
    },
    time::Duration,
};
use tokio::{runtime::Handle, time::sleep};
use upstream::Upstreams;

/// The longest time that a client waits for a reply.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(4500);
/// The longest time that recursion takes for one question. A question that takes longer than the client
/// waits stays in flight, so that the client's next attempt gets the answer.
const RECURSION_TIMEOUT: Duration = Duration::from_secs(9);
/// The time after which a client gets a stale answer, if the cache holds one: the client response
/// timer of RFC 8767, section 5.
const STALE_ANSWER_TIMEOUT: Duration = Duration::from_millis(1800);
/// The time after which a question is given up for which there is a substitute: for DNS64, AAAA
/// records in favour of A records.
const HASTY_TIMEOUT: Duration = Duration::from_millis(2000);
/// The TTL of stale answers, in seconds (RFC 8767, section 4).
pub const STALE_TTL: u32 = 30;
/// A cache entry in demand is refreshed when at most one part in this many of its TTL is left.
pub const REFRESH_FRACTION: u32 = 10;

/// The extended error text for a query that gets no permit to wait.
pub const NOT_ADMITTED: &str = "too many queries wait for other servers";
/// The extended error text for a query whose permit went to a newer query.
const REPLACED: &str = "too many queries wait for other servers, and newer ones replaced this one";
/// The maximum number of questions that stay in flight after their query got a stale or substitute
/// answer.
const MAX_DETACHED: usize = 2_500;
/// The maximum number of questions for recursion that may take longer than their query waits.
const MAX_LONG_RECURSIONS: usize = 512;

/// The state that queries to other servers share.
pub struct Forwarding {
    /// The snapshot that zonal serves.
    pub snapshot: Published,
    /// The answers of other servers.
    pub cache: Cache,
    /// The servers of all routes in use.
    pub upstreams: Arc<Upstreams>,
    /// The recursor, if `internet_resolver` is recursive.
    pub recursion: Option<Recursion>,
    /// The permits of queries that wait.
    pub admission: Arc<Admission>,
    /// The detectors of DNS Firewall, which see the queries that miss the cache.
    pub detectors: Arc<Detectors>,
    single_flight: SingleFlight,
    /// The number of questions in flight that no query waits for.
    detached: Arc<AtomicUsize>,
    /// The number of questions for recursion that may take longer than their query waits.
    long_recursions: Arc<AtomicUsize>,
    /// The number that rotates record sets; it grows by one with each reply.
    draw: AtomicU32,
    /// The runtime of all tasks.
    runtime: Handle,
}

/// The limits of waiting queries and of the cache.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum number of queries that wait for other servers at the same time.
    pub waiting: usize,
    /// The maximum memory of the cache, in octets.
    pub cache_octets: usize,
    /// The limits of TTLs and of stale answers.
    pub lifetimes: Lifetimes,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { waiting: 10_000, cache_octets: 64 << 20, lifetimes: Lifetimes::default() }
    }
}

impl Forwarding {
    /// Creates the state, with an empty cache.
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
            detectors: Arc::default(),
            single_flight: SingleFlight::default(),
            detached: Arc::default(),
            long_recursions: Arc::default(),
            draw: AtomicU32::new(0),
            runtime: runtime.clone(),
        })
    }

    /// Registers the metrics of the cache, of the queries that wait, of the upstream servers, and of the detectors.
    pub fn register(self: &Arc<Self>, registry: &Registry) {
        counters::register(registry, self);
        self.detectors.register(registry);
    }

    /// Gives a query a permit to wait for other servers. None if [`Admission::admit`] refuses it.
    pub fn wait(&self, client: &Client, forward: &RoutedQuestion) -> Option<AdmissionPermit> {
        let RoutedQuestion { id: route, tenant, .. } = *forward;
        self.admission.admit(&AdmissionRequest { client: limited_prefix(client.source), tenant, route })
    }

    /// Completes when no query waits for other servers.
    pub async fn drain(&self) {
        while self.admission.counts().unfinished > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A reply, and how it was made.
pub struct CompletedReply {
    /// The properties of the reply that counters and limits use.
    pub answered: Answered,
    /// The reply in wire format.
    pub reply: Vec<u8>,
    /// The decisions that led to the reply, for the query log.
    pub noted: Box<QueryLogTrace>,
    /// The snapshot that the reply was made from.
    pub snapshot: Arc<Snapshot>,
}

/// Answers a query, and asks other servers for the records that it needs. `asked` is the first
/// question to other servers, if [`answer`](crate::answer::answer) has returned it already.
///
/// None if the query gets no reply. If the query loses its permit, the reply is SERVFAIL. Run this
/// in its own task: other queries may wait for its questions.
pub async fn respond(
    forwarding: &Arc<Forwarding>,
    client: &Client,
    query: &[u8],
    asked: Option<OwnedRoutedQuestion>,
    permit: Option<&AdmissionPermit>,
) -> Option<CompletedReply> {
    let request = ClientRequest::new(forwarding, client, query);
    let response = tokio::select! {
        biased;
        response = request.respond(query, asked, false) => response,
        () = admission::replaced(permit) => request.fail(query, REPLACED),
    };
    if response.as_ref().is_some_and(|response| response.answered.refresh) {
        refresh(forwarding, client, query);
    }
    response
}

/// Answers a query like [`respond`], and returns the steps of recursion too.
pub async fn respond_explained(
    forwarding: &Arc<Forwarding>,
    client: &Client,
    query: &[u8],
) -> (Option<CompletedReply>, Vec<Step>) {
    let budget = Arc::new(Budget::explained());
    let request = ClientRequest::new(forwarding, client, query).explained(&budget);
    (request.respond(query, None, false).await, budget.steps.take())
}

/// Refreshes the cache entries that a query was answered from and that expire soon, in its own
/// task.
#[cold]
pub fn refresh(forwarding: &Arc<Forwarding>, client: &Client, query: &[u8]) {
    let Some(permit) = forwarding.admission.admit(&AdmissionRequest::REFRESH) else { return };
    let (request, query) = (ClientRequest::new(forwarding, client, query), query.to_vec());
    forwarding.runtime.spawn(async move {
        tokio::select! {
            biased;
            _ = request.respond(&query, None, true) => {}
            () = admission::replaced(Some(&permit)) => {}
        }
    });
}

/// Writes the SERVFAIL reply of a query that got no permit, with `why` as the extended error text.
/// The failure is local: it is not cached, and does not count against a server.
pub fn fail<'s>(
    snapshot: &'s Snapshot,
    client: &Client,
    moment: Moment,
    query: &[u8],
    reply: &mut [u8],
    why: &'static str,
) -> Outcome<'s> {
    answer(snapshot, &AlwaysFailing(Entry::failure(ede::OTHER, why, moment.now, 0)), client, moment, query, reply)
}

/// The answers to a question: first its own, then those for the targets that its CNAME leads to.
type Answers = Arc<Vec<(Key, Arc<Entry>)>>;

/// The answers that one query can use: those that were asked for it, then the cache.
struct GatheredAnswers<'c> {
    cache: &'c Cache,
    /// Cache entries that expire soon are ignored, so that they are asked for again.
    renew: bool,
    /// The answers that were asked for the query, and whether they are stale.
    entries: Vec<(Answers, bool)>,
}

impl KnownAnswers for GatheredAnswers<'_> {
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
            Some(found) if self.renew && found.ttl <= found.entry.ttl / REFRESH_FRACTION => use_it(None),
            found => use_it(found),
        })
    }
}

/// Answers each question with the same failure.
struct AlwaysFailing(Entry);

impl KnownAnswers for AlwaysFailing {
    fn with<R>(&self, _: RouteId, _: &Question, _: i64, use_it: impl FnOnce(Option<KnownAnswer>) -> R) -> R {
        use_it(Some(KnownAnswer { entry: &self.0, ttl: 0, stale: false, refresh: false }))
    }
}
