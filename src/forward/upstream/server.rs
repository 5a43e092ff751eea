//! One upstream server: its health, its behaviour, and the transports that reach it.

use super::{
    TargetReport,
    case_behaviour::CaseBehaviour,
    counters::UpstreamCounters,
    health::Health,
    https::Https,
    pending::{AttemptError, PendingQuestion},
    pool,
    query::{MAX_QUERY, QueryFormat, RandomisedQuestion},
    quic::Quic,
    server_counters::{ServerCounters, ServerMetrics},
    source_addresses::SourceAddresses,
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

/// The time for which a server that refused EDNS is asked without EDNS.
const EDNS_RETRY_AFTER: Duration = Duration::from_secs(10);
/// The maximum number of questions in flight to one server by TCP instead of UDP because a forged
/// response is suspected.
const MAX_TCP_FALLBACKS: usize = 256;
/// The time for which a server that refused TCP is not asked by TCP when a forged response is
/// suspected.
const TCP_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A target, asked from certain source addresses.
pub struct Server {
    /// The address and protocol.
    pub target: Target,
    /// Whether the server keeps the case of names.
    pub case_behaviour: Arc<CaseBehaviour>,
    /// The name that probes ask for, in lower case and wire format: the domain of the first route
    /// with this server.
    pub probe: Box<[u8]>,
    /// The counters of all servers together.
    pub counters: Arc<UpstreamCounters>,
    /// The counters of this server.
    pub own_counters: ServerCounters,
    /// Whether a task probes the server until it is up.
    pub probing: AtomicBool,
    health: Mutex<Health>,
    /// The end of the time in which the server is asked without EDNS.
    without_edns_until: Mutex<Option<Instant>>,
    in_flight: AtomicUsize,
    /// The number of queries in flight that fell back from UDP to TCP.
    tcp_fallbacks: AtomicUsize,
    /// The end of the time in which the server is not asked by TCP for a suspected forgery.
    tcp_disabled_until: Mutex<Option<Instant>>,
    transport: ServerTransport,
}

/// The connections and sockets to a server, by its protocol.
enum ServerTransport {
    /// UDP, and TCP for responses that do not fit or may be forged.
    Do53(Box<udp::UdpPool>, Arc<pool::StreamPool>),
    Tls(Arc<pool::StreamPool>),
    Https(Arc<Https>),
    Quic(Arc<Quic>),
    /// The server cannot be asked: its name is not valid for TLS.
    None(AttemptError),
}

/// The channel that a query takes within a server's transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The server's protocol; on a connection that queries share, if it has connections.
    Default,
    /// The server's protocol, on a connection of its own.
    NewConnection,
    /// TCP to a server whose protocol is Do53.
    Tcp,
    /// TCP to a server whose protocol is Do53, on a connection of its own.
    NewTcpConnection,
}

/// A query in flight. Dropping it gives the query up: a response is no longer accepted.
pub struct InFlightQuery {
    server: Arc<Server>,
    /// The format in which it was sent.
    pub format: QueryFormat,
    handle: Option<QueryHandle>,
}

/// The transport's handle of a query. Dropping it gives the query up.
pub enum QueryHandle {
    /// UDP.
    Udp(udp::UdpHandle),
    /// TCP or DoT.
    Stream(pool::StreamHandle),
    /// DoH or DoQ.
    Task(#[expect(dead_code, reason = "it is there to be dropped")] task::TaskHandle),
}

impl InFlightQuery {
    /// The transport of the query, for dnstap.
    fn transport(&self) -> answer::Transport {
        match (&self.handle, self.server.target.protocol) {
            (Some(QueryHandle::Stream(_)), Protocol::Do53) => answer::Transport::Tcp,
            (_, Protocol::Do53) => answer::Transport::Udp,
            (_, Protocol::DoT) => answer::Transport::Tls,
            (_, Protocol::DoH) => answer::Transport::Https,
            (_, Protocol::DoQ) => answer::Transport::Quic,
        }
    }

    /// The local address and port of the query. None while it waits for a connection.
    fn local(&self) -> Option<SocketAddr> {
        match (self.handle.as_ref()?, &self.server.transport) {
            (QueryHandle::Udp(sent), _) => sent.local(),
            (QueryHandle::Stream(sent), _) => sent.local(),
            (QueryHandle::Task(_), ServerTransport::Https(https)) => https.local(),
            (QueryHandle::Task(_), ServerTransport::Quic(quic)) => quic.local(),
            (QueryHandle::Task(_), _) => None,
        }
    }

