//! One question to the servers of a route: the attempts that are made until a server answers it.
//!
//! ```text
//! run      while time is left: the next server in the route's order that is not excluded
//!            send: UDP -> truncated -> TCP;  forgery suspected -> TCP, else UDP from another port
//!            wait: for any attempt, until the interval ends or the server fails -> the next server
//! take     response -> take_response -> the answer, or the server is excluded for this question
//!          connection ended -> the same server again, a few times
//! failure  what each server did
//! ```
//!
//! A late response to an earlier attempt is accepted, as long as the attempt is one of [`MAX_IN_FLIGHT`].

use super::{
    ActiveRoute, Failure, Upstreams,
    confirm::{Confirmation, Verdict},
    pending::{AttemptError, AttemptErrorKind, AttemptEvent, PendingQuestion},
    probe::probe_until_up,
    query::{QueryFormat, RandomisedQuestion, ResponseKind, classify_response, describe_error},
    route_label,
    server::{Channel, InFlightQuery, Server},
};
use crate::{
    answer::known::Question,
    config::DnstapMessage,
    forward::read::RejectionReason,
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

/// The maximum number of attempts of one question that are made because an interval ended.
const MAX_TIMED_ATTEMPTS: usize = 14;
/// The maximum number of attempts of one question in all.
const MAX_ATTEMPTS: usize = 32;
/// The maximum number of retries after a server closed an idle connection, or a connection with other answers
/// on it.
const MAX_CLOSED_RETRIES: usize = 8;
/// The maximum number of retries after a server closed a connection on which this question was the only one,
/// without an answer.
const MAX_UNANSWERED_CLOSE_RETRIES: usize = 1;
/// The maximum number of immediate retries by UDP from another port, when a forgery is suspected and TCP fails.
const MAX_RENEWALS: usize = 4;
/// The number of attempts whose intervals are equal: a lost packet is soon repeated. After that, each interval
/// is [`INTERVAL_GROWTH`] times the last one, so that a server that is down gets few packets.
const STEADY_ATTEMPTS: usize = 5;
const INTERVAL_GROWTH: f64 = 1.5;
/// The minimum interval for attempts on a connection: TCP repeats lost packets itself.
const STREAM_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum number of attempts of one question in flight: in all, and to one server. Each is a pair of port
/// and ID that a forged response may hit.
const MAX_IN_FLIGHT: (usize, usize) = (3, 2);
/// The maximum number of attempts of one question on connections to one server: one on a shared connection, and
/// one on its own. On a server that answers in the order of the questions, each delays other questions.
const MAX_STREAM_ATTEMPTS: usize = 2;
/// The maximum number of servers in the text of a failure.
const MAX_SERVERS_IN_TEXT: usize = 3;
/// The number of refusals after which a question for DNSSEC records is sent without EDNS.
const MAX_EDNS_ATTEMPTS: usize = 2;

/// A predicate of a silent server.
const NO_ANSWER: &str = "did not answer in time";

/// A question to the servers of a route, with its attempts.
pub struct UpstreamQuery<'a> {
    upstreams: &'a Upstreams,
    route: &'a Route,
    active: &'a ActiveRoute,
    servers: &'a [Arc<Server>],
    pending: Arc<PendingQuestion>,
    fingerprint: Option<u64>,
    attempts: Vec<Attempt>,
    /// The last error of each server that failed, and whether the server is excluded from this question.
    errors: Vec<(usize, AttemptError, bool)>,
    /// The number of retries after closed connections.
    closed: usize,
    /// The number of retries after connections that were closed without an answer.
    unanswered_closes: usize,
    /// The server of each refusal of EDNS.
    refused_edns: Vec<usize>,
    /// The servers that answered in another case: a response by UDP from one of them counts only when it is
    /// confirmed.
    confirmations: Vec<(usize, Confirmation)>,
    /// Whether a packet arrived that is like a guess at a response.
    is_forgery_suspected: bool,
    /// The number of immediate retries for that reason.
    renewals: usize,
}

