//! Features of hosted zones. The public DNS fallback of AWS is `fallthrough` of the manifest: a name that a private zone does not
//! have is resolved as if the zone did not exist.

use super::{
    hosted_zones::{error, find},
    zone_changes::zone_edit,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53,
        operations::{Context, Entry, Parameters, WriteResult, Written, table::write},
    },
    manifest::PrivateHostedZone,
};
use serde_json::{Value, json};

/// The operations of features.
pub(in crate::aws::operations) const TABLE: &[Entry] =
    &[write(Route53, "UpdateHostedZoneFeatures", update, "HostedZoneId EnablePublicDNSFallback DryRun")
        .refuses("EnableAcceleratedRecovery ChangeGuardrails")];

/// Applies the feature of a request to a zone.
pub(super) fn apply(parameters: Parameters, zone: &mut PrivateHostedZone) -> Result<(), ServiceError> {
    let Some(fallback) = parameters.get("EnablePublicDNSFallback").and_then(Value::as_bool) else { return Ok(()) };
    if fallback && zone.public {
        let message = "EnablePublicDNSFallback: public DNS fallback is supported only for private hosted zones";
        return Err(error("InvalidInput", message));
    }
    zone.fallthrough = fallback;
    Ok(())
}

/// The features of a zone. None for a public zone.
pub(super) fn value(zone: &PrivateHostedZone) -> Option<Value> {
    let status = if zone.fallthrough { "ENABLED" } else { "DISABLED" };
    (!zone.public).then(|| json!({"PublicDNSFallbackStatus": status}))
}

fn update(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, zone) = find(context, parameters.text("HostedZoneId"))?;
    let mut changed = (**zone).clone();
    apply(parameters, &mut changed)?;
    let is_dry_run = parameters.get("DryRun") == Some(&Value::Bool(true));
    let edits = if is_dry_run { Vec::new() } else { vec![zone_edit(id, changed)] };
    Ok(Written { edits, result: json!({}) })
}
