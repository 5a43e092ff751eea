//! Resolver endpoints, rules, and forwarders.

use super::{Checker, list};
use crate::manifest::{
    ClientIdentity, Direction, Forwarder, Id, Protocol, RuleType, TargetAddress, connectivity::Network,
};
use ipnet::IpNet;
use std::collections::HashMap;

/// The network that a forwarder sits in: a VPC or an on-premises one.
type Home<'a> = (Option<&'a Id>, Option<&'a Id>);

impl<'a> Checker<'a> {
    pub(super) fn resolver_endpoints(&mut self) {
        const KIND: &str = "resolver_endpoints";
        let manifest = self.manifest;
        for (id, endpoint) in &manifest.resolver_endpoints {
            let vpc = self.reference((KIND, id), "vpc_id", "VPC", &endpoint.vpc_id, &manifest.vpcs);
            if endpoint.ip_addresses.is_empty() {
                self.error(KIND, id, "ip_addresses", "the endpoint has no addresses");
            }
            let blocks = vpc.map(|vpc| self.searchable(&vpc.cidr_blocks));
            for (at, address) in endpoint.ip_addresses.iter().enumerate() {
                if let Some(az) = &address.availability_zone_id {
                    let field = format!("ip_addresses[{at}].availability_zone_id");
                    self.az_id((KIND, id), field, az, &[&endpoint.vpc_id]);
                }
                if let (Some(vpc), Some(blocks)) = (vpc, &blocks)
                    && !blocks.contains(address.ip)
                {
                    let message = format!("{} is outside of `{}`", address.ip, endpoint.vpc_id);
                    self.error(KIND, id, format!("ip_addresses[{at}].ip"), message);
                    self.help(format!("its CIDR blocks are {}", list(&vpc.cidr_blocks)));
                }
            }
            if endpoint.protocols.is_empty() {
                self.warning(KIND, id, "protocols", "without a protocol, every query is refused");
            }
            if endpoint.direction == Direction::Outbound && !endpoint.allowed_cidr_blocks.is_empty() {
                self.warning(KIND, id, "allowed_cidr_blocks", "nobody asks an OUTBOUND endpoint: this has no effect");
            }
        }
    }

