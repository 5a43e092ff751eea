//! What a zone that is transferred waits for: the time of its refresh, a notification, its expiry.

use super::timers;
use crate::manifest::transferred::Soa;
use std::time::{Duration, SystemTime};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Notifications lead to a refresh not more often than this.
const SPACING: Duration = Duration::from_millis(500);

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It is time to ask the primaries.
    Refresh,
    /// What there is has expired.
    Expired,
}

/// When what is to happen.
#[derive(Debug)]
pub struct Schedule {
    next: Instant,
    /// None: there is nothing that could expire.
    expires: Option<Instant>,
    /// When the primaries were asked last.
    last: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// Begins with a refresh at once. `live` is what is answered from, and for how long it has not been refreshed.
    pub fn new(live: Option<(&Soa, Duration)>) -> Schedule {
        let now = Instant::now();
        let expires = live.map(|(soa, age)| now + timers::expire(soa).saturating_sub(age));
        Schedule { next: now, expires, last: None, failures: 0 }
    }

    /// Waits for what comes first.
    pub async fn wait(&self, notified: &Notify) -> Wake {
        tokio::select! {
            biased;
            () = self.expiry() => Wake::Expired,
            () = sleep_until(self.next) => Wake::Refresh,
            () = self.notified(notified) => Wake::Refresh,
        }
    }

    async fn notified(&self, notified: &Notify) {
        notified.notified().await;
        if let Some(last) = self.last {
            sleep_until(last + SPACING).await;
        }
    }

    /// Waits until what there is has expired.
    pub async fn expiry(&self) {
        match self.expires {
            Some(expires) => sleep_until(expires).await,
            None => std::future::pending().await,
        }
    }

    /// What there is has expired.
    pub fn expired(&mut self) {
        self.expires = None;
    }

    /// What there is is the newest version. `chance` is from 0 to 1.
    pub fn succeeded(&mut self, soa: &Soa, chance: f64) {
        let now = Instant::now();
        let next = now + timers::refresh(soa, chance);
        *self = Schedule { next, expires: Some(now + timers::expire(soa)), last: Some(now), failures: 0 };
    }

    /// No primary could tell; `soa` is that of what there is.
    pub fn failed(&mut self, soa: Option<&Soa>, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        (self.next, self.last) = (now + timers::retry(soa, self.failures, chance), Some(now));
    }

    /// When the primaries are asked next, and when what there is expires.
    pub fn times(&self) -> (SystemTime, Option<SystemTime>) {
        let clock = |at: Instant| SystemTime::now() + at.saturating_duration_since(Instant::now());
        (clock(self.next), self.expires.map(clock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOA: Soa = Soa { serial: 1, refresh: 100, retry: 30, expire: 250, minimum: 0 };

    async fn after(schedule: &Schedule, notified: &Notify) -> (Wake, u64) {
        let start = Instant::now();
        let wake = schedule.wait(notified).await;
        (wake, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn refresh_retry_and_expiry() {
        let notified = Notify::new();
        let mut schedule = Schedule::new(None);
        assert_eq!(after(&schedule, &notified).await, (Wake::Refresh, 0));
        for pause in [1, 2, 4] {
            schedule.failed(None, 0.0);
            assert_eq!(after(&schedule, &notified).await, (Wake::Refresh, pause));
        }
        schedule.succeeded(&SOA, 0.0);
        assert_eq!(after(&schedule, &notified).await, (Wake::Refresh, 100));
        for _ in 0..4 {
            schedule.failed(Some(&SOA), 0.0);
            assert_eq!(after(&schedule, &notified).await, (Wake::Refresh, 30));
        }
        schedule.failed(Some(&SOA), 0.0);
        assert_eq!(after(&schedule, &notified).await, (Wake::Expired, 30), "250 s after the last success");
        schedule.expired();
        schedule.failed(Some(&SOA), 0.0);
        assert_eq!(after(&schedule, &notified).await, (Wake::Refresh, 30));
        assert_eq!(schedule.times().1, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_kept_expires_with_its_age() {
        let mut schedule = Schedule::new(Some((&SOA, Duration::from_secs(240))));
        schedule.failed(Some(&SOA), 0.0);
        assert_eq!(after(&schedule, &Notify::new()).await, (Wake::Expired, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn notifications_are_gathered() {
        let notified = Notify::new();
        let mut schedule = Schedule::new(None);
        let mut refreshes = 0;
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            // A thousand a second.
            notified.notify_one();
            if tokio::time::timeout(Duration::from_millis(1), schedule.wait(&notified)).await.is_ok() {
                schedule.succeeded(&SOA, 0.0);
                refreshes += 1;
            }
        }
        assert!((1..=11).contains(&refreshes), "{refreshes}");
    }
}
