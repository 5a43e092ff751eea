//! DoT, DoH and DoQ, with valid and invalid certificates.

use super::*;
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{path::PathBuf, sync::LazyLock};
use tokio_rustls::TlsAcceptor;

/// An error of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    Expired,
    NotYet,
    UnknownIssuer,
    WrongName,
}

const NAME_OF_SERVER: &str = "dns.example.corp";
static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| authority("ours"));

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The authority's certificate in a file.
fn authority_file() -> PathBuf {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let file = std::env::temp_dir().join(format!("zonal-authority-{}.pem", std::process::id()));
        std::fs::write(&file, AUTHORITY.pem()).unwrap();
        file
    });
    FILE.clone()
}

fn config(names: &[&str], flaw: Flaw, alpn: &[u8]) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    match flaw {
        Flaw::Expired => params.not_after = date_time_ymd(2020, 1, 1),
        Flaw::NotYet => params.not_before = date_time_ymd(2090, 1, 1),
        _ => {}
    }
    let key = KeyPair::generate().unwrap();
    let certificate = match flaw {
        Flaw::UnknownIssuer => params.signed_by(&key, &authority("another")),
        _ => params.signed_by(&key, &AUTHORITY),
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(vec![certificate.unwrap().der().clone()], key).unwrap();
    config.alpn_protocols.extend((!alpn.is_empty()).then(|| alpn.to_vec()));
    Arc::new(config)
}

/// A server, and the queries it received.
struct Encrypted {
    target: Target,
    queries: mpsc::UnboundedReceiver<(Vec<u8>, bool)>,
    /// The number of connections so far.
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The response of a server to a query.
type Answers = fn(&[u8]) -> Vec<u8>;

/// Starts a server that closes each connection after `most` queries.
async fn serve(protocol: Protocol, flaw: Flaw, most: usize) -> Encrypted {
    serve_with(protocol, flaw, most, answer).await
}

/// Starts a server with other responses.
async fn serve_with(protocol: Protocol, flaw: Flaw, most: usize, answers: Answers) -> Encrypted {
    let ip = unused_address();
    let names = [if flaw == Flaw::WrongName { "other.example.corp" } else { NAME_OF_SERVER }, &ip.to_string()];
    let names = if flaw == Flaw::WrongName { &names[..1] } else { &names };
    let (sender, queries) = mpsc::unbounded_channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let (address, task) = match protocol {
        Protocol::DoQ => {
            let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config(names, flaw, b"doq")).unwrap();
            let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
            let endpoint = quinn::Endpoint::server(config, SocketAddr::new(ip, 0)).unwrap();
            let address = endpoint.local_addr().unwrap();
            let task = async move {
                while let Some(incoming) = endpoint.accept().await {
                    let Ok(connection) = incoming.await else { continue };
                    count.fetch_add(1, Relaxed);
                    tokio::spawn(serve_quic(connection, most, answers, sender.clone()));
                }
            };
            (address, tokio::spawn(task))
        }
        _ => {
            let listener = TcpListener::bind(SocketAddr::new(ip, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let alpn = if protocol == Protocol::DoH { &b"h2"[..] } else { b"" };
            let acceptor = TlsAcceptor::from(config(names, flaw, alpn));
            let task = async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let Ok(stream) = acceptor.accept(stream).await else { continue };
                    count.fetch_add(1, Relaxed);
                    if protocol == Protocol::DoH {
                        tokio::spawn(serve_http(stream, most, answers, sender.clone()));
                    } else {
                        let served = AtomicUsize::new(0);
                        let act = move |query: &[u8], _| match served.fetch_add(1, Relaxed) {
                            before if before < most => vec![Act::Reply(answers(query))],
                            _ => vec![Act::Close],
                        };
                        tokio::spawn(serve_stream(stream, act, sender.clone()));
                    }
                }
            };
            (address, tokio::spawn(task))
        }
    };
    let target = Target { protocol, ..target(address) };
    Encrypted { target, queries, connections, task }
}

