//! Domain names: in wire format, and to and from presentation format.

use idna::AsciiDenyList;
use std::{cmp::Ordering, fmt, hash};

/// The longest name in wire format with its root label, in octets (RFC 1035, section 3.1).
pub const MAX_NAME: usize = 255;
/// The longest label, in octets (RFC 1035, section 3.1).
pub const MAX_LABEL: usize = 63;

/// An absolute domain name in uncompressed wire format. It keeps its case.
///
/// Equality, order and hash ignore ASCII case (RFC 4343). The order is the canonical order of RFC
/// 4034, section 6.1.
#[derive(Clone)]
pub struct Name(Box<[u8]>);

/// The reason why a text or octets are not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// There are two dots in a row, or a dot at the start.
    EmptyLabel,
    /// A label has more than 63 octets.
    LongLabel,
    /// The name has more than 255 octets in wire format.
    LongName,
    /// A backslash is followed neither by three digits up to 255 nor by another character.
    BadEscape,
    /// The name is relative, and there is no origin to complete it.
    Relative,
    /// The text is `@` in a place where all names are absolute.
    At,
    /// A blank or control character is not escaped.
    Blank,
    /// A label is not a valid internationalised label (UTS 46).
    BadUnicode,
    /// The octets are not an uncompressed name in wire format.
    BadWire,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Empty => "the domain name is empty",
            NameError::EmptyLabel => "the domain name has an empty label",
            NameError::LongLabel => "a label is longer than 63 octets",
            NameError::LongName => "the domain name is longer than 255 octets",
            NameError::BadEscape => "a backslash is not followed by three digits up to 255 or by another character",
            NameError::Relative => "the domain name is relative, and there is no origin; write an absolute name",
            NameError::At => "`@` stands for a zone's apex, but names are absolute here; write the whole name",
            NameError::Blank => "the domain name contains a blank; remove it, or write `\\032` for a blank in the name",
            NameError::BadUnicode => {
                "a label is not a valid internationalised label (UTS 46); write its A-label, such as `xn--mnchen-3ya`"
            }
            NameError::BadWire => "the octets are not a domain name in wire format",
        })
    }
}

impl std::error::Error for NameError {}

impl Name {
    /// The root, `.`.
    pub fn root() -> Name {
        Name(Box::new([0]))
    }

    /// Reads an absolute name in presentation format; the last dot is optional.
    ///
    /// # Errors
    ///
    /// As [`Name::parse`]; also for `@`.
    pub fn absolute(text: &str) -> Result<Name, NameError> {
        if text == "@" {
            return Err(NameError::At);
        }
        Name::parse(text.as_bytes(), Some(&Name::root()))
    }

    /// Reads a name in presentation format with its escapes (RFC 1035, section 5.1). A name without
    /// a last dot is relative to `origin`, and `@` is the origin. U-labels in UTF-8 become A-labels
    /// (RFC 5890, section 2.3.2.1). Octets that are not UTF-8 are kept, and so are the octets of a
    /// label that has an escape.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the text is not a domain name, or is relative and there is no origin.
    pub fn parse(text: &[u8], origin: Option<&Name>) -> Result<Name, NameError> {
        if !text.is_ascii()
            && let Ok(text) = std::str::from_utf8(text)
        {
            return Name::parse_octets(with_a_labels(text)?.as_bytes(), origin);
        }
        Name::parse_octets(text, origin)
    }

    fn parse_octets(text: &[u8], origin: Option<&Name>) -> Result<Name, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text == b"." {
            return Ok(Name::root());
        }
        if text == b"@" {
            return origin.cloned().ok_or(NameError::Relative);
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label = 0; // the offset of the current label's length octet
        wire.push(0);
        let mut absolute = false;
        let mut rest = text;
        while let Some((&octet, tail)) = rest.split_first() {
            rest = tail;
            absolute = false;
            let octet = match octet {
                b'.' => {
                    close_label(&mut wire, label)?;
                    label = wire.len();
                    wire.push(0);
                    absolute = true;
                    continue;
                }
                b'\\' => {
                    let (value, tail) = unescape(rest).ok_or(NameError::BadEscape)?;
                    rest = tail;
                    value
                }
                0..=b' ' | 0x7f => return Err(NameError::Blank),
                other => other,
            };
            wire.push(octet);
            if wire.len() > MAX_NAME + 1 {
                return Err(NameError::LongName);
            }
        }
        if !absolute {
            close_label(&mut wire, label)?;
            wire.extend_from_slice(origin.ok_or(NameError::Relative)?.as_wire());
        }
        if wire.len() > MAX_NAME {
            return Err(NameError::LongName);
        }
        Ok(Name(wire.into()))
    }

