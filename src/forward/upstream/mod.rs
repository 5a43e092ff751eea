//! The servers of a route: which one is asked, when, and by which transport.
//!
//! ```text
//! attempts          one question: which server is next, when another attempt is made, which response is the answer
//! probe             queries that measure a server, or find out that it is back
//! health            round trip times and failures: the order of servers, and the interval between attempts
//! query             the query in wire format, its random case, and the check of a response against it
//! pending           the events of all attempts of one question
//! server            one server: its health, and its transports: udp; pool of stream connections (TCP, DoT); https; quic; tls
//! case_behaviour    whether a server keeps the case of names
//! failure_log       log events for operators: which server failed, and how
//! confirm           whether responses by UDP agree, if they may be forged and TCP fails
//! source_addresses  the addresses that queries come from
//! stream            one connection by TCP or DoT
//! counters          the counters of all servers together
//! server_counters   the counters of one server
//! in_flight_names   the random case of names in flight: a query in the same case may be one of this node's own
//! loop_detection    whether the servers of a route send queries back to this node
//! ```
//!
//! Invariant: a response is accepted only if it comes from the server's address to the port of an
//! attempt in flight, with the attempt's ID and question, in the same case unless the server folds
//! case.

mod attempts;
mod case_behaviour;
mod confirm;
mod counters;
mod failure_log;
mod health;
mod https;
mod in_flight_names;
mod loop_detection;
mod pending;
mod pool;
mod probe;
mod query;
mod quic;
mod random;
mod server;
pub mod server_counters;
mod source_addresses;
mod stream;
mod task;
#[cfg(test)]
mod tests;
pub mod tls;
mod udp;

use crate::{
    answer::known::Question,
    forward::{identity_hasher::IdentityHasher, read::RejectionReason},
    query_log::EntrySender,
    snapshot::routes::{Route, RouteId, Servers, Target},
    wire::codes::ede,
};
use attempts::UpstreamQuery;
pub use counters::UpstreamCounters;
use failure_log::FailureLog;
pub use health::ServerState;
use health::Usefulness;
use in_flight_names::InFlightNames;
use loop_detection::{LoopCheck, LoopDetector};
use probe::probe_once;
use server::Server;
use server_counters::ServerMetrics;
use std::{
    borrow::Cow,
    collections::HashMap,
    hash::BuildHasherDefault,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tls::Tls;
use tokio::{
    net::TcpStream,
    time::{Instant, interval},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The interval at which unused routes, servers and sockets are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The time without a question after which a route is removed, with its servers that no other route
/// has.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// The age of a server's last response after which it is probed, if its route has other servers.
const PROBE_AFTER: Duration = Duration::from_secs(60);
/// The time-out of a question that finds out whether the servers of a route are still dead.
const TRIAL_TIMEOUT: Duration = Duration::from_millis(800);

/// The reason why a question has no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The INFO-CODE of the extended error (RFC 8914).
    pub code: u16,
    /// The text of the extended error. It names rules, and numbers targets: clients do not see
    /// addresses of servers.
    pub text: String,
    /// What each server did, with its address, for operators. Empty if no server was asked.
    pub details: String,
    /// Whether the reason is on this node: the failure says nothing about the servers or the name,
    /// and is not cached.
    pub is_local: bool,
}

impl Failure {
    /// A failure that is cached, of a question for which no server was asked.
    pub fn new(code: u16, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into(), details: String::new(), is_local: false }
    }
}

/// The state of a server, for the admin API and `explain`.
#[derive(Clone, Debug)]
pub struct TargetReport {
    /// The server.
    pub target: Target,
    /// The smoothed round trip time, as the transport measures it.
    pub rtt: Option<Duration>,
    /// Whether the server answers.
    pub state: ServerState,
    /// The reason why other servers are asked first, if it is not silence: the server's last error,
    /// or why its responses are of no use to this route. A predicate whose subject is the server.
    pub error: Option<Cow<'static, str>>,
    /// Whether the server keeps the case of names. None if that is unknown.
    pub keeps_case: Option<bool>,
}

