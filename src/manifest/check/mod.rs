//! Checks that the resources of a manifest fit together: references, addresses, names.
//!
//! Decoding checks single values, and the compilation of a zone checks its records. The checks of a
//! changed manifest repeat only the checks that the change can affect ([`Checked::follow`]), and
//! report the same problems in the same order as a full check.

mod blocks;
mod cidr_collections;
mod dhcp;
mod endpoints;
mod firewall;
#[cfg(test)]
mod follow_tests;
mod health_checks;
mod loops;
mod networks;
mod overlap;
mod profiles;
mod query_logs;
mod regions;
mod resolver;
mod routing_policies;
mod shadowed;
#[cfg(test)]
mod tests;
mod zones;

use super::{
    Change, Id, Manifest, PrivateHostedZone, Problem, Resources, Severity, Vpc, VpcEndpoint, changes,
    connectivity::{Connectivity, Network},
    decode::nearest,
    same_resources,
};
use crate::wire::Name;
use blocks::{Blocks, VpcIndex, list};
pub use firewall::protected_associations;
use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

/// The number of unknown references that get a suggestion. Each is compared with all known
/// identifiers.
const MAX_SUGGESTIONS: usize = 100;

/// The number of changed endpoints or zones beyond which zonal checks the whole manifest again.
const MAX_CHANGES: usize = 200;

/// The errors and warnings of a manifest. `now` is the time in seconds since 1970.
pub fn check(manifest: &Manifest, connectivity: &Connectivity, now: i64) -> Vec<Problem> {
    Checked::new(manifest, connectivity, now).problems()
}

/// The checked manifest: its problems, and an index for the check of the next manifest.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// The problems, by the kind of check.
    networks: Arc<[Problem]>,
    services: Arc<[Problem]>,
    endpoints: Arc<[Problem]>,
    shifts: Arc<[Problem]>,
    zones: Arc<[Problem]>,
    resolver_endpoints: Arc<[Problem]>,
    rules: Arc<[Problem]>,
    loops: Arc<[Problem]>,
    forwarders: Arc<[Problem]>,
    query_logs: Arc<[Problem]>,
    health_checks: Arc<[Problem]>,
    cidr_collections: Arc<[Problem]>,
    profiles: Arc<[Problem]>,
    firewall: Arc<[Problem]>,
    shadowed: Arc<[Problem]>,
    index: Index,
}

/// The resources that a change can affect, by different keys. A copy shares its content with the
/// original.
#[derive(Clone, Debug, Default)]
struct Index {
    /// The endpoints of each VPC.
    endpoints_of: OrdMap<Id, OrdSet<Id>>,
    /// The endpoints with capital letters in their identifiers.
    capitalized: OrdSet<Id>,
    /// The zones of each name. The key is the name in lower case.
    zones_named: OrdMap<Box<[u8]>, OrdSet<Id>>,
}

impl Checked {
    /// Checks a whole manifest. `now` is the time in seconds since 1970.
    pub fn new(manifest: &Manifest, connectivity: &Connectivity, now: i64) -> Checked {
        let mut index = Index::default();
        index.follow(&Manifest::default(), manifest);
        let mut checker = Checker::new(manifest, connectivity, now);
        checker.networks();
        checker.overlaps();
        let networks = checker.found();
        checker.services();
        let services = checker.found();
        checker.endpoints(manifest.vpc_endpoints.iter());
        let endpoints = checker.found();
        checker.shifts();
        let shifts = checker.found();
        checker.zones(manifest.private_hosted_zones.iter(), |_, zone| zones::all_sets(zone));
        let zones = checker.found();
        checker.resolver_endpoints();
        let resolver_endpoints = checker.found();
        checker.rules();
        let rules = checker.found();
        checker.loops();
        let loops = checker.found();
        checker.forwarders();
        let forwarders = checker.found();
        checker.query_logs();
        let query_logs = checker.found();
        checker.health_checks();
        let health_checks = checker.found();
        checker.cidr_collections();
        let cidr_collections = checker.found();
        checker.profiles();
        let profiles = checker.found();
        checker.firewall();
        let firewall = checker.found();
        checker.shadowed(&index);
        let shadowed = checker.found();
        Checked {
            networks,
            services,
            endpoints,
            shifts,
            zones,
            resolver_endpoints,
            rules,
            loops,
            forwarders,
            query_logs,
            health_checks,
            cidr_collections,
            profiles,
            firewall,
            shadowed,
            index,
        }
    }

