//! The EDNS Client Subnet option (RFC 7871), by which a forwarder names its client; and the address
//! prefix that counts as one client where zonal limits clients.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The error of a malformed option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetError;

/// Reads the data of the option: the client's prefix, or none if the prefix has length 0.
///
/// # Errors
///
/// [`SubnetError`] if the option is not that of a query (RFC 7871, section 6).
pub fn read(option: &[u8]) -> Result<Option<IpNet>, SubnetError> {
    let [f1, f2, source, scope, address @ ..] = option else { return Err(SubnetError) };
    // In queries the scope is 0, and the address has as many octets as the prefix needs (RFC 7871,
    // section 6).
    if *scope != 0 || address.len() != usize::from(source.div_ceil(8)) {
        return Err(SubnetError);
    }
    let mut octets = [0; 16];
    octets.get_mut(..address.len()).ok_or(SubnetError)?.copy_from_slice(address);
    let prefix = match u16::from_be_bytes([*f1, *f2]) {
        0 if *source == 0 => return Ok(None), // no address family
        1 => {
            let [a, b, c, d, ..] = octets;
            Ipv4Net::new(Ipv4Addr::new(a, b, c, d), *source).map(IpNet::V4)
        }
        2 => Ipv6Net::new(Ipv6Addr::from(octets), *source).map(IpNet::V6),
        _ => return Err(SubnetError),
    };
    match prefix {
        Ok(prefix) if prefix != prefix.trunc() => Err(SubnetError),
        Ok(prefix) => Ok((*source > 0).then_some(prefix)),
        Err(_) => Err(SubnetError),
    }
}

/// The address that stands for a client where zonal limits clients: an IPv4 address itself, or the
/// first 56 bits of an IPv6 address, because one host can use all addresses of such a prefix.
pub fn limited_prefix(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 72 << 72).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_prefixes_of_both_families() {
        for (option, prefix) in [
            (&b"\0\x01\x18\0\x0a\x01\x02"[..], Some("10.1.2.0/24")),
            (b"\0\x01\x20\0\x0a\x01\x02\x03", Some("10.1.2.3/32")),
            (b"\0\x01\x14\0\x0a\x01\xf0", Some("10.1.240.0/20")),
            (b"\0\x01\x01\0\x80", Some("128.0.0.0/1")),
            (b"\0\x02\x10\0\xfd\x00", Some("fd00::/16")),
            (b"\0\x01\0\0", None),
            (b"\0\x02\0\0", None),
            (b"\0\0\0\0", None),
        ] {
            assert_eq!(read(option), Ok(prefix.map(|prefix| prefix.parse().unwrap())), "{option:02x?}");
        }
    }

    #[test]
    fn refuses_malformed_options() {
        for option in [
            &b""[..],
            b"\0\x01\x18",
            b"\0\x01\x18\x18\x0a\x01\x02",       // has a scope
            b"\0\x01\x18\0\x0a\x01",             // too short
            b"\0\x01\x18\0\x0a\x01\x02\x03",     // too long
            b"\0\x01\x17\0\x0a\x01\x03",         // has a bit beyond the prefix
            b"\0\x01\x21\0\x0a\x01\x02\x03\x80", // longer than the address
            b"\0\x02\x81\0\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80",
            b"\0\x02\xff\0\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\0\x03\x08\0\x0a",
            b"\0\x03\0\0",
            b"\0\0\x08\0\x0a",
        ] {
            assert_eq!(read(option), Err(SubnetError), "{option:02x?}");
        }
    }
}
