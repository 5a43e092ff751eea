//! Servers that do not answer, or not in time.

use super::*;

/// An address and port on which nothing listens.
async fn closed() -> SocketAddr {
    let fake = Fake::new(|_, _| Vec::new()).await;
    let address = fake.address;
    drop(fake);
    // The sockets are closed when the tasks have ended.
    sleep(Duration::from_millis(20)).await;
    address
}

#[tokio::test]
async fn asks_the_next_server_after_one_interval() {
    let dead = Fake::new(|_, _| Vec::new()).await;
    let good = Fake::new(|query, _| vec![Act::Reply(answer(query))]).await;
    let (upstreams, route) = (Upstreams::new(), route(vec![dead.target(), good.target()]));
    let (response, ms) = timed(ask(&upstreams, &route)).await;
    assert_eq!(address(&response), 1);
    assert!((300..2000).contains(&ms), "{ms}");
    let mut slow = 0;
    for _ in 0..20 {
        let (response, ms) = timed(ask(&upstreams, &route)).await;
        assert_eq!(address(&response), 1);
        slow += usize::from(ms >= 300);
    }
    assert!(slow < 3, "{slow}");
}

#[tokio::test]
async fn accepts_a_late_response_to_an_earlier_attempt() {
    let slow = Fake::new(|query, _| vec![Act::Late(500, answer(query))]).await;
    let (upstreams, route) = (Upstreams::new(), route(vec![slow.target()]));
    let (response, ms) = timed(ask(&upstreams, &route)).await;
    assert_eq!(address(&response), 1);
    assert!((500..1500).contains(&ms), "{ms}");
    let ids: Vec<_> = slow.queries().into_iter().map(|(query, _)| [query[0], query[1]]).collect();
    assert!(ids.len() >= 2, "{ids:?}");
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn asks_another_server_at_once_when_a_port_is_closed() {
    let (closed, good) = (closed().await, Fake::new(|query, _| vec![Act::Late(5, answer(query))]).await);
    assert!(answers_within(Upstreams::new, &route(vec![target(closed), good.target()]), 300).await);
    let upstreams = Upstreams::new();
    assert_eq!(address(&ask(&upstreams, &route(vec![target(closed), good.target()])).await), 1);
    let report = upstreams.report(&route(vec![target(closed), good.target()]));
    assert_eq!((report[0].target.ip, report[0].state), (good.address.ip(), ServerState::Up));
    assert!(matches!(report[1].state, ServerState::Down(_)), "{:?}", report[1].state);
}

#[tokio::test]
async fn fails_at_once_when_all_servers_refuse() {
    let both = [closed().await, closed().await];
    let six: SocketAddr = "[::1]:0".parse().unwrap();
    let six = Fake::at(six, |_, _| Vec::new()).await.address;
    sleep(Duration::from_millis(20)).await;
    let by = |protocol| Target { protocol, server_name: Some("localhost".into()), ..target(both[0]) };
    let text_of = |target: &Target| format!("{target} refuses the connection: nothing listens there");
    let no_way = target("255.255.255.255:53".parse().unwrap());
    for targets in [
        vec![target(both[0])],
        both.map(target).to_vec(),
        vec![target(six)],
        vec![by(Protocol::DoT)],
        vec![by(Protocol::DoH)],
        vec![target(both[0]), by(Protocol::DoT), target(six)],
        vec![no_way],
    ] {
        let upstreams = Upstreams::new();
        let (failure, ms) = timed(ask(&upstreams, &route(targets.clone()))).await;
        let (code, text) = text(failure);
        let expected: Vec<_> = targets.iter().map(text_of).collect();
        assert_eq!(code, 23, "{text}");
        assert!(text == expected.join("; ") || text.contains("cannot be reached"), "{text}");
        assert!(ms < 1500, "{ms} ms: {text}");
        let reports = upstreams.report(&route(targets));
        assert!(reports.iter().all(|report| report.error.is_some()), "{reports:?}");
    }
}

#[tokio::test]
async fn fails_at_once_when_a_truncated_response_cannot_be_had_by_tcp() {
    let cut = Fake::new(|query, _| vec![Act::Reply(truncated(query))]).await;
    cut.close_tcp().await;
    let (upstreams, alone) = (Upstreams::new(), route(vec![cut.target()]));
    let (failure, ms) = timed(ask(&upstreams, &alone)).await;
    let (code, text) = text(failure);
    let expected = "truncates its answer by UDP, and by TCP refuses the connection: nothing listens there";
    assert_eq!((code, text), (22, format!("{} {expected}", cut.target())));
    assert!(ms < 1500, "{ms}");
    // The server is not down: it answers what fits into a datagram. Another server may answer the
    // rest.
    assert_eq!(upstreams.report(&alone)[0].state, ServerState::Up);
    let good = Fake::new(|query, _| vec![Act::Late(30, answer(query))]).await;
    assert_eq!(address(&ask(&upstreams, &route(vec![cut.target(), good.target()])).await), 1);
}

#[tokio::test]
async fn asks_a_server_again_that_is_back() {
    let address_of_it = closed().await;
    let (upstreams, route) = (Upstreams::new(), route(vec![target(address_of_it)]));
    assert!(ask(&upstreams, &route).await.is_err());
    let _fake = Fake::at(address_of_it, |query, _| vec![Act::Reply(answer(query))]).await;
    let (response, ms) = timed(ask(&upstreams, &route)).await;
    assert_eq!(address(&response), 1);
    assert!(ms < 1500, "{ms}");
    assert_eq!(upstreams.report(&route)[0].state, ServerState::Up);
}

#[tokio::test]
async fn questions_to_dead_servers_fail_at_once_and_probes_find_them_back() {
    let silent = UdpSocket::bind((unused_address(), 0)).await.unwrap();
    let at = silent.local_addr().unwrap();
    let (upstreams, route) = (Upstreams::new(), route(vec![target(at)]));
    for is_dead in [false, true] {
        let (failure, ms) = timed(ask(&upstreams, &route)).await;
        assert_eq!(text(failure), (22, format!("{} did not answer in time", target(at))));
        assert!(if is_dead { ms < 1500 } else { (4000..6000).contains(&ms) }, "{ms}");
    }
    drop(silent);
    let _fake = Fake::at(at, |query, _| vec![Act::Reply(answer(query))]).await;
    let back = async {
        while ask(&upstreams, &route).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(timed(back).await.1 < 9000);
}

#[tokio::test]
async fn answers_when_a_third_of_all_packets_is_lost_each_way() {
    let draws = Arc::new(AtomicUsize::new(0));
    let fake = Fake::new(move |query, _| {
        // The responses that remain, 0.7 * 0.7 of all, in a fixed order without a pattern.
        let draw = draws.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9) >> 7;
        if draw % 100 < 49 { vec![Act::Late(1, answer(query))] } else { Vec::new() }
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    let ask = || async { ask(&upstreams, &route).await.is_ok() };
    let mut answered = 0;
    for _ in 0..10 {
        let asked = [(); 30].map(|()| ask());
        answered += futures(asked).await.into_iter().filter(|ok| *ok).count();
    }
    assert!(answered >= 298, "{answered} of 300");
}

/// Runs all futures at the same time.
async fn futures<F: Future, const N: usize>(all: [F; N]) -> Vec<F::Output> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut outputs = Vec::new();
    std::future::poll_fn(|context| {
        all.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                outputs.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    outputs
}

/// A name for one question.
fn name_of(number: usize) -> Vec<u8> {
    [&b"\x05"[..], format!("{number:05}").as_bytes(), NAME].concat()
}

#[tokio::test]
async fn a_question_holds_at_most_two_attempts_at_a_server() {
    let dead = Fake::new(|_, _| Vec::new()).await;
    let good = Fake::new(|query, _| vec![Act::Reply(answer(query))]).await;
    let upstreams = Upstreams::new();
    let to_dead = Arc::new(route(vec![dead.target()]));
    let mut asked = Vec::new();
    for number in 0..10_000 {
        let (upstreams, to_dead) = (upstreams.clone(), to_dead.clone());
        asked.push(tokio::spawn(async move { timed(ask_for(&upstreams, &to_dead, &name_of(number))).await }));
    }
    tokio::task::yield_now().await;
    let (response, ms) = timed(ask(&upstreams, &route(vec![good.target()]))).await;
    assert_eq!(address(&response), 1);
    assert!(ms < 3000, "{ms}");
    let way = upstreams.routes.pin().get(&to_dead.id).cloned().unwrap();
    let mut most = 0;
    for asked in asked {
        most = most.max(way.servers[0].in_flight());
        let (failure, ms) = asked.await.unwrap();
        assert_eq!(text(failure).0, 22);
        assert!(ms < 10_000, "{ms}");
    }
    assert!((10_000..=20_001).contains(&most), "{most} attempts of 10,000 questions and a probe");
    // A probe may still wait.
    let start = Instant::now();
    while (way.in_flight.load(Relaxed), way.servers[0].in_flight()) != (0, 0) {
        assert!(start.elapsed() < Duration::from_secs(60), "attempts are still in flight");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The first attempt at each server stays in flight, whatever attempts follow.
#[tokio::test]
async fn a_question_holds_at_most_three_attempts_and_takes_late_answers() {
    for (silent, late) in [(0, 2_500), (1, 2_500), (2, 900)] {
        let mut fakes = Vec::new();
        for _ in 0..silent {
            fakes.push(Fake::new(|_, _| Vec::new()).await);
        }
        fakes.push(Fake::new(move |query, _| vec![Act::Late(late, answer(query))]).await);
        let (upstreams, route) = (Upstreams::new(), route(fakes.iter().map(Fake::target).collect()));
        let ended = AtomicBool::new(false);
        let watching = async {
            let mut most = 0;
            while !ended.load(Relaxed) {
                let way = upstreams.routes.pin().get(&route.id).cloned();
                // Probes have been answered by then.
                let in_flight = |way: Arc<ActiveRoute>| way.servers.iter().map(|server| server.in_flight()).sum();
                most = most.max(way.map_or(0, in_flight));
                sleep(Duration::from_millis(20)).await;
            }
            most
        };
        let asking = async {
            let response = ask(&upstreams, &route).await;
            ended.store(true, Relaxed);
            response
        };
        let (response, most) = tokio::join!(asking, watching);
        assert_eq!(address(&response), 1, "{silent} silent servers");
        assert!(most <= 3, "{most} attempts with {silent} silent servers");
    }
}

/// Unanswered questions of one route do not make a server dead for another route.
#[tokio::test]
async fn a_server_that_is_silent_about_one_domain_is_asked_for_another() {
    let fake = Fake::new(|query, _| match query.windows(5).any(|five| five.eq_ignore_ascii_case(b"\x04dead")) {
        true => Vec::new(),
        false => vec![Act::Reply(answer(query))],
    })
    .await;
    let upstreams = Upstreams::new();
    let good = route(vec![fake.target()]);
    let servers = || Servers::Targets { targets: vec![fake.target()], sources: Vec::new(), trust_ad: false };
    let bad = Route::new("rslvr-rr-2".into(), b"\x04dead\0"[..].into(), servers());
    assert_eq!(address(&ask(&upstreams, &good).await), 1);
    let way = upstreams.routes.pin().get(&good.id).cloned().unwrap();
    for _ in 0..8 {
        way.servers[0].health().record_timeout(Instant::now(), Instant::now() - Duration::from_secs(10));
    }
    assert!(way.servers[0].health().is_dead(Instant::now()));
    let other_name = name_of(1);
    let (one, other) = tokio::join!(ask(&upstreams, &good), ask_for(&upstreams, &good, &other_name));
    assert_eq!((address(&one), address(&other)), (1, 1));
    // If a route's own questions fail too, one question at a time tries the servers again.
    for _ in 0..8 {
        way.servers[0].health().record_timeout(Instant::now(), Instant::now() - Duration::from_secs(10));
    }
    let name = b"\x03www\x04dead\0";
    assert!(ask_for(&upstreams, &bad, name).await.is_err());
    for _ in 0..8 {
        way.servers[0].health().record_timeout(Instant::now(), Instant::now() - Duration::from_secs(10));
    }
    fake.queries();
    let asked = futures([(); 10].map(|()| ask_for(&upstreams, &bad, name))).await;
    assert!(asked.iter().all(Result::is_err));
    assert!((1..=14).contains(&fake.queries().len()), "the attempts of one question of ten");
    way.has_failed.store(true, Relaxed);
    assert_eq!(address(&ask(&upstreams, &good).await), 1);
    assert_eq!(upstreams.report(&good)[0].state, ServerState::Up);
}

#[tokio::test]
async fn sends_queries_from_the_source_addresses() {
    let fake = Fake::new(|query, _| vec![Act::Reply(answer(query))]).await;
    let upstreams = Upstreams::new();
    let sources = vec!["192.0.2.77".parse().unwrap(), "::1".parse().unwrap(), "127.99.99.1".parse().unwrap()];
    assert_eq!(address(&ask(&upstreams, &route_from(vec![fake.target()], sources)).await), 1);
    let (failure, ms) =
        timed(ask(&upstreams, &route_from(vec![fake.target()], vec!["192.0.2.77".parse().unwrap()]))).await;
    let (_, text) = text(failure);
    assert!(text.contains("none of the outbound endpoint's addresses"), "{text}");
    assert!(ms < 1000, "{ms}");
}
