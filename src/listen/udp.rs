//! Do53 over UDP: a socket and a thread for each core and listen address, and a batch of packets per system call.
//!
//! This is the only file with `unsafe`: recvmmsg and sendmmsg have no safe interface.

mod deferred;

use super::{
    Core,
    dispatch::{self, Arrival, Decision, ReplyRecorder},
};
use crate::{
    answer::{self as answers, Client, Moment, PrefetchHint, QueryLogTrace, Received, Transport},
    clock::seconds,
    listen::workers::DropReason,
    query_log::{LARGE_RING_OCTETS, LoggedAnswers},
    snapshot::{Snapshot, networks::MatchedClient, zone::CACHE_LINE},
    wire::{query::LookupName, reply::MAX_UDP_OCTETS},
};
use deferred::{DeferredQuery, DeferredReply, ReplyQueue};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Packets per system call.
const BATCH: usize = 32;
/// The maximum length of a query. Longer packets are cut off, and answered as malformed. Real queries are far shorter.
const MAX_QUERY_OCTETS: usize = 4096;
/// The distance between the buffers of two queries, in octets. If it were a power of two, all buffers would begin in the
/// same set of the processor's cache. A set has fewer lines than [`BATCH`].
const QUERY_BUFFER_OCTETS: usize = MAX_QUERY_OCTETS + 2 * CACHE_LINE;
/// The time-out of a receive, after which a worker looks whether it must stop.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(500);
/// The maximum time that a worker reads after the stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of batches without prefetch after a batch that had nothing to prefetch.
const UNHINTED_BATCHES: u8 = 15;
/// A batch has something to prefetch if at least one of this number of queries has.
const QUERIES_PER_HINT: usize = 8;
/// The maximum number of attempts to send a reply while the kernel has no buffer for it.
const MAX_SEND_ATTEMPTS: usize = 3;
const RECEIVE_BUFFER: usize = 4 << 20;

