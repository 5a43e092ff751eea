//! EC2: VPC endpoints. Writes.

use super::{
    ClientToken, done,
    endpoints::{GROUPS, endpoint_value, existing_endpoint, group_ids, subnet_of},
    error, is_true, missing, security_groups,
    services::{Found, change_list, failure, find_named, find_service, needs_acceptance},
    subnets::{existing_subnet, used_addresses},
    tags,
    vpcs::{existing_vpc, has_vpc},
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, WriteResult, Written, edits, identifiers::random, object, table::write,
            zonal_shift,
        },
    },
    manifest::{
        AwsData, ClientRoutingPolicy, DnsOptions, DnsRecordIpType, EndpointState, Health, Id, NetworkInterface,
        PrivateDnsScope, Resource, Subnet, Tags, Vpc, VpcEndpoint, VpcEndpointType, collection::Edit,
    },
};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    write(
        Ec2,
        "CreateVpcEndpoint",
        create_vpc_endpoint,
        "VpcEndpointType VpcId ServiceName ServiceRegion SubnetIds SubnetConfigurations IpAddressType DnsOptions \
         PrivateDnsEnabled ClientToken TagSpecifications DryRun",
    )
    .echoes("PolicyDocument RouteTableIds SecurityGroupIds")
    .refuses(
        "ServiceNetworkArn ResourceConfigurationArn DnsOptions.PrivateDnsPreference \
         DnsOptions.PrivateDnsSpecifiedDomains",
    ),
    write(
        Ec2,
        "ModifyVpcEndpoint",
        modify_vpc_endpoint,
        "VpcEndpointId AddSubnetIds RemoveSubnetIds SubnetConfigurations IpAddressType DnsOptions PrivateDnsEnabled DryRun",
    )
    .echoes(
        "PolicyDocument ResetPolicy AddRouteTableIds RemoveRouteTableIds AddSecurityGroupIds RemoveSecurityGroupIds",
    )
    .refuses("DnsOptions.PrivateDnsPreference DnsOptions.PrivateDnsSpecifiedDomains"),
    write(Ec2, "DeleteVpcEndpoints", delete_vpc_endpoints, "VpcEndpointIds DryRun"),
];

/// The number of addresses at the begin of a subnet that AWS keeps for itself.
const RESERVED_FIRST: u128 = 4;

fn endpoint_edit(id: &str, endpoint: VpcEndpoint) -> Edit {
    edits::put(id, Resource::VpcEndpoint(Arc::new(endpoint)))
}

// Addresses.

/// The kinds of addresses of an endpoint's interfaces.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Families {
    ipv4: bool,
    ipv6: bool,
}

impl Families {
    fn read(text: &str) -> Families {
        Families { ipv4: text != "ipv6", ipv6: text != "ipv4" }
    }

    /// The kinds of a request; IPv4, if it does not say so.
    fn of(parameters: Parameters) -> Families {
        Families::read(parameters.given_text("IpAddressType").unwrap_or("ipv4"))
    }

    /// The kinds of an endpoint.
    fn of_endpoint(endpoint: &VpcEndpoint) -> Families {
        Families::read(super::endpoints::ip_address_type(endpoint))
    }

    /// The records that the names of an endpoint have, if the request does not say it.
    fn record_type(self) -> DnsRecordIpType {
        match (self.ipv4, self.ipv6) {
            (true, true) => DnsRecordIpType::Dualstack,
            (false, true) => DnsRecordIpType::Ipv6,
            _ => DnsRecordIpType::Ipv4,
        }
    }
}

/// The first and the last address of a block that an interface can have, as numbers.
fn usable(block: &IpNet) -> (u128, u128) {
    match block {
        IpNet::V4(block) => (
            u128::from(block.network().to_bits()).saturating_add(RESERVED_FIRST),
            u128::from(block.broadcast().to_bits()).saturating_sub(1),
        ),
        IpNet::V6(block) => {
            (block.network().to_bits().saturating_add(RESERVED_FIRST), block.broadcast().to_bits().saturating_sub(1))
        }
    }
}

/// The addresses of a VPC while interfaces get some.
struct Addresses {
    used: HashSet<IpAddr>,
}

