//! Checks of record sets with a routing policy.
//!
//! The compilation of a zone checks that all members of a group have the same policy.

use super::{Checker, regions::is_known};
use crate::{
    manifest::{
        Id, PrivateHostedZone, ResourceRecordSet,
        routing_policies::{Coordinates, FailoverType},
    },
    wire::{
        Name,
        rdata::{type_from_text, type_to_text},
    },
};
use std::collections::BTreeMap;

const KIND: &str = "private_hosted_zones";
/// Continent codes of Route 53.
const CONTINENTS: [&str; 7] = ["AF", "AN", "AS", "EU", "NA", "OC", "SA"];

/// Returns the names of the policy fields that a record set has.
fn policies(set: &ResourceRecordSet) -> Vec<&'static str> {
    let all = [
        ("weighted_routing_policy", set.weighted_routing_policy.is_some()),
        ("failover_routing_policy", set.failover_routing_policy.is_some()),
        ("multivalue_answer_routing_policy", set.multivalue_answer_routing_policy),
        ("latency_routing_policy", set.latency_routing_policy.is_some()),
        ("geolocation_routing_policy", set.geolocation_routing_policy.is_some()),
        ("geoproximity_routing_policy", set.geoproximity_routing_policy.is_some()),
        ("az_affinity_routing_policy", set.az_affinity_routing_policy.is_some()),
        ("cidr_routing_policy", set.cidr_routing_policy.is_some()),
    ];
    all.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
}

