//! EC2: VPCs, subnets, Availability Zones, DHCP option sets, security groups and peering connections. Reads.

mod endpoints;

use super::{
    Context, Entry, Parameters, ReadResult,
    filters::Known,
    identifiers::{arn, derived},
    object, start,
    table::read,
    tag_list,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::{self, Ec2},
    },
    manifest::{DhcpOptions, Id, SecurityGroup, Subnet, Vpc, VpcPeeringConnection},
};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// The operations of EC2 that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(Ec2, "DescribeVpcs", describe_vpcs, "VpcIds Filters MaxResults NextToken DryRun"),
    read(Ec2, "DescribeVpcAttribute", describe_vpc_attribute, "VpcId Attribute DryRun"),
    read(Ec2, "DescribeSubnets", describe_subnets, "SubnetIds Filters MaxResults NextToken DryRun"),
    read(
        Ec2,
        "DescribeAvailabilityZones",
        describe_availability_zones,
        "ZoneNames ZoneIds AllAvailabilityZones Filters DryRun",
    ),
    read(Ec2, "DescribeRegions", describe_regions, "RegionNames AllRegions Filters DryRun"),
    read(Ec2, "DescribeDhcpOptions", describe_dhcp_options, "DhcpOptionsIds Filters MaxResults NextToken DryRun"),
    read(
        Ec2,
        "DescribeSecurityGroups",
        describe_security_groups,
        "GroupIds GroupNames Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeVpcPeeringConnections",
        describe_vpc_peering_connections,
        "VpcPeeringConnectionIds Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeVpcEndpoints",
        endpoints::describe_vpc_endpoints,
        "VpcEndpointIds Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeVpcEndpointServices",
        endpoints::describe_vpc_endpoint_services,
        "ServiceNames ServiceRegions Filters MaxResults NextToken DryRun",
    ),
];

/// The number of items on a page: by default, and at most.
const MAX_RESULTS: usize = 1000;
/// The addresses of a subnet that AWS keeps for itself.
const RESERVED_ADDRESSES: u64 = 5;

pub(super) fn error(code: &str, message: impl Into<String>) -> ServiceError {
    ServiceError::new(Service::Ec2, code, message)
}

/// The list of an operation: the items that match the filters, page by page.
pub(super) fn list<I: Iterator<Item = (String, Value)>>(
    parameters: Parameters,
    member: &str,
    known: Known,
    all: impl FnOnce(Option<&str>) -> I,
) -> ReadResult {
    super::list((Service::Ec2, "InvalidNextToken", MAX_RESULTS), parameters, member, known, all)
}

/// The identifiers that a request asks for; none, if it asks for all.
///
/// # Errors
///
/// There is no such resource.
pub(super) fn wanted<'a>(
    parameters: Parameters<'a>,
    member: &str,
    code: &str,
    what: &str,
    exists: impl Fn(&str) -> bool,
) -> Result<Vec<&'a str>, ServiceError> {
    let ids = parameters.texts(member);
    match ids.iter().find(|id| !exists(id)) {
        Some(id) => Err(error(code, format!("The {what} ID '{id}' does not exist"))),
        None => Ok(ids),
    }
}

// VPCs.

const VPC_FILTERS: Known = &[
    ("vpc-id", "VpcId"),
    ("cidr", "CidrBlock"),
    ("cidr-block", "CidrBlock"),
    ("cidrBlock", "CidrBlock"),
    ("cidr-block-association.association-id", "CidrBlockAssociationSet.AssociationId"),
    ("cidr-block-association.cidr-block", "CidrBlockAssociationSet.CidrBlock"),
    ("cidr-block-association.state", "CidrBlockAssociationSet.CidrBlockState.State"),
    ("ipv6-cidr-block-association.association-id", "Ipv6CidrBlockAssociationSet.AssociationId"),
    ("ipv6-cidr-block-association.ipv6-cidr-block", "Ipv6CidrBlockAssociationSet.Ipv6CidrBlock"),
    ("ipv6-cidr-block-association.state", "Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State"),
    ("dhcp-options-id", "DhcpOptionsId"),
    ("is-default", "IsDefault"),
    ("isDefault", "IsDefault"),
    ("owner-id", "OwnerId"),
    ("state", "State"),
];

