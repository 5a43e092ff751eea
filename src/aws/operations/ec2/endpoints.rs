//! EC2: VPC endpoints. Reads.

use super::{
    error, list,
    security_groups::group_name,
    services::{Found, find_service},
    vpcs::vpc as find_vpc,
    wanted,
    zones::az_name,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult,
            filters::Known,
            identifiers::{derived, endpoint_zone},
            object, start,
            table::read,
            tag_list,
        },
    },
    manifest::{NetworkInterface, Subnet, Vpc, VpcEndpoint, VpcEndpointType},
    snapshot::endpoints::has_names,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(Ec2, "DescribeVpcEndpoints", describe_vpc_endpoints, "VpcEndpointIds Filters MaxResults NextToken DryRun"),
    read(
        Ec2,
        "DescribeVpcEndpointAssociations",
        describe_vpc_endpoint_associations,
        "VpcEndpointIds Filters MaxResults NextToken DryRun",
    ),
];

const ENDPOINT_FILTERS: Known = &[
    ("ip-address-type", "IpAddressType"),
    ("service-name", "ServiceName"),
    ("service-region", "ServiceRegion"),
    ("vpc-endpoint-id", "VpcEndpointId"),
    ("vpc-endpoint-state", "State"),
    ("vpc-endpoint-type", "VpcEndpointType"),
    ("vpc-id", "VpcId"),
];

/// The member of `aws` with the security groups of an endpoint.
pub(super) const GROUPS: &str = "SecurityGroupIds";

/// The policy of an endpoint without one: everything is allowed.
const FULL_ACCESS: &str = r#"{"Statement":[{"Action":"*","Effect":"Allow","Principal":"*","Resource":"*"}]}"#;
/// The policy of a Gateway endpoint without one.
const FULL_ACCESS_BY_GATEWAY: &str =
    r#"{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}"#;

/// A name without the last dot.
pub(super) fn plain(name: impl ToString) -> String {
    name.to_string().trim_end_matches('.').to_string()
}

/// The names of an endpoint, as zonal answers them.
pub(super) fn dns_entries(context: &Context, id: &str, endpoint: &VpcEndpoint, vpc: &Vpc) -> Vec<Value> {
    let Some(Found { service, .. }) = find_service(context, endpoint, vpc) else { return Vec::new() };
    if endpoint.vpc_endpoint_type != VpcEndpointType::Interface || !has_names(endpoint) {
        return Vec::new();
    }
    let label = match &endpoint.dns_name_suffix {
        Some(suffix) => format!("{id}-{suffix}"),
        None => id.to_string(),
    };
    let parent = plain(&service.dns_name);
    let zone = endpoint_zone(&vpc.region);
    let mut names = vec![format!("{label}.{parent}")];
    for interface in &endpoint.network_interfaces {
        let name = format!("{label}-{}.{parent}", az_name(context, vpc, &interface.availability_zone_id));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut entries: Vec<Value> =
        names.into_iter().map(|name| json!({"DnsName": name, "HostedZoneId": zone})).collect();
    if endpoint.private_dns_enabled && vpc.enable_dns_support && vpc.enable_dns_hostnames && service.is_verified() {
        let private = service.private_dns_names.iter().map(plain);
        entries.extend(private.map(|name| {
            let zone = derived("Z", &[&endpoint.vpc_id, &name]).replace('-', "").to_ascii_uppercase();
            json!({"DnsName": name, "HostedZoneId": zone})
        }));
    }
    entries
}

/// A word with a small first letter: EC2 writes states of endpoints so, although its model does not.
pub(super) fn small(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}", first.to_ascii_lowercase(), letters.as_str()))
}

/// The identifier of a network interface of an endpoint.
pub(super) fn interface_id(endpoint_id: &str, interface: &NetworkInterface) -> String {
    let addresses = (interface.ipv4.map(|ip| ip.to_string()), interface.ipv6.map(|ip| ip.to_string()));
    let address = addresses.0.or(addresses.1).unwrap_or_default();
    interface.network_interface_id.clone().unwrap_or_else(|| derived("eni", &[endpoint_id, &address]))
}

/// The subnet of a network interface: the given one, or that of its address.
pub(super) fn subnet_of<'a>(interface: &'a NetworkInterface, vpc: &'a Vpc) -> Option<&'a str> {
    let is_of = |subnet: &Subnet| {
        subnet.cidr_blocks.iter().any(|block| {
            interface.ipv4.is_some_and(|ip| block.contains(&IpAddr::from(ip)))
                || interface.ipv6.is_some_and(|ip| block.contains(&IpAddr::from(ip)))
        })
    };
    let found = || vpc.subnets.iter().find(|(_, subnet)| is_of(subnet)).map(|(id, _)| id.as_str());
    interface.subnet_id.as_deref().or_else(found)
}

/// The kinds of addresses that an endpoint has.
pub(super) fn ip_address_type(endpoint: &VpcEndpoint) -> &'static str {
    let has = |is_given: fn(&NetworkInterface) -> bool| endpoint.network_interfaces.iter().any(is_given);
    match (has(|interface| interface.ipv4.is_some()), has(|interface| interface.ipv6.is_some())) {
        (true, true) => "dualstack",
        (false, true) => "ipv6",
        _ => "ipv4",
    }
}

