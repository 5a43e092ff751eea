//! Zones and private names that zonal never answers from, because something else of the same name
//! has precedence: a rule over a zone, and both over an endpoint's private name.

use super::{Checker, Index, endpoints::has_private_names, key_of};
use crate::{
    manifest::{Id, PrivateDnsScope, PrivateHostedZone, ResolverRule, RuleType, VpcEndpoint, connectivity::Network},
    wire::Name,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// A private name that something else shadows: the name, a description of what shadows it, and the
/// VPCs where it does.
type Shadow<'a> = (&'a Name, String, BTreeSet<&'a str>);

/// The number of names that are reported.
const MAX_REPORTED: usize = 100;

impl<'a> Checker<'a> {
    pub(super) fn shadowed(&mut self, index: &Index) {
        let manifest = self.manifest;
        let mut rules_at: HashMap<&Name, Vec<(&Id, &ResolverRule)>> = HashMap::new();
        for (id, rule) in &manifest.resolver_rules {
            // A SYSTEM rule forwards nothing, and a DELEGATE rule applies to referrals.
            if rule.enabled && matches!(rule.rule_type, RuleType::Forward | RuleType::Recursive) {
                rules_at.entry(&rule.domain_name).or_default().push((id, rule));
            }
        }
        let mut shadowed: Vec<(&Id, &Id, &str)> = Vec::new();
        for (name, rules) in &rules_at {
            for (id, zone) in self.zones_named(index, name) {
                for (rule_id, rule) in rules {
                    let both = zone.vpc_ids.iter().find(|vpc| rule.vpc_ids.contains(vpc));
                    shadowed.extend(both.map(|vpc| (id, *rule_id, vpc.as_str())));
                }
            }
        }
        shadowed.sort();
        for (id, rule, vpc) in shadowed.into_iter().take(MAX_REPORTED) {
            let message =
                format!("the zone is not used in `{vpc}`: rule `{rule}` has the same name and has precedence");
            self.warning("private_hosted_zones", id, "name", message);
            self.help("remove the VPC from the zone or from the rule");
        }
        self.shadowed_private_names(index, &rules_at);
    }

    fn zones_named(&self, index: &Index, name: &Name) -> Vec<(&'a Id, &'a Arc<PrivateHostedZone>)> {
        let ids = index.zones_named.get(&key_of(name)).into_iter().flatten();
        ids.filter_map(|id| self.manifest.private_hosted_zones.get_key_value(id)).collect()
    }

    fn shadowed_private_names(&mut self, index: &Index, rules_at: &HashMap<&Name, Vec<(&'a Id, &'a ResolverRule)>>) {
        let manifest = self.manifest;
        // The shadowed names of each service.
        let mut shadows: HashMap<&str, Vec<Shadow>> = HashMap::new();
        for (service_id, service) in &manifest.vpc_endpoint_services {
            for name in &service.private_dns_names {
                let rules = rules_at.get(name).into_iter().flatten();
                let rules = rules.map(|(id, rule)| (format!("rule `{id}`"), &rule.vpc_ids));
                let zones = self.zones_named(index, name).into_iter();
                // A zone with an alias at its apex answers the name on purpose.
                let zones =
                    zones.filter(|(_, zone)| !zone.records.iter().any(|set| set.name == "@" && set.alias.is_some()));
                let zones = zones.map(|(id, zone)| (format!("zone `{id}`"), &zone.vpc_ids));
                for (what, vpcs) in rules.chain(zones) {
                    let vpcs = vpcs.iter().map(String::as_str).collect();
                    shadows.entry(service_id).or_default().push((name, what, vpcs));
                }
            }
        }
        if shadows.is_empty() {
            return;
        }
        let mut left = MAX_REPORTED;
        for (id, endpoint) in manifest.vpc_endpoints.iter().filter(|(_, endpoint)| has_private_names(endpoint)) {
            for (name, what, vpcs) in shadows.get(endpoint.service_name.as_str()).into_iter().flatten() {
                let Some(vpc) = self.scope_of(endpoint).into_iter().find(|vpc| vpcs.contains(vpc.as_str())) else {
                    continue;
                };
                if left == 0 {
                    return;
                }
                left -= 1;
                let message = format!(
                    "the private name {name} is not used in `{vpc}`: {what} has the same name and has precedence"
                );
                self.warning("vpc_endpoints", id, "private_dns_enabled", message);
                self.help("remove the VPC from it, or write `private_dns_enabled: false`");
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
