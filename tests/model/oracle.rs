//! The model of client identification, rules and endpoint names. It follows
//! docs/concepts/who-asks.md and docs/concepts/which-answer.md sentence by sentence.

use super::{
    names::{A, AAAA, ANY, CNAME, DS, Data, N, NS, Rr, SOA, Seen, at_or_below, text, under},
    networks::{self, Net},
    upstream::{INTERNET, UpstreamAnswer, upstream_answer},
    zone::{Found, Zone},
};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use zonal::manifest::{
    ClientRoutingPolicy, Direction, DnsRecordIpType, EndpointState, Health, Manifest, NetworkInterface,
    PrivateDnsScope, Protocol, RuleType, VpcEndpoint, VpcEndpointService, VpcEndpointType,
};

/// A manifest, and the records in the master files of its zones.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub manifest: Manifest,
    pub data: BTreeMap<String, Vec<Rr>>,
    /// Seconds since 1970.
    pub now: i64,
    /// Whether the node has an internet resolver.
    pub internet: bool,
    /// The zones of the manifest with their records, computed at first use.
    pub zones: OnceCell<Vec<(String, Zone)>>,
}

/// A query.
#[derive(Clone, Debug)]
pub struct Ask {
    pub source: IpAddr,
    pub local: IpAddr,
    pub name: N,
    pub qtype: u16,
    pub rd: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Vpc,
    Inbound,
    Delegation,
}

/// The identified client.
#[derive(Clone, Debug)]
pub struct Who {
    /// The VPC whose view applies.
    pub vpc: String,
    /// The client's own network.
    pub network: Option<Net>,
    pub path: Path,
    pub az: Option<String>,
}

/// The expected answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect {
    pub rcode: u16,
    pub aa: bool,
    pub answer: BTreeSet<Seen>,
    /// Owner and type of the records that the authority section of an empty answer must have; for a
    /// SOA record also the TTL.
    pub authority: BTreeSet<(String, u16, Option<u32>)>,
    pub ede: Option<u16>,
    /// Whether an autodefined zone answers, whose apex the documentation does not define.
    pub any_soa: bool,
    /// The rule that forwards the query, and the name, instead of an answer.
    pub forward: Option<(String, N)>,
}

/// One step of a resolution.
pub enum Step {
    Refused,
    Records(Vec<Rr>),
    /// NODATA, or NXDOMAIN, with the SOA record.
    Empty(u16, Rr),
    /// NODATA or NXDOMAIN from an autodefined zone.
    Autodefined(u16),
    Referral(N),
    Follow(Vec<Rr>, N),
    TooLong(Vec<Rr>),
    /// The cached answer of a rule's targets, and whether it is stale.
    Upstream(String, UpstreamAnswer, bool),
}

pub const NXDOMAIN: u16 = 3;

/// An endpoint with names, and its service.
struct Named<'w> {
    id: &'w str,
    endpoint: &'w VpcEndpoint,
    service: &'w VpcEndpointService,
}

impl World {
    /// Zones, by identifier.
    pub fn zones(&self) -> &[(String, Zone)] {
        self.zones.get_or_init(|| {
            let none = Vec::new();
            let zones = self.manifest.private_hosted_zones.iter();
            zones.map(|(id, zone)| (id.clone(), Zone::new(zone, self.data.get(id).unwrap_or(&none)))).collect()
        })
    }

