//! The model of endpoint names. It follows docs/concepts/which-answer.md, "Answer from an endpoint".

use super::{
    names::{A, AAAA, ANY, CNAME, Data, NS, Rr, SOA, at_or_below, under},
    networks::{self, Net},
    oracle::{Layer, NXDOMAIN, Path, Step, Who, World},
};
use std::net::IpAddr;
use zonal::manifest::{
    ClientRoutingPolicy, DnsRecordIpType, EndpointState, Health, NetworkInterface, PrivateDnsScope, VpcEndpoint,
    VpcEndpointService, VpcEndpointType,
};

/// An endpoint with names, and its service.
pub struct Named<'w> {
    pub id: &'w str,
    pub endpoint: &'w VpcEndpoint,
    pub service: &'w VpcEndpointService,
}

impl World {
    /// The endpoints that have names (docs/concepts/which-answer.md).
    pub fn named(&self) -> impl Iterator<Item = Named<'_>> {
        self.manifest.vpc_endpoints.iter().filter_map(|(id, endpoint)| {
            let exists = match endpoint.state {
                EndpointState::Available | EndpointState::Partial => true,
                EndpointState::Pending => !endpoint.network_interfaces.is_empty(),
                _ => false,
            };
            let service = self.manifest.vpc_endpoint_services.get(&endpoint.service_name)?;
            (exists && endpoint.vpc_endpoint_type == VpcEndpointType::Interface).then_some(Named {
                id,
                endpoint,
                service,
            })
        })
    }

    /// Regional and zonal names. `at` is such a name, and `name` is at or below it.
    pub fn public(&self, who: &Who, at: &[String], name: &[String], qtype: u16, keeps: bool) -> Option<Step> {
        for named in self.named() {
            let parent = super::names::name(&named.service.dns_name.to_string());
            let wildcard = has_wildcard(named.service);
            let answer = |addresses: &dyn Fn(u16) -> Vec<IpAddr>| {
                if name == at || wildcard {
                    found(addresses, at, name, qtype)
                } else {
                    Step::Empty(NXDOMAIN, endpoint_soa(at))
                }
            };
            if at == under(&named.label(), &parent) {
                return Some(answer(&|family| named.addresses(self, who, at, family, keeps)));
            }
            for interface in &named.endpoint.network_interfaces {
                for (az_name, az) in &self.manifest.vpcs[&named.endpoint.vpc_id].availability_zones {
                    let label = format!("{}-{az_name}", named.label()).to_ascii_lowercase();
                    if *az == interface.availability_zone_id && at == under(&label, &parent) {
                        return Some(answer(&|family| {
                            address(interface, family).filter(|_| named.has(at, family)).into_iter().collect()
                        }));
                    }
                }
            }
        }
        None
    }

    /// The endpoint that has a public name at or above a name.
    pub fn endpoint_at_or_above(&self, name: &[String]) -> Option<&VpcEndpoint> {
        let who = Who {
            vpc: self.manifest.vpcs.keys().next()?.clone(),
            network: None,
            path: Path::Vpc,
            az: None,
            source: IpAddr::from([0; 4]),
        };
        let mut cuts = (0..name.len()).map(|skip| &name[skip..]);
        let at = cuts.find(|cut| self.public(&who, cut, cut, A, true).is_some())?;
        let has = |named: &Named| {
            let parent = super::names::name(&named.service.dns_name.to_string());
            let azs = self.manifest.vpcs[&named.endpoint.vpc_id].availability_zones.keys();
            let zonal = azs.map(|az| format!("{}-{az}", named.label()).to_ascii_lowercase());
            [named.label()].into_iter().chain(zonal).any(|label| at == under(&label, &parent))
        };
        self.named().find(has).map(|named| named.endpoint)
    }

    /// Whether an endpoint's private names exist for a client.
    pub fn sees_private(&self, who: &Who, id: &str) -> bool {
        self.layers(who).into_iter().any(|layer| self.sees_private_by(who, layer, id))
    }

    /// Whether an endpoint's private names exist for a client by the VPC itself or by a Profile.
    fn sees_private_by(&self, who: &Who, layer: Layer, id: &str) -> bool {
        let Some(named) = self.named().find(|named| named.id == id) else { return false };
        let (endpoint, service) = (named.endpoint, named.service);
        let home = &self.manifest.vpcs[&endpoint.vpc_id];
        let verified = service.owner_id == "amazon"
            || service.private_dns_name_configuration.as_ref().is_some_and(|c| c.state.word() == "verified");
        let at = Net::Vpc(endpoint.vpc_id.clone());
        let view_reaches = || networks::reaches(&self.manifest, &Net::Vpc(who.vpc.clone()), &at);
        let in_scope = || match (layer, &endpoint.private_dns_scope) {
            // A Profile's endpoint is for each VPC that reaches it.
            (Layer::Profile(profile), _) => profile.vpc_endpoints.iter().any(|own| own == id) && view_reaches(),
            (Layer::Own, PrivateDnsScope::Vpc) => who.vpc == endpoint.vpc_id,
            (Layer::Own, PrivateDnsScope::Connected) => view_reaches(),
            (Layer::Own, PrivateDnsScope::Vpcs(ids)) => ids.contains(&who.vpc),
        };
        // A client that `allowed_cidr_blocks` permits, but that is in no known network, reaches
        // only the VPC of its entry point.
        let reached = || match &who.network {
            Some(own) => networks::reaches(&self.manifest, own, &at),
            None => who.vpc == endpoint.vpc_id,
        };
        let inbound_only = endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint;
        endpoint.private_dns_enabled
            && home.enable_dns_support
            && home.enable_dns_hostnames
            && verified
            && (who.path == Path::Inbound || (who.path == Path::Vpc && !inbound_only))
            && in_scope()
            && reached()
    }

    /// The endpoints of a layer with a private name: for the name itself, and for the names below it.
    fn private_in(&self, who: &Who, layer: Layer, at: &[String]) -> [Option<Named<'_>>; 2] {
        let (mut exact, mut wildcard) = (None, None);
        let rank = |named: &Named| {
            let lists =
                matches!(&named.endpoint.private_dns_scope, PrivateDnsScope::Vpcs(ids) if ids.contains(&who.vpc));
            let region = |id: &str| &self.manifest.vpcs[id].region;
            let same_region = region(&named.endpoint.vpc_id) == region(&who.vpc);
            let own = who.network != Some(Net::Vpc(named.endpoint.vpc_id.clone()));
            let is_own = matches!(layer, Layer::Own);
            let near = if is_own { (own, named.endpoint.vpc_id != who.vpc, !lists) } else { (false, false, false) };
            (near, !same_region, named.id.to_owned())
        };
        for named in self.named() {
            for private in &named.service.private_dns_names {
                let private = super::names::name(&private.to_string());
                let (slot, apex) = match private.split_first() {
                    Some((star, rest)) if star == "*" => (&mut wildcard, rest),
                    _ => (&mut exact, &private[..]),
                };
                let is_better = apex == at && slot.as_ref().is_none_or(|best| rank(&named) < rank(best));
                if is_better && self.sees_private_by(who, layer, named.id) {
                    *slot = Some(Named { ..named });
                }
            }
        }
        [exact, wildcard]
    }

    /// Private names of the first of these layers. `at` is the apex of a private name, and `name` is at or below it. A name and
    /// the names below it can be of different layers, if no rule or zone at the apex is between them.
    pub fn private(
        &self,
        who: &Who,
        layers: &[Layer],
        at: &[String],
        name: &[String],
        qtype: u16,
        keeps: bool,
    ) -> Option<Step> {
        let (first, rest) = layers.split_first()?;
        let [mut exact, mut wildcard] = self.private_in(who, *first, at);
        if exact.is_none() && wildcard.is_none() {
            return None;
        }
        for layer in rest {
            if self.rule(who, *layer, at).is_some() || self.zone_at(who, *layer, at).is_some() {
                break;
            }
            let [more_exact, more_wildcard] = self.private_in(who, *layer, at);
            (exact, wildcard) = (exact.or(more_exact), wildcard.or(more_wildcard));
        }
        let chosen = if name == at { exact } else { wildcard };
        Some(match chosen {
            None if name == at => found(&|_| Vec::new(), at, name, qtype),
            None => Step::Empty(NXDOMAIN, endpoint_soa(at)),
            Some(named) if named.service.owner_id != "amazon" => {
                let target = under(&named.label(), &super::names::name(&named.service.dns_name.to_string()));
                let cname = vec![Rr::new(name, CNAME, 60, Data::Name(target.clone()))];
                if matches!(qtype, CNAME | ANY) { Step::Records(cname) } else { Step::Follow(cname, target) }
            }
            Some(named) => found(&|family| named.addresses(self, who, name, family, keeps), at, name, qtype),
        })
    }
}

