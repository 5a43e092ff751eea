//! Policies that share Resolver rules and query logs with other accounts. zonal stores them and shares nothing.

use super::{error, query_logs, rules};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits,
            table::{read, write},
        },
    },
    manifest::{AwsData, Resource},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The operations of policies.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    read(Route53Resolver, "GetResolverRulePolicy", get_rule_policy, "Arn"),
    write(Route53Resolver, "PutResolverRulePolicy", put_rule_policy, "Arn").echoes("ResolverRulePolicy"),
    read(Route53Resolver, "GetResolverQueryLogConfigPolicy", get_query_log_policy, "Arn"),
    write(Route53Resolver, "PutResolverQueryLogConfigPolicy", put_query_log_policy, "Arn")
        .echoes("ResolverQueryLogConfigPolicy"),
];

/// The identifier of a resource in its ARN.
fn id_of<'p>(parameters: Parameters<'p>, kind: &str) -> Result<&'p str, ServiceError> {
    let arn = parameters.text("Arn");
    let found = arn.rsplit(':').next().and_then(|last| last.split_once('/')).filter(|(found, _)| *found == kind);
    found.map(|(_, id)| id).ok_or_else(|| unknown(parameters))
}

/// The error for an ARN that no resource of the caller has.
fn unknown(parameters: Parameters) -> ServiceError {
    error("UnknownResourceException", format!("The resource '{}' does not exist", parameters.text("Arn")))
}

/// The result of a read of a policy.
fn shown(aws: &AwsData, member: &str) -> Value {
    aws.text("policy").map_or_else(|| json!({}), |policy| json!({member: policy}))
}

/// Stores the policy of a request, or removes the policy if the request has an empty one.
fn store(aws: &mut AwsData, parameters: Parameters, member: &str) -> Result<(), ServiceError> {
    let policy = parameters.text(member);
    if policy.is_empty() {
        aws.remove("policy");
        return Ok(());
    }
    if !serde_json::from_str(policy).is_ok_and(|policy: Value| policy.is_object()) {
        return Err(error("InvalidPolicyDocument", format!("{member}: expected a JSON object")));
    }
    aws.set("policy", policy);
    Ok(())
}

fn get_rule_policy(context: &Context, parameters: Parameters) -> ReadResult {
    let id = id_of(parameters, "resolver-rule")?;
    let rule = rules::rule(context, id).map_err(|_| unknown(parameters))?;
    Ok(shown(&rule.aws, "ResolverRulePolicy"))
}

fn put_rule_policy(context: &Context, parameters: Parameters) -> WriteResult {
    let id = id_of(parameters, "resolver-rule")?;
    let mut rule = rules::rule(context, id).map_err(|_| unknown(parameters))?.clone();
    store(&mut rule.aws, parameters, "ResolverRulePolicy")?;
    let edits = vec![edits::put(id, Resource::ResolverRule(Arc::new(rule)))];
    Ok(Written { edits, result: json!({"ReturnValue": true}) })
}

fn get_query_log_policy(context: &Context, parameters: Parameters) -> ReadResult {
    let id = id_of(parameters, "resolver-query-log-config")?;
    let config = query_logs::query_log(context, id).map_err(|_| unknown(parameters))?;
    Ok(shown(&config.aws, "ResolverQueryLogConfigPolicy"))
}

fn put_query_log_policy(context: &Context, parameters: Parameters) -> WriteResult {
    let id = id_of(parameters, "resolver-query-log-config")?;
    let mut config = query_logs::query_log(context, id).map_err(|_| unknown(parameters))?.clone();
    store(&mut config.aws, parameters, "ResolverQueryLogConfigPolicy")?;
    let edits = vec![edits::put(id, Resource::QueryLogConfig(Arc::new(config)))];
    Ok(Written { edits, result: json!({"ReturnValue": true}) })
}
