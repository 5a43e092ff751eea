//! Lints of records: values that are valid, but most likely a mistake.
//!
//! In `records` of the manifest, all names in values are absolute, and a finding is an error. In a
//! master file, a relative name and `@` have the meaning of RFC 1035. There only values that are
//! almost never intended are a finding, and it is a warning.

use crate::wire::{
    Name,
    name::unescape,
    rdata::{RdataError, Token, excerpt, name_tokens, rtype, tokenise, type_to_text},
};
use std::{borrow::Cow, net::Ipv4Addr};

/// A zone's name as text, to compare it with the texts of names.
#[derive(Clone, Debug)]
pub struct ZoneText {
    /// Without the last dot; empty for the root.
    text: String,
}

impl ZoneText {
    /// The text of a zone's name.
    pub fn new(zone: &Name) -> ZoneText {
        ZoneText { text: zone.to_string().trim_end_matches('.').to_string() }
    }

    /// The part of a text in front of the zone's name, without the dot. Empty if the text is the
    /// zone's name, none if the text does not end in it.
    fn prefix<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let (front, end) = text.split_at_checked(text.len().checked_sub(self.text.len())?)?;
        if self.text.is_empty() || !end.eq_ignore_ascii_case(self.text.as_bytes()) {
            return None;
        }
        if front.is_empty() { Some(front) } else { front.strip_suffix(b".") }
    }
}

fn finding(token: usize, message: String, help: String) -> Option<RdataError> {
    Some(RdataError { token, message, help: Some(help) })
}

/// Checks the `name` of a record set, which is relative to the zone unless it ends in a dot.
pub fn lint_owner(text: &str, zone: &ZoneText) -> Option<RdataError> {
    if let Some((message, help)) = octal_escape(text.as_bytes()) {
        return finding(0, message, help);
    }
    repeated_zone_name(text.as_bytes(), zone, "name").and_then(|(message, help)| finding(0, message, help))
}

/// Checks a value of `records`, in which all names are absolute. A malformed value has no finding.
pub fn lint_value(record_type: u16, value: &str, zone: &ZoneText) -> Option<RdataError> {
    // `rdata::parse` reports a malformed value.
    let tokens = tokenise(value.as_bytes()).ok()?;
    if tokens.first()?.text == b"\\#" {
        return None;
    }
    for at in name_tokens(record_type) {
        let Some(token) = tokens.get(at) else { break };
        if let Some((message, help)) = octal_escape(token.text).or_else(|| relative_target(token.text, zone)) {
            return finding(at, message, help);
        }
    }
    if matches!(record_type, rtype::TXT | rtype::SPF) {
        return unquoted_text(record_type, value, &tokens);
    }
    None
}

/// Checks a record of a master file: its owner, which is the token `owner` unless it is blank, and
/// its data, which begins at the token `data`.
pub fn lint_master_record(
    tokens: &[Token],
    owner: Option<usize>,
    (record_type, data): (u16, usize),
    zone: &ZoneText,
) -> Option<RdataError> {
    let values = tokens.get(data..).unwrap_or_default();
    if values.first().is_some_and(|token| token.text == b"\\#") {
        return None;
    }
    let names = name_tokens(record_type).map(|at| data + at);
    for at in owner.into_iter().chain(names) {
        let Some(token) = tokens.get(at) else { break };
        let found = octal_escape(token.text).or_else(|| repeated_zone_name(token.text, zone, "name"));
        let found = found.or_else(|| if Some(at) == owner { None } else { address_as_name(token.text) });
        if let Some((message, help)) = found {
            return finding(at, message, help);
        }
    }
    // Several words are several strings. Only a text of the form `v=…` (SPF, DKIM, DMARC) is known
    // to be one string.
    let is_one_text = values.first().is_some_and(|first| !first.quoted && first.text.starts_with(b"v="));
    if matches!(record_type, rtype::TXT | rtype::SPF) && is_one_text && values.len() > 1 {
        let words = values.len();
        let message = format!(
            "the {} record has blanks outside quotes: it is {words} strings, which readers join without blanks",
            type_to_text(record_type)
        );
        return finding(data, message, "put double quotes around the whole text".into());
    }
    None
}

