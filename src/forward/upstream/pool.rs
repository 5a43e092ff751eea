//! TCP and DoT: the connections to one server, which query goes by which of them, and the queries that wait for one.
//!
//! Few connections are shared by many queries. Servers that answer in the order of the questions may be stuck behind one
//! that takes its time: then others are opened, and a query that is sent again has one of its own.

use super::{
    case::Case,
    counters::Counters,
    pending::{Event, Kind, Pending, Trouble},
    sources::Sources,
    stream::{Connection, Standing},
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

/// Connections to one server that queries share.
const CONNECTIONS: usize = 8;
/// Connections to one server in all: those that are stuck, and those that one query has alone.
const MOST_CONNECTIONS: usize = 32;
/// How many of those beyond the usual number there may be, over all servers.
const MOST_EXTRA: usize = 128;
/// Queries on one connection.
const MOST_WAITING: usize = 512;
/// With so many queries waiting on each connection, another one is opened.
const MANY_WAITING: usize = 64;
/// Likewise, when nothing has come back on them for so long.
const LATE: Duration = Duration::from_millis(400);
/// A connection on which nothing comes back for so long may be stuck: gone, or one of those whose answers come in the order
/// of the questions, behind one that takes its time.
pub const STUCK: Duration = Duration::from_millis(900);
/// How long it is remembered that a server closes connections after a few answers.
const MEMORY: Duration = Duration::from_secs(60);
/// So many connections in a row that ended without an answer, and it is not a question's fault.
const MOST_VAIN: usize = 64;

/// The connections to one server.
pub struct Pool {
    /// Where it is.
    pub address: SocketAddr,
    /// Where connections come from.
    pub sources: Arc<Sources>,
    /// Whether it keeps the case of names.
    pub case: Arc<Case>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// For DoT: what TLS needs, and the name that the certificate has to be for.
    pub tls: Option<(Arc<Tls>, ServerName<'static>)>,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    connections: Vec<Arc<Connection>>,
    /// Queries that wait for a connection of their own, and for one that they may share.
    alone: VecDeque<Query>,
    shared: VecDeque<Query>,
    /// After how many answers the server has closed the last connections with more queries on them, and when.
    closed_after: [Option<usize>; 2],
    closed_at: Option<Instant>,
    /// How many connections have ended without an answer, since the last answer.
    vain: usize,
}

/// A query that is to be sent.
pub struct Query {
    /// Who waits for its answer.
    pub pending: Arc<Pending>,
    /// Which try it is.
    pub number: usize,
    /// Whether it is in a spelling of ours.
    pub spelt: bool,
    /// The message.
    pub octets: Vec<u8>,
    /// It is to be alone on its connection until it is answered.
    pub alone: bool,
    /// Where it is told by which connection it went.
    pub ticket: Arc<Ticket>,
}

/// By which connection a query went, and with which id. It is empty as long as the query waits.
pub type Ticket = OnceLock<(Arc<Connection>, u16)>;

/// A query that was sent, or is to be. It is forgotten when this is dropped.
pub struct Sent {
    pool: Arc<Pool>,
    pending: Arc<Pending>,
    ticket: Arc<Ticket>,
}

/// A place among the connections beyond the usual number.
struct Extra(Arc<Counters>);

impl Drop for Extra {
    fn drop(&mut self) {
        self.0.extra_connections.fetch_sub(1, Relaxed);
    }
}

impl Pool {
    /// No connection is open yet.
    pub fn new(
        address: SocketAddr,
        sources: Arc<Sources>,
        case: Arc<Case>,
        counters: Arc<Counters>,
        tls: Option<(Arc<Tls>, ServerName<'static>)>,
    ) -> Arc<Pool> {
        Arc::new(Pool { address, sources, case, counters, tls, line: Mutex::default() })
    }

    /// Sends a query, or has it wait until there is a connection for it. Its id is put in.
    pub fn send(
        self: &Arc<Self>,
        pending: &Arc<Pending>,
        number: usize,
        spelt: bool,
        query: &mut [u8],
        alone: bool,
    ) -> Result<Sent, Trouble> {
        let (pending, ticket) = (pending.clone(), Arc::default());
        let sent = Sent { pool: self.clone(), pending: pending.clone(), ticket: Arc::clone(&ticket) };
        let mut new = Query { pending, number, spelt, octets: query.to_vec(), alone, ticket };
        let mut line = self.line();
        if line.queue(alone).is_empty() && self.place(&mut line, &mut new)? {
            query.copy_from_slice(&new.octets);
        } else {
            line.queue(alone).push_back(new);
        }
        drop(line);
        Ok(sent)
    }

    /// A query was answered on a connection.
    pub fn answered(self: &Arc<Self>) {
        let mut line = self.line();
        line.vain = 0;
        self.advance(&mut line);
    }

    /// A connection has ended after so many answers, with so many queries on it. Returns what that means for them.
    pub fn ended(&self, kind: Kind, answers: usize, waiting: usize) -> Kind {
        if waiting == 0 || !matches!(kind, Kind::Closed | Kind::Broken) {
            return kind;
        }
        let mut line = self.line();
        if answers > 0 {
            line.closed_after = [line.closed_after[1], Some(answers)];
            line.closed_at = Some(Instant::now());
            return Kind::Closed;
        }
        line.vain += 1;
        match waiting {
            _ if line.vain >= MOST_VAIN => Kind::Answer,
            1 => Kind::Broken,
            _ => Kind::Doubtful,
        }
    }

    /// Sends what waits, as far as there are connections for it.
    pub fn go_on(self: &Arc<Self>) {
        self.advance(&mut self.line());
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(self: &Arc<Self>, line: &mut Line) {
        for alone in [true, false] {
            while let Some(mut query) = line.queue(alone).pop_front() {
                match self.place(line, &mut query) {
                    Ok(true) => {}
                    Ok(false) => {
                        line.queue(alone).push_front(query);
                        break;
                    }
                    Err(trouble) => query.pending.post(query.number, Event::Failed(trouble)),
                }
            }
        }
    }

    /// Sends a query by the connection that suits it best. False if there is none now.
    fn place(self: &Arc<Self>, line: &mut Line, query: &mut Query) -> Result<bool, Trouble> {
        while let Some(connection) = self.choose(line, query.alone) {
            // One that has just been closed is not found again.
            if connection.send(query, line.most())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn choose(self: &Arc<Self>, line: &mut Line, alone: bool) -> Option<Arc<Connection>> {
        line.connections.retain(|connection| !connection.is_closed());
        if alone {
            let idle = |line: &Line| line.connections.iter().find(|one| one.standing().is_idle()).cloned();
            return self.open(line).or_else(|| idle(line));
        }
        let most = if line.most() < usize::MAX { MOST_CONNECTIONS } else { CONNECTIONS };
        let (mut live, mut best) = (0, None);
        for connection in &line.connections {
            let Standing { alone, spent, owed, waiting } = connection.standing();
            let is_stuck = owed >= STUCK;
            live += usize::from(!alone && !is_stuck);
            let rank = (is_stuck, owed >= LATE || waiting >= MANY_WAITING, waiting);
            if !alone && !spent && waiting < MOST_WAITING && best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, connection.clone()));
            }
        }
        match best {
            Some(((false, false, _), connection)) => Some(connection),
            _ if live >= most => best.map(|(_, connection)| connection),
            _ => self.open(line).or(best.map(|(_, connection)| connection)),
        }
    }

    /// Opens a connection, if there may be another one.
    fn open(self: &Arc<Self>, line: &mut Line) -> Option<Arc<Connection>> {
        let extra = match line.connections.len() {
            ..CONNECTIONS => None,
            MOST_CONNECTIONS.. => return None,
            _ => {
                let extra = Extra(self.counters.clone());
                if self.counters.extra_connections.fetch_add(1, Relaxed) >= MOST_EXTRA {
                    return None;
                }
                Some(extra)
            }
        };
        let (connection, pool) = (Arc::new(Connection::default()), self.clone());
        line.connections.push(connection.clone());
        let opened = connection.clone();
        tokio::spawn(async move {
            opened.run(&pool).await;
            drop(extra);
            pool.go_on();
        });
        Some(connection)
    }
}

impl Line {
    fn queue(&mut self, alone: bool) -> &mut VecDeque<Query> {
        if alone { &mut self.alone } else { &mut self.shared }
    }

    /// How many queries may be sent on one connection. A server that closes after a few answers does so each time; once
    /// may have other reasons.
    fn most(&self) -> usize {
        let is_known = self.closed_at.is_some_and(|at| at.elapsed() < MEMORY);
        self.closed_after
            .into_iter()
            .try_fold(0, |most, n| Some(most.max(n?)))
            .filter(|_| is_known)
            .unwrap_or(usize::MAX)
    }
}

impl Sent {
    /// The address and port that it went from.
    pub fn local(&self) -> Option<SocketAddr> {
        self.ticket.get().and_then(|(connection, _)| connection.local())
    }

    /// Whether it waits for a connection.
    pub fn is_queued(&self) -> bool {
        self.ticket.get().is_none()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.is_queued() {
            let mut line = self.pool.line();
            if self.is_queued() {
                let line = &mut *line;
                // The oldest is the first whose time is over, and the first in the queue.
                for queue in [&mut line.alone, &mut line.shared] {
                    if let Some(at) = queue.iter().position(|query| Arc::ptr_eq(&query.ticket, &self.ticket)) {
                        queue.remove(at);
                        return;
                    }
                }
                return;
            }
        }
        if let Some((connection, id)) = self.ticket.get()
            && connection.forget(*id, &self.pending)
        {
            self.pool.go_on();
        }
    }
}
