//! One question, and the tries that are made until somebody answers it.

use super::{
    Failure, Response,
    pending::{Event, Kind, Pending, Trouble},
    query::{Said, Spelt, said},
    server::{Sent, Server, Way},
    spellings::Spellings,
};
use crate::{
    answer::known::Question,
    config::DnstapMessage,
    manifest::Protocol,
    wire::{
        query::{LookupName, rcode},
        rdata::rtype,
    },
};
use std::{
    borrow::Cow,
    fmt::Write,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// So many tries that are made because time passes.
const MOST_TRIES: usize = 14;
/// And so many in all.
const MOST_SENT: usize = 32;
/// How often a question is asked again because a connection is closed that was kept, or on which others were answered.
const MOST_CLOSED: usize = 8;
/// And because one ended on which nothing was answered, with this question alone on it.
const MOST_BROKEN: usize = 1;
/// How often a question is sent anew at once when somebody guesses at its answer and TCP is of no use; then only as time
/// passes.
const MAX_RENEWALS: usize = 4;
/// After so many tries, the interval grows by this from one to the next: what is lost by chance is soon asked again, and
/// who is gone is not asked all the time.
const STEADY_TRIES: usize = 5;
const GROWTH: f64 = 1.5;
/// A stream delivers what is lost by itself: another try is made later, but for this time at least.
const STREAM_INTERVAL: Duration = Duration::from_secs(1);
/// So many attempts of a question may wait for an answer: in all, and at one server. Each is a pair of port and id that
/// whoever forges answers may guess.
const MAX_IN_FLIGHT: (usize, usize) = (3, 2);
/// So many tries of a question may be on a server's connections at the same time: the first, and one by a connection of its
/// own. Each may hold up others, where answers come in the order of the questions.
const MOST_HELD: usize = 2;
/// How long the answer to a probe is waited for.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to the first probe of a server that is down, and the longest time from one to the next.
const PROBES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// How many servers the text of a failure names.
const MOST_NAMED: usize = 3;

/// A question on its way.
pub struct Asking<'a> {
    spellings: &'a Spellings,
    servers: &'a [Arc<Server>],
    pending: Arc<Pending>,
    mark: Option<u64>,
    tries: Vec<Try>,
    /// What is wrong with servers, and whether they are not asked again.
    notes: Vec<(usize, Trouble, bool)>,
    /// How many connections were closed.
    closed: usize,
    /// How many connections ended on which nothing was answered.
    broken: usize,
    /// Somebody has guessed at the answer.
    is_guessed: bool,
    /// How often it was sent anew at once for that.
    renewals: usize,
}

struct Try {
    server: usize,
    at: Instant,
    /// None if there is nothing more to come.
    sent: Option<Sent>,
    /// Its time is over.
    overdue: bool,
}

/// What is to be done.
enum Step {
    /// This is the answer.
    Done(Response),
    /// Another server is asked at once.
    Next,
    /// Wait on.
    Wait,
}

