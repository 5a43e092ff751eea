//! VPC endpoints: their names, and the choice of the interfaces that answer a client.

mod all;

pub use all::{Endpoints, Renamed};

use crate::{
    manifest::{
        ClientRoutingPolicy, DnsRecordIpType, EndpointState, Health, Id, Manifest, NetworkInterface, PrivateDnsScope,
        VpcEndpoint, VpcEndpointService, VpcEndpointType,
    },
    snapshot::health::Verdict,
    wire::{Name, reply::first_of},
};
use all::AzNames;
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// An Availability Zone: the number of its ID, the same in all snapshots of a process.
pub type Az = u32;

/// The AZ IDs, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Azs {
    ids: Vec<Id>,
    numbers: HashMap<Id, Az>,
}

impl Azs {
    /// The number of an AZ ID. A new ID gets the next number.
    pub fn number(&mut self, id: &str) -> Az {
        if let Some(&number) = self.numbers.get(id) {
            return number;
        }
        let number = self.ids.len() as Az;
        self.ids.push(id.into());
        self.numbers.insert(id.into(), number);
        number
    }

    /// The number of a known AZ ID.
    pub fn find(&self, id: &str) -> Option<Az> {
        self.numbers.get(id).copied()
    }

    /// The AZ ID.
    pub fn id(&self, az: Az) -> &str {
        self.ids.get(az as usize).map_or("-", |id| id)
    }
}

/// A compiled VPC endpoint.
#[derive(Debug, PartialEq)]
pub struct Endpoint {
    /// Its identifier.
    pub id: Id,
    /// The endpoint in the manifest.
    pub source: Arc<VpcEndpoint>,
    /// Its interfaces.
    pub interfaces: Box<[Interface]>,
    /// The names that lead to it.
    pub names: Arc<Names>,
}

/// A compiled network interface.
#[derive(Debug, PartialEq)]
pub struct Interface {
    /// Its AZ.
    pub az: Az,
    /// The interface in the manifest.
    pub source: NetworkInterface,
    /// The time until which zonal shifts lead away from it, in seconds since 1970.
    pub shifted_until: i64,
    /// The verdicts of its IPv4 and of its IPv6 address; none without a health check.
    pub verdicts: [Option<Verdict>; 2],
}

impl Interface {
    /// Whether its address of a family is healthy for clients in an AZ, and not shifted away at this time, in seconds since
    /// 1970.
    #[inline]
    pub fn is_usable(&self, family: Family, client: Option<Az>, now: i64) -> bool {
        now >= self.shifted_until && self.is_healthy(family, client)
    }

    /// Whether its address of a family is healthy for clients in an AZ.
    #[inline]
    pub fn is_healthy(&self, family: Family, client: Option<Az>) -> bool {
        self.source.health == Health::Healthy
            && self.verdict(family).is_none_or(|verdict| verdict.is_healthy_for(client))
    }

    /// Whether its health is the same for all clients.
    pub fn is_same_for_all(&self) -> bool {
        self.verdicts.iter().flatten().all(Verdict::is_same_for_all)
    }

    /// The verdict of its address of a family; none without a health check.
    #[inline]
    pub fn verdict(&self, family: Family) -> Option<&Verdict> {
        self.verdicts[family as usize].as_ref()
    }

    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.source.ipv4.map(IpAddr::V4),
            Family::V6 => self.source.ipv6.map(IpAddr::V6),
        }
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4: A records.
    V4,
    /// IPv6: AAAA records.
    V6,
}

/// A scope with its VPCs in order, without duplicates.
fn sorted(scope: &PrivateDnsScope) -> PrivateDnsScope {
    match scope {
        PrivateDnsScope::Vpcs(ids) => {
            let ids: BTreeSet<&Id> = ids.iter().collect();
            PrivateDnsScope::Vpcs(ids.into_iter().cloned().collect())
        }
        other => other.clone(),
    }
}

/// The names that lead to an endpoint.
#[derive(Debug, Default, PartialEq)]
pub struct Names {
    /// Regional and zonal names, which every view answers.
    pub public: Vec<(Box<[u8]>, EndpointName)>,
    /// Private names, which only some views have.
    pub private: Vec<(Box<[u8]>, EndpointName)>,
    /// The VPC of the endpoint.
    pub vpc: Id,
    /// Its Region.
    pub region: String,
    /// The scope of the private names, with listed VPCs in order.
    pub scope: PrivateDnsScope,
    /// The private names are for inbound paths only.
    pub inbound_only: bool,
}

