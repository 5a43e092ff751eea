//! The counters of those who answer: each worker has its own, and a scrape sums them up.

use super::udp;
use crate::{
    answer::{AnswerKind, Answered, Locality, Transport},
    instruments::{Family, desc},
    snapshot::Snapshot,
    snapshot::published::Published,
    wire::codes::rcode::{self, MNEMONICS},
};
use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};
use socket2::Socket;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

const KINDS: [(AnswerKind, &str); 7] = [
    (AnswerKind::Zone, "zone"),
    (AnswerKind::Endpoint, "endpoint"),
    (AnswerKind::Autodefined, "autodefined"),
    (AnswerKind::Whoami, "whoami"),
    (AnswerKind::Forward, "forward"),
    (AnswerKind::Refused, "refused"),
    (AnswerKind::Malformed, "malformed"),
];

const LOCALITIES: [(Locality, &str); 3] =
    [(Locality::SameAz, "same"), (Locality::NoAz, "unknown"), (Locality::CrossAz, "other")];

/// How many RCODEs are told apart: those that we send, and all others together.
const RCODES: usize = MNEMONICS.len() + 1;
/// The counters of one view: by what answered and RCODE, and then by where the addresses are.
const PER_VIEW: usize = BY_KIND + LOCALITIES.len();
const BY_KIND: usize = KINDS.len() * RCODES;
/// How many rows of counters are made at once.
const ROWS_PER_CHUNK: usize = 64;

type Chunk = Arc<[AtomicU64]>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of so many RCODEs it is.
fn place_of(rcode: u16) -> usize {
    MNEMONICS.iter().position(|(other, _)| *other == rcode).unwrap_or(MNEMONICS.len())
}

/// Which counter of a view an answer is counted in.
fn index_of(kind: AnswerKind, rcode: u16) -> usize {
    KINDS.iter().position(|(other, _)| *other == kind).unwrap_or_default() * RCODES + place_of(rcode)
}

/// Why a message had no answer.
#[derive(Clone, Copy, Debug)]
pub enum Dropped {
    /// There is nothing to say to it.
    Silent,
    /// The kernel did not take the answer.
    Unsent,
    /// The kernel failed to deliver.
    Receive,
    /// It came later than a client waits for it.
    Late,
}

/// What became of an error answer beyond the limit.
#[derive(Clone, Copy, Debug)]
pub enum Limited {
    /// A truncated answer was sent.
    Truncated,
    /// Nothing was sent.
    Dropped,
    /// A BADCOOKIE was sent.
    BadCookie,
}

const DROPPED: [&str; 4] = ["silent", "unsent", "receive", "late"];
const LIMITED: [&str; 3] = ["truncated", "dropped", "bad_cookie"];

/// Rows of counters, as many as there are views or entry points.
#[derive(Clone, Default)]
struct Rows(Vec<Chunk>);

impl Rows {
    /// Makes room for so many rows of so many counters. What is added is added to `shared` too.
    fn grow(&mut self, shared: &Mutex<Rows>, rows: usize, width: usize) {
        while self.0.len() * ROWS_PER_CHUNK < rows {
            let chunk: Chunk = (0..ROWS_PER_CHUNK * width).map(|_| AtomicU64::new(0)).collect();
            lock(shared).0.push(chunk.clone());
            self.0.push(chunk);
        }
    }

    fn row(&self, row: usize, width: usize) -> Option<&[AtomicU64]> {
        self.0.get(row / ROWS_PER_CHUNK)?.get(row % ROWS_PER_CHUNK * width..)?.get(..width)
    }

    fn add_to(&self, totals: &mut Vec<u64>) {
        let mut start = 0;
        for chunk in &self.0 {
            if totals.len() < start + chunk.len() {
                totals.resize(start + chunk.len(), 0);
            }
            for (total, counter) in totals[start..].iter_mut().zip(chunk.iter()) {
                *total += counter.load(Relaxed);
            }
            start += chunk.len();
        }
    }
}

/// One worker's counters, as scrapes see them.
struct Block {
    transport: Transport,
    /// By view; the first row is for clients without a view.
    views: Mutex<Rows>,
    /// By address of an inbound endpoint.
    entry_points: Mutex<Rows>,
    dropped: [AtomicU64; DROPPED.len()],
    limited: [AtomicU64; LIMITED.len()],
    large: AtomicU64,
    thread: Option<Thread>,
}

/// What is counted of a thread that takes packets.
struct Thread {
    /// The address that it listens on.
    listener: String,
    /// Which of those it is that listen there.
    number: String,
    socket: Weak<Socket>,
    batches: AtomicU64,
    packets: AtomicU64,
}

