//! One HTTP request to a service of AWS. Time and memory are bounded.

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Uri,
    body::Bytes,
    client::conn::http1,
    header::{self, HeaderMap, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Time-out for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time-out for a request with its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest response, in octets.
const MAX_RESPONSE_OCTETS: usize = 64 << 20;

/// The server of a service.
pub(super) struct Endpoint {
    host: String,
    port: u16,
    /// The value of `Host`.
    authority: HeaderValue,
    tls: Option<Arc<ClientConfig>>,
}

/// A response.
pub(super) struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Endpoint {
    /// The server of a URL. `tls` is needed for `https`.
    ///
    /// # Errors
    ///
    /// The text is not the URL of a server.
    pub(super) fn new(url: &str, tls: Option<Arc<ClientConfig>>) -> anyhow::Result<Endpoint> {
        let expected = || format!("`{url}`: expected the URL of a server, as in https://ec2.us-east-1.amazonaws.com");
        let uri: Uri = url.parse().with_context(expected)?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => bail!(expected()),
        };
        let authority = uri.authority().with_context(expected)?;
        if !matches!(uri.path(), "" | "/") {
            bail!(expected());
        }
        Ok(Endpoint {
            host: authority.host().trim_matches(['[', ']']).to_string(),
            port: authority.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            authority: authority.as_str().parse().with_context(expected)?,
            tls: tls.filter(|_| is_https),
        })
    }

    /// The value of `Host`, which is signed.
    pub(super) fn authority(&self) -> &HeaderValue {
        &self.authority
    }
}

/// Sends a request, and reads the response.
///
/// # Errors
///
/// The server cannot be reached, does not answer in time, or its response is too large.
pub(super) async fn ask(
    endpoint: &Endpoint,
    method: Method,
    path_and_query: &str,
    mut headers: HeaderMap,
    body: Vec<u8>,
) -> anyhow::Result<Response> {
    headers.insert(header::HOST, endpoint.authority.clone());
    let host = &endpoint.host;
    let mut request = Request::builder().method(method).uri(path_and_query).body(Full::new(Bytes::from(body)))?;
    *request.headers_mut() = headers;
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), endpoint.port))).await;
    let stream = connected.map_err(|_| anyhow!("{host}: the connection timed out"))?;
    let stream = stream.with_context(|| format!("{host} cannot be reached"))?;
    let response = async {
        match &endpoint.tls {
            None => send(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(host.clone())?;
                send(TlsConnector::from(tls.clone()).connect(name, stream).await?, request).await
            }
        }
    };
    let response = timeout(REQUEST_TIMEOUT, response).await;
    response.map_err(|_| anyhow!("{host} does not answer in time"))?.with_context(|| host.to_string())
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The task ends with the response; `send_request` reports its errors.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_string(), text(value))).collect();
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_RESPONSE_OCTETS).collect().await;
    let body = body.map_err(|error| anyhow!("the response cannot be read: {error}"))?.to_bytes();
    Ok(Response { status, headers, body })
}