/// The kind of a name of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// The name for all AZs.
    Regional,
    /// The name for one AZ.
    Zonal(Az),
    /// A private name of the service.
    Private,
}

/// A name of an endpoint: the apex of a zone of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointName {
    /// The slot of the endpoint.
    pub slot: u32,
    /// The kind of a name of an endpoint.
    pub kind: NameKind,
    /// The name itself leads to the endpoint.
    pub exact: bool,
    /// All names below it lead to the endpoint.
    pub wildcard: bool,
    /// It has A records.
    pub v4: bool,
    /// It has AAAA records.
    pub v6: bool,
    /// Instead of addresses, it has a CNAME to this name.
    pub cname: Option<Name>,
}

impl EndpointName {
    /// Whether it has addresses of a family.
    pub fn has(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// The endpoints of a private name. The name itself and the names below it can lead to different endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrivateName {
    /// The endpoint that answers the name itself.
    pub exact: Option<EndpointName>,
    /// The endpoint that answers the names below it.
    pub wildcard: Option<EndpointName>,
}

impl Endpoint {
    /// Chooses the interfaces that answer a client (docs/concepts/which-answer.md, "Answer from an endpoint"). `kind` is the kind
    /// of the queried name, `client` the client's AZ, `now` in seconds since 1970, and `draw` decides shares:
    ///
    /// 1. a zonal name: the interfaces in its AZ;
    /// 2. the usable interfaces, or all of them if none is usable;
    /// 3. of these, the ones in the client's AZ, if the routing policy has affinity and there are any.
    pub fn choose(&self, family: Family, kind: NameKind, client: Option<Az>, now: i64, draw: u32) -> Choice<'_> {
        let mut choice = Choice { endpoint: self, family, client, az: None, usable_only: None };
        if let NameKind::Zonal(az) = kind {
            choice.az = Some(az);
            return choice;
        }
        // If no interface is usable, all count as usable.
        let usable = Choice { usable_only: Some(now), ..choice };
        if usable.interfaces().next().is_some() {
            choice = usable;
        }
        let has_affinity = match self.source.client_routing_policy {
            ClientRoutingPolicy::AvailabilityZoneAffinity => true,
            ClientRoutingPolicy::PartialAvailabilityZoneAffinity => percentile(draw) < AFFINITY_PERCENT,
            ClientRoutingPolicy::AnyAvailabilityZone => false,
        };
        if has_affinity && client.is_some() {
            let own = Choice { az: client, ..choice };
            if own.interfaces().next().is_some() {
                choice = own;
            }
        }
        choice
    }
}

/// The percentage of queries for which partial AZ affinity chooses the client's own AZ.
const AFFINITY_PERCENT: u32 = 85;

/// A number from 0 to 99, evenly distributed over consecutive draws.
fn percentile(draw: u32) -> u32 {
    (draw.wrapping_mul(0x9e37_79b1) >> 8) % 100
}

/// A choice among the interfaces of an endpoint.
#[derive(Clone, Copy)]
pub struct Choice<'e> {
    endpoint: &'e Endpoint,
    family: Family,
    /// The client's AZ.
    client: Option<Az>,
    /// The only AZ of the interfaces; none: all AZs.
    pub az: Option<Az>,
    /// Only the interfaces that are usable at this time; none: all interfaces.
    pub usable_only: Option<i64>,
}

impl<'e> Choice<'e> {
    /// The chosen interfaces.
    pub fn interfaces(self) -> impl Iterator<Item = &'e Interface> + Clone {
        self.endpoint.interfaces.iter().filter(move |interface| {
            interface.address(self.family).is_some()
                && self.az.is_none_or(|az| az == interface.az)
                && self.usable_only.is_none_or(|now| interface.is_usable(self.family, self.client, now))
        })
    }

    /// The addresses of the chosen interfaces. Each draw begins with another address.
    pub fn addresses(self, draw: u32) -> impl Iterator<Item = IpAddr> + use<'e> {
        let first = first_of(self.interfaces().count(), draw);
        let rotated = self.interfaces().skip(first).chain(self.interfaces().take(first));
        rotated.filter_map(move |interface| interface.address(self.family))
    }
}

