//! EC2: attachments of Transit Gateways: VPCs, and other gateways.
//!
//! An attachment that waits for acceptance connects nothing: it is in `aws` of the gateway that was asked for it (of a VPC), or
//! that asked (of a peer), and not among the attachments.

use super::{
    Wanted, error, list,
    subnets::existing_subnet,
    tags,
    transit_gateways::{existing_gateway, gateway_edit, is_here, is_on, option, owner, set_default_tables, table_of},
    vpcs::{existing_vpc, vpc},
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written,
            filters::Known,
            identifiers::{derived, random},
            object,
            table::{read, write},
            tag_list,
        },
    },
    manifest::{Attachment, Id, Manifest, TransitGateway},
};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(
        Ec2,
        "DescribeTransitGatewayAttachments",
        describe_attachments,
        "TransitGatewayAttachmentIds Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeTransitGatewayVpcAttachments",
        describe_vpc_attachments,
        "TransitGatewayAttachmentIds Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "DescribeTransitGatewayPeeringAttachments",
        describe_peering_attachments,
        "TransitGatewayAttachmentIds Filters MaxResults NextToken DryRun",
    ),
    write(
        Ec2,
        "CreateTransitGatewayVpcAttachment",
        create_vpc_attachment,
        "TransitGatewayId VpcId Options TagSpecifications DryRun",
    )
    .echoes("SubnetIds"),
    write(Ec2, "ModifyTransitGatewayVpcAttachment", modify_vpc_attachment, "TransitGatewayAttachmentId Options DryRun")
        .echoes("AddSubnetIds RemoveSubnetIds"),
    write(Ec2, "AcceptTransitGatewayVpcAttachment", accept_vpc_attachment, "TransitGatewayAttachmentId DryRun"),
    write(Ec2, "RejectTransitGatewayVpcAttachment", reject_vpc_attachment, "TransitGatewayAttachmentId DryRun"),
    write(Ec2, "DeleteTransitGatewayVpcAttachment", delete_vpc_attachment, "TransitGatewayAttachmentId DryRun"),
    write(
        Ec2,
        "CreateTransitGatewayPeeringAttachment",
        create_peering_attachment,
        "TransitGatewayId PeerTransitGatewayId PeerAccountId PeerRegion TagSpecifications DryRun",
    )
    .refuses("Options"),
    write(Ec2, "AcceptTransitGatewayPeeringAttachment", accept_peering_attachment, "TransitGatewayAttachmentId DryRun"),
    write(Ec2, "RejectTransitGatewayPeeringAttachment", reject_peering_attachment, "TransitGatewayAttachmentId DryRun"),
    write(Ec2, "DeleteTransitGatewayPeeringAttachment", delete_peering_attachment, "TransitGatewayAttachmentId DryRun"),
];

/// The member of `aws` of a gateway with the attachments that wait for acceptance, or were rejected.
const PENDING: &str = "pending_attachments";
/// The maximum number of attachments that one account has at one gateway and that wait for acceptance or were rejected. AWS
/// has the same limit for attachments of peer gateways.
const MAX_PENDING: usize = 10;
/// The state of an attachment that waits for acceptance.
const PENDING_ACCEPTANCE: &str = "pendingAcceptance";

/// An attachment of a gateway.
pub(super) struct Owned {
    /// Its identifier.
    pub attachment_id: Id,
    /// The attachment.
    pub attachment: Attachment,
    /// Whether it is not accepted.
    pub is_pending: bool,
}

/// The attachments that are not accepted.
fn pending(gateway: &TransitGateway) -> Vec<Attachment> {
    gateway.aws.get(PENDING).cloned().and_then(|all| serde_json::from_value(all).ok()).unwrap_or_default()
}

fn set_pending(gateway: &mut TransitGateway, pending: &[Attachment]) {
    if pending.is_empty() {
        gateway.aws.remove(PENDING);
    } else {
        gateway.aws.set(PENDING, json!(pending));
    }
}

