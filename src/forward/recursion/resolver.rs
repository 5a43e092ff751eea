//! Asks authoritative servers for one record set, and keeps what they said.
//!
//! hickory's recursor finds the servers of a zone, and keeps these. What they said of names is kept here, by octets: the recursor
//! would count responses, whatever their size.

use super::{
    addresses::Addresses,
    errand::{Budget, ERRAND, Errand, Said},
    failure,
    provider::Provider,
    servers::Servers,
    validation::{Source, labels},
};
use crate::{forward::upstream::Failure, wire::codes::ede};
use hickory_server::{
    net::NetError,
    proto::{
        op::{Message, Query},
        rr::{Name, RData, Record, RecordType},
    },
    resolver::{
        TtlBounds, TtlConfig,
        config::ResolverOpts,
        recursor::{DnssecPolicy, QNameMinimization, Recursor, RecursorError, RecursorOptions},
    },
};
use ipnet::IpNet;
use moka::sync::Cache;
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// What is kept of responses, in octets.
const MAX_OCTETS: u64 = 32 << 20;
/// What a record takes where it is kept, in octets, beside its data.
const RECORD_OCTETS: usize = 320;
/// What a response takes, in octets, beside its records.
const RESPONSE_OCTETS: usize = 600;
/// How long a response is kept, at most, in seconds.
const MAX_TTL: u32 = 86_400;
/// How long the servers of a zone are kept, at least and at most, in seconds.
const SERVERS_TTL: (u32, u32) = (30, 21_600);
/// Zones whose servers are kept. A zone with the most servers takes 25 kB.
const MAX_ZONES: usize = 2_048;
/// Names whose servers have failed, though those that the zone above names now have not.
const MAX_MOVED: u64 = 4_096;
/// How long that is remembered.
const MOVED: Duration = Duration::from_secs(600);
/// Labels on the way to a name, and to the name servers that it takes. The longest name has 127.
const MAX_DEPTH: u8 = 160;
/// How often the recursor begins anew for one name, as it meets cuts that it has not asked for.
const MAX_ROUNDS: usize = 8;

/// How the authoritative servers are found.
#[derive(Clone, Debug)]
pub struct Options {
    /// The root servers.
    pub roots: Vec<IpAddr>,
    /// Special addresses that are asked all the same.
    pub allow_servers: Vec<IpNet>,
}

/// Asks authoritative servers.
pub struct Resolver {
    recursors: Recursors,
    responses: Cache<(Name, RecordType), Kept>,
    /// Names whose servers have moved.
    moved: Cache<Name, ()>,
}

struct Recursors {
    /// Keeps the servers of zones for their TTL.
    lasting: Recursor<Provider>,
    /// Keeps them as short as may be: for zones that have moved to other servers before that was over.
    fresh: Recursor<Provider>,
}

#[derive(Clone)]
struct Kept {
    said: Said,
    since: Instant,
    ttl: u32,
}

impl Recursors {
    fn new(options: &Options, addresses: &Arc<Addresses>) -> anyhow::Result<Recursors> {
        let (servers, (shortest, longest)) = (Arc::<Servers>::default(), SERVERS_TTL);
        let provider =
            |longest, completes| Provider::new(servers.clone(), SERVERS_TTL.0..=longest, addresses.clone(), completes);
        Ok(Recursors {
            lasting: recursor(options, provider(longest, false)?, MAX_ZONES)?,
            fresh: recursor(options, provider(shortest, true)?, MAX_ZONES / 4)?,
        })
    }
}

