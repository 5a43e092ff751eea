//! A compiled zone: one block of memory from which answers are copied.
//!
//! A [`Table`] finds a name by its hash, and leads to a node in the block. An empty non-terminal has no node: its hash leads
//! to a node below it, whose name ends in it. So the memory of a name follows its length, and not its number of labels.
//!
//! ```text
//! node   name length (without the apex) u8, flags u8, number of sets u16
//!        wildcard child u32 (if it has one), cut or DNAME above u32 (if it is occluded)
//!        the name, without the apex
//!        sets
//! set    type u16, records u16, octets of records u16, compressed names u16, additional nodes u16
//!        additional nodes u32 each, offsets of compressed names u16 each
//!        records in wire format: owner pointer, type, class, TTL, length, data
//! ```
//!
//! The records do not depend on their position in a message. Their owner is a pointer, and a name in them that ends in the
//! apex ends with a pointer. Both pointers are set when the reply is written. An alias is a set without records, and its
//! octets are the number of its target.
//!
//! A zone that a dynamic update or an incremental transfer has changed shares block and table with the zone before, and
//! has [`Changes`] in addition.

mod additional;
mod alias_targets;
mod build;
mod changes;
mod check_sets;
mod delegations;
pub mod groups;
mod lay_out;
mod overridden;
mod records;
mod resource_changes;
mod serial;
#[cfg(test)]
mod tests;

use super::{names::Table, routes::NameServer};
use crate::{
    manifest::{Id, PrivateHostedZone, digest::Digest, overlay::Overlay, protection::Protected, transferred::Content},
    wire::{
        Name,
        codes::pointer,
        name::MAX_NAME,
        query::{LookupName, child_hash},
        rdata::rtype,
        reply::{Full, Reply, Section, first_of},
    },
};
use std::sync::Arc;

pub use additional::Target;
pub use build::{Job, build};
pub use changes::SetChange;
use changes::{Changes, Shape};
use groups::Group;
pub use records::{Cursor, soa_serial};
pub use serial::Serial;

/// The bit in the number of a set without records that tells a group from an alias.
const GROUP: usize = 1 << 31;

/// The size of a cache line of the processor, in octets.
pub const CACHE_LINE: usize = 64;

/// Flags of a node.
mod node_flag {
    /// It has NS records and is not the apex.
    pub const CUT: u8 = 1;
    /// It has a DNAME record.
    pub const DNAME: u8 = 2;
    /// It has a child `*`.
    pub const WILDCARD: u8 = 4;
    /// It is below a zone cut or a DNAME.
    pub const OCCLUDED: u8 = 8;
    /// It has a CNAME record.
    pub const CNAME: u8 = 16;
}

/// A private hosted zone, compiled.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its identifier in the manifest.
    pub id: Id,
    /// The zone in the manifest.
    pub source: Arc<PrivateHostedZone>,
    /// Its apex in lower case.
    pub apex: Box<[u8]>,
    /// A missing name is resolved as if the zone did not exist.
    pub fallthrough: bool,
    /// The number of its records.
    pub records: usize,
    /// The reason why it has no records: it has not been transferred yet, or has expired. None if it has records.
    pub missing: Option<Arc<str>>,
    /// The record sets that dynamic updates have changed.
    pub overlay: Option<Arc<Overlay>>,
    /// The record sets that dynamic updates cannot change.
    pub protected: Option<Arc<Protected>>,
    /// The records of a transferred zone.
    content: Option<Arc<Content>>,
    /// Its source has no SOA record, and zonal made one.
    has_made_soa: bool,
    apex_labels: usize,
    /// An empty non-terminal is a wildcard, such as `*.b` if `a.*.b` exists.
    has_empty_wildcards: bool,
    table: Table,
    block: Arc<[u8]>,
    /// The offset of a set with the SOA record alone, with the TTL of negative answers.
    negative: u32,
    aliases: Arc<[Name]>,
    groups: Arc<[Group]>,
    cuts: Arc<[ZoneCut]>,
    /// A digest of all records without the serial, if secondaries copy the zone.
    digest: Digest,
    /// The data that a change needs of the block; none if each change builds the zone again.
    shape: Option<Arc<Shape>>,
    /// The differences to the block.
    changes: Option<Box<Changes>>,
}

