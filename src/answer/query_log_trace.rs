//! The listener for the query log: it keeps what a log entry needs, without allocating.
//!
//! It does not make entries: that is the work of [`query_log`](crate::query_log).

use super::{
    Client,
    firewall::{Finding, FirewallHit, FirewallOutcome, MatchedEntry},
    trace::{AnsweredBy, CacheState, Stage, Trace},
};
use crate::{
    manifest::DnsThreatProtection,
    snapshot::{endpoints::Az, firewall::detections::Numbers, networks::MatchedClient, routes::Route, views::View},
    wire::name::wire_len,
};
use ipnet::IpNet;
use std::{net::IpAddr, sync::Arc};

/// The room for what answered, in octets: enough for a chain of 16 links. The rest is left out.
const ANSWERED_BY_OCTETS: usize = 512;

/// The room for matches of DNS Firewall rules, in octets: at least two with the longest names. The rest is left out.
const FIREWALL_OCTETS: usize = 640;
/// The size of a match without its name, in octets.
const MATCH_OCTETS: usize = 4 + 3 + 1 + 1 + 4 + 18 + 1;
/// The kind of a match by an entry for the names of name servers.
const SERVER_NAME: u8 = 7;

/// The client, by the numbers of the snapshot that answered.
#[derive(Clone, Copy, Debug)]
pub struct LoggedClient {
    /// The client's addresses; behind a forwarder, those that the forwarder named.
    pub client: Client,
    /// The slot of its view.
    pub view: u32,
    /// Its Availability Zone, if it is known.
    pub az: Option<Az>,
    /// Its subnet, if it is in one.
    pub subnet: Option<u32>,
}

/// The facts about an answer that a query log entry needs.
#[derive(Clone, Debug)]
pub struct QueryLogTrace {
    /// The client; none if it was not identified or has no view.
    pub client: Option<LoggedClient>,
    /// The offset of the query in the packet.
    pub query_at: usize,
    /// The state of the names in the cache; none if no name is of other servers.
    pub cache: Option<CacheState>,
    /// For each name of the chain: the number of the variant of [`AnsweredBy`], a length, and an identifier.
    answered_by: [u8; ANSWERED_BY_OCTETS],
    /// The length of what is written in `answered_by`.
    len: usize,
    /// The offset of the current name in `answered_by`.
    current: usize,
    /// The matches of DNS Firewall rules, as [`read_firewall`] reads them.
    firewall: [u8; FIREWALL_OCTETS],
    /// The length of what is written in `firewall`.
    firewall_len: usize,
}

impl Default for QueryLogTrace {
    fn default() -> QueryLogTrace {
        QueryLogTrace {
            client: None,
            query_at: 0,
            cache: None,
            answered_by: [0; ANSWERED_BY_OCTETS],
            len: 0,
            current: 0,
            firewall: [0; FIREWALL_OCTETS],
            firewall_len: 0,
        }
    }
}

impl QueryLogTrace {
    /// Makes it ready for the next query.
    #[inline]
    pub fn clear(&mut self) {
        (self.client, self.query_at, self.cache) = (None, 0, None);
        (self.len, self.current, self.firewall_len) = (0, 0, 0);
    }

    /// The matches of DNS Firewall rules, as [`read_firewall`] reads them.
    #[inline]
    pub fn firewall_octets(&self) -> &[u8] {
        &self.firewall[..self.firewall_len]
    }

    /// The resources that answered, as [`read_answered_by`] reads them.
    pub fn answered_by_octets(&self) -> &[u8] {
        &self.answered_by[..self.len]
    }
}

/// Reads the resources that answered, name by name: the label of the kind, and the identifier.
pub fn read_answered_by(mut octets: &[u8]) -> impl Iterator<Item = (&'static str, &[u8])> {
    std::iter::from_fn(move || {
        let (&[number, len], rest) = octets.split_first_chunk()?;
        let (id, rest) = rest.split_at_checked(len.into())?;
        octets = rest;
        Some((AnsweredBy::LABELS.get(usize::from(number)).copied()?, id))
    })
}

/// The part of a rule's condition that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedEntry<'a> {
    /// An entry of the list for the name.
    Name {
        /// The number of its labels.
        labels: u8,
        /// It is for names below it only.
        below_only: bool,
    },
    /// An entry of the list for the address of the client.
    Client(IpNet),
    /// An entry of the list for an address in the answer.
    Answer(IpNet),
    /// An entry of the list for the names of name servers.
    ServerName {
        /// The name of the entry, in wire format.
        name: &'a [u8],
        /// The entry is for names below this name only.
        below_only: bool,
    },
    /// An entry of the list for the address of a name server.
    ServerAddress(IpNet),
    /// A block of the rule's `answer_addresses`.
    Block(IpNet),
    /// A finding of a detector.
    Found(Finding),
    /// Nothing: the list is not there.
    Unready,
}

