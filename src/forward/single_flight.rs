//! Single-flight: equal questions that are in flight at the same time are sent to other servers
//! once.
//!
//! The first task that joins a question is its [`Leader`]: it asks, and publishes the answers.
//! Every task that joins while the leader works is a [`Follower`]: it waits for the leader's
//! answers. A leader that is dropped without answers releases its followers, and one of them
//! becomes the next leader.

use super::{Answers, identity_hasher::IdentityHasher};
use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// The questions in flight, by the hash of their key. A client cannot compute the hash. If two keys
/// share a hash, a follower finds that the answers are not for its question, and asks for itself.
#[derive(Clone, Default)]
pub struct SingleFlight(Arc<Mutex<HashMap<u64, InFlightQuestion, BuildHasherDefault<IdentityHasher>>>>);

#[derive(Default)]
struct InFlightQuestion {
    followers: Vec<oneshot::Sender<Answers>>,
    /// The question came back to this node from a server that it was sent to.
    has_looped: bool,
}

/// The part of one task in a question.
pub enum Role {
    /// The task asks.
    Leader(Leader),
    /// The task waits for the leader's answers.
    Follower(Follower),
}

/// The task that asks a question. Dropping it without [`Leader::publish`] releases the followers
/// without answers.
pub struct Leader {
    single_flight: SingleFlight,
    hash: u64,
    has_published: bool,
}

/// A task that waits for the leader's answers.
pub struct Follower {
    answers: oneshot::Receiver<Answers>,
}

/// The end of a follower's wait.
pub enum FollowerOutcome {
    /// The leader published these answers.
    Answers(Answers),
    /// The deadline passed.
    TimedOut,
    /// The leader was dropped without answers.
    LeaderGone,
}

impl SingleFlight {
    /// Joins the question with this hash: as its leader if no task asks it yet, otherwise as a
    /// follower.
    pub fn join(&self, hash: u64) -> Role {
        let mut questions = self.lock();
        if let Some(question) = questions.get_mut(&hash) {
            let (sender, answers) = oneshot::channel();
            // Followers that no longer wait are removed before the list grows.
            if question.followers.len() == question.followers.capacity() {
                question.followers.retain(|follower| !follower.is_closed());
            }
            question.followers.push(sender);
            return Role::Follower(Follower { answers });
        }
        questions.insert(hash, InFlightQuestion::default());
        Role::Leader(Leader { single_flight: self.clone(), hash, has_published: false })
    }

    /// Records that the question with this hash came back to this node: a server that was asked
    /// sends queries here.
    pub fn mark_looped(&self, hash: u64) {
        if let Some(question) = self.lock().get_mut(&hash) {
            question.has_looped = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, InFlightQuestion, BuildHasherDefault<IdentityHasher>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leader {
    /// Whether the question came back to this node while it was in flight.
    pub fn has_looped(&self) -> bool {
        self.single_flight.lock().get(&self.hash).is_some_and(|question| question.has_looped)
    }

    /// Ends the question, and sends the answers to all followers.
    pub fn publish(mut self, answers: &Answers) {
        self.has_published = true;
        let followers = self.single_flight.lock().remove(&self.hash).map(|question| question.followers);
        for follower in followers.into_iter().flatten() {
            let _ = follower.send(answers.clone());
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.has_published {
            self.single_flight.lock().remove(&self.hash);
        }
    }
}

impl Follower {
    /// Waits for the leader's answers until `deadline`.
    pub async fn wait(self, deadline: Instant) -> FollowerOutcome {
        match timeout_at(deadline, self.answers).await {
            Ok(Ok(answers)) => FollowerOutcome::Answers(answers),
            Ok(Err(_)) => FollowerOutcome::LeaderGone,
            Err(_) => FollowerOutcome::TimedOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn follower(single_flight: &SingleFlight) -> Follower {
        match single_flight.join(7) {
            Role::Follower(follower) => follower,
            Role::Leader(_) => panic!("no leader asks the question"),
        }
    }

    fn leader(single_flight: &SingleFlight) -> Leader {
        match single_flight.join(7) {
            Role::Leader(leader) => leader,
            Role::Follower(_) => panic!("another leader asks the question"),
        }
    }

    #[tokio::test]
    async fn followers_get_the_answers_of_their_leader() {
        let single_flight = SingleFlight::default();
        let first_leader = leader(&single_flight);
        let [first, second, third] = std::array::from_fn(|_| follower(&single_flight));
        let deadline = Instant::now() + Duration::from_secs(5);
        assert!(matches!(first.wait(Instant::now()).await, FollowerOutcome::TimedOut));
        assert!(!first_leader.has_looped());
        single_flight.mark_looped(7);
        assert!(first_leader.has_looped());
        first_leader.publish(&Answers::default());
        assert!(matches!(second.wait(deadline).await, FollowerOutcome::Answers(_)));
        assert!(matches!(third.wait(deadline).await, FollowerOutcome::Answers(_)));
    }

    #[tokio::test]
    async fn followers_of_a_dropped_leader_are_released() {
        let single_flight = SingleFlight::default();
        let first_leader = leader(&single_flight);
        let follower = follower(&single_flight);
        drop(first_leader);
        let deadline = Instant::now() + Duration::from_secs(5);
        assert!(matches!(follower.wait(deadline).await, FollowerOutcome::LeaderGone));
        drop(leader(&single_flight));
    }
}
