//! Addresses of name servers that a referral leaves out.
//!
//! hickory's recursor asks only the servers whose addresses come with a referral. It looks up other
//! addresses only if the referral has none. Then it finds the zone of one server after the other,
//! which takes long if servers are far away, and many queries if those zones lack addresses too. So
//! [`Addresses::find`] looks up a few servers of such a referral at the same time, and fewer on each
//! level below.
//!
//! If the servers fail, zonal starts a second recursor, and [`Addresses::complete`] completes each
//! referral for it with all addresses that zonal can find. Some come from other referrals, which may
//! differ from the addresses in the server's own zone. Others come from a lookup of the server's name.

use super::{
    errand::{Errand, Said},
    filter,
    resolver::Resolver,
};
use crate::clock::random_seed;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hickory_server::{
    proto::{
        access_control::{AccessControlSet, AccessControlSetBuilder},
        op::{Message, Query},
        rr::{
            Name, RData, Record, RecordType,
            rdata::{A, AAAA, NS},
        },
    },
    resolver::recursor::RecursorOptions,
};
use ipnet::IpNet;
use moka::sync::Cache;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// Maximum number of server names whose addresses are remembered. Beyond it, the cache drops the
/// names that are used least.
const MAX_NAMES: u64 = 8_192;
/// Maximum number of addresses that are remembered for one name. A new address replaces the oldest.
const MAX_ADDRESSES: usize = 4;
/// Maximum number of names that are looked up for one referral (NXNSAttack).
const MAX_SOUGHT: usize = 3;
/// Maximum number of names that are looked up for a referral without addresses: for the question of a
/// client, for the address of a name server, and so on.
const MAX_SOUGHT_BY_LEVEL: [usize; 3] = [MAX_SOUGHT, 2, 1];
/// Longest time for the lookups of a referral without addresses. A lookup may wait for the referral
/// itself, if the zones of two name servers depend on each other.
const MAX_SEEK: Duration = Duration::from_secs(3);

/// Remembered IPv4 addresses of name servers. IPv6 addresses come from referrals only.
pub struct Addresses {
    seen: Cache<Name, Vec<Ipv4Addr>>,
    resolver: OnceLock<Weak<Resolver>>,
    /// The recursor asks only servers that this filter does not deny.
    filter: AccessControlSet,
}

impl Addresses {
    /// Creates an empty store. The recursor asks servers in `allowed`, and all that are not in
    /// special-purpose ranges.
    pub fn new(allowed: &[IpNet]) -> anyhow::Result<Addresses> {
        let denied = RecursorOptions::default().deny_server;
        let filter = AccessControlSetBuilder::new("name servers").allow(allowed.iter()).deny(denied.iter()).build()?;
        Ok(Addresses { seen: Cache::new(MAX_NAMES), resolver: OnceLock::new(), filter })
    }

    /// Sets the resolver that looks up addresses.
    pub fn set_resolver(&self, resolver: &Arc<Resolver>) {
        let _ = self.resolver.set(Arc::downgrade(resolver));
    }

    /// Caches a response.
    pub fn keep(&self, query: &Query, said: &Said) {
        if let Some(resolver) = self.resolver.get().and_then(Weak::upgrade) {
            resolver.keep((query.name.to_lowercase(), query.query_type), said);
        }
    }

    /// Remembers the IPv4 addresses in the referral to a zone. Ignores the addresses of servers
    /// outside the zone, because the servers above the zone may not know them.
    pub fn remember(&self, referral: &Message, zone: &Name) {
        for record in &referral.additionals {
            let RData::A(A(address)) = record.data else { continue };
            if !zone.zone_of(&record.name) {
                continue;
            }
            let name = record.name.to_lowercase();
            let mut known = self.seen.get(&name).unwrap_or_default();
            if !known.contains(&address) {
                known.insert(0, address);
                known.truncate(MAX_ADDRESSES);
                self.seen.insert(name, known);
            }
        }
    }

