//! The policies of a VPC or a Profile: its resolver rules and private hosted zones.

use super::compile::{Input, Previous};
use crate::{
    manifest::{Id, RuleType, changes},
    snapshot::{
        names::{Above, NameMap},
        networks::{NetworkAt, Networks},
        routes::{NameServer, Route, Rule, Servers, name_suffixes},
        slots::Slots,
        zone::{Zone, ZoneCut},
        zones::Zones,
    },
    wire::query::LookupName,
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// The rule and the zone of a VPC or a Profile at a name.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The resolver rule.
    pub rule: Option<Arc<Rule>>,
    /// The number of the private hosted zone. Its records can change without a change here.
    pub zone: Option<u32>,
}

/// The rules and zones of a VPC or a Profile.
#[derive(Default)]
pub struct Policies {
    /// Rules and zones, by name.
    pub names: NameMap<Policy>,
    /// The names above its zones.
    pub above_zones: Above,
    /// The names above its FORWARD and RECURSIVE rules.
    pub above_rules: Above,
    /// DELEGATE rules, which act on referrals and not on names.
    pub delegates: DelegateRules,
    /// A number that separates the cached answers of this VPC from those of VPCs with other DELEGATE rules; 0 without such rules.
    /// A VPC with Profiles has another one, of [`Delegating`](super::Delegating).
    pub salt: u128,
    /// The zone cuts of its zones that a DELEGATE rule of its own matches, and the routes below them. Empty for a Profile.
    pub delegations: NameMap<Arc<Route>>,
}

impl Policies {
    /// The rules and zones at the names of a VPC or a Profile, which has these DELEGATE rules.
    pub(super) fn new(names: BTreeMap<Box<[u8]>, Policy>, delegates: DelegateRules) -> Policies {
        let asks = |policy: &Policy| {
            let rule_type = policy.rule.as_ref().map(|rule| rule.resource.rule_type);
            matches!(rule_type, Some(RuleType::Forward | RuleType::Recursive))
        };
        let above_zones = Above::new(names.iter().filter(|(_, policy)| policy.zone.is_some()).map(|(name, _)| &**name));
        let above_rules = Above::new(names.iter().filter(|(_, policy)| asks(policy)).map(|(name, _)| &**name));
        let names = NameMap::new(names.into_iter().collect());
        Policies { names, above_zones, above_rules, delegates, salt: 0, delegations: NameMap::default() }
    }

    /// The zones, by their numbers.
    pub(super) fn zones(&self) -> impl Iterator<Item = u32> {
        self.names.iter().filter_map(|(_, policy)| policy.zone)
    }

    /// Whether it has a zone.
    fn has_zone(&self, zones: &Zones, zone: &Zone, name: &LookupName) -> bool {
        let skip = name.labels().checked_sub(zone.apex_labels());
        let found = skip.and_then(|skip| self.names.find(name, skip)).and_then(|policy| zones.get(policy.zone?));
        found.is_some_and(|found| std::ptr::eq(&**found, zone))
    }
}

/// The DELEGATE rules of a VPC, in order: its own ones come before those of its Profiles.
#[derive(Clone, Default)]
pub struct DelegateRules {
    rules: Vec<Arc<Rule>>,
    /// The first rule with each domain, as an index into `rules`.
    by_domain: HashMap<Box<[u8]>, usize>,
}

impl DelegateRules {
    /// Rules of one VPC or one Profile, in the order of their identifiers.
    pub(super) fn new(mut rules: Vec<Arc<Rule>>) -> DelegateRules {
        rules.sort_by(|one, other| one.id.cmp(&other.id));
        DelegateRules::in_order(rules)
    }

    fn in_order(rules: Vec<Arc<Rule>>) -> DelegateRules {
        let mut by_domain = HashMap::new();
        for (at, rule) in rules.iter().enumerate() {
            by_domain.entry(rule.route.domain.clone()).or_insert(at);
        }
        DelegateRules { rules, by_domain }
    }

    /// Whether the VPC has no DELEGATE rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The route below a zone cut, to the name servers of a referral, asked from the addresses of a DELEGATE rule. None unless
    /// a name server is at or below the domain of a rule (AWS's delegation record). The first such rule is used.
    pub fn route(&self, domain: &[u8], name_servers: &[NameServer]) -> Option<Route> {
        if self.is_empty() {
            return None;
        }
        let suffixes = name_servers.iter().flat_map(|server| name_suffixes(&server.name));
        let rule = &self.rules[suffixes.filter_map(|suffix| self.by_domain.get(suffix).copied()).min()?];
        let sources = rule.route.servers.sources().to_vec();
        let servers = Servers::NameServers { name_servers: name_servers.to_vec(), sources };
        Some(Route::new(rule.id.clone(), domain.into(), servers))
    }
}

/// The changes to the policies of one VPC. VPCs with the same policies and equal changes share the result.
#[derive(Default, PartialEq, Eq, Hash)]
struct Edits<'a> {
    /// Rules that are deleted or changed.
    rules_out: BTreeSet<&'a Id>,
    /// Zones that are deleted or changed.
    zones_out: BTreeSet<u32>,
    /// Rules that are new or changed, as indices into all of them.
    rules_in: Vec<usize>,
    /// Zones that are new or changed.
    zones_in: Vec<u32>,
}

