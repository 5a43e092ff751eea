//! Eviction: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023),
//! counted in octets.
//!
//! ```text
//! new node -> small queue (a tenth of the octets) -- used twice --> main queue -- used --> back to the end
//!                  | not used                                           | not used
//!                  v                                                    v
//!             evicted; its hash becomes a ghost                      evicted
//! ```
//!
//! A node whose hash is a ghost goes straight to the main queue. So a scan of names that are asked
//! for once passes through the small queue, and evicts nothing from the main queue.

use super::{MAX_HEAT, Node, Nodes};
use papaya::Guard;
use std::{collections::VecDeque, sync::atomic::Ordering::Relaxed};

/// The heat that moves a node from the small queue to the main queue.
const MIN_HEAT_FOR_MAIN: u8 = 2;
/// The maximum number of nodes that one eviction passes over: this bounds its time.
const MAX_PASSED: usize = 128;
/// Queues are compacted when they have more slots than one and a half times the nodes, plus this
/// many.
const FREE_SLOTS: usize = 64;
/// The memory of a node's slots in the map and in the queues, in octets. A slot of the map has 9
/// octets; the map is at least a quarter full, and needs twice its memory while it grows. A queue
/// may have twice the capacity that it uses.
const SLOT_OCTETS: usize = 9 * 4 * 2 + 2 * size_of::<Slot>();

/// The hash and the ticket of a node. The slot is empty if the map has no such node.
type Slot = (u64, u64);

pub(super) struct Queues {
    small: VecDeque<Slot>,
    main: VecDeque<Slot>,
    /// Parts of the hashes of nodes that were evicted from the small queue. Each hash has one slot,
    /// which the latest takes.
    ghosts: Box<[u32]>,
    /// The memory of the nodes in each queue, in octets.
    small_octets: usize,
    main_octets: usize,
    nodes: usize,
    /// The highest number of nodes so far: neither the map nor the queues shrink.
    max_nodes: usize,
    next_ticket: u64,
    budget: usize,
    /// The part of the budget for nodes and their slots, in octets.
    available: usize,
}

impl Queues {
    pub fn new(budget: usize) -> Queues {
        let ghosts = vec![0; (budget / 512).max(1).next_power_of_two()].into_boxed_slice();
        // A reserve for removed nodes: they are not freed at once, and not at all while the map
        // grows.
        let reserve = budget / 16 + size_of_val(&*ghosts);
        Queues {
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts,
            small_octets: 0,
            main_octets: 0,
            nodes: 0,
            max_nodes: 0,
            next_ticket: 1,
            budget,
            available: budget.saturating_sub(reserve),
        }
    }

    pub fn budget(&self) -> usize {
        self.budget
    }

    /// The number of nodes.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// The number of slots, with empty ones.
    #[cfg(test)]
    pub fn slots(&self) -> usize {
        self.small.len() + self.main.len()
    }

    /// The memory of nodes and their slots, in octets.
    pub fn octets(&self) -> usize {
        self.small_octets + self.main_octets + self.max_nodes * SLOT_OCTETS
    }

    /// Whether a node of this size is small enough to be cached: at most a 64th of the memory.
    pub fn takes(&self, size: usize) -> bool {
        size <= self.available / 64
    }

    /// Whether there is room for a node. `old` is the size of the node that it replaces.
    pub fn has_room(&self, size: usize, old: Option<usize>) -> bool {
        let nodes = self.nodes + usize::from(old.is_none());
        let slots = self.max_nodes.max(nodes) * SLOT_OCTETS;
        self.small_octets + self.main_octets - old.unwrap_or(0) + size + slots <= self.available
    }

    /// Appends a new node to the small queue, or to the main queue if its hash is a ghost.
    pub fn enter(&mut self, hash: u64, node: &mut Node, nodes: &Nodes, guard: &impl Guard) {
        if self.small.len() + self.main.len() > self.nodes + self.nodes / 2 + FREE_SLOTS {
            self.tidy(nodes, guard);
        }
        node.ticket = self.next_ticket;
        self.next_ticket += 1;
        let ghost = self.ghost(hash);
        let is_back = *ghost == ghost_of(hash);
        // The ghost of another node stays. If each of two nodes erased the ghost of the other, neither would reach the
        // main queue.
        if is_back {
            *ghost = 0;
        }
        *node.is_main.get_mut() = is_back;
        if is_back { &mut self.main } else { &mut self.small }.push_back((hash, node.ticket));
        self.count_entered(node);
    }

    /// Counts a node that was inserted and whose slot exists.
    pub fn count_entered(&mut self, node: &Node) {
        *self.octets_of(node) += node.size;
        self.nodes += 1;
        self.max_nodes = self.max_nodes.max(self.nodes);
    }

    /// Counts a node that was removed. Its slot stays in the queue, empty.
    pub fn count_left(&mut self, node: &Node) {
        let octets = self.octets_of(node);
        *octets = octets.saturating_sub(node.size);
        self.nodes = self.nodes.saturating_sub(1);
    }

    fn octets_of(&mut self, node: &Node) -> &mut usize {
        if node.is_main.load(Relaxed) { &mut self.main_octets } else { &mut self.small_octets }
    }

    /// Evicts one node, and returns its size. None if there are no nodes. Nodes for which
    /// `is_expired` holds are evicted even if they were used.
    pub fn evict(&mut self, nodes: &Nodes, guard: &impl Guard, is_expired: impl Fn(&Node) -> bool) -> Option<usize> {
        let mut passed = 0;
        loop {
            let is_full = self.small_octets >= self.available / 10;
            let from_small = !self.small.is_empty() && (is_full || self.main.is_empty());
            let queue = if from_small { &mut self.small } else { &mut self.main };
            let slot @ (hash, ticket) = queue.pop_front()?;
            let Some(node) = nodes.get(&hash, guard).filter(|node| node.ticket == ticket) else { continue };
            let heat = node.heat.load(Relaxed);
            let wanted = if from_small { MIN_HEAT_FOR_MAIN } else { 1 };
            if heat >= wanted && passed < MAX_PASSED && !is_expired(node) {
                passed += 1;
                self.count_left(node);
                node.heat.store(if from_small { 0 } else { heat.min(MAX_HEAT) - 1 }, Relaxed);
                node.is_main.store(true, Relaxed);
                self.main.push_back(slot);
                self.count_entered(node);
                continue;
            }
            if from_small {
                *self.ghost(hash) = ghost_of(hash);
            }
            self.count_left(node);
            nodes.remove(&hash, guard);
            return Some(node.size);
        }
    }

    /// Removes empty slots.
    pub fn tidy(&mut self, nodes: &Nodes, guard: &impl Guard) {
        for queue in [&mut self.small, &mut self.main] {
            queue.retain(|(hash, ticket)| nodes.get(hash, guard).is_some_and(|node| node.ticket == *ticket));
        }
    }

    fn ghost(&mut self, hash: u64) -> &mut u32 {
        let mask = self.ghosts.len() - 1;
        &mut self.ghosts[(hash >> 32) as usize & mask]
    }
}

/// The part of a hash that is stored as a ghost; never 0, which means "no ghost".
fn ghost_of(hash: u64) -> u32 {
    hash as u32 | 1
}