    /// Identifies the client (docs/concepts/who-asks.md). None if it is refused.
    pub fn who(&self, source: IpAddr, local: IpAddr) -> Option<Who> {
        let manifest = &self.manifest;
        let here = |net: &Net| networks::contains(manifest, net, source);
        for (id, vpc) in &manifest.vpcs {
            if !vpc.resolver_addresses.contains(&local) {
                continue;
            }
            let own = Net::Vpc(id.clone());
            let vpc_of = if here(&own) {
                own
            } else {
                let mut others = networks::connected(manifest, &own);
                others.retain(|net| matches!(net, Net::Vpc(_)) && here(net));
                only(others)?
            };
            let Net::Vpc(name) = &vpc_of else { return None };
            // Without DNS support, the VPC's own entry point refuses queries, and its clients have no view
            // at other entry points.
            if !vpc.enable_dns_support || !manifest.vpcs[name].enable_dns_support {
                return None;
            }
            let az = networks::az(manifest, name, source);
            return Some(Who { vpc: name.clone(), network: Some(vpc_of), path: Path::Vpc, az });
        }
        for endpoint in manifest.resolver_endpoints.values() {
            let path = match endpoint.direction {
                Direction::Inbound => Path::Inbound,
                Direction::InboundDelegation => Path::Delegation,
                Direction::Outbound => continue,
            };
            let Some(address) = endpoint.ip_addresses.iter().find(|address| address.ip == local) else { continue };
            let own = Net::Vpc(endpoint.vpc_id.clone());
            let network = if here(&own) {
                Some(own.clone())
            } else {
                let mut others = networks::connected(manifest, &own);
                others.retain(&here);
                if others.len() > 1 {
                    return None;
                }
                only(others)
            };
            let allowed = match &endpoint.allowed_cidr_blocks[..] {
                [] => network.is_some(),
                blocks => blocks.iter().any(|block| block.contains(&source)),
            };
            if !allowed || !endpoint.protocols.contains(&Protocol::Do53) {
                return None;
            }
            // A client that is permitted without a connection is identified by its network too.
            let network = network.or_else(|| only(networks::all(manifest).into_iter().filter(&here).collect()));
            let nearest = match &network {
                Some(Net::Vpc(id)) => networks::az(manifest, id, source),
                Some(Net::OnPremises(id)) => manifest.on_premises_networks[id].availability_zone_id.clone(),
                None => None,
            };
            let az = nearest.or(address.availability_zone_id.clone());
            return Some(Who { vpc: endpoint.vpc_id.clone(), network, path, az });
        }
        let inside: Vec<Net> = manifest.vpcs.keys().map(|id| Net::Vpc(id.clone())).filter(here).collect();
        let Net::Vpc(id) = only(inside)? else { return None };
        if !manifest.vpcs[&id].enable_dns_support {
            return None;
        }
        let az = networks::az(manifest, &id, source);
        Some(Who { network: Some(Net::Vpc(id.clone())), vpc: id, path: Path::Vpc, az })
    }

    /// Resolves a query. `keeps` tells whether the query is among the 85 % that stay in the
    /// client's AZ.
    pub fn ask(&self, ask: &Ask, keeps: bool) -> Expect {
        let mut has_ended = false;
        let mut expect = self.chain(ask, keeps, &mut has_ended);
        if has_ended && expect.forward.is_none() && expect.rcode != 2 && expect.ede.is_none() {
            expect.ede = Some(3); // RFC 8767
        }
        expect
    }

    fn chain(&self, ask: &Ask, keeps: bool, has_ended: &mut bool) -> Expect {
        let Some(who) = self.who(ask.source, ask.local) else {
            return Expect { rcode: 5, ede: Some(18), ..Expect::default() };
        };
        let mut expect = Expect::default();
        let mut name = ask.name.clone();
        let mut owners: Vec<N> = Vec::new();
        loop {
            let first = owners.is_empty();
            let step = self.step(&who, &name, ask.qtype, ask.rd, keeps);
            if first {
                expect.aa = !matches!(step, Step::Refused | Step::Referral(_) | Step::Upstream(..));
            }
            // An upstream answer is treated like an own answer, except for AA.
            let step = match step {
                Step::Upstream(rule, answer, stale) => {
                    *has_ended |= stale;
                    match answer {
                        UpstreamAnswer::Unasked => return Expect { forward: Some((rule, name)), ..Expect::default() },
                        UpstreamAnswer::Failed => return Expect { rcode: 2, ede: Some(22), ..Expect::default() },
                        UpstreamAnswer::Records(records) => Step::Records(records),
                        UpstreamAnswer::Follow(records, target) => Step::Follow(records, target),
                        UpstreamAnswer::Empty(rcode, soa) => Step::Empty(rcode, soa),
                    }
                }
                step => step,
            };
            match step {
                Step::Upstream(..) => unreachable!("converted above"),
                Step::Refused => {
                    expect.rcode = if first { 5 } else { 0 };
                    expect.ede = Some(20);
                }
                Step::Records(records) => expect.answer.extend(records.iter().map(Seen::from)),
                Step::Empty(rcode, soa) => {
                    expect.rcode = rcode;
                    expect.authority.insert((text(&soa.owner), SOA, Some(soa.ttl)));
                }
                Step::Autodefined(rcode) => {
                    expect.rcode = rcode;
                    expect.any_soa = true;
                }
                Step::Referral(cut) => {
                    expect.authority.insert((text(&cut), NS, None));
                }
                Step::TooLong(records) => {
                    expect.answer.extend(records.iter().map(Seen::from));
                    expect.rcode = 6;
                }
                Step::Follow(records, target) => {
                    expect.answer.extend(records.iter().map(Seen::from));
                    owners.push(std::mem::replace(&mut name, target));
                    if owners.contains(&name) {
                        return expect;
                    }
                    if owners.len() <= 16 {
                        continue;
                    }
                    expect.rcode = 2;
                }
            }
            return expect;
        }
    }

