//! Who asks: entry points, prefixes, and the networks that stand behind them.

use super::{
    endpoints::{Az, Azs},
    forwarders::Forwarders,
};
use crate::manifest::{
    Direction, Id, Manifest, Protocol, Vpc,
    connectivity::{Connectivity, Network, ReachKey},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// How many pairs of a block and a network that holds it there may be. Networks that share a wide block, and have other
/// blocks within it, make a pair for each of these.
pub const MAX_HOLDERS: usize = 5_000_000;

/// A network: its place in the list of all.
pub type NetworkAt = u32;

/// A network whose addresses hold an address, and the subnet that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The network.
    pub network: NetworkAt,
    /// The subnet, if it is in one: an index into [`Networks::subnets`].
    pub subnet: Option<u32>,
}

/// A network of the manifest.
#[derive(Debug)]
pub struct NetworkInfo {
    /// Which one it is.
    pub network: Network,
    /// The VPC, if it is one.
    pub vpc: Option<Arc<Vpc>>,
    /// The AZ of an on-premises network.
    pub az: Option<Az>,
}

/// A subnet of the manifest.
#[derive(Debug)]
pub struct SubnetInfo {
    /// Its identifier.
    pub id: Id,
    /// Where it is.
    pub az: Az,
    /// Its addresses.
    pub blocks: Box<[IpNet]>,
    /// AAAA records are made of A records for its clients.
    pub dns64: bool,
}

/// By which way a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// From inside a VPC.
    InVpc,
    /// Through an inbound Resolver endpoint.
    Inbound,
    /// Through an inbound delegation endpoint.
    InboundDelegation,
}

impl Path {
    /// Its word in `whoami.zonal.`
    pub fn word(self) -> &'static str {
        match self {
            Path::InVpc => "in-vpc",
            Path::Inbound => "inbound-endpoint",
            Path::InboundDelegation => "inbound-delegation-endpoint",
        }
    }
}

/// A local address that queries arrive on, and what that says of them.
#[derive(Debug)]
pub struct EntryPoint {
    /// The VPC or Resolver endpoint that it belongs to.
    pub id: Id,
    /// By which way those come who ask here.
    pub path: Path,
    /// The VPC that it is in.
    pub vpc: NetworkAt,
    /// The AZ of the address, for those who have none.
    pub az: Option<Az>,
    /// Whom it lets in, in as few blocks as can be; none: those of `neighbours`.
    pub allowed: Option<Vec<IpNet>>,
    /// Its place in the list of labels, the same in all later snapshots; none for a VPC's own entry point.
    pub slot: Option<u32>,
    /// Which protocols an inbound one takes.
    protocols: Vec<Protocol>,
    /// The networks connected to its VPC; that itself can be among them or not.
    neighbours: Arc<HashSet<NetworkAt>>,
}

impl EntryPoint {
    /// Whether a network is that of its VPC, or connected to it.
    #[inline]
    fn is_near(&self, network: NetworkAt) -> bool {
        network == self.vpc || self.neighbours.contains(&network)
    }
}

/// The networks that are connected to others, by what decides it: all with equal routing share one set.
struct Neighbours<'a> {
    connectivity: &'a Connectivity,
    known: HashMap<ReachKey<'a>, Arc<HashSet<NetworkAt>>>,
}

impl<'a> Neighbours<'a> {
    fn of(&mut self, networks: &Networks, network: NetworkAt) -> Arc<HashSet<NetworkAt>> {
        let network = &networks.info(network).network;
        let reached = || self.connectivity.reached_by(network).filter_map(|other| networks.at(other)).collect();
        let key = self.connectivity.reach_key(network);
        self.known.entry(key).or_insert_with(|| Arc::new(reached())).clone()
    }
}

