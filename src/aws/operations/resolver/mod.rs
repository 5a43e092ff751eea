//! Route 53 Resolver: endpoints, rules, query logs, and their associations. Reads.

use super::{
    Context, Entry, Parameters, ReadResult,
    filters::{Filters, Known},
    identifiers::{arn, derived},
    object,
    route53::record_sets::name_text,
    start,
    table::read,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::{self, Route53Resolver},
    },
    manifest::{Protocol, QueryLogConfig, ResolverEndpoint, ResolverRule, Tags},
};
use serde_json::{Value, json};
use std::{net::IpAddr, ops::Bound};

/// The operations of Route 53 Resolver that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(Route53Resolver, "GetResolverEndpoint", get_resolver_endpoint, "ResolverEndpointId"),
    read(Route53Resolver, "ListResolverEndpoints", list_resolver_endpoints, "Filters MaxResults NextToken"),
    read(
        Route53Resolver,
        "ListResolverEndpointIpAddresses",
        list_resolver_endpoint_ip_addresses,
        "ResolverEndpointId MaxResults NextToken",
    ),
    read(Route53Resolver, "GetResolverRule", get_resolver_rule, "ResolverRuleId"),
    read(Route53Resolver, "ListResolverRules", list_resolver_rules, "Filters MaxResults NextToken"),
    read(Route53Resolver, "GetResolverRuleAssociation", get_resolver_rule_association, "ResolverRuleAssociationId"),
    read(
        Route53Resolver,
        "ListResolverRuleAssociations",
        list_resolver_rule_associations,
        "Filters MaxResults NextToken",
    ),
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
    read(Route53Resolver, "ListTagsForResource", list_tags_for_resource, "ResourceArn MaxResults NextToken"),
];

/// The number of items on a page: by default, and at most.
const MAX_RESULTS: usize = 100;

fn error(code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError::new(Service::Route53Resolver, code, message)
}

fn not_found(what: &str, id: &str) -> ServiceError {
    error("ResourceNotFoundException", format!("{what} with ID \"{id}\" does not exist"))
}

/// The list of an operation: the items that match the filters, page by page.
fn list<I: Iterator<Item = (String, Value)>>(
    parameters: Parameters,
    member: &str,
    known: Known,
    all: impl FnOnce(Option<&str>) -> I,
) -> ReadResult {
    let constants = (Service::Route53Resolver, "InvalidNextTokenException", MAX_RESULTS);
    let mut result = super::list(constants, parameters, member, known, all)?;
    result["MaxResults"] = parameters.limit("MaxResults", MAX_RESULTS, MAX_RESULTS).unwrap_or(MAX_RESULTS).into();
    Ok(result)
}

/// The words of AWS for transports. DoT and DoQ have none.
fn protocol(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Do53 => Some("Do53"),
        Protocol::DoH => Some("DoH"),
        Protocol::DoT | Protocol::DoQ => None,
    }
}

// Endpoints.

const ENDPOINT_FILTERS: Known = &[
    ("CreatorRequestId", "CreatorRequestId"),
    ("Direction", "Direction"),
    ("HostVPCId", "HostVPCId"),
    ("IpAddressCount", "IpAddressCount"),
    ("Name", "Name"),
    ("SecurityGroupIds", "SecurityGroupIds"),
    ("Status", "Status"),
    ("CREATOR_REQUEST_ID", "CreatorRequestId"),
    ("DIRECTION", "Direction"),
    ("HOST_VPC_ID", "HostVPCId"),
    ("IP_ADDRESS_COUNT", "IpAddressCount"),
    ("NAME", "Name"),
    ("SECURITY_GROUP_IDS", "SecurityGroupIds"),
    ("STATUS", "Status"),
];

