//! Networks with overlapping addresses, where zonal must tell their clients apart. Ten thousand
//! tenants can all have 10.0.0.0/16, so that only networks that are connected or share an entry
//! point are compared.

use super::Checker;
use crate::manifest::{Direction, connectivity::Network};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The number of containing blocks that a block is compared with.
const MAX_COMPARED: usize = 64;

/// A block and its network.
type Owned<'a> = (IpNet, &'a Network);
type Pair<'a> = (&'a Network, &'a Network);

/// Calls `found` for each pair of blocks of two networks of which one contains the other, the
/// containing one first. Each block is compared with at most [`MAX_COMPARED`] others.
fn sweep<'a>(mut blocks: Vec<(IpNet, &'a Network)>, mut found: impl FnMut((IpNet, &'a Network), (IpNet, &'a Network))) {
    // Blocks either nest or are disjoint. In this order, the blocks that contain the current one
    // form a stack.
    blocks.sort_by_key(|(block, _)| (block.network(), block.prefix_len()));
    let mut holders: Vec<(IpNet, &Network)> = Vec::new();
    for (block, network) in blocks {
        while holders.last().is_some_and(|(wide, _)| !wide.contains(&block)) {
            holders.pop();
        }
        for holder in holders.iter().rev().filter(|(_, other)| *other != network).take(MAX_COMPARED) {
            found(*holder, (block, network));
        }
        holders.push((block, network));
    }
}

impl<'a> Checker<'a> {
    pub(super) fn overlaps(&mut self) {
        let manifest = self.manifest;
        let vpcs = manifest.vpcs.keys().map(|id| Network::Vpc(id.clone()));
        let networks: Vec<Network> =
            vpcs.chain(manifest.on_premises_networks.keys().map(|id| Network::OnPremises(id.clone()))).collect();
        let mut reported: HashSet<Pair> = HashSet::new();
        self.overlaps_of_connected(&networks, &mut reported);
        self.overlaps_at_entry_points(&networks, &mut reported);
        self.overlaps_without_entry_points(&networks);
    }

