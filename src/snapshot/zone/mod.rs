//! A compiled zone: one block of memory that answers are copied out of.
//!
//! Names are found by their hash in a [`Table`]; behind each stands a node in the block. An empty non-terminal has no node of
//! its own: behind its hash stands a node below it, whose name ends in it. So a name costs memory by its length, however
//! many labels it has.
//!
//! ```text
//! node   name length (without the apex) u8, flags u8, number of sets u16
//!        wildcard child u32 (if it has one), cut or DNAME above u32 (if it is occluded)
//!        the name, without the apex
//!        sets
//! set    type u16, records u16, octets of records u16, compressed names u16, additional nodes u16
//!        additional nodes u32 each, places of compressed names u16 each
//!        records, as they go on the wire: owner pointer, type, class, TTL, length, data
//! ```
//! The records are position-independent: their owner is a pointer, and names in them that end in the apex do so with a
//! pointer, both of which are put in when the reply is written. An alias is a set of no records, whose octets are the
//! number of its target.
//!
//! A zone that a dynamic update or an incremental transfer has changed shares block and table with the zone before, and
//! has [`Changes`] beside them: see there.

mod additional;
mod alias_targets;
mod build;
mod changes;
mod delegations;
mod lay_out;
mod overridden;
mod records;
mod serial;
#[cfg(test)]
mod tests;

use super::{names::Table, routes::NameServer};
use crate::{
    manifest::{Id, PrivateHostedZone, digest::Digest, overlay::Overlay, transferred::Content},
    wire::{
        Name,
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
pub use records::{Cursor, soa_serial};
pub use serial::Serial;

/// How far into a message a pointer reaches (RFC 1035, 4.1.4).
const MOST_POINTER: usize = 0x3fff;

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
    /// What it was compiled from.
    pub source: Arc<PrivateHostedZone>,
    /// Its apex in lower case.
    pub apex: Box<[u8]>,
    /// A name that is missing is resolved as if the zone were not there.
    pub fallthrough: bool,
    /// How many records it has.
    pub records: usize,
    /// Why its records are not there: a zone that is transferred, and was not yet, or has expired.
    pub missing: Option<Arc<str>>,
    /// What updates have made of it.
    pub overlay: Option<Arc<Overlay>>,
    /// The records of a zone that is transferred.
    content: Option<Arc<Content>>,
    /// Its source has no SOA record: it is made up.
    has_made_soa: bool,
    apex_labels: usize,
    /// Some empty non-terminal is a wildcard, as `*.b` is where there is `a.*.b`.
    has_empty_wildcards: bool,
    table: Table,
    block: Arc<[u8]>,
    /// A set of the SOA record alone, with the TTL of negative answers.
    negative: u32,
    aliases: Arc<[Name]>,
    cuts: Arc<[ZoneCut]>,
    /// A digest of all records, the serial aside, of a zone whose serial counts.
    digest: Digest,
    /// What a change has to know of the block; none for a zone that is built anew with each change.
    shape: Option<Arc<Shape>>,
    /// What is not as it is in the block.
    changes: Option<Box<Changes>>,
}

/// A zone cut: what is below it is delegated.
#[derive(Debug, PartialEq)]
pub struct ZoneCut {
    /// Its name, in lower case.
    pub name: Box<[u8]>,
    /// Who answers below it.
    pub name_servers: Vec<NameServer>,
}

/// Where a node is in its zone's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAt(u32);

/// A node of a zone. Two of one zone are the same if they are at the same place.
#[derive(Clone, Copy)]
pub struct Node<'z> {
    zone: &'z Zone,
    /// The zone's block, or one of the node's own.
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

/// What stands behind a name: its node; or, where it is an empty non-terminal, a node below it.
#[derive(Clone, Copy)]
struct Found<'z> {
    node: Node<'z>,
    /// How many octets the name has in front of the apex.
    len: usize,
}

impl<'z> Found<'z> {
    /// Whether the name is an empty non-terminal.
    #[inline]
    fn is_empty(self) -> bool {
        self.node.relative().len() != self.len
    }

