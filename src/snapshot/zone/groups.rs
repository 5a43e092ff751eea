//! Groups of record sets with one name and type. A routing policy chooses among them for each query.
//!
//! The zone has one set without records at the name ([`Set::group`]). The members are nodes of their own in the zone's block,
//! and no name leads to them. A choice reads verdicts and compares ranks, and does not allocate.

use super::{Node, Zone};
use crate::{
    manifest::{
        Id, ResourceRecordSet,
        routing_policies::{FailoverType, LocationType},
    },
    snapshot::{
        health::{TargetId, Targets, Verdict},
        regions::{self, Region, distance, partition},
    },
    wire::Name,
};
use std::sync::Arc;

/// The largest number of record sets in one multivalue answer, as in Route 53.
pub const MAX_ANSWERED: usize = 8;
/// The largest number of members of a group, as in Route 53.
pub const MAX_MEMBERS: usize = 100;

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    /// The policy of all members.
    pub policy: Policy,
    /// The members, in the order of the manifest.
    pub members: Box<[Member]>,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its `set_identifier`.
    pub identifier: Box<str>,
    /// Its records or its alias.
    pub content: Content,
    /// The values of its policy.
    pub rule: Rule,
    /// Its health check.
    pub health_check: Option<Id>,
    /// The verdict of its health check. None without one: it is healthy.
    pub verdict: Option<Verdict>,
}

/// The content of a member.
#[derive(Clone, Debug)]
pub enum Content {
    /// Records, as the offset of its node in the zone's block.
    Records(u32),
    /// An alias.
    Alias {
        /// The target.
        target: Name,
        /// Whether it is healthy only while its target is.
        evaluate_target_health: bool,
    },
}

/// The policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A random member, by weight.
    Weighted,
    /// The primary member if it is healthy, else the secondary one.
    Failover,
    /// Several healthy members together.
    Multivalue,
    /// The member in the nearest Region.
    Latency,
    /// The member with the smallest area that contains the client.
    Geolocation,
    /// The member with the smallest distance, with a bias.
    Geoproximity,
    /// The member with the smallest location that contains the client.
    AzAffinity,
}

impl Policy {
    /// Its name, as in the names of manifest fields.
    pub fn word(self) -> &'static str {
        match self {
            Policy::Weighted => "weighted",
            Policy::Failover => "failover",
            Policy::Multivalue => "multivalue answer",
            Policy::Latency => "latency",
            Policy::Geolocation => "geolocation",
            Policy::Geoproximity => "geoproximity",
            Policy::AzAffinity => "AZ affinity",
        }
    }
}

/// The values of a policy for one member.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Its weight.
    Weight(u8),
    /// Primary or secondary.
    Failover(FailoverType),
    /// No values.
    Multivalue,
    /// Its Region; none for an unknown Region, which counts as the farthest one.
    Latency(Box<str>, Option<&'static Region>),
    /// Continent, country and subdivision; all empty for `*`.
    Geolocation([Box<str>; 3]),
    /// Its coordinates, and the factor of the distance.
    Geoproximity(Option<(f32, f32)>, f32),
    /// The kind of location, and the location.
    AzAffinity(LocationType, Box<str>),
}

/// The location of a client, as far as routing policies depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientPlace<'s> {
    /// The AZ ID; none if it is not known.
    pub az: Option<&'s str>,
    /// The Region of its VPC, or of the VPC whose view it has.
    pub region: &'s str,
    /// Coordinates of an on-premises network, in degrees north and degrees east.
    pub coordinates: Option<(f32, f32)>,
}

impl ClientPlace<'_> {
    fn coordinates(&self) -> Option<(f32, f32)> {
        self.coordinates.or_else(|| regions::find(self.region).map(|region| region.coordinates))
    }
}

impl Rule {
    /// The rule of a record set. Its policy is checked before.
    pub fn of(set: &ResourceRecordSet) -> Option<Rule> {
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        if let Some(policy) = &set.weighted_routing_policy {
            return Some(Rule::Weight(policy.weight));
        }
        if let Some(policy) = &set.failover_routing_policy {
            return Some(Rule::Failover(policy.failover_type));
        }
        if set.multivalue_answer_routing_policy {
            return Some(Rule::Multivalue);
        }
        if let Some(policy) = &set.latency_routing_policy {
            return Some(Rule::Latency(policy.region.as_str().into(), regions::find(&policy.region)));
        }
        if let Some(policy) = &set.geolocation_routing_policy {
            let country = policy.country.as_deref().filter(|country| *country != "*").unwrap_or_default().into();
            return Some(Rule::Geolocation([text(&policy.continent), country, text(&policy.subdivision)]));
        }
        if let Some(policy) = &set.geoproximity_routing_policy {
            let of_region = || regions::find(policy.aws_region.as_deref()?).map(|region| region.coordinates);
            let place = policy.coordinates.map(|place| (place.latitude, place.longitude)).or_else(of_region);
            return Some(Rule::Geoproximity(place, 1.0 - f32::from(policy.bias) / 100.0));
        }
        let policy = set.az_affinity_routing_policy.as_ref()?;
        Some(Rule::AzAffinity(policy.location_type, policy.location_id.as_str().into()))
    }

