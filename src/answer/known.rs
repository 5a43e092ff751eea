//! The answers of other servers, as [`answer`](super::answer) needs them.
//!
//! `answer` looks for a question in [`KnownAnswers`]. If it is not there, `answer` returns a [`RoutedQuestion`], which the
//! caller asks. An [`Entry`] has the answer for one name and type: a record set, or that there is none. So every target of
//! a CNAME chain is decided by itself. This module has no cache: [`forward::cache`](crate::forward::cache) is one.

use super::name_servers::NameServers;
use crate::{
    snapshot::routes::{Route, RouteId},
    wire::{
        codes::{pointer, rcode},
        name::{MAX_NAME, wire_len},
        query::LookupName,
        reply::{Full, Reply, Section, first_of},
    },
};
use std::sync::Arc;

/// A question to other servers.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The name, in lower case.
    pub name: &'a LookupName,
    /// The type.
    pub qtype: u16,
    /// DO: DNSSEC records are wanted.
    pub dnssec_ok: bool,
    /// CD: no server is to validate.
    pub checking_disabled: bool,
}

/// A question, and the route by which it goes.
#[derive(Clone, Copy)]
pub struct RoutedQuestion<'s> {
    /// The route.
    pub route: &'s Arc<Route>,
    /// The route's number, as the client's view sees it: the cache keeps the answers under it.
    pub id: RouteId,
    name: [u8; MAX_NAME],
    /// The type.
    pub qtype: u16,
    /// DO: DNSSEC records are wanted.
    pub dnssec_ok: bool,
    /// CD: no server is to validate.
    pub checking_disabled: bool,
    /// If no server answers, there is another question to ask (DNS64 asks for A after AAAA).
    pub has_fallback: bool,
    /// The view of the client: [`View::slot`](crate::snapshot::views::View::slot).
    pub tenant: u32,
}

impl<'s> RoutedQuestion<'s> {
    /// A question with its route. `id` is the route's number, as the view
    /// [sees](crate::snapshot::views::Views::route_id) it.
    pub fn new(route: &'s Arc<Route>, id: RouteId, question: &Question) -> RoutedQuestion<'s> {
        let mut name = [0; MAX_NAME];
        let wire = question.name.wire();
        name[..wire.len()].copy_from_slice(wire);
        let Question { qtype, dnssec_ok, checking_disabled, .. } = *question;
        RoutedQuestion { route, id, name, qtype, dnssec_ok, checking_disabled, has_fallback: false, tenant: 0 }
    }

    /// A copy that does not borrow the snapshot.
    pub fn to_owned_question(&self) -> OwnedRoutedQuestion {
        let RoutedQuestion { route, id, qtype, dnssec_ok, checking_disabled, has_fallback, .. } = *self;
        OwnedRoutedQuestion {
            route: route.clone(),
            id,
            name: Box::new(self.name()),
            qtype,
            dnssec_ok,
            checking_disabled,
            has_fallback,
        }
    }

    /// The name of the question, in lower case.
    pub fn name(&self) -> LookupName {
        LookupName::new(&self.name).unwrap_or_else(LookupName::root)
    }

    /// The question; `name` is its name.
    pub fn question<'n>(&self, name: &'n LookupName) -> Question<'n> {
        let RoutedQuestion { qtype, dnssec_ok, checking_disabled, .. } = *self;
        Question { name, qtype, dnssec_ok, checking_disabled }
    }
}

/// A [`RoutedQuestion`] that owns its route and is small, for use across an `await`.
#[derive(Clone)]
pub struct OwnedRoutedQuestion {
    /// The route.
    pub route: Arc<Route>,
    /// The route's number, as the client's view sees it: the cache keeps the answers under it.
    pub id: RouteId,
    name: Box<LookupName>,
    qtype: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
    /// If no server answers, there is another question to ask (DNS64 asks for A after AAAA).
    pub has_fallback: bool,
}

impl OwnedRoutedQuestion {
    /// The question.
    pub fn question(&self) -> Question<'_> {
        let OwnedRoutedQuestion { name, qtype, dnssec_ok, checking_disabled, .. } = self;
        Question { name, qtype: *qtype, dnssec_ok: *dnssec_ok, checking_disabled: *checking_disabled }
    }
}

