//! PROXY protocol v2: the header by which a proxy names the client that it forwards for
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::IpAddr;

/// The longest header that zonal accepts, in octets.
pub const MAX_HEADER: usize = 512;
/// The length of the fixed part of the header, in octets: signature, command, family, and the
/// length of the rest.
pub const FIXED: usize = 16;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The type of the TLV that holds the CRC32C of the header.
const CRC32C: u8 = 0x03;
/// The octet with version 2 and the command LOCAL.
const LOCAL: u8 = 0x20;
/// The octet with version 2 and the command PROXY.
const PROXY: u8 = 0x21;
/// The octets with address family and transport protocol; `STREAM` is TCP, `DATAGRAM` is UDP.
const UNSPECIFIED: u8 = 0x00;
const V4_STREAM: u8 = 0x11;
const V4_DATAGRAM: u8 = 0x12;
const V6_STREAM: u8 = 0x21;
const V6_DATAGRAM: u8 = 0x22;
/// The lengths of two addresses and two ports, in octets.
const V4_ADDRESSES: usize = 12;
const V6_ADDRESSES: usize = 36;
/// The type of the TLV of AWS.
const AWS: u8 = 0xea;
/// The subtype of the TLV of AWS that holds the ID of the VPC endpoint.
const VPC_ENDPOINT: u8 = 0x01;

/// The contents of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// The proxy itself is the client.
    Local,
    /// The proxy forwards for a client.
    Proxied {
        /// The client's address.
        source: IpAddr,
        /// The client's port.
        port: u16,
        /// The address that the client sent the query to.
        destination: IpAddr,
        /// The ID of the VPC endpoint that the connection came through.
        vpc_endpoint: Option<&'a str>,
    },
}

/// The error of a missing or malformed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderError<'a> {
    /// The octets behind the header: the whole packet if there is no header, none if the end of the
    /// header is not known.
    pub rest: Option<&'a [u8]>,
}

/// The length of a header in octets, from its fixed part. None if that is not the start of a
/// header, or if the header is longer than [`MAX_HEADER`].
pub fn header_len(fixed: &[u8; FIXED]) -> Option<usize> {
    let len = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    (fixed.starts_with(SIGNATURE) && len <= MAX_HEADER).then_some(len)
}

/// Writes a header for a client at `source` that connected to port 53 of `destination` over TCP. If
/// the addresses are not of one family, the header is a LOCAL one.
pub fn write(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let (family, addresses) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (V4_STREAM, [source.octets(), destination.octets()].concat()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => (V6_STREAM, [source.octets(), destination.octets()].concat()),
        _ => return [SIGNATURE, &[LOCAL, UNSPECIFIED, 0, 0][..]].concat(),
    };
    let ports = [0, 0, 0, 53];
    [SIGNATURE, &[PROXY, family, 0, (addresses.len() + ports.len()) as u8][..], &addresses, &ports].concat()
}

/// Reads the header at the start of `packet`. Returns its contents, and the octets behind it.
///
/// # Errors
///
/// [`HeaderError`] if there is no header, or if it is malformed or longer than [`MAX_HEADER`].
pub fn read(packet: &[u8]) -> Result<(Header<'_>, &[u8]), HeaderError<'_>> {
    if !packet.starts_with(SIGNATURE) {
        return Err(HeaderError { rest: Some(packet) });
    }
    let Some((&[_, _, l1, l2], tail)) = packet[SIGNATURE.len()..].split_first_chunk() else {
        return Err(HeaderError { rest: None });
    };
    let len = usize::from(u16::from_be_bytes([l1, l2]));
    let Some((_, rest)) = tail.split_at_checked(len) else { return Err(HeaderError { rest: None }) };
    let header = &packet[..FIXED + len];
    match read_header(header) {
        Some(contents) if header.len() <= MAX_HEADER => Ok((contents, rest)),
        _ => Err(HeaderError { rest: Some(rest) }),
    }
}

/// Reads a complete header whose signature and length are right.
fn read_header(header: &[u8]) -> Option<Header<'_>> {
    let (command, family, rest) = (header[12], header[13], &header[FIXED..]);
    let addresses = match family {
        UNSPECIFIED => 0,
        V4_STREAM | V4_DATAGRAM => V4_ADDRESSES,
        V6_STREAM | V6_DATAGRAM => V6_ADDRESSES,
        _ => return None,
    };
    let (addresses, tlvs) = rest.split_at_checked(addresses)?;
    let vpc_endpoint = read_tlvs(header, tlvs)?;
    match (command, addresses.len()) {
        (LOCAL, _) => Some(Header::Local),
        (PROXY, V4_ADDRESSES) => {
            let (source, rest) = addresses.split_first_chunk::<4>()?;
            let (destination, ports) = rest.split_first_chunk::<4>()?;
            let port = u16::from_be_bytes(*ports.first_chunk()?);
            Some(Header::Proxied { source: (*source).into(), port, destination: (*destination).into(), vpc_endpoint })
        }
        (PROXY, V6_ADDRESSES) => {
            let (source, rest) = addresses.split_first_chunk::<16>()?;
            let (destination, ports) = rest.split_first_chunk::<16>()?;
            let port = u16::from_be_bytes(*ports.first_chunk()?);
            let address = |octets: &[u8; 16]| IpAddr::from(*octets).to_canonical();
            Some(Header::Proxied { source: address(source), port, destination: address(destination), vpc_endpoint })
        }
        _ => None,
    }
}

