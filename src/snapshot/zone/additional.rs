//! The additional section: the nodes whose record sets accompany a set with names (RFC 1034, 4.3.2, step 6).

use super::build::{Builder, NodeBuilder, SetBuilder, ends_with};
use super::{Node, NodeAt, Search, Set, node_flag, read_u32};
use crate::wire::{
    name::{MAX_NAME, wire_len},
    query::{LookupName, child_hash},
    rdata::rtype,
};
use std::collections::{HashMap, HashSet};

impl<'a> Builder<'a> {
    /// The nodes whose record sets accompany a set (RFC 1034, 4.3.2; RFC 1035, 3.3.9; RFC 2782; RFC 9460, 4.1). A target that a
    /// wildcard matches gets a node in `made`. The numbers of these nodes follow on those of all other nodes.
    pub(super) fn additional(&self, node: &NodeBuilder, set: &SetBuilder, made: &mut Made) -> Vec<usize> {
        let mut nodes = Vec::new();
        let Some(skip) = target_at(set.rtype) else { return nodes };
        let is_cut = node.flags & node_flag::CUT != 0;
        for value in &set.values {
            let target = value.get(skip..).unwrap_or_default();
            let target = match (skip, target) {
                // "." means the owner itself, or no target in alias mode (RFC 9460, 2.5).
                (2, [0, ..]) if set.rtype != rtype::MX && value[..2] != [0, 0] => node.name.to_vec(),
                (_, [] | [0, ..]) => continue,
                // Parameters may follow the name.
                _ => target[..wire_len(target).unwrap_or(0)].to_ascii_lowercase(),
            };
            let Some(at) = self.node_for(&target, made) else { continue };
            if (self.nodes.get(at).is_none_or(|node| node.occluder.is_none()) || is_cut)
                && self.has_additional(self.source_of(at, made), set.rtype)
                && !nodes.contains(&at)
            {
                nodes.push(at);
            }
        }
        nodes
    }

    /// The node of a name of the zone, or a node that is made for it from the wildcard that matches it.
    fn node_for(&self, name: &[u8], made: &mut Made) -> Option<usize> {
        let name = LookupName::new(name).filter(|name| ends_with(name.wire(), &self.apex))?;
        if let Some(at) = self.node_of(name.wire(), name.hash(0)) {
            return Some(at);
        }
        if !made.has_wildcards || made.empty.contains(&name.hash(0)) || made.octets > MAX_MADE_OCTETS {
            return None;
        }
        let source = (1..=name.labels()).find_map(|skip| {
            let wildcard = match self.node_of(name.suffix(skip), name.hash(skip)) {
                Some(at) => self.nodes[at].wildcard,
                None if made.empty.contains(&name.hash(skip)) => {
                    let wildcard = [b"\x01*", name.suffix(skip)].concat();
                    self.node_of(&wildcard, child_hash(name.hash(skip), b"*"))
                }
                None => return None,
            };
            Some(wildcard)
        });
        // A wildcard below a zone cut or a DNAME matches nothing.
        let source = source?.filter(|source| self.nodes[*source].occluder.is_none())?;
        let octets: usize = self.nodes[source].sets.iter().flat_map(|set| &set.values).map(|value| value.len()).sum();
        if octets > MAX_COPIED_OCTETS {
            return None;
        }
        let number = self.nodes.len() + made.names.len();
        let known = *made.numbers.entry(name.wire().into()).or_insert(number);
        if known == number {
            made.names.push((name.wire().into(), source));
            made.octets += name.wire().len() + 2 * octets;
        }
        Some(known)
    }

    /// The node whose sets a node has: for a made node, the wildcard.
    fn source_of(&self, at: usize, made: &Made) -> &NodeBuilder<'a> {
        let source = at.checked_sub(self.nodes.len()).map_or(at, |number| made.names[number].1);
        &self.nodes[source]
    }

    /// Whether a node has a set that accompanies a set of a type.
    fn has_additional(&self, node: &NodeBuilder, rtype: u16) -> bool {
        node.sets.iter().any(|set| is_additional(rtype, set.rtype))
    }
}

/// The largest size of a wildcard's records that are copied for each target that it matches, in octets. Larger ones are left
/// out, and the client asks for them.
const MAX_COPIED_OCTETS: usize = 512;
/// The largest size of all nodes that are made from a zone's wildcards, in octets, approximately.
const MAX_MADE_OCTETS: usize = 64 << 20;

/// Nodes that are made for targets that wildcards match. Only additional sections use them.
#[derive(Default)]
pub(super) struct Made {
    /// The names of the nodes, each with the number of its wildcard.
    pub(super) names: Vec<(Box<[u8]>, usize)>,
    numbers: HashMap<Box<[u8]>, usize>,
    /// The hashes of empty non-terminals.
    empty: HashSet<u64>,
    has_wildcards: bool,
    octets: usize,
}

