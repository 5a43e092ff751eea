//! A socket that can be left to another process, which reads it then.

use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

/// A socket that packets are sent by, and read from until it is [left](Leavable::leave).
#[derive(Debug)]
pub struct Leavable {
    socket: Arc<dyn AsyncUdpSocket>,
    /// Held while something is read, so that nothing is from when it is true.
    is_left: Mutex<bool>,
}

impl Leavable {
    /// To be called within a runtime.
    pub fn new(socket: UdpSocket) -> io::Result<Arc<Leavable>> {
        Ok(Arc::new(Leavable { socket: TokioRuntime.wrap_udp_socket(socket)?, is_left: Mutex::default() }))
    }

    /// Nothing is read any more from when this returns.
    pub fn leave(&self) {
        *self.is_left.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl AsyncUdpSocket for Leavable {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let is_left = self.is_left.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_left {
            return Poll::Pending;
        }
        self.socket.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}
