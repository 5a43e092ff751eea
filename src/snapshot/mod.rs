//! The snapshot: the immutable structure that zonal answers from, compiled from a manifest.
//!
//! [`compile`] is pure, and the time it takes follows the size of the change: a snapshot shares unchanged networks, zones,
//! endpoints and views with the previous one. This room does not check manifests (`manifest::check` does) and does not
//! answer (`answer` does).
//!
//! ```text
//! Manifest -> zones -> networks -> endpoints -> aliases -> views -> query_logs -> Snapshot
//! ```

pub mod aliases;
pub mod autodefined;
pub mod cidrs;
pub mod endpoints;
pub mod firewall;
pub mod forwarders;
pub mod health;
#[cfg(test)]
mod metadata_tests;
pub mod names;
pub mod networks;
pub mod published;
pub mod query_logs;
pub mod regions;
pub mod routes;
pub mod slots;
mod spans;
pub mod views;
pub mod zone;
pub mod zones;

use crate::manifest::{
    Id, Loaded, Manifest, Problem, Transferred, catalog::OmittedMember, connectivity::Connectivity, same_resources,
};
use aliases::Aliases;
use cidrs::CidrTables;
use endpoints::{Azs, Endpoints, Renamed};
use firewall::{
    rules::{self, Firewall},
    table::Lists,
};
use health::Targets;
use ipnet::IpNet;
use networks::Networks;
use query_logs::{Allowed, QueryLogs};
use routes::{Route, Servers};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};
use views::{View, Views};
use zone::Zone;
use zones::Zones;

/// The node's own configuration, as far as answers depend on it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The name server identifier (NSID, RFC 5001).
    pub nsid: Box<[u8]>,
    /// Secrets of DNS cookies. The first one makes cookies, and all are accepted (RFC 9018, 5).
    pub cookie_secrets: Vec<[u8; 16]>,
    /// The idle time-out of TCP connections that clients are told (RFC 7828), in units of 100 ms.
    pub tcp_keepalive: u16,
    /// The time of the start, in seconds since 1970. It is the first serial of a transferred zone whose source has none.
    pub started: u32,
    /// The route of the internet resolver, for names that no zone, rule or endpoint has; none: these names are REFUSED.
    pub internet: Option<Arc<Route>>,
    /// The node's own recursion does not validate, except for VPCs with `dnssec_validation: true`.
    pub is_validation_off: bool,
    /// The allowed destinations of query logs; none where no log is written, as in `zonal check`.
    pub query_logs: Option<Allowed>,
    /// The node sends DNS Firewall events to an HTTP server.
    pub sends_firewall_events: bool,
    /// The node reads DNS Firewall lists from their sources. False where nobody does, as in `zonal check`: rules with a list that
    /// is not there are ignored.
    pub loads_firewall_lists: bool,
    /// Addresses that health checks may ask beside those of the manifest's networks.
    pub health_allow: Vec<IpNet>,
}

impl Node {
    /// Whether the node resolves names of the Internet itself, from the root on.
    pub fn resolves_names(&self) -> bool {
        self.internet.as_ref().is_some_and(|route| matches!(route.servers, Servers::Recursion))
    }
}

/// The structure that zonal answers from.
pub struct Snapshot {
    /// The generation, which rises by one with each published change.
    pub generation: u64,
    /// The digest of its sources.
    pub digest: [u8; 32],
    /// It is from an earlier run, and the source has not been reached since.
    pub is_stale: bool,
    /// The node's own configuration.
    pub node: Arc<Node>,
    /// The manifest that it was compiled from, without master files.
    pub manifest: Arc<Manifest>,
    /// The manifest without changes of names, tags and other members that no answer depends on.
    served: Arc<Manifest>,
    /// The copies of zones that zonal transfers from primaries.
    pub transferred: Transferred,
    /// The zones that catalogs list, and that zonal does not serve.
    pub omitted_members: Vec<OmittedMember>,
    /// The Availability Zones, by number.
    pub azs: Azs,
    /// The networks, with their entry points and forwarders.
    pub networks: Arc<Networks>,
    /// The VPC endpoints, with their names and interfaces.
    pub endpoints: Endpoints,
    /// The views.
    pub views: Arc<Views>,
    /// The private hosted zones.
    pub zones: Zones,
    /// The query logs.
    pub query_logs: Arc<QueryLogs>,
    /// The health targets, with their verdicts.
    pub health_targets: Targets,
    /// The names of all DNS Firewall lists.
    pub firewall_lists: Arc<Lists>,
    /// The DNS Firewall rules of each view.
    pub firewall: Arc<Firewall>,
    /// The CIDR collections.
    cidr_tables: CidrTables,
    aliases: Aliases,
    /// The serials of zones that secondaries copy, including zones that are deleted.
    pub serials: zones::Serials,
}

