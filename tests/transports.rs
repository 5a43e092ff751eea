//! Encrypted transports: other vendors' clients, many concurrent queries, slow clients, changed
//! certificates, and shutdown.

use crate::harness::{
    Scratch, ZONAL, can_run,
    lab::Lab,
    reply::Reply,
    secure::{
        Certificate, Client, NAME, RUNTIME, SecureServer, ask_h3, ask_quic, ask_stream, message, post, receive_stream,
        request, send_stream, whole,
    },
    tree, wait_until,
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RecordType, rdata::opt::EdnsOption},
};
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Buf, Bytes},
};
use rustix::process::Signal;
use std::{
    net::UdpSocket,
    process::Command,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::timeout,
};
use zonal::answer::Transport;

const ENCRYPTED: [Transport; 4] = [Transport::Tls, Transport::Https, Transport::Quic, Transport::H3];

/// A query with EDNS and this ID.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, RecordType::A));
    message.set_edns(Edns::new());
    message.to_vec().unwrap()
}

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments}: {text}{errors}");
    text.into_owned()
}

/// Status, flags and records in the output of dig or kdig, which have different formats.
fn essence(text: &str) -> (String, Vec<String>, Vec<String>) {
    let text = text.to_lowercase();
    let text = text.split_once(";; ->>header<<-").map_or("", |(_, rest)| rest);
    let after = |mark: &str| text.split_once(mark).map_or("", |(_, rest)| rest.split([';', ',', '\n']).next().unwrap());
    let mut records: Vec<String> = text
        .lines()
        .skip(1)
        .filter(|line| !line.starts_with(';') && !line.trim().is_empty())
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    records.sort();
    (after("status: ").into(), after("\n;; flags: ").split_whitespace().map(String::from).collect(), records)
}

#[test]
fn answers_foreign_clients_by_every_transport() {
    if !can_run(&["dig", "kdig", "curl"]) {
        return;
    }
    let server = SecureServer::start(&tree("zones"), "");
    let SecureServer { do53, dot, doh, .. } = server;
    let authority = server.scratch.path().join("tls.crt").display().to_string();
    for (source, local, name) in [
        ("127.1.0.7", "127.0.0.1", "sqs.us-east-1.amazonaws.com A"),
        ("127.1.128.7", "127.1.0.2", "sqs.us-east-1.amazonaws.com A"),
        ("127.4.0.7", "127.2.0.53", "www.corp.example.com AAAA"),
        ("127.4.0.7", "127.2.0.53", "nothing.corp.example.com A"),
        ("127.5.0.7", "127.2.0.53", "www.corp.example.com AAAA"),
    ] {
        let expected =
            essence(&run("dig", &format!("-b {source} @{local} -p {do53} {name} +noad +nocookie +noquestion")));
        assert!(!expected.0.is_empty());
        // Debian's kdig has no QUIC.
        let tls = format!("+tls-ca={authority} +tls-hostname={NAME}");
        for (port, options) in [
            (do53, "+tcp"),
            (dot, &*format!("+tls {tls}")),
            (dot, "+tls"),
            (doh, &format!("+https {tls}")),
            (doh, &format!("+https {tls} +https-get")),
        ] {
            let program = if options == "+tcp" { "dig" } else { "kdig" };
            let more = if options == "+tcp" { "+noad +nocookie" } else { "+edns" };
            let arguments = format!("-b {source} @{local} -p {port} {name} {options} {more} +noquestion");
            let got = essence(&run(program, &arguments));
            assert_eq!(got, expected, "{program} {arguments}");
        }
    }
    let plain = query(0, "sqs.us-east-1.amazonaws.com");
    let udp = RUNTIME.block_on(server.client("127.1.0.7").ask(Transport::Udp, &plain));
    let expected = Reply::of_message(&udp);
    std::fs::write(server.scratch.path().join("query"), &plain).unwrap();
    let encoded = data_encoding::BASE64URL_NOPAD.encode(&plain);
    let url = format!("https://{NAME}:{doh}/dns-query");
    let file = |name: &str| server.scratch.path().join(name).display().to_string();
    for version in ["--http1.1", "--http2"] {
        for how in [
            format!("{url}?dns={encoded}"),
            format!("{url} -H content-type:application/dns-message --data-binary @{}", file("query")),
        ] {
            let arguments = format!(
                "-sS {version} --interface 127.1.0.7 --resolve {NAME}:{doh}:127.0.0.1 --cacert {authority} \
                 -D {} -o {} -w %{{http_version}} {how}",
                file("headers"),
                file("reply"),
            );
            assert_eq!(run("curl", &arguments), version.trim_start_matches("--http"));
            let headers = std::fs::read_to_string(file("headers")).unwrap().to_lowercase();
            let reply = std::fs::read(file("reply")).unwrap();
            for header in [
                "content-type: application/dns-message",
                "cache-control: private, max-age=60",
                &format!("content-length: {}", reply.len()),
                &format!("alt-svc: h3=\":{doh}\"; ma=86400"),
            ] {
                assert!(headers.lines().any(|line| line == header), "{header} in\n{headers}");
            }
            let mut got = Reply::of_message(&reply);
            assert_eq!(got.options, ["padding"]);
            got.options.clear();
            assert_eq!(got, expected, "{arguments}");
        }
    }
}

