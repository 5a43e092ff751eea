//! EC2: subnets.

use super::{
    cidr, done, error, flag, is_true, list, missing, tags,
    vpcs::{associations, existing_vpc, has_vpc},
    wanted,
    zones::{az_name, azs},
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits,
            filters::Known,
            identifiers::{arn, derived, random},
            object,
            table::{read, write},
            tag_list,
        },
    },
    manifest::{AwsData, Id, Resource, Subnet, Tags, Vpc, collection::Edit},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};
use std::{collections::HashMap, net::IpAddr, ops::Bound, sync::Arc};

/// The addresses of a subnet that AWS keeps for itself.
const RESERVED_ADDRESSES: u64 = 5;

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(Ec2, "DescribeSubnets", describe_subnets, "SubnetIds Filters MaxResults NextToken DryRun"),
    write(
        Ec2,
        "CreateSubnet",
        create_subnet,
        "VpcId CidrBlock Ipv6CidrBlock Ipv6Native AvailabilityZone AvailabilityZoneId TagSpecifications DryRun",
    )
    .refuses("OutpostArn Ipv4IpamPoolId Ipv4NetmaskLength Ipv6IpamPoolId Ipv6NetmaskLength"),
    write(Ec2, "DeleteSubnet", delete_subnet, "SubnetId DryRun"),
    write(Ec2, "ModifySubnetAttribute", modify_subnet_attribute, "SubnetId EnableDns64").echoes(
        "AssignIpv6AddressOnCreation MapPublicIpOnLaunch MapCustomerOwnedIpOnLaunch CustomerOwnedIpv4Pool \
         PrivateDnsHostnameTypeOnLaunch EnableResourceNameDnsARecordOnLaunch EnableResourceNameDnsAAAARecordOnLaunch \
         EnableLniAtDeviceIndex DisableLniAtDeviceIndex",
    ),
    write(Ec2, "AssociateSubnetCidrBlock", associate_subnet_cidr_block, "SubnetId Ipv6CidrBlock")
        .refuses("Ipv6IpamPoolId Ipv6NetmaskLength"),
    write(Ec2, "DisassociateSubnetCidrBlock", disassociate_subnet_cidr_block, "AssociationId"),
];

/// The prefix of the identifiers of associations of a subnet and a block.
const ASSOCIATION: &str = "subnet-cidr-assoc";

/// The member of `aws` with the options of instances' names.
const NAME_OPTIONS: &str = "PrivateDnsNameOptionsOnLaunch";

/// The options of the names of instances in a subnet.
fn name_options(subnet: &Subnet) -> Value {
    subnet.aws.get(NAME_OPTIONS).cloned().unwrap_or_else(|| {
        json!({
            "HostnameType": "ip-name", "EnableResourceNameDnsARecord": false, "EnableResourceNameDnsAAAARecord": false,
        })
    })
}

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

/// A subnet of a VPC. `used` are the addresses in the VPC that interfaces have.
fn subnet_value(context: &Context, (vpc_id, vpc): (&str, &Vpc), id: &str, subnet: &Subnet, used: &[IpAddr]) -> Value {
    let owner = context.owner(&vpc.owner_id);
    let is_on = |member: &str| subnet.aws.get(member) == Some(&Value::Bool(true));
    let ipv4 = subnet.cidr_blocks.iter().find(|block| matches!(block, IpNet::V4(_)));
    object(json!({
        "SubnetId": id,
        "VpcId": vpc_id,
        "State": "available",
        "CidrBlock": ipv4.map(IpNet::to_string),
        "AvailableIpAddressCount": ipv4.map_or(0, |block| {
            available(block).saturating_sub(used.iter().filter(|ip| block.contains(*ip)).count() as u64)
        }),
        "AvailabilityZone": az_name(context, vpc, &subnet.availability_zone_id),
        "AvailabilityZoneId": subnet.availability_zone_id,
        "DefaultForAz": is_on("DefaultForAz"),
        "MapPublicIpOnLaunch": is_on("MapPublicIpOnLaunch"),
        "MapCustomerOwnedIpOnLaunch": is_on("MapCustomerOwnedIpOnLaunch"),
        "CustomerOwnedIpv4Pool": subnet.aws.text("CustomerOwnedIpv4Pool"),
        "EnableLniAtDeviceIndex": subnet.aws.get("EnableLniAtDeviceIndex"),
        "AssignIpv6AddressOnCreation": is_on("AssignIpv6AddressOnCreation"),
        "OwnerId": owner,
        "Ipv6CidrBlockAssociationSet": associations(ASSOCIATION, id, &subnet.cidr_blocks, true),
        "Tags": tag_list(&subnet.tags, subnet.name.as_deref()),
        "SubnetArn": arn("ec2", &vpc.region, owner, &format!("subnet/{id}")),
        "EnableDns64": subnet.enable_dns64,
        "Ipv6Native": ipv4.is_none(),
        "PrivateDnsNameOptionsOnLaunch": name_options(subnet),
    }))
}

