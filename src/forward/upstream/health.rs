//! What is known of how well a server answers: its round trip time and its failures. Pure: time comes in.

use std::{borrow::Cow, time::Duration};
use tokio::time::Instant;

/// When nothing is known, another try is made after this time.
const FIRST_INTERVAL: Duration = Duration::from_millis(350);
const LEAST_INTERVAL: Duration = Duration::from_millis(50);
const MOST_INTERVAL: Duration = Duration::from_millis(800);
/// So many times in a row without an answer, and others are asked first.
const DOWN_AFTER: u32 = 3;
/// So many times in a row, for so long, and nobody waits for it any more. Where a third of all packets is lost in each
/// direction, this comes by chance once in 200 times.
const DEAD_AFTER: (u32, Duration) = (8, Duration::from_secs(3));

/// How well a server answers.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Smoothed round trip time and its variation, in seconds (RFC 6298).
    rtt: Option<(f64, f64)>,
    /// Failures since the last answer, and when the first of them was.
    failures: u32,
    since: Option<Instant>,
    /// What was wrong the last time, if it was not just silence.
    trouble: Option<Cow<'static, str>>,
    last_answer: Option<Instant>,
}

/// What a server's health amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was not asked yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not answer any more, since then; others are asked first.
    Down(Instant),
}

impl Health {
    /// An answer came to what was sent then.
    pub fn answered(&mut self, sent: Instant, now: Instant) {
        let sample = now.saturating_duration_since(sent).as_secs_f64();
        self.rtt = Some(match self.rtt {
            None => (sample, sample / 2.0),
            Some((srtt, var)) => (0.875 * srtt + 0.125 * sample, 0.75 * var + 0.25 * (srtt - sample).abs()),
        });
        self.heard(now);
    }

    /// An answer came, by a way that says nothing of the round trip time.
    pub fn heard(&mut self, now: Instant) {
        *self = Health { rtt: self.rtt, last_answer: Some(now), ..Health::default() };
    }

    /// No answer came in time to what was sent then. True if the server is down from now on.
    pub fn timed_out(&mut self, sent: Instant, now: Instant) -> bool {
        // It has answered others since: a packet was lost, or it dislikes this question.
        if self.last_answer.is_some_and(|at| at >= sent) {
            return false;
        }
        self.failed(1, now)
    }

    /// It refused, or there is no way to it. True if the server is down from now on.
    pub fn refused(&mut self, trouble: Cow<'static, str>, now: Instant) -> bool {
        self.trouble = Some(trouble);
        self.failed(DOWN_AFTER, now)
    }

    fn failed(&mut self, times: u32, now: Instant) -> bool {
        let was_down = self.is_down();
        self.failures = self.failures.saturating_add(times);
        self.since.get_or_insert(now);
        !was_down && self.is_down()
    }

    /// After which time another try is made.
    pub fn interval(&self) -> Duration {
        self.rtt.map_or(FIRST_INTERVAL, |(srtt, var)| {
            Duration::from_secs_f64((srtt + 4.0 * var).min(60.0)).clamp(LEAST_INTERVAL, MOST_INTERVAL)
        })
    }

    /// The smoothed round trip time.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|(srtt, _)| Duration::from_secs_f64(srtt))
    }

    /// When it answered last; none if it has failed since.
    pub fn last_answer(&self) -> Option<Instant> {
        self.last_answer
    }

    /// Others are asked first.
    pub fn is_down(&self) -> bool {
        self.failures >= DOWN_AFTER
    }

    /// Nobody waits for it.
    pub fn is_dead(&self, now: Instant) -> bool {
        let (times, long) = DEAD_AFTER;
        self.failures >= times && self.since.is_some_and(|since| now.saturating_duration_since(since) >= long)
    }

    /// What is wrong with it, if it is not just silent.
    pub fn trouble(&self) -> Option<Cow<'static, str>> {
        self.trouble.clone()
    }

    /// What all that amounts to.
    pub fn state(&self) -> State {
        match (self.since, self.last_answer) {
            (Some(since), _) if self.is_down() => State::Down(since),
            (_, Some(_)) => State::Up,
            _ => State::Unknown,
        }
    }

    /// The smaller, the sooner it is asked: those that answer, by their round trip time; those that failed just now; those
    /// that are down.
    pub fn rank(&self) -> (u8, Duration) {
        let class = match self.failures {
            0 => 0,
            _ if !self.is_down() => 1,
            _ => 2,
        };
        (class, self.rtt().unwrap_or(FIRST_INTERVAL))
    }
}

/// So many answers in a row that are of no use to a route, and others are asked first.
const DOUBTED_AFTER: u32 = 3;
/// For so long; then one question finds out whether it is still so.
const DOUBTED_FOR: Duration = Duration::from_secs(30);

