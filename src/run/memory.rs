//! Returns free memory to the system.
//!
//! The allocator, mimalloc, returns freed memory after a delay of one second, and only when a later allocation takes place. An
//! idle node allocates nothing, and would keep the memory of a burst of unread replies. A task of this module allocates each
//! second.

use std::{hint::black_box, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// The interval of the allocations: the allocator's own delay.
const INTERVAL: Duration = Duration::from_secs(1);
/// The size of an allocation, in octets: more than the allocator keeps for one thread. The memory is not touched, so the
/// allocation costs no page.
const ALLOCATION_OCTETS: usize = 1 << 20;

/// Makes the allocator return free memory, until the server ends.
pub(super) async fn return_free_memory() {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        drop(black_box(Vec::<u8>::with_capacity(ALLOCATION_OCTETS)));
    }
}
