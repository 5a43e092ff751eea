//! Hosted zones of Route 53: reads.

use super::{delegation_sets, features, health_checks, record_sets};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service,
        operations::{Context, Page, Parameters, ReadResult, identifiers, object, page, start, tag_list},
    },
    manifest::{PrivateHostedZone, ResourceRecordSet},
    wire::Name,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{ops::Bound, sync::Arc};

/// The number of zones on a page: by default, and at most.
const MAX_ITEMS: usize = 100;

pub(super) fn error(code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError::new(Service::Route53, code, message)
}

/// The identifier without its prefix: clients send `Z1` and `/hostedzone/Z1`.
pub(super) fn bare(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(_, id)| id)
}

/// The zone with this identifier.
pub(super) fn find<'a>(
    context: &Context<'a>,
    id: &str,
) -> Result<(&'a String, &'a Arc<PrivateHostedZone>), ServiceError> {
    find_exactly(context, bare(id))
}

/// The zone with this identifier, which has no prefix.
pub(super) fn find_exactly<'a>(
    context: &Context<'a>,
    id: &str,
) -> Result<(&'a String, &'a Arc<PrivateHostedZone>), ServiceError> {
    let found = context.manifest().private_hosted_zones.get_key_value(id);
    let found = found.filter(|(_, zone)| context.sees(owner(zone)));
    found.ok_or_else(|| error("NoSuchHostedZone", format!("No hosted zone found with ID: {id}")))
}

/// The owner of a zone. Empty if it is not known.
pub(super) fn owner(zone: &PrivateHostedZone) -> &str {
    zone.aws.text("owner_id").unwrap_or_default()
}

pub(super) fn limit(parameters: Parameters) -> Result<usize, ServiceError> {
    let limit = parameters.limit("MaxItems", MAX_ITEMS, MAX_ITEMS);
    limit.ok_or_else(|| error("InvalidInput", "MaxItems: expected a number above 0"))
}

/// A page of a list with markers. The first page has no `Marker`, although `Marker` is required in AWS's model.
pub(super) fn marked_page(
    parameters: Parameters,
    list: &str,
    shown: Vec<Value>,
    next: Option<&String>,
    limit: usize,
) -> Value {
    object(json!({
        list: shown,
        "Marker": parameters.given_text("Marker"),
        "IsTruncated": next.is_some(),
        "NextMarker": next,
        "MaxItems": limit.to_string(),
    }))
}

/// A zone in the form of Route 53.
pub(super) fn value(context: &Context, id: &str, zone: &Arc<PrivateHostedZone>) -> Value {
    let mut config = json!({"PrivateZone": !zone.public});
    if let Some(comment) = zone.aws.text("comment") {
        config["Comment"] = comment.into();
    }
    // A zone of the manifest's own has no reference of a creator; Route 53 always shows one.
    let reference = zone.aws.text("caller_reference").unwrap_or(id);
    object(json!({
        "Id": format!("/hostedzone/{id}"),
        "Name": record_sets::name_text(&zone.name),
        "CallerReference": reference,
        "Config": config,
        "ResourceRecordSetCount": count(context, id, zone),
        "Features": features::value(zone),
    }))
}

/// The number of record sets of a zone.
fn count(context: &Context, id: &str, zone: &Arc<PrivateHostedZone>) -> usize {
    let compiled = context.snapshot.zone(id);
    let is_plain =
        zone.file.is_none() && !zone.is_transferred() && compiled.is_none_or(|compiled| compiled.overlay.is_none());
    if !is_plain {
        return record_sets::index_of(context, id, zone).sets.len();
    }
    let has = |rtype: &str| {
        zone.records.iter().any(|set| {
            let is_apex = || Name::parse(set.name.as_bytes(), Some(&zone.name)).is_ok_and(|name| name == zone.name);
            set.record_type.eq_ignore_ascii_case(rtype) && is_apex()
        })
    };
    // zonal makes the records of the apex that a zone lacks.
    zone.records.len() + usize::from(!has("SOA")) + usize::from(!has("NS"))
}

/// The VPCs of a zone.
pub(super) fn vpcs(context: &Context, zone: &PrivateHostedZone) -> Value {
    zone.vpc_ids.iter().map(|id| json!({"VPCRegion": context.vpc_region(id), "VPCId": id})).collect()
}

/// The name servers of a zone: those of its NS records, or the one that zonal makes.
pub(super) fn name_servers(zone: &PrivateHostedZone) -> Value {
    let is_ns = |set: &ResourceRecordSet| {
        set.record_type.eq_ignore_ascii_case("NS")
            && Name::parse(set.name.as_bytes(), Some(&zone.name)).is_ok_and(|name| name == zone.name)
    };
    match zone.records.iter().find(|set| is_ns(set)) {
        Some(set) => set.records.iter().map(|name| Value::from(name.trim_end_matches('.'))).collect(),
        None => json!([format!("ns.{}", zone.name).trim_end_matches('.')]),
    }
}

