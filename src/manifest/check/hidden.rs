//! Zones and private names that are never answered from, as something else of the very same name comes first: a rule before
//! a zone, and both before an endpoint's private name.

use super::{Checker, Known, endpoints::has_private_names, key_of};
use crate::{
    manifest::{Id, PrivateDnsScope, PrivateHostedZone, ResolverRule, RuleType, VpcEndpoint, connectivity::Network},
    wire::Name,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// A private name that something else has, too: what that is, and the VPCs that it is for.
type Taken<'a> = (&'a Name, String, BTreeSet<&'a str>);

/// How many names are told of.
const MAX_TOLD: usize = 100;

impl<'a> Checker<'a> {
    pub(super) fn hidden(&mut self, known: &Known) {
        let manifest = self.manifest;
        let mut rules_at: HashMap<&Name, Vec<(&Id, &ResolverRule)>> = HashMap::new();
        for (id, rule) in &manifest.resolver_rules {
            // A SYSTEM rule sends nothing elsewhere, and a DELEGATE rule is for referrals.
            if rule.enabled && matches!(rule.rule_type, RuleType::Forward | RuleType::Recursive) {
                rules_at.entry(&rule.domain_name).or_default().push((id, rule));
            }
        }
        let mut hidden: Vec<(&Id, &Id, &str)> = Vec::new();
        for (name, rules) in &rules_at {
            for (id, zone) in self.zones_at(known, name) {
                for (rule_id, rule) in rules {
                    let both = zone.vpc_ids.iter().find(|vpc| rule.vpc_ids.contains(vpc));
                    hidden.extend(both.map(|vpc| (id, *rule_id, vpc.as_str())));
                }
            }
        }
        hidden.sort();
        for (id, rule, vpc) in hidden.into_iter().take(MAX_TOLD) {
            let message = format!("`{vpc}` never asks the zone: the rule `{rule}` has the same name, and comes first");
            self.warning("private_hosted_zones", id, "name", message);
            self.help("take the VPC out of one of the two");
        }
        self.hidden_private_names(known, &rules_at);
    }

    fn zones_at(&self, known: &Known, name: &Name) -> Vec<(&'a Id, &'a Arc<PrivateHostedZone>)> {
        let ids = known.zones_at.get(&key_of(name)).into_iter().flatten();
        ids.filter_map(|id| self.manifest.private_hosted_zones.get_key_value(id)).collect()
    }

    fn hidden_private_names(&mut self, known: &Known, rules_at: &HashMap<&Name, Vec<(&'a Id, &'a ResolverRule)>>) {
        let manifest = self.manifest;
        // By service: its names that something else has, too, with what that is and whose it is.
        let mut taken: HashMap<&str, Vec<Taken>> = HashMap::new();
        for (service_id, service) in &manifest.vpc_endpoint_services {
            for name in &service.private_dns_names {
                let rules = rules_at.get(name).into_iter().flatten();
                let rules = rules.map(|(id, rule)| (format!("the rule `{id}`"), &rule.vpc_ids));
                let zones = self.zones_at(known, name).into_iter();
                // An alias at the apex answers the name on purpose.
                let zones =
                    zones.filter(|(_, zone)| !zone.records.iter().any(|set| set.name == "@" && set.alias.is_some()));
                let zones = zones.map(|(id, zone)| (format!("the zone `{id}`"), &zone.vpc_ids));
                for (what, vpcs) in rules.chain(zones) {
                    let vpcs = vpcs.iter().map(String::as_str).collect();
                    taken.entry(service_id).or_default().push((name, what, vpcs));
                }
            }
        }
        if taken.is_empty() {
            return;
        }
        let mut left = MAX_TOLD;
        for (id, endpoint) in manifest.vpc_endpoints.iter().filter(|(_, endpoint)| has_private_names(endpoint)) {
            for (name, what, vpcs) in taken.get(endpoint.service_name.as_str()).into_iter().flatten() {
                let Some(vpc) = self.scope_of(endpoint).into_iter().find(|vpc| vpcs.contains(vpc.as_str())) else {
                    continue;
                };
                if left == 0 {
                    return;
                }
                left -= 1;
                let message =
                    format!("`{vpc}` never gets the private name {name}: {what} has the same name, and comes first");
                self.warning("vpc_endpoints", id, "private_dns_enabled", message);
                self.help("take the VPC out of that, or write `private_dns_enabled: false`");
            }
        }
    }

    /// The VPCs that resolve an endpoint's private names.
    fn scope_of(&self, endpoint: &VpcEndpoint) -> Vec<Id> {
        match &endpoint.private_dns_scope {
            PrivateDnsScope::Vpc => vec![endpoint.vpc_id.clone()],
            PrivateDnsScope::Vpcs(ids) => ids.clone(),
            PrivateDnsScope::Connected => {
                let own = Network::Vpc(endpoint.vpc_id.clone());
                let near = self.connectivity.connected_to(&own).into_iter().filter_map(|network| match network {
                    Network::Vpc(id) => Some(id.clone()),
                    Network::OnPremises(_) => None,
                });
                std::iter::once(endpoint.vpc_id.clone()).chain(near).collect()
            }
        }
    }
}