/// All attachments of a gateway: those of the manifest in their order, then those that are not accepted.
pub(super) fn all_attachments<'a>(id: &'a str, gateway: &'a TransitGateway) -> impl Iterator<Item = Owned> + use<'a> {
    let live = gateway.attachments.iter().map(|attachment| (attachment.clone(), false));
    let all = live.chain(pending(gateway).into_iter().map(|attachment| (attachment, true)));
    all.map(move |(attachment, is_pending)| {
        let derived = || derived("tgw-attach", &[id, resource_of(&attachment).1]);
        let attachment_id = attachment.attachment_id.clone().unwrap_or_else(derived);
        Owned { attachment_id, attachment, is_pending }
    })
}

/// The type and the identifier of what is attached.
pub(super) fn resource_of(attachment: &Attachment) -> (&'static str, &str) {
    match (&attachment.vpc_id, &attachment.transit_gateway_id, &attachment.on_premises_network_id) {
        (Some(vpc), ..) => ("vpc", vpc),
        (_, Some(gateway), _) => ("peering", gateway),
        (.., Some(network)) => ("direct-connect-gateway", network),
        _ => ("vpc", ""),
    }
}

/// Whether names resolve across an attachment, as its own options say.
fn wants_dns(attachment: &Attachment) -> bool {
    let own = attachment.aws.get("Options").and_then(|options| options.get("DnsSupport"));
    own.map_or(attachment.dns_support, |value| value == "enable")
}

/// Sets whether names resolve across attachments of VPCs: the gateway and the attachment have to say so.
pub(super) fn refresh_dns(gateway: &mut TransitGateway) {
    let is_enabled = is_on(gateway, "DnsSupport", true);
    let is_given = option(gateway, "DnsSupport").is_some();
    for attachment in gateway.attachments.iter_mut().filter(|attachment| attachment.vpc_id.is_some()) {
        if is_given || attachment.aws.get("Options").is_some() {
            let wish = wants_dns(attachment);
            if !is_enabled && attachment.aws.get("Options").is_none() {
                attachment.aws.set("Options", json!({"DnsSupport": if wish { "enable" } else { "disable" }}));
            }
            attachment.dns_support = is_enabled && wish;
        }
    }
}

/// The Region of a gateway.
fn region<'a>(context: &'a Context, gateway: &'a TransitGateway) -> &'a str {
    if gateway.region.is_empty() { &context.caller.region } else { &gateway.region }
}

/// The attachments that the caller sees: those of its gateways, and those of its VPCs.
fn visible<'a>(context: &Context<'a>) -> Vec<(&'a Id, &'a Arc<TransitGateway>, Owned)> {
    let mut all = Vec::new();
    for (id, gateway) in &context.manifest().transit_gateways {
        for owned in all_attachments(id, gateway) {
            let is_of_vpc = owned.attachment.vpc_id.as_deref().is_some_and(|id| vpc(context, id).is_some());
            let peer = owned.attachment.transit_gateway_id.as_deref();
            let peer = peer.and_then(|id| context.manifest().transit_gateways.get(id));
            if is_here(context, gateway) || is_of_vpc || peer.is_some_and(|peer| is_here(context, peer)) {
                all.push((id, gateway, owned));
            }
        }
    }
    all.sort_by(|one, other| one.2.attachment_id.cmp(&other.2.attachment_id));
    all
}

fn no_attachment(id: &str) -> ServiceError {
    let message = format!("Transit Gateway Attachment {id} was deleted or does not exist.");
    error("InvalidTransitGatewayAttachmentID.NotFound", message)
}

/// The state of an attachment.
fn state(owned: &Owned) -> String {
    let pending = owned.attachment.aws.text("state").unwrap_or(PENDING_ACCEPTANCE);
    if owned.is_pending { pending.into() } else { "available".into() }
}

// Values.

fn vpc_attachment_value(context: &Context, gateway_id: &str, owned: &Owned, state: &str) -> Value {
    let Owned { attachment_id, attachment, .. } = owned;
    let vpc_id = attachment.vpc_id.as_deref().unwrap_or_default();
    let own = |name: &str| attachment.aws.get("Options").and_then(|options| options.get(name)?.as_str());
    object(json!({
        "TransitGatewayAttachmentId": attachment_id,
        "TransitGatewayId": gateway_id,
        "VpcId": vpc_id,
        "VpcOwnerId": context.owner(context.vpc_owner(vpc_id)),
        "State": state,
        "SubnetIds": attachment.subnet_ids,
        "CreationTime": attachment.aws.text("created"),
        "Options": {
            "DnsSupport": if wants_dns(attachment) { "enable" } else { "disable" },
            "SecurityGroupReferencingSupport": own("SecurityGroupReferencingSupport").unwrap_or("disable"),
            "Ipv6Support": own("Ipv6Support").unwrap_or("disable"),
            "ApplianceModeSupport": own("ApplianceModeSupport").unwrap_or("disable"),
        },
        "Tags": shown_tags(attachment),
    }))
}

