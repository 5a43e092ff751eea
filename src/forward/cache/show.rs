//! The content of the cache as JSON, for the admin API.

use super::{Cache, CacheCounts, Node};
use crate::{
    answer::known::{Entry, Records},
    wire::{
        Name,
        codes::rcode,
        name::name_text,
        query::LookupName,
        rdata::{type_to_text, write},
    },
};
use serde_json::{Value, json};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::atomic::Ordering::Relaxed,
};

/// The names that a command on the cache applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    name: Name,
    subtree: bool,
}

impl Scope {
    /// One name; with `subtree`, also all names below it.
    pub fn new(name: &Name, subtree: bool) -> Scope {
        Scope { name: name.to_lowercase(), subtree }
    }

    /// Whether a name is in the scope. `name` is in lower case and wire format.
    pub(super) fn holds(&self, name: &[u8]) -> bool {
        let wanted = self.name.as_wire();
        let mut rest = name;
        while self.subtree && rest.len() > wanted.len() {
            let Some(next) = rest.get(1 + usize::from(rest[0])..) else { return false };
            rest = next;
        }
        rest == wanted
    }
}

/// The use of a node at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EntryState {
    Positive,
    Negative,
    /// Expired, but usable as a stale answer.
    Stale,
    Failure,
    /// Expired, and no longer usable.
    Expired,
}

impl EntryState {
    fn word(self) -> &'static str {
        match self {
            EntryState::Positive => "positive",
            EntryState::Negative => "negative",
            EntryState::Stale => "stale",
            EntryState::Failure => "failure",
            EntryState::Expired => "expired",
        }
    }
}

impl Cache {
    /// The size of the cache, and its counters since the start.
    pub fn counts(&self) -> CacheCounts {
        let queues = &self.writer().queues;
        CacheCounts { entries: queues.nodes(), octets: queues.octets(), budget: queues.budget(), ..self.counters.sum() }
    }

    /// The content for the names in a scope, or for all names, as in the HTTP API: the number of
    /// entries of each kind, and the `limit` entries that are used most. `now` is in seconds since
    /// 1970.
    pub fn show(&self, scope: Option<&Scope>, limit: usize, now: i64) -> Value {
        let guard = self.nodes.guard();
        let (mut kinds, mut found) = (BTreeMap::new(), 0);
        let mut used_most = BinaryHeap::new();
        for (hash, node) in self.nodes.iter(&guard) {
            if scope.is_none_or(|scope| scope.holds(&node.key.name)) {
                found += 1;
                *kinds.entry(self.state(node, now)).or_insert(0) += 1;
                used_most.push(Reverse((node.uses.load(Relaxed), *hash)));
                if used_most.len() > limit {
                    used_most.pop();
                }
            }
        }
        let list = used_most.into_sorted_vec();
        let list = list.iter().filter_map(|Reverse((_, hash))| self.nodes.get(hash, &guard));
        let list: Vec<Value> = list.map(|node| self.entry(node, now)).collect();
        let kinds: BTreeMap<_, usize> = kinds.into_iter().map(|(state, count)| (state.word(), count)).collect();
        let counts = self.counts();
        json!({
            "entries": counts.entries,
            "octets": counts.octets,
            "budget_octets": counts.budget,
            "hits": counts.hits,
            "misses": counts.misses,
            "stale_answers": counts.stale,
            "evictions": counts.evictions,
            "prefetches": counts.prefetches,
            "found": found,
            "kinds": kinds,
            "list": list,
        })
    }

    fn state(&self, node: &Node, now: i64) -> EntryState {
        match (&node.good, &node.failure) {
            (Some(good), _) if good.holds(now) && good.answer.count > 0 => EntryState::Positive,
            (Some(good), _) if good.holds(now) => EntryState::Negative,
            (Some(good), _) if self.lifetimes.end(good) > now => EntryState::Stale,
            (_, Some(failure)) if failure.holds(now) => EntryState::Failure,
            _ => EntryState::Expired,
        }
    }

    fn entry(&self, node: &Node, now: i64) -> Value {
        let key = &node.key;
        let good = node.good.as_deref();
        let left = good.map(|entry| (entry.end() - now).min(entry.ttl.into()));
        let name = LookupName::new(&key.name).unwrap_or_else(LookupName::root);
        let records = |of: fn(&Entry) -> &Records| -> Vec<Value> {
            let record = |(owner, rtype, rdata): (&[u8], u16, &[u8])| {
                let mut text = String::new();
                let _ = write(&mut text, rtype, rdata);
                let ttl = left.unwrap_or(0).max(0);
                json!({"name": name_text(owner), "type": type_to_text(rtype), "ttl": ttl, "rdata": text})
            };
            good.map_or(Vec::new(), |entry| of(entry).iter(&name).map(record).collect())
        };
        let failure = node.failure.as_ref().filter(|failure| failure.holds(now));
        let failure = failure.map(|failure| {
            let (code, text) = failure.ede.as_ref().map_or((0, ""), |(code, text)| (*code, &**text));
            json!({"ttl": failure.end() - now, "ede": {"code": code, "text": text}})
        });
        let status = rcode::MNEMONICS.iter().find(|(code, _)| good.is_some_and(|entry| entry.rcode == *code));
        json!({
            "name": name_text(&key.name),
            "type": type_to_text(key.qtype),
            "dnssec_ok": key.flags & 1 != 0,
            "checking_disabled": key.flags & 2 != 0,
            "rule": if node.rule.is_empty() { None } else { Some(&*node.rule) },
            "route": format!("{:032x}", key.route.0),
            "state": self.state(node, now).word(),
            "status": status.map_or("SERVFAIL", |(_, mnemonic)| mnemonic),
            "ttl": left,
            "authentic": good.is_some_and(|entry| entry.authentic),
            "answer": records(|entry| &entry.answer),
            "authority": records(|entry| &entry.authority),
            "failure": failure,
            "octets": node.size,
            "uses": node.uses.load(Relaxed),
        })
    }
}
