use super::*;
use crate::{
    forward,
    listen::{
        Core, Limits,
        tests::{core, core_with, limits, page},
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

fn message(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text].concat()
}

async fn receive(client: &mut TcpStream) -> Option<String> {
    let length = client.read_u16().await.ok()?;
    let mut text = vec![0; length.into()];
    client.read_exact(&mut text).await.ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

async fn ended(client: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), client.read_to_end(&mut rest)).await;
    ended.is_ok() && rest.is_empty()
}

#[tokio::test]
async fn messages_may_be_split_anywhere() {
    let server = server();
    let whole = [message(b"one"), message(b"second")].concat();
    for split in 1..whole.len() {
        let mut client = server.client().await;
        client.set_nodelay(true).unwrap();
        client.write_all(&whole[..split]).await.unwrap();
        sleep(Duration::from_millis(5)).await;
        client.write_all(&whole[split..]).await.unwrap();
        assert_eq!(receive(&mut client).await.as_deref(), Some("one at 127.0.0.1"), "{split}");
        assert_eq!(receive(&mut client).await.as_deref(), Some("second at 127.0.0.1"), "{split}");
    }
}

#[tokio::test]
async fn pipelined_queries_are_answered_and_half_closed_ones_too() {
    let server = server();
    let mut client = server.client().await;
    let queries: Vec<u8> = (0..1000).flat_map(|number| message(format!("query {number}").as_bytes())).collect();
    client.write_all(&queries).await.unwrap();
    client.shutdown().await.unwrap();
    for number in 0..1000 {
        assert_eq!(receive(&mut client).await, Some(format!("query {number} at 127.0.0.1")));
    }
    assert!(ended(&mut client).await);
}

#[tokio::test]
async fn the_longest_messages_pass() {
    let server = server();
    let mut client = server.client().await;
    let longest = [&b"size"[..], &[255, 255], &[b'.'; 65_529]].concat();
    for _ in 0..3 {
        client.write_all(&message(&longest)).await.unwrap();
        assert_eq!(receive(&mut client).await.map(|reply| reply.chars().count()), Some(65_535));
    }
}

