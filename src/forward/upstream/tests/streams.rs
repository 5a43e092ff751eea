//! Truncated responses, and connections by TCP.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[tokio::test]
async fn asks_by_tcp_after_a_truncated_response() {
    let fake = Fake::new(|query, tcp| vec![Act::Reply(if tcp { answer(query) } else { truncated(query) })]).await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    for _ in 0..3 {
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
    }
    let by_tcp: Vec<_> = fake.queries().into_iter().map(|(_, tcp)| tcp).collect();
    assert_eq!(by_tcp, [false, true, false, true, false, true]);
}

#[tokio::test]
async fn rejects_truncated_responses_by_tcp() {
    let bad = Fake::new(|query, _| vec![Act::Reply(truncated(query))]).await;
    let upstreams = Upstreams::new();
    let (failure, ms) = timed(ask(&upstreams, &route(vec![bad.target()]))).await;
    assert_eq!(text(failure), (22, format!("{} truncates its answer on a connection", bad.target())));
    assert!(ms < 3000, "{ms}");
    let good = Fake::new(|query, _| vec![Act::Late(10, answer(query))]).await;
    assert_eq!(address(&ask(&upstreams, &route(vec![bad.target(), good.target()])).await), 1);
}

#[tokio::test]
async fn reopens_connections_that_the_server_closed() {
    let fake = Fake::new(|query, tcp| match tcp {
        true => vec![Act::Reply(answer(query)), Act::Close],
        false => vec![Act::Reply(truncated(query))],
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    for _ in 0..20 {
        let (response, ms) = timed(ask(&upstreams, &route)).await;
        assert_eq!(address(&response), 1);
        assert!(ms < 3000, "{ms}");
    }
}

#[tokio::test]
async fn fails_when_the_server_closes_connections_without_an_answer() {
    let bad = Fake::new(|query, tcp| match tcp {
        true => vec![Act::Close],
        false => vec![Act::Reply(truncated(query))],
    })
    .await;
    let upstreams = Upstreams::new();
    let (failure, ms) = timed(ask(&upstreams, &route(vec![bad.target()]))).await;
    assert_eq!(text(failure), (22, format!("{} closed the connection", bad.target())));
    assert!(ms < 3000, "{ms}");
}

#[tokio::test]
async fn rejects_wrong_responses_by_tcp() {
    let fake = Fake::new(|query, tcp| {
        let mut wrong = answer(query);
        wrong[0] ^= 1;
        let mut other = answer(query);
        other[13] ^= 1;
        match tcp {
            true => vec![Act::Reply(wrong), Act::Reply(vec![1]), Act::Reply(other), Act::Reply(answer(query))],
            false => vec![Act::Reply(truncated(query))],
        }
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    let (_, text) = text(ask(&upstreams, &route).await);
    assert_eq!(text, format!("{} answered another question", fake.target()));
}

#[tokio::test]
async fn many_queries_share_a_few_connections() {
    let fake = Fake::new(|query, tcp| vec![Act::Reply(if tcp { answer(query) } else { truncated(query) })]).await;
    let (upstreams, route) = (Upstreams::new(), Arc::new(route(vec![fake.target()])));
    let asked: Vec<_> = (0..1000)
        .map(|_| {
            let (upstreams, route) = (upstreams.clone(), route.clone());
            tokio::spawn(async move { address(&ask(&upstreams, &route).await) })
        })
        .collect();
    for asked in asked {
        assert_eq!(asked.await.unwrap(), 1);
    }
}

/// Many queries share a connection, which the server closes after a few answers.
#[tokio::test]
async fn sends_the_remaining_queries_again_when_a_server_closes_after_a_few_answers() {
    for few in [1, 5] {
        let answered = Arc::new(AtomicUsize::new(0));
        let fake = Fake::new(move |query, tcp| match tcp {
            false => vec![Act::Reply(truncated(query))],
            true if answered.fetch_add(1, Relaxed) % few == few - 1 => vec![Act::Reply(answer(query)), Act::Close],
            true => vec![Act::Reply(answer(query))],
        })
        .await;
        let (upstreams, route) = (Upstreams::new(), Arc::new(route(vec![fake.target()])));
        let asked: Vec<_> = (0..40)
            .map(|_| {
                let (upstreams, route) = (upstreams.clone(), route.clone());
                tokio::spawn(async move { address(&ask(&upstreams, &route).await) })
            })
            .collect();
        for asked in asked {
            assert_eq!(asked.await.unwrap(), 1);
        }
    }
}

#[tokio::test]
async fn retries_once_when_a_connection_ends_before_the_first_answer() {
    let connections = Arc::new(AtomicUsize::new(0));
    let fake = Fake::new(move |query, tcp| match tcp {
        false => vec![Act::Reply(truncated(query))],
        true if connections.fetch_add(1, Relaxed) == 0 => vec![Act::Close],
        true => vec![Act::Reply(answer(query))],
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    assert_eq!(address(&ask(&upstreams, &route).await), 1);
}

/// Asks a number of times at once, and returns the texts of the failures.
async fn fail_at_once(upstreams: &Arc<Upstreams>, route: &Arc<Route>, times: usize) -> Vec<String> {
    let asked: Vec<_> = (0..times)
        .map(|_| {
            let (upstreams, route) = (upstreams.clone(), route.clone());
            tokio::spawn(async move { ask(&upstreams, &route).await.err().map(|failure| failure.text) })
        })
        .collect();
    let mut failed = Vec::new();
    for asked in asked {
        failed.extend(asked.await.unwrap());
    }
    failed
}

/// A server that truncates every response by UDP.
async fn by_tcp(act: impl Fn(&[u8]) -> Vec<Act> + Clone + Send + 'static) -> Fake {
    Fake::new(move |query, tcp| if tcp { act(query) } else { vec![Act::Reply(truncated(query))] }).await
}

#[tokio::test]
async fn queues_queries_when_each_answer_closes_the_connection() {
    let fake = by_tcp(|query| vec![Act::Late(20, answer(query)), Act::Close]).await;
    let (upstreams, route) = (Upstreams::new(), Arc::new(route(vec![fake.target()])));
    for round in 0..2 {
        let failed = fail_at_once(&upstreams, &route, 200).await;
        assert!(failed.is_empty(), "round {round}: {} of 200 failed: {}", failed.len(), failed[0]);
    }
}

#[tokio::test]
async fn duplicate_responses_close_no_connection() {
    let fake = by_tcp(|query| vec![Act::Reply(answer(query)), Act::Late(1, answer(query))]).await;
    let (upstreams, route) = (Upstreams::new(), Arc::new(route(vec![fake.target()])));
    let failed = fail_at_once(&upstreams, &route, 200).await;
    assert!(failed.is_empty(), "{} of 200 failed: {}", failed.len(), failed[0]);
    assert!(upstreams.counters.unexpected.get() > 0, "no copy came");
}

#[tokio::test]
async fn a_question_that_breaks_connections_breaks_them_for_no_other() {
    let is_poison = |query: &[u8]| query.to_ascii_lowercase().windows(6).any(|six| six == b"poison");
    let fake = by_tcp(move |query| match is_poison(query) {
        true => vec![Act::Close],
        false => vec![Act::Late(10, answer(query))],
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), Arc::new(route(vec![fake.target()])));
    let name = [&b"\x06poison"[..], NAME].concat();
    for round in 0..3 {
        let poison = async { tokio::join!(ask_for(&upstreams, &route, &name), ask_for(&upstreams, &route, &name)) };
        let (failed, (one, other)) = tokio::join!(fail_at_once(&upstreams, &route, 20), poison);
        assert!(failed.is_empty(), "round {round}: {} of 20 failed: {}", failed.len(), failed[0]);
        for response in [one, other] {
            assert_eq!(text(response).1, format!("{} closed the connection", fake.target()));
        }
    }
}

/// A server that answers in the order of the questions.
#[tokio::test]
async fn slow_answers_delay_no_other_answers() {
    let is_slow = |query: &[u8]| query.to_ascii_lowercase().windows(4).any(|four| four == b"slow");
    let fake = by_tcp(move |query| match is_slow(query) {
        true => vec![Act::Late(4000, answer(query))],
        false => vec![Act::Reply(answer(query))],
    })
    .await;
    let (upstreams, route) = (Upstreams::new(), Arc::new(route(vec![fake.target()])));
    let name = [&b"\x04slow"[..], NAME].concat();
    let mut asked = Vec::new();
    for turn in 0..120 {
        for _ in 0..if turn % 60 == 0 { 8 } else { 0 } {
            let (upstreams, route, name) = (upstreams.clone(), route.clone(), name.clone());
            tokio::spawn(async move { ask_for(&upstreams, &route, &name).await.is_ok() });
        }
        let (upstreams, route) = (upstreams.clone(), route.clone());
        asked.push(tokio::spawn(async move { ask(&upstreams, &route).await }));
        sleep(Duration::from_millis(50)).await;
    }
    for asked in asked {
        assert_eq!(address(&asked.await.unwrap()), 1);
    }
}
