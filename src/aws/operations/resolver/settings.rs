//! Settings of VPCs and Profiles: autodefined reverse zones, DNSSEC validation, and the fail mode of DNS Firewall.

use super::{MAX_RESULTS, error, list, not_found};
use crate::{
    aws::{
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits,
            filters::Known,
            identifiers::derived,
            table::{read, write},
        },
    },
    manifest::{Profile, ProfileSetting, Resource, Vpc},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The operations of settings.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    read(Route53Resolver, "GetResolverConfig", get_config, "ResourceId"),
    read(Route53Resolver, "ListResolverConfigs", list_configs, "MaxResults NextToken"),
    write(Route53Resolver, "UpdateResolverConfig", update_config, "ResourceId AutodefinedReverseFlag"),
    read(Route53Resolver, "GetResolverDnssecConfig", get_dnssec_config, "ResourceId"),
    read(Route53Resolver, "ListResolverDnssecConfigs", list_dnssec_configs, "Filters MaxResults NextToken"),
    write(Route53Resolver, "UpdateResolverDnssecConfig", update_dnssec_config, "ResourceId Validation"),
];

/// A VPC or a Profile of the caller.
pub(super) enum Configured<'a> {
    Vpc(&'a Arc<Vpc>),
    Profile(&'a Arc<Profile>),
}

/// The VPC or Profile with an identifier. None if the caller has none.
pub(super) fn configured<'a>(context: &Context<'a>, id: &str) -> Option<Configured<'a>> {
    let manifest = context.manifest();
    let vpc = manifest.vpcs.get(id).filter(|vpc| context.has_vpc(vpc)).map(Configured::Vpc);
    let profile = || {
        let found = manifest.profiles.get(id).filter(|profile| context.has(&profile.aws, None));
        found.map(Configured::Profile)
    };
    vpc.or_else(profile)
}

/// A setting.
pub(super) struct Setting {
    /// The member of a configuration that has the setting.
    member: &'static str,
    /// The prefix of the identifiers of configurations.
    prefix: &'static str,
    of_vpc: fn(&mut Vpc) -> &mut Option<bool>,
    of_profile: fn(&mut Profile) -> &mut ProfileSetting,
    read_vpc: fn(&Vpc) -> Option<bool>,
    read_profile: fn(&Profile) -> ProfileSetting,
    /// The setting of VPCs without one.
    default: fn(&Context) -> bool,
}

/// Whether VPCs have autodefined reverse zones.
static REVERSE: Setting = Setting {
    member: "AutodefinedReverse",
    prefix: "rslvr-rc",
    of_vpc: |vpc| &mut vpc.autodefined_reverse,
    of_profile: |profile| &mut profile.autodefined_reverse,
    read_vpc: |vpc| vpc.autodefined_reverse,
    read_profile: |profile| profile.autodefined_reverse,
    default: |_| true,
};

/// Whether answers are validated.
static DNSSEC: Setting = Setting {
    member: "ValidationStatus",
    prefix: "rdsc",
    of_vpc: |vpc| &mut vpc.dnssec_validation,
    of_profile: |profile| &mut profile.dnssec_validation,
    read_vpc: |vpc| vpc.dnssec_validation,
    read_profile: |profile| profile.dnssec_validation,
    default: |context| !context.snapshot.node.is_validation_off,
};

/// Whether DNS Firewall lets queries pass that it cannot judge.
pub(super) static FAIL_OPEN: Setting = Setting {
    member: "FirewallFailOpen",
    prefix: "rslvr-fc",
    of_vpc: |vpc| &mut vpc.firewall_fail_open,
    of_profile: |profile| &mut profile.firewall_fail_open,
    read_vpc: |vpc| vpc.firewall_fail_open,
    read_profile: |profile| profile.firewall_fail_open,
    default: |_| false,
};

const USE_LOCAL: &str = "USE_LOCAL_RESOURCE_SETTING";

impl Setting {
    fn value(&self, context: &Context, id: &str, owner: &str, status: &str) -> Value {
        let owner = context.owner(owner);
        json!({"Id": derived(self.prefix, &[id]), "ResourceId": id, "OwnerId": owner, self.member: status})
    }

    /// The configuration of a VPC. Without a setting of its own, that of its Profiles counts.
    fn vpc_value(&self, context: &Context, id: &str, vpc: &Vpc) -> Value {
        let setting = context.manifest().setting_of(vpc, (self.read_vpc)(vpc), self.read_profile);
        let status = if setting.unwrap_or_else(|| (self.default)(context)) { "ENABLED" } else { "DISABLED" };
        self.value(context, id, &vpc.owner_id, status)
    }

    fn profile_value(&self, context: &Context, id: &str, profile: &Profile) -> Value {
        let status = match (self.read_profile)(profile) {
            ProfileSetting::Enabled => "ENABLED",
            ProfileSetting::Disabled => "DISABLED",
            ProfileSetting::UseLocal => USE_LOCAL,
        };
        self.value(context, id, profile.aws.text("owner_id").unwrap_or_default(), status)
    }

