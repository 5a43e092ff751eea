//! The counters of transfers, notifications and updates.

use crate::instruments::{counters, gauges, register};
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

/// The counters of transfers, notifications and updates.
pub struct Counters {
    /// Zone transfers, by direction and result.
    pub transfers: IntCounterVec,
    /// Zones that are transferred from primaries, by state.
    pub transferred_zones: IntGaugeVec,
    /// Notifications, by direction and result.
    pub notifies: IntCounterVec,
    /// Dynamic updates, by result.
    pub updates: IntCounterVec,
}

impl Counters {
    /// Counters that are zero.
    pub fn new() -> Counters {
        Counters {
            transfers: counters(
                "zonal_transfers_total",
                "Zone transfers. direction: in, out. result: axfr, ixfr, current (no newer version), refused, failed",
                &["direction", "result"],
                &[&["in", "out"], &["axfr", "ixfr", "current", "refused", "failed"]],
            ),
            transferred_zones: gauges(
                "zonal_transferred_zones",
                "Zones that are transferred from primaries. state: pending, current, retrying, expired",
                "state",
                &["pending", "current", "retrying", "expired"],
            ),
            notifies: counters(
                "zonal_notifies_total",
                "Notifications of changed zones. direction: in, out. result: accepted, refused, failed",
                &["direction", "result"],
                &[&["in", "out"], &["accepted", "refused", "failed"]],
            ),
            updates: counters(
                "zonal_updates_total",
                "Dynamic updates. result: changed, unchanged, prerequisite (one does not hold), refused, failed",
                &["result"],
                &[&["changed", "unchanged", "prerequisite", "refused", "failed"]],
            ),
        }
    }

    /// Registers the counters.
    pub fn register(&self, registry: &Registry) {
        register(registry, self.transfers.clone());
        register(registry, self.transferred_zones.clone());
        register(registry, self.notifies.clone());
        register(registry, self.updates.clone());
    }
}

impl Default for Counters {
    fn default() -> Counters {
        Counters::new()
    }
}
