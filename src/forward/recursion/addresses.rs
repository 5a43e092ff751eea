//! Addresses of name servers that a referral leaves out.
//!
//! hickory's recursor asks only the servers whose addresses come with a referral. It looks up other
//! addresses only if the referral has none. If those servers fail, zonal starts a second recursor,
//! and completes each referral for it with all addresses that zonal can find. Some come from other
//! referrals, which may differ from the addresses in the server's own zone. Others come from a
//! lookup of the server's name.

use super::{
    errand::{Errand, Said},
    resolver::Resolver,
};
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
};

/// Maximum number of server names whose addresses are remembered. Beyond it, the cache drops the
/// names that are used least.
const MAX_NAMES: u64 = 8_192;
/// Maximum number of addresses that are remembered for one name. A new address replaces the oldest.
const MAX_ADDRESSES: usize = 4;
/// Maximum number of names that are looked up for one referral (NXNSAttack).
const MAX_SOUGHT: usize = 3;

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

    /// Adds all IPv4 addresses to the referral to a zone that are remembered or can be looked up.
    ///
    /// The recursor ignores addresses of names outside the zone above the cut. So a server outside
    /// the zone gets a second name in the zone.
    pub async fn complete(&self, referral: &mut Message, zone: &Name, errand: &Errand) {
        let names: Vec<(Name, u32)> = referral
            .authorities
            .iter()
            .filter_map(|record| match &record.data {
                RData::NS(ns) => Some((ns.0.clone(), record.ttl)),
                _ => None,
            })
            .collect();
        let mut sought = 0;
        for (at, (name, ttl)) in names.into_iter().enumerate() {
            let has_any = referral.additionals.iter().any(|record| record.name == name);
            let mut found = Vec::new();
            if !has_any && sought < MAX_SOUGHT {
                sought += 1;
                found = self.seek(&name, errand).await;
            }
            // The search may have met a referral with another address.
            found.extend(self.seen.get(&name.to_lowercase()).unwrap_or_default());
            let name = match zone.zone_of(&name) {
                true => name,
                false if found.is_empty() => continue,
                false => {
                    let Ok(alias) = zone.prepend_label(format!("server-{at}")) else { continue };
                    referral.add_authority(Record::from_rdata(zone.clone(), ttl, RData::NS(NS(alias.clone()))));
                    alias
                }
            };
            for address in found {
                let record = Record::from_rdata(name.clone(), ttl, RData::A(A(address)));
                if !referral.additionals.iter().any(|other| other.name == name && other.data == record.data) {
                    referral.add_additional(record);
                }
            }
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
