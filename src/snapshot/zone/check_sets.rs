//! Checks which record sets may be at one name together.

use super::{
    GROUP,
    build::{Builder, MAX_SET_OCTETS, Origin},
    node_flag,
};
use crate::wire::{
    Name,
    rdata::{self, rtype},
};

impl Builder<'_> {
    /// Refuses records at a name that has a group or an alias of their type.
    pub(super) fn refuse_values(&mut self, owner: &Name, rtype: u16, alias: usize, origin: Origin) {
        let rtype = rdata::type_to_text(rtype);
        let message = match alias & GROUP != 0 {
            true => format!("{owner} has {rtype} records with a set_identifier"),
            false => format!("{owner} has an alias for {rtype} records"),
        };
        self.error(origin, message);
    }

    /// Checks the record sets of all nodes, and sets the flags for zone cuts, DNAME and CNAME.
    pub fn check_sets(&mut self) {
        for at in 0..self.nodes.len() {
            let owner = Name::from_wire(&self.nodes[at].name).unwrap_or_else(|_| Name::root());
            let is_apex = at == 0;
            let wildcard = owner.is_wildcard();
            let types: Vec<u16> = self.nodes[at].sets.iter().map(|set| set.rtype).collect();
            for number in 0..types.len() {
                let set = &self.nodes[at].sets[number];
                let (origin, values, alias) = (set.origin, set.values.len(), set.alias);
                let size = set.octets;
                let name = rdata::type_to_text(set.rtype);
                match set.rtype {
                    rtype::CNAME if alias.is_some_and(|number| number & GROUP == 0) => {
                        self.error(origin, format!("{owner}: an alias cannot have the type CNAME"));
                    }
                    rtype::CNAME if values > 1 => {
                        self.error(origin, format!("{owner} has {values} CNAME records")).help =
                            Some("a name has at most one CNAME record".into());
                    }
                    rtype::CNAME if types.iter().any(|other| !may_be_beside_cname(*other)) => {
                        let others: Vec<_> = types.iter().filter(|other| !may_be_beside_cname(**other)).collect();
                        let others: Vec<_> = others.into_iter().map(|other| rdata::type_to_text(*other)).collect();
                        let message = format!("{owner} has a CNAME record and other records ({})", others.join(", "));
                        self.error(origin, message).help =
                            Some("a name with a CNAME record has no other records (RFC 1034, 3.6.2); use an alias at the apex".into());
                    }
                    rtype::DNAME if values > 1 => {
                        self.error(origin, format!("{owner} has {values} DNAME records"));
                    }
                    rtype::SOA if !is_apex => {
                        self.error(origin, format!("{owner} has a SOA record, but is not the apex of the zone"));
                    }
                    rtype::SOA if values > 1 => {
                        self.error(origin, format!("{owner} has {values} SOA records"));
                    }
                    rtype::NS | rtype::DNAME if wildcard && !is_apex => {
                        self.error(origin, format!("{owner}: a wildcard cannot have {name} records"));
                    }
                    _ if size > MAX_SET_OCTETS => {
                        let message = format!(
                            "the {name} records of {owner} have more than {MAX_SET_OCTETS} octets, the maximum of a message"
                        );
                        self.error(origin, message);
                    }
                    _ => {}
                }
                let flags = match self.nodes[at].sets[number].rtype {
                    rtype::NS if !is_apex => node_flag::CUT,
                    rtype::DNAME => node_flag::DNAME,
                    rtype::CNAME => node_flag::CNAME,
                    _ => 0,
                };
                self.nodes[at].flags |= flags;
            }
        }
    }
}

/// Whether a name with a CNAME record may have records of a type (RFC 4035, section 2.5; RFC 3007
/// for KEY).
fn may_be_beside_cname(other: u16) -> bool {
    matches!(other, rtype::CNAME | rtype::RRSIG | rtype::NSEC | 25)
}
