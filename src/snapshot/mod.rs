//! What is served: immutable, compiled from a manifest.
//!
//! [`compile`] is pure, and its work follows the change: networks, zones, endpoints and views that nothing happened to
//! are shared with the previous snapshot.

pub mod aliases;
pub mod autodefined;
pub mod endpoints;
pub mod forwarders;
pub mod names;
pub mod networks;
pub mod published;
pub mod query_logs;
pub mod routes;
pub mod slots;
mod spans;
pub mod views;
pub mod zone;
pub mod zones;

use crate::manifest::{
    Loaded, Manifest, Problem, Transferred, catalog::LeftOut, connectivity::Connectivity, same_resources,
};
use aliases::Aliases;
use endpoints::{Azs, Endpoints};
use networks::Networks;
use query_logs::{Allowed, QueryLogs};
use routes::Route;
use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};
use views::Views;
use zone::Zone;
use zones::Zones;

/// What the node itself contributes to every answer.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// The name server identifier that NSID queries get (RFC 5001).
    pub nsid: Box<[u8]>,
    /// Secrets of DNS cookies: the first one signs, all are accepted (RFC 9018, 5).
    pub cookie_secrets: Vec<[u8; 16]>,
    /// What clients by TCP are told about how long an idle connection stays open (RFC 7828), in units of 100 ms.
    pub tcp_keepalive: u16,
    /// When it was started, in seconds since 1970: the first serial of zones that others copy and whose source has none.
    pub started: u32,
    /// Where names go that are not ours; none: they are REFUSED.
    pub internet: Option<Arc<Route>>,
    /// Where query logs may go; none where that is not known, as nothing is written.
    pub query_logs: Option<Allowed>,
}

/// What is served.
pub struct Snapshot {
    /// Rises by one with each change that is served.
    pub generation: u64,
    /// Digest of what it was compiled from.
    pub digest: [u8; 32],
    /// It is what was kept of an earlier run: the source has not been heard of since.
    pub is_stale: bool,
    /// What the node itself contributes.
    pub node: Arc<Node>,
    /// What it was compiled from, master files aside.
    pub manifest: Arc<Manifest>,
    /// What is kept of zones that are transferred.
    pub transferred: Transferred,
    /// The zones that catalogs list and that are left out.
    pub left_out: Vec<LeftOut>,
    /// The Availability Zones, by number.
    pub azs: Azs,
    /// Who asks.
    pub networks: Arc<Networks>,
    /// Endpoints, with their names and interfaces.
    pub endpoints: Endpoints,
    /// How each network sees the world.
    pub views: Arc<Views>,
    /// The private hosted zones.
    pub zones: Zones,
    /// Which queries are logged.
    pub query_logs: Arc<QueryLogs>,
    aliases: Aliases,
    /// The serials of zones that others copy, of those too that are gone.
    pub serials: zones::Serials,
}

impl Snapshot {
    /// The labels of all views ever seen, by [`crate::answer::Answered::view`].
    pub fn view_labels(&self) -> &[Arc<str>] {
        &self.views.labels
    }

    /// What connects the networks of a manifest, if those are the very networks of this snapshot.
    pub fn connectivity_of(&self, manifest: &Manifest) -> Option<&Connectivity> {
        let (ours, theirs) = (&self.manifest, manifest);
        let is_same = same_resources(&ours.vpcs, &theirs.vpcs)
            && same_resources(&ours.vpc_peering_connections, &theirs.vpc_peering_connections)
            && same_resources(&ours.transit_gateways, &theirs.transit_gateways)
            && same_resources(&ours.on_premises_networks, &theirs.on_premises_networks)
            && same_resources(&ours.resolver_endpoints, &theirs.resolver_endpoints)
            && same_resources(&ours.forwarders, &theirs.forwarders);
        is_same.then_some(&self.networks.connectivity)
    }

    /// All entry points of the manifest: addresses that queries may arrive on.
    pub fn entry_point_addresses(&self) -> Vec<IpAddr> {
        let mut entry_points: Vec<IpAddr> = self.networks.entry_points.keys().copied().collect();
        entry_points.sort_unstable();
        entry_points
    }

    /// The next generation of the same, with what a changed node contributes.
    pub fn with_node(&self, node: Arc<Node>) -> Snapshot {
        Snapshot { generation: self.generation + 1, node, ..self.again(self.is_stale) }
    }

