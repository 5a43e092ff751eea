//! Answers that do not fit, and connections.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[tokio::test]
async fn truncated_answers_are_asked_for_by_tcp() {
    let fake = Fake::new(|query, tcp| vec![Act::Reply(if tcp { answer(query) } else { truncated(query) })]).await;
    let (upstreams, route) = (Upstreams::new(), route(vec![fake.target()]));
    for _ in 0..3 {
        assert_eq!(address(&ask(&upstreams, &route).await), 1);
    }
    let by_tcp: Vec<_> = fake.queries().into_iter().map(|(_, tcp)| tcp).collect();
    assert_eq!(by_tcp, [false, true, false, true, false, true]);
}

#[tokio::test]
async fn who_truncates_for_ever_is_of_no_use() {
    let bad = Fake::new(|query, _| vec![Act::Reply(truncated(query))]).await;
    let upstreams = Upstreams::new();
    let (failure, ms) = timed(ask(&upstreams, &route(vec![bad.target()]))).await;
    assert_eq!(text(failure), (22, format!("{} truncates its answer on a stream", bad.target())));
    assert!(ms < 3000, "{ms}");
    let good = Fake::new(|query, _| vec![Act::Late(10, answer(query))]).await;
    assert_eq!(address(&ask(&upstreams, &route(vec![bad.target(), good.target()])).await), 1);
}

#[tokio::test]
async fn connections_that_the_server_closed_are_opened_again() {
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
async fn who_closes_without_an_answer_is_of_no_use() {
    let bad = Fake::new(|query, tcp| match tcp {
        true => vec![Act::Close],
        false => vec![Act::Reply(truncated(query))],
    })
    .await;
    let upstreams = Upstreams::new();
    let (failure, ms) = timed(ask(&upstreams, &route(vec![bad.target()]))).await;
    assert_eq!(text(failure), (22, format!("{} has closed the connection", bad.target())));
    assert!(ms < 3000, "{ms}");
}

#[tokio::test]
async fn wrong_answers_by_tcp_are_not_taken() {
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

/// Many queries share a connection, of which the server answers a few before it closes it.
#[tokio::test]
async fn a_server_that_closes_after_a_few_answers_gets_the_rest_again() {
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
async fn a_connection_that_ends_before_the_first_answer_is_opened_once_more() {
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