    /// Adds addresses to the NS records of a zone if they come with none that the recursor accepts.
    /// Returns whether the recursor can go on.
    ///
    /// Looks up a few servers at the same time, and does not wait for those that take much longer than
    /// the first. If not all of them have addresses, the NS records last for `shortest` seconds.
    pub async fn find(&self, message: &mut Message, zone: &Name, errand: &Errand, shortest: u32) -> bool {
        message.additionals.retain(|record| record.data.ip_addr().is_none_or(|ip| !self.filter.denied(ip)));
        let above = zone.base_name();
        let is_accepted = |record: &Record| record.data.ip_addr().is_some() && above.zone_of(&record.name);
        let mut all = name_servers(message);
        if all.is_empty() || message.additionals.iter().any(is_accepted) {
            return true;
        }
        // The next attempt looks up other servers.
        let first = random_seed().0 as usize % all.len();
        all.rotate_left(first);
        // The recursor asks the servers above for the addresses of names in the zone.
        let is_within = |name: &Name| zone.zone_of(name);
        // These names depend on themselves.
        let is_circular = |name: &Name| errand.waiting.iter().any(|zone| zone.zone_of(name));
        let max = MAX_SOUGHT_BY_LEVEL.get(errand.waiting.len()).copied().unwrap_or_default();
        let names: Vec<_> = all.iter().filter(|(name, _)| !is_within(name) && !is_circular(name)).take(max).collect();
        let mut seeking: FuturesUnordered<_> = (names.iter().enumerate())
            .map(|(at, (name, _))| async move { (at, self.seek(name, zone, errand).await) })
            .collect();
        let started = Instant::now();
        let (mut end, mut found) = (started + MAX_SEEK, Vec::new());
        while let Ok(Some((at, addresses))) = timeout_at(end, seeking.next()).await {
            if addresses.is_empty() {
                continue;
            }
            if found.is_empty() {
                end = end.min(Instant::now() + started.elapsed() / 2);
            }
            found.push((at, addresses));
        }
        drop(seeking);
        if found.is_empty() {
            // The recursor does not look up the others.
            let is_left = |record: &Record| match &record.data {
                RData::NS(ns) => is_within(&ns.0),
                _ => true,
            };
            message.answers.retain(is_left);
            message.authorities.retain(is_left);
            return all.iter().any(|(name, _)| is_within(name));
        }
        let is_complete = found.len() == names.len();
        for (at, addresses) in found {
            let (name, ttl) = names[at];
            add(message, zone, at, name, if is_complete { *ttl } else { shortest }, addresses);
        }
        true
    }

    /// Adds all IPv4 addresses to the referral to a zone that are remembered or can be looked up.
    pub async fn complete(&self, referral: &mut Message, zone: &Name, errand: &Errand) {
        let mut sought = 0;
        for (at, (name, ttl)) in name_servers(referral).into_iter().enumerate() {
            let has_any = referral.additionals.iter().any(|record| record.name == name);
            let mut found = Vec::new();
            if !has_any && sought < MAX_SOUGHT {
                sought += 1;
                found = self.seek(&name, zone, errand).await;
            }
            // The search may have met a referral with another address.
            found.extend(self.seen.get(&name.to_lowercase()).unwrap_or_default().into_iter().map(IpAddr::V4));
            add(referral, zone, at, &name, ttl, found);
        }
    }

    /// Looks up the addresses of a name server, for the servers of `zone`.
    async fn seek(&self, name: &Name, zone: &Name, errand: &Errand) -> Vec<IpAddr> {
        let Some(resolver) = self.resolver.get().and_then(Weak::upgrade) else { return Vec::new() };
        let rtypes = if filter::has_ipv6() { &[RecordType::A, RecordType::AAAA][..] } else { &[RecordType::A] };
        for rtype in rtypes {
            let waiting = errand.waiting.iter().chain([zone]).cloned().collect();
            // `ask_aside` may call this function again. A boxed future makes the recursion possible.
            let asking: std::pin::Pin<Box<dyn Future<Output = _> + Send + '_>> =
                Box::pin(resolver.ask_aside(name, *rtype, waiting, &errand.budget));
            let Ok(Said { message, .. }) = asking.await else { continue };
            let is_asked = |record: &Record, ip: &IpAddr| record.name == *name && !self.filter.denied(*ip);
            let address = |record: &Record| record.data.ip_addr().filter(|ip| is_asked(record, ip));
            let addresses: Vec<_> = message.answers.iter().filter_map(address).take(MAX_ADDRESSES).collect();
            if !addresses.is_empty() {
                return addresses;
            }
        }
        Vec::new()
    }
}

/// The name servers in a response, and the TTL of each.
fn name_servers(message: &Message) -> Vec<(Name, u32)> {
    let name_server = |record: &Record| match &record.data {
        RData::NS(ns) => Some((ns.0.clone(), record.ttl)),
        _ => None,
    };
    message.answers.iter().chain(&message.authorities).filter_map(name_server).collect()
}

/// Adds addresses of a name server to the NS records of a zone.
///
/// The recursor ignores addresses of names outside the zone above the cut. So a server outside the
/// zone gets a second name in the zone, with the number `at`.
fn add(message: &mut Message, zone: &Name, at: usize, name: &Name, ttl: u32, addresses: Vec<IpAddr>) {
    if addresses.is_empty() {
        return;
    }
    let name = match zone.zone_of(name) {
        true => name.clone(),
        false => {
            let Ok(alias) = zone.prepend_label(format!("server-{at}")) else { return };
            message.add_authority(Record::from_rdata(zone.clone(), ttl, RData::NS(NS(alias.clone()))));
            alias
        }
    };
    for address in addresses {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        let record = Record::from_rdata(name.clone(), ttl, data);
        if !message.additionals.iter().any(|other| other.name == name && other.data == record.data) {
            message.add_additional(record);
        }
    }
}
