//! Whether a server repeats names in the case in which it was asked for them, and what that makes of its answers.

use super::query::{Echo, Spelt};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// So many answers in the case of the query, and a server has proven that it keeps case.
const PROVEN: u8 = 3;
/// How long a server that does not keep case is asked in plain case. What stands behind an address may be another server by
/// then.
const FOLDS_FOR: Duration = Duration::from_secs(600);

/// Whether a server keeps the case of names.
#[derive(Default)]
pub struct Case(Mutex<State>);

#[derive(Clone, Copy, Default)]
struct State {
    /// Answers in the case of the query.
    kept: u8,
    /// Until when it is taken for one that does not keep case.
    folds_until: Option<Instant>,
}

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
        match echo {
            Echo::Other => return Judged::Stranger,
            Echo::Exact if spelt && question.is_telling() => {
                let mut state = self.state();
                // What was sent before it was found to fold proves nothing.
                if state.folds_until.is_none_or(|until| until <= Instant::now()) {
                    state.kept = (state.kept + 1).min(PROVEN);
                }
            }
            // Nobody forges what comes by a stream.
            Echo::Folded if spelt && !stream && self.keeps() == Some(true) => return Judged::Doubtful,
            Echo::Folded if spelt => self.set_folds(),
            _ => {}
        }
        Judged::Answer
    }

    /// It does not keep case.
    pub fn set_folds(&self) {
        *self.state() = State { kept: 0, folds_until: Some(Instant::now() + FOLDS_FOR) };
    }

    /// Whether the server keeps it; none if that is not known yet, or not any more.
    pub fn keeps(&self) -> Option<bool> {
        let state = *self.state();
        match state.folds_until {
            Some(until) if until > Instant::now() => Some(false),
            _ => (state.kept >= PROVEN).then_some(true),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