/// Finds an escape that is most likely octal, as Route 53 writes it, and not decimal (RFC 1035,
/// section 5.1). Returns message and help.
pub fn octal_escape(text: &[u8]) -> Option<(String, String)> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&octet| octet == b'\\') {
        let escape = &rest[at + 1..];
        let (octet, tail) = unescape(escape)?;
        let digits = &escape[..escape.len() - tail.len()];
        // Nobody needs to escape a letter, a digit or a hyphen by its number.
        let is_ordinary = octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if digits.len() == 3 && (is_ordinary || digits == b"040") {
            let octal = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok());
            let digits = String::from_utf8_lossy(digits);
            let message = format!(
                "`{}`: the escape `\\{digits}` is decimal (RFC 1035) and stands for `{}`",
                excerpt(text),
                char::from(octet)
            );
            let help = match octal {
                Some(b'*') => "write `*` for a wildcard; Route 53 writes it in octal".to_string(),
                Some(octal) if octal.is_ascii_graphic() && octal != b'.' => {
                    let octal = char::from(octal);
                    format!("write `{octal}` or `\\{:03}` if it is octal, as Route 53 writes it", u32::from(octal))
                }
                Some(octal) => format!("write `\\{octal:03}` if it is octal, as Route 53 writes it"),
                None => format!("write `{}`", char::from(octet)),
            };
            return Some((message, help));
        }
        rest = tail;
    }
    None
}

/// Finds a relative name that ends in the zone's name: the zone's name is appended once more.
fn repeated_zone_name(text: &[u8], zone: &ZoneText, what: &str) -> Option<(String, String)> {
    let front = zone.prefix(text)?;
    let text = excerpt(text);
    let message = format!("the {what} `{text}` is relative to the zone and stands for {text}.{}.", zone.text);
    let relative = if front.is_empty() { Cow::Borrowed("@") } else { Cow::Owned(excerpt(front)) };
    Some((message, format!("write `{relative}`, or `{text}.` with the last dot")))
}

/// Finds an absolute name that is most likely intended to be relative to the zone.
fn relative_target(text: &[u8], zone: &ZoneText) -> Option<(String, String)> {
    let apex = if zone.text.is_empty() { "." } else { &zone.text };
    if text == b"@" {
        let message = "`@` stands for the zone in `name` only: names in values are absolute".into();
        return Some((message, format!("write `{apex}`")));
    }
    if text.contains(&b'.') {
        return address_as_name(text);
    }
    if text.is_empty() || text.eq_ignore_ascii_case(b"localhost") || text.eq_ignore_ascii_case(zone.text.as_bytes()) {
        return None;
    }
    let text = excerpt(text);
    let message = format!("`{text}` is a top-level domain: names in values are absolute");
    Some((message, format!("write `{text}.{}`, or `{text}.` for the top-level domain", zone.text)))
}

/// Finds an address in the place of a name.
fn address_as_name(text: &[u8]) -> Option<(String, String)> {
    let address: Ipv4Addr = std::str::from_utf8(text).ok()?.trim_end_matches('.').parse().ok()?;
    Some((format!("`{address}` is an address; expected a name"), "write the name of a host with this address".into()))
}

