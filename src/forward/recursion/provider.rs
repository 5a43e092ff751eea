//! The connections of hickory's recursor to authoritative servers.
//!
//! The connections add what the recursor lacks:
//!
//! - A budget for each client query. It covers all queries that the client query causes.
//! - Server selection. A server that is down, lame or avoided fails like an unreachable server, so
//!   the recursor asks the next one. hickory 0.26 fails the query at the first REFUSED or SERVFAIL.
//! - A second attempt without EDNS if a server refuses EDNS (RFC 6891, section 7).
//! - Filtered responses: only records that can matter remain ([`filter`]).
//! - Few steps on the way to deep names (RFC 9156, section 2.3), and no step below a name that does
//!   not exist (RFC 8020).
//! - The answer to the question itself goes to the [`Errand`] before the recursor follows CNAMEs.

use super::{
    addresses::Addresses,
    delegations::{Delegations, Referral},
    errand::{ERRAND, Errand, Said},
    filter::{self, Kind},
    servers::Servers,
    validation::labels,
};
use crate::answer::Stage;
use futures_util::{
    FutureExt,
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt},
};
use hickory_server::{
    net::{
        DnsHandle, NetError,
        runtime::TokioRuntimeProvider,
        xfer::{DnsExchange, FirstAnswer, Protocol},
    },
    proto::{
        op::{DnsRequest, DnsResponse, Message, Query, ResponseCode},
        rr::{RData, RecordType},
        serialize::binary::{BinEncodable, BinEncoder, NameEncoding},
    },
    resolver::{
        ConnectionProvider, PoolContext, TlsConfig,
        config::{ConnectionConfig, ResolverOpts},
    },
};
use std::{
    io,
    net::IpAddr,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

/// Time for which hickory waits for a connection or an answer. The time-out in [`Connection::once`]
/// usually ends first.
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(1500);
/// Shortest time-out for an answer over TCP.
const TCP_TIMEOUT: Duration = Duration::from_millis(1000);
/// Maximum number of servers of a referral that an explanation names.
const MAX_SHOWN: usize = 4;
/// Offset of the question in a message, in octets: the length of the header.
const QUESTION: usize = 12;
/// Retry interval for hickory, longer than any time-out. It keeps hickory from sending a packet
/// twice: zonal asks another server instead.
const NEVER: Duration = Duration::from_secs(60);

/// Makes connections to authoritative servers.
#[derive(Clone)]
pub struct Provider {
    runtime: TokioRuntimeProvider,
    servers: Arc<Servers>,
    /// Range to which the TTL of name servers is clamped, in seconds.
    lifetimes: RangeInclusive<u32>,
    addresses: Arc<Addresses>,
    delegations: Arc<Delegations>,
    /// Whether to look up the addresses that referrals leave out.
    completes: bool,
    context: Arc<PoolContext>,
}

/// A connection to an authoritative server.
#[derive(Clone)]
pub struct Connection {
    exchange: DnsExchange<TokioRuntimeProvider>,
    provider: Provider,
    ip: IpAddr,
    is_stream: bool,
}

impl Provider {
    /// Creates a provider that shares the state of `servers`.
    ///
    /// The TTL of name servers is clamped to `lifetimes`, in seconds. If `completes` is true, the
    /// provider looks up the addresses that referrals leave out.
    pub fn new(
        servers: Arc<Servers>,
        lifetimes: RangeInclusive<u32>,
        addresses: Arc<Addresses>,
        delegations: Arc<Delegations>,
        completes: bool,
    ) -> anyhow::Result<Provider> {
        let mut options = ResolverOpts::default();
        options.timeout = CONNECTION_TIMEOUT;
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let runtime = TokioRuntimeProvider::default();
        Ok(Provider { runtime, servers, lifetimes, addresses, delegations, completes, context })
    }
}

impl ConnectionProvider for Provider {
    type Conn = Connection;
    type FutureConn = BoxFuture<'static, Result<Connection, NetError>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        _: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let is_stream = config.protocol.to_protocol() != Protocol::Udp;
        let connecting = self.runtime.new_connection(ip, config, &self.context)?;
        let provider = self.clone();
        Ok(connecting.map(move |exchange| Ok(Connection { exchange: exchange?, provider, ip, is_stream })).boxed())
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.runtime
    }
}

impl DnsHandle for Connection {
    type Response = BoxStream<'static, Result<DnsResponse, NetError>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let (connection, errand) = (self.clone(), ERRAND.try_with(Arc::clone).ok());
        stream::once(async move { connection.ask(request, errand.as_deref()).await }).boxed()
    }
}

/// A failure after which the recursor asks another server.
fn next(why: impl ToString) -> NetError {
    NetError::from(io::Error::other(why.to_string()))
}

