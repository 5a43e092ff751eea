//! The source addresses of queries: those of an outbound endpoint, or the kernel's choice.

use super::pending::{AttemptError, AttemptErrorKind};
use socket2::{Domain, Socket, Type};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The addresses that queries may come from.
pub struct SourceAddresses {
    addresses: Vec<IpAddr>,
    /// The index of the address that was usable the last time.
    usable: AtomicUsize,
}

impl SourceAddresses {
    /// These addresses. Empty: the kernel's choice.
    pub fn new(addresses: Vec<IpAddr>) -> SourceAddresses {
        SourceAddresses { addresses, usable: AtomicUsize::new(0) }
    }

    /// Opens a socket bound to one of the addresses, for a server at `to`. An error is local.
    pub fn bind(&self, to: IpAddr, kind: Type) -> Result<Socket, AttemptError> {
        let local = |error: io::Error| AttemptError::new(AttemptErrorKind::Local, format!("cannot be asked: {error}"));
        let socket =
            Socket::new(Domain::for_address(SocketAddr::new(to, 0)), kind.nonblocking(), None).map_err(local)?;
        if self.addresses.is_empty() {
            // For UDP, `bind` draws a random port. For TCP, the kernel chooses a port at `connect`,
            // from more ports.
            if kind == Type::DGRAM {
                let any: IpAddr =
                    if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                socket.bind(&SocketAddr::new(any, 0).into()).map_err(local)?;
            }
            return Ok(socket);
        }
        let first = self.usable.load(Relaxed);
        for at in 0..self.addresses.len() {
            let at = (first + at) % self.addresses.len();
            let from = self.addresses[at];
            if from.is_ipv4() != to.is_ipv4() {
                continue;
            }
            match socket.bind(&SocketAddr::new(from, 0).into()) {
                Ok(()) => {
                    self.usable.store(at, Relaxed);
                    return Ok(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                Err(error) => return Err(local(error)),
            }
        }
        let text = "is not asked: none of the outbound endpoint's addresses of its family is on this node";
        Err(AttemptError::new(AttemptErrorKind::Local, text))
    }
}