/// The key of an answer of other servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The route that it came by.
    pub route: RouteId,
    /// The name, in lower case and wire format.
    pub name: Box<[u8]>,
    /// The type.
    pub qtype: u16,
    /// DO and CD of the query.
    pub flags: u8,
    hash: u64,
}

impl Key {
    /// The key of a question that goes by this route.
    pub fn new(route: RouteId, question: &Question) -> Key {
        let (qtype, flags, hash) = (question.qtype, question.flags(), question.hash(route));
        Key { route, name: question.name.wire().into(), qtype, flags, hash }
    }

    /// Whether it is the key of a question.
    #[inline]
    pub fn is(&self, route: RouteId, question: &Question) -> bool {
        self.route == route
            && self.qtype == question.qtype
            && self.flags == question.flags()
            && *self.name == *question.name.wire()
    }

    /// Its hash, which is that of its question.
    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl Question<'_> {
    /// DO and CD as bits.
    #[inline]
    pub fn flags(&self) -> u8 {
        self.dnssec_ok as u8 | (self.checking_disabled as u8) << 1
    }

    /// A hash of the question and its route.
    #[inline]
    pub fn hash(&self, route: RouteId) -> u64 {
        let extra = (u64::from(self.qtype) << 8 | u64::from(self.flags())) ^ route.0 as u64;
        let mixed = self.name.hash(0) ^ extra.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed.rotate_left(23).wrapping_mul(0xe703_7ed1_a0b4_28db)
    }
}

/// Records in wire format that can be copied into any reply. Names in their data are not compressed. An owner is either a
/// whole name, or the octet [`OWNER`] and the number of labels by which the question's name is longer than the owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The number of records.
    pub count: u16,
    /// The records, one after the other.
    pub octets: Box<[u8]>,
}

/// The first octet of an owner that is a suffix of the question's name. No label has this length, and no pointer begins with
/// it.
pub const OWNER: u8 = 0x80;

/// The answer of other servers for one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The RCODE: NOERROR, NXDOMAIN or YXDOMAIN; SERVFAIL if no server gave a usable answer.
    pub rcode: u16,
    /// zonal's own recursion has validated it.
    pub authentic: bool,
    /// The time for which it is valid, in seconds; 0 if it is valid for one query only.
    pub ttl: u32,
    /// The time at which it came, in seconds since 1970.
    pub since: i64,
    /// The record set, or the CNAME record of a name that has one; with signatures if the question wants them. If the CNAME
    /// was made from a DNAME, the DNAME record comes first.
    pub answer: Records,
    /// The offset of the CNAME's target in `answer`.
    pub target: Option<u16>,
    /// The SOA record of a negative answer; with its proof if the question wants it.
    pub authority: Records,
    /// An extended error (RFC 8914): its code and text.
    pub ede: Option<(u16, Arc<str>)>,
    /// The failure of each server, with its address, if there is no answer. This is for operators: clients never see the
    /// addresses of servers.
    pub details: Option<Arc<str>>,
    /// The name servers of the name, if recursion has learned them.
    pub servers: Option<Arc<NameServers>>,
}

/// The largest difference between the clocks of two threads, in seconds.
const MAX_CLOCK_DIFFERENCE_SECONDS: i64 = 5;

impl Entry {
    /// The entry of a failure, with code and text of the extended error.
    pub fn failure(code: u16, text: &str, now: i64, ttl: u32) -> Entry {
        Entry {
            rcode: rcode::SERVFAIL,
            authentic: false,
            ttl,
            since: now,
            answer: Records::default(),
            target: None,
            authority: Records::default(),
            ede: Some((code, text.into())),
            details: None,
            servers: None,
        }
    }

    /// Whether it is valid at this time. An entry from the future is not: the clock was set back, and the entry would be valid
    /// for too long.
    #[inline]
    pub fn holds(&self, now: i64) -> bool {
        self.end() > now && self.since <= now + MAX_CLOCK_DIFFERENCE_SECONDS
    }

    /// The time at which it expires, in seconds since 1970.
    pub fn end(&self) -> i64 {
        self.since + i64::from(self.ttl)
    }

