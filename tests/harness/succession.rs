//! A server that is restarted again and again, and clients that ask it meanwhile: each question once, and each is answered
//! once.

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

/// What has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client that has not asked for so long makes a new connection: the server may be about to close the one that it has.
const IDLE: Duration = Duration::from_millis(200);
/// How long clients pause between questions: the machine is to restart servers, too.
const PAUSE: Duration = Duration::from_millis(3);

/// A question of type TXT.
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

/// The text that a reply to one has, and when the server wants idle connections closed.
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

/// What is asked, and what the answer has to be.
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

/// Asks by UDP, eight at a time, until it is told to stop. Returns how many answers there were.
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

/// Asks by connections, each used until the server wants it closed.
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

/// Asks by HTTP/2, by connections each of which is used until the server says that it goes, or for one question.
async fn by_https(server: &SecureServer, question: Question, stop: &AtomicBool, anew: bool) -> u64 {
    let client = server.client("127.0.0.1");
    // Who keeps a socket that nobody answers at lets connections come.
    let connect = async || timeout(PATIENCE, client.h2()).await.expect("a connection");
    let (mut sender, mut answers) = (connect().await, 0);
    while !stop.load(Relaxed) {
        if sender.ready().await.is_err() || anew {
            sender = connect().await;
        }
        let request = sender.send_request(request(&query(0, question.name, false)));
        // The connection was closed before it was sent, or the server has said that it does not take it (RFC 9113, 6.8).
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
            // hyper forgets what it is given at the very moment when a connection ends. What was sent has an error.
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

/// The same by a client that is as strict as Python's.
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

/// Asks by HTTP/1.1, by connections each of which is used until the server says that it is the last time.
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

/// Does something while clients ask by UDP, TCP, DoT and DoH. Returns how many answers they had.
pub fn under_load(server: &SecureServer, question: Question, work: impl FnOnce()) -> BTreeMap<&'static str, u64> {
    /// However it ends, the load must, or the scope waits for ever.
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

/// Processes that take over from one another. All of them end with the test.
pub struct Succession {
    directory: PathBuf,
    /// The one that serves.
    pub current: u32,
    /// Those that were started here, and not by another one.
    started: Vec<Process>,
    seen: BTreeSet<u32>,
}

impl Succession {
    /// One that begins with a process, whose log is in this directory.
    pub fn new(scratch: &Scratch, first: u32) -> Succession {
        let directory = scratch.path().to_path_buf();
        Succession { directory, current: first, started: Vec::new(), seen: BTreeSet::new() }
    }

    /// The logs of all.
    pub fn logs(&self) -> String {
        let files = fs::read_dir(&self.directory).into_iter().flatten().map(|entry| entry.unwrap().path());
        let logs = files.filter(|file| file.extension().is_some_and(|extension| extension == "log"));
        logs.map(|log| String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned()).collect()
    }

    /// Those of whom a log says this.
    fn processes(&self, event: &str) -> BTreeSet<u32> {
        let (logs, event) = (self.logs(), format!("{event} process="));
        let words = logs.match_indices(&event).filter_map(|(at, _)| logs[at + event.len()..].split_whitespace().next());
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// Has the process that serves start another one, which takes over.
    pub fn renew(&mut self) {
        self.renew_soon();
        self.follow();
    }

    /// Likewise, without waiting for it.
    pub fn renew_soon(&self) {
        kill_process(Pid::from_raw(self.current as i32).unwrap(), Signal::USR2).unwrap();
    }

    /// Starts one beside it, which takes over.
    pub fn start(&mut self, scratch: &Scratch) {
        let process = self.try_start(scratch, "zonal.yaml");
        self.started.push(process);
        self.follow();
    }

    /// Starts one beside it with another configuration. It may not take over.
    pub fn try_start(&self, scratch: &Scratch, config: &str) -> Process {
        let config = scratch.path().join(config);
        let command = [ZONAL, "serve", "--config", config.to_str().unwrap()];
        Process::start(&command, scratch, &format!("zonal-{}", self.started.len() + 2))
    }

    /// Waits until another one has taken over, and the one before it has ended.
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
