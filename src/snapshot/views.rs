//! Views: how the consumers of one network, by one path, see the world.
//!
//! A view is made of maps that are shared with other views wherever they are equal: what its VPC has (zones and rules),
//! the private names that are its own affair, those that all who reach the same endpoints see, and autodefined names.

use super::{
    autodefined::{Autodefined, autodefined},
    endpoints::{Endpoint, EndpointName, Endpoints, PrivateName},
    names::NameMap,
    networks::{NetworkAt, Networks, Path, ViewKey},
    routes::{Route, RouteId, Rule},
    zone::Zone,
};
use crate::manifest::{
    Direction, Id, Manifest, PrivateDnsScope, RuleType,
    connectivity::{Connectivity, Network},
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// What a VPC has at a name.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// A Resolver rule.
    pub rule: Option<Arc<Rule>>,
    /// A private hosted zone.
    pub zone: Option<Arc<Zone>>,
}

/// What a VPC has by its own: what stands at names, and what is done with referrals.
#[derive(Clone, Default)]
pub struct Policies {
    /// Rules and zones.
    pub names: Arc<NameMap<Policy>>,
    /// DELEGATE rules, which act on referrals and not on names.
    pub delegates: Arc<[Arc<Rule>]>,
    /// What tells answers that they may have led to from those of others; 0 without any.
    pub salt: u128,
    /// The zone cuts of its zones that a DELEGATE rule matches, and the way below them.
    pub delegations: Arc<NameMap<Arc<Route>>>,
}

/// How the consumers of one network, by one path, see the world.
pub struct View {
    /// Its name in counters: the VPC, for the inbound path with the client's network.
    pub label: Arc<str>,
    /// Its place in the list of labels, the same in all later snapshots.
    pub slot: u32,
    /// The VPC whose world it is.
    pub vpc: NetworkAt,
    /// By which way its clients come.
    pub path: Path,
    /// Rules and zones.
    pub policy: Arc<NameMap<Policy>>,
    /// DELEGATE rules.
    pub delegates: Arc<[Arc<Rule>]>,
    salt: u128,
    /// The zone cuts that are followed, and the way below them.
    pub delegations: Arc<NameMap<Arc<Route>>>,
    /// Private names of the client's own VPC, and those whose scope lists the VPC.
    pub own: Arc<NameMap<PrivateName>>,
    /// Private names that are shared with all who are connected.
    pub shared: Arc<NameMap<PrivateName>>,
    /// Autodefined names beside the locally served zones of all; none if the VPC has them switched off.
    pub autodefined: Option<Arc<NameMap<Autodefined>>>,
    /// The VPCs whose addresses have autodefined names here, in order.
    pub named: Arc<[NetworkAt]>,
}

/// What not all views have alike.
pub struct Differing {
    /// All names at which some view has something.
    pub names: NameMap<()>,
    /// Some views have the locally served zones, and others do not.
    pub locally_served: bool,
    /// Some subnet has `enable_dns64`.
    pub dns64: bool,
    /// Some views have DELEGATE rules, which act on what the internet resolver says.
    pub delegates: bool,
}

impl View {
    /// What answers that come by a route are kept under. Those who have DELEGATE rules may get others than those who have
    /// none, or not the same: where a server tells of other servers, the rules say whether these are asked.
    #[inline]
    pub fn route_id(&self, route: &Route) -> RouteId {
        RouteId(route.id.0 ^ self.salt)
    }
}

/// All views.
#[derive(Default)]
pub struct Views {
    /// All views, in no order that says anything.
    pub list: Vec<View>,
    /// By the VPC's place among the networks.
    in_vpc: Vec<Option<u32>>,
    inbound: HashMap<ViewKey, u32>,
    /// What they do not have alike; none where nobody asks that.
    pub differing: Option<Differing>,
    /// Labels by slot, of all views that there ever were.
    pub labels: Vec<Arc<str>>,
}

impl Views {
    /// The view of a client.
    #[inline]
    pub fn get(&self, key: ViewKey) -> Option<&View> {
        let at = match key {
            (vpc, Path::InVpc, _) => self.in_vpc.get(vpc as usize).copied().flatten(),
            _ => self.inbound.get(&key).copied(),
        };
        self.list.get(at? as usize)
    }
}

