//! The end of a connection whose client may still be sending.
//!
//! A socket that is closed while octets wait in it is reset by the kernel, and the reset takes the last reply away from the
//! client. So the sending side ends first, and for a while what comes is read and thrown away.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a connection that is closed is read on.
const LINGER: Duration = Duration::from_millis(500);

/// The steps of the end of a connection.
#[derive(Default)]
pub enum Linger {
    /// The sending side is open.
    #[default]
    Open,
    /// It is closed. The rest is read until the client closes its side, or the time is over.
    Reading(Pin<Box<Sleep>>),
    /// The connection may be closed.
    Done,
}

impl Linger {
    /// Goes on with the end of a connection: ready when it may be closed.
    pub fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self {
                Linger::Open => {
                    ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
                    *self = Linger::Reading(Box::pin(sleep(LINGER)));
                }
                Linger::Reading(over) => {
                    let mut octets = [0; 4096];
                    let mut rest = ReadBuf::new(&mut octets);
                    let is_over = over.as_mut().poll(context).is_ready();
                    let is_read = !is_over && ready!(Pin::new(&mut *stream).poll_read(context, &mut rest)).is_ok();
                    if !is_read || rest.filled().is_empty() {
                        *self = Linger::Done;
                    }
                }
                Linger::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}