/// Opens a socket for each core on one address. The first one chooses the port of all, if the port is 0. With inherited
/// sockets, opens no others: another socket would take packets away from the process that still reads the inherited ones.
pub fn bind(address: SocketAddr, inherited: Vec<Socket>) -> io::Result<Vec<Socket>> {
    if !inherited.is_empty() {
        for socket in &inherited {
            socket.set_nonblocking(false)?;
            set_options(socket, address)?;
        }
        return Ok(inherited);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut address = address;
    let mut sockets = Vec::with_capacity(cores);
    for _ in 0..cores {
        let socket = open(address)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_options(&socket, address)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets the options that can be set on a bound socket too.
///
/// The kernel ignores ICMP messages "fragmentation needed", because a forged one would make it fragment answers. Over IPv4,
/// answers have the flag "don't fragment", so routers do not fragment them either (RFC 9715, section 3.1). Over IPv6,
/// routers never fragment packets.
fn set_options(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // The system may allow a smaller buffer only.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    socket.set_write_timeout(Some(Duration::from_millis(100)))?;
    let wildcard = address.ip().is_unspecified();
    if address.is_ipv6() {
        if wildcard {
            set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        }
        let _ = set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT);
    } else {
        if wildcard {
            set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        }
        let _ = set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE);
    }
    Ok(())
}

const IPV6_PMTUDISC_OMIT: libc::c_int = 5;

fn set_option(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is one int, which lives until the call returns, and its size is given.
    let result = unsafe {
        let len = mem::size_of_val(&value) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number of packets that the kernel dropped because the buffer of the socket was full. None if the kernel does not say.
pub fn overflows(socket: &Socket) -> Option<u32> {
    let mut numbers = [0u32; 9];
    let mut len = mem::size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the buffer lives until the call returns, and its size is given.
    let result = unsafe {
        let numbers = numbers.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, numbers, &raw mut len)
    };
    // The last number is SK_MEMINFO_DROPS.
    (result == 0 && len as usize == mem::size_of_val(&numbers)).then_some(numbers[8])
}

/// Starts a thread for each socket. When `stop` is set, a thread answers the packets that have arrived, and ends.
pub fn start(core: &Arc<Core>, sockets: Vec<Socket>, stop: &Arc<AtomicBool>) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::with_capacity(sockets.len());
    for (number, socket) in sockets.into_iter().enumerate() {
        let local = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no IP socket"))?;
        let batch = Batch::new(socket);
        let reply_queue = ReplyQueue::new(core, &batch.socket, local.port());
        let mut worker = Worker {
            core: core.clone(),
            recorder: core.recorder(
                core.counters.workers.add_worker(Transport::Udp, Some((local, number, &batch.socket))),
                LARGE_RING_OCTETS,
                local.port(),
            ),
            received: UNIX_EPOCH,
            noted: QueryLogTrace::default(),
            local: local.ip(),
            draw: crate::clock::random_seed().0 as u32,
            batch,
            names: vec![LookupName::root(); BATCH],
            unhinted: 0,
            deferred: Vec::new(),
            reply_queue,
        };
        let stop = stop.clone();
        let thread = std::thread::Builder::new().name(format!("udp-{number}")).spawn(move || {
            let abort = AbortOnPanic;
            worker.run(&stop);
            mem::forget(abort);
        })?;
        threads.push(thread);
    }
    Ok(threads)
}

/// Aborts the process when a worker panics: a server that answers only some clients is worse. Release builds abort anyway.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}

struct Worker {
    core: Arc<Core>,
    recorder: ReplyRecorder,
    /// The time when the batch arrived.
    received: SystemTime,
    /// The steps of the current answer, for the query log.
    noted: QueryLogTrace,
    local: IpAddr,
    draw: u32,
    batch: Batch,
    /// The names of the queries of the batch. A prefetch fills them before the answers do.
    names: Vec<LookupName>,
    /// The number of batches to come without prefetch.
    unhinted: u8,
    /// The queries of the current batch that must wait. `reply_queue` answers them.
    deferred: Vec<DeferredQuery>,
    reply_queue: Arc<ReplyQueue>,
}

impl Worker {
    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Relaxed) {
            self.process_batch(libc::MSG_WAITFORONE);
        }
        let end = Instant::now() + DRAIN_TIMEOUT;
        while self.process_batch(libc::MSG_DONTWAIT) && Instant::now() < end {}
    }

    /// Receives a batch of packets, answers it and sends the replies. False when there was no packet.
    fn process_batch(&mut self, flags: libc::c_int) -> bool {
        let received = match self.batch.receive(flags) {
            Ok(received) => received,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return false,
                io::ErrorKind::Interrupted => return true,
                _ => {
                    self.recorder.counters.dropped(DropReason::Receive);
                    std::thread::sleep(Duration::from_millis(1));
                    return true;
                }
            },
        };
        self.received = SystemTime::now();
        let now = seconds(self.received);
        // The snapshot is released before the next receive blocks.
        let snapshot = self.core.snapshot.load();
        self.recorder.prepare(&snapshot);
        self.recorder.counters.received(received);
        let (mut clients, mut matched) = ([None; BATCH], [None; BATCH]);
        for (index, client) in clients[..received].iter_mut().enumerate() {
            *client = self.batch.client(index, self.local);
        }
        match self.unhinted {
            0 if received > 1 => self.prefetch_batch(&snapshot, &clients[..received], &mut matched[..received]),
            _ => self.unhinted = self.unhinted.saturating_sub(1),
        }
        for (index, (client, matched)) in clients.iter().zip(&matched).enumerate().take(received) {
            self.draw = self.draw.wrapping_add(1);
            if let Some(client) = client {
                self.answer(&snapshot, client, Moment { now, draw: self.draw }, index, *matched);
            }
        }
        drop(snapshot);
        if !self.deferred.is_empty() {
            self.reply_queue.answer_all(mem::take(&mut self.deferred));
        }
        for _ in 0..self.batch.send() {
            self.recorder.counters.dropped(DropReason::Unsent);
        }
        true
    }

    /// Prefetches the memory that the answers of a batch need, so that the answers do not wait for it one after another.
    /// `matched` gets the clients.
    fn prefetch_batch<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        clients: &[Option<Client>],
        matched: &mut [Option<MatchedClient<'s>>],
    ) {
        let mut hints: [Option<PrefetchHint>; BATCH] = [None; BATCH];
        let received = clients.len();
        let packets = hints.iter_mut().zip(matched).zip(clients).zip(&mut self.names);
        for (index, (((hint, matched), client), name)) in packets.enumerate() {
            let Some(client) = client else { continue };
            if let Some((mut found, client)) =
                answers::find_prefetch_hint(snapshot, client, self.batch.query(index), name)
            {
                found.visit_addresses(0, 0, &mut prefetch);
                (*hint, *matched) = (Some(found), Some(client));
            }
        }
        for stage in 1..PrefetchHint::STAGES {
            let mut draw = self.draw;
            for hint in &mut hints {
                draw = draw.wrapping_add(1);
                let ends = hint.as_mut().is_some_and(|hint| !hint.visit_addresses(stage, draw, &mut prefetch));
                if ends {
                    *hint = None;
                }
            }
        }
        if hints.iter().flatten().count() * QUERIES_PER_HINT < received {
            self.unhinted = UNHINTED_BATCHES;
        }
    }

    fn answer<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        client: &Client,
        moment: Moment,
        index: usize,
        matched: Option<MatchedClient<'s>>,
    ) {
        let (query, reply) = self.batch.packet(index);
        let Some(name) = self.names.get_mut(index) else { return };
        let (core, logged) = (&self.core, self.recorder.logged());
        let is_reported = |decision: &Decision| match decision {
            Decision::Finish(Some(answered)) => answered.firewall.is_reported(),
            Decision::Finish(None) | Decision::Defer(_) => false,
        };
        let noted = &mut self.noted;
        let mut decide_noted = |name: &mut LookupName, reply: &mut [u8]| {
            noted.clear();
            let received = Received { packet: query, name, matched };
            dispatch::decide(core, snapshot, client, moment, received, reply, noted)
        };
        let mut decision = match logged {
            LoggedAnswers::All => decide_noted(name, reply),
            LoggedAnswers::Reported | LoggedAnswers::None => {
                let received = Received { packet: query, name, matched };
                dispatch::decide(core, snapshot, client, moment, received, reply, &mut ())
            }
        };
        // Rules report few answers. zonal makes such an answer a second time with its steps, so other answers do not pay
        // for steps.
        if logged == LoggedAnswers::Reported && is_reported(&decision) {
            decision = decide_noted(name, reply);
        }
        let answered = match decision {
            Decision::Finish(answered) => answered,
            Decision::Defer(deferred) => {
                let (query, received) = (query.into(), self.received);
                let path = self.batch.path(index);
                return self.deferred.push(DeferredQuery { client: *client, query, received, path, deferred });
            }
        };
        let arrival = Arrival { client, packet: query, received: self.received };
        let reply = answered.map(|answered| (answered, &mut reply[..]));
        if let Some(len) = self.recorder.finish(&self.core, snapshot, &arrival, &self.noted, reply) {
            self.batch.reply(index, len);
        }
    }
}

