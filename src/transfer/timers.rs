//! When a zone is refreshed, and when it has expired (RFC 1035, 3.3.13; RFC 1912, 2.2), within bounds.

use crate::manifest::transferred::Soa;
use std::time::Duration;

/// The least that the numbers of a SOA record count for, and the most.
const REFRESH: (u32, u32) = (2, 28 * 86_400);
const RETRY: (u32, u32) = (1, 14 * 86_400);
const EXPIRE: (u32, u32) = (3, 365 * 86_400);
/// The pauses while a zone was never transferred: at first, and at most.
const FIRST_PAUSE: u32 = 1;
const LAST_PAUSE: u32 = 60;

fn seconds(number: u32, (least, most): (u32, u32)) -> Duration {
    Duration::from_secs(number.clamp(least, most).into())
}

/// How long a zone is answered from without being refreshed.
pub fn expire(soa: &Soa) -> Duration {
    seconds(soa.expire, EXPIRE)
}

/// When a zone that was refreshed is to be again. `chance` is from 0 to 1: a tenth of the time depends on it, so that not all
/// secondaries come at once.
pub fn refresh(soa: &Soa, chance: f64) -> Duration {
    seconds(soa.refresh, REFRESH).mul_f64(1.0 - chance / 10.0)
}

/// When it is tried again after `failures` failures in a row; `soa` is that of what there is.
pub fn retry(soa: Option<&Soa>, failures: u32, chance: f64) -> Duration {
    let whole = match soa {
        Some(soa) => seconds(soa.retry, RETRY),
        None => Duration::from_secs((FIRST_PAUSE << failures.saturating_sub(1).min(6)).min(LAST_PAUSE).into()),
    };
    whole.mul_f64(1.0 - chance / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_chance() {
        let soa = |refresh, retry, expire| Soa { serial: 1, refresh, retry, expire, minimum: 0 };
        let usual = soa(7200, 900, 1_209_600);
        let of = Duration::from_secs;
        assert_eq!((refresh(&usual, 0.0), refresh(&usual, 1.0)), (of(7200), of(6480)));
        assert_eq!((retry(Some(&usual), 9, 0.0), expire(&usual)), (of(900), of(1_209_600)));
        let none = soa(0, 0, 0);
        assert_eq!((refresh(&none, 0.0), retry(Some(&none), 1, 0.0), expire(&none)), (of(2), of(1), of(3)));
        let most = soa(u32::MAX, u32::MAX, u32::MAX);
        assert_eq!((refresh(&most, 0.0), expire(&most)), (of(28 * 86_400), of(365 * 86_400)));
        let pauses: Vec<u64> = [1, 2, 3, 7, 100].iter().map(|n| retry(None, *n, 0.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 60, 60]);
    }
}
