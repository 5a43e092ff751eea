//! Recursion: the authoritative servers are asked, from the root on, by hickory's recursor.
//!
//! It follows a chain of CNAMEs to its end by itself, and fails as a whole where one target fails. But each target is
//! decided anew here, so that of what it finds the first link is taken, and where it fails the CNAME alone is asked for.
//! That happens below the validation, so that each link is validated by itself.

use super::{
    cache::Lifetimes,
    read::{ParsedResponse, parse_response},
    upstream::Failure,
};
use crate::{
    answer::known::{Entry, Key, Question},
    clock::now,
    config::{self, Dnssec},
    snapshot::routes::RouteId,
    wire::{codes::ede, rdata::rtype},
};
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt},
};
use hickory_server::{
    net::{
        DnsError, DnsHandle, NetError,
        dnssec::DnssecDnsHandle,
        runtime::TokioRuntimeProvider,
        xfer::{DnsExchange, FirstAnswer},
    },
    proto::{
        dnssec::{Proof, TrustAnchors, rdata::DNSSECRData, rdata::RRSIG},
        op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType},
        serialize::{binary::BinDecodable, txt::Parser},
    },
    resolver::{
        ConnectionProvider, PoolContext, TlsConfig,
        config::{ConnectionConfig, ResolverOpts},
        recursor::{DnssecPolicy, QNameMinimization, Recursor, RecursorError, RecursorOptions},
    },
};
use ipnet::IpNet;
use std::{
    collections::HashSet,
    fs,
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long one server is waited for before another one is asked.
const SERVER_PATIENCE: Duration = Duration::from_millis(800);
/// How long a name is looked for before only the first link of what may be a chain is.
const CHAIN_PATIENCE: Duration = Duration::from_millis(2800);
/// How many responses, zones' servers and validations each are remembered, in front of which our own cache is.
const REMEMBERED: usize = 8192;
/// The longest text of a failure, in octets.
const MAX_TEXT: usize = 200;

/// The root servers, as IANA lists them since 2024.
const ROOT_SERVERS: [&str; 26] = [
    "198.41.0.4",
    "2001:503:ba3e::2:30",
    "170.247.170.2",
    "2801:1b8:10::b",
    "192.33.4.12",
    "2001:500:2::c",
    "199.7.91.13",
    "2001:500:2d::d",
    "192.203.230.10",
    "2001:500:a8::e",
    "192.5.5.241",
    "2001:500:2f::f",
    "192.112.36.4",
    "2001:500:12::d0d",
    "198.97.190.53",
    "2001:500:1::53",
    "192.36.148.17",
    "2001:7fe::53",
    "192.58.128.30",
    "2001:503:c27::2:30",
    "193.0.14.129",
    "2001:7fd::1",
    "199.7.83.42",
    "2001:500:9f::42",
    "202.12.27.33",
    "2001:dc3::35",
];

/// What may be remembered of large responses, in octets; beyond it they are forgotten, and nothing else is. Small ones are
/// only so many.
const MAX_LARGE_OCTETS: usize = 64 << 20;
/// What a record takes where it is remembered, in octets.
const RECORD_OCTETS: usize = 640;
/// A response with this many records is large. A referral with 13 name servers, their addresses and signatures is not.
const LARGE: usize = 64;
/// Names that are known to have large responses.
const MAX_LARGE_NAMES: usize = 4096;

/// Asks the authoritative servers, and remembers what they said.
pub struct Recursion {
    roots: Vec<IpAddr>,
    /// None where answers are not validated.
    anchors: Option<Arc<TrustAnchors>>,
    allow_servers: Vec<IpNet>,
    memory: ArcSwap<Memory>,
}

/// Those who ask, with what they remember.
struct Memory {
    links: Links,
    validator: Option<DnssecDnsHandle<Links>>,
}

impl Memory {
    fn new(roots: &[IpAddr], anchors: Option<Arc<TrustAnchors>>, allow_servers: &[IpNet]) -> anyhow::Result<Memory> {
        let links = Links(Arc::new(Recursors {
            small: Recursing::new(roots, allow_servers, true)?,
            large: ArcSwap::from_pointee(Recursing::new(roots, allow_servers, false)?),
            roots: roots.into(),
            allow_servers: allow_servers.into(),
        }));
        let validator = anchors.map(|anchors| {
            DnssecDnsHandle::with_trust_anchor(links.clone(), anchors).validation_cache_size(REMEMBERED)
        });
        Ok(Memory { links, validator })
    }
}

/// Two recursors. hickory's memory counts responses, whatever their size: large ones are for a recursor of their own, whose
/// memory can be dropped without harm to all other names.
struct Recursors {
    small: Recursing,
    large: ArcSwap<Recursing>,
    roots: Box<[IpAddr]>,
    allow_servers: Box<[IpNet]>,
}

/// A recursor, and what is noted of the responses that it gets.
struct Recursing {
    recursor: Recursor<Provider>,
    watch: Arc<Watch>,
}

/// What is noted of responses.
#[derive(Default)]
struct Watch {
    /// Large ones fail.
    takes_only_small: bool,
    /// The names that they were asked for, and their size in all, in octets.
    names: Mutex<HashSet<Name>>,
    octets: AtomicUsize,
}

impl Watch {
    fn names(&self) -> MutexGuard<'_, HashSet<Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a name, or one above it, has a large response.
    fn is_large(&self, name: &Name) -> bool {
        let names = self.names();
        !names.is_empty() && (1..=name.num_labels()).any(|labels| names.contains(&name.trim_to(labels.into())))
    }

    /// Takes notice of the response to a query for a name.
    fn check(&self, name: Option<&Name>, response: DnsResponse) -> Result<DnsResponse, NetError> {
        let records = response.answers.len() + response.authorities.len() + response.additionals.len();
        if records < LARGE {
            return Ok(response);
        }
        self.octets.fetch_add(records * RECORD_OCTETS, Relaxed);
        if !self.takes_only_small {
            return Ok(response);
        }
        let mut names = self.names();
        if names.len() >= MAX_LARGE_NAMES {
            names.clear();
        }
        names.extend(name.map(Name::to_lowercase));
        Err(NetError::from("the response is large"))
    }
}

impl Recursing {
    fn new(roots: &[IpAddr], allow_servers: &[IpNet], takes_only_small: bool) -> anyhow::Result<Recursing> {
        let options = RecursorOptions {
            ns_cache_size: REMEMBERED,
            response_cache_size: REMEMBERED as u64,
            allow_server: allow_servers.to_vec(),
            // Servers that say NXDOMAIN of a name with others below it are still around.
            qname_minimization: QNameMinimization::Relaxed,
            ..RecursorOptions::default()
        };
        let watch = Arc::new(Watch { takes_only_small, ..Watch::default() });
        let provider = Provider::new(watch.clone())?;
        let recursor = Recursor::new(roots, DnssecPolicy::ValidationDisabled, None, options, provider)?;
        Ok(Recursing { recursor, watch })
    }
}

impl Recursors {
    /// The recursor for large responses; a new one if too much is remembered of them.
    fn large(&self) -> Arc<Recursing> {
        let large = self.large.load_full();
        if large.watch.octets.load(Relaxed) <= MAX_LARGE_OCTETS {
            return large;
        }
        match Recursing::new(&self.roots, &self.allow_servers, false) {
            Ok(new) => {
                let new = Arc::new(new);
                self.large.store(new.clone());
                new
            }
            Err(error) => {
                tracing::error!("large responses of authoritative servers cannot be forgotten: {error:#}");
                large
            }
        }
    }
}

impl Recursion {
    /// Recursion as the configuration has it; its files are read now.
    pub fn new(config: &config::Recursion) -> anyhow::Result<Recursion> {
        let roots = match &config.root_hints {
            Some(file) => root_hints(file).context("check `internet_resolver.root_hints`")?,
            None => ROOT_SERVERS.iter().filter_map(|address| address.parse().ok()).collect(),
        };
        let anchors = match &config.trust_anchor {
            Some(file) => trust_anchor(file).context("check `internet_resolver.trust_anchor`")?,
            None => TrustAnchors::default(),
        };
        let anchors = (config.dnssec == Dnssec::Validate).then(|| Arc::new(anchors));
        let allow_servers = config.allow_servers.clone();
        let memory = ArcSwap::from_pointee(Memory::new(&roots, anchors.clone(), &allow_servers)?);
        Ok(Recursion { roots, anchors, allow_servers, memory })
    }

    /// Forgets what the servers said.
    pub fn forget(&self) {
        match Memory::new(&self.roots, self.anchors.clone(), &self.allow_servers) {
            Ok(memory) => self.memory.store(Arc::new(memory)),
            Err(error) => tracing::error!("what the authoritative servers said cannot be forgotten: {error:#}"),
        }
    }

    /// Gets the answer to a question: the record set, a CNAME, or that there is nothing.
    pub async fn ask(
        &self,
        route: RouteId,
        question: &Question<'_>,
        lifetimes: &Lifetimes,
    ) -> Result<Vec<(Key, Arc<Entry>)>, Failure> {
        let name = Name::from_bytes(question.name.wire()).map_err(|error| failure(ede::OTHER, &error))?;
        let query = Query::query(name.clone(), RecordType::from(question.qtype));
        let memory = self.memory.load_full();
        let (message, authentic) = match memory.validator.as_ref().filter(|_| !question.checking_disabled) {
            Some(validator) => {
                let mut options = DnsRequestOptions::default();
                options.use_edns = true;
                options.edns_set_dnssec_ok = true;
                let message = match validator.lookup(query, options).first_answer().await {
                    Ok(response) => response.into_message(),
                    Err(NetError::Dns(DnsError::Nsec { response, proof: Proof::Insecure, .. })) => {
                        let mut message = response.into_message();
                        message.authorities.iter_mut().for_each(|record| record.proof = Proof::Insecure);
                        message
                    }
                    Err(NetError::Dns(DnsError::Nsec { response, .. })) if is_proven_wildcard(&response, &name) => {
                        response.into_message()
                    }
                    // hickory 0.26 takes what is there, of any type, for what is not there.
                    Err(NetError::Dns(DnsError::Nsec { response, .. })) if is_any(&response, question.qtype, &name) => {
                        let mut message = response.into_message();
                        message.authorities.clear();
                        message
                    }
                    Err(NetError::Dns(DnsError::Nsec { .. })) => {
                        return Err(failure(ede::DNSSEC_BOGUS, &"nothing proves that there are no such records"));
                    }
                    Err(error) => return Err(told(&error)),
                };
                let authentic = judge(&message, &name)?;
                (message, authentic)
            }
            None => (memory.links.get(query).await.map_err(|error| told(&error))?, false),
        };
        let octets = message.to_vec().map_err(|error| failure(ede::OTHER, &error))?;
        let read = parse_response(&octets, (route, &[0]), question, now(), lifetimes);
        let mut answers = match read
            .map_err(|useless| failure(ede::NO_REACHABLE_AUTHORITY, &format!("an authoritative server {useless}")))?
        {
            ParsedResponse::Answers(answers) => answers,
            ParsedResponse::Referral { .. } => {
                return Err(failure(ede::NO_REACHABLE_AUTHORITY, &"an authoritative server refers to other servers"));
            }
        };
        answers.truncate(1);
        if let Some((_, entry)) = answers.first_mut() {
            Arc::make_mut(entry).authentic = authentic;
        }
        Ok(answers)
    }
}

/// Whether a validated message is secure, as against insecure; a failure if it is neither.
fn judge(message: &Message, name: &Name) -> Result<bool, Failure> {
    let records = || message.answers.iter().chain(&message.authorities).filter(|r| signature(r).is_none());
    let mut authentic = records().next().is_some();
    for record in records() {
        let proof = match record.record_type() {
            // It has no signature of its own: it was made from the DNAME, which has one.
            RecordType::CNAME if record.proof != Proof::Secure => dname(message, name, record).unwrap_or(record.proof),
            _ => record.proof,
        };
        match proof {
            // What lies in an opt-out span may be there without being signed (RFC 5155, 9.2).
            Proof::Secure => authentic &= !opts_out(record),
            Proof::Insecure => authentic = false,
            Proof::Bogus | Proof::Indeterminate => return Err(bogus(message, record)),
        }
    }
    Ok(authentic)
}

/// What is wrong with a record that is not validated.
fn bogus(message: &Message, record: &Record) -> Failure {
    let covers = |other: &&Record| {
        other.name == record.name && signature(other).is_some_and(|s| s.input().type_covered == record.record_type())
    };
    let all = || message.answers.iter().chain(&message.authorities).filter(covers).filter_map(signature);
    let now = now() as u32;
    // Serial number arithmetic (RFC 4034, 3.1.5).
    let is_past = |time: u32| now.wrapping_sub(time) < 1 << 31;
    let (code, what) = if all().next().is_none() {
        (ede::RRSIGS_MISSING, "is not signed, or its keys cannot be had")
    } else if all().all(|signature| is_past(signature.input().sig_expiration.get())) {
        (ede::SIGNATURE_EXPIRED, "has only signatures that have expired")
    } else if all().all(|signature| !is_past(signature.input().sig_inception.get())) {
        (ede::SIGNATURE_NOT_YET_VALID, "has only signatures that are not valid yet")
    } else {
        (ede::DNSSEC_BOGUS, "is bogus")
    };
    failure(code, &format!("{} {} {what}", record.name, record.record_type()))
}

fn opts_out(record: &Record) -> bool {
    matches!(&record.data, RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) if nsec3.opt_out())
}

