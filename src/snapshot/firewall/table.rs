//! The names of all DNS Firewall lists, in one table.
//!
//! A search costs the same however many lists, rules and views there are:
//!
//! ```text
//! name -> Front                 one cache line: has any list a name at or below the last two labels?
//!      -> directory -> Shard    for each suffix that is left, by its hash: a slot with a tag and an offset
//!      -> record                the name itself, compared octet by octet, and one posting for each entry of a list
//! ```
//!
//! A record is the name in wire format, with one octet in place of a common end, followed by its postings. No name is
//! reported because of its hash alone.
//!
//! A [`Lists`] is immutable. A changed list becomes a sequence of [`Batch`]es. Each batch builds the few shards anew that it
//! concerns, and the next [`Lists`] shares all other shards. So an update needs little more memory than the table has, and
//! the names of a large list change range by range, each name at once.

mod addresses;
mod front;
mod packed;
mod posting;
mod servers;
mod shard;
mod update;

pub use crate::manifest::domain_lists::{AddressKind, Conditions, Detail, Entry, LocalRecords, RpzAction, Scope};
pub use addresses::{AddressEntry, Addresses};
pub use servers::{ServerEntries, ServerNameEntry};
pub use update::{Batch, Extent, TooManyNames};

use crate::{manifest::Id, wire::query::LookupName};
use front::Front;
use posting::{Posting, Postings};
use shard::Shard;
use std::{
    net::IpAddr,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Whether the names of a list are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListState {
    /// The names are there.
    Loaded,
    /// The names were never loaded.
    Missing,
    /// The last copy is older than the list allows.
    Expired,
}

/// An entry of a list that holds a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The number of the list.
    pub list: u32,
    /// The number of labels of the entry, without a leading `*`.
    pub entry_labels: u8,
    /// Whether the entry is for names below it only, as `*.example.com` is.
    pub below_only: bool,
    /// The line of the entry in its source; in a list of inline domains its position, from 1.
    pub line: u32,
    /// The action of an entry of a response policy zone.
    pub rpz: Option<RpzAction>,
    record: RecordAt,
}

/// The address of a record: the index in the directory, and the offset in the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RecordAt {
    index: u32,
    offset: u32,
}

/// Whether an entry with these conditions is for a query.
fn allows(conditions: &Conditions, name: &LookupName, qtype: u16) -> bool {
    let Conditions { types, not_types, except } = conditions;
    let is_below = |suffix: &[u8]| (0..=name.labels()).any(|skip| name.suffix(skip) == suffix);
    (types.is_empty() || types.contains(&qtype))
        && !not_types.contains(&qtype)
        && !except.iter().any(|suffix| is_below(suffix))
}

/// What a list has beside its names.
#[derive(Clone, Debug, Default)]
pub struct ListData {
    /// The records of [`RpzAction::Local`].
    pub local: Box<[LocalRecords]>,
    /// The conditions of entries, by number.
    pub conditions: Box<[Conditions]>,
    /// The list has exceptions, or entries with conditions.
    pub has_rules: bool,
    /// The entries for addresses of clients.
    pub clients: Addresses,
    /// The entries for addresses in answers.
    pub answers: Addresses,
    /// The entries for name servers.
    pub servers: ServerEntries,
}

/// A list, without its names.
#[derive(Clone, Debug)]
struct List {
    /// None: the list was removed, and its names are not removed yet.
    id: Option<Arc<str>>,
    state: ListState,
    data: Arc<ListData>,
}

/// The names of all lists.
#[derive(Clone, Debug)]
pub struct Lists {
    front: Arc<Front>,
    /// The shards by the first bits of a hash. A shard is in it as often as it covers values of these bits.
    directory: Arc<[Shard]>,
    /// The number of bits that the directory is indexed by.
    bits: u32,
    /// The numbers of labels that names have, one bit each.
    depths: u128,
    names: u64,
    lists: Vec<Option<List>>,
    /// The version of the entries for name servers: two tables with different entries have different numbers. 0 if the table
    /// never had such an entry.
    servers_version: u64,
}

impl Default for Lists {
    fn default() -> Lists {
        Lists {
            front: Arc::new(Front::new(0)),
            directory: [Shard::default()].into(),
            bits: 0,
            depths: 0,
            names: 0,
            lists: Vec::new(),
            servers_version: 0,
        }
    }
}

/// The number of suffixes of a name that a [`SearchHint`] is for: those of two, three and four labels, as nearly all names
/// of lists have.
const HINTED_SUFFIXES: usize = 3;
/// The distance from the first octet of a record to one of its last, in octets.
const RECORD_OCTETS: usize = 32;

