//! Who may stay: S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), counted in octets.
//!
//! What is new waits in a small queue. If it was used by the time that it reaches the front it goes on to the main
//! queue; if not it leaves, and only its hash is remembered for a while, so that it goes straight to the main queue when
//! it comes back. So a scan of names that nobody asks for twice passes through the small queue and touches nothing else.

use super::{MAX_HEAT, Node, Nodes};
use papaya::Guard;
use std::{collections::VecDeque, sync::atomic::Ordering::Relaxed};

/// How often a node must have been used in the small queue to go on to the main queue.
const ADMISSION: u8 = 2;
/// How many nodes one eviction may pass over: nobody waits for a walk through the whole queue.
const MOST_PASSED: usize = 128;
/// How many more places there may be than half as many again as there are nodes.
const FREE_PLACES: usize = 64;
/// Octets that a node takes in the map and in the queues. In the map 9, which is a quarter full at least, and as much
/// again for the table that it moves to; the queues grow twofold.
const PLACE: usize = 9 * 4 * 2 + 2 * size_of::<Place>();

/// Hash and ticket of a node. If there is no such node any more, the place is empty.
type Place = (u64, u64);

pub(super) struct Queues {
    small: VecDeque<Place>,
    main: VecDeque<Place>,
    /// Parts of the hashes of those that left the small queue. Each has one place to be in; whoever comes later to the
    /// same place takes it.
    ghosts: Box<[u32]>,
    /// Octets of the nodes in each queue.
    small_octets: usize,
    main_octets: usize,
    nodes: usize,
    /// The most nodes that there ever were: neither map nor queues become smaller.
    most_nodes: usize,
    next_ticket: u64,
    budget: usize,
    /// What is left of the budget for nodes and their places.
    available: usize,
}

impl Queues {
    pub fn new(budget: usize) -> Queues {
        let ghosts = vec![0; (budget / 512).max(1).next_power_of_two()].into_boxed_slice();
        // Nodes that were taken out are not freed at once, least of all while the map moves to another table.
        let reserve = budget / 16 + size_of_val(&*ghosts);
        Queues {
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts,
            small_octets: 0,
            main_octets: 0,
            nodes: 0,
            most_nodes: 0,
            next_ticket: 1,
            budget,
            available: budget.saturating_sub(reserve),
        }
    }

    pub fn budget(&self) -> usize {
        self.budget
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// How many places there are, empty ones included.
    #[cfg(test)]
    pub fn places(&self) -> usize {
        self.small.len() + self.main.len()
    }

    /// How many octets nodes and their places take.
    pub fn octets(&self) -> usize {
        self.small_octets + self.main_octets + self.most_nodes * PLACE
    }

    /// Whether a node of this size is worth what would have to go for it.
    pub fn takes(&self, size: usize) -> bool {
        size <= self.available / 64
    }

    /// Whether there is room for a node, in the place of one of this size if there is one.
    pub fn has_room(&self, size: usize, old: Option<usize>) -> bool {
        let nodes = self.nodes + usize::from(old.is_none());
        let places = self.most_nodes.max(nodes) * PLACE;
        self.small_octets + self.main_octets - old.unwrap_or(0) + size + places <= self.available
    }

    /// Gives a new node its place.
    pub fn enter(&mut self, hash: u64, node: &mut Node, nodes: &Nodes, guard: &impl Guard) {
        if self.small.len() + self.main.len() > self.nodes + self.nodes / 2 + FREE_PLACES {
            self.tidy(nodes, guard);
        }
        node.ticket = self.next_ticket;
        self.next_ticket += 1;
        let is_back = std::mem::take(self.ghost(hash)) == ghost_of(hash);
        *node.is_main.get_mut() = is_back;
        if is_back { &mut self.main } else { &mut self.small }.push_back((hash, node.ticket));
        self.came(node);
    }

    /// Counts a node that is there from now on, in a place that is there already.
    pub fn came(&mut self, node: &Node) {
        *self.octets_of(node) += node.size;
        self.nodes += 1;
        self.most_nodes = self.most_nodes.max(self.nodes);
    }

    /// Counts a node that is no longer there. Its place stays empty until its turn.
    pub fn left(&mut self, node: &Node) {
        let octets = self.octets_of(node);
        *octets = octets.saturating_sub(node.size);
        self.nodes = self.nodes.saturating_sub(1);
    }

    fn octets_of(&mut self, node: &Node) -> &mut usize {
        if node.is_main.load(Relaxed) { &mut self.main_octets } else { &mut self.small_octets }
    }

    /// Takes out one node, and returns its size; none if there are none. Those that are `over` have no second chance.
    pub fn evict(&mut self, nodes: &Nodes, guard: &impl Guard, over: impl Fn(&Node) -> bool) -> Option<usize> {
        let mut passed = 0;
        loop {
            let is_full = self.small_octets >= self.available / 10;
            let from_small = !self.small.is_empty() && (is_full || self.main.is_empty());
            let queue = if from_small { &mut self.small } else { &mut self.main };
            let place @ (hash, ticket) = queue.pop_front()?;
            let Some(node) = nodes.get(&hash, guard).filter(|node| node.ticket == ticket) else { continue };
            let heat = node.heat.load(Relaxed);
            let wanted = if from_small { ADMISSION } else { 1 };
            if heat >= wanted && passed < MOST_PASSED && !over(node) {
                passed += 1;
                self.left(node);
                node.heat.store(if from_small { 0 } else { heat.min(MAX_HEAT) - 1 }, Relaxed);
                node.is_main.store(true, Relaxed);
                self.main.push_back(place);
                self.came(node);
                continue;
            }
            if from_small {
                *self.ghost(hash) = ghost_of(hash);
            }
            self.left(node);
            nodes.remove(&hash, guard);
            return Some(node.size);
        }
    }

    /// Takes away the places of nodes that are no longer there.
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

/// What is remembered of a hash; 0 is nothing.
fn ghost_of(hash: u64) -> u32 {
    hash as u32 | 1
}
