//! Incoming transfers: one task for each zone of the manifest that has primaries. A task waits for
//! the time of the refresh or a notification, asks the primaries, sends a newer version to the
//! publisher, and writes a copy when it is served.

use super::{
    Transfers,
    copies::Copies,
    counters::Counters,
    primary::{PrimaryClient, PrimaryVersion, TransferLimits},
    schedule::{Schedule, Wake},
};
use crate::{
    clock::{random_seed, seconds},
    control_plane::{Message, change::ZoneTransfer},
    firewall_lists::{
        FirewallLists,
        transfers::{list_id, zone_id, zone_of},
    },
    manifest::{
        Id, Primary, PrivateHostedZone, Problem, WithMetadata, catalog, changes,
        transferred::{Content, ZoneCopy},
    },
    snapshot::Snapshot,
    wire::Name,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Sender},
    time::SystemTime,
};
use tokio::{
    sync::{Notify, Semaphore, oneshot, watch},
    task::AbortHandle,
};

/// The maximum number of transfers at the same time.
const MAX_TRANSFERS: usize = 8;
/// The maximum number of zones whose primaries are asked at the same time.
const MAX_QUERIES: usize = 64;

/// All zones with primaries.
#[derive(Debug)]
pub struct IncomingTransfers {
    zones: Mutex<Zones>,
    transfers: Semaphore,
    queries: Semaphore,
    limits: TransferLimits,
}

#[derive(Debug, Default)]
struct Zones {
    by_id: BTreeMap<Id, (Arc<TransferredZone>, AbortHandle)>,
    /// Zones of different VPCs may have the same name.
    by_name: HashMap<Name, Vec<Arc<TransferredZone>>>,
}

/// A zone with primaries.
#[derive(Debug)]
pub struct TransferredZone {
    /// Its identifier.
    pub id: Id,
    /// Its resource.
    pub source: Arc<PrivateHostedZone>,
    state: Mutex<State>,
    notified: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    serial: Option<u32>,
    refreshed: Option<SystemTime>,
    next: Option<SystemTime>,
    expires: Option<SystemTime>,
    primary: Option<SocketAddr>,
    error: Option<String>,
    /// The sender of the last notification.
    notifier: Option<IpAddr>,
}

/// The state of a transferred zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The zone was not transferred yet. zonal answers SERVFAIL.
    Pending,
    /// The last refresh has succeeded.
    Current,
    /// The last refresh has failed. zonal still answers from the zone.
    Retrying,
    /// No refresh has succeeded for too long. zonal answers SERVFAIL.
    Expired,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Pending, Phase::Current, Phase::Retrying, Phase::Expired];

    fn name(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Current => "current",
            Phase::Retrying => "retrying",
            Phase::Expired => "expired",
        }
    }
}

/// The status of a transferred zone. Times are in seconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TransferredZoneStatus {
    /// Its identifier.
    pub id: Id,
    /// Its apex.
    pub name: String,
    /// The serial of the version that the node has.
    pub serial: Option<u32>,
    /// Its state.
    pub state: Phase,
    /// When a primary last confirmed the version.
    pub last_refresh: Option<i64>,
    /// When the node asks the primaries next.
    pub next_refresh: Option<i64>,
    /// When the zone expires, unless a refresh succeeds.
    pub expires: Option<i64>,
    /// The primary that answered last.
    pub primary: Option<SocketAddr>,
    /// Why the last refresh has failed.
    pub error: Option<String>,
    /// In a catalog: the members that are left out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl IncomingTransfers {
    /// Without any zone yet. `limits` limit each transfer.
    pub fn new(limits: TransferLimits) -> IncomingTransfers {
        let (transfers, queries) = (Semaphore::new(MAX_TRANSFERS), Semaphore::new(MAX_QUERIES));
        IncomingTransfers { zones: Mutex::default(), transfers, queries, limits }
    }

    fn zones(&self) -> MutexGuard<'_, Zones> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The zones with a name.
    pub fn named(&self, name: &Name) -> Vec<Arc<TransferredZone>> {
        self.zones().by_name.get(name).cloned().unwrap_or_default()
    }

    /// The status of all zones, by identifier.
    pub fn report(&self, snapshot: &Snapshot) -> Vec<TransferredZoneStatus> {
        let zones: Vec<Arc<TransferredZone>> = self.zones().by_id.values().map(|(zone, _)| zone.clone()).collect();
        zones.iter().map(|zone| zone.report(snapshot)).collect()
    }
}

impl TransferredZone {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a notification, which may have the serial of the new version.
    pub fn notify(&self, from: IpAddr, serial: Option<u32>) {
        let mut state = self.state();
        if serial.is_some() && serial == state.serial && state.phase == Phase::Current {
            return;
        }
        state.notifier = Some(from);
        drop(state);
        self.notified.notify_one();
    }

