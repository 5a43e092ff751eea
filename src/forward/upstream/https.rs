//! DoH: one HTTP/2 connection to each server, kept open.

use super::{
    pending::{Kind, Trouble},
    sources::Sources,
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

/// How long a connection is kept that nobody needs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const MEDIA_TYPE: &str = "application/dns-message";

type Sender = SendRequest<Full<Bytes>>;

/// The way to one server.
pub struct Https {
    target: Target,
    uri: String,
    sources: Arc<Sources>,
    tls: Arc<Tls>,
    /// The connection, and when it was used last.
    connection: Mutex<Option<(Sender, Instant)>>,
    /// Our end of the connection.
    local: std::sync::Mutex<Option<SocketAddr>>,
}

impl Https {
    /// No connection is open yet.
    pub fn new(target: Target, sources: Arc<Sources>, tls: Arc<Tls>) -> Https {
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

    /// Our address and port of the last connection.
    pub fn local(&self) -> Option<SocketAddr> {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a query whose id is 0 (RFC 8484, 4.1), if `fresh` by a new connection.
    pub async fn exchange(self: Arc<Self>, query: Vec<u8>, fresh: bool) -> Result<Vec<u8>, Trouble> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .header(ACCEPT, MEDIA_TYPE)
            .body(Full::new(Bytes::from(query)))
            .map_err(|_| Trouble::new(Kind::Unfit, "cannot be asked by HTTP: its name is not one of a host"))?;
        let mut sender = self.sender(fresh).await?;
        let closed = |_| Trouble::new(Kind::Closed, "has closed the connection");
        sender.ready().await.map_err(closed)?;
        let response = sender.send_request(request).await.map_err(closed)?;
        if response.status() != StatusCode::OK {
            return Err(Trouble::new(Kind::Answer, format!("answered HTTP status {}", response.status().as_u16())));
        }
        if response.headers().get(CONTENT_TYPE).is_none_or(|is| is.as_bytes() != MEDIA_TYPE.as_bytes()) {
            return Err(Trouble::new(Kind::Answer, "answered something else than a DNS message"));
        }
        let body = Limited::new(response.into_body(), u16::MAX.into()).collect().await;
        let body = body.map_err(|_| Trouble::new(Kind::Answer, "did not finish its answer, or made it too long"))?;
        Ok(body.to_bytes().into())
    }

    /// The connection, which is opened if there is none.
    async fn sender(&self, fresh: bool) -> Result<Sender, Trouble> {
        let mut connection = self.connection.lock().await;
        if let Some((sender, used)) = &mut *connection
            && !sender.is_closed()
            && !fresh
        {
            *used = Instant::now();
            return Ok(sender.clone());
        }
        *connection = None;
        let silent = |_| Trouble::new(Kind::Network, "does not take up the connection");
        let sender = timeout(CONNECT_TIMEOUT, self.open()).await.map_err(silent)??;
        *connection = Some((sender.clone(), Instant::now()));
        Ok(sender)
    }

    async fn open(&self) -> Result<Sender, Trouble> {
        let address = SocketAddr::new(self.target.ip, self.target.port);
        let stream = connect(&self.sources, address).await?;
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = stream.local_addr().ok();
        let name = server_name(&self.target)?;
        let connector = tokio_rustls::TlsConnector::from(self.tls.config(Alpn::Http2)?);
        let stream = connector.connect(name, stream).await.map_err(|error| super::tls::trouble(&error))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(Trouble::new(Kind::Unfit, "does not speak HTTP/2"));
        }
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(2))
            .max_header_list_size(16 << 10)
            .handshake(TokioIo::new(stream));
        let (sender, connection) =
            handshake.await.map_err(|_| Trouble::new(Kind::Network, "closes the connection when HTTP begins"))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Closes the connection if it has been idle for long.
    pub fn sweep(&self, now: Instant) {
        // Whoever holds the lock is about to use it.
        if let Ok(mut connection) = self.connection.try_lock() {
            connection.take_if(|(_, used)| now.saturating_duration_since(*used) >= IDLE_TIMEOUT);
        }
    }
}
