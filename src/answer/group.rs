//! Answers from a group of record sets, in which a routing policy chooses
//! (docs/concepts/which-answer.md, "Routing policies").

use super::{
    context::Context,
    explanation::checked,
    known::KnownAnswers,
    resolve::{Decision, Resolver},
    trace::{Stage, Trace},
};
use crate::{
    snapshot::{
        Snapshot,
        aliases::MAX_ALIASES,
        endpoints::{Az, Family},
        zone::{
            Search, Set, Zone,
            groups::{Choice, ClientPlace, Content, Group, Member},
        },
    },
    wire::{
        Name,
        codes::rcode,
        query::LookupName,
        rdata::{rtype, type_to_text},
        reply::{Full, Section},
    },
};
use std::cell::Cell;

/// Maximum number of record sets that one query reads to determine the health of alias targets.
/// Beyond it, a target counts as healthy, so that a tree of groups cannot make a query expensive.
const MAX_LOOKS: u32 = 1000;

/// Health of members and alias targets, for one query.
struct Health<'s> {
    snapshot: &'s Snapshot,
    /// The client's AZ.
    client: Option<Az>,
    looks: Cell<u32>,
}

impl<'s> Health<'s> {
    #[inline]
    fn of_member(&self, zone: &'s Zone, group: &'s Group, at: usize, rtype: u16, depth: usize) -> bool {
        self.looks.set(self.looks.get() + 1);
        group.verdict(at).is_none_or(|verdict| verdict.is_healthy_for(self.client))
            && (group.records(at).is_some() || self.of_alias(zone, &group.members[at], rtype, depth))
    }

    fn of_alias(&self, zone: &'s Zone, member: &'s Member, rtype: u16, depth: usize) -> bool {
        let follows = self.looks.get() <= MAX_LOOKS && depth <= MAX_ALIASES;
        match &member.content {
            Content::Alias { target, evaluate_target_health: true } if follows => {
                self.of_target(zone, target, rtype, depth + 1)
            }
            _ => true,
        }
    }

    /// Whether at least one record set or interface at the target of an alias is healthy.
    fn of_target(&self, zone: &'s Zone, target: &Name, rtype: u16, depth: usize) -> bool {
        let Some(name) = LookupName::new(target.as_wire()) else { return false };
        let public = (0..name.labels()).find_map(|skip| self.snapshot.endpoints.public.find(&name, skip));
        if let Some(endpoint) = public.and_then(|public| self.snapshot.endpoints.get(public.slot)) {
            let family = if rtype == rtype::AAAA { Family::V6 } else { Family::V4 };
            return endpoint
                .interfaces
                .iter()
                .any(|interface| interface.address(family).is_some() && interface.is_healthy(family, self.client));
        }
        let is_ours =
            name.labels() >= zone.apex_labels() && *name.suffix(name.labels() - zone.apex_labels()) == *zone.apex;
        let (true, Search::Node(node) | Search::Wildcard(node)) = (is_ours, zone.search(&name)) else { return false };
        let Some(set) = node.set(rtype) else { return false };
        match (set.group().and_then(|number| zone.group(number)), set.alias()) {
            (Some(group), _) => (0..group.members.len()).any(|at| self.of_member(zone, group, at, rtype, depth)),
            (None, Some(number)) if depth <= MAX_ALIASES => self.of_target(zone, zone.alias(number), rtype, depth + 1),
            (None, _) => true,
        }
    }
}

