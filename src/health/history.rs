//! The state of one target, derived from its attempts: thresholds, minimum hold time, and flapping.
//!
//! The code never reads the clock. The caller passes the time.
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

/// Minimum number of intervals for which a state holds.
const MIN_HOLD_INTERVALS: u32 = 2;
/// Number of changes within [`FLAPPING_WINDOW`] beyond which the target is held unhealthy.
const MAX_CHANGES: usize = 6;
/// Time window in which changes are counted.
const FLAPPING_WINDOW: Duration = Duration::from_secs(600);
/// First time for which a flapping target is held unhealthy. Each further hold doubles it.
const FIRST_HOLD: Duration = Duration::from_secs(60);
/// Longest time for which a target is held unhealthy.
const MAX_HOLD: Duration = Duration::from_secs(3600);

/// The history of one target.
#[derive(Clone, Debug, Default)]
pub struct History {
    state: State,
    successes: u8,
    failures: u8,
    changed: Option<Instant>,
    /// Times of the changes within the last [`FLAPPING_WINDOW`], oldest first.
    changes: VecDeque<Instant>,
    /// Number of consecutive holds for flapping.
    holds: u32,
    held_until: Option<Instant>,
}

/// The effect of an attempt on the state of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The state stays the same.
    None,
    /// The target has become healthy.
    Healthy,
    /// The target has become unhealthy.
    Unhealthy,
    /// The target has become unhealthy, and stays unhealthy for a time because its state changes
    /// too often.
    Held,
}

impl History {
    /// Creates the history of a target whose state an earlier process stored.
    pub fn restored(state: State) -> History {
        History { state, ..History::default() }
    }

    /// State of the target after all attempts.
    pub fn state(&self) -> State {
        self.state
    }

    /// Time until which the target is held unhealthy.
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Adds the result of an attempt that ended at `now`.
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

    /// Time until the next attempt. It is half of the interval while the last results contradict
    /// the state, because the next results may change it.
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
