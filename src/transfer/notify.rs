//! Follows what is served, and tells secondaries of zones that have changed (RFC 1996).

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

/// How long the answer to a notification may take at first; twice as long each time after that.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How often a secondary is told of the same.
const TRIES: u32 = 6;
/// How far apart notifications of one zone to one server are at least.
const PAUSE: Duration = Duration::from_millis(100);
/// How many notifications are under way.
const MOST_NOTIFICATIONS: usize = 128;

/// A notification that is under way.
struct Telling {
    since: Instant,
    task: JoinHandle<()>,
}

/// Follows the generations until there are no more.
pub async fn follow(transfers: Arc<Transfers>, status: Arc<Status>, mut generations: watch::Receiver<u64>) {
    let places = Arc::new(Semaphore::new(MOST_NOTIFICATIONS));
    let (last, missing, telling) = Default::default();
    let mut follower = Follower { transfers, status, places, last, missing, telling };
    loop {
        generations.borrow_and_update();
        let snapshot = follower.transfers.snapshot.load_full();
        let generation = snapshot.generation;
        if !follower.knows(&snapshot) {
            follower.take(snapshot).await;
        }
        follower.transfers.followed.send_replace(generation);
        if generations.changed().await.is_err() {
            return;
        }
    }
}

/// What follows the generations.
struct Follower {
    transfers: Arc<Transfers>,
    status: Arc<Status>,
    places: Arc<Semaphore>,
    /// The zones that were looked at last, and their serials.
    last: Option<(Arc<Manifest>, Serials)>,
    /// The keys that the node does not have.
    missing: BTreeSet<(Id, String)>,
    telling: HashMap<(Id, SocketAddr), Telling>,
}

impl Follower {
    /// Whether no zone has changed that others copy.
    fn knows(&self, snapshot: &Snapshot) -> bool {
        self.last.as_ref().is_some_and(|(manifest, serials)| {
            Arc::ptr_eq(serials, &snapshot.serials)
                && same_resources(&manifest.private_hosted_zones, &snapshot.manifest.private_hosted_zones)
        })
    }

    /// Takes what is served into the history, and has secondaries told.
    async fn take(&mut self, snapshot: Arc<Snapshot>) {
        self.last = Some((snapshot.manifest.clone(), snapshot.serials.clone()));
        self.tell_missing(&snapshot);
        let (transfers, zones) = (self.transfers.clone(), history::numbered(&snapshot));
        // The keeper waits for those who hold what was served before, and comparing takes a while.
        drop(snapshot);
        let changed = tokio::task::spawn_blocking(move || transfers.history.follow(&zones)).await;
        self.telling.retain(|_, telling| !telling.task.is_finished() || telling.since.elapsed() < PAUSE);
        for zone in changed.unwrap_or_default() {
            for secondary in &zone.source.secondaries {
                self.tell(&zone, secondary);
            }
        }
    }

    /// Says which keys the node does not have.
    fn tell_missing(&mut self, snapshot: &Snapshot) {
        let missing = missing_keys(&self.transfers.keys, snapshot);
        for (zone, key) in missing.difference(&self.missing) {
            tracing::warn!("zone {zone} names the key {key}, which `tsig_keys` of this node does not have");
        }
        let told = missing.iter().map(|(zone, key)| format!("{key} of {zone}")).collect();
        self.status.state().missing_tsig_keys = told;
        self.missing = missing;
    }

    /// Has a secondary told in a task; what it is being told of the zone is older, and not said any more.
    fn tell(&mut self, zone: &Arc<Zone>, secondary: &Secondary) {
        let key = match &secondary.tsig_key {
            None => None,
            Some(name) => match self.transfers.keys.get(name) {
                Some(key) => Some(key.clone()),
                // Which was said.
                None => return,
            },
        };
        let place = (zone.id.clone(), SocketAddr::new(secondary.ip, secondary.port));
        let since = self.telling.remove(&place).map_or_else(Instant::now, |last| {
            last.task.abort();
            (last.since + PAUSE).max(Instant::now())
        });
        let (transfers, places, zone, secondary) =
            (self.transfers.clone(), self.places.clone(), zone.clone(), secondary.clone());
        let task = tokio::spawn(async move {
            sleep_until(since).await;
            let Ok(_place) = places.acquire_owned().await else { return };
            notify(&transfers, &zone, &secondary, key.as_ref()).await;
        });
        self.telling.insert(place, Telling { since, task });
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

/// Tells one server, until it answers.
async fn notify(transfers: &Transfers, zone: &Zone, secondary: &Secondary, key: Option<&Arc<Key>>) {
    let (name, serial) = (&zone.source.name, zone.serial());
    let address = SocketAddr::new(secondary.ip, secondary.port);
    let mut wait = FIRST_WAIT;
    let mut last = String::from("it does not answer");
    for _ in 0..TRIES {
        let end = Instant::now() + wait;
        let result = match tell(zone, address, key, end).await {
            Ok(Some(0)) => {
                tracing::debug!("{address} knows that {name} has serial {serial}");
                return transfers.counters.notifies.with_label_values(&["out", "accepted"]).inc();
            }
            Ok(Some(code)) => {
                let known = MNEMONICS.iter().find(|(other, _)| *other == u16::from(code));
                let code = known.map_or(code.to_string(), |(_, mnemonic)| mnemonic.to_string());
                tracing::warn!("{address} does not want to know of {name} serial {serial}: {code}");
                return transfers.counters.notifies.with_label_values(&["out", "refused"]).inc();
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            last = error.to_string();
            sleep_until(end).await;
        }
        wait *= 2;
    }
    tracing::warn!("{address} cannot be told that {name} has serial {serial}: {last}");
    transfers.counters.notifies.with_label_values(&["out", "failed"]).inc();
}

/// Sends one notification. Returns the RCODE of the answer; none without one in time.
async fn tell(zone: &Zone, address: SocketAddr, key: Option<&Arc<Key>>, end: Instant) -> io::Result<Option<u8>> {
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
        // Who does not accept our signature may not sign.
        if let Some(session) = &mut session
            && let Err(distrust) = session.verify(answer, now() as u64)
            && code == 0
        {
            return Err(io::Error::other(distrust));
        }
        return Ok(Some(code));
    }
}

/// A notification: the SOA record's question, and as a hint the record itself (RFC 1996, 3.7).
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
