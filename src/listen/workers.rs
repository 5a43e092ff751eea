//! Counters of replies. Each worker (a UDP thread, or the connections of a listener) has counters of its own, which no other
//! worker writes. A scrape adds them up.

use super::udp;
use crate::{
    answer::{AnswerKind, Answered, Locality, Transport, firewall::FirewallOutcome},
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

const KINDS: [(AnswerKind, &str); 8] = [
    (AnswerKind::Zone, "zone"),
    (AnswerKind::Endpoint, "endpoint"),
    (AnswerKind::Autodefined, "autodefined"),
    (AnswerKind::Whoami, "whoami"),
    (AnswerKind::Firewall, "firewall"),
    (AnswerKind::Forward, "forward"),
    (AnswerKind::Refused, "refused"),
    (AnswerKind::Malformed, "malformed"),
];

const LOCALITIES: [(Locality, &str); 3] =
    [(Locality::SameAz, "same"), (Locality::NoAz, "unknown"), (Locality::CrossAz, "other")];

/// The number of RCODE counters: one for each RCODE that zonal sends, and one for all others.
const RCODES: usize = MNEMONICS.len() + 1;
/// The number of counters of a view: by kind of answer and RCODE, and then by locality of endpoint addresses.
const COUNTERS_PER_VIEW: usize = COUNTERS_BY_KIND + LOCALITIES.len();
/// The number of counters of a DNS Firewall rule.
const OUTCOMES: usize = FirewallOutcome::LABELS.len();
const COUNTERS_BY_KIND: usize = KINDS.len() * RCODES;
/// The number of rows of counters that are allocated together.
const ROWS_PER_CHUNK: usize = 64;

type Chunk = Arc<[AtomicU64]>;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The index of the counter of an RCODE.
fn rcode_index(rcode: u16) -> usize {
    MNEMONICS.iter().position(|(other, _)| *other == rcode).unwrap_or(MNEMONICS.len())
}

/// The index of the counter of an answer in the row of its view.
fn counter_index(kind: AnswerKind, rcode: u16) -> usize {
    KINDS.iter().position(|(other, _)| *other == kind).unwrap_or_default() * RCODES + rcode_index(rcode)
}

/// The reason why a message gets no reply.
#[derive(Clone, Copy, Debug)]
pub enum DropReason {
    /// The message gets no reply, for example because it is a response.
    Silent,
    /// The kernel refused the reply.
    Unsent,
    /// A receive failed.
    Receive,
    /// The reply was ready later than a client waits for it.
    Late,
}

/// The action on an error answer beyond the limit.
#[derive(Clone, Copy, Debug)]
pub enum LimitAction {
    /// A truncated answer was sent.
    Truncated,
    /// Nothing was sent.
    Dropped,
    /// A BADCOOKIE was sent.
    BadCookie,
}

const DROPPED: [&str; 4] = ["silent", "unsent", "receive", "late"];
const LIMITED: [&str; 3] = ["truncated", "dropped", "bad_cookie"];

/// Rows of counters: one for each view, or for each entry point.
#[derive(Clone, Default)]
struct Rows(Vec<Chunk>);

impl Rows {
    /// Adds rows of `width` counters until there are `rows`. Adds them to `shared` too.
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

/// The counters of a worker, as scrapes see them.
struct SharedCounters {
    transport: Transport,
    /// By view; the first row is for clients without a view.
    views: Mutex<Rows>,
    /// By address of an inbound endpoint.
    entry_points: Mutex<Rows>,
    /// By DNS Firewall rule.
    rules: Mutex<Rows>,
    dropped: [AtomicU64; DROPPED.len()],
    limited: [AtomicU64; LIMITED.len()],
    large: AtomicU64,
    thread: Option<Thread>,
}

/// The counters of a UDP thread.
struct Thread {
    /// The listen address.
    listener: String,
    /// The number of the thread on that address, from 0.
    number: String,
    socket: Weak<Socket>,
    batches: AtomicU64,
    packets: AtomicU64,
}

/// The counters of a worker, for the worker. It is their only writer, so that counting is a plain load and store.
pub struct WorkerCounters {
    shared: Arc<SharedCounters>,
    /// The same rows as in `shared`, without a lock.
    views: Rows,
    entry_points: Rows,
    rules: Rows,
}

impl WorkerCounters {
    /// Adds rows for the views, entry points and firewall rules of a snapshot. Call this for each snapshot, not for each
    /// query.
    pub fn prepare(&mut self, snapshot: &Snapshot) {
        self.grow(snapshot.view_labels().len(), snapshot.networks.entry_point_labels.len());
        self.rules.grow(&self.shared.rules, snapshot.firewall.labels.len(), OUTCOMES);
    }

    fn grow(&mut self, views: usize, entry_points: usize) {
        self.views.grow(&self.shared.views, views + 1, COUNTERS_PER_VIEW);
        self.entry_points.grow(&self.shared.entry_points, entry_points, RCODES);
    }

    /// Counts an answer. An answer of a view without a row counts as an answer without a view.
    pub fn answered(&mut self, answered: &Answered) {
        if !answered.firewall.is_empty() {
            self.filtered(answered);
        }
        let row = answered.view.map_or(0, |view| view as usize + 1);
        if let Some(row) = self.views.row(row, COUNTERS_PER_VIEW).or_else(|| self.views.row(0, COUNTERS_PER_VIEW)) {
            increase(&row[counter_index(answered.kind, answered.rcode)]);
            if let Some(locality) = answered.locality {
                increase(&row[COUNTERS_BY_KIND + locality as usize]);
            }
        }
        if let Some(row) =
            answered.entry_point.and_then(|entry_point| self.entry_points.row(entry_point as usize, RCODES))
        {
            increase(&row[rcode_index(answered.rcode)]);
        }
    }

    /// Counts the DNS Firewall rules that matched.
    pub fn filtered(&mut self, answered: &Answered) {
        for (slot, outcome) in answered.firewall.iter() {
            if let Some(counter) = self.rules.row(slot as usize, OUTCOMES).and_then(|row| row.get(outcome)) {
                increase(counter);
            }
        }
    }

    /// Counts a message without an answer.
    pub fn dropped(&mut self, reason: DropReason) {
        increase(&self.shared.dropped[reason as usize]);
    }

    /// Counts an error answer beyond the limit.
    pub fn limited(&mut self, action: LimitAction) {
        increase(&self.shared.limited[action as usize]);
    }

    /// Counts a large answer beyond the limit, which is truncated.
    pub fn large_truncated(&mut self) {
        increase(&self.shared.large);
    }

    /// Counts the packets of one receive.
    pub fn received(&mut self, packets: usize) {
        if let Some(thread) = &self.shared.thread {
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

/// The counters of all workers.
#[derive(Clone)]
pub struct Workers {
    /// The name under which the registry knows this collector.
    desc: Desc,
    blocks: Arc<Mutex<Vec<Arc<SharedCounters>>>>,
    /// The sums of workers that have ended, by transport.
    retired: Arc<Mutex<[Totals; Transport::LABELS.len()]>>,
    snapshot: Published,
}

/// The sums of the workers of one transport.
#[derive(Clone, Default)]
struct Totals {
    views: Vec<u64>,
    entry_points: Vec<u64>,
    rules: Vec<u64>,
    dropped: [u64; DROPPED.len()],
    limited: [u64; LIMITED.len()],
    large: u64,
}

impl Totals {
    fn add(&mut self, block: &SharedCounters) {
        // The locks are released at once, so that a worker that adds rows does not wait for the sums.
        let (views, entry_points) = (lock(&block.views).clone(), lock(&block.entry_points).clone());
        let rules = lock(&block.rules).clone();
        views.add_to(&mut self.views);
        entry_points.add_to(&mut self.entry_points);
        rules.add_to(&mut self.rules);
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
    /// No workers yet. Labels come from the current snapshot.
    pub fn new(snapshot: Published) -> Workers {
        Workers { desc: desc("zonal_answers_total"), blocks: Arc::default(), retired: Arc::default(), snapshot }
    }

    /// Adds a worker. `thread` is for a UDP thread: its listen address, its number there, and its socket.
    pub fn add_worker(
        &self,
        transport: Transport,
        thread: Option<(SocketAddr, usize, &Arc<Socket>)>,
    ) -> WorkerCounters {
        self.fold();
        let thread = thread.map(|(listener, number, socket)| Thread {
            listener: listener.to_string(),
            number: number.to_string(),
            socket: Arc::downgrade(socket),
            batches: AtomicU64::new(0),
            packets: AtomicU64::new(0),
        });
        let block = Arc::new(SharedCounters {
            transport,
            views: Mutex::default(),
            entry_points: Mutex::default(),
            rules: Mutex::default(),
            dropped: Default::default(),
            limited: Default::default(),
            large: AtomicU64::new(0),
            thread,
        });
        lock(&self.blocks).push(block.clone());
        let (views, entry_points, rules) = Default::default();
        let mut writer = WorkerCounters { shared: block, views, entry_points, rules };
        writer.grow(0, 0);
        writer
    }

    /// Moves the counters of ended workers into `retired`.
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
        // `retired` is locked while the list of workers is copied, so that no worker counts twice or not at all.
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
            "Receive system calls of a UDP thread. A thread with fewer than 32 packets per call keeps up",
        );
        let mut packets = Family::counter("zonal_udp_packets_total", "Packets that a UDP thread received");
        let mut overflows = Family::counter(
            "zonal_udp_overflows_total",
            "Packets that the kernel dropped because the thread did not receive them in time",
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
        let (snapshot, totals) = (self.snapshot.load_full(), self.totals());
        let mut all = view_families(&snapshot, &totals).to_vec();
        all.push(entry_point_family(&snapshot, &totals));
        all.push(firewall_family(&snapshot, &totals));
        all.extend(refusal_families(&totals));
        all.extend(self.threads());
        all
    }
}

/// The totals of each transport, with its word.
fn by_transport(totals: &[Totals]) -> impl Iterator<Item = (&Totals, &'static str)> {
    totals.iter().zip(Transport::LABELS).map(|(totals, (_, word))| (totals, word))
}

/// Answers by view, and addresses of endpoints by view and AZ. Views that are not in the manifest any more are left out.
fn view_families(snapshot: &Snapshot, totals: &[Totals]) -> [MetricFamily; 2] {
    let mut answers = Family::counter(
        "zonal_answers_total",
        "Answers sent. view: the VPC, at an inbound endpoint VPC/network of the client, or none for clients without a view. \
         outcome: the source of the answer: zone, endpoint, autodefined, whoami, firewall, forward, refused, malformed",
    );
    let mut localities = Family::counter(
        "zonal_endpoint_answers_total",
        "Answers with addresses of VPC endpoints. az: same (all addresses are in the AZ of the client), other (at least one is \
         in another AZ: that traffic costs money), unknown (the AZ of the client is not known)",
    );
    let mut views: Vec<Option<&str>> = vec![None; snapshot.view_labels().len() + 1];
    views[0] = Some("none");
    for view in snapshot.views.iter() {
        if let Some(label) = views.get_mut(view.slot as usize + 1) {
            *label = Some(&view.label);
        }
    }
    for (row, view) in views.iter().enumerate().filter_map(|(row, view)| Some((row, (*view)?))) {
        let mut az_sums = [0; LOCALITIES.len()];
        for (totals, transport) in by_transport(totals) {
            let Some(counts) = totals.views.get(row * COUNTERS_PER_VIEW..(row + 1) * COUNTERS_PER_VIEW) else {
                continue;
            };
            let (by_kind, by_az) = counts.split_at(COUNTERS_BY_KIND);
            az_sums.iter_mut().zip(by_az).for_each(|(sum, count)| *sum += count);
            for (index, &count) in by_kind.iter().enumerate().filter(|(_, count)| **count > 0) {
                let (outcome, rcode) = (KINDS[index / RCODES].1, rcode::label_at(index % RCODES));
                let labels = [("outcome", outcome), ("rcode", rcode), ("transport", transport), ("view", view)];
                answers.set(&labels, count as f64);
            }
        }
        for ((_, az), &count) in LOCALITIES.iter().zip(&az_sums).filter(|(_, count)| **count > 0) {
            localities.set(&[("az", az), ("view", view)], count as f64);
        }
    }
    [answers.done(), localities.done()]
}

/// Answers by entry point of inbound endpoints.
fn entry_point_family(snapshot: &Snapshot, totals: &[Totals]) -> MetricFamily {
    let mut family = Family::counter(
        "zonal_inbound_answers_total",
        "Answers sent from the addresses of inbound endpoints. CloudWatch: InboundQueryVolume; by rcode \
         ServFailQueries, NxDomainQueries, RefusedQueries, FormErrorQueries",
    );
    for (address, entry_point) in &snapshot.networks.entry_points {
        let Some(row) = entry_point.slot.map(|slot| slot as usize) else { continue };
        let address = address.to_string();
        for rcode in 0..RCODES {
            let count = |totals: &Totals| totals.entry_points.get(row * RCODES + rcode).copied().unwrap_or(0);
            let sum: u64 = totals.iter().map(count).sum();
            if sum > 0 {
                let labels = [
                    ("entry_point", &*address),
                    ("rcode", rcode::label_at(rcode)),
                    ("resolver_endpoint", &*entry_point.id),
                ];
                family.set(&labels, sum as f64);
            }
        }
    }
    family.done()
}

/// Queries by DNS Firewall rule. Rules that are not in use any more are left out.
fn firewall_family(snapshot: &Snapshot, totals: &[Totals]) -> MetricFamily {
    let mut family = Family::counter(
        "zonal_firewall_matches_total",
        "Queries that a DNS Firewall rule matched, each query once per rule. outcome: allow, alert, block, shadow (a rule with \
         `shadow: true`), fail_closed (SERVFAIL, because the list is not loaded or has expired), fail_open (answered for the \
         same reason). list: empty for a rule without a list. CloudWatch: FirewallRuleQueryVolume",
    );
    for rule in snapshot.firewall.rules() {
        for (number, (_, outcome)) in FirewallOutcome::LABELS.iter().enumerate() {
            let count =
                |totals: &Totals| totals.rules.get(rule.slot as usize * OUTCOMES + number).copied().unwrap_or(0);
            let sum: u64 = totals.iter().map(count).sum();
            if sum > 0 {
                let label = &rule.label;
                let labels =
                    [("group", &*label.group), ("list", &*label.list), ("outcome", *outcome), ("rule", &*label.rule)];
                family.set(&labels, sum as f64);
            }
        }
    }
    family.done()
}

/// Messages without an answer, and answers that a limit changed.
fn refusal_families(totals: &[Totals]) -> [MetricFamily; 3] {
    let mut dropped = Family::counter(
        "zonal_dropped_total",
        "Messages without an answer. reason: silent (the message gets no answer, for example a response), unsent (the kernel \
         refused the answer), receive (a receive failed), late (the answer was ready after 2.4 seconds; the cache has it for \
         the next attempt of the client)",
    );
    let mut limited = Family::counter(
        "zonal_error_answers_limited_total",
        "Error answers beyond the limit. action: truncated, dropped, bad_cookie",
    );
    let mut action_sums = [0; LIMITED.len()];
    for (totals, transport) in by_transport(totals) {
        for (reason, &count) in DROPPED.iter().zip(&totals.dropped) {
            dropped.set(&[("reason", reason), ("transport", transport)], count as f64);
        }
        action_sums.iter_mut().zip(&totals.limited).for_each(|(sum, count)| *sum += count);
    }
    for (action, &count) in LIMITED.iter().zip(&action_sums) {
        limited.set(&[("action", action)], count as f64);
    }
    let large = Family::one_counter(
        "zonal_large_answers_truncated_total",
        "Large answers over UDP beyond `limits.large_answers_per_second`, which zonal truncated. Clients ask again by TCP",
        totals.iter().map(|totals| totals.large).sum::<u64>() as f64,
    );
    [dropped.done(), limited.done(), large]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::tests;

    fn answered(view: Option<u32>, kind: AnswerKind, rcode: u16) -> Answered {
        Answered { view, kind, ..tests::answered(12, rcode) }
    }

    #[test]
    fn a_scrape_adds_up_all_workers() {
        let core = tests::core(&tests::limits());
        let mut one = core.counters.workers.add_worker(Transport::Udp, None);
        let mut other = core.counters.workers.add_worker(Transport::Udp, None);
        let mut tcp = core.counters.workers.add_worker(Transport::Tcp, None);
        one.answered(&answered(None, AnswerKind::Refused, 5));
        other.answered(&answered(None, AnswerKind::Refused, 5));
        other.answered(&answered(None, AnswerKind::Malformed, 16));
        tcp.answered(&Answered { locality: Some(Locality::CrossAz), ..answered(None, AnswerKind::Zone, 3) });
        tcp.dropped(DropReason::Silent);
        one.limited(LimitAction::BadCookie);
        drop(other); // the counts of an ended worker stay
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
            assert_eq!(text.matches("zonal_answers_total{").count(), 3, "only answers that were counted");
        }
    }

    #[test]
    fn rows_are_added_with_the_views() {
        let workers = Workers::new(tests::core(&tests::limits()).snapshot.clone());
        let mut writer = workers.add_worker(Transport::Udp, None);
        let total = |view: usize| {
            let [udp, ..] = workers.totals();
            udp.views.get((view + 1) * COUNTERS_PER_VIEW + counter_index(AnswerKind::Zone, 0)).copied()
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
