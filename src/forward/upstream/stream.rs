//! One connection by TCP or DoT, with many queries in flight, answered in any order.

use super::{
    case_behaviour::Acceptance,
    pending::{AttemptError, AttemptErrorKind, AttemptEvent, PendingQuestion},
    pool::{QueuedQuery, STUCK_AFTER, StreamPool},
    random,
    source_addresses::SourceAddresses,
    tls::{self, Alpn},
    udp::unreachable,
};
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

/// The time-out of connecting, and of the TLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The time-out of sending: the server does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// The time after which an idle connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time without a response after which a connection with queries in flight is closed.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of unexpected messages since the last answer after which a connection is closed.
const MAX_UNEXPECTED: usize = 16;
/// The number of duplicate answers since the last answer after which a connection is closed.
const MAX_DUPLICATES: usize = 1024;
/// The number of answered IDs that are remembered, to recognise duplicates.
const MAX_REMEMBERED_IDS: usize = 512;

/// A connection, and its queries in flight.
#[derive(Default)]
pub struct Connection {
    state: Mutex<ConnectionState>,
    /// Wakes the writer: there is something to send, or the connection is no longer needed.
    wake: Notify,
    /// The local address and port, once it is connected.
    local: OnceLock<SocketAddr>,
}

#[derive(Default)]
struct ConnectionState {
    waiting: HashMap<u16, AwaitedQuery>,
    /// Messages to send, each with its length in front.
    output: Vec<u8>,
    connected: bool,
    closed: bool,
    /// The number of queries so far.
    asked: usize,
    /// The time since which queries are in flight and no answer has come.
    unanswered_since: Option<Instant>,
    /// Whether a query has the connection to itself until it is answered.
    exclusive: bool,
    /// Whether the connection takes no new queries.
    exhausted: bool,
    answers: usize,
    /// The IDs of the last answers.
    answered_ids: VecDeque<u16>,
    /// The number of abandoned queries whose answers may still come; and since the last answer, the
    /// number of duplicate answers and of unexpected messages.
    abandoned: usize,
    duplicates: usize,
    unexpected: usize,
}

struct AwaitedQuery {
    pending: Arc<PendingQuestion>,
    number: usize,
    randomised: bool,
}

/// The load of a connection, for the choice among connections.
pub struct ConnectionLoad {
    /// Whether a query has the connection to itself.
    pub exclusive: bool,
    /// Whether the connection takes no new queries.
    pub exhausted: bool,
    /// The time for which queries have been in flight without an answer. Zero if none is in flight.
    pub unanswered_for: Duration,
    /// The number of queries in flight.
    pub waiting: usize,
}

impl ConnectionLoad {
    /// Whether the connection can be given to one query alone.
    pub fn is_idle(&self) -> bool {
        !self.exclusive && !self.exhausted && self.unanswered_for.is_zero() && self.waiting == 0
    }
}

