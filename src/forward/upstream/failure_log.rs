//! The log of upstream failures, for operators: clients see rules and numbers of targets, but no
//! addresses.
//!
//! The event `upstream query failed` is logged at most once per [`INTERVAL`] for each rule and
//! target. It never has the name in question: queries are logged by the query log only.

use crate::snapshot::routes::Target;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The minimum time between two events for one rule and target.
const INTERVAL: Duration = Duration::from_secs(60);
/// The maximum number of rules and targets with an event within [`INTERVAL`]. Beyond it, failures
/// of others are not logged.
const MAX_TARGETS: usize = 1024;

/// The times of the last events, by rule and target.
#[derive(Default)]
pub struct FailureLog(Mutex<HashMap<(Box<str>, Target), LastEvent>>);

struct LastEvent {
    at: Instant,
    /// The number of failures since then.
    suppressed: u64,
}

impl FailureLog {
    /// Logs the failure of a target, unless an event for it was logged within [`INTERVAL`]. `rule`
    /// is empty for the internet resolver; `error` is a predicate whose subject is the target.
    pub fn record(&self, rule: &str, target: &Target, error: &str, now: Instant) {
        if let Some(suppressed) = self.admit(rule, target, now) {
            let rule = if rule.is_empty() { "-" } else { rule };
            tracing::warn!(rule, target = %target, error, suppressed, "upstream query failed");
        }
    }

    /// The number of failures that were suppressed since the last event. None if this one is
    /// suppressed too.
    fn admit(&self, rule: &str, target: &Target, now: Instant) -> Option<u64> {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (rule.into(), target.clone());
        if let Some(last) = events.get_mut(&key) {
            if now.saturating_duration_since(last.at) < INTERVAL {
                last.suppressed += 1;
                return None;
            }
            last.at = now;
            return Some(std::mem::take(&mut last.suppressed));
        }
        if events.len() >= MAX_TARGETS {
            events.retain(|_, last| now.saturating_duration_since(last.at) < INTERVAL);
            if events.len() >= MAX_TARGETS {
                return None;
            }
        }
        events.insert(key, LastEvent { at: now, suppressed: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(number: u16) -> Target {
        Target::do53(std::net::IpAddr::from([10, 0, (number >> 8) as u8, number as u8]))
    }

    #[test]
    fn logs_each_rule_and_target_once_per_interval() {
        let (log, start) = (FailureLog::default(), Instant::now());
        assert_eq!(log.admit("rr-1", &target(1), start), Some(0));
        assert_eq!(log.admit("rr-1", &target(1), start + INTERVAL / 2), None);
        assert_eq!(log.admit("rr-1", &target(2), start), Some(0), "another target");
        assert_eq!(log.admit("rr-2", &target(1), start), Some(0), "another rule");
        assert_eq!(log.admit("rr-1", &target(1), start + INTERVAL / 2), None);
        assert_eq!(log.admit("rr-1", &target(1), start + INTERVAL), Some(2), "two were suppressed");
        assert_eq!(log.admit("rr-1", &target(1), start + 2 * INTERVAL), Some(0));
    }

    #[test]
    fn limits_the_number_of_targets_with_events() {
        let (log, start) = (FailureLog::default(), Instant::now());
        let logged = |now| (0..3000).filter(|number| log.admit("rr-1", &target(*number), now).is_some()).count();
        assert_eq!((logged(start), logged(start)), (MAX_TARGETS, 0));
        assert_eq!(logged(start + INTERVAL), MAX_TARGETS);
        assert!(log.0.lock().unwrap().len() <= MAX_TARGETS);
    }
}
