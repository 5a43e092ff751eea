//! Detection of forwarding loops: whether the servers of a route send queries back to this node.
//!
//! A query in the same random case as a question in flight may be this node's own that came back,
//! or the query of a client that draws random case too. To tell the difference, the servers of the
//! route are sent a loop probe: a query for a random name below the route's domain. If the probe
//! comes back, the route is a loop. A forwarder on the way may change the case of the name, but not
//! the name.

use super::{
    ActiveRoute,
    pending::{AttemptEvent, PendingQuestion},
    query::RandomisedQuestion,
    random,
    server::Channel,
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

/// The beginning of each probe's name: the length of its first label, and a fixed text.
const PREFIX: &[u8] = b"\x1fzonal-loop-";
/// The time in which a probe must come back.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for which the result of a check is used.
const CHECK_LIFETIME: Duration = Duration::from_secs(10);
/// The maximum number of servers of a route that a check probes.
const MAX_SERVERS_PROBED: usize = 3;

/// The last check of a route: its time, and whether the route leads back.
pub type LoopCheck = tokio::sync::Mutex<Option<(Instant, bool)>>;

/// Whether the last check is recent and found that the route leads back.
pub fn is_known_to_lead_back(loop_check: &LoopCheck) -> bool {
    loop_check
        .try_lock()
        .is_ok_and(|last| last.is_some_and(|(at, leads_back)| leads_back && at.elapsed() < CHECK_LIFETIME))
}

/// The loop probes in flight, by name.
#[derive(Default)]
pub struct LoopDetector(Mutex<HashMap<Box<[u8]>, Arc<Notify>>>);

/// A loop probe in flight. Dropping it ends the probe.
struct Probe<'l> {
    detector: &'l LoopDetector,
    name: LookupName,
    came_back: Arc<Notify>,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.detector.lock().remove(self.name.wire());
    }
}

impl LoopDetector {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a name is that of a probe in flight. Its check then ends: the route is a loop.
    /// `name` is in lower case and wire format.
    pub fn take_back(&self, name: &[u8]) -> bool {
        if !name.starts_with(PREFIX) {
            return false;
        }
        let found = self.lock().get(name).cloned();
        found.inspect(|came_back| came_back.notify_one()).is_some()
    }

    /// Whether the servers of a route for `domain` send queries back to this node. One check runs
    /// at a time; other callers wait for its result, which is used for [`CHECK_LIFETIME`].
    pub async fn leads_back(&self, route: &ActiveRoute, domain: &[u8]) -> bool {
        let mut last = route.loop_check.lock().await;
        if let Some((at, leads_back)) = *last
            && at.elapsed() < CHECK_LIFETIME
        {
            return leads_back;
        }
        // If the caller gives up during the check, the next caller does not start another one at
        // once.
        *last = Some((Instant::now(), false));
        let leads_back = self.probe(route, domain).await;
        *last = Some((Instant::now(), leads_back));
        leads_back
    }

    async fn probe(&self, route: &ActiveRoute, domain: &[u8]) -> bool {
        let Some(probe) = self.draw(domain) else { return false };
        let question = Question { name: &probe.name, qtype: rtype::A, dnssec_ok: false, checking_disabled: false };
        let (pending, now) = (Arc::new(PendingQuestion::new(RandomisedQuestion::new(&question))), Instant::now());
        let send = |(number, at): (usize, usize)| {
            let server = &route.servers[at];
            let format = server.query_format(&pending.question, now);
            server.send(&pending, number, (Channel::Default, format), now).ok()
        };
        let mut sent: Vec<_> = route.order(now).into_iter().take(MAX_SERVERS_PROBED).enumerate().map(send).collect();
        let answered = async {
            let mut sleep = pin!(sleep_until(now + PROBE_TIMEOUT));
            while sent.iter().any(Option::is_some) {
                match pending.next(sleep.as_mut()).await {
                    Some((number, AttemptEvent::Response(_) | AttemptEvent::Failed(_))) => sent[number] = None,
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

    /// Creates a probe with a random name below a domain. None if the name would be too long.
    fn draw(&self, domain: &[u8]) -> Option<Probe<'_>> {
        let octets: [u8; 10] = random::octets()?;
        let mut name = PREFIX.to_vec();
        name.extend(octets.iter().flat_map(|octet| format!("{octet:02x}").into_bytes()));
        name.extend_from_slice(domain);
        let name = LookupName::new(&name).filter(|_| name.len() <= MAX_NAME)?;
        let came_back = Arc::new(Notify::new());
        self.lock().insert(name.wire().into(), came_back.clone());
        Some(Probe { detector: self, name, came_back })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_probes_in_flight() {
        let detector = LoopDetector::default();
        let probe = detector.draw(b"\x07example\0").unwrap();
        let name = probe.name.wire().to_vec();
        assert!(detector.take_back(&name) && !detector.take_back(&name[1..]));
        let mut other = name.clone();
        other[20] ^= 1;
        assert!(!detector.take_back(&other));
        drop(probe);
        assert!(!detector.take_back(&name), "a dropped probe has ended");
        let long = [&[63; 64][..], &[63; 64], &[63; 64], &[50; 51], &[0]].concat();
        assert!(detector.draw(&long).is_none());
    }
}
