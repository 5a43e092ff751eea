//! Entries of lists for addresses: those of clients, and those in answers.

use super::RpzAction;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::net::IpAddr;

/// An entry for the addresses of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// The addresses.
    pub block: IpNet,
    /// The line of the entry in its source.
    pub line: u32,
    /// The action.
    pub rpz: RpzAction,
    /// For [`RpzAction::Local`]: the numbers of all records.
    pub(super) local: Vec<u32>,
}

/// Entries by block.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    v4: PrefixMap<Ipv4Net, AddressEntry>,
    v6: PrefixMap<Ipv6Net, AddressEntry>,
}

impl Addresses {
    /// Adds an entry for a block. Of several for one block, the first one counts; several with local data are one entry.
    pub fn add(&mut self, block: IpNet, line: u32, rpz: RpzAction) {
        let new = || AddressEntry { block, line, rpz, local: Vec::new() };
        let entry = match block {
            IpNet::V4(block) => self.v4.entry(block).or_insert_with(new),
            IpNet::V6(block) => self.v6.entry(block).or_insert_with(new),
        };
        if let (RpzAction::Local(_), RpzAction::Local(number)) = (entry.rpz, rpz)
            && !entry.local.contains(&number)
        {
            entry.local.push(number);
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
        for (line, block) in ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16", "2001:db8::/32"].into_iter().enumerate() {
            addresses.add(block.parse().unwrap(), line as u32, RpzAction::Local(line as u32));
        }
        assert_eq!(addresses.len(), 3);
        assert_eq!(addresses.find("10.1.0.0".parse().unwrap()).unwrap().local, [1, 2]);
        for (address, line) in
            [("10.1.2.3", Some(1)), ("10.2.0.0", Some(0)), ("11.0.0.0", None), ("2001:db8::1", Some(3)), ("::1", None)]
        {
            assert_eq!(addresses.find(address.parse().unwrap()).map(|entry| entry.line), line, "{address}");
        }
    }
}
