//! Forged and malformed responses, and responses that look like forgeries.

use super::*;
use crate::wire::codes::rcode;
use tokio::task::JoinSet;

fn change(message: Vec<u8>, change: impl Fn(&mut Vec<u8>)) -> Act {
    let mut message = message;
    change(&mut message);
    Act::Reply(message)
}

#[tokio::test]
async fn accepts_a_response() {
    let fake = Fake::new(|query, _| vec![Act::Reply(answer(query))]).await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    let response = ask(&upstreams, &route).await;
    assert_eq!(address(&response), 1);
    let report = &upstreams.report(&route)[0];
    assert_eq!((report.state, report.keeps_case), (ServerState::Up, None));
    assert!(report.rtt.unwrap() < Duration::from_millis(100));
}

#[tokio::test]
async fn accepts_no_response_by_udp_after_a_suspected_forgery() {
    // The ID, the opcode, another name, another type; a header alone.
    for (at, bit) in [(0, 1), (1, 0x80), (2, 0x80), (2, 8), (13, 1), (34, 4), (usize::MAX, 0)] {
        let fake = Fake::new(move |query, tcp| {
            let mut right = answer(query);
            if tcp {
                return vec![Act::Reply(right)];
            }
            *right.last_mut().unwrap() = 66;
            let mut wrong = right.clone();
            match wrong.get_mut(at) {
                Some(octet) => *octet ^= bit,
                None => wrong.truncate(HEADER),
            }
            vec![Act::Reply(wrong), Act::Late(20, right)]
        })
        .await;
        let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
        assert_eq!(address(&ask(&upstreams, &route).await), 1, "octet {at}");
        let by_tcp: Vec<bool> = fake.queries().into_iter().map(|(_, tcp)| tcp).collect();
        assert_eq!((by_tcp, upstreams.counters.unexpected.get()), (vec![false, true], 1), "octet {at}");
    }
}

#[tokio::test]
async fn a_duplicate_response_is_no_suspected_forgery() {
    let fake = Fake::new(|query, _| vec![Act::Reply(answer(query)), Act::Reply(answer(query))]).await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    for _ in 0..20 {
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
    }
    assert_eq!((upstreams.counters.fallbacks.get(), upstreams.counters.unexpected.get()), (0, 0));
}

