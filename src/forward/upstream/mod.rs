//! Those who are asked: the servers of a route, in the order in which they answer best.
//!
//! ```text
//! ask        one question: which server next, when another try, what becomes of answers
//! probe      whether a server is there, and how well it answers
//! health     round trip times and failures: the order, and the interval between tries
//! query      the query in octets, its spelling, and what an answer has to be like
//! pending    what all tries of a question share: where news of them arrive
//! server     one server: its health, its case, and the ways to it: udp, pool (of connections by TCP and DoT), https, quic; tls
//! case       whether a server repeats names in the case that it was asked in
//! confirm    whether answers by UDP agree, where some may be forged and TCP is of no use
//! sources    the addresses that queries come from
//! counters   what is counted of all servers together
//! stream     one connection by TCP or DoT
//! tally      what was asked of a server, and how it answered, for its metrics
//! spellings  which names are on their way in which spelling: what comes in like that may be ours, come back
//! loops      whether the servers of a route send queries back to us
//! ```

mod ask;
mod case;
mod confirm;
mod counters;
mod health;
mod https;
mod loops;
mod pending;
mod pool;
mod probe;
mod query;
mod quic;
mod random;
mod server;
mod sources;
mod spellings;
mod stream;
pub mod tally;
mod task;
#[cfg(test)]
mod tests;
pub mod tls;
mod udp;

use crate::{
    answer::known::Question,
    forward::{hash::Hash, read::Useless},
    query_log::EntrySender,
    snapshot::routes::{Route, RouteId, Servers, Target},
    wire::codes::ede,
};
use ask::Asking;
pub use counters::Counters;
pub use health::State;
use health::Worth;
use loops::{LeadsBack, Loops};
use probe::probe_once;
use server::Server;
use spellings::Spellings;
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
use tally::Measured;
use tls::Tls;
use tokio::{
    net::TcpStream,
    time::{Instant, interval},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How often it is looked whether something is not needed any more.
const SWEEP: Duration = Duration::from_secs(5);
/// After this time without a question a route is forgotten, and so are its servers if no other route has them.
const IDLE: Duration = Duration::from_secs(300);
/// A server that others are preferred to is probed when its last answer is as old as this.
const OLD: Duration = Duration::from_secs(60);
/// How long a question may take by a route whose servers are all dead, to find out whether they still are.
const TRIAL_TIMEOUT: Duration = Duration::from_millis(800);

/// Why no server answered.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The INFO-CODE of the extended error (RFC 8914).
    pub code: u16,
    /// Its text: it names rules, as the addresses of servers are not for clients.
    pub text: String,
    /// What each server did, by its address, for operators; empty if no server has to do with it.
    pub details: String,
    /// It is our own, and tells nothing of the servers or the name: it is not kept.
    pub is_local: bool,
}

impl Failure {
    /// A failure that is kept for a while, and that no server has to do with.
    pub fn new(code: u16, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into(), details: String::new(), is_local: false }
    }
}

/// A server, and what is known of it.
#[derive(Clone, Debug)]
pub struct TargetReport {
    /// Which one.
    pub target: Target,
    /// Its smoothed round trip time, as measured by its transport.
    pub rtt: Option<Duration>,
    /// Whether it answers.
    pub state: State,
    /// What is wrong with it, or with its last answers for this route, if others are asked first because of that.
    pub trouble: Option<Cow<'static, str>>,
    /// Whether it keeps the case of names; none if that is not known yet.
    pub keeps_case: Option<bool>,
}

/// Those who are asked, what is known of them, and the connections to them.
pub struct Upstreams {
    /// What is counted.
    pub counters: Arc<Counters>,
    routes: papaya::HashMap<RouteId, Arc<Way>, BuildHasherDefault<Hash>>,
    /// By target and source addresses: those that a route has.
    servers: Mutex<HashMap<Origin, Weak<Server>>>,
    spellings: Spellings,
    loops: Loops,
    tls: Arc<Tls>,
    start: Instant,
    this: Weak<Upstreams>,
}

/// A target, and the addresses that it is asked from.
type Origin = (Target, Vec<IpAddr>);

/// A route that is in use.
struct Way {
    servers: Vec<Arc<Server>>,
    /// What the servers' answers are worth to this route, in the same order.
    worth: Vec<Mutex<Worth>>,
    /// Whether its servers send queries back to us.
    leads_back: LeadsBack,
    /// Questions that are on their way.
    on_their_way: AtomicUsize,
    /// No server answered the last question.
    has_failed: AtomicBool,
    /// Questions that are on their way though all servers are dead.
    trials: AtomicUsize,
    /// When it was used last, in seconds since the start.
    used: AtomicUsize,
}

