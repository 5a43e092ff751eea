//! Service parameters of SVCB and HTTPS records (RFC 9460).

use super::{
    encoding, print,
    read::{RdataResult, Reader, decimal, excerpt, unescape_all},
};
use std::fmt;

/// The names of keys. The index of a name is the number of the key.
const KEYS: &[&str] =
    &["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint", "dohpath", "ohttp"];

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;

fn key_from_text(text: &[u8]) -> Option<u16> {
    match KEYS.iter().position(|key| key.as_bytes().eq_ignore_ascii_case(text)) {
        Some(at) => Some(at as u16),
        None => super::number_after(text, b"key"),
    }
}

fn write_key(f: &mut impl fmt::Write, key: u16) -> fmt::Result {
    match KEYS.get(key as usize) {
        Some(name) => f.write_str(name),
        None => write!(f, "key{key}"),
    }
}

/// Reads all remaining tokens as parameters, and appends them in the order of their keys.
pub(super) fn read(reader: &mut Reader) -> RdataResult {
    let mut params: Vec<(u16, Vec<u8>)> = Vec::new();
    while reader.peek().is_some() {
        let text = reader.next("a parameter")?.text;
        let split = text.iter().position(|&octet| octet == b'=');
        let (name, mut raw) = split.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
        // In key="value", the quoted string is a separate token.
        if raw == Some(b"")
            && let Some(token) = reader.peek().filter(|token| token.joined && token.quoted)
        {
            raw = Some(token.text);
            reader.next("a value")?;
        }
        let Some(key) = key_from_text(name) else {
            return Err(reader.error(format!("`{}` is not a key of service parameters", excerpt(name))));
        };
        if params.iter().any(|(other, _)| *other == key) {
            return Err(reader.error(format!("the key `{}` is given twice", excerpt(name))));
        }
        let mut value = Vec::new();
        // The value of a key with a number is in wire format (RFC 9460, section 2.1). NSD also
        // accepts the format of its name.
        let is_numbered = !KEYS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name));
        let is_wire_format =
            is_numbered && unescape_all(raw.unwrap_or_default(), &mut value).is_some() && value_fits(key, &value);
        if !is_wire_format {
            value.clear();
        }
        if !is_wire_format && value_from_text(key, raw, &mut value).is_none() {
            return Err(reader.error(format!("`{}` needs {}", excerpt(name), expected_value(key))));
        }
        params.push((key, value));
    }
    params.sort_by_key(|&(key, _)| key);
    let start = reader.out.len();
    for (key, value) in &params {
        let Ok(len) = u16::try_from(value.len()) else {
            return Err(reader.error("a value is longer than 65535 octets".into()));
        };
        reader.out.extend_from_slice(&key.to_be_bytes());
        reader.out.extend_from_slice(&len.to_be_bytes());
        reader.out.extend_from_slice(value);
    }
    if check(&reader.out[start..]) {
        return Ok(());
    }
    let lacks_alpn =
        params.iter().any(|&(key, _)| key == NO_DEFAULT_ALPN) && !params.iter().any(|&(key, _)| key == ALPN);
    let message = if lacks_alpn { "`no-default-alpn` needs `alpn`" } else { "a key that `mandatory` lists is missing" };
    Err(reader.error(message.into()))
}

/// The values that a key accepts, for error messages.
fn expected_value(key: u16) -> &'static str {
    match key {
        MANDATORY => "other keys, each once, with commas between them",
        ALPN => "protocols such as h2,h3",
        NO_DEFAULT_ALPN | OHTTP => "no value",
        PORT => "a number from 0 to 65535",
        IPV4HINT => "IPv4 addresses with commas between them",
        ECH => "base64",
        IPV6HINT => "IPv6 addresses with commas between them",
        DOHPATH => "a path with the variable `dns`, as in /dns-query{?dns}",
        _ => "a value with `\\` before three digits up to 255, or before another character",
    }
}

fn value_from_text(key: u16, raw: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
    let mut text = Vec::new();
    unescape_all(raw.unwrap_or_default(), &mut text)?;
    match key {
        MANDATORY => {
            let mut keys: Vec<u16> = text.split(|&octet| octet == b',').map(key_from_text).collect::<Option<_>>()?;
            keys.sort_unstable();
            out.extend(keys.iter().flat_map(|key| key.to_be_bytes()));
        }
        ALPN => split_list(&text, out)?,
        PORT => out.extend_from_slice(&u16::try_from(decimal(&text)?).ok()?.to_be_bytes()),
        IPV4HINT => {
            for address in std::str::from_utf8(&text).ok()?.split(',') {
                out.extend_from_slice(&address.parse::<std::net::Ipv4Addr>().ok()?.octets());
            }
        }
        ECH => encoding::read_base64(text.iter().copied(), out)?,
        IPV6HINT => {
            for address in std::str::from_utf8(&text).ok()?.split(',') {
                out.extend_from_slice(&address.parse::<std::net::Ipv6Addr>().ok()?.octets());
            }
        }
        _ => out.extend_from_slice(&text),
    }
    value_fits(key, out).then_some(())
}

