//! Changes of a zone by dynamic updates and incremental transfers. Their cost follows the size of the change, not of the zone.
//!
//! The zone before and the zone after share the block and the table of the last full build. In addition, the zone after has
//! [`Changes`]: the apex with its new serial, and each name that differs from the block, with a node of its own.
//!
//! Invariants:
//! - A changed node is no zone cut and has no DNAME, neither before nor after, and is not below one. Any other change is
//!   made by a full build, and so is one of the addresses of a zone cut's name servers.
//! - A changed node refers to no other node. In a changed zone wildcards and additional nodes are found by name.
//! - The changes have at most a fixed share of the zone's memory. Beyond that the zone is built again.

use super::{
    FoundNode, Job, Node, NodeAt, Search, Set, Zone,
    additional::{MAX_BY_NAME, target_at},
    alias_targets::AliasTargets,
    build::Builder,
    lay_out, node_flag,
};
use crate::{
    manifest::{
        overlay::{EditedSet, Overlay},
        transferred::{ChangedSet, Content, Values},
    },
    wire::{
        Name,
        query::{LookupName, name_hash},
        rdata::rtype,
    },
};
use imbl::{OrdMap, ordmap::DiffItem};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
    sync::Arc,
};

/// The number of changed names that a zone of any size may have.
const MIN_NAMES: usize = 1000;
/// The part of the zone's names and octets that may be changed is one in this number.
const SHARE: usize = 16;
/// The size of changed nodes that a zone of any size may have, in octets.
const MIN_OCTETS: usize = 1 << 20;

/// A record set after a change.
pub struct SetChange<'a> {
    /// The owner.
    pub owner: &'a Name,
    /// The type.
    pub rtype: u16,
    /// The TTL in seconds.
    pub ttl: u32,
    /// The data of its records; none: the set is deleted.
    pub values: Vec<&'a [u8]>,
}

impl<'a> SetChange<'a> {
    pub(super) fn new(set: &'a EditedSet) -> SetChange<'a> {
        let values = set.values.iter().map(|value| &**value).collect();
        SetChange { owner: &set.owner, rtype: set.rtype, ttl: set.ttl, values }
    }
}

/// The sets that updates have changed from one overlay to a later one; none if the later one lacks a set of the first.
pub(super) fn between<'a>(old: Option<&'a Overlay>, new: &'a Overlay) -> Option<Vec<SetChange<'a>>> {
    match old {
        Some(old) => Some(old.changed(new)?.into_iter().map(SetChange::new).collect()),
        None => Some(new.sets().map(SetChange::new).collect()),
    }
}

/// The sets that a transfer has changed from one version of a zone's records to another.
pub(super) fn transferred<'a>(old: &'a Content, new: &'a Content) -> Vec<SetChange<'a>> {
    let change = |set: ChangedSet<'a>| {
        let ttl = set.values.and_then(|values| values.iter().next()).map_or(0, |(ttl, _)| ttl);
        let values = set.values.into_iter().flat_map(Values::iter).map(|(_, data)| data).collect();
        SetChange { owner: set.owner, rtype: set.rtype, ttl, values }
    };
    old.changed(new).map(change).collect()
}

/// The data about a zone's block that a change needs.
#[derive(Debug)]
pub(super) struct Shape {
    /// The number of names one label below each name, by the slots of the table.
    children: Box<[u32]>,
    /// The names of the zone cuts' name servers, without the apex.
    cut_targets: HashSet<Box<[u8]>>,
    pub(super) aliases: AliasTargets,
    /// The zone has no warnings, and its source has no record twice.
    pub(super) is_plain: bool,
    /// The number of names.
    names: usize,
}

impl Shape {
    /// The data of a zone; none if each change has to build the zone again.
    pub fn new(zone: &Zone, is_plain: bool) -> Option<Shape> {
        let mut children = vec![0; zone.table.slots()];
        let (mut cut_targets, mut names) = (HashSet::new(), 0);
        for cut in zone.cuts.iter() {
            let relative = |name: &[u8]| zone.relative_of(name).map(|(name, relative)| name.wire()[..relative].into());
            cut_targets.extend(cut.name_servers.iter().filter_map(|server| relative(&server.name)));
        }
        for node in zone.nodes() {
            names += 1;
            for set in node.sets() {
                if target_at(set.rtype()).is_some() && set.count() as usize > MAX_BY_NAME {
                    return None;
                }
            }
            let (name, _) = zone.relative_of(&[node.relative(), &zone.apex].concat())?;
            for skip in 1..name.labels().saturating_sub(zone.apex_labels) {
                let (slot, at) = zone.slot_of(&name, skip)?;
                children[slot] += 1;
                let parent = &name.suffix(skip)[..name.suffix(skip).len() - zone.apex.len()];
                // A name with a node, or with counted names below it, is counted by itself.
                if children[slot] > 1 || zone.node(NodeAt(at)).relative() == parent {
                    break;
                }
            }
        }
        Some(Shape { children: children.into(), cut_targets, aliases: AliasTargets::new(zone), is_plain, names })
    }

