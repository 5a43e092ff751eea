//! UDP answers that would amplify an attack: large answers, and late answers.

use crate::harness::{
    Scratch, Server,
    fake::{Fake, Say},
    secure::{RUNTIME, ask_stream},
    wait_until,
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RecordType, rdata::opt::EdnsOption},
};
use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

fn query(id: u16, name: &str, rtype: RecordType, cookie: Option<&[u8]>) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    if let Some(cookie) = cookie {
        edns.options_mut().insert(EdnsOption::Unknown(10, cookie.to_vec()));
    }
    message.set_edns(edns);
    message.to_vec().unwrap()
}

fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.62.0.7:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

async fn stream(server: SocketAddr) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.62.0.7:0".parse().unwrap()).unwrap();
    socket.connect(server).await.unwrap()
}

fn ask(socket: &UdpSocket, query: &[u8]) -> Vec<u8> {
    let mut reply = vec![0; 4096];
    socket.send(query).unwrap();
    let len = socket.recv(&mut reply).unwrap();
    reply.truncate(len);
    assert_eq!(reply[..2], query[..2]);
    reply
}

/// The server cookie of a reply (RFC 7873).
fn cookie(reply: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(reply).unwrap();
    let options = message.edns.as_ref()?.options().as_ref().to_vec();
    options.into_iter().find_map(|(_, option)| match option {
        EdnsOption::Unknown(10, cookie) => Some(cookie),
        _ => None,
    })
}

fn is_truncated(reply: &[u8]) -> bool {
    reply[2] & 2 != 0
}

fn server(fake: &Fake, more: &str) -> (Scratch, Server) {
    let text = "x".repeat(250);
    let directory = Scratch::new();
    let records = format!("['\"{text}1\"', '\"{text}2\"', '\"{text}3\"', '\"{text}4\"']");
    directory.write(
        "manifest.yaml",
        format!(
            "vpcs:\n  vpc: {{region: us-east-1, cidr_blocks: [127.62.0.0/16], resolver_addresses: [127.62.0.2]}}\n\
             resolver_endpoints:\n  out: {{direction: OUTBOUND, vpc_id: vpc, ip_addresses: [{{ip: 127.62.0.9}}]}}\n\
             resolver_rules:\n  late: {{domain_name: late.example, rule_type: FORWARD, vpc_ids: [vpc], \
             resolver_endpoint_id: out, target_ips: [{}]}}\n\
             private_hosted_zones:\n  Z:\n    name: example\n    vpc_ids: [vpc]\n    records:\n    \
             - {{name: large, type: TXT, records: {records}}}\n    \
             - {{name: '*.large', type: TXT, records: {records}}}\n    \
             - {{name: small, type: A, records: [192.0.2.1]}}\n",
            fake.target()
        ),
    );
    let server = Server::start_with(directory.path(), more);
    (directory, server)
}

#[test]
fn large_udp_answers_beyond_the_limit_are_truncated_unless_a_cookie_proves_the_address() {
    let fake = Fake::start("127.0.0.1:0", |_| Vec::new());
    let (_directory, server) = server(&fake, "");
    let at = SocketAddr::from(([127, 62, 0, 2], server.port));
    let socket = client(at);
    let whole = |count: usize, name: &dyn Fn(usize) -> String, cookie: Option<&[u8]>| {
        let replies = (0..count).map(|n| ask(&socket, &query(n as u16, &name(n), RecordType::TXT, cookie)));
        replies
            .filter(|reply| {
                assert!(!is_truncated(reply) || reply.len() < 100, "{}", reply.len());
                assert!(is_truncated(reply) || reply.len() > 1000);
                !is_truncated(reply)
            })
            .count()
    };
    let begun = std::time::Instant::now();
    let of_one = whole(400, &|_| "large.example.".into(), None);
    // The limit is 20 per second, with a burst of two seconds.
    let budget = |per_second: usize| per_second * (3 + begun.elapsed().as_secs() as usize);
    assert!((40..=budget(20)).contains(&of_one), "{of_one}");
    let wildcards = whole(2000, &|n| format!("n{n}.large.example."), None);
    assert!((100..=budget(200)).contains(&wildcards), "names below a wildcard: {wildcards}");

    let first = ask(&socket, &query(1, "large.example.", RecordType::TXT, Some(b"octets08")));
    let valid = cookie(&first).expect("a server cookie, also in what is truncated");
    assert_eq!(whole(400, &|_| "large.example.".into(), Some(&valid)), 400);
    for n in 0..400 {
        let reply = ask(&socket, &query(n, "small.example.", RecordType::A, None));
        assert!(!is_truncated(&reply) && reply.len() < 100);
    }
    RUNTIME.block_on(async {
        let mut stream = stream(at).await;
        for n in 0..400 {
            let reply = ask_stream(&mut stream, &query(n, "large.example.", RecordType::TXT, None)).await.unwrap();
            assert!(!is_truncated(&reply) && reply.len() > 1000);
        }
    });
    wait_until("what was truncated is counted", || {
        let truncated = server.metric(&["zonal_large_answers_truncated_total"]) as usize;
        (truncated >= 2400 - of_one - wildcards).then_some(())
    });
}

/// Many late answers at the same moment would be a pulse (DNSBomb).
#[test]
fn late_udp_answers_are_cached_and_not_sent() {
    let fake = Fake::start("127.0.0.1:0", |asked| match asked.label().starts_with("soon") {
        true => vec![Say::Now(asked.address("192.0.2.1"))],
        false => vec![Say::Later(Duration::from_millis(3200), asked.address("192.0.2.7"))],
    });
    let (_directory, server) = server(&fake, "");
    let at = SocketAddr::from(([127, 62, 0, 2], server.port));
    let socket = client(at);
    let soon = ask(&socket, &query(1, "soon.late.example.", RecordType::A, Some(b"octets08")));
    let valid = cookie(&soon).unwrap();
    for n in 0..100 {
        socket.send(&query(n, &format!("n{n}.late.example."), RecordType::A, None)).unwrap();
    }
    socket.send(&query(1000, "cookie.late.example.", RecordType::A, Some(&valid))).unwrap();
    let by_tcp = RUNTIME.block_on(async {
        let mut stream = stream(at).await;
        ask_stream(&mut stream, &query(7, "tcp.late.example.", RecordType::A, None)).await.unwrap()
    });
    assert_eq!(Message::from_vec(&by_tcp).unwrap().answers.len(), 1);
    server.wait_for_metric(&["zonal_dropped_total", "late", "udp"], 100.0);
    // Only the client whose cookie proves its address gets an answer.
    let mut reply = [0; 512];
    let len = socket.recv(&mut reply).unwrap();
    assert_eq!((u16::from_be_bytes([reply[0], reply[1]]), reply[7]), (1000, 1), "{len}");
    let asked = fake.count(|_| true);
    for n in 0..100 {
        let reply = ask(&socket, &query(n, &format!("n{n}.late.example."), RecordType::A, None));
        assert_eq!(Message::from_vec(&reply).unwrap().answers.len(), 1, "from the cache");
    }
    assert_eq!(fake.count(|_| true), asked);
}