/// Whether records of any type were asked for and are there, not made from a wildcard: that takes no proof.
fn is_any(message: &Message, qtype: u16, name: &Name) -> bool {
    let is_made = |record: &Record| signature(record).is_some_and(|s| s.input().num_labels < name.num_labels());
    qtype == rtype::ANY && !message.answers.is_empty() && !message.answers.iter().any(is_made)
}

fn signature(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => Some(signature),
        _ => None,
    }
}

/// The proof of the DNAME that a CNAME was made from (RFC 6672, 5.3.1).
fn dname(message: &Message, name: &Name, cname: &Record) -> Option<Proof> {
    let RData::CNAME(target) = &cname.data else { return None };
    let is_source = |record: &&Record| {
        let target_of = |record: &Record| match &record.data {
            RData::Unknown { rdata, .. } => Name::from_bytes(&rdata.anything).ok(),
            _ => None,
        };
        record.record_type() == RecordType::DNAME
            && is_above(&record.name, name)
            && target_of(record).is_some_and(|to| {
                let kept = usize::from(name.num_labels() - record.name.num_labels());
                let made = Name::from_labels(name.iter().take(kept).chain(to.iter()));
                made.is_ok_and(|made| made == target.0)
            })
    };
    message.answers.iter().find(is_source).map(|record| record.proof)
}

