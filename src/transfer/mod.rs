//! Zones from and to other servers: transfers, notifications and updates, with what authenticates them.

pub mod tsig;