    /// Sends the query or its response to dnstap, if dnstap is configured.
    pub fn record_dnstap(&self, kind: DnstapMessage, message: &[u8]) {
        let Server { target, counters, .. } = &*self.server;
        if let Some(tap) = &counters.tap {
            let mut tap = tap.lock().unwrap_or_else(PoisonError::into_inner);
            tap.forwarded(kind, self.local(), (target.ip, target.port), self.transport(), message);
        }
    }

    /// Whether the query uses UDP.
    pub fn uses_udp(&self) -> bool {
        matches!(self.handle, Some(QueryHandle::Udp(_)))
    }

    /// Whether the query uses a connection by TCP or DoT, or waits for one.
    pub fn uses_stream(&self) -> bool {
        matches!(self.handle, Some(QueryHandle::Stream(_)))
    }

    /// Whether the query waits for a connection.
    pub fn is_queued(&self) -> bool {
        matches!(&self.handle, Some(QueryHandle::Stream(sent)) if sent.is_queued())
    }

    /// Whether the query uses TCP with a server whose protocol is Do53.
    pub fn is_tcp_fallback(&self) -> bool {
        matches!(self.handle, Some(QueryHandle::Stream(_))) && !self.server.is_stream()
    }
}

impl Drop for InFlightQuery {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Relaxed);
        if self.is_tcp_fallback() {
            self.server.tcp_fallbacks.fetch_sub(1, Relaxed);
        }
    }
}

impl Server {
    /// A server of unknown health. `probe` is the name that probes ask for.
    pub fn new(
        target: Target,
        sources: Vec<IpAddr>,
        probe: &[u8],
        counters: Arc<UpstreamCounters>,
        tls: &Arc<Tls>,
    ) -> Server {
        let address = SocketAddr::new(target.ip, target.port);
        let (case_behaviour, sources) = (Arc::new(CaseBehaviour::default()), Arc::new(SourceAddresses::new(sources)));
        let stream =
            |tls| pool::StreamPool::new(address, sources.clone(), case_behaviour.clone(), counters.clone(), tls);
        let transport = match (target.protocol, tls::server_name(&target)) {
            (Protocol::Do53, _) => {
                let udp = udp::UdpPool::new(address, sources.clone(), case_behaviour.clone(), counters.clone());
                ServerTransport::Do53(Box::new(udp), stream(None))
            }
            (_, Err(error)) => ServerTransport::None(error),
            (Protocol::DoT, Ok(name)) => ServerTransport::Tls(stream(Some((tls.clone(), name)))),
            (Protocol::DoH, Ok(_)) => {
                ServerTransport::Https(Arc::new(Https::new(target.clone(), sources, tls.clone())))
            }
            (Protocol::DoQ, Ok(_)) => ServerTransport::Quic(Arc::new(Quic::new(target.clone(), sources, tls.clone()))),
        };
        Server {
            transport,
            target,
            case_behaviour,
            probe: probe.into(),
            counters,
            own_counters: ServerCounters::default(),
            probing: AtomicBool::new(false),
            health: Mutex::default(),
            without_edns_until: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            tcp_fallbacks: AtomicUsize::new(0),
            tcp_disabled_until: Mutex::default(),
        }
    }

    /// The round trip time and the failures of the server, locked.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns EDNS off for [`EDNS_RETRY_AFTER`]: the server refused a question with EDNS, and
    /// answered it without. The refusal may come from a middlebox or be temporary, so EDNS is tried
    /// again soon (RFC 6891, section 6.2.2).
    pub fn disable_edns(&self, now: Instant) {
        *self.without_edns_until() = Some(now + EDNS_RETRY_AFTER);
    }

    fn without_edns_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.without_edns_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The format of queries to this server. A question for DNSSEC records always has EDNS.
    pub fn query_format(&self, question: &RandomisedQuestion, now: Instant) -> QueryFormat {
        let edns = question.dnssec_ok() || self.without_edns_until().is_none_or(|until| until <= now);
        QueryFormat { randomised: self.case_behaviour.keeps_case() != Some(false), edns, padded: self.is_stream() }
    }

