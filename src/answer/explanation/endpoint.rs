//! Steps about endpoints: which endpoints and interfaces answer, and why the others do not.

use crate::{
    answer::{context::Context, cut::endpoint_of_private_name},
    manifest::{
        ClientRoutingPolicy, Health, PrivateDnsScope, VpcEndpointService, VpcEndpointType, connectivity::Network,
    },
    snapshot::{
        Snapshot,
        endpoints::{Choice, Endpoint, EndpointName, Family, Interface, NameKind, has_names},
        health::{State, Verdict},
        networks::ClientPath,
        views::{Hidden, View, hidden},
    },
    wire::{Name, query::LookupName},
};
use std::cmp::Reverse;

/// The largest number of endpoints that do not answer and get a step each. The others are counted.
const MAX_OTHER_ENDPOINTS: usize = 10;

/// The client and its view, as far as they decide which private names it has.
struct Viewer<'s> {
    snapshot: &'s Snapshot,
    /// The VPC of the view.
    viewing: &'s Network,
    /// The client's own network, if it is known.
    client: Option<&'s Network>,
    path: ClientPath,
    view: &'s View,
}

impl<'s> Viewer<'s> {
    fn new(context: &Context<'s>) -> Viewer<'s> {
        let Context { snapshot, matched, view, .. } = *context;
        let network = |at| &snapshot.networks.info(at).network;
        let client = matched.network.map(network);
        Viewer { snapshot, viewing: network(matched.vpc), client, path: matched.path, view }
    }

    fn hidden(&self, endpoint: &Endpoint, is_member: bool) -> Option<Hidden> {
        let connectivity = &self.snapshot.networks.connectivity;
        hidden(connectivity, self.viewing, self.client, self.path, endpoint, is_member)
    }

    /// The position of the first Profile of the view that has an endpoint, and its identifier.
    fn profile_of(&self, endpoint: &Endpoint) -> Option<(usize, &'s str)> {
        let slot = self.snapshot.endpoints.slot_of(&endpoint.id)?;
        let mut layers = self.snapshot.views.layers(self.view).enumerate();
        layers.find(|(_, layer)| layer.profile.has_endpoint(slot)).map(|(at, layer)| (at, layer.profile.id.as_str()))
    }

    /// The reason why the view does not have the private names of an endpoint; none if it has them.
    fn reason_against(&self, endpoint: &Endpoint) -> Option<String> {
        let (source, home) = (&endpoint.source, &endpoint.source.vpc_id);
        let vpc = self.snapshot.manifest.vpcs.get(home);
        let is_false = |option: &str| format!("`{option}` of its VPC {home} is false");
        let (viewing, client) = (self.viewing.id(), self.client.map_or("(unknown)", Network::id));
        let is_member = self.profile_of(endpoint).is_some();
        Some(match self.hidden(endpoint, is_member) {
            _ if source.vpc_endpoint_type != VpcEndpointType::Interface => {
                format!("a {} endpoint has no names", source.vpc_endpoint_type)
            }
            _ if !has_names(source) => format!("an endpoint in state {} has no names", source.state),
            _ if !source.private_dns_enabled => "`private_dns_enabled` is false".into(),
            _ if vpc.is_some_and(|vpc| !vpc.enable_dns_support) => is_false("enable_dns_support"),
            _ if vpc.is_some_and(|vpc| !vpc.enable_dns_hostnames) => is_false("enable_dns_hostnames"),
            _ if service_of(self.snapshot, endpoint).is_some_and(|service| !service.is_verified()) => {
                format!("the private names of its service {} are not verified", source.service_name)
            }
            _ if self.path == ClientPath::InboundDelegation => {
                "this entry point answers from private hosted zones only".into()
            }
            Some(Hidden::OutOfScope) if is_member => {
                format!("it is in a Profile of {viewing}, but its VPC {home} is not connected to {viewing}")
            }
            Some(Hidden::OutOfScope) => match &source.private_dns_scope {
                PrivateDnsScope::Vpc => format!("its `private_dns_scope` is its own VPC {home}, and not {viewing}"),
                PrivateDnsScope::Connected => format!("its VPC {home} is not connected to {viewing}"),
                PrivateDnsScope::Vpcs(_) => format!("its `private_dns_scope` does not list {viewing}"),
            },
            Some(Hidden::Unreachable) => format!("the client's network {client} cannot reach its VPC {home}"),
            Some(Hidden::InboundOnly) => {
                "`private_dns_only_for_inbound_resolver_endpoint` limits its private names to inbound endpoints".into()
            }
            None => return None,
        })
    }

    /// The criteria that decide between endpoints with one private name, in order, each with its text. `false` takes precedence.
    fn criteria(&self, endpoint: &Endpoint) -> [(bool, &'static str); 4] {
        let is_in = |network: &Network| matches!(network, Network::Vpc(id) if *id == endpoint.names.vpc);
        let is_listed =
            matches!(&endpoint.names.scope, PrivateDnsScope::Vpcs(ids) if ids.iter().any(|id| id == self.viewing.id()));
        let region = self.snapshot.manifest.vpcs.get(self.viewing.id()).map(|vpc| &vpc.region);
        [
            (!self.client.is_some_and(is_in), "is in the client's own VPC"),
            (!is_in(self.viewing), "is in the VPC of the view"),
            (!is_listed, "lists the VPC in `private_dns_scope`"),
            (region != Some(&endpoint.names.region), "is in the same Region"),
        ]
    }

    /// The reason why the chosen endpoint takes precedence over another one.
    fn precedence(&self, chosen: &Endpoint, other: &Endpoint) -> String {
        // Without a Profile, the view may have the endpoint all the same.
        let [own, others] = [chosen, other]
            .map(|endpoint| self.profile_of(endpoint).filter(|_| self.hidden(endpoint, false).is_some()));
        match (own, others) {
            (None, Some((_, profile))) => {
                return format!("{} takes precedence: the view has {} by Profile {profile} only", chosen.id, other.id);
            }
            (Some((at, profile)), Some((other_at, _))) if at != other_at => {
                return format!("{} takes precedence: Profile {profile} comes first", chosen.id);
            }
            _ => {}
        }
        // Between endpoints of one Profile, only the Region and the identifier decide.
        let skipped = if own.is_some() && others.is_some() { 3 } else { 0 };
        let pairs = self.criteria(chosen).into_iter().zip(self.criteria(other)).skip(skipped);
        let decisive = pairs.into_iter().find(|((own, _), (others, _))| own != others).map(|((_, why), _)| why);
        format!("{} takes precedence: it {}", chosen.id, decisive.unwrap_or("has the smaller identifier"))
    }
}

fn service_of<'s>(snapshot: &'s Snapshot, endpoint: &Endpoint) -> Option<&'s VpcEndpointService> {
    snapshot.manifest.vpc_endpoint_services.get(&endpoint.source.service_name).map(|service| &**service)
}

