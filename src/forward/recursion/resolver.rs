//! Asks authoritative servers for one record set, and caches their responses.
//!
//! hickory's recursor finds the servers of a zone and caches them. This module caches the
//! responses, with a bound in octets. The recursor's own response cache counts entries, whatever
//! their size.

use super::{
    addresses::Addresses,
    delegations::Delegations,
    errand::{Budget, ERRAND, Errand, Said},
    failure,
    provider::Provider,
    servers::Servers,
    validation::{Source, labels},
};
use crate::{
    answer::{Stage, name_servers::NameServers},
    forward::upstream::Failure,
    wire::codes::ede,
};
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

/// Maximum size of the response cache, in octets.
const MAX_OCTETS: u64 = 32 << 20;
/// Estimated memory of one cached record without its data, in octets.
const RECORD_OCTETS: usize = 320;
/// Estimated memory of one cached response without its records, in octets.
const RESPONSE_OCTETS: usize = 600;
/// Longest time that a response stays in the cache, in seconds.
const MAX_TTL: u32 = 86_400;
/// Shortest and longest time that the servers of a zone stay in the cache, in seconds.
const SERVERS_TTL: (u32, u32) = (30, 21_600);
/// Maximum number of zones whose servers are cached. A zone with the maximum number of servers
/// takes 25 kB.
const MAX_ZONES: usize = 2_048;
/// Maximum number of names that are remembered as moved: the cached servers fail, and the servers
/// that the parent zone names now answer.
const MAX_MOVED: u64 = 4_096;
/// Time for which a name counts as moved.
const MOVED: Duration = Duration::from_secs(600);
/// Maximum number of labels on the way to a name, including the names of the name servers involved.
/// The longest name has 127 labels.
const MAX_DEPTH: u8 = 160;
/// Time after which the recursor asks again if the response that it waited for is in no cache.
const SHARED_RETRY: Duration = Duration::from_millis(5);
/// Maximum number of times that the recursor starts again for one name after an unexpected zone
/// cut.
const MAX_ROUNDS: usize = 8;

/// Settings that decide which authoritative servers are asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Addresses of the root servers.
    pub roots: Vec<IpAddr>,
    /// Special-purpose address ranges in which servers may be asked nevertheless.
    pub allow_servers: Vec<IpNet>,
}

/// Asks authoritative servers through hickory's recursor.
pub struct Resolver {
    recursors: Recursors,
    responses: Cache<(Name, RecordType), Kept>,
    /// Names whose cached servers are out of date.
    moved: Cache<Name, ()>,
    delegations: Arc<Delegations>,
}

struct Recursors {
    /// Caches the servers of a zone for the TTL of the NS records.
    lasting: Recursor<Provider>,
    /// Caches the servers of a zone for the shortest allowed time. It resolves names in zones that
    /// moved to other servers before the TTL ended.
    fresh: Recursor<Provider>,
}

#[derive(Clone)]
struct Kept {
    said: Said,
    since: Instant,
    ttl: u32,
}

impl Recursors {
    fn new(options: &Options, addresses: &Arc<Addresses>, delegations: &Arc<Delegations>) -> anyhow::Result<Recursors> {
        let (servers, (shortest, longest)) = (Arc::<Servers>::default(), SERVERS_TTL);
        let provider = |longest, completes| {
            let (addresses, delegations) = (addresses.clone(), delegations.clone());
            Provider::new(servers.clone(), SERVERS_TTL.0..=longest, addresses, delegations, completes)
        };
        Ok(Recursors {
            lasting: recursor(options, provider(longest, false)?, MAX_ZONES)?,
            fresh: recursor(options, provider(shortest, true)?, MAX_ZONES / 4)?,
        })
    }
}

fn recursor(options: &Options, provider: Provider, zones: usize) -> anyhow::Result<Recursor<Provider>> {
    let none = Some(Duration::ZERO);
    // The recursor caches NS record sets only.
    let mut nothing = ResolverOpts::default();
    (nothing.positive_max_ttl, nothing.negative_max_ttl) = (none, none);
    let mut cache_policy = TtlConfig::from_opts(&nothing);
    cache_policy.with_query_type_ttl_bounds(RecordType::NS, TtlBounds::default());
    let recursor_options = RecursorOptions {
        ns_cache_size: zones,
        response_cache_size: zones as u64,
        // The caller follows chains of CNAMEs.
        recursion_limit: 1,
        // The budget bounds the work.
        ns_recursion_limit: MAX_DEPTH,
        allow_server: options.allow_servers.clone(),
        case_randomization: true,
        cache_policy,
        // Each errand records whether an ancestor of its name does not exist.
        qname_minimization: QNameMinimization::Relaxed,
        ..RecursorOptions::default()
    };
    Ok(Recursor::new(&options.roots, DnssecPolicy::ValidationDisabled, None, recursor_options, provider)?)
}