    fn report(&self, snapshot: &Snapshot) -> TransferredZoneStatus {
        let state = self.state();
        let left_out = snapshot.omitted_members.iter().filter(|left_out| left_out.catalog == self.id);
        TransferredZoneStatus {
            id: self.id.clone(),
            name: self.source.name.to_string(),
            serial: state.serial,
            state: state.phase,
            last_refresh: state.refreshed.map(seconds),
            next_refresh: state.next.map(seconds),
            expires: state.expires.map(seconds),
            primary: state.primary,
            error: state.error.clone(),
            left_out: left_out.map(|left_out| left_out.reason.clone()).collect(),
        }
    }

    fn set_phase(&self, phase: Phase, counters: &Counters) {
        let before = std::mem::replace(&mut self.state().phase, phase);
        counters.transferred_zones.with_label_values(&[before.name()]).dec();
        counters.transferred_zones.with_label_values(&[phase.name()]).inc();
    }
}

/// Runs the tasks of all zones with primaries until the publisher is gone. `times` are the times of
/// the last refreshes of the copies.
pub async fn run_tasks(
    transfers: Arc<Transfers>,
    messages: Sender<Message>,
    mut generations: watch::Receiver<u64>,
    copies: Copies,
    mut times: BTreeMap<Id, SystemTime>,
    lists: ListTransfers,
) {
    for phase in Phase::ALL {
        transfers.counters.transferred_zones.with_label_values(&[phase.name()]);
    }
    let (mut followed, mut followed_lists) = Default::default();
    loop {
        let snapshot = transfers.snapshot.load_full();
        if snapshot.generation > 0 {
            let mut zones = transfers.incoming.zones();
            let mut tasks = Tasks { transfers: &transfers, zones: &mut zones, copies: &copies, times: &mut times };
            for change in changes(&followed, &snapshot.manifest.private_hosted_zones) {
                let source = change.new.filter(|zone| zone.is_transferred()).cloned();
                tasks.replace(change.id, source, snapshot.transferred.get(change.id).cloned(), &messages);
            }
            for change in changes(&followed_lists, &snapshot.manifest.firewall_domain_lists) {
                let source = change.new.and_then(|list| zone_of(list)).map(Arc::new);
                let copy = lists.lists.transferred_copy(change.id);
                tasks.replace(&zone_id(change.id), source, copy, &lists.messages);
            }
            drop(zones);
            followed = snapshot.manifest.private_hosted_zones.clone();
            followed_lists = snapshot.manifest.firewall_domain_lists.clone();
            // The rest are copies of zones that are no longer in the manifest.
            std::mem::take(&mut times).keys().for_each(|id| copies.remove(id));
        }
        // The publisher waits until a former snapshot is free.
        drop(snapshot);
        if generations.changed().await.is_err() {
            return;
        }
    }
}

/// DNS Firewall lists that are transferred.
pub struct ListTransfers {
    /// The lists, with their copies.
    pub lists: Arc<FirewallLists>,
    /// Receives their transfers.
    pub messages: Sender<Message>,
}

/// Starts and stops tasks, so that each zone with primaries has one.
struct Tasks<'t> {
    transfers: &'t Arc<Transfers>,
    zones: &'t mut Zones,
    copies: &'t Copies,
    times: &'t mut BTreeMap<Id, SystemTime>,
}

impl Tasks<'_> {
    /// Replaces the task of a zone, if `source` is other than before; stops it without a source. `messages` receives transfers.
    fn replace(
        &mut self,
        id: &Id,
        source: Option<Arc<PrivateHostedZone>>,
        copy: Option<ZoneCopy>,
        messages: &Sender<Message>,
    ) {
        let (transfers, zones) = (self.transfers, &mut *self.zones);
        let Some(source) = source else {
            if zones.stop(id, &transfers.counters) {
                self.copies.remove(id);
            }
            return;
        };
        let before = zones.by_id.get(id).map(|(zone, _)| zone.clone());
        if before.as_ref().is_some_and(|zone| zone.source == source || zone.source.is_served_like(&source)) {
            return;
        }
        let known = before.and_then(|before| before.state().refreshed).or_else(|| self.times.remove(id));
        let refreshed = copy.is_some().then_some(known).flatten();
        zones.stop(id, &transfers.counters);
        let phase = match &copy {
            None => Phase::Pending,
            Some(copy) if copy.is_expired => Phase::Expired,
            Some(_) => Phase::Retrying,
        };
        let state = State {
            phase,
            serial: copy.as_ref().map(|copy| copy.content.soa.serial),
            refreshed,
            next: None,
            expires: None,
            primary: None,
            error: None,
            notifier: None,
        };
        let zone =
            Arc::new(TransferredZone { id: id.clone(), source, state: Mutex::new(state), notified: Notify::new() });
        transfers.counters.transferred_zones.with_label_values(&[phase.name()]).inc();
        let age = refreshed.and_then(|refreshed| SystemTime::now().duration_since(refreshed).ok()).unwrap_or_default();
        let live = copy.as_ref().filter(|copy| !copy.is_expired).map(|copy| (&copy.content.soa, age));
        let task = ZoneTask {
            schedule: Schedule::new(live),
            transfers: transfers.clone(),
            messages: messages.clone(),
            copies: self.copies.clone(),
            zone: zone.clone(),
            copy,
        };
        let task = transfers.runtime.spawn(task.run()).abort_handle();
        zones.by_name.entry(zone.source.name.clone()).or_default().push(zone.clone());
        zones.by_id.insert(id.clone(), (zone, task));
    }
}

