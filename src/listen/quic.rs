//! DNS over QUIC (RFC 9250), and DNS over HTTP/3.

mod socket;

use super::{
    bodies::{self, Room},
    connections::{Held, Place},
    https::{self, BROKEN, HEADER_SIZE, MOST_STREAMS, REFUSED_OCTETS, TOO_LARGE, TOO_SLOW},
    responder::{MESSAGE_SIZE, Responder},
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
use socket::Leavable;
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

/// With so many handshakes on their way, a client has to show first that its address is its own.
const MOST_UNPROVEN: usize = 32;
/// The least that QUIC itself takes for idle: less than this would cut off a client that waits for a late answer.
const LEAST_IDLE: Duration = Duration::from_secs(10);
/// How much of what a client sends is kept before it is read, and of what it does not take, in octets.
const RECEIVE_WINDOW: u32 = 256 << 10;
const SEND_WINDOW: u32 = 256 << 10;
const RECEIVE_BUFFER: usize = 1 << 20;
/// How long the last answers of HTTP/3, and the end of a connection, may take to arrive.
pub const LINGER: Duration = Duration::from_millis(500);
/// How long what was asked may hold up another process that is to read the packets: a client waits no longer for an answer.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Error codes (RFC 9250, 8.4).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const UNSPECIFIED_ERROR: VarInt = VarInt::from_u32(5);

/// Opens a socket, of which there is one for an address: a second server is told. It may be inherited from another process.
pub fn bind(address: SocketAddr, inherited: Option<Socket>) -> io::Result<UdpSocket> {
    if let Some(socket) = inherited {
        socket.set_nonblocking(true)?;
        return Ok(socket.into());
    }
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // More than the system allows is no reason to fail.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Serves the QUIC connections of a listener.
pub struct Quic {
    responder: Arc<Responder>,
    endpoint: Endpoint,
    socket: Arc<Leavable>,
    /// Every handshake holds one more.
    handshakes: Arc<()>,
    /// Every connection holds a receiver.
    alive: watch::Sender<()>,
}

impl Quic {
    /// DoQ or DoH over HTTP/3, as the responder's transport says. To be called within a runtime.
    pub fn new(responder: Arc<Responder>, socket: UdpSocket, tls: rustls::ServerConfig) -> anyhow::Result<Arc<Quic>> {
        let crypto = QuicServerConfig::try_from(tls).context("TLS for QUIC")?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        let idle = responder.core.connections.patience.max(LEAST_IDLE);
        transport
            .max_concurrent_bidi_streams(MOST_STREAMS.into())
            // HTTP/3 has three: control, and two for QPACK.
            .max_concurrent_uni_streams(if responder.transport == Transport::H3 { 8_u32 } else { 0 }.into())
            .stream_receive_window((MESSAGE_SIZE as u32 + 1024).into())
            .receive_window(RECEIVE_WINDOW.into())
            .send_window(SEND_WINDOW.into())
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(idle.try_into()?));
        config.transport_config(Arc::new(transport));
        // The address decides what a client may see: one that changes meanwhile could be a forgery.
        config.migration(false);
        let (socket, runtime) = (Leavable::new(socket)?, Arc::new(quinn::TokioRuntime));
        let endpoint =
            Endpoint::new_with_abstract_socket(EndpointConfig::default(), Some(config), socket.clone(), runtime)?;
        let alive = watch::channel(()).0;
        Ok(Arc::new(Quic { responder, endpoint, socket, handshakes: Arc::default(), alive }))
    }

    /// Accepts connections until `stop` is true, or the sender is gone.
    pub async fn accept(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            let incoming = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            if Arc::strong_count(&self.handshakes) > MOST_UNPROVEN && incoming.may_retry() {
                // It comes back at once, with a token.
                let _ = incoming.retry();
                continue;
            }
            match self.responder.core.admit(incoming.remote_address().ip().to_canonical(), false) {
                Some(place) => {
                    let (held, alive) = (place.held().clone(), self.alive.subscribe());
                    // It is counted now, and not when its task has its first turn: many may come before that.
                    let serve = self.clone().serve(incoming, self.handshakes.clone(), place);
                    tokio::spawn(async move {
                        held.until_displaced(serve).await;
                        drop(alive);
                    });
                }
                None => incoming.refuse(),
            }
        }
        self.endpoint.set_server_config(None);
    }

    /// Waits until the last connections have said that they are closed.
    pub async fn closed(&self) {
        self.endpoint.wait_idle().await;
    }

    /// Reads nothing any more from when this returns, so that another process can. What was asked is answered before, if that
    /// does not take too long.
    pub async fn leave(&self) {
        let _ = timeout(LAST_ANSWERS, self.alive.closed()).await;
        self.endpoint.close(NO_ERROR, b"");
        let _ = timeout(LINGER, self.closed()).await;
        self.socket.leave();
    }

    async fn serve(self: Arc<Self>, incoming: Incoming, handshake: Arc<()>, mut place: Place) {
        let local = incoming.local_ip().or_else(|| self.endpoint.local_addr().ok().map(|local| local.ip()));
        let connected = async { incoming.accept().ok()?.await.ok() };
        let connected = tokio::select! {
            connected = timeout(self.responder.core.connections.patience, connected) => connected.ok().flatten(),
            () = place.left() => return,
        };
        drop(handshake);
        let (Some(connection), Some(local)) = (connected, local) else { return tls::failed(&self.responder) };
        let (source, port) = (connection.remote_address().ip().to_canonical(), connection.remote_address().port());
        let client = Client { source, port, local: local.to_canonical(), transport: self.responder.transport };
        match client.transport {
            Transport::H3 => http3(&self.responder, connection, client, place).await,
            _ => doq(&self.responder, connection, client, place).await,
        }
    }
}

