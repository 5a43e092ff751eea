//! Writing a reply: header, question, records and OPT record, into a buffer that the caller
//! provides.
//!
//! A reply never exceeds its size limit: a record that does not fit is refused with [`Full`], and
//! room for the OPT record is reserved from the start.

use super::{
    codes::{class, edns_flag, flag, option, pointer, rcode},
    query::{Edns, HEADER, flags},
    rdata::rtype,
};
use std::ops::Range;

/// The largest reply over UDP, in octets. Messages of this size are not fragmented on the Internet
/// (DNS flag day 2020).
pub const MAX_UDP_OCTETS: usize = 1232;
/// The length of an OPT record without options, in octets.
const OPT: usize = 11;
/// The length of a cookie option in octets: code and length, the client's 8 octets, the server's 16
/// (RFC 9018).
const COOKIE_OPTION: usize = 4 + 8 + 16;

/// The length of a padded reply is a multiple of this number of octets (RFC 8467, section 4.1).
const PADDING_BLOCK: usize = 468;

/// The three sections that hold records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The records that answer the question.
    Answer,
    /// The SOA record of a negative answer, or the name servers of a referral.
    Authority,
    /// Addresses of names in the other sections, and the OPT record.
    Additional,
}

/// The error of a record that does not fit into the reply.
#[derive(Clone, Copy, Debug)]
pub struct Full;

/// An extended DNS error (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ede<'a> {
    /// The INFO-CODE, one of [`ede`](super::codes::ede).
    pub code: u16,
    /// The EXTRA-TEXT, in parts that are concatenated.
    pub text: [&'a str; 3],
}

/// The contents of the reply's OPT record.
pub struct Opt<'a> {
    /// The OPT record of the query.
    pub query: Edns<'a>,
    /// The node's identifier (NSID); empty if the client does not ask for it.
    pub nsid: &'a [u8],
    /// The client cookie and the server cookie.
    pub cookie: Option<[u8; 24]>,
    /// The idle time-out of the connection in units of 100 ms, if the client asks for it.
    pub keepalive: Option<u16>,
    /// Whether the reply is padded, so that its length does not reveal its content (RFC 7830).
    pub padded: bool,
    /// The client subnet option of the query, and the scope of the answer (RFC 7871), if the option
    /// determines the answer.
    pub client_subnet: Option<(&'a [u8], u8)>,
}

impl Opt<'_> {
    /// The length of the OPT record without extended error and padding, in octets.
    fn len(&self) -> usize {
        OPT + if self.nsid.is_empty() { 0 } else { 4 + self.nsid.len() }
            + self.cookie.map_or(0, |_| COOKIE_OPTION)
            + self.keepalive.map_or(0, |_| 6)
            + self.client_subnet.map_or(0, |(option, _)| 4 + option.len())
    }
}

/// A reply that is being written. Records are added section by section, in the order of the
/// sections.
pub struct Reply<'a> {
    buffer: &'a mut [u8],
    len: usize,
    /// The largest length with records only: room for the OPT record is reserved.
    limit: usize,
    /// The largest length of the whole reply.
    max_len: usize,
    counts: [u16; 3],
    /// The length and number of the records that [`Reply::defer`] has moved behind `limit`.
    deferred: (usize, u16),
    flags: u16,
    truncated: bool,
}

/// A state of a reply that it can return to.
#[derive(Clone, Copy)]
pub struct Mark {
    len: usize,
    limit: usize,
    counts: [u16; 3],
    deferred: (usize, u16),
}

