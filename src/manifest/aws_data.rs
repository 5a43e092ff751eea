//! Members of resources that no answer depends on: names, tags, identifiers and data of AWS's API.
//!
//! A resource in which only such members changed is served like the resource before
//! ([`Manifest::served_like`]): zonal compiles nothing anew for it.

use super::{
    kinds::with_kinds,
    schema_patterns::{Address, PlainName},
    *,
};
use crate::wire::Name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use std::{borrow::Cow, fmt, net::IpAddr};

/// Tags of a resource, by key.
pub type Tags = BTreeMap<String, String>;

/// The name of the type whose value the manifest's decoder passes on as JSON.
pub(super) const OPAQUE: &str = "zonal::manifest::AwsData";

/// A map of any content, with AWS's names or zonal's. zonal keeps it and does not read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AwsData(Option<Box<Map<String, Value>>>);

impl AwsData {
    /// Whether the map has no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The value of a member.
    pub fn get(&self, member: &str) -> Option<&Value> {
        self.0.as_ref()?.get(member)
    }

    /// The text of a member. `None` if the member is no text.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.get(member)?.as_str()
    }

    /// All members, in the order of their names.
    pub fn members(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter().flat_map(|map| map.iter())
    }

    /// Sets a member.
    pub fn set(&mut self, member: &str, value: impl Into<Value>) {
        self.0.get_or_insert_default().insert(member.into(), value.into());
    }

    /// Sets a member of the map in `map`. `None` removes it.
    pub fn set_in(&mut self, map: &str, member: &str, value: Option<Value>) {
        let mut members = match self.remove(map) {
            Some(Value::Object(members)) => members,
            _ => Map::new(),
        };
        match value {
            Some(value) => drop(members.insert(member.into(), value)),
            None => drop(members.remove(member)),
        }
        if !members.is_empty() {
            self.set(map, members);
        }
    }

    /// Removes a member and returns its value.
    pub fn remove(&mut self, member: &str) -> Option<Value> {
        let map = self.0.as_mut()?;
        let value = map.remove(member);
        if map.is_empty() {
            self.0 = None;
        }
        value
    }
}

impl From<Map<String, Value>> for AwsData {
    fn from(map: Map<String, Value>) -> AwsData {
        AwsData((!map.is_empty()).then(|| Box::new(map)))
    }
}

impl Serialize for AwsData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.members())
    }
}

impl<'de> Deserialize<'de> for AwsData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AwsData, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = AwsData;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<AwsData, D::Error> {
                match Value::deserialize(inner)? {
                    Value::Object(map) => Ok(map.into()),
                    Value::Null => Ok(AwsData::default()),
                    _ => Err(de::Error::custom("expected a map")),
                }
            }
        }
        deserializer.deserialize_newtype_struct(OPAQUE, Visitor)
    }
}

impl JsonSchema for AwsData {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AwsData".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"title": "any map", "type": ["object", "null"]})
    }
}

/// A DHCP option set. zonal has no DHCP server: it keeps the options for AWS's API, and warns if the name servers are not
/// the entry points of the VPCs that use them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DhcpOptions {
    /// The domain name of the clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_name: Option<String>,
    /// The addresses of the clients' name servers, or `AmazonProvidedDNS`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domain_name_servers: Vec<String>,
    /// The addresses of NTP servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Address>")]
    pub ntp_servers: Vec<IpAddr>,
    /// The addresses of NetBIOS name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Address>")]
    pub netbios_name_servers: Vec<IpAddr>,
    /// The NetBIOS node type: 1, 2, 4 or 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netbios_node_type: Option<u8>,
    /// The preferred lease time of IPv6 addresses, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_address_preferred_lease_time: Option<u32>,
    /// The account that owns it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner_id: Id,
    /// A name for people. It changes no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// A security group. zonal keeps it for AWS's API, and enforces none of its rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityGroup {
    /// The VPC of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<Id>,
    /// What the group is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The account that owns it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner_id: Id,
    /// The rules for incoming connections, with the names of the EC2 API.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_permissions: Vec<AwsData>,
    /// The rules for outgoing connections, with the names of the EC2 API.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_permissions_egress: Vec<AwsData>,
    /// The name of the group. It changes no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// A reusable delegation set: the names of the name servers of public zones. When AWS's API creates a zone with it, the NS record