/// What views are compiled from.
pub struct Input<'a> {
    /// Rules, associations and Resolver endpoints.
    pub manifest: &'a Manifest,
    /// Its networks, compiled.
    pub networks: &'a Networks,
    /// Its endpoints, compiled.
    pub endpoints: &'a Endpoints,
    /// Its private hosted zones, compiled.
    pub zones: &'a BTreeMap<Id, Arc<Zone>>,
}

/// Compiles all views. The labels of `previous` keep their slots.
pub fn compile(input: &Input, previous: Option<&Views>) -> Views {
    let mut compiler = Compiler {
        input,
        policies: policies(input),
        exports: Exports::of(input),
        shared: HashMap::new(),
        autodefined: HashMap::new(),
        views: Views::default(),
        slots: HashMap::new(),
    };
    compiler.views.in_vpc.resize(input.networks.list.len(), None);
    if let Some(previous) = previous {
        compiler.views.labels.clone_from(&previous.labels);
        compiler.slots.extend(previous.labels.iter().cloned().zip(0..));
    }
    for id in input.manifest.vpcs.keys() {
        if let Some(vpc) = input.networks.at(&Network::Vpc(id.clone())) {
            compiler.add((vpc, Path::InVpc, None), id);
        }
    }
    for endpoint in input.manifest.resolver_endpoints.values() {
        let path = match endpoint.direction {
            Direction::Inbound => Path::Inbound,
            Direction::InboundDelegation => Path::InboundDelegation,
            Direction::Outbound => continue,
        };
        compiler.add_inbound(&Network::Vpc(endpoint.vpc_id.clone()), path);
    }
    let mut views = compiler.views;
    if input.networks.forwarders.tell_prefixes() {
        views.differing = Some(differing(input.networks, &views.list));
    }
    views
}

fn differing(networks: &Networks, views: &[View]) -> Differing {
    fn add<V>(names: &mut BTreeSet<Box<[u8]>>, seen: &mut HashSet<usize>, map: &Arc<NameMap<V>>) {
        // Most maps are shared by many views.
        if seen.insert(Arc::as_ptr(map).addr()) {
            names.extend(map.iter().map(|(name, _)| name.clone()));
        }
    }
    let (mut names, mut seen) = (BTreeSet::new(), HashSet::new());
    for view in views {
        add(&mut names, &mut seen, &view.policy);
        add(&mut names, &mut seen, &view.own);
        add(&mut names, &mut seen, &view.shared);
        if let Some(autodefined) = &view.autodefined {
            add(&mut names, &mut seen, autodefined);
        }
    }
    let with = views.iter().filter(|view| view.autodefined.is_some()).count();
    Differing {
        names: NameMap::new(names.into_iter().map(|name| (name, ())).collect()),
        locally_served: with != 0 && with != views.len(),
        dns64: networks.subnets.iter().any(|subnet| subnet.dns64),
        delegates: views.iter().any(|view| !view.delegates.is_empty()),
    }
}

struct Compiler<'a> {
    input: &'a Input<'a>,
    policies: HashMap<NetworkAt, Policies>,
    exports: Exports<'a>,
    shared: HashMap<Shared, Arc<NameMap<PrivateName>>>,
    /// By the VPC whose view it is: a hub has a view for each network that is connected to it, all with the same names.
    autodefined: HashMap<NetworkAt, OfVpc>,
    views: Views,
    slots: HashMap<Arc<str>, u32>,
}

/// What decides a map of shared private names: who exports, by which path, and which Region wins.
type Shared = (Vec<NetworkAt>, bool, String);

/// The VPCs whose addresses have autodefined names, and the zones of these.
type OfVpc = (Arc<[NetworkAt]>, Arc<NameMap<Autodefined>>);

impl<'a> Compiler<'a> {
    fn add_inbound(&mut self, vpc: &Network, path: Path) {
        let Some(at) = self.input.networks.at(vpc) else { return };
        if self.views.inbound.contains_key(&(at, path, Some(at))) {
            return;
        }
        let connected = self.input.networks.connectivity.connected_to(vpc);
        for network in connected.into_iter().chain([vpc]) {
            if let Some(client) = self.input.networks.at(network) {
                self.add((at, path, Some(client)), &format!("{}/{}", vpc.id(), network.id()));
            }
        }
        self.add((at, path, None), &format!("{}/-", vpc.id()));
    }

