//! DoH with other vendors' clients: refused bodies, TLS records, and the end of a connection.

use crate::harness::{
    Scratch, can_run,
    fake::{Fake, Say},
    secure::{NAME, RUNTIME, SecureServer, ask_h3, message, post, tls_config},
    strict_h2::{Ended, StrictH2},
    tree, wait_until,
};
use http_body_util::Full;
use hyper::{Request, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use zonal::answer::Transport;

const SQS: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03sqs\x09us-east-1\x09amazonaws\x03com\0\0\x01\0\x01";

/// Each response has its own TLS record, because dnsperf 2.10 reads one response from each record.
#[test]
fn each_http2_response_has_a_tls_record_of_its_own() {
    let server = SecureServer::start(&tree("zones"), "");
    let client = server.client("127.1.0.7");
    let records = Arc::new(AtomicUsize::new(0));
    RUNTIME.block_on(async {
        // A relay counts the TLS records of application data from the server.
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut from_server, mut to_server) = client.tcp(Transport::Https).await.into_split();
        let (mut from_client, mut to_client) = tokio::io::split(far);
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        tokio::spawn({
            let records = records.clone();
            async move {
                loop {
                    let mut header = [0; 5];
                    if from_server.read_exact(&mut header).await.is_err() {
                        return;
                    }
                    let mut record = vec![0; u16::from_be_bytes([header[3], header[4]]).into()];
                    from_server.read_exact(&mut record).await.unwrap();
                    records.fetch_add(usize::from(header[0] == 23), Relaxed);
                    to_client.write_all(&[&header[..], &record].concat()).await.unwrap();
                }
            }
        });
        let connector = TlsConnector::from(Arc::new(tls_config(&server.certificate, "h2")));
        let stream = connector.connect(ServerName::try_from(NAME).unwrap(), near).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(post(&mut sender, SQS).await.status(), 200);
        let before = records.load(Relaxed);
        let mut asking = JoinSet::new();
        for _ in 0..100 {
            let mut sender = sender.clone();
            asking.spawn(async move { message(post(&mut sender, SQS).await) });
        }
        assert_eq!(asking.join_all().await.len(), 100);
        assert!(records.load(Relaxed) - before >= 100, "{} records", records.load(Relaxed) - before);
    });
}

#[test]
fn dnsperf_loses_no_doh_query() {
    if !can_run(&["dnsperf"]) {
        return;
    }
    let server = SecureServer::start(&tree("zones"), "");
    let file = server.scratch.write("queries", "sqs.us-east-1.amazonaws.com A\n");
    for method in ["GET", "POST"] {
        let output = Command::new("dnsperf")
            .args(["-m", "doh", "-s", "127.0.0.1", "-a", "127.1.0.7", "-n", "2000", "-c", "2", "-q", "50", "-t", "20"])
            .args(["-p", &server.doh.to_string(), "-d"])
            .arg(&file)
            .args(["-O", &format!("doh-uri=https://{NAME}/dns-query"), "-O", &format!("doh-method={method}")])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("Queries completed:    2000 (100.00%)"), "{method}: {text}");
    }
}

