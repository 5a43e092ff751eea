//! One query of a client that needs other servers, from its first question to its reply.
//!
//! ```text
//! respond   answer -> question -> ask -> answer -> ... -> reply
//! ask       cached meanwhile?  a forwarding loop?  leader: lead; follower: wait; too slow: stale answer
//! lead      fetch, put into the cache, publish to the followers
//! fetch     the servers of the route, or recursion; referrals as far as DELEGATE rules match
//! ```
//!
//! Each question ends with an answer or a failure, within [`CLIENT_TIMEOUT`]. Recursion may go on until
//! [`RECURSION_TIMEOUT`], for the client's next attempt.

use super::{
    AlwaysFailing, Answers, CLIENT_TIMEOUT, CompletedReply, Forwarding, HASTY_TIMEOUT, MAX_DETACHED,
    MAX_LONG_RECURSIONS, RECURSION_TIMEOUT, STALE_ANSWER_TIMEOUT,
    read::{ParsedResponse, parse_response},
    recursion::Budget,
    single_flight::{FollowerOutcome, Leader, Role},
    upstream::{self, Failure},
};
use crate::{
    answer::{
        CacheState, Client, Moment, Outcome, QueryLogTrace, Trace, Transport, answer_traced,
        firewall::{Filter, Subject},
        identify::QueryTemplate,
        known::{Entry, Key, OwnedRoutedQuestion, Question},
    },
    clock::now,
    detect::Miss,
    forward::GatheredAnswers,
    manifest::connectivity::Network,
    snapshot::{
        Snapshot,
        routes::{NameServer, Route, RouteId, Servers, Target},
    },
    wire::{
        codes::{ede, flag, rcode},
        query::{HEADER, flags},
        rdata::rtype,
        response::{Record, Response},
        subnet::limited_prefix,
    },
};
use std::{
    cell::RefCell,
    net::IpAddr,
    ops::ControlFlow,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::time::{Instant, timeout_at};

thread_local! {
    /// The buffers of the reply and of its trace. They are borrowed between awaits only, so a
    /// waiting query holds no buffer.
    static REPLY: RefCell<(Vec<u8>, QueryLogTrace)> = RefCell::new((vec![0; u16::MAX.into()], QueryLogTrace::default()));
}

/// The maximum number of questions of one query: its own name, and the targets of CNAME and DNAME
/// records.
const MAX_QUESTIONS: usize = 40;
/// The maximum number of referrals that one question follows.
const MAX_REFERRALS: usize = 8;
/// The maximum depth of searches for the addresses of name servers.
const MAX_DEPTH: u8 = 3;
/// The maximum number of questions to other servers for one query, with those for the addresses of
/// name servers.
const MAX_UPSTREAM_QUESTIONS: usize = 100;
/// The maximum number of name servers of a referral that are used. Without addresses in the
/// referral, each costs questions: this limits the NXNSAttack (CVE-2020-8616).
const MAX_NAME_SERVERS: usize = 5;
/// The maximum number of name server addresses that are asked for one question.
const MAX_ADDRESSES: usize = 8;

/// Counts a question that stays in flight after its query got another answer.
struct Detached(Arc<AtomicUsize>);

impl Detached {
    /// None if `max` such questions are in flight.
    fn take(count: &Arc<AtomicUsize>, max: usize) -> Option<Detached> {
        let detached = Detached(count.clone());
        (count.fetch_add(1, Relaxed) < max).then_some(detached)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The query of a client, and what its questions to other servers have in common.
#[derive(Clone)]
pub struct ClientRequest {
    forwarding: Arc<Forwarding>,
    snapshot: Arc<Snapshot>,
    client: Client,
    query_template: QueryTemplate,
    deadline: Instant,
    /// The depth of the search for name server addresses that this request belongs to; 0 for the
    /// client's own query.
    depth: u8,
    /// The number of questions to other servers so far. Searches for name server addresses share
    /// it.
    upstream_questions: Arc<AtomicUsize>,
    /// What recursion for the query may still cost.
    recursion_budget: Arc<Budget>,
    /// A client sent the query. False for queries that `explain` asks in its place.
    is_of_client: bool,
}

impl ClientRequest {
    /// The request of a client that sent `query`, against the current snapshot.
    pub fn new(forwarding: &Arc<Forwarding>, client: &Client, query: &[u8]) -> ClientRequest {
        let snapshot = forwarding.snapshot.load_full();
        let query_template = QueryTemplate::of(&snapshot, client, query);
        let deadline = Instant::now() + CLIENT_TIMEOUT;
        ClientRequest {
            forwarding: forwarding.clone(),
            snapshot,
            client: *client,
            query_template,
            deadline,
            depth: 0,
            upstream_questions: Arc::default(),
            recursion_budget: Arc::default(),
            is_of_client: true,
        }
    }

    /// The same request, whose steps of recursion are recorded in a budget.
    pub fn explained(self, budget: &Arc<Budget>) -> ClientRequest {
        ClientRequest { recursion_budget: budget.clone(), is_of_client: false, ..self }
    }

    /// Answers the query. `asked` is the first question to other servers, if it is known already.
    /// With `renew`, cache entries that expire soon are asked for again.
    pub async fn respond(
        &self,
        query: &[u8],
        asked: Option<OwnedRoutedQuestion>,
        renew: bool,
    ) -> Option<CompletedReply> {
        let forwarding = &self.forwarding;
        let draw = forwarding.draw.fetch_add(1, Relaxed);
        let mut known = GatheredAnswers { cache: &forwarding.cache, renew, entries: Vec::new() };
        let mut next = asked;
        loop {
            if let Some(asked) = &next {
                forwarding.cache.count_miss();
                let found = match known.entries.len() < MAX_QUESTIONS {
                    true => self.ask(asked, query, renew).await,
                    false => (failed(asked, ede::OTHER, "the name leads to more than 40 other names"), false),
                };
                if known.entries.is_empty() && self.depth == 0 && self.is_of_client && !renew {
                    self.observe(&asked.question(), &found.0, query);
                }
                known.entries.push(found);
            }
            let moment = Moment { now: now(), draw };
            let decided = REPLY.with_borrow_mut(|(reply, noted)| {
                noted.clear();
                match answer_traced(&self.snapshot, &known, &self.client, moment, query, reply, noted) {
                    Outcome::Reply(answered) => {
                        if !known.entries.is_empty() {
                            // `answer` found the records among those that were asked for: to the
                            // query log, that is a miss.
                            noted.cache_state(CacheState::Miss);
                        }
                        Err(Some((answered, reply[..answered.len].to_vec(), Box::new(noted.clone()))))
                    }
                    Outcome::Drop => Err(None),
                    Outcome::Forward(forward) => Ok(forward.to_owned_question()),
                }
            });
            match decided {
                Ok(asked) => next = Some(asked),
                Err(reply) => {
                    let (answered, reply, noted) = reply?;
                    return Some(CompletedReply { answered, reply, noted, snapshot: self.snapshot.clone() });
                }
            }
        }
    }

    /// Makes the SERVFAIL reply to the query, with `why` as the extended error text.
    pub fn fail(&self, query: &[u8], why: &'static str) -> Option<CompletedReply> {
        REPLY.with_borrow_mut(|(reply, noted)| {
            noted.clear();
            let moment = Moment { now: now(), draw: 0 };
            let failing = AlwaysFailing(Entry::failure(ede::OTHER, why, moment.now, 0));
            match answer_traced(&self.snapshot, &failing, &self.client, moment, query, reply, noted) {
                Outcome::Reply(answered) => {
                    let (reply, noted) = (reply[..answered.len].to_vec(), Box::new(noted.clone()));
                    Some(CompletedReply { answered, reply, noted, snapshot: self.snapshot.clone() })
                }
                _ => None,
            }
        })
    }

    /// Gets the answers to one question, and whether they are stale: as the leader of the question,
    /// or from its leader.
    async fn ask(&self, asked: &OwnedRoutedQuestion, query: &[u8], renew: bool) -> (Answers, bool) {
        let forwarding = &self.forwarding;
        let (route, question) = (&asked.route, asked.question());
        let stale = match forwarding.cache.stale(asked.id, &question, now()) {
            // Another query has got the answer meanwhile.
            Some(entry) if !renew && entry.holds(now()) => return (known(asked, entry), false),
            stale => stale,
        };
        let deadline = match stale {
            Some(_) => self.deadline.min(Instant::now() + STALE_ANSWER_TIMEOUT),
            // DNS64: a time-out for AAAA records counts as "no AAAA records" (RFC 6147, section
            // 5.1.3).
            None if asked.has_fallback => self.deadline.min(Instant::now() + HASTY_TIMEOUT),
            None => self.deadline,
        };
        if forwarding.upstreams.is_loop_probe(question.name.wire()) {
            return (self.looped(asked), false);
        }
        let (hash, may_be_ours) = (question.hash(asked.id), self.may_be_ours(query, &question));
        let is_recursive = matches!(route.servers, Servers::Recursion);
        let answers = loop {
            match forwarding.single_flight.join(hash) {
                Role::Follower(_) if self.is_loop(route, true) => {
                    forwarding.single_flight.mark_looped(hash);
                    break Some(self.looped(asked));
                }
                Role::Leader(_) if self.is_loop(route, false) => break Some(self.looped(asked)),
                Role::Follower(follower) => {
                    let outcome = match may_be_ours {
                        true => Box::pin(self.unless_looped(route, follower.wait(deadline))).await,
                        false => Some(follower.wait(deadline).await),
                    };
                    match outcome {
                        Some(FollowerOutcome::Answers(answers)) => break Some(answers),
                        Some(FollowerOutcome::TimedOut) => break None,
                        Some(FollowerOutcome::LeaderGone) => {}
                        None => {
                            forwarding.single_flight.mark_looped(hash);
                            break Some(self.looped(asked));
                        }
                    }
                }
                Role::Leader(leader) if stale.is_none() && !asked.has_fallback && !is_recursive => {
                    break Some(match may_be_ours {
                        true => {
                            let answers = Box::pin(self.unless_looped(route, self.lead(leader, asked))).await;
                            answers.unwrap_or_else(|| self.looped(asked))
                        }
                        false => self.lead(leader, asked).await,
                    });
                }
                Role::Leader(leader) => {
                    let (count, max) = match is_recursive {
                        true => (&forwarding.long_recursions, MAX_LONG_RECURSIONS),
                        false => (&forwarding.detached, MAX_DETACHED),
                    };
                    let Some(detached) = Detached::take(count, max) else {
                        break timeout_at(deadline, Box::pin(self.lead(leader, asked))).await.ok();
                    };
                    // The question stays in flight when this client gets the stale or substitute
                    // answer, or no answer yet from recursion.
                    let (request, asked) = (self.clone(), asked.clone());
                    let leading = tokio::spawn(async move {
                        let _detached = detached;
                        request.lead(leader, &asked).await
                    });
                    break timeout_at(deadline, leading).await.ok().and_then(Result::ok);
                }
            }
        };
        let answers =
            answers.unwrap_or_else(|| failed(asked, ede::NO_REACHABLE_AUTHORITY, "no server answered in time"));
        match stale {
            Some(stale) if answers.first().is_none_or(|(_, entry)| entry.rcode == rcode::SERVFAIL) => {
                forwarding.cache.count_stale();
                (known(asked, stale), true)
            }
            _ => (answers, false),
        }
    }

    /// Whether the addresses show a forwarding loop. If the question is in flight: the query comes
    /// from a target, or was sent to a target's address. Otherwise: the query comes from the only
    /// target.
    fn is_loop(&self, route: &Route, is_in_flight: bool) -> bool {
        let Servers::Targets { targets, .. } = &route.servers else { return false };
        let (from, at) = (self.client.source, self.client.local);
        match is_in_flight {
            true => targets.iter().any(|target| target.ip == from || target.ip == at),
            false => !targets.is_empty() && targets.iter().all(|target| target.ip == from && target.ip != at),
        }
    }

    /// The name as the client sent it, if the question is for the query's own name.
    fn sent_name<'q>(&self, query: &'q [u8], question: &Question) -> Option<&'q [u8]> {
        let name = question.name.wire();
        let sent_name = self.query_template.query_in(query).get(HEADER..HEADER + name.len())?;
        sent_name.eq_ignore_ascii_case(name).then_some(sent_name)
    }

    /// Whether the query has the same random case as a question of this node in flight: then it may
    /// be this node's own query that other servers sent back.
    fn may_be_ours(&self, query: &[u8], question: &Question) -> bool {
        let sent_name = self.sent_name(query, question);
        sent_name.is_some_and(|sent_name| self.forwarding.upstreams.may_be_ours(sent_name, question.qtype))
    }

    /// Shows the query's own name to the detectors of DNS Firewall, if a rule of the view has one.
    /// The cache did not have the name.
    fn observe(&self, question: &Question, answers: &Answers, query: &[u8]) {
        let Snapshot { firewall, networks, views, .. } = &*self.snapshot;
        let Some(view) = self.query_template.view.and_then(|key| views.get(key)) else { return };
        let (Some(detections), Some(rules)) = (firewall.detections(view), firewall.of(view)) else { return };
        let (Network::Vpc(vpc), Some(client)) = (&networks.info(view.vpc).network, self.query_template.client) else {
            return;
        };
        let (name, now) = (question.name, now());
        if self.sent_name(query, question).is_none() {
            return;
        }
        // A rule on a list in front of a detector's rule exempts its names.
        let filter = Filter { rules, lists: &self.snapshot.firewall_lists, detections: None };
        let subject = Subject { name, hop: 0, qtype: question.qtype, source: client, now };
        let decided = filter.judge(&subject).and_then(|judged| judged.decided);
        let end = decided.map_or(u32::MAX, |(index, _)| index);
        let is_nxdomain = answers.first().is_some_and(|(_, entry)| entry.rcode == rcode::NXDOMAIN);
        let miss = Miss { vpc, detections, rules, end, client, name, is_nxdomain, now };
        self.forwarding.detectors.observe(&miss);
    }

    /// The outcome for a query that may be this node's own. None if it is: the servers of its route
    /// send queries back here.
    async fn unless_looped<T>(&self, route: &Route, outcome: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = outcome => Some(outcome),
            true = self.forwarding.upstreams.leads_back(route) => None,
        }
    }

    fn looped(&self, asked: &OwnedRoutedQuestion) -> Answers {
        let rule = upstream::route_label(&asked.route);
        let text = format!("{rule}: forwarding loop: the query came back from a server that it was sent to");
        failed(asked, ede::OTHER, &text)
    }

    /// Asks a question as its leader: puts the outcome into the cache, and publishes it to the
    /// followers.
    async fn lead(&self, leader: Leader, asked: &OwnedRoutedQuestion) -> Answers {
        let (cache, rule) = (&self.forwarding.cache, &asked.route.rule);
        let answers = match self.fetch(asked).await {
            Ok(answers) => {
                for (at, (key, entry)) in answers.iter().enumerate() {
                    // An answer for a target of a CNAME does not replace an answer to a question
                    // for that target.
                    if at == 0 || !cache.holds(key, now()) {
                        cache.insert(rule, key.clone(), entry.clone());
                    }
                }
                Arc::new(answers)
            }
            Err(failure) => {
                // A query that came back with other flags is another question, which has marked no
                // loop here.
                let leads_back = || self.forwarding.upstreams.is_known_to_lead_back(&asked.route);
                let text = match leader.has_looped() || leads_back() {
                    true => format!("forwarding loop: the query came back. {}", failure.text),
                    false => failure.text,
                };
                let details = (!failure.details.is_empty()).then(|| failure.details.into());
                let entry = Entry { details, ..Entry::failure(failure.code, &text, now(), 0) };
                let key = Key::new(asked.id, &asked.question());
                match failure.is_local {
                    true => known(asked, Arc::new(entry)),
                    false => known(asked, cache.insert_failure(rule, key, entry)),
                }
            }
        };
        leader.publish(&answers);
        answers
    }

    /// Gets the answers to a question from the servers of its route, along referrals for which the
    /// view has a DELEGATE rule. The cache key has the first route.
    async fn fetch(&self, asked: &OwnedRoutedQuestion) -> Result<Vec<(Key, Arc<Entry>)>, Failure> {
        let (mut route, id, question) = (asked.route.clone(), asked.id, &asked.question());
        for _ in 0..MAX_REFERRALS {
            if let Servers::NameServers { name_servers, sources } = &route.servers {
                let targets = Box::pin(self.targets(name_servers, &route.domain)).await;
                if targets.is_empty() {
                    return Err(Failure::new(
                        ede::NO_REACHABLE_AUTHORITY,
                        "no name server of the delegation has an address",
                    ));
                }
                let servers = Servers::Targets { targets, sources: sources.clone(), trust_ad: false };
                route = Arc::new(Route::new(route.rule.clone(), route.domain.clone(), servers));
            }
            if self.upstream_questions.fetch_add(1, Relaxed) >= MAX_UPSTREAM_QUESTIONS {
                return Err(Failure::new(
                    ede::NO_REACHABLE_AUTHORITY,
                    format!("the name leads to more than {MAX_UPSTREAM_QUESTIONS} questions"),
                ));
            }
            match &route.servers {
                Servers::Recursion => return Box::pin(self.recurse(id, question)).await,
                Servers::Targets { targets, .. } if targets.is_empty() => {
                    return Err(Failure::new(ede::NOT_READY, "no upstream server is known"));
                }
                _ => {}
            }
            let lifetimes = self.forwarding.cache.lifetimes();
            let read = |message: &[u8], is_stream: bool| {
                Ok(match parse_response(message, (id, &route.domain), question, now(), lifetimes)? {
                    ParsedResponse::Answers(mut answers) => {
                        // A response by UDP may be forged. It is accepted for the question's own
                        // name only: the targets of its CNAME are asked for in questions of their
                        // own.
                        answers.truncate(if is_stream { answers.len() } else { 1 });
                        if is_authentic(&route, message) {
                            answers.iter_mut().for_each(|(_, entry)| Arc::make_mut(entry).authentic = true);
                        }
                        ControlFlow::Break(answers)
                    }
                    ParsedResponse::Referral { domain, name_servers } => {
                        let below = self.below(&domain, &name_servers);
                        let below = below.ok_or("refers to other servers, and no DELEGATE rule matches them")?;
                        ControlFlow::Continue(Arc::new(below))
                    }
                })
            };
            // On the heap, so that the task of each waiting query stays small.
            let asking = Box::pin(self.forwarding.upstreams.ask(&route, question, self.deadline, &read));
            let next = match asking.await? {
                ControlFlow::Break(answers) => return Ok(answers),
                ControlFlow::Continue(next) => next,
            };
            route = next;
        }
        Err(Failure::new(ede::NO_REACHABLE_AUTHORITY, format!("more than {MAX_REFERRALS} referrals")))
    }

    /// Gets the answers to a question from the authoritative servers.
    async fn recurse(&self, route: RouteId, question: &Question<'_>) -> Result<Vec<(Key, Arc<Entry>)>, Failure> {
        let Some(recursion) = &self.forwarding.recursion else {
            return Err(Failure::new(ede::NOT_READY, "the internet resolver of this node does not recurse"));
        };
        let late = || Failure::new(ede::NO_REACHABLE_AUTHORITY, "no authoritative server answered in time");
        let (counters, started) = (&self.forwarding.upstreams.counters, Instant::now());
        let (client, lifetimes) = (limited_prefix(self.client.source), self.forwarding.cache.lifetimes());
        let asking = recursion.ask(client, route, question, &self.recursion_budget, lifetimes);
        let deadline = self.deadline + (RECURSION_TIMEOUT - CLIENT_TIMEOUT);
        let answers = timeout_at(deadline, asking).await.unwrap_or_else(|_| Err(late()));
        counters.recursion.observe(started.elapsed().as_secs_f64());
        if answers.is_err() {
            counters.failures.inc();
        }
        answers
    }

    /// The route for a referral, if a DELEGATE rule of the client's view matches it.
    fn below(&self, domain: &[u8], name_servers: &[NameServer]) -> Option<Route> {
        let view = self.snapshot.views.get(self.query_template.view?)?;
        self.snapshot.views.delegates(view)?.route(domain, name_servers)
    }

    /// The addresses of up to [`MAX_NAME_SERVERS`] name servers: those in the referral; without
    /// any, those that the client itself would get for the names.
    async fn targets(&self, name_servers: &[NameServer], domain: &[u8]) -> Vec<Target> {
        let mut addresses = known_addresses(name_servers);
        // The address of a name server below its own zone cut can only come from the referral.
        let others = name_servers.iter().filter(|server| !server.name.ends_with(domain)).take(MAX_NAME_SERVERS);
        for server in others {
            if !addresses.is_empty() || self.depth >= MAX_DEPTH {
                break;
            }
            for qtype in [rtype::A, rtype::AAAA] {
                addresses.extend(self.addresses(&server.name, qtype).await);
            }
        }
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        addresses.into_iter().map(Target::do53).collect()
    }

    /// The addresses that the client would get for a name. Boxed, since it calls
    /// [`ClientRequest::respond`] recursively.
    fn addresses<'a>(&'a self, name: &'a [u8], qtype: u16) -> Pin<Box<dyn Future<Output = Vec<IpAddr>> + Send + 'a>> {
        Box::pin(async move {
            let query = self.query_template.packet(name, qtype);
            // The entry point may require the client's protocol. TCP instead of UDP leaves room for
            // the whole answer.
            let transport = match self.client.transport {
                Transport::Udp => Transport::Tcp,
                other => other,
            };
            let client = Client { transport, ..self.client };
            let request = ClientRequest { client, depth: self.depth + 1, ..self.clone() };
            let Some(CompletedReply { reply, .. }) = request.respond(&query, None, false).await else {
                return Vec::new();
            };
            let records = Response::read(&reply).unwrap_or_default().sections;
            records[0].iter().filter_map(Record::address).collect()
        })
    }
}

