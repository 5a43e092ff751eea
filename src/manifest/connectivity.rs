//! Which networks reach which: peering, Transit Gateways, Direct Connect and VPN.
//!
//! A hub may have thousands of attachments, so no list of pairs is ever made: attachments with equal routing are one
//! class, and what is computed is which class reaches which.

use super::types::{Attachment, Id, Manifest, PeeringStatus};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// A network that clients are in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// A VPC, by its ID.
    Vpc(Id),
    /// An on-premises network, by its name in the manifest.
    OnPremises(Id),
}

impl Network {
    /// The network's identifier.
    pub fn id(&self) -> &str {
        let (Network::Vpc(id) | Network::OnPremises(id)) = self;
        id
    }
}

/// What connects the networks of a manifest.
#[derive(Debug, Default)]
pub struct Connectivity {
    nodes: HashMap<Network, Node>,
    /// Which classes each class reaches.
    reach: Vec<BTreeSet<usize>>,
    /// The same, over attachments with DNS support only.
    dns_reach: Vec<BTreeSet<usize>>,
    /// The networks in each class.
    members: Vec<Vec<Network>>,
}

#[derive(Debug, Default)]
struct Node {
    /// Straight connections, and whether they allow names of the other side.
    straight: BTreeMap<Network, bool>,
    /// The classes that its attachments belong to.
    classes: BTreeSet<usize>,
}

/// The routing of an attachment: where its table is looked up, and which tables its routes go to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Routing<'a> {
    table: &'a str,
    propagates_to: BTreeSet<&'a str>,
    dns_support: bool,
}

/// The table of attachments that name none.
const DEFAULT_TABLE: &str = "";

impl<'a> Routing<'a> {
    fn of(attachment: &'a Attachment) -> Routing<'a> {
        Routing {
            table: attachment.route_table.as_deref().unwrap_or(DEFAULT_TABLE),
            propagates_to: match &attachment.propagates_to {
                Some(tables) => tables.iter().map(String::as_str).collect(),
                None => [DEFAULT_TABLE].into(),
            },
            dns_support: attachment.dns_support,
        }
    }

    fn default_table() -> Routing<'a> {
        Routing { table: DEFAULT_TABLE, propagates_to: [DEFAULT_TABLE].into(), dns_support: true }
    }

    /// Each side's table gets the other side's routes.
    fn exchanges_with(&self, other: &Routing) -> bool {
        self.propagates_to.contains(other.table) && other.propagates_to.contains(self.table)
    }
}

/// A gateway, seen from inside.
#[derive(Default)]
struct Gateway<'a> {
    /// The classes of its attached networks.
    classes: BTreeMap<Routing<'a>, usize>,
    /// The gateways peered with it, and the routing of its own end of that attachment.
    peers: Vec<(&'a str, Routing<'a>)>,
}

impl Connectivity {
    /// Reads the connections out of a manifest. What refers to nothing connects nothing.
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
                    *node.straight.entry(to.clone()).or_default() |= dns;
                }
            }
        }
    }

    fn attach(&mut self, manifest: &Manifest) {
        let mut gateways: BTreeMap<&str, Gateway> =
            manifest.transit_gateways.keys().map(|id| (id.as_str(), Gateway::default())).collect();
        let mut starts = Vec::new();
        for (id, gateway) in &manifest.transit_gateways {
            for attachment in &gateway.attachments {
                let routing = Routing::of(attachment);
                if let Some(peer) = &attachment.transit_gateway_id {
                    if peer != id && gateways.contains_key(peer.as_str()) {
                        gateways.entry(id).or_default().peers.push((peer, routing));
                    }
                    continue;
                }
                let network = match (&attachment.vpc_id, &attachment.on_premises_network_id) {
                    (Some(vpc), None) => Network::Vpc(vpc.clone()),
                    (None, Some(network)) => Network::OnPremises(network.clone()),
                    _ => continue,
                };
                let Some(node) = self.nodes.get_mut(&network) else { continue };
                let class = *gateways.entry(id).or_default().classes.entry(routing.clone()).or_insert_with(|| {
                    starts.push((id.as_str(), routing));
                    self.members.push(Vec::new());
                    starts.len() - 1
                });
                if node.classes.insert(class) {
                    self.members[class].push(network);
                }
            }
        }
        // A peering is one thing with two ends: an end that is not listed has the default table.
        let ends: Vec<(&str, &str)> =
            gateways.iter().flat_map(|(id, gateway)| gateway.peers.iter().map(|(peer, _)| (*id, *peer))).collect();
        for (id, peer) in ends {
            if let Some(other) = gateways.get_mut(peer)
                && !other.peers.iter().any(|(back, _)| *back == id)
            {
                other.peers.push((id, Routing::default_table()));
            }
        }
        for (gateway, routing) in starts {
            self.reach.push(walk(&gateways, gateway, &routing, false));
            self.dns_reach.push(walk(&gateways, gateway, &routing, true));
        }
    }

    /// Whether two networks are connected, or the same.
    pub fn reaches(&self, a: &Network, b: &Network) -> bool {
        a == b || self.is_connected(a, b, &self.reach, |_| true)
    }

    /// Whether `a` may resolve autodefined names of `b`: the same network, or a connection that allows it.
    pub fn allows_names(&self, a: &Network, b: &Network) -> bool {
        a == b || self.is_connected(a, b, &self.dns_reach, |dns| dns)
    }

    fn is_connected(
        &self,
        a: &Network,
        b: &Network,
        reach: &[BTreeSet<usize>],
        straight: impl Fn(bool) -> bool,
    ) -> bool {
        let (Some(from), Some(to)) = (self.nodes.get(a), self.nodes.get(b)) else { return false };
        from.straight.get(b).is_some_and(|&dns| straight(dns))
            || from.classes.iter().any(|&class| to.classes.iter().any(|other| reach[class].contains(other)))
    }

    /// All networks that are connected to `network`, in order, itself left out.
    pub fn connected_to(&self, network: &Network) -> BTreeSet<&Network> {
        let Some(node) = self.nodes.get(network) else { return BTreeSet::new() };
        let attached = node.classes.iter().flat_map(|&class| &self.reach[class]).flat_map(|&c| &self.members[c]);
        node.straight.keys().chain(attached).filter(|other| *other != network).collect()
    }

    /// All networks that are connected to `network`, some of them more than once; itself can be among them.
    pub fn reached_by(&self, network: &Network) -> impl Iterator<Item = &Network> {
        let node = self.nodes.get(network).into_iter();
        let attached = node.clone().flat_map(|node| &node.classes).flat_map(|&class| &self.reach[class]);
        node.flat_map(|node| node.straight.keys()).chain(attached.flat_map(|&class| &self.members[class]))
    }

    /// All networks whose autodefined names `network` may resolve, some of them more than once; itself can be among them.
    pub fn named_by(&self, network: &Network) -> impl Iterator<Item = &Network> {
        let node = self.nodes.get(network).into_iter();
        let attached = node.clone().flat_map(|node| &node.classes).flat_map(|&class| &self.dns_reach[class]);
        let straight = node.flat_map(|node| &node.straight).filter(|(_, dns)| **dns).map(|(other, _)| other);
        straight.chain(attached.flat_map(|&class| &self.members[class]))
    }

    /// What decides which networks `network` reaches, itself aside: equal keys of two networks mean equal reach.
    pub fn reach_key(&self, network: &Network) -> ReachKey<'_> {
        let Some(node) = self.nodes.get(network) else { return (Vec::new(), Vec::new()) };
        (node.straight.keys().collect(), node.classes.iter().copied().collect())
    }

    /// The same for the networks whose autodefined names it may resolve.
    pub fn names_key(&self, network: &Network) -> NamesKey<'_> {
        let Some(node) = self.nodes.get(network) else { return (Vec::new(), Vec::new()) };
        let straight = node.straight.iter().filter(|(_, dns)| **dns).map(|(other, _)| other);
        (straight.collect(), node.classes.iter().copied().collect())
    }
}

