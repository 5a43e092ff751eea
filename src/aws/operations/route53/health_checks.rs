//! Health checks of Route 53, with the verdicts of this node.
//!
//! Types without a target of their own (`CLOUDWATCH_METRIC`, `RECOVERY_CONTROL`) are EXTERNAL checks of the manifest: their
//! health is reported to zonal.

use super::hosted_zones::{bare, error, marked_page};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written,
            creation::{Created, RequestId},
            edits,
            networks::check_target,
            object,
            table::{read, write},
        },
        random_uuid,
    },
    manifest::{Direction, HealthCheck, HealthCheckType, ProbeType, Resource, WhenStale},
    snapshot::health::{Attempt, Report, State, TargetId},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::{ops::Bound, sync::Arc};

/// The operations of health checks.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    write(Route53, "CreateHealthCheck", create, "HealthCheckConfig").echoes(
        "CallerReference HealthCheckConfig.MeasureLatency HealthCheckConfig.EnableSNI HealthCheckConfig.Regions \
         HealthCheckConfig.AlarmIdentifier HealthCheckConfig.RoutingControlArn HealthCheckConfig.EndpointType",
    ),
    read(Route53, "GetHealthCheck", get, "HealthCheckId"),
    read(Route53, "ListHealthChecks", list_all, "Marker MaxItems"),
    read(Route53, "GetHealthCheckCount", count, ""),
    read(Route53, "GetHealthCheckStatus", status, "HealthCheckId"),
    read(Route53, "GetHealthCheckLastFailureReason", last_failure, "HealthCheckId"),
    read(Route53, "GetCheckerIpRanges", checker_ip_ranges, ""),
    write(
        Route53,
        "UpdateHealthCheck",
        update,
        "HealthCheckId HealthCheckVersion IPAddress Port ResourcePath FullyQualifiedDomainName SearchString \
         FailureThreshold Inverted Disabled HealthThreshold ChildHealthChecks InsufficientDataHealthStatus ResetElements \
         HealthCheckSourceId",
    )
    .echoes("EnableSNI Regions AlarmIdentifier"),
    write(Route53, "DeleteHealthCheck", delete, "HealthCheckId"),
];

const KIND: &str = "health_checks";
/// The number of checks on a page: by default, and at most.
const MAX_ITEMS: usize = 100;
/// The maximum number of health checks of an account: each of them costs every node an attempt in each interval.
const MAX_CHECKS: usize = 10_000;
/// The member of a check's data that has what zonal only returns, by AWS's names.
const ECHO: &str = "echo";

/// The members of AWS's configuration that are members of the manifest's checks.
const MEMBERS: [(&str, &str); 11] = [
    ("IPAddress", "ip_address"),
    ("Port", "port"),
    ("ResourcePath", "resource_path"),
    ("FullyQualifiedDomainName", "fully_qualified_domain_name"),
    ("SearchString", "search_string"),
    ("RequestInterval", "request_interval"),
    ("Inverted", "inverted"),
    ("Disabled", "disabled"),
    ("HealthThreshold", "health_threshold"),
    ("ChildHealthChecks", "child_health_checks"),
    ("HealthCheckSourceId", "vpc_id"),
];

/// The members of AWS's configuration that zonal only returns.
const ECHOED: [&str; 6] =
    ["MeasureLatency", "EnableSNI", "Regions", "AlarmIdentifier", "RoutingControlArn", "EndpointType"];

/// The members that only a check with its own target has. The check of the manifest refuses the other members of a target.
const OF_PROBES: [&str; 4] = ["RequestInterval", "FailureThreshold", "MeasureLatency", "EnableSNI"];

/// The Regions that AWS's checkers can be in.
const CHECKER_REGIONS: [&str; 8] = [
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "sa-east-1",
];

/// The words for the verdict of an EXTERNAL check without a fresh report.
const STALE: [(&str, WhenStale); 3] =
    [("Healthy", WhenStale::Healthy), ("Unhealthy", WhenStale::Unhealthy), ("LastKnownStatus", WhenStale::LastKnown)];

