//! DNS cookies (RFC 7873), interoperable with other servers (RFC 9018).

use super::{Client, Cookie, Moment};
use crate::snapshot::Node;
use siphasher::sip::SipHasher24;
use std::{hash::Hasher, net::IpAddr};

/// The time for which a server cookie is valid, in seconds (RFC 9018, 4.3).
const LIFETIME_SECONDS: i32 = 3600;
/// The time by which a server cookie may be from the future, in seconds (RFC 9018, 4.3).
const MAX_CLOCK_SKEW_SECONDS: i32 = 300;

/// A new cookie for the cookie of a query, and the state of the query's cookie.
pub fn renew(node: &Node, client: &Client, moment: Moment, cookie: Option<&[u8]>) -> (Option<[u8; 24]>, Cookie) {
    let (Some(cookie), Some(secret)) = (cookie, node.cookie_secrets.first()) else { return (None, Cookie::Absent) };
    let Some(own) = cookie.first_chunk::<8>() else { return (None, Cookie::Absent) };
    let mut fresh = [0; 24];
    fresh[..8].copy_from_slice(own);
    fresh[8] = 1; // the version
    fresh[12..16].copy_from_slice(&(moment.now as u32).to_be_bytes());
    let hash = hash(secret, &fresh, client.source);
    fresh[16..].copy_from_slice(&hash);
    let state = match <&[u8; 24]>::try_from(cookie) {
        Ok(whole) if is_valid(node, whole, client.source, moment.now) => Cookie::Valid,
        _ => Cookie::Client,
    };
    (Some(fresh), state)
}

fn is_valid(node: &Node, cookie: &[u8; 24], source: IpAddr, now: i64) -> bool {
    let made = u32::from_be_bytes([cookie[12], cookie[13], cookie[14], cookie[15]]);
    let age = (now as u32).wrapping_sub(made) as i32; // serial number arithmetic (RFC 1982)
    cookie[8..12] == [1, 0, 0, 0]
        && (-MAX_CLOCK_SKEW_SECONDS..=LIFETIME_SECONDS).contains(&age)
        && node.cookie_secrets.iter().any(|secret| hash(secret, cookie, source) == cookie[16..])
}

fn hash(secret: &[u8; 16], cookie: &[u8; 24], source: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&cookie[..16]);
    match source {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Transport;

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// The examples of RFC 9018, appendix A.
    #[test]
    fn makes_and_accepts_the_cookies_of_rfc_9018() {
        for (secret, source, now, query, reply, state) in [
            (
                "e5e973e5a6b2a43f48e7dc849e37bfcf",
                "198.51.100.100",
                1_559_731_985,
                "2464c4abcf10c957",
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                Cookie::Client,
            ),
            (
                "e5e973e5a6b2a43f48e7dc849e37bfcf",
                "198.51.100.100",
                1_559_731_985 + 3600,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                "2464c4abcf10c957010000005cf7ad210d4d3e9dc0b1b3a5",
                Cookie::Valid,
            ),
        ] {
            let secret: [u8; 16] = octets(secret).try_into().unwrap();
            let node = Node { cookie_secrets: vec![secret], ..Node::default() };
            let source = source.parse().unwrap();
            let client = Client { source, port: 0, local: source, transport: Transport::Udp };
            let (fresh, is) = renew(&node, &client, Moment { now, draw: 0 }, Some(&octets(query)));
            assert_eq!(is, state);
            if state == Cookie::Client {
                assert_eq!(fresh.unwrap().to_vec(), octets(reply));
            }
            let stale = Moment { now: now + 3601, draw: 0 };
            assert_eq!(renew(&node, &client, stale, Some(&octets(query))).1, Cookie::Client);
        }
    }
}