/// Whether the answer was made from a wildcard, and a NSEC record proves that nothing closer to the name exists (RFC 4035,
/// 5.3.4). hickory 0.26 has only such proofs as good that also cover the wildcard, which none does for a name right below
/// the wildcard's parent.
fn is_proven_wildcard(message: &Message, name: &Name) -> bool {
    let labels = |name: &Name| name.num_labels();
    let made: Vec<&RRSIG> = message.answers.iter().filter(|r| r.name == *name).filter_map(signature).collect();
    let Some(from) = made.first().filter(|s| s.input().num_labels < labels(name)) else { return false };
    // It is not told which of several signatures is the one that was found good.
    let is_like = |s: &RRSIG| {
        s.input().num_labels == from.input().num_labels && s.input().signer_name == from.input().signer_name
    };
    if !made.iter().all(|signature| is_like(signature)) {
        return false;
    }
    let common = |other: &Name| {
        (0..=labels(name)).rev().find(|count| name.trim_to(usize::from(*count)).zone_of(other)).unwrap_or_default()
    };
    let signer = &from.input().signer_name;
    let is_secure = |record: &&Record| record.proof == Proof::Secure;
    let is_of_zone = |owner: &Name| {
        let signatures = message.authorities.iter().filter(|record| record.name == *owner).filter_map(signature);
        signatures.into_iter().any(|s| s.input().type_covered == RecordType::NSEC && s.input().signer_name == *signer)
    };
    message.answers.iter().filter(|record| signature(record).is_none()).all(|record| is_secure(&record))
        && message.authorities.iter().filter(is_secure).any(|record| {
            let RData::DNSSEC(DNSSECRData::NSEC(nsec)) = &record.data else { return false };
            let (owner, next, types) = (&record.name, nsec.next_domain_name(), nsec.type_set());
            let is_last = next == signer;
            let is_cut = types.contains(RecordType::NS) && !types.contains(RecordType::SOA);
            let ends_here = owner.zone_of(name) && (is_cut || types.contains(RecordType::DNAME));
            owner < name
                && (name < next || is_last)
                && !ends_here
                && common(owner).max(common(next)) == from.input().num_labels
                && is_of_zone(owner)
        })
}

