//! The search for the cut: the resource of a view that is responsible for a name.
//!
//! A cut is a resource at the name or above it. Of all cuts, the one with the longest name is the most specific; at one
//! name, the [`rank`] decides.

use crate::{
    snapshot::{
        Snapshot,
        autodefined::{Autodefined, ReverseZones, SPECIAL_USE, locally_served},
        endpoints::{EndpointName, PrivateName},
        networks::ClientPath,
        routes::Rule,
        views::View,
        zone::Zone,
    },
    wire::query::LookupName,
};

/// A resource that is responsible for a name.
pub enum Cut<'s> {
    /// A resolver rule.
    Rule(&'s Rule),
    /// A private hosted zone.
    Zone(&'s Zone),
    /// A private name of VPC endpoints.
    PrivateName {
        /// The endpoint that answers the name itself.
        exact: Option<&'s EndpointName>,
        /// The endpoint that answers the names below.
        wildcard: Option<&'s EndpointName>,
    },
    /// A regional or zonal name of a VPC endpoint.
    PublicName(&'s EndpointName),
    /// An autodefined zone.
    Autodefined(&'s Autodefined),
}

/// The order of the cuts at one name: those of the VPC itself, those of each of its Profiles, and then those of all VPCs.
mod rank {
    pub const RULE: u32 = 0;
    pub const ZONE: u32 = 1;
    pub const PRIVATE_NAME: u32 = 2;
    /// The number of ranks of a VPC itself, and of each Profile.
    pub const OF_LAYER: u32 = 3;
    pub const PUBLIC_NAME: u32 = u32::MAX - 2;
    pub const AUTODEFINED: u32 = u32::MAX - 1;
}

/// The position of a cut in the order of all cuts of a name.
#[derive(Clone, Copy)]
pub struct CutPosition {
    /// The number of labels by which the name is longer than the cut's.
    pub skip: usize,
    /// The cut's [`rank`].
    pub rank: u32,
}

impl CutPosition {
    /// The position of the most specific cut that there can be: a rule for the name itself.
    pub const START: CutPosition = CutPosition { skip: 0, rank: rank::RULE };

    /// The first position above a name that is `skip` labels shorter.
    pub fn above(skip: usize) -> CutPosition {
        CutPosition { skip: skip + 1, rank: rank::RULE }
    }

    /// The position of the Profile that the cut came by, in the order of the view; none for any other cut.
    pub fn profile(self) -> Option<usize> {
        let layer = (self.rank / rank::OF_LAYER) as usize;
        (self.rank < rank::PUBLIC_NAME).then(|| layer.checked_sub(1)).flatten()
    }

    /// The position after this one.
    #[inline]
    pub fn next(self) -> CutPosition {
        CutPosition { rank: self.rank + 1, ..self }
    }
}

/// The zone that is responsible for a name, if the most specific cut is one.
pub fn zone_of<'s>(snapshot: &'s Snapshot, view: &'s View, name: &LookupName) -> Option<&'s Zone> {
    match next_cut(snapshot, view, name, CutPosition::START) {
        Some((Cut::Zone(zone), _)) => Some(zone),
        _ => None,
    }
}

/// The private hosted zone with the longest name at or above a name. It probably answers the name: a more specific cut of
/// another kind is rare.
#[inline]
pub fn probable_zone<'s>(snapshot: &'s Snapshot, view: &'s View, name: &LookupName) -> Option<&'s Zone> {
    let own = snapshot.views.policies(view);
    (0..=name.labels()).find_map(|skip| {
        let own = own.and_then(|policies| policies.names.find(name, skip)?.zone);
        let of_profiles = || {
            let mut layers = snapshot.views.layers(view);
            layers.find_map(|layer| layer.profile.policies.names.find(name, skip)?.zone)
        };
        let number = if view.has_profiles() { own.or_else(of_profiles) } else { own };
        Some(&**snapshot.zones.get(number?)?)
    })
}

/// The public zone with the longest name of those that are at least `skip` labels shorter than a name, and the number of
/// labels by which the name is longer. Public zones are no cuts: they answer what the cuts leave to the internet.
#[inline]
pub fn public_zone<'s>(snapshot: &'s Snapshot, name: &LookupName, skip: usize) -> Option<(&'s Zone, usize)> {
    let names = snapshot.views.public_zones();
    let found = (skip..=name.labels()).find_map(|skip| Some((*names.find(name, skip)?, skip)));
    found.and_then(|(number, skip)| Some((&**snapshot.zones.get(number)?, skip)))
}

/// The first cut from a position on, and its position.
#[inline]
pub fn next_cut<'s>(
    snapshot: &'s Snapshot,
    view: &'s View,
    name: &LookupName,
    CutPosition { skip, mut rank }: CutPosition,
) -> Option<(Cut<'s>, CutPosition)> {
    let (policies, shared) = (snapshot.views.policies(view), snapshot.views.shared(view));
    let reverse = match view.autodefined {
        Some(_) if view.has_reverse => ReverseZones::above(&snapshot.networks, &view.named, name),
        _ => ReverseZones::default(),
    };
    for skip in skip..=name.labels() {
        let found = |cut, rank| Some((cut, CutPosition { skip, rank }));
        if rank <= rank::ZONE
            && let Some(policies) = policies
            && let Some(policy) = policies.names.find(name, skip)
        {
            if rank == rank::RULE
                && view.path != ClientPath::InboundDelegation
                && let Some(rule) = &policy.rule
            {
                return found(Cut::Rule(rule), rank::RULE);
            }
            if let Some(zone) = policy.zone.and_then(|zone| snapshot.zones.get(zone)) {
                return found(Cut::Zone(zone), rank::ZONE);
            }
        }
        if view.path != ClientPath::InboundDelegation && rank <= rank::PRIVATE_NAME {
            let (own, shared) = (view.own.find(name, skip), shared.and_then(|shared| shared.find(name, skip)));
            if own.is_some() || shared.is_some() {
                let all = || own.into_iter().chain(shared).chain(private_names(snapshot, view, name, skip, 0));
                return found(private_cut(all), rank::PRIVATE_NAME);
            }
        }
        if view.has_profiles()
            && rank < rank::PUBLIC_NAME
            && let Some((cut, rank)) = cut_of_profiles(snapshot, view, name, skip, rank)
        {
            return found(cut, rank);
        }
        if view.path != ClientPath::InboundDelegation {
            if rank <= rank::PUBLIC_NAME
                && let Some(name) = snapshot.endpoints.public.find(name, skip)
            {
                return found(Cut::PublicName(name), rank::PUBLIC_NAME);
            }
            if rank <= rank::AUTODEFINED {
                let of_view = view.autodefined.as_ref().and_then(|autodefined| {
                    let local =
                        || reverse.find(name, skip).or_else(|| locally_served(view.has_reverse).find(name, skip));
                    autodefined.find(name, skip).or_else(local)
                });
                if let Some(zone) = of_view.or_else(|| SPECIAL_USE.find(name, skip)) {
                    return found(Cut::Autodefined(zone), rank::AUTODEFINED);
                }
            }
        }
        rank = rank::RULE;
    }
    None
}

/// The first cut of a view's Profiles at the suffix that is left when `skip` labels are taken from a name, and its rank. It is
/// at least `from`.
fn cut_of_profiles<'s>(
    snapshot: &'s Snapshot,
    view: &'s View,
    name: &LookupName,
    skip: usize,
    from: u32,
) -> Option<(Cut<'s>, u32)> {
    let is_full = view.path != ClientPath::InboundDelegation;
    let first = (from / rank::OF_LAYER).saturating_sub(1);
    for (at, layer) in (first..).map_while(|at| Some((at, snapshot.views.layer(view, at as usize)?))) {
        let rank_of = |rank: u32| Some(rank + rank::OF_LAYER * (at + 1)).filter(|rank| *rank >= from);
        if let Some(policy) = layer.profile.policies.names.find(name, skip) {
            if let (true, Some(rule), Some(rank)) = (is_full, &policy.rule, rank_of(rank::RULE)) {
                return Some((Cut::Rule(rule), rank));
            }
            let zone = policy.zone.and_then(|zone| snapshot.zones.get(zone));
            if let (Some(zone), Some(rank)) = (zone, rank_of(rank::ZONE)) {
                return Some((Cut::Zone(zone), rank));
            }
        }
        if let (true, Some(rank)) = (is_full, rank_of(rank::PRIVATE_NAME))
            && let Some(own) = layer.names.and_then(|names| names.find(name, skip))
        {
            let all = || [own].into_iter().chain(private_names(snapshot, view, name, skip, at as usize + 1));
            return Some((private_cut(all), rank));
        }
    }
    None
}

