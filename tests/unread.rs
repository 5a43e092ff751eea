//! Clients that request large answers without reading them use bounded memory, which the server
//! releases afterwards.

use crate::harness::{
    Scratch,
    fake::{Asked, Fake, Say},
    http_get,
    secure::{Client, RUNTIME, SecureServer, receive_stream, request, send_stream},
    wait_until,
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RData, Record, RecordType, rdata::TXT},
};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
};
use zonal::answer::Transport;

/// The number of connections, each from a different address, and of queries on each.
const CONNECTIONS: u8 = 36;
const QUERIES: usize = 128;
/// The interval in which a QUIC client keeps its connection alive. Between that, the server has nothing to do.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The approximate size of an answer, in kB.
const ANSWER_KB: u64 = 59;
/// The maximum growth of memory, in kB: the limit of each connection, the connections themselves,
/// their waiting queries, and the cache. Without a limit, the growth is far larger.
const MAX_GROWTH_KB: u64 = 120 << 10;
/// The maximum growth of memory after the connections are closed, in kB: the cache, and the memory
/// that each thread keeps for its next allocations.
const MAX_LEFT_KB: u64 = 64 << 10;
/// The number of record sets with the size of such an answer in a large zone.
const ZONE_SETS: usize = 150;

fn text() -> Vec<Record> {
    let owner = Name::from_ascii("large.example.").unwrap();
    (0..ANSWER_KB * 4)
        .map(|n| {
            let strings = vec![format!("{n:0236}")];
            Record::from_rdata(owner.clone(), 300, RData::TXT(TXT::new(strings)))
        })
        .collect()
}

fn large(asked: &Asked) -> Vec<u8> {
    let owner = asked.owner();
    let records = text().into_iter().map(|mut record| {
        record.name = owner.clone();
        record
    });
    asked.with(records.collect())
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::TXT));
    message.set_edns(Edns::new());
    message.to_vec().unwrap()
}

/// A server with a large answer in its own zone, and an upstream server that delays its answers.
fn server() -> (Fake, Scratch, SecureServer) {
    let fake = Fake::start("127.0.0.1:0", |asked| match asked.tcp {
        false => vec![Say::Now(asked.truncated())],
        // All queries for the name wait at the same time.
        true => vec![Say::Later(Duration::from_millis(1500), large(asked))],
    });
    let directory = Scratch::new();
    let records: Vec<String> = (0..ANSWER_KB * 4).map(|n| format!("'\"{n:0236}\"'")).collect();
    directory.write(
        "manifest.yaml",
        format!(
            "vpcs:\n  vpc: {{region: us-east-1, cidr_blocks: [127.61.0.0/16], resolver_addresses: [127.61.0.2]}}\n\
             resolver_endpoints:\n  out: {{direction: OUTBOUND, vpc_id: vpc, ip_addresses: [{{ip: 127.61.0.9}}]}}\n\
             resolver_rules:\n  late: {{domain_name: late.example, rule_type: FORWARD, vpc_ids: [vpc], \
             resolver_endpoint_id: out, target_ips: [{}]}}\n\
             private_hosted_zones:\n  Z: {{name: example, vpc_ids: [vpc], records: [{{name: large, type: TXT, records: [{}]}}]}}\n",
            fake.target(),
            records.join(", ")
        ),
    );
    let server = SecureServer::start(directory.path(), "limits: {tcp_idle_timeout_seconds: 60}");
    (fake, directory, server)
}

/// The maximum growth of memory during `work`, in kB, until the server is idle.
fn growth(server: &SecureServer, work: impl FnOnce()) -> u64 {
    let before = server.process.resident_kb();
    std::fs::write(format!("/proc/{}/clear_refs", server.process.id()), "5").unwrap();
    work();
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let mut last = ticks();
    wait_until("the server has nothing more to do", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = ticks();
        // Kept-alive connections use a little CPU time.
        let idle = now - last < 10;
        last = now;
        idle.then_some(())
    });
    server.process.status("VmHWM:").saturating_sub(before)
}

fn clients(server: &SecureServer) -> impl Iterator<Item = Client<'_>> {
    (0..CONNECTIONS).map(|n| Client {
        source: [127, 61, 1, n].into(),
        local: [127, 61, 0, 2].into(),
        ..server.client("127.0.0.1")
    })
}

async fn pipeline(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    queries: impl Iterator<Item = Vec<u8>>,
) -> impl Sized {
    for query in queries {
        send_stream(&mut stream, &query).await.unwrap();
    }
    stream.flush().await.unwrap();
    stream
}

fn late_queries() -> impl Iterator<Item = Vec<u8>> {
    (0..QUERIES).map(|n| query(&format!("n{n}.late.example.")))
}

/// A connection whose client has a small receive buffer.
async fn tcp(client: &Client<'_>, transport: Transport) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind((client.source, 0).into()).unwrap();
    socket.connect(client.server.at(transport, client.local)).await.unwrap()
}

fn assert_bounded(what: &str, grown_kb: u64) {
    println!("{what}: {grown_kb} kB");
    assert!(grown_kb < MAX_GROWTH_KB, "{what}: {grown_kb} kB for answers that nobody reads");
}