    /// Checks the manifest that follows `old`, of which this is the result and which has no errors.
    /// Repeats only the checks that the change can affect, unless networks changed.
    pub fn follow(&self, old: &Manifest, manifest: &Manifest, connectivity: &Connectivity, now: i64) -> Checked {
        let followed = self.followed(old, manifest, connectivity, now);
        match followed.filter(|checked| !checked.all().any(Problem::is_error)) {
            Some(checked) => checked,
            // The full check reports all errors in their order.
            None => Checked::new(manifest, connectivity, now),
        }
    }

    /// The result of the incremental check. None if the change is too large for it. If there are
    /// errors, some may be missing.
    fn followed(&self, old: &Manifest, manifest: &Manifest, connectivity: &Connectivity, now: i64) -> Option<Checked> {
        let same_services = same_resources(&old.vpc_endpoint_services, &manifest.vpc_endpoint_services);
        let same_rules = same_resources(&old.resolver_rules, &manifest.resolver_rules);
        let endpoints = changes(&old.vpc_endpoints, &manifest.vpc_endpoints);
        let zones = changes(&old.private_hosted_zones, &manifest.private_hosted_zones);
        if !same_networks(old, manifest)
            || !same_resources(&old.health_checks, &manifest.health_checks)
            || !same_resources(&old.cidr_collections, &manifest.cidr_collections)
            || !same_resources(&old.profiles, &manifest.profiles)
            || endpoints.len() > MAX_CHANGES
            || zones.len() > MAX_CHANGES
        {
            return None;
        }
        let mut this = self.clone();
        this.index.follow(old, manifest);
        let mut checker = Checker::new(manifest, connectivity, now);
        if !same_services {
            checker.services();
            this.services = checker.found();
            checker.endpoints(manifest.vpc_endpoints.iter());
            this.endpoints = checker.found();
        } else if !endpoints.is_empty() {
            let affected = endpoints::affected(&endpoints, manifest, &this.index);
            checker.endpoints(affected.iter().map(|(id, endpoint)| (*id, *endpoint)));
            let is_kept = |id: &Id| !affected.contains_key(id) && manifest.vpc_endpoints.contains_key(id);
            this.endpoints = merged(&this.endpoints, &checker.found(), is_kept);
        }
        checker.shifts();
        this.shifts = checker.found();
        if !zones.is_empty() {
            let affected = zones::affected(&zones, manifest, &this.index);
            let before = this.zones.clone();
            let has_flawed_sets: HashSet<&Id> = before.iter().filter_map(zones::id_of_flawed_sets).collect();
            let sets_to_check = |id: &Id, zone| match old.private_hosted_zones.get(id) {
                Some(old) if !has_flawed_sets.contains(id) => zones::sets_to_check(old, zone),
                _ => zones::all_sets(zone),
            };
            checker.zones(affected.iter().map(|(id, zone)| (*id, *zone)), sets_to_check);
            let is_kept = |id: &Id| !affected.contains_key(id) && manifest.private_hosted_zones.contains_key(id);
            this.zones = merged(&this.zones, &checker.found(), is_kept);
        }
        if !same_rules {
            checker.rules();
            this.rules = checker.found();
        }
        if !same_rules || zones.iter().any(zones::changes_routing) {
            checker.loops();
            this.loops = checker.found();
        }
        if !same_resources(&old.forwarders, &manifest.forwarders) {
            checker.forwarders();
            this.forwarders = checker.found();
        }
        if !same_resources(&old.query_log_configs, &manifest.query_log_configs) {
            checker.query_logs();
            this.query_logs = checker.found();
        }
        if !same_services || !endpoints.is_empty() || zones.iter().any(zones::changes_health_checks) {
            checker.health_checks();
            this.health_checks = checker.found();
        }
        let changes_names = !same_services || !endpoints.is_empty() || !zones.is_empty();
        let same_groups = same_resources(&old.firewall_rule_groups, &manifest.firewall_rule_groups);
        let same_logs = same_resources(&old.query_log_configs, &manifest.query_log_configs);
        let changes_members = !same_services
            || !same_rules
            || !same_groups
            || !same_logs
            || !endpoints.is_empty()
            || zones.iter().any(zones::changes_members);
        if !manifest.profiles.is_empty() && changes_members {
            checker.profiles();
            this.profiles = checker.found();
        }
        if !same_resources(&old.firewall_domain_lists, &manifest.firewall_domain_lists)
            || !same_groups
            || changes_names && !manifest.firewall_rule_groups.is_empty()
        {
            checker.firewall();
            this.firewall = checker.found();
        }
        if !same_services || !same_rules || !endpoints.is_empty() || zones.iter().any(zones::changes_shadowing) {
            checker.shadowed(&this.index);
            this.shadowed = checker.found();
        }
        Some(this)
    }

