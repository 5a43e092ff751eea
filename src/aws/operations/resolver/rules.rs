//! Resolver rules and their associations with VPCs.

use super::{list, not_found, protocol};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult,
            filters::Known,
            identifiers::{arn, derived},
            object,
            route53::record_sets::name_text,
            start,
            table::read,
        },
    },
    manifest::ResolverRule,
};
use serde_json::{Value, json};
use std::ops::Bound;

/// The operations of Resolver rules.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    read(Route53Resolver, "GetResolverRule", get_resolver_rule, "ResolverRuleId"),
    read(Route53Resolver, "ListResolverRules", list_resolver_rules, "Filters MaxResults NextToken"),
    read(Route53Resolver, "GetResolverRuleAssociation", get_resolver_rule_association, "ResolverRuleAssociationId"),
    read(
        Route53Resolver,
        "ListResolverRuleAssociations",
        list_resolver_rule_associations,
        "Filters MaxResults NextToken",
    ),
];

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

fn get_resolver_rule(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverRuleId");
    Ok(json!({"ResolverRule": rule_value(context, id, rule(context, id)?)}))
}

fn list_resolver_rules(context: &Context, parameters: Parameters) -> ReadResult {
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

fn list_resolver_rule_associations(context: &Context, parameters: Parameters) -> ReadResult {
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

fn get_resolver_rule_association(context: &Context, parameters: Parameters) -> ReadResult {
    let wanted = parameters.text("ResolverRuleAssociationId");
    let rules = context.manifest().resolver_rules.iter().filter(|(_, rule)| has_rule(context, rule));
    let mut all = rules.flat_map(|(id, rule)| rule_associations(id, rule));
    let found = all.find(|(id, _)| id == wanted).map(|(_, value)| value);
    let found = found.ok_or_else(|| not_found("Resolver rule association", wanted))?;
    Ok(json!({"ResolverRuleAssociation": found}))
}