/// The match of a DNS Firewall rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedMatch<'a> {
    /// The slot of the rule.
    pub slot: u32,
    /// The result.
    pub outcome: FirewallOutcome,
    /// The position of the name in the chain.
    pub hop: u8,
    /// The part of the condition that matched.
    pub entry: LoggedEntry<'a>,
    /// The line of the entry in its list; 0 without one.
    pub line: u32,
    /// The name that was inspected, in lower case and wire format.
    pub name: &'a [u8],
}

/// Reads the matches of DNS Firewall rules, each with its octets.
pub fn read_firewall(mut octets: &[u8]) -> impl Iterator<Item = (&[u8], LoggedMatch<'_>)> {
    std::iter::from_fn(move || {
        let (fixed, rest) = octets.split_first_chunk::<MATCH_OCTETS>()?;
        let [s1, s2, s3, s4, outcome, hop, kind, labels, below, l1, l2, l3, l4, block_or_numbers @ .., name_len] =
            *fixed;
        let name = rest.get(..usize::from(name_len))?;
        let after = rest.get(name.len()..)?;
        // The name of an entry for name servers follows the name that was inspected.
        let server = if kind == SERVER_NAME { after.get(..wire_len(after)?)? } else { &[] };
        let (own, rest) = octets.split_at(MATCH_OCTETS + name.len() + server.len());
        octets = rest;
        let block = || read_block(block_or_numbers);
        let entry = match kind {
            0 => LoggedEntry::Name { labels, below_only: below != 0 },
            1 => LoggedEntry::Client(block()?),
            2 => LoggedEntry::Answer(block()?),
            3 => LoggedEntry::Block(block()?),
            5 => LoggedEntry::Found(read_finding(DnsThreatProtection::DnsTunneling, labels, &block_or_numbers)),
            6 => LoggedEntry::Found(read_finding(DnsThreatProtection::Dga, labels, &block_or_numbers)),
            SERVER_NAME => LoggedEntry::ServerName { name: server, below_only: below != 0 },
            8 => LoggedEntry::ServerAddress(block()?),
            _ => LoggedEntry::Unready,
        };
        let (outcome, _) = *FirewallOutcome::LABELS.get(usize::from(outcome))?;
        let (slot, line) = (u32::from_le_bytes([s1, s2, s3, s4]), u32::from_le_bytes([l1, l2, l3, l4]));
        Some((own, LoggedMatch { slot, outcome, hop, entry, line, name }))
    })
}

fn read_block([family, length, address @ ..]: [u8; 18]) -> Option<IpNet> {
    let number = u128::from_le_bytes(address);
    let address = match family {
        4 => IpAddr::from((number as u32).to_be_bytes()),
        _ => IpAddr::from(number.to_be_bytes()),
    };
    IpNet::new(address, length).ok()
}

fn read_finding(protection: DnsThreatProtection, labels: u8, octets: &[u8; 18]) -> Finding {
    let [a1, a2, a3, a4, n1, n2, n3, n4, t1, t2, t3, t4, ..] = *octets;
    let (amount, names) = (u32::from_le_bytes([a1, a2, a3, a4]), u32::from_le_bytes([n1, n2, n3, n4]));
    Finding { protection, labels, numbers: Numbers { amount, names }, threshold: u32::from_le_bytes([t1, t2, t3, t4]) }
}

fn finding_octets(found: &Finding) -> [u8; 18] {
    let mut octets = [0; 18];
    octets[..4].copy_from_slice(&found.numbers.amount.to_le_bytes());
    octets[4..8].copy_from_slice(&found.numbers.names.to_le_bytes());
    octets[8..12].copy_from_slice(&found.threshold.to_le_bytes());
    octets
}

fn block_octets(block: &IpNet) -> [u8; 18] {
    let (family, number) = match block {
        IpNet::V4(block) => (4, u128::from(u32::from(block.network()))),
        IpNet::V6(block) => (6, u128::from(block.network())),
    };
    let mut octets = [0; 18];
    (octets[0], octets[1]) = (family, block.prefix_len());
    octets[2..].copy_from_slice(&number.to_le_bytes());
    octets
}

impl Trace for QueryLogTrace {
    #[inline]
    fn note(&mut self, _: Stage, _: impl FnOnce() -> String) {}

