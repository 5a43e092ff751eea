//! The model of routing policies. It follows docs/concepts/which-answer.md, "Routing policies".

use super::{
    names::{A, AAAA, Data, N, Rr},
    networks::Net,
    oracle::{Who, World},
    zone::Zone,
};
use std::{cell::Cell, net::IpAddr};
use zonal::{
    manifest::{
        Health, RecordSets, ResourceRecordSet,
        routing_policies::{Coordinates, FailoverType, LocationType},
    },
    snapshot::regions::{self, Region},
};

/// Record sets with one name, one type and one routing policy.
#[derive(Clone, Debug)]
pub struct Group {
    pub owner: N,
    pub rtype: u16,
    pub members: Vec<Member>,
}

/// A record set of a group.
#[derive(Clone, Debug)]
pub struct Member {
    pub set: ResourceRecordSet,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    /// The records, with the owner of the group.
    Records(Vec<Rr>),
    /// The target of an alias, and whether its health counts.
    Alias(N, bool),
}

/// The chances of an answer. Each set of chances leads to one answer.
#[derive(Clone, Debug)]
pub struct Chances {
    /// The query is among the 85 % that stay in the client's AZ.
    pub keeps: bool,
    /// The choices of weighted groups that are left, as digits of a number.
    left: Cell<usize>,
}

impl Chances {
    pub fn new(keeps: bool, number: usize) -> Chances {
        Chances { keeps, left: Cell::new(number) }
    }

    /// One of `count` choices.
    fn pick(&self, count: usize) -> usize {
        let left = self.left.get();
        self.left.set(left / count);
        left % count
    }
}

/// The largest number of choices that a query can depend on: three groups of four members.
pub const MAX_PICKS: usize = 64;

/// The place of a client.
struct Place {
    az: Option<String>,
    region: String,
    coordinates: Option<(f64, f64)>,
    address: IpAddr,
}

impl Place {
    /// The coordinates of the client's network, or of its Region.
    fn on_earth(&self) -> Option<(f64, f64)> {
        self.coordinates.or_else(|| Some(of_region(self.known_region()?)))
    }

    fn known_region(&self) -> Option<&'static Region> {
        regions::find(&self.region)
    }
}

fn of_region(region: &Region) -> (f64, f64) {
    (region.coordinates.0.into(), region.coordinates.1.into())
}

/// The distance in kilometres on the great circle, by the spherical law of cosines.
fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    let [a, b] = [a, b].map(|(north, east)| (north.to_radians(), east.to_radians()));
    let cosine = a.0.sin() * b.0.sin() + a.0.cos() * b.0.cos() * (a.1 - b.1).cos();
    6371.0 * cosine.clamp(-1.0, 1.0).acos()
}

impl World {
    fn place(&self, who: &Who) -> Place {
        let (vpc, coordinates) = match &who.network {
            Some(Net::Vpc(id)) => (id, None),
            Some(Net::OnPremises(id)) => (&who.vpc, self.manifest.on_premises_networks[id].coordinates),
            None => (&who.vpc, None),
        };
        let of = |place: Coordinates| (place.latitude.into(), place.longitude.into());
        Place {
            az: who.az.clone(),
            region: self.manifest.vpcs[vpc].region.clone(),
            coordinates: coordinates.map(of),
            address: who.source,
        }
    }

    /// The members of a group that answer a client.
    pub fn choose(&self, who: &Who, zone: &Zone, group: &Group, chances: &Chances) -> Vec<usize> {
        let place = self.place(who);
        let all: Vec<usize> = (0..group.members.len()).collect();
        let is_healthy = |at: &usize| self.is_healthy(zone, &group.members[*at], group.rtype, 0);
        let healthy: Vec<usize> = all.iter().copied().filter(is_healthy).collect();
        let candidates = if healthy.is_empty() { &all } else { &healthy };
        let sets = |at: usize| &group.members[at].set;
        if sets(0).weighted_routing_policy.is_some() {
            let weight = |at: &usize| sets(*at).weighted_routing_policy.as_ref().map_or(0, |policy| policy.weight);
            let mut heavy: Vec<usize> = candidates.iter().copied().filter(|at| weight(at) > 0).collect();
            if heavy.is_empty() {
                heavy = candidates.clone();
            }
            return vec![heavy[chances.pick(heavy.len())]];
        }
        if sets(0).multivalue_answer_routing_policy {
            return candidates.clone();
        }
        // The member with the smallest rank; of equal ones, the first.
        let best = |among: &[usize]| {
            let ranked = among.iter().filter_map(|at| Some((*at, self.rank(sets(*at), &place)?)));
            ranked.reduce(|best, next| if next.1 < best.1 { next } else { best }).map(|(at, _)| at)
        };
        best(&healthy).or_else(|| best(&all)).into_iter().collect()
    }

