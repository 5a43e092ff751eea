//! TCP and DoT: a few connections for each server, kept open, with many queries on each, answered in any order.

use super::{
    pending::{Event, Kind, Pending, Trouble},
    random,
    server::{Case, Counters, Judged, Sources},
    tls::{self, Alpn, Tls},
    udp::unreachable,
};
use rustls::pki_types::ServerName;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

/// Connections to one server.
const CONNECTIONS: usize = 8;
/// Queries on one connection.
const MOST_WAITING: usize = 512;
/// With so many queries waiting on each connection, another one is opened.
const MANY_WAITING: usize = 64;
/// How long connecting may take, with TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the server may leave what was sent unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection on which nothing comes back for so long may be stuck: gone, or one of those whose answers come in the order
/// of the questions, behind one that takes its time.
const STUCK: Duration = Duration::from_millis(900);
/// How long a connection is kept that nobody needs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept on which nothing comes back.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that sends so much that nobody asked for is cut off.
const MOST_STRANGERS: usize = 16;

/// The connections to one server.
pub struct Pool {
    address: SocketAddr,
    sources: Arc<Sources>,
    case: Arc<Case>,
    counters: Arc<Counters>,
    /// For DoT: what TLS needs, and the name that the certificate has to be for.
    tls: Option<(Arc<Tls>, ServerName<'static>)>,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// How many queries the server answers on one connection, as far as it has closed one with more of them on it.
    most: Arc<AtomicUsize>,
}

/// A connection.
pub struct Connection {
    state: Mutex<State>,
    /// There is something to send, or nobody needs the connection any more.
    news: Notify,
    case: Arc<Case>,
    counters: Arc<Counters>,
    most: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u16, Waiting>,
    /// Octets to send.
    output: Vec<u8>,
    closed: bool,
    /// Since when answers are owed and none has come.
    owed: Option<Instant>,
    /// No new queries, as it may be stuck, while there are others.
    shunned: bool,
    answers: usize,
    /// Answers that are not waited for any more, and those that never were.
    gone: usize,
    strangers: usize,
}

struct Waiting {
    pending: Arc<Pending>,
    number: usize,
    spelt: bool,
}

/// A query that was sent. It is forgotten when this is dropped.
pub struct Sent {
    connection: Arc<Connection>,
    pending: Arc<Pending>,
    id: u16,
}

impl Pool {
    /// No connection is open yet.
    pub fn new(address: SocketAddr, sources: Arc<Sources>, case: Arc<Case>, counters: Arc<Counters>) -> Pool {
        let most = Arc::new(AtomicUsize::new(MANY_WAITING));
        Pool { address, sources, case, counters, tls: None, connections: Mutex::default(), most }
    }

    /// Likewise, with TLS on the connections.
    pub fn with_tls(self, tls: Arc<Tls>, name: ServerName<'static>) -> Pool {
        Pool { tls: Some((tls, name)), ..self }
    }

    /// Sends a query, if `fresh` by a connection on which no answer is owed, while there may be one. Its id is put in.
    pub fn send(
        &self,
        pending: &Arc<Pending>,
        number: usize,
        spelt: bool,
        query: &mut [u8],
        fresh: bool,
    ) -> Result<Sent, Trouble> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| !connection.state().closed);
        if fresh {
            connections.iter().for_each(|connection| connection.state().shun_if_stuck());
        }
        let usable = connections.iter().filter_map(|connection| {
            let state = connection.state();
            let rank = (state.shunned || fresh && state.owed.is_some(), state.waiting.len());
            (rank.1 < MOST_WAITING).then_some((rank, connection))
        });
        let is_full = connections.len() >= CONNECTIONS;
        let connection = match usable.min_by_key(|(rank, _)| *rank) {
            Some(((false, waiting), connection)) if waiting < self.most.load(Relaxed) => connection.clone(),
            Some((_, connection)) if is_full => connection.clone(),
            None if is_full => {
                return Err(Trouble::new(Kind::Local, "is not asked: too many queries wait for it"));
            }
            _ => {
                let connection = Arc::new(Connection {
                    state: Mutex::default(),
                    news: Notify::new(),
                    case: self.case.clone(),
                    counters: self.counters.clone(),
                    most: self.most.clone(),
                });
                tokio::spawn(connection.clone().run(self.sources.clone(), self.address, self.tls.clone()));
                connections.push(connection.clone());
                connection
            }
        };
        connection.send(pending, number, spelt, query)
    }
}

