//! The end of a connection whose client may still send.
//!
//! The kernel resets a socket that is closed while unread octets wait in it, and the client loses the last reply to the reset.
//! So zonal closes the sending side first, and reads and discards for a while what the client still sends.

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

/// The maximum time that zonal reads from a connection after it closed the sending side.
const LINGER: Duration = Duration::from_millis(500);

/// The steps of the end of a connection.
#[derive(Default)]
pub enum Linger {
    /// The sending side is open.
    #[default]
    Open,
    /// The sending side is closed. zonal reads until the client closes its side, or until the time is over.
    Reading(Pin<Box<Sleep>>),
    /// The connection may be closed.
    Done,
}

impl Linger {
    /// Advances the end of a connection. Ready when the connection may be closed.
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
