//! How often the cache was of use. Threads count beside each other, not on top of each other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// How many threads have counters to themselves.
const STRIPES: usize = 32;

/// The counters of one thread, or of few.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    prefetches: AtomicU64,
}

#[derive(Default)]
pub(super) struct Counters {
    stripes: [Stripe; STRIPES],
    evictions: AtomicU64,
}

/// What the cache holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries.
    pub entries: usize,
    /// Octets that they take, with all that belongs to them.
    pub octets: usize,
    /// Octets that they may take.
    pub budget: usize,
    /// Questions that were answered from it.
    pub hits: u64,
    /// Questions that others had to be asked.
    pub misses: u64,
    /// Answers that had ended.
    pub stale: u64,
    /// Entries that gave way to others.
    pub evictions: u64,
    /// Entries that were fetched anew before they ended.
    pub prefetches: u64,
}

thread_local! {
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % STRIPES
    };
}

impl Counters {
    /// Those of this thread.
    #[inline]
    pub fn mine(&self) -> &Stripe {
        &self.stripes[STRIPE.with(|stripe| *stripe)]
    }

    pub fn evicted(&self) {
        self.evictions.fetch_add(1, Relaxed);
    }

    /// Adds all up.
    pub fn sum(&self) -> Counts {
        let sum = |of: fn(&Stripe) -> &AtomicU64| self.stripes.iter().map(|stripe| of(stripe).load(Relaxed)).sum();
        Counts {
            hits: sum(|stripe| &stripe.hits),
            misses: sum(|stripe| &stripe.misses),
            stale: sum(|stripe| &stripe.stale),
            evictions: self.evictions.load(Relaxed),
            prefetches: sum(|stripe| &stripe.prefetches),
            ..Counts::default()
        }
    }
}

impl Stripe {
    /// Counts a hit, and returns how many there were before it.
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
