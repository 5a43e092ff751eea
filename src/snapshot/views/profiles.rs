//! The Profiles: zones, rules and endpoints that many VPCs share.
//!
//! ```text
//! View -> layers -> Profile        its zones and rules, compiled once for all VPCs
//!                -> ProfileNames   private names of its endpoints, one map for all views that reach the same endpoints
//! ```
//!
//! A view has a layer for each Profile of its VPC, in the order of their priorities. So the work for a Profile follows the
//! number of its members, and the work for a VPC the number of its Profiles.

use super::{
    View, Views,
    compile::{Input, Previous, private_names},
    is_on_path,
    lists::UniqueLists,
    policies::{DelegateRules, DelegatingCompiler, Policies, Policy},
};
use crate::{
    manifest::{
        Change, Id, Profile, RuleType, changes,
        connectivity::{Network, ReachKey},
        same_resources,
    },
    snapshot::{
        endpoints::{Endpoint, PrivateName},
        names::NameMap,
        networks::{ClientPath, NetworkAt},
        routes::Rule,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// The number of no map.
const NONE: u32 = u32::MAX;

/// A compiled Profile.
pub struct CompiledProfile {
    /// Its identifier.
    pub id: Id,
    /// Its rules and zones.
    pub policies: Policies,
    /// The slots of its endpoints with private names, in order.
    endpoints: Box<[u32]>,
    /// The VPCs of these endpoints, in order.
    homes: Box<[NetworkAt]>,
}

impl CompiledProfile {
    /// Whether an endpoint is a member.
    pub fn has_endpoint(&self, slot: u32) -> bool {
        self.endpoints.binary_search(&slot).is_ok()
    }
}

/// A Profile of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Layer {
    /// The number of the Profile.
    profile: u32,
    /// The number of the map of private names that the view has of it.
    names: u32,
}

/// A Profile of a view, with the private names that the view has of it.
#[derive(Clone, Copy)]
pub struct ProfileLayer<'v> {
    /// The Profile.
    pub profile: &'v CompiledProfile,
    /// The private names of the endpoints that the view and its client reach.
    pub names: Option<&'v NameMap<PrivateName>>,
}

/// Private names of a Profile's endpoints.
pub(super) struct ProfileNames {
    profile: u32,
    /// The VPCs of the endpoints.
    reached: Arc<[NetworkAt]>,
    /// They are for an inbound path.
    inbound: bool,
    /// The Region whose endpoints come first.
    region: String,
    pub(super) names: NameMap<PrivateName>,
}

impl Views {
    /// The Profile of a view at a position in the order of priorities.
    #[inline]
    pub fn layer(&self, view: &View, at: usize) -> Option<ProfileLayer<'_>> {
        let layer = view.layers.get(at)?;
        let names = self.profile_names.get(layer.names).map(|names| &names.names);
        Some(ProfileLayer { profile: self.profiles.get(layer.profile)?, names })
    }

    /// The Profiles of a view, in the order of their priorities.
    pub fn layers<'v>(&'v self, view: &'v View) -> impl Iterator<Item = ProfileLayer<'v>> {
        (0..view.layers.len()).filter_map(|at| self.layer(view, at))
    }
}

