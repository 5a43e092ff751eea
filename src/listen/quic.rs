//! DNS over QUIC (RFC 9250), and DNS over HTTP/3.

mod releasable;

use super::{
    bodies::{self, ConnectionBudget},
    connections::{ConnectionGuard, ConnectionState},
    https::{self, BROKEN, MAX_HEADER_OCTETS, MAX_REFUSED_OCTETS, MAX_STREAMS, TOO_LARGE, TOO_SLOW},
    responder::{MAX_MESSAGE_OCTETS, Responder},
    tls,
};
use crate::{
    answer::{Client, Transport},
    transfer::Part,
    wire::query::{HEADER, LookupName, Packet},
};
use anyhow::Context;
use h3::error::Code;
use hyper::{
    body::{Buf, Bytes},
    header::CONTENT_LENGTH,
};
use quinn::{
    Connection, Endpoint, EndpointConfig, Incoming, ReadExactError, RecvStream, SendStream, ServerConfig,
    TransportConfig, VarInt, crypto::rustls::QuicServerConfig,
};
use releasable::ReleasableSocket;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

/// The number of concurrent handshakes above which a client must first prove its address (Retry).
const MAX_UNVALIDATED_HANDSHAKES: usize = 32;
/// The minimum idle time-out of QUIC. A shorter one would close connections that wait for a late answer.
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum octets of a connection that are received and unread, and that are sent and unacknowledged.
const RECEIVE_WINDOW: u32 = 256 << 10;
const SEND_WINDOW: u32 = 256 << 10;
const RECEIVE_BUFFER: usize = 1 << 20;
/// The maximum time for the last HTTP/3 replies, and for the end of a connection, to reach the client.
pub const LINGER: Duration = Duration::from_millis(500);
/// The maximum time that open queries delay a new process that wants to read the packets. A client waits no longer for a reply.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Error codes (RFC 9250, 8.4).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const UNSPECIFIED_ERROR: VarInt = VarInt::from_u32(5);