impl Way {
    /// What the answers of a server are worth.
    fn worth(&self, server: usize) -> MutexGuard<'_, Worth> {
        self.worth[server].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In which order the servers are asked: those of no use come after those that are slow or have just failed, and before
    /// those that are down.
    fn order(&self, now: Instant) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.servers.len()).collect();
        order.sort_by_cached_key(|server| {
            let (is_down, rank) = {
                let health = self.servers[*server].health();
                (health.is_down(), health.rank())
            };
            (is_down, self.worth(*server).is_doubted(now), rank)
        });
        order
    }

    fn report(&self, server: usize) -> TargetReport {
        let report = self.servers[server].report();
        let doubt = self.worth(server).doubt(Instant::now());
        TargetReport { trouble: report.trouble.or(doubt), ..report }
    }
}

/// A route as clients are told of it: by its rule.
pub fn named(route: &Route) -> Cow<'_, str> {
    match &*route.rule {
        "" => "the internet resolver".into(),
        rule => format!("rule {rule}").into(),
    }
}

/// One of those that are counted.
struct Place<'c>(&'c AtomicUsize);

impl Place<'_> {
    fn take(count: &AtomicUsize) -> Place<'_> {
        count.fetch_add(1, Relaxed);
        Place(count)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Whether the authorities in a file can be read.
pub fn check_authorities(file: &Path) -> anyhow::Result<()> {
    Tls::new(Some(file.into())).read().map(drop).map_err(anyhow::Error::msg)
}

impl Upstreams {
    /// None is known yet. Certificates are checked with the system's authorities.
    pub fn new() -> Arc<Upstreams> {
        Upstreams::trusting(None, None)
    }

    /// None is known yet. Certificates are checked with the system's authorities and those in a file.
    /// Queries and answers are told to `tap`.
    pub fn trusting(authorities: Option<PathBuf>, tap: Option<EntrySender>) -> Arc<Upstreams> {
        Arc::new_cyclic(|this| Upstreams {
            counters: Arc::new(Counters::new(tap)),
            routes: papaya::HashMap::default(),
            servers: Mutex::default(),
            spellings: Spellings::default(),
            loops: Loops::default(),
            tls: Arc::new(Tls::new(authorities)),
            start: Instant::now(),
            this: this.clone(),
        })
    }

    /// Asks the servers of a route until `read` takes the answer of one of them: a message of RCODE NOERROR, NXDOMAIN or
    /// YXDOMAIN, checked to be the answer to the question, and whether it came by a stream, as nobody else can have sent it
    /// then without seeing the query. What `read` says against an answer counts against its server.
    pub async fn ask<T>(
        &self,
        route: &Route,
        question: &Question<'_>,
        deadline: Instant,
        read: impl Fn(&[u8], bool) -> Result<T, Useless>,
    ) -> Result<T, Failure> {
        let Servers::Targets { targets, sources, trust_ad } = &route.servers else {
            return Err(Failure::new(ede::OTHER, "there is no server to ask"));
        };
        if targets.is_empty() {
            return Err(Failure::new(ede::NO_REACHABLE_AUTHORITY, "there is no server to ask"));
        }
        let known = self.routes.pin().get(&route.id).cloned();
        let way = known.unwrap_or_else(|| self.open(route, targets, sources));
        let used = self.start.elapsed().as_secs() as usize;
        if way.used.load(Relaxed) != used {
            way.used.store(used, Relaxed);
        }
        let place = Place::take(&way.on_their_way);
        let asking = Asking::new(&self.spellings, &way, question, *trust_ad);
        let (mut trial, mut deadline) = (None, deadline);
        // What others ask there tells little of what this route would be answered: one question at a time tries.
        if asking.is_hopeless() && way.has_failed.load(Relaxed) {
            if way.trials.load(Relaxed) > 0 {
                return Err(asking.failure().told(route));
            }
            trial = Some(Place::take(&way.trials));
            deadline = deadline.min(Instant::now() + TRIAL_TIMEOUT);
        }
        let answer = asking.run(deadline, read).await.map_err(|failed| failed.told(route));
        drop(trial);
        drop(place);
        let has_failed = answer.as_ref().is_err_and(|failure| !failure.is_local);
        if way.has_failed.load(Relaxed) != has_failed {
            way.has_failed.store(has_failed, Relaxed);
        }
        answer
    }