/// Finds blanks and parentheses outside quotes in a text.
fn unquoted_text(record_type: u16, value: &str, tokens: &[Token]) -> Option<RdataError> {
    let trimmed = value.trim();
    for (at, token) in tokens.iter().enumerate() {
        if token.quoted
            && let Some((message, help)) = octal_escape(token.text)
        {
            return finding(at, message, help);
        }
    }
    let unquoted = tokens.iter().position(|token| !token.quoted)?;
    if tokens.len() == 1 && tokens[0].text.len() == trimmed.len() {
        return octal_escape(tokens[0].text).and_then(|(message, help)| finding(0, message, help));
    }
    let name = type_to_text(record_type);
    let message = match tokens.len() {
        1 => format!("parentheses outside quotes are not part of a {name} value"),
        strings => {
            format!(
                "the {name} value has a blank outside quotes: it is {strings} strings, which readers join without blanks"
            )
        }
    };
    let help = match tokens.iter().any(|token| token.quoted) {
        true => "put double quotes around each string".into(),
        false => {
            format!("write '\"{}\"'; for several strings put double quotes around each", excerpt(trimmed.as_bytes()))
        }
    };
    finding(unquoted, message, help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rdata::type_from_text;

    fn zone() -> ZoneText {
        ZoneText::new(&Name::absolute("acme.test").unwrap())
    }

    #[test]
    fn finds_values_that_are_most_likely_mistakes() {
        for (rtype, value, message, help) in [
            ("TXT", "v=spf1 -all", "has a blank outside quotes: it is 2 strings", "write '\"v=spf1 -all\"'"),
            (
                "SPF",
                "v=spf1 mx -all",
                "the SPF value has a blank outside quotes: it is 3",
                "write '\"v=spf1 mx -all\"'",
            ),
            ("TXT", "\"a b\" c", "has a blank outside quotes", "put double quotes around each string"),
            ("TXT", "a\tb", "has a blank outside quotes", "write '"),
            ("TXT", "f(x)", "has a blank outside quotes", "write '\"f(x)\"'"),
            ("TXT", "(x)", "parentheses outside quotes", "write '\"(x)\"'"),
            ("TXT", "\"\\052\"", "stands for `4`", "write `*`"),
            ("MX", "10 mx", "`mx` is a top-level domain", "write `mx.acme.test`, or `mx.` for"),
            ("MX", "10 @", "`@` stands for the zone in `name` only", "write `acme.test`"),
            ("CNAME", "www", "`www` is a top-level domain", "write `www.acme.test`"),
            ("DNAME", "other", "`other` is a top-level", "write `other.acme.test`"),
            ("NS", "ns1", "`ns1` is a top-level", "write `ns1.acme.test`"),
            ("PTR", "host", "`host` is a top-level", "write `host.acme.test`"),
            ("SRV", "0 0 443 @", "`@` stands for", "write `acme.test`"),
            ("SRV", "0 0 443 www", "`www` is", "write `www.acme.test`"),
            ("SVCB", "1 www alpn=h2", "`www` is", "write `www.acme.test`"),
            ("HTTPS", "1 @", "`@` stands for", "write `acme.test`"),
            ("SOA", "ns hostmaster 1 1 1 1 1", "`ns` is", "write `ns.acme.test`"),
            ("NAPTR", "1 1 u x \"\" www", "`www` is", "write `www.acme.test`"),
            ("RP", "admin.acme.test @", "`@` stands for", "write `acme.test`"),
            ("AFSDB", "1 db", "`db` is", "write `db.acme.test`"),
            ("CNAME", "\\052.acme.test", "the escape `\\052` is decimal (RFC 1035) and stands for `4`", "write `*`"),
            ("CNAME", "a\\100b.acme.test", "stands for `d`", "write `@` or `\\064`"),
            ("CNAME", "my\\040host.acme.test", "stands for `(`", "write `\\032`"),
            ("CNAME", "10.1.0.7", "`10.1.0.7` is an address", "a host with this address"),
            ("MX", "10 192.0.2.7.", "`192.0.2.7` is an address", "a host"),
        ] {
            let rtype_number = type_from_text(rtype).unwrap();
            let found = lint_value(rtype_number, value, &zone()).unwrap_or_else(|| panic!("{rtype} {value}"));
            assert!(found.message.contains(message), "{rtype} {value}: {found}");
            assert!(found.help.as_deref().is_some_and(|text| text.contains(help)), "{rtype} {value}: {found}");
        }
    }

    #[test]
    fn accepts_values_that_are_clear() {
        for (rtype, value) in [
            ("TXT", "v=spf1"),
            ("TXT", "\"v=spf1 -all\""),
            ("TXT", "\"a\" \"b\""),
            ("TXT", "\"f(x) \\; \\\" \\195\\188\""),
            ("HINFO", "cpu os"),
            ("CAA", "0 issue \"ca.example\""),
            ("MX", "0 ."),
            ("MX", "10 mx."),
            ("MX", "10 mx.acme.test"),
            ("SRV", "0 0 0 ."),
            ("CNAME", "localhost"),
            ("CNAME", "a\\.b.acme.test"),
            ("CNAME", "a\\032b.acme.test"),
            ("HTTPS", "1 . alpn=h2"),
            ("NAPTR", "1 1 u x \"\" ."),
            ("TYPE65280", "\\# 1 00"),
            ("CNAME", "\\# 3 017700"),
            ("A", "10.1.0.7"),
        ] {
            assert_eq!(lint_value(type_from_text(rtype).unwrap(), value, &zone()), None, "{rtype} {value}");
        }
    }

    #[test]
    fn finds_owners_that_are_most_likely_mistakes() {
        for (name, help) in [
            ("www.acme.test", "write `www`, or `www.acme.test.` with the last dot"),
            ("WWW.Acme.Test", "write `WWW`, or"),
            ("acme.test", "write `@`, or `acme.test.`"),
            ("*.acme.test", "write `*`, or"),
            ("\\052", "write `*` for a wildcard"),
            ("\\052.apps", "write `*` for a wildcard"),
        ] {
            let found = lint_owner(name, &zone()).unwrap_or_else(|| panic!("{name}"));
            assert!(found.help.as_deref().is_some_and(|text| text.starts_with(help)), "{name}: {found}");
        }
        for name in ["www", "@", "www.acme.test.", "wwwacme.test", "acme", "test", "*", "a\\.b", "xacme.test"] {
            assert_eq!(lint_owner(name, &zone()), None, "{name}");
        }
        assert_eq!(lint_owner("www", &ZoneText::new(&Name::root())), None);
    }
}
