//! Which networks reach each other: by peering connections, Transit Gateways, Direct Connect and
//! VPN.
//!
//! A Transit Gateway can have thousands of attachments, so that zonal never lists pairs of
//! networks. Attachments with equal routing form a class, and zonal computes which classes reach
//! each other. The work is bounded by [`MAX_STEPS`].

use super::{Attachment, Id, Manifest, PeeringStatus};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// A network of clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// A VPC, by its ID.
    Vpc(Id),
    /// An on-premises network, by its name in the manifest.
    OnPremises(Id),
}

impl Network {
    /// The identifier of the network.
    pub fn id(&self) -> &str {
        let (Network::Vpc(id) | Network::OnPremises(id)) = self;
        id
    }
}

/// The connections between the networks of a manifest.
#[derive(Debug, Default)]
pub struct Connectivity {
    nodes: HashMap<Network, Node>,
    /// For each class, the classes that it reaches, sorted.
    reach: Vec<Vec<usize>>,
    /// For each class, the classes that it reaches over attachments with DNS support, sorted.
    dns_reach: Vec<Vec<usize>>,
    /// The networks in each class.
    members: Vec<Vec<Network>>,
    /// The number of steps that were followed so far.
    steps: usize,
}

/// The largest number of steps: pairs of a route table and an attachment that propagates to it.
/// zonal refuses a manifest with more.
pub const MAX_STEPS: usize = 4_000_000;

#[derive(Debug, Default)]
struct Node {
    /// The direct connections, and whether each resolves autodefined names of the other side.
    direct: BTreeMap<Network, bool>,
    /// The classes of its attachments.
    classes: BTreeSet<usize>,
}

/// The routing of an attachment: the route table that it is associated with, and the tables that it
/// propagates to, sorted. Tables are numbered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Routing {
    table: u32,
    propagates_to: Arc<[u32]>,
    dns_support: bool,
}

/// The name of the default route table of a gateway.
const DEFAULT_TABLE: &str = "";

/// All different routings, and the numbers of route tables.
#[derive(Default)]
struct Routings<'a> {
    all: Vec<Routing>,
    numbers: HashMap<Routing, usize>,
    tables: HashMap<&'a str, u32>,
}

impl<'a> Routings<'a> {
    fn table(&mut self, name: &'a str) -> u32 {
        let next = self.tables.len() as u32;
        *self.tables.entry(name).or_insert(next)
    }

    /// The number of a routing; equal routings have the same number.
    fn number(&mut self, table: &'a str, propagates_to: &[&'a str], dns_support: bool) -> usize {
        let table = self.table(table);
        let propagates_to: BTreeSet<u32> = propagates_to.iter().map(|name| self.table(name)).collect();
        let routing = Routing { table, propagates_to: propagates_to.into_iter().collect(), dns_support };
        *self.numbers.entry(routing.clone()).or_insert_with(|| {
            self.all.push(routing);
            self.all.len() - 1
        })
    }

    fn of(&mut self, attachment: &'a Attachment) -> usize {
        let propagates_to = match &attachment.propagates_to {
            Some(tables) => tables.iter().map(String::as_str).collect(),
            None => vec![DEFAULT_TABLE],
        };
        let table = attachment.route_table.as_deref().unwrap_or(DEFAULT_TABLE);
        self.number(table, &propagates_to, attachment.dns_support)
    }

    /// Whether two attachments reach each other: each propagates to the table that the other is
    /// associated with.
    fn exchange(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.all[one], &self.all[other]);
        let gets = |from: &Routing, to: &Routing| from.propagates_to.binary_search(&to.table).is_ok();
        gets(one, other) && gets(other, one)
    }
}

/// The attachments of a gateway.
#[derive(Default)]
struct Gateway {
    /// The classes of the attached networks, by their routing.
    classes: HashMap<usize, usize>,
    /// Class and routing of the attached networks, by the table that they are associated with.
    by_table: HashMap<u32, Vec<(usize, usize)>>,
    /// The peered gateways, and the routing of this gateway's ends of the peerings.
    peers: BTreeMap<usize, Vec<usize>>,
}

impl Connectivity {
    /// Computes the connections of a manifest. References to unknown networks are ignored.
    pub fn new(manifest: &Manifest) -> Connectivity {
        let mut this = Connectivity::default();
        for id in manifest.vpcs.keys() {
            this.nodes.insert(Network::Vpc(id.clone()), Node::default());
        }
        for id in manifest.on_premises_networks.keys() {
            this.nodes.insert(Network::OnPremises(id.clone()), Node::default());
        }
        for peering in manifest.vpc_peering_connections.values() {
            if let ([a, b], PeeringStatus::Active) = (&peering.vpc_ids[..], peering.status) {
                let (a, b) = (Network::Vpc(a.clone()), Network::Vpc(b.clone()));
                this.connect(&a, &b, peering.allow_remote_vpc_dns_resolution);
            }
        }
        for (id, network) in &manifest.on_premises_networks {
            for vpc in &network.vpc_ids {
                this.connect(&Network::OnPremises(id.clone()), &Network::Vpc(vpc.clone()), true);
            }
        }
        this.attach(manifest);
        this
    }

