//! Detects that the node is isolated: its own network fails, not its targets.
//!
//! On an isolated node, all targets fail at once. If the verdicts followed, answers would be wrong
//! for clients that still reach the targets. So the node freezes its verdicts until half of the
//! targets are healthy again. The code never reads the clock. The caller passes the time.

use ipnet::IpNet;
use std::{
    collections::{HashSet, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

/// Minimum share of the healthy targets that must turn unhealthy at once, in percent.
const MIN_SHARE: usize = 80;
/// Minimum number of targets that must turn unhealthy at once.
const MIN_TARGETS: usize = 3;
/// Minimum number of subnets that must contain these targets.
const MIN_SUBNETS: usize = 2;

/// Detector of isolation.
#[derive(Debug, Default)]
pub struct Isolation {
    /// Number of healthy targets.
    healthy: usize,
    /// Addresses of targets that turned unhealthy, oldest first. Until the given time, the change
    /// counts as simultaneous with others.
    turned: VecDeque<(Instant, IpAddr)>,
    frozen: Option<Frozen>,
}

#[derive(Debug)]
struct Frozen {
    since: Instant,
    /// Number of targets that were healthy before.
    of: usize,
}

impl Isolation {
    /// Records that a target has become healthy.
    pub fn is_healthy(&mut self) {
        self.healthy += 1;
    }

    /// Records that a healthy target is no longer checked.
    pub fn is_gone(&mut self) {
        self.healthy = self.healthy.saturating_sub(1);
    }

    /// Records that a healthy target has turned unhealthy. `interval` is the interval of its
    /// attempts. Returns true if this isolates the node.
    pub fn has_turned(&mut self, address: IpAddr, interval: Duration, now: Instant) -> bool {
        self.healthy = self.healthy.saturating_sub(1);
        self.forget(now);
        self.turned.push_back((now + 2 * interval, address));
        let turned = self.turned.len();
        let before = self.healthy + turned;
        if self.frozen.is_some() || turned < MIN_TARGETS || turned * 100 < before * MIN_SHARE {
            return false;
        }
        let subnets: HashSet<Option<IpNet>> = self.turned.iter().map(|(_, address)| subnet(*address)).collect();
        if subnets.len() < MIN_SUBNETS {
            return false;
        }
        self.frozen = Some(Frozen { since: now, of: before });
        true
    }

    /// Records that the node's own timers are late. Returns true if this isolates the node.
    pub fn is_late(&mut self, now: Instant) -> bool {
        if self.frozen.is_some() || self.healthy == 0 {
            return false;
        }
        self.forget(now);
        self.frozen = Some(Frozen { since: now, of: self.healthy + self.turned.len() });
        true
    }

    /// Whether verdicts are frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Start of the freeze.
    pub fn since(&self) -> Option<Instant> {
        self.frozen.as_ref().map(|frozen| frozen.since)
    }

    /// Ends the freeze if half of the targets are healthy again. Returns true if the freeze has
    /// ended.
    pub fn thaw(&mut self) -> bool {
        let is_back = self.frozen.as_ref().is_some_and(|frozen| self.healthy * 2 >= frozen.of);
        if is_back {
            self.frozen = None;
            self.turned.clear();
        }
        is_back
    }

    fn forget(&mut self, now: Instant) {
        self.turned.retain(|(until, _)| now <= *until);
    }
}

/// Returns the subnet of an address: a /24 for IPv4, a /64 for IPv6.
fn subnet(address: IpAddr) -> Option<IpNet> {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(isolation: &mut Isolation, addresses: &[&str], now: Instant) -> Vec<bool> {
        let interval = Duration::from_secs(10);
        addresses.iter().map(|address| isolation.has_turned(address.parse().unwrap(), interval, now)).collect()
    }

    fn healthy(count: usize) -> Isolation {
        let mut isolation = Isolation::default();
        (0..count).for_each(|_| isolation.is_healthy());
        isolation
    }

    #[test]
    fn freezes_when_nearly_all_targets_fail_at_once() {
        let now = Instant::now();
        let all = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2", "10.0.2.1"];
        let mut isolation = healthy(5);
        assert_eq!(turn(&mut isolation, &all, now), [false, false, false, true, false]);
        assert!(isolation.is_frozen() && !isolation.thaw());
        isolation.is_healthy();
        assert!(!isolation.thaw(), "1 of 5 is back");
        isolation.is_healthy();
        isolation.is_healthy();
        assert!(isolation.thaw() && !isolation.is_frozen());
    }

    #[test]
    fn goes_on_when_targets_fail_one_after_the_other_or_in_one_subnet_or_are_few() {
        let now = Instant::now();
        let mut isolation = healthy(4);
        for n in 0..4 {
            let later = now + Duration::from_secs(21 * n);
            assert_eq!(turn(&mut isolation, &[["10.0.0.1", "10.0.1.1"][n as usize % 2]], later), [false]);
        }
        assert_eq!(turn(&mut healthy(4), &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"], now), [false; 4]);
        assert_eq!(turn(&mut healthy(2), &["10.0.0.1", "10.0.1.2"], now), [false; 2]);
        assert_eq!(turn(&mut healthy(10), &["10.0.0.1", "10.0.1.2", "10.0.2.2", "10.0.3.2"], now), [false; 4]);
    }

    #[test]
    fn freezes_when_its_own_timers_are_late() {
        let mut isolation = healthy(2);
        assert!(isolation.is_late(Instant::now()) && isolation.is_frozen());
        assert!(isolation.thaw(), "the targets are still healthy");
        assert!(!Isolation::default().is_late(Instant::now()), "nothing to freeze");
    }
}
