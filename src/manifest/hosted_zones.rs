//! Private hosted zones, their record sets and aliases.

use super::{
    RecordSets,
    aws_data::{AwsData, Tags},
    primaries::{Catalog, NotifySource, Primary},
    routing_policies::{
        AzAffinityRoutingPolicy, CidrRoutingPolicy, FailoverRoutingPolicy, GeolocationRoutingPolicy,
        GeoproximityRoutingPolicy, LatencyRoutingPolicy, TransferPolicyRecords, WeightedRoutingPolicy,
    },
    schema_patterns::{DomainName, Owner, PlainName, RecordType},
    secondaries::{Access, Secondary},
    types::Id,
};
use crate::wire::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A private hosted zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["vpc_ids"]}, {"required": ["public"]}]))]
pub struct PrivateHostedZone {
    /// The name of the zone's apex.
    #[schemars(with = "PlainName")]
    pub name: Name,
    /// The VPCs whose clients resolve names in the zone.
    #[serde(default)]
    pub vpc_ids: Vec<Id>,
    /// Path of a master file (RFC 1035).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether a name that the zone does not have is resolved as if the zone did not exist.
    #[serde(default)]
    pub fallthrough: bool,
    /// Resource record sets, in addition to `file` or without one. Two versions of a zone share the equal ones.
    #[serde(default, skip_serializing_if = "RecordSets::is_empty")]
    pub records: RecordSets,
    /// Servers to transfer the zone from, in order of preference (RFC 5936, RFC 1995).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primaries: Vec<Primary>,
    /// Senders whose NOTIFY messages zonal accepts for the zone (RFC 1996). Default: the primaries,
    /// each with its TSIG key if it has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_notify: Vec<NotifySource>,
    /// The zone is a catalog: it lists zones that are transferred as well (RFC 9432).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<Catalog>,
    /// Servers that transfer the zone from zonal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondaries: Vec<Secondary>,
    /// Clients that can transfer the zone, in addition to `secondaries` (RFC 5936, RFC 1995).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_transfer: Vec<Access>,
    /// Which records of a routing policy zone transfers carry. Without it, zonal refuses to transfer a zone with routing
    /// policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_policy_records: Option<TransferPolicyRecords>,
    /// Clients that can change the zone by dynamic updates (RFC 2136). Each needs a TSIG key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_update: Vec<Access>,
    /// Whether every client resolves names in the zone. Everything else of a view, such as rules, private zones and endpoint
    /// names, has precedence; the zone has precedence over the internet. A public zone has no VPCs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
    /// Tags, by key. They change no answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
    /// Data of AWS's API that DNS does not need. zonal keeps it and does not read it.
    #[serde(default, skip_serializing_if = "AwsData::is_empty")]
    pub aws: AwsData,
}

impl PrivateHostedZone {
    /// Whether servers transfer the zone or clients update it, so that its serial must increase
    /// with each change.
    pub fn needs_serial(&self) -> bool {
        !(self.secondaries.is_empty() && self.allow_transfer.is_empty() && self.allow_update.is_empty())
    }

    /// Whether zonal transfers the zone from primaries.
    pub fn is_transferred(&self) -> bool {
        !self.primaries.is_empty()
    }

    /// The zone without its record sets.
    pub fn without_records(&self) -> PrivateHostedZone {
        PrivateHostedZone { records: RecordSets::default(), ..self.clone() }
    }

    /// A zone of this name without VPCs and records.
    pub fn empty(name: Name) -> PrivateHostedZone {
        PrivateHostedZone {
            name,
            vpc_ids: Vec::new(),
            file: None,
            fallthrough: false,
            records: RecordSets::default(),
            primaries: Vec::new(),
            allow_notify: Vec::new(),
            catalog: None,
            secondaries: Vec::new(),
            allow_transfer: Vec::new(),
            transfer_policy_records: None,
            allow_update: Vec::new(),
            public: false,
            tags: Tags::new(),
            aws: AwsData::default(),
        }
    }
}

/// A record set of a private hosted zone: values, or an alias.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    {"required": ["records"], "properties": {"records": {"minItems": 1}, "alias": {"type": "null"}}},
    {"required": ["alias"], "properties": {"alias": {"type": "object"}, "records": {"maxItems": 0}}},
]))]
pub struct ResourceRecordSet {
    /// The owner: relative to the zone unless it ends in a dot; `@` is the apex.
    #[serde(default = "at")]
    #[schemars(with = "Owner")]
    pub name: String,
    /// The type, as in `A` or `TYPE65280`.
    #[serde(rename = "type")]
    #[schemars(with = "RecordType")]
    pub record_type: String,
    /// Time to live in seconds. Default: 300; an alias has the TTL of its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2147483647))]
    pub ttl: Option<u32>,
    /// The values, each in the format of a master file, with absolute names (the last dot is
    /// optional).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
    /// The target whose records of this type are answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// The identifier that tells the record set from the others with its name and type. Record sets with an identifier have a
    /// routing policy, the same for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_identifier: Option<String>,
    /// Weighted routing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighted_routing_policy: Option<WeightedRoutingPolicy>,
    /// Failover routing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover_routing_policy: Option<FailoverRoutingPolicy>,
    /// Multivalue answer routing: up to 8 healthy record sets answer together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multivalue_answer_routing_policy: bool,
    /// Latency routing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_routing_policy: Option<LatencyRoutingPolicy>,
    /// Geolocation routing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geolocation_routing_policy: Option<GeolocationRoutingPolicy>,
    /// Geoproximity routing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geoproximity_routing_policy: Option<GeoproximityRoutingPolicy>,
    /// Affinity to the client's Availability Zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub az_affinity_routing_policy: Option<AzAffinityRoutingPolicy>,
    /// Routing by the client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_routing_policy: Option<CidrRoutingPolicy>,
    /// The health check of the record set. Without one, the record set is healthy. If a record set has no routing
    /// policy, its health does not change the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_id: Option<Id>,
    /// Whether record sets with this name and type are protected: zonal refuses dynamic updates, pushed changes and
    /// `zonal apply` that would change them, until a change of its own removes the protection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    /// The reason for the protection. zonal gives it with each refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection_comment: Option<String>,
}

/// The target of an alias: a name of an endpoint, or a name of the same zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// An absolute name; the last dot is optional.
    #[schemars(with = "DomainName")]
    pub name: Name,
    /// Whether the alias is healthy only while at least one record set or network interface that it leads to is healthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evaluate_target_health: bool,
}

fn at() -> String {
    "@".into()
}