/// If the server resets the connection while curl still sends, curl loses the response.
#[test]
fn clients_see_errors_while_they_still_send() {
    if !can_run(&["curl"]) {
        return;
    }
    let server = SecureServer::start(&tree("zones"), "");
    let (doh, admin) = (server.doh, server.admin);
    let authority = server.scratch.path().join("tls.crt").display().to_string();
    let small = server.scratch.write("small", vec![b'x'; 60_000]);
    let large = server.scratch.write("large", vec![b'x'; 120_000]);
    let huge = server.scratch.write("huge", vec![b'x'; 2_000_000]);
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "30"])
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (String::from_utf8_lossy(&output.stdout).into_owned(), errors)
    };
    let url = format!("https://{NAME}:{doh}/dns-query");
    let elsewhere = format!("https://{NAME}:{doh}/elsewhere");
    let resolve = format!("{NAME}:{doh}:127.0.0.1");
    let message = "content-type: application/dns-message";
    for version in ["--http1.1", "--http2"] {
        for (body, header, url, status) in [
            (&small, "content-type: application/json", &url, "415"),
            (&large, "content-type: application/json", &url, "415"),
            (&large, message, &url, "413"),
            (&small, message, &elsewhere, "404"),
            (&huge, message, &url, "413"),
        ] {
            for more in ["expect:", "transfer-encoding: chunked", "expect: 100-continue"] {
                if version == "--http2" && more.starts_with("transfer") {
                    continue;
                }
                for _ in 0..5 {
                    let body = format!("@{}", body.display());
                    let arguments = [
                        version,
                        "--interface",
                        "127.1.0.7",
                        "--resolve",
                        &resolve,
                        "--cacert",
                        &authority,
                        "-H",
                        header,
                        "-H",
                        more,
                        "--data-binary",
                        &body,
                        url,
                    ];
                    let (got, errors) = curl(&arguments);
                    assert_eq!(got, status, "{version} {} {more} {url}: {errors}", body);
                }
            }
        }
    }
    for (body, header, path, status) in [
        (&small, "content-type: text/plain", "/v1/explain", "415"),
        (&small, "content-type: application/json", "/v1/explain", "413"),
        (&large, "content-type: application/json", "/nothing", "404"),
        (&huge, "content-type: application/json", "/v1/explain", "413"),
    ] {
        for _ in 0..5 {
            let (body, url) = (format!("@{}", body.display()), format!("http://{admin}{path}"));
            let (got, errors) = curl(&["-H", header, "-H", "expect:", "--data-binary", &body, &url]);
            assert_eq!(got, status, "{path} {body}: {errors}");
        }
    }
    RUNTIME.block_on(async {
        let mut h3 = server.client("127.1.0.7").h3().await;
        for (octets, header, status) in
            [(60_000, "text/plain", 415), (120_000, "application/dns-message", 413), (120_000, "text/plain", 415)]
        {
            let request = Request::post(format!("https://{NAME}/dns-query")).header("content-type", header);
            let request = request.body(Full::new(Bytes::from(vec![b'x'; octets]))).unwrap();
            assert_eq!(ask_h3(&mut h3, request).await.status(), status);
        }
    });
}

/// Python's clients treat a PING frame after GOAWAY as an error, and a request fails.
#[test]
fn strict_http2_clients_lose_no_request_at_the_end() {
    let slow =
        Fake::start("127.0.0.1:0", |asked| vec![Say::Later(Duration::from_millis(1000), asked.address("192.0.2.7"))]);
    let directory = Scratch::new();
    directory.write(
        "manifest.yaml",
        format!(
            "vpcs:\n  vpc: {{region: us-east-1, cidr_blocks: [127.63.0.0/16]}}\n\
             resolver_endpoints:\n  out: {{direction: OUTBOUND, vpc_id: vpc, ip_addresses: [{{ip: 127.63.0.9}}]}}\n\
             resolver_rules:\n  slow: {{domain_name: slow.example, rule_type: FORWARD, vpc_ids: [vpc], \
             resolver_endpoint_id: out, target_ips: [{}]}}\n\
             private_hosted_zones:\n  Z: {{name: z.example, vpc_ids: [vpc], records: [{{name: a, type: A, records: [192.0.2.1]}}]}}\n",
            slow.target()
        ),
    );
    let mut server = SecureServer::start(directory.path(), "limits: {tcp_idle_timeout_seconds: 1}");
    let quick = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x01a\x01z\x07example\0\0\x01\0\x01";
    let slow = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x01a\x04slow\x07example\0\0\x01\0\x01";
    RUNTIME.block_on(async {
        let client = server.client("127.63.0.7");
        let mut idle = StrictH2::connect(&client).await;
        for _ in 0..3 {
            assert_eq!(idle.ask(quick).await.unwrap()[7], 1);
        }
        // The server closes the connection meanwhile, so the client sends the next request on a new
        // connection.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(idle.ask(quick).await, Err(Ended::Unsent));

        let mut open = StrictH2::connect(&client).await;
        assert_eq!(open.ask(quick).await.unwrap()[7], 1);
        let (answer, ()) = tokio::join!(open.ask(slow), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.signal(Signal::TERM);
        });
        assert_eq!(answer.unwrap()[7], 1, "the request is answered before the end");
        let end = async {
            loop {
                match open.ask(quick).await {
                    Ok(answer) => assert_eq!(answer[7], 1),
                    Err(ended) => break ended,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert_eq!(timeout(Duration::from_secs(20), end).await.unwrap(), Ended::Unsent);
    });
    wait_until("the server has ended", || server.process.ended());
}
