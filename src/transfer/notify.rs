//! Follows the generations, adds changed zones to the history, and notifies their secondaries (RFC
//! 1996).

use super::{
    Transfers, history,
    tsig::{Key, Keys, Session},
};
use crate::{
    clock::{now, random_seed},
    control_plane::status::Status,
    manifest::{Id, Manifest, Secondary, same_resources},
    snapshot::{Snapshot, zone::Zone, zones::Serials},
    wire::{
        codes::{class, flag, opcode, pointer, rcode::MNEMONICS},
        query::{HEADER, flags},
        rdata::rtype,
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout_at},
};

/// The time-out of the first notification. It doubles with each attempt.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum number of attempts to notify a secondary of one version.
const MAX_ATTEMPTS: u32 = 6;
/// The minimum interval between two notifications of one zone to one server.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum number of notifications at the same time.
const MAX_NOTIFICATIONS: usize = 128;

/// A notification that is being sent.
struct Notification {
    since: Instant,
    task: JoinHandle<()>,
}

/// Follows the generations until the publisher is gone.
pub async fn follow(transfers: Arc<Transfers>, status: Arc<Status>, mut generations: watch::Receiver<u64>) {
    let permits = Arc::new(Semaphore::new(MAX_NOTIFICATIONS));
    let (last, missing, notifications) = Default::default();
    let mut follower = Follower { transfers, status, permits, last, missing, notifications };
    loop {
        generations.borrow_and_update();
        let snapshot = follower.transfers.snapshot.load_full();
        let generation = snapshot.generation;
        if follower.has_changes(&snapshot) {
            follower.follow(snapshot).await;
        }
        follower.transfers.followed.send_replace(generation);
        if generations.changed().await.is_err() {
            return;
        }
    }
}

/// Follows the generations.
struct Follower {
    transfers: Arc<Transfers>,
    status: Arc<Status>,
    permits: Arc<Semaphore>,
    /// The zones of the last generation that was followed, and their serials.
    last: Option<(Arc<Manifest>, Serials)>,
    /// The keys that zones name and the node does not have, with the zones.
    missing: BTreeSet<(Id, String)>,
    /// The notifications by zone and secondary.
    notifications: HashMap<(Id, SocketAddr), Notification>,
}

impl Follower {
    /// Whether a zone or its serial may have changed.
    fn has_changes(&self, snapshot: &Snapshot) -> bool {
        self.last.as_ref().is_none_or(|(manifest, serials)| {
            !Arc::ptr_eq(serials, &snapshot.serials)
                || !same_resources(&manifest.private_hosted_zones, &snapshot.manifest.private_hosted_zones)
        })
    }

    /// Adds a generation to the history, and notifies the secondaries of changed zones.
    async fn follow(&mut self, snapshot: Arc<Snapshot>) {
        self.last = Some((snapshot.manifest.clone(), snapshot.serials.clone()));
        self.report_missing_keys(&snapshot);
        let (transfers, zones) = (self.transfers.clone(), history::numbered(&snapshot));
        // The publisher waits until a former snapshot is free, and comparing zones takes its time.
        drop(snapshot);
        let changed = tokio::task::spawn_blocking(move || transfers.history.add(&zones)).await;
        self.notifications.retain(|_, last| !last.task.is_finished() || last.since.elapsed() < MIN_INTERVAL);
        for zone in changed.unwrap_or_default() {
            for secondary in &zone.source.secondaries {
                self.start(&zone, secondary);
            }
        }
    }

    /// Reports the keys that zones name and the node does not have.
    fn report_missing_keys(&mut self, snapshot: &Snapshot) {
        let missing = missing_keys(&self.transfers.keys, snapshot);
        for (zone, key) in missing.difference(&self.missing) {
            tracing::warn!(zone, key, "TSIG key missing");
        }
        let texts = missing.iter().map(|(zone, key)| format!("{key} of {zone}")).collect();
        self.status.state().missing_tsig_keys = texts;
        self.missing = missing;
    }

    /// Starts a task that notifies a secondary. It replaces the task that notifies it of an older
    /// version.
    fn start(&mut self, zone: &Arc<Zone>, secondary: &Secondary) {
        let key = match &secondary.tsig_key {
            None => None,
            Some(name) => match self.transfers.keys.get(name) {
                Some(key) => Some(key.clone()),
                // The missing key was reported.
                None => return,
            },
        };
        let target = (zone.id.clone(), SocketAddr::new(secondary.ip, secondary.port));
        let since = self.notifications.remove(&target).map_or_else(Instant::now, |last| {
            last.task.abort();
            (last.since + MIN_INTERVAL).max(Instant::now())
        });
        let (transfers, permits, zone, secondary) =
            (self.transfers.clone(), self.permits.clone(), zone.clone(), secondary.clone());
        let task = tokio::spawn(async move {
            sleep_until(since).await;
            let Ok(_permit) = permits.acquire_owned().await else { return };
            notify(&transfers, &zone, &secondary, key.as_ref()).await;
        });
        self.notifications.insert(target, Notification { since, task });
    }
}

