//! The layout of a zone in memory, once all of its nodes are known.

use super::{
    Set,
    additional::Made,
    build::{Builder, MemberBuilder, NodeBuilder, SetBuilder, ends_with},
    groups::{Content, Group, Member},
    node_flag,
};
use crate::{
    snapshot::names::{Numbering, Table},
    wire::{
        codes::{class, pointer},
        name::labels,
        query::{HEADER, LookupName, name_hash},
        rdata::{self, rtype},
    },
};
use std::sync::Arc;

/// The memory of a zone.
pub(super) struct Layout {
    pub table: Table,
    pub block: Arc<[u8]>,
    pub negative: u32,
    pub has_empty_wildcards: bool,
    pub groups: Arc<[Group]>,
}

impl Builder<'_> {
    /// Lays the zone out: first the sizes, which give the offsets; then the octets. None if the apex has no SOA record.
    pub(super) fn lay_out(&mut self) -> Option<Layout> {
        let mut offsets = Vec::with_capacity(self.nodes.len());
        let mut size = 0usize;
        let mut compressed: Vec<Vec<Vec<Record>>> = Vec::with_capacity(self.nodes.len());
        let (mut names, has_empty_wildcards) = self.empty_non_terminals();
        let mut made = Made::new(self, names.iter().map(|(hash, _)| *hash));
        let additionals: Vec<Vec<Vec<usize>>> = self
            .nodes
            .iter()
            .map(|node| node.sets.iter().map(|set| self.additional(node, set, &mut made)).collect())
            .collect();
        for (node, additional) in self.nodes.iter().zip(&additionals) {
            offsets.push(size);
            size += 4 + 4 * (node.flags & (node_flag::WILDCARD | node_flag::OCCLUDED)).count_ones() as usize;
            size += node.name.len() - self.apex.len();
            let sets: Vec<Vec<Record>> = node
                .sets
                .iter()
                .map(|set| set.values.iter().map(|value| compress(set.rtype, value, &self.apex)).collect())
                .collect();
            for ((set, records), additional) in node.sets.iter().zip(&sets).zip(additional) {
                size += set_size(set, records, additional.len());
            }
            compressed.push(sets);
        }
        let negative_set = negative(&self.nodes[0], &self.apex)?;
        let mut total = size + negative_set.len();
        let is_copied = |set: &SetBuilder| matches!(set.rtype, rtype::A | rtype::AAAA | rtype::SVCB | rtype::HTTPS);
        for (name, source) in &made.names {
            offsets.push(total);
            total += 4 + name.len() - self.apex.len();
            let sets = self.nodes[*source].sets.iter().zip(&compressed[*source]);
            total += sets.filter(|(set, _)| is_copied(set)).map(|(set, r)| set_size(set, r, 0)).sum::<usize>();
        }
        let mut block = Vec::with_capacity(total);
        for (at, node) in self.nodes.iter().enumerate() {
            let relative = &node.name[..node.name.len() - self.apex.len()];
            block.extend_from_slice(&[relative.len() as u8, node.flags]);
            block.extend_from_slice(&(node.sets.len() as u16).to_le_bytes());
            for other in [node.wildcard, node.occluder].into_iter().flatten() {
                block.extend_from_slice(&(offsets[other] as u32).to_le_bytes());
            }
            block.extend_from_slice(relative);
            for (number, set) in node.sets.iter().enumerate() {
                let additional: Vec<u32> = additionals[at][number].iter().map(|node| offsets[*node] as u32).collect();
                write_set(&mut block, set.rtype, set.ttl, &compressed[at][number], &additional, set.alias);
            }
        }
        let negative = block.len() as u32;
        block.extend_from_slice(&negative_set);
        // Only additional sections use the nodes behind this point.
        for (name, source) in &made.names {
            let relative = &name[..name.len() - self.apex.len()];
            let sets = || self.nodes[*source].sets.iter().zip(&compressed[*source]).filter(|(set, _)| is_copied(set));
            block.extend_from_slice(&[relative.len() as u8, 0]);
            block.extend_from_slice(&(sets().count() as u16).to_le_bytes());
            block.extend_from_slice(relative);
            for (set, records) in sets() {
                write_set(&mut block, set.rtype, set.ttl, records, &[], set.alias);
            }
        }
        let groups = self.lay_out_groups(&mut block);
        names.extend(self.nodes.iter().zip(0..).map(|(node, at)| (name_hash(&node.name), at)));
        let table = Table::new(names.into_iter().map(|(hash, at)| (hash, offsets[at as usize] as u32)));
        Some(Layout { table, block: block.into(), negative, has_empty_wildcards, groups })
    }

    /// Adds a node for each member with records of each group. No name leads to it.
    fn lay_out_groups(&mut self, block: &mut Vec<u8>) -> Arc<[Group]> {
        let mut groups = Vec::with_capacity(self.groups.len());
        for group in std::mem::take(&mut self.groups) {
            let name = &self.nodes[group.node].name;
            let relative = &name[..name.len() - self.apex.len()];
            let mut content = |member: &MemberBuilder| {
                if let Some((target, evaluate_target_health)) = &member.alias {
                    return Content::Alias { target: target.clone(), evaluate_target_health: *evaluate_target_health };
                }
                let at = block.len() as u32;
                block.extend_from_slice(&[relative.len() as u8, 0, 1, 0]);
                block.extend_from_slice(relative);
                let SetBuilder { rtype, ttl, values, .. } = &member.records;
                let records: Vec<Record> = values.iter().map(|value| compress(*rtype, value, &self.apex)).collect();
                write_set(block, *rtype, *ttl, &records, &[], None);
                Content::Records(at)
            };
            let members = group.members.into_iter().map(|member| Member {
                content: content(&member),
                identifier: member.identifier,
                rule: member.rule,
                health_check: member.health_check,
            });
            groups.push(Group::new(group.policy, members.collect()));
        }
        groups.into()
    }

    /// The hashes of empty non-terminals, each with a node below it; and whether a wildcard is among them.
    fn empty_non_terminals(&self) -> (Vec<(u64, u32)>, bool) {
        let apex_labels = labels(&self.apex).count();
        let (mut known, mut all, mut has_wildcards) = (Numbering::default(), Vec::new(), false);
        for (node, at) in self.nodes.iter().zip(0..) {
            let Some(name) = LookupName::new(&node.name) else { continue };
            for skip in 1..name.labels().saturating_sub(apex_labels) {
                let (suffix, hash) = (name.suffix(skip), name.hash(skip));
                let ends_so = |other: u32| ends_with(&self.nodes[other as usize].name, suffix);
                // All names above an existing name are known already.
                if self.node_of(suffix, hash).is_some() || known.find(hash, ends_so).is_some() {
                    break;
                }
                known.insert(hash, at);
                all.push((hash, at));
                has_wildcards |= suffix.starts_with(b"\x01*");
            }
        }
        (all, has_wildcards)
    }
}

