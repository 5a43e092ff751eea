//! Whether a manifest holds together: references, addresses, names. What single values look like is for reading to say,
//! and what the records of a zone mean is for its compilation.

mod endpoints;
#[cfg(test)]
mod follow;
mod loops;
mod networks;
mod overlap;
mod resolver;
#[cfg(test)]
mod tests;
mod zones;

use super::{
    Manifest, Problem, Resources, changes,
    connectivity::{Connectivity, Network},
    decode::nearest,
    same_resources,
};
use ipnet::IpNet;
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

/// How many unknown references get a suggestion: each is compared with all that is known.
const MAX_SUGGESTIONS: usize = 100;

/// More changed endpoints than this are not worth to be told from the others.
const MAX_CHANGES: usize = 200;

/// All that is wrong or odd between the resources of a manifest. `now` is in seconds since 1970.
pub fn check(manifest: &Manifest, connectivity: &Connectivity, now: i64) -> Vec<Problem> {
    Checked::new(manifest, connectivity, now).problems()
}

/// The checks of a manifest. If it is accepted, the work for the manifest that follows can follow the change.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What was found before the endpoints were looked at, of them, of zonal shifts, and after those.
    before: Vec<Problem>,
    endpoints: Vec<Problem>,
    shifts: Vec<Problem>,
    after: Vec<Problem>,
}

impl Checked {
    /// Checks a manifest.
    pub fn new(manifest: &Manifest, connectivity: &Connectivity, now: i64) -> Checked {
        let mut checker = Checker::new(manifest, connectivity, now);
        checker.networks();
        checker.overlaps();
        checker.services();
        let before = std::mem::take(&mut checker.problems);
        checker.endpoints(manifest.vpc_endpoints.iter());
        let endpoints = std::mem::take(&mut checker.problems);
        checker.shifts();
        let shifts = std::mem::take(&mut checker.problems);
        checker.zones();
        checker.resolver_endpoints();
        checker.rules();
        checker.loops();
        checker.forwarders();
        Checked { before, endpoints, shifts, after: checker.problems }
    }

    /// Checks the manifest that follows on `old`, which these are the checks of and which has no errors. Where nothing but
    /// endpoints has changed, only those are looked at that have to do with the change.
    pub fn follow(&self, old: &Manifest, manifest: &Manifest, connectivity: &Connectivity, now: i64) -> Checked {
        if !same_but_endpoints(old, manifest) {
            return Checked::new(manifest, connectivity, now);
        }
        let changed = changes(&old.vpc_endpoints, &manifest.vpc_endpoints);
        if changed.len() > MAX_CHANGES {
            return Checked::new(manifest, connectivity, now);
        }
        let touched = endpoints::touched(&changed, manifest);
        let mut checker = Checker::new(manifest, connectivity, now);
        checker.endpoints(touched.iter().map(|(id, endpoint)| (*id, *endpoint)));
        let mut endpoints = std::mem::take(&mut checker.problems);
        if endpoints.iter().any(Problem::is_error) {
            // All errors, in their order.
            return Checked::new(manifest, connectivity, now);
        }
        let is_kept = |id: &String| !touched.contains_key(id) && manifest.vpc_endpoints.contains_key(id);
        let kept = self.endpoints.iter().filter(|problem| problem.resource.as_ref().is_some_and(|(_, id)| is_kept(id)));
        endpoints.extend(kept.cloned());
        endpoints.sort_by(|a, b| a.resource.cmp(&b.resource));
        checker.shifts();
        Checked { before: self.before.clone(), endpoints, shifts: checker.problems, after: self.after.clone() }
    }

    /// All problems.
    pub fn problems(&self) -> Vec<Problem> {
        [&self.before, &self.endpoints, &self.shifts, &self.after].into_iter().flatten().cloned().collect()
    }
}

