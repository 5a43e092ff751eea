//! UDP: many connected sockets for each server, each for a few queries and a short time.
//!
//! A connected socket receives packets of its server only, and learns of ICMP errors. The kernel
//! draws its port, and each query has a random ID: a forged response must hit both, and the case of
//! the name. A packet to a port where a query waits, with an ID that was not used there, is a guess
//! (RFC 5452, section 9.2): its questions get an event, and the socket takes no new queries.

use super::{
    case_behaviour::{Acceptance, CaseBehaviour},
    counters::UpstreamCounters,
    pending::{AttemptError, AttemptErrorKind, AttemptEvent, PendingQuestion},
    query::MAX_QUERY,
    random,
    source_addresses::SourceAddresses,
};
use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::AbortHandle,
    time::Instant,
};

/// The number of slots for sockets to one server. A query takes a random slot, and opens a socket
/// if the slot is empty.
const SLOTS: usize = 1024;
/// The number of queries and the age after which a socket is replaced.
const MAX_USES: u32 = 32;
const MAX_AGE: Duration = Duration::from_secs(2);
/// The maximum number of sockets to one server, with replaced ones whose queries still wait, and to
/// all servers together. Beyond it, sockets are used for longer.
const MAX_OF_SERVER: usize = 2048;
const MAX_SOCKETS: usize = 8192;
/// The number of sockets that each server may have, whatever other servers have.
const MIN_OF_SERVER: usize = 8;
/// The maximum number of queries in flight on one socket.
const MAX_WAITING: usize = 256;
/// The number of answered or abandoned queries that a socket remembers, so that their responses are
/// no suspected forgeries.
const MAX_REMEMBERED: usize = 64;
/// The minimum length of a packet that may be a response, in octets.
const HEADER: usize = 12;
/// The events that wake the reader: packets, and ICMP errors.
const WAKE_ON: Interest = Interest::READABLE.add(Interest::ERROR);

/// The number of open sockets, over all servers.
static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The buffer for packets. It is borrowed between awaits only.
    static PACKET: RefCell<Vec<u8>> = RefCell::new(vec![0; u16::MAX as usize]);
}

/// The sockets to one server.
pub struct UdpPool {
    address: SocketAddr,
    sources: Arc<SourceAddresses>,
    case: Arc<CaseBehaviour>,
    counters: Arc<UpstreamCounters>,
    slots: Box<[Mutex<Option<Arc<Socket>>>]>,
    open: Arc<AtomicUsize>,
}

/// A connected socket.
pub struct Socket {
    fd: AsyncFd<UdpSocket>,
    expires: Instant,
    table: Mutex<SocketTable>,
    case: Arc<CaseBehaviour>,
    counters: Arc<UpstreamCounters>,
    reader: OnceLock<AbortHandle>,
    /// The number of open sockets to its server.
    open: Arc<AtomicUsize>,
}

#[derive(Default)]
struct SocketTable {
    /// The queries of the socket, in the order of sending. The list is short enough for a linear
    /// search.
    entries: Vec<SocketEntry>,
    /// The number of queries in flight.
    waiting: usize,
    /// The number of queries so far.
    uses: u32,
    /// Whether a forgery is suspected on this socket.
    forgery_suspected: bool,
    retired: bool,
}

struct SocketEntry {
    id: u16,
    /// The number of the query on this socket. IDs may repeat, it does not.
    serial: u32,
    randomised: bool,
    number: usize,
    /// None if the query was answered or abandoned.
    pending: Option<Arc<PendingQuestion>>,
}

