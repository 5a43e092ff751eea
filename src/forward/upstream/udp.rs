//! UDP: many connected sockets for each server, each for few queries and not for long.
//!
//! A connected socket takes packets of its server alone and learns of ICMP errors. Its port is random, the kernel's choice,
//! and so is the id of each query: whoever forges an answer has to guess both, and the case of the name. A packet that
//! comes to a port where a query waits, with an id that was never used there, is a guess (RFC 5452, 9.2): the questions
//! that wait there are told, and there are no new ones by that port.

use super::{
    case::{Case, Judged},
    counters::Counters,
    pending::{Event, Kind, Pending, Trouble},
    query::MAX_QUERY,
    random,
    sources::Sources,
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

/// Places for sockets to one server. A query takes one of them by chance, and opens a socket where there is none.
const SLOTS: usize = 1024;
/// A socket is replaced after this many queries, or this time.
const MAX_USES: u32 = 32;
const MAX_AGE: Duration = Duration::from_secs(2);
/// Sockets to one server, with those that are only open because somebody still waits; and to all servers together. Beyond
/// that sockets are used for longer.
const MAX_OF_SERVER: usize = 2048;
const MAX_SOCKETS: usize = 8192;
/// Sockets that a server may have whatever others have.
const MIN_OF_SERVER: usize = 8;
/// Queries that may wait on one socket.
const MAX_WAITING: usize = 256;
/// Queries whose answers are not waited for any more, or have come, but are no surprise.
const MAX_GONE: usize = 64;
/// The shortest packet that may be an answer, in octets.
const HEADER: usize = 12;
/// What is worth waking up for: packets, and that nobody listens there.
const NEWS: Interest = Interest::READABLE.add(Interest::ERROR);

/// How many sockets there are.
static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Where packets are read. It is never held across an await.
    static PACKET: RefCell<Vec<u8>> = RefCell::new(vec![0; u16::MAX as usize]);
}

/// The sockets to one server.
pub struct Pool {
    address: SocketAddr,
    sources: Arc<Sources>,
    case: Arc<Case>,
    counters: Arc<Counters>,
    slots: Box<[Mutex<Option<Arc<Socket>>>]>,
    open: Arc<AtomicUsize>,
}

/// A socket.
pub struct Socket {
    fd: AsyncFd<UdpSocket>,
    expires: Instant,
    table: Mutex<Table>,
    case: Arc<Case>,
    counters: Arc<Counters>,
    reader: OnceLock<AbortHandle>,
    /// How many sockets to its server are open.
    open: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Table {
    /// Short enough for a walk.
    entries: Vec<Entry>,
    /// How many of them wait.
    waiting: usize,
    /// How many queries there were.
    uses: u32,
    /// Somebody guesses at ids here.
    guessed: bool,
    retired: bool,
}

struct Entry {
    id: u16,
    /// Ids come again, this does not.
    serial: u32,
    spelt: bool,
    number: usize,
    /// None if the answer has come, or is not waited for any more.
    pending: Option<Arc<Pending>>,
}

/// A query that was sent. It is forgotten when this is dropped.
pub struct Sent {
    socket: Arc<Socket>,
    serial: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// No socket is open yet.
    pub fn new(address: SocketAddr, sources: Arc<Sources>, case: Arc<Case>, counters: Arc<Counters>) -> Pool {
        let slots = (0..SLOTS).map(|_| Mutex::default()).collect();
        Pool { address, sources, case, counters, slots, open: Arc::default() }
    }

    /// Sends a query. Its id is put in.
    pub fn send(
        &self,
        pending: &Arc<Pending>,
        number: usize,
        spelt: bool,
        query: &mut [u8],
        now: Instant,
    ) -> Result<Sent, Trouble> {
        debug_assert!(query.len() <= MAX_QUERY);
        let (Some(slot), Some(again), Some(id)) = (random::number(), random::number(), random::number()) else {
            return Err(Trouble::new(Kind::Local, "cannot be asked: there are no random numbers"));
        };
        for slot in [slot, again] {
            let socket = self.socket(usize::from(slot) % SLOTS, now)?;
            let Some((id, serial)) = socket.register(pending, number, spelt, id) else { continue };
            query[..2].copy_from_slice(&id.to_be_bytes());
            let sent = Sent { socket, serial };
            return sent.socket.send(query, serial).map(|()| sent);
        }
        Err(Trouble::new(Kind::Local, "is not asked: too many queries wait for it"))
    }

    /// The socket in a slot; another one where there is none, and none may be opened.
    fn socket(&self, slot: usize, now: Instant) -> Result<Arc<Socket>, Trouble> {
        let mut place = lock(&self.slots[slot]);
        if let Some(socket) = &*place
            && (socket.is_fresh(now) || !self.may_open())
        {
            return Ok(socket.clone());
        }
        let trouble = match self.may_open() {
            true => match self.open(now) {
                Ok(socket) => {
                    if let Some(old) = place.replace(socket.clone()) {
                        old.retire();
                    }
                    return Ok(socket);
                }
                Err(trouble) if trouble.kind == Kind::Local => trouble,
                Err(trouble) => return Err(trouble),
            },
            false => Trouble::new(Kind::Local, "is not asked: too many sockets are open"),
        };
        if let Some(socket) = &*place {
            return Ok(socket.clone());
        }
        drop(place);
        let others = (1..SLOTS).map(|step| &self.slots[(slot + step) % SLOTS]);
        others.into_iter().find_map(|place| lock(place).clone()).ok_or(trouble)
    }

