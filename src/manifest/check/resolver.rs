//! Checks of Resolver endpoints, rules, and forwarders.

use super::{Checker, list};
use crate::{
    manifest::{
        ClientIdentity, Direction, Forwarder, Id, Protocol, ResolverEndpoint, ResolverRule, RuleType, TargetAddress,
        connectivity::Network,
    },
    wire::dns64::Dns64Prefix,
};
use ipnet::IpNet;
use std::collections::HashMap;

const RULES: &str = "resolver_rules";

/// The network of a forwarder: a VPC or an on-premises network.
type ForwarderNetwork<'a> = (Option<&'a Id>, Option<&'a Id>);

impl<'a> Checker<'a> {
    pub(super) fn resolver_endpoints(&mut self) {
        const KIND: &str = "resolver_endpoints";
        let manifest = self.manifest;
        for (id, endpoint) in &manifest.resolver_endpoints {
            let vpc = self.reference((KIND, id), "vpc_id", "VPC", &endpoint.vpc_id, &manifest.vpcs);
            if endpoint.ip_addresses.is_empty() {
                self.error(KIND, id, "ip_addresses", "the endpoint needs at least one address");
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
                    let message = format!("{} is outside `{}`", address.ip, endpoint.vpc_id);
                    self.error(KIND, id, format!("ip_addresses[{at}].ip"), message);
                    self.help(format!("its CIDR blocks are {}", list(&vpc.cidr_blocks)));
                }
            }
            self.dns64(id, endpoint);
            if endpoint.protocols.is_empty() {
                self.warning(KIND, id, "protocols", "the list is empty: the endpoint refuses all queries");
            }
            if endpoint.direction == Direction::Outbound && !endpoint.allowed_cidr_blocks.is_empty() {
                self.warning(
                    KIND,
                    id,
                    "allowed_cidr_blocks",
                    "an OUTBOUND endpoint receives no queries: the field has no effect",
                );
            }
        }
    }

    /// Checks DNS64 of an endpoint.
    fn dns64(&mut self, id: &str, endpoint: &ResolverEndpoint) {
        const KIND: &str = "resolver_endpoints";
        if endpoint.dns64 && endpoint.direction != Direction::Inbound {
            let message = format!("an {} endpoint synthesizes no records: the field has no effect", endpoint.direction);
            self.warning(KIND, id, "dns64", message);
        }
        let Some(prefix) = endpoint.dns64_prefix else { return };
        let is_valid = match prefix {
            IpNet::V4(_) => false,
            IpNet::V6(prefix) => Dns64Prefix::new(prefix).is_some(),
        };
        if !is_valid {
            let message = format!("{prefix} cannot be the prefix of addresses that contain an IPv4 address");
            self.error(KIND, id, "dns64_prefix", message);
            self.help("write an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits, with zeros in bits 64 to 71 (RFC 6052)");
        } else if !endpoint.dns64 {
            self.warning(KIND, id, "dns64_prefix", "the field has no effect without `dns64: true`");
        }
    }

    pub(super) fn rules(&mut self) {
        let manifest = self.manifest;
        // Most domains have only one rule, so no other rule contradicts it.
        let key = |rule: &'a ResolverRule| (&rule.domain_name, rule.rule_type == RuleType::Delegate);
        let mut rules_of: HashMap<_, usize> = HashMap::new();
        manifest.resolver_rules.values().for_each(|rule| *rules_of.entry(key(rule)).or_default() += 1);
        let mut seen = HashMap::new();
        for (id, rule) in &manifest.resolver_rules {
            self.vpc_list(RULES, id, "vpc_ids", &rule.vpc_ids);
            if rule.vpc_ids.is_empty() && rule.enabled && !self.is_in_profile(RULES, id) {
                self.warning(RULES, id, "vpc_ids", "the list is empty: no VPC uses the rule");
                self.help("add the VPCs that use the rule, or write `enabled: false`");
            }
            if rule.domain_name.labels().any(|label| label == b"*") {
                let name = &rule.domain_name;
                let message = format!("{name} contains a `*`: a rule applies to a name and all names below it");
                self.error(RULES, id, "domain_name", message);
                let plain = name.is_wildcard().then(|| name.parent()).flatten().map(|name| name.to_string());
                let plain = plain.filter(|plain| !plain.contains('*'));
                self.help(match plain.as_deref().map(|plain| plain.trim_end_matches('.')) {
                    Some("") => "write `.` for all names".to_string(),
                    Some(plain) => format!("write `{plain}`"),
                    None => "write the labels behind the last `*`".to_string(),
                });
            }
            self.rule_targets(id, rule);
            self.rule_endpoint(id, rule);
            if !rule.enabled || rules_of.get(&key(rule)) == Some(&1) {
                continue;
            }
            for (at, vpc) in rule.vpc_ids.iter().enumerate() {
                match seen.insert((key(rule), vpc), id) {
                    Some(other) if other != id => {
                        let message = format!("`{vpc}` already has rule `{other}` for {}", rule.domain_name);
                        self.error(RULES, id, format!("vpc_ids[{at}]"), message);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Checks the targets of a rule.
    fn rule_targets(&mut self, id: &str, rule: &ResolverRule) {
        let is_forward = rule.rule_type == RuleType::Forward;
        if is_forward && rule.target_ips.is_empty() {
            self.error(RULES, id, "target_ips", "a FORWARD rule needs at least one target");
            self.help("write `target_ips: [{ip: 192.168.0.53}]`");
        } else if !is_forward && !rule.target_ips.is_empty() {
            self.error(RULES, id, "target_ips", format!("a {} rule has no targets", rule.rule_type));
        }
        for (at, target) in rule.target_ips.iter().enumerate() {
            let field = format!("target_ips[{at}]");
            if target.port == 0 {
                self.error(RULES, id, format!("{field}.port"), "expected a port from 1 to 65535");
            }
            if target.ip.is_unspecified() || target.ip.is_multicast() {
                self.error(RULES, id, format!("{field}.ip"), format!("{} is not the address of a server", target.ip));
            }
            if target.protocol == Protocol::Do53 && target.server_name_indication.is_some() {
                self.warning(
                    RULES,
                    id,
                    format!("{field}.server_name_indication"),
                    "the transport Do53 has no certificate",
                );
            }
            let usual = if target.protocol == Protocol::DoH { 443 } else { 853 };
            if target.protocol != Protocol::Do53 && target.port == 53 {
                let message =
                    format!("port 53 (the default) is the port of Do53; {} uses port {usual}", target.protocol);
                self.warning(RULES, id, format!("{field}.port"), message);
                self.help(format!("write `port: {usual}`"));
            } else if target.protocol == Protocol::Do53 && matches!(target.port, 853 | 443) {
                let message =
                    format!("port {} is a port of encrypted transports, but the protocol is Do53", target.port);
                self.warning(RULES, id, format!("{field}.port"), message);
                self.help("write `protocol: DoT`, `DoQ` or `DoH`");
            }
        }
    }

    /// Checks the outbound endpoint of a rule.
    fn rule_endpoint(&mut self, id: &str, rule: &ResolverRule) {
        if let Some(target) = &rule.resolver_endpoint_id {
            let known = &self.manifest.resolver_endpoints;
            let endpoint = self.reference((RULES, id), "resolver_endpoint_id", "Resolver endpoint", target, known);
            if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.direction != Direction::Outbound) {
                let message =
                    format!("`{target}` is an {} endpoint; expected an OUTBOUND endpoint", endpoint.direction);
                self.error(RULES, id, "resolver_endpoint_id", message);
            } else if let Some(endpoint) = endpoint {
                let has = |is_v4: bool| endpoint.ip_addresses.iter().any(|own| own.ip.is_ipv4() == is_v4);
                let (has_v4, has_v6) = (has(true), has(false));
                let lacks_family = |target: &&TargetAddress| !if target.ip.is_ipv4() { has_v4 } else { has_v6 };
                if let Some(lost) = rule.target_ips.iter().find(lacks_family) {
                    let family = if lost.ip.is_ipv4() { "IPv4" } else { "IPv6" };
                    let message = format!("`{target}` has no {family} address, which the target {} needs", lost.ip);
                    self.warning(RULES, id, "resolver_endpoint_id", message);
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
                    self.error(KIND, id, "", "a forwarder needs exactly one network");
                    self.help("write either `vpc_id` or `on_premises_network_id`");
                    None
                }
            };
            if forwarder.cidr_blocks.is_empty() {
                self.warning(KIND, id, "cidr_blocks", "the list is empty: no client matches the forwarder");
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
                        format!("{block} is outside the forwarder's network"),
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

    /// Checks that the networks that a forwarder speaks for are connected to its own network.
    fn speaks_for(&mut self, id: &str, forwarder: &Forwarder) {
        let manifest = self.manifest;
        let network = |id: &Id| match manifest.vpcs.contains_key(id) {
            true => Some(Network::Vpc(id.clone())),
            false => manifest.on_premises_networks.contains_key(id).then(|| Network::OnPremises(id.clone())),
        };
        let own = match (&forwarder.vpc_id, &forwarder.on_premises_network_id) {
            (Some(vpc), None) => Some(Network::Vpc(vpc.clone())),
            (None, Some(id)) => Some(Network::OnPremises(id.clone())),
            _ => None,
        };
        let Some(own) = own else { return };
        // A PROXY header can name a PrivateLink endpoint, through which clients of unconnected
        // networks reach the forwarder.
        if forwarder.client_identity == ClientIdentity::ProxyProtocolV2 {
            return;
        }
        for (at, other) in forwarder.speaks_for.iter().enumerate() {
            if network(other).is_some_and(|other| !self.connectivity.reaches(&own, &other)) {
                let message = format!(
                    "`{other}` is not connected to the forwarder's network: its clients cannot reach the forwarder"
                );
                self.warning("forwarders", id, format!("speaks_for[{at}]"), message);
            }
        }
    }

    /// Checks that each address of a network belongs to at most one forwarder.
    fn forwarder_addresses(&mut self) {
        const KIND: &str = "forwarders";
        let mut blocks: Vec<(ForwarderNetwork, IpNet, &Id, usize)> = Vec::new();
        for (id, forwarder) in &self.manifest.forwarders {
            let network = (forwarder.vpc_id.as_ref(), forwarder.on_premises_network_id.as_ref());
            blocks.extend(forwarder.cidr_blocks.iter().enumerate().map(|(at, block)| (network, block.trunc(), id, at)));
        }
        // Blocks either nest or are disjoint. In this order, a block follows the block that
        // contains it.
        blocks.sort();
        let mut holder: Option<(ForwarderNetwork, IpNet, &Id)> = None;
        for (network, block, id, at) in blocks {
            match holder {
                Some((same, wide, other)) if same == network && wide.contains(&block) => {
                    let field = format!("cidr_blocks[{at}]");
                    if other == id {
                        self.warning(KIND, id, field, format!("{block} is within {wide} of the same forwarder"));
                    } else if wide == block {
                        self.error(KIND, id, field, format!("{block} is also a block of forwarder `{other}`"));
                    } else {
                        let message =
                            format!("{block} is within {wide} of forwarder `{other}`: zonal uses the longer prefix");
                        self.warning(KIND, id, field, message);
                    }
                }
                _ => holder = Some((network, block, id)),
            }
        }
    }
}
