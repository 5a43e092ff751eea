//! The check of alias records: each has to lead to records, or to the name of an endpoint.

use super::{
    endpoints::Endpoints,
    zone::{Search, Zone},
    zones::Zones,
};
use crate::{
    manifest::{Id, Manifest, Problem, VpcEndpointService, decode::nearest, work},
    wire::{Name, name::name_text, query::LookupName, rdata::type_from_text},
};
use imbl::{OrdMap, OrdSet};
use std::{collections::BTreeSet, sync::Arc};

/// The problems of alias records. Zones whose aliases lead to endpoints are checked again when names of endpoints change. A
/// copy shares unchanged parts.
#[derive(Clone, Default)]
pub struct Aliases {
    /// The zones with an alias that leads out of them.
    leading_out: OrdSet<Id>,
    /// The problems of each zone. Those of a zone outside `leading_out` stay until it is changed.
    found: OrdMap<Id, Arc<[Problem]>>,
}

impl Aliases {
    /// Checks the aliases of changed zones: those that a change of a few names touches, or all of the zone. If names of
    /// endpoints have changed, checks all aliases to such names too. `old` are the zones before the change.
    pub(super) fn recheck(
        &self,
        manifest: &Manifest,
        old: Option<&Zones>,
        zones: &Zones,
        changed: &BTreeSet<Id>,
        endpoints: &Endpoints,
        renamed: bool,
    ) -> Aliases {
        let mut this = self.clone();
        let are_good = |id: &&Id| {
            let versions = old.and_then(|old| old.of(id)).zip(zones.of(id));
            // The fields of problems belong to one version of the resource.
            let holds = |old: &Zone, new: &Zone| !self.found.contains_key(*id) || old.is_of(&new.source);
            versions.is_some_and(|(old, new)| holds(old, new) && still_lead_to_records(old, new, endpoints))
        };
        let changed: Vec<&Id> = changed.iter().filter(|id| !are_good(id)).collect();
        let others = self.leading_out.iter().filter(|_| renamed);
        let ids: BTreeSet<Id> = changed.iter().copied().chain(others).cloned().collect();
        for id in changed {
            this.leading_out.remove(id);
            this.found.remove(id);
        }
        for id in ids {
            let Some(zone) = zones.of(&id) else { continue };
            let mut problems = Vec::new();
            if check(manifest, zone, endpoints, &mut problems) {
                this.leading_out.insert(id.clone());
            }
            match problems.is_empty() {
                true => drop(this.found.remove(&id)),
                false => drop(this.found.insert(id, problems.into())),
            }
        }
        this
    }

    /// All problems.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.found.values().flat_map(|found| found.iter()).cloned()
    }
}

/// Whether each alias that a change of its zone touches leads to records, so that the last check of the zone is still valid.
/// False if all aliases have to be checked.
fn still_lead_to_records(old: &Zone, new: &Zone, endpoints: &Endpoints) -> bool {
    let Some(names) = old.aliases_touched_in(new) else { return false };
    names.iter().all(|name| {
        let Some(node) = new.node_of(&[name, &*new.apex].concat()) else { return false };
        node.sets().filter_map(|set| Some((set.rtype(), set.alias()?))).all(|(rtype, number)| {
            work::count(1);
            let (name, target) = (new.alias(number), LookupName::new(new.alias(number).as_wire()));
            // The change of a zone does not change what is outside the zone.
            let Some(target) = target.filter(|_| name.is_at_or_below(&new.source.name)) else { return true };
            leads_to_endpoint(endpoints, &target) || follow_alias(new, rtype, &target).is_ok()
        })
    })
}

fn leads_to_endpoint(endpoints: &Endpoints, target: &LookupName) -> bool {
    endpoints.public.find(target, 0).is_some() || is_below_endpoint_name(endpoints, target)
}

