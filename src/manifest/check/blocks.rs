//! Sets of CIDR blocks that are searched in logarithmic time: the blocks of a network, or of a
//! VPC's subnets.

use super::Checker;
use crate::manifest::Vpc;
use ipnet::IpNet;
use std::{collections::HashMap, net::IpAddr, rc::Rc};

/// The number of blocks that a message lists.
const MAX_NAMED: usize = 10;

/// Sorted blocks, without blocks that are within another block.
#[derive(Debug, Default)]
pub(super) struct Blocks(Vec<IpNet>);

impl Blocks {
    pub(super) fn new<'b>(blocks: impl IntoIterator<Item = &'b IpNet>) -> Blocks {
        let mut all: Vec<IpNet> = blocks.into_iter().map(IpNet::trunc).collect();
        all.sort_by_key(|block| (block.network(), block.prefix_len()));
        // Blocks either nest or are disjoint. In this order, a block follows the block that
        // contains it.
        let mut widest: Vec<IpNet> = Vec::new();
        for block in all {
            if widest.last().is_none_or(|wide| !wide.contains(&block)) {
                widest.push(block);
            }
        }
        Blocks(widest)
    }

    /// The number of blocks that begin at or before the start of this block.
    fn before(&self, block: &IpNet) -> usize {
        self.0.partition_point(|other| other.network() <= block.network())
    }

    /// Whether a block of the set contains this block.
    pub(super) fn covers(&self, block: &IpNet) -> bool {
        self.before(block).checked_sub(1).is_some_and(|at| self.0[at].contains(block))
    }

    /// Whether a block of the set contains this address.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.covers(&address.into())
    }

    /// A block of the set that contains this block, or is contained in it.
    pub(super) fn overlapping(&self, block: &IpNet) -> Option<IpNet> {
        let next = self.before(block);
        let around = self.0[next.saturating_sub(1)..].iter().take(2);
        around.into_iter().find(|other| super::overlap(other, block)).copied()
    }

    /// All blocks of the set.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &IpNet> {
        self.0.iter()
    }
}

/// Properties of a VPC that many checks use.
pub(super) struct VpcIndex<'a> {
    /// The blocks of the subnets in each AZ.
    pub subnets: HashMap<&'a str, Blocks>,
    /// For each AZ, its first name that can be part of a domain name; none if it has no such name.
    pub az_names: HashMap<&'a str, Option<&'a str>>,
}

impl<'a> Checker<'a> {
    /// Blocks of the manifest as a searchable set. The set is computed once.
    pub(super) fn searchable(&mut self, blocks: &'a [IpNet]) -> Rc<Blocks> {
        self.searchable.entry((blocks.as_ptr(), blocks.len())).or_insert_with(|| Rc::new(Blocks::new(blocks))).clone()
    }

    /// The properties of a VPC. They are computed once.
    pub(super) fn indexed(&mut self, vpc: &'a Vpc) -> Rc<VpcIndex<'a>> {
        let make = || {
            let mut subnets: HashMap<&str, Vec<&IpNet>> = HashMap::new();
            for subnet in vpc.subnets.values() {
                subnets.entry(&subnet.availability_zone_id).or_default().extend(&subnet.cidr_blocks);
            }
            let mut az_names: HashMap<&str, Option<&str>> = HashMap::new();
            for (name, az) in &vpc.availability_zones {
                let name = Some(name.as_str()).filter(|name| super::is_label(name));
                let known = az_names.entry(az).or_default();
                *known = known.or(name);
            }
            let subnets = subnets.into_iter().map(|(az, blocks)| (az, Blocks::new(blocks))).collect();
            Rc::new(VpcIndex { subnets, az_names })
        };
        self.indexed.entry(vpc).or_insert_with(make).clone()
    }
}

/// A list of blocks for a message.
pub(super) fn list(blocks: &[IpNet]) -> String {
    let named = blocks.iter().take(MAX_NAMED).map(IpNet::to_string).collect::<Vec<_>>().join(", ");
    match blocks.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn finds_the_same_blocks_as_a_linear_search(
            blocks in vec((0..64u8, 24..=32u8, any::<bool>()), 0..12), asked in vec((0..64u8, 24..=32u8, any::<bool>()), 1..20),
        ) {
            let block = |(last, len, is_v6): (u8, u8, bool)| -> IpNet {
                let text = match is_v6 {
                    true => format!("fd00::{last:x}/{}", len + 96),
                    false => format!("10.0.0.{last}/{len}"),
                };
                text.parse::<IpNet>().unwrap().trunc()
            };
            let all: Vec<IpNet> = blocks.into_iter().map(block).collect();
            let index = Blocks::new(&all);
            for one in asked.into_iter().map(block) {
                prop_assert_eq!(index.covers(&one), all.iter().any(|other| other.contains(&one)));
                prop_assert_eq!(index.contains(one.addr()), all.iter().any(|other| other.contains(&one.addr())));
                let overlapping = index.overlapping(&one);
                prop_assert_eq!(overlapping.is_some(), all.iter().any(|other| super::super::overlap(other, &one)));
                prop_assert!(overlapping.is_none_or(|other| all.contains(&other) && super::super::overlap(&other, &one)));
            }
        }
    }

    #[test]
    fn messages_list_a_few_blocks() {
        let blocks: Vec<IpNet> = (0..12).map(|number| format!("10.{number}.0.0/16").parse().unwrap()).collect();
        assert_eq!(list(&blocks[..2]), "10.0.0.0/16, 10.1.0.0/16");
        assert!(list(&blocks).ends_with("10.9.0.0/16 and 2 more"));
    }
}
