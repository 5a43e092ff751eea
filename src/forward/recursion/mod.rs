//! Recursion: zonal asks the authoritative servers itself, from the root on.
//!
//! hickory's recursor finds the servers of a zone and sends the queries. The modules here sit
//! between the recursor and its connections. They bound the cost of a client query, choose servers,
//! and filter and validate responses. The recursor resolves one link of a CNAME chain at a time.
//! After each link, [`respond`](super::respond) decides again which route is responsible for the
//! target.
//!
//! ```text
//! lanes             threads, and a queue for each client
//! resolver          asks hickory's recursor for one record set, and caches the responses
//! errand            the budget of a client query, and the state of one question to the recursor
//! provider          the recursor's connections: selects servers and filters responses
//! filter            classifies a response, and removes records that cannot matter
//! servers           round-trip times of servers, and which servers are down
//! addresses         addresses of name servers that referrals leave out
//! delegations       the name servers of zones, for DNS Firewall
//! validation        DNSSEC validation of responses
//! managed_anchors   trust anchors that follow key rollovers
//! negative_anchors  names whose answers count as insecure until a time
//! steps             the steps of a client query, for `zonal explain`
//! hints             the root servers and the root keys
//! ```

mod addresses;
mod delegations;
mod errand;
mod filter;
mod hints;
mod lanes;
mod managed_anchors;
pub mod negative_anchors;
mod provider;
mod resolver;
mod servers;
mod steps;
mod validation;

use super::{
    cache::Lifetimes,
    read::{ParsedResponse, parse_response},
    upstream::Failure,
};
use crate::{
    answer::{
        Stage,
        known::{Entry, Key, Question},
        name_servers::NameServers,
    },
    clock::now,
    config::{self, Dnssec},
    snapshot::routes::RouteId,
    wire::codes::ede,
};
use anyhow::Context;
use arc_swap::ArcSwap;
pub use errand::Budget;
use errand::Said;
use futures_util::future::{Either, select};
use hickory_server::proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
    serialize::binary::BinDecodable,
};
pub use hints::{root_hints, trust_anchor};
use lanes::Lanes;
use managed_anchors::{ManagedAnchors, RETRY};
use negative_anchors::NegativeAnchors;
use resolver::{Options, Resolver};
use std::{
    net::IpAddr,
    path::Path,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};
use validation::{
    Anchors, MAX_SERVERS, Source, Validator,
    proven::{Proof, Reason, Unproven},
};

/// Longest text of a failure, in octets.
const MAX_TEXT: usize = 200;
/// Time from the start until the first look at the trust anchors.
const FIRST_LOOK: Duration = Duration::from_secs(60);
/// Longest time between two looks at the trust anchors.
const MAX_LOOK: Duration = Duration::from_secs(15 * 86_400);

/// Resolves names by asking authoritative servers.
pub struct Recursion {
    lanes: Lanes,
    shared: Arc<Shared>,
    /// Names whose answers count as insecure until a time.
    pub negative_anchors: Arc<NegativeAnchors>,
}

/// The part of recursion that the task for trust anchors uses too.
struct Shared {
    seeker: ArcSwap<Seeker>,
    options: Options,
    anchors: ManagedAnchors,
}

impl Shared {
    /// Drops all cached responses, servers and keys.
    fn forget(&self) {
        match Seeker::new(&self.options, &self.anchors.trusted()) {
            Ok(seeker) => self.seeker.store(Arc::new(seeker)),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "recursion cache not flushed");
            }
        }
    }

    /// Looks at the DNSKEY records of all trust anchors (RFC 5011). Returns the time until the next
    /// look.
    async fn follow_anchors(&self) -> Duration {
        let mut next = MAX_LOOK;
        let mut has_changed = false;
        for name in self.anchors.names() {
            let (seeker, budget) = (self.seeker.load_full(), Arc::<Budget>::default());
            let mut avoided: Vec<IpAddr> = Vec::new();
            let followed = loop {
                let said = match seeker.resolver.ask(&name, RecordType::DNSKEY, &avoided, &budget).await {
                    Ok(said) => said,
                    Err(failure) => break Err(failure.text),
                };
                let (is_new, followed) = self.anchors.follow(&name, &said.message, now());
                has_changed |= is_new;
                match (followed, said.server) {
                    (Ok(time), _) => break Ok(time),
                    (Err(_), Some(server)) if avoided.len() + 1 < MAX_SERVERS => avoided.push(server),
                    (Err(unproven), _) => break Err(unproven.text),
                }
            };
            next = next.min(followed.unwrap_or_else(|error| {
                tracing::warn!(zone = %name, error, "trust anchors not followed");
                RETRY
            }));
        }
        if has_changed {
            self.forget();
        }
        next
    }
}

