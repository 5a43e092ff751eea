//! Whether a server repeats names in the case in which it was asked for them, and what that makes of its answers.

use super::query::{Echo, Spelt};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// So many answers in the case of the query, and a server has proven that it keeps case.
const PROVEN: u8 = 3;
/// It does not keep case.
const FOLDS: u8 = u8::MAX;

/// Whether a server keeps the case of names.
#[derive(Default)]
pub struct Case(AtomicU8);

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// One to believe.
    Answer,
    /// It is right but for the case, from a server that keeps case.
    Doubtful,
    /// It is none.
    Stranger,
}

impl Case {
    /// Judges an answer by how it repeats the question, and learns from it.
    pub fn judge(&self, echo: Echo, spelt: bool, question: &Spelt, stream: bool) -> Judged {
        let state = self.0.load(Relaxed);
        match echo {
            Echo::Other => return Judged::Stranger,
            Echo::Exact if spelt && question.is_telling() && state < PROVEN => self.0.store(state + 1, Relaxed),
            // Nobody forges what comes by a stream.
            Echo::Folded if spelt && state == PROVEN && !stream => return Judged::Doubtful,
            Echo::Folded if spelt => self.0.store(FOLDS, Relaxed),
            _ => {}
        }
        Judged::Answer
    }

    /// Whether the server keeps it; none if that is not known yet.
    pub fn keeps(&self) -> Option<bool> {
        match self.0.load(Relaxed) {
            FOLDS => Some(false),
            PROVEN => Some(true),
            _ => None,
        }
    }
}