    /// The configuration of a VPC or a Profile. None if the caller has no such VPC or Profile.
    pub(super) fn get(&self, context: &Context, id: &str) -> Option<Value> {
        Some(match configured(context, id)? {
            Configured::Vpc(vpc) => self.vpc_value(context, id, vpc),
            Configured::Profile(profile) => self.profile_value(context, id, profile),
        })
    }

    /// The configurations of the VPCs and Profiles that are shown, after a key.
    pub(super) fn all<'c, 'a>(
        &'c self,
        context: &'c Context<'a>,
        after: Option<&str>,
        is_shown: fn(Option<bool>) -> bool,
    ) -> impl Iterator<Item = (String, Value)> + use<'c, 'a> {
        let after = after.map(str::to_string);
        let vpcs = context.manifest().vpcs.iter().filter(|(_, vpc)| context.has_vpc(vpc));
        let vpcs = vpcs.filter(move |(_, vpc)| is_shown((self.read_vpc)(vpc)));
        let vpcs = vpcs.map(|(id, vpc)| (format!("1 {id}"), self.vpc_value(context, id, vpc)));
        let profiles = context.manifest().profiles.iter().filter(|(_, profile)| context.has(&profile.aws, None));
        let profiles = profiles.filter(move |(_, profile)| is_shown((self.read_profile)(profile).value()));
        let profiles = profiles.map(|(id, profile)| (format!("2 {id}"), self.profile_value(context, id, profile)));
        vpcs.chain(profiles).filter(move |(key, _)| after.as_ref().is_none_or(|after| key > after))
    }

    /// Changes the setting of a VPC or a Profile. Returns its configuration under the name `result`.
    pub(super) fn update(&self, context: &Context, id: &str, word: &str, result: &str) -> WriteResult {
        let missing = || error("ResourceNotFoundException", format!("The VPC or Profile '{id}' does not exist"));
        let (edit, value) = match configured(context, id).ok_or_else(missing)? {
            Configured::Vpc(vpc) => {
                let mut changed = (**vpc).clone();
                *(self.of_vpc)(&mut changed) = match word {
                    "ENABLE" | "ENABLED" => Some(true),
                    "DISABLE" | "DISABLED" => Some(false),
                    _ => None,
                };
                let value = self.vpc_value(context, id, &changed);
                (edits::put(id, Resource::Vpc(Arc::new(changed))), value)
            }
            Configured::Profile(profile) => {
                let mut changed = (**profile).clone();
                *(self.of_profile)(&mut changed) = match word {
                    "ENABLE" | "ENABLED" => ProfileSetting::Enabled,
                    "DISABLE" | "DISABLED" => ProfileSetting::Disabled,
                    _ => ProfileSetting::UseLocal,
                };
                let value = self.profile_value(context, id, &changed);
                (edits::put(id, Resource::Profile(Arc::new(changed))), value)
            }
        };
        Ok(Written { edits: vec![edit], result: json!({result: value}) })
    }
}

fn get_config(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResourceId");
    let missing = || not_found("Resolver configuration of the resource", id);
    Ok(json!({"ResolverConfig": REVERSE.get(context, id).ok_or_else(missing)?}))
}

/// The configurations of all VPCs: each has one, also without a setting of its own.
fn list_configs(context: &Context, parameters: Parameters) -> ReadResult {
    list(MAX_RESULTS, parameters, "ResolverConfigs", &[], |after| REVERSE.all(context, after, |_| true))
}

fn update_config(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, word) = (parameters.text("ResourceId"), parameters.text("AutodefinedReverseFlag"));
    REVERSE.update(context, id, word, "ResolverConfig")
}

const DNSSEC_FILTERS: Known =
    &[("Id", "Id"), ("OwnerId", "OwnerId"), ("ResourceId", "ResourceId"), ("ValidationStatus", "ValidationStatus")];

fn get_dnssec_config(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResourceId");
    let message = || format!("Resolver DNSSEC configuration for '{id}' does not exist");
    let found = DNSSEC.get(context, id).ok_or_else(|| error("ResourceNotFoundException", message()));
    Ok(json!({"ResolverDNSSECConfig": found?}))
}

/// The configurations of the VPCs and Profiles with a setting of their own.
fn list_dnssec_configs(context: &Context, parameters: Parameters) -> ReadResult {
    let all = |after: Option<&str>| DNSSEC.all(context, after, |setting| setting.is_some());
    list(MAX_RESULTS, parameters, "ResolverDnssecConfigs", DNSSEC_FILTERS, all)
}

fn update_dnssec_config(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, word) = (parameters.text("ResourceId"), parameters.text("Validation"));
    DNSSEC.update(context, id, word, "ResolverDNSSECConfig")
}
