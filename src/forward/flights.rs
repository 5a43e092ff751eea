//! Equal questions on their way at the same time are asked once.

use super::Answers;
use crate::answer::known::Key;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// The questions that are on their way.
#[derive(Clone, Default)]
pub struct Flights(Arc<Mutex<HashMap<Key, Landing>>>);

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
    key: Key,
    sender: watch::Sender<Option<Answers>>,
    looped: Arc<AtomicBool>,
}

/// What others wait for.
#[derive(Clone)]
pub struct Landing {
    receiver: watch::Receiver<Option<Answers>>,
    looped: Arc<AtomicBool>,
}

impl Flights {
    /// Takes a place.
    pub fn join(&self, key: &Key) -> Place {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = flights.get(key) {
            return Place::Passenger(landing.clone());
        }
        let (sender, receiver) = watch::channel(None);
        let looped = Arc::new(AtomicBool::new(false));
        flights.insert(key.clone(), Landing { receiver, looped: looped.clone() });
        Place::Pilot(Flight { flights: self.clone(), key: key.clone(), sender, looped })
    }
}

impl Flight {
    /// Whether the question came back to us while it was on its way.
    pub fn has_looped(&self) -> bool {
        self.looped.load(Relaxed)
    }

    /// Tells all who wait.
    pub fn land(self, answers: &Answers) {
        self.sender.send_replace(Some(answers.clone()));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Landing {
    /// The question has come back to us: those who were asked ask us.
    pub fn note_loop(&self) {
        self.looped.store(true, Relaxed);
    }

    /// Waits for the answers.
    pub async fn wait(mut self, deadline: Instant) -> Landed {
        match timeout_at(deadline, self.receiver.wait_for(Option::is_some)).await {
            Ok(Ok(answers)) => answers.clone().map_or(Landed::Lost, Landed::With),
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
