//! The addresses that queries are taken on, and their sockets and threads.

use crate::{
    answer::Transport,
    config::Config,
    listen::{
        Core,
        quic::{self, Quic},
        responder::Responder,
        stream::{self, Streams},
        tls, udp,
    },
    manifest::Protocol,
};
use anyhow::Context;
use rustls::server::ResolvesServerCert;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};
use tokio::{net::TcpListener, runtime::Handle, sync::watch};
use tokio_rustls::TlsAcceptor;

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

/// What takes the queries on an address by one protocol.
#[derive(Default)]
struct Listener {
    /// Stops the threads.
    udp_stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Stops the tasks that accept connections.
    accept_stop: watch::Sender<bool>,
    quic: Option<Arc<Quic>>,
}

impl Listener {
    fn stop(&self) {
        self.udp_stop.store(true, Relaxed);
        self.accept_stop.send_replace(true);
    }
}

/// All listeners of the server.
pub struct Listeners {
    core: Arc<Core>,
    runtime: Handle,
    open: BTreeMap<(SocketAddr, Protocol), Listener>,
}

impl Listeners {
    /// None yet. Connections are served by `runtime`.
    pub fn new(core: Arc<Core>, runtime: Handle) -> Listeners {
        Listeners { core, runtime, open: BTreeMap::new() }
    }

    /// Takes queries on one more address by Do53: over UDP and TCP. Returns the address, with the port that was chosen for 0.
    pub fn open(&mut self, address: SocketAddr) -> Result<SocketAddr, BindError> {
        let failed = |transport| move |error| BindError { transport, address, error };
        // TCP is the first, because its port cannot be shared: another server on this address is found out.
        let tcp = stream::bind(address).map_err(failed("TCP"))?;
        let address = tcp.local_addr().map_err(failed("TCP"))?;
        let udp = udp::bind(address).map_err(failed("UDP"))?;
        let _runtime = self.runtime.enter();
        let tcp = TcpListener::from_std(tcp).map_err(failed("TCP"))?;
        let mut listener = Listener::default();
        listener.threads = udp::start(&self.core, udp, &listener.udp_stop).map_err(failed("UDP"))?;
        let streams = Streams::plain(Responder::new(&self.core, Transport::Tcp));
        self.runtime.spawn(streams.accept(tcp, listener.accept_stop.subscribe()));
        self.open.insert((address, Protocol::Do53), listener);
        Ok(address)
    }

