//! Transit Gateways and their attachments.

use super::{
    Id,
    aws_data::{AwsData, Tags},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A Transit Gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransitGateway {
    /// Its Region.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// The attachments. Each reaches all others, unless route tables restrict that.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
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

/// An attachment of a Transit Gateway: to exactly one of a VPC, an on-premises network and another
/// gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["vpc_id"]}, {"required": ["on_premises_network_id"]}, {"required": ["transit_gateway_id"]},
]))]
pub struct Attachment {
    /// The attached VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<Id>,
    /// The attached on-premises network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_premises_network_id: Option<Id>,
    /// The peered gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transit_gateway_id: Option<Id>,
    /// Whether autodefined names and PTR records resolve across the gateway.
    #[serde(default = "yes")]
    pub dns_support: bool,
    /// The route table that the attachment is associated with; without it, the gateway's default
    /// table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_table: Option<String>,
    /// The route tables that its routes go to; without it, the gateway's default table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagates_to: Option<Vec<String>>,
    /// The identifier of the attachment, as in `tgw-attach-0123456789abcdef0`. It changes no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment_id: Option<Id>,
    /// The subnets of the attachment. They change no answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnet_ids: Vec<Id>,
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

fn yes() -> bool {
    true
}
