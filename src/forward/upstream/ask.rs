//! One question, and the tries that are made until somebody answers it.

use super::{
    Failure, Way as Servers,
    confirm::{Confirmation, Verdict},
    named,
    pending::{Event, Kind, Pending, Trouble},
    probe::probe_until_up,
    query::{Look, Said, Spelt, said},
    server::{Sent, Server, Way},
    spellings::Spellings,
};
use crate::{
    answer::known::Question,
    config::DnstapMessage,
    forward::read::Useless,
    manifest::Protocol,
    snapshot::routes::Route,
    wire::codes::{ede, rcode},
};
use std::{
    borrow::Cow,
    fmt::Write,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

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
/// How many servers the text of a failure names.
const MOST_NAMED: usize = 3;
/// So often a question that needs DNSSEC records is asked with EDNS of a server that refuses EDNS.
const EDNS_TRIES: usize = 2;

/// A question on its way.
pub struct Asking<'a> {
    spellings: &'a Spellings,
    way: &'a Servers,
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
    /// The servers that have refused EDNS, each time that they did.
    refused_edns: Vec<usize>,
    /// Answers in another case: of these servers, none by UDP counts that is not confirmed.
    confirmations: Vec<(usize, Confirmation)>,
    /// Somebody has guessed at the answer.
    is_guessed: bool,
    /// How often it was sent anew at once for that.
    renewals: usize,
}

/// Why no server answered: for clients, and with the servers' addresses.
pub struct Failed {
    code: u16,
    text: String,
    details: String,
    is_local: bool,
}

impl Failed {
    /// As clients of a route are told.
    pub fn told(self, route: &Route) -> Failure {
        let Failed { code, text, details, is_local } = self;
        Failure { code, text: format!("{}: {text}", named(route)), details, is_local }
    }
}

struct Try {
    server: usize,
    at: Instant,
    /// None if there is nothing more to come.
    sent: Option<Sent>,
    /// Its time is over.
    overdue: bool,
    /// It is to confirm what may be forged.
    confirms: bool,
}

/// What is to be done.
enum Step<T> {
    /// This is the answer.
    Done(T),
    /// Another server is asked at once.
    Next,
    /// Wait on.
    Wait,
}

