//! EC2: what zonal derives from networks for clients that look for it: the network interfaces of endpoints, the main route
//! table and the network ACL of a VPC, prefix lists of Gateway endpoints, and attributes of the account.

use super::{
    endpoints::{group_ids, interface_id, subnet_of},
    list,
    security_groups::group_name,
    vpcs::{has_vpc, vpc},
    wanted,
    zones::az_name,
};
use crate::{
    aws::{
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, filters::Known, identifiers::derived, object, table::read,
        },
    },
    manifest::{Id, Vpc, presets},
};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::IpAddr};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(
        Ec2,
        "DescribeNetworkInterfaces",
        describe_network_interfaces,
        "NetworkInterfaceIds IncludeManagedResources Filters MaxResults NextToken DryRun",
    ),
    read(Ec2, "DescribeRouteTables", describe_route_tables, "RouteTableIds Filters MaxResults NextToken DryRun"),
    read(Ec2, "DescribeNetworkAcls", describe_network_acls, "NetworkAclIds Filters MaxResults NextToken DryRun"),
    read(Ec2, "DescribePrefixLists", describe_prefix_lists, "PrefixListIds Filters MaxResults NextToken DryRun"),
    read(Ec2, "DescribeAccountAttributes", describe_account_attributes, "AttributeNames DryRun"),
];

/// The page of a list that is made as a whole.
fn page(
    parameters: Parameters,
    (member, filters): (&str, Known),
    (ids, code, what): (&str, &str, &str),
    all: BTreeMap<Id, Value>,
) -> ReadResult {
    let ids = wanted(parameters, ids, code, what, |id| all.contains_key(id))?;
    list(parameters, member, filters, |after| {
        let rest = all.iter().filter(|(id, _)| after.is_none_or(|after| id.as_str() > after));
        let rest = rest.filter(|(id, _)| ids.has(id));
        rest.map(|(id, value)| (id.clone(), value.clone())).collect::<Vec<_>>().into_iter()
    })
}

// Network interfaces.

const INTERFACE_FILTERS: Known = &[
    ("addresses.private-ip-address", "PrivateIpAddresses.PrivateIpAddress"),
    ("availability-zone", "AvailabilityZone"),
    ("attachment.instance-id", "Attachment.InstanceId"),
    ("attachment.instance-owner-id", "Attachment.InstanceOwnerId"),
    ("description", "Description"),
    ("group-id", "Groups.GroupId"),
    ("group-name", "Groups.GroupName"),
    ("interface-type", "InterfaceType"),
    ("network-interface-id", "NetworkInterfaceId"),
    ("owner-id", "OwnerId"),
    ("private-ip-address", "PrivateIpAddress"),
    ("requester-managed", "RequesterManaged"),
    ("status", "Status"),
    ("subnet-id", "SubnetId"),
    ("vpc-id", "VpcId"),
];

/// The identifier of a network interface with an address of a Resolver endpoint.
fn resolver_interface_id(endpoint: &str, address: &IpAddr) -> Id {
    derived("eni", &[endpoint, &address.to_string()])
}

fn interface_value(
    context: &Context,
    (vpc_id, vpc): (&str, &Vpc),
    (id, kind, description): (&str, &str, String),
    (subnet, az): (Option<&str>, &str),
    (addresses, groups): (Vec<IpAddr>, Vec<String>),
) -> Value {
    let ipv4: Vec<String> = addresses.iter().filter(|ip| ip.is_ipv4()).map(ToString::to_string).collect();
    let ipv6: Vec<Value> =
        addresses.iter().filter(|ip| ip.is_ipv6()).map(|ip| json!({"Ipv6Address": ip.to_string()})).collect();
    let private: Vec<Value> = ipv4.iter().map(|ip| json!({"Primary": true, "PrivateIpAddress": ip})).collect();
    let groups: Vec<Value> =
        groups.iter().map(|id| json!({"GroupId": id, "GroupName": group_name(context, id)})).collect();
    object(json!({
        "NetworkInterfaceId": id,
        "VpcId": vpc_id,
        "SubnetId": subnet,
        "AvailabilityZone": az_name(context, vpc, az),
        "AvailabilityZoneId": az,
        "Description": description,
        "InterfaceType": kind,
        "OwnerId": context.owner(&vpc.owner_id),
        "PrivateIpAddress": ipv4.first(),
        "PrivateIpAddresses": private,
        "Ipv6Addresses": ipv6,
        "Groups": groups,
        "RequesterManaged": true,
        "SourceDestCheck": true,
        "Status": "in-use",
        "TagSet": [],
    }))
}

