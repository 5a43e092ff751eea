//! The metrics of the control plane: counters of the publisher, and gauges that a scrape reads from
//! the snapshot and the status.

use super::status::Status;
use crate::{
    clock::now,
    instruments::{Family, counters, gauge, gauges, register, register_read, valid},
    manifest::Health,
    snapshot::{
        Snapshot,
        endpoints::{self, Family as AddressFamily},
        published::Published,
    },
};
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Registry, proto::MetricFamily,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The buckets of the time that a change takes, in seconds: from one resource to a million records.
const CHANGE_BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The counters of the publisher. A clone counts the same.
#[derive(Clone)]
pub struct Counters {
    /// Loads and changes, by result: `changed`, `unchanged` or `failed`.
    pub reloads: IntCounterVec,
    /// Whether the last load failed.
    pub reload_failed: IntGauge,
    /// Whether the state directory could not be written.
    pub state_write_failed: IntGauge,
    /// The time that the last compilation took, in seconds.
    pub compile_seconds: Gauge,
    /// The time from when the node noticed a change until it served it, in seconds.
    pub change_seconds: Histogram,
    /// Problems of the last load.
    pub problems: IntGaugeVec,
    /// When the snapshot was published.
    published_at: Arc<Mutex<Instant>>,
}

impl Counters {
    /// Counters that are zero.
    pub fn new() -> Counters {
        Counters {
            reloads: counters(
                "zonal_reloads_total",
                "Loads of a manifest, or changes to it. result: changed, unchanged, failed",
                &["result"],
                &[&["changed", "unchanged", "failed"]],
            ),
            reload_failed: gauge("zonal_reload_failed", "1 when the last load failed and an older manifest is served"),
            state_write_failed: gauge("zonal_state_write_failed", "1 when the state directory could not be written"),
            compile_seconds: valid(Gauge::new("zonal_compile_seconds", "Time that the last compilation took")),
            change_seconds: valid(Histogram::with_opts(
                HistogramOpts::new(
                    "zonal_change_seconds",
                    "Time from when the node noticed a change until it served it",
                )
                .buckets(CHANGE_BUCKETS.to_vec()),
            )),
            problems: gauges(
                "zonal_problems",
                "Problems of the last load. severity: error, warning",
                "severity",
                &["error", "warning"],
            ),
            published_at: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Registers the counters, and gauges that read `snapshot` and `status`.
    pub fn register(&self, registry: &Registry, snapshot: &Published, status: &Arc<Status>) {
        register(registry, self.reloads.clone());
        register(registry, self.reload_failed.clone());
        register(registry, self.state_write_failed.clone());
        register(registry, self.compile_seconds.clone());
        register(registry, self.change_seconds.clone());
        register(registry, self.problems.clone());
        let (counters, snapshot, status) = (self.clone(), snapshot.clone(), status.clone());
        register_read(registry, "zonal_generation", move || snapshot_gauges(&snapshot, counters.age()));
        register_read(registry, "zonal_stale", move || status_gauges(&status));
    }

    /// Counts a load or a change, with the numbers of its problems.
    pub(super) fn count_load(&self, result: &str, errors: usize, warnings: usize) {
        self.reloads.with_label_values(&[result]).inc();
        self.reload_failed.set((result == "failed").into());
        self.problems.with_label_values(&["error"]).set(errors as i64);
        self.problems.with_label_values(&["warning"]).set(warnings as i64);
    }

    /// Notes that a snapshot is published now.
    pub fn set_published(&self) {
        *self.published_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The age of the snapshot.
    pub fn age(&self) -> Duration {
        self.published_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Default for Counters {
    fn default() -> Counters {
        Counters::new()
    }
}

/// The gauges of the snapshot.
fn snapshot_gauges(snapshot: &Published, age: Duration) -> Vec<MetricFamily> {
    let snapshot = snapshot.load_full();
    let mut all = vec![
        Family::one_gauge("zonal_generation", "Generation that is served", snapshot.generation as f64),
        Family::one_gauge("zonal_snapshot_age_seconds", "Age of the generation", age.as_secs_f64()),
        Family::one_gauge(
            "zonal_digest",
            "First 48 bits of the digest of what is served, as a number: equal on nodes that serve the same",
            digest_number(&snapshot.digest),
        ),
        Family::one_gauge("zonal_views", "Views", snapshot.views.iter().count() as f64),
    ];
    let mut resources = Family::gauge("zonal_resources", "Resources that are served. kind: as in the manifest");
    for (kind, count) in snapshot.manifest.counts() {
        resources.set(&[("kind", kind)], count as f64);
    }
    all.push(resources.done());
    all.extend(interface_gauges(&snapshot, now()));
    all
}

/// The first 48 bits of a digest: a number of Prometheus holds 53 bits exactly.
fn digest_number(digest: &[u8; 32]) -> f64 {
    digest[..6].iter().fold(0_u64, |number, octet| number << 8 | u64::from(*octet)) as f64
}

/// The gauges of the network interfaces of VPC endpoints, by AZ.
fn interface_gauges(snapshot: &Snapshot, now: i64) -> [MetricFamily; 3] {
    let mut counts: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    let mut unusable = Family::gauge(
        "zonal_endpoint_az_unusable",
        "1 for each VPC endpoint and AZ in which it has interfaces, but none that is usable: clients there get addresses of other AZs",
    );
    let mut open = 0;
    for endpoint in snapshot.endpoints.iter().filter(|endpoint| endpoints::has_names(&endpoint.source)) {
        let mut of_azs: BTreeMap<&str, bool> = BTreeMap::new();
        for interface in &endpoint.interfaces {
            let az = snapshot.azs.id(interface.az);
            let is_usable = [AddressFamily::V4, AddressFamily::V6].into_iter().any(|family| {
                interface.address(family).is_some() && interface.is_usable(family, Some(interface.az), now)
            });
            let is_shifted = interface.shifted_until > now && interface.source.health == Health::Healthy;
            let state = match (is_usable, is_shifted) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => 2,
            };
            counts.entry(az).or_default()[state] += 1;
            *of_azs.entry(az).or_default() |= is_usable;
        }
        open += u32::from(!of_azs.is_empty() && of_azs.values().all(|is_usable| !is_usable));
        for (az, _) in of_azs.iter().filter(|(_, is_usable)| !**is_usable) {
            unusable.set(&[("az", az), ("vpc_endpoint", &endpoint.id)], 1.0);
        }
    }
    let mut all = Family::gauge(
        "zonal_endpoint_interfaces",
        "Network interfaces of VPC endpoints that have names. state: usable, shifted (by a zonal shift), unhealthy. \
         CloudWatch has for Resolver endpoints: EndpointHealthyENICount, EndpointUnhealthyENICount",
    );
    for (az, counts) in &counts {
        for (state, count) in ["usable", "shifted", "unhealthy"].iter().zip(counts) {
            all.set(&[("az", az), ("state", state)], (*count).into());
        }
    }
    let open = Family::one_gauge(
        "zonal_endpoints_failing_open",
        "VPC endpoints without a usable interface: zonal answers with all of their interfaces",
        open.into(),
    );
    [all.done(), unusable.done(), open]
}

/// The gauges of the status.
fn status_gauges(status: &Status) -> Vec<MetricFamily> {
    let (is_stale, set_aside, source, revision, held) = {
        let state = status.state();
        (
            state.is_stale,
            state.set_aside.len() + state.unknown_keys.len(),
            state.source.clone(),
            state.persisted.position.revision,
            state.persisted.held.len(),
        )
    };
    let gauge = |name, help, value: u64| Family::one_gauge(name, help, value as f64);
    let mut all = vec![
        gauge(
            "zonal_stale",
            "1 while the node serves the state of an earlier run and has not reached its source since",
            is_stale.into(),
        ),
        gauge("zonal_resources_set_aside", "Resources that are not served as they were delivered", set_aside as u64),
        gauge(
            "zonal_deletions_held",
            "Resources that the source has deleted and that are still served, as too many were deleted at once",
            held as u64,
        ),
        gauge("zonal_source_revision", "Revision of the source that is served", revision),
    ];
    if let Some(source) = source {
        let is_connected = source.is_connected.into();
        all.push(gauge("zonal_source_connected", "1 while the node reaches a source on another machine", is_connected));
        if let Some(contact) = source.last_contact {
            let age = now().saturating_sub(contact).max(0) as u64;
            all.push(gauge("zonal_source_contact_age_seconds", "Time since the last contact with the source", age));
        }
    }
    all
}
