//! Tags of the resources of Route 53 Resolver.

use super::{
    MAX_RESULTS, endpoints, error,
    firewall::{self, associations},
    list, query_logs, rules,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits, start,
            table::{read, write},
            tags,
        },
    },
    manifest::{Resource, Tags},
};
use serde_json::json;
use std::{ops::Bound, sync::Arc};

/// The operations of tags.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    read(Route53Resolver, "ListTagsForResource", list_tags_for_resource, "ResourceArn MaxResults NextToken"),
    write(Route53Resolver, "TagResource", tag_resource, "ResourceArn Tags"),
    write(Route53Resolver, "UntagResource", untag_resource, "ResourceArn TagKeys"),
];

/// The resource of the caller with an ARN, and its identifier.
fn resource<'p>(context: &Context, parameters: Parameters<'p>) -> Result<(&'p str, Resource), ServiceError> {
    let arn = parameters.text("ResourceArn");
    let (kind, id) = arn.rsplit(':').next().and_then(|last| last.split_once('/')).unwrap_or_default();
    let manifest = context.manifest();
    let found = match kind {
        "resolver-endpoint" => {
            let found = manifest.resolver_endpoints.get(id);
            let found = found.filter(|endpoint| endpoints::has_endpoint(context, endpoint));
            found.cloned().map(Resource::ResolverEndpoint)
        }
        "resolver-rule" => {
            let found = manifest.resolver_rules.get(id).filter(|rule| rules::has_rule(context, rule));
            found.cloned().map(Resource::ResolverRule)
        }
        "resolver-query-log-config" => {
            let found = manifest.query_log_configs.get(id);
            let found = found.filter(|config| query_logs::has_query_log(context, config));
            found.cloned().map(Resource::QueryLogConfig)
        }
        "firewall-rule-group" => firewall::group(context, id).ok().cloned().map(Resource::FirewallRuleGroup),
        "firewall-domain-list" => firewall::domain_list(context, id).ok().cloned().map(Resource::FirewallDomainList),
        _ => None,
    };
    let missing = || error("ResourceNotFoundException", format!("The resource '{arn}' does not exist"));
    found.map(|found| (id, found)).ok_or_else(missing)
}

/// The tags of a resource, to change them. Resources of other kinds have none.
fn tags_of(resource: &mut Resource) -> Option<&mut Tags> {
    match resource {
        Resource::ResolverEndpoint(found) => Some(&mut Arc::make_mut(found).tags),
        Resource::ResolverRule(found) => Some(&mut Arc::make_mut(found).tags),
        Resource::QueryLogConfig(found) => Some(&mut Arc::make_mut(found).tags),
        Resource::FirewallRuleGroup(found) => Some(&mut Arc::make_mut(found).tags),
        Resource::FirewallDomainList(found) => Some(&mut Arc::make_mut(found).tags),
        _ => None,
    }
}

/// The identifier of an association of a firewall rule group, which has its tags in the data of the group.
fn association(parameters: Parameters<'_>) -> Option<&str> {
    parameters.text("ResourceArn").rsplit_once(":firewall-rule-group-association/").map(|(_, id)| id)
}

fn list_tags_for_resource(context: &Context, parameters: Parameters) -> ReadResult {
    let tags = match association(parameters) {
        Some(id) => associations::tags_of(context, id)?,
        None => {
            let (_, mut found) = resource(context, parameters)?;
            tags_of(&mut found).cloned().unwrap_or_default()
        }
    };
    list(MAX_RESULTS, parameters, "Tags", &[], |after| {
        let rest = tags.range::<str, _>((start(after), Bound::Unbounded));
        rest.map(|(key, value)| (key.clone(), json!({"Key": key, "Value": value})))
    })
}

/// Changes the tags of a resource.
fn change(context: &Context, parameters: Parameters, removed: &[&str], added: Tags) -> WriteResult {
    let edit = match association(parameters) {
        Some(id) => {
            let mut tags = associations::tags_of(context, id)?;
            tags::change(&mut tags, removed, added);
            associations::put_tags(context, id, &tags)?
        }
        None => {
            let (id, mut found) = resource(context, parameters)?;
            tags_of(&mut found).into_iter().for_each(|own| tags::change(own, removed, added.clone()));
            edits::put(id, found)
        }
    };
    Ok(Written { edits: vec![edit], result: json!({}) })
}

fn tag_resource(context: &Context, parameters: Parameters) -> WriteResult {
    let added = tags::read(parameters, "Tags");
    if let Some(key) = added.keys().find(|key| key.starts_with("aws:")) {
        let message = format!("The tag key '{key}' begins with 'aws:', which AWS reserves");
        return Err(error("InvalidTagException", message));
    }
    change(context, parameters, &[], added)
}

fn untag_resource(context: &Context, parameters: Parameters) -> WriteResult {
    change(context, parameters, &parameters.texts("TagKeys"), Tags::new())
}
