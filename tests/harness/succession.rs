//! A server that is restarted again and again while clients send queries. Each query is sent once
//! and must get one answer.

use super::{
    Process, Scratch, ZONAL,
    secure::{H2, NAME, RUNTIME, SecureServer, message, request, tls_config, whole},
    strict_h2::{Ended, StrictH2},
    systemd::has_ended,
    wait_until,
};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{
        Name, RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use rustix::process::{Pid, Signal, kill_process};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, Instant},
};
use tokio::time::timeout;
use zonal::answer::Transport;

/// The time-out of clients: a later reply counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// After this time without a query a client makes a new connection, because the server may be about
/// to close the idle one.
const IDLE: Duration = Duration::from_millis(200);
/// The pause of a client between queries. It leaves CPU time for the restarts of servers.
const PAUSE: Duration = Duration::from_millis(3);

/// A query of type TXT.
pub fn query(id: u16, name: &str, keepalive: bool) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, RecordType::TXT));
    let mut edns = Edns::new();
    if keepalive {
        edns.options_mut().insert(EdnsOption::Unknown(11, Vec::new()));
    }
    message.set_edns(edns);
    message.to_vec().unwrap()
}

/// The TXT data of a reply, and the time-out of its keepalive option (RFC 7828), in units of 100
/// ms.
fn read(reply: &[u8]) -> (String, Option<u16>) {
    let message = Message::from_vec(reply).unwrap();
    let edns = message.edns.as_ref().unwrap();
    let timeout = match edns.option(EdnsCode::Keepalive) {
        Some(EdnsOption::Unknown(_, data)) => data.first_chunk().map(|timeout| u16::from_be_bytes(*timeout)),
        _ => None,
    };
    let text = message.answers.first().map(|record| record.data.to_string()).unwrap_or_default();
    (text.trim_matches('"').to_string(), timeout)
}

/// A query name, and a check of the answer's text.
#[derive(Clone, Copy)]
pub struct Question {
    pub name: &'static str,
    pub is_right: fn(&str) -> bool,
}

impl Question {
    fn check(&self, id: u16, reply: &[u8]) -> Option<u16> {
        assert_eq!(reply[..2], id.to_be_bytes());
        let (text, timeout) = read(reply);
        assert!((self.is_right)(&text), "{} is answered with {text:?}: {reply:02x?}", self.name);
        timeout
    }
}

/// Sends queries over UDP, eight at a time, until `stop` is set. Returns the number of answers.
fn by_udp(server: SocketAddr, question: Question, stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut answers, mut id, mut buffer) = (0, 0_u16, [0; 4096]);
    while !stop.load(Relaxed) {
        let mut open = BTreeSet::new();
        for _ in 0..8 {
            id = id.wrapping_add(1);
            socket.send(&query(id, question.name, false)).unwrap();
            open.insert(id);
        }
        while !open.is_empty() {
            let len = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{} are lost: {error}", open.len()));
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            assert!(open.remove(&id), "an answer to nothing, or a second one");
            question.check(id, &buffer[..len]);
            answers += 1;
        }
        sleep(PAUSE);
    }
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(socket.recv(&mut buffer).is_err(), "one is answered twice");
    answers
}

/// Sends queries over stream connections, and uses each until the server asks to close it.
fn by_streams<S: Read + Write>(connect: impl Fn() -> io::Result<S>, question: Question, stop: &AtomicBool) -> u64 {
    let (mut stream, mut answers, mut id) = (connect().unwrap(), 0, 0_u16);
    let mut last = Instant::now();
    while !stop.load(Relaxed) {
        id = id.wrapping_add(1);
        let query = query(id, question.name, true);
        if last.elapsed() > IDLE {
            stream = connect().unwrap();
        }
        let mut ask = || {
            stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat())?;
            stream.flush()?;
            let mut len = [0; 2];
            stream.read_exact(&mut len)?;
            let mut reply = vec![0; u16::from_be_bytes(len).into()];
            stream.read_exact(&mut reply)?;
            Ok::<_, io::Error>(reply)
        };
        let reply = ask().unwrap_or_else(|error| panic!("one is lost after {answers} answers: {error}"));
        answers += 1;
        last = Instant::now();
        if question.check(id, &reply).expect("a timeout") == 0 {
            stream = connect().unwrap();
        }
        sleep(PAUSE);
    }
    answers
}