impl<'a> Asking<'a> {
    /// A question to some servers.
    pub fn new(spellings: &'a Spellings, servers: &'a [Arc<Server>], question: &Question) -> Asking<'a> {
        let spelt = Spelt::new(question);
        // Those that fold case are not sent the spelling.
        let mark = spelt.mark().filter(|_| servers.iter().any(|server| server.case.keeps() != Some(false)));
        mark.inspect(|mark| spellings.insert(*mark));
        let pending = Arc::new(Pending::new(spelt));
        Asking {
            spellings,
            servers,
            pending,
            mark,
            tries: Vec::new(),
            notes: Vec::new(),
            closed: 0,
            broken: 0,
            is_guessed: false,
            renewals: 0,
        }
    }

    /// Asks until one of them answers, none is left, or the time is over.
    pub async fn run(mut self, deadline: Instant) -> Result<Response, Failure> {
        let order = self.order();
        let mut sleep = pin!(sleep_until(deadline));
        let mut turn = 0;
        while turn < MOST_TRIES && self.tries.len() < MOST_SENT {
            let at = |turn: usize| order[turn % order.len()];
            let Some(next) = (turn..turn + order.len()).find(|turn| !self.is_useless(at(*turn))) else { break };
            let server = at(next);
            let due = self.tcp_due(server).filter(|due| *due > Instant::now());
            if let Some(due) = due {
                if due >= deadline {
                    break;
                }
                if let Some(response) = self.wait(due, sleep.as_mut(), turn < order.len()).await {
                    return Ok(response);
                }
                turn = next;
                continue;
            }
            turn = next + 1;
            let growth = GROWTH.powi((next + 1).saturating_sub(STEADY_TRIES) as i32);
            let mut interval = self.interval(server).mul_f64(growth);
            let way = if next < order.len() { Way::Usual } else { Way::Fresh };
            if self.is_held(server) {
                interval = STREAM_INTERVAL;
            } else if self.tcp_due(server).is_some() {
                match self.is_guessed {
                    true => self.renew(server),
                    false => self.fall_back(server),
                };
            } else if let Err(trouble) = self.send(server, way) {
                self.trouble(server, trouble);
                if turn < order.len() || self.is_useless(server) {
                    continue;
                }
            }
            let until = Instant::now() + interval;
            if until >= deadline {
                break;
            }
            if let Some(response) = self.wait(until, sleep.as_mut(), turn < order.len()).await {
                return Ok(response);
            }
        }
        match self.wait(deadline, sleep.as_mut(), false).await {
            Some(response) => Ok(response),
            None => Err(self.failure()),
        }
    }

    /// Whether none of the servers has answered for long.
    pub fn is_hopeless(&self) -> bool {
        let now = Instant::now();
        self.servers.iter().all(|server| server.health().is_dead(now))
    }

    /// In which order they are asked.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<_> = self.servers.iter().enumerate().map(|(at, one)| (one.health().rank(), at)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, at)| at).collect()
    }

    fn interval(&self, server: usize) -> Duration {
        let server = &self.servers[server];
        let interval = server.health().interval();
        match server.target.protocol {
            Protocol::Do53 => interval,
            // Answers that waited for others tell nothing of how long those take that have not to.
            Protocol::DoT => STREAM_INTERVAL,
            Protocol::DoH | Protocol::DoQ => (2 * interval).max(STREAM_INTERVAL),
        }
    }

    /// Whether it has all the tries on its connections that it may have.
    fn is_held(&self, server: usize) -> bool {
        let held = self.tries.iter().filter(|this| this.server == server).filter_map(|this| this.sent.as_ref());
        let held = held.filter(|sent| sent.is_by_stream());
        held.clone().count() >= MOST_HELD || held.clone().any(Sent::is_queued)
    }

    /// When a server that has been asked by TCP after UDP may be asked by TCP again: it will not answer by UDP.
    fn tcp_due(&self, server: usize) -> Option<Instant> {
        let is_by_tcp = |this: &&Try| this.server == server && this.sent.as_ref().is_some_and(Sent::is_tcp_after_udp);
        self.tries.iter().filter(is_by_tcp).map(|this| this.at + STREAM_INTERVAL).max()
    }

    fn is_useless(&self, server: usize) -> bool {
        self.notes.iter().any(|(other, _, useless)| *other == server && *useless)
    }

    /// Whether an answer can come yet without a new try.
    fn is_waiting(&self) -> bool {
        self.tries.iter().any(|this| this.sent.is_some())
    }

    fn send(&mut self, server: usize, way: Way) -> Result<(), Trouble> {
        let (this, at, number) = (&self.servers[server], Instant::now(), self.tries.len());
        let sent = this.send(&self.pending, number, way, at)?;
        self.make_room(server);
        if number > 0 {
            this.counters.retries.inc();
        }
        self.tries.push(Try { server, at, sent: Some(sent), overdue: false });
        Ok(())
    }

    /// Gives up an attempt if there are too many for another one at this server. The first one at each server stays for as
    /// long as possible, as the server may take its time; the newest one is there in case a packet was lost.
    fn make_room(&mut self, server: usize) {
        let (in_all, at_one) = MAX_IN_FLIGHT;
        let waiting = |this: &&Try| this.sent.is_some();
        let count = |server| self.tries.iter().filter(waiting).filter(|this| this.server == server).count();
        let newest = |server| self.tries.iter().rposition(|this| this.server == server && this.sent.is_some());
        let given_up = if count(server) >= at_one {
            newest(server)
        } else if self.tries.iter().filter(waiting).count() >= in_all {
            let doubled = self.tries.iter().filter(waiting).map(|this| this.server).find(|one| count(*one) > 1);
            doubled.map_or_else(|| self.tries.iter().position(|this| this.sent.is_some()), newest)
        } else {
            None
        };
        if let Some(given_up) = given_up {
            self.tries[given_up].sent = None;
        }
    }

    /// Waits for an answer until the time is over, or there is reason to ask another server at once.
    async fn wait(&mut self, until: Instant, mut sleep: Pin<&mut Sleep>, others: bool) -> Option<Response> {
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        let all_useless = |this: &Self| (0..this.servers.len()).all(|server| this.is_useless(server));
        while self.is_waiting() || !all_useless(self) {
            let Some((number, event)) = self.pending.next(sleep.as_mut()).await else {
                self.overdue();
                return None;
            };
            match self.take(number, event) {
                Step::Done(response) => return Some(response),
                Step::Next if others => return None,
                _ => {}
            }
        }
        None
    }

    /// The last try takes too long.
    fn overdue(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.tries.last_mut()
            && last.sent.as_ref().is_some_and(|sent| !sent.is_queued())
            && !std::mem::replace(&mut last.overdue, true)
        {
            let server = &self.servers[last.server];
            server.counters.timeouts.inc();
            server.tally.timed_out();
            let mut health = server.health();
            let in_vain = now.saturating_duration_since(last.at) >= health.interval();
            if in_vain && health.timed_out(last.at, now) {
                drop(health);
                probe_until_up(server);
            }
        }
    }

    fn take(&mut self, number: usize, event: Event) -> Step {
        let Some(this) = self.tries.get_mut(number) else { return Step::Wait };
        let server = this.server;
        match event {
            Event::Answer(message) => {
                let Some(sent) = this.sent.take() else { return Step::Wait };
                let now = Instant::now();
                self.servers[server].counters.answers.inc();
                sent.tell(DnstapMessage::ForwarderResponse, &message);
                self.servers[server].tally.answered(&message, now.saturating_duration_since(this.at));
                match sent.is_tcp_after_udp() {
                    true => self.servers[server].health().heard(now),
                    false => self.servers[server].health().answered(this.at, now),
                }
                self.answered(server, message, &sent)
            }
            Event::Guessed => match this.sent.as_ref().is_some_and(Sent::is_datagram) {
                true => self.guessed(server),
                false => Step::Wait,
            },
            Event::Failed(trouble) => {
                let Some(sent) = this.sent.take() else { return Step::Wait };
                let (is_tcp, is_stream) = (sent.is_tcp_after_udp(), sent.is_by_stream());
                drop(sent);
                // Alone on its connection, a question suffers for no other, and no other for it.
                let (is_again, alone) = match trouble.kind {
                    Kind::Closed | Kind::Doubtful => {
                        self.closed += 1;
                        (self.closed <= MOST_CLOSED, trouble.kind == Kind::Doubtful || self.closed > 1)
                    }
                    Kind::Broken => {
                        self.broken += 1;
                        (self.broken <= MOST_BROKEN, true)
                    }
                    _ => (false, false),
                };
                let way = match (is_tcp, alone && is_stream) {
                    (true, true) => Way::FreshTcp,
                    (true, false) => Way::Tcp,
                    (false, true) => Way::Fresh,
                    (false, false) => Way::Usual,
                };
                if is_again && self.tries.len() < MOST_SENT && self.send(server, way).is_ok() {
                    return Step::Wait;
                }
                if is_tcp && self.is_guessed && trouble.kind != Kind::Answer {
                    return self.renew(server);
                }
                self.trouble(server, trouble);
                Step::Next
            }
        }
    }

    fn answered(&mut self, server: usize, message: Vec<u8>, sent: &Sent) -> Step {
        let this = &self.servers[server];
        let text: Cow<'static, str> = match said(&message) {
            Said::Usable => {
                let from = SocketAddr::new(this.target.ip, this.target.port);
                return Step::Done(Response { message, from, is_stream: !sent.is_datagram() });
            }
            Said::Truncated if sent.is_datagram() => return self.fall_back(server),
            Said::Truncated => "truncates its answer on a stream".into(),
            Said::Garbage => "sent an answer that cannot be read".into(),
            Said::Error(code, extended) => {
                let dislikes_edns = matches!(code, rcode::FORMERR | rcode::NOTIMP | rcode::BADVERS);
                if dislikes_edns {
                    // It may be that it has never heard of EDNS (RFC 6891, 7); or it is not for EDNS.
                    this.set_plain(sent.look.edns);
                }
                if dislikes_edns && sent.look.edns && self.send(server, Way::Usual).is_ok() {
                    return Step::Wait;
                }
                describe(code, extended).into()
            }
        };
        self.trouble(server, Trouble::new(Kind::Answer, text));
        Step::Next
    }

    /// Asks the same server by TCP. What is not answered there for a while may wait for others, where answers come in the
    /// order of the questions: then another connection is asked.
    fn fall_back(&mut self, server: usize) -> Step {
        let last = self.tcp_due(server);
        let is_early = last.is_some_and(|due| due > Instant::now());
        if is_early || self.is_held(server) || self.tries.len() >= MOST_SENT {
            return Step::Wait;
        }
        self.servers[server].counters.fallbacks.inc();
        match self.send(server, if last.is_some() { Way::FreshTcp } else { Way::Tcp }) {
            Ok(()) => Step::Wait,
            // The one before may come yet.
            Err(_) if last.is_some() => Step::Wait,
            Err(trouble) => {
                self.trouble(server, trouble);
                Step::Next
            }
        }
    }

    /// Somebody guesses at the answer. The next guess may be right: no answer to what was sent by UDP counts any more. It
    /// goes on by TCP, which cannot be forged.
    fn guessed(&mut self, server: usize) -> Step {
        self.is_guessed = true;
        for this in &mut self.tries {
            this.sent.take_if(|sent| sent.is_datagram());
        }
        match self.servers[server].takes_tcp(Instant::now()) {
            true => self.fall_back(server),
            false => self.send_anew(server),
        }
    }

    /// TCP was of no use after a guess: what else gives service is UDP with another port and id.
    fn renew(&mut self, server: usize) -> Step {
        self.servers[server].note_no_tcp(Instant::now());
        self.send_anew(server)
    }

    fn send_anew(&mut self, server: usize) -> Step {
        if self.renewals >= MAX_RENEWALS || self.tries.len() >= MOST_SENT {
            return Step::Wait;
        }
        self.renewals += 1;
        self.servers[server].counters.renewals.inc();
        match self.send(server, Way::Usual) {
            Ok(()) => Step::Wait,
            Err(trouble) => {
                self.trouble(server, trouble);
                Step::Next
            }
        }
    }

    /// Notes what is wrong with a server.
    fn trouble(&mut self, server: usize, trouble: Trouble) {
        let this = &self.servers[server];
        let is_down = matches!(trouble.kind, Kind::Network | Kind::Unfit);
        if is_down && this.health().refused(trouble.text.clone(), Instant::now()) {
            probe_until_up(this);
        }
        // What cannot be reached may be there again soon.
        let useless = trouble.kind != Kind::Network;
        self.notes.retain(|(other, ..)| *other != server);
        self.notes.push((server, trouble, useless));
    }

    /// Why there is no answer.
    pub fn failure(&self) -> Failure {
        let mut text = String::new();
        let (mut of_network, mut is_local) = (true, true);
        for (at, server) in self.servers.iter().enumerate() {
            let noted = self.notes.iter().find(|(other, ..)| *other == at).map(|(_, trouble, _)| trouble);
            let (kind, what) = match (noted, server.health().trouble()) {
                (Some(trouble), _) => (trouble.kind, trouble.text.clone()),
                (None, Some(trouble)) => (Kind::Network, trouble),
                (None, None) => (Kind::Answer, "did not answer in time".into()),
            };
            of_network &= matches!(kind, Kind::Network | Kind::Unfit);
            is_local &= kind == Kind::Local;
            if at < MOST_NAMED {
                let _ = write!(text, "{}{} {what}", if at == 0 { "" } else { "; " }, server.target);
            }
        }
        self.servers.iter().take(1).for_each(|server| server.counters.failures.inc());
        let code = match (is_local, of_network) {
            (true, _) => 0,
            (_, true) => 23,
            _ => 22,
        };
        Failure { code, text, is_local }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.mark.inspect(|mark| self.spellings.remove(*mark));
    }
}

