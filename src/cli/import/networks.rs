//! Networks: VPCs with their subnets, DHCP options, security groups, peering connections and Transit Gateways.

use super::{Import, Item, aws_data, list, text};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

impl<'i> Import<'i> {
    pub(super) fn networks(&mut self) {
        self.dhcp_options();
        self.vpcs();
        self.security_groups();
        self.peering_connections();
        self.transit_gateways();
    }

    fn dhcp_options(&mut self) {
        const KIND: &str = "dhcp_options";
        for item in self.input.list("DhcpOptions") {
            let Some(id) = self.id(KIND, item, "DhcpOptionsId") else { continue };
            let values = |key: &str| -> Vec<&str> {
                let all = item.list("DhcpConfigurations").iter().filter(|one| text(one, "Key") == Some(key));
                all.flat_map(|one| list(one, "Values"))
                    .filter_map(|value| text(value, "Value").or(value.as_str()))
                    .collect()
            };
            let number = |key: &str| values(key).first().and_then(|value| value.parse::<u32>().ok());
            let resource = json!({
                "domain_name": values("domain-name").first(),
                "domain_name_servers": values("domain-name-servers"),
                "ntp_servers": values("ntp-servers"),
                "netbios_name_servers": values("netbios-name-servers"),
                "netbios_node_type": number("netbios-node-type"),
                "ipv6_address_preferred_lease_time": number("ipv6-address-preferred-lease-time"),
                "owner_id": item.text("OwnerId"),
                "tags": self.tags_of(id, item),
            });
            self.put(KIND, id, resource);
        }
    }

    fn vpcs(&mut self) {
        const KIND: &str = "vpcs";
        let mut subnets: BTreeMap<&str, Vec<&'i Item>> = BTreeMap::new();
        for subnet in self.input.list("Subnets") {
            let Some(vpc) = self.id("subnets", subnet, "VpcId") else { continue };
            subnets.entry(vpc).or_default().push(subnet);
        }
        let mut attributes: HashMap<(&str, &str), bool> = HashMap::new();
        for item in self.input.list("VpcAttributes") {
            for attribute in ["EnableDnsSupport", "EnableDnsHostnames"] {
                let value = item.value.get(attribute).and_then(|value| value.get("Value")?.as_bool());
                if let (Some(vpc), Some(value)) = (item.text("VpcId"), value) {
                    attributes.insert((vpc, attribute), value);
                }
            }
        }
        let mut resolvers: BTreeMap<IpAddr, &str> = BTreeMap::new();
        for item in self.input.list("Vpcs") {
            let Some(id) = self.id(KIND, item, "VpcId") else { continue };
            let own = subnets.remove(id).unwrap_or_default();
            let region = self.region_of(item).or_else(|| own.iter().find_map(|subnet| self.region_of(subnet)));
            let Some(region) = region else {
                let reason =
                    "its Region is not known: put the files into a directory of the Region's name, or use --region";
                self.report.not_expressible(KIND, id, reason);
                continue;
            };
            let mut attribute = |member: &str, default: bool| {
                attributes.get(&(id, member)).copied().unwrap_or_else(|| {
                    let reason = format!("no output of describe-vpc-attribute has `{member}`: taken as {default}");
                    self.report.approximated(KIND, id, reason);
                    default
                })
            };
            let dns_support = attribute("EnableDnsSupport", true);
            let dns_hostnames = attribute("EnableDnsHostnames", true);
            let blocks = blocks_of(item);
            // The second address of the VPC's first block is the address of AWS's resolver.
            let resolver = blocks.iter().find_map(|block| match block {
                IpNet::V4(block) => Some(IpAddr::V4((u32::from(block.network()).checked_add(2)?).into())),
                IpNet::V6(_) => None,
            });
            let mut resolver_addresses = Vec::new();
            if let Some(address) = resolver {
                match resolvers.get(&address) {
                    None => {
                        resolvers.insert(address, id);
                        resolver_addresses.push(address);
                    }
                    Some(other) => {
                        let reason = format!(
                            "{other} has the same address {address} of its resolver: write other addresses into \
                             `resolver_addresses`"
                        );
                        self.report.approximated(KIND, id, reason);
                    }
                }
            }
            let azs: BTreeMap<&str, &str> =
                self.azs.iter().filter(|((of, _), _)| *of == region).map(|((_, name), id)| (*name, *id)).collect();
            let mut made = Map::new();
            for subnet in own {
                self.subnet(id, subnet, &azs, &mut made);
            }
            let dhcp = item.text("DhcpOptionsId").filter(|options| self.has("dhcp_options", options));
            let resource = json!({
                "owner_id": item.text("OwnerId").or(self.input.account.as_deref()),
                "region": region,
                "cidr_blocks": blocks,
                "resolver_addresses": resolver_addresses,
                "enable_dns_support": dns_support,
                "enable_dns_hostnames": dns_hostnames,
                "availability_zones": azs,
                "subnets": made,
                "dhcp_options_id": dhcp,
                "tags": self.tags_of(id, item),
                "aws": aws_data(item, &[], &["InstanceTenancy", "IsDefault"]),
            });
            self.put(KIND, id, resource);
            // A VPC without a block is a VPC all the same.
            if let Some(Value::Object(vpc)) = self.made.get_mut(KIND).and_then(|vpcs| vpcs.get_mut(id)) {
                vpc.entry("cidr_blocks").or_insert(json!([]));
            }
        }
        for vpc in subnets.into_keys() {
            self.report.not_expressible(
                "subnets",
                vpc,
                "the VPC of these subnets is not in the output of describe-vpcs",
            );
        }
    }

