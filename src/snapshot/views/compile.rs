//! How views are made, and what of them a change touches.

use super::{Differing, Shared, View, Views, add_names, hidden, is_on_path, policies};
use crate::{
    manifest::{
        Direction, Id, Manifest, PrivateDnsScope, Problem, ResolverEndpoint,
        connectivity::{MAX_STEPS, NamesKey, Network, ReachKey},
    },
    snapshot::{
        autodefined::{Autodefined, autodefined},
        endpoints::{Endpoint, Endpoints, PrivateName, Renamed},
        names::NameMap,
        networks::{NetworkAt, Networks, Path, ViewKey},
        zones::Zones,
    },
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// What views are compiled from.
pub struct Input<'a> {
    /// Rules, associations and Resolver endpoints.
    pub manifest: &'a Manifest,
    /// Its networks, compiled.
    pub networks: &'a Networks,
    /// Its endpoints, compiled.
    pub endpoints: &'a Endpoints,
    /// Its private hosted zones, compiled.
    pub zones: &'a Zones,
}

/// What there was before, with the very same networks.
pub struct Previous<'a> {
    /// What was compiled from it.
    pub views: &'a Views,
    /// Rules and associations.
    pub manifest: &'a Manifest,
    /// The endpoints.
    pub endpoints: &'a Endpoints,
    /// The zones.
    pub zones: &'a Zones,
    /// The zones that are not the same.
    pub changed_zones: &'a BTreeSet<Id>,
    /// The endpoints whose names are not the same.
    pub renamed: &'a Renamed,
}

/// Compiles all views: anew, or those parts that have to do with what has changed since. Labels keep their slots of
/// `labels`.
pub fn follow(input: &Input, previous: Option<&Previous>, labels: &Arc<Vec<Arc<str>>>) -> Views {
    let mut compiler = Compiler::new(input);
    let mut views = match previous {
        Some(previous) => previous.views.clone(),
        None => Frame::new(input, labels).views,
    };
    policies::follow(&mut views.policies, input, previous);
    let Some(previous) = previous else {
        let all: Vec<u32> = views.list.iter().map(|(at, _)| at).collect();
        compiler.own(&mut views, all.into_iter());
        compiler.share(&mut views);
        views.differing = differing(input.networks, &views);
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
    views.differing = differing(input.networks, &views);
    views
}

/// How many views of inbound Resolver endpoints there may be: one for each network that is connected to the VPC of each.
const MAX_INBOUND_VIEWS: usize = 250_000;

/// An error if the networks of a manifest are more, or connected in more ways, than can be served.
pub fn too_many(manifest: &Manifest, networks: &Networks) -> Option<Problem> {
    if networks.connectivity.has_too_many_steps() {
        let id = manifest.transit_gateways.keys().next().map_or("", |id| id);
        let message = format!(
            "all Transit Gateways together have more than {MAX_STEPS} pairs of attachments that get each other's routes"
        );
        let mut problem = Problem::error("transit_gateways", id, "attachments", message);
        let help = "use fewer route tables, or fewer gateways in a row: attachments with equal routing count as one";
        problem.help = Some(help.into());
        return Some(problem);
    }
    let mut seen = HashSet::new();
    let mut views = 0;
    for (id, endpoint) in &manifest.resolver_endpoints {
        let key = (&endpoint.vpc_id, endpoint.direction == Direction::Inbound);
        if endpoint.direction != Direction::Outbound && seen.insert(key) {
            views += 2 + networks.connectivity.reached_by(&Network::Vpc(endpoint.vpc_id.clone())).count();
        }
        if views > MAX_INBOUND_VIEWS {
            let message = format!(
                "all inbound endpoints together have more than {MAX_INBOUND_VIEWS} pairs of their VPC and a network that is \
                 connected to it"
            );
            let mut problem = Problem::error("resolver_endpoints", id, "vpc_id", message);
            let help = "have inbound endpoints in fewer VPCs: one VPC can serve all networks that reach it";
            problem.help = Some(help.into());
            return Some(problem);
        }
    }
    None
}

/// What views there are, before anything is in them.
struct Frame<'a> {
    input: &'a Input<'a>,
    views: Views,
    in_vpc: Vec<Option<u32>>,
    inbound: HashMap<ViewKey, u32>,
    of_network: HashMap<NetworkAt, Vec<u32>>,
    labels: Vec<Arc<str>>,
    slots: HashMap<Arc<str>, u32>,
    /// By the VPC whose view it is: a hub has a view for each network that is connected to it, all with the same names.
    autodefined: HashMap<NetworkAt, OfVpc>,
    /// By what decides it.
    named: HashMap<NamesKey<'a>, OfVpc>,
    /// By the VPCs whose addresses have names: many ways of being connected lead to the same ones.
    made: HashMap<Arc<[NetworkAt]>, OfVpc>,
}

