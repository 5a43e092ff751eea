//! The names that DNS Firewall blocked, most frequent first: a bounded sketch, from which an allow list can be made.
//!
//! ```text
//! worker -> BlockedSender -> ring -> BlockedNames::drain, every second -> Sketch
//! ```
//!
//! No query waits: when a ring is full, the name is not counted. The sketch keeps the most frequent names (Space-Saving,
//! Metwally and others, 2005): a new name takes the place of the rarest one, and its count may be too high by the count of that
//! name.

use super::workers::lock;
use crate::{clock, snapshot::Snapshot, wire::name::MAX_NAME};
use rtrb::{Consumer, Producer, RingBuffer};
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::runtime::Handle;

/// The largest number of names of all views.
const MAX_NAMES: usize = 4096;
/// The size of a worker's ring, in octets.
const RING_OCTETS: usize = 1 << 16;
/// The time between two readings of the rings.
const INTERVAL: Duration = Duration::from_secs(1);
/// The size of a name in a ring without the name itself, in octets: length, view, rule, family and address.
const FIXED: usize = 1 + 4 + 4 + 1 + 16;

/// A blocked name of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedName {
    /// The name of the query, in lower case and wire format.
    pub name: Box<[u8]>,
    /// The slot of the view.
    pub view: u32,
    /// The number of blocked queries since the start. It may be too high by `error`.
    pub count: u64,
    /// The largest error of `count`.
    pub error: u64,
    /// The slot of the rule that blocked the last query.
    pub rule: u32,
    /// The address that the last query came from.
    pub last_client: IpAddr,
    /// The time of the last query, in seconds since 1970. Accurate to about a second.
    pub last_seen: i64,
}

/// The most frequent names.
#[derive(Default)]
struct Sketch {
    all: Vec<BlockedName>,
    /// The index of each name of a view.
    index: HashMap<(u32, Box<[u8]>), usize>,
    /// The indexes by count.
    order: BTreeSet<(u64, usize)>,
}

impl Sketch {
    fn add(&mut self, view: u32, rule: u32, client: IpAddr, name: &[u8], now: i64) {
        let key = (view, Box::from(name));
        if let Some(&at) = self.index.get(&key) {
            let known = &mut self.all[at];
            self.order.remove(&(known.count, at));
            known.count += 1;
            (known.rule, known.last_client, known.last_seen) = (rule, client, now);
            self.order.insert((known.count, at));
            return;
        }
        let mut new =
            BlockedName { name: name.into(), view, count: 1, error: 0, rule, last_client: client, last_seen: now };
        let at = match self.order.first().copied() {
            Some((count, at)) if self.all.len() >= MAX_NAMES => {
                self.order.remove(&(count, at));
                let rarest = &self.all[at];
                self.index.remove(&(rarest.view, rarest.name.clone()));
                (new.count, new.error) = (count + 1, count);
                self.all[at] = new;
                at
            }
            _ => {
                self.all.push(new);
                self.all.len() - 1
            }
        };
        self.order.insert((self.all[at].count, at));
        self.index.insert(key, at);
    }
}

/// The blocked names of a server.
#[derive(Default)]
pub struct BlockedNames {
    rings: Mutex<Vec<Consumer<u8>>>,
    sketch: Mutex<Sketch>,
}

impl BlockedNames {
    /// No names yet. A task of `runtime` reads the rings until the value is dropped.
    pub fn start(runtime: &Handle) -> Arc<BlockedNames> {
        let names = Arc::new(BlockedNames::default());
        let weak: Weak<BlockedNames> = Arc::downgrade(&names);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                match weak.upgrade() {
                    Some(names) => names.drain(),
                    None => return,
                }
            }
        });
        names
    }

    /// A sender for one thread or transport.
    pub fn sender(self: &Arc<Self>) -> BlockedSender {
        BlockedSender { names: self.clone(), ring: None }
    }

    /// Reads all rings.
    fn drain(&self) {
        let mut rings = lock(&self.rings);
        if rings.is_empty() {
            return;
        }
        let (mut sketch, now) = (lock(&self.sketch), clock::now());
        for ring in rings.iter_mut() {
            while let Some(()) = read_one(ring, &mut sketch, now) {}
        }
        rings.retain(|ring| !ring.is_abandoned() || ring.slots() > 0);
    }

    /// The names, the most frequent one first.
    pub fn report(&self) -> Vec<BlockedName> {
        self.drain();
        let sketch = lock(&self.sketch);
        sketch.order.iter().rev().map(|(_, at)| sketch.all[*at].clone()).collect()
    }
}

/// Reads the next name of a ring. None if there is none.
fn read_one(ring: &mut Consumer<u8>, sketch: &mut Sketch, now: i64) -> Option<()> {
    let mut fixed = [0; FIXED];
    take(ring, &mut fixed)?;
    let [len, v1, v2, v3, v4, r1, r2, r3, r4, family, address @ ..] = fixed;
    let mut name = [0; MAX_NAME];
    let name = name.get_mut(..usize::from(len))?;
    take(ring, name)?;
    let number = u128::from_le_bytes(address);
    let client = match family {
        4 => IpAddr::from((number as u32).to_be_bytes()),
        _ => IpAddr::from(number.to_be_bytes()),
    };
    sketch.add(u32::from_le_bytes([v1, v2, v3, v4]), u32::from_le_bytes([r1, r2, r3, r4]), client, name, now);
    Some(())
}