/// The routes in use, with their servers and connections.
pub struct Upstreams {
    /// The counters of all servers together.
    pub counters: Arc<UpstreamCounters>,
    routes: papaya::HashMap<RouteId, Arc<ActiveRoute>, BuildHasherDefault<IdentityHasher>>,
    /// The servers of the routes, by target and source addresses: routes share them.
    servers: Mutex<HashMap<ServerKey, Weak<Server>>>,
    failure_log: FailureLog,
    in_flight_names: InFlightNames,
    loop_detector: LoopDetector,
    tls: Arc<Tls>,
    start: Instant,
    this: Weak<Upstreams>,
}

/// A target, and the source addresses of its queries.
type ServerKey = (Target, Vec<IpAddr>);

/// A route that was used within [`IDLE_TIMEOUT`].
struct ActiveRoute {
    servers: Vec<Arc<Server>>,
    /// The usefulness of each server's responses to this route, in the order of `servers`.
    usefulness: Vec<Mutex<Usefulness>>,
    /// Whether the servers send queries back to this node.
    loop_check: LoopCheck,
    /// The number of questions in flight.
    in_flight: AtomicUsize,
    /// Whether no server answered the last question.
    has_failed: AtomicBool,
    /// The number of questions in flight while all servers are dead.
    trials: AtomicUsize,
    /// The time of the last question, in seconds since the start.
    last_used: AtomicUsize,
}

impl ActiveRoute {
    /// The usefulness of a server, by its index, locked.
    fn usefulness(&self, server: usize) -> MutexGuard<'_, Usefulness> {
        self.usefulness[server].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The indices of the servers in the order in which they are asked: useful ones by
    /// [`Health::rank`](health::Health::rank), then those whose responses are of no use to the
    /// route, then those that are down.
    fn order(&self, now: Instant) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.servers.len()).collect();
        order.sort_by_cached_key(|server| {
            let (is_down, rank) = {
                let health = self.servers[*server].health();
                (health.is_down(), health.rank())
            };
            (is_down, self.usefulness(*server).is_demoted(now), rank)
        });
        order
    }

    fn report(&self, server: usize) -> TargetReport {
        let report = self.servers[server].report();
        let reason = self.usefulness(server).demotion_reason(Instant::now());
        TargetReport { error: report.error.or(reason), ..report }
    }
}

/// The name of a route in texts for clients: its rule.
pub fn route_label(route: &Route) -> Cow<'_, str> {
    match &*route.rule {
        "" => "the internet resolver".into(),
        rule => format!("rule {rule}").into(),
    }
}

/// Counts one more until it is dropped.
struct CountGuard<'c>(&'c AtomicUsize);

impl CountGuard<'_> {
    fn take(count: &AtomicUsize) -> CountGuard<'_> {
        count.fetch_add(1, Relaxed);
        CountGuard(count)
    }
}

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Reads the certificate authorities in a PEM file.
///
/// # Errors
/// The file cannot be read, or has no valid certificates.
pub fn check_authorities(file: &Path) -> anyhow::Result<()> {
    Tls::new(Some(file.into())).read().map(drop).map_err(anyhow::Error::msg)
}

impl Upstreams {
    /// No routes. The system's authorities verify certificates.
    pub fn new() -> Arc<Upstreams> {
        Upstreams::trusting(None, None)
    }

    /// No routes. The system's authorities and those in a PEM file verify certificates. `tap` takes
    /// queries and responses for dnstap.
    pub fn trusting(authorities: Option<PathBuf>, tap: Option<EntrySender>) -> Arc<Upstreams> {
        Arc::new_cyclic(|this| Upstreams {
            counters: Arc::new(UpstreamCounters::new(tap)),
            routes: papaya::HashMap::default(),
            servers: Mutex::default(),
            failure_log: FailureLog::default(),
            in_flight_names: InFlightNames::default(),
            loop_detector: LoopDetector::default(),
            tls: Arc::new(Tls::new(authorities)),
            start: Instant::now(),
            this: this.clone(),
        })
    }

