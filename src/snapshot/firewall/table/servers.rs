//! Entries of lists for name servers, by their names and addresses.

use super::{Addresses, RpzAction};
use crate::wire::name::wire_len;
use std::collections::HashMap;

/// An entry for the names of name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNameEntry {
    /// The name, in wire format and lower case.
    pub name: Box<[u8]>,
    /// Whether it is for the names below that name only.
    pub below_only: bool,
    /// The line of the entry in its source.
    pub line: u32,
    /// The action.
    pub rpz: RpzAction,
    /// The numbers of all records of local data.
    pub local: Vec<u32>,
}

/// The entries of a list for name servers.
#[derive(Clone, Debug, Default)]
pub struct ServerEntries {
    /// The entries by name: one for the name itself, and one for the names below it.
    names: HashMap<Box<[u8]>, Vec<ServerNameEntry>>,
    /// The entries for addresses.
    pub addresses: Addresses,
}

impl ServerEntries {
    /// Adds an entry for a name. The first entry for a name counts. Entries with local data for one name become one entry.
    pub fn add_name(&mut self, name: &[u8], below_only: bool, line: u32, rpz: RpzAction) {
        let entries = self.names.entry(name.into()).or_default();
        let at = entries.iter().position(|entry| entry.below_only == below_only).unwrap_or_else(|| {
            entries.push(ServerNameEntry { name: name.into(), below_only, line, rpz, local: Vec::new() });
            entries.len() - 1
        });
        if let (RpzAction::Local(_), RpzAction::Local(number)) = (entries[at].rpz, rpz)
            && !entries[at].local.contains(&number)
        {
            entries[at].local.push(number);
        }
    }

    /// The entry for a name server with this name, which is in wire format and lower case. The entry with the longest name
    /// counts.
    pub fn find_name(&self, name: &[u8]) -> Option<&ServerNameEntry> {
        if self.names.is_empty() {
            return None;
        }
        let mut at = 0;
        while wire_len(&name[at..]).is_some() {
            let entries = self.names.get(&name[at..]).into_iter().flatten();
            if let Some(entry) = entries.into_iter().find(|entry| entry.below_only == (at > 0)) {
                return Some(entry);
            }
            if name[at] == 0 {
                break;
            }
            at += 1 + usize::from(name[at]);
        }
        None
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.addresses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    #[test]
    fn the_entry_with_the_longest_name_counts() {
        let wire = |name: &str| Name::absolute(name).unwrap().as_wire().to_vec();
        let mut entries = ServerEntries::default();
        assert!(entries.is_empty() && entries.find_name(&wire("ns.example")).is_none());
        for (line, name, below_only) in
            [(1, "example", true), (2, "ns.example", false), (3, "b.ns.example", true), (4, "ns.example", false)]
        {
            entries.add_name(&wire(name), below_only, line, RpzAction::Local(line));
        }
        for (name, line) in [
            ("example", None),
            ("a.example", Some(1)),
            ("ns.example", Some(2)),
            ("b.ns.example", Some(1)),
            ("x.b.ns.example", Some(3)),
            ("other", None),
            (".", None),
        ] {
            assert_eq!(entries.find_name(&wire(name)).map(|entry| entry.line), line, "{name}");
        }
        assert_eq!(entries.find_name(&wire("ns.example")).unwrap().local, [2, 4]);
    }
}
