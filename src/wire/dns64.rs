//! Prefixes of DNS64 (RFC 6052): IPv6 addresses with an IPv4 address in them.
//!
//! ```text
//! bits     0              32      40      48      56      64  72              96          127
//! /32      prefix          |      IPv4 address             |0 |  zero ...
//! /64      prefix                                          |0 |   IPv4 address |  zero ...
//! /96      prefix                                          |0 |                | IPv4 address
//! ```
//!
//! The octet at bits 64 to 71 is zero and is never a part of the IPv4 address.

use super::query::LookupName;
use ipnet::Ipv6Net;
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// The lengths of prefixes, in bits (RFC 6052, section 2.2).
pub const PREFIX_LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];
/// The octet of an IPv6 address that is zero between or behind the parts of the IPv4 address.
const RESERVED_OCTET: usize = 8;
/// The number of labels of a reverse name of a whole IPv6 address, without `ip6.arpa`.
const NIBBLES: usize = 32;
/// The parent of all reverse names of IPv6 addresses.
const IP6: &[u8] = b"\x03ip6\x04arpa\0";

/// A prefix of DNS64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dns64Prefix {
    /// The prefix, with zeros behind it.
    octets: [u8; 16],
    /// The length of the prefix, in octets.
    len: usize,
}

/// The Well-Known Prefix, 64:ff9b::/96 (RFC 6052, section 2.1).
pub static WELL_KNOWN: Dns64Prefix =
    Dns64Prefix { octets: [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], len: 12 };

impl Dns64Prefix {
    /// The prefix of a network. None if its length is not in [`PREFIX_LENGTHS`], or the octet that must be zero is not.
    pub fn new(net: Ipv6Net) -> Option<Dns64Prefix> {
        let octets = net.trunc().network().octets();
        let is_possible = PREFIX_LENGTHS.contains(&net.prefix_len()) && octets[RESERVED_OCTET] == 0;
        is_possible.then_some(Dns64Prefix { octets, len: usize::from(net.prefix_len() / 8) })
    }

    /// The offsets of the octets of the IPv4 address.
    #[inline]
    fn places(&self) -> [usize; 4] {
        // The reserved octet moves the rest by one.
        [0, 1, 2, 3].map(|at| match self.len + at {
            place if place >= RESERVED_OCTET && self.len <= RESERVED_OCTET => place + 1,
            place => place,
        })
    }

    /// The IPv6 address with this IPv4 address in it.
    #[inline]
    pub fn embed(&self, address: Ipv4Addr) -> [u8; 16] {
        let mut octets = self.octets;
        for (place, octet) in self.places().into_iter().zip(address.octets()) {
            octets[place] = octet;
        }
        octets
    }

    /// The IPv4 address in an IPv6 address of the prefix. `None` for any other address.
    pub fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = address.octets();
        let address = Ipv4Addr::from(self.places().map(|place| octets[place]));
        (self.embed(address) == octets).then_some(address)
    }

    /// The number of labels between a name and the reverse name of the prefix. None if the name is not at or below the
    /// reverse name.
    #[inline]
    pub fn below(&self, name: &LookupName) -> Option<usize> {
        is_reverse(name).then(|| self.below_reverse(name)).flatten()
    }

    fn below_reverse(&self, name: &LookupName) -> Option<usize> {
        let count = self.len * 2;
        let skip = name.labels().checked_sub(count + 2)?;
        let is_equal = |at: usize| nibble(name.label(skip + count - 1 - at)) == Some(nibble_of(&self.octets, at));
        (name.suffix(skip + count) == IP6 && (0..count).all(is_equal)).then_some(skip)
    }

    /// What a reverse name stands for that is `skip` labels below the reverse name of the prefix.
    pub fn read_reverse(&self, name: &LookupName, skip: usize) -> Translated {
        let (start, mut octets) = (self.len * 2, self.octets);
        if start + skip > NIBBLES {
            return Translated::Missing;
        }
        for at in 0..skip {
            let Some(digit) = nibble(name.label(skip - 1 - at)) else { return Translated::Missing };
            let place = start + at;
            octets[place / 2] |= if place.is_multiple_of(2) { digit << 4 } else { digit };
        }
        let address = Ipv4Addr::from(self.places().map(|place| octets[place]));
        match self.embed(address) == octets {
            false => Translated::Missing,
            true if start + skip < NIBBLES => Translated::Above,
            true => Translated::Address(address),
        }
    }
}

