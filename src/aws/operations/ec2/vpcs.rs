//! EC2: VPCs.

use super::{cidr, done, error, flag, is_true, list, missing, security_groups, tags, wanted};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits,
            filters::Known,
            identifiers::{derived, random},
            networks::may_be_entry_point,
            object, start,
            table::{read, write},
            tag_list,
        },
    },
    clock::random_seed,
    manifest::{AwsData, Direction, PeeringStatus, Resource, Tags, Vpc, VpcPeeringConnection, collection::Edit},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// The maximum number of IPv4 blocks of a VPC, and of IPv6 blocks.
const MAX_BLOCKS: (usize, usize) = (5, 1);

/// The maximum number of VPCs of an account.
const MAX_VPCS: usize = 10_000;

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(Ec2, "DescribeVpcs", describe_vpcs, "VpcIds Filters MaxResults NextToken DryRun"),
    read(Ec2, "DescribeVpcAttribute", describe_vpc_attribute, "VpcId Attribute DryRun"),
    write(Ec2, "CreateVpc", create_vpc, "CidrBlock Ipv6CidrBlock AmazonProvidedIpv6CidrBlock TagSpecifications DryRun")
        .echoes("InstanceTenancy Ipv6Pool")
        .refuses(
            "Ipv4IpamPoolId Ipv4NetmaskLength Ipv6IpamPoolId Ipv6NetmaskLength Ipv6CidrBlockNetworkBorderGroup \
         VpcEncryptionControl",
        ),
    write(Ec2, "DeleteVpc", delete_vpc, "VpcId DryRun"),
    write(Ec2, "ModifyVpcAttribute", modify_vpc_attribute, "VpcId EnableDnsSupport EnableDnsHostnames")
        .echoes("EnableNetworkAddressUsageMetrics"),
    write(
        Ec2,
        "AssociateVpcCidrBlock",
        associate_vpc_cidr_block,
        "VpcId CidrBlock Ipv6CidrBlock AmazonProvidedIpv6CidrBlock",
    )
    .echoes("Ipv6Pool")
    .refuses("Ipv4IpamPoolId Ipv4NetmaskLength Ipv6IpamPoolId Ipv6NetmaskLength Ipv6CidrBlockNetworkBorderGroup"),
    write(Ec2, "DisassociateVpcCidrBlock", disassociate_vpc_cidr_block, "AssociationId"),
];

/// The prefix of the identifiers of associations of a VPC and a block.
const ASSOCIATION: &str = "vpc-cidr-assoc";
/// The member of `aws` with the setting that no answer depends on.
const USAGE_METRICS: &str = "EnableNetworkAddressUsageMetrics";

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

/// Whether AWS made a VPC by itself. zonal makes none.
pub(super) fn is_default(vpc: &Vpc) -> bool {
    vpc.aws.get("IsDefault") == Some(&Value::Bool(true))
}

/// The VPC of a request.
///
/// # Errors
///
/// There is no such VPC in the caller's account and Region.
pub(super) fn existing_vpc<'a>(context: &Context<'a>, id: &str) -> Result<&'a Arc<Vpc>, ServiceError> {
    vpc(context, id).ok_or_else(|| error("InvalidVpcID.NotFound", format!("The vpc ID '{id}' does not exist")))
}

pub(super) fn first_ipv4(blocks: &[IpNet]) -> Option<String> {
    blocks.iter().find(|block| matches!(block, IpNet::V4(_))).map(IpNet::to_string)
}

/// The associations of IPv4 or IPv6 blocks.
pub(super) fn associations(prefix: &str, id: &str, blocks: &[IpNet], is_ipv6: bool) -> Vec<Value> {
    let blocks = blocks.iter().filter(|block| matches!(block, IpNet::V6(_)) == is_ipv6);
    let association = |block: &IpNet| {
        let block = block.to_string();
        let association_id = derived(prefix, &[id, &block]);
        let state = json!({"State": "associated"});
        match is_ipv6 {
            true => json!({
                "AssociationId": association_id, "Ipv6CidrBlock": block, "Ipv6CidrBlockState": state,
                "IpSource": "amazon",
            }),
            false => json!({"AssociationId": association_id, "CidrBlock": block, "CidrBlockState": state}),
        }
    };
    blocks.map(association).collect()
}

/// The associations of a VPC's IPv6 blocks.
fn ipv6_associations(id: &str, vpc: &Vpc) -> Vec<Value> {
    let mut associations = associations(ASSOCIATION, id, &vpc.cidr_blocks, true);
    for association in &mut associations {
        association["Ipv6Pool"] = vpc.aws.text("Ipv6Pool").unwrap_or("Amazon").into();
        association["NetworkBorderGroup"] = vpc.region.clone().into();
    }
    associations
}

