//! The query log, and dnstap: off the way of answers.
//!
//! Who answers puts what is known of the answer into a ring of its own, as it is, and goes on; where the ring is full, the
//! entry is counted and lost. One thread, the [writer], empties the rings, makes text or dnstap messages of the entries, and
//! hands batches of them to the threads of the [sinks](sink), each of which may be as slow as what it writes to.
//!
//! ```text
//! answer, with QueryLogTrace -> Tap -> ring -> writer -> json   -> sink: file, stdout, Unix and TCP sockets, HTTP
//!                                             -> dnstap -> sink: Frame Streams
//! ```

pub mod dnstap;
mod entry;
mod file;
mod json;
mod sink;
mod stream;
mod writer;

use crate::{
    answer::{Answered, Client, QueryLogTrace},
    config::{DnstapMessage, DnstapMessages},
    instruments::{counters, gauges, register},
    snapshot::{Snapshot, query_logs::SLOTS},
};
use entry::Entry;
use prometheus::{IntCounterVec, IntGaugeVec, Registry};
use rtrb::{Consumer, Producer, RingBuffer};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use writer::Running;

/// The room of a worker that answers by UDP, in octets: entries of some hundredths of a second.
pub const LARGE_RING: usize = 4 << 20;
/// The room of all who answer otherwise.
pub const SMALL_RING: usize = 1 << 20;
/// The bit of dnstap among those of the slots.
const DNSTAP: u64 = 1 << SLOTS;

/// What those who answer and the writer share.
pub struct QueryLog {
    /// Which dnstap messages are wanted.
    kinds: DnstapMessages,
    /// The rings that the writer has not taken yet.
    rings: Mutex<Vec<Consumer<u8>>>,
    /// Entries that found no room, by slot.
    lost: [AtomicU64; SLOTS + 1],
    reopen: AtomicBool,
    stop: AtomicBool,
    /// Entries by configuration and what became of them.
    pub entries: IntCounterVec,
    /// Whether a configuration's destination does not take entries.
    pub failed: IntGaugeVec,
    /// dnstap messages by what became of them.
    messages: IntCounterVec,
}

impl QueryLog {
    /// One that nobody writes yet, with these dnstap messages.
    pub fn new(kinds: DnstapMessages) -> Arc<QueryLog> {
        Arc::new(QueryLog {
            kinds,
            rings: Mutex::default(),
            lost: [const { AtomicU64::new(0) }; SLOTS + 1],
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            entries: counters(
                "zonal_query_log_entries_total",
                "Entries of query logs. outcome: written, dropped (the destination does not take them, or there were too many \
             at once), over_rate, not_allowed (the node's configuration does not let them go there)",
                &["config", "outcome"],
                &[&[]],
            ),
            failed: gauges(
                "zonal_query_log_failed",
                "1 while the destination of a query log does not take entries",
                "config",
                &[],
            ),
            messages: counters(
                "zonal_dnstap_messages_total",
                "dnstap messages. outcome: written, dropped",
                &["outcome"],
                &[&["written", "dropped"]],
            ),
        })
    }

    /// Registers its counters.
    pub fn register(&self, registry: &Registry) {
        register(registry, self.entries.clone());
        register(registry, self.failed.clone());
        register(registry, self.messages.clone());
    }

    /// Has the files opened anew, as they may have been put aside.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }

    fn ring(&self, size: usize) -> Producer<u8> {
        let (producer, consumer) = RingBuffer::new(size);
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).push(consumer);
        producer
    }

    #[cold]
    fn lose(&self, slots: u64) {
        for (slot, lost) in self.lost.iter().enumerate() {
            lost.fetch_add(slots >> slot & 1, Relaxed);
        }
    }
}

/// One answer, or what had none.
pub struct Said<'a> {
    /// How it was made.
    pub noted: &'a QueryLogTrace,
    /// Who sent the query.
    pub client: &'a Client,
    /// The packet.
    pub packet: &'a [u8],
    /// When it came.
    pub received: SystemTime,
    /// The answer.
    pub reply: Option<(&'a Answered, &'a [u8])>,
}

/// Where one who answers puts entries.
pub struct Tap {
    log: Arc<QueryLog>,
    size: usize,
    ring: Option<Producer<u8>>,
    /// Where an entry is put together.
    entry: Vec<u8>,
    chance: u32,
    /// The port that queries arrive on; 0 if it is not known.
    port: u16,
}

impl Tap {
    /// One with a ring of so many octets, which is made when it is needed for the first time.
    pub fn new(log: &Arc<QueryLog>, size: usize, chance: u32) -> Tap {
        Tap { log: log.clone(), size, ring: None, entry: Vec::new(), chance, port: 0 }
    }

