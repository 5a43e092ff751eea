//! The values that travel with a query while it is answered: its context, its flags, and the facts about the answer.

use super::{AnswerKind, Client, Locality, Moment, firewall::FirewallMatches, known::Question};
use crate::{
    snapshot::{Snapshot, cidrs::ClientPrefix, networks::MatchedClient, routes::Route, views::View},
    wire::{
        codes::flag,
        query::{LookupName, Query, flags},
        reply::Ede,
    },
};
use std::sync::Arc;

/// Everything beside the query that decides an answer.
#[derive(Clone, Copy)]
pub struct Context<'s> {
    /// The snapshot that answers.
    pub snapshot: &'s Snapshot,
    /// The client's view of it.
    pub view: &'s View,
    /// The client's network, AZ and subnet.
    pub matched: MatchedClient<'s>,
    /// The client's addresses and transport.
    pub client: Client,
    /// The client's address, as far as it is known.
    pub prefix: ClientPrefix,
    /// The time and the rotation.
    pub moment: Moment,
    /// The query has a client subnet, so that the scope of the answer has to be found.
    pub needs_scope: bool,
}

/// The flags of a query that decide its answer.
#[derive(Clone, Copy)]
pub struct QueryFlags {
    /// RD: zonal may ask other servers.
    pub recursion_desired: bool,
    /// DO: the client takes DNSSEC records.
    pub dnssec_ok: bool,
    /// CD: nobody is to validate for the client.
    pub checking_disabled: bool,
    /// DO or AD: the client understands AD in an answer (RFC 6840, 5.7).
    pub understands_ad: bool,
}

impl QueryFlags {
    /// The flags of a query.
    pub fn of(query: &Query) -> QueryFlags {
        let bits = flags(query.packet);
        let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        QueryFlags {
            recursion_desired: bits & flag::RD != 0,
            dnssec_ok,
            checking_disabled: bits & flag::CD != 0,
            understands_ad: dnssec_ok || bits & flag::AD != 0,
        }
    }

    /// The question to other servers for a name.
    pub fn question<'n>(&self, name: &'n LookupName, qtype: u16) -> Question<'n> {
        let QueryFlags { dnssec_ok, checking_disabled, .. } = *self;
        Question { name, qtype, dnssec_ok, checking_disabled }
    }
}

/// Facts about all records that were written so far.
#[derive(Clone, Copy)]
pub struct Summary {
    /// All records were validated.
    pub authentic: bool,
    /// At least one record has expired.
    pub stale: bool,
    /// At least one record is in demand and expires soon: the caller asks for it anew.
    pub refresh: bool,
    /// The farthest address of an endpoint; none while there is none.
    pub locality: Option<Locality>,
    /// The DNS Firewall rules that matched.
    pub firewall: FirewallMatches,
    /// Every client gets these records. False where [`Context::needs_scope`] is.
    pub same_for_all: bool,
    /// The length of the shortest prefix around the client in which CIDR routing chooses the same records.
    pub scope: u8,
}

/// The end of a query's resolution. The records and the facts about them are in the resolver.
pub struct Resolved<'s> {
    /// The RCODE.
    pub rcode: u16,
    /// The kind of resource that answered for the first name.
    pub kind: AnswerKind,
    /// The extended error.
    pub error: ExtendedError<'s>,
    /// The route to the servers that must answer for the current name first. With a route, there is no answer yet.
    pub forward: Option<&'s Arc<Route>>,
    /// The query gets no reply: a DNS Firewall rule drops it.
    pub is_dropped: bool,
}

/// The extended error of a reply.
pub enum ExtendedError<'s> {
    /// There is none.
    None,
    /// An error of zonal's own.
    Own(Ede<'s>),
    /// Code and text from the cache, where they were kept with a failure.
    Cached(u16, Arc<str>),
}

impl ExtendedError<'_> {
    /// The error as the reply takes it.
    pub fn ede(&self) -> Option<Ede<'_>> {
        match self {
            ExtendedError::None => None,
            ExtendedError::Own(ede) => Some(*ede),
            ExtendedError::Cached(code, text) => Some(Ede { code: *code, text: [text, "", ""] }),
        }
    }
}