/// The change that made a revision.
pub(super) fn change_info(revision: u64, time: i64, comment: Option<&str>) -> Value {
    let time = Timestamp::from_second(time).unwrap_or_default();
    let mut info = json!({
        "Id": format!("/change/{}", identifiers::change(revision, time.as_second())),
        "Status": "INSYNC",
        "SubmittedAt": time.to_string(),
    });
    if let Some(comment) = comment {
        info["Comment"] = comment.into();
    }
    info
}

pub(super) fn get_change(context: &Context, parameters: Parameters) -> ReadResult {
    let id = bare(parameters.text("Id"));
    let (revision, time) = identifiers::read_change(id)
        .filter(|(revision, _)| *revision <= context.revision)
        .ok_or_else(|| error("NoSuchChange", format!("Could not find resource with ID: {id}")))?;
    Ok(json!({"ChangeInfo": change_info(revision, time, None)}))
}

pub(super) fn list_hosted_zones(context: &Context, parameters: Parameters) -> ReadResult {
    let limit = limit(parameters)?;
    let is_private_only = parameters.given_text("HostedZoneType").is_some();
    let marker = parameters.text("Marker");
    let set = parameters.given_text("DelegationSetId").map(|id| delegation_sets::find(context, id)).transpose()?;
    let has_set = |zone: &PrivateHostedZone| {
        set.is_none_or(|(id, _)| zone.aws.text(delegation_sets::MEMBER) == Some(id.as_str()))
    };
    let zones = context.manifest().private_hosted_zones.range_from(Bound::Included(bare(marker)));
    let visible = zones.filter(|(_, zone)| context.sees(owner(zone)) && has_set(zone));
    let mut zones = visible.filter(|(_, zone)| !(is_private_only && zone.public));
    let shown: Vec<Value> = zones.by_ref().take(limit).map(|(id, zone)| value(context, id, zone)).collect();
    Ok(marked_page(parameters, "HostedZones", shown, zones.next().map(|(id, _)| id), limit))
}

pub(super) fn list_hosted_zones_by_name(context: &Context, parameters: Parameters) -> ReadResult {
    let limit = limit(parameters)?;
    let start = parameters.given_text("DNSName");
    let start_id = parameters.given_text("HostedZoneId").map(bare);
    if start.is_none() && start_id.is_some() {
        return Err(error("InvalidInput", "HostedZoneId: DNSName is missing"));
    }
    let invalid = || error("InvalidDomainName", "DNSName: not a domain name");
    let name = start.map(|text| record_sets::read_name(text).ok_or_else(invalid)).transpose()?;
    let all = context.manifest().private_hosted_zones.iter().filter(|(_, zone)| context.sees(owner(zone)));
    let is_after = |id: &str, zone: &PrivateHostedZone| {
        let order = name.as_ref().map(|name| zone.name.cmp(name).then_with(|| id.cmp(start_id.unwrap_or_default())));
        order.is_none_or(|order| order.is_ge())
    };
    let mut zones: Vec<_> = all.filter(|(id, zone)| is_after(id, zone)).collect();
    zones.sort_by(|(one_id, one), (id, other)| one.name.cmp(&other.name).then_with(|| one_id.cmp(id)));
    let shown: Value = zones.iter().take(limit).map(|(id, zone)| value(context, id, zone)).collect();
    let mut result = json!({"HostedZones": shown, "IsTruncated": zones.len() > limit, "MaxItems": limit.to_string()});
    if let Some(start) = start {
        result["DNSName"] = start.into();
    }
    if let Some(id) = start_id {
        result["HostedZoneId"] = id.into();
    }
    if let Some((id, zone)) = zones.get(limit) {
        result["NextDNSName"] = record_sets::name_text(&zone.name).into();
        result["NextHostedZoneId"] = (*id).clone().into();
    }
    Ok(result)
}

