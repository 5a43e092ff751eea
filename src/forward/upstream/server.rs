//! A server: what is known of it, and the ways to it.

use super::{
    TargetReport,
    health::Health,
    https::Https,
    pending::{Kind, Pending, Trouble},
    pool,
    query::{Echo, Look, MAX_QUERY, Spelt},
    quic::Quic,
    tally::{self, Measured, Tally},
    task, tls,
    tls::Tls,
    udp,
};
use crate::{
    answer,
    manifest::Protocol,
    query_log::{Tap, dnstap},
    snapshot::routes::Target,
};
use prometheus::{Histogram, HistogramOpts, IntCounter, core::Collector};
use socket2::{Domain, Socket, Type};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Queries that may be on their way to one server.
const MOST_IN_FLIGHT: usize = 4096;
/// So many answers in the case of the query, and a server has proven that it keeps case.
const PROVEN: u8 = 3;
/// It does not keep case.
const FOLDS: u8 = u8::MAX;

/// What is counted.
pub struct Counters {
    /// Queries that were sent.
    pub queries: IntCounter,
    /// Answers that were taken, errors among them.
    pub answers: IntCounter,
    /// Queries without an answer in time.
    pub timeouts: IntCounter,
    /// Queries that were sent again, to the same or another server.
    pub retries: IntCounter,
    /// Queries that went to TCP after UDP.
    pub fallbacks: IntCounter,
    /// Packets that nobody asked for: of another id, question or case.
    pub strangers: IntCounter,
    /// Queries to look whether a server is there.
    pub probes: IntCounter,
    /// Questions that no server answered.
    pub failures: IntCounter,
    /// How long questions to the authoritative servers took, from the root on, in seconds.
    pub recursion: Histogram,
    /// Connections by TCP and DoT beyond the usual number to each server, over all of them.
    pub extra_connections: AtomicUsize,
    /// Where dnstap is told of queries and answers.
    pub tap: OnceLock<Mutex<Tap>>,
}

impl Counters {
    /// All of them are zero.
    pub fn new() -> Counters {
        let counter =
            |name: &str, help: &str| IntCounter::new(name, help).unwrap_or_else(|error| panic!("{name}: {error}"));
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(tally::BUCKETS.to_vec());
            Histogram::with_opts(options).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        Counters {
            queries: counter("zonal_upstream_queries_total", "Queries sent to other servers"),
            answers: counter("zonal_upstream_answers_total", "Answers of other servers, errors among them"),
            timeouts: counter("zonal_upstream_timeouts_total", "Queries to other servers without an answer in time"),
            retries: counter("zonal_upstream_retries_total", "Queries sent again, to the same or another server"),
            fallbacks: counter("zonal_upstream_tcp_fallbacks_total", "Queries asked again by TCP"),
            strangers: counter(
                "zonal_upstream_strangers_total",
                "Packets with another id, question or case than what was asked",
            ),
            probes: counter("zonal_upstream_probes_total", "Queries that look whether a server is there"),
            failures: counter("zonal_upstream_failures_total", "Questions that no server answered"),
            recursion: histogram(
                "zonal_recursion_seconds",
                "How long questions took that were asked from the root on, answered or not, in seconds",
            ),
            extra_connections: AtomicUsize::new(0),
            tap: OnceLock::new(),
        }
    }

    /// Tells dnstap of a query or an answer.
    pub fn tell(&self, kind: dnstap::Kind, sent: &Sent, message: &[u8]) {
        let target = &sent.server.target;
        if let Some(tap) = self.tap.get() {
            let mut tap = tap.lock().unwrap_or_else(PoisonError::into_inner);
            tap.forwarded(kind, sent.local(), (target.ip, target.port), sent.transport(), message);
        }
    }

