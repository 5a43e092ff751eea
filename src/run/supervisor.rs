//! Notifications to systemd (sd_notify(3)). They do nothing when systemd did not start this process.

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

/// Whether a supervisor starts this program again, and keeps its sockets meanwhile.
pub fn is_there() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

fn notify(states: &[NotifyState], sockets: &[BorrowedFd]) {
    if let Err(error) = try_notify(states, sockets) {
        tracing::warn!(?states, %error, "systemd not notified");
    }
}

fn try_notify(states: &[NotifyState], sockets: &[BorrowedFd]) -> io::Result<()> {
    match sockets {
        [] => sd_notify::notify(states),
        sockets => sd_notify::notify_with_fds(states, sockets),
    }
}

/// The name of the sockets of a kind on an address. systemd allows no colons in it.
fn name(kind: Type, address: SocketAddr) -> String {
    let kind = if kind == Type::STREAM { "tcp" } else { "udp" };
    format!("{kind}-{address}").replace(':', "-")
}

/// Gives systemd a copy of a socket, which it passes to the next process. systemd stores each socket once. It keeps the
/// socket whatever events it sees on it.
pub fn keep(kind: Type, address: SocketAddr, socket: &Socket) {
    notify(&[FdStore, FdName(&name(kind, address)), Custom("FDPOLL=0")], &[socket.as_fd()]);
}

/// Tells systemd to close the sockets on an address.
pub fn forget(kind: Type, address: SocketAddr) {
    notify(&[FdStoreRemove, FdName(&name(kind, address))], &[]);
}

/// Reports that the server answers queries.
pub fn ready(status: &str) {
    notify(&[Ready, Status(status)], &[]);
}

/// Reports that a new process is the main process of the service.
pub fn follow(process: u32) {
    notify(&[MainPid(process), Ready], &[]);
}

/// Reports that the server is about to end.
pub fn stopping() {
    notify(&[Stopping], &[]);
}

/// Reports that the server works (`WatchdogSec=`).
pub fn alive() {
    notify(&[Watchdog], &[]);
}

/// The interval of [`alive`]: half the time after which systemd ends a process that does not report.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|interval| !interval.is_zero())
}