    fn add(&mut self, key: ViewKey, label: &str) {
        let (at, path, client) = key;
        let input = self.input;
        let Some(vpc) = input.networks.vpc(at) else { return };
        let viewing = &input.networks.info(at).network;
        let client = match path {
            // Who asks from inside has the network of the view.
            Path::InVpc => Some(viewing),
            _ => client.map(|client| &input.networks.info(client).network),
        };
        let (own, shared) = match path {
            Path::InboundDelegation => Default::default(),
            _ => (self.own(viewing, client, path), self.shared(viewing, client, path, &vpc.region)),
        };
        let (named, zones) =
            self.autodefined.entry(at).or_insert_with(|| autodefined_of(input.networks, viewing)).clone();
        let Policies { names: policy, delegates, salt, delegations } =
            self.policies.get(&at).cloned().unwrap_or_default();
        let view = View {
            slot: self.slot(label),
            label: label.into(),
            vpc: at,
            path,
            policy,
            delegates,
            salt,
            delegations,
            own,
            shared,
            autodefined: vpc.enable_dns_hostnames.then_some(zones),
            named,
        };
        let number = self.views.list.len() as u32;
        self.views.list.push(view);
        match path {
            Path::InVpc => self.views.in_vpc[at as usize] = Some(number),
            _ => drop(self.views.inbound.insert(key, number)),
        }
    }

    fn slot(&mut self, label: &str) -> u32 {
        if let Some(slot) = self.slots.get(label) {
            return *slot;
        }
        let (slot, label): (u32, Arc<str>) = (self.views.labels.len() as u32, label.into());
        self.views.labels.push(label.clone());
        self.slots.insert(label, slot);
        slot
    }

    /// Private names of the client's own VPC, of the view's, and those whose scope lists it: in this order.
    fn own(&self, viewing: &Network, client: Option<&Network>, path: Path) -> Arc<NameMap<PrivateName>> {
        let mut names = BTreeMap::new();
        let nothing = Vec::new();
        let in_vpc = |network: &Network| match network {
            Network::Vpc(id) => self.exports.by_vpc.get(id.as_str()).unwrap_or(&nothing),
            Network::OnPremises(_) => &nothing,
        };
        let listing = self.exports.by_listed.get(viewing.id()).unwrap_or(&nothing);
        let by_rank = client.map_or(&nothing, in_vpc).iter().chain(in_vpc(viewing)).chain(listing);
        for endpoint in by_rank.filter(|endpoint| self.sees(viewing, client, path, endpoint)) {
            add_names(&mut names, endpoint);
        }
        Arc::new(NameMap::new(names.into_iter().collect()))
    }

    /// Private names of connected VPCs, for all that are connected to the same ones.
    fn shared(
        &mut self,
        viewing: &Network,
        client: Option<&Network>,
        path: Path,
        region: &str,
    ) -> Arc<NameMap<PrivateName>> {
        let Some(client) = client else { return Arc::default() };
        let connectivity = &self.input.networks.connectivity;
        let reached = |exporter: &&Id| {
            let exporter = Network::Vpc((*exporter).clone());
            connectivity.reaches(viewing, &exporter) && connectivity.reaches(client, &exporter)
        };
        let exporters: Vec<&Id> = self.exports.connected.keys().copied().filter(reached).collect();
        if exporters.is_empty() {
            return Arc::default();
        }
        let at = exporters.iter().filter_map(|id| self.input.networks.at(&Network::Vpc((*id).clone()))).collect();
        let key = (at, path == Path::Inbound, region.to_string());
        let exports = &self.exports;
        let make = || {
            let mut endpoints: Vec<_> = exporters.iter().flat_map(|id| &exports.connected[id]).collect();
            endpoints.sort_by_key(|endpoint| (endpoint.names.region != region, &endpoint.id));
            let mut names = BTreeMap::new();
            for endpoint in endpoints.into_iter().filter(|endpoint| is_on_path(endpoint, path)) {
                add_names(&mut names, endpoint);
            }
            Arc::new(NameMap::new(names.into_iter().collect()))
        };
        self.shared.entry(key).or_insert_with(make).clone()
    }

    /// Whether an endpoint's private names are for this view and this client.
    fn sees(&self, viewing: &Network, client: Option<&Network>, path: Path, endpoint: &Endpoint) -> bool {
        hidden(&self.input.networks.connectivity, viewing, client, path, endpoint).is_none()
    }
}