    /// Asks the servers of a route until `read` accepts a response. `read` gets a response to the
    /// question with the RCODE NOERROR, NXDOMAIN or YXDOMAIN, and whether it came by a connection,
    /// where it cannot be forged without seeing the query. A rejection by `read` counts against the
    /// server.
    ///
    /// # Errors
    /// No response was accepted before `deadline`, or the route has no servers.
    pub async fn ask<T>(
        &self,
        route: &Route,
        question: &Question<'_>,
        deadline: Instant,
        read: impl Fn(&[u8], bool) -> Result<T, RejectionReason>,
    ) -> Result<T, Failure> {
        let Servers::Targets { targets, sources, trust_ad } = &route.servers else {
            return Err(Failure::new(ede::OTHER, "there is no server to ask"));
        };
        if targets.is_empty() {
            return Err(Failure::new(ede::NO_REACHABLE_AUTHORITY, "there is no server to ask"));
        }
        let known = self.routes.pin().get(&route.id).cloned();
        let active = known.unwrap_or_else(|| self.open(route, targets, sources));
        let used = self.start.elapsed().as_secs() as usize;
        if active.last_used.load(Relaxed) != used {
            active.last_used.store(used, Relaxed);
        }
        let guard = CountGuard::take(&active.in_flight);
        let query = UpstreamQuery::new(self, route, &active, question, *trust_ad);
        let (mut trial, mut deadline) = (None, deadline);
        // All servers are dead, and the last question of this route failed: one question at a time
        // tries them again. Questions of another route may have failed for a reason of their own,
        // so they alone do not stop this route.
        if query.all_dead() && active.has_failed.load(Relaxed) {
            if active.trials.load(Relaxed) > 0 {
                return Err(query.failure());
            }
            trial = Some(CountGuard::take(&active.trials));
            deadline = deadline.min(Instant::now() + TRIAL_TIMEOUT);
        }
        let answer = query.run(deadline, read).await;
        drop(trial);
        drop(guard);
        let has_failed = answer.as_ref().is_err_and(|failure| !failure.is_local);
        if active.has_failed.load(Relaxed) != has_failed {
            active.has_failed.store(has_failed, Relaxed);
        }
        answer
    }

    /// Sets up TLS on a connection to a server that zones are transferred from.
    ///
    /// # Errors
    /// TLS fails: a predicate whose subject is the server.
    pub async fn secure(&self, target: &Target, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let config = self.tls.config(tls::Alpn::Transfer).map_err(|error| error.text)?;
        let name = tls::server_name(target).map_err(|error| error.text)?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        connecting.await.map_err(|error| tls::tls_error(&error).text.into())
    }

    /// Whether a query may be one of this node's own that came back: its name has the same random
    /// case as a question in flight. Always false for names with few letters. A client that draws
    /// random case too may draw the same by chance: [`Upstreams::leads_back`] tells the difference.
    /// `name` is in wire format, as the query has it.
    pub fn may_be_ours(&self, name: &[u8], qtype: u16) -> bool {
        self.in_flight_names.contains(name, qtype)
    }

    /// Whether the servers of a route send queries back to this node. The check takes up to a
    /// second; its result is remembered.
    pub async fn leads_back(&self, route: &Route) -> bool {
        let active = self.routes.pin().get(&route.id).cloned();
        match active {
            Some(active) => self.loop_detector.leads_back(&active, &route.domain).await,
            None => false,
        }
    }

    /// Whether the last check found that the servers of a route send queries back to this node.
    pub fn is_known_to_lead_back(&self, route: &Route) -> bool {
        self.routes.pin().get(&route.id).is_some_and(|active| loop_detection::is_known_to_lead_back(&active.loop_check))
    }