impl Checker<'_> {
    pub(super) fn routing_policies(&mut self, id: &Id, zone: &PrivateHostedZone, sets: &[(usize, &ResourceRecordSet)]) {
        let mut groups: BTreeMap<(String, u16), Vec<(usize, &ResourceRecordSet)>> = BTreeMap::new();
        for (at, set) in sets.iter().copied() {
            let policies = policies(set);
            let field = |name: &str| format!("records[{at}].{name}");
            match (&set.set_identifier, &policies[..]) {
                (None, []) => {
                    if let Some(check) = &set.health_check_id {
                        let message =
                            "the health check does not change the answer, because the record set has no routing policy";
                        self.warning(KIND, id, field("health_check_id"), message);
                        self.help("add `set_identifier` and a policy, or remove the health check");
                        self.health_check(id, field("health_check_id"), check);
                    }
                    continue;
                }
                (None, [policy, ..]) => {
                    self.error(KIND, id, field(policy), "a record set with a routing policy needs a `set_identifier`");
                    continue;
                }
                (Some(_), []) => {
                    self.error(
                        KIND,
                        id,
                        field("set_identifier"),
                        "a record set with an identifier needs a routing policy",
                    );
                    self.help("weighted_routing_policy: {weight: 1}");
                    continue;
                }
                (Some(_), [_, second, ..]) => {
                    self.error(KIND, id, field(second), "a record set has one routing policy");
                    continue;
                }
                (Some(_), [_]) => {}
            }
            if set.set_identifier.as_ref().is_some_and(|identifier| identifier.is_empty() || identifier.len() > 128) {
                self.error(KIND, id, field("set_identifier"), "it must have 1 to 128 octets");
            }
            if let Some(check) = &set.health_check_id {
                self.health_check(id, field("health_check_id"), check);
            }
            if set.multivalue_answer_routing_policy && set.alias.is_some() {
                self.error(
                    KIND,
                    id,
                    field("multivalue_answer_routing_policy"),
                    "an alias cannot be one of several answers",
                );
            }
            self.places(id, at, set);
            self.cidr_policy(id, at, set);
            let owner = Name::parse(set.name.as_bytes(), Some(&zone.name));
            if let (Ok(owner), Some(rtype)) = (owner, type_from_text(&set.record_type)) {
                groups.entry((owner.to_lowercase().to_string(), rtype)).or_default().push((at, set));
            }
        }
        for ((owner, rtype), members) in groups {
            self.group(id, &format!("{owner} {}", type_to_text(rtype)), &members);
        }
    }

    /// Checks that the health check of a record set exists.
    fn health_check(&mut self, id: &Id, field: String, check: &Id) {
        self.reference((KIND, id), field, "health check", check, &self.manifest.health_checks);
    }

    /// Checks the locations and numbers of a policy.
    fn places(&mut self, id: &Id, at: usize, set: &ResourceRecordSet) {
        let field = |name: &str| format!("records[{at}].{name}");
        if let Some(policy) = &set.latency_routing_policy {
            self.region_of_policy(id, field("latency_routing_policy.region"), &policy.region);
        }
        if let Some(policy) = &set.geoproximity_routing_policy {
            if policy.aws_region.is_some() == policy.coordinates.is_some() {
                self.error(KIND, id, field("geoproximity_routing_policy"), "expected `aws_region` or `coordinates`");
            }
            if let Some(region) = &policy.aws_region {
                self.region_of_policy(id, field("geoproximity_routing_policy.aws_region"), region);
            }
            if let Some(place) = policy.coordinates.filter(|place| !is_on_earth(place)) {
                let message = format!("{}, {} is no place on Earth", place.latitude, place.longitude);
                self.error(KIND, id, field("geoproximity_routing_policy.coordinates"), message);
            }
            if !(-99..=99).contains(&policy.bias) {
                self.error(KIND, id, field("geoproximity_routing_policy.bias"), "it must be from -99 to 99");
            }
        }
        let Some(policy) = &set.geolocation_routing_policy else { return };
        let field = || field("geolocation_routing_policy");
        let is_two_letters = |text: &String| text.len() == 2 && text.bytes().all(|octet| octet.is_ascii_uppercase());
        match (&policy.continent, &policy.country, &policy.subdivision) {
            (None, None, _) => {
                self.error(KIND, id, field(), "expected `continent` or `country`");
                self.help("{country: \"*\"} for all places without a record set of their own");
            }
            (Some(_), Some(_), _) => self.error(KIND, id, field(), "expected `continent` or `country`, not both"),
            (Some(_), None, Some(_)) => self.error(KIND, id, field(), "`subdivision` needs `country`"),
            (Some(continent), None, None) if !CONTINENTS.contains(&continent.as_str()) => {
                self.error(
                    KIND,
                    id,
                    field(),
                    format!("`{continent}` is no continent: expected {}", CONTINENTS.join(", ")),
                );
            }
            (None, Some(country), _) if country != "*" && !is_two_letters(country) => {
                self.error(
                    KIND,
                    id,
                    field(),
                    format!("`{country}` is no country code: expected two letters such as US, or `*`"),
                );
            }
            _ => {}
        }
    }

    fn region_of_policy(&mut self, id: &Id, field: String, region: &str) {
        if !is_known(region) {
            self.warning(KIND, id, field, format!("`{region}` is no AWS Region: its distance is unknown"));
        }
    }

    /// Checks rules that concern all members of a group together.
    fn group(&mut self, id: &Id, name: &str, members: &[(usize, &ResourceRecordSet)]) {
        let sets = || members.iter().copied();
        let has_check = |set: &ResourceRecordSet| {
            set.health_check_id.is_some() || set.alias.as_ref().is_some_and(|alias| alias.evaluate_target_health)
        };
        let weights: Vec<u8> =
            sets().filter_map(|(_, set)| Some(set.weighted_routing_policy.as_ref()?.weight)).collect();
        if !weights.is_empty() && weights.iter().all(|weight| *weight == 0) {
            let field = format!("records[{}].weighted_routing_policy.weight", members[0].0);
            self.warning(KIND, id, field, format!("all weights of {name} are 0: each record set has the same share"));
        }
        for failover_type in [FailoverType::Primary, FailoverType::Secondary] {
            let of_type = sets().filter(|(_, set)| {
                set.failover_routing_policy.as_ref().is_some_and(|policy| policy.failover_type == failover_type)
            });
            let of_type: Vec<(usize, &ResourceRecordSet)> = of_type.collect();
            if let Some((at, _)) = of_type.get(1) {
                let field = format!("records[{at}].failover_routing_policy.type");
                self.error(KIND, id, field, format!("{name} has a {failover_type} record set already"));
            }
            if let (FailoverType::Primary, Some((at, set))) = (failover_type, of_type.first())
                && !has_check(set)
            {
                let field = format!("records[{at}].failover_routing_policy.type");
                let message =
                    format!("the PRIMARY record set of {name} has no health check: the SECONDARY one never answers");
                self.warning(KIND, id, field, message);
                self.help("add `health_check_id`, or `evaluate_target_health: true` to an alias");
            }
        }
        self.cidr_group(id, name, members);
        let locations: Vec<_> = sets().filter_map(|(_, set)| set.geolocation_routing_policy.as_ref()).collect();
        if !locations.is_empty() && !locations.iter().any(|policy| policy.country.as_deref() == Some("*")) {
            let field = format!("records[{}].geolocation_routing_policy", members[0].0);
            self.warning(
                KIND,
                id,
                field,
                format!("{name} has no record set for `*`: clients of other places get no records"),
            );
            self.help("add one with {country: \"*\"}");
        }
    }
}

/// Whether latitude and longitude are within their ranges.
pub(super) fn is_on_earth(place: &Coordinates) -> bool {
    (-90.0..=90.0).contains(&place.latitude) && (-180.0..=180.0).contains(&place.longitude)
}

#[cfg(test)]
mod tests;
