//! DNS Firewall, compiled.

pub mod inline;
pub mod table;
