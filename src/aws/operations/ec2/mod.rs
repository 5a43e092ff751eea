//! The operations of EC2: networks, VPC endpoints and their services.

mod dhcp_options;
mod endpoint_changes;
mod endpoints;
mod network_interfaces;
mod peering;
mod security_groups;
mod services;
mod subnets;
mod tags;
mod transit_gateway_attachments;
mod transit_gateways;
mod vpcs;
mod zones;

use super::{Entry, Parameters, ReadResult, WriteResult, Written, filters::Known, identifiers::derived};
use crate::{
    aws::{codec::server::ServiceError, model::Service},
    manifest::{AwsData, collection::Edit},
};
use serde_json::{Value, json};
use std::collections::HashSet;

/// The operations of EC2 that zonal serves.
pub(super) const TABLES: &[&[Entry]] = &[
    vpcs::TABLE,
    subnets::TABLE,
    zones::TABLE,
    dhcp_options::TABLE,
    security_groups::TABLE,
    peering::TABLE,
    endpoints::TABLE,
    endpoint_changes::TABLE,
    services::TABLE,
    network_interfaces::TABLE,
    tags::TABLE,
    transit_gateways::TABLE,
    transit_gateway_attachments::TABLE,
];

/// The number of items on a page: by default, and at most.
const MAX_RESULTS: usize = 1000;

pub(super) fn error(code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError::new(Service::Ec2, code, message)
}

/// The list of an operation: the items that match the filters, page by page.
pub(super) fn list<I: Iterator<Item = (String, Value)>>(
    parameters: Parameters,
    member: &str,
    known: Known,
    all: impl FnOnce(Option<&str>) -> I,
) -> ReadResult {
    super::list((Service::Ec2, "InvalidNextToken", MAX_RESULTS), parameters, member, known, all)
}

/// The identifiers that a request asks for.
pub(super) struct Wanted<'a>(HashSet<&'a str>);

impl<'a> Wanted<'a> {
    /// These identifiers; all, if there are none.
    pub(super) fn of(ids: Vec<&'a str>) -> Wanted<'a> {
        Wanted(ids.into_iter().collect())
    }

    /// Whether the request asks for a resource.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0.is_empty() || self.0.contains(id)
    }
}

/// The identifiers that a request asks for.
///
/// # Errors
///
/// There is no such resource.
pub(super) fn wanted<'a>(
    parameters: Parameters<'a>,
    member: &str,
    code: &str,
    what: &str,
    exists: impl Fn(&str) -> bool,
) -> Result<Wanted<'a>, ServiceError> {
    let ids = parameters.texts(member);
    match ids.iter().find(|id| !exists(id)) {
        Some(id) => Err(error(code, format!("The {what} ID '{id}' does not exist"))),
        None => Ok(Wanted::of(ids)),
    }
}

/// The flag in a parameter of the form `{Value: true}`.
fn flag(parameters: Parameters, name: &str) -> Option<bool> {
    parameters.get(name)?.get("Value")?.as_bool()
}

/// Whether a parameter is true.
fn is_true(parameters: Parameters, name: &str) -> bool {
    parameters.get(name) == Some(&Value::Bool(true))
}

fn missing(parameter: &str) -> ServiceError {
    error("MissingParameter", format!("The request must contain the parameter {parameter}"))
}

/// The CIDR block of a parameter.
fn cidr<T: std::str::FromStr>(parameter: &str, text: &str) -> Result<T, ServiceError> {
    let first = parameter.chars().next().map(|letter| letter.to_ascii_lowercase());
    let shown: String = first.into_iter().chain(parameter.chars().skip(1)).collect();
    let message = format!("Value ({text}) for parameter {shown} is invalid. This is not a valid CIDR block.");
    text.parse().map_err(|_| error("InvalidParameterValue", message))
}

/// The result of an operation that says only that it worked.
fn done(edits: Vec<Edit>) -> WriteResult {
    Ok(Written { edits, result: json!({"Return": true}) })
}

/// The token by which a client can repeat the request that makes a resource.
struct ClientToken<'a> {
    /// The token.
    text: &'a str,
    /// A digest of the parameters of the request.
    digest: String,
}

impl<'a> ClientToken<'a> {
    const MEMBER: &'static str = "client_token";
    const DIGEST: &'static str = "client_token_request";

    /// The token of a request, if it has one.
    fn of(parameters: Parameters<'a>) -> Option<ClientToken<'a>> {
        let text = parameters.given_text("ClientToken").filter(|text| !text.is_empty())?;
        Some(ClientToken { text, digest: derived("request", &[&parameters.0.to_string()]) })
    }

    /// Whether a resource was made by a request with this token.
    fn is_of(&self, aws: &AwsData) -> bool {
        aws.text(ClientToken::MEMBER) == Some(self.text)
    }

    /// Checks that the request that made a resource had the same parameters.
    fn check(&self, aws: &AwsData) -> Result<(), ServiceError> {
        if aws.text(ClientToken::DIGEST) == Some(&self.digest) {
            return Ok(());
        }
        let message = format!("The client token {} was used with other parameters", self.text);
        Err(error("IdempotentParameterMismatch", message))
    }

    /// Keeps the token with the resource that the request makes.
    fn keep(&self, aws: &mut AwsData) {
        aws.set(ClientToken::MEMBER, self.text);
        aws.set(ClientToken::DIGEST, self.digest.clone());
    }
}