/// The VPCs whose addresses have autodefined names, and the zones of these.
type OfVpc = (Arc<[NetworkAt]>, Arc<NameMap<Autodefined>>);

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
                this.add((vpc, Path::InVpc, None), id);
            }
        }
        for endpoint in input.manifest.resolver_endpoints.values() {
            let path = match endpoint.direction {
                Direction::Inbound => Path::Inbound,
                Direction::InboundDelegation => Path::InboundDelegation,
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

    /// The views of those who ask at an inbound endpoint: of the networks that are connected to its VPC, and of those that it
    /// lets in.
    fn add_inbound(&mut self, endpoint: &ResolverEndpoint, path: Path) {
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
        let allowed = IpNet::aggregate(&endpoint.allowed_cidr_blocks);
        if allowed.is_empty() {
            return;
        }
        for (client, info) in (0..).zip(&input.networks.list) {
            let blocks = match &info.network {
                Network::Vpc(_) => info.vpc.as_ref().map(|vpc| &vpc.cidr_blocks),
                Network::OnPremises(id) => input.manifest.on_premises_networks.get(id).map(|other| &other.cidr_blocks),
            };
            let is_let_in = blocks
                .into_iter()
                .flatten()
                .any(|block| allowed.iter().any(|allowed| allowed.contains(block) || block.contains(allowed)));
            if is_let_in && !self.inbound.contains_key(&(at, path, Some(client))) {
                self.add((at, path, Some(client)), &format!("{vpc}/{}", info.network.id()));
            }
        }
    }

    fn add(&mut self, key: ViewKey, label: &str) {
        let (at, path, client) = key;
        let Some(vpc) = self.input.networks.vpc(at) else { return };
        // Who asks from inside has the network of the view.
        let client = if path == Path::InVpc { Some(at) } else { client };
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
            autodefined: vpc.enable_dns_hostnames.then_some(zones),
            named,
        };
        let number = self.views.list.end();
        self.views.list.set(number, Some(Arc::new(view)));
        for network in BTreeSet::from_iter(client.into_iter().chain([at])) {
            self.of_network.entry(network).or_default().push(number);
        }
        match path {
            Path::InVpc => self.in_vpc[at as usize] = Some(number),
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

    /// What has autodefined names in the views of a VPC: the same for all that allow each other's names.
    fn autodefined_of(&mut self, vpc: NetworkAt) -> OfVpc {
        let networks = self.input.networks;
        let viewing = &networks.info(vpc).network;
        let made = &mut self.made;
        let mut make = |named: BTreeSet<NetworkAt>| -> OfVpc {
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

struct Compiler<'a> {
    input: &'a Input<'a>,
    /// The VPCs of those that share private names that networks reach, by what decides it.
    reached: HashMap<(ReachKey<'a>, Option<NetworkAt>), Arc<[NetworkAt]>>,
    /// The same, by the network.
    reached_by: HashMap<NetworkAt, Arc<[NetworkAt]>>,
    /// Those that are in two such lists, by where these are in memory.
    common: HashMap<[*const NetworkAt; 2], Arc<[NetworkAt]>>,
    /// All lists: equal ones are one.
    lists: HashSet<Arc<[NetworkAt]>>,
}

impl<'a> Compiler<'a> {
    fn new(input: &'a Input<'a>) -> Compiler<'a> {
        let (reached, reached_by) = (HashMap::new(), HashMap::new());
        Compiler { input, reached, reached_by, common: HashMap::new(), lists: HashSet::new() }
    }

    /// Gives views the private names that are their own affair.
    fn own(&self, views: &mut Views, touched: impl Iterator<Item = u32>) {
        let empty: Arc<NameMap<PrivateName>> = Arc::default();
        for at in touched {
            let Some(view) = views.list.get(at).filter(|view| view.path != Path::InboundDelegation) else { continue };
            let own = self.own_names(view);
            let own = if own.is_empty() {
                empty.clone()
            } else {
                Arc::new(NameMap::new(own.into_iter().collect()).with_above())
            };
            let view = View { own, ..(**view).clone() };
            views.list.set(at, Some(Arc::new(view)));
        }
    }

    /// Private names of the client's own VPC, of the view's, and those whose scope lists it: in this order.
    fn own_names(&self, view: &View) -> BTreeMap<Box<[u8]>, PrivateName> {
        let Input { networks, endpoints, manifest, .. } = self.input;
        let network = |at| &networks.info(at).network;
        let (viewing, client) = (network(view.vpc), view.client.map(network));
        let in_vpc = |network: &Network| match network {
            Network::Vpc(id) => endpoints.with_private_names(id),
            Network::OnPremises(_) => Vec::new(),
        };
        // Among those that list a VPC, the same Region comes first.
        let mut listing = endpoints.listing(viewing.id());
        let region = manifest.vpcs.get(viewing.id()).map_or("", |vpc| &vpc.region);
        listing.sort_by_key(|endpoint| (endpoint.names.region != region, &endpoint.id));
        let by_rank = client.map_or(Vec::new(), in_vpc).into_iter().chain(in_vpc(viewing)).chain(listing);
        let mut names = BTreeMap::new();
        for endpoint in by_rank.filter(|other| self.sees(viewing, client, view.path, other)) {
            add_names(&mut names, endpoint);
        }
        names
    }

    /// Whether an endpoint's private names are for this view and this client.
    fn sees(&self, viewing: &Network, client: Option<&Network>, path: Path, endpoint: &Endpoint) -> bool {
        hidden(&self.input.networks.connectivity, viewing, client, path, endpoint).is_none()
    }

    /// Gives all views the private names of those that share them.
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
                false => *known.entry((exporters.as_ptr(), view.path == Path::Inbound, region)).or_insert_with(|| {
                    let made = self.shared(exporters.to_vec(), view.path == Path::Inbound, region);
                    let number = views.shared.end();
                    views.shared.set(number, Some(Arc::new(made)));
                    number
                }),
            };
            if view.shared != shared {
                views.list.set(at, Some(Arc::new(View { shared, ..(**view).clone() })));
            }
        }
    }

    /// Brings up to date what is shared of these VPCs.
    fn export(&self, views: &mut Views, exporting: &BTreeSet<NetworkAt>) {
        let shared = views.shared.clone();
        for (at, old) in shared.iter().filter(|(_, old)| old.exporters.iter().any(|vpc| exporting.contains(vpc))) {
            let made = self.shared(old.exporters.clone(), old.inbound, &old.region);
            views.shared.set(at, Some(Arc::new(made)));
        }
    }

    /// The VPCs with endpoints for all who are connected that a view and its client reach.
    fn exporters(&mut self, view: &View) -> Arc<[NetworkAt]> {
        let Some(client) = view.client.filter(|_| view.path != Path::InboundDelegation) else { return Arc::default() };
        let (reached, by_client) = (self.reached(view.vpc), self.reached(client));
        if Arc::ptr_eq(&reached, &by_client) {
            return reached;
        }
        let key = [reached.as_ptr(), by_client.as_ptr()];
        if let Some(known) = self.common.get(&key) {
            return known.clone();
        }
        // Both are in order.
        let (fewer, more) = if reached.len() < by_client.len() { (reached, by_client) } else { (by_client, reached) };
        let common = fewer.iter().copied().filter(|exporter| more.binary_search(exporter).is_ok()).collect();
        let common = self.once(common);
        self.common.insert(key, common.clone());
        common
    }

    /// A list, the same in memory as one that is equal.
    fn once(&mut self, list: Vec<NetworkAt>) -> Arc<[NetworkAt]> {
        if let Some(known) = self.lists.get(&list[..]) {
            return known.clone();
        }
        let list: Arc<[NetworkAt]> = list.into();
        self.lists.insert(list.clone());
        list
    }

    /// The VPCs with endpoints for all who are connected that a network reaches, in order.
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
                self.once(list)
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
        let path = if inbound { Path::Inbound } else { Path::InVpc };
        let mut names = BTreeMap::new();
        for endpoint in all.into_iter().filter(|endpoint| is_on_path(endpoint, path)) {
            add_names(&mut names, endpoint);
        }
        let names = NameMap::new(names.into_iter().collect()).with_above();
        Shared { exporters, inbound, region: region.into(), names }
    }
}