/// A zone cut: the names below it are delegated.
#[derive(Debug, PartialEq)]
pub struct ZoneCut {
    /// Its name, in lower case.
    pub name: Box<[u8]>,
    /// The servers of the names below it.
    pub name_servers: Vec<NameServer>,
}

/// The offset of a node in its zone's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAt(u32);

/// A node of a zone: a name with records. Two nodes are equal if they are at the same offset of the same block.
#[derive(Clone, Copy)]
pub struct Node<'z> {
    zone: &'z Zone,
    /// The zone's block, or a block of the node's own if it has changed.
    block: &'z [u8],
    at: usize,
}

/// A record set of a node.
#[derive(Clone, Copy)]
pub struct Set<'z> {
    zone: &'z Zone,
    block: &'z [u8],
    at: usize,
}

/// The node of a name; of an empty non-terminal, a node below it.
#[derive(Clone, Copy)]
struct FoundNode<'z> {
    node: Node<'z>,
    /// The length of the name in front of the apex, in octets.
    len: usize,
}

impl<'z> FoundNode<'z> {
    /// Whether the name is an empty non-terminal.
    #[inline]
    fn is_empty(self) -> bool {
        self.node.relative().len() != self.len
    }

    /// The zone cut or DNAME above the name.
    #[inline]
    fn occluder(self) -> Option<Node<'z>> {
        // The highest one above the node is above the name too, or between the name and the node.
        self.node.occluder().filter(|above| above.relative().len() < self.len)
    }
}

