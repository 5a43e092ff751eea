//! A DNS server that sends whatever replies a test defines, right or wrong.

use super::{free_port, wait_until};
use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{Name, RData, Record, rdata},
};
use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// A query that the server received.
pub struct Asked {
    pub message: Message,
    pub from: SocketAddr,
    pub tcp: bool,
}

/// One action of the server on a query.
pub enum Say {
    /// Sends this message at once.
    Now(Vec<u8>),
    /// Sends this message after a delay, from the same address and port.
    Later(Duration, Vec<u8>),
    /// Sends this message in a datagram from another address or port.
    From(SocketAddr, Vec<u8>),
    /// Sends these octets without a length in front; over TCP it then closes the connection.
    Raw(Vec<u8>),
}

type Behaviour = dyn Fn(&Asked) -> Vec<Say> + Send + Sync;

/// A server on one port, with UDP and TCP. When it is dropped, it ends and its port is closed.
pub struct Fake {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Asked>>>,
    listener: TcpListener,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Fake {
    /// Starts it at an address. Port 0 stands for any free port.
    pub fn start(address: &str, behave: impl Fn(&Asked) -> Vec<Say> + Send + Sync + 'static) -> Fake {
        Fake::shared(address, Arc::new(behave))
    }

    fn shared(address: &str, behave: Arc<Behaviour>) -> Fake {
        let wanted: SocketAddr = address.parse().unwrap();
        let (udp, tcp) = loop {
            // An ephemeral port could go to another socket while a test has closed it.
            let port = if wanted.port() == 0 { free_port() } else { wanted.port() };
            // The previous server may still send a reply.
            let udp = wait_until(&format!("{wanted} is free"), || UdpSocket::bind((wanted.ip(), port)).ok());
            match TcpListener::bind(udp.local_addr().unwrap()) {
                Ok(tcp) => break (udp, tcp),
                Err(e) => assert!(wanted.port() == 0, "cannot bind {wanted}: {e}"),
            }
        };
        let address = udp.local_addr().unwrap();
        let _ = socket2::SockRef::from(&udp).set_recv_buffer_size(8 << 20);
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, streams) = (Arc::default(), Arc::default());
        let listener = tcp.try_clone().unwrap();
        let threads = vec![
            thread::spawn({
                let (stop, asked, behave) = (stop.clone(), Arc::clone(&asked), behave.clone());
                move || serve_udp(&udp, &stop, &asked, &*behave)
            }),
            thread::spawn({
                let (stop, asked, streams) = (stop.clone(), Arc::clone(&asked), Arc::clone(&streams));
                move || serve_tcp(&tcp, &stop, &asked, &streams, &behave)
            }),
        ];
        Fake { address, listener, stop, asked, streams, threads }
    }

    /// `ip: …, port: …`, as in a rule's target.
    pub fn target(&self) -> String {
        format!("{{ip: \"{}\", port: {}}}", self.address.ip(), self.address.port())
    }

    /// The number of queries that satisfy a condition.
    pub fn count(&self, of: impl Fn(&Asked) -> bool) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| of(asked)).count()
    }

    /// The number of queries for a name and the names below it.
    pub fn count_below(&self, name: &str) -> usize {
        self.count(|asked| asked.name() == name || asked.name().ends_with(&format!(".{name}")))
    }

    /// Maps each query that was received.
    pub fn collect<T>(&self, make: impl Fn(&Asked) -> T) -> Vec<T> {
        self.asked.lock().unwrap().iter().map(make).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Wakes the thread in `accept`, also in a network namespace that this thread is not in.
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool, log: &Mutex<Vec<Asked>>, behave: &Behaviour) {
    let mut buffer = [0; 4096];
    while !stop.load(Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        let Ok(message) = Message::from_vec(&buffer[..len]) else { continue };
        let asked = Asked { message, from, tcp: false };
        let said = behave(&asked);
        // Counts the query first: a test that has the reply reads the count.
        log.lock().unwrap().push(asked);
        for say in said {
            match say {
                Say::Now(octets) | Say::Raw(octets) => _ = socket.send_to(&octets, from),
                Say::From(source, octets) => {
                    _ = UdpSocket::bind(source).and_then(|other| other.send_to(&octets, from));
                }
                Say::Later(after, octets) => {
                    let socket = socket.try_clone().unwrap();
                    thread::spawn(move || {
                        thread::sleep(after);
                        socket.send_to(&octets, from)
                    });
                }
            }
        }
    }
}

