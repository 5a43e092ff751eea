//! The function that answers: pure, without I/O, lock, clock, randomness or allocation.

use crate::snapshot::Snapshot;
use std::net::IpAddr;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Who sent a query, as far as the listener knows.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The address that it came from.
    pub source: IpAddr,
    /// The address that it arrived on.
    pub local: IpAddr,
    /// How it came.
    pub transport: Transport,
}

/// What varies from answer to answer.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Seconds since 1970.
    pub now: i64,
    /// Counts up by one with each query of a worker: rotation and shares come from it.
    pub draw: u32,
}

/// What was decided.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The reply is in the buffer.
    Reply(Answered),
    /// There is nothing to say to that.
    Drop,
}

/// A reply, and what counters and limits want to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// How long the reply is, in octets.
    pub len: usize,
    /// The view that answered: an index into [`Snapshot::view_labels`]; none for those who have none.
    pub view: Option<u32>,
    /// The extended RCODE.
    pub rcode: u16,
    /// What answered.
    pub kind: Kind,
    /// What the query's cookie proves of its sender.
    pub cookie: Cookie,
}

/// What answered, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A private hosted zone.
    Zone,
    /// A name of an endpoint.
    Endpoint,
    /// An autodefined name.
    Autodefined,
    /// `whoami.zonal.`
    Whoami,
    /// Nothing: it would have to be forwarded.
    Forward,
    /// Nobody: the client has no view, or the query is none that we take.
    Refused,
    /// Nobody: the query is malformed.
    Malformed,
}

/// What a query's DNS cookie proves (RFC 7873).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// There is none.
    Absent,
    /// A client cookie, without a server cookie of ours that holds.
    Client,
    /// A server cookie of ours: the source address is no forgery.
    Valid,
}

/// Answers one query: the packet `query` of `client`, into `reply`, whose length is the most that the transport carries.
pub fn answer(_snapshot: &Snapshot, _client: &Client, _moment: Moment, _query: &[u8], _reply: &mut [u8]) -> Outcome {
    todo!()
}

/// Makes of an error reply the truncated one that sends its client to TCP. Returns its length.
pub fn truncate(_reply: &mut [u8], _len: usize) -> usize {
    todo!()
}

/// Makes of an error reply the BADCOOKIE that invites its client to come back with the cookie in it (RFC 7873, 5.2.3).
/// Returns its length.
pub fn bad_cookie(_reply: &mut [u8], _len: usize) -> usize {
    todo!()
}
