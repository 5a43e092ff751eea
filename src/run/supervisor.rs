//! What systemd is told, where it has started this process (sd_notify(3)). Elsewhere nobody is there to be told.

use sd_notify::NotifyState::{
    self, Custom, FdName, FdStore, FdStoreRemove, MainPid, Ready, Status, Stopping, Watchdog,
};
use socket2::{Socket, Type};
use std::{
    env, io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// Whether anybody is there who starts this program again and keeps its sockets meanwhile.
pub fn is_there() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

fn tell(states: &[NotifyState], sockets: &[BorrowedFd]) {
    if let Err(error) = told(states, sockets) {
        tracing::warn!(?states, %error, "systemd not notified");
    }
}

fn told(states: &[NotifyState], sockets: &[BorrowedFd]) -> io::Result<()> {
    match sockets {
        [] => sd_notify::notify(states),
        sockets => sd_notify::notify_with_fds(states, sockets),
    }
}

/// The name of the sockets of a kind on an address. There are no colons in such names.
fn name(kind: Type, address: SocketAddr) -> String {
    let kind = if kind == Type::STREAM { "tcp" } else { "udp" };
    format!("{kind}-{address}").replace(':', "-")
}

/// Leaves it a socket, which it passes to the process that it starts after this one. It has each but once, whatever happens to
/// it.
pub fn keep(kind: Type, address: SocketAddr, socket: &Socket) {
    tell(&[FdStore, FdName(&name(kind, address)), Custom("FDPOLL=0")], &[socket.as_fd()]);
}

/// It need not keep the sockets on an address any more.
pub fn forget(kind: Type, address: SocketAddr) {
    tell(&[FdStoreRemove, FdName(&name(kind, address))], &[]);
}

/// Queries are taken.
pub fn ready(status: &str) {
    tell(&[Ready, Status(status)], &[]);
}

/// From now on another process is the service: it has taken over from this one.
pub fn follow(process: u32) {
    tell(&[MainPid(process), Ready], &[]);
}

/// The end has begun.
pub fn stopping() {
    tell(&[Stopping], &[]);
}

/// All is well.
pub fn alive() {
    tell(&[Watchdog], &[]);
}

/// How often it wants to hear that all is well: twice in the time after which it would end this process.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}
