//! The spellings in which names are being asked for: a query that comes in with one of them is our own, come back.

use super::query;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const PLACES: usize = 1 << 14;
/// A mark is at one of so many places.
const REACH: usize = 8;

/// Marks of questions that are on their way. Whoever asks for one never waits.
pub struct Spellings(Box<[AtomicU64]>);

impl Default for Spellings {
    fn default() -> Spellings {
        Spellings((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Spellings {
    /// The places where a mark may be.
    fn places(&self, mark: u64) -> impl Iterator<Item = &AtomicU64> {
        (0..REACH).map(move |step| &self.0[(mark as usize).wrapping_add(step) % PLACES])
    }

    /// Puts a mark down. Where there is no room for it, it is not known again.
    pub fn insert(&self, mark: u64) {
        let _ = self.places(mark).any(|place| place.compare_exchange(0, mark, Relaxed, Relaxed).is_ok());
    }

    /// Takes a mark away.
    pub fn remove(&self, mark: u64) {
        let _ = self.places(mark).any(|place| place.compare_exchange(mark, 0, Relaxed, Relaxed).is_ok());
    }

    /// Whether this very spelling is on its way.
    pub fn contains(&self, name: &[u8], qtype: u16) -> bool {
        let mark = query::mark(name, qtype);
        self.places(mark).any(|place| place.load(Relaxed) == mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_and_go() {
        let spellings = Spellings::default();
        let mark = query::mark(b"\x03wWw\0", 1);
        assert!(!spellings.contains(b"\x03wWw\0", 1));
        spellings.insert(mark);
        spellings.insert(mark);
        assert!(spellings.contains(b"\x03wWw\0", 1));
        assert!(!spellings.contains(b"\x03www\0", 1) && !spellings.contains(b"\x03wWw\0", 28));
        spellings.remove(mark);
        assert!(spellings.contains(b"\x03wWw\0", 1), "it was there twice");
        spellings.remove(mark);
        assert!(!spellings.contains(b"\x03wWw\0", 1));
    }
}
