//! Groups of record sets with one name and type. A routing policy chooses among them for each
//! query.
//!
//! The zone has one set without records at the name ([`Set::group`]). The members are separate
//! nodes in the zone's block, and no name leads to them. A choice reads verdicts and compares
//! ranks. It does not allocate.

use super::{CACHE_LINE, Node, NodeAt, Set, Zone};
use crate::{
    manifest::{
        Id, ResourceRecordSet,
        routing_policies::{DEFAULT_LOCATION, FailoverType, LocationType},
    },
    snapshot::{
        cidrs::{CidrTable, CidrTables, ClientPrefix},
        health::{TargetId, Targets, Verdict},
        regions::{self, Region, distance, partition},
    },
    wire::Name,
};
use ipnet::IpNet;
use smallvec::SmallVec;
use std::sync::Arc;

/// Maximum number of record sets in one multivalue answer, as in Route 53.
pub const MAX_ANSWERED: usize = 8;
/// Maximum number of members of a group, as in Route 53.
pub const MAX_MEMBERS: usize = 100;

/// A group of record sets with one name, one type and one routing policy. A query for a group of [`QUICK_MEMBERS`] members
/// reads two cache lines of it.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Group {
    /// Policy of all members.
    pub policy: Policy,
    /// Members in the order of the manifest.
    pub members: Box<[Member]>,
    /// The data that a query reads of each member.
    quick: SmallVec<[QuickMember; QUICK_MEMBERS]>,
    /// For [`Policy::Cidr`], the members by location.
    pub cidrs: Option<Box<CidrMembers>>,
}

/// Usual size of the records of a member in the zone's block, in octets.
const MEMBER_OCTETS: usize = 40;
/// Number of members whose data is in the [`Group`] itself. The data of a larger group is in memory of its own.
const QUICK_MEMBERS: usize = 4;

/// The part of a member that a query reads.
#[derive(Clone, Debug)]
struct QuickMember {
    /// Verdict of the health check. A member without a health check is healthy.
    verdict: Option<Verdict>,
    /// The offset of [`Content::Records`]; [`ALIAS`] for an alias.
    records: u32,
    /// The sum of the weights of the members up to this one. Only members with [`Rule::Weight`] have a weight.
    weights: u16,
}

/// The offset of records of an alias, which has none. A zone's block is smaller.
const ALIAS: u32 = u32::MAX;

/// The members of a group by the locations of a CIDR collection.
#[derive(Clone, Debug)]
pub struct CidrMembers {
    /// Table of the collection.
    table: Arc<CidrTable>,
    /// Member of each location of the table.
    of_location: Box<[Option<u8>]>,
    /// Member for clients in no location.
    default: Option<u8>,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// `set_identifier` of the record set.
    pub identifier: Box<str>,
    /// Records or alias of the member.
    pub content: Content,
    /// Values of the policy for the member.
    pub rule: Rule,
    /// Health check of the member.
    pub health_check: Option<Id>,
}

/// Content of a member.
#[derive(Clone, Debug)]
pub enum Content {
    /// Records. The value is the offset of the member's node in the zone's block.
    Records(u32),
    /// Alias for another name.
    Alias {
        /// Target of the alias.
        target: Name,
        /// Whether the member is healthy only while the target is healthy.
        evaluate_target_health: bool,
    },
}

/// Routing policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A random member answers; its weight is its share.
    Weighted,
    /// The primary member answers while it is healthy, otherwise the secondary member.
    Failover,
    /// Up to [`MAX_ANSWERED`] healthy members answer together.
    Multivalue,
    /// The member in the nearest Region answers.
    Latency,
    /// The member with the smallest area that contains the client answers.
    Geolocation,
    /// The member with the smallest distance answers. A bias changes the distance.
    Geoproximity,
    /// The member with the smallest location that contains the client answers.
    AzAffinity,
    /// The member with the longest prefix around the client answers.
    Cidr,
}

impl Policy {
    /// Whether the choice depends on the location of the client.
    #[inline]
    pub fn depends_on_place(self) -> bool {
        !matches!(self, Policy::Weighted | Policy::Failover | Policy::Multivalue)
    }