impl Snapshot {
    /// The labels of all views of this process, by [`crate::answer::Answered::view`].
    pub fn view_labels(&self) -> &[Arc<str>] {
        &self.views.labels
    }

    /// The connectivity of a manifest, if its networks are those of this snapshot.
    pub fn connectivity_of(&self, manifest: &Manifest) -> Option<&Connectivity> {
        let is_same = has_same_networks(&self.manifest, manifest) || has_same_networks(&self.served, manifest);
        is_same.then_some(&self.networks.connectivity)
    }

    /// The addresses of all entry points of the manifest, in order.
    pub fn entry_point_addresses(&self) -> Vec<IpAddr> {
        let mut entry_points: Vec<IpAddr> = self.networks.entry_points.keys().copied().collect();
        entry_points.sort_unstable();
        entry_points
    }

    /// The next generation, with a changed configuration of the node.
    pub fn with_node(&self, node: Arc<Node>) -> Snapshot {
        Snapshot { generation: self.generation + 1, node, ..self.with_stale(self.is_stale) }
    }

    /// A copy that is stale or not.
    pub fn with_stale(&self, is_stale: bool) -> Snapshot {
        Snapshot {
            generation: self.generation,
            digest: self.digest,
            is_stale,
            node: self.node.clone(),
            manifest: self.manifest.clone(),
            served: self.served.clone(),
            transferred: self.transferred.clone(),
            omitted_members: self.omitted_members.clone(),
            azs: self.azs.clone(),
            networks: self.networks.clone(),
            endpoints: self.endpoints.clone(),
            views: self.views.clone(),
            zones: self.zones.clone(),
            query_logs: self.query_logs.clone(),
            health_targets: self.health_targets.clone(),
            firewall_lists: self.firewall_lists.clone(),
            firewall: self.firewall.clone(),
            cidr_tables: self.cidr_tables.clone(),
            aliases: self.aliases.clone(),
            serials: self.serials.clone(),
        }
    }

    /// The same generation with other names in its DNS Firewall lists.
    pub fn with_firewall_lists(&self, firewall_lists: Arc<Lists>) -> Snapshot {
        let input = rules::Input {
            manifest: &self.served,
            networks: &self.networks,
            views: &self.views,
            lists: &firewall_lists,
            is_offline: !self.node.loads_firewall_lists,
        };
        let compile = || Firewall::compile(&input, &self.firewall);
        let firewall = match firewall_lists.has_states_of(&self.firewall_lists) {
            true => self.firewall.clone(),
            false => Arc::new(compile()),
        };
        Snapshot { firewall_lists, firewall, ..self.with_stale(self.is_stale) }
    }

    /// A private hosted zone.
    pub fn zone(&self, id: &str) -> Option<&Arc<Zone>> {
        self.zones.of(id)
    }

    /// Whether a health check may ask an address: one of the manifest's networks, or one that the node's configuration allows.
    pub fn may_check(&self, address: IpAddr) -> bool {
        health::may_check(address, &self.networks, &self.node.health_allow)
    }

    /// Whether a health check may connect to an address that a name has in a VPC. The address must be in a network that the VPC
    /// reaches, or in a block that the node's configuration allows.
    pub fn may_check_from(&self, vpc: &str, address: IpAddr) -> bool {
        health::may_check_from(vpc, address, &self.networks, &self.node.health_allow)
    }

    /// Whether answers of the node's own recursion are validated for the clients of a view.
    #[inline]
    pub fn validates(&self, view: &View) -> bool {
        view.dnssec_validation.unwrap_or(!self.node.is_validation_off)
    }

    /// The private hosted zones, by identifier.
    pub fn zones(&self) -> impl ExactSizeIterator<Item = &Arc<Zone>> {
        self.zones.iter()
    }
}

