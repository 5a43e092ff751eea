//! What is served: immutable, compiled from a manifest.
//!
//! [`compile`] is pure, and its work follows the change: networks, zones, endpoints and views that nothing happened to
//! are shared with the previous snapshot.

pub mod autodefined;
pub mod endpoints;
pub mod forwarders;
pub mod names;
pub mod networks;
pub mod routes;
mod spans;
pub mod views;
pub mod zone;

use crate::{
    manifest::{
        Id, Loaded, Manifest, Problem, Transferred, VpcEndpointService, ZoneData, catalog::LeftOut,
        connectivity::Connectivity, same_resources,
    },
    wire::{Name, query::LookupName},
};
use endpoints::{Azs, Endpoints};
use networks::Networks;
use routes::Route;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, LazyLock},
};
use views::Views;
use zone::{Serial, Zone};

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
    zones: BTreeMap<Id, Arc<Zone>>,
    /// The serials of zones that others copy, of those too that are gone.
    pub serials: Serials,
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

    /// All doors of the manifest: addresses that queries may arrive on.
    pub fn door_addresses(&self) -> Vec<IpAddr> {
        let mut doors: Vec<IpAddr> = self.networks.doors.keys().copied().collect();
        doors.sort_unstable();
        doors
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
            serials: self.serials.clone(),
        }
    }

    /// A private hosted zone.
    pub fn zone(&self, id: &str) -> Option<&Arc<Zone>> {
        self.zones.get(id)
    }

    /// The private hosted zones, by identifier.
    pub fn zones(&self) -> impl ExactSizeIterator<Item = &Arc<Zone>> {
        self.zones.values()
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

/// Compiles what is served. Zones and endpoints that did not change are shared with `previous`. With the snapshot come
/// warnings; instead of it, errors and warnings.
pub fn compile(loaded: &Loaded, node: &Arc<Node>, previous: Option<&Snapshot>) -> Compiled {
    LazyLock::force(&autodefined::LOCALLY_SERVED); // now, not with the first query
    let manifest = &loaded.manifest;
    let left_out = |left_out: &LeftOut| {
        Problem::warning("private_hosted_zones", &left_out.catalog, "catalog", left_out.reason.clone())
    };
    let mut problems: Vec<Problem> = loaded.left_out.iter().map(left_out).collect();
    let (zones, serials) = compile_zones(loaded, node, previous, &mut problems);
    let mut azs = previous.map(|previous| previous.azs.clone()).unwrap_or_default();
    let same_networks = previous.filter(|previous| previous.connectivity_of(manifest).is_some());
    let networks = match same_networks {
        Some(previous) => previous.networks.clone(),
        None => Arc::new(Networks::compile(manifest, &mut azs)),
    };
    let (endpoints, renamed) = match previous {
        Some(previous) => previous.endpoints.follow(&previous.manifest, manifest, &mut azs, same_networks.is_some()),
        None => Endpoints::default().follow(&Manifest::default(), manifest, &mut azs, false),
    };
    check_aliases(manifest, &zones, &endpoints, &mut problems);
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    let same = same_networks.filter(|previous| {
        !renamed
            && same_resources(&previous.manifest.resolver_rules, &manifest.resolver_rules)
            && previous.zones.len() == zones.len()
            && previous.zones.values().zip(zones.values()).all(|(old, new)| Arc::ptr_eq(old, new))
    });
    let views = match same {
        Some(previous) => previous.views.clone(),
        None => {
            let input = views::Input { manifest, networks: &networks, endpoints: &endpoints, zones: &zones };
            Arc::new(views::compile(&input, previous.map(|previous| &*previous.views)))
        }
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
        serials,
    };
    Ok((snapshot, problems))
}

/// The serials that zones have had, by their identifiers: of those that others copy.
pub type Serials = Arc<BTreeMap<Id, Serial>>;

/// Compiles the zones. Those that have not changed are shared with `previous`.
fn compile_zones(
    loaded: &Loaded,
    node: &Node,
    previous: Option<&Snapshot>,
    problems: &mut Vec<Problem>,
) -> (BTreeMap<Id, Arc<Zone>>, Serials) {
    let mut zones = BTreeMap::new();
    let mut serials = previous.map_or_else(Serials::default, |previous| previous.serials.clone());
    let mut jobs: Vec<zone::Job> = Vec::new();
    for (id, source) in &loaded.manifest.private_hosted_zones {
        let old = previous.and_then(|previous| previous.zones.get(id));
        let serial = (serials.get(id).copied(), node.started.max(1));
        let whole = zone::Job { id, source, data: None, base: None, overlay: None, missing: None, serial };
        if source.is_transferred() {
            let held = loaded.transferred.get(id);
            let is_same = match (held, previous.and_then(|previous| previous.transferred.get(id))) {
                (Some(held), Some(old)) => held.is_same(old),
                (held, old) => held.is_none() && old.is_none(),
            };
            match (held, old) {
                (_, Some(old)) if is_same && old.source == *source => drop(zones.insert(id.clone(), old.clone())),
                (None, _) => jobs.push(zone::Job { missing: Some("the zone was not transferred yet"), ..whole }),
                (Some(held), _) if held.is_expired => {
                    jobs.push(zone::Job { missing: Some("the zone has expired: no primary answers for it"), ..whole });
                }
                (Some(held), _) => jobs.push(zone::Job { data: Some(&held.content.data), ..whole }),
            }
            continue;
        }
        let overlay = loaded.overlays.get(id).filter(|overlay| !overlay.is_empty());
        let (data, base) = match (loaded.zone_data.get(id), old) {
            (Some(ZoneData::Unchanged), Some(old)) => (None, Some(old)),
            (None, Some(old)) if old.source == *source => (None, Some(old)),
            (Some(ZoneData::Read(data)), _) => (Some(data), None),
            _ => (None, None),
        };
        match base {
            Some(old) if overlay.map(Arc::as_ptr) == old.overlay.as_ref().map(Arc::as_ptr) => {
                zones.insert(id.clone(), old.clone());
            }
            _ => jobs.push(zone::Job { data, base: base.map(|old| &**old), overlay, ..whole }),
        }
    }
    for (id, zone, found) in build_zones(&jobs) {
        problems.extend(found);
        let Some((zone, serial)) = zone else { continue };
        zones.insert(id.clone(), Arc::new(zone));
        if let Some(serial) = serial {
            Arc::make_mut(&mut serials).insert(id.clone(), serial);
        }
    }
    (zones, serials)
}

type Built<'a> = (&'a Id, Option<(Zone, Option<Serial>)>, Vec<Problem>);

