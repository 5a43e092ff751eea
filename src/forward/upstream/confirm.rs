//! Whether what a server says by UDP is not forged, where there is reason to doubt that and TCP is of no use: it is asked
//! several times, from other ports and with other ids, and its answers have to agree. Whoever forges has to guess each.

use crate::wire::response::Response;

/// So many answers have to agree.
const AGREEING: usize = 2;
/// So many are taken in all, and so many are asked for, as packets are lost.
const MOST_ANSWERS: usize = 4;
const MOST_ASKED: usize = 6;

/// The answers of a server to one question.
#[derive(Debug, Default)]
pub struct Confirmation {
    /// What may be forged, and has everything right but the case.
    folded: Option<Content>,
    answers: Vec<Content>,
    asked: usize,
}

/// What an answer says: its RCODE, and the answer section in an order of its own, TTLs left out.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    rcode: u16,
    records: Vec<(Vec<u8>, u16, Vec<u8>)>,
}

/// What the answers so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The last one is to be believed. With `folds`, so is the one that had everything right but the case: the server does
    /// not keep case.
    Agreed {
        /// The server does not keep case.
        folds: bool,
    },
    /// More are needed.
    More,
    /// They do not agree.
    Differ,
}

impl Content {
    fn of(message: &[u8]) -> Option<Content> {
        let response = Response::read(message)?;
        let [answer, ..] = response.sections;
        let mut records: Vec<_> =
            answer.into_iter().map(|record| (record.owner.to_ascii_lowercase(), record.rtype, record.rdata)).collect();
        records.sort_unstable();
        Some(Content { rcode: response.rcode, records })
    }

    /// Whether another one has as many records of the same names and types: servers that balance load give other addresses
    /// each time.
    fn is_like(&self, other: &Content) -> bool {
        let shape = |content: &Content| -> Vec<_> {
            content.records.iter().map(|(owner, rtype, _)| (owner.clone(), *rtype)).collect()
        };
        self.rcode == other.rcode && shape(self) == shape(other)
    }
}

impl Confirmation {
    /// Nothing is confirmed yet of an answer that has everything right but the case.
    pub fn new(folded: &[u8]) -> Confirmation {
        let mut this = Confirmation::default();
        this.doubt(folded);
        this
    }

    /// There is more reason to doubt.
    pub fn doubt(&mut self, folded: &[u8]) {
        self.folded = self.folded.take().or_else(|| Content::of(folded));
    }

    /// Whether one more query is to be sent. It is counted as sent.
    pub fn ask(&mut self) -> bool {
        self.asked += 1;
        self.asked <= MOST_ASKED
    }

    /// Takes an answer. One that cannot be read is left to others to judge.
    pub fn take(&mut self, message: &[u8]) -> Verdict {
        let Some(content) = Content::of(message) else {
            return Verdict::Agreed { folds: false };
        };
        let agreeing = 1 + self.answers.iter().filter(|other| **other == content).count();
        let folds = self.folded.as_ref().is_some_and(|folded| *folded == content || folded.is_like(&content));
        let is_last = self.answers.len() + 1 >= MOST_ANSWERS;
        // Whoever guessed port and id of what was folded would not have needed the case: it is the server's own, and this is
        // no worse than what servers that never kept case say.
        let is_like_all = || folds && self.answers.iter().all(|other| other.is_like(&content));
        let verdict = match agreeing >= AGREEING || is_last && is_like_all() {
            true => Verdict::Agreed { folds },
            false if is_last => Verdict::Differ,
            false => Verdict::More,
        };
        self.answers.push(content);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `www.example`, type A, with these addresses.
    fn answer(addresses: &[u8]) -> Vec<u8> {
        let mut message = vec![0, 7, 0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0];
        message.extend_from_slice(b"\x03www\x07example\0\0\x01\0\x01");
        for address in addresses {
            message.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0");
            message.push(*address);
        }
        message
    }

    #[test]
    fn answers_that_agree_are_believed() {
        let mut confirmation = Confirmation::new(&answer(&[1, 2]));
        assert_eq!(confirmation.take(&answer(&[1, 2])), Verdict::More);
        assert_eq!(confirmation.take(&answer(&[2, 1])), Verdict::Agreed { folds: true });
        // What was in another case was a lie.
        let mut confirmation = Confirmation::new(&answer(&[6, 6, 6]));
        // So is one of those that are to confirm it.
        assert_eq!(confirmation.take(&answer(&[1])), Verdict::More);
        assert_eq!(confirmation.take(&answer(&[6, 6, 6])), Verdict::More);
        assert_eq!(confirmation.take(&answer(&[1])), Verdict::Agreed { folds: false });
    }

    #[test]
    fn answers_that_differ_are_only_believed_of_servers_that_fold() {
        let others = [answer(&[1]), answer(&[2]), answer(&[3]), answer(&[4])];
        let verdicts = |mut confirmation: Confirmation| others.each_ref().map(|answer| confirmation.take(answer));
        let [.., third, last] = verdicts(Confirmation::new(&answer(&[9])));
        assert_eq!((third, last), (Verdict::More, Verdict::Agreed { folds: true }));
        let [.., last] = verdicts(Confirmation::new(&answer(&[9, 9])));
        assert_eq!(last, Verdict::Differ, "that was another kind of answer");
        let mut none = Confirmation::new(&answer(&[1]));
        assert_eq!((0..10).filter(|_| none.ask()).count(), MOST_ASKED);
    }
}