    /// The same, stale or not.
    pub fn again(&self, is_stale: bool) -> Snapshot {
        Snapshot {
            generation: self.generation,
            digest: self.digest,
            is_stale,
            node: self.node.clone(),
            manifest: self.manifest.clone(),
            transferred: self.transferred.clone(),
            left_out: self.left_out.clone(),
            azs: self.azs.clone(),
            networks: self.networks.clone(),
            endpoints: self.endpoints.clone(),
            views: self.views.clone(),
            zones: self.zones.clone(),
            query_logs: self.query_logs.clone(),
            aliases: self.aliases.clone(),
            serials: self.serials.clone(),
        }
    }

    /// A private hosted zone.
    pub fn zone(&self, id: &str) -> Option<&Arc<Zone>> {
        self.zones.of(id)
    }

    /// The private hosted zones, by identifier.
    pub fn zones(&self) -> impl ExactSizeIterator<Item = &Arc<Zone>> {
        self.zones.iter()
    }
}

/// What a compilation comes to: a snapshot with warnings, or errors and warnings.
pub type Compiled = Result<(Snapshot, Vec<Problem>), Vec<Problem>>;

/// Compiles what was checked. `problems` are what the checks found: they come first, and an error among them is one of
/// the whole.
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

/// Compiles what is served. What did not change is shared with `previous`, and only what has to do with a change is looked
/// at. With the snapshot come warnings; instead of it, errors and warnings.
pub fn compile(loaded: &Loaded, node: &Arc<Node>, previous: Option<&Snapshot>) -> Compiled {
    // Now, not with the first query.
    LazyLock::force(&autodefined::LOCALLY_SERVED);
    LazyLock::force(&autodefined::SPECIAL_USE);
    let manifest = &loaded.manifest;
    let left_out = |left_out: &LeftOut| {
        Problem::warning("private_hosted_zones", &left_out.catalog, "catalog", left_out.reason.clone())
    };
    let mut problems: Vec<Problem> = loaded.left_out.iter().map(left_out).collect();
    let (zones, changed_zones, serials) = zones::follow(loaded, node, previous, &mut problems);
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
        && let Some(problem) = views::too_many(manifest, &networks)
    {
        problems.push(problem);
        return Err(problems);
    }
    let (endpoints, renamed) = match previous {
        Some(previous) => previous.endpoints.follow(&previous.manifest, manifest, &mut azs),
        None => Endpoints::default().follow(&Manifest::default(), manifest, &mut azs),
    };
    let aliases = previous.map(|previous| previous.aliases.clone()).unwrap_or_default();
    let same_services = previous.is_some_and(|previous| {
        same_resources(&previous.manifest.vpc_endpoint_services, &manifest.vpc_endpoint_services)
    });
    let old_zones = previous.map(|previous| &previous.zones);
    let renamed_any = !renamed.is_empty() || !same_services;
    let aliases = aliases.follow(manifest, old_zones, &zones, &changed_zones, &endpoints, renamed_any);
    problems.extend(aliases.problems());
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    let is_same = |previous: &&Snapshot| {
        changed_zones.is_empty()
            && renamed.private().next().is_none()
            && same_resources(&previous.manifest.resolver_rules, &manifest.resolver_rules)
    };
    let views = match same_networks.filter(is_same) {
        Some(previous) => previous.views.clone(),
        None => {
            let input = views::Input { manifest, networks: &networks, endpoints: &endpoints, zones: &zones };
            let before = same_networks.map(|previous| views::Previous {
                views: &previous.views,
                manifest: &previous.manifest,
                endpoints: &previous.endpoints,
                zones: &previous.zones,
                changed_zones: &changed_zones,
                renamed: &renamed,
            });
            let labels = previous.map(|previous| previous.views.labels.clone()).unwrap_or_default();
            Arc::new(views::follow(&input, before.as_ref(), &labels))
        }
    };
    problems.extend(node.query_logs.iter().flat_map(|allowed| query_logs::refused(manifest, allowed)));
    let same_logs = same_networks
        .filter(|previous| same_resources(&previous.manifest.query_log_configs, &manifest.query_log_configs));
    let query_logs = match same_logs {
        Some(previous) => previous.query_logs.clone(),
        None => Arc::new(QueryLogs::compile(manifest, &networks, &views, node.query_logs.as_ref(), previous)),
    };
    let snapshot = Snapshot {
        generation: previous.map_or(1, |previous| previous.generation + 1),
        digest: loaded.digest,
        is_stale: false,
        node: node.clone(),
        manifest: manifest.clone(),
        transferred: loaded.transferred.clone(),
        left_out: loaded.left_out.clone(),
        azs,
        networks,
        endpoints,
        views,
        zones,
        query_logs,
        aliases,
        serials,
    };
    Ok((snapshot, problems))
}
