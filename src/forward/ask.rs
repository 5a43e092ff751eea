//! One question to others: shared with all who have the same, followed along referrals, and never without an answer.

use super::{
    Answers, Failing, Forwarding, HASTY_PATIENCE, MAX_DETACHED, PATIENCE, Response, STALE_PATIENCE,
    flights::{Flight, Landed, Place},
    read::{self, Read},
    upstream::{self, Failure},
};
use crate::{
    answer::{
        CacheState, Client, Moment, Outcome, QueryLogTrace, Trace, Transport, answer_traced,
        identify::QueryTemplate,
        known::{Entry, Key, OwnedRoutedQuestion, Question},
    },
    clock::now,
    forward::Gathered,
    snapshot::{
        Snapshot,
        routes::{NameServer, Route, RouteId, Servers, Target},
    },
    wire::{
        codes::{ede, flag, rcode},
        query::{HEADER, flags},
        rdata::rtype,
        response::{Record, Response as Message},
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
    /// Where an answer is made, and where is noted how. They are never held across an await: who waits for others holds no
    /// room for an answer.
    static REPLY: RefCell<(Vec<u8>, QueryLogTrace)> = RefCell::new((vec![0; u16::MAX.into()], QueryLogTrace::default()));
}

/// How many questions one query may lead to.
const MOST_QUESTIONS: usize = 40;
/// How many referrals one question may lead to.
const MOST_REFERRALS: usize = 8;
/// How deep the search for the addresses of name servers may go.
const MOST_DEPTH: u8 = 3;
/// How many questions to other servers one query may lead to, those for the addresses of name servers included.
const MAX_SENT: usize = 100;
/// How many name servers of a referral are asked, or looked for if none of their addresses came with it (NXNSAttack).
const MAX_NAMES: usize = 5;
/// How many addresses of name servers are asked.
const MAX_ADDRESSES: usize = 8;

/// One of the questions that go on when no query waits for them any more.
struct Detached(Arc<AtomicUsize>);

impl Detached {
    /// None if there are too many.
    fn take(count: &Arc<AtomicUsize>) -> Option<Detached> {
        let detached = Detached(count.clone());
        (count.fetch_add(1, Relaxed) < MAX_DETACHED).then_some(detached)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Asks others on behalf of a client.
#[derive(Clone)]
pub struct Asker {
    forwarding: Arc<Forwarding>,
    snapshot: Arc<Snapshot>,
    client: Client,
    on_behalf: QueryTemplate,
    deadline: Instant,
    depth: u8,
    /// Questions to other servers that its query has led to.
    sent: Arc<AtomicUsize>,
}

impl Asker {
    /// Asks for the client that a query is from, as what is served is now.
    pub fn new(forwarding: &Arc<Forwarding>, client: &Client, query: &[u8]) -> Asker {
        let snapshot = forwarding.snapshot.load_full();
        let on_behalf = QueryTemplate::of(&snapshot, client, query);
        let deadline = Instant::now() + PATIENCE;
        let (forwarding, sent) = (forwarding.clone(), Arc::default());
        Asker { forwarding, snapshot, client: *client, on_behalf, deadline, depth: 0, sent }
    }

    /// Answers a query, of which it may be known what has to be asked first. With `renew`, what is known but ends soon is
    /// asked for anew.
    pub async fn respond(&self, query: &[u8], asked: Option<OwnedRoutedQuestion>, renew: bool) -> Option<Response> {
        let forwarding = &self.forwarding;
        let draw = forwarding.draw.fetch_add(1, Relaxed);
        let mut known = Gathered { cache: &forwarding.cache, renew, entries: Vec::new() };
        let mut next = asked;
        loop {
            if let Some(asked) = &next {
                forwarding.cache.missed();
                let found = match known.entries.len() < MOST_QUESTIONS {
                    true => self.ask(asked, query, renew).await,
                    false => (failed(asked, 0, "the name leads to too many other names"), false),
                };
                known.entries.push(found);
            }
            let moment = Moment { now: now(), draw };
            let decided = REPLY.with_borrow_mut(|(reply, noted)| {
                noted.clear();
                match answer_traced(&self.snapshot, &known, &self.client, moment, query, reply, noted) {
                    Outcome::Reply(answered) => {
                        if !known.entries.is_empty() {
                            // What was asked for is known by now.
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
                    return Some(Response { answered, reply, noted, snapshot: self.snapshot.clone() });
                }
            }
        }
    }

    /// Fails a query, and says why.
    pub fn fail(&self, query: &[u8], why: &'static str) -> Option<Response> {
        REPLY.with_borrow_mut(|(reply, noted)| {
            noted.clear();
            let moment = Moment { now: now(), draw: 0 };
            let failing = Failing(Entry::failure(ede::OTHER, why, moment.now, 0));
            match answer_traced(&self.snapshot, &failing, &self.client, moment, query, reply, noted) {
                Outcome::Reply(answered) => {
                    let (reply, noted) = (reply[..answered.len].to_vec(), Box::new(noted.clone()));
                    Some(Response { answered, reply, noted, snapshot: self.snapshot.clone() })
                }
                _ => None,
            }
        })
    }

    /// Asks, or waits for somebody who asks the same. Says also whether what it found has ended.
    async fn ask(&self, asked: &OwnedRoutedQuestion, query: &[u8], renew: bool) -> (Answers, bool) {
        let forwarding = &self.forwarding;
        let (route, question) = (&asked.route, asked.question());
        let stale = match forwarding.cache.stale(asked.id, &question, now()) {
            // Somebody else has just got it.
            Some(entry) if !renew && entry.holds(now()) => return (known(asked, entry), false),
            stale => stale,
        };
        let deadline = match stale {
            Some(_) => self.deadline.min(Instant::now() + STALE_PATIENCE),
            // DNS64: no AAAA record in time is none (RFC 6147, 5.1.3), and there may be A records.
            None if asked.has_fallback => self.deadline.min(Instant::now() + HASTY_PATIENCE),
            None => self.deadline,
        };
        if forwarding.upstreams.is_loop_probe(question.name.wire()) {
            return (self.looped(asked), false);
        }
        let (hash, may_be_ours) = (question.hash(asked.id), self.may_be_ours(query, &question));
        let landed = loop {
            match forwarding.flights.join(hash) {
                Place::Passenger(_) if self.is_loop(route, true) => {
                    forwarding.flights.note_loop(hash);
                    break Some(self.looped(asked));
                }
                Place::Pilot(_) if self.is_loop(route, false) => break Some(self.looped(asked)),
                Place::Passenger(landing) => {
                    let landed = match may_be_ours {
                        true => Box::pin(self.unless_looped(route, landing.wait(deadline))).await,
                        false => Some(landing.wait(deadline).await),
                    };
                    match landed {
                        Some(Landed::With(answers)) => break Some(answers),
                        Some(Landed::Late) => break None,
                        Some(Landed::Lost) => {}
                        None => {
                            forwarding.flights.note_loop(hash);
                            break Some(self.looped(asked));
                        }
                    }
                }
                Place::Pilot(flight) if stale.is_none() && !asked.has_fallback => {
                    break Some(match may_be_ours {
                        true => {
                            let flown = Box::pin(self.unless_looped(route, self.fly(flight, asked))).await;
                            flown.unwrap_or_else(|| self.looped(asked))
                        }
                        false => self.fly(flight, asked).await,
                    });
                }
                Place::Pilot(flight) => {
                    let Some(detached) = Detached::take(&forwarding.detached) else {
                        break timeout_at(deadline, Box::pin(self.fly(flight, asked))).await.ok();
                    };
                    // It goes on when this client has got what there was, or something else.
                    let (asker, asked) = (self.clone(), asked.clone());
                    let flown = tokio::spawn(async move {
                        let _detached = detached;
                        asker.fly(flight, &asked).await
                    });
                    break timeout_at(deadline, flown).await.ok().and_then(Result::ok);
                }
            }
        };
        let landed = landed.unwrap_or_else(|| failed(asked, ede::NO_REACHABLE_AUTHORITY, "no server answered in time"));
        match stale {
            Some(stale) if landed.first().is_none_or(|(_, entry)| entry.rcode == rcode::SERVFAIL) => {
                forwarding.cache.went_stale();
                (known(asked, stale), true)
            }
            _ => (landed, false),
        }
    }

    /// Whether the query comes from where it would go: from one who was asked, or back to the address that was. Where it
    /// is not on its way yet, only if there is nobody else to ask.
    fn is_loop(&self, route: &Route, on_its_way: bool) -> bool {
        let Servers::Targets { targets, .. } = &route.servers else { return false };
        let (from, at) = (self.client.source, self.client.local);
        match on_its_way {
            true => targets.iter().any(|target| target.ip == from || target.ip == at),
            false => !targets.is_empty() && targets.iter().all(|target| target.ip == from && target.ip != at),
        }
    }

    /// Whether the query asks for the name in the very spelling that we ask for it at the moment: then it may be our own,
    /// come back through others.
    fn may_be_ours(&self, query: &[u8], question: &Question) -> bool {
        let name = question.name.wire();
        let spelt = self
            .on_behalf
            .query_in(query)
            .get(HEADER..HEADER + name.len())
            .filter(|spelt| spelt.eq_ignore_ascii_case(name));
        spelt.is_some_and(|spelt| self.forwarding.upstreams.may_be_ours(spelt, question.qtype))
    }

    /// What comes of a query that may be our own; none if it is, as the servers of its route send queries back to us.
    async fn unless_looped<T>(&self, route: &Route, outcome: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = outcome => Some(outcome),
            true = self.forwarding.upstreams.leads_back(route) => None,
        }
    }

    fn looped(&self, asked: &OwnedRoutedQuestion) -> Answers {
        let rule = upstream::named(&asked.route);
        let text = format!("{rule}: forwarding loop: the query came back from a server that it was sent to");
        failed(asked, 0, &text)
    }

    /// Asks, and tells all who wait and the cache.
    async fn fly(&self, flight: Flight, asked: &OwnedRoutedQuestion) -> Answers {
        let (cache, rule) = (&self.forwarding.cache, &asked.route.rule);
        let answers = match self.fetch(asked).await {
            Ok(answers) => {
                for (at, (key, entry)) in answers.iter().enumerate() {
                    // Of other names than the one asked for, what is known and holds stays.
                    if at == 0 || !cache.holds(key, now()) {
                        cache.insert(rule, key.clone(), entry.clone());
                    }
                }
                Arc::new(answers)
            }
            Err(failure) => {
                // Who asked us back may have asked with other flags.
                let leads_back = || self.forwarding.upstreams.is_known_to_lead_back(&asked.route);
                let text = match flight.has_looped() || leads_back() {
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
        flight.land(&answers);
        answers
    }

    /// Gets the answers to a question. What is said of it is kept under the route that it began with, wherever DELEGATE
    /// rules have led.
    async fn fetch(&self, asked: &OwnedRoutedQuestion) -> Result<Vec<(Key, Arc<Entry>)>, Failure> {
        let (mut route, id, question) = (asked.route.clone(), asked.id, &asked.question());
        for _ in 0..MOST_REFERRALS {
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
            if self.sent.fetch_add(1, Relaxed) >= MAX_SENT {
                return Err(Failure::new(
                    ede::NO_REACHABLE_AUTHORITY,
                    format!("the name leads to more than {MAX_SENT} questions"),
                ));
            }
            match &route.servers {
                Servers::Recursion => return Box::pin(self.recurse(id, question)).await,
                Servers::Targets { targets, .. } if targets.is_empty() => {
                    return Err(Failure::new(ede::NOT_READY, "no server is known that could be asked"));
                }
                _ => {}
            }
            let lifetimes = self.forwarding.cache.lifetimes();
            let read = |message: &[u8], is_stream: bool| {
                Ok(match read::read(message, (id, &route.domain), question, now(), lifetimes)? {
                    Read::Answers(mut answers) => {
                        // Whoever forges an answer to one name must not answer for another: targets are asked for themselves.
                        answers.truncate(if is_stream { answers.len() } else { 1 });
                        if is_authentic(&route, message) {
                            answers.iter_mut().for_each(|(_, entry)| Arc::make_mut(entry).authentic = true);
                        }
                        ControlFlow::Break(answers)
                    }
                    Read::Referral { domain, name_servers } => {
                        let below = self.below(&domain, &name_servers);
                        let below = below.ok_or("refers to other servers, and no DELEGATE rule is for these")?;
                        ControlFlow::Continue(Arc::new(below))
                    }
                })
            };
            // On the heap, so that what is made and moved for each query stays small.
            let asking = Box::pin(self.forwarding.upstreams.ask(&route, question, self.deadline, &read));
            let next = match asking.await? {
                ControlFlow::Break(answers) => return Ok(answers),
                ControlFlow::Continue(next) => next,
            };
            route = next;
        }
        Err(Failure::new(ede::NO_REACHABLE_AUTHORITY, format!("more than {MOST_REFERRALS} referrals")))
    }

    /// Asks the authoritative servers.
    async fn recurse(&self, route: RouteId, question: &Question<'_>) -> Result<Vec<(Key, Arc<Entry>)>, Failure> {
        let Some(recursion) = &self.forwarding.recursion else {
            return Err(Failure::new(ede::NOT_READY, "the internet resolver of this node does not recurse"));
        };
        let late = || Failure::new(ede::NO_REACHABLE_AUTHORITY, "no authoritative server answered in time");
        let (counters, started) = (&self.forwarding.upstreams.counters, Instant::now());
        let answers = timeout_at(self.deadline, recursion.ask(route, question, self.forwarding.cache.lifetimes()))
            .await
            .unwrap_or_else(|_| Err(late()));
        counters.recursion.observe(started.elapsed().as_secs_f64());
        if answers.is_err() {
            counters.failures.inc();
        }
        answers
    }

    /// The way below a referral, if a DELEGATE rule of the client's view matches it.
    fn below(&self, domain: &[u8], name_servers: &[NameServer]) -> Option<Route> {
        let view = self.snapshot.views.get(self.on_behalf.view?)?;
        self.snapshot.views.policies(view)?.delegates.route(domain, name_servers)
    }

    /// The addresses of some of the name servers: those that came with the referral, or else those that the client's view
    /// has.
    async fn targets(&self, name_servers: &[NameServer], domain: &[u8]) -> Vec<Target> {
        let mut addresses = known_addresses(name_servers);
        // One below its own cut cannot be found by asking it.
        let others = name_servers.iter().filter(|server| !server.name.ends_with(domain)).take(MAX_NAMES);
        for server in others {
            if !addresses.is_empty() || self.depth >= MOST_DEPTH {
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

    /// The addresses of a name, as the client would get them. This comes back to where it was called from.
    fn addresses<'a>(&'a self, name: &'a [u8], qtype: u16) -> Pin<Box<dyn Future<Output = Vec<IpAddr>> + Send + 'a>> {
        Box::pin(async move {
            let query = self.on_behalf.packet(name, qtype);
            // By the same protocol, which the entry point may ask for, and with room for the whole answer.
            let transport = match self.client.transport {
                Transport::Udp => Transport::Tcp,
                other => other,
            };
            let client = Client { transport, ..self.client };
            let asker = Asker { client, depth: self.depth + 1, ..self.clone() };
            let Some(Response { reply, .. }) = asker.respond(&query, None, false).await else { return Vec::new() };
            let records = Message::read(&reply).unwrap_or_default().sections;
            records[0].iter().filter_map(Record::address).collect()
        })
    }
}

/// The addresses that came with the names of a few name servers: the first one of each, then the second ones.
fn known_addresses(name_servers: &[NameServer]) -> Vec<IpAddr> {
    let with_address = || name_servers.iter().filter(|server| !server.addresses.is_empty()).take(MAX_NAMES);
    let nth = |at| with_address().filter_map(move |server| server.addresses.get(at).copied());
    (0..MAX_ADDRESSES).flat_map(nth).take(MAX_ADDRESSES).collect()
}

/// Whether an answer was validated by a server that is trusted with that. Nobody can change AD on the way from one on
/// loopback.
fn is_authentic(route: &Route, message: &[u8]) -> bool {
    matches!(route.servers, Servers::Targets { trust_ad: true, .. })
        && message.len() >= HEADER
        && flags(message) & flag::AD != 0
}

/// What is known already.
fn known(asked: &OwnedRoutedQuestion, entry: Arc<Entry>) -> Answers {
    Arc::new(vec![(Key::new(asked.id, &asked.question()), entry)])
}

/// The answer where there is none.
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

    /// Two VPCs which see different addresses at one name, and forwarders in the first one. Its endpoint takes DoT only.
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

    /// Thousands of queries may wait, and each is a task that is made, moved and freed again.
    #[test]
    fn few_name_servers_of_a_referral_are_asked() {
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

    #[tokio::test]
    async fn what_waits_is_small() {
        let (forwarding, query) = (forwarding(), []);
        let client =
            Client { source: [10, 1, 0, 7].into(), port: 0, local: [10, 9, 0, 1].into(), transport: Transport::Udp };
        let size = size_of_val(&super::super::respond(&forwarding, &client, &query, None, None));
        assert!(size < 1500, "{size}");
    }

    #[tokio::test]
    async fn what_is_asked_on_the_way_is_asked_for_the_same_client() {
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
            ([10, 1, 0, 22], [10, 9, 0, 1], Transport::Udp, subnet, 1), // no forwarder
            ([10, 1, 0, 21], [10, 9, 0, 1], Transport::Udp, header([10, 1, 0, 7]), 1),
            ([10, 1, 0, 21], [10, 9, 0, 1], Transport::Tcp, header([10, 2, 0, 7]), 2),
        ] {
            let client = Client { source: source.into(), port: 0, local: local.into(), transport };
            let asker = Asker::new(&forwarding, &client, &packet);
            let addresses = asker.addresses(NS, rtype::A).await;
            assert_eq!(addresses, [IpAddr::from([192, 0, 2, vpc])], "{client:?} {packet:02x?}");
            let name_servers = [NameServer { name: NS.into(), addresses: Vec::new() }];
            let followed = asker.below(b"\x04test\0", &name_servers).is_some();
            assert_eq!(followed, vpc == 2, "{client:?} {packet:02x?}");
        }
    }
}
