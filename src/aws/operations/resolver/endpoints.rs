//! Resolver endpoints and their addresses.

use super::{
    addresses::{Families, FoundSubnet, Used, subnet},
    check_request_id, deleting, error, invalid, invalid_request, keep, list, not_found, part, protocol, read_protocol,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Route53Resolver,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written,
            creation::RequestId,
            edits,
            filters::Known,
            identifiers::{self, arn, derived},
            object, start,
            table::{read, write},
            tags,
        },
    },
    manifest::{AwsData, Direction, EndpointAddress, Protocol, ResolverEndpoint, Resource, collection::Edit},
};
use serde_json::{Value, json};
use std::{net::IpAddr, sync::Arc};

/// The operations of Resolver endpoints.
pub(in crate::aws::operations) const TABLE: &[Entry] = &[
    write(
        Route53Resolver,
        "CreateResolverEndpoint",
        create_resolver_endpoint,
        "Name Direction IpAddresses ResolverEndpointType Protocols Dns64Enabled CreatorRequestId Tags",
    )
    .echoes("SecurityGroupIds RniEnhancedMetricsEnabled TargetNameServerMetricsEnabled Ipv6InternetAccessEnabled")
    .refuses("OutpostArn PreferredInstanceType"),
    write(Route53Resolver, "DeleteResolverEndpoint", delete_resolver_endpoint, "ResolverEndpointId"),
    write(
        Route53Resolver,
        "UpdateResolverEndpoint",
        update_resolver_endpoint,
        "ResolverEndpointId Name ResolverEndpointType UpdateIpAddresses Protocols Dns64Enabled",
    )
    .echoes("RniEnhancedMetricsEnabled TargetNameServerMetricsEnabled Ipv6InternetAccessEnabled"),
    write(Route53Resolver, "AssociateResolverEndpointIpAddress", associate_ip_address, "ResolverEndpointId IpAddress")
        .refuses("IpAddress.IpId"),
    write(
        Route53Resolver,
        "DisassociateResolverEndpointIpAddress",
        disassociate_ip_address,
        "ResolverEndpointId IpAddress",
    ),
    read(Route53Resolver, "GetResolverEndpoint", get_resolver_endpoint, "ResolverEndpointId"),
    read(Route53Resolver, "ListResolverEndpoints", list_resolver_endpoints, "Filters MaxResults NextToken"),
    read(
        Route53Resolver,
        "ListResolverEndpointIpAddresses",
        list_resolver_endpoint_ip_addresses,
        "ResolverEndpointId MaxResults NextToken",
    ),
];

const KIND: &str = "resolver_endpoints";
/// The number of items on a page, if the request does not say it.
const PAGE: usize = 10;
/// The minimum number of network interfaces of an endpoint.
const MIN_INTERFACES: usize = 2;
/// The maximum number of security groups of an endpoint.
const MAX_SECURITY_GROUPS: usize = 10;
/// The settings that zonal only returns.
const ECHOED: [&str; 3] = ["RniEnhancedMetricsEnabled", "TargetNameServerMetricsEnabled", "Ipv6InternetAccessEnabled"];

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

// Reads.

/// A network interface of an endpoint. It has an IPv4 address, an IPv6 address, or both.
struct Interface<'e> {
    id: String,
    subnet_id: Option<&'e str>,
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
}

/// The network interfaces of an endpoint: addresses with the same identifier are of the same interface.
fn interfaces<'e>(context: &Context<'e>, id: &str, endpoint: &'e ResolverEndpoint) -> Vec<Interface<'e>> {
    let mut all: Vec<Interface> = Vec::new();
    for address in &endpoint.ip_addresses {
        let ip_id = ip_id(id, address);
        let (ipv4, ipv6) = if address.ip.is_ipv4() { (Some(address.ip), None) } else { (None, Some(address.ip)) };
        match all.iter_mut().find(|other| other.id == ip_id) {
            Some(other) => {
                other.ipv4 = other.ipv4.or(ipv4);
                other.ipv6 = other.ipv6.or(ipv6);
            }
            None => {
                let known = address.subnet_id.as_deref();
                let subnet_id = known.or_else(|| subnet_of(context, &endpoint.vpc_id, address.ip));
                all.push(Interface { id: ip_id, subnet_id, ipv4, ipv6 });
            }
        }
    }
    all
}

