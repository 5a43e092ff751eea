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

fn healthy() -> History {
    History::restored(Healthy, &KeptChanges::default(), Instant::now(), 0)
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
    let (mut history, start) = (healthy(), Instant::now());
    // One attempt per second with an interval of 10 s: the target becomes unhealthy at once, and
    // stays so for 20 s.
    let states = run(&mut history, &probe(1, 1), start, 1, "-++++++++++++++++++++++");
    assert_eq!(states.iter().filter(|state| **state == Unhealthy).count(), 20);
}

#[test]
fn a_target_that_flaps_is_held_unhealthy_for_longer_and_longer() {
    let (mut history, mut now, probe) = (healthy(), Instant::now(), probe(1, 1));
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
    let mut history = healthy();
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
fn a_restart_keeps_the_hold_of_a_target_that_flaps() {
    let (mut history, mut now, probe) = (healthy(), Instant::now(), probe(1, 1));
    let mut flap = |history: &mut History| {
        for n in 0.. {
            now += Duration::from_secs(20);
            if history.observe(n % 2 == 1, &probe, now) == Change::Held {
                return now;
            }
        }
        now
    };
    let held = flap(&mut history);
    let kept = history.kept_changes(held, 5000);
    assert_eq!((kept.times.len(), kept.times.last(), kept.holds, kept.held_until), (7, Some(&5000), 1, Some(5060)));
    // Ten seconds later, another process starts. Its clock has another origin.
    let start = Instant::now();
    let mut next = History::restored(Unhealthy, &kept, start, 5010);
    assert_eq!(next.kept_changes(start, 5010), kept);
    assert_eq!(next.observe(true, &probe, start + Duration::from_secs(49)), Change::None);
    assert_eq!(next.observe(true, &probe, start + Duration::from_secs(50)), Change::Healthy);
    // The next change to unhealthy is one too many again.
    assert_eq!(next.observe(false, &probe, start + Duration::from_secs(70)), Change::Held);
    assert_eq!(next.held_until(), Some(start + Duration::from_secs(70 + 120)));
    // A clock that was set back holds no target for longer than a process would.
    let next = History::restored(Unhealthy, &kept, start, 0);
    assert_eq!((next.held_until(), next.kept_changes(start, 0).times), (Some(start + MAX_HOLD), vec![]));
}

#[test]
fn attempts_before_and_after_a_restart_count_together() {
    for (state, before, after, expected) in [
        (Healthy, "--", "-", Unhealthy),
        (Healthy, "--+", "--", Healthy),
        (Unhealthy, "+", "+", Healthy),
        (Unhealthy, "+-", "+", Unhealthy),
        (Unknown, "+", "+", Healthy),
        (Unknown, "--", "+", Unknown),
    ] {
        let (start, probe) = (Instant::now(), probe(3, 2));
        let mut history = History::restored(state, &KeptChanges::default(), start, 0);
        run(&mut history, &probe, start, 30, before);
        let mut next = History::restored(history.state(), &history.kept_changes(start, 0), start, 0);
        assert_eq!(run(&mut next, &probe, start, 30, after).last(), Some(&expected), "{before} {after}");
    }
    // zonal does not store results that only confirm the state, so it stores nothing for most targets.
    let mut history = healthy();
    run(&mut history, &probe(3, 2), Instant::now(), 30, "++++");
    assert!(history.kept_changes(Instant::now(), 0).is_empty());
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
