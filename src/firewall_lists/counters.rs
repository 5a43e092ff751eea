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
            let mut family = Family::gauge(name, "Entries of a DNS Firewall list. list: the list");
            for list in lists.report() {
                family.set(&[("list", &list.id)], list.entries as f64);
            }
            vec![family.done()]
        };
        instruments::register_read(registry, name, read);
        let (lists, name) = (self.clone(), "zonal_firewall_list_age_seconds");
        let read = move || {
            let help =
                "Time since the source of a DNS Firewall list last confirmed the copy that is served. list: the list";
            let mut family = Family::gauge(name, help);
            let now = now();
            for (list, confirmed) in lists.report().into_iter().filter_map(|list| Some((list.id, list.confirmed?))) {
                family.set(&[("list", &list)], (now - confirmed).max(0) as f64);
            }
            vec![family.done()]
        };
        instruments::register_read(registry, name, read);
        let (lists, name) = (self.clone(), "zonal_firewall_list_failed");
        let read = move || {
            let help = "1 if the last reading of a DNS Firewall list failed or was refused, 0 if not. list: the list";
            let mut family = Family::gauge(name, help);
            for list in lists.report() {
                family.set(&[("list", &list.id)], f64::from(u8::from(list.error.is_some())));
            }
            vec![family.done()]
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
