//! The aliases of a zone that a change may touch.
//!
//! The records of an alias depend on its target, on the names between the target and the apex, and on the wildcards at
//! these levels (RFC 4592). The index has each of these names with the alias. So a change looks up its own names, and
//! does not read all aliases.

use super::{FoundNode, Node, NodeAt, Zone};
use crate::wire::{
    query::{LookupName, child_hash, name_hash},
    rdata::rtype,
};
use std::collections::{BTreeSet, HashSet};

/// The nodes with aliases, by the hashes of the names that the aliases depend on.
#[derive(Debug, Default)]
pub(super) struct AliasTargets(Box<[(u64, u32)]>);

impl AliasTargets {
    /// The aliases of a zone that has just been built.
    pub fn new(zone: &Zone) -> AliasTargets {
        let mut all = Vec::new();
        if !zone.has_aliases() {
            return AliasTargets::default();
        }
        for node in zone.nodes() {
            for number in node.sets().filter_map(|set| set.alias()) {
                let target = zone.alias(number).to_lowercase();
                let Some((name, _)) = zone.relative_of(target.as_wire()) else { continue };
                let depth = name.labels() - zone.apex_labels();
                let names = (0..=depth.saturating_sub(1)).map(|skip| name.hash(skip));
                let wildcards = (1..=depth).map(|skip| child_hash(name.hash(skip), b"*"));
                all.extend(names.chain(wildcards).map(|hash| (hash, node.at as u32)));
            }
        }
        all.sort_unstable();
        all.dedup();
        AliasTargets(all.into())
    }

    /// Octets of memory.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// The nodes with aliases that depend on a name.
    fn on(&self, hash: u64) -> impl Iterator<Item = u32> {
        let first = self.0.partition_point(|(other, _)| *other < hash);
        self.0[first..].iter().take_while(move |(other, _)| *other == hash).map(|(_, node)| *node)
    }
}

impl Zone {
    /// The names, without apex, of the aliases that may have other records in a later version of the zone. None if the
    /// versions do not share a block, so that any alias may.
    pub fn aliases_touched_in(&self, later: &Zone) -> Option<BTreeSet<Box<[u8]>>> {
        let changed = self.changed_names(later)?;
        let targets = &later.shape.as_ref()?.aliases;
        if targets.0.is_empty() {
            return Some(BTreeSet::new());
        }
        // The number of names below a name does not matter to an alias.
        let is_other = |(hash, relative): &(u64, Box<[u8]>)| {
            let (old, new) = (self.find_relative(relative, *hash), later.find_relative(relative, *hash));
            let node = |found: Option<FoundNode>| {
                found
                    .filter(|found| !found.is_empty())
                    .map(|found| std::ptr::from_ref(&found.node.block[found.node.at]))
            };
            old.is_some() != new.is_some() || node(old) != node(new)
        };
        let mut due: Vec<u64> = changed.iter().filter(|name| is_other(name)).map(|(hash, _)| *hash).collect();
        if !has_same_records(self.apex_node(), later.apex_node()) {
            due.push(name_hash(&self.apex));
        }
        let (mut nodes, mut names) = (HashSet::new(), BTreeSet::new());
        while let Some(hash) = due.pop() {
            for at in targets.on(hash).filter(|at| nodes.insert(*at)) {
                let name: Box<[u8]> = later.node(NodeAt(at)).relative().into();
                // Other aliases may lead to this alias.
                due.push(LookupName::new(&[&name, &*self.apex].concat())?.hash(0));
                names.insert(name);
            }
        }
        Some(names)
    }
}

/// Whether two nodes have the same records, the serial aside.
fn has_same_records(one: Node, other: Node) -> bool {
    let sets = |node: Node<'_>| {
        let sets = node.sets().filter(|set| set.rtype() != rtype::SOA);
        sets.map(|set| (set.rtype(), set.records().to_vec())).collect::<BTreeSet<_>>()
    };
    sets(one) == sets(other)
}