/// Whether a VPC is in the caller's account and Region.
pub(super) fn has_vpc(context: &Context, vpc: &Vpc) -> bool {
    context.sees(&vpc.owner_id) && context.is_in(&vpc.region)
}

/// The VPC with this identifier, if it is in the caller's account and Region.
pub(super) fn vpc<'a>(context: &Context<'a>, id: &str) -> Option<&'a Arc<Vpc>> {
    context.manifest().vpcs.get(id).filter(|vpc| has_vpc(context, vpc))
}

fn first_ipv4(blocks: &[IpNet]) -> Option<String> {
    blocks.iter().find(|block| matches!(block, IpNet::V4(_))).map(IpNet::to_string)
}

/// The associations of IPv4 or IPv6 blocks.
fn associations(prefix: &str, id: &str, blocks: &[IpNet], is_ipv6: bool) -> Vec<Value> {
    let blocks = blocks.iter().filter(|block| matches!(block, IpNet::V6(_)) == is_ipv6);
    let association = |block: &IpNet| {
        let block = block.to_string();
        let association_id = derived(prefix, &[id, &block]);
        let state = json!({"State": "associated"});
        match is_ipv6 {
            true => json!({"AssociationId": association_id, "Ipv6CidrBlock": block, "Ipv6CidrBlockState": state}),
            false => json!({"AssociationId": association_id, "CidrBlock": block, "CidrBlockState": state}),
        }
    };
    blocks.map(association).collect()
}

fn vpc_value(context: &Context, id: &str, vpc: &Vpc) -> Value {
    object(json!({
        "VpcId": id,
        "State": "available",
        "CidrBlock": first_ipv4(&vpc.cidr_blocks),
        "DhcpOptionsId": vpc.dhcp_options_id.as_deref().unwrap_or("default"),
        "InstanceTenancy": vpc.aws.text("instance_tenancy").unwrap_or("default"),
        "IsDefault": false,
        "OwnerId": context.owner(&vpc.owner_id),
        "CidrBlockAssociationSet": associations("vpc-cidr-assoc", id, &vpc.cidr_blocks, false),
        "Ipv6CidrBlockAssociationSet": associations("vpc-cidr-assoc", id, &vpc.cidr_blocks, true),
        "Tags": tag_list(&vpc.tags, vpc.name.as_deref()),
    }))
}

pub(super) fn describe_vpcs(context: &Context, parameters: Parameters) -> ReadResult {
    let exists = |id: &str| vpc(context, id).is_some();
    let ids = wanted(parameters, "VpcIds", "InvalidVpcID.NotFound", "vpc", exists)?;
    list(parameters, "Vpcs", VPC_FILTERS, |after| {
        let all = context.manifest().vpcs.range_from(start(after)).filter(|(_, vpc)| has_vpc(context, vpc));
        let all = all.filter(|(id, _)| ids.is_empty() || ids.contains(&id.as_str()));
        all.map(|(id, vpc)| (id.clone(), vpc_value(context, id, vpc)))
    })
}

pub(super) fn describe_vpc_attribute(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("VpcId");
    let missing = || error("InvalidVpcID.NotFound", format!("The vpc ID '{id}' does not exist"));
    let vpc = vpc(context, id).ok_or_else(missing)?;
    let (member, value) = match parameters.text("Attribute") {
        "enableDnsSupport" => ("EnableDnsSupport", vpc.enable_dns_support),
        "enableDnsHostnames" => ("EnableDnsHostnames", vpc.enable_dns_hostnames),
        _ => ("EnableNetworkAddressUsageMetrics", false),
    };
    let mut result = json!({"VpcId": id});
    result[member] = json!({"Value": value});
    Ok(result)
}

// Subnets.