pub(super) fn list_hosted_zones_by_vpc(context: &Context, parameters: Parameters) -> ReadResult {
    let limit = limit(parameters)?;
    let vpc = parameters.text("VPCId");
    if !context.manifest().vpcs.get(vpc).is_some_and(|vpc| context.sees(&vpc.owner_id)) {
        return Err(error("InvalidVPCId", format!("The VPC {vpc} does not exist")));
    }
    let zones = |after: Option<&str>| {
        let zones = context.manifest().private_hosted_zones.range_from(start(after));
        let of_vpc = zones.filter(|(_, zone)| zone.vpc_ids.iter().any(|id| id == vpc));
        let summary = |(id, zone): (&String, &Arc<PrivateHostedZone>)| {
            let owner = json!({"OwningAccount": context.owner(owner(zone))});
            (id.clone(), json!({"HostedZoneId": id, "Name": record_sets::name_text(&zone.name), "Owner": owner}))
        };
        of_vpc.map(summary).collect::<Vec<_>>().into_iter()
    };
    let found = page(&format!("zones of {vpc}"), parameters.given_text("NextToken"), limit, zones);
    let Page { items, next } =
        found.ok_or_else(|| error("InvalidPaginationToken", "NextToken: it is not from this list"))?;
    let mut result = json!({"HostedZoneSummaries": items, "MaxItems": limit.to_string()});
    if let Some(next) = next {
        result["NextToken"] = next.into();
    }
    Ok(result)
}

pub(super) fn get_hosted_zone_count(context: &Context, _: Parameters) -> ReadResult {
    let zones = context.manifest().private_hosted_zones.values();
    Ok(json!({"HostedZoneCount": zones.filter(|zone| context.sees(owner(zone))).count()}))
}

/// zonal has no quotas. Clients read the limit as a number.
const NO_LIMIT: i32 = i32::MAX;

pub(super) fn get_account_limit(context: &Context, parameters: Parameters) -> ReadResult {
    let kind = parameters.text("Type");
    let manifest = context.manifest();
    let count = match kind {
        "MAX_HOSTED_ZONES_BY_OWNER" => {
            manifest.private_hosted_zones.values().filter(|zone| context.sees(owner(zone))).count()
        }
        "MAX_HEALTH_CHECKS_BY_OWNER" => {
            let checks = manifest.health_checks.values();
            checks.filter(|check| context.sees(check.aws.text("owner_id").unwrap_or_default())).count()
        }
        _ => 0,
    };
    Ok(json!({"Limit": {"Type": kind, "Value": NO_LIMIT}, "Count": count}))
}

pub(super) fn get_hosted_zone_limit(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, zone) = find(context, parameters.text("HostedZoneId"))?;
    let kind = parameters.text("Type");
    let count = match kind {
        "MAX_VPCS_ASSOCIATED_BY_ZONE" if zone.public => {
            return Err(error("HostedZoneNotPrivate", format!("The hosted zone {id} is public: it has no VPCs")));
        }
        "MAX_VPCS_ASSOCIATED_BY_ZONE" => zone.vpc_ids.len(),
        _ => count(context, id, zone),
    };
    Ok(json!({"Limit": {"Type": kind, "Value": NO_LIMIT}, "Count": count}))
}

pub(super) fn get_hosted_zone(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, zone) = find(context, parameters.text("Id"))?;
    let mut result = json!({"HostedZone": value(context, id, zone)});
    if zone.public {
        result["DelegationSet"] = delegation_sets::of_zone(context, zone);
    } else {
        result["VPCs"] = vpcs(context, zone);
    }
    Ok(result)
}

/// zonal signs no zone. Clients ask before they delete one.
pub(super) fn get_dnssec(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, zone) = find(context, parameters.text("HostedZoneId"))?;
    if !zone.public {
        return Err(error(
            "InvalidArgument",
            format!("The hosted zone {id} is private: only public zones can be signed"),
        ));
    }
    Ok(json!({"Status": {"ServeSignature": "NOT_SIGNING"}, "KeySigningKeys": []}))
}

fn tags_of(context: &Context, kind: &str, id: &str) -> ReadResult {
    let tags = match kind {
        "hostedzone" => &find_exactly(context, id)?.1.tags,
        "healthcheck" => &health_checks::find_id(context, id)?.1.tags,
        _ => return Err(error("InvalidInput", format!("ResourceType: zonal has no {kind}"))),
    };
    Ok(json!({"ResourceType": kind, "ResourceId": id, "Tags": tag_list(tags, None)}))
}

pub(super) fn list_tags_for_resource(context: &Context, parameters: Parameters) -> ReadResult {
    let tags = tags_of(context, parameters.text("ResourceType"), parameters.text("ResourceId"))?;
    Ok(json!({"ResourceTagSet": tags}))
}

pub(super) fn list_tags_for_resources(context: &Context, parameters: Parameters) -> ReadResult {
    let ids = parameters.texts("ResourceIds").into_iter();
    let sets: Result<Vec<Value>, ServiceError> =
        ids.map(|id| tags_of(context, parameters.text("ResourceType"), id)).collect();
    Ok(json!({"ResourceTagSets": sets?}))
}