    fn all(&self) -> impl Iterator<Item = &Problem> {
        let first = [&self.networks, &self.services, &self.endpoints, &self.shifts, &self.zones];
        let more = [&self.resolver_endpoints, &self.rules, &self.loops, &self.forwarders, &self.query_logs];
        first
            .into_iter()
            .chain(more)
            .chain([&self.health_checks, &self.cidr_collections, &self.profiles, &self.firewall, &self.shadowed])
            .flat_map(|found| found.iter())
    }

    /// All problems, in the order of the checks.
    pub fn problems(&self) -> Vec<Problem> {
        self.all().cloned().collect()
    }
}

impl Index {
    /// Updates the index from the manifest `old` to `new`.
    fn follow(&mut self, old: &Manifest, new: &Manifest) {
        fn set<K: Ord + Clone>(index: &mut OrdMap<K, OrdSet<Id>>, key: K, id: &Id, exists: bool) {
            let ids = index.entry(key.clone()).or_default();
            match exists {
                true => drop(ids.insert(id.clone())),
                false => drop(ids.remove(id)),
            }
            if ids.is_empty() {
                index.remove(&key);
            }
        }
        for Change { id, old, new } in changes(&old.vpc_endpoints, &new.vpc_endpoints) {
            let vpc = |endpoint: Option<&Arc<VpcEndpoint>>| endpoint.map(|endpoint| endpoint.vpc_id.clone());
            if vpc(old) != vpc(new) {
                vpc(old).into_iter().for_each(|vpc| set(&mut self.endpoints_of, vpc, id, false));
                vpc(new).into_iter().for_each(|vpc| set(&mut self.endpoints_of, vpc, id, true));
            }
            if id.bytes().any(|octet| octet.is_ascii_uppercase()) {
                match new.is_some() {
                    true => drop(self.capitalized.insert(id.clone())),
                    false => drop(self.capitalized.remove(id)),
                }
            }
        }
        for Change { id, old, new } in changes(&old.private_hosted_zones, &new.private_hosted_zones) {
            let name = |zone: Option<&Arc<PrivateHostedZone>>| zone.map(|zone| key_of(&zone.name));
            if name(old) != name(new) {
                name(old).into_iter().for_each(|name| set(&mut self.zones_named, name, id, false));
                name(new).into_iter().for_each(|name| set(&mut self.zones_named, name, id, true));
            }
        }
    }
}

/// A name as a key of a map: equal names have equal keys.
fn key_of(name: &Name) -> Box<[u8]> {
    name.to_lowercase().as_wire().into()
}

/// Merges the old problems of resources that a change does not affect with the new problems, in the
/// order of identifiers.
fn merged(old: &[Problem], new: &[Problem], is_kept: impl Fn(&Id) -> bool) -> Arc<[Problem]> {
    let kept = old.iter().filter(|problem| problem.resource.as_ref().is_some_and(|(_, id)| is_kept(id)));
    let mut all: Vec<Problem> = new.iter().chain(kept).cloned().collect();
    all.sort_by(|a, b| a.resource.cmp(&b.resource));
    all.into()
}