/// Whether two manifests share all networks, entry points and forwarders.
fn has_same_networks(ours: &Manifest, theirs: &Manifest) -> bool {
    same_resources(&ours.vpcs, &theirs.vpcs)
        && same_resources(&ours.vpc_peering_connections, &theirs.vpc_peering_connections)
        && same_resources(&ours.transit_gateways, &theirs.transit_gateways)
        && same_resources(&ours.on_premises_networks, &theirs.on_premises_networks)
        && same_resources(&ours.resolver_endpoints, &theirs.resolver_endpoints)
        && same_resources(&ours.forwarders, &theirs.forwarders)
}

/// The result of a compilation: a snapshot and warnings, or errors and warnings.
pub type Compiled = Result<(Snapshot, Vec<Problem>), Vec<Problem>>;

/// Compiles a checked manifest. `problems` are those of the checks: they come first in the result, and an error among them
/// makes the compilation fail.
pub fn compile_checked(
    loaded: &Loaded,
    node: &Arc<Node>,
    previous: Option<&Snapshot>,
    mut problems: Vec<Problem>,
) -> Compiled {
    let compiled = match compile(loaded, node, previous) {
        Ok((snapshot, more)) => {
            problems.extend(more);
            Some(snapshot)
        }
        Err(more) => {
            problems.extend(more);
            None
        }
    };
    match compiled {
        Some(snapshot) if !problems.iter().any(Problem::is_error) => Ok((snapshot, problems)),
        _ => Err(problems),
    }
}

/// Warns about `dnssec_validation: true` where the node has nothing to validate.
fn without_recursion<'m>(manifest: &'m Manifest, node: &Node) -> impl Iterator<Item = Problem> + 'm {
    let has_no_recursion = node.internet.as_ref().is_some_and(|route| route.servers != Servers::Recursion);
    let vpcs = manifest.vpcs.iter().filter(move |(_, vpc)| has_no_recursion && vpc.dnssec_validation == Some(true));
    vpcs.map(|(id, _)| {
        let message = "the field has no effect: the internet resolver of this node forwards";
        let mut problem = Problem::warning("vpcs", id, "dnssec_validation", message);
        problem.help =
            Some("set `internet_resolver: {recursive: true}` in zonal.yaml, or forward to a validating server".into());
        problem
    })
}

/// Compiles the views, or takes those of `previous` if nothing that they depend on has changed.
fn compile_views(
    input: &views::Input,
    previous: Option<&Snapshot>,
    has_same_networks: bool,
    changed_zones: &BTreeSet<Id>,
    renamed: &Renamed,
) -> Arc<Views> {
    let Some(same) = previous.filter(|_| has_same_networks) else {
        let labels = previous.map(|previous| previous.views.labels.clone()).unwrap_or_default();
        return Arc::new(views::compile(input, None, &labels));
    };
    if changed_zones.is_empty()
        && renamed.private().next().is_none()
        && same_resources(&same.served.resolver_rules, &input.manifest.resolver_rules)
        && same_resources(&same.served.profiles, &input.manifest.profiles)
    {
        return same.views.clone();
    }
    let before = views::Previous {
        views: &same.views,
        manifest: &same.served,
        endpoints: &same.endpoints,
        zones: &same.zones,
        changed_zones,
        renamed,
    };
    Arc::new(views::compile(input, Some(&before), &same.views.labels))
}