    /// Reads an uncompressed name in wire format. It must fill `wire`.
    ///
    /// # Errors
    ///
    /// [`NameError::BadWire`] if the octets are not exactly one name.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        match wire_len(wire) {
            Some(len) if len == wire.len() => Ok(Name(wire.into())),
            _ => Err(NameError::BadWire),
        }
    }

    /// The name in uncompressed wire format, with its root label.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels from left to right, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> + Clone {
        labels(&self.0)
    }

    /// The number of labels, without the root.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Whether the leftmost label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// The name without its leftmost label. None for the root.
    pub fn parent(&self) -> Option<Name> {
        (!self.is_root()).then(|| Name(self.0[1 + self.0[0] as usize..].into()))
    }

    /// This name with `label` in front of it.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the label is empty, or if label or name become too long.
    pub fn child(&self, label: &[u8]) -> Result<Name, NameError> {
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > MAX_LABEL {
            return Err(NameError::LongLabel);
        }
        if self.0.len() + 1 + label.len() > MAX_NAME {
            return Err(NameError::LongName);
        }
        let mut wire = Vec::with_capacity(self.0.len() + 1 + label.len());
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
        wire.extend_from_slice(&self.0);
        Ok(Name(wire.into()))
    }

    /// Whether this name is `other`, or is below `other`.
    pub fn is_at_or_below(&self, other: &Name) -> bool {
        let Some(cut) = self.0.len().checked_sub(other.0.len()) else { return false };
        self.0[cut..].eq_ignore_ascii_case(&other.0) && self.starts_label(cut)
    }

    /// The same name in lower case.
    pub fn to_lowercase(&self) -> Name {
        Name(self.0.to_ascii_lowercase().into())
    }

    fn starts_label(&self, at: usize) -> bool {
        let mut offset = 0;
        while offset < at {
            offset += 1 + self.0[offset] as usize;
        }
        offset == at
    }
}

/// Replaces the U-labels of a name in presentation format by A-labels.
fn with_a_labels(text: &str) -> Result<String, NameError> {
    /// Characters that the mapping of UTS 46 must not produce, because they have a meaning in
    /// presentation format.
    const DENIED: AsciiDenyList = AsciiDenyList::new(true, "\\\"();@");
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    loop {
        let end = label_end(rest);
        let (label, tail) = rest.split_at(end);
        match label.is_ascii() || label.contains('\\') {
            true => out.push_str(label),
            // The mapping turns the full stops of other scripts into dots.
            false => {
                out.push_str(&idna::domain_to_ascii_cow(label.as_bytes(), DENIED).map_err(|_| NameError::BadUnicode)?)
            }
        }
        let Some(next) = tail.strip_prefix('.') else { return Ok(out) };
        out.push('.');
        rest = next;
    }
}

/// The end of the first label: a dot that is not escaped, or the end of the text.
fn label_end(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().position(|octet| {
        let ends = octet == b'.' && !is_escaped;
        is_escaped = octet == b'\\' && !is_escaped;
        ends
    });
    end.unwrap_or(text.len())
}

fn close_label(wire: &mut [u8], start: usize) -> Result<(), NameError> {
    match wire.len() - start - 1 {
        0 => Err(NameError::EmptyLabel),
        len if len > MAX_LABEL => Err(NameError::LongLabel),
        len => {
            wire[start] = len as u8;
            Ok(())
        }
    }
}

/// Reads an escape, whose backslash is in front of `rest`. Returns the octet that it stands for,
/// and the text behind it. None if the escape is malformed.
pub fn unescape(rest: &[u8]) -> Option<(u8, &[u8])> {
    match rest {
        [a, b, c, tail @ ..] if a.is_ascii_digit() => {
            if !b.is_ascii_digit() || !c.is_ascii_digit() {
                return None;
            }
            let value = (a - b'0') as u32 * 100 + (b - b'0') as u32 * 10 + (c - b'0') as u32;
            Some((u8::try_from(value).ok()?, tail))
        }
        [a, ..] if a.is_ascii_digit() => None,
        [a, tail @ ..] => Some((*a, tail)),
        [] => None,
    }
}

/// The length of the uncompressed name at the start of `bytes`, with its root label. None if there
/// is no valid name.
pub fn wire_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 if at < MAX_NAME => return Some(at + 1),
            len if len as usize <= MAX_LABEL && len > 0 => at += 1 + len as usize,
            _ => return None,
        }
    }
}

/// The labels of an uncompressed name in wire format, from left to right, without the root. Panics
/// if it is malformed.
pub fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = wire[at] as usize;
        (len > 0).then(|| {
            let label = &wire[at + 1..at + 1 + len];
            at += 1 + len;
            label
        })
    })
}

