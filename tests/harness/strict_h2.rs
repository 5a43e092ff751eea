//! An HTTP/2 client as strict as hyper-h2, the library of Python's clients: after a GOAWAY frame it
//! accepts no other frame.

use super::secure::{Client, NAME};
use data_encoding::BASE64URL_NOPAD;
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use zonal::answer::Transport;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The reason why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The server's GOAWAY frame excludes this request, so the client may send it again.
    Unsent,
    /// A violation of the protocol, described.
    Broken(String),
}

/// A connection.
pub struct StrictH2 {
    stream: TlsStream<TcpStream>,
    next: u32,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl StrictH2 {
    pub async fn connect(client: &Client<'_>) -> StrictH2 {
        let stream = client.tls(Transport::Https, "h2").await;
        let mut this = StrictH2 { stream, next: 1 };
        this.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        this.send(SETTINGS, 0, 0, &[]).await.unwrap();
        this
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = (payload.len() as u32).to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }

    async fn receive(&mut self) -> io::Result<Frame> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Sends a query, and waits for the answer.
    pub async fn ask(&mut self, query: &[u8]) -> Result<Vec<u8>, Ended> {
        let path = format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(query));
        let literal = |index: u8, value: &str| [&[index, value.len() as u8], value.as_bytes()].concat();
        assert!(path.len() < 127);
        // `GET` and `https` from the static table, then path and authority as literals (RFC 7541,
        // 6.1 and 6.2.2).
        let head = [vec![0x82, 0x87], literal(4, &path), literal(1, NAME)].concat();
        let stream = self.next;
        self.next += 2;
        let broken = |what: &str| Err(Ended::Broken(what.into()));
        // The frames that the server sent before it closed can still be read.
        let sent = self.send(HEADERS, END_STREAM | END_HEADERS, stream, &head).await;
        let mut body = Vec::new();
        loop {
            let frame = match self.receive().await {
                Ok(frame) => frame,
                Err(error) => return broken(&format!("no GOAWAY before the end: {error}, sent: {sent:?}")),
            };
            match (frame.kind, frame.flags) {
                (SETTINGS, flags) if flags & ACK == 0 => _ = self.send(SETTINGS, ACK, 0, &[]).await,
                (PING, flags) if flags & ACK == 0 => _ = self.send(PING, ACK, 0, &frame.payload).await,
                (GOAWAY, _) => {
                    let last = u32::from_be_bytes(*frame.payload.first_chunk().unwrap());
                    if last >= stream {
                        return broken("a GOAWAY that takes this request, in front of its response");
                    }
                    return match self.receive().await {
                        Ok(frame) => broken(&format!("a frame of type {} behind a GOAWAY", frame.kind)),
                        Err(_) => Err(Ended::Unsent),
                    };
                }
                (DATA, flags) if frame.stream == stream => {
                    body.extend_from_slice(&frame.payload);
                    let octets = (frame.payload.len() as u32).to_be_bytes();
                    let _ = self.send(WINDOW_UPDATE, 0, 0, &octets).await;
                    if flags & END_STREAM != 0 {
                        return Ok(body);
                    }
                }
                _ => {}
            }
        }
    }
}
