//! What is known of authoritative servers: how long they take to answer, whether they are down, and whether they know EDNS.
//!
//! hickory's recursor orders the servers of a zone itself, but asks one that is down again and again, and takes as bad one that
//! has said that a name does not exist. Here is what the connections keep it from.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a server is waited for of which nothing is known.
const FIRST_TIMEOUT: Duration = Duration::from_millis(400);
/// How long a server is waited for at least, and at most.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(120), Duration::from_millis(1200));
/// A server that has not answered so often in a row is down.
const LOST: u32 = 2;
/// How long a server is left alone that is down, the first time; then twice as long each time.
const DOWN: Duration = Duration::from_secs(5);
/// How often that time doubles.
const MAX_DOUBLINGS: u32 = 6;
/// How long a server that refuses EDNS is asked without it.
const PLAIN: Duration = Duration::from_secs(900);
/// Servers of which something is known.
const MAX_SERVERS: usize = 16_384;

/// What is known of servers.
#[derive(Default)]
pub struct Servers(Mutex<HashMap<IpAddr, Server>>);

#[derive(Default)]
struct Server {
    /// The smoothed round trip time and its deviation (RFC 6298).
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

    /// How long to wait for an answer.
    pub fn timeout(&self, ip: IpAddr) -> Duration {
        let all = self.all();
        let Some(server) = all.get(&ip) else { return FIRST_TIMEOUT };
        let time = server.round_trip.map_or(FIRST_TIMEOUT, |(mean, deviation)| mean + 4 * deviation);
        (time * (1 << server.lost.min(2))).clamp(TIMEOUTS.0, TIMEOUTS.1)
    }

    /// Whether the server is left alone.
    pub fn is_down(&self, ip: IpAddr) -> bool {
        let now = Instant::now();
        self.all().get(&ip).is_some_and(|server| server.down_until.is_some_and(|until| now < until))
    }

    /// Whether the server is asked without EDNS.
    pub fn is_plain(&self, ip: IpAddr) -> bool {
        let now = Instant::now();
        self.all().get(&ip).is_some_and(|server| server.plain_until.is_some_and(|until| now < until))
    }

    /// Takes note of an answer.
    pub fn note_answer(&self, ip: IpAddr, took: Duration) {
        self.change(ip, |server| {
            server.round_trip = Some(match server.round_trip {
                None => (took, took / 2),
                Some((mean, deviation)) => ((7 * mean + took) / 8, (3 * deviation + mean.abs_diff(took)) / 4),
            });
            (server.lost, server.down_until) = (0, None);
        });
    }

    /// Takes note that no answer came in time.
    pub fn note_timeout(&self, ip: IpAddr) {
        self.change(ip, |server| {
            server.lost += 1;
            if server.lost >= LOST {
                let doublings = (server.lost - LOST).min(MAX_DOUBLINGS);
                server.down_until = Some(Instant::now() + DOWN * (1 << doublings));
            }
        });
    }

    /// Takes note that the server refuses EDNS.
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
        assert_eq!(servers.timeout(ip), FIRST_TIMEOUT);
        servers.note_timeout(ip);
        assert!(!servers.is_down(ip), "one packet may be lost");
        assert_eq!(servers.timeout(ip), 2 * FIRST_TIMEOUT);
        servers.note_timeout(ip);
        assert!(servers.is_down(ip));
        servers.note_answer(ip, Duration::from_millis(200));
        assert!(!servers.is_down(ip));
        assert_eq!(servers.timeout(ip), Duration::from_millis(600), "what is far away is waited for");
        for _ in 0..50 {
            servers.note_answer(ip, Duration::from_millis(1));
        }
        assert_eq!(servers.timeout(ip), TIMEOUTS.0, "what is near may be busy for a moment");
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