/// What decides which networks one reaches.
pub type ReachKey<'a> = (Vec<&'a Network>, Vec<usize>);

/// What decides the networks whose names one may resolve.
pub type NamesKey<'a> = (Vec<&'a Network>, Vec<usize>);

/// The classes that an attachment with this routing reaches, across peered gateways too.
fn walk(gateways: &BTreeMap<&str, Gateway>, start: &str, routing: &Routing, dns_only: bool) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let usable = |routing: &Routing| !dns_only || routing.dns_support;
    let mut queue = VecDeque::new();
    if usable(routing) {
        queue.push_back((start, routing.clone(), None));
    }
    while let Some((id, entry, came_from)) = queue.pop_front() {
        if !seen.insert((id, entry.clone())) {
            continue;
        }
        let gateway = &gateways[id];
        let exchanging = |other: &Routing| usable(other) && entry.exchanges_with(other);
        reached.extend(gateway.classes.iter().filter(|(other, _)| exchanging(other)).map(|(_, &class)| class));
        for (peer, _) in gateway.peers.iter().filter(|(peer, end)| Some(*peer) != came_from && exchanging(end)) {
            let far_ends = gateways[peer].peers.iter().filter(|(back, end)| *back == id && usable(end));
            queue.extend(far_ends.map(|(_, far_end)| (*peer, far_end.clone(), Some(id))));
        }
    }
    reached
}

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
        assert!(c.allows_names(&vpc("a"), &vpc("b")) && !c.allows_names(&vpc("b"), &vpc("c")));
        assert_eq!(c.connected_to(&vpc("b")).into_iter().collect::<Vec<_>>(), [&vpc("a"), &vpc("c")]);
    }

    #[test]
    fn route_tables_say_less() {
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
    fn peered_gateways_reach_across() {
        let c = Connectivity::new(&manifest(
            r#"{"on_premises_networks": {"dc": {}},
                "transit_gateways": {
                "t": {"attachments": [{"vpc_id": "a"}, {"vpc_id": "b", "dns_support": false}, {"transit_gateway_id": "u"}]},
                "u": {"attachments": [{"vpc_id": "c"}, {"transit_gateway_id": "v"}, {"on_premises_network_id": "dc"}]},
                "v": {"attachments": [{"vpc_id": "d", "route_table": "lonely", "propagates_to": []}]}}}"#,
        ));
        assert!(c.reaches(&vpc("a"), &vpc("b")) && c.reaches(&vpc("a"), &vpc("c")) && c.reaches(&vpc("c"), &vpc("a")));
        assert!(c.reaches(&vpc("a"), &Network::OnPremises("dc".into())));
        assert!(c.allows_names(&vpc("a"), &vpc("c")) && !c.allows_names(&vpc("a"), &vpc("b")));
        assert!(!c.reaches(&vpc("a"), &vpc("d")) && !c.reaches(&vpc("d"), &vpc("d ")));
    }
}
