//! The query log, and dnstap. Neither delays answers.
//!
//! Each thread that answers has a ring. It writes the raw facts of an answer into the ring, and continues. When the ring is full,
//! the entry is dropped and counted. One thread, the [writer], empties the rings, formats the entries as JSON or as dnstap
//! messages, and passes batches of them to the threads of the [sinks](sink). A slow destination delays only its own sink.
//!
//! ```text
//! answer, with QueryLogTrace -> EntrySender -> ring -> writer -> json   -> sink: file, stdout, Unix and TCP sockets, HTTP
//!                                             -> dnstap -> sink: Frame Streams
//!                                             -> events -> an HTTP server, by another room
//! ```

pub mod dnstap;
mod entry;
mod events;
mod file;
mod firewall;
mod json;
mod sink;
mod stream;
mod wake;
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
use wake::Wake;

pub use events::{EventCounts, Events};
pub use writer::RunningWriter;

/// The size of the ring of a UDP thread, in octets. It holds the entries of some hundredths of a second.
pub const LARGE_RING_OCTETS: usize = 4 << 20;
/// The size of the ring of the other transports, in octets.
pub const SMALL_RING_OCTETS: usize = 1 << 20;
/// The bit of dnstap in the set of slots.
const DNSTAP: u64 = 1 << SLOTS;

/// The state that the answering threads and the writer share.
pub struct QueryLog {
    /// The dnstap messages that the configuration selects.
    kinds: DnstapMessages,
    /// New rings, until the writer takes them.
    rings: Mutex<Vec<Consumer<u8>>>,
    /// Entries that were dropped because a ring was full, by slot.
    lost: [AtomicU64; SLOTS + 1],
    reopen: AtomicBool,
    stop: AtomicBool,
    /// Wakes the writer.
    wake: Wake,
    /// Entries by configuration and outcome.
    pub entries: IntCounterVec,
    /// Whether the destination of a configuration fails.
    pub failed: IntGaugeVec,
    /// dnstap messages by outcome.
    messages: IntCounterVec,
    /// DNS Firewall events by outcome.
    pub events: EventCounts,
}

impl QueryLog {
    /// A query log without a writer yet, with these dnstap messages.
    pub fn new(kinds: DnstapMessages) -> Arc<QueryLog> {
        Arc::new(QueryLog {
            kinds,
            rings: Mutex::default(),
            lost: [const { AtomicU64::new(0) }; SLOTS + 1],
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            wake: Wake::default(),
            entries: counters(
                "zonal_query_log_entries_total",
                "Entries of query logs. outcome: written, dropped (the destination failed, or there were too many entries at once), \
                 over_rate (above `max_per_second`), not_allowed (`query_log` of zonal.yaml does not allow the destination)",
                &["config", "outcome"],
                &[&[]],
            ),
            failed: gauges("zonal_query_log_failed", "1 while the destination of a query log fails", "config", &[]),
            messages: counters(
                "zonal_dnstap_messages_total",
                "dnstap messages. outcome: written, dropped",
                &["outcome"],
                &[&["written", "dropped"]],
            ),
            events: EventCounts::default(),
        })
    }

    /// Registers the counters of the query log.
    pub fn register(&self, registry: &Registry) {
        register(registry, self.entries.clone());
        register(registry, self.failed.clone());
        register(registry, self.messages.clone());
        register(registry, self.events.all.clone());
    }

    /// Makes the sinks open their files again. A program such as logrotate may have renamed the files.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        self.wake.wake();
    }

    fn ring(&self, size: usize) -> Producer<u8> {
        let (producer, consumer) = RingBuffer::new(size);
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).push(consumer);
        producer
    }

    #[cold]
    fn count_lost(&self, slots: u64) {
        for (slot, lost) in self.lost.iter().enumerate() {
            lost.fetch_add(slots >> slot & 1, Relaxed);
        }
    }
}

/// A query, and its answer if there is one.
pub struct LoggedAnswer<'a> {
    /// The trace of the answer.
    pub noted: &'a QueryLogTrace,
    /// The client that sent the query.
    pub client: &'a Client,
    /// The packet.
    pub packet: &'a [u8],
    /// The time when the query arrived.
    pub received: SystemTime,
    /// The answer.
    pub reply: Option<(&'a Answered, &'a [u8])>,
}

/// The answers that the writer makes entries of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedAnswers {
    /// None.
    None,
    /// The answers that a DNS Firewall rule blocked or reported.
    Reported,
    /// All answers that a configuration of the query log or of dnstap selects.
    All,
}

/// The sender of entries, for one thread or transport.
pub struct EntrySender {
    log: Arc<QueryLog>,
    size: usize,
    ring: Option<Producer<u8>>,
    /// The buffer of an entry.
    entry: Vec<u8>,
    /// The buffer of its DNS Firewall matches.
    firewall: Vec<u8>,
    random: u32,
    /// The port that queries arrive on; 0 if it is not known.
    port: u16,
}

impl EntrySender {
    /// A sender with a ring of `size` octets. The ring is allocated when it is first needed.
    pub fn new(log: &Arc<QueryLog>, size: usize, random: u32) -> EntrySender {
        EntrySender { log: log.clone(), size, ring: None, entry: Vec::new(), firewall: Vec::new(), random, port: 0 }
    }

