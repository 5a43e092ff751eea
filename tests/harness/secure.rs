//! A zonal server with all transports, and clients for each transport.

use super::{Process, Scratch, ZONAL, free_port, http_get, wait_until, wait_until_equal};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Buf, Bytes},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use zonal::answer::Transport;

/// The name in the server's certificate.
pub const NAME: &str = "zonal.test";
const PATIENCE: Duration = Duration::from_secs(20);

/// The runtime of the clients.
pub static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// A self-signed certificate and its key.
pub struct Certificate {
    pub certificate: String,
    pub private_key: String,
    pub der: CertificateDer<'static>,
}

impl Certificate {
    /// Creates a certificate for the server's name, valid until the end of a year.
    pub fn until(year: i32) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_string()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let certificate = params.self_signed(&key).unwrap();
        Certificate { certificate: certificate.pem(), private_key: key.serialize_pem(), der: certificate.der().clone() }
    }
}

/// zonal with all transports, on all loopback addresses.
pub struct SecureServer {
    pub process: Process,
    pub admin: SocketAddr,
    pub do53: u16,
    pub dot: u16,
    pub doh: u16,
    pub doq: u16,
    pub certificate: Certificate,
    pub scratch: Scratch,
}

impl SecureServer {
    /// Starts a server for a directory, and waits until it is ready. Certificate and key are
    /// `tls.crt` and `tls.key` in the scratch directory.
    pub fn start(directory: &Path, more: &str) -> SecureServer {
        let certificate = Certificate::until(2999);
        let scratch = Scratch::new();
        scratch.write("tls.crt", &certificate.certificate);
        scratch.write("tls.key", &certificate.private_key);
        SecureServer::start_in(scratch, certificate, directory, more)
    }

    /// Like `start`, with an existing scratch directory and certificate.
    pub fn start_in(scratch: Scratch, certificate: Certificate, directory: &Path, more: &str) -> SecureServer {
        let start = |command: &[&str], scratch: &Scratch| Process::start(command, scratch, "zonal");
        SecureServer::start_by(start, scratch, certificate, directory, more)
    }

    /// Like `start_in`; `start` starts the process.
    pub fn start_by(
        start: impl FnOnce(&[&str], &Scratch) -> Process,
        scratch: Scratch,
        certificate: Certificate,
        directory: &Path,
        more: &str,
    ) -> SecureServer {
        let [admin, do53, dot, doh] = std::array::from_fn(|_| free_port());
        // As by default, DoQ and DoT have the same port number, in UDP and TCP.
        let doq = dot;
        let tls = "tls: {certificate: tls.crt, private_key: tls.key}";
        let config = format!(
            "listen:\n\
             - {{address: '0.0.0.0:{do53}'}}\n\
             - {{address: '0.0.0.0:{dot}', protocol: DoT, {tls}}}\n\
             - {{address: '0.0.0.0:{doh}', protocol: DoH, {tls}}}\n\
             - {{address: '0.0.0.0:{doq}', protocol: DoQ, {tls}}}\n\
             control_plane: {{directory: {}}}\nadmin: {{address: '127.0.0.1:{admin}'}}\ninternet_resolver: none\n{more}\n",
            directory.display()
        );
        let config = scratch.write("zonal.yaml", config);
        let mut process = start(&[ZONAL, "serve", "--config", config.to_str().unwrap()], &scratch);
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin));
        wait_until("the server is ready", || {
            process.assert_alive();
            (http_get(admin, "/ready")?.0 == 200).then_some(())
        });
        SecureServer { process, admin, do53, dot, doh, doq, certificate, scratch }
    }

    /// The server's address for a transport.
    pub fn at(&self, transport: Transport, local: IpAddr) -> SocketAddr {
        let port = match transport {
            Transport::Udp | Transport::Tcp => self.do53,
            Transport::Tls => self.dot,
            Transport::Https | Transport::H3 => self.doh,
            Transport::Quic => self.doq,
        };
        SocketAddr::new(local, port)
    }

    /// The value of a metric, by its name and labels as printed.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = http_get(self.admin, "/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a metric has a value.
    pub fn wait_for_metric(&self, name: &str, expected: f64) {
        wait_until_equal(name, Some(expected), || self.metric(name));
    }

    /// A client that asks the server at 127.0.0.1.
    pub fn client(&self, source: &str) -> Client<'_> {
        Client { server: self, source: source.parse().unwrap(), local: Ipv4Addr::LOCALHOST.into(), header: &[] }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }
}

/// A client at one address, which sends queries to another.
#[derive(Clone, Copy)]
pub struct Client<'s> {
    pub server: &'s SecureServer,
    pub source: IpAddr,
    pub local: IpAddr,
    /// The PROXY header that precedes UDP and TCP queries.
    pub header: &'s [u8],
}

pub fn tls_config(certificate: &Certificate, protocol: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    if !protocol.is_empty() {
        config.alpn_protocols = vec![protocol.into()];
    }
    config
}

pub type H2 = http2::SendRequest<Full<Bytes>>;
pub type H1 = http1::SendRequest<Full<Bytes>>;
pub type H3 = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;