/// What an error amounts to, in words.
fn describe(code: u16, extended: Option<(u16, String)>) -> String {
    let known = rcode::MNEMONICS.iter().find(|(known, _)| *known == code);
    let mut text = known.map_or(format!("answered RCODE {code}"), |(_, mnemonic)| format!("answered {mnemonic}"));
    if let Some((code, why)) = extended {
        let _ = write!(text, " (EDE {code}{}{why})", if why.is_empty() { "" } else { ": " });
    }
    text
}

/// Sends a server that is down a query now and then, until it answers or nobody needs it.
pub fn probe_until_up(server: &Arc<Server>) {
    if server.probing.swap(true, Relaxed) {
        return;
    }
    let server = Arc::downgrade(server);
    tokio::spawn(async move {
        let (mut pause, longest) = PROBES;
        loop {
            sleep(pause).await;
            pause = (2 * pause).min(longest);
            let Some(server) = server.upgrade() else { return };
            if probe(&server, Way::Fresh).await {
                server.probing.store(false, Relaxed);
                return;
            }
        }
    });
}

/// Sends a server a query to learn how well it answers.
pub fn probe_once(server: &Arc<Server>) {
    if server.probing.load(Relaxed) {
        return;
    }
    let server = server.clone();
    tokio::spawn(async move { probe(&server, Way::Usual).await });
}