    /// The same sender, for queries that arrive on this port.
    pub fn on_port(self, port: u16) -> EntrySender {
        EntrySender { port, ..self }
    }

    /// Prepares for a snapshot. Returns the answers that are logged. Call this for each snapshot, not for each query.
    pub fn prepare(&mut self, snapshot: &Snapshot) -> LoggedAnswers {
        let logged = if snapshot.query_logs.has_filters() || self.log.kinds != DnstapMessages::default() {
            LoggedAnswers::All
        } else if !snapshot.query_logs.is_empty() {
            LoggedAnswers::Reported
        } else {
            LoggedAnswers::None
        };
        if logged != LoggedAnswers::None && self.ring.is_none() {
            self.ring = Some(self.log.ring(self.size));
            self.entry.reserve(1 << 13);
            self.firewall.reserve(1 << 12);
        }
        logged
    }

    /// Logs an answer, if a configuration selects it. `snapshot` is the one that answered.
    #[inline]
    pub fn log(&mut self, snapshot: &Snapshot, answer: &LoggedAnswer) {
        let latency = SystemTime::now().duration_since(answer.received).unwrap_or_default();
        let asked = answer.noted.client.as_ref();
        let logged = asked.and_then(|asked| snapshot.query_logs.of(asked.view));
        let mut slots = 0;
        if let (Some(logged), Some((answered, _))) = (logged, answer.reply) {
            self.random = self.random.wrapping_mul(0x915f_77f5).wrapping_add(0x6d2b_79f5);
            let mixed = (self.random ^ self.random >> 15).wrapping_mul(0x2c1b_3c6d);
            slots = logged.wanted_by(answered.rcode, latency, mixed ^ mixed >> 16);
        }
        let kinds = self.log.kinds.of_clients();
        let is_for_dnstap =
            kinds.has(DnstapMessage::ClientQuery) || answer.reply.is_some() && kinds.has(DnstapMessage::ClientResponse);
        slots |= if is_for_dnstap { DNSTAP } else { 0 };
        let is_event = snapshot.node.sends_firewall_events
            && answer.reply.is_some_and(|(answered, _)| answered.firewall.is_reported());
        if slots == 0 && !is_event {
            return;
        }
        let traced = answer.noted.firewall_octets();
        let mut matches = std::mem::take(&mut self.firewall);
        matches.clear();
        if !traced.is_empty() {
            firewall::write(traced, &snapshot.firewall.labels, &mut matches);
        }
        // A query that a firewall rule drops has no reply: its question is that of the query.
        let is_dropped = answer.reply.is_some_and(|(answered, _)| answered.len == 0);
        let client = asked.map_or(answer.client, |asked| &asked.client);
        let entry_point = snapshot.networks.entry_points.get(&client.local);
        let subnet = asked.and_then(|asked| asked.subnet).map(|at| &*snapshot.networks.subnets[at as usize].id);
        let is_lost = !self.push(&Entry {
            slots,
            kinds,
            generation: snapshot.generation,
            time: since_1970(answer.received),
            latency,
            client: (client.source, client.port),
            // If the server address comes from a PROXY header, the port is not known: `port` is the port of the proxy.
            server: (client.local, if client.local == answer.client.local { self.port } else { 0 }),
            transport: client.transport,
            cache: answer.noted.cache,
            rcode: answer.reply.map_or(0, |(answered, _)| answered.rcode),
            front: logged.map_or("", |logged| &logged.front),
            back: logged.map_or("", |logged| &logged.back),
            az: asked.and_then(|asked| asked.az).map_or("", |az| snapshot.azs.id(az)),
            subnet: subnet.unwrap_or(""),
            entry_point: entry_point.map_or("", |entry_point| &entry_point.id),
            is_endpoint: entry_point
                .is_some_and(|entry_point| entry_point.path != crate::snapshot::networks::ClientPath::InVpc),
            answered_by: answer.noted.answered_by_octets(),
            firewall: &matches,
            query: if is_for_dnstap || is_dropped {
                answer.packet.get(answer.noted.query_at..).unwrap_or_default()
            } else {
                &[]
            },
            reply: answer.reply.map_or(&[], |(answered, reply)| reply.get(..answered.len).unwrap_or_default()),
        });
        self.firewall = matches;
        if is_lost && is_event {
            self.log.events.lost.inc();
        }
    }

    /// Logs a query to an upstream server, or its answer, to dnstap. `local` is the local address, if it is known.
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
            firewall: &[],
            query: if is_query { message } else { &[] },
            reply: if is_query { &[] } else { message },
        });
    }

    /// Writes an entry into the ring. Returns whether there was room.
    #[inline]
    fn push(&mut self, entry: &Entry) -> bool {
        entry.write(&mut self.entry);
        let Some(ring) = &mut self.ring else { return true };
        let has_room = ring.push_entire_slice(&self.entry).is_ok();
        if !has_room {
            self.log.count_lost(entry.slots);
        }
        self.log.wake.wake();
        has_room
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