/// Waits until the idle server has returned its memory to the system.
fn assert_given_back(what: &str, server: &SecureServer, max_kb: u64) {
    let mut least = u64::MAX;
    wait_until(&format!("{what}: the server has at most {max_kb} kB"), || {
        std::thread::sleep(Duration::from_millis(500));
        let left = server.process.anonymous_kb();
        if left < least {
            println!("{what}: {left} kB are left");
            least = left;
        }
        (left < max_kb).then_some(())
    });
}

#[test]
fn unread_tcp_answers_take_bounded_memory() {
    let (fake, _directory, server) = server();
    let (before, mut streams) = (server.process.anonymous_kb(), Vec::new());
    let grown = growth(&server, || {
        RUNTIME.block_on(async {
            for client in clients(&server) {
                streams.push(pipeline(tcp(&client, Transport::Tcp).await, late_queries()).await);
            }
        });
        wait_until("the forwarder was asked for everything", || {
            (fake.count(|asked| asked.tcp) >= QUERIES).then_some(())
        });
        // The delayed answers have arrived.
        std::thread::sleep(Duration::from_secs(3));
    });
    assert_bounded("TCP", grown);
    drop(streams);
    assert_given_back("TCP", &server, before + MAX_LEFT_KB);
}

#[test]
fn unread_http2_answers_take_bounded_memory() {
    let (_fake, _directory, server) = server();
    let (before, mut requests, mut connections) = (server.process.anonymous_kb(), JoinSet::new(), JoinSet::new());
    let grown = growth(&server, || {
        RUNTIME.block_on(async {
            for client in clients(&server) {
                let stream = client.tls(Transport::Https, "h2").await;
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.initial_stream_window_size(0).max_concurrent_reset_streams(0);
                let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
                connections.spawn(connection);
                for _ in 0..QUERIES {
                    sender.ready().await.unwrap();
                    let sent = sender.send_request(request(&query("large.example.")));
                    requests.spawn(async move {
                        let _response = sent.await;
                        std::future::pending::<()>().await;
                    });
                }
            }
        });
    });
    assert_bounded("HTTP/2", grown);
    RUNTIME.block_on(async {
        requests.shutdown().await;
        connections.shutdown().await;
    });
    assert_given_back("HTTP/2", &server, before + MAX_LEFT_KB);
}

#[test]
fn unread_quic_answers_take_bounded_memory() {
    let (_fake, _directory, server) = server();
    for transport in [Transport::Quic, Transport::H3] {
        let (before, mut streams) = (server.process.anonymous_kb(), Vec::new());
        let grown = growth(&server, || {
            RUNTIME.block_on(async {
                for client in clients(&server) {
                    let credit: u32 = if transport == Transport::H3 { 1000 } else { 0 };
                    let connection = client.quic_with(transport, |config| {
                        config.stream_receive_window(credit.into());
                        config.keep_alive_interval(Some(KEEP_ALIVE));
                    });
                    let connection = connection.await;
                    if transport == Transport::Quic {
                        for _ in 0..QUERIES {
                            let (mut send, recv) = connection.open_bi().await.unwrap();
                            let query = query("large.example.");
                            let length = (query.len() as u16).to_be_bytes();
                            send.write_all(&[&length[..], &query].concat()).await.unwrap();
                            send.finish().unwrap();
                            streams.push(Box::new((send, recv)) as Box<dyn std::any::Any>);
                        }
                    } else {
                        let h3 = h3_quinn::Connection::new(connection.clone());
                        let (mut driver, mut sender) = h3::client::new(h3).await.unwrap();
                        tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
                        for _ in 0..QUERIES {
                            let (parts, body) = request(&query("large.example.")).into_parts();
                            let head = hyper::Request::from_parts(parts, ());
                            let mut stream = sender.send_request(head).await.unwrap();
                            let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
                            stream.send_data(body).await.unwrap();
                            stream.finish().await.unwrap();
                            streams.push(Box::new(stream));
                        }
                        streams.push(Box::new(sender));
                    }
                    streams.push(Box::new(connection));
                }
            });
        });
        assert_bounded(&format!("{transport:?}"), grown);
        RUNTIME.block_on(async { drop(streams) });
        assert_given_back(&format!("{transport:?}"), &server, before + MAX_LEFT_KB);
    }
}

/// Writes a manifest with a zone of `sets` large record sets, which clients can transfer.
fn write_zone(directory: &Scratch, sets: usize) {
    let values: Vec<String> = (0..ANSWER_KB * 4).map(|n| format!("\"\\\"{n:0236}\\\"\"")).collect();
    let set = |n: usize| format!("{{\"name\": \"n{n}\", \"type\": \"TXT\", \"records\": [{}]}}", values.join(","));
    let sets: Vec<String> = (0..sets).map(set).collect();
    directory.write(
        "manifest.json",
        format!(
            "{{\"vpcs\": {{\"vpc\": {{\"region\": \"r\", \"cidr_blocks\": [\"127.61.0.0/16\"], \"resolver_addresses\": [\"127.61.0.2\"]}}}},\
             \"private_hosted_zones\": {{\"Z\": {{\"name\": \"example\", \"vpc_ids\": [\"vpc\"], \"allow_transfer\": [{{\"cidr_block\": \"127.61.0.0/16\"}}], \
             \"records\": [{}]}}}}}}",
            sets.join(",")
        ),
    );
}