/// All networks, and how they are connected.
pub struct Networks {
    /// What connects them.
    pub connectivity: Connectivity,
    /// All networks, by [`NetworkAt`].
    pub list: Vec<NetworkInfo>,
    /// All subnets.
    pub subnets: Vec<SubnetInfo>,
    at: HashMap<Network, NetworkAt>,
    vpcs: HashMap<Id, NetworkAt>,
    v4: PrefixMap<Ipv4Net, Box<[Member]>>,
    v6: PrefixMap<Ipv6Net, Box<[Member]>>,
    /// How many members all prefixes have together.
    holders: usize,
    /// The entry points, by address.
    pub entry_points: HashMap<IpAddr, EntryPoint>,
    /// Labels by slot, of all addresses of inbound endpoints that there ever were: the endpoint, and the address.
    pub entry_point_labels: Arc<Vec<(Id, IpAddr)>>,
    /// Those who may speak for others.
    pub forwarders: Forwarders,
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its address is in no network that may ask here.
    Stranger,
    /// Its address is in several VPCs, and the entry point does not tell them apart.
    Ambiguous,
    /// `enable_dns_support` is false.
    DnsDisabled,
    /// The entry point does not take this transport.
    Transport,
    /// The forwarder may not speak for this client.
    NotSpokenFor,
    /// The prefix that the forwarder tells is of more than one network.
    Wide,
    /// The PROXY header is missing or wrong.
    Header,
    /// The PROXY header names a VPC endpoint that is not known.
    Endpoint,
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct Found<'n> {
    /// The entry point that was asked; none if the address asked is no entry point.
    pub entry_point: Option<&'n EntryPoint>,
    /// The client's own network, if it is known.
    pub network: Option<NetworkAt>,
    /// The VPC whose view applies.
    pub vpc: NetworkAt,
    /// By which way the client comes.
    pub path: Path,
    /// The client's AZ, if it is known.
    pub az: Option<Az>,
    /// The client's subnet, if it is in one: an index into [`Networks::subnets`].
    pub subnet: Option<u32>,
}

impl Networks {
    /// Compiles the networks of a manifest. Entry points keep the slots that they have among `labels`.
    pub fn compile(manifest: &Manifest, azs: &mut Azs, labels: &[(Id, IpAddr)]) -> Networks {
        let mut this = Networks {
            connectivity: Connectivity::new(manifest),
            list: Vec::new(),
            subnets: Vec::new(),
            at: HashMap::new(),
            vpcs: HashMap::new(),
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
            holders: 0,
            entry_points: HashMap::new(),
            entry_point_labels: Arc::default(),
            forwarders: Forwarders::default(),
        };
        let mut prefixes: Vec<(IpNet, Member)> = Vec::new();
        for (id, vpc) in &manifest.vpcs {
            let network = this.add(Network::Vpc(id.clone()), Some(vpc.clone()), None);
            this.vpcs.insert(id.clone(), network);
            prefixes.extend(vpc.cidr_blocks.iter().map(|block| (*block, Member { network, subnet: None })));
            for (id, subnet) in &vpc.subnets {
                let at = this.subnets.len() as u32;
                this.subnets.push(SubnetInfo {
                    id: id.clone(),
                    az: azs.number(&subnet.availability_zone_id),
                    blocks: subnet.cidr_blocks.iter().map(IpNet::trunc).collect(),
                    dns64: subnet.enable_dns64,
                });
                let member = Member { network, subnet: Some(at) };
                prefixes.extend(subnet.cidr_blocks.iter().map(|block| (*block, member)));
            }
        }
        for (id, network) in &manifest.on_premises_networks {
            let az = network.availability_zone_id.as_ref().map(|az| azs.number(az));
            let at = this.add(Network::OnPremises(id.clone()), None, az);
            prefixes.extend(network.cidr_blocks.iter().map(|block| (*block, Member { network: at, subnet: None })));
        }
        this.index(prefixes);
        let mut labels = labels.to_vec();
        this.entry_points = this.entry_points(manifest, azs, &mut labels);
        this.entry_point_labels = Arc::new(labels);
        this.forwarders = Forwarders::compile(manifest, &this);
        this
    }

    fn add(&mut self, network: Network, vpc: Option<Arc<Vpc>>, az: Option<Az>) -> NetworkAt {
        let at = self.list.len() as NetworkAt;
        self.at.insert(network.clone(), at);
        self.list.push(NetworkInfo { network, vpc, az });
        at
    }

    /// Puts at each prefix all that hold it, those with the longest prefix first: one look-up then tells everything.
    fn index(&mut self, mut prefixes: Vec<(IpNet, Member)>) {
        prefixes.iter_mut().for_each(|(block, _)| *block = block.trunc());
        prefixes.sort_by_key(|(block, member)| (*block, member.subnet.is_some()));
        let mut above: Vec<(IpNet, Box<[Member]>)> = Vec::new();
        for group in prefixes.chunk_by(|(one, _), (other, _)| one == other) {
            let block = group[0].0;
            while above.last().is_some_and(|(wider, _)| !wider.contains(&block)) {
                above.pop();
            }
            let members = holders(above.last().map_or(&[][..], |(_, members)| &members[..]), group);
            self.holders += members.len();
            if self.has_too_many_holders() {
                return;
            }
            match block {
                IpNet::V4(block) => drop(self.v4.insert(block, members.clone())),
                IpNet::V6(block) => drop(self.v6.insert(block, members.clone())),
            }
            above.push((block, members));
        }
    }

