//! One attempt at a target: a connection, and for HTTP and HTTPS a request.
//!
//! Time and memory of an attempt are bounded. A target that is silent, sends one octet per second,
//! or sends without end costs no more than any other.

use crate::{
    forward::upstream::tls::not_after,
    manifest::ProbeType,
    snapshot::health::{Probe, ProbeQuestion},
};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    borrow::Cow,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

/// Time-out for the status of a response after the connection. The same time-out applies again to
/// the part of the body that is searched.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of the part of the body that is searched, in octets.
const MAX_SEARCHED_OCTETS: usize = 5120;
/// Maximum size of the response header, in octets. Beyond it, the attempt fails.
const MAX_HEADER_OCTETS: usize = 16 << 10;

/// Result of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether the target passed the check.
    pub is_success: bool,
    /// Answer of the target, or the reason for the failure.
    pub result: Cow<'static, str>,
    /// Whether the attempt ended with a time-out.
    pub is_slow: bool,
    /// Time at which the target's certificate expires, in seconds since 1970. `None` without a verified certificate.
    pub certificate_expiry: Option<i64>,
}

impl Outcome {
    /// Creates the outcome of an attempt that the target passed.
    pub fn success(result: impl Into<Cow<'static, str>>) -> Outcome {
        Outcome { is_success: true, result: result.into(), is_slow: false, certificate_expiry: None }
    }

    /// Creates the outcome of a failed attempt that did not time out.
    pub fn failure(result: impl Into<Cow<'static, str>>) -> Outcome {
        Outcome { is_success: false, result: result.into(), is_slow: false, certificate_expiry: None }
    }

    /// Creates the outcome of an attempt whose part `what` took longer than `limit`.
    pub fn timed_out(what: &str, limit: Duration) -> Outcome {
        let result = format!("{what}: time-out after {} s", limit.as_secs_f32()).into();
        Outcome { is_success: false, result, is_slow: true, certificate_expiry: None }
    }
}

/// TLS client configurations for HTTPS targets.
pub struct Tls {
    /// Requires a valid certificate.
    verifying: Arc<ClientConfig>,
    /// Accepts any certificate, as Route 53 does.
    accepting: Arc<ClientConfig>,
}

impl Tls {
    /// Creates the configurations. `roots` verifies certificates if a check asks for it.
    ///
    /// # Errors
    /// rustls does not accept the protocol versions or the provider.
    pub fn new(roots: RootCertStore) -> Result<Tls, Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = || ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let verifying = builder()?.with_root_certificates(roots).with_no_client_auth();
        let any = Arc::new(AnyCertificate(provider.clone()));
        let accepting = builder()?.dangerous().with_custom_certificate_verifier(any).with_no_client_auth();
        Ok(Tls { verifying: verifying.into(), accepting: accepting.into() })
    }
}

/// TLS configurations that are created for the first HTTPS target. Reading the system's certificate
/// authorities takes time, and many nodes have no HTTPS target.
#[derive(Default)]
pub struct LazyTls {
    /// PEM file of certificate authorities, in addition to those of the system.
    pub authorities: Option<std::path::PathBuf>,
    made: OnceLock<Result<Tls, String>>,
}

impl LazyTls {
    /// Sets the file of certificate authorities. Reads nothing yet.
    pub fn new(authorities: Option<std::path::PathBuf>) -> LazyTls {
        LazyTls { authorities, made: OnceLock::new() }
    }

    fn get(&self) -> Result<&Tls, &str> {
        let make = || {
            let roots = crate::forward::upstream::tls::roots(self.authorities.as_deref())?;
            Tls::new(roots).map_err(|error| error.to_string())
        };
        self.made.get_or_init(make).as_ref().map_err(|error| &**error)
    }
}

/// Accepts any certificate, but verifies that the target has its private key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Makes one attempt at a target.
///
/// The connection leaves from the first address in `sources` that this node has, or else from any
/// address. The attempt takes no longer than the interval between two attempts.
pub async fn attempt(probe: &Probe, address: IpAddr, sources: &[IpAddr], tls: &LazyTls) -> Outcome {
    let (begin, limit) = (Instant::now(), probe.timeout.min(probe.interval));
    let stream = match timeout(limit, connect(SocketAddr::new(address, probe.question.port), sources)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return failed(&error),
        Err(_) => return Outcome::timed_out("connect", limit),
    };
    close_with_reset(&SockRef::from(&stream));
    if probe.question.probe_type == ProbeType::Tcp {
        return Outcome::success("connected");
    }
    // An attempt by TCP needs no memory for the rest.
    match timeout_at(begin + probe.interval, Box::pin(ask(probe, address, stream, tls))).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::timed_out("the attempt", probe.interval),
    }
}