fn tcp(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends queries over HTTP/2. It uses each connection for one query, or until the server sends
/// GOAWAY.
async fn by_https(server: &SecureServer, question: Question, stop: &AtomicBool, anew: bool) -> u64 {
    let client = server.client("127.0.0.1");
    // While a process keeps a socket without accepting, the kernel still completes connections.
    let connect = async || timeout(PATIENCE, client.h2()).await.expect("a connection");
    let (mut sender, mut answers) = (connect().await, 0);
    while !stop.load(Relaxed) {
        if sender.ready().await.is_err() || anew {
            sender = connect().await;
        }
        let request = sender.send_request(request(&query(0, question.name, false)));
        // The connection was closed before the request was sent, or the server's GOAWAY excludes it
        // (RFC 9113, 6.8).
        let is_unsent = |error: &hyper::Error| {
            error.is_canceled() || format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)")
        };
        let response = tokio::select! {
            response = timeout(PATIENCE, request) => match response.expect("a response") {
                Ok(response) => response,
                Err(error) if is_unsent(&error) => {
                    sender = connect().await;
                    continue;
                }
                Err(error) => panic!("one is lost after {answers} answers: {error:?}"),
            },
            // hyper never completes a request that it gets at the moment when the connection ends.
            // A request that was sent completes with an error.
            () = closed_for_long(&sender) => {
                sender = connect().await;
                continue;
            }
        };
        question.check(0, &message(whole(response).await));
        answers += 1;
        tokio::time::sleep(PAUSE).await;
    }
    answers
}