/// Compiles Profiles, and the layers of views.
struct LayerCompiler<'a> {
    input: &'a Input<'a>,
    /// The VPCs of a Profile's endpoints that networks reach, by the connections that decide them.
    reached: HashMap<(u32, ReachKey<'a>, Option<NetworkAt>), Arc<[NetworkAt]>>,
    /// The same, by the network.
    reached_by: HashMap<(u32, NetworkAt), Arc<[NetworkAt]>>,
    /// All lists of VPCs.
    lists: UniqueLists<NetworkAt>,
    /// The maps of private names.
    names: HashMap<(u32, *const NetworkAt, bool, &'a str), u32>,
    /// The layers of views.
    layers: UniqueLists<Layer>,
}

impl<'a> LayerCompiler<'a> {
    fn new(input: &'a Input<'a>) -> LayerCompiler<'a> {
        LayerCompiler {
            input,
            reached: HashMap::new(),
            reached_by: HashMap::new(),
            lists: UniqueLists::default(),
            names: HashMap::new(),
            layers: UniqueLists::default(),
        }
    }

    /// The rules, zones and endpoints of a Profile.
    fn profile(&self, id: &Id, source: &Profile) -> CompiledProfile {
        let Input { manifest, networks, endpoints, zones } = self.input;
        let mut names: BTreeMap<Box<[u8]>, Policy> = BTreeMap::new();
        let mut delegates = Vec::new();
        for id in &source.resolver_rules {
            let Some((id, rule)) = manifest.resolver_rules.get_key_value(id).filter(|(_, rule)| rule.enabled) else {
                continue;
            };
            let rule = Arc::new(Rule::new(manifest, id, rule));
            match rule.resource.rule_type {
                RuleType::Delegate => delegates.push(rule),
                _ => drop(names.entry(rule.route.domain.clone()).or_default().rule.get_or_insert(rule)),
            }
        }
        for id in &source.private_hosted_zones {
            if let Some((number, zone)) = zones.numbered(id).filter(|(_, zone)| !zone.source.public) {
                names.entry(zone.apex.clone()).or_default().zone.get_or_insert(number);
            }
        }
        let members = source.vpc_endpoints.iter().filter_map(|id| endpoints.slot_of(id));
        let with_names = members.filter_map(|slot| Some((slot, endpoints.get(slot)?)));
        let with_names = with_names.filter(|(_, endpoint)| !endpoint.names.private.is_empty());
        let members: BTreeMap<u32, &Arc<Endpoint>> = with_names.collect();
        let homes: BTreeSet<NetworkAt> =
            members.values().filter_map(|endpoint| networks.vpc_at(&endpoint.names.vpc)).collect();
        CompiledProfile {
            id: id.clone(),
            policies: Policies::new(names, DelegateRules::new(delegates)),
            endpoints: members.into_keys().collect(),
            homes: homes.into_iter().collect(),
        }
    }

    /// Compiles the layers of all views anew, and the settings that their VPCs have of their Profiles.
    fn layer(&mut self, views: &mut Views) {
        let Input { manifest, networks, .. } = self.input;
        views.profile_names = Default::default();
        let list = views.list.clone();
        for (at, view) in list.iter() {
            let Some(vpc) = networks.vpc(view.vpc) else { continue };
            let numbers = vpc.profile_ids().filter_map(|id| views.profile_numbers.get(id));
            let layers: Vec<Layer> = numbers
                .collect::<Vec<u32>>()
                .into_iter()
                .map(|profile| Layer { profile, names: self.names_of(views, view, profile, &vpc.region) })
                .collect();
            let reverse = manifest.setting_of(vpc, vpc.autodefined_reverse, |profile| profile.autodefined_reverse);
            let dnssec = manifest.setting_of(vpc, vpc.dnssec_validation, |profile| profile.dnssec_validation);
            let has_reverse = reverse.unwrap_or(true);
            if *view.layers != *layers || (view.has_reverse, view.dnssec_validation) != (has_reverse, dnssec) {
                let layers = self.layers.unique(layers);
                let view = View { layers, has_reverse, dnssec_validation: dnssec, ..(**view).clone() };
                views.list.set(at, Some(Arc::new(view)));
            }
        }
    }

    /// The number of the map with the private names that a view has of a Profile.
    fn names_of(&mut self, views: &mut Views, view: &View, number: u32, region: &'a str) -> u32 {
        let Some(profile) = views.profiles.get(number).cloned().filter(|profile| !profile.homes.is_empty()) else {
            return NONE;
        };
        let reached = self.reached(&profile, number, view);
        if reached.is_empty() {
            return NONE;
        }
        let inbound = view.path == ClientPath::Inbound;
        let key = (number, reached.as_ptr(), inbound, region);
        if let Some(known) = self.names.get(&key) {
            return *known;
        }
        let names = self.names(&profile, &reached, inbound, region);
        let made = views.profile_names.end();
        let names = ProfileNames { profile: number, reached, inbound, region: region.into(), names };
        views.profile_names.set(made, Some(Arc::new(names)));
        self.names.insert(key, made);
        made
    }

    /// The private names of the endpoints of a Profile in some VPCs.
    fn names(
        &self,
        profile: &CompiledProfile,
        reached: &[NetworkAt],
        inbound: bool,
        region: &str,
    ) -> NameMap<PrivateName> {
        let Input { networks, endpoints, .. } = self.input;
        let path = if inbound { ClientPath::Inbound } else { ClientPath::InVpc };
        let is_here = |endpoint: &&Arc<Endpoint>| {
            let home = networks.vpc_at(&endpoint.names.vpc);
            home.is_some_and(|home| reached.binary_search(&home).is_ok()) && is_on_path(endpoint, path)
        };
        let mut all: Vec<&Arc<Endpoint>> =
            profile.endpoints.iter().filter_map(|slot| endpoints.get(*slot)).filter(is_here).collect();
        all.sort_by_key(|endpoint| (endpoint.names.region != region, &endpoint.id));
        private_names(all)
    }

    /// The VPCs of a Profile's endpoints that a view and its client both reach, in order.
    fn reached(&mut self, profile: &CompiledProfile, number: u32, view: &View) -> Arc<[NetworkAt]> {
        if view.path == ClientPath::InboundDelegation {
            return Arc::default();
        }
        let Some(client) = view.client else {
            // A client in no known network reaches at least the VPC of its view.
            let own = profile.homes.iter().copied().filter(|home| *home == view.vpc).collect();
            return self.lists.unique(own);
        };
        let (reached, by_client) =
            (self.reached_by(profile, number, view.vpc), self.reached_by(profile, number, client));
        self.lists.common(&reached, &by_client)
    }

    /// The VPCs of a Profile's endpoints that a network reaches, in order.
    fn reached_by(&mut self, profile: &CompiledProfile, number: u32, network: NetworkAt) -> Arc<[NetworkAt]> {
        if let Some(known) = self.reached_by.get(&(number, network)) {
            return known.clone();
        }
        let networks = self.input.networks;
        let reaching: &'a Network = &networks.info(network).network;
        let is_home = profile.homes.binary_search(&network).is_ok();
        let key = (number, networks.connectivity.reach_key(reaching), is_home.then_some(network));
        let list = match self.reached.get(&key) {
            Some(known) => known.clone(),
            None => {
                let is_reached =
                    |home: &NetworkAt| networks.connectivity.reaches(reaching, &networks.info(*home).network);
                let list = profile.homes.iter().copied().filter(is_reached).collect();
                let list = self.lists.unique(list);
                self.reached.insert(key, list.clone());
                list
            }
        };
        self.reached_by.insert((number, network), list.clone());
        list
    }

    /// Compiles again the private names of some Profiles, whose endpoints are in the same VPCs as before.
    fn rename(&self, views: &mut Views, renamed: &BTreeSet<u32>) {
        let all = views.profile_names.clone();
        for (at, old) in all.iter().filter(|(_, old)| renamed.contains(&old.profile)) {
            let Some(profile) = views.profiles.get(old.profile) else { continue };
            let names = self.names(profile, &old.reached, old.inbound, &old.region);
            let ProfileNames { profile, inbound, .. } = **old;
            let (reached, region) = (old.reached.clone(), old.region.clone());
            views.profile_names.set(at, Some(Arc::new(ProfileNames { profile, reached, inbound, region, names })));
        }
    }
}

