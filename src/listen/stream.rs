//! Do53 over TCP, and over TLS: pipelined queries, answers in the order in which they are known, and bounds on all that a
//! client may hold.

use super::{
    connections::{Held, Phase, Place},
    https, proxy,
    responder::{MESSAGE_SIZE, Reply, Responder},
    tls,
    unread::Unread,
};
use crate::{
    answer::{Client, Transport},
    transfer::Part,
    wire::{self, proxy::Header},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinSet, yield_now},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;

/// The longest message with the length in front of it.
const FRAME_SIZE: usize = 2 + MESSAGE_SIZE;
/// Answers are sent when there are this many octets of them, and before the next read.
const OUTPUT_SIZE: usize = 1 << 16;
/// What a read asks for.
const READ_SIZE: usize = 4096;
/// How many queries of a connection may wait for others. With as many it is not read on.
const MOST_LATE: usize = 128;
const BACKLOG: i32 = 1024;
/// The TLS records of DoH that are sent together have so many octets.
const RECORDS_SIZE: usize = 4096;
/// How much of a connection the kernel keeps that it has not sent yet, in octets: what the client has room for is not bounded.
const MAX_UNSENT: u32 = 64 << 10;
/// How long a closing connection is read on, so that the last answers are not lost in a reset.
const LINGER: Duration = Duration::from_millis(500);

/// Opens a listening socket. Unlike UDP's, its port cannot be shared, so that a second server is told; but it can be
/// inherited from another process.
pub fn bind(address: SocketAddr, inherited: Option<Socket>) -> io::Result<std::net::TcpListener> {
    if let Some(socket) = inherited {
        socket.set_nonblocking(true)?;
        let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT);
        return Ok(socket.into());
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections inherit it. More memory than without it is no reason to fail.
    let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT);
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// After so long without a query a connection ends that another process cannot take over.
pub const LAST_IDLE: Duration = Duration::from_millis(500);

/// Serves the TCP connections of a listener.
pub struct Streams {
    responder: Arc<Responder>,
    tls: Option<TlsAcceptor>,
    /// Announces HTTP/3 to clients of DoH (RFC 7838).
    alternative: Option<https::Alternative>,
}

impl Streams {
    /// Do53 over TCP.
    pub fn plain(responder: Arc<Responder>) -> Arc<Streams> {
        Arc::new(Streams { responder, tls: None, alternative: None })
    }

    /// DoT, or DoH over HTTP/1.1 and HTTP/2, with HTTP/3 on a port if there is one.
    pub fn encrypted(responder: Arc<Responder>, tls: TlsAcceptor, h3_port: Option<u16>) -> Arc<Streams> {
        Arc::new(Streams { responder, tls: Some(tls), alternative: h3_port.and_then(https::alternative) })
    }