fn endpoint_value(context: &Context, id: &str, endpoint: &ResolverEndpoint) -> Value {
    let region = context.vpc_region(&endpoint.vpc_id);
    let owner = context.owner(context.vpc_owner(&endpoint.vpc_id));
    let has = |is_kind: fn(&IpAddr) -> bool| endpoint.ip_addresses.iter().any(|address| is_kind(&address.ip));
    let kind = match (has(IpAddr::is_ipv4), has(IpAddr::is_ipv6)) {
        (true, true) => "DUALSTACK",
        (false, true) => "IPV6",
        _ => "IPV4",
    };
    let groups = endpoint.aws.get("security_group_ids").cloned().unwrap_or_else(|| json!([]));
    object(json!({
        "Id": id,
        "CreatorRequestId": endpoint.aws.text("creator_request_id"),
        "Arn": arn("route53resolver", region, owner, &format!("resolver-endpoint/{id}")),
        "Name": endpoint.name,
        "SecurityGroupIds": groups,
        "Direction": endpoint.direction,
        "IpAddressCount": endpoint.ip_addresses.len(),
        "HostVPCId": endpoint.vpc_id,
        "Status": "OPERATIONAL",
        "CreationTime": endpoint.aws.text("created"),
        "ModificationTime": endpoint.aws.text("modified"),
        "ResolverEndpointType": kind,
        "Protocols": endpoint.protocols.iter().filter_map(|word| protocol(*word)).collect::<Vec<_>>(),
        "Dns64Enabled": endpoint.dns64,
    }))
}

/// Whether an endpoint is in the caller's account and Region.
fn has_endpoint(context: &Context, endpoint: &ResolverEndpoint) -> bool {
    context.sees(context.vpc_owner(&endpoint.vpc_id)) && context.is_in(context.vpc_region(&endpoint.vpc_id))
}

fn endpoint<'a>(context: &Context<'a>, id: &str) -> Result<&'a ResolverEndpoint, ServiceError> {
    let found = context.manifest().resolver_endpoints.get(id);
    let found = found.filter(|endpoint| has_endpoint(context, endpoint));
    found.map(|found| &**found).ok_or_else(|| not_found("Resolver endpoint", id))
}

pub(super) fn get_resolver_endpoint(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverEndpointId");
    Ok(json!({"ResolverEndpoint": endpoint_value(context, id, endpoint(context, id)?)}))
}

pub(super) fn list_resolver_endpoints(context: &Context, parameters: Parameters) -> ReadResult {
    list(parameters, "ResolverEndpoints", ENDPOINT_FILTERS, |after| {
        let all = context.manifest().resolver_endpoints.range_from(start(after));
        let visible = all.filter(|(_, endpoint)| has_endpoint(context, endpoint));
        visible.map(|(id, endpoint)| (id.clone(), endpoint_value(context, id, endpoint)))
    })
}

pub(super) fn list_resolver_endpoint_ip_addresses(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverEndpointId");
    let endpoint = endpoint(context, id)?;
    list(parameters, "IpAddresses", &[], |after| {
        let after = after.map(str::to_string);
        let mut all: Vec<(String, Value)> = endpoint
            .ip_addresses
            .iter()
            .map(|address| {
                let ip = address.ip.to_string();
                let ip_id = address.ip_id.clone().unwrap_or_else(|| derived("rni", &[id, &ip]));
                let subnet = address.subnet_id.as_deref().or_else(|| subnet_of(context, &endpoint.vpc_id, address.ip));
                let (ipv4, ipv6) = if address.ip.is_ipv4() { (Some(&ip), None) } else { (None, Some(&ip)) };
                let value = object(json!({
                    "IpId": ip_id, "SubnetId": subnet, "Ip": ipv4, "Ipv6": ipv6, "Status": "ATTACHED",
                    "CreationTime": endpoint.aws.text("created"), "ModificationTime": endpoint.aws.text("modified"),
                }));
                (ip_id, value)
            })
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.into_iter().filter(move |(key, _)| after.as_ref().is_none_or(|after| key > after))
    })
}

/// The subnet of a VPC that an address is in.
fn subnet_of<'a>(context: &Context<'a>, vpc: &str, address: IpAddr) -> Option<&'a str> {
    let subnets = &context.manifest().vpcs.get(vpc)?.subnets;
    let found = subnets.iter().find(|(_, subnet)| subnet.cidr_blocks.iter().any(|block| block.contains(&address)));
    found.map(|(id, _)| id.as_str())
}

// Rules.