fn vpc_value(context: &Context, id: &str, vpc: &Vpc) -> Value {
    object(json!({
        "VpcId": id,
        "State": "available",
        "CidrBlock": first_ipv4(&vpc.cidr_blocks),
        "DhcpOptionsId": vpc.dhcp_options_id.as_deref().unwrap_or("default"),
        "InstanceTenancy": vpc.aws.text("InstanceTenancy").unwrap_or("default"),
        "IsDefault": is_default(vpc),
        "OwnerId": context.owner(&vpc.owner_id),
        "CidrBlockAssociationSet": associations(ASSOCIATION, id, &vpc.cidr_blocks, false),
        "Ipv6CidrBlockAssociationSet": ipv6_associations(id, vpc),
        "Tags": tag_list(&vpc.tags, vpc.name.as_deref()),
    }))
}

fn describe_vpcs(context: &Context, parameters: Parameters) -> ReadResult {
    let exists = |id: &str| vpc(context, id).is_some();
    let ids = wanted(parameters, "VpcIds", "InvalidVpcID.NotFound", "vpc", exists)?;
    list(parameters, "Vpcs", VPC_FILTERS, |after| {
        let all = context.manifest().vpcs.range_from(start(after)).filter(|(_, vpc)| has_vpc(context, vpc));
        let all = all.filter(|(id, _)| ids.has(id));
        all.map(|(id, vpc)| (id.clone(), vpc_value(context, id, vpc)))
    })
}

fn describe_vpc_attribute(context: &Context, parameters: Parameters) -> ReadResult {
    let id = parameters.text("VpcId");
    let vpc = existing_vpc(context, id)?;
    let (member, value) = match parameters.text("Attribute") {
        "enableDnsSupport" => ("EnableDnsSupport", vpc.enable_dns_support),
        "enableDnsHostnames" => ("EnableDnsHostnames", vpc.enable_dns_hostnames),
        _ => ("EnableNetworkAddressUsageMetrics", vpc.aws.get(USAGE_METRICS) == Some(&Value::Bool(true))),
    };
    let mut result = json!({"VpcId": id});
    result[member] = json!({"Value": value});
    Ok(result)
}

fn vpc_edit(id: &str, vpc: Vpc) -> Edit {
    edits::put(id, Resource::Vpc(Arc::new(vpc)))
}

/// The IPv4 block of a parameter: /16 to /28. Its host bits are cleared, as AWS does.
fn ipv4_block(text: &str) -> Result<IpNet, ServiceError> {
    let block: Ipv4Net = cidr("CidrBlock", text)?;
    let first = block.network();
    // As in AWS: no VPC has these addresses.
    let is_special = first.is_link_local() || first.is_multicast() || first.is_unspecified();
    match block.prefix_len() {
        16..=28 if !is_special => Ok(block.trunc().into()),
        _ => Err(error("InvalidVpc.Range", format!("The CIDR '{text}' is invalid."))),
    }
}

/// The IPv6 block of a request: the given one, or a random one of the size that AWS gives.
fn ipv6_block(parameters: Parameters) -> Result<Option<IpNet>, ServiceError> {
    match (parameters.given_text("Ipv6CidrBlock"), is_true(parameters, "AmazonProvidedIpv6CidrBlock")) {
        (None, false) => Ok(None),
        (None, true) => Ok(Some(random_ipv6_block())),
        (Some(text), false) => {
            let block: Ipv6Net = cidr("Ipv6CidrBlock", text)?;
            match block.prefix_len() {
                44..=60 => Ok(Some(block.trunc().into())),
                _ => Err(error("InvalidVpc.Range", format!("The CIDR '{text}' is invalid."))),
            }
        }
        (Some(_), true) => {
            let message = "The parameters Ipv6CidrBlock and AmazonProvidedIpv6CidrBlock cannot be used together";
            Err(error("InvalidParameterCombination", message))
        }
    }
}

/// A /56 of unique local addresses (RFC 4193).
fn random_ipv6_block() -> IpNet {
    let (random, _) = random_seed();
    let network = (0xfd << 120) | (u128::from(random >> 16) << 72);
    Ipv6Net::new_assert(Ipv6Addr::from_bits(network), 56).into()
}