    /// Accepts connections until `stop` is true, or the sender is gone.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    let Ok(local) = stream.local_addr() else { continue };
                    let (source, port) = (peer.ip().to_canonical(), peer.port());
                    let local = local.ip().to_canonical();
                    let client = Client { source, port, local, transport: self.responder.transport };
                    let core = &self.responder.core;
                    if let Some(place) = core.admit(source, proxy::is_due(core, &client)) {
                        let held = place.held().clone();
                        tokio::spawn(held.until_displaced(self.clone().serve(stream, client, place)));
                    }
                }
                Err(error) if is_of_one_connection(&error) => self.responder.core.arrived("failed"),
                Err(error) => {
                    self.responder.core.arrived("failed");
                    if !failing {
                        tracing::warn!("TCP connections cannot be accepted: {error}");
                    }
                    failing = true;
                    // The connection stays in the queue: without a pause this would spin.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream, client: Client, mut place: Place) {
        // An answer that is ready goes at once.
        let _ = stream.set_nodelay(true);
        let responder = self.responder.clone();
        let header = proxy::read_header(&responder.core, &client, &mut stream);
        let header = tokio::select! {
            header = timeout(responder.core.connections.patience, header) => header,
            () = place.stopped() => return,
        };
        let header = match header {
            Ok(Ok(header)) => header,
            Ok(Err(_)) => return,
            Err(_) => return responder.core.timed_out("incomplete"),
        };
        if let Ok((Header::Proxied { source, .. }, _)) = wire::proxy::read(&header)
            && !place.is_of(source)
        {
            return;
        }
        let Some(acceptor) = &self.tls else {
            return Connection::new(responder, stream, client, header, &place).run(place).await;
        };
        match client.transport {
            Transport::Https => {
                // The records of several responses go out together.
                let stream = BufWriter::with_capacity(RECORDS_SIZE, stream);
                let Some(stream) = tls::handshake(&responder, acceptor, stream, &mut place).await else { return };
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                https::serve(responder, stream, is_h2, client, header, self.alternative.clone(), place).await;
            }
            _ => {
                let Some(stream) = tls::handshake(&responder, acceptor, stream, &mut place).await else { return };
                Connection::new(responder, stream, client, header, &place).run(place).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted)
}

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client has closed its side, or is gone.
    Closed,
    /// It is for us to close: the server stops, or the client sent a message without octets.
    Close,
    /// The client took too long.
    TimedOut(&'static str),
}

struct Connection<S> {
    responder: Arc<Responder>,
    stream: S,
    client: Client,
    /// The PROXY header, if one is due.
    header: Arc<[u8]>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Queries that wait for others, and their replies.
    late: JoinSet<Option<Reply>>,
    /// What the other connections see of it.
    held: Arc<Held>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(responder: Arc<Responder>, stream: S, client: Client, header: Arc<[u8]>, place: &Place) -> Connection<S> {
        let (input, output) = (Vec::new(), Vec::new());
        let held = place.held().clone();
        Connection { responder, stream, client, header, input, output, late: JoinSet::new(), held }
    }

    async fn run(mut self, mut place: Place) {
        let end = self.serve(&mut place).await;
        match end {
            End::TimedOut(reason) => {
                self.responder.core.timed_out(reason);
                // Without a word to the end of it, a client by TLS has to take it for an attack.
                let _ = timeout(LINGER, self.stream.shutdown()).await;
            }
            End::Closed => {}
            End::Close => {
                // Octets that nobody reads would make the kernel reset the connection, and the answers be lost.
                let mut rest = [0; 512];
                let drain = async {
                    let _ = self.stream.shutdown().await;
                    while matches!(self.stream.read(&mut rest).await, Ok(1..)) {}
                };
                let _ = timeout(LINGER, drain).await;
            }
        }
    }

    async fn serve(&mut self, place: &mut Place) -> End {
        let patience = self.responder.core.connections.patience;
        // When the connection is cut off: counted from the last answer, or the first octet of an incomplete message.
        let mut deadline = Instant::now() + patience;
        // Why nothing more is read. What was read is answered first.
        let mut last = None;
        let mut phase = Phase::Open;
        loop {
            if self.late.is_empty()
                && let Some(end) = last
            {
                return end;
            }
            let had = self.input.len();
            if had == 0 {
                // Idle connections cost next to nothing.
                self.input = Vec::new();
                self.output = Vec::new();
            }
            let reads = last.is_none() && self.late.len() < MOST_LATE;
            if reads {
                self.input.reserve(READ_SIZE.min(FRAME_SIZE.saturating_sub(had)));
            }
            tokio::select! {
                biased;
                next = place.later(phase), if last.is_none() => {
                    phase = next;
                    match phase {
                        Phase::Stopped => last = Some(End::Close),
                        _ => deadline = deadline.min(Instant::now() + LAST_IDLE),
                    }
                    continue;
                }
                Some(reply) = self.late.join_next() => {
                    self.take_late(reply.ok().flatten());
                    place.held().is_active();
                    deadline = Instant::now() + if phase == Phase::Open { patience } else { LAST_IDLE };
                }
                read = self.stream.read_buf(&mut self.input), if reads => match read {
                    Ok(1..) => {}
                    Ok(0) => {
                        last = Some(End::Closed);
                        continue;
                    }
                    // Many clients by TLS go without a word, too.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        last = Some(End::Closed);
                        continue;
                    }
                    Err(_) => return End::Closed,
                },
                () = sleep_until(deadline), if reads && (had > 0 || self.late.is_empty()) => {
                    if phase != Phase::Open && had == 0 {
                        return End::Close;
                    }
                    return End::TimedOut(if had == 0 { "idle" } else { "incomplete" });
                }
            }
            match self.answer_all(patience).await {
                Ok(0) if had > 0 => {}
                Ok(_) => {
                    place.held().is_active();
                    deadline = Instant::now() + if phase == Phase::Open { patience } else { LAST_IDLE };
                }
                Err(End::Close) => last = Some(End::Close),
                Err(end) => return end,
            }
            // One who sends without end takes turns with all others.
            yield_now().await;
        }
    }

    /// Takes a late reply, and all others that are there.
    fn take_late(&mut self, first: Option<Reply>) {
        let mut next = Some(first);
        while let Some(reply) = next {
            let (Part { reply, rest, .. }, _unread) = reply.unwrap_or_else(|| (Part::whole(Vec::new()), None));
            append(&mut self.output, &reply);
            if let Some(outgoing) = rest {
                // It is made while the one before is sent.
                self.late.spawn(async move {
                    let (reply, rest) = outgoing.next().unwrap_or_default();
                    Some((Part { answered: None, reply, rest }, None))
                });
            }
            let has_room = self.output.len() < OUTPUT_SIZE;
            next = if has_room { self.late.try_join_next().map(|reply| reply.ok().flatten()) } else { None };
        }
    }

    /// Answers all complete messages, as far as not too many wait for others, and sends the answers. Returns how many
    /// messages there were.
    async fn answer_all(&mut self, patience: Duration) -> Result<usize, End> {
        let (mut start, mut answered) = (0, 0);
        let mut end = Ok(());
        while self.late.len() < MOST_LATE
            && let Some((length, rest)) = self.input[start..].split_first_chunk()
        {
            let length = usize::from(u16::from_be_bytes(*length));
            if length == 0 {
                end = Err(End::Close);
                start = self.input.len();
                break;
            }
            let Some(query) = rest.get(..length) else { break };
            let query = &*proxy::in_front(&self.header, query);
            let at = self.output.len();
            self.output.extend_from_slice(&[0; 2]);
            if let Some(late) = self.responder.answer(&self.client, query, &mut self.output, |_| true) {
                let (responder, held) = (self.responder.clone(), self.held.clone());
                self.late.spawn(responder.answer_late(held, self.client, query.into(), late));
            }
            frame(&mut self.output, at);
            start += 2 + length;
            answered += 1;
            if self.output.len() >= OUTPUT_SIZE {
                self.send(patience).await?;
            }
        }
        self.input.drain(..start);
        self.send(patience).await?;
        end.map(|()| answered)
    }

    async fn send(&mut self, patience: Duration) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let _unread = Unread::count(&self.responder.core, &self.held, self.output.len());
        let write = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        match timeout(patience, write).await {
            Ok(Ok(())) => {
                self.output.clear();
                Ok(())
            }
            Ok(Err(_)) => Err(End::Closed),
            Err(_) => Err(End::TimedOut("unread")),
        }
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        // Others may wait for what this client has asked for.
        self.late.detach_all();
    }
}

/// Puts the length of the reply that follows at `at`, where there is room for it; without a reply, that goes.
fn frame(output: &mut Vec<u8>, at: usize) {
    match output.len() - at - 2 {
        0 => output.truncate(at),
        length => output[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes()),
    }
}

/// Adds a reply with its length in front, if there is one.
fn append(output: &mut Vec<u8>, reply: &[u8]) {
    let at = output.len();
    output.extend_from_slice(&[0; 2]);
    output.extend_from_slice(reply);
    frame(output, at);
}

#[cfg(test)]
mod tests;
