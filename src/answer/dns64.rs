//! DNS64: AAAA records made of A records, for subnets that reach IPv4 through a NAT64 (RFC 6147); and the way back, from
//! the names of such addresses to those of the IPv4 addresses in them.

use super::{
    Kind,
    known::Known,
    resolve::{Outcome, Resolver, next_cut},
    trace::{Stage, Trace},
};
use crate::{
    snapshot::{Snapshot, autodefined::Autodefined, networks::Found},
    wire::{
        query::{LookupName, rcode, skip_name},
        rdata::rtype,
        reply::Section,
    },
};
use std::net::Ipv4Addr;

/// The Well-Known Prefix 64:ff9b::/96 (RFC 6052, 2.1).
const PREFIX: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
/// The zone of the names of its addresses, and how many labels that has.
const REVERSE: &[u8] = b"\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\
    \x01b\x019\x01f\x01f\x014\x016\x010\x010\x03ip6\x04arpa\0";
const REVERSE_LABELS: usize = 26;
/// What no AAAA record may be that is to be used: ::ffff:0:0/96 (RFC 6147, 5.1.4).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
/// The TTL where the negative answer has none, in seconds (RFC 6147, 5.1.7).
const DEFAULT_TTL: u32 = 600;
/// How many addresses are made at most.
const MOST: usize = 128;

/// Whether records are to be made for a client. One who validates for itself gets none (RFC 6147, 5.5).
#[inline]
pub fn is_wanted(snapshot: &Snapshot, found: &Found, name: &LookupName, qtype: u16, validates: bool) -> bool {
    (qtype == rtype::AAAA || below_prefix(name).is_some())
        && !validates
        && found.subnet.is_some_and(|subnet| snapshot.networks.subnets[subnet as usize].dns64)
}

/// How many labels a name is below that of the prefix, if it is.
#[inline]
pub fn below_prefix(name: &LookupName) -> Option<usize> {
    let skip = name.labels().checked_sub(REVERSE_LABELS)?;
    (name.suffix(skip) == REVERSE).then_some(skip)
}

impl<'s, K: Known, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// As [`Resolver::decide`]; where a name has no AAAA records, they are made of its A records, and the name of an
    /// address below the prefix is another one for that of the IPv4 address in it.
    #[cold]
    pub fn decide_dns64(&mut self, first: bool) -> (Outcome<'s>, Kind) {
        if let Some(skip) = below_prefix(self.name)
            && next_cut(self.snapshot, self.view, self.name, (0, 0)).is_none_or(|(_, (other, _))| other > skip)
        {
            self.same_for_all = false;
            return (self.autodefined(&Autodefined::Translated, skip, first), Kind::Autodefined);
        }
        if self.qtype != rtype::AAAA {
            return self.decide(first);
        }
        let (start, count) = (self.reply.position(), self.reply.count(Section::Answer));
        let (outcome, kind) = self.decide(first);
        match outcome {
            Outcome::Done(rcode::NOERROR) | Outcome::Failed(_) => {}
            _ => return (outcome, kind),
        }
        if self.addresses::<16>(start, rtype::AAAA).any(|(address, _)| address[..12] != MAPPED)
            || self.reply.is_truncated()
        {
            return (outcome, kind);
        }
        let most = match self.reply.count(Section::Answer) - count {
            0 if self.reply.position() > start => self.ttl_at(start),
            _ => DEFAULT_TTL,
        };
        self.back_to(start, count);
        self.qtype = rtype::A;
        let (of_a, _) = self.decide(first);
        self.qtype = rtype::AAAA;
        match of_a {
            Outcome::Done(rcode::NOERROR) if !self.reply.is_truncated() => {}
            Outcome::Forward(route) => {
                // It is the A records that have to be asked for.
                self.qtype = rtype::A;
                return (Outcome::Forward(route), kind);
            }
            _ => return self.decide_again(start, count, first),
        }
        let mut made = [(Ipv4Addr::UNSPECIFIED, 0); MOST];
        let mut len = 0;
        for (place, (address, ttl)) in made.iter_mut().zip(self.addresses::<4>(start, rtype::A)) {
            *place = (address.into(), ttl.min(most));
            len += 1;
        }
        if len == 0 {
            return self.decide_again(start, count, first);
        }
        self.back_to(start, count);
        self.authentic = false;
        self.trace.note(Stage::Answer, || format!("DNS64: {len} AAAA record(s) are made of A records"));
        let owner = 0xc000 | self.name_at as u16;
        for (address, ttl) in &made[..len] {
            let data: [&[u8]; 2] = [&PREFIX, &address.octets()];
            if self.reply.record(Section::Answer, owner, rtype::AAAA, *ttl, &data).is_err() {
                self.reply.truncate();
                break;
            }
        }
        (Outcome::Done(rcode::NOERROR), kind)
    }

    /// Nothing can be made: what was decided first holds.
    fn decide_again(&mut self, start: usize, count: u16, first: bool) -> (Outcome<'s>, Kind) {
        self.back_to(start, count);
        self.decide(first)
    }

    fn back_to(&mut self, start: usize, count: u16) {
        self.reply.rewind(start, Section::Additional, 0);
        self.reply.rewind(start, Section::Authority, 0);
        self.reply.rewind(start, Section::Answer, count);
    }

    /// The addresses in the records of a type that were written from `start` on, with their TTLs.
    fn addresses<const N: usize>(&self, start: usize, rtype: u16) -> impl Iterator<Item = ([u8; N], u32)> {
        let written = self.reply.written();
        let mut at = start;
        std::iter::from_fn(move || {
            let fixed = skip_name(written, at)?;
            let number = |at: usize| Some(u16::from_be_bytes([*written.get(at)?, *written.get(at + 1)?]));
            let length = usize::from(number(fixed + 8)?);
            let data = written.get(fixed + 10..fixed + 10 + length)?;
            at = fixed + 10 + length;
            let ttl = u32::from(number(fixed + 4)?) << 16 | u32::from(number(fixed + 6)?);
            Some((number(fixed)? == rtype).then(|| Some((data.try_into().ok()?, ttl))).flatten())
        })
        .flatten()
    }

    /// The TTL of the record at this place.
    fn ttl_at(&self, at: usize) -> u32 {
        let written = self.reply.written();
        let ttl = skip_name(written, at).and_then(|at| written.get(at + 4..at + 8));
        ttl.map_or(DEFAULT_TTL, |ttl| u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]))
    }
}
