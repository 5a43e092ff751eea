//! DoQ: one QUIC connection to each server, current open, with a stream for each query (RFC 9250).

use super::{
    pending::{AttemptError, AttemptErrorKind},
    source_addresses::SourceAddresses,
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

/// The time after which an idle connection is closed, in milliseconds.
const IDLE_TIMEOUT: VarInt = VarInt::from_u32(10_000);
/// The maximum length of a response with the length in front of it, in octets.
const MAX_RESPONSE_OCTETS: usize = 2 + u16::MAX as usize;
/// TLS alerts (RFC 8446, section 6.2) as QUIC error codes (RFC 9001, section 4.8).
const CERTIFICATE_EXPIRED: u64 = 0x100 + 45;
const UNKNOWN_CA: u64 = 0x100 + 48;

/// The connection to one server.
pub struct Quic {
    target: Target,
    sources: Arc<SourceAddresses>,
    tls: Arc<Tls>,
    connection: Mutex<Option<Connection>>,
    /// The local address and port of the last connection.
    local: std::sync::Mutex<Option<SocketAddr>>,
}

impl Quic {
    /// No connection is open yet.
    pub fn new(target: Target, sources: Arc<SourceAddresses>, tls: Arc<Tls>) -> Quic {
        Quic { target, sources, tls, connection: Mutex::default(), local: std::sync::Mutex::default() }
    }

    /// The local address and port of the last connection.
    pub fn local(&self) -> Option<SocketAddr> {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a query whose ID is 0 (RFC 9250, section 4.2.1), on a new connection if
    /// `is_new_connection`, and returns the response.
    pub async fn exchange(self: Arc<Self>, query: Vec<u8>, is_new_connection: bool) -> Result<Vec<u8>, AttemptError> {
        let connection = self.connection(is_new_connection).await?;
        let (mut to, mut from) = connection.open_bi().await.map_err(|error| connection_error(&error))?;
        let closed = || AttemptError::new(AttemptErrorKind::Closed, "closed the connection");
        let message = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
        to.write_all(&message).await.map_err(|_| closed())?;
        to.finish().map_err(|_| closed())?;
        let mut answer = from.read_to_end(MAX_RESPONSE_OCTETS).await.map_err(|error| match error {
            quinn::ReadToEndError::TooLong => {
                AttemptError::new(AttemptErrorKind::BadResponse, "sent an answer that is too long")
            }
            quinn::ReadToEndError::Read(quinn::ReadError::Reset(_)) => {
                AttemptError::new(AttemptErrorKind::BadResponse, "sent an incomplete answer")
            }
            quinn::ReadToEndError::Read(_) => closed(),
        })?;
        match answer.split_first_chunk() {
            Some((length, message)) if usize::from(u16::from_be_bytes(*length)) == message.len() => {
                answer.drain(..2);
                Ok(answer)
            }
            _ => Err(AttemptError::new(AttemptErrorKind::BadResponse, "sent an answer that cannot be read")),
        }
    }

    /// The connection, which is opened if there is none.
    async fn connection(&self, is_new_connection: bool) -> Result<Connection, AttemptError> {
        let mut current = self.connection.lock().await;
        if let Some(connection) = &*current
            && connection.close_reason().is_none()
            && !is_new_connection
        {
            return Ok(connection.clone());
        }
        *current = None;
        let silent = |_| AttemptError::new(AttemptErrorKind::Unreachable, "does not accept the connection");
        let connection = timeout(CONNECT_TIMEOUT, self.open()).await.map_err(silent)??;
        Ok(current.insert(connection).clone())
    }

    async fn open(&self) -> Result<Connection, AttemptError> {
        let local = |error: &dyn std::fmt::Display| {
            AttemptError::new(AttemptErrorKind::Local, format!("cannot be asked: {error}"))
        };
        let crypto = QuicClientConfig::try_from(self.tls.config(Alpn::Doq)?).map_err(|error| local(&error))?;
        let mut transport = TransportConfig::default();
        transport.max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT)));
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let address = SocketAddr::new(self.target.ip, self.target.port);
        let bind = || self.sources.bind(self.target.ip, socket2::Type::DGRAM);
        // quinn does not report packets that the system refuses to send, so another socket finds
        // out whether there is a route.
        bind()?.connect(&address.into()).map_err(|error| unreachable(&error))?;
        let socket = bind()?;
        let runtime = Arc::new(TokioRuntime);
        // The endpoint lives as long as its connection.
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket.into(), runtime);
        let endpoint = endpoint.map_err(|error| local(&error))?;
        let name = server_name(&self.target)?;
        let connecting = endpoint.connect_with(config, address, &name.to_str());
        let connection = connecting.map_err(|error| local(&error))?.await.map_err(|error| connection_error(&error))?;
        let port = endpoint.local_addr().map_or(0, |local| local.port());
        let local = connection.local_ip().map(|ip| SocketAddr::new(ip, port));
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = local;
        Ok(connection)
    }
}

/// The error of an attempt whose connection failed.
fn connection_error(error: &ConnectionError) -> AttemptError {
    match error {
        ConnectionError::TransportError(error) => match u64::from(error.code) {
            CERTIFICATE_EXPIRED if error.reason.contains("not valid yet") => {
                AttemptError::new(AttemptErrorKind::Misconfigured, NOT_YET)
            }
            CERTIFICATE_EXPIRED => AttemptError::new(AttemptErrorKind::Misconfigured, EXPIRED),
            UNKNOWN_CA => AttemptError::new(AttemptErrorKind::Misconfigured, UNKNOWN_ISSUER),
            _ if error.reason.contains("not valid for name") => {
                AttemptError::new(AttemptErrorKind::Misconfigured, WRONG_NAME)
            }
            _ => AttemptError::new(AttemptErrorKind::Misconfigured, format!("fails the QUIC handshake: {error}")),
        },
        ConnectionError::ConnectionClosed(close) => {
            AttemptError::new(AttemptErrorKind::Misconfigured, format!("refuses QUIC: {close}"))
        }
        ConnectionError::VersionMismatch => {
            AttemptError::new(AttemptErrorKind::Misconfigured, "does not speak QUIC version 1")
        }
        ConnectionError::TimedOut => {
            AttemptError::new(AttemptErrorKind::Unreachable, "sends nothing on the connection")
        }
        _ => AttemptError::new(AttemptErrorKind::Closed, "closed the connection"),
    }
}