/// A query that was sent. Dropping it gives the query up.
pub struct UdpHandle {
    socket: Arc<Socket>,
    serial: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UdpPool {
    /// A pool without sockets.
    pub fn new(
        address: SocketAddr,
        sources: Arc<SourceAddresses>,
        case: Arc<CaseBehaviour>,
        counters: Arc<UpstreamCounters>,
    ) -> UdpPool {
        let slots = (0..SLOTS).map(|_| Mutex::default()).collect();
        UdpPool { address, sources, case, counters, slots, open: Arc::default() }
    }

    /// Sends a query. The ID is written into `query`.
    pub fn send(
        &self,
        pending: &Arc<PendingQuestion>,
        number: usize,
        randomised: bool,
        query: &mut [u8],
        now: Instant,
    ) -> Result<UdpHandle, AttemptError> {
        debug_assert!(query.len() <= MAX_QUERY);
        let (Some(slot), Some(again), Some(id)) = (random::number(), random::number(), random::number()) else {
            return Err(AttemptError::new(AttemptErrorKind::Local, "cannot be asked: there are no random numbers"));
        };
        for slot in [slot, again] {
            let socket = self.socket(usize::from(slot) % SLOTS, now)?;
            let Some((id, serial)) = socket.register(pending, number, randomised, id) else { continue };
            query[..2].copy_from_slice(&id.to_be_bytes());
            let sent = UdpHandle { socket, serial };
            return sent.socket.send(query, serial).map(|()| sent);
        }
        Err(AttemptError::new(AttemptErrorKind::Local, "is not asked: too many queries wait for it"))
    }

    /// The socket in a slot. A new one, if the slot is empty or its socket is old; the socket of
    /// another slot, if none may be opened.
    fn socket(&self, slot: usize, now: Instant) -> Result<Arc<Socket>, AttemptError> {
        let mut place = lock(&self.slots[slot]);
        if let Some(socket) = &*place
            && (socket.is_fresh(now) || !self.may_open())
        {
            return Ok(socket.clone());
        }
        let error = match self.may_open() {
            true => match self.open(now) {
                Ok(socket) => {
                    if let Some(old) = place.replace(socket.clone()) {
                        old.retire();
                    }
                    return Ok(socket);
                }
                Err(error) if error.kind == AttemptErrorKind::Local => error,
                Err(error) => return Err(error),
            },
            false => AttemptError::new(AttemptErrorKind::Local, "is not asked: too many sockets are open"),
        };
        if let Some(socket) = &*place {
            return Ok(socket.clone());
        }
        drop(place);
        let others = (1..SLOTS).map(|step| &self.slots[(slot + step) % SLOTS]);
        others.into_iter().find_map(|place| lock(place).clone()).ok_or(error)
    }

    fn may_open(&self) -> bool {
        let own = self.open.load(Relaxed);
        own < MIN_OF_SERVER || own < MAX_OF_SERVER && OPEN.load(Relaxed) < MAX_SOCKETS
    }

    fn open(&self, now: Instant) -> Result<Arc<Socket>, AttemptError> {
        let network = |error: io::Error| match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                AttemptError::new(AttemptErrorKind::Local, format!("cannot be asked: {error}"))
            }
            _ => unreachable(&error),
        };
        let socket = self.sources.bind(self.address.ip(), socket2::Type::DGRAM)?;
        socket.connect(&self.address.into()).map_err(network)?;
        #[expect(deprecated, reason = "its successor asks for a promise that a `UdpSocket` keeps anyway")]
        let fd = AsyncFd::with_interest(UdpSocket::from(socket), WAKE_ON).map_err(network)?;
        OPEN.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        let socket = Arc::new(Socket {
            fd,
            expires: now + MAX_AGE,
            table: Mutex::default(),
            case: self.case.clone(),
            counters: self.counters.clone(),
            reader: OnceLock::new(),
            open: self.open.clone(),
        });
        let reader = tokio::spawn(socket.clone().read()).abort_handle();
        let _ = socket.reader.set(reader);
        Ok(socket)
    }

    /// Closes the sockets that are too old.
    pub fn sweep(&self, now: Instant) {
        for slot in &self.slots {
            let mut place = lock(slot);
            if let Some(socket) = place.take_if(|socket| socket.expires <= now) {
                socket.retire();
            }
        }
    }
}

impl Drop for UdpPool {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            if let Some(socket) = slot.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
                socket.retire();
            }
        }
    }
}

/// The error of an attempt whose socket operation failed.
pub fn unreachable(error: &io::Error) -> AttemptError {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => "refuses the connection: nothing listens there".into(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "cannot be reached: no route".into(),
        _ => format!("cannot be reached: {error}").into(),
    };
    AttemptError { kind: AttemptErrorKind::Unreachable, text }
}

impl Socket {
    /// Whether the socket takes new queries.
    fn is_fresh(&self, now: Instant) -> bool {
        let table = lock(&self.table);
        self.expires > now && table.uses < MAX_USES && !table.forgery_suspected
    }

    /// Registers a query with the ID `id`, or with another ID if `id` is in use. Returns the ID and
    /// the query's number. None if too many queries are in flight.
    fn register(
        &self,
        pending: &Arc<PendingQuestion>,
        number: usize,
        randomised: bool,
        mut id: u16,
    ) -> Option<(u16, u32)> {
        let mut table = lock(&self.table);
        if table.waiting >= MAX_WAITING || table.retired {
            return None;
        }
        while table.entries.iter().any(|entry| entry.id == id) {
            id = random::number()?;
        }
        let serial = table.uses;
        table.forget_oldest();
        table.entries.push(SocketEntry { id, serial, randomised, number, pending: Some(pending.clone()) });
        table.waiting += 1;
        table.uses += 1;
        Some((id, serial))
    }

