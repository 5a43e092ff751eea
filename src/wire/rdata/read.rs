//! Reads record data from tokens, field by field.

use super::{
    MAX_RDATA, RdataError, Token, encoding, special, svcb,
    table::{Field, KEY_FLAGS, Type, entry},
    type_from_octets, type_to_text, walk,
};
use crate::wire::{
    Name, NameError,
    name::{MAX_NAME, unescape},
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Reads the data of one record.
pub(super) struct Reader<'a> {
    rtype: u16,
    entry: Option<&'static Type>,
    tokens: &'a [Token<'a>],
    /// The index of the next token.
    at: usize,
    origin: &'a Name,
    /// The name of the field that is being read, for error messages.
    field_name: &'static str,
    /// The data so far.
    pub(super) out: Vec<u8>,
}

/// The result of reading a field.
pub(super) type RdataResult<T = ()> = Result<T, RdataError>;

impl<'a> Reader<'a> {
    pub(super) fn new(rtype: u16, tokens: &'a [Token<'a>], origin: &'a Name) -> Reader<'a> {
        let capacity = tokens.iter().map(|token| token.text.len() + 2).sum::<usize>().min(MAX_NAME);
        Reader {
            rtype,
            entry: entry(rtype).filter(|entry| !entry.fields.is_empty()),
            tokens,
            at: 0,
            origin,
            field_name: "data",
            out: Vec::with_capacity(capacity),
        }
    }

    pub(super) fn read(mut self) -> RdataResult<Box<[u8]>> {
        if self.tokens.first().is_some_and(|token| !token.quoted && token.text == b"\\#") {
            self.generic()?;
        } else {
            let Some(entry) = self.entry else {
                return Err(RdataError {
                    token: 0,
                    message: format!("the format of {} data is not known", type_to_text(self.rtype)),
                    help: Some("write `\\#`, the length in octets, and the octets in hexadecimal (RFC 3597)".into()),
                });
            };
            for &(name, field) in entry.fields {
                self.field_name = name;
                self.read_field(field)?;
            }
        }
        if self.at < self.tokens.len() {
            return Err(self.error_at(
                self.at,
                format!("unexpected `{}` behind the data", excerpt(self.tokens[self.at].text)),
                None,
            ));
        }
        if self.out.len() > MAX_RDATA {
            return Err(self.error_at(0, format!("record data is longer than {MAX_RDATA} octets"), None));
        }
        Ok(self.out.into())
    }

    /// Reads the generic form of RFC 3597, section 5.
    fn generic(&mut self) -> RdataResult {
        self.at = 1;
        self.field_name = "length";
        let length = self.number(MAX_RDATA as u32)? as usize;
        self.field_name = "data";
        let start = self.at;
        self.rest_as_hex(true)?;
        if self.out.len() != length {
            let message = format!("the length is {length}, but there are {} octets", self.out.len());
            return Err(self.error_at(1, message, None));
        }
        if !super::check(self.rtype, &self.out) {
            let message = format!("the octets are not valid {} data", type_to_text(self.rtype));
            return Err(self.error_at(start.min(self.tokens.len() - 1), message, None));
        }
        Ok(())
    }

