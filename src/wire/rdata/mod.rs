//! Record data: from presentation format to the wire and back, for every type that has a name, and for those that
//! have none (RFC 3597).
//!
//! A table says which fields the data of a type has; the modules below read, check and print one field each.

mod encoding;
mod print;
mod read;
mod special;
mod svcb;
mod table;
mod walk;

pub use read::{name_problem, seconds, shown};
pub use table::rtype;

use super::Name;
use read::Reader;
use std::{borrow::Cow, fmt, ops::Range};
use table::{Kind, TYPES, entry};

/// The longest record data, in octets.
pub const MAX_RDATA: usize = u16::MAX as usize;

/// A word or a quoted string of a master file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its octets without the quotes; escapes are still in it.
    pub text: &'a [u8],
    /// Whether it was in double quotes.
    pub quoted: bool,
    /// Whether nothing separates it from the token in front: `"b"` in `a="b"`.
    pub joined: bool,
}

/// Why a text is not the data of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdataError {
    /// The token that is wrong; the number of tokens if one is missing.
    pub token: usize,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What would be accepted.
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

/// The number of a type from its mnemonic in any case, or from `TYPE` and a number (RFC 3597, 5).
pub fn type_from_text(text: &str) -> Option<u16> {
    type_from_octets(text.as_bytes())
}

/// As [`type_from_text`], of a token.
pub fn type_from_octets(text: &[u8]) -> Option<u16> {
    let known = TYPES.iter().find(|entry| entry.mnemonic.as_bytes().eq_ignore_ascii_case(text));
    match known {
        Some(entry) => Some(entry.number),
        None => numbered(text, b"TYPE"),
    }
}

/// The number behind a word such as `TYPE` or `CLASS` (RFC 3597, 5).
pub fn numbered(text: &[u8], word: &[u8]) -> Option<u16> {
    let (front, digits) = text.split_at_checked(word.len())?;
    if !front.eq_ignore_ascii_case(word) || digits.len() > 5 {
        return None;
    }
    read::decimal(digits).and_then(|number| number.try_into().ok())
}

/// The mnemonic of a type, or `TYPE` and its number.
pub fn type_to_text(rtype: u16) -> Cow<'static, str> {
    match entry(rtype) {
        Some(entry) => Cow::Borrowed(entry.mnemonic),
        None => Cow::Owned(format!("TYPE{rtype}")),
    }
}

/// The mnemonic that is most like a word, for "did you mean".
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

/// Reads the data of a record. Relative names are completed with `origin`; names keep their case and are not compressed.
/// Every type takes the form of RFC 3597, 5, too: `\#`, the length, and hexadecimal digits.
pub fn parse(rtype: u16, tokens: &[Token], origin: &Name) -> Result<Box<[u8]>, RdataError> {
    Reader::new(rtype, tokens, origin).read()
}

/// Reads the data of a record that is a text by itself. Parentheses around it are skipped; a comment is an error.
pub fn parse_text(rtype: u16, text: &str, origin: &Name) -> Result<Box<[u8]>, RdataError> {
    parse(rtype, &tokenise(text.as_bytes())?, origin)
}

/// The tokens of a type's data that are domain names, as far as each field in front of them is one token.
pub fn name_tokens(rtype: u16) -> impl Iterator<Item = usize> {
    let fields = entry(rtype).map_or(&[][..], |entry| entry.fields);
    let is_one_token = |kind: &Kind| {
        use Kind::*;
        matches!(
            kind,
            U8 | U16 | U32 | Seconds | Time | RrType | Word { .. } | KeyFlags | Ipv4 | Ipv6 | Host | Domain | Text
        )
    };
    let front = fields.iter().enumerate().take_while(move |(_, (_, kind))| is_one_token(kind));
    front.filter(|(_, (_, kind))| matches!(kind, Kind::Host | Kind::Domain)).map(|(at, _)| at)
}

/// The tokens of a line.
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

/// The token that begins at `at`, which is none of white space, parenthesis and `;`, and where it ends, its quotes
/// included. None if a quoted string does not end on its line.
pub fn scan(text: &[u8], at: usize) -> Option<(Token<'_>, usize)> {
    let quoted = text.get(at) == Some(&b'"');
    let start = at + usize::from(quoted);
    let mut end = start;
    while let Some(&octet) = text.get(end) {
        match octet {
            b'"' if quoted => return Some((Token { text: &text[start..end], quoted, joined: false }, end + 1)),
            b'\r' | b'\n' => break,
            b' ' | b'\t' | b'"' | b'(' | b')' | b';' if !quoted => break,
            // An escaped octet is part of the token, but a line ends even so.
            b'\\' if !matches!(text.get(end + 1), None | Some(b'\r' | b'\n')) => end += 2,
            _ => end += 1,
        }
    }
    (!quoted).then(|| (Token { text: &text[start..end], quoted, joined: false }, end))
}

/// Writes record data as dig prints it. That of an unknown type, or that does not fit its type, in the form of
/// RFC 3597.
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

/// Whether octets are data of this type, without compression. Data of an unknown type are any up to 65535.
pub fn check(rtype: u16, rdata: &[u8]) -> bool {
    if rdata.len() > MAX_RDATA {
        return false;
    }
    match entry(rtype) {
        Some(entry) if !entry.fields.is_empty() => walk::fields(entry, rdata).is_some(),
        _ => true,
    }
}

/// Where domain names are in record data, and whether a message may compress them: those of RFC 1035's types only
/// (RFC 3597, 4).
pub fn names(rtype: u16, rdata: &[u8]) -> impl Iterator<Item = (Range<usize>, bool)> {
    walk::Names::new(entry(rtype).map_or(&[], |entry| entry.fields), rdata)
}

#[cfg(test)]
mod tests;
