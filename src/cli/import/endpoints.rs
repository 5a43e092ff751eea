//! VPC endpoints, and the services that they lead to.

use super::{Import, Item, aws_data, list, text, without_dot};
use crate::manifest::{VpcEndpointType, presets};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

impl<'i> Import<'i> {
    pub(super) fn endpoints(&mut self) {
        const KIND: &str = "vpc_endpoints";
        let mut interfaces: HashMap<&str, &'i Item> = HashMap::new();
        let mut by_endpoint: HashMap<&str, Vec<&'i str>> = HashMap::new();
        for item in self.input.list("NetworkInterfaces") {
            let Some(id) = self.id("network_interfaces", item, "NetworkInterfaceId") else { continue };
            interfaces.insert(id, item);
            // AWS describes these interfaces as `VPC Endpoint Interface vpce-…`.
            let endpoint =
                item.text("Description").and_then(|text| text.split(' ').find(|word| word.starts_with("vpce-")));
            if let Some(endpoint) = endpoint {
                by_endpoint.entry(endpoint).or_default().push(id);
            }
        }
        let mut services: BTreeMap<&str, Vec<&'i Item>> = BTreeMap::new();
        for item in self.input.list("VpcEndpoints") {
            let Some(id) = self.id(KIND, item, "VpcEndpointId") else { continue };
            let Some(service) = item.text("ServiceName") else {
                let what = item.text("VpcEndpointType").unwrap_or("unknown type");
                self.report.not_expressible(
                    KIND,
                    id,
                    format!("an endpoint of type {what} leads to no endpoint service"),
                );
                continue;
            };
            let kind = item.text("VpcEndpointType").unwrap_or("Gateway");
            if !VpcEndpointType::WORDS.iter().any(|word| word.eq_ignore_ascii_case(kind)) {
                self.report.not_expressible(KIND, id, format!("zonal has no endpoints of type {kind}"));
                continue;
            }
            let Some(vpc) = item.text("VpcId") else {
                self.lacks(KIND, id, "VpcId");
                continue;
            };
            if !self.has("vpcs", vpc) {
                self.report.not_expressible(KIND, id, format!("{vpc} is not among the imported VPCs"));
                continue;
            }
            let is_interface = kind.eq_ignore_ascii_case("Interface");
            let listed = item.list("NetworkInterfaceIds").iter().filter_map(Value::as_str);
            let described = by_endpoint.get(id).into_iter().flatten().copied();
            let mut made: BTreeMap<&str, Value> = BTreeMap::new();
            for interface in listed.chain(described).filter(|_| is_interface) {
                match interfaces.get(interface) {
                    Some(source) => {
                        if let Some(value) = self.interface(id, source) {
                            made.insert(interface, value);
                        }
                    }
                    None => {
                        let reason = format!(
                            "{interface} is not in the output of describe-network-interfaces: its addresses are left out"
                        );
                        self.report.approximated(KIND, id, reason);
                    }
                }
            }
            if is_interface && made.is_empty() {
                self.report.approximated(KIND, id, "no network interface of it is known: its names have no addresses");
            }
            let options = item.value.get("DnsOptions").unwrap_or(&Value::Null);
            let family = text(options, "DnsRecordIpType").map(str::to_ascii_lowercase);
            let inbound = options.get("PrivateDnsOnlyForInboundResolverEndpoint").and_then(Value::as_bool);
            let mut dns_options = serde_json::Map::new();
            if let Some(family) = family {
                dns_options.insert("dns_record_ip_type".into(), family.into());
            }
            if let Some(inbound) = inbound {
                dns_options.insert("private_dns_only_for_inbound_resolver_endpoint".into(), inbound.into());
            }
            let suffix =
                regional_name(id, item).map(|(label, _)| label[id.len()..].trim_start_matches('-').to_string());
            let resource = json!({
                "vpc_endpoint_type": kind,
                "service_name": service,
                "vpc_id": vpc,
                "state": item.text("State").unwrap_or("available"),
                "dns_name_suffix": suffix.filter(|_| is_interface),
                "private_dns_enabled": item.flag("PrivateDnsEnabled").filter(|_| is_interface),
                "dns_options": dns_options,
                "network_interfaces": made.into_values().collect::<Vec<_>>(),
                "tags": self.tags_of(id, item),
                "aws": aws_data(
                    item,
                    &[("OwnerId", "owner_id"), ("CreationTimestamp", "created")],
                    &["Groups", "RouteTableIds", "PolicyDocument", "IpAddressType", "RequesterManaged"],
                ),
            });
            self.put(KIND, id, resource);
            services.entry(service).or_default().push(item);
        }
        for (name, endpoints) in services {
            self.service(name, &endpoints);
        }
    }

