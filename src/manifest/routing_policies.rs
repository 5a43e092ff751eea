//! Routing policies: they choose among the record sets with one name and type.

use super::{types::Id, words::words};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Weighted routing: the share of a record set is its weight in the sum of all weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedRoutingPolicy {
    /// The weight. A record set of weight 0 answers only if all others are unhealthy.
    pub weight: u8,
}

/// Failover routing: the primary record set answers while it is healthy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailoverRoutingPolicy {
    /// Whether this is the primary or the secondary record set.
    #[serde(rename = "type")]
    pub failover_type: FailoverType,
}

words! {
    /// The two record sets of failover routing.
    pub enum FailoverType {
        Primary = "PRIMARY",
        Secondary = "SECONDARY",
    }
}

/// Latency routing: the record set in the client's Region answers, otherwise that in the nearest Region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyRoutingPolicy {
    /// The Region, as in `us-east-1`.
    pub region: String,
}

/// Geolocation routing: the record set for the smallest place that contains the client's Region answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GeolocationRoutingPolicy {
    /// The continent: `AF`, `AN`, `AS`, `EU`, `NA`, `OC` or `SA`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continent: Option<String>,
    /// The country, as in `US` (ISO 3166-1 alpha-2); `*` for all places without another record set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The state of the country, as in `VA` (ISO 3166-2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subdivision: Option<String>,
}

/// Geoproximity routing: the record set with the smallest distance answers; the bias makes distances smaller or larger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GeoproximityRoutingPolicy {
    /// The Region of the record set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_region: Option<String>,
    /// The place of the record set, instead of a Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<Coordinates>,
    /// From -99 to 99. The distance is multiplied by 1 - bias / 100.
    pub bias: i8,
}

/// A place on Earth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Coordinates {
    /// Degrees north of the equator: -90 to 90.
    #[schemars(range(min = -90, max = 90))]
    pub latitude: f32,
    /// Degrees east of Greenwich: -180 to 180.
    #[schemars(range(min = -180, max = 180))]
    pub longitude: f32,
}

/// Affinity to an Availability Zone: the record set for the smallest location that contains the client answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AzAffinityRoutingPolicy {
    /// The kind of location.
    pub location_type: LocationType,
    /// The location: an AZ ID (`use1-az1`), an AZ group (`us-east-1-zg-1`), a Region, a partition (`aws`) or `global`.
    pub location_id: String,
}

words! {
    /// The kinds of locations, from the smallest to the largest.
    pub enum LocationType {
        AvailabilityZone = "AvailabilityZone",
        AvailabilityZoneGroup = "AvailabilityZoneGroup",
        Region = "Region",
        Partition = "Partition",
        Global = "Global",
    }
}

/// Routing by the client's address: the record set of the location with the longest prefix around the client answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CidrRoutingPolicy {
    /// The CIDR collection, the same for all record sets with one name and type.
    pub collection_id: Id,
    /// The location in the collection; `*` for all addresses without another record set.
    pub location_name: String,
}

/// The location of all addresses without another record set.
pub const DEFAULT_LOCATION: &str = "*";

words! {
    /// The records of a routing policy that zone transfers carry.
    pub enum TransferPolicyRecords {
        First = "first",
    }
}