    /// Whether there are more than [`MAX_HOLDERS`] pairs of a block and a network: then not all blocks are there.
    pub fn has_too_many_holders(&self) -> bool {
        self.holders > MAX_HOLDERS
    }

    /// The networks that have addresses in one of these blocks, in order.
    pub fn overlapping(&self, blocks: &[IpNet]) -> BTreeSet<NetworkAt> {
        let mut found = BTreeSet::new();
        for block in blocks.iter().map(IpNet::trunc) {
            if found.len() == self.list.len() {
                break;
            }
            // Who holds all of the block stands at the narrowest prefix around it; all others have a block within it.
            let (around, within): (_, Vec<&[Member]>) = match block {
                IpNet::V4(block) => (
                    self.v4.get_lpm(&block).map(|(_, members)| members),
                    self.v4.children(&block).map(|(_, members)| &**members).collect(),
                ),
                IpNet::V6(block) => (
                    self.v6.get_lpm(&block).map(|(_, members)| members),
                    self.v6.children(&block).map(|(_, members)| &**members).collect(),
                ),
            };
            let members = around.into_iter().map(|members| &**members).chain(within).flatten();
            found.extend(members.map(|member| member.network));
        }
        found
    }

    fn entry_points(
        &self,
        manifest: &Manifest,
        azs: &mut Azs,
        labels: &mut Vec<(Id, IpAddr)>,
    ) -> HashMap<IpAddr, EntryPoint> {
        let mut entry_points = HashMap::new();
        let mut slots: HashMap<(Id, IpAddr), u32> = labels.iter().cloned().zip(0..).collect();
        let mut neighbours = Neighbours { connectivity: &self.connectivity, known: HashMap::new() };
        for (id, vpc) in &manifest.vpcs {
            let Some(network) = self.vpc_at(id) else { continue };
            for address in &vpc.resolver_addresses {
                let (id, path, neighbours) = (id.clone(), Path::InVpc, neighbours.of(self, network));
                let (allowed, protocols) = (None, Vec::new());
                let entry_point =
                    EntryPoint { id, path, vpc: network, az: None, allowed, slot: None, protocols, neighbours };
                entry_points.insert(*address, entry_point);
            }
        }
        for (id, endpoint) in &manifest.resolver_endpoints {
            let path = match endpoint.direction {
                Direction::Inbound => Path::Inbound,
                Direction::InboundDelegation => Path::InboundDelegation,
                Direction::Outbound => continue,
            };
            let Some(vpc) = self.vpc_at(&endpoint.vpc_id) else { continue };
            let allowed = &endpoint.allowed_cidr_blocks;
            for address in &endpoint.ip_addresses {
                let slot = *slots.entry((id.clone(), address.ip)).or_insert_with_key(|label| {
                    labels.push(label.clone());
                    labels.len() as u32 - 1
                });
                let entry_point = EntryPoint {
                    id: id.clone(),
                    path,
                    vpc,
                    az: address.availability_zone_id.as_ref().map(|az| azs.number(az)),
                    allowed: (!allowed.is_empty()).then(|| IpNet::aggregate(allowed)),
                    slot: Some(slot),
                    protocols: endpoint.protocols.clone(),
                    neighbours: neighbours.of(self, vpc),
                };
                entry_points.insert(address.ip, entry_point);
            }
        }
        entry_points
    }

    /// The network's place in the list.
    pub fn at(&self, network: &Network) -> Option<NetworkAt> {
        self.at.get(network).copied()
    }

    /// The place of a VPC in the list.
    pub fn vpc_at(&self, id: &str) -> Option<NetworkAt> {
        self.vpcs.get(id).copied()
    }

    /// The network.
    pub fn info(&self, at: NetworkAt) -> &NetworkInfo {
        &self.list[at as usize]
    }

    /// The VPC of a network that is one.
    pub fn vpc(&self, at: NetworkAt) -> Option<&Vpc> {
        self.info(at).vpc.as_deref()
    }