impl<'a> Reply<'a> {
    /// Begins a reply to `packet` with this question, in at most `max_len` octets with the OPT
    /// record.
    #[inline]
    pub fn new(buffer: &'a mut [u8], packet: &[u8], question: &[u8], max_len: usize, opt: Option<&Opt>) -> Reply<'a> {
        let max_len = max_len.min(buffer.len());
        buffer[..2].copy_from_slice(&packet[..2]);
        buffer[4..HEADER].fill(0);
        let len = HEADER + question.len();
        buffer[HEADER..len].copy_from_slice(question);
        buffer[5] = (!question.is_empty()) as u8;
        let limit = max_len.saturating_sub(opt.map_or(0, Opt::len));
        let flags = flag::QR | flags(packet) & (flag::RD | flag::CD);
        Reply { buffer, len, limit, max_len, counts: [0; 3], deferred: (0, 0), flags, truncated: false }
    }

    /// Sets flags of the header.
    pub fn set(&mut self, flags: u16) {
        self.flags |= flags;
    }

    /// Clears flags of the header.
    pub fn clear(&mut self, flags: u16) {
        self.flags &= !flags;
    }

    /// The octets that are written so far.
    pub fn written(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// The offset of the next octet.
    #[inline]
    pub fn position(&self) -> usize {
        self.len
    }

    /// The number of records in a section.
    pub fn count(&self, section: Section) -> u16 {
        self.counts[section as usize]
    }

    /// Marks the reply as truncated: [`finish`](Reply::finish) sets TC, and the client retries over
    /// TCP.
    pub fn truncate(&mut self) {
        self.truncated = true;
    }

    /// Removes the mark of [`truncate`](Reply::truncate), for a reply that is written anew.
    pub fn untruncate(&mut self) {
        self.truncated = false;
    }

    /// Whether the reply is marked as truncated.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Removes everything from `position` on. `count` is the number of records that `section` had
    /// at that position.
    pub fn rewind(&mut self, position: usize, section: Section, count: u16) {
        self.len = position;
        self.counts[section as usize] = count;
    }

    /// The current state, for [`back_to`](Reply::back_to).
    pub fn mark(&self) -> Mark {
        Mark { len: self.len, limit: self.limit, counts: self.counts, deferred: self.deferred }
    }

    /// Returns to an earlier state. Records that were deferred at that state must still be
    /// deferred.
    pub fn back_to(&mut self, mark: Mark) {
        debug_assert!(self.limit <= mark.limit, "deferred records were placed in between");
        (self.len, self.limit, self.counts, self.deferred) = (mark.len, mark.limit, mark.counts, mark.deferred);
    }

    /// Defers the last `count` records, which are in the authority section from `start` on, until
    /// [`place_deferred`](Reply::place_deferred): records of the answer section can still be added
    /// in front of them. No compression pointer may point to them.
    pub fn defer(&mut self, start: usize, count: u16) {
        let length = self.len - start;
        self.limit -= length;
        self.buffer.copy_within(start..self.len, self.limit);
        self.len = start;
        self.counts[Section::Authority as usize] -= count;
        self.deferred = (self.deferred.0 + length, self.deferred.1 + count);
    }

    /// Places the deferred records behind the answer section. Records of the additional section
    /// come later.
    pub fn place_deferred(&mut self) {
        let (length, count) = std::mem::take(&mut self.deferred);
        self.buffer.copy_within(self.limit..self.limit + length, self.len);
        self.len += length;
        self.limit += length;
        self.counts[Section::Authority as usize] += count;
    }

    /// Removes a record. No compression pointer may point to it or to a later record.
    pub fn remove(&mut self, section: Section, record: Range<usize>) {
        self.buffer.copy_within(record.end..self.len, record.start);
        self.len -= record.len();
        self.counts[section as usize] -= 1;
    }

    /// Adds `count` records that are in wire format already. Returns their offset.
    ///
    /// # Errors
    ///
    /// [`Full`] if they do not fit; then nothing is added.
    #[inline]
    pub fn block(&mut self, section: Section, count: u16, records: &[u8]) -> Result<usize, Full> {
        let start = self.len;
        self.octets(records)?;
        self.counts[section as usize] += count;
        Ok(start)
    }

    /// Adds octets, for example to the data of the last record.
    ///
    /// # Errors
    ///
    /// [`Full`] if they do not fit; then nothing is added.
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

    /// Rotates adjacent records of equal size, so that the record `by` octets behind the first one
    /// becomes the first. No compression pointer may point to them.
    #[inline]
    pub fn rotate(&mut self, records: Range<usize>, by: usize) {
        self.buffer[records].rotate_left(by);
    }

    /// Overwrites two octets with a number.
    #[inline]
    pub fn patch(&mut self, at: usize, value: u16) {
        self.buffer[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Sets the owners of `count` records from `start` on to `owner`. Their owners must be
    /// compression pointers.
    #[inline]
    pub fn set_owners(&mut self, start: usize, count: u16, owner: u16) {
        let mut at = start;
        for _ in 0..count {
            self.patch(at, owner);
            at += 12 + u16::from_be_bytes([self.buffer[at + 10], self.buffer[at + 11]]) as usize;
        }
    }

    /// Adds a record of class IN. `owner` is a compression pointer, or 0 for the root; the parts of
    /// `rdata` are concatenated. Returns the offset of its data.
    ///
    /// # Errors
    ///
    /// [`Full`] if it does not fit; then nothing is added.
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

    /// Completes the reply with its RCODE, its OPT record and an extended error. Returns its length
    /// in octets. The extended error loses its text, or is omitted, if it does not fit.
    #[inline]
    pub fn finish(&mut self, code: u16, opt: Option<&Opt>, ede: Option<Ede>) -> usize {
        self.place_deferred();
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
        self.limit = self.max_len;
        let start = self.len;
        let [high, low] = (MAX_UDP_OCTETS as u16).to_be_bytes();
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
            self.len = start; // the size limit is below that of a question and an OPT record
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

    /// Pads the reply to a multiple of [`PADDING_BLOCK`], or to its size limit.
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

/// The index of the address that comes first, of `count` addresses. `draw` is a counter: over its
/// values each address comes first equally often, also for a client that sees every second value
/// because it asks for A and AAAA in turn.
#[inline]
pub fn first_of(count: usize, draw: u32) -> usize {
    // Multiples of the golden ratio are spread evenly, whatever the step between them (Fibonacci
    // hashing).
    ((u64::from(draw.wrapping_mul(0x9e37_79b9)) * count as u64) >> 32) as usize
}

/// The offset of the suffix that remains of the name at `at` without its first `skip` labels.
/// Pointers are followed. The message must be one that zonal wrote: malformed ones can panic.
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

/// Copies the name at `at` to `out`, uncompressed. Returns its length. The message must be one that
/// zonal wrote: malformed ones can panic.
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

/// Reduces a finished reply to its question and OPT record, with other flags and another RCODE.
/// Returns its length.
fn strip(reply: &mut [u8], len: usize, set: u16, code: u16) -> usize {
    let bits = flags(reply) & !flag::RCODE | set | code & flag::RCODE;
    reply[2..4].copy_from_slice(&bits.to_be_bytes());
    let records = reply[6..10] != [0; 4];
    if records {
        // Error replies have no record but OPT. Of any other reply the header alone is enough.
        reply[4..HEADER].fill(0);
        return HEADER;
    }
    len
}

/// Turns an error reply into a truncated reply without error. Returns its length.
pub fn to_truncated(reply: &mut [u8], len: usize) -> usize {
    set_extended(reply, len, rcode::NOERROR);
    strip(reply, len, flag::TC, rcode::NOERROR)
}

/// Removes all records from a finished reply except its OPT record, and sets TC. Returns its
/// length.
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

/// Turns an error reply that has a cookie into a BADCOOKIE reply. Returns its length.
pub fn to_bad_cookie(reply: &mut [u8], len: usize) -> usize {
    set_extended(reply, len, rcode::BADCOOKIE);
    strip(reply, len, 0, rcode::BADCOOKIE)
}

/// Sets the upper bits of the RCODE in the OPT record, if that is the first record.
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
