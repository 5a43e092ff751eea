//! The structure of a zone: wildcards, zone cuts with their name servers, and glue.

use super::{
    ZoneCut,
    build::{Builder, NodeBuilder, ends_with},
    node_flag,
};
use crate::{
    snapshot::{names::Numbering, routes::NameServer},
    wire::{
        name::{labels, name_text},
        query::{LookupName, name_hash},
        rdata::{self, rtype},
    },
};
use std::{borrow::Cow, collections::HashSet, net::IpAddr};

impl Builder<'_> {
    /// Links each node to the wildcard below it, and to the highest zone cut or DNAME above it (RFC
    /// 2181, section 6; RFC 6672, section 2.4).
    pub(super) fn link_nodes(&mut self) {
        let mut above = Numbering::default();
        let mut is_divided = false;
        for at in 0..self.nodes.len() {
            let name = &self.nodes[at].name;
            if self.nodes[at].flags & (node_flag::CUT | node_flag::DNAME) != 0 {
                above.insert(name_hash(name), at as u32);
                is_divided = true;
            }
            if at != 0
                && let Some(parent) = name.strip_prefix(b"\x01*").and_then(|parent| self.named(parent))
            {
                self.nodes[parent].wildcard = Some(at);
                self.nodes[parent].flags |= node_flag::WILDCARD;
            }
        }
        let apex_labels = labels(&self.apex).count();
        for at in 1..self.nodes.len() {
            let Some(name) = LookupName::new(&self.nodes[at].name).filter(|_| is_divided) else { continue };
            // The highest zone cut or DNAME occludes all names below it.
            let occluder = (1..=name.labels() - apex_labels).rev().find_map(|skip| {
                above.find(name.hash(skip), |other| *self.nodes[other as usize].name == *name.suffix(skip))
            });
            if let Some(occluder) = occluder {
                self.nodes[at].occluder = Some(occluder as usize);
                self.nodes[at].flags |= node_flag::OCCLUDED;
            }
        }
    }

    /// Warns of occluded records that are not glue, and of delegations that lack glue.
    pub(super) fn check_glue(&mut self) {
        let mut wanted: HashSet<Box<[u8]>> = HashSet::new();
        let mut warnings = Vec::new();
        for node in &self.nodes {
            if node.flags & node_flag::CUT == 0 || node.occluder.is_some() {
                continue;
            }
            for set in node.sets.iter().filter(|set| set.rtype == rtype::NS) {
                for target in &set.values {
                    let target = target.to_ascii_lowercase();
                    let has_address = self.named(&target).is_some_and(|at| has_address(&self.nodes[at]));
                    if ends_with(&target, &node.name) && !has_address {
                        let (owner, target) = (name_text(&node.name), name_text(&target));
                        let message = format!("the delegation of {owner} has no glue: add an address for {target}");
                        warnings.push((set.origin, message));
                    }
                    wanted.insert(target.into());
                }
            }
        }
        for node in &self.nodes {
            let Some(occluder) = node.occluder else { continue };
            let is_glue = wanted.contains(&node.name);
            for set in &node.sets {
                if !(is_glue && matches!(set.rtype, rtype::A | rtype::AAAA)) {
                    let (owner, above) = (name_text(&node.name), name_text(&self.nodes[occluder].name));
                    let what = rdata::type_to_text(set.rtype);
                    let message = format!(
                        "the {what} records of {owner} are never served: {above} above is delegated or has a DNAME record"
                    );
                    warnings.push((set.origin, message));
                }
            }
        }
        for (origin, message) in warnings {
            self.warning(origin, message);
        }
    }

    /// Returns the zone cuts with their name servers, and the addresses of these in the zone.
    pub(super) fn cuts(&self) -> Vec<ZoneCut> {
        let is_cut = |node: &&NodeBuilder| node.flags & node_flag::CUT != 0 && node.occluder.is_none();
        let address = |value: &Cow<[u8]>| match value.len() {
            4 => <[u8; 4]>::try_from(&value[..]).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(&value[..]).ok().map(IpAddr::from),
        };
        let name_server = |name: &Cow<[u8]>| {
            let name: Box<[u8]> = name.to_ascii_lowercase().into();
            let node = self.named(&name).map(|at| &self.nodes[at]);
            let sets = node.into_iter().flat_map(|node| &node.sets);
            let sets = sets.filter(|set| matches!(set.rtype, rtype::A | rtype::AAAA));
            let addresses = sets.flat_map(|set| &set.values).filter_map(address).collect();
            NameServer { name, addresses }
        };
        let cut = |node: &NodeBuilder| {
            let sets = node.sets.iter().filter(|set| set.rtype == rtype::NS);
            let name_servers = sets.flat_map(|set| &set.values).map(name_server).collect();
            ZoneCut { name: node.name.clone(), name_servers }
        };
        self.nodes.iter().filter(is_cut).map(cut).collect()
    }
}

/// Whether a node has addresses of its own.
fn has_address(node: &NodeBuilder) -> bool {
    node.sets.iter().any(|set| matches!(set.rtype, rtype::A | rtype::AAAA) && set.alias.is_none())
}
