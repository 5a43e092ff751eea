//! Route 53 Profiles: their resources, and the VPCs that they are associated with.

use super::{Import, Item, is_empty, last_part, part_data};
use serde_json::{Value, json};
use std::collections::HashMap;

const KIND: &str = "profiles";

impl<'i> Import<'i> {
    pub(super) fn profiles(&mut self) {
        let mut resources: HashMap<&str, Vec<&'i Item>> = HashMap::new();
        for item in self.input.list("ProfileResourceAssociations") {
            let Some(profile) = self.id(KIND, item, "ProfileId") else { continue };
            resources.entry(profile).or_default().push(item);
        }
        for item in self.input.list("Profiles") {
            let Some(id) = self.id(KIND, item, "Id") else { continue };
            if self.has(KIND, id) {
                continue;
            }
            let aws = self.placed_data(item, &[("ClientToken", "client_token"), ("CreationTime", "created")]);
            let mut resource = json!({"name": item.text("Name"), "tags": self.tags_of(id, item), "aws": aws});
            for member in resources.remove(id).unwrap_or_default() {
                self.member(id, member, &mut resource);
            }
            self.put(KIND, id, resource);
        }
        for profile in resources.into_keys() {
            self.report.not_expressible(KIND, profile, "no output of list-profiles has the Profile of these resources");
        }
        for item in self.input.list("ProfileAssociations") {
            let (Some(profile), Some(vpc)) = (item.text("ProfileId"), item.text("ResourceId")) else { continue };
            if !self.has(KIND, profile) {
                self.report.approximated("vpcs", vpc, format!("Profile {profile} is not imported"));
                continue;
            }
            let Some(vpc) = self.made.get_mut("vpcs").and_then(|vpcs| vpcs.get_mut(vpc)) else {
                let reason = format!("{vpc} is not among the imported VPCs: the association with it is left out");
                self.report.approximated(KIND, profile, reason);
                continue;
            };
            let profiles = vpc.as_object_mut().map(|vpc| vpc.entry("profiles").or_insert_with(|| json!([])));
            if let Some(Value::Array(profiles)) = profiles {
                // Each Profile of a VPC has a priority of its own: without one, those that AWS lists first come first.
                let given = item.value.get("Priority").and_then(Value::as_u64);
                let priority = given.unwrap_or(100 + profiles.len() as u64);
                profiles.push(json!({"profile_id": profile, "priority": priority}));
            }
            let data = part_data(item);
            if !is_empty(&data) {
                vpc["aws"]["profile_associations"][profile] = data;
            }
        }
    }

    /// Adds a resource of a Profile.
    fn member(&mut self, profile: &str, item: &'i Item, made: &mut Value) {
        let arn = item.text("ResourceArn").unwrap_or_default();
        let id = last_part(arn);
        let properties: Value =
            item.text("ResourceProperties").and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
        let kinds = [
            ("HOSTED_ZONE", "private_hosted_zones", ":hostedzone/"),
            ("RESOLVER_RULE", "resolver_rules", ":resolver-rule/"),
            ("VPC_ENDPOINT", "vpc_endpoints", ":vpc-endpoint/"),
            ("FIREWALL_RULE_GROUP", "firewall_rule_groups", ":firewall-rule-group/"),
            ("RESOLVER_QUERY_LOG_CONFIG", "query_log_configs", ":resolver-query-log-config/"),
        ];
        let resource_type = item.text("ResourceType").unwrap_or_default();
        let kind = kinds.iter().find(|(word, _, part)| *word == resource_type || arn.contains(part));
        let Some((_, kind, part)) = kind else {
            self.report.not_expressible(KIND, profile, format!("zonal has no Profiles with {resource_type} ({arn})"));
            return;
        };
        if !self.has(kind, &id) {
            self.report.approximated(
                KIND,
                profile,
                format!("{kind}/{id} is not imported, so the Profile does not have it"),
            );
            return;
        }
        let value = match *kind {
            "firewall_rule_groups" => {
                json!({"id": id, "priority": properties.get("priority").and_then(Value::as_u64).unwrap_or(101)})
            }
            _ => json!(id),
        };
        let list = made.as_object_mut().map(|made| made.entry(*kind).or_insert_with(|| json!([])));
        if let Some(Value::Array(list)) = list
            && !list.contains(&value)
        {
            list.push(value);
            let data = part_data(item);
            if !is_empty(&data) {
                let key = format!("{}{id}", part.trim_start_matches(':'));
                made["aws"]["resources"][key] = data;
            }
        }
    }
}