#[tokio::test]
async fn silence_ends_nothing_and_length_zero_ends_the_connection() {
    let server = server();
    let mut client = server.client().await;
    client.write_all(&[message(b"drop"), message(b"x"), message(b""), message(b"y")].concat()).await.unwrap();
    assert_eq!(receive(&mut client).await.as_deref(), Some("x at 127.0.0.1"));
    assert!(ended(&mut client).await);
    assert!(server.has(r#"zonal_dropped_total{reason="silent",transport="tcp"} 1"#));
}

#[tokio::test]
async fn idle_and_slow_clients_are_cut_off() {
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
        let query = message(&[&b"size"[..], &[255, 255]].concat());
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
async fn a_flood_does_not_hold_up_the_others() {
    let server = server();
    let mut flood = server.client().await;
    let mut client = server.client().await;
    let queries = message(b"drop").repeat(100_000);
    let mut sent = 0;
    // All of this is in the kernel before the server's tasks get their first turn.
    while let Ok(len @ 1..) = flood.try_write(&queries[sent..]) {
        sent += len;
    }
    flood.shutdown().await.unwrap();
    client.try_write(&message(b"x")).unwrap();
    assert!(sent > 10 * READ_SIZE, "{sent}");
    assert!(receive(&mut client).await.is_some());
    let metrics = page(&server.core);
    let line = metrics.lines().find(|line| line.starts_with(r#"zonal_dropped_total{reason="silent",transport="tcp"}"#));
    let dropped: usize = line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap();
    assert!(dropped < 5 * READ_SIZE / 6, "{dropped} of {}", sent / 6);
}

#[tokio::test]
async fn connections_are_capped() {
    let server = server();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = server.client().await;
        client.write_all(&message(b"x")).await.unwrap();
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
    client.write_all(&message(b"x")).await.unwrap();
    assert!(receive(&mut client).await.is_some(), "a place that is free again");
}

#[tokio::test]
async fn where_there_are_too_many_the_longest_idle_one_of_the_greediest_goes() {
    let patience = Duration::from_secs(3600);
    let server = server_with(&Limits { tcp_connections: 3, tcp_idle_timeout: patience, ..limits() });
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(server.client().await);
        for client in &mut clients {
            client.write_all(&message(b"x")).await.unwrap();
            assert!(receive(client).await.is_some());
        }
    }
    clients[0].write_all(&message(b"x")).await.unwrap();
    assert!(receive(&mut clients[0]).await.is_some());
    let mut last = server.client().await;
    last.write_all(&message(b"x")).await.unwrap();
    assert!(receive(&mut last).await.is_some());
    assert!(ended(&mut clients[1]).await);
    for at in [0, 2] {
        clients[at].write_all(&message(b"x")).await.unwrap();
        assert!(receive(&mut clients[at]).await.is_some(), "{at}");
    }
    assert!(server.has(r#"zonal_tcp_timeouts_total{reason="displaced"} 1"#));
    assert!(server.has("zonal_tcp_connections 3"));
}

#[tokio::test]
async fn who_is_left_has_answers_until_it_has_no_more_questions() {
    let limits = Limits { tcp_idle_timeout: Duration::from_secs(3600), ..limits() };
    let server = server_with(&limits);
    let mut client = server.client().await;
    client.write_all(&message(b"x")).await.unwrap();
    assert_eq!(receive(&mut client).await.as_deref(), Some("x at 127.0.0.1"));
    let connections = &server.core.connections;
    let asks = async {
        for _ in 0..10 {
            sleep(LAST_IDLE / 5).await;
            client.write_all(&message(b"x")).await.unwrap();
            assert_eq!(receive(&mut client).await.as_deref(), Some("x at 127.0.0.1"));
        }
        client.write_all(&late(80, "late")).await.unwrap();
        assert_eq!(received(&mut client).await.as_deref(), Some("late"));
        ended(&mut client).await
    };
    let (_, ended) = tokio::join!(connections.leave(), asks);
    assert!(ended && server.has("zonal_tcp_connections 0"));
}

#[tokio::test]
async fn a_stop_answers_what_was_read() {
    let server = server();
    let mut client = server.client().await;
    client.write_all(&[message(b"x"), vec![0, 9, b'i', b'n']].concat()).await.unwrap();
    assert_eq!(receive(&mut client).await.as_deref(), Some("x at 127.0.0.1"));
    let (_, ended) = tokio::join!(server.core.connections.stop(), ended(&mut client));
    assert!(ended);
}
/// A query that is answered after so many hundredths of a second.
fn late(hundredths: u8, text: &str) -> Vec<u8> {
    message(&[b"late", &[hundredths][..], text.as_bytes()].concat())
}

/// What comes, the first octets of late ones left out.
async fn received(client: &mut TcpStream) -> Option<String> {
    receive(client).await.map(|text| text.strip_prefix("late").map_or(text.clone(), |text| text[1..].into()))
}

#[tokio::test]
async fn a_query_that_waits_holds_up_no_other() {
    let server = server();
    let mut client = server.client().await;
    let queries = [late(40, "last"), late(5, "second"), late(b'l', "y"), message(b"first")].concat();
    client.write_all(&queries).await.unwrap();
    // It is read on meanwhile, and is not idle after 300 milliseconds.
    assert_eq!(received(&mut client).await.as_deref(), Some("first at 127.0.0.1"));
    client.write_all(&message(b"more")).await.unwrap();
    assert_eq!(received(&mut client).await.as_deref(), Some("more at 127.0.0.1"));
    assert_eq!(received(&mut client).await.as_deref(), Some("second"));
    assert_eq!(received(&mut client).await.as_deref(), Some("last"));
    // A second later the one without a reply has ended, and then the connection is idle.
    assert!(ended(&mut client).await);
    assert!(server.has(r#"zonal_dropped_total{reason="silent",transport="tcp"} 1"#));
    assert!(server.has(r#"zonal_tcp_timeouts_total{reason="idle"} 1"#));
}

#[tokio::test]
async fn late_answers_reach_half_closed_clients_and_those_of_a_server_that_stops() {
    let server = server();
    let mut half_closed = server.client().await;
    half_closed.write_all(&[late(20, "late"), message(b"x")].concat()).await.unwrap();
    half_closed.shutdown().await.unwrap();
    assert_eq!(received(&mut half_closed).await.as_deref(), Some("x at 127.0.0.1"));
    assert_eq!(received(&mut half_closed).await.as_deref(), Some("late"));
    assert!(ended(&mut half_closed).await);

    let mut client = server.client().await;
    client.write_all(&[late(20, "late"), message(b"x"), message(b"")].concat()).await.unwrap();
    assert_eq!(received(&mut client).await.as_deref(), Some("x at 127.0.0.1"));
    assert_eq!(received(&mut client).await.as_deref(), Some("late"), "in front of the end");
    assert!(ended(&mut client).await);

    let mut client = server.client().await;
    client.write_all(&[late(20, "late"), message(b"x")].concat()).await.unwrap();
    assert_eq!(received(&mut client).await.as_deref(), Some("x at 127.0.0.1"));
    let late = async {
        assert_eq!(received(&mut client).await.as_deref(), Some("late"));
        ended(&mut client).await
    };
    let (_, ended) = tokio::join!(server.core.connections.stop(), late);
    assert!(ended);
}

#[tokio::test]
async fn queries_that_wait_are_capped() {
    let server = server();
    let mut client = server.client().await;
    let queries: Vec<u8> = (0..2 * MOST_LATE).flat_map(|number| late(30, &number.to_string())).collect();
    client.write_all(&[queries, message(b"x")].concat()).await.unwrap();
    let mut texts = Vec::new();
    for _ in 0..=2 * MOST_LATE {
        texts.push(received(&mut client).await.unwrap());
    }
    let x = texts.iter().position(|text| text == "x at 127.0.0.1").unwrap();
    assert!(x > MOST_LATE, "it has waited until one of the second half was answered: {x}");
    texts.remove(x);
    let is_first_half = |text: &String| text.parse::<usize>().unwrap() < MOST_LATE;
    assert!(texts[..MOST_LATE].iter().all(is_first_half) && !texts[MOST_LATE..].iter().any(is_first_half));

    let waiting = forward::Limits { waiting: 1, ..Default::default() };
    let served = server.core.snapshot.load().with_stale(false);
    let responder = Responder::new(&core_with(served, &limits(), &waiting), Transport::Tcp, 0);
    let client =
        Client { source: [127, 0, 0, 1].into(), port: 0, local: [127, 0, 0, 1].into(), transport: Transport::Tcp };
    let (mut output, query) = (Vec::new(), &b"late, whatever it is"[..]);
    let late = responder.answer(&client, query, &mut output, |_| true);
    assert!(late.is_some() && output.is_empty());
    let more = responder.answer(&client, query, &mut output, |_| true);
    assert!(more.is_none() && !output.is_empty(), "no room: it fails");
}