/// Opens a socket, or takes an inherited one. The port cannot be shared, so that a second server gets an error.
pub fn bind(address: SocketAddr, inherited: Option<Socket>) -> io::Result<UdpSocket> {
    if let Some(socket) = inherited {
        socket.set_nonblocking(true)?;
        return Ok(socket.into());
    }
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The system may allow a smaller buffer only.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Serves the QUIC connections of a listener.
pub struct Quic {
    responder: Arc<Responder>,
    endpoint: Endpoint,
    socket: Arc<ReleasableSocket>,
    /// Every handshake holds a clone.
    handshakes: Arc<()>,
    /// Every connection holds a receiver.
    alive: watch::Sender<()>,
}

impl Quic {
    /// DoQ or DoH over HTTP/3, by the transport of the responder. Call this within a tokio runtime.
    pub fn new(responder: Arc<Responder>, socket: UdpSocket, tls: rustls::ServerConfig) -> anyhow::Result<Arc<Quic>> {
        let crypto = QuicServerConfig::try_from(tls).context("TLS for QUIC")?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        let idle = responder.core.connections.client_timeout.max(MIN_IDLE_TIMEOUT);
        transport
            .max_concurrent_bidi_streams(MAX_STREAMS.into())
            // HTTP/3 has three streams of this kind: control, and two for QPACK.
            .max_concurrent_uni_streams(if responder.transport == Transport::H3 { 8_u32 } else { 0 }.into())
            .stream_receive_window((MAX_MESSAGE_OCTETS as u32 + 1024).into())
            .receive_window(RECEIVE_WINDOW.into())
            .send_window(SEND_WINDOW.into())
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(idle.try_into()?));
        config.transport_config(Arc::new(transport));
        // The source address decides the view of a client. An address that changes later may be forged.
        config.migration(false);
        let (socket, runtime) = (ReleasableSocket::new(socket)?, Arc::new(quinn::TokioRuntime));
        let endpoint =
            Endpoint::new_with_abstract_socket(EndpointConfig::default(), Some(config), socket.clone(), runtime)?;
        let alive = watch::channel(()).0;
        Ok(Arc::new(Quic { responder, endpoint, socket, handshakes: Arc::default(), alive }))
    }

    /// Accepts connections until `stop` is true or its sender is dropped.
    pub async fn accept(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            let incoming = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            if Arc::strong_count(&self.handshakes) > MAX_UNVALIDATED_HANDSHAKES && incoming.may_retry() {
                // The client comes back at once, with a token.
                let _ = incoming.retry();
                continue;
            }
            match self.responder.core.admit(incoming.remote_address().ip().to_canonical(), false) {
                Some(guard) => {
                    let (state, alive) = (guard.state().clone(), self.alive.subscribe());
                    // The handshake counts from now on: many others may arrive before its task runs.
                    let serve = self.clone().serve(incoming, self.handshakes.clone(), guard);
                    tokio::spawn(async move {
                        state.until_displaced(serve).await;
                        drop(alive);
                    });
                }
                None => incoming.refuse(),
            }
        }
        self.endpoint.set_server_config(None);
    }

    /// Waits until all connections are closed.
    pub async fn closed(&self) {
        self.endpoint.wait_idle().await;
    }

    /// Stops to read packets, so that a new process can. Waits for open queries before, but not longer than
    /// [`LAST_ANSWERS_TIMEOUT`].
    pub async fn release(&self) {
        let _ = timeout(LAST_ANSWERS_TIMEOUT, self.alive.closed()).await;
        self.endpoint.close(NO_ERROR, b"");
        let _ = timeout(LINGER, self.closed()).await;
        self.socket.release();
    }

    async fn serve(self: Arc<Self>, incoming: Incoming, handshake: Arc<()>, mut guard: ConnectionGuard) {
        let local = incoming.local_ip().or_else(|| self.endpoint.local_addr().ok().map(|local| local.ip()));
        let connected = async { incoming.accept().ok()?.await.ok() };
        let connected = tokio::select! {
            connected = timeout(self.responder.core.connections.client_timeout, connected) => connected.ok().flatten(),
            () = guard.draining() => return,
        };
        drop(handshake);
        let (Some(connection), Some(local)) = (connected, local) else { return tls::count_failure(&self.responder) };
        let (source, port) = (connection.remote_address().ip().to_canonical(), connection.remote_address().port());
        let client = Client { source, port, local: local.to_canonical(), transport: self.responder.transport };
        match client.transport {
            Transport::H3 => serve_http3(&self.responder, connection, client, guard).await,
            _ => serve_doq(&self.responder, connection, client, guard).await,
        }
    }
}

/// Serves a DoQ connection until it ends. Each stream is a query.
async fn serve_doq(responder: &Arc<Responder>, connection: Connection, client: Client, mut guard: ConnectionGuard) {
    let client_timeout = responder.core.connections.client_timeout;
    let budget = Arc::new(ConnectionBudget::default());
    let mut streams = JoinSet::new();
    let mut deadline = Instant::now() + client_timeout;
    let mut last = false;
    while !last || !streams.is_empty() {
        tokio::select! {
            biased;
            () = guard.draining(), if !last => last = true,
            Some(ended) = streams.join_next() => {
                if let Ok(Err(code)) = ended {
                    return connection.close(code, b"");
                }
                guard.state().touch();
                deadline = Instant::now() + client_timeout;
            }
            accepted = connection.accept_bi(), if !last => match accepted {
                Ok((send, recv)) => {
                    guard.state().touch();
                    let state = guard.state().clone();
                    streams.spawn(answer_stream(responder.clone(), state, budget.clone(), client, send, recv));
                }
                Err(_) => return,
            },
            () = sleep_until(deadline), if streams.is_empty() => {
                responder.core.timed_out("idle");
                last = true;
            }
        }
    }
    connection.close(NO_ERROR, b"");
}

