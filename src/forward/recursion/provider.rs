//! The connections of hickory's recursor to authoritative servers. What the recursor does not do is done here, between it and
//! the packets:
//!
//! - A budget for each client query, over everything that it causes.
//! - Which server is asked next: one that is down, lame or avoided fails as one that cannot be reached, so that the recursor
//!   goes on to the next one. hickory 0.26 fails the query at the first REFUSED or SERVFAIL.
//! - A second attempt without EDNS at servers that refuse it (RFC 6891, 7).
//! - Of a response only what can matter is kept ([`filter`]).
//! - Few steps on the way to deep names (RFC 9156, 2.3), and none below a name that does not exist (RFC 8020).
//! - The answer to the question itself is kept for [`Errand`], before the recursor follows CNAMEs.

use super::{
    addresses::Addresses,
    errand::{ERRAND, Errand, Said},
    filter::{self, Kind},
    servers::Servers,
    validation::labels,
};
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

/// How long hickory waits for a connection or an answer; most often we have given up before.
const CONNECTION_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long an answer by TCP is waited for at least.
const TCP_TIMEOUT: Duration = Duration::from_millis(1000);
/// Where the question is in a message: behind the header.
const QUESTION: usize = 12;
/// hickory sends nothing a second time within this: another server is asked instead.
const NEVER: Duration = Duration::from_secs(60);

/// Makes connections.
#[derive(Clone)]
pub struct Provider {
    runtime: TokioRuntimeProvider,
    servers: Arc<Servers>,
    /// The TTL that name servers may have, in seconds.
    lifetimes: RangeInclusive<u32>,
    addresses: Arc<Addresses>,
    /// Addresses that referrals leave out are looked for.
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
    /// Makes connections to servers of which something may be known. Name servers have a TTL within `lifetimes`, in seconds. With
    /// `completes`, the addresses that referrals leave out are looked for.
    pub fn new(
        servers: Arc<Servers>,
        lifetimes: RangeInclusive<u32>,
        addresses: Arc<Addresses>,
        completes: bool,
    ) -> anyhow::Result<Provider> {
        let mut options = ResolverOpts::default();
        options.timeout = CONNECTION_TIMEOUT;
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let runtime = TokioRuntimeProvider::default();
        Ok(Provider { runtime, servers, lifetimes, addresses, completes, context })
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

/// A response that ends what the recursor is about, and is not held against the server.
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
        // Of name servers only the addresses are looked for that can be reached.
        if !is_asked && query.query_type == RecordType::AAAA && !filter::has_ipv6() {
            return refused(&query);
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
        let response = self.exchange(request, &query, errand).await?;
        if response.truncation {
            return Ok(response);
        }
        let code = response.response_code;
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
            // Some have nothing to show where there is nothing, and some do not say that they have the zone.
            Kind::Doubtful if !errand.is_second => return Err(next("the server may not have the zone")),
            Kind::Referral(cut) => {
                let is_here = cut == labels(&query.name);
                if is_here && query.query_type == RecordType::NS {
                    is_referral = true;
                } else if query.name.zone_of(&errand.name) && errand.skips(cut) {
                    // A cut that was not asked for: the recursor has to begin anew, and ask for it.
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
            errand.put(Said { message: Arc::new(message), server: Some(self.ip) });
            return placeholder.map_or_else(|| refused(&query), |message| Ok(DnsResponse::from_message(message)?));
        }
        if message.response_code == ResponseCode::NXDomain && query.name.zone_of(&errand.name) {
            errand.deny();
        }
        if query.query_type == RecordType::NS {
            filter::keep_referral(&mut message, &query.name, &self.provider.lifetimes);
            self.provider.addresses.remember(&message);
            if self.provider.completes && !errand.is_aside && is_referral {
                self.provider.addresses.complete(&mut message, errand).await;
            }
        } else {
            filter::keep_answer(&mut message, &query);
        }
        Ok(DnsResponse::from_message(message)?)
    }

    /// Asks, and once more without EDNS if the server refuses that.
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
        let mut time = self.provider.servers.timeout(self.ip);
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

/// A response that tells the recursor that the server has answered, without what there is to follow or to keep. None if there
/// is nothing of the kind.
fn placeholder(message: &Message) -> Option<Message> {
    let first = message.answers.iter().find(|record| !matches!(record.data, RData::CNAME(_)))?;
    let mut short = Message::query();
    short.add_queries(message.queries.iter().cloned());
    short.metadata.authoritative = true;
    short.add_answer(first.clone());
    Some(short.into_response())
}

/// Takes the random case out of the names in a response (draft-vixie-dnsext-dns0x20): what is compressed points to the question.
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