/// The tags of an attachment. None without any: AWS leaves them out.
fn shown_tags(attachment: &Attachment) -> Option<Value> {
    let is_tagged = attachment.name.is_some() || !attachment.tags.is_empty();
    is_tagged.then(|| tag_list(&attachment.tags, attachment.name.as_deref()))
}

fn peering_attachment_value(context: &Context, gateway_id: &str, owned: &Owned, state: &str) -> Value {
    let Owned { attachment_id, attachment, .. } = owned;
    let peer = attachment.transit_gateway_id.as_deref().unwrap_or_default();
    // Both gateways have an attachment: that of the accepter says that it is one.
    let is_accepter = attachment.aws.text("role") == Some("accepter");
    let (requester, accepter) = if is_accepter { (peer, gateway_id) } else { (gateway_id, peer) };
    let side = |id: &str| {
        let gateway = context.manifest().transit_gateways.get(id);
        object(json!({
            "TransitGatewayId": id,
            "OwnerId": context.owner(gateway.map_or("", |gateway| owner(gateway))),
            "Region": gateway.map_or(context.caller.region.as_str(), |gateway| region(context, gateway)),
        }))
    };
    object(json!({
        "TransitGatewayAttachmentId": attachment_id,
        "AccepterTransitGatewayAttachmentId": attachment_id,
        "RequesterTgwInfo": side(requester),
        "AccepterTgwInfo": side(accepter),
        "Status": {"Code": state, "Message": ""},
        "State": state,
        "CreationTime": attachment.aws.text("created"),
        "Tags": tag_list(&attachment.tags, attachment.name.as_deref()),
    }))
}

fn attachment_value(context: &Context, gateway_id: &str, gateway: &TransitGateway, owned: &Owned) -> Value {
    let Owned { attachment_id, attachment, .. } = owned;
    let (kind, resource) = resource_of(attachment);
    let resource_owner = match kind {
        "vpc" => context.vpc_owner(resource),
        "peering" => context.manifest().transit_gateways.get(resource).map_or("", |gateway| owner(gateway)),
        _ => owner(gateway),
    };
    let association = table_of(gateway_id, gateway, attachment).filter(|_| !owned.is_pending);
    object(json!({
        "TransitGatewayAttachmentId": attachment_id,
        "TransitGatewayId": gateway_id,
        "TransitGatewayOwnerId": context.owner(owner(gateway)),
        "ResourceOwnerId": context.owner(resource_owner),
        "ResourceType": kind,
        "ResourceId": resource,
        "State": state(owned),
        "Association": association.map(|table| json!({"TransitGatewayRouteTableId": table, "State": "associated"})),
        "CreationTime": attachment.aws.text("created"),
        "Tags": tag_list(&attachment.tags, attachment.name.as_deref()),
    }))
}

// Reads.

const FILTERS: Known = &[
    ("association.transit-gateway-route-table-id", "Association.TransitGatewayRouteTableId"),
    ("association.state", "Association.State"),
    ("resource-id", "ResourceId"),
    ("resource-owner-id", "ResourceOwnerId"),
    ("resource-type", "ResourceType"),
    ("state", "State"),
    ("transit-gateway-attachment-id", "TransitGatewayAttachmentId"),
    ("transit-gateway-id", "TransitGatewayId"),
    ("transit-gateway-owner-id", "TransitGatewayOwnerId"),
];
const VPC_FILTERS: Known = &[
    ("state", "State"),
    ("transit-gateway-attachment-id", "TransitGatewayAttachmentId"),
    ("transit-gateway-id", "TransitGatewayId"),
    ("vpc-id", "VpcId"),
];
const PEERING_FILTERS: Known = &[
    ("local-owner-id", "RequesterTgwInfo.OwnerId"),
    ("remote-owner-id", "AccepterTgwInfo.OwnerId"),
    ("state", "State"),
    ("transit-gateway-attachment-id", "TransitGatewayAttachmentId"),
    ("transit-gateway-id", "RequesterTgwInfo.TransitGatewayId"),
];

