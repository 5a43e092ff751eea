//! Reads the fields of record data from tokens.

use super::{
    MAX_RDATA, RdataError, Token, encoding, special, svcb,
    table::{KEY_FLAGS, Kind, Type, entry},
    type_from_octets, type_to_text, walk,
};
use crate::wire::{
    Name, NameError,
    name::{MAX_NAME, unescape},
};

/// Reads the data of one record.
pub(super) struct Reader<'a> {
    rtype: u16,
    entry: Option<&'static Type>,
    tokens: &'a [Token<'a>],
    at: usize,
    origin: &'a Name,
    /// The name of the field that is being read.
    field: &'static str,
    /// The data so far.
    pub(super) out: Vec<u8>,
}

/// What a field's reader gives: nothing, or an error.
pub(super) type Outcome<T = ()> = Result<T, RdataError>;

impl<'a> Reader<'a> {
    pub(super) fn new(rtype: u16, tokens: &'a [Token<'a>], origin: &'a Name) -> Reader<'a> {
        let capacity = tokens.iter().map(|token| token.text.len() + 2).sum::<usize>().min(MAX_NAME);
        Reader {
            rtype,
            entry: entry(rtype).filter(|entry| !entry.fields.is_empty()),
            tokens,
            at: 0,
            origin,
            field: "data",
            out: Vec::with_capacity(capacity),
        }
    }

