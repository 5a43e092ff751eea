//! DNS Firewall events: the entries of queries that a rule blocked or reported, for an HTTP server.
//!
//! An event is sent once in a while for each rule, view and registered domain; for the detector DGA, for each client. All queries
//! in between count as repeated. Memory is bounded: with too many domains, the oldest ones are forgotten before their time.

use super::{
    entry::Entry,
    firewall::{self, Reported},
    json::Formatter,
};
use crate::{
    instruments::counters, manifest::ClientAddress, snapshot::firewall::registered::registered, wire::query::LookupName,
};
use prometheus::{IntCounter, IntCounterVec};
use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};
use tokio::sync::mpsc::Sender;

/// The maximum number of domains that are remembered.
const MAX_REMEMBERED: usize = 1 << 16;

/// The counters of events.
#[derive(Clone, Debug)]
pub struct EventCounts {
    /// All of them, for the registry.
    pub all: IntCounterVec,
    /// Events that the server has accepted.
    pub sent: IntCounter,
    /// Events that were lost.
    pub lost: IntCounter,
    /// Queries like one that there was an event for.
    pub repeated: IntCounter,
}

impl Default for EventCounts {
    fn default() -> EventCounts {
        let all = counters(
            "zonal_firewall_events_total",
            "DNS Firewall events, if `firewall.events` of zonal.yaml has a URL. outcome: sent, lost (too many waited for the server, or \
             the server refused them), repeated (queries like one that there was an event for)",
            &["outcome"],
            &[&["sent", "lost", "repeated"]],
        );
        let [sent, lost, repeated] = ["sent", "lost", "repeated"].map(|outcome| all.with_label_values(&[outcome]));
        EventCounts { all, sent, lost, repeated }
    }
}

/// Makes events of entries.
pub struct Events {
    /// The time between two events for one rule, view and domain.
    deduplicate: Duration,
    /// The hashes of the rules, views and domains that there was an event for.
    seen: HashSet<u64>,
    /// The same in the order of their times.
    order: VecDeque<(Instant, u64)>,
    hasher: RandomState,
    output: Sender<Vec<u8>>,
    counts: EventCounts,
}

impl Events {
    /// Events go to `output` as JSON objects. One that has no room there is lost.
    pub fn new(deduplicate: Duration, output: Sender<Vec<u8>>, counts: EventCounts) -> Events {
        let (seen, order, hasher) = Default::default();
        Events { deduplicate, seen, order, hasher, output, counts }
    }

