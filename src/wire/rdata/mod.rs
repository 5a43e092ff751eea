//! Record data: from presentation format to wire format and back, for every type with a mnemonic,
//! and in the generic form of RFC 3597 for all others.
//!
//! The `table` lists the fields of each type. `read`, `walk` and `print` have one arm for each type
//! of field: to read it from text, to find its end on the wire, and to write it as text. The longer
//! ones are in `special`, `svcb` and `encoding`.

mod encoding;
mod print;
mod read;
mod special;
mod svcb;
mod table;
mod walk;

pub use read::{excerpt, invalid_name, seconds};
pub use table::rtype;

use super::Name;
use read::Reader;
use std::{borrow::Cow, fmt, ops::Range};
use table::{Field, TYPES, entry};

/// The longest record data, in octets (RFC 1035, section 3.2.1).
pub const MAX_RDATA: usize = u16::MAX as usize;

/// A word or a quoted string of a master file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The octets without the quotes, with their escapes.
    pub text: &'a [u8],
    /// Whether the token is in double quotes.
    pub quoted: bool,
    /// Whether nothing separates the token from the previous one, as `"b"` in `a="b"`.
    pub joined: bool,
}

/// The reason why tokens are not the data of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdataError {
    /// The index of the token that is wrong; the number of tokens if one is missing.
    pub token: usize,
    /// The error, in one sentence without a full stop.
    pub message: String,
    /// The help: what to write instead.
    pub help: Option<String>,
}

impl fmt::Display for RdataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for RdataError {}

/// The number of a record type, from its mnemonic in any case, or from `TYPE` and a number (RFC
/// 3597, section 5).
pub fn type_from_text(text: &str) -> Option<u16> {
    type_from_octets(text.as_bytes())
}

/// The number of a record type, from a token. See [`type_from_text`].
pub fn type_from_octets(text: &[u8]) -> Option<u16> {
    let known = TYPES.iter().find(|entry| entry.mnemonic.as_bytes().eq_ignore_ascii_case(text));
    match known {
        Some(entry) => Some(entry.number),
        None => number_after(text, b"TYPE"),
    }
}

/// The number behind a prefix such as `TYPE` or `CLASS` (RFC 3597, section 5). None if the text has
/// another form.
pub fn number_after(text: &[u8], prefix: &[u8]) -> Option<u16> {
    let (front, digits) = text.split_at_checked(prefix.len())?;
    if !front.eq_ignore_ascii_case(prefix) || digits.len() > 5 {
        return None;
    }
    read::decimal(digits).and_then(|number| number.try_into().ok())
}

/// The mnemonic of a record type, or `TYPE` and its number.
pub fn type_to_text(rtype: u16) -> Cow<'static, str> {
    match entry(rtype) {
        Some(entry) => Cow::Borrowed(entry.mnemonic),
        None => Cow::Owned(format!("TYPE{rtype}")),
    }
}

/// The mnemonic that is most similar to a text, for "did you mean". None if none is similar.
pub fn similar_type(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_uppercase();
    TYPES
        .iter()
        .filter(|entry| !entry.fields.is_empty())
        .map(|entry| (strsim::osa_distance(&text, entry.mnemonic), entry.mnemonic))
        .filter(|&(distance, mnemonic)| distance <= 2 && distance < mnemonic.len())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, mnemonic)| mnemonic)
}

/// Reads the data of a record from tokens, also in the generic form of RFC 3597, section 5 (`\#`,
/// length, hexadecimal digits). Relative names are relative to `origin`. Names keep their case and
/// are not compressed.
///
/// # Errors
///
/// [`RdataError`] with the token that is wrong.
pub fn parse(rtype: u16, tokens: &[Token], origin: &Name) -> Result<Box<[u8]>, RdataError> {
    Reader::new(rtype, tokens, origin).read()
}

/// Reads the data of a record from a text. Parentheses are ignored; a comment is an error.
///
/// # Errors
///
/// As [`parse`] and [`tokenise`].
pub fn parse_text(rtype: u16, text: &str, origin: &Name) -> Result<Box<[u8]>, RdataError> {
    parse(rtype, &tokenise(text.as_bytes())?, origin)
}