    pub(super) fn read(mut self) -> Outcome<Box<[u8]>> {
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
            for &(name, kind) in entry.fields {
                self.field = name;
                self.field(kind)?;
            }
        }
        if self.at < self.tokens.len() {
            return Err(self.error_at(self.at, format!("`{}` is too much", shown(self.tokens[self.at].text)), None));
        }
        if self.out.len() > MAX_RDATA {
            return Err(self.error_at(0, format!("record data is longer than {MAX_RDATA} octets"), None));
        }
        Ok(self.out.into())
    }

    /// The form of RFC 3597, 5.
    fn generic(&mut self) -> Outcome {
        self.at = 1;
        self.field = "length";
        let length = self.number(MAX_RDATA as u32)? as usize;
        self.field = "data";
        let start = self.at;
        self.joined(Kind::Hex, true)?;
        if self.out.len() != length {
            let message = format!("the length is {length}, but there are {} octets", self.out.len());
            return Err(self.error_at(1, message, None));
        }
        if !super::check(self.rtype, &self.out) {
            let message = format!("these octets are not {} data", type_to_text(self.rtype));
            return Err(self.error_at(start.min(self.tokens.len() - 1), message, None));
        }
        Ok(())
    }

    fn field(&mut self, kind: Kind) -> Outcome {
        match kind {
            Kind::U8 => {
                let number = self.number(u8::MAX.into())?;
                self.out.push(number as u8);
            }
            Kind::U16 => {
                let number = self.number(u16::MAX.into())?;
                self.out.extend_from_slice(&(number as u16).to_be_bytes());
            }
            Kind::U32 => {
                let number = self.number(u32::MAX)?;
                self.out.extend_from_slice(&number.to_be_bytes());
            }
            Kind::Seconds => self.value("seconds, or a time such as `1h30m`", |text, out| {
                seconds(text).map(|seconds| out.extend_from_slice(&seconds.to_be_bytes()))
            })?,
            Kind::Time => self.value("a time such as 20260131235959", |text, out| {
                special::time(text).map(|time| out.extend_from_slice(&time.to_be_bytes()))
            })?,
            Kind::RrType => self.value("a record type", |text, out| {
                type_from_octets(text).map(|number| out.extend_from_slice(&number.to_be_bytes()))
            })?,
            Kind::Word { octets, words, .. } => {
                let wanted = if octets == 1 { "a number up to 255" } else { "a number up to 65535" };
                self.value(wanted, |text, out| {
                    let number = word(text, words)?;
                    out.extend_from_slice(number.to_be_bytes().get(2 - octets..)?);
                    (octets == 2 || number <= 0xff).then_some(())
                })?;
            }
            Kind::KeyFlags => self.value("a number up to 65535", |text, out| {
                key_flags(text).map(|flags| out.extend_from_slice(&flags.to_be_bytes()))
            })?,
            Kind::Ipv4 => self.value("an IPv4 address", |text, out| {
                let address: std::net::Ipv4Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
                out.extend_from_slice(&address.octets());
                Some(())
            })?,
            Kind::Ipv6 => self.value("an IPv6 address", |text, out| {
                let address: std::net::Ipv6Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
                out.extend_from_slice(&address.octets());
                Some(())
            })?,
            Kind::Host | Kind::Domain => self.name()?,
            Kind::PrefixName if self.out.first() == Some(&0) => {}
            Kind::PrefixName => self.name()?,
            Kind::Domains => {
                while self.peek().is_some() {
                    self.name()?;
                }
            }
            Kind::Text => self.text()?,
            Kind::TextOrNone => {
                if self.peek().is_some() {
                    self.text()?;
                }
            }
            Kind::Texts => {
                self.text()?;
                while self.peek().is_some() {
                    self.text()?;
                }
            }
            Kind::Tag => self.value("a word of letters and digits", |text, out| {
                let fits = (1..=255).contains(&text.len()) && text.iter().all(u8::is_ascii_alphanumeric);
                out.push(text.len() as u8);
                out.extend_from_slice(text);
                fits.then_some(())
            })?,
            Kind::LongText => self.value("text", unescape_all)?,
            Kind::Hex | Kind::Base64 => self.joined(kind, false)?,
            Kind::Base64OrNone => self.joined(kind, true)?,
            Kind::Base64OrDash => {
                if self.peek().is_some_and(|token| token.text == b"-") {
                    self.at += 1;
                } else {
                    self.joined(kind, false)?;
                }
            }
            Kind::DsDigest => {
                let (token, start) = (self.at, self.out.len());
                self.joined(Kind::Hex, false)?;
                if !walk::digest_fits(self.out.get(3).copied(), self.out.len() - start) {
                    let message = format!("the digest has {} octets, which its type does not", self.out.len() - start);
                    return Err(self.error_at(token, message, Some("SHA-1 has 20, SHA-256 32, SHA-384 48".into())));
                }
            }
            Kind::Salt => self.value("hexadecimal digits, or `-` for none", |text, out| {
                let digits = if text == b"-" { &[][..] } else { text };
                out.push(u8::try_from(digits.len() / 2).ok()?);
                encoding::read_hex(digits.iter().copied(), out)
            })?,
            Kind::Hash => self.value("a hash in base32hex", |text, out| {
                let start = out.len();
                out.push(0);
                encoding::read_base32hex(text, out)?;
                let len = u8::try_from(out.len() - start - 1).ok().filter(|&len| len > 0)?;
                out[start] = len;
                Some(())
            })?,
            Kind::Bitmap => self.bitmap()?,
            Kind::NxtBitmap => self.nxt_bitmap()?,
            Kind::Nsap => self.value("`0x` and hexadecimal digits", special::nsap)?,
            Kind::Atma => self.value("hexadecimal digits, or `+` and decimal ones", special::atma)?,
            Kind::Eui48 => self.value("six octets such as 00-00-5e-00-53-2a", |text, out| eui(text, 6, out))?,
            Kind::Eui64 => self.value("eight octets such as 00-00-5e-ef-10-00-00-2a", |text, out| eui(text, 8, out))?,
            Kind::Node64 => self.value("four groups such as 2001:db8:1140:1000", |text, out| {
                let mut groups = 0;
                for group in text.split(|&octet| octet == b':') {
                    let group = std::str::from_utf8(group).ok().filter(|group| (1..=4).contains(&group.len()))?;
                    out.extend_from_slice(&u16::from_str_radix(group, 16).ok()?.to_be_bytes());
                    groups += 1;
                }
                (groups == 4 && !text.contains(&b'+')).then_some(())
            })?,
            Kind::Loc => special::read_loc(self)?,
            Kind::Apl => {
                while self.peek().is_some() {
                    self.value("a prefix such as 1:192.0.2.0/24 or !2:2001:db8::/32", special::apl_item)?;
                }
            }
            Kind::Wks => special::read_wks(self)?,
            Kind::Gateway => match self.out.get(1).map(|kind| kind & 0x7f) {
                Some(0) => self.value("`.`, as there is no gateway", |text, _| (text == b".").then_some(()))?,
                Some(1) => self.field(Kind::Ipv4)?,
                Some(2) => self.field(Kind::Ipv6)?,
                Some(3) => self.name()?,
                _ => return Err(self.error_at(1, "this type is not known".into(), Some("0 to 3".into()))),
            },
            Kind::Relay => {
                let discovery = self.number(1)? as u8;
                let relay_type = self.number(3)? as u8;
                // The gateway's type is taken from the second octet, which this is.
                self.out.push(discovery << 7 | relay_type);
            }
            Kind::Hip => special::read_hip(self)?,
            Kind::A6 => special::read_a6(self)?,
            Kind::SvcParams => svcb::read(self)?,
        }
        Ok(())
    }

    /// The next token, without taking it.
    pub(super) fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at)
    }

    /// Takes the next token, which has to be `wanted`.
    pub(super) fn next(&mut self, wanted: &str) -> Outcome<&'a Token<'a>> {
        match self.tokens.get(self.at) {
            Some(token) => {
                self.at += 1;
                Ok(token)
            }
            None => Err(self.error_at(self.at, format!("{} is missing: {wanted}", self.field), None)),
        }
    }

    /// Takes the next token and appends what `read` makes of it.
    pub(super) fn value(&mut self, wanted: &str, read: impl FnOnce(&[u8], &mut Vec<u8>) -> Option<()>) -> Outcome {
        let token = self.next(wanted)?;
        match read(token.text, &mut self.out) {
            Some(()) => Ok(()),
            None => Err(self.unlike(wanted)),
        }
    }

    /// Takes a number.
    pub(super) fn number(&mut self, max: u32) -> Outcome<u32> {
        let found = self.peek().and_then(|token| decimal(token.text)).filter(|&number| number <= max);
        match found {
            Some(number) => {
                self.at += 1;
                Ok(number)
            }
            None => {
                let wanted = format!("a number from 0 to {max}");
                self.next(&wanted)?;
                Err(self.unlike(&wanted))
            }
        }
    }

    /// Takes a domain name.
    pub(super) fn name(&mut self) -> Outcome {
        let token = self.next("a domain name")?;
        match Name::parse(token.text, Some(self.origin)) {
            Ok(name) => {
                self.out.extend_from_slice(name.as_wire());
                Ok(())
            }
            Err(error) => Err(self.error_at(self.at - 1, name_problem(self.field, token.text, error), None)),
        }
    }

    /// Takes a character-string.
    fn text(&mut self) -> Outcome {
        let token = self.next("a string")?;
        let start = self.out.len();
        self.out.push(0);
        if unescape_all(token.text, &mut self.out).is_none() {
            return Err(self.unlike("a string with `\\` before three digits up to 255, or before another character"));
        }
        match u8::try_from(self.out.len() - start - 1) {
            Ok(len) => {
                self.out[start] = len;
                Ok(())
            }
            Err(_) => {
                let message = format!("a string has {} octets, 255 at most are possible", self.out.len() - start - 1);
                Err(self.error_at(self.at - 1, message, Some("split it into several quoted strings".into())))
            }
        }
    }

    /// Takes all tokens that are left as digits of one text.
    fn joined(&mut self, kind: Kind, may_be_empty: bool) -> Outcome {
        let (rest, start) = (&self.tokens[self.at..], self.out.len());
        let hex = matches!(kind, Kind::Hex);
        let wanted = if hex { "pairs of hexadecimal digits" } else { "base64" };
        if rest.is_empty() && !may_be_empty {
            self.next(wanted)?;
        }
        let digits = rest.iter().flat_map(|token| token.text.iter().copied());
        let read =
            if hex { encoding::read_hex(digits, &mut self.out) } else { encoding::read_base64(digits, &mut self.out) };
        if read.is_none() || (self.out.len() == start && !may_be_empty) {
            // The first token with a wrong digit is to blame, otherwise the last one.
            let wrong = |token: &Token| {
                !token.text.iter().all(|&octet| match hex {
                    true => octet.is_ascii_hexdigit(),
                    false => octet.is_ascii_alphanumeric() || b"+/=".contains(&octet),
                })
            };
            let blamed = rest.iter().position(wrong).unwrap_or(rest.len().saturating_sub(1));
            self.at += blamed + 1;
            return Err(self.unlike(wanted));
        }
        self.at = self.tokens.len();
        Ok(())
    }

    fn bitmap(&mut self) -> Outcome {
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

    fn nxt_bitmap(&mut self) -> Outcome {
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

    /// An error about the token that was just taken.
    pub(super) fn unlike(&self, wanted: &str) -> RdataError {
        let at = self.at.saturating_sub(1);
        let text = self.tokens.get(at).map_or(&[][..], |token| token.text);
        self.error_at(at, format!("{}: `{}` is not {wanted}", self.field, shown(text)), None)
    }

    /// An error about the token that was just taken, in other words.
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

/// What is wrong with a name, in a sentence.
pub fn name_problem(what: &str, text: &[u8], error: NameError) -> String {
    format!("{what}: `{}` is not a domain name: {error}", shown(text))
}

/// A token as messages show it.
pub fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

/// A decimal number of digits only.
pub(super) fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |number, octet| {
        let digit = octet.is_ascii_digit().then(|| (octet - b'0') as u32)?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Seconds: a number, or numbers with the units w, d, h, m and s, as BIND reads them.
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

/// Appends a text with its escapes resolved; none if there is a wrong one.
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

/// A number, or one of its words.
fn word(text: &[u8], words: &[(u16, &str)]) -> Option<u16> {
    match decimal(text) {
        Some(number) => number.try_into().ok(),
        None => words.iter().find(|(_, word)| word.as_bytes().eq_ignore_ascii_case(text)).map(|&(number, _)| number),
    }
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

/// The flags of a key: a number, in hexadecimal too, or words joined by `|`.
fn key_flags(text: &[u8]) -> Option<u16> {
    if let Some(digits) = text.strip_prefix(b"0x") {
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        return u16::from_str_radix(digits, 16).ok();
    }
    text.split(|&octet| octet == b'|').try_fold(0, |all, flag| Some(all | word(flag, KEY_FLAGS)?))
}