/// Whether a server answers; anything will do.
async fn probe(server: &Arc<Server>, way: Way) -> bool {
    let name = LookupName::new(&server.probe).unwrap_or_else(LookupName::root);
    let question = Question { name: &name, qtype: rtype::SOA, dnssec_ok: false, checking_disabled: false };
    let pending = Arc::new(Pending::new(Spelt::new(&question)));
    let at = Instant::now();
    server.counters.probes.inc();
    let event = match server.send(&pending, 0, way, at) {
        Err(trouble) => Some(Event::Failed(trouble)),
        Ok(sent) => {
            let event = pending.next(pin!(sleep_until(at + PROBE_TIMEOUT))).await.map(|(_, event)| event);
            if let Some(Event::Answer(message)) = &event {
                sent.tell(DnstapMessage::ForwarderResponse, message);
            }
            event
        }
    };
    let now = Instant::now();
    let mut health = server.health();
    let is_down = match event {
        Some(Event::Answer(message)) => {
            server.tally.answered(&message, now.saturating_duration_since(at));
            health.answered(at, now);
            return true;
        }
        Some(Event::Failed(Trouble { kind: Kind::Network | Kind::Unfit, text })) => health.refused(text, now),
        Some(_) => false,
        None => {
            server.tally.timed_out();
            health.timed_out(at, now)
        }
    };
    drop(health);
    if is_down {
        probe_until_up(server);
    }
    false
}
