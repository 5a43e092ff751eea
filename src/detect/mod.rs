//! The detectors of DNS Firewall: tunnels, and clients that look for names of a domain generation algorithm (DGA).
//!
//! They look at cache misses only, so a query that the cache answers costs nothing. A tunnel never asks for the same name
//! twice, so each of its queries is a cache miss.
//!
//! ```text
//! forward::request -> Detectors::observe      the query name of a cache miss, and the response code
//!                  -> tunnels: the octets of new names below each registered domain, within an hour
//!                  -> generated: the registered domains of a client that do not exist and look generated
//!                  -> Detections              at the threshold LOW or above: answers read the finding from now on
//! ```
//!
//! Each VPC has tables of its own, of constant size, and no VPC sees the findings of another. Nothing is written to disk.

mod generated;
mod sketch;
#[cfg(test)]
mod tests;
mod tunnels;

use crate::{
    instruments::{Family, register_read},
    manifest::{
        ConfidenceThreshold,
        DnsThreatProtection::{self, Dga, DnsTunneling},
    },
    snapshot::firewall::{
        detections::{Detections, Findings, Numbers, client_key, threshold},
        generated::looks_generated,
        registered::registered,
        rules::RuleSet,
    },
    wire::{name::name_text, query::LookupName},
};
use generated::Clients;
use prometheus::{Registry, proto::MetricFamily};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tunnels::Tunnels;

/// The length of the time in which the detectors count, in seconds.
const HOUR: i64 = 3600;
/// The detectors that exist.
const DETECTORS: [DnsThreatProtection; 2] = [Dga, DnsTunneling];

/// A query that missed the cache, with the answer of the other servers.
pub struct Miss<'a> {
    /// The identifier of the VPC whose rules filter the query.
    pub vpc: &'a str,
    /// Its findings.
    pub detections: &'a Detections,
    /// Its rules.
    pub rules: &'a RuleSet,
    /// The index of the rule on a list that ends the evaluation for the name; `u32::MAX` if none does. The detectors of the rules
    /// behind it do not see the name.
    pub end: u32,
    /// The address of the client.
    pub client: IpAddr,
    /// The query name.
    pub name: &'a LookupName,
    /// Whether the name does not exist.
    pub is_nxdomain: bool,
    /// Seconds since 1970.
    pub now: i64,
}

/// The detectors of all VPCs.
#[derive(Default)]
pub struct Detectors {
    vpcs: Mutex<HashMap<Box<str>, Arc<OfVpc>>>,
}

/// The detectors of a VPC.
struct OfVpc {
    detections: Detections,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    tunnels: Tunnels,
    clients: Clients,
    /// The number of new findings, by the index of the detector in [`DETECTORS`].
    found: [u64; 2],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Detectors {
    /// Takes a cache miss into account. Call this once for the query's own name.
    pub fn observe(&self, miss: &Miss) {
        let name = miss.name;
        let Some(found) = registered(name) else { return };
        let has_rule = |protection| miss.rules.thresholds(protection, miss.end).next().is_some();
        let octets = if has_rule(DnsTunneling) { tunnels::information(name, found.below) } else { 0 };
        let is_generated =
            miss.is_nxdomain && found.is_public && has_rule(Dga) && looks_generated(name.label(found.below));
        if octets == 0 && !is_generated {
            return;
        }
        let domain = name.hash(found.below);
        let of_vpc = self.of_vpc(miss);
        let mut tables = lock(&of_vpc.tables);
        if octets > 0
            && let Some(numbers) = tables.tunnels.add(domain, name.hash(0), octets, miss.now)
        {
            let text = || name_text(name.suffix(found.below));
            tables.report(miss, DnsTunneling, miss.detections.tunnels(), domain, numbers, text);
        }
        if is_generated {
            let client = client_key(miss.client);
            let numbers = tables.clients.add(client, domain, miss.now);
            let text = || name_text(name.suffix(found.below));
            tables.report(miss, Dga, miss.detections.clients(), client, numbers, text);
        }
    }

    /// The detectors of the VPC of a query.
    fn of_vpc(&self, miss: &Miss) -> Arc<OfVpc> {
        let mut vpcs = lock(&self.vpcs);
        if let Some(of_vpc) = vpcs.get(miss.vpc)
            && of_vpc.detections.is_same(miss.detections)
        {
            return of_vpc.clone();
        }
        // The rules of the VPC are new. Others may have lost theirs.
        vpcs.retain(|_, of_vpc| !of_vpc.detections.is_unused());
        let of_vpc = Arc::new(OfVpc { detections: miss.detections.clone(), tables: Mutex::default() });
        vpcs.insert(miss.vpc.into(), of_vpc.clone());
        of_vpc
    }

    /// Registers the metrics.
    pub fn register(self: &Arc<Self>, registry: &Registry) {
        let this = self.clone();
        register_read(registry, "zonal_firewall_detector_entries", move || this.families());
    }

    fn families(&self) -> Vec<MetricFamily> {
        let mut entries = Family::gauge(
            "zonal_firewall_detector_entries",
            "Entries in the tables of the detectors, for all VPCs: registered domains for DNS_TUNNELING, clients for DGA. A VPC \
             has at most 1,024 of each",
        );
        let mut uncounted = Family::counter(
            "zonal_firewall_detector_uncounted_total",
            "Cache misses that a detector did not count, because its table was full of entries with more octets or domains",
        );
        let mut findings = Family::counter(
            "zonal_firewall_findings_total",
            "Findings of a detector that reached the threshold of a rule, each once: domains for DNS_TUNNELING, clients for DGA",
        );
        let (mut count, mut lost, mut found) = ([0; 2], [0; 2], [0; 2]);
        for of_vpc in lock(&self.vpcs).values() {
            let tables = lock(&of_vpc.tables);
            let of_tables = [tables.clients.counts(), tables.tunnels.counts()];
            for (index, (entries, uncounted)) in of_tables.into_iter().enumerate() {
                count[index] += entries;
                lost[index] += uncounted;
                found[index] += tables.found[index];
            }
        }
        for (index, detector) in DETECTORS.iter().enumerate() {
            let labels = [("detector", detector.word())];
            entries.set(&labels, count[index] as f64);
            uncounted.set(&labels, lost[index] as f64);
            findings.set(&labels, found[index] as f64);
        }
        vec![entries.done(), uncounted.done(), findings.done()]
    }
}

impl Tables {
    /// Stores numbers that reach the threshold LOW, and logs a finding that reaches the threshold of a rule for the first time.
    fn report(
        &mut self,
        miss: &Miss,
        protection: DnsThreatProtection,
        findings: &Findings,
        key: u64,
        numbers: Numbers,
        domain: impl Fn() -> String,
    ) {
        if numbers.amount < threshold(protection, ConfidenceThreshold::Low) {
            return;
        }
        let before = findings.put(key, numbers, miss.now);
        let reached = |threshold: &u32| before.amount < *threshold && numbers.amount >= *threshold;
        let Some(threshold) = miss.rules.thresholds(protection, miss.end).filter(reached).max() else { return };
        let (vpc, client, domain) = (miss.vpc, miss.client, domain());
        let Numbers { amount, names } = numbers;
        match protection {
            DnsTunneling => {
                self.found[1] += 1;
                tracing::warn!(vpc, domain, %client, octets_per_hour = amount, names, threshold, "DNS tunnel found");
            }
            _ => {
                self.found[0] += 1;
                tracing::warn!(vpc, %client, domains_per_hour = amount, domain, threshold, "generated names found");
            }
        }
    }
}
