//! Counters of health checks.

use crate::{
    instruments::{self, Family},
    snapshot::{
        health::{TargetId, Work},
        published::Published,
    },
};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

/// Metrics of the health checks.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Number of attempts started.
    pub attempts: IntCounter,
    results: IntCounterVec,
    /// The members of `results`: of failures, and of successes.
    failures_and_successes: [IntCounter; 2],
    targets: IntGauge,
    /// Whether the node is isolated.
    pub isolated: IntGauge,
    /// Number of other nodes whose verdicts count.
    pub reporters: IntGauge,
}

impl Default for Counters {
    fn default() -> Counters {
        let results = instruments::counters(
            "zonal_health_results_total",
            "Attempts of health checks that have ended. result: success, failure",
            &["result"],
            &[&["success", "failure"]],
        );
        Counters {
            attempts: instruments::valid(IntCounter::new(
                "zonal_health_attempts_total",
                "Attempts of health checks that have begun",
            )),
            failures_and_successes: ["failure", "success"].map(|result| results.with_label_values(&[result])),
            results,
            targets: instruments::gauge("zonal_health_targets", "Targets of health checks"),
            isolated: instruments::gauge(
                "zonal_health_isolated",
                "1 while the node is isolated: nearly all of its targets failed at once, so that it keeps their verdicts",
            ),
            reporters: instruments::gauge(
                "zonal_health_reporters",
                "Other nodes that share their verdicts with this node; 0 if this node decides alone",
            ),
        }
    }
}

impl Counters {
    /// Counts the result of an attempt.
    pub fn ended(&self, is_success: bool) {
        self.failures_and_successes[usize::from(is_success)].inc();
    }

    /// Sets the number of targets.
    pub fn set_targets(&self, count: usize) {
        self.targets.set(count as i64);
    }

    /// Registers the metrics, including the unhealthy targets of the published snapshot.
    pub fn register(&self, registry: &Registry, snapshot: &Published) {
        instruments::register(registry, self.attempts.clone());
        instruments::register(registry, self.results.clone());
        instruments::register(registry, self.targets.clone());
        instruments::register(registry, self.isolated.clone());
        instruments::register(registry, self.reporters.clone());
        let (of_certificates, name) = (snapshot.clone(), "zonal_health_certificate_expiry_timestamp_seconds");
        let read = move || {
            let mut family = Family::gauge(
                name,
                "Expiry of the certificate of each target of a health check with verify_certificate. health_check: the check, or \
                 the endpoint. address: the address of an endpoint's interface",
            );
            let is_verified = |work: &Work| matches!(work, Work::Probe(probe) if probe.question.verify_certificate);
            for target in of_certificates.load().health_targets.iter().filter(|target| is_verified(&target.work)) {
                let Some(expiry) = target.verdict.report().certificate_expiry else { continue };
                let (check, address) = labels(&target.id);
                family.set(&[("address", &address), ("health_check", check)], expiry as f64);
            }
            vec![family.done()]
        };
        instruments::register_read(registry, name, read);
        let (snapshot, name) = (snapshot.clone(), "zonal_health_unhealthy");
        let read = move || {
            let mut family = Family::gauge(
                name,
                "1 for each target of a health check that answers do not use. health_check: the check, or the endpoint. address: \
                 the address of an endpoint's interface. kind: probe, calculated, external",
            );
            for target in snapshot.load().health_targets.iter().filter(|target| !target.verdict.is_healthy()) {
                let (check, address) = labels(&target.id);
                let kind = match target.work {
                    Work::Probe(_) => "probe",
                    Work::Calculated { .. } => "calculated",
                    Work::External { .. } => "external",
                };
                family.set(&[("address", &address), ("health_check", check), ("kind", kind)], 1.0);
            }
            vec![family.done()]
        };
        instruments::register_read(registry, name, read);
    }
}

/// The check or endpoint of a target, and its address, as labels.
fn labels(id: &TargetId) -> (&str, String) {
    match id {
        TargetId::Check(id) => (id, String::new()),
        TargetId::Interface { endpoint, address } => (endpoint, address.to_string()),
    }
}
