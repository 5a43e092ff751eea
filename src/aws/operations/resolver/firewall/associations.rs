//! Associations of rule groups with VPCs. Names, tags and times are data of the group: the manifest has none for an
//! association.

use super::{MAX_RESULTS, conflict, group, invalid, list};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{
            Context, Parameters, ReadResult, WriteResult, Written, changed_part, edits,
            identifiers::{arn, derived},
            object, part,
            resolver::not_found,
            tags,
        },
    },
    manifest::{FirewallRuleGroup, FirewallRuleGroupAssociation, Resource, Tags, collection::Edit},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The member of a group's data that has the data of its associations.
const DATA: &str = "associations";

fn id_of(group: &str, vpc: &str) -> String {
    derived("rslvr-frgassoc", &[group, vpc])
}

fn value(context: &Context, id: &str, group: &FirewallRuleGroup, association: &FirewallRuleGroupAssociation) -> Value {
    let vpc = &association.vpc_id;
    let (association_id, data) = (id_of(id, vpc), part(&group.aws, DATA, vpc));
    let (region, owner) = (context.vpc_region(vpc), context.owner(context.vpc_owner(vpc)));
    object(json!({
        "Id": association_id,
        "Arn": arn("route53resolver", region, owner, &format!("firewall-rule-group-association/{association_id}")),
        "FirewallRuleGroupId": id,
        "VpcId": vpc,
        "Name": data.given_text("name").or(group.name.as_deref()).unwrap_or(id),
        "Priority": association.priority,
        "MutationProtection": if association.mutation_protection { "ENABLED" } else { "DISABLED" },
        "Status": "COMPLETE",
        "CreatorRequestId": data.given_text("creator_request_id"),
        "CreationTime": data.given_text("created"),
        "ModificationTime": data.given_text("modified"),
    }))
}

/// An association, with the number of its place in the group.
struct Found<'a> {
    id: &'a str,
    group: &'a Arc<FirewallRuleGroup>,
    at: usize,
}

/// All associations with VPCs of the caller.
fn all<'c, 'a: 'c>(context: &'c Context<'a>) -> impl Iterator<Item = (Found<'a>, &'a FirewallRuleGroupAssociation)> {
    context.manifest().firewall_rule_groups.iter().flat_map(move |(id, group)| {
        let numbered = group.vpc_associations.iter().enumerate();
        let visible = numbered.filter(move |(_, association)| {
            context.manifest().vpcs.get(&association.vpc_id).is_some_and(|vpc| context.has_vpc(vpc))
        });
        visible.map(move |(at, association)| (Found { id: id.as_str(), group, at }, association))
    })
}

/// The association with an identifier.
fn find_id<'a>(
    context: &Context<'a>,
    wanted: &str,
) -> Result<(Found<'a>, &'a FirewallRuleGroupAssociation), ServiceError> {
    let found = all(context).find(|(found, association)| id_of(found.id, &association.vpc_id) == wanted);
    found.ok_or_else(|| not_found("Firewall rule group association", wanted))
}

/// The association with the identifier of a request.
fn find<'a>(
    context: &Context<'a>,
    parameters: Parameters,
) -> Result<(Found<'a>, &'a FirewallRuleGroupAssociation), ServiceError> {
    find_id(context, parameters.text("FirewallRuleGroupAssociationId"))
}

/// The tags of an association.
pub(in super::super) fn tags_of(context: &Context, id: &str) -> Result<Tags, ServiceError> {
    let (found, association) = find_id(context, id)?;
    let tags = part(&found.group.aws, DATA, &association.vpc_id).get("tags").cloned();
    Ok(tags.and_then(|tags| serde_json::from_value(tags).ok()).unwrap_or_default())
}

/// The edit that replaces the tags of an association.
pub(in super::super) fn put_tags(context: &Context, id: &str, tags: &Tags) -> Result<Edit, ServiceError> {
    let (Found { id, group, .. }, association) = find_id(context, id)?;
    let mut changed = (**group).clone();
    let mut data = changed_part(&changed.aws, DATA, &association.vpc_id);
    data.insert("tags".into(), json!(tags));
    changed.aws.set_in(DATA, &association.vpc_id, Some(data.into()));
    Ok(edits::put(id, Resource::FirewallRuleGroup(Arc::new(changed))))
}

pub(super) fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let (found, association) = find(context, parameters)?;
    Ok(json!({"FirewallRuleGroupAssociation": value(context, found.id, found.group, association)}))
}

pub(super) fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    let matches = |value: &Value| {
        ["FirewallRuleGroupId", "VpcId", "Priority", "Status"]
            .into_iter()
            .all(|name| parameters.get(name).is_none_or(|wanted| value.get(name) == Some(wanted)))
    };
    let values = all(context).map(|(found, association)| value(context, found.id, found.group, association));
    let mut values: Vec<(String, Value)> =
        values.filter(matches).map(|value| (Parameters(&value).text("Id").to_string(), value)).collect();
    values.sort_by(|(one, _), (other, _)| one.cmp(other));
    list(MAX_RESULTS, parameters, "FirewallRuleGroupAssociations", |after| {
        let after = after.map(str::to_string);
        values.into_iter().filter(move |(key, _)| after.as_ref().is_none_or(|after| key > after))
    })
}