struct Attempt {
    server: usize,
    sent_at: Instant,
    /// None once it has failed, was answered or given up.
    in_flight: Option<InFlightQuery>,
    /// Whether its time-out has been counted.
    is_counted_as_timeout: bool,
    /// Whether its response is to confirm a response that may be forged.
    is_confirmation: bool,
}

/// The next step after an event.
enum Step<T> {
    /// Return the answer.
    Done(T),
    /// Ask the next server at once.
    NextServer,
    /// Wait for other events.
    Wait,
}

impl<'a> UpstreamQuery<'a> {
    /// A question that has not been sent yet. With `wants_ad`, servers tell whether they have validated the
    /// answer.
    pub fn new(
        upstreams: &'a Upstreams,
        route: &'a Route,
        active: &'a ActiveRoute,
        question: &Question,
        wants_ad: bool,
    ) -> UpstreamQuery<'a> {
        let servers = &*active.servers;
        let randomised = RandomisedQuestion::new(question).with_ad(wants_ad);
        // Servers that do not keep case get the name in lower case, which is no sign of this node.
        let gets_random_case = |server: &Arc<Server>| server.case_behaviour.keeps_case() != Some(false);
        let fingerprint = randomised.fingerprint().filter(|_| servers.iter().any(gets_random_case));
        fingerprint.inspect(|fingerprint| upstreams.in_flight_names.insert(*fingerprint));
        let pending = Arc::new(PendingQuestion::new(randomised));
        UpstreamQuery {
            upstreams,
            route,
            active,
            servers,
            pending,
            fingerprint,
            attempts: Vec::new(),
            errors: Vec::new(),
            closed: 0,
            unanswered_closes: 0,
            refused_edns: Vec::new(),
            confirmations: Vec::new(),
            is_forgery_suspected: false,
            renewals: 0,
        }
    }

    /// Asks until `read` accepts a response, all servers have failed, or `deadline` passes. `read` gets a
    /// response, and whether it came by a connection, where it cannot be forged.
    ///
    /// # Errors
    /// No response was accepted.
    pub async fn run<T>(
        mut self,
        deadline: Instant,
        read: impl Fn(&[u8], bool) -> Result<T, RejectionReason>,
    ) -> Result<T, Failure> {
        let order = self.active.order(Instant::now());
        let mut sleep = pin!(sleep_until(deadline));
        let mut position = 0;
        while position < MAX_TIMED_ATTEMPTS && self.attempts.len() < MAX_ATTEMPTS {
            let at = |position: usize| order[position % order.len()];
            if self.is_finished() {
                break;
            }
            let Some(next) = (position..position + order.len()).find(|position| !self.is_excluded(at(*position)))
            else {
                break;
            };
            let server = at(next);
            let due = self.tcp_due(server).filter(|due| *due > Instant::now());
            if let Some(due) = due {
                if due >= deadline {
                    break;
                }
                if let Some(answer) = self.wait(due, sleep.as_mut(), position < order.len(), &read).await {
                    return Ok(answer);
                }
                position = next;
                continue;
            }
            position = next + 1;
            let growth = INTERVAL_GROWTH.powi((next + 1).saturating_sub(STEADY_ATTEMPTS) as i32);
            let mut interval = self.interval(server).mul_f64(growth);
            let channel = if next < order.len() { Channel::Default } else { Channel::NewConnection };
            if self.has_all_stream_attempts(server) {
                interval = STREAM_INTERVAL;
            } else if self.tcp_due(server).is_some() {
                if self.is_forgery_suspected {
                    let _: Step<T> = self.renew(server);
                } else if let Err(error) = self.fall_back(server) {
                    self.record_error(server, error);
                }
            } else if let Err(error) = self.send(server, channel) {
                self.record_error(server, error);
                if position < order.len() || self.is_excluded(server) {
                    continue;
                }
            }
            let until = Instant::now() + interval;
            if until >= deadline {
                break;
            }
            if let Some(answer) = self.wait(until, sleep.as_mut(), position < order.len(), &read).await {
                return Ok(answer);
            }
        }
        match self.wait(deadline, sleep.as_mut(), false, &read).await {
            Some(answer) => Ok(answer),
            None => Err(self.failure()),
        }
    }

    /// Whether all servers are [dead](super::health::Health::is_dead).
    pub fn all_dead(&self) -> bool {
        let now = Instant::now();
        self.servers.iter().all(|server| server.health().is_dead(now))
    }

    /// The time until the next attempt after one to this server.
    fn interval(&self, server: usize) -> Duration {
        let server = &self.servers[server];
        let interval = server.health().interval();
        match server.target.protocol {
            Protocol::Do53 => interval,
            // The round trip time is of no use: an answer may wait for other answers on its connection.
            Protocol::DoT => STREAM_INTERVAL,
            Protocol::DoH | Protocol::DoQ => (2 * interval).max(STREAM_INTERVAL),
        }
    }

    /// Whether a server has [`MAX_STREAM_ATTEMPTS`] attempts on its connections, or one that waits for a
    /// connection.
    fn has_all_stream_attempts(&self, server: usize) -> bool {
        let of_server = self.attempts.iter().filter(|this| this.server == server);
        let by_stream = of_server.filter_map(|this| this.in_flight.as_ref()).filter(|query| query.uses_stream());
        by_stream.clone().count() >= MAX_STREAM_ATTEMPTS || by_stream.clone().any(InFlightQuery::is_queued)
    }

    /// The time at which a server with a query in flight by TCP fallback may be asked by TCP again. None if it
    /// has no such query.
    fn tcp_due(&self, server: usize) -> Option<Instant> {
        let is_by_tcp = |this: &&Attempt| {
            this.server == server && this.in_flight.as_ref().is_some_and(InFlightQuery::is_tcp_fallback)
        };
        self.attempts.iter().filter(is_by_tcp).map(|this| this.sent_at + STREAM_INTERVAL).max()
    }

    /// Whether a server is not asked this question again.
    fn is_excluded(&self, server: usize) -> bool {
        self.errors.iter().any(|(other, _, is_excluded)| *other == server && *is_excluded)
    }

    /// Whether every server has failed, and no attempt is in flight.
    fn is_finished(&self) -> bool {
        let has_failed = |server| self.errors.iter().any(|(other, ..)| *other == server);
        !self.is_waiting() && (0..self.servers.len()).all(has_failed)
    }

    /// Whether an attempt is in flight.
    fn is_waiting(&self) -> bool {
        self.attempts.iter().any(|this| this.in_flight.is_some())
    }

    /// Makes an attempt, or a confirmation if responses of the server need one.
    fn send(&mut self, server: usize, channel: Channel) -> Result<(), AttemptError> {
        if self.needs_confirmation(server) && matches!(channel, Channel::Default | Channel::NewConnection) {
            return self.confirm(server);
        }
        let mut format = self.servers[server].query_format(&self.pending.question, Instant::now());
        format.edns &= !self.is_asked_without_edns(server);
        self.send_as(server, channel, format, false)
    }

    fn send_as(
        &mut self,
        server: usize,
        channel: Channel,
        format: QueryFormat,
        is_confirmation: bool,
    ) -> Result<(), AttemptError> {
        let (this, at, number) = (&self.servers[server], Instant::now(), self.attempts.len());
        let sent = this.send(&self.pending, number, (channel, format), at)?;
        self.give_up_attempt(server);
        if number > 0 {
            this.counters.retries.inc();
        }
        self.attempts.push(Attempt {
            server,
            sent_at: at,
            in_flight: Some(sent),
            is_counted_as_timeout: false,
            is_confirmation,
        });
        Ok(())
    }

    /// Gives up an attempt if [`MAX_IN_FLIGHT`] leaves no room for another one to this server. The first
    /// attempt to each server stays, if possible: the server may be slow. The newest was made in case a packet
    /// was lost.
    fn give_up_attempt(&mut self, server: usize) {
        let (in_all, at_one) = MAX_IN_FLIGHT;
        let is_in_flight = |this: &&Attempt| this.in_flight.is_some();
        let count = |server| self.attempts.iter().filter(is_in_flight).filter(|this| this.server == server).count();
        let newest = |server| self.attempts.iter().rposition(|this| this.server == server && this.in_flight.is_some());
        let given_up = if count(server) >= at_one {
            newest(server)
        } else if self.attempts.iter().filter(is_in_flight).count() >= in_all {
            let doubled = self.attempts.iter().filter(is_in_flight).map(|this| this.server).find(|one| count(*one) > 1);
            doubled.map_or_else(|| self.attempts.iter().position(|this| this.in_flight.is_some()), newest)
        } else {
            None
        };
        if let Some(given_up) = given_up {
            self.attempts[given_up].in_flight = None;
        }
    }

    /// Waits for an answer until `until`. Returns early without one if a server fails and there are `others` to
    /// ask.
    async fn wait<T>(
        &mut self,
        until: Instant,
        mut sleep: Pin<&mut Sleep>,
        others: bool,
        read: &impl Fn(&[u8], bool) -> Result<T, RejectionReason>,
    ) -> Option<T> {
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        while !self.is_finished() {
            let Some((number, event)) = self.pending.next(sleep.as_mut()).await else {
                self.note_timeout();
                return None;
            };
            match self.take(number, event, read) {
                Step::Done(answer) => return Some(answer),
                Step::NextServer if others => return None,
                _ => {}
            }
        }
        None
    }

    /// Counts a time-out of the last attempt, and marks its server down after too many.
    fn note_timeout(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.attempts.last_mut()
            && last.in_flight.as_ref().is_some_and(|sent| !sent.is_queued())
            && !std::mem::replace(&mut last.is_counted_as_timeout, true)
        {
            let server = &self.servers[last.server];
            server.counters.timeouts.inc();
            server.own_counters.count_timeout();
            let mut health = server.health();
            let is_overdue = now.saturating_duration_since(last.sent_at) >= health.interval();
            if is_overdue && health.record_timeout(last.sent_at, now) {
                drop(health);
                probe_until_up(server);
                let index = last.server;
                self.log_failure(index, NO_ANSWER);
            }
        }
    }

    /// Handles an event of attempt `number`.
    fn take<T>(
        &mut self,
        number: usize,
        event: AttemptEvent,
        read: &impl Fn(&[u8], bool) -> Result<T, RejectionReason>,
    ) -> Step<T> {
        let Some(this) = self.attempts.get_mut(number) else { return Step::Wait };
        let (server, is_confirmation) = (this.server, this.is_confirmation);
        match event {
            AttemptEvent::Response(message) => {
                let Some(sent) = this.in_flight.take() else { return Step::Wait };
                let now = Instant::now();
                self.servers[server].counters.answers.inc();
                sent.record_dnstap(DnstapMessage::ForwarderResponse, &message);
                self.servers[server].own_counters.count_answer(&message, now.saturating_duration_since(this.sent_at));
                match sent.is_tcp_fallback() {
                    true => self.servers[server].health().record_answer(now),
                    false => self.servers[server].health().record_round_trip(this.sent_at, now),
                }
                match is_confirmation {
                    true => self.take_confirmation(server, message, &sent, read),
                    false => self.take_response(server, message, &sent, read),
                }
            }
            AttemptEvent::ForgerySuspected | AttemptEvent::CaseFolded(_)
                if this.in_flight.as_ref().is_none_or(|sent| !sent.uses_udp()) =>
            {
                Step::Wait
            }
            AttemptEvent::ForgerySuspected => self.suspect_forgery(server),
            AttemptEvent::CaseFolded(message) => {
                match self.confirmations.iter_mut().find(|(other, _)| *other == server) {
                    Some((_, confirmation)) => confirmation.add_folded(&message),
                    None => self.confirmations.push((server, Confirmation::new(&message))),
                }
                self.suspect_forgery(server)
            }
            AttemptEvent::Failed(error) => {
                let Some(sent) = this.in_flight.take() else { return Step::Wait };
                let (is_tcp, is_stream) = (sent.is_tcp_fallback(), sent.uses_stream());
                drop(sent);
                // On its own connection, a question neither delays nor breaks others.
                let (is_again, exclusive) = match error.kind {
                    AttemptErrorKind::Closed | AttemptErrorKind::ClosedAmbiguous => {
                        self.closed += 1;
                        (
                            self.closed <= MAX_CLOSED_RETRIES,
                            error.kind == AttemptErrorKind::ClosedAmbiguous || self.closed > 1,
                        )
                    }
                    AttemptErrorKind::ClosedUnanswered => {
                        self.unanswered_closes += 1;
                        (self.unanswered_closes <= MAX_UNANSWERED_CLOSE_RETRIES, true)
                    }
                    _ => (false, false),
                };
                let channel = match (is_tcp, exclusive && is_stream) {
                    (true, true) => Channel::NewTcpConnection,
                    (true, false) => Channel::Tcp,
                    (false, true) => Channel::NewConnection,
                    (false, false) => Channel::Default,
                };
                if is_again && self.attempts.len() < MAX_ATTEMPTS && self.send(server, channel).is_ok() {
                    return Step::Wait;
                }
                if is_tcp {
                    return self.tcp_failed(server, error);
                }
                self.record_error(server, error);
                Step::NextServer
            }
        }
    }

    /// Handles a response: the answer, a reason to try another transport, or an error of the server.
    fn take_response<T>(
        &mut self,
        server: usize,
        mut message: Vec<u8>,
        sent: &InFlightQuery,
        read: &impl Fn(&[u8], bool) -> Result<T, RejectionReason>,
    ) -> Step<T> {
        let this = &self.servers[server];
        let text: Cow<'static, str> = match classify_response(&message) {
            ResponseKind::Usable => {
                self.pending.question.restore(&mut message);
                match read(&message, !sent.uses_udp()) {
                    Ok(answer) => {
                        if self.is_asked_without_edns(server) && !sent.format.edns && !self.pending.question.dnssec_ok()
                        {
                            this.disable_edns(Instant::now());
                        }
                        self.active.usefulness(server).record_useful();
                        return Step::Done(answer);
                    }
                    Err(reason) => reason,
                }
            }
            ResponseKind::Truncated if sent.uses_udp() => {
                return match self.fall_back(server) {
                    Ok(()) => Step::Wait,
                    Err(error) => self.tcp_failed(server, error),
                };
            }
            ResponseKind::Truncated => "truncates its answer on a connection".into(),
            ResponseKind::Garbage => "sent an answer that cannot be read".into(),
            ResponseKind::Error(code, extended) => {
                if matches!(code, rcode::FORMERR | rcode::NOTIMP | rcode::BADVERS) && sent.format.edns {
                    // The server may not support EDNS (RFC 6891, section 7), or the error may have another
                    // reason.
                    self.refused_edns.push(server);
                    let is_last = || (0..self.servers.len()).all(|other| other == server || self.is_excluded(other));
                    let is_again =
                        !self.is_asked_without_edns(server) || !self.pending.question.dnssec_ok() || is_last();
                    if is_again && self.send(server, Channel::Default).is_ok() {
                        return Step::Wait;
                    }
                }
                describe_error(code, extended).into()
            }
        };
        self.record_error(server, AttemptError::new(AttemptErrorKind::BadResponse, text));
        Step::NextServer
    }

    /// Whether this question goes to a server without EDNS, since the server refused EDNS. A response without
    /// EDNS has no DNSSEC records: a question for them is sent with EDNS [`MAX_EDNS_ATTEMPTS`] times.
    fn is_asked_without_edns(&self, server: usize) -> bool {
        let refused = self.refused_edns.iter().filter(|other| **other == server).count();
        refused >= if self.pending.question.dnssec_ok() { MAX_EDNS_ATTEMPTS } else { 1 }
    }

    /// Asks the same server by TCP. After [`STREAM_INTERVAL`] without a response, uses a connection of its own:
    /// the first may wait for answers to other questions.
    fn fall_back(&mut self, server: usize) -> Result<(), AttemptError> {
        let last = self.tcp_due(server);
        let is_early = last.is_some_and(|due| due > Instant::now());
        if is_early || self.has_all_stream_attempts(server) || self.attempts.len() >= MAX_ATTEMPTS {
            return Ok(());
        }
        self.servers[server].counters.fallbacks.inc();
        match self.send(server, if last.is_some() { Channel::NewTcpConnection } else { Channel::Tcp }) {
            // The attempt before it may still be answered.
            Err(_) if last.is_some() => Ok(()),
            sent => sent,
        }
    }

    /// Handles an error by TCP of a server that answers by UDP: it is not down.
    fn tcp_failed<T>(&mut self, server: usize, error: AttemptError) -> Step<T> {
        if self.is_forgery_suspected && error.kind != AttemptErrorKind::BadResponse {
            return self.renew(server);
        }
        if self.tcp_due(server).is_some() {
            // Another connection may succeed.
            return Step::Wait;
        }
        let text = match error.kind {
            AttemptErrorKind::Unreachable => format!("truncates its answer by UDP, and by TCP {}", error.text).into(),
            _ => error.text,
        };
        self.record_error(server, AttemptError::new(AttemptErrorKind::BadResponse, text));
        Step::NextServer
    }

    /// Handles a suspected forgery (RFC 5452, section 9.2): the next guess may hit. No response to the attempts
    /// by UDP is accepted any more, and the question goes to TCP, where responses cannot be forged.
    fn suspect_forgery<T>(&mut self, server: usize) -> Step<T> {
        self.is_forgery_suspected = true;
        for this in &mut self.attempts {
            this.in_flight.take_if(|sent| sent.uses_udp());
        }
        if !self.servers[server].may_use_tcp(Instant::now()) {
            return self.send_anew(server);
        }
        match self.fall_back(server) {
            Ok(()) => Step::Wait,
            Err(error) => self.tcp_failed(server, error),
        }
    }

    /// Goes on by UDP with another port and ID, as TCP failed after a suspected forgery.
    fn renew<T>(&mut self, server: usize) -> Step<T> {
        self.servers[server].disable_tcp(Instant::now());
        self.send_anew(server)
    }

    /// Sends the question by UDP with another port and ID, at most [`MAX_RENEWALS`] times.
    fn send_anew<T>(&mut self, server: usize) -> Step<T> {
        if self.renewals >= MAX_RENEWALS || self.attempts.len() >= MAX_ATTEMPTS {
            return Step::Wait;
        }
        self.renewals += 1;
        self.servers[server].counters.renewals.inc();
        match self.send(server, Channel::Default) {
            Ok(()) => Step::Wait,
            Err(error) => {
                self.record_error(server, error);
                Step::NextServer
            }
        }
    }

    /// Whether responses of a server by UDP count only when they are confirmed.
    fn needs_confirmation(&self, server: usize) -> bool {
        self.confirmations.iter().any(|(other, _)| *other == server)
    }

    /// Sends a confirmation query by UDP: from another port, with another ID, in lower case. Responses that
    /// agree are not forged. One such query is in flight at a time.
    fn confirm(&mut self, server: usize) -> Result<(), AttemptError> {
        let late = self.servers[server].health().interval();
        let is_waiting = |this: &Attempt| {
            this.server == server && this.is_confirmation && this.in_flight.is_some() && this.sent_at.elapsed() < late
        };
        let confirmation = self.confirmations.iter_mut().find(|(other, _)| *other == server);
        if self.attempts.iter().any(is_waiting) || !confirmation.is_some_and(|(_, confirmation)| confirmation.may_ask())
        {
            return Ok(());
        }
        let format = QueryFormat {
            randomised: false,
            ..self.servers[server].query_format(&self.pending.question, Instant::now())
        };
        self.send_as(server, Channel::Default, format, true)
    }

    /// Handles the response to a confirmation query.
    fn take_confirmation<T>(
        &mut self,
        server: usize,
        message: Vec<u8>,
        sent: &InFlightQuery,
        read: &impl Fn(&[u8], bool) -> Result<T, RejectionReason>,
    ) -> Step<T> {
        if classify_response(&message) != ResponseKind::Usable {
            return self.take_response(server, message, sent, read);
        }
        let verdict = match self.confirmations.iter_mut().find(|(other, _)| *other == server) {
            Some((_, confirmation)) => confirmation.take(&message),
            None => Verdict::Agreed { folds_case: false },
        };
        match verdict {
            Verdict::Agreed { folds_case } => {
                if folds_case {
                    self.servers[server].case_behaviour.set_folds();
                }
                self.take_response(server, message, sent, read)
            }
            Verdict::More => {
                let _ = self.confirm(server).inspect_err(|error| self.record_error(server, error.clone()));
                Step::Wait
            }
            Verdict::Differ => {
                let text = "gives different answers that may be forged, and does not answer by TCP";
                self.record_error(server, AttemptError::new(AttemptErrorKind::BadResponse, text));
                Step::NextServer
            }
        }
    }

    /// Records an error of a server: in its health, in its usefulness to the route, and for this question.
    fn record_error(&mut self, server: usize, error: AttemptError) {
        let this = &self.servers[server];
        let is_down = matches!(error.kind, AttemptErrorKind::Unreachable | AttemptErrorKind::Misconfigured);
        if is_down && this.health().record_refusal(error.text.clone(), Instant::now()) {
            probe_until_up(this);
        }
        if matches!(
            error.kind,
            AttemptErrorKind::BadResponse | AttemptErrorKind::ClosedUnanswered | AttemptErrorKind::ClosedAmbiguous
        ) {
            self.active.usefulness(server).record_useless(error.text.clone(), Instant::now());
        }
        self.log_failure(server, &error.text);
        // A server that cannot be reached may be reachable again soon.
        let is_excluded = error.kind != AttemptErrorKind::Unreachable;
        self.errors.retain(|(other, ..)| *other != server);
        self.errors.push((server, error, is_excluded));
    }

    /// Logs the failure of a server for operators.
    fn log_failure(&self, server: usize, error: &str) {
        self.upstreams.failure_log.record(&self.route.rule, &self.servers[server].target, error, Instant::now());
    }

    /// What each server did, as the reason why there is no answer.
    pub fn failure(&self) -> Failure {
        let (mut text, mut details) = (String::new(), String::new());
        let (mut of_network, mut is_local) = (true, true);
        for (at, server) in self.servers.iter().enumerate() {
            let recorded = self.errors.iter().find(|(other, ..)| *other == at).map(|(_, error, _)| error);
            let (kind, what) = match (recorded, server.health().last_error()) {
                (Some(error), _) => (error.kind, error.text.clone()),
                (None, Some(error)) => (AttemptErrorKind::Unreachable, error),
                (None, None) => (AttemptErrorKind::BadResponse, NO_ANSWER.into()),
            };
            if recorded.is_none() {
                self.log_failure(at, &what);
            }
            of_network &= matches!(kind, AttemptErrorKind::Unreachable | AttemptErrorKind::Misconfigured);
            is_local &= kind == AttemptErrorKind::Local;
            let and = if at == 0 { "" } else { "; " };
            if at < MAX_SERVERS_IN_TEXT {
                let _ = match self.servers.len() {
                    1 => write!(text, "the target {what}"),
                    _ => write!(text, "{and}target {} {what}", at + 1),
                };
            }
            let _ = write!(details, "{and}{} {what}", server.target);
        }
        self.servers.iter().take(1).for_each(|server| server.counters.failures.inc());
        let code = match (is_local, of_network) {
            (true, _) => ede::OTHER,
            (_, true) => ede::NETWORK_ERROR,
            _ => ede::NO_REACHABLE_AUTHORITY,
        };
        Failure { code, text: format!("{}: {text}", route_label(self.route)), details, is_local }
    }
}

impl Drop for UpstreamQuery<'_> {
    fn drop(&mut self) {
        self.fingerprint.inspect(|fingerprint| self.upstreams.in_flight_names.remove(*fingerprint));
    }
}
