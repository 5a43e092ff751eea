//! Addresses of Resolver endpoints: those that a request names, and free ones of a subnet.

use super::{exists, invalid, invalid_request};
use crate::{
    aws::{
        codec::server::ServiceError,
        operations::{Context, Parameters, identifiers},
    },
    manifest::{Direction, EndpointAddress, ResolverEndpoint, Subnet, Vpc},
};
use ipnet::IpNet;
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// The number of addresses at the start of a subnet that AWS reserves. It also reserves the last one.
const RESERVED: u128 = 4;

/// The families of an endpoint's addresses.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Families {
    pub ipv4: bool,
    pub ipv6: bool,
}

impl Families {
    /// The families of a word of AWS.
    pub fn read(word: &str) -> Families {
        Families { ipv4: word != "IPV6", ipv6: word == "IPV6" || word == "DUALSTACK" }
    }

    /// The families of the addresses that an endpoint has.
    pub fn of(endpoint: &ResolverEndpoint) -> Families {
        let has = |is_ipv4: bool| endpoint.ip_addresses.iter().any(|address| address.ip.is_ipv4() == is_ipv4);
        Families { ipv4: has(true), ipv6: has(false) }
    }

    /// The word of AWS.
    pub fn word(self) -> &'static str {
        match (self.ipv4, self.ipv6) {
            (true, true) => "DUALSTACK",
            (false, true) => "IPV6",
            _ => "IPV4",
        }
    }
}

/// A subnet of the caller, with its VPC.
#[derive(Clone, Copy)]
pub(super) struct FoundSubnet<'a> {
    pub id: &'a str,
    pub vpc_id: &'a str,
    vpc: &'a Vpc,
    subnet: &'a Subnet,
}

/// The subnet with an identifier.
pub(super) fn subnet<'a>(context: &Context<'a>, id: &str) -> Result<FoundSubnet<'a>, ServiceError> {
    let mut vpcs = context.manifest().vpcs.iter().filter(|(_, vpc)| context.has_vpc(vpc));
    let of_vpc = |(vpc_id, vpc): (&'a String, &'a Arc<Vpc>)| {
        let (id, subnet) = vpc.subnets.get_key_value(id)?;
        Some(FoundSubnet { id, vpc_id, vpc, subnet })
    };
    let found = vpcs.find_map(of_vpc);
    found.ok_or_else(|| invalid("SubnetId", format!("The subnet ID '{id}' does not exist")))
}

/// The addresses that new addresses of a VPC must not be.
pub(super) struct Used(HashSet<IpAddr>);

impl Used {
    /// The addresses in use: those of the VPC's endpoints, and its entry points.
    pub fn of(context: &Context, subnet: FoundSubnet) -> Used {
        let manifest = context.manifest();
        let resolver = manifest.resolver_endpoints.values();
        let resolver = resolver.filter(|endpoint| endpoint.vpc_id == subnet.vpc_id);
        let mut used: HashSet<IpAddr> =
            resolver.flat_map(|endpoint| &endpoint.ip_addresses).map(|address| address.ip).collect();
        let endpoints = manifest.vpc_endpoints.values().filter(|endpoint| endpoint.vpc_id == subnet.vpc_id);
        for interface in endpoints.flat_map(|endpoint| &endpoint.network_interfaces) {
            used.extend(interface.ipv4.map(IpAddr::V4));
            used.extend(interface.ipv6.map(IpAddr::V6));
        }
        used.extend(&subnet.vpc.resolver_addresses);
        Used(used)
    }

    /// Adds addresses of the families to `made`: those that the request names, and else free ones.
    pub fn add(
        &mut self,
        context: &Context,
        subnet: FoundSubnet,
        families: Families,
        request: Parameters,
        ip_id: Option<&str>,
        made: &mut Vec<EndpointAddress>,
    ) -> Result<(), ServiceError> {
        let new_id = ip_id.map_or_else(|| identifiers::next("rni"), str::to_string);
        for (member, is_wanted) in [("Ip", families.ipv4), ("Ipv6", families.ipv6)] {
            let given = request.given_text(member);
            let ip = match (is_wanted, given) {
                (false, None) => continue,
                (false, Some(_)) => {
                    let message = format!("{member}: an endpoint of the type {} has no such address", families.word());
                    return Err(invalid("IpAddresses", message));
                }
                (true, Some(text)) => self.check(subnet, member == "Ip", text)?,
                (true, None) => self.free(context, subnet, member == "Ip")?,
            };
            self.0.insert(ip);
            made.push(EndpointAddress {
                ip,
                availability_zone_id: Some(subnet.subnet.availability_zone_id.clone()),
                ip_id: Some(new_id.clone()),
                subnet_id: Some(subnet.id.into()),
            });
        }
        Ok(())
    }