fn recursor(options: &Options, provider: Provider, zones: usize) -> anyhow::Result<Recursor<Provider>> {
    let none = Some(Duration::ZERO);
    // Only name servers are kept.
    let mut nothing = ResolverOpts::default();
    (nothing.positive_max_ttl, nothing.negative_max_ttl) = (none, none);
    let mut cache_policy = TtlConfig::from_opts(&nothing);
    cache_policy.with_query_type_ttl_bounds(RecordType::NS, TtlBounds::default());
    let recursor_options = RecursorOptions {
        ns_cache_size: zones,
        response_cache_size: zones as u64,
        // Chains are followed by those who ask.
        recursion_limit: 1,
        // What bounds the work is the budget.
        ns_recursion_limit: MAX_DEPTH,
        allow_server: options.allow_servers.clone(),
        case_randomization: true,
        cache_policy,
        // Errands know whether a name above does not exist.
        qname_minimization: QNameMinimization::Relaxed,
        ..RecursorOptions::default()
    };
    Ok(Recursor::new(&options.roots, DnssecPolicy::ValidationDisabled, None, recursor_options, provider)?)
}

impl Resolver {
    /// A resolver that knows nothing yet.
    pub fn new(options: &Options) -> anyhow::Result<Arc<Resolver>> {
        let octets = |_: &(Name, RecordType), kept: &Kept| octets(&kept.said.message);
        let addresses = Arc::new(Addresses::new());
        let resolver = Arc::new(Resolver {
            recursors: Recursors::new(options, &addresses)?,
            responses: Cache::builder().max_capacity(MAX_OCTETS).weigher(octets).build(),
            moved: Cache::builder().max_capacity(MAX_MOVED).time_to_live(MOVED).build(),
        });
        addresses.set_resolver(&resolver);
        Ok(resolver)
    }

    /// What a server said, except those that are avoided.
    fn known(&self, key: &(Name, RecordType), avoided: &[IpAddr]) -> Option<Said> {
        let kept = self.responses.get(key)?;
        if kept.said.server.is_some_and(|server| avoided.contains(&server)) {
            return None;
        }
        let age = kept.since.elapsed().as_secs() as u32;
        if age >= kept.ttl {
            return None;
        }
        let mut message = Message::clone(&kept.said.message);
        for record in message.answers.iter_mut().chain(&mut message.authorities) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(Said { message: Arc::new(message), server: kept.said.server })
    }

    fn keep(&self, key: (Name, RecordType), said: &Said) {
        let ttl = ttl(&said.message).min(MAX_TTL);
        if ttl > 0 {
            self.responses.insert(key, Kept { said: said.clone(), since: Instant::now(), ttl });
        }
    }

    /// Whether the servers that are kept for a name are not the right ones any more.
    fn has_moved(&self, name: &Name) -> bool {
        self.moved.contains_key(&name.to_lowercase()) || self.moved.contains_key(&name.base_name().to_lowercase())
    }

    /// Asks for the address of a name server that another errand needs.
    pub async fn ask_aside(&self, name: &Name, rtype: RecordType, budget: &Arc<Budget>) -> Result<Said, Failure> {
        let key = (name.to_lowercase(), rtype);
        if let Some(said) = self.known(&key, &[]) {
            return Ok(said);
        }
        let mut errand = Errand::new(name, rtype, budget);
        errand.is_aside = true;
        let said = self.ask_recursor(errand).await?;
        self.keep(key, &said);
        Ok(said)
    }