/// Opens a TCP connection.
pub async fn connect(sources: &Sources, address: SocketAddr) -> Result<TcpStream, Trouble> {
    let socket = TcpSocket::from_std_stream(sources.bind(address.ip(), socket2::Type::STREAM)?.into());
    let stream = socket.connect(address).await.map_err(|error| unreachable(&error))?;
    // A query that is ready goes at once.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

impl State {
    fn shun_if_stuck(&mut self) {
        self.shunned |= self.owed.is_some_and(|since| since.elapsed() >= STUCK);
    }

    /// An answer has come.
    fn heard(&mut self) {
        self.shunned = false;
        self.owed = (!self.waiting.is_empty()).then(Instant::now);
    }
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(
        self: Arc<Self>,
        pending: &Arc<Pending>,
        number: usize,
        spelt: bool,
        query: &mut [u8],
    ) -> Result<Sent, Trouble> {
        let mut state = self.state();
        if state.closed {
            return Err(Trouble::new(Kind::Closed, "has closed the connection"));
        }
        let draw = || random::number().filter(|id| !state.waiting.contains_key(id));
        let Some(id) = (0..64).find_map(|_| draw()) else {
            return Err(Trouble::new(Kind::Local, "is not asked: no id is free"));
        };
        query[..2].copy_from_slice(&id.to_be_bytes());
        state.output.extend_from_slice(&(query.len() as u16).to_be_bytes());
        state.output.extend_from_slice(query);
        state.waiting.insert(id, Waiting { pending: pending.clone(), number, spelt });
        state.owed.get_or_insert_with(Instant::now);
        drop(state);
        self.news.notify_one();
        Ok(Sent { connection: self, pending: pending.clone(), id })
    }

    /// Connects, and goes on until the connection is closed by either side.
    async fn run(
        self: Arc<Self>,
        sources: Arc<Sources>,
        address: SocketAddr,
        tls: Option<(Arc<Tls>, ServerName<'static>)>,
    ) {
        let trouble = match self.talk(&sources, address, tls).await {
            Err(trouble) | Ok(trouble) => trouble,
        };
        let mut state = self.state();
        state.closed = true;
        // Servers close what is kept, and some after a few answers. One that never answers is another matter.
        let kind = match trouble.kind {
            Kind::Closed if state.answers == 0 => Kind::Broken,
            Kind::Closed if !state.waiting.is_empty() => {
                self.most.fetch_min(state.answers, Relaxed);
                Kind::Closed
            }
            kind => kind,
        };
        for (_, Waiting { pending, number, .. }) in state.waiting.drain() {
            pending.post(number, Event::Failed(Trouble { kind, text: trouble.text.clone() }));
        }
    }

    async fn talk(
        &self,
        sources: &Sources,
        address: SocketAddr,
        tls: Option<(Arc<Tls>, ServerName<'static>)>,
    ) -> Result<Trouble, Trouble> {
        let silent = |_| Trouble::new(Kind::Network, "does not take up the connection");
        let stream = timeout(CONNECT_TIMEOUT, connect(sources, address)).await.map_err(silent)??;
        match tls {
            None => Ok(self.exchange(split(stream)).await),
            Some((tls, name)) => {
                let connecting = TlsConnector::from(tls.config(Alpn::Dot)?).connect(name, stream);
                let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(silent)?;
                Ok(self.exchange(split(stream.map_err(|error| tls::trouble(&error))?)).await)
            }
        }
    }

    async fn exchange(&self, (reader, writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin)) -> Trouble {
        tokio::select! {
            trouble = self.write(writer) => trouble,
            trouble = self.read(reader) => trouble,
        }
    }

    async fn write(&self, mut writer: impl AsyncWrite + Unpin) -> Trouble {
        let mut idle_since = None;
        let mut output = Vec::new();
        loop {
            let idle = {
                let mut state = self.state();
                std::mem::swap(&mut output, &mut state.output);
                let idle = output.is_empty() && state.waiting.is_empty();
                if idle && state.shunned {
                    state.closed = true;
                    return Trouble::new(Kind::Closed, "is not needed any more");
                }
                idle
            };
            if output.is_empty() {
                let until = match idle {
                    true => *idle_since.get_or_insert_with(Instant::now) + IDLE_TIMEOUT,
                    false => Instant::now() + IDLE_TIMEOUT,
                };
                if timeout_at(until, self.news.notified()).await.is_err() && idle {
                    let mut state = self.state();
                    if state.waiting.is_empty() {
                        state.closed = true;
                        return Trouble::new(Kind::Closed, "is not needed any more");
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
                Ok(Err(_)) => return Trouble::new(Kind::Closed, "has closed the connection"),
                Err(_) => return Trouble::new(Kind::Network, "does not read what it is sent"),
            }
            output.shrink_to(1 << 16);
        }
    }

    async fn read(&self, mut reader: impl AsyncRead + Unpin) -> Trouble {
        let mut input = Vec::new();
        loop {
            input.reserve(4096);
            let read = match timeout(SILENCE_TIMEOUT, reader.read_buf(&mut input)).await {
                Ok(read) => read,
                Err(_) if self.state().waiting.is_empty() => continue,
                Err(_) => return Trouble::new(Kind::Network, "is silent on the connection"),
            };
            match read {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return tls::trouble(&error),
                _ => return Trouble::new(Kind::Closed, "has closed the connection"),
            }
            let mut start = 0;
            while let Some((length, rest)) = input[start..].split_first_chunk() {
                let length = usize::from(u16::from_be_bytes(*length));
                let Some(message) = rest.get(..length) else { break };
                if !self.arrived(message) {
                    return Trouble::new(Kind::Broken, "sends answers that nobody asked for");
                }
                start += 2 + length;
            }
            input.drain(..start);
            if input.is_empty() {
                input.shrink_to(1 << 16);
            }
        }
    }

    /// Takes an answer. False if the server had better be left alone.
    fn arrived(&self, message: &[u8]) -> bool {
        let mut state = self.state();
        let id = message.get(..2).map(|id| u16::from_be_bytes([id[0], id[1]]));
        let waiting = id.and_then(|id| state.waiting.remove(&id));
        match waiting {
            Some(Waiting { pending, number, spelt, .. }) => {
                let echo = pending.question.echo(message, spelt);
                let event = match self.case.judge(echo, spelt, &pending.question, true) {
                    Judged::Answer => Event::Answer(message.to_vec()),
                    _ => {
                        self.counters.strangers.inc();
                        Event::Failed(Trouble::new(Kind::Answer, "answered another question"))
                    }
                };
                state.answers += 1;
                state.heard();
                let empty = state.waiting.is_empty();
                drop(state);
                pending.post(number, event);
                if empty {
                    self.news.notify_one();
                }
                true
            }
            None if state.gone > 0 => {
                state.gone -= 1;
                state.heard();
                true
            }
            None => {
                self.counters.strangers.inc();
                state.strangers += 1;
                state.strangers < MOST_STRANGERS
            }
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let mut state = self.connection.state();
        if state.waiting.get(&self.id).is_some_and(|waiting| Arc::ptr_eq(&waiting.pending, &self.pending)) {
            state.waiting.remove(&self.id);
            state.gone += 1;
            if state.waiting.is_empty() {
                drop(state);
                self.connection.news.notify_one();
            }
        }
    }
}
