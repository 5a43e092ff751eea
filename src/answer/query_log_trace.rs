//! The listener for the query log: it keeps what a log entry needs, without allocating.
//!
//! It does not make entries: that is the work of [`query_log`](crate::query_log).

use super::{
    Client,
    trace::{AnsweredBy, CacheState, Stage, Trace},
};
use crate::snapshot::{endpoints::Az, networks::MatchedClient, routes::Route, views::View};
use std::sync::Arc;

/// The room for what answered, in octets: enough for a chain of 16 links. The rest is left out.
const ANSWERED_BY_OCTETS: usize = 512;

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
        }
    }
}

impl QueryLogTrace {
    /// Makes it ready for the next query.
    #[inline]
    pub fn clear(&mut self) {
        (self.client, self.query_at, self.cache) = (None, 0, None);
        (self.len, self.current) = (0, 0);
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