/// The addresses in a referral of up to [`MAX_NAME_SERVERS`] name servers: the first address of
/// each, then the second ones.
fn known_addresses(name_servers: &[NameServer]) -> Vec<IpAddr> {
    let with_address = || name_servers.iter().filter(|server| !server.addresses.is_empty()).take(MAX_NAME_SERVERS);
    let nth = |at| with_address().filter_map(move |server| server.addresses.get(at).copied());
    (0..MAX_ADDRESSES).flat_map(nth).take(MAX_ADDRESSES).collect()
}

/// Whether a response was validated by a server that is trusted with validation. Such servers are
/// on loopback, where the AD flag cannot be changed on the way.
fn is_authentic(route: &Route, message: &[u8]) -> bool {
    matches!(route.servers, Servers::Targets { trust_ad: true, .. })
        && message.len() >= HEADER
        && flags(message) & flag::AD != 0
}

/// One entry as the answers to a question.
fn known(asked: &OwnedRoutedQuestion, entry: Arc<Entry>) -> Answers {
    Arc::new(vec![(Key::new(asked.id, &asked.question()), entry)])
}

/// A failure as the answers to a question.
fn failed(asked: &OwnedRoutedQuestion, code: u16, text: &str) -> Answers {
    known(asked, Arc::new(Entry::failure(code, text, now(), 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        forward::{Limits, upstream::Upstreams},
        manifest::Loaded,
        snapshot::{Node, compile},
        wire::proxy,
    };
    use arc_swap::ArcSwap;
    use tokio::runtime::Handle;

    const NS: &[u8] = b"\x02ns\x07example\0";

    /// Two VPCs that see different addresses for one name, and forwarders in the first VPC, whose
    /// inbound endpoint accepts DoT only.
    fn forwarding() -> Arc<Forwarding> {
        let zone = |vpc: &str, address: &str| {
            let records = serde_json::json!([{"name": "ns", "type": "A", "ttl": 60, "records": [address]}]);
            serde_json::json!({"name": "example", "vpc_ids": [vpc], "records": records})
        };
        let manifest = serde_json::json!({
            "vpcs": {
                "a": {"region": "r", "cidr_blocks": ["10.1.0.0/16"]},
                "b": {"region": "r", "cidr_blocks": ["10.2.0.0/16"]},
            },
            "vpc_peering_connections": {"ab": {"vpc_ids": ["a", "b"], "status": "active"}},
            "resolver_endpoints": {
                "in": {"direction": "INBOUND", "vpc_id": "a", "protocols": ["DoT"], "ip_addresses": [{"ip": "10.1.0.53"}]},
            },
            "resolver_rules": {"d": {"domain_name": "ns.example", "rule_type": "DELEGATE", "vpc_ids": ["b"]}},
            "private_hosted_zones": {"ZA": zone("a", "192.0.2.1"), "ZB": zone("b", "192.0.2.2")},
            "forwarders": {
                "e": {"vpc_id": "a", "cidr_blocks": ["10.1.0.20/32"], "speaks_for": ["a", "b"]},
                "p": {"vpc_id": "a", "cidr_blocks": ["10.1.0.21/32"], "client_identity": "proxy_protocol_v2",
                      "speaks_for": ["a", "b"]},
            },
        });
        let loaded = Loaded { manifest: serde_json::from_value(manifest).unwrap(), ..Loaded::default() };
        let (snapshot, _) = compile(&loaded, &Arc::new(Node::default()), None).unwrap();
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        Forwarding::new(snapshot, &Limits::default(), Upstreams::new(), None, &Handle::current())
    }

    #[test]
    fn limits_the_name_servers_and_addresses_of_a_referral() {
        let server = |n: u8, count: u8| NameServer {
            name: [1, n, 0].into(),
            addresses: (0..count).map(|at| IpAddr::from([10, n, at, 1])).collect(),
        };
        let many: Vec<_> = (0..200).map(|n| server(n, n % 100)).collect();
        let chosen: Vec<_> = known_addresses(&many).into_iter().map(|ip| ip.to_string()).collect();
        let expected = ["10.1.0.1", "10.2.0.1", "10.3.0.1", "10.4.0.1", "10.5.0.1", "10.2.1.1", "10.3.1.1", "10.4.1.1"];
        assert_eq!(chosen, expected);
        assert_eq!(known_addresses(&[server(1, 200)]).len(), MAX_ADDRESSES);
        assert_eq!(known_addresses(&[server(1, 0)]), [] as [IpAddr; 0]);
    }

    /// Thousands of queries may wait, each in its own task.
    #[tokio::test]
    async fn the_task_of_a_waiting_query_is_small() {
        let (forwarding, query) = (forwarding(), []);
        let client =
            Client { source: [10, 1, 0, 7].into(), port: 0, local: [10, 9, 0, 1].into(), transport: Transport::Udp };
        let size = size_of_val(&super::super::respond(&forwarding, &client, &query, None, None));
        assert!(size < 1500, "{size}");
    }

    #[tokio::test]
    async fn asks_for_name_server_addresses_as_the_same_client() {
        let forwarding = forwarding();
        let plain = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01x\x04test\0\0\x01\0\x01".to_vec();
        let mut subnet = plain.clone();
        subnet[11] = 1;
        subnet.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x08\0\x08\0\x01\x20\0\x0a\x02\0\x07");
        let header = |client: [u8; 4]| [proxy::write(client.into(), [10, 9, 0, 1].into()), plain.clone()].concat();
        for (source, local, transport, packet, vpc) in [
            ([10, 1, 0, 7], [10, 9, 0, 1], Transport::Udp, plain.clone(), 1),
            ([10, 2, 0, 7], [10, 9, 0, 1], Transport::Udp, plain.clone(), 2),
            ([10, 1, 0, 7], [10, 1, 0, 53], Transport::Tls, plain.clone(), 1),
            ([10, 1, 0, 20], [10, 9, 0, 1], Transport::Udp, plain.clone(), 1),
            ([10, 1, 0, 20], [10, 9, 0, 1], Transport::Udp, subnet.clone(), 2),
            ([10, 1, 0, 22], [10, 9, 0, 1], Transport::Udp, subnet, 1), // not the address of a forwarder
            ([10, 1, 0, 21], [10, 9, 0, 1], Transport::Udp, header([10, 1, 0, 7]), 1),
            ([10, 1, 0, 21], [10, 9, 0, 1], Transport::Tcp, header([10, 2, 0, 7]), 2),
        ] {
            let client = Client { source: source.into(), port: 0, local: local.into(), transport };
            let request = ClientRequest::new(&forwarding, &client, &packet);
            let addresses = request.addresses(NS, rtype::A).await;
            assert_eq!(addresses, [IpAddr::from([192, 0, 2, vpc])], "{client:?} {packet:02x?}");
            let name_servers = [NameServer { name: NS.into(), addresses: Vec::new() }];
            let followed = request.below(b"\x04test\0", &name_servers).is_some();
            assert_eq!(followed, vpc == 2, "{client:?} {packet:02x?}");
        }
    }
}