impl Named<'_> {
    pub fn label(&self) -> String {
        match &self.endpoint.dns_name_suffix {
            Some(suffix) => format!("{}-{suffix}", self.id),
            None => self.id.to_owned(),
        }
        .to_ascii_lowercase()
    }

    /// Whether the name has records of this type.
    fn has(&self, name: &[String], family: u16) -> bool {
        match self.endpoint.dns_options.dns_record_ip_type {
            DnsRecordIpType::Ipv4 => family == A,
            DnsRecordIpType::Ipv6 => family == AAAA,
            DnsRecordIpType::Dualstack => true,
            DnsRecordIpType::ServiceDefined => family == A || at_or_below(name, &super::names::name("api.aws")),
        }
    }

    /// The AZ choice of regional and private names.
    fn addresses(&self, world: &World, who: &Who, name: &[String], family: u16, keeps: bool) -> Vec<IpAddr> {
        if !self.has(name, family) {
            return Vec::new();
        }
        let all: Vec<&NetworkInterface> =
            self.endpoint.network_interfaces.iter().filter(|i| address(i, family).is_some()).collect();
        let shifted = |interface: &NetworkInterface| {
            world.manifest.zonal_shifts.values().any(|shift| {
                (shift.resource == "*" || shift.resource == self.id || shift.resource == self.endpoint.service_name)
                    && shift.away_from == interface.availability_zone_id
                    && shift.expires_at.is_none_or(|end| end.as_second() > world.now)
            })
        };
        let mut usable = all.clone();
        usable.retain(|interface| interface.health == Health::Healthy && !shifted(interface));
        if usable.is_empty() {
            usable = all;
        }
        let near: Vec<_> =
            usable.iter().copied().filter(|i| who.az.as_ref() == Some(&i.availability_zone_id)).collect();
        let affinity = match self.endpoint.client_routing_policy {
            ClientRoutingPolicy::AvailabilityZoneAffinity => true,
            ClientRoutingPolicy::PartialAvailabilityZoneAffinity => keeps,
            ClientRoutingPolicy::AnyAvailabilityZone => false,
        };
        let chosen = if affinity && !near.is_empty() { near } else { usable };
        chosen.into_iter().filter_map(|interface| address(interface, family)).collect()
    }
}

