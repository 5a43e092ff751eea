//! A client of the admin API of a running server.

use super::{AccessArguments, ServerArguments, print_error, report};
use crate::{
    config::{self, Config, remedy::explain_unreachable},
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

/// The time-out of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The time-out of a request that reads or changes the whole manifest.
const LARGE_REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// The time-out of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The reason why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// No server listens on the address.
    NoServer(anyhow::Error),
    /// The server rejected the credentials (401 or 403).
    Forbidden(anyhow::Error),
    /// The server failed or refused the request, or the address belongs to another program.
    Refused(anyhow::Error),
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> anyhow::Error {
        let (Failure::NoServer(error) | Failure::Forbidden(error) | Failure::Refused(error)) = failure;
        error
    }
}

/// A JSON body and its entity tag.
pub type Tagged = (Value, Option<String>);

/// A server's admin address, and the credentials for it.
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
    /// Parses `host:port` or a URL.
    pub fn new(text: &str) -> anyhow::Result<Server> {
        let (is_https, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => bail!("unknown scheme `{scheme}://`: expected host:port, http://… or https://…"),
        };
        let authority = rest.trim_end_matches('/');
        let parsed: Option<Authority> = authority.parse().ok();
        let Some(parsed) = parsed.filter(|parsed| parsed.port_u16().is_some()) else {
            bail!("`{text}`: expected host:port, as in 127.0.0.1:9153");
        };
        let host = parsed.host().trim_matches(['[', ']']).to_string();
        Ok(Server { authority: authority.into(), host, tls: None, is_https, token: None })
    }

    /// The server at the given address, or else at the configuration's admin address.
    pub fn named(text: Option<&str>, admin: &config::Admin) -> anyhow::Result<Server> {
        text.map_or_else(|| Ok(Server::of(admin)), Server::new)
    }

    /// The server at the configuration's admin address; on loopback if that is an unspecified address.
    pub fn of(admin: &config::Admin) -> Server {
        let ip = match admin.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let authority = SocketAddr::new(ip, admin.address.port()).to_string();
        Server { authority, host: ip.to_string(), tls: None, is_https: admin.tls.is_some(), token: None }
    }

    /// Reads the credentials: the token and, for HTTPS, the client certificate and the authorities [default: the system's].
    pub fn with(self, access: &AccessArguments) -> anyhow::Result<Server> {
        let token = |file: &Path| {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("token {}: cannot be read", file.display()))?;
            anyhow::Ok(text.trim().to_string())
        };
        let token = access.token_file.as_deref().map(token).transpose()?;
        let tls = self.is_https.then(|| tls(access)).transpose()?;
        Ok(Server { token, tls, ..self })
    }
}

/// Finds the server that a command asks, and the configuration that names this server. If the arguments name the server, the
/// configuration is the default one.
///
/// # Errors
///
/// The exit status. The error is printed.
pub(super) fn find(arguments: &ServerArguments) -> Result<(Server, Config), ExitCode> {
    let config = match &arguments.admin {
        Some(_) => Config::default(),
        None => Config::load(arguments.config.config.as_deref()).map_err(|problems| {
            report::print_problems(problems);
            ExitCode::FAILURE
        })?,
    };
    let server = Server::named(arguments.admin.as_deref(), &config.admin);
    match server.and_then(|server| server.with(&arguments.access)) {
        Ok(server) => Ok((server, config)),
        Err(error) => Err(usage_error(&error)),
    }
}

/// Reports wrong usage: exit status 2.
pub fn usage_error(error: &anyhow::Error) -> ExitCode {
    print_error(printable(&format!("{error:#}")));
    ExitCode::from(2)
}

/// The failure for an answer that is not zonal's.
pub fn not_the_admin_api(server: &Server) -> Failure {
    Failure::Refused(anyhow!("what listens on {server} is not the admin API of `zonal serve`"))
}

/// The TLS configuration for the credentials, and the authorities [default: the system's].
///
/// # Errors
///
/// A file cannot be read.
pub fn tls(access: &AccessArguments) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match &access.certificate_authority {
        Some(file) => {
            let unreadable = || format!("certificate authority {}: cannot be read", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(unreadable)? {
                roots.add(certificate.with_context(unreadable)?).with_context(unreadable)?;
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
    let unreadable = || format!("client certificate {}: cannot be read", certificate.display());
    let chain: Result<_, _> = CertificateDer::pem_file_iter(certificate).with_context(unreadable)?.collect();
    let unreadable_key = || format!("client private key {}: cannot be read", key.display());
    let private_key = PrivateKeyDer::from_pem_file(key).with_context(unreadable_key)?;
    let config = config.with_client_auth_cert(chain.with_context(unreadable)?, private_key);
    Ok(Arc::new(config.with_context(|| format!("{} with {}", certificate.display(), key.display()))?))
}

/// Sends one request, and returns the JSON body of the response.
pub fn ask(server: &Server, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
    ask_tagged(server, method, path, body).map(|(body, _)| body)
}

/// Sends one request, and returns the JSON body of the response with its entity tag.
pub fn ask_tagged(server: &Server, method: Method, path: &str, body: Option<&Value>) -> Result<Tagged, Failure> {
    let is_large = matches!(path, "/v1/manifest" | "/v1/batch");
    let request_timeout = if is_large { LARGE_REQUEST_TIMEOUT } else { REQUEST_TIMEOUT };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Refused(error.into()))?;
    let (status, (response, tag)) = runtime.block_on(async {
        let help = || format!("no server at {server}: is `zonal serve` running, with this `admin.address`?");
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&server.authority)).await;
        let stream = connected.with_context(help).and_then(|stream| stream.with_context(help));
        let stream = stream.map_err(Failure::NoServer)?;
        match timeout(request_timeout, request(server, stream, method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(anyhow!("the server at {server} does not answer: is that the admin address of `zonal serve`?"))
            }
        }
        .map_err(Failure::Refused)
    })?;
    if status.is_success() {
        return Ok((response, tag));
    }
    let error =
        anyhow!("the server at {server} says {status}: {}", printable(response["detail"].as_str().unwrap_or("-")));
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
    let name = ServerName::try_from(server.host.clone())
        .with_context(|| format!("{} is not a valid server name", server.host))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
    let stream = stream
        .map_err(|error| explain_unreachable(&error).map_or_else(|| anyhow::Error::from(error), anyhow::Error::msg));
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
            format!(
                "what listens on {server} is not the admin API of `zonal serve`, or has HTTPS: for HTTPS, give the URL https://{server}"
            )
        }
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(no_server)?;
    // The task ends with the response; `send_request` reports its errors.
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
