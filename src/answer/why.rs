//! Which endpoints and interfaces answer, and why not the others: texts for `zonal explain`.

use crate::{
    manifest::{
        ClientRoutingPolicy, Health, PrivateDnsScope, VpcEndpointService, VpcEndpointType, connectivity::Network,
    },
    snapshot::{
        Snapshot,
        endpoints::{Choice, Endpoint, EndpointName, Family, Interface, NameKind, has_names},
        networks::{Found, Path},
        views::{Hidden, hidden},
    },
    wire::Name,
};
use std::cmp::Reverse;

/// How many endpoints that do not answer are told of.
const MOST_OTHERS: usize = 10;

/// Who asks, for questions of scope and reach.
struct Asker<'s> {
    snapshot: &'s Snapshot,
    /// The VPC whose view applies.
    viewing: &'s Network,
    /// The client's own network, if it is known.
    client: Option<&'s Network>,
    path: Path,
}

impl<'s> Asker<'s> {
    fn new(snapshot: &'s Snapshot, found: &Found) -> Asker<'s> {
        let network = |at| &snapshot.networks.info(at).network;
        let client = found.network.map(network);
        Asker { snapshot, viewing: network(found.vpc), client, path: found.path }
    }

    /// Why the private names of an endpoint are not in this view; none if they are.
    fn obstacle(&self, endpoint: &Endpoint) -> Option<String> {
        let (source, home) = (&endpoint.source, &endpoint.source.vpc_id);
        let vpc = self.snapshot.manifest.vpcs.get(home);
        let switched_off = |option: &str| format!("{option} is false in its VPC {home}");
        let (viewing, client) = (self.viewing.id(), self.client.map_or("(not known)", Network::id));
        Some(match hidden(&self.snapshot.networks.connectivity, self.viewing, self.client, self.path, endpoint) {
            _ if source.vpc_endpoint_type != VpcEndpointType::Interface => {
                format!("a {} endpoint has no names", source.vpc_endpoint_type)
            }
            _ if !has_names(source) => format!("in state {} it has no names", source.state),
            _ if !source.private_dns_enabled => "private_dns_enabled is false".into(),
            _ if vpc.is_some_and(|vpc| !vpc.enable_dns_support) => switched_off("enable_dns_support"),
            _ if vpc.is_some_and(|vpc| !vpc.enable_dns_hostnames) => switched_off("enable_dns_hostnames"),
            _ if service_of(self.snapshot, endpoint).is_some_and(|service| !service.is_verified()) => {
                format!("the private names of its service {} are not verified", source.service_name)
            }
            _ if self.path == Path::InboundDelegation => "this entry point has private hosted zones only".into(),
            Some(Hidden::OutOfScope) => match &source.private_dns_scope {
                PrivateDnsScope::Vpc => format!("its private_dns_scope is its own VPC {home} only, not {viewing}"),
                PrivateDnsScope::Connected => format!("its VPC {home} is not connected to {viewing}"),
                PrivateDnsScope::Vpcs(_) => format!("its private_dns_scope does not list {viewing}"),
            },
            Some(Hidden::Unreachable) => format!("the client's network {client} does not reach its VPC {home}"),
            Some(Hidden::InboundOnly) => {
                "its private names are for the inbound path only (private_dns_only_for_inbound_resolver_endpoint)"
                    .into()
            }
            None => return None,
        })
    }

    /// The lower, the better: what decides between endpoints that give one private name to a view, with its words.
    fn ranks(&self, endpoint: &Endpoint) -> [(bool, &'static str); 4] {
        let is_in = |network: &Network| matches!(network, Network::Vpc(id) if *id == endpoint.names.vpc);
        let is_listed =
            matches!(&endpoint.names.scope, PrivateDnsScope::Vpcs(ids) if ids.iter().any(|id| id == self.viewing.id()));
        let region = self.snapshot.manifest.vpcs.get(self.viewing.id()).map(|vpc| &vpc.region);
        [
            (!self.client.is_some_and(is_in), "is in the client's own VPC"),
            (!is_in(self.viewing), "is in the VPC whose view it is"),
            (!is_listed, "has a scope that lists the VPC"),
            (region != Some(&endpoint.names.region), "is in the same Region"),
        ]
    }

    fn why_lower(&self, chosen: &Endpoint, other: &Endpoint) -> String {
        let ranks = self.ranks(chosen).into_iter().zip(self.ranks(other));
        let better = ranks.into_iter().find(|((own, _), (others, _))| own != others).map(|((_, why), _)| why);
        format!("{} comes before it: it {}", chosen.id, better.unwrap_or("has the smaller identifier"))
    }
}

fn service_of<'s>(snapshot: &'s Snapshot, endpoint: &Endpoint) -> Option<&'s VpcEndpointService> {
    snapshot.manifest.vpc_endpoint_services.get(&endpoint.source.service_name).map(|service| &**service)
}

/// How a private name of a service has to do with the name asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    /// The labels of the private name, `*` left out.
    labels: usize,
    /// It leads to the endpoint, instead of standing above or below one that does.
    leads: bool,
}

/// The closest private name of the endpoint's service at or above the name asked for.
fn closest(snapshot: &Snapshot, endpoint: &Endpoint, asked: &Name) -> Option<Match> {
    let names = service_of(snapshot, endpoint).into_iter().flat_map(|service| &service.private_dns_names);
    let matches = names.filter_map(|name| {
        let is_wildcard = name.is_wildcard();
        let bare = if is_wildcard { name.parent()? } else { name.clone() };
        let leads = (*asked == bare) != is_wildcard;
        asked.is_at_or_below(&bare).then_some(Match { labels: bare.label_count(), leads })
    });
    matches.max()
}