/// The address that AWS's resolver has in a block: the first address plus two. Empty if this address is an entry point already,
/// or if the caller may not use it as one.
fn resolver_addresses(context: &Context, block: &IpNet) -> Vec<IpAddr> {
    let IpAddr::V4(first) = block.network() else { return Vec::new() };
    let address = IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() + 2));
    let manifest = context.manifest();
    let inbound = manifest.resolver_endpoints.values().filter(|endpoint| endpoint.direction != Direction::Outbound);
    let is_used = manifest.vpcs.values().any(|vpc| vpc.resolver_addresses.contains(&address))
        || inbound.flat_map(|endpoint| &endpoint.ip_addresses).any(|other| other.ip == address);
    if is_used || !may_be_entry_point(context, address) { Vec::new() } else { vec![address] }
}

/// Checks that the caller's account may have one more VPC: zonal keeps all of them in memory.
fn check_count(context: &Context) -> Result<(), ServiceError> {
    let Some(account) = context.account() else { return Ok(()) };
    let count = context.manifest().vpcs.values().filter(|vpc| vpc.owner_id == account).count();
    match count < MAX_VPCS {
        true => Ok(()),
        false => Err(error("VpcLimitExceeded", format!("An account has at most {MAX_VPCS} VPCs"))),
    }
}

fn create_vpc(context: &Context, parameters: Parameters) -> WriteResult {
    check_count(context)?;
    let block = ipv4_block(parameters.given_text("CidrBlock").ok_or_else(|| missing("CidrBlock"))?)?;
    let mut vpc = Vpc {
        owner_id: context.account().unwrap_or_default().into(),
        region: context.caller.region.clone(),
        cidr_blocks: vec![block],
        resolver_addresses: resolver_addresses(context, &block),
        enable_dns_support: true,
        enable_dns_hostnames: false,
        autodefined_reverse: None,
        dnssec_validation: None,
        availability_zones: BTreeMap::new(),
        subnets: BTreeMap::new(),
        profiles: Vec::new(),
        profile_id: None,
        firewall_fail_open: None,
        dhcp_options_id: None,
        name: None,
        tags: Tags::new(),
        aws: AwsData::default(),
    };
    vpc.cidr_blocks.extend(ipv6_block(parameters)?);
    if let Some(tenancy) = parameters.given_text("InstanceTenancy") {
        vpc.aws.set("InstanceTenancy", tenancy);
    }
    keep_pool(&mut vpc, parameters);
    tags::set_specified(context, &mut vpc, parameters, "vpc")?;
    let id = random("vpc");
    let result = json!({"Vpc": vpc_value(context, &id, &vpc)});
    Ok(Written { edits: vec![vpc_edit(&id, vpc)], result })
}

fn keep_pool(vpc: &mut Vpc, parameters: Parameters) {
    if let Some(pool) = parameters.given_text("Ipv6Pool") {
        vpc.aws.set("Ipv6Pool", pool);
    }
}

/// Whether a peering connection connects its VPCs, or may do so.
pub(super) fn is_alive(peering: &VpcPeeringConnection) -> bool {
    use PeeringStatus::{Active, InitiatingRequest, PendingAcceptance, Provisioning};
    matches!(peering.status, Active | InitiatingRequest | PendingAcceptance | Provisioning)
}

fn delete_vpc(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("VpcId");
    let vpc = existing_vpc(context, id)?;
    let manifest = context.manifest();
    let peerings =
        || manifest.vpc_peering_connections.iter().filter(|(_, peering)| peering.vpc_ids.iter().any(|of| of == id));
    let default_group = security_groups::default_id(id);
    let mut groups = manifest.security_groups.iter().filter(|(_, group)| group.vpc_id.as_deref() == Some(id));
    let is_needed = !vpc.subnets.is_empty()
        || manifest.vpc_endpoints.values().any(|endpoint| endpoint.vpc_id == id)
        || manifest.resolver_endpoints.values().any(|endpoint| endpoint.vpc_id == id)
        || groups.any(|(group, _)| *group != default_group)
        || peerings().any(|(_, peering)| is_alive(peering))
        || manifest
            .transit_gateways
            .values()
            .any(|gateway| gateway.attachments.iter().any(|attachment| attachment.vpc_id.as_deref() == Some(id)));
    if is_needed {
        return Err(error("DependencyViolation", format!("The vpc '{id}' has dependencies and cannot be deleted.")));
    }
    let mut edits = vec![edits::delete("vpcs", id)];
    edits.extend(peerings().map(|(peering, _)| edits::delete("vpc_peering_connections", peering)));
    if manifest.security_groups.contains_key(&default_group) {
        edits.push(edits::delete("security_groups", &default_group));
    }
    done(edits)
}

