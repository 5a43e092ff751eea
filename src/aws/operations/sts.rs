//! STS: who the caller is.

use super::{Context, Entry, Parameters, ReadResult, table::read};
use crate::aws::model::Service::Sts;
use serde_json::json;

/// The operations of STS that zonal serves.
pub(super) const TABLE: &[Entry] = &[read(Sts, "GetCallerIdentity", get_caller_identity, "")];

pub(super) fn get_caller_identity(context: &Context, _: Parameters) -> ReadResult {
    let (account, key) = (&context.caller.account, &context.caller.access_key_id);
    Ok(json!({"Account": account, "Arn": format!("arn:aws:iam::{account}:user/{key}"), "UserId": key}))
}