#[test]
fn http_errors_say_what_is_wrong() {
    let server = SecureServer::start(&tree("zones"), "");
    let good = query(0, "sqs.us-east-1.amazonaws.com");
    let long = vec![0; 65_536];
    let url = |rest: &str| format!("https://{NAME}{rest}");
    let build = |builder: hyper::http::request::Builder, body: &[u8]| {
        builder.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
    };
    let dns = "application/dns-message";
    let requests = || {
        [
            (200, request(&good)),
            (404, build(Request::get(url("/")), b"")),
            (405, build(Request::head(url("/dns-query?dns=AAAA")), b"")),
            (405, build(Request::delete(url("/dns-query")), b"")),
            (400, build(Request::get(url("/dns-query")), b"")),
            (400, build(Request::get(url("/dns-query?dns=A=")), b"")),
            (400, build(Request::get(url("/dns-query?dns=AAAA")), b"")),
            (415, build(Request::post(url("/dns-query")).header("content-type", "text/plain"), &good)),
            (413, build(Request::post(url("/dns-query")).header("content-type", dns), &long)),
        ]
    };
    RUNTIME.block_on(async {
        let client = server.client("127.1.0.7");
        let mut h2 = client.h2().await;
        for (status, request) in requests() {
            let what = format!("{request:?}");
            assert_eq!(whole(h2.send_request(request).await.unwrap()).await.status(), status, "{what} by HTTP/2");
        }
        for (status, mut request) in requests() {
            let mut h1 = client.h1().await;
            request.headers_mut().insert("host", NAME.parse().unwrap());
            let what = format!("{request:?}");
            assert_eq!(whole(h1.send_request(request).await.unwrap()).await.status(), status, "{what} by HTTP/1.1");
        }
        let mut h3 = client.h3().await;
        for (status, request) in requests() {
            let what = format!("{request:?}");
            assert_eq!(ask_h3(&mut h3, request).await.status(), status, "{what} by HTTP/3");
        }
        for length in [5, good.len() + 1] {
            let mut malformed = request(&good);
            malformed.headers_mut().insert("content-length", length.into());
            assert_eq!(ask_h3(&mut h3, malformed).await.status(), 400, "{length} by HTTP/3");
        }
        let mut longest = request(&vec![0; 65_535]);
        longest.headers_mut().insert("content-length", 65_535.into());
        assert_ne!(ask_h3(&mut h3, longest).await.status(), 413);
    });
}