fn describe(
    context: &Context,
    parameters: Parameters,
    (member, filters): (&str, Known),
    value: impl Fn(&str, &TransitGateway, &Owned) -> Option<Value>,
) -> ReadResult {
    let mut all: BTreeMap<Id, Value> = BTreeMap::new();
    for (id, gateway, owned) in visible(context) {
        if let Some(value) = value(id, gateway, &owned) {
            all.entry(owned.attachment_id).or_insert(value);
        }
    }
    let ids = parameters.texts("TransitGatewayAttachmentIds");
    if let Some(missing) = ids.iter().find(|id| !all.contains_key(**id)) {
        return Err(no_attachment(missing));
    }
    let ids = Wanted::of(ids);
    list(parameters, member, filters, |after| {
        let rest = all.iter().filter(|(id, _)| after.is_none_or(|after| id.as_str() > after));
        let rest = rest.filter(|(id, _)| ids.has(id));
        rest.map(|(id, value)| (id.clone(), value.clone())).collect::<Vec<_>>().into_iter()
    })
}

fn describe_attachments(context: &Context, parameters: Parameters) -> ReadResult {
    describe(context, parameters, ("TransitGatewayAttachments", FILTERS), |id, gateway, owned| {
        Some(attachment_value(context, id, gateway, owned))
    })
}

fn describe_vpc_attachments(context: &Context, parameters: Parameters) -> ReadResult {
    describe(context, parameters, ("TransitGatewayVpcAttachments", VPC_FILTERS), |id, _, owned| {
        owned.attachment.vpc_id.is_some().then(|| vpc_attachment_value(context, id, owned, &state(owned)))
    })
}

fn describe_peering_attachments(context: &Context, parameters: Parameters) -> ReadResult {
    describe(context, parameters, ("TransitGatewayPeeringAttachments", PEERING_FILTERS), |id, _, owned| {
        let is_peering = owned.attachment.transit_gateway_id.is_some();
        is_peering.then(|| peering_attachment_value(context, id, owned, &state(owned)))
    })
}

// Writes.

/// Sets the options of a request.
fn set_options(attachment: &mut Attachment, parameters: Parameters) {
    let known = attachment.aws.get("Options").and_then(Value::as_object).cloned();
    let mut options: Map<String, Value> = known.unwrap_or_default();
    options.extend(parameters.get("Options").and_then(Value::as_object).cloned().unwrap_or_default());
    if !options.contains_key("DnsSupport") {
        options.insert("DnsSupport".into(), if attachment.dns_support { "enable" } else { "disable" }.into());
    }
    attachment.aws.set("Options", options);
}

/// Checks that subnets are in a VPC.
fn check_subnets(context: &Context, vpc_id: &str, subnets: &[&str]) -> Result<(), ServiceError> {
    for id in subnets {
        let (other, _, _) = existing_subnet(context, id)?;
        if other != vpc_id {
            return Err(error("InvalidParameterValue", format!("The subnet {id} is not in the VPC {vpc_id}")));
        }
    }
    Ok(())
}

/// Checks that the caller may have one more attachment that waits for acceptance. `count` is the number of those before it.
fn check_pending(count: usize) -> Result<(), ServiceError> {
    if count < MAX_PENDING {
        return Ok(());
    }
    let message = format!(
        "{MAX_PENDING} attachments of this account to the gateway wait for acceptance, or were rejected: delete one of them first"
    );
    Err(error("AttachmentLimitExceeded", message))
}

