//! What the query log wants to know of how an answer came about.

use super::{
    Client,
    trace::{By, CacheState, Stage, Trace},
};
use crate::snapshot::{endpoints::Az, networks::Found, routes::Route, views::View};
use std::sync::Arc;

/// Room for what answered, in octets: more than 20 names of a chain. What does not fit is left out.
const ROOM: usize = 512;

/// Who asked, by numbers of the snapshot that answered.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The client, behind forwarders and proxies that tell.
    pub client: Client,
    /// The slot of its view.
    pub view: u32,
    /// Its Availability Zone.
    pub az: Option<Az>,
    /// Its subnet.
    pub subnet: Option<u32>,
}

/// Listens to how an answer comes about, and remembers it without allocating.
#[derive(Clone, Debug)]
pub struct Noted {
    /// Who asked; none if that was not found out, or they have no view.
    pub asked: Option<Asked>,
    /// Where in the packet the query begins.
    pub query_at: usize,
    /// What was known of the names that others answer for.
    pub cache: Option<CacheState>,
    /// For each name of the chain: a letter that tells what answered, a length, and an identifier.
    hops: [u8; ROOM],
    hops_len: usize,
    /// Where the current one begins.
    hop_at: usize,
}

impl Default for Noted {
    fn default() -> Noted {
        Noted { asked: None, query_at: 0, cache: None, hops: [0; ROOM], hops_len: 0, hop_at: 0 }
    }
}

impl Noted {
    /// Forgets all, for the next query.
    #[inline]
    pub fn clear(&mut self) {
        (self.asked, self.query_at, self.cache) = (None, 0, None);
        (self.hops_len, self.hop_at) = (0, 0);
    }

    /// What answered, name by name, as [`hops`] reads it.
    pub fn hops(&self) -> &[u8] {
        &self.hops[..self.hops_len]
    }
}

/// Reads what answered, name by name: the word for what it is, and its identifier.
pub fn hops(mut octets: &[u8]) -> impl Iterator<Item = (&'static str, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, len], rest) = octets.split_first_chunk()?;
        let (id, rest) = rest.split_at_checked(len.into())?;
        octets = rest;
        Some((By::WORDS.get(usize::from(kind)).copied()?, id))
    })
}

impl Trace for Noted {
    #[inline]
    fn note(&mut self, _: Stage, _: impl FnOnce() -> String) {}

    #[inline]
    fn notes(&mut self, _: Stage, _: impl FnOnce() -> Vec<String>) {}

    #[inline]
    fn route(&mut self, _: &Arc<Route>) {}

    fn query_at(&mut self, at: usize) {
        self.query_at = at;
    }

    fn asked(&mut self, client: &Client, found: &Found, view: &View) {
        self.asked = Some(Asked { client: *client, view: view.slot, az: found.az, subnet: found.subnet });
    }

    fn hop(&mut self) {
        self.hop_at = self.hops_len;
    }

    fn by<'a>(&mut self, by: impl FnOnce() -> By<'a>) {
        let (kind, id) = by().parts();
        let id = &id.as_bytes()[..id.len().min(255)];
        let start = self.hop_at;
        let Some(room) = self.hops.get_mut(start..start + 2 + id.len()) else { return };
        (room[0], room[1]) = (kind, id.len() as u8);
        room[2..].copy_from_slice(id);
        self.hops_len = start + 2 + id.len();
    }

    fn cache(&mut self, state: CacheState) {
        self.cache = self.cache.max(Some(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_remembered_as_far_as_there_is_room() {
        let mut noted = Noted::default();
        let long = "z".repeat(300);
        for (zone, rule) in [("Z1", None), ("Z2", Some("rule-1")), (&*long, None), (&*long, None), ("Z3", None)] {
            noted.hop();
            noted.by(|| By::Zone(zone));
            if let Some(rule) = rule {
                noted.by(|| By::Rule(rule));
            }
        }
        let read: Vec<_> = hops(noted.hops()).collect();
        // The second zone has left the name to the rule; the fourth one finds no room.
        let expected = [
            ("zone", b"Z1".to_vec()),
            ("rule", b"rule-1".to_vec()),
            ("zone", vec![b'z'; 255]),
            ("zone", b"Z3".to_vec()),
        ];
        assert_eq!(read.iter().map(|(kind, id)| (*kind, id.to_vec())).collect::<Vec<_>>(), expected);
        noted.cache(CacheState::Stale);
        noted.cache(CacheState::Hit);
        assert_eq!(noted.cache, Some(CacheState::Stale));
        noted.clear();
        assert_eq!((hops(noted.hops()).count(), noted.cache), (0, None));
    }
}