fn modify_vpc_attribute(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("VpcId");
    let mut vpc = (**existing_vpc(context, id)?).clone();
    let names = ["EnableDnsSupport", "EnableDnsHostnames", "EnableNetworkAddressUsageMetrics"];
    let given = names.map(|name| flag(parameters, name));
    match given {
        [Some(on), None, None] => vpc.enable_dns_support = on,
        [None, Some(on), None] => vpc.enable_dns_hostnames = on,
        [None, None, Some(on)] => vpc.aws.set(USAGE_METRICS, on),
        [None, None, None] => return Err(missing(names[0])),
        _ => return Err(error("InvalidParameterCombination", "A request can modify only one attribute of a VPC")),
    }
    done(vec![vpc_edit(id, vpc)])
}

fn associate_vpc_cidr_block(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("VpcId");
    let mut vpc = (**existing_vpc(context, id)?).clone();
    let ipv4 = parameters.given_text("CidrBlock").map(ipv4_block).transpose()?;
    let block = match (ipv4, ipv6_block(parameters)?) {
        (Some(block), None) | (None, Some(block)) => block,
        (None, None) => return Err(missing("CidrBlock")),
        (Some(_), Some(_)) => {
            let message = "A request can associate one block: an IPv4 block or an IPv6 block";
            return Err(error("InvalidParameterCombination", message));
        }
    };
    let is_ipv6 = matches!(block, IpNet::V6(_));
    let max = if is_ipv6 { MAX_BLOCKS.1 } else { MAX_BLOCKS.0 };
    if vpc.cidr_blocks.iter().filter(|other| matches!(other, IpNet::V6(_)) == is_ipv6).count() >= max {
        let message = format!("This network {id} has met its maximum number of allowed CIDRs: {max}");
        return Err(error("CidrLimitExceeded", message));
    }
    if let Some(other) = vpc.cidr_blocks.iter().find(|other| other.contains(&block) || block.contains(*other)) {
        let message = format!("The CIDR '{block}' conflicts with the CIDR '{other}' of the VPC");
        return Err(error("InvalidVpc.Range", message));
    }
    vpc.cidr_blocks.push(block);
    keep_pool(&mut vpc, parameters);
    let result = association_result(id, &vpc, &block, "associating");
    Ok(Written { edits: vec![vpc_edit(id, vpc)], result })
}

/// The result of a change of an association: it has the state that AWS shows while the change is made.
fn association_result(id: &str, vpc: &Vpc, block: &IpNet, state: &str) -> Value {
    let (member, name, all) = match block {
        IpNet::V4(_) => ("CidrBlockAssociation", "CidrBlock", associations(ASSOCIATION, id, &vpc.cidr_blocks, false)),
        IpNet::V6(_) => ("Ipv6CidrBlockAssociation", "Ipv6CidrBlock", ipv6_associations(id, vpc)),
    };
    let text = block.to_string();
    let mut association = all.into_iter().find(|found| found[name] == *text).unwrap_or_default();
    association[format!("{name}State")] = json!({"State": state});
    let mut result = json!({"VpcId": id});
    result[member] = association;
    result
}

fn disassociate_vpc_cidr_block(context: &Context, parameters: Parameters) -> WriteResult {
    let wanted = parameters.text("AssociationId");
    let vpcs = context.manifest().vpcs.iter().filter(|(_, vpc)| has_vpc(context, vpc));
    let mut blocks = vpcs.flat_map(|(id, vpc)| vpc.cidr_blocks.iter().map(move |block| (id, vpc, block)));
    let found = blocks.find(|(id, _, block)| derived(ASSOCIATION, &[id, &block.to_string()]) == wanted);
    let (id, vpc, block) = found.ok_or_else(|| {
        let message = format!("The vpc CIDR block association ID '{wanted}' does not exist");
        error("InvalidVpcCidrBlockAssociationIdError.NotFound", message)
    })?;
    if first_ipv4(&vpc.cidr_blocks).is_some_and(|first| first == block.to_string()) {
        let message = format!(
            "The vpc CIDR block with association ID {wanted} may not be disassociated. It is the primary IPv4 CIDR block \
             of the VPC"
        );
        return Err(error("OperationNotPermitted", message));
    }
    if vpc.subnets.values().flat_map(|subnet| &subnet.cidr_blocks).any(|inner| block.contains(inner)) {
        let message = format!("The CIDR '{block}' has subnets and cannot be disassociated");
        return Err(error("DependencyViolation", message));
    }
    let result = association_result(id, vpc, block, "disassociating");
    let mut changed = (**vpc).clone();
    changed.cidr_blocks.retain(|other| other != block);
    Ok(Written { edits: vec![vpc_edit(id, changed)], result })
}
