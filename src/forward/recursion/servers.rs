//! State of authoritative servers: round-trip time, down time, and EDNS support.
//!
//! hickory's recursor orders the servers of a zone. But it asks a server that is down again and
//! again, and counts an NXDOMAIN answer as a fault of the server. The connections use this state to
//! prevent both.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Time-out for a server without a measured round-trip time.
const FIRST_TIMEOUT: Duration = Duration::from_millis(400);
/// Shortest and longest time-out for a server.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(120), Duration::from_millis(1200));
/// Number of consecutive time-outs after which a server is down.
const LOST: u32 = 2;
/// First down time of a server. Each further time-out doubles it.
const DOWN: Duration = Duration::from_secs(5);
/// Maximum number of times that the down time doubles.
const MAX_DOUBLINGS: u32 = 6;
/// Time for which a server that refused EDNS is asked without it.
const PLAIN: Duration = Duration::from_secs(900);
/// Maximum number of servers whose state is kept. Beyond it, the state of all servers is dropped.
const MAX_SERVERS: usize = 16_384;

/// State of authoritative servers, by address.
#[derive(Default)]
pub struct Servers(Mutex<HashMap<IpAddr, Server>>);

#[derive(Default)]
struct Server {
    /// Smoothed round-trip time and its deviation (RFC 6298).
    round_trip: Option<(Duration, Duration)>,
    lost: u32,
    down_until: Option<Instant>,
    plain_until: Option<Instant>,
}

impl Servers {
    fn all(&self) -> MutexGuard<'_, HashMap<IpAddr, Server>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, ip: IpAddr, change: impl FnOnce(&mut Server)) {
        let mut all = self.all();
        if all.len() >= MAX_SERVERS && !all.contains_key(&ip) {
            all.clear();
        }
        change(all.entry(ip).or_default());
    }

    /// Time to wait for an answer of a server.
    ///
    /// Time-outs double the time. For a server that has never answered, they do so only if the other
    /// servers of the zone did not answer either: several silent servers would take too long.
    pub fn timeout(&self, ip: IpAddr, is_second: bool) -> Duration {
        let all = self.all();
        let Some(server) = all.get(&ip) else { return FIRST_TIMEOUT };
        let time = match server.round_trip {
            None if !is_second => return FIRST_TIMEOUT,
            None => FIRST_TIMEOUT,
            Some((mean, deviation)) => mean + 4 * deviation,
        };
        (time * (1 << server.lost.min(2))).clamp(TIMEOUTS.0, TIMEOUTS.1)
    }

    /// Whether a server is down at the moment.
    pub fn is_down(&self, ip: IpAddr) -> bool {
        let now = Instant::now();
        self.all().get(&ip).is_some_and(|server| server.down_until.is_some_and(|until| now < until))
    }

    /// Whether a server must be asked without EDNS.
    pub fn is_plain(&self, ip: IpAddr) -> bool {
        let now = Instant::now();
        self.all().get(&ip).is_some_and(|server| server.plain_until.is_some_and(|until| now < until))
    }

    /// Records an answer and its round-trip time.
    pub fn note_answer(&self, ip: IpAddr, took: Duration) {
        self.change(ip, |server| {
            server.round_trip = Some(match server.round_trip {
                None => (took, took / 2),
                Some((mean, deviation)) => ((7 * mean + took) / 8, (3 * deviation + mean.abs_diff(took)) / 4),
            });
            (server.lost, server.down_until) = (0, None);
        });
    }

    /// Records a time-out.
    pub fn note_timeout(&self, ip: IpAddr) {
        self.change(ip, |server| {
            server.lost += 1;
            if server.lost >= LOST {
                let doublings = (server.lost - LOST).min(MAX_DOUBLINGS);
                server.down_until = Some(Instant::now() + DOWN * (1 << doublings));
            }
        });
    }

    /// Records that a server refuses EDNS.
    pub fn note_plain(&self, ip: IpAddr) {
        self.change(ip, |server| server.plain_until = Some(Instant::now() + PLAIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_answer_is_left_alone_until_it_does() {
        let (servers, ip) = (Servers::default(), IpAddr::from([192, 0, 2, 1]));
        assert!(!servers.is_down(ip));
        assert_eq!(servers.timeout(ip, true), FIRST_TIMEOUT);
        servers.note_timeout(ip);
        assert!(!servers.is_down(ip), "one packet may be lost");
        assert_eq!(servers.timeout(ip, true), 2 * FIRST_TIMEOUT);
        assert_eq!(servers.timeout(ip, false), FIRST_TIMEOUT, "another server may answer");
        servers.note_timeout(ip);
        assert!(servers.is_down(ip));
        servers.note_answer(ip, Duration::from_millis(200));
        assert!(!servers.is_down(ip));
        assert_eq!(servers.timeout(ip, false), Duration::from_millis(600), "what is far away is waited for");
        for _ in 0..50 {
            servers.note_answer(ip, Duration::from_millis(1));
        }
        assert_eq!(servers.timeout(ip, false), TIMEOUTS.0, "what is near may be busy for a moment");
    }

    #[test]
    fn so_many_servers_are_remembered() {
        let servers = Servers::default();
        for n in 0..2 * MAX_SERVERS as u32 {
            servers.note_timeout(std::net::Ipv4Addr::from(n).into());
        }
        assert!(servers.all().len() <= MAX_SERVERS);
    }
}