    pub(super) fn rules(&mut self) {
        const KIND: &str = "resolver_rules";
        let manifest = self.manifest;
        let mut seen = HashMap::new();
        for (id, rule) in &manifest.resolver_rules {
            self.vpc_list(KIND, id, "vpc_ids", &rule.vpc_ids);
            if rule.vpc_ids.is_empty() && rule.enabled {
                self.warning(KIND, id, "vpc_ids", "no VPC has the rule: it is never used");
                self.help("list the VPCs that it holds for, or write `enabled: false`");
            }
            if rule.domain_name.labels().any(|label| label == b"*") {
                let name = &rule.domain_name;
                let message = format!("{name} has a `*` in it: a rule holds for a name and all names below it");
                self.error(KIND, id, "domain_name", message);
                let plain = name.is_wildcard().then(|| name.parent()).flatten().map(|name| name.to_string());
                let plain = plain.filter(|plain| !plain.contains('*'));
                self.help(match plain.as_deref().map(|plain| plain.trim_end_matches('.')) {
                    Some("") => "write \".\" for all names".to_string(),
                    Some(plain) => format!("write `{plain}`"),
                    None => "write the part behind the last `*`".to_string(),
                });
            }
            let is_forward = rule.rule_type == RuleType::Forward;
            if is_forward && rule.target_ips.is_empty() {
                self.error(KIND, id, "target_ips", "a FORWARD rule needs servers to ask");
                self.help("target_ips: [{ip: 192.168.0.53}]");
            } else if !is_forward && !rule.target_ips.is_empty() {
                self.error(KIND, id, "target_ips", format!("a {} rule has no `target_ips`", rule.rule_type));
            }
            for (at, target) in rule.target_ips.iter().enumerate() {
                let field = format!("target_ips[{at}]");
                if target.port == 0 {
                    self.error(KIND, id, format!("{field}.port"), "there is no port 0");
                }
                if target.ip.is_unspecified() || target.ip.is_multicast() {
                    self.error(KIND, id, format!("{field}.ip"), format!("{} cannot be asked", target.ip));
                }
                if target.protocol == Protocol::Do53 && target.server_name_indication.is_some() {
                    self.warning(
                        KIND,
                        id,
                        format!("{field}.server_name_indication"),
                        "Do53 has no certificate to check",
                    );
                }
                let usual = if target.protocol == Protocol::DoH { 443 } else { 853 };
                if target.protocol != Protocol::Do53 && target.port == 53 {
                    let message = format!("port 53, the default, is that of Do53: {} has {usual}", target.protocol);
                    self.warning(KIND, id, format!("{field}.port"), message);
                    self.help(format!("port: {usual}"));
                } else if target.protocol == Protocol::Do53 && matches!(target.port, 853 | 443) {
                    let message = format!("port {} is that of encrypted transports, and this is Do53", target.port);
                    self.warning(KIND, id, format!("{field}.port"), message);
                    self.help("protocol: DoT, DoQ or DoH");
                }
            }
            if let Some(target) = &rule.resolver_endpoint_id {
                let known = &manifest.resolver_endpoints;
                let endpoint = self.reference((KIND, id), "resolver_endpoint_id", "Resolver endpoint", target, known);
                if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.direction != Direction::Outbound) {
                    let message =
                        format!("`{target}` is {}, and a rule needs an OUTBOUND endpoint", endpoint.direction);
                    self.error(KIND, id, "resolver_endpoint_id", message);
                } else if let Some(endpoint) = endpoint {
                    let has = |is_v4: bool| endpoint.ip_addresses.iter().any(|own| own.ip.is_ipv4() == is_v4);
                    let (has_v4, has_v6) = (has(true), has(false));
                    let lacks = |target: &&TargetAddress| !if target.ip.is_ipv4() { has_v4 } else { has_v6 };
                    if let Some(lost) = rule.target_ips.iter().find(lacks) {
                        let family = if lost.ip.is_ipv4() { "IPv4" } else { "IPv6" };
                        let message = format!("`{target}` has no {family} address to ask {} from", lost.ip);
                        self.warning(KIND, id, "resolver_endpoint_id", message);
                    }
                }
            }
            if !rule.enabled {
                continue;
            }
            for (at, vpc) in rule.vpc_ids.iter().enumerate() {
                match seen.insert((&rule.domain_name, vpc, rule.rule_type == RuleType::Delegate), id) {
                    Some(other) if other != id => {
                        let message = format!("`{vpc}` has a rule for {} already: `{other}`", rule.domain_name);
                        self.error(KIND, id, format!("vpc_ids[{at}]"), message);
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn forwarders(&mut self) {
        const KIND: &str = "forwarders";
        let manifest = self.manifest;
        for (id, forwarder) in &manifest.forwarders {
            let (vpcs, networks) = (&manifest.vpcs, &manifest.on_premises_networks);
            let blocks = match (&forwarder.vpc_id, &forwarder.on_premises_network_id) {
                (Some(vpc), None) => self.reference((KIND, id), "vpc_id", "VPC", vpc, vpcs).map(|vpc| &vpc.cidr_blocks),
                (None, Some(network)) => self
                    .reference((KIND, id), "on_premises_network_id", "on-premises network", network, networks)
                    .map(|network| &network.cidr_blocks),
                _ => {
                    self.error(KIND, id, "", "a forwarder is in exactly one network");
                    self.help("either `vpc_id` or `on_premises_network_id`");
                    None
                }
            };
            if forwarder.cidr_blocks.is_empty() {
                self.warning(KIND, id, "cidr_blocks", "the forwarder has no addresses: nobody is it");
            }
            let searchable = blocks.map(|blocks| self.searchable(blocks));
            for (at, block) in forwarder.cidr_blocks.iter().enumerate() {
                if let (Some(blocks), Some(searchable)) = (blocks, &searchable)
                    && !searchable.covers(block)
                {
                    self.error(
                        KIND,
                        id,
                        format!("cidr_blocks[{at}]"),
                        format!("{block} is outside of the forwarder's network"),
                    );
                    self.help(format!("the network's CIDR blocks are {}", list(blocks)));
                }
            }
            for (at, other) in forwarder.speaks_for.iter().enumerate() {
                if !vpcs.contains_key(other) && !networks.contains_key(other) {
                    let known = vpcs.keys().chain(networks.keys()).map(String::as_str);
                    self.unknown((KIND, id), format!("speaks_for[{at}]"), "VPC or on-premises network", other, known);
                }
            }
            self.speaks_for(id, forwarder);
        }
        self.forwarder_addresses();
    }

    /// A forwarder's clients come to it from their own networks.
    fn speaks_for(&mut self, id: &str, forwarder: &Forwarder) {
        let manifest = self.manifest;
        let network = |id: &Id| match manifest.vpcs.contains_key(id) {
            true => Some(Network::Vpc(id.clone())),
            false => manifest.on_premises_networks.contains_key(id).then(|| Network::OnPremises(id.clone())),
        };
        let home = match (&forwarder.vpc_id, &forwarder.on_premises_network_id) {
            (Some(vpc), None) => Some(Network::Vpc(vpc.clone())),
            (None, Some(id)) => Some(Network::OnPremises(id.clone())),
            _ => None,
        };
        let Some(home) = home else { return };
        // Through an endpoint of PrivateLink, which PROXY headers name, come clients of networks that are not connected.
        if forwarder.client_identity == ClientIdentity::ProxyProtocolV2 {
            return;
        }
        for (at, other) in forwarder.speaks_for.iter().enumerate() {
            if network(other).is_some_and(|other| !self.connectivity.reaches(&home, &other)) {
                let message =
                    format!("`{other}` is not connected to the forwarder's network: none of its clients reaches it");
                self.warning("forwarders", id, format!("speaks_for[{at}]"), message);
            }
        }
    }

    /// An address is at most one forwarder in its network.
    fn forwarder_addresses(&mut self) {
        const KIND: &str = "forwarders";
        let mut blocks: Vec<(Home, IpNet, &Id, usize)> = Vec::new();
        for (id, forwarder) in &self.manifest.forwarders {
            let network = (forwarder.vpc_id.as_ref(), forwarder.on_premises_network_id.as_ref());
            blocks.extend(forwarder.cidr_blocks.iter().enumerate().map(|(at, block)| (network, block.trunc(), id, at)));
        }
        // Blocks either nest or are apart: in this order, one that overlaps follows the one that holds it.
        blocks.sort();
        let mut holder: Option<(Home, IpNet, &Id)> = None;
        for (network, block, id, at) in blocks {
            match holder {
                Some((same, wide, other)) if same == network && wide.contains(&block) => {
                    let field = format!("cidr_blocks[{at}]");
                    if other == id {
                        self.warning(KIND, id, field, format!("{block} is in {wide} of the same forwarder already"));
                    } else if wide == block {
                        self.error(KIND, id, field, format!("{block} is forwarder `{other}` already"));
                    } else {
                        let message =
                            format!("{block} is within {wide} of forwarder `{other}`: the longer prefix decides");
                        self.warning(KIND, id, field, message);
                    }
                }
                _ => holder = Some((network, block, id)),
            }
        }
    }
}