    #[inline]
    fn notes(&mut self, _: Stage, _: impl FnOnce() -> Vec<String>) {}

    #[inline]
    fn route(&mut self, _: &Arc<Route>) {}

    fn query_at(&mut self, at: usize) {
        self.query_at = at;
    }

    fn client(&mut self, client: &Client, matched: &MatchedClient, view: &View) {
        self.client = Some(LoggedClient { client: *client, view: view.slot, az: matched.az, subnet: matched.subnet });
    }

    fn next_name(&mut self) {
        self.current = self.len;
    }

    fn answered_by<'a>(&mut self, resource: impl FnOnce() -> AnsweredBy<'a>) {
        let (number, id) = resource().parts();
        let id = &id.as_bytes()[..id.len().min(255)];
        let start = self.current;
        let Some(room) = self.answered_by.get_mut(start..start + 2 + id.len()) else { return };
        (room[0], room[1]) = (number, id.len() as u8);
        room[2..].copy_from_slice(id);
        self.len = start + 2 + id.len();
    }

    fn firewall(&mut self, hit: &FirewallHit) {
        let name = hit.name.wire();
        let server = if let MatchedEntry::ServerName(entry) = hit.entry { &*entry.name } else { &[] };
        let start = self.firewall_len;
        let end = start + MATCH_OCTETS + name.len() + server.len();
        let Some(room) = self.firewall.get_mut(start..end) else { return };
        const NONE: [u8; 18] = [0; 18];
        let (kind, labels, below_only, line, block_or_numbers) = match hit.entry {
            MatchedEntry::Name(found) => (0, found.entry_labels, found.below_only, found.line, NONE),
            MatchedEntry::Client(entry) => (1, 0, false, entry.line, block_octets(&entry.block)),
            MatchedEntry::Answer(entry) => (2, 0, false, entry.line, block_octets(&entry.block)),
            MatchedEntry::ServerName(entry) => (SERVER_NAME, 0, entry.below_only, entry.line, NONE),
            MatchedEntry::ServerAddress(entry) => (8, 0, false, entry.line, block_octets(&entry.block)),
            MatchedEntry::Block(block) => (3, 0, false, 0, block_octets(&block)),
            MatchedEntry::Unready => (4, 0, false, 0, NONE),
            MatchedEntry::Found(found) => match found.protection {
                DnsThreatProtection::DnsTunneling => (5, found.labels, false, 0, finding_octets(&found)),
                DnsThreatProtection::Dga | DnsThreatProtection::DictionaryDga => {
                    (6, found.labels, false, 0, finding_octets(&found))
                }
            },
        };
        let (fixed, octets) = room.split_at_mut(MATCH_OCTETS);
        fixed[..4].copy_from_slice(&hit.rule.slot.to_le_bytes());
        fixed[4..9].copy_from_slice(&[hit.outcome as u8, hit.hop as u8, kind, labels, below_only.into()]);
        fixed[9..13].copy_from_slice(&line.to_le_bytes());
        fixed[13..31].copy_from_slice(&block_or_numbers);
        fixed[31] = name.len() as u8;
        octets[..name.len()].copy_from_slice(name);
        octets[name.len()..].copy_from_slice(server);
        self.firewall_len = end;
    }

    fn cache_state(&mut self, state: CacheState) {
        self.cache = self.cache.max(Some(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_resources_that_answered_while_there_is_room() {
        let mut trace = QueryLogTrace::default();
        let long = "z".repeat(300);
        for (zone, rule) in [("Z1", None), ("Z2", Some("rule-1")), (&*long, None), (&*long, None), ("Z3", None)] {
            trace.next_name();
            trace.answered_by(|| AnsweredBy::Zone(zone));
            if let Some(rule) = rule {
                trace.answered_by(|| AnsweredBy::Rule(rule));
            }
        }
        let read: Vec<_> = read_answered_by(trace.answered_by_octets()).collect();
        // The second zone left the name to the rule; there is no room for the fourth one.
        let expected = [
            ("zone", b"Z1".to_vec()),
            ("rule", b"rule-1".to_vec()),
            ("zone", vec![b'z'; 255]),
            ("zone", b"Z3".to_vec()),
        ];
        assert_eq!(read.iter().map(|(kind, id)| (*kind, id.to_vec())).collect::<Vec<_>>(), expected);
        trace.cache_state(CacheState::Stale);
        trace.cache_state(CacheState::Hit);
        assert_eq!(trace.cache, Some(CacheState::Stale));
        trace.clear();
        assert_eq!((read_answered_by(trace.answered_by_octets()).count(), trace.cache), (0, None));
    }
}