/// The cut of the private names at one suffix: the first name, and the first wildcard.
#[inline]
fn private_cut<'s, I: Iterator<Item = &'s PrivateName>>(all: impl Fn() -> I) -> Cut<'s> {
    let exact = all().find_map(|name| name.exact.as_ref());
    let wildcard = all().find_map(|name| name.wildcard.as_ref());
    Cut::PrivateName { exact, wildcard }
}

/// The private names that the Profiles of a view have at a suffix of a name, from the Profile at a position on, up to one with a
/// rule or zone there. A name and its wildcard can be of different Profiles.
fn private_names<'s>(
    snapshot: &'s Snapshot,
    view: &'s View,
    name: &LookupName,
    skip: usize,
    from: usize,
) -> impl Iterator<Item = &'s PrivateName> {
    let layers = snapshot.views.layers(view).skip(from);
    let layers = layers.take_while(move |layer| layer.profile.policies.names.find(name, skip).is_none());
    layers.filter_map(move |layer| layer.names?.find(name, skip))
}

/// Whether a view has a zone, a forwarding rule, a name of an endpoint or an autodefined zone below the suffix that is left
/// when `skip` labels are taken from a name. The suffix exists then.
#[cold]
pub fn has_below(snapshot: &Snapshot, view: &View, name: &LookupName, skip: usize) -> bool {
    let is_full = view.path != ClientPath::InboundDelegation;
    let of_profiles = snapshot.views.layers(view).map(|layer| &layer.profile.policies);
    let above_policies = snapshot
        .views
        .policies(view)
        .into_iter()
        .chain(of_profiles)
        .any(|policies| policies.above_zones.has(name, skip) || is_full && policies.above_rules.has(name, skip));
    let above_endpoints = || {
        let mut of_profiles = snapshot.views.layers(view).filter_map(|layer| layer.names);
        of_profiles.any(|names| names.above().has(name, skip))
            || view.own.above().has(name, skip)
            || snapshot.views.shared(view).is_some_and(|shared| shared.above().has(name, skip))
            || snapshot.endpoints.above_public.has(name, skip)
    };
    let above_autodefined = || {
        let of_view = view.autodefined.as_ref().is_some_and(|autodefined| {
            autodefined.above().has(name, skip)
                || locally_served(view.has_reverse).above().has(name, skip)
                || view.has_reverse
                    && ReverseZones::are_below(&snapshot.networks, view.named.iter().copied(), name, skip)
        });
        of_view || SPECIAL_USE.above().has(name, skip)
    };
    above_policies || is_full && (above_endpoints() || above_autodefined())
}

/// The endpoint of a private name that stands closest to a name `skip` labels below it: its own one for the name itself, else
/// that of the wildcard.
pub fn endpoint_for<'s>(
    exact: Option<&'s EndpointName>,
    wildcard: Option<&'s EndpointName>,
    skip: usize,
) -> Option<&'s EndpointName> {
    if skip == 0 { exact.or(wildcard) } else { wildcard.or(exact) }
}

/// The endpoint of the longest private name at or above a name.
pub fn endpoint_of_private_name<'s>(
    snapshot: &'s Snapshot,
    view: &'s View,
    name: &LookupName,
) -> Option<&'s EndpointName> {
    let mut position = CutPosition::START;
    while let Some((cut, found)) = next_cut(snapshot, view, name, position) {
        if let Cut::PrivateName { exact, wildcard } = cut {
            return endpoint_for(exact, wildcard, found.skip);
        }
        position = found.next();
    }
    None
}
