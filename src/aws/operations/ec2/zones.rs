//! EC2: Availability Zones and Regions.

use super::{error, list, vpcs::has_vpc};
use crate::{
    aws::{
        model::Service::Ec2,
        operations::{Context, Entry, Parameters, ReadResult, filters::Known, table::read},
    },
    manifest::{Id, Vpc},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(
        Ec2,
        "DescribeAvailabilityZones",
        describe_availability_zones,
        "ZoneNames ZoneIds AllAvailabilityZones Filters DryRun",
    ),
    read(Ec2, "DescribeRegions", describe_regions, "RegionNames AllRegions Filters DryRun"),
];

/// The name of an AZ in a VPC: that of the VPC, that of another VPC of the Region, or the usual one.
pub(super) fn az_name(context: &Context, vpc: &Vpc, id: &str) -> String {
    let name_in =
        |vpc: &Vpc| vpc.availability_zones.iter().find(|(_, other)| *other == id).map(|(name, _)| name.clone());
    let of_region = || context.manifest().vpcs.values().filter(|other| other.region == vpc.region);
    let known = name_in(vpc).or_else(|| of_region().find_map(|vpc| name_in(vpc)));
    known.unwrap_or_else(|| usual_az_name(&vpc.region, id))
}

/// The name that an AZ has in most accounts: `us-east-1a` for `use1-az1`.
fn usual_az_name(region: &str, id: &str) -> String {
    let number = id.rsplit_once("-az").and_then(|(_, number)| number.parse::<u8>().ok());
    match number {
        Some(number @ 1..=26) => format!("{region}{}", char::from(b'a' + number - 1)),
        _ => format!("{region}-{id}"),
    }
}

/// The number of AZs that an account usually has in a Region.
fn usual_az_count(region: &str) -> u8 {
    match region {
        "us-east-1" => 6,
        "us-west-2" => 4,
        _ => 3,
    }
}

/// The ID of the AZ with a number: `use1-az1` for `us-east-1`.
fn usual_az_id(region: &str, number: u8) -> String {
    let short = |part: &str| match part {
        "northeast" => "ne".to_string(),
        "southeast" => "se".into(),
        "northwest" => "nw".into(),
        "southwest" => "sw".into(),
        part => part.chars().take(1).collect(),
    };
    let (area, rest) = region.split_once('-').unwrap_or((region, ""));
    let rest: String = rest.split('-').map(short).collect();
    format!("{area}{rest}-az{number}")
}

/// The AZs of the caller's Region, by name: those in the manifest, and the usual ones.
pub(super) fn azs(context: &Context) -> BTreeMap<String, Id> {
    let mut azs = BTreeMap::new();
    for vpc in context.manifest().vpcs.values().filter(|vpc| has_vpc(context, vpc)) {
        azs.extend(vpc.availability_zones.iter().map(|(name, id)| (name.clone(), id.clone())));
        let ids = vpc.subnets.values().map(|subnet| &subnet.availability_zone_id);
        azs.extend(ids.map(|id| (az_name(context, vpc, id), id.clone())));
    }
    let region = &context.caller.region;
    for id in (1..=usual_az_count(region)).map(|number| usual_az_id(region, number)) {
        let name = usual_az_name(region, &id);
        if !azs.values().any(|known| *known == id) {
            azs.entry(name).or_insert(id);
        }
    }
    azs
}

const AZ_FILTERS: Known = &[
    ("group-name", "GroupName"),
    ("opt-in-status", "OptInStatus"),
    ("region-name", "RegionName"),
    ("state", "State"),
    ("zone-id", "ZoneId"),
    ("zone-name", "ZoneName"),
    ("zone-type", "ZoneType"),
];

fn describe_availability_zones(context: &Context, parameters: Parameters) -> ReadResult {
    let (names, ids) = (parameters.texts("ZoneNames"), parameters.texts("ZoneIds"));
    let azs = azs(context);
    let unknown = names.iter().find(|name| !azs.contains_key(**name));
    let unknown = unknown.or_else(|| ids.iter().find(|id| !azs.values().any(|known| known == **id)));
    if let Some(unknown) = unknown {
        return Err(error("InvalidParameterValue", format!("Invalid availability zone: [{unknown}]")));
    }
    let region = &context.caller.region;
    let is_wanted =
        |name: &str, id: &str| (names.is_empty() || names.contains(&name)) && (ids.is_empty() || ids.contains(&id));
    let all: Vec<(String, Value)> = azs
        .iter()
        .filter(|(name, id)| is_wanted(name, id))
        .map(|(name, id)| {
            let value = json!({
                "OptInStatus": "opt-in-not-required", "Messages": [], "RegionName": region, "ZoneName": name, "ZoneId": id,
                "GroupName": format!("{region}-zg-1"), "NetworkBorderGroup": region, "ZoneType": "availability-zone",
                "State": "available",
            });
            (name.clone(), value)
        })
        .collect();
    list(parameters, "AvailabilityZones", AZ_FILTERS, |_| all.into_iter())
}

const REGION_FILTERS: Known =
    &[("endpoint", "Endpoint"), ("opt-in-status", "OptInStatus"), ("region-name", "RegionName")];

fn describe_regions(context: &Context, parameters: Parameters) -> ReadResult {
    let manifest = context.manifest();
    let mut regions: BTreeMap<&str, ()> = manifest.vpcs.values().map(|vpc| (&*vpc.region, ())).collect();
    regions.insert(&context.caller.region, ());
    let names = parameters.texts("RegionNames");
    if let Some(unknown) = names.iter().find(|name| !regions.contains_key(**name)) {
        return Err(error("InvalidParameterValue", format!("Invalid region provided: {unknown}")));
    }
    let all: Vec<(String, Value)> = regions
        .keys()
        .filter(|region| names.is_empty() || names.contains(region))
        .map(|region| {
            let endpoint = format!("ec2.{region}.amazonaws.com");
            let value = json!({"OptInStatus": "opt-in-not-required", "RegionName": region, "Endpoint": endpoint});
            (region.to_string(), value)
        })
        .collect();
    list(parameters, "Regions", REGION_FILTERS, |_| all.into_iter())
}
