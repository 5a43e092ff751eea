//! The addresses that queries are taken on, and their sockets and threads.

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

/// How long the end may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// How long connections may take to end while packets are answered to the last.
const LAST_CONNECTIONS: Duration = Duration::from_millis(1500);
/// How long connections may go on when another process has taken over.
const LEFT_CONNECTIONS: Duration = Duration::from_secs(30);

/// The port of addresses that nobody has configured.
pub const DEFAULT_PORT: u16 = 5300;

/// Why an address cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    transport: &'static str,
    address: SocketAddr,
    error: io::Error,
}

impl BindError {
    /// Whether the address is none of this machine's.
    pub fn is_foreign(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrNotAvailable
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { transport, address, error } = self;
        let port = address.port();
        write!(f, "cannot listen on {address} ({transport}): ")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                let option = if *transport == "UDP" { 'u' } else { 't' };
                write!(f, "another program has it; `ss -ln{option}p 'sport = :{port}'` shows which")
            }
            io::ErrorKind::PermissionDenied => write!(
                f,
                "ports below 1024 need a capability: `setcap cap_net_bind_service=+ep` on the program, \
                 AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a higher port"
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "this machine does not have the address; `ip address` shows those that it has")
            }
            _ => error.fmt(f),
        }
    }
}

impl std::error::Error for BindError {}

/// Sockets on an address that nothing is read from yet.
pub struct Bound {
    address: SocketAddr,
    protocol: Protocol,
    certificate: Option<Arc<dyn ResolvesServerCert>>,
    tcp: Option<std::net::TcpListener>,
    /// For Do53 one for each thread, for others one at most.
    udp: Vec<Socket>,
}

impl Bound {
    /// Opens the sockets that a protocol has on an address, or takes those that were inherited. Port 0 is chosen by the
    /// first one for all.
    pub fn new(
        address: SocketAddr,
        protocol: Protocol,
        certificate: Option<Arc<dyn ResolvesServerCert>>,
        inherited: &mut Inherited,
    ) -> Result<Bound, BindError> {
        let failed = |transport, address| move |error| BindError { transport, address, error };
        let mut bound = Bound { address, protocol, certificate, tcp: None, udp: Vec::new() };
        // TCP is the first, because its port cannot be shared: another server on this address is found out.
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
            // The packets of the same address are DoQ's.
            Protocol::DoT => Ok(Vec::new()),
        }
        .map_err(failed("UDP", address))?;
        if let Some(udp) = bound.udp.first() {
            let local = udp.local_addr().map_err(failed("UDP", address))?;
            bound.address = local.as_socket().unwrap_or(address);
        }
        Ok(bound)
    }

    /// All of its sockets.
    fn sockets(&self) -> io::Result<Vec<(Type, Socket)>> {
        let tcp = self.tcp.iter().map(|tcp| Ok((Type::STREAM, Socket::from(tcp.try_clone()?))));
        tcp.chain(self.udp.iter().map(|udp| Ok((Type::DGRAM, udp.try_clone()?)))).collect()
    }
}

/// What takes the queries on an address by one protocol.
struct Listener {
    /// Its sockets, for whoever takes over.
    sockets: Vec<(Type, Socket)>,
    /// Stops the threads.
    udp_stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// The tasks that accept connections, and what stops them.
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
    /// Whether no other process reads packets of QUIC any more.
    quic_is_free: watch::Receiver<bool>,
    open: BTreeMap<(SocketAddr, Protocol), Listener>,
}

impl Listeners {
    /// None yet. Connections are served by `runtime`, those by QUIC from when they are free to be.
    pub fn new(core: Arc<Core>, runtime: Handle, quic_is_free: watch::Receiver<bool>) -> Listeners {
        Listeners { core, runtime, quic_is_free, open: BTreeMap::new() }
    }

    /// Takes queries on one more address. Returns it.
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

