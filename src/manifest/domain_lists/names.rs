//! Domain names as lists write them.

use crate::wire::{
    Name,
    name::{MAX_LABEL, MAX_NAME, NameError},
};
use std::borrow::Cow;

/// The reason why a text is not a domain name.
pub(super) type Reason = Cow<'static, str>;

/// Writes a name in wire format and lower case. U-labels become A-labels.
pub(super) fn read_name(text: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    out.clear();
    let text = text.strip_suffix(b".").unwrap_or(text);
    let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    if !text.iter().all(is_plain) {
        return read_unusual(text, out);
    }
    for label in text.split(|&octet| octet == b'.') {
        match label.len() {
            0 => return Err(reason(if text.is_empty() { NameError::Empty } else { NameError::EmptyLabel })),
            len if len > MAX_LABEL => return Err(reason(NameError::LongLabel)),
            len => {
                out.push(len as u8);
                out.extend(label.iter().map(u8::to_ascii_lowercase));
            }
        }
    }
    out.push(0);
    if out.len() > MAX_NAME {
        return Err(reason(NameError::LongName));
    }
    let last = text.rsplit(|&octet| octet == b'.').next().unwrap_or_default();
    if last.iter().all(u8::is_ascii_digit) {
        return Err("an IP address or a number, not a domain name".into());
    }
    Ok(())
}

/// Reads a name with octets that are not in host names.
fn read_unusual(text: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let is_written_plainly =
        |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.' | b'\\') || *octet >= 0x80;
    // What an escape stands for may be any octet.
    let mut rest = text.iter();
    while let Some(octet) = rest.next() {
        if *octet == b'\\' {
            rest.next();
        } else if !is_written_plainly(octet) {
            let octet = *octet;
            return Err(match octet {
                b'/' => "a URL or a path, not a domain name".into(),
                b':' => "a URL, an address or a port, not a domain name".into(),
                b'*' => "`*` can only be the first label".into(),
                0x21..=0x7e => format!("`{}` is not in domain names", char::from(octet)).into(),
                _ => "a blank or a control character is in the name".into(),
            });
        }
    }
    if std::str::from_utf8(text).is_err() {
        return Err("not UTF-8".into());
    }
    let name = Name::parse(text, Some(&Name::root())).map_err(reason)?;
    out.extend(name.as_wire().iter().map(u8::to_ascii_lowercase));
    Ok(())
}

fn reason(error: NameError) -> Reason {
    error.to_string().into()
}