fn create_vpc_attachment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, vpc_id) = (parameters.text("TransitGatewayId"), parameters.text("VpcId"));
    // An account can attach its VPCs to the gateway of another one, which has to accept that.
    let found = context.manifest().transit_gateways.get(id);
    let found = found.filter(|gateway| gateway.region.is_empty() || context.is_in(&gateway.region));
    let missing = || format!("Transit Gateway {id} was deleted or does not exist.");
    let gateway = found.ok_or_else(|| error("InvalidTransitGatewayID.NotFound", missing()))?;
    existing_vpc(context, vpc_id)?;
    let subnets = parameters.texts("SubnetIds");
    check_subnets(context, vpc_id, &subnets)?;
    if all_attachments(id, gateway).any(|owned| owned.attachment.vpc_id.as_deref() == Some(vpc_id)) {
        let message = format!("{id} has non-deleted Transit Gateway Attachments with same VPC ID.");
        return Err(error("DuplicateTransitGatewayAttachment", message));
    }
    let attachment_id = random("tgw-attach");
    let mut attachment = Attachment {
        vpc_id: Some(vpc_id.into()),
        dns_support: true,
        attachment_id: Some(attachment_id.clone()),
        subnet_ids: subnets.into_iter().map(str::to_string).collect(),
        ..Attachment::default()
    };
    set_options(&mut attachment, parameters);
    attachment.aws.set("created", context.time());
    set_default_tables(gateway, &mut attachment);
    tags::set_specified(context, &mut attachment, parameters, "transit-gateway-attachment")?;
    // AWS accepts attachments of other accounts automatically if the gateway is shared with them. zonal has no shares: the
    // owner of the gateway accepts each of them.
    let is_accepted = is_here(context, gateway);
    if !is_accepted {
        let of_caller = |attachment: &Attachment| {
            attachment.vpc_id.as_deref().is_some_and(|vpc| context.sees(context.vpc_owner(vpc)))
        };
        check_pending(pending(gateway).iter().filter(|attachment| of_caller(attachment)).count())?;
    }
    let owned = Owned { attachment_id, attachment, is_pending: !is_accepted };
    let value = vpc_attachment_value(context, id, &owned, &state(&owned));
    let mut gateway = (**gateway).clone();
    add(&mut gateway, owned);
    Ok(Written { edits: vec![gateway_edit(id, gateway)], result: json!({"TransitGatewayVpcAttachment": value}) })
}

/// Adds an attachment to a gateway.
fn add(gateway: &mut TransitGateway, owned: Owned) {
    if owned.is_pending {
        let mut all = pending(gateway);
        all.push(owned.attachment);
        set_pending(gateway, &all);
    } else {
        gateway.attachments.push(owned.attachment);
    }
    refresh_dns(gateway);
}

/// Removes an attachment from a gateway.
fn remove(id: &str, gateway: &mut TransitGateway, attachment_id: &str) {
    let keep: Vec<bool> = all_attachments(id, gateway).map(|owned| owned.attachment_id != attachment_id).collect();
    let live = gateway.attachments.len();
    let mut at = keep.iter();
    gateway.attachments.retain(|_| at.next().copied().unwrap_or(true));
    let mut rest = pending(gateway);
    let mut at = keep.iter().skip(live);
    rest.retain(|_| at.next().copied().unwrap_or(true));
    set_pending(gateway, &rest);
}

/// The attachment of a request that is of a type.
fn find<'a>(
    context: &Context<'a>,
    parameters: Parameters,
    is_peering: bool,
) -> Result<(&'a Id, &'a Arc<TransitGateway>, Owned), ServiceError> {
    let wanted = parameters.text("TransitGatewayAttachmentId");
    let found = visible(context).into_iter().find(|(_, _, owned)| {
        owned.attachment_id == wanted && owned.attachment.transit_gateway_id.is_some() == is_peering
    });
    found.ok_or_else(|| no_attachment(wanted))
}

/// Replaces an attachment of a gateway.
fn replace(id: &str, gateway: &TransitGateway, owned: Owned) -> TransitGateway {
    let mut changed = gateway.clone();
    let at = all_attachments(id, gateway).position(|other| other.attachment_id == owned.attachment_id);
    if owned.is_pending {
        let mut all = pending(&changed);
        let at = at.and_then(|at| at.checked_sub(gateway.attachments.len()));
        if let Some(place) = at.and_then(|at| all.get_mut(at)) {
            *place = owned.attachment;
        }
        set_pending(&mut changed, &all);
    } else if let Some(place) = at.and_then(|at| changed.attachments.get_mut(at)) {
        *place = owned.attachment;
    }
    refresh_dns(&mut changed);
    changed
}