    async fn ask_recursor(&self, first: Errand) -> Result<Said, Failure> {
        let recursors = &self.recursors;
        let (name, rtype) = (first.name.clone(), first.rtype);
        let query = Query::query(name.clone(), rtype);
        // What is asked aside is needed for a referral that the fresh recursor waits for: that must not wait for it in turn.
        let mut is_fresh = !first.is_aside && self.has_moved(&name);
        let mut errand = Arc::new(first);
        for _ in 0..MAX_ROUNDS {
            let recursor = if is_fresh { &recursors.fresh } else { &recursors.lasting };
            let asking = recursor.resolve(query.clone(), Instant::now(), true);
            let resolved = ERRAND.scope(errand.clone(), Box::pin(asking)).await;
            if let Some(said) = errand.take() {
                if errand.is_second {
                    // Names right below a top-level domain have nothing to do with each other.
                    let siblings = Some(name.base_name()).filter(|above| labels(above) > 1);
                    siblings
                        .into_iter()
                        .chain([name.clone()])
                        .for_each(|name| self.moved.insert(name.to_lowercase(), ()));
                }
                return Ok(said);
            }
            let mut next = errand.again();
            if let Some(cut) = errand.cut().filter(|cut| *cut < 128 && errand.cuts >> cut & 1 == 0) {
                next.cuts |= 1 << cut;
                errand = Arc::new(next);
                continue;
            }
            // It may have waited for another errand that asked the same server the same.
            if !errand.has_begun() {
                if let Some(said) = self.known(&(name.to_lowercase(), rtype), &errand.avoided) {
                    return Ok(said);
                }
                if resolved.is_ok() {
                    errand = Arc::new(next);
                    continue;
                }
            }
            let error = match resolved {
                Ok(_) => failure(ede::NO_REACHABLE_AUTHORITY, &"the servers of the zone do not have it"),
                Err(error) => told(&error),
            };
            if errand.budget.is_used_up() {
                return Err(failure(
                    ede::NO_REACHABLE_AUTHORITY,
                    &"the name takes too many queries to authoritative servers",
                ));
            }
            if errand.is_second || errand.is_aside {
                return Err(error);
            }
            // The servers may be others by now, or may have been down for a moment.
            is_fresh = true;
            next.is_second = true;
            errand = Arc::new(next);
        }
        Err(failure(ede::NO_REACHABLE_AUTHORITY, &"the name leads through too many zones"))
    }
}

impl Source for Arc<Resolver> {
    async fn ask(
        &self,
        name: &Name,
        rtype: RecordType,
        avoided: &[IpAddr],
        budget: &Arc<Budget>,
    ) -> Result<Said, Failure> {
        let key = (name.to_lowercase(), rtype);
        if let Some(said) = self.known(&key, avoided) {
            return Ok(said);
        }
        let errand = Errand::new(name, rtype, budget).avoiding(avoided);
        let said = self.ask_recursor(errand).await?;
        self.keep(key, &said);
        Ok(said)
    }
}

/// What a response takes where it is kept, in octets.
fn octets(message: &Message) -> u32 {
    let records = message.answers.iter().chain(&message.authorities);
    let octets = |record: &Record| match &record.data {
        RData::TXT(text) => text.txt_data.iter().map(|part| part.len() + 16).sum(),
        RData::Unknown { rdata, .. } => rdata.anything.len(),
        _ => 0,
    };
    let all = records.fold(RESPONSE_OCTETS, |sum, record| sum + RECORD_OCTETS + octets(record));
    u32::try_from(all).unwrap_or(u32::MAX)
}

/// How long a response holds, in seconds (RFC 2308, 5).
fn ttl(message: &Message) -> u32 {
    let of = |records: &[Record]| records.iter().map(|record| record.ttl).min();
    match of(&message.answers) {
        Some(ttl) => ttl.min(of(&message.authorities).unwrap_or(ttl)),
        None => {
            let soa = message.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            });
            soa.unwrap_or(0).min(of(&message.authorities).unwrap_or(0))
        }
    }
}

/// What an error of the recursor is to a client.
fn told(error: &RecursorError) -> Failure {
    match error {
        RecursorError::Timeout | RecursorError::Net(NetError::Timeout | NetError::NoConnections) => {
            failure(ede::NO_REACHABLE_AUTHORITY, &"no authoritative server answered in time")
        }
        RecursorError::Io(error) => failure(ede::NETWORK_ERROR, error),
        RecursorError::Net(NetError::Io(error)) => {
            failure(ede::NO_REACHABLE_AUTHORITY, &format!("no authoritative server is of use: {error}"))
        }
        error => failure(ede::NO_REACHABLE_AUTHORITY, error),
    }
}