fn is_above(above: &Name, name: &Name) -> bool {
    above.zone_of(name) && above.num_labels() < name.num_labels()
}

/// Asks for one link at a time.
#[derive(Clone)]
struct Links(Arc<Recursors>);

impl Links {
    /// What is said of the name in question: with a CNAME it ends there.
    async fn get(&self, query: Query) -> Result<Message, NetError> {
        let small = &self.0.small;
        if !small.watch.is_large(&query.name) {
            let got = small.get(query.clone()).await;
            if !small.watch.is_large(&query.name) {
                return got;
            }
        }
        self.0.large().get(query).await
    }
}

impl Recursing {
    async fn get(&self, query: Query) -> Result<Message, NetError> {
        let recursor = &self.recursor;
        let asked = async {
            match recursor.resolve(query.clone(), Instant::now(), true).await {
                // One of the zone's servers does not have it, and hickory does not ask another one of its own accord.
                Err(RecursorError::ForwardNS(_)) => recursor.resolve(query.clone(), Instant::now(), true).await,
                resolved => resolved,
            }
        };
        let failed = match tokio::time::timeout(CHAIN_PATIENCE, asked).await {
            Ok(Ok(message)) => match link(message, &query) {
                Some(message) => return Ok(message),
                None => NetError::from("the proof of a wildcard is among others"),
            },
            Ok(Err(RecursorError::Negative(data))) if data.query.name == query.name => {
                return match (data.is_nx_domain(), &data.soa) {
                    // Servers that send us elsewhere end as this.
                    (true, None) => Err(NetError::from("the servers of the zone are not authoritative for it")),
                    _ => Ok(negative(&query, data.is_nx_domain(), data)),
                };
            }
            Ok(Err(RecursorError::Negative(_))) => NetError::from("the target of the CNAME does not exist"),
            Ok(Err(RecursorError::Net(error))) => error,
            Ok(Err(error)) => NetError::from(error.to_string()),
            Err(_) => NetError::Timeout,
        };
        // Beyond the first link somebody else may know more, and if only where the target is private.
        if !leads_on(query.query_type) {
            return Err(failed);
        }
        let first = Query::query(query.name.clone(), RecordType::CNAME);
        match recursor.resolve(first.clone(), Instant::now(), true).await {
            Ok(message) if has_cname(&message, &query.name) => link(message, &first).ok_or(failed),
            _ => Err(failed),
        }
    }
}

