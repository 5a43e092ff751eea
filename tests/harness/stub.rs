//! A stub resolver with its own address: one attempt per query, one query at a time or many at
//! once.

use super::reply::Reply;
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RecordType, rdata::opt::EdnsOption},
};
use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

/// The time-out of clients: a later reply does not count as an answer.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// A client address, and the server that the client asks.
#[derive(Clone, Copy)]
pub struct Stub {
    pub source: IpAddr,
    pub server: SocketAddr,
}

/// A reply and the time it took.
pub struct Said {
    pub reply: Reply,
    /// The texts of its extended DNS errors.
    pub why: String,
    pub took: Duration,
}

impl Stub {
    pub fn new(source: &str, server: (&str, u16)) -> Stub {
        Stub { source: source.parse().unwrap(), server: (server.0.parse::<IpAddr>().unwrap(), server.1).into() }
    }

    /// Sends a query in dig's syntax:
    /// `name [type] [+tcp] [+dnssec] [+cd] [+norec] [+noad] [+noedns]`. Without a reply, the status is `no reply`.
    pub fn ask(&self, question: &str) -> Said {
        let start = Instant::now();
        let tcp = question.split(' ').any(|word| word == "+tcp");
        let query = query(0x2a2a, question);
        let bytes = if tcp { self.by_tcp(&query) } else { self.by_udp(&query) };
        let reply = match bytes.is_empty() {
            true => Reply { status: "no reply".into(), ..Reply::default() },
            false => Reply::of_message(&bytes),
        };
        Said { reply, why: ede_text(&bytes), took: start.elapsed() }
    }

    fn by_udp(&self, query: &[u8]) -> Vec<u8> {
        let socket = self.socket();
        socket.send(query).unwrap();
        let mut reply = vec![0; 65_535];
        let len = socket.recv(&mut reply).unwrap_or_default();
        reply.truncate(len);
        reply
    }

    fn by_tcp(&self, query: &[u8]) -> Vec<u8> {
        let ask = || -> std::io::Result<Vec<u8>> {
            let socket = socket2::Socket::new(socket2::Domain::for_address(self.server), socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((self.source, 0)).into())?;
            socket.connect_timeout(&self.server.into(), PATIENCE)?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat())?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut reply)?;
            Ok(reply)
        };
        ask().unwrap_or_default()
    }

    fn socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind((self.source, 0)).unwrap();
        socket.connect(self.server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends many queries without waiting for answers, `per_millisecond` of them each millisecond.
    /// Returns the replies by index of the query; at most 65,536 queries.
    pub fn volley(&self, questions: &[String], per_millisecond: usize) -> HashMap<usize, Reply> {
        let socket = self.socket();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        // All replies may arrive at once.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).unwrap();
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let start = Instant::now();
                for (id, question) in questions.iter().enumerate() {
                    let due = Duration::from_micros(1_000 * id as u64 / per_millisecond as u64);
                    thread::sleep(due.saturating_sub(start.elapsed()));
                    socket.send(&query(id as u16, question)).unwrap();
                }
                Instant::now()
            });
            let (mut replies, mut buffer, mut ended) = (HashMap::new(), vec![0; 65_535], None);
            while replies.len() < questions.len() && ended.is_none_or(|at: Instant| at.elapsed() < PATIENCE) {
                if ended.is_none() && sender.is_finished() {
                    ended = Some(Instant::now());
                }
                let Ok(len) = socket.recv(&mut buffer) else { continue };
                replies.insert(usize::from(u16::from_be_bytes([buffer[0], buffer[1]])), buffer[..len].to_vec());
            }
            replies.into_iter().map(|(id, octets)| (id, Reply::of_message(&octets))).collect()
        })
    }
}

/// Builds a query message from dig's syntax.
pub fn query(id: u16, question: &str) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.authentic_data = true;
    let (mut name, mut rtype, mut edns) = (None, RecordType::A, Some(Edns::new()));
    for word in question.split(' ') {
        match word {
            "+tcp" => {}
            "+dnssec" => _ = edns.as_mut().map(|e| e.set_dnssec_ok(true)),
            "+cd" => message.metadata.checking_disabled = true,
            "+norec" => message.metadata.recursion_desired = false,
            "+noad" => message.metadata.authentic_data = false,
            "+noedns" => edns = None,
            _ if name.is_none() => name = Some(Name::from_ascii(word).unwrap_or_else(|e| panic!("{word}: {e}"))),
            _ => rtype = RecordType::from_str(word).unwrap_or_else(|e| panic!("{word}: {e}")),
        }
    }
    let mut name = name.expect("a name");
    name.set_fqdn(true);
    message.add_query(Query::query(name, rtype));
    if let Some(mut edns) = edns {
        edns.set_max_payload(1232);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn ede_text(bytes: &[u8]) -> String {
    let Ok(message) = Message::from_vec(bytes) else { return String::new() };
    let mut text = String::new();
    for (code, option) in message.edns.iter().flat_map(|e| e.options().as_ref()) {
        if let (15, EdnsOption::Unknown(_, data)) = (u16::from(*code), option) {
            text += &String::from_utf8_lossy(&data[2..]);
        }
    }
    text
}