    /// Finds the zone, rule or endpoint that is responsible for a name
    /// (docs/concepts/which-answer.md).
    fn step(&self, who: &Who, name: &[String], qtype: u16, rd: bool, keeps: bool) -> Step {
        let mut forwards = true;
        let mut own: Option<Step> = None;
        let mut hidden = false;
        // A query that falls through a zone is resolved as if the zone did not exist.
        let mut falls_through = false;
        let below = OnceCell::new();
        let has_below = || *below.get_or_init(|| self.has_below(who, name));
        for skip in 0..=name.len() {
            let at = &name[skip..];
            // The zone or rule above resolves a DS query at an apex or rule name.
            let above = qtype == DS && skip == 0;
            let rule = if who.path == Path::Delegation { None } else { self.rule(who, at) };
            let asked = match rule {
                Some((_, RuleType::System)) => {
                    forwards &= above;
                    None
                }
                Some((_, RuleType::Recursive)) => Some(INTERNET),
                Some((id, RuleType::Forward)) if forwards => Some(id),
                _ => None,
            };
            match asked.map(|rule| self.upstream(rule, name, qtype, rd)) {
                // A FORWARD rule shadows a zone of the same name, including its NODATA.
                Some(step) if above => {
                    hidden = true;
                    own = Some(step).filter(|step| !matches!(step, Step::Refused));
                }
                Some(Step::Refused) => return own.unwrap_or(Step::Refused),
                Some(step) => return as_at_a_cut(step, own.is_some() || hidden || has_below()),
                None => {}
            }
            for (id, zone) in self.zones() {
                let resource = &self.manifest.private_hosted_zones[id];
                if zone.apex != at || !resource.vpc_ids.contains(&who.vpc) {
                    continue;
                }
                if above {
                    own = own.or((!hidden).then(|| Step::Empty(0, zone.negative())));
                    continue;
                }
                match self.zone(who, zone, name, qtype, falls_through, keeps) {
                    Step::Empty(NXDOMAIN, _) if resource.fallthrough => falls_through = true,
                    step => return as_at_a_cut(step, own.is_some() || hidden || has_below()),
                }
            }
            if who.path == Path::Delegation {
                continue;
            }
            let private = self.private(who, at, name, qtype, keeps);
            let public = || self.public(who, at, name, qtype, keeps);
            if let Some(step) = private.or_else(public) {
                if !above {
                    return as_at_a_cut(step, own.is_some() || hidden || has_below());
                }
                own = own.or((!hidden).then(|| Step::Empty(0, endpoint_soa(at))));
            }
            if let Some(step) = self.autodefined(who, at, name, qtype) {
                // Names that must not be forwarded are not forwarded for DS either. Names in `arpa` are
                // delegated there.
                let stays = at.len() == 1 && rule.is_none() && own.is_none();
                if !above || stays {
                    return as_at_a_cut(step, own.is_some() || hidden || has_below());
                }
                own = own.or((!hidden).then_some(Step::Autodefined(0)));
            }
        }
        match self.upstream(INTERNET, name, qtype, rd) {
            _ if who.path == Path::Delegation => own.unwrap_or(Step::Refused),
            Step::Refused => own.unwrap_or(Step::Refused),
            step => as_at_a_cut(step, own.is_some() || hidden || has_below()),
        }
    }

