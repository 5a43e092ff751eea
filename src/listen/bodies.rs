//! How much of the bodies of requests, and of messages on streams, is held at a time. Queries are small: only one who sends
//! what no query is waits for room.

use super::responder::MESSAGE_SIZE;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What the bodies of a connection may take, in octets.
const OF_CONNECTION: usize = 256 << 10;
/// What those that are larger than queries are may take in all connections of a listener.
const OF_ALL: usize = 16 << 20;
/// The largest that does not count for all connections.
const SMALL: usize = 4 << 10;
/// How much of a stream, and of a connection by HTTP/2, is on its way before it is read, in octets.
pub const STREAM_WINDOW: u32 = 4 << 10;
/// Likewise. It is the least that there is (RFC 9113, 6.9.2).
pub const CONNECTION_WINDOW: u32 = 65_535;

/// Room for the larger bodies of all connections.
pub struct Hall(Semaphore);

impl Default for Hall {
    fn default() -> Hall {
        Hall(Semaphore::new(OF_ALL))
    }
}

/// Room for the bodies of a connection.
pub struct Room(Semaphore);

impl Default for Room {
    fn default() -> Room {
        Room(Semaphore::new(OF_CONNECTION))
    }
}

/// What a body has of the room, until it is dropped.
pub struct Held<'r> {
    _of_connection: SemaphorePermit<'r>,
    _of_all: Option<SemaphorePermit<'r>>,
}

impl Room {
    /// Waits until a body of this length has room; whose length nobody knows may be the longest. None is longer than a message.
    pub async fn take<'r>(&'r self, hall: &'r Hall, length: Option<usize>) -> Option<Held<'r>> {
        let length = length.unwrap_or(MESSAGE_SIZE).min(MESSAGE_SIZE);
        let octets = length as u32;
        let of_connection = self.0.acquire_many(octets).await.ok()?;
        let of_all = if length > SMALL { Some(hall.0.acquire_many(octets).await.ok()?) } else { None };
        Some(Held { _of_connection: of_connection, _of_all: of_all })
    }
}

/// Gives back what a body has that has turned out to be no larger than a query: others need not wait for its answer.
pub fn give_back(held: &mut Option<Held>, body: &[u8]) {
    held.take_if(|_| body.len() <= SMALL);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn take<'r>(room: &'r Room, hall: &'r Hall, length: Option<usize>) -> Option<Held<'r>> {
        room.take(hall, length).now_or_never().map(Option::unwrap)
    }

    #[test]
    fn large_bodies_wait_and_small_ones_do_not() {
        let (hall, room) = (Hall::default(), Room::default());
        let mut held: Vec<_> = std::iter::from_fn(|| take(&room, &hall, None)).collect();
        assert_eq!(held.len(), OF_CONNECTION / MESSAGE_SIZE);
        held.pop();
        assert!(take(&room, &hall, Some(MESSAGE_SIZE + 1)).is_some(), "what is too long is not read to its end");
        drop(held);
        let held: Vec<_> = (0..256).map_while(|_| take(&room, &hall, Some(1000))).collect();
        assert_eq!(held.len(), 256, "as many as there are streams");
        drop(held);
        // Who does not say how long a query is waits for those that are read, and not for their answers.
        let held: Vec<_> = (0..256)
            .map_while(|_| {
                let mut held = take(&room, &hall, None);
                held.as_ref()?;
                give_back(&mut held, &[0; 100]);
                Some(held)
            })
            .collect();
        assert_eq!(held.len(), 256);
        drop(held);
        // Of many connections the small ones pass, when there is no room for large ones.
        let rooms: Vec<Room> = (0..OF_ALL / OF_CONNECTION + 1).map(|_| Room::default()).collect();
        let mut held: Vec<_> =
            rooms.iter().flat_map(|room| std::iter::from_fn(|| take(room, &hall, Some(MESSAGE_SIZE)))).collect();
        assert!(held.len() == OF_ALL / MESSAGE_SIZE && take(&room, &hall, Some(SMALL + 1)).is_none());
        assert!(take(&room, &hall, Some(SMALL)).is_some());
        held.pop();
        assert!(take(&room, &hall, Some(SMALL + 1)).is_some());
    }
}
