//! The times of a transferred zone, from its SOA record and within bounds: refresh, retry and
//! expiry (RFC 1035, section 3.3.13; RFC 1912, section 2.2).

use crate::manifest::transferred::Soa;
use std::time::Duration;

/// The bounds of the refresh interval, in seconds.
const REFRESH: (u32, u32) = (2, 28 * 86_400);
/// The bounds of the retry interval, in seconds.
const RETRY: (u32, u32) = (1, 14 * 86_400);
/// The bounds of the expiry time, in seconds.
const EXPIRE: (u32, u32) = (3, 365 * 86_400);
/// The first back-off while a zone was never transferred, in seconds. It doubles with each failure.
const MIN_BACK_OFF: u32 = 1;
/// The longest back-off, in seconds.
const MAX_BACK_OFF: u32 = 60;

fn seconds(number: u32, (min, max): (u32, u32)) -> Duration {
    Duration::from_secs(number.clamp(min, max).into())
}

/// The time that zonal answers from a zone without a refresh.
pub fn expire(soa: &Soa) -> Duration {
    seconds(soa.expire, EXPIRE)
}

/// The time until the next refresh. `random` is from 0 to 1: a tenth of the time depends on it, so
/// that the refreshes of several secondaries spread out.
pub fn refresh(soa: &Soa, random: f64) -> Duration {
    seconds(soa.refresh, REFRESH).mul_f64(1.0 - random / 10.0)
}

/// The time until the next attempt after `failures` failures in a row. `soa` is the SOA record of
/// the zone that is served; none if the zone was never transferred. `random` is from 0 to 1.
pub fn retry(soa: Option<&Soa>, failures: u32, random: f64) -> Duration {
    let whole = match soa {
        Some(soa) => seconds(soa.retry, RETRY),
        None => Duration::from_secs((MIN_BACK_OFF << failures.saturating_sub(1).min(6)).min(MAX_BACK_OFF).into()),
    };
    whole.mul_f64(1.0 - random / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_times_within_bounds() {
        let soa = |refresh, retry, expire| Soa { serial: 1, refresh, retry, expire, minimum: 0 };
        let usual = soa(7200, 900, 1_209_600);
        let of = Duration::from_secs;
        assert_eq!((refresh(&usual, 0.0), refresh(&usual, 1.0)), (of(7200), of(6480)));
        assert_eq!((retry(Some(&usual), 9, 0.0), expire(&usual)), (of(900), of(1_209_600)));
        let none = soa(0, 0, 0);
        assert_eq!((refresh(&none, 0.0), retry(Some(&none), 1, 0.0), expire(&none)), (of(2), of(1), of(3)));
        let max = soa(u32::MAX, u32::MAX, u32::MAX);
        assert_eq!((refresh(&max, 0.0), expire(&max)), (of(28 * 86_400), of(365 * 86_400)));
        let back_offs: Vec<u64> = [1, 2, 3, 7, 100].iter().map(|n| retry(None, *n, 0.0).as_secs()).collect();
        assert_eq!(back_offs, [1, 2, 4, 60, 60]);
    }
}
