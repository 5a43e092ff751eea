//! Clients that look for names of a domain generation algorithm: the registered domains that do not exist and look generated,
//! by client.
//!
//! One name says little: about 1 % of the names that people choose look generated. A client that asks for many such domains
//! within an hour is what a program with such an algorithm does until it finds the domain that its owner has registered.

use super::HOUR;
use crate::snapshot::firewall::detections::Numbers;

/// The number of sets of clients.
const SETS: usize = 128;
/// The number of clients of a set.
const WAYS: usize = 8;
/// The number of domains that are counted for a client within an hour.
const MAX_DOMAINS: usize = 64;

/// A client that asked for a domain that looks generated.
struct Client {
    /// The hash of its address.
    address: u64,
    /// The time at which the current hour began.
    since: i64,
    /// The hashes of the domains in the current hour.
    domains: Vec<u32>,
}

/// The clients of a VPC.
pub(super) struct Clients {
    sets: Box<[Vec<Client>]>,
    /// The number of queries of clients that found no room.
    uncounted: u64,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients { sets: (0..SETS).map(|_| Vec::new()).collect(), uncounted: 0 }
    }
}

impl Clients {
    /// Adds a domain of a client, both by their hashes. The numbers of the client in the current hour.
    pub(super) fn add(&mut self, address: u64, domain: u64, now: i64) -> Numbers {
        let set = &mut self.sets[(address >> 32) as usize % SETS];
        let is_over = |client: &Client| now - client.since >= HOUR || now < client.since;
        let own = set.iter().position(|client| client.address == address);
        let index = match own {
            Some(index) => index,
            None if set.len() < WAYS => {
                set.push(Client { address, since: now, domains: Vec::new() });
                set.len() - 1
            }
            None => {
                let weight = |client: &Client| if is_over(client) { 0 } else { client.domains.len() };
                let lightest = (0..set.len()).min_by_key(|index| weight(&set[*index])).unwrap_or_default();
                if weight(&set[lightest]) > 1 {
                    // A client with several domains stays. It gets lighter with each newcomer.
                    set[lightest].domains.pop();
                    self.uncounted += 1;
                    return Numbers::default();
                }
                set[lightest] = Client { address, since: now, domains: Vec::new() };
                lightest
            }
        };
        let client = &mut set[index];
        if is_over(client) {
            client.since = now;
            client.domains.clear();
        }
        let domain = domain as u32;
        if client.domains.len() < MAX_DOMAINS && !client.domains.contains(&domain) {
            client.domains.push(domain);
        }
        let count = client.domains.len() as u32;
        Numbers { amount: count, names: count }
    }

    /// The number of clients, and of queries that were not counted.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.sets.iter().map(Vec::len).sum(), self.uncounted)
    }
}