    /// The rank of a record set for a client; none if it is not for the client. The smallest rank answers.
    fn rank(&self, set: &ResourceRecordSet, place: &Place) -> Option<f64> {
        let far = f64::MAX;
        let from = |to: Option<(f64, f64)>| match (place.on_earth(), to) {
            (Some(client), Some(to)) => distance(client, to),
            _ => far,
        };
        if let Some(policy) = &set.failover_routing_policy {
            return Some(if policy.failover_type == FailoverType::Primary { 0.0 } else { 1.0 });
        }
        if let Some(policy) = &set.latency_routing_policy {
            let is_own = policy.region == place.region && place.coordinates.is_none();
            return Some(if is_own { -1.0 } else { from(regions::find(&policy.region).map(of_region)) });
        }
        if let Some(policy) = &set.geoproximity_routing_policy {
            let place = policy.coordinates.map(|place| (place.latitude.into(), place.longitude.into()));
            let region = || regions::find(policy.aws_region.as_deref()?).map(of_region);
            let factor = 1.0 - f64::from(policy.bias) / 100.0;
            return Some(match from(place.or_else(region)) {
                km if km == far => far,
                km => km * factor,
            });
        }
        if let Some(policy) = &set.geolocation_routing_policy {
            let region = place.known_region();
            return match (policy.continent.as_deref(), policy.country.as_deref(), policy.subdivision.as_deref()) {
                (None, Some("*"), _) => Some(3.0),
                (Some(continent), ..) => (region?.continent == continent).then_some(2.0),
                (None, Some(country), None) => (region?.country == country).then_some(1.0),
                (None, country, state) => {
                    (Some(region?.country) == country && Some(region?.subdivision) == state).then_some(0.0)
                }
            };
        }
        if let Some(policy) = &set.az_affinity_routing_policy {
            let (id, region) = (policy.location_id.as_str(), place.region.as_str());
            let (is_here, rank) = match policy.location_type {
                LocationType::AvailabilityZone => (place.az.as_deref() == Some(id), 0.0),
                LocationType::AvailabilityZoneGroup => (place.az.is_some() && id == format!("{region}-zg-1"), 1.0),
                LocationType::Region => (id == region, 2.0),
                LocationType::Partition => (id == "aws", 3.0),
                LocationType::Global => (true, 4.0),
            };
            return is_here.then_some(rank);
        }
        let policy = set.cidr_routing_policy.as_ref().expect("the generator knows no other policy");
        if policy.location_name == "*" {
            return Some(1000.0);
        }
        let blocks = &self.manifest.cidr_collections[&policy.collection_id].locations[&policy.location_name];
        let around = blocks.iter().filter(|block| block.contains(&place.address));
        around.map(|block| f64::from(block.prefix_len())).reduce(f64::max).map(|longest| -longest)
    }

    /// Whether a record set is healthy: by its check, and by the target of its alias.
    fn is_healthy(&self, zone: &Zone, member: &Member, rtype: u16, depth: usize) -> bool {
        let by_check = member.set.health_check_id.as_ref().is_none_or(|check| !self.unhealthy.contains(check));
        by_check
            && match &member.content {
                Content::Alias(target, true) => self.has_healthy_target(zone, target, rtype, depth + 1),
                _ => true,
            }
    }

    /// Whether at least one record set or interface at the target of an alias is healthy.
    fn has_healthy_target(&self, zone: &Zone, target: &[String], rtype: u16, depth: usize) -> bool {
        assert!(depth < 20, "the generator makes no aliases in a circle");
        if let Some(endpoint) = self.endpoint_at_or_above(target) {
            return endpoint.network_interfaces.iter().any(|interface| {
                let has_address = match rtype {
                    A => interface.ipv4.is_some(),
                    AAAA => interface.ipv6.is_some(),
                    _ => false,
                };
                has_address && interface.health == Health::Healthy
            });
        }
        let Some(source) = zone.source_of(target) else { return false };
        if let Some(group) = zone.group(&source, rtype) {
            return group.members.iter().any(|member| self.is_healthy(zone, member, rtype, depth));
        }
        match zone.aliases.iter().find(|(owner, own, _)| *owner == source && *own == rtype) {
            Some((_, _, next)) => self.has_healthy_target(zone, next, rtype, depth + 1),
            None => zone.records.iter().any(|rr| rr.owner == source && rr.rtype == rtype),
        }
    }
}

impl Group {
    /// The groups of a zone.
    pub fn all(apex: &[String], sets: &RecordSets) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for set in sets.iter().filter(|set| set.set_identifier.is_some()) {
            let owner = [super::names::name(&set.name), apex.to_vec()].concat();
            let rtype = match set.record_type.as_str() {
                "A" => A,
                "AAAA" => AAAA,
                "CNAME" => super::names::CNAME,
                other => panic!("the generator makes no groups of type {other}"),
            };
            let data = |text: &String| match text.parse::<IpAddr>() {
                Ok(address) => Data::Address(address),
                Err(_) => Data::Name(super::names::name(text)),
            };
            let content = match &set.alias {
                Some(alias) => {
                    Content::Alias(super::names::name(&alias.name.to_string()), alias.evaluate_target_health)
                }
                None => {
                    let ttl = set.ttl.unwrap_or(300);
                    Content::Records(set.records.iter().map(|text| Rr::new(&owner, rtype, ttl, data(text))).collect())
                }
            };
            let member = Member { set: (**set).clone(), content };
            match groups.iter_mut().find(|group| group.owner == owner && group.rtype == rtype) {
                Some(group) => group.members.push(member),
                None => groups.push(Group { owner, rtype, members: vec![member] }),
            }
        }
        groups
    }
}