impl Addresses {
    /// The addresses that are in use: those of endpoints, and the entry points of the VPC.
    fn of(context: &Context, vpc_id: &str, vpc: &Vpc) -> Addresses {
        let used = used_addresses(context, vpc_id).into_iter().chain(vpc.resolver_addresses.iter().copied());
        Addresses { used: used.collect() }
    }

    /// The lowest free address of a family in a subnet.
    fn take(&mut self, id: &str, subnet: &Subnet, is_ipv6: bool) -> Result<IpAddr, ServiceError> {
        let mut blocks = subnet.cidr_blocks.iter().filter(|block| matches!(block, IpNet::V6(_)) == is_ipv6).peekable();
        if blocks.peek().is_none() {
            let family = if is_ipv6 { "IPv6" } else { "IPv4" };
            let message = format!("The subnet {id} has no {family} block, which IpAddressType asks for");
            return Err(error("InvalidParameter", message));
        }
        let address = |number: u128| match is_ipv6 {
            true => IpAddr::V6(Ipv6Addr::from_bits(number)),
            false => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
        };
        let free = blocks.find_map(|block| {
            let (first, last) = usable(block);
            (first..=last).map(address).find(|address| !self.used.contains(address))
        });
        let free = free.ok_or_else(|| {
            let message = format!("The subnet {id} has no free address");
            error("InsufficientFreeAddressesInSubnet", message)
        })?;
        self.used.insert(free);
        Ok(free)
    }

    /// Takes a given address in a subnet.
    fn claim(&mut self, id: &str, subnet: &Subnet, text: &str) -> Result<IpAddr, ServiceError> {
        let address: Option<IpAddr> = text.parse().ok();
        let is_usable = |address: &IpAddr| {
            let number = match address {
                IpAddr::V4(address) => u128::from(address.to_bits()),
                IpAddr::V6(address) => address.to_bits(),
            };
            let holder = subnet.cidr_blocks.iter().find(|block| block.contains(address));
            holder.is_some_and(|block| {
                let (first, last) = usable(block);
                (first..=last).contains(&number)
            })
        };
        let address = address.filter(is_usable).ok_or_else(|| {
            let message = format!("The address {text} is not an address that an interface in the subnet {id} can have");
            error("InvalidParameterValue", message)
        })?;
        if !self.used.insert(address) {
            return Err(error("InvalidIPAddress.InUse", format!("The address {address} is in use")));
        }
        Ok(address)
    }
}

/// The subnets of a request, each with its configuration.
fn subnets<'a>(parameters: Parameters<'a>, member: &str) -> Vec<(&'a str, Option<Parameters<'a>>)> {
    let configurations: Vec<Parameters> = parameters.items("SubnetConfigurations").map(Parameters).collect();
    let configuration = |id: &str| configurations.iter().copied().find(|given| given.text("SubnetId") == id);
    let mut found: Vec<(&str, Option<Parameters>)> = Vec::new();
    for id in parameters.texts(member).into_iter().chain(configurations.iter().map(|given| given.text("SubnetId"))) {
        if !found.iter().any(|(other, _)| *other == id) {
            found.push((id, configuration(id)));
        }
    }
    found
}

/// Adds an interface in a subnet to an endpoint.
fn add_interface(
    context: &Context,
    endpoint: &mut VpcEndpoint,
    addresses: &mut Addresses,
    families: Families,
    (id, configuration): (&str, Option<Parameters>),
) -> Result<(), ServiceError> {
    let (vpc_id, _, subnet) = existing_subnet(context, id)?;
    if *vpc_id != endpoint.vpc_id {
        let message = format!("The subnet {id} is not in the VPC {}", endpoint.vpc_id);
        return Err(error("InvalidParameter", message));
    }
    let mut address =
        |member: &str, is_wanted: bool, is_ipv6: bool| match configuration.and_then(|given| given.given_text(member)) {
            Some(text) => addresses.claim(id, subnet, text).map(Some),
            None if is_wanted => addresses.take(id, subnet, is_ipv6).map(Some),
            None => Ok(None),
        };
    let (ipv4, ipv6) = (address("Ipv4", families.ipv4, false)?, address("Ipv6", families.ipv6, true)?);
    let interface = NetworkInterface {
        availability_zone_id: subnet.availability_zone_id.clone(),
        ipv4: ipv4.and_then(|address| if let IpAddr::V4(address) = address { Some(address) } else { None }),
        ipv6: ipv6.and_then(|address| if let IpAddr::V6(address) = address { Some(address) } else { None }),
        health: Health::Healthy,
        network_interface_id: None,
        subnet_id: Some(id.into()),
    };
    if endpoint.network_interfaces.iter().any(|other| other.availability_zone_id == interface.availability_zone_id) {
        let message = format!("Found another VPC endpoint subnet in the availability zone of the subnet {id}");
        return Err(error("DuplicateSubnetsInSameZone", message));
    }
    endpoint.network_interfaces.push(interface);
    Ok(())
}