/// The result of a search for a name (RFC 1034, 4.3.2, step 3; RFC 4592; RFC 6672).
pub enum Search<'z> {
    /// The name has this node, and is not occluded.
    Node(Node<'z>),
    /// The name does not exist, and this wildcard matches it.
    Wildcard(Node<'z>),
    /// The name is at this zone cut, or below it.
    Cut(Node<'z>),
    /// The name is below this DNAME.
    Dname(Node<'z>),
    /// The name is an empty non-terminal: it has no records, but names below it have.
    Empty,
    /// The name does not exist, and a wildcard without records matches it. The number is that of the labels of the name above
    /// the wildcard.
    EmptyWildcard(usize),
    /// The name does not exist.
    Missing,
}

impl Zone {
    /// Whether it was compiled from this resource, or an equal one.
    pub fn is_of(&self, source: &Arc<PrivateHostedZone>) -> bool {
        Arc::ptr_eq(&self.source, source) || self.source == *source
    }

    /// The zone's apex.
    pub fn apex_node(&self) -> Node<'_> {
        match &self.changes {
            None => self.node(NodeAt(0)),
            Some(changes) => changes.apex_node(self),
        }
    }

    /// The number of labels of the apex.
    pub fn apex_labels(&self) -> usize {
        self.apex_labels
    }

    /// The SOA record of negative answers (RFC 2308, 3).
    pub fn negative(&self) -> Set<'_> {
        match &self.changes {
            None => Set { zone: self, block: &self.block, at: self.negative as usize },
            Some(changes) => changes.negative(self),
        }
    }

    /// Its zone cuts.
    pub fn cuts(&self) -> &[ZoneCut] {
        &self.cuts
    }

    /// Whether it has aliases.
    pub fn has_aliases(&self) -> bool {
        !self.aliases.is_empty()
    }

    /// The target of an alias.
    pub fn alias(&self, number: usize) -> &Name {
        &self.aliases[number]
    }

    /// The address that the search for a name reads first.
    #[inline]
    pub fn first_address(&self, hash: u64) -> *const u8 {
        self.table.first_address(hash)
    }

    /// The address that the search reads next, if the name probably exists.
    #[inline]
    pub fn second_address(&self, hash: u64) -> Option<*const u8> {
        self.block.get(self.table.guess(hash)? as usize).map(std::ptr::from_ref)
    }

    /// Its size in memory, in octets.
    pub fn memory(&self) -> usize {
        let shape = self.shape.as_ref().map_or(0, |shape| shape.memory());
        self.block.len() + self.table.memory() + shape + self.changes.as_ref().map_or(0, |changes| changes.memory())
    }

    /// A node of the zone's block.
    fn node(&self, at: NodeAt) -> Node<'_> {
        Node { zone: self, block: &self.block, at: at.0 as usize }
    }

    /// Finds the name that is left when `skip` labels are taken from `name`. It is at the apex or below.
    #[inline]
    fn find(&self, name: &LookupName, skip: usize) -> Option<FoundNode<'_>> {
        let suffix = name.suffix(skip);
        self.find_relative(&suffix[..suffix.len() - self.apex.len()], name.hash(skip))
    }

    /// Finds the name with these labels in front of the apex.
    #[inline]
    fn find_relative(&self, relative: &[u8], hash: u64) -> Option<FoundNode<'_>> {
        if let Some(changes) = &self.changes {
            return changes.find(self, relative, hash);
        }
        let at = self.table.find(hash, |at| self.node(NodeAt(at)).is_at_or_below(relative))?;
        Some(FoundNode { node: self.node(NodeAt(at)), len: relative.len() })
    }

    /// Searches for a name that is at the apex or below it (RFC 1034, 4.3.2; RFC 4592; RFC 6672).
    #[inline]
    pub fn search(&self, name: &LookupName) -> Search<'_> {
        if let Some(found) = self.find(name, 0) {
            return match found.occluder() {
                Some(above) if above.flags() & node_flag::CUT != 0 => Search::Cut(above),
                Some(above) => Search::Dname(above),
                None if found.is_empty() => Search::Empty,
                None if found.node.flags() & node_flag::CUT != 0 => Search::Cut(found.node),
                None => Search::Node(found.node),
            };
        }
        // The closest encloser (RFC 4592, 3.3.1). The apex always exists.
        let max_skip = name.labels() - self.apex_labels;
        let apex = || (FoundNode { node: self.apex_node(), len: 0 }, max_skip);
        let (encloser, skip) = (1..max_skip).find_map(|skip| Some((self.find(name, skip)?, skip))).unwrap_or_else(apex);
        let own = if encloser.is_empty() { None } else { Some(encloser.node) };
        if let Some(above) = encloser.occluder().or(own) {
            if above.flags() & node_flag::CUT != 0 {
                return Search::Cut(above);
            }
            if above.flags() & node_flag::DNAME != 0 {
                return Search::Dname(above);
            }
        }
        match own.and_then(Node::wildcard) {
            Some(wildcard) if self.changes.is_none() => Search::Wildcard(wildcard),
            _ if own.is_none() || self.has_empty_wildcards || self.changes.is_some() => {
                self.search_wildcard(name, skip)
            }
            _ => Search::Missing,
        }
    }

    /// Searches for the wildcard below a closest encloser, if the encloser or the wildcard has no node.
    fn search_wildcard(&self, name: &LookupName, skip: usize) -> Search<'_> {
        let encloser = name.suffix(skip);
        let relative = [b"\x01*", &encloser[..encloser.len() - self.apex.len()]];
        let mut wildcard = [0; MAX_NAME];
        let len = relative.iter().map(|part| part.len()).sum::<usize>();
        wildcard[..2].copy_from_slice(relative[0]);
        wildcard[2..len].copy_from_slice(relative[1]);
        match self.find_relative(&wildcard[..len], child_hash(name.hash(skip), b"*")) {
            Some(found) if found.is_empty() => Search::EmptyWildcard(name.labels() - skip),
            Some(found) => Search::Wildcard(found.node),
            None => Search::Missing,
        }
    }
}

#[inline]
fn read_u16(block: &[u8], at: usize) -> usize {
    u16::from_le_bytes([block[at], block[at + 1]]) as usize
}

#[inline]
fn read_u32(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at && std::ptr::eq(self.block, other.block) && std::ptr::eq(self.zone, other.zone)
    }
}

impl<'z> Node<'z> {
    #[inline]
    fn flags(self) -> u8 {
        self.block[self.at + 1]
    }

    /// Whether it has a CNAME record.
    pub fn has_cname(self) -> bool {
        self.flags() & node_flag::CNAME != 0
    }

