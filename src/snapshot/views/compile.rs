//! Compiling views: all of them, or only those that a change concerns.

use super::{Differences, Shared, View, Views, add_names, hidden, is_on_path, lists::UniqueLists, policies, profiles};
use crate::{
    manifest::{
        Direction, Id, Manifest, PrivateDnsScope, Problem, ResolverEndpoint,
        connectivity::{MAX_STEPS, NamesKey, Network, ReachKey},
    },
    snapshot::{
        autodefined::{Autodefined, autodefined},
        endpoints::{Endpoint, Endpoints, PrivateName, Renamed},
        names::NameMap,
        networks::{ClientPath, MAX_PREFIX_MEMBERS, NetworkAt, Networks, ViewKey},
        zones::Zones,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// The input of a compilation.
pub struct Input<'a> {
    /// The manifest, with rules, associations and Resolver endpoints.
    pub manifest: &'a Manifest,
    /// Its networks, compiled.
    pub networks: &'a Networks,
    /// Its endpoints, compiled.
    pub endpoints: &'a Endpoints,
    /// Its private hosted zones, compiled.
    pub zones: &'a Zones,
}

/// The previous compilation, which had the same networks.
pub struct Previous<'a> {
    /// Its views.
    pub views: &'a Views,
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// Its endpoints.
    pub endpoints: &'a Endpoints,
    /// Its zones.
    pub zones: &'a Zones,
    /// The zones that have changed since.
    pub changed_zones: &'a BTreeSet<Id>,
    /// The endpoints whose names have changed since.
    pub renamed: &'a Renamed,
}

/// Compiles all views. With `previous`, it compiles only the parts that a change concerns. Labels keep their slots in
/// `labels`.
pub fn compile(input: &Input, previous: Option<&Previous>, labels: &Arc<Vec<Arc<str>>>) -> Views {
    let mut compiler = Compiler::new(input);
    let mut views = match previous {
        Some(previous) => previous.views.clone(),
        None => Frame::new(input, labels).views,
    };
    policies::compile(&mut views.policies, input, previous);
    if previous.is_none_or(|previous| changes_public_zones(previous, input.zones)) {
        views.public = Arc::new(public_zones(input.zones));
    }
    let Some(previous) = previous else {
        let all: Vec<u32> = views.list.iter().map(|(at, _)| at).collect();
        compiler.own(&mut views, all.into_iter());
        compiler.share(&mut views);
        profiles::compile(&mut views, input, None);
        views.differences = differences(input.networks, &views);
        return views;
    };
    let (mut touched, mut exporting) = (BTreeSet::new(), BTreeSet::new());
    for names in previous.renamed.private() {
        let seeing = match &names.scope {
            PrivateDnsScope::Vpcs(ids) => ids.as_slice(),
            _ => &[],
        };
        let networks = seeing.iter().chain([&names.vpc]).filter_map(|id| input.networks.vpc_at(id));
        touched.extend(networks.filter_map(|network| views.of_network.get(&network)).flatten().copied());
        if names.scope == PrivateDnsScope::Connected {
            exporting.extend(input.networks.vpc_at(&names.vpc));
        }
    }
    compiler.own(&mut views, touched.into_iter());
    if !exporting.is_empty() {
        match previous.endpoints.exporters().eq(input.endpoints.exporters()) {
            true => compiler.export(&mut views, &exporting),
            false => compiler.share(&mut views),
        }
    }
    profiles::compile(&mut views, input, Some(previous));
    views.differences = differences(input.networks, &views);
    views
}

/// The numbers of the public zones, by name. Of several zones with one name, the first in the order of identifiers is used.
fn public_zones(zones: &Zones) -> NameMap<u32> {
    let mut names = BTreeMap::new();
    for (number, zone) in zones.all_numbered().filter(|(_, zone)| zone.source.public) {
        names.entry(zone.apex.clone()).or_insert(number);
    }
    NameMap::new(names.into_iter().collect()).with_above()
}

