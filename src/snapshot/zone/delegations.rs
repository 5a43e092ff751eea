//! Delegations within a zone: the zone cuts with their name servers, and their glue.

use super::{
    ZoneCut,
    build::{Builder, NodeBuilder, ends_with, has_address},
    node_flag,
};
use crate::{
    snapshot::routes::NameServer,
    wire::{
        name::name_text,
        rdata::{self, rtype},
    },
};
use std::{borrow::Cow, collections::HashSet, net::IpAddr};

impl Builder<'_> {
    /// Warns of occluded records that are not glue, and of delegations without necessary glue.
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

    /// The zone cuts, with their name servers and the addresses that the zone has of these.
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
