//! Values of records that are valid, and that a person is likely to mean otherwise.
//!
//! In `records` of the manifest all names in values are absolute, and such values are errors. In a master file a relative
//! name and `@` are what RFC 1035 says: there only what is hardly ever meant is a warning.

use crate::wire::{
    Name,
    name::unescape,
    rdata::{RdataError, Token, name_tokens, rtype, shown, tokenise, type_to_text},
};
use std::{borrow::Cow, net::Ipv4Addr};

/// A zone's name as text, to compare the texts of names with.
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

    /// What is in front of the zone's name in a text that ends in it, without the dot between; empty if it is the zone's name.
    fn prefix<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let (front, end) = text.split_at_checked(text.len().checked_sub(self.text.len())?)?;
        if self.text.is_empty() || !end.eq_ignore_ascii_case(self.text.as_bytes()) {
            return None;
        }
        if front.is_empty() { Some(front) } else { front.strip_suffix(b".") }
    }
}

fn doubt(token: usize, message: String, help: String) -> Option<RdataError> {
    Some(RdataError { token, message, help: Some(help) })
}

/// What is wrong with the `name` of a record set: relative to the zone unless it ends in a dot.
pub fn of_owner(text: &str, zone: &ZoneText) -> Option<RdataError> {
    if let Some((message, help)) = octal_escape(text.as_bytes()) {
        return doubt(0, message, help);
    }
    doubled(text.as_bytes(), zone, "name").and_then(|(message, help)| doubt(0, message, help))
}

/// What is wrong with a value of `records`, in which all names are absolute.
pub fn of_value(record_type: u16, value: &str, zone: &ZoneText) -> Option<RdataError> {
    // What is no value at all is told by the one who reads it.
    let tokens = tokenise(value.as_bytes()).ok()?;
    if tokens.first()?.text == b"\\#" {
        return None;
    }
    for at in name_tokens(record_type) {
        let Some(token) = tokens.get(at) else { break };
        if let Some((message, help)) = octal_escape(token.text).or_else(|| target(token.text, zone)) {
            return doubt(at, message, help);
        }
    }
    if matches!(record_type, rtype::TXT | rtype::SPF) {
        return texts(record_type, value, &tokens);
    }
    None
}

/// What is hardly ever meant in a record of a master file: in its owner, which is the token `owner` if it has one of its own,
/// or in its data, which begins at the token `data`.
pub fn of_master_record(
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
        let found = octal_escape(token.text).or_else(|| doubled(token.text, zone, "name"));
        let found = found.or_else(|| if Some(at) == owner { None } else { address(token.text) });
        if let Some((message, help)) = found {
            return doubt(at, message, help);
        }
    }
    // Several words are several strings for everybody. Only in one that is known to be one string are blanks meant.
    let is_one = values.first().is_some_and(|first| !first.quoted && first.text.starts_with(b"v="));
    if matches!(record_type, rtype::TXT | rtype::SPF) && is_one && values.len() > 1 {
        let words = values.len();
        let message = format!(
            "the blanks in this {} record are outside quotes: it is {words} strings, which readers join without blanks",
            type_to_text(record_type)
        );
        return doubt(data, message, "put double quotes around the whole text".into());
    }
    None
}

/// A text in which an escape is octal, as Route 53 writes it, rather than decimal (RFC 1035, 5.1).
pub fn octal_escape(text: &[u8]) -> Option<(String, String)> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&octet| octet == b'\\') {
        let behind = &rest[at + 1..];
        let (octet, tail) = unescape(behind)?;
        let digits = &behind[..behind.len() - tail.len()];
        // Nobody escapes a letter, a digit or a hyphen by its number.
        let is_ordinary = octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if digits.len() == 3 && (is_ordinary || digits == b"040") {
            let octal = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok());
            let digits = String::from_utf8_lossy(digits);
            let message = format!(
                "`{}`: the escape `\\{digits}` is decimal (RFC 1035), and means `{}`",
                shown(text),
                char::from(octet)
            );
            let meant = match octal {
                Some(b'*') => "for a wildcard write `*`; Route 53 writes it in octal".to_string(),
                Some(octal) if octal.is_ascii_graphic() && octal != b'.' => {
                    let octal = char::from(octal);
                    format!("if it is octal, as Route 53 writes it, write `{octal}` or `\\{:03}`", u32::from(octal))
                }
                Some(octal) => format!("if it is octal, as Route 53 writes it, write `\\{octal:03}`"),
                None => format!("write `{}`", char::from(octet)),
            };
            return Some((message, meant));
        }
        rest = tail;
    }
    None
}

/// A relative name that ends in the zone's name, which is completed with it once more.
fn doubled(text: &[u8], zone: &ZoneText, what: &str) -> Option<(String, String)> {
    let front = zone.prefix(text)?;
    let text = shown(text);
    let message = format!("the {what} `{text}` is relative to the zone, and means {text}.{}.", zone.text);
    let relative = if front.is_empty() { Cow::Borrowed("@") } else { Cow::Owned(shown(front)) };
    Some((message, format!("write `{relative}`, or `{text}.` with the last dot")))
}

/// An absolute name that is likely to be meant relative to the zone.
fn target(text: &[u8], zone: &ZoneText) -> Option<(String, String)> {
    let apex = if zone.text.is_empty() { "." } else { &zone.text };
    if text == b"@" {
        let message = "`@` means the zone in `name` only: in values all names are absolute".into();
        return Some((message, format!("write `{apex}`")));
    }
    if text.contains(&b'.') {
        return address(text);
    }
    if text.is_empty() || text.eq_ignore_ascii_case(b"localhost") || text.eq_ignore_ascii_case(zone.text.as_bytes()) {
        return None;
    }
    let text = shown(text);
    let message = format!("`{text}` is a name right below the root: in values all names are absolute");
    Some((message, format!("write `{text}.{}`, or `{text}.` if the top-level domain is meant", zone.text)))
}