/// Compiles the policies of all VPCs. With `previous`, it compiles only those that a change concerns.
pub(super) fn compile(policies: &mut Slots<Arc<Policies>>, input: &Input, previous: Option<&Previous>) {
    let nothing = Default::default();
    let old_rules = previous.map_or(&nothing, |previous| &previous.manifest.resolver_rules);
    let mut edits: BTreeMap<NetworkAt, Edits> = BTreeMap::new();
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    for change in changes(old_rules, &input.manifest.resolver_rules) {
        for old in change.old.iter().filter(|rule| rule.enabled) {
            for vpc in indices(input.networks, &old.vpc_ids) {
                edits.entry(vpc).or_default().rules_out.insert(change.id);
            }
        }
        for new in change.new.iter().filter(|rule| rule.enabled) {
            for vpc in indices(input.networks, &new.vpc_ids) {
                edits.entry(vpc).or_default().rules_in.push(rules.len());
            }
            rules.push(Arc::new(Rule::new(input.manifest, change.id, new)));
        }
    }
    let has_delegates = input.manifest.resolver_rules.values().any(|rule| rule.rule_type == RuleType::Delegate);
    let mut zone = |old: Option<(u32, &Zone)>, new: Option<(u32, &Zone)>| {
        let of = |zone: Option<(u32, &Zone)>| {
            zone.map_or(BTreeSet::new(), |(_, zone)| indices(input.networks, &zone.source.vpc_ids))
        };
        let is_moved = old.map(|(number, zone)| (number, &zone.apex)) != new.map(|(number, zone)| (number, &zone.apex));
        let is_cut_anew = has_delegates && old.map(|(_, zone)| zone.cuts()) != new.map(|(_, zone)| zone.cuts());
        if !is_moved && !is_cut_anew && old.map(|(_, z)| &z.source.vpc_ids) == new.map(|(_, z)| &z.source.vpc_ids) {
            return;
        }
        let (before, after) = (of(old), of(new));
        let is_same = |vpc: &NetworkAt| !is_moved && !is_cut_anew && before.contains(vpc) && after.contains(vpc);
        for vpc in before.iter().filter(|vpc| !is_same(vpc)) {
            edits.entry(*vpc).or_default().zones_out.extend(old.map(|(number, _)| number));
        }
        for vpc in after.iter().filter(|vpc| !is_same(vpc)) {
            edits.entry(*vpc).or_default().zones_in.extend(new.map(|(number, _)| number));
        }
    };
    match previous {
        Some(previous) => {
            for id in previous.changed_zones {
                zone(previous.zones.numbered(id), input.zones.numbered(id));
            }
        }
        None => input.zones.all_numbered().for_each(|new| zone(None, Some(new))),
    }
    // `previous` keeps the old policies in memory, so no new policies get their addresses.
    let mut made: HashMap<(Option<*const Policies>, Edits), Option<Arc<Policies>>> = HashMap::new();
    for (vpc, edits) in edits {
        let old = policies.get(vpc).cloned();
        let key = (old.as_ref().map(Arc::as_ptr), edits);
        let new = match made.get(&key) {
            Some(known) => known.clone(),
            None => {
                let id = input.networks.info(vpc).network.id();
                let new = compile_one(id, old.as_deref(), &key.1, &rules, input.zones).map(Arc::new);
                // The salt of DELEGATE rules is for one VPC.
                if new.as_ref().is_none_or(|new| new.delegates.is_empty()) {
                    made.insert(key, new.clone());
                }
                new
            }
        };
        policies.set(vpc, new);
    }
}

fn indices(networks: &Networks, vpcs: &[Id]) -> BTreeSet<NetworkAt> {
    vpcs.iter().filter_map(|id| networks.vpc_at(id)).collect()
}

/// The policies of a VPC after a change. `None` if the VPC has no policies. `rules` has the rules that are new or changed.
fn compile_one(
    vpc: &str,
    old: Option<&Policies>,
    edits: &Edits,
    rules: &[Arc<Rule>],
    zones: &Zones,
) -> Option<Policies> {
    let mut names: BTreeMap<Box<[u8]>, Policy> = old.into_iter().flat_map(|old| old.names.iter()).cloned().collect();
    let mut delegates = old.map_or(Vec::new(), |old| old.delegates.rules.clone());
    let is_out = |rule: &Arc<Rule>| edits.rules_out.contains(&&rule.id);
    delegates.retain(|rule| !is_out(rule));
    for policy in names.values_mut() {
        policy.rule = policy.rule.take().filter(|rule| !is_out(rule));
        policy.zone = policy.zone.filter(|zone| !edits.zones_out.contains(zone));
    }
    for rule in edits.rules_in.iter().map(|at| rules[*at].clone()) {
        match rule.resource.rule_type {
            RuleType::Delegate => delegates.push(rule),
            _ => drop(names.entry(rule.route.domain.clone()).or_default().rule.get_or_insert(rule)),
        }
    }
    for (number, zone) in edits.zones_in.iter().filter_map(|number| Some((*number, zones.get(*number)?))) {
        names.entry(zone.apex.clone()).or_default().zone.get_or_insert(number);
    }
    names.retain(|_, policy| policy.rule.is_some() || policy.zone.is_some());
    if names.is_empty() && delegates.is_empty() {
        return None;
    }
    let delegates = DelegateRules::new(delegates);
    let policies = Policies::new(names, delegates);
    let delegations = delegations(policies.zones(), &policies.delegates, zones);
    let salt = salt(vpc, &policies.delegates);
    Some(Policies { salt, delegations, ..policies })
}

