//! Outputs of logs over the network: Unix sockets, TCP and HTTP.

use super::dnstap;
use crate::config::remedy::explain_connect_error;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fmt,
    io::{self, Write},
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, runtime::Runtime, time::timeout};

/// The maximum time to connect, and to write a batch.
const IO_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause after a failed connection.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The address of a socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Peer {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Unix(path) => write!(f, "unix:{}", path.display()),
            Peer::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// A socket that connects when there is something to write.
pub struct Stream {
    peer: Peer,
    /// Whether the stream is in Frame Streams, for dnstap.
    is_framed: bool,
    socket: Option<Socket>,
    failed: Option<Instant>,
}

impl Stream {
    /// A stream that is not connected yet.
    pub fn new(peer: Peer, is_framed: bool) -> Stream {
        Stream { peer, is_framed, socket: None, failed: None }
    }

    /// Writes octets.
    pub fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let result = self.try_write(octets);
        if result.is_err() && self.socket.take().is_some() {
            self.failed = None; // the next attempt comes without a pause, because the stream was connected
        }
        result
    }

    fn try_write(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.failed.is_some_and(|failed| failed.elapsed() < RETRY_PAUSE) {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the last connection failed; zonal waits before the next attempt",
            ));
        }
        let socket = match &mut self.socket {
            Some(socket) if !is_closed(socket) => socket,
            _ => {
                self.socket = None;
                self.failed = Some(Instant::now());
                let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.peer));
                let mut socket = connect(&self.peer).map_err(failed)?;
                if self.is_framed {
                    dnstap::handshake(&mut socket)?;
                }
                self.failed = None;
                self.socket.insert(socket)
            }
        };
        socket.write_all(octets)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.as_mut().filter(|_| self.is_framed) {
            let _ = dnstap::finish(socket);
        }
    }
}

/// Whether the other side has closed the connection. A write would succeed then, and its octets would be lost.
fn is_closed(socket: &Socket) -> bool {
    let mut octet = [std::mem::MaybeUninit::uninit()];
    let peeked = socket.recv_with_flags(&mut octet, libc::MSG_PEEK | libc::MSG_DONTWAIT);
    match peeked {
        Ok(read) => read == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

fn connect(peer: &Peer) -> io::Result<Socket> {
    let socket = match peer {
        Peer::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.connect(&SockAddr::unix(path)?).map_err(explain_connect_error)?;
            socket
        }
        Peer::Tcp(address) => {
            let mut result = Err(io::Error::other("the name has no address"));
            for address in address.to_socket_addrs()? {
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
                result = socket.connect_timeout(&address.into(), IO_TIMEOUT).map(|()| socket);
                if result.is_ok() {
                    break;
                }
            }
            result?
        }
    };
    socket.set_write_timeout(Some(IO_TIMEOUT))?;
    socket.set_read_timeout(Some(IO_TIMEOUT))?;
    Ok(socket)
}

/// An HTTP server that receives batches of lines.
pub struct Http {
    /// Host and port.
    authority: String,
    url: String,
    runtime: Runtime,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    failed: Option<Instant>,
}

impl Http {
    /// The server at a URL that begins with `http://`.
    pub fn new(url: &str) -> io::Result<Http> {
        let authority = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        Ok(Http {
            authority: authority.into(),
            url: url.into(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            sender: None,
            failed: None,
        })
    }

    /// Posts lines.
    pub fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.failed.is_some_and(|failed| failed.elapsed() < RETRY_PAUSE) {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the last connection failed; zonal waits before the next attempt",
            ));
        }
        let lines = Bytes::copy_from_slice(lines);
        let used = self.sender.take();
        let is_used = used.is_some();
        let (authority, url) = (&self.authority, &self.url);
        let result = self.runtime.block_on(async {
            let first = post(authority, url, used, lines.clone()).await;
            match first {
                // The server may have closed an idle connection.
                Err(_) if is_used => post(authority, url, None, lines).await,
                first => first,
            }
        });
        match result {
            Ok(sender) => {
                (self.sender, self.failed) = (Some(sender), None);
                Ok(())
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                Err(error)
            }
        }
    }
}

/// Posts lines over a connection, or a new one.
async fn post(
    authority: &str,
    url: &str,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    lines: Bytes,
) -> io::Result<http1::SendRequest<Full<Bytes>>> {
    let exchange = async {
        let mut sender = match sender {
            Some(sender) => sender,
            None => {
                let has_port = authority.parse::<SocketAddr>().is_ok()
                    || authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                let address = if has_port { authority.to_string() } else { format!("{authority}:80") };
                let stream = TcpStream::connect(address).await?;
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                sender
            }
        };
        let path = url.get("http://".len() + authority.len()..).filter(|path| !path.is_empty()).unwrap_or("/");
        let request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .header(header::USER_AGENT, concat!("zonal/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(lines))
            .map_err(io::Error::other)?;
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        // The body must be read before the next request.
        let _ = http_body_util::Limited::new(response.into_body(), 1 << 16).collect().await;
        match status.is_success() {
            true => Ok(sender),
            false => Err(io::Error::other(format!("the server answers {status}"))),
        }
    };
    timeout(IO_TIMEOUT, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
