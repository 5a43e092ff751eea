//! Equal questions on their way at the same time are asked once.

use super::{Answers, hash::Hash};
use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// The questions that are on their way, by the hash of their key. Nobody outside can know the hash; where two keys share
/// one all the same, who waits finds that the answers are none to its question, and asks.
#[derive(Clone, Default)]
pub struct Flights(Arc<Mutex<HashMap<u64, Waiting, BuildHasherDefault<Hash>>>>);

/// Who waits for the answers to a question.
#[derive(Default)]
struct Waiting {
    passengers: Vec<oneshot::Sender<Answers>>,
    /// The question came back to us.
    looped: bool,
}

/// One's place on a flight.
pub enum Place {
    /// Whoever is the first asks.
    Pilot(Flight),
    /// All others wait.
    Passenger(Landing),
}

/// A question that is to be asked.
pub struct Flight {
    flights: Flights,
    hash: u64,
    has_landed: bool,
}

/// What others wait for.
pub struct Landing {
    answers: oneshot::Receiver<Answers>,
}

impl Flights {
    /// Takes a place.
    pub fn join(&self, hash: u64) -> Place {
        let mut flights = self.lock();
        if let Some(waiting) = flights.get_mut(&hash) {
            let (sender, answers) = oneshot::channel();
            // Those who have gone make room for those who come.
            if waiting.passengers.len() == waiting.passengers.capacity() {
                waiting.passengers.retain(|passenger| !passenger.is_closed());
            }
            waiting.passengers.push(sender);
            return Place::Passenger(Landing { answers });
        }
        flights.insert(hash, Waiting::default());
        Place::Pilot(Flight { flights: self.clone(), hash, has_landed: false })
    }

    /// The question with that hash has come back to us: those who were asked ask us.
    pub fn note_loop(&self, hash: u64) {
        if let Some(waiting) = self.lock().get_mut(&hash) {
            waiting.looped = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiting, BuildHasherDefault<Hash>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Whether the question came back to us while it was on its way.
    pub fn has_looped(&self) -> bool {
        self.flights.lock().get(&self.hash).is_some_and(|waiting| waiting.looped)
    }

    /// Tells all who wait.
    pub fn land(mut self, answers: &Answers) {
        self.has_landed = true;
        let passengers = self.flights.lock().remove(&self.hash).map(|waiting| waiting.passengers);
        for passenger in passengers.into_iter().flatten() {
            let _ = passenger.send(answers.clone());
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.has_landed {
            self.flights.lock().remove(&self.hash);
        }
    }
}

impl Landing {
    /// Waits for the answers.
    pub async fn wait(self, deadline: Instant) -> Landed {
        match timeout_at(deadline, self.answers).await {
            Ok(Ok(answers)) => Landed::With(answers),
            Ok(Err(_)) => Landed::Lost,
            Err(_) => Landed::Late,
        }
    }
}

/// How a flight ended for those who wait.
pub enum Landed {
    /// With these answers.
    With(Answers),
    /// It has not, and there is no more time.
    Late,
    /// Whoever asked is gone.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn passenger(flights: &Flights) -> Landing {
        match flights.join(7) {
            Place::Passenger(landing) => landing,
            Place::Pilot(_) => panic!("nobody asks"),
        }
    }

    fn pilot(flights: &Flights) -> Flight {
        match flights.join(7) {
            Place::Pilot(flight) => flight,
            Place::Passenger(_) => panic!("somebody asks"),
        }
    }

    #[tokio::test]
    async fn who_waits_gets_what_is_asked_for_once() {
        let flights = Flights::default();
        let flight = pilot(&flights);
        let [first, second, third] = std::array::from_fn(|_| passenger(&flights));
        let soon = Instant::now() + Duration::from_secs(5);
        assert!(matches!(first.wait(Instant::now()).await, Landed::Late));
        assert!(!flight.has_looped());
        flights.note_loop(7);
        assert!(flight.has_looped());
        flight.land(&Answers::default());
        assert!(matches!(second.wait(soon).await, Landed::With(_)));
        assert!(matches!(third.wait(soon).await, Landed::With(_)));
        // The next one is a flight of its own; those on it learn that it is lost.
        let flight = pilot(&flights);
        let landing = passenger(&flights);
        drop(flight);
        assert!(matches!(landing.wait(soon).await, Landed::Lost));
        drop(pilot(&flights));
    }
}
