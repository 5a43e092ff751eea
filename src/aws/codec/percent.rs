//! Percent-encoding (RFC 3986, 2.1), as AWS uses it in paths, query strings and forms.

/// Appends a text, with all octets encoded except for unreserved characters and those of `keep`.
pub fn encode(text: &str, keep: &[u8], out: &mut String) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) || keep.contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push('%');
            out.push(DIGITS[usize::from(octet >> 4)]);
            out.push(DIGITS[usize::from(octet & 15)]);
        }
    }
}

/// Decodes a text. In forms and query strings, a plus stands for a space.
pub fn decode(text: &str, plus_is_space: bool) -> Result<String, String> {
    let digit = |octet: Option<&u8>| octet.and_then(|octet| char::from(*octet).to_digit(16));
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => (high * 16 + low) as u8,
                _ => return Err(format!("`{text}` has a `%` without two hexadecimal digits")),
            },
            b'+' if plus_is_space => b' ',
            octet => *octet,
        });
    }
    String::from_utf8(octets).map_err(|_| format!("`{text}` is not UTF-8"))
}

/// The parameters of a query string or form, in order.
pub fn parameters(text: &str) -> Result<Vec<(String, String)>, String> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    let mut found = Vec::new();
    for part in parts {
        if found.len() == super::MAX_PARAMETERS {
            return Err(format!("there are more than {} parameters", super::MAX_PARAMETERS));
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        found.push((decode(name, true)?, decode(value, true)?));
    }
    Ok(found)
}
