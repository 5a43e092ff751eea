//! Metrics of the lists.

use super::FirewallLists;
use crate::{
    clock::now,
    instruments::{self, Family},
};
use prometheus::{IntCounterVec, Registry};
use std::sync::Arc;

/// Counts of what happened to lists.
#[derive(Clone, Debug)]
pub struct Counters {
    refreshes: IntCounterVec,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            refreshes: instruments::counters(
                "zonal_firewall_list_refreshes_total",
                "Readings of DNS Firewall lists that have a source. result: loaded, unchanged, failed",
                &["result"],
                &[&["loaded", "unchanged", "failed"]],
            ),
        }
    }
}

impl Counters {
    /// Counts a reading.
    pub fn refreshed(&self, result: &str) {
        self.refreshes.with_label_values(&[result]).inc();
    }
}

impl FirewallLists {
    /// Registers the metrics.
    pub fn register(self: &Arc<Self>, registry: &Registry) {
        instruments::register(registry, self.counters.refreshes.clone());
        let (lists, name) = (self.clone(), "zonal_firewall_list_entries");
        let read = move || {
            let mut entries = Family::gauge(name, "Entries of a DNS Firewall list. list: the list");
            let mut ages = Family::gauge(
                "zonal_firewall_list_age_seconds",
                "Time since the source of a DNS Firewall list last confirmed the copy that is served. list: the list",
            );
            let mut failed = Family::gauge(
                "zonal_firewall_list_failed",
                "1 if the last reading of a DNS Firewall list failed or was refused, 0 if not. list: the list",
            );
            let now = now();
            for list in lists.report() {
                let labels = [("list", &*list.id)];
                entries.set(&labels, list.entries as f64);
                if let Some(confirmed) = list.confirmed {
                    ages.set(&labels, (now - confirmed).max(0) as f64);
                }
                failed.set(&labels, f64::from(u8::from(list.error.is_some())));
            }
            vec![entries.done(), ages.done(), failed.done()]
        };
        instruments::register_read(registry, name, read);
        let (lists, name) = (self.clone(), "zonal_firewall_list_table_octets");
        let read = move || {
            let mut family = Family::gauge(name, "Memory of the table of all DNS Firewall lists");
            family.set(&[], lists.snapshot.load().firewall_lists.memory() as f64);
            vec![family.done()]
        };
        instruments::register_read(registry, name, read);
    }
}
