//! DNS Firewall, compiled.

pub mod inline;
pub mod rules;
pub mod table;