    /// Its size in memory, in octets.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.children) + self.aliases.memory()
    }
}

/// The state of a name after changes.
#[derive(Clone, Debug, PartialEq)]
enum Version {
    /// The name is as in the block.
    Same,
    /// The name is in the block, but deleted.
    Deleted,
    /// The name has a node of its own.
    Own(Arc<[u8]>),
}

/// A name that differs from the block.
#[derive(Clone, Debug, PartialEq)]
struct ChangedName {
    /// The name without the apex.
    relative: Box<[u8]>,
    version: Version,
    /// The number of names one label below it, minus that in the block.
    children: i32,
}

impl ChangedName {
    fn octets(&self) -> usize {
        let own = if let Version::Own(block) = &self.version { block.len() } else { 0 };
        size_of::<ChangedName>() + self.relative.len() + own + 64
    }
}

/// The differences between a zone and its block.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    /// The changed names, by their hashes.
    names: OrdMap<u64, Arc<ChangedName>>,
    /// The node of the apex, followed by the set of negative answers.
    head: Arc<[u8]>,
    negative: usize,
    octets: usize,
}

impl Changes {
    pub fn apex_node<'z>(&'z self, zone: &'z Zone) -> Node<'z> {
        Node { zone, block: &self.head, at: 0 }
    }

    pub fn negative<'z>(&'z self, zone: &'z Zone) -> Set<'z> {
        Set { zone, block: &self.head, at: self.negative }
    }

    pub fn head_mut(&mut self) -> &mut [u8] {
        Arc::make_mut(&mut self.head)
    }

    /// Its size in memory, in octets.
    pub fn memory(&self) -> usize {
        self.octets + self.head.len()
    }

    fn get(&self, relative: &[u8], hash: u64) -> Option<&ChangedName> {
        self.names.get(&hash).map(|name| &**name).filter(|name| *name.relative == *relative)
    }

    /// Finds the name with these labels in front of the apex.
    pub fn find<'z>(&'z self, zone: &'z Zone, relative: &[u8], hash: u64) -> Option<FoundNode<'z>> {
        let len = relative.len();
        if len == 0 {
            return Some(FoundNode { node: self.apex_node(zone), len });
        }
        let changed = self.get(relative, hash);
        if let Some(ChangedName { version: Version::Own(block), .. }) = changed {
            return Some(FoundNode { node: Node { zone, block, at: 0 }, len });
        }
        let found = zone.table.find_slot(hash, |at| zone.node(NodeAt(at)).is_at_or_below(relative));
        let in_block = found.map(|(slot, at)| (slot, FoundNode { node: zone.node(NodeAt(at)), len }));
        let Some(changed) = changed else { return Some(in_block?.1) };
        if let Some((_, found)) = in_block
            && changed.version == Version::Same
            && !found.is_empty()
        {
            return Some(found);
        }
        let had = in_block.map_or(0, |(slot, _)| zone.shape.as_ref().map_or(0, |shape| shape.children[slot]));
        // An empty non-terminal. No change is below a zone cut, so the node of the apex can stand for the node below it.
        (i64::from(had) + i64::from(changed.children) > 0).then(|| FoundNode { node: self.apex_node(zone), len })
    }

    /// The next changed node after a hash, in the order of hashes, with its hash.
    pub fn node_after<'z>(&'z self, zone: &'z Zone, hash: Option<u64>) -> Option<(u64, Node<'z>)> {
        let from = hash.map_or(Bound::Unbounded, Bound::Excluded);
        self.names.range((from, Bound::Unbounded)).find_map(|(hash, name)| match &name.version {
            Version::Own(block) => Some((*hash, Node { zone, block, at: 0 })),
            _ => None,
        })
    }

    /// Edits the entry of a name. None if another name has its hash.
    fn edit(&mut self, relative: &[u8], hash: u64, edit: impl FnOnce(&mut ChangedName)) -> Option<()> {
        let old = self.names.get(&hash);
        let mut name = match old {
            Some(old) if *old.relative != *relative => return None,
            Some(old) => ChangedName::clone(old),
            None => ChangedName { relative: relative.into(), version: Version::Same, children: 0 },
        };
        self.octets -= old.map_or(0, |old| old.octets());
        edit(&mut name);
        if name.version == Version::Same && name.children == 0 {
            self.names.remove(&hash);
        } else {
            self.octets += name.octets();
            self.names.insert(hash, Arc::new(name));
        }
        Some(())
    }
}

