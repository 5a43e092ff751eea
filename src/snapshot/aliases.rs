//! Aliases of zones: whether they lead to something.

use super::{
    endpoints::Endpoints,
    zone::{Search, Zone},
    zones::Zones,
};
use crate::{
    manifest::{Id, Manifest, Problem, VpcEndpointService, decode::nearest, work},
    wire::{Name, name::printed, query::LookupName, rdata::type_from_text},
};
use imbl::{OrdMap, OrdSet};
use std::{collections::BTreeSet, sync::Arc};

/// What was found of the zones whose aliases lead out of them, which a change of endpoints can change. A copy shares what
/// does not.
#[derive(Clone, Default)]
pub struct Aliases {
    leading_out: OrdSet<Id>,
    /// What was found; of other zones only in what has just been checked.
    found: OrdMap<Id, Arc<[Problem]>>,
}

impl Aliases {
    /// Checks the aliases of changed zones, in a zone that is `old` but for a few names those that may lead to something else;
    /// and, if names of endpoints may be others, all those that lead to such names.
    pub(super) fn follow(
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
            versions.is_some_and(|(old, new)| still_lead_somewhere(old, new, endpoints))
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

/// Whether all aliases that a change of their zone may have touched lead to something: what was found of the zone's aliases
/// holds. False if it has to be found out by looking at all.
fn still_lead_somewhere(old: &Zone, new: &Zone, endpoints: &Endpoints) -> bool {
    let Some(names) = old.aliases_touched_in(new) else { return false };
    names.iter().all(|name| {
        let Some(node) = new.node_of(&[name, &*new.apex].concat()) else { return false };
        node.sets().filter_map(|set| Some((set.rtype(), set.alias()?))).all(|(rtype, number)| {
            work::count(1);
            let (name, target) = (new.alias(number), LookupName::new(new.alias(number).as_wire()));
            // What leads out of the zone leads to where it did.
            let Some(target) = target.filter(|_| name.is_at_or_below(&new.source.name)) else { return true };
            leads_to_endpoint(endpoints, &target) || follow_alias(new, rtype, &target).is_ok()
        })
    })
}

fn leads_to_endpoint(endpoints: &Endpoints, target: &LookupName) -> bool {
    endpoints.public.find(target, 0).is_some() || is_below_endpoint_name(endpoints, target)
}

/// An alias leads to a name of an endpoint, or to a record set of its own zone that is there and is no circle. Tells whether
/// one leads out of the zone, or to an endpoint within.
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
                // An endpoint that is gone, or in a state without names: it may come (back).
                let message = format!("no endpoint has the name {} now: the alias has no records", alias.name);
                problems.push(Problem::warning("private_hosted_zones", id, field(), message));
            } else {
                let message = format!("{} is neither a name of an endpoint nor of this zone", alias.name);
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

/// How many problems of a zone get a suggestion: each is compared with all that is known.
const MAX_SUGGESTIONS: usize = 20;

/// The name that an alias is likely to lead to: of this zone, or of an endpoint.
fn suggestion(zone: &Zone, endpoints: &Endpoints, target: &Name) -> Option<String> {
    /// With how many names of each sort it is compared.
    const MAX_COMPARED: usize = 10_000;
    let within = Name::parse(target.to_string().trim_end_matches('.').as_bytes(), Some(&zone.source.name)).ok();
    if let Some(name) = within.filter(|name| name != target && zone.node_of(name.to_lowercase().as_wire()).is_some()) {
        return Some(format!("names in aliases are absolute: did you mean `{name}`?"));
    }
    let own = zone.nodes().take(MAX_COMPARED).map(|node| node.name().to_string());
    let others = endpoints.public.iter().take(MAX_COMPARED).map(|(name, _)| printed(name));
    let known: Vec<String> = own.chain(others).filter(|name| *name != target.to_string()).collect();
    let nearest = nearest(&target.to_string(), known.iter().map(String::as_str))?;
    Some(format!("did you mean `{nearest}`?"))
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
            return Ok(()); // on to an endpoint, which its own check looks at
        }
        target = next;
    }
    Err(format!("more than {MAX_ALIASES} aliases follow on one another, maybe in a circle"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::{Loaded, Severity},
        snapshot::compile,
    };
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
