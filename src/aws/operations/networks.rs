//! The addresses and public names that an account may use.
//!
//! The address that a client asks and the client's own address decide its view. So a block or an entry point of one account can
//! change the answers to the clients of another account, and a target can be a host of another account. zonal answers all
//! clients from public hosted zones.
//!
//! zonal restricts a key that lists blocks, and each key of an account if the keys have several accounts. It does not restrict
//! other keys, and callers whose signature it does not verify.

use super::{Context, access_denied, refusal_code};
use crate::{
    aws::{codec::server::ServiceError, model::Service},
    manifest::{
        Direction, Resource,
        collection::{Content, Edit},
        connectivity::Network,
    },
};
use ipnet::IpNet;
use std::net::IpAddr;

/// The addresses that the resources of a caller may have.
#[derive(Clone, Debug, PartialEq)]
pub enum Permitted {
    /// All addresses.
    All,
    /// The addresses that no other account uses.
    Unused,
    /// The addresses in these blocks.
    Listed(Vec<IpNet>),
}

impl Permitted {
    /// The addresses for a verified key of an account, which may list blocks. `has_others` says whether there are keys of other
    /// accounts.
    pub fn of(account: &str, networks: Option<Vec<IpNet>>, has_others: bool) -> Permitted {
        match networks {
            Some(blocks) => Permitted::Listed(blocks),
            None if account == super::NO_ACCOUNT || !has_others => Permitted::All,
            None => Permitted::Unused,
        }
    }
}

/// The addresses of a resource.
#[derive(Default)]
struct Addresses {
    /// The blocks of its clients.
    blocks: Vec<IpNet>,
    /// The entry points.
    entry_points: Vec<IpAddr>,
    /// The addresses of interfaces. They do not decide the view of a client.
    interfaces: Vec<IpAddr>,
}

impl Addresses {
    fn of(resource: &Resource) -> Addresses {
        let mut all = Addresses::default();
        match resource {
            Resource::Vpc(vpc) => {
                all.blocks.extend(&vpc.cidr_blocks);
                all.blocks.extend(vpc.subnets.values().flat_map(|subnet| &subnet.cidr_blocks));
                all.entry_points.extend(&vpc.resolver_addresses);
            }
            Resource::OnPremisesNetwork(network) => all.blocks.extend(&network.cidr_blocks),
            Resource::ResolverEndpoint(endpoint) => {
                let addresses = endpoint.ip_addresses.iter().map(|address| address.ip);
                match endpoint.direction {
                    Direction::Outbound => all.interfaces.extend(addresses),
                    Direction::Inbound | Direction::InboundDelegation => all.entry_points.extend(addresses),
                }
            }
            Resource::VpcEndpoint(endpoint) => {
                for interface in &endpoint.network_interfaces {
                    all.interfaces.extend(interface.ipv4.map(IpAddr::V4));
                    all.interfaces.extend(interface.ipv6.map(IpAddr::V6));
                }
            }
            _ => {}
        }
        all
    }
}

/// Checks the blocks, addresses and public hosted zones that a change adds to the manifest.
///
/// # Errors
///
/// The caller may not use one of them.
pub fn check(context: &Context, service: Service, edits: &[Edit]) -> Result<(), ServiceError> {
    if context.caller.permitted == Permitted::All {
        return Ok(());
    }
    for edit in edits {
        let Some(Content::Resource(new)) = &edit.value else { continue };
        let old = context.manifest().resource(edit.key.kind, &edit.key.id);
        check_domain(context, service, old.as_ref(), new)?;
        let old = old.map(|old| Addresses::of(&old)).unwrap_or_default();
        let new = Addresses::of(new);
        let (blocks, entry_points) = (new.blocks.iter(), new.entry_points.iter());
        blocks
            .filter(|block| !old.blocks.contains(block))
            .try_for_each(|block| check_block(context, service, &old.blocks, block))?;
        for address in entry_points.filter(|address| !old.entry_points.contains(address)) {
            if !may_be_entry_point(context, *address) {
                return Err(not_permitted(context, service, &address.to_string(), refusal_code(service, "")));
            }
        }
        if let Permitted::Listed(blocks) = &context.caller.permitted {
            let mut interfaces = new.interfaces.iter().filter(|address| !old.interfaces.contains(address));
            if let Some(other) = interfaces.find(|address| !blocks.iter().any(|block| block.contains(*address))) {
                return Err(not_permitted(context, service, &other.to_string(), ""));
            }
        }
    }
    Ok(())
}