fn serve_tcp(
    listener: &TcpListener,
    stop: &AtomicBool,
    log: &Arc<Mutex<Vec<Asked>>>,
    streams: &Mutex<Vec<TcpStream>>,
    behave: &Arc<Behaviour>,
) {
    while let Ok((stream, from)) = listener.accept() {
        if stop.load(Relaxed) {
            return;
        }
        streams.lock().unwrap().extend(stream.try_clone());
        let (log, behave) = (log.clone(), behave.clone());
        thread::spawn(move || serve_stream(stream, from, &log, &*behave));
    }
}

fn serve_stream(mut stream: TcpStream, from: SocketAddr, log: &Mutex<Vec<Asked>>, behave: &Behaviour) {
    let Ok(replies) = stream.try_clone() else { return };
    let replies = Arc::new(Mutex::new(replies));
    let framed = |octets: &[u8]| [&(octets.len() as u16).to_be_bytes()[..], octets].concat();
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut octets).is_err() {
            return;
        }
        let Ok(message) = Message::from_vec(&octets) else { return };
        let asked = Asked { message, from, tcp: true };
        let said = behave(&asked);
        log.lock().unwrap().push(asked);
        for say in said {
            match say {
                Say::Now(octets) | Say::From(_, octets) => _ = replies.lock().unwrap().write_all(&framed(&octets)),
                Say::Raw(octets) => {
                    let mut replies = replies.lock().unwrap();
                    let _ = replies.write_all(&octets);
                    let _ = replies.shutdown(Shutdown::Both);
                    return;
                }
                Say::Later(after, octets) => {
                    let (replies, octets) = (replies.clone(), framed(&octets));
                    thread::spawn(move || {
                        thread::sleep(after);
                        replies.lock().unwrap().write_all(&octets)
                    });
                }
            }
        }
    }
}

impl Asked {
    /// The query name in lower case, without the final dot.
    pub fn name(&self) -> String {
        self.message.queries[0].name().to_ascii().to_lowercase().trim_end_matches('.').into()
    }

    /// The first label of the query name.
    pub fn label(&self) -> String {
        self.name().split('.').next().unwrap_or_default().into()
    }

    /// The query name with its original case.
    pub fn owner(&self) -> Name {
        self.message.queries[0].name().clone()
    }

    /// A response to the query without records.
    pub fn response(&self) -> Message {
        let mut response = Message::new(self.message.metadata.id, MessageType::Response, OpCode::Query);
        response.metadata.recursion_desired = true;
        response.metadata.recursion_available = true;
        response.add_query(self.message.queries[0].clone());
        response.edns = self.message.edns.clone();
        response
    }

    /// A response with one A record at the query name.
    pub fn address(&self, ip: &str) -> Vec<u8> {
        self.with(vec![a(&self.owner().to_ascii(), 60, ip)])
    }

    /// A response with these answers.
    pub fn with(&self, answers: Vec<Record>) -> Vec<u8> {
        let mut response = self.response();
        response.answers = answers;
        response.to_vec().unwrap()
    }

    /// A response with this RCODE.
    pub fn fails(&self, code: ResponseCode) -> Vec<u8> {
        let mut response = self.response();
        response.metadata.response_code = code;
        response.to_vec().unwrap()
    }

    /// A truncated response.
    pub fn truncated(&self) -> Vec<u8> {
        let mut response = self.response();
        response.metadata.truncation = true;
        response.to_vec().unwrap()
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

/// An A record.
pub fn a(owner: &str, ttl: u32, ip: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(rdata::A(ip.parse::<Ipv4Addr>().unwrap())))
}

/// A CNAME record.
pub fn cname(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(rdata::CNAME(name(target))))
}

/// An NS record.
pub fn ns(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::NS(rdata::NS(name(target))))
}

/// An SOA record, with this negative TTL.
pub fn soa(owner: &str, ttl: u32) -> Record {
    let soa = rdata::SOA::new(name(owner), name(owner), 1, 7200, 900, 1_209_600, ttl);
    Record::from_rdata(name(owner), ttl, RData::SOA(soa))
}

/// Another address of the same network, as a wrong source of replies.
pub fn beside(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(Ipv4Addr::from(u32::from(ip) ^ 1).into(), address.port()),
        IpAddr::V6(_) => unreachable!("the fakes are at IPv4 addresses"),
    }
}