    /// The answer of a rule's targets, or of the internet resolver. Queries with RD clear use
    /// neither.
    fn upstream(&self, rule: &str, name: &[String], qtype: u16, rd: bool) -> Step {
        if rule == INTERNET && !self.internet {
            return Step::Refused;
        }
        if !rd {
            return Step::Refused;
        }
        let (answer, stale) = upstream_answer(rule, name, qtype);
        Step::Upstream(rule.to_owned(), answer, stale)
    }

    fn rule(&self, who: &Who, at: &[String]) -> Option<(&str, RuleType)> {
        let rules = self.manifest.resolver_rules.iter();
        let mut here = rules.filter(|(_, rule)| {
            rule.enabled
                && rule.vpc_ids.contains(&who.vpc)
                && rule.rule_type != RuleType::Delegate
                && super::names::name(&rule.domain_name.to_string()) == at
        });
        here.next().map(|(id, rule)| (&**id, rule.rule_type))
    }

    fn zone(&self, who: &Who, zone: &Zone, name: &[String], qtype: u16, falls_through: bool, keeps: bool) -> Step {
        match zone.search(name, qtype, &|name| !falls_through && self.has_below(who, name)) {
            Found::Records(records) => Step::Records(records),
            Found::NoData => Step::Empty(0, zone.negative()),
            Found::NoName => Step::Empty(NXDOMAIN, zone.negative()),
            Found::Referral(cut) => Step::Referral(cut),
            Found::Follow(records, target) => Step::Follow(records, target),
            Found::TooLong(records) => Step::TooLong(records),
            Found::Alias(target, qtype) => {
                let cuts = (0..target.len()).map(|skip| &target[skip..]);
                let mut found = cuts.filter_map(|cut| self.public(who, cut, &target, qtype, keeps));
                match found.next() {
                    Some(Step::Records(mut records)) => {
                        records.iter_mut().for_each(|rr| rr.owner = name.to_vec());
                        Step::Records(records)
                    }
                    _ => Step::Empty(0, zone.negative()),
                }
            }
        }
    }

    /// Whether a view has a zone, a forwarding rule, an endpoint name or an autodefined zone below a name,
    /// so that the name exists.
    fn has_below(&self, who: &Who, name: &[String]) -> bool {
        let is_below = |other: &[String]| other.len() > name.len() && at_or_below(other, name);
        if name.is_empty() {
            return false;
        }
        let mut zones = self.manifest.private_hosted_zones.values().filter(|zone| zone.vpc_ids.contains(&who.vpc));
        if zones.any(|zone| is_below(&super::names::name(&zone.name.to_string()))) {
            return true;
        }
        if who.path == Path::Delegation {
            return false;
        }
        let mut rules = self.manifest.resolver_rules.values().filter(|rule| {
            let asks = matches!(rule.rule_type, RuleType::Forward | RuleType::Recursive);
            asks && rule.enabled && rule.vpc_ids.contains(&who.vpc)
        });
        let mut endpoints = self.named();
        rules.any(|rule| is_below(&super::names::name(&rule.domain_name.to_string())))
            || endpoints.any(|named| {
                let parent = super::names::name(&named.service.dns_name.to_string());
                let mut private = named.service.private_dns_names.iter().map(|name| {
                    let name = super::names::name(&name.to_string());
                    if name.first().is_some_and(|star| star == "*") { name[1..].to_vec() } else { name }
                });
                is_below(&under("any", &parent))
                    || self.sees_private(who, named.id) && private.any(|name| is_below(&name))
            })
            || self.autodefined_zones(who, name).iter().any(|zone| is_below(zone))
    }

