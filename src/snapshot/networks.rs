//! The networks: they identify a client by its entry point and source address (docs/concepts/who-asks.md).
//!
//! Clients behind a forwarder are identified in `forwarders`. What a client may see is in its view.

use super::{
    endpoints::{Az, Azs},
    forwarders::Forwarders,
};
use crate::{
    manifest::{
        Direction, Id, Manifest, Protocol, ResolverEndpoint, Vpc,
        connectivity::{Connectivity, Network, ReachKey},
    },
    wire::dns64::{Dns64Prefix, WELL_KNOWN},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

/// The largest number of pairs of a prefix and a network that contains it. A network that shares a wide block with others is in
/// such a pair for each prefix within the block.
pub const MAX_PREFIX_MEMBERS: usize = 5_000_000;

/// A network, as an index into [`Networks::list`].
pub type NetworkAt = u32;

/// A network that contains an address, and the subnet that contains it.
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
    /// Its identifier.
    pub network: Network,
    /// The VPC, if it is one.
    pub vpc: Option<Arc<Vpc>>,
    /// The AZ of an on-premises network, if the manifest gives one.
    pub az: Option<Az>,
    /// The coordinates of an on-premises network, in degrees north and degrees east.
    pub coordinates: Option<(f32, f32)>,
    /// The addresses of the outbound Resolver endpoints of a VPC. Empty for other networks.
    pub outbound: Vec<IpAddr>,
}

/// A subnet of the manifest.
#[derive(Debug)]
pub struct SubnetInfo {
    /// Its identifier.
    pub id: Id,
    /// Its AZ.
    pub az: Az,
    /// Its addresses.
    pub blocks: Box<[IpNet]>,
    /// Its clients get AAAA records that are synthesised from A records.
    pub dns64: bool,
}

/// The path by which a client reaches its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientPath {
    /// From inside a VPC.
    InVpc,
    /// Through an inbound Resolver endpoint.
    Inbound,
    /// Through an inbound delegation endpoint.
    InboundDelegation,
}

impl ClientPath {
    /// Its label in `whoami.zonal.` and in the query log.
    pub fn label(self) -> &'static str {
        match self {
            ClientPath::InVpc => "in-vpc",
            ClientPath::Inbound => "inbound-endpoint",
            ClientPath::InboundDelegation => "inbound-delegation-endpoint",
        }
    }
}

/// An address that decides the network of the clients that query it.
#[derive(Debug)]
pub struct EntryPoint {
    /// The VPC or Resolver endpoint that it belongs to.
    pub id: Id,
    /// The path of its clients.
    pub path: ClientPath,
    /// The VPC that it is in.
    pub vpc: NetworkAt,
    /// The AZ of the address, for clients without an AZ of their own.
    pub az: Option<Az>,
    /// `allowed_cidr_blocks`, merged; none: the VPC and `neighbours` are allowed.
    pub allowed: Option<Vec<IpNet>>,
    /// Its index into [`Networks::entry_point_labels`], the same in all later snapshots; none for a VPC's resolver address.
    pub slot: Option<u32>,
    /// The prefix of AAAA records that its clients get; none if it does not synthesise them.
    dns64: Option<Dns64Prefix>,
    /// The protocols that an inbound endpoint serves.
    protocols: Vec<Protocol>,
    /// The networks connected to its VPC. The VPC itself may be among them.
    neighbours: Arc<HashSet<NetworkAt>>,
}

impl EntryPoint {
    /// Whether a network is its VPC, or connected to it.
    #[inline]
    fn is_near(&self, network: NetworkAt) -> bool {
        network == self.vpc || self.neighbours.contains(&network)
    }
}

/// The neighbours of networks: networks with equal routing share one set.
struct Neighbours<'a> {
    connectivity: &'a Connectivity,
    sets: HashMap<ReachKey<'a>, Arc<HashSet<NetworkAt>>>,
}

impl<'a> Neighbours<'a> {
    fn of(&mut self, networks: &Networks, network: NetworkAt) -> Arc<HashSet<NetworkAt>> {
        let network = &networks.info(network).network;
        let reached = || self.connectivity.reached_by(network).filter_map(|other| networks.at(other)).collect();
        let key = self.connectivity.reach_key(network);
        self.sets.entry(key).or_insert_with(|| Arc::new(reached())).clone()
    }
}

