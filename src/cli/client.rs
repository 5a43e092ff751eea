//! A client of the admin API of a server that runs.

use crate::{config, manifest::problem::printable};
use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header, http::uri::Authority};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to make a large change, or to tell all that there is.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No server of ours answers there.
    Nobody(anyhow::Error),
    /// The server says that it cannot be done.
    Refused(anyhow::Error),
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> anyhow::Error {
        let (Failure::Nobody(error) | Failure::Refused(error)) = failure;
        error
    }
}

/// A server, by its admin address.
#[derive(Clone)]
pub struct Server {
    /// Host and port.
    authority: String,
    host: String,
    tls: Option<Arc<ClientConfig>>,
    is_https: bool,
    token: Option<String>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Server {
        let (authority, host) = (address.to_string(), address.ip().to_string());
        Server { authority, host, tls: None, is_https: false, token: None }
    }
}

impl Server {
    /// From `host:port`, or a URL.
    pub fn new(text: &str) -> anyhow::Result<Server> {
        let (is_https, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => bail!("`{scheme}://` is not known here: expected host:port, http://… or https://…"),
        };
        let authority = rest.trim_end_matches('/');
        let parsed: Option<Authority> = authority.parse().ok();
        let Some(parsed) = parsed.filter(|parsed| parsed.port_u16().is_some()) else {
            bail!("`{text}`: expected host:port, as in 127.0.0.1:9153");
        };
        let host = parsed.host().trim_matches(['[', ']']).to_string();
        Ok(Server { authority: authority.into(), host, tls: None, is_https, token: None })
    }

    /// The one of this node's own configuration.
    pub fn of(admin: &config::Admin) -> Server {
        Server { is_https: admin.tls.is_some(), ..admin.address.into() }
    }

    /// The same, with the token in a file, and for HTTPS trusting the authorities in another one, or else the system's.
    pub fn with(self, token_file: Option<&Path>, authority: Option<&Path>) -> anyhow::Result<Server> {
        let token = |file: &Path| {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            anyhow::Ok(text.trim().to_string())
        };
        let token = token_file.map(token).transpose()?;
        let tls = self.is_https.then(|| trusting(authority)).transpose()?;
        Ok(Server { token, tls, ..self })
    }
}

/// TLS that trusts these authorities.
fn trusting(authority: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(file) => {
            let told = || format!("cannot read the authority {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(told)? {
                roots.add(certificate.with_context(told)?).with_context(told)?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Sends one request, and returns the JSON that comes back.
pub fn ask(address: SocketAddr, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    asked(&address.into(), method, path, body, PATIENCE)
}

/// The same of a server that may want a token, and takes its time for large changes.
pub fn ask_server(server: &Server, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    let patience = if path == "/v1/status" { PATIENCE } else { LONG_PATIENCE };
    asked(server, method, path, body, patience)
}

fn asked(
    server: &Server,
    method: Method,
    path: &str,
    body: Option<&Value>,
    patience: Duration,
) -> Result<Value, Failure> {
    let asked = || -> anyhow::Result<(hyper::StatusCode, Value)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let Ok(answer) = timeout(patience, request(server, method, path, body)).await else {
                bail!("the server at {server} does not answer: is that the admin address of `zonal serve`?");
            };
            answer
        })
    };
    let (status, told) = asked().map_err(Failure::Nobody)?;
    match (status.is_success(), told["detail"].as_str()) {
        (true, _) => Ok(told),
        (false, error) => {
            let error = printable(error.unwrap_or("-"));
            Err(Failure::Refused(anyhow::anyhow!("the server at {server} says {status}: {error}")))
        }
    }
}

async fn request(
    server: &Server,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<(hyper::StatusCode, Value)> {
    let help = || format!("no server at {server}: is `zonal serve` running? `--config` or `--admin` say where");
    let connected = TcpStream::connect(&server.authority);
    let stream = timeout(CONNECT_TIMEOUT, connected).await.with_context(help)?.with_context(help)?;
    let Some(tls) = &server.tls else { return send(server, stream, method, path, body).await };
    let name = ServerName::try_from(server.host.clone()).with_context(|| format!("{} is no name", server.host))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
    let stream = stream.with_context(|| format!("the server at {server} cannot be trusted, or has no HTTPS"))?;
    send(server, stream, method, path, body).await
}

async fn send(
    server: &Server,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<(hyper::StatusCode, Value)> {
    let no_server = || format!("what listens on {server} is not the admin API of `zonal serve`");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(no_server)?;
    // It ends with the answer, or shows in it why there is none.
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, &server.authority);
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(token) = &server.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = Full::new(Bytes::from(body.map_or(String::new(), Value::to_string)));
    let response = sender.send_request(request.body(body)?).await.with_context(no_server)?;
    let status = response.status();
    let body = response.into_body().collect().await.with_context(no_server)?.to_bytes();
    Ok((status, serde_json::from_slice(&body).with_context(no_server)?))
}