/// Changes the labels of the attachment with an identifier, in a copy of the manifest. None if the caller sees no such
/// attachment.
pub(super) fn change_labels(
    context: &Context,
    manifest: &mut Manifest,
    id: &str,
    change: &dyn Fn(&mut dyn tags::Tagged) -> Result<(), ServiceError>,
) -> Option<Result<(), ServiceError>> {
    let (gateway_id, ..) = visible(context).into_iter().find(|(_, _, owned)| owned.attachment_id == id)?;
    let gateway = manifest.transit_gateways.get(gateway_id)?.clone();
    let mut owned = all_attachments(gateway_id, &gateway).find(|owned| owned.attachment_id == id)?;
    let changed = change(&mut owned.attachment);
    Some(changed.map(|()| {
        let changed = Arc::new(replace(gateway_id, &gateway, owned));
        manifest.transit_gateways.insert(gateway_id.clone(), changed);
    }))
}

/// The labels of all attachments that the caller sees.
pub(super) fn labelled(context: &Context) -> impl Iterator<Item = (Id, Attachment)> {
    visible(context).into_iter().map(|(_, _, owned)| (owned.attachment_id, owned.attachment))
}

fn modify_vpc_attachment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, gateway, mut owned) = find(context, parameters, false)?;
    let attachment = &mut owned.attachment;
    let vpc_id = attachment.vpc_id.clone().unwrap_or_default();
    let (added, removed) = (parameters.texts("AddSubnetIds"), parameters.texts("RemoveSubnetIds"));
    check_subnets(context, &vpc_id, &added)?;
    attachment.subnet_ids.retain(|subnet| !removed.contains(&subnet.as_str()));
    for subnet in added {
        if !attachment.subnet_ids.iter().any(|known| known == subnet) {
            attachment.subnet_ids.push(subnet.into());
        }
    }
    set_options(attachment, parameters);
    let value = vpc_attachment_value(context, id, &owned, &state(&owned));
    let changed = replace(id, gateway, owned);
    Ok(Written { edits: vec![gateway_edit(id, changed)], result: json!({"TransitGatewayVpcAttachment": value}) })
}

/// Checks that an attachment waits for the caller's acceptance.
fn check_awaited(context: &Context, owned: &Owned, accepter: &TransitGateway) -> Result<(), ServiceError> {
    let id = &owned.attachment_id;
    if !is_here(context, accepter) {
        let message = format!(
            "The account {} cannot accept or reject {id} in the Region {}: the owner of the gateway has to do so",
            context.caller.account, context.caller.region
        );
        return Err(error("OperationNotPermitted", message));
    }
    if state(owned) != PENDING_ACCEPTANCE {
        return Err(error("IncorrectState", format!("{id} is in the state {}", state(owned))));
    }
    Ok(())
}

fn accept_vpc_attachment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, gateway, owned) = find(context, parameters, false)?;
    check_awaited(context, &owned, gateway)?;
    let mut changed = (**gateway).clone();
    remove(id, &mut changed, &owned.attachment_id);
    let owned = Owned { is_pending: false, ..owned };
    let value = vpc_attachment_value(context, id, &owned, "available");
    add(&mut changed, owned);
    Ok(Written { edits: vec![gateway_edit(id, changed)], result: json!({"TransitGatewayVpcAttachment": value}) })
}

fn reject_vpc_attachment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, gateway, mut owned) = find(context, parameters, false)?;
    check_awaited(context, &owned, gateway)?;
    owned.attachment.aws.set("state", "rejected");
    let value = vpc_attachment_value(context, id, &owned, "rejected");
    let changed = replace(id, gateway, owned);
    Ok(Written { edits: vec![gateway_edit(id, changed)], result: json!({"TransitGatewayVpcAttachment": value}) })
}

fn delete_vpc_attachment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, gateway, owned) = find(context, parameters, false)?;
    let value = vpc_attachment_value(context, id, &owned, "deleted");
    let mut changed = (**gateway).clone();
    remove(id, &mut changed, &owned.attachment_id);
    Ok(Written { edits: vec![gateway_edit(id, changed)], result: json!({"TransitGatewayVpcAttachment": value}) })
}

