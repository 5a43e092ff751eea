//! EC2: Transit Gateways, and their route tables.
//!
//! The manifest has a name for each route table that restricts connections. A table that is made here has its identifier as
//! its name, and an entry in `aws` of its gateway. The default table of a gateway has no name in the manifest.

use super::{
    Wanted, error, list, tags,
    transit_gateway_attachments::{Owned, all_attachments, refresh_dns, resource_of},
    wanted,
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, Written, edits,
            filters::Known,
            identifiers::{arn, derived, random},
            object, start,
            table::{read, write},
            tag_list,
        },
    },
    manifest::{Attachment, AwsData, Id, Resource, Tags, TransitGateway, collection::Edit},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(
        Ec2,
        "DescribeTransitGateways",
        describe_transit_gateways,
        "TransitGatewayIds Filters MaxResults NextToken DryRun",
    ),
    write(Ec2, "CreateTransitGateway", create_transit_gateway, "Options TagSpecifications DryRun")
        .echoes("Description")
        .refuses("Options.TransitGatewayCidrBlocks"),
    write(Ec2, "ModifyTransitGateway", modify_transit_gateway, "TransitGatewayId Options DryRun")
        .echoes("Description")
        .refuses(
            "Options.AddTransitGatewayCidrBlocks Options.RemoveTransitGatewayCidrBlocks \
             Options.AssociationDefaultRouteTableId Options.PropagationDefaultRouteTableId Options.EncryptionSupport",
        ),
    write(Ec2, "DeleteTransitGateway", delete_transit_gateway, "TransitGatewayId DryRun"),
    read(
        Ec2,
        "DescribeTransitGatewayRouteTables",
        describe_route_tables,
        "TransitGatewayRouteTableIds Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "GetTransitGatewayRouteTableAssociations",
        get_associations,
        "TransitGatewayRouteTableId Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "GetTransitGatewayRouteTablePropagations",
        get_propagations,
        "TransitGatewayRouteTableId Filters MaxResults NextToken DryRun",
    ),
    read(
        Ec2,
        "GetTransitGatewayAttachmentPropagations",
        get_attachment_propagations,
        "TransitGatewayAttachmentId Filters MaxResults NextToken DryRun",
    ),
    write(Ec2, "CreateTransitGatewayRouteTable", create_route_table, "TransitGatewayId TagSpecifications DryRun"),
    write(Ec2, "DeleteTransitGatewayRouteTable", delete_route_table, "TransitGatewayRouteTableId DryRun"),
    write(
        Ec2,
        "AssociateTransitGatewayRouteTable",
        associate_route_table,
        "TransitGatewayRouteTableId TransitGatewayAttachmentId DryRun",
    ),
    write(
        Ec2,
        "DisassociateTransitGatewayRouteTable",
        disassociate_route_table,
        "TransitGatewayRouteTableId TransitGatewayAttachmentId DryRun",
    ),
    write(
        Ec2,
        "EnableTransitGatewayRouteTablePropagation",
        enable_propagation,
        "TransitGatewayRouteTableId TransitGatewayAttachmentId DryRun",
    )
    .refuses("TransitGatewayRouteTableAnnouncementId"),
    write(
        Ec2,
        "DisableTransitGatewayRouteTablePropagation",
        disable_propagation,
        "TransitGatewayRouteTableId TransitGatewayAttachmentId DryRun",
    )
    .refuses("TransitGatewayRouteTableAnnouncementId"),
];

/// The name of the default table in lists of the manifest.
const DEFAULT_TABLE: &str = "";
/// The table of attachments that are associated with none: nothing propagates to it.
const NO_TABLE: &str = "none";
/// The member of `aws` with the route tables.
const TABLES: &str = "route_tables";

// Gateways.

const GATEWAY_FILTERS: Known = &[
    ("options.amazon-side-asn", "Options.AmazonSideAsn"),
    ("options.auto-accept-shared-attachments", "Options.AutoAcceptSharedAttachments"),
    ("options.default-route-table-association", "Options.DefaultRouteTableAssociation"),
    ("options.default-route-table-propagation", "Options.DefaultRouteTablePropagation"),
    ("options.dns-support", "Options.DnsSupport"),
    ("owner-id", "OwnerId"),
    ("state", "State"),
    ("transit-gateway-id", "TransitGatewayId"),
];