    /// The policy that it belongs to.
    pub fn policy(&self) -> Policy {
        match self {
            Rule::Weight(_) => Policy::Weighted,
            Rule::Failover(_) => Policy::Failover,
            Rule::Multivalue => Policy::Multivalue,
            Rule::Latency(..) => Policy::Latency,
            Rule::Geolocation(_) => Policy::Geolocation,
            Rule::Geoproximity(..) => Policy::Geoproximity,
            Rule::AzAffinity(..) => Policy::AzAffinity,
        }
    }

    /// The rank of the member for a client: the member with the smallest rank answers. None if the member is not for the client.
    /// Weighted and multivalue members have rank 0.
    pub fn rank(&self, client: &ClientPlace) -> Option<f32> {
        const FAR: f32 = f32::MAX;
        match self {
            Rule::Weight(_) | Rule::Multivalue => Some(0.0),
            Rule::Failover(FailoverType::Primary) => Some(0.0),
            Rule::Failover(FailoverType::Secondary) => Some(1.0),
            Rule::Latency(name, _) if **name == *client.region && client.coordinates.is_none() => Some(-1.0),
            Rule::Latency(_, region) => Some(
                region.zip(client.coordinates()).map_or(FAR, |(region, client)| distance(region.coordinates, client)),
            ),
            Rule::Geoproximity(place, factor) => {
                Some(place.zip(client.coordinates()).map_or(FAR, |(place, client)| distance(place, client) * factor))
            }
            Rule::Geolocation([continent, country, subdivision]) => {
                if continent.is_empty() && country.is_empty() {
                    return Some(3.0);
                }
                let region = regions::find(client.region)?;
                match (&**continent, &**country, &**subdivision) {
                    (_, country, "") if !country.is_empty() => (country == region.country).then_some(1.0),
                    (_, country, subdivision) if !country.is_empty() => {
                        (country == region.country && subdivision == region.subdivision).then_some(0.0)
                    }
                    (continent, ..) => (continent == region.continent).then_some(2.0),
                }
            }
            Rule::AzAffinity(location_type, id) => match location_type {
                LocationType::AvailabilityZone => client.az.is_some_and(|az| az == &**id).then_some(0.0),
                // Every AZ of a Region that is not in a Local Zone is in the first group: `us-east-1-zg-1`.
                LocationType::AvailabilityZoneGroup => {
                    let group = id.strip_suffix("-zg-1").is_some_and(|region| region == client.region);
                    (group && client.az.is_some()).then_some(1.0)
                }
                LocationType::Region => (**id == *client.region).then_some(2.0),
                LocationType::Partition => (**id == *partition(client.region)).then_some(3.0),
                LocationType::Global => Some(4.0),
            },
        }
    }
}

/// The members of a group that answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One member.
    One(usize),
    /// Several members, in rotation.
    Several {
        /// The first one.
        first: usize,
        /// Whether only healthy members answer.
        healthy_only: bool,
    },
    /// No member is for the client.
    None,
}

impl Group {
    /// Chooses for a client. `is_healthy` says whether a member is healthy, and `draw` decides shares.
    pub fn choose(&self, client: &ClientPlace, is_healthy: impl Fn(usize) -> bool, draw: u32) -> Choice {
        match self.policy {
            Policy::Weighted => self.choose_by_weight(is_healthy, draw),
            Policy::Multivalue => {
                let count = self.members.len();
                let first = if count == 0 { return Choice::None } else { draw as usize % count };
                Choice::Several { first, healthy_only: (0..count).any(is_healthy) }
            }
            _ => {
                let ranked =
                    || (0..self.members.len()).filter_map(|at| Some((at, self.members[at].rule.rank(client)?)));
                // Of equal ranks, the first one.
                let nearest = |best: Option<(usize, f32)>, next: (usize, f32)| match best {
                    Some((_, rank)) if rank <= next.1 => best,
                    _ => Some(next),
                };
                let healthy = ranked().filter(|(at, _)| is_healthy(*at)).fold(None, nearest);
                healthy.or_else(|| ranked().fold(None, nearest)).map_or(Choice::None, |(at, _)| Choice::One(at))
            }
        }
    }