fn create_peering_attachment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, peer_id) = (parameters.text("TransitGatewayId"), parameters.text("PeerTransitGatewayId"));
    let mut gateway = (**existing_gateway(context, id)?).clone();
    let peer = context.manifest().transit_gateways.get(peer_id).filter(|peer| {
        let (account, of) = (parameters.text("PeerAccountId"), owner(peer));
        (of.is_empty() || of == account) && region(context, peer) == parameters.text("PeerRegion")
    });
    if peer.is_none() || peer_id == id {
        let message = format!("Transit Gateway {peer_id} was deleted or does not exist in this account and Region.");
        return Err(error("InvalidTransitGatewayID.NotFound", message));
    }
    check_pending(pending(&gateway).iter().filter(|attachment| attachment.transit_gateway_id.is_some()).count())?;
    let attachment_id = random("tgw-attach");
    let mut attachment = Attachment {
        transit_gateway_id: Some(peer_id.into()),
        dns_support: true,
        attachment_id: Some(attachment_id.clone()),
        ..Attachment::default()
    };
    attachment.aws.set("created", context.time());
    tags::set_specified(context, &mut attachment, parameters, "transit-gateway-attachment")?;
    let owned = Owned { attachment_id, attachment, is_pending: true };
    let value = peering_attachment_value(context, id, &owned, PENDING_ACCEPTANCE);
    add(&mut gateway, owned);
    Ok(Written { edits: vec![gateway_edit(id, gateway)], result: json!({"TransitGatewayPeeringAttachment": value}) })
}

/// The gateway that is asked for a peering attachment, and its identifier.
fn accepter<'a>(context: &Context<'a>, owned: &Owned) -> Result<(&'a Id, &'a Arc<TransitGateway>), ServiceError> {
    let id = owned.attachment.transit_gateway_id.as_deref().unwrap_or_default();
    let found = context.manifest().transit_gateways.get_key_value(id);
    found.ok_or_else(|| no_attachment(&owned.attachment_id))
}

fn accept_peering_attachment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, gateway, owned) = find(context, parameters, true)?;
    let (peer_id, peer) = accepter(context, &owned)?;
    check_awaited(context, &owned, peer)?;
    let attachment_id = owned.attachment_id.clone();
    let (mut requester, mut accepter) = ((**gateway).clone(), (**peer).clone());
    remove(id, &mut requester, &attachment_id);
    let mut other = Attachment { transit_gateway_id: Some(id.clone()), ..owned.attachment.clone() };
    other.aws.set("role", "accepter");
    let owned = Owned { is_pending: false, ..owned };
    let value = peering_attachment_value(context, id, &owned, "available");
    add(&mut requester, owned);
    add(&mut accepter, Owned { attachment_id, attachment: other, is_pending: false });
    let edits = vec![gateway_edit(id, requester), gateway_edit(peer_id, accepter)];
    Ok(Written { edits, result: json!({"TransitGatewayPeeringAttachment": value}) })
}

fn reject_peering_attachment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, gateway, mut owned) = find(context, parameters, true)?;
    let (_, peer) = accepter(context, &owned)?;
    check_awaited(context, &owned, peer)?;
    owned.attachment.aws.set("state", "rejected");
    let value = peering_attachment_value(context, id, &owned, "rejected");
    let changed = replace(id, gateway, owned);
    Ok(Written { edits: vec![gateway_edit(id, changed)], result: json!({"TransitGatewayPeeringAttachment": value}) })
}

fn delete_peering_attachment(context: &Context, parameters: Parameters) -> WriteResult {
    let (id, gateway, owned) = find(context, parameters, true)?;
    let value = peering_attachment_value(context, id, &owned, "deleted");
    let mut changed = (**gateway).clone();
    remove(id, &mut changed, &owned.attachment_id);
    let mut edits = vec![gateway_edit(id, changed)];
    if let Ok((peer_id, peer)) = accepter(context, &owned) {
        let mut peer = (**peer).clone();
        remove(peer_id, &mut peer, &owned.attachment_id);
        edits.push(gateway_edit(peer_id, peer));
    }
    Ok(Written { edits, result: json!({"TransitGatewayPeeringAttachment": value}) })
}
