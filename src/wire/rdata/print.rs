//! Writes the fields of record data as text. The data must be valid: [`check`](super::check) was
//! called before.

use super::{
    encoding, special, svcb,
    table::{Field, Type},
    type_to_text, walk,
};
use crate::wire::name::{wire_len, write_name};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Writes all fields with a space between them, up to the first field that is invalid.
pub(super) fn write(f: &mut impl fmt::Write, entry: &Type, rdata: &[u8]) -> fmt::Result {
    let mut at = 0;
    for &(_, field) in entry.fields {
        let Some(len) = walk::length(field, rdata, at) else { break };
        let octets = &rdata[at..at + len];
        let is_omitted = octets.is_empty() && !matches!(field, Field::LongText | Field::Gateway | Field::Base64OrDash);
        if !is_omitted {
            if at > 0 {
                f.write_char(' ')?;
            }
            write_field(f, field, octets, rdata)?;
        }
        at += len;
    }
    Ok(())
}

fn write_field(f: &mut impl fmt::Write, field: Field, octets: &[u8], rdata: &[u8]) -> fmt::Result {
    match field {
        Field::U8 | Field::U16 | Field::U32 | Field::Seconds | Field::KeyFlags => write!(f, "{}", number(octets)),
        Field::Time => special::write_time(f, number(octets)),
        Field::RrType => f.write_str(&type_to_text(number(octets) as u16)),
        Field::Mnemonic { mnemonics, printed, .. } => {
            let number = number(octets);
            let known = mnemonics.iter().find(|&&(other, _)| printed && other as u32 == number);
            match known {
                Some((_, mnemonic)) => f.write_str(mnemonic),
                None => write!(f, "{number}"),
            }
        }
        Field::Ipv4 | Field::Ipv6 => write_address(f, octets),
        Field::CompressibleName | Field::Name | Field::PrefixName => write_name(f, octets),
        Field::Names => {
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
        Field::Text | Field::TextOrNone | Field::Texts => {
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
        Field::Tag => write_escaped(f, &octets[1..]),
        Field::LongText => write_quoted(f, octets),
        Field::Hex | Field::DsDigest => encoding::write_hex_chunks(f, octets),
        Field::Salt if octets.len() == 1 => f.write_char('-'),
        Field::Salt => encoding::write_hex(f, &octets[1..]),
        Field::Hash => encoding::write_base32hex(f, &octets[1..]),
        Field::Base64OrDash if octets.is_empty() => f.write_char('-'),
        Field::Base64 | Field::Base64OrNone | Field::Base64OrDash => encoding::write_base64(f, octets, true),
        Field::Bitmap => write_types(f, walk::bitmap_types(octets)),
        Field::NxtBitmap => write_types(f, walk::bits(octets)),
        Field::Nsap => {
            f.write_str("0x")?;
            octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
        }
        Field::Eui48 | Field::Eui64 => {
            for (i, octet) in octets.iter().enumerate() {
                write!(f, "{}{octet:02x}", if i > 0 { "-" } else { "" })?;
            }
            Ok(())
        }
        Field::Node64 => {
            for (i, group) in octets.chunks_exact(2).enumerate() {
                write!(f, "{}{:x}", if i > 0 { ":" } else { "" }, u16::from_be_bytes([group[0], group[1]]))?;
            }
            Ok(())
        }
        Field::Atma => special::write_atma(f, octets),
        Field::Loc => special::write_loc(f, octets),
        Field::Apl => special::write_apl(f, octets),
        Field::Wks => special::write_wks(f, octets),
        Field::Gateway => match rdata[1] & 0x7f {
            0 => f.write_char('.'),
            1 | 2 => write_address(f, octets),
            _ => write_name(f, octets),
        },
        Field::Relay => write!(f, "{} {}", octets[0] >> 7, octets[0] & 0x7f),
        Field::Hip => special::write_hip(f, octets),
        Field::A6 => special::write_a6(f, octets),
        Field::SvcParams => svcb::write(f, octets),
    }
}

/// The number that up to four octets hold.
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
    // IPv4-compatible addresses (RFC 4291, section 2.5.5.1) are written as inet_ntop writes them.
    match u128::from(address) {
        bits @ 0x1_0000..=0xffff_ffff => write!(f, "::{}", Ipv4Addr::from(bits as u32)),
        _ => write!(f, "{address}"),
    }
}

/// Writes text in double quotes, with the escapes that it needs.
pub(super) fn write_quoted(f: &mut impl fmt::Write, octets: &[u8]) -> fmt::Result {
    f.write_char('"')?;
    write_escaped(f, octets)?;
    f.write_char('"')
}

/// Writes text with the escapes that it needs within double quotes.
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