/// A response that ends the current step of the recursor without counting as a fault of the server.
fn refused(query: &Query) -> Result<DnsResponse, NetError> {
    let mut message = Message::query();
    message.add_query(query.clone());
    message.metadata.response_code = ResponseCode::Refused;
    Ok(DnsResponse::from_message(message.into_response())?)
}

impl Connection {
    async fn ask(&self, request: DnsRequest, errand: Option<&Errand>) -> Result<DnsResponse, NetError> {
        let query = request.original_query().or(request.queries.first()).cloned();
        let query = query.ok_or(NetError::from("no query in request"))?;
        let Some(errand) = errand else { return Err(NetError::from("nobody asks")) };
        let is_asked = errand.is_about(&query);
        let is_on_the_way = !is_asked && query.query_type == RecordType::NS && query.name.zone_of(&errand.name);
        if is_on_the_way && errand.skips(labels(&query.name)) {
            return refused(&query);
        }
        // An IPv6 address of a name server is useless without an IPv6 route.
        if !is_asked && query.query_type == RecordType::AAAA && !filter::has_ipv6() {
            return refused(&query);
        }
        if errand.is_hopeless() {
            return Err(NetError::from("no server of the zone has an address"));
        }
        if is_asked && errand.avoided.contains(&self.ip) {
            return Err(next("another server is asked for a better answer"));
        }
        if self.provider.servers.is_down(self.ip) && !errand.is_second {
            return Err(next("the server is down"));
        }
        if is_asked {
            errand.begin();
        }
        let started = Instant::now();
        let response = self.exchange(request, &query, errand).await;
        let step = |text: &dyn Fn() -> String| {
            errand.budget.steps.note(Stage::Recursion, || {
                let elapsed = started.elapsed().as_secs_f64() * 1000.0;
                let Query { name, query_type, .. } = &query;
                format!("{}: {name} {query_type}: {}; {elapsed:.1} ms", self.ip, text())
            });
        };
        let response = response.inspect_err(|error| step(&|| error.to_string()))?;
        if response.truncation {
            step(&|| "answers with a truncated message".into());
            return Ok(response);
        }
        let code = response.response_code;
        step(&|| said(&response, &query));
        if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::YXDomain) {
            return Err(next(format!("the server answers {code}")));
        }
        let mut message = response.into_message();
        if message.queries.is_empty() {
            message.add_query(query.clone());
        }
        let mut is_referral = false;
        match filter::kind(&message, &query) {
            Kind::Lame => return Err(next("the server does not have the zone")),
            // Some servers send neither records nor a SOA record for a negative answer, and some do
            // not set AA. Such a response counts if no server has a better one.
            Kind::Doubtful if is_asked => {
                filter::keep_answer(&mut message, &query);
                errand.put_doubtful(Said { message: Arc::new(message), server: Some(self.ip) });
                return Err(next("the server may not have the zone"));
            }
            Kind::Doubtful if !errand.is_second => return Err(next("the server may not have the zone")),
            Kind::Referral(cut) => {
                let is_here = cut == labels(&query.name);
                if is_here && query.query_type == RecordType::NS {
                    is_referral = true;
                } else if query.name.zone_of(&errand.name) && errand.skips(cut) {
                    // The server refers to a zone cut that the recursor did not ask for. The
                    // recursor has to start again and ask for the cut.
                    errand.find_cut(cut);
                    return refused(&query);
                } else if is_here && query.query_type == RecordType::DS {
                    filter::take_ds(&mut message, &query.name);
                } else {
                    return Err(next("the server refers to servers above"));
                }
            }
            _ => {}
        }
        if is_asked && !is_referral {
            filter::keep_answer(&mut message, &query);
            let placeholder = placeholder(&message);
            let said = Said { message: Arc::new(message), server: Some(self.ip) };
            // Other errands may wait for the same response. hickory gives them the placeholder.
            self.provider.addresses.keep(&query, &said);
            errand.put(said);
            return placeholder.map_or_else(|| refused(&query), |message| Ok(DnsResponse::from_message(message)?));
        }
        if message.response_code == ResponseCode::NXDomain && query.name.zone_of(&errand.name) {
            let mut denial = message.clone();
            filter::keep_answer(&mut denial, &query);
            denial.queries = vec![Query::query(errand.name.clone(), errand.rtype)];
            errand.deny(Said { message: Arc::new(denial), server: Some(self.ip) });
        }
        if query.query_type == RecordType::NS {
            let named = Referral::read(&message, &query.name);
            filter::keep_referral(&mut message, &query.name, &self.provider.lifetimes);
            self.provider.addresses.remember(&message, &query.name);
            let Provider { addresses, lifetimes, completes, .. } = &self.provider;
            if !addresses.find(&mut message, &query.name, errand, *lifetimes.start()).await {
                if is_on_the_way {
                    errand.give_up();
                }
                return Err(NetError::from("no server of the zone has an address"));
            }
            if is_referral && *completes && !errand.is_aside() {
                addresses.complete(&mut message, &query.name, errand).await;
            }
            if let Some(mut named) = named {
                named.complete(&message);
                self.provider.delegations.note(&query.name, named);
            }
            // The recursor would answer a question for the NS records from its cache, which lacks the signatures.
            message.metadata.authoritative = false;
        } else {
            filter::keep_answer(&mut message, &query);
        }
        Ok(DnsResponse::from_message(message)?)
    }

    /// Sends a request, and sends it again without EDNS if the server refuses EDNS.
    async fn exchange(&self, request: DnsRequest, query: &Query, errand: &Errand) -> Result<DnsResponse, NetError> {
        let mut request = request;
        request.options_mut().retry_interval = NEVER;
        let mut plain = request.clone();
        plain.edns = None;
        if self.provider.servers.is_plain(self.ip) {
            return self.once(plain, query, errand).await;
        }
        let has_edns = request.edns.is_some();
        let response = self.once(request, query, errand).await?;
        let code = response.response_code;
        let refuses = matches!(code, ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS);
        if !(has_edns && refuses) {
            return Ok(response);
        }
        let response = self.once(plain, query, errand).await?;
        if response.response_code != code {
            self.provider.servers.note_plain(self.ip);
        }
        Ok(response)
    }

    async fn once(&self, request: DnsRequest, query: &Query, errand: &Errand) -> Result<DnsResponse, NetError> {
        if !errand.budget.take_query() {
            return Err(NetError::from("the name takes too many queries"));
        }
        let mut time = self.provider.servers.timeout(self.ip, errand.is_second);
        if self.is_stream {
            time = TCP_TIMEOUT.max(2 * time);
        } else if errand.is_second {
            time *= 2;
        }
        let started = Instant::now();
        match tokio::time::timeout(time, self.exchange.send(request).first_answer()).await {
            Err(_) | Ok(Err(NetError::Timeout)) => {
                self.provider.servers.note_timeout(self.ip);
                Err(next("the server does not answer in time"))
            }
            Ok(Err(error @ NetError::QueryCaseMismatch)) => Err(error),
            Ok(Err(error)) => Err(next(error)),
            Ok(Ok(response)) => {
                if !self.is_stream {
                    self.provider.servers.note_answer(self.ip, started.elapsed());
                }
                restore(response, query)
            }
        }
    }
}

