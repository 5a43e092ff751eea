//! DNS Firewall, compiled.

pub mod detections;
pub mod generated;
pub mod inline;
pub mod registered;
pub mod rules;
pub mod table;
