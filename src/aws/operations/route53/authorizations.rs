//! Authorizations to associate a zone with a VPC of another account. The zone keeps them: a list of VPCs in its member `aws`.

use super::{
    hosted_zones::{bare, error, find, owner},
    zone_changes::{any_vpc, zone_edit},
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53,
        operations::{
            Context, Entry, Page, Parameters, ReadResult, WriteResult, Written, page,
            table::{read, write},
        },
    },
    manifest::PrivateHostedZone,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The operations of authorizations.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    write(Route53, "CreateVPCAssociationAuthorization", create, "HostedZoneId VPC"),
    write(Route53, "DeleteVPCAssociationAuthorization", delete, "HostedZoneId VPC"),
    read(Route53, "ListVPCAssociationAuthorizations", list_all, "HostedZoneId NextToken MaxResults"),
];

const MEMBER: &str = "authorizations";
/// The number of VPCs on a page: by default, and at most.
const MAX_RESULTS: usize = 50;

/// The VPCs that a zone may be associated with by their owners.
fn authorized(zone: &PrivateHostedZone) -> Vec<&str> {
    let all = zone.aws.get(MEMBER).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).collect()
}

/// The zone that the owner of a VPC associates with it: a zone of the caller, or one whose owner has authorized it.
pub(super) fn zone_for<'a>(
    context: &Context<'a>,
    id: &str,
    vpc: &str,
) -> Result<(&'a String, &'a Arc<PrivateHostedZone>), ServiceError> {
    let id = bare(id);
    let Some((id, zone)) = context.manifest().private_hosted_zones.get_key_value(id) else {
        return find(context, id);
    };
    if context.sees(owner(zone)) || authorized(zone).contains(&vpc) {
        return Ok((id, zone));
    }
    let message = format!("The owner of the hosted zone {id} has not authorized an association with the VPC {vpc}");
    Err(error("NotAuthorizedException", message))
}

fn with_vpcs(zone: &PrivateHostedZone, vpcs: Vec<&str>) -> PrivateHostedZone {
    let mut changed = zone.clone();
    match vpcs.is_empty() {
        true => drop(changed.aws.remove(MEMBER)),
        false => changed.aws.set(MEMBER, vpcs.into_iter().map(Value::from).collect::<Value>()),
    }
    changed
}

fn create(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, zone) = find(context, parameters.text("HostedZoneId"))?;
    if zone.public {
        return Err(error("InvalidInput", format!("The hosted zone {id} is public: only private zones have VPCs")));
    }
    let vpc = any_vpc(context, parameters)?;
    let mut vpcs = authorized(zone);
    if !vpcs.contains(&vpc) {
        vpcs.push(vpc);
    }
    let result = json!({"HostedZoneId": id, "VPC": {"VPCId": vpc, "VPCRegion": context.vpc_region(vpc)}});
    Ok(Written { edits: vec![zone_edit(id, with_vpcs(zone, vpcs))], result })
}

fn delete(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, zone) = find(context, parameters.text("HostedZoneId"))?;
    let vpc = any_vpc(context, parameters)?;
    let mut vpcs = authorized(zone);
    if !vpcs.contains(&vpc) {
        let message = format!("The hosted zone {id} has no authorization for the VPC {vpc}");
        return Err(error("VPCAssociationAuthorizationNotFound", message));
    }
    vpcs.retain(|other| *other != vpc);
    Ok(Written { edits: vec![zone_edit(id, with_vpcs(zone, vpcs))], result: json!({}) })
}

fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, zone) = find(context, parameters.text("HostedZoneId"))?;
    let limit = parameters.limit("MaxResults", MAX_RESULTS, MAX_RESULTS);
    let limit = limit.ok_or_else(|| error("InvalidInput", "MaxResults: expected a number above 0"))?;
    let vpcs = |after: Option<&str>| {
        // The key of a VPC is its number.
        let first = after.and_then(|after| after.parse::<usize>().ok()).unwrap_or_default();
        let all = authorized(zone).into_iter().enumerate().skip(first);
        let shown = |(at, vpc): (usize, &str)| {
            ((at + 1).to_string(), json!({"VPCId": vpc, "VPCRegion": context.vpc_region(vpc)}))
        };
        all.map(shown).collect::<Vec<_>>().into_iter()
    };
    let found = page(&format!("authorizations of {id}"), parameters.given_text("NextToken"), limit, vpcs);
    let Page { items, next } =
        found.ok_or_else(|| error("InvalidPaginationToken", "NextToken: it is not from this list"))?;
    let mut result = json!({"HostedZoneId": id, "VPCs": items});
    if let Some(next) = next {
        result["NextToken"] = next.into();
    }
    Ok(result)
}