    fn wildcard(self) -> Option<Node<'z>> {
        (self.flags() & node_flag::WILDCARD != 0).then(|| self.zone.node(NodeAt(read_u32(self.block, self.at + 4))))
    }

    /// Whether it is below a zone cut or a DNAME.
    pub fn is_occluded(self) -> bool {
        self.flags() & node_flag::OCCLUDED != 0
    }

    #[inline]
    fn occluder(self) -> Option<Node<'z>> {
        if self.flags() & node_flag::OCCLUDED == 0 {
            return None;
        }
        let at = self.at + 4 + if self.flags() & node_flag::WILDCARD != 0 { 4 } else { 0 };
        Some(self.zone.node(NodeAt(read_u32(self.block, at))))
    }

    /// The offset of the name.
    #[inline]
    fn name_at(self) -> usize {
        self.at + 4 + 4 * (self.flags() & (node_flag::WILDCARD | node_flag::OCCLUDED)).count_ones() as usize
    }

    /// The labels of its name in front of the apex, in lower case.
    #[inline]
    pub fn relative(self) -> &'z [u8] {
        let at = self.name_at();
        &self.block[at..at + self.block[self.at] as usize]
    }

    /// Whether its name is at or below this one.
    #[inline]
    fn is_at_or_below(self, relative: &[u8]) -> bool {
        let own = self.relative();
        own == relative || own.len() > relative.len() && is_below(own, relative)
    }

    /// The number of labels of its name.
    pub fn labels(self) -> usize {
        let mut rest = self.relative();
        let mut labels = self.zone.apex_labels;
        while let Some(&len) = rest.first() {
            rest = &rest[1 + len as usize..];
            labels += 1;
        }
        labels
    }

    /// Its name, for texts.
    pub fn name(self) -> Name {
        Name::from_wire(&[self.relative(), &self.zone.apex].concat()).unwrap_or_else(|_| Name::root())
    }

    /// Its record sets.
    #[inline]
    pub fn sets(self) -> impl Iterator<Item = Set<'z>> {
        let first = Set { zone: self.zone, block: self.block, at: self.name_at() + self.block[self.at] as usize };
        let mut left = read_u16(self.block, self.at + 2);
        let mut last: Option<Set> = None;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            // The end of a set is found when the next one is wanted: most queries want the first one.
            let set = last.map_or(first, |last| Set { at: last.end(), ..last });
            last = Some(set);
            Some(set)
        })
    }

    /// Its record set of a type.
    #[inline]
    pub fn set(self, rtype: u16) -> Option<Set<'z>> {
        self.sets().find(|set| set.rtype() == rtype)
    }
}

/// Whether a name is below another one, which is shorter. Both are without the apex.
fn is_below(name: &[u8], other: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > other.len() {
        rest = &rest[1 + rest[0] as usize..];
    }
    rest == other
}

impl<'z> Set<'z> {
    /// The number of octets in front of the parts of variable length.
    const FIXED: usize = 10;

    /// The type.
    #[inline]
    pub fn rtype(self) -> u16 {
        read_u16(self.block, self.at) as u16
    }

    /// The number of its records; 0 for an alias.
    #[inline]
    pub fn count(self) -> u16 {
        read_u16(self.block, self.at + 2) as u16
    }

    #[inline]
    fn fixups_at(self) -> usize {
        self.at + Set::FIXED + 4 * read_u16(self.block, self.at + 8)
    }

    #[inline]
    fn records_at(self) -> usize {
        self.fixups_at() + 2 * read_u16(self.block, self.at + 6)
    }

    #[inline]
    fn end(self) -> usize {
        self.records_at() + read_u16(self.block, self.at + 4)
    }