/// Whether a change adds, removes or renames a public zone.
fn changes_public_zones(previous: &Previous, zones: &Zones) -> bool {
    fn key<'z>(zones: &'z Zones, id: &Id) -> Option<(u32, &'z [u8])> {
        zones.numbered(id).filter(|(_, zone)| zone.source.public).map(|(number, zone)| (number, &*zone.apex))
    }
    previous.changed_zones.iter().any(|id| key(previous.zones, id) != key(zones, id))
}

/// The largest number of views of inbound Resolver endpoints. Each VPC with such endpoints has one for each network that is
/// connected to it or that an endpoint allows.
const MAX_INBOUND_VIEWS: usize = 250_000;

/// The error of a manifest whose networks have too many connections, blocks or inbound views; none if it has neither.
pub fn check_size(manifest: &Manifest, networks: &Networks) -> Option<Problem> {
    let error = |kind: &'static str, id: Option<&Id>, field: &'static str, message: String, help: &str| {
        let mut problem = Problem::error(kind, id.map_or("", |id| id), field, message);
        problem.help = Some(help.into());
        Some(problem)
    };
    if networks.connectivity.has_too_many_steps() {
        let message = format!(
            "all Transit Gateways together have more than {MAX_STEPS} pairs of attachments that get each other's routes"
        );
        let help = "use fewer route tables, or fewer gateways in a row: attachments with equal routing count as one";
        return error("transit_gateways", manifest.transit_gateways.keys().next(), "attachments", message, help);
    }
    if networks.has_too_many_members() {
        let message = format!(
            "all networks together have more than {MAX_PREFIX_MEMBERS} pairs of a CIDR block and a network that contains it"
        );
        let help = "a block within a wide block of many networks counts once for each of them: have fewer networks with the \
                    same wide block, or fewer blocks and subnets within it";
        let (kind, id) = match manifest.vpcs.keys().next() {
            Some(id) => ("vpcs", Some(id)),
            None => ("on_premises_networks", manifest.on_premises_networks.keys().next()),
        };
        return error(kind, id, "cidr_blocks", message, help);
    }
    let mut seen = HashSet::new();
    let mut views = 0;
    for (id, endpoint) in &manifest.resolver_endpoints {
        let (vpc, is_inbound) = (&endpoint.vpc_id, endpoint.direction == Direction::Inbound);
        if endpoint.direction == Direction::Outbound {
            continue;
        }
        let own = Network::Vpc(vpc.clone());
        if seen.insert((vpc, is_inbound, None)) {
            views += 2 + networks.connectivity.reached_by(&own).count();
        }
        // Connected networks are counted above.
        let others = networks
            .overlapping(&endpoint.allowed_cidr_blocks)
            .into_iter()
            .filter(|at| !networks.connectivity.reaches(&own, &networks.info(*at).network));
        for other in others {
            views += usize::from(seen.insert((vpc, is_inbound, Some(other))));
            if views > MAX_INBOUND_VIEWS {
                break;
            }
        }
        if views > MAX_INBOUND_VIEWS {
            let message = format!(
                "all inbound endpoints together have more than {MAX_INBOUND_VIEWS} pairs of their VPC and a network that is \
                 connected to it or has addresses in `allowed_cidr_blocks`"
            );
            let help = "have inbound endpoints in fewer VPCs: one VPC can serve all networks that reach it";
            return error("resolver_endpoints", Some(id), "vpc_id", message, help);
        }
    }
    None
}