/// Checks that the caller may have a public hosted zone: zonal answers the clients of all accounts from it. A key that lists
/// blocks or domains needs the domain in its list. Any other key needs a name without a public hosted zone of another account.
fn check_domain(
    context: &Context,
    service: Service,
    old: Option<&Resource>,
    new: &Resource,
) -> Result<(), ServiceError> {
    let public = |resource: &Resource| match resource {
        Resource::PrivateHostedZone(zone) if zone.public => Some(zone.name.clone()),
        _ => None,
    };
    let Some(name) = public(new).filter(|_| old.and_then(public).is_none()) else { return Ok(()) };
    let domains = &context.caller.domains;
    let is_permitted = match context.caller.permitted {
        Permitted::All => true,
        Permitted::Unused if domains.is_empty() => {
            let mut zones = context.manifest().private_hosted_zones.values();
            !zones.any(|zone| {
                let meets = zone.name.is_at_or_below(&name) || name.is_at_or_below(&zone.name);
                zone.public && meets && zone.aws.text("owner_id") != Some(&context.caller.account)
            })
        }
        Permitted::Unused | Permitted::Listed(_) => domains.iter().any(|domain| name.is_at_or_below(domain)),
    };
    if is_permitted {
        return Ok(());
    }
    let message = format!(
        "{name} would be a public hosted zone, from which zonal answers the clients of all accounts: make a private hosted zone \
         with a VPC, or ask the operator of zonal to list the domain in `domains=` of the access key"
    );
    Err(access_denied(service, message))
}

/// Checks a block that a change adds to the blocks `old`. A block inside `old`, such as that of a new subnet, adds no address.
fn check_block(context: &Context, service: Service, old: &[IpNet], block: &IpNet) -> Result<(), ServiceError> {
    let is_permitted = match &context.caller.permitted {
        Permitted::All => true,
        Permitted::Listed(blocks) => blocks.iter().any(|outer| outer.contains(block)),
        Permitted::Unused => {
            old.iter().any(|outer| outer.contains(block))
                || (!is_special(block.network()) && !is_used_by_others(context, block))
        }
    };
    if is_permitted {
        return Ok(());
    }
    let code = if service == Service::Ec2 { "InvalidVpc.Range" } else { refusal_code(service, "") };
    Err(not_permitted(context, service, &block.to_string(), code))
}

/// Whether a block overlaps a VPC of another account, or contains a block of an on-premises network. An on-premises block
/// around it is no conflict: zonal uses the longest prefix.
fn is_used_by_others(context: &Context, block: &IpNet) -> bool {
    let manifest = context.manifest();
    let mut foreign = manifest.vpcs.values().filter(|vpc| !context.sees(&vpc.owner_id));
    foreign.any(|vpc| vpc.cidr_blocks.iter().any(|other| other.contains(block) || block.contains(other)))
        || manifest.on_premises_networks.values().any(|network| network.cidr_blocks.iter().any(|it| block.contains(it)))
}

/// Whether an address may become an entry point of the caller: it decides the network of all clients that ask it.
pub(super) fn may_be_entry_point(context: &Context, address: IpAddr) -> bool {
    match &context.caller.permitted {
        Permitted::All => true,
        Permitted::Listed(blocks) => blocks.iter().any(|block| block.contains(&address)),
        // Clients of all accounts may ask this host.
        Permitted::Unused => !is_special(address) && !context.is_foreign(address) && !(context.is_of_host)(address),
    }
}

