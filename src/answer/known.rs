//! What is known of names that others answer for.
//!
//! [`answer`](super::answer) asks what is known, and says where to ask what is not. What is known is a record set, or
//! that there is none: one name and type at a time, so that every target of a chain is decided anew.

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

/// What others are asked.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The name, in lower case.
    pub name: &'a LookupName,
    /// The type.
    pub qtype: u16,
    /// DNSSEC records are wanted.
    pub dnssec_ok: bool,
    /// Nobody on the way is to validate.
    pub checking_disabled: bool,
}

/// Where to ask, and what.
#[derive(Clone, Copy)]
pub struct Forward<'s> {
    /// Where.
    pub route: &'s Arc<Route>,
    /// What the answers are kept under.
    pub id: RouteId,
    name: [u8; MAX_NAME],
    /// The type.
    pub qtype: u16,
    /// DNSSEC records are wanted.
    pub dnssec_ok: bool,
    /// Nobody on the way is to validate.
    pub checking_disabled: bool,
    /// Where this is not answered, something else is still to be asked.
    pub hasty: bool,
    /// The view of the client that wants to know: [`View::slot`](crate::snapshot::views::View::slot).
    pub tenant: u32,
}

impl<'s> Forward<'s> {
    /// Asks this by this route. The answers are kept under `id`: that of the route, as the view [sees](crate::snapshot::views::Views::route_id) it.
    pub fn new(route: &'s Arc<Route>, id: RouteId, question: &Question) -> Forward<'s> {
        let mut name = [0; MAX_NAME];
        let wire = question.name.wire();
        name[..wire.len()].copy_from_slice(wire);
        let Question { qtype, dnssec_ok, checking_disabled, .. } = *question;
        Forward { route, id, name, qtype, dnssec_ok, checking_disabled, hasty: false, tenant: 0 }
    }

    /// The same, to be taken along.
    pub fn to_asked(&self) -> Asked {
        let Forward { route, id, qtype, dnssec_ok, checking_disabled, hasty, .. } = *self;
        Asked { route: route.clone(), id, name: Box::new(self.name()), qtype, dnssec_ok, checking_disabled, hasty }
    }

    /// The name that is asked for, in lower case.
    pub fn name(&self) -> LookupName {
        LookupName::new(&self.name).unwrap_or_else(LookupName::root)
    }

    /// What is asked, of that name.
    pub fn question<'n>(&self, name: &'n LookupName) -> Question<'n> {
        let Forward { qtype, dnssec_ok, checking_disabled, .. } = *self;
        Question { name, qtype, dnssec_ok, checking_disabled }
    }
}

/// Where to ask, and what: for those who take it with them, and so not large.
#[derive(Clone)]
pub struct Asked {
    /// Where.
    pub route: Arc<Route>,
    /// What the answers are kept under.
    pub id: RouteId,
    name: Box<LookupName>,
    qtype: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
    /// Where this is not answered, something else is still to be asked.
    pub hasty: bool,
}

impl Asked {
    /// What is asked.
    pub fn question(&self) -> Question<'_> {
        let Asked { name, qtype, dnssec_ok, checking_disabled, .. } = self;
        Question { name, qtype: *qtype, dnssec_ok: *dnssec_ok, checking_disabled: *checking_disabled }
    }
}

/// What decides an answer of others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whom it came from.
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

    /// Whether it is that of the question.
    #[inline]
    pub fn is(&self, route: RouteId, question: &Question) -> bool {
        self.route == route
            && self.qtype == question.qtype
            && self.flags == question.flags()
            && *self.name == *question.name.wire()
    }

    /// The same hash that its question has.
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

/// Records in wire format that can be put into any reply: names in their data are not compressed, and an owner is
/// either a whole name or the mark [`OWNER`] with the number of labels that are to be taken from the front of the name
/// in question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// How many.
    pub count: u16,
    /// The records, one behind the other.
    pub octets: Box<[u8]>,
}

/// In front of an owner that is a suffix of the name in question: no label is that long, and no pointer begins so.
pub const OWNER: u8 = 0x80;

