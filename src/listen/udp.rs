//! Do53 over UDP: for each listen address a thread and a socket per core, and batches of packets per system call.
//!
//! This is the only file with `unsafe`: recvmmsg and sendmmsg have no safe interface.

mod late;

use super::{
    Core,
    dispatch::{self, Arrival, Decision, Ledger},
};
use crate::{
    answer::{self as answers, Client, Moment, PrefetchHint, QueryLogTrace, Transport},
    clock::seconds,
    listen::workers::Dropped,
    query_log::LARGE_RING,
    snapshot::Snapshot,
    wire::{query::LookupName, reply::MAX_UDP},
};
use late::{Late, Letter, Outbox};
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
/// Queries are far smaller; what is longer is cut off, and malformed.
const QUERY_SIZE: usize = 4096;
/// How often a worker without packets looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a worker goes on emptying its socket after it was told to stop.
const DRAIN: Duration = Duration::from_secs(1);
/// After a batch without a name of a zone, so many are taken to be like it.
const BLIND: u8 = 15;
/// How often an answer is offered to a kernel that has no room for it.
const SEND_TRIES: usize = 3;
const RECEIVE_BUFFER: usize = 4 << 20;

/// Opens a socket for each core on one address. Port 0 is chosen by the first one for all. Where another process has opened
/// sockets there, these it is, however many: others beside them would take packets away from a process that reads them still.
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

/// Sets what can be set of a socket that is bound, too.
fn set_options(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // More than the system allows is no reason to fail.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(Duration::from_millis(100)))?;
    let wildcard = address.ip().is_unspecified();
    if address.is_ipv6() {
        if wildcard {
            set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        }
        // A forged "fragmentation needed" must not make the kernel fragment answers.
        let _ = set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT);
    } else {
        if wildcard {
            set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        }
        let _ = set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT);
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

/// How many packets the kernel threw away because a socket's buffer was full; none where it does not tell.
pub fn overflows(socket: &Socket) -> Option<u32> {
    let mut numbers = [0u32; 9];
    let mut len = mem::size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the buffer lives until the call returns, and its size is given.
    let result = unsafe {
        let numbers = numbers.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, numbers, &raw mut len)
    };
    // The last of them is SK_MEMINFO_DROPS.
    (result == 0 && len as usize == mem::size_of_val(&numbers)).then_some(numbers[8])
}

