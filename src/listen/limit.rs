//! The limit on error answers over UDP, so that nobody is an amplifier.
//!
//! Each source prefix has a budget of refused and other error answers per second. The memory is fixed: prefixes are
//! hashed into a table, with a seed that nobody outside knows, and those that meet in a slot share its budget.

use siphasher::sip::SipHasher13;
use std::{
    hash::Hasher,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// What becomes of an error answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is within the budget.
    Send,
    /// It is beyond the budget: send a truncated one, which makes an honest client ask again over TCP.
    Truncate,
    /// It is beyond the budget: send nothing, or a BADCOOKIE.
    Drop,
}

const SLOTS: usize = 1 << 14;

/// How long a budget can be saved up, in seconds: a burst of so many seconds' worth passes at once.
const BURST: u64 = 2;

/// The budgets of all source prefixes: /24 of IPv4, /56 of IPv6.
///
/// Each slot holds, shifted left by one, the time in microseconds at which its budget is full again (the generic cell
/// rate algorithm), and in the lowest bit whether the next excess is dropped.
pub struct ErrorLimit {
    slots: Box<[AtomicU64]>,
    seed: (u64, u64),
    /// Microseconds that one answer costs; 0 without a limit.
    cost: u64,
    start: Instant,
}

impl ErrorLimit {
    /// A limit of so many answers per second and prefix, with bursts of twice as many. 0 means no limit.
    pub fn new(per_second: u32, seed: (u64, u64)) -> ErrorLimit {
        ErrorLimit {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            seed,
            cost: 1_000_000u64.checked_div(per_second.into()).map_or(0, |cost| cost.max(1)),
            start: Instant::now(),
        }
    }

    /// Takes one error answer to `source` out of its prefix's budget.
    pub fn check(&self, source: IpAddr) -> Verdict {
        if self.cost == 0 {
            return Verdict::Send;
        }
        self.check_at(source, self.start.elapsed().as_micros() as u64)
    }

    fn check_at(&self, source: IpAddr, now: u64) -> Verdict {
        let slot = &self.slots[self.slot_of(source)];
        let taken = slot.fetch_update(Relaxed, Relaxed, |state| {
            let full = (state >> 1).max(now) + self.cost;
            (full - now <= BURST * 1_000_000).then_some(full << 1 | state & 1)
        });
        match taken {
            Ok(_) => Verdict::Send,
            Err(_) if slot.fetch_xor(1, Relaxed) & 1 == 0 => Verdict::Truncate,
            Err(_) => Verdict::Drop,
        }
    }

    fn slot_of(&self, source: IpAddr) -> usize {
        let prefix = match source {
            IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
            // The highest bit keeps the two families apart.
            IpAddr::V6(address) => (address.to_bits() >> 72) as u64 | 1 << 63,
        };
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write_u64(prefix);
        hasher.finish() as usize % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(limit: &ErrorLimit, source: &str, now: u64, tries: usize) -> usize {
        let source = source.parse().unwrap();
        (0..tries).filter(|_| limit.check_at(source, now) == Verdict::Send).count()
    }

    #[test]
    fn a_prefix_has_its_budget() {
        let limit = ErrorLimit::new(50, (1, 2));
        let second = 1_000_000;
        assert_eq!(sent(&limit, "192.0.2.1", 10 * second, 500), 100);
        assert_eq!(sent(&limit, "192.0.2.200", 10 * second, 500), 0, "the same /24");
        assert_eq!(sent(&limit, "192.0.3.1", 10 * second, 500), 100, "another /24");
        assert_eq!(sent(&limit, "192.0.2.1", 11 * second, 500), 50, "a second later");
        assert_eq!(sent(&limit, "192.0.2.1", 100 * second, 500), 100, "no more than the burst is saved up");
        assert_eq!(sent(&limit, "2001:db8:0:1::1", second, 500), 100);
        assert_eq!(sent(&limit, "2001:db8:0:2::1", second, 500), 0, "the same /56");
        assert_eq!(sent(&limit, "2001:db8:0:100::1", second, 500), 100, "another /56");
    }

    #[test]
    fn excess_is_truncated_and_dropped_in_turn() {
        let limit = ErrorLimit::new(1, (1, 2));
        let source = "192.0.2.1".parse().unwrap();
        let verdicts: Vec<Verdict> = (0..6).map(|_| limit.check_at(source, 1)).collect();
        use Verdict::*;
        assert_eq!(verdicts, [Send, Send, Truncate, Drop, Truncate, Drop]);
    }

    #[test]
    fn zero_is_no_limit() {
        let limit = ErrorLimit::new(0, (1, 2));
        assert!((0..1000).all(|_| limit.check("192.0.2.1".parse().unwrap()) == Verdict::Send));
    }
}
