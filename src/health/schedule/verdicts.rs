//! The verdicts of the schedule: from attempts, other checks, reports and other nodes.

use super::*;
use crate::snapshot::Snapshot;

/// Number of bits in a set of [clients].
const CLIENT_BITS: u32 = u64::BITS;

impl Schedule {
    /// Computes the verdicts of targets, and of the checks that depend on them.
    pub(super) fn review(&mut self, ids: Vec<TargetId>) {
        ids.iter().for_each(|id| self.publish(id));
        self.settle(ids);
    }

    /// Computes the verdict of a target, and writes it for answers.
    pub(super) fn publish(&mut self, id: &TargetId) {
        let Some(tracked) = self.tracked.get(id) else { return };
        let (instant, time) = (Instant::now(), now());
        let target = &tracked.target;
        // The state of the target, the clients for which it is unhealthy, and the votes of the fleet.
        let alone = |state: State| (state, if state.counts_as_healthy() { clients::NONE } else { clients::ALL }, None);
        let (state, unhealthy_for, fleet) = match &target.work {
            Work::Probe(_) => {
                let state = tracked.history.state();
                match self.fleet.is_known() && !target.disabled {
                    true => {
                        let quorum = self.context.settings.quorum;
                        let (unhealthy_for, report) = self.fleet.judge(id, self.own_vote(state), quorum);
                        (state, unhealthy_for, Some(report))
                    }
                    false => alone(state),
                }
            }
            Work::Calculated { children, threshold } => {
                let unhealthy_for = self.count(children, *threshold) ^ if target.inverted { clients::ALL } else { 0 };
                (state_of(unhealthy_for & clients::OTHERS == 0), unhealthy_for, None)
            }
            Work::External { stale_after, when_stale } => {
                let known = tracked.reported.map(|reported| {
                    let is_fresh = |at: Instant| reported.is_leased || stale_after.is_none_or(|age| instant < at + age);
                    (reported.is_healthy, reported.at.is_some_and(is_fresh))
                });
                let known = match (known, when_stale) {
                    (Some((is_healthy, true)), _) => Some(is_healthy),
                    (known, WhenStale::LastKnown) => known.map(|(is_healthy, _)| is_healthy),
                    (_, WhenStale::Healthy) => Some(true),
                    (_, WhenStale::Unhealthy) => Some(false),
                };
                alone(known.map(|is_healthy| state_of(is_healthy != target.inverted)).unwrap_or_default())
            }
        };
        let mut report = target.verdict.report();
        if !matches!(target.work, Work::Probe(_)) && report.state != state {
            (report.state, report.since) = (state, time);
        }
        report.fleet = fleet.filter(|fleet: &FleetReport| fleet.reporters > 0);
        if report.forced.is_some_and(|forced| time >= forced.until) {
            report.forced = None;
        }
        let forced = report.forced.map(|forced| forced.is_healthy);
        drop(report);
        let is_probe = matches!(target.work, Work::Probe(_));
        match forced {
            Some(is_healthy) => target.verdict.set(is_healthy),
            None if target.disabled => target.verdict.set(!target.inverted),
            None if is_probe && self.isolation.is_frozen() => {
                let since = self.isolation.since();
                if since.is_some_and(|since| instant >= since + self.context.settings.freeze_for) {
                    target.verdict.set(true);
                }
            }
            None => target.verdict.set_unhealthy_for(unhealthy_for),
        }
    }

    /// The clients for which fewer than `threshold` of these checks are healthy.
    fn count(&self, children: &[String], threshold: u16) -> u64 {
        let verdicts: Vec<u64> = children
            .iter()
            .map(|child| self.tracked.get(&TargetId::Check(child.clone())))
            .map(|child| child.map_or(clients::ALL, |child| child.target.verdict.unhealthy_for()))
            .collect();
        let is_enough = |bit: u64| {
            let healthy = verdicts.iter().filter(|unhealthy_for| *unhealthy_for & bit == 0).count();
            healthy >= usize::from(threshold)
        };
        if verdicts.iter().all(|unhealthy_for| matches!(*unhealthy_for, clients::NONE | clients::ALL)) {
            return if is_enough(clients::OTHERS) { clients::NONE } else { clients::ALL };
        }
        let too_few = (0..CLIENT_BITS).map(|bit| 1 << bit).filter(|bit| !is_enough(*bit));
        too_few.fold(clients::NONE, |all, bit| all | bit)
    }

