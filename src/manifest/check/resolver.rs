//! Resolver endpoints, rules, and forwarders.

use super::{Checker, contains, covers, list};
use crate::manifest::{Direction, Protocol, RuleType, TargetAddress};
use std::collections::HashMap;

impl Checker<'_> {
    pub(super) fn resolver_endpoints(&mut self) {
        const KIND: &str = "resolver_endpoints";
        let manifest = self.manifest;
        for (id, endpoint) in &manifest.resolver_endpoints {
            let vpc = match endpoint.vpc_id.is_empty() {
                true => {
                    self.error(KIND, id, "vpc_id", "the field `vpc_id` is missing");
                    None
                }
                false => self.reference((KIND, id), "vpc_id", "VPC", &endpoint.vpc_id, &manifest.vpcs),
            };
            if endpoint.ip_addresses.is_empty() {
                self.error(KIND, id, "ip_addresses", "the endpoint has no addresses");
            }
            for (at, address) in endpoint.ip_addresses.iter().enumerate() {
                if let Some(vpc) = vpc
                    && !contains(&vpc.cidr_blocks, address.ip)
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
            self.vpc_list(KIND, id, &rule.vpc_ids);
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
                    let lacks = |target: &&TargetAddress| {
                        endpoint.ip_addresses.iter().all(|own| own.ip.is_ipv4() != target.ip.is_ipv4())
                    };
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
            for (at, block) in forwarder.cidr_blocks.iter().enumerate() {
                if let Some(blocks) = blocks
                    && !covers(blocks, block)
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
            let message = "forwarders are not served yet by this version: each is a client like others";
            self.warning(KIND, id, "", message);
        }
    }
}
