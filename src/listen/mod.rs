//! The transports. Each one reads queries from its sockets, passes them to [`dispatch`], and sends the replies.

pub mod blocked;
pub mod bodies;
pub mod connections;
mod core;
pub mod counters;
pub mod dispatch;
pub mod https;
pub mod limit;
pub mod linger;
pub mod proxy;
pub mod quic;
pub mod responder;
pub mod stream;
pub mod tls;
pub mod udp;
pub mod unread;
pub mod workers;

pub use self::core::{Core, Limits};

#[cfg(test)]
pub(crate) mod tests;
