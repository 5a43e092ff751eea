//! Writing a reply: header, question, records, OPT.

use super::{
    codes::{class, edns_flag, flag, option, pointer, rcode},
    query::{Edns, HEADER, flags},
    rdata::rtype,
};
use std::ops::Range;

/// The most that a reply over UDP is, in octets: what no path on the Internet fragments (DNS flag day 2020).
pub const MAX_UDP: usize = 1232;
/// The length of an OPT record without options, in octets.
const OPT: usize = 11;
/// The length of a server cookie option: code and length, the client's 8 octets, the server's 16 (RFC 9018).
const COOKIE_OPTION: usize = 4 + 8 + 16;

/// What padded replies are a multiple of, in octets (RFC 8467, 4.1).
const PADDING_BLOCK: usize = 468;

/// The sections behind the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// The SOA record of a negative answer, or the name servers of a referral.
    Authority,
    /// Addresses that go with the others, and OPT.
    Additional,
}

/// There is no room for it.
#[derive(Clone, Copy, Debug)]
pub struct Full;

/// An extended DNS error (RFC 8914): the code, and a few words that say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ede<'a> {
    /// The INFO-CODE.
    pub code: u16,
    /// The text, in parts that are put one behind the other.
    pub text: [&'a str; 3],
}

/// What the OPT record of the reply says.
pub struct Opt<'a> {
    /// The query's own.
    pub query: Edns<'a>,
    /// Our identifier, if it is asked for.
    pub nsid: &'a [u8],
    /// The whole cookie: the client's and the server's part.
    pub cookie: Option<[u8; 24]>,
    /// The idle timeout of the connection in units of 100 ms, if it is asked for.
    pub keepalive: Option<u16>,
    /// The reply's length is to tell nothing of what is in it (RFC 7830).
    pub padded: bool,
    /// The client's subnet as in the query, and the scope of the answer (RFC 7871), if that counts.
    pub client_subnet: Option<(&'a [u8], u8)>,
}

impl Opt<'_> {
    /// Its length without an extended error.
    fn len(&self) -> usize {
        OPT + if self.nsid.is_empty() { 0 } else { 4 + self.nsid.len() }
            + self.cookie.map_or(0, |_| COOKIE_OPTION)
            + self.keepalive.map_or(0, |_| 6)
            + self.client_subnet.map_or(0, |(option, _)| 4 + option.len())
    }
}

/// A reply that is being written. Records are added section by section, in order.
pub struct Reply<'a> {
    buffer: &'a mut [u8],
    len: usize,
    /// The most that records may fill: room for the OPT record is kept.
    limit: usize,
    /// The most that the whole may fill.
    most: usize,
    counts: [u16; 3],
    /// Octets at the limit, and records that they are, which [`Reply::hold`] has put there.
    held: (usize, u16),
    flags: u16,
    truncated: bool,
}

/// How far a reply had come.
#[derive(Clone, Copy)]
pub struct Mark {
    len: usize,
    limit: usize,
    counts: [u16; 3],
    held: (usize, u16),
}

