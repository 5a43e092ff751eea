//! Checks of services, endpoints with their interfaces and names, and zonal shifts.

use super::{Checker, Index, is_label, list, regions::is_other_region};
use crate::{
    manifest::{
        Change, DnsRecordIpType, EndpointState, Id, Manifest, PrivateDnsScope, Vpc, VpcEndpoint, VpcEndpointService,
        VpcEndpointType, connectivity::Network, presets,
    },
    wire::Name,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    net::IpAddr,
    ops::Bound,
    sync::Arc,
};

const KIND: &str = "vpc_endpoints";

/// Whether an endpoint has names in its state.
fn has_names(endpoint: &VpcEndpoint) -> bool {
    match endpoint.state {
        EndpointState::Available | EndpointState::Partial => true,
        EndpointState::Pending => !endpoint.network_interfaces.is_empty(),
        _ => false,
    }
}

/// Whether an endpoint has private names, provided that its service has some.
pub(super) fn has_private_names(endpoint: &VpcEndpoint) -> bool {
    endpoint.vpc_endpoint_type == VpcEndpointType::Interface && endpoint.private_dns_enabled && has_names(endpoint)
}

/// The endpoints that a change can affect, including the changed ones. Addresses, private names and
/// Gateway endpoints must be unique within a VPC: a change affects all endpoints of the VPC. Own
/// names begin with the identifier of the endpoint: two can be equal only if one identifier begins
/// with the other, in any case.
pub(super) fn affected<'a>(
    changed: &[Change<'a, VpcEndpoint>],
    manifest: &'a Manifest,
    index: &Index,
) -> BTreeMap<&'a Id, &'a Arc<VpcEndpoint>> {
    let all = &manifest.vpc_endpoints;
    let mut vpcs: HashSet<&str> =
        changed.iter().flat_map(|change| [change.old, change.new]).flatten().map(|e| e.vpc_id.as_str()).collect();
    let is_nested = |a: &[u8], b: &[u8]| a.iter().zip(b).all(|(a, b)| a.eq_ignore_ascii_case(b));
    for change in changed {
        let id = change.id.to_ascii_lowercase();
        let longer = all.range_from(Bound::Included(&id));
        let longer = longer.take_while(|(other, _)| other.starts_with(&id));
        let shorter = id.char_indices().filter_map(|(at, _)| all.get_key_value(&id[..at]));
        let capitalized = index.capitalized.iter().filter(|other| is_nested(id.as_bytes(), other.as_bytes()));
        let nested = longer.chain(shorter).chain(capitalized.filter_map(|other| all.get_key_value(other)));
        vpcs.extend(nested.map(|(_, endpoint)| endpoint.vpc_id.as_str()));
    }
    let ids = vpcs.into_iter().filter_map(|vpc| index.endpoints_of.get(vpc)).flatten();
    ids.filter_map(|id| all.get_key_value(id)).collect()
}