/// The identifier of an address of the endpoint `id`.
fn ip_id(id: &str, address: &EndpointAddress) -> String {
    address.ip_id.clone().unwrap_or_else(|| derived("rni", &[id, &address.ip.to_string()]))
}

/// The subnet of a VPC that an address is in.
fn subnet_of<'a>(context: &Context<'a>, vpc: &str, address: IpAddr) -> Option<&'a str> {
    let subnets = &context.manifest().vpcs.get(vpc)?.subnets;
    let found = subnets.iter().find(|(_, subnet)| subnet.cidr_blocks.iter().any(|block| block.contains(&address)));
    found.map(|(id, _)| id.as_str())
}

fn endpoint_value(context: &Context, id: &str, endpoint: &ResolverEndpoint) -> Value {
    let region = context.vpc_region(&endpoint.vpc_id);
    let owner = context.owner(context.vpc_owner(&endpoint.vpc_id));
    let echoed = |member: &str| part(&endpoint.aws, "echo", member).cloned();
    let mut value = json!({
        "Id": id,
        "CreatorRequestId": endpoint.aws.text("creator_request_id"),
        "Arn": arn("route53resolver", region, owner, &format!("resolver-endpoint/{id}")),
        "Name": endpoint.name,
        "SecurityGroupIds": echoed("SecurityGroupIds").unwrap_or_else(|| json!([])),
        "Direction": endpoint.direction,
        "IpAddressCount": interfaces(context, id, endpoint).len(),
        "HostVPCId": endpoint.vpc_id,
        "Status": "OPERATIONAL",
        "StatusMessage": "Successfully created Resolver Endpoint",
        "CreationTime": endpoint.aws.text("created"),
        "ModificationTime": endpoint.aws.text("modified"),
        "ResolverEndpointType": Families::of(endpoint).word(),
        "Protocols": endpoint.protocols.iter().filter_map(|word| protocol(*word)).collect::<Vec<_>>(),
        "Dns64Enabled": endpoint.dns64,
    });
    ECHOED.into_iter().for_each(|member| value[member] = echoed(member).into());
    object(value)
}

/// Whether an endpoint is in the caller's account and Region.
pub(super) fn has_endpoint(context: &Context, endpoint: &ResolverEndpoint) -> bool {
    context.sees(context.vpc_owner(&endpoint.vpc_id)) && context.is_in(context.vpc_region(&endpoint.vpc_id))
}

/// An endpoint of the caller.
pub(super) fn endpoint<'a>(context: &Context<'a>, id: &str) -> Result<&'a ResolverEndpoint, ServiceError> {
    let found = context.manifest().resolver_endpoints.get(id);
    let found = found.filter(|endpoint| has_endpoint(context, endpoint));
    found.map(|found| &**found).ok_or_else(|| not_found("Resolver endpoint", id))
}

fn get_resolver_endpoint(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverEndpointId");
    Ok(json!({"ResolverEndpoint": endpoint_value(context, id, endpoint(context, id)?)}))
}

fn list_resolver_endpoints(context: &Context, parameters: Parameters) -> ReadResult {
    list(PAGE, parameters, "ResolverEndpoints", ENDPOINT_FILTERS, |after| {
        let all = context.manifest().resolver_endpoints.range_from(start(after));
        let visible = all.filter(|(_, endpoint)| has_endpoint(context, endpoint));
        visible.map(|(id, endpoint)| (id.clone(), endpoint_value(context, id, endpoint)))
    })
}

fn list_resolver_endpoint_ip_addresses(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("ResolverEndpointId");
    let endpoint = endpoint(context, id)?;
    list(PAGE, parameters, "IpAddresses", &[], |after| {
        // The key of an interface is its number.
        let first = after.and_then(|after| after.parse::<usize>().ok()).unwrap_or_default();
        let numbered = interfaces(context, id, endpoint).into_iter().enumerate().skip(first);
        numbered.map(|(at, interface)| {
            let value = object(json!({
                "IpId": interface.id, "SubnetId": interface.subnet_id, "Ip": interface.ipv4, "Ipv6": interface.ipv6,
                "Status": "ATTACHED", "StatusMessage": "This IP address is operational.",
                "CreationTime": endpoint.aws.text("created"), "ModificationTime": endpoint.aws.text("modified"),
            }));
            ((at + 1).to_string(), value)
        })
    })
}