/// Converts a comma-separated list to character-strings (RFC 9460, appendix A.1).
fn split_list(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut item = out.len();
    out.push(0);
    let mut octets = text.iter();
    loop {
        let octet = octets.next();
        if octet.is_none_or(|&octet| octet == b',') {
            out[item] = u8::try_from(out.len() - item - 1).ok()?;
            item = out.len();
        }
        match octet {
            Some(b'\\') => out.push(*octets.next()?),
            Some(b',') => out.push(0),
            Some(&octet) => out.push(octet),
            None => return Some(()),
        }
    }
}

/// Whether a value is valid for its key.
fn value_fits(key: u16, value: &[u8]) -> bool {
    match key {
        MANDATORY => {
            let keys: Vec<_> = value.chunks(2).collect();
            value.len() >= 2
                && value.len().is_multiple_of(2)
                && keys[0] != MANDATORY.to_be_bytes()
                && keys.windows(2).all(|pair| pair[0] < pair[1])
        }
        ALPN => {
            let mut rest = value;
            while let Some(len) = super::walk::text(rest).filter(|&len| len > 1) {
                rest = &rest[len..];
            }
            rest.is_empty() && !value.is_empty()
        }
        NO_DEFAULT_ALPN | OHTTP => value.is_empty(),
        PORT => value.len() == 2,
        IPV4HINT => !value.is_empty() && value.len().is_multiple_of(4),
        IPV6HINT => !value.is_empty() && value.len().is_multiple_of(16),
        // A relative URI template in UTF-8 with the variable `dns` (RFC 9461, section 5).
        DOHPATH => std::str::from_utf8(value).is_ok_and(|path| path.starts_with('/') && path.contains("dns")),
        _ => true,
    }
}

/// Splits off the first parameter: its key, its value, and the other parameters.
fn split_param(rest: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&[a, b, c, d], rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes([c, d]) as usize)?;
    Some((u16::from_be_bytes([a, b]), value, rest))
}

/// Whether octets are valid parameters: sorted, each key once, and no mandatory key missing (RFC
/// 9460, sections 2.2 and 8).
pub(super) fn check(params: &[u8]) -> bool {
    let (mut rest, mut last, mut mandatory, mut has_alpn) = (params, None, &[][..], false);
    while !rest.is_empty() {
        let Some((key, value, tail)) = split_param(rest) else { return false };
        if last >= Some(key) || !value_fits(key, value) || (key == NO_DEFAULT_ALPN && !has_alpn) {
            return false;
        }
        if key == MANDATORY {
            mandatory = value;
        } else if mandatory.first_chunk() == Some(&key.to_be_bytes()) {
            // Both lists are sorted, so that mandatory keys appear in their order.
            mandatory = &mandatory[2..];
        }
        has_alpn |= key == ALPN;
        (rest, last) = (tail, Some(key));
    }
    mandatory.is_empty()
}

/// Writes valid parameters.
pub(super) fn write(f: &mut impl fmt::Write, params: &[u8]) -> fmt::Result {
    let mut rest = params;
    while let Some((key, value, tail)) = split_param(rest) {
        write_key(f, key)?;
        if !value.is_empty() {
            f.write_char('=')?;
            write_value(f, key, value)?;
        }
        if !tail.is_empty() {
            f.write_char(' ')?;
        }
        rest = tail;
    }
    Ok(())
}

fn write_value(f: &mut impl fmt::Write, key: u16, value: &[u8]) -> fmt::Result {
    let comma = |i: usize| if i > 0 { "," } else { "" };
    match key {
        MANDATORY => {
            for (i, key) in value.chunks_exact(2).enumerate() {
                f.write_str(comma(i))?;
                write_key(f, u16::from_be_bytes([key[0], key[1]]))?;
            }
            Ok(())
        }
        ALPN => {
            let (mut rest, mut list) = (value, Vec::new());
            while let Some(len) = super::walk::text(rest) {
                for &octet in &rest[1..len] {
                    if matches!(octet, b',' | b'\\') {
                        list.push(b'\\');
                    }
                    list.push(octet);
                }
                rest = &rest[len..];
                if !rest.is_empty() {
                    list.push(b',');
                }
            }
            print::write_quoted(f, &list)
        }
        PORT => write!(f, "{}", u16::from_be_bytes([value[0], value[1]])),
        IPV4HINT | IPV6HINT => {
            for (i, address) in value.chunks_exact(if key == IPV4HINT { 4 } else { 16 }).enumerate() {
                f.write_str(comma(i))?;
                print::write_address(f, address)?;
            }
            Ok(())
        }
        ECH => encoding::write_base64(f, value, false),
        _ => print::write_quoted(f, value),
    }
}