    /// Returns the name of the policy for texts, such as `weighted`.
    pub fn word(self) -> &'static str {
        match self {
            Policy::Weighted => "weighted",
            Policy::Failover => "failover",
            Policy::Multivalue => "multivalue answer",
            Policy::Latency => "latency",
            Policy::Geolocation => "geolocation",
            Policy::Geoproximity => "geoproximity",
            Policy::AzAffinity => "AZ affinity",
            Policy::Cidr => "CIDR",
        }
    }
}

/// Values of a policy for one member.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Weight.
    Weight(u8),
    /// Primary or secondary.
    Failover(FailoverType),
    /// No values.
    Multivalue,
    /// Region, with its data. An unknown Region has no data, and counts as the farthest.
    Latency(Box<str>, Option<&'static Region>),
    /// Continent, country and subdivision. All are empty for `*`.
    Geolocation([Box<str>; 3]),
    /// Coordinates in degrees north and degrees east, and the factor by which the bias changes the
    /// distance.
    Geoproximity(Option<(f32, f32)>, f32),
    /// Kind of location, and the location.
    AzAffinity(LocationType, Box<str>),
    /// CIDR collection and location.
    Cidr(Id, Box<str>),
}

/// Location of a client, as far as routing policies depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientPlace<'s> {
    /// AZ ID, if known.
    pub az: Option<&'s str>,
    /// Region of the client's VPC, or of the VPC whose view the client has. Empty if unknown.
    pub region: &'s str,
    /// Coordinates of an on-premises network, in degrees north and degrees east.
    pub coordinates: Option<(f32, f32)>,
    /// Address, as far as it is known.
    pub prefix: Option<ClientPrefix>,
}

impl ClientPlace<'_> {
    fn coordinates(&self) -> Option<(f32, f32)> {
        self.coordinates.or_else(|| regions::find(self.region).map(|region| region.coordinates))
    }
}