    /// Takes queries on one more address by an encrypted protocol: over TCP or QUIC, or over both for DoH. Returns the
    /// address, with the port that was chosen for 0.
    pub fn open_encrypted(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        certificate: Arc<dyn ResolvesServerCert>,
    ) -> anyhow::Result<SocketAddr> {
        let failed = |transport| move |error| BindError { transport, address, error };
        let _runtime = self.runtime.enter();
        let config = |transport| tls::config(transport, certificate.clone()).context("TLS cannot be set up");
        let (over_tcp, over_quic) = match protocol {
            Protocol::DoH => (Some(Transport::Https), Some(Transport::H3)),
            Protocol::DoQ => (None, Some(Transport::Quic)),
            Protocol::DoT | Protocol::Do53 => (Some(Transport::Tls), None),
        };
        let mut listener = Listener::default();
        let mut address = address;
        let tcp = over_tcp.map(|transport| stream::bind(address).map(|socket| (socket, transport)));
        let tcp = tcp.transpose().map_err(failed("TCP"))?;
        if let Some((tcp, _)) = &tcp {
            address = tcp.local_addr().map_err(failed("TCP"))?;
        }
        if let Some(transport) = over_quic {
            let socket = quic::bind(address).map_err(failed("UDP"))?;
            address = socket.local_addr().map_err(failed("UDP"))?;
            let quic = Quic::new(Responder::new(&self.core, transport), socket, config(transport)?)?;
            self.runtime.spawn(quic.clone().accept(listener.accept_stop.subscribe()));
            listener.quic = Some(quic);
        }
        if let Some((tcp, transport)) = tcp {
            let tcp = TcpListener::from_std(tcp).map_err(failed("TCP"))?;
            let acceptor = TlsAcceptor::from(Arc::new(config(transport)?));
            let h3_port = (transport == Transport::Https).then_some(address.port());
            let streams = Streams::encrypted(Responder::new(&self.core, transport), acceptor, h3_port);
            self.runtime.spawn(streams.accept(tcp, listener.accept_stop.subscribe()));
        }
        self.open.insert((address, protocol), listener);
        Ok(address)
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

    /// Takes queries by Do53 on exactly these addresses from now on. Returns those that cannot be bound.
    pub fn set(&mut self, addresses: &BTreeSet<SocketAddr>) -> Vec<BindError> {
        let open = self.addresses();
        for gone in open.iter().filter(|open| !addresses.contains(open)) {
            if let Some(listener) = self.open.remove(&(*gone, Protocol::Do53)) {
                listener.stop();
            }
        }
        let new: Vec<SocketAddr> = addresses.iter().filter(|new| !open.contains(new)).copied().collect();
        new.into_iter().filter_map(|address| self.open(address).err()).collect()
    }

    /// Stops reading, and waits until what was read is answered.
    pub async fn stop(self) {
        self.open.values().for_each(Listener::stop);
        self.core.connections.stop().await;
        for quic in self.open.values().filter_map(|listener| listener.quic.as_ref()) {
            quic.closed().await;
        }
        let threads: Vec<JoinHandle<()>> = self.open.into_values().flat_map(|listener| listener.threads).collect();
        let join = move || threads.into_iter().for_each(|thread| drop(thread.join()));
        let _ = tokio::task::spawn_blocking(join).await;
        self.core.forwarding.drain().await;
    }
}

/// The addresses that queries are taken on whatever the manifest says.
pub fn own_addresses(config: &Config) -> Vec<SocketAddr> {
    match &config.listen {
        Some(listen) => listen.iter().map(|listen| listen.address).collect(),
        None => default_addresses(&[]).into_iter().collect(),
    }
}

/// The addresses without configuration: 127.0.0.1, and the doors on the loopback device.
pub fn default_addresses(doors: &[IpAddr]) -> BTreeSet<SocketAddr> {
    let loopback = doors.iter().copied().filter(|door| door.is_loopback());
    loopback.chain([[127, 0, 0, 1].into()]).map(|address| SocketAddr::new(address, DEFAULT_PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::tests;

    #[tokio::test(flavor = "multi_thread")]
    async fn addresses_come_and_go() {
        let mut listeners = Listeners::new(tests::core(&tests::limits()), Handle::current());
        let first = listeners.open("127.77.0.3:0".parse().unwrap()).unwrap();
        let second = SocketAddr::new("127.77.0.4".parse().unwrap(), first.port());
        assert!(listeners.set(&[first, second].into()).is_empty());
        assert_eq!(listeners.addresses(), [first, second]);
        assert!(listeners.set(&[first].into()).is_empty());
        assert_eq!(listeners.addresses(), [first]);
        listeners.stop().await;
    }

    #[tokio::test]
    async fn errors_say_what_to_do() {
        let mut listeners = Listeners::new(tests::core(&tests::limits()), Handle::current());
        // An address of this test's own: on it nobody else takes a port meanwhile.
        let tcp = stream::bind("127.77.0.1:0".parse().unwrap()).unwrap();
        let taken = tcp.local_addr().unwrap();
        let error = listeners.open(taken).unwrap_err();
        assert!(error.to_string().contains(&format!("`ss -lntp 'sport = :{}'`", taken.port())), "{error}");
        let udp = std::net::UdpSocket::bind("127.77.0.2:0").unwrap();
        let taken = udp.local_addr().unwrap();
        let error = listeners.open(taken).unwrap_err();
        assert!(error.to_string().contains(&format!("`ss -lnup 'sport = :{}'`", taken.port())), "{error}");
        let error = listeners.open("192.0.2.1:5300".parse().unwrap()).unwrap_err();
        assert!(error.is_foreign() && error.to_string().contains("`ip address`"), "{error}");
    }

    #[test]
    fn loopback_doors_are_listened_on() {
        let doors = ["127.2.0.53", "10.1.0.2", "::1", "127.0.0.1"].map(|door| door.parse().unwrap());
        let addresses: Vec<String> = default_addresses(&doors).iter().map(SocketAddr::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1:5300", "127.2.0.53:5300", "[::1]:5300"]);
    }
}