// Settings.

/// Sets the options of an endpoint's names that a request has.
fn set_dns_options(endpoint: &mut VpcEndpoint, parameters: Parameters) -> Result<(), ServiceError> {
    let Some(given) = parameters.get("DnsOptions").map(Parameters) else { return Ok(()) };
    if let Some(kind) = given.get("DnsRecordIpType") {
        let kind = serde_json::from_value(kind.clone());
        let message = "DnsOptions.DnsRecordIpType: expected ipv4, ipv6, dualstack or service-defined";
        endpoint.dns_options.dns_record_ip_type = kind.map_err(|_| error("InvalidParameterValue", message))?;
    }
    if let Some(only) = given.get("PrivateDnsOnlyForInboundResolverEndpoint").and_then(Value::as_bool) {
        endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint = only;
    }
    Ok(())
}

/// Checks that an endpoint can have private names.
fn check_private_dns(vpc_id: &str, vpc: &Vpc, found: &Found) -> Result<(), ServiceError> {
    if !(vpc.enable_dns_support && vpc.enable_dns_hostnames) {
        let message = format!(
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for \
             {vpc_id}"
        );
        return Err(error("InvalidParameter", message));
    }
    if found.service.private_dns_names.is_empty() || !found.service.is_verified() {
        let name = &found.name;
        let message =
            format!("Private DNS can't be enabled because the service {name} does not provide a private DNS name.");
        return Err(error("InvalidParameter", message));
    }
    Ok(())
}

/// Checks that the security groups of a request exist.
fn check_groups(context: &Context, groups: &[&str]) -> Result<(), ServiceError> {
    groups.iter().try_for_each(|id| security_groups::existing_group(context, id).map(drop))
}

fn endpoint_type(parameters: Parameters) -> Result<VpcEndpointType, ServiceError> {
    let text = parameters.given_text("VpcEndpointType").unwrap_or("Gateway");
    serde_json::from_value(json!(text)).map_err(|_| {
        let types = VpcEndpointType::WORDS.join(", ");
        error(
            "InvalidParameterValue",
            format!("zonal does not support VPC endpoints of the type {text}; it supports {types}"),
        )
    })
}

/// The service of a new endpoint. The routes of a Gateway endpoint are not in zonal: it can be of a Region's service that
/// zonal does not know.
fn service_of<'a>(
    context: &Context<'a>,
    vpc: &Vpc,
    parameters: Parameters,
    kind: VpcEndpointType,
) -> Result<Option<Found<'a>>, ServiceError> {
    let name = parameters.given_text("ServiceName").ok_or_else(|| missing("ServiceName"))?;
    let region = parameters.given_text("ServiceRegion").unwrap_or(&vpc.region);
    let found = find_named(context, name, &vpc.region, kind);
    let found = found.filter(|found| parameters.get("ServiceRegion").is_none() || found.service.region == region);
    let is_gateway = kind == VpcEndpointType::Gateway && name.starts_with("com.amazonaws.");
    match found {
        None if !is_gateway => {
            Err(error("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist")))
        }
        found => Ok(found),
    }
}

// Operations.