    fn connect(&mut self, a: &Network, b: &Network, dns: bool) {
        if a != b && self.nodes.contains_key(a) && self.nodes.contains_key(b) {
            for (from, to) in [(a, b), (b, a)] {
                if let Some(node) = self.nodes.get_mut(from) {
                    *node.direct.entry(to.clone()).or_default() |= dns;
                }
            }
        }
    }

    fn attach(&mut self, manifest: &Manifest) {
        let numbers: HashMap<&str, usize> = manifest.transit_gateways.keys().map(String::as_str).zip(0..).collect();
        let mut gateways: Vec<Gateway> = numbers.iter().map(|_| Gateway::default()).collect();
        let (mut routings, mut starts) = (Routings::default(), Vec::new());
        let mut ends = BTreeSet::new();
        for (at, gateway) in manifest.transit_gateways.values().enumerate() {
            for attachment in &gateway.attachments {
                let routing = routings.of(attachment);
                if let Some(peer) = &attachment.transit_gateway_id {
                    if let Some(&peer) = numbers.get(peer.as_str()).filter(|peer| **peer != at) {
                        gateways[at].peers.entry(peer).or_default().push(routing);
                        ends.insert((at, peer));
                    }
                    continue;
                }
                let network = match (&attachment.vpc_id, &attachment.on_premises_network_id) {
                    (Some(vpc), None) => Network::Vpc(vpc.clone()),
                    (None, Some(network)) => Network::OnPremises(network.clone()),
                    _ => continue,
                };
                let Some(node) = self.nodes.get_mut(&network) else { continue };
                let Gateway { classes, by_table, .. } = &mut gateways[at];
                let class = *classes.entry(routing).or_insert_with(|| {
                    by_table.entry(routings.all[routing].table).or_default().push((starts.len(), routing));
                    starts.push((at, routing));
                    self.members.push(Vec::new());
                    starts.len() - 1
                });
                if node.classes.insert(class) {
                    self.members[class].push(network);
                }
            }
        }
        // A peering of gateways has two ends. An end that the manifest does not list has the
        // default table.
        let default = routings.number(DEFAULT_TABLE, &[DEFAULT_TABLE], true);
        for (at, peer) in &ends {
            if !ends.contains(&(*peer, *at)) {
                gateways[*peer].peers.entry(*at).or_default().push(default);
            }
        }
        for (gateway, routing) in starts {
            let reach = self.walk(&gateways, &routings, (gateway, routing), false);
            let dns_reach = self.walk(&gateways, &routings, (gateway, routing), true);
            self.reach.push(reach);
            self.dns_reach.push(dns_reach);
        }
    }

    /// The classes that an attachment to a gateway with this routing reaches, also across peered
    /// gateways. Empty if there are too many steps.
    fn walk(&mut self, gateways: &[Gateway], routings: &Routings, start: (usize, usize), dns_only: bool) -> Vec<usize> {
        let (mut reached, mut seen, mut queue) = (Vec::new(), HashSet::new(), VecDeque::new());
        let is_usable = |routing: usize| !dns_only || routings.all[routing].dns_support;
        if is_usable(start.1) {
            queue.push_back((start, None));
        }
        while let Some(((at, entry), came_from)) = queue.pop_front() {
            if self.has_too_many_steps() {
                return Vec::new();
            }
            if !seen.insert((at, entry)) {
                continue;
            }
            let gateway = &gateways[at];
            let is_reached = |other: usize| is_usable(other) && routings.exchange(entry, other);
            for table in routings.all[entry].propagates_to.iter() {
                let associated = gateway.by_table.get(table).map_or(&[][..], |attachments| attachments);
                self.steps += 1 + associated.len();
                reached.extend(associated.iter().filter(|(_, other)| is_reached(*other)).map(|(class, _)| *class));
            }
            for (peer, ends) in gateway.peers.iter().filter(|(peer, _)| Some(**peer) != came_from) {
                self.steps += ends.len();
                if ends.iter().any(|end| is_reached(*end)) {
                    let far_ends = gateways[*peer].peers.get(&at).into_iter().flatten();
                    queue.extend(far_ends.filter(|end| is_usable(**end)).map(|end| ((*peer, *end), Some(at))));
                }
            }
        }
        reached.sort_unstable();
        reached.dedup();
        reached
    }