/// The memory that a search for a name will read, for a caller that prefetches it for several searches.
#[derive(Clone, Copy)]
pub struct SearchHint<'l> {
    lists: &'l Lists,
    /// The hashes of the suffixes, from that of two labels on.
    hashes: [u64; HINTED_SUFFIXES],
    count: usize,
}

impl SearchHint<'_> {
    /// The number of stages of [`SearchHint::visit_addresses`].
    pub const STAGES: usize = 3;

    /// Visits the addresses of a stage. They are found in the memory of the stage before. False if the search
    /// reads no more: no list has the last two labels.
    #[inline]
    pub fn visit_addresses(&self, stage: usize, visit: &mut impl FnMut(*const u8)) -> bool {
        let SearchHint { lists, hashes, count } = self;
        let [front, ..] = *hashes;
        if stage == 0 {
            lists.front.address(front).into_iter().for_each(visit);
            return true;
        }
        if stage == 1 && !lists.front.has(front) {
            return false;
        }
        let hinted = (2..).zip(&hashes[..*count]).filter(|(labels, _)| lists.depths & 1u128 << *labels != 0);
        for (shard, hash) in hinted.filter_map(|(_, &hash)| Some((lists.directory.get(lists.index(hash))?, hash))) {
            if stage == 1 {
                shard.first_address(hash).into_iter().for_each(&mut *visit);
            } else if let Some(address) = shard.second_address(hash) {
                visit(address);
                visit(address.wrapping_add(RECORD_OCTETS));
            }
        }
        true
    }
}

