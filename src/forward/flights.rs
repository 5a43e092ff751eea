//! Equal questions on their way at the same time are asked once.

use super::Answers;
use crate::answer::known::Key;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// The questions that are on their way.
#[derive(Default)]
pub struct Flights(Mutex<HashMap<Key, watch::Receiver<Option<Answers>>>>);

/// One's place on a flight.
pub enum Place<'f> {
    /// Whoever is the first asks.
    Pilot(Flight<'f>),
    /// All others wait.
    Passenger(Landing),
}

/// A question that is to be asked.
pub struct Flight<'f> {
    flights: &'f Flights,
    key: Key,
    sender: watch::Sender<Option<Answers>>,
}

/// What others wait for.
pub struct Landing(watch::Receiver<Option<Answers>>);

impl Flights {
    /// Takes a place.
    pub fn join(&self, key: &Key) -> Place<'_> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = flights.get(key) {
            return Place::Passenger(Landing(receiver.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key.clone(), receiver);
        Place::Pilot(Flight { flights: self, key: key.clone(), sender })
    }
}

impl Flight<'_> {
    /// Tells all who wait.
    pub fn land(self, answers: Answers) {
        self.sender.send_replace(Some(answers));
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Landing {
    /// Waits for the answers; none if there are none by then.
    pub async fn wait(mut self, deadline: Instant) -> Option<Answers> {
        let landed = timeout_at(deadline, self.0.wait_for(Option::is_some)).await;
        landed.ok()?.ok()?.clone()
    }
}
