//! Reading all names and records of a zone, for transfers and changes.

use super::{Node, NodeAt, Search, Set, Zone, groups::Content, read_u16};
use crate::{manifest::work, snapshot::aliases::MAX_ALIASES, wire::query::LookupName};

/// A position in the order of all nodes of a zone. The first one is that of the apex.
#[derive(Clone, Copy, Default)]
pub struct Cursor {
    /// The offset of the node in the zone's block.
    at: u32,
    /// The hash of the last changed node that was read. Changed nodes come after the block, in the order of their hashes.
    changed: Option<u64>,
}

impl Zone {
    /// All names of the zone, the apex first.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        let mut cursor = Cursor::default();
        std::iter::from_fn(move || {
            let (node, next) = self.node_at(cursor)?;
            cursor = next;
            Some(node)
        })
    }

    /// The node at a cursor, and the cursor of the next node; none behind the last node.
    pub fn node_at(&self, cursor: Cursor) -> Option<(Node<'_>, Cursor)> {
        let mut at = cursor.at;
        // The nodes are one after the other, up to the set of negative answers.
        while at < self.negative {
            work::count(1);
            let node = self.node(NodeAt(at));
            let next = Cursor { at: node.end() as u32, ..cursor };
            if let Some(node) = self.unless_changed(node) {
                return Some((node, next));
            }
            at = next.at;
        }
        let (hash, node) = self.changes.as_ref()?.node_after(self, cursor.changed)?;
        Some((node, Cursor { at, changed: Some(hash) }))
    }

    /// All record sets with their owners, in wire format and lower case. An alias has the records of the zone's name that it
    /// leads to. An alias to an endpoint has no data of its own, and is left out.
    pub fn record_sets(&self) -> impl Iterator<Item = (Vec<u8>, Set<'_>)> {
        self.nodes().flat_map(move |node| self.sets_of(node))
    }

    /// The record sets of one name.
    pub fn sets_of<'z>(&'z self, node: Node<'z>) -> impl Iterator<Item = (Vec<u8>, Set<'z>)> {
        let owner = [node.relative(), &self.apex].concat();
        node.sets().filter_map(move |set| Some((owner.clone(), self.follow_alias(set)?)))
    }

    /// The node of a name in wire format; none if the zone has no records at that name.
    pub fn node_of(&self, name: &[u8]) -> Option<Node<'_>> {
        let name = LookupName::new(name)?;
        let is_below =
            name.labels() >= self.apex_labels && name.suffix(name.labels() - self.apex_labels) == &*self.apex;
        let found = if is_below { self.find(&name, 0) } else { None };
        found.filter(|found| !found.is_empty()).map(|found| found.node)
    }

    /// The set itself; of an alias, the set that it leads to within the zone; of a group, the records of its first member.
    pub fn follow_alias<'z>(&'z self, set: Set<'z>) -> Option<Set<'z>> {
        if let Some(group) = set.group() {
            return self.group(group)?.members.iter().find_map(|member| match member.content {
                Content::Records(at) => self.member_node(at).set(set.rtype()),
                Content::Alias { .. } => None,
            });
        }
        match set.alias() {
            None => Some(set),
            Some(number) => self.target_of_alias(number, set.rtype()),
        }
    }

    /// The set that the alias with a number leads to within the zone.
    pub fn target_of_alias(&self, mut number: usize, rtype: u16) -> Option<Set<'_>> {
        for _ in 0..MAX_ALIASES {
            let name = LookupName::new(self.alias(number).as_wire())?;
            let is_below =
                name.labels() >= self.apex_labels && name.suffix(name.labels() - self.apex_labels) == &*self.apex;
            if !is_below {
                return None;
            }
            let (Search::Node(node) | Search::Wildcard(node)) = self.search(&name) else { return None };
            let found = node.set(rtype)?;
            match found.alias() {
                Some(next) => number = next,
                None => return Some(found).filter(|found| found.group().is_none()),
            }
        }
        None
    }

    /// The SOA record's data.
    pub fn soa(&self) -> Vec<u8> {
        let set = self.apex_node().set(crate::wire::rdata::rtype::SOA);
        set.and_then(|set| set.values().next()).unwrap_or_default()
    }

    /// The zone's serial.
    pub fn serial(&self) -> u32 {
        soa_serial(&self.soa())
    }
}

/// The serial in the data of a SOA record, which ends with five numbers.
pub fn soa_serial(soa: &[u8]) -> u32 {
    soa.last_chunk::<20>().map_or(0, |numbers| u32::from_be_bytes([numbers[0], numbers[1], numbers[2], numbers[3]]))
}

impl Node<'_> {
    /// The offset of the next node.
    pub(super) fn end(self) -> usize {
        self.sets().last().map_or(self.name_at() + self.block[self.at] as usize, Set::end)
    }
}

impl<'z> Set<'z> {
    /// The data of its records, without compression. An alias has none.
    pub fn values(self) -> impl Iterator<Item = Vec<u8>> {
        let records = self.records();
        let pointers: Vec<usize> =
            (self.fixups_at()..self.records_at()).step_by(2).map(|at| read_u16(self.block, at)).collect();
        let mut left = self.count();
        let mut start = 0;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let data = start + 12;
            let end = data + u16::from_be_bytes([records[data - 2], records[data - 1]]) as usize;
            let mut value = Vec::with_capacity(end - data);
            let mut from = data;
            for &at in pointers.iter().filter(|at| (data..end).contains(*at)) {
                value.extend_from_slice(&records[from..at]);
                value.extend_from_slice(&self.zone.apex);
                from = at + 2;
            }
            value.extend_from_slice(&records[from..end]);
            start = end;
            Some(value)
        })
    }
}