const SUBNET_FILTERS: Known = &[
    ("subnet-id", "SubnetId"),
    ("vpc-id", "VpcId"),
    ("availability-zone", "AvailabilityZone"),
    ("availabilityZone", "AvailabilityZone"),
    ("availability-zone-id", "AvailabilityZoneId"),
    ("cidr", "CidrBlock"),
    ("cidr-block", "CidrBlock"),
    ("cidrBlock", "CidrBlock"),
    ("default-for-az", "DefaultForAz"),
    ("defaultForAz", "DefaultForAz"),
    ("enable-dns64", "EnableDns64"),
    ("ipv6-cidr-block-association.ipv6-cidr-block", "Ipv6CidrBlockAssociationSet.Ipv6CidrBlock"),
    ("ipv6-native", "Ipv6Native"),
    ("map-public-ip-on-launch", "MapPublicIpOnLaunch"),
    ("owner-id", "OwnerId"),
    ("state", "State"),
    ("subnet-arn", "SubnetArn"),
];

/// The number of addresses of a block that clients can have.
fn available(block: &IpNet) -> u64 {
    let bits = u32::from(block.max_prefix_len() - block.prefix_len()).min(31);
    (1u64 << bits).saturating_sub(RESERVED_ADDRESSES)
}

fn subnet_value(context: &Context, vpc_id: &str, vpc: &Vpc, id: &str, subnet: &Subnet) -> Value {
    let owner = context.owner(&vpc.owner_id);
    let ipv4 = subnet.cidr_blocks.iter().find(|block| matches!(block, IpNet::V4(_)));
    object(json!({
        "SubnetId": id,
        "VpcId": vpc_id,
        "State": "available",
        "CidrBlock": ipv4.map(IpNet::to_string),
        "AvailableIpAddressCount": ipv4.map_or(0, available),
        "AvailabilityZone": az_name(context, vpc, &subnet.availability_zone_id),
        "AvailabilityZoneId": subnet.availability_zone_id,
        "DefaultForAz": false,
        "MapPublicIpOnLaunch": false,
        "MapCustomerOwnedIpOnLaunch": false,
        "AssignIpv6AddressOnCreation": false,
        "OwnerId": owner,
        "Ipv6CidrBlockAssociationSet": associations("subnet-cidr-assoc", id, &subnet.cidr_blocks, true),
        "Tags": tag_list(&subnet.tags, subnet.name.as_deref()),
        "SubnetArn": arn("ec2", &vpc.region, owner, &format!("subnet/{id}")),
        "EnableDns64": subnet.enable_dns64,
        "Ipv6Native": ipv4.is_none(),
        "PrivateDnsNameOptionsOnLaunch": {
            "HostnameType": "ip-name", "EnableResourceNameDnsARecord": false, "EnableResourceNameDnsAAAARecord": false,
        },
    }))
}

pub(super) fn describe_subnets(context: &Context, parameters: Parameters) -> ReadResult {
    let vpcs = || context.manifest().vpcs.values().filter(|vpc| has_vpc(context, vpc));
    let exists = |id: &str| vpcs().any(|vpc| vpc.subnets.contains_key(id));
    let ids = wanted(parameters, "SubnetIds", "InvalidSubnetID.NotFound", "subnet", exists)?;
    list(parameters, "Subnets", SUBNET_FILTERS, |after| {
        // The key of a subnet begins with its VPC.
        let after = after.and_then(|after| after.split_once('\t'));
        let (first, last) = after.map_or((String::new(), None), |(vpc, id)| (vpc.into(), Some(id.to_string())));
        let vpcs = context.manifest().vpcs.range_from(Bound::Included(first.as_str()));
        let vpcs = vpcs.filter(|(_, vpc)| has_vpc(context, vpc));
        let all = vpcs.flat_map(|(vpc_id, vpc)| vpc.subnets.iter().map(move |(id, subnet)| (vpc_id, vpc, id, subnet)));
        let all = all.filter(move |(vpc_id, _, id, _)| match &last {
            Some(last) if **vpc_id == first => *id > last,
            _ => true,
        });
        let all = all.filter(|(_, _, id, _)| ids.is_empty() || ids.contains(&id.as_str()));
        all.map(|(vpc_id, vpc, id, subnet)| (format!("{vpc_id}\t{id}"), subnet_value(context, vpc_id, vpc, id, subnet)))
    })
}

// Availability Zones and Regions.

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