/// A name in lower case and wire format.
fn lower(name: &Name) -> Box<[u8]> {
    name.to_lowercase().as_wire().into()
}

/// `api.aws`. Service-defined names below it have AAAA records too.
const DUALSTACK_SUFFIX: &[u8] = b"\x03api\x03aws\0";

/// Whether an endpoint in its current state has names.
pub fn has_names(endpoint: &VpcEndpoint) -> bool {
    match endpoint.state {
        EndpointState::Available | EndpointState::Partial => true,
        EndpointState::Pending => !endpoint.network_interfaces.is_empty(),
        _ => false,
    }
}

/// The names of an endpoint (docs/concepts/which-answer.md). An endpoint in a state without names has none.
fn names_of<'m>(
    manifest: &'m Manifest,
    id: &str,
    endpoint: &VpcEndpoint,
    slot: u32,
    azs: &mut Azs,
    az_names: &mut AzNames<'m>,
) -> Names {
    let mut names = Names {
        vpc: endpoint.vpc_id.clone(),
        scope: sorted(&endpoint.private_dns_scope),
        inbound_only: endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint,
        ..Names::default()
    };
    let (Some(service), Some(vpc)) =
        (manifest.vpc_endpoint_services.get(&endpoint.service_name), manifest.vpcs.get(&endpoint.vpc_id))
    else {
        return names;
    };
    names.region.clone_from(&vpc.region);
    if !has_names(endpoint) || endpoint.vpc_endpoint_type != VpcEndpointType::Interface {
        return names;
    }
    let wildcard = service.private_dns_names.iter().any(Name::is_wildcard);
    let template = |kind, apex: &[u8], exact, wildcard| {
        let (v4, v6) = families(endpoint.dns_options.dns_record_ip_type, apex);
        EndpointName { slot, kind, exact, wildcard, v4, v6, cname: None }
    };
    let label = match &endpoint.dns_name_suffix {
        Some(suffix) => format!("{id}-{suffix}"),
        None => id.to_string(),
    };
    let Ok(regional) = service.dns_name.child(label.as_bytes()) else { return names };
    let apex = lower(&regional);
    let name = template(NameKind::Regional, &apex, true, wildcard);
    names.public.push((apex, name));
    for interface in &endpoint.network_interfaces {
        let az = &interface.availability_zone_id;
        if let Some(az_name) = az_names.name(vpc, az)
            && let Ok(zonal) = service.dns_name.child(format!("{label}-{az_name}").as_bytes())
        {
            let apex = lower(&zonal);
            if names.public.iter().all(|(other, _)| *other != apex) {
                let name = template(NameKind::Zonal(azs.number(az)), &apex, true, wildcard);
                names.public.push((apex, name));
            }
        }
    }
    if endpoint.private_dns_enabled && vpc.enable_dns_support && vpc.enable_dns_hostnames && service.is_verified() {
        add_private(&mut names, service, regional, template);
    }
    names
}

/// Adds the private names of the service.
fn add_private(
    names: &mut Names,
    service: &VpcEndpointService,
    regional: Name,
    template: impl Fn(NameKind, &[u8], bool, bool) -> EndpointName,
) {
    for private in &service.private_dns_names {
        let is_wildcard = private.is_wildcard();
        let Some(bare) = (if is_wildcard { private.parent() } else { Some(private.clone()) }) else { continue };
        let apex = lower(&bare);
        if let Some((_, name)) = names.private.iter_mut().find(|(other, _)| *other == apex) {
            name.exact |= !is_wildcard;
            name.wildcard |= is_wildcard;
            continue;
        }
        let mut name = template(NameKind::Private, &apex, !is_wildcard, is_wildcard);
        name.cname = (!service.is_amazon()).then(|| regional.clone());
        names.private.push((apex, name));
    }
}

/// Whether a name has A records, and whether it has AAAA records.
fn families(ip_type: DnsRecordIpType, apex: &[u8]) -> (bool, bool) {
    match ip_type {
        DnsRecordIpType::Ipv4 => (true, false),
        DnsRecordIpType::Ipv6 => (false, true),
        DnsRecordIpType::Dualstack => (true, true),
        DnsRecordIpType::ServiceDefined => (true, apex.ends_with(DUALSTACK_SUFFIX)),
    }
}
