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
    /// The last [version](Lists::servers_version) of lists without an entry for these name servers; 0 if there is none.
    unlisted_in: AtomicU64,
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
        NameServers { names: names.into(), addresses: addresses.into(), above, unlisted_in: AtomicU64::new(0) }
    }

    /// These name servers, and then those of each zone above.
    pub fn levels(&self) -> impl Iterator<Item = &NameServers> {
        std::iter::successors(Some(self), |level| level.above.as_deref())
    }

    /// Whether no list has an entry for them. The result is remembered, so that most calls cost one comparison.
    #[inline]
    pub fn are_unlisted(&self, lists: &Lists) -> bool {
        let version = lists.servers_version();
        self.unlisted_in.load(Relaxed) == version || self.look_up(lists, version)
    }

    #[cold]
    fn look_up(&self, lists: &Lists, version: u64) -> bool {
        let is_unlisted = !self.levels().any(|level| lists.has_server(&level.names, &level.addresses));
        if is_unlisted {
            self.unlisted_in.store(version, Relaxed);
        }
        is_unlisted
    }

    /// The size in memory, without the zones above, in octets.
    pub fn size(&self) -> usize {
        let names: usize = self.names.iter().map(|name| size_of_val(name) + name.len()).sum();
        size_of::<NameServers>() + names + size_of_val(&*self.addresses)
    }
}