fn describe_subnets(context: &Context, parameters: Parameters) -> ReadResult {
    let vpcs = || context.manifest().vpcs.values().filter(|vpc| has_vpc(context, vpc));
    let exists = |id: &str| vpcs().any(|vpc| vpc.subnets.contains_key(id));
    let ids = wanted(parameters, "SubnetIds", "InvalidSubnetID.NotFound", "subnet", exists)?;
    let used = all_used_addresses(context);
    let used = |vpc_id: &str| used.get(vpc_id).map_or::<&[IpAddr], _>(&[], Vec::as_slice);
    let used = &used;
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
        let all = all.filter(|(_, _, id, _)| ids.has(id));
        all.map(|(vpc_id, vpc, id, subnet)| {
            (format!("{vpc_id}\t{id}"), subnet_value(context, (vpc_id, vpc), id, subnet, used(vpc_id)))
        })
    })
}

/// The subnet with this identifier, its VPC and the VPC's identifier, if it is in the caller's account and Region.
pub(super) fn find_subnet<'a>(context: &Context<'a>, id: &str) -> Option<(&'a Id, &'a Arc<Vpc>, &'a Subnet)> {
    let vpcs = context.manifest().vpcs.iter().filter(|(_, vpc)| has_vpc(context, vpc));
    let mut found = vpcs.filter_map(|(vpc_id, vpc)| Some((vpc_id, vpc, vpc.subnets.get(id)?)));
    found.next()
}

/// The subnet of a request.
///
/// # Errors
///
/// There is no such subnet in the caller's account and Region.
pub(super) fn existing_subnet<'a>(
    context: &Context<'a>,
    id: &str,
) -> Result<(&'a Id, &'a Arc<Vpc>, &'a Subnet), ServiceError> {
    let missing = || error("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist"));
    find_subnet(context, id).ok_or_else(missing)
}

/// The addresses that interfaces of endpoints have, by VPC.
fn all_used_addresses<'a>(context: &Context<'a>) -> HashMap<&'a str, Vec<IpAddr>> {
    let manifest = context.manifest();
    let mut used: HashMap<&str, Vec<IpAddr>> = HashMap::new();
    for endpoint in manifest.vpc_endpoints.values() {
        let addresses = endpoint
            .network_interfaces
            .iter()
            .flat_map(|interface| interface.ipv4.map(IpAddr::V4).into_iter().chain(interface.ipv6.map(IpAddr::V6)));
        used.entry(&endpoint.vpc_id).or_default().extend(addresses);
    }
    for endpoint in manifest.resolver_endpoints.values() {
        used.entry(&endpoint.vpc_id).or_default().extend(endpoint.ip_addresses.iter().map(|address| address.ip));
    }
    used
}

/// The addresses in a VPC that interfaces of endpoints have.
pub(super) fn used_addresses(context: &Context, vpc_id: &str) -> Vec<IpAddr> {
    all_used_addresses(context).remove(vpc_id).unwrap_or_default()
}

fn vpc_edit(id: &str, vpc: Vpc) -> Edit {
    edits::put(id, Resource::Vpc(Arc::new(vpc)))
}

/// Checks that a VPC can have a subnet with a block.
fn check_block(vpc: &Vpc, block: &IpNet, text: &str) -> Result<(), ServiceError> {
    let is_size = match block {
        IpNet::V4(block) => (16..=28).contains(&block.prefix_len()),
        IpNet::V6(_) => true,
    };
    if !is_size || !vpc.cidr_blocks.iter().any(|outer| outer.contains(block)) {
        return Err(error("InvalidSubnet.Range", format!("The CIDR '{text}' is invalid.")));
    }
    let mut others = vpc.subnets.values().flat_map(|subnet| &subnet.cidr_blocks);
    if others.any(|other| other.contains(block) || block.contains(other)) {
        return Err(error("InvalidSubnet.Conflict", format!("The CIDR '{text}' conflicts with another subnet")));
    }
    Ok(())
}

