//! TCP and DoT: a connection, with many queries on it, answered in any order.

use super::{
    case::Judged,
    pending::{Event, Kind, Pending, Trouble},
    pool::{Pool, Query, STUCK},
    random,
    sources::Sources,
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

/// How long connecting may take, with TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the server may leave what was sent unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection is kept that nobody needs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept on which nothing comes back.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that sends so much that nobody asked for, with no answer between, is cut off.
const MOST_STRANGERS: usize = 16;
/// And so many copies of answers.
const MOST_COPIES: usize = 1024;
/// So many answers are remembered, so that their copies are known.
const REMEMBERED: usize = 512;

/// A connection.
#[derive(Default)]
pub struct Connection {
    state: Mutex<State>,
    /// There is something to send, or nobody needs the connection any more.
    news: Notify,
    /// Our end of it, once it is there.
    local: OnceLock<SocketAddr>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u16, Waiting>,
    /// Octets to send.
    output: Vec<u8>,
    connected: bool,
    closed: bool,
    /// How many queries were sent.
    asked: usize,
    /// Since when answers are owed and none has come.
    owed: Option<Instant>,
    /// A query has it alone until it is answered.
    alone: bool,
    /// There will be no new queries.
    spent: bool,
    answers: usize,
    /// The ids of the last answers.
    taken: VecDeque<u16>,
    /// Answers that are not waited for any more. Since the last answer: copies of answers, and what nobody asked for.
    gone: usize,
    copies: usize,
    strangers: usize,
}

struct Waiting {
    pending: Arc<Pending>,
    number: usize,
    spelt: bool,
}

/// What matters to those who may use a connection.
pub struct Standing {
    /// A query has it alone.
    pub alone: bool,
    /// There will be no new queries.
    pub spent: bool,
    /// How long answers have been owed with none coming; zero if none are.
    pub owed: Duration,
    /// How many queries are on it.
    pub waiting: usize,
}

impl Standing {
    /// Whether it could be anybody's.
    pub fn is_idle(&self) -> bool {
        !self.alone && !self.spent && self.owed.is_zero() && self.waiting == 0
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
    fn owed(&self) -> Duration {
        self.owed.map_or(Duration::ZERO, |since| since.elapsed().max(Duration::from_nanos(1)))
    }

    /// An answer has come.
    fn heard(&mut self) {
        self.owed = (!self.waiting.is_empty()).then(Instant::now);
        (self.copies, self.strangers) = (0, 0);
    }

    /// Whether it had better be closed, as nobody waits and nothing more is to be sent.
    fn is_done(&self) -> bool {
        self.connected && self.waiting.is_empty() && self.output.is_empty() && (self.spent || self.owed() >= STUCK)
    }
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is closed, or is to be.
    pub fn is_closed(&self) -> bool {
        let mut state = self.state();
        if !state.closed && state.is_done() {
            state.closed = true;
            self.news.notify_one();
        }
        state.closed
    }

    /// Our address and port, once it is connected.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local.get().copied()
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let state = self.state();
        Standing { alone: state.alone, spent: state.spent, owed: state.owed(), waiting: state.waiting.len() }
    }

    /// Sends a query, of `most` that there may ever be on this connection. False if it is closed. The id is put in.
    pub fn send(self: &Arc<Self>, query: &mut Query, most: usize) -> Result<bool, Trouble> {
        let mut state = self.state();
        if state.closed {
            return Ok(false);
        }
        let is_free = |id: &u16| !state.waiting.contains_key(id) && !state.taken.contains(id);
        let Some(id) = (0..64).find_map(|_| random::number().filter(is_free)) else {
            return Err(Trouble::new(Kind::Local, "is not asked: no id is free"));
        };
        if let Some(place) = query.octets.first_chunk_mut() {
            *place = id.to_be_bytes();
        }
        let Query { pending, number, spelt, octets, alone, ticket } = query;
        if ticket.set((self.clone(), id)).is_err() {
            return Err(Trouble::new(Kind::Local, "was asked already"));
        }
        state.output.extend_from_slice(&(octets.len() as u16).to_be_bytes());
        state.output.extend_from_slice(octets);
        state.waiting.insert(id, Waiting { pending: pending.clone(), number: *number, spelt: *spelt });
        state.owed.get_or_insert_with(Instant::now);
        state.asked += 1;
        state.alone = *alone;
        state.spent = state.asked >= most;
        drop(state);
        self.news.notify_one();
        Ok(true)
    }

    /// Nobody waits for that query's answer any more. False if nobody did.
    pub fn forget(&self, id: u16, pending: &Arc<Pending>) -> bool {
        let mut state = self.state();
        if state.waiting.get(&id).is_none_or(|waiting| !Arc::ptr_eq(&waiting.pending, pending)) {
            return false;
        }
        state.waiting.remove(&id);
        state.gone += 1;
        // What took long may take longer.
        state.spent |= state.alone;
        if state.waiting.is_empty() {
            drop(state);
            self.news.notify_one();
        }
        true
    }

    /// Connects, and goes on until the connection is closed by either side.
    pub async fn run(&self, pool: &Arc<Pool>) {
        let trouble = match self.talk(pool).await {
            Err(trouble) | Ok(trouble) => trouble,
        };
        let (waiting, answers) = {
            let mut state = self.state();
            state.closed = true;
            (std::mem::take(&mut state.waiting), state.answers)
        };
        let kind = pool.ended(trouble.kind, answers, waiting.len());
        for Waiting { pending, number, .. } in waiting.into_values() {
            pending.post(number, Event::Failed(Trouble { kind, text: trouble.text.clone() }));
        }
    }

    async fn talk(&self, pool: &Arc<Pool>) -> Result<Trouble, Trouble> {
        let silent = |_| Trouble::new(Kind::Network, "does not take up the connection");
        let connecting = connect(&pool.sources, pool.address);
        let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(silent)??;
        if let Ok(local) = stream.local_addr() {
            // It is connected once.
            let _ = self.local.set(local);
        }
        match &pool.tls {
            None => Ok(self.exchange(pool, split(stream)).await),
            Some((tls, name)) => {
                let connecting = TlsConnector::from(tls.config(Alpn::Dot)?).connect(name.clone(), stream);
                let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(silent)?;
                Ok(self.exchange(pool, split(stream.map_err(|error| tls::trouble(&error))?)).await)
            }
        }
    }

    async fn exchange(
        &self,
        pool: &Arc<Pool>,
        (reader, writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    ) -> Trouble {
        self.state().connected = true;
        tokio::select! {
            trouble = self.write(writer) => trouble,
            trouble = self.read(pool, reader) => trouble,
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
                if idle && (state.closed || state.is_done()) {
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

    async fn read(&self, pool: &Arc<Pool>, mut reader: impl AsyncRead + Unpin) -> Trouble {
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
                if !self.arrived(pool, message) {
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
    fn arrived(&self, pool: &Arc<Pool>, message: &[u8]) -> bool {
        let mut state = self.state();
        let id = message.first_chunk().map(|id| u16::from_be_bytes(*id));
        let waiting = id.and_then(|id| state.waiting.remove(&id));
        match (waiting, id) {
            (Some(Waiting { pending, number, spelt }), Some(id)) => {
                let echo = pending.question.echo(message, spelt);
                let event = match pool.case.judge(echo, spelt, &pending.question, true) {
                    Judged::Answer => Event::Answer(message.to_vec()),
                    _ => {
                        pool.counters.strangers.inc();
                        Event::Failed(Trouble::new(Kind::Answer, "answered another question"))
                    }
                };
                state.answers += 1;
                state.alone = false;
                if state.taken.len() >= REMEMBERED {
                    state.taken.pop_front();
                }
                state.taken.push_back(id);
                state.heard();
                let empty = state.waiting.is_empty();
                drop(state);
                pending.post(number, event);
                if empty {
                    self.news.notify_one();
                }
                pool.answered();
                true
            }
            // Some servers, and what stands before them, say things twice.
            (_, Some(id)) if state.taken.contains(&id) => {
                pool.counters.strangers.inc();
                state.copies += 1;
                state.copies < MOST_COPIES
            }
            _ if state.gone > 0 => {
                state.gone -= 1;
                state.heard();
                true
            }
            _ => {
                pool.counters.strangers.inc();
                state.strangers += 1;
                state.strangers < MOST_STRANGERS
            }
        }
    }
}
