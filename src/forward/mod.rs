//! Everything that has to ask others: the second verb, [`respond`].
//!
//! `respond` calls [`answer`](crate::answer::answer) again and again: each time that it says whom to ask, they are asked,
//! and what they said is known the next time. Nothing of a half-made answer is carried over an await.

pub mod cache;
mod flights;
pub mod read;
pub mod upstream;

use crate::{
    answer::{
        Answered, Client, Moment, Outcome, answer,
        known::{Entry, Forward, Found, Key, Known, Question},
    },
    listen::{Core, now},
    snapshot::{
        Snapshot,
        routes::{RouteId, Servers},
    },
};
use cache::{Cache, Lifetimes};
use flights::{Flights, Place};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;
use upstream::Upstreams;

/// A client never waits longer than this.
const PATIENCE: Duration = Duration::from_millis(4500);
/// After how long a client gets what has ended, if there is that (RFC 8767, 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);
/// The TTL of what has ended (RFC 8767, 4), in seconds.
pub const STALE_TTL: u32 = 30;
/// How many questions one query may lead to.
const MOST_QUESTIONS: usize = 40;

/// What asking others takes.
pub struct Forwarding {
    /// What they answered.
    pub cache: Cache,
    /// Those who are asked.
    pub upstreams: Arc<Upstreams>,
    flights: Flights,
    /// Queries that wait for others.
    waiting: AtomicUsize,
    most_waiting: usize,
    draw: AtomicU32,
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
    pub fn new(limits: &Limits, upstreams: Arc<Upstreams>) -> Forwarding {
        Forwarding {
            cache: Cache::new(limits.cache_octets, limits.lifetimes),
            upstreams,
            flights: Flights::default(),
            waiting: AtomicUsize::new(0),
            most_waiting: limits.waiting,
            draw: AtomicU32::new(0),
        }
    }

    /// Takes a place among the queries that may wait; none if all are taken.
    pub fn wait(self: &Arc<Self>) -> Option<Waiting> {
        if self.waiting.fetch_add(1, Relaxed) >= self.most_waiting {
            self.waiting.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Waiting(self.clone()))
    }
}

/// A place among the queries that wait for others.
pub struct Waiting(Arc<Forwarding>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// Answers one query into `reply`, whose length is the most that the transport carries, and asks others if need be. None
/// if there is nothing to say. It must not be cancelled: run it in a task of its own.
pub async fn respond(core: &Core, client: &Client, query: &[u8], reply: &mut [u8]) -> Option<Answered> {
    let forwarding = &core.forwarding;
    let snapshot = core.snapshot.load_full();
    let draw = forwarding.draw.fetch_add(1, Relaxed);
    let deadline = Instant::now() + PATIENCE;
    let mut known = Gathered { cache: &forwarding.cache, entries: Vec::new() };
    loop {
        let outcome = answer(&snapshot, &known, client, Moment { now: now(), draw }, query, reply);
        let forward = match outcome {
            Outcome::Reply(answered) => return Some(answered),
            Outcome::Drop => return None,
            Outcome::Forward(forward) => forward,
        };
        forwarding.cache.missed();
        let name = forward.name();
        let question = forward.question(&name);
        let key = Key::new(forward.route.id, &question);
        let found = match known.entries.len() < MOST_QUESTIONS {
            true => ask(core, &snapshot, client, &forward, &question, &key, deadline).await,
            false => {
                vec![(key.clone(), Arc::new(Entry::failure(0, "this name leads to too many questions", now(), 0)))]
            }
        };
        known.entries.extend(found.into_iter().map(|(key, entry)| (key, entry, false)));
    }
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
    answer(snapshot, &Failing(Entry::failure(0, why, moment.now, 0)), client, moment, query, reply)
}

type Answers = Vec<(Key, Arc<Entry>)>;

/// Asks others, or waits for somebody who has asked the same. There is always an answer, if only that of a failure.
async fn ask(
    core: &Core,
    snapshot: &Snapshot,
    client: &Client,
    forward: &Forward<'_>,
    question: &Question<'_>,
    key: &Key,
    deadline: Instant,
) -> Answers {
    let forwarding = &core.forwarding;
    let landed = match forwarding.flights.join(key) {
        Place::Passenger(landing) => landing.wait(deadline).await,
        Place::Pilot(flight) => {
            let answers = go(core, snapshot, client, forward, question, deadline).await;
            flight.land(answers.clone());
            Some(answers)
        }
    };
    landed.unwrap_or_else(|| vec![(key.clone(), Arc::new(Entry::failure(22, "no server answered in time", now(), 0)))])
}

async fn go(
    core: &Core,
    _snapshot: &Snapshot,
    _client: &Client,
    forward: &Forward<'_>,
    question: &Question<'_>,
    deadline: Instant,
) -> Answers {
    let forwarding = &core.forwarding;
    let key = || Key::new(forward.route.id, question);
    let asked = match &forward.route.servers {
        Servers::Targets { .. } => forwarding.upstreams.ask(forward.route, question, deadline).await,
        Servers::Recursion => Err(upstream::Failure { code: 0, text: "recursion is not there yet".into() }),
    };
    let answers = match asked {
        Ok(response) => read::read(&response.message, forward.route, question, now(), forwarding.cache.lifetimes()),
        Err(failure) => Err(failure),
    };
    match answers {
        Ok(answers) => {
            for (key, entry) in &answers {
                forwarding.cache.insert(&forward.route.rule, key.clone(), entry.clone());
            }
            answers
        }
        Err(failure) => {
            let rule = &forward.route.rule;
            let entry = forwarding.cache.insert_failure(rule, key(), failure.code, &failure.text, now());
            vec![(key(), entry)]
        }
    }
}

/// What is known to one query: what was asked for it, and then the cache.
struct Gathered<'c> {
    cache: &'c Cache,
    /// With whether they have ended.
    entries: Vec<(Key, Arc<Entry>, bool)>,
}

impl Known for Gathered<'_> {
    fn with<R>(&self, route: RouteId, question: &Question, now: i64, use_it: impl FnOnce(Option<Found>) -> R) -> R {
        match self.entries.iter().find(|(key, ..)| key.is(route, question)) {
            Some((_, entry, stale)) => {
                let ttl = if *stale { STALE_TTL } else { (entry.end() - now).clamp(0, entry.ttl.into()) as u32 };
                use_it(Some(Found { entry, ttl, stale: *stale, refresh: false }))
            }
            None => self.cache.with(route, question, now, use_it),
        }
    }
}

/// Knows of every question that it fails.
struct Failing(Entry);

impl Known for Failing {
    fn with<R>(&self, _: RouteId, _: &Question, _: i64, use_it: impl FnOnce(Option<Found>) -> R) -> R {
        use_it(Some(Found { entry: &self.0, ttl: 0, stale: false, refresh: false }))
    }
}
