//! Listeners: an address and a protocol, with its sockets, threads and tasks. The transports themselves are in `listen`.

use super::{inherited::Inherited, supervisor};
use crate::{
    answer::Transport,
    config::Config,
    listen::{
        Core,
        quic::{self, LINGER, Quic},
        responder::Responder,
        stream::{self, Streams},
        tls, udp,
    },
    manifest::Protocol,
};
use anyhow::Context;
use rustls::server::ResolvesServerCert;
use socket2::{Socket, Type};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::watch,
    task::{JoinHandle as Task, JoinSet},
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;

/// The maximum time from the start of the end to the end of the process.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// The maximum time for clients to close their connections at the end. Packets are still answered meanwhile.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);
/// The maximum time that connections stay open after a new process has taken over.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// The port of the listeners, when `zonal.yaml` configures none.
pub const DEFAULT_PORT: u16 = 5300;

/// A listener cannot be opened.
#[derive(Debug)]
pub struct BindError {
    transport: &'static str,
    address: SocketAddr,
    error: io::Error,
}

impl BindError {
    /// Whether this machine does not have the address.
    pub fn is_address_missing(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrNotAvailable
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { transport, address, error } = self;
        let port = address.port();
        write!(f, "listen {address} ({transport}): ")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                let option = if *transport == "UDP" { 'u' } else { 't' };
                write!(f, "another program has the address; `ss -ln{option}p 'sport = :{port}'` shows which")
            }
            io::ErrorKind::PermissionDenied => write!(
                f,
                "permission denied; grant CAP_NET_BIND_SERVICE (`setcap cap_net_bind_service=+ep` on the program, or \
                 AmbientCapabilities= in the unit), or choose a port above 1023"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "this machine does not have the address; `ip address` shows its addresses")
            }
            _ => error.fmt(f),
        }
    }
}

impl std::error::Error for BindError {}

/// The sockets of a listener that does not read from them yet.
pub struct Bound {
    address: SocketAddr,
    protocol: Protocol,
    certificate: Option<Arc<dyn ResolvesServerCert>>,
    tcp: Option<std::net::TcpListener>,
    /// One for each thread for Do53; one at most for other protocols.
    udp: Vec<Socket>,
}

impl Bound {
    /// The address, without the port.
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// Opens the sockets of a protocol on an address, or takes inherited ones. The first socket chooses the port of all, if
    /// the port is 0.
    pub fn new(
        address: SocketAddr,
        protocol: Protocol,
        certificate: Option<Arc<dyn ResolvesServerCert>>,
        inherited: &mut Inherited,
    ) -> Result<Bound, BindError> {
        let failed = |transport, address| move |error| BindError { transport, address, error };
        let mut bound = Bound { address, protocol, certificate, tcp: None, udp: Vec::new() };
        // TCP comes first, because its port cannot be shared: an error shows another server on this address.
        if protocol != Protocol::DoQ {
            let inherited = inherited.take(Type::STREAM, address).pop();
            let tcp = stream::bind(address, inherited).map_err(failed("TCP", address))?;
            bound.address = tcp.local_addr().map_err(failed("TCP", address))?;
            bound.tcp = Some(tcp);
        }
        let address = bound.address;
        bound.udp = match protocol {
            Protocol::Do53 => udp::bind(address, inherited.take(Type::DGRAM, address)),
            Protocol::DoH | Protocol::DoQ => {
                let inherited = inherited.take(Type::DGRAM, address).pop();
                quic::bind(address, inherited).map(|socket| vec![socket.into()])
            }
            // DoQ has the UDP sockets of the same address.
            Protocol::DoT => Ok(Vec::new()),
        }
        .map_err(failed("UDP", address))?;
        if let Some(udp) = bound.udp.first() {
            let local = udp.local_addr().map_err(failed("UDP", address))?;
            bound.address = local.as_socket().unwrap_or(address);
        }
        Ok(bound)
    }

