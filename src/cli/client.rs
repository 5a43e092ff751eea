//! A client of the admin API of a server that runs.

use super::{AccessArguments, tell};
use crate::{
    config::{self, remedy::unreached},
    manifest::problem::printable,
};
use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header, http::uri::Authority};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
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
    /// Nobody is there.
    Nobody(anyhow::Error),
    /// The server does not know who asks, or does not let them.
    Forbidden(anyhow::Error),
    /// Somebody is there, but cannot do it, or is no server of ours.
    Refused(anyhow::Error),
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> anyhow::Error {
        let (Failure::Nobody(error) | Failure::Forbidden(error) | Failure::Refused(error)) = failure;
        error
    }
}

/// JSON, and its entity tag.
pub type Tagged = (Value, Option<String>);

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

    /// The one that is named, or else that of this node's own configuration.
    pub fn named(text: Option<&str>, admin: &config::Admin) -> anyhow::Result<Server> {
        text.map_or_else(|| Ok(Server::of(admin)), Server::new)
    }

    /// The one of this node's own configuration. If it listens on all addresses, it is asked where it knows who is here.
    pub fn of(admin: &config::Admin) -> Server {
        let ip = match admin.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let authority = SocketAddr::new(ip, admin.address.port()).to_string();
        Server { authority, host: ip.to_string(), tls: None, is_https: admin.tls.is_some(), token: None }
    }

    /// The same, with the token in a file, and for HTTPS with a certificate, and trusting the authorities in a file, or else
    /// the system's.
    pub fn with(self, access: &AccessArguments) -> anyhow::Result<Server> {
        let token = |file: &Path| {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            anyhow::Ok(text.trim().to_string())
        };
        let token = access.token_file.as_deref().map(token).transpose()?;
        let tls = self.is_https.then(|| tls(access)).transpose()?;
        Ok(Server { token, tls, ..self })
    }
}

/// Says what is wrong with what was given.
pub fn wrong(error: &anyhow::Error) -> ExitCode {
    tell(printable(&format!("{error:#}")));
    ExitCode::from(2)
}

/// What has answered like no server of ours.
pub fn stranger(server: &Server) -> Failure {
    Failure::Refused(anyhow!("what listens on {server} is not the admin API of `zonal serve`"))
}

fn tls(access: &AccessArguments) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match &access.certificate_authority {
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
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&access.client_certificate, &access.client_private_key) else {
        return Ok(Arc::new(config.with_no_client_auth()));
    };
    let told = || format!("cannot read the certificate {}", certificate.display());
    let chain: Result<_, _> = CertificateDer::pem_file_iter(certificate).with_context(told)?.collect();
    let of_key = || format!("cannot read the private key {}", key.display());
    let private_key = PrivateKeyDer::from_pem_file(key).with_context(of_key)?;
    let config = config.with_client_auth_cert(chain.with_context(told)?, private_key);
    Ok(Arc::new(config.with_context(|| format!("{} with {}", certificate.display(), key.display()))?))
}

/// Sends one request, and returns the JSON that comes back. Large changes may take their time.
pub fn ask(server: &Server, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    ask_tagged(server, method, path, body).map(|(told, _)| told)
}

/// The same, with the entity tag of what comes back.
pub fn ask_tagged(server: &Server, method: Method, path: &str, body: Option<&Value>) -> Result<Tagged, Failure> {
    let is_large = matches!(path, "/v1/manifest" | "/v1/batch");
    let patience = if is_large { LONG_PATIENCE } else { PATIENCE };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Refused(error.into()))?;
    let (status, (told, tag)) = runtime.block_on(async {
        let help = || format!("no server at {server}: is `zonal serve` running, with this `admin.address`?");
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&server.authority)).await;
        let stream = connected.with_context(help).and_then(|stream| stream.with_context(help));
        let stream = stream.map_err(Failure::Nobody)?;
        match timeout(patience, request(server, stream, method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(anyhow!("the server at {server} does not answer: is that the admin address of `zonal serve`?"))
            }
        }
        .map_err(Failure::Refused)
    })?;
    if status.is_success() {
        return Ok((told, tag));
    }
    let error = anyhow!("the server at {server} says {status}: {}", printable(told["detail"].as_str().unwrap_or("-")));
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Forbidden(error)),
        _ => Err(Failure::Refused(error)),
    }
}

async fn request(
    server: &Server,
    stream: TcpStream,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<(StatusCode, Tagged)> {
    let Some(tls) = &server.tls else { return send(server, stream, method, path, body).await };
    let name = ServerName::try_from(server.host.clone()).with_context(|| format!("{} is no name", server.host))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
    let stream =
        stream.map_err(|error| unreached(&error).map_or_else(|| anyhow::Error::from(error), anyhow::Error::msg));
    let stream = stream.with_context(|| format!("the server at {server} cannot be trusted, or has no HTTPS"))?;
    send(server, stream, method, path, body).await
}

async fn send(
    server: &Server,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<(StatusCode, Tagged)> {
    let no_server = || match server.is_https {
        true => format!("what listens on {server} is not the admin API of `zonal serve`"),
        false => {
            format!("what listens on {server} is not the admin API of `zonal serve`, or has HTTPS: then name its URL")
        }
    };
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
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(String::from);
    let body = response.into_body().collect().await.with_context(no_server)?.to_bytes();
    Ok((status, (serde_json::from_slice(&body).with_context(no_server)?, tag)))
}
