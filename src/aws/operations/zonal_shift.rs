//! Zonal shifts: traffic is shifted away from an Availability Zone, as the manifest's `zonal_shifts` say.
//!
//! The managed resources are interface endpoints, and endpoint services for all their endpoints. A cancelled shift
//! ends at once. Cancelled and expired shifts stay in the manifest until their resource is deleted.

use super::{
    Context, Entry, Page, Parameters, ReadResult, WriteResult, Written, edits,
    identifiers::arn,
    object, page, start,
    table::{read, write},
};
use crate::{
    aws::{codec::server::ServiceError, model::Service::ArcZonalShift, random_uuid},
    manifest::{AwsData, Resource, VpcEndpoint, VpcEndpointService, VpcEndpointType, ZonalShift, collection::Edit},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// The operations of zonal shifts that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    write(ArcZonalShift, "StartZonalShift", start_shift, "resourceIdentifier awayFrom expiresIn comment"),
    write(ArcZonalShift, "UpdateZonalShift", update, "zonalShiftId comment expiresIn"),
    write(ArcZonalShift, "CancelZonalShift", cancel, "zonalShiftId"),
    read(ArcZonalShift, "ListZonalShifts", list_shifts, "nextToken status maxResults resourceIdentifier"),
    read(ArcZonalShift, "ListManagedResources", list_resources, "nextToken maxResults"),
    read(ArcZonalShift, "GetManagedResource", get_resource, "resourceIdentifier"),
];

const KIND: &str = "zonal_shifts";
/// The status of a cancelled shift, in its `aws.state`.
const CANCELED: &str = "CANCELED";
/// The number of items on a page: by default, and at most.
const MAX_RESULTS: usize = 100;
/// The longest time until a shift ends, in minutes: three days, as in AWS.
const MAX_MINUTES: i64 = 3 * 24 * 60;
/// The end that is shown for a shift without one, which AWS does not have.
const NO_END: &str = "2999-12-31T00:00:00Z";

fn error(code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError::new(ArcZonalShift, code, message)
}

fn invalid(message: impl Into<String>) -> ServiceError {
    error("ValidationException", message)
}

/// The resource that a zonal shift applies to.
#[derive(Clone, Copy, PartialEq)]
enum Target<'a> {
    /// All endpoints.
    All,
    Endpoint(&'a str, &'a VpcEndpoint),
    /// All endpoints of a service.
    Service(&'a str),
}