/// The views with their keys, before their private names are compiled.
struct Frame<'a> {
    input: &'a Input<'a>,
    views: Views,
    in_vpc: Vec<Option<u32>>,
    inbound: HashMap<ViewKey, u32>,
    of_network: HashMap<NetworkAt, Vec<u32>>,
    labels: Vec<Arc<str>>,
    slots: HashMap<Arc<str>, u32>,
    /// The autodefined zones of each VPC: a hub has a view for each connected network, all with the same autodefined zones.
    autodefined: HashMap<NetworkAt, AutodefinedOfVpc>,
    /// The autodefined zones of VPCs, by the connections that decide them.
    named: HashMap<NamesKey<'a>, AutodefinedOfVpc>,
    /// The autodefined zones, by the VPCs whose addresses have names: different connections often lead to the same VPCs.
    made: HashMap<Arc<[NetworkAt]>, AutodefinedOfVpc>,
}

/// The VPCs whose addresses have autodefined names, and the zones of these names.
type AutodefinedOfVpc = (Arc<[NetworkAt]>, Arc<NameMap<Autodefined>>);

impl<'a> Frame<'a> {
    fn new(input: &'a Input, labels: &Arc<Vec<Arc<str>>>) -> Frame<'a> {
        let mut this = Frame {
            input,
            views: Views::default(),
            in_vpc: vec![None; input.networks.list.len()],
            inbound: HashMap::new(),
            of_network: HashMap::new(),
            labels: labels.to_vec(),
            slots: labels.iter().cloned().zip(0..).collect(),
            autodefined: HashMap::new(),
            named: HashMap::new(),
            made: HashMap::new(),
        };
        for id in input.manifest.vpcs.keys() {
            if let Some(vpc) = input.networks.vpc_at(id) {
                this.add((vpc, ClientPath::InVpc, None), id);
            }
        }
        for endpoint in input.manifest.resolver_endpoints.values() {
            let path = match endpoint.direction {
                Direction::Inbound => ClientPath::Inbound,
                Direction::InboundDelegation => ClientPath::InboundDelegation,
                Direction::Outbound => continue,
            };
            this.add_inbound(endpoint, path);
        }
        this.views.in_vpc = Arc::new(std::mem::take(&mut this.in_vpc));
        this.views.inbound = Arc::new(std::mem::take(&mut this.inbound));
        this.views.of_network = Arc::new(std::mem::take(&mut this.of_network));
        this.views.labels = match this.labels.len() == labels.len() {
            true => labels.clone(),
            false => Arc::new(std::mem::take(&mut this.labels)),
        };
        this
    }

    /// Adds the views of an inbound endpoint: one for each network that is connected to its VPC or that it allows, and one for
    /// clients in no known network.
    fn add_inbound(&mut self, endpoint: &ResolverEndpoint, path: ClientPath) {
        let (input, vpc) = (self.input, &endpoint.vpc_id);
        let Some(at) = input.networks.vpc_at(vpc) else { return };
        let own = &input.networks.info(at).network;
        if !self.inbound.contains_key(&(at, path, Some(at))) {
            for network in input.networks.connectivity.connected_to(own).into_iter().chain([own]) {
                if let Some(client) = input.networks.at(network) {
                    self.add((at, path, Some(client)), &format!("{vpc}/{}", network.id()));
                }
            }
            self.add((at, path, None), &format!("{vpc}/-"));
        }
        for client in input.networks.overlapping(&endpoint.allowed_cidr_blocks) {
            if !self.inbound.contains_key(&(at, path, Some(client))) {
                self.add((at, path, Some(client)), &format!("{vpc}/{}", input.networks.info(client).network.id()));
            }
        }
    }

    fn add(&mut self, key: ViewKey, label: &str) {
        let (at, path, client) = key;
        let Some(vpc) = self.input.networks.vpc(at) else { return };
        // A client inside a VPC is in the network of the view.
        let client = if path == ClientPath::InVpc { Some(at) } else { client };
        let (named, zones) = match self.autodefined.get(&at) {
            Some(known) => known.clone(),
            None => {
                let made = self.autodefined_of(at);
                self.autodefined.insert(at, made.clone());
                made
            }
        };
        let slot = self.slot(label);
        let view = View {
            slot,
            label: self.labels[slot as usize].clone(),
            vpc: at,
            client,
            path,
            own: Arc::default(),
            shared: 0,
            layers: Arc::default(),
            autodefined: vpc.enable_dns_hostnames.then_some(zones),
            has_reverse: vpc.autodefined_reverse.unwrap_or(true),
            dnssec_validation: vpc.dnssec_validation,
            named,
        };
        let number = self.views.list.end();
        self.views.list.set(number, Some(Arc::new(view)));
        for network in BTreeSet::from_iter(client.into_iter().chain([at])) {
            self.of_network.entry(network).or_default().push(number);
        }
        match path {
            ClientPath::InVpc => self.in_vpc[at as usize] = Some(number),
            _ => drop(self.inbound.insert(key, number)),
        }
    }

    fn slot(&mut self, label: &str) -> u32 {
        if let Some(slot) = self.slots.get(label) {
            return *slot;
        }
        let (slot, label): (u32, Arc<str>) = (self.labels.len() as u32, label.into());
        self.labels.push(label.clone());
        self.slots.insert(label, slot);
        slot
    }

    /// The autodefined zones of the views of a VPC.
    fn autodefined_of(&mut self, vpc: NetworkAt) -> AutodefinedOfVpc {
        let networks = self.input.networks;
        let viewing = &networks.info(vpc).network;
        let made = &mut self.made;
        let mut make = |named: BTreeSet<NetworkAt>| -> AutodefinedOfVpc {
            let named: Arc<[NetworkAt]> = named.into_iter().collect();
            let make = || (named.clone(), autodefined(networks, &named));
            made.entry(named.clone()).or_insert_with(make).clone()
        };
        let connectivity = &networks.connectivity;
        let known = self.named.entry(connectivity.names_key(viewing)).or_insert_with(|| {
            let others = connectivity.networks_named_for(viewing).filter_map(|network| networks.at(network));
            make(others.filter(|network| networks.vpc(*network).is_some()).collect())
        });
        match known.0.binary_search(&vpc) {
            Ok(_) => known.clone(),
            Err(_) => make(known.0.iter().copied().chain([vpc]).collect()),
        }
    }
}

/// Compiles the private names of views.
struct Compiler<'a> {
    input: &'a Input<'a>,
    /// The exporters that networks reach, by the connections that decide them. An exporter is a VPC with endpoints whose
    /// private names are for all connected VPCs.
    reached: HashMap<(ReachKey<'a>, Option<NetworkAt>), Arc<[NetworkAt]>>,
    /// The exporters that each network reaches.
    reached_by: HashMap<NetworkAt, Arc<[NetworkAt]>>,
    /// All lists of exporters.
    lists: UniqueLists<NetworkAt>,
}

impl<'a> Compiler<'a> {
    fn new(input: &'a Input<'a>) -> Compiler<'a> {
        Compiler { input, reached: HashMap::new(), reached_by: HashMap::new(), lists: UniqueLists::default() }
    }

