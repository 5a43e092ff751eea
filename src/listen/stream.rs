//! Do53 over TCP, and DNS over TLS: pipelined queries, replies in the order in which they are ready, and bounds on the memory of
//! each client.

use super::{
    connections::{ConnectionGuard, ConnectionState, Phase},
    https, proxy,
    responder::{MAX_MESSAGE_OCTETS, Reply, Responder},
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

/// The maximum octets of a message with its length in front.
const MAX_FRAME_OCTETS: usize = 2 + MAX_MESSAGE_OCTETS;
/// Replies are sent when they have this many octets, and before the next read.
const OUTPUT_SIZE: usize = 1 << 16;
/// The octets that one read asks for.
const READ_SIZE: usize = 4096;
/// The maximum number of waiting queries of a connection. zonal reads no further queries while there are as many.
const MAX_WAITING: usize = 128;
const BACKLOG: i32 = 1024;
/// The octets of DoH TLS records that are sent together.
const RECORDS_SIZE: usize = 4096;
/// The maximum octets of a connection that the kernel buffers unsent. Sent octets are bounded by the window of the client.
const MAX_UNSENT: u32 = 64 << 10;
/// The maximum time that zonal reads from a closing connection, so that a reset does not destroy the last replies.
const LINGER: Duration = Duration::from_millis(500);

/// Opens a listening socket, or takes an inherited one. Unlike with UDP, the port cannot be shared, so that a second server
/// gets an error.
pub fn bind(address: SocketAddr, inherited: Option<Socket>) -> io::Result<std::net::TcpListener> {
    if let Some(socket) = inherited {
        socket.set_nonblocking(true)?;
        let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT);
        return Ok(socket.into());
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections inherit the option. It only saves memory, so that a failure is ignored.
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

/// The idle time after which a connection ends during a takeover.
pub const DRAIN_IDLE: Duration = Duration::from_millis(500);

/// Serves the TCP connections of a listener.
pub struct Streams {
    responder: Arc<Responder>,
    tls: Option<TlsAcceptor>,
    /// The announcement of HTTP/3 to clients of DoH (RFC 7838).
    alternative: Option<https::Alternative>,
}

impl Streams {
    /// Do53 over TCP.
    pub fn plain(responder: Arc<Responder>) -> Arc<Streams> {
        Arc::new(Streams { responder, tls: None, alternative: None })
    }

    /// DoT, or DoH over HTTP/1.1 and HTTP/2. `h3_port` is the port of HTTP/3, if it is served.
    pub fn encrypted(responder: Arc<Responder>, tls: TlsAcceptor, h3_port: Option<u16>) -> Arc<Streams> {
        Arc::new(Streams { responder, tls: Some(tls), alternative: h3_port.and_then(https::alternative) })
    }

    /// Accepts connections until `stop` is true or its sender is dropped.
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
                    if let Some(guard) = core.admit(source, proxy::is_expected(core, &client)) {
                        let state = guard.state().clone();
                        tokio::spawn(state.until_displaced(self.clone().serve(stream, client, guard)));
                    }
                }
                Err(error) if is_of_one_connection(&error) => self.responder.core.arrived("failed"),
                Err(error) => {
                    self.responder.core.arrived("failed");
                    if !failing {
                        tracing::warn!(%error, "TCP connections not accepted");
                    }
                    failing = true;
                    // The connection stays in the queue: without a pause this would spin.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream, client: Client, mut guard: ConnectionGuard) {
        // A reply is sent as soon as it is ready.
        let _ = stream.set_nodelay(true);
        let responder = self.responder.clone();
        let header = proxy::read_header(&responder.core, &client, &mut stream);
        let header = tokio::select! {
            header = timeout(responder.core.connections.client_timeout, header) => header,
            () = guard.stopped() => return,
        };
        let header = match header {
            Ok(Ok(header)) => header,
            Ok(Err(_)) => return,
            Err(_) => return responder.core.timed_out("incomplete"),
        };
        if let Ok((Header::Proxied { source, .. }, _)) = wire::proxy::read(&header)
            && !guard.assign_to(source)
        {
            return;
        }
        let Some(acceptor) = &self.tls else {
            return Connection::new(responder, stream, client, header, &guard).run(guard).await;
        };
        match client.transport {
            Transport::Https => {
                // The records of several responses go out together.
                let stream = BufWriter::with_capacity(RECORDS_SIZE, stream);
                let Some(stream) = tls::handshake(&responder, acceptor, stream, &mut guard).await else { return };
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                https::serve(responder, stream, is_h2, client, header, self.alternative.clone(), guard).await;
            }
            _ => {
                let Some(stream) = tls::handshake(&responder, acceptor, stream, &mut guard).await else { return };
                Connection::new(responder, stream, client, header, &guard).run(guard).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted)
}

/// The reason why a connection ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client has closed its side, or the connection is broken.
    Closed,
    /// zonal closes the connection: the server stops, or the client sent a message of length 0.
    Close,
    /// The client took too long.
    TimedOut(&'static str),
}

struct Connection<S> {
    responder: Arc<Responder>,
    stream: S,
    client: Client,
    /// The PROXY header; empty if there is none.
    header: Arc<[u8]>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The waiting queries, which become replies.
    waiting: JoinSet<Option<Reply>>,
    /// The part of the connection that other connections see.
    state: Arc<ConnectionState>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(
        responder: Arc<Responder>,
        stream: S,
        client: Client,
        header: Arc<[u8]>,
        guard: &ConnectionGuard,
    ) -> Connection<S> {
        let (input, output) = (Vec::new(), Vec::new());
        let state = guard.state().clone();
        Connection { responder, stream, client, header, input, output, waiting: JoinSet::new(), state }
    }

    async fn run(mut self, mut guard: ConnectionGuard) {
        let end = self.serve(&mut guard).await;
        match end {
            End::TimedOut(reason) => {
                self.responder.core.timed_out(reason);
                // A TLS client takes an end without close_notify for an attack.
                let _ = timeout(LINGER, self.stream.shutdown()).await;
            }
            End::Closed => {}
            End::Close => {
                // With unread octets, the kernel would reset the connection, and the client would lose replies.
                let mut rest = [0; 512];
                let drain = async {
                    let _ = self.stream.shutdown().await;
                    while matches!(self.stream.read(&mut rest).await, Ok(1..)) {}
                };
                let _ = timeout(LINGER, drain).await;
            }
        }
    }

    async fn serve(&mut self, guard: &mut ConnectionGuard) -> End {
        let client_timeout = self.responder.core.connections.client_timeout;
        // The time-out counts from the last reply, or from the first octet of an incomplete message.
        let mut deadline = Instant::now() + client_timeout;
        // The reason to stop reading. Queries that were read are answered first.
        let mut last = None;
        let mut phase = Phase::Open;
        loop {
            if self.waiting.is_empty()
                && let Some(end) = last
            {
                return end;
            }
            let had = self.input.len();
            if had == 0 {
                // An idle connection has no buffers.
                self.input = Vec::new();
                self.output = Vec::new();
            }
            let reads = last.is_none() && self.waiting.len() < MAX_WAITING;
            if reads {
                self.input.reserve(READ_SIZE.min(MAX_FRAME_OCTETS.saturating_sub(had)));
            }
            tokio::select! {
                biased;
                next = guard.next_phase(phase), if last.is_none() => {
                    phase = next;
                    match phase {
                        Phase::Stopped => last = Some(End::Close),
                        _ => deadline = deadline.min(Instant::now() + DRAIN_IDLE),
                    }
                    continue;
                }
                Some(reply) = self.waiting.join_next() => {
                    self.take_reply(reply.ok().flatten());
                    guard.state().touch();
                    deadline = Instant::now() + if phase == Phase::Open { client_timeout } else { DRAIN_IDLE };
                }
                read = self.stream.read_buf(&mut self.input), if reads => match read {
                    Ok(1..) => {}
                    Ok(0) => {
                        last = Some(End::Closed);
                        continue;
                    }
                    // Many TLS clients close the connection without close_notify.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        last = Some(End::Closed);
                        continue;
                    }
                    Err(_) => return End::Closed,
                },
                () = sleep_until(deadline), if reads && (had > 0 || self.waiting.is_empty()) => {
                    if phase != Phase::Open && had == 0 {
                        return End::Close;
                    }
                    return End::TimedOut(if had == 0 { "idle" } else { "incomplete" });
                }
            }
            match self.answer_all(client_timeout).await {
                Ok(0) if had > 0 => {}
                Ok(_) => {
                    guard.state().touch();
                    deadline = Instant::now() + if phase == Phase::Open { client_timeout } else { DRAIN_IDLE };
                }
                Err(End::Close) => last = Some(End::Close),
                Err(end) => return end,
            }
            // A client that sends without end must not delay others.
            yield_now().await;
        }
    }

    /// Takes the reply of a waiting query, and all others that are ready.
    fn take_reply(&mut self, first: Option<Reply>) {
        let mut next = Some(first);
        while let Some(reply) = next {
            let (Part { reply, rest, .. }, _unread) = reply.unwrap_or_else(|| (Part::whole(Vec::new()), None));
            append(&mut self.output, &reply);
            if let Some(outgoing) = rest {
                // The next message is made while this one is sent.
                self.waiting.spawn(async move {
                    let (reply, rest) = outgoing.next().unwrap_or_default();
                    Some((Part { answered: None, reply, rest }, None))
                });
            }
            let has_room = self.output.len() < OUTPUT_SIZE;
            next = if has_room { self.waiting.try_join_next().map(|reply| reply.ok().flatten()) } else { None };
        }
    }

    /// Answers all complete messages, until too many queries wait, and sends the replies. Returns the number of messages.
    async fn answer_all(&mut self, client_timeout: Duration) -> Result<usize, End> {
        let (mut start, mut answered) = (0, 0);
        let mut end = Ok(());
        while self.waiting.len() < MAX_WAITING
            && let Some((length, rest)) = self.input[start..].split_first_chunk()
        {
            let length = usize::from(u16::from_be_bytes(*length));
            if length == 0 {
                end = Err(End::Close);
                start = self.input.len();
                break;
            }
            let Some(query) = rest.get(..length) else { break };
            let query = &*proxy::prepend(&self.header, query);
            let at = self.output.len();
            self.output.extend_from_slice(&[0; 2]);
            if let Some(pending) = self.responder.answer(&self.client, query, &mut self.output, |_| true) {
                let (responder, state) = (self.responder.clone(), self.state.clone());
                self.waiting.spawn(responder.answer_pending(state, self.client, query.into(), pending));
            }
            frame(&mut self.output, at);
            start += 2 + length;
            answered += 1;
            if self.output.len() >= OUTPUT_SIZE {
                self.send(client_timeout).await?;
            }
        }
        self.input.drain(..start);
        self.send(client_timeout).await?;
        end.map(|()| answered)
    }

    async fn send(&mut self, client_timeout: Duration) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let _unread = Unread::count(&self.responder.core, &self.state, self.output.len());
        let write = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        match timeout(client_timeout, write).await {
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
        // The queries go on: other clients may wait for the same answers.
        self.waiting.detach_all();
    }
}

/// Writes the length of the reply after `at` into the two octets at `at`. Removes the two octets if there is no reply.
fn frame(output: &mut Vec<u8>, at: usize) {
    match output.len() - at - 2 {
        0 => output.truncate(at),
        length => output[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes()),
    }
}

/// Appends a reply with its length in front. Appends nothing for an empty reply.
fn append(output: &mut Vec<u8>, reply: &[u8]) {
    let at = output.len();
    output.extend_from_slice(&[0; 2]);
    output.extend_from_slice(reply);
    frame(output, at);
}

#[cfg(test)]
mod tests;