impl<'a> Reply<'a> {
    /// Begins a reply to `packet` with this question in at most `most` octets, of which `opt` takes its part.
    #[inline]
    pub fn new(buffer: &'a mut [u8], packet: &[u8], question: &[u8], most: usize, opt: Option<&Opt>) -> Reply<'a> {
        let most = most.min(buffer.len());
        buffer[..2].copy_from_slice(&packet[..2]);
        buffer[4..HEADER].fill(0);
        let len = HEADER + question.len();
        buffer[HEADER..len].copy_from_slice(question);
        buffer[5] = (!question.is_empty()) as u8;
        let limit = most.saturating_sub(opt.map_or(0, Opt::len));
        let flags = flag::QR | flags(packet) & (flag::RD | flag::CD);
        Reply { buffer, len, limit, most, counts: [0; 3], held: (0, 0), flags, truncated: false }
    }

    /// Sets flags of the header.
    pub fn set(&mut self, flags: u16) {
        self.flags |= flags;
    }

    /// Takes flags of the header back.
    pub fn clear(&mut self, flags: u16) {
        self.flags &= !flags;
    }

    /// What is written so far.
    pub fn written(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Where the next octet goes.
    #[inline]
    pub fn position(&self) -> usize {
        self.len
    }

    /// How many records a section has.
    pub fn count(&self, section: Section) -> u16 {
        self.counts[section as usize]
    }

    /// The answer does not fit: TC is set, and the client comes again by TCP.
    pub fn truncate(&mut self) {
        self.truncated = true;
    }

    /// Whether something was left out that the client needs.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Takes away what was written from `position` on, where `section` had `count` records.
    pub fn rewind(&mut self, position: usize, section: Section, count: u16) {
        self.len = position;
        self.counts[section as usize] = count;
    }

    /// How far it has come, to come back to.
    pub fn mark(&self) -> Mark {
        Mark { len: self.len, limit: self.limit, counts: self.counts, held: self.held }
    }

    /// Takes away what was written since. What is held cannot come back when it has been released.
    pub fn back_to(&mut self, mark: Mark) {
        debug_assert!(self.limit <= mark.limit, "what was held is still held");
        (self.len, self.limit, self.counts, self.held) = (mark.len, mark.limit, mark.counts, mark.held);
    }

    /// Keeps the last records, `count` of the authority section from `start` on, for behind those of the answer section
    /// that are still to come. Nothing may point to them.
    pub fn hold(&mut self, start: usize, count: u16) {
        let length = self.len - start;
        self.limit -= length;
        self.buffer.copy_within(start..self.len, self.limit);
        self.len = start;
        self.counts[Section::Authority as usize] -= count;
        self.held = (self.held.0 + length, self.held.1 + count);
    }

    /// Puts what is held where it belongs: behind the answer section, and in front of the additional one.
    pub fn release(&mut self) {
        let (length, count) = std::mem::take(&mut self.held);
        self.buffer.copy_within(self.limit..self.limit + length, self.len);
        self.len += length;
        self.limit += length;
        self.counts[Section::Authority as usize] += count;
    }

    /// Takes a record out that nothing points to.
    pub fn remove(&mut self, section: Section, record: Range<usize>) {
        self.buffer.copy_within(record.end..self.len, record.start);
        self.len -= record.len();
        self.counts[section as usize] -= 1;
    }

    /// Adds records that are in wire format already, `count` of them. Returns where they begin.
    #[inline]
    pub fn block(&mut self, section: Section, count: u16, records: &[u8]) -> Result<usize, Full> {
        let start = self.len;
        self.octets(records)?;
        self.counts[section as usize] += count;
        Ok(start)
    }

    /// Adds octets.
    #[inline]
    pub fn octets(&mut self, octets: &[u8]) -> Result<(), Full> {
        let end = self.len + octets.len();
        if end > self.limit {
            return Err(Full);
        }
        self.buffer[self.len..end].copy_from_slice(octets);
        self.len = end;
        Ok(())
    }

    /// Has records of equal size, which lie one behind the other, begin with another one: that which begins `by` octets behind
    /// the first one. Nothing may point to them.
    #[inline]
    pub fn turn(&mut self, records: Range<usize>, by: usize) {
        self.buffer[records].rotate_left(by);
    }

    /// Overwrites two octets.
    #[inline]
    pub fn patch(&mut self, at: usize, value: u16) {
        self.buffer[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// The owner pointers of the `count` records from `start` on are made to point to `owner`.
    #[inline]
    pub fn own(&mut self, start: usize, count: u16, owner: u16) {
        let mut at = start;
        for _ in 0..count {
            self.patch(at, owner);
            at += 12 + u16::from_be_bytes([self.buffer[at + 10], self.buffer[at + 11]]) as usize;
        }
    }

    /// Adds a record whose owner is a pointer (or the root, where `owner` is 0), with the octets of `rdata` one behind
    /// the other. Returns where its data begins.
    pub fn record(
        &mut self,
        section: Section,
        owner: u16,
        rtype: u16,
        ttl: u32,
        rdata: &[&[u8]],
    ) -> Result<usize, Full> {
        let (start, length) = (self.len, rdata.iter().map(|part| part.len()).sum::<usize>());
        let mut fixed = [0; 12];
        fixed[..2].copy_from_slice(&owner.to_be_bytes());
        fixed[2..4].copy_from_slice(&rtype.to_be_bytes());
        fixed[4..6].copy_from_slice(&class::IN.to_be_bytes());
        fixed[6..10].copy_from_slice(&ttl.to_be_bytes());
        fixed[10..].copy_from_slice(&(length as u16).to_be_bytes());
        let head = if owner == 0 { &fixed[1..] } else { &fixed[..] };
        if start + head.len() + length > self.limit {
            return Err(Full);
        }
        self.octets(head)?;
        let data = self.len;
        for part in rdata {
            self.octets(part)?;
        }
        self.counts[section as usize] += 1;
        Ok(data)
    }

    /// Completes the reply. Returns its length.
    #[inline]
    pub fn finish(mut self, code: u16, opt: Option<&Opt>, ede: Option<Ede>) -> usize {
        self.release();
        if self.truncated {
            self.flags |= flag::TC;
        }
        if let Some(opt) = opt {
            self.write_opt(code, opt, ede);
        }
        let bits = self.flags | code & flag::RCODE;
        self.buffer[2..4].copy_from_slice(&bits.to_be_bytes());
        for (section, count) in self.counts.into_iter().enumerate() {
            self.patch(6 + 2 * section, count);
        }
        self.len
    }

    fn write_opt(&mut self, code: u16, opt: &Opt, ede: Option<Ede>) {
        self.limit = self.most;
        let start = self.len;
        let [high, low] = (MAX_UDP as u16).to_be_bytes();
        let [t1, t2] = rtype::OPT.to_be_bytes();
        let [f1, f2] = if opt.query.dnssec_ok { edns_flag::DO } else { 0 }.to_be_bytes();
        let mut written = self.octets(&[0, t1, t2, high, low, (code >> 4) as u8, 0, f1, f2, 0, 0]);
        if !opt.nsid.is_empty() {
            written = written.and_then(|()| self.write_option(option::NSID, &[opt.nsid]));
        }
        if let Some(cookie) = &opt.cookie {
            written = written.and_then(|()| self.write_option(option::COOKIE, &[cookie]));
        }
        if let Some(timeout) = opt.keepalive {
            written = written.and_then(|()| self.write_option(option::TCP_KEEPALIVE, &[&timeout.to_be_bytes()]));
        }
        if let Some(([f1, f2, source, _, address @ ..], scope)) = opt.client_subnet {
            let fixed = [*f1, *f2, *source, scope];
            written = written.and_then(|()| self.write_option(option::CLIENT_SUBNET, &[&fixed, address]));
        }
        if written.is_err() {
            self.len = start; // only where the transport takes less than a question and an OPT record
            return;
        }
        if let Some(ede) = ede {
            let (code, text) = (ede.code.to_be_bytes(), ede.text);
            let _ = self
                .write_option(option::EDE, &[&code, text[0].as_bytes(), text[1].as_bytes(), text[2].as_bytes()])
                .or_else(|Full| self.write_option(option::EDE, &[&code]));
        }
        if opt.padded {
            self.write_padding();
        }
        let length = (self.len - start - OPT) as u16;
        self.patch(start + OPT - 2, length);
        self.counts[Section::Additional as usize] += 1;
    }

    /// Fills the reply up to a whole number of blocks, or as far as there is room.
    fn write_padding(&mut self) {
        let data = self.len + 4;
        let end = data.next_multiple_of(PADDING_BLOCK).min(self.limit);
        if data <= end {
            self.patch(self.len, option::PADDING);
            self.patch(self.len + 2, (end - data) as u16);
            self.buffer[data..end].fill(0);
            self.len = end;
        }
    }

    fn write_option(&mut self, code: u16, data: &[&[u8]]) -> Result<(), Full> {
        let length: usize = data.iter().map(|part| part.len()).sum();
        if self.len + 4 + length > self.limit {
            return Err(Full);
        }
        self.octets(&code.to_be_bytes())?;
        self.octets(&(length as u16).to_be_bytes())?;
        data.iter().try_for_each(|part| self.octets(part))
    }
}

/// Which of `count` addresses comes first at a draw: each as often as the others, in whatever steps the draws of a client are
/// apart. A client that asks for A and AAAA in turn sees every other draw.
#[inline]
pub fn first_of(count: usize, draw: u32) -> usize {
    // Multiples of the golden ratio are spread evenly, and so are those of each step.
    ((u64::from(draw.wrapping_mul(0x9e37_79b9)) * count as u64) >> 32) as usize
}

/// Where the name at `at` in a message begins when `skip` labels are taken away, pointers followed. The message is one
/// that we wrote.
pub fn suffix_at(message: &[u8], mut at: usize, mut skip: usize) -> usize {
    loop {
        match message[at] {
            first if pointer::begins_with(first) => at = pointer::offset(first, message[at + 1]),
            _ if skip == 0 => return at,
            len => {
                at += 1 + len as usize;
                skip -= 1;
            }
        }
    }
}

/// Copies the name at `at` in a message that we wrote, without compression. Returns its length.
pub fn expand_name(message: &[u8], mut at: usize, out: &mut [u8; 256]) -> usize {
    let mut len = 0;
    loop {
        match message[at] {
            first if pointer::begins_with(first) => at = pointer::offset(first, message[at + 1]),
            label => {
                let label = label as usize;
                out[len..=len + label].copy_from_slice(&message[at..=at + label]);
                len += label + 1;
                at += label + 1;
                if label == 0 {
                    return len;
                }
            }
        }
    }
}

/// Makes of a finished reply one that says nothing but what `flags` and `code` say, its question and OPT record kept.
fn strip(reply: &mut [u8], len: usize, set: u16, code: u16) -> usize {
    let bits = flags(reply) & !flag::RCODE | set | code & flag::RCODE;
    reply[2..4].copy_from_slice(&bits.to_be_bytes());
    let records = reply[6..10] != [0; 4];
    if records {
        // error replies have no records but OPT; for any other, the header alone will do
        reply[4..HEADER].fill(0);
        return HEADER;
    }
    len
}

/// Makes of an error reply a truncated one without error. Returns its length.
pub fn to_truncated(reply: &mut [u8], len: usize) -> usize {
    set_extended(reply, len, rcode::NOERROR);
    strip(reply, len, flag::TC, rcode::NOERROR)
}

/// Takes all records out of a finished reply but its OPT record, and sets TC. Returns its length.
pub fn to_empty_truncated(reply: &mut [u8], len: usize) -> usize {
    let count = |at: usize| usize::from(u16::from_be_bytes([reply[at], reply[at + 1]]));
    let (questions, records) = (count(4), count(6) + count(8) + count(10));
    let end_of_name = |mut at: usize| loop {
        match reply.get(at).copied() {
            None => return at,
            Some(0) => return at + 1,
            Some(pointer::MIN_FIRST_OCTET..) => return at + 2,
            Some(label) => at += 1 + usize::from(label),
        }
    };
    let question_end = (0..questions).fold(HEADER, |at, _| end_of_name(at) + 4);
    let (mut at, mut opt) = (question_end, None);
    for _ in 0..records {
        let fields = end_of_name(at);
        let Some(octets) = reply.get(fields..fields + 10).filter(|_| fields + 10 <= len) else { break };
        let end = fields + 10 + usize::from(u16::from_be_bytes([octets[8], octets[9]]));
        if octets[..2] == rtype::OPT.to_be_bytes() && end <= len {
            opt = Some(at..end);
        }
        at = end;
    }
    let bits = flags(reply) | flag::TC;
    reply[2..4].copy_from_slice(&bits.to_be_bytes());
    reply[6..HEADER].fill(0);
    let Some(opt) = opt else { return question_end.min(len) };
    reply[HEADER - 1] = 1;
    let opt_len = opt.len();
    reply.copy_within(opt, question_end);
    question_end + opt_len
}

/// Makes of an error reply with a cookie in it a BADCOOKIE one. Returns its length.
pub fn to_bad_cookie(reply: &mut [u8], len: usize) -> usize {
    set_extended(reply, len, rcode::BADCOOKIE);
    strip(reply, len, 0, rcode::BADCOOKIE)
}

/// Sets the upper bits of the response code in the OPT record, if there is one right behind the question.
fn set_extended(reply: &mut [u8], len: usize, code: u16) {
    let mut at = HEADER;
    if reply[5] == 1 {
        while reply[at] != 0 {
            at += 1 + reply[at] as usize;
        }
        at += 5;
    }
    if at + OPT <= len && reply[at] == 0 && reply[at + 1..at + 3] == rtype::OPT.to_be_bytes() {
        reply[at + 5] = (code >> 4) as u8;
    }
}