/// All networks and entry points of a manifest.
pub struct Networks {
    /// The connections between them.
    pub connectivity: Connectivity,
    /// All networks, by [`NetworkAt`].
    pub list: Vec<NetworkInfo>,
    /// All subnets.
    pub subnets: Vec<SubnetInfo>,
    at: HashMap<Network, NetworkAt>,
    vpcs: HashMap<Id, NetworkAt>,
    v4: PrefixMap<Ipv4Net, Box<[Member]>>,
    v6: PrefixMap<Ipv6Net, Box<[Member]>>,
    /// The number of members of all prefixes.
    prefix_members: usize,
    /// The entry points, by address.
    pub entry_points: HashMap<IpAddr, EntryPoint>,
    /// Endpoint and address of each inbound endpoint address of this process, by slot; deleted ones keep their slot.
    pub entry_point_labels: Arc<Vec<(Id, IpAddr)>>,
    /// The forwarders.
    pub forwarders: Forwarders,
}

/// The reason why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its address is in no network that is allowed to query this address.
    UnknownNetwork,
    /// Its address is in several VPCs, and it did not query an entry point.
    SeveralNetworks,
    /// `enable_dns_support` is false.
    DnsDisabled,
    /// The entry point does not serve this transport.
    Transport,
    /// The forwarder is not allowed to name this client.
    ClientNotAllowed,
    /// The prefix that the forwarder sent is in more than one network.
    PrefixTooShort,
    /// The PROXY header is missing or malformed.
    BadProxyHeader,
    /// The VPC endpoint in the PROXY header is not in the manifest.
    UnknownVpcEndpoint,
}

/// The network, view and AZ of a client.
#[derive(Clone, Copy)]
pub struct MatchedClient<'n> {
    /// The entry point that was queried; none if the address is not an entry point.
    pub entry_point: Option<&'n EntryPoint>,
    /// The client's own network, if it is known.
    pub network: Option<NetworkAt>,
    /// The VPC whose view applies.
    pub vpc: NetworkAt,
    /// The path of the client.
    pub path: ClientPath,
    /// The client's AZ, if it is known.
    pub az: Option<Az>,
    /// The client's subnet, if it is in one: an index into [`Networks::subnets`].
    pub subnet: Option<u32>,
}