    /// Whether the server's protocol is encrypted: it has connections, and responses cannot be
    /// forged.
    pub fn is_stream(&self) -> bool {
        self.target.protocol != Protocol::Do53
    }

    /// Sends a question to the server. Its outcome is posted to `pending` as attempt `number`.
    ///
    /// # Errors
    /// The query cannot be sent: see [`AttemptError`].
    pub fn send(
        self: &Arc<Self>,
        pending: &Arc<PendingQuestion>,
        number: usize,
        (channel, format): (Channel, QueryFormat),
        now: Instant,
    ) -> Result<InFlightQuery, AttemptError> {
        self.in_flight.fetch_add(1, Relaxed);
        let mut sent = InFlightQuery { server: self.clone(), format, handle: None };
        let mut query = [0; MAX_QUERY];
        let len = pending.question.write(&mut query, 0, format);
        let query = &mut query[..len];
        self.counters.queries.inc();
        self.own_counters.count_query();
        let (randomised, is_new_connection) =
            (format.randomised, matches!(channel, Channel::NewConnection | Channel::NewTcpConnection));
        let shared = || (self.case_behaviour.clone(), self.counters.clone());
        sent.handle = Some(match &self.transport {
            ServerTransport::Do53(_, tcp) if matches!(channel, Channel::Tcp | Channel::NewTcpConnection) => {
                QueryHandle::Stream(tcp.send(pending, number, randomised, query, is_new_connection)?)
            }
            ServerTransport::Do53(udp, _) => QueryHandle::Udp(udp.send(pending, number, randomised, query, now)?),
            ServerTransport::Tls(tls) => {
                QueryHandle::Stream(tls.send(pending, number, randomised, query, is_new_connection)?)
            }
            ServerTransport::Https(https) => QueryHandle::Task(task::spawn(
                pending,
                number,
                randomised,
                shared(),
                https.clone().exchange(query.to_vec(), is_new_connection),
            )),
            ServerTransport::Quic(quic) => QueryHandle::Task(task::spawn(
                pending,
                number,
                randomised,
                shared(),
                quic.clone().exchange(query.to_vec(), is_new_connection),
            )),
            ServerTransport::None(error) => return Err(error.clone()),
        });
        if sent.is_tcp_fallback() {
            self.tcp_fallbacks.fetch_add(1, Relaxed);
        }
        sent.record_dnstap(DnstapMessage::ForwarderQuery, query);
        Ok(sent)
    }

    /// Whether a question with a suspected forgery may use TCP: TCP has not failed of late, and
    /// fewer than [`MAX_TCP_FALLBACKS`] queries use it.
    pub fn may_use_tcp(&self, now: Instant) -> bool {
        let until = *self.tcp_disabled_until.lock().unwrap_or_else(PoisonError::into_inner);
        self.tcp_fallbacks.load(Relaxed) < MAX_TCP_FALLBACKS && until.is_none_or(|until| until <= now)
    }

    /// Turns TCP off for suspected forgeries for [`TCP_RETRY_AFTER`]: it failed.
    pub fn disable_tcp(&self, now: Instant) {
        *self.tcp_disabled_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + TCP_RETRY_AFTER);
    }

    /// The state of the server, for the admin API and `explain`.
    pub fn report(&self) -> TargetReport {
        let health = self.health();
        let (rtt, state, error) = (health.rtt(), health.state(), health.last_error());
        TargetReport { target: self.target.clone(), rtt, state, error, keeps_case: self.case_behaviour.keeps_case() }
    }

    /// The metrics of the server, which is asked from `sources`.
    pub fn metrics(&self, sources: &[IpAddr]) -> ServerMetrics {
        let (rtt, state) = {
            let health = self.health();
            (health.rtt(), health.state())
        };
        ServerMetrics {
            target: self.target.clone(),
            sources: sources.to_vec(),
            rtt,
            state,
            in_flight: self.in_flight(),
            counts: self.own_counters.counts(),
        }
    }

    /// The number of queries in flight to the server.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Closes sockets and connections that have been idle for too long.
    pub fn sweep(&self, now: Instant) {
        match &self.transport {
            ServerTransport::Do53(udp, _) => udp.sweep(now),
            ServerTransport::Https(https) => https.sweep(now),
            // These transports close idle connections themselves.
            ServerTransport::Tls(_) | ServerTransport::Quic(_) | ServerTransport::None(_) => {}
        }
    }
}