/// Whether a CNAME is followed for this type. Those of zones' own records are only asked for to validate others.
fn leads_on(rtype: RecordType) -> bool {
    !matches!(rtype, RecordType::CNAME | RecordType::ANY | RecordType::DS | RecordType::DNSKEY)
}

fn has_cname(message: &Message, name: &Name) -> bool {
    message.answers.iter().any(|record| record.name == *name && record.record_type() == RecordType::CNAME)
}

/// Of a message only what is said of the name in question. None if what proves a wildcard cannot be told from what is said
/// of the CNAME's target.
fn link(mut message: Message, query: &Query) -> Option<Message> {
    let name = &query.name;
    let is_chain = leads_on(query.query_type) && has_cname(&message, name);
    let is_wildcard = |record: &Record| {
        record.name == *name && signature(record).is_some_and(|s| s.input().num_labels < name.num_labels())
    };
    let proof_is_needed = message.answers.iter().any(is_wildcard);
    if is_chain && proof_is_needed {
        return None;
    }
    message.answers.retain(|record| {
        let is_dname = record.record_type() == RecordType::DNAME
            || signature(record).is_some_and(|s| s.input().type_covered == RecordType::DNAME);
        let is_asked = !is_chain || is_about(record, RecordType::CNAME);
        record.name == *name && is_asked || is_dname && is_above(&record.name, name)
    });
    match message.answers.is_empty() {
        true => {}
        false if proof_is_needed => message
            .authorities
            .retain(|record| is_about(record, RecordType::NSEC) || is_about(record, RecordType::NSEC3)),
        false => message.authorities.clear(),
    }
    message.additionals.clear();
    if message.queries.is_empty() {
        message.add_query(query.clone());
    }
    Some(message.into_response())
}

