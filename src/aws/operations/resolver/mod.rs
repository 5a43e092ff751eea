//! Route 53 Resolver: endpoints, rules, query logs, and their associations.

pub(super) mod endpoints;
pub(super) mod firewall;
pub(super) mod query_logs;
pub(super) mod rules;
pub(super) mod tags;

use super::{Parameters, ReadResult, filters::Known};
use crate::{
    aws::{codec::server::ServiceError, model::Service},
    manifest::Protocol,
};
use serde_json::Value;

/// The number of items on a page: by default, and at most.
const MAX_RESULTS: usize = 100;

fn error(code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError::new(Service::Route53Resolver, code, message)
}

fn not_found(what: &str, id: &str) -> ServiceError {
    error("ResourceNotFoundException", format!("{what} with ID \"{id}\" does not exist"))
}

/// The list of an operation: the items that match the filters, page by page.
fn list<I: Iterator<Item = (String, Value)>>(
    parameters: Parameters,
    member: &str,
    known: Known,
    all: impl FnOnce(Option<&str>) -> I,
) -> ReadResult {
    let constants = (Service::Route53Resolver, "InvalidNextTokenException", MAX_RESULTS);
    let mut result = super::list(constants, parameters, member, known, all)?;
    result["MaxResults"] = parameters.limit("MaxResults", MAX_RESULTS, MAX_RESULTS).unwrap_or(MAX_RESULTS).into();
    Ok(result)
}

/// The words of AWS for transports. DoT and DoQ have none.
fn protocol(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Do53 => Some("Do53"),
        Protocol::DoH => Some("DoH"),
        Protocol::DoT | Protocol::DoQ => None,
    }
}
