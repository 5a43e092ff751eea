//! The CIDR collections, compiled: they find the locations around a client's address.
//!
//! ```text
//! address -> Spans -> the smallest block around it -> the next larger block -> ...
//! ```
//!
//! A table is as large as its collection. All groups of record sets that route by a collection share its table.

use super::spans::Spans;
use crate::manifest::{CidrCollection, Id, Manifest, changes};
use imbl::OrdMap;
use ipnet::IpNet;
use std::{collections::HashMap, net::IpAddr, sync::Arc};

/// The number of no block.
const NONE: u32 = u32::MAX;

/// A compiled collection.
#[derive(Debug)]
pub struct CidrTable {
    /// The names of its locations, in order.
    locations: Box<[Box<str>]>,
    /// For each address, the number of the smallest block around it.
    smallest: Spans<u32>,
    blocks: Box<[Block]>,
}

/// A block with the blocks around it. Two CIDR blocks with equal properties have one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Block {
    /// The location, as an index.
    location: u32,
    prefix_len: u8,
    /// The number of the next larger block around it.
    around: u32,
}

/// The address of a client, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPrefix {
    /// The first address of the prefix.
    pub address: IpAddr,
    /// The length of the prefix in bits: the length of the address, unless a forwarder has sent a shorter prefix.
    pub len: u8,
}