    /// Compiles the private names that do not depend on connections. Views with the same endpoints share them.
    fn own(&self, views: &mut Views, touched: impl Iterator<Item = u32>) {
        let mut made: HashMap<Vec<*const Endpoint>, Arc<NameMap<PrivateName>>> = HashMap::new();
        for at in touched {
            let Some(view) = views.list.get(at).filter(|view| view.path != ClientPath::InboundDelegation) else {
                continue;
            };
            let endpoints = self.own_endpoints(view);
            let key = endpoints.iter().map(|endpoint| Arc::as_ptr(endpoint)).collect();
            let own = made.entry(key).or_insert_with(|| Arc::new(private_names(endpoints))).clone();
            let view = View { own, ..(**view).clone() };
            views.list.set(at, Some(Arc::new(view)));
        }
    }

    /// The endpoints whose private names the view has: the endpoints in the client's VPC, in the view's VPC, and those whose
    /// scope lists the view's VPC. If several endpoints have one name, the first endpoint of this order gets it.
    fn own_endpoints(&self, view: &View) -> Vec<&Arc<Endpoint>> {
        let Input { networks, endpoints, manifest, .. } = self.input;
        let network = |at| &networks.info(at).network;
        let (viewing, client) = (network(view.vpc), view.client.map(network));
        let in_vpc = |network: &Network| match network {
            Network::Vpc(id) => endpoints.with_private_names(id),
            Network::OnPremises(_) => Vec::new(),
        };
        // Among endpoints that list the VPC, those in its Region come first.
        let mut listing = endpoints.listing(viewing.id());
        let region = manifest.vpcs.get(viewing.id()).map_or("", |vpc| &vpc.region);
        listing.sort_by_key(|endpoint| (endpoint.names.region != region, &endpoint.id));
        let by_rank = client.map_or(Vec::new(), in_vpc).into_iter().chain(in_vpc(viewing)).chain(listing);
        // An endpoint can be in several of these groups.
        let mut seen = HashSet::new();
        let is_new = |other: &&Arc<Endpoint>| seen.insert(Arc::as_ptr(other));
        by_rank.filter(|other| self.sees(viewing, client, view.path, other)).filter(is_new).collect()
    }

