//! EC2: tags of resources. The tag `Name` is the name of the resource. Tags that begin with `zonal:` set members that AWS's
//! resources do not have.

use super::{
    dhcp_options::has_options,
    done, error, list, peering,
    security_groups::{existing_group, is_here},
    services::{is_own, own_service, service_id},
    subnets::find_subnet,
    transit_gateway_attachments, transit_gateways,
    transit_gateways::RouteTable,
    vpcs::{has_vpc, vpc},
};
use crate::{
    aws::{
        codec::server::ServiceError,
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult, WriteResult, edits,
            filters::Known,
            table::{read, write},
            tag_list, tags,
        },
    },
    manifest::{
        Attachment, ClientRoutingPolicy, DhcpOptions, InterfaceHealthCheck, Manifest, PrivateDnsScope, SecurityGroup,
        Subnet, Tags, TransitGateway, Vpc, VpcEndpoint, VpcEndpointService, VpcPeeringConnection,
    },
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(Ec2, "DescribeTags", describe_tags, "Filters MaxResults NextToken DryRun"),
    write(Ec2, "CreateTags", create_tags, "Resources Tags DryRun"),
    write(Ec2, "DeleteTags", delete_tags, "Resources Tags DryRun"),
];

/// The longest key and the longest value of a tag, as in AWS.
const MAX_KEY_CHARACTERS: usize = 128;
const MAX_VALUE_CHARACTERS: usize = 256;

/// The maximum number of tags of a resource, as in AWS.
const MAX_TAGS: usize = 50;

/// The prefix of tags that set members.
const MEMBER: &str = "zonal:";

/// A resource with tags.
pub(super) trait Tagged {
    /// The name and the tags. No name, if `Name` is a tag like others.
    fn labels(&mut self) -> (Option<&mut Option<String>>, &mut Tags);

    /// Sets the member of a tag; its default, without a value.
    ///
    /// # Errors
    ///
    /// The resource has no such member, or the value is not one of it.
    fn set_member(&mut self, _: &Context, member: &str, _: Option<&str>) -> Result<(), String> {
        Err(format!("this resource has no tag `{MEMBER}{member}`"))
    }
}

impl Tagged for Vpc {
    fn labels(&mut self) -> (Option<&mut Option<String>>, &mut Tags) {
        (Some(&mut self.name), &mut self.tags)
    }

    fn set_member(&mut self, context: &Context, member: &str, value: Option<&str>) -> Result<(), String> {
        match member {
            "resolver-addresses" => {
                let address = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("`{text}` is not an address"));
                let texts = value.unwrap_or_default().split_whitespace();
                let addresses = texts.map(address).collect::<Result<Vec<_>, _>>()?;
                // Queries to any other address are not for one account to take.
                let is_own = |address: &IpAddr| self.cidr_blocks.iter().any(|block| block.contains(address));
                if let Some(other) = addresses.iter().find(|address| context.account().is_some() && !is_own(address)) {
                    return Err(format!("{other} is outside the VPC: only a key without an account may set it"));
                }
                self.resolver_addresses = addresses;
                Ok(())
            }
            _ => Err(format!("a VPC has no tag `{MEMBER}{member}`; zonal knows `{MEMBER}resolver-addresses`")),
        }
    }
}

impl Tagged for VpcEndpoint {
    fn labels(&mut self) -> (Option<&mut Option<String>>, &mut Tags) {
        (Some(&mut self.name), &mut self.tags)
    }

    fn set_member(&mut self, context: &Context, member: &str, value: Option<&str>) -> Result<(), String> {
        match member {
            "client-routing-policy" => {
                self.client_routing_policy = match value {
                    None => ClientRoutingPolicy::default(),
                    Some(text) => serde_json::from_value(json!(text))
                        .map_err(|_| format!("expected one of {}", ClientRoutingPolicy::WORDS.join(", ")))?,
                }
            }
            "private-dns-scope" => {
                self.private_dns_scope = match value.unwrap_or("vpc") {
                    "vpc" => PrivateDnsScope::Vpc,
                    // Names in VPCs of other accounts are not for one account to decide.
                    "connected" if context.account().is_none() => PrivateDnsScope::Connected,
                    "connected" => return Err("only a key without an account may set `connected`".into()),
                    vpcs => {
                        let vpcs: Vec<String> = vpcs.split_whitespace().map(str::to_string).collect();
                        match vpcs.iter().find(|id| !context.sees(context.vpc_owner(id))) {
                            None => PrivateDnsScope::Vpcs(vpcs),
                            Some(id) => return Err(format!("the VPC {id} does not exist")),
                        }
                    }
                }
            }
            "health-check" => self.health_check = value.map(health_check).transpose()?,
            _ => {
                return Err(format!(
                    "an endpoint has no tag `{MEMBER}{member}`; zonal knows `{MEMBER}client-routing-policy`, \
                     `{MEMBER}private-dns-scope` and `{MEMBER}health-check`"
                ));
            }
        }
        Ok(())
    }
}

