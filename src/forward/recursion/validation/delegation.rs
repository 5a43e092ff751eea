//! Meaning of a name without DS records.

use super::nsec::is_delegation;
use hickory_server::proto::rr::{RecordType, RecordTypeSet};

/// Status of a name for which a zone proves that it has no DS records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delegation {
    /// An unsigned zone begins or may begin at the name.
    Insecure,
    /// The name is in the same zone as its parent.
    None,
    /// Neither the name nor any name below it exists.
    NoName,
}

impl Delegation {
    /// Derives the status from the types at the name (RFC 6840, section 4.4).
    ///
    /// Returns `None` if the types include DS or CNAME, or if a SOA shows that they come from below
    /// the cut.
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
