//! DNS64 (RFC 6147), for clients that reach IPv4 through a NAT64: those in some subnets, and those of some inbound endpoints.
//! AAAA records are synthesised from A records, and reverse names of synthesised addresses are CNAMEs to the reverse names of
//! the IPv4 addresses in them.

use super::{
    AnswerKind,
    context::{Context, QueryFlags},
    cut::{CutPosition, next_cut},
    known::KnownAnswers,
    resolve::{Decision, Resolver},
    trace::{Stage, Trace},
};
use crate::{
    snapshot::autodefined::Autodefined,
    wire::{
        codes::{pointer, rcode},
        dns64::{Dns64Prefix, is_reverse},
        query::{LookupName, skip_name},
        rdata::rtype,
        reply::{Mark, Section},
    },
};
use std::ops::Range;

/// The prefix of IPv4-mapped addresses, ::ffff:0:0/96: AAAA records in it do not count (RFC 6147, 5.1.4).
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
/// The TTL of synthesised records if the negative answer has no SOA record, in seconds (RFC 6147, 5.1.7).
const DEFAULT_TTL: u32 = 600;
/// The largest number of synthesised records in an answer. More A records are ignored.
const MAX_RECORDS: usize = 128;

/// The prefix of DNS64, if it applies to a query. A client with DO and CD validates for itself and gets no such records
/// (RFC 6147, 5.5).
#[inline]
pub fn prefix<'s>(context: &Context<'s>, flags: QueryFlags, name: &LookupName, qtype: u16) -> Option<&'s Dns64Prefix> {
    if qtype != rtype::AAAA && !is_reverse(name) || flags.dnssec_ok && flags.checking_disabled {
        return None;
    }
    let prefix = context.matched.dns64(&context.snapshot.networks)?;
    (qtype == rtype::AAAA || prefix.below(name).is_some()).then_some(prefix)
}

impl<'s, K: KnownAnswers, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Decides the current name like [`Resolver::decide`], and synthesises records (RFC 6147, 5.1):
    ///
    /// 1. the reverse name of a synthesised address is a CNAME to that of the IPv4 address (5.3.1);
    /// 2. usable AAAA records are the answer, without IPv4-mapped ones (5.1.4);
    /// 3. otherwise AAAA records are made from the A records, with a TTL of at most that of the negative answer (5.1.7);
    /// 4. without A records, the first answer is the answer.
    #[cold]
    pub fn decide_dns64(&mut self, prefix: &Dns64Prefix) -> (Decision<'s>, AnswerKind) {
        if let Some(skip) = prefix.below(self.name)
            && next_cut(self.context.snapshot, self.context.view, self.name, CutPosition::START)
                .is_none_or(|(_, cut)| cut.skip > skip)
        {
            self.summary.same_for_all = false;
            return (self.autodefined(&Autodefined::Translated, skip), AnswerKind::Autodefined);
        }
        if self.qtype != rtype::AAAA {
            return self.decide();
        }
        let (mark, start, count) = (self.reply.mark(), self.reply.position(), self.reply.count(Section::Answer));
        let (decision, kind) = self.decide();
        match decision {
            Decision::Answered(rcode::NOERROR) | Decision::Failed(_) => {}
            _ => return (decision, kind),
        }
        // Addresses in the additional section belong to a referral, not to the name.
        if self.reply.is_truncated() || self.reply.count(Section::Additional) > 0 {
            return (decision, kind);
        }
        let usable = |(address, _): &([u8; 16], u32)| address[..12] != MAPPED;
        if self.addresses(start, rtype::AAAA).any(|address| usable(&address)) {
            if !self.addresses(start, rtype::AAAA).all(|address| usable(&address)) {
                self.leave_out_mapped(start);
            }
            return (decision, kind);
        }
        let max_ttl = match self.reply.count(Section::Answer) - count {
            0 if self.reply.position() > start => self.ttl_at(start),
            _ => DEFAULT_TTL,
        };
        self.reply.back_to(mark);
        if self.blocks_name_for(rtype::A) {
            return (Decision::Blocked, AnswerKind::Firewall);
        }
        self.qtype = rtype::A;
        let (of_a, of_a_kind) = self.decide();
        self.qtype = rtype::AAAA;
        match of_a {
            Decision::Answered(rcode::NOERROR) if !self.reply.is_truncated() => {}
            Decision::Forward(route) => {
                // The caller asks for the A records.
                self.qtype = rtype::A;
                return (Decision::Forward(route), kind);
            }
            Decision::Blocked => return (of_a, of_a_kind),
            _ => return self.decide_again(mark),
        }
        let mut made = [([0; 16], 0); MAX_RECORDS];
        let mut len = 0;
        for (record, (address, ttl)) in made.iter_mut().zip(self.addresses::<4>(start, rtype::A)) {
            *record = (prefix.embed(address.into()), ttl.min(max_ttl));
            len += 1;
        }
        if len == 0 {
            return self.decide_again(mark);
        }
        self.reply.back_to(mark);
        self.summary.authentic = false;
        self.trace
            .note(Stage::Answer, || format!("DNS64: {len} AAAA record(s) in {prefix} are synthesised from A records"));
        let owner = pointer::to(self.name_at);
        for (address, ttl) in &made[..len] {
            if self.reply.record(Section::Answer, owner, rtype::AAAA, *ttl, &[address]).is_err() {
                self.reply.truncate();
                break;
            }
        }
        (Decision::Answered(rcode::NOERROR), kind)
    }

    /// Decides the name without synthesising records.
    fn decide_again(&mut self, mark: Mark) -> (Decision<'s>, AnswerKind) {
        self.reply.back_to(mark);
        self.decide()
    }

    /// Removes IPv4-mapped AAAA records from the records at `start` and behind it, and the signatures of the set, which are
    /// no longer right.
    fn leave_out_mapped(&mut self, start: usize) {
        self.summary.authentic = false;
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
        self.trace.note(Stage::Answer, || "DNS64: AAAA record(s) with IPv4-mapped addresses are left out".into());
    }

    /// The addresses and TTLs of the records of a type, from offset `start` on.
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

    /// The TTL of the record at an offset.
    fn ttl_at(&self, at: usize) -> u32 {
        record_at(self.reply.written(), at).map_or(DEFAULT_TTL, |(_, ttl, _)| ttl)
    }
}

/// Type and TTL of the record at an offset, and the range of its data; none if there is no record.
pub fn record_at(message: &[u8], at: usize) -> Option<(u16, u32, Range<usize>)> {
    let fixed = skip_name(message, at)?;
    let &[t1, t2, _, _, ttl @ .., l1, l2] = message.get(fixed..)?.first_chunk::<10>()?;
    let data = fixed + 10..fixed + 10 + usize::from(u16::from_be_bytes([l1, l2]));
    message.get(data.clone())?;
    Some((u16::from_be_bytes([t1, t2]), u32::from_be_bytes(ttl), data))
}