/// Reads the TLVs at the end of a header. Returns the ID of the VPC endpoint, if there is one; none
/// of all if they are malformed or the checksum is wrong.
fn read_tlvs<'a>(header: &[u8], tlvs: &'a [u8]) -> Option<Option<&'a str>> {
    let (mut vpc_endpoint, mut checked) = (None, false);
    let mut rest = tlvs;
    while let [kind, l1, l2, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked(usize::from(u16::from_be_bytes([*l1, *l2])))?;
        match (*kind, value) {
            (CRC32C, value) => {
                // The checksum covers the whole header, with its own four octets as zeros.
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

    /// A header with this command, family, addresses and TLVs.
    pub fn header(command: u8, family: u8, addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
        let len = (addresses.len() + tlvs.len()) as u16;
        [SIGNATURE, &[command, family][..], &len.to_be_bytes(), addresses, tlvs].concat()
    }

    /// A TLV of this type.
    pub fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    /// A header for a client that sent a UDP datagram over IPv4.
    pub fn proxied(source: [u8; 4], destination: [u8; 4], tlvs: &[u8]) -> Vec<u8> {
        header(0x21, 0x12, &[&source[..], &destination, &[0xd4, 0x31, 0, 53]].concat(), tlvs)
    }

    /// Writes the checksum of a header to its last TLV.
    fn sign(mut header: Vec<u8>) -> Vec<u8> {
        let at = header.len() - 4;
        let sum = crc32c::crc32c(&header).to_be_bytes();
        header[at..].copy_from_slice(&sum);
        header
    }

    const V4: Header = Header::Proxied {
        source: IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 7)),
        port: 54321,
        destination: IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 0, 53)),
        vpc_endpoint: None,
    };

    fn v4(tlvs: &[u8]) -> Vec<u8> {
        proxied([10, 1, 0, 7], [10, 2, 0, 53], tlvs)
    }

    #[test]
    fn reads_headers_of_common_proxies() {
        let endpoint = tlv(AWS, b"\x01vpce-0a");
        let with = |vpc_endpoint| match V4 {
            Header::Proxied { source, port, destination, .. } => {
                Header::Proxied { source, port, destination, vpc_endpoint }
            }
            Header::Local => Header::Local,
        };
        let v6: [u8; 16] = "fd00:1::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let mapped: [u8; 16] = "::ffff:10.1.0.7".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let from_v6 = |source: &str| Header::Proxied {
            source: source.parse().unwrap(),
            port: 0,
            destination: "fd00:1::7".parse().unwrap(),
            vpc_endpoint: None,
        };
        for (header, expected) in [
            (v4(&[]), V4),
            (header(0x21, 0x11, b"\x0a\x01\x00\x07\x0a\x02\x00\x35\xd4\x31\0\0", &[]), V4),
            (header(0x20, 0, &[], &[]), Header::Local),
            (header(0x20, 0x11, &[0; 12], &[]), Header::Local),
            (header(0x20, 0, &[], &endpoint), Header::Local),
            (header(0x21, 0x21, &[&v6[..], &v6, &[0; 4]].concat(), &[]), from_v6("fd00:1::7")),
            (header(0x21, 0x22, &[&mapped[..], &v6, &[0; 4]].concat(), &[]), from_v6("10.1.0.7")),
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
            assert_eq!(read(&packet), Ok((expected, &b"the query"[..])), "{header:02x?}");
            assert_eq!(header_len(header.first_chunk().unwrap()), Some(header.len()));
        }
    }

    #[test]
    fn reads_headers_that_it_writes() {
        let [a, b, c, d]: [IpAddr; 4] = ["10.1.0.7", "10.2.0.53", "fd00::7", "fd00::53"].map(|a| a.parse().unwrap());
        for (source, destination) in [(a, b), (c, d)] {
            let expected = Header::Proxied { source, port: 0, destination, vpc_endpoint: None };
            assert_eq!(read(&write(source, destination)), Ok((expected, &[][..])));
        }
        assert_eq!(read(&write(a, d)), Ok((Header::Local, &[][..])));
    }

    /// The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
    #[test]
    fn computes_the_castagnoli_checksum() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn refuses_malformed_headers() {
        let signed = sign(v4(&tlv(CRC32C, &[0; 4])));
        let twice = [&signed[28..], &signed[28..]].concat();
        let mut bad_sum = signed.clone();
        *bad_sum.last_mut().unwrap() ^= 1;
        let mut other_source = signed.clone();
        other_source[19] ^= 1;
        for header in [
            header(0x11, 0x12, &[0; 12], &[]), // version 1
            header(0x22, 0x12, &[0; 12], &[]), // no such command
            header(0x21, 0x00, &[], &[]),      // no addresses
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
            assert_eq!(read(&packet), Err(HeaderError { rest: Some(b"the query") }), "{header:02x?}");
        }
        assert_eq!(read(b"a query"), Err(HeaderError { rest: Some(b"a query") }));
    }

    #[test]
    fn refuses_truncated_headers() {
        let whole = sign(v4(&[tlv(AWS, b"\x01vpce-0a"), tlv(CRC32C, &[0; 4])].concat()));
        for len in 0..whole.len() {
            let rest = (len < SIGNATURE.len()).then_some(&whole[..len]);
            assert_eq!(read(&whole[..len]), Err(HeaderError { rest }), "{len}");
        }
        assert!(read(&whole).is_ok());
        // The length field says that the header is shorter.
        for len in 0..whole.len() - FIXED {
            let mut cut = whole[..FIXED + len].to_vec();
            cut[15] = len as u8;
            let is_whole = len == 12 || len == 12 + 11; // without the checksum, or without TLVs
            assert_eq!(read(&cut).is_ok(), is_whole, "{len}");
        }
    }
}
