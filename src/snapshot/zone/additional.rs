//! What goes with a set of names: the nodes whose sets belong in the additional section.

use super::build::{Builder, NodeBuilder, SetBuilder, ends_with};
use super::node_flag;
use crate::wire::{
    name::wire_len,
    query::{LookupName, child_hash},
    rdata::rtype,
};
use std::collections::{HashMap, HashSet};

impl<'a> Builder<'a> {
    /// The nodes whose addresses go with a set (RFC 1034, 4.3.2; RFC 1035, 3.3.9; RFC 2782; RFC 9460, 4.1). For a target that
    /// a wildcard stands in for, one is made in `made`: its number is that of the node behind all others.
    pub(super) fn additional(&self, node: &NodeBuilder, set: &SetBuilder, made: &mut Made) -> Vec<usize> {
        let mut nodes = Vec::new();
        let skip = match set.rtype {
            rtype::NS => 0,
            rtype::MX | rtype::SVCB | rtype::HTTPS => 2,
            rtype::SRV => 6,
            _ => return nodes,
        };
        let is_cut = node.flags & node_flag::CUT != 0;
        for value in &set.values {
            let target = value.get(skip..).unwrap_or_default();
            let target = match (skip, target) {
                // The owner itself, or nothing at all in an alias (RFC 9460, 2.5).
                (2, [0, ..]) if set.rtype != rtype::MX && value[..2] != [0, 0] => node.name.to_vec(),
                (_, [] | [0, ..]) => continue,
                // Parameters may follow.
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

    /// The node of a name of the zone, or one that is made for it from the wildcard that stands in for it.
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
        // What is below a zone cut or a DNAME stands in for nothing.
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

    /// The node whose sets another one has.
    fn source_of(&self, at: usize, made: &Made) -> &NodeBuilder<'a> {
        let source = at.checked_sub(self.nodes.len()).map_or(at, |number| made.names[number].1);
        &self.nodes[source]
    }

    /// Whether a node has something that goes with a set that names it.
    fn has_additional(&self, node: &NodeBuilder, rtype: u16) -> bool {
        node.sets.iter().any(|set| is_additional(rtype, set.rtype))
    }
}

/// The most octets of a wildcard's records that are copied for each target that it stands in for. Additional sections are
/// a courtesy: where it has more, the client asks for them.
const MAX_COPIED_OCTETS: usize = 512;
/// About how many octets are made of a zone's wildcards in all.
const MAX_MADE_OCTETS: usize = 64 << 20;

/// Nodes made for targets that wildcards stand in for, which nothing but additional sections has.
#[derive(Default)]
pub(super) struct Made {
    /// Their names, each with the number of the wildcard.
    pub(super) names: Vec<(Box<[u8]>, usize)>,
    numbers: HashMap<Box<[u8]>, usize>,
    /// The hashes of empty non-terminals.
    empty: HashSet<u64>,
    has_wildcards: bool,
    octets: usize,
}

impl Made {
    /// Nothing is made yet for a zone with these empty non-terminals.
    pub(super) fn new(zone: &Builder, empty: impl Iterator<Item = u64>) -> Made {
        let has_wildcards = zone.nodes.iter().any(|node| node.name.starts_with(b"\x01*"));
        let empty = if has_wildcards { empty.collect() } else { HashSet::new() };
        Made { empty, has_wildcards, ..Made::default() }
    }
}

/// Whether sets of a type at a target go with the set that names it: addresses, and what a service leads on to.
pub(super) fn is_additional(rtype: u16, other: u16) -> bool {
    matches!(other, rtype::A | rtype::AAAA) || matches!(rtype, rtype::SVCB | rtype::HTTPS) && other == rtype
}