/// set of the zone gets these names. Later changes of the set change no zone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DelegationSet {
    /// The names of the name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<PlainName>")]
    pub name_servers: Vec<Name>,
    /// A name for people. It changes no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tags, by key. They change no answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

/// A resource with members that no answer depends on.
pub trait WithMetadata: Clone + PartialEq + Serialize {
    /// Removes the members that no answer depends on.
    fn clear_metadata(&mut self);

    /// Whether both have the same members that no answer depends on. False if that is not known.
    fn has_metadata_of(&self, _: &Self) -> bool {
        false
    }

    /// Whether two versions of a resource differ only in members that no answer depends on.
    fn is_served_like(&self, other: &Self) -> bool {
        // A change of another member needs no comparison of large resources.
        if self.has_metadata_of(other) {
            return false;
        }
        let [one, other] = [self, other].map(|resource| {
            let mut plain = resource.clone();
            plain.clear_metadata();
            plain
        });
        // Names are equal in any case, but zonal serves them in the case in which they are written.
        one == other && serde_json::to_vec(&one).ok() == serde_json::to_vec(&other).ok()
    }
}

/// Clears `name`, `tags`, `aws` and more members.
macro_rules! clear {
    ($resource:expr $(, $member:ident)*) => {{
        let resource = $resource;
        resource.tags = Default::default();
        resource.aws = Default::default();
        $(resource.$member = Default::default();)*
    }};
}

macro_rules! with_metadata {
    ($($type:ident $(, $member:ident)*;)+) => {
        $(impl WithMetadata for $type {
            fn clear_metadata(&mut self) {
                clear!(self $(, $member)*);
            }

            fn has_metadata_of(&self, other: &Self) -> bool {
                self.tags == other.tags && self.aws == other.aws $(&& self.$member == other.$member)*
            }
        })+
    };
}

with_metadata! {
    VpcPeeringConnection, name;
    OnPremisesNetwork, name;
    VpcEndpointService, name, service_id;
    ZonalShift, name;
    PrivateHostedZone;
    ResolverRule, name;
    Forwarder, name;
    QueryLogConfig, name;
    HealthCheck, name;
    CidrCollection, name;
    Profile, name;
    FirewallDomainList, name;
    FirewallRuleGroup, name;
}

impl WithMetadata for Vpc {
    fn clear_metadata(&mut self) {
        clear!(&mut *self, name, dhcp_options_id);
        self.subnets.values_mut().for_each(|subnet| clear!(subnet, name));
    }
}

impl WithMetadata for TransitGateway {
    fn clear_metadata(&mut self) {
        clear!(&mut *self, name);
        self.attachments.iter_mut().for_each(|attachment| clear!(attachment, name, attachment_id, subnet_ids));
    }
}

impl WithMetadata for VpcEndpoint {
    fn clear_metadata(&mut self) {
        clear!(&mut *self, name);
        for interface in &mut self.network_interfaces {
            interface.network_interface_id = None;
            interface.subnet_id = None;
        }
    }
}

impl WithMetadata for ResolverEndpoint {
    fn clear_metadata(&mut self) {
        clear!(&mut *self, name);
        for address in &mut self.ip_addresses {
            address.ip_id = None;
            address.subnet_id = None;
        }
    }
}

// No answer depends on resources of these kinds.

impl WithMetadata for DhcpOptions {
    fn clear_metadata(&mut self) {
        *self = DhcpOptions::default();
    }
}

impl WithMetadata for SecurityGroup {
    fn clear_metadata(&mut self) {
        *self = SecurityGroup::default();
    }
}

impl WithMetadata for DelegationSet {
    fn clear_metadata(&mut self) {
        *self = DelegationSet::default();
    }
}

macro_rules! served_like {
    ($($kind:ident: $type:ident,)+) => {
        impl Manifest {
            /// This manifest, with the resources of `served` in place of those that are served alike. `old` is the manifest
            /// that `served` was made from. The time that it takes follows the number of changes since `old`.
            pub fn served_like(&self, old: &Manifest, served: &Manifest) -> Manifest {
                let mut made = served.clone();
                $(for Change { id, new, .. } in changes(&old.$kind, &self.$kind) {
                    match new {
                        None => drop(made.$kind.remove(id)),
                        Some(new) if served.$kind.get(id).is_some_and(|served| served.is_served_like(new)) => {}
                        Some(new) => drop(made.$kind.insert(id.clone(), new.clone())),
                    }
                })+
                made
            }
        }
    };
}

with_kinds!(served_like);

#[cfg(test)]
mod tests;