/// Prefetches the memory at an address. The address need not be valid.
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on caches, whatever the address is.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Room for the ancillary data of one packet: one `in_pktinfo` or `in6_pktinfo`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// The buffers of a batch, allocated once. `received` points into `queries`, `names` and `controls`. `replies_out` points into
/// `replies`, `names` and `controls`: a reply goes to the source of its query, from the address that the query was sent to.
struct Batch {
    socket: Arc<Socket>,
    queries: Vec<[u8; QUERY_BUFFER_OCTETS]>,
    replies: Vec<[u8; MAX_UDP_OCTETS]>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    /// Only the pointers in the headers use these.
    _query_vectors: Vec<libc::iovec>,
    reply_vectors: Vec<libc::iovec>,
    received: Vec<libc::mmsghdr>,
    replies_out: Vec<libc::mmsghdr>,
    /// The number of packets of the last receive, and of replies to them.
    received_len: usize,
    replies_len: usize,
}

// SAFETY: the pointers in the headers lead only to the vectors of the same value, whose memory is on the heap, is
// never reallocated, and so stays where it is when the value moves to another thread.
unsafe impl Send for Batch {}

impl Batch {
    fn new(socket: Socket) -> Batch {
        // SAFETY: all of these are C structures of integers and pointers, for which zero is a valid value.
        let (name, header, vector) = unsafe {
            let name = MaybeUninit::<libc::sockaddr_storage>::zeroed().assume_init();
            let header = MaybeUninit::<libc::mmsghdr>::zeroed().assume_init();
            (name, header, libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 })
        };
        let mut queries = vec![[0; QUERY_BUFFER_OCTETS]; BATCH];
        let mut replies = vec![[0; MAX_UDP_OCTETS]; BATCH];
        let mut names = vec![name; BATCH];
        let mut controls = vec![Control([0; 64]); BATCH];
        let mut query_vectors = vec![vector; BATCH];
        let mut reply_vectors = vec![vector; BATCH];
        let mut received = vec![header; BATCH];
        for index in 0..BATCH {
            query_vectors[index].iov_base = queries[index].as_mut_ptr().cast();
            query_vectors[index].iov_len = MAX_QUERY_OCTETS;
            reply_vectors[index].iov_base = replies[index].as_mut_ptr().cast();
            let header = &mut received[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_iov = &raw mut query_vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut controls[index]).cast();
        }
        Batch {
            socket: Arc::new(socket),
            queries,
            replies,
            names,
            controls,
            _query_vectors: query_vectors,
            reply_vectors,
            received,
            replies_out: vec![header; BATCH],
            received_len: BATCH,
            replies_len: 0,
        }
    }

    /// Waits for packets. Returns their number. The error at the time-out is `WouldBlock`.
    fn receive(&mut self, flags: libc::c_int) -> io::Result<usize> {
        // The kernel has overwritten the lengths in the headers that it used.
        for message in &mut self.received[..self.received_len] {
            message.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            message.msg_hdr.msg_controllen = mem::size_of::<Control>() as _;
            message.msg_hdr.msg_flags = 0;
        }
        self.received_len = BATCH;
        self.replies_len = 0;
        // SAFETY: there are BATCH headers, each with pointers to buffers of this value and with their sizes.
        let result = unsafe {
            let headers = self.received.as_mut_ptr();
            libc::recvmmsg(self.socket.as_raw_fd(), headers, BATCH as libc::c_uint, flags as _, ptr::null_mut())
        };
        match usize::try_from(result) {
            Ok(received) => {
                self.received_len = received.min(BATCH);
                Ok(self.received_len)
            }
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// The addresses of a received packet. `own` is the address of the socket.
    #[inline]
    fn client(&self, index: usize, own: IpAddr) -> Option<Client> {
        let (source, port) = source(&self.names[index])?;
        let local = local(&self.received[index].msg_hdr).unwrap_or(own);
        Some(Client { source, port, local, transport: Transport::Udp })
    }

    /// A received packet.
    #[inline]
    fn query(&self, index: usize) -> &[u8] {
        &self.queries[index][..self.query_len(index)]
    }

    /// A received packet, and the buffer for its reply.
    #[inline]
    fn packet(&mut self, index: usize) -> (&[u8], &mut [u8]) {
        let len = self.query_len(index);
        (&self.queries[index][..len], &mut self.replies[index])
    }

    /// The length of a received packet in its buffer, in octets.
    #[inline]
    fn query_len(&self, index: usize) -> usize {
        (self.received[index].msg_len as usize).min(MAX_QUERY_OCTETS)
    }

    /// The return path of packet `index`, for a reply that is sent after the batch.
    #[allow(clippy::unnecessary_cast, reason = "the type of the length differs with musl")]
    fn path(&self, index: usize) -> ReturnPath {
        let header = &self.received[index].msg_hdr;
        ReturnPath {
            name: self.names[index],
            name_len: header.msg_namelen,
            control: self.controls[index],
            control_len: (header.msg_controllen as usize).min(mem::size_of::<Control>()),
        }
    }

    /// Adds the reply to packet `index` to the replies to send. Each packet has at most one reply.
    fn reply(&mut self, index: usize, len: usize) {
        let (Some(out), vector) = (self.replies_out.get_mut(self.replies_len), &mut self.reply_vectors[index]) else {
            return;
        };
        vector.iov_len = len.min(MAX_UDP_OCTETS);
        out.msg_hdr = self.received[index].msg_hdr;
        out.msg_hdr.msg_iov = vector;
        out.msg_hdr.msg_flags = 0;
        if out.msg_hdr.msg_controllen == 0 {
            out.msg_hdr.msg_control = ptr::null_mut();
        }
        self.replies_len += 1;
    }

    /// Sends all replies. Returns how many the kernel refused.
    fn send(&mut self) -> usize {
        // SAFETY: each header points to buffers of this value, with their sizes: the reply's octets, and the name and
        // ancillary data that the kernel filled in for its query.
        unsafe { send_all(&self.socket, &mut self.replies_out[..self.replies_len], 0) }
    }
}

/// Sends messages. Returns how many the kernel refused. A refused message does not stop the others.
///
/// SAFETY: the headers' pointers have to lead to values that live until this returns, with their sizes.
unsafe fn send_all(socket: &Socket, messages: &mut [libc::mmsghdr], flags: libc::c_int) -> usize {
    let (mut sent, mut unsent, mut attempts) = (0, 0, 0);
    while sent < messages.len() {
        let rest = &mut messages[sent..];
        // SAFETY: as the caller promises.
        let result =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, flags as _) };
        if let Ok(count @ 1..) = usize::try_from(result) {
            sent += count;
            attempts = 0;
            continue;
        }
        // The error belongs to the first message of the rest.
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) if attempts < MAX_SEND_ATTEMPTS && flags == 0 => {
                attempts += 1;
                std::thread::sleep(Duration::from_micros(100));
            }
            // The MTU of the interface is too small for the reply: the client asks again over TCP.
            Some(libc::EMSGSIZE) if attempts == 0 => {
                attempts = MAX_SEND_ATTEMPTS;
                // SAFETY: as the caller promises, the header has one vector, whose octets are the reply.
                unsafe {
                    let vector = &mut *rest[0].msg_hdr.msg_iov;
                    let reply = std::slice::from_raw_parts_mut(vector.iov_base.cast(), vector.iov_len);
                    vector.iov_len = answers::truncate_large(reply, vector.iov_len);
                }
            }
            _ => {
                sent += 1;
                unsent += 1;
                attempts = 0;
            }
        }
    }
    unsent
}

