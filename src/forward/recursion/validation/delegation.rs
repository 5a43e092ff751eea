//! What is at a name that has no DS records.

use super::nsec::is_delegation;
use hickory_server::proto::rr::{RecordType, RecordTypeSet};

/// What a zone proves of a name that has no DS records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delegation {
    /// An unsigned zone begins there, or may begin there.
    Insecure,
    /// The name is in the same zone as the one above it.
    None,
    /// There is no such name, and nothing below it.
    NoName,
}

impl Delegation {
    /// By the types at the name (RFC 6840, 4.4). None if they contradict that there are no DS records, or are from below the cut.
    pub fn of(types: &RecordTypeSet) -> Option<Delegation> {
        let contradicts =
            [RecordType::DS, RecordType::SOA, RecordType::CNAME].iter().any(|rtype| types.contains(*rtype));
        match is_delegation(types) {
            _ if contradicts => None,
            true => Some(Delegation::Insecure),
            false => Some(Delegation::None),
        }
    }
}
