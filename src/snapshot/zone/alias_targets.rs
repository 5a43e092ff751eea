//! Finds the aliases of a zone that a change can affect.
//!
//! The records of an alias depend on its target, on the names between the target and the apex, and
//! on the wildcards at these levels (RFC 4592). The index maps each of these names to the alias. So
//! a change looks up its own names, and does not read all aliases.

use super::{FoundNode, Node, NodeAt, Zone};
use crate::wire::{
    query::{LookupName, child_hash, name_hash},
    rdata::rtype,
};
use std::collections::{BTreeSet, HashSet};

/// Index from the hashes of names to the nodes whose aliases depend on these names.
#[derive(Debug, Default)]
pub(super) struct AliasTargets(Box<[(u64, u32)]>);

impl AliasTargets {
    /// Creates the index of a zone that has just been built.
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

    /// Memory of the index, in octets.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Iterates over the nodes whose aliases depend on a name.
    fn on(&self, hash: u64) -> impl Iterator<Item = u32> {
        let first = self.0.partition_point(|(other, _)| *other < hash);
        self.0[first..].iter().take_while(move |(other, _)| *other == hash).map(|(_, node)| *node)
    }
}

impl Zone {
    /// Returns the names of the aliases whose records may differ in a later version of the zone.
    ///
    /// The names do not include the apex. Returns `None` if the versions do not share a block. Then
    /// any alias may have changed.
    pub fn aliases_touched_in(&self, later: &Zone) -> Option<BTreeSet<Box<[u8]>>> {
        let changed = self.changed_names(later)?;
        let targets = &later.shape.as_ref()?.aliases;
        if targets.0.is_empty() {
            return Some(BTreeSet::new());
        }
        // An alias does not depend on the number of names below a name.
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
                // Other aliases may have this alias as their target.
                due.push(LookupName::new(&[&name, &*self.apex].concat())?.hash(0));
                names.insert(name);
            }
        }
        Some(names)
    }
}

/// Whether two nodes have the same records. Ignores the SOA record.
fn has_same_records(one: Node, other: Node) -> bool {
    let sets = |node: Node<'_>| {
        let sets = node.sets().filter(|set| set.rtype() != rtype::SOA);
        sets.map(|set| (set.rtype(), set.records().to_vec())).collect::<BTreeSet<_>>()
    };
    sets(one) == sets(other)
}
