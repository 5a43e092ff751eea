//! `$GENERATE`: many records from one line, as in BIND 9.

use super::super::Record;
use super::{MAX_MULTIPLIED_OCTETS as MAX_OCTETS, Source, Zone, fail, owner_name};
use crate::manifest::master::lexer::Entry;
use crate::wire::rdata::{self, RdataError, excerpt};
use std::fmt::Write;

/// The number of records that one directive can make.
const MAX_COUNT: u32 = 1_000_000;
/// The largest width of a number. A name cannot be longer.
const MAX_WIDTH: u32 = 255;
/// The help for a directive of the wrong form.
const FORM: &str =
    "write a range START-STOP or START-STOP/STEP, owner, type and data: `$GENERATE 1-10 host$ A 192.0.2.$`";

/// A part of the template of an owner or of data.
#[derive(Debug, PartialEq)]
enum Part {
    /// Literal text.
    Text(String),
    /// The counter plus `offset`, with at least `width` digits, in base d, o, x, X, n or N.
    Number { offset: i64, width: usize, base: u8 },
}

/// Adds the records of a directive to the zone.
pub(super) fn generate(zone: &mut Zone, source: &Source, entry: &Entry) -> Result<(), RdataError> {
    let tokens = &entry.tokens;
    let missing = |what| move || RdataError { help: Some(FORM.into()), ..fail(tokens.len(), what) };
    let given = tokens.get(1).ok_or_else(missing("the range is missing"))?;
    let (start, stop, step) = range(given.text).ok_or_else(|| RdataError {
        help: Some(FORM.into()),
        ..fail(1, format!("`{}` is not a range", excerpt(given.text)))
    })?;
    let count = (stop - start) / step + 1;
    if count > MAX_COUNT {
        return Err(fail(1, format!("the directive makes {count} records, more than {MAX_COUNT}")));
    }
    let left = tokens.get(2).ok_or_else(missing("the owner is missing"))?;
    let owner = template(left.text).map_err(|message| fail(2, message))?;
    let (ttl, rtype, at) = zone.ttl_and_type(tokens, 3)?;
    let right = tokens.get(at..).filter(|right| !right.is_empty()).ok_or_else(missing("the data is missing"))?;
    let data = match right {
        // Quotes surround the whole data, not one string of it.
        [one] if one.quoted => String::from_utf8_lossy(one.text).replace("\\\"", "\""),
        several => several.iter().fold(String::new(), |mut data, token| {
            let (space, quote) =
                (if data.is_empty() || token.joined { "" } else { " " }, if token.quoted { "\"" } else { "" });
            let _ = write!(data, "{space}{quote}{}{quote}", String::from_utf8_lossy(token.text));
            data
        }),
    };
    let data = template(data.as_bytes()).map_err(|message| fail(at, message))?;
    // The last number is the longest.
    let octets = count as usize * (expand(&owner, stop).len() + expand(&data, stop).len());
    if octets > MAX_OCTETS {
        return Err(fail(
            1,
            format!("the directive makes {} MiB of text, more than {} MiB", octets >> 20, MAX_OCTETS >> 20),
        ));
    }
    // Records of a file that is included again are counted one by one.
    let records = if zone.is_again { 0 } else { count as usize };
    zone.count_multiplied(records, octets)
        .and_then(|()| zone.count_octets(octets))
        .map_err(|message| fail(1, message))?;
    for value in (start..=stop).step_by(step as usize) {
        if zone.stopped {
            break;
        }
        let (name, text) = (expand(&owner, value), expand(&data, value));
        let about = |token| {
            move |error: RdataError| RdataError { token, message: format!("for {value}: {}", error.message), ..error }
        };
        let owner = owner_name(name.as_bytes(), &zone.origin, zone.apex).map_err(about(2))?;
        let rdata = rdata::parse_text(rtype, &text, &zone.origin).map_err(about(at))?;
        let ttl = zone.ttl(ttl, rtype, &rdata, at - 1)?;
        zone.push(Record { owner, rtype, ttl, rdata, file: source.index, line: entry.line });
    }
    Ok(())
}

/// Reads START-STOP or START-STOP/STEP. None if the form is wrong, or if a number is larger than
/// 2^31 - 1.
fn range(text: &[u8]) -> Option<(u32, u32, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (text, step) = text.split_once('/').unwrap_or((text, "1"));
    let (start, stop) = text.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        text.parse().ok().filter(|&number: &u32| digits && number <= i32::MAX as u32)
    };
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?);
    (start <= stop && step > 0).then_some((start, stop, step))
}