impl fmt::Display for Dns64Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from(self.octets), self.len * 8)
    }
}

/// What a reverse name below the reverse name of a prefix stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translated {
    /// No translated address has the name or a name below it.
    Missing,
    /// Translated addresses have names below it.
    Above,
    /// The address with this IPv4 address in it.
    Address(Ipv4Addr),
}

/// Whether a name is a reverse name of an IPv6 address or of a prefix.
#[inline]
pub fn is_reverse(name: &LookupName) -> bool {
    name.wire().ends_with(IP6)
}

/// The value of a label of one hexadecimal digit.
fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit] => char::from(*digit).to_digit(16).map(|digit| digit as u8),
        _ => None,
    }
}

/// Half an octet; the first one is the upper half of the first octet.
fn nibble_of(octets: &[u8; 16], at: usize) -> u8 {
    let octet = octets[at / 2];
    if at.is_multiple_of(2) { octet >> 4 } else { octet & 15 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Option<Dns64Prefix> {
        Dns64Prefix::new(text.parse().unwrap())
    }

    /// The examples of RFC 6052, section 2.4.
    #[test]
    fn embeds_addresses_as_the_standard_says() {
        for (net, expected) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let embedded = prefix(net).unwrap().embed([192, 0, 2, 33].into());
            assert_eq!(Ipv6Addr::from(embedded), expected.parse::<Ipv6Addr>().unwrap(), "{net}");
        }
        assert_eq!(prefix("64:ff9b::/96"), Some(WELL_KNOWN));
        for net in ["2001:db8::/33", "2001:db8::/128", "2001:db8::/0", "2001:db8:0:0:100::/96"] {
            assert_eq!(prefix(net), None, "{net}");
        }
    }

    fn reverse(octets: [u8; 16], skip: usize) -> LookupName {
        let nibbles = (0..NIBBLES).rev().map(|at| format!("\u{1}{:x}", nibble_of(&octets, at)));
        let labels: Vec<u8> = nibbles.skip(skip).collect::<String>().into_bytes();
        LookupName::new(&[&labels[..], IP6].concat()).unwrap()
    }

    #[test]
    fn reads_reverse_names_back_for_each_prefix_length() {
        for net in [
            "2001:db8::/32",
            "2001:db8:100::/40",
            "2001:db8:122::/48",
            "2001:db8:122:300::/56",
            "2001:db8:122:344::/64",
            "2001:db8:122:344::/96",
        ] {
            let (prefix, address) = (prefix(net).unwrap(), Ipv4Addr::from([192, 0, 2, 33]));
            let whole = prefix.embed(address);
            let depth = NIBBLES - prefix.len * 2;
            for skip in 0..=depth {
                let name = reverse(whole, skip);
                assert_eq!(prefix.below(&name), Some(depth - skip), "{net} {skip}");
                let expected = if skip == 0 { Translated::Address(address) } else { Translated::Above };
                assert_eq!(prefix.read_reverse(&name, depth - skip), expected, "{net} {skip}");
            }
            assert_eq!(prefix.below(&reverse(whole, depth + 1)), None, "above the prefix");
            let mut other = whole;
            other[0] ^= 1;
            assert_eq!(prefix.below(&reverse(other, 0)), None, "another prefix");
            if prefix.len <= RESERVED_OCTET {
                let mut odd = whole;
                odd[RESERVED_OCTET] = 1;
                assert_eq!(prefix.read_reverse(&reverse(odd, 0), depth), Translated::Missing, "{net}");
            }
        }
        let name = LookupName::new(b"\x03foo\x03ip6\x04arpa\0").unwrap();
        assert_eq!(WELL_KNOWN.below(&name), None);
        let deep =
            LookupName::new(&[b"\x011", reverse(WELL_KNOWN.embed([10, 0, 0, 1].into()), 0).wire()].concat()).unwrap();
        assert_eq!(WELL_KNOWN.below(&deep).map(|skip| WELL_KNOWN.read_reverse(&deep, skip)), Some(Translated::Missing));
    }
}
