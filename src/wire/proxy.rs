//! PROXY protocol v2: the header by which a proxy says for whom it speaks
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::IpAddr;

/// The longest header that is taken, in octets.
pub const MAX_HEADER: usize = 512;
/// The part of the header that is always there: signature, command, family, and the length of the rest.
pub const FIXED: usize = 16;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The TLV with the CRC32C of the header.
const CRC32C: u8 = 0x03;
/// The TLV of AWS, and its subtype that names the VPC endpoint.
const AWS: u8 = 0xea;
const VPC_ENDPOINT: u8 = 0x01;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The proxy speaks for itself.
    Local,
    /// It speaks for a client.
    Proxied {
        /// The client's address.
        source: IpAddr,
        /// The client's port.
        port: u16,
        /// The address that the client asked.
        destination: IpAddr,
        /// The VPC endpoint that it came through.
        vpc_endpoint: Option<&'a str>,
    },
}

/// There is no header, or it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault<'a> {
    /// What stands behind it, as far as that can be told; without a header, the whole.
    pub behind: Option<&'a [u8]>,
}

/// How long a header is, from its first 16 octets; none if they are not those of one, or it is longer than
/// [`MAX_HEADER`].
pub fn header_len(fixed: &[u8; FIXED]) -> Option<usize> {
    let len = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    (fixed.starts_with(SIGNATURE) && len <= MAX_HEADER).then_some(len)
}

/// A header for a client of this address that asked at that one, by a stream. Without two addresses of one family there is
/// none, and the proxy speaks for itself.
pub fn write(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let (family, addresses) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (0x11, [source.octets(), destination.octets()].concat()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => (0x21, [source.octets(), destination.octets()].concat()),
        _ => return [SIGNATURE, &[0x20, 0, 0, 0][..]].concat(),
    };
    let ports = [0, 0, 0, 53];
    [SIGNATURE, &[0x21, family, 0, (addresses.len() + ports.len()) as u8][..], &addresses, &ports].concat()
}

/// Reads the header that `packet` begins with. Returns what it says, and what stands behind it.
pub fn read(packet: &[u8]) -> Result<(Said<'_>, &[u8]), Fault<'_>> {
    if !packet.starts_with(SIGNATURE) {
        return Err(Fault { behind: Some(packet) });
    }
    let Some((&[_, _, l1, l2], rest)) = packet[SIGNATURE.len()..].split_first_chunk() else {
        return Err(Fault { behind: None });
    };
    let len = usize::from(u16::from_be_bytes([l1, l2]));
    let Some((_, behind)) = rest.split_at_checked(len) else { return Err(Fault { behind: None }) };
    let header = &packet[..FIXED + len];
    match read_header(header) {
        Some(said) if header.len() <= MAX_HEADER => Ok((said, behind)),
        _ => Err(Fault { behind: Some(behind) }),
    }
}

/// Reads a whole header, whose signature and length are right.
fn read_header(header: &[u8]) -> Option<Said<'_>> {
    let (command, family, rest) = (header[12], header[13], &header[FIXED..]);
    let addresses = match family {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        _ => return None,
    };
    let (addresses, tlvs) = rest.split_at_checked(addresses)?;
    let vpc_endpoint = read_tlvs(header, tlvs)?;
    match (command, addresses.len()) {
        (0x20, _) => Some(Said::Local),
        (0x21, 12) => {
            let (source, rest) = addresses.split_first_chunk::<4>()?;
            let (destination, ports) = rest.split_first_chunk::<4>()?;
            let port = u16::from_be_bytes(*ports.first_chunk()?);
            Some(Said::Proxied { source: (*source).into(), port, destination: (*destination).into(), vpc_endpoint })
        }
        (0x21, 36) => {
            let (source, rest) = addresses.split_first_chunk::<16>()?;
            let (destination, ports) = rest.split_first_chunk::<16>()?;
            let port = u16::from_be_bytes(*ports.first_chunk()?);
            let address = |octets: &[u8; 16]| IpAddr::from(*octets).to_canonical();
            Some(Said::Proxied { source: address(source), port, destination: address(destination), vpc_endpoint })
        }
        _ => None,
    }
}