fn autodefined_of(networks: &Networks, viewing: &Network) -> OfVpc {
    let connected = networks.connectivity.connected_to(viewing);
    let allowed = connected.into_iter().filter(|other| networks.connectivity.allows_names(viewing, other));
    let mut named: Vec<NetworkAt> = allowed
        .chain([viewing])
        .filter_map(|network| networks.at(network))
        .filter(|network| networks.vpc(*network).is_some())
        .collect();
    named.sort_unstable();
    let zones = autodefined(networks, &named);
    (named.into(), zones)
}

/// Why the private names of an endpoint are not for a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// The view is not in their scope.
    OutOfScope,
    /// The client's own network does not reach the endpoint's VPC.
    Unreachable,
    /// They are for the inbound path only.
    InboundOnly,
}

/// Why an endpoint's private names, if it has any, are not for this view and this client (resolution.md 3); none if
/// they are.
pub fn hidden(
    connectivity: &Connectivity,
    viewing: &Network,
    client: Option<&Network>,
    path: Path,
    endpoint: &Endpoint,
) -> Option<Hidden> {
    let home = Network::Vpc(endpoint.names.vpc.clone());
    let in_scope = match &endpoint.names.scope {
        PrivateDnsScope::Vpc => home == *viewing,
        PrivateDnsScope::Connected => connectivity.reaches(viewing, &home),
        PrivateDnsScope::Vpcs(ids) => ids.iter().any(|id| id == viewing.id()),
    };
    // Of a client in no known network it is only known that it reaches the VPC that it asks.
    let is_reached = client.map_or(home == *viewing, |client| connectivity.reaches(client, &home));
    match (in_scope, is_reached) {
        (false, _) => Some(Hidden::OutOfScope),
        (true, false) => Some(Hidden::Unreachable),
        (true, true) => (!is_on_path(endpoint, path)).then_some(Hidden::InboundOnly),
    }
}

fn is_on_path(endpoint: &Endpoint, path: Path) -> bool {
    path == Path::Inbound || !endpoint.names.inbound_only
}

/// Adds an endpoint's private names where they are not taken.
fn add_names(names: &mut BTreeMap<Box<[u8]>, PrivateName>, endpoint: &Endpoint) {
    for (apex, name) in &endpoint.names.private {
        let entry: &mut PrivateName = names.entry(apex.clone()).or_default();
        let take = |place: &mut Option<EndpointName>, wanted: bool| {
            if wanted && place.is_none() {
                *place = Some(name.clone());
            }
        };
        take(&mut entry.exact, name.exact);
        take(&mut entry.wildcard, name.wildcard);
    }
}

/// Endpoints with private names, by who may see them.
struct Exports<'a> {
    by_vpc: HashMap<&'a str, Vec<&'a Arc<Endpoint>>>,
    by_listed: HashMap<&'a str, Vec<&'a Arc<Endpoint>>>,
    connected: BTreeMap<&'a Id, Vec<&'a Arc<Endpoint>>>,
}