/// Answers the query of a stream. The error is the code to close the connection with (RFC 9250, 4.3.3).
async fn answer_stream(
    responder: Arc<Responder>,
    state: Arc<ConnectionState>,
    budget: Arc<ConnectionBudget>,
    client: Client,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), VarInt> {
    let client_timeout = responder.core.connections.client_timeout;
    // The octets of the message count in the budgets until it is answered.
    let mut reservation = None;
    let message = async {
        let mut message = vec![0; 2];
        recv.read_exact(&mut message).await?;
        let length = message.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
        reservation = budget.reserve(&responder.body_budget, Some(length)).await;
        message.resize(2 + length, 0);
        recv.read_exact(&mut message[2..]).await?;
        // The message is the only one on its stream.
        let rest = recv.read(&mut [0; 1]).await?;
        Ok::<_, ReadExactError>(rest.is_none().then_some(message))
    };
    let message = match timeout(client_timeout, message).await {
        Ok(Ok(Some(message))) => message,
        Ok(Ok(None) | Err(ReadExactError::FinishedEarly(_))) => return Err(PROTOCOL_ERROR),
        // The client has cancelled the query.
        Ok(Err(ReadExactError::ReadError(_))) => return Ok(()),
        Err(_) => {
            responder.core.timed_out("incomplete");
            let _ = send.reset(UNSPECIFIED_ERROR);
            return Ok(());
        }
    };
    let query = query(&message).ok_or(PROTOCOL_ERROR)?;
    let responded = responder.respond(&state, client, query).await;
    drop((message, reservation));
    // The reply counts as unread until it has arrived.
    let (Part { mut reply, mut rest, .. }, _unread) = responded.unwrap_or_else(|| (Part::whole(Vec::new()), None));
    if reply.is_empty() {
        let _ = send.reset(UNSPECIFIED_ERROR);
        return Ok(());
    }
    // A transfer has many messages. Each has the full time-out.
    while let Some(outgoing) = rest {
        let written = timeout(client_timeout, write(&mut send, &reply)).await;
        let (Ok(Some(())), Some(next)) = (written, outgoing.next()) else {
            let _ = send.reset(UNSPECIFIED_ERROR);
            return Ok(());
        };
        (reply, rest) = next;
    }
    let delivered = async {
        write(&mut send, &reply).await?;
        send.finish().ok()?;
        // Waits until the reply has arrived, because a connection that closes drops data that is on its way.
        send.stopped().await.ok()
    };
    if timeout(client_timeout, delivered).await.is_err() {
        responder.core.timed_out("unread");
        // Without a reset, the rest would stay in memory.
        let _ = send.reset(UNSPECIFIED_ERROR);
    }
    Ok(())
}

/// Writes a message with its length in front.
async fn write(send: &mut SendStream, message: &[u8]) -> Option<()> {
    send.write_all(&(message.len() as u16).to_be_bytes()).await.ok()?;
    send.write_all(message).await.ok()
}

/// The query in the octets of a stream. None if they break the rules of RFC 9250 (4.2, 4.2.1 and 5.5.2): one message with its
/// length, an ID of 0, and no option that is only for TCP.
fn query(message: &[u8]) -> Option<&[u8]> {
    let (length, query) = message.split_first_chunk()?;
    if query.len() != usize::from(u16::from_be_bytes(*length)) || query.len() < HEADER || query[..2] != [0, 0] {
        return None;
    }
    match Packet::read(query, &mut LookupName::root()) {
        Packet::Query(read) if read.edns.is_some_and(|edns| edns.keepalive) => None,
        _ => Some(query),
    }
}

type Http3 = h3::server::Connection<h3_quinn::Connection, Bytes>;
type Request = h3::server::RequestResolver<h3_quinn::Connection, Bytes>;

/// Serves an HTTP/3 connection until it ends.
async fn serve_http3(responder: &Arc<Responder>, connection: Connection, client: Client, mut guard: ConnectionGuard) {
    let client_timeout = responder.core.connections.client_timeout;
    let mut builder = h3::server::builder();
    builder.max_field_section_size(MAX_HEADER_OCTETS as u64);
    let connection = h3_quinn::Connection::new(connection);
    let Ok(Ok(mut connection)): Result<Result<Http3, _>, _> = timeout(client_timeout, builder.build(connection)).await
    else {
        return;
    };
    let budget = Arc::new(ConnectionBudget::default());
    let mut streams = JoinSet::new();
    let mut deadline = Instant::now() + client_timeout;
    let mut last = false;
    while !last || !streams.is_empty() {
        tokio::select! {
            biased;
            () = guard.draining(), if !last => last = true,
            Some(_) = streams.join_next() => {
                guard.state().touch();
                deadline = Instant::now() + client_timeout;
            }
            accepted = connection.accept(), if !last => match accepted {
                Ok(Some(request)) => {
                    guard.state().touch();
                    let state = guard.state().clone();
                    streams.spawn(answer_request(responder.clone(), state, budget.clone(), client, request));
                }
                _ => return,
            },
            () = sleep_until(deadline), if streams.is_empty() => {
                responder.core.timed_out("idle");
                last = true;
            }
        }
    }
    // GOAWAY tells the client, which closes the connection when it has all replies.
    if timeout(LINGER, connection.shutdown(0)).await.is_ok() {
        let _ = timeout(LINGER, async { while let Ok(Some(_)) = connection.accept().await {} }).await;
    }
}