/// For each VPC and address, the endpoint and the index of the interface that has the address.
type Addresses<'a> = HashMap<(&'a str, IpAddr), (&'a str, usize)>;

impl<'a> Checker<'a> {
    pub(super) fn services(&mut self) {
        for (id, service) in &self.manifest.vpc_endpoint_services {
            self.region("vpc_endpoint_services", id, &service.region);
            if service.dns_name.is_wildcard() {
                let message = format!("{} is a wildcard, but the names of endpoints are below it", service.dns_name);
                self.error("vpc_endpoint_services", id, "dns_name", message);
                self.help("remove the `*.`");
            }
            let mut seen = BTreeSet::new();
            for (at, name) in service.private_dns_names.iter().enumerate() {
                let field = format!("private_dns_names[{at}]");
                if *name == service.dns_name {
                    self.error("vpc_endpoint_services", id, field, "a private name cannot be equal to `dns_name`");
                } else if !seen.insert(name) {
                    self.warning("vpc_endpoint_services", id, field, format!("{name} is in the list twice"));
                } else if service.dns_name.is_at_or_below(name) {
                    let message = format!(
                        "the private name contains `dns_name` {}, below which the names of endpoints are",
                        service.dns_name
                    );
                    self.warning("vpc_endpoint_services", id, field, message);
                } else if name.labels().skip(1).any(|label| label == b"*") {
                    self.warning("vpc_endpoint_services", id, field, "a `*` is a wildcard only as the first label");
                }
            }
        }
    }

    /// Checks endpoints: all of them, or those that a change [affects](affected).
    pub(super) fn endpoints(&mut self, endpoints: impl Iterator<Item = (&'a Id, &'a Arc<VpcEndpoint>)> + Clone) {
        let manifest = self.manifest;
        let mut addresses: Addresses = HashMap::new();
        let mut names: HashMap<Name, &str> = HashMap::new();
        let is_gateway = |endpoint: &&Arc<VpcEndpoint>| {
            endpoint.vpc_endpoint_type == VpcEndpointType::Gateway
                && matches!(endpoint.state, EndpointState::Available | EndpointState::Partial | EndpointState::Pending)
        };
        // `endpoints` contains all endpoints of each VPC in it.
        let gateways = endpoints.clone().map(|(_, endpoint)| endpoint).filter(is_gateway);
        let gateways: BTreeSet<(&str, &str)> = gateways.map(|e| (e.vpc_id.as_str(), e.service_name.as_str())).collect();
        for (id, endpoint) in endpoints.clone() {
            let vpc = self.reference((KIND, id), "vpc_id", "VPC", &endpoint.vpc_id, &manifest.vpcs);
            let known = &manifest.vpc_endpoint_services;
            let error = presets::service_error(endpoint, vpc);
            let is_named = error.is_none() && !endpoint.service_name.is_empty();
            if let Some((field, message, help)) = error {
                self.error(KIND, id, field, message);
                help.into_iter().for_each(|help| self.help(help));
            }
            let service = match endpoint.vpc_endpoint_type {
                VpcEndpointType::Interface if is_named => {
                    self.reference((KIND, id), "service_name", "service", &endpoint.service_name, known)
                }
                // Other endpoints have no names, so that the service need not exist.
                _ => known.get(&endpoint.service_name).map(|service| &**service),
            };
            if let (Some(vpc), Some(service)) = (vpc, service)
                && is_other_region(&service.region, &vpc.region)
            {
                let message = format!(
                    "service `{}` is in {}, but `{}` is in {}",
                    endpoint.service_name, service.region, endpoint.vpc_id, vpc.region
                );
                self.warning(KIND, id, "service_name", message);
                self.help(
                    "write the service of the VPC's Region, unless the service accepts endpoints of other Regions",
                );
            }
            self.scope(id, endpoint);
            if let Some(vpc) = vpc {
                self.interfaces(id, endpoint, vpc, &mut addresses);
            }
            if endpoint.vpc_endpoint_type != VpcEndpointType::Interface {
                if endpoint.private_dns_enabled {
                    let message = format!("an endpoint of type {} has no private names", endpoint.vpc_endpoint_type);
                    self.error(KIND, id, "private_dns_enabled", message);
                }
                continue;
            }
            if let (Some(vpc), Some(service)) = (vpc, service)
                && has_names(endpoint)
            {
                self.private_dns(id, endpoint, vpc, service, &gateways);
                self.own_names(id, endpoint, vpc, service, &mut names);
            }
        }
        self.private_names(endpoints);
    }

    fn scope(&mut self, id: &str, endpoint: &VpcEndpoint) {
        let PrivateDnsScope::Vpcs(vpcs) = &endpoint.private_dns_scope else { return };
        if vpcs.is_empty() && endpoint.private_dns_enabled {
            self.warning(KIND, id, "private_dns_scope", "the scope is empty: no client resolves the private names");
        }
        let own = Network::Vpc(endpoint.vpc_id.clone());
        for (at, vpc) in vpcs.iter().enumerate() {
            let field = format!("private_dns_scope[{at}]");
            let found = self.reference((KIND, id), &field, "VPC", vpc, &self.manifest.vpcs);
            if found.is_some() && !self.connectivity.reaches(&Network::Vpc(vpc.clone()), &own) {
                let message = format!(
                    "`{vpc}` is not connected to `{}`: its clients do not resolve the private names",
                    endpoint.vpc_id
                );
                self.warning(KIND, id, field, message);
            }
        }
    }

    fn interfaces(&mut self, id: &'a str, endpoint: &'a VpcEndpoint, vpc: &'a Vpc, addresses: &mut Addresses<'a>) {
        let (blocks, index) = (self.searchable(&vpc.cidr_blocks), self.indexed(vpc));
        let mut zones = BTreeSet::new();
        for (at, interface) in endpoint.network_interfaces.iter().enumerate() {
            let field = || format!("network_interfaces[{at}]");
            let az = interface.availability_zone_id.as_str();
            if self.az_id((KIND, id), field() + ".availability_zone_id", az, &[&endpoint.vpc_id]) {
                zones.insert(az);
            } else if !zones.insert(az) {
                let message = format!("the endpoint has another interface in `{az}`");
                self.error(KIND, id, field() + ".availability_zone_id", message);
            } else if endpoint.vpc_endpoint_type == VpcEndpointType::Interface && !index.az_names.contains_key(az) {
                let message =
                    format!("`{}` has no name for `{az}`: the endpoint has no zonal name for it", endpoint.vpc_id);
                self.warning(KIND, id, field() + ".availability_zone_id", message);
                self.help("add it to `availability_zones` of the VPC");
            }
            let v4 = interface.ipv4.map(|address| ("ipv4", IpAddr::V4(address)));
            let v6 = interface.ipv6.map(|address| ("ipv6", IpAddr::V6(address)));
            if v4.is_none() && v6.is_none() {
                self.error(KIND, id, field(), "the interface has no address");
                self.help("write `ipv4`, `ipv6` or both");
            }
            for (family, address) in v4.into_iter().chain(v6) {
                let field = || format!("{}.{family}", field());
                if !blocks.contains(address) {
                    self.error(KIND, id, field(), format!("{address} is outside `{}`", endpoint.vpc_id));
                    self.help(format!("its CIDR blocks are {}", list(&vpc.cidr_blocks)));
                } else if !vpc.subnets.is_empty()
                    && !index.subnets.get(az).is_some_and(|subnets| subnets.contains(address))
                {
                    self.warning(KIND, id, field(), format!("{address} is not in a subnet of `{az}`"));
                }
                match addresses.entry((&endpoint.vpc_id, address)) {
                    Entry::Occupied(first) => {
                        let (other, at) = first.get();
                        let other = format!("{KIND}.{other}.network_interfaces[{at}].{family}");
                        let message = format!("{address} is already the address of an interface: {other}");
                        self.error(KIND, id, field(), message);
                    }
                    Entry::Vacant(entry) => drop(entry.insert((id, at))),
                }
            }
        }
        if endpoint.vpc_endpoint_type == VpcEndpointType::Interface && has_names(endpoint) {
            let v4 = endpoint.network_interfaces.iter().any(|interface| interface.ipv4.is_some());
            let v6 = endpoint.network_interfaces.iter().any(|interface| interface.ipv6.is_some());
            let missing = match endpoint.dns_options.dns_record_ip_type {
                _ if !v4 && !v6 => Some("an"),
                DnsRecordIpType::Ipv4 if !v4 => Some("an IPv4"),
                DnsRecordIpType::Ipv6 if !v6 => Some("an IPv6"),
                DnsRecordIpType::Dualstack if !v4 => Some("an IPv4"),
                DnsRecordIpType::Dualstack if !v6 => Some("an IPv6"),
                _ => None,
            };
            if let Some(missing) = missing {
                let message = format!("no interface has {missing} address: the endpoint has no such records");
                self.warning(KIND, id, "network_interfaces", message);
            }
        }
    }

    fn private_dns(
        &mut self,
        id: &str,
        endpoint: &VpcEndpoint,
        vpc: &Vpc,
        service: &VpcEndpointService,
        gateways: &BTreeSet<(&str, &str)>,
    ) {
        if endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint {
            let has_gateway = gateways.contains(&(endpoint.vpc_id.as_str(), endpoint.service_name.as_str()));
            if !has_gateway {
                let (vpc, service) = (&endpoint.vpc_id, &endpoint.service_name);
                let message = format!("`{vpc}` has no Gateway endpoint for `{service}`, which this option needs");
                self.error(KIND, id, "dns_options.private_dns_only_for_inbound_resolver_endpoint", message);
            }
        }
        if !endpoint.private_dns_enabled {
            return;
        }
        for (field, on) in
            [("enable_dns_support", vpc.enable_dns_support), ("enable_dns_hostnames", vpc.enable_dns_hostnames)]
        {
            if !on {
                let message = format!("{field} of `{}` is false: the endpoint has no private names", endpoint.vpc_id);
                self.warning(KIND, id, "private_dns_enabled", message);
            }
        }
        if service.private_dns_names.is_empty() {
            let message = format!("service `{}` has no private names", endpoint.service_name);
            self.warning(KIND, id, "private_dns_enabled", message);
        } else if !service.is_verified() {
            let message = format!(
                "the private names of service `{}` are not verified: zonal does not serve them",
                endpoint.service_name
            );
            self.warning(KIND, id, "private_dns_enabled", message);
            self.help("write `private_dns_name_configuration: {state: verified}` for the service");
        }
    }

    /// Checks the endpoint's own names: they are valid, and no other endpoint has them.
    fn own_names(
        &mut self,
        id: &'a str,
        endpoint: &VpcEndpoint,
        vpc: &'a Vpc,
        service: &VpcEndpointService,
        names: &mut HashMap<Name, &'a str>,
    ) {
        let (label, field) = match &endpoint.dns_name_suffix {
            Some(suffix) => (format!("{id}-{suffix}"), "dns_name_suffix"),
            None => (id.to_string(), ""),
        };
        let index = self.indexed(vpc);
        let zones = endpoint.network_interfaces.iter();
        let zones =
            zones.filter_map(|interface| *index.az_names.get(interface.availability_zone_id.as_str()).unwrap_or(&None));
        let has_wildcard = service.private_dns_names.iter().any(|name| name.is_wildcard());
        for label in std::iter::once(label.clone()).chain(zones.map(|zone| format!("{label}-{zone}"))) {
            if !is_label(&label) {
                self.error(KIND, id, field, format!("`{label}` is not valid as a label of the endpoint's names"));
                self.help("a label has at most 63 letters, digits and hyphens");
                return;
            }
            let name = service.dns_name.child(label.as_bytes());
            let Ok(name) = name.and_then(|name| if has_wildcard { name.child(b"*").map(|_| name) } else { Ok(name) })
            else {
                let message = format!("the endpoint's name {label}.{} is longer than 255 octets", service.dns_name);
                self.error(KIND, id, field, message);
                return;
            };
            match names.get(&name) {
                Some(other) if *other != id => {
                    let message = format!("{name} is already a name of `{other}`");
                    self.error(KIND, id, field, message);
                    return;
                }
                Some(_) => {}
                None => drop(names.insert(name, id)),
            }
        }
    }

    /// Checks that a VPC has at most one endpoint for each private name.
    fn private_names(&mut self, endpoints: impl Iterator<Item = (&'a Id, &'a Arc<VpcEndpoint>)>) {
        let manifest = self.manifest;
        let mut services: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let mut names: BTreeMap<&str, BTreeMap<_, (&str, &str)>> = BTreeMap::new();
        for (id, endpoint) in endpoints {
            if !has_private_names(endpoint) {
                continue;
            }
            let (vpc, service_name) = (endpoint.vpc_id.as_str(), endpoint.service_name.as_str());
            if let Some(other) = services.insert((vpc, service_name), id) {
                let message = format!("`{other}` in `{vpc}` already has private names for `{service_name}`");
                self.error(KIND, id, "private_dns_enabled", message);
                continue;
            }
            let Some(service) = manifest.vpc_endpoint_services.get(service_name) else { continue };
            for name in &service.private_dns_names {
                match names.entry(vpc).or_default().insert(name, (id, service_name)) {
                    Some((other, other_service)) if other_service != service_name => {
                        let message = format!("`{other}` in `{vpc}` already has the private name {name}");
                        self.error(KIND, id, "private_dns_enabled", message);
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn shifts(&mut self) {
        const KIND: &str = "zonal_shifts";
        let manifest = self.manifest;
        if manifest.zonal_shifts.is_empty() {
            return;
        }
        let of_vpc = |vpc: &'a Arc<Vpc>| {
            vpc.availability_zones.values().chain(vpc.subnets.values().map(|subnet| &subnet.availability_zone_id))
        };
        let of_endpoint = |endpoint: &'a Arc<VpcEndpoint>| {
            endpoint.network_interfaces.iter().map(|interface| &interface.availability_zone_id)
        };
        // Most AZs are found among the first ones, so that the rest is not visited.
        let of_vpcs = manifest.vpcs.values().flat_map(of_vpc);
        let mut zones = of_vpcs.chain(manifest.vpc_endpoints.values().flat_map(of_endpoint)).map(String::as_str);
        let mut known: HashSet<&str> = HashSet::new();
        for (id, shift) in &manifest.zonal_shifts {
            let (endpoints, services) = (&manifest.vpc_endpoints, &manifest.vpc_endpoint_services);
            if shift.resource != "*"
                && !endpoints.contains_key(&shift.resource)
                && !services.contains_key(&shift.resource)
            {
                let known = endpoints.keys().chain(services.keys()).map(String::as_str);
                self.unknown((KIND, id), "resource", "endpoint or service", &shift.resource, known);
            }
            let vpc = endpoints.get(&shift.resource).map(|endpoint| endpoint.vpc_id.as_str());
            if !self.az_id((KIND, id), "away_from".into(), &shift.away_from, vpc.as_slice())
                && !known.contains(&*shift.away_from)
                && !zones.by_ref().any(|zone| {
                    known.insert(zone);
                    zone == shift.away_from
                })
            {
                self.warning(
                    KIND,
                    id,
                    "away_from",
                    format!("no subnet or interface is in the AZ `{}`", shift.away_from),
                );
                self.suggestions += 1;
                // All AZs are visited now.
                if self.suggestions <= super::MAX_SUGGESTIONS
                    && let Some(nearest) = crate::manifest::decode::nearest(
                        &shift.away_from,
                        BTreeSet::from_iter(&known).into_iter().copied(),
                    )
                {
                    self.help(format!("did you mean `{nearest}`?"));
                }
            }
            // AWS's API lists ended shifts, so they stay in the manifest.
            let is_written = shift.aws.text("created").is_none();
            if let Some(at) = shift.expires_at.filter(|at| is_written && at.as_second() <= self.now) {
                self.warning(KIND, id, "expires_at", format!("the shift expired at {at}"));
            }
        }
    }
}
