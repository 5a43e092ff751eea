//! Confirmation of a response by UDP that may be forged, if TCP fails: the server is asked several
//! times, from other ports and with other IDs, and its responses must agree. A forger would have to
//! guess each.

use crate::wire::response::Response;

/// The number of responses that must agree.
const MIN_AGREEING: usize = 2;
/// The maximum number of responses to compare, and of queries: packets may be lost.
const MAX_ANSWERS: usize = 4;
const MAX_QUERIES: usize = 6;

/// The responses of a server to the confirmation queries of one question.
#[derive(Debug, Default)]
pub struct Confirmation {
    /// A response that is right except for the case of the name.
    folded: Option<AnswerContent>,
    answers: Vec<AnswerContent>,
    asked: usize,
}

/// The content of a response: its RCODE, and its answer section, sorted and without TTLs.
#[derive(Debug, PartialEq, Eq)]
struct AnswerContent {
    rcode: u16,
    records: Vec<(Vec<u8>, u16, Vec<u8>)>,
}

/// The verdict on the responses so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The last response is accepted.
    Agreed {
        /// Whether the server folds case: the response in another case was its own.
        folds_case: bool,
    },
    /// More responses are needed.
    More,
    /// The responses differ.
    Differ,
}

impl AnswerContent {
    fn of(message: &[u8]) -> Option<AnswerContent> {
        let response = Response::read(message)?;
        let [answer, ..] = response.sections;
        let mut records: Vec<_> =
            answer.into_iter().map(|record| (record.owner.to_ascii_lowercase(), record.rtype, record.rdata)).collect();
        records.sort_unstable();
        Some(AnswerContent { rcode: response.rcode, records })
    }

    /// Whether another response has as many records of the same names and types: a server that
    /// balances load gives other addresses each time.
    fn is_like(&self, other: &AnswerContent) -> bool {
        let shape = |content: &AnswerContent| -> Vec<_> {
            content.records.iter().map(|(owner, rtype, _)| (owner.clone(), *rtype)).collect()
        };
        self.rcode == other.rcode && shape(self) == shape(other)
    }
}

impl Confirmation {
    /// A confirmation of a response that is right except for the case of the name.
    pub fn new(folded: &[u8]) -> Confirmation {
        let mut this = Confirmation::default();
        this.add_folded(folded);
        this
    }

    /// Records another response in another case; only the first is compared.
    pub fn add_folded(&mut self, folded: &[u8]) {
        self.folded = self.folded.take().or_else(|| AnswerContent::of(folded));
    }

    /// Whether another query may be sent. If so, it is counted as sent.
    pub fn may_ask(&mut self) -> bool {
        self.asked += 1;
        self.asked <= MAX_QUERIES
    }

    /// Takes a response. One that cannot be read is accepted: the caller rejects it.
    pub fn take(&mut self, message: &[u8]) -> Verdict {
        let Some(content) = AnswerContent::of(message) else {
            return Verdict::Agreed { folds_case: false };
        };
        let agreeing = 1 + self.answers.iter().filter(|other| **other == content).count();
        let folds_case = self.folded.as_ref().is_some_and(|folded| *folded == content || folded.is_like(&content));
        let is_last = self.answers.len() + 1 >= MAX_ANSWERS;
        // A forger who knows port and ID would know the case too: the response in another case is
        // the server's own. Accepting it is as safe as with servers that always fold case.
        let is_like_all = || folds_case && self.answers.iter().all(|other| other.is_like(&content));
        let verdict = match agreeing >= MIN_AGREEING || is_last && is_like_all() {
            true => Verdict::Agreed { folds_case },
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

    /// A response for `www.example`, type A, with these addresses.
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
    fn accepts_responses_that_agree() {
        let mut confirmation = Confirmation::new(&answer(&[1, 2]));
        assert_eq!(confirmation.take(&answer(&[1, 2])), Verdict::More);
        assert_eq!(confirmation.take(&answer(&[2, 1])), Verdict::Agreed { folds_case: true });
        // The response in another case was forged.
        let mut confirmation = Confirmation::new(&answer(&[6, 6, 6]));
        // One of the confirmations is forged.
        assert_eq!(confirmation.take(&answer(&[1])), Verdict::More);
        assert_eq!(confirmation.take(&answer(&[6, 6, 6])), Verdict::More);
        assert_eq!(confirmation.take(&answer(&[1])), Verdict::Agreed { folds_case: false });
    }

    #[test]
    fn accepts_differing_responses_only_of_servers_that_fold_case() {
        let others = [answer(&[1]), answer(&[2]), answer(&[3]), answer(&[4])];
        let verdicts = |mut confirmation: Confirmation| others.each_ref().map(|answer| confirmation.take(answer));
        let [.., third, last] = verdicts(Confirmation::new(&answer(&[9])));
        assert_eq!((third, last), (Verdict::More, Verdict::Agreed { folds_case: true }));
        let [.., last] = verdicts(Confirmation::new(&answer(&[9, 9])));
        assert_eq!(last, Verdict::Differ, "that was another kind of answer");
        let mut none = Confirmation::new(&answer(&[1]));
        assert_eq!((0..10).filter(|_| none.may_ask()).count(), MAX_QUERIES);
    }
}
