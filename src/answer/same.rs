//! Which names every client gets the same answer for, whatever its view and AZ: those whose answers have the scope 0
//! (docs/concepts/who-asks.md).

use super::{
    cut::{Cut, next_cut},
    dns64,
};
use crate::{
    manifest::ClientRoutingPolicy,
    snapshot::{
        Snapshot,
        autodefined::{Autodefined, LOCALLY_SERVED, ReverseZones},
        endpoints::NameKind,
        networks::Path,
        views::View,
    },
    wire::{query::LookupName, rdata::rtype},
};

/// Whether this name and type are answered alike in all views and AZs. Where that is not plain, they are not.
#[cold]
pub fn for_all(snapshot: &Snapshot, view: &View, name: &LookupName, qtype: u16) -> bool {
    let Some(differing) = &snapshot.views.differing else { return false };
    let is_made = matches!(qtype, rtype::AAAA | rtype::PTR | rtype::ANY) || dns64::below_prefix(name).is_some();
    let is_made_from_others = differing.dns64 && is_made;
    if view.path == Path::InboundDelegation || qtype == rtype::DS || is_made_from_others {
        return false;
    }
    let skip = match next_cut(snapshot, view, name, (0, 0)) {
        // The internet resolver's, if there is one.
        None if differing.delegates => return false,
        None => name.labels(),
        Some((Cut::Public(public), (skip, _))) => {
            let has_affinity = || {
                let endpoint = snapshot.endpoints.get(public.slot);
                endpoint.is_none_or(|endpoint| {
                    endpoint.source.client_routing_policy != ClientRoutingPolicy::AnyAvailabilityZone
                })
            };
            if !matches!(public.kind, NameKind::Zonal(_)) && has_affinity() {
                return false;
            }
            skip
        }
        Some((Cut::Autodefined(Autodefined::Localhost | Autodefined::Loopback | Autodefined::Empty), (skip, _))) => {
            skip
        }
        Some(_) => return false,
    };
    // Nobody has anything at this cut, between it and the name, or below the name.
    let vpcs = || snapshot.views.iter().flat_map(|view| view.named.iter().copied());
    let is_above = differing.names.above().has(name, 0)
        || differing.locally_served && LOCALLY_SERVED.above().has(name, 0)
        || ReverseZones::are_below(&snapshot.networks, vpcs(), name, 0);
    !is_above
        && ReverseZones::of_all(&snapshot.networks, name).is_empty()
        && (0..=skip).all(|skip| {
            differing.names.find(name, skip).is_none()
                && (!differing.locally_served || LOCALLY_SERVED.find(name, skip).is_none())
        })
}