impl Resolver {
    /// Creates a resolver with empty caches.
    pub fn new(options: &Options) -> anyhow::Result<Arc<Resolver>> {
        let octets = |_: &(Name, RecordType), kept: &Kept| octets(&kept.said.message);
        let addresses = Arc::new(Addresses::new(&options.allow_servers)?);
        let delegations = Arc::new(Delegations::new(Duration::from_secs(SERVERS_TTL.1.into())));
        let resolver = Arc::new(Resolver {
            recursors: Recursors::new(options, &addresses, &delegations)?,
            responses: Cache::builder().max_capacity(MAX_OCTETS).weigher(octets).build(),
            moved: Cache::builder().max_capacity(MAX_MOVED).time_to_live(MOVED).build(),
            delegations,
        });
        addresses.set_resolver(&resolver);
        Ok(resolver)
    }

    /// Returns the cached response, unless a server in `avoided` sent it. TTLs are reduced by the
    /// age.
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

    /// The name servers of a name that recursion learned.
    pub fn name_servers(&self, name: &Name) -> Option<Arc<NameServers>> {
        self.delegations.of(name)
    }

    /// Caches a response for its TTL.
    pub fn keep(&self, key: (Name, RecordType), said: &Said) {
        let ttl = ttl(&said.message).min(MAX_TTL);
        if ttl > 0 {
            self.responses.insert(key, Kept { said: said.clone(), since: Instant::now(), ttl });
        }
    }

    /// Whether the cached servers of a name are out of date.
    fn has_moved(&self, name: &Name) -> bool {
        self.moved.contains_key(&name.to_lowercase()) || self.moved.contains_key(&name.base_name().to_lowercase())
    }

    /// Resolves the address of a name server for another errand. `waiting` has the zones that depend on
    /// the address.
    pub async fn ask_aside(
        &self,
        name: &Name,
        rtype: RecordType,
        waiting: Vec<Name>,
        budget: &Arc<Budget>,
    ) -> Result<Said, Failure> {
        let key = (name.to_lowercase(), rtype);
        if let Some(said) = self.known(&key, &[]) {
            return Ok(said);
        }
        let mut errand = Errand::new(name, rtype, budget);
        errand.waiting = waiting;
        let said = self.ask_recursor(errand).await?;
        self.keep(key, &said);
        Ok(said)
    }

    async fn ask_recursor(&self, first: Errand) -> Result<Said, Failure> {
        let recursors = &self.recursors;
        let (name, rtype) = (first.name.clone(), first.rtype);
        let query = Query::query(name.clone(), rtype);
        // The fresh recursor may be waiting for this address to complete a referral. So the address
        // must not wait for the fresh recursor.
        let mut is_fresh = !first.is_aside() && self.has_moved(&name);
        let mut errand = Arc::new(first);
        for _ in 0..MAX_ROUNDS {
            let recursor = if is_fresh { &recursors.fresh } else { &recursors.lasting };
            let asking = recursor.resolve(query.clone(), Instant::now(), true);
            let resolved = ERRAND.scope(errand.clone(), Box::pin(asking)).await;
            if let Some(said) = errand.take() {
                if errand.is_second {
                    // Names directly below a top-level domain are unrelated to each other.
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
            // The recursor may have waited for another errand with the same query to the same
            // server.
            if !errand.has_begun() {
                if let Some(said) = self.known(&(name.to_lowercase(), rtype), &errand.avoided) {
                    return Ok(said);
                }
                if resolved.is_ok() {
                    // hickory gives the same response again until the task that asked for it has gone on.
                    tokio::time::sleep(SHARED_RETRY).await;
                    errand = Arc::new(next);
                    continue;
                }
            }
            // The servers below a name that does not exist any more may be down.
            if errand.is_second
                && let Some(said) = errand.take_doubtful().or_else(|| errand.take_denial())
            {
                return Ok(said);
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
            if errand.is_second || errand.is_aside() || errand.is_hopeless() {
                return Err(error);
            }
            // The servers may have changed, or may have been down for a moment.
            errand.budget.steps.note(Stage::Recursion, || {
                format!("{name} {rtype}: {}; zonal looks for other servers, from the root on", error.text)
            });
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
            budget.steps.note(Stage::Recursion, || {
                let server = said.server.map_or(String::new(), |server| format!(", from {server}"));
                format!("the cache has {name} {rtype}{server}")
            });
            return Ok(said);
        }
        let errand = Errand::new(name, rtype, budget).avoiding(avoided);
        let said = self.ask_recursor(errand).await?;
        self.keep(key, &said);
        Ok(said)
    }
}

/// Estimates the memory of a cached response, in octets.
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

/// Returns the lifetime of a response, in seconds (RFC 2308, section 5).
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

/// Converts an error of the recursor into the failure of a client query.
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