    /// All networks that hold an address, those with the longest prefix first.
    #[inline]
    pub fn holding(&self, address: IpAddr) -> &[Member] {
        let found = match address {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, members)| members),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, members)| members),
        };
        found.map_or(&[], |members| &**members)
    }

    /// All prefixes, each with the networks that hold it, those with the longest prefix first.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, &[Member])> {
        let v4 = self.v4.iter().map(|(block, members)| (IpNet::V4(block), &**members));
        v4.chain(self.v6.iter().map(|(block, members)| (IpNet::V6(block), &**members)))
    }

    /// Finds out who asks (docs/concepts/who-asks.md).
    #[inline]
    pub fn identify(&self, source: IpAddr, local: IpAddr, protocol: Protocol) -> Result<Found<'_>, Refusal> {
        self.at_entry_point(self.entry_points.get(&local), self.holding(source), protocol, |block| {
            block.contains(&source)
        })
    }

    /// Finds out who asks at an entry point from an address that `members` hold, and that `is_in` tells of a block whether it
    /// is in.
    #[inline]
    pub fn at_entry_point<'n>(
        &'n self,
        entry_point: Option<&'n EntryPoint>,
        members: &[Member],
        protocol: Protocol,
        is_in: impl Fn(&IpNet) -> bool,
    ) -> Result<Found<'n>, Refusal> {
        let found = match entry_point {
            None => self.without_entry_point(members)?,
            Some(entry_point) if entry_point.path == Path::InVpc => {
                self.through_vpc_entry_point(entry_point, members)?
            }
            Some(entry_point) => self.through_inbound_entry_point(entry_point, members, protocol, is_in)?,
        };
        match self.vpc(found.vpc) {
            Some(vpc) if found.path == Path::InVpc && !vpc.enable_dns_support => Err(Refusal::DnsDisabled),
            _ => Ok(found),
        }
    }

    fn in_vpc<'n>(&self, entry_point: Option<&'n EntryPoint>, member: Member) -> Found<'n> {
        Found {
            entry_point,
            network: Some(member.network),
            vpc: member.network,
            path: Path::InVpc,
            az: member.subnet.map(|subnet| self.subnets[subnet as usize].az),
            subnet: member.subnet,
        }
    }

    fn without_entry_point(&self, members: &[Member]) -> Result<Found<'_>, Refusal> {
        let mut vpcs = members.iter().filter(|member| self.vpc(member.network).is_some());
        match (vpcs.next(), vpcs.next()) {
            (Some(member), None) => Ok(self.in_vpc(None, *member)),
            (Some(_), Some(_)) => Err(Refusal::Ambiguous),
            (None, _) => Err(Refusal::Stranger),
        }
    }

    fn through_vpc_entry_point<'n>(
        &self,
        entry_point: &'n EntryPoint,
        members: &[Member],
    ) -> Result<Found<'n>, Refusal> {
        if self.vpc(entry_point.vpc).is_some_and(|vpc| !vpc.enable_dns_support) {
            return Err(Refusal::DnsDisabled);
        }
        let may = |member: &&Member| self.vpc(member.network).is_some() && entry_point.is_near(member.network);
        // The entry point's own VPC first: an address that is in it is no neighbour's.
        let own = members.iter().find(|member| member.network == entry_point.vpc);
        let member = own.or_else(|| members.iter().find(may)).ok_or(Refusal::Stranger)?;
        Ok(self.in_vpc(Some(entry_point), *member))
    }

    fn through_inbound_entry_point<'n>(
        &self,
        entry_point: &'n EntryPoint,
        members: &[Member],
        protocol: Protocol,
        is_in: impl Fn(&IpNet) -> bool,
    ) -> Result<Found<'n>, Refusal> {
        let known = members.iter().find(|member| entry_point.is_near(member.network));
        let is_allowed = match &entry_point.allowed {
            Some(blocks) => blocks.iter().any(is_in),
            None => known.is_some(),
        };
        if !is_allowed {
            return Err(Refusal::Stranger);
        }
        // A network that is let in without a connection is itself, too, if it is the only one that holds the address.
        let known = known.or(match members {
            [only] => Some(only),
            _ => None,
        });
        if !entry_point.protocols.contains(&protocol) {
            return Err(Refusal::Transport);
        }
        let subnet = known.and_then(|member| member.subnet);
        let az = subnet
            .map(|subnet| self.subnets[subnet as usize].az)
            .or_else(|| known.and_then(|member| self.info(member.network).az))
            .or(entry_point.az);
        let network = known.map(|member| member.network);
        Ok(Found { entry_point: Some(entry_point), network, vpc: entry_point.vpc, path: entry_point.path, az, subnet })
    }
}