/// Writes an uncompressed name in presentation format, with a last dot. Panics if it is malformed.
pub fn write_name(f: &mut impl fmt::Write, wire: &[u8]) -> fmt::Result {
    if wire[0] == 0 {
        return f.write_char('.');
    }
    for label in labels(wire) {
        for &octet in label {
            match octet {
                b'.' | b'\\' | b'"' | b';' | b'@' | b'$' | b'(' | b')' => write!(f, "\\{}", octet as char)?,
                0x21..=0x7e => f.write_char(octet as char)?,
                _ => write!(f, "\\{octet:03}")?,
            }
        }
        f.write_char('.')?;
    }
    Ok(())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, &self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, &self.0)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl hash::Hash for Name {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        let mut lower = [0; MAX_NAME];
        let octets = &mut lower[..self.0.len()];
        octets.copy_from_slice(&self.0);
        octets.make_ascii_lowercase();
        state.write(octets);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let (a, b): (Vec<_>, Vec<_>) = (self.labels().collect(), other.labels().collect());
        for (x, y) in a.iter().rev().zip(b.iter().rev()) {
            let by_label = x.iter().map(u8::to_ascii_lowercase).cmp(y.iter().map(u8::to_ascii_lowercase));
            if by_label.is_ne() {
                return by_label;
            }
        }
        a.len().cmp(&b.len())
    }
}

/// An uncompressed name in presentation format. Empty if `wire` is not a name.
pub fn name_text(wire: &[u8]) -> String {
    Name::from_wire(wire).map_or_else(|_| String::new(), |name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::absolute(text).unwrap()
    }

    #[test]
    fn reads_and_writes_presentation_format() {
        for (text, expected) in [
            ("Example.com", "Example.com."),
            (".", "."),
            ("a\\.b.c.", "a\\.b.c."),
            ("\\000\\255.x", "\\000\\255.x."),
            ("\\a.x", "a.x."),
            ("sp\\ ace.x", "sp\\032ace.x."),
        ] {
            assert_eq!(name(text).to_string(), expected, "{text}");
        }
        for (text, error) in [
            ("", NameError::Empty),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a\\25", NameError::BadEscape),
            ("a\\256", NameError::BadEscape),
            ("a\\", NameError::BadEscape),
        ] {
            assert_eq!(Name::absolute(text).unwrap_err(), error, "{text}");
        }
        for (text, error) in [
            ("@", NameError::At),
            ("my host.x", NameError::Blank),
            (" a", NameError::Blank),
            ("a\t", NameError::Blank),
            ("a\u{ad}\u{378}.x", NameError::BadUnicode),
            ("a\u{ff20}\u{fc}", NameError::BadUnicode),
        ] {
            assert_eq!(Name::absolute(text).unwrap_err(), error, "{text}");
        }
        assert_eq!(Name::parse(b"@", Some(&name("example.com"))).unwrap(), name("example.com."));
        assert_eq!(Name::absolute(&"a".repeat(64)).unwrap_err(), NameError::LongLabel);
        assert!(Name::absolute(&"a".repeat(63)).is_ok());
        assert!(Name::absolute(&"a.".repeat(127)).is_ok());
        assert_eq!(Name::absolute(&"a.".repeat(128)).unwrap_err(), NameError::LongName);
        assert_eq!(Name::parse(b"a", None).unwrap_err(), NameError::Relative);
        assert_eq!(Name::parse(b"www", Some(&name("example.com"))).unwrap(), name("www.example.com."));
    }

    #[test]
    fn converts_u_labels_to_a_labels() {
        for (text, expected) in [
            ("münchen.example", "xn--mnchen-3ya.example."),
            ("MÜNCHEN.Example", "xn--mnchen-3ya.Example."),
            ("mu\u{308}nchen.example", "xn--mnchen-3ya.example."),
            ("*.straße.example.", "*.xn--strae-oqa.example."),
            ("_dmarc.пример", "_dmarc.xn--e1afmkfd."),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah."),
            // A label with an escape keeps its octets.
            ("m\\195\\188nchen.example", "m\\195\\188nchen.example."),
            ("a\\.ü.x", "a\\.\\195\\188.x."),
        ] {
            assert_eq!(name(text).to_string(), expected, "{text}");
        }
        assert_eq!(Name::parse(b"\xfc.x.", None).unwrap().to_string(), "\\252.x.");
        assert_eq!(Name::parse("ü".as_bytes(), Some(&name("x"))).unwrap(), name("xn--tda.x"));
        assert_eq!(Name::absolute(&"ü".repeat(63)).unwrap_err(), NameError::LongLabel);
    }

    #[test]
    fn finds_parents_children_and_descendants() {
        assert!(name("a.b.c").is_at_or_below(&name("B.c")));
        assert!(name("b.c").is_at_or_below(&name("b.c")));
        assert!(!name("ab.c").is_at_or_below(&name("b.c")));
        assert!(name("x").is_at_or_below(&Name::root()));
        assert!(!Name::from_wire(b"\x04a\x01b\x00\x00").unwrap().is_at_or_below(&name("b")));
        assert_eq!(name("a.b").parent(), Some(name("b")));
        assert_eq!(name("b").child(b"a").unwrap(), name("a.b"));
        assert!(Name::from_wire(b"\x01a").is_err() && Name::from_wire(b"\x01a\x00\x00").is_err());
    }

    #[test]
    fn sorts_names_in_the_canonical_order_of_rfc_4034() {
        let order = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            "\\001.z.example",
            "*.z.example",
            "\\200.z.example",
        ];
        let names: Vec<_> = order.iter().map(|text| name(text)).collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