/// The indexes of the tokens of a type's data that are domain names. Names behind a field of
/// several tokens are not found.
pub fn name_tokens(rtype: u16) -> impl Iterator<Item = usize> {
    let fields = entry(rtype).map_or(&[][..], |entry| entry.fields);
    let is_one_token = |field: &Field| {
        use Field::*;
        matches!(
            field,
            U8 | U16
                | U32
                | Seconds
                | Time
                | RrType
                | Mnemonic { .. }
                | KeyFlags
                | Ipv4
                | Ipv6
                | CompressibleName
                | Name
                | Text
        )
    };
    let front = fields.iter().enumerate().take_while(move |(_, (_, field))| is_one_token(field));
    front.filter(|(_, (_, field))| matches!(field, Field::CompressibleName | Field::Name)).map(|(at, _)| at)
}

/// Splits a line into tokens.
///
/// # Errors
///
/// [`RdataError`] for a comment, and for a quoted string that does not end.
pub fn tokenise(text: &[u8]) -> Result<Vec<Token<'_>>, RdataError> {
    let mut tokens = Vec::new();
    let (mut at, mut last_end) = (0, usize::MAX);
    while let Some(&octet) = text.get(at) {
        let fail = |message: &str, help: &str| {
            Err(RdataError { token: tokens.len(), message: message.into(), help: Some(help.into()) })
        };
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')' => at += 1,
            b';' => return fail("a `;` begins a comment", "put the text in double quotes, or write `\\;`"),
            _ => match scan(text, at) {
                Some((token, end)) => {
                    tokens.push(Token { joined: last_end == at, ..token });
                    (at, last_end) = (end, end);
                }
                None => return fail("a quoted string does not end", "close it with a double quote on the same line"),
            },
        }
    }
    Ok(tokens)
}

/// The token at `at`, which must not be white space, a parenthesis or `;`, and the offset behind it
/// and its quotes. None if it is a quoted string that does not end on its line.
pub fn scan(text: &[u8], at: usize) -> Option<(Token<'_>, usize)> {
    let quoted = text.get(at) == Some(&b'"');
    let start = at + usize::from(quoted);
    let mut end = start;
    while let Some(&octet) = text.get(end) {
        match octet {
            b'"' if quoted => return Some((Token { text: &text[start..end], quoted, joined: false }, end + 1)),
            b'\r' | b'\n' => break,
            b' ' | b'\t' | b'"' | b'(' | b')' | b';' if !quoted => break,
            // An escaped octet is part of the token, but an escaped line end is a line end.
            b'\\' if !matches!(text.get(end + 1), None | Some(b'\r' | b'\n')) => end += 2,
            _ => end += 1,
        }
    }
    (!quoted).then(|| (Token { text: &text[start..end], quoted, joined: false }, end))
}

/// Writes record data as dig writes it. Data of an unknown type, and data that is invalid for its
/// type, are written in the generic form of RFC 3597.
pub fn write(f: &mut impl fmt::Write, rtype: u16, rdata: &[u8]) -> fmt::Result {
    match entry(rtype) {
        Some(entry) if !entry.fields.is_empty() && check(rtype, rdata) => print::write(f, entry, rdata),
        _ => {
            write!(f, "\\# {}", rdata.len())?;
            if !rdata.is_empty() {
                f.write_char(' ')?;
            }
            encoding::write_hex_chunks(f, rdata)
        }
    }
}

/// Whether octets are valid uncompressed data of a record type. Of an unknown type, up to
/// [`MAX_RDATA`] octets are valid.
pub fn check(rtype: u16, rdata: &[u8]) -> bool {
    if rdata.len() > MAX_RDATA {
        return false;
    }
    match entry(rtype) {
        Some(entry) if !entry.fields.is_empty() => walk::fields(entry, rdata).is_some(),
        _ => true,
    }
}

/// The ranges of the domain names in record data, and whether a message may compress each of them:
/// only names in types of RFC 1035 may be compressed (RFC 3597, section 4).
pub fn names(rtype: u16, rdata: &[u8]) -> impl Iterator<Item = (Range<usize>, bool)> {
    walk::Names::new(entry(rtype).map_or(&[], |entry| entry.fields), rdata)
}

#[cfg(test)]
mod tests;
