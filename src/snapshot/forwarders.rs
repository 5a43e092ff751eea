//! Those who may speak for the clients behind them (docs/concepts/who-asks.md).

use super::{
    endpoints::Az,
    networks::{Found, Member, NetworkAt, Networks, Path, Refusal},
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

/// How many pieces of a prefix with different owners are looked at: one that has more is refused.
const MOST_PIECES: usize = 64;

/// One who may speak for others.
#[derive(Clone, Debug)]
pub struct Forwarder {
    /// Its identifier.
    pub id: Id,
    /// The network that it sits in.
    pub network: NetworkAt,
    /// How it tells for whom it speaks.
    pub identity: ClientIdentity,
    /// The networks whose clients it may name, in order.
    pub speaks_for: Arc<[NetworkAt]>,
}

/// All forwarders.
#[derive(Default)]
pub struct Forwarders {
    /// At each address those of all networks, by network.
    v4: PrefixMap<Ipv4Net, Box<[Forwarder]>>,
    v6: PrefixMap<Ipv6Net, Box<[Forwarder]>>,
    /// What is asked of prefixes; none if nobody tells any.
    prefixes: Option<Prefixes>,
}

/// What is so of the addresses around a client.
struct Prefixes {
    /// The networks that hold an address, those with the longest prefix first: an index into `lists`.
    holders: Spans<u32>,
    lists: Vec<Box<[Member]>>,
    /// Of each network that is spoken for: what tells its addresses apart.
    places: HashMap<NetworkAt, Spans<Place>>,
}

/// Where in a network an address is, as far as answers differ by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    NoSubnet,
    /// In one with this AZ and `enable_dns64`.
    Subnet(Az, bool),
}

impl Forwarders {
    /// Compiles the forwarders of a manifest, whose networks are there already.
    pub fn compile(manifest: &Manifest, networks: &Networks) -> Forwarders {
        let mut blocks: BTreeMap<IpNet, Vec<Forwarder>> = BTreeMap::new();
        for (id, forwarder) in &manifest.forwarders {
            let Some(ready) = ready(id, forwarder, networks) else { continue };
            for block in &forwarder.cidr_blocks {
                blocks.entry(block.trunc()).or_default().push(ready.clone());
            }
        }
        let mut this = Forwarders::default();
        // In this order those that hold a block are on a stack.
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

    /// Nobody speaks for anybody.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Somebody tells clients by prefixes.
    pub fn tell_prefixes(&self) -> bool {
        self.prefixes.is_some()
    }

    fn at(&self, address: IpAddr) -> Option<&[Forwarder]> {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, all)| &**all),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, all)| &**all),
        }
    }
}

fn ready(id: &Id, forwarder: &manifest::Forwarder, networks: &Networks) -> Option<Forwarder> {
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
        let mut places: HashMap<NetworkAt, Vec<(IpNet, Place)>> =
            spoken_for.iter().map(|network| (*network, Vec::new())).collect();
        for (block, members) in networks.prefixes() {
            let list: Vec<NetworkAt> = members.iter().map(|member| member.network).collect();
            let number = *numbers.entry(list).or_insert_with(|| {
                lists.push(members.iter().map(|member| Member { subnet: None, ..*member }).collect());
                lists.len() as u32 - 1
            });
            holders.push((block, number));
            for member in members {
                if let Some(places) = places.get_mut(&member.network) {
                    let place = member.subnet.map_or(Place::NoSubnet, |subnet| {
                        let subnet = &networks.subnets[subnet as usize];
                        Place::Subnet(subnet.az, subnet.dns64)
                    });
                    places.push((block, place));
                }
            }
        }
        let places = places.into_iter().map(|(network, places)| (network, Spans::new(places, Place::Outside)));
        Prefixes { holders: Spans::new(holders, 0), lists, places: places.collect() }
    }
}

impl Networks {
    /// The forwarder that sends from this address, and who it is itself. It is one only in the network that it sits in,
    /// as the entry point tells it.
    #[inline]
    pub fn forwarder(&self, source: IpAddr, local: IpAddr, protocol: Protocol) -> Option<(&Forwarder, Found<'_>)> {
        if self.forwarders.is_empty() {
            return None;
        }
        let here = self.forwarders.at(source)?;
        let found = self.identify(source, local, protocol).ok()?;
        let at = here.binary_search_by_key(&found.network?, |forwarder| forwarder.network).ok()?;
        Some((&here[at], found))
    }

