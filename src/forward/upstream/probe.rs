//! Queries that find out whether a server is there, and how well it answers. No client waits for them.

use super::{
    pending::{Event, Kind, Pending, Trouble},
    query::Spelt,
    server::{Server, Way},
};
use crate::{
    answer::known::Question,
    config::DnstapMessage,
    wire::{query::LookupName, rdata::rtype},
};
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

/// How long the answer to a probe is waited for.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to the first probe of a server that is down, and the longest time from one to the next.
const PROBES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Sends a server that is down a query now and then, until it answers or nobody needs it.
pub fn probe_until_up(server: &Arc<Server>) {
    if server.probing.swap(true, Relaxed) {
        return;
    }
    let server = Arc::downgrade(server);
    tokio::spawn(async move {
        let (mut pause, longest) = PROBES;
        loop {
            sleep(pause).await;
            pause = (2 * pause).min(longest);
            let Some(server) = server.upgrade() else { return };
            if probe(&server, Way::Fresh).await {
                server.probing.store(false, Relaxed);
                return;
            }
        }
    });
}

/// Sends a server a query to learn how well it answers.
pub fn probe_once(server: &Arc<Server>) {
    if server.probing.load(Relaxed) {
        return;
    }
    let server = server.clone();
    tokio::spawn(async move { probe(&server, Way::Usual).await });
}

/// Whether a server answers; anything will do.
async fn probe(server: &Arc<Server>, way: Way) -> bool {
    let name = LookupName::new(&server.probe).unwrap_or_else(LookupName::root);
    let question = Question { name: &name, qtype: rtype::SOA, dnssec_ok: false, checking_disabled: false };
    let pending = Arc::new(Pending::new(Spelt::new(&question)));
    let at = Instant::now();
    let look = server.look(&pending.question, at);
    server.counters.probes.inc();
    let event = match server.send(&pending, 0, (way, look), at) {
        Err(trouble) => Some(Event::Failed(trouble)),
        Ok(sent) => {
            let event = pending.next(pin!(sleep_until(at + PROBE_TIMEOUT))).await.map(|(_, event)| event);
            if let Some(Event::Answer(message)) = &event {
                sent.tell(DnstapMessage::ForwarderResponse, message);
            }
            event
        }
    };
    let now = Instant::now();
    let mut health = server.health();
    let is_down = match event {
        Some(Event::Answer(message)) => {
            server.tally.answered(&message, now.saturating_duration_since(at));
            health.answered(at, now);
            return true;
        }
        // Nobody believes what it says, but it is there.
        Some(Event::Folded(_)) => {
            health.heard(now);
            return true;
        }
        Some(Event::Failed(Trouble { kind: Kind::Network | Kind::Unfit, text })) => health.refused(text, now),
        Some(_) => false,
        None => {
            server.tally.timed_out();
            health.timed_out(at, now)
        }
    };
    drop(health);
    if is_down {
        probe_until_up(server);
    }
    false
}
