//! The name servers of a name, for the rules of DNS Firewall on them.

use crate::snapshot::firewall::table::Lists;
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The name servers of a zone and of the zones above it that recursion has learned. All names of the zone share this value.
#[derive(Debug)]
pub struct NameServers {
    /// The names, in wire format and lower case.
    pub names: Box<[Box<[u8]>]>,
    /// The addresses.
    pub addresses: Box<[IpAddr]>,
    /// The name servers of the next zone above.
    pub above: Option<Arc<NameServers>>,
    /// Twice the [version](Lists::servers_version) of the lists that were last searched for these name servers, plus 1 if a
    /// list has an entry for one of them. Lists of version 0 have no entry for any server.
    searched: AtomicU64,
}

impl PartialEq for NameServers {
    fn eq(&self, other: &NameServers) -> bool {
        (&self.names, &self.addresses, &self.above) == (&other.names, &other.addresses, &other.above)
    }
}

impl Eq for NameServers {}

impl NameServers {
    /// Name servers with these names and addresses, below a zone with the name servers `above`.
    pub fn new(mut names: Vec<Box<[u8]>>, mut addresses: Vec<IpAddr>, above: Option<Arc<NameServers>>) -> NameServers {
        // The order of the records does not decide which entry counts.
        names.sort_unstable();
        names.dedup();
        addresses.sort_unstable();
        addresses.dedup();
        NameServers { names: names.into(), addresses: addresses.into(), above, searched: AtomicU64::new(0) }
    }

    /// These name servers, and then the name servers of each zone above.
    pub fn levels(&self) -> impl Iterator<Item = &NameServers> {
        std::iter::successors(Some(self), |level| level.above.as_deref())
    }

    /// Whether no list has an entry for them. The result is remembered, so that most calls cost one comparison.
    #[inline]
    pub fn are_unlisted(&self, lists: &Lists) -> bool {
        let version = lists.servers_version();
        let searched = self.searched.load(Relaxed);
        match searched >> 1 == version {
            true => searched & 1 == 0,
            false => self.search(lists, version),
        }
    }

    #[cold]
    fn search(&self, lists: &Lists, version: u64) -> bool {
        let is_listed = self.levels().any(|level| lists.has_server(&level.names, &level.addresses));
        self.searched.store(version << 1 | u64::from(is_listed), Relaxed);
        !is_listed
    }

    /// The size in memory with the zones above, in octets. Cache entries of other names may share this memory.
    pub fn size(&self) -> usize {
        let names = |level: &NameServers| level.names.iter().map(|name| size_of_val(name) + name.len()).sum::<usize>();
        self.levels().map(|level| size_of::<NameServers>() + names(level) + size_of_val(&*level.addresses)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_counts_the_servers_of_the_zones_above() {
        let servers = |above| NameServers::new(vec![[1; 100].into()], vec![[192, 0, 2, 1].into()], above);
        let one = servers(None).size();
        let all = (1..20).fold(servers(None), |above, _| servers(Some(Arc::new(above))));
        assert_eq!((one > 100, all.size()), (true, 20 * one));
    }
}
