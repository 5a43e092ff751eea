//! Fields that only one record type has, and times of signatures.

use super::{
    encoding, print,
    read::{RdataResult, Reader, decimal},
};
use std::fmt;

// Times of signatures: seconds since 1970, modulo 2^32 (RFC 4034, section 3.1.5).

/// Reads a time as `YYYYMMDDHHmmSS`, or as seconds in at most ten digits.
pub(super) fn time(text: &[u8]) -> Option<u32> {
    if text.len() != 14 {
        return decimal(text).filter(|_| text.len() <= 10);
    }
    let part = |from, to| decimal(&text[from..to]).map(|number| number as i16);
    let (month, day) = (part(4, 6)? as i8, part(6, 8)? as i8);
    let (hour, minute, second) = (part(8, 10)? as i8, part(10, 12)? as i8, part(12, 14)? as i8);
    let time = jiff::civil::DateTime::new(part(0, 4)?, month, day, hour, minute, second, 0).ok()?;
    let time = time.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?;
    Some(time.timestamp().as_second() as u32)
}

/// Writes a time from 1970 to 2106.
pub(super) fn write_time(f: &mut impl fmt::Write, seconds: u32) -> fmt::Result {
    let time = jiff::Timestamp::from_second(seconds.into()).unwrap_or_default();
    let time = time.to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let (year, month, day) = (time.year(), time.month(), time.day());
    write!(f, "{year:04}{month:02}{day:02}{:02}{:02}{:02}", time.hour(), time.minute(), time.second())
}

// NSAP and ATMA addresses.

/// Reads an NSAP address: `0x` and pairs of hexadecimal digits, with dots anywhere.
pub(super) fn nsap(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (front, digits) = text.split_at_checked(2)?;
    let start = out.len();
    encoding::read_hex(digits.iter().copied().filter(|&octet| octet != b'.'), out)?;
    (front.eq_ignore_ascii_case(b"0x") && out.len() > start).then_some(())
}

/// Reads an ATM address: `+` and decimal digits (E.164), or pairs of hexadecimal digits, with dots
/// anywhere.
pub(super) fn atma(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    match text.strip_prefix(b"+") {
        Some(digits) => {
            out.push(1);
            out.extend(digits.iter().filter(|&&octet| octet != b'.'));
        }
        None => {
            out.push(0);
            encoding::read_hex(text.iter().copied().filter(|&octet| octet != b'.'), out)?;
        }
    }
    atma_len(&out[start..]).map(|_| ())
}