impl<'a> Target<'a> {
    /// The resource of the manifest's shift. None if the caller may not see it.
    fn of(context: &Context<'a>, resource: &str) -> Option<Target<'a>> {
        let manifest = context.manifest();
        if resource == "*" {
            return Some(Target::All);
        }
        if let Some((id, endpoint)) = manifest.vpc_endpoints.get_key_value(resource) {
            return has_endpoint(context, endpoint).then_some(Target::Endpoint(id, endpoint));
        }
        let services = &context.snapshot.manifest.vpc_endpoint_services;
        // The caller does not see shifts of services of another account. AWS's own services have no owner.
        let sees = |service: &VpcEndpointService| context.sees(&service.owner_id) || service.is_amazon();
        let found = services.get_key_value(resource);
        let (name, _) = found.filter(|(_, service)| sees(service) && context.is_in(&service.region))?;
        Some(Target::Service(name))
    }

    /// The resource that a request names: an ARN, or the identifier of an endpoint, or the name of a service.
    fn read(context: &Context<'a>, text: &str) -> Result<Target<'a>, ServiceError> {
        let last = text.rsplit('/').next().unwrap_or(text);
        let by_id = || {
            let mut services = context.snapshot.manifest.vpc_endpoint_services.iter();
            services.find(|(_, service)| service.service_id.as_deref() == Some(last))
        };
        let resource = if text.starts_with("arn:") { last } else { text };
        let found = Target::of(context, resource);
        let found = found.or_else(|| by_id().and_then(|(name, _)| Target::of(context, name)));
        found.ok_or_else(|| {
            error("ResourceNotFoundException", format!("The resource {text} is not an interface endpoint or a service"))
        })
    }

    /// The resource in the manifest's words.
    fn resource(self) -> &'a str {
        match self {
            Target::All => "*",
            Target::Endpoint(id, _) | Target::Service(id) => id,
        }
    }

    fn arn(self, context: &Context) -> String {
        let (region, account) = (context.caller.region.as_str(), context.caller.account.as_str());
        match self {
            Target::All => arn("ec2", region, account, "vpc-endpoint/*"),
            Target::Endpoint(id, endpoint) => {
                let owner = context.owner(context.vpc_owner(&endpoint.vpc_id));
                arn("ec2", context.vpc_region(&endpoint.vpc_id), owner, &format!("vpc-endpoint/{id}"))
            }
            Target::Service(name) => {
                let service = context.snapshot.manifest.vpc_endpoint_services.get(name);
                let id = service.and_then(|service| service.service_id.as_deref()).unwrap_or(name);
                arn("ec2", region, account, &format!("vpc-endpoint-service/{id}"))
            }
        }
    }

    /// Checks that the caller may shift traffic of all endpoints that the shift is for.
    fn check_owner(self, context: &Context) -> Result<(), ServiceError> {
        let service = match self {
            Target::Endpoint(..) => return Ok(()),
            Target::Service(name) => context.snapshot.manifest.vpc_endpoint_services.get(name),
            Target::All => None,
        };
        let owns = service.is_some_and(|service| Some(service.owner_id.as_str()) == context.account());
        if owns || context.account().is_none() {
            return Ok(());
        }
        let message = format!(
            "the account {} does not own {}: a shift of it concerns endpoints of other accounts",
            context.caller.account,
            self.resource()
        );
        Err(super::access_denied(ArcZonalShift, message))
    }
}

/// Whether an endpoint has names that a shift can concern, and is one of the caller.
fn has_endpoint(context: &Context, endpoint: &VpcEndpoint) -> bool {
    endpoint.vpc_endpoint_type == VpcEndpointType::Interface
        && context.sees(context.vpc_owner(&endpoint.vpc_id))
        && context.is_in(context.vpc_region(&endpoint.vpc_id))
}

/// The service of an endpoint. The snapshot has the names of the services that presets stand for.
fn service_of<'a>(context: &Context<'a>, id: &str, endpoint: &'a VpcEndpoint) -> &'a str {
    let completed = context.snapshot.manifest.vpc_endpoints.get(id).map(|completed| completed.service_name.as_str());
    if endpoint.service_name.is_empty() { completed.unwrap_or_default() } else { &endpoint.service_name }
}

fn is_active(context: &Context, shift: &ZonalShift) -> bool {
    shift.expires_at.is_none_or(|end| end.as_second() > context.now)
}

fn status(context: &Context, shift: &ZonalShift) -> &'static str {
    match is_active(context, shift) {
        true => "ACTIVE",
        false if shift.aws.text("state") == Some(CANCELED) => CANCELED,
        false => "EXPIRED",
    }
}

/// The edits that delete the shifts of a resource which is deleted.
pub(super) fn deletions<'a>(context: &Context<'a>, resource: &'a str) -> impl Iterator<Item = Edit> {
    let shifts = context.manifest().zonal_shifts.iter().filter(move |(_, shift)| shift.resource == resource);
    shifts.map(|(id, _)| edits::delete(KIND, id))
}

fn value(context: &Context, id: &str, shift: &ZonalShift, target: Target) -> Value {
    json!({
        "zonalShiftId": id,
        "resourceIdentifier": target.arn(context),
        "awayFrom": shift.away_from,
        "expiryTime": shift.expires_at.map_or_else(|| NO_END.to_string(), |end| end.to_string()),
        "startTime": shift.aws.text("created").map_or_else(|| Timestamp::UNIX_EPOCH.to_string(), str::to_string),
        "status": status(context, shift),
        "comment": shift.comment.as_deref().unwrap_or_default(),
        "shiftType": "ZONAL_SHIFT",
    })
}