#[test]
fn answers_many_concurrent_queries() {
    const QUERIES: u16 = 300;
    let server = SecureServer::start(&tree("zones"), "");
    let client = server.client("127.1.0.7");
    let name = "sqs.us-east-1.amazonaws.com";
    let check = |reply: Vec<u8>| assert_eq!(Reply::of_message(&reply).data("A"), ["127.2.0.10"]);
    RUNTIME.block_on(async {
        let doq = client.quic(Transport::Quic).await;
        let mut all = JoinSet::new();
        for _ in 0..QUERIES {
            let doq = doq.clone();
            all.spawn(async move { ask_quic(&doq, &query(0, name)).await.unwrap() });
        }
        all.join_all().await.into_iter().for_each(check);

        let h2 = client.h2().await;
        let mut all = JoinSet::new();
        for _ in 0..QUERIES {
            let mut h2 = h2.clone();
            all.spawn(async move { message(post(&mut h2, &query(0, name)).await) });
        }
        all.join_all().await.into_iter().for_each(check);

        let h3 = client.h3().await;
        let mut all = JoinSet::new();
        for _ in 0..QUERIES {
            let mut h3 = h3.clone();
            all.spawn(async move { message(ask_h3(&mut h3, request(&query(0, name))).await) });
        }
        all.join_all().await.into_iter().for_each(check);

        let mut tls = client.tls(Transport::Tls, "dot").await;
        for id in 0..QUERIES {
            send_stream(&mut tls, &query(id, name)).await.unwrap();
        }
        for id in 0..QUERIES {
            let reply = receive_stream(&mut tls).await.unwrap();
            assert_eq!(reply[..2], id.to_be_bytes());
            check(reply);
        }
    });
    for transport in ["tls", "https", "quic", "h3"] {
        let labels = format!(r#"outcome="endpoint",rcode="NOERROR",transport="{transport}",view="vpc-app""#);
        let name = format!("zonal_answers_total{{{labels}}}");
        server.wait_for_metric(&name, QUERIES.into());
    }
}

#[test]
fn doq_protocol_errors_close_the_connection() {
    let server = SecureServer::start(&tree("zones"), "");
    let client = server.client("127.1.0.7");
    let framed = |query: &[u8]| [&(query.len() as u16).to_be_bytes()[..], query].concat();
    let good = query(0, "sqs.us-east-1.amazonaws.com");
    let mut with_keepalive = Message::from_vec(&good).unwrap();
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(11, vec![]));
    with_keepalive.set_edns(edns);
    RUNTIME.block_on(async {
        for (what, octets) in [
            ("an ID", framed(&query(1, "sqs.us-east-1.amazonaws.com"))),
            ("two messages", [framed(&good), framed(&good)].concat()),
            ("an incomplete message", framed(&good)[..20].to_vec()),
            ("nothing", vec![]),
            ("keepalive", framed(&with_keepalive.to_vec().unwrap())),
        ] {
            let connection = client.quic(Transport::Quic).await;
            let (mut send, _recv) = connection.open_bi().await.unwrap();
            send.write_all(&octets).await.unwrap();
            send.finish().unwrap();
            let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await else { panic!("{what}") };
            assert_eq!(close.error_code.into_inner(), 2, "{what}: DOQ_PROTOCOL_ERROR");
        }
        // A client that cancels its query does not affect others.
        let connection = client.quic(Transport::Quic).await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&framed(&good)[..20]).await.unwrap();
        send.reset(3_u32.into()).unwrap();
        assert!(ask_quic(&connection, &good).await.is_ok());
    });
}