/// Why endpoints whose service has the name asked for as a private name do not answer it: a sentence for each.
pub fn others(snapshot: &Snapshot, found: &Found, asked: &[u8], chosen: Option<&EndpointName>) -> Vec<String> {
    let Ok(asked) = Name::from_wire(asked) else { return Vec::new() };
    let asker = Asker::new(snapshot, found);
    let chosen = chosen.and_then(|name| snapshot.endpoints.get(name.slot));
    let own = chosen.and_then(|chosen| closest(snapshot, chosen, &asked));
    let mut all = Vec::new();
    for endpoint in snapshot.endpoints.iter().filter(|other| chosen.is_none_or(|chosen| chosen.id != other.id)) {
        let Some(closest) = closest(snapshot, endpoint, &asked) else { continue };
        let why = match (asker.obstacle(endpoint), chosen, own) {
            (Some(obstacle), ..) => obstacle,
            (None, Some(chosen), Some(own)) if own.labels > closest.labels => {
                format!("the private name of {} is longer", chosen.id)
            }
            (None, Some(_), _) if !closest.leads => "it is not for this very name".into(),
            (None, Some(chosen), _) => asker.why_lower(chosen, endpoint),
            // What comes first instead is told elsewhere.
            (None, None, _) => continue,
        };
        let home = Network::Vpc(endpoint.names.vpc.clone());
        let is_near = Some(&home) == asker.client || home == *asker.viewing;
        let connectivity = &snapshot.networks.connectivity;
        let is_reached = asker.client.is_some_and(|client| connectivity.reaches(client, &home));
        all.push((Reverse(is_near), Reverse(is_reached), format!("not endpoint {}: {why}", endpoint.id)));
    }
    // The nearest first, else in the order of their identifiers.
    all.sort_by_key(|(near, reached, _)| (*near, *reached));
    let more = all.len().saturating_sub(MOST_OTHERS);
    let mut lines: Vec<String> = all.into_iter().take(MOST_OTHERS).map(|(.., line)| line).collect();
    if more > 0 {
        lines.push(format!("nor {more} more endpoints"));
    }
    lines
}

/// Whether the client reaches the endpoint that a public name leads to.
pub fn reach(snapshot: &Snapshot, found: &Found, endpoint: &Endpoint) -> String {
    let home = Network::Vpc(endpoint.names.vpc.clone());
    let Some(client) = found.network.map(|network| &snapshot.networks.info(network).network) else {
        return format!("whether the client reaches VPC {} is not known, as its network is not", home.id());
    };
    match snapshot.networks.connectivity.reaches(client, &home) {
        true if *client == home => format!("the client can reach it: both are in VPC {}", home.id()),
        true => format!("the client can reach it: {} is connected to VPC {}", client.id(), home.id()),
        false => format!(
            "the client cannot reach it: {} is not connected to VPC {}; but the name is public, and answered to all",
            client.id(),
            home.id()
        ),
    }
}

/// Which interfaces of an endpoint answer, and why.
pub fn interfaces(
    snapshot: &Snapshot,
    found: &Found,
    name: &EndpointName,
    endpoint: &Endpoint,
    choice: Choice,
) -> String {
    let policy = endpoint.source.client_routing_policy;
    let az = found.az.map_or("unknown", |az| snapshot.azs.id(az));
    let group = match choice.usable_only {
        Some(_) => "usable interfaces",
        None => "interfaces (none is usable: fail open)",
    };
    let why = match (name.kind, choice.az, policy) {
        (NameKind::Zonal(az), ..) => {
            return format!(
                "endpoint {}: a zonal name always answers its AZ's address, {}",
                endpoint.id,
                snapshot.azs.id(az)
            );
        }
        (_, Some(_), ClientRoutingPolicy::PartialAvailabilityZoneAffinity) => {
            format!(
                "the {group} in the client's own AZ {az} answer, as in 85 % of the queries; all of them in the rest"
            )
        }
        (_, Some(_), _) => format!("the {group} in the client's own AZ {az} answer"),
        (_, None, ClientRoutingPolicy::AnyAvailabilityZone) => format!("all {group} answer, in turn"),
        (_, None, _) if found.az.is_none() => format!("all {group} answer, as the client's AZ is unknown"),
        (_, None, _) => format!("all {group} answer, as there is none in the client's own AZ {az}"),
    };
    format!("endpoint {}, policy {policy}: {why}", endpoint.id)
}

/// Whether an interface is usable, whether it answers, and why.
pub fn interface(interface: &Interface, family: Family, az: &str, now: i64, choice: Choice) -> String {
    let Some(address) = interface.address(family) else {
        return format!("{az}: no address of this type");
    };
    let mut state = Vec::new();
    if interface.source.health == Health::Unhealthy {
        state.push("unhealthy".to_string());
    }
    if now < interface.shifted_until {
        // A shift without end has a time that cannot be written.
        state.push(match jiff::Timestamp::from_second(interface.shifted_until) {
            Ok(until) => format!("shifted away from until {until}"),
            Err(_) => "shifted away from".into(),
        });
    }
    let state = if state.is_empty() { "usable".into() } else { state.join(" and ") };
    let answers = choice.interfaces().any(|other| std::ptr::eq(other, interface));
    let outcome = match choice.az {
        _ if answers => "answers",
        Some(own) if own != interface.az => "not chosen: another AZ",
        _ => "not chosen",
    };
    format!("{az}: {address} is {state}: {outcome}")
}
