//! The scope of an answer (RFC 7871): 0 if every client gets the same answer, whatever its view and AZ
//! (docs/concepts/who-asks.md).

use super::{
    context::Context,
    cut::{Cut, CutPosition, next_cut, public_zone},
};
use crate::{
    manifest::ClientRoutingPolicy,
    snapshot::{
        autodefined::{Autodefined, LOCALLY_SERVED, ReverseZones},
        endpoints::NameKind,
        networks::ClientPath,
    },
    wire::{dns64::is_reverse, query::LookupName, rdata::rtype},
};

/// Whether the answer for a name and type is certain to be the same in all views and AZs.
#[cold]
pub fn is_same_for_all(context: &Context, name: &LookupName, qtype: u16) -> bool {
    let Context { snapshot, view, .. } = *context;
    let Some(differences) = &snapshot.views.differences else { return false };
    if !snapshot.firewall.is_empty() {
        return false; // the views have different rules
    }
    let is_synthesised = matches!(qtype, rtype::AAAA | rtype::PTR | rtype::ANY) || is_reverse(name);
    let is_from_dns64 = differences.dns64 && is_synthesised;
    if view.path == ClientPath::InboundDelegation || qtype == rtype::DS || is_from_dns64 {
        return false;
    }
    let skip = match next_cut(snapshot, view, name, CutPosition::START) {
        // Aliases and routing policies of a public zone can have an answer for each client.
        None if public_zone(snapshot, name, 0).is_some() => return false,
        // The internet resolver answers, if there is one.
        None if differences.delegates || differences.validation => return false,
        None => name.labels(),
        Some((Cut::PublicName(public), CutPosition { skip, .. })) => {
            let has_affinity = || {
                let endpoint = snapshot.endpoints.get(public.slot);
                endpoint.is_none_or(|endpoint| {
                    endpoint.source.client_routing_policy != ClientRoutingPolicy::AnyAvailabilityZone
                        || !endpoint.interfaces.iter().all(|interface| interface.is_same_for_all())
                })
            };
            if !matches!(public.kind, NameKind::Zonal(_)) && has_affinity() {
                return false;
            }
            skip
        }
        Some((
            Cut::Autodefined(Autodefined::Localhost | Autodefined::Loopback | Autodefined::Empty),
            CutPosition { skip, .. },
        )) => skip,
        Some(_) => return false,
    };
    // No view has anything else at this cut, between it and the name, or below the name.
    let vpcs = || snapshot.views.iter().flat_map(|view| view.named.iter().copied());
    let is_above = differences.names.above().has(name, 0)
        || differences.locally_served && LOCALLY_SERVED.above().has(name, 0)
        || ReverseZones::are_below(&snapshot.networks, vpcs(), name, 0);
    !is_above
        && ReverseZones::of_all(&snapshot.networks, name).is_empty()
        && (0..=skip).all(|skip| {
            differences.names.find(name, skip).is_none()
                && (!differences.locally_served || LOCALLY_SERVED.find(name, skip).is_none())
        })
}