impl From<IpAddr> for ClientPrefix {
    fn from(address: IpAddr) -> ClientPrefix {
        ClientPrefix { address, len: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl CidrTable {
    fn new(collection: &CidrCollection) -> CidrTable {
        let locations = collection.locations.keys().map(|name| name.as_str().into()).collect();
        let of_location = |(location, blocks): (u32, &Vec<IpNet>)| -> Vec<(IpNet, u32)> {
            blocks.iter().map(|block| (block.trunc(), location)).collect()
        };
        let mut all: Vec<(IpNet, u32)> = (0..).zip(collection.locations.values()).flat_map(of_location).collect();
        all.sort_unstable();
        all.dedup_by_key(|(block, _)| *block);
        let (mut blocks, mut numbers, mut spans) = (Vec::new(), HashMap::new(), Vec::with_capacity(all.len()));
        // In this order, the larger blocks around a block are on a stack.
        let mut above: Vec<(IpNet, u32)> = Vec::new();
        for (cidr, location) in all {
            while above.pop_if(|(wider, _)| !wider.contains(&cidr)).is_some() {}
            let around = above.last().map_or(NONE, |(_, number)| *number);
            let block = Block { location, prefix_len: cidr.prefix_len(), around };
            let number = *numbers.entry(block).or_insert_with(|| {
                blocks.push(block);
                blocks.len() as u32 - 1
            });
            spans.push((cidr, number));
            above.push((cidr, number));
        }
        CidrTable { locations, smallest: Spans::new(spans, NONE), blocks: blocks.into() }
    }

    /// The index of a location.
    pub fn location(&self, name: &str) -> Option<usize> {
        self.locations.binary_search_by(|location| (**location).cmp(name)).ok()
    }

    /// The number of locations.
    pub fn locations(&self) -> usize {
        self.locations.len()
    }

    /// The locations around a client, each with the length of its prefix, the longest prefix first. A location counts only if
    /// it has all addresses of the client's prefix.
    pub fn around(&self, client: ClientPrefix) -> impl Iterator<Item = (usize, u8)> + Clone {
        let is_uniform = self.scope(client.address) <= client.len;
        let block = move |number: u32| self.blocks.get(number as usize);
        let all = std::iter::successors(block(self.smallest.at(client.address)), move |inner| block(inner.around));
        all.filter(move |block| is_uniform || block.prefix_len <= client.len)
            .map(|block| (block.location as usize, block.prefix_len))
    }

    /// The length of the shortest prefix around an address in which all addresses have the same locations (RFC 7871, 7.2.1).
    pub fn scope(&self, address: IpAddr) -> u8 {
        self.smallest.uniform_len(address)
    }
}

/// All collections, compiled. A copy shares what does not change.
#[derive(Clone, Debug, Default)]
pub struct CidrTables(OrdMap<Id, Arc<CidrTable>>);

impl CidrTables {
    /// Compiles the collections of `manifest`. `self` has those of `previous`, and unchanged ones are shared.
    pub fn recompile(&self, previous: &Manifest, manifest: &Manifest) -> CidrTables {
        let mut this = self.clone();
        for change in changes(&previous.cidr_collections, &manifest.cidr_collections) {
            match change.new {
                Some(new) => drop(this.0.insert(change.id.clone(), Arc::new(CidrTable::new(new)))),
                None => drop(this.0.remove(change.id)),
            }
        }
        this
    }

    /// The table of a collection.
    pub fn get(&self, id: &str) -> Option<&Arc<CidrTable>> {
        self.0.get(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(locations: &[(&str, &[&str])]) -> CidrTable {
        let location = |(name, blocks): &(&str, &[&str])| {
            (name.to_string(), blocks.iter().map(|block| block.parse().unwrap()).collect())
        };
        CidrTable::new(&CidrCollection { locations: locations.iter().map(location).collect(), ..Default::default() })
    }

    fn around(table: &CidrTable, address: &str, len: u8) -> Vec<(usize, u8)> {
        table.around(ClientPrefix { address: address.parse().unwrap(), len }).collect()
    }

    #[test]
    fn the_longest_prefix_around_the_client_comes_first() {
        let table = table(&[
            ("a", &["10.0.0.0/8", "10.1.2.0/24", "fd00::/8"]),
            ("b", &["10.1.0.0/16"]),
            ("c", &["0.0.0.0/0", "192.168.0.0/25", "192.168.0.128/25"]),
        ]);
        assert_eq!((table.location("b"), table.location("d"), table.locations()), (Some(1), None, 3));
        assert_eq!(around(&table, "10.1.2.3", 32), [(0, 24), (1, 16), (0, 8), (2, 0)]);
        assert_eq!(around(&table, "10.1.3.3", 32), [(1, 16), (0, 8), (2, 0)]);
        assert_eq!(around(&table, "11.1.3.3", 32), [(2, 0)]);
        assert_eq!(around(&table, "fd00::1", 128), [(0, 8)]);
        assert_eq!(around(&table, "fe00::1", 128), []);
        // A prefix that is wider than a block is not in its location.
        assert_eq!(around(&table, "10.1.0.0", 20), [(1, 16), (0, 8), (2, 0)]);
        assert_eq!(around(&table, "10.0.0.0", 15), [(0, 8), (2, 0)]);
        // Two blocks of one location make up this prefix.
        assert_eq!(around(&table, "192.168.0.0", 24), [(2, 25), (2, 0)]);
        let scope = |address: &str| table.scope(address.parse().unwrap());
        // The scope excludes the more specific blocks: 10.1.2.0/24 is within 10.1.0.0/22, and not within 10.1.4.0/22.
        assert_eq!((scope("10.1.2.3"), scope("10.1.3.3"), scope("10.1.4.3"), scope("10.1.128.3")), (24, 24, 22, 17));
        assert_eq!((scope("10.2.0.1"), scope("192.168.0.200"), scope("fd00::1"), scope("fe00::1")), (15, 24, 8, 7));
    }

    /// Compares with a search over all blocks, for every address of a small network.
    #[test]
    fn finds_what_a_search_over_all_blocks_finds() {
        let mut random = 11u32;
        let mut draw = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % below
        };
        for v6 in [false, true] {
            let full = if v6 { 128 } else { 32 };
            let address = |last: u32| -> IpAddr {
                if v6 { format!("fd00::{last:x}").parse().unwrap() } else { [10, 0, 0, last as u8].into() }
            };
            for _ in 0..30 {
                let mut collection = CidrCollection::default();
                let mut used: Vec<IpNet> = Vec::new();
                for _ in 0..draw(8) {
                    let block = IpNet::new(address(draw(256)), full - draw(9) as u8).unwrap().trunc();
                    if !used.contains(&block) {
                        used.push(block);
                        collection.locations.entry(format!("l{}", draw(3))).or_default().push(block);
                    }
                }
                let table = CidrTable::new(&collection);
                // The locations around an address or prefix, by a search over all blocks.
                let search = |prefix: IpNet| -> Vec<(usize, u8)> {
                    let all = collection.locations.values().enumerate();
                    let all = all.flat_map(|(at, blocks)| blocks.iter().map(move |block| (at, *block)));
                    let mut found: Vec<(usize, u8)> = all
                        .filter(|(_, block)| block.contains(&prefix))
                        .map(|(at, block)| (at, block.prefix_len()))
                        .collect();
                    found.sort_by_key(|(_, len)| u8::MAX - len);
                    found
                };
                for at in 0..256 {
                    let host = IpNet::from(address(at));
                    assert_eq!(around(&table, &address(at).to_string(), full), search(host), "{collection:?} {host}");
                    // Every address within the scope has the same locations.
                    let scope = table.scope(address(at));
                    assert!(scope <= full);
                    let within = IpNet::new(address(at), scope).unwrap().trunc();
                    for other in (0..256).map(address).filter(|other| within.contains(other)) {
                        assert_eq!(search(other.into()), search(host), "{collection:?} {host} {other} {scope}");
                    }
                    // A shorter prefix has the locations that all of its addresses have.
                    let prefix = IpNet::new(address(at), full - draw(9) as u8).unwrap().trunc();
                    let found = around(&table, &prefix.addr().to_string(), prefix.prefix_len());
                    let is_uniform = table.scope(prefix.addr()) <= prefix.prefix_len();
                    let expected = if is_uniform { search(prefix.addr().into()) } else { search(prefix) };
                    assert_eq!(found, expected, "{collection:?} {prefix}");
                }
            }
        }
    }
}
