//! CIDR collections: named lists of CIDR blocks, for routing by the client's address.

use super::{
    aws_data::{AwsData, Tags},
    schema_patterns::Cidr,
};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A CIDR collection, as in the Route 53 API: locations, which are named lists of CIDR blocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CidrCollection {
    /// The CIDR blocks of each location, by a name of your choice. The name `*` is reserved for all other addresses.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<Cidr>>")]
    pub locations: BTreeMap<String, Vec<IpNet>>,
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