    /// A network interface of an endpoint. None if its AZ is not known.
    fn interface(&mut self, endpoint: &str, item: &'i Item) -> Option<Value> {
        let subnet = item.text("SubnetId");
        let az_of_subnet = subnet.and_then(|id| self.subnets.get(id)?.text("AvailabilityZoneId"));
        let named = || {
            let name = item.text("AvailabilityZone")?;
            self.azs.get(&(self.region_of(item)?, name)).copied()
        };
        let Some(az) = item.text("AvailabilityZoneId").or(az_of_subnet).or_else(named) else {
            let id = item.text("NetworkInterfaceId").unwrap_or("-");
            let reason = format!("the AZ ID of {id} is not known: no output of describe-subnets has its subnet");
            self.report.approximated("vpc_endpoints", endpoint, reason);
            return None;
        };
        let ipv6 = item.list("Ipv6Addresses").iter().find_map(|address| text(address, "Ipv6Address"));
        let mut value = json!({
            "availability_zone_id": az,
            "ipv4": item.text("PrivateIpAddress"),
            "ipv6": ipv6.or(item.text("Ipv6Address")),
            "network_interface_id": item.text("NetworkInterfaceId"),
            "subnet_id": subnet,
        });
        if let Value::Object(members) = &mut value {
            members.retain(|_, value| !value.is_null());
        }
        Some(value)
    }

    /// Adds the service of some endpoints: as AWS describes it, as the endpoints' names show it, or as zonal knows it.
    fn service(&mut self, name: &str, endpoints: &[&'i Item]) {
        const KIND: &str = "vpc_endpoint_services";
        let all = self.input.list("ServiceDetails").iter().chain(self.input.list("ServiceConfigurations"));
        let mut described: Vec<&Item> = all.filter(|item| item.text("ServiceName") == Some(name)).collect();
        // S3 and DynamoDB have a gateway and an interface service of one name. Only interfaces have names.
        let is_interface = |item: &&Item| {
            list(&item.value, "ServiceType").iter().any(|one| text(one, "ServiceType") == Some("Interface"))
        };
        described.sort_by_key(|item| !is_interface(item));
        let region = described.first().and_then(|item| item.text("ServiceRegion").map(String::from));
        let vpc_region = || {
            let vpc = endpoints.iter().find_map(|endpoint| self.made.get("vpcs")?.get(endpoint.text("VpcId")?))?;
            text(vpc, "region").map(String::from)
        };
        let Some(region) = region.or_else(vpc_region) else { return };
        let shown = endpoints.iter().find_map(|endpoint| {
            let id = endpoint.text("VpcEndpointId")?;
            regional_name(id, endpoint).map(|(_, parent)| (parent, private_names(id, endpoint)))
        });
        let preset = name.rsplit('.').next().and_then(|preset| {
            let (known, service) = presets::service(preset, &region, VpcEndpointType::Interface)?;
            (known == name).then(|| serde_json::to_value(service).ok())?
        });
        let resource = if let Some(item) = described.first() {
            let base = item.list("BaseEndpointDnsNames").iter().find_map(Value::as_str);
            let base = base.or(shown.as_ref().map(|(parent, _)| *parent)).map(without_dot);
            let listed = item.list("PrivateDnsNames").iter().filter_map(|one| text(one, "PrivateDnsName"));
            let mut private: Vec<&str> = listed.chain(item.text("PrivateDnsName")).map(without_dot).collect();
            private.extend(shown.iter().flat_map(|(_, names)| names.iter().copied()));
            private.sort_unstable();
            private.dedup();
            let owner = item.text("Owner").or(self.input.account.as_deref()).unwrap_or("amazon");
            let state = item
                .text("PrivateDnsNameVerificationState")
                .or_else(|| text(item.value.get("PrivateDnsNameConfiguration")?, "State"));
            let base = base.map_or_else(|| preset.as_ref().and_then(|preset| text(preset, "dns_name")), Some);
            json!({
                "owner_id": owner,
                "region": region,
                "dns_name": base,
                "private_dns_names": private,
                "private_dns_name_configuration": state.filter(|_| owner != "amazon").map(|state| json!({"state": state})),
                "service_id": item.text("ServiceId"),
                "tags": self.tags_of(item.text("ServiceId").unwrap_or_default(), item),
            })
        } else if let Some(preset) = preset {
            preset
        } else if let Some((parent, private)) = shown {
            let owner = if name.contains(".vpce-svc-") { "-" } else { "amazon" };
            let reason =
                "no output of describe-vpc-endpoint-services has the service: its names are those of its endpoints";
            self.report.approximated(KIND, name, reason);
            json!({"owner_id": owner, "region": region, "dns_name": parent, "private_dns_names": private})
        } else {
            self.report.not_expressible(
                KIND,
                name,
                "no output of describe-vpc-endpoint-services has the service, and zonal does not know its names",
            );
            return;
        };
        self.put(KIND, name, resource);
    }
}

/// The first label of an endpoint's Regional name, and the rest of the name, which is the name of the service. The Regional
/// name is the shortest of the endpoint's own names.
fn regional_name<'i>(id: &str, endpoint: &'i Item) -> Option<(&'i str, &'i str)> {
    let names = endpoint.list("DnsEntries").iter().filter_map(|entry| text(entry, "DnsName")).map(without_dot);
    let own = names.filter_map(|name| name.split_once('.')).filter(|(label, _)| label.starts_with(id));
    own.min_by_key(|(label, _)| label.len())
}

/// The private names of an endpoint: those that are not its own.
fn private_names<'i>(id: &str, endpoint: &'i Item) -> Vec<&'i str> {
    let names = endpoint.list("DnsEntries").iter().filter_map(|entry| text(entry, "DnsName")).map(without_dot);
    let is_own = |name: &str| name.trim_start_matches("*.").trim_start_matches("\\052.").starts_with(id);
    names.filter(|name| !is_own(name)).collect()
}
