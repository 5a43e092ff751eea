//! The stream between HTTP and TLS: each HTTP/2 response has a TLS record of its own, and a connection ends without loss.
//!
//! - Some clients (dnsperf 2.10) read one response from each record, and would read the others only when more octets arrive.
//! - An HTTP/2 connection without open requests ends with one GOAWAY, which names the last answered request. Then zonal closes
//!   the connection. A client may send any later request again (RFC 9113, 6.8). hyper would wait for a PING at the end, which
//!   is an error to clients that accept nothing after GOAWAY (hyper-h2, and so httpx).

use crate::listen::linger::Linger;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The header of a frame, in octets, and the types and flags that matter here (RFC 9113, 4.1 and 6).
const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// The position of the sent octets in the HTTP/2 frames.
#[derive(Clone, Copy, Default)]
struct Frames {
    header: [u8; HEADER],
    /// The octets of the header so far, and the octets of the payload that are still to come.
    header_len: usize,
    payload_left: usize,
    /// The stream of the last request with a response.
    last_stream: u32,
}

impl Frames {
    /// Reads octets up to the end of a frame. Returns their number, and whether a response ends with them.
    fn take(&mut self, octets: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        if self.header_len < HEADER {
            taken = octets.len().min(HEADER - self.header_len);
            self.header[self.header_len..][..taken].copy_from_slice(&octets[..taken]);
            self.header_len += taken;
            if self.header_len < HEADER {
                return (taken, false);
            }
            let [a, b, c, ..] = self.header;
            self.payload_left = u32::from_be_bytes([0, a, b, c]) as usize;
        }
        let payload = self.payload_left.min(octets.len() - taken);
        self.payload_left -= payload;
        if self.payload_left > 0 {
            return (taken + payload, false);
        }
        self.header_len = 0;
        let [_, _, _, kind, flags, stream @ ..] = self.header;
        if kind == HEADERS {
            self.last_stream = self.last_stream.max(u32::from_be_bytes(stream));
        }
        (taken + payload, matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0)
    }

    /// The number of octets up to the end of a response.
    fn until_response_ends(mut self, octets: &[u8]) -> usize {
        let mut at = 0;
        while at < octets.len() {
            let (taken, ends) = self.take(&octets[at..]);
            at += taken;
            if ends {
                break;
            }
        }
        at
    }

    fn advance(&mut self, octets: &[u8]) {
        let mut at = 0;
        while at < octets.len() {
            at += self.take(&octets[at..]).0;
        }
    }
}

/// The stream below an HTTP connection.
pub struct HttpStream<S> {
    stream: S,
    /// None for HTTP/1.1.
    frames: Option<Frames>,
    /// The last write is not complete yet.
    is_blocked: bool,
    is_leaving: Arc<AtomicBool>,
    /// The GOAWAY frame, and the number of its octets that are sent.
    goaway: Option<([u8; HEADER + 8], usize)>,
    linger: Linger,
}

impl<S: AsyncRead + AsyncWrite + Unpin> HttpStream<S> {
    /// An HTTP/2 connection ends when `is_leaving` is set. It must have no open request then.
    pub fn new(stream: S, is_h2: bool, is_leaving: Arc<AtomicBool>) -> HttpStream<S> {
        let frames = is_h2.then(Frames::default);
        HttpStream { stream, frames, is_blocked: false, is_leaving, goaway: None, linger: Linger::default() }
    }

    /// Sends GOAWAY with the last request, and ends the connection.
    fn poll_end(&mut self, frames: Frames, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (goaway, sent) = self.goaway.get_or_insert_with(|| {
            // Length and type; no flags, and stream 0; the last stream, and the code NO_ERROR.
            let mut frame = [0; HEADER + 8];
            (frame[2], frame[3]) = (8, GOAWAY);
            frame[HEADER..HEADER + 4].copy_from_slice(&frames.last_stream.to_be_bytes());
            (frame, 0)
        });
        while *sent < goaway.len() {
            *sent += ready!(Pin::new(&mut self.stream).poll_write(context, &goaway[*sent..]))?;
        }
        self.linger.poll(&mut self.stream, context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for HttpStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.frames {
            // Ready without octets means the end of the stream to hyper.
            Some(frames) if frames.header_len == 0 && !self.is_blocked && self.is_leaving.load(Relaxed) => {
                self.poll_end(frames, context)
            }
            _ => Pin::new(&mut self.stream).poll_read(context, to),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HttpStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let Some(mut frames) = self.frames else { return Pin::new(&mut self.stream).poll_write(context, octets) };
        if self.goaway.is_some() {
            // Nothing is sent after GOAWAY.
            return Poll::Ready(Ok(octets.len()));
        }
        let octets = &octets[..frames.until_response_ends(octets)];
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        self.is_blocked = written.is_pending();
        let written = ready!(written)?;
        frames.advance(&octets[..written]);
        self.frames = Some(frames);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.linger.poll(&mut this.stream, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn cuts_after_each_response_wherever_octets_are_split() {
        let settings = frame(4, 0, 0, &[0; 12]);
        let first =
            [frame(HEADERS, 4, 1, b"head"), frame(DATA, 0, 1, b""), frame(DATA, END_STREAM, 1, b"body")].concat();
        let second = frame(HEADERS, 4 | END_STREAM, 3, b"head");
        let all = [settings, first, second.clone(), frame(6, 1, 0, &[0; 8])].concat();
        let ends = [all.len() - 17 - second.len(), all.len() - 17, all.len()];
        for split in 0..=all.len() {
            let (mut frames, mut at, mut cuts) = (Frames::default(), 0, Vec::new());
            while at < all.len() {
                let end = if at < split { split } else { all.len() };
                let cut = frames.until_response_ends(&all[at..end]);
                frames.advance(&all[at..at + cut]);
                at += cut;
                cuts.push(at);
            }
            assert!(ends.iter().all(|end| cuts.contains(end)), "{split}: {cuts:?}");
            assert!(cuts.iter().all(|cut| ends.contains(cut) || *cut == split), "{split}: {cuts:?}");
            assert_eq!((frames.last_stream, frames.header_len), (3, 0));
        }
    }

    #[tokio::test]
    async fn who_is_leaving_names_the_last_request_and_reads_what_is_still_sent() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let is_leaving = Arc::new(AtomicBool::new(false));
        let mut near = HttpStream::new(near, true, is_leaving.clone());
        let response = frame(HEADERS, END_STREAM, 7, b"head");
        near.write_all(&response).await.unwrap();
        far.write_all(&[0; 100]).await.unwrap();
        is_leaving.store(true, Relaxed);
        let mut octets = [0; 10];
        let ends = near.read(&mut octets);
        let client = async {
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, [response.clone(), frame(GOAWAY, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 0])].concat());
            drop(far);
        };
        let (ended, ()) = tokio::join!(ends, client);
        assert_eq!(ended.unwrap(), 0);
        poll_fn(|context| Pin::new(&mut near).poll_shutdown(context)).await.unwrap();
    }
}
