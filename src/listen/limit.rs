//! Limits on replies over UDP. They keep attackers from using zonal as an amplifier.
//!
//! - An error reply has a budget per second and source prefix.
//! - A large reply has a budget per source prefix, view and name, and a larger budget for all names of the prefix.
//!
//! The memory is fixed: keys are hashed into a table with a secret seed. Keys in the same slot share its budget.

use siphasher::sip::SipHasher13;
use std::{
    hash::Hasher,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// The result of a check of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The reply is within the budget.
    Send,
    /// The reply is beyond the budget: send a truncated one. A client with a genuine address asks again by TCP.
    Truncate,
    /// The reply is beyond the budget: send nothing, or BADCOOKIE.
    Drop,
}

const SLOTS: usize = 1 << 14;

/// The maximum time that a budget accumulates, in seconds. A burst of that many seconds passes at once.
const BURST_SECONDS: u64 = 2;

/// Budgets of replies per second, one for each source prefix. A prefix is a /24 of IPv4 or a /56 of IPv6.
///
/// Each slot holds, shifted left by one, the time in microseconds at which its budget is full again (the generic cell
/// rate algorithm), and in the lowest bit whether the next excess is dropped.
pub struct RateLimit {
    slots: Box<[AtomicU64]>,
    seed: (u64, u64),
    /// Microseconds that one reply costs; 0 without a limit.
    cost: u64,
    start: Instant,
}

impl RateLimit {
    /// A limit of replies per second, with bursts of twice as many. 0 means no limit.
    pub fn new(per_second: u32, seed: (u64, u64)) -> RateLimit {
        RateLimit {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            seed,
            cost: 1_000_000u64.checked_div(per_second.into()).map_or(0, |cost| cost.max(1)),
            start: Instant::now(),
        }
    }

    /// Takes one reply to `source` from the budget of its prefix.
    pub fn check(&self, source: IpAddr) -> Verdict {
        self.check_for(source, |_| ())
    }

    /// Takes one reply to `source` from the budget of its prefix for one subject. `subject` adds the subject to the hash.
    pub fn check_for(&self, source: IpAddr, subject: impl FnOnce(&mut SipHasher13)) -> Verdict {
        if self.cost == 0 {
            return Verdict::Send;
        }
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write_u64(prefix(source));
        subject(&mut hasher);
        self.take(hasher.finish() as usize % SLOTS, self.start.elapsed().as_micros() as u64)
    }

    fn take(&self, slot: usize, now: u64) -> Verdict {
        let slot = &self.slots[slot];
        let taken = slot.fetch_update(Relaxed, Relaxed, |state| {
            let full = (state >> 1).max(now) + self.cost;
            (full - now <= BURST_SECONDS * 1_000_000).then_some(full << 1 | state & 1)
        });
        match taken {
            Ok(_) => Verdict::Send,
            Err(_) if slot.fetch_xor(1, Relaxed) & 1 == 0 => Verdict::Truncate,
            Err(_) => Verdict::Drop,
        }
    }
}

fn prefix(source: IpAddr) -> u64 {
    match source {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
        // The highest bit keeps the two families apart.
        IpAddr::V6(address) => (address.to_bits() >> 72) as u64 | 1 << 63,
    }
}

/// The limit on large replies.
pub struct LargeLimit {
    of_name: RateLimit,
    of_prefix: RateLimit,
}

/// The limit for all names of a prefix is this many times the limit for one name.
const ALL_NAMES_FACTOR: u32 = 10;

impl LargeLimit {
    /// A limit of large replies per second, source prefix, view and name. 0 means no limit.
    pub fn new(per_second: u32, seed: (u64, u64)) -> LargeLimit {
        LargeLimit {
            of_name: RateLimit::new(per_second, seed),
            of_prefix: RateLimit::new(per_second.saturating_mul(ALL_NAMES_FACTOR), seed),
        }
    }