    /// The zone cut or DNAME above the name.
    #[inline]
    fn occluder(self) -> Option<Node<'z>> {
        // The highest one above the node: it is above the name as well, or between the name and the node.
        self.node.occluder().filter(|above| above.relative().len() < self.len)
    }
}

/// How a name relates to a zone.
pub enum Search<'z> {
    /// It is there, and nothing above it is in the way.
    Node(Node<'z>),
    /// It is not there, but a wildcard stands in for it.
    Wildcard(Node<'z>),
    /// It is below this zone cut, or at it.
    Cut(Node<'z>),
    /// It is below this DNAME.
    Dname(Node<'z>),
    /// It is an empty non-terminal: there are only names below it.
    Empty,
    /// It is not there, but a wildcard stands in for it that is an empty non-terminal, below a name with so many labels.
    EmptyWildcard(usize),
    /// There is no such name.
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

    /// How many labels the apex has.
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

    /// Where in memory the search for a name begins.
    #[inline]
    pub fn first_look(&self, hash: u64) -> *const u8 {
        self.table.first_look(hash)
    }

    /// Where in memory it goes on, if there is such a name.
    #[inline]
    pub fn second_look(&self, hash: u64) -> Option<*const u8> {
        self.block.get(self.table.guess(hash)? as usize).map(std::ptr::from_ref)
    }

    /// Octets of memory.
    pub fn memory(&self) -> usize {
        let shape = self.shape.as_ref().map_or(0, |shape| shape.memory());
        self.block.len() + self.table.memory() + shape + self.changes.as_ref().map_or(0, |changes| changes.memory())
    }

    /// A node of the zone's block.
    fn node(&self, at: NodeAt) -> Node<'_> {
        Node { zone: self, block: &self.block, at: at.0 as usize }
    }

    /// What stands behind the name that is left of `name` when `skip` labels are taken away. It is in the zone.
    #[inline]
    fn find(&self, name: &LookupName, skip: usize) -> Option<Found<'_>> {
        let suffix = name.suffix(skip);
        self.find_relative(&suffix[..suffix.len() - self.apex.len()], name.hash(skip))
    }

    /// What stands behind these labels in front of the apex.
    #[inline]
    fn find_relative(&self, relative: &[u8], hash: u64) -> Option<Found<'_>> {
        if let Some(changes) = &self.changes {
            return changes.find(self, relative, hash);
        }
        let at = self.table.find(hash, |at| self.node(NodeAt(at)).is_at_or_below(relative))?;
        Some(Found { node: self.node(NodeAt(at)), len: relative.len() })
    }

    /// Looks a name up that is at the apex or below it (RFC 1034, 4.3.2; RFC 4592; RFC 6672).
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
        // The closest encloser; the apex is one in any case.
        let most = name.labels() - self.apex_labels;
        let apex = || (Found { node: self.apex_node(), len: 0 }, most);
        let (encloser, skip) = (1..most).find_map(|skip| Some((self.find(name, skip)?, skip))).unwrap_or_else(apex);
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

    /// Looks up the wildcard below a closest encloser that has no node, or where the wildcard has none.
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

    /// Where the name begins.
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

    /// Whether its name is this one, or ends in it.
    #[inline]
    fn is_at_or_below(self, relative: &[u8]) -> bool {
        let own = self.relative();
        own == relative || own.len() > relative.len() && is_below(own, relative)
    }

    /// How many labels its name has.
    pub fn labels(self) -> usize {
        let mut rest = self.relative();
        let mut labels = self.zone.apex_labels;
        while let Some(&len) = rest.first() {
            rest = &rest[1 + len as usize..];
            labels += 1;
        }
        labels
    }

    /// Its name, for those who read.
    pub fn name(self) -> Name {
        Name::from_wire(&[self.relative(), &self.zone.apex].concat()).unwrap_or_else(|_| Name::root())
    }

    /// Its record sets.
    #[inline]
    pub fn sets(self) -> impl Iterator<Item = Set<'z>> {
        let mut at = self.name_at() + self.block[self.at] as usize;
        let mut left = read_u16(self.block, self.at + 2);
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let set = Set { zone: self.zone, block: self.block, at };
            at = set.end();
            Some(set)
        })
    }

    /// Its record set of a type.
    #[inline]
    pub fn set(self, rtype: u16) -> Option<Set<'z>> {
        self.sets().find(|set| set.rtype() == rtype)
    }
}