fn owner(check: &HealthCheck) -> &str {
    check.aws.text("owner_id").unwrap_or_default()
}

fn version(check: &HealthCheck) -> u64 {
    check.aws.get("version").and_then(Value::as_u64).unwrap_or(1)
}

fn find<'a>(context: &Context<'a>, parameters: Parameters) -> Result<(&'a String, &'a Arc<HealthCheck>), ServiceError> {
    find_id(context, bare(parameters.text("HealthCheckId")))
}

/// The health check of the caller with an identifier.
pub(super) fn find_id<'a>(context: &Context<'a>, id: &str) -> Result<(&'a String, &'a Arc<HealthCheck>), ServiceError> {
    let found = context.manifest().health_checks.get_key_value(id).filter(|(_, check)| context.sees(owner(check)));
    found.ok_or_else(|| error("NoSuchHealthCheck", format!("A health check with id {id} does not exist.")))
}

/// The configuration of a check in the form of Route 53.
fn config(check: &HealthCheck) -> Value {
    let echo = Parameters(check.aws.get(ECHO).unwrap_or(&Value::Null));
    let probe = check.check_type.probe();
    let has_search = check.search_string.is_some();
    let kind = match check.check_type {
        HealthCheckType::Http if has_search => "HTTP_STR_MATCH",
        HealthCheckType::Https if has_search => "HTTPS_STR_MATCH",
        HealthCheckType::External => echo.given_text("Type").unwrap_or("CLOUDWATCH_METRIC"),
        other => other.word(),
    };
    let flag = |member: &str, default: bool| {
        let given = echo.get(member).cloned();
        probe.map(|_| given.unwrap_or(Value::Bool(default)))
    };
    let stale = check.when_stale.and_then(|when| STALE.iter().find(|(_, other)| *other == when));
    let name = check.fully_qualified_domain_name.as_ref().map(|name| name.to_string());
    object(json!({
        "IPAddress": check.ip_address,
        "Port": check.port.or_else(|| probe.and_then(ProbeType::default_port)),
        "Type": kind,
        "ResourcePath": check.resource_path,
        "FullyQualifiedDomainName": name.as_deref().map(|name| name.trim_end_matches('.')),
        "SearchString": check.search_string,
        "RequestInterval": probe.map(|_| check.request_interval),
        "FailureThreshold": probe.map(|_| check.failure_threshold),
        "MeasureLatency": flag("MeasureLatency", false),
        "Inverted": check.inverted,
        "Disabled": check.disabled,
        "HealthThreshold": check.health_threshold,
        "ChildHealthChecks": (!check.child_health_checks.is_empty()).then_some(&check.child_health_checks),
        "EnableSNI": flag("EnableSNI", probe == Some(ProbeType::Https)),
        "Regions": echo.get("Regions"),
        "AlarmIdentifier": echo.get("AlarmIdentifier"),
        "InsufficientDataHealthStatus": stale.map(|(word, _)| word),
        "RoutingControlArn": echo.get("RoutingControlArn"),
        "EndpointType": echo.get("EndpointType"),
        "HealthCheckSourceId": check.vpc_id,
    }))
}

fn value(id: &str, check: &HealthCheck) -> Value {
    json!({
        "Id": id,
        "CallerReference": check.aws.text("caller_reference").unwrap_or(id),
        "HealthCheckConfig": config(check),
        "HealthCheckVersion": version(check),
    })
}

fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, check) = find(context, parameters)?;
    Ok(json!({"HealthCheck": value(id, check)}))
}

fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    let limit = parameters.limit("MaxItems", MAX_ITEMS, MAX_ITEMS);
    let limit = limit.ok_or_else(|| error("InvalidInput", "MaxItems: expected a number above 0"))?;
    let marker = parameters.text("Marker");
    let checks = context.manifest().health_checks.range_from(Bound::Included(marker));
    let mut checks = checks.filter(|(_, check)| context.sees(owner(check)));
    let shown: Vec<Value> = checks.by_ref().take(limit).map(|(id, check)| value(id, check)).collect();
    Ok(marked_page(parameters, "HealthChecks", shown, checks.next().map(|(id, _)| id), limit))
}