    /// Reads one field and appends it to `out`.
    fn read_field(&mut self, field: Field) -> RdataResult {
        match field {
            // Numbers.
            Field::U8 => self.number(u8::MAX.into()).map(|number| self.out.push(number as u8)),
            Field::U16 => self.number(u16::MAX.into()).map(|number| self.append(&(number as u16).to_be_bytes())),
            Field::U32 => self.number(u32::MAX).map(|number| self.append(&number.to_be_bytes())),
            Field::Seconds => self.value("seconds, or a duration such as `1h30m`", |text, out| {
                seconds(text).map(|seconds| out.extend_from_slice(&seconds.to_be_bytes()))
            }),
            Field::Time => self.value("a time such as 20260131235959", |text, out| {
                special::time(text).map(|time| out.extend_from_slice(&time.to_be_bytes()))
            }),
            Field::RrType => self.value("a record type", |text, out| {
                type_from_octets(text).map(|number| out.extend_from_slice(&number.to_be_bytes()))
            }),
            Field::Mnemonic { octets: 1, mnemonics, .. } => self.value("a number up to 255", |text, out| {
                u8::try_from(number_or_mnemonic(text, mnemonics)?).ok().map(|number| out.push(number))
            }),
            Field::Mnemonic { mnemonics, .. } => self.value("a number up to 65535", |text, out| {
                number_or_mnemonic(text, mnemonics).map(|number| out.extend_from_slice(&number.to_be_bytes()))
            }),
            Field::KeyFlags => self.value("a number up to 65535", |text, out| {
                key_flags(text).map(|flags| out.extend_from_slice(&flags.to_be_bytes()))
            }),
            // Addresses and names.
            Field::Ipv4 => self.value("an IPv4 address", ipv4),
            Field::Ipv6 => self.value("an IPv6 address", ipv6),
            Field::PrefixName if self.out.first() == Some(&0) => Ok(()),
            Field::CompressibleName | Field::Name | Field::PrefixName => self.name(),
            Field::Names => self.each_remaining(Self::name),
            // Text.
            Field::TextOrNone if self.peek().is_none() => Ok(()),
            Field::Text | Field::TextOrNone => self.text(),
            Field::Texts => self.text().and_then(|()| self.each_remaining(Self::text)),
            Field::Tag => self.value("a word of letters and digits", tag),
            Field::LongText => self.value("text", unescape_all),
            // Encoded octets.
            Field::Hex => self.rest_as_hex(false),
            Field::DsDigest => self.ds_digest(),
            Field::Base64 => self.rest_as_base64(false),
            Field::Base64OrNone => self.rest_as_base64(true),
            Field::Base64OrDash if self.peek().is_some_and(|token| token.text == b"-") => self.next("`-`").map(drop),
            Field::Base64OrDash => self.rest_as_base64(false),
            Field::Salt => self.value("hexadecimal digits, or `-` for none", salt),
            Field::Hash => self.value("a hash in base32hex", hash),
            Field::Nsap => self.value("`0x` and hexadecimal digits", special::nsap),
            Field::Atma => self.value("hexadecimal digits, or `+` and decimal digits", special::atma),
            Field::Eui48 => self.value("six octets such as 00-00-5e-00-53-2a", |text, out| eui(text, 6, out)),
            Field::Eui64 => self.value("eight octets such as 00-00-5e-ef-10-00-00-2a", |text, out| eui(text, 8, out)),
            Field::Node64 => self.value("four groups such as 2001:db8:1140:1000", node64),
            // Structures.
            Field::Bitmap => self.bitmap(),
            Field::NxtBitmap => self.nxt_bitmap(),
            Field::Loc => special::read_loc(self),
            Field::Apl => self.each_remaining(|reader| {
                reader.value("a prefix such as 1:192.0.2.0/24 or !2:2001:db8::/32", special::apl_item)
            }),
            Field::Wks => special::read_wks(self),
            Field::Gateway => self.gateway(),
            Field::Relay => {
                let (discovery, relay_type) = (self.number(1)? as u8, self.number(3)? as u8);
                self.out.push(discovery << 7 | relay_type);
                Ok(())
            }
            Field::Hip => special::read_hip(self),
            Field::A6 => special::read_a6(self),
            Field::SvcParams => svcb::read(self),
        }
    }