/// The owner of a gateway. Empty if it is not known.
pub(super) fn owner(gateway: &TransitGateway) -> &str {
    gateway.aws.text("owner_id").unwrap_or_default()
}

/// Whether a gateway is in the caller's account and Region.
pub(super) fn is_here(context: &Context, gateway: &TransitGateway) -> bool {
    context.sees(owner(gateway)) && (gateway.region.is_empty() || context.is_in(&gateway.region))
}

fn no_gateway(id: &str) -> ServiceError {
    error("InvalidTransitGatewayID.NotFound", format!("Transit Gateway {id} was deleted or does not exist."))
}

/// The gateway of a request.
pub(super) fn existing_gateway<'a>(context: &Context<'a>, id: &str) -> Result<&'a Arc<TransitGateway>, ServiceError> {
    let found = context.manifest().transit_gateways.get(id).filter(|gateway| is_here(context, gateway));
    found.ok_or_else(|| no_gateway(id))
}

/// An option of a gateway.
pub(super) fn option<'a>(gateway: &'a TransitGateway, name: &str) -> Option<&'a Value> {
    gateway.aws.get("Options")?.get(name)
}

/// Whether an option is on.
pub(super) fn is_on(gateway: &TransitGateway, name: &str, default: bool) -> bool {
    option(gateway, name).map_or(default, |value| value == "enable")
}

/// The identifier of the default route table.
fn default_table(id: &str, gateway: &TransitGateway) -> Id {
    let known = option(gateway, "AssociationDefaultRouteTableId").and_then(Value::as_str);
    known.map_or_else(|| derived("tgw-rtb", &[id]), str::to_string)
}

fn gateway_value(context: &Context, id: &str, gateway: &TransitGateway, state: &str) -> Value {
    let text = |name: &str, default: bool| if is_on(gateway, name, default) { "enable" } else { "disable" };
    let (association, propagation) = ("DefaultRouteTableAssociation", "DefaultRouteTablePropagation");
    let table = default_table(id, gateway);
    let region = if gateway.region.is_empty() { &context.caller.region } else { &gateway.region };
    object(json!({
        "TransitGatewayId": id,
        "TransitGatewayArn": arn("ec2", region, context.owner(owner(gateway)), &format!("transit-gateway/{id}")),
        "State": state,
        "OwnerId": context.owner(owner(gateway)),
        "Description": gateway.aws.text("Description"),
        "CreationTime": gateway.aws.text("created"),
        "Options": object(json!({
            "AmazonSideAsn": option(gateway, "AmazonSideAsn").cloned().unwrap_or(json!(64512)),
            "TransitGatewayCidrBlocks": [],
            "AutoAcceptSharedAttachments": text("AutoAcceptSharedAttachments", false),
            "DefaultRouteTableAssociation": text(association, true),
            "AssociationDefaultRouteTableId": is_on(gateway, association, true).then_some(&table),
            "DefaultRouteTablePropagation": text(propagation, true),
            "PropagationDefaultRouteTableId": is_on(gateway, propagation, true).then_some(&table),
            "VpnEcmpSupport": text("VpnEcmpSupport", true),
            "DnsSupport": text("DnsSupport", true),
            "SecurityGroupReferencingSupport": text("SecurityGroupReferencingSupport", false),
            "MulticastSupport": text("MulticastSupport", false),
        })),
        "Tags": tag_list(&gateway.tags, gateway.name.as_deref()),
    }))
}

fn describe_transit_gateways(context: &Context, parameters: Parameters) -> ReadResult {
    let ids = parameters.texts("TransitGatewayIds");
    for id in &ids {
        existing_gateway(context, id)?;
    }
    let ids = Wanted::of(ids);
    list(parameters, "TransitGateways", GATEWAY_FILTERS, |after| {
        let all = context.manifest().transit_gateways.range_from(start(after));
        let all = all.filter(|(_, gateway)| is_here(context, gateway));
        let all = all.filter(|(id, _)| ids.has(id));
        all.map(|(id, gateway)| (id.clone(), gateway_value(context, id, gateway, "available")))
    })
}