impl Tagged for VpcEndpointService {
    fn labels(&mut self) -> (Option<&mut Option<String>>, &mut Tags) {
        (Some(&mut self.name), &mut self.tags)
    }

    fn set_member(&mut self, _: &Context, member: &str, value: Option<&str>) -> Result<(), String> {
        match member {
            "health-check" => {
                self.health_check = value.map(health_check).transpose()?;
                Ok(())
            }
            _ => Err(format!("a service has no tag `{MEMBER}{member}`; zonal knows `{MEMBER}health-check`")),
        }
    }
}

impl Tagged for SecurityGroup {
    fn labels(&mut self) -> (Option<&mut Option<String>>, &mut Tags) {
        (None, &mut self.tags)
    }
}

/// The health check in a tag: `TYPE:PORT/PATH`, of which only the type is necessary.
fn health_check(text: &str) -> Result<InterfaceHealthCheck, String> {
    let path_at = text.find('/').unwrap_or(text.len());
    let (target, path) = text.split_at(path_at);
    let (kind, port) = target.split_once(':').map_or((target, None), |(kind, port)| (kind, Some(port)));
    let message = || format!("`{text}` is not a health check; write one such as `TCP:443` or `HTTPS:8443/health`");
    let mut check = json!({"type": kind});
    if let Some(port) = port {
        check["port"] = port.parse::<u16>().map_err(|_| message())?.into();
    }
    if !path.is_empty() {
        check["resource_path"] = path.into();
    }
    serde_json::from_value(check).map_err(|_| message())
}

/// Resources whose members no tag sets.
macro_rules! tagged {
    ($($type:ident,)+) => {
        $(impl Tagged for $type {
            fn labels(&mut self) -> (Option<&mut Option<String>>, &mut Tags) {
                (Some(&mut self.name), &mut self.tags)
            }
        })+
    };
}

tagged! {
    Subnet,
    DhcpOptions,
    VpcPeeringConnection,
    TransitGateway,
    Attachment,
    RouteTable,
}

/// Sets a tag, or removes it if it has no value.
fn set(context: &Context, resource: &mut dyn Tagged, key: &str, value: Option<&str>) -> Result<(), ServiceError> {
    if key.starts_with("aws:") {
        let message = "Tag keys starting with 'aws:' are reserved for internal use";
        return Err(error("InvalidParameterValue", message));
    }
    if key.chars().count() > MAX_KEY_CHARACTERS
        || value.is_some_and(|value| value.chars().count() > MAX_VALUE_CHARACTERS)
    {
        let message = format!(
            "A tag has a key of at most {MAX_KEY_CHARACTERS} characters and a value of at most {MAX_VALUE_CHARACTERS}"
        );
        return Err(error("InvalidParameterValue", message));
    }
    if let Some(member) = key.strip_prefix(MEMBER) {
        let set = resource.set_member(context, member, value);
        set.map_err(|reason| error("InvalidParameterValue", format!("Tag {key}: {reason}")))?;
    }
    let (name, tags) = resource.labels();
    let name = name.filter(|_| key == "Name");
    let is_name = name.is_some();
    if let Some(name) = name {
        *name = value.map(str::to_string);
    }
    match value.filter(|_| !is_name) {
        Some(_) if tags.len() >= MAX_TAGS && !tags.contains_key(key) => {
            return Err(error("TagLimitExceeded", format!("A resource has at most {MAX_TAGS} tags")));
        }
        Some(value) => drop(tags.insert(key.into(), value.into())),
        None => drop(tags.remove(key)),
    }
    Ok(())
}

