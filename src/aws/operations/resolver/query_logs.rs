//! Query logging configurations and their associations with VPCs.
//!
//! zonal does not write to the destinations of AWS. The entries of a configuration that is created here go to a file of each
//! node with the name of the configuration.

use super::{MAX_RESULTS, deleting, exists, invalid, invalid_request, list, not_found, part, vpc};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written,
            creation::{Created, RequestId},
            edits,
            filters::{Filters, Known},
            identifiers::{self, arn, derived},
            object,
            table::{read, write},
            tags,
        },
    },
    manifest::{AwsData, ClientAddress, LogDestination, LogFile, QueryLogConfig, Resource, collection::Edit},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The operations of query logging configurations.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    write(Route53Resolver, "CreateResolverQueryLogConfig", create_query_log, "Name CreatorRequestId Tags")
        .echoes("DestinationArn"),
    write(Route53Resolver, "DeleteResolverQueryLogConfig", delete_query_log, "ResolverQueryLogConfigId"),
    write(
        Route53Resolver,
        "AssociateResolverQueryLogConfig",
        associate_query_log,
        "ResolverQueryLogConfigId ResourceId",
    ),
    write(
        Route53Resolver,
        "DisassociateResolverQueryLogConfig",
        disassociate_query_log,
        "ResolverQueryLogConfigId ResourceId",
    ),
    read(Route53Resolver, "GetResolverQueryLogConfig", get_query_log, "ResolverQueryLogConfigId"),
    read(
        Route53Resolver,
        "ListResolverQueryLogConfigs",
        list_query_logs,
        "Filters SortBy SortOrder MaxResults NextToken",
    ),
    read(
        Route53Resolver,
        "GetResolverQueryLogConfigAssociation",
        get_query_log_association,
        "ResolverQueryLogConfigAssociationId",
    ),
    read(
        Route53Resolver,
        "ListResolverQueryLogConfigAssociations",
        list_query_log_associations,
        "Filters SortBy SortOrder MaxResults NextToken",
    ),
];

const KIND: &str = "query_log_configs";

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

// Reads.

fn first_vpc(config: &QueryLogConfig) -> Option<&str> {
    config.vpc_ids.first().map(String::as_str)
}

/// Whether a query log is in the caller's account and Region.
pub(super) fn has_query_log(context: &Context, config: &QueryLogConfig) -> bool {
    context.has(&config.aws, first_vpc(config))
}

fn query_log_value(context: &Context, id: &str, config: &QueryLogConfig) -> Value {
    let owner = context.owner(config.aws.text("owner_id").unwrap_or_default());
    let region = context.region_of(&config.aws, first_vpc(config));
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

/// A query log of the caller.
pub(super) fn query_log<'a>(context: &Context<'a>, id: &str) -> Result<&'a QueryLogConfig, ServiceError> {
    let found = context.manifest().query_log_configs.get(id).filter(|config| has_query_log(context, config));
    found.map(|found| &**found).ok_or_else(|| not_found("Resolver query log config", id))
}

fn get_query_log(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverQueryLogConfigId");
    Ok(json!({"ResolverQueryLogConfig": query_log_value(context, id, query_log(context, id)?)}))
}