impl Zones {
    /// Stops the task of a zone. Returns false if there is none.
    fn stop(&mut self, id: &Id, counters: &Counters) -> bool {
        let Some((zone, task)) = self.by_id.remove(id) else { return false };
        task.abort();
        counters.transferred_zones.with_label_values(&[zone.state().phase.name()]).dec();
        if let Some(named) = self.by_name.get_mut(&zone.source.name) {
            named.retain(|other| !Arc::ptr_eq(other, &zone));
            if named.is_empty() {
                self.by_name.remove(&zone.source.name);
            }
        }
        true
    }
}

/// The task of one zone.
struct ZoneTask {
    transfers: Arc<Transfers>,
    messages: Sender<Message>,
    copies: Copies,
    zone: Arc<TransferredZone>,
    /// The version that is served, or that has expired.
    copy: Option<ZoneCopy>,
    schedule: Schedule,
}

impl ZoneTask {
    async fn run(mut self) {
        loop {
            if self.schedule.wait(&self.zone.notified).await == Wake::Expired {
                self.expire().await;
                continue;
            }
            let (transfers, zone) = (self.transfers.clone(), self.zone.clone());
            // An expired version does not count: any version of a primary is accepted.
            let have = self.copy.as_ref().filter(|copy| !copy.is_expired).map(|copy| copy.content.clone());
            let refresh = ask_primaries(&transfers, &zone, have.as_deref());
            tokio::pin!(refresh);
            let result = loop {
                tokio::select! {
                    result = &mut refresh => break result,
                    () = self.schedule.expiry() => self.expire().await,
                }
            };
            self.finish_refresh(result).await;
        }
    }

    /// Publishes the zone as expired.
    async fn expire(&mut self) {
        self.schedule.expired();
        let Some(copy) = &mut self.copy else { return };
        copy.is_expired = true;
        let copy = copy.clone();
        tracing::error!(zone = self.zone.id, name = %self.zone.source.name, "transferred zone expired");
        self.zone.set_phase(Phase::Expired, &self.transfers.counters);
        self.zone.state().expires = None;
        let _ = self.serve(copy).await;
    }

    /// Handles the answer of a primary, or the failure of all.
    async fn finish_refresh(&mut self, answer: Result<(PrimaryVersion, SocketAddr), String>) {
        let chance = f64::from(random_seed().0 as u16) / f64::from(u16::MAX);
        let now = SystemTime::now();
        let (result, failure) = match answer {
            Err(error) => ("failed", Some(error)),
            Ok((version, primary)) => {
                self.zone.state().primary = Some(primary);
                self.accept(version, now).await
            }
        };
        self.transfers.counters.transfers.with_label_values(&["in", result]).inc();
        let soa = self.copy.as_ref().map(|copy| copy.content.soa);
        let phase = match (&failure, &self.copy) {
            (None, _) => Phase::Current,
            (_, None) => Phase::Pending,
            (_, Some(copy)) if copy.is_expired => Phase::Expired,
            _ => Phase::Retrying,
        };
        match (&failure, &soa) {
            (None, Some(soa)) => self.schedule.succeeded(soa, chance),
            (_, soa) => self.schedule.failed(soa.as_ref(), chance),
        }
        let mut state = self.zone.state();
        (state.next, state.expires) = {
            let (next, expires) = self.schedule.times();
            (Some(next), expires)
        };
        state.serial = soa.map(|soa| soa.serial);
        if failure.is_none() {
            state.refreshed = Some(now);
        }
        if let Some(failure) = failure.as_ref().filter(|failure| state.error.as_ref() != Some(failure)) {
            tracing::warn!(zone = self.zone.id, name = %self.zone.source.name, error = failure, "zone not refreshed");
        }
        state.error = failure;
        drop(state);
        self.zone.set_phase(phase, &self.transfers.counters);
    }

