//! A small mutator of inputs.

/// Makes new inputs from entries of a corpus.
pub struct Mutator<'d> {
    state: u64,
    dictionary: &'d [&'d [u8]],
}

impl<'d> Mutator<'d> {
    pub fn new(seed: u64, dictionary: &'d [&'d [u8]]) -> Mutator<'d> {
        Mutator { state: seed ^ 0x9e37_79b9_7f4a_7c15, dictionary }
    }

    /// The next random number (xorshift64*).
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() >> 33) as usize % count.max(1)
    }

    /// An entry of the corpus with one to six changes.
    pub fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut out = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(out.len());
            match self.below(9) {
                0 | 1 if !out.is_empty() => out[at] ^= 1 << self.below(8),
                2 if !out.is_empty() => out[at] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff][self.below(8)],
                3 if !out.is_empty() => out[at] = out[at].wrapping_add(self.below(9) as u8).wrapping_sub(4),
                4 => out.truncate(at),
                5 => {
                    let end = (at + self.below(16)).min(out.len());
                    out.drain(at..end);
                }
                6 => {
                    let word = self.dictionary[self.below(self.dictionary.len())];
                    out.splice(at..at, word.iter().copied());
                }
                7 => {
                    let end = (at + 1 + self.below(32)).min(out.len());
                    let piece = out[at..end].to_vec();
                    let to = self.below(out.len());
                    for _ in 0..=self.below(4) {
                        out.splice(to..to, piece.iter().copied());
                    }
                }
                _ => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len());
                    out.truncate(at);
                    out.extend_from_slice(&other[from..]);
                }
            }
        }
        out.truncate(8192);
        out
    }
}
