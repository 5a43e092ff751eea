//! Sockets that another process has opened: the one before this, which hands them over, or systemd, which has kept them.
//!
//! A socket lives for as long as any process has it, and with it what is queued there: packets, and connections that nobody
//! has accepted yet. That is what makes a restart lose nothing.

use listenfd::ListenFd;
use socket2::{Socket, Type};
use std::{net::SocketAddr, os::fd::OwnedFd};

/// Sockets, by their kinds and addresses.
#[derive(Default)]
pub struct Inherited(Vec<(Type, SocketAddr, Socket)>);

impl Inherited {
    /// Those that systemd passes to this process (sd_listen_fds(3)). To be called before there are threads, as it takes
    /// variables out of the environment.
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

    /// Adds one. What is no socket of IP is closed.
    pub fn add(&mut self, socket: OwnedFd) {
        let socket = Socket::from(socket);
        if let (Ok(kind), Ok(Some(address))) = (socket.r#type(), socket.local_addr().map(|address| address.as_socket()))
        {
            self.0.push((kind, address, socket));
        }
    }

    /// Takes all of a kind that are bound to an address.
    pub fn take(&mut self, kind: Type, address: SocketAddr) -> Vec<Socket> {
        let taken = self.0.extract_if(.., |(its_kind, its_address, _)| (*its_kind, *its_address) == (kind, address));
        taken.map(|(.., socket)| socket).collect()
    }

    /// Closes those that nobody has taken, and returns their kinds and addresses.
    pub fn close(self) -> Vec<(Type, SocketAddr)> {
        self.0.into_iter().map(|(kind, address, _)| (kind, address)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn sockets_are_found_by_kind_and_address() {
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
