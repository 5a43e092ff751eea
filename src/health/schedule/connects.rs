//! Attempts by TCP at targets with an address: connections that are opened and closed without a task.
//!
//! The schedule looks at all of them once a tick. Without a task, two timers and a registration with epoll, an attempt costs
//! about half as much CPU.

use super::Done;
use crate::{
    health::probe::{Outcome, close_with_reset, failed, open},
    snapshot::health::{Probe, Target},
};
use rustix::io::Errno;
use socket2::Socket;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// The attempts in progress.
#[derive(Debug, Default)]
pub(super) struct Connects(Vec<Connect>);

#[derive(Debug)]
struct Connect {
    socket: Socket,
    target: Arc<Target>,
    class: usize,
    address: IpAddr,
    begin: Instant,
    limit: Duration,
}

impl Connects {
    /// Whether no attempt is in progress.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins an attempt. Returns its outcome if it ends at once.
    pub(super) fn begin(
        &mut self,
        (target, class): (&Arc<Target>, usize),
        probe: &Probe,
        (address, sources): (IpAddr, &[IpAddr]),
        begin: Instant,
    ) -> Option<Outcome> {
        let to = SocketAddr::new(address, probe.question.port);
        let connect = || {
            let socket = open(to, sources)?;
            match socket.connect(&to.into()) {
                Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
                _ => Ok(socket),
            }
        };
        match connect() {
            Ok(socket) => {
                let limit = probe.timeout.min(probe.interval);
                self.0.push(Connect { socket, target: target.clone(), class, address, begin, limit });
                None
            }
            Err(error) => Some(failed(&error)),
        }
    }

    /// Takes the attempts that have ended at `now`.
    pub(super) fn take_ended(&mut self, now: Instant) -> Vec<Done> {
        let mut ended = Vec::new();
        self.0.retain(|connect| {
            let Some(outcome) = connect.outcome(now) else { return true };
            let Connect { target, class, address, .. } = connect;
            ended.push(Done { target: target.clone(), class: *class, address: Some(*address), outcome });
            false
        });
        ended
    }
}

impl Connect {
    fn outcome(&self, now: Instant) -> Option<Outcome> {
        let error = match self.socket.peer_addr() {
            Ok(_) => None,
            Err(_) => match self.socket.take_error() {
                Ok(None) if now < self.begin + self.limit => return None,
                Ok(None) => return Some(Outcome::timed_out("connect", self.limit)),
                Ok(Some(error)) | Err(error) => Some(error),
            },
        };
        match error {
            // A target that resets the connection has accepted it before.
            Some(error) if error.kind() != io::ErrorKind::ConnectionReset => Some(failed(&error)),
            _ => {
                close_with_reset(&self.socket);
                Some(Outcome::success("connected"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::ProbeType,
        snapshot::health::{ProbeQuestion, TargetId, Verdict, Work},
    };
    use socket2::SockRef;
    use std::{net::TcpListener, thread::sleep};

    /// Returns the outcome of an attempt at a port of 127.0.0.1, and the time that it took.
    fn attempt(port: u16, timeout: Duration) -> (Outcome, Duration) {
        let question = ProbeQuestion {
            probe_type: ProbeType::Tcp,
            address: None,
            name: None,
            vpc: None,
            port,
            path: "/".into(),
            search: None,
            verify_certificate: false,
            max_status: 399,
        };
        let interval = Duration::from_secs(10);
        let probe = Probe { question, interval, timeout, failure_threshold: 1, success_threshold: 1 };
        let target = Arc::new(Target {
            id: TargetId::Check("hc".into()),
            work: Work::Probe(probe.clone()),
            inverted: false,
            disabled: false,
            verdict: Verdict::default(),
        });
        let (mut connects, begin) = (Connects::default(), Instant::now());
        let address = IpAddr::from([127, 0, 0, 1]);
        if let Some(outcome) = connects.begin((&target, 0), &probe, (address, &[]), begin) {
            return (outcome, begin.elapsed());
        }
        loop {
            sleep(Duration::from_millis(5));
            if let Some(done) = connects.take_ended(Instant::now()).pop() {
                assert!(connects.is_empty() && done.address == Some(address));
                return (done.outcome, begin.elapsed());
            }
        }
    }

    #[test]
    fn a_connection_is_a_success_even_if_the_target_resets_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(attempt(port, Duration::from_secs(4)).0, Outcome::success("connected"));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take(2).flatten() {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        });
        assert_eq!(attempt(port, Duration::from_secs(4)).0, Outcome::success("connected"));
        thread.join().unwrap();
        let (refused, _) = attempt(port, Duration::from_secs(4));
        assert_eq!(
            (refused.is_success, refused.is_slow, &*refused.result),
            (false, false, "connect: connection refused")
        );
    }

    #[test]
    fn an_attempt_at_a_silent_target_ends_with_its_time_out() {
        // The queue of connections is full, so the kernel answers no more.
        let listener = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let to = listener.local_addr().unwrap();
        let port = to.as_socket().unwrap().port();
        let _queued: Vec<Socket> = (0..4)
            .map(|_| {
                let socket = open(SocketAddr::from(([127, 0, 0, 1], port)), &[]).unwrap();
                let _ = socket.connect(&to);
                socket
            })
            .collect();
        let limit = Duration::from_millis(300);
        let (silent, duration) = attempt(port, limit);
        assert_eq!((silent.is_slow, &*silent.result), (true, "connect: time-out after 0.3 s"));
        assert!(duration >= limit && duration < Duration::from_secs(60), "{duration:?}");
    }
}