/// A packet that cannot be a response is no reason for a connection.
#[tokio::test]
async fn a_packet_shorter_than_a_header_is_no_suspected_forgery() {
    let fake = Fake::new(|query, _| {
        vec![Act::Reply(vec![!query[0]; 3]), Act::Reply(Vec::new()), Act::Late(20, answer(query))]
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    assert_eq!(address(&ask(&upstreams, &route).await), 1);
    assert_eq!((upstreams.counters.fallbacks.get(), upstreams.counters.unexpected.get()), (0, 2));
}

/// A server by UDP alone. What it does with a query is given the number of the query; the ports and
/// ids of queries come back.
fn by_udp_alone(
    act: impl Fn(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, mpsc::UnboundedReceiver<(u16, u16)>, JoinHandle<()>) {
    let udp = std::net::UdpSocket::bind((unused_address(), 0)).unwrap();
    udp.set_nonblocking(true).unwrap();
    let (address, udp) = (udp.local_addr().unwrap(), UdpSocket::from_std(udp).unwrap());
    let (sender, seen) = mpsc::unbounded_channel();
    let server = tokio::spawn(async move {
        let mut packet = [0; 512];
        for number in 0.. {
            let Ok((len, client)) = udp.recv_from(&mut packet).await else { continue };
            let _ = sender.send((client.port(), u16::from_be_bytes([packet[0], packet[1]])));
            for message in act(number, &packet[..len]) {
                let _ = udp.send_to(&message, client).await;
            }
        }
    });
    (address, seen, server)
}

#[tokio::test]
async fn sends_from_another_port_when_tcp_fails_after_a_suspected_forgery() {
    let (server, mut seen, task) = by_udp_alone(|number, query| {
        let mut right = answer(query);
        if number < 2 {
            *right.last_mut().unwrap() = 66;
            let mut wrong = right.clone();
            wrong[0] ^= 1;
            return vec![wrong, right];
        }
        vec![right]
    });
    let (upstreams, route) = (Upstreams::new(), route(vec![target(server)]));
    assert_eq!(address(&ask(&upstreams, &route).await), 1);
    let pairs: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
    assert_eq!(pairs.len(), 3, "{pairs:?}");
    for (at, pair) in pairs.iter().enumerate() {
        assert!(pairs[..at].iter().all(|other| other.0 != pair.0 && other.1 != pair.1), "{pairs:?}");
    }
    // The failure of TCP is remembered.
    assert_eq!((upstreams.counters.fallbacks.get(), upstreams.counters.renewals.get()), (1, 2));
    assert_eq!(upstreams.report(&route)[0].state, ServerState::Up, "who guesses does not bring a server down");
    task.abort();
}

#[tokio::test]
async fn queries_come_from_many_ports() {
    let (server, mut seen, task) = by_udp_alone(|_, query| vec![answer(query)]);
    let (upstreams, route) = (Upstreams::new(), route(vec![target(server)]));
    for number in 0..300 {
        let name = [&b"\x03"[..], format!("{number:03}").as_bytes(), NAME].concat();
        assert_eq!(address(&ask_for(&upstreams, &route, &name).await), 1);
    }
    let mut ports: Vec<u16> = std::iter::from_fn(|| Some(seen.try_recv().ok()?.0)).collect();
    ports.sort_unstable();
    ports.dedup();
    // 300 queries take about 260 of 1,024 slots, if no socket is replaced meanwhile.
    assert!(ports.len() > 200, "{} ports for 300 queries", ports.len());
    let (low, high) = (ports[ports.len() / 10], ports[ports.len() * 9 / 10]);
    assert!(high - low > 10_000, "from {low} to {high}");
    task.abort();
}

#[tokio::test]
async fn ignores_packets_from_other_addresses() {
    // Both servers know the port and the ID, as the query is passed on, but only one has the right address.
    let forger = Arc::new(std::net::UdpSocket::bind((unused_address(), 0)).unwrap());
    let (sender, mut queries) = mpsc::unbounded_channel::<(Vec<u8>, SocketAddr)>();
    let udp = UdpSocket::bind((unused_address(), 0)).await.unwrap();
    let address_of_server = udp.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut packet = [0; 512];
        let (len, client) = udp.recv_from(&mut packet).await.unwrap();
        sender.send((packet[..len].to_vec(), client)).unwrap();
        sleep(Duration::from_millis(50)).await;
        udp.send_to(&answer(&packet[..len]), client).await.unwrap();
    });
    let forging = tokio::spawn(async move {
        let (query, client) = queries.recv().await.unwrap();
        let mut message = answer(&query);
        *message.last_mut().unwrap() = 66;
        forger.send_to(&message, client).unwrap();
    });
    let (upstreams, route) = (Upstreams::new(), route(vec![target(address_of_server)]));
    assert_eq!(address(&ask(&upstreams, &route).await), 1);
    server.await.unwrap();
    forging.await.unwrap();
}

#[tokio::test]
async fn uses_tcp_after_a_suspected_forgery() {
    let fake = Fake::new(|query, tcp| match tcp {
        true => vec![Act::Reply(answer(query))],
        false => {
            let guess = |guess: u8| {
                change(answer(query), |message| {
                    message[0] = message[0].wrapping_add(guess);
                    *message.last_mut().unwrap() = 66;
                })
            };
            (1..40).map(guess).collect()
        }
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    let (response, ms) = timed(ask(&upstreams, &route)).await;
    assert_eq!((address(&response), upstreams.counters.fallbacks.get()), (1, 1));
    assert!(ms < 3000, "{ms}");
}

#[tokio::test]
async fn rejects_another_case_from_a_server_that_keeps_case() {
    let folds = Arc::new(AtomicU8::new(0));
    let folding = folds.clone();
    let fake = Fake::new(move |query, tcp| {
        let fold = folding.load(Relaxed) == 1 && !tcp;
        vec![change(answer(query), |message| {
            if fold {
                message[HEADER..HEADER + NAME.len()].make_ascii_lowercase();
                *message.last_mut().unwrap() = 66;
            }
        })]
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    for _ in 0..3 {
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
    }
    let spellings: Vec<_> =
        fake.queries().into_iter().map(|(query, _)| query[HEADER..HEADER + NAME.len()].to_vec()).collect();
    assert!(spellings.iter().all(|name| name != NAME && name.eq_ignore_ascii_case(NAME)));
    assert_ne!(spellings[0], spellings[1]);
    assert_eq!(upstreams.report(&route)[0].keeps_case, Some(true));
    folds.store(1, Relaxed);
    assert_eq!(address(&ask(&upstreams, &route).await), 1, "by TCP");
    assert!(fake.queries().iter().any(|(_, tcp)| *tcp));
}

#[tokio::test]
async fn sends_lower_case_to_servers_that_fold_case() {
    let fake = Fake::new(|query, _| {
        vec![change(answer(query), |message| message[HEADER..HEADER + NAME.len()].make_ascii_lowercase())]
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    for _ in 0..3 {
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
    }
    let lower: Vec<_> = fake.queries().iter().map(|(query, _)| query[HEADER..HEADER + NAME.len()] == *NAME).collect();
    assert_eq!(lower, [false, true, true]);
    assert_eq!(upstreams.report(&route)[0].keeps_case, Some(false));
}

#[tokio::test]
async fn recognises_names_in_flight_by_their_case() {
    let fake = Fake::new(|query, _| vec![Act::Late(200, answer(query))]).await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    let looking = async {
        sleep(Duration::from_millis(100)).await;
        let query = fake.queries().remove(0).0;
        let name = query[HEADER..HEADER + NAME.len()].to_vec();
        let may_be_ours = |name: &[u8], qtype| upstreams.may_be_ours(name, qtype);
        assert!(may_be_ours(&name, 1) && !may_be_ours(NAME, 1) && !may_be_ours(&name, 28));
        name
    };
    let (response, name) = tokio::join!(ask(&upstreams, &route), looking);
    assert_eq!(address(&response), 1);
    assert!(!upstreams.may_be_ours(&name, 1));
}

#[tokio::test]
async fn asks_another_server_after_an_error_response() {
    for (code, name) in [(2, "SERVFAIL"), (5, "REFUSED"), (4, "NOTIMP"), (1, "FORMERR"), (11, "RCODE 11")] {
        let bad = Fake::new(move |query, _| vec![Act::Reply(header(query, code))]).await;
        let good = Fake::new(|query, _| vec![Act::Late(20, answer(query))]).await;
        let upstreams = Upstreams::new();
        let both = route(vec![bad.target(), good.target()]);
        assert_eq!(address(&ask(&upstreams, &both).await), 1);
        let (failure, ms) = timed(ask(&upstreams, &route(vec![bad.target()]))).await;
        assert_eq!(text(failure), (22, format!("{} answered {name}", bad.target())));
        assert!(ms < 3000, "{ms}");
        assert_eq!(upstreams.report(&both).iter().filter(|report| report.state == ServerState::Up).count(), 2);
    }
}

#[tokio::test]
async fn asks_servers_without_edns_support_without_edns() {
    let fake = Fake::new(|query, _| {
        let edns = query[11] == 1;
        // Some copy nothing but the header.
        vec![Act::Reply(if edns {
            [&query[..2], &[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat()
        } else {
            answer(query)
        })]
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    for queries in [2, 1] {
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
        assert_eq!(fake.queries().len(), queries);
    }
}

#[tokio::test]
async fn asks_another_server_after_a_malformed_response() {
    let bad = Fake::new(|query, _| vec![change(answer(query), |message| message.truncate(message.len() - 1))]).await;
    let good = Fake::new(|query, _| vec![Act::Late(20, answer(query))]).await;
    let upstreams = Upstreams::new();
    assert!(answers_within(Upstreams::new, &route(vec![bad.target(), good.target()]), 300).await);
    let (code, text) = text(ask(&upstreams, &route(vec![bad.target()])).await);
    assert_eq!((code, text), (22, format!("{} sent an answer that cannot be read", bad.target())));
}

/// A response in lower case, as from a server that folds case.
fn folded(query: &[u8]) -> Act {
    change(answer(query), |message| message[HEADER..HEADER + NAME.len()].make_ascii_lowercase())
}

#[tokio::test]
async fn confirms_responses_of_servers_that_begin_to_fold_case_without_tcp() {
    for is_silent in [false, true] {
        let folds = Arc::new(AtomicU8::new(0));
        let folding = folds.clone();
        let fake = Fake::new(move |query, tcp| match (tcp, folding.load(Relaxed)) {
            (true, _) => Vec::new(),
            (false, 0) => vec![Act::Reply(answer(query))],
            (false, _) => vec![folded(query)],
        })
        .await;
        let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
        for _ in 0..3 {
            assert_eq!(address(&ask(&upstreams, &route).await), 1);
        }
        assert_eq!(upstreams.report(&route)[0].keeps_case, Some(true));
        if !is_silent {
            fake.close_tcp().await;
        }
        folds.store(1, Relaxed);
        let (response, ms) = timed(ask(&upstreams, &route)).await;
        assert_eq!(address(&response), 1, "silent: {is_silent}");
        assert!(ms < if is_silent { 3000 } else { 900 }, "{ms}");
        assert_eq!((upstreams.report(&route)[0].keeps_case, fake.queries().len() > 4), (Some(false), true));
        // The server is asked in lower case now, and once.
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
        let after = fake.queries();
        assert_eq!((after.len(), &after[0].0[HEADER..HEADER + NAME.len()]), (1, NAME));
        assert_eq!(upstreams.report(&route)[0].state, ServerState::Up);
    }
}

#[tokio::test]
async fn restores_lower_case_in_the_question_of_a_response() {
    let fake =
        Fake::new(|query, _| vec![change(answer(query), |message| message.extend_from_slice(b"\xc0\x0c"))]).await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    let response = ask(&upstreams, &route).await.unwrap();
    assert_eq!(response[HEADER..HEADER + NAME.len()], *NAME);
    assert_ne!(fake.queries()[0].0[HEADER..HEADER + NAME.len()], *NAME);
}

/// The response of a server to a query.
type Says = fn(&[u8]) -> Vec<u8>;

#[tokio::test]
async fn demotes_servers_whose_responses_are_rejected() {
    let useless = |query: &[u8]| {
        let mut message = answer(query);
        let end = message.len() - 4;
        message[end..].copy_from_slice(&USELESS);
        message
    };
    let acts: [Says; 3] = [
        useless,
        |query| header(query, 5),
        |query| {
            let mut message = answer(query);
            message.truncate(message.len() - 1);
            message
        },
    ];
    for act in acts {
        let bad = Fake::new(move |query, _| vec![Act::Reply(act(query))]).await;
        let good = Fake::new(|query, _| vec![Act::Late(30, answer(query))]).await;
        let (upstreams, both) = (Upstreams::new(), route(vec![bad.target(), good.target()]));
        for _ in 0..12 {
            assert_eq!(address(&ask(&upstreams, &both).await), 1);
        }
        let asked = bad.queries().len();
        assert!((1..=5).contains(&asked), "{asked}");
        let report = upstreams.report(&both);
        assert_eq!(report[0].target, good.target());
        assert_eq!((report[1].state, report[1].error.is_some()), (ServerState::Up, true));
        // The only server of a route is asked in any case.
        let (code, _) = text(ask(&upstreams, &route(vec![bad.target()])).await);
        assert_eq!((code, bad.queries().len()), (22, 1));
    }
}

/// A refusal of EDNS with this RCODE. The upper half of an extended RCODE is in the OPT record (RFC
/// 6891, section 6.1.3).
fn refusal(query: &[u8], code: u16) -> Vec<u8> {
    let mut message = header(query, (code & 15) as u8);
    if code > 15 {
        message[11] = 1;
        message.extend_from_slice(&[0, 0, 41, 4, 208, (code >> 4) as u8, 0, 0, 0, 0, 0]);
    }
    message
}

const REFUSALS: [u16; 3] = [rcode::FORMERR, rcode::NOTIMP, rcode::BADVERS];

#[tokio::test]
async fn turns_edns_off_for_a_while_but_never_for_dnssec_questions() {
    let all = REFUSALS.map(|code| async move {
        // A temporary error: only the first query with EDNS is refused.
        let count = Arc::new(AtomicU8::new(0));
        let fake = Fake::new(move |query, _| {
            let refused = query[11] == 1 && count.fetch_add(1, Relaxed) == 0;
            vec![Act::Reply(if refused { refusal(query, code) } else { answer(query) })]
        })
        .await;
        let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
        let edns = |fake: &Fake| fake.queries().iter().map(|(query, _)| query[11] == 1).collect::<Vec<_>>();
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
        assert_eq!(edns(&fake), [true, false], "{code}");
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
        assert_eq!(edns(&fake), [false], "{code}");
        assert_eq!(address(&ask_with(&upstreams, &route, NAME, true).await), 1);
        assert_eq!(edns(&fake), [true], "{code}");
        sleep(Duration::from_millis(10_100)).await;
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
        assert_eq!(edns(&fake), [true], "{code}: it is tried again");
    });
    all.into_iter().collect::<JoinSet<()>>().join_all().await;
}

#[tokio::test]
async fn sends_dnssec_questions_with_edns_first() {
    for code in REFUSALS {
        let old = Fake::new(move |query, _| {
            vec![Act::Reply(if query[11] == 1 { refusal(query, code) } else { answer(query) })]
        })
        .await;
        let edns = |fake: &Fake| fake.queries().iter().map(|(query, _)| query[11] == 1).collect::<Vec<_>>();
        let (upstreams, alone) = (Upstreams::new(), route(vec![old.target()]));
        for _ in 0..2 {
            assert_eq!(address(&ask_with(&upstreams, &alone, NAME, true).await), 1);
            assert_eq!(edns(&old), [true, true, false]);
        }
        // Another server may support EDNS.
        let new = Fake::new(|query, _| vec![Act::Late(30, answer(query))]).await;
        assert_eq!(address(&ask_with(&upstreams, &route(vec![old.target(), new.target()]), NAME, true).await), 1);
        assert!(edns(&old).iter().all(|edns| *edns) && edns(&new).iter().all(|edns| *edns));
    }
}
