//! What the attempts at one target come to: thresholds, the shortest time that a verdict holds, and flapping. Pure: time
//! comes in.
//!
//! ```text
//!             success_threshold successes              failure_threshold failures
//! unknown  --------------------------------> healthy ---------------------------> unhealthy
//! (counts as healthy)                           ^                                    |
//!                                               +------- success_threshold ----------+
//! ```

use crate::snapshot::health::{Probe, State};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The number of intervals that a verdict holds at least.
const MIN_HOLD_INTERVALS: u32 = 2;
/// More changes than this within [`FLAPPING_WINDOW`] hold the target unhealthy.
const MAX_CHANGES: usize = 6;
/// The time in which changes are counted.
const FLAPPING_WINDOW: Duration = Duration::from_secs(600);
/// How long a target is held unhealthy that flaps for the first time. The time doubles with each further time.
const FIRST_HOLD: Duration = Duration::from_secs(60);
/// The longest time that a target is held unhealthy.
const MAX_HOLD: Duration = Duration::from_secs(3600);

/// The history of one target.
#[derive(Clone, Debug, Default)]
pub struct History {
    state: State,
    successes: u8,
    failures: u8,
    changed: Option<Instant>,
    /// Changes within the last [`FLAPPING_WINDOW`], oldest first.
    changes: VecDeque<Instant>,
    /// How often in a row the target was held for flapping.
    holds: u32,
    held_until: Option<Instant>,
}

/// What an attempt has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that answers see.
    None,
    /// The target has become healthy.
    Healthy,
    /// The target has become unhealthy.
    Unhealthy,
    /// The target has become unhealthy, and is held so because it changes too often.
    Held,
}

impl History {
    /// The history of a target whose state an earlier process has found.
    pub fn restored(state: State) -> History {
        History { state, ..History::default() }
    }

    /// What the attempts have come to.
    pub fn state(&self) -> State {
        self.state
    }

    /// Until when the target is held unhealthy.
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Takes the result of an attempt that ended at `now`.
    pub fn observe(&mut self, is_success: bool, probe: &Probe, now: Instant) -> Change {
        match is_success {
            true => (self.successes, self.failures) = (self.successes.saturating_add(1), 0),
            false => (self.successes, self.failures) = (0, self.failures.saturating_add(1)),
        }
        if self.held_until.is_some_and(|until| now >= until) {
            self.held_until = None;
        }
        let is_young = self.changed.is_some_and(|changed| now < changed + MIN_HOLD_INTERVALS * probe.interval);
        let wanted = match self.state {
            State::Unknown | State::Unhealthy if self.successes >= probe.success_threshold => State::Healthy,
            State::Healthy if self.failures >= probe.failure_threshold => State::Unhealthy,
            _ => return Change::None,
        };
        if is_young || self.held_until.is_some() {
            return Change::None;
        }
        let was_unknown = self.state == State::Unknown;
        self.state = wanted;
        if was_unknown {
            return Change::Healthy;
        }
        self.changed = Some(now);
        self.count_change(now);
        match wanted {
            State::Unhealthy if self.changes.len() > MAX_CHANGES => {
                let hold = FIRST_HOLD.saturating_mul(1 << self.holds.min(16)).min(MAX_HOLD);
                self.holds += 1;
                self.held_until = Some(now + hold);
                Change::Held
            }
            State::Unhealthy => Change::Unhealthy,
            _ => Change::Healthy,
        }
    }

    fn count_change(&mut self, now: Instant) {
        while self.changes.front().is_some_and(|first| now > *first + FLAPPING_WINDOW) {
            self.changes.pop_front();
        }
        if self.changes.is_empty() {
            self.holds = 0;
        }
        self.changes.push_back(now);
    }

    /// The time until the next attempt: half of the interval while the next attempts may change the verdict.
    pub fn delay(&self, probe: &Probe) -> Duration {
        let is_in_transition = match self.state {
            State::Healthy => self.failures > 0,
            State::Unhealthy | State::Unknown => self.successes > 0 && self.held_until.is_none(),
        };
        match is_in_transition {
            true => probe.interval / 2,
            false => probe.interval,
        }
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