    /// Whether a view and its client have an endpoint's private names.
    fn sees(&self, viewing: &Network, client: Option<&Network>, path: ClientPath, endpoint: &Endpoint) -> bool {
        hidden(&self.input.networks.connectivity, viewing, client, path, endpoint, false).is_none()
    }

    /// Compiles the private names of connected VPCs for all views.
    fn share(&mut self, views: &mut Views) {
        views.shared = Default::default();
        views.shared.set(0, Some(Arc::default()));
        let mut known: HashMap<(*const NetworkAt, bool, &str), u32> = HashMap::new();
        let list = views.list.clone();
        for (at, view) in list.iter() {
            let exporters = self.exporters(view);
            let region = self.input.networks.vpc(view.vpc).map_or("", |vpc| &vpc.region);
            let shared = match exporters.is_empty() {
                true => 0,
                false => {
                    *known.entry((exporters.as_ptr(), view.path == ClientPath::Inbound, region)).or_insert_with(|| {
                        let made = self.shared(exporters.to_vec(), view.path == ClientPath::Inbound, region);
                        let number = views.shared.end();
                        views.shared.set(number, Some(Arc::new(made)));
                        number
                    })
                }
            };
            if view.shared != shared {
                views.list.set(at, Some(Arc::new(View { shared, ..(**view).clone() })));
            }
        }
    }

    /// Compiles again the shared private names of some VPCs.
    fn export(&self, views: &mut Views, exporting: &BTreeSet<NetworkAt>) {
        let shared = views.shared.clone();
        for (at, old) in shared.iter().filter(|(_, old)| old.exporters.iter().any(|vpc| exporting.contains(vpc))) {
            let made = self.shared(old.exporters.clone(), old.inbound, &old.region);
            views.shared.set(at, Some(Arc::new(made)));
        }
    }

    /// The exporters that a view and its client both reach.
    fn exporters(&mut self, view: &View) -> Arc<[NetworkAt]> {
        let Some(client) = view.client.filter(|_| view.path != ClientPath::InboundDelegation) else {
            return Arc::default();
        };
        let (reached, by_client) = (self.reached(view.vpc), self.reached(client));
        self.lists.common(&reached, &by_client)
    }

