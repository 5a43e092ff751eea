//! Hexadecimal, base64 and base32hex (RFC 4648), from text that can be split over several tokens.

use std::fmt;

/// The number of digits that are written before a space, as by dig.
const CHUNK: usize = 56;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE32HEX: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";

fn hex_digit(octet: u8) -> Option<u8> {
    (octet as char).to_digit(16).map(|digit| digit as u8)
}

fn base64_digit(octet: u8) -> Option<u8> {
    match octet {
        b'A'..=b'Z' => Some(octet - b'A'),
        b'a'..=b'z' => Some(octet - b'a' + 26),
        b'0'..=b'9' => Some(octet - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Decodes hexadecimal digits to the end of `out`. None if one is not a digit, or if their number
/// is odd.
pub(super) fn read_hex(digits: impl Iterator<Item = u8>, out: &mut Vec<u8>) -> Option<()> {
    let mut high = None;
    for digit in digits {
        let digit = hex_digit(digit)?;
        match high.take() {
            None => high = Some(digit << 4),
            Some(high) => out.push(high | digit),
        }
    }
    high.is_none().then_some(())
}

/// Decodes base64 digits with their padding to the end of `out`. None if they are malformed.
pub(super) fn read_base64(digits: impl Iterator<Item = u8>, out: &mut Vec<u8>) -> Option<()> {
    let (mut bits, mut count, mut padding) = (0u32, 0, 0);
    for digit in digits {
        if padding > 0 || (digit == b'=' && count >= 2) {
            if digit != b'=' || count + padding == 4 {
                return None;
            }
            padding += 1;
            continue;
        }
        bits = bits << 6 | base64_digit(digit)? as u32;
        count += 1;
        if count == 4 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    match (count, padding) {
        (0, 0) => {}
        (2, 2) if bits & 0xf == 0 => out.push((bits >> 4) as u8),
        (3, 1) if bits & 0x3 == 0 => out.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => return None,
    }
    Some(())
}

/// Decodes base32hex digits without padding to the end of `out`. None if they are malformed.
pub(super) fn read_base32hex(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut bits, mut count) = (0u16, 0);
    for digit in digits {
        let value = BASE32HEX.iter().position(|known| known.eq_ignore_ascii_case(digit))?;
        bits = bits << 5 | value as u16;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (count < 5 && bits == 0).then_some(())
}

/// Writes octets in upper-case hexadecimal, without spaces.
pub(super) fn write_hex(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    octets.iter().try_for_each(|octet| write!(f, "{octet:02X}"))
}

/// Writes octets in upper-case hexadecimal, with a space after each [`CHUNK`] digits.
pub(super) fn write_hex_chunks(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    for (i, chunk) in octets.chunks(CHUNK / 2).enumerate() {
        if i > 0 {
            f.write_char(' ')?;
        }
        write_hex(f, chunk)?;
    }
    Ok(())
}

/// Writes octets in base64; if `split`, with a space after each [`CHUNK`] digits.
pub(super) fn write_base64(f: &mut impl fmt::Write, octets: &[u8], split: bool) -> fmt::Result {
    for (i, group) in octets.chunks(3).enumerate() {
        if split && i > 0 && i % (CHUNK / 4) == 0 {
            f.write_char(' ')?;
        }
        let at = |i: usize| group.get(i).copied().unwrap_or(0) as u32;
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            f.write_char(if digit > group.len() { '=' } else { BASE64[value as usize] as char })?;
        }
    }
    Ok(())
}

/// Writes octets in base32hex, without padding.
pub(super) fn write_base32hex(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    let (mut bits, mut count) = (0u16, 0);
    for octet in octets {
        bits = bits << 8 | *octet as u16;
        count += 8;
        while count >= 5 {
            count -= 5;
            f.write_char(BASE32HEX[(bits >> count & 31) as usize] as char)?;
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        f.write_char(BASE32HEX[(bits << (5 - count) & 31) as usize] as char)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_and_decodes_the_vectors_of_rfc_4648() {
        for (plain, base64, base32) in [
            ("f", "Zg==", "CO"),
            ("fo", "Zm8=", "CPNG"),
            ("foo", "Zm9v", "CPNMU"),
            ("foob", "Zm9vYg==", "CPNMUOG"),
            ("fooba", "Zm9vYmE=", "CPNMUOJ1"),
            ("foobar", "Zm9vYmFy", "CPNMUOJ1E8"),
        ] {
            let mut text = String::new();
            write_base64(&mut text, plain.as_bytes(), true).unwrap();
            assert_eq!(text, base64);
            text.clear();
            write_base32hex(&mut text, plain.as_bytes()).unwrap();
            assert_eq!(text, base32);
            let mut octets = Vec::new();
            read_base64(base64.bytes(), &mut octets).unwrap();
            assert_eq!(octets, plain.as_bytes());
            octets.clear();
            read_base32hex(base32.to_lowercase().as_bytes(), &mut octets).unwrap();
            assert_eq!(octets, plain.as_bytes());
        }
        for wrong in ["Z", "Zg", "Zg=", "Zg===", "=", "Zh==", "Zm9=", "Zg==Zg==", "Zm9v=", "Z*==", "===="] {
            assert!(read_base64(wrong.bytes(), &mut Vec::new()).is_none(), "{wrong}");
        }
        assert!(read_hex(b"0aF".iter().copied(), &mut Vec::new()).is_none());
        assert!(read_base32hex(b"C", &mut Vec::new()).is_none());
    }
}