/// Takes octets from a ring. None if it has fewer.
fn take(ring: &mut Consumer<u8>, out: &mut [u8]) -> Option<()> {
    let chunk = ring.read_chunk(out.len()).ok()?;
    let (first, second) = chunk.as_slices();
    let (head, tail) = out.split_at_mut(first.len());
    head.copy_from_slice(first);
    tail.copy_from_slice(second);
    chunk.commit_all();
    Some(())
}

/// Sends the blocked names of one thread or transport. It does not wait or lock, and allocates only in
/// [`prepare`](BlockedSender::prepare).
pub struct BlockedSender {
    names: Arc<BlockedNames>,
    ring: Option<Producer<u8>>,
}

impl BlockedSender {
    /// Prepares for a snapshot. Call this for each snapshot, not for each query.
    pub fn prepare(&mut self, snapshot: &Snapshot) {
        if self.ring.is_none() && !snapshot.firewall.is_empty() {
            let (producer, consumer) = RingBuffer::new(RING_OCTETS);
            lock(&self.names.rings).push(consumer);
            self.ring = Some(producer);
        }
    }

    /// Sends a name in wire format, with the slots of its view and of the rule that blocked it.
    #[inline(never)]
    pub fn send(&mut self, view: u32, rule: u32, client: IpAddr, name: &[u8]) {
        // Without room, the name is not counted.
        let Some(ring) = self.ring.as_mut().filter(|ring| ring.slots() >= FIXED + name.len()) else { return };
        let mut octets = [0; FIXED + MAX_NAME];
        let Some(room) = octets.get_mut(FIXED..FIXED + name.len()) else { return };
        room.copy_from_slice(name);
        room.make_ascii_lowercase();
        let (family, number) = match client {
            IpAddr::V4(client) => (4, u128::from(u32::from(client))),
            IpAddr::V6(client) => (6, u128::from(client)),
        };
        octets[0] = name.len() as u8;
        octets[1..5].copy_from_slice(&view.to_le_bytes());
        octets[5..9].copy_from_slice(&rule.to_le_bytes());
        octets[9] = family;
        octets[10..FIXED].copy_from_slice(&number.to_le_bytes());
        let _ = ring.push_entire_slice(&octets[..FIXED + name.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Vec<u8> {
        let label = format!("n{number}");
        [&[label.len() as u8], label.as_bytes(), b"\0"].concat()
    }

    #[test]
    fn keeps_the_most_frequent_names_and_says_how_wrong_their_counts_may_be() {
        let mut sketch = Sketch::default();
        let client = IpAddr::from([10, 0, 0, 1]);
        for number in 0..MAX_NAMES {
            sketch.add(0, 0, client, &name(number), 0);
        }
        for round in 0..50 {
            sketch.add(0, 7, IpAddr::from([10, 0, 0, 9]), &name(3), 100 + round);
        }
        for number in MAX_NAMES..2 * MAX_NAMES - 1 {
            sketch.add(0, 0, client, &name(number), 0);
        }
        assert_eq!((sketch.all.len(), sketch.index.len(), sketch.order.len()), (MAX_NAMES, MAX_NAMES, MAX_NAMES));
        let (count, at) = *sketch.order.last().unwrap();
        let first = &sketch.all[at];
        assert_eq!((&*first.name, count, first.error, first.rule), (&*name(3), 51, 0, 7));
        assert_eq!((first.last_client, first.last_seen), (IpAddr::from([10, 0, 0, 9]), 149));
        // All others were replaced: each count is too high by at most its error.
        assert!(sketch.all.iter().filter(|other| other.error == 1 && other.count == 2).count() >= MAX_NAMES - 2);
        // One name in two views is two names.
        sketch.add(1, 0, client, &name(3), 0);
        assert_eq!(sketch.all.iter().filter(|other| *other.name == *name(3)).count(), 2);
    }

    #[test]
    fn names_pass_a_ring_in_any_position_and_a_full_ring_loses_them() {
        let names = Arc::new(BlockedNames::default());
        let (producer, consumer) = RingBuffer::new(300);
        lock(&names.rings).push(consumer);
        let mut sender = BlockedSender { names: names.clone(), ring: Some(producer) };
        for round in 0..100 {
            for view in 0..5 {
                sender.send(view, round, "fd00::7".parse().unwrap(), b"\x03Bad\x07example\0");
            }
            assert_eq!(names.report().len(), 5);
        }
        let report = names.report();
        assert!(report.iter().all(|blocked| blocked.count == 100 && blocked.rule == 99 && blocked.error == 0));
        assert_eq!(*report[0].name, *b"\x03bad\x07example\0");
        assert_eq!(report[0].last_client, "fd00::7".parse::<IpAddr>().unwrap());
        (0..100).for_each(|_| sender.send(9, 0, [10, 0, 0, 1].into(), b"\x01x\0"));
        let lost = names.report().into_iter().find(|blocked| blocked.view == 9).unwrap();
        assert!((5..100).contains(&lost.count), "{lost:?}");
        drop(sender);
        names.drain();
        assert!(lock(&names.rings).is_empty());
    }
}