    /// Who asks when a forwarder names the client's address, and the VPC that it is in if it knows.
    pub fn named(
        &self,
        forwarder: &Forwarder,
        source: IpAddr,
        local: IpAddr,
        protocol: Protocol,
        vpc: Option<NetworkAt>,
    ) -> Result<Found<'_>, Refusal> {
        let mut members = self.holding(source);
        if let Some(vpc) = vpc {
            let own = members.iter().find(|member| member.network == vpc).ok_or(Refusal::Stranger)?;
            members = std::slice::from_ref(own);
        }
        forwarder.may(
            self.at_entry_point(self.entry_points.get(&local), members, protocol, |block| block.contains(&source))?,
        )
    }

    /// Who asks when a forwarder names a prefix that the client is in; and the scope of the answers: the length of the
    /// shortest prefix around the client that holds no other view or AZ (RFC 7871, 7.2.1).
    pub fn named_by_prefix(
        &self,
        forwarder: &Forwarder,
        prefix: IpNet,
        local: IpAddr,
        protocol: Protocol,
    ) -> Result<(Found<'_>, u8), Refusal> {
        let Some(prefixes) = &self.forwarders.prefixes else { return Err(Refusal::NotSpokenFor) };
        let (address, entry_point) = (prefix.network(), self.entry_points.get(&local));
        let mut client: Option<Found> = None;
        for (piece, list) in prefixes.holders.within(&prefix).enumerate() {
            if piece == MOST_PIECES {
                return Err(Refusal::Wide);
            }
            let members = &*prefixes.lists[list as usize];
            if members.is_empty() {
                continue;
            }
            let found = self.at_entry_point(entry_point, members, protocol, |block| block.contains(&prefix))?;
            if client.is_some_and(|client| client.network != found.network) {
                return Err(Refusal::Wide);
            }
            client = Some(found);
        }
        let mut found = forwarder.may(client.ok_or(Refusal::Stranger)?)?;
        let Some(network) = found.network else { return Err(Refusal::Stranger) };
        let places = prefixes.places.get(&network).ok_or(Refusal::NotSpokenFor)?;
        let mut scope = places.uniform_len(address);
        // At the entry point of its own VPC it does not matter who else has its addresses.
        if found.path != Path::InVpc || entry_point.is_none_or(|entry_point| entry_point.vpc != network) {
            scope = scope.max(prefixes.holders.uniform_len(address));
        }
        let allowed = entry_point.and_then(|entry_point| entry_point.allowed.as_ref()).into_iter().flatten();
        let allowed = allowed.filter(|block| block.contains(&address)).map(IpNet::prefix_len).min();
        scope = scope.max(allowed.unwrap_or(0));
        // In a prefix that is no longer than that all are alike, and so in the subnet of its first address.
        let subnet = self.holding(address).iter().find(|member| member.network == network).and_then(|own| own.subnet);
        let matched = subnet.and_then(|subnet| {
            let blocks = &self.subnets[subnet as usize].blocks;
            Some((subnet, blocks.iter().filter(|block| block.contains(&address)).map(IpNet::prefix_len).min()?))
        });
        match matched {
            Some((subnet, len)) if prefix.prefix_len() >= len.max(places.uniform_len(address)) => {
                found.subnet = Some(subnet);
                found.az = Some(self.subnets[subnet as usize].az);
            }
            // Too short to tell the AZ, which a longer one would: the scope says how long.
            Some((_, len)) => {
                found.az = None;
                scope = scope.max(len);
            }
            None if prefix.prefix_len() < places.uniform_len(address) && self.vpc(network).is_some() => {
                found.az = None;
            }
            None => {}
        }
        Ok((found, scope))
    }
}

impl Forwarder {
    /// A client that it may name.
    fn may<'n>(&self, found: Found<'n>) -> Result<Found<'n>, Refusal> {
        let is_spoken_for = found.network.is_some_and(|network| self.speaks_for.binary_search(&network).is_ok());
        if is_spoken_for { Ok(found) } else { Err(Refusal::NotSpokenFor) }
    }
}

#[cfg(test)]
#[path = "forwarders_tests.rs"]
mod tests;