    fn append(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    /// Calls `read` until no token remains.
    fn each_remaining(&mut self, mut read: impl FnMut(&mut Self) -> RdataResult) -> RdataResult {
        while self.peek().is_some() {
            read(self)?;
        }
        Ok(())
    }

    /// Reads a gateway. The second octet of the data, whose highest bit is the discovery bit of
    /// AMTRELAY, is its type.
    fn gateway(&mut self) -> RdataResult {
        match self.out.get(1).map(|octet| octet & 0x7f) {
            Some(0) => self.value("`.`, which stands for no gateway", |text, _| (text == b".").then_some(())),
            Some(1) => self.read_field(Field::Ipv4),
            Some(2) => self.read_field(Field::Ipv6),
            Some(3) => self.name(),
            _ => Err(self.error_at(1, "the gateway type is not known".into(), Some("known are 0 to 3".into()))),
        }
    }

    /// Reads the digest of a DS record. The fourth octet of the data is the digest type.
    fn ds_digest(&mut self) -> RdataResult {
        let (token, start) = (self.at, self.out.len());
        self.rest_as_hex(false)?;
        let len = self.out.len() - start;
        if walk::digest_fits(self.out.get(3).copied(), len) {
            return Ok(());
        }
        let message = format!("the digest has {len} octets, which its digest type does not allow");
        Err(self.error_at(token, message, Some("SHA-1 has 20, SHA-256 32, SHA-384 48".into())))
    }

    /// The next token. It stays the next one.
    pub(super) fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at)
    }

    /// Takes the next token. `expected` describes it, for the error if there is none.
    pub(super) fn next(&mut self, expected: &str) -> RdataResult<&'a Token<'a>> {
        match self.tokens.get(self.at) {
            Some(token) => {
                self.at += 1;
                Ok(token)
            }
            None => Err(self.error_at(self.at, format!("{} is missing; expected {expected}", self.field_name), None)),
        }
    }

    /// Takes the next token and lets `read` append its value to `out`. `expected` describes the
    /// token, for errors.
    pub(super) fn value(
        &mut self,
        expected: &str,
        read: impl FnOnce(&[u8], &mut Vec<u8>) -> Option<()>,
    ) -> RdataResult {
        let token = self.next(expected)?;
        match read(token.text, &mut self.out) {
            Some(()) => Ok(()),
            None => Err(self.unexpected(expected)),
        }
    }

    /// Takes a decimal number up to `max`.
    pub(super) fn number(&mut self, max: u32) -> RdataResult<u32> {
        let found = self.peek().and_then(|token| decimal(token.text)).filter(|&number| number <= max);
        match found {
            Some(number) => {
                self.at += 1;
                Ok(number)
            }
            None => {
                let expected = format!("a number from 0 to {max}");
                self.next(&expected)?;
                Err(self.unexpected(&expected))
            }
        }
    }

    /// Takes a domain name and appends it to `out`.
    pub(super) fn name(&mut self) -> RdataResult {
        let token = self.next("a domain name")?;
        match Name::parse(token.text, Some(self.origin)) {
            Ok(name) => {
                self.out.extend_from_slice(name.as_wire());
                Ok(())
            }
            Err(error) => Err(self.error_at(self.at - 1, invalid_name(self.field_name, token.text, error), None)),
        }
    }

    /// Takes a character-string and appends it to `out`, with its length octet.
    fn text(&mut self) -> RdataResult {
        let token = self.next("a string")?;
        let start = self.out.len();
        self.out.push(0);
        if unescape_all(token.text, &mut self.out).is_none() {
            return Err(
                self.unexpected("a string with `\\` before three digits up to 255, or before another character")
            );
        }
        match u8::try_from(self.out.len() - start - 1) {
            Ok(len) => {
                self.out[start] = len;
                Ok(())
            }
            Err(_) => {
                let message = format!("a string has {} octets, more than 255", self.out.len() - start - 1);
                Err(self.error_at(self.at - 1, message, Some("split it into several quoted strings".into())))
            }
        }
    }

    /// Reads all remaining tokens as hexadecimal digits of one value.
    fn rest_as_hex(&mut self, may_be_empty: bool) -> RdataResult {
        self.rest_as_digits("pairs of hexadecimal digits", may_be_empty, u8::is_ascii_hexdigit, |digits, out| {
            encoding::read_hex(digits, out)
        })
    }

    /// Reads all remaining tokens as base64 digits of one value.
    fn rest_as_base64(&mut self, may_be_empty: bool) -> RdataResult {
        let is_digit = |octet: &u8| octet.is_ascii_alphanumeric() || b"+/=".contains(octet);
        self.rest_as_digits("base64", may_be_empty, is_digit, |digits, out| encoding::read_base64(digits, out))
    }

    fn rest_as_digits(
        &mut self,
        expected: &str,
        may_be_empty: bool,
        is_digit: impl Fn(&u8) -> bool,
        decode: impl FnOnce(&mut dyn Iterator<Item = u8>, &mut Vec<u8>) -> Option<()>,
    ) -> RdataResult {
        let (rest, start) = (&self.tokens[self.at..], self.out.len());
        if rest.is_empty() && !may_be_empty {
            self.next(expected)?;
        }
        let mut digits = rest.iter().flat_map(|token| token.text.iter().copied());
        let decoded = decode(&mut digits, &mut self.out);
        if decoded.is_none() || (self.out.len() == start && !may_be_empty) {
            // The error is about the first token with a wrong digit, otherwise about the last
            // token.
            let wrong = rest.iter().position(|token| !token.text.iter().all(&is_digit));
            self.at += wrong.unwrap_or(rest.len().saturating_sub(1)) + 1;
            return Err(self.unexpected(expected));
        }
        self.at = self.tokens.len();
        Ok(())
    }

    fn bitmap(&mut self) -> RdataResult {
        let mut types = Vec::new();
        while self.peek().is_some() {
            self.value("a record type", |text, _| type_from_octets(text).map(|number| types.push(number)))?;
        }
        types.sort_unstable();
        for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
            let mut map = [0u8; 32];
            let mut len = 0;
            for number in window {
                let low = (number & 0xff) as usize;
                map[low / 8] |= 0x80 >> (low % 8);
                len = low / 8 + 1;
            }
            self.out.extend_from_slice(&[(window[0] >> 8) as u8, len as u8]);
            self.out.extend_from_slice(&map[..len]);
        }
        Ok(())
    }

    fn nxt_bitmap(&mut self) -> RdataResult {
        let mut map = [0u8; 16];
        loop {
            self.value("a record type below 128", |text, _| {
                let number = type_from_octets(text).filter(|number| (1..128).contains(number))? as usize;
                map[number / 8] |= 0x80 >> (number % 8);
                Some(())
            })?;
            if self.peek().is_none() {
                break;
            }
        }
        let len = map.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
        self.out.extend_from_slice(&map[..len]);
        Ok(())
    }

    /// An error about the last token taken: it is not what was expected.
    pub(super) fn unexpected(&self, expected: &str) -> RdataError {
        let at = self.at.saturating_sub(1);
        let text = self.tokens.get(at).map_or(&[][..], |token| token.text);
        self.error_at(at, format!("{}: `{}` is not {expected}", self.field_name, excerpt(text)), None)
    }

    /// An error about the last token taken, with another message.
    pub(super) fn error(&self, message: String) -> RdataError {
        self.error_at(self.at.saturating_sub(1), message, None)
    }

    fn error_at(&self, token: usize, message: String, help: Option<String>) -> RdataError {
        let form = || {
            let entry = self.entry?;
            let fields: Vec<_> = entry.fields.iter().map(|&(name, _)| name).collect();
            Some(format!("{} data is: {}", entry.mnemonic, fields.join(", ")))
        };
        RdataError { token, message, help: help.or_else(form) }
    }
}