/// Whether it is of this type, or signs that.
fn is_about(record: &Record, rtype: RecordType) -> bool {
    record.record_type() == rtype || signature(record).is_some_and(|s| s.input().type_covered == rtype)
}

fn negative(query: &Query, is_nx_domain: bool, data: hickory_server::resolver::recursor::AuthorityData) -> Message {
    let mut message = Message::query();
    message.add_query(query.clone());
    message.metadata.response_code = if is_nx_domain { ResponseCode::NXDomain } else { ResponseCode::NoError };
    message.metadata.authoritative = true;
    message.add_authorities(data.authorities.iter().flat_map(|records| records.iter()).cloned());
    if let Some(soa) = data.soa {
        let soa = soa.into_record_of_rdata();
        if !message.authorities.contains(&soa) {
            message.add_authority(soa);
        }
    }
    message.into_response()
}

impl DnsHandle for Links {
    type Response = BoxStream<'static, Result<DnsResponse, NetError>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let links = self.clone();
        let asked = async move {
            let query = request.queries.first().cloned().ok_or(NetError::from("no query in request"))?;
            DnsResponse::from_message(links.get(query).await?).map_err(NetError::from)
        };
        stream::once(asked).boxed()
    }
}

/// Connections that are given up sooner than hickory's own, so that another server can still be asked, and whose responses
/// are watched.
#[derive(Clone)]
struct Provider {
    runtime: TokioRuntimeProvider,
    watch: Arc<Watch>,
    context: Arc<PoolContext>,
}

impl Provider {
    fn new(watch: Arc<Watch>) -> anyhow::Result<Provider> {
        let mut options = ResolverOpts::default();
        options.timeout = SERVER_PATIENCE;
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        Ok(Provider { runtime: TokioRuntimeProvider::default(), watch, context })
    }
}

impl ConnectionProvider for Provider {
    type Conn = Watched;
    type FutureConn = BoxFuture<'static, Result<Watched, NetError>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        _: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let (connecting, watch) = (self.runtime.new_connection(ip, config, &self.context)?, self.watch.clone());
        Ok(connecting.map(|exchange| Ok(Watched { exchange: exchange?, watch })).boxed())
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.runtime
    }
}

/// A connection whose responses are watched.
#[derive(Clone)]
struct Watched {
    exchange: DnsExchange<TokioRuntimeProvider>,
    watch: Arc<Watch>,
}

impl DnsHandle for Watched {
    type Response = BoxStream<'static, Result<DnsResponse, NetError>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let (name, watch) = (request.queries.first().map(|query| query.name.clone()), self.watch.clone());
        self.exchange.send(request).map(move |response| watch.check(name.as_ref(), response?)).boxed()
    }
}

/// The addresses in a file of root hints.
pub fn root_hints(file: &Path) -> anyhow::Result<Vec<IpAddr>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let parsed = Parser::new(text, None, Some(Name::root())).parse();
    let (_, sets) = parsed.map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    let records = sets.values().flat_map(|set| set.records_without_rrsigs());
    let addresses: Vec<IpAddr> = records.filter_map(|record| record.data.ip_addr()).collect();
    if addresses.is_empty() {
        bail!("{} has no addresses of root servers", file.display());
    }
    Ok(addresses)
}

/// The keys in a file of DNSKEY records.
pub fn trust_anchor(file: &Path) -> anyhow::Result<TrustAnchors> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let anchors: TrustAnchors = text.parse().map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    if anchors.is_empty() {
        bail!("{} has no DNSKEY records", file.display());
    }
    Ok(anchors)
}

/// What an error of hickory is to a client.
fn told(error: &NetError) -> Failure {
    match error {
        NetError::Timeout | NetError::NoConnections => {
            failure(ede::NO_REACHABLE_AUTHORITY, &"no authoritative server answered in time")
        }
        NetError::Io(error) => failure(ede::NETWORK_ERROR, &error),
        error => failure(ede::NO_REACHABLE_AUTHORITY, error),
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
