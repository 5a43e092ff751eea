//! Fields of zones that zonal transfers from other servers: the primaries, senders of NOTIFY
//! messages, and catalogs.

use super::{
    schema_patterns::{Address, Cidr, DomainName},
    types::{Id, Protocol},
};
use crate::wire::Name;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// A server to transfer zones from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Primary {
    /// Its address.
    #[schemars(with = "Address")]
    pub ip: IpAddr,
    /// Port of the server. Default: 53, or 853 for DoT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The TSIG key that all messages are signed with (RFC 8945): a name from the node's
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<DomainName>")]
    pub tsig_key: Option<Name>,
    /// The transport: Do53, which is TCP here, or DoT (RFC 9103).
    #[serde(default)]
    pub protocol: Protocol,
    /// The name that its certificate is checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name_indication: Option<String>,
}

impl Primary {
    /// The address and port of the server.
    pub fn address(&self) -> SocketAddr {
        let default = if self.protocol == Protocol::DoT { 853 } else { 53 };
        SocketAddr::new(self.ip, self.port.unwrap_or(default))
    }
}

/// Senders whose NOTIFY messages zonal accepts: those with these addresses, those with this key, or
/// those with both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifySource {
    /// The addresses of the senders. Default: all addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Cidr>")]
    pub cidr_block: Option<IpNet>,
    /// The TSIG key that the messages are signed with. Default: no signature is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<DomainName>")]
    pub tsig_key: Option<Name>,
}

/// How zonal serves the zones that a catalog lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The VPCs that see a listed zone which has no group, or none of `groups`.
    #[serde(default)]
    pub vpc_ids: Vec<Id>,
    /// The VPCs that see a listed zone, by the value of its `group` property (RFC 9432, 4.4.2).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<Id>>,
    /// The servers that the listed zones are transferred from; without it, those of the catalog.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primaries: Vec<Primary>,
}