/// Whether two manifests have the very same resources of all kinds but `vpc_endpoints`.
fn same_but_endpoints(a: &Manifest, b: &Manifest) -> bool {
    same_resources(&a.vpcs, &b.vpcs)
        && same_resources(&a.vpc_peering_connections, &b.vpc_peering_connections)
        && same_resources(&a.transit_gateways, &b.transit_gateways)
        && same_resources(&a.on_premises_networks, &b.on_premises_networks)
        && same_resources(&a.vpc_endpoint_services, &b.vpc_endpoint_services)
        && same_resources(&a.zonal_shifts, &b.zonal_shifts)
        && same_resources(&a.private_hosted_zones, &b.private_hosted_zones)
        && same_resources(&a.resolver_endpoints, &b.resolver_endpoints)
        && same_resources(&a.resolver_rules, &b.resolver_rules)
        && same_resources(&a.forwarders, &b.forwarders)
}

struct Checker<'a> {
    manifest: &'a Manifest,
    connectivity: &'a Connectivity,
    now: i64,
    problems: Vec<Problem>,
    suggestions: usize,
}

impl<'a> Checker<'a> {
    fn new(manifest: &'a Manifest, connectivity: &'a Connectivity, now: i64) -> Checker<'a> {
        Checker { manifest, connectivity, now, problems: Vec::new(), suggestions: 0 }
    }

    fn error(&mut self, kind: &'static str, id: &str, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::error(kind, id, field, message));
    }

    fn warning(&mut self, kind: &'static str, id: &str, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::warning(kind, id, field, message));
    }

    /// Adds what would be accepted to the last problem.
    fn help(&mut self, help: impl Into<String>) {
        if let Some(problem) = self.problems.last_mut() {
            problem.help = Some(help.into());
        }
    }

    /// Looks up what a field refers to; an error if it is not there.
    fn reference<T>(
        &mut self,
        (kind, id): (&'static str, &str),
        field: impl Into<String>,
        what: &str,
        target: &str,
        known: &'a Resources<T>,
    ) -> Option<&'a T> {
        if let Some(found) = known.get(target) {
            return Some(found);
        }
        self.unknown((kind, id), field, what, target, known.keys().map(String::as_str));
        None
    }

    fn unknown<'k>(
        &mut self,
        (kind, id): (&'static str, &str),
        field: impl Into<String>,
        what: &str,
        target: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        self.error(kind, id, field, format!("there is no {what} `{target}`"));
        self.suggestions += 1;
        if self.suggestions <= MAX_SUGGESTIONS
            && let Some(nearest) = nearest(target, known)
        {
            self.help(format!("did you mean `{nearest}`?"));
        }
    }

    /// Checks a list of VPCs: each is there, and once.
    fn vpc_list(&mut self, kind: &'static str, id: &str, field: &str, vpc_ids: &[String]) {
        let mut seen = BTreeSet::new();
        for (at, vpc) in vpc_ids.iter().enumerate() {
            if !seen.insert(vpc) {
                self.warning(kind, id, format!("{field}[{at}]"), format!("`{vpc}` is in the list already"));
            } else if !self.manifest.vpcs.contains_key(vpc) {
                self.reference((kind, id), format!("{field}[{at}]"), "VPC", vpc, &self.manifest.vpcs);
            }
        }
    }

    /// The address ranges of a network.
    fn blocks(&self, network: &Network) -> &'a [IpNet] {
        match network {
            Network::Vpc(id) => self.manifest.vpcs.get(id).map_or(&[], |vpc| &vpc.cidr_blocks),
            Network::OnPremises(id) => self.manifest.on_premises_networks.get(id).map_or(&[], |net| &net.cidr_blocks),
        }
    }
}

fn contains(blocks: &[IpNet], address: IpAddr) -> bool {
    blocks.iter().any(|block| block.contains(&address))
}

fn covers(blocks: &[IpNet], net: &IpNet) -> bool {
    blocks.iter().any(|block| block.contains(net))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn list(blocks: &[IpNet]) -> String {
    blocks.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
}

/// A label of letters, digits, `-` and `_`, of at most 63 octets.
fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Where something was seen first.
type Seen<K> = HashMap<K, (String, String)>;