    /// Copies of all sockets.
    fn sockets(&self) -> io::Result<Vec<(Type, Socket)>> {
        let tcp = self.tcp.iter().map(|tcp| Ok((Type::STREAM, Socket::from(tcp.try_clone()?))));
        tcp.chain(self.udp.iter().map(|udp| Ok((Type::DGRAM, udp.try_clone()?)))).collect()
    }
}

/// The reader of queries on one address, by one protocol.
struct Listener {
    /// Copies of its sockets, for a new process.
    sockets: Vec<(Type, Socket)>,
    /// The signal that stops the threads.
    udp_stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// The tasks that accept connections. `accept_stop` stops them.
    accepting: Vec<Task<()>>,
    accept_stop: watch::Sender<bool>,
    quic: Arc<OnceLock<Arc<Quic>>>,
}

impl Listener {
    fn new(bound: &Bound) -> io::Result<Listener> {
        let (udp_stop, threads, accepting, accept_stop, quic) = Default::default();
        Ok(Listener { sockets: bound.sockets()?, udp_stop, threads, accepting, accept_stop, quic })
    }

    fn stop(&self) {
        self.udp_stop.store(true, Relaxed);
        self.accept_stop.send_replace(true);
    }
}

/// All listeners of the server.
pub struct Listeners {
    core: Arc<Core>,
    runtime: Handle,
    /// True when no other process reads QUIC packets any more.
    quic_is_free: watch::Receiver<bool>,
    open: BTreeMap<(SocketAddr, Protocol), Listener>,
}

impl Listeners {
    /// An empty set. `runtime` serves connections. QUIC starts when `quic_is_free` is true.
    pub fn new(core: Arc<Core>, runtime: Handle, quic_is_free: watch::Receiver<bool>) -> Listeners {
        Listeners { core, runtime, quic_is_free, open: BTreeMap::new() }
    }

    /// Starts a listener. Returns its address.
    pub fn start(&mut self, bound: Bound) -> anyhow::Result<SocketAddr> {
        let _runtime = self.runtime.enter();
        let mut listener = Listener::new(&bound)?;
        for (kind, socket) in &listener.sockets {
            supervisor::keep(*kind, bound.address, socket);
        }
        let Bound { address, protocol, certificate, tcp, udp } = bound;
        let tls = |transport| {
            let certificate = certificate.clone().context("there is no certificate")?;
            tls::config(transport, certificate).context("TLS cannot be set up")
        };
        match protocol {
            Protocol::Do53 => listener.threads = udp::start(&self.core, udp, &listener.udp_stop)?,
            Protocol::DoH | Protocol::DoQ => {
                let transport = if protocol == Protocol::DoH { Transport::H3 } else { Transport::Quic };
                for socket in udp {
                    let task = self.start_quic(&listener, transport, socket, tls(transport)?)?;
                    listener.accepting.push(task);
                }
            }
            Protocol::DoT => {}
        }
        if let Some(tcp) = tcp {
            let transport = match protocol {
                Protocol::Do53 => Transport::Tcp,
                Protocol::DoH => Transport::Https,
                Protocol::DoT | Protocol::DoQ => Transport::Tls,
            };
            let responder = Responder::new(&self.core, transport, address.port());
            let streams = match transport {
                Transport::Tcp => Streams::plain(responder),
                _ => {
                    let h3_port = (transport == Transport::Https).then_some(address.port());
                    Streams::encrypted(responder, TlsAcceptor::from(Arc::new(tls(transport)?)), h3_port)
                }
            };
            let accept = streams.accept(TcpListener::from_std(tcp)?, listener.accept_stop.subscribe());
            listener.accepting.push(self.runtime.spawn(accept));
        }
        self.open.insert((address, protocol), listener);
        Ok(address)
    }

