//! A server: what is known of it, and the ways to it.

use super::{
    TargetReport,
    case::Case,
    counters::Counters,
    health::Health,
    https::Https,
    pending::{Pending, Trouble},
    pool,
    query::{Look, MAX_QUERY, Spelt},
    quic::Quic,
    sources::Sources,
    tally::{Measured, Tally},
    task, tls,
    tls::Tls,
    udp,
};
use crate::{answer, config::DnstapMessage, manifest::Protocol, snapshot::routes::Target};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long a server is asked without EDNS that has refused EDNS.
const PLAIN_FOR: Duration = Duration::from_secs(10);
/// Questions that may wait at one server for an answer by TCP because somebody guessed at that by UDP.
const MAX_BY_TCP: usize = 256;
/// For how long TCP is not used after a guess at a server that did not take the last connection.
const NO_TCP_MEMORY: Duration = Duration::from_secs(60);

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
    /// Until when it is asked without EDNS.
    plain_until: Mutex<Option<Instant>>,
    in_flight: AtomicUsize,
    /// Queries that went to TCP after UDP and are on their way.
    by_tcp: AtomicUsize,
    /// Until when it is not asked by TCP after a guess.
    no_tcp_until: Mutex<Option<Instant>>,
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

    /// Tells dnstap of the query, or of its answer.
    pub fn tell(&self, kind: DnstapMessage, message: &[u8]) {
        let Server { target, counters, .. } = &*self.server;
        if let Some(tap) = &counters.tap {
            let mut tap = tap.lock().unwrap_or_else(PoisonError::into_inner);
            tap.forwarded(kind, self.local(), (target.ip, target.port), self.transport(), message);
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
        if self.is_tcp_after_udp() {
            self.server.by_tcp.fetch_sub(1, Relaxed);
        }
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
            plain_until: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            by_tcp: AtomicUsize::new(0),
            no_tcp_until: Mutex::default(),
        }
    }

    /// How well it answers.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answered without EDNS what it had not answered with EDNS: it is asked without for a while. That may be a server
    /// in front of it, or a moment's trouble, so it is not for long (RFC 6891, 6.2.2).
    pub fn set_plain(&self, now: Instant) {
        *self.plain_until() = Some(now + PLAIN_FOR);
    }

    fn plain_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.plain_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is to be sent a question. One for DNSSEC records is never without EDNS.
    pub fn look(&self, question: &Spelt, now: Instant) -> Look {
        let edns = question.dnssec_ok() || self.plain_until().is_none_or(|until| until <= now);
        Look { spelt: self.case.keeps() != Some(false), edns, padded: self.is_stream() }
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
        (way, look): (Way, Look),
        now: Instant,
    ) -> Result<Sent, Trouble> {
        self.in_flight.fetch_add(1, Relaxed);
        let mut sent = Sent { server: self.clone(), look, by: None };
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
            Transport::Do53(udp, _) => By::Udp(udp.send(pending, number, spelt, query, now)?),
            Transport::Tls(tls) => By::Stream(tls.send(pending, number, spelt, query, fresh)?),
            Transport::Https(https) => {
                By::Task(task::spawn(pending, number, spelt, shared(), https.clone().exchange(query.to_vec(), fresh)))
            }
            Transport::Quic(quic) => {
                By::Task(task::spawn(pending, number, spelt, shared(), quic.clone().exchange(query.to_vec(), fresh)))
            }
            Transport::None(trouble) => return Err(trouble.clone()),
        });
        if sent.is_tcp_after_udp() {
            self.by_tcp.fetch_add(1, Relaxed);
        }
        sent.tell(DnstapMessage::ForwarderQuery, query);
        Ok(sent)
    }

    /// Whether a question goes to TCP when somebody guesses at its answer by UDP.
    pub fn takes_tcp(&self, now: Instant) -> bool {
        let until = *self.no_tcp_until.lock().unwrap_or_else(PoisonError::into_inner);
        self.by_tcp.load(Relaxed) < MAX_BY_TCP && until.is_none_or(|until| until <= now)
    }

    /// TCP was of no use after a guess.
    pub fn note_no_tcp(&self, now: Instant) {
        *self.no_tcp_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + NO_TCP_MEMORY);
    }

    /// What is known of it.
    pub fn report(&self) -> TargetReport {
        let health = self.health();
        let (rtt, state, trouble) = (health.rtt(), health.state(), health.trouble());
        TargetReport { target: self.target.clone(), rtt, state, trouble, keeps_case: self.case.keeps() }
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