/// A list with total numbers, in the order that the request says. The key of an item is its value of the sorted member, and its
/// identifier.
fn sorted_list(parameters: Parameters, member: &str, known: Known, all: Vec<Value>) -> ReadResult {
    let sorted_by = parameters.given_text("SortBy");
    if let Some(unknown) = sorted_by.filter(|name| known.iter().all(|(known, _)| known != name)) {
        let names: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
        return Err(invalid("SortBy", format!("SortBy: '{unknown}' is invalid: zonal knows {}", names.join(", "))));
    }
    let filters = Filters::of(Route53Resolver, parameters, known)?;
    let (total, filtered) = (all.len(), all.iter().filter(|value| filters.matches(value)).count());
    let key = |value: &Value| {
        let sorted = match sorted_by.and_then(|member| value.get(member)) {
            Some(Value::Number(number)) => format!("{number:>20}"),
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        format!("{sorted}\n{}", Parameters(value).text("Id"))
    };
    let is_descending = sorted_by.is_some() && parameters.text("SortOrder") == "DESCENDING";
    let mut keyed: Vec<(String, Value)> = all.into_iter().map(|value| (key(&value), value)).collect();
    keyed.sort_by(|(one, _), (other, _)| if is_descending { other.cmp(one) } else { one.cmp(other) });
    let mut result = list(MAX_RESULTS, parameters, member, known, |after| {
        let after = after.map(str::to_string);
        let is_later = move |key: &String| {
            let is_after = |after: &String| if is_descending { key < after } else { key > after };
            after.as_ref().is_none_or(is_after)
        };
        keyed.into_iter().filter(move |(key, _)| is_later(key))
    })?;
    result["TotalCount"] = total.into();
    result["TotalFilteredCount"] = filtered.into();
    Ok(result)
}

fn list_query_logs(context: &Context, parameters: Parameters) -> ReadResult {
    let all = context.manifest().query_log_configs.iter().filter(|(_, config)| has_query_log(context, config));
    let all = all.map(|(id, config)| query_log_value(context, id, config)).collect();
    sorted_list(parameters, "ResolverQueryLogConfigs", QUERY_LOG_FILTERS, all)
}

const QUERY_LOG_ASSOCIATION_FILTERS: Known = &[
    ("CreationTime", "CreationTime"),
    ("Error", "Error"),
    ("Id", "Id"),
    ("ResolverQueryLogConfigId", "ResolverQueryLogConfigId"),
    ("ResourceId", "ResourceId"),
    ("Status", "Status"),
];

/// The association of a query log with a VPC.
fn association_value(id: &str, config: &QueryLogConfig, vpc: &str) -> Value {
    let own = part(&config.aws, "associations", vpc).and_then(|data| data.get("created")?.as_str());
    object(json!({
        "Id": derived("rqlca", &[id, vpc]), "ResolverQueryLogConfigId": id, "ResourceId": vpc, "Status": "ACTIVE",
        "Error": "NONE", "ErrorMessage": "", "CreationTime": own.or_else(|| config.aws.text("created")),
    }))
}

/// The associations of all query logs that the caller sees.
fn query_log_associations(context: &Context) -> Vec<Value> {
    let configs = context.manifest().query_log_configs.iter();
    let visible = configs.filter(|(_, config)| has_query_log(context, config));
    visible.flat_map(|(id, config)| config.vpc_ids.iter().map(move |vpc| association_value(id, config, vpc))).collect()
}

fn list_query_log_associations(context: &Context, parameters: Parameters) -> ReadResult {
    let all = query_log_associations(context);
    sorted_list(parameters, "ResolverQueryLogConfigAssociations", QUERY_LOG_ASSOCIATION_FILTERS, all)
}

fn get_query_log_association(context: &Context, parameters: Parameters) -> ReadResult {
    let wanted = parameters.text("ResolverQueryLogConfigAssociationId");
    let mut all = query_log_associations(context).into_iter();
    let found = all.find(|value| Parameters(value).text("Id") == wanted);
    let found = found.ok_or_else(|| not_found("Resolver query log config association", wanted))?;
    Ok(json!({"ResolverQueryLogConfigAssociation": found}))
}

// Writes.

fn put(id: &str, config: QueryLogConfig) -> Edit {
    edits::put(id, Resource::QueryLogConfig(Arc::new(config)))
}

fn create_query_log(context: &Context, parameters: Parameters) -> WriteResult {
    let (name, destination) = (parameters.text("Name"), parameters.text("DestinationArn"));
    let request = RequestId::creator(parameters);
    let own = context.manifest().query_log_configs.iter().filter(|(_, config)| has_query_log(context, config));
    let is_same = |config: &QueryLogConfig| {
        config.name.as_deref() == Some(name) && config.aws.text("destination_arn") == Some(destination)
    };
    let make = || {
        let id = identifiers::next("rqlc");
        let mut aws = AwsData::default();
        context.stamp(&mut aws);
        request.store(&mut aws);
        aws.set("destination_arn", destination);
        let config = QueryLogConfig {
            vpc_ids: Vec::new(),
            on_premises_network_ids: Vec::new(),
            destination: LogDestination { file: Some(LogFile::new(format!("{id}.log"))), ..LogDestination::default() },
            sampling: 1.0,
            max_per_second: None,
            rcodes: Vec::new(),
            slower_than_ms: None,
            client_address: ClientAddress::default(),
            name: Some(name.into()),
            tags: tags::read(parameters, "Tags"),
            aws,
        };
        (id, config)
    };
    let Created { id, resource, edits } = request.create_once(own, |config| &config.aws, is_same, exists, make)?;
    Ok(Written { edits, result: json!({"ResolverQueryLogConfig": query_log_value(context, &id, &resource)}) })
}

fn delete_query_log(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ResolverQueryLogConfigId");
    let config = query_log(context, id)?;
    if let Some(vpc) = first_vpc(config) {
        return Err(invalid_request(format!(
            "The query log config '{id}' is associated with {vpc}: disassociate it first"
        )));
    }
    let mut profiles = context.manifest().profiles.iter();
    let profile = profiles.find(|(_, profile)| profile.query_log_configs.iter().any(|member| member == id));
    if let Some((profile, _)) = profile {
        let message = format!("The query log config '{id}' is in the Profile {profile}: disassociate it first");
        return Err(invalid_request(message));
    }
    let result = json!({"ResolverQueryLogConfig": deleting(query_log_value(context, id, config), "query log config")});
    Ok(Written { edits: vec![edits::delete(KIND, id)], result })
}

fn associate_query_log(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, vpc_id) = (parameters.text("ResolverQueryLogConfigId"), parameters.text("ResourceId"));
    let mut config = query_log(context, id)?.clone();
    vpc(context, "ResourceId", vpc_id)?;
    if config.vpc_ids.iter().any(|other| other == vpc_id) {
        return Err(exists(format!("The query log config '{id}' is already associated with '{vpc_id}'")));
    }
    config.vpc_ids.push(vpc_id.into());
    config.aws.set_in("associations", vpc_id, Some(json!({"created": context.time()})));
    let result = json!({"ResolverQueryLogConfigAssociation": association_value(id, &config, vpc_id)});
    Ok(Written { edits: vec![put(id, config)], result })
}

fn disassociate_query_log(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, vpc_id) = (parameters.text("ResolverQueryLogConfigId"), parameters.text("ResourceId"));
    let mut config = query_log(context, id)?.clone();
    let at = config.vpc_ids.iter().position(|other| other == vpc_id);
    let at = at.ok_or_else(|| {
        let what = format!("Resolver query log config association of '{id}' and");
        not_found(&what, vpc_id)
    })?;
    let mut value = association_value(id, &config, vpc_id);
    value["Status"] = "DELETING".into();
    config.vpc_ids.remove(at);
    config.aws.set_in("associations", vpc_id, None);
    Ok(Written { edits: vec![put(id, config)], result: json!({"ResolverQueryLogConfigAssociation": value}) })
}