impl Made {
    /// No nodes yet, for a zone with these empty non-terminals.
    pub(super) fn new(zone: &Builder, empty: impl Iterator<Item = u64>) -> Made {
        let has_wildcards = zone.nodes.iter().any(|node| node.name.starts_with(b"\x01*"));
        let empty = if has_wildcards { empty.collect() } else { HashSet::new() };
        Made { empty, has_wildcards, ..Made::default() }
    }
}

/// The largest number of names in a set of a changed zone, where targets are found by name. A zone with a larger set is built
/// again with each change.
pub(super) const MAX_BY_NAME: usize = 64;

/// A target of a set, with its node.
#[derive(Clone, Copy)]
pub struct Target<'t, 'z> {
    /// The node of the target, or of the wildcard that matches it.
    pub node: Node<'z>,
    /// The labels of the target's name in front of the apex, in lower case.
    pub relative: &'t [u8],
    /// The target is the owner of the set itself.
    pub is_self: bool,
}

impl<'z> Node<'z> {
    /// Calls `each` for the targets of a set of the node whose sets belong in the additional section.
    pub fn additional(self, set: Set<'z>, mut each: impl FnMut(Target<'_, 'z>)) {
        if self.zone.changes.is_some() {
            return self.additional_by_name(set, each);
        }
        for at in (set.at + Set::FIXED..set.fixups_at()).step_by(4) {
            let node = self.zone.node(NodeAt(read_u32(set.block, at)));
            each(Target { node, relative: node.relative(), is_self: node == self });
        }
    }

    /// Does this in a changed zone, by the names in the set.
    fn additional_by_name(self, set: Set<'z>, mut each: impl FnMut(Target<'_, 'z>)) {
        let is_cut = self.flags() & node_flag::CUT != 0;
        let (mut seen, mut count) = ([0; MAX_BY_NAME], 0);
        let mut records = if target_at(set.rtype()).is_some() { set.records() } else { &[] };
        while !records.is_empty() {
            let (record, others) = records.split_at(12 + u16::from_be_bytes([records[10], records[11]]) as usize);
            records = others;
            let Some((node, name)) = self.target_of(set.rtype(), &record[12..]) else { continue };
            if (is_cut || !node.is_occluded())
                && node.sets().any(|other| set.is_joined_by(other))
                && !seen[..count].contains(&name.hash(0))
                && count < MAX_BY_NAME
            {
                seen[count] = name.hash(0);
                count += 1;
                let relative = &name.wire()[..name.wire().len() - self.zone.apex.len()];
                each(Target { node, relative, is_self: relative == self.relative() });
            }
        }
    }

    /// The target of a record of the node, and its name.
    fn target_of(self, rtype: u16, data: &[u8]) -> Option<(Node<'z>, LookupName)> {
        let zone = self.zone;
        let name = data.get(target_at(rtype)?..)?;
        let mut at = 0;
        while (1..=63).contains(name.get(at)?) {
            at += 1 + name[at] as usize;
        }
        // The name ends with the root label, or with a pointer to the apex.
        let (front, end) = match (at, name[at]) {
            // "." means the owner itself, or no target in alias mode (RFC 9460, 2.5).
            (0, 0) if matches!(rtype, rtype::SVCB | rtype::HTTPS) && data[..2] != [0, 0] => {
                (self.relative(), &*zone.apex)
            }
            (0, 0) => return None,
            (_, 0) => (&name[..at], &[0][..]),
            _ => (&name[..at], &*zone.apex),
        };
        let mut wire = [0; 2 * MAX_NAME];
        wire.get_mut(..front.len())?.copy_from_slice(front);
        wire.get_mut(front.len()..front.len() + end.len())?.copy_from_slice(end);
        let (name, _) = zone.relative_of(&wire)?;
        if let Some(found) = zone.find(&name, 0) {
            return (!found.is_empty()).then_some((found.node, name));
        }
        let Search::Wildcard(node) = zone.search(&name) else { return None };
        (node.sets().map(Set::data_octets).sum::<usize>() <= MAX_COPIED_OCTETS).then_some((node, name))
    }
}

/// The offset of the target's name in a record's data; none for types without a target.
pub(super) fn target_at(rtype: u16) -> Option<usize> {
    match rtype {
        rtype::NS => Some(0),
        rtype::MX | rtype::SVCB | rtype::HTTPS => Some(2),
        rtype::SRV => Some(6),
        _ => None,
    }
}

/// Whether a set of type `other` at a target accompanies a set of type `rtype`: addresses, and for services the same type.
pub(super) fn is_additional(rtype: u16, other: u16) -> bool {
    matches!(other, rtype::A | rtype::AAAA) || matches!(rtype, rtype::SVCB | rtype::HTTPS) && other == rtype
}
