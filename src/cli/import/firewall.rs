//! DNS Firewall: domain lists, rule groups and their associations.

use super::{Import, Item, is_empty, part_data, without_dot};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

const LISTS: &str = "firewall_domain_lists";
const GROUPS: &str = "firewall_rule_groups";

impl<'i> Import<'i> {
    pub(super) fn firewall(&mut self) {
        self.domain_lists();
        let mut rules: HashMap<&str, Vec<&'i Item>> = HashMap::new();
        for item in self.input.list("FirewallRules") {
            let Some(group) = self.id(GROUPS, item, "FirewallRuleGroupId") else { continue };
            rules.entry(group).or_default().push(item);
        }
        let mut associations: HashMap<&str, Vec<&'i Item>> = HashMap::new();
        for item in self.input.list("FirewallRuleGroupAssociations") {
            let Some(group) = self.id(GROUPS, item, "FirewallRuleGroupId") else { continue };
            associations.entry(group).or_default().push(item);
        }
        for item in self.input.list("FirewallRuleGroups") {
            let Some(id) = self.id(GROUPS, item, "Id") else { continue };
            if self.has(GROUPS, id) {
                continue;
            }
            let (mut made, mut data) = (Vec::new(), Map::new());
            for rule in rules.remove(id).unwrap_or_default() {
                if let Some(one) = self.rule(id, rule) {
                    let mut of_rule = part_data(rule);
                    // The name of a rule is a member of the manifest.
                    if let Some(members) = of_rule.as_object_mut() {
                        members.remove("name");
                    }
                    if !is_empty(&of_rule) {
                        data.insert(rule.text("Name").unwrap_or("-").into(), of_rule);
                    }
                    made.push(one);
                }
            }
            let (mut vpcs, mut associated) = (Vec::new(), Map::new());
            for association in associations.remove(id).unwrap_or_default() {
                let vpc = association.text("VpcId").unwrap_or_default();
                if self.known_vpcs(GROUPS, id, [vpc].into_iter()).is_empty() {
                    continue;
                }
                let of_association = part_data(association);
                if !is_empty(&of_association) {
                    associated.insert(vpc.into(), of_association);
                }
                vpcs.push(json!({
                    "vpc_id": vpc,
                    "priority": association.value.get("Priority"),
                    "mutation_protection": association.text("MutationProtection") == Some("ENABLED"),
                }));
            }
            let named = [("CreatorRequestId", "creator_request_id"), ("CreationTime", "created")];
            let mut aws = self.placed_data(item, &named);
            for (member, parts) in [("rules", data), ("associations", associated)] {
                if !parts.is_empty() {
                    aws[member] = parts.into();
                }
            }
            let resource = json!({
                "rules": made,
                "vpc_associations": vpcs,
                "name": item.text("Name"),
                "tags": self.tags_of(id, item),
                "aws": aws,
            });
            self.put(GROUPS, id, resource);
        }
        let orphans: Vec<&str> = rules.into_keys().chain(associations.into_keys()).collect();
        for group in orphans {
            let reason = "there are rules or associations, but no output of list-firewall-rule-groups has the group";
            self.report.not_expressible(GROUPS, group, reason);
        }
    }

    fn domain_lists(&mut self) {
        let mut domains: HashMap<&str, Vec<&'i str>> = HashMap::new();
        for item in self.input.list("FirewallDomains") {
            domains.entry(&item.origin.of).or_default().extend(item.value.as_str());
        }
        for item in self.input.list("FirewallDomainLists") {
            let Some(id) = self.id(LISTS, item, "Id") else { continue };
            if self.has(LISTS, id) {
                continue;
            }
            if let Some(owner) = item.text("ManagedOwnerName") {
                let name = item.text("Name").unwrap_or(id);
                let reason = format!(
                    "{name} is a list of {owner}, whose names AWS does not publish: rules with it are left out; add a list with a \
                     `source` for them"
                );
                self.report.not_expressible(LISTS, id, reason);
                continue;
            }
            let own = domains.get(id).cloned().unwrap_or_default();
            if own.is_empty() {
                self.report.approximated(
                    LISTS,
                    id,
                    "no output of list-firewall-domains has its names: the list is empty",
                );
            }
            let named = [("CreatorRequestId", "creator_request_id"), ("CreationTime", "created")];
            let aws = self.placed_data(item, &named);
            let resource = json!({
                "domains": own.into_iter().map(without_dot).collect::<Vec<_>>(),
                "name": item.text("Name"),
                "tags": self.tags_of(id, item),
                "aws": aws,
            });
            self.put(LISTS, id, resource);
        }
    }

    /// A rule of a group. None if it cannot be expressed.
    fn rule(&mut self, group: &str, item: &'i Item) -> Option<Value> {
        let name = item.text("Name").unwrap_or("-");
        let about = format!("{group} rule {name}");
        let rule_type = item.value.get("FirewallRuleType").and_then(|rule_type| rule_type.get("DnsThreatProtection"));
        let of_type = |member: &str| rule_type?.get(member)?.as_str();
        let list = item.text("FirewallDomainListId");
        let detector = item.text("DnsThreatProtection").or_else(|| of_type("Value"));
        let confidence = item.text("ConfidenceThreshold").or_else(|| of_type("ConfidenceThreshold"));
        match (list, detector) {
            (Some(list), _) if self.has(LISTS, list) => {}
            (Some(list), _) => {
                self.report.not_expressible(GROUPS, &about, format!("its domain list {list} is not imported"));
                return None;
            }
            (None, Some("DGA" | "DNS_TUNNELING")) => {
                let reason = "the detector of zonal has its own thresholds, and finds other names than that of AWS";
                self.report.approximated(GROUPS, &about, reason);
            }
            (None, detector) => {
                let reason = match detector {
                    Some(detector) => format!("zonal has no detector {detector}"),
                    None => "the rule has neither a domain list nor a detector that zonal has".into(),
                };
                self.report.not_expressible(GROUPS, &about, reason);
                return None;
            }
        }
        let is_block = item.text("Action") == Some("BLOCK");
        let is_override = is_block && item.text("BlockResponse") == Some("OVERRIDE");
        let redirection = match item.text("FirewallDomainRedirectionAction") {
            Some("TRUST_REDIRECTION_DOMAIN") => Some("TRUST"),
            _ => None,
        };
        let rule = json!({
            "name": name,
            "priority": item.value.get("Priority"),
            "action": item.text("Action"),
            "firewall_domain_list_id": list,
            "dns_threat_protection": detector.filter(|_| list.is_none()),
            "confidence_threshold": confidence.filter(|_| list.is_none()),
            "qtypes": item.text("Qtype").map(|qtype| vec![qtype]),
            "block_response": item.text("BlockResponse").filter(|_| is_block),
            "block_override_domain": item.text("BlockOverrideDomain").filter(|_| is_override),
            "block_override_ttl": item.value.get("BlockOverrideTtl").filter(|_| is_override),
            "redirection_action": redirection,
        });
        let members = rule.as_object().into_iter().flatten().filter(|(_, value)| !super::is_empty(value));
        Some(Value::Object(members.map(|(member, value)| (member.clone(), value.clone())).collect::<Map<_, _>>()))
    }
}