pub(super) fn gateway_edit(id: &str, gateway: TransitGateway) -> Edit {
    edits::put(id, Resource::TransitGateway(Arc::new(gateway)))
}

/// Sets the options of a request.
fn set_options(gateway: &mut TransitGateway, parameters: Parameters) {
    if let Some(given) = parameters.get("Options").and_then(Value::as_object) {
        let known = gateway.aws.get("Options").and_then(Value::as_object).cloned();
        let mut options: Map<String, Value> = known.unwrap_or_default();
        options.extend(given.clone());
        gateway.aws.set("Options", options);
    }
    if let Some(description) = parameters.given_text("Description") {
        gateway.aws.set("Description", description);
    }
    refresh_dns(gateway);
}

fn create_transit_gateway(context: &Context, parameters: Parameters) -> WriteResult {
    let mut gateway = TransitGateway {
        region: context.caller.region.clone(),
        attachments: Vec::new(),
        name: None,
        tags: Tags::new(),
        aws: AwsData::default(),
    };
    if let Some(account) = context.account() {
        gateway.aws.set("owner_id", account);
    }
    gateway.aws.set("created", context.time());
    set_options(&mut gateway, parameters);
    tags::set_specified(context, &mut gateway, parameters, "transit-gateway")?;
    let id = random("tgw");
    let result = json!({"TransitGateway": gateway_value(context, &id, &gateway, "available")});
    Ok(Written { edits: vec![gateway_edit(&id, gateway)], result })
}

fn modify_transit_gateway(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("TransitGatewayId");
    let mut gateway = (**existing_gateway(context, id)?).clone();
    set_options(&mut gateway, parameters);
    let result = json!({"TransitGateway": gateway_value(context, id, &gateway, "available")});
    Ok(Written { edits: vec![gateway_edit(id, gateway)], result })
}

fn delete_transit_gateway(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("TransitGatewayId");
    let gateway = existing_gateway(context, id)?;
    if !gateway.attachments.is_empty() {
        let message = format!("{id} has non-deleted Transit Gateway Attachments");
        return Err(error("IncorrectState", message));
    }
    let result = json!({"TransitGateway": gateway_value(context, id, gateway, "deleted")});
    Ok(Written { edits: vec![edits::delete("transit_gateways", id)], result })
}

// Route tables.

/// A route table of a Transit Gateway, as the member `aws` of the gateway stores it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RouteTable {
    /// The time when it was made.
    created: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The tags.
    pub tags: Tags,
}

/// The route tables of a gateway, by identifier, without the default one.
pub(super) fn own_tables(gateway: &TransitGateway) -> BTreeMap<Id, RouteTable> {
    let made = gateway.aws.get(TABLES).cloned();
    let mut tables: BTreeMap<Id, RouteTable> =
        made.and_then(|tables| serde_json::from_value(tables).ok()).unwrap_or_default();
    // Tables that only attachments name.
    for attachment in &gateway.attachments {
        let propagates_to = attachment.propagates_to.iter().flatten();
        for name in attachment.route_table.iter().chain(propagates_to) {
            if name != DEFAULT_TABLE && name != NO_TABLE {
                tables.entry(name.clone()).or_default();
            }
        }
    }
    tables
}

/// Sets the route tables of a gateway.
pub(super) fn set_tables(gateway: &mut TransitGateway, tables: &BTreeMap<Id, RouteTable>) {
    gateway.aws.set(TABLES, json!(tables));
}

/// The identifier of the table that an attachment is associated with.
pub(super) fn table_of(id: &str, gateway: &TransitGateway, attachment: &Attachment) -> Option<Id> {
    match attachment.route_table.as_deref() {
        None | Some(DEFAULT_TABLE) => Some(default_table(id, gateway)),
        Some(NO_TABLE) => None,
        Some(table) => Some(table.into()),
    }
}

/// The identifiers of the tables that an attachment propagates to.
fn propagations(id: &str, gateway: &TransitGateway, attachment: &Attachment) -> Vec<Id> {
    let default = || default_table(id, gateway);
    match &attachment.propagates_to {
        None => vec![default()],
        Some(tables) => {
            let table = |name: &String| if name == DEFAULT_TABLE { default() } else { name.clone() };
            tables.iter().map(table).collect()
        }
    }
}