    /// Whether there are more than [`MAX_STEPS`] steps: then the connections are incomplete.
    pub fn has_too_many_steps(&self) -> bool {
        self.steps > MAX_STEPS
    }

    /// Whether two networks are connected, or are the same network.
    pub fn reaches(&self, a: &Network, b: &Network) -> bool {
        a == b || self.is_connected(a, b, &self.reach, |_| true)
    }

    /// Whether `a` resolves the autodefined names of `b`: both are the same network, or a
    /// connection allows it.
    pub fn resolves_names_of(&self, a: &Network, b: &Network) -> bool {
        a == b || self.is_connected(a, b, &self.dns_reach, |dns| dns)
    }

    fn is_connected(&self, a: &Network, b: &Network, reach: &[Vec<usize>], direct: impl Fn(bool) -> bool) -> bool {
        let (Some(from), Some(to)) = (self.nodes.get(a), self.nodes.get(b)) else { return false };
        from.direct.get(b).is_some_and(|&dns| direct(dns))
            || from
                .classes
                .iter()
                .any(|&class| to.classes.iter().any(|other| reach[class].binary_search(other).is_ok()))
    }

    /// The networks that are connected to `network`, sorted, without itself.
    pub fn connected_to(&self, network: &Network) -> BTreeSet<&Network> {
        let Some(node) = self.nodes.get(network) else { return BTreeSet::new() };
        let attached = node.classes.iter().flat_map(|&class| &self.reach[class]).flat_map(|&c| &self.members[c]);
        node.direct.keys().chain(attached).filter(|other| *other != network).collect()
    }

    /// The networks that are connected to `network`, some of them several times. `network` can be
    /// among them.
    pub fn reached_by(&self, network: &Network) -> impl Iterator<Item = &Network> {
        let node = self.nodes.get(network).into_iter();
        let attached = node.clone().flat_map(|node| &node.classes).flat_map(|&class| &self.reach[class]);
        node.flat_map(|node| node.direct.keys()).chain(attached.flat_map(|&class| &self.members[class]))
    }

    /// The networks whose autodefined names `network` resolves, some of them several times.
    /// `network` can be among them.
    pub fn networks_named_for(&self, network: &Network) -> impl Iterator<Item = &Network> {
        let node = self.nodes.get(network).into_iter();
        let attached = node.clone().flat_map(|node| &node.classes).flat_map(|&class| &self.dns_reach[class]);
        let direct = node.flat_map(|node| &node.direct).filter(|(_, dns)| **dns).map(|(other, _)| other);
        direct.chain(attached.flat_map(|&class| &self.members[class]))
    }

    /// The key of the networks that `network` reaches: two networks with equal keys reach the same
    /// networks, apart from themselves.
    pub fn reach_key(&self, network: &Network) -> ReachKey<'_> {
        let Some(node) = self.nodes.get(network) else { return (Vec::new(), Vec::new()) };
        (node.direct.keys().collect(), node.classes.iter().copied().collect())
    }

    /// The key of the networks whose autodefined names `network` resolves: two networks with equal
    /// keys resolve the names of the same networks, apart from themselves.
    pub fn names_key(&self, network: &Network) -> NamesKey<'_> {
        let Some(node) = self.nodes.get(network) else { return (Vec::new(), Vec::new()) };
        let direct = node.direct.iter().filter(|(_, dns)| **dns).map(|(other, _)| other);
        (direct.collect(), node.classes.iter().copied().collect())
    }
}

/// The direct connections and classes of a network.
pub type ReachKey<'a> = (Vec<&'a Network>, Vec<usize>);

/// The direct connections that resolve names, and the classes of a network.
pub type NamesKey<'a> = (Vec<&'a Network>, Vec<usize>);

#[cfg(test)]
mod tests {
    use super::*;

    fn vpc(id: &str) -> Network {
        Network::Vpc(id.into())
    }

    fn manifest(json: &str) -> Manifest {
        let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
        for id in ["a", "b", "c", "d"] {
            value["vpcs"][id] = serde_json::json!({"region": "us-east-1", "cidr_blocks": []});
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn peering_is_not_transitive() {
        let c = Connectivity::new(&manifest(
            r#"{"vpc_peering_connections": {
                "ab": {"vpc_ids": ["a", "b"], "allow_remote_vpc_dns_resolution": true},
                "bc": {"vpc_ids": ["b", "c"]},
                "cd": {"vpc_ids": ["c", "d"], "status": "deleted"}}}"#,
        ));
        assert!(c.reaches(&vpc("a"), &vpc("b")) && c.reaches(&vpc("b"), &vpc("a")));
        assert!(!c.reaches(&vpc("a"), &vpc("c")) && !c.reaches(&vpc("c"), &vpc("d")));
        assert!(c.resolves_names_of(&vpc("a"), &vpc("b")) && !c.resolves_names_of(&vpc("b"), &vpc("c")));
        assert_eq!(c.connected_to(&vpc("b")).into_iter().collect::<Vec<_>>(), [&vpc("a"), &vpc("c")]);
    }