/// Serves a connection of DoQ to its end: a stream is a query.
async fn doq(responder: &Arc<Responder>, connection: Connection, client: Client, mut place: Place) {
    let patience = responder.core.connections.patience;
    let room = Arc::new(Room::default());
    let mut streams = JoinSet::new();
    let mut deadline = Instant::now() + patience;
    let mut last = false;
    while !last || !streams.is_empty() {
        tokio::select! {
            biased;
            () = place.left(), if !last => last = true,
            Some(ended) = streams.join_next() => {
                if let Ok(Err(code)) = ended {
                    return connection.close(code, b"");
                }
                place.held().is_active();
                deadline = Instant::now() + patience;
            }
            accepted = connection.accept_bi(), if !last => match accepted {
                Ok((send, recv)) => {
                    place.held().is_active();
                    let held = place.held().clone();
                    streams.spawn(exchange(responder.clone(), held, room.clone(), client, send, recv));
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

/// Answers the query of a stream. An error is one for which the connection has to be closed (RFC 9250, 4.3.3).
async fn exchange(
    responder: Arc<Responder>,
    connection: Arc<Held>,
    room: Arc<Room>,
    client: Client,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), VarInt> {
    let patience = responder.core.connections.patience;
    // What it takes is given back when it is answered.
    let mut held = None;
    let message = async {
        let mut message = vec![0; 2];
        recv.read_exact(&mut message).await?;
        let length = message.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
        held = room.take(&responder.hall, Some(length)).await;
        message.resize(2 + length, 0);
        recv.read_exact(&mut message[2..]).await?;
        // Nothing comes behind it.
        let rest = recv.read(&mut [0; 1]).await?;
        Ok::<_, ReadExactError>(rest.is_none().then_some(message))
    };
    let message = match timeout(patience, message).await {
        Ok(Ok(Some(message))) => message,
        Ok(Ok(None) | Err(ReadExactError::FinishedEarly(_))) => return Err(PROTOCOL_ERROR),
        // The client has lost interest.
        Ok(Err(ReadExactError::ReadError(_))) => return Ok(()),
        Err(_) => {
            responder.core.timed_out("incomplete");
            let _ = send.reset(UNSPECIFIED_ERROR);
            return Ok(());
        }
    };
    let query = query(&message).ok_or(PROTOCOL_ERROR)?;
    let responded = responder.respond(&connection, client, query).await;
    drop((message, held));
    // It counts as unread until it has arrived.
    let (Part { mut reply, mut rest, .. }, _unread) = responded.unwrap_or_else(|| (Part::whole(Vec::new()), None));
    if reply.is_empty() {
        let _ = send.reset(UNSPECIFIED_ERROR);
        return Ok(());
    }
    // A transfer has many messages, each with its time.
    while let Some(outgoing) = rest {
        let written = timeout(patience, write(&mut send, &reply)).await;
        let (Ok(Some(())), Some(next)) = (written, outgoing.next()) else {
            let _ = send.reset(UNSPECIFIED_ERROR);
            return Ok(());
        };
        (reply, rest) = next;
    }
    let delivered = async {
        write(&mut send, &reply).await?;
        send.finish().ok()?;
        // Until it has arrived: a connection that closes takes with it what is on its way.
        send.stopped().await.ok()
    };
    if timeout(patience, delivered).await.is_err() {
        responder.core.timed_out("unread");
        // Else the rest would stay in memory.
        let _ = send.reset(UNSPECIFIED_ERROR);
    }
    Ok(())
}

/// Writes a message with its length in front.
async fn write(send: &mut SendStream, message: &[u8]) -> Option<()> {
    send.write_all(&(message.len() as u16).to_be_bytes()).await.ok()?;
    send.write_all(message).await.ok()
}

/// The query in what a stream has brought, if that is right: one message with its length, an ID of 0, and no option that
/// is for TCP (RFC 9250, 4.2, 4.2.1 and 5.5.2).
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

/// Serves a connection of HTTP/3 to its end.
async fn http3(responder: &Arc<Responder>, connection: Connection, client: Client, mut place: Place) {
    let patience = responder.core.connections.patience;
    let mut builder = h3::server::builder();
    builder.max_field_section_size(HEADER_SIZE as u64);
    let connection = h3_quinn::Connection::new(connection);
    let Ok(Ok(mut connection)): Result<Result<Http3, _>, _> = timeout(patience, builder.build(connection)).await else {
        return;
    };
    let room = Arc::new(Room::default());
    let mut streams = JoinSet::new();
    let mut deadline = Instant::now() + patience;
    let mut last = false;
    while !last || !streams.is_empty() {
        tokio::select! {
            biased;
            () = place.left(), if !last => last = true,
            Some(_) = streams.join_next() => {
                place.held().is_active();
                deadline = Instant::now() + patience;
            }
            accepted = connection.accept(), if !last => match accepted {
                Ok(Some(request)) => {
                    place.held().is_active();
                    let held = place.held().clone();
                    streams.spawn(answer(responder.clone(), held, room.clone(), client, request));
                }
                _ => return,
            },
            () = sleep_until(deadline), if streams.is_empty() => {
                responder.core.timed_out("idle");
                last = true;
            }
        }
    }
    // The client is told, and closes the connection when it has all answers.
    if timeout(LINGER, connection.shutdown(0)).await.is_ok() {
        let _ = timeout(LINGER, async { while let Ok(Some(_)) = connection.accept().await {} }).await;
    }
}

/// Answers a request. One that fails is its client's concern.
async fn answer(
    responder: Arc<Responder>,
    connection: Arc<Held>,
    room: Arc<Room>,
    client: Client,
    request: Request,
) -> Option<()> {
    let patience = responder.core.connections.patience;
    let Ok(request) = timeout(patience, request.resolve_request()).await else {
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
    let mut held = None;
    let body = async {
        let mut body = Vec::new();
        let read = async {
            held = room.take(&responder.hall, length).await;
            while let Some(mut data) = stream.recv_data().await.map_err(|_| BROKEN)? {
                if body.len() + data.remaining() > MESSAGE_SIZE {
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
            bodies::give_back(&mut held, &body);
            // Of another length than it says it is malformed (RFC 9114, 4.1.2).
            if length.is_none_or(|length| body.len() == length) { Ok(()) } else { Err(BROKEN) }
        };
        match timeout(patience, read).await {
            Ok(read) => read.map(|()| body.into()),
            Err(_) => {
                responder.core.timed_out("incomplete");
                Err(TOO_SLOW)
            }
        }
    };
    let response = https::respond(&responder, &connection, client, &[], &parts, body).await;
    drop(held);
    if https::is_body_sent(&response, &parts.headers) {
        let discard = async {
            let mut octets = 0;
            while octets < REFUSED_OCTETS
                && let Ok(Some(data)) = stream.recv_data().await
            {
                octets += data.remaining();
            }
        };
        let _ = timeout(patience, discard).await;
    }
    let (parts, body) = response.into_parts();
    let delivered = async {
        stream.send_response(hyper::Response::from_parts(parts, ())).await.ok()?;
        stream.send_data(body).await.ok()?;
        stream.finish().await.ok()
    };
    let delivered = timeout(patience, delivered).await;
    if delivered.is_err() {
        responder.core.timed_out("unread");
        stream.stop_stream(Code::H3_REQUEST_CANCELLED);
    }
    delivered.ok().flatten()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_query_is_checked() {
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
