//! Forwarders, which may name the clients behind them (docs/concepts/who-asks.md).

use super::{
    endpoints::Az,
    networks::{ClientPath, MatchedClient, Member, NetworkAt, Networks, Refusal},
    spans::Spans,
};
use crate::manifest::{self, ClientIdentity, Id, Manifest, Protocol, connectivity::Network};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// The largest number of pieces with different networks in a prefix. A prefix with more is refused.
const MAX_PIECES: usize = 64;

/// A forwarder: a server that may name its clients.
#[derive(Clone, Debug)]
pub struct Forwarder {
    /// Its identifier.
    pub id: Id,
    /// The network that it is in.
    pub network: NetworkAt,
    /// The way in which it names a client.
    pub identity: ClientIdentity,
    /// The networks whose clients it may name, in order.
    pub speaks_for: Arc<[NetworkAt]>,
}

/// All forwarders.
#[derive(Default)]
pub struct Forwarders {
    /// The forwarders at each address, in the order of their networks.
    v4: PrefixMap<Ipv4Net, Box<[Forwarder]>>,
    v6: PrefixMap<Ipv6Net, Box<[Forwarder]>>,
    /// The data for clients that are named by a prefix; none if no forwarder does so.
    prefixes: Option<Prefixes>,
}

/// The properties of the addresses around a client, which decide the scope of an answer.
struct Prefixes {
    /// The networks that contain an address, as an index into `lists`.
    holders: Spans<u32>,
    /// Lists of networks, the longest prefix first.
    lists: Vec<Box<[Member]>>,
    /// The subnet properties of the addresses of each network whose clients may be named.
    subnets: HashMap<NetworkAt, Spans<SubnetClass>>,
}

/// The properties of an address in a network by which answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubnetClass {
    /// It is not in the network.
    Outside,
    /// It is in no subnet of the network.
    NoSubnet,
    /// It is in a subnet with this AZ and this `enable_dns64`.
    Subnet(Az, bool),
}

impl Forwarders {
    /// Compiles the forwarders of a manifest, whose networks are compiled already.
    pub fn compile(manifest: &Manifest, networks: &Networks) -> Forwarders {
        let mut blocks: BTreeMap<IpNet, Vec<Forwarder>> = BTreeMap::new();
        for (id, forwarder) in &manifest.forwarders {
            let Some(compiled) = compile_one(id, forwarder, networks) else { continue };
            for block in &forwarder.cidr_blocks {
                blocks.entry(block.trunc()).or_default().push(compiled.clone());
            }
        }
        let mut this = Forwarders::default();
        // In this order, the wider blocks around a block are on a stack.
        let mut above: Vec<(IpNet, Vec<Forwarder>)> = Vec::new();
        for (block, own) in blocks {
            while above.last().is_some_and(|(wider, _)| !wider.contains(&block)) {
                above.pop();
            }
            let mut all = above.last().map_or(Vec::new(), |(_, all)| all.clone());
            all.retain(|wider| own.iter().all(|own| own.network != wider.network));
            all.extend(own);
            all.sort_by_key(|forwarder| forwarder.network);
            match block {
                IpNet::V4(block) => drop(this.v4.insert(block, all.clone().into())),
                IpNet::V6(block) => drop(this.v6.insert(block, all.clone().into())),
            }
            above.push((block, all));
        }
        let all = this.v4.values().chain(this.v6.values()).flatten();
        let mut spoken_for: Vec<NetworkAt> = all
            .filter(|forwarder| forwarder.identity == ClientIdentity::EdnsClientSubnet)
            .flat_map(|forwarder| forwarder.speaks_for.iter().copied())
            .collect();
        spoken_for.sort_unstable();
        spoken_for.dedup();
        this.prefixes = (!spoken_for.is_empty()).then(|| Prefixes::compile(&spoken_for, networks));
        this
    }

    /// Whether there is no forwarder.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether a forwarder names its clients by a prefix.
    pub fn use_prefixes(&self) -> bool {
        self.prefixes.is_some()
    }

    fn at(&self, address: IpAddr) -> Option<&[Forwarder]> {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, all)| &**all),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, all)| &**all),
        }
    }
}

/// A compiled forwarder; none if its network does not exist.
fn compile_one(id: &Id, forwarder: &manifest::Forwarder, networks: &Networks) -> Option<Forwarder> {
    let network = match (&forwarder.vpc_id, &forwarder.on_premises_network_id) {
        (Some(vpc), None) => networks.at(&Network::Vpc(vpc.clone()))?,
        (None, Some(network)) => networks.at(&Network::OnPremises(network.clone()))?,
        _ => return None,
    };
    let named = |id: &Id| [networks.at(&Network::Vpc(id.clone())), networks.at(&Network::OnPremises(id.clone()))];
    let mut speaks_for: Vec<NetworkAt> = match forwarder.speaks_for.is_empty() {
        true => vec![network],
        false => forwarder.speaks_for.iter().flat_map(named).flatten().collect(),
    };
    speaks_for.sort_unstable();
    Some(Forwarder { id: id.clone(), network, identity: forwarder.client_identity, speaks_for: speaks_for.into() })
}