    #[inline]
    fn records(self) -> &'z [u8] {
        &self.block[self.records_at()..self.end()]
    }

    /// The number of the target, if it is an alias.
    #[inline]
    pub fn alias(self) -> Option<usize> {
        self.number().filter(|number| number & GROUP == 0)
    }

    /// The number of the group, if a routing policy chooses the records.
    #[inline]
    pub fn group(self) -> Option<usize> {
        self.number().filter(|number| number & GROUP != 0).map(|number| number & !GROUP)
    }

    /// The number that a set without records has.
    #[inline]
    fn number(self) -> Option<usize> {
        (self.count() == 0).then(|| read_u32(self.block, self.records_at()) as usize)
    }

    /// The TTL in seconds.
    pub fn ttl(self) -> u32 {
        let at = self.records_at() + 6;
        self.block.get(at..at + 4).map_or(0, |ttl| u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]))
    }

    /// The size of its records' data without compression, in octets.
    fn data_octets(self) -> usize {
        let pointers = (self.records_at() - self.fixups_at()) / 2;
        let headers = 12 * self.count() as usize;
        if self.count() == 0 { 0 } else { self.records().len() - headers + pointers * (self.zone.apex.len() - 2) }
    }

    /// Whether a set at a target of this one belongs in the additional section.
    pub fn is_joined_by(self, other: Set) -> bool {
        additional::is_additional(self.rtype(), other.rtype())
    }

    /// Writes the set. `owner` and `apex` are the offsets of the owner and of the zone's apex in the message. Returns the offset
    /// of the first record.
    #[inline]
    pub fn write(self, reply: &mut Reply, section: Section, owner: usize, apex: usize) -> Result<usize, Full> {
        let start = reply.block(section, self.count(), self.records())?;
        for at in (self.fixups_at()..self.records_at()).step_by(2) {
            reply.patch(start + read_u16(self.block, at), pointer::to(apex));
        }
        if owner != crate::wire::query::HEADER {
            reply.set_owners(start, self.count(), pointer::to(owner));
        }
        Ok(start)
    }

    /// Writes the set. Each draw begins with another one of several addresses.
    #[inline]
    pub fn write_rotated(
        self,
        reply: &mut Reply,
        section: Section,
        owner: usize,
        apex: usize,
        draw: u32,
    ) -> Result<usize, Full> {
        let start = self.write(reply, section, owner, apex)?;
        let first = self.first(draw);
        if first > 0 {
            let length = self.records().len();
            reply.rotate(start..start + length, length / usize::from(self.count()) * first);
        }
        Ok(start)
    }

    /// The index of the record that comes first at a draw.
    #[inline]
    fn first(self, draw: u32) -> usize {
        match self.rtype() {
            rtype::A | rtype::AAAA if self.count() > 1 => first_of(self.count().into(), draw),
            _ => 0,
        }
    }

    /// The records, in the order of a draw.
    fn rotated(self, draw: u32) -> impl Iterator<Item = &'z [u8]> {
        let records = self.records();
        let mut at = 0;
        let each = (0..self.count()).map(move |_| {
            let end = at + 12 + usize::from(u16::from_be_bytes([records[at + 10], records[at + 11]]));
            &records[std::mem::replace(&mut at, end)..end]
        });
        let (first, count) = (self.first(draw), usize::from(self.count()));
        let length = records.len() / count.max(1);
        let front = records[..length * first].chunks_exact(length.max(1));
        each.skip(first).chain(front).take(count)
    }

    /// Writes as many addresses of the set as fit.
    pub fn write_addresses_that_fit(self, reply: &mut Reply, section: Section, owner: usize, draw: u32) {
        for record in self.rotated(draw) {
            let Ok(start) = reply.block(section, 1, record) else { break };
            reply.set_owners(start, 1, pointer::to(owner));
        }
    }

    /// Writes a set without compressed names. Of its owner, only the apex is in the message already: `owner` are the labels in
    /// front of it.
    pub fn write_named(
        self,
        reply: &mut Reply,
        section: Section,
        owner: &[u8],
        apex: usize,
        draw: u32,
    ) -> Result<(), Full> {
        let (position, count) = (reply.position(), reply.count(section));
        if owner.is_empty() {
            return self.write_rotated(reply, section, apex, apex, draw).map(|_| ());
        }
        let mut write = || {
            // The first record has the whole name. The others point to it, if a pointer reaches that far.
            self.rotated(draw).enumerate().try_for_each(|(number, record)| {
                let known = if number > 0 && position <= pointer::MAX_OFFSET { Some(position) } else { None };
                if known.is_none() {
                    reply.octets(owner)?;
                }
                let start = reply.block(section, 1, record)?;
                reply.patch(start, pointer::to(known.unwrap_or(apex)));
                Ok(())
            })
        };
        let written = write();
        if written.is_err() {
            reply.rewind(position, section, count);
        }
        written
    }
}