/// Sends a request over a connection, and judges the response.
async fn ask(probe: &Probe, address: IpAddr, stream: TcpStream, tls: &LazyTls) -> Outcome {
    let question = &probe.question;
    if question.probe_type != ProbeType::Https {
        return request(question, address, stream).await;
    }
    let tls = match tls.get() {
        Ok(tls) => tls,
        Err(error) => return Outcome::failure(format!("TLS: {error}")),
    };
    let config = if question.verify_certificate { &tls.verifying } else { &tls.accepting };
    let name = question
        .name
        .as_ref()
        .and_then(|name| ServerName::try_from(name.to_string().trim_end_matches('.').to_string()).ok());
    let name = name.unwrap_or_else(|| ServerName::from(address));
    let connector = TlsConnector::from(config.clone());
    match timeout(probe.timeout, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => {
            let chain = stream.get_ref().1.peer_certificates().filter(|_| question.verify_certificate);
            let certificate_expiry = chain.and_then(|chain| not_after(chain.first()?));
            Outcome { certificate_expiry, ..request(question, address, stream).await }
        }
        Ok(Err(error)) => Outcome::failure(format!("TLS: {error}")),
        Err(_) => Outcome::timed_out("TLS", probe.timeout),
    }
}

async fn connect(target: SocketAddr, sources: &[IpAddr]) -> io::Result<TcpStream> {
    TcpSocket::from_std_stream(open(target, sources)?.into()).connect(target).await
}

/// Opens a socket that does not block, with the first address in `sources` that this node has.
pub fn open(target: SocketAddr, sources: &[IpAddr]) -> io::Result<Socket> {
    let socket = || Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP));
    for source in sources.iter().filter(|source| source.is_ipv4() == target.is_ipv4()) {
        let socket = socket()?;
        if socket.bind(&SocketAddr::new(*source, 0).into()).is_ok() {
            return Ok(socket);
        }
    }
    socket()
}

/// Makes the socket close with RST: neither side keeps a closed connection, and thousands of checks need no thousands of
/// ports.
pub fn close_with_reset(socket: &Socket) {
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// Creates the outcome of an attempt that gets no connection.
pub fn failed(error: &io::Error) -> Outcome {
    Outcome::failure(format!("connect: {}", reason(error)))
}

/// Returns the text of a system error without its number. The number does not help a reader.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

async fn request<S>(question: &ProbeQuestion, address: IpAddr, stream: S) -> Outcome
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEADER_OCTETS);
    let (mut sender, connection) = match builder.handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(error) => return Outcome::failure(format!("HTTP: {error}")),
    };
    let default_port = question.probe_type.default_port() == Some(question.port);
    let host = match &question.name {
        Some(name) => name.to_string().trim_end_matches('.').to_string(),
        None if address.is_ipv6() => format!("[{address}]"),
        None => address.to_string(),
    };
    let host = if default_port { host } else { format!("{host}:{}", question.port) };
    let request = Request::get(&*question.path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("zonal-health-check/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = match request {
        Ok(request) => request,
        Err(error) => return Outcome::failure(format!("HTTP: {error}")),
    };
    // The connection must be polled during the request. It closes when the attempt ends.
    let respond = async {
        match timeout(RESPONSE_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(response)) => judge(question, response).await,
            Ok(Err(error)) => Outcome::failure(format!("HTTP: {error}")),
            Err(_) => Outcome::timed_out("HTTP response", RESPONSE_TIMEOUT),
        }
    };
    let mut respond = std::pin::pin!(respond);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        outcome = &mut respond => outcome,
        _ = &mut connection => respond.await,
    }
}

async fn judge(question: &ProbeQuestion, response: Response<Incoming>) -> Outcome {
    let status = response.status().as_u16();
    if !(200..=question.max_status).contains(&status) {
        return Outcome::failure(format!("status {status}"));
    }
    let Some(search) = question.search.as_deref().map(str::as_bytes) else {
        return Outcome::success(format!("status {status}"));
    };
    let mut body = response.into_body();
    let mut octets: Vec<u8> = Vec::new();
    let read = async {
        while octets.len() < MAX_SEARCHED_OCTETS
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(data) = frame.into_data() {
                octets.extend(&data[..data.len().min(MAX_SEARCHED_OCTETS - octets.len())]);
            }
        }
    };
    let is_whole = timeout(RESPONSE_TIMEOUT, read).await.is_ok();
    match search.is_empty() || octets.windows(search.len()).any(|window| window == search) {
        true => Outcome::success(format!("status {status}, the body has the search string")),
        false if is_whole => Outcome::failure(format!("status {status}, the body does not have the search string")),
        false => Outcome::timed_out("HTTP body", RESPONSE_TIMEOUT),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