pub(super) fn atma_len(rest: &[u8]) -> Option<usize> {
    let fits = match rest.split_first()? {
        (0, octets) => !octets.is_empty(),
        (1, digits) => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    fits.then_some(rest.len())
}

pub(super) fn write_atma(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    let address = &octets[1..];
    if octets[0] == 0 {
        return encoding::write_hex(f, address);
    }
    f.write_char('+')?;
    address.iter().try_for_each(|&digit| f.write_char(digit as char))
}

// LOC (RFC 1876).

/// A degree, in thousandths of a second of arc.
const DEGREE: u32 = 3_600_000;
/// The number that stands for the equator and the prime meridian.
const EQUATOR: u32 = 1 << 31;
/// The sea level, in centimetres above the lowest altitude.
const SEA_LEVEL: u64 = 10_000_000;
/// The largest size and precision, in centimetres.
const MAX_SIZE_CENTIMETRES: u64 = 9_000_000_000;

/// A decimal number with at most `digits` digits behind the point, in units of the last of these
/// digits.
fn fixed_point(text: &[u8], digits: u32) -> Option<u64> {
    let mut parts = text.splitn(2, |&octet| octet == b'.');
    let whole = decimal(parts.next()?)? as u64;
    let fraction = parts.next().unwrap_or_default();
    let missing = digits.checked_sub(fraction.len() as u32)?;
    let fraction = if fraction.is_empty() { 0 } else { decimal(fraction)? as u64 };
    Some(whole * 10u64.pow(digits) + fraction * 10u64.pow(missing))
}

fn centimetres(text: &[u8]) -> Option<u64> {
    fixed_point(text.strip_suffix(b"m").or(text.strip_suffix(b"M")).unwrap_or(text), 2)
}

/// Reads degrees, minutes and seconds up to a letter, as thousandths of a second from the equator
/// or the prime meridian.
fn read_angle(reader: &mut Reader, letters: [u8; 2], max: u32) -> RdataResult<u32> {
    let wanted = format!("an angle such as `42 21 54.000 {}`", letters[0] as char);
    let mut angle = 0u64;
    for part in 0..4 {
        let text = reader.next(&wanted)?.text;
        if part > 0
            && let [letter] = text
            && letters.contains(&letter.to_ascii_uppercase())
            && angle <= (max * DEGREE) as u64
        {
            let north = letter.to_ascii_uppercase() == letters[0];
            return Ok(if north { EQUATOR + angle as u32 } else { EQUATOR - angle as u32 });
        }
        angle += match part {
            0 => decimal(text).filter(|&degrees| degrees <= max).map(|degrees| degrees as u64 * DEGREE as u64),
            1 => decimal(text).filter(|&minutes| minutes < 60).map(|minutes| minutes as u64 * 60_000),
            2 => fixed_point(text, 3).filter(|&seconds| seconds < 60_000),
            _ => None,
        }
        .ok_or_else(|| reader.unexpected(&wanted))?;
    }
    Err(reader.unexpected(&wanted))
}

pub(super) fn read_loc(reader: &mut Reader) -> RdataResult {
    let latitude = read_angle(reader, *b"NS", 90)?;
    let longitude = read_angle(reader, *b"EW", 180)?;
    let wanted = "an altitude in metres from -100000.00 to 42849672.95";
    let text = reader.next(wanted)?.text;
    let altitude = match text.strip_prefix(b"-") {
        Some(depth) => centimetres(depth).and_then(|depth| SEA_LEVEL.checked_sub(depth)),
        None => centimetres(text.strip_prefix(b"+").unwrap_or(text)).map(|height| SEA_LEVEL + height),
    };
    let altitude =
        altitude.and_then(|altitude| u32::try_from(altitude).ok()).ok_or_else(|| reader.unexpected(wanted))?;
    // The defaults: size 1 m, horizontal precision 10 km, vertical precision 10 m (RFC 1876,
    // section 3).
    let mut sizes = [0x12, 0x16, 0x13];
    for size in &mut sizes {
        let Some(token) = reader.peek() else { break };
        let wanted = "a size in metres up to 90000000.00";
        let found = centimetres(token.text).filter(|&size| size <= MAX_SIZE_CENTIMETRES);
        reader.next(wanted)?;
        let (mut mantissa, mut exponent) = (found.ok_or_else(|| reader.unexpected(wanted))?, 0u8);
        while mantissa > 9 {
            mantissa /= 10;
            exponent += 1;
        }
        *size = (mantissa as u8) << 4 | exponent;
    }
    reader.out.push(0);
    reader.out.extend_from_slice(&sizes);
    for number in [latitude, longitude, altitude] {
        reader.out.extend_from_slice(&number.to_be_bytes());
    }
    Ok(())
}

fn loc_number(octets: &[u8], at: usize) -> u32 {
    octets[at..at + 4].iter().fold(0, |number, &octet| number << 8 | octet as u32)
}

pub(super) fn loc_len(rest: &[u8]) -> Option<usize> {
    let size_fits = |size: u8| (size >> 4 > 0 && size >> 4 <= 9 && size & 15 <= 9) || size == 0;
    let fits = rest.len() == 16
        && rest[0] == 0
        && rest[1..4].iter().all(|&size| size_fits(size))
        && loc_number(rest, 4).abs_diff(EQUATOR) <= 90 * DEGREE
        && loc_number(rest, 8).abs_diff(EQUATOR) <= 180 * DEGREE;
    fits.then_some(16)
}

pub(super) fn write_loc(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    for (at, letters) in [(4, ['N', 'S']), (8, ['E', 'W'])] {
        let number = loc_number(octets, at);
        let angle = number.abs_diff(EQUATOR);
        let (degrees, minutes, seconds) = (angle / DEGREE, angle / 60_000 % 60, angle % 60_000);
        let letter = letters[usize::from(number < EQUATOR)];
        write!(f, "{degrees} {minutes} {}.{:03} {letter} ", seconds / 1000, seconds % 1000)?;
    }
    let altitude = loc_number(octets, 12) as i64 - SEA_LEVEL as i64;
    let (sign, altitude) = (if altitude < 0 { "-" } else { "" }, altitude.unsigned_abs());
    write!(f, "{sign}{}.{:02}m", altitude / 100, altitude % 100)?;
    for &size in &octets[1..4] {
        let size = (size >> 4) as u64 * 10u64.pow((size & 15) as u32);
        match size {
            0..100 => write!(f, " 0.{size:02}m")?,
            _ => write!(f, " {}m", size / 100)?,
        }
    }
    Ok(())
}

// APL (RFC 3123).

pub(super) fn apl_item(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let text = std::str::from_utf8(text).ok()?;
    let (negated, text) = text.strip_prefix('!').map_or((0, text), |text| (0x80, text));
    let (family, text) = text.split_once(':')?;
    let (address, prefix) = text.split_once('/')?;
    let prefix = decimal(prefix.as_bytes())?;
    let (family, max, address) = match family {
        "1" => (1, 32, address.parse::<std::net::Ipv4Addr>().ok()?.octets().to_vec()),
        "2" => (2, 128, address.parse::<std::net::Ipv6Addr>().ok()?.octets().to_vec()),
        _ => return None,
    };
    let len = address.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
    out.extend_from_slice(&[0, family, prefix as u8, negated | len as u8]);
    out.extend_from_slice(&address[..len]);
    (prefix <= max).then_some(())
}

/// An address prefix of APL data.
struct Prefix<'a> {
    family: u8,
    length: u8,
    negated: bool,
    /// The address without its trailing zero octets.
    address: &'a [u8],
    /// The prefixes behind it.
    rest: &'a [u8],
}