/// Gives a new attachment the default table, or none, as the options of the gateway say.
pub(super) fn set_default_tables(gateway: &TransitGateway, attachment: &mut Attachment) {
    attachment.route_table = (!is_on(gateway, "DefaultRouteTableAssociation", true)).then(|| NO_TABLE.into());
    attachment.propagates_to = (!is_on(gateway, "DefaultRouteTablePropagation", true)).then(Vec::new);
}

fn no_table(id: &str) -> ServiceError {
    error("InvalidRouteTableID.NotFound", format!("Transit Gateway Route Table {id} was deleted or does not exist."))
}

/// The gateway of a route table, and its identifier.
pub(super) fn gateway_of_table<'a>(
    context: &Context<'a>,
    table: &str,
) -> Result<(&'a Id, &'a Arc<TransitGateway>), ServiceError> {
    let mut gateways = context.manifest().transit_gateways.iter().filter(|(_, gateway)| is_here(context, gateway));
    let found =
        gateways.find(|(id, gateway)| default_table(id, gateway) == table || own_tables(gateway).contains_key(table));
    found.ok_or_else(|| no_table(table))
}

const TABLE_FILTERS: Known = &[
    ("default-association-route-table", "DefaultAssociationRouteTable"),
    ("default-propagation-route-table", "DefaultPropagationRouteTable"),
    ("state", "State"),
    ("transit-gateway-id", "TransitGatewayId"),
    ("transit-gateway-route-table-id", "TransitGatewayRouteTableId"),
];

fn table_value(gateway: (&str, &TransitGateway), id: &str, table: &RouteTable, state: &str) -> Value {
    let is_default = default_table(gateway.0, gateway.1) == id;
    let is_default_of = |option: &str| is_default && is_on(gateway.1, option, true);
    object(json!({
        "TransitGatewayRouteTableId": id,
        "TransitGatewayId": gateway.0,
        "State": state,
        "DefaultAssociationRouteTable": is_default_of("DefaultRouteTableAssociation"),
        "DefaultPropagationRouteTable": is_default_of("DefaultRouteTablePropagation"),
        "CreationTime": table.created.as_deref().or_else(|| gateway.1.aws.text("created")),
        "Tags": tag_list(&table.tags, table.name.as_deref()),
    }))
}

fn describe_route_tables(context: &Context, parameters: Parameters) -> ReadResult {
    let gateways = context.manifest().transit_gateways.iter().filter(|(_, gateway)| is_here(context, gateway));
    let mut all: BTreeMap<Id, Value> = BTreeMap::new();
    for (id, gateway) in gateways {
        let mut tables = own_tables(gateway);
        let has_default = ["DefaultRouteTableAssociation", "DefaultRouteTablePropagation"]
            .iter()
            .any(|option| is_on(gateway, option, true));
        if has_default {
            tables.insert(default_table(id, gateway), RouteTable::default());
        }
        let values =
            tables.iter().map(|(table, of)| (table.clone(), table_value((id, gateway), table, of, "available")));
        all.extend(values);
    }
    let exists = |id: &str| all.contains_key(id);
    let member = "TransitGatewayRouteTableIds";
    let ids = wanted(parameters, member, "InvalidRouteTableID.NotFound", "Transit Gateway Route Table", exists)?;
    list(parameters, "TransitGatewayRouteTables", TABLE_FILTERS, |after| {
        let rest = all.iter().filter(|(id, _)| after.is_none_or(|after| id.as_str() > after));
        let rest = rest.filter(|(id, _)| ids.has(id));
        rest.map(|(id, value)| (id.clone(), value.clone())).collect::<Vec<_>>().into_iter()
    })
}

fn create_route_table(context: &Context, parameters: Parameters) -> WriteResult {
    let id = parameters.text("TransitGatewayId");
    let mut gateway = (**existing_gateway(context, id)?).clone();
    let mut table = RouteTable { created: Some(context.time()), ..RouteTable::default() };
    tags::set_specified(context, &mut table, parameters, "transit-gateway-route-table")?;
    let table_id = random("tgw-rtb");
    let result = json!({"TransitGatewayRouteTable": table_value((id, &gateway), &table_id, &table, "available")});
    let mut tables = own_tables(&gateway);
    tables.insert(table_id, table);
    set_tables(&mut gateway, &tables);
    Ok(Written { edits: vec![gateway_edit(id, gateway)], result })
}

