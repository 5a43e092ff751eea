//! The rules of ad-block lists that are about domain names.
//!
//! `||name^` is for a name and all names below, `|name^` for the name itself; `@@` in front makes an exception. The modifiers
//! `important`, `dnstype` and `denyallow` are read. All other rules are for browsers, or need what a list cannot do.

use super::{Conditions, Content, Detail, Entry, Scope, emit, names::read_name};
use crate::wire::rdata::type_from_octets;
use std::collections::HashMap;

/// The conditions that were read, by number.
#[derive(Default)]
pub(super) struct Reader {
    numbers: HashMap<Conditions, u32>,
}

struct Modifiers {
    is_important: bool,
    conditions: Conditions,
}

impl Reader {
    pub(super) fn line(
        &mut self,
        text: &[u8],
        line: u32,
        name: &mut Vec<u8>,
        content: &mut Content,
        visit: &mut dyn FnMut(&Entry),
    ) {
        let text = text.trim_ascii();
        // `##` and `#@#` are rules for elements of pages.
        let is_comment = text.starts_with(b"!") || text.starts_with(b"[") || text.starts_with(b"# ") || text == b"#";
        if text.is_empty() || is_comment {
            return;
        }
        let (rest, is_exception) = match text.strip_prefix(b"@@") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (rest, scope) = match (rest.strip_prefix(b"||"), rest.strip_prefix(b"|")) {
            (Some(rest), _) => (rest, Scope::ExactAndBelow),
            (None, Some(rest)) => (rest, Scope::Exact),
            (None, None) => return content.skip(line, text, "expected `||name^` or `|name^`"),
        };
        let Some(end) = rest.iter().position(|&octet| octet == b'^') else {
            return content.skip(line, text, "expected `^` behind the name");
        };
        let (host, rest) = (&rest[..end], &rest[end + 1..]);
        let (host, scope) = match host.strip_prefix(b"*.") {
            Some(host) if scope == Scope::ExactAndBelow => (host, Scope::Below),
            _ => (host, scope),
        };
        let modifiers = match rest.strip_prefix(b"|").unwrap_or(rest) {
            [] => Ok(None),
            [b'$', modifiers @ ..] => read_modifiers(modifiers, name).map(Some),
            _ => Err("a part of a URL is behind the name".into()),
        };
        let modifiers = match modifiers {
            Ok(modifiers) => modifiers,
            Err(reason) => return content.skip(line, text, reason),
        };
        if let Err(reason) = read_name(host, name) {
            return content.skip(line, text, reason);
        }
        let Modifiers { is_important, conditions } =
            modifiers.unwrap_or(Modifiers { is_important: false, conditions: Conditions::default() });
        let conditions = (conditions != Conditions::default()).then(|| self.number(conditions, content));
        let detail = match is_exception || is_important || conditions.is_some() {
            false => Detail::Plain,
            true => {
                content.has_rules = true;
                Detail::Rule { is_exception, is_important, conditions }
            }
        };
        emit(content, visit, &Entry { name, scope, line, detail });
    }

    fn number(&mut self, conditions: Conditions, content: &mut Content) -> u32 {
        let next = content.conditions.len() as u32;
        *self.numbers.entry(conditions).or_insert_with_key(|conditions| {
            content.conditions.push(conditions.clone());
            next
        })
    }
}

fn read_modifiers(text: &[u8], name: &mut Vec<u8>) -> Result<Modifiers, super::names::Reason> {
    let (mut is_important, mut types, mut not_types, mut except) = (false, Vec::new(), Vec::new(), Vec::new());
    for modifier in text.split(|&octet| octet == b',') {
        let (word, value) = match modifier.iter().position(|&octet| octet == b'=') {
            Some(at) => (&modifier[..at], &modifier[at + 1..]),
            None => (modifier, &[][..]),
        };
        match (word, value.is_empty()) {
            (b"important", true) => is_important = true,
            (b"dnstype", false) => {
                for rtype in value.split(|&octet| octet == b'|') {
                    let (rtype, types) = match rtype.strip_prefix(b"~") {
                        Some(rtype) => (rtype, &mut not_types),
                        None => (rtype, &mut types),
                    };
                    types.push(type_from_octets(rtype).ok_or("an unknown record type in `dnstype`")?);
                }
            }
            (b"denyallow", false) => {
                for host in value.split(|&octet| octet == b'|') {
                    read_name(host, name)?;
                    except.push(name.as_slice().into());
                }
            }
            _ => {
                let word = String::from_utf8_lossy(&word[..word.len().min(40)]).into_owned();
                return Err(format!("the modifier `{word}` is not supported").into());
            }
        }
    }
    let conditions = Conditions { types: types.into(), not_types: not_types.into(), except: except.into() };
    Ok(Modifiers { is_important, conditions })
}