impl Zone {
    /// The zone after a change of these sets. None if the zone has to be built again: the change concerns zone cuts or DNAMEs,
    /// or has an error, or there are too many changes.
    pub(super) fn after(&self, job: &Job, sets: &[SetChange]) -> Option<Zone> {
        let shape = self.shape.as_ref()?;
        let is_at_apex_dname = self.apex_node().flags() & node_flag::DNAME != 0;
        if self.missing.is_some() || job.missing.is_some() || is_at_apex_dname {
            return None;
        }
        let mut by_owner: BTreeMap<Name, Vec<&SetChange>> = [(Name::from_wire(&self.apex).ok()?, Vec::new())].into();
        for set in sets {
            by_owner.entry(set.owner.to_lowercase()).or_default().push(set);
        }
        let most = MIN_NAMES.max(shape.names / SHARE);
        // Even if all that was changed before is changed again, too much is changed now.
        if by_owner.len() > 2 * most {
            return None;
        }
        let mut problems = Vec::new();
        let mut builder = Builder::new(job, &mut problems);
        let mut changed = Vec::new();
        for (owner, sets) in &by_owner {
            let (name, relative) = self.relative_of(owner.as_wire())?;
            let old = match self.search(&name) {
                Search::Cut(_) | Search::Dname(_) => return None,
                Search::Node(node) => Some(node),
                Search::Wildcard(_) | Search::Empty | Search::EmptyWildcard(_) | Search::Missing => None,
            };
            let is_structural = |set: &&SetChange| {
                set.rtype == rtype::DNAME
                    || set.rtype == rtype::NS && relative > 0
                    || target_at(set.rtype).is_some() && set.values.len() > MAX_BY_NAME
            };
            if sets.iter().any(is_structural) || shape.cut_targets.contains(&name.wire()[..relative]) {
                return None;
            }
            if let Some(old) = old {
                builder.add_node(old, |rtype| sets.iter().any(|set| set.rtype == rtype));
            }
            for set in sets {
                builder.add_changed(set);
            }
            changed.push((name, relative, old));
        }
        builder.check_sets();
        let apex = builder.nodes.first()?;
        let has = |rtype: u16| apex.sets.iter().any(|set| set.rtype == rtype);
        if builder.failed || !has(rtype::SOA) || !has(rtype::NS) {
            return None;
        }
        let mut zone = self.clone();
        zone.source = job.source.clone();
        (zone.overlay, zone.content) = (job.overlay.cloned(), job.content.cloned());
        let mut head = lay_out::alone(apex, &self.apex);
        let negative = head.len();
        head.extend_from_slice(&lay_out::negative(apex, &self.apex)?);
        let (names, octets) = self.changes.as_ref().map_or_else(Default::default, |c| (c.names.clone(), c.octets));
        zone.changes = Some(Box::new(Changes { names, head: head.into(), negative, octets }));
        for (name, relative, _) in changed.iter().filter(|(_, relative, _)| *relative > 0) {
            let node = builder.node_of(name.wire(), name.hash(0)).map(|at| &builder.nodes[at]);
            let block = node.filter(|node| !node.sets.is_empty()).map(|node| lay_out::alone(node, &self.apex));
            zone.change(name, *relative, block)?;
        }
        let changes = zone.changes.as_ref()?;
        if changes.names.len() > most || changes.octets > MIN_OCTETS.max(self.block.len() / SHARE) {
            return None;
        }
        let (mut digest, mut records) = (self.digest, self.records);
        for (name, _, old) in &changed {
            let new = zone.find(name, 0).filter(|found| !found.is_empty()).map(|found| found.node);
            let count = |node: &Node| node.sets().map(|set| usize::from(set.count().max(1))).sum::<usize>();
            records = records + new.iter().map(count).sum::<usize>() - old.iter().map(count).sum::<usize>();
            if job.source.needs_serial() {
                old.iter().for_each(|node| self.digest_node(*node, |item| digest.remove(item)));
                new.into_iter().for_each(|node| zone.digest_node(node, |item| digest.add(item)));
            }
        }
        (zone.digest, zone.records) = (digest, records);
        Some(zone)
    }