fn count(context: &Context, _: Parameters) -> ReadResult {
    let checks = context.manifest().health_checks.values();
    Ok(json!({"HealthCheckCount": checks.filter(|check| context.sees(owner(check))).count()}))
}

// Verdicts.

/// The observation of this node, as Route 53 shows it. Clients expect a Region. The function writes the Region of the check's
/// VPC or, without a VPC, the Region of the request, if AWS has checkers in that Region.
fn observation(context: &Context, check: &HealthCheck, status: String, at: i64) -> Value {
    let time = Timestamp::from_second(at).unwrap_or_default().to_string();
    let region = check.vpc_id.as_deref().map_or(context.caller.region.as_str(), |vpc| context.vpc_region(vpc));
    object(json!({
        "Region": CHECKER_REGIONS.contains(&region).then_some(region),
        "StatusReport": {"Status": status, "CheckedTime": time},
    }))
}

/// The verdict of this node, by which it answers, with its reason.
fn status(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, check) = find(context, parameters)?;
    let target = context.snapshot.health_targets.get(&TargetId::Check(id.clone()));
    let Some(target) = target else {
        let text = "Success: the node has not begun to check; until then, the check counts as healthy";
        return Ok(json!({"HealthCheckObservations": [observation(context, check, text.into(), context.now)]}));
    };
    let is_healthy = target.verdict.is_healthy();
    let Report { state, since, attempts, forced, held_until, is_frozen, fleet, .. } = target.verdict.report().clone();
    let mut reasons = Vec::new();
    match (attempts.first(), check.disabled) {
        (_, true) if check.inverted => {
            reasons.push("the check is disabled and inverted: it counts as unhealthy".into())
        }
        (_, true) => reasons.push("the check is disabled, and counts as healthy".into()),
        (Some(Attempt { result, is_success, .. }), false) => {
            reasons.push(result.to_string());
            if state == State::Unknown && !is_success {
                reasons.push("the target was never healthy, and counts as healthy until it was".into());
            }
        }
        (None, false) if state == State::Unknown && check.check_type.probe().is_some() => {
            reasons.push("no attempt has ended yet, and until then the check counts as healthy".into());
        }
        (None, false) => {}
    }
    if let Some(forced) = forced {
        reasons
            .push(format!("the verdict is forced until {}", Timestamp::from_second(forced.until).unwrap_or_default()));
    }
    if let Some(until) = held_until {
        let until = Timestamp::from_second(until).unwrap_or_default();
        reasons.push(format!("the check is held unhealthy until {until}, because it changed too often"));
    }
    if is_frozen {
        reasons.push("the node is isolated, and keeps its verdicts".into());
    }
    if let Some(fleet) = fleet {
        reasons.push(format!("{} of {} nodes say healthy", fleet.healthy, fleet.reporters));
    }
    let word = if is_healthy { "Success: healthy" } else { "Failure: unhealthy" };
    reasons.insert(0, word.into());
    let at = attempts.first().map_or(since, |attempt| attempt.at);
    let at = if at > 0 { at } else { context.now };
    Ok(json!({"HealthCheckObservations": [observation(context, check, reasons.join(". "), at)]}))
}

/// The last failure among the attempts that the node remembers.
fn last_failure(context: &Context, parameters: Parameters) -> ReadResult {
    let (id, check) = find(context, parameters)?;
    let target = context.snapshot.health_targets.get(&TargetId::Check(id.clone()));
    let attempts = target.map(|target| target.verdict.report().attempts.clone()).unwrap_or_default();
    let failure = attempts.iter().find(|attempt| !attempt.is_success);
    let shown = failure.map(|attempt| observation(context, check, format!("Failure: {}", attempt.result), attempt.at));
    Ok(json!({"HealthCheckObservations": shown.into_iter().collect::<Vec<_>>()}))
}