/// Looks at the trust anchors again and again, until recursion ends.
async fn follow_anchors(shared: Weak<Shared>) {
    let mut wait = FIRST_LOOK;
    loop {
        tokio::time::sleep(wait).await;
        let Some(shared) = shared.upgrade() else { return };
        wait = shared.follow_anchors().await;
    }
}

/// A resolver with its caches, and the validator of its responses.
struct Seeker {
    resolver: Arc<Resolver>,
    validator: Validator<Arc<Resolver>>,
}

impl Seeker {
    fn new(options: &Options, anchors: &Anchors) -> anyhow::Result<Seeker> {
        let resolver = Resolver::new(options)?;
        let validator = Validator::new(resolver.clone(), anchors.clone());
        Ok(Seeker { resolver, validator })
    }

    /// Asks for a record set, and proves the keys of the zones above it at the same time. So a server
    /// that is far away costs fewer round trips one after the other.
    async fn ask_and_prove(&self, query: &Query, avoided: &[IpAddr], budget: &Arc<Budget>) -> Result<Said, Failure> {
        let asking = pin!(self.resolver.ask(&query.name, query.query_type, avoided, budget));
        let proving = pin!(self.validator.prove_above(&query.name, budget));
        match select(asking, proving).await {
            Either::Left((said, proving)) => {
                if said.is_ok() {
                    proving.await;
                }
                said
            }
            Either::Right(((), asking)) => asking.await,
        }
    }

    /// Returns the first link of the chain at a name, and whether that link is secure. With
    /// `is_unchecked`, does not validate the link.
    ///
    /// If a response cannot be validated, this asks up to `MAX_SERVERS` servers of the zone.
    async fn seek(&self, query: &Query, is_unchecked: bool, budget: &Arc<Budget>) -> Result<(Message, bool), Failure> {
        if !budget.take_link() {
            return Err(failure(ede::NO_REACHABLE_AUTHORITY, &"the name leads to too many other names"));
        }
        let step = |text: &dyn Fn() -> String| {
            budget.steps.note(Stage::Validation, || format!("{} {}: {}", query.name, query.query_type, text()));
        };
        if is_unchecked {
            let said = self.resolver.ask(&query.name, query.query_type, &[], budget).await?;
            step(&|| "not validated".into());
            return Ok((Message::clone(&said.message), false));
        }
        if let Some(message) = self.validator.deny(query, budget) {
            step(&|| format!("{}, secure: validated denials in the cache prove it", message.response_code));
            return Ok((message, true));
        }
        let mut avoided: Vec<IpAddr> = Vec::new();
        let mut unproven: Option<Unproven> = None;
        loop {
            let said = match self.ask_and_prove(query, &avoided, budget).await {
                Ok(said) => said,
                Err(failure) => return Err(unproven.map_or(failure, Failure::from)),
            };
            let mut message = Message::clone(&said.message);
            match self.validator.validate(query, &mut message, budget).await {
                Ok(proof) => {
                    step(&|| match proof {
                        Proof::Secure => "secure".into(),
                        Proof::Insecure => "insecure: no signature is needed".into(),
                    });
                    return Ok((message, proof == Proof::Secure));
                }
                // Another server of the zone may have the missing or correct records.
                Err(error) => {
                    step(&|| format!("not proven: {}", error.text));
                    match said.server {
                        Some(server) if error.reason != Reason::TooMuchWork && avoided.len() + 1 < MAX_SERVERS => {
                            avoided.push(server);
                            unproven.get_or_insert(error);
                        }
                        _ => return Err(error.into()),
                    }
                }
            }
        }
    }
}