/// Compiles the Profiles and the layers of views. With `previous`, it compiles only the parts that a change concerns. The
/// policies of VPCs are compiled already.
pub(super) fn compile(views: &mut Views, input: &Input, previous: Option<&Previous>) {
    let manifest = input.manifest;
    let nothing = Default::default();
    let before = previous.map_or(&nothing, |previous| &previous.manifest.profiles);
    if manifest.profiles.is_empty() && before.is_empty() {
        return;
    }
    let mut compiler = LayerCompiler::new(input);
    let has_delegates = manifest.resolver_rules.values().any(|rule| rule.rule_type == RuleType::Delegate);
    let changed = changes(before, &manifest.profiles);
    let mut touched: BTreeSet<&Id> = changed.iter().map(|change| change.id).collect();
    let mut needs_layers = previous.is_none();
    for Change { id, old, new } in changed {
        needs_layers |= old.zip(new).is_none_or(|(old, new)| settings(old) != settings(new));
        if new.is_none()
            && let Some(number) = views.profile_numbers.remove(id)
        {
            views.profiles.set(number, None);
        }
    }
    // The slots of endpoints whose private names have changed.
    let names = previous.into_iter().flat_map(|previous| previous.renamed.private());
    let slots: BTreeSet<u32> = names.flat_map(|names| names.private.iter().map(|(_, name)| name.slot)).collect();
    if let Some(previous) = previous {
        touched.extend(with_changed_members(input, previous, &slots));
    }
    let mut renamed = BTreeSet::new();
    for (id, source) in touched.iter().filter_map(|id| manifest.profiles.get_key_value(id)) {
        let number = views.profile_numbers.number(id);
        let made = compiler.profile(id, source);
        let old = views.profiles.get(number);
        needs_layers |= old.map_or(&[][..], |old| &old.homes) != &*made.homes;
        let has_same_endpoints = old.is_some_and(|old| old.endpoints == made.endpoints);
        if !has_same_endpoints || made.endpoints.iter().any(|slot| slots.contains(slot)) {
            renamed.insert(number);
        }
        views.profiles.set(number, Some(Arc::new(made)));
    }
    match needs_layers {
        true => compiler.layer(views),
        false => compiler.rename(views, &renamed),
    }
    let has_old_delegates = previous.is_some() && views.delegating.iter().next().is_some();
    if (has_delegates || has_old_delegates) && previous.is_none_or(|previous| changes_delegation(previous, input)) {
        delegate(views, input);
    }
}