/// The relation of a service's private name to the queried name. The greatest one is the closest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    /// The number of labels of the private name, without `*`.
    labels: usize,
    /// The private name matches the queried name: exactly, or by its wildcard.
    matches_name: bool,
}

/// The closest private name of the endpoint's service at or above the queried name.
fn closest(snapshot: &Snapshot, endpoint: &Endpoint, asked: &Name) -> Option<Match> {
    let names = service_of(snapshot, endpoint).into_iter().flat_map(|service| &service.private_dns_names);
    let matches = names.filter_map(|name| {
        let is_wildcard = name.is_wildcard();
        let bare = if is_wildcard { name.parent()? } else { name.clone() };
        let matches_name = (*asked == bare) != is_wildcard;
        asked.is_at_or_below(&bare).then_some(Match { labels: bare.label_count(), matches_name })
    });
    matches.max()
}

/// The endpoints that do not answer although the queried name is a private name of their service, with the reason of each.
pub fn other_endpoints(context: &Context, name: &LookupName) -> Vec<String> {
    let Ok(asked) = Name::from_wire(name.wire()) else { return Vec::new() };
    let (snapshot, viewer) = (context.snapshot, Viewer::new(context));
    let chosen = endpoint_of_private_name(snapshot, context.view, name);
    let chosen = chosen.and_then(|name| snapshot.endpoints.get(name.slot));
    let own = chosen.and_then(|chosen| closest(snapshot, chosen, &asked));
    let mut all = Vec::new();
    for endpoint in snapshot.endpoints.iter().filter(|other| chosen.is_none_or(|chosen| chosen.id != other.id)) {
        let Some(closest) = closest(snapshot, endpoint, &asked) else { continue };
        let why = match (viewer.reason_against(endpoint), chosen, own) {
            (Some(reason), ..) => reason,
            (None, Some(chosen), Some(own)) if own.labels > closest.labels => {
                format!("the private name of {} is longer", chosen.id)
            }
            (None, Some(_), _) if !closest.matches_name => "none of its private names is this name".into(),
            (None, Some(chosen), _) => viewer.precedence(chosen, endpoint),
            // A rule or zone matches instead, which has a step of its own.
            (None, None, _) => continue,
        };
        let home = Network::Vpc(endpoint.names.vpc.clone());
        let is_near = Some(&home) == viewer.client || home == *viewer.viewing;
        let connectivity = &snapshot.networks.connectivity;
        let is_reached = viewer.client.is_some_and(|client| connectivity.reaches(client, &home));
        all.push((Reverse(is_near), Reverse(is_reached), format!("endpoint {} does not answer: {why}", endpoint.id)));
    }
    // The nearest endpoints first, then in the order of their identifiers.
    all.sort_by_key(|(near, reached, _)| (*near, *reached));
    let more = all.len().saturating_sub(MAX_OTHER_ENDPOINTS);
    let mut lines: Vec<String> = all.into_iter().take(MAX_OTHER_ENDPOINTS).map(|(.., line)| line).collect();
    if more > 0 {
        lines.push(format!("{more} more endpoints do not answer"));
    }
    lines
}