    /// Whether a query is this node's own loop probe that came back. `name` is in wire format and
    /// in lower case.
    pub fn is_loop_probe(&self, name: &[u8]) -> bool {
        self.loop_detector.take_back(name)
    }

    /// The state of the servers of a route, in the order in which they would be asked now. Empty
    /// for recursion.
    pub fn report(&self, route: &Route) -> Vec<TargetReport> {
        let Servers::Targets { targets, .. } = &route.servers else { return Vec::new() };
        let unknown = |target: &Target| TargetReport {
            target: target.clone(),
            rtt: None,
            state: ServerState::Unknown,
            error: None,
            keeps_case: None,
        };
        let Some(active) = self.routes.pin().get(&route.id).cloned() else {
            return targets.iter().map(unknown).collect();
        };
        active.order(Instant::now()).into_iter().map(|at| active.report(at)).collect()
    }

    /// The metrics of all servers in use.
    pub fn metrics(&self) -> Vec<ServerMetrics> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let live = servers.into_iter().filter_map(|((_, sources), server)| Some(server.upgrade()?.metrics(&sources)));
        live.collect()
    }

    /// Adds a route, with servers that other routes may have already.
    fn open(&self, route: &Route, targets: &[Target], sources: &[IpAddr]) -> Arc<ActiveRoute> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        // Another task may have added the route while this one waited for the lock.
        if let Some(active) = self.routes.pin().get(&route.id) {
            return active.clone();
        }
        if self.routes.is_empty() {
            tokio::spawn(sweep(self.this.clone()));
        }
        let mut server = |target: &Target| {
            let key = (target.clone(), sources.to_vec());
            if let Some(server) = servers.get(&key).and_then(Weak::upgrade) {
                return server;
            }
            let counters = self.counters.clone();
            let server = Server::new(target.clone(), sources.to_vec(), &route.domain, counters, &self.tls);
            let server = Arc::new(server);
            servers.insert(key, Arc::downgrade(&server));
            server
        };
        let active = Arc::new(ActiveRoute {
            servers: targets.iter().map(&mut server).collect(),
            usefulness: targets.iter().map(|_| Mutex::default()).collect(),
            in_flight: AtomicUsize::new(0),
            loop_check: LoopCheck::default(),
            has_failed: AtomicBool::new(false),
            trials: AtomicUsize::new(0),
            last_used: AtomicUsize::new(self.start.elapsed().as_secs() as usize),
        });
        // The first questions know which server is fast, and which one is down.
        if let [_, _, ..] = &active.servers[..] {
            active.servers.iter().for_each(probe_once);
        }
        self.routes.pin().insert(route.id, active.clone());
        active
    }

    /// Removes unused routes, closes idle sockets, and probes servers without recent answers. False
    /// if no routes are left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = self.routes.pin();
        let seconds = self.start.elapsed().as_secs() as usize;
        let idle = |active: &ActiveRoute| seconds.saturating_sub(active.last_used.load(Relaxed));
        routes.retain(|_, active| idle(active) < IDLE_TIMEOUT.as_secs() as usize || active.in_flight.load(Relaxed) > 0);
        for active in
            routes.values().filter(|active| active.servers.len() > 1 && idle(active) < PROBE_AFTER.as_secs() as usize)
        {
            let is_old = |server: &&Arc<Server>| {
                let last = server.health().last_answer();
                last.is_none_or(|at| now.saturating_duration_since(at) >= PROBE_AFTER)
            };
            active.servers.iter().filter(is_old).for_each(probe_once);
        }
        servers.retain(|_, server| match server.upgrade() {
            Some(server) => {
                server.sweep(now);
                true
            }
            None => false,
        });
        !routes.is_empty()
    }
}

/// Sweeps until no routes are left.
async fn sweep(upstreams: Weak<Upstreams>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match upstreams.upgrade() {
            Some(upstreams) if upstreams.sweep() => {}
            _ => return,
        }
    }
}
