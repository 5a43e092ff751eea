//! Bytes in, bytes out: names, record data, queries and replies. Nothing here knows of sockets, tokio or hickory.

pub mod codes;
pub mod message;
pub mod name;
pub mod proxy;
pub mod query;
pub mod rdata;
pub mod reply;
pub mod response;
pub mod subnet;

pub use name::{Name, NameError};
