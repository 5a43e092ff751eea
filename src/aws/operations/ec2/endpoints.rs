//! EC2: VPC endpoints and endpoint services. Reads.

use super::{error, list, vpcs::vpc as find_vpc, wanted, zones::az_name};
use crate::{
    aws::{
        model::Service::Ec2,
        operations::{
            Context, Entry, Parameters, ReadResult,
            filters::Known,
            identifiers::{derived, endpoint_zone},
            object, start,
            table::read,
            tag_list,
        },
    },
    manifest::{Vpc, VpcEndpoint, VpcEndpointService, VpcEndpointType},
    snapshot::endpoints::has_names,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The operations that zonal serves.
pub(super) const TABLE: &[Entry] = &[
    read(Ec2, "DescribeVpcEndpoints", describe_vpc_endpoints, "VpcEndpointIds Filters MaxResults NextToken DryRun"),
    read(
        Ec2,
        "DescribeVpcEndpointServices",
        describe_vpc_endpoint_services,
        "ServiceNames ServiceRegions Filters MaxResults NextToken DryRun",
    ),
];

const ENDPOINT_FILTERS: Known = &[
    ("ip-address-type", "IpAddressType"),
    ("service-name", "ServiceName"),
    ("service-region", "ServiceRegion"),
    ("vpc-endpoint-id", "VpcEndpointId"),
    ("vpc-endpoint-state", "State"),
    ("vpc-endpoint-type", "VpcEndpointType"),
    ("vpc-id", "VpcId"),
];

/// The policy of an endpoint without one: everything is allowed.
const FULL_ACCESS: &str = r#"{"Statement":[{"Action":"*","Effect":"Allow","Principal":"*","Resource":"*"}]}"#;

/// A name without the last dot.
fn plain(name: impl ToString) -> String {
    name.to_string().trim_end_matches('.').to_string()
}

/// The names of an endpoint, as zonal answers them.
fn dns_entries(context: &Context, id: &str, endpoint: &VpcEndpoint, vpc: &Vpc) -> Vec<Value> {
    let services = &context.snapshot.manifest.vpc_endpoint_services;
    let Some(service) = services.get(service_name(context, id, endpoint)) else { return Vec::new() };
    if endpoint.vpc_endpoint_type != VpcEndpointType::Interface || !has_names(endpoint) {
        return Vec::new();
    }
    let label = match &endpoint.dns_name_suffix {
        Some(suffix) => format!("{id}-{suffix}"),
        None => id.to_string(),
    };
    let parent = plain(&service.dns_name);
    let zone = endpoint_zone(&vpc.region);
    let mut names = vec![format!("{label}.{parent}")];
    for interface in &endpoint.network_interfaces {
        let name = format!("{label}-{}.{parent}", az_name(context, vpc, &interface.availability_zone_id));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut entries: Vec<Value> =
        names.into_iter().map(|name| json!({"DnsName": name, "HostedZoneId": zone})).collect();
    if endpoint.private_dns_enabled && vpc.enable_dns_support && vpc.enable_dns_hostnames && service.is_verified() {
        let private = service.private_dns_names.iter().map(plain);
        entries.extend(private.map(|name| {
            let zone = derived("Z", &[&endpoint.vpc_id, &name]).replace('-', "").to_ascii_uppercase();
            json!({"DnsName": name, "HostedZoneId": zone})
        }));
    }
    entries
}

/// The service of an endpoint. The snapshot has the names of the services that presets stand for.
fn service_name<'a>(context: &'a Context, id: &str, endpoint: &'a VpcEndpoint) -> &'a str {
    let completed = context.snapshot.manifest.vpc_endpoints.get(id).map(|completed| completed.service_name.as_str());
    if endpoint.service_name.is_empty() { completed.unwrap_or_default() } else { &endpoint.service_name }
}

/// A word with a small first letter: EC2 writes states of endpoints so, although its model does not.
fn small(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}", first.to_ascii_lowercase(), letters.as_str()))
}

fn endpoint_value(context: &Context, id: &str, endpoint: &VpcEndpoint, vpc: &Vpc) -> Value {
    let interfaces = endpoint.network_interfaces.iter().map(|interface| {
        let addresses = (interface.ipv4.map(|ip| ip.to_string()), interface.ipv6.map(|ip| ip.to_string()));
        let address = addresses.0.or(addresses.1).unwrap_or_default();
        interface.network_interface_id.clone().unwrap_or_else(|| derived("eni", &[id, &address]))
    });
    let subnets: BTreeSet<&str> = endpoint
        .network_interfaces
        .iter()
        .filter_map(|interface| {
            let is_of = |subnet: &crate::manifest::Subnet| {
                subnet.cidr_blocks.iter().any(|block| {
                    interface.ipv4.is_some_and(|ip| block.contains(&std::net::IpAddr::from(ip)))
                        || interface.ipv6.is_some_and(|ip| block.contains(&std::net::IpAddr::from(ip)))
                })
            };
            let found = || vpc.subnets.iter().find(|(_, subnet)| is_of(subnet)).map(|(id, _)| id.as_str());
            interface.subnet_id.as_deref().or_else(found)
        })
        .collect();
    let has =
        |is_given: fn(&crate::manifest::NetworkInterface) -> bool| endpoint.network_interfaces.iter().any(is_given);
    let family = match (has(|interface| interface.ipv4.is_some()), has(|interface| interface.ipv6.is_some())) {
        (true, true) => "dualstack",
        (false, true) => "ipv6",
        _ => "ipv4",
    };
    let echoed = |member: &str| endpoint.aws.get(member).cloned().unwrap_or_else(|| json!([]));
    object(json!({
        "VpcEndpointId": id,
        "VpcEndpointType": endpoint.vpc_endpoint_type,
        "VpcId": endpoint.vpc_id,
        "ServiceName": service_name(context, id, endpoint),
        "State": small(endpoint.state.word()),
        "PolicyDocument": endpoint.aws.text("policy_document").unwrap_or(FULL_ACCESS),
        "RouteTableIds": echoed("route_table_ids"),
        "SubnetIds": subnets,
        "Groups": echoed("groups"),
        "IpAddressType": family,
        "DnsOptions": {
            "DnsRecordIpType": endpoint.dns_options.dns_record_ip_type,
            "PrivateDnsOnlyForInboundResolverEndpoint":
                endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint,
        },
        "PrivateDnsEnabled": endpoint.private_dns_enabled,
        "RequesterManaged": false,
        "NetworkInterfaceIds": interfaces.collect::<Vec<_>>(),
        "DnsEntries": dns_entries(context, id, endpoint, vpc),
        "CreationTimestamp": endpoint.aws.text("created"),
        "Tags": tag_list(&endpoint.tags, endpoint.name.as_deref()),
        "OwnerId": context.owner(&vpc.owner_id),
    }))
}

fn describe_vpc_endpoints(context: &Context, parameters: Parameters) -> ReadResult {
    let all = &context.manifest().vpc_endpoints;
    let exists = |id: &str| all.get(id).is_some_and(|endpoint| find_vpc(context, &endpoint.vpc_id).is_some());
    let code = "InvalidVpcEndpointId.NotFound";
    let ids = wanted(parameters, "VpcEndpointIds", code, "Vpc Endpoint", exists)?;
    list(parameters, "VpcEndpoints", ENDPOINT_FILTERS, |after| {
        let rest = all.range_from(start(after)).filter(|(id, _)| ids.is_empty() || ids.contains(&id.as_str()));
        rest.filter_map(|(id, endpoint)| {
            let vpc = find_vpc(context, &endpoint.vpc_id)?;
            Some((id.clone(), endpoint_value(context, id, endpoint, vpc)))
        })
    })
}

// Services.

const SERVICE_FILTERS: Known = &[
    ("owner", "Owner"),
    ("service-name", "ServiceName"),
    ("service-region", "ServiceRegion"),
    ("service-type", "ServiceType.ServiceType"),
    ("supported-ip-address-types", "SupportedIpAddressTypes"),
];

fn service_value(name: &str, service: &VpcEndpointService) -> Value {
    let private: Vec<String> = service.private_dns_names.iter().map(plain).collect();
    let private_names: Vec<Value> = private.iter().map(|name| json!({"PrivateDnsName": name})).collect();
    let state = service.private_dns_name_configuration.as_ref().map(|configuration| configuration.state.word());
    object(json!({
        "ServiceName": name,
        "ServiceId": service.service_id.clone().unwrap_or_else(|| derived("vpce-svc", &[name])),
        "ServiceType": [{"ServiceType": "Interface"}],
        "ServiceRegion": service.region,
        "AvailabilityZones": [],
        "AvailabilityZoneIds": [],
        "Owner": service.owner_id,
        "BaseEndpointDnsNames": [plain(&service.dns_name)],
        "PrivateDnsName": private.first(),
        "PrivateDnsNames": private_names,
        "VpcEndpointPolicySupported": service.is_amazon(),
        "AcceptanceRequired": false,
        "ManagesVpcEndpoints": false,
        "Tags": tag_list(&service.tags, service.name.as_deref()),
        "PrivateDnsNameVerificationState": if service.is_amazon() { Some("verified") } else { state },
        "SupportedIpAddressTypes": ["ipv4"],
    }))
}

fn describe_vpc_endpoint_services(context: &Context, parameters: Parameters) -> ReadResult {
    let services = &context.snapshot.manifest.vpc_endpoint_services;
    let (names, regions) = (parameters.texts("ServiceNames"), parameters.texts("ServiceRegions"));
    if let Some(name) = names.iter().find(|name| !services.contains_key(name)) {
        return Err(error("InvalidServiceName", format!("The Vpc Endpoint Service '{name}' does not exist")));
    }
    let is_wanted = |name: &str, service: &VpcEndpointService| {
        let is_here = if regions.is_empty() {
            context.is_in(&service.region)
        } else {
            regions.contains(&service.region.as_str())
        };
        is_here && (names.is_empty() || names.contains(&name))
    };
    let mut result = list(parameters, "ServiceDetails", SERVICE_FILTERS, |after| {
        let all = services.range_from(start(after)).filter(|(name, service)| is_wanted(name, service));
        all.map(|(name, service)| (name.clone(), service_value(name, service)))
    })?;
    let details = Parameters(&result).items("ServiceDetails");
    let shown: Vec<Value> = details.filter_map(|details| details.get("ServiceName").cloned()).collect();
    result["ServiceNames"] = shown.into();
    Ok(result)
}