/// The return path to a client: the source of its query, and the address that the query was sent to.
pub struct ReturnPath {
    name: libc::sockaddr_storage,
    name_len: libc::socklen_t,
    control: Control,
    control_len: usize,
}

/// Sends deferred replies without waiting for the kernel. Returns how many the kernel refused.
fn send_deferred(socket: &Socket, replies: &mut [DeferredReply]) -> usize {
    let mut unsent = 0;
    for replies in replies.chunks_mut(BATCH) {
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: a C structure of integers and pointers, for which zero is a valid value.
        let header = unsafe { MaybeUninit::<libc::mmsghdr>::zeroed().assume_init() };
        let (mut vectors, mut headers) = ([vector; BATCH], [header; BATCH]);
        for ((DeferredReply { path, reply, .. }, vector), header) in
            replies.iter_mut().zip(&mut vectors).zip(&mut headers)
        {
            *vector = libc::iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: reply.len() };
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut path.name).cast();
            header.msg_namelen = path.name_len;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            if path.control_len > 0 {
                header.msg_control = (&raw mut path.control).cast();
                header.msg_controllen = path.control_len as _;
            }
        }
        // SAFETY: all pointers lead to the replies and the arrays above, with their sizes.
        unsent += unsafe { send_all(socket, &mut headers[..replies.len()], libc::MSG_DONTWAIT) };
    }
    unsent
}