    /// The address that a request names, if it is free.
    fn check(&self, subnet: FoundSubnet, is_ipv4: bool, text: &str) -> Result<IpAddr, ServiceError> {
        let ip = text.parse().ok().filter(|ip: &IpAddr| ip.is_ipv4() == is_ipv4);
        let ip = ip.ok_or_else(|| invalid("IpAddresses", format!("Invalid IP address: '{text}'")))?;
        if !subnet.subnet.cidr_blocks.iter().any(|block| is_usable(block, ip)) {
            let id = subnet.id;
            let message = format!("IP address '{text}' is either not in subnet '{id}' CIDR range or is reserved");
            return Err(invalid_request(message));
        }
        match self.0.contains(&ip) {
            true => Err(exists(format!("The IP address '{text}' in subnet '{}' is already in use", subnet.id))),
            false => Ok(ip),
        }
    }

    /// The lowest free address of a subnet.
    fn free(&self, context: &Context, subnet: FoundSubnet, is_ipv4: bool) -> Result<IpAddr, ServiceError> {
        // An address is an entry point of at most one VPC.
        let entry_points: HashSet<IpAddr> = {
            let manifest = context.manifest();
            let endpoints = manifest.resolver_endpoints.values();
            let inbound = endpoints.filter(|endpoint| endpoint.direction != Direction::Outbound);
            let of_endpoints = inbound.flat_map(|endpoint| &endpoint.ip_addresses).map(|address| address.ip);
            let of_vpcs = manifest.vpcs.values().flat_map(|vpc| vpc.resolver_addresses.iter().copied());
            of_endpoints.chain(of_vpcs).collect()
        };
        let blocks = subnet.subnet.cidr_blocks.iter().filter(|block| matches!(block, IpNet::V4(_)) == is_ipv4);
        let mut free = blocks.flat_map(usable).filter(|ip| !self.0.contains(ip) && !entry_points.contains(ip));
        let family = if is_ipv4 { "IPv4" } else { "IPv6" };
        let missing = || invalid_request(format!("The subnet '{}' has no free {family} address", subnet.id));
        free.next().ok_or_else(missing)
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The addresses of a block that AWS does not reserve.
fn usable(block: &IpNet) -> impl Iterator<Item = IpAddr> {
    let is_ipv4 = matches!(block, IpNet::V4(_));
    let all = number(block.network()).saturating_add(RESERVED)..number(block.broadcast());
    all.map(move |number| match u32::try_from(number) {
        Ok(number) if is_ipv4 => IpAddr::V4(Ipv4Addr::from(number)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    })
}

/// Whether an address is in a block, and AWS does not reserve it.
fn is_usable(block: &IpNet, ip: IpAddr) -> bool {
    block.contains(&ip) && number(ip) - number(block.network()) >= RESERVED && ip != block.broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_reserved_addresses_at_both_ends() {
        let block: IpNet = "10.0.1.0/29".parse().unwrap();
        let all: Vec<String> = usable(&block).map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["10.0.1.4", "10.0.1.5", "10.0.1.6"]);
        let is_free = |text: &str| is_usable(&block, text.parse().unwrap());
        assert!(is_free("10.0.1.4") && is_free("10.0.1.6"));
        for reserved in ["10.0.1.0", "10.0.1.3", "10.0.1.7", "10.0.2.5", "2001:db8::5"] {
            assert!(!is_free(reserved), "{reserved}");
        }
        let block: IpNet = "2001:db8::/64".parse().unwrap();
        assert_eq!(usable(&block).next().unwrap().to_string(), "2001:db8::4");
        assert_eq!(usable(&"10.0.1.8/31".parse().unwrap()).count(), 0);
    }
}
