//! Configurations of DNS Firewall: the fail mode of VPCs and Profiles.

use super::list;
use crate::aws::operations::{
    Context, Parameters, ReadResult, WriteResult,
    resolver::{not_found, settings::FAIL_OPEN},
};
use serde_json::json;

/// The most configurations on a page.
const MAX_RESULTS: usize = 10;

pub(super) fn get(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResourceId");
    let found = FAIL_OPEN.get(context, id).ok_or_else(|| not_found("VPC or Profile", id))?;
    Ok(json!({"FirewallConfig": found}))
}

pub(super) fn list_all(context: &Context, parameters: Parameters) -> ReadResult {
    list(MAX_RESULTS, parameters, "FirewallConfigs", |after| FAIL_OPEN.all(context, after, |_| true))
}

pub(super) fn update(context: &Context, parameters: Parameters) -> WriteResult {
    FAIL_OPEN.update(context, parameters.text("ResourceId"), parameters.text("FirewallFailOpen"), "FirewallConfig")
}
