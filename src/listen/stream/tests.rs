use super::*;
use crate::{
    forward,
    listen::{
        Core, Limits,
        tests::{HERE, LONG, core, core_with, late, limits, padded, page, query, read},
    },
};

struct Server {
    core: Arc<Core>,
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

fn server() -> Server {
    server_with(&limits())
}

fn server_with(limits: &Limits) -> Server {
    let listener = bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
    let address = listener.local_addr().unwrap();
    let core = core(limits);
    let streams = Streams::plain(Responder::new(&core, Transport::Tcp, 0));
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(streams.accept(TcpListener::from_std(listener).unwrap(), stopped));
    Server { core, address, _stop: stop }
}

impl Server {
    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn has(&self, line: &str) -> bool {
        page(&self.core).lines().any(|other| other == line)
    }
}

/// A message with its length in front.
fn message(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u16).to_be_bytes()[..], octets].concat()
}

/// A query that is answered at once.
fn here(id: u16) -> Vec<u8> {
    message(&query(id, HERE))
}

/// A query that is answered after this many hundredths of a second.
fn late_query(id: u16, hundredths: u8) -> Vec<u8> {
    message(&query(id, &late(id, hundredths)))
}

/// The octets of the next reply.
async fn receive_octets(client: &mut TcpStream) -> Option<Vec<u8>> {
    let length = client.read_u16().await.ok()?;
    let mut reply = vec![0; length.into()];
    client.read_exact(&mut reply).await.ok()?;
    Some(reply)
}

/// The identifier of the next reply, which must have an answer.
async fn receive(client: &mut TcpStream) -> Option<u16> {
    let (id, text) = read(&receive_octets(client).await?);
    assert!(["127.0.0.1", "late"].contains(&&*text), "{id}: {text}");
    Some(id)
}

async fn ended(client: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), client.read_to_end(&mut rest)).await;
    ended.is_ok() && rest.is_empty()
}

#[tokio::test]
async fn reads_messages_that_are_split_anywhere() {
    let server = server();
    let whole = [here(1), here(2)].concat();
    for split in 1..whole.len() {
        let mut client = server.client().await;
        client.set_nodelay(true).unwrap();
        client.write_all(&whole[..split]).await.unwrap();
        sleep(Duration::from_millis(5)).await;
        client.write_all(&whole[split..]).await.unwrap();
        assert_eq!(receive(&mut client).await, Some(1), "{split}");
        assert_eq!(receive(&mut client).await, Some(2), "{split}");
    }
}

#[tokio::test]
async fn answers_pipelined_queries_also_after_the_client_closed_its_side() {
    let server = server();
    let mut client = server.client().await;
    let queries: Vec<u8> = (0..1000).flat_map(here).collect();
    client.write_all(&queries).await.unwrap();
    client.shutdown().await.unwrap();
    for number in 0..1000 {
        assert_eq!(receive(&mut client).await, Some(number));
    }
    assert!(ended(&mut client).await);
}

#[tokio::test]
async fn reads_and_sends_messages_of_maximum_length() {
    let server = server();
    let mut client = server.client().await;
    let longest = padded(query(1, LONG), MAX_MESSAGE_OCTETS);
    for _ in 0..3 {
        client.write_all(&message(&longest)).await.unwrap();
        assert!(receive_octets(&mut client).await.is_some_and(|reply| reply.len() > 60_000));
    }
}

