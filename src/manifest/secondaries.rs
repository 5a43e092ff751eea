//! Fields of zones that other servers transfer from zonal, or that clients change by dynamic
//! updates.

use super::schema_patterns::{Address, Cidr, DomainName};
use crate::wire::Name;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A server that transfers a zone from zonal. It receives NOTIFY messages about changes (RFC 1996).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secondary {
    /// Its address.
    #[schemars(with = "Address")]
    pub ip: IpAddr,
    /// The port that NOTIFY messages are sent to.
    #[serde(default = "port_53")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The TSIG key of the node's configuration that both sides sign with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<DomainName>")]
    pub tsig_key: Option<Name>,
}

/// Clients with a permission: those with these addresses, those with this key, or those with both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The addresses of the clients. Default: all addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Cidr>")]
    pub cidr_block: Option<IpNet>,
    /// The TSIG key of the node's configuration that requests are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<DomainName>")]
    pub tsig_key: Option<Name>,
}

impl Access {
    /// Whether a request from `source`, signed with `key`, is permitted.
    pub fn allows(&self, source: IpAddr, key: Option<&Name>) -> bool {
        self.cidr_block.is_none_or(|block| block.contains(&source))
            && self.tsig_key.as_ref().is_none_or(|wanted| key == Some(wanted))
    }
}

fn port_53() -> u16 {
    53
}