/// Whether two manifests share all networks and entry points.
fn same_networks(a: &Manifest, b: &Manifest) -> bool {
    same_resources(&a.vpcs, &b.vpcs)
        && same_resources(&a.dhcp_options, &b.dhcp_options)
        && same_resources(&a.vpc_peering_connections, &b.vpc_peering_connections)
        && same_resources(&a.transit_gateways, &b.transit_gateways)
        && same_resources(&a.on_premises_networks, &b.on_premises_networks)
        && same_resources(&a.resolver_endpoints, &b.resolver_endpoints)
}

struct Checker<'a> {
    manifest: &'a Manifest,
    connectivity: &'a Connectivity,
    now: i64,
    problems: Vec<Problem>,
    suggestions: usize,
    searchable: HashMap<(*const IpNet, usize), Rc<Blocks>>,
    indexed: HashMap<*const Vpc, Rc<VpcIndex<'a>>>,
    /// The AZ names of all VPCs, computed at first use.
    az_names: Option<regions::AzNames<'a>>,
    /// Kind and identifier of the members of all Profiles, computed at first use.
    in_profiles: Option<HashSet<(&'static str, &'a str)>>,
    /// The last list of VPCs without problems. Many resources have equal lists.
    sound_vpcs: &'a [Id],
}

impl<'a> Checker<'a> {
    fn new(manifest: &'a Manifest, connectivity: &'a Connectivity, now: i64) -> Checker<'a> {
        let (searchable, indexed) = (HashMap::new(), HashMap::new());
        let (problems, suggestions, az_names, in_profiles) = (Vec::new(), 0, None, None);
        Checker {
            manifest,
            connectivity,
            now,
            problems,
            suggestions,
            searchable,
            indexed,
            az_names,
            in_profiles,
            sound_vpcs: &[],
        }
    }

    /// Takes the problems that were found since the last call.
    fn found(&mut self) -> Arc<[Problem]> {
        std::mem::take(&mut self.problems).into()
    }

    fn error(&mut self, kind: &'static str, id: &str, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::error(kind, id, field, message));
    }

    fn warning(&mut self, kind: &'static str, id: &str, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::warning(kind, id, field, message));
    }

    /// Sets the help of the last problem.
    fn help(&mut self, help: impl Into<String>) {
        if let Some(problem) = self.problems.last_mut() {
            problem.help = Some(help.into());
        }
    }

    /// Turns the last problem into a warning, with what zonal does all the same.
    fn weaken(&mut self, instead: &str) {
        if let Some(problem) = self.problems.last_mut() {
            problem.severity = Severity::Warning;
            problem.message = format!("{}: {instead}", problem.message);
        }
    }

    /// Looks up the resource that a field refers to. Adds an error if it does not exist.
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

    /// Adds an error about a reference to a resource that does not exist.
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

    /// Checks a list of VPCs: each exists, and is in the list once.
    fn vpc_list(&mut self, kind: &'static str, id: &str, field: &str, vpc_ids: &'a [Id]) {
        if vpc_ids == self.sound_vpcs {
            return;
        }
        let (before, mut seen) = (self.problems.len(), BTreeSet::new());
        for (at, vpc) in vpc_ids.iter().enumerate() {
            if !seen.insert(vpc) {
                self.warning(kind, id, format!("{field}[{at}]"), format!("`{vpc}` is in the list twice"));
            } else if !self.manifest.vpcs.contains_key(vpc) {
                self.reference((kind, id), format!("{field}[{at}]"), "VPC", vpc, &self.manifest.vpcs);
            }
        }
        if self.problems.len() == before {
            self.sound_vpcs = vpc_ids;
        }
    }

    /// The CIDR blocks of a network.
    fn blocks(&self, network: &Network) -> &'a [IpNet] {
        match network {
            Network::Vpc(id) => self.manifest.vpcs.get(id).map_or(&[], |vpc| &vpc.cidr_blocks),
            Network::OnPremises(id) => self.manifest.on_premises_networks.get(id).map_or(&[], |net| &net.cidr_blocks),
        }
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Whether a text is a label of at most 63 letters, digits, `-` and `_`.
fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// For each key, the resource and field where it was seen first.
type Seen<K> = HashMap<K, (String, String)>;