const RULE_FILTERS: Known = &[
    ("CreatorRequestId", "CreatorRequestId"),
    ("DomainName", "DomainName"),
    ("Name", "Name"),
    ("ResolverEndpointId", "ResolverEndpointId"),
    ("Status", "Status"),
    ("Type", "RuleType"),
    ("CREATOR_REQUEST_ID", "CreatorRequestId"),
    ("DOMAIN_NAME", "DomainName"),
    ("NAME", "Name"),
    ("RESOLVER_ENDPOINT_ID", "ResolverEndpointId"),
    ("STATUS", "Status"),
    ("TYPE", "RuleType"),
];

fn rule_owner(rule: &ResolverRule) -> &str {
    rule.aws.text("owner_id").unwrap_or_default()
}

/// The Region of a rule: its own, that of its first VPC, or that of the request.
fn rule_region<'a>(context: &'a Context, rule: &'a ResolverRule) -> &'a str {
    let own = rule.aws.text("region");
    own.unwrap_or_else(|| rule.vpc_ids.first().map_or(context.caller.region.as_str(), |vpc| context.vpc_region(vpc)))
}

/// Whether a rule is in the caller's account and Region.
fn has_rule(context: &Context, rule: &ResolverRule) -> bool {
    context.sees(rule_owner(rule)) && context.is_in(rule_region(context, rule))
}

fn rule_value(context: &Context, id: &str, rule: &ResolverRule) -> Value {
    let owner = context.owner(rule_owner(rule));
    let targets: Vec<Value> = rule
        .target_ips
        .iter()
        .map(|target| {
            let ip = target.ip.to_string();
            let (ipv4, ipv6) = if target.ip.is_ipv4() { (Some(&ip), None) } else { (None, Some(&ip)) };
            object(json!({
                "Ip": ipv4, "Ipv6": ipv6, "Port": target.port, "Protocol": protocol(target.protocol),
                "ServerNameIndication": target.server_name_indication,
            }))
        })
        .collect();
    object(json!({
        "Id": id,
        "CreatorRequestId": rule.aws.text("creator_request_id"),
        "Arn": arn("route53resolver", rule_region(context, rule), owner, &format!("resolver-rule/{id}")),
        "DomainName": name_text(&rule.domain_name),
        "Status": "COMPLETE",
        "StatusMessage": (!rule.enabled).then_some("the rule is disabled: zonal does not use it"),
        "RuleType": rule.rule_type,
        "Name": rule.name,
        "TargetIps": (!targets.is_empty()).then_some(targets),
        "ResolverEndpointId": rule.resolver_endpoint_id,
        "OwnerId": owner,
        "ShareStatus": "NOT_SHARED",
        "CreationTime": rule.aws.text("created"),
        "ModificationTime": rule.aws.text("modified"),
        "DelegationRecord": rule.aws.text("delegation_record"),
    }))
}

fn rule<'a>(context: &Context<'a>, id: &str) -> Result<&'a ResolverRule, ServiceError> {
    let found = context.manifest().resolver_rules.get(id).filter(|rule| has_rule(context, rule));
    found.map(|found| &**found).ok_or_else(|| not_found("Resolver rule", id))
}

pub(super) fn get_resolver_rule(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverRuleId");
    Ok(json!({"ResolverRule": rule_value(context, id, rule(context, id)?)}))
}

pub(super) fn list_resolver_rules(context: &Context, parameters: Parameters) -> ReadResult {
    list(parameters, "ResolverRules", RULE_FILTERS, |after| {
        let all = context.manifest().resolver_rules.range_from(start(after));
        let visible = all.filter(|(_, rule)| has_rule(context, rule));
        visible.map(|(id, rule)| (id.clone(), rule_value(context, id, rule)))
    })
}

const RULE_ASSOCIATION_FILTERS: Known = &[
    ("Name", "Name"),
    ("ResolverRuleId", "ResolverRuleId"),
    ("Status", "Status"),
    ("VPCId", "VPCId"),
    ("NAME", "Name"),
    ("RESOLVER_RULE_ID", "ResolverRuleId"),
    ("STATUS", "Status"),
    ("VPC_ID", "VPCId"),
];

