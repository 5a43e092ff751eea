//! DNS Firewall, compiled.

pub mod table;
