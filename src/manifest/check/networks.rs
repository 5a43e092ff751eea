//! Checks of VPCs, subnets, peering connections, Transit Gateways, on-premises networks, and entry
//! points.

use super::routing_policies::is_on_earth;
use super::{Checker, Seen, is_label, list, regions::is_other_region};
use crate::manifest::{Direction, Vpc, connectivity::Network};
use std::{collections::BTreeMap, collections::BTreeSet, net::IpAddr};

/// The number of networks that contain a resolver address beyond which zonal does not warn.
const MAX_HOLDERS: usize = 64;

/// The addresses of the resolver that are the same in every VPC.
const LINK_LOCAL: [&str; 2] = ["169.254.169.253", "fd00:ec2::253"];

impl<'a> Checker<'a> {
    pub(super) fn networks(&mut self) {
        let manifest = self.manifest;
        for (id, vpc) in &manifest.vpcs {
            self.vpc(id, vpc);
        }
        self.distant_resolver_addresses();
        self.az_maps();
        for (id, peering) in &manifest.vpc_peering_connections {
            const KIND: &str = "vpc_peering_connections";
            match &peering.vpc_ids[..] {
                [a, b] if a != b => {}
                [a, _] => self.error(KIND, id, "vpc_ids[1]", format!("`{a}` cannot be peered with itself")),
                other => {
                    let message = format!("a peering connection has two VPCs; this one has {}", other.len());
                    self.error(KIND, id, "vpc_ids", message);
                }
            }
            for (at, vpc) in peering.vpc_ids.iter().enumerate() {
                self.reference((KIND, id), format!("vpc_ids[{at}]"), "VPC", vpc, &manifest.vpcs);
            }
        }
        self.gateways();
        for (id, network) in &manifest.on_premises_networks {
            if network.cidr_blocks.is_empty() {
                self.warning(
                    "on_premises_networks",
                    id,
                    "cidr_blocks",
                    "the list is empty: no client is in the network",
                );
            }
            self.vpc_list("on_premises_networks", id, "vpc_ids", &network.vpc_ids);
            if let Some(place) = network.coordinates.filter(|place| !is_on_earth(place)) {
                let message = format!("{}, {} is no place on Earth", place.latitude, place.longitude);
                self.error("on_premises_networks", id, "coordinates", message);
                self.help("latitude from -90 to 90, longitude from -180 to 180");
            }
            if let Some(az) = &network.availability_zone_id {
                let near: Vec<&str> = network.vpc_ids.iter().map(String::as_str).collect();
                self.az_id(("on_premises_networks", id), "availability_zone_id".into(), az, &near);
            }
        }
        self.dhcp_options();
        self.entry_points();
    }