/// The security groups of an endpoint. Imported endpoints have them as AWS describes them.
pub(super) fn group_ids(endpoint: &VpcEndpoint) -> Vec<String> {
    let groups = endpoint.aws.get(GROUPS).or_else(|| endpoint.aws.get("Groups")).and_then(Value::as_array);
    let id = |group: &Value| group.as_str().or_else(|| group.get("GroupId")?.as_str()).map(str::to_string);
    groups.into_iter().flatten().filter_map(id).collect()
}

/// An endpoint in the form of EC2.
pub(super) fn endpoint_value(context: &Context, id: &str, endpoint: &VpcEndpoint, vpc: &Vpc) -> Value {
    let interfaces = endpoint.network_interfaces.iter().map(|interface| interface_id(id, interface));
    let subnets: BTreeSet<&str> =
        endpoint.network_interfaces.iter().filter_map(|interface| subnet_of(interface, vpc)).collect();
    let echoed = |member: &str| endpoint.aws.get(member).cloned().unwrap_or_else(|| json!([]));
    let groups: Vec<Value> =
        group_ids(endpoint).iter().map(|id| json!({"GroupId": id, "GroupName": group_name(context, id)})).collect();
    let service = find_service(context, endpoint, vpc);
    let policy = match endpoint.vpc_endpoint_type {
        VpcEndpointType::Gateway => FULL_ACCESS_BY_GATEWAY,
        _ => FULL_ACCESS,
    };
    object(json!({
        "VpcEndpointId": id,
        "VpcEndpointType": endpoint.vpc_endpoint_type,
        "VpcId": endpoint.vpc_id,
        "ServiceName": service.as_ref().map_or(&endpoint.service_name, |found| &found.name),
        "ServiceRegion": service.map(|found| found.service.region.clone()),
        "State": small(endpoint.state.word()),
        "PolicyDocument": endpoint.aws.text("PolicyDocument").unwrap_or(policy),
        "RouteTableIds": echoed("RouteTableIds"),
        "SubnetIds": subnets,
        "Groups": groups,
        "IpAddressType": ip_address_type(endpoint),
        "DnsOptions": {
            "DnsRecordIpType": endpoint.dns_options.dns_record_ip_type,
            "PrivateDnsOnlyForInboundResolverEndpoint":
                endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint,
        },
        "PrivateDnsEnabled": endpoint.private_dns_enabled,
        "RequesterManaged": false,
        "NetworkInterfaceIds": interfaces.collect::<Vec<_>>(),
        "DnsEntries": dns_entries(context, id, endpoint, vpc),
        "CreationTimestamp": endpoint.aws.text("created"),
        "Tags": tag_list(&endpoint.tags, endpoint.name.as_deref()),
        "OwnerId": context.owner(&vpc.owner_id),
    }))
}

/// The endpoint of a request, and its VPC.
///
/// # Errors
///
/// There is no such endpoint in the caller's account and Region.
pub(super) fn existing_endpoint<'a>(
    context: &Context<'a>,
    id: &str,
) -> Result<(&'a Arc<VpcEndpoint>, &'a Arc<Vpc>), ServiceError> {
    let endpoint = context.manifest().vpc_endpoints.get(id);
    let found = endpoint.and_then(|endpoint| Some((endpoint, find_vpc(context, &endpoint.vpc_id)?)));
    found.ok_or_else(|| error("InvalidVpcEndpointId.NotFound", format!("The Vpc Endpoint Id '{id}' does not exist")))
}

fn describe_vpc_endpoints(context: &Context, parameters: Parameters) -> ReadResult {
    let all = &context.manifest().vpc_endpoints;
    let exists = |id: &str| all.get(id).is_some_and(|endpoint| find_vpc(context, &endpoint.vpc_id).is_some());
    let code = "InvalidVpcEndpointId.NotFound";
    let ids = wanted(parameters, "VpcEndpointIds", code, "Vpc Endpoint", exists)?;
    list(parameters, "VpcEndpoints", ENDPOINT_FILTERS, |after| {
        let rest = all.range_from(start(after)).filter(|(id, _)| ids.has(id));
        rest.filter_map(|(id, endpoint)| {
            let vpc = find_vpc(context, &endpoint.vpc_id)?;
            Some((id.clone(), endpoint_value(context, id, endpoint, vpc)))
        })
    })
}

const ASSOCIATION_FILTERS: Known = &[("vpc-endpoint-id", "VpcEndpointId")];

/// Associations of endpoints of the types Resource and ServiceNetwork, which zonal does not have.
fn describe_vpc_endpoint_associations(context: &Context, parameters: Parameters) -> ReadResult {
    for id in parameters.texts("VpcEndpointIds") {
        existing_endpoint(context, id)?;
    }
    list(parameters, "VpcEndpointAssociations", ASSOCIATION_FILTERS, |_| std::iter::empty())
}
