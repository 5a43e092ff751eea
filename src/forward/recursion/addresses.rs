//! Addresses of name servers that a referral leaves out.
//!
//! hickory's recursor asks only the servers whose addresses come with a referral. It looks up other
//! addresses only if the referral has none, and finds the zone of one server after the other. So
//! [`Addresses::find`] looks up several servers of such a referral at the same time: servers that are
//! far away would take too long otherwise.
//!
//! If the servers fail, zonal starts a second recursor, and [`Addresses::complete`] completes each
//! referral for it with all addresses that zonal can find. Some come from other referrals, which may
//! differ from the addresses in the server's own zone. Others come from a lookup of the server's name.

use super::{
    errand::{Errand, Said},
    resolver::Resolver,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hickory_server::proto::{
    op::Message,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, NS},
    },
};
use moka::sync::Cache;
use std::{
    net::Ipv4Addr,
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
/// Longest time for the lookups of a referral without addresses. A lookup may wait for the referral
/// itself, if the zones of two name servers depend on each other.
const MAX_SEEK: Duration = Duration::from_secs(3);

/// Remembered IPv4 addresses of name servers. IPv6 addresses come from referrals only.
pub struct Addresses {
    seen: Cache<Name, Vec<Ipv4Addr>>,
    resolver: OnceLock<Weak<Resolver>>,
}

impl Addresses {
    /// Creates an empty store.
    pub fn new() -> Addresses {
        Addresses { seen: Cache::new(MAX_NAMES), resolver: OnceLock::new() }
    }

    /// Sets the resolver that looks up addresses.
    pub fn set_resolver(&self, resolver: &Arc<Resolver>) {
        let _ = self.resolver.set(Arc::downgrade(resolver));
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

    /// Adds addresses to the referral to a zone if it has none that the recursor accepts. Looks up a
    /// few servers at the same time. Does not wait for servers that take much longer than the first.
    ///
    /// If not all of these servers have addresses, the referral lasts for `shortest` seconds.
    pub async fn find(&self, referral: &mut Message, zone: &Name, errand: &Errand, shortest: u32) {
        let above = zone.base_name();
        let is_accepted = |record: &Record| record.data.ip_addr().is_some() && above.zone_of(&record.name);
        if referral.additionals.iter().any(is_accepted) {
            return;
        }
        // Only the servers of the zone itself know the addresses of names in the zone.
        let names: Vec<_> = name_servers(referral).into_iter().filter(|(name, _)| !zone.zone_of(name)).collect();
        let mut seeking: FuturesUnordered<_> = (names.iter().enumerate().take(MAX_SOUGHT))
            .map(|(at, (name, _))| async move { (at, self.seek(name, errand).await) })
            .collect();
        let (sought, started) = (seeking.len(), Instant::now());
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
        let is_complete = found.len() == sought;
        for (at, addresses) in found {
            let (name, ttl) = &names[at];
            let ttl = if is_complete { *ttl } else { shortest };
            add(referral, zone, at, name, ttl, addresses);
        }
    }

    /// Adds all IPv4 addresses to the referral to a zone that are remembered or can be looked up.
    pub async fn complete(&self, referral: &mut Message, zone: &Name, errand: &Errand) {
        let mut sought = 0;
        for (at, (name, ttl)) in name_servers(referral).into_iter().enumerate() {
            let has_any = referral.additionals.iter().any(|record| record.name == name);
            let mut found = Vec::new();
            if !has_any && sought < MAX_SOUGHT {
                sought += 1;
                found = self.seek(&name, errand).await;
            }
            // The search may have met a referral with another address.
            found.extend(self.seen.get(&name.to_lowercase()).unwrap_or_default());
            add(referral, zone, at, &name, ttl, found);
        }
    }

    async fn seek(&self, name: &Name, errand: &Errand) -> Vec<Ipv4Addr> {
        let Some(resolver) = self.resolver.get().and_then(Weak::upgrade) else { return Vec::new() };
        // `ask_aside` may call this function again. A boxed future makes the recursion possible.
        let asking: std::pin::Pin<Box<dyn Future<Output = _> + Send + '_>> =
            Box::pin(async move { resolver.ask_aside(name, RecordType::A, &errand.budget).await });
        let Ok(Said { message, .. }) = asking.await else { return Vec::new() };
        let address = |record: &Record| match record.data {
            RData::A(A(address)) if record.name == *name => Some(address),
            _ => None,
        };
        message.answers.iter().filter_map(address).take(MAX_ADDRESSES).collect()
    }
}

/// The name servers of a referral, and the TTL of each.
fn name_servers(referral: &Message) -> Vec<(Name, u32)> {
    let name_server = |record: &Record| match &record.data {
        RData::NS(ns) => Some((ns.0.clone(), record.ttl)),
        _ => None,
    };
    referral.authorities.iter().filter_map(name_server).collect()
}

/// Adds addresses of a name server to the referral to a zone.
///
/// The recursor ignores addresses of names outside the zone above the cut. So a server outside the
/// zone gets a second name in the zone, with the number `at`.
fn add(referral: &mut Message, zone: &Name, at: usize, name: &Name, ttl: u32, addresses: Vec<Ipv4Addr>) {
    if addresses.is_empty() {
        return;
    }
    let name = match zone.zone_of(name) {
        true => name.clone(),
        false => {
            let Ok(alias) = zone.prepend_label(format!("server-{at}")) else { return };
            referral.add_authority(Record::from_rdata(zone.clone(), ttl, RData::NS(NS(alias.clone()))));
            alias
        }
    };
    for address in addresses {
        let record = Record::from_rdata(name.clone(), ttl, RData::A(A(address)));
        if !referral.additionals.iter().any(|other| other.name == name && other.data == record.data) {
            referral.add_additional(record);
        }
    }
}