impl<'s, K: KnownAnswers, T: Trace> Resolver<'_, 's, '_, K, T> {
    /// Answers with the record sets that the policy of a group chooses for the client.
    #[inline(never)]
    pub fn group(&mut self, zone: &'s Zone, set: Set<'s>, apex: usize, depth: usize) -> Result<Decision<'s>, Full> {
        let Some(group) = set.group().and_then(|number| zone.group(number)) else {
            return self.no_data(zone, apex);
        };
        let rtype = set.rtype();
        let Context { snapshot, matched, .. } = self.context;
        let health = Health { snapshot, client: matched.az, looks: Cell::new(0) };
        let is_healthy = |at: usize| health.of_member(zone, group, at, rtype, 0);
        let place = if group.policy.depends_on_place() { client_place(&self.context) } else { ClientPlace::default() };
        self.summary.scope = self.summary.scope.max(group.scope(&place));
        let choice = group.choose(&place, is_healthy, self.context.moment.draw);
        let context = &self.context;
        self.trace
            .notes(Stage::Zone, || explanation(group, &client_place(context), choice, context.moment.now, is_healthy));
        let before = self.reply.count(Section::Answer);
        for at in group.chosen(choice, is_healthy) {
            let Some(node) = group.records(at) else {
                match &group.members[at].content {
                    Content::Alias { target, .. } if depth < MAX_ALIASES => {
                        return self.alias_to(zone, rtype, target, apex, depth + 1);
                    }
                    _ => break,
                }
            };
            let Some(records) = zone.member_set(node) else { continue };
            if rtype == rtype::CNAME {
                let start = records.write(&mut self.reply, Section::Answer, self.name_at, apex)?;
                return Ok(match self.qtype {
                    rtype::CNAME | rtype::ANY => Decision::Answered(rcode::NOERROR),
                    _ => Decision::Target(start + 12),
                });
            }
            self.answer_set(records, apex)?;
        }
        if self.reply.count(Section::Answer) == before {
            return self.no_data(zone, apex);
        }
        Ok(Decision::Answered(rcode::NOERROR))
    }

    fn no_data(&mut self, zone: &'s Zone, apex: usize) -> Result<Decision<'s>, Full> {
        let qtype = self.qtype;
        self.trace.note(Stage::Zone, || format!("no {} records are for this client: NODATA", type_to_text(qtype)));
        self.negative(zone, apex)?;
        Ok(Decision::Answered(rcode::NOERROR))
    }
}

/// Returns the location of the client: of its own network, or of the VPC whose view it has.
fn client_place<'s>(context: &Context<'s>) -> ClientPlace<'s> {
    let (networks, matched) = (&context.snapshot.networks, &context.matched);
    let own = matched.network.map(|network| networks.info(network));
    let vpc = own.and_then(|own| own.vpc.as_deref()).or_else(|| networks.vpc(matched.vpc));
    ClientPlace {
        az: matched.az.map(|az| context.snapshot.azs.id(az)),
        region: vpc.map_or("", |vpc| &vpc.region),
        coordinates: own.and_then(|own| own.coordinates),
        prefix: Some(context.prefix),
    }
}

/// Returns the lines of `zonal explain` about a group: the choice with its reason, and each member.
fn explanation(
    group: &Group,
    place: &ClientPlace,
    choice: Choice,
    now: i64,
    is_healthy: impl Fn(usize) -> bool + Copy,
) -> Vec<String> {
    let chosen: Vec<usize> = group.chosen(choice, is_healthy).collect();
    let any_healthy = (0..group.members.len()).any(is_healthy);
    let fails_open = if any_healthy { "" } else { "; no member is healthy, so all count as healthy" };
    let region = if place.region.is_empty() { "unknown" } else { place.region };
    let az = place.az.unwrap_or("unknown");
    let mut lines = vec![format!(
        "{} routing of {} record sets, for a client in Region {region}, AZ {az}{fails_open}",
        group.policy.word(),
        group.members.len()
    )];
    for (at, member) in group.members.iter().enumerate() {
        let health = match (&member.health_check, is_healthy(at)) {
            (None, true) => "healthy, without a health check".to_string(),
            (None, false) => "unhealthy, as its target is".into(),
            (Some(check), is_healthy) => {
                let word = if is_healthy { "healthy" } else { "unhealthy" };
                let why = group.verdict(at).map(|verdict| format!(" ({})", checked(verdict, now)));
                format!("{word} by {check}{}", why.unwrap_or_default())
            }
        };
        let rule = match group.rank(at, place) {
            None => "not for this client".to_string(),
            Some(rank) => group.described(at, rank, place),
        };
        let outcome = if chosen.contains(&at) { "answers" } else { "not chosen" };
        lines.push(format!("`{}`: {health}; {rule}: {outcome}", member.identifier));
    }
    lines
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
