//! Questions to small servers that misbehave.

mod encrypted;
mod forgeries;
mod silence;
mod streams;

use super::*;
use crate::{
    manifest::Protocol,
    wire::{
        query::{HEADER, LookupName},
        response,
    },
};
use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::AtomicU8,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    sync::mpsc,
    task::JoinHandle,
    time::sleep,
};

/// The reaction of a server to a query.
enum Act {
    Reply(Vec<u8>),
    Late(u64, Vec<u8>),
    /// The connection is closed.
    Close,
}

/// A server by UDP and TCP.
struct Fake {
    address: SocketAddr,
    /// The queries so far, and whether they came by TCP. Probes are left out.
    queries: Mutex<mpsc::UnboundedReceiver<(Vec<u8>, bool)>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// An address that no other test has.
fn unused_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [pid, _, more, _] = std::process::id().to_le_bytes();
    Ipv4Addr::new(127, 64 + more % 32, pid, NEXT.fetch_add(1, Relaxed)).into()
}

fn is_probe(query: &[u8]) -> bool {
    query.windows(4).any(|four| four == [0, 6, 0, 1])
}

impl Fake {
    /// Starts a server. `act` gets a query, and whether it came by TCP. Probes are answered.
    async fn new(act: impl Fn(&[u8], bool) -> Vec<Act> + Clone + Send + 'static) -> Fake {
        Fake::at(SocketAddr::new(unused_address(), 0), act).await
    }

    async fn at(address: SocketAddr, act: impl Fn(&[u8], bool) -> Vec<Act> + Clone + Send + 'static) -> Fake {
        let udp = Arc::new(UdpSocket::bind(address).await.unwrap());
        let address = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(address).await.unwrap();
        let (sender, queries) = mpsc::unbounded_channel();
        let (udp_act, udp_sender) = (act.clone(), sender.clone());
        let by_udp = async move {
            let mut packet = [0; 2048];
            loop {
                let Ok((len, client)) = udp.recv_from(&mut packet).await else { continue };
                let query = packet[..len].to_vec();
                if is_probe(&query) {
                    let _ = udp.send_to(&answer(&query), client).await;
                    continue;
                }
                let _ = udp_sender.send((query.clone(), false));
                for act in udp_act(&query, false) {
                    let udp = udp.clone();
                    tokio::spawn(async move {
                        let (Act::Reply(message) | Act::Late(_, message)) = &act else { return };
                        if let Act::Late(ms, _) = act {
                            sleep(Duration::from_millis(ms)).await;
                        }
                        let _ = udp.send_to(message, client).await;
                    });
                }
            }
        };
        let by_tcp = async move {
            loop {
                let (stream, _) = tcp.accept().await.unwrap();
                tokio::spawn(serve_stream(stream, act.clone(), sender.clone()));
            }
        };
        Fake { address, queries: Mutex::new(queries), tasks: vec![tokio::spawn(by_udp), tokio::spawn(by_tcp)] }
    }

    fn target(&self) -> Target {
        target(self.address)
    }

    /// Closes the TCP listener.
    async fn close_tcp(&self) {
        self.tasks[1].abort();
        while !self.tasks[1].is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// The queries since the last call, and whether they came by TCP.
    fn queries(&self) -> Vec<(Vec<u8>, bool)> {
        let mut queries = self.queries.lock().unwrap();
        std::iter::from_fn(|| queries.try_recv().ok()).collect()
    }
}

async fn serve_stream(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    act: impl Fn(&[u8], bool) -> Vec<Act>,
    queries: mpsc::UnboundedSender<(Vec<u8>, bool)>,
) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let acts = match is_probe(&query) {
            true => vec![Act::Reply(answer(&query))],
            false => {
                let _ = queries.send((query.clone(), true));
                act(&query, true)
            }
        };
        for act in acts {
            let message = match act {
                Act::Close => return,
                Act::Reply(message) => message,
                Act::Late(ms, message) => {
                    sleep(Duration::from_millis(ms)).await;
                    message
                }
            };
            let whole = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
            if stream.write_all(&whole).await.is_err() {
                return;
            }
        }
    }
}

/// The right response to a query: one address.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut message = header(query, 0);
    message[7] = 1;
    message.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x01");
    message
}

/// The header and the question of a response.
fn header(query: &[u8], code: u8) -> Vec<u8> {
    let name = LookupName::new(&query[HEADER..]).unwrap();
    let mut message = query[..HEADER + name.wire().len() + 4].to_vec();
    message[2] = 0x81;
    message[3] = 0x80 | code;
    message[6..12].fill(0);
    message
}

fn truncated(query: &[u8]) -> Vec<u8> {
    let mut message = header(query, 0);
    message[2] |= 2;
    message
}

fn target(address: SocketAddr) -> Target {
    Target { ip: address.ip(), port: address.port(), protocol: Protocol::Do53, server_name: None }
}

fn route(targets: Vec<Target>) -> Route {
    route_from(targets, Vec::new())
}

fn route_from(targets: Vec<Target>, sources: Vec<IpAddr>) -> Route {
    Route::new("rslvr-rr-1".into(), b"\x04corp\0"[..].into(), Servers::Targets { targets, sources, trust_ad: false })
}

const NAME: &[u8] = b"\x07printer\x06office\x04corp\0";

/// Asks for an address, with the time-out of a client.
async fn ask(upstreams: &Upstreams, route: &Route) -> Result<Vec<u8>, Failure> {
    ask_for(upstreams, route, NAME).await
}

async fn ask_for(upstreams: &Upstreams, route: &Route, name: &[u8]) -> Result<Vec<u8>, Failure> {
    ask_with(upstreams, route, name, false).await
}

async fn ask_with(upstreams: &Upstreams, route: &Route, name: &[u8], dnssec_ok: bool) -> Result<Vec<u8>, Failure> {
    let name = LookupName::new(name).unwrap();
    let question = Question { name: &name, qtype: 1, dnssec_ok, checking_disabled: false };
    let read = |message: &[u8], _| match message.ends_with(&USELESS) {
        true => Err("is of no use".into()),
        false => Ok(message.to_vec()),
    };
    upstreams.ask(route, &question, Instant::now() + Duration::from_millis(4500), read).await
}

/// The address in a well-formed response that the test rejects.
const USELESS: [u8; 4] = [192, 0, 2, 66];

/// The last octet of the address in a response.
fn address(response: &Result<Vec<u8>, Failure>) -> u8 {
    let message = match response {
        Ok(message) => message,
        Err(failure) => panic!("{failure:?}"),
    };
    *response::Response::read(message).unwrap().sections[0][0].rdata.last().unwrap()
}

/// The code of a failure, and what each server did.
fn text(response: Result<Vec<u8>, Failure>) -> (u16, String) {
    let failure = response.expect_err("there is no failure");
    (failure.code, if failure.details.is_empty() { failure.text } else { failure.details })
}

/// The output of a future, and its time in milliseconds.
async fn timed<T>(future: impl Future<Output = T>) -> (T, u128) {
    let start = Instant::now();
    let output = future.await;
    (output, start.elapsed().as_millis())
}

/// Whether a response comes within `limit` milliseconds, from upstreams without any state. A busy
/// machine may need more than one try.
async fn answers_within(upstreams: impl Fn() -> Arc<Upstreams>, route: &Route, limit: u128) -> bool {
    for _ in 0..4 {
        let (response, ms) = timed(ask(&upstreams(), route)).await;
        assert_eq!(address(&response), 1);
        if ms < limit {
            return true;
        }
        sleep(Duration::from_millis(500)).await;
    }
    false
}