    /// All of them, to be registered.
    pub fn all(&self) -> Vec<Box<dyn Collector>> {
        let Counters { queries, answers, timeouts, retries, fallbacks, strangers, probes, failures, recursion, .. } =
            self;
        let counters = [queries, answers, timeouts, retries, fallbacks, strangers, probes, failures];
        let mut all: Vec<Box<dyn Collector>> = Vec::new();
        all.extend(counters.map(|counter| Box::new(counter.clone()) as Box<dyn Collector>));
        all.push(Box::new(recursion.clone()));
        all
    }
}

impl Default for Counters {
    fn default() -> Counters {
        Counters::new()
    }
}

/// Whether a server keeps the case of names.
#[derive(Default)]
pub struct Case(AtomicU8);

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// One to believe.
    Answer,
    /// It is right but for the case, from a server that keeps case.
    Doubtful,
    /// It is none.
    Stranger,
}

impl Case {
    /// Judges an answer by how it repeats the question, and learns from it.
    pub fn judge(&self, echo: Echo, spelt: bool, question: &Spelt, stream: bool) -> Judged {
        let state = self.0.load(Relaxed);
        match echo {
            Echo::Other => return Judged::Stranger,
            Echo::Exact if spelt && question.is_telling() && state < PROVEN => self.0.store(state + 1, Relaxed),
            // Nobody forges what comes by a stream.
            Echo::Folded if spelt && state == PROVEN && !stream => return Judged::Doubtful,
            Echo::Folded if spelt => self.0.store(FOLDS, Relaxed),
            _ => {}
        }
        Judged::Answer
    }

    /// Whether the server keeps it; none if that is not known yet.
    pub fn keeps(&self) -> Option<bool> {
        match self.0.load(Relaxed) {
            FOLDS => Some(false),
            PROVEN => Some(true),
            _ => None,
        }
    }
}

/// The addresses that queries may come from.
pub struct Sources {
    addresses: Vec<IpAddr>,
    /// The one that was usable the last time.
    usable: AtomicUsize,
}

impl Sources {
    /// These addresses; empty for the kernel's choice.
    pub fn new(addresses: Vec<IpAddr>) -> Sources {
        Sources { addresses, usable: AtomicUsize::new(0) }
    }

    /// Opens a socket that sends from one of them to an address.
    pub fn bind(&self, to: IpAddr, kind: Type) -> Result<Socket, Trouble> {
        let local = |error: io::Error| Trouble::new(Kind::Local, format!("cannot be asked: {error}"));
        let open = || {
            let socket = Socket::new(Domain::for_address(SocketAddr::new(to, 0)), kind, None)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(local)?;
        if self.addresses.is_empty() {
            // UDP's port is drawn by `bind`; for TCP, `connect` has a wider choice.
            if kind == Type::DGRAM {
                let any: IpAddr =
                    if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                socket.bind(&SocketAddr::new(any, 0).into()).map_err(local)?;
            }
            return Ok(socket);
        }
        let first = self.usable.load(Relaxed);
        for at in 0..self.addresses.len() {
            let at = (first + at) % self.addresses.len();
            let from = self.addresses[at];
            if from.is_ipv4() != to.is_ipv4() {
                continue;
            }
            match socket.bind(&SocketAddr::new(from, 0).into()) {
                Ok(()) => {
                    self.usable.store(at, Relaxed);
                    return Ok(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) => return Err(local(error)),
            }
        }
        let text = "is not asked: none of the outbound endpoint's addresses of its family is on this node";
        Err(Trouble::new(Kind::Local, text))
    }
}

/// A server that is asked from certain addresses.
pub struct Server {
    /// Which one.
    pub target: Target,
    /// Whether it keeps the case of names.
    pub case: Arc<Case>,
    /// Something that can be asked for to see whether it is there: a name in lower case and wire format.
    pub probe: Box<[u8]>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What is counted of it alone.
    pub tally: Tally,
    /// A probe is on its way, or will be.
    pub probing: AtomicBool,
    health: Mutex<Health>,
    /// It cannot read EDNS.
    plain: AtomicBool,
    in_flight: AtomicUsize,
    by: Transport,
}

/// The ways to a server.
enum Transport {
    /// By UDP, and by TCP what does not fit.
    Do53(Box<udp::Pool>, Arc<pool::Pool>),
    Tls(Arc<pool::Pool>),
    Https(Arc<Https>),
    Quic(Arc<Quic>),
    /// It cannot be asked.
    None(Trouble),
}

/// Which way a query goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the server's own transport.
    Usual,
    /// Likewise, but by a connection of its own.
    Fresh,
    /// By TCP, where UDP would be usual.
    Tcp,
    /// Likewise, but by a connection of its own.
    FreshTcp,
}

/// A query on its way. It is forgotten when this is dropped.
pub struct Sent {
    server: Arc<Server>,
    /// How it was written.
    pub look: Look,
    by: Option<By>,
}

/// What forgets a query when it is dropped.
pub enum By {
    /// Sent by UDP.
    Udp(udp::Sent),
    /// Sent by TCP or DoT.
    Stream(pool::Sent),
    /// Sent by DoH or DoQ.
    Task(#[expect(dead_code, reason = "it is there to be dropped")] task::Sent),
}

impl Sent {
    /// By which transport it went.
    fn transport(&self) -> answer::Transport {
        match (&self.by, self.server.target.protocol) {
            (Some(By::Stream(_)), Protocol::Do53) => answer::Transport::Tcp,
            (_, Protocol::Do53) => answer::Transport::Udp,
            (_, Protocol::DoT) => answer::Transport::Tls,
            (_, Protocol::DoH) => answer::Transport::Https,
            (_, Protocol::DoQ) => answer::Transport::Quic,
        }
    }