// Writes.

fn put(id: &str, endpoint: ResolverEndpoint) -> Edit {
    edits::put(id, Resource::ResolverEndpoint(Arc::new(endpoint)))
}

/// The result of a change of an endpoint, which is modified now.
fn changed(context: &Context, id: &str, mut endpoint: ResolverEndpoint) -> WriteResult {
    endpoint.aws.set("modified", context.time());
    let result = json!({"ResolverEndpoint": endpoint_value(context, id, &endpoint)});
    Ok(Written { edits: vec![put(id, endpoint)], result })
}

fn check_security_groups(context: &Context, groups: &[&str]) -> Result<(), ServiceError> {
    if groups.len() > MAX_SECURITY_GROUPS {
        let message = format!("Maximum of {MAX_SECURITY_GROUPS} security groups are allowed");
        return Err(invalid("SecurityGroupIds", message));
    }
    for id in groups {
        if !id.starts_with("sg-") {
            let message = format!("Malformed security group ID: Invalid id: '{id}' (expecting 'sg-...')");
            return Err(invalid("SecurityGroupIds", message));
        }
        let found = context.manifest().security_groups.get(id);
        if !found.is_some_and(|group| context.sees(&group.owner_id)) {
            return Err(error("ResourceNotFoundException", format!("The security group '{id}' does not exist")));
        }
    }
    Ok(())
}

/// The protocols of a request. None if it has none.
fn read_protocols(parameters: Parameters, direction: Direction) -> Result<Option<Vec<Protocol>>, ServiceError> {
    let words = parameters.texts("Protocols").into_iter();
    let mut protocols = words.map(|word| read_protocol("Protocols", word)).collect::<Result<Vec<_>, _>>()?;
    protocols.dedup();
    if direction == Direction::InboundDelegation && protocols.iter().any(|protocol| *protocol != Protocol::Do53) {
        return Err(invalid_request("Protocols: an INBOUND_DELEGATION endpoint has the protocol Do53 only"));
    }
    Ok(Some(protocols).filter(|protocols| !protocols.is_empty()))
}

/// Checks the settings that only endpoints of one direction have.
fn check_settings(parameters: Parameters, direction: Direction) -> Result<(), ServiceError> {
    let is_on = |member: &str| parameters.get(member) == Some(&Value::Bool(true));
    for (member, needed) in
        [("Dns64Enabled", Direction::Inbound), ("TargetNameServerMetricsEnabled", Direction::Outbound)]
    {
        if is_on(member) && direction != needed {
            return Err(invalid_request(format!("{member}: only an {needed} endpoint has this setting")));
        }
    }
    Ok(())
}