/// The keys that zones name and the node does not have, with the zones.
fn missing_keys(keys: &Keys, snapshot: &Snapshot) -> BTreeSet<(Id, String)> {
    let mut missing = BTreeSet::new();
    for (id, zone) in &snapshot.manifest.private_hosted_zones {
        let secondaries = zone.secondaries.iter().filter_map(|secondary| secondary.tsig_key.as_ref());
        let primaries = zone.primaries.iter().filter_map(|primary| primary.tsig_key.as_ref());
        let notifiers = zone.allow_notify.iter().filter_map(|notifier| notifier.tsig_key.as_ref());
        let accesses = zone.allow_transfer.iter().chain(&zone.allow_update);
        let accesses = accesses.filter_map(|access| access.tsig_key.as_ref());
        for key in secondaries.chain(primaries).chain(notifiers).chain(accesses) {
            if keys.get(key).is_none() {
                missing.insert((id.clone(), key.to_string()));
            }
        }
    }
    missing
}

/// Notifies a secondary until it answers, with [`MAX_ATTEMPTS`] attempts at most.
async fn notify(transfers: &Transfers, zone: &Zone, secondary: &Secondary, key: Option<&Arc<Key>>) {
    let (name, serial) = (&zone.source.name, zone.serial());
    let address = SocketAddr::new(secondary.ip, secondary.port);
    let mut timeout = FIRST_TIMEOUT;
    let mut last = String::from("it does not answer");
    for _ in 0..MAX_ATTEMPTS {
        let end = Instant::now() + timeout;
        let result = match send(zone, address, key, end).await {
            Ok(Some(0)) => {
                tracing::debug!(%address, zone = %name, serial, "notification accepted");
                return transfers.counters.notifies.with_label_values(&["out", "accepted"]).inc();
            }
            Ok(Some(code)) => {
                let known = MNEMONICS.iter().find(|(other, _)| *other == u16::from(code));
                let code = known.map_or(code.to_string(), |(_, mnemonic)| mnemonic.to_string());
                tracing::warn!(%address, zone = %name, serial, rcode = code, "notification refused");
                return transfers.counters.notifies.with_label_values(&["out", "refused"]).inc();
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            last = error.to_string();
            sleep_until(end).await;
        }
        timeout *= 2;
    }
    tracing::warn!(%address, zone = %name, serial, error = last, "notification not delivered");
    transfers.counters.notifies.with_label_values(&["out", "failed"]).inc();
}

/// Sends one notification. Returns the RCODE of the answer; none if there is no answer until `end`.
async fn send(zone: &Zone, address: SocketAddr, key: Option<&Arc<Key>>, end: Instant) -> io::Result<Option<u8>> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    let id = (random_seed().0 as u16).to_be_bytes();
    let mut message = message(zone, id);
    let mut session = key.map(|key| Session::request(key, &mut message, now() as u64));
    socket.send(&message).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let Ok(received) = timeout_at(end, socket.recv(&mut buffer)).await else { return Ok(None) };
        let answer = &mut buffer[..received?];
        let is_answer = answer.len() >= HEADER
            && answer[..2] == id
            && flags(answer) & flag::QR != 0
            && opcode::of_flags(flags(answer)) == opcode::NOTIFY;
        if !is_answer {
            continue;
        }
        let code = (flags(answer) & flag::RCODE) as u8;
        // A server that does not accept the signature may answer without one.
        if let Some(session) = &mut session
            && let Err(error) = session.verify(answer, now() as u64)
            && code == 0
        {
            return Err(io::Error::other(error));
        }
        return Ok(Some(code));
    }
}

/// A notification: a question for the SOA record, and the record itself as a hint (RFC 1996,
/// section 3.7).
fn message(zone: &Zone, id: [u8; 2]) -> Vec<u8> {
    let bits = flag::AA | opcode::to_flags(opcode::NOTIFY);
    let soa = history::soa(zone);
    let mut message = [&id[..], &bits.to_be_bytes(), &[0, 1, 0, 1, 0, 0, 0, 0], &zone.apex].concat();
    message.extend_from_slice(&rtype::SOA.to_be_bytes());
    message.extend_from_slice(&class::IN.to_be_bytes());
    message.extend_from_slice(&pointer::to(HEADER).to_be_bytes());
    message.extend_from_slice(&rtype::SOA.to_be_bytes());
    message.extend_from_slice(&class::IN.to_be_bytes());
    message.extend_from_slice(&soa.ttl.to_be_bytes());
    message.extend_from_slice(&(soa.rdata.len() as u16).to_be_bytes());
    message.extend_from_slice(&soa.rdata);
    message
}