impl Rule {
    /// Returns the rule of a record set. The manifest check has already checked the policy.
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
        if let Some(policy) = &set.cidr_routing_policy {
            return Some(Rule::Cidr(policy.collection_id.clone(), policy.location_name.as_str().into()));
        }
        let policy = set.az_affinity_routing_policy.as_ref()?;
        Some(Rule::AzAffinity(policy.location_type, policy.location_id.as_str().into()))
    }

    /// Returns the policy of the rule.
    pub fn policy(&self) -> Policy {
        match self {
            Rule::Weight(_) => Policy::Weighted,
            Rule::Failover(_) => Policy::Failover,
            Rule::Multivalue => Policy::Multivalue,
            Rule::Latency(..) => Policy::Latency,
            Rule::Geolocation(_) => Policy::Geolocation,
            Rule::Geoproximity(..) => Policy::Geoproximity,
            Rule::AzAffinity(..) => Policy::AzAffinity,
            Rule::Cidr(..) => Policy::Cidr,
        }
    }

    /// Returns the rank of the member for a client, or `None` if the member is not for the client.
    ///
    /// The member with the smallest rank answers. Weighted and multivalue members have rank 0. Locations of a CIDR collection
    /// have no rank of their own: [`Group::rank`] finds it in the collection's table.
    fn rank(&self, client: &ClientPlace) -> Option<f32> {
        const FAR: f32 = f32::MAX;
        match self {
            Rule::Cidr(..) => None,
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
                // Every AZ of a Region is in the first group, such as `us-east-1-zg-1`. Local Zones
                // are not.
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

/// Members of a group that answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One member.
    One(usize),
    /// Several members, in rotation.
    Several {
        /// Member that comes first.
        first: usize,
        /// Whether only healthy members answer.
        healthy_only: bool,
    },
    /// No member is for the client.
    None,
}

impl Group {
    /// A group whose members have no verdicts yet.
    pub fn new(policy: Policy, members: Box<[Member]>) -> Group {
        let mut weights = 0;
        let quick = |member: &Member| {
            if let Rule::Weight(weight) = member.rule {
                weights = u16::saturating_add(weights, weight.into());
            }
            let records = match member.content {
                Content::Records(at) => at,
                Content::Alias { .. } => ALIAS,
            };
            QuickMember { verdict: None, records, weights }
        };
        Group { policy, quick: members.iter().map(quick).collect(), members, cidrs: None }
    }

    /// Verdict of the health check of a member. A member without a health check is healthy.
    #[inline]
    pub fn verdict(&self, at: usize) -> Option<&Verdict> {
        self.quick[at].verdict.as_ref()
    }

    /// The offset of the node with the records of a member; none for an alias.
    #[inline]
    pub fn records(&self, at: usize) -> Option<u32> {
        Some(self.quick[at].records).filter(|records| *records != ALIAS)
    }

    /// Chooses members for a client. `is_healthy` returns the health of a member. `draw` decides
    /// shares and the rotation.
    pub fn choose(&self, client: &ClientPlace, is_healthy: impl Fn(usize) -> bool, draw: u32) -> Choice {
        match self.policy {
            Policy::Weighted => self.choose_by_weight(is_healthy, draw),
            Policy::Multivalue => {
                let count = self.members.len();
                let first = if count == 0 { return Choice::None } else { draw as usize % count };
                Choice::Several { first, healthy_only: (0..count).any(is_healthy) }
            }
            Policy::Cidr => {
                let mut around = self.around(client);
                let first = around.clone().next();
                around.find(|(at, _)| is_healthy(*at)).or(first).map_or(Choice::None, |(at, _)| Choice::One(at))
            }
            _ => {
                let ranked =
                    || (0..self.members.len()).filter_map(|at| Some((at, self.members[at].rule.rank(client)?)));
                // Among equal ranks, the first member wins.
                let nearest = |best: Option<(usize, f32)>, next: (usize, f32)| match best {
                    Some((_, rank)) if rank <= next.1 => best,
                    _ => Some(next),
                };
                let healthy = ranked().filter(|(at, _)| is_healthy(*at)).fold(None, nearest);
                healthy.or_else(|| ranked().fold(None, nearest)).map_or(Choice::None, |(at, _)| Choice::One(at))
            }
        }
    }

    /// The member of the first draw by weight. None if the policy has no weights, or if all of them are 0.
    #[inline]
    fn drawn(&self, draw: u32) -> Option<usize> {
        // Each worker numbers its draws. The choices must not follow the order of these numbers.
        let drawn = below(mix(draw), self.quick.last().map_or(0, |last| last.weights.into()));
        self.quick.iter().position(|member| drawn < u32::from(member.weights))
    }

    /// Chooses a member by weight.
    ///
    /// The candidates are the healthy members, or all members if none is healthy. A member of
    /// weight 0 answers only if all candidates have weight 0. Then all candidates have the same
    /// chance.
    ///
    /// The first draw is among all members. If its member is unhealthy, a second draw is among the candidates, so the shares
    /// are the same as those of one draw among the candidates.
    #[inline]
    fn choose_by_weight(&self, is_healthy: impl Fn(usize) -> bool, draw: u32) -> Choice {
        match self.drawn(draw) {
            Some(at) if is_healthy(at) => Choice::One(at),
            _ => self.choose_among_candidates(is_healthy, mix(mix(draw))),
        }
    }

    #[inline(never)]
    fn choose_among_candidates(&self, is_healthy: impl Fn(usize) -> bool, mixed: u32) -> Choice {
        let count = self.quick.len();
        // One bit for each member: there are at most MAX_MEMBERS. Each member's health is read once.
        let all = u128::MAX.checked_shr(u128::BITS - count as u32).unwrap_or(0);
        let healthy = (0..count).filter(|at| is_healthy(*at)).fold(0_u128, |healthy, at| healthy | 1 << at);
        let candidates = if healthy == 0 { all } else { healthy };
        let may = |at: &usize| candidates >> *at & 1 == 1;
        let before = |at: usize| at.checked_sub(1).map_or(0, |before| self.quick[before].weights);
        let weight = |at: usize| u32::from(self.quick[at].weights - before(at));
        let sum: u32 = (0..count).filter(may).map(weight).sum();
        if sum == 0 {
            let at = below(mixed, candidates.count_ones()) as usize;
            return (0..count).filter(may).nth(at).map_or(Choice::None, Choice::One);
        }
        let mut left = below(mixed, sum);
        for at in (0..count).filter(may) {
            match left.checked_sub(weight(at)) {
                Some(rest) => left = rest,
                None => return Choice::One(at),
            }
        }
        Choice::None
    }

    /// Returns the members whose locations contain a client, each with the length of the prefix around the client. The
    /// longest prefix comes first, and the member for clients in no location last.
    fn around(&self, client: &ClientPlace) -> impl Iterator<Item = (usize, Option<u8>)> + Clone {
        let around = self.cidrs.as_deref().into_iter().zip(client.prefix).flat_map(|(cidrs, prefix)| {
            let member = move |location: usize| cidrs.of_location.get(location).copied().flatten();
            cidrs.table.around(prefix).filter_map(move |(location, len)| Some((member(location)?, Some(len))))
        });
        let default = self.cidrs.as_deref().into_iter().filter_map(|cidrs| Some((cidrs.default?, None)));
        around.chain(default).map(|(at, len)| (usize::from(at), len))
    }

    /// Returns the scope of an answer from the group to a client's prefix (RFC 7871): the length of the shortest prefix in
    /// which every client gets the same answer. 0 if the policy does not depend on the address.
    pub fn scope(&self, client: &ClientPlace) -> u8 {
        self.cidrs.as_deref().zip(client.prefix).map_or(0, |(cidrs, prefix)| cidrs.table.scope(prefix.address))
    }

    /// Returns the rank of a member for a client, or `None` if the member is not for the client. The member with the smallest
    /// rank answers.
    pub fn rank(&self, at: usize, client: &ClientPlace) -> Option<f32> {
        match &self.members[at].rule {
            // A prefix has at most 128 bits.
            Rule::Cidr(..) => self
                .around(client)
                .find(|(member, _)| *member == at)
                .map(|(_, len)| len.map_or(129.0, |len| f32::from(128 - len))),
            rule => rule.rank(client),
        }
    }

    /// Describes the values of the policy for a member, for `zonal explain`.
    pub fn described(&self, at: usize, rank: f32, client: &ClientPlace) -> String {
        match &self.members[at].rule {
            Rule::Cidr(_, location) => {
                let len = self.around(client).find(|(member, _)| *member == at).and_then(|(_, len)| len);
                let block = client.prefix.zip(len).and_then(|(prefix, len)| IpNet::new(prefix.address, len).ok());
                match block {
                    Some(block) => format!("location {location}, whose {} contains the client", block.trunc()),
                    None => "for clients in no other location".into(),
                }
            }
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

    /// Iterates over the members of a choice in the order of the answer.
    pub fn chosen(&self, choice: Choice, is_healthy: impl Fn(usize) -> bool) -> impl Iterator<Item = usize> {
        let count = self.members.len();
        let (first, length, healthy_only) = match choice {
            Choice::One(at) => (at, 1, false),
            Choice::Several { first, healthy_only } => (first, count, healthy_only),
            Choice::None => (0, 0, false),
        };
        // No division: `first` and `n` are below `count`.
        let wrapped = move |at: usize| at.checked_sub(count).unwrap_or(at);
        let all = (0..length).map(move |n| wrapped(first + n));
        all.filter(move |at| !healthy_only || is_healthy(*at)).take(MAX_ANSWERED)
    }
}

impl CidrMembers {
    /// Assigns members to the locations of a table.
    fn new(table: &Arc<CidrTable>, members: &[Member]) -> CidrMembers {
        let mut this =
            CidrMembers { table: table.clone(), of_location: vec![None; table.locations()].into(), default: None };
        for (at, member) in (0..=u8::MAX).zip(members) {
            let Rule::Cidr(_, location) = &member.rule else { continue };
            let slot = match &**location {
                DEFAULT_LOCATION => Some(&mut this.default),
                name => table.location(name).and_then(|location| this.of_location.get_mut(location)),
            };
            if let Some(slot) = slot {
                slot.get_or_insert(at);
            }
        }
        this
    }
}

impl Group {
    /// Visits the addresses of the group's cache lines.
    #[inline]
    pub fn visit(&self, visit: &mut impl FnMut(*const u8)) {
        let first: *const u8 = std::ptr::from_ref(self).cast();
        visit(first);
        visit(first.wrapping_add(CACHE_LINE));
    }
}

/// Maps a number to a number below `bound`. Evenly distributed numbers stay evenly distributed.
fn below(number: u32, bound: u32) -> u32 {
    ((u64::from(number) * u64::from(bound)) >> 32) as u32
}

/// Maps the numbers of a counter to evenly distributed numbers.
fn mix(draw: u32) -> u32 {
    let mut x = draw.wrapping_mul(0x9e37_79b9);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

impl Zone {
    /// Returns the group with a number.
    pub fn group(&self, number: usize) -> Option<&Group> {
        self.groups.get(number)
    }

    /// Whether the zone has groups.
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Returns the group of the name that probably has this hash. A query reads it after [`Zone::second_address`].
    #[inline]
    pub fn probable_group(&self, hash: u64) -> Option<&Group> {
        if !self.has_groups() {
            return None;
        }
        let node = self.node(NodeAt(self.table.guess(hash)?));
        node.sets().find_map(Set::group).and_then(|number| self.group(number))
    }

    /// Visits the addresses that a query with this draw reads after those of the group: verdicts, and the records of the members,
    /// which are side by side. If the policy has weights, the query reads one member.
    #[inline]
    pub fn visit_members(&self, group: &Group, draw: u32, visit: &mut impl FnMut(*const u8)) {
        let members = match group.drawn(draw) {
            Some(at) => &group.quick[at..=at],
            None => &group.quick[..group.quick.len().min(QUICK_MEMBERS)],
        };
        for member in members {
            member.verdict.iter().for_each(|verdict| visit(verdict.address()));
        }
        if let Some(records) = members.iter().find_map(|member| self.block.get(member.records as usize)) {
            let records = std::ptr::from_ref(records);
            visit(records);
            visit(records.wrapping_add(members.len() * MEMBER_OCTETS));
        }
    }

    /// Returns the node at an offset of the zone's block. `at` comes from [`Content::Records`].
    pub fn member_node(&self, at: u32) -> Node<'_> {
        Node { zone: self, block: &self.block, at: at as usize }
    }

    /// Returns the record set of a member. `at` comes from [`Content::Records`].
    #[inline]
    pub fn member_set(&self, at: u32) -> Option<Set<'_>> {
        self.member_node(at).sets().next()
    }

    /// Returns the zone with the verdicts of `targets` and the tables of `cidrs`. `None` if the zone already has them.
    pub fn with_groups(&self, targets: &Targets, cidrs: &CidrTables) -> Option<Zone> {
        let verdict = |member: &Member| {
            let id = TargetId::Check(member.health_check.clone()?);
            targets.get(&id).map(|target| target.verdict.clone())
        };
        let table = |group: &Group| match &group.members.first()?.rule {
            Rule::Cidr(collection, _) => cidrs.get(collection),
            _ => None,
        };
        let has_table = |group: &Group| {
            group.cidrs.as_ref().map(|cidrs| Arc::as_ptr(&cidrs.table)) == table(group).map(Arc::as_ptr)
        };
        let has_verdicts = |group: &Group| {
            group.members.iter().zip(&group.quick).all(|(member, quick)| quick.verdict == verdict(member))
        };
        if self.groups.iter().all(|group| has_table(group) && has_verdicts(group)) {
            return None;
        }
        let mut groups: Vec<Group> = self.groups.to_vec();
        for group in groups.iter_mut().filter(|group| !has_table(group)) {
            group.cidrs = table(group).map(|table| Box::new(CidrMembers::new(table, &group.members)));
        }
        for Group { members, quick, .. } in &mut groups {
            members.iter().zip(quick).for_each(|(member, quick)| quick.verdict = verdict(member));
        }
        Some(Zone { groups: Arc::from(groups), ..self.clone() })
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