impl Networks {
    /// Compiles the networks of a manifest. Entry points keep the slots that they have in `labels`.
    pub fn compile(manifest: &Manifest, azs: &mut Azs, labels: &[(Id, IpAddr)]) -> Networks {
        let mut this = Networks {
            connectivity: Connectivity::new(manifest),
            list: Vec::new(),
            subnets: Vec::new(),
            at: HashMap::new(),
            vpcs: HashMap::new(),
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
            prefix_members: 0,
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
            this.list[at as usize].coordinates = network.coordinates.map(|place| (place.latitude, place.longitude));
            prefixes.extend(network.cidr_blocks.iter().map(|block| (*block, Member { network: at, subnet: None })));
        }
        for endpoint in manifest.resolver_endpoints.values().filter(|of| of.direction == Direction::Outbound) {
            if let Some(at) = this.vpc_at(&endpoint.vpc_id) {
                this.list[at as usize].outbound.extend(endpoint.ip_addresses.iter().map(|address| address.ip));
            }
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
        self.list.push(NetworkInfo { network, vpc, az, coordinates: None, outbound: Vec::new() });
        at
    }

    /// Stores under each prefix all networks that contain it, the longest prefix first, so that one look-up is enough.
    fn index(&mut self, mut prefixes: Vec<(IpNet, Member)>) {
        prefixes.iter_mut().for_each(|(block, _)| *block = block.trunc());
        prefixes.sort_by_key(|(block, member)| (*block, member.subnet.is_some()));
        let mut above: Vec<(IpNet, Box<[Member]>)> = Vec::new();
        for group in prefixes.chunk_by(|(one, _), (other, _)| one == other) {
            let block = group[0].0;
            while above.last().is_some_and(|(wider, _)| !wider.contains(&block)) {
                above.pop();
            }
            let members = members_of(above.last().map_or(&[][..], |(_, members)| &members[..]), group);
            self.prefix_members += members.len();
            if self.has_too_many_members() {
                return;
            }
            match block {
                IpNet::V4(block) => drop(self.v4.insert(block, members.clone())),
                IpNet::V6(block) => drop(self.v6.insert(block, members.clone())),
            }
            above.push((block, members));
        }
    }

    /// Whether there are more than [`MAX_PREFIX_MEMBERS`] pairs of a prefix and a network. Some prefixes are missing then.
    pub fn has_too_many_members(&self) -> bool {
        self.prefix_members > MAX_PREFIX_MEMBERS
    }

    /// The networks that have addresses in one of these blocks.
    pub fn overlapping(&self, blocks: &[IpNet]) -> BTreeSet<NetworkAt> {
        let mut found = BTreeSet::new();
        for block in blocks.iter().map(IpNet::trunc) {
            if found.len() == self.list.len() {
                break;
            }
            // The longest prefix that contains the block has the networks that contain all of it; other networks have a
            // prefix within the block.
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
        let mut neighbours = Neighbours { connectivity: &self.connectivity, sets: HashMap::new() };
        for (id, vpc) in &manifest.vpcs {
            let Some(network) = self.vpc_at(id) else { continue };
            for address in &vpc.resolver_addresses {
                let (id, path, neighbours) = (id.clone(), ClientPath::InVpc, neighbours.of(self, network));
                let entry_point = EntryPoint {
                    id,
                    path,
                    vpc: network,
                    az: None,
                    allowed: None,
                    slot: None,
                    dns64: None,
                    protocols: Vec::new(),
                    neighbours,
                };
                entry_points.insert(*address, entry_point);
            }
        }
        for (id, endpoint) in &manifest.resolver_endpoints {
            let path = match endpoint.direction {
                Direction::Inbound => ClientPath::Inbound,
                Direction::InboundDelegation => ClientPath::InboundDelegation,
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
                    dns64: dns64_prefix(endpoint),
                    protocols: endpoint.protocols.clone(),
                    neighbours: neighbours.of(self, vpc),
                };
                entry_points.insert(address.ip, entry_point);
            }
        }
        entry_points
    }

    /// The index of a network.
    pub fn at(&self, network: &Network) -> Option<NetworkAt> {
        self.at.get(network).copied()
    }

    /// The index of a VPC.
    pub fn vpc_at(&self, id: &str) -> Option<NetworkAt> {
        self.vpcs.get(id).copied()
    }

    /// The network at an index.
    pub fn info(&self, at: NetworkAt) -> &NetworkInfo {
        &self.list[at as usize]
    }

    /// The VPC at an index; none for an on-premises network.
    pub fn vpc(&self, at: NetworkAt) -> Option<&Vpc> {
        self.info(at).vpc.as_deref()
    }

    /// Whether records are synthesised for some client by DNS64.
    pub fn have_dns64(&self) -> bool {
        let mut entry_points = self.entry_points.values();
        self.subnets.iter().any(|subnet| subnet.dns64) || entry_points.any(|entry_point| entry_point.dns64.is_some())
    }

    /// All networks that contain an address, the longest prefix first.
    #[inline]
    pub fn holding(&self, address: IpAddr) -> &[Member] {
        let found = match address {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, members)| members),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, members)| members),
        };
        found.map_or(&[], |members| &**members)
    }

    /// All prefixes, each with the networks that contain it, the longest prefix first.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, &[Member])> {
        let v4 = self.v4.iter().map(|(block, members)| (IpNet::V4(block), &**members));
        v4.chain(self.v6.iter().map(|(block, members)| (IpNet::V6(block), &**members)))
    }

    /// Identifies the client that queries `local` from `source` (docs/concepts/who-asks.md).
    #[inline]
    pub fn identify(&self, source: IpAddr, local: IpAddr, protocol: Protocol) -> Result<MatchedClient<'_>, Refusal> {
        self.at_entry_point(self.entry_points.get(&local), self.holding(source), protocol, |block| {
            block.contains(&source)
        })
    }

    /// Identifies a client at an entry point. `members` are the networks that contain its address, and `is_in` says whether
    /// a block contains it.
    #[inline]
    pub fn at_entry_point<'n>(
        &'n self,
        entry_point: Option<&'n EntryPoint>,
        members: &[Member],
        protocol: Protocol,
        is_in: impl Fn(&IpNet) -> bool,
    ) -> Result<MatchedClient<'n>, Refusal> {
        let found = match entry_point {
            None => self.without_entry_point(members)?,
            Some(entry_point) if entry_point.path == ClientPath::InVpc => {
                self.through_vpc_entry_point(entry_point, members)?
            }
            Some(entry_point) => self.through_inbound_entry_point(entry_point, members, protocol, is_in)?,
        };
        match self.vpc(found.vpc) {
            Some(vpc) if found.path == ClientPath::InVpc && !vpc.enable_dns_support => Err(Refusal::DnsDisabled),
            _ => Ok(found),
        }
    }

    fn in_vpc<'n>(&self, entry_point: Option<&'n EntryPoint>, member: Member) -> MatchedClient<'n> {
        MatchedClient {
            entry_point,
            network: Some(member.network),
            vpc: member.network,
            path: ClientPath::InVpc,
            az: member.subnet.map(|subnet| self.subnets[subnet as usize].az),
            subnet: member.subnet,
        }
    }

    fn without_entry_point(&self, members: &[Member]) -> Result<MatchedClient<'_>, Refusal> {
        let mut vpcs = members.iter().filter(|member| self.vpc(member.network).is_some());
        match (vpcs.next(), vpcs.next()) {
            (Some(member), None) => Ok(self.in_vpc(None, *member)),
            (Some(_), Some(_)) => Err(Refusal::SeveralNetworks),
            (None, _) => Err(Refusal::UnknownNetwork),
        }
    }

    fn through_vpc_entry_point<'n>(
        &self,
        entry_point: &'n EntryPoint,
        members: &[Member],
    ) -> Result<MatchedClient<'n>, Refusal> {
        if self.vpc(entry_point.vpc).is_some_and(|vpc| !vpc.enable_dns_support) {
            return Err(Refusal::DnsDisabled);
        }
        let may = |member: &&Member| self.vpc(member.network).is_some() && entry_point.is_near(member.network);
        // The entry point's own VPC comes before its neighbours.
        let own = members.iter().find(|member| member.network == entry_point.vpc);
        let member = own.or_else(|| members.iter().find(may)).ok_or(Refusal::UnknownNetwork)?;
        Ok(self.in_vpc(Some(entry_point), *member))
    }

    fn through_inbound_entry_point<'n>(
        &self,
        entry_point: &'n EntryPoint,
        members: &[Member],
        protocol: Protocol,
        is_in: impl Fn(&IpNet) -> bool,
    ) -> Result<MatchedClient<'n>, Refusal> {
        let known = members.iter().find(|member| entry_point.is_near(member.network));
        let is_allowed = match &entry_point.allowed {
            Some(blocks) => blocks.iter().any(is_in),
            None => known.is_some(),
        };
        if !is_allowed {
            return Err(Refusal::UnknownNetwork);
        }
        // A network that `allowed_cidr_blocks` allows without a connection is identified if no other network contains the address.
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
        Ok(MatchedClient {
            entry_point: Some(entry_point),
            network,
            vpc: entry_point.vpc,
            path: entry_point.path,
            az,
            subnet,
        })
    }
}