#[test]
fn an_entry_point_accepts_its_protocols_only() {
    let directory = Scratch::new();
    let manifest = r#"
vpcs:
  vpc: {region: us-east-1, cidr_blocks: [127.61.0.0/16], resolver_addresses: [127.61.0.2]}
resolver_endpoints:
  do53: {direction: INBOUND, vpc_id: vpc, ip_addresses: [{ip: 127.61.1.1}]}
  dot: {direction: INBOUND, vpc_id: vpc, protocols: [DoT], ip_addresses: [{ip: 127.61.1.2}]}
  doh: {direction: INBOUND, vpc_id: vpc, protocols: [DoH, Do53], ip_addresses: [{ip: 127.61.1.3}]}
  doq: {direction: INBOUND_DELEGATION, vpc_id: vpc, protocols: [DoQ], ip_addresses: [{ip: 127.61.1.4}]}
private_hosted_zones:
  Z: {name: z.example, vpc_ids: [vpc], records: [{name: a, type: A, records: [192.0.2.1]}]}
"#;
    directory.write("manifest.yaml", manifest);
    let server = SecureServer::start(directory.path(), "");
    for (local, words) in [
        ("127.61.0.2", "udp tcp tls https quic h3"),
        ("127.0.0.1", "udp tcp tls https quic h3"),
        ("127.61.1.1", "udp tcp"),
        ("127.61.1.2", "tls"),
        ("127.61.1.3", "udp tcp https h3"),
        ("127.61.1.4", "quic"),
    ] {
        let client = Client { local: local.parse().unwrap(), ..server.client("127.61.0.7") };
        for (transport, word) in Transport::LABELS {
            let reply = Reply::of_message(&RUNTIME.block_on(client.ask(transport, &query(0, "a.z.example"))));
            let (status, ede) = match words.split(' ').any(|other| other == word) {
                true => ("NOERROR", &[][..]),
                false => ("REFUSED", &[18][..]),
            };
            assert_eq!((&*reply.status, &*reply.ede), (status, ede), "{local} by {word}");
        }
    }
}

/// Answers each query with the same address after a second, until the test ends.
fn slow_target() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut query = [0; 4096];
        while let Ok((len, client)) = socket.recv_from(&mut query) {
            let mut message = Message::from_vec(&query[..len]).unwrap();
            message.metadata.message_type = MessageType::Response;
            let mut reply = message.to_vec().unwrap();
            reply[7] = 1;
            // The record is before the OPT record.
            let end = 12 + reply[12..].iter().position(|octet| *octet == 0).unwrap() + 5;
            reply.splice(end..end, *b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07");
            let socket = socket.try_clone().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(1));
                let _ = socket.send_to(&reply, client);
            });
        }
    });
    port
}

#[test]
fn forwarded_queries_delay_nothing_and_survive_a_stop() {
    let directory = Scratch::new();
    let manifest = format!(
        r#"
vpcs:
  vpc: {{region: us-east-1, cidr_blocks: [127.62.0.0/16]}}
resolver_endpoints:
  out: {{direction: OUTBOUND, vpc_id: vpc, ip_addresses: [{{ip: 127.62.1.1}}]}}
resolver_rules:
  slow: {{domain_name: slow.example, rule_type: FORWARD, vpc_ids: [vpc], resolver_endpoint_id: out,
    target_ips: [{{ip: 127.0.0.1, port: {}}}]}}
private_hosted_zones:
  Z: {{name: z.example, vpc_ids: [vpc], records: [{{name: a, type: A, records: [192.0.2.1]}}]}}
"#,
        slow_target()
    );
    directory.write("manifest.yaml", manifest);
    let mut server = SecureServer::start(directory.path(), "");
    let slow = |n: u32| query(0, &format!("n{n}.slow.example"));
    let quick = query(0, "a.z.example");
    let check = |reply: &[u8], expected: &str| {
        let reply = Reply::of_message(reply);
        assert_eq!(reply.data("A"), [expected], "{reply}");
    };
    RUNTIME.block_on(async {
        let client = server.client("127.62.0.7");
        let mut tls = client.tls(Transport::Tls, "").await;
        let (mut h2, h2_too) = {
            let h2 = client.h2().await;
            (h2.clone(), h2)
        };
        let (mut h3, h3_too) = {
            let h3 = client.h3().await;
            (h3.clone(), h3)
        };
        let doq = client.quic(Transport::Quic).await;
        for stop in [false, true] {
            let first = if stop { 10 } else { 0 };
            let start = Instant::now();
            let (slow_h2, slow_h3, slow_doq) = (
                tokio::spawn({
                    let (mut h2, query) = (h2_too.clone(), slow(first));
                    async move { message(post(&mut h2, &query).await) }
                }),
                tokio::spawn({
                    let (mut h3, query) = (h3_too.clone(), slow(first + 1));
                    async move { message(ask_h3(&mut h3, request(&query)).await) }
                }),
                tokio::spawn({
                    let (doq, query) = (doq.clone(), slow(first + 2));
                    async move { ask_quic(&doq, &query).await.unwrap() }
                }),
            );
            send_stream(&mut tls, &slow(first + 3)).await.unwrap();
            check(&ask_stream(&mut tls, &quick).await.unwrap(), "192.0.2.1");
            check(&message(post(&mut h2, &quick).await), "192.0.2.1");
            check(&message(ask_h3(&mut h3, request(&quick)).await), "192.0.2.1");
            check(&ask_quic(&doq, &quick).await.unwrap(), "192.0.2.1");
            assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
            if stop {
                server.signal(Signal::TERM);
            }
            check(&receive_stream(&mut tls).await.unwrap(), "192.0.2.7");
            check(&slow_h2.await.unwrap(), "192.0.2.7");
            check(&slow_h3.await.unwrap(), "192.0.2.7");
            check(&slow_doq.await.unwrap(), "192.0.2.7");
            assert!(start.elapsed() >= Duration::from_secs(1));
        }
        let closed = timeout(Duration::from_secs(5), doq.closed()).await.unwrap();
        let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
        assert_eq!(close.error_code.into_inner(), 0, "DOQ_NO_ERROR");
        assert_eq!(tls.read(&mut [0; 1]).await.unwrap(), 0, "TLS says that it ends");
    });
    wait_until("the server has ended", || server.process.ended());
}

