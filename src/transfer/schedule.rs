//! The schedule of a transferred zone: the time of its next refresh, and of its expiry. A
//! notification leads to an early refresh.

use super::timers;
use crate::manifest::transferred::Soa;
use std::time::{Duration, SystemTime};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// The minimum interval between two refreshes after notifications.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// The reason for which a wait ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The primaries are to be asked.
    Refresh,
    /// The zone has expired.
    Expired,
}

/// The times of a zone.
#[derive(Debug)]
pub struct Schedule {
    next: Instant,
    /// When the zone expires; none if there is no zone, or if it has expired.
    expires: Option<Instant>,
    /// When the primaries were asked last.
    last: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// A schedule that begins with a refresh. `served` is the SOA record of the zone that is
    /// served, and the time since its last refresh.
    pub fn new(served: Option<(&Soa, Duration)>) -> Schedule {
        let now = Instant::now();
        let expires = served.map(|(soa, age)| now + timers::expire(soa).saturating_sub(age));
        Schedule { next: now, expires, last: None, failures: 0 }
    }

    /// Waits for the refresh or the expiry, whichever is first.
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
            sleep_until(last + MIN_INTERVAL).await;
        }
    }

    /// Waits until the zone has expired.
    pub async fn expiry(&self) {
        match self.expires {
            Some(expires) => sleep_until(expires).await,
            None => std::future::pending().await,
        }
    }

    /// Notes that the zone has expired.
    pub fn expired(&mut self) {
        self.expires = None;
    }

    /// Notes that the zone is the newest version. `random` is from 0 to 1.
    pub fn succeeded(&mut self, soa: &Soa, random: f64) {
        let now = Instant::now();
        let next = now + timers::refresh(soa, random);
        *self = Schedule { next, expires: Some(now + timers::expire(soa)), last: Some(now), failures: 0 };
    }

    /// Notes that no primary has answered. `soa` is the SOA record of the zone that is served.
    pub fn failed(&mut self, soa: Option<&Soa>, random: f64) {
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        (self.next, self.last) = (now + timers::retry(soa, self.failures, random), Some(now));
    }

    /// The times of the next refresh and of the expiry.
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
    async fn refreshes_retries_and_expires_by_the_soa_record() {
        let notified = Notify::new();
        let mut schedule = Schedule::new(None);
        assert_eq!(after(&schedule, &notified).await, (Wake::Refresh, 0));
        for back_off in [1, 2, 4] {
            schedule.failed(None, 0.0);
            assert_eq!(after(&schedule, &notified).await, (Wake::Refresh, back_off));
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
    async fn expires_a_copy_by_its_age() {
        let mut schedule = Schedule::new(Some((&SOA, Duration::from_secs(240))));
        schedule.failed(Some(&SOA), 0.0);
        assert_eq!(after(&schedule, &Notify::new()).await, (Wake::Expired, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn limits_refreshes_after_notifications() {
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
