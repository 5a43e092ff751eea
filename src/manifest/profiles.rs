//! Profiles: sets of zones, rules, endpoints and settings that many VPCs share.

use super::{
    FirewallRuleGroup, Manifest, Vpc,
    aws_data::{AwsData, Tags},
    types::Id,
    words::{is_default, words},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A Profile, as in the Route 53 API. VPCs name it in `profiles`, and are served its members as if they were associated with
/// the VPC, behind the VPC's own ones with the same name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Private hosted zones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub private_hosted_zones: Vec<Id>,
    /// Resolver rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resolver_rules: Vec<Id>,
    /// VPC endpoints. Clients that reach an endpoint resolve its private names, whatever its `private_dns_scope` is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vpc_endpoints: Vec<Id>,
    /// DNS Firewall rule groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub firewall_rule_groups: Vec<ProfileRuleGroup>,
    /// Query logging configurations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query_log_configs: Vec<Id>,
    /// The setting `autodefined_reverse` of VPCs without one of their own.
    #[serde(skip_serializing_if = "is_default")]
    pub autodefined_reverse: ProfileSetting,
    /// The setting `dnssec_validation` of VPCs without one of their own.
    #[serde(skip_serializing_if = "is_default")]
    pub dnssec_validation: ProfileSetting,
    /// The setting `firewall_fail_open` of VPCs without one of their own.
    #[serde(skip_serializing_if = "is_default")]
    pub firewall_fail_open: ProfileSetting,
    /// A name for people. It changes no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// A rule group of a Profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileRuleGroup {
    /// The rule group.
    pub id: Id,
    /// The position of the group among those of a VPC: the lowest priority comes first. A group of the VPC itself comes
    /// before a group of a Profile with the same priority.
    pub priority: u32,
}

/// A rule group of a VPC: its own one, or one of its Profiles.
#[derive(Clone, Copy, Debug)]
pub struct PlacedRuleGroup<'m> {
    /// The position of the group among those of the VPC.
    pub priority: u32,
    /// The Profile that has the group. None for a group of the VPC itself.
    pub profile: Option<&'m Id>,
    /// The identifier of the group.
    pub id: &'m Id,
    /// The group.
    pub resource: &'m FirewallRuleGroup,
}

words! {
    /// A setting of a Profile. With `use_local`, the setting of the next Profile counts, and else the default.
    #[derive(Default)]
    pub enum ProfileSetting {
        Enabled = "enabled",
        Disabled = "disabled",
        #[default]
        UseLocal = "use_local",
    }
}

impl ProfileSetting {
    /// The value; none with `use_local`.
    pub fn value(self) -> Option<bool> {
        match self {
            ProfileSetting::Enabled => Some(true),
            ProfileSetting::Disabled => Some(false),
            ProfileSetting::UseLocal => None,
        }
    }
}

/// The association of a VPC with a Profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileAssociation {
    /// The Profile.
    pub profile_id: Id,
    /// The position of the Profile among those of the VPC: the lowest priority comes first. It is unique in the VPC.
    #[serde(default = "default_priority")]
    pub priority: u32,
}

/// The priority of an association without one.
pub(super) const DEFAULT_PRIORITY: u32 = 100;

fn default_priority() -> u32 {
    DEFAULT_PRIORITY
}

impl Vpc {
    /// The identifiers of the VPC's Profiles, the one with the lowest priority first.
    pub fn profile_ids(&self) -> impl Iterator<Item = &Id> {
        let deprecated = self.profile_id.iter().map(|id| (DEFAULT_PRIORITY, id));
        let all = self.profiles.iter().map(|association| (association.priority, &association.profile_id));
        let mut all: Vec<(u32, &Id)> = deprecated.chain(all).collect();
        all.sort_by_key(|(priority, _)| *priority);
        all.into_iter().map(|(_, id)| id)
    }
}