/// A server with a large zone.
fn server_of_a_large_zone() -> (Scratch, SecureServer) {
    let directory = Scratch::new();
    write_zone(&directory, ZONE_SETS);
    let server = SecureServer::start(directory.path(), "limits: {tcp_idle_timeout_seconds: 60}");
    (directory, server)
}

#[test]
fn the_memory_of_a_large_manifest_returns_when_a_small_one_replaces_it() {
    let directory = Scratch::new();
    write_zone(&directory, 1);
    let server = SecureServer::start(directory.path(), "");
    let before = server.process.anonymous_kb();
    let load = |sets: usize| {
        let generation = server.metric("zonal_generation").unwrap();
        write_zone(&directory, sets);
        wait_until("the manifest is loaded", || (server.metric("zonal_generation") > Some(generation)).then_some(()));
    };
    load(2 * ZONE_SETS);
    let grown = server.process.anonymous_kb() - before;
    assert!(grown > 2 * ZONE_SETS as u64 * ANSWER_KB, "{grown} kB for a large manifest");
    load(2);
    assert_given_back("a large manifest", &server, before + grown / 2);
}

#[test]
fn transfers_that_are_not_read_take_bounded_memory() {
    let (_directory, server) = server_of_a_large_zone();
    // DoQ closes a connection with an ID other than 0 (RFC 9250, 4.2.1).
    let axfr = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x07example\0\0\xfc\0\x01".to_vec();
    let queries = || (0..QUERIES).map(|_| axfr.clone());
    let before = server.process.anonymous_kb();
    let (mut plain, mut encrypted, mut quic) = (Vec::new(), Vec::new(), Vec::new());
    let grown = growth(&server, || {
        RUNTIME.block_on(async {
            for client in clients(&server) {
                plain.push(pipeline(tcp(&client, Transport::Tcp).await, queries()).await);
                encrypted.push(pipeline(client.tls(Transport::Tls, "").await, queries()).await);
                let connection = client.quic_with(Transport::Quic, |config| {
                    config.stream_receive_window(1000_u32.into());
                    config.keep_alive_interval(Some(KEEP_ALIVE));
                });
                let connection = connection.await;
                for query in queries() {
                    let (mut send, recv) = connection.open_bi().await.unwrap();
                    send.write_all(&[&[0, query.len() as u8][..], &query].concat()).await.unwrap();
                    send.finish().unwrap();
                    quic.push((connection.clone(), send, recv));
                }
            }
        });
    });
    assert_bounded("AXFR", grown);
    RUNTIME.block_on(async { drop((plain, encrypted, quic)) });
    assert_given_back("AXFR", &server, before + MAX_LEFT_KB);
}

#[test]
fn pages_of_the_admin_api_that_are_not_read_take_bounded_memory() {
    let (_directory, server) = server_of_a_large_zone();
    for path in [
        "/v1/manifest",
        "/v1/private_hosted_zones",
        "/v1/private_hosted_zones/Z",
        "/v1/cache?limit=10000",
        "/v1/journals",
        "/v1/status",
        "/metrics",
        "/v1/openapi.json",
    ] {
        let (before, mut streams) = (server.process.anonymous_kb(), Vec::new());
        let grown = growth(&server, || {
            for _ in 0..100 {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_recv_buffer_size(4096).unwrap();
                socket.connect(&server.admin.into()).unwrap();
                let mut stream = std::net::TcpStream::from(socket);
                std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
                    .unwrap();
                streams.push(stream);
            }
        });
        assert_bounded(path, grown);
        drop(streams);
        assert_given_back(path, &server, before + MAX_LEFT_KB);
        let (status, page) = wait_until("it is served to a client that reads", || http_get(server.admin, path));
        assert_eq!(status, 200, "{path}: {page}");
    }
}

#[test]
fn a_client_that_reads_gets_all_answers_beyond_the_limit() {
    let (_fake, _directory, server) = server();
    RUNTIME.block_on(async {
        let client = clients(&server).next().unwrap();
        for transport in [Transport::Tcp, Transport::Tls] {
            let mut stream: Box<dyn Stream> = match transport {
                Transport::Tcp => Box::new(client.tcp(transport).await),
                _ => Box::new(client.tls(transport, "").await),
            };
            let name = |n| format!("{transport:?}{n}.late.example.");
            for n in 0..30 {
                send_stream(&mut stream, &query(&name(n))).await.unwrap();
            }
            for _ in 0..30 {
                let reply = receive_stream(&mut stream).await.unwrap();
                assert!(reply.len() as u64 > (ANSWER_KB - 1) * 1000, "{}", reply.len());
            }
        }
    });
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}
