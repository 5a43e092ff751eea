//! Patterns of texts in the JSON Schema, for editors and for programs that write manifests. Every
//! text that zonal accepts matches its pattern; zonal also refuses some texts that match.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;
use std::borrow::Cow;

/// The pattern of a number from 0 to 255.
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// The pattern of a group of an IPv6 address.
const GROUP: &str = "[0-9A-Fa-f]{1,4}";

fn ipv4() -> String {
    format!("({OCTET}\\.){{3}}{OCTET}")
}

fn ipv6() -> String {
    // One alternative for each number of groups in front of `::`.
    let mut forms = vec![format!("({GROUP}:){{7}}{GROUP}"), format!("({GROUP}:){{6}}{}", ipv4())];
    for front in 0..=7 {
        let head = if front == 0 { String::new() } else { format!("({GROUP}:){{0,{}}}{GROUP}", front - 1) };
        let head = if front == 0 { head } else { format!("({head})?") };
        let behind = 7 - front;
        let tail = if behind == 0 { String::new() } else { format!("(({GROUP}:){{0,{}}}{GROUP})?", behind - 1) };
        forms.push(format!("{head}::{tail}"));
        if behind >= 2 {
            forms.push(format!("{head}::({GROUP}:){{0,{}}}{}", behind - 2, ipv4()));
        }
    }
    format!("({})", forms.join("|"))
}

/// The pattern of some words in any case.
fn in_any_case(words: &[&str]) -> String {
    let word = |word: &&str| -> String {
        let letter = |c: char| match c.is_ascii_alphabetic() {
            true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
            false => c.to_string(),
        };
        word.chars().map(letter).collect()
    };
    format!("^({})$", words.iter().map(word).collect::<Vec<_>>().join("|"))
}

/// The schema of some words in any case. Editors propose the spelling of `words`.
pub(crate) fn words_schema(words: &[&str]) -> Schema {
    json_schema!({"anyOf": [{"type": "string", "enum": words}, {"type": "string", "pattern": in_any_case(words)}]})
}

/// Defines types that stand for a pattern: `#[schemars(with = "Cidr")]`.
macro_rules! patterns {
    ($($(#[$meta:meta])* $name:ident => $schema:expr;)+) => {
        $(
            $(#[$meta])*
            pub struct $name;

            impl JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    Schema::try_from($schema).unwrap_or_default()
                }
            }
        )+
    };
}

patterns! {
    /// A CIDR block, IPv4 or IPv6.
    Cidr => json!({
        "title": "CIDR block", "type": "string",
        "pattern": format!("^({}/(3[0-2]|[12]?[0-9])|{}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$", ipv4(), ipv6()),
    });
    /// An address, IPv4 or IPv6.
    Address => json!({"title": "address", "type": "string", "pattern": format!("^({}|{})$", ipv4(), ipv6())});
    /// An IPv4 address.
    Ipv4 => json!({"title": "IPv4 address", "type": "string", "pattern": format!("^{}$", ipv4())});
    /// An IPv6 address.
    Ipv6 => json!({"title": "IPv6 address", "type": "string", "pattern": format!("^{}$", ipv6())});
    /// A time.
    Time => json!({
        "title": "time", "type": "string",
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:?[0-9]{2}(:?[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}(:?[0-9]{2}){0,2})(\\[.*\\])?$",
    });
    /// An absolute domain name; the last dot is optional.
    DomainName => json!({
        "title": "domain name", "type": "string",
        "pattern": "^(\\.|(([^\\x00-\\x20\\x7f.\\\\]|\\\\[0-9]{3}|\\\\[^0-9])+\\.)*([^\\x00-\\x20\\x7f.\\\\]|\\\\[0-9]{3}|\\\\[^0-9])+\\.?)$",
        "not": {"type": "string", "pattern": "^@$|\\\\(052|040)"},
    });
    /// An absolute domain name without a wildcard; the last dot is optional.
    PlainName => json!({
        "title": "domain name", "type": "string",
        "pattern": "^(\\.|(([^\\x00-\\x20\\x7f.\\\\]|\\\\[0-9]{3}|\\\\[^0-9])+\\.)*([^\\x00-\\x20\\x7f.\\\\]|\\\\[0-9]{3}|\\\\[^0-9])+\\.?)$",
        "not": {"type": "string", "pattern": "^@$|\\\\(052|040)|(^|\\.)\\*(\\.|$)"},
    });
    /// The owner of a record set: relative to the zone unless it ends in a dot; `@` is the apex.
    Owner => json!({
        "title": "domain name", "type": "string",
        "pattern": "^(\\.|(([^\\x00-\\x20\\x7f.\\\\]|\\\\[0-9]{3}|\\\\[^0-9])+\\.)*([^\\x00-\\x20\\x7f.\\\\]|\\\\[0-9]{3}|\\\\[^0-9])+\\.?)$",
        "not": {"type": "string", "pattern": "\\\\(052|040)"},
    });
    /// The mnemonic of a record type, or `TYPE` and a number.
    RecordType => json!({"title": "record type", "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9-]*$"});
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_words_in_any_case() {
        assert_eq!(in_any_case(&["Do53", "a-b"]), "^([Dd][Oo]53|[Aa]-[Bb])$");
    }
}
