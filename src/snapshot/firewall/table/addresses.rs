//! Entries of lists for addresses: those of clients, and those in answers.

use super::RpzAction;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::{collections::BTreeMap, net::IpAddr};

/// An entry for the addresses of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// The addresses.
    pub block: IpNet,
    /// The line of the entry in its source.
    pub line: u32,
    /// The action.
    pub rpz: Option<RpzAction>,
}

/// Entries by block.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    v4: PrefixMap<Ipv4Net, AddressEntry>,
    v6: PrefixMap<Ipv6Net, AddressEntry>,
    /// The numbers of the records of local data that a block has beside the first one.
    more: BTreeMap<IpNet, Vec<u32>>,
}

impl Addresses {
    /// Adds an entry for a block. Of several for one block, the first one counts; several with local data are one entry.
    pub fn add(&mut self, block: IpNet, line: u32, rpz: RpzAction) {
        let new = AddressEntry { block, line, rpz: Some(rpz) };
        let entry = match block {
            IpNet::V4(block) => self.v4.entry(block).or_insert(new),
            IpNet::V6(block) => self.v6.entry(block).or_insert(new),
        };
        if let (Some(RpzAction::Local(first)), RpzAction::Local(number)) = (entry.rpz, rpz)
            && first != number
        {
            self.more.entry(block).or_default().push(number);
        }
    }

    /// The numbers of all records of local data of an entry.
    pub fn local(&self, entry: &AddressEntry) -> impl Iterator<Item = u32> {
        let first = match entry.rpz {
            Some(RpzAction::Local(first)) => Some(first),
            _ => None,
        };
        first.into_iter().chain(self.more.get(&entry.block).into_iter().flatten().copied())
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
        let entry = addresses.find("10.1.0.0".parse().unwrap()).unwrap();
        assert_eq!(addresses.local(entry).collect::<Vec<_>>(), [1, 2]);
        for (address, line) in
            [("10.1.2.3", Some(1)), ("10.2.0.0", Some(0)), ("11.0.0.0", None), ("2001:db8::1", Some(3)), ("::1", None)]
        {
            assert_eq!(addresses.find(address.parse().unwrap()).map(|entry| entry.line), line, "{address}");
        }
    }
}
