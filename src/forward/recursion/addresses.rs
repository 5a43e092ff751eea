//! The addresses of name servers that a referral leaves out.
//!
//! hickory's recursor asks only the servers whose addresses came with a referral, and looks for others if none came. Where these
//! have failed, the recursor that begins anew gets referrals with all addresses that can be found: those that other referrals
//! had, which may be others than the server's own zone has, and those that the servers themselves have.

use super::{
    errand::{Errand, Said},
    resolver::Resolver,
};
use hickory_server::proto::{
    op::Message,
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use moka::sync::Cache;
use std::{
    net::Ipv4Addr,
    sync::{Arc, OnceLock, Weak},
};

/// Names of servers whose addresses are remembered.
const MAX_NAMES: u64 = 8_192;
/// Addresses that are remembered of each.
const MAX_ADDRESSES: usize = 4;
/// Names that are looked for, for one referral (NXNSAttack).
const MAX_SOUGHT: usize = 3;

/// What is known of name servers' addresses. Those of IPv6 are left to the referrals.
pub struct Addresses {
    seen: Cache<Name, Vec<Ipv4Addr>>,
    resolver: OnceLock<Weak<Resolver>>,
}

impl Addresses {
    /// None is known yet.
    pub fn new() -> Addresses {
        Addresses { seen: Cache::new(MAX_NAMES), resolver: OnceLock::new() }
    }

    /// Says who looks for addresses.
    pub fn set_resolver(&self, resolver: &Arc<Resolver>) {
        let _ = self.resolver.set(Arc::downgrade(resolver));
    }

    /// Remembers the addresses in a referral.
    pub fn remember(&self, referral: &Message) {
        for record in &referral.additionals {
            let RData::A(A(address)) = record.data else { continue };
            let name = record.name.to_lowercase();
            let mut known = self.seen.get(&name).unwrap_or_default();
            if !known.contains(&address) {
                known.insert(0, address);
                known.truncate(MAX_ADDRESSES);
                self.seen.insert(name, known);
            }
        }
    }

    /// Puts all addresses into a referral that can be found.
    pub async fn complete(&self, referral: &mut Message, errand: &Errand) {
        let names: Vec<(Name, u32)> = referral
            .authorities
            .iter()
            .filter_map(|record| match &record.data {
                RData::NS(ns) => Some((ns.0.clone(), record.ttl)),
                _ => None,
            })
            .collect();
        let mut sought = 0;
        for (name, ttl) in names {
            let has_any = referral.additionals.iter().any(|record| record.name == name);
            let mut found = self.seen.get(&name.to_lowercase()).unwrap_or_default();
            if !has_any && sought < MAX_SOUGHT {
                sought += 1;
                found.extend(self.seek(&name, errand).await);
            }
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
        // This comes back to where it was called from.
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
