//! Names as the table has them in memory: in wire format and lower case, but a common end is one octet.
//!
//! ```text
//! packed name = label*, end
//! label       = length from 1 to 63, octets
//! end         = 0: the root | 64 + n: the end with the number n, with the root
//! ```
//!
//! The octets of lengths and of ends differ, so no octet of a label needs an escape. A name has exactly one packed form. No
//! packed form is a prefix of another one.

/// The ends, in wire format. Most names in public lists of malware, phishing and advertisers have one of them. The octet of an
/// end is only in memory, so a new version of zonal can have other ends.
const ENDS: [&[u8]; 64] = [
    b"\x03com\0",
    b"\x03net\0",
    b"\x03org\0",
    b"\x04info\0",
    b"\x03biz\0",
    b"\x02ru\0",
    b"\x02de\0",
    b"\x02cn\0",
    b"\x03top\0",
    b"\x03xyz\0",
    b"\x06online\0",
    b"\x04site\0",
    b"\x04shop\0",
    b"\x04club\0",
    b"\x02eu\0",
    b"\x02fr\0",
    b"\x02it\0",
    b"\x02nl\0",
    b"\x02pl\0",
    b"\x02us\0",
    b"\x02io\0",
    b"\x02in\0",
    b"\x02co\0",
    b"\x02me\0",
    b"\x02tv\0",
    b"\x02cc\0",
    b"\x02pw\0",
    b"\x04live\0",
    b"\x03icu\0",
    b"\x03fun\0",
    b"\x05store\0",
    b"\x03vip\0",
    b"\x03app\0",
    b"\x03dev\0",
    b"\x03pro\0",
    b"\x04life\0",
    b"\x05space\0",
    b"\x07website\0",
    b"\x04link\0",
    b"\x05click\0",
    b"\x02uk\0",
    b"\x02br\0",
    b"\x02jp\0",
    b"\x02ca\0",
    b"\x02au\0",
    b"\x02ch\0",
    b"\x02cz\0",
    b"\x02es\0",
    b"\x02se\0",
    b"\x02ua\0",
    b"\x02su\0",
    b"\x02tk\0",
    b"\x02co\x02uk\0",
    b"\x03com\x02br\0",
    b"\x03com\x02au\0",
    b"\x03com\x02cn\0",
    b"\x02co\x02jp\0",
    b"\x08blogspot\x03com\0",
    b"\x06github\x02io\0",
    b"\x05pages\x03dev\0",
    b"\x07workers\x03dev\0",
    b"\x07netlify\x03app\0",
    b"\x06vercel\x03app\0",
    b"\x07duckdns\x03org\0",
];
const FIRST_END: u8 = 64;
const ROOT: &[u8] = b"\0";

/// The memory for the longest name.
pub(super) type Buffer = [u8; 255];

/// Appends the packed form of a valid name, given in wire format and lower case.
pub(super) fn pack(name: &[u8], out: &mut Vec<u8>) {
    let mut rest = name;
    while let Some(&length) = rest.first().filter(|length| **length != 0) {
        if let Some(number) = ENDS.iter().position(|end| *end == rest) {
            out.push(FIRST_END + number as u8);
            return;
        }
        let (label, tail) = rest.split_at(rest.len().min(1 + usize::from(length)));
        out.extend_from_slice(label);
        rest = tail;
    }
    out.push(0);
}

/// The labels, and the end in wire format, of the packed name at the start of `octets`.
#[inline]
fn split(octets: &[u8]) -> Option<(&[u8], &'static [u8])> {
    let mut at = 0;
    loop {
        match *octets.get(at)? {
            0 => return Some((&octets[..at], ROOT)),
            length @ 1..FIRST_END => at += 1 + usize::from(length),
            end => return Some((&octets[..at], ENDS.get(usize::from(end - FIRST_END))?)),
        }
    }
}