    fn subnet(&mut self, vpc: &str, item: &'i Item, azs: &BTreeMap<&str, &str>, made: &mut Map<String, Value>) {
        let Some(id) = self.id("subnets", item, "SubnetId") else { return };
        let named = item.text("AvailabilityZone").and_then(|name| azs.get(name).copied());
        let Some(az) = item.text("AvailabilityZoneId").or(named) else {
            return self.lacks("vpcs", &format!("{vpc} {id}"), "AvailabilityZoneId");
        };
        let mut resource = json!({
            "availability_zone_id": az,
            "cidr_blocks": blocks_of(item),
            "enable_dns64": item.flag("EnableDns64"),
            "tags": self.tags_of(id, item),
            "aws": aws_data(item, &[], &["MapPublicIpOnLaunch", "PrivateDnsNameOptionsOnLaunch"]),
        });
        if let Value::Object(members) = &mut resource {
            members.retain(|member, value| member == "cidr_blocks" || !super::is_empty(value));
        }
        made.insert(id.into(), resource);
    }

    fn security_groups(&mut self) {
        const KIND: &str = "security_groups";
        for item in self.input.list("SecurityGroups") {
            let Some(id) = self.id(KIND, item, "GroupId") else { continue };
            let resource = json!({
                "name": item.text("GroupName"),
                "description": item.text("Description"),
                "vpc_id": item.text("VpcId"),
                "owner_id": item.text("OwnerId"),
                "ip_permissions": item.list("IpPermissions"),
                "ip_permissions_egress": item.list("IpPermissionsEgress"),
                "tags": self.tags_of(id, item),
            });
            self.put(KIND, id, resource);
        }
    }

    fn peering_connections(&mut self) {
        const KIND: &str = "vpc_peering_connections";
        for item in self.input.list("VpcPeeringConnections") {
            let Some(id) = self.id(KIND, item, "VpcPeeringConnectionId") else { continue };
            let status = item.value.get("Status").and_then(|status| text(status, "Code")).unwrap_or("active");
            if matches!(status, "deleted" | "rejected" | "failed" | "expired" | "deleting") {
                self.report.not_expressible(
                    KIND,
                    id,
                    format!("the connection is in state {status}: nothing is served by it"),
                );
                continue;
            }
            let sides =
                ["RequesterVpcInfo", "AccepterVpcInfo"].map(|side| item.value.get(side).unwrap_or(&Value::Null));
            let vpcs = sides.map(|side| text(side, "VpcId").unwrap_or_default());
            if let Some(other) = vpcs.iter().find(|vpc| !self.has("vpcs", vpc)) {
                let reason = match other.is_empty() {
                    true => "the output does not name both VPCs".to_string(),
                    false => format!("{other} is not among the imported VPCs"),
                };
                self.report.not_expressible(KIND, id, reason);
                continue;
            }
            let allows = sides.map(|side| {
                side.get("PeeringOptions").and_then(|options| options.get("AllowDnsResolutionFromRemoteVpc")?.as_bool())
                    == Some(true)
            });
            if allows[0] != allows[1] {
                let reason = "only one side allows DNS resolution from the other VPC; zonal has one setting for both sides: \
                              taken as not allowed";
                self.report.approximated(KIND, id, reason);
            }
            let resource = json!({
                "vpc_ids": vpcs,
                "status": status,
                "allow_remote_vpc_dns_resolution": allows[0] && allows[1],
                "tags": self.tags_of(id, item),
                "aws": {"options": {"requester": allows[0], "accepter": allows[1]}},
            });
            self.put(KIND, id, resource);
        }
    }