/// Starts a thread for each socket. They end when `stop` is set, after they have answered what has arrived.
pub fn start(core: &Arc<Core>, sockets: Vec<Socket>, stop: &Arc<AtomicBool>) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::with_capacity(sockets.len());
    for (number, socket) in sockets.into_iter().enumerate() {
        let local = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no IP socket"))?;
        let batch = Batch::new(socket);
        let outbox = Outbox::new(core, &batch.socket, local.port());
        let mut worker = Worker {
            core: core.clone(),
            ledger: core.ledger(
                core.counters.workers.writer(Transport::Udp, Some((local, number, &batch.socket))),
                LARGE_RING,
                local.port(),
            ),
            received: UNIX_EPOCH,
            noted: QueryLogTrace::default(),
            local: local.ip(),
            draw: crate::clock::random_seed().0 as u32,
            batch,
            name: LookupName::root(),
            blind: 0,
            late: Vec::new(),
            outbox,
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

/// A worker that panics must not leave a server behind that answers some clients and not others. (Release builds
/// abort anyway.)
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}

struct Worker {
    core: Arc<Core>,
    ledger: Ledger,
    /// When the batch came.
    received: SystemTime,
    /// How the query that is looked at is answered, where something is logged.
    noted: QueryLogTrace,
    local: IpAddr,
    draw: u32,
    batch: Batch,
    /// Room for the name of the query that is looked at.
    name: LookupName,
    /// So many batches are not looked at before they are answered.
    blind: u8,
    /// Those of a batch that have to wait, and where they are answered then.
    late: Vec<Late>,
    outbox: Arc<Outbox>,
}

impl Worker {
    fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Relaxed) {
            self.turn(libc::MSG_WAITFORONE);
        }
        let end = Instant::now() + DRAIN;
        while self.turn(libc::MSG_DONTWAIT) && Instant::now() < end {}
    }

    /// Receives a batch, answers it and sends the answers. False when nothing was there.
    fn turn(&mut self, flags: libc::c_int) -> bool {
        let received = match self.batch.receive(flags) {
            Ok(received) => received,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return false,
                io::ErrorKind::Interrupted => return true,
                _ => {
                    self.ledger.writer.dropped(Dropped::Receive);
                    std::thread::sleep(Duration::from_millis(1));
                    return true;
                }
            },
        };
        self.received = SystemTime::now();
        let now = seconds(self.received);
        // The snapshot is let go of before the next receive blocks.
        let snapshot = self.core.snapshot.load();
        self.ledger.prepare(&snapshot);
        self.ledger.writer.received(received);
        match self.blind {
            0 if received > 1 => self.fetch_ahead(&snapshot, received),
            _ => self.blind = self.blind.saturating_sub(1),
        }
        for index in 0..received {
            self.draw = self.draw.wrapping_add(1);
            self.answer(&snapshot, Moment { now, draw: self.draw }, index);
        }
        drop(snapshot);
        if !self.late.is_empty() {
            self.outbox.take_up(mem::take(&mut self.late));
        }
        for _ in 0..self.batch.send() {
            self.ledger.writer.dropped(Dropped::Unsent);
        }
        true
    }

    /// Asks for the memory that the answers to a batch need, so that they do not wait for it one after another.
    fn fetch_ahead(&mut self, snapshot: &Snapshot, received: usize) {
        let mut hints: [Option<PrefetchHint>; BATCH] = [None; BATCH];
        for (index, hint) in hints.iter_mut().enumerate().take(received) {
            let Some(Packet { source, port, local, query, .. }) = self.batch.packet(index) else { continue };
            let client = Client { source, port, local: local.unwrap_or(self.local), transport: Transport::Udp };
            *hint = answers::find_prefetch_hint(snapshot, &client, query, &mut self.name);
            if let Some(hint) = hint {
                prefetch(hint.first_address());
            }
        }
        for address in hints.iter().flatten().filter_map(PrefetchHint::second_address) {
            prefetch(address);
            prefetch(address.wrapping_add(CACHE_LINE));
        }
        if hints.iter().all(Option::is_none) {
            self.blind = BLIND;
        }
    }

    fn answer(&mut self, snapshot: &Snapshot, moment: Moment, index: usize) {
        let Some(Packet { source, port, local, query, reply }) = self.batch.packet(index) else { return };
        let local = local.unwrap_or(self.local);
        let client = Client { source, port, local, transport: Transport::Udp };
        let decision = match self.ledger.is_logged() {
            false => dispatch::decide(&self.core, snapshot, &client, moment, query, reply, &mut ()),
            true => {
                self.noted.clear();
                dispatch::decide(&self.core, snapshot, &client, moment, query, reply, &mut self.noted)
            }
        };
        let answered = match decision {
            Decision::Finish(answered) => answered,
            Decision::Defer(deferred) => {
                let (query, received) = (query.into(), self.received);
                let path = self.batch.path(index);
                return self.late.push(Late { client, query, received, path, deferred });
            }
        };
        let arrival = Arrival { client: &client, packet: query, received: self.received };
        let reply = answered.map(|answered| (answered, &mut reply[..]));
        if let Some(len) = self.ledger.finish(&self.core, snapshot, &arrival, &self.noted, reply) {
            self.batch.reply(index, len);
        }
    }
}

/// What a processor fetches at once, in octets.
const CACHE_LINE: usize = 64;

/// Asks for the memory at an address, which need not be one.
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

/// The buffers of a batch, made once. `received` points into `queries`, `names` and `controls`, and `replies_out` into
/// `replies`, `names` and `controls`: a reply goes to where the query came from, from the address that it was sent to.
struct Batch {
    socket: Arc<Socket>,
    queries: Vec<[u8; QUERY_SIZE]>,
    replies: Vec<[u8; MAX_UDP]>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    /// They are reached through the headers only.
    _query_vectors: Vec<libc::iovec>,
    reply_vectors: Vec<libc::iovec>,
    received: Vec<libc::mmsghdr>,
    replies_out: Vec<libc::mmsghdr>,
    /// How many packets the last receive delivered, and how many replies there are to them.
    received_len: usize,
    replies_len: usize,
}

// SAFETY: the pointers in the headers lead only to the vectors of the same value, whose memory is on the heap, is
// never reallocated, and so stays where it is when the value moves to another thread.
unsafe impl Send for Batch {}

/// A received packet, and room for its reply.
struct Packet<'a> {
    source: IpAddr,
    port: u16,
    /// The address that it was sent to, where the socket does not tell.
    local: Option<IpAddr>,
    query: &'a [u8],
    reply: &'a mut [u8],
}

