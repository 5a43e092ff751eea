//! Entries: the facts of an answer, as octets in a ring.

use crate::{
    answer::{CacheState, Transport},
    config::DnstapMessages,
};
use rtrb::Consumer;
use std::{net::IpAddr, time::Duration};

/// The facts of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    /// The set of slots of the logs that select the answer, as bits.
    pub slots: u64,
    /// The dnstap messages to make from it.
    pub kinds: DnstapMessages,
    /// The generation that answered.
    pub generation: u64,
    /// The time when the query arrived, since 1970.
    pub time: Duration,
    /// The time from the query to the answer.
    pub latency: Duration,
    /// Address and port of the client. The port is 0 if it is not known.
    pub client: (IpAddr, u16),
    /// Address and port of the server. The port is 0 if it is not known.
    pub server: (IpAddr, u16),
    /// The transport of the query.
    pub transport: Transport,
    /// The state of the cache for forwarded names.
    pub cache: Option<CacheState>,
    /// The extended RCODE.
    pub rcode: u16,
    /// JSON members about the VPC.
    pub front: &'a str,
    /// JSON members about the view.
    pub back: &'a str,
    /// The AZ of the client; empty if it is not known.
    pub az: &'a str,
    /// The subnet of the client; empty if it is not known.
    pub subnet: &'a str,
    /// The entry point of the query; empty without one.
    pub entry_point: &'a str,
    /// Whether the entry point is a Resolver endpoint.
    pub is_endpoint: bool,
    /// The sources of the answer, in the form that [`crate::answer::query_log_trace::read_answered_by`] reads.
    pub answered_by: &'a [u8],
    /// The DNS Firewall rules that matched, as [`super::firewall::read`] reads them.
    pub firewall: &'a [u8],
    /// The query; empty if no dnstap message needs it, and there is an answer.
    pub query: &'a [u8],
    /// The answer; empty without one.
    pub reply: &'a [u8],
}

/// The size of the fixed part of an entry, in octets: length, four numbers, six octets, two addresses with ports.
const FIXED: usize = 4 + 4 * 8 + 6 + 2 * 19;
/// The number of parts of variable length. Each has its length in front, in four octets.
const PARTS: usize = 9;

fn put_address(out: &mut Vec<u8>, (address, port): (IpAddr, u16)) {
    match address {
        IpAddr::V4(address) => {
            out.push(4);
            out.extend_from_slice(&u128::from(u32::from(address)).to_le_bytes());
        }
        IpAddr::V6(address) => {
            out.push(6);
            out.extend_from_slice(&u128::from(address).to_le_bytes());
        }
    }
    out.extend_from_slice(&port.to_le_bytes());
}

impl Entry<'_> {
    /// Writes the entry into `out`, and replaces the content of `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let parts: [&[u8]; PARTS] = [
            self.front.as_bytes(),
            self.back.as_bytes(),
            self.az.as_bytes(),
            self.subnet.as_bytes(),
            self.entry_point.as_bytes(),
            self.answered_by,
            self.firewall,
            self.query,
            self.reply,
        ];
        out.clear();
        let len = FIXED + parts.iter().map(|part| 4 + part.len()).sum::<usize>();
        out.extend_from_slice(&(len as u32).to_le_bytes());
        let numbers = [self.slots, self.generation, self.time.as_micros() as u64, self.latency.as_nanos() as u64];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let cache = self.cache.map_or(0, |state| 1 + state as u8);
        let [low, high] = self.rcode.to_le_bytes();
        out.extend_from_slice(&[self.kinds.bits(), self.transport as u8, cache, low, high, self.is_endpoint.into()]);
        put_address(out, self.client);
        put_address(out, self.server);
        for part in parts {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
}

/// A reader of the octets of an entry.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn octets<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (octets, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*octets)
    }

    fn number(&mut self) -> Option<u64> {
        self.octets().map(u64::from_le_bytes)
    }

    fn address(&mut self) -> Option<(IpAddr, u16)> {
        let [family] = self.octets()?;
        let number = u128::from_le_bytes(self.octets()?);
        let address =
            if family == 4 { IpAddr::from((number as u32).to_be_bytes()) } else { IpAddr::from(number.to_be_bytes()) };
        Some((address, u16::from_le_bytes(self.octets()?)))
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.octets()?);
        let (part, rest) = self.0.split_at_checked(len as usize)?;
        self.0 = rest;
        Some(part)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.part()?).ok()
    }
}

