//! The health of a server: its round trip time and its failures. All functions are pure: the time
//! is a parameter.
//!
//! ```text
//! state    from                                           effect
//! up       an answer after the last failure               asked in the order of round trip times
//! down     3 failures in a row, or 1 refusal              other servers are asked first; probed until it answers
//! dead     8 failures in a row, over 3 s at least         if all servers of a route are dead, its questions fail at once
//! ```

use std::{borrow::Cow, time::Duration};
use tokio::time::Instant;

/// The interval between attempts while the round trip time is unknown.
const FIRST_INTERVAL: Duration = Duration::from_millis(350);
/// The limits of the interval between attempts.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
const MAX_INTERVAL: Duration = Duration::from_millis(800);
/// The number of failures in a row after which a server is down.
const DOWN_AFTER: u32 = 3;
/// The number of failures in a row, and the time over which they occur, after which a server is
/// dead. If a third of all packets is lost in each direction, this happens by chance once in 200
/// times.
const DEAD_AFTER: (u32, Duration) = (8, Duration::from_secs(3));

/// The round trip time and the failures of a server.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Smoothed round trip time and its variation, in seconds (RFC 6298).
    rtt: Option<(f64, f64)>,
    /// The number of failures since the last answer, and the time of the first.
    failures: u32,
    since: Option<Instant>,
    /// The last error, if it was not silence.
    last_error: Option<Cow<'static, str>>,
    last_answer: Option<Instant>,
}

/// Whether a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It has not been asked yet.
    Unknown,
    /// It answers.
    Up,
    /// It has not answered since this time; other servers are asked first.
    Down(Instant),
}

impl Health {
    /// Records an answer to a query sent at `sent`.
    pub fn record_round_trip(&mut self, sent: Instant, now: Instant) {
        let sample = now.saturating_duration_since(sent).as_secs_f64();
        self.rtt = Some(match self.rtt {
            None => (sample, sample / 2.0),
            Some((srtt, var)) => (0.875 * srtt + 0.125 * sample, 0.75 * var + 0.25 * (srtt - sample).abs()),
        });
        self.record_answer(now);
    }

    /// Records an answer that tells nothing about the round trip time.
    pub fn record_answer(&mut self, now: Instant) {
        *self = Health { rtt: self.rtt, last_answer: Some(now), ..Health::default() };
    }

    /// Records a time-out of a query sent at `sent`. True if the server is down from now on.
    pub fn record_timeout(&mut self, sent: Instant, now: Instant) -> bool {
        // The server has answered another query since: a packet was lost, or the server ignores
        // this question.
        if self.last_answer.is_some_and(|at| at >= sent) {
            return false;
        }
        self.record_failures(1, now)
    }

    /// Records that the server refused the connection or cannot be reached. True if the server is
    /// down from now on.
    pub fn record_refusal(&mut self, error: Cow<'static, str>, now: Instant) -> bool {
        self.last_error = Some(error);
        self.record_failures(DOWN_AFTER, now)
    }

    fn record_failures(&mut self, times: u32, now: Instant) -> bool {
        let was_down = self.is_down();
        self.failures = self.failures.saturating_add(times);
        self.since.get_or_insert(now);
        !was_down && self.is_down()
    }

    /// The interval after which the next attempt is made: the round trip time plus four variations,
    /// within limits.
    pub fn interval(&self) -> Duration {
        self.rtt.map_or(FIRST_INTERVAL, |(srtt, var)| {
            Duration::from_secs_f64((srtt + 4.0 * var).min(60.0)).clamp(MIN_INTERVAL, MAX_INTERVAL)
        })
    }

    /// The smoothed round trip time.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|(srtt, _)| Duration::from_secs_f64(srtt))
    }

    /// The time of the last answer. None if the server has never answered.
    pub fn last_answer(&self) -> Option<Instant> {
        self.last_answer
    }

    /// Whether other servers are asked first.
    pub fn is_down(&self) -> bool {
        self.failures >= DOWN_AFTER
    }

    /// Whether questions no longer wait for the server.
    pub fn is_dead(&self, now: Instant) -> bool {
        let (times, long) = DEAD_AFTER;
        self.failures >= times && self.since.is_some_and(|since| now.saturating_duration_since(since) >= long)
    }

    /// The last error since the last answer, if it was not silence.
    pub fn last_error(&self) -> Option<Cow<'static, str>> {
        self.last_error.clone()
    }

    /// Whether the server answers.
    pub fn state(&self) -> ServerState {
        match (self.since, self.last_answer) {
            (Some(since), _) if self.is_down() => ServerState::Down(since),
            (_, Some(_)) => ServerState::Up,
            _ => ServerState::Unknown,
        }
    }

    /// The rank of the server, lowest first: servers that answer, by round trip time; servers with
    /// failures; servers that are down.
    pub fn rank(&self) -> (u8, Duration) {
        let class = match self.failures {
            0 => 0,
            _ if !self.is_down() => 1,
            _ => 2,
        };
        (class, self.rtt().unwrap_or(FIRST_INTERVAL))
    }
}

/// The number of rejected responses in a row after which other servers of a route are asked first.
const DEMOTED_AFTER: u32 = 3;
/// The time for which other servers are asked first. After it, one question tries the server again.
const DEMOTED_FOR: Duration = Duration::from_secs(30);