impl Prefixes {
    fn compile(spoken_for: &[NetworkAt], networks: &Networks) -> Prefixes {
        let mut numbers: HashMap<Vec<NetworkAt>, u32> = [(Vec::new(), 0)].into();
        let mut lists: Vec<Box<[Member]>> = vec![Box::default()];
        let mut holders = Vec::new();
        let mut subnets: HashMap<NetworkAt, Vec<(IpNet, SubnetClass)>> =
            spoken_for.iter().map(|network| (*network, Vec::new())).collect();
        for (block, members) in networks.prefixes() {
            let list: Vec<NetworkAt> = members.iter().map(|member| member.network).collect();
            let number = *numbers.entry(list).or_insert_with(|| {
                lists.push(members.iter().map(|member| Member { subnet: None, ..*member }).collect());
                lists.len() as u32 - 1
            });
            holders.push((block, number));
            for member in members {
                if let Some(classes) = subnets.get_mut(&member.network) {
                    let class = member.subnet.map_or(SubnetClass::NoSubnet, |subnet| {
                        let subnet = &networks.subnets[subnet as usize];
                        SubnetClass::Subnet(subnet.az, subnet.dns64)
                    });
                    classes.push((block, class));
                }
            }
        }
        let subnets = subnets.into_iter().map(|(network, all)| (network, Spans::new(all, SubnetClass::Outside)));
        Prefixes { holders: Spans::new(holders, 0), lists, subnets: subnets.collect() }
    }
}

impl Networks {
    /// The forwarder with a source address, and its own network and view. It counts as a forwarder only if the entry point
    /// identifies it in its own network.
    #[inline]
    pub fn forwarder(
        &self,
        source: IpAddr,
        local: IpAddr,
        protocol: Protocol,
    ) -> Option<(&Forwarder, MatchedClient<'_>)> {
        if self.forwarders.is_empty() {
            return None;
        }
        let here = self.forwarders.at(source)?;
        let found = self.identify(source, local, protocol).ok()?;
        let at = here.binary_search_by_key(&found.network?, |forwarder| forwarder.network).ok()?;
        Some((&here[at], found))
    }

    /// Identifies a client whose address a forwarder names, with its VPC if the forwarder knows it.
    pub fn named(
        &self,
        forwarder: &Forwarder,
        source: IpAddr,
        local: IpAddr,
        protocol: Protocol,
        vpc: Option<NetworkAt>,
    ) -> Result<MatchedClient<'_>, Refusal> {
        let mut members = self.holding(source);
        if let Some(vpc) = vpc {
            let own = members.iter().find(|member| member.network == vpc).ok_or(Refusal::UnknownNetwork)?;
            members = std::slice::from_ref(own);
        }
        forwarder.check(
            self.at_entry_point(self.entry_points.get(&local), members, protocol, |block| block.contains(&source))?,
        )
    }

    /// Identifies a client whose prefix a forwarder names. The number is the scope of the answers: the length of the shortest
    /// prefix around the client that contains no other view or AZ (RFC 7871, 7.2.1).
    pub fn named_by_prefix(
        &self,
        forwarder: &Forwarder,
        prefix: IpNet,
        local: IpAddr,
        protocol: Protocol,
    ) -> Result<(MatchedClient<'_>, u8), Refusal> {
        let Some(prefixes) = &self.forwarders.prefixes else { return Err(Refusal::ClientNotAllowed) };
        let (address, entry_point) = (prefix.network(), self.entry_points.get(&local));
        let mut client: Option<MatchedClient> = None;
        for (piece, list) in prefixes.holders.within(&prefix).enumerate() {
            if piece == MAX_PIECES {
                return Err(Refusal::PrefixTooShort);
            }
            let members = &*prefixes.lists[list as usize];
            if members.is_empty() {
                continue;
            }
            let found = self.at_entry_point(entry_point, members, protocol, |block| block.contains(&prefix))?;
            if client.is_some_and(|client| client.network != found.network) {
                return Err(Refusal::PrefixTooShort);
            }
            client = Some(found);
        }
        let mut found = forwarder.check(client.ok_or(Refusal::UnknownNetwork)?)?;
        let Some(network) = found.network else { return Err(Refusal::UnknownNetwork) };
        let subnets = prefixes.subnets.get(&network).ok_or(Refusal::ClientNotAllowed)?;
        let mut scope = subnets.uniform_len(address);
        // At an entry point of its own VPC, other networks with the same addresses do not matter.
        if found.path != ClientPath::InVpc || entry_point.is_none_or(|entry_point| entry_point.vpc != network) {
            scope = scope.max(prefixes.holders.uniform_len(address));
        }
        let allowed = entry_point.and_then(|entry_point| entry_point.allowed.as_ref()).into_iter().flatten();
        let allowed = allowed.filter(|block| block.contains(&address)).map(IpNet::prefix_len).min();
        scope = scope.max(allowed.unwrap_or(0));
        // All addresses of the prefix have the same properties, so its first address decides the subnet.
        let subnet = self.holding(address).iter().find(|member| member.network == network).and_then(|own| own.subnet);
        let matched = subnet.and_then(|subnet| {
            let blocks = &self.subnets[subnet as usize].blocks;
            Some((subnet, blocks.iter().filter(|block| block.contains(&address)).map(IpNet::prefix_len).min()?))
        });
        match matched {
            Some((subnet, len)) if prefix.prefix_len() >= len.max(subnets.uniform_len(address)) => {
                found.subnet = Some(subnet);
                found.az = Some(self.subnets[subnet as usize].az);
            }
            // The prefix is too short for the AZ. The scope tells the forwarder how long it has to be.
            Some((_, len)) => {
                found.az = None;
                scope = scope.max(len);
            }
            None if prefix.prefix_len() < subnets.uniform_len(address) && self.vpc(network).is_some() => {
                found.az = None;
            }
            None => {}
        }
        Ok((found, scope))
    }
}

impl Forwarder {
    /// Allows or refuses a client that the forwarder names.
    fn check<'n>(&self, found: MatchedClient<'n>) -> Result<MatchedClient<'n>, Refusal> {
        let is_spoken_for = found.network.is_some_and(|network| self.speaks_for.binary_search(&network).is_ok());
        if is_spoken_for { Ok(found) } else { Err(Refusal::ClientNotAllowed) }
    }
}

#[cfg(test)]
#[path = "forwarders_tests.rs"]
mod tests;
