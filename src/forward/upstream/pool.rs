//! The connections to one server by TCP or DoT: which query takes which connection, and the queries
//! that wait for one.
//!
//! A few connections are shared by many queries. A server that answers in the order of the
//! questions may be stuck at a slow one: then more connections are opened, and a query that is sent
//! again gets a connection of its own.

use super::{
    case_behaviour::CaseBehaviour,
    counters::UpstreamCounters,
    pending::{AttemptError, AttemptErrorKind, AttemptEvent, PendingQuestion},
    source_addresses::SourceAddresses,
    stream::{Connection, ConnectionLoad},
    tls::Tls,
};
use rustls::pki_types::ServerName;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// The maximum number of shared connections to one server.
const SHARED_CONNECTIONS: usize = 8;
/// The maximum number of connections to one server in all, with stuck and exclusive ones.
const MAX_CONNECTIONS: usize = 32;
/// The maximum number of connections beyond the shared ones, over all servers.
const MAX_EXTRA_CONNECTIONS: usize = 128;
/// The maximum number of queries in flight on one connection.
const MAX_QUERIES_PER_CONNECTION: usize = 512;
/// The number of queries in flight on each connection beyond which another connection is opened.
const BUSY_QUERIES: usize = 64;
/// The time without a response beyond which another connection is opened.
const BUSY_AFTER: Duration = Duration::from_millis(400);
/// The time without a response after which a connection counts as stuck: it is broken, or its
/// server answers in order and works on a slow question.
pub const STUCK_AFTER: Duration = Duration::from_millis(900);
/// The time for which zonal remembers that a server closes connections after a few answers.
const CLOSE_PATTERN_LIFETIME: Duration = Duration::from_secs(60);
/// The number of connections in a row that ended without an answer after which the questions are
/// not the reason.
const MAX_UNANSWERED_CLOSES: usize = 64;

