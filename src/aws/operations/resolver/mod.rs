//! Route 53 Resolver: endpoints, rules, query logs, and their associations.
//!
//! Associations have no resources of their own: they are lists in rules and query logs, and their identifiers are derived. Data
//! that DNS does not need is in the member `aws` of resources: parameters that are only returned are in `aws.echo`, and data of
//! associations is in `aws.associations`.

mod addresses;
pub(super) mod endpoints;
pub(super) mod firewall;
pub(super) mod policies;
pub(super) mod query_logs;
pub(super) mod rules;
pub(super) mod settings;
pub(super) mod tags;

use super::{Context, Parameters, ReadResult, creation::RequestId, filters::Known};
use crate::{
    aws::{codec::server::ServiceError, model::Service},
    manifest::{AwsData, Protocol, Vpc},
};
use serde_json::Value;
use std::sync::Arc;

/// The maximum number of items on a page.
const MAX_RESULTS: usize = 100;

fn error(code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError::new(Service::Route53Resolver, code, message)
}

fn not_found(what: &str, id: &str) -> ServiceError {
    error("ResourceNotFoundException", format!("{what} with ID '{id}' does not exist"))
}

/// The error for a parameter with a value that cannot be used.
fn invalid(field: &str, message: impl Into<String>) -> ServiceError {
    error("InvalidParameterException", message).with("FieldName", field)
}

/// The error for a request that the state of a resource does not permit.
fn invalid_request(message: impl Into<String>) -> ServiceError {
    error("InvalidRequestException", message)
}

/// The error for a resource that exists already.
fn exists(message: impl Into<String>) -> ServiceError {
    error("ResourceExistsException", message)
}

/// The list of an operation: the items that match the filters, page by page of `default` items if the request does not say how
/// many.
fn list<I: Iterator<Item = (String, Value)>>(
    default: usize,
    parameters: Parameters,
    member: &str,
    known: Known,
    all: impl FnOnce(Option<&str>) -> I,
) -> ReadResult {
    let limit = parameters.limit("MaxResults", default, MAX_RESULTS).unwrap_or(default);
    let constants = (Service::Route53Resolver, "InvalidNextTokenException", limit);
    let mut result = super::list(constants, parameters, member, known, all)?;
    result["MaxResults"] = limit.into();
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

/// The transport with a word of AWS.
fn read_protocol(field: &str, word: &str) -> Result<Protocol, ServiceError> {
    match word {
        "Do53" => Ok(Protocol::Do53),
        "DoH" => Ok(Protocol::DoH),
        _ => Err(invalid(
            field,
            format!("zonal does not serve the protocol {word}: its cryptography is not validated for FIPS; use DoH"),
        )),
    }
}

/// A VPC of the caller.
fn vpc<'a>(context: &Context<'a>, field: &str, id: &str) -> Result<&'a Arc<Vpc>, ServiceError> {
    let found = context.manifest().vpcs.get(id).filter(|vpc| context.has_vpc(vpc));
    found.ok_or_else(|| invalid(field, format!("The vpc ID '{id}' does not exist")))
}

/// Checks that no resource of the caller has the identifier of the request. `all` has the data of these resources.
fn check_request_id<'a>(
    what: &str,
    parameters: Parameters,
    mut all: impl Iterator<Item = &'a AwsData>,
) -> Result<(), ServiceError> {
    let request = RequestId::creator(parameters);
    match all.any(|aws| request.is_in(aws)) {
        true => {
            let id = parameters.text("CreatorRequestId");
            Err(exists(format!("{what} with creator request ID '{id}' already exists")))
        }
        false => Ok(()),
    }
}

/// A member of an object in the data of a resource.
fn part<'d>(aws: &'d AwsData, object: &str, member: &str) -> Option<&'d Value> {
    aws.get(object)?.get(member)
}

/// Keeps the given ones of some parameters, which zonal only returns.
fn keep(aws: &mut AwsData, parameters: Parameters, members: &[&str]) {
    let given = members.iter().filter_map(|member| Some((*member, parameters.get(member)?)));
    given.for_each(|(member, value)| aws.set_in("echo", member, Some(value.clone())));
}

/// A resource that is deleted by this request.
fn deleting(mut shown: Value, what: &str) -> Value {
    shown["Status"] = "DELETING".into();
    shown["StatusMessage"] = format!("Deleting this {what}").into();
    shown
}