/// The AZs of the caller's Region, by name. Without any in the manifest, three with their usual names.
fn azs(context: &Context) -> BTreeMap<String, Id> {
    let mut azs = BTreeMap::new();
    for vpc in context.manifest().vpcs.values().filter(|vpc| has_vpc(context, vpc)) {
        azs.extend(vpc.availability_zones.iter().map(|(name, id)| (name.clone(), id.clone())));
        let ids = vpc.subnets.values().map(|subnet| &subnet.availability_zone_id);
        azs.extend(ids.map(|id| (az_name(context, vpc, id), id.clone())));
    }
    if azs.is_empty() {
        let region = &context.caller.region;
        let ids = (1..=3).map(|number| usual_az_id(region, number));
        azs.extend(ids.map(|id| (usual_az_name(region, &id), id)));
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

pub(super) fn describe_availability_zones(context: &Context, parameters: Parameters) -> ReadResult {
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

pub(super) fn describe_regions(context: &Context, parameters: Parameters) -> ReadResult {
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

// DHCP option sets.

const DHCP_FILTERS: Known = &[
    ("dhcp-options-id", "DhcpOptionsId"),
    ("key", "DhcpConfigurations.Key"),
    ("owner-id", "OwnerId"),
    ("value", "DhcpConfigurations.Values.Value"),
];

fn dhcp_value(context: &Context, id: &str, options: &DhcpOptions) -> Value {
    let mut configurations = Vec::new();
    let mut add = |key: &str, values: Vec<String>| {
        if !values.is_empty() {
            let values: Vec<Value> = values.into_iter().map(|value| json!({"Value": value})).collect();
            configurations.push(json!({"Key": key, "Values": values}));
        }
    };
    let texts = |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect();
    add("domain-name", options.domain_name.iter().cloned().collect());
    add("domain-name-servers", options.domain_name_servers.clone());
    add("ntp-servers", texts(&options.ntp_servers));
    add("netbios-name-servers", texts(&options.netbios_name_servers));
    add("netbios-node-type", options.netbios_node_type.iter().map(ToString::to_string).collect());
    let lease_time = options.ipv6_address_preferred_lease_time;
    add("ipv6-address-preferred-lease-time", lease_time.iter().map(ToString::to_string).collect());
    json!({
        "DhcpOptionsId": id, "OwnerId": context.owner(&options.owner_id), "DhcpConfigurations": configurations,
        "Tags": tag_list(&options.tags, options.name.as_deref()),
    })
}

pub(super) fn describe_dhcp_options(context: &Context, parameters: Parameters) -> ReadResult {
    let all = &context.manifest().dhcp_options;
    let exists = |id: &str| all.get(id).is_some_and(|options| context.sees(&options.owner_id));
    let ids = wanted(parameters, "DhcpOptionsIds", "InvalidDhcpOptionID.NotFound", "dhcpOption", exists)?;
    list(parameters, "DhcpOptions", DHCP_FILTERS, |after| {
        let visible = all.range_from(start(after)).filter(|(_, options)| context.sees(&options.owner_id));
        let visible = visible.filter(|(id, _)| ids.is_empty() || ids.contains(&id.as_str()));
        visible.map(|(id, options)| (id.clone(), dhcp_value(context, id, options)))
    })
}

// Security groups.

const GROUP_FILTERS: Known = &[
    ("description", "Description"),
    ("group-id", "GroupId"),
    ("group-name", "GroupName"),
    ("owner-id", "OwnerId"),
    ("vpc-id", "VpcId"),
];

fn group_value(context: &Context, id: &str, group: &SecurityGroup) -> Value {
    object(json!({
        "GroupId": id, "GroupName": group.name.as_deref().unwrap_or(id), "Description": group.description,
        "OwnerId": context.owner(&group.owner_id), "VpcId": group.vpc_id,
        "IpPermissions": group.ip_permissions, "IpPermissionsEgress": group.ip_permissions_egress,
        "Tags": tag_list(&group.tags, None),
    }))
}

pub(super) fn describe_security_groups(context: &Context, parameters: Parameters) -> ReadResult {
    let all = &context.manifest().security_groups;
    let is_here = |group: &SecurityGroup| {
        let vpc = group.vpc_id.as_deref().unwrap_or_default();
        context.sees(&group.owner_id) && context.is_in(context.vpc_region(vpc))
    };
    let exists = |id: &str| all.get(id).is_some_and(|group| is_here(group));
    let ids = wanted(parameters, "GroupIds", "InvalidGroup.NotFound", "security group", exists)?;
    let names = parameters.texts("GroupNames");
    list(parameters, "SecurityGroups", GROUP_FILTERS, |after| {
        let visible = all.range_from(start(after)).filter(|(_, group)| is_here(group));
        let visible = visible.filter(|(id, _)| ids.is_empty() || ids.contains(&id.as_str()));
        let values = visible.map(|(id, group)| (id.clone(), group_value(context, id, group)));
        values.filter(|(_, value)| names.is_empty() || names.contains(&Parameters(value).text("GroupName")))
    })
}

// Peering connections.

const PEERING_FILTERS: Known = &[
    ("accepter-vpc-info.cidr-block", "AccepterVpcInfo.CidrBlock"),
    ("accepter-vpc-info.owner-id", "AccepterVpcInfo.OwnerId"),
    ("accepter-vpc-info.vpc-id", "AccepterVpcInfo.VpcId"),
    ("requester-vpc-info.cidr-block", "RequesterVpcInfo.CidrBlock"),
    ("requester-vpc-info.owner-id", "RequesterVpcInfo.OwnerId"),
    ("requester-vpc-info.vpc-id", "RequesterVpcInfo.VpcId"),
    ("status-code", "Status.Code"),
    ("vpc-peering-connection-id", "VpcPeeringConnectionId"),
];

fn peer_value(context: &Context, id: &str, peering: &VpcPeeringConnection) -> Value {
    let vpc = context.manifest().vpcs.get(id);
    let blocks = vpc.map_or::<&[IpNet], _>(&[], |vpc| &vpc.cidr_blocks);
    let of_family = |is_ipv6: bool| blocks.iter().filter(move |block| matches!(block, IpNet::V6(_)) == is_ipv6);
    let ipv4: Vec<Value> = of_family(false).map(|block| json!({"CidrBlock": block.to_string()})).collect();
    let ipv6: Vec<Value> = of_family(true).map(|block| json!({"Ipv6CidrBlock": block.to_string()})).collect();
    object(json!({
        "VpcId": id, "OwnerId": context.owner(context.vpc_owner(id)), "Region": context.vpc_region(id),
        "CidrBlock": first_ipv4(blocks), "CidrBlockSet": ipv4, "Ipv6CidrBlockSet": ipv6,
        "PeeringOptions": {
            "AllowDnsResolutionFromRemoteVpc": peering.allow_remote_vpc_dns_resolution,
            "AllowEgressFromLocalClassicLinkToRemoteVpc": false,
            "AllowEgressFromLocalVpcToRemoteClassicLink": false,
        },
    }))
}

fn peering_value(context: &Context, id: &str, peering: &VpcPeeringConnection) -> Value {
    let side = |at: usize| peering.vpc_ids.get(at).map(|vpc| peer_value(context, vpc, peering));
    object(json!({
        "VpcPeeringConnectionId": id, "RequesterVpcInfo": side(0), "AccepterVpcInfo": side(1),
        "Status": {"Code": peering.status, "Message": peering.status},
        "Tags": tag_list(&peering.tags, peering.name.as_deref()),
    }))
}

pub(super) fn describe_vpc_peering_connections(context: &Context, parameters: Parameters) -> ReadResult {
    let all = &context.manifest().vpc_peering_connections;
    let is_here = |peering: &VpcPeeringConnection| peering.vpc_ids.iter().any(|id| vpc(context, id).is_some());
    let exists = |id: &str| all.get(id).is_some_and(|peering| is_here(peering));
    let code = "InvalidVpcPeeringConnectionID.NotFound";
    let ids = wanted(parameters, "VpcPeeringConnectionIds", code, "vpcPeeringConnection", exists)?;
    list(parameters, "VpcPeeringConnections", PEERING_FILTERS, |after| {
        let visible = all.range_from(start(after)).filter(|(_, peering)| is_here(peering));
        let visible = visible.filter(|(id, _)| ids.is_empty() || ids.contains(&id.as_str()));
        visible.map(|(id, peering)| (id.clone(), peering_value(context, id, peering)))
    })
}
