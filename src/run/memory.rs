//! Gives free memory back to the system.
//!
//! The allocator, mimalloc, keeps what is freed for a while, and gives it back when something is allocated later. A node that
//! is idle after a burst allocates nothing, and would keep all that the burst took.

use std::{hint::black_box, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// How often free memory is given back: the allocator keeps it for about as long.
const PERIOD: Duration = Duration::from_secs(1);
/// A piece of this size, in octets, is taken from what all threads share, which is where free memory is given back.
const PIECE: usize = 1 << 20;

/// Has the allocator give back free memory, again and again.
pub(super) async fn give_back() {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Its pages are not touched, and so cost nothing.
        drop(black_box(Vec::<u8>::with_capacity(PIECE)));
    }
}
