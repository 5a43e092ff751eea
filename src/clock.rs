//! The time in seconds since 1970, and random seeds.
//!
//! [`answer`](crate::answer) reads neither: it gets both as a [`Moment`](crate::answer::Moment).

use std::time::{SystemTime, UNIX_EPOCH};

/// The current time in seconds since 1970.
pub fn now() -> i64 {
    seconds(SystemTime::now())
}

/// `time` in seconds since 1970; 0 for a time before that.
pub fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Two random numbers to seed a generator or a hash with. Both are 0 if the system has no source of randomness: hashes
/// are then predictable.
pub fn random_seed() -> (u64, u64) {
    (getrandom::u64().unwrap_or_default(), getrandom::u64().unwrap_or_default())
}