/// Answers a request. None if the request or the connection fails.
async fn answer_request(
    responder: Arc<Responder>,
    state: Arc<ConnectionState>,
    budget: Arc<ConnectionBudget>,
    client: Client,
    request: Request,
) -> Option<()> {
    let client_timeout = responder.core.connections.client_timeout;
    let Ok(request) = timeout(client_timeout, request.resolve_request()).await else {
        responder.core.timed_out("incomplete");
        return None;
    };
    let (request, mut stream) = request.ok()?;
    let (parts, ()) = request.into_parts();
    let length = match parts.headers.get(CONTENT_LENGTH).map(|length| length.to_str().ok()?.parse::<usize>().ok()) {
        Some(None) => {
            stream.stop_stream(Code::H3_MESSAGE_ERROR);
            return None;
        }
        length => length.flatten(),
    };
    let mut reservation = None;
    let body = async {
        let mut body = Vec::new();
        let read = async {
            reservation = budget.reserve(&responder.body_budget, length).await;
            while let Some(mut data) = stream.recv_data().await.map_err(|_| BROKEN)? {
                if body.len() + data.remaining() > MAX_MESSAGE_OCTETS {
                    return Err(TOO_LARGE);
                }
                if length.is_some_and(|length| body.len() + data.remaining() > length) {
                    return Err(BROKEN);
                }
                while data.has_remaining() {
                    body.extend_from_slice(data.chunk());
                    data.advance(data.chunk().len());
                }
            }
            bodies::release_small(&mut reservation, &body);
            // A body of another length than announced is malformed (RFC 9114, 4.1.2).
            if length.is_none_or(|length| body.len() == length) { Ok(()) } else { Err(BROKEN) }
        };
        match timeout(client_timeout, read).await {
            Ok(read) => read.map(|()| body.into()),
            Err(_) => {
                responder.core.timed_out("incomplete");
                Err(TOO_SLOW)
            }
        }
    };
    let response = https::respond(&responder, &state, client, &[], &parts, body).await;
    drop(reservation);
    if https::is_body_sent(&response, &parts.headers) {
        let discard = async {
            let mut octets = 0;
            while octets < MAX_REFUSED_OCTETS
                && let Ok(Some(data)) = stream.recv_data().await
            {
                octets += data.remaining();
            }
        };
        let _ = timeout(client_timeout, discard).await;
    }
    let (parts, body) = response.into_parts();
    let delivered = async {
        stream.send_response(hyper::Response::from_parts(parts, ())).await.ok()?;
        stream.send_data(body).await.ok()?;
        stream.finish().await.ok()
    };
    let delivered = timeout(client_timeout, delivered).await;
    if delivered.is_err() {
        responder.core.timed_out("unread");
        stream.stop_stream(Code::H3_REQUEST_CANCELLED);
    }
    delivered.ok().flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn refuses_messages_that_break_the_rules_of_doq() {
        let query = b"\0\0\x01\0\0\x01\0\0\0\0\0\x01\x07example\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0b\0\0";
        let framed = |length: usize, query: &[u8]| [&(length as u16).to_be_bytes()[..], query].concat();
        let mut without_keepalive = query.to_vec();
        *without_keepalive.iter_mut().rev().nth(2).unwrap() = 12;
        let right = framed(query.len(), &without_keepalive);
        assert_eq!(super::query(&right), Some(&right[2..]));
        let mut with_id = right.clone();
        with_id[3] = 1;
        for wrong in [
            framed(query.len(), query),
            with_id,
            framed(query.len() - 1, &without_keepalive),
            framed(query.len() + 1, &without_keepalive),
            framed(4, b"\0\0\x01\0"),
            b"\0".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(super::query(&wrong), None, "{wrong:?}");
        }
    }
}
