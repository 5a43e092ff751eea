use super::*;
use crate::snapshot::health::{Probe, ProbeQuestion};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    thread::JoinHandle,
    time::Instant,
};

fn probe(probe_type: ProbeType, port: u16) -> Probe {
    Probe {
        question: ProbeQuestion {
            probe_type,
            address: None,
            name: None,
            vpc: None,
            port,
            path: "/healthz".into(),
            search: None,
            verify_certificate: false,
            max_status: 399,
        },
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        failure_threshold: 1,
        success_threshold: 1,
    }
}

/// Starts a server for one connection. It reads a request and then writes `pieces` with a pause
/// between them.
fn server(pieces: Vec<Vec<u8>>, pause: Duration) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let len = stream.read(&mut request).unwrap_or(0);
        for piece in pieces {
            if stream.write_all(&piece).is_err() {
                break;
            }
            std::thread::sleep(pause);
        }
        String::from_utf8_lossy(&request[..len]).into()
    });
    (port, thread)
}

fn ask(probe: &Probe) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(attempt(probe, Ipv4Addr::LOCALHOST.into(), &[], &LazyTls::default()))
}

/// Returns the outcome of an HTTP check whose target answers with `response`.
fn answered(response: &str, change: impl FnOnce(&mut Probe)) -> Outcome {
    let (port, _thread) = server(vec![response.as_bytes().to_vec()], Duration::ZERO);
    let mut probe = probe(ProbeType::Http, port);
    change(&mut probe);
    ask(&probe)
}

#[test]
fn an_http_status_from_200_to_399_is_a_success() {
    for (status, is_success) in [(200, true), (204, true), (301, true), (399, true), (400, false), (500, false)] {
        let outcome = answered(&format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n"), |_| {});
        assert_eq!((outcome.is_success, &*outcome.result), (is_success, &*format!("status {status}")));
    }
    let outcome = answered("HTTP/1.1 403 x\r\ncontent-length: 0\r\n\r\n", |probe| probe.question.max_status = 499);
    assert!(outcome.is_success, "AWS services answer 403");
}

#[test]
fn the_request_names_host_and_path_and_redirects_are_not_followed() {
    let (port, thread) = server(
        vec![b"HTTP/1.1 302 x\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_vec()],
        Duration::ZERO,
    );
    let mut probe = probe(ProbeType::Http, port);
    probe.question.name = crate::wire::Name::absolute("api.example.com").ok();
    assert_eq!(&*ask(&probe).result, "status 302");
    let request = thread.join().unwrap();
    assert!(request.starts_with("GET /healthz HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: api.example.com:{port}\r\n")), "{request}");
}

#[test]
fn the_search_string_must_be_in_the_first_5120_octets() {
    let with_body = |body: String, search: &str| {
        let response = format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        answered(&response, |probe| probe.question.search = Some(search.into())).is_success
    };
    assert!(with_body("{\"ok\":true}".into(), "\"ok\":true"));
    assert!(!with_body("{\"OK\":true}".into(), "\"ok\":true"));
    assert!(with_body(format!("{}end", "x".repeat(5117)), "end"));
    assert!(!with_body(format!("{}end", "x".repeat(5118)), "end"));
}

#[test]
fn a_target_costs_bounded_time_and_octets() {
    let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    assert_eq!(&*ask(&probe(ProbeType::Tcp, refused)).result, "connect: connection refused");
    // The target accepts the connection and never answers.
    let start = Instant::now();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = ask(&probe(ProbeType::Http, listener.local_addr().unwrap().port()));
    assert_eq!(
        (silent.is_success, silent.is_slow, &*silent.result),
        (false, true, "HTTP response: time-out after 2 s")
    );
    // The target sends one octet per second.
    let (port, _thread) =
        server(b"HTTP/1.1 200 x\r\n".iter().map(|octet| vec![*octet]).collect(), Duration::from_secs(1));
    assert!(!ask(&probe(ProbeType::Http, port)).is_success);
    // The target sends a header without end.
    let (port, _thread) = server(vec![b"HTTP/1.1 200 x\r\na: ".to_vec(), vec![b'x'; 1 << 20]], Duration::ZERO);
    assert!(!ask(&probe(ProbeType::Http, port)).is_success);
    // The target sends a body without end.
    let pieces =
        [b"HTTP/1.1 200 x\r\n\r\n".to_vec()].into_iter().chain((0..1000).map(|_| vec![b'x'; 1 << 20])).collect();
    let (port, _thread) = server(pieces, Duration::ZERO);
    let mut endless = probe(ProbeType::Http, port);
    endless.question.search = Some("y".into());
    assert_eq!(&*ask(&endless).result, "status 200, the body does not have the search string");
    // The target does not speak HTTP.
    let (port, _thread) = server(vec![b"SSH-2.0-OpenSSH\r\n".to_vec()], Duration::ZERO);
    let outcome = ask(&probe(ProbeType::Http, port));
    assert!(!outcome.is_success && outcome.result.starts_with("HTTP: "), "{outcome:?}");
    // The attempt takes no longer than the interval.
    let mut short = probe(ProbeType::Http, listener.local_addr().unwrap().port());
    short.interval = Duration::from_secs(1);
    assert_eq!(&*ask(&short).result, "the attempt: time-out after 1 s");
    // Together the attempts take about 6 s. The bound allows for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn https_takes_any_certificate_unless_it_must_be_valid() {
    let key = rcgen::generate_simple_self_signed(vec!["api.example.com".into()]).unwrap();
    let (certificate, private) = (key.cert.der().clone(), key.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], rustls::pki_types::PrivateKeyDer::try_from(private).unwrap())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    for (name, verify, roots, is_success) in [
        (Some("other.example.com"), false, RootCertStore::empty(), true),
        (None, false, RootCertStore::empty(), true),
        (Some("api.example.com"), true, roots.clone(), true),
        (Some("other.example.com"), true, roots, false),
        (Some("api.example.com"), true, RootCertStore::empty(), false),
    ] {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await;
                    let _ = stream.shutdown().await;
                }
            });
            let tls = LazyTls { authorities: None, made: OnceLock::from(Ok(Tls::new(roots).unwrap())) };
            let mut probe = probe(ProbeType::Https, port);
            probe.question.verify_certificate = verify;
            probe.question.name = name.map(|name| crate::wire::Name::absolute(name).unwrap());
            attempt(&probe, Ipv4Addr::LOCALHOST.into(), &[], &tls).await
        });
        assert_eq!(outcome.is_success, is_success, "{name:?}, {verify}: {outcome:?}");
        // A certificate of rcgen ends in the year 4096.
        let expiry =
            (verify && is_success).then(|| "4096-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second());
        assert_eq!(outcome.certificate_expiry, expiry, "{name:?}, {verify}");
    }
}