/// The page of a list.
fn list<I: Iterator<Item = (String, Value)>>(
    parameters: Parameters,
    name: &str,
    all: impl FnOnce(Option<&str>) -> I,
) -> ReadResult {
    let limit = parameters.limit("maxResults", MAX_RESULTS, MAX_RESULTS).unwrap_or(MAX_RESULTS);
    let found = page(name, parameters.given_text("nextToken"), limit, all);
    let Page { items, next } = found.ok_or_else(|| invalid("nextToken: it is not from this list"))?;
    Ok(object(json!({"items": items, "nextToken": next})))
}

fn list_shifts(context: &Context, parameters: Parameters) -> ReadResult {
    let wanted = parameters.given_text("resourceIdentifier").map(|text| Target::read(context, text)).transpose()?;
    let status = parameters.get("status");
    list(parameters, "zonal shifts", |after| {
        let all = context.manifest().zonal_shifts.range_from(start(after));
        let visible = all.filter_map(|(id, shift)| Some((id, shift, Target::of(context, &shift.resource)?)));
        let of_target = visible.filter(move |(_, _, target)| wanted.is_none_or(|wanted| wanted == *target));
        let shown = of_target.map(|(id, shift, target)| (id.clone(), value(context, id, shift, target)));
        shown.filter(move |(_, shown)| status.is_none_or(|status| shown.get("status") == Some(status)))
    })
}

// Managed resources.

/// The Availability Zones of an endpoint.
fn azs(endpoint: &VpcEndpoint) -> BTreeSet<&str> {
    endpoint.network_interfaces.iter().map(|interface| interface.availability_zone_id.as_str()).collect()
}

/// The Availability Zones of a target's endpoints.
fn azs_of<'a>(context: &Context<'a>, target: Target<'a>) -> BTreeSet<&'a str> {
    match target {
        Target::Endpoint(_, endpoint) => azs(endpoint),
        Target::All | Target::Service(_) => {
            let endpoints = context.manifest().vpc_endpoints.iter().filter(|(id, endpoint)| {
                target == Target::All || service_of(context, id, endpoint) == target.resource()
            });
            endpoints.flat_map(|(_, endpoint)| azs(endpoint)).collect()
        }
    }
}

/// A managed resource, with the shifts that concern it.
fn resource_value(context: &Context, target: Target) -> Value {
    let service = match target {
        Target::Endpoint(id, endpoint) => service_of(context, id, endpoint),
        Target::All | Target::Service(_) => target.resource(),
    };
    let concerns = |shift: &ZonalShift| [target.resource(), service, "*"].contains(&shift.resource.as_str());
    let shifts = context.manifest().zonal_shifts.iter().filter(|(_, shift)| concerns(shift));
    let active: Vec<(&String, &Arc<ZonalShift>)> = shifts.filter(|(_, shift)| is_active(context, shift)).collect();
    let azs = azs_of(context, target);
    let weights: Map<String, Value> = azs
        .iter()
        .map(|az| {
            let is_shifted = active.iter().any(|(_, shift)| shift.away_from == **az);
            ((*az).to_string(), Value::from(if is_shifted { 0.0 } else { 1.0 }))
        })
        .collect();
    let shown: Vec<Value> = active
        .iter()
        .filter_map(|(id, shift)| {
            let mut shown = value(context, id, shift, Target::of(context, &shift.resource)?);
            shown["appliedStatus"] = "APPLIED".into();
            Some(shown)
        })
        .collect();
    json!({
        "arn": target.arn(context), "name": target.resource(), "availabilityZones": azs, "appliedWeights": weights,
        "zonalShifts": shown,
    })
}

fn list_resources(context: &Context, parameters: Parameters) -> ReadResult {
    list(parameters, "managed resources", |after| {
        let all = context.manifest().vpc_endpoints.range_from(start(after));
        let visible = all.filter(|(_, endpoint)| has_endpoint(context, endpoint));
        visible.map(|(id, endpoint)| (id.clone(), resource_value(context, Target::Endpoint(id, endpoint))))
    })
}