/// The error message for a token that is not a domain name. `field` names the field that it is in.
pub fn invalid_name(field: &str, text: &[u8], error: NameError) -> String {
    format!("{field}: `{}` is not a domain name: {error}", excerpt(text))
}

/// A token as error messages quote it: at most 60 characters, without control characters.
pub fn excerpt(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

/// A decimal number. None if the text has anything but digits, or if the number is too large.
pub(super) fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |number, octet| {
        let digit = octet.is_ascii_digit().then(|| (octet - b'0') as u32)?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A duration in seconds: a number, or numbers with the units w, d, h, m and s, as BIND reads them.
/// None if the text has another form, or if the number is too large.
pub fn seconds(text: &[u8]) -> Option<u32> {
    if let Some(seconds) = decimal(text) {
        return Some(seconds);
    }
    let mut total = 0u32;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|octet| octet.is_ascii_digit()).count();
        let unit = match rest.get(digits)?.to_ascii_lowercase() {
            b'w' => 7 * 86400,
            b'd' => 86400,
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(decimal(&rest[..digits])?.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(total)
}

/// Appends a text to `out` and resolves its escapes. None if an escape is malformed.
pub(super) fn unescape_all(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&octet| octet == b'\\') {
        out.extend_from_slice(&rest[..at]);
        let (octet, tail) = unescape(&rest[at + 1..])?;
        out.push(octet);
        rest = tail;
    }
    out.extend_from_slice(rest);
    Some(())
}

/// A number: in digits, or by one of its mnemonics.
fn number_or_mnemonic(text: &[u8], mnemonics: &[(u16, &str)]) -> Option<u16> {
    match decimal(text) {
        Some(number) => number.try_into().ok(),
        None => mnemonics
            .iter()
            .find(|(_, mnemonic)| mnemonic.as_bytes().eq_ignore_ascii_case(text))
            .map(|&(number, _)| number),
    }
}

fn ipv4(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let address: Ipv4Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
    out.extend_from_slice(&address.octets());
    Some(())
}

fn ipv6(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let address: Ipv6Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
    out.extend_from_slice(&address.octets());
    Some(())
}

fn tag(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(u8::try_from(text.len()).ok().filter(|&len| len > 0)?);
    out.extend_from_slice(text);
    text.iter().all(u8::is_ascii_alphanumeric).then_some(())
}

fn salt(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digits = if text == b"-" { &[][..] } else { text };
    out.push(u8::try_from(digits.len() / 2).ok()?);
    encoding::read_hex(digits.iter().copied(), out)
}

fn hash(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.push(0);
    encoding::read_base32hex(text, out)?;
    out[start] = u8::try_from(out.len() - start - 1).ok().filter(|&len| len > 0)?;
    Some(())
}

fn node64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut groups = 0;
    for group in text.split(|&octet| octet == b':') {
        let group = std::str::from_utf8(group).ok().filter(|group| (1..=4).contains(&group.len()))?;
        out.extend_from_slice(&u16::from_str_radix(group, 16).ok()?.to_be_bytes());
        groups += 1;
    }
    (groups == 4 && !text.contains(&b'+')).then_some(())
}

fn eui(text: &[u8], octets: usize, out: &mut Vec<u8>) -> Option<()> {
    let mut count = 0;
    for octet in text.split(|&octet| octet == b'-') {
        let digits = octet.iter().copied();
        match octet.len() {
            1 => encoding::read_hex([b'0'].into_iter().chain(digits), out)?,
            2 => encoding::read_hex(digits, out)?,
            _ => return None,
        }
        count += 1;
    }
    (count == octets).then_some(())
}

/// The flags of a key: a decimal number, a hexadecimal number with `0x`, or mnemonics joined by
/// `|`.
fn key_flags(text: &[u8]) -> Option<u16> {
    if let Some(digits) = text.strip_prefix(b"0x") {
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        return u16::from_str_radix(digits, 16).ok();
    }
    text.split(|&octet| octet == b'|').try_fold(0, |all, flag| Some(all | number_or_mnemonic(flag, KEY_FLAGS)?))
}
