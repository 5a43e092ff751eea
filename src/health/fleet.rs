//! The verdicts of other nodes, which decide together with this node's own.
//!
//! A target is healthy when more than `quorum` of the reporters in the client's AZ say so, and at least one. Without a
//! reporter in that AZ, all reporters decide. A node without a verdict about a target is no reporter for it.

use crate::{
    manifest::Id,
    snapshot::{
        endpoints::{Az, Azs},
        health::{FleetReport, TargetId, clients},
    },
};
use std::collections::{HashMap, HashSet};

/// Number of parts in which a node shares its verdicts. A change of one verdict writes one part.
pub const PARTS: u8 = 64;

/// A message about the nodes that share their verdicts.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetMessage {
    /// The verdicts of other nodes are known from now on.
    Connected,
    /// The verdicts of other nodes are not known any more: this node decides alone.
    Lost,
    /// A node shares its verdicts. It is in this AZ, if it knows its AZ.
    Node(Box<str>, Option<Id>),
    /// The verdicts in a part of a node.
    Part(Box<str>, u8, Vec<(TargetId, bool)>),
    /// A node does not share a part any more; without a part, it does not share at all.
    Gone(Box<str>, Option<u8>),
}

/// The part that has the verdict of a target.
pub fn part_of(id: &TargetId) -> u8 {
    let text = id.to_string();
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32) as u8 % PARTS
}

/// The AZ of a reporter, and its verdict.
type Vote = (Option<Az>, bool);

/// Another node.
#[derive(Debug, Default)]
struct Reporter {
    az_id: Option<Id>,
    az: Option<Az>,
    /// The verdicts, each with the part that it came in.
    verdicts: HashMap<TargetId, (u8, bool)>,
}

/// The other nodes.
#[derive(Debug, Default)]
pub struct Fleet {
    reporters: HashMap<Box<str>, Reporter>,
}

impl Fleet {
    /// Number of other nodes.
    pub fn nodes(&self) -> usize {
        self.reporters.len()
    }

    /// Applies a message about another node. Returns the targets whose verdict may have changed.
    pub fn apply(&mut self, message: FleetMessage, azs: &Azs) -> HashSet<TargetId> {
        match message {
            FleetMessage::Connected | FleetMessage::Lost => HashSet::new(),
            FleetMessage::Node(node, az_id) => {
                let reporter = self.reporters.entry(node).or_default();
                reporter.az = az_id.as_deref().and_then(|id| azs.find(id));
                reporter.az_id = az_id;
                reporter.verdicts.keys().cloned().collect()
            }
            FleetMessage::Part(node, part, verdicts) => {
                let reporter = self.reporters.entry(node).or_default();
                let mut touched = reporter.remove(part);
                for (id, is_healthy) in verdicts {
                    touched.insert(id.clone());
                    reporter.verdicts.insert(id, (part, is_healthy));
                }
                touched
            }
            FleetMessage::Gone(node, Some(part)) => {
                self.reporters.get_mut(&node).map(|reporter| reporter.remove(part)).unwrap_or_default()
            }
            FleetMessage::Gone(node, None) => {
                let gone = self.reporters.remove(&node);
                gone.map(|reporter| reporter.verdicts.into_keys().collect()).unwrap_or_default()
            }
        }
    }

    /// Finds the AZs of the nodes again, with the AZs of a new snapshot. Returns true if one has changed.
    pub fn find_azs(&mut self, azs: &Azs) -> bool {
        let mut is_changed = false;
        for reporter in self.reporters.values_mut() {
            let az = reporter.az_id.as_deref().and_then(|id| azs.find(id));
            is_changed |= az != reporter.az;
            reporter.az = az;
        }
        is_changed
    }

    /// Returns the [clients] for which a target is unhealthy, and the number of reporters. `own` is this node's own vote.
    pub fn judge(&self, id: &TargetId, own: Option<Vote>, quorum: f64) -> (u64, FleetReport) {
        let others = self.reporters.values().filter_map(|reporter| {
            let (_, is_healthy) = reporter.verdicts.get(id)?;
            Some((reporter.az, *is_healthy))
        });
        judge(others.chain(own), quorum)
    }
}

impl Reporter {
    /// Removes the verdicts of a part, and returns their targets.
    fn remove(&mut self, part: u8) -> HashSet<TargetId> {
        let of_part = self.verdicts.iter().filter(|(_, (of, _))| *of == part);
        let removed: HashSet<TargetId> = of_part.map(|(id, _)| id.clone()).collect();
        self.verdicts.retain(|_, (of, _)| *of != part);
        removed
    }
}