fn split_apl(octets: &[u8]) -> Option<Prefix<'_>> {
    let (&[0, family, length, flags], rest) = octets.split_first_chunk()? else { return None };
    let (address, rest) = rest.split_at_checked((flags & 0x7f) as usize)?;
    let (octets, max) = match family {
        1 => (4, 32),
        2 => (16, 128),
        _ => return None,
    };
    let fits = length <= max && address.len() <= octets && address.last() != Some(&0);
    fits.then_some(Prefix { family, length, negated: flags & 0x80 != 0, address, rest })
}

pub(super) fn apl_len(octets: &[u8]) -> Option<usize> {
    let mut left = octets;
    while !left.is_empty() {
        left = split_apl(left)?.rest;
    }
    Some(octets.len())
}

pub(super) fn write_apl(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    let mut left = octets;
    while let Some(Prefix { family, length, negated, address, rest }) = split_apl(left) {
        let mut full = [0; 16];
        full[..address.len()].copy_from_slice(address);
        write!(f, "{}{family}:", if negated { "!" } else { "" })?;
        print::write_address(f, if family == 1 { &full[..4] } else { &full })?;
        write!(f, "/{length}{}", if rest.is_empty() { "" } else { " " })?;
        left = rest;
    }
    Ok(())
}

// WKS (RFC 1035, section 3.4.2).

const PROTOCOLS: &[(u8, &str)] = &[(1, "icmp"), (2, "igmp"), (6, "tcp"), (17, "udp")];
const SERVICES: &[(u16, &str)] = &[
    (7, "echo"),
    (9, "discard"),
    (11, "systat"),
    (13, "daytime"),
    (15, "netstat"),
    (17, "qotd"),
    (19, "chargen"),
    (20, "ftp-data"),
    (21, "ftp"),
    (22, "ssh"),
    (23, "telnet"),
    (25, "smtp"),
    (37, "time"),
    (43, "whois"),
    (49, "tacacs"),
    (53, "domain"),
    (67, "bootps"),
    (68, "bootpc"),
    (69, "tftp"),
    (70, "gopher"),
    (79, "finger"),
    (80, "http"),
    (88, "kerberos"),
    (101, "hostnames"),
    (109, "pop2"),
    (110, "pop3"),
    (111, "sunrpc"),
    (113, "auth"),
    (119, "nntp"),
    (123, "ntp"),
    (143, "imap2"),
    (161, "snmp"),
    (179, "bgp"),
    (389, "ldap"),
    (443, "https"),
];