/// Opens a TCP connection from one of the source addresses.
pub async fn connect(sources: &SourceAddresses, address: SocketAddr) -> Result<TcpStream, AttemptError> {
    let socket = TcpSocket::from_std_stream(sources.bind(address.ip(), socket2::Type::STREAM)?.into());
    let stream = socket.connect(address).await.map_err(|error| unreachable(&error))?;
    // Without a delay: each query is sent at once.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

impl ConnectionState {
    fn unanswered_for(&self) -> Duration {
        self.unanswered_since.map_or(Duration::ZERO, |since| since.elapsed().max(Duration::from_nanos(1)))
    }

    /// Records that an answer came.
    fn note_answer(&mut self) {
        self.unanswered_since = (!self.waiting.is_empty()).then(Instant::now);
        (self.duplicates, self.unexpected) = (0, 0);
    }

    /// Whether to close the connection: no query is in flight, nothing is to be sent, and it takes
    /// no new queries or is stuck.
    fn is_done(&self) -> bool {
        self.connected
            && self.waiting.is_empty()
            && self.output.is_empty()
            && (self.exhausted || self.unanswered_for() >= STUCK_AFTER)
    }
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, ConnectionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection is closed. Closes it if it is done.
    pub fn is_closed(&self) -> bool {
        let mut state = self.state();
        if !state.closed && state.is_done() {
            state.closed = true;
            self.wake.notify_one();
        }
        state.closed
    }

    /// The local address and port, once it is connected.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local.get().copied()
    }

    /// The load of the connection.
    pub fn load(&self) -> ConnectionLoad {
        let state = self.state();
        ConnectionLoad {
            exclusive: state.exclusive,
            exhausted: state.exhausted,
            unanswered_for: state.unanswered_for(),
            waiting: state.waiting.len(),
        }
    }

    /// Sends a query, with its ID written into it, on a connection that takes `max_queries` in its
    /// lifetime. False if the connection is closed.
    pub fn send(self: &Arc<Self>, query: &mut QueuedQuery, max_queries: usize) -> Result<bool, AttemptError> {
        let mut state = self.state();
        if state.closed {
            return Ok(false);
        }
        let is_free = |id: &u16| !state.waiting.contains_key(id) && !state.answered_ids.contains(id);
        let Some(id) = (0..64).find_map(|_| random::number().filter(is_free)) else {
            return Err(AttemptError::new(AttemptErrorKind::Local, "is not asked: no id is free"));
        };
        if let Some(place) = query.octets.first_chunk_mut() {
            *place = id.to_be_bytes();
        }
        let QueuedQuery { pending, number, randomised, octets, exclusive, assignment } = query;
        if assignment.set((self.clone(), id)).is_err() {
            return Err(AttemptError::new(AttemptErrorKind::Local, "was asked already"));
        }
        state.output.extend_from_slice(&(octets.len() as u16).to_be_bytes());
        state.output.extend_from_slice(octets);
        state.waiting.insert(id, AwaitedQuery { pending: pending.clone(), number: *number, randomised: *randomised });
        state.unanswered_since.get_or_insert_with(Instant::now);
        state.asked += 1;
        state.exclusive = *exclusive;
        state.exhausted = state.asked >= max_queries;
        drop(state);
        self.wake.notify_one();
        Ok(true)
    }

    /// Abandons a query. False if it was answered or abandoned already.
    pub fn forget(&self, id: u16, pending: &Arc<PendingQuestion>) -> bool {
        let mut state = self.state();
        if state.waiting.get(&id).is_none_or(|waiting| !Arc::ptr_eq(&waiting.pending, pending)) {
            return false;
        }
        state.waiting.remove(&id);
        state.abandoned += 1;
        // The next answer would have to wait for the abandoned one.
        state.exhausted |= state.exclusive;
        if state.waiting.is_empty() {
            drop(state);
            self.wake.notify_one();
        }
        true
    }

    /// Connects, and serves queries until either side closes the connection.
    pub async fn run(&self, pool: &Arc<StreamPool>) {
        let error = match self.connect_and_exchange(pool).await {
            Err(error) | Ok(error) => error,
        };
        let (waiting, answers) = {
            let mut state = self.state();
            state.closed = true;
            (std::mem::take(&mut state.waiting), state.answers)
        };
        let kind = pool.classify_end(error.kind, answers, waiting.len());
        for AwaitedQuery { pending, number, .. } in waiting.into_values() {
            pending.post(number, AttemptEvent::Failed(AttemptError { kind, text: error.text.clone() }));
        }
    }

    async fn connect_and_exchange(&self, pool: &Arc<StreamPool>) -> Result<AttemptError, AttemptError> {
        let silent = |_| AttemptError::new(AttemptErrorKind::Unreachable, "does not accept the connection");
        let connecting = connect(&pool.sources, pool.address);
        let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(silent)??;
        if let Ok(local) = stream.local_addr() {
            // `set` fails only for a second connection, which there is none of.
            let _ = self.local.set(local);
        }
        match &pool.tls {
            None => Ok(self.exchange(pool, split(stream)).await),
            Some((tls, name)) => {
                let connecting = TlsConnector::from(tls.config(Alpn::Dot)?).connect(name.clone(), stream);
                let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(silent)?;
                Ok(self.exchange(pool, split(stream.map_err(|error| tls::tls_error(&error))?)).await)
            }
        }
    }

    async fn exchange(
        &self,
        pool: &Arc<StreamPool>,
        (reader, writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    ) -> AttemptError {
        self.state().connected = true;
        tokio::select! {
            error = self.write(writer) => error,
            error = self.read(pool, reader) => error,
        }
    }

    async fn write(&self, mut writer: impl AsyncWrite + Unpin) -> AttemptError {
        let mut idle_since = None;
        let mut output = Vec::new();
        loop {
            let idle = {
                let mut state = self.state();
                std::mem::swap(&mut output, &mut state.output);
                let idle = output.is_empty() && state.waiting.is_empty();
                if idle && (state.closed || state.is_done()) {
                    state.closed = true;
                    return AttemptError::new(AttemptErrorKind::Closed, "is no longer needed");
                }
                idle
            };
            if output.is_empty() {
                let until = match idle {
                    true => *idle_since.get_or_insert_with(Instant::now) + IDLE_TIMEOUT,
                    false => Instant::now() + IDLE_TIMEOUT,
                };
                if timeout_at(until, self.wake.notified()).await.is_err() && idle {
                    let mut state = self.state();
                    if state.waiting.is_empty() {
                        state.closed = true;
                        return AttemptError::new(AttemptErrorKind::Closed, "is no longer needed");
                    }
                }
                continue;
            }
            idle_since = None;
            let writing = async {
                writer.write_all(&output).await?;
                writer.flush().await // TLS keeps what it has encrypted
            };
            match timeout(WRITE_TIMEOUT, writing).await {
                Ok(Ok(())) => output.clear(),
                Ok(Err(_)) => return AttemptError::new(AttemptErrorKind::Closed, "closed the connection"),
                Err(_) => return AttemptError::new(AttemptErrorKind::Unreachable, "does not read its queries"),
            }
            output.shrink_to(1 << 16);
        }
    }

    async fn read(&self, pool: &Arc<StreamPool>, mut reader: impl AsyncRead + Unpin) -> AttemptError {
        let mut input = Vec::new();
        loop {
            input.reserve(4096);
            let read = match timeout(SILENCE_TIMEOUT, reader.read_buf(&mut input)).await {
                Ok(read) => read,
                Err(_) if self.state().waiting.is_empty() => continue,
                Err(_) => return AttemptError::new(AttemptErrorKind::Unreachable, "sends nothing on the connection"),
            };
            match read {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return tls::tls_error(&error),
                _ => return AttemptError::new(AttemptErrorKind::Closed, "closed the connection"),
            }
            let mut start = 0;
            while let Some((length, rest)) = input[start..].split_first_chunk() {
                let length = usize::from(u16::from_be_bytes(*length));
                let Some(message) = rest.get(..length) else { break };
                if !self.receive(pool, message) {
                    return AttemptError::new(
                        AttemptErrorKind::ClosedUnanswered,
                        "sends answers to questions that were not asked",
                    );
                }
                start += 2 + length;
            }
            input.drain(..start);
            if input.is_empty() {
                input.shrink_to(1 << 16);
            }
        }
    }

    /// Handles a message. False if the connection is to be closed.
    fn receive(&self, pool: &Arc<StreamPool>, message: &[u8]) -> bool {
        let mut state = self.state();
        let id = message.first_chunk().map(|id| u16::from_be_bytes(*id));
        let waiting = id.and_then(|id| state.waiting.remove(&id));
        match (waiting, id) {
            (Some(AwaitedQuery { pending, number, randomised }), Some(id)) => {
                let echo = pending.question.echo(message, randomised);
                let event = match pool.case.evaluate(echo, randomised, &pending.question, true) {
                    Acceptance::Accepted => AttemptEvent::Response(message.to_vec()),
                    _ => {
                        pool.counters.unexpected.inc();
                        AttemptEvent::Failed(AttemptError::new(
                            AttemptErrorKind::BadResponse,
                            "answered another question",
                        ))
                    }
                };
                state.answers += 1;
                state.exclusive = false;
                if state.answered_ids.len() >= MAX_REMEMBERED_IDS {
                    state.answered_ids.pop_front();
                }
                state.answered_ids.push_back(id);
                state.note_answer();
                let empty = state.waiting.is_empty();
                drop(state);
                pending.post(number, event);
                if empty {
                    self.wake.notify_one();
                }
                pool.note_answer();
                true
            }
            // Some servers and middleboxes send answers twice.
            (_, Some(id)) if state.answered_ids.contains(&id) => {
                pool.counters.unexpected.inc();
                state.duplicates += 1;
                state.duplicates < MAX_DUPLICATES
            }
            _ if state.abandoned > 0 => {
                state.abandoned -= 1;
                state.note_answer();
                true
            }
            _ => {
                pool.counters.unexpected.inc();
                state.unexpected += 1;
                state.unexpected < MAX_UNEXPECTED
            }
        }
    }
}