/// Checks that no other rule group of a VPC has a priority.
fn check_priority(context: &Context, group: &str, vpc: &str, priority: u32) -> Result<(), ServiceError> {
    let mut groups = context.manifest().firewall_rule_groups.iter();
    let has_priority = |other: &FirewallRuleGroup| {
        let mut associations = other.vpc_associations.iter();
        associations.any(|association| association.vpc_id == vpc && association.priority == priority)
    };
    match groups.find(|(id, other)| *id != group && has_priority(other)) {
        None => Ok(()),
        Some((other, _)) => Err(invalid(format!("Priority: {other} has the priority {priority} in {vpc}"))),
    }
}

/// The priority of a request.
fn priority(parameters: Parameters) -> Result<Option<u32>, ServiceError> {
    let given = parameters.get("Priority").and_then(Value::as_i64);
    let read = |number: i64| u32::try_from(number).map_err(|_| invalid("Priority: expected a number from 0"));
    given.map(read).transpose()
}

/// Whether a request protects the association. None if it does not say.
fn protection(parameters: Parameters) -> Option<bool> {
    parameters.given_text("MutationProtection").map(|word| word == "ENABLED")
}

pub(super) fn associate(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, vpc_id) = (parameters.text("FirewallRuleGroupId"), parameters.text("VpcId"));
    let found = group(context, id)?;
    let vpc = context.manifest().vpcs.get(vpc_id).filter(|vpc| context.has_vpc(vpc));
    vpc.ok_or_else(|| not_found("VPC", vpc_id))?;
    if let Some(existing) = found.vpc_associations.iter().find(|association| association.vpc_id == vpc_id) {
        let request = part(&found.aws, DATA, vpc_id).given_text("creator_request_id");
        if request.is_none_or(|request| request != parameters.text("CreatorRequestId")) {
            return Err(conflict(format!("The rule group {id} is already associated with {vpc_id}")));
        }
        let result = json!({"FirewallRuleGroupAssociation": value(context, id, found, existing)});
        return Ok(Written { edits: vec![edits::put(id, Resource::FirewallRuleGroup(found.clone()))], result });
    }
    let priority = priority(parameters)?.unwrap_or_default();
    check_priority(context, id, vpc_id, priority)?;
    let association = FirewallRuleGroupAssociation {
        vpc_id: vpc_id.into(),
        priority,
        mutation_protection: protection(parameters).unwrap_or(false),
    };
    let mut changed = (**found).clone();
    let tags = tags::read(parameters, "Tags");
    let data = object(json!({
        "name": parameters.given_text("Name"),
        "creator_request_id": parameters.given_text("CreatorRequestId"),
        "created": context.time(),
        "modified": context.time(),
        "tags": (!tags.is_empty()).then_some(tags),
    }));
    changed.aws.set_in(DATA, vpc_id, Some(data));
    changed.vpc_associations.push(association.clone());
    let result = json!({"FirewallRuleGroupAssociation": value(context, id, &changed, &association)});
    Ok(Written { edits: vec![edits::put(id, Resource::FirewallRuleGroup(Arc::new(changed)))], result })
}

pub(super) fn update(context: &Context, parameters: Parameters) -> WriteResult {
    let (Found { id, group, at }, old) = find(context, parameters)?;
    let mut new = old.clone();
    if let Some(priority) = priority(parameters)? {
        check_priority(context, id, &old.vpc_id, priority)?;
        new.priority = priority;
    }
    if old.mutation_protection && new.priority != old.priority {
        let message = "The association is protected: first set MutationProtection to DISABLED in a request of its own";
        return Err(conflict(message));
    }
    new.mutation_protection = protection(parameters).unwrap_or(old.mutation_protection);
    let mut changed = (**group).clone();
    let mut data = changed_part(&changed.aws, DATA, &old.vpc_id);
    if let Some(name) = parameters.given_text("Name") {
        data.insert("name".into(), name.into());
    }
    data.insert("modified".into(), context.time().into());
    changed.aws.set_in(DATA, &old.vpc_id, Some(data.into()));
    changed.vpc_associations[at] = new.clone();
    let result = json!({"FirewallRuleGroupAssociation": value(context, id, &changed, &new)});
    Ok(Written { edits: vec![edits::put(id, Resource::FirewallRuleGroup(Arc::new(changed)))], result })
}

pub(super) fn disassociate(context: &Context, parameters: Parameters) -> WriteResult {
    let (Found { id, group, at }, association) = find(context, parameters)?;
    if association.mutation_protection {
        return Err(conflict("The association is protected: first set MutationProtection to DISABLED"));
    }
    let mut shown = value(context, id, group, association);
    shown["Status"] = "DELETING".into();
    let mut changed = (**group).clone();
    changed.vpc_associations.remove(at);
    changed.aws.set_in(DATA, &association.vpc_id, None);
    let edits = vec![edits::put(id, Resource::FirewallRuleGroup(Arc::new(changed)))];
    Ok(Written { edits, result: json!({"FirewallRuleGroupAssociation": shown}) })
}