fn delete_route_table(context: &Context, parameters: Parameters) -> WriteResult {
    let table_id = parameters.text("TransitGatewayRouteTableId");
    let (id, gateway) = gateway_of_table(context, table_id)?;
    let mut gateway = (**gateway).clone();
    if default_table(id, &gateway) == table_id {
        let message = format!("Transit Gateway Route Table {table_id} is the default one and cannot be deleted");
        return Err(error("IncorrectState", message));
    }
    if gateway.attachments.iter().any(|attachment| attachment.route_table.as_deref() == Some(table_id)) {
        let message = format!("Transit Gateway Route Table {table_id} has associations");
        return Err(error("IncorrectState", message));
    }
    let mut tables = own_tables(&gateway);
    let table = tables.remove(table_id).unwrap_or_default();
    set_tables(&mut gateway, &tables);
    for attachment in &mut gateway.attachments {
        attachment.propagates_to.iter_mut().for_each(|tables| tables.retain(|other| other != table_id));
    }
    let result = json!({"TransitGatewayRouteTable": table_value((id, &gateway), table_id, &table, "deleted")});
    Ok(Written { edits: vec![gateway_edit(id, gateway)], result })
}

const RESOURCE_FILTERS: Known = &[
    ("resource-id", "ResourceId"),
    ("resource-type", "ResourceType"),
    ("transit-gateway-attachment-id", "TransitGatewayAttachmentId"),
];

/// The attachments of a table's gateway for which `is_listed` says so, with a state.
fn attachments_of_table(
    context: &Context,
    parameters: Parameters,
    member: &str,
    state: &str,
    is_listed: impl Fn(&str, &TransitGateway, &Attachment, &str) -> bool,
) -> ReadResult {
    let table = parameters.text("TransitGatewayRouteTableId");
    let (id, gateway) = gateway_of_table(context, table)?;
    let mut all: BTreeMap<Id, Value> = BTreeMap::new();
    for Owned { attachment_id, attachment, .. } in all_attachments(id, gateway).filter(|owned| !owned.is_pending) {
        if is_listed(id, gateway, &attachment, table) {
            let (kind, resource) = resource_of(&attachment);
            let value = json!({
                "TransitGatewayAttachmentId": attachment_id, "ResourceId": resource, "ResourceType": kind, "State": state,
            });
            all.insert(attachment_id, value);
        }
    }
    list(parameters, member, RESOURCE_FILTERS, |after| {
        let rest = all.iter().filter(|(id, _)| after.is_none_or(|after| id.as_str() > after));
        rest.map(|(id, value)| (id.clone(), value.clone())).collect::<Vec<_>>().into_iter()
    })
}

fn get_associations(context: &Context, parameters: Parameters) -> ReadResult {
    attachments_of_table(context, parameters, "Associations", "associated", |id, gateway, attachment, table| {
        table_of(id, gateway, attachment).is_some_and(|of| of == table)
    })
}

fn get_propagations(context: &Context, parameters: Parameters) -> ReadResult {
    let member = "TransitGatewayRouteTablePropagations";
    attachments_of_table(context, parameters, member, "enabled", |id, gateway, attachment, table| {
        propagations(id, gateway, attachment).iter().any(|of| of == table)
    })
}

const PROPAGATION_FILTERS: Known = &[("transit-gateway-route-table-id", "TransitGatewayRouteTableId")];

fn no_attachment(id: &str) -> ServiceError {
    let message = format!("Transit Gateway Attachment {id} was deleted or does not exist.");
    error("InvalidTransitGatewayAttachmentID.NotFound", message)
}

