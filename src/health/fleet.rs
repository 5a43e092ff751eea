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

/// The part that has the verdict of a target. All nodes must agree on it.
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
    /// The verdicts, by their parts.
    parts: HashMap<u8, HashMap<TargetId, bool>>,
}

/// The other nodes.
#[derive(Debug, Default)]
pub struct Fleet {
    /// The nodes that share their verdicts. None if they are not known: this node decides alone.
    reporters: Option<HashMap<Box<str>, Reporter>>,
}

/// The targets whose verdicts may have changed.
#[derive(Debug, PartialEq)]
pub enum Touched {
    /// All targets.
    All,
    /// These targets.
    Some(HashSet<TargetId>),
}

impl Fleet {
    /// Whether the verdicts of other nodes are known.
    pub fn is_known(&self) -> bool {
        self.reporters.is_some()
    }

    /// Number of other nodes.
    pub fn nodes(&self) -> usize {
        self.reporters.as_ref().map_or(0, HashMap::len)
    }

    /// Applies messages about other nodes. A list of all keys is one call: each target is judged once after it, not once for
    /// each node.
    pub fn apply(&mut self, messages: Vec<FleetMessage>, azs: &Azs) -> Touched {
        let mut is_all = false;
        let mut touched = HashSet::new();
        for message in messages {
            match (message, &mut self.reporters) {
                (FleetMessage::Connected, reporters) => (*reporters, is_all) = (Some(HashMap::new()), true),
                (FleetMessage::Lost, reporters) => (*reporters, is_all) = (None, true),
                (_, None) => {}
                (FleetMessage::Node(node, az_id), Some(reporters)) => {
                    let reporter = reporters.entry(node).or_default();
                    reporter.az = az_id.as_deref().and_then(|id| azs.find(id));
                    reporter.az_id = az_id;
                    touched.extend(reporter.parts.values().flat_map(HashMap::keys).cloned());
                }
                (FleetMessage::Part(node, part, verdicts), Some(reporters)) => {
                    touched.extend(verdicts.iter().map(|(id, _)| id.clone()));
                    let before = reporters.entry(node).or_default().parts.insert(part, verdicts.into_iter().collect());
                    touched.extend(before.into_iter().flat_map(HashMap::into_keys));
                }
                (FleetMessage::Gone(node, Some(part)), Some(reporters)) => {
                    let gone = reporters.get_mut(&node).and_then(|reporter| reporter.parts.remove(&part));
                    touched.extend(gone.into_iter().flat_map(HashMap::into_keys));
                }
                (FleetMessage::Gone(node, None), Some(reporters)) => {
                    let gone = reporters.remove(&node).into_iter().flat_map(|reporter| reporter.parts.into_values());
                    touched.extend(gone.flat_map(HashMap::into_keys));
                }
            }
        }
        if is_all { Touched::All } else { Touched::Some(touched) }
    }

    /// Finds the AZs of the nodes again, with the AZs of a new snapshot. Returns true if one has changed.
    pub fn find_azs(&mut self, azs: &Azs) -> bool {
        let mut is_changed = false;
        for reporter in self.reporters.iter_mut().flat_map(HashMap::values_mut) {
            let az = reporter.az_id.as_deref().and_then(|id| azs.find(id));
            is_changed |= az != reporter.az;
            reporter.az = az;
        }
        is_changed
    }