fn create_vpc_endpoint(context: &Context, parameters: Parameters) -> WriteResult {
    let vpc_id = parameters.text("VpcId");
    let vpc = existing_vpc(context, vpc_id)?;
    let token = ClientToken::of(parameters);
    if let Some(token) = &token {
        let visible = |endpoint: &VpcEndpoint| {
            context.manifest().vpcs.get(&endpoint.vpc_id).is_some_and(|vpc| has_vpc(context, vpc))
        };
        let mut all = context.manifest().vpc_endpoints.iter();
        if let Some((id, endpoint)) = all.find(|(_, endpoint)| token.is_of(&endpoint.aws) && visible(endpoint)) {
            token.check(&endpoint.aws)?;
            let value = endpoint_value(context, id, endpoint, vpc);
            let result = json!({"VpcEndpoint": value, "ClientToken": token.text});
            return Ok(Written { edits: Vec::new(), result });
        }
    }
    let kind = endpoint_type(parameters)?;
    let found = service_of(context, vpc, parameters, kind)?;
    let families = Families::of(parameters);
    let preset = found.as_ref().and_then(|found| found.preset);
    let needs_acceptance = found.as_ref().is_some_and(|found| needs_acceptance(&found.service));
    let mut endpoint = VpcEndpoint {
        vpc_endpoint_type: kind,
        service_name: if preset.is_some() { Id::new() } else { parameters.text("ServiceName").into() },
        service: preset.map(str::to_string),
        vpc_id: vpc_id.into(),
        state: if needs_acceptance { EndpointState::PendingAcceptance } else { EndpointState::Available },
        dns_name_suffix: (kind == VpcEndpointType::Interface).then(|| random("").trim_start_matches('-')[..8].into()),
        private_dns_enabled: false,
        private_dns_scope: PrivateDnsScope::Vpc,
        dns_options: DnsOptions { dns_record_ip_type: families.record_type(), ..DnsOptions::default() },
        client_routing_policy: ClientRoutingPolicy::AvailabilityZoneAffinity,
        network_interfaces: Vec::new(),
        health_check: None,
        name: None,
        tags: Tags::new(),
        aws: AwsData::default(),
    };
    set_dns_options(&mut endpoint, parameters)?;
    if let (VpcEndpointType::Interface, Some(found)) = (kind, &found) {
        let wish = parameters.get("PrivateDnsEnabled").and_then(Value::as_bool);
        let has_private_names = !found.service.private_dns_names.is_empty() && found.service.is_verified();
        endpoint.private_dns_enabled = wish.unwrap_or(has_private_names);
        if endpoint.private_dns_enabled {
            check_private_dns(vpc_id, vpc, found)?;
        }
    }
    let mut addresses = Addresses::of(context, vpc_id, vpc);
    let subnets = subnets(parameters, "SubnetIds");
    if kind == VpcEndpointType::Gateway && !subnets.is_empty() {
        return Err(error("InvalidParameter", "SubnetIds: an endpoint of the type Gateway has no subnets"));
    }
    for subnet in subnets {
        add_interface(context, &mut endpoint, &mut addresses, families, subnet)?;
    }
    let groups = parameters.texts("SecurityGroupIds");
    check_groups(context, &groups)?;
    if kind == VpcEndpointType::Interface {
        let default_group = security_groups::default_id(vpc_id);
        let groups = if groups.is_empty() { vec![default_group.as_str()] } else { groups };
        endpoint.aws.set(GROUPS, json!(groups));
    }
    for member in ["RouteTableIds", "PolicyDocument"] {
        if let Some(value) = parameters.get(member) {
            endpoint.aws.set(member, value.clone());
        }
    }
    endpoint.aws.set("created", context.time());
    token.iter().for_each(|token| token.keep(&mut endpoint.aws));
    tags::set_specified(context, &mut endpoint, parameters, "vpc-endpoint")?;
    let id = random("vpce");
    let result = object(json!({
        "VpcEndpoint": endpoint_value(context, &id, &endpoint, vpc), "ClientToken": token.map(|token| token.text),
    }));
    Ok(Written { edits: vec![endpoint_edit(&id, endpoint)], result })
}