/// The error for addresses that the caller may not use.
fn not_permitted(context: &Context, service: Service, what: &str, code: &str) -> ServiceError {
    match &context.caller.permitted {
        Permitted::Listed(blocks) => {
            let listed: Vec<String> = blocks.iter().map(IpNet::to_string).collect();
            let message = format!(
                "{what} is outside the networks of the access key; expected addresses in {}",
                listed.join(", ")
            );
            access_denied(service, message)
        }
        _ => {
            let message = format!(
                "{what} is not free for this account: use other addresses, or ask the operator of zonal to list them in \
                 `networks=` of the access key"
            );
            ServiceError::new(service, code, message)
        }
    }
}

/// Checks that the node may send queries or health checks to an address for the caller. `vpc` is the VPC that sends them;
/// `None` means all VPCs of the caller.
///
/// # Errors
///
/// The reason, as a sentence.
pub(super) fn check_target(context: &Context, address: IpAddr, vpc: Option<&str>) -> Result<(), String> {
    let address = address.to_canonical();
    let is_restricted = match &context.caller.permitted {
        Permitted::All => false,
        Permitted::Unused => true,
        Permitted::Listed(blocks) => !blocks.iter().any(|block| block.contains(&address)),
    };
    if is_restricted && (is_special(address) || (context.is_of_host)(address)) {
        return Err(format!(
            "{address} is a loopback, link-local, multicast or unspecified address, or an address of the node; an account \
             cannot use it as a target"
        ));
    }
    if context.is_foreign(address) && !is_reached(context, address, vpc) {
        return Err(format!("{address} is in no network that a VPC of the account reaches"));
    }
    Ok(())
}

/// Whether the VPC, or for `None` any VPC of the caller, reaches each VPC of another account that contains the address.
fn is_reached(context: &Context, address: IpAddr, vpc: Option<&str>) -> bool {
    let networks = &context.snapshot.networks;
    let own = context.manifest().vpcs.iter().filter(|(_, vpc)| context.sees(&vpc.owner_id));
    let own = own.filter(|(id, _)| vpc.is_none_or(|vpc| vpc == *id)).map(|(id, _)| Network::Vpc(id.clone()));
    let own: Vec<Network> = own.collect();
    let holders = networks.holding(address).iter().map(|member| networks.info(member.network));
    let mut foreign = holders.filter(|holder| holder.vpc.as_ref().is_some_and(|vpc| !context.sees(&vpc.owner_id)));
    let is_reached = |holder: &Network| own.iter().any(|own| networks.connectivity.reaches(own, holder));
    foreign.clone().next().is_some() && foreign.all(|holder| is_reached(&holder.network))
}

/// Whether an address is a loopback, link-local, multicast, broadcast or unspecified address. Hosts of a network have other
/// addresses. Clouds have their metadata services at link-local addresses, and at `fd00:ec2::/48`.
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address.octets()[0] == 0
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || address.segments()[..3] == [0xfd00, 0xec2, 0]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_an_account_may_use_all_addresses_that_it_lists_or_else_all() {
        let blocks: Vec<IpNet> = vec!["10.1.0.0/16".parse().unwrap()];
        assert_eq!(Permitted::of("000000000000", None, true), Permitted::All);
        assert_eq!(Permitted::of("111122223333", None, true), Permitted::Unused);
        assert_eq!(Permitted::of("111122223333", None, false), Permitted::All);
        for account in ["000000000000", "111122223333"] {
            for has_others in [false, true] {
                assert_eq!(Permitted::of(account, Some(blocks.clone()), has_others), Permitted::Listed(blocks.clone()));
            }
        }
    }

    #[test]
    fn hosts_have_no_special_addresses() {
        let is = |text: &str| is_special(text.parse().unwrap());
        for special in [
            "127.8.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(is(special), "{special}");
        }
        for usual in ["10.0.0.1", "192.0.2.1", "fd00:1::1", "2001:db8::1"] {
            assert!(!is(usual), "{usual}");
        }
    }
}