/// Sets the tags of a request that makes a resource of this type.
pub(super) fn set_specified(
    context: &Context,
    resource: &mut dyn Tagged,
    parameters: Parameters,
    resource_type: &str,
) -> Result<(), ServiceError> {
    for specification in parameters.items("TagSpecifications").map(Parameters) {
        let kind = specification.text("ResourceType");
        if kind != resource_type {
            let message = format!("'{kind}' is not a valid taggable resource type for this operation.");
            return Err(error("InvalidParameterValue", message));
        }
        for (key, value) in tags::read(specification, "Tags") {
            set(context, resource, &key, Some(&value))?;
        }
    }
    Ok(())
}

/// Changes the labels of a resource in a copy of the manifest.
fn change(
    context: &Context,
    manifest: &mut Manifest,
    id: &str,
    change: &dyn Fn(&mut dyn Tagged) -> Result<(), ServiceError>,
) -> Result<(), ServiceError> {
    macro_rules! change_in {
        ($kind:ident, $is_visible:expr) => {
            if let Some(found) = manifest.$kind.get(id).cloned().filter($is_visible) {
                let mut changed = (*found).clone();
                change(&mut changed)?;
                manifest.$kind.insert(id.into(), Arc::new(changed));
                return Ok(());
            }
        };
    }
    change_in!(vpcs, |vpc| has_vpc(context, vpc));
    change_in!(dhcp_options, |options| has_options(context, options));
    // The default groups of all VPCs are searched.
    let may_be_group = id.starts_with("sg-") || manifest.security_groups.contains_key(id);
    if let Some(group) = may_be_group.then(|| existing_group(context, id).ok()).flatten() {
        // The default group of a VPC is in the manifest as soon as it is changed.
        let mut changed = manifest.security_groups.get(id).map_or_else(|| (*group).clone(), |group| (**group).clone());
        change(&mut changed)?;
        manifest.security_groups.insert(id.into(), Arc::new(changed));
        return Ok(());
    }
    change_in!(vpc_peering_connections, |peering| peering::is_here(context, peering));
    change_in!(transit_gateways, |gateway| transit_gateways::is_here(context, gateway));
    if let Some(changed) = transit_gateway_attachments::change_labels(context, manifest, id, change) {
        return changed;
    }
    if let Ok((gateway_id, _)) = transit_gateways::gateway_of_table(context, id)
        && let Some(gateway) = manifest.transit_gateways.get(gateway_id)
    {
        let mut gateway = (**gateway).clone();
        let mut tables = transit_gateways::own_tables(&gateway);
        if let Some(table) = tables.get_mut(id) {
            change(table)?;
            transit_gateways::set_tables(&mut gateway, &tables);
            manifest.transit_gateways.insert(gateway_id.clone(), Arc::new(gateway));
            return Ok(());
        }
    }
    change_in!(vpc_endpoints, |endpoint| vpc(context, &endpoint.vpc_id).is_some());
    if let Some((name, _)) = own_service(context, id)
        && let Some(service) = manifest.vpc_endpoint_services.get(name)
    {
        let mut changed = (**service).clone();
        change(&mut changed)?;
        manifest.vpc_endpoint_services.insert(name.clone(), Arc::new(changed));
        return Ok(());
    }
    if let Some((vpc_id, _, _)) = find_subnet(context, id) {
        if let Some(vpc) = manifest.vpcs.get(vpc_id) {
            let mut changed = (**vpc).clone();
            if let Some(subnet) = changed.subnets.get_mut(id) {
                change(subnet)?;
            }
            manifest.vpcs.insert(vpc_id.into(), Arc::new(changed));
        }
        return Ok(());
    }
    let code = match id.rsplit_once('-').map(|(prefix, _)| prefix) {
        Some("vpc") => "InvalidVpcID.NotFound",
        Some("subnet") => "InvalidSubnetID.NotFound",
        Some("dopt") => "InvalidDhcpOptionID.NotFound",
        Some("sg") => "InvalidGroup.NotFound",
        Some("vpce") => "InvalidVpcEndpointId.NotFound",
        Some("vpce-svc") => "InvalidVpcEndpointServiceId.NotFound",
        Some("pcx") => "InvalidVpcPeeringConnectionID.NotFound",
        Some("tgw") => "InvalidTransitGatewayID.NotFound",
        Some("tgw-attach") => "InvalidTransitGatewayAttachmentID.NotFound",
        Some("tgw-rtb") => "InvalidRouteTableID.NotFound",
        _ => "InvalidID",
    };
    Err(error(code, format!("The ID '{id}' does not exist, or zonal keeps no tags of it")))
}