/// Whether a name ends in another one, which is shorter: both without the apex.
fn is_below(name: &[u8], other: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > other.len() {
        rest = &rest[1 + rest[0] as usize..];
    }
    rest == other
}

impl<'z> Set<'z> {
    /// Octets in front of what is of variable length.
    const FIXED: usize = 10;

    /// The type.
    #[inline]
    pub fn rtype(self) -> u16 {
        read_u16(self.block, self.at) as u16
    }

    /// How many records it has; an alias has none.
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
        (self.count() == 0).then(|| read_u32(self.block, self.records_at()) as usize)
    }

    /// The TTL in seconds.
    pub fn ttl(self) -> u32 {
        let at = self.records_at() + 6;
        self.block.get(at..at + 4).map_or(0, |ttl| u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]))
    }

    /// Octets of its records' data, without compression.
    fn data_octets(self) -> usize {
        let pointers = (self.records_at() - self.fixups_at()) / 2;
        let headers = 12 * self.count() as usize;
        if self.count() == 0 { 0 } else { self.records().len() - headers + pointers * (self.zone.apex.len() - 2) }
    }

    /// Whether a set at a target of this one goes along.
    pub fn is_joined_by(self, other: Set) -> bool {
        additional::is_additional(self.rtype(), other.rtype())
    }

    /// Writes the set. `owner` is where the owner is in the message, `apex` where the zone's apex is. Returns where the
    /// records begin.
    #[inline]
    pub fn write(self, reply: &mut Reply, section: Section, owner: usize, apex: usize) -> Result<usize, Full> {
        let start = reply.block(section, self.count(), self.records())?;
        for at in (self.fixups_at()..self.records_at()).step_by(2) {
            reply.patch(start + read_u16(self.block, at), 0xc000 | apex as u16);
        }
        if owner != crate::wire::query::HEADER {
            reply.own(start, self.count(), 0xc000 | owner as u16);
        }
        Ok(start)
    }

    /// The same; of addresses another one is the first at each draw.
    #[inline]
    pub fn write_turned(
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
            reply.turn(start..start + length, length / usize::from(self.count()) * first);
        }
        Ok(start)
    }

    /// Which record comes first at a draw.
    #[inline]
    fn first(self, draw: u32) -> usize {
        match self.rtype() {
            rtype::A | rtype::AAAA if self.count() > 1 => first_of(self.count().into(), draw),
            _ => 0,
        }
    }

    /// The records, beginning with that which comes first at a draw.
    fn turned(self, draw: u32) -> impl Iterator<Item = &'z [u8]> {
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

    /// Writes as many records of a set of addresses as there is room for.
    pub fn write_part(self, reply: &mut Reply, section: Section, owner: usize, draw: u32) {
        for record in self.turned(draw) {
            let Ok(start) = reply.block(section, 1, record) else { break };
            reply.own(start, 1, 0xc000 | owner as u16);
        }
    }

    /// Writes a set without compressed names under a name that is not in the message yet but for the apex: `owner` are the labels
    /// in front of that.
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
            return self.write_turned(reply, section, apex, apex, draw).map(|_| ());
        }
        let mut write = || {
            // The first record has the name in full; the others point to it, if that is not too far for a pointer.
            self.turned(draw).enumerate().try_for_each(|(number, record)| {
                let known = if number > 0 && position <= MOST_POINTER { Some(position) } else { None };
                if known.is_none() {
                    reply.octets(owner)?;
                }
                let start = reply.block(section, 1, record)?;
                reply.patch(start, 0xc000 | known.unwrap_or(apex) as u16);
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