    /// Two processes that read packets of QUIC would have those of one another's connections, so that the second one waits.
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
        let place = listener.quic.clone();
        let start = move || {
            let quic = Quic::new(responder, socket.into(), tls)?;
            // It is the first and only one.
            let _ = place.set(quic.clone());
            anyhow::Ok(quic.accept(stop))
        };
        if *is_free.borrow() {
            return Ok(self.runtime.spawn(start()?));
        }
        Ok(self.runtime.spawn(async move {
            tokio::select! {
                // A process that is gone reads nothing either.
                _ = is_free.wait_for(|is_free| *is_free) => {}
                _ = is_stopped.wait_for(|is_stopped| *is_stopped) => return,
            }
            match start() {
                Ok(accept) => accept.await,
                Err(error) => tracing::error!(error = format!("{error:#}"), "QUIC listener not started"),
            }
        }))
    }

    /// The addresses that queries by Do53 are taken on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let do53 = self.open.keys().filter(|(_, protocol)| *protocol == Protocol::Do53);
        do53.map(|(address, _)| *address).collect()
    }

    /// All addresses, for people.
    pub fn names(&self) -> Vec<String> {
        let name = |(address, protocol): &(SocketAddr, Protocol)| match protocol {
            Protocol::Do53 => address.to_string(),
            protocol => format!("{address} ({protocol})"),
        };
        self.open.keys().map(name).collect()
    }

    /// All sockets, for a process that takes over.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let sockets = self.open.values().flat_map(|listener| &listener.sockets);
        sockets.map(|(_, socket)| Ok(socket.try_clone()?.into())).collect()
    }

    /// Takes queries by Do53 on exactly these addresses from now on. Returns why some cannot be.
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

    /// Stops, and waits until what was read is answered. With a process to come which has the sockets, clients that stay
    /// connected are given time to end it themselves, and packets are answered to the last: those that come later wait.
    pub async fn stop(mut self, has_successor: bool) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut end_of_connections = deadline;
        if !has_successor {
            self.open.values().for_each(Listener::stop);
        }
        self.accept_no_more().await;
        let connections = &self.core.connections;
        if has_successor {
            let _ = timeout(LAST_CONNECTIONS, connections.leave()).await;
            end_of_connections = deadline.min(Instant::now() + LAST_CONNECTIONS);
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

    /// Leaves the sockets to another process, which reads them already, and waits until the connections that are here have
    /// ended. `quic_is_free` is called when no packet of QUIC is read any more: neither here, nor by the process before this one.
    pub async fn leave(mut self, quic_is_free: impl FnOnce()) {
        self.open.values().for_each(Listener::stop);
        self.accept_no_more().await;
        let connections = &self.core.connections;
        let streams = async {
            if timeout(LEFT_CONNECTIONS, connections.leave()).await.is_err() {
                let _ = timeout(LAST_CONNECTIONS, connections.stop()).await;
            }
        };
        let endpoints = self.open.values_mut().filter_map(|listener| std::mem::take(&mut listener.quic).get().cloned());
        let endpoints: Vec<Arc<Quic>> = endpoints.collect();
        let mut is_free = self.quic_is_free.clone();
        let quic = async {
            let mut leaving: JoinSet<()> =
                endpoints.into_iter().map(|endpoint| async move { endpoint.leave().await }).collect();
            while leaving.join_next().await.is_some() {}
            // A process that is gone reads nothing either.
            let _ = is_free.wait_for(|is_free| *is_free).await;
            quic_is_free();
        };
        tokio::join!(streams, quic);
        self.end(Instant::now() + STOP_TIMEOUT).await;
    }

    /// Waits until all connections that are accepted are counted, and no others are.
    async fn accept_no_more(&mut self) {
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

/// The addresses that queries are taken on whatever the manifest says.
pub fn own_addresses(config: &Config) -> Vec<SocketAddr> {
    match &config.listen {
        Some(listen) => listen.iter().map(|listen| listen.address).collect(),
        None => default_addresses(&[]).into_iter().collect(),
    }
}

/// The addresses without configuration: 127.0.0.1, and the entry points on the loopback device.
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
    async fn addresses_come_and_go() {
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
    fn dot_leaves_the_packets_of_its_address_to_doq() {
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

    /// A process that is taken over from before its own turn has come does not know it any better.
    #[tokio::test(flavor = "multi_thread")]
    async fn quic_is_free_when_it_is_so_here_and_in_the_process_before() {
        let (free, is_free) = watch::channel(false);
        let listeners = Listeners::new(tests::core(&tests::limits()), Handle::current(), is_free);
        let (said, mut is_said) = watch::channel(false);
        let leaving = tokio::spawn(listeners.leave(move || {
            said.send_replace(true);
        }));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!*is_said.borrow());
        free.send_replace(true);
        leaving.await.unwrap();
        assert!(*is_said.borrow_and_update());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn quic_is_free_when_nothing_is_read_any_more() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["zonal.test".to_string()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let provider = rustls::crypto::ring::default_provider();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let certified = rustls::sign::CertifiedKey::from_der(vec![certificate.clone()], private, &provider).unwrap();
        let certified: Arc<dyn ResolvesServerCert> = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        let patience = Duration::from_secs(3600);
        let core = tests::core(&crate::listen::Limits { tcp_idle_timeout: patience, ..tests::limits() });
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
        // A query that never comes whole has the connection open for as long as it may be.
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
        // What the client has sent last may be there, too.
        let packets = std::iter::from_fn(|| {
            let mut packet = [0; 2048];
            udp.recv(&mut packet).ok().map(|len| packet[..len].to_vec())
        });
        assert!(packets.into_iter().any(|packet| packet == b"for another process"), "somebody else reads it");
    }

    #[test]
    fn errors_say_what_to_do() {
        // An address of this test's own: on it nobody else takes a port meanwhile.
        let tcp = stream::bind("127.77.0.1:0".parse().unwrap(), None).unwrap();
        let taken = tcp.local_addr().unwrap();
        let error = bound(&taken.to_string()).err().unwrap();
        assert!(error.to_string().contains(&format!("`ss -lntp 'sport = :{}'`", taken.port())), "{error}");
        let udp = std::net::UdpSocket::bind("127.77.0.2:0").unwrap();
        let taken = udp.local_addr().unwrap();
        let error = bound(&taken.to_string()).err().unwrap();
        assert!(error.to_string().contains(&format!("`ss -lnup 'sport = :{}'`", taken.port())), "{error}");
        let error = bound("192.0.2.1:5300").err().unwrap();
        assert!(error.is_foreign() && error.to_string().contains("`ip address`"), "{error}");
    }

    #[test]
    fn loopback_entry_points_are_listened_on() {
        let entry_points =
            ["127.2.0.53", "10.1.0.2", "::1", "127.0.0.1"].map(|entry_point| entry_point.parse().unwrap());
        let addresses: Vec<String> = default_addresses(&entry_points).iter().map(SocketAddr::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1:5300", "127.2.0.53:5300", "[::1]:5300"]);
    }
}