    /// The same, of queries that arrive on this port.
    pub fn on_port(self, port: u16) -> Tap {
        Tap { port, ..self }
    }

    /// Whether anything is logged. To be called when a snapshot is taken up, not for each query.
    pub fn make_ready(&mut self, snapshot: &Snapshot) -> bool {
        let is_on = !snapshot.query_logs.is_empty() || self.log.kinds != DnstapMessages::default();
        if is_on && self.ring.is_none() {
            self.ring = Some(self.log.ring(self.size));
            self.entry.reserve(1 << 13);
        }
        is_on
    }

    /// Logs an answer, if that is wanted of it. `snapshot` is the one that answered.
    #[inline]
    pub fn log(&mut self, snapshot: &Snapshot, said: &Said) {
        let latency = SystemTime::now().duration_since(said.received).unwrap_or_default();
        let asked = said.noted.client.as_ref();
        let logged = asked.and_then(|asked| snapshot.query_logs.of(asked.view));
        let mut slots = 0;
        if let (Some(logged), Some((answered, _))) = (logged, said.reply) {
            self.chance = self.chance.wrapping_mul(0x915f_77f5).wrapping_add(0x6d2b_79f5);
            let mixed = (self.chance ^ self.chance >> 15).wrapping_mul(0x2c1b_3c6d);
            slots = logged.wanted_by(answered.rcode, latency, mixed ^ mixed >> 16);
        }
        let kinds = self.log.kinds.of_clients();
        let is_tapped =
            kinds.has(DnstapMessage::ClientQuery) || said.reply.is_some() && kinds.has(DnstapMessage::ClientResponse);
        slots |= if is_tapped { DNSTAP } else { 0 };
        if slots == 0 {
            return;
        }
        let client = asked.map_or(said.client, |asked| &asked.client);
        let entry_point = snapshot.networks.entry_points.get(&client.local);
        let subnet = asked.and_then(|asked| asked.subnet).map(|at| &*snapshot.networks.subnets[at as usize].id);
        self.push(&Entry {
            slots,
            kinds,
            generation: snapshot.generation,
            time: since_1970(said.received),
            latency,
            client: (client.source, client.port),
            // Where a header tells the address that was asked, the port is that of the proxy.
            server: (client.local, if client.local == said.client.local { self.port } else { 0 }),
            transport: client.transport,
            cache: said.noted.cache,
            rcode: said.reply.map_or(0, |(answered, _)| answered.rcode),
            front: logged.map_or("", |logged| &logged.front),
            back: logged.map_or("", |logged| &logged.back),
            az: asked.and_then(|asked| asked.az).map_or("", |az| snapshot.azs.id(az)),
            subnet: subnet.unwrap_or(""),
            entry_point: entry_point.map_or("", |entry_point| &entry_point.id),
            is_endpoint: entry_point
                .is_some_and(|entry_point| entry_point.path != crate::snapshot::networks::ClientPath::InVpc),
            answered_by: said.noted.answered_by_octets(),
            query: if is_tapped { said.packet.get(said.noted.query_at..).unwrap_or_default() } else { &[] },
            reply: said.reply.map_or(&[], |(answered, reply)| reply.get(..answered.len).unwrap_or_default()),
        });
    }

    /// Tells dnstap of a query to another server, or of what that answered. `local` is our end of it, if there is one already.
    pub fn forwarded(
        &mut self,
        kind: DnstapMessage,
        local: Option<SocketAddr>,
        server: (IpAddr, u16),
        transport: crate::answer::Transport,
        message: &[u8],
    ) {
        if !self.log.kinds.has(kind) {
            return;
        }
        let size = self.size;
        self.ring.get_or_insert_with(|| self.log.ring(size));
        let unspecified = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let is_query = kind == DnstapMessage::ForwarderQuery;
        self.push(&Entry {
            slots: DNSTAP,
            kinds: DnstapMessages::default().with(kind),
            generation: 0,
            time: since_1970(SystemTime::now()),
            latency: Duration::ZERO,
            client: local.map_or((unspecified, 0), |local| (local.ip().to_canonical(), local.port())),
            server,
            transport,
            cache: None,
            rcode: 0,
            front: "",
            back: "",
            az: "",
            subnet: "",
            entry_point: "",
            is_endpoint: false,
            answered_by: &[],
            query: if is_query { message } else { &[] },
            reply: if is_query { &[] } else { message },
        });
    }

    #[inline]
    fn push(&mut self, entry: &Entry) {
        entry.write(&mut self.entry);
        let Some(ring) = &mut self.ring else { return };
        if ring.push_entire_slice(&self.entry).is_err() {
            self.log.lose(entry.slots);
        }
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