impl Recursion {
    /// Creates recursion from the configuration. Reads the root hints and trust anchor files, and the
    /// negative trust anchors in the state directory.
    ///
    /// # Errors
    /// A file cannot be read or has no usable records, or the threads do not start.
    pub fn new(config: &config::Recursion, state_directory: Option<&Path>) -> anyhow::Result<Recursion> {
        let roots = match &config.root_hints {
            Some(file) => root_hints(file).context("check `internet_resolver.root_hints`")?,
            None => hints::root_servers(),
        };
        let anchors = match &config.trust_anchor {
            Some(file) => trust_anchor(file).context("check `internet_resolver.trust_anchor`")?,
            None => hints::root_keys(),
        };
        let options = Options { roots, allow_servers: config.allow_servers.clone() };
        let managed = ManagedAnchors::new(&anchors, state_directory, now());
        let seeker = ArcSwap::from_pointee(Seeker::new(&options, &managed.trusted())?);
        let trusted = anchors.iter().map(|(name, _)| name.clone()).collect();
        let negative_anchors =
            NegativeAnchors::new(&config.negative_trust_anchors, trusted, state_directory, now()).into();
        let (lanes, shared) = (Lanes::new()?, Arc::new(Shared { seeker, options, anchors: managed }));
        if config.dnssec == Dnssec::Validate {
            lanes.spawn(follow_anchors(Arc::downgrade(&shared)));
        }
        Ok(Recursion { lanes, shared, negative_anchors })
    }

    /// Drops all cached responses, servers and keys.
    pub fn forget(&self) {
        self.shared.forget();
    }

    /// Resolves a client's question: a record set, a CNAME, or a negative answer.
    ///
    /// All work is charged to the budget of the client's query.
    ///
    /// # Errors
    /// No authoritative server gives a usable answer, the answer is bogus, or the budget is used
    /// up.
    pub async fn ask(
        &self,
        client: IpAddr,
        route: RouteId,
        question: &Question<'_>,
        budget: &Arc<Budget>,
        lifetimes: &Lifetimes,
    ) -> Result<Vec<(Key, Arc<Entry>)>, Failure> {
        let name = Name::from_bytes(question.name.wire()).map_err(|error| failure(ede::OTHER, &error))?;
        let query = Query::query(name, RecordType::from(question.qtype));
        let (seeker, budget) = (self.shared.seeker.load_full(), budget.clone());
        let is_insecure = self.negative_anchors.covers(&query.name, query.query_type, now());
        let is_unchecked = question.checking_disabled || is_insecure;
        if is_insecure {
            budget.steps.note(Stage::Validation, || format!("a negative trust anchor covers {}", query.name));
        }
        let job = async move {
            let (message, authentic) = seeker.seek(&query, is_unchecked, &budget).await?;
            let octets = message.to_vec().map_err(|error| failure(ede::OTHER, &error))?;
            Ok::<_, Failure>((octets, authentic, seeker.resolver.name_servers(&query.name)))
        };
        let found = self.lanes.run(client, job).await;
        let (octets, authentic, servers): (Vec<u8>, bool, Option<Arc<NameServers>>) =
            found.unwrap_or_else(|| Err(failure(ede::OTHER, &"recursion has failed, and this is a bug")))?;
        let read = parse_response(&octets, (route, &[0]), question, now(), lifetimes);
        let useless = |useless| failure(ede::NO_REACHABLE_AUTHORITY, &format!("an authoritative server {useless}"));
        let mut answers = match read.map_err(useless)? {
            ParsedResponse::Answers(answers) => answers,
            ParsedResponse::Referral { .. } => {
                return Err(failure(ede::NO_REACHABLE_AUTHORITY, &"an authoritative server refers to other servers"));
            }
        };
        answers.truncate(1);
        if let Some((_, entry)) = answers.first_mut() {
            let entry = Arc::make_mut(entry);
            entry.authentic = authentic;
            entry.servers = servers;
            // The answer is for this query only: an answer in the cache could be served as stale when the negative trust
            // anchor has ended. The cache of recursion has the response.
            if is_insecure {
                entry.ttl = 0;
            }
        }
        Ok(answers)
    }
}

fn failure(code: u16, text: &impl ToString) -> Failure {
    let mut text = text.to_string();
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    Failure::new(code, text)
}