#[test]
fn closes_slow_and_idle_connections() {
    let server =
        SecureServer::start(&tree("zones"), "limits: {tcp_idle_timeout_seconds: 1, tcp_connections_per_client: 12}");
    let client = server.client("127.1.0.7");
    let good = query(0, "sqs.us-east-1.amazonaws.com");
    RUNTIME.block_on(async {
        let start = Instant::now();
        let limit = Duration::from_secs(5);
        // The client does not start the TLS handshake, or sends nothing after it.
        let mut silent = client.tcp(Transport::Tls).await;
        let mut silent_https = client.tcp(Transport::Https).await;
        let mut idle = client.tls(Transport::Tls, "").await;
        let mut idle_h2 = client.tls(Transport::Https, "h2").await;
        idle_h2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        // The client sends only a part of a message.
        let mut half = client.tls(Transport::Tls, "").await;
        half.write_all(&[0, 99, 1]).await.unwrap();
        let mut header = client.tls(Transport::Https, "http/1.1").await;
        header.write_all(b"GET /dns-query?dns=").await.unwrap();
        let mut body = client.tls(Transport::Https, "http/1.1").await;
        let head = "POST /dns-query HTTP/1.1\r\nhost: zonal\r\ncontent-type: application/dns-message\r\ncontent-length: 99\r\n\r\nx";
        body.write_all(head.as_bytes()).await.unwrap();
        let doq = client.quic(Transport::Quic).await;
        let (mut send, mut recv) = doq.open_bi().await.unwrap();
        send.write_all(&[0]).await.unwrap();
        // The clients send keep-alives, so that QUIC's own time-out does not end the connections.
        let idle_doq = client.quic(Transport::Quic).await;
        assert!(ask_quic(&idle_doq, &good).await.is_ok());
        let idle_h3 = client.quic(Transport::H3).await;
        let end = async |stream: &mut (dyn tokio::io::AsyncRead + Unpin + Send)| {
            let mut rest = Vec::new();
            let _ = timeout(limit, stream.read_to_end(&mut rest)).await.expect("an end");
            String::from_utf8_lossy(&rest).into_owned()
        };
        end(&mut silent).await;
        end(&mut silent_https).await;
        end(&mut idle).await;
        end(&mut idle_h2).await;
        end(&mut half).await;
        end(&mut header).await;
        assert!(end(&mut body).await.starts_with("HTTP/1.1 408 "));
        assert!(timeout(limit, recv.read_to_end(9)).await.unwrap().is_err());
        timeout(limit, doq.closed()).await.unwrap();
        timeout(limit, idle_doq.closed()).await.unwrap();
        timeout(limit, idle_h3.closed()).await.unwrap();
        assert!(start.elapsed() > Duration::from_millis(900));
    });
    server.wait_for_metric("zonal_tcp_connections", 0.0);
    for (name, least) in [
        (r#"zonal_tls_handshakes_failed_total{transport="tls"}"#, 1.0),
        (r#"zonal_tls_handshakes_failed_total{transport="https"}"#, 1.0),
        (r#"zonal_tcp_timeouts_total{reason="incomplete"}"#, 3.0),
        (r#"zonal_tcp_timeouts_total{reason="idle"}"#, 4.0),
    ] {
        wait_until(name, || (server.metric(name)? >= least).then_some(()));
    }

    // QUIC connections count like TCP connections.
    RUNTIME.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..6 {
            connections.push(client.quic(Transport::Quic).await);
        }
        let mut streams = Vec::new();
        for _ in 0..6 {
            streams.push(client.tls(Transport::Tls, "").await);
        }
        let mut one_more = client.tcp(Transport::Tls).await;
        assert_eq!(one_more.read(&mut [0; 1]).await.unwrap_or(0), 0);
    });
    server.wait_for_metric(r#"zonal_tcp_connections_total{result="client_limit"}"#, 1.0);
}

#[test]
fn closes_connections_of_the_client_with_most() {
    let server = SecureServer::start(&tree("zones"), "limits: {tcp_connections: 4}");
    let good = query(0, "sqs.us-east-1.amazonaws.com");
    RUNTIME.block_on(async {
        let hoarder = server.client("127.1.0.7");
        let mut dot = hoarder.tls(Transport::Tls, "").await;
        send_stream(&mut dot, &good).await.unwrap();
        receive_stream(&mut dot).await.unwrap();
        let mut h2 = hoarder.h2().await;
        post(&mut h2, &good).await;
        let doq = hoarder.quic(Transport::Quic).await;
        ask_quic(&doq, &good).await.unwrap();
        let mut h3 = hoarder.h3().await;
        ask_h3(&mut h3, request(&good)).await;
        let mut others = Vec::new();
        for source in ["127.1.0.8", "127.1.0.9", "127.1.0.10"] {
            let mut other = server.client(source).tls(Transport::Tls, "").await;
            send_stream(&mut other, &good).await.unwrap();
            receive_stream(&mut other).await.unwrap();
            others.push(other);
        }
        let limit = Duration::from_secs(60);
        assert_eq!(timeout(limit, dot.read(&mut [0; 1])).await.expect("an end").unwrap_or(0), 0);
        while h2.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        timeout(limit, doq.closed()).await.unwrap();
        assert_eq!(message(ask_h3(&mut h3, request(&good)).await).len(), 468);
    });
    server.wait_for_metric(r#"zonal_tcp_timeouts_total{reason="displaced"}"#, 3.0);
}

#[test]
fn reads_changed_certificates() {
    let scratch = Scratch::new();
    let (first, second) = (Certificate::until(2998), Certificate::until(2997));
    // Kubernetes mounts secrets like this: links through a link that it replaces.
    for (name, certificate) in [("..1", &first), ("..2", &second)] {
        scratch.write(&format!("{name}/tls.crt"), &certificate.certificate);
        scratch.write(&format!("{name}/tls.key"), &certificate.private_key);
    }
    let link = |to: &str, name: &str| {
        let draft = scratch.path().join("draft");
        std::os::unix::fs::symlink(to, &draft).unwrap();
        std::fs::rename(draft, scratch.path().join(name)).unwrap();
    };
    let path = scratch.path().to_path_buf();
    link("..1", "..data");
    link("..data/tls.crt", "tls.crt");
    link("..data/tls.key", "tls.key");
    let expired = Certificate::until(2001);
    let name = format!(r#"{{certificate="{}"}}"#, path.join("tls.crt").display());
    let expiry = format!("zonal_certificate_expiry_timestamp_seconds{name}");
    let failed = format!("zonal_certificate_reload_failed{name}");
    let swap = |to: &str| {
        let draft = path.join("draft");
        std::os::unix::fs::symlink(to, &draft).unwrap();
        std::fs::rename(draft, path.join("..data")).unwrap();
    };
    let ask_all = |server: &SecureServer| {
        for transport in ENCRYPTED {
            let reply =
                RUNTIME.block_on(server.client("127.1.0.7").ask(transport, &query(0, "sqs.us-east-1.amazonaws.com")));
            assert_eq!(Reply::of_message(&reply).status, "NOERROR");
        }
    };
    let year = |year: i64| ((year - 1970) as f64 * 365.2425 * 86_400.0, 3.0 * 86_400.0);
    let is =
        |value: Option<f64>, (expected, tolerance): (f64, f64)| value.is_some_and(|v| (v - expected).abs() < tolerance);

    let mut server = SecureServer::start_in(scratch, first, &tree("zones"), "");
    ask_all(&server);
    assert!(is(server.metric(&expiry), year(2999)), "{:?}", server.metric(&expiry));
    server.wait_for_metric(&failed, 0.0);

    swap("..2");
    wait_until("the second certificate is in use", || is(server.metric(&expiry), year(2998)).then_some(()));
    server.certificate = second;
    ask_all(&server);

    // zonal reports bad certificates, and continues to use the previous certificate.
    let bad = |server: &SecureServer, name: &str, certificate: &str, key: &str, reason: &str| {
        std::fs::create_dir(path.join(name)).unwrap();
        std::fs::write(path.join(name).join("tls.crt"), certificate).unwrap();
        std::fs::write(path.join(name).join("tls.key"), key).unwrap();
        swap(name);
        server.process.wait_for_log(reason);
        server.wait_for_metric(&failed, 1.0);
        ask_all(server);
    };
    let at = path.display();
    let third = Certificate::until(2996);
    bad(
        &server,
        "..3",
        &third.certificate,
        &server.certificate.private_key,
        &format!("{at}/tls.key is not the private key of {at}/tls.crt"),
    );
    bad(&server, "..4", "", "", &format!("certificate {at}/tls.crt: the file has no certificate"));
    bad(&server, "..5", &third.certificate, "", &format!("private key {at}/tls.key: the file has no private key"));
    bad(
        &server,
        "..6",
        &expired.certificate,
        &expired.private_key,
        &format!("certificate {at}/tls.crt: it has expired"),
    );
    std::fs::remove_file(path.join("..data")).unwrap();
    server.process.wait_for_log(&format!("certificate {at}/tls.crt: cannot be read"));

    // The certificate file changes before the key file; then a signal arrives.
    std::fs::create_dir(path.join("..7")).unwrap();
    std::fs::write(path.join("..7/tls.crt"), &third.certificate).unwrap();
    std::fs::write(path.join("..7/tls.key"), &third.private_key).unwrap();
    std::os::unix::fs::symlink("..7", path.join("..data")).unwrap();
    server.signal(Signal::HUP);
    wait_until("the third certificate is in use", || is(server.metric(&expiry), year(2997)).then_some(()));
    server.wait_for_metric(&failed, 0.0);
    server.certificate = third;
    ask_all(&server);
}

#[test]
fn a_bad_certificate_at_the_start_is_an_error() {
    let scratch = Scratch::new();
    let certificate = Certificate::until(2999);
    scratch.write("good.crt", &certificate.certificate);
    scratch.write("good.key", &certificate.private_key);
    scratch.write("other.key", Certificate::until(2999).private_key);
    scratch.write("bad.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let at = scratch.path().display();
    for (tls, expected) in [
        (
            "certificate: none.crt, private_key: good.key",
            format!("certificate {at}/none.crt: cannot be read: No such file"),
        ),
        (
            "certificate: good.crt, private_key: none.key",
            format!("private key {at}/none.key: cannot be read: No such file"),
        ),
        ("certificate: bad.crt, private_key: good.key", format!("certificate {at}/bad.crt: not an X.509 certificate")),
        (
            "certificate: good.crt, private_key: other.key",
            format!("{at}/other.key is not the private key of {at}/good.crt"),
        ),
        ("certificate: good.crt", "DoT needs `tls` with `certificate` and `private_key`".into()),
    ] {
        let config = format!(
            "listen: [{{address: '127.0.0.1:0', protocol: DoT, tls: {{{tls}}}}}]\ncontrol_plane: {{directory: {}}}\n\
             admin: {{address: '127.0.0.1:0'}}",
            tree("zones").display()
        );
        let config = scratch.write("zonal.yaml", config);
        let output = Command::new(ZONAL).args(["serve", "--config"]).arg(config).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{tls}: {errors}");
        assert!(errors.contains(&expected), "{expected} in {errors}");
    }
}

/// Each response is complete, and a cancelled stream leaves no data in memory.
#[test]
fn cancelled_streams_leave_nothing() {
    let server = SecureServer::start(&tree("zones"), "");
    let client = server.client("127.1.0.7");
    let good = query(0, "sqs.us-east-1.amazonaws.com");
    RUNTIME.block_on(async {
        let mut h3 = client.h3().await;
        for _ in 0..600 {
            let mut stream =
                h3.send_request(Request::post(format!("https://{NAME}/dns-query")).body(()).unwrap()).await.unwrap();
            stream.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED);
        }
        let response: Response<Bytes> = ask_h3(&mut h3, request(&good)).await;
        assert_eq!(response.body().remaining(), 468);
        let mut h2 = client.h2().await;
        for _ in 0..600 {
            // The server may have closed the connection.
            while h2.ready().await.is_err() {
                h2 = client.h2().await;
            }
            drop(tokio::time::timeout(Duration::ZERO, h2.send_request(request(&good))).await);
        }
        assert_eq!(post(&mut client.h2().await, &good).await.body().len(), 468);
    });
}

/// A reply that is longer than the MTU of the interface is truncated, because answers have the flag "don't fragment".
#[test]
fn a_reply_that_does_not_fit_the_interface_sends_the_client_to_tcp() {
    let mut lab = Lab::new();
    lab.router("router");
    lab.host("server", "router", &["10.1.0.2"]);
    lab.host("client", "router", &["10.1.0.7"]);
    let strings = (0..10).map(|number| format!("\"{}\"", number.to_string().repeat(90))).collect::<Vec<_>>().join(" ");
    lab.scratch.write(
        "zones/manifest.yaml",
        format!(
            "vpcs: {{app: {{region: r, cidr_blocks: [10.1.0.0/16]}}}}\n\
             private_hosted_zones:\n  z:\n    name: z.example\n    vpc_ids: [app]\n    records:\n      \
             - {{name: long, type: TXT, records: ['{strings}']}}\n"
        ),
    );
    let listen = "listen: [{address: \"10.1.0.2:53\"}]\n";
    let config = lab
        .scratch
        .write("zonal.yaml", format!("{listen}control_plane: {{directory: zones}}\ninternet_resolver: none\n"));
    let mut server = lab.start("server", &[ZONAL, "serve", "--config", config.to_str().unwrap()]);
    let ask =
        |options: &str| lab.dig("client", &format!("@10.1.0.2 long.z.example TXT +time=2 +bufsize=1232 {options}"));
    wait_until("zonal answers", || {
        server.assert_alive();
        (ask("").status == "NOERROR").then_some(())
    });
    let whole = ask("+ignore");
    assert_eq!((whole.answer.len(), whole.flags.contains("tc")), (1, false), "{whole:?}");
    let output = lab.run("server", &["ip", "link", "set", "dev", "eth0", "mtu", "700"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let truncated = ask("+ignore");
    assert_eq!((truncated.answer.len(), truncated.flags.contains("tc")), (0, true), "{truncated:?}");
    assert_eq!(ask("").answer, whole.answer);
}