/// Reads the TLVs at the end of a header: the name of the VPC endpoint, if there is one.
fn read_tlvs<'a>(header: &[u8], tlvs: &'a [u8]) -> Option<Option<&'a str>> {
    let (mut vpc_endpoint, mut checked) = (None, false);
    let mut rest = tlvs;
    while let [kind, l1, l2, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked(usize::from(u16::from_be_bytes([*l1, *l2])))?;
        match (*kind, value) {
            (CRC32C, value) => {
                // It is that of the header with zeros in its own place.
                let expected = u32::from_be_bytes(value.try_into().ok()?);
                let (before, after) = (header.len() - next.len() - value.len(), &header[header.len() - next.len()..]);
                let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..before]), &[0; 4]);
                if checked || crc32c::crc32c_append(sum, after) != expected {
                    return None;
                }
                checked = true;
            }
            (AWS, [VPC_ENDPOINT, id @ ..]) => {
                if vpc_endpoint.is_some() {
                    return None;
                }
                vpc_endpoint = Some(std::str::from_utf8(id).ok()?);
            }
            _ => {}
        }
        rest = next;
    }
    rest.is_empty().then_some(vpc_endpoint)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A header of this command and family with these addresses and TLVs.
    pub fn header(command: u8, family: u8, addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
        let len = (addresses.len() + tlvs.len()) as u16;
        [SIGNATURE, &[command, family][..], &len.to_be_bytes(), addresses, tlvs].concat()
    }

    /// A TLV.
    pub fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    /// A header for a client, by UDP over IPv4.
    pub fn proxied(source: [u8; 4], destination: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
        header(0x21, 0x12, &[&source[..], &destination, &[0xd4, 0x31, 0, 53]].concat(), tlvs)
    }

    /// Puts the checksum of a header into its last TLV.
    fn sign(mut header: Vec<u8>) -> Vec<u8> {
        let at = header.len() - 4;
        let sum = crc32c::crc32c(&header).to_be_bytes();
        header[at..].copy_from_slice(&sum);
        header
    }

    const V4: Said = Said::Proxied {
        source: IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 7)),
        port: 54321,
        destination: IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 0, 53)),
        vpc_endpoint: None,
    };

    fn v4(tlvs: &[u8]) -> Vec<u8> {
        proxied([10, 1, 0, 7], [10, 2, 0, 53], tlvs)
    }

    #[test]
    fn reads_what_proxies_write() {
        let endpoint = tlv(AWS, b"\x01vpce-0a");
        let with = |vpc_endpoint| match V4 {
            Said::Proxied { source, port, destination, .. } => {
                Said::Proxied { source, port, destination, vpc_endpoint }
            }
            Said::Local => Said::Local,
        };
        let v6: [u8; 16] = "fd00:1::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let mapped: [u8; 16] = "::ffff:10.1.0.7".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let said_v6 = |source: &str| Said::Proxied {
            source: source.parse().unwrap(),
            port: 0,
            destination: "fd00:1::7".parse().unwrap(),
            vpc_endpoint: None,
        };
        for (header, said) in [
            (v4(&[]), V4),
            (header(0x21, 0x11, b"\x0a\x01\x00\x07\x0a\x02\x00\x35\xd4\x31\0\0", &[]), V4),
            (header(0x20, 0, &[], &[]), Said::Local),
            (header(0x20, 0x11, &[0; 12], &[]), Said::Local),
            (header(0x20, 0, &[], &endpoint), Said::Local),
            (header(0x21, 0x21, &[&v6[..], &v6, &[0; 4]].concat(), &[]), said_v6("fd00:1::7")),
            (header(0x21, 0x22, &[&mapped[..], &v6, &[0; 4]].concat(), &[]), said_v6("10.1.0.7")),
            (v4(&endpoint), with(Some("vpce-0a"))),
            (
                v4(&[tlv(0x04, &[0; 30]), tlv(0x05, b"id"), endpoint.clone(), tlv(0xe0, &[])].concat()),
                with(Some("vpce-0a")),
            ),
            (v4(&tlv(AWS, b"\x02other")), V4),
            (v4(&tlv(AWS, b"")), V4),
            (sign(v4(&tlv(CRC32C, &[0; 4]))), V4),
            (sign(v4(&[endpoint.clone(), tlv(CRC32C, &[0; 4])].concat())), with(Some("vpce-0a"))),
            (v4(&tlv(0x04, &[0; MAX_HEADER - 28 - 3])), V4),
        ] {
            let packet = [&header[..], b"the query"].concat();
            assert_eq!(read(&packet), Ok((said, &b"the query"[..])), "{header:02x?}");
            assert_eq!(header_len(header.first_chunk().unwrap()), Some(header.len()));
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let [a, b, c, d]: [IpAddr; 4] = ["10.1.0.7", "10.2.0.53", "fd00::7", "fd00::53"].map(|a| a.parse().unwrap());
        for (source, destination) in [(a, b), (c, d)] {
            let said = Said::Proxied { source, port: 0, destination, vpc_endpoint: None };
            assert_eq!(read(&write(source, destination)), Ok((said, &[][..])));
        }
        assert_eq!(read(&write(a, d)), Ok((Said::Local, &[][..])));
    }

    /// The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
    #[test]
    fn the_checksum_is_castagnoli_s() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let signed = sign(v4(&tlv(CRC32C, &[0; 4])));
        let twice = [&signed[28..], &signed[28..]].concat();
        let mut bad_sum = signed.clone();
        *bad_sum.last_mut().unwrap() ^= 1;
        let mut other_source = signed.clone();
        other_source[19] ^= 1;
        for header in [
            header(0x11, 0x12, &[0; 12], &[]), // version 1
            header(0x22, 0x12, &[0; 12], &[]), // no such command
            header(0x21, 0x00, &[], &[]),      // for whom?
            header(0x21, 0x31, &[0; 216], &[]),
            header(0x21, 0x13, &[0; 12], &[]),
            header(0x21, 0x12, &[0; 11], &[]),
            header(0x21, 0x21, &[0; 35], &[]),
            v4(&[0]),
            v4(&[4, 0]),
            v4(&[4, 0, 1]),
            v4(&tlv(AWS, b"\x01\xff")),
            v4(&[tlv(AWS, b"\x01a"), tlv(AWS, b"\x01a")].concat()),
            v4(&tlv(CRC32C, &[0; 3])),
            v4(&twice),
            v4(&tlv(0x04, &[0; MAX_HEADER - 28 - 2])),
            bad_sum,
            other_source,
        ] {
            let packet = [&header[..], b"the query"].concat();
            assert_eq!(read(&packet), Err(Fault { behind: Some(b"the query") }), "{header:02x?}");
        }
        assert_eq!(read(b"a query"), Err(Fault { behind: Some(b"a query") }));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = sign(v4(&[tlv(AWS, b"\x01vpce-0a"), tlv(CRC32C, &[0; 4])].concat()));
        for len in 0..whole.len() {
            let behind = (len < SIGNATURE.len()).then_some(&whole[..len]);
            assert_eq!(read(&whole[..len]), Err(Fault { behind }), "{len}");
        }
        assert!(read(&whole).is_ok());
        // Or says of itself that it is shorter.
        for len in 0..whole.len() - FIXED {
            let mut cut = whole[..FIXED + len].to_vec();
            cut[15] = len as u8;
            let is_whole = len == 12 || len == 12 + 11; // without checksum, without TLVs
            assert_eq!(read(&cut).is_ok(), is_whole, "{len}");
        }
    }
}