    /// The address and port that it went from; none while there is no connection for it.
    fn local(&self) -> Option<SocketAddr> {
        match (self.by.as_ref()?, &self.server.by) {
            (By::Udp(sent), _) => sent.local(),
            (By::Stream(sent), _) => sent.local(),
            (By::Task(_), Transport::Https(https)) => https.local(),
            (By::Task(_), Transport::Quic(quic)) => quic.local(),
            (By::Task(_), _) => None,
        }
    }

    /// Whether it went by UDP.
    pub fn is_datagram(&self) -> bool {
        matches!(self.by, Some(By::Udp(_)))
    }

    /// Whether it went, or goes, by one of a few connections by TCP or DoT.
    pub fn is_by_stream(&self) -> bool {
        matches!(self.by, Some(By::Stream(_)))
    }

    /// Whether it waits for a connection.
    pub fn is_queued(&self) -> bool {
        matches!(&self.by, Some(By::Stream(sent)) if sent.is_queued())
    }

    /// Whether it went by TCP to a server that is usually asked by UDP.
    pub fn is_tcp_after_udp(&self) -> bool {
        matches!(self.by, Some(By::Stream(_))) && !self.server.is_stream()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Server {
    /// A server that nobody has asked yet.
    pub fn new(target: Target, sources: Vec<IpAddr>, probe: &[u8], counters: Arc<Counters>, tls: &Arc<Tls>) -> Server {
        let address = SocketAddr::new(target.ip, target.port);
        let (case, sources) = (Arc::new(Case::default()), Arc::new(Sources::new(sources)));
        let stream = |tls| pool::Pool::new(address, sources.clone(), case.clone(), counters.clone(), tls);
        let by = match (target.protocol, tls::server_name(&target)) {
            (Protocol::Do53, _) => {
                let udp = udp::Pool::new(address, sources.clone(), case.clone(), counters.clone());
                Transport::Do53(Box::new(udp), stream(None))
            }
            (_, Err(trouble)) => Transport::None(trouble),
            (Protocol::DoT, Ok(name)) => Transport::Tls(stream(Some((tls.clone(), name)))),
            (Protocol::DoH, Ok(_)) => Transport::Https(Arc::new(Https::new(target.clone(), sources, tls.clone()))),
            (Protocol::DoQ, Ok(_)) => Transport::Quic(Arc::new(Quic::new(target.clone(), sources, tls.clone()))),
        };
        Server {
            by,
            target,
            case,
            probe: probe.into(),
            counters,
            tally: Tally::default(),
            probing: AtomicBool::new(false),
            health: Mutex::default(),
            plain: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// How well it answers.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It takes no EDNS, or it does.
    pub fn set_plain(&self, plain: bool) {
        self.plain.store(plain, Relaxed);
    }

    /// Whether its transport is a stream.
    pub fn is_stream(&self) -> bool {
        self.target.protocol != Protocol::Do53
    }

    /// Sends it a question. What becomes of it is posted as try `number`.
    pub fn send(
        self: &Arc<Self>,
        pending: &Arc<Pending>,
        number: usize,
        way: Way,
        now: Instant,
    ) -> Result<Sent, Trouble> {
        let waiting = self.in_flight.fetch_add(1, Relaxed);
        let look =
            Look { spelt: self.case.keeps() != Some(false), edns: !self.plain.load(Relaxed), padded: self.is_stream() };
        let mut sent = Sent { server: self.clone(), look, by: None };
        if waiting >= MOST_IN_FLIGHT {
            return Err(Trouble::new(Kind::Local, "is not asked: too many queries wait for it"));
        }
        let mut query = [0; MAX_QUERY];
        let len = pending.question.write(&mut query, 0, look);
        let query = &mut query[..len];
        self.counters.queries.inc();
        self.tally.asked();
        let (spelt, fresh) = (look.spelt, matches!(way, Way::Fresh | Way::FreshTcp));
        let shared = || (self.case.clone(), self.counters.clone());
        sent.by = Some(match &self.by {
            Transport::Do53(_, tcp) if matches!(way, Way::Tcp | Way::FreshTcp) => {
                By::Stream(tcp.send(pending, number, spelt, query, fresh)?)
            }
            Transport::Do53(udp, _) => By::Udp(udp.send(pending, number, spelt, query, waiting, now)?),
            Transport::Tls(tls) => By::Stream(tls.send(pending, number, spelt, query, fresh)?),
            Transport::Https(https) => {
                By::Task(task::spawn(pending, number, spelt, shared(), https.clone().exchange(query.to_vec(), fresh)))
            }
            Transport::Quic(quic) => {
                By::Task(task::spawn(pending, number, spelt, shared(), quic.clone().exchange(query.to_vec(), fresh)))
            }
            Transport::None(trouble) => return Err(trouble.clone()),
        });
        self.counters.tell(dnstap::Kind::ForwarderQuery, &sent, query);
        Ok(sent)
    }

    /// What is known of it, and its rank among others.
    pub fn report(&self) -> ((u8, Duration), TargetReport) {
        let health = self.health();
        let (rtt, state) = (health.rtt(), health.state());
        let report = TargetReport { target: self.target.clone(), rtt, state, keeps_case: self.case.keeps() };
        (health.rank(), report)
    }

    /// What has been measured of it.
    pub fn measured(&self, sources: &[IpAddr]) -> Measured {
        let (rtt, state) = {
            let health = self.health();
            (health.rtt(), health.state())
        };
        Measured {
            target: self.target.clone(),
            sources: sources.to_vec(),
            rtt,
            state,
            in_flight: self.in_flight(),
            counts: self.tally.counts(),
        }
    }

    /// How many queries are on their way to it.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Closes what has been idle for long.
    pub fn sweep(&self, now: Instant) {
        match &self.by {
            Transport::Do53(udp, _) => udp.sweep(now),
            Transport::Https(https) => https.sweep(now),
            // These close by themselves what is idle.
            Transport::Tls(_) | Transport::Quic(_) | Transport::None(_) => {}
        }
    }
}