/// Name and ID of the AZ of a new subnet. Without one in the request, it is the first AZ with the fewest subnets of the VPC.
fn az(context: &Context, vpc: &Vpc, parameters: Parameters) -> Result<(String, Id), ServiceError> {
    let azs = azs(context);
    let refused = |parameter: &str, value: &str| {
        let names: Vec<&str> = azs.keys().map(String::as_str).collect();
        let message = format!(
            "Value ({value}) for parameter {parameter} is invalid. Subnets can currently only be created in the following \
             availability zones: {}.",
            names.join(", ")
        );
        error("InvalidParameterValue", message)
    };
    let (name, id) = (parameters.given_text("AvailabilityZone"), parameters.given_text("AvailabilityZoneId"));
    match (name, id) {
        (None, None) => {
            let subnets_in = |az: &Id| vpc.subnets.values().filter(|subnet| subnet.availability_zone_id == *az).count();
            let emptiest = azs.iter().min_by_key(|(_, id)| subnets_in(id));
            emptiest.map(|(name, id)| (name.clone(), id.clone())).ok_or_else(|| missing("AvailabilityZone"))
        }
        (None, Some(id)) => Ok((az_name(context, vpc, id), id.into())),
        (Some(name), None) => {
            let id = azs.get(name).ok_or_else(|| refused("availabilityZone", name))?;
            Ok((name.into(), id.clone()))
        }
        (Some(_), Some(_)) => {
            let message = "The parameters AvailabilityZone and AvailabilityZoneId cannot be used together";
            Err(error("InvalidParameterCombination", message))
        }
    }
}

fn create_subnet(context: &Context, parameters: Parameters) -> WriteResult {
    let vpc_id = parameters.text("VpcId");
    let mut vpc = (**existing_vpc(context, vpc_id)?).clone();
    let (ipv4, ipv6) = (parameters.given_text("CidrBlock"), parameters.given_text("Ipv6CidrBlock"));
    let is_native = is_true(parameters, "Ipv6Native");
    if is_native && ipv6.is_none() {
        return Err(error("MissingParameter", "Either 'ipv6CidrBlock' or 'ipv6IpamPoolId' should be provided."));
    }
    if is_native && ipv4.is_some() {
        let message =
            "When specifying ipv4 parameters, cidrBlock or ipv4IpamPoolId, you cannot set ipv6Native to true.";
        return Err(error("InvalidParameterCombination", message));
    }
    if !is_native && ipv4.is_none() {
        return Err(error("MissingParameter", "Either 'cidrBlock' or 'ipv4IpamPoolId' should be provided."));
    }
    let mut blocks: Vec<IpNet> = Vec::new();
    if let Some(text) = ipv4 {
        let block: Ipv4Net = cidr("CidrBlock", text)?;
        blocks.push(block.trunc().into());
    }
    if let Some(text) = ipv6 {
        let block: Ipv6Net = cidr("Ipv6CidrBlock", text)?;
        blocks.push(block.trunc().into());
    }
    for (block, text) in blocks.iter().zip(ipv4.into_iter().chain(ipv6)) {
        check_block(&vpc, block, text)?;
    }
    let (name, az) = az(context, &vpc, parameters)?;
    let is_known = vpc.availability_zones.values().any(|known| *known == az);
    if !is_known {
        vpc.availability_zones.entry(name).or_insert(az.clone());
    }
    let mut subnet = Subnet {
        availability_zone_id: az,
        cidr_blocks: blocks,
        enable_dns64: false,
        name: None,
        tags: Tags::new(),
        aws: AwsData::default(),
    };
    if is_native {
        subnet.aws.set("AssignIpv6AddressOnCreation", true);
    }
    tags::set_specified(context, &mut subnet, parameters, "subnet")?;
    let id = random("subnet");
    let result = json!({"Subnet": subnet_value(context, (vpc_id, &vpc), &id, &subnet, &[])});
    vpc.subnets.insert(id, subnet);
    Ok(Written { edits: vec![vpc_edit(vpc_id, vpc)], result })
}

fn delete_subnet(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("SubnetId");
    let (vpc_id, vpc, subnet) = existing_subnet(context, id)?;
    let is_in_use = used_addresses(context, vpc_id)
        .iter()
        .any(|address| subnet.cidr_blocks.iter().any(|block| block.contains(address)))
        || context.manifest().transit_gateways.values().any(|gateway| {
            gateway.attachments.iter().any(|attachment| attachment.subnet_ids.iter().any(|other| other == id))
        });
    if is_in_use {
        let message = format!("The subnet '{id}' has dependencies and cannot be deleted.");
        return Err(error("DependencyViolation", message));
    }
    let mut changed = (**vpc).clone();
    changed.subnets.remove(id);
    done(vec![vpc_edit(vpc_id, changed)])
}