fn modify_vpc_endpoint(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("VpcEndpointId");
    let (endpoint, vpc) = existing_endpoint(context, id)?;
    let mut endpoint = (**endpoint).clone();
    let families = match parameters.get("IpAddressType") {
        Some(_) => Families::of(parameters),
        None => Families::of_endpoint(&endpoint),
    };
    let mut addresses = Addresses::of(context, &endpoint.vpc_id, vpc);
    let removed = parameters.texts("RemoveSubnetIds");
    endpoint.network_interfaces.retain(|interface| !subnet_of(interface, vpc).is_some_and(|id| removed.contains(&id)));
    for subnet in subnets(parameters, "AddSubnetIds") {
        let is_in = |interface: &NetworkInterface| subnet_of(interface, vpc) == Some(subnet.0);
        let has_interface = endpoint.network_interfaces.iter().any(is_in);
        match subnet.1 {
            // The interface in this subnet gets other addresses.
            Some(_) if has_interface => endpoint.network_interfaces.retain(|interface| !is_in(interface)),
            _ if has_interface => continue,
            _ => {}
        }
        add_interface(context, &mut endpoint, &mut addresses, families, subnet)?;
    }
    if parameters.get("IpAddressType").is_some() {
        set_families(context, &mut endpoint, vpc, &mut addresses, families)?;
    }
    set_dns_options(&mut endpoint, parameters)?;
    if let Some(on) = parameters.get("PrivateDnsEnabled").and_then(Value::as_bool) {
        if let (true, Some(found)) = (on, find_service(context, &endpoint, vpc)) {
            check_private_dns(&endpoint.vpc_id, vpc, &found)?;
        }
        endpoint.private_dns_enabled = on;
    }
    check_groups(context, &parameters.texts("AddSecurityGroupIds"))?;
    let groups = group_ids(&endpoint);
    let aws = &mut endpoint.aws;
    if aws.remove("Groups").is_some() {
        aws.set(GROUPS, groups);
    }
    change_list(aws, GROUPS, parameters, "RemoveSecurityGroupIds", "AddSecurityGroupIds");
    change_list(aws, "RouteTableIds", parameters, "RemoveRouteTableIds", "AddRouteTableIds");
    if is_true(parameters, "ResetPolicy") {
        aws.remove("PolicyDocument");
    }
    if let Some(policy) = parameters.get("PolicyDocument") {
        aws.set("PolicyDocument", policy.clone());
    }
    done(vec![endpoint_edit(id, endpoint)])
}

/// Gives all interfaces of an endpoint addresses of these kinds.
fn set_families(
    context: &Context,
    endpoint: &mut VpcEndpoint,
    vpc: &Vpc,
    addresses: &mut Addresses,
    families: Families,
) -> Result<(), ServiceError> {
    for interface in &mut endpoint.network_interfaces {
        let id = subnet_of(interface, vpc).unwrap_or_default().to_string();
        let (_, _, subnet) = existing_subnet(context, &id)?;
        match (families.ipv4, interface.ipv4) {
            (false, _) => interface.ipv4 = None,
            (true, None) => {
                if let IpAddr::V4(address) = addresses.take(&id, subnet, false)? {
                    interface.ipv4 = Some(address);
                }
            }
            (true, Some(_)) => {}
        }
        match (families.ipv6, interface.ipv6) {
            (false, _) => interface.ipv6 = None,
            (true, None) => {
                if let IpAddr::V6(address) = addresses.take(&id, subnet, true)? {
                    interface.ipv6 = Some(address);
                }
            }
            (true, Some(_)) => {}
        }
    }
    Ok(())
}

fn delete_vpc_endpoints(context: &Context, parameters: Parameters) -> WriteResult {
    let (mut edits, mut unsuccessful) = (Vec::new(), Vec::new());
    for id in parameters.texts("VpcEndpointIds") {
        match existing_endpoint(context, id) {
            Ok(_) => {
                edits.push(edits::delete("vpc_endpoints", id));
                edits.extend(zonal_shift::deletions(context, id));
            }
            Err(missing) => unsuccessful.push(failure(id, &missing.code, missing.message)),
        }
    }
    Ok(Written { edits, result: json!({"Unsuccessful": unsuccessful}) })
}