fn create_resolver_endpoint(context: &Context, parameters: Parameters) -> WriteResult {
    let others = context.manifest().resolver_endpoints.values();
    let own = others.filter(|endpoint| has_endpoint(context, endpoint));
    check_request_id("Resolver endpoint", parameters, own.map(|endpoint| &endpoint.aws))?;
    let direction = match parameters.text("Direction") {
        "OUTBOUND" => Direction::Outbound,
        "INBOUND_DELEGATION" => Direction::InboundDelegation,
        _ => Direction::Inbound,
    };
    let families = Families::read(parameters.given_text("ResolverEndpointType").unwrap_or("IPV4"));
    let mut ip_addresses = Vec::new();
    let mut first: Option<(FoundSubnet, Used)> = None;
    for request in parameters.items("IpAddresses").map(Parameters) {
        let found = subnet(context, request.text("SubnetId"))?;
        let (of_first, used) = first.get_or_insert_with(|| (found, Used::of(context, found)));
        check_vpc(found, of_first.vpc_id)?;
        used.add(context, found, families, request, None, &mut ip_addresses)?;
    }
    let missing = || invalid_request("Resolver endpoint needs to have at least 2 IP addresses");
    let vpc_id = first.ok_or_else(missing)?.0.vpc_id.to_string();
    let groups = parameters.texts("SecurityGroupIds");
    check_security_groups(context, &groups)?;
    check_settings(parameters, direction)?;
    let mut aws = AwsData::default();
    let now = context.time();
    aws.set("created", now.clone());
    aws.set("modified", now);
    RequestId::creator(parameters).store(&mut aws);
    keep(&mut aws, parameters, &["SecurityGroupIds"]);
    keep(&mut aws, parameters, &ECHOED);
    let endpoint = ResolverEndpoint {
        direction,
        vpc_id,
        protocols: read_protocols(parameters, direction)?.unwrap_or_else(|| vec![Protocol::Do53]),
        allowed_cidr_blocks: Vec::new(),
        dns64: parameters.get("Dns64Enabled") == Some(&Value::Bool(true)),
        dns64_prefix: None,
        ip_addresses,
        name: parameters.given_text("Name").map(str::to_string),
        tags: tags::read(parameters, "Tags"),
        aws,
    };
    let id = identifiers::next(if direction == Direction::Outbound { "rslvr-out" } else { "rslvr-in" });
    let result = json!({"ResolverEndpoint": endpoint_value(context, &id, &endpoint)});
    Ok(Written { edits: vec![put(&id, endpoint)], result })
}

/// Checks that a subnet is in the VPC of an endpoint.
fn check_vpc(subnet: FoundSubnet, vpc_id: &str) -> Result<(), ServiceError> {
    if subnet.vpc_id == vpc_id {
        return Ok(());
    }
    let message = format!("The subnet '{}' is in {}, but the endpoint is in {vpc_id}", subnet.id, subnet.vpc_id);
    Err(invalid_request(message))
}

fn delete_resolver_endpoint(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ResolverEndpointId");
    let endpoint = endpoint(context, id)?;
    let rules = context.manifest().resolver_rules.iter();
    let users = rules.filter(|(_, rule)| rule.resolver_endpoint_id.as_deref() == Some(id)).map(|(id, _)| id.as_str());
    let users: Vec<&str> = users.collect();
    if !users.is_empty() {
        return Err(invalid_request(format!(
            "Cannot delete resolver endpoint unless its related resolver rules are deleted.  The following rules still \
             exist for this resolver endpoint:  {}",
            users.join(", ")
        )));
    }
    let result = json!({"ResolverEndpoint": deleting(endpoint_value(context, id, endpoint), "Resolver Endpoint")});
    Ok(Written { edits: vec![edits::delete(KIND, id)], result })
}

fn update_resolver_endpoint(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ResolverEndpointId");
    let mut endpoint = endpoint(context, id)?.clone();
    check_settings(parameters, endpoint.direction)?;
    if let Some(name) = parameters.given_text("Name") {
        endpoint.name = Some(name.into());
    }
    if let Some(mut protocols) = read_protocols(parameters, endpoint.direction)? {
        let loses_do53 = endpoint.protocols == [Protocol::Do53] && !protocols.contains(&Protocol::Do53);
        if loses_do53 && endpoint.direction == Direction::Inbound {
            let message = "Protocols: cannot change from only Do53 to only DoH; set both first, and then remove Do53";
            return Err(invalid_request(message));
        }
        // AWS has no words for the other protocols.
        protocols.extend(endpoint.protocols.iter().filter(|own| protocol(**own).is_none()));
        endpoint.protocols = protocols;
    }
    if let Some(dns64) = parameters.get("Dns64Enabled").and_then(Value::as_bool) {
        endpoint.dns64 = dns64;
    }
    keep(&mut endpoint.aws, parameters, &ECHOED);
    change_families(context, id, &mut endpoint, parameters)?;
    changed(context, id, endpoint)
}