/// One worker's counters. It is their only writer, so that counting is a plain load and store.
pub struct Writer {
    block: Arc<Block>,
    /// The same that the block has, at hand without its locks.
    views: Rows,
    entry_points: Rows,
}

impl Writer {
    /// Makes room for the views and entry points of a snapshot. To be called when it is taken up, not for each query.
    pub fn make_room(&mut self, snapshot: &Snapshot) {
        self.grow(snapshot.view_labels().len(), snapshot.networks.entry_point_labels.len());
    }

    fn grow(&mut self, views: usize, entry_points: usize) {
        self.views.grow(&self.block.views, views + 1, PER_VIEW);
        self.entry_points.grow(&self.block.entry_points, entry_points, RCODES);
    }

    /// Counts an answer. One of a view that there is no room for is counted as without a view.
    pub fn answered(&mut self, answered: &Answered) {
        let row = answered.view.map_or(0, |view| view as usize + 1);
        if let Some(row) = self.views.row(row, PER_VIEW).or_else(|| self.views.row(0, PER_VIEW)) {
            increase(&row[index_of(answered.kind, answered.rcode)]);
            if let Some(locality) = answered.locality {
                increase(&row[BY_KIND + locality as usize]);
            }
        }
        if let Some(row) =
            answered.entry_point.and_then(|entry_point| self.entry_points.row(entry_point as usize, RCODES))
        {
            increase(&row[place_of(answered.rcode)]);
        }
    }

    /// Counts a message without an answer.
    pub fn dropped(&mut self, reason: Dropped) {
        increase(&self.block.dropped[reason as usize]);
    }

    /// Counts an error answer beyond the limit.
    pub fn limited(&mut self, action: Limited) {
        increase(&self.block.limited[action as usize]);
    }

    /// Counts a large answer beyond the limit, which is truncated.
    pub fn large_truncated(&mut self) {
        increase(&self.block.large);
    }

    /// Counts packets that were taken with one system call.
    pub fn received(&mut self, packets: usize) {
        if let Some(thread) = &self.block.thread {
            increase(&thread.batches);
            add(&thread.packets, packets as u64);
        }
    }
}

