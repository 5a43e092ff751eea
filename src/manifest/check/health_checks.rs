//! Checks of health checks: fields of another type, references, cycles, and unused checks.

use super::Checker;
use crate::manifest::{HealthCheck, HealthCheckType, Id, InterfaceHealthCheck, ProbeType};
use std::collections::BTreeSet;

const KIND: &str = "health_checks";
/// Maximum number of children of a CALCULATED check, as in Route 53.
const MAX_CHILDREN: usize = 255;
/// Maximum length of a path and of a search string, in octets, as in Route 53.
const MAX_TEXT_OCTETS: usize = 255;

/// Fields that health checks and checks of interfaces share.
struct Asking<'c> {
    probe_type: ProbeType,
    port: Option<u16>,
    path: Option<&'c str>,
    search: Option<&'c str>,
    has_name: bool,
    verifies: bool,
    interval: u16,
    timeout: u16,
    thresholds: [(&'static str, u8); 2],
}

impl Checker<'_> {
    pub(super) fn health_checks(&mut self) {
        let manifest = self.manifest;
        for (id, check) in &manifest.health_checks {
            match check.check_type.probe() {
                Some(probe_type) => self.probe_check(id, check, probe_type),
                None => self.without_target(id, check),
            }
        }
        self.cycles();
        self.unused();
        let interfaces =
            manifest.vpc_endpoints.iter().filter_map(|(id, e)| Some(("vpc_endpoints", id, e.health_check.as_ref()?)));
        let services = manifest.vpc_endpoint_services.iter();
        let services = services.filter_map(|(id, s)| Some(("vpc_endpoint_services", id, s.health_check.as_ref()?)));
        for (kind, id, check) in interfaces.chain(services) {
            self.interface_check(kind, id, check);
        }
    }

    fn probe_check(&mut self, id: &Id, check: &HealthCheck, probe_type: ProbeType) {
        let manifest = self.manifest;
        if let Some(vpc) = &check.vpc_id {
            self.reference((KIND, id), "vpc_id", "VPC", vpc, &manifest.vpcs);
        }
        if check.ip_address.is_none() {
            match (&check.fully_qualified_domain_name, &check.vpc_id) {
                (None, _) => {
                    self.error(KIND, id, "", "the check has no target");
                    self.help("`ip_address`, or `fully_qualified_domain_name` with `vpc_id`");
                }
                (Some(_), None) => {
                    self.error(KIND, id, "vpc_id", "missing: the name is resolved in the view of a VPC");
                    self.help("add `vpc_id`, or the target's `ip_address`");
                }
                (Some(_), Some(_)) => {}
            }
        }
        self.asking(
            KIND,
            id,
            "",
            &Asking {
                probe_type,
                port: check.port,
                path: check.resource_path.as_deref(),
                search: check.search_string.as_deref(),
                has_name: check.fully_qualified_domain_name.is_some(),
                verifies: check.verify_certificate,
                interval: check.request_interval,
                timeout: check.timeout,
                thresholds: [
                    ("failure_threshold", check.failure_threshold),
                    ("success_threshold", check.success_threshold),
                ],
            },
        );
        let others = [
            ("child_health_checks", !check.child_health_checks.is_empty()),
            ("health_threshold", check.health_threshold.is_some()),
            ("stale_after", check.stale_after.is_some()),
            ("when_stale", check.when_stale.is_some()),
        ];
        self.foreign(id, check.check_type, &others);
    }

    fn interface_check(&mut self, kind: &'static str, id: &Id, check: &InterfaceHealthCheck) {
        self.asking(
            kind,
            id,
            "health_check",
            &Asking {
                probe_type: check.check_type,
                port: check.port,
                path: check.resource_path.as_deref(),
                search: check.search_string.as_deref(),
                // If the name is missing, a private name of the service replaces it.
                has_name: true,
                verifies: check.verify_certificate,
                interval: check.request_interval,
                timeout: check.timeout,
                thresholds: [
                    ("failure_threshold", check.failure_threshold),
                    ("success_threshold", check.success_threshold),
                ],
            },
        );
    }

    fn asking(&mut self, kind: &'static str, id: &Id, parent: &str, asking: &Asking) {
        let field = |name: &str| if parent.is_empty() { name.to_string() } else { format!("{parent}.{name}") };
        let is_http = asking.probe_type != ProbeType::Tcp;
        match asking.port {
            Some(0) => self.error(kind, id, field("port"), "it must be from 1 to 65535"),
            None if !is_http => {
                self.error(kind, id, field("port"), "missing: a check of type TCP has no default port");
                self.help("add `port`");
            }
            _ => {}
        }
        if !(1..=300).contains(&asking.interval) {
            self.error(kind, id, field("request_interval"), "it must be from 1 to 300 seconds");
        }
        if !(1..=60).contains(&asking.timeout) {
            self.error(kind, id, field("timeout"), "it must be from 1 to 60 seconds");
        }
        for (name, threshold) in asking.thresholds {
            if !(1..=10).contains(&threshold) {
                self.error(kind, id, field(name), "it must be from 1 to 10");
            }
        }
        for (name, text) in [("resource_path", asking.path), ("search_string", asking.search)] {
            let Some(text) = text else { continue };
            if !is_http {
                self.error(kind, id, field(name), "a check of type TCP sends no request");
            } else if text.len() > MAX_TEXT_OCTETS || text.is_empty() {
                self.error(kind, id, field(name), format!("it must have 1 to {MAX_TEXT_OCTETS} octets"));
            }
        }
        if let Some(path) = asking.path.filter(|_| is_http)
            && (!path.starts_with('/') || path.bytes().any(|octet| octet <= b' ' || octet >= 0x7f))
        {
            self.error(kind, id, field("resource_path"), "expected a path such as /healthz, of printable ASCII");
        }
        if asking.verifies && asking.probe_type != ProbeType::Https {
            self.error(kind, id, field("verify_certificate"), "only a check of type HTTPS gets a certificate");
        } else if asking.verifies && !asking.has_name {
            self.warning(kind, id, field("verify_certificate"), "the certificate must be valid for the IP address");
            self.help("add `fully_qualified_domain_name` with the name in the certificate");
        }
    }

    /// Checks a health check that sends no requests: CALCULATED or EXTERNAL.
    fn without_target(&mut self, id: &Id, check: &HealthCheck) {
        let manifest = self.manifest;
        let is_calculated = check.check_type == HealthCheckType::Calculated;
        let others = [
            ("ip_address", check.ip_address.is_some()),
            ("fully_qualified_domain_name", check.fully_qualified_domain_name.is_some()),
            ("vpc_id", check.vpc_id.is_some()),
            ("port", check.port.is_some()),
            ("resource_path", check.resource_path.is_some()),
            ("search_string", check.search_string.is_some()),
            ("verify_certificate", check.verify_certificate),
            ("child_health_checks", !is_calculated && !check.child_health_checks.is_empty()),
            ("health_threshold", !is_calculated && check.health_threshold.is_some()),
            ("stale_after", is_calculated && check.stale_after.is_some()),
            ("when_stale", is_calculated && check.when_stale.is_some()),
        ];
        self.foreign(id, check.check_type, &others);
        if check.stale_after == Some(0) {
            self.error(KIND, id, "stale_after", "it must be at least 1 second");
        }
        if check.when_stale.is_some() && check.stale_after.is_none() {
            self.warning(
                KIND,
                id,
                "when_stale",
                "it counts before the first report only, as reports do not become stale",
            );
            self.help("add `stale_after`");
        }
        if !is_calculated {
            return;
        }
        let mut seen = BTreeSet::new();
        for (at, child) in check.child_health_checks.iter().enumerate() {
            let field = format!("child_health_checks[{at}]");
            if !seen.insert(child) {
                self.warning(KIND, id, field, format!("`{child}` is in the list twice"));
            } else {
                self.reference((KIND, id), field, "health check", child, &manifest.health_checks);
            }
        }
        let count = check.child_health_checks.len();
        if count > MAX_CHILDREN {
            self.error(KIND, id, "child_health_checks", format!("it must have at most {MAX_CHILDREN} health checks"));
        }
        match check.health_threshold {
            None => {
                self.error(KIND, id, "health_threshold", "missing: how many of the children must be healthy");
                self.help(format!("from 1 to {}", count.max(1)));
            }
            Some(0) => self.warning(KIND, id, "health_threshold", "with 0, the check is always healthy"),
            Some(threshold) if usize::from(threshold) > count => {
                let message = format!("with {threshold} of {count} children, the check is always unhealthy");
                self.warning(KIND, id, "health_threshold", message);
            }
            Some(_) => {}
        }
    }

    /// Reports an error for each field that belongs to another type.
    fn foreign(&mut self, id: &Id, check_type: HealthCheckType, fields: &[(&'static str, bool)]) {
        for (field, _) in fields.iter().filter(|(_, is_given)| *is_given) {
            self.error(KIND, id, *field, format!("a check of type {check_type} does not have it"));
        }
    }

    /// Warns of health checks that nothing uses.
    fn unused(&mut self) {
        let manifest = self.manifest;
        if manifest.health_checks.is_empty() {
            return;
        }
        let records = manifest.private_hosted_zones.values().flat_map(|zone| &zone.records);
        let of_records = records.filter_map(|set| set.health_check_id.as_ref());
        let of_checks = manifest.health_checks.values().flat_map(|check| &check.child_health_checks);
        let used: BTreeSet<&Id> = of_records.chain(of_checks).collect();
        for id in manifest.health_checks.keys().filter(|id| !used.contains(id)) {
            self.warning(KIND, id, "", "no record set uses the check, nor another check");
            self.help("name it in the `health_check_id` of a record set, or in `child_health_checks`");
        }
    }

    /// Reports an error for each cycle of CALCULATED checks.
    fn cycles(&mut self) {
        let checks = &self.manifest.health_checks;
        // No cycle goes through the checks in `done`.
        let mut done: BTreeSet<&Id> = BTreeSet::new();
        let mut cyclic: Vec<(Id, Vec<&str>)> = Vec::new();
        for (start, _) in checks {
            // The checks between `start` and the current check, each with the index of its next
            // child.
            let mut path: Vec<(&Id, usize)> = vec![(start, 0)];
            let mut on_path: BTreeSet<&Id> = BTreeSet::from([start]);
            while let Some((id, next)) = path.last_mut() {
                let id = *id;
                let child = checks.get(id).and_then(|check| check.child_health_checks.get(*next));
                *next += 1;
                match child.and_then(|child| checks.get_key_value(child)) {
                    None if child.is_some() => {}
                    None => {
                        done.insert(id);
                        on_path.remove(id);
                        path.pop();
                    }
                    Some((child, _)) if on_path.contains(child) => {
                        let from = path.iter().position(|(id, _)| *id == child).unwrap_or_default();
                        let names = path[from..].iter().map(|(id, _)| id.as_str()).chain([child.as_str()]).collect();
                        cyclic.push((child.clone(), names));
                    }
                    Some((child, _)) if done.contains(child) => {}
                    Some((child, _)) => {
                        on_path.insert(child);
                        path.push((child, 0));
                    }
                }
            }
        }
        for (id, names) in cyclic {
            self.error(KIND, &id, "child_health_checks", format!("the check contains itself: {}", names.join(" -> ")));
        }
    }
}

#[cfg(test)]
mod tests;