/// Changes the type of an endpoint: adds or removes addresses of its interfaces.
fn change_families(
    context: &Context,
    id: &str,
    endpoint: &mut ResolverEndpoint,
    parameters: Parameters,
) -> Result<(), ServiceError> {
    let old = Families::of(endpoint);
    let new = parameters.given_text("ResolverEndpointType").map_or(old, Families::read);
    let given: Vec<Parameters> = parameters.items("UpdateIpAddresses").map(Parameters).collect();
    if new == old {
        return match given.is_empty() {
            true => Ok(()),
            false => Err(invalid_request("UpdateIpAddresses: only a change to the type DUALSTACK has them")),
        };
    }
    if new.word() == "IPV6" {
        return Err(invalid_request("ResolverEndpointType: the type of an endpoint cannot become IPV6"));
    }
    if new.word() == "IPV4" {
        if !old.ipv4 {
            return Err(invalid_request("ResolverEndpointType: the endpoint has no IPv4 addresses"));
        }
        endpoint.ip_addresses.retain(|address| address.ip.is_ipv4());
        return Ok(());
    }
    let known = interfaces(context, id, endpoint);
    if let Some(unknown) = given.iter().find(|one| known.iter().all(|known| known.id != one.text("IpId"))) {
        return Err(not_found("IP address", unknown.text("IpId")));
    }
    let mut added = Vec::new();
    let mut used: Option<Used> = None;
    for interface in &known {
        let missing = Families { ipv4: interface.ipv4.is_none(), ipv6: interface.ipv6.is_none() };
        let unknown = || invalid_request(format!("The IP address {} is in no subnet of the VPC", interface.id));
        let found = subnet(context, interface.subnet_id.ok_or_else(unknown)?)?;
        let used = used.get_or_insert_with(|| Used::of(context, found));
        let nothing = Value::Null;
        let request = given.iter().find(|one| one.text("IpId") == interface.id).copied();
        used.add(context, found, missing, request.unwrap_or(Parameters(&nothing)), Some(&interface.id), &mut added)?;
    }
    let ids: Vec<String> = endpoint.ip_addresses.iter().map(|address| ip_id(id, address)).collect();
    endpoint.ip_addresses.iter_mut().zip(ids).for_each(|(address, id)| address.ip_id = Some(id));
    endpoint.ip_addresses.extend(added);
    Ok(())
}

fn associate_ip_address(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ResolverEndpointId");
    let mut endpoint = endpoint(context, id)?.clone();
    let request = parameters.get("IpAddress").map_or(parameters, Parameters);
    let missing = || invalid_request("IpAddress: SubnetId is missing");
    let found = subnet(context, request.given_text("SubnetId").ok_or_else(missing)?)?;
    check_vpc(found, &endpoint.vpc_id)?;
    let families = Families::of(&endpoint);
    Used::of(context, found).add(context, found, families, request, None, &mut endpoint.ip_addresses)?;
    changed(context, id, endpoint)
}

fn disassociate_ip_address(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("ResolverEndpointId");
    let mut endpoint = endpoint(context, id)?.clone();
    let request = parameters.get("IpAddress").map_or(parameters, Parameters);
    let (given_id, subnet_id) = (request.given_text("IpId"), request.given_text("SubnetId"));
    let ip = request.given_text("Ip").or(request.given_text("Ipv6"));
    let known = interfaces(context, id, &endpoint);
    let has = |interface: &&Interface, ip: &str| {
        let parsed = ip.parse().ok();
        parsed.is_some() && (interface.ipv4 == parsed || interface.ipv6 == parsed)
    };
    let (found, shown) = match (given_id, subnet_id, ip) {
        (Some(given), ..) => (known.iter().find(|interface| interface.id == given), given),
        (None, Some(subnet), Some(ip)) => {
            let of_subnet = known.iter().filter(|interface| interface.subnet_id == Some(subnet));
            (of_subnet.clone().find(|interface| has(interface, ip)), ip)
        }
        _ => {
            return Err(invalid_request(
                "[RSLVR-00503] Need to specify either the IP ID or both subnet and IP address in order to remove IP \
                 address.",
            ));
        }
    };
    let removed = found.ok_or_else(|| not_found("IP address", shown))?.id.clone();
    if known.len() <= MIN_INTERFACES {
        return Err(invalid_request("Resolver endpoint needs to have at least 2 IP addresses"));
    }
    drop(known);
    endpoint.ip_addresses.retain(|address| ip_id(id, address) != removed);
    changed(context, id, endpoint)
}