/// The addresses of outbound endpoints, which checks with a VPC come from.
fn checker_ip_ranges(context: &Context, _: Parameters) -> ReadResult {
    let endpoints = context.manifest().resolver_endpoints.values();
    let outbound = endpoints.filter(|endpoint| {
        endpoint.direction == Direction::Outbound && context.sees(context.vpc_owner(&endpoint.vpc_id))
    });
    let addresses = outbound.flat_map(|endpoint| &endpoint.ip_addresses);
    let mut ranges: Vec<String> =
        addresses.map(|address| format!("{}/{}", address.ip, if address.ip.is_ipv4() { 32 } else { 128 })).collect();
    ranges.sort();
    ranges.dedup();
    Ok(json!({"CheckerIpRanges": ranges}))
}

// Writes.

/// A check with the members of a request.
fn apply(context: &Context, given: Parameters, mut members: Map<String, Value>) -> Result<HealthCheck, ServiceError> {
    for (member, field) in MEMBERS {
        if let Some(value) = given.get(member) {
            members.insert(field.into(), value.clone());
        }
    }
    // AWS counts as many successes as failures.
    if let Some(threshold) = given.get("FailureThreshold") {
        for field in ["failure_threshold", "success_threshold"] {
            members.insert(field.into(), threshold.clone());
        }
    }
    if let Some(word) = given.given_text("InsufficientDataHealthStatus") {
        let when = STALE.iter().find(|(other, _)| *other == word).map(|(_, when)| when.word());
        members.insert("when_stale".into(), when.into());
    }
    let check = serde_json::from_value(Value::Object(members));
    let mut check: HealthCheck = check.map_err(|failure| error("InvalidInput", failure.to_string()))?;
    for member in ECHOED {
        if let Some(value) = given.get(member) {
            check.aws.set_in(ECHO, member, Some(value.clone()));
        }
    }
    let is_given = |member: &&&str| given.get(member).is_some();
    if let Some(member) = OF_PROBES.iter().find(is_given).filter(|_| check.check_type.probe().is_none()) {
        let message = format!("{member}: only a health check with its own target has this member; leave it out");
        return Err(error("InvalidInput", message));
    }
    if check.check_type.probe().is_some() && check.ip_address.is_none() && check.vpc_id.is_none() {
        let message = "HealthCheckSourceId: it is missing; without IPAddress, it has to be the ID of the VPC whose view resolves \
                       FullyQualifiedDomainName";
        return Err(error("InvalidInput", message));
    }
    check_accounts(context, &check)?;
    Ok(check)
}

/// Refuses a health check whose result would tell the caller something about the node, or about networks and checks of other
/// accounts.
fn check_accounts(context: &Context, check: &HealthCheck) -> Result<(), ServiceError> {
    if let Some(address) = check.ip_address {
        let refused = |refusal| error("InvalidInput", format!("IPAddress: {refusal}"));
        check_target(context, address, check.vpc_id.as_deref()).map_err(refused)?;
    }
    if let Some(vpc) = &check.vpc_id {
        let found = context.manifest().vpcs.get(vpc).filter(|vpc| context.sees(&vpc.owner_id));
        found.ok_or_else(|| error("InvalidInput", format!("HealthCheckSourceId: the VPC {vpc} does not exist")))?;
    }
    for child in &check.child_health_checks {
        let missing = |_| error("InvalidInput", format!("ChildHealthChecks: the health check {child} does not exist"));
        find_id(context, child).map_err(missing)?;
    }
    Ok(())
}

/// The error for a search string of a check whose type has none. The type of a check cannot change.
fn no_search_string(kind: &str) -> ServiceError {
    error(
        "InvalidInput",
        format!("SearchString: the type {kind} has none; HTTP_STR_MATCH and HTTPS_STR_MATCH have one"),
    )
}