/// An address where a name is wanted.
fn address(text: &[u8]) -> Option<(String, String)> {
    let address: Ipv4Addr = std::str::from_utf8(text).ok()?.trim_end_matches('.').parse().ok()?;
    Some((format!("`{address}` is an address, and a name is wanted"), "name a host that has this address".into()))
}

/// A text whose blanks, or parentheses, are outside quotes.
fn texts(record_type: u16, value: &str, tokens: &[Token]) -> Option<RdataError> {
    let trimmed = value.trim();
    for (at, token) in tokens.iter().enumerate() {
        if token.quoted
            && let Some((message, help)) = octal_escape(token.text)
        {
            return doubt(at, message, help);
        }
    }
    let unquoted = tokens.iter().position(|token| !token.quoted)?;
    if tokens.len() == 1 && tokens[0].text.len() == trimmed.len() {
        return octal_escape(tokens[0].text).and_then(|(message, help)| doubt(0, message, help));
    }
    let name = type_to_text(record_type);
    let message = match tokens.len() {
        1 => format!("parentheses outside quotes are no part of a {name} value"),
        strings => {
            format!(
                "the {name} value has a blank outside quotes: it is {strings} strings, which readers join without blanks"
            )
        }
    };
    let help = match tokens.iter().any(|token| token.quoted) {
        true => "put double quotes around each string".into(),
        false => {
            format!("write '\"{}\"'; for several strings put double quotes around each", shown(trimmed.as_bytes()))
        }
    };
    doubt(unquoted, message, help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rdata::type_from_text;

    fn zone() -> ZoneText {
        ZoneText::new(&Name::absolute("acme.test").unwrap())
    }

    #[test]
    fn finds_values_that_are_meant_otherwise() {
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
            ("TXT", "\"\\052\"", "means `4`", "write `*`"),
            ("MX", "10 mx", "`mx` is a name right below the root", "write `mx.acme.test`, or `mx.` if"),
            ("MX", "10 @", "`@` means the zone in `name` only", "write `acme.test`"),
            ("CNAME", "www", "`www` is a name right below the root", "write `www.acme.test`"),
            ("DNAME", "other", "`other` is a name", "write `other.acme.test`"),
            ("NS", "ns1", "`ns1` is a name", "write `ns1.acme.test`"),
            ("PTR", "host", "`host` is a name", "write `host.acme.test`"),
            ("SRV", "0 0 443 @", "`@` means", "write `acme.test`"),
            ("SRV", "0 0 443 www", "`www` is", "write `www.acme.test`"),
            ("SVCB", "1 www alpn=h2", "`www` is", "write `www.acme.test`"),
            ("HTTPS", "1 @", "`@` means", "write `acme.test`"),
            ("SOA", "ns hostmaster 1 1 1 1 1", "`ns` is", "write `ns.acme.test`"),
            ("NAPTR", "1 1 u x \"\" www", "`www` is", "write `www.acme.test`"),
            ("RP", "admin.acme.test @", "`@` means", "write `acme.test`"),
            ("AFSDB", "1 db", "`db` is", "write `db.acme.test`"),
            ("CNAME", "\\052.acme.test", "the escape `\\052` is decimal (RFC 1035), and means `4`", "write `*`"),
            ("CNAME", "a\\100b.acme.test", "means `d`", "write `@` or `\\064`"),
            ("CNAME", "my\\040host.acme.test", "means `(`", "write `\\032`"),
            ("CNAME", "10.1.0.7", "`10.1.0.7` is an address", "a host that has this address"),
            ("MX", "10 192.0.2.7.", "`192.0.2.7` is an address", "a host"),
        ] {
            let rtype_number = type_from_text(rtype).unwrap();
            let found = of_value(rtype_number, value, &zone()).unwrap_or_else(|| panic!("{rtype} {value}"));
            assert!(found.message.contains(message), "{rtype} {value}: {found}");
            assert!(found.help.as_deref().is_some_and(|told| told.contains(help)), "{rtype} {value}: {found}");
        }
    }

    #[test]
    fn leaves_values_that_are_clear() {
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
            assert_eq!(of_value(type_from_text(rtype).unwrap(), value, &zone()), None, "{rtype} {value}");
        }
    }

    #[test]
    fn finds_owners_that_are_meant_otherwise() {
        for (name, help) in [
            ("www.acme.test", "write `www`, or `www.acme.test.` with the last dot"),
            ("WWW.Acme.Test", "write `WWW`, or"),
            ("acme.test", "write `@`, or `acme.test.`"),
            ("*.acme.test", "write `*`, or"),
            ("\\052", "for a wildcard write `*`"),
            ("\\052.apps", "for a wildcard write `*`"),
        ] {
            let found = of_owner(name, &zone()).unwrap_or_else(|| panic!("{name}"));
            assert!(found.help.as_deref().is_some_and(|told| told.starts_with(help)), "{name}: {found}");
        }
        for name in ["www", "@", "www.acme.test.", "wwwacme.test", "acme", "test", "*", "a\\.b", "xacme.test"] {
            assert_eq!(of_owner(name, &zone()), None, "{name}");
        }
        assert_eq!(of_owner("www", &ZoneText::new(&Name::root())), None);
    }
}