fn describe_network_interfaces(context: &Context, parameters: Parameters) -> ReadResult {
    let manifest = context.manifest();
    let mut all: BTreeMap<Id, Value> = BTreeMap::new();
    for (endpoint_id, endpoint) in &manifest.vpc_endpoints {
        let Some(vpc) = vpc(context, &endpoint.vpc_id) else { continue };
        for interface in &endpoint.network_interfaces {
            let id = interface_id(endpoint_id, interface);
            let addresses = interface.ipv4.map(IpAddr::V4).into_iter().chain(interface.ipv6.map(IpAddr::V6)).collect();
            let value = interface_value(
                context,
                (&endpoint.vpc_id, vpc),
                (&id, "vpc_endpoint", format!("VPC Endpoint Interface {endpoint_id}")),
                (subnet_of(interface, vpc), &interface.availability_zone_id),
                (addresses, group_ids(endpoint)),
            );
            all.insert(id, value);
        }
    }
    for (endpoint_id, endpoint) in &manifest.resolver_endpoints {
        let Some(vpc) = vpc(context, &endpoint.vpc_id) else { continue };
        for address in &endpoint.ip_addresses {
            let subnet = vpc.subnets.iter().find(|(id, subnet)| match &address.subnet_id {
                Some(given) => given == *id,
                None => subnet.cidr_blocks.iter().any(|block| block.contains(&address.ip)),
            });
            let az = subnet.map_or("", |(_, subnet)| subnet.availability_zone_id.as_str());
            let id = resolver_interface_id(endpoint_id, &address.ip);
            let groups = endpoint.aws.get("SecurityGroupIds").and_then(Value::as_array).into_iter().flatten();
            let groups = groups.filter_map(|group| group.as_str().map(str::to_string)).collect();
            let name = address.ip_id.as_deref().unwrap_or_default();
            let value = interface_value(
                context,
                (&endpoint.vpc_id, vpc),
                (&id, "interface", format!("Route 53 Resolver: {endpoint_id}:{name}")),
                (subnet.map(|(id, _)| id.as_str()), az),
                (vec![address.ip], groups),
            );
            all.insert(id, value);
        }
    }
    let ids = ("NetworkInterfaceIds", "InvalidNetworkInterfaceID.NotFound", "network interface");
    page(parameters, ("NetworkInterfaces", INTERFACE_FILTERS), ids, all)
}

// Route tables and network ACLs.

const ROUTE_TABLE_FILTERS: Known = &[
    ("association.main", "Associations.Main"),
    ("association.route-table-id", "Associations.RouteTableId"),
    ("association.subnet-id", "Associations.SubnetId"),
    ("owner-id", "OwnerId"),
    ("route-table-id", "RouteTableId"),
    ("vpc-id", "VpcId"),
];

/// The VPCs in the caller's account and Region.
fn vpcs<'a>(context: &Context<'a>) -> impl Iterator<Item = (&'a Id, &'a Vpc)> {
    let vpcs = context.manifest().vpcs.iter().filter(|(_, vpc)| has_vpc(context, vpc));
    vpcs.map(|(id, vpc)| (id, &**vpc))
}

