//! What others answered, for as long as it holds.

use super::super::answer::known::{Entry, Found, Key, Known, Question};
use crate::snapshot::routes::RouteId;
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

/// The cache.
pub struct Cache {
    entries: RwLock<HashMap<Key, Arc<Entry>>>,
}

impl Cache {
    /// An empty cache that takes at most this many octets.
    pub fn new(_octets: usize) -> Cache {
        Cache { entries: RwLock::default() }
    }

    /// Keeps what was answered.
    pub fn insert(&self, key: Key, entry: Arc<Entry>) {
        if entry.ttl > 0 {
            self.entries.write().unwrap().insert(key, entry);
        }
    }

    /// Keeps that nobody answered.
    pub fn insert_failure(&self, _key: Key, _entry: Arc<Entry>) {}

    /// What has ended, if it may be used where nobody answers.
    pub fn stale(&self, _key: &Key, _now: i64) -> Option<Arc<Entry>> {
        None
    }
}

impl Known for Cache {
    fn with<R>(&self, route: RouteId, question: &Question, now: i64, use_it: impl FnOnce(Option<Found>) -> R) -> R {
        let entries = self.entries.read().unwrap();
        let entry = entries.get(&Key::new(route, question)).filter(|entry| entry.end() > now);
        use_it(entry.map(|entry| Found { entry, ttl: (entry.end() - now) as u32, stale: false, refresh: false }))
    }
}