/// What a response says, in a few words.
fn said(message: &Message, query: &Query) -> String {
    let code = message.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::YXDomain) {
        return format!("answers {code}");
    }
    match filter::kind(message, query) {
        Kind::Answer => format!("answers {code} with {} records", message.answers.len()),
        Kind::Doubtful => "answers, but may not have the zone".into(),
        Kind::Lame => "does not have the zone".into(),
        Kind::Referral(cut) => {
            let servers: Vec<String> = message
                .authorities
                .iter()
                .filter_map(|record| match &record.data {
                    RData::NS(server) => Some(server.0.to_string()),
                    _ => None,
                })
                .take(MAX_SHOWN)
                .collect();
            format!("refers to {}, servers {}", query.name.trim_to(cut), servers.join(", "))
        }
    }
}

/// Returns a short response that tells the recursor that the server answered. It has one record
/// that is no CNAME. None if the answer section has no such record.
fn placeholder(message: &Message) -> Option<Message> {
    let first = message.answers.iter().find(|record| !matches!(record.data, RData::CNAME(_)))?;
    let mut short = Message::query();
    short.add_queries(message.queries.iter().cloned());
    short.metadata.authoritative = true;
    short.add_answer(first.clone());
    Some(short.into_response())
}

/// Restores the letter case of the question (draft-vixie-dnsext-dns0x20). Compressed names in the
/// response point to the question, so they change with it.
fn restore(response: DnsResponse, query: &Query) -> Result<DnsResponse, NetError> {
    let mut name = Vec::new();
    let mut encoder = BinEncoder::new(&mut name);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    query.name.emit(&mut encoder)?;
    let mut buffer = response.as_buffer().to_vec();
    match buffer.get_mut(QUESTION..QUESTION + name.len()) {
        Some(asked) if asked != name && asked.eq_ignore_ascii_case(&name) => asked.copy_from_slice(&name),
        _ => return Ok(response),
    }
    Ok(DnsResponse::from_buffer(buffer)?)
}
