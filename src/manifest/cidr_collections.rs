//! CIDR collections: named lists of CIDR blocks, for routing by the client's address.

use super::schema_patterns::Cidr;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A CIDR collection, as in the Route 53 API: locations, which are named lists of CIDR blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CidrCollection {
    /// The CIDR blocks of each location, by a name of your choice. The name `*` is reserved for all other addresses.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<Cidr>>")]
    pub locations: BTreeMap<String, Vec<IpNet>>,
}