/// Builds zones, in several threads where there are many.
fn build_zones<'a>(jobs: &[zone::Job<'a>]) -> Vec<Built<'a>> {
    let build = |jobs: &[zone::Job<'a>]| -> Vec<Built<'a>> {
        jobs.iter()
            .map(|job| {
                let mut problems = Vec::new();
                let zone = zone::build(*job, &mut problems);
                (job.id, zone, problems)
            })
            .collect()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len() / 16 + 1);
    if threads == 1 {
        return build(jobs);
    }
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            jobs.chunks(jobs.len().div_ceil(threads)).map(|part| scope.spawn(move || build(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

/// An alias leads to a name of an endpoint, or to a record set of its own zone that is there and is no circle.
fn check_aliases(
    manifest: &Manifest,
    zones: &BTreeMap<Id, Arc<Zone>>,
    endpoints: &Endpoints,
    problems: &mut Vec<Problem>,
) {
    for (id, zone) in zones {
        for (at, set) in zone.source.records.iter().enumerate() {
            let Some(alias) = &set.alias else { continue };
            let field = || format!("records[{at}].alias.name");
            let Some(target) = LookupName::new(alias.name.as_wire()) else { continue };
            if endpoints.public.find(&target, 0).is_some() || is_below_endpoint_name(endpoints, &target) {
                continue;
            }
            if !alias.name.is_at_or_below(&zone.source.name) {
                if manifest.vpc_endpoint_services.values().any(|service| may_be_name_of(service, &alias.name)) {
                    // An endpoint that is gone, or in a state without names: it may come (back).
                    let message = format!("no endpoint has the name {} now: the alias has no records", alias.name);
                    problems.push(Problem::warning("private_hosted_zones", id, field(), message));
                } else {
                    let message = format!("{} is neither a name of an endpoint nor of this zone", alias.name);
                    let help =
                        "a regional or zonal name of an endpoint, or a name of this zone with records of the same type";
                    problems.push(Problem::error("private_hosted_zones", id, field(), message).help(help));
                }
                continue;
            }
            let rtype = crate::wire::rdata::type_from_text(&set.record_type).unwrap_or_default();
            if let Err(message) = follow_alias(zone, rtype, &target) {
                problems.push(Problem::error("private_hosted_zones", id, field(), message));
            }
        }
    }
}

/// Below an endpoint's name that is a wildcard.
fn is_below_endpoint_name(endpoints: &Endpoints, target: &LookupName) -> bool {
    (1..target.labels()).find_map(|skip| endpoints.public.find(target, skip)).is_some_and(|name| name.wildcard)
}

/// Whether an endpoint of the service could have the name: right below the service's own, or anywhere below that where
/// there are wildcards.
fn may_be_name_of(service: &VpcEndpointService, name: &Name) -> bool {
    let has_wildcards = service.private_dns_names.iter().any(Name::is_wildcard);
    name.parent().is_some_and(|parent| match has_wildcards {
        true => parent.is_at_or_below(&service.dns_name),
        false => parent == service.dns_name,
    })
}

/// How many aliases of a zone may follow on one another.
pub const MAX_ALIASES: usize = 8;

fn follow_alias(zone: &Zone, rtype: u16, target: &LookupName) -> Result<(), String> {
    let mut target = target.clone();
    for _ in 0..MAX_ALIASES {
        let (zone::Search::Node(node) | zone::Search::Wildcard(node)) = zone.search(&target) else {
            return Err("the name that the alias leads to is not in this zone".into());
        };
        let Some(set) = node.set(rtype) else {
            return Err("the name that the alias leads to has no records of this type".into());
        };
        let Some(next) = set.alias().and_then(|number| LookupName::new(zone.alias(number).as_wire())) else {
            return Ok(());
        };
        if next.labels() < zone.apex_labels() || next.suffix(next.labels() - zone.apex_labels()) != &*zone.apex {
            return Ok(()); // on to an endpoint, which its own check looks at
        }
        target = next;
    }
    Err(format!("more than {MAX_ALIASES} aliases follow on one another, maybe in a circle"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Severity;
    use serde_json::json;

    /// An alias to a name that an endpoint could have is odd while there is none; to any other name it is wrong.
    #[test]
    fn aliases_of_endpoints_that_are_gone() {
        for (state, target, severity) in [
            ("Available", "vpce-w.wild.vpce.example", None),
            ("Available", "foo.vpce-w.wild.vpce.example", None),
            ("Failed", "vpce-w.wild.vpce.example", Some(Severity::Warning)),
            ("Failed", "foo.vpce-w.wild.vpce.example", Some(Severity::Warning)),
            ("Failed", "*.vpce-w.wild.vpce.example", Some(Severity::Warning)),
            ("Failed", "wild.vpce.example", Some(Severity::Error)),
            ("Available", "foo.vpce-p.plain.vpce.example", Some(Severity::Error)),
            ("Available", "www.example.net", Some(Severity::Error)),
        ] {
            let endpoint = |service: &str, state: &str| {
                json!({"vpc_endpoint_type": "Interface", "service_name": service, "vpc_id": "a", "state": state,
                       "network_interfaces": [{"availability_zone_id": "use1-az1", "ipv4": "10.1.0.9"}]})
            };
            let service = |name: &str, private: &str| {
                json!({"owner_id": "amazon", "region": "us-east-1",
                       "dns_name": name, "private_dns_names": [private]})
            };
            let manifest = json!({
                "vpcs": {"a": {"region": "us-east-1", "cidr_blocks": ["10.1.0.0/16"]}},
                "vpc_endpoint_services": {
                    "wild": service("wild.vpce.example", "*.wild.example"),
                    "plain": service("plain.vpce.example", "plain.example"),
                },
                "vpc_endpoints": {"vpce-w": endpoint("wild", state), "vpce-p": endpoint("plain", "Available")},
                "private_hosted_zones": {"Z": {"name": "z.example", "vpc_ids": ["a"],
                    "records": [{"name": "@", "type": "A", "alias": {"name": target}}]}},
            });
            let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
            let problems = compile(&loaded, &Arc::default(), None).map_or_else(|problems| problems, |(_, p)| p);
            let found: Vec<_> = problems.iter().map(|problem| problem.severity).collect();
            assert_eq!(found, Vec::from_iter(severity), "{state} {target}: {problems:?}");
        }
    }
}