    /// Gives a name below the apex a new node, or deletes it. None if another name has its hash.
    fn change(&mut self, name: &LookupName, relative: usize, block: Option<Vec<u8>>) -> Option<()> {
        let is_there = |zone: &Zone, skip: usize| zone.find(name, skip).is_some();
        let labels = name.labels() - self.apex_labels;
        let was_there = is_there(self, 0);
        let is_in_block =
            self.slot_of(name, 0).is_some_and(|(_, at)| self.node(NodeAt(at)).relative().len() == relative);
        let version = match block {
            Some(block) => Version::Own(block.into()),
            None if is_in_block => Version::Deleted,
            None => Version::Same,
        };
        let edit = |zone: &mut Zone, skip: usize, edit: &dyn Fn(&mut ChangedName)| {
            let relative = &name.suffix(skip)[..name.suffix(skip).len() - zone.apex.len()];
            zone.changes.as_mut()?.edit(relative, name.hash(skip), edit)
        };
        edit(self, 0, &|name| name.version = version.clone())?;
        let added = match (was_there, is_there(self, 0)) {
            (false, true) => 1,
            (true, false) => -1,
            _ => return Some(()),
        };
        // The name above has one name more or less below it, so it may appear or disappear too.
        for skip in 1..labels {
            let was_there = is_there(self, skip);
            edit(self, skip, &|name| name.children += added)?;
            if was_there == is_there(self, skip) {
                break;
            }
        }
        Some(())
    }

    /// The slot in the table of the name that is left when `skip` labels are taken from `name`, and its node in the block.
    fn slot_of(&self, name: &LookupName, skip: usize) -> Option<(usize, u32)> {
        let suffix = name.suffix(skip);
        let relative = &suffix[..suffix.len() - self.apex.len()];
        self.table.find_slot(name.hash(skip), |at| self.node(NodeAt(at)).is_at_or_below(relative))
    }

    /// A name in wire format, ready for a search, and its length in front of the apex in octets. None if it is not at the apex
    /// or below.
    pub(super) fn relative_of(&self, wire: &[u8]) -> Option<(LookupName, usize)> {
        let name = LookupName::new(wire)?;
        let skip = name.labels().checked_sub(self.apex_labels)?;
        let is_below = name.suffix(skip) == &*self.apex;
        let relative = name.start(skip);
        is_below.then_some((name, relative))
    }

    /// A node of the block, unless its name has changed. Of the apex, the changed node.
    pub(super) fn unless_changed<'z>(&'z self, node: Node<'z>) -> Option<Node<'z>> {
        let Some(changes) = &self.changes else { return Some(node) };
        if node.at == 0 {
            return Some(self.apex_node());
        }
        let hash = name_hash(&[node.relative(), &self.apex].concat());
        let changed = changes.get(node.relative(), hash).is_some_and(|name| name.version != Version::Same);
        (!changed).then_some(node)
    }

    /// The names that differ in a later version of the zone, without apex, each with its hash. The apex itself is left out.
    /// None if the versions do not share a block, so that any name may differ.
    pub(super) fn changed_names(&self, later: &Zone) -> Option<Vec<(u64, Box<[u8]>)>> {
        if !Arc::ptr_eq(&self.block, &later.block) {
            return None;
        }
        let nothing = OrdMap::new();
        let names =
            |zone: &'_ Zone| zone.changes.as_ref().map_or_else(|| nothing.clone(), |changes| changes.names.clone());
        let mut changed = Vec::new();
        for item in names(self).diff(&names(later)) {
            let (one, other) = match item {
                DiffItem::Add(hash, name) | DiffItem::Remove(hash, name) => ((hash, name), None),
                DiffItem::Update { old, new } => (old, Some(new).filter(|new| new.1.relative != old.1.relative)),
            };
            changed.extend([Some(one), other].into_iter().flatten().map(|(hash, name)| (*hash, name.relative.clone())));
        }
        Some(changed)
    }

    /// The names, in wire format, whose records may differ in a later version of the zone, including the apex. None if the
    /// versions do not share a block, so that any name may differ.
    pub fn names_changed_in(&self, later: &Zone) -> Option<BTreeSet<Box<[u8]>>> {
        let own = self.changed_names(later)?.into_iter().map(|(_, relative)| relative);
        let all = own.chain(self.aliases_touched_in(later)?).chain([Box::default()]);
        Some(all.map(|relative| [&relative, &*self.apex].concat().into()).collect())
    }
}

#[cfg(test)]
mod tests;