impl<'a> Entry<'a> {
    /// Reads an entry from the octets after its length. None if they are malformed.
    pub fn read(octets: &'a [u8]) -> Option<Entry<'a>> {
        const STATES: [CacheState; 4] = [CacheState::Hit, CacheState::Miss, CacheState::Stale, CacheState::Failed];
        let mut reader = Reader(octets);
        let (slots, generation) = (reader.number()?, reader.number()?);
        let (time, latency) = (Duration::from_micros(reader.number()?), Duration::from_nanos(reader.number()?));
        let [kinds, transport, cache, low, high, is_endpoint] = reader.octets()?;
        let entry = Entry {
            slots,
            kinds: DnstapMessages::from_bits(kinds),
            generation,
            time,
            latency,
            transport: Transport::LABELS.get(usize::from(transport))?.0,
            cache: usize::from(cache).checked_sub(1).and_then(|state| STATES.get(state)).copied(),
            rcode: u16::from_le_bytes([low, high]),
            is_endpoint: is_endpoint != 0,
            client: reader.address()?,
            server: reader.address()?,
            front: reader.text()?,
            back: reader.text()?,
            az: reader.text()?,
            subnet: reader.text()?,
            entry_point: reader.text()?,
            answered_by: reader.part()?,
            firewall: reader.part()?,
            query: reader.part()?,
            reply: reader.part()?,
        };
        Some(entry)
    }
}

/// The maximum octets that are read from a ring at once. The longest entry is shorter.
const MAX_READ_OCTETS: usize = 1 << 18;

/// The octets of a ring: two slices, because the ring wraps around.
struct Halves<'a>(&'a [u8], &'a [u8]);

impl<'a> Halves<'a> {
    /// The next octets, joined in `scratch` if they are in both slices. None if there are fewer.
    fn take<'s>(&mut self, len: usize, scratch: &'s mut Vec<u8>) -> Option<&'s [u8]>
    where
        'a: 's,
    {
        if let Some((whole, rest)) = self.0.split_at_checked(len) {
            self.0 = rest;
            return Some(whole);
        }
        let (end, rest) = self.1.split_at_checked(len - self.0.len())?;
        scratch.clear();
        scratch.extend_from_slice(self.0);
        scratch.extend_from_slice(end);
        *self = Halves(rest, &[]);
        Some(scratch)
    }
}

/// Reads entries from a ring. Returns their number; 0 when the ring is empty.
pub fn drain(ring: &mut Consumer<u8>, scratch: &mut Vec<u8>, mut handle: impl FnMut(&Entry)) -> usize {
    let Ok(chunk) = ring.read_chunk(ring.slots().min(MAX_READ_OCTETS)) else { return 0 };
    let (first, second) = chunk.as_slices();
    let mut halves = Halves(first, second);
    let (mut count, mut taken) = (0, 0);
    while let Some(len) = halves.take(4, scratch).and_then(|len| len.try_into().ok()).map(u32::from_le_bytes) {
        let len = len as usize;
        let Some(octets) = halves.take(len.saturating_sub(4), scratch) else { break };
        if let Some(entry) = Entry::read(octets) {
            handle(&entry);
        }
        (count, taken) = (count + 1, taken + len);
    }
    chunk.commit(taken);
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtrb::RingBuffer;

    fn entry<'a>(number: u64, text: &'a str, octets: &'a [u8]) -> Entry<'a> {
        Entry {
            slots: number,
            kinds: DnstapMessages::from_bits(5),
            generation: number + 1,
            time: Duration::from_micros(1_700_000_000_123_456),
            latency: Duration::from_nanos(789),
            client: ("10.1.0.7".parse().unwrap(), 5353),
            server: ("fd00::53".parse().unwrap(), 53),
            transport: Transport::Quic,
            cache: Some(CacheState::Stale),
            rcode: 23,
            front: text,
            back: "",
            az: text,
            subnet: "s",
            entry_point: text,
            is_endpoint: number % 2 == 1,
            answered_by: octets,
            firewall: octets,
            query: octets,
            reply: octets,
        }
    }

    proptest! {
        /// Entries leave a ring unchanged, wherever the ring wraps around.
        #[test]
        fn entries_pass_a_ring_unchanged(lengths in proptest::collection::vec(0usize..900, 1..60), size in 4000usize..9000) {
            let (mut producer, mut consumer) = RingBuffer::<u8>::new(size);
            let (mut octets, mut scratch) = (Vec::new(), Vec::new());
            let mut waiting = Vec::new();
            for (number, &len) in (0..).zip(&lengths) {
                let (text, data) = ("ü".repeat(len % 40), vec![number as u8; len]);
                entry(number, &text, &data).write(&mut octets);
                if producer.push_entire_slice(&octets).is_err() {
                    let mut seen = 0;
                    let count = drain(&mut consumer, &mut scratch, |found| {
                        let (number, text, data): &(u64, String, Vec<u8>) = &waiting[seen];
                        assert_eq!(*found, entry(*number, text, data));
                        seen += 1;
                    });
                    prop_assert_eq!((count, seen), (waiting.len(), waiting.len()));
                    waiting.clear();
                    prop_assert!(producer.push_entire_slice(&octets).is_ok());
                }
                waiting.push((number, text, data));
            }
            prop_assert_eq!(drain(&mut consumer, &mut scratch, |_| {}), waiting.len());
            prop_assert_eq!(drain(&mut consumer, &mut scratch, |_| {}), 0);
        }
    }
}