impl Lists {
    /// The memory that a search for a name will read; none if it reads little.
    #[inline]
    pub fn search_hint(&self, name: &LookupName) -> Option<SearchHint<'_>> {
        let labels = name.labels();
        if self.names == 0 || labels < 2 {
            return None;
        }
        let mut hint = SearchHint { lists: self, hashes: [0; HINTED_SUFFIXES], count: 0 };
        for (hash, suffix_labels) in hint.hashes.iter_mut().zip(2..=labels) {
            *hash = name.hash(labels - suffix_labels);
            hint.count += 1;
        }
        Some(hint)
    }

    /// Visits each entry that holds a name and applies to a query type: the entry with the longest name first; of one name,
    /// in the order in which the entries were added. Allocates nothing.
    #[inline]
    pub fn find(&self, name: &LookupName, qtype: u16, visit: &mut impl FnMut(Match) -> ControlFlow<()>) {
        let labels = name.labels();
        let first = match labels < 2 || self.front.has(name.hash(labels - 2)) {
            true => 0,
            false => labels - 1,
        };
        for skip in first..=labels {
            if self.depths & 1 << (labels - skip) != 0
                && let Some((record, postings)) = self.record(name, skip)
                && self.visit_record(name, qtype, skip, record, postings, visit).is_break()
            {
                return;
            }
        }
    }

    #[inline(never)]
    fn visit_record(
        &self,
        name: &LookupName,
        qtype: u16,
        skip: usize,
        record: RecordAt,
        postings: Postings,
        visit: &mut impl FnMut(Match) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut last = None;
        for posting in postings.filter(|posting| posting.scope.applies(skip)) {
            let Some(list) = self.list(posting.list) else { continue };
            // The records of local data are postings of their own. They are one match.
            if last == Some((posting.list, posting.scope)) && matches!(posting.detail, Detail::Rpz(_)) {
                continue;
            }
            last = Some((posting.list, posting.scope));
            if list.data.has_rules && self.decisive(name, qtype, posting.list, &list.data) != Some((skip, posting.line))
            {
                continue;
            }
            let rpz = match posting.detail {
                Detail::Rpz(action) => Some(action),
                Detail::Plain | Detail::Rule { .. } => None,
            };
            visit(Match {
                list: posting.list,
                entry_labels: (name.labels() - skip) as u8,
                below_only: posting.scope == Scope::Below,
                line: posting.line,
                rpz,
                record,
            })?;
        }
        ControlFlow::Continue(())
    }

    /// The entry that decides in a list with exceptions: its number of skipped labels and its line. None if an exception
    /// decides. An important exception is before an important entry, then exceptions, then entries.
    fn decisive(&self, name: &LookupName, qtype: u16, list: u32, data: &ListData) -> Option<(usize, u32)> {
        let mut best: Option<(u8, usize, u32)> = None;
        for skip in 0..=name.labels() {
            let Some((_, postings)) = self.record(name, skip) else { continue };
            for posting in postings.filter(|posting| posting.list == list && posting.scope.applies(skip)) {
                let rank = match posting.detail {
                    Detail::Plain | Detail::Rpz(_) => 0,
                    Detail::Rule { is_exception, is_important, conditions } => {
                        let conditions = conditions.and_then(|number| data.conditions.get(number as usize));
                        if conditions.is_some_and(|conditions| !allows(conditions, name, qtype)) {
                            continue;
                        }
                        u8::from(is_important) << 1 | u8::from(is_exception)
                    }
                };
                if best.is_none_or(|(other, ..)| rank > other) {
                    best = Some((rank, skip, posting.line));
                }
            }
        }
        best.filter(|(rank, ..)| rank & 1 == 0).map(|(_, skip, line)| (skip, line))
    }

    #[inline]
    fn index(&self, hash: u64) -> usize {
        (hash >> 32) as usize >> (32 - self.bits)
    }

    #[inline]
    fn record(&self, name: &LookupName, skip: usize) -> Option<(RecordAt, Postings<'_>)> {
        let hash = name.hash(skip);
        let index = self.index(hash);
        let shard = self.directory.get(index)?;
        let offset = shard.find(hash, name.suffix(skip))?;
        let record = RecordAt { index: index as u32, offset };
        Some((record, shard.postings(offset)))
    }

    /// The records that a response policy zone gives as the answer for a name: those of a [`Match`] of these lists.
    pub fn local_data(&self, found: &Match) -> impl Iterator<Item = &LocalRecords> {
        let shard = self.directory.get(found.record.index as usize);
        let postings = shard.map(|shard| shard.postings(found.record.offset)).into_iter().flatten();
        let (list, below_only) = (found.list, found.below_only);
        postings.filter_map(move |posting: Posting| match posting.detail {
            Detail::Rpz(RpzAction::Local(number))
                if posting.list == list && (posting.scope == Scope::Below) == below_only =>
            {
                self.list(list)?.data.local.get(number as usize)
            }
            _ => None,
        })
    }

    /// The records that a response policy zone gives as the answer for an address: those of an entry of [`Lists::client`],
    /// [`Lists::answer_address`] or [`Lists::server_address`].
    pub fn address_data(
        &self,
        list: u32,
        kind: AddressKind,
        entry: &AddressEntry,
    ) -> impl Iterator<Item = &LocalRecords> {
        let data = self.list(list).map(|list| &*list.data);
        let addresses = data.map(|data| match kind {
            AddressKind::Client => &data.clients,
            AddressKind::Answer => &data.answers,
            AddressKind::NameServer => &data.servers.addresses,
        });
        let numbers = addresses.map(|addresses| addresses.local(entry)).into_iter().flatten();
        numbers.filter_map(move |number| data?.local.get(number as usize))
    }

    /// The entry of a list for the address of a client; of several, the one with the longest prefix.
    pub fn client(&self, list: u32, address: IpAddr) -> Option<&AddressEntry> {
        self.list(list)?.data.clients.find(address)
    }

    /// The entry of a list for an address in an answer; of several, the one with the longest prefix.
    pub fn answer_address(&self, list: u32, address: IpAddr) -> Option<&AddressEntry> {
        self.list(list)?.data.answers.find(address)
    }

    /// The records that a response policy zone gives as the answer for a name server.
    pub fn server_data<'l>(&'l self, list: u32, entry: &'l ServerNameEntry) -> impl Iterator<Item = &'l LocalRecords> {
        let data = self.list(list).map(|list| &*list.data);
        entry.local.iter().filter_map(move |number| data?.local.get(*number as usize))
    }

    /// The entry of a list for a name server with this name, in wire format and lower case.
    pub fn server_name(&self, list: u32, name: &[u8]) -> Option<&ServerNameEntry> {
        self.list(list)?.data.servers.find_name(name)
    }

    /// The entry of a list for a name server with this address; of several, the one with the longest prefix.
    pub fn server_address(&self, list: u32, address: IpAddr) -> Option<&AddressEntry> {
        self.list(list)?.data.servers.addresses.find(address)
    }

    /// Whether a list has an entry for one of these names or addresses of name servers.
    pub fn has_server(&self, names: &[Box<[u8]>], addresses: &[IpAddr]) -> bool {
        let lists = self.lists.iter().flatten().map(|list| &list.data.servers).filter(|servers| !servers.is_empty());
        lists.into_iter().any(|servers| {
            names.iter().any(|name| servers.find_name(name).is_some())
                || addresses.iter().any(|address| servers.addresses.find(*address).is_some())
        })
    }

    /// The version of the entries for name servers. Two tables with different entries have different versions.
    #[inline]
    pub fn servers_version(&self) -> u64 {
        self.servers_version
    }

    #[inline]
    fn list(&self, number: u32) -> Option<&List> {
        self.lists.get(number as usize)?.as_ref().filter(|list| list.id.is_some())
    }

    /// The state of a list. A number without a list is [`ListState::Missing`].
    #[inline]
    pub fn state(&self, list: u32) -> ListState {
        self.list(list).map_or(ListState::Missing, |list| list.state)
    }

    /// Whether all lists have the numbers and states that they have in `other`, and entries for addresses as there.
    pub fn has_states_of(&self, other: &Lists) -> bool {
        let is_same = |(ours, theirs): (&Option<List>, &Option<List>)| match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                let has_addresses = |list: &List| {
                    let ListData { clients, answers, servers, .. } = &*list.data;
                    [clients.is_empty(), answers.is_empty(), servers.is_empty()]
                };
                (&ours.id, ours.state) == (&theirs.id, theirs.state) && has_addresses(ours) == has_addresses(theirs)
            }
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        self.lists.len() == other.lists.len() && self.lists.iter().zip(&other.lists).all(is_same)
    }

    /// The number of a list.
    pub fn number(&self, id: &str) -> Option<u32> {
        let is_it = |list: &Option<List>| list.as_ref().is_some_and(|list| list.id.as_deref() == Some(id));
        self.lists.iter().position(is_it).map(|number| number as u32)
    }

    /// The identifier of a list.
    pub fn id(&self, list: u32) -> Option<&Arc<str>> {
        self.list(list)?.id.as_ref()
    }

    /// What a list has beside its names.
    pub fn data(&self, list: u32) -> Option<&Arc<ListData>> {
        Some(&self.list(list)?.data)
    }

    /// The number of names of all lists. A name that several lists have counts once.
    pub fn len(&self) -> u64 {
        self.names
    }

    /// Whether no list has a name.
    pub fn is_empty(&self) -> bool {
        self.names == 0
    }

    /// The size in memory, in octets.
    pub fn memory(&self) -> usize {
        let shards: usize = self.shards().map(|(_, shard)| shard.memory()).sum();
        size_of_val(&*self.directory) + self.front.memory() + shards
    }

    /// The lists of a manifest: new identifiers get numbers, with [`ListState::Missing`]. Lists that are not there any more
    /// are [removed](Lists::removed) later. Names stay as they are.
    pub fn with_ids<'i>(&self, ids: impl Iterator<Item = &'i Id>) -> Lists {
        let ids: Vec<&str> = ids.map(String::as_str).collect();
        let mut lists = self.clone();
        for list in lists.lists.iter_mut().flatten() {
            if list.id.as_deref().is_some_and(|id| !ids.contains(&id)) {
                list.id = None;
            }
        }
        for id in ids {
            if lists.number(id).is_none() {
                let list = List { id: Some(id.into()), state: ListState::Missing, data: Arc::default() };
                match lists.lists.iter_mut().find(|list| list.is_none()) {
                    Some(free) => *free = Some(list),
                    None => lists.lists.push(Some(list)),
                }
            }
        }
        lists
    }

    /// The numbers of lists that were removed and may still have names. An empty [`Batch`] over everything removes these,
    /// and [`Lists::forget`] frees the number.
    pub fn removed(&self) -> Vec<u32> {
        let is_removed = |list: &Option<List>| list.as_ref().is_some_and(|list| list.id.is_none());
        (0..self.lists.len()).filter(|&number| is_removed(&self.lists[number])).map(|number| number as u32).collect()
    }

    /// Frees the number of a removed list that has no names any more.
    pub fn forget(&mut self, number: u32) {
        if let Some(list) = self.lists.get_mut(number as usize)
            && list.as_ref().is_some_and(|list| list.id.is_none())
        {
            *list = None;
        }
    }

    /// Sets the state of a list.
    pub fn set_state(&mut self, number: u32, state: ListState) {
        if let Some(list) = self.lists.get_mut(number as usize).and_then(Option::as_mut) {
            list.state = state;
        }
    }

    /// Sets what a list has beside its names. The numbers in entries that the table already has must keep their meaning.
    pub fn set_data(&mut self, number: u32, data: Arc<ListData>) {
        if let Some(list) = self.lists.get_mut(number as usize).and_then(Option::as_mut) {
            static VERSION: AtomicU64 = AtomicU64::new(1);
            if !(list.data.servers.is_empty() && data.servers.is_empty()) {
                self.servers_version = VERSION.fetch_add(1, Relaxed);
            }
            list.data = data;
        }
    }

    /// The shards, each with the first index in the directory.
    fn shards(&self) -> impl Iterator<Item = (usize, &Shard)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let shard = self.directory.get(at)?;
            let first = at;
            at += 1 << (self.bits - u32::from(shard.depth));
            Some((first, shard))
        })
    }
}

#[cfg(test)]
mod tests;