/// The networks that hold a block: those whose own it is, the last one first, and behind them those of the wider block around
/// it. A subnet's entry stands for its VPC's wider one, and stays within a narrower block of that.
fn holders(wider: &[Member], own: &[(IpNet, Member)]) -> Box<[Member]> {
    let mut subnets: HashMap<NetworkAt, Option<u32>> =
        wider.iter().map(|member| (member.network, member.subnet)).collect();
    for (_, member) in own {
        let subnet = subnets.entry(member.network).or_default();
        *subnet = member.subnet.or(*subnet);
    }
    let own = own.iter().rev().map(|(_, member)| member.network);
    let all = own.chain(wider.iter().map(|member| member.network));
    all.filter_map(|network| Some(Member { network, subnet: subnets.remove(&network)? })).collect()
}

/// A client's network, as views are told apart by it: which VPC's view, by which path, for whom.
pub type ViewKey = (NetworkAt, Path, Option<NetworkAt>);

impl Found<'_> {
    /// Which view applies.
    pub fn view(&self) -> ViewKey {
        match self.path {
            Path::InVpc => (self.vpc, self.path, None),
            _ => (self.vpc, self.path, self.network),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// VPCs with these blocks, each with a subnet that has the last one of them.
    fn networks(blocks: impl Iterator<Item = Vec<String>>) -> Networks {
        let vpcs = blocks.enumerate().map(|(at, blocks)| {
            let subnet =
                json!({"availability_zone_id": "az", "cidr_blocks": blocks.last().into_iter().collect::<Vec<_>>()});
            (format!("v{at:06}"), json!({"region": "r", "cidr_blocks": blocks, "subnets": {"s": subnet}}))
        });
        let manifest = json!({"vpcs": vpcs.collect::<serde_json::Map<_, _>>()});
        Networks::compile(&serde_json::from_value(manifest).unwrap(), &mut Azs::default(), &[])
    }

    fn nested(at: usize) -> Vec<String> {
        vec!["10.0.0.0/8".into(), format!("10.{}.{}.0/24", at / 256, at % 256)]
    }

    #[test]
    fn a_network_with_the_same_block_as_others_costs_one_member() {
        let number = 50_000;
        let networks = networks((0..number).map(|_| vec!["10.0.0.0/8".into()]));
        assert_eq!((networks.holders, networks.has_too_many_holders()), (number, false));
        let members = networks.holding([10, 1, 2, 3].into());
        let last_first = (0..number as u32).rev().map(|at| Member { network: at, subnet: Some(at) });
        assert!(members.iter().copied().eq(last_first));
    }

    #[test]
    fn a_block_within_one_that_many_networks_have_has_all_of_them() {
        let few = networks((0..100).map(nested));
        assert_eq!((few.holders, few.has_too_many_holders()), (100 + 100 * 100, false));
        let members = few.holding([10, 0, 7, 1].into());
        assert_eq!((members.len(), members[0]), (100, Member { network: 7, subnet: Some(7) }));
        assert!(members[1..].iter().all(|member| member.network != 7 && member.subnet.is_none()));
        // What is built ends at the bound.
        let many = networks((0..3_000).map(nested));
        assert!(many.has_too_many_holders() && many.holders <= MAX_HOLDERS + 3_000, "{}", many.holders);
    }

    #[test]
    fn networks_that_have_addresses_in_blocks_are_found() {
        let networks = networks((0..4).map(|at| vec![format!("10.{at}.0.0/16"), format!("fd00:{at}::/32")]));
        for (blocks, expected) in [
            (&["10.0.0.0/8"][..], &[0, 1, 2, 3][..]),
            (&["10.2.0.0/16"], &[2]),
            (&["10.2.7.9/24"], &[2]),
            (&["10.2.0.0/15", "10.0.0.1/32"], &[0, 2, 3]),
            (&["fd00:1::/33", "fd00:3::/16"], &[0, 1, 2, 3]),
            (&["fd00:1::/33", "11.0.0.0/8"], &[1]),
            (&[], &[]),
        ] {
            let blocks: Vec<IpNet> = blocks.iter().map(|block| block.parse().unwrap()).collect();
            assert!(networks.overlapping(&blocks).iter().eq(expected), "{blocks:?}");
        }
    }
}