/// The address and port that the kernel wrote.
fn source(name: &libc::sockaddr_storage) -> Option<(IpAddr, u16)> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in, and a sockaddr_storage is as large and as aligned.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            Some((Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)).into(), u16::from_be(name.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, a sockaddr_in6.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let address = IpAddr::V6(Ipv6Addr::from(name.sin6_addr.s6_addr)).to_canonical();
            Some((address, u16::from_be(name.sin6_port)))
        }
        _ => None,
    }
}

/// The address that a packet was sent to, if its ancillary data says so. Changes the data for the reply: there it names the
/// source address of the reply, and an interface only where the address is valid on that interface alone.
fn local(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel filled in the control buffer that the header points to, and its length; the macros stay
    // within that. The data's type is what level and type say, its length is checked, and it may be unaligned.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        if control.is_null() {
            return None;
        }
        let data = libc::CMSG_DATA(control);
        match ((*control).cmsg_level, (*control).cmsg_type, (*control).cmsg_len as usize) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO, len) if len >= control_len::<libc::in_pktinfo>() => {
                let data = data.cast::<libc::in_pktinfo>();
                let mut info = data.read_unaligned();
                info.ipi_ifindex = 0;
                data.write_unaligned(info);
                Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, len) if len >= control_len::<libc::in6_pktinfo>() => {
                let data = data.cast::<libc::in6_pktinfo>();
                let mut info = data.read_unaligned();
                let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                if !address.is_unicast_link_local() {
                    info.ipi6_ifindex = 0;
                    data.write_unaligned(info);
                }
                Some(IpAddr::V6(address).to_canonical())
            }
            _ => None,
        }
    }
}

/// The length of ancillary data that holds a `T`, its header included.
fn control_len<T>() -> usize {
    // SAFETY: CMSG_LEN only computes.
    unsafe { libc::CMSG_LEN(mem::size_of::<T>() as libc::c_uint) as usize }
}

#[cfg(test)]
mod tests;