/// Splits a template with `$`, `${offset,width,base}`, `$$` and escapes into parts.
fn template(text: &[u8]) -> Result<Vec<Part>, String> {
    let text = String::from_utf8_lossy(text);
    let (mut parts, mut plain) = (Vec::new(), String::new());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                plain.push(c);
                plain.extend(rest.next());
            }
            '$' if rest.as_str().starts_with('$') => {
                rest.next();
                plain.push_str("\\$");
            }
            '$' => {
                parts.push(Part::Text(std::mem::take(&mut plain)));
                let Some(tail) = rest.as_str().strip_prefix('{') else {
                    parts.push(Part::Number { offset: 0, width: 0, base: b'd' });
                    continue;
                };
                let (modifier, tail) = tail.split_once('}').ok_or("`${` is not closed with `}`")?;
                parts.push(number(modifier).ok_or_else(|| {
                    format!("`${{{modifier}}}` is not ${{offset,width,base}}, with a base of d, o, x, X, n or N")
                })?);
                rest = tail.chars();
            }
            other => plain.push(other),
        }
    }
    parts.push(Part::Text(plain));
    Ok(parts)
}

fn number(modifier: &str) -> Option<Part> {
    let mut fields = modifier.split(',');
    let offset: i32 = fields.next()?.parse().ok()?;
    let width: u32 = fields.next().map_or(Some(0), |width| width.parse().ok())?;
    let base = fields.next().unwrap_or("d");
    let fits = width <= MAX_WIDTH && base.len() == 1 && "doxXnN".contains(base) && fields.next().is_none();
    fits.then(|| Part::Number { offset: offset.into(), width: width as usize, base: base.as_bytes()[0] })
}

fn expand(parts: &[Part], value: u32) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(plain) => text.push_str(plain),
            &Part::Number { offset, width, base } => {
                let number = value as i64 + offset;
                // A negative number is written as its two's complement in the other bases, as by
                // BIND.
                let bits = number as u32;
                let _ = match base {
                    b'o' => write!(text, "{bits:0width$o}"),
                    b'x' => write!(text, "{bits:0width$x}"),
                    b'X' => write!(text, "{bits:0width$X}"),
                    b'n' | b'N' => {
                        write_nibbles(&mut text, bits, width, base == b'N');
                        Ok(())
                    }
                    _ => write!(text, "{number:0width$}"),
                };
            }
        }
    }
    text
}

/// Writes hexadecimal digits from the last to the first, as labels. The width includes the dots.
fn write_nibbles(text: &mut String, mut bits: u32, width: usize, upper: bool) {
    let mut left = width as i64;
    loop {
        let digit = char::from_digit(bits & 15, 16).unwrap_or('0');
        text.push(if upper { digit.to_ascii_uppercase() } else { digit });
        bits >>= 4;
        left -= 1;
        if left > 0 || bits != 0 {
            text.push('.');
            left -= 1;
        }
        if bits == 0 && left <= 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_templates_like_bind_9_18() {
        for (text, value, expected) in [
            ("$", 5, "5"),
            ("a$b$", 5, "a5b5"),
            ("\\$", 5, "\\$"),
            ("$$", 5, "\\$"),
            ("${-20}", 10, "-10"),
            ("${1,3}", 9, "010"),
            ("${1,3,d}", 9, "010"),
            ("${0,3,o}", 8, "010"),
            ("${0,3,x}", 255, "0ff"),
            ("${0,0,X}", 255, "FF"),
            ("${0,5,n}", 1, "1.0.0"),
            ("${0,4,n}", 1, "1.0."),
            ("${255,1,N}", 10, "9.0.1"),
            ("${0,0,N}", 0xab, "B.A"),
        ] {
            assert_eq!(expand(&template(text.as_bytes()).unwrap(), value), expected, "{text}");
        }
        for wrong in ["${1", "${}", "${1,2,q}", "${x}", "${1,256}", "${1,2,d,3}", "${1,2,}"] {
            assert!(template(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for (text, expected) in [
            ("1-3", Some((1, 3, 1))),
            ("0-10/5", Some((0, 10, 5))),
            ("1", None),
            ("3-1", None),
            ("1-2/0", None),
            ("1-+2", None),
            ("0-2147483648", None),
        ] {
            assert_eq!(range(text.as_bytes()), expected, "{text}");
        }
    }
}