/// Whether the client can reach the endpoint of a public name.
pub fn reach(context: &Context, endpoint: &Endpoint) -> String {
    let Context { snapshot, matched, .. } = context;
    let home = Network::Vpc(endpoint.names.vpc.clone());
    let Some(client) = matched.network.map(|network| &snapshot.networks.info(network).network) else {
        return format!("the client's network is unknown: it may or may not reach VPC {} of the endpoint", home.id());
    };
    match snapshot.networks.connectivity.reaches(client, &home) {
        true if *client == home => format!("the client can reach the endpoint: both are in VPC {}", home.id()),
        true => format!("the client can reach the endpoint: {} is connected to VPC {}", client.id(), home.id()),
        false => format!(
            "the client cannot reach the endpoint: {} is not connected to VPC {}; every view has this name all the same",
            client.id(),
            home.id()
        ),
    }
}

/// The interfaces of an endpoint that answer, and the reason.
pub fn interfaces(context: &Context, name: &EndpointName, endpoint: &Endpoint, choice: Choice) -> String {
    let Context { snapshot, matched, .. } = context;
    let policy = endpoint.source.client_routing_policy;
    let az = matched.az.map_or("unknown", |az| snapshot.azs.id(az));
    let group = match choice.usable_only {
        Some(_) => "usable interfaces",
        None => "interfaces (none is usable, so all count as usable)",
    };
    let why = match (name.kind, choice.az, policy) {
        (NameKind::Zonal(az), ..) => {
            return format!(
                "endpoint {}: a zonal name always answers with the address in its AZ, {}",
                endpoint.id,
                snapshot.azs.id(az)
            );
        }
        (_, Some(_), ClientRoutingPolicy::PartialAvailabilityZoneAffinity) => {
            format!(
                "the {group} in the client's own AZ {az} answer, as for 85 % of the queries; all of them answer the rest"
            )
        }
        (_, Some(_), _) => format!("the {group} in the client's own AZ {az} answer"),
        (_, None, ClientRoutingPolicy::AnyAvailabilityZone) => format!("all {group} answer, in rotation"),
        (_, None, _) if matched.az.is_none() => format!("all {group} answer, because the client's AZ is unknown"),
        (_, None, _) => format!("all {group} answer, because none is in the client's own AZ {az}"),
    };
    format!("endpoint {}, policy {policy}: {why}", endpoint.id)
}

/// The state of an interface, and whether it answers.
pub fn interface(context: &Context, interface: &Interface, family: Family, choice: Choice) -> String {
    let (az, now) = (context.snapshot.azs.id(interface.az), context.moment.now);
    let Some(address) = interface.address(family) else {
        return format!("{az}: no address of this type");
    };
    let mut state = Vec::new();
    if interface.source.health == Health::Unhealthy {
        state.push("unhealthy".to_string());
    }
    if now < interface.shifted_until {
        // A shift without an end has a time that no timestamp can hold.
        state.push(match jiff::Timestamp::from_second(interface.shifted_until) {
            Ok(until) => format!("shifted away until {until}"),
            Err(_) => "shifted away".into(),
        });
    }
    if let Some(verdict) = interface.verdict(family) {
        let checked = checked(verdict, now);
        match verdict.is_healthy_for(context.matched.az) {
            true if state.is_empty() => state.push(format!("usable ({checked})")),
            true => {}
            false => state.push(format!("unhealthy ({checked})")),
        }
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

/// The reason for a verdict: the state and its age, the last attempts, and overrides.
pub fn checked(verdict: &Verdict, now: i64) -> String {
    let report = verdict.report();
    let mut text = match report.state {
        State::Unknown => "health check: never healthy yet, counts as healthy".to_string(),
        state => format!("health check: {} for {} s", state.word(), (now - report.since).max(0)),
    };
    let attempts: Vec<String> = report
        .attempts
        .iter()
        .map(|attempt| format!("{} s ago {}", (now - attempt.at).max(0), attempt.result))
        .collect();
    if !attempts.is_empty() {
        text += &format!("; last attempts: {}", attempts.join(", "));
    }
    if let Some(forced) = report.forced {
        let word = if forced.is_healthy { "healthy" } else { "unhealthy" };
        text += &format!("; set to {word} by hand for {} s more", (forced.until - now).max(0));
    }
    if report.held_until.is_some_and(|until| until > now) {
        text += "; held unhealthy, because it changes too often";
    }
    if let Some(fleet) = report.fleet {
        text += &format!("; healthy for {} of {} nodes that share verdicts", fleet.healthy, fleet.reporters);
    }
    if report.is_frozen {
        text += "; frozen, because this node is isolated";
    }
    text
}
