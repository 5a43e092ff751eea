//! Whether the servers of a route send queries back to us.
//!
//! A query that comes in with the spelling of one that is on its way may be ours, come back; or it is one of a client that
//! draws the case of names as we do. To know it, the servers are sent a query for a name that nobody else can know: if that
//! comes in, they lead back to us. No forwarder on the way can hide that, whatever it does to the case of names.

use super::{
    Way,
    pending::{Event, Pending},
    query::Spelt,
    random, server,
};
use crate::{
    answer::known::Question,
    wire::{name::MAX_NAME, query::LookupName, rdata::rtype},
};
use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// How the names begin, behind the length of their first label.
const PREFIX: &[u8] = b"\x1fzonal-loop-";
/// How long such a name is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it is remembered whether a route leads back.
const MEMORY: Duration = Duration::from_secs(10);
/// How many servers of a route are asked.
const MOST_ASKED: usize = 3;

/// What is known of a route: when it was found out, and whether it leads back.
pub type LeadsBack = tokio::sync::Mutex<Option<(Instant, bool)>>;

/// Whether it has been found out just now that a route leads back.
pub fn is_known_to_lead_back(leads_back: &LeadsBack) -> bool {
    leads_back.try_lock().is_ok_and(|last| last.is_some_and(|(at, leads_back)| leads_back && at.elapsed() < MEMORY))
}

/// The names that are on their way.
#[derive(Default)]
pub struct Loops(Mutex<HashMap<Box<[u8]>, Arc<Notify>>>);

/// A name that is on its way. It is forgotten when this is dropped.
struct Probe<'l> {
    loops: &'l Loops,
    name: LookupName,
    came_back: Arc<Notify>,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.loops.lock().remove(self.name.wire());
    }
}

impl Loops {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a name is one of ours, come back. `name` is in lower case and wire format.
    pub fn take(&self, name: &[u8]) -> bool {
        if !name.starts_with(PREFIX) {
            return false;
        }
        let found = self.lock().get(name).cloned();
        found.inspect(|came_back| came_back.notify_one()).is_some()
    }

    /// Whether the servers of a route, which is for `domain`, lead back to us. It is found out at most once in a while; whoever
    /// wants to know meanwhile waits for it.
    pub async fn leads_back(&self, way: &Way, domain: &[u8]) -> bool {
        let mut last = way.leads_back.lock().await;
        if let Some((at, leads_back)) = *last
            && at.elapsed() < MEMORY
        {
            return leads_back;
        }
        // Who does not wait for the end does not begin again at once.
        *last = Some((Instant::now(), false));
        let leads_back = self.probe(way, domain).await;
        *last = Some((Instant::now(), leads_back));
        leads_back
    }

    async fn probe(&self, way: &Way, domain: &[u8]) -> bool {
        let Some(probe) = self.draw(domain) else { return false };
        let question = Question { name: &probe.name, qtype: rtype::A, dnssec_ok: false, checking_disabled: false };
        let (pending, now) = (Arc::new(Pending::new(Spelt::new(&question))), Instant::now());
        let send = |(number, at): (usize, usize)| {
            let server = &way.servers[at];
            let look = server.look(&pending.question, now);
            server.send(&pending, number, (server::Way::Usual, look), now).ok()
        };
        let mut sent: Vec<_> = way.order(now).into_iter().take(MOST_ASKED).enumerate().map(send).collect();
        let answered = async {
            let mut sleep = pin!(sleep_until(now + PATIENCE));
            while sent.iter().any(Option::is_some) {
                match pending.next(sleep.as_mut()).await {
                    Some((number, Event::Answer(_) | Event::Failed(_))) => sent[number] = None,
                    Some(_) => {}
                    None => return,
                }
            }
        };
        tokio::select! {
            biased;
            () = probe.came_back.notified() => true,
            () = answered => false,
        }
    }

    /// Draws a name below a domain; none if it would be too long.
    fn draw(&self, domain: &[u8]) -> Option<Probe<'_>> {
        let octets: [u8; 10] = random::octets()?;
        let mut name = PREFIX.to_vec();
        name.extend(octets.iter().flat_map(|octet| format!("{octet:02x}").into_bytes()));
        name.extend_from_slice(domain);
        let name = LookupName::new(&name).filter(|_| name.len() <= MAX_NAME)?;
        let came_back = Arc::new(Notify::new());
        self.lock().insert(name.wire().into(), came_back.clone());
        Some(Probe { loops: self, name, came_back })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_their_way_are_known_again() {
        let loops = Loops::default();
        let probe = loops.draw(b"\x07example\0").unwrap();
        let name = probe.name.wire().to_vec();
        assert!(loops.take(&name) && !loops.take(&name[1..]));
        let mut other = name.clone();
        other[20] ^= 1;
        assert!(!loops.take(&other));
        drop(probe);
        assert!(!loops.take(&name), "it is forgotten");
        let long = [&[63; 64][..], &[63; 64], &[63; 64], &[50; 51], &[0]].concat();
        assert!(loops.draw(&long).is_none());
    }
}
