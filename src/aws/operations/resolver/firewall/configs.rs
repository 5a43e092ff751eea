//! Configurations of DNS Firewall: the fail mode of VPCs and Profiles.

use super::{invalid, list};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{
            Context, Parameters, ReadResult, WriteResult, Written, edits,
            identifiers::derived,
            resolver::{
                not_found,
                settings::{Configured, configured},
            },
        },
    },
    manifest::{Profile, ProfileSetting, Resource, Vpc},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The most configurations on a page.
const MAX_RESULTS: usize = 10;

fn value(context: &Context, id: &str, owner: &str, fail_open: &str) -> Value {
    json!({
        "Id": derived("rslvr-fc", &[id]),
        "ResourceId": id,
        "OwnerId": context.owner(owner),
        "FirewallFailOpen": fail_open,
    })
}

/// The configuration of a VPC. Without a setting of its own, that of its Profiles counts.
fn of_vpc(context: &Context, id: &str, vpc: &Vpc) -> Value {
    let setting = context.manifest().setting_of(vpc, vpc.firewall_fail_open, |profile| profile.firewall_fail_open);
    value(context, id, &vpc.owner_id, if setting == Some(true) { "ENABLED" } else { "DISABLED" })
}

fn of_profile(context: &Context, id: &str, profile: &Profile) -> Value {
    let setting = match profile.firewall_fail_open {
        ProfileSetting::Enabled => "ENABLED",
        ProfileSetting::Disabled => "DISABLED",
        ProfileSetting::UseLocal => "USE_LOCAL_RESOURCE_SETTING",
    };
    value(context, id, profile.aws.text("owner_id").unwrap_or_default(), setting)
}

fn find<'a>(context: &Context<'a>, id: &str) -> Result<Configured<'a>, ServiceError> {
    configured(context, id).ok_or_else(|| not_found("VPC or Profile", id))
}

pub(super) fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResourceId");
    let value = match find(context, id)? {
        Configured::Vpc(vpc) => of_vpc(context, id, vpc),
        Configured::Profile(profile) => of_profile(context, id, profile),
    };
    Ok(json!({"FirewallConfig": value}))
}

pub(super) fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    list(MAX_RESULTS, parameters, "FirewallConfigs", |after| {
        let after = after.map(str::to_string);
        let vpcs = context.manifest().vpcs.iter().filter(|(_, vpc)| context.has_vpc(vpc));
        let vpcs = vpcs.map(|(id, vpc)| (format!("1 {id}"), of_vpc(context, id, vpc)));
        let profiles = context.manifest().profiles.iter().filter(|(_, profile)| context.has(&profile.aws, None));
        let profiles = profiles.map(|(id, profile)| (format!("2 {id}"), of_profile(context, id, profile)));
        vpcs.chain(profiles).filter(move |(key, _)| after.as_ref().is_none_or(|after| key > after))
    })
}

pub(super) fn update(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, word) = (parameters.text("ResourceId"), parameters.text("FirewallFailOpen"));
    let (edit, value) = match find(context, id)? {
        Configured::Vpc(vpc) => {
            let setting = match word {
                "ENABLED" => true,
                "DISABLED" => false,
                _ => return Err(invalid(format!("FirewallFailOpen: only a Profile has the value {word}"))),
            };
            let mut changed = (**vpc).clone();
            changed.firewall_fail_open = Some(setting);
            let value = of_vpc(context, id, &changed);
            (edits::put(id, Resource::Vpc(Arc::new(changed))), value)
        }
        Configured::Profile(profile) => {
            let mut changed = (**profile).clone();
            changed.firewall_fail_open = match word {
                "ENABLED" => ProfileSetting::Enabled,
                "DISABLED" => ProfileSetting::Disabled,
                _ => ProfileSetting::UseLocal,
            };
            let value = of_profile(context, id, &changed);
            (edits::put(id, Resource::Profile(Arc::new(changed))), value)
        }
    };
    Ok(Written { edits: vec![edit], result: json!({"FirewallConfig": value}) })
}