/// The number that separates the cached answers of a VPC with DELEGATE rules; 0 without such rules. It depends on the VPC too,
/// because zonal resolves the names of name servers in the VPC's own view.
fn salt(vpc: &str, delegates: &DelegateRules) -> u128 {
    if delegates.is_empty() {
        return 0;
    }
    let mut digest = Sha256::new();
    digest.update(vpc);
    delegates.rules.iter().for_each(|rule| digest.update(rule.route.id.0.to_be_bytes()));
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest.finalize()[..16]);
    u128::from_be_bytes(salt)
}

/// The zone cuts of some zones that a DELEGATE rule matches, and the routes below them.
fn delegations(own: impl Iterator<Item = u32>, rules: &DelegateRules, zones: &Zones) -> NameMap<Arc<Route>> {
    if rules.is_empty() {
        return NameMap::default();
    }
    let cuts = own.filter_map(|zone| zones.get(zone)).flat_map(|zone| zone.cuts());
    let route = |cut: &ZoneCut| Some((cut.name.clone(), Arc::new(rules.route(&cut.name, &cut.name_servers)?)));
    let routes: BTreeMap<Box<[u8]>, Arc<Route>> = cuts.filter_map(route).collect();
    NameMap::new(routes.into_iter().collect())
}

/// The DELEGATE rules of a VPC with Profiles: its own ones and theirs, and the zone cuts that they match.
pub struct Delegating {
    /// The rules.
    pub rules: Arc<DelegateRules>,
    /// A number that separates the cached answers of this VPC from those of VPCs with other DELEGATE rules.
    pub salt: u128,
    /// The matched zone cuts of the VPC's own zones, and the routes below them.
    own: NameMap<Arc<Route>>,
    /// Those of the zones of each Profile.
    of_profiles: Box<[Arc<NameMap<Arc<Route>>>]>,
}

impl Delegating {
    /// The route below a zone cut of a zone, `skip` labels above a name.
    pub(super) fn route_below<'d>(
        &'d self,
        zones: &Zones,
        (own, of_profiles): (Option<&Policies>, impl Iterator<Item = &'d Policies>),
        zone: &Zone,
        name: &LookupName,
        skip: usize,
    ) -> Option<&'d Arc<Route>> {
        if own.is_some_and(|own| own.has_zone(zones, zone, name)) {
            return self.own.find(name, skip);
        }
        let mut all = of_profiles.zip(&self.of_profiles);
        all.find(|(policies, _)| policies.has_zone(zones, zone, name))?.1.find(name, skip)
    }
}

/// Compiles the DELEGATE rules of VPCs with Profiles. VPCs with the same rules share them.
#[derive(Default)]
pub(super) struct DelegatingCompiler {
    /// The rules in their order, by their addresses in memory.
    rules: HashMap<Vec<*const Rule>, Arc<DelegateRules>>,
    /// The matched zone cuts of a Profile's zones, by the address of the rules and the number of the Profile.
    matched: HashMap<(*const DelegateRules, u32), Arc<NameMap<Arc<Route>>>>,
}

impl DelegatingCompiler {
    /// The DELEGATE rules of a VPC with these Profiles; none if it has no rules.
    pub(super) fn compile(
        &mut self,
        vpc: &str,
        own: Option<&Policies>,
        profiles: &[(u32, &Policies)],
        zones: &Zones,
    ) -> Option<Delegating> {
        let all = own.into_iter().chain(profiles.iter().map(|(_, policies)| *policies));
        let rules: Vec<Arc<Rule>> = all.flat_map(|policies| policies.delegates.rules.iter().cloned()).collect();
        if rules.is_empty() {
            return None;
        }
        let key = rules.iter().map(Arc::as_ptr).collect();
        let rules = self.rules.entry(key).or_insert_with(|| Arc::new(DelegateRules::in_order(rules))).clone();
        let of_profile = |(number, policies): &(u32, &Policies)| {
            let make = || Arc::new(delegations(policies.zones(), &rules, zones));
            self.matched.entry((Arc::as_ptr(&rules), *number)).or_insert_with(make).clone()
        };
        let of_profiles = profiles.iter().map(of_profile).collect();
        let own = own.map_or_else(NameMap::default, |own| delegations(own.zones(), &rules, zones));
        Some(Delegating { salt: salt(vpc, &rules), rules, own, of_profiles })
    }
}
