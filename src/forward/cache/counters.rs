//! The counters of the cache. Each thread counts in its own stripe, so that threads do not share a
//! cache line.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The number of stripes. Beyond this many threads, threads share stripes.
const STRIPES: usize = 32;

/// The counters of one thread, or of a few.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    prefetches: AtomicU64,
}

#[derive(Default)]
pub(super) struct CacheCounters {
    stripes: [Stripe; STRIPES],
    evictions: AtomicU64,
}

/// The size of the cache, and its counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// The number of entries.
    pub entries: usize,
    /// The memory of the entries with their keys and map slots, in octets.
    pub octets: usize,
    /// The maximum memory, in octets.
    pub budget: usize,
    /// Questions answered from the cache.
    pub hits: u64,
    /// Questions sent to other servers.
    pub misses: u64,
    /// Questions answered with stale records.
    pub stale: u64,
    /// Entries removed to make room for others.
    pub evictions: u64,
    /// Entries refreshed before they expired.
    pub prefetches: u64,
}

thread_local! {
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % STRIPES
    };
}

impl CacheCounters {
    /// The stripe of this thread.
    #[inline]
    pub fn mine(&self) -> &Stripe {
        &self.stripes[STRIPE.with(|stripe| *stripe)]
    }

    pub fn evicted(&self) {
        self.evictions.fetch_add(1, Relaxed);
    }

    /// The sums over all stripes. `entries`, `octets` and `budget` are zero.
    pub fn sum(&self) -> CacheCounts {
        let sum = |of: fn(&Stripe) -> &AtomicU64| self.stripes.iter().map(|stripe| of(stripe).load(Relaxed)).sum();
        CacheCounts {
            hits: sum(|stripe| &stripe.hits),
            misses: sum(|stripe| &stripe.misses),
            stale: sum(|stripe| &stripe.stale),
            evictions: self.evictions.load(Relaxed),
            prefetches: sum(|stripe| &stripe.prefetches),
            ..CacheCounts::default()
        }
    }
}

impl Stripe {
    /// Counts a hit, and returns the number of hits before it.
    #[inline]
    pub fn hit(&self, stale: bool, prefetch: bool) -> u64 {
        if stale {
            self.stale();
        }
        if prefetch {
            self.prefetches.fetch_add(1, Relaxed);
        }
        self.hits.fetch_add(1, Relaxed)
    }

    pub fn missed(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    pub fn stale(&self) {
        self.stale.fetch_add(1, Relaxed);
    }
}
