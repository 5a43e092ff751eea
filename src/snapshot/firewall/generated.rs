//! Whether a domain generation algorithm (DGA) may have made a label, by its trigrams.
//!
//! The table has the information of each trigram, in bits, in words of the Debian package `wamerican` (public domain) and in
//! the names of Debian packages. `tests/bench/detectors.py table` writes it. A label of random characters has more
//! information per character than a name that a person chose.

/// The number of symbols: `a` to `z`, a digit, and every other octet.
const SYMBOLS: usize = 28;
/// The symbol of all octets that are neither letters nor digits, and of the ends of a label.
const OTHER: usize = 27;
/// The information of each trigram in bits, two in an octet, the first one in the upper half.
static TRIGRAMS: &[u8; SYMBOLS * SYMBOLS * SYMBOLS / 2] = include_bytes!("../../../models/firewall/trigrams.bin");
/// The shortest label that is judged, in octets.
const MIN_OCTETS: usize = 7;
/// The information of a character, in half bits, up to which a label looks like a name of a person.
const HALF_BITS_PER_CHARACTER: i32 = 9;
/// The minimum excess of information of a label that looks generated, in half bits. `tests/bench/detectors.py dga` chooses this
/// number so that at most 1 % of the registered names that people chose look generated.
const THRESHOLD: i32 = 39;

/// The symbol of an octet.
fn symbol(octet: u8) -> usize {
    match octet {
        b'a'..=b'z' => usize::from(octet - b'a'),
        b'A'..=b'Z' => usize::from(octet - b'A'),
        b'0'..=b'9' => 26,
        _ => OTHER,
    }
}

/// The information of a label beyond that of a name of the same length which a person chose, in half bits.
pub fn excess(label: &[u8]) -> i32 {
    let (mut before, mut last, mut excess) = (OTHER, OTHER, 0);
    for next in label.iter().map(|octet| symbol(*octet)).chain([OTHER]) {
        let index = (before * SYMBOLS + last) * SYMBOLS + next;
        let pair = TRIGRAMS[index / 2];
        let bits = if index.is_multiple_of(2) { pair >> 4 } else { pair & 15 };
        excess += 2 * i32::from(bits) - HALF_BITS_PER_CHARACTER;
        (before, last) = (last, next);
    }
    excess
}

/// Whether the label of a registered domain looks like one of a domain generation algorithm.
pub fn looks_generated(label: &[u8]) -> bool {
    label.len() >= MIN_OCTETS && !label.starts_with(b"xn--") && excess(label) >= THRESHOLD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_random_labels_from_names_of_people() {
        for label in [
            "uhbqolxfgzhwf",
            "ofdhiydrrttpblp",
            "puciftnfkplcbhp",
            "1vz89zm5b2e981bgfhqdzbke3m",
            "vwdwhhonkcfl",
            "xpqqpnfwwfiviuajyag",
        ] {
            assert!(looks_generated(label.as_bytes()), "{label}: {}", excess(label.as_bytes()));
        }
        for label in [
            "google",
            "amazonaws",
            "doubleclick",
            "wikipedia",
            "stackoverflow",
            "googlesyndication",
            "akamaiedge",
            "nickelfreesolutions",
            "xn--mnchen-3ya",
            "bundesverfassungsgericht",
            "letsencrypt",
            "xqzj",
            "my-company-portal",
        ] {
            assert!(!looks_generated(label.as_bytes()), "{label}: {}", excess(label.as_bytes()));
        }
    }

    /// The figures of `tests/bench/detectors.py` are about the same numbers.
    #[test]
    fn has_the_table_of_the_script() {
        let excess = ["google", "uhbqolxfgzhwf", "a-1"].map(|label| excess(label.as_bytes()));
        assert_eq!(excess, EXPECTED);
    }

    const EXPECTED: [i32; 3] = [-15, 134, 12];
}