    /// The endpoints that have names (docs/concepts/which-answer.md).
    fn named(&self) -> impl Iterator<Item = Named<'_>> {
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
    fn public(&self, who: &Who, at: &[String], name: &[String], qtype: u16, keeps: bool) -> Option<Step> {
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

    /// Whether an endpoint's private names exist for a client.
    pub fn sees_private(&self, who: &Who, id: &str) -> bool {
        let Some(named) = self.named().find(|named| named.id == id) else { return false };
        let (endpoint, service) = (named.endpoint, named.service);
        let home = &self.manifest.vpcs[&endpoint.vpc_id];
        let verified = service.owner_id == "amazon"
            || service.private_dns_name_configuration.as_ref().is_some_and(|c| c.state.word() == "verified");
        let at = Net::Vpc(endpoint.vpc_id.clone());
        let in_scope = match &endpoint.private_dns_scope {
            PrivateDnsScope::Vpc => who.vpc == endpoint.vpc_id,
            PrivateDnsScope::Connected => networks::reaches(&self.manifest, &Net::Vpc(who.vpc.clone()), &at),
            PrivateDnsScope::Vpcs(ids) => ids.contains(&who.vpc),
        };
        // A client that `allowed_cidr_blocks` permits, but that is in no known network, reaches
        // only the VPC of its entry point.
        let reached = match &who.network {
            Some(own) => networks::reaches(&self.manifest, own, &at),
            None => who.vpc == endpoint.vpc_id,
        };
        let inbound_only = endpoint.dns_options.private_dns_only_for_inbound_resolver_endpoint;
        endpoint.private_dns_enabled
            && home.enable_dns_support
            && home.enable_dns_hostnames
            && verified
            && in_scope
            && reached
            && (who.path == Path::Inbound || (who.path == Path::Vpc && !inbound_only))
    }

    /// Private names. `at` is the apex of a private name, and `name` is at or below it.
    fn private(&self, who: &Who, at: &[String], name: &[String], qtype: u16, keeps: bool) -> Option<Step> {
        let (mut exact, mut wildcard) = (None, None);
        let rank = |named: &Named| {
            let lists =
                matches!(&named.endpoint.private_dns_scope, PrivateDnsScope::Vpcs(ids) if ids.contains(&who.vpc));
            let region = |id: &str| &self.manifest.vpcs[id].region;
            let same_region = region(&named.endpoint.vpc_id) == region(&who.vpc);
            let own = who.network != Some(Net::Vpc(named.endpoint.vpc_id.clone()));
            (own, named.endpoint.vpc_id != who.vpc, !lists, !same_region, named.id.to_owned())
        };
        for named in self.named().filter(|named| self.sees_private(who, named.id)) {
            for private in &named.service.private_dns_names {
                let private = super::names::name(&private.to_string());
                let (slot, apex) = match private.split_first() {
                    Some((star, rest)) if star == "*" => (&mut wildcard, rest),
                    _ => (&mut exact, &private[..]),
                };
                if apex == at && slot.as_ref().is_none_or(|best| rank(&named) < rank(best)) {
                    *slot = Some(Named { ..named });
                }
            }
        }
        if exact.is_none() && wildcard.is_none() {
            return None;
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
    fn label(&self) -> String {
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

fn only<T>(mut list: Vec<T>) -> Option<T> {
    if list.len() == 1 { list.pop() } else { None }
}

/// Turns NXDOMAIN into NODATA at a cut: the name exists, although the parent that answers DS
/// queries for it lacks the name.
fn as_at_a_cut(step: Step, is_cut: bool) -> Step {
    match step {
        Step::Empty(NXDOMAIN, soa) if is_cut => Step::Empty(0, soa),
        Step::Autodefined(NXDOMAIN) if is_cut => Step::Autodefined(0),
        Step::Upstream(rule, UpstreamAnswer::Empty(NXDOMAIN, soa), stale) if is_cut => {
            Step::Upstream(rule, UpstreamAnswer::Empty(0, soa), stale)
        }
        step => step,
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

fn endpoint_soa(apex: &[String]) -> Rr {
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