fn judge(votes: impl Iterator<Item = Vote>, quorum: f64) -> (u64, FleetReport) {
    /// Number of reporters, and of those that say healthy.
    type Count = (u16, u16);
    let mut all: Count = (0, 0);
    let mut of_azs: HashMap<u64, Count> = HashMap::new();
    for (az, is_healthy) in votes {
        let own = match clients::in_az(az) {
            clients::OTHERS => None,
            bit => Some(of_azs.entry(bit).or_default()),
        };
        for count in own.into_iter().chain([&mut all]) {
            *count = (count.0.saturating_add(1), count.1.saturating_add(u16::from(is_healthy)));
        }
    }
    // Without a reporter, nothing is known, and the target counts as healthy.
    let is_healthy = |(reporters, healthy): Count| {
        reporters == 0 || healthy > 0 && f64::from(healthy) > quorum * f64::from(reporters)
    };
    let mut unhealthy_for = if is_healthy(all) { clients::NONE } else { clients::ALL };
    for (bit, count) in of_azs {
        match is_healthy(count) {
            true => unhealthy_for &= !bit,
            false => unhealthy_for |= bit,
        }
    }
    (unhealthy_for, FleetReport { reporters: all.0, healthy: all.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reporters_of_the_clients_az_decide_and_else_all() {
        let (up, down) = (true, false);
        let quorum = 0.18;
        let judged = |votes: &[Vote]| judge(votes.iter().copied(), quorum).0;
        assert_eq!(judged(&[]), clients::NONE, "nobody knows");
        assert_eq!(judged(&[(None, down)]), clients::ALL);
        assert_eq!(judged(&[(None, down), (None, up)]), clients::NONE, "one of two is more than 18 %");
        // 1 of 5 is more than 18 %, 1 of 6 is not.
        let votes = |number: usize| {
            let mut votes = vec![(None, down); number - 1];
            votes.push((None, up));
            votes
        };
        assert_eq!((judged(&votes(5)), judged(&votes(6))), (clients::NONE, clients::ALL));
        // The AZ that sees the target down does not use it; all others do.
        let split = judged(&[(Some(1), down), (Some(2), up)]);
        assert_eq!(split, clients::in_az(Some(1)));
        let mostly_down =
            judged(&[(Some(1), up), (Some(2), down), (Some(2), down), (None, down), (Some(3), down), (Some(3), down)]);
        assert_eq!(mostly_down, clients::ALL & !clients::in_az(Some(1)));
        // AZs without a bit of their own count as all others.
        assert_eq!(judged(&[(Some(63), down), (Some(70), up)]), clients::NONE);
    }

    #[test]
    fn follows_nodes_that_come_change_and_go() {
        let mut azs = Azs::default();
        let az = azs.number("az1");
        let mut fleet = Fleet::default();
        let [a, b] = ["a", "b"].map(|id| TargetId::Check(id.into()));
        let unhealthy_for = |fleet: &Fleet, id: &TargetId| fleet.judge(id, None, 0.18).0;
        fleet.apply(FleetMessage::Node("n1".into(), Some("az1".into())), &azs);
        let touched =
            fleet.apply(FleetMessage::Part("n1".into(), 3, vec![(a.clone(), false), (b.clone(), true)]), &azs);
        assert_eq!(touched, HashSet::from([a.clone(), b.clone()]));
        assert_eq!((unhealthy_for(&fleet, &a), unhealthy_for(&fleet, &b)), (clients::ALL, clients::NONE));
        fleet.apply(FleetMessage::Part("n2".into(), 3, vec![(a.clone(), true)]), &azs);
        assert_eq!(unhealthy_for(&fleet, &a), clients::in_az(Some(az)), "n2 has no AZ yet");
        let touched = fleet.apply(FleetMessage::Part("n1".into(), 3, vec![(a.clone(), true)]), &azs);
        assert_eq!(touched, HashSet::from([a.clone(), b.clone()]));
        assert_eq!(unhealthy_for(&fleet, &a), clients::NONE);
        assert_eq!(fleet.apply(FleetMessage::Gone("n1".into(), Some(3)), &azs), HashSet::from([a.clone()]));
        assert_eq!(fleet.judge(&a, None, 0.18).1, FleetReport { reporters: 1, healthy: 1 });
        assert_eq!(fleet.apply(FleetMessage::Gone("n2".into(), None), &azs), HashSet::from([a]));
        assert_eq!(fleet.nodes(), 1);
        // An AZ that the manifest gets later.
        fleet.apply(FleetMessage::Node("n1".into(), Some("az2".into())), &azs);
        azs.number("az2");
        assert!(fleet.find_azs(&azs) && !fleet.find_azs(&azs));
        assert!(part_of(&b) < PARTS);
    }
}
