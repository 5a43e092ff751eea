//! The limit on open files and sockets, and the number of TCP connections that it allows.

use crate::admin;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors for manifest files, watches, the log and the runtimes.
const RESERVED_FILES: u64 = 32;

/// Raises the limit on open files to the hard limit. Returns the limit; none means unlimited.
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

/// The number of TCP connections to allow: at most `wanted`. The rest of `limit` is for reloads, the admin API and the
/// sockets of `listeners` addresses, of which a new process gets copies.
pub fn tcp_connections(wanted: usize, limit: Option<u64>, listeners: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let reserved = RESERVED_FILES + admin::MAX_CONNECTIONS as u64 + (listeners * 2 * (1 + cores)) as u64;
    // Even with a low limit, TCP gets a quarter: clients need it after a truncated answer.
    let left = limit.saturating_sub(reserved).max(limit / 4).max(1);
    let allowed = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
    if allowed < wanted {
        tracing::warn!(open_files = limit, configured = wanted, allowed, "TCP connections reduced");
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_connections_leave_descriptors_for_files() {
        assert_eq!(tcp_connections(10_000, None, 1), 10_000);
        assert_eq!(tcp_connections(10_000, Some(1 << 20), 1), 10_000);
        assert_eq!(tcp_connections(10_000, Some(64), 1), 16);
        assert_eq!(tcp_connections(5, Some(64), 1), 5);
        assert_eq!(tcp_connections(10_000, Some(0), 1), 1);
        let (one, two) = (tcp_connections(10_000, Some(4096), 1), tcp_connections(10_000, Some(4096), 2));
        assert!(two < one && one < 4096 - admin::MAX_CONNECTIONS, "{one} {two}");
    }

    #[test]
    fn raises_the_limit_to_the_hard_limit() {
        let limit = raise_limit();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: limit, maximum: limit });
    }
}
