//! How many files and sockets the process may have open, and what that leaves for TCP connections.

use crate::admin;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For manifest files, watches, the log and the runtimes.
const OTHERS: u64 = 32;

/// Raises the limit on open files to the highest that this user may have. Returns the limit; none means no limit.
pub fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "open file limit not raised");
            limit.current
        }
    }
}

/// How many TCP connections there may be, so that reloads, the admin API and `listeners` addresses, whose
/// sockets are kept for another process too, have what they need.
pub fn tcp_connections(wanted: usize, limit: Option<u64>, listeners: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let reserved = OTHERS + admin::CONNECTIONS as u64 + (listeners * 2 * (1 + cores)) as u64;
    // Where there is little, TCP has a share of it: answers that are cut off need it.
    let left = limit.saturating_sub(reserved).max(limit / 4).max(1);
    let most = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
    if most < wanted {
        tracing::warn!(open_files = limit, configured = wanted, allowed = most, "TCP connections reduced");
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_files() {
        assert_eq!(tcp_connections(10_000, None, 1), 10_000);
        assert_eq!(tcp_connections(10_000, Some(1 << 20), 1), 10_000);
        assert_eq!(tcp_connections(10_000, Some(64), 1), 16);
        assert_eq!(tcp_connections(5, Some(64), 1), 5);
        assert_eq!(tcp_connections(10_000, Some(0), 1), 1);
        let (one, two) = (tcp_connections(10_000, Some(4096), 1), tcp_connections(10_000, Some(4096), 2));
        assert!(two < one && one < 4096 - admin::CONNECTIONS, "{one} {two}");
    }

    #[test]
    fn the_limit_is_the_highest() {
        let limit = raise_limit();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: limit, maximum: limit });
    }
}