fn has_wildcard(service: &VpcEndpointService) -> bool {
    service.private_dns_names.iter().any(|name| name.to_string().starts_with("*."))
}

fn address(interface: &NetworkInterface, family: u16) -> Option<IpAddr> {
    match family {
        A => interface.ipv4.map(IpAddr::V4),
        AAAA => interface.ipv6.map(IpAddr::V6),
        _ => None,
    }
}

pub fn endpoint_soa(apex: &[String]) -> Rr {
    let data = Data::Soa(apex.to_vec(), under("hostmaster", apex), [1, 7200, 900, 1_209_600, 5]);
    Rr::new(apex, SOA, 5, data)
}

/// The answer at a name of an endpoint: addresses, and SOA and NS at the apex.
fn found(addresses: &dyn Fn(u16) -> Vec<IpAddr>, at: &[String], name: &[String], qtype: u16) -> Step {
    let mut records = Vec::new();
    for family in [A, AAAA] {
        if qtype == family || qtype == ANY {
            let data = addresses(family).into_iter().map(Data::Address);
            records.extend(data.map(|data| Rr::new(name, family, 60, data)));
        }
    }
    if name == at && matches!(qtype, SOA | ANY) {
        records.push(endpoint_soa(at));
    }
    if name == at && matches!(qtype, NS | ANY) {
        records.push(Rr::new(at, NS, 5, Data::Name(at.to_vec())));
    }
    if records.is_empty() { Step::Empty(0, endpoint_soa(at)) } else { Step::Records(records) }
}
