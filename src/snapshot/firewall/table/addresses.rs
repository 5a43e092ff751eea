//! Entries of lists for addresses: those of clients, and those in answers.

use super::RpzAction;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::net::IpAddr;

/// An entry for the addresses of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// The addresses.
    pub block: IpNet,
    /// The line of the entry in its source.
    pub line: u32,
    /// The action; none: that of the rule.
    pub rpz: Option<RpzAction>,
}

/// Entries by block.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    v4: PrefixMap<Ipv4Net, AddressEntry>,
    v6: PrefixMap<Ipv6Net, AddressEntry>,
}

impl Addresses {
    /// Adds an entry. Of several for one block, the first one counts.
    pub fn add(&mut self, entry: AddressEntry) {
        match entry.block {
            IpNet::V4(block) => drop(self.v4.entry(block).or_insert(entry)),
            IpNet::V6(block) => drop(self.v6.entry(block).or_insert(entry)),
        }
    }

    /// The entry with the longest prefix that contains an address.
    pub fn find(&self, address: IpAddr) -> Option<&AddressEntry> {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, entry)| entry),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, entry)| entry),
        }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_counts() {
        let mut addresses = Addresses::default();
        let entry = |block: &str, line| AddressEntry { block: block.parse().unwrap(), line, rpz: None };
        for (line, block) in ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16", "2001:db8::/32"].into_iter().enumerate() {
            addresses.add(entry(block, line as u32));
        }
        assert_eq!(addresses.len(), 3);
        for (address, line) in
            [("10.1.2.3", Some(1)), ("10.2.0.0", Some(0)), ("11.0.0.0", None), ("2001:db8::1", Some(3)), ("::1", None)]
        {
            assert_eq!(addresses.find(address.parse().unwrap()).map(|entry| entry.line), line, "{address}");
        }
    }
}
