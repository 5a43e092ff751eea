//! DoH: one HTTP/2 connection to each server, kept open.

use super::{
    pending::{AttemptError, AttemptErrorKind},
    source_addresses::SourceAddresses,
    stream::{CONNECT_TIMEOUT, connect},
    tls::{Alpn, Tls, server_name},
};
use crate::snapshot::routes::Target;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http2::{self, SendRequest},
    header::{ACCEPT, CONTENT_TYPE},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// The time after which an idle connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const MEDIA_TYPE: &str = "application/dns-message";

type Sender = SendRequest<Full<Bytes>>;

/// The connection to one server.
pub struct Https {
    target: Target,
    uri: String,
    sources: Arc<SourceAddresses>,
    tls: Arc<Tls>,
    /// The connection, and the time of its last use.
    connection: Mutex<Option<(Sender, Instant)>>,
    /// The local address and port of the last connection.
    local: std::sync::Mutex<Option<SocketAddr>>,
}

impl Https {
    /// No connection is open yet.
    pub fn new(target: Target, sources: Arc<SourceAddresses>, tls: Arc<Tls>) -> Https {
        let host = match (&target.server_name, target.ip) {
            (Some(name), _) => name.trim_end_matches('.').to_owned(),
            (None, IpAddr::V4(ip)) => ip.to_string(),
            (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        let uri = match target.port {
            443 => format!("https://{host}/dns-query"),
            port => format!("https://{host}:{port}/dns-query"),
        };
        Https { target, uri, sources, tls, connection: Mutex::default(), local: std::sync::Mutex::default() }
    }

    /// The local address and port of the last connection.
    pub fn local(&self) -> Option<SocketAddr> {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a query whose ID is 0 (RFC 8484, section 4.1), on a new connection if
    /// `is_new_connection`, and returns the response.
    pub async fn exchange(self: Arc<Self>, query: Vec<u8>, is_new_connection: bool) -> Result<Vec<u8>, AttemptError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .header(ACCEPT, MEDIA_TYPE)
            .body(Full::new(Bytes::from(query)))
            .map_err(|_| {
                AttemptError::new(
                    AttemptErrorKind::Misconfigured,
                    "cannot be asked by HTTP: its name is not a host name",
                )
            })?;
        let mut sender = self.sender(is_new_connection).await?;
        let closed = |_| AttemptError::new(AttemptErrorKind::Closed, "closed the connection");
        sender.ready().await.map_err(closed)?;
        let response = sender.send_request(request).await.map_err(closed)?;
        if response.status() != StatusCode::OK {
            return Err(AttemptError::new(
                AttemptErrorKind::BadResponse,
                format!("answered HTTP status {}", response.status().as_u16()),
            ));
        }
        if response.headers().get(CONTENT_TYPE).is_none_or(|is| is.as_bytes() != MEDIA_TYPE.as_bytes()) {
            return Err(AttemptError::new(AttemptErrorKind::BadResponse, "did not answer with a DNS message"));
        }
        let body = Limited::new(response.into_body(), u16::MAX.into()).collect().await;
        let body = body.map_err(|_| {
            AttemptError::new(AttemptErrorKind::BadResponse, "sent an answer that is incomplete or too long")
        })?;
        Ok(body.to_bytes().into())
    }

    /// The connection, which is opened if there is none.
    async fn sender(&self, is_new_connection: bool) -> Result<Sender, AttemptError> {
        let mut connection = self.connection.lock().await;
        if let Some((sender, used)) = &mut *connection
            && !sender.is_closed()
            && !is_new_connection
        {
            *used = Instant::now();
            return Ok(sender.clone());
        }
        *connection = None;
        let silent = |_| AttemptError::new(AttemptErrorKind::Unreachable, "does not accept the connection");
        let sender = timeout(CONNECT_TIMEOUT, self.open()).await.map_err(silent)??;
        *connection = Some((sender.clone(), Instant::now()));
        Ok(sender)
    }

    async fn open(&self) -> Result<Sender, AttemptError> {
        let address = SocketAddr::new(self.target.ip, self.target.port);
        let stream = connect(&self.sources, address).await?;
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = stream.local_addr().ok();
        let name = server_name(&self.target)?;
        let connector = tokio_rustls::TlsConnector::from(self.tls.config(Alpn::Http2)?);
        let stream = connector.connect(name, stream).await.map_err(|error| super::tls::tls_error(&error))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(AttemptError::new(AttemptErrorKind::Misconfigured, "does not speak HTTP/2"));
        }
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(2))
            .max_header_list_size(16 << 10)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake
            .await
            .map_err(|_| AttemptError::new(AttemptErrorKind::Unreachable, "closes the connection when HTTP begins"))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Closes the connection if it has been idle for [`IDLE_TIMEOUT`].
    pub fn sweep(&self, now: Instant) {
        // A task that holds the lock is about to use the connection.
        if let Ok(mut connection) = self.connection.try_lock() {
            connection.take_if(|(_, used)| now.saturating_duration_since(*used) >= IDLE_TIMEOUT);
        }
    }
}
