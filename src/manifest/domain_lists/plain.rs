//! The formats `domains`, `subdomains_included` and `hosts`.

use super::{Content, Detail, Entry, Scope, emit, names::read_name};
use std::net::IpAddr;

/// A line without its comment. None if there is nothing else.
fn without_comment(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii();
    if text.is_empty() || matches!(text.first(), Some(b'#' | b'!' | b';')) {
        return None;
    }
    let end = text.windows(2).position(|pair| pair[0].is_ascii_whitespace() && pair[1] == b'#');
    Some(text[..end.unwrap_or(text.len())].trim_ascii_end())
}

/// A name on its own means that name, `*.name` the names below, and `*` all names.
pub(super) fn domain(text: &[u8], line: u32, name: &mut Vec<u8>, content: &mut Content, visit: &mut dyn FnMut(&Entry)) {
    let Some(text) = without_comment(text) else { return };
    let (rest, scope) = match text {
        b"*" => {
            return emit(
                content,
                visit,
                &Entry { name: &[0], scope: Scope::ExactAndBelow, line, detail: Detail::Plain },
            );
        }
        [b'*', b'.', rest @ ..] => (rest, Scope::Below),
        [b'*', ..] => return content.skip(line, text, "a dot must follow `*`: `*.example.com` means the names below"),
        _ => (text, Scope::Exact),
    };
    match read_name(rest, name) {
        Ok(()) => emit(content, visit, &Entry { name, scope, line, detail: Detail::Plain }),
        Err(reason) => content.skip(line, text, reason),
    }
}

/// A name means itself and all names below, with or without a leading `*.` or dot.
pub(super) fn subdomains(
    text: &[u8],
    line: u32,
    name: &mut Vec<u8>,
    content: &mut Content,
    visit: &mut dyn FnMut(&Entry),
) {
    let Some(text) = without_comment(text) else { return };
    let rest = match text {
        b"*" | b"." | b"*." => return content.skip(line, text, "an entry for all names"),
        [b'*', b'.', rest @ ..] | [b'.', rest @ ..] => rest,
        _ => text,
    };
    match read_name(rest, name) {
        Ok(()) => emit(content, visit, &Entry { name, scope: Scope::ExactAndBelow, line, detail: Detail::Plain }),
        Err(reason) => content.skip(line, text, reason),
    }
}

/// Names that hosts files have for the host itself.
const OF_THE_HOST: [&[u8]; 6] =
    [b"localhost", b"localhost.localdomain", b"local", b"broadcasthost", b"localhost4", b"localhost6"];

/// An address, and names. The address does not matter.
pub(super) fn hosts(text: &[u8], line: u32, name: &mut Vec<u8>, content: &mut Content, visit: &mut dyn FnMut(&Entry)) {
    let Some(text) = without_comment(text) else { return };
    let mut fields = text.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let address = fields.next().and_then(|field| std::str::from_utf8(field).ok());
    // `fe80::1%lo0` has a zone.
    let address = address.and_then(|field| field.split('%').next()?.parse::<IpAddr>().ok());
    if address.is_none() {
        return content.skip(line, text, "expected an address and names");
    }
    let mut has_names = false;
    for field in fields {
        has_names = true;
        let is_of_host = OF_THE_HOST.iter().any(|own| field.eq_ignore_ascii_case(own)) || field.starts_with(b"ip6-");
        let is_address = std::str::from_utf8(field).is_ok_and(|field| field.parse::<IpAddr>().is_ok());
        if is_of_host || is_address {
            continue;
        }
        match read_name(field, name) {
            Ok(()) => emit(content, visit, &Entry { name, scope: Scope::Exact, line, detail: Detail::Plain }),
            Err(reason) => content.skip(line, text, reason),
        }
    }
    if !has_names {
        content.skip(line, text, "no name behind the address");
    }
}
