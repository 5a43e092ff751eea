//! The policies of a VPC: its resolver rules and private hosted zones.

use super::compile::{Input, Previous};
use crate::{
    manifest::{Id, RuleType, changes, connectivity::Network},
    snapshot::{
        names::{Above, NameMap},
        networks::{NetworkAt, Networks},
        routes::{NameServer, Route, Rule, Servers, name_suffixes},
        slots::Slots,
        zone::{Zone, ZoneCut},
        zones::Zones,
    },
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// The rule and the zone of a VPC at a name.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The resolver rule.
    pub rule: Option<Arc<Rule>>,
    /// The number of the private hosted zone. Its records can change without a change here.
    pub zone: Option<u32>,
}

/// The rules and zones of a VPC.
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
    pub salt: u128,
    /// The zone cuts of its zones that a DELEGATE rule matches, and the routes below them.
    pub delegations: NameMap<Arc<Route>>,
}

/// The DELEGATE rules of a VPC.
#[derive(Clone, Default)]
pub struct DelegateRules {
    /// The rules, in the order of their identifiers.
    rules: Vec<Arc<Rule>>,
    /// The first rule with each domain, as an index into `rules`.
    by_domain: HashMap<Box<[u8]>, usize>,
}

impl DelegateRules {
    fn new(mut rules: Vec<Arc<Rule>>) -> DelegateRules {
        rules.sort_by(|one, other| one.id.cmp(&other.id));
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

/// The changes to the policies of one VPC.
#[derive(Default)]
struct Edits<'a> {
    /// Rules that are deleted or changed.
    rules_out: HashSet<&'a Id>,
    /// Zones that are deleted or changed.
    zones_out: HashSet<u32>,
    /// Rules that are new or changed.
    rules_in: Vec<Arc<Rule>>,
    /// Zones that are new or changed.
    zones_in: Vec<(Box<[u8]>, u32)>,
}

/// Compiles the policies of all VPCs. With `previous`, it compiles only those that a change concerns.
pub(super) fn compile(policies: &mut Slots<Arc<Policies>>, input: &Input, previous: Option<&Previous>) {
    let nothing = Default::default();
    let old_rules = previous.map_or(&nothing, |previous| &previous.manifest.resolver_rules);
    let mut edits: BTreeMap<NetworkAt, Edits> = BTreeMap::new();
    for change in changes(old_rules, &input.manifest.resolver_rules) {
        for old in change.old.iter().filter(|rule| rule.enabled) {
            for vpc in indices(input.networks, &old.vpc_ids) {
                edits.entry(vpc).or_default().rules_out.insert(change.id);
            }
        }
        for new in change.new.iter().filter(|rule| rule.enabled) {
            let rule = Arc::new(Rule::new(input.manifest, change.id, new));
            for vpc in indices(input.networks, &new.vpc_ids) {
                edits.entry(vpc).or_default().rules_in.push(rule.clone());
            }
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
            edits.entry(*vpc).or_default().zones_in.extend(new.map(|(number, zone)| (zone.apex.clone(), number)));
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
    for (vpc, edits) in edits {
        let id = input.networks.info(vpc).network.id();
        let new = compile_one(id, policies.get(vpc).map(|policies| &**policies), edits, input.zones);
        policies.set(vpc, new.map(Arc::new));
    }
}

fn indices(networks: &Networks, vpcs: &[Id]) -> BTreeSet<NetworkAt> {
    vpcs.iter().filter_map(|id| networks.at(&Network::Vpc(id.clone()))).collect()
}

/// The policies of a VPC after a change; none if it has none.
fn compile_one(vpc: &str, old: Option<&Policies>, edits: Edits, zones: &Zones) -> Option<Policies> {
    let mut names: BTreeMap<Box<[u8]>, Policy> = old.into_iter().flat_map(|old| old.names.iter()).cloned().collect();
    let mut delegates = old.map_or(Vec::new(), |old| old.delegates.rules.clone());
    let is_out = |rule: &Arc<Rule>| edits.rules_out.contains(&&rule.id);
    delegates.retain(|rule| !is_out(rule));
    for policy in names.values_mut() {
        policy.rule = policy.rule.take().filter(|rule| !is_out(rule));
        policy.zone = policy.zone.filter(|zone| !edits.zones_out.contains(zone));
    }
    for rule in edits.rules_in {
        match rule.resource.rule_type {
            RuleType::Delegate => delegates.push(rule),
            _ => drop(names.entry(rule.route.domain.clone()).or_default().rule.get_or_insert(rule)),
        }
    }
    for (apex, number) in edits.zones_in {
        names.entry(apex).or_default().zone.get_or_insert(number);
    }
    names.retain(|_, policy| policy.rule.is_some() || policy.zone.is_some());
    if names.is_empty() && delegates.is_empty() {
        return None;
    }
    let delegates = DelegateRules::new(delegates);
    let delegations = delegations(&names, &delegates, zones);
    let salt = salt(vpc, &delegates);
    let asks = |policy: &Policy| {
        let rule_type = policy.rule.as_ref().map(|rule| rule.resource.rule_type);
        matches!(rule_type, Some(RuleType::Forward | RuleType::Recursive))
    };
    let above_zones = Above::new(names.iter().filter(|(_, policy)| policy.zone.is_some()).map(|(name, _)| &**name));
    let above_rules = Above::new(names.iter().filter(|(_, policy)| asks(policy)).map(|(name, _)| &**name));
    let names = NameMap::new(names.into_iter().collect());
    Some(Policies { names, above_zones, above_rules, delegates, salt, delegations })
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

/// The zone cuts that a DELEGATE rule matches, and the routes below them.
fn delegations(names: &BTreeMap<Box<[u8]>, Policy>, rules: &DelegateRules, zones: &Zones) -> NameMap<Arc<Route>> {
    if rules.is_empty() {
        return NameMap::default();
    }
    let cuts = names.values().filter_map(|policy| zones.get(policy.zone?)).flat_map(|zone| zone.cuts());
    let route = |cut: &ZoneCut| Some((cut.name.clone(), Arc::new(rules.route(&cut.name, &cut.name_servers)?)));
    let routes: BTreeMap<Box<[u8]>, Arc<Route>> = cuts.filter_map(route).collect();
    NameMap::new(routes.into_iter().collect())
}