/// The connections to one server.
pub struct StreamPool {
    /// The address of the server.
    pub address: SocketAddr,
    /// The source addresses of connections.
    pub sources: Arc<SourceAddresses>,
    /// Whether the server keeps the case of names.
    pub case: Arc<CaseBehaviour>,
    /// The counters of all servers together.
    pub counters: Arc<UpstreamCounters>,
    /// For DoT: the TLS configuration, and the name that the server's certificate must have.
    pub tls: Option<(Arc<Tls>, ServerName<'static>)>,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    connections: Vec<Arc<Connection>>,
    /// The queries that wait for a connection of their own, and those that wait for a shared one.
    exclusive: VecDeque<QueuedQuery>,
    shared: VecDeque<QueuedQuery>,
    /// The number of answers on each of the last two connections that the server closed with
    /// queries in flight, and the time of the last close.
    closed_after: [Option<usize>; 2],
    closed_at: Option<Instant>,
    /// The number of connections that ended without an answer, since the last answer.
    unanswered_closes: usize,
}

/// A query that is to be sent on a connection.
pub struct QueuedQuery {
    /// The question that the query belongs to.
    pub pending: Arc<PendingQuestion>,
    /// The number of the attempt.
    pub number: usize,
    /// Whether the name is in random case.
    pub randomised: bool,
    /// The message.
    pub octets: Vec<u8>,
    /// Whether the query needs a connection of its own until it is answered.
    pub exclusive: bool,
    /// The connection and ID of the query, once it has them.
    pub assignment: Arc<Assignment>,
}

/// The connection that a query takes, and its ID there. Empty while the query waits for a
/// connection.
pub type Assignment = OnceLock<(Arc<Connection>, u16)>;

/// A query that was sent or waits for a connection. Dropping it gives the query up.
pub struct StreamHandle {
    pool: Arc<StreamPool>,
    pending: Arc<PendingQuestion>,
    assignment: Arc<Assignment>,
}

/// Counts a connection beyond the shared ones.
struct ExtraConnection(Arc<UpstreamCounters>);

impl Drop for ExtraConnection {
    fn drop(&mut self) {
        self.0.extra_connections.fetch_sub(1, Relaxed);
    }
}

impl StreamPool {
    /// A pool without connections.
    pub fn new(
        address: SocketAddr,
        sources: Arc<SourceAddresses>,
        case: Arc<CaseBehaviour>,
        counters: Arc<UpstreamCounters>,
        tls: Option<(Arc<Tls>, ServerName<'static>)>,
    ) -> Arc<StreamPool> {
        Arc::new(StreamPool { address, sources, case, counters, tls, state: Mutex::default() })
    }

    /// Sends a query, or queues it until there is a connection for it. The ID is written into
    /// `query` if it is sent at once.
    pub fn send(
        self: &Arc<Self>,
        pending: &Arc<PendingQuestion>,
        number: usize,
        randomised: bool,
        query: &mut [u8],
        exclusive: bool,
    ) -> Result<StreamHandle, AttemptError> {
        let (pending, assignment) = (pending.clone(), Arc::default());
        let sent = StreamHandle { pool: self.clone(), pending: pending.clone(), assignment: Arc::clone(&assignment) };
        let mut new = QueuedQuery { pending, number, randomised, octets: query.to_vec(), exclusive, assignment };
        let mut state = self.state();
        if state.queue(exclusive).is_empty() && self.assign(&mut state, &mut new)? {
            query.copy_from_slice(&new.octets);
        } else {
            state.queue(exclusive).push_back(new);
        }
        drop(state);
        Ok(sent)
    }

    /// Records that a query was answered, which may make room for a queued one.
    pub fn note_answer(self: &Arc<Self>) {
        let mut state = self.state();
        state.unanswered_closes = 0;
        self.assign_queued(&mut state);
    }

    /// Records that a connection ended after `answers` answers with `waiting` queries in flight.
    /// Returns the kind of error for these.
    pub fn classify_end(&self, kind: AttemptErrorKind, answers: usize, waiting: usize) -> AttemptErrorKind {
        if waiting == 0 || !matches!(kind, AttemptErrorKind::Closed | AttemptErrorKind::ClosedUnanswered) {
            return kind;
        }
        let mut state = self.state();
        if answers > 0 {
            state.closed_after = [state.closed_after[1], Some(answers)];
            state.closed_at = Some(Instant::now());
            return AttemptErrorKind::Closed;
        }
        state.unanswered_closes += 1;
        match waiting {
            _ if state.unanswered_closes >= MAX_UNANSWERED_CLOSES => AttemptErrorKind::BadResponse,
            1 => AttemptErrorKind::ClosedUnanswered,
            _ => AttemptErrorKind::ClosedAmbiguous,
        }
    }

    /// Sends queued queries, as far as there are connections for them.
    pub fn send_queued(self: &Arc<Self>) {
        self.assign_queued(&mut self.state());
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assign_queued(self: &Arc<Self>, state: &mut PoolState) {
        for exclusive in [true, false] {
            while let Some(mut query) = state.queue(exclusive).pop_front() {
                match self.assign(state, &mut query) {
                    Ok(true) => {}
                    Ok(false) => {
                        state.queue(exclusive).push_front(query);
                        break;
                    }
                    Err(error) => query.pending.post(query.number, AttemptEvent::Failed(error)),
                }
            }
        }
    }

    /// Sends a query on the best connection. False if there is none now.
    fn assign(self: &Arc<Self>, state: &mut PoolState, query: &mut QueuedQuery) -> Result<bool, AttemptError> {
        while let Some(connection) = self.choose_connection(state, query.exclusive) {
            // A connection that was closed meanwhile is not chosen again.
            if connection.send(query, state.max_queries_per_connection())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn choose_connection(self: &Arc<Self>, state: &mut PoolState, exclusive: bool) -> Option<Arc<Connection>> {
        state.connections.retain(|connection| !connection.is_closed());
        if exclusive {
            let idle = |state: &PoolState| state.connections.iter().find(|one| one.load().is_idle()).cloned();
            return self.open_connection(state).or_else(|| idle(state));
        }
        let most = if state.max_queries_per_connection() < usize::MAX { MAX_CONNECTIONS } else { SHARED_CONNECTIONS };
        let (mut live, mut best) = (0, None);
        for connection in &state.connections {
            let ConnectionLoad { exclusive, exhausted, unanswered_for, waiting } = connection.load();
            let is_stuck = unanswered_for >= STUCK_AFTER;
            live += usize::from(!exclusive && !is_stuck);
            let rank = (is_stuck, unanswered_for >= BUSY_AFTER || waiting >= BUSY_QUERIES, waiting);
            if !exclusive
                && !exhausted
                && waiting < MAX_QUERIES_PER_CONNECTION
                && best.as_ref().is_none_or(|(other, _)| rank < *other)
            {
                best = Some((rank, connection.clone()));
            }
        }
        match best {
            Some(((false, false, _), connection)) => Some(connection),
            _ if live >= most => best.map(|(_, connection)| connection),
            _ => self.open_connection(state).or(best.map(|(_, connection)| connection)),
        }
    }

    /// Opens a connection, if the limits allow it.
    fn open_connection(self: &Arc<Self>, state: &mut PoolState) -> Option<Arc<Connection>> {
        let extra = match state.connections.len() {
            ..SHARED_CONNECTIONS => None,
            MAX_CONNECTIONS.. => return None,
            _ => {
                let extra = ExtraConnection(self.counters.clone());
                if self.counters.extra_connections.fetch_add(1, Relaxed) >= MAX_EXTRA_CONNECTIONS {
                    return None;
                }
                Some(extra)
            }
        };
        let (connection, pool) = (Arc::new(Connection::default()), self.clone());
        state.connections.push(connection.clone());
        let opened = connection.clone();
        tokio::spawn(async move {
            opened.run(&pool).await;
            drop(extra);
            pool.send_queued();
        });
        Some(connection)
    }
}

impl PoolState {
    fn queue(&mut self, exclusive: bool) -> &mut VecDeque<QueuedQuery> {
        if exclusive { &mut self.exclusive } else { &mut self.shared }
    }

    /// The maximum number of queries on one connection. A limit is learned when the server has
    /// closed two connections after a few answers: one may have another reason.
    fn max_queries_per_connection(&self) -> usize {
        let is_known = self.closed_at.is_some_and(|at| at.elapsed() < CLOSE_PATTERN_LIFETIME);
        self.closed_after
            .into_iter()
            .try_fold(0, |most, n| Some(most.max(n?)))
            .filter(|_| is_known)
            .unwrap_or(usize::MAX)
    }
}

impl StreamHandle {
    /// The local address and port of the query.
    pub fn local(&self) -> Option<SocketAddr> {
        self.assignment.get().and_then(|(connection, _)| connection.local())
    }

    /// Whether the query waits for a connection.
    pub fn is_queued(&self) -> bool {
        self.assignment.get().is_none()
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        if self.is_queued() {
            let mut state = self.pool.state();
            if self.is_queued() {
                let state = &mut *state;
                // The query that is given up is usually the oldest, which is first in its queue.
                for queue in [&mut state.exclusive, &mut state.shared] {
                    if let Some(at) = queue.iter().position(|query| Arc::ptr_eq(&query.assignment, &self.assignment)) {
                        queue.remove(at);
                        return;
                    }
                }
                return;
            }
        }
        if let Some((connection, id)) = self.assignment.get()
            && connection.forget(*id, &self.pending)
        {
            self.pool.send_queued();
        }
    }
}