impl<'a> Asking<'a> {
    /// A question to the servers of a route. With `wants_ad`, they tell whether they have validated the answer.
    pub fn new(spellings: &'a Spellings, way: &'a Servers, question: &Question, wants_ad: bool) -> Asking<'a> {
        let servers = &*way.servers;
        let spelt = Spelt::new(question).with_ad(wants_ad);
        // Those that fold case are not sent the spelling.
        let mark = spelt.mark().filter(|_| servers.iter().any(|server| server.case.keeps() != Some(false)));
        mark.inspect(|mark| spellings.insert(*mark));
        let pending = Arc::new(Pending::new(spelt));
        Asking {
            spellings,
            way,
            servers,
            pending,
            mark,
            tries: Vec::new(),
            notes: Vec::new(),
            closed: 0,
            broken: 0,
            refused_edns: Vec::new(),
            confirmations: Vec::new(),
            is_guessed: false,
            renewals: 0,
        }
    }

    /// Asks until `read` takes the answer of one of them, none is left, or the time is over.
    pub async fn run<T>(
        mut self,
        deadline: Instant,
        read: impl Fn(&[u8], bool) -> Result<T, Useless>,
    ) -> Result<T, Failed> {
        let order = self.way.order(Instant::now());
        let mut sleep = pin!(sleep_until(deadline));
        let mut turn = 0;
        while turn < MOST_TRIES && self.tries.len() < MOST_SENT {
            let at = |turn: usize| order[turn % order.len()];
            if self.is_over() {
                break;
            }
            let Some(next) = (turn..turn + order.len()).find(|turn| !self.is_useless(at(*turn))) else { break };
            let server = at(next);
            let due = self.tcp_due(server).filter(|due| *due > Instant::now());
            if let Some(due) = due {
                if due >= deadline {
                    break;
                }
                if let Some(answer) = self.wait(due, sleep.as_mut(), turn < order.len(), &read).await {
                    return Ok(answer);
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
                if self.is_guessed {
                    let _: Step<T> = self.renew(server);
                } else if let Err(trouble) = self.fall_back(server) {
                    self.trouble(server, trouble);
                }
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
            if let Some(answer) = self.wait(until, sleep.as_mut(), turn < order.len(), &read).await {
                return Ok(answer);
            }
        }
        match self.wait(deadline, sleep.as_mut(), false, &read).await {
            Some(answer) => Ok(answer),
            None => Err(self.failure()),
        }
    }

    /// Whether none of the servers has answered for long.
    pub fn is_hopeless(&self) -> bool {
        let now = Instant::now();
        self.servers.iter().all(|server| server.health().is_dead(now))
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

    /// Whether nothing more can come: every server has said why it is of no use, or cannot be reached.
    fn is_over(&self) -> bool {
        let is_noted = |server| self.notes.iter().any(|(other, ..)| *other == server);
        !self.is_waiting() && (0..self.servers.len()).all(is_noted)
    }

    /// Whether an answer can come yet without a new try.
    fn is_waiting(&self) -> bool {
        self.tries.iter().any(|this| this.sent.is_some())
    }

    fn send(&mut self, server: usize, way: Way) -> Result<(), Trouble> {
        if self.is_suspect(server) && matches!(way, Way::Usual | Way::Fresh) {
            return self.confirm(server);
        }
        let mut look = self.servers[server].look(&self.pending.question, Instant::now());
        look.edns &= !self.is_asked_plain(server);
        self.send_as(server, way, look, false)
    }

    fn send_as(&mut self, server: usize, way: Way, look: Look, confirms: bool) -> Result<(), Trouble> {
        let (this, at, number) = (&self.servers[server], Instant::now(), self.tries.len());
        let sent = this.send(&self.pending, number, (way, look), at)?;
        self.make_room(server);
        if number > 0 {
            this.counters.retries.inc();
        }
        self.tries.push(Try { server, at, sent: Some(sent), overdue: false, confirms });
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
    async fn wait<T>(
        &mut self,
        until: Instant,
        mut sleep: Pin<&mut Sleep>,
        others: bool,
        read: &impl Fn(&[u8], bool) -> Result<T, Useless>,
    ) -> Option<T> {
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        while !self.is_over() {
            let Some((number, event)) = self.pending.next(sleep.as_mut()).await else {
                self.overdue();
                return None;
            };
            match self.take(number, event, read) {
                Step::Done(answer) => return Some(answer),
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

    fn take<T>(&mut self, number: usize, event: Event, read: &impl Fn(&[u8], bool) -> Result<T, Useless>) -> Step<T> {
        let Some(this) = self.tries.get_mut(number) else { return Step::Wait };
        let (server, confirms) = (this.server, this.confirms);
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
                match confirms {
                    true => self.confirmed(server, message, &sent, read),
                    false => self.answered(server, message, &sent, read),
                }
            }
            Event::Guessed | Event::Folded(_) if this.sent.as_ref().is_none_or(|sent| !sent.is_datagram()) => {
                Step::Wait
            }
            Event::Guessed => self.guessed(server),
            Event::Folded(message) => {
                match self.confirmations.iter_mut().find(|(other, _)| *other == server) {
                    Some((_, confirmation)) => confirmation.doubt(&message),
                    None => self.confirmations.push((server, Confirmation::new(&message))),
                }
                self.guessed(server)
            }
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
                if is_tcp {
                    return self.tcp_failed(server, trouble);
                }
                self.trouble(server, trouble);
                Step::Next
            }
        }
    }

    fn answered<T>(
        &mut self,
        server: usize,
        mut message: Vec<u8>,
        sent: &Sent,
        read: &impl Fn(&[u8], bool) -> Result<T, Useless>,
    ) -> Step<T> {
        let this = &self.servers[server];
        let text: Cow<'static, str> = match said(&message) {
            Said::Usable => {
                self.pending.question.restore(&mut message);
                match read(&message, !sent.is_datagram()) {
                    Ok(answer) => {
                        if self.is_asked_plain(server) && !sent.look.edns && !self.pending.question.dnssec_ok() {
                            this.set_plain(Instant::now());
                        }
                        self.way.worth(server).useful();
                        return Step::Done(answer);
                    }
                    Err(useless) => useless,
                }
            }
            Said::Truncated if sent.is_datagram() => {
                return match self.fall_back(server) {
                    Ok(()) => Step::Wait,
                    Err(trouble) => self.tcp_failed(server, trouble),
                };
            }
            Said::Truncated => "truncates its answer on a stream".into(),
            Said::Garbage => "sent an answer that cannot be read".into(),
            Said::Error(code, extended) => {
                if matches!(code, rcode::FORMERR | rcode::NOTIMP | rcode::BADVERS) && sent.look.edns {
                    // It may be that it has never heard of EDNS (RFC 6891, 7); or it is not for EDNS.
                    self.refused_edns.push(server);
                    let is_last = || (0..self.servers.len()).all(|other| other == server || self.is_useless(other));
                    let is_again = !self.is_asked_plain(server) || !self.pending.question.dnssec_ok() || is_last();
                    if is_again && self.send(server, Way::Usual).is_ok() {
                        return Step::Wait;
                    }
                }
                describe(code, extended).into()
            }
        };
        self.trouble(server, Trouble::new(Kind::Answer, text));
        Step::Next
    }

    /// Whether a server is asked without EDNS, as it has refused EDNS. Without EDNS there are no DNSSEC records: a question
    /// for them is asked with EDNS more than once.
    fn is_asked_plain(&self, server: usize) -> bool {
        let refused = self.refused_edns.iter().filter(|other| **other == server).count();
        refused >= if self.pending.question.dnssec_ok() { EDNS_TRIES } else { 1 }
    }

    /// Asks the same server by TCP. What is not answered there for a while may wait for others, where answers come in the
    /// order of the questions: then another connection is asked.
    fn fall_back(&mut self, server: usize) -> Result<(), Trouble> {
        let last = self.tcp_due(server);
        let is_early = last.is_some_and(|due| due > Instant::now());
        if is_early || self.is_held(server) || self.tries.len() >= MOST_SENT {
            return Ok(());
        }
        self.servers[server].counters.fallbacks.inc();
        match self.send(server, if last.is_some() { Way::FreshTcp } else { Way::Tcp }) {
            // The one before may come yet.
            Err(_) if last.is_some() => Ok(()),
            sent => sent,
        }
    }

    /// TCP is of no use with a server that answers by UDP: that does not mean that the server is down.
    fn tcp_failed<T>(&mut self, server: usize, trouble: Trouble) -> Step<T> {
        if self.is_guessed && trouble.kind != Kind::Answer {
            return self.renew(server);
        }
        if self.tcp_due(server).is_some() {
            // Another connection may be better.
            return Step::Wait;
        }
        let text = match trouble.kind {
            Kind::Network => format!("truncates its answer by UDP, and by TCP {}", trouble.text).into(),
            _ => trouble.text,
        };
        self.trouble(server, Trouble::new(Kind::Answer, text));
        Step::Next
    }

    /// Somebody guesses at the answer. The next guess may be right: no answer to what was sent by UDP counts any more. It
    /// goes on by TCP, which cannot be forged.
    fn guessed<T>(&mut self, server: usize) -> Step<T> {
        self.is_guessed = true;
        for this in &mut self.tries {
            this.sent.take_if(|sent| sent.is_datagram());
        }
        if !self.servers[server].takes_tcp(Instant::now()) {
            return self.send_anew(server);
        }
        match self.fall_back(server) {
            Ok(()) => Step::Wait,
            Err(trouble) => self.tcp_failed(server, trouble),
        }
    }

    /// TCP was of no use after a guess: what else gives service is UDP with another port and id.
    fn renew<T>(&mut self, server: usize) -> Step<T> {
        self.servers[server].note_no_tcp(Instant::now());
        self.send_anew(server)
    }

    fn send_anew<T>(&mut self, server: usize) -> Step<T> {
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

    /// Whether answers of a server by UDP do not count unless they are confirmed.
    fn is_suspect(&self, server: usize) -> bool {
        self.confirmations.iter().any(|(other, _)| *other == server)
    }

    /// Asks a server once more by UDP, from another port, with another id and in plain case: what several answers to that
    /// agree on is not forged. There is one such query on its way at a time.
    fn confirm(&mut self, server: usize) -> Result<(), Trouble> {
        let late = self.servers[server].health().interval();
        let is_waiting =
            |this: &Try| this.server == server && this.confirms && this.sent.is_some() && this.at.elapsed() < late;
        let confirmation = self.confirmations.iter_mut().find(|(other, _)| *other == server);
        if self.tries.iter().any(is_waiting) || !confirmation.is_some_and(|(_, confirmation)| confirmation.ask()) {
            return Ok(());
        }
        let look = Look { spelt: false, ..self.servers[server].look(&self.pending.question, Instant::now()) };
        self.send_as(server, Way::Usual, look, true)
    }

    /// An answer came that may confirm others.
    fn confirmed<T>(
        &mut self,
        server: usize,
        message: Vec<u8>,
        sent: &Sent,
        read: &impl Fn(&[u8], bool) -> Result<T, Useless>,
    ) -> Step<T> {
        if said(&message) != Said::Usable {
            return self.answered(server, message, sent, read);
        }
        let verdict = match self.confirmations.iter_mut().find(|(other, _)| *other == server) {
            Some((_, confirmation)) => confirmation.take(&message),
            None => Verdict::Agreed { folds: false },
        };
        match verdict {
            Verdict::Agreed { folds } => {
                if folds {
                    self.servers[server].case.set_folds();
                }
                self.answered(server, message, sent, read)
            }
            Verdict::More => {
                let _ = self.confirm(server).inspect_err(|trouble| self.trouble(server, trouble.clone()));
                Step::Wait
            }
            Verdict::Differ => {
                let text = "answers differently each time, its answers may be forged, and TCP is of no use with it";
                self.trouble(server, Trouble::new(Kind::Answer, text));
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
        if matches!(trouble.kind, Kind::Answer | Kind::Broken | Kind::Doubtful) {
            self.way.worth(server).useless(trouble.text.clone(), Instant::now());
        }
        // What cannot be reached may be there again soon.
        let useless = trouble.kind != Kind::Network;
        self.notes.retain(|(other, ..)| *other != server);
        self.notes.push((server, trouble, useless));
    }

    /// Why there is no answer.
    pub fn failure(&self) -> Failed {
        let (mut text, mut details) = (String::new(), String::new());
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
            let and = if at == 0 { "" } else { "; " };
            if at < MOST_NAMED {
                let _ = match self.servers.len() {
                    1 => write!(text, "the target {what}"),
                    _ => write!(text, "{and}target {} {what}", at + 1),
                };
            }
            let _ = write!(details, "{and}{} {what}", server.target);
        }
        self.servers.iter().take(1).for_each(|server| server.counters.failures.inc());
        let code = match (is_local, of_network) {
            (true, _) => 0,
            (_, true) => ede::NETWORK_ERROR,
            _ => ede::NO_REACHABLE_AUTHORITY,
        };
        Failed { code, text, details, is_local }
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