/// Sends queries over HTTP/2 with a client as strict as Python's.
async fn by_strict_https(server: &SecureServer, question: Question, stop: &AtomicBool) -> u64 {
    let client = server.client("127.0.0.1");
    let connect = async || timeout(PATIENCE, StrictH2::connect(&client)).await.expect("a connection");
    let (mut connection, mut answers) = (connect().await, 0);
    while !stop.load(Relaxed) {
        match timeout(PATIENCE, connection.ask(&query(0, question.name, false))).await.expect("an answer") {
            Ok(reply) => {
                question.check(0, &reply);
                answers += 1;
            }
            Err(Ended::Unsent) => connection = connect().await,
            Err(Ended::Broken(what)) => panic!("one is lost after {answers} answers: {what}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    answers
}

async fn closed_for_long(sender: &H2) {
    while !sender.is_closed() {
        tokio::time::sleep(IDLE).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
}

/// Sends queries over HTTP/1.1, and uses each connection until the server sends
/// `Connection: close`.
async fn by_http1(server: &SecureServer, question: Question, stop: &AtomicBool) -> u64 {
    let client = server.client("127.0.0.1");
    let connect = async || timeout(PATIENCE, client.h1()).await.expect("a connection");
    let (mut sender, mut answers, mut last) = (connect().await, 0, Instant::now());
    while !stop.load(Relaxed) {
        if last.elapsed() > IDLE {
            sender = connect().await;
        }
        let request = sender.send_request(request(&query(0, question.name, false)));
        let response = timeout(PATIENCE, request).await.expect("a response");
        let response = response.unwrap_or_else(|error| panic!("one is lost after {answers} answers: {error:?}"));
        last = Instant::now();
        let is_last = response.headers().get("connection").is_some_and(|said| said == "close");
        question.check(0, &message(whole(response).await));
        answers += 1;
        if is_last || sender.ready().await.is_err() {
            sender = connect().await;
        }
        tokio::time::sleep(PAUSE).await;
    }
    answers
}

/// Runs `work` while clients ask by UDP, TCP, DoT and DoH. Returns the number of answers by
/// transport.
pub fn under_load(server: &SecureServer, question: Question, work: impl FnOnce()) -> BTreeMap<&'static str, u64> {
    /// Stops the load also when `work` panics. Otherwise the thread scope never ends.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    let at = |transport| server.at(transport, Ipv4Addr::LOCALHOST.into());
    let tls = Arc::new(tls_config(&server.certificate, "dot"));
    let dot = || {
        let name = ServerName::try_from(NAME).unwrap();
        Ok(StreamOwned::new(ClientConnection::new(tls.clone(), name).unwrap(), tcp(at(Transport::Tls))?))
    };
    std::thread::scope(|scope| {
        let ending = Stop(&stop);
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(("udp", scope.spawn(|| by_udp(at(Transport::Udp), question, &stop))));
        }
        clients.push(("tcp", scope.spawn(|| by_streams(|| tcp(at(Transport::Tcp)), question, &stop))));
        clients.push(("dot", scope.spawn(|| by_streams(dot, question, &stop))));
        clients.push(("doh", scope.spawn(|| RUNTIME.block_on(by_https(server, question, &stop, false)))));
        clients.push(("doh anew", scope.spawn(|| RUNTIME.block_on(by_https(server, question, &stop, true)))));
        clients.push(("doh strict", scope.spawn(|| RUNTIME.block_on(by_strict_https(server, question, &stop)))));
        clients.push(("doh 1.1", scope.spawn(|| RUNTIME.block_on(by_http1(server, question, &stop)))));
        work();
        drop(ending);
        let mut answers = BTreeMap::new();
        for (transport, client) in clients {
            *answers.entry(transport).or_default() += client.join().expect("nothing is lost");
        }
        answers
    })
}

/// Processes that replace one another. All of them end with the test.
pub struct Succession {
    directory: PathBuf,
    /// The id of the process that serves.
    pub current: u32,
    /// The processes that the test started; processes of the succession start others themselves.
    started: Vec<Process>,
    seen: BTreeSet<u32>,
}

impl Succession {
    /// Begins with a running process, whose log is in the scratch directory.
    pub fn new(scratch: &Scratch, first: u32) -> Succession {
        let directory = scratch.path().to_path_buf();
        Succession { directory, current: first, started: Vec::new(), seen: BTreeSet::new() }
    }

    /// The logs of all processes.
    pub fn logs(&self) -> String {
        let files = fs::read_dir(&self.directory).into_iter().flatten().map(|entry| entry.unwrap().path());
        let logs = files.filter(|file| file.extension().is_some_and(|extension| extension == "log"));
        logs.map(|log| String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned()).collect()
    }

    /// The ids of the processes that logged an event.
    fn processes(&self, event: &str) -> BTreeSet<u32> {
        let (logs, event) = (self.logs(), format!("{event} process="));
        let words = logs.match_indices(&event).filter_map(|(at, _)| logs[at + event.len()..].split_whitespace().next());
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// Makes the process that serves start its successor, and waits until the successor has taken
    /// over.
    pub fn renew(&mut self) {
        self.renew_soon();
        self.follow();
    }

    /// Makes the process that serves start its successor, without waiting.
    pub fn renew_soon(&self) {
        kill_process(Pid::from_raw(self.current as i32).unwrap(), Signal::USR2).unwrap();
    }

    /// Starts a successor, and waits until it has taken over.
    pub fn start(&mut self, scratch: &Scratch) {
        let process = self.try_start(scratch, "zonal.yaml");
        self.started.push(process);
        self.follow();
    }

    /// Starts a successor with another configuration. It may not take over.
    pub fn try_start(&self, scratch: &Scratch, config: &str) -> Process {
        let config = scratch.path().join(config);
        let command = [ZONAL, "serve", "--config", config.to_str().unwrap()];
        Process::start(&command, scratch, &format!("zonal-{}", self.started.len() + 2))
    }

    /// Waits until a successor has taken over and the previous process has ended.
    pub fn follow(&mut self) {
        let before = self.current;
        self.current = wait_until("another one has taken over", || {
            self.processes("new process took over").into_iter().find(|process| !self.seen.contains(process))
        });
        self.seen.insert(self.current);
        wait_until("the one before it has ended", || has_ended(before).then_some(()));
    }
}

impl Drop for Succession {
    fn drop(&mut self) {
        for process in self.processes("takeover started").union(&self.seen) {
            let program = fs::read_link(format!("/proc/{process}/exe"));
            if program.is_ok_and(|program| program.as_os_str() == ZONAL) {
                let _ = kill_process(Pid::from_raw(*process as i32).unwrap(), Signal::KILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("--- logs\n{}", self.logs());
        }
    }
}