    /// Chooses by weight among the healthy members; if none is healthy, among all. A member of weight 0 answers only if all
    /// candidates have weight 0. Then each of them has the same chance.
    fn choose_by_weight(&self, is_healthy: impl Fn(usize) -> bool, draw: u32) -> Choice {
        let weight = |at: usize| match self.members[at].rule {
            Rule::Weight(weight) => u32::from(weight),
            _ => 0,
        };
        let count = self.members.len();
        let any_healthy = (0..count).any(&is_healthy);
        let may = |at: &usize| !any_healthy || is_healthy(*at);
        let sum: u32 = (0..count).filter(may).map(weight).sum();
        // The draws of a worker count up: their order must not show in the choices.
        let mixed = mix(draw);
        if sum == 0 {
            let candidates = (0..count).filter(may).count() as u64;
            let at = ((u64::from(mixed) * candidates) >> 32) as usize;
            return (0..count).filter(may).nth(at).map_or(Choice::None, Choice::One);
        }
        let mut left = ((u64::from(mixed) * u64::from(sum)) >> 32) as u32;
        for at in (0..count).filter(may) {
            match left.checked_sub(weight(at)) {
                Some(rest) => left = rest,
                None => return Choice::One(at),
            }
        }
        Choice::None
    }

    /// The values of the policy for a member, as text.
    pub fn described(&self, at: usize, rank: f32) -> String {
        match &self.members[at].rule {
            Rule::Weight(weight) => {
                let sum: u32 =
                    self.members.iter().map(|other| if let Rule::Weight(w) = other.rule { w.into() } else { 0 }).sum();
                format!("weight {weight} of {sum}")
            }
            Rule::Failover(failover_type) => failover_type.to_string(),
            Rule::Multivalue => "one of up to 8".into(),
            Rule::Latency(region, _) if rank < 0.0 => format!("{region}, the client's Region"),
            Rule::Latency(region, _) if rank == f32::MAX => format!("{region}, at an unknown distance"),
            Rule::Latency(region, _) => format!("{region}, {rank:.0} km away"),
            Rule::Geoproximity(..) if rank == f32::MAX => "at an unknown distance".into(),
            Rule::Geoproximity(_, factor) => format!("{rank:.0} km away, with the factor {factor:.2}"),
            Rule::Geolocation(parts) => {
                let parts: Vec<&str> = parts.iter().map(|part| &**part).filter(|part| !part.is_empty()).collect();
                if parts.is_empty() { "for all places".into() } else { format!("for {}", parts.join(" ")) }
            }
            Rule::AzAffinity(location_type, id) => format!("{location_type} {id}"),
        }
    }

    /// The members of a choice.
    pub fn chosen(&self, choice: Choice, is_healthy: impl Fn(usize) -> bool) -> impl Iterator<Item = usize> {
        let count = self.members.len();
        let (first, length, healthy_only) = match choice {
            Choice::One(at) => (at, 1, false),
            Choice::Several { first, healthy_only } => (first, count, healthy_only),
            Choice::None => (0, 0, false),
        };
        let all = (0..length).map(move |n| (first + n) % count.max(1));
        all.filter(move |at| !healthy_only || is_healthy(*at)).take(MAX_ANSWERED)
    }
}

/// Maps the numbers of a counter to evenly distributed numbers.
fn mix(draw: u32) -> u32 {
    let mut x = draw.wrapping_mul(0x9e37_79b9);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

impl Zone {
    /// The group with a number.
    pub fn group(&self, number: usize) -> Option<&Group> {
        self.groups.get(number)
    }

    /// Whether it has groups.
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The node with the records of a member.
    pub fn member_node(&self, at: u32) -> Node<'_> {
        Node { zone: self, block: &self.block, at: at as usize }
    }

    /// The same zone with the verdicts of these targets; none if it has them already.
    pub fn with_verdicts(&self, targets: &Targets) -> Option<Zone> {
        let verdict = |member: &Member| {
            let id = TargetId::Check(member.health_check.clone()?);
            targets.get(&id).map(|target| target.verdict.clone())
        };
        if self.groups.iter().flat_map(|group| &group.members).all(|member| member.verdict == verdict(member)) {
            return None;
        }
        let mut groups: Vec<Group> = self.groups.to_vec();
        for member in groups.iter_mut().flat_map(|group| group.members.iter_mut()) {
            member.verdict = verdict(member);
        }
        Some(Zone { groups: Arc::from(groups), ..self.clone() })
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
