//! The texts of the steps that `zonal explain` prints. A server that answers makes none of them.
//!
//! [`client`] explains who asks, this file which cut is responsible and what the cache has, and [`endpoint`] which
//! endpoints and interfaces answer.

pub mod client;
mod endpoint;
pub mod firewall;

pub use endpoint::{checked, interface, interfaces, other_endpoints, reach};

use super::{
    cache::state_of,
    context::Context,
    cut::{Cut, CutPosition, endpoint_for, next_cut},
    known::KnownAnswer,
    trace::CacheState,
};
use crate::{
    manifest::{Profile, ProfileSetting, Vpc},
    snapshot::{Snapshot, endpoints::EndpointName, views::View, zone::Zone},
    wire::{name::name_text, query::LookupName},
};

/// The cuts above a name, the reason why the first one wins, and the ones after it.
pub fn cuts(context: &Context, name: &LookupName) -> Vec<String> {
    let Context { snapshot, view, .. } = *context;
    let mut found = Vec::new();
    let mut position = CutPosition::START;
    while let Some((cut, at)) = next_cut(snapshot, view, name, position) {
        let what = match cut {
            Cut::Rule(rule) => format!("{} rule {}", rule.resource.rule_type, rule.id),
            Cut::Zone(zone) => format!("private hosted zone {}", zone.id),
            Cut::PrivateName { exact, wildcard } => {
                let name = endpoint_for(exact, wildcard, at.skip);
                format!("private name of endpoint {}", endpoint_id(snapshot, name))
            }
            Cut::PublicName(name) => format!("public name of endpoint {}", endpoint_id(snapshot, Some(name))),
            Cut::Autodefined(_) => "autodefined names".into(),
        };
        let profile = at.profile().and_then(|profile| snapshot.views.layer(view, profile));
        let profile = profile.map_or(String::new(), |layer| format!(" of Profile {}", layer.profile.id));
        found.push((at.skip, format!("{what}{profile} ({})", name_text(name.suffix(at.skip)))));
        position = at.next();
    }
    let is_reverse =
        [&b"\x07in-addr\x04arpa\0"[..], b"\x03ip6\x04arpa\0"].iter().any(|tree| name.wire().ends_with(tree));
    let reverse = (is_reverse && !view.has_reverse && view.autodefined.is_some()).then(|| {
        let vpc = snapshot.networks.info(view.vpc).network.id();
        let own = |vpc: &Vpc| vpc.autodefined_reverse;
        let why = setting(snapshot, view, "autodefined_reverse", own, |profile| profile.autodefined_reverse);
        format!("VPC {vpc} has no autodefined reverse zones: {why}")
    });
    let name = name_text(name.wire());
    let Some((skip, first)) = found.first() else {
        let none = format!("{name} matches no rule, zone, endpoint name or autodefined name of the view");
        return [none].into_iter().chain(reverse).collect();
    };
    let others: Vec<&str> = found[1..].iter().map(|(_, text)| text.as_str()).collect();
    let why = match found.get(1) {
        None => "nothing else of the view matches",
        Some((other, _)) if other == skip => {
            "at the same name, the order is rule, zone, endpoint name, Profiles, autodefined name"
        }
        Some(_) => "the longest match wins",
    };
    let mut lines = vec![format!("{name} matches {first}: {why}")];
    if !others.is_empty() {
        lines.push(format!("weaker matches: {}", others.join(", then ")));
    }
    lines.extend(reverse);
    lines
}

/// The zone that is searched.
pub fn zone(zone: &Zone) -> String {
    let kind = if zone.source.public { "public" } else { "private" };
    format!("{kind} hosted zone {} ({}) is searched", zone.id, name_text(&zone.apex))
}

/// The origin of a setting that is off for a VPC: the VPC itself, or one of its Profiles.
fn setting(
    snapshot: &Snapshot,
    view: &View,
    name: &str,
    own: impl Fn(&Vpc) -> Option<bool>,
    of_profile: impl Fn(&Profile) -> ProfileSetting,
) -> String {
    let vpc = snapshot.networks.vpc(view.vpc).filter(|vpc| own(vpc).is_none());
    let mut profiles = vpc.into_iter().flat_map(|vpc| snapshot.manifest.profiles_of(vpc));
    match profiles.find(|(_, profile)| of_profile(profile).value().is_some()) {
        Some((id, _)) => format!("`{name}` of its Profile {id} is disabled"),
        None => format!("its `{name}` is false"),
    }
}

/// The reason why answers of the node's own recursion are not validated for a view.
pub fn unvalidated(snapshot: &Snapshot, view: &View) -> String {
    let vpc = snapshot.networks.info(view.vpc).network.id();
    match view.dnssec_validation {
        Some(_) => {
            let own = |vpc: &Vpc| vpc.dnssec_validation;
            let why = setting(snapshot, view, "dnssec_validation", own, |profile| profile.dnssec_validation);
            format!("the answer is not validated for VPC {vpc}: {why}")
        }
        None => "`dnssec` of the internet resolver is off: the answer is not validated".into(),
    }
}

/// The identifier of the endpoint that a name belongs to; `-` if there is none.
pub fn endpoint_id<'s>(snapshot: &'s Snapshot, name: Option<&EndpointName>) -> &'s str {
    name.and_then(|name| snapshot.endpoints.get(name.slot)).map_or("-", |endpoint| &endpoint.id)
}

/// The cache's entry for a question.
pub fn cached(found: Option<&KnownAnswer>) -> String {
    let state = state_of(found);
    let Some(KnownAnswer { entry, ttl, .. }) = found else {
        return "not in the cache: the servers have to be asked".into();
    };
    match state {
        CacheState::Failed => {
            let details = entry.details.as_ref().map_or(String::new(), |details| format!(": {details}"));
            format!("the servers failed to answer, and are not asked again for {ttl} s{details}")
        }
        CacheState::Stale => "in the cache, but expired: no server could refresh it".into(),
        CacheState::Hit | CacheState::Miss => format!("in the cache, for another {ttl} s"),
    }
}
