//! The model of client identification, rules and zones. It follows
//! docs/concepts/who-asks.md and docs/concepts/which-answer.md sentence by sentence.

use super::{
    endpoints::endpoint_soa,
    groups::{Chances, Group},
    names::{DS, N, NS, Rr, SOA, Seen, at_or_below, text, under},
    networks::{self, Net},
    upstream::{INTERNET, UpstreamAnswer, upstream_answer},
    zone::{Found, Outside, Zone},
};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use zonal::manifest::{Direction, Manifest, Profile, Protocol, RuleType};

/// A manifest, and the records in the master files of its zones.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub manifest: Manifest,
    pub data: BTreeMap<String, Vec<Rr>>,
    /// Seconds since 1970.
    pub now: i64,
    /// Whether the node has an internet resolver.
    pub internet: bool,
    /// The health checks that say unhealthy.
    pub unhealthy: BTreeSet<String>,
    /// The zones of the manifest with their records, computed at first use.
    pub zones: OnceCell<Vec<(String, Zone)>>,
    /// The domain names of the rules, computed at first use.
    pub domains: OnceCell<BTreeMap<String, N>>,
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
    pub source: IpAddr,
}

/// Where a view has rules, zones and private names from: the VPC itself, or one of its Profiles.
#[derive(Clone, Copy)]
pub enum Layer<'w> {
    Own,
    Profile(&'w Profile),
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
    /// Any answer without an error is right.
    pub any_answer: bool,
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
    /// Any answer without an error.
    Any,
    /// The cached answer of a rule's targets, and whether it is stale.
    Upstream(String, UpstreamAnswer, bool),
}

