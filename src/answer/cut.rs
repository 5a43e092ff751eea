//! What is responsible for a name: of all that a view has at the name or above it, the longest name first, at one name by
//! rank.

use crate::{
    snapshot::{
        Snapshot,
        autodefined::{Autodefined, LOCALLY_SERVED, ReverseZones, SPECIAL_USE},
        endpoints::EndpointName,
        networks::Path,
        routes::Rule,
        views::View,
        zone::Zone,
    },
    wire::{name::name_text, query::LookupName},
};

/// What is responsible for a name.
pub enum Cut<'s> {
    Rule(&'s Rule),
    Zone(&'s Zone),
    /// A private name of an endpoint: who answers the name itself, and who the names below.
    Private(Option<&'s EndpointName>, Option<&'s EndpointName>),
    /// A regional or zonal name.
    Public(&'s EndpointName),
    Autodefined(&'s Autodefined),
}

/// A cut that was found: how many labels lead down from it, and its rank at that name.
pub type Place = (usize, u8);

/// The zone that is responsible for a name, if one is and nothing comes before it.
#[inline]
pub fn zone_of<'s>(snapshot: &'s Snapshot, view: &'s View, name: &LookupName) -> Option<&'s Zone> {
    match next_cut(snapshot, view, name, (0, 0)) {
        Some((Cut::Zone(zone), _)) => Some(zone),
        _ => None,
    }
}

/// The most specific cut from a place on: the longest suffix, at the same name by rank.
#[inline]
pub fn next_cut<'s>(
    snapshot: &'s Snapshot,
    view: &'s View,
    name: &LookupName,
    (skip, mut rank): Place,
) -> Option<(Cut<'s>, Place)> {
    let (policies, shared) = (snapshot.views.policies(view), snapshot.views.shared(view));
    let reverse = match view.autodefined {
        Some(_) => ReverseZones::above(&snapshot.networks, &view.named, name),
        None => ReverseZones::default(),
    };
    for skip in skip..=name.labels() {
        if rank <= 1
            && let Some(policies) = policies
            && let Some(policy) = policies.names.find(name, skip)
        {
            if rank == 0
                && view.path != Path::InboundDelegation
                && let Some(rule) = &policy.rule
            {
                return Some((Cut::Rule(rule), (skip, 0)));
            }
            if let Some(zone) = policy.zone.and_then(|zone| snapshot.zones.get(zone)) {
                return Some((Cut::Zone(zone), (skip, 1)));
            }
        }
        if view.path != Path::InboundDelegation {
            if rank <= 2 {
                let (own, shared) = (view.own.find(name, skip), shared.and_then(|shared| shared.find(name, skip)));
                if own.is_some() || shared.is_some() {
                    let both = || own.into_iter().chain(shared);
                    let exact = both().find_map(|name| name.exact.as_ref());
                    let wildcard = both().find_map(|name| name.wildcard.as_ref());
                    return Some((Cut::Private(exact, wildcard), (skip, 2)));
                }
            }
            if rank <= 3
                && let Some(name) = snapshot.endpoints.public.find(name, skip)
            {
                return Some((Cut::Public(name), (skip, 3)));
            }
            if rank <= 4 {
                let of_view = view.autodefined.as_ref().and_then(|autodefined| {
                    let local = || reverse.find(name, skip).or_else(|| LOCALLY_SERVED.find(name, skip));
                    autodefined.find(name, skip).or_else(local)
                });
                if let Some(what) = of_view.or_else(|| SPECIAL_USE.find(name, skip)) {
                    return Some((Cut::Autodefined(what), (skip, 4)));
                }
            }
        }
        rank = 0;
    }
    None
}

/// Whether a view has something below the suffix of a name that is left when `skip` labels are taken away: a zone, a rule that
/// has others asked, a name of an endpoint, or an autodefined zone. That name exists then.
#[cold]
pub fn has_below(snapshot: &Snapshot, view: &View, name: &LookupName, skip: usize) -> bool {
    let is_full = view.path != Path::InboundDelegation;
    let above_policies = snapshot.views.policies(view).is_some_and(|policies| {
        policies.above_zones.has(name, skip) || is_full && policies.above_rules.has(name, skip)
    });
    let above_endpoints = || {
        view.own.above().has(name, skip)
            || snapshot.views.shared(view).is_some_and(|shared| shared.above().has(name, skip))
            || snapshot.endpoints.above_public.has(name, skip)
    };
    let above_autodefined = || {
        let of_view = view.autodefined.as_ref().is_some_and(|autodefined| {
            autodefined.above().has(name, skip)
                || LOCALLY_SERVED.above().has(name, skip)
                || ReverseZones::are_below(&snapshot.networks, view.named.iter().copied(), name, skip)
        });
        of_view || SPECIAL_USE.above().has(name, skip)
    };
    above_policies || is_full && (above_endpoints() || above_autodefined())
}

/// Which of those who share a private name has to do with a name that is `skip` labels below it.
pub fn answering<'s>(
    exact: Option<&'s EndpointName>,
    wildcard: Option<&'s EndpointName>,
    skip: usize,
) -> Option<&'s EndpointName> {
    if skip == 0 { exact.or(wildcard) } else { wildcard.or(exact) }
}

/// The longest private name of an endpoint, at or above a name, that a view has.
pub fn private_name<'s>(snapshot: &'s Snapshot, view: &'s View, name: &LookupName) -> Option<&'s EndpointName> {
    let mut place = (0, 0);
    while let Some((cut, (skip, rank))) = next_cut(snapshot, view, name, place) {
        if let Cut::Private(exact, wildcard) = cut {
            return answering(exact, wildcard, skip);
        }
        place = (skip, rank + 1);
    }
    None
}

/// What could be responsible for a name, for those who read: what wins, why, and over what.
pub fn candidates(snapshot: &Snapshot, view: &View, name: &LookupName) -> Vec<String> {
    let mut found = Vec::new();
    let mut place = (0, 0);
    while let Some((cut, (skip, rank))) = next_cut(snapshot, view, name, place) {
        let id_of = |name: &EndpointName| snapshot.endpoints.get(name.slot).map_or("-", |endpoint| &endpoint.id);
        let (what, id) = match &cut {
            Cut::Rule(rule) => (format!("{} rule", rule.resource.rule_type), &*rule.id),
            Cut::Zone(zone) => ("private hosted zone".into(), &*zone.id),
            Cut::Private(exact, wildcard) => {
                ("private name of endpoint".into(), answering(*exact, *wildcard, skip).map_or("-", id_of))
            }
            Cut::Public(name) => ("public name of endpoint".into(), id_of(name)),
            Cut::Autodefined(_) => ("autodefined names".into(), ""),
        };
        found.push((
            skip,
            format!("{what} {id}").trim_end().to_string() + &format!(" ({})", name_text(name.suffix(skip))),
        ));
        place = (skip, rank + 1);
    }
    let mut lines = vec![format!("who is responsible for {}?", name_text(name.wire()))];
    let Some((skip, first)) = found.first() else {
        lines.push("nobody: the view has no rule, zone or endpoint at this name or above it".into());
        return lines;
    };
    let others: Vec<&str> = found[1..].iter().map(|(_, text)| text.as_str()).collect();
    let why = match found.get(1) {
        None => "nothing else of ours is at this name or above it",
        Some((other, _)) if other == skip => {
            "at one name, rules come first, then zones, then endpoints, then autodefined names"
        }
        Some(_) => "the longest name wins",
    };
    lines.push(format!("{first} comes first: {why}"));
    if !others.is_empty() {
        lines.push(format!("after it: {}", others.join(", then ")));
    }
    lines
}
