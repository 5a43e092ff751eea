//! Resolver endpoints and their addresses.

use super::{list, not_found, protocol};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult,
            filters::Known,
            identifiers::{arn, derived},
            object, start,
            table::read,
        },
    },
    manifest::ResolverEndpoint,
};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The operations of Resolver endpoints.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    read(Route53Resolver, "GetResolverEndpoint", get_resolver_endpoint, "ResolverEndpointId"),
    read(Route53Resolver, "ListResolverEndpoints", list_resolver_endpoints, "Filters MaxResults NextToken"),
    read(
        Route53Resolver,
        "ListResolverEndpointIpAddresses",
        list_resolver_endpoint_ip_addresses,
        "ResolverEndpointId MaxResults NextToken",
    ),
];

const ENDPOINT_FILTERS: Known = &[
    ("CreatorRequestId", "CreatorRequestId"),
    ("Direction", "Direction"),
    ("HostVPCId", "HostVPCId"),
    ("IpAddressCount", "IpAddressCount"),
    ("Name", "Name"),
    ("SecurityGroupIds", "SecurityGroupIds"),
    ("Status", "Status"),
    ("CREATOR_REQUEST_ID", "CreatorRequestId"),
    ("DIRECTION", "Direction"),
    ("HOST_VPC_ID", "HostVPCId"),
    ("IP_ADDRESS_COUNT", "IpAddressCount"),
    ("NAME", "Name"),
    ("SECURITY_GROUP_IDS", "SecurityGroupIds"),
    ("STATUS", "Status"),
];

fn endpoint_value(context: &Context, id: &str, endpoint: &ResolverEndpoint) -> Value {
    let region = context.vpc_region(&endpoint.vpc_id);
    let owner = context.owner(context.vpc_owner(&endpoint.vpc_id));
    let has = |is_kind: fn(&IpAddr) -> bool| endpoint.ip_addresses.iter().any(|address| is_kind(&address.ip));
    let kind = match (has(IpAddr::is_ipv4), has(IpAddr::is_ipv6)) {
        (true, true) => "DUALSTACK",
        (false, true) => "IPV6",
        _ => "IPV4",
    };
    let groups = endpoint.aws.get("security_group_ids").cloned().unwrap_or_else(|| json!([]));
    object(json!({
        "Id": id,
        "CreatorRequestId": endpoint.aws.text("creator_request_id"),
        "Arn": arn("route53resolver", region, owner, &format!("resolver-endpoint/{id}")),
        "Name": endpoint.name,
        "SecurityGroupIds": groups,
        "Direction": endpoint.direction,
        "IpAddressCount": endpoint.ip_addresses.len(),
        "HostVPCId": endpoint.vpc_id,
        "Status": "OPERATIONAL",
        "CreationTime": endpoint.aws.text("created"),
        "ModificationTime": endpoint.aws.text("modified"),
        "ResolverEndpointType": kind,
        "Protocols": endpoint.protocols.iter().filter_map(|word| protocol(*word)).collect::<Vec<_>>(),
        "Dns64Enabled": endpoint.dns64,
    }))
}

/// Whether an endpoint is in the caller's account and Region.
fn has_endpoint(context: &Context, endpoint: &ResolverEndpoint) -> bool {
    context.sees(context.vpc_owner(&endpoint.vpc_id)) && context.is_in(context.vpc_region(&endpoint.vpc_id))
}

fn endpoint<'a>(context: &Context<'a>, id: &str) -> Result<&'a ResolverEndpoint, ServiceError> {
    let found = context.manifest().resolver_endpoints.get(id);
    let found = found.filter(|endpoint| has_endpoint(context, endpoint));
    found.map(|found| &**found).ok_or_else(|| not_found("Resolver endpoint", id))
}

fn get_resolver_endpoint(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverEndpointId");
    Ok(json!({"ResolverEndpoint": endpoint_value(context, id, endpoint(context, id)?)}))
}

fn list_resolver_endpoints(context: &Context, parameters: Parameters) -> ReadResult {
    list(parameters, "ResolverEndpoints", ENDPOINT_FILTERS, |after| {
        let all = context.manifest().resolver_endpoints.range_from(start(after));
        let visible = all.filter(|(_, endpoint)| has_endpoint(context, endpoint));
        visible.map(|(id, endpoint)| (id.clone(), endpoint_value(context, id, endpoint)))
    })
}

fn list_resolver_endpoint_ip_addresses(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverEndpointId");
    let endpoint = endpoint(context, id)?;
    list(parameters, "IpAddresses", &[], |after| {
        let after = after.map(str::to_string);
        let mut all: Vec<(String, Value)> = endpoint
            .ip_addresses
            .iter()
            .map(|address| {
                let ip = address.ip.to_string();
                let ip_id = address.ip_id.clone().unwrap_or_else(|| derived("rni", &[id, &ip]));
                let subnet = address.subnet_id.as_deref().or_else(|| subnet_of(context, &endpoint.vpc_id, address.ip));
                let (ipv4, ipv6) = if address.ip.is_ipv4() { (Some(&ip), None) } else { (None, Some(&ip)) };
                let value = object(json!({
                    "IpId": ip_id, "SubnetId": subnet, "Ip": ipv4, "Ipv6": ipv6, "Status": "ATTACHED",
                    "CreationTime": endpoint.aws.text("created"), "ModificationTime": endpoint.aws.text("modified"),
                }));
                (ip_id, value)
            })
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.into_iter().filter(move |(key, _)| after.as_ref().is_none_or(|after| key > after))
    })
}

/// The subnet of a VPC that an address is in.
fn subnet_of<'a>(context: &Context<'a>, vpc: &str, address: IpAddr) -> Option<&'a str> {
    let subnets = &context.manifest().vpcs.get(vpc)?.subnets;
    let found = subnets.iter().find(|(_, subnet)| subnet.cidr_blocks.iter().any(|block| block.contains(&address)));
    found.map(|(id, _)| id.as_str())
}