#[tokio::test]
async fn an_unanswered_message_ends_nothing_and_length_zero_ends_the_connection() {
    let server = server();
    let mut client = server.client().await;
    client.write_all(&[message(b"short"), here(1), message(b""), here(2)].concat()).await.unwrap();
    assert_eq!(receive(&mut client).await, Some(1));
    assert!(ended(&mut client).await);
    assert!(server.has(r#"zonal_dropped_total{reason="silent",transport="tcp"} 1"#));
}

#[tokio::test]
async fn closes_idle_slow_and_unreading_connections() {
    let server = server();
    let mut idle = server.client().await;
    let mut slow = server.client().await;
    let mut unread = server.client().await;
    let slowloris = async {
        for octet in message(&[b'x'; 500]) {
            if slow.write_all(&[octet]).await.is_err() {
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    };
    let never_reads = async {
        let query = message(&query(1, LONG));
        loop {
            if unread.write_all(&query).await.is_err() {
                return true;
            }
        }
    };
    assert_eq!(tokio::join!(ended(&mut idle), slowloris, never_reads), (true, true, true));
    for reason in ["idle", "incomplete", "unread"] {
        assert!(server.has(&format!(r#"zonal_tcp_timeouts_total{{reason="{reason}"}} 1"#)), "{reason}");
    }
    assert!(server.has("zonal_tcp_connections 0"));
}

#[tokio::test]
async fn a_flood_does_not_delay_other_connections() {
    let server = server();
    let mut flood = server.client().await;
    let mut client = server.client().await;
    let queries = message(b"none").repeat(100_000);
    let mut sent = 0;
    // The kernel has all queries before the tasks of the server run.
    while let Ok(len @ 1..) = flood.try_write(&queries[sent..]) {
        sent += len;
    }
    flood.shutdown().await.unwrap();
    client.try_write(&here(1)).unwrap();
    assert!(sent > 10 * READ_SIZE, "{sent}");
    assert!(receive(&mut client).await.is_some());
    let metrics = page(&server.core);
    let line = metrics.lines().find(|line| line.starts_with(r#"zonal_dropped_total{reason="silent",transport="tcp"}"#));
    let dropped: usize = line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap();
    assert!(dropped < 5 * READ_SIZE / 6, "{dropped} of {}", sent / 6);
}

#[tokio::test]
async fn limits_the_connections_of_a_client() {
    let server = server();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = server.client().await;
        client.write_all(&here(1)).await.unwrap();
        assert!(receive(&mut client).await.is_some());
        clients.push(client);
    }
    assert!(ended(&mut server.client().await).await, "the sixth of one client");
    assert!(server.has(r#"zonal_tcp_connections_total{result="client_limit"} 1"#));
    clients.pop();
    while server.has("zonal_tcp_connections 5") {
        sleep(Duration::from_millis(5)).await;
    }
    let mut client = server.client().await;
    client.write_all(&here(1)).await.unwrap();
    assert!(receive(&mut client).await.is_some(), "a free slot");
}

#[tokio::test]
async fn closes_the_longest_idle_connection_of_the_client_with_most_when_there_are_too_many() {
    let idle_timeout = Duration::from_secs(3600);
    let server = server_with(&Limits { tcp_connections: 3, tcp_idle_timeout: idle_timeout, ..limits() });
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(server.client().await);
        for client in &mut clients {
            client.write_all(&here(1)).await.unwrap();
            assert!(receive(client).await.is_some());
        }
    }
    clients[0].write_all(&here(1)).await.unwrap();
    assert!(receive(&mut clients[0]).await.is_some());
    let mut last = server.client().await;
    last.write_all(&here(1)).await.unwrap();
    assert!(receive(&mut last).await.is_some());
    assert!(ended(&mut clients[1]).await);
    for at in [0, 2] {
        clients[at].write_all(&here(1)).await.unwrap();
        assert!(receive(&mut clients[at]).await.is_some(), "{at}");
    }
    assert!(server.has(r#"zonal_tcp_timeouts_total{reason="displaced"} 1"#));
    assert!(server.has("zonal_tcp_connections 3"));
}

#[tokio::test]
async fn a_connection_is_answered_after_a_takeover_until_it_is_idle() {
    let limits = Limits { tcp_idle_timeout: Duration::from_secs(3600), ..limits() };
    let server = server_with(&limits);
    let mut client = server.client().await;
    client.write_all(&here(1)).await.unwrap();
    assert_eq!(receive(&mut client).await, Some(1));
    let connections = &server.core.connections;
    let asks = async {
        for _ in 0..10 {
            sleep(DRAIN_IDLE / 5).await;
            client.write_all(&here(1)).await.unwrap();
            assert_eq!(receive(&mut client).await, Some(1));
        }
        client.write_all(&late_query(2, 80)).await.unwrap();
        assert_eq!(receive(&mut client).await, Some(2));
        ended(&mut client).await
    };
    let (_, ended) = tokio::join!(connections.drain(), asks);
    assert!(ended && server.has("zonal_tcp_connections 0"));
}

#[tokio::test]
async fn a_stop_answers_the_queries_that_were_read() {
    let server = server();
    let mut client = server.client().await;
    client.write_all(&[here(1), vec![0, 9, b'i', b'n']].concat()).await.unwrap();
    assert_eq!(receive(&mut client).await, Some(1));
    let (_, ended) = tokio::join!(server.core.connections.stop(), ended(&mut client));
    assert!(ended);
}

#[tokio::test]
async fn a_waiting_query_does_not_delay_others() {
    let server = server();
    let mut client = server.client().await;
    let queries = [late_query(4, 60), late_query(3, 20), here(1)].concat();
    client.write_all(&queries).await.unwrap();
    // The server reads on meanwhile. The connection is not idle after 300 milliseconds, as it waits for answers.
    assert_eq!(receive(&mut client).await, Some(1));
    client.write_all(&here(2)).await.unwrap();
    assert_eq!(receive(&mut client).await, Some(2));
    assert_eq!(receive(&mut client).await, Some(3));
    assert_eq!(receive(&mut client).await, Some(4));
    assert!(ended(&mut client).await);
    assert!(server.has(r#"zonal_tcp_timeouts_total{reason="idle"} 1"#));
}

#[tokio::test]
async fn late_answers_are_sent_after_half_close_length_zero_and_stop() {
    let server = server();
    let mut half_closed = server.client().await;
    half_closed.write_all(&[late_query(2, 20), here(1)].concat()).await.unwrap();
    half_closed.shutdown().await.unwrap();
    assert_eq!(receive(&mut half_closed).await, Some(1));
    assert_eq!(receive(&mut half_closed).await, Some(2));
    assert!(ended(&mut half_closed).await);

    let mut client = server.client().await;
    client.write_all(&[late_query(3, 20), here(1), message(b"")].concat()).await.unwrap();
    assert_eq!(receive(&mut client).await, Some(1));
    assert_eq!(receive(&mut client).await, Some(3), "before the end");
    assert!(ended(&mut client).await);

    let mut client = server.client().await;
    client.write_all(&[late_query(4, 20), here(1)].concat()).await.unwrap();
    assert_eq!(receive(&mut client).await, Some(1));
    let late = async {
        assert_eq!(receive(&mut client).await, Some(4));
        ended(&mut client).await
    };
    let (_, ended) = tokio::join!(server.core.connections.stop(), late);
    assert!(ended);
}

#[tokio::test]
async fn limits_the_waiting_queries_of_a_connection() {
    let server = server();
    let mut client = server.client().await;
    let last = 2 * MAX_WAITING as u16;
    let queries: Vec<u8> = (0..last).flat_map(|id| late_query(id, 30)).collect();
    client.write_all(&[queries, here(last)].concat()).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..=last {
        ids.push(receive(&mut client).await.unwrap());
    }
    let at = ids.iter().position(|id| *id == last).unwrap();
    assert!(at > MAX_WAITING, "read before a query of the second half was answered: {at}");
    ids.remove(at);
    let is_first_half = |id: &u16| usize::from(*id) < MAX_WAITING;
    assert!(ids[..MAX_WAITING].iter().all(is_first_half) && !ids[MAX_WAITING..].iter().any(is_first_half));

    let waiting = forward::Limits { waiting: 1, ..Default::default() };
    let served = server.core.snapshot.load().with_stale(false);
    let responder = Responder::new(&core_with(served, &limits(), &waiting), Transport::Tcp, 0);
    let client =
        Client { source: [127, 0, 0, 1].into(), port: 0, local: [127, 0, 0, 1].into(), transport: Transport::Tcp };
    let (mut output, query) = (Vec::new(), query(1, &late(1, 30)));
    let waiting = responder.answer(&client, &query, &mut output, |_| true);
    assert!(waiting.is_some() && output.is_empty());
    let more = responder.answer(&client, &query, &mut output, |_| true);
    assert!(more.is_none() && read(&output) == (1, "RCODE 2".into()), "no slot is free: SERVFAIL");
}
