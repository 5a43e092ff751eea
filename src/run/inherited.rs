//! Inherited sockets: another process opened them. They come from the old process in a takeover, or from systemd.
//!
//! A socket and its queue of packets and connections live as long as any process has a descriptor of it. So a restart loses
//! nothing.

use listenfd::ListenFd;
use socket2::{Socket, Type};
use std::{net::SocketAddr, os::fd::OwnedFd};

/// Inherited sockets that no listener has taken yet, each with its kind and address.
#[derive(Default)]
pub struct Inherited(Vec<(Type, SocketAddr, Socket)>);

impl Inherited {
    /// The sockets that systemd passes to this process (sd_listen_fds(3)). Call this before any thread starts: it removes
    /// variables from the environment.
    pub fn from_environment() -> Inherited {
        let mut given = ListenFd::from_env();
        let mut inherited = Inherited::default();
        for at in 0..given.len() {
            let socket = match given.take_udp_socket(at) {
                Ok(socket) => socket.map(OwnedFd::from),
                Err(_) => given.take_tcp_listener(at).ok().flatten().map(OwnedFd::from),
            };
            match socket {
                Some(socket) => inherited.add(socket),
                None => tracing::warn!(position = at, "inherited file descriptor ignored"),
            }
        }
        inherited
    }

    /// Adds a socket. Closes a descriptor that is not an IP socket.
    pub fn add(&mut self, socket: OwnedFd) {
        let socket = Socket::from(socket);
        if let (Ok(kind), Ok(Some(address))) = (socket.r#type(), socket.local_addr().map(|address| address.as_socket()))
        {
            self.0.push((kind, address, socket));
        }
    }

    /// Takes all sockets of a kind that are bound to an address.
    pub fn take(&mut self, kind: Type, address: SocketAddr) -> Vec<Socket> {
        let taken = self.0.extract_if(.., |(its_kind, its_address, _)| (*its_kind, *its_address) == (kind, address));
        taken.map(|(.., socket)| socket).collect()
    }

    /// Closes the sockets that no listener has taken, and returns their kinds and addresses.
    pub fn close(self) -> Vec<(Type, SocketAddr)> {
        self.0.into_iter().map(|(kind, address, _)| (kind, address)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn finds_sockets_by_kind_and_address() {
        let mut inherited = Inherited::default();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        inherited.add(udp.try_clone().unwrap().into());
        inherited.add(udp.try_clone().unwrap().into());
        inherited.add(tcp.try_clone().unwrap().into());
        inherited.add(std::fs::File::open("/dev/null").unwrap().into());
        inherited.add(std::os::unix::net::UnixDatagram::unbound().unwrap().into());
        assert_eq!(inherited.0.len(), 3);
        assert!(inherited.take(Type::STREAM, address).is_empty());
        assert_eq!(inherited.take(Type::DGRAM, address).len(), 2);
        assert!(inherited.take(Type::DGRAM, address).is_empty());
        assert_eq!(inherited.close(), [(Type::STREAM, tcp.local_addr().unwrap())]);
    }
}
