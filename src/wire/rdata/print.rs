//! Prints the fields of record data that was checked.

use super::{
    encoding, special, svcb,
    table::{Kind, Type},
    type_to_text, walk,
};
use crate::wire::name::{wire_len, write_name};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Writes all fields with a space between them. What does not fit is left out: the data was checked before.
pub(super) fn write(f: &mut impl fmt::Write, entry: &Type, rdata: &[u8]) -> fmt::Result {
    let mut at = 0;
    for &(_, kind) in entry.fields {
        let Some(len) = walk::length(kind, rdata, at) else { break };
        let octets = &rdata[at..at + len];
        let silent = octets.is_empty() && !matches!(kind, Kind::LongText | Kind::Gateway | Kind::Base64OrDash);
        if !silent {
            if at > 0 {
                f.write_char(' ')?;
            }
            write_field(f, kind, octets, rdata)?;
        }
        at += len;
    }
    Ok(())
}

fn write_field(f: &mut impl fmt::Write, kind: Kind, octets: &[u8], rdata: &[u8]) -> fmt::Result {
    match kind {
        Kind::U8 | Kind::U16 | Kind::U32 | Kind::Seconds | Kind::KeyFlags => write!(f, "{}", number(octets)),
        Kind::Time => special::write_time(f, number(octets)),
        Kind::RrType => f.write_str(&type_to_text(number(octets) as u16)),
        Kind::Word { words, printed, .. } => {
            let number = number(octets);
            let word = words.iter().find(|&&(of, _)| printed && of as u32 == number);
            match word {
                Some((_, word)) => f.write_str(word),
                None => write!(f, "{number}"),
            }
        }
        Kind::Ipv4 | Kind::Ipv6 => write_address(f, octets),
        Kind::Host | Kind::Domain | Kind::PrefixName => write_name(f, octets),
        Kind::Domains => {
            let mut rest = octets;
            while let Some(len) = wire_len(rest) {
                write_name(f, &rest[..len])?;
                rest = &rest[len..];
                if !rest.is_empty() {
                    f.write_char(' ')?;
                }
            }
            Ok(())
        }
        Kind::Text | Kind::TextOrNone | Kind::Texts => {
            let mut rest = octets;
            while let Some(len) = walk::text(rest) {
                write_quoted(f, &rest[1..len])?;
                rest = &rest[len..];
                if !rest.is_empty() {
                    f.write_char(' ')?;
                }
            }
            Ok(())
        }
        Kind::Tag => write_escaped(f, &octets[1..]),
        Kind::LongText => write_quoted(f, octets),
        Kind::Hex | Kind::DsDigest => encoding::write_hex_chunks(f, octets),
        Kind::Salt if octets.len() == 1 => f.write_char('-'),
        Kind::Salt => encoding::write_hex(f, &octets[1..]),
        Kind::Hash => encoding::write_base32hex(f, &octets[1..]),
        Kind::Base64OrDash if octets.is_empty() => f.write_char('-'),
        Kind::Base64 | Kind::Base64OrNone | Kind::Base64OrDash => encoding::write_base64(f, octets, true),
        Kind::Bitmap => write_types(f, walk::bitmap_types(octets)),
        Kind::NxtBitmap => write_types(f, walk::bits(octets)),
        Kind::Nsap => {
            f.write_str("0x")?;
            octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
        }
        Kind::Eui48 | Kind::Eui64 => {
            for (i, octet) in octets.iter().enumerate() {
                write!(f, "{}{octet:02x}", if i > 0 { "-" } else { "" })?;
            }
            Ok(())
        }
        Kind::Node64 => {
            for (i, group) in octets.chunks_exact(2).enumerate() {
                write!(f, "{}{:x}", if i > 0 { ":" } else { "" }, u16::from_be_bytes([group[0], group[1]]))?;
            }
            Ok(())
        }
        Kind::Atma => special::write_atma(f, octets),
        Kind::Loc => special::write_loc(f, octets),
        Kind::Apl => special::write_apl(f, octets),
        Kind::Wks => special::write_wks(f, octets),
        Kind::Gateway => match rdata[1] & 0x7f {
            0 => f.write_char('.'),
            1 | 2 => write_address(f, octets),
            _ => write_name(f, octets),
        },
        Kind::Relay => write!(f, "{} {}", octets[0] >> 7, octets[0] & 0x7f),
        Kind::Hip => special::write_hip(f, octets),
        Kind::A6 => special::write_a6(f, octets),
        Kind::SvcParams => svcb::write(f, octets),
    }
}

/// Up to four octets as a number.
fn number(octets: &[u8]) -> u32 {
    octets.iter().fold(0, |number, &octet| number << 8 | octet as u32)
}

/// Writes an address of 4 or 16 octets.
pub(super) fn write_address(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return write!(f, "{}", Ipv4Addr::from(octets));
    }
    let Ok(octets) = <[u8; 16]>::try_from(octets) else { return Ok(()) };
    let address = Ipv6Addr::from(octets);
    // As inet_ntop does with the deprecated addresses that hold an IPv4 address.
    match u128::from(address) {
        bits @ 0x1_0000..=0xffff_ffff => write!(f, "::{}", Ipv4Addr::from(bits as u32)),
        _ => write!(f, "{address}"),
    }
}

/// Writes text in double quotes.
pub(super) fn write_quoted(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    f.write_char('"')?;
    write_escaped(f, octets)?;
    f.write_char('"')
}

/// Writes text with escapes that it needs within double quotes.
fn write_escaped(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    for &octet in octets {
        match octet {
            b'"' | b'\\' => write!(f, "\\{}", octet as char)?,
            b' '..=b'~' => f.write_char(octet as char)?,
            _ => write!(f, "\\{octet:03}")?,
        }
    }
    Ok(())
}

fn write_types(f: &mut impl fmt::Write, types: impl Iterator<Item = u16>) -> fmt::Result {
    for (i, number) in types.enumerate() {
        write!(f, "{}{}", if i > 0 { " " } else { "" }, type_to_text(number))?;
    }
    Ok(())
}