/// The associations of a rule, with their identifiers.
fn rule_associations(id: &str, rule: &ResolverRule) -> Vec<(String, Value)> {
    let association = |vpc: &String| {
        let association_id = derived("rslvr-rrassoc", &[id, vpc]);
        let of_vpc = rule.aws.get("associations").and_then(|all| all.get(vpc));
        let name = of_vpc.and_then(|data| data.get("name"));
        let value = object(json!({
            "Id": association_id, "ResolverRuleId": id, "Name": name, "VPCId": vpc, "Status": "COMPLETE",
        }));
        (association_id, value)
    };
    rule.vpc_ids.iter().map(association).collect()
}

pub(super) fn list_resolver_rule_associations(context: &Context, parameters: Parameters) -> ReadResult {
    list(parameters, "ResolverRuleAssociations", RULE_ASSOCIATION_FILTERS, |after| {
        // The key of an association is that of its rule, and its number.
        let (rule, number) = after.and_then(|after| after.rsplit_once('/')).unwrap_or(("", "0"));
        let (rule, number) = (rule.to_string(), number.parse::<usize>().unwrap_or_default());
        let all = context.manifest().resolver_rules.range_from(Bound::Included(rule.as_str()));
        let visible = all.filter(|(_, rule)| has_rule(context, rule));
        visible.flat_map(move |(id, resource)| {
            let skipped = if *id == rule { number } else { 0 };
            let numbered = rule_associations(id, resource).into_iter().enumerate().skip(skipped);
            numbered.map(move |(at, (_, value))| (format!("{id}/{}", at + 1), value))
        })
    })
}

pub(super) fn get_resolver_rule_association(context: &Context, parameters: Parameters) -> ReadResult {
    let wanted = parameters.text("ResolverRuleAssociationId");
    let rules = context.manifest().resolver_rules.iter().filter(|(_, rule)| has_rule(context, rule));
    let mut all = rules.flat_map(|(id, rule)| rule_associations(id, rule));
    let found = all.find(|(id, _)| id == wanted).map(|(_, value)| value);
    let found = found.ok_or_else(|| not_found("Resolver rule association", wanted))?;
    Ok(json!({"ResolverRuleAssociation": found}))
}

// Query logs.

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

pub(super) fn get_resolver_query_log_config(context: &Context, parameters: Parameters) -> ReadResult {
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

pub(super) fn list_resolver_query_log_configs(context: &Context, parameters: Parameters) -> ReadResult {
    let all = || {
        let configs = context.manifest().query_log_configs.iter();
        configs.filter(|(_, config)| has_query_log(context, config))
    };
    let filters = Filters::of(Service::Route53Resolver, parameters, QUERY_LOG_FILTERS)?;
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

pub(super) fn list_resolver_query_log_config_associations(context: &Context, parameters: Parameters) -> ReadResult {
    let filters = Filters::of(Service::Route53Resolver, parameters, QUERY_LOG_ASSOCIATION_FILTERS)?;
    let all = query_log_associations(context);
    let (total, filtered) = (all.len(), all.iter().filter(|(_, value)| filters.matches(value)).count());
    let result = list(parameters, "ResolverQueryLogConfigAssociations", QUERY_LOG_ASSOCIATION_FILTERS, |after| {
        let after = after.map(str::to_string);
        all.into_iter().filter(move |(key, _)| after.as_ref().is_none_or(|after| key > after))
    })?;
    Ok(with_counts(result, total, filtered))
}

pub(super) fn get_resolver_query_log_config_association(context: &Context, parameters: Parameters) -> ReadResult {
    let wanted = parameters.text("ResolverQueryLogConfigAssociationId");
    let found = query_log_associations(context).into_iter().find(|(id, _)| id == wanted);
    let (_, value) = found.ok_or_else(|| not_found("Resolver query logging configuration association", wanted))?;
    Ok(json!({"ResolverQueryLogConfigAssociation": value}))
}

// Tags.

pub(super) fn list_tags_for_resource(context: &Context, parameters: Parameters) -> ReadResult {
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