fn create_tags(context: &Context, parameters: Parameters) -> WriteResult {
    let mut manifest = context.manifest().clone();
    let tags = tags::read(parameters, "Tags");
    for id in parameters.texts("Resources") {
        change(context, &mut manifest, id, &|resource| {
            tags.iter().try_for_each(|(key, value)| set(context, resource, key, Some(value)))
        })?;
    }
    done(edits::between(context.manifest(), &manifest))
}

fn delete_tags(context: &Context, parameters: Parameters) -> WriteResult {
    let mut manifest = context.manifest().clone();
    let removed: Vec<(&str, Option<&str>)> =
        parameters.items("Tags").map(Parameters).map(|tag| (tag.text("Key"), tag.given_text("Value"))).collect();
    for id in parameters.texts("Resources") {
        change(context, &mut manifest, id, &|resource| {
            let (name, tags) = resource.labels();
            let mut all = tags.clone();
            all.extend(name.cloned().flatten().map(|name| ("Name".to_string(), name)));
            let is_removed = |key: &str, value: &str| {
                removed.is_empty()
                    || removed.iter().any(|(of, only)| *of == key && only.is_none_or(|only| only == value))
            };
            let mut keys = all.iter().filter(|(key, value)| is_removed(key, value)).map(|(key, _)| key);
            keys.try_for_each(|key| set(context, resource, key, None))
        })?;
    }
    done(edits::between(context.manifest(), &manifest))
}

const TAG_FILTERS: Known =
    &[("key", "Key"), ("resource-id", "ResourceId"), ("resource-type", "ResourceType"), ("value", "Value")];

fn describe_tags(context: &Context, parameters: Parameters) -> ReadResult {
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    let mut add = |kind: &str, id: &str, tags: &Tags, name: Option<&str>| {
        let labels = tag_list(tags, name);
        for tag in labels.as_array().into_iter().flatten().map(Parameters) {
            let (key, value) = (tag.text("Key"), tag.text("Value"));
            let shown = json!({"ResourceId": id, "ResourceType": kind, "Key": key, "Value": value});
            all.insert(format!("{id}\t{key}"), shown);
        }
    };
    let manifest = context.manifest();
    for (id, found) in manifest.vpcs.iter().filter(|(_, found)| has_vpc(context, found)) {
        add("vpc", id, &found.tags, found.name.as_deref());
        for (id, subnet) in &found.subnets {
            add("subnet", id, &subnet.tags, subnet.name.as_deref());
        }
    }
    for (id, options) in manifest.dhcp_options.iter().filter(|(_, options)| has_options(context, options)) {
        add("dhcp-options", id, &options.tags, options.name.as_deref());
    }
    let peerings = manifest.vpc_peering_connections.iter().filter(|(_, peering)| peering::is_here(context, peering));
    for (id, peering) in peerings {
        add("vpc-peering-connection", id, &peering.tags, peering.name.as_deref());
    }
    let gateways = manifest.transit_gateways.iter().filter(|(_, gateway)| transit_gateways::is_here(context, gateway));
    for (id, gateway) in gateways {
        add("transit-gateway", id, &gateway.tags, gateway.name.as_deref());
        for (id, table) in transit_gateways::own_tables(gateway) {
            add("transit-gateway-route-table", &id, &table.tags, table.name.as_deref());
        }
    }
    for (id, attachment) in transit_gateway_attachments::labelled(context) {
        add("transit-gateway-attachment", &id, &attachment.tags, attachment.name.as_deref());
    }
    for (id, group) in manifest.security_groups.iter().filter(|(_, group)| is_here(context, group)) {
        add("security-group", id, &group.tags, None);
    }
    for (id, endpoint) in manifest.vpc_endpoints.iter().filter(|(_, endpoint)| vpc(context, &endpoint.vpc_id).is_some())
    {
        add("vpc-endpoint", id, &endpoint.tags, endpoint.name.as_deref());
    }
    for (name, service) in manifest.vpc_endpoint_services.iter().filter(|(_, service)| is_own(context, service)) {
        add("vpc-endpoint-service", &service_id(name, service), &service.tags, service.name.as_deref());
    }
    list(parameters, "Tags", TAG_FILTERS, |after| {
        let after = after.map(str::to_string);
        all.into_iter().filter(move |(key, _)| after.as_ref().is_none_or(|after| key > after))
    })
}