    /// Whether a large reply may be sent. `name` is the name in the question, in wire format.
    pub fn allows(&self, source: IpAddr, view: Option<u32>, name: &[u8]) -> bool {
        let of_name = self.of_name.check_for(source, |hasher| {
            hasher.write_u32(view.map_or(u32::MAX, |view| view));
            name.iter().for_each(|octet| hasher.write_u8(octet.to_ascii_lowercase()));
        });
        of_name == Verdict::Send && self.of_prefix.check(source) == Verdict::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_at(limit: &RateLimit, source: IpAddr, now: u64) -> Verdict {
        let mut hasher = SipHasher13::new_with_keys(limit.seed.0, limit.seed.1);
        hasher.write_u64(prefix(source));
        limit.take(hasher.finish() as usize % SLOTS, now)
    }

    fn sent(limit: &RateLimit, source: &str, now: u64, attempts: usize) -> usize {
        let source = source.parse().unwrap();
        (0..attempts).filter(|_| check_at(limit, source, now) == Verdict::Send).count()
    }

    #[test]
    fn limits_replies_per_prefix() {
        let limit = RateLimit::new(50, (1, 2));
        let second = 1_000_000;
        assert_eq!(sent(&limit, "192.0.2.1", 10 * second, 500), 100);
        assert_eq!(sent(&limit, "192.0.2.200", 10 * second, 500), 0, "the same /24");
        assert_eq!(sent(&limit, "192.0.3.1", 10 * second, 500), 100, "another /24");
        assert_eq!(sent(&limit, "192.0.2.1", 11 * second, 500), 50, "a second later");
        assert_eq!(sent(&limit, "192.0.2.1", 100 * second, 500), 100, "the budget accumulates up to the burst");
        assert_eq!(sent(&limit, "2001:db8:0:1::1", second, 500), 100);
        assert_eq!(sent(&limit, "2001:db8:0:2::1", second, 500), 0, "the same /56");
        assert_eq!(sent(&limit, "2001:db8:0:100::1", second, 500), 100, "another /56");
    }

    #[test]
    fn alternates_between_truncated_and_dropped_beyond_the_budget() {
        let limit = RateLimit::new(1, (1, 2));
        let source = "192.0.2.1".parse().unwrap();
        let verdicts: Vec<Verdict> = (0..6).map(|_| check_at(&limit, source, 1)).collect();
        use Verdict::*;
        assert_eq!(verdicts, [Send, Send, Truncate, Drop, Truncate, Drop]);
    }

    #[test]
    fn zero_means_no_limit() {
        let limit = RateLimit::new(0, (1, 2));
        assert!((0..1000).all(|_| limit.check("192.0.2.1".parse().unwrap()) == Verdict::Send));
    }

    #[test]
    fn limits_large_replies_per_prefix_view_and_name_and_for_all_names() {
        let limit = LargeLimit::new(20, (1, 2));
        let source = "192.0.2.1".parse().unwrap();
        let sent = |source: IpAddr, view: u32, name: &[u8]| {
            (0..500).filter(|_| limit.allows(source, Some(view), name)).count()
        };
        // The budget grows a little while the test runs.
        let is_budget = |count: usize| (40..80).contains(&count);
        assert!(is_budget(sent(source, 1, b"\x05large\0")));
        assert!(sent("192.0.2.200".parse().unwrap(), 1, b"\x05LARGE\0") < 40, "the same /24 and name");
        assert!(is_budget(sent(source, 2, b"\x05large\0")), "another view");
        assert!(is_budget(sent(source, 1, b"\x05other\0")), "another name");
        assert!(is_budget(sent("192.0.3.1".parse().unwrap(), 1, b"\x05large\0")), "another /24");
        let names: usize = (0..50u8).map(|n| sent(source, 1, &[2, b'n', n, 0])).sum();
        assert!((200..600).contains(&names), "all names of a prefix: {names}");
        let off = LargeLimit::new(0, (1, 2));
        assert!((0..1000).all(|_| off.allows(source, Some(1), b"\0")));
    }
}