fn increase(counter: &AtomicU64) {
    add(counter, 1);
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

/// Sums up the counters of all workers.
#[derive(Clone)]
pub struct Workers {
    /// Collectors are told apart by this.
    desc: Desc,
    blocks: Arc<Mutex<Vec<Arc<Block>>>>,
    /// What the workers that have ended counted, by transport.
    retired: Arc<Mutex<[Totals; Transport::LABELS.len()]>>,
    snapshot: Published,
}

/// The sums of one transport's workers.
#[derive(Clone, Default)]
struct Totals {
    views: Vec<u64>,
    entry_points: Vec<u64>,
    dropped: [u64; DROPPED.len()],
    limited: [u64; LIMITED.len()],
    large: u64,
}

impl Totals {
    fn add(&mut self, block: &Block) {
        // A worker that takes up a larger snapshot is not to wait for the sums.
        let (views, entry_points) = (lock(&block.views).clone(), lock(&block.entry_points).clone());
        views.add_to(&mut self.views);
        entry_points.add_to(&mut self.entry_points);
        for (total, counter) in self.dropped.iter_mut().zip(&block.dropped) {
            *total += counter.load(Relaxed);
        }
        for (total, counter) in self.limited.iter_mut().zip(&block.limited) {
            *total += counter.load(Relaxed);
        }
        self.large += block.large.load(Relaxed);
    }
}

impl Workers {
    /// None has counted yet. Labels are those of what is served.
    pub fn new(snapshot: Published) -> Workers {
        Workers { desc: desc("zonal_answers_total"), blocks: Arc::default(), retired: Arc::default(), snapshot }
    }

    /// Counters for one more worker. With `thread`, it takes packets from a socket: at which address, the how manieth there.
    pub fn writer(&self, transport: Transport, thread: Option<(SocketAddr, usize, &Arc<Socket>)>) -> Writer {
        self.fold();
        let thread = thread.map(|(listener, number, socket)| Thread {
            listener: listener.to_string(),
            number: number.to_string(),
            socket: Arc::downgrade(socket),
            batches: AtomicU64::new(0),
            packets: AtomicU64::new(0),
        });
        let block = Arc::new(Block {
            transport,
            views: Mutex::default(),
            entry_points: Mutex::default(),
            dropped: Default::default(),
            limited: Default::default(),
            large: AtomicU64::new(0),
            thread,
        });
        lock(&self.blocks).push(block.clone());
        let mut writer = Writer { block, views: Rows::default(), entry_points: Rows::default() };
        writer.grow(0, 0);
        writer
    }

    /// Folds the blocks whose worker has ended into what is kept of them.
    fn fold(&self) {
        let mut retired = lock(&self.retired);
        lock(&self.blocks).retain(|block| {
            let ended = Arc::strong_count(block) == 1;
            if ended {
                retired[block.transport as usize].add(block);
            }
            !ended
        });
    }

    /// The totals of each transport.
    fn totals(&self) -> [Totals; Transport::LABELS.len()] {
        self.fold();
        // What is folded in the meantime is in one of them, and not in both.
        let retired = lock(&self.retired);
        let blocks = lock(&self.blocks).clone();
        let mut totals = retired.clone();
        drop(retired);
        for block in &blocks {
            totals[block.transport as usize].add(block);
        }
        totals
    }

    fn threads(&self) -> [MetricFamily; 3] {
        let mut batches = Family::counter(
            "zonal_udp_batches_total",
            "System calls by which a thread took packets. Fewer packets in each than 32: it keeps up",
        );
        let mut packets = Family::counter("zonal_udp_packets_total", "Packets that a thread took by UDP");
        let mut overflows = Family::counter(
            "zonal_udp_overflows_total",
            "Packets that the kernel threw away, as the thread did not take them in time",
        );
        let blocks = lock(&self.blocks).clone();
        for thread in blocks.iter().filter_map(|block| block.thread.as_ref()) {
            let labels = [("listener", &*thread.listener), ("worker", &*thread.number)];
            batches.set(&labels, thread.batches.load(Relaxed) as f64);
            packets.set(&labels, thread.packets.load(Relaxed) as f64);
            if let Some(lost) = thread.socket.upgrade().and_then(|socket| udp::overflows(&socket)) {
                overflows.set(&labels, lost.into());
            }
        }
        [batches.done(), packets.done(), overflows.done()]
    }
}

impl Collector for Workers {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut answers = Family::counter(
            "zonal_answers_total",
            "Answers sent. view: the VPC, at an inbound endpoint VPC/client's network, or none for clients that have no view. \
             outcome: what answered: zone, endpoint, autodefined, whoami, forward, refused, malformed",
        );
        let mut localities = Family::counter(
            "zonal_endpoint_answers_total",
            "Answers with addresses of VPC endpoints, by where these are for the client. az: same (all in its own), \
             other (at least one in another AZ: that traffic costs money), unknown (its AZ is not known)",
        );
        let mut entry_points = Family::counter(
            "zonal_inbound_answers_total",
            "Answers sent from the addresses of inbound endpoints. CloudWatch: InboundQueryVolume; by rcode \
             ServFailQueries, NxDomainQueries, RefusedQueries, FormErrorQueries",
        );
        let mut dropped = Family::counter(
            "zonal_dropped_total",
            "Messages without an answer. reason: silent (nothing to say to that, as to a response), unsent (the kernel did \
             not take the answer), receive (the kernel failed to deliver), late (the answer came after 2.4 seconds; it is kept \
             in the cache for the client's next attempt)",
        );
        let mut limited = Family::counter(
            "zonal_error_answers_limited_total",
            "Error answers beyond the limit. action: truncated, dropped, bad_cookie",
        );
        let snapshot = self.snapshot.load_full();
        // Of what is not in the manifest any more nothing is told.
        let mut views: Vec<Option<&str>> = vec![None; snapshot.view_labels().len() + 1];
        views[0] = Some("none");
        for view in snapshot.views.iter() {
            if let Some(place) = views.get_mut(view.slot as usize + 1) {
                *place = Some(&view.label);
            }
        }
        let mut of_entry_points = Vec::new();
        for (address, entry_point) in &snapshot.networks.entry_points {
            of_entry_points.extend(entry_point.slot.map(|slot| (slot as usize, &*entry_point.id, address.to_string())));
        }
        let totals = self.totals();
        let of_transports = || totals.iter().zip(Transport::LABELS).map(|(totals, (_, word))| (totals, word));
        for (row, view) in views.iter().enumerate().filter_map(|(row, view)| Some((row, (*view)?))) {
            let mut of_az = [0; LOCALITIES.len()];
            for (totals, transport) in of_transports() {
                let Some(counts) = totals.views.get(row * PER_VIEW..(row + 1) * PER_VIEW) else { continue };
                let (by_kind, by_az) = counts.split_at(BY_KIND);
                of_az.iter_mut().zip(by_az).for_each(|(sum, count)| *sum += count);
                for (index, &count) in by_kind.iter().enumerate().filter(|(_, count)| **count > 0) {
                    let (outcome, rcode) = (KINDS[index / RCODES].1, rcode::label_at(index % RCODES));
                    let labels = [("outcome", outcome), ("rcode", rcode), ("transport", transport), ("view", view)];
                    answers.set(&labels, count as f64);
                }
            }
            for ((_, az), &count) in LOCALITIES.iter().zip(&of_az).filter(|(_, count)| **count > 0) {
                localities.set(&[("az", az), ("view", view)], count as f64);
            }
        }
        for (row, endpoint, address) in &of_entry_points {
            for place in 0..RCODES {
                let count =
                    |(totals, _): (&Totals, _)| totals.entry_points.get(row * RCODES + place).copied().unwrap_or(0);
                let sum: u64 = of_transports().map(count).sum();
                if sum > 0 {
                    let labels = [
                        ("entry_point", &**address),
                        ("rcode", rcode::label_at(place)),
                        ("resolver_endpoint", endpoint),
                    ];
                    entry_points.set(&labels, sum as f64);
                }
            }
        }
        let mut of_actions = [0; LIMITED.len()];
        for (totals, transport) in of_transports() {
            for (reason, &count) in DROPPED.iter().zip(&totals.dropped) {
                dropped.set(&[("reason", reason), ("transport", transport)], count as f64);
            }
            of_actions.iter_mut().zip(&totals.limited).for_each(|(sum, count)| *sum += count);
        }
        for (action, &count) in LIMITED.iter().zip(&of_actions) {
            limited.set(&[("action", action)], count as f64);
        }
        let large = Family::one_counter(
            "zonal_large_answers_truncated_total",
            "Large answers over UDP beyond `limits.large_answers_per_second`: they are truncated, and clients ask again by TCP",
            totals.iter().map(|totals| totals.large).sum::<u64>() as f64,
        );
        let mut all =
            vec![answers.done(), localities.done(), entry_points.done(), dropped.done(), limited.done(), large];
        all.extend(self.threads());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::tests;

    fn answered(view: Option<u32>, kind: AnswerKind, rcode: u16) -> Answered {
        Answered { view, kind, ..tests::answered(12, rcode) }
    }

    #[test]
    fn workers_are_summed_up() {
        let core = tests::core(&tests::limits());
        let mut one = core.counters.workers.writer(Transport::Udp, None);
        let mut other = core.counters.workers.writer(Transport::Udp, None);
        let mut tcp = core.counters.workers.writer(Transport::Tcp, None);
        one.answered(&answered(None, AnswerKind::Refused, 5));
        other.answered(&answered(None, AnswerKind::Refused, 5));
        other.answered(&answered(None, AnswerKind::Malformed, 16));
        tcp.answered(&Answered { locality: Some(Locality::CrossAz), ..answered(None, AnswerKind::Zone, 3) });
        tcp.dropped(Dropped::Silent);
        one.limited(Limited::BadCookie);
        drop(other); // what a worker counted stays when it ends
        for _ in 0..2 {
            let text = tests::page(&core);
            for line in [
                r#"zonal_answers_total{outcome="refused",rcode="REFUSED",transport="udp",view="none"} 2"#,
                r#"zonal_answers_total{outcome="malformed",rcode="BADVERS",transport="udp",view="none"} 1"#,
                r#"zonal_answers_total{outcome="zone",rcode="NXDOMAIN",transport="tcp",view="none"} 1"#,
                r#"zonal_endpoint_answers_total{az="other",view="none"} 1"#,
                r#"zonal_dropped_total{reason="silent",transport="tcp"} 1"#,
                r#"zonal_error_answers_limited_total{action="bad_cookie"} 1"#,
            ] {
                assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
            }
            assert_eq!(text.matches("zonal_answers_total{").count(), 3, "only what was counted");
        }
    }

    #[test]
    fn room_grows_with_the_views() {
        let workers = Workers::new(tests::core(&tests::limits()).snapshot.clone());
        let mut writer = workers.writer(Transport::Udp, None);
        let total = |view: usize| {
            let [udp, ..] = workers.totals();
            udp.views.get((view + 1) * PER_VIEW + index_of(AnswerKind::Zone, 0)).copied()
        };
        writer.grow(10, 0);
        writer.answered(&answered(Some(9), AnswerKind::Zone, 0));
        assert_eq!((total(9), total(1000)), (Some(1), None));
        writer.answered(&answered(Some(1000), AnswerKind::Zone, 0));
        writer.grow(1001, 0);
        writer.answered(&answered(Some(1000), AnswerKind::Zone, 0));
        assert_eq!((total(9), total(1000)), (Some(1), Some(1)));
    }
}
