//! EC2: peering connections of VPCs.

use super::{
    done, error, list, tags,
    vpcs::{existing_vpc, first_ipv4, is_alive, vpc},
    wanted,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits,
            filters::Known,
            identifiers::random,
            object, start,
            table::{read, write},
            tag_list,
        },
    },
    manifest::{AwsData, PeeringStatus, Resource, Tags, VpcPeeringConnection, collection::Edit},
};
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(
        Ec2,
        "DescribeVpcPeeringConnections",
        describe_vpc_peering_connections,
        "VpcPeeringConnectionIds Filters MaxResults NextToken DryRun",
    ),
    write(
        Ec2,
        "CreateVpcPeeringConnection",
        create_peering,
        "VpcId PeerVpcId PeerOwnerId PeerRegion TagSpecifications DryRun",
    )
    .refuses("RequesterPeeringConnectionOptions"),
    write(Ec2, "AcceptVpcPeeringConnection", accept_peering, "VpcPeeringConnectionId DryRun"),
    write(Ec2, "RejectVpcPeeringConnection", reject_peering, "VpcPeeringConnectionId DryRun"),
    write(Ec2, "DeleteVpcPeeringConnection", delete_peering, "VpcPeeringConnectionId DryRun"),
    write(
        Ec2,
        "ModifyVpcPeeringConnectionOptions",
        modify_options,
        "VpcPeeringConnectionId AccepterPeeringConnectionOptions RequesterPeeringConnectionOptions DryRun",
    )
    .refuses(
        "AccepterPeeringConnectionOptions.AllowEgressFromLocalClassicLinkToRemoteVpc \
         AccepterPeeringConnectionOptions.AllowEgressFromLocalVpcToRemoteClassicLink \
         AccepterPeeringConnectionOptions.AllowMultipathResilience \
         AccepterPeeringConnectionOptions.MultipathResilienceMode \
         RequesterPeeringConnectionOptions.AllowEgressFromLocalClassicLinkToRemoteVpc \
         RequesterPeeringConnectionOptions.AllowEgressFromLocalVpcToRemoteClassicLink \
         RequesterPeeringConnectionOptions.AllowMultipathResilience \
         RequesterPeeringConnectionOptions.MultipathResilienceMode",
    ),
];

/// The seconds for which a deleted or rejected connection can be described.
/// The maximum number of peering connections that an account has requested and other accounts have not accepted. As in AWS.
const MAX_OUTSTANDING: usize = 25;
/// The maximum number of forgotten connections that a request deletes.
const MAX_FORGOTTEN: usize = 32;

const SECONDS_AFTER_END: i64 = 3600;
/// The sides of a connection, in the order of its VPCs.
const SIDES: [&str; 2] = ["requester", "accepter"];

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

/// Whether a side lets the other one resolve its names.
fn allows_dns(peering: &VpcPeeringConnection, side: usize) -> bool {
    let own = peering.aws.get("options").and_then(|options| options.get(SIDES.get(side)?)?.as_bool());
    own.unwrap_or(peering.allow_remote_vpc_dns_resolution)
}

fn peer_value(context: &Context, id: &str, peering: &VpcPeeringConnection, side: usize) -> Value {
    let vpc = context.manifest().vpcs.get(id);
    let blocks = vpc.map_or::<&[IpNet], _>(&[], |vpc| &vpc.cidr_blocks);
    let of_family = |is_ipv6: bool| blocks.iter().filter(move |block| matches!(block, IpNet::V6(_)) == is_ipv6);
    let ipv4: Vec<Value> = of_family(false).map(|block| json!({"CidrBlock": block.to_string()})).collect();
    let ipv6: Vec<Value> = of_family(true).map(|block| json!({"Ipv6CidrBlock": block.to_string()})).collect();
    object(json!({
        "VpcId": id, "OwnerId": context.owner(context.vpc_owner(id)), "Region": context.vpc_region(id),
        "CidrBlock": first_ipv4(blocks), "CidrBlockSet": ipv4, "Ipv6CidrBlockSet": ipv6,
        "PeeringOptions": {
            "AllowDnsResolutionFromRemoteVpc": allows_dns(peering, side),
            "AllowEgressFromLocalClassicLinkToRemoteVpc": false,
            "AllowEgressFromLocalVpcToRemoteClassicLink": false,
        },
    }))
}

/// The text of a status, as AWS shows it.
fn status_message(context: &Context, peering: &VpcPeeringConnection, status: PeeringStatus) -> String {
    let accepter = || {
        let owner = peering.vpc_ids.get(1).map_or("", |vpc| context.vpc_owner(vpc));
        context.owner(owner).to_string()
    };
    match status {
        PeeringStatus::InitiatingRequest => format!("Initiating Request to {}", accepter()),
        PeeringStatus::PendingAcceptance => format!("Pending Acceptance by {}", accepter()),
        PeeringStatus::Active => "Active".into(),
        PeeringStatus::Rejected => "Inactive".into(),
        PeeringStatus::Deleted => match peering.aws.text("ended_by") {
            Some(account) => format!("Deleted by {account}"),
            None => "Deleted".into(),
        },
        other => other.word().into(),
    }
}