fn get_resource(context: &Context, parameters: Parameters) -> ReadResult {
    let target = Target::read(context, parameters.text("resourceIdentifier"))?;
    Ok(resource_value(context, target))
}

// Writes.

/// The end of a shift that ends after `20m` or `3h`.
fn end(context: &Context, text: &str) -> Result<Timestamp, ServiceError> {
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).unwrap_or_default();
    let minutes = number.parse::<i64>().ok().map(|number| if unit == "h" { number * 60 } else { number });
    let minutes = minutes.filter(|minutes| (1..=MAX_MINUTES).contains(minutes));
    let minutes = minutes.ok_or_else(|| invalid("expiresIn: expected at most three days, such as 20m or 72h"))?;
    let now = Timestamp::from_second(context.now).unwrap_or_default();
    now.checked_add(SignedDuration::from_mins(minutes)).map_err(|failure| invalid(format!("expiresIn: {failure}")))
}

fn start_shift(context: &Context, parameters: Parameters) -> WriteResult {
    let target = Target::read(context, parameters.text("resourceIdentifier"))?;
    target.check_owner(context)?;
    let away_from = parameters.text("awayFrom");
    let azs = azs_of(context, target);
    if !azs.contains(away_from) {
        let known = azs.into_iter().collect::<Vec<_>>().join(", ");
        return Err(invalid(format!("awayFrom: the resource is not in {away_from}; its AZ IDs are {known}")));
    }
    let mut shifts = context.manifest().zonal_shifts.iter();
    let existing = shifts.find(|(_, shift)| shift.resource == target.resource() && is_active(context, shift));
    if let Some((id, _)) = existing {
        let message = format!("The resource has the active zonal shift {id}: update or cancel it");
        return Err(error("ConflictException", message));
    }
    let mut shift = ZonalShift {
        resource: target.resource().into(),
        away_from: away_from.into(),
        expires_at: Some(end(context, parameters.text("expiresIn"))?),
        comment: Some(parameters.text("comment").into()).filter(|comment: &String| !comment.is_empty()),
        name: None,
        tags: Default::default(),
        aws: AwsData::default(),
    };
    shift.aws.set("created", context.time());
    let id = random_uuid();
    let result = value(context, &id, &shift, target);
    Ok(Written { edits: vec![edits::put(&id, Resource::ZonalShift(Arc::new(shift)))], result })
}

/// The shift of a request that the caller may change.
fn find<'a>(
    context: &Context<'a>,
    parameters: Parameters<'a>,
) -> Result<(&'a str, &'a Arc<ZonalShift>, Target<'a>), ServiceError> {
    let id = parameters.text("zonalShiftId");
    let found = context.manifest().zonal_shifts.get(id);
    let found = found.and_then(|shift| Some((id, shift, Target::of(context, &shift.resource)?)));
    let missing = || error("ResourceNotFoundException", format!("The zonal shift {id} does not exist"));
    let (_, shift, target) = found.ok_or_else(missing)?;
    target.check_owner(context)?;
    if !is_active(context, shift) {
        return Err(error("ConflictException", format!("The zonal shift {id} has ended")));
    }
    Ok((id, shift, target))
}

fn update(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, shift, target) = find(context, parameters)?;
    let mut changed = (**shift).clone();
    if let Some(comment) = parameters.given_text("comment") {
        changed.comment = Some(comment.into()).filter(|comment: &String| !comment.is_empty());
    }
    if let Some(text) = parameters.given_text("expiresIn") {
        changed.expires_at = Some(end(context, text)?);
    }
    let result = value(context, id, &changed, target);
    Ok(Written { edits: vec![edits::put(id, Resource::ZonalShift(Arc::new(changed)))], result })
}

fn cancel(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, shift, target) = find(context, parameters)?;
    let mut changed = (**shift).clone();
    changed.expires_at = Timestamp::from_second(context.now).ok();
    changed.aws.set("state", CANCELED);
    let result = value(context, id, &changed, target);
    Ok(Written { edits: vec![edits::put(id, Resource::ZonalShift(Arc::new(changed)))], result })
}
