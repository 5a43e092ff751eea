//! Health checks: the request to a target, its timing, and the thresholds for a verdict.

use super::{
    Id,
    aws_data::{AwsData, Tags},
    schema_patterns::{Address, PlainName},
    words::words,
};
use crate::wire::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr};

/// A health check, as in the Route 53 API. Every node checks by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// How the target is checked.
    #[serde(rename = "type")]
    pub check_type: HealthCheckType,
    /// The address of the target. Without it, zonal resolves `fully_qualified_domain_name` before each attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Address>")]
    pub ip_address: Option<IpAddr>,
    /// The VPC whose view resolves the name, and whose outbound Resolver endpoint has the source address of the attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<Id>,
    /// The port of the target. Default: 80 for HTTP, 443 for HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The path of the request, with its query. Default: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_path: Option<String>,
    /// The name in the Host header and in the TLS handshake (SNI).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<PlainName>")]
    pub fully_qualified_domain_name: Option<Name>,
    /// The text that the first 5,120 octets of the response's body must contain. Case matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_string: Option<String>,
    /// Whether the target's certificate must be valid for the name.
    #[serde(default)]
    pub verify_certificate: bool,
    /// The time between two attempts, in seconds: 1 to 300.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 300))]
    pub request_interval: u16,
    /// The time limit for connecting, in seconds: 1 to 60. The response's status may take 2 seconds more.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout: u16,
    /// The number of consecutive failures that make a healthy target unhealthy: 1 to 10.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    pub failure_threshold: u8,
    /// The number of consecutive successes that make an unhealthy target healthy: 1 to 10.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub success_threshold: u8,
    /// Whether a failure counts as a success, and a success as a failure.
    #[serde(default)]
    pub inverted: bool,
    /// Whether the check is off. A disabled check counts as healthy, or as unhealthy if it is
    /// `inverted`.
    #[serde(default)]
    pub disabled: bool,
    /// For CALCULATED: the checks that are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub child_health_checks: Vec<Id>,
    /// For CALCULATED: the number of children that must be healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_threshold: Option<u16>,
    /// For EXTERNAL: the time in seconds after which a report is stale. Default: a report does not become stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub stale_after: Option<u32>,
    /// For EXTERNAL: the verdict when the report is stale, or when there is none yet. Default: `last_known`, and healthy
    /// before the first report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_stale: Option<WhenStale>,
    /// A name for people. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

words! {
    /// The types of health checks.
    pub enum HealthCheckType {
        Http = "HTTP",
        Https = "HTTPS",
        Tcp = "TCP",
        Calculated = "CALCULATED",
        External = "EXTERNAL",
    }
}

words! {
    /// Verdict of an EXTERNAL check while its last report is stale.
    #[derive(Default)]
    pub enum WhenStale {
        Healthy = "healthy",
        Unhealthy = "unhealthy",
        #[default]
        LastKnown = "last_known",
    }
}

/// The health check of an endpoint's network interfaces: each of their addresses is a target of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterfaceHealthCheck {
    /// How an address is checked. For HTTP and HTTPS, each status below 500 is a success.
    #[serde(rename = "type")]
    pub check_type: ProbeType,
    /// The port. Default: 80 for HTTP, 443 for HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The path of the request, with its query. Default: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_path: Option<String>,
    /// The name in the Host header and in the TLS handshake (SNI). Default: the first private name of the service that is
    /// no wildcard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<PlainName>")]
    pub fully_qualified_domain_name: Option<Name>,
    /// The text that the first 5,120 octets of the response's body must contain. Case matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_string: Option<String>,
    /// Whether the target's certificate must be valid for the name.
    #[serde(default)]
    pub verify_certificate: bool,
    /// The time between two attempts, in seconds: 1 to 300.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 300))]
    pub request_interval: u16,
    /// The time limit for connecting, in seconds: 1 to 60. The response's status may take 2 seconds more.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout: u16,
    /// The number of consecutive failures that make a healthy address unhealthy: 1 to 10.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    pub failure_threshold: u8,
    /// The number of consecutive successes that make an unhealthy address healthy: 1 to 10.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub success_threshold: u8,
}

words! {
    /// The types of health checks that ask a target.
    pub enum ProbeType {
        Http = "HTTP",
        Https = "HTTPS",
        Tcp = "TCP",
    }
}

impl ProbeType {
    /// Returns the default port: 80 for HTTP, 443 for HTTPS, `None` for TCP.
    pub fn default_port(self) -> Option<u16> {
        match self {
            ProbeType::Http => Some(80),
            ProbeType::Https => Some(443),
            ProbeType::Tcp => None,
        }
    }
}

impl HealthCheckType {
    /// Returns the kind of request to the target. `None` if the type sends no requests.
    pub fn probe(self) -> Option<ProbeType> {
        match self {
            HealthCheckType::Http => Some(ProbeType::Http),
            HealthCheckType::Https => Some(ProbeType::Https),
            HealthCheckType::Tcp => Some(ProbeType::Tcp),
            HealthCheckType::Calculated | HealthCheckType::External => None,
        }
    }
}

fn thirty() -> u16 {
    30
}

fn four() -> u16 {
    4
}

fn three() -> u8 {
    3
}

fn two() -> u8 {
    2
}