impl Batch {
    fn new(socket: Socket) -> Batch {
        // SAFETY: all of these are C structures of integers and pointers, for which zero is a valid value.
        let (name, header, vector) = unsafe {
            let name = MaybeUninit::<libc::sockaddr_storage>::zeroed().assume_init();
            let header = MaybeUninit::<libc::mmsghdr>::zeroed().assume_init();
            (name, header, libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 })
        };
        let mut queries = vec![[0; QUERY_SIZE]; BATCH];
        let mut replies = vec![[0; MAX_UDP]; BATCH];
        let mut names = vec![name; BATCH];
        let mut controls = vec![Control([0; 64]); BATCH];
        let mut query_vectors = vec![vector; BATCH];
        let mut reply_vectors = vec![vector; BATCH];
        let mut received = vec![header; BATCH];
        for index in 0..BATCH {
            query_vectors[index].iov_base = queries[index].as_mut_ptr().cast();
            query_vectors[index].iov_len = QUERY_SIZE;
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

    /// Waits for packets. Returns how many there are; fails when there are none in time.
    fn receive(&mut self, flags: libc::c_int) -> io::Result<usize> {
        // The kernel wrote over the lengths of those that it used.
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

    /// A received packet.
    fn packet(&mut self, index: usize) -> Option<Packet<'_>> {
        let (source, port) = source(&self.names[index])?;
        let local = local(&self.received[index].msg_hdr);
        let len = (self.received[index].msg_len as usize).min(QUERY_SIZE);
        Some(Packet { source, port, local, query: &self.queries[index][..len], reply: &mut self.replies[index] })
    }

    /// The way back for a reply to packet `index` that takes its time.
    #[allow(clippy::unnecessary_cast, reason = "the length's type is another one with musl")]
    fn path(&self, index: usize) -> ReturnPath {
        let header = &self.received[index].msg_hdr;
        ReturnPath {
            name: self.names[index],
            name_len: header.msg_namelen,
            control: self.controls[index],
            control_len: (header.msg_controllen as usize).min(mem::size_of::<Control>()),
        }
    }

    /// Puts the reply to packet `index` among those to send. Each packet has at most one.
    fn reply(&mut self, index: usize, len: usize) {
        let (Some(out), vector) = (self.replies_out.get_mut(self.replies_len), &mut self.reply_vectors[index]) else {
            return;
        };
        vector.iov_len = len.min(MAX_UDP);
        out.msg_hdr = self.received[index].msg_hdr;
        out.msg_hdr.msg_iov = vector;
        out.msg_hdr.msg_flags = 0;
        if out.msg_hdr.msg_controllen == 0 {
            out.msg_hdr.msg_control = ptr::null_mut();
        }
        self.replies_len += 1;
    }

    /// Sends all replies. Returns how many the kernel did not take.
    fn send(&mut self) -> usize {
        // SAFETY: each header points to buffers of this value, with their sizes: the reply's octets, and the name and
        // ancillary data that the kernel filled in for its query.
        unsafe { send_all(&self.socket, &mut self.replies_out[..self.replies_len], 0) }
    }
}

/// Sends messages. Returns how many the kernel did not take: one bad destination does not stop the others.
///
/// SAFETY: the headers' pointers have to lead to values that live until this returns, with their sizes.
unsafe fn send_all(socket: &Socket, messages: &mut [libc::mmsghdr], flags: libc::c_int) -> usize {
    let (mut sent, mut unsent, mut tries) = (0, 0, 0);
    while sent < messages.len() {
        let rest = &mut messages[sent..];
        // SAFETY: as the caller promises.
        let result =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, flags as _) };
        if let Ok(count @ 1..) = usize::try_from(result) {
            sent += count;
            tries = 0;
            continue;
        }
        // An error is that of the first one in the rest.
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) if tries < SEND_TRIES && flags == 0 => {
                tries += 1;
                std::thread::sleep(Duration::from_micros(100));
            }
            _ => {
                sent += 1;
                unsent += 1;
                tries = 0;
            }
        }
    }
    unsent
}

/// The way back to a client: a reply goes to where the query came from, from the address that it was sent to.
pub struct ReturnPath {
    name: libc::sockaddr_storage,
    name_len: libc::socklen_t,
    control: Control,
    control_len: usize,
}

/// Sends answers that took their time, as far as the kernel has room for them now. Returns how many it did not take.
fn send_letters(socket: &Socket, letters: &mut [Letter]) -> usize {
    let mut unsent = 0;
    for letters in letters.chunks_mut(BATCH) {
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: a C structure of integers and pointers, for which zero is a valid value.
        let header = unsafe { MaybeUninit::<libc::mmsghdr>::zeroed().assume_init() };
        let (mut vectors, mut headers) = ([vector; BATCH], [header; BATCH]);
        for ((Letter { path, reply, .. }, vector), header) in letters.iter_mut().zip(&mut vectors).zip(&mut headers) {
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
        // SAFETY: all pointers lead to the letters and the arrays above, with their sizes.
        unsent += unsafe { send_all(socket, &mut headers[..letters.len()], libc::MSG_DONTWAIT) };
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
            // SAFETY: likewise, a sockaddr_in6.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let address = IpAddr::V6(Ipv6Addr::from(name.sin6_addr.s6_addr)).to_canonical();
            Some((address, u16::from_be(name.sin6_port)))
        }
        _ => None,
    }
}

/// The address that a packet was sent to, if its ancillary data says so. The data is made ready for the reply: it
/// names the address that the reply comes from, and an interface only where the address is valid on that alone.
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