    /// Makes an event of an entry, if a rule blocked or reported the query, and it is time.
    pub fn take(&mut self, entry: &Entry, formatter: &mut Formatter, now: Instant) {
        let Some(Reported { group, rule, name, is_about_client }) = firewall::reported(entry.firewall) else { return };
        let name = LookupName::new(name).unwrap_or_else(LookupName::root);
        // A client that asks for generated names has a new domain each time: one event tells of it.
        let (client, domain) = match is_about_client {
            true => (Some(entry.client.0), &[][..]),
            false => (None, name.suffix(registered(&name).map_or(0, |registered| registered.below))),
        };
        let key = self.hasher.hash_one((entry.back, group, rule, client, domain));
        while let Some((time, old)) = self.order.front()
            && now.saturating_duration_since(*time) >= self.deduplicate
        {
            self.seen.remove(old);
            self.order.pop_front();
        }
        if self.seen.contains(&key) {
            return self.counts.repeated.inc();
        }
        let mut event = Vec::new();
        if !formatter.line(entry, ClientAddress::Full, &mut event) {
            return;
        }
        event.pop();
        if self.output.try_send(event).is_err() {
            // The next such query tries again.
            return self.counts.lost.inc();
        }
        if self.order.len() >= MAX_REMEMBERED
            && let Some((_, old)) = self.order.pop_front()
        {
            self.seen.remove(&old);
        }
        self.seen.insert(key);
        self.order.push_back((now, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::Transport,
        config::DnstapMessages,
        query_log::firewall::tests::{reported_by, written},
    };
    use tokio::sync::mpsc::{Receiver, channel, error::TryRecvError};

    const HOUR: Duration = Duration::from_secs(3600);

    /// The number of events that wait; none if one is not a JSON object.
    fn drained(receiver: &mut Receiver<Vec<u8>>) -> Option<usize> {
        let mut count = 0;
        loop {
            match receiver.try_recv() {
                Ok(event) => count += serde_json::from_slice::<serde_json::Value>(&event).ok()?.is_object() as usize,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Some(count),
            }
        }
    }

    fn take(events: &mut Events, view: &str, firewall: &[u8], now: Instant) {
        let mut query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        query.extend(b"\x01x\x03bad\x07example\0\0\x01\0\x01");
        let entry = Entry {
            slots: 0,
            kinds: DnstapMessages::default(),
            generation: 1,
            time: Duration::from_secs(1_700_000_000),
            latency: Duration::ZERO,
            client: ("10.1.0.7".parse().unwrap(), 5353),
            server: ("10.1.0.2".parse().unwrap(), 53),
            transport: Transport::Udp,
            cache: None,
            rcode: 3,
            front: "\"vpc_id\":\"a\"",
            back: view,
            az: "",
            subnet: "",
            entry_point: "",
            is_endpoint: false,
            answered_by: &[],
            firewall,
            query: &query,
            reply: &[],
        };
        events.take(&entry, &mut Formatter::default(), now);
    }

    #[test]
    fn an_event_is_repeated_after_its_time_only() {
        let (sender, mut receiver) = channel(8);
        let mut events = Events::new(HOUR, sender, EventCounts::default());
        let start = Instant::now();
        let (block, allow) = (written(&reported_by(2)), written(&reported_by(0)));
        for (after, view, firewall, expected) in [
            (0, "\"view\":\"a\"", &block, 1),
            (1, "\"view\":\"a\"", &block, 0),
            (2, "\"view\":\"b\"", &block, 1),
            (3, "\"view\":\"c\"", &allow, 0),
            (3599, "\"view\":\"a\"", &block, 0),
            (3600, "\"view\":\"a\"", &block, 1),
            (3601, "\"view\":\"b\"", &block, 0),
        ] {
            take(&mut events, view, firewall, start + Duration::from_secs(after));
            assert_eq!(drained(&mut receiver), Some(expected), "after {after} s");
        }
        assert_eq!(events.counts.repeated.get(), 3);
    }

    #[test]
    fn a_full_queue_loses_events_and_the_next_query_tries_again() {
        let (sender, mut receiver) = channel(1);
        let mut events = Events::new(HOUR, sender, EventCounts::default());
        let (now, block) = (Instant::now(), written(&reported_by(2)));
        take(&mut events, "\"view\":\"a\"", &block, now);
        take(&mut events, "\"view\":\"b\"", &block, now);
        assert_eq!((events.counts.lost.get(), drained(&mut receiver)), (1, Some(1)));
        take(&mut events, "\"view\":\"b\"", &block, now);
        assert_eq!((events.counts.lost.get(), drained(&mut receiver)), (1, Some(1)));
    }

    #[test]
    fn memory_is_bounded() {
        let (sender, mut receiver) = channel(1);
        let mut events = Events::new(HOUR, sender, EventCounts::default());
        let (now, block) = (Instant::now(), written(&reported_by(2)));
        for number in 0..MAX_REMEMBERED + 10 {
            take(&mut events, &format!("\"view\":\"{number}\""), &block, now);
            assert_eq!(drained(&mut receiver), Some(1));
        }
        assert_eq!((events.seen.len(), events.order.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        // The oldest one is forgotten.
        take(&mut events, "\"view\":\"0\"", &block, now);
        assert_eq!(drained(&mut receiver), Some(1));
    }
}