fn create(context: &Context, parameters: Parameters) -> WriteResult {
    let given = parameters.get("HealthCheckConfig").map_or(parameters, Parameters);
    let kind = given.text("Type");
    let is_external = matches!(kind, "CLOUDWATCH_METRIC" | "RECOVERY_CONTROL");
    let plain = if is_external { "EXTERNAL" } else { kind.trim_end_matches("_STR_MATCH") };
    match (kind.ends_with("_STR_MATCH"), given.get("SearchString").is_some()) {
        (true, false) => {
            return Err(error("InvalidInput", format!("SearchString: the value is missing; the type {kind} needs it")));
        }
        (false, true) => return Err(no_search_string(kind)),
        _ => {}
    }
    let mut check = apply(context, given, Map::from_iter([("type".to_string(), plain.into())]))?;
    if is_external {
        check.aws.set_in(ECHO, "Type", Some(kind.into()));
    }
    let request = RequestId::caller_reference(parameters);
    let own = context.manifest().health_checks.iter().filter(|(_, other)| context.sees(owner(other)));
    let given_config = config(&check);
    let is_same = |other: &HealthCheck| config(other) == given_config;
    let refuse = |message: String| error("HealthCheckAlreadyExists", message);
    let make = || {
        if let Some(account) = context.account() {
            check.aws.set("owner_id", account);
        }
        request.store(&mut check.aws);
        check.aws.set("created", context.time());
        check.aws.set("version", 1);
        (random_uuid(), check)
    };
    let count = own.clone().count();
    let Created { id, resource, edits } = request.create_once(own, |other| &other.aws, is_same, refuse, make)?;
    if !edits.is_empty() && count >= MAX_CHECKS && context.account().is_some() {
        return Err(error("TooManyHealthChecks", format!("An account has at most {MAX_CHECKS} health checks")));
    }
    let result = json!({
        "HealthCheck": value(&id, &resource),
        "Location": format!("https://route53.amazonaws.com/2013-04-01/healthcheck/{id}"),
    });
    Ok(Written { edits, result })
}

fn update(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, check) = find(context, parameters)?;
    let given = parameters.get("HealthCheckVersion").and_then(Value::as_u64);
    if let Some(given) = given.filter(|given| *given != version(check)) {
        let message = format!("The health check {id} has the version {}, not {given}", version(check));
        return Err(error("HealthCheckVersionMismatch", message));
    }
    let Ok(Value::Object(mut members)) = serde_json::to_value(&**check) else {
        return Err(error("InvalidInput", "the health check cannot be written as JSON"));
    };
    if parameters.get("SearchString").is_some() && check.search_string.is_none() {
        return Err(no_search_string(check.check_type.word()));
    }
    let resets = parameters.texts("ResetElements");
    for (member, field) in MEMBERS.into_iter().filter(|(member, _)| resets.contains(member)) {
        if parameters.get(member).is_none() {
            members.remove(field);
        }
    }
    let mut changed = apply(context, parameters, members)?;
    if resets.contains(&"Regions") && parameters.get("Regions").is_none() {
        changed.aws.set_in(ECHO, "Regions", None);
    }
    changed.aws.set("version", version(check) + 1);
    let result = json!({"HealthCheck": value(id, &changed)});
    Ok(Written { edits: vec![edits::put(id, Resource::HealthCheck(Arc::new(changed)))], result })
}

fn delete(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, _) = find(context, parameters)?;
    let manifest = context.manifest();
    let zone = manifest.private_hosted_zones.iter().find_map(|(zone, resource)| {
        let set = resource.records.iter().find(|set| set.health_check_id.as_ref() == Some(id))?;
        Some(format!("the record set {} {} of the hosted zone {zone} uses it", set.name, set.record_type))
    });
    let parent = || {
        let mut checks = manifest.health_checks.iter();
        let found = checks.find(|(_, check)| check.child_health_checks.contains(id));
        found.map(|(parent, _)| format!("it is a child of the health check {parent}"))
    };
    if let Some(user) = zone.or_else(parent) {
        return Err(error("HealthCheckInUse", format!("The health check {id} cannot be deleted: {user}")));
    }
    Ok(Written { edits: vec![edits::delete(KIND, id)], result: json!({}) })
}