pub const NXDOMAIN: u16 = 3;

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
            return Some(Who { vpc: name.clone(), network: Some(vpc_of), path: Path::Vpc, az, source });
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
            return Some(Who { vpc: endpoint.vpc_id.clone(), network, path, az, source });
        }
        let inside: Vec<Net> = manifest.vpcs.keys().map(|id| Net::Vpc(id.clone())).filter(here).collect();
        let Net::Vpc(id) = only(inside)? else { return None };
        if !manifest.vpcs[&id].enable_dns_support {
            return None;
        }
        let az = networks::az(manifest, &id, source);
        Some(Who { network: Some(Net::Vpc(id.clone())), vpc: id, path: Path::Vpc, az, source })
    }

    /// Resolves a query. `keeps` tells whether the query is among the 85 % that stay in the
    /// client's AZ.
    pub fn ask(&self, ask: &Ask, keeps: bool) -> Expect {
        self.ask_with(ask, &Chances::new(keeps, 0))
    }

    /// Resolves a query, with these chances.
    pub fn ask_with(&self, ask: &Ask, chances: &Chances) -> Expect {
        let mut has_ended = false;
        let mut expect = self.chain(ask, chances, &mut has_ended);
        if has_ended && expect.forward.is_none() && expect.rcode != 2 && expect.ede.is_none() {
            expect.ede = Some(3); // RFC 8767
        }
        expect
    }

    fn chain(&self, ask: &Ask, chances: &Chances, has_ended: &mut bool) -> Expect {
        let Some(who) = self.who(ask.source, ask.local) else {
            return Expect { rcode: 5, ede: Some(18), ..Expect::default() };
        };
        let mut expect = Expect::default();
        let mut name = ask.name.clone();
        let mut owners: Vec<N> = Vec::new();
        let mut has_recursed = false;
        loop {
            let first = owners.is_empty();
            let step = self.step(&who, &name, ask.qtype, ask.rd, chances);
            if first {
                expect.aa = !matches!(step, Step::Refused | Step::Referral(_) | Step::Upstream(..));
            }
            // An upstream answer is treated like an own answer, except for AA.
            let step = match step {
                Step::Upstream(rule, answer, stale) => {
                    *has_ended |= stale;
                    has_recursed |= rule == INTERNET;
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
                Step::Any => expect.any_answer = true,
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
                        expect.rcode = if has_recursed { 2 } else { expect.rcode };
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
    fn step(&self, who: &Who, name: &[String], qtype: u16, rd: bool, chances: &Chances) -> Step {
        let keeps = chances.keeps;
        let layers = self.layers(who);
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
            let mut has_rule = false;
            // A SYSTEM rule at the name itself counts for the name itself, also for DS.
            let mut forwards_here = true;
            for (number, layer) in layers.iter().enumerate() {
                let rule = if who.path == Path::Delegation { None } else { self.rule(who, *layer, at) };
                has_rule |= rule.is_some();
                let asked = match rule {
                    Some((_, RuleType::System)) => {
                        forwards &= above;
                        forwards_here = false;
                        None
                    }
                    Some((_, RuleType::Recursive)) => Some(INTERNET),
                    Some((id, RuleType::Forward)) if forwards && forwards_here => Some(id),
                    _ => None,
                };
                match asked.map(|rule| self.upstream(rule, name, qtype, rd)) {
                    // A FORWARD rule shadows a zone of the same name, including its NODATA.
                    Some(step) if above => {
                        own = own.or(Some(step).filter(|step| !hidden && !matches!(step, Step::Refused)));
                        hidden = true;
                    }
                    Some(Step::Refused) => return own.unwrap_or(Step::Refused),
                    Some(step) => return as_at_a_cut(step, own.is_some() || hidden || has_below()),
                    None => {}
                }
                if let Some((id, zone)) = self.zone_at(who, *layer, at) {
                    let resource = &self.manifest.private_hosted_zones[id];
                    if above {
                        own = own.or((!hidden).then(|| Step::Empty(0, zone.negative())));
                    } else {
                        match self.zone(who, zone, name, qtype, falls_through, chances) {
                            Step::Empty(NXDOMAIN, _) if resource.fallthrough => falls_through = true,
                            step => return as_at_a_cut(step, own.is_some() || hidden || has_below()),
                        }
                    }
                }
                if who.path == Path::Delegation {
                    continue;
                }
                if let Some(step) = self.private(who, &layers[number..], at, name, qtype, keeps) {
                    if !above {
                        return as_at_a_cut(step, own.is_some() || hidden || has_below());
                    }
                    own = own.or((!hidden).then(|| Step::Empty(0, endpoint_soa(at))));
                }
            }
            if who.path == Path::Delegation {
                continue;
            }
            if let Some(step) = self.public(who, at, name, qtype, keeps) {
                if !above {
                    return as_at_a_cut(step, own.is_some() || hidden || has_below());
                }
                own = own.or((!hidden).then(|| Step::Empty(0, endpoint_soa(at))));
            }
            if let Some(step) = self.autodefined(who, at, name, qtype) {
                // Names that must not be forwarded are not forwarded for DS either. Names in `arpa` are
                // delegated there.
                let stays = at.len() == 1 && !has_rule && own.is_none();
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

    /// The VPC itself, and its Profiles by priority.
    pub fn layers(&self, who: &Who) -> Vec<Layer<'_>> {
        let mut profiles: Vec<_> = self.manifest.vpcs[&who.vpc].profiles.iter().collect();
        profiles.sort_by_key(|association| association.priority);
        let profiles = profiles.into_iter().map(|association| &association.profile_id);
        let profiles = profiles.map(|id| Layer::Profile(&self.manifest.profiles[id]));
        [Layer::Own].into_iter().chain(profiles).collect()
    }

    /// The resolver rules of a layer. Of two rules of a Profile with one name, the first counts.
    fn rules(&self, who: &Who, layer: Layer) -> Vec<(&str, RuleType, &N)> {
        let domains = self.domains.get_or_init(|| {
            let rules = self.manifest.resolver_rules.iter();
            rules.map(|(id, rule)| (id.clone(), super::names::name(&rule.domain_name.to_string()))).collect()
        });
        let all: Vec<&String> = match layer {
            Layer::Own => self.manifest.resolver_rules.keys().collect(),
            Layer::Profile(profile) => profile.resolver_rules.iter().collect(),
        };
        let mut found: Vec<(&str, RuleType, &N)> = Vec::new();
        for id in all {
            let Some((id, rule)) = self.manifest.resolver_rules.get_key_value(id) else { continue };
            let is_here = matches!(layer, Layer::Profile(_)) || rule.vpc_ids.contains(&who.vpc);
            let name = &domains[id];
            let is_first = !found.iter().any(|(_, _, other)| *other == name);
            if rule.enabled && is_here && is_first && rule.rule_type != RuleType::Delegate {
                found.push((id, rule.rule_type, name));
            }
        }
        found
    }

    pub fn rule(&self, who: &Who, layer: Layer, at: &[String]) -> Option<(&str, RuleType)> {
        self.rules(who, layer).into_iter().find(|(_, _, name)| *name == at).map(|(id, rule_type, _)| (id, rule_type))
    }

    /// The zones of a layer.
    fn zones_of(&self, who: &Who, layer: Layer) -> Vec<&(String, Zone)> {
        let all = self.zones().iter();
        match layer {
            Layer::Own => {
                all.filter(|(id, _)| self.manifest.private_hosted_zones[id].vpc_ids.contains(&who.vpc)).collect()
            }
            Layer::Profile(profile) => {
                let of = |id: &String| all.clone().find(|(other, _)| other == id);
                profile.private_hosted_zones.iter().filter_map(of).collect()
            }
        }
    }

    /// The zone of a layer with an apex. Of two zones of a Profile with one name, the first counts.
    pub fn zone_at(&self, who: &Who, layer: Layer, at: &[String]) -> Option<(&str, &Zone)> {
        let zones = self.zones_of(who, layer);
        zones.into_iter().find(|(_, zone)| zone.apex == at).map(|(id, zone)| (id.as_str(), zone))
    }

    /// The zone with the longest apex at or above a name, and where the view has it from.
    pub fn responsible(&self, who: &Who, name: &[String]) -> Option<(Layer<'_>, &Zone)> {
        (0..=name.len()).find_map(|skip| {
            let layers = self.layers(who).into_iter();
            layers.filter_map(|layer| Some((layer, self.zone_at(who, layer, &name[skip..])?.1))).next()
        })
    }

    /// Whether a client's view has a rule.
    pub fn has_rule(&self, who: &Who, id: &str) -> bool {
        self.layers(who).into_iter().any(|layer| self.rules(who, layer).iter().any(|(own, ..)| *own == id))
    }

    /// Whether a client's view has a zone.
    pub fn has_zone(&self, who: &Who, id: &str) -> bool {
        self.layers(who).into_iter().any(|layer| self.zones_of(who, layer).iter().any(|(own, _)| own == id))
    }

    fn zone(
        &self,
        who: &Who,
        zone: &Zone,
        name: &[String],
        qtype: u16,
        falls_through: bool,
        chances: &Chances,
    ) -> Step {
        let outside = Outside {
            is_above: &|name| !falls_through && self.has_below(who, name),
            choose: &|group: &Group| self.choose(who, zone, group, chances),
        };
        match zone.search(name, qtype, &outside) {
            Found::Any => Step::Any,
            Found::Records(records) => Step::Records(records),
            Found::NoData => Step::Empty(0, zone.negative()),
            Found::NoName => Step::Empty(NXDOMAIN, zone.negative()),
            Found::Referral(cut) => Step::Referral(cut),
            Found::Follow(records, target) => Step::Follow(records, target),
            Found::TooLong(records) => Step::TooLong(records),
            Found::Alias(target, qtype) => {
                let cuts = (0..target.len()).map(|skip| &target[skip..]);
                let mut found = cuts.filter_map(|cut| self.public(who, cut, &target, qtype, chances.keeps));
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
        let layers = self.layers(who);
        let mut zones = layers.iter().flat_map(|layer| self.zones_of(who, *layer));
        if zones.any(|(_, zone)| is_below(&zone.apex)) {
            return true;
        }
        if who.path == Path::Delegation {
            return false;
        }
        let rules = layers.iter().flat_map(|layer| self.rules(who, *layer));
        let mut rules = rules.filter(|(_, rule_type, _)| matches!(rule_type, RuleType::Forward | RuleType::Recursive));
        let mut endpoints = self.named();
        rules.any(|(_, _, name)| is_below(name))
            || endpoints.any(|named| {
                let parent = super::names::name(&named.service.dns_name.to_string());
                let mut private = named.service.private_dns_names.iter().map(|name| {
                    let name = super::names::name(&name.to_string());
                    if name.first().is_some_and(|star| star == "*") { name[1..].to_vec() } else { name }
                });
                is_below(&under("any", &parent))
                    || private.any(|name| is_below(&name)) && self.sees_private(who, named.id)
            })
            || self.autodefined_zones(who, name).iter().any(|zone| is_below(zone))
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
