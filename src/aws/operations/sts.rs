//! STS: who the caller is.

use super::{Context, Parameters, ReadResult};
use serde_json::json;

pub(super) fn get_caller_identity(context: &Context, _: Parameters) -> ReadResult {
    let (account, key) = (&context.caller.account, &context.caller.access_key_id);
    Ok(json!({"Account": account, "Arn": format!("arn:aws:iam::{account}:user/{key}"), "UserId": key}))
}