pub(super) fn read_wks(reader: &mut Reader) -> RdataResult {
    let named = |text: &[u8], word: &str| word.as_bytes().eq_ignore_ascii_case(text);
    reader.value("a protocol such as tcp, or its number", |text, out| {
        let known = PROTOCOLS.iter().find(|(_, word)| named(text, word)).map(|&(number, _)| number);
        out.push(known.or_else(|| decimal(text)?.try_into().ok())?);
        Some(())
    })?;
    let start = reader.out.len();
    while reader.peek().is_some() {
        reader.value("a service such as smtp, or a port", |text, out| {
            let known = SERVICES.iter().find(|(_, word)| named(text, word)).map(|&(port, _)| port);
            let port: u16 = known.or_else(|| decimal(text)?.try_into().ok())?;
            let at = start + port as usize / 8;
            out.resize(out.len().max(at + 1), 0);
            out[at] |= 0x80 >> (port % 8);
            Some(())
        })?;
    }
    Ok(())
}

pub(super) fn wks_len(rest: &[u8]) -> Option<usize> {
    let (_, map) = rest.split_first()?;
    (map.len() <= 8192 && map.last() != Some(&0)).then_some(rest.len())
}

pub(super) fn write_wks(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    write!(f, "{}", octets[0])?;
    super::walk::bits(&octets[1..]).try_for_each(|port| write!(f, " {port}"))
}

// HIP (RFC 8005).

pub(super) fn read_hip(reader: &mut Reader) -> RdataResult {
    let algorithm = reader.number(255)? as u8;
    let start = reader.out.len();
    reader.out.extend_from_slice(&[0, algorithm, 0, 0]);
    reader.value("a host identity tag in hexadecimal", |text, out| {
        encoding::read_hex(text.iter().copied(), out)?;
        out[start] = u8::try_from(out.len() - start - 4).ok().filter(|&len| len > 0)?;
        Some(())
    })?;
    reader.value("a public key in base64, without spaces", |text, out| {
        let before = out.len();
        encoding::read_base64(text.iter().copied(), out)?;
        let len = u16::try_from(out.len() - before).ok().filter(|&len| len > 0)?;
        out[start + 2..start + 4].copy_from_slice(&len.to_be_bytes());
        Some(())
    })
}

pub(super) fn hip_len(rest: &[u8]) -> Option<usize> {
    let &[tag, _, high, low] = rest.first_chunk()?;
    let key = u16::from_be_bytes([high, low]) as usize;
    let len = 4 + tag as usize + key;
    (tag > 0 && key > 0 && rest.len() >= len).then_some(len)
}

pub(super) fn write_hip(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    let (tag, key) = octets[4..].split_at(octets[0] as usize);
    write!(f, "{} ", octets[1])?;
    encoding::write_hex(f, tag)?;
    f.write_char(' ')?;
    encoding::write_base64(f, key, false)
}

// A6 (RFC 2874).

pub(super) fn read_a6(reader: &mut Reader) -> RdataResult {
    let prefix = reader.number(128)? as u8;
    reader.out.push(prefix);
    if prefix == 128 {
        return Ok(());
    }
    reader.value("an IPv6 address", |text, out| {
        let address: std::net::Ipv6Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
        let suffix = u128::from(address) & (u128::MAX >> prefix);
        out.extend_from_slice(&suffix.to_be_bytes()[prefix as usize / 8..]);
        Some(())
    })
}

pub(super) fn a6_len(rest: &[u8]) -> Option<usize> {
    let prefix = *rest.first().filter(|&&prefix| prefix <= 128)?;
    let suffix = rest.get(1..1 + (16 - prefix as usize / 8))?;
    let unused = suffix.first().is_some_and(|first| first & !(0xff >> (prefix % 8)) != 0);
    (!unused).then_some(1 + suffix.len())
}

pub(super) fn write_a6(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    let (prefix, suffix) = (octets[0], &octets[1..]);
    write!(f, "{prefix}")?;
    if suffix.is_empty() {
        return Ok(());
    }
    let mut full = [0; 16];
    full[16 - suffix.len()..].copy_from_slice(suffix);
    f.write_char(' ')?;
    print::write_address(f, &full)
}