/// The main route table of each VPC, with its local routes. zonal has no others.
fn describe_route_tables(context: &Context, parameters: Parameters) -> ReadResult {
    let table = |(vpc_id, vpc): (&Id, &Vpc)| {
        let id = derived("rtb", &[vpc_id]);
        let routes = vpc.cidr_blocks.iter().map(|block| {
            let member = match block {
                IpNet::V4(_) => "DestinationCidrBlock",
                IpNet::V6(_) => "DestinationIpv6CidrBlock",
            };
            let mut route = json!({"GatewayId": "local", "Origin": "CreateRouteTable", "State": "active"});
            route[member] = block.to_string().into();
            route
        });
        let value = json!({
            "RouteTableId": id,
            "VpcId": vpc_id,
            "OwnerId": context.owner(&vpc.owner_id),
            "Associations": [{
                "Main": true, "RouteTableAssociationId": derived("rtbassoc", &[vpc_id]), "RouteTableId": id,
                "AssociationState": {"State": "associated"},
            }],
            "Routes": routes.collect::<Vec<_>>(),
            "PropagatingVgws": [],
            "Tags": [],
        });
        (id, value)
    };
    let ids = ("RouteTableIds", "InvalidRouteTableID.NotFound", "routeTable");
    page(parameters, ("RouteTables", ROUTE_TABLE_FILTERS), ids, vpcs(context).map(table).collect())
}

const ACL_FILTERS: Known = &[
    ("association.subnet-id", "Associations.SubnetId"),
    ("default", "IsDefault"),
    ("network-acl-id", "NetworkAclId"),
    ("owner-id", "OwnerId"),
    ("vpc-id", "VpcId"),
];

/// The default network ACL of each VPC, which allows everything. zonal has no others.
fn describe_network_acls(context: &Context, parameters: Parameters) -> ReadResult {
    let acl = |(vpc_id, vpc): (&Id, &Vpc)| {
        let id = derived("acl", &[vpc_id]);
        let entry = |number: u16, action: &str, is_egress: bool| {
            json!({
                "CidrBlock": "0.0.0.0/0", "Egress": is_egress, "Protocol": "-1", "RuleAction": action, "RuleNumber": number,
            })
        };
        let associations = vpc.subnets.keys().map(|subnet| {
            json!({
                "NetworkAclAssociationId": derived("aclassoc", &[subnet]), "NetworkAclId": id, "SubnetId": subnet,
            })
        });
        let value = json!({
            "NetworkAclId": id,
            "VpcId": vpc_id,
            "OwnerId": context.owner(&vpc.owner_id),
            "IsDefault": true,
            "Associations": associations.collect::<Vec<_>>(),
            "Entries": [
                entry(100, "allow", true), entry(32767, "deny", true), entry(100, "allow", false),
                entry(32767, "deny", false),
            ],
            "Tags": [],
        });
        (id, value)
    };
    let ids = ("NetworkAclIds", "InvalidNetworkAclID.NotFound", "networkAcl");
    page(parameters, ("NetworkAcls", ACL_FILTERS), ids, vpcs(context).map(acl).collect())
}

// Prefix lists and attributes of the account.

const PREFIX_LIST_FILTERS: Known = &[("prefix-list-id", "PrefixListId"), ("prefix-list-name", "PrefixListName")];

/// The prefix lists of AWS's services with Gateway endpoints, without their addresses.
fn describe_prefix_lists(context: &Context, parameters: Parameters) -> ReadResult {
    let region = &context.caller.region;
    let services = super::services::GATEWAYS.iter();
    let names = services.filter_map(|preset| {
        presets::service(preset, region, crate::manifest::VpcEndpointType::Gateway).map(|(name, _)| name)
    });
    let all = names.map(|name| {
        let id = derived("pl", &[&name])[..11].to_string();
        (id.clone(), json!({"PrefixListId": id, "PrefixListName": name, "Cidrs": []}))
    });
    let ids = ("PrefixListIds", "InvalidPrefixListId.NotFound", "prefix list");
    page(parameters, ("PrefixLists", PREFIX_LIST_FILTERS), ids, all.collect())
}

fn describe_account_attributes(_: &Context, parameters: Parameters) -> ReadResult {
    let names = parameters.texts("AttributeNames");
    let attributes = [
        ("default-vpc", "none"),
        ("max-elastic-ips", "5"),
        ("max-instances", "20"),
        ("supported-platforms", "VPC"),
        ("vpc-max-elastic-ips", "5"),
        ("vpc-max-security-groups-per-interface", "5"),
    ];
    let attributes = attributes.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
    let shown: Vec<Value> = attributes
        .map(|(name, value)| json!({"AttributeName": name, "AttributeValues": [{"AttributeValue": value}]}))
        .collect();
    Ok(json!({"AccountAttributes": shown}))
}