/// The memory of a node that refers to no other node.
pub(super) fn alone(node: &NodeBuilder, apex: &[u8]) -> Vec<u8> {
    let relative = &node.name[..node.name.len() - apex.len()];
    let mut block = vec![relative.len() as u8, node.flags & !(node_flag::WILDCARD | node_flag::OCCLUDED)];
    block.extend_from_slice(&(node.sets.len() as u16).to_le_bytes());
    block.extend_from_slice(relative);
    for set in &node.sets {
        let records: Vec<Record> = set.values.iter().map(|value| compress(set.rtype, value, apex)).collect();
        write_set(&mut block, set.rtype, set.ttl, &records, &[], set.alias);
    }
    block
}

/// The set of negative answers (RFC 2308, 3). None if the apex has no SOA record.
pub(super) fn negative(apex_node: &NodeBuilder, apex: &[u8]) -> Option<Vec<u8>> {
    let soa = apex_node.sets.iter().find(|set| set.rtype == rtype::SOA)?;
    let value = soa.values.first()?;
    let mut set = Vec::new();
    write_set(&mut set, rtype::SOA, soa.ttl.min(soa_minimum(value)), &[compress(rtype::SOA, value, apex)], &[], None);
    Some(set)
}

/// A record's data, in which names end with room for a pointer to the apex; and the offsets of these pointers.
struct Record {
    data: Vec<u8>,
    pointers: Vec<usize>,
}

fn compress(rtype: u16, value: &[u8], apex: &[u8]) -> Record {
    let mut record = Record { data: Vec::with_capacity(value.len()), pointers: Vec::new() };
    let mut copied = 0;
    for (name, may_be_compressed) in rdata::names(rtype, value) {
        if may_be_compressed && apex.len() > 2 && ends_with(&value[name.clone()], apex) {
            record.data.extend_from_slice(&value[copied..name.end - apex.len()]);
            record.pointers.push(record.data.len());
            record.data.extend_from_slice(&pointer::to(0).to_be_bytes());
            copied = name.end;
        }
    }
    record.data.extend_from_slice(&value[copied..]);
    record
}

fn set_size(set: &SetBuilder, records: &[Record], additional: usize) -> usize {
    let octets: usize = records.iter().map(|record| 12 + record.data.len()).sum();
    let pointers: usize = records.iter().map(|record| record.pointers.len()).sum();
    Set::FIXED + 4 * additional + 2 * pointers + octets + if set.alias.is_some() { 4 } else { 0 }
}

fn write_set(block: &mut Vec<u8>, rtype: u16, ttl: u32, records: &[Record], additional: &[u32], alias: Option<usize>) {
    let octets: usize =
        records.iter().map(|record| 12 + record.data.len()).sum::<usize>() + if alias.is_some() { 4 } else { 0 };
    let pointers: usize = records.iter().map(|record| record.pointers.len()).sum();
    for number in [rtype as usize, records.len(), octets, pointers, additional.len()] {
        block.extend_from_slice(&(number as u16).to_le_bytes());
    }
    additional.iter().for_each(|node| block.extend_from_slice(&node.to_le_bytes()));
    let mut at = 0;
    for record in records {
        at += 12;
        record.pointers.iter().for_each(|offset| block.extend_from_slice(&((at + offset) as u16).to_le_bytes()));
        at += record.data.len();
    }
    if let Some(alias) = alias {
        block.extend_from_slice(&(alias as u32).to_le_bytes());
    }
    for record in records {
        block.extend_from_slice(&pointer::to(HEADER).to_be_bytes());
        block.extend_from_slice(&rtype.to_be_bytes());
        block.extend_from_slice(&class::IN.to_be_bytes());
        block.extend_from_slice(&ttl.to_be_bytes());
        block.extend_from_slice(&(record.data.len() as u16).to_be_bytes());
        block.extend_from_slice(&record.data);
    }
}

/// The MINIMUM field of a SOA record: its last four octets.
fn soa_minimum(soa: &[u8]) -> u32 {
    soa.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum))
}