    /// Starts to read QUIC packets, when no other process does: each process would get packets of the other one's connections.
    fn start_quic(
        &self,
        listener: &Listener,
        transport: Transport,
        socket: Socket,
        tls: rustls::ServerConfig,
    ) -> anyhow::Result<Task<()>> {
        let port = socket.local_addr()?.as_socket().map_or(0, |local| local.port());
        let (responder, stop) = (Responder::new(&self.core, transport, port), listener.accept_stop.subscribe());
        let (mut is_free, mut is_stopped) = (self.quic_is_free.clone(), stop.clone());
        let quic_cell = listener.quic.clone();
        let start = move || {
            let quic = Quic::new(responder, socket.into(), tls)?;
            // This is the only call, so that the cell is empty.
            let _ = quic_cell.set(quic.clone());
            anyhow::Ok(quic.accept(stop))
        };
        if *is_free.borrow() {
            return Ok(self.runtime.spawn(start()?));
        }
        Ok(self.runtime.spawn(async move {
            tokio::select! {
                // An error means that the other process has ended, and reads nothing any more.
                _ = is_free.wait_for(|is_free| *is_free) => {}
                _ = is_stopped.wait_for(|is_stopped| *is_stopped) => return,
            }
            match start() {
                Ok(accept) => accept.await,
                Err(error) => tracing::error!(error = format!("{error:#}"), "QUIC listener not started"),
            }
        }))
    }

    /// The addresses of Do53 listeners.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let do53 = self.open.keys().filter(|(_, protocol)| *protocol == Protocol::Do53);
        do53.map(|(address, _)| *address).collect()
    }

    /// All addresses, with the protocol where it is not Do53.
    pub fn names(&self) -> Vec<String> {
        let name = |(address, protocol): &(SocketAddr, Protocol)| match protocol {
            Protocol::Do53 => address.to_string(),
            protocol => format!("{address} ({protocol})"),
        };
        self.open.keys().map(name).collect()
    }

    /// Copies of all sockets, for a new process.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let sockets = self.open.values().flat_map(|listener| &listener.sockets);
        sockets.map(|(_, socket)| Ok(socket.try_clone()?.into())).collect()
    }

    /// Opens and closes Do53 listeners until there is one on each of these addresses and no other. Returns the errors.
    pub fn set(&mut self, addresses: &BTreeSet<SocketAddr>) -> Vec<anyhow::Error> {
        let open = self.addresses();
        for gone in open.iter().filter(|open| !addresses.contains(open)) {
            if let Some(listener) = self.open.remove(&(*gone, Protocol::Do53)) {
                listener.stop();
                supervisor::forget(Type::STREAM, *gone);
                supervisor::forget(Type::DGRAM, *gone);
            }
        }
        let new: Vec<SocketAddr> = addresses.iter().filter(|new| !open.contains(new)).copied().collect();
        let open = |address| {
            let bound = Bound::new(address, Protocol::Do53, None, &mut Inherited::default())?;
            self.start(bound).map(|_| ())
        };
        new.into_iter().map(open).filter_map(Result::err).collect()
    }

    /// Stops, and waits until every query that was read is answered. `sockets_stay_open` says that a supervisor keeps the
    /// sockets for the next process. Then packets are answered until the end, as later ones wait in the sockets, and clients
    /// get time to close their connections.
    pub async fn stop(mut self, sockets_stay_open: bool) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut end_of_connections = deadline;
        if !sockets_stay_open {
            self.open.values().for_each(Listener::stop);
        }
        self.stop_accepting().await;
        let connections = &self.core.connections;
        if sockets_stay_open {
            let _ = timeout(CLOSE_TIMEOUT, connections.drain()).await;
            end_of_connections = deadline.min(Instant::now() + CLOSE_TIMEOUT);
        }
        let ended = async {
            connections.stop().await;
            for quic in self.open.values().filter_map(|listener| listener.quic.get()) {
                let _ = timeout(LINGER, quic.closed()).await;
            }
        };
        if timeout_at(end_of_connections, ended).await.is_err() {
            tracing::warn!("connections closed at the stop time-out");
        }
        self.end(deadline).await;
    }

    /// Leaves the sockets to a new process, which reads them already, and waits until the connections of this process end.
    /// Calls `quic_is_free` when neither this process nor the one before it reads QUIC packets any more.
    pub async fn leave(mut self, quic_is_free: impl FnOnce()) {
        self.open.values().for_each(Listener::stop);
        self.stop_accepting().await;
        let connections = &self.core.connections;
        let streams = async {
            if timeout(HANDOVER_TIMEOUT, connections.drain()).await.is_err() {
                let _ = timeout(CLOSE_TIMEOUT, connections.stop()).await;
            }
        };
        let endpoints = self.open.values_mut().filter_map(|listener| std::mem::take(&mut listener.quic).get().cloned());
        let endpoints: Vec<Arc<Quic>> = endpoints.collect();
        let mut is_free = self.quic_is_free.clone();
        let quic = async {
            let mut leaving: JoinSet<()> =
                endpoints.into_iter().map(|endpoint| async move { endpoint.release().await }).collect();
            while leaving.join_next().await.is_some() {}
            // An error means that the other process has ended, and reads nothing any more.
            let _ = is_free.wait_for(|is_free| *is_free).await;
            quic_is_free();
        };
        tokio::join!(streams, quic);
        self.end(Instant::now() + STOP_TIMEOUT).await;
    }

    /// Waits until the tasks that accept connections have ended: all accepted connections are counted then.
    async fn stop_accepting(&mut self) {
        for listener in self.open.values_mut() {
            listener.accept_stop.send_replace(true);
            for task in listener.accepting.drain(..) {
                let _ = task.await;
            }
        }
    }

    async fn end(self, deadline: Instant) {
        self.open.values().for_each(Listener::stop);
        let threads: Vec<JoinHandle<()>> = self.open.into_values().flat_map(|listener| listener.threads).collect();
        let join = move || threads.into_iter().for_each(|thread| drop(thread.join()));
        let _ = tokio::task::spawn_blocking(join).await;
        let _ = timeout_at(deadline, self.core.forwarding.drain()).await;
    }
}