impl<'a> Exports<'a> {
    fn of(input: &'a Input) -> Exports<'a> {
        let mut exports = Exports { by_vpc: HashMap::new(), by_listed: HashMap::new(), connected: BTreeMap::new() };
        for endpoint in input.endpoints.iter().filter(|endpoint| !endpoint.names.private.is_empty()) {
            let names = &endpoint.names;
            exports.by_vpc.entry(&names.vpc).or_default().push(endpoint);
            match &names.scope {
                PrivateDnsScope::Vpc => {}
                PrivateDnsScope::Connected => exports.connected.entry(&names.vpc).or_default().push(endpoint),
                PrivateDnsScope::Vpcs(ids) => {
                    ids.iter().collect::<BTreeSet<_>>().into_iter().for_each(|id| {
                        exports.by_listed.entry(id).or_default().push(endpoint);
                    });
                }
            }
        }
        // Among those that list a VPC, the same Region is for `sees`'s caller to prefer: by Region, then by identifier.
        for (vpc, list) in &mut exports.by_listed {
            let region = input.manifest.vpcs.get(vpc).map_or("", |vpc| &vpc.region);
            list.sort_by_key(|endpoint| (endpoint.names.region != region, &endpoint.id));
        }
        exports
    }
}

/// Rules and zones, for each VPC that has any.
fn policies(input: &Input) -> HashMap<NetworkAt, Policies> {
    let mut policies: HashMap<NetworkAt, BTreeMap<Box<[u8]>, Policy>> = HashMap::new();
    let mut delegates: HashMap<NetworkAt, Vec<Arc<Rule>>> = HashMap::new();
    let networks = |ids: &[Id]| -> BTreeSet<NetworkAt> {
        ids.iter().filter_map(|id| input.networks.at(&Network::Vpc(id.clone()))).collect()
    };
    for (id, resource) in input.manifest.resolver_rules.iter().filter(|(_, rule)| rule.enabled) {
        let name: Box<[u8]> = resource.domain_name.to_lowercase().as_wire().into();
        let rule = Arc::new(Rule::new(input.manifest, id, resource));
        for vpc in networks(&resource.vpc_ids) {
            if resource.rule_type == RuleType::Delegate {
                delegates.entry(vpc).or_default().push(rule.clone());
                continue;
            }
            let policy = policies.entry(vpc).or_default().entry(name.clone()).or_default();
            policy.rule.get_or_insert_with(|| rule.clone());
        }
    }
    for zone in input.zones.values() {
        for vpc in networks(&zone.source.vpc_ids) {
            let policy = policies.entry(vpc).or_default().entry(zone.apex.clone()).or_default();
            policy.zone.get_or_insert_with(|| zone.clone());
        }
    }
    let vpcs: BTreeSet<NetworkAt> = policies.keys().chain(delegates.keys()).copied().collect();
    let of_vpc = |vpc| {
        let names = policies.remove(&vpc).unwrap_or_default();
        let delegates = delegates.remove(&vpc).unwrap_or_default();
        let delegations = delegations(&names, &delegates);
        let names = Arc::new(NameMap::new(names.into_iter().collect()));
        let salt = salt(input.networks.info(vpc).network.id(), &delegates);
        (vpc, Policies { names, delegates: delegates.into(), salt, delegations: Arc::new(delegations) })
    };
    vpcs.into_iter().map(of_vpc).collect()
}

/// What tells the answers of a VPC with DELEGATE rules from those of others; 0 where there are none. The names of name
/// servers stand for what the VPC takes them for, so that it counts as well as the rules.
fn salt(vpc: &str, delegates: &[Arc<Rule>]) -> u128 {
    if delegates.is_empty() {
        return 0;
    }
    let mut digest = Sha256::new();
    digest.update(vpc);
    delegates.iter().for_each(|rule| digest.update(rule.route.id.0.to_be_bytes()));
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest.finalize()[..16]);
    u128::from_be_bytes(salt)
}

/// The zone cuts that a DELEGATE rule matches, and the way below them.
fn delegations(names: &BTreeMap<Box<[u8]>, Policy>, rules: &[Arc<Rule>]) -> NameMap<Arc<Route>> {
    if rules.is_empty() {
        return NameMap::default();
    }
    let cuts = names.values().filter_map(|policy| policy.zone.as_ref()).flat_map(|zone| zone.cuts());
    let routes: BTreeMap<Box<[u8]>, Arc<Route>> = cuts
        .filter_map(|cut| {
            let route = rules.iter().find_map(|rule| Route::delegation(rule, &cut.name, &cut.name_servers))?;
            Some((cut.name.clone(), Arc::new(route)))
        })
        .collect();
    NameMap::new(routes.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::Loaded,
        snapshot::{Node, compile},
    };

    /// Where rules say which referrals are followed, what others answered is nobody else's.
    #[test]
    fn who_follows_referrals_shares_no_answers() {
        let manifest = serde_json::json!({
            "vpcs": {"a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]}, "b": {"region": "r", "cidr_blocks": ["10.2.0.0/16"]},
                     "c": {"region": "r", "cidr_blocks": ["10.3.0.0/16"]}, "d": {"region": "r", "cidr_blocks": ["10.4.0.0/16"]}},
            "resolver_rules": {
                "f": {"domain_name": ".", "rule_type": "FORWARD", "vpc_ids": ["a", "b", "c", "d"], "target_ips": [{"ip": "192.0.2.1"}]},
                "d": {"domain_name": "example", "rule_type": "DELEGATE", "vpc_ids": ["c", "d"]},
            },
        });
        let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
        let (snapshot, _) = compile(&loaded, &Arc::new(Node::default()), None).unwrap();
        let root = crate::wire::query::LookupName::root();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|vpc| {
            let at = snapshot.networks.at(&Network::Vpc(vpc.into())).unwrap();
            let view = snapshot.views.get((at, Path::InVpc, None)).unwrap();
            view.route_id(&view.policy.find(&root, 0).unwrap().rule.as_ref().unwrap().route)
        });
        assert!(a == b && a != c && c != d && a != d);
    }
}
