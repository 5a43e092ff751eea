//! Walks over record data in wire format, field by field.

use super::{
    special, svcb,
    table::{Kind, Type},
};
use crate::wire::name::wire_len;
use std::ops::Range;

/// Goes over all fields; none if the data do not fit them exactly.
pub(super) fn fields(entry: &Type, rdata: &[u8]) -> Option<()> {
    let mut at = 0;
    for &(_, kind) in entry.fields {
        at += length(kind, rdata, at)?;
    }
    (at == rdata.len()).then_some(())
}

/// The length of the field that begins at `at`; none if there is no such field.
pub(super) fn length(kind: Kind, rdata: &[u8], at: usize) -> Option<usize> {
    let rest = rdata.get(at..)?;
    let fixed = |len: usize| (rest.len() >= len).then_some(len);
    let at_least_one = || (!rest.is_empty()).then_some(rest.len());
    match kind {
        Kind::U8 | Kind::Relay => fixed(1),
        Kind::U16 | Kind::RrType | Kind::KeyFlags => fixed(2),
        Kind::Word { octets, .. } => fixed(octets),
        Kind::U32 | Kind::Seconds | Kind::Time | Kind::Ipv4 => fixed(4),
        Kind::Ipv6 => fixed(16),
        Kind::Eui48 => fixed(6),
        Kind::Eui64 | Kind::Node64 => fixed(8),
        Kind::Host | Kind::Domain => wire_len(rest),
        Kind::Domains => {
            let mut end = 0;
            while end < rest.len() {
                end += wire_len(&rest[end..])?;
            }
            Some(end)
        }
        Kind::Text => text(rest),
        Kind::TextOrNone if rest.is_empty() => Some(0),
        Kind::TextOrNone => text(rest),
        Kind::Texts => {
            let mut end = text(rest)?;
            while end < rest.len() {
                end += text(&rest[end..])?;
            }
            Some(end)
        }
        Kind::Tag => text(rest).filter(|&len| len > 1 && rest[1..len].iter().all(u8::is_ascii_alphanumeric)),
        Kind::Hash => text(rest).filter(|&len| len > 1),
        Kind::Salt => text(rest),
        Kind::LongText | Kind::Base64OrNone | Kind::Base64OrDash => Some(rest.len()),
        Kind::Hex | Kind::Base64 | Kind::Nsap => at_least_one(),
        Kind::DsDigest => at_least_one().filter(|&len| digest_fits(rdata.get(3).copied(), len)),
        Kind::Bitmap => bitmap(rest),
        Kind::NxtBitmap => at_least_one().filter(|&len| len <= 16 && rest[len - 1] != 0 && rest[0] & 0x80 == 0),
        Kind::Atma => special::atma_len(rest),
        Kind::Loc => special::loc_len(rest),
        Kind::Apl => special::apl_len(rest),
        Kind::Wks => special::wks_len(rest),
        Kind::Gateway => match rdata.get(1)? & 0x7f {
            0 => Some(0),
            1 => fixed(4),
            2 => fixed(16),
            3 => wire_len(rest),
            _ => None,
        },
        Kind::Hip => special::hip_len(rest),
        Kind::A6 => special::a6_len(rest),
        Kind::PrefixName if rdata.first() == Some(&0) => Some(0),
        Kind::PrefixName => wire_len(rest),
        Kind::SvcParams => svcb::check(rest).then_some(rest.len()),
    }
}

/// Whether a digest has the length that its type wants. Unknown types take any.
pub(super) fn digest_fits(digest_type: Option<u8>, len: usize) -> bool {
    match digest_type {
        Some(1) => len == 20,
        Some(2 | 3) => len == 32,
        Some(4) => len == 48,
        _ => true,
    }
}

/// The length of a character-string with its length octet.
pub(super) fn text(rest: &[u8]) -> Option<usize> {
    let len = 1 + *rest.first()? as usize;
    (rest.len() >= len).then_some(len)
}

/// The length of a type bitmap, which is all of `rest`.
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

/// The types of a type bitmap that was checked.
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

/// The positions of the bits that are set, from the left.
pub(super) fn bits(map: &[u8]) -> impl Iterator<Item = u16> {
    map.iter().enumerate().flat_map(|(i, &octet)| {
        (0..8u16).filter(move |bit| octet & (0x80 >> bit) != 0).map(move |bit| (i as u16) * 8 + bit)
    })
}

/// The names in record data, in their order; ends where the data do not fit.
pub(super) struct Names<'a> {
    fields: &'static [(&'static str, Kind)],
    rdata: &'a [u8],
    at: usize,
}

impl<'a> Names<'a> {
    pub(super) fn new(fields: &'static [(&'static str, Kind)], rdata: &'a [u8]) -> Names<'a> {
        Names { fields, rdata, at: 0 }
    }
}

impl Iterator for Names<'_> {
    type Item = (Range<usize>, bool);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&(_, kind), rest) = self.fields.split_first()?;
            let start = self.at;
            if let Kind::Domains = kind {
                self.at += wire_len(self.rdata.get(start..)?)?;
                return Some((start..self.at, false));
            }
            self.at += length(kind, self.rdata, start)?;
            self.fields = rest;
            match kind {
                Kind::Host => return Some((start..self.at, true)),
                Kind::Domain => return Some((start..self.at, false)),
                Kind::PrefixName if self.at > start => return Some((start..self.at, false)),
                Kind::Gateway if self.rdata.get(1)? & 0x7f == 3 => return Some((start..self.at, false)),
                _ => {}
            }
        }
    }
}
