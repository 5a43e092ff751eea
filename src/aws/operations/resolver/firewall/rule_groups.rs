//! Rule groups of DNS Firewall, and their policies.

use super::{MAX_RESULTS, conflict, first_vpc, group, invalid, list};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{
            Context, Parameters, ReadResult, WriteResult, Written,
            creation::{Created, RequestId},
            edits,
            identifiers::{arn, random},
            object,
            resolver::not_found,
            start, tags,
        },
    },
    manifest::{FirewallRuleGroup, Resource},
};
use serde_json::{Value, json};
use std::sync::Arc;

const KIND: &str = "firewall_rule_groups";

fn value(context: &Context, id: &str, group: &FirewallRuleGroup) -> Value {
    let region = context.region_of(&group.aws, first_vpc(group));
    let owner = context.owner(group.aws.text("owner_id").unwrap_or_default());
    object(json!({
        "Id": id,
        "Arn": arn("route53resolver", region, owner, &format!("firewall-rule-group/{id}")),
        "Name": group.name.as_deref().unwrap_or(id),
        "RuleCount": group.rules.len(),
        "Status": "COMPLETE",
        "OwnerId": owner,
        "ShareStatus": "NOT_SHARED",
        "CreatorRequestId": group.aws.text("creator_request_id"),
        "CreationTime": group.aws.text("created"),
        "ModificationTime": group.aws.text("modified"),
    }))
}

pub(super) fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("FirewallRuleGroupId");
    Ok(json!({"FirewallRuleGroup": value(context, id, group(context, id)?)}))
}

pub(super) fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    list(MAX_RESULTS, parameters, "FirewallRuleGroups", |after| {
        let all = context.manifest().firewall_rule_groups.range_from(start(after));
        let visible = all.filter(|(_, group)| context.has(&group.aws, first_vpc(group)));
        visible.map(|(id, group)| (id.clone(), value(context, id, group)))
    })
}

pub(super) fn create(context: &Context, parameters: Parameters) -> WriteResult {
    let (name, request) = (parameters.text("Name"), RequestId::creator(parameters));
    let groups = context.manifest().firewall_rule_groups.iter();
    let own = groups.filter(|(_, group)| context.has(&group.aws, first_vpc(group)));
    let is_same = |group: &FirewallRuleGroup| group.name.as_deref() == Some(name);
    let make = || {
        let mut group = FirewallRuleGroup { name: Some(name.into()), ..FirewallRuleGroup::default() };
        group.tags = tags::read(parameters, "Tags");
        context.stamp(&mut group.aws);
        request.store(&mut group.aws);
        (random("rslvr-frg"), group)
    };
    let Created { id, resource, edits } = request.create_once(own, |group| &group.aws, is_same, invalid, make)?;
    Ok(Written { edits, result: json!({"FirewallRuleGroup": value(context, &id, &resource)}) })
}

pub(super) fn delete(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("FirewallRuleGroupId");
    let group = group(context, id)?;
    if let Some(vpc) = first_vpc(group) {
        return Err(conflict(format!("The rule group {id} is associated with {vpc}: disassociate it first")));
    }
    let mut profiles = context.manifest().profiles.iter();
    let profile = profiles.find(|(_, profile)| profile.firewall_rule_groups.iter().any(|member| member.id == id));
    if let Some((profile, _)) = profile {
        return Err(conflict(format!("The rule group {id} is in the Profile {profile}: disassociate it first")));
    }
    let mut shown = value(context, id, group);
    shown["Status"] = "DELETING".into();
    Ok(Written { edits: vec![edits::delete(KIND, id)], result: json!({"FirewallRuleGroup": shown}) })
}

/// The rule group with an ARN.
fn of_arn<'a>(
    context: &Context<'a>,
    parameters: Parameters<'a>,
) -> Result<(&'a str, &'a Arc<FirewallRuleGroup>), ServiceError> {
    let arn = parameters.text("Arn");
    let id = arn.rsplit_once(":firewall-rule-group/").map(|(_, id)| id);
    let id = id.ok_or_else(|| not_found("Firewall rule group", arn))?;
    Ok((id, group(context, id)?))
}

pub(super) fn get_policy(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, group) = of_arn(context, parameters)?;
    let policy = group.aws.text("policy").ok_or_else(|| not_found("The policy of the firewall rule group", id))?;
    Ok(json!({"FirewallRuleGroupPolicy": policy}))
}

pub(super) fn put_policy(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, group) = of_arn(context, parameters)?;
    let policy = parameters.text("FirewallRuleGroupPolicy");
    if !serde_json::from_str(policy).is_ok_and(|policy: Value| policy.is_object()) {
        return Err(invalid("FirewallRuleGroupPolicy: expected a JSON object"));
    }
    let mut changed = (**group).clone();
    changed.aws.set("policy", policy);
    let edits = vec![edits::put(id, Resource::FirewallRuleGroup(Arc::new(changed)))];
    Ok(Written { edits, result: json!({"ReturnValue": true}) })
}