fn modify_subnet_attribute(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("SubnetId");
    let (vpc_id, vpc, _) = existing_subnet(context, id)?;
    let mut vpc = (**vpc).clone();
    if let Some(subnet) = vpc.subnets.get_mut(id) {
        if let Some(on) = flag(parameters, "EnableDns64") {
            subnet.enable_dns64 = on;
        }
        for name in ["AssignIpv6AddressOnCreation", "MapPublicIpOnLaunch", "MapCustomerOwnedIpOnLaunch"] {
            if let Some(on) = flag(parameters, name) {
                subnet.aws.set(name, on);
            }
        }
        for name in ["CustomerOwnedIpv4Pool", "EnableLniAtDeviceIndex"] {
            if let Some(value) = parameters.get(name) {
                subnet.aws.set(name, value.clone());
            }
        }
        let mut options = name_options(subnet);
        if let Some(kind) = parameters.get("PrivateDnsHostnameTypeOnLaunch") {
            options["HostnameType"] = kind.clone();
        }
        for (parameter, member) in [
            ("EnableResourceNameDnsARecordOnLaunch", "EnableResourceNameDnsARecord"),
            ("EnableResourceNameDnsAAAARecordOnLaunch", "EnableResourceNameDnsAAAARecord"),
        ] {
            if let Some(on) = flag(parameters, parameter) {
                options[member] = on.into();
            }
        }
        if options != name_options(subnet) {
            subnet.aws.set(NAME_OPTIONS, options);
        }
        if flag(parameters, "DisableLniAtDeviceIndex") == Some(true) {
            subnet.aws.remove("EnableLniAtDeviceIndex");
        }
    }
    done(vec![vpc_edit(vpc_id, vpc)])
}

/// The result of a change of the association of a subnet and a block.
fn association_result(id: &str, block: &IpNet, state: &str) -> Value {
    let mut association = associations(ASSOCIATION, id, &[*block], true).pop().unwrap_or_default();
    association["Ipv6CidrBlockState"] = json!({"State": state});
    json!({"SubnetId": id, "Ipv6CidrBlockAssociation": association})
}

fn associate_subnet_cidr_block(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("SubnetId");
    let (vpc_id, vpc, _) = existing_subnet(context, id)?;
    let text = parameters.given_text("Ipv6CidrBlock").ok_or_else(|| missing("Ipv6CidrBlock"))?;
    let block: Ipv6Net = cidr("Ipv6CidrBlock", text)?;
    let block = IpNet::from(block.trunc());
    check_block(vpc, &block, text)?;
    let mut vpc = (**vpc).clone();
    if let Some(subnet) = vpc.subnets.get_mut(id) {
        subnet.cidr_blocks.push(block);
    }
    Ok(Written { edits: vec![vpc_edit(vpc_id, vpc)], result: association_result(id, &block, "associated") })
}

fn disassociate_subnet_cidr_block(context: &Context, parameters: Parameters) -> WriteResult {
    let wanted = parameters.text("AssociationId");
    let vpcs = context.manifest().vpcs.iter().filter(|(_, vpc)| has_vpc(context, vpc));
    let subnets = vpcs.flat_map(|(vpc_id, vpc)| vpc.subnets.iter().map(move |(id, subnet)| (vpc_id, vpc, id, subnet)));
    let mut blocks = subnets.flat_map(|(vpc_id, vpc, id, subnet)| {
        let ipv6 = subnet.cidr_blocks.iter().filter(|block| matches!(block, IpNet::V6(_)));
        ipv6.map(move |block| (vpc_id, vpc, id, block))
    });
    let found = blocks.find(|(_, _, id, block)| derived(ASSOCIATION, &[id, &block.to_string()]) == wanted);
    let (vpc_id, vpc, id, block) = found.ok_or_else(|| {
        let message = format!("The subnet CIDR block association ID '{wanted}' does not exist");
        error("InvalidSubnetCidrBlockAssociationID.NotFound", message)
    })?;
    if used_addresses(context, vpc_id).iter().any(|address| block.contains(address)) {
        let message = format!("The CIDR '{block}' has addresses of endpoints and cannot be disassociated");
        return Err(error("DependencyViolation", message));
    }
    let mut changed = (**vpc).clone();
    if let Some(subnet) = changed.subnets.get_mut(id) {
        subnet.cidr_blocks.retain(|other| other != block);
    }
    Ok(Written { edits: vec![vpc_edit(vpc_id, changed)], result: association_result(id, block, "disassociated") })
}