    /// Serves the version of a primary. Returns the result that is counted, and why the version is
    /// not served.
    async fn accept(&mut self, version: PrimaryVersion, now: SystemTime) -> (&'static str, Option<String>) {
        let (content, result) = match version {
            PrimaryVersion::Older(serial) => {
                return (
                    "refused",
                    Some(format!("the primary has serial {serial}, which is older than what is served")),
                );
            }
            PrimaryVersion::Current => {
                if let Some(copy) = self.copy.clone().filter(|copy| copy.is_expired) {
                    let _ = self.serve(ZoneCopy { is_expired: false, ..copy }).await;
                }
                self.write_copy(move |copies, id, content| match copies.touch(id, now) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => copies.write(id, content, now),
                    result => result,
                })
                .await;
                return ("current", None);
            }
            PrimaryVersion::Newer { content, is_difference } => (content, if is_difference { "ixfr" } else { "axfr" }),
        };
        let old = self.copy.as_ref().filter(|_| result == "ixfr").map(|copy| copy.content.clone());
        if self.zone.source.catalog.is_some()
            && let Err(error) = self.check_catalog(&content)
        {
            return ("refused", Some(error));
        }
        match self.serve(ZoneCopy { content: Arc::new(content), is_expired: false }).await {
            Ok(()) => {
                self.write_copy(move |copies, id, content| match old {
                    Some(old) => copies.write_changes(id, &old, content, now),
                    None => copies.write(id, content, now),
                })
                .await;
                (result, None)
            }
            Err(error) => ("refused", Some(error)),
        }
    }

    /// Checks whether a new version of a catalog can be followed.
    fn check_catalog(&self, content: &Content) -> Result<(), String> {
        let new = content.members().map_err(|error| format!("{error}: it is not followed"))?;
        let old = self.copy.as_ref().and_then(|copy| copy.content.members().ok()).unwrap_or_default();
        catalog::excessive_removal(old, new).map_or(Ok(()), Err)
    }

    /// Sends a version to the publisher, and waits until it is served.
    async fn serve(&mut self, copy: ZoneCopy) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let transfer = ZoneTransfer { zone: self.zone.id.clone(), copy: copy.clone(), reply };
        let server_ends = || "the server ends".to_string();
        self.messages.send(Message::Transfer(transfer)).map_err(|_| server_ends())?;
        match answer.await.map_err(|_| server_ends())? {
            Ok(()) => {
                self.copy = Some(copy);
                Ok(())
            }
            Err(problems) => {
                Err(format!("the transferred records have errors, and are not served: {}", first(&problems)))
            }
        }
    }

    /// Writes a copy to the state directory.
    async fn write_copy(&self, write: impl FnOnce(&Copies, &str, &Content) -> io::Result<()> + Send + 'static) {
        let Some(copy) = &self.copy else { return };
        let (copies, id, content) = (self.copies.clone(), self.zone.id.clone(), copy.content.clone());
        let written = tokio::task::spawn_blocking(move || write(&copies, &id, &content)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(zone = self.zone.id, %error, "zone copy not written");
        }
    }
}

fn first(problems: &[Problem]) -> String {
    problems.iter().find(|problem| problem.is_error()).map_or_else(String::new, Problem::to_string)
}

/// Asks one primary after the other until one answers. The sender of the last notification comes
/// first.
async fn ask_primaries(
    transfers: &Transfers,
    zone: &TransferredZone,
    have: Option<&Content>,
) -> Result<(PrimaryVersion, SocketAddr), String> {
    let notifier = zone.state().notifier.take();
    let mut primaries: Vec<&Primary> = zone.source.primaries.iter().collect();
    primaries.sort_by_key(|primary| Some(primary.ip) != notifier);
    let Ok(_permit) = transfers.incoming.queries.acquire().await else { return Err("the server ends".into()) };
    let mut errors = Vec::new();
    let mut older = None;
    for primary in primaries {
        let key = match &primary.tsig_key {
            None => None,
            Some(name) => match transfers.keys.get(name) {
                Some(key) => Some(key),
                None => {
                    errors
                        .push(format!("{}: the TSIG key {name} is not in this node's `tsig_keys`", primary.address()));
                    continue;
                }
            },
        };
        let (upstreams, limits) = (&transfers.forwarding.upstreams, &transfers.incoming.limits);
        let is_list = list_id(&zone.id).is_some();
        let client = PrimaryClient { primary, key, zone: &zone.source.name, have, upstreams, limits, is_list };
        match client.run(&transfers.incoming.transfers).await {
            Ok(PrimaryVersion::Older(serial)) => older = Some((PrimaryVersion::Older(serial), primary.address())),
            Ok(version) => return Ok((version, primary.address())),
            Err(error) => errors.push(format!("{}: {error}", primary.address())),
        }
    }
    older.ok_or_else(|| errors.join("; "))
}