/// Whether a change can change which zone cuts the DELEGATE rules of VPCs with Profiles match.
fn changes_delegation(previous: &Previous, input: &Input) -> bool {
    let (old, new) = (previous.manifest, input.manifest);
    !same_resources(&old.resolver_rules, &new.resolver_rules)
        || !same_resources(&old.profiles, &new.profiles)
        || previous.changed_zones.iter().any(|id| {
            let [old, new] = [previous.zones, input.zones].map(|zones| {
                let (number, zone) = zones.numbered(id)?;
                Some((number, &zone.apex, zone.cuts(), &zone.source.vpc_ids, zone.source.public))
            });
            old != new
        })
}

/// The settings of a Profile that views have.
fn settings(profile: &Profile) -> impl PartialEq + use<> {
    (profile.autodefined_reverse, profile.dnssec_validation)
}

/// The Profiles with a rule, zone or endpoint that has changed.
fn with_changed_members<'a>(input: &Input<'a>, previous: &Previous, slots: &BTreeSet<u32>) -> BTreeSet<&'a Id> {
    let manifest = input.manifest;
    let mut members: HashSet<&Id> = HashSet::new();
    let rules = changes(&previous.manifest.resolver_rules, &manifest.resolver_rules);
    members.extend(rules.iter().map(|change| change.id));
    let zones = previous.changed_zones.iter().filter(|id| {
        let (old, new) = (previous.zones.numbered(id), input.zones.numbered(id));
        old.map(|(number, zone)| (number, &zone.apex, zone.source.public))
            != new.map(|(number, zone)| (number, &zone.apex, zone.source.public))
    });
    let zones: HashSet<&Id> = zones.collect();
    let endpoints = slots.iter().flat_map(|slot| [input.endpoints.get(*slot), previous.endpoints.get(*slot)]).flatten();
    let endpoints: HashSet<&Id> = endpoints.map(|endpoint| &endpoint.id).collect();
    if members.is_empty() && zones.is_empty() && endpoints.is_empty() {
        return BTreeSet::new();
    }
    let has_changed = |profile: &Profile| {
        profile.resolver_rules.iter().any(|id| members.contains(id))
            || profile.private_hosted_zones.iter().any(|id| zones.contains(id))
            || profile.vpc_endpoints.iter().any(|id| endpoints.contains(id))
    };
    manifest.profiles.iter().filter(|(_, profile)| has_changed(profile)).map(|(id, _)| id).collect()
}

/// Compiles the DELEGATE rules of all VPCs with Profiles.
fn delegate(views: &mut Views, input: &Input) {
    let mut compiler = DelegatingCompiler::default();
    views.delegating = Default::default();
    for (id, vpc) in input.manifest.vpcs.iter() {
        let numbers = vpc.profile_ids().filter_map(|id| views.profile_numbers.get(id));
        let profiles: Vec<(u32, &Policies)> =
            numbers.filter_map(|number| Some((number, &views.profiles.get(number)?.policies))).collect();
        let Some(at) = input.networks.vpc_at(id).filter(|_| !profiles.is_empty()) else { continue };
        let own = views.policies.get(at).map(|policies| &**policies);
        if let Some(made) = compiler.compile(id, own, &profiles, input.zones) {
            views.delegating.set(at, Some(Arc::new(made)));
        }
    }
}
