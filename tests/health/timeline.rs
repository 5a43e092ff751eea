//! What a client is answered, and when: a thread asks a node again and again, and notes each answer that differs from the
//! one before.

use crate::harness::{lab::Lab, reply::Reply};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

/// The pause between two queries.
const PAUSE: Duration = Duration::from_millis(10);
/// The time without a reply after which a query counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// Addresses in ascending order. None for a query that was lost.
pub type Answer = Option<Vec<String>>;

#[derive(Default)]
struct Noted {
    /// Each answer that differs from the one before, with its time.
    answers: Vec<(Instant, Answer)>,
    /// The time at which the last query with an answer was sent.
    asked: Option<Instant>,
}

/// The answers about `svc.example` that a client gets from a node.
pub struct Timeline {
    /// Names of the client and the node.
    name: String,
    noted: Arc<Mutex<Noted>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Timeline {
    /// Begins to ask from the host of a client.
    pub fn start(lab: &Lab, client: &str, node: &str) -> Timeline {
        let socket = lab.inside(client, || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.connect((node, 53)).unwrap();
            socket
        });
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (noted, is_over) = (Arc::new(Mutex::new(Noted::default())), Arc::new(AtomicBool::new(false)));
        let (of_thread, over) = (noted.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            for id in (0..=u16::MAX).cycle() {
                if over.load(Relaxed) {
                    return;
                }
                let sent = Instant::now();
                let answer = ask(&socket, id);
                let mut noted = of_thread.lock().unwrap();
                if answer.is_some() {
                    noted.asked = Some(sent);
                }
                if noted.answers.last().is_none_or(|(_, last)| *last != answer) {
                    noted.answers.push((Instant::now(), answer));
                }
                drop(noted);
                sleep(PAUSE);
            }
        });
        Timeline { name: format!("{client} at {node}"), noted, is_over, thread: Some(thread) }
    }

    /// Waits until a query that is sent after `begin` is answered with `expected`. Returns the time from `begin` to the first
    /// such answer, which may be that of an earlier query: then it is zero. Panics after `limit`.
    pub fn wait_for(&self, expected: &[&str], begin: Instant, limit: Duration) -> Duration {
        loop {
            let (last, asked) = {
                let noted = self.noted.lock().unwrap();
                (noted.answers.last().cloned(), noted.asked)
            };
            if let Some((at, Some(answer))) = &last
                && answer == expected
                && asked.is_some_and(|asked| asked >= begin)
            {
                let duration = at.saturating_duration_since(begin);
                assert!(duration <= limit, "{}: {expected:?} came after {duration:?}, more than {limit:?}", self.name);
                return duration;
            }
            assert!(
                begin.elapsed() <= limit,
                "{}: the answer is not {expected:?} within {limit:?}: {:#?}",
                self.name,
                self.since(begin)
            );
            sleep(PAUSE);
        }
    }

    /// The answers since `begin`, with the one that was current then.
    pub fn since(&self, begin: Instant) -> Vec<Answer> {
        let noted = self.noted.lock().unwrap();
        let first = noted.answers.iter().rposition(|(at, _)| *at <= begin).unwrap_or(0);
        noted.answers[first..].iter().map(|(_, answer)| answer.clone()).collect()
    }

    /// Panics unless every answer since `begin` has exactly these addresses. A query may be lost if `may_lose` is set.
    pub fn assert_only(&self, expected: &[&str], begin: Instant, may_lose: bool) {
        for answer in self.since(begin) {
            let is_right = answer.as_ref().map_or(may_lose, |answer| answer == expected);
            assert!(is_right, "{}: {answer:?}, not {expected:?}", self.name);
        }
    }

    /// Panics unless every answer since `begin` has `from` or a part of it, and all of `to`, each answer no farther from `to`
    /// than the one before. No query may be lost.
    pub fn assert_steps(&self, from: &[&str], to: &[&str], begin: Instant) {
        let (from, to): (Vec<String>, Vec<String>) =
            (from.iter().map(|a| a.to_string()).collect(), to.iter().map(|a| a.to_string()).collect());
        let distance = |answer: &[String]| {
            let is_between = |address: &String| from.contains(address) || to.contains(address);
            assert!(answer.iter().all(is_between), "{}: {answer:?} between {from:?} and {to:?}", self.name);
            answer.iter().filter(|address| !to.contains(address)).count()
                + to.iter().filter(|address| !answer.contains(address)).count()
        };
        let answers = self.since(begin);
        let mut last = usize::MAX;
        for answer in &answers {
            let Some(answer) = answer else { panic!("{}: a query is lost: {answers:#?}", self.name) };
            let now = distance(answer);
            assert!(now <= last, "{}: {answers:#?} is no way from {from:?} to {to:?}", self.name);
            last = now;
        }
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Asks once. Replies to earlier queries are passed over.
fn ask(socket: &UdpSocket, id: u16) -> Answer {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii("svc.example.").unwrap(), RecordType::A));
    socket.send(&message.to_vec().unwrap()).ok()?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).ok()?;
        if buffer[..2] == id.to_be_bytes() {
            let reply = Reply::of_message(&buffer[..length]);
            let mut addresses: Vec<String> = reply.data("A").into_iter().map(String::from).collect();
            addresses.sort();
            return Some(addresses);
        }
    }
}
