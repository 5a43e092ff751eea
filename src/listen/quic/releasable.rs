//! A QUIC socket that this process can stop to read, so that a new process reads it.

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

/// A socket that sends packets, and receives packets until [`ReleasableSocket::release`].
#[derive(Debug)]
pub struct ReleasableSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    /// Locked during a read: when it is set, no read is in progress and none follows.
    is_released: Mutex<bool>,
}

impl ReleasableSocket {
    /// Call this within a tokio runtime.
    pub fn new(socket: UdpSocket) -> io::Result<Arc<ReleasableSocket>> {
        Ok(Arc::new(ReleasableSocket { socket: TokioRuntime.wrap_udp_socket(socket)?, is_released: Mutex::default() }))
    }

    /// Stops to receive. When this returns, the socket is not read any more.
    pub fn release(&self) {
        *self.is_released.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl AsyncUdpSocket for ReleasableSocket {
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
        let is_released = self.is_released.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_released {
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