/// What not all views have alike; none where nobody asks that.
fn differing(networks: &Networks, views: &Views) -> Option<Arc<Differing>> {
    if !networks.forwarders.tell_prefixes() {
        return None;
    }
    fn add<V>(names: &mut BTreeSet<Box<[u8]>>, map: &NameMap<V>) {
        names.extend(map.iter().map(|(name, _)| name.clone()));
    }
    let (mut names, mut seen) = (BTreeSet::new(), HashSet::new());
    for (_, view) in views.list.iter() {
        add(&mut names, &view.own);
        // Many views have the same ones.
        if let Some(autodefined) = view.autodefined.as_ref().filter(|map| seen.insert(Arc::as_ptr(map).addr())) {
            add(&mut names, autodefined);
        }
    }
    views.policies.iter().for_each(|(_, policies)| add(&mut names, &policies.names));
    views.shared.iter().for_each(|(_, shared)| add(&mut names, &shared.names));
    let all = || views.list.iter().map(|(_, view)| view);
    let with = all().filter(|view| view.autodefined.is_some()).count();
    Some(Arc::new(Differing {
        names: NameMap::new(names.into_iter().map(|name| (name, ())).collect()).with_above(),
        locally_served: with != 0 && with != all().count(),
        dns64: networks.subnets.iter().any(|subnet| subnet.dns64),
        delegates: views.policies.iter().any(|(_, policies)| !policies.delegates.is_empty()),
    }))
}
