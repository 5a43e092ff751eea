//! The steps of recursion for one client query, for `zonal explain --resolve`.

use crate::answer::{Stage, Step};
use std::sync::{Mutex, PoisonError};

/// Maximum number of recorded steps. Further steps are not recorded.
const MAX_STEPS: usize = 400;

/// Records steps if someone reads them.
#[derive(Debug, Default)]
pub struct Steps(Option<Mutex<Vec<Step>>>);

impl Steps {
    /// Creates a record of steps. [`Steps::default`] records nothing.
    pub fn recorded() -> Steps {
        Steps(Some(Mutex::default()))
    }

    /// Records a step, unless it is recorded already.
    pub fn note(&self, stage: Stage, text: impl FnOnce() -> String) {
        let Some(steps) = &self.0 else { return };
        let step = Step { stage, text: text() };
        let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() < MAX_STEPS && !steps.contains(&step) {
            steps.push(step);
        }
    }

    /// Takes the recorded steps, in their order.
    pub fn take(&self) -> Vec<Step> {
        let steps =
            self.0.as_ref().map(|steps| std::mem::take(&mut *steps.lock().unwrap_or_else(PoisonError::into_inner)));
        steps.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_each_step_once_and_only_for_a_reader() {
        let steps = Steps::recorded();
        for n in 0..2 * MAX_STEPS {
            steps.note(Stage::Recursion, || format!("step {}", n / 2));
        }
        steps.note(Stage::Validation, || "step 0".into());
        let taken = steps.take();
        assert_eq!(taken.len(), MAX_STEPS);
        assert_eq!(taken[1].text, "step 1");
        assert!(steps.take().is_empty());
        Steps::default().note(Stage::Recursion, || unreachable!());
        assert!(Steps::default().take().is_empty());
    }
}