/// What the answers of a server are worth to a route: a server that answers at once may be lame, refuse what it is asked, or
/// send what cannot be read.
#[derive(Clone, Debug, Default)]
pub struct Worth {
    /// Answers in a row that were of no use.
    useless: u32,
    doubted_until: Option<Instant>,
    /// What was wrong with the last one.
    trouble: Cow<'static, str>,
}

impl Worth {
    /// An answer was of use.
    pub fn useful(&mut self) {
        if self.useless > 0 {
            *self = Worth::default();
        }
    }

    /// An answer was of no use, for this reason.
    pub fn useless(&mut self, trouble: Cow<'static, str>, now: Instant) {
        self.useless = self.useless.saturating_add(1);
        self.trouble = trouble;
        if self.useless >= DOUBTED_AFTER {
            self.doubted_until = Some(now + DOUBTED_FOR);
        }
    }

    /// Whether others are asked first.
    pub fn is_doubted(&self, now: Instant) -> bool {
        self.doubted_until.is_some_and(|until| until > now)
    }

    /// Why others are asked first, if they are.
    pub fn doubt(&self, now: Instant) -> Option<Cow<'static, str>> {
        self.is_doubted(now).then(|| self.trouble.clone())
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
        assert_eq!((health.interval(), health.state()), (ms(350), State::Unknown));
        health.answered(start, start + ms(100));
        assert_eq!((health.interval(), health.rtt()), (ms(300), Some(ms(100))));
        for _ in 0..100 {
            health.answered(start, start + ms(100));
        }
        assert!(health.interval() < ms(102), "{:?}", health.interval());
        for _ in 0..100 {
            health.answered(start, start + ms(1));
        }
        assert_eq!(health.interval(), ms(50));
        health.answered(start, start + ms(5000));
        assert_eq!(health.interval(), ms(800));
    }

    #[test]
    fn timeouts_in_a_row_bring_it_down() {
        let start = Instant::now();
        let mut health = Health::default();
        health.answered(start, start + ms(10));
        assert!(!health.timed_out(start, start + ms(100)), "what was sent before an answer came does not count");
        assert_eq!(health.rank().0, 0);
        assert!(!health.timed_out(start + ms(20), start + ms(100)));
        assert_eq!((health.rank().0, health.state()), (1, State::Up));
        assert!(!health.timed_out(start + ms(20), start + ms(101)));
        assert!(health.timed_out(start + ms(20), start + ms(102)));
        assert!(!health.timed_out(start + ms(20), start + ms(103)), "it is down already");
        assert_eq!((health.rank().0, health.state()), (2, State::Down(start + ms(100))));
        for _ in 0..100 {
            health.timed_out(start + ms(20), start + ms(110));
        }
        assert!(!health.is_dead(start + ms(3000)), "a burst is not time");
        assert!(health.is_dead(start + ms(3100)));
        health.answered(start + ms(3000), start + ms(3200));
        assert_eq!((health.rank().0, health.state()), (0, State::Up));
    }

    #[test]
    fn one_refusal_is_enough() {
        let start = Instant::now();
        let mut health = Health::default();
        assert!(health.refused("is ill".into(), start));
        assert!(health.is_down() && !health.is_dead(start));
        assert_eq!(health.trouble().as_deref(), Some("is ill"));
    }

    #[test]
    fn answers_of_no_use_are_doubted_for_a_while() {
        let start = Instant::now();
        let mut worth = Worth::default();
        worth.useless("answered REFUSED".into(), start);
        worth.useless("answered REFUSED".into(), start);
        worth.useful();
        worth.useless("answered REFUSED".into(), start);
        worth.useless("answered REFUSED".into(), start);
        assert!(!worth.is_doubted(start), "there was one of use between them");
        worth.useless("refers to other servers".into(), start);
        assert_eq!(worth.doubt(start + ms(29_000)).as_deref(), Some("refers to other servers"));
        assert_eq!(worth.doubt(start + ms(31_000)), None);
        worth.useless("answered REFUSED".into(), start + ms(31_000));
        assert!(worth.is_doubted(start + ms(32_000)), "one more is enough");
        worth.useful();
        assert!(!worth.is_doubted(start + ms(32_000)));
    }

    #[test]
    fn the_fastest_that_answers_is_asked_first() {
        let start = Instant::now();
        let with = |rtt: Option<u64>, failures: u32| {
            let mut health = Health::default();
            rtt.inspect(|rtt| health.answered(start, start + ms(*rtt)));
            (0..failures).for_each(|_| {
                health.timed_out(start + ms(900), start + ms(1000));
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
