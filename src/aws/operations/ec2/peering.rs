//! EC2: peering connections of VPCs.

use super::{
    list,
    vpcs::{first_ipv4, vpc},
    wanted,
};
use crate::{
    aws::{
        model::Service::Ec2,
        operations::{Context, Entry, Parameters, ReadResult, filters::Known, object, start, table::read, tag_list},
    },
    manifest::VpcPeeringConnection,
};
use ipnet::IpNet;
use serde_json::{Value, json};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[read(
    Ec2,
    "DescribeVpcPeeringConnections",
    describe_vpc_peering_connections,
    "VpcPeeringConnectionIds Filters MaxResults NextToken DryRun",
)];

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

fn describe_vpc_peering_connections(context: &Context, parameters: Parameters) -> ReadResult {
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
