//! Zones from and to other servers: transfers, notifications and updates, with what authenticates them.

pub mod answer;
pub mod primary;
pub mod tsig;