fn get_attachment_propagations(context: &Context, parameters: Parameters) -> ReadResult {
    let wanted = parameters.text("TransitGatewayAttachmentId");
    let gateways = context.manifest().transit_gateways.iter().filter(|(_, gateway)| is_here(context, gateway));
    let mut found =
        gateways.flat_map(|(id, gateway)| all_attachments(id, gateway).map(move |owned| (id, gateway, owned)));
    let (id, gateway, owned) =
        found.find(|(_, _, owned)| owned.attachment_id == wanted).ok_or_else(|| no_attachment(wanted))?;
    let mut tables = propagations(id, gateway, &owned.attachment);
    tables.sort_unstable();
    list(parameters, "TransitGatewayAttachmentPropagations", PROPAGATION_FILTERS, |after| {
        let after = after.map(str::to_string);
        let rest = tables.into_iter().filter(move |table| after.as_ref().is_none_or(|after| table > after));
        rest.map(|table| (table.clone(), json!({"TransitGatewayRouteTableId": table, "State": "enabled"})))
    })
}

/// Changes the attachment of a request, which is of the gateway of the table of the request.
fn change_attachment(
    context: &Context,
    parameters: Parameters,
    member: &str,
    state: &str,
    change: impl Fn(&str, &TransitGateway, &mut Attachment, &str) -> Result<(), ServiceError>,
) -> WriteResult {
    let table = parameters.text("TransitGatewayRouteTableId");
    let wanted = parameters.text("TransitGatewayAttachmentId");
    let (id, gateway) = gateway_of_table(context, table)?;
    let at = all_attachments(id, gateway).position(|owned| owned.attachment_id == wanted && !owned.is_pending);
    let mut changed = (**gateway).clone();
    let attachment = at.and_then(|at| changed.attachments.get_mut(at)).ok_or_else(|| no_attachment(wanted))?;
    // The default table has no name in the manifest.
    let name = if default_table(id, gateway) == table { DEFAULT_TABLE } else { table };
    change(id, gateway, attachment, name)?;
    let (kind, resource) = resource_of(attachment);
    let mut result = json!({});
    result[member] = json!({
        "TransitGatewayRouteTableId": table, "TransitGatewayAttachmentId": wanted, "ResourceId": resource,
        "ResourceType": kind, "State": state,
    });
    Ok(Written { edits: vec![gateway_edit(id, changed)], result })
}

fn associate_route_table(context: &Context, parameters: Parameters) -> WriteResult {
    change_attachment(context, parameters, "Association", "associated", |_, _, attachment, table| {
        if attachment.route_table.as_deref().is_none_or(|other| other != NO_TABLE) {
            let message = "The attachment is already associated with a route table: disassociate it first";
            return Err(error("Resource.AlreadyAssociated", message));
        }
        attachment.route_table = (table != DEFAULT_TABLE).then(|| table.into());
        Ok(())
    })
}

fn disassociate_route_table(context: &Context, parameters: Parameters) -> WriteResult {
    change_attachment(context, parameters, "Association", "disassociated", |_, _, attachment, table| {
        if attachment.route_table.as_deref().unwrap_or(DEFAULT_TABLE) != table {
            return Err(error("InvalidAssociation.NotFound", "The attachment is not associated with this route table"));
        }
        attachment.route_table = Some(NO_TABLE.into());
        Ok(())
    })
}

fn enable_propagation(context: &Context, parameters: Parameters) -> WriteResult {
    change_attachment(context, parameters, "Propagation", "enabled", |_, _, attachment, table| {
        let tables = attachment.propagates_to.get_or_insert_with(|| vec![DEFAULT_TABLE.into()]);
        if tables.iter().any(|other| other == table) {
            let message = "The attachment already propagates to this route table";
            return Err(error("TransitGatewayRouteTablePropagation.Duplicate", message));
        }
        tables.push(table.into());
        Ok(())
    })
}

fn disable_propagation(context: &Context, parameters: Parameters) -> WriteResult {
    change_attachment(context, parameters, "Propagation", "disabled", |_, _, attachment, table| {
        let tables = attachment.propagates_to.get_or_insert_with(|| vec![DEFAULT_TABLE.into()]);
        let at = tables.iter().position(|other| other == table);
        let message = "The attachment does not propagate to this route table";
        let at = at.ok_or_else(|| error("TransitGatewayRouteTablePropagation.NotFound", message))?;
        tables.remove(at);
        Ok(())
    })
}
