//! What the cache holds, for those who want to see it.

use super::{Cache, Counts, Node};
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

/// Which names are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    name: Name,
    subtree: bool,
}

impl Scope {
    /// One name; with `subtree` also all names below it.
    pub fn new(name: &Name, subtree: bool) -> Scope {
        Scope { name: name.to_lowercase(), subtree }
    }

    /// Whether a name in lower case and wire format is meant.
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

/// What a node is good for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Positive,
    Negative,
    /// Ended, but for use when others fail.
    Stale,
    Failure,
    /// Of no use any more.
    Over,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Positive => "positive",
            State::Negative => "negative",
            State::Stale => "stale",
            State::Failure => "failure",
            State::Over => "over",
        }
    }
}

impl Cache {
    /// What it holds and did.
    pub fn counts(&self) -> Counts {
        let queues = &self.writer().queues;
        Counts { entries: queues.nodes(), octets: queues.octets(), budget: queues.budget(), ..self.counters.sum() }
    }

    /// Tells what it holds of the names in a scope, or of all: how many entries of which kind, and those which are used
    /// most, but no more than `most`. `now` is in seconds since 1970.
    pub fn show(&self, scope: Option<&Scope>, most: usize, now: i64) -> Value {
        let guard = self.nodes.guard();
        let (mut kinds, mut found) = (BTreeMap::new(), 0);
        let mut used_most = BinaryHeap::new();
        for (hash, node) in self.nodes.iter(&guard) {
            if scope.is_none_or(|scope| scope.holds(&node.key.name)) {
                found += 1;
                *kinds.entry(self.state(node, now)).or_insert(0) += 1;
                used_most.push(Reverse((node.uses.load(Relaxed), *hash)));
                if used_most.len() > most {
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

    fn state(&self, node: &Node, now: i64) -> State {
        match (&node.good, &node.failure) {
            (Some(good), _) if good.holds(now) && good.answer.count > 0 => State::Positive,
            (Some(good), _) if good.holds(now) => State::Negative,
            (Some(good), _) if self.lifetimes.end(good) > now => State::Stale,
            (_, Some(failure)) if failure.holds(now) => State::Failure,
            _ => State::Over,
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
