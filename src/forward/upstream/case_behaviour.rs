//! Whether a server keeps the case of names, and which of its responses are accepted because of
//! that (0x20, case randomisation).
//!
//! ```text
//! unknown     -- 3 responses in the case of the query -->  keeps case:  a response in another case may be forged
//! any state   -- a confirmed response in another case -->  folds case:  asked in lower case for 10 minutes, then unknown
//! ```

use super::query::{Echo, RandomisedQuestion};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The number of responses in the case of the query after which a server is known to keep case.
const PROVEN_AFTER: u8 = 3;
/// The time for which a server that folds case is asked in lower case. After it, another server may
/// be behind the address.
const FOLDS_FOR: Duration = Duration::from_secs(600);

/// Whether a server keeps the case of names.
#[derive(Default)]
pub struct CaseBehaviour(Mutex<State>);

#[derive(Clone, Copy, Default)]
struct State {
    /// The number of responses in the case of the query, up to [`PROVEN_AFTER`].
    exact_echoes: u8,
    /// The end of the time in which the server is asked in lower case.
    folds_until: Option<Instant>,
}

/// The decision about a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// The response is accepted.
    Accepted,
    /// Only the case of the name is wrong, but the server keeps case: the response may be forged.
    CaseFolded,
    /// The message is not a response to the question.
    Rejected,
}

impl CaseBehaviour {
    /// Decides about a response by how it repeats the question, and learns from it. `is_randomised`
    /// tells whether the query had random case, `is_stream` whether the response came by a
    /// connection, where it cannot be forged.
    pub fn evaluate(
        &self,
        echo: Echo,
        is_randomised: bool,
        question: &RandomisedQuestion,
        is_stream: bool,
    ) -> Acceptance {
        match echo {
            Echo::Other => return Acceptance::Rejected,
            Echo::Exact if is_randomised && question.shows_case() => {
                let mut state = self.state();
                // A response to a query that was sent before the server was found to fold case
                // proves nothing.
                if state.folds_until.is_none_or(|until| until <= Instant::now()) {
                    state.exact_echoes = (state.exact_echoes + 1).min(PROVEN_AFTER);
                }
            }
            Echo::Folded if is_randomised && !is_stream && self.keeps_case() == Some(true) => {
                return Acceptance::CaseFolded;
            }
            Echo::Folded if is_randomised => self.set_folds(),
            _ => {}
        }
        Acceptance::Accepted
    }

    /// Records that the server folds case.
    pub fn set_folds(&self) {
        *self.state() = State { exact_echoes: 0, folds_until: Some(Instant::now() + FOLDS_FOR) };
    }

    /// Whether the server keeps case. None if that is unknown, or is no longer certain.
    pub fn keeps_case(&self) -> Option<bool> {
        let state = *self.state();
        match state.folds_until {
            Some(until) if until > Instant::now() => Some(false),
            _ => (state.exact_echoes >= PROVEN_AFTER).then_some(true),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
