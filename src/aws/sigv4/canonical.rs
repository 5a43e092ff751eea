//! The canonical request: what a signature is about, in one form whatever the form on the wire.

use crate::aws::codec::percent;
use hyper::HeaderMap;

/// A request, as far as its signature is about it.
pub(super) struct CanonicalRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The path on the wire.
    pub path: &'a str,
    /// The query in canonical form.
    pub query: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The names of the signed headers.
    pub signed: &'a [String],
    /// The hash of the body in hexadecimal digits, or a word in its place.
    pub body_hash: &'a str,
}

impl CanonicalRequest<'_> {
    /// The octets that are hashed.
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        for line in [self.method, &path(self.path), self.query] {
            octets.extend(line.as_bytes());
            octets.push(b'\n');
        }
        for name in self.signed {
            octets.extend(name.as_bytes());
            octets.push(b':');
            for (at, value) in self.headers.get_all(name.as_str()).iter().enumerate() {
                if at > 0 {
                    octets.push(b',');
                }
                fold(value.as_bytes(), &mut octets);
            }
            octets.push(b'\n');
        }
        octets.push(b'\n');
        octets.extend(self.signed.join(";").as_bytes());
        octets.push(b'\n');
        octets.extend(self.body_hash.as_bytes());
        octets
    }
}

/// Appends the value of a header without blanks at its ends, and with one blank for several within.
fn fold(value: &[u8], out: &mut Vec<u8>) {
    let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend(word);
    }
}

/// The canonical path: without empty and dot segments, and encoded once more than on the wire.
fn path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    let mut encoded = String::from("/");
    percent::encode(&segments.join("/"), b"/", &mut encoded);
    encoded + end
}

/// The canonical forms of a query, without the signature itself: encoded anew, as AWS says; and as on the wire, as some
/// clients sign it. Both are in order.
pub(super) fn queries(query: &str) -> Vec<String> {
    let parts = query.split('&').filter(|_| !query.is_empty());
    let pairs = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
    let pairs: Vec<(&str, &str)> = pairs.filter(|(name, _)| *name != "X-Amz-Signature").collect();
    let anew = |text: &str| {
        let mut encoded = String::new();
        percent::encode(&percent::decode(text, false).ok()?, b"", &mut encoded);
        Some(encoded)
    };
    let encoded: Option<Vec<(String, String)>> =
        pairs.iter().map(|(name, value)| Some((anew(name)?, anew(value)?))).collect();
    let plain = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut queries: Vec<String> = encoded.into_iter().chain([plain]).map(in_order).collect();
    queries.dedup();
    queries
}

fn in_order(mut pairs: Vec<(String, String)>) -> String {
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}
