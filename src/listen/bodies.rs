//! Bounds on the octets of request bodies and stream messages that are in memory. Queries are small: only a client that sends
//! larger bodies waits.

use super::responder::MAX_MESSAGE_OCTETS;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The maximum octets of bodies of one connection.
const CONNECTION_OCTETS: usize = 256 << 10;
/// The maximum octets of large bodies of all connections of a listener.
const SHARED_OCTETS: usize = 16 << 20;
/// The maximum octets of a small body, which does not count in [`SHARED_OCTETS`].
const SMALL_OCTETS: usize = 4 << 10;
/// The flow control window of an HTTP/2 stream, in octets: a client sends this much before the server reads.
pub const STREAM_WINDOW: u32 = 4 << 10;
/// The flow control window of an HTTP/2 connection, in octets. It is the minimum (RFC 9113, 6.9.2).
pub const CONNECTION_WINDOW: u32 = 65_535;

/// ConnectionBudget for the larger bodies of all connections.
pub struct SharedBudget(Semaphore);

impl Default for SharedBudget {
    fn default() -> SharedBudget {
        SharedBudget(Semaphore::new(SHARED_OCTETS))
    }
}

/// ConnectionBudget for the bodies of a connection.
pub struct ConnectionBudget(Semaphore);

impl Default for ConnectionBudget {
    fn default() -> ConnectionBudget {
        ConnectionBudget(Semaphore::new(CONNECTION_OCTETS))
    }
}

/// The octets that a body takes of the budgets, until this is dropped.
pub struct Reservation<'r> {
    _connection: SemaphorePermit<'r>,
    _shared: Option<SemaphorePermit<'r>>,
}

impl ConnectionBudget {
    /// Waits until the budgets allow a body of this length. A body of unknown length counts as a message of maximum length.
    pub async fn reserve<'r>(&'r self, shared: &'r SharedBudget, length: Option<usize>) -> Option<Reservation<'r>> {
        let length = length.unwrap_or(MAX_MESSAGE_OCTETS).min(MAX_MESSAGE_OCTETS);
        let octets = length as u32;
        let connection = self.0.acquire_many(octets).await.ok()?;
        let shared = if length > SMALL_OCTETS { Some(shared.0.acquire_many(octets).await.ok()?) } else { None };
        Some(Reservation { _connection: connection, _shared: shared })
    }
}

/// Drops the reservation of a body that is small: other requests need not wait until it is answered.
pub fn release_small(reservations: &mut Option<Reservation>, body: &[u8]) {
    reservations.take_if(|_| body.len() <= SMALL_OCTETS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn reserve<'r>(
        budget: &'r ConnectionBudget,
        shared: &'r SharedBudget,
        length: Option<usize>,
    ) -> Option<Reservation<'r>> {
        budget.reserve(shared, length).now_or_never().map(Option::unwrap)
    }

    #[test]
    fn large_bodies_wait_for_the_budget_and_small_ones_do_not() {
        let (shared, budget) = (SharedBudget::default(), ConnectionBudget::default());
        let mut reservations: Vec<_> = std::iter::from_fn(|| reserve(&budget, &shared, None)).collect();
        assert_eq!(reservations.len(), CONNECTION_OCTETS / MAX_MESSAGE_OCTETS);
        reservations.pop();
        assert!(
            reserve(&budget, &shared, Some(MAX_MESSAGE_OCTETS + 1)).is_some(),
            "a body that is too long is not read to its end"
        );
        drop(reservations);
        let reservations: Vec<_> = (0..256).map_while(|_| reserve(&budget, &shared, Some(1000))).collect();
        assert_eq!(reservations.len(), 256, "as many as there are streams");
        drop(reservations);
        // A body of unknown length waits for others that are read, and not for their answers.
        let reservations: Vec<_> = (0..256)
            .map_while(|_| {
                let mut reservations = reserve(&budget, &shared, None);
                reservations.as_ref()?;
                release_small(&mut reservations, &[0; 100]);
                Some(reservations)
            })
            .collect();
        assert_eq!(reservations.len(), 256);
        drop(reservations);
        // Small bodies pass when the budget for large ones is used up.
        let budgets: Vec<ConnectionBudget> =
            (0..SHARED_OCTETS / CONNECTION_OCTETS + 1).map(|_| ConnectionBudget::default()).collect();
        let mut reservations: Vec<_> = budgets
            .iter()
            .flat_map(|budget| std::iter::from_fn(|| reserve(budget, &shared, Some(MAX_MESSAGE_OCTETS))))
            .collect();
        assert!(
            reservations.len() == SHARED_OCTETS / MAX_MESSAGE_OCTETS
                && reserve(&budget, &shared, Some(SMALL_OCTETS + 1)).is_none()
        );
        assert!(reserve(&budget, &shared, Some(SMALL_OCTETS)).is_some());
        reservations.pop();
        assert!(reserve(&budget, &shared, Some(SMALL_OCTETS + 1)).is_some());
    }
}
