//! Bytes in, bytes out: names, record data, queries and replies. Nothing here knows of sockets, tokio or hickory.

pub mod message;
pub mod name;
pub mod query;
pub mod rdata;
pub mod reply;
pub mod response;

pub use name::{Name, NameError};