/// The size of the packed name at the start of `octets`.
#[inline]
pub(super) fn len(octets: &[u8]) -> Option<usize> {
    split(octets).map(|(labels, _)| labels.len() + 1)
}

/// Whether the packed name at the start of `octets` is `name`, which is in wire format and lower case.
#[inline]
pub(super) fn is(octets: &[u8], name: &[u8]) -> bool {
    split(octets).is_some_and(|(labels, end)| name.strip_prefix(labels) == Some(end))
}

/// The name in wire format of the packed name at the start of `octets`.
pub(super) fn unpack<'b>(octets: &[u8], buffer: &'b mut Buffer) -> Option<&'b [u8]> {
    let (labels, end) = split(octets)?;
    let name = buffer.get_mut(..labels.len() + end.len())?;
    let (first, last) = name.split_at_mut(labels.len());
    first.copy_from_slice(labels);
    last.copy_from_slice(end);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::name::wire_len;
    use proptest::{collection::vec, prelude::*};

    fn packed(name: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        pack(name, &mut octets);
        octets
    }

    fn check(name: &[u8], other: &[u8]) {
        let mut octets = packed(name);
        assert_eq!(len(&octets), Some(octets.len()));
        for cut in 0..octets.len() {
            assert!(len(&octets[..cut]).is_none() && !is(&octets[..cut], name));
        }
        assert_eq!(octets == packed(other), name == other);
        octets.extend([3, b'c', b'o', b'm', 0, 64, 255]);
        assert_eq!(unpack(&octets, &mut [0; 255]), Some(name));
        assert!(is(&octets, name));
        assert_eq!(is(&octets, other), name == other, "{name:?} {other:?}");
    }

    /// Labels of any octets, of the ends, and some that contain an end in wire format.
    fn any_name() -> impl Strategy<Value = Vec<u8>> {
        let label = prop_oneof![
            vec(any::<u8>(), 1..64),
            prop::sample::select(vec![&b"com"[..], b"co", b"uk", b"net", b"\x03com", b"@", b"\x03com\0", b"a"])
                .prop_map(<[u8]>::to_vec),
        ];
        vec(label, 0..6).prop_map(|labels| {
            let mut name = Vec::new();
            for label in labels {
                if name.len() + label.len() + 2 <= 255 {
                    name.push(label.len() as u8);
                    name.extend(label);
                }
            }
            name.push(0);
            name
        })
    }

    proptest! {
        #[test]
        fn a_packed_name_is_its_name_and_no_other(name in any_name(), other in any_name()) {
            check(&name, &other);
            check(&name, &name);
        }
    }

    #[test]
    fn ends_are_different_valid_names_of_one_octet() {
        for (number, end) in ENDS.into_iter().enumerate() {
            assert_eq!(wire_len(end), Some(end.len()), "{end:?}");
            assert_eq!(packed(end), [FIRST_END + number as u8], "{end:?}");
            check(end, b"\0");
            check(&[&b"\x01@"[..], end].concat(), end);
        }
    }

    #[test]
    fn an_end_begins_with_a_label() {
        // One label that ends in the octets of an end.
        let name = b"\x05a\x03com\0";
        assert_eq!(packed(name), name);
        check(name, b"\x01a\x03com\0");
        check(b"\0", b"\x03com\0");
        assert_eq!(packed(b"\x01a\x03com\x03com\0"), b"\x01a\x03com\x40");
        assert_eq!(len(&[255]), None);
    }

    #[test]
    fn the_longest_names_are_packed() {
        let with_many_labels = [&b"\x01a".repeat(125)[..], b"\x03com\0"].concat();
        let with_long_labels =
            [&[&[63u8][..], &[255; 63]].concat().repeat(3)[..], &[57], &[64; 57], b"\x03com\0"].concat();
        assert_eq!((with_many_labels.len(), with_long_labels.len()), (255, 255));
        check(&with_many_labels, &with_long_labels);
        assert_eq!((packed(&with_many_labels).len(), packed(&with_long_labels).len()), (251, 251));
    }
}
