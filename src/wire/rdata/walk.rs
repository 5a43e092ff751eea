//! Finds the fields of record data in wire format, and whether they are valid.

use super::{
    special, svcb,
    table::{Field, Type},
};
use crate::wire::name::wire_len;
use std::ops::Range;

/// Checks all fields. None if a field is invalid, or if octets remain behind the last one.
pub(super) fn fields(entry: &Type, rdata: &[u8]) -> Option<()> {
    let mut at = 0;
    for &(_, field) in entry.fields {
        at += length(field, rdata, at)?;
    }
    (at == rdata.len()).then_some(())
}

/// The length of the field at `at`, in octets. None if the field is invalid.
pub(super) fn length(field: Field, rdata: &[u8], at: usize) -> Option<usize> {
    let rest = rdata.get(at..)?;
    let fixed = |len: usize| (rest.len() >= len).then_some(len);
    let at_least_one = || (!rest.is_empty()).then_some(rest.len());
    match field {
        Field::U8 | Field::Relay => fixed(1),
        Field::U16 | Field::RrType | Field::KeyFlags => fixed(2),
        Field::Mnemonic { octets, .. } => fixed(octets),
        Field::U32 | Field::Seconds | Field::Time | Field::Ipv4 => fixed(4),
        Field::Ipv6 => fixed(16),
        Field::Eui48 => fixed(6),
        Field::Eui64 | Field::Node64 => fixed(8),
        Field::CompressibleName | Field::Name => wire_len(rest),
        Field::Names => {
            let mut end = 0;
            while end < rest.len() {
                end += wire_len(&rest[end..])?;
            }
            Some(end)
        }
        Field::Text => text(rest),
        Field::TextOrNone if rest.is_empty() => Some(0),
        Field::TextOrNone => text(rest),
        Field::Texts => {
            let mut end = text(rest)?;
            while end < rest.len() {
                end += text(&rest[end..])?;
            }
            Some(end)
        }
        Field::Tag => text(rest).filter(|&len| len > 1 && rest[1..len].iter().all(u8::is_ascii_alphanumeric)),
        Field::Hash => text(rest).filter(|&len| len > 1),
        Field::Salt => text(rest),
        Field::LongText | Field::Base64OrNone | Field::Base64OrDash => Some(rest.len()),
        Field::Hex | Field::Base64 | Field::Nsap => at_least_one(),
        Field::DsDigest => at_least_one().filter(|&len| digest_fits(rdata.get(3).copied(), len)),
        Field::Bitmap => bitmap(rest),
        Field::NxtBitmap => at_least_one().filter(|&len| len <= 16 && rest[len - 1] != 0 && rest[0] & 0x80 == 0),
        Field::Atma => special::atma_len(rest),
        Field::Loc => special::loc_len(rest),
        Field::Apl => special::apl_len(rest),
        Field::Wks => special::wks_len(rest),
        Field::Gateway => match rdata.get(1)? & 0x7f {
            0 => Some(0),
            1 => fixed(4),
            2 => fixed(16),
            3 => wire_len(rest),
            _ => None,
        },
        Field::Hip => special::hip_len(rest),
        Field::A6 => special::a6_len(rest),
        Field::PrefixName if rdata.first() == Some(&0) => Some(0),
        Field::PrefixName => wire_len(rest),
        Field::SvcParams => svcb::check(rest).then_some(rest.len()),
    }
}

/// Whether a digest has the length that its digest type prescribes. Unknown digest types allow any
/// length.
pub(super) fn digest_fits(digest_type: Option<u8>, len: usize) -> bool {
    match digest_type {
        Some(1) => len == 20,
        Some(2 | 3) => len == 32,
        Some(4) => len == 48,
        _ => true,
    }
}

/// The length of the character-string at the start of `rest`, with its length octet. None if it is
/// truncated.
pub(super) fn text(rest: &[u8]) -> Option<usize> {
    let len = 1 + *rest.first()? as usize;
    (rest.len() >= len).then_some(len)
}

/// The length of the type bitmap that is all of `rest` (RFC 4034, section 4.1.2). None if it is
/// invalid.
fn bitmap(rest: &[u8]) -> Option<usize> {
    let (mut at, mut last) = (0, None);
    while at < rest.len() {
        let (window, len) = (rest[at], *rest.get(at + 1)? as usize);
        let end = at + 2 + len;
        if last >= Some(window) || !(1..=32).contains(&len) || *rest.get(end - 1)? == 0 {
            return None;
        }
        (at, last) = (end, Some(window));
    }
    Some(at)
}

/// The record types in a valid type bitmap.
pub(super) fn bitmap_types(rest: &[u8]) -> impl Iterator<Item = u16> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (&window, &len) = (rest.get(at)?, rest.get(at + 1)?);
        let map = rest.get(at + 2..at + 2 + len as usize)?;
        at += 2 + len as usize;
        Some(bits(map).map(move |bit| (window as u16) << 8 | bit))
    })
    .flatten()
}

/// The positions of the bits that are set. Bit 0 is the highest bit of the first octet.
pub(super) fn bits(map: &[u8]) -> impl Iterator<Item = u16> {
    map.iter().enumerate().flat_map(|(i, &octet)| {
        (0..8u16).filter(move |bit| octet & (0x80 >> bit) != 0).map(move |bit| (i as u16) * 8 + bit)
    })
}

/// The ranges of the names in record data, and whether a message may compress them. Ends at the
/// first invalid field.
pub(super) struct Names<'a> {
    fields: &'static [(&'static str, Field)],
    rdata: &'a [u8],
    at: usize,
}

impl<'a> Names<'a> {
    pub(super) fn new(fields: &'static [(&'static str, Field)], rdata: &'a [u8]) -> Names<'a> {
        Names { fields, rdata, at: 0 }
    }
}

impl Iterator for Names<'_> {
    type Item = (Range<usize>, bool);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&(_, field), rest) = self.fields.split_first()?;
            let start = self.at;
            if let Field::Names = field {
                self.at += wire_len(self.rdata.get(start..)?)?;
                return Some((start..self.at, false));
            }
            self.at += length(field, self.rdata, start)?;
            self.fields = rest;
            match field {
                Field::CompressibleName => return Some((start..self.at, true)),
                Field::Name => return Some((start..self.at, false)),
                Field::PrefixName if self.at > start => return Some((start..self.at, false)),
                Field::Gateway if self.rdata.get(1)? & 0x7f == 3 => return Some((start..self.at, false)),
                _ => {}
            }
        }
    }
}