fn peering_value(context: &Context, id: &str, peering: &VpcPeeringConnection, status: PeeringStatus) -> Value {
    let side = |at: usize| peering.vpc_ids.get(at).map(|vpc| peer_value(context, vpc, peering, at));
    object(json!({
        "VpcPeeringConnectionId": id, "RequesterVpcInfo": side(0), "AccepterVpcInfo": side(1),
        "Status": {"Code": status, "Message": status_message(context, peering, status)},
        "Tags": tag_list(&peering.tags, peering.name.as_deref()),
    }))
}

/// Whether a side of a connection is in the caller's account and Region.
pub(super) fn is_here(context: &Context, peering: &VpcPeeringConnection) -> bool {
    peering.vpc_ids.iter().any(|id| vpc(context, id).is_some())
}

fn describe_vpc_peering_connections(context: &Context, parameters: Parameters) -> ReadResult {
    let all = &context.manifest().vpc_peering_connections;
    let exists = |id: &str| all.get(id).is_some_and(|peering| is_here(context, peering));
    let code = "InvalidVpcPeeringConnectionID.NotFound";
    let ids = wanted(parameters, "VpcPeeringConnectionIds", code, "vpcPeeringConnection", exists)?;
    list(parameters, "VpcPeeringConnections", PEERING_FILTERS, |after| {
        let visible = all.range_from(start(after)).filter(|(_, peering)| is_here(context, peering));
        let visible = visible.filter(|(id, _)| ids.has(id));
        visible.map(|(id, peering)| (id.clone(), peering_value(context, id, peering, peering.status)))
    })
}

fn peering_edit(id: &str, peering: VpcPeeringConnection) -> Edit {
    edits::put(id, Resource::VpcPeeringConnection(Arc::new(peering)))
}

/// The connection of a request.
fn existing_peering<'a>(context: &Context<'a>, id: &str) -> Result<&'a Arc<VpcPeeringConnection>, ServiceError> {
    let found = context.manifest().vpc_peering_connections.get(id).filter(|peering| is_here(context, peering));
    let message = || format!("The vpcPeeringConnection ID '{id}' does not exist");
    found.ok_or_else(|| error("InvalidVpcPeeringConnectionID.NotFound", message()))
}

/// Whether the VPC of a side is in the caller's account and Region.
fn has_side(context: &Context, peering: &VpcPeeringConnection, side: usize) -> bool {
    peering.vpc_ids.get(side).is_some_and(|id| vpc(context, id).is_some())
}

/// Whether a connection ended so long ago that it is not described any more.
fn is_forgotten(context: &Context, peering: &VpcPeeringConnection) -> bool {
    let ended = peering.aws.text("ended").and_then(|text| text.parse::<Timestamp>().ok());
    !is_alive(peering) && ended.is_some_and(|ended| ended.as_second() + SECONDS_AFTER_END < context.now)
}

fn create_peering(context: &Context, parameters: Parameters) -> WriteResult {
    let (own, peer) = (parameters.text("VpcId"), parameters.text("PeerVpcId"));
    existing_vpc(context, own)?;
    let region = parameters.given_text("PeerRegion").unwrap_or(&context.caller.region);
    let owner = parameters.given_text("PeerOwnerId");
    let manifest = context.manifest();
    let found = manifest.vpcs.get(peer).filter(|vpc| vpc.region == region);
    let found = found.filter(|vpc| match owner {
        Some(owner) => vpc.owner_id.is_empty() || vpc.owner_id == owner,
        None => context.sees(&vpc.owner_id),
    });
    if found.is_none() || own == peer {
        let message =
            format!("The vpc ID '{peer}' does not exist in the Region {region} of this account, or is the same VPC");
        return Err(error("InvalidVpcID.NotFound", message));
    }
    let all = manifest.vpc_peering_connections.iter();
    let connects = |other: &VpcPeeringConnection| [own, peer].iter().all(|id| other.vpc_ids.iter().any(|of| of == id));
    if let Some((id, _)) = all.clone().find(|(_, other)| is_alive(other) && connects(other)) {
        let message = format!("The VPCs {own} and {peer} already have the peering connection {id}");
        return Err(error("VpcPeeringConnectionAlreadyExists", message));
    }
    let is_outstanding = |other: &VpcPeeringConnection| {
        let sees = |side: usize| other.vpc_ids.get(side).is_some_and(|id| context.sees(context.vpc_owner(id)));
        other.status == PeeringStatus::PendingAcceptance && sees(0) && !sees(1)
    };
    if all.clone().filter(|(_, other)| is_outstanding(other)).count() >= MAX_OUTSTANDING {
        let message = format!(
            "{MAX_OUTSTANDING} peering connections of this account wait for acceptance by other accounts: delete one of them \
             first"
        );
        return Err(error("OutstandingVpcPeeringConnectionLimitExceeded", message));
    }
    let mut edits: Vec<Edit> = all
        .filter(|(_, other)| is_forgotten(context, other))
        // etcd makes at most 128 comparisons in a transaction.
        .take(MAX_FORGOTTEN)
        .map(|(id, _)| edits::delete("vpc_peering_connections", id))
        .collect();
    let mut peering = VpcPeeringConnection {
        vpc_ids: vec![own.into(), peer.into()],
        status: PeeringStatus::PendingAcceptance,
        allow_remote_vpc_dns_resolution: false,
        name: None,
        tags: Tags::new(),
        aws: AwsData::default(),
    };
    peering.aws.set("created", context.time());
    tags::set_specified(context, &mut peering, parameters, "vpc-peering-connection")?;
    let id = random("pcx");
    // AWS's answer has the state before the peer knows of the request.
    let value = peering_value(context, &id, &peering, PeeringStatus::InitiatingRequest);
    edits.push(peering_edit(&id, peering));
    Ok(Written { edits, result: json!({"VpcPeeringConnection": value}) })
}