    fn send(&self, query: &[u8], serial: u32) -> Result<(), AttemptError> {
        let mut result = self.fd.get_ref().send(query);
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::WouldBlock
        {
            // The error is about an earlier query.
            self.failed(error, Some(serial));
            result = self.fd.get_ref().send(query);
        }
        match result {
            // A full send buffer is like a lost packet: the next attempt repeats it.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(unreachable(&error)),
            _ => Ok(()),
        }
    }

    /// Reads packets until the socket is closed.
    async fn read(self: Arc<Self>) {
        loop {
            let Ok(mut guard) = self.fd.ready(WAKE_ON).await else { return };
            loop {
                let read = guard.try_io(|fd| {
                    PACKET.with_borrow_mut(|packet| {
                        let len = fd.get_ref().recv(packet)?;
                        Ok(self.receive(&packet[..len]))
                    })
                });
                match read {
                    Err(_would_block) => break,
                    Ok(Ok(true)) => {}
                    // No query is in flight: there is no need to ask the kernel for more.
                    Ok(Ok(false)) => {
                        guard.clear_ready();
                        break;
                    }
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => self.failed(&error, None),
                }
            }
        }
    }

    /// Handles a packet. Returns whether queries are still in flight.
    fn receive(&self, message: &[u8]) -> bool {
        let mut guard = lock(&self.table);
        let table = &mut *guard;
        let id = message.first_chunk().map(|id| u16::from_be_bytes(*id));
        let found = table.entries.iter_mut().find(|entry| Some(entry.id) == id);
        if let Some(entry) = found {
            // A late or repeated response.
            let Some(pending) = &entry.pending else { return table.waiting > 0 };
            let echo = pending.question.echo(message, entry.randomised);
            let acceptance = self.case.evaluate(echo, entry.randomised, &pending.question, false);
            if acceptance == Acceptance::Accepted {
                let (number, pending) = (entry.number, entry.pending.take());
                table.waiting -= 1;
                let (waiting, retired) = (table.waiting > 0, table.retired);
                drop(guard);
                if let Some(pending) = pending {
                    pending.post(number, AttemptEvent::Response(message.to_vec()));
                }
                if retired && !waiting {
                    self.close();
                }
                return waiting;
            }
            let event = match acceptance {
                Acceptance::CaseFolded => AttemptEvent::CaseFolded(message.to_vec()),
                _ => AttemptEvent::ForgerySuspected,
            };
            pending.post(entry.number, event);
        } else if message.len() >= HEADER {
            table.forgery_suspected = true;
            for entry in &table.entries {
                if let Some(pending) = &entry.pending {
                    pending.post(entry.number, AttemptEvent::ForgerySuspected);
                }
            }
        }
        self.counters.unexpected.inc();
        table.waiting > 0
    }

    /// Fails all queries, as an error arrived; except for the query with the number `but`, which
    /// was not sent yet.
    fn failed(&self, error: &io::Error, but: Option<u32>) {
        let error = unreachable(error);
        let mut table = lock(&self.table);
        for entry in table.entries.iter_mut().filter(|entry| Some(entry.serial) != but) {
            if let Some(pending) = entry.pending.take() {
                pending.post(entry.number, AttemptEvent::Failed(error.clone()));
            }
        }
        table.waiting = table.entries.iter().filter(|entry| entry.pending.is_some()).count();
        if table.retired && table.waiting == 0 {
            drop(table);
            self.close();
        }
    }

    /// Stops new queries. The socket is closed when the last query in flight has ended.
    fn retire(&self) {
        let mut table = lock(&self.table);
        table.retired = true;
        if table.waiting == 0 {
            drop(table);
            self.close();
        }
    }

    fn close(&self) {
        if let Some(reader) = self.reader.get() {
            reader.abort();
        }
    }
}

impl SocketTable {
    /// Forgets the oldest answered or abandoned query, beyond [`MAX_REMEMBERED`].
    fn forget_oldest(&mut self) {
        if self.entries.len() - self.waiting > MAX_REMEMBERED
            && let Some(oldest) = self.entries.iter().position(|entry| entry.pending.is_none())
        {
            self.entries.remove(oldest);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Relaxed);
        OPEN.fetch_sub(1, Relaxed);
    }
}

impl UdpHandle {
    /// The local address and port of the query.
    pub fn local(&self) -> Option<SocketAddr> {
        self.socket.fd.get_ref().local_addr().ok()
    }
}

impl Drop for UdpHandle {
    fn drop(&mut self) {
        let mut guard = lock(&self.socket.table);
        let table = &mut *guard;
        let Some(at) = table.entries.iter().position(|entry| entry.serial == self.serial && entry.pending.is_some())
        else {
            return;
        };
        table.entries[at].pending = None;
        table.waiting -= 1;
        if table.retired && table.waiting == 0 {
            drop(guard);
            self.socket.close();
        }
    }
}