/// What others answered for one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The RCODE: NOERROR, NXDOMAIN, YXDOMAIN, or SERVFAIL where nobody gave a usable answer.
    pub rcode: u16,
    /// Validated, by our own recursion.
    pub authentic: bool,
    /// Seconds for which it holds; 0 for what is good for one answer only.
    pub ttl: u32,
    /// When it came, in seconds since 1970.
    pub since: i64,
    /// The record set; of a name with a CNAME that record; both with their signatures if they were asked for. With the
    /// DNAME in front, where that is what the CNAME was made from.
    pub answer: Records,
    /// Where in `answer` the target of a CNAME is.
    pub target: Option<u16>,
    /// The SOA record of a negative answer, and what proves it if that was asked for.
    pub authority: Records,
    /// An extended error (RFC 8914): its code and text.
    pub ede: Option<(u16, Arc<str>)>,
    /// What each server did, by its address, where that is why there is no answer: for operators, as clients are not told
    /// the addresses of servers.
    pub details: Option<Arc<str>>,
}

/// How far what threads take for the time may be apart, in seconds.
const CLOCKS_APART: i64 = 5;

impl Entry {
    /// No answer, and why.
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
        }
    }

    /// Whether it holds at this time. What seems to come from a time that is still to come, because the clock was set back,
    /// does not: it would hold for as much longer.
    #[inline]
    pub fn holds(&self, now: i64) -> bool {
        self.end() > now && self.since <= now + CLOCKS_APART
    }

    /// When it ends, in seconds since 1970.
    pub fn end(&self) -> i64 {
        self.since + i64::from(self.ttl)
    }

    /// How many octets of memory it takes.
    pub fn size(&self) -> usize {
        let text = self.ede.as_ref().map_or(0, |(_, text)| text.len());
        let details = self.details.as_ref().map_or(0, |details| details.len());
        size_of::<Entry>() + self.answer.octets.len() + self.authority.octets.len() + text + details
    }
}

/// What is known of a question.
#[derive(Clone, Copy)]
pub struct Found<'k> {
    /// What was answered.
    pub entry: &'k Entry,
    /// The TTL that its records have now.
    pub ttl: u32,
    /// It has ended, and nobody could be asked anew (RFC 8767).
    pub stale: bool,
    /// It is in demand and ends soon: whoever is told so, which is nobody else, has it asked for anew.
    pub refresh: bool,
}

/// Knows what others answered.
pub trait Known {
    /// Hands to `use_it` what is known of a question that goes by a route, if it is.
    fn with<R>(&self, route: RouteId, question: &Question, now: i64, use_it: impl FnOnce(Option<Found>) -> R) -> R;
}

/// Knows nothing.
impl Known for () {
    #[inline]
    fn with<R>(&self, _: RouteId, _: &Question, _: i64, use_it: impl FnOnce(Option<Found>) -> R) -> R {
        use_it(None)
    }
}

impl Records {
    /// The records: owner, type and data of each, where they are about `name`.
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

    /// Puts the records into a reply. `suffix_at` tells where in the reply the name in question begins without its
    /// first labels. Of the addresses among them, if their type is named, another one comes first at each draw. Returns where
    /// the records begin.
    #[inline]
    pub fn write(
        &self,
        reply: &mut Reply,
        section: Section,
        ttl: u32,
        turned: Option<(u16, u32)>,
        suffix_at: impl Fn(&[u8], usize) -> usize,
    ) -> Result<usize, Full> {
        let start = reply.block(section, self.count, &self.octets)?;
        let mut at = start;
        // Those that lie one behind the other, and how many they are.
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
            if turned.is_some_and(|(turned, _)| turned == rtype) && (count == 0 || addresses.end == begin) {
                addresses = if count == 0 { begin..at } else { addresses.start..at };
                count += 1;
            }
        }
        if let Some((_, draw)) = turned
            && count > 1
            && addresses.len().is_multiple_of(count)
        {
            let size = addresses.len() / count;
            reply.rotate(addresses, size * first_of(count, draw));
        }
        Ok(start)
    }
}