/// Checks that each alias leads to the name of an endpoint, or to a record set of its own zone without a circle. Returns
/// whether an alias leads out of the zone, or to an endpoint.
fn check(manifest: &Manifest, zone: &Zone, endpoints: &Endpoints, problems: &mut Vec<Problem>) -> bool {
    let id = &zone.id;
    let mut leads_out = false;
    if !zone.has_aliases() {
        return leads_out;
    }
    for (at, set) in zone.source.records.iter().enumerate() {
        work::count(1);
        let Some(alias) = &set.alias else { continue };
        let field = || format!("records[{at}].alias.name");
        let Some(target) = LookupName::new(alias.name.as_wire()) else { continue };
        leads_out |= !alias.name.is_at_or_below(&zone.source.name);
        if leads_to_endpoint(endpoints, &target) {
            leads_out = true;
            continue;
        }
        if !alias.name.is_at_or_below(&zone.source.name) {
            if manifest.vpc_endpoint_services.values().any(|service| may_be_name_of(service, &alias.name)) {
                // The endpoint is deleted, or in a state without names. It may come back, so this is a warning.
                let message = format!("no endpoint currently has the name {}: the alias has no records", alias.name);
                problems.push(Problem::warning("private_hosted_zones", id, field(), message));
            } else {
                let message = format!("{} is neither a name of an endpoint nor a name of this zone", alias.name);
                let form =
                    "a regional or zonal name of an endpoint, or a name of this zone with records of the same type";
                let meant =
                    (problems.len() < MAX_SUGGESTIONS).then(|| suggestion(zone, endpoints, &alias.name)).flatten();
                let help = meant.unwrap_or_else(|| form.into());
                problems.push(Problem::error("private_hosted_zones", id, field(), message).help(help));
            }
            continue;
        }
        let rtype = type_from_text(&set.record_type).unwrap_or_default();
        if let Err(message) = follow_alias(zone, rtype, &target) {
            let problem = Problem::error("private_hosted_zones", id, field(), message);
            let help = (problems.len() < MAX_SUGGESTIONS).then(|| suggestion(zone, endpoints, &alias.name)).flatten();
            problems.push(Problem { help, ..problem });
        }
    }
    leads_out
}

/// The number of problems of a zone that get a suggestion. A suggestion compares a name with all known names.
const MAX_SUGGESTIONS: usize = 20;

/// The name that the author of an alias probably meant: one of this zone or of an endpoint.
fn suggestion(zone: &Zone, endpoints: &Endpoints, target: &Name) -> Option<String> {
    /// The number of names of the zone, and of endpoints, that it is compared with.
    const MAX_COMPARED: usize = 10_000;
    let within = Name::parse(target.to_string().trim_end_matches('.').as_bytes(), Some(&zone.source.name)).ok();
    if let Some(name) = within.filter(|name| name != target && zone.node_of(name.to_lowercase().as_wire()).is_some()) {
        return Some(format!("names in aliases are absolute: did you mean `{name}`?"));
    }
    let own = zone.nodes().take(MAX_COMPARED).map(|node| node.name().to_string());
    let others = endpoints.public.iter().take(MAX_COMPARED).map(|(name, _)| name_text(name));
    let known: Vec<String> = own.chain(others).filter(|name| *name != target.to_string()).collect();
    let nearest = nearest(&target.to_string(), known.iter().map(String::as_str))?;
    Some(format!("did you mean `{nearest}`?"))
}

/// Whether a name is below an endpoint's name with a wildcard.
fn is_below_endpoint_name(endpoints: &Endpoints, target: &LookupName) -> bool {
    (1..target.labels()).find_map(|skip| endpoints.public.find(target, skip)).is_some_and(|name| name.wildcard)
}

/// Whether an endpoint of the service could have the name: one label below the name of the service, or any number of labels
/// if the service has a wildcard.
fn may_be_name_of(service: &VpcEndpointService, name: &Name) -> bool {
    let has_wildcards = service.private_dns_names.iter().any(Name::is_wildcard);
    name.parent().is_some_and(|parent| match has_wildcards {
        true => parent.is_at_or_below(&service.dns_name),
        false => parent == service.dns_name,
    })
}

/// The largest number of aliases in a chain.
pub const MAX_ALIASES: usize = 8;

fn follow_alias(zone: &Zone, rtype: u16, target: &LookupName) -> Result<(), String> {
    let mut target = target.clone();
    for _ in 0..MAX_ALIASES {
        let node = match zone.search(&target) {
            Search::Node(node) | Search::Wildcard(node) => Some(node),
            Search::Empty => None,
            _ => return Err("the name that the alias leads to is not in this zone".into()),
        };
        let Some(set) = node.and_then(|node| node.set(rtype)) else {
            return Err("the name that the alias leads to has no records of this type".into());
        };
        let Some(next) = set.alias().and_then(|number| LookupName::new(zone.alias(number).as_wire())) else {
            return Ok(());
        };
        if next.labels() < zone.apex_labels() || next.suffix(next.labels() - zone.apex_labels()) != &*zone.apex {
            return Ok(()); // leads to an endpoint: its own check looks at that
        }
        target = next;
    }
    Err(format!("the chain has more than {MAX_ALIASES} aliases, perhaps in a circle"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::{Loaded, Severity},
        snapshot::compile,
    };
    use serde_json::json;

    /// An alias to a name that an endpoint could have gets a warning while there is no such endpoint; to any other name, an error.
    #[test]
    fn warns_of_aliases_to_deleted_endpoints_and_rejects_aliases_to_other_names() {
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
