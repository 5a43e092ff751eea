//! Actions that are due later, by ticks.
//!
//! Actions that are due within one tick are due together, so the thread wakes up once for all of them. With 1,000 attempts
//! a second, a wake-up for each costs as much CPU as the attempts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Time between two ticks. An action comes late by less than this.
const TICK: Duration = Duration::from_millis(25);

/// Actions by the tick at which they are due.
#[derive(Debug)]
pub struct Timers<T> {
    start: Instant,
    /// Actions by the number of their tick since `start`.
    due: BTreeMap<u64, Vec<T>>,
}

impl<T> Timers<T> {
    /// Starts to count ticks.
    pub fn new(start: Instant) -> Timers<T> {
        Timers { start, due: BTreeMap::new() }
    }

    /// Adds an action that is due at `at`. Returns the time of its tick.
    pub fn push(&mut self, at: Instant, action: T) -> Instant {
        let tick = at.saturating_duration_since(self.start).as_nanos().div_ceil(TICK.as_nanos()) as u64;
        self.due.entry(tick).or_default().push(action);
        self.time_of(tick)
    }

    /// Returns the time of the first tick with an action.
    pub fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(tick, _)| self.time_of(*tick))
    }

    /// Takes the actions of the first tick that is due at `now`, with the time of the tick.
    pub fn take_due(&mut self, now: Instant) -> Option<(Instant, Vec<T>)> {
        let at = self.next().filter(|at| *at <= now)?;
        self.due.pop_first().map(|(_, actions)| (at, actions))
    }

    fn time_of(&self, tick: u64) -> Instant {
        self.start + Duration::from_nanos((TICK.as_nanos() as u64).saturating_mul(tick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_of_one_tick_are_due_together_and_never_early() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        assert_eq!(timers.next(), None);
        for micros in [10_001, 1, 25_001, 25_000, 0, 60_000] {
            let at = start + Duration::from_micros(micros);
            let tick = timers.push(at, micros);
            assert!(tick >= at && tick < at + TICK, "{micros}");
        }
        let mut taken = Vec::new();
        for millis in [0, 24, 25, 49, 50, 74, 75] {
            while let Some((at, actions)) = timers.take_due(start + Duration::from_millis(millis)) {
                taken.push((millis, (at - start).as_millis(), actions));
            }
        }
        let expected =
            [(0, 0, vec![0]), (25, 25, vec![10_001, 1, 25_000]), (50, 50, vec![25_001]), (75, 75, vec![60_000])];
        assert_eq!(taken, expected);
        assert_eq!(timers.next(), None);
    }
}