    /// Updates the CALCULATED checks that depend on the changed checks, directly or indirectly.
    ///
    /// The manifest check refuses cycles. A budget bounds the work if a cycle occurs nevertheless.
    pub(super) fn settle(&mut self, changed: Vec<TargetId>) {
        if self.parents.is_empty() {
            return;
        }
        let mut changed: VecDeque<TargetId> = changed.into();
        let mut budget = self.tracked.len() * 2;
        while let Some(id) = changed.pop_front() {
            for parent in self.parents.get(&id).cloned().unwrap_or_default() {
                let Some(tracked) = self.tracked.get(&parent) else { continue };
                let before = tracked.target.verdict.unhealthy_for();
                self.publish(&parent);
                let Some(tracked) = self.tracked.get(&parent) else { continue };
                if tracked.target.verdict.unhealthy_for() != before && budget > 0 {
                    budget -= 1;
                    changed.push_back(parent);
                }
            }
        }
    }

    /// Takes a report for an EXTERNAL check.
    pub(super) fn take_report(&mut self, id: &TargetId, reported: Reported, verb: &str) {
        let instant = Instant::now();
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        let Work::External { stale_after, .. } = &tracked.target.work else { return };
        tracked.reported = Some(reported);
        {
            let mut report = tracked.target.verdict.report();
            let result = format!("{verb} {}", state_of(reported.is_healthy).word()).into();
            let is_success = reported.is_healthy != tracked.target.inverted;
            report.attempts.insert(0, Attempt { at: now(), is_success, result });
            report.attempts.truncate(REMEMBERED_ATTEMPTS);
        }
        if let (Some(age), Some(at)) = (stale_after, reported.at) {
            self.timers.push(at + *age, Due::Review(id.clone()));
        }
        self.review(vec![id.clone()]);
        self.is_changed = true;
        self.store_soon(instant);
    }

    /// Takes a report from the source of the manifest. `None` withdraws it.
    pub(super) fn take_key(&mut self, id: TargetId, report: Option<KeyReport>) {
        match report {
            Some(KeyReport { is_healthy, is_leased }) => {
                let reported = Reported { is_healthy, at: Some(Instant::now()), is_leased };
                self.keys.insert(id.clone(), reported);
                self.take_report(&id, reported, "etcd reports");
            }
            None => {
                let Some(last) = self.keys.remove(&id) else { return };
                let withdrawn = Reported { at: None, is_leased: false, ..last };
                self.take_report(&id, withdrawn, "etcd withdraws");
            }
        }
    }

    /// Applies messages about nodes that share their verdicts.
    pub(super) fn take_messages(&mut self, messages: Vec<FleetMessage>) {
        let snapshot = self.context.snapshot.load_full();
        let touched = match self.fleet.apply(messages, &snapshot.azs) {
            Touched::All => self.tracked.keys().cloned().collect(),
            Touched::Some(ids) => ids.into_iter().collect(),
        };
        self.context.health.counters.reporters.set(self.fleet.nodes() as i64);
        self.review(touched);
    }

    /// This node's own verdict about a target, as a vote.
    fn own_vote(&self, state: State) -> Option<(Option<Az>, bool)> {
        (state != State::Unknown && !self.isolation.is_frozen()).then_some((self.own_az.1, state == State::Healthy))
    }

    /// This node's own verdicts, for other nodes.
    pub(super) fn own_verdicts(&self) -> OwnVerdicts {
        let verdict = |(id, tracked): (&TargetId, &Tracked)| {
            let is_checked = matches!(tracked.target.work, Work::Probe(_)) && !tracked.target.disabled;
            let (_, is_healthy) = self.own_vote(tracked.history.state()).filter(|_| is_checked)?;
            Some((id.clone(), is_healthy))
        };
        OwnVerdicts {
            availability_zone_id: self.own_az.0.clone(),
            verdicts: self.tracked.iter().filter_map(verdict).collect(),
        }
    }

    /// Tells the tasks that share verdicts that this node's own have changed.
    pub(super) fn announce(&self) {
        self.context.health.own_changes.send_modify(|number| *number += 1);
    }

    /// Finds the AZs of this node and of others in a new snapshot.
    pub(super) fn find_azs(&mut self, snapshot: &Snapshot) {
        let settings = &self.context.settings;
        let of_address = |address: &IpAddr| {
            let member = snapshot.networks.holding(*address).iter().find_map(|member| member.subnet)?;
            Some(snapshot.azs.id(snapshot.networks.subnets[member as usize].az).to_string())
        };
        let id = settings.availability_zone_id.clone();
        let id = id.or_else(|| settings.addresses.iter().find_map(of_address));
        let az = id.as_deref().and_then(|id| snapshot.azs.find(id));
        let is_own_changed = self.own_az != (id.clone(), az);
        self.own_az = (id, az);
        let is_other_changed = self.fleet.find_azs(&snapshot.azs);
        if is_own_changed {
            self.announce();
        }
        if is_own_changed || is_other_changed {
            self.review(self.tracked.keys().cloned().collect());
        }
    }
}