impl Manifest {
    /// The Profiles of a VPC, the one with the lowest priority first.
    pub fn profiles_of<'m>(&'m self, vpc: &'m Vpc) -> impl Iterator<Item = (&'m Id, &'m Arc<Profile>)> {
        vpc.profile_ids().filter_map(|id| self.profiles.get_key_value(id))
    }

    /// A setting of a VPC: its own one, or that of the first of its Profiles that has one. None if the default counts.
    pub fn setting_of(&self, vpc: &Vpc, own: Option<bool>, of: impl Fn(&Profile) -> ProfileSetting) -> Option<bool> {
        own.or_else(|| self.profiles_of(vpc).find_map(|(_, profile)| of(profile).value()))
    }

    /// The rule groups of each VPC with at least one, in the order in which zonal evaluates them: by priority. At equal
    /// priorities, those of the VPC itself come first, then those of its Profiles in their order, and groups of one Profile
    /// by their identifiers. A group of several Profiles, or of the VPC too, is evaluated once.
    pub fn rule_groups_of_vpcs(&self) -> BTreeMap<&Id, Vec<PlacedRuleGroup<'_>>> {
        // Each group with the position of its Profile; 0 for a group of the VPC itself.
        let mut placed: BTreeMap<&Id, Vec<(usize, PlacedRuleGroup)>> = BTreeMap::new();
        for (id, resource) in &self.firewall_rule_groups {
            for association in &resource.vpc_associations {
                let Some((vpc, _)) = self.vpcs.get_key_value(&association.vpc_id) else { continue };
                let group = PlacedRuleGroup { priority: association.priority, profile: None, id, resource };
                placed.entry(vpc).or_default().push((0, group));
            }
        }
        for (vpc_id, vpc) in &self.vpcs {
            for (position, (profile, source)) in (1..).zip(self.profiles_of(vpc)) {
                for member in &source.firewall_rule_groups {
                    let Some((id, resource)) = self.firewall_rule_groups.get_key_value(&member.id) else { continue };
                    let group = PlacedRuleGroup { priority: member.priority, profile: Some(profile), id, resource };
                    placed.entry(vpc_id).or_default().push((position, group));
                }
            }
        }
        let in_order = placed.into_iter().map(|(vpc, mut groups)| {
            groups.sort_by_key(|(position, group)| (group.priority, *position, group.id));
            let mut seen = BTreeSet::new();
            groups.retain(|(_, group)| seen.insert(group.id));
            (vpc, groups.into_iter().map(|(_, group)| group).collect())
        });
        in_order.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_priority_comes_first_and_the_own_setting_before_all() {
        let manifest: Manifest = serde_json::from_value(serde_json::json!({
            "vpcs": {
                "a": {"region": "r", "cidr_blocks": [], "profile_id": "old", "dnssec_validation": true,
                      "profiles": [{"profile_id": "late", "priority": 200}, {"profile_id": "first", "priority": 7},
                                   {"profile_id": "gone", "priority": 1}]},
                "b": {"region": "r", "cidr_blocks": [], "profiles": [{"profile_id": "late"}]},
            },
            "profiles": {
                "old": {},
                "late": {"autodefined_reverse": "enabled", "dnssec_validation": "disabled"},
                "first": {"autodefined_reverse": "disabled"},
            },
        }))
        .unwrap();
        let ids = |vpc: &str| manifest.profiles_of(&manifest.vpcs[vpc]).map(|(id, _)| id.as_str()).collect::<Vec<_>>();
        assert_eq!((ids("a"), ids("b")), (vec!["first", "old", "late"], vec!["late"]));
        let reverse = |vpc: &str| {
            let vpc = &manifest.vpcs[vpc];
            manifest.setting_of(vpc, vpc.autodefined_reverse, |profile| profile.autodefined_reverse)
        };
        assert_eq!((reverse("a"), reverse("b")), (Some(false), Some(true)));
        let validation = |vpc: &str| {
            let vpc = &manifest.vpcs[vpc];
            manifest.setting_of(vpc, vpc.dnssec_validation, |profile| profile.dnssec_validation)
        };
        assert_eq!((validation("a"), validation("b")), (Some(true), Some(false)));
        let fail_open =
            |vpc: &str| manifest.setting_of(&manifest.vpcs[vpc], None, |profile| profile.firewall_fail_open);
        assert_eq!((fail_open("a"), fail_open("b")), (None, None));
    }
}