/// The networks that contain a prefix: first the networks with this block, in reverse order, then the members of the wider
/// prefix. A subnet replaces the wider entry of its VPC, and stays in narrower blocks of that VPC.
fn members_of(wider: &[Member], own: &[(IpNet, Member)]) -> Box<[Member]> {
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

/// The DNS64 prefix of an inbound endpoint. None if its clients get no synthesised records.
fn dns64_prefix(endpoint: &ResolverEndpoint) -> Option<Dns64Prefix> {
    if !endpoint.dns64 || endpoint.direction != Direction::Inbound {
        return None;
    }
    match endpoint.dns64_prefix {
        None => Some(WELL_KNOWN),
        Some(IpNet::V6(net)) => Dns64Prefix::new(net),
        Some(IpNet::V4(_)) => None,
    }
}

/// The key of a view: the VPC, the path, and the client's own network on an inbound path.
pub type ViewKey = (NetworkAt, ClientPath, Option<NetworkAt>);

impl<'n> MatchedClient<'n> {
    /// The prefix of the AAAA records that are synthesised for the client: that of its subnet, or else that of the inbound
    /// endpoint. None if no records are synthesised.
    #[inline]
    pub fn dns64(&self, networks: &Networks) -> Option<&'n Dns64Prefix> {
        match self.subnet {
            Some(subnet) if networks.subnets[subnet as usize].dns64 => Some(&WELL_KNOWN),
            _ => self.entry_point?.dns64.as_ref(),
        }
    }

    /// The key of the client's view.
    pub fn view(&self) -> ViewKey {
        match self.path {
            ClientPath::InVpc => (self.vpc, self.path, None),
            _ => (self.vpc, self.path, self.network),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// VPCs with these blocks. Each VPC has a subnet with the last one of them.
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
    fn networks_with_equal_blocks_add_one_member_each() {
        let number = 50_000;
        let networks = networks((0..number).map(|_| vec!["10.0.0.0/8".into()]));
        assert_eq!((networks.prefix_members, networks.has_too_many_members()), (number, false));
        let members = networks.holding([10, 1, 2, 3].into());
        let last_first = (0..number as u32).rev().map(|at| Member { network: at, subnet: Some(at) });
        assert!(members.iter().copied().eq(last_first));
    }

    #[test]
    fn a_prefix_has_all_networks_that_contain_it_up_to_the_bound() {
        let few = networks((0..100).map(nested));
        assert_eq!((few.prefix_members, few.has_too_many_members()), (100 + 100 * 100, false));
        let members = few.holding([10, 0, 7, 1].into());
        assert_eq!((members.len(), members[0]), (100, Member { network: 7, subnet: Some(7) }));
        assert!(members[1..].iter().all(|member| member.network != 7 && member.subnet.is_none()));
        let many = networks((0..3_000).map(nested));
        assert!(
            many.has_too_many_members() && many.prefix_members <= MAX_PREFIX_MEMBERS + 3_000,
            "{}",
            many.prefix_members
        );
    }

    #[test]
    fn finds_networks_that_overlap_with_blocks() {
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
