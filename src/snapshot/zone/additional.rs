//! What goes with a set of names: the nodes whose sets belong in the additional section.

use super::build::{Builder, NodeBuilder, SetBuilder, ends_with};
use super::node_flag;
use crate::wire::{name::wire_len, rdata::rtype};
use std::collections::HashMap;

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
        if let Some(at) = self.by_name.get(name) {
            return Some(*at);
        }
        if !ends_with(name, &self.apex) {
            return None;
        }
        let mut encloser = name;
        let encloser = loop {
            encloser = encloser.get(1 + usize::from(*encloser.first()?)..)?;
            if let Some(at) = self.by_name.get(encloser) {
                break &self.nodes[*at];
            }
        };
        let is_hidden = encloser.occluder.is_some() || encloser.flags & (node_flag::CUT | node_flag::DNAME) != 0;
        let source = encloser.wildcard.filter(|_| !is_hidden)?;
        let octets: usize = self.nodes[source].sets.iter().flat_map(|set| &set.values).map(|value| value.len()).sum();
        if octets > MOST_MADE {
            return None;
        }
        let number = self.nodes.len() + made.names.len();
        let known = *made.numbers.entry(name.into()).or_insert(number);
        if known == number {
            made.names.push((name.into(), source));
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

/// The most octets of a wildcard's records that are copied for each target that it stands in for.
const MOST_MADE: usize = 512;

/// Nodes made for targets that wildcards stand in for, which nothing but additional sections has.
#[derive(Default)]
pub(super) struct Made {
    /// Their names, each with the number of the wildcard.
    pub(super) names: Vec<(Box<[u8]>, usize)>,
    numbers: HashMap<Box<[u8]>, usize>,
}

/// Whether sets of a type at a target go with the set that names it: addresses, and what a service leads on to.
pub(super) fn is_additional(rtype: u16, other: u16) -> bool {
    matches!(other, rtype::A | rtype::AAAA) || matches!(rtype, rtype::SVCB | rtype::HTTPS) && other == rtype
}
