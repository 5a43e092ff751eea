//! Zones from and to other servers: transfers, notifications and updates, with what authenticates them.

pub mod answer;
pub mod copies;
pub mod inward;
pub mod notified;
pub mod primary;
pub mod schedule;
pub mod timers;
pub mod tsig;