/// The listen addresses that do not depend on the manifest.
pub fn own_addresses(config: &Config) -> Vec<SocketAddr> {
    match &config.listen {
        Some(listen) => listen.iter().map(|listen| listen.address).collect(),
        None => default_addresses(&[]).into_iter().collect(),
    }
}

/// The listen addresses without configuration: 127.0.0.1, and the entry points on the loopback device.
pub fn default_addresses(entry_points: &[IpAddr]) -> BTreeSet<SocketAddr> {
    let loopback = entry_points.iter().copied().filter(|entry_point| entry_point.is_loopback());
    loopback.chain([[127, 0, 0, 1].into()]).map(|address| SocketAddr::new(address, DEFAULT_PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::tests;

    fn bound(address: &str) -> Result<Bound, BindError> {
        Bound::new(address.parse().unwrap(), Protocol::Do53, None, &mut Inherited::default())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn opens_and_closes_listeners_on_changed_addresses() {
        let quic = watch::channel(true).1;
        let mut listeners = Listeners::new(tests::core(&tests::limits()), Handle::current(), quic);
        let first = listeners.start(bound("127.77.0.3:0").unwrap()).unwrap();
        let second = SocketAddr::new("127.77.0.4".parse().unwrap(), first.port());
        assert!(listeners.set(&[first, second].into()).is_empty());
        assert_eq!(listeners.addresses(), [first, second]);
        assert!(listeners.set(&[first].into()).is_empty());
        assert_eq!(listeners.addresses(), [first]);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(listeners.sockets().unwrap().len(), 1 + cores);
        listeners.stop(false).await;
    }

    #[test]
    fn dot_and_doq_share_an_address() {
        let tcp = stream::bind("127.77.0.5:0".parse().unwrap(), None).unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = quic::bind(address, None).unwrap();
        for protocols in [[Protocol::DoT, Protocol::DoQ], [Protocol::DoQ, Protocol::DoT]] {
            let mut inherited = Inherited::default();
            inherited.add(tcp.try_clone().unwrap().into());
            inherited.add(udp.try_clone().unwrap().into());
            for protocol in protocols {
                Bound::new(address, protocol, None, &mut inherited).unwrap_or_else(|error| panic!("{error}"));
            }
            assert!(inherited.close().is_empty());
        }
    }

    /// A process may be replaced while the process before it still reads QUIC packets.
    #[tokio::test(flavor = "multi_thread")]
    async fn reports_quic_free_after_this_process_and_the_one_before() {
        let (free, is_free) = watch::channel(false);
        let listeners = Listeners::new(tests::core(&tests::limits()), Handle::current(), is_free);
        let (report, mut reported) = watch::channel(false);
        let leaving = tokio::spawn(listeners.leave(move || {
            report.send_replace(true);
        }));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!*reported.borrow());
        free.send_replace(true);
        leaving.await.unwrap();
        assert!(*reported.borrow_and_update());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn reports_quic_free_when_no_packet_is_read_any_more() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["zonal.test".to_string()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let provider = rustls::crypto::ring::default_provider();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let certified = rustls::sign::CertifiedKey::from_der(vec![certificate.clone()], private, &provider).unwrap();
        let certified: Arc<dyn ResolvesServerCert> = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        let idle_timeout = Duration::from_secs(3600);
        let core = tests::core(&crate::listen::Limits { tcp_idle_timeout: idle_timeout, ..tests::limits() });
        let mut listeners = Listeners::new(core, Handle::current(), watch::channel(true).1);
        let address = "127.77.0.6:0".parse().unwrap();
        let bound = Bound::new(address, Protocol::DoQ, Some(certified), &mut Inherited::default()).unwrap();
        let address = listeners.start(bound).unwrap();
        let sockets = listeners.sockets().unwrap();

        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"doq".to_vec()];
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let client = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(tls));
        let connection = client.connect_with(config, address, "zonal.test").unwrap().await.unwrap();
        // A query that never becomes complete keeps the connection open.
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&[0, 99, 0]).await.unwrap();
        // The server has taken it.
        tokio::time::sleep(Duration::from_millis(300)).await;

        let (free, is_free) = tokio::sync::oneshot::channel();
        tokio::spawn(listeners.leave(move || free.send(()).unwrap_or_default()));
        is_free.await.unwrap();
        connection.closed().await;
        let udp = std::net::UdpSocket::from(sockets.into_iter().next().unwrap());
        udp.set_nonblocking(true).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"for another process", address).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        // The last packets of the client may be there, too.
        let packets = std::iter::from_fn(|| {
            let mut packet = [0; 2048];
            udp.recv(&mut packet).ok().map(|len| packet[..len].to_vec())
        });
        assert!(packets.into_iter().any(|packet| packet == b"for another process"), "another socket got the packet");
    }

    #[test]
    fn bind_errors_say_what_to_do() {
        // No other test uses this address, so that its port stays free.
        let tcp = stream::bind("127.77.0.1:0".parse().unwrap(), None).unwrap();
        let taken = tcp.local_addr().unwrap();
        let error = bound(&taken.to_string()).err().unwrap();
        assert!(error.to_string().contains(&format!("`ss -lntp 'sport = :{}'`", taken.port())), "{error}");
        let udp = std::net::UdpSocket::bind("127.77.0.2:0").unwrap();
        let taken = udp.local_addr().unwrap();
        let error = bound(&taken.to_string()).err().unwrap();
        assert!(error.to_string().contains(&format!("`ss -lnup 'sport = :{}'`", taken.port())), "{error}");
        let error = bound("192.0.2.1:5300").err().unwrap();
        assert!(error.is_address_missing() && error.to_string().contains("`ip address`"), "{error}");
    }

    #[test]
    fn listens_on_loopback_entry_points_by_default() {
        let entry_points =
            ["127.2.0.53", "10.1.0.2", "::1", "127.0.0.1"].map(|entry_point| entry_point.parse().unwrap());
        let addresses: Vec<String> = default_addresses(&entry_points).iter().map(SocketAddr::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1:5300", "127.2.0.53:5300", "[::1]:5300"]);
    }
}