    /// Its size in memory, in octets.
    pub fn size(&self) -> usize {
        let text = self.ede.as_ref().map_or(0, |(_, text)| text.len());
        let details = self.details.as_ref().map_or(0, |details| details.len());
        let servers = self.servers.as_ref().map_or(0, |servers| servers.size());
        size_of::<Entry>() + self.answer.octets.len() + self.authority.octets.len() + text + details + servers
    }
}

/// A known answer, at a point in time.
#[derive(Clone, Copy)]
pub struct KnownAnswer<'k> {
    /// The answer.
    pub entry: &'k Entry,
    /// The remaining TTL of its records, in seconds.
    pub ttl: u32,
    /// It has expired, and no server could refresh it (RFC 8767).
    pub stale: bool,
    /// It is in demand and expires soon. Only one caller gets this flag, and has the entry refreshed.
    pub refresh: bool,
}

/// A source of answers of other servers.
pub trait KnownAnswers {
    /// Calls `use_it` with the known answer to a question by a route, or with none.
    fn with<R>(
        &self,
        route: RouteId,
        question: &Question,
        now: i64,
        use_it: impl FnOnce(Option<KnownAnswer>) -> R,
    ) -> R;
}

/// The source that knows no answer.
impl KnownAnswers for () {
    #[inline]
    fn with<R>(&self, _: RouteId, _: &Question, _: i64, use_it: impl FnOnce(Option<KnownAnswer>) -> R) -> R {
        use_it(None)
    }
}

impl Records {
    /// Owner, type and data of each record, if the question's name is `name`.
    pub fn iter<'a>(&'a self, name: &'a LookupName) -> impl Iterator<Item = (&'a [u8], u16, &'a [u8])> {
        let mut rest = &*self.octets;
        (0..self.count).map_while(move |_| {
            let (owner, fixed) = match rest {
                [OWNER, skip, fixed @ ..] => (name.suffix((*skip).into()), fixed),
                _ => rest.split_at_checked(wire_len(rest)?)?,
            };
            let (fixed, data) = fixed.split_first_chunk::<10>()?;
            let length = u16::from_be_bytes([fixed[8], fixed[9]]);
            let (rdata, next) = data.split_at_checked(length.into())?;
            rest = next;
            Some((owner, u16::from_be_bytes([fixed[0], fixed[1]]), rdata))
        })
    }

    /// Copies the records into a reply. `suffix_at` returns the offset in the reply of the question's name without its first
    /// labels. `rotation` is the type of the addresses that rotate, and the number that decides which one comes first.
    /// Returns the offset of the first record.
    #[inline]
    pub fn write(
        &self,
        reply: &mut Reply,
        section: Section,
        ttl: u32,
        rotation: Option<(u16, u32)>,
        suffix_at: impl Fn(&[u8], usize) -> usize,
    ) -> Result<usize, Full> {
        let start = reply.block(section, self.count, &self.octets)?;
        let mut at = start;
        // The addresses that are next to each other, and their number.
        let (mut addresses, mut count) = (start..start, 0);
        for _ in 0..self.count {
            let begin = at;
            let written = reply.written();
            if written[at] == OWNER {
                let owner = suffix_at(written, written[at + 1].into());
                reply.patch(at, pointer::to(owner));
                at += 2;
            } else {
                while written[at] != 0 {
                    at += 1 + written[at] as usize;
                }
                at += 1;
            }
            reply.patch(at + 4, (ttl >> 16) as u16);
            reply.patch(at + 6, ttl as u16);
            let written = reply.written();
            let rtype = u16::from_be_bytes([written[at], written[at + 1]]);
            at += 10 + usize::from(u16::from_be_bytes([written[at + 8], written[at + 9]]));
            if rotation.is_some_and(|(rotated, _)| rotated == rtype) && (count == 0 || addresses.end == begin) {
                addresses = if count == 0 { begin..at } else { addresses.start..at };
                count += 1;
            }
        }
        if let Some((_, draw)) = rotation
            && count > 1
            && addresses.len().is_multiple_of(count)
        {
            let size = addresses.len() / count;
            reply.rotate(addresses, size * first_of(count, draw));
        }
        Ok(start)
    }
}
