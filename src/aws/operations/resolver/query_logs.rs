//! Query logging configurations and their associations with VPCs.

use super::{list, not_found};
use crate::{
    aws::{
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult,
            filters::{Filters, Known},
            identifiers::{arn, derived},
            object, start,
            table::read,
        },
    },
    manifest::QueryLogConfig,
};
use serde_json::{Value, json};

/// The operations of query logging configurations.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    read(Route53Resolver, "GetResolverQueryLogConfig", get_resolver_query_log_config, "ResolverQueryLogConfigId"),
    read(
        Route53Resolver,
        "ListResolverQueryLogConfigs",
        list_resolver_query_log_configs,
        "Filters MaxResults NextToken",
    )
    .refuses("SortBy SortOrder"),
    read(
        Route53Resolver,
        "GetResolverQueryLogConfigAssociation",
        get_resolver_query_log_config_association,
        "ResolverQueryLogConfigAssociationId",
    ),
    read(
        Route53Resolver,
        "ListResolverQueryLogConfigAssociations",
        list_resolver_query_log_config_associations,
        "Filters MaxResults NextToken",
    )
    .refuses("SortBy SortOrder"),
];

const QUERY_LOG_FILTERS: Known = &[
    ("Arn", "Arn"),
    ("AssociationCount", "AssociationCount"),
    ("CreationTime", "CreationTime"),
    ("CreatorRequestId", "CreatorRequestId"),
    ("DestinationArn", "DestinationArn"),
    ("Id", "Id"),
    ("Name", "Name"),
    ("OwnerId", "OwnerId"),
    ("ShareStatus", "ShareStatus"),
    ("Status", "Status"),
];

fn query_log_owner(config: &QueryLogConfig) -> &str {
    config.aws.text("owner_id").unwrap_or_default()
}

fn query_log_region<'a>(context: &'a Context, config: &'a QueryLogConfig) -> &'a str {
    let own = config.aws.text("region");
    own.unwrap_or_else(|| config.vpc_ids.first().map_or(&*context.caller.region, |vpc| context.vpc_region(vpc)))
}

/// Whether a query log is in the caller's account and Region.
fn has_query_log(context: &Context, config: &QueryLogConfig) -> bool {
    context.sees(query_log_owner(config)) && context.is_in(query_log_region(context, config))
}

fn query_log_value(context: &Context, id: &str, config: &QueryLogConfig) -> Value {
    let (owner, region) = (context.owner(query_log_owner(config)), query_log_region(context, config));
    object(json!({
        "Id": id,
        "OwnerId": owner,
        "Status": "CREATED",
        "ShareStatus": "NOT_SHARED",
        "AssociationCount": config.vpc_ids.len(),
        "Arn": arn("route53resolver", region, owner, &format!("resolver-query-log-config/{id}")),
        "Name": config.name.as_deref().unwrap_or(id),
        "DestinationArn": config.aws.text("destination_arn"),
        "CreatorRequestId": config.aws.text("creator_request_id"),
        "CreationTime": config.aws.text("created"),
    }))
}

fn get_resolver_query_log_config(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverQueryLogConfigId");
    let found = context.manifest().query_log_configs.get(id).filter(|config| has_query_log(context, config));
    let found = found.ok_or_else(|| not_found("Resolver query logging configuration", id))?;
    Ok(json!({"ResolverQueryLogConfig": query_log_value(context, id, found)}))
}

/// The total numbers of a list of query logs.
fn with_counts(mut result: Value, total: usize, filtered: usize) -> Value {
    result["TotalCount"] = total.into();
    result["TotalFilteredCount"] = filtered.into();
    if let Some(members) = result.as_object_mut() {
        members.remove("MaxResults");
    }
    result
}

fn list_resolver_query_log_configs(context: &Context, parameters: Parameters) -> ReadResult {
    let all = || {
        let configs = context.manifest().query_log_configs.iter();
        configs.filter(|(_, config)| has_query_log(context, config))
    };
    let filters = Filters::of(Route53Resolver, parameters, QUERY_LOG_FILTERS)?;
    let filtered = all().filter(|(id, config)| filters.matches(&query_log_value(context, id, config))).count();
    let result = list(parameters, "ResolverQueryLogConfigs", QUERY_LOG_FILTERS, |after| {
        let rest = context.manifest().query_log_configs.range_from(start(after));
        let visible = rest.filter(|(_, config)| has_query_log(context, config));
        visible.map(|(id, config)| (id.clone(), query_log_value(context, id, config)))
    })?;
    Ok(with_counts(result, all().count(), filtered))
}

const QUERY_LOG_ASSOCIATION_FILTERS: Known = &[
    ("CreationTime", "CreationTime"),
    ("Error", "Error"),
    ("Id", "Id"),
    ("ResolverQueryLogConfigId", "ResolverQueryLogConfigId"),
    ("ResourceId", "ResourceId"),
    ("Status", "Status"),
];

/// The associations of all query logs that the caller sees, in the order of their identifiers.
fn query_log_associations(context: &Context) -> Vec<(String, Value)> {
    let configs = context.manifest().query_log_configs.iter();
    let visible = configs.filter(|(_, config)| has_query_log(context, config));
    let mut all: Vec<(String, Value)> = visible
        .flat_map(|(id, config)| {
            config.vpc_ids.iter().map(move |vpc| {
                let association_id = derived("rqlca", &[id, vpc]);
                let value = object(json!({
                    "Id": association_id, "ResolverQueryLogConfigId": id, "ResourceId": vpc, "Status": "ACTIVE",
                    "Error": "NONE", "CreationTime": config.aws.text("created"),
                }));
                (association_id, value)
            })
        })
        .collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

fn list_resolver_query_log_config_associations(context: &Context, parameters: Parameters) -> ReadResult {
    let filters = Filters::of(Route53Resolver, parameters, QUERY_LOG_ASSOCIATION_FILTERS)?;
    let all = query_log_associations(context);
    let (total, filtered) = (all.len(), all.iter().filter(|(_, value)| filters.matches(value)).count());
    let result = list(parameters, "ResolverQueryLogConfigAssociations", QUERY_LOG_ASSOCIATION_FILTERS, |after| {
        let after = after.map(str::to_string);
        all.into_iter().filter(move |(key, _)| after.as_ref().is_none_or(|after| key > after))
    })?;
    Ok(with_counts(result, total, filtered))
}

fn get_resolver_query_log_config_association(context: &Context, parameters: Parameters) -> ReadResult {
    let wanted = parameters.text("ResolverQueryLogConfigAssociationId");
    let found = query_log_associations(context).into_iter().find(|(id, _)| id == wanted);
    let (_, value) = found.ok_or_else(|| not_found("Resolver query logging configuration association", wanted))?;
    Ok(json!({"ResolverQueryLogConfigAssociation": value}))
}