/// Compiles a manifest. The snapshot shares unchanged parts with `previous`, and only parts that a change concerns are
/// compiled again.
///
/// # Errors
///
/// The problems, if there is an error among them.
pub fn compile(loaded: &Loaded, node: &Arc<Node>, previous: Option<&Snapshot>) -> Compiled {
    autodefined::make_tables();
    let served = match previous {
        Some(previous) => Arc::new(loaded.manifest.served_like(&previous.manifest, &previous.served)),
        None => loaded.manifest.clone(),
    };
    let manifest = &served;
    let omitted = |member: &OmittedMember| {
        Problem::warning("private_hosted_zones", &member.catalog, "catalog", member.reason.clone())
    };
    let mut problems: Vec<Problem> = loaded.omitted_members.iter().map(omitted).collect();
    let (mut zones, changed_zones, serials) = zones::recompile(loaded, manifest, node, previous, &mut problems);
    let mut azs = previous.map(|previous| previous.azs.clone()).unwrap_or_default();
    let same_networks = previous.filter(|previous| previous.connectivity_of(manifest).is_some());
    let networks = match same_networks {
        Some(previous) => previous.networks.clone(),
        None => {
            let labels = previous.map_or(&[][..], |previous| &previous.networks.entry_point_labels);
            Arc::new(Networks::compile(manifest, &mut azs, labels))
        }
    };
    if same_networks.is_none()
        && let Some(problem) = views::check_size(manifest, &networks)
    {
        problems.push(problem);
        return Err(problems);
    }
    let health_targets = match previous {
        Some(previous) => previous.health_targets.recompile(&previous.served, manifest),
        None => Targets::default().recompile(&Manifest::default(), manifest),
    };
    let cidr_tables = match previous {
        Some(previous) => previous.cidr_tables.recompile(&previous.served, manifest),
        None => CidrTables::default().recompile(&Manifest::default(), manifest),
    };
    zones.complete_groups(&health_targets, &cidr_tables);
    problems.extend(health::outside(&health_targets, &networks, &node.health_allow));
    let (endpoints, renamed) = match previous {
        Some(previous) => previous.endpoints.recompile(&previous.served, manifest, &health_targets, &mut azs),
        None => Endpoints::default().recompile(&Manifest::default(), manifest, &health_targets, &mut azs),
    };
    let aliases = previous.map(|previous| previous.aliases.clone()).unwrap_or_default();
    let same_services = previous.is_some_and(|previous| {
        same_resources(&previous.served.vpc_endpoint_services, &manifest.vpc_endpoint_services)
    });
    let old_zones = previous.map(|previous| &previous.zones);
    let is_renamed = !renamed.is_empty() || !same_services;
    let aliases = aliases.recheck(manifest, old_zones, &zones, &changed_zones, &endpoints, is_renamed);
    problems.extend(aliases.problems());
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    let input = views::Input { manifest, networks: &networks, endpoints: &endpoints, zones: &zones };
    let views = compile_views(&input, previous, same_networks.is_some(), &changed_zones, &renamed);
    problems.extend(without_recursion(manifest, node));
    problems.extend(node.query_logs.iter().flat_map(|allowed| query_logs::warnings(manifest, allowed)));
    let same_logs = same_networks
        .filter(|previous| same_resources(&previous.served.query_log_configs, &manifest.query_log_configs))
        .filter(|previous| same_resources(&previous.served.profiles, &manifest.profiles));
    let query_logs = match same_logs {
        Some(previous) => previous.query_logs.clone(),
        None => Arc::new(QueryLogs::compile(manifest, &networks, &views, node, previous)),
    };
    let firewall_lists = match previous {
        Some(previous) => firewall::inline::recompile(&previous.firewall_lists, &previous.served, manifest),
        None => firewall::inline::recompile(&Arc::default(), &Manifest::default(), manifest),
    };
    let is_same_firewall = |previous: &&Snapshot| {
        Arc::ptr_eq(&previous.firewall_lists, &firewall_lists)
            && Arc::ptr_eq(&previous.networks, &networks)
            && Arc::ptr_eq(&previous.views.labels, &views.labels)
            && previous.node.loads_firewall_lists == node.loads_firewall_lists
            && same_resources(&previous.served.vpcs, &manifest.vpcs)
            && same_resources(&previous.served.profiles, &manifest.profiles)
            && same_resources(&previous.served.firewall_domain_lists, &manifest.firewall_domain_lists)
            && same_resources(&previous.served.firewall_rule_groups, &manifest.firewall_rule_groups)
    };
    let firewall = match previous.filter(is_same_firewall) {
        Some(previous) => previous.firewall.clone(),
        None => {
            let is_offline = !node.loads_firewall_lists;
            let (networks, views, lists) = (&networks, &views, &firewall_lists);
            let input = rules::Input { manifest, networks, views, lists, is_offline };
            let before = previous.map(|previous| previous.firewall.clone()).unwrap_or_default();
            Arc::new(Firewall::compile(&input, &before))
        }
    };
    let snapshot = Snapshot {
        generation: previous.map_or(1, |previous| previous.generation + 1),
        digest: loaded.digest,
        is_stale: false,
        node: node.clone(),
        manifest: loaded.manifest.clone(),
        served: served.clone(),
        transferred: loaded.transferred.clone(),
        omitted_members: loaded.omitted_members.clone(),
        azs,
        networks,
        endpoints,
        views,
        zones,
        query_logs,
        health_targets,
        firewall_lists,
        firewall,
        cidr_tables,
        aliases,
        serials,
    };
    Ok((snapshot, problems))
}