/// The connection of a request that only the accepter can make, if it waits for acceptance.
fn awaited_peering(context: &Context, id: &str) -> Result<VpcPeeringConnection, ServiceError> {
    let peering = existing_peering(context, id)?;
    if !has_side(context, peering, 1) {
        let (account, vpc) = (&context.caller.account, peering.vpc_ids.get(1).map_or("", String::as_str));
        let message = format!(
            "The account {account} cannot accept or reject {id} in the Region {}: the owner of the VPC {vpc} has to do so, \
             in the Region of the VPC",
            context.caller.region
        );
        return Err(error("OperationNotPermitted", message));
    }
    if peering.status != PeeringStatus::PendingAcceptance {
        let message = format!("Invalid state transition for {id}: it is {}, not pending-acceptance", peering.status);
        return Err(error("InvalidStateTransition", message));
    }
    Ok((**peering).clone())
}

fn accept_peering(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("VpcPeeringConnectionId");
    let peering = VpcPeeringConnection { status: PeeringStatus::Active, ..awaited_peering(context, id)? };
    let result = json!({"VpcPeeringConnection": peering_value(context, id, &peering, peering.status)});
    Ok(Written { edits: vec![peering_edit(id, peering)], result })
}

/// Ends a connection. It can be described for a while.
fn end(context: &Context, peering: &mut VpcPeeringConnection, status: PeeringStatus) {
    peering.status = status;
    peering.aws.set("ended", context.time());
    peering.aws.set("ended_by", context.caller.account.clone());
}

fn reject_peering(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("VpcPeeringConnectionId");
    let mut peering = awaited_peering(context, id)?;
    end(context, &mut peering, PeeringStatus::Rejected);
    done(vec![peering_edit(id, peering)])
}

fn delete_peering(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("VpcPeeringConnectionId");
    let mut peering = (**existing_peering(context, id)?).clone();
    if !is_alive(&peering) {
        let message = format!("Invalid state transition for {id}: it is {}", peering.status);
        return Err(error("InvalidStateTransition", message));
    }
    end(context, &mut peering, PeeringStatus::Deleted);
    done(vec![peering_edit(id, peering)])
}

/// Sets which side lets the other one resolve its names. zonal lets both or none, so that both sides have to allow it.
fn modify_options(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("VpcPeeringConnectionId");
    let mut peering = (**existing_peering(context, id)?).clone();
    let mut allowed = [allows_dns(&peering, 0), allows_dns(&peering, 1)];
    let mut result = json!({});
    for (side, name) in ["RequesterPeeringConnectionOptions", "AccepterPeeringConnectionOptions"].iter().enumerate() {
        let Some(options) = parameters.get(name) else { continue };
        if !has_side(context, &peering, side) {
            let message = format!("{name}: the account {} does not own this side of {id}", context.caller.account);
            return Err(error("OperationNotPermitted", message));
        }
        if let Some(on) = options.get("AllowDnsResolutionFromRemoteVpc").and_then(Value::as_bool) {
            allowed[side] = on;
        }
        result[*name] = json!({"AllowDnsResolutionFromRemoteVpc": allowed[side]});
    }
    peering.allow_remote_vpc_dns_resolution = allowed[0] && allowed[1];
    peering.aws.set("options", json!({SIDES[0]: allowed[0], SIDES[1]: allowed[1]}));
    Ok(Written { edits: vec![peering_edit(id, peering)], result })
}