/// The usefulness of a server's responses to a route. A server that answers fast may be lame,
/// refuse the questions of a route, or send responses that cannot be read.
#[derive(Clone, Debug, Default)]
pub struct Usefulness {
    /// The number of rejected responses since the last accepted one.
    useless_in_a_row: u32,
    demoted_until: Option<Instant>,
    /// The reason of the last rejection.
    last_reason: Cow<'static, str>,
}

impl Usefulness {
    /// Records an accepted response.
    pub fn record_useful(&mut self) {
        if self.useless_in_a_row > 0 {
            *self = Usefulness::default();
        }
    }

    /// Records a rejected response.
    pub fn record_useless(&mut self, reason: Cow<'static, str>, now: Instant) {
        self.useless_in_a_row = self.useless_in_a_row.saturating_add(1);
        self.last_reason = reason;
        if self.useless_in_a_row >= DEMOTED_AFTER {
            self.demoted_until = Some(now + DEMOTED_FOR);
        }
    }

    /// Whether other servers are asked first.
    pub fn is_demoted(&self, now: Instant) -> bool {
        self.demoted_until.is_some_and(|until| until > now)
    }

    /// The reason why other servers are asked first, if they are.
    pub fn demotion_reason(&self, now: Instant) -> Option<Cow<'static, str>> {
        self.is_demoted(now).then(|| self.last_reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_interval_follows_the_round_trip_time() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!((health.interval(), health.state()), (ms(350), ServerState::Unknown));
        health.record_round_trip(start, start + ms(100));
        assert_eq!((health.interval(), health.rtt()), (ms(300), Some(ms(100))));
        for _ in 0..100 {
            health.record_round_trip(start, start + ms(100));
        }
        assert!(health.interval() < ms(102), "{:?}", health.interval());
        for _ in 0..100 {
            health.record_round_trip(start, start + ms(1));
        }
        assert_eq!(health.interval(), ms(50));
        health.record_round_trip(start, start + ms(5000));
        assert_eq!(health.interval(), ms(800));
    }

    #[test]
    fn a_server_is_down_after_timeouts_in_a_row_and_dead_after_more() {
        let start = Instant::now();
        let mut health = Health::default();
        health.record_round_trip(start, start + ms(10));
        assert!(!health.record_timeout(start, start + ms(100)), "a query sent before the last answer does not count");
        assert_eq!(health.rank().0, 0);
        assert!(!health.record_timeout(start + ms(20), start + ms(100)));
        assert_eq!((health.rank().0, health.state()), (1, ServerState::Up));
        assert!(!health.record_timeout(start + ms(20), start + ms(101)));
        assert!(health.record_timeout(start + ms(20), start + ms(102)));
        assert!(!health.record_timeout(start + ms(20), start + ms(103)), "it is down already");
        assert_eq!((health.rank().0, health.state()), (2, ServerState::Down(start + ms(100))));
        for _ in 0..100 {
            health.record_timeout(start + ms(20), start + ms(110));
        }
        assert!(!health.is_dead(start + ms(3000)), "a burst is not time");
        assert!(health.is_dead(start + ms(3100)));
        health.record_round_trip(start + ms(3000), start + ms(3200));
        assert_eq!((health.rank().0, health.state()), (0, ServerState::Up));
    }

    #[test]
    fn a_server_is_down_after_one_refusal() {
        let start = Instant::now();
        let mut health = Health::default();
        assert!(health.record_refusal("is ill".into(), start));
        assert!(health.is_down() && !health.is_dead(start));
        assert_eq!(health.last_error().as_deref(), Some("is ill"));
    }

    #[test]
    fn a_server_is_demoted_after_rejected_responses_in_a_row() {
        let start = Instant::now();
        let mut usefulness = Usefulness::default();
        usefulness.record_useless("answered REFUSED".into(), start);
        usefulness.record_useless("answered REFUSED".into(), start);
        usefulness.record_useful();
        usefulness.record_useless("answered REFUSED".into(), start);
        usefulness.record_useless("answered REFUSED".into(), start);
        assert!(!usefulness.is_demoted(start), "a response was accepted between them");
        usefulness.record_useless("refers to other servers".into(), start);
        assert_eq!(usefulness.demotion_reason(start + ms(29_000)).as_deref(), Some("refers to other servers"));
        assert_eq!(usefulness.demotion_reason(start + ms(31_000)), None);
        usefulness.record_useless("answered REFUSED".into(), start + ms(31_000));
        assert!(usefulness.is_demoted(start + ms(32_000)), "one more is enough");
        usefulness.record_useful();
        assert!(!usefulness.is_demoted(start + ms(32_000)));
    }

    #[test]
    fn ranks_servers_that_answer_by_round_trip_time() {
        let start = Instant::now();
        let with = |rtt: Option<u64>, failures: u32| {
            let mut health = Health::default();
            rtt.inspect(|rtt| health.record_round_trip(start, start + ms(*rtt)));
            (0..failures).for_each(|_| {
                health.record_timeout(start + ms(900), start + ms(1000));
            });
            health
        };
        let mut all = [
            (4, with(Some(1), 3)),
            (2, with(None, 0)),
            (0, with(Some(2), 0)),
            (1, with(Some(20), 0)),
            (3, with(Some(1), 1)),
        ];
        all.sort_by_key(|(_, health)| health.rank());
        assert_eq!(all.map(|(place, _)| place), [0, 1, 2, 3, 4]);
    }
}