    /// Returns the [clients] for which a target is unhealthy, and the number of reporters. `own` is this node's own vote.
    pub fn judge(&self, id: &TargetId, own: Option<Vote>, quorum: f64) -> (u64, FleetReport) {
        let part = part_of(id);
        let others = self.reporters.iter().flat_map(HashMap::values).filter_map(|reporter| {
            let is_healthy = reporter.parts.get(&part)?.get(id)?;
            Some((reporter.az, *is_healthy))
        });
        judge(others.chain(own), quorum)
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
        // Two targets in one part.
        let all = (0..).map(|number| TargetId::Check(format!("hc-{number}")));
        let [a, b]: [TargetId; 2] = all.filter(|id| part_of(id) == 3).take(2).collect::<Vec<_>>().try_into().unwrap();
        let unhealthy_for = |fleet: &Fleet, id: &TargetId| fleet.judge(id, None, 0.18).0;
        let touched = |ids: &[&TargetId]| Touched::Some(ids.iter().copied().cloned().collect());
        let node = |az_id: &str| FleetMessage::Node("n1".into(), Some(az_id.into()));
        let part = |node: &str, verdicts: &[(&TargetId, bool)]| {
            FleetMessage::Part(node.into(), 3, verdicts.iter().map(|(id, is)| (TargetId::clone(id), *is)).collect())
        };
        assert_eq!(fleet.apply(vec![part("n1", &[(&a, false)])], &azs), touched(&[]), "nothing is known yet");
        assert_eq!(fleet.apply(vec![FleetMessage::Connected, node("az1")], &azs), Touched::All);
        assert_eq!(fleet.apply(vec![part("n1", &[(&a, false), (&b, true)])], &azs), touched(&[&a, &b]));
        assert_eq!((unhealthy_for(&fleet, &a), unhealthy_for(&fleet, &b)), (clients::ALL, clients::NONE));
        fleet.apply(vec![part("n2", &[(&a, true)])], &azs);
        assert_eq!(unhealthy_for(&fleet, &a), clients::in_az(Some(az)), "n2 has no AZ yet");
        assert_eq!(fleet.apply(vec![part("n1", &[(&a, true)])], &azs), touched(&[&a, &b]));
        assert_eq!(unhealthy_for(&fleet, &a), clients::NONE);
        assert_eq!(fleet.apply(vec![FleetMessage::Gone("n1".into(), Some(3))], &azs), touched(&[&a]));
        assert_eq!(fleet.judge(&a, None, 0.18).1, FleetReport { reporters: 1, healthy: 1 });
        assert_eq!(fleet.apply(vec![FleetMessage::Gone("n2".into(), None)], &azs), touched(&[&a]));
        assert_eq!(fleet.nodes(), 1);
        // An AZ that the manifest gets later.
        fleet.apply(vec![node("az2")], &azs);
        azs.number("az2");
        assert!(fleet.find_azs(&azs) && !fleet.find_azs(&azs));
        assert_eq!(fleet.apply(vec![FleetMessage::Lost], &azs), Touched::All);
        assert!(!fleet.is_known() && fleet.nodes() == 0);
    }

    #[test]
    fn a_list_of_many_nodes_touches_each_target_once() {
        const NODES: usize = 50;
        const TARGETS: usize = 1000;
        let ids: Vec<TargetId> = (0..TARGETS).map(|number| TargetId::Check(format!("hc-{number}"))).collect();
        let list = || {
            (0..NODES).flat_map(|node| {
                let name: Box<str> = format!("n{node}").into();
                let parts = (0..PARTS).map(|part| {
                    let of_part = ids.iter().filter(|id| part_of(id) == part).map(|id| (id.clone(), true)).collect();
                    FleetMessage::Part(name.clone(), part, of_part)
                });
                parts.chain([FleetMessage::Node(name.clone(), None)]).collect::<Vec<_>>()
            })
        };
        let count = |touched: Touched| match touched {
            Touched::All => TARGETS,
            Touched::Some(ids) => ids.len(),
        };
        let azs = Azs::default();
        let connect = |messages: Vec<FleetMessage>| {
            let mut fleet = Fleet::default();
            (count(fleet.apply(messages, &azs)), fleet)
        };
        let (judged, fleet) = connect([FleetMessage::Connected].into_iter().chain(list()).collect());
        assert_eq!((judged, fleet.nodes()), (TARGETS, NODES));
        // A list that comes later, in one watch response.
        let mut fleet = connect(vec![FleetMessage::Connected]).1;
        assert_eq!(count(fleet.apply(list().collect(), &azs)), TARGETS);
        let report = FleetReport { reporters: NODES as u16, healthy: NODES as u16 };
        assert!(ids.iter().all(|id| fleet.judge(id, None, 0.18) == (clients::NONE, report)));
    }
}
