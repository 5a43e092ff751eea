//! Resolver endpoints and rules, query logs, and the settings of VPCs.

use super::{Import, Item, aws_data, without_dot};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

impl<'i> Import<'i> {
    pub(super) fn resolver(&mut self) {
        self.resolver_endpoints();
        self.resolver_rules();
        self.query_logs();
        self.settings();
    }

    fn resolver_endpoints(&mut self) {
        const KIND: &str = "resolver_endpoints";
        let mut addresses: HashMap<&str, Vec<&'i Item>> = HashMap::new();
        for item in self.input.list("ResolverEndpointIpAddresses") {
            addresses.entry(&item.origin.of).or_default().push(item);
        }
        for item in self.input.list("ResolverEndpoints") {
            let Some(id) = self.id(KIND, item, "Id") else { continue };
            if self.has(KIND, id) {
                continue;
            }
            let vpc = item.text("HostVPCId").unwrap_or_default();
            if !self.has("vpcs", vpc) {
                self.report.not_expressible(KIND, id, format!("its VPC {vpc} is not among the imported VPCs"));
                continue;
            }
            let own = addresses.get(id).cloned().unwrap_or_default();
            let mut made = Vec::new();
            for address in own {
                let subnet = address.text("SubnetId");
                let az = subnet.and_then(|subnet| self.subnets.get(subnet)?.text("AvailabilityZoneId"));
                for ip in [address.text("Ip"), address.text("Ipv6")].into_iter().flatten() {
                    let mut value = json!({
                        "ip": ip, "availability_zone_id": az, "ip_id": address.text("IpId"), "subnet_id": subnet,
                    });
                    if let Value::Object(members) = &mut value {
                        members.retain(|_, value| !value.is_null());
                    }
                    made.push(value);
                }
            }
            if made.is_empty() {
                let reason = "no output of list-resolver-endpoint-ip-addresses has its addresses";
                self.report.not_expressible(KIND, id, reason);
                continue;
            }
            let mut protocols = Vec::new();
            for protocol in item.list("Protocols").iter().filter_map(Value::as_str) {
                let known = protocol.strip_suffix("-FIPS").unwrap_or(protocol);
                if known != protocol {
                    self.report.approximated(KIND, id, format!("{protocol} becomes {known}"));
                }
                if !protocols.contains(&known) {
                    protocols.push(known);
                }
            }
            let resource = json!({
                "direction": item.text("Direction"),
                "vpc_id": vpc,
                "protocols": protocols,
                "dns64": item.flag("Dns64Enabled").filter(|is_on| *is_on),
                "ip_addresses": made,
                "name": item.text("Name"),
                "tags": self.tags_of(id, item),
                "aws": aws_data(
                    item,
                    &[("CreatorRequestId", "creator_request_id"), ("CreationTime", "created"), ("ModificationTime", "modified")],
                    &[
                        "SecurityGroupIds",
                        "ResolverEndpointType",
                        "RniEnhancedMetricsEnabled",
                        "TargetNameServerMetricsEnabled",
                        "Ipv6InternetAccessEnabled",
                    ],
                ),
            });
            self.put(KIND, id, resource);
        }
    }