    /// TLS over a connection to a server that zones are transferred from.
    pub async fn secure(&self, target: &Target, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let config = self.tls.config(tls::Alpn::Transfer).map_err(|trouble| trouble.text)?;
        let name = tls::server_name(target).map_err(|trouble| trouble.text)?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        connecting.await.map_err(|error| tls::trouble(&error).text.into())
    }

    /// Whether a query that comes in may be one of ours, come back: it asks for a name in the very spelling that we ask for
    /// at the moment. `name` is in wire format, as it is spelt. Of names of few letters that is never said. A client that
    /// draws the case of names as we do may have drawn the same: [`Upstreams::leads_back`] knows.
    pub fn may_be_ours(&self, name: &[u8], qtype: u16) -> bool {
        self.spellings.contains(name, qtype)
    }

    /// Whether the servers of a route send queries back to us. To find it out takes up to a second.
    pub async fn leads_back(&self, route: &Route) -> bool {
        let way = self.routes.pin().get(&route.id).cloned();
        match way {
            Some(way) => self.loops.leads_back(&way, &route.domain).await,
            None => false,
        }
    }

    /// Whether it has been found out just now that the servers of a route send queries back to us.
    pub fn is_known_to_lead_back(&self, route: &Route) -> bool {
        self.routes.pin().get(&route.id).is_some_and(|way| loops::is_known_to_lead_back(&way.leads_back))
    }

    /// Whether a query that comes in is one that was to find out whether a route leads back to us. `name` is in wire format
    /// and in lower case.
    pub fn is_loop_probe(&self, name: &[u8]) -> bool {
        self.loops.take(name)
    }

    /// The servers of a route, in the order in which they would be asked now; empty for recursion.
    pub fn report(&self, route: &Route) -> Vec<TargetReport> {
        let Servers::Targets { targets, .. } = &route.servers else { return Vec::new() };
        let unknown = |target: &Target| TargetReport {
            target: target.clone(),
            rtt: None,
            state: State::Unknown,
            trouble: None,
            keeps_case: None,
        };
        let Some(way) = self.routes.pin().get(&route.id).cloned() else { return targets.iter().map(unknown).collect() };
        way.order(Instant::now()).into_iter().map(|at| way.report(at)).collect()
    }

    /// What has been measured of those that are in use.
    pub fn measured(&self) -> Vec<Measured> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let live = servers.into_iter().filter_map(|((_, sources), server)| Some(server.upgrade()?.measured(&sources)));
        live.collect()
    }

    /// Takes up a route.
    fn open(&self, route: &Route, targets: &[Target], sources: &[IpAddr]) -> Arc<Way> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waited for the lock may find that another one has done it.
        if let Some(way) = self.routes.pin().get(&route.id) {
            return way.clone();
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
        let way = Arc::new(Way {
            servers: targets.iter().map(&mut server).collect(),
            worth: targets.iter().map(|_| Mutex::default()).collect(),
            on_their_way: AtomicUsize::new(0),
            leads_back: LeadsBack::default(),
            has_failed: AtomicBool::new(false),
            trials: AtomicUsize::new(0),
            used: AtomicUsize::new(self.start.elapsed().as_secs() as usize),
        });
        // So that it is known early which one is fast, and which one is not there.
        if let [_, _, ..] = &way.servers[..] {
            way.servers.iter().for_each(probe_once);
        }
        self.routes.pin().insert(route.id, way.clone());
        way
    }

    /// Closes what is not needed any more, and probes what was not asked for long. False if there is nothing left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = self.routes.pin();
        let seconds = self.start.elapsed().as_secs() as usize;
        let idle = |way: &Way| seconds.saturating_sub(way.used.load(Relaxed));
        routes.retain(|_, way| idle(way) < IDLE.as_secs() as usize || way.on_their_way.load(Relaxed) > 0);
        for way in routes.values().filter(|way| way.servers.len() > 1 && idle(way) < OLD.as_secs() as usize) {
            let is_old = |server: &&Arc<Server>| {
                let last = server.health().last_answer();
                last.is_none_or(|at| now.saturating_duration_since(at) >= OLD)
            };
            way.servers.iter().filter(is_old).for_each(probe_once);
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

/// Sweeps as long as there is something.
async fn sweep(upstreams: Weak<Upstreams>) {
    let mut ticks = interval(SWEEP);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        match upstreams.upgrade() {
            Some(upstreams) if upstreams.sweep() => {}
            _ => return,
        }
    }
}
