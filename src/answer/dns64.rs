//! DNS64: AAAA records made of A records, for subnets that reach IPv4 through a NAT64 (RFC 6147); and the way back, from
//! the names of such addresses to those of the IPv4 addresses in them.

use super::{
    Kind,
    cut::next_cut,
    known::Known,
    resolve::{Outcome, Resolver},
    trace::{Stage, Trace},
};
use crate::{
    snapshot::{Snapshot, autodefined::Autodefined, networks::Found},
    wire::{
        codes::{pointer, rcode},
        query::{LookupName, skip_name},
        rdata::rtype,
        reply::{Mark, Section},
    },
};
use std::{net::Ipv4Addr, ops::Range};

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
        let (mark, start, count) = (self.reply.mark(), self.reply.position(), self.reply.count(Section::Answer));
        let (outcome, kind) = self.decide(first);
        match outcome {
            Outcome::Done(rcode::NOERROR) | Outcome::Failed(_) => {}
            _ => return (outcome, kind),
        }
        // Addresses that go with a referral are not those of the name.
        if self.reply.is_truncated() || self.reply.count(Section::Additional) > 0 {
            return (outcome, kind);
        }
        let usable = |(address, _): &([u8; 16], u32)| address[..12] != MAPPED;
        if self.addresses(start, rtype::AAAA).any(|address| usable(&address)) {
            if !self.addresses(start, rtype::AAAA).all(|address| usable(&address)) {
                self.leave_out_mapped(start);
            }
            return (outcome, kind);
        }
        let most = match self.reply.count(Section::Answer) - count {
            0 if self.reply.position() > start => self.ttl_at(start),
            _ => DEFAULT_TTL,
        };
        self.reply.back_to(mark);
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
            _ => return self.decide_again(mark, first),
        }
        let mut made = [(Ipv4Addr::UNSPECIFIED, 0); MOST];
        let mut len = 0;
        for (place, (address, ttl)) in made.iter_mut().zip(self.addresses::<4>(start, rtype::A)) {
            *place = (address.into(), ttl.min(most));
            len += 1;
        }
        if len == 0 {
            return self.decide_again(mark, first);
        }
        self.reply.back_to(mark);
        self.authentic = false;
        self.trace.note(Stage::Answer, || format!("DNS64: {len} AAAA record(s) are made of A records"));
        let owner = pointer::to(self.name_at);
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
    fn decide_again(&mut self, mark: Mark, first: bool) -> (Outcome<'s>, Kind) {
        self.reply.back_to(mark);
        self.decide(first)
    }

    /// Takes the addresses that are not to be used out of those that were written from `start` on, and the signatures that
    /// do not fit the others.
    fn leave_out_mapped(&mut self, start: usize) {
        self.authentic = false;
        let mut at = start;
        while let Some((rtype, _, data)) = record_at(self.reply.written(), at) {
            let written = self.reply.written();
            let is_out = match rtype {
                rtype::AAAA => written[data.clone()].starts_with(&MAPPED),
                rtype::RRSIG => written[data.clone()].starts_with(&rtype::AAAA.to_be_bytes()),
                _ => false,
            };
            match is_out {
                true => self.reply.remove(Section::Answer, at..data.end),
                false => at = data.end,
            }
        }
        self.trace.note(Stage::Answer, || "DNS64: AAAA record(s) of IPv4-mapped addresses are left out".into());
    }

    /// The addresses in the records of a type that were written from `start` on, with their TTLs.
    fn addresses<const N: usize>(&self, start: usize, rtype: u16) -> impl Iterator<Item = ([u8; N], u32)> {
        let written = self.reply.written();
        let mut at = start;
        std::iter::from_fn(move || {
            let (found, ttl, data) = record_at(written, at)?;
            at = data.end;
            Some((found == rtype).then(|| Some((written[data].try_into().ok()?, ttl))).flatten())
        })
        .flatten()
    }

    /// The TTL of the record at this place.
    fn ttl_at(&self, at: usize) -> u32 {
        record_at(self.reply.written(), at).map_or(DEFAULT_TTL, |(_, ttl, _)| ttl)
    }
}

/// Type and TTL of the record at a place, and where its data is; none if there is none.
fn record_at(message: &[u8], at: usize) -> Option<(u16, u32, Range<usize>)> {
    let fixed = skip_name(message, at)?;
    let &[t1, t2, _, _, ttl @ .., l1, l2] = message.get(fixed..)?.first_chunk::<10>()?;
    let data = fixed + 10..fixed + 10 + usize::from(u16::from_be_bytes([l1, l2]));
    message.get(data.clone())?;
    Some((u16::from_be_bytes([t1, t2]), u32::from_be_bytes(ttl), data))
}