    fn vpc(&mut self, id: &str, vpc: &'a Vpc) {
        const KIND: &str = "vpcs";
        if vpc.cidr_blocks.is_empty() {
            self.warning(KIND, id, "cidr_blocks", "the list is empty: no client is in the VPC");
        }
        let mut sorted: Vec<(usize, &ipnet::IpNet)> = vpc.cidr_blocks.iter().enumerate().collect();
        sorted.sort_by_key(|(at, block)| (block.network(), block.prefix_len(), *at));
        let mut holder: Option<(usize, &ipnet::IpNet)> = None;
        let mut overlaps = Vec::new();
        for (at, block) in sorted {
            match holder {
                Some((first, wide)) if wide.contains(block) => overlaps.push(match at < first {
                    true => (first, wide, block),
                    false => (at, block, wide),
                }),
                _ => holder = Some((at, block)),
            }
        }
        overlaps.sort_by_key(|(at, ..)| *at);
        for (at, block, other) in overlaps {
            let message = format!("{block} overlaps {other} of the same VPC");
            self.warning(KIND, id, format!("cidr_blocks[{at}]"), message);
        }
        let blocks = self.searchable(&vpc.cidr_blocks);
        self.dhcp_options_of(id, vpc);
        self.profiles_of_vpc(id, vpc);
        self.region(KIND, id, &vpc.region);
        self.az_names(id, vpc);
        let mut by_az: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, az) in &vpc.availability_zones {
            let field = format!("availability_zones.{name}");
            if !is_label(name) {
                self.error(KIND, id, field, format!("`{name}` cannot be part of a domain name"));
                self.help("write an AZ name of letters, digits and hyphens, such as us-east-1a");
            } else if let Some(first) = by_az.insert(az, name) {
                self.warning(KIND, id, field, format!("`{first}` is also a name of `{az}`"));
            }
        }
        let mut seen: Vec<(&str, usize, &ipnet::IpNet)> = Vec::new();
        for (subnet_id, subnet) in &vpc.subnets {
            let field = format!("subnets.{subnet_id}");
            if subnet.cidr_blocks.is_empty() {
                self.warning(KIND, id, format!("{field}.cidr_blocks"), "the list is empty: no client is in the subnet");
            }
            let az = &subnet.availability_zone_id;
            self.az_id((KIND, id), format!("{field}.availability_zone_id"), az, &[id]);
            for (at, block) in subnet.cidr_blocks.iter().enumerate() {
                if !blocks.covers(block) {
                    let field = format!("{field}.cidr_blocks[{at}]");
                    self.error(KIND, id, field, format!("{block} is outside the VPC"));
                    self.help(format!("the VPC's CIDR blocks are {}", list(&vpc.cidr_blocks)));
                }
                seen.push((subnet_id, at, block));
            }
        }
        // Blocks either nest or are disjoint. In this order, the blocks that contain the current
        // one form a stack.
        seen.sort_by_key(|(_, _, block)| (block.network(), block.prefix_len()));
        let mut holders: Vec<(&str, &ipnet::IpNet)> = Vec::new();
        for (subnet, at, block) in seen {
            while holders.last().is_some_and(|(_, wide)| !wide.contains(block)) {
                holders.pop();
            }
            let field = format!("subnets.{subnet}.cidr_blocks[{at}]");
            match holders.last() {
                Some((other, wide)) if *wide == block => {
                    self.error(KIND, id, field, format!("{block} is also a block of subnet `{other}`"));
                    self.help("subnets of a VPC do not overlap; remove one of the two");
                }
                Some((other, wide)) => {
                    let message = format!("{block} is within {wide} of subnet `{other}`: zonal uses the longer prefix");
                    self.warning(KIND, id, field, message);
                    self.help("subnets of a VPC do not overlap");
                }
                None => {}
            }
            holders.push((subnet, block));
        }
    }

    /// Warns about resolver addresses outside their VPC that are in no network that the VPC reaches.
    fn distant_resolver_addresses(&mut self) {
        let manifest = self.manifest;
        let mut holders: BTreeMap<IpAddr, Vec<Network>> = BTreeMap::new();
        let mut distant = Vec::new();
        for (id, vpc) in &manifest.vpcs {
            let blocks = self.searchable(&vpc.cidr_blocks);
            for (at, address) in vpc.resolver_addresses.iter().enumerate() {
                if !blocks.contains(*address) && !LINK_LOCAL.contains(&&*address.to_string()) {
                    holders.entry(*address).or_default();
                    distant.push((id, vpc, at, *address));
                }
            }
        }
        if distant.is_empty() {
            return;
        }
        let vpcs = manifest.vpcs.iter().map(|(id, vpc)| (Network::Vpc(id.clone()), &vpc.cidr_blocks));
        let others = manifest.on_premises_networks.iter();
        let others = others.map(|(id, network)| (Network::OnPremises(id.clone()), &network.cidr_blocks));
        for (network, blocks) in vpcs.chain(others) {
            for block in self.searchable(blocks).iter() {
                for (_, holders) in holders.range_mut(block.network()..=block.broadcast()) {
                    if holders.len() < MAX_HOLDERS {
                        holders.push(network.clone());
                    }
                }
            }
        }
        for (id, vpc, at, address) in distant {
            let own = Network::Vpc(id.clone());
            let holders = &holders[&address];
            if holders.len() < MAX_HOLDERS && !holders.iter().any(|holder| self.connectivity.reaches(&own, holder)) {
                let field = format!("resolver_addresses[{at}]");
                let message = format!("{address} is outside the VPC, and no connection of the VPC leads to it");
                self.warning("vpcs", id, field, message);
                self.help(match &holders[..] {
                    [] => format!("the VPC's CIDR blocks are {}", list(&vpc.cidr_blocks)),
                    [holder, ..] => format!("the address is in `{}`: connect the VPC with it", holder.id()),
                });
            }
        }
    }

    fn gateways(&mut self) {
        const KIND: &str = "transit_gateways";
        let manifest = self.manifest;
        for (id, gateway) in &manifest.transit_gateways {
            self.region(KIND, id, &gateway.region);
            let mut seen = BTreeSet::new();
            for (at, attachment) in gateway.attachments.iter().enumerate() {
                let field = format!("attachments[{at}]");
                let targets = [&attachment.vpc_id, &attachment.on_premises_network_id, &attachment.transit_gateway_id];
                if targets.iter().filter(|target| target.is_some()).count() != 1 {
                    self.error(KIND, id, &field, "an attachment needs exactly one target");
                    self.help("write one of `vpc_id`, `on_premises_network_id` and `transit_gateway_id`");
                    continue;
                }
                if !seen.insert(targets) {
                    self.warning(KIND, id, &field, "the gateway has another attachment with the same target");
                }
                if let Some(vpc_id) = &attachment.vpc_id {
                    let field = format!("{field}.vpc_id");
                    let vpc = self.reference((KIND, id), &field, "VPC", vpc_id, &manifest.vpcs);
                    if let Some(vpc) = vpc.filter(|vpc| is_other_region(&gateway.region, &vpc.region)) {
                        let message =
                            format!("`{vpc_id}` is in {}, but the gateway is in {}", vpc.region, gateway.region);
                        self.warning(KIND, id, field, message);
                        self.help("attach the VPC to a gateway of its Region, and peer the gateways");
                    }
                }
                if let Some(network) = &attachment.on_premises_network_id {
                    let field = format!("{field}.on_premises_network_id");
                    self.reference((KIND, id), field, "on-premises network", network, &manifest.on_premises_networks);
                }
                if let Some(peer) = &attachment.transit_gateway_id {
                    let field = format!("{field}.transit_gateway_id");
                    if peer == id {
                        self.error(KIND, id, field, "a gateway cannot be peered with itself");
                    } else {
                        self.reference((KIND, id), field, "Transit Gateway", peer, &manifest.transit_gateways);
                    }
                }
            }
        }
    }

    /// Checks that each address is at most one entry point.
    fn entry_points(&mut self) {
        let manifest = self.manifest;
        let mut seen: Seen<IpAddr> = Seen::new();
        let mut entry_point = |this: &mut Self, kind: &'static str, id: &str, field: String, address: IpAddr| {
            if let Some((kind_and_id, first)) = seen.get(&address) {
                let message = format!("{address} is already an entry point: {kind_and_id}.{first}");
                this.error(kind, id, field, message);
            } else {
                seen.insert(address, (format!("{kind}.{id}"), field));
            }
        };
        for (id, vpc) in &manifest.vpcs {
            for (at, address) in vpc.resolver_addresses.iter().enumerate() {
                entry_point(self, "vpcs", id, format!("resolver_addresses[{at}]"), *address);
            }
        }
        for (id, endpoint) in &manifest.resolver_endpoints {
            if endpoint.direction != Direction::Outbound {
                for (at, address) in endpoint.ip_addresses.iter().enumerate() {
                    entry_point(self, "resolver_endpoints", id, format!("ip_addresses[{at}].ip"), address.ip);
                }
            }
        }
    }
}
