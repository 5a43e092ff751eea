//! Targets that are killed, do not answer, lose datagrams or are slow. While another target
//! answers, clients notice nothing.

use super::Resolver;
use crate::harness::{
    fake::{Asked, Fake, Say},
    wait_until,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

const FIRST: &str = "192.0.2.1";
const SECOND: &str = "192.0.2.2";

fn good(ip: &'static str) -> impl Fn(&Asked) -> Vec<Say> {
    move |asked| vec![Say::Now(asked.address(ip))]
}

/// A target that loses three of ten datagrams.
fn lossy(ip: &'static str) -> impl Fn(&Asked) -> Vec<Say> {
    let seed = AtomicUsize::new(1);
    move |asked| {
        let random = seed.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 40;
        if random % 10 < 3 { vec![] } else { vec![Say::Now(asked.address(ip))] }
    }
}

/// Sends queries for new names; all must be answered.
fn all_answered(resolver: &Resolver, domain: &str, names: usize, what: &str) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let names: Vec<String> = (0..names).map(|_| format!("n{}.{domain}", COUNT.fetch_add(1, Relaxed))).collect();
    let replies = resolver.stub().volley(&names, 1);
    let failed: Vec<_> = replies.iter().filter(|(_, reply)| reply.status != "NOERROR").collect();
    assert!(failed.is_empty(), "{what}: {} of {} failed: {}", failed.len(), names.len(), failed[0].1);
    assert_eq!(replies.len(), names.len(), "{what}: queries were not answered");
}

#[test]
fn answers_while_one_of_two_targets_fails() {
    let second = Fake::start("127.72.20.3:0", good(SECOND));
    let mut first = Some(Fake::start("127.72.20.2:0", good(FIRST)));
    let address = first.as_ref().unwrap().address.to_string();
    let resolver = Resolver::start(&[("two.example", &[first.as_ref().unwrap().target(), second.target()])], "");
    all_answered(&resolver, "two.example", 100, "both work");

    drop(first.take());
    all_answered(&resolver, "two.example", 300, "the first one is killed");
    first = Some(Fake::start(&address, |_| vec![]));
    all_answered(&resolver, "two.example", 300, "the first one is silent");
    // One time-out is enough to learn that the target is down.
    let before = first.as_ref().unwrap().count(|_| true);
    all_answered(&resolver, "two.example", 300, "the first one is still silent");
    let more = first.as_ref().unwrap().count(|_| true) - before;
    // On a busy machine, zonal repeats an attempt to the other target if the response is late.
    assert!(more < 150, "{more} of 300 questions went to a server that is known to be silent");

    drop(first.take());
    first = Some(Fake::start(&address, lossy(FIRST)));
    all_answered(&resolver, "two.example", 300, "the first one loses datagrams");
    drop(first.take());
    first = Some(Fake::start(&address, |asked| vec![Say::Later(Duration::from_millis(400), asked.address(FIRST))]));
    all_answered(&resolver, "two.example", 300, "the first one is slow");

    // The target recovers, then the other one fails.
    drop(first.take());
    let _first = Fake::start(&address, good(FIRST));
    all_answered(&resolver, "two.example", 100, "the first one is back");
    let silent = second.address.to_string();
    drop(second);
    let _second = Fake::start(&silent, |_| vec![]);
    all_answered(&resolver, "two.example", 300, "the second one is silent");
}

/// While another target answers, probes find a recovered target. Without another target, the next
/// query finds it.
#[test]
fn asks_targets_again_that_are_back() {
    let address = Fake::start("127.72.21.2:0", good(FIRST)).address.to_string();
    let second = Fake::start("127.72.21.3:0", good(SECOND));
    let (ip, port) = address.split_once(':').unwrap();
    let dead = format!("{{ip: {ip}, port: {port}}}");
    let resolver = Resolver::start(&[("two.example", &[dead.clone(), second.target()]), ("one.example", &[dead])], "");
    let stub = resolver.stub();
    all_answered(&resolver, "two.example", 200, "the first one is dead");
    let said = stub.ask("dead.one.example");
    assert_eq!((said.reply.status.as_str(), said.reply.ede.is_empty()), ("SERVFAIL", false), "{}", said.reply);
    assert!(said.took < Duration::from_secs(5), "{:?}", said.took);

    let first = Fake::start(&address, good(FIRST));
    let n = AtomicUsize::new(0);
    wait_until("the only target is asked again", || {
        let n = n.fetch_add(1, Relaxed);
        (stub.ask(&format!("n{n}.one.example")).reply.status == "NOERROR").then_some(())
    });
    wait_until("the first of two is asked again", || {
        let n = n.fetch_add(1, Relaxed);
        assert_eq!(stub.ask(&format!("n{n}.two.example")).reply.status, "NOERROR");
        (first.count_below("two.example") > 0).then_some(())
    });
}

/// zonal repeats a query to a single target that loses three of ten datagrams until the target
/// answers.
#[test]
fn answers_despite_packet_loss() {
    let fake = Fake::start("127.72.22.2:0", lossy(FIRST));
    let resolver = Resolver::start(&[("lossy.example", &[fake.target()])], "");
    let names: Vec<String> = (0..300).map(|n| format!("n{n}.lossy.example")).collect();
    let replies = resolver.stub().volley(&names, 1);
    let answered = replies.values().filter(|reply| reply.status == "NOERROR").count();
    assert!(answered >= 290, "{answered} of {} were answered", names.len());
}

/// Equal questions at the same time are sent to the target once.
#[test]
fn asks_equal_questions_once() {
    let fake = Fake::start("127.72.23.2:0", |asked| vec![Say::Later(Duration::from_millis(150), asked.address(FIRST))]);
    let resolver = Arc::new(Resolver::start(&[("same.example", &[fake.target()])], ""));
    let names: Vec<String> = (0..1_000).map(|n| format!("n{}.same.example", n % 10)).collect();
    let replies = resolver.stub().volley(&names, 50);
    assert_eq!(replies.len(), names.len());
    assert!(replies.values().all(|reply| reply.data("A") == [FIRST]));
    assert!(fake.count(|_| true) <= 30, "{} questions", fake.count(|_| true));
}

/// Many servers answer the queries on a connection in order.
#[test]
fn a_slow_answer_on_a_connection_delays_no_other_answer() {
    let fake = Fake::start("127.72.25.2:0", |asked| match (asked.tcp, asked.label().as_str()) {
        (false, _) => vec![Say::Now(asked.truncated())],
        (true, "slow") => vec![Say::Later(Duration::from_secs(8), asked.address(SECOND))],
        (true, _) => vec![Say::Now(asked.address(FIRST))],
    });
    let resolver = Resolver::start(&[("in-order.example", &[fake.target()])], "");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| resolver.stub().ask("slow.in-order.example"));
        wait_until("the connection is stuck", || {
            (fake.count(|asked| !asked.tcp && asked.label() == "slow") > 0).then_some(())
        });
        std::thread::sleep(Duration::from_millis(300));
        for n in 0..3 {
            let said = resolver.stub().ask(&format!("quick-{n}.in-order.example"));
            assert_eq!(said.reply.data("A"), [FIRST], "question {n}: {}{}", said.reply, said.why);
        }
        assert_eq!(slow.join().unwrap().reply.status, "SERVFAIL");
    });
}