    /// The exporters that a network reaches, in order.
    fn reached(&mut self, network: NetworkAt) -> Arc<[NetworkAt]> {
        if let Some(known) = self.reached_by.get(&network) {
            return known.clone();
        }
        let Input { networks, endpoints, .. } = self.input;
        let reaching = &networks.info(network).network;
        let is_exporter = matches!(reaching, Network::Vpc(id) if endpoints.is_exporter(id));
        let key = (networks.connectivity.reach_key(reaching), is_exporter.then_some(network));
        let list = match self.reached.get(&key) {
            Some(known) => known.clone(),
            None => {
                let exporters = endpoints.exporters().filter_map(|id| networks.vpc_at(id));
                let is_reached = |at: &NetworkAt| networks.connectivity.reaches(reaching, &networks.info(*at).network);
                let mut list: Vec<NetworkAt> = exporters.filter(is_reached).collect();
                list.sort_unstable();
                self.lists.unique(list)
            }
        };
        self.reached.insert(key, list.clone());
        self.reached_by.insert(network, list.clone());
        list
    }

    fn shared(&self, exporters: Vec<NetworkAt>, inbound: bool, region: &str) -> Shared {
        let Input { networks, endpoints, .. } = self.input;
        let of_vpc = |vpc: &NetworkAt| endpoints.exported(networks.info(*vpc).network.id());
        let mut all: Vec<&Arc<Endpoint>> = exporters.iter().flat_map(of_vpc).collect();
        all.sort_by_key(|endpoint| (endpoint.names.region != region, &endpoint.id));
        let path = if inbound { ClientPath::Inbound } else { ClientPath::InVpc };
        all.retain(|endpoint| is_on_path(endpoint, path));
        let names = private_names(all);
        Shared { exporters, inbound, region: region.into(), names }
    }
}

/// The private names of endpoints, in the order of their rank.
pub(super) fn private_names(endpoints: Vec<&Arc<Endpoint>>) -> NameMap<PrivateName> {
    let mut names = BTreeMap::new();
    endpoints.into_iter().for_each(|endpoint| add_names(&mut names, endpoint));
    NameMap::new(names.into_iter().collect()).with_above()
}

/// The differences between views; none if no forwarder names its clients by a prefix.
fn differences(networks: &Networks, views: &Views) -> Option<Arc<Differences>> {
    if !networks.forwarders.use_prefixes() {
        return None;
    }
    fn add<V>(names: &mut BTreeSet<Box<[u8]>>, map: &NameMap<V>) {
        names.extend(map.iter().map(|(name, _)| name.clone()));
    }
    let (mut names, mut seen) = (BTreeSet::new(), HashSet::new());
    for (_, view) in views.list.iter() {
        // Many views have the same private names and autodefined zones.
        if seen.insert(Arc::as_ptr(&view.own).addr()) {
            add(&mut names, &view.own);
        }
        if let Some(autodefined) = view.autodefined.as_ref().filter(|map| seen.insert(Arc::as_ptr(map).addr())) {
            add(&mut names, autodefined);
        }
    }
    let policies = views.policies.iter().filter(|(_, policies)| seen.insert(Arc::as_ptr(policies).addr()));
    policies.for_each(|(_, policies)| add(&mut names, &policies.names));
    views.shared.iter().for_each(|(_, shared)| add(&mut names, &shared.names));
    views.profiles.iter().for_each(|(_, profile)| add(&mut names, &profile.policies.names));
    views.profile_names.iter().for_each(|(_, of_profile)| add(&mut names, &of_profile.names));
    let all = || views.list.iter().map(|(_, view)| view);
    let validation = all().next().and_then(|view| view.dnssec_validation);
    let with = all().filter(|view| view.autodefined.is_some() && view.has_reverse).count();
    let without = all().filter(|view| view.autodefined.is_none()).count();
    Some(Arc::new(Differences {
        names: NameMap::new(names.into_iter().map(|name| (name, ())).collect()).with_above(),
        locally_served: with != all().count() && without != all().count(),
        dns64: networks.have_dns64(),
        delegates: views.delegating.iter().next().is_some()
            || views.policies.iter().any(|(_, policies)| !policies.delegates.is_empty()),
        validation: all().any(|view| view.dnssec_validation != validation),
    }))
}
