//! Probes: queries that find out whether a server is up, and how fast. No client waits for them.

use super::{
    pending::{AttemptError, AttemptErrorKind, AttemptEvent, PendingQuestion},
    query::RandomisedQuestion,
    server::{Channel, Server},
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

/// The time-out of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time until the first probe of a server that is down, and the maximum time between probes.
const PROBES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Probes a server that is down in growing intervals, until it answers or no route has it.
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
            if probe(&server, Channel::NewConnection).await {
                server.probing.store(false, Relaxed);
                return;
            }
        }
    });
}

/// Probes a server once, to measure its round trip time.
pub fn probe_once(server: &Arc<Server>) {
    if server.probing.load(Relaxed) {
        return;
    }
    let server = server.clone();
    tokio::spawn(async move { probe(&server, Channel::Default).await });
}

/// Whether a server answers a probe. Any response will do.
async fn probe(server: &Arc<Server>, way: Channel) -> bool {
    let name = LookupName::new(&server.probe).unwrap_or_else(LookupName::root);
    let question = Question { name: &name, qtype: rtype::SOA, dnssec_ok: false, checking_disabled: false };
    let pending = Arc::new(PendingQuestion::new(RandomisedQuestion::new(&question)));
    let at = Instant::now();
    let format = server.query_format(&pending.question, at);
    server.counters.probes.inc();
    let event = match server.send(&pending, 0, (way, format), at) {
        Err(error) => Some(AttemptEvent::Failed(error)),
        Ok(sent) => {
            let event = pending.next(pin!(sleep_until(at + PROBE_TIMEOUT))).await.map(|(_, event)| event);
            if let Some(AttemptEvent::Response(message)) = &event {
                sent.record_dnstap(DnstapMessage::ForwarderResponse, message);
            }
            event
        }
    };
    let now = Instant::now();
    let mut health = server.health();
    let is_down = match event {
        Some(AttemptEvent::Response(message)) => {
            server.own_counters.count_answer(&message, now.saturating_duration_since(at));
            health.record_round_trip(at, now);
            return true;
        }
        // The response may be forged and is not used, but the server is up.
        Some(AttemptEvent::CaseFolded(_)) => {
            health.record_answer(now);
            return true;
        }
        Some(AttemptEvent::Failed(AttemptError {
            kind: AttemptErrorKind::Unreachable | AttemptErrorKind::Misconfigured,
            text,
        })) => health.record_refusal(text, now),
        Some(_) => false,
        None => {
            server.own_counters.count_timeout();
            health.record_timeout(at, now)
        }
    };
    drop(health);
    if is_down {
        probe_until_up(server);
    }
    false
}