async fn serve_quic(
    connection: quinn::Connection,
    most: usize,
    answers: Answers,
    queries: mpsc::UnboundedSender<(Vec<u8>, bool)>,
) {
    let mut served = 0;
    while let Ok((mut to, mut from)) = connection.accept_bi().await {
        let message = from.read_to_end(1000).await.unwrap();
        if served == most {
            return connection.close(0_u8.into(), b"");
        }
        served += 1;
        let query = message[2..].to_vec();
        let answer = answers(&query);
        queries.send((query, false)).unwrap();
        to.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat()).await.unwrap();
        to.finish().unwrap();
    }
}

async fn serve_http(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    most: usize,
    answers: Answers,
    queries: mpsc::UnboundedSender<(Vec<u8>, bool)>,
) {
    let (end, mut ends) = mpsc::unbounded_channel::<()>();
    let served = AtomicUsize::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        let (queries, end) = (queries.clone(), end.clone());
        let before = served.fetch_add(1, Relaxed);
        async move {
            if before == most {
                end.send(()).unwrap();
                std::future::pending::<()>().await;
            }
            assert_eq!((request.uri().path(), request.method().as_str()), ("/dns-query", "POST"));
            assert_eq!(request.headers()["content-type"], "application/dns-message");
            let query = request.into_body().collect().await.unwrap().to_bytes().to_vec();
            let answer = answers(&query);
            queries.send((query, false)).unwrap();
            let response = hyper::Response::builder().header("content-type", "application/dns-message");
            Ok::<_, hyper::Error>(response.body(Full::new(Bytes::from(answer))).unwrap())
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::select! {
        _ = connection.serve_connection(TokioIo::new(stream), service) => {}
        _ = ends.recv() => {}
    }
}

fn upstreams() -> Arc<Upstreams> {
    Upstreams::trusting(Some(authority_file()), None)
}

fn named(server: &Encrypted) -> Target {
    Target { server_name: Some(NAME_OF_SERVER.into()), ..server.target.clone() }
}

const ENCRYPTED: [Protocol; 3] = [Protocol::DoT, Protocol::DoH, Protocol::DoQ];

#[tokio::test]
async fn many_queries_share_a_connection() {
    for protocol in ENCRYPTED {
        let mut server = serve(protocol, Flaw::None, usize::MAX).await;
        let (upstreams, route) = (upstreams(), Arc::new(route(vec![named(&server)])));
        assert_eq!(address(&ask(&upstreams, &route).await), 1, "{protocol}");
        let asked: Vec<_> = (0..50)
            .map(|_| {
                let (upstreams, route) = (upstreams.clone(), route.clone());
                tokio::spawn(async move { address(&ask(&upstreams, &route).await) })
            })
            .collect();
        for asked in asked {
            assert_eq!(asked.await.unwrap(), 1, "{protocol}");
        }
        assert_eq!(server.connections.load(Relaxed), 1, "{protocol}");
        for _ in 0..51 {
            let (query, _) = server.queries.recv().await.unwrap();
            assert_eq!(query.len(), 128, "{protocol}");
            assert_eq!(query[..2] == [0, 0], protocol != Protocol::DoT, "{protocol}");
        }
        assert_eq!(upstreams.report(&route)[0].state, ServerState::Up);
    }
}

/// Names in a response may repeat the random case of the query. Clients see their own case.
#[tokio::test]
async fn restores_lower_case_everywhere_in_responses_of_every_transport() {
    let is_plain = |message: &[u8]| {
        let response = response::Response::read(message).unwrap();
        let records = response.sections.concat();
        let owners = records.iter().map(|record| &record.owner[..]);
        let data = records.iter().map(|record| &record.rdata[..]);
        assert_eq!(message[HEADER..HEADER + NAME.len()], *NAME);
        assert_eq!(records.len(), 4);
        assert!(owners.chain(data).all(|octets| !octets.iter().any(u8::is_ascii_uppercase)), "{records:02x?}");
    };
    for protocol in ENCRYPTED {
        let mut server = serve_with(protocol, Flaw::None, usize::MAX, full).await;
        let (upstreams, route) = (upstreams(), route(vec![named(&server)]));
        let mut seen = Vec::new();
        for _ in 0..5 {
            is_plain(&ask(&upstreams, &route).await.unwrap());
            seen.push(server.queries.recv().await.unwrap().0);
        }
        let is_drawn = |query: &Vec<u8>| query[HEADER..HEADER + NAME.len()] != *NAME;
        assert!(seen.iter().any(is_drawn), "{protocol}: no query had a case of its own");
    }
    let fake = Fake::new(|query, tcp| vec![Act::Reply(if tcp { full(query) } else { truncated(query) })]).await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    for _ in 0..5 {
        is_plain(&ask(&upstreams, &route).await.unwrap());
    }
    assert!(fake.queries().iter().any(|(query, tcp)| *tcp && query[HEADER..HEADER + NAME.len()] != *NAME));
}

/// A response with the name in question, in its random case, as owners and in data: the whole name,
/// and its end.
fn full(query: &[u8]) -> Vec<u8> {
    let name = query[HEADER..HEADER + NAME.len()].to_vec();
    let record = |owner: &[u8], rtype: u8, data: &[u8]| {
        [owner, &[0, rtype, 0, 1, 0, 0, 0, 60, 0, data.len() as u8], data].concat()
    };
    let mut message = header(query, 0);
    message[7] = 4;
    message.extend(record(b"\xc0\x0c", 5, b"\x05other\xc0\x14"));
    message.extend(record(&name, 15, &[&[0, 10][..], &name].concat()));
    message.extend(record(&name[8..], 2, &name[8..]));
    message.extend(record(b"\xc0\x0c", 1, &[10, 0, 0, 1]));
    message
}

#[tokio::test]
async fn checks_certificates_against_the_address_without_a_name() {
    for protocol in ENCRYPTED {
        let server = serve(protocol, Flaw::None, usize::MAX).await;
        assert_eq!(address(&ask(&upstreams(), &route(vec![server.target.clone()])).await), 1, "{protocol}");
        let other = serve(protocol, Flaw::WrongName, usize::MAX).await;
        let (code, text) = text(ask(&upstreams(), &route(vec![other.target.clone()])).await);
        assert_eq!((code, text), (23, format!("{} has a certificate for another name", other.target)));
    }
}

#[tokio::test]
async fn reopens_connections_that_ended() {
    for protocol in ENCRYPTED {
        let server = serve(protocol, Flaw::None, 2).await;
        let (upstreams, route) = (upstreams(), route(vec![named(&server)]));
        for number in 0..8 {
            let (response, ms) = timed(ask(&upstreams, &route)).await;
            assert_eq!(address(&response), 1, "{protocol} {number}");
            assert!(ms < 3000, "{protocol} {number} {ms}");
        }
        assert_eq!(server.connections.load(Relaxed), 4, "{protocol}");
    }
}

#[tokio::test]
async fn names_the_error_of_a_certificate() {
    for protocol in ENCRYPTED {
        for (flaw, what) in [
            (Flaw::Expired, "has a certificate that has expired"),
            (Flaw::NotYet, "has a certificate that is not valid yet"),
            (Flaw::UnknownIssuer, "has a certificate of an unknown issuer"),
            (Flaw::WrongName, "has a certificate for another name"),
        ] {
            let server = serve(protocol, flaw, usize::MAX).await;
            let (failure, ms) = timed(ask(&upstreams(), &route(vec![named(&server)]))).await;
            let (code, text) = text(failure);
            assert_eq!(code, 23, "{text}");
            assert!(text.starts_with(&format!("{} ", named(&server))) && text.contains(what), "{protocol}: {text}");
            assert!(ms < 3000, "{protocol}: {ms}");
        }
    }
}

#[tokio::test]
async fn names_servers_that_do_not_speak_tls() {
    // TCP that closes at once, and nothing on UDP.
    let listener = TcpListener::bind((unused_address(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let closing = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let good = serve(Protocol::DoT, Flaw::None, usize::MAX).await;
    for protocol in [Protocol::DoT, Protocol::DoH] {
        let bad = Target { protocol, ..target(address) };
        assert!(answers_within(upstreams, &route(vec![bad.clone(), named(&good)]), 900).await, "{protocol}");
        let (code, text) = text(ask(&upstreams(), &route(vec![bad.clone()])).await);
        assert_eq!((code, text), (23, format!("{bad} closes the connection when TLS begins")));
    }
    closing.abort();
}