impl Client<'_> {
    pub async fn tcp(&self, transport: Transport) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(self.source, 0)).unwrap();
        let mut stream = socket.connect(self.server.at(transport, self.local)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(self.header).await.unwrap();
        stream
    }

    /// A TLS connection for DoT or DoH.
    pub async fn tls(&self, transport: Transport, protocol: &str) -> TlsStream<TcpStream> {
        let connector = TlsConnector::from(Arc::new(tls_config(&self.server.certificate, protocol)));
        connector.connect(ServerName::try_from(NAME).unwrap(), self.tcp(transport).await).await.unwrap()
    }

    pub async fn h1(&self) -> H1 {
        let stream = self.tls(Transport::Https, "http/1.1").await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub async fn h2(&self) -> H2 {
        let stream = self.tls(Transport::Https, "h2").await;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A QUIC connection for DoQ or HTTP/3, with keep-alive packets from the client.
    pub async fn quic(&self, transport: Transport) -> quinn::Connection {
        self.quic_with(transport, |_| ()).await
    }

    /// Like `quic`, with other transport parameters.
    pub async fn quic_with(
        &self,
        transport: Transport,
        more: impl FnOnce(&mut quinn::TransportConfig),
    ) -> quinn::Connection {
        let protocol = if transport == Transport::H3 { "h3" } else { "doq" };
        let tls = QuicClientConfig::try_from(tls_config(&self.server.certificate, protocol)).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        let mut transport_config = quinn::TransportConfig::default();
        transport_config.keep_alive_interval(Some(Duration::from_millis(300)));
        more(&mut transport_config);
        config.transport_config(Arc::new(transport_config));
        let endpoint = quinn::Endpoint::client(SocketAddr::new(self.source, 0)).unwrap();
        let server = self.server.at(transport, self.local);
        endpoint.connect_with(config, server, NAME).unwrap().await.unwrap()
    }

    pub async fn h3(&self) -> H3 {
        let connection = h3_quinn::Connection::new(self.quic(Transport::H3).await);
        let (mut driver, sender) = h3::client::new(connection).await.unwrap();
        tokio::spawn(async move { poll_fn(|cx| driver.poll_close(cx)).await });
        sender
    }

    /// Sends a query over a new connection, and returns the reply. With DoQ the ID is 0.
    pub async fn ask(&self, transport: Transport, query: &[u8]) -> Vec<u8> {
        let reply = async {
            match transport {
                Transport::Udp => {
                    let socket = tokio::net::UdpSocket::bind((self.source, 0)).await.unwrap();
                    socket.connect(self.server.at(transport, self.local)).await.unwrap();
                    socket.send(&[self.header, query].concat()).await.unwrap();
                    let mut reply = vec![0; 65_535];
                    let len = socket.recv(&mut reply).await.unwrap();
                    reply[..len].to_vec()
                }
                Transport::Tcp => ask_stream(&mut self.tcp(transport).await, query).await.unwrap(),
                Transport::Tls => ask_stream(&mut self.tls(transport, "").await, query).await.unwrap(),
                Transport::Https => message(post(&mut self.h2().await, query).await),
                Transport::Quic => ask_quic(&self.quic(transport).await, query).await.unwrap(),
                Transport::H3 => message(ask_h3(&mut self.h3().await, request(query)).await),
            }
        };
        timeout(PATIENCE, reply).await.unwrap_or_else(|_| panic!("no reply by {transport:?}"))
    }
}

/// Sends a query over a stream, and returns the next reply.
pub async fn ask_stream(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    query: &[u8],
) -> std::io::Result<Vec<u8>> {
    send_stream(stream, query).await?;
    receive_stream(stream).await
}

pub async fn send_stream(stream: &mut (impl AsyncWriteExt + Unpin), query: &[u8]) -> std::io::Result<()> {
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat()).await?;
    stream.flush().await
}

pub async fn receive_stream(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut reply = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// Sends a query over a new stream of a DoQ connection, and returns the reply.
pub async fn ask_quic(connection: &quinn::Connection, query: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat()).await?;
    send.finish()?;
    let reply = recv.read_to_end(70_000).await?;
    anyhow::ensure!(reply.len() > 2 && usize::from(u16::from_be_bytes([reply[0], reply[1]])) == reply.len() - 2);
    Ok(reply[2..].to_vec())
}

/// A POST request with a query in its body.
pub fn request(query: &[u8]) -> Request<Full<Bytes>> {
    Request::post(format!("https://{NAME}/dns-query"))
        .header("content-type", "application/dns-message")
        .body(Full::new(Bytes::copy_from_slice(query)))
        .unwrap()
}

pub async fn post(sender: &mut H2, query: &[u8]) -> Response<Bytes> {
    sender.ready().await.unwrap();
    whole(sender.send_request(request(query)).await.unwrap()).await
}

/// Reads the whole body of a response.
pub async fn whole(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

pub async fn ask_h3(sender: &mut H3, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let (parts, body) = request.into_parts();
    let mut stream = sender.send_request(Request::from_parts(parts, ())).await.unwrap();
    // A server that refuses a request need not read its body.
    let _ = stream.send_data(body.collect().await.unwrap().to_bytes()).await;
    let _ = stream.finish().await;
    let response = stream.recv_response().await.unwrap();
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await.unwrap() {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    response.map(|()| body.into())
}

/// The DNS message in a response.
pub fn message(response: Response<Bytes>) -> Vec<u8> {
    assert_eq!(response.status(), 200, "{:?}", response.body());
    assert_eq!(response.headers()["content-type"], "application/dns-message");
    response.into_body().to_vec()
}