    fn transit_gateways(&mut self) {
        const KIND: &str = "transit_gateways";
        // The route table that each attachment is associated with.
        let mut tables: HashMap<&str, &str> = HashMap::new();
        for item in self.input.list("TransitGatewayAttachments") {
            let table = item.value.get("Association").and_then(|one| text(one, "TransitGatewayRouteTableId"));
            if let (Some(id), Some(table)) = (item.text("TransitGatewayAttachmentId"), table) {
                tables.insert(id, table);
            }
        }
        // The route tables that each attachment propagates to. Without the files, they are the default ones.
        let mut propagations: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        let are_known = !self.input.list("TransitGatewayRouteTablePropagations").is_empty();
        for item in self.input.list("TransitGatewayRouteTablePropagations") {
            let is_on = item.text("State").is_none_or(|state| state.starts_with("enabl"));
            if let Some(id) = item.text("TransitGatewayAttachmentId").filter(|_| is_on) {
                propagations.entry(id).or_default().insert(&item.origin.of);
            }
        }
        let mut attachments: BTreeMap<&str, Vec<(&'i Item, Value)>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for item in self.input.list("TransitGatewayVpcAttachments") {
            let Some(id) = self.id("attachments", item, "TransitGatewayAttachmentId") else { continue };
            seen.insert(id);
            let (Some(gateway), Some(vpc)) = (item.text("TransitGatewayId"), item.text("VpcId")) else {
                self.lacks(KIND, id, "VpcId");
                continue;
            };
            if !is_alive(item) {
                continue;
            }
            if !self.has("vpcs", vpc) {
                self.report.approximated(
                    KIND,
                    gateway,
                    format!("{vpc} is not among the imported VPCs: {id} is left out"),
                );
                continue;
            }
            let support = item.value.get("Options").and_then(|options| text(options, "DnsSupport"));
            let attachment = json!({
                "vpc_id": vpc,
                "attachment_id": id,
                "dns_support": support != Some("disable"),
                "subnet_ids": item.list("SubnetIds"),
                "tags": self.tags_of(id, item),
            });
            attachments.entry(gateway).or_default().push((item, attachment));
        }
        let gateways: BTreeSet<&str> =
            self.input.list("TransitGateways").iter().filter_map(|item| item.text("TransitGatewayId")).collect();
        for item in self.input.list("TransitGatewayPeeringAttachments") {
            let Some(id) = self.id("attachments", item, "TransitGatewayAttachmentId") else { continue };
            if !seen.insert(id) {
                continue;
            }
            let side = |side: &str| item.value.get(side).and_then(|side| text(side, "TransitGatewayId"));
            let (Some(one), Some(other)) = (side("RequesterTgwInfo"), side("AccepterTgwInfo")) else {
                self.lacks(KIND, id, "RequesterTgwInfo");
                continue;
            };
            if !is_alive(item) {
                continue;
            }
            for (own, peer) in [(one, other), (other, one)].into_iter().filter(|(own, _)| gateways.contains(own)) {
                if !gateways.contains(peer) {
                    let reason = format!("{peer} is not among the imported gateways: {id} is left out");
                    self.report.approximated(KIND, own, reason);
                    continue;
                }
                let attachment = json!({"transit_gateway_id": peer, "attachment_id": id, "dns_support": true});
                let list = attachments.entry(own).or_default();
                if !list.iter().any(|(_, known)| known.get("attachment_id").and_then(Value::as_str) == Some(id)) {
                    list.push((item, attachment));
                }
            }
        }
        for item in self.input.list("TransitGatewayAttachments") {
            let Some(id) = self.id("attachments", item, "TransitGatewayAttachmentId") else { continue };
            let what = item.text("ResourceType").unwrap_or_default();
            if !seen.contains(id) && !matches!(what, "vpc" | "peering" | "") && is_alive(item) {
                let gateway = item.text("TransitGatewayId").unwrap_or("-");
                let reason = format!(
                    "{id} attaches {what}: AWS does not say which addresses are behind it; add them to \
                     `on_premises_networks`, and an attachment with `on_premises_network_id`"
                );
                self.report.not_expressible(KIND, gateway, reason);
            }
        }
        for item in self.input.list("TransitGateways") {
            let Some(id) = self.id(KIND, item, "TransitGatewayId") else { continue };
            if !is_alive(item) {
                continue;
            }
            let options = item.value.get("Options").unwrap_or(&Value::Null);
            let default_of = |member: &str| text(options, member);
            let own = attachments.remove(id).unwrap_or_default();
            let own: Vec<Value> = own
                .into_iter()
                .map(|(source, mut attachment)| {
                    let of = source.text("TransitGatewayAttachmentId").unwrap_or_default();
                    let table = tables.get(of).copied();
                    if table != default_of("AssociationDefaultRouteTableId") {
                        attachment["route_table"] = json!(table);
                    }
                    let to = propagations.get(of).cloned().unwrap_or_default();
                    let default: BTreeSet<&str> = default_of("PropagationDefaultRouteTableId").into_iter().collect();
                    if are_known && to != default {
                        attachment["propagates_to"] = json!(to);
                    }
                    if let Value::Object(members) = &mut attachment {
                        members.retain(|member, value| member == "propagates_to" || !super::is_empty(value));
                    }
                    attachment
                })
                .collect();
            if !are_known && own.iter().any(|attachment| attachment.get("route_table").is_some()) {
                let reason = "no output of get-transit-gateway-route-table-propagations was read: each attachment propagates \
                              to the default route table";
                self.report.approximated(KIND, id, reason);
            }
            let resource = json!({
                "region": self.region_of(item),
                "attachments": own,
                "tags": self.tags_of(id, item),
                "aws": aws_data(item, &[("OwnerId", "owner_id"), ("CreationTime", "created")], &["Description", "Options"]),
            });
            self.put(KIND, id, resource);
        }
        for (gateway, _) in attachments {
            self.report.not_expressible(KIND, gateway, "the gateway is not in the output of describe-transit-gateways");
        }
    }
}

/// Whether a gateway or an attachment is not deleted.
fn is_alive(item: &Item) -> bool {
    !item.text("State").is_some_and(|state| matches!(state, "deleted" | "deleting" | "failed" | "rejected" | "failing"))
}

/// The CIDR blocks of a VPC or a subnet that are in use. The first one is the primary block.
fn blocks_of(item: &Item) -> Vec<IpNet> {
    let of = |set: &str, member: &str, state: &str| -> Vec<IpNet> {
        let associated = item.list(set).iter().filter(|one| {
            one.get(state).and_then(|state| text(state, "State")).is_none_or(|state| state.starts_with("associat"))
        });
        associated.filter_map(|one| text(one, member)?.parse().ok()).collect()
    };
    let primary = item.text("CidrBlock").and_then(|block| block.parse::<IpNet>().ok());
    let mut blocks: Vec<IpNet> = primary.into_iter().collect();
    let more = of("CidrBlockAssociationSet", "CidrBlock", "CidrBlockState").into_iter();
    for block in more.chain(of("Ipv6CidrBlockAssociationSet", "Ipv6CidrBlock", "Ipv6CidrBlockState")) {
        if !blocks.contains(&block) {
            blocks.push(block);
        }
    }
    blocks
}