    fn sweep_of<'n>(&self, networks: impl Iterator<Item = &'n Network>) -> Vec<(IpNet, &'n Network)> {
        networks.flat_map(|network| self.blocks(network).iter().map(move |block| (*block, network))).collect()
    }

    fn overlaps_of_connected<'n>(&mut self, networks: &'n [Network], reported: &mut HashSet<Pair<'n>>)
    where
        'a: 'n,
    {
        let connectivity = self.connectivity;
        let mut groups: BTreeMap<Vec<usize>, Vec<&Network>> = BTreeMap::new();
        let mut found: Vec<(Owned, Owned)> = Vec::new();
        for network in networks {
            let (straight, classes) = connectivity.reach_key(network);
            for other in straight.into_iter().filter(|other| *other > network) {
                let (ours, theirs) = (self.searchable(self.blocks(network)), self.searchable(self.blocks(other)));
                // A hub may have many blocks, and many networks around it that have few.
                let hit = match ours.iter().len() < theirs.iter().len() {
                    true => ours.iter().find_map(|a| Some((*a, theirs.overlapping(a)?))),
                    false => theirs.iter().find_map(|b| Some((ours.overlapping(b)?, *b))),
                };
                found.extend(hit.map(|(a, b)| match a.contains(&b) {
                    true => ((a, network), (b, other)),
                    false => ((b, other), (a, network)),
                }));
            }
            if !classes.is_empty() {
                groups.entry(classes).or_default().push(network);
            }
        }
        for members in groups.into_values() {
            let Some(first) = members.first() else { continue };
            let near: BTreeSet<&Network> = members.iter().copied().chain(connectivity.connected_to(first)).collect();
            sweep(self.sweep_of(near.into_iter()), |a, b| {
                if connectivity.reaches(a.1, b.1) {
                    found.push((a, b));
                }
            });
        }
        for (a, b) in found {
            self.report_overlap(a, b, "the networks are connected", reported);
        }
    }

    /// Checks the networks whose clients can use the same entry point.
    fn overlaps_at_entry_points<'n>(&mut self, networks: &'n [Network], reported: &mut HashSet<Pair<'n>>)
    where
        'a: 'n,
    {
        let connectivity = self.connectivity;
        let endpoints = self.manifest.resolver_endpoints.values();
        let with_default_clients = endpoints
            .filter(|e| e.direction != Direction::Outbound && e.allowed_cidr_blocks.is_empty())
            .map(|e| e.vpc_id.as_str());
        let inbound: BTreeSet<&str> = with_default_clients.collect();
        let mut done = BTreeSet::new();
        for network in networks {
            let Network::Vpc(id) = network else { continue };
            let is_entry_point = self.manifest.vpcs.get(id).is_some_and(|vpc| !vpc.resolver_addresses.is_empty());
            let is_inbound = inbound.contains(id.as_str());
            if !(is_entry_point || is_inbound) || !done.insert((connectivity.reach_key(network), is_inbound)) {
                continue;
            }
            let clients = connectivity.connected_to(network).into_iter();
            // Clients of on-premises networks cannot use a VPC's own entry point.
            let clients = clients.filter(|client| is_inbound || matches!(client, Network::Vpc(_)));
            let mut found = Vec::new();
            sweep(self.sweep_of(clients), |a, b| found.push((a, b)));
            for (a, b) in found {
                self.report_overlap(a, b, &format!("both networks use the entry point of `{id}`"), reported);
            }
        }
    }

    fn report_overlap<'n>(
        &mut self,
        (a_block, a): (IpNet, &'n Network),
        (b_block, b): (IpNet, &'n Network),
        why: &str,
        reported: &mut HashSet<Pair<'n>>,
    ) {
        if !reported.insert((a.min(b), a.max(b))) {
            return;
        }
        let same = a_block == b_block;
        let message = format!("{b_block} overlaps {a_block} of `{}`, and {why}", a.id());
        let kind = match b {
            Network::Vpc(_) => "vpcs",
            Network::OnPremises(_) => "on_premises_networks",
        };
        let at = self.blocks(b).iter().position(|block| *block == b_block).unwrap_or_default();
        let field = format!("cidr_blocks[{at}]");
        // A wide block of an on-premises network that contains blocks of VPCs is unambiguous: the
        // longest prefix decides.
        let both_vpcs = matches!((a, b), (Network::Vpc(_), Network::Vpc(_)));
        match both_vpcs || same {
            true => self.error(kind, b.id(), field, message),
            false => {
                self.warning(kind, b.id(), field, message);
                self.help("zonal uses the longest prefix");
            }
        }
    }

    fn overlaps_without_entry_points(&mut self, networks: &[Network]) {
        let vpcs = networks.iter().filter(|network| matches!(network, Network::Vpc(_)));
        let mut found: BTreeMap<&str, (IpNet, &str, IpNet)> = BTreeMap::new();
        sweep(self.sweep_of(vpcs), |a, b| {
            for ((block, network), (other_block, other)) in [(a, b), (b, a)] {
                found.entry(network.id()).or_insert((block, other.id(), other_block));
            }
        });
        for (id, (block, other, other_block)) in found {
            let Some(vpc) = self.manifest.vpcs.get(id) else { continue };
            if vpc.resolver_addresses.is_empty() {
                let message = format!(
                    "{block} overlaps {other_block} of `{other}`, and the VPC has no entry point of its own: zonal refuses queries \
                     from addresses of both networks"
                );
                let at = vpc.cidr_blocks.iter().position(|one| *one == block).unwrap_or_default();
                self.warning("vpcs", id, format!("cidr_blocks[{at}]"), message);
                self.help("add `resolver_addresses` to the VPC");
            }
        }
    }
}