    #[test]
    fn route_tables_restrict_connections() {
        let c = Connectivity::new(&manifest(
            r#"{"transit_gateways": {"t": {"attachments": [
                {"vpc_id": "a", "route_table": "spokes", "propagates_to": ["shared"]},
                {"vpc_id": "b", "route_table": "spokes", "propagates_to": ["shared"]},
                {"vpc_id": "c", "route_table": "shared", "propagates_to": ["spokes"]},
                {"vpc_id": "d"}]}}}"#,
        ));
        assert!(c.reaches(&vpc("a"), &vpc("c")) && c.reaches(&vpc("c"), &vpc("b")));
        assert!(!c.reaches(&vpc("a"), &vpc("b")) && !c.reaches(&vpc("a"), &vpc("d")));
    }

    #[test]
    fn networks_reach_each_other_across_peered_gateways() {
        let c = Connectivity::new(&manifest(
            r#"{"on_premises_networks": {"dc": {}},
                "transit_gateways": {
                "t": {"attachments": [{"vpc_id": "a"}, {"vpc_id": "b", "dns_support": false}, {"transit_gateway_id": "u"}]},
                "u": {"attachments": [{"vpc_id": "c"}, {"transit_gateway_id": "v"}, {"on_premises_network_id": "dc"}]},
                "v": {"attachments": [{"vpc_id": "d", "route_table": "lonely", "propagates_to": []}]}}}"#,
        ));
        assert!(c.reaches(&vpc("a"), &vpc("b")) && c.reaches(&vpc("a"), &vpc("c")) && c.reaches(&vpc("c"), &vpc("a")));
        assert!(c.reaches(&vpc("a"), &Network::OnPremises("dc".into())));
        assert!(c.resolves_names_of(&vpc("a"), &vpc("c")) && !c.resolves_names_of(&vpc("a"), &vpc("b")));
        assert!(!c.reaches(&vpc("a"), &vpc("d")) && !c.reaches(&vpc("d"), &vpc("d ")));
    }

    /// A manifest of gateways with these attachments.
    fn gateways(all: impl Iterator<Item = Vec<serde_json::Value>>) -> Manifest {
        let gateways: serde_json::Map<String, serde_json::Value> = all
            .enumerate()
            .map(|(at, attachments)| (format!("t{at:05}"), serde_json::json!({"attachments": attachments})))
            .collect();
        manifest(&serde_json::json!({"transit_gateways": gateways}).to_string())
    }

    #[test]
    fn work_for_gateways_around_a_hub_is_linear() {
        // Each gateway has a route table that no other gateway propagates to.
        let steps = |number: usize| {
            let hub = vec![serde_json::json!({"vpc_id": "a", "propagates_to": []})];
            let spoke = |at: usize| {
                let table = format!("r{at}");
                vec![
                    serde_json::json!({"transit_gateway_id": "t00000"}),
                    serde_json::json!({"vpc_id": "b", "route_table": table, "propagates_to": [table]}),
                ]
            };
            let c = Connectivity::new(&gateways([hub].into_iter().chain((1..number).map(spoke))));
            assert!(!c.reaches(&vpc("a"), &vpc("b")));
            c.steps
        };
        assert!(steps(4000) < 5 * steps(1000), "{} {}", steps(4000), steps(1000));
    }

    #[test]
    fn stops_at_the_largest_number_of_steps() {
        let chain = |number: usize| {
            let next = |at: usize| serde_json::json!({"transit_gateway_id": format!("t{:05}", at + 1)});
            Connectivity::new(&gateways((0..number).map(|at| vec![serde_json::json!({"vpc_id": "a"}), next(at)])))
        };
        assert!(!chain(500).has_too_many_steps());
        // One gateway, whose attachments propagate to all tables.
        let tables: Vec<String> = (0..1500).map(|number| format!("r{number}")).collect();
        let one = serde_json::json!({"vpc_id": "a", "propagates_to": tables});
        let mut manifest = gateways([vec![one]].into_iter());
        let mut gateway = (**manifest.transit_gateways.get("t00000").unwrap()).clone();
        let one = gateway.attachments.remove(0);
        let attach = |table: String| Attachment { route_table: Some(table), ..one.clone() };
        gateway.attachments = tables.into_iter().map(attach).collect();
        manifest.transit_gateways.insert("t00000".into(), Arc::new(gateway));
        let all_to_all = Connectivity::new(&manifest);
        for c in [chain(1500), all_to_all] {
            assert!(c.has_too_many_steps() && c.steps < MAX_STEPS + 10_000, "{}", c.steps);
        }
    }
}
