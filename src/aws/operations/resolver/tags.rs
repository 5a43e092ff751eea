//! Tags of the resources of Route 53 Resolver.

use super::{list, not_found};
use crate::{
    aws::{
        model::Service::Route53Resolver,
        operations::{Context, Entry, Parameters, ReadResult, start, table::read},
    },
    manifest::Tags,
};
use serde_json::json;
use std::ops::Bound;

/// The operations of tags.
pub(in crate::aws::operations) const TABLE: &[Entry] =
    &[read(Route53Resolver, "ListTagsForResource", list_tags_for_resource, "ResourceArn MaxResults NextToken")];

fn list_tags_for_resource(context: &Context, parameters: Parameters) -> ReadResult {
    let resource = parameters.text("ResourceArn");
    let (kind, id) = resource.rsplit(':').next().and_then(|last| last.split_once('/')).unwrap_or_default();
    let manifest = context.manifest();
    let tags: Option<&Tags> = match kind {
        "resolver-endpoint" => manifest.resolver_endpoints.get(id).map(|found| &found.tags),
        "resolver-rule" => manifest.resolver_rules.get(id).map(|found| &found.tags),
        "resolver-query-log-config" => manifest.query_log_configs.get(id).map(|found| &found.tags),
        "firewall-rule-group" => manifest.firewall_rule_groups.get(id).map(|found| &found.tags),
        "firewall-domain-list" => manifest.firewall_domain_lists.get(id).map(|found| &found.tags),
        _ => None,
    };
    let tags = tags.ok_or_else(|| not_found("Resource", resource))?;
    list(parameters, "Tags", &[], |after| {
        let rest = tags.range::<str, _>((start(after), Bound::Unbounded));
        rest.map(|(key, value)| (key.clone(), json!({"Key": key, "Value": value})))
    })
}
