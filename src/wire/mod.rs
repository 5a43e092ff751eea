//! DNS on the wire: names, record data, queries, replies and responses, and the PROXY protocol
//! header in front of a query.
//!
//! Every function here works on octets in memory. Sockets, time and configuration belong to other
//! rooms. Reading never panics and never allocates more than the message is long, whatever the
//! octets are.

pub mod codes;
pub mod dns64;
pub mod message;
pub mod name;
pub mod proxy;
pub mod query;
pub mod rdata;
pub mod reply;
pub mod response;
pub mod subnet;

pub use name::{Name, NameError};
