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
use serde::{Deserialize, Serialize};
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

/// The history of a target that zonal stores for a restart. With it, zonal continues to hold a target whose state changes too
/// often, and continues to count attempts in a row. Times are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptChanges {
    /// The last changes, oldest first.
    pub times: Vec<i64>,
    /// Number of consecutive holds for flapping.
    pub holds: u32,
    /// Time until which the target is held unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<i64>,
    /// Number of the last successes in a row at a target that is not healthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub successes: u8,
    /// Number of the last failures in a row at a healthy target.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: u8,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

impl KeptChanges {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.held_until.is_none() && self.successes == 0 && self.failures == 0
    }
}

/// The history of one target.
#[derive(Clone, Debug, Default)]
pub struct History {
    state: State,
    successes: u8,
    failures: u8,
    changed: Option<Instant>,
    /// Times of the last changes within [`FLAPPING_WINDOW`], oldest first: at most one more than [`MAX_CHANGES`].
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
    /// Creates the history of a target from what an earlier process stored. `time` is the time of `now`, in seconds since
    /// 1970.
    pub fn restored(state: State, kept: &KeptChanges, now: Instant, time: i64) -> History {
        let before = |at: i64| now.checked_sub(Duration::from_secs(u64::try_from(time - at).ok()?));
        // The clock may have been set back.
        let hold = |until: i64| Some(Duration::from_secs(u64::try_from(until - time).ok()?).min(MAX_HOLD));
        History {
            state,
            successes: kept.successes,
            failures: kept.failures,
            changes: kept.times.iter().filter_map(|at| before(*at)).collect(),
            holds: kept.holds,
            held_until: kept.held_until.and_then(hold).map(|hold| now + hold),
            ..History::default()
        }
    }

    /// Returns the changes that a restart keeps. `time` is the time of `now`, in seconds since 1970.
    pub fn kept_changes(&self, now: Instant, time: i64) -> KeptChanges {
        let seconds = |duration: Duration| duration.as_secs() as i64;
        let times = self.changes.iter().map(|at| time - seconds(now.saturating_duration_since(*at)));
        let held_until = self.held_until.map(|until| time + seconds(until.saturating_duration_since(now)));
        let (successes, failures) = match self.state {
            State::Healthy => (0, self.failures),
            State::Unknown | State::Unhealthy => (self.successes, 0),
        };
        KeptChanges { times: times.collect(), holds: self.holds, held_until, successes, failures }
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
        if self.changes.len() > MAX_CHANGES {
            self.changes.pop_front();
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
