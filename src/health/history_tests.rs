use super::*;
use crate::{
    manifest::ProbeType,
    snapshot::health::{ProbeQuestion, State::*},
};

fn probe(failure_threshold: u8, success_threshold: u8) -> Probe {
    Probe {
        question: ProbeQuestion {
            probe_type: ProbeType::Tcp,
            address: None,
            name: None,
            vpc: None,
            port: 1,
            path: "/".into(),
            search: None,
            verify_certificate: false,
            max_status: 399,
        },
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(4),
        failure_threshold,
        success_threshold,
    }
}

/// Adds one attempt every `every` seconds: `+` is a success, `-` a failure. Returns the state after
/// each attempt.
fn run(history: &mut History, probe: &Probe, start: Instant, every: u64, attempts: &str) -> Vec<State> {
    let one = |(n, attempt)| {
        history.observe(attempt == '+', probe, start + Duration::from_secs(every * n));
        history.state()
    };
    (0..).zip(attempts.chars()).map(one).collect()
}

#[test]
fn becomes_healthy_and_unhealthy_at_the_thresholds() {
    let (mut history, start) = (History::default(), Instant::now());
    let states = run(&mut history, &probe(3, 2), start, 10, "+-++--+---+-++");
    let expected = [
        Unknown, Unknown, Unknown, Healthy, Healthy, Healthy, Healthy, Healthy, Healthy, Unhealthy, Unhealthy,
        Unhealthy, Unhealthy, Healthy,
    ];
    assert_eq!(states, expected);
}

#[test]
fn a_target_that_was_never_healthy_stays_unknown() {
    let (mut history, start) = (History::default(), Instant::now());
    assert_eq!(run(&mut history, &probe(3, 2), start, 10, "------+-----").last(), Some(&Unknown));
    assert!(Unknown.counts_as_healthy());
}

#[test]
fn a_verdict_holds_for_two_intervals() {
    let (mut history, start) = (History::restored(Healthy), Instant::now());
    // One attempt per second with an interval of 10 s: the target becomes unhealthy at once, and
    // stays so for 20 s.
    let states = run(&mut history, &probe(1, 1), start, 1, "-++++++++++++++++++++++");
    assert_eq!(states.iter().filter(|state| **state == Unhealthy).count(), 20);
}

#[test]
fn a_target_that_flaps_is_held_unhealthy_for_longer_and_longer() {
    let (mut history, mut now, probe) = (History::restored(Healthy), Instant::now(), probe(1, 1));
    let mut holds = Vec::new();
    for n in 0..400 {
        now += Duration::from_secs(20);
        if history.observe(n % 2 == 1, &probe, now) == Change::Held {
            holds.push(history.held_until().unwrap() - now);
        }
    }
    assert!(holds.len() >= 3, "{holds:?}");
    assert_eq!(holds[..3], [60, 120, 240].map(Duration::from_secs));
    // The target stays unhealthy for the hold time, whatever the attempts return.
    let mut history = History::restored(Healthy);
    let mut n = 0;
    while history.held_until().is_none() {
        now += Duration::from_secs(20);
        history.observe(n % 2 == 1, &probe, now);
        n += 1;
    }
    history.observe(true, &probe, now + Duration::from_secs(59));
    assert_eq!(history.state(), Unhealthy);
    history.observe(true, &probe, now + Duration::from_secs(60));
    assert_eq!(history.state(), Healthy);
}

#[test]
fn attempts_come_twice_as_often_in_transition() {
    let (start, probe) = (Instant::now(), probe(3, 2));
    for (attempts, seconds) in [("", 10), ("+", 5), ("++", 10), ("++-", 5), ("++---", 10), ("++---+", 5), ("---", 10)] {
        let mut history = History::default();
        run(&mut history, &probe, start, 30, attempts);
        assert_eq!(history.delay(&probe), Duration::from_secs(seconds), "{attempts}");
    }
}
