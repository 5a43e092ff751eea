//! DoQ: one QUIC connection to each server, kept open, with a stream for each query (RFC 9250).

use super::{
    pending::{Kind, Trouble},
    sources::Sources,
    stream::CONNECT_TIMEOUT,
    tls::{Alpn, EXPIRED, NOT_YET, Tls, UNKNOWN_ISSUER, WRONG_NAME, server_name},
    udp::unreachable,
};
use crate::snapshot::routes::Target;
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, TokioRuntime, TransportConfig,
    VarInt, crypto::rustls::QuicClientConfig,
};
use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError},
};
use tokio::{sync::Mutex, time::timeout};

/// How long a connection is kept that nobody needs, in milliseconds.
const IDLE_TIMEOUT: VarInt = VarInt::from_u32(10_000);
/// The longest answer, and the length in front of it.
const MOST: usize = 2 + u16::MAX as usize;
/// TLS alerts (RFC 8446, 6.2), and what QUIC adds to them (RFC 9001, 4.8).
const CERTIFICATE_EXPIRED: u64 = 0x100 + 45;
const UNKNOWN_CA: u64 = 0x100 + 48;

/// The way to one server.
pub struct Quic {
    target: Target,
    sources: Arc<Sources>,
    tls: Arc<Tls>,
    connection: Mutex<Option<Connection>>,
    /// Our end of the connection.
    local: std::sync::Mutex<Option<SocketAddr>>,
}

impl Quic {
    /// No connection is open yet.
    pub fn new(target: Target, sources: Arc<Sources>, tls: Arc<Tls>) -> Quic {
        Quic { target, sources, tls, connection: Mutex::default(), local: std::sync::Mutex::default() }
    }

    /// Our address and port of the last connection.
    pub fn local(&self) -> Option<SocketAddr> {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a query whose id is 0, if `fresh` by a new connection.
    pub async fn exchange(self: Arc<Self>, query: Vec<u8>, fresh: bool) -> Result<Vec<u8>, Trouble> {
        let connection = self.connection(fresh).await?;
        let (mut to, mut from) = connection.open_bi().await.map_err(|error| trouble(&error))?;
        let closed = || Trouble::new(Kind::Closed, "has closed the connection");
        let message = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
        to.write_all(&message).await.map_err(|_| closed())?;
        to.finish().map_err(|_| closed())?;
        let mut answer = from.read_to_end(MOST).await.map_err(|error| match error {
            quinn::ReadToEndError::TooLong => Trouble::new(Kind::Answer, "sent an answer that is too long"),
            quinn::ReadToEndError::Read(quinn::ReadError::Reset(_)) => {
                Trouble::new(Kind::Answer, "broke off its answer")
            }
            quinn::ReadToEndError::Read(_) => closed(),
        })?;
        match answer.split_first_chunk() {
            Some((length, message)) if usize::from(u16::from_be_bytes(*length)) == message.len() => {
                answer.drain(..2);
                Ok(answer)
            }
            _ => Err(Trouble::new(Kind::Answer, "sent an answer that cannot be read")),
        }
    }

    /// The connection, which is opened if there is none.
    async fn connection(&self, fresh: bool) -> Result<Connection, Trouble> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept
            && connection.close_reason().is_none()
            && !fresh
        {
            return Ok(connection.clone());
        }
        *kept = None;
        let silent = |_| Trouble::new(Kind::Network, "does not take up the connection");
        let connection = timeout(CONNECT_TIMEOUT, self.open()).await.map_err(silent)??;
        Ok(kept.insert(connection).clone())
    }

    async fn open(&self) -> Result<Connection, Trouble> {
        let local = |error: &dyn std::fmt::Display| Trouble::new(Kind::Local, format!("cannot be asked: {error}"));
        let crypto = QuicClientConfig::try_from(self.tls.config(Alpn::Doq)?).map_err(|error| local(&error))?;
        let mut transport = TransportConfig::default();
        transport.max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT)));
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let address = SocketAddr::new(self.target.ip, self.target.port);
        let bind = || self.sources.bind(self.target.ip, socket2::Type::DGRAM);
        // quinn does not report packets that the system refuses to send, so another socket finds out whether there is a route.
        bind()?.connect(&address.into()).map_err(|error| unreachable(&error))?;
        let socket = bind()?;
        let runtime = Arc::new(TokioRuntime);
        // It ends with its connection.
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket.into(), runtime);
        let endpoint = endpoint.map_err(|error| local(&error))?;
        let name = server_name(&self.target)?;
        let connecting = endpoint.connect_with(config, address, &name.to_str());
        let connection = connecting.map_err(|error| local(&error))?.await.map_err(|error| trouble(&error))?;
        let port = endpoint.local_addr().map_or(0, |local| local.port());
        let local = connection.local_ip().map(|ip| SocketAddr::new(ip, port));
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = local;
        Ok(connection)
    }
}

/// What it means that a connection failed.
fn trouble(error: &ConnectionError) -> Trouble {
    match error {
        ConnectionError::TransportError(error) => match u64::from(error.code) {
            CERTIFICATE_EXPIRED if error.reason.contains("not valid yet") => Trouble::new(Kind::Unfit, NOT_YET),
            CERTIFICATE_EXPIRED => Trouble::new(Kind::Unfit, EXPIRED),
            UNKNOWN_CA => Trouble::new(Kind::Unfit, UNKNOWN_ISSUER),
            _ if error.reason.contains("not valid for name") => Trouble::new(Kind::Unfit, WRONG_NAME),
            _ => Trouble::new(Kind::Unfit, format!("fails in QUIC: {error}")),
        },
        ConnectionError::ConnectionClosed(close) => Trouble::new(Kind::Unfit, format!("refuses QUIC: {close}")),
        ConnectionError::VersionMismatch => Trouble::new(Kind::Unfit, "does not speak QUIC version 1"),
        ConnectionError::TimedOut => Trouble::new(Kind::Network, "is silent on the connection"),
        _ => Trouble::new(Kind::Closed, "has closed the connection"),
    }
}