    fn resolver_rules(&mut self) {
        const KIND: &str = "resolver_rules";
        let mut vpcs: HashMap<&str, Vec<&'i Item>> = HashMap::new();
        for item in self.input.list("ResolverRuleAssociations") {
            if let (Some(rule), Some(_)) = (item.text("ResolverRuleId"), item.text("VPCId")) {
                vpcs.entry(rule).or_default().push(item);
            }
        }
        for item in self.input.list("ResolverRules") {
            let Some(id) = self.id(KIND, item, "Id") else { continue };
            // AWS makes the rule of the internet resolver by itself, and so does zonal.
            if id.starts_with("rslvr-autodefined") || self.has(KIND, id) {
                continue;
            }
            let rule_type = item.text("RuleType").unwrap_or("FORWARD");
            let domain = match rule_type {
                "DELEGATE" => item.text("DelegationRecord").or(item.text("DomainName")),
                _ => item.text("DomainName"),
            };
            let Some(domain) = domain else {
                self.lacks(KIND, id, "DomainName");
                continue;
            };
            let mut targets = Vec::new();
            for target in item.list("TargetIps") {
                let of = |member: &str| target.get(member).filter(|value| !value.is_null()).cloned();
                let mut value = json!({
                    "ip": of("Ip").or(of("Ipv6")),
                    "port": of("Port"),
                    "protocol": of("Protocol"),
                    "server_name_indication": of("ServerNameIndication"),
                });
                if let Some("DoH-FIPS") = value.get("protocol").and_then(Value::as_str) {
                    value["protocol"] = "DoH".into();
                    self.report.approximated(KIND, id, "DoH-FIPS becomes DoH");
                }
                if let Value::Object(members) = &mut value {
                    members.retain(|_, value| !super::is_empty(value));
                }
                targets.push(value);
            }
            let endpoint = item.text("ResolverEndpointId");
            if let Some(endpoint) = endpoint.filter(|endpoint| !self.has("resolver_endpoints", endpoint)) {
                let reason =
                    format!("{endpoint} is not imported: queries have the node's own addresses as their source");
                self.report.approximated(KIND, id, reason);
            }
            let endpoint = endpoint.filter(|endpoint| self.has("resolver_endpoints", endpoint));
            let associations = vpcs.get(id).cloned().unwrap_or_default();
            let names: BTreeMap<&str, Value> = associations
                .iter()
                .filter_map(|one| Some((one.text("VPCId")?, json!({"name": one.text("Name")?}))))
                .collect();
            let own = self.known_vpcs(KIND, id, associations.iter().filter_map(|one| one.text("VPCId")));
            let mut aws = aws_data(
                item,
                &[
                    ("OwnerId", "owner_id"),
                    ("CreatorRequestId", "creator_request_id"),
                    ("CreationTime", "created"),
                    ("ModificationTime", "modified"),
                ],
                if rule_type == "DELEGATE" { &["DomainName"] } else { &[] },
            );
            if let Some(region) = self.region_of(item) {
                aws["region"] = region.into();
            }
            if !names.is_empty() {
                aws["associations"] = json!(names);
            }
            let resource = json!({
                "domain_name": if domain == "." { domain } else { without_dot(domain) },
                "rule_type": rule_type,
                "resolver_endpoint_id": endpoint,
                "target_ips": if rule_type == "FORWARD" { targets } else { Vec::new() },
                "vpc_ids": own,
                "name": item.text("Name"),
                "tags": self.tags_of(id, item),
                "aws": aws,
            });
            self.put(KIND, id, resource);
        }
    }

    fn query_logs(&mut self) {
        const KIND: &str = "query_log_configs";
        let mut vpcs: HashMap<&str, Vec<&'i str>> = HashMap::new();
        for item in self.input.list("ResolverQueryLogConfigAssociations") {
            if let (Some(config), Some(vpc)) = (item.text("ResolverQueryLogConfigId"), item.text("ResourceId")) {
                vpcs.entry(config).or_default().push(vpc);
            }
        }
        for item in self.input.list("ResolverQueryLogConfigs") {
            let Some(id) = self.id(KIND, item, "Id") else { continue };
            let destination = item.text("DestinationArn").unwrap_or("-");
            let reason =
                format!("zonal does not write to {destination}: the entries go to the file {id}.log of each node");
            self.report.approximated(KIND, id, reason);
            let own = vpcs.get(id).cloned().unwrap_or_default();
            let own = self.known_vpcs(KIND, id, own.into_iter());
            let resource = json!({
                "vpc_ids": own,
                "destination": {"file": {"path": format!("{id}.log")}},
                "name": item.text("Name"),
                "tags": self.tags_of(id, item),
                "aws": aws_data(
                    item,
                    &[
                        ("OwnerId", "owner_id"),
                        ("DestinationArn", "destination_arn"),
                        ("CreatorRequestId", "creator_request_id"),
                        ("CreationTime", "created"),
                    ],
                    &[],
                ),
            });
            self.put(KIND, id, resource);
        }
    }

    /// The settings of single VPCs.
    fn settings(&mut self) {
        for (list, member, setting) in [
            ("ResolverConfigs", "AutodefinedReverse", "autodefined_reverse"),
            ("ResolverDnssecConfigs", "ValidationStatus", "dnssec_validation"),
            ("FirewallConfigs", "FirewallFailOpen", "firewall_fail_open"),
        ] {
            for item in self.input.list(list) {
                // A Profile decides for a VPC with USE_LOCAL_RESOURCE_SETTING.
                let value = match item.text(member) {
                    Some("ENABLED" | "ENABLING") => true,
                    Some("DISABLED" | "DISABLING") => false,
                    _ => continue,
                };
                let vpc = item.text("ResourceId").and_then(|vpc| self.made.get_mut("vpcs")?.get_mut(vpc));
                if let Some(vpc) = vpc {
                    vpc[setting] = value.into();
                }
            }
        }
    }
}