    fn may_open(&self) -> bool {
        let own = self.open.load(Relaxed);
        own < MIN_OF_SERVER || own < MAX_OF_SERVER && OPEN.load(Relaxed) < MAX_SOCKETS
    }

    fn open(&self, now: Instant) -> Result<Arc<Socket>, Trouble> {
        let network = |error: io::Error| match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                Trouble::new(Kind::Local, format!("cannot be asked: {error}"))
            }
            _ => unreachable(&error),
        };
        let socket = self.sources.bind(self.address.ip(), socket2::Type::DGRAM)?;
        socket.connect(&self.address.into()).map_err(network)?;
        #[expect(deprecated, reason = "its successor asks for a promise that a `UdpSocket` keeps anyway")]
        let fd = AsyncFd::with_interest(UdpSocket::from(socket), NEWS).map_err(network)?;
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

impl Drop for Pool {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            if let Some(socket) = slot.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
                socket.retire();
            }
        }
    }
}

/// What it means that an operation on a socket failed.
pub fn unreachable(error: &io::Error) -> Trouble {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => "refuses the connection: nothing listens there".into(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "cannot be reached: no route".into(),
        _ => format!("cannot be reached: {error}").into(),
    };
    Trouble { kind: Kind::Network, text }
}

impl Socket {
    /// Whether it may have new queries.
    fn is_fresh(&self, now: Instant) -> bool {
        let table = lock(&self.table);
        self.expires > now && table.uses < MAX_USES && !table.guessed
    }

    /// Takes an id for a query, that given or another one, and a serial number; none if too many wait.
    fn register(&self, pending: &Arc<Pending>, number: usize, spelt: bool, mut id: u16) -> Option<(u16, u32)> {
        let mut table = lock(&self.table);
        if table.waiting >= MAX_WAITING || table.retired {
            return None;
        }
        while table.entries.iter().any(|entry| entry.id == id) {
            id = random::number()?;
        }
        let serial = table.uses;
        table.forget_oldest();
        table.entries.push(Entry { id, serial, spelt, number, pending: Some(pending.clone()) });
        table.waiting += 1;
        table.uses += 1;
        Some((id, serial))
    }

    fn send(&self, query: &[u8], serial: u32) -> Result<(), Trouble> {
        let mut result = self.fd.get_ref().send(query);
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::WouldBlock
        {
            // It tells of a query that was sent before.
            self.failed(error, Some(serial));
            result = self.fd.get_ref().send(query);
        }
        match result {
            // A packet that does not fit into the buffer is as good as lost.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(unreachable(&error)),
            _ => Ok(()),
        }
    }

    /// Reads what comes, until the socket is closed.
    async fn read(self: Arc<Self>) {
        loop {
            let Ok(mut guard) = self.fd.ready(NEWS).await else { return };
            loop {
                let read = guard.try_io(|fd| {
                    PACKET.with_borrow_mut(|packet| {
                        let len = fd.get_ref().recv(packet)?;
                        Ok(self.arrived(&packet[..len]))
                    })
                });
                match read {
                    Err(_would_block) => break,
                    Ok(Ok(true)) => {}
                    // Nothing is waited for: that there is nothing more needs no system call.
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

    /// Takes a packet. Returns whether answers are still waited for.
    fn arrived(&self, message: &[u8]) -> bool {
        let mut guard = lock(&self.table);
        let table = &mut *guard;
        let id = message.first_chunk().map(|id| u16::from_be_bytes(*id));
        let found = table.entries.iter_mut().find(|entry| Some(entry.id) == id);
        if let Some(entry) = found {
            // Late, or for the second time.
            let Some(pending) = &entry.pending else { return table.waiting > 0 };
            let echo = pending.question.echo(message, entry.spelt);
            let judged = self.case.judge(echo, entry.spelt, &pending.question, false);
            if judged == Judged::Answer {
                let (number, pending) = (entry.number, entry.pending.take());
                table.waiting -= 1;
                let (waiting, retired) = (table.waiting > 0, table.retired);
                drop(guard);
                if let Some(pending) = pending {
                    pending.post(number, Event::Answer(message.to_vec()));
                }
                if retired && !waiting {
                    self.close();
                }
                return waiting;
            }
            let event = match judged {
                Judged::Doubtful => Event::Folded(message.to_vec()),
                _ => Event::Guessed,
            };
            pending.post(entry.number, event);
        } else if message.len() >= HEADER {
            table.guessed = true;
            for entry in &table.entries {
                if let Some(pending) = &entry.pending {
                    pending.post(entry.number, Event::Guessed);
                }
            }
        }
        self.counters.strangers.inc();
        table.waiting > 0
    }

    /// An error came for what was sent, but for one query that was not sent yet.
    fn failed(&self, error: &io::Error, but: Option<u32>) {
        let trouble = unreachable(error);
        let mut table = lock(&self.table);
        for entry in table.entries.iter_mut().filter(|entry| Some(entry.serial) != but) {
            if let Some(pending) = entry.pending.take() {
                pending.post(entry.number, Event::Failed(trouble.clone()));
            }
        }
        table.waiting = table.entries.iter().filter(|entry| entry.pending.is_some()).count();
        if table.retired && table.waiting == 0 {
            drop(table);
            self.close();
        }
    }

    /// No more queries by this socket; it is closed when the last one that waits does not any more.
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

impl Table {
    /// Makes room among those that are not waited for any more.
    fn forget_oldest(&mut self) {
        if self.entries.len() - self.waiting > MAX_GONE
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

impl Sent {
    /// The address and port that it went from.
    pub fn local(&self) -> Option<SocketAddr> {
        self.socket.fd.get_ref().local_addr().ok()
    }
}

impl Drop for Sent {
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
