//! Checks of CIDR collections, and of the record sets that route by them.

use super::Checker;
use crate::manifest::{Id, ResourceRecordSet, routing_policies::DEFAULT_LOCATION};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap, hash_map::Entry};

const KIND: &str = "cidr_collections";
const ZONES: &str = "private_hosted_zones";
/// The largest number of octets of a location's name.
const MAX_NAME: usize = 128;

impl Checker<'_> {
    pub(super) fn cidr_collections(&mut self) {
        let manifest = self.manifest;
        for (id, collection) in &manifest.cidr_collections {
            if collection.locations.is_empty() {
                self.warning(KIND, id, "locations", "the collection is empty: no client is in one of its locations");
            }
            let mut seen: HashMap<IpNet, &str> = HashMap::new();
            for (name, blocks) in &collection.locations {
                let field = format!("locations.{name}");
                if name == DEFAULT_LOCATION {
                    self.error(
                        KIND,
                        id,
                        &field,
                        "`*` stands for all addresses without a location: it has no CIDR blocks",
                    );
                    self.help("remove it; record sets can name `*` without it");
                    continue;
                }
                if name.is_empty() || name.len() > MAX_NAME {
                    self.error(KIND, id, &field, format!("the name of a location must have 1 to {MAX_NAME} octets"));
                }
                if blocks.is_empty() {
                    self.warning(KIND, id, &field, "the list is empty: no client is in the location");
                }
                for (at, block) in blocks.iter().enumerate() {
                    let field = format!("{field}[{at}]");
                    match seen.entry(block.trunc()) {
                        Entry::Vacant(entry) => drop(entry.insert(name)),
                        Entry::Occupied(other) if *other.get() == name => {
                            self.warning(KIND, id, field, format!("{block} is in the list twice"));
                        }
                        Entry::Occupied(other) => {
                            let message = format!("{block} is also a block of location `{}`", other.get());
                            self.error(KIND, id, field, message);
                            self.help("keep one of them, or write a longer prefix into one of them");
                        }
                    }
                }
            }
        }
    }

    /// Checks that the collection and the location of a record set exist.
    pub(super) fn cidr_policy(&mut self, id: &Id, at: usize, set: &ResourceRecordSet) {
        let Some(policy) = &set.cidr_routing_policy else { return };
        let field = |name: &str| format!("records[{at}].cidr_routing_policy.{name}");
        let known = &self.manifest.cidr_collections;
        let name = &policy.collection_id;
        let Some(collection) = self.reference((ZONES, id), field("collection_id"), "CIDR collection", name, known)
        else {
            return;
        };
        let location = &policy.location_name;
        if location != DEFAULT_LOCATION && !collection.locations.contains_key(location) {
            let what = format!("location in `{name}` with the name");
            let known = collection.locations.keys().map(String::as_str).chain([DEFAULT_LOCATION]);
            self.unknown((ZONES, id), field("location_name"), &what, location, known);
        }
    }

    /// Checks that all members of a group have one collection, and locations of their own.
    pub(super) fn cidr_group(&mut self, id: &Id, name: &str, members: &[(usize, &ResourceRecordSet)]) {
        let policies = members.iter().filter_map(|(at, set)| Some((*at, set.cidr_routing_policy.as_ref()?)));
        let policies: Vec<_> = policies.collect();
        let Some((first_at, first)) = policies.first().copied() else { return };
        let mut locations: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, policy) in &policies {
            let field = |name: &str| format!("records[{at}].cidr_routing_policy.{name}");
            if policy.collection_id != first.collection_id {
                let message = format!(
                    "the other record sets of {name} use the collection `{}`: all of them must use the same one",
                    first.collection_id
                );
                self.error(ZONES, id, field("collection_id"), message);
                continue;
            }
            match locations.get(policy.location_name.as_str()) {
                Some(other) => {
                    let location = &policy.location_name;
                    let message = format!("records[{other}] of {name} has the location `{location}` already");
                    self.error(ZONES, id, field("location_name"), message);
                }
                None => drop(locations.insert(&policy.location_name, *at)),
            }
        }
        if !locations.contains_key(DEFAULT_LOCATION) {
            let message = format!("{name} has no record set for `*`: clients outside of its locations get no records");
            self.warning(ZONES, id, format!("records[{first_at}].cidr_routing_policy"), message);
            self.help(format!("add one with {{collection_id: {}, location_name: \"*\"}}", first.collection_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::check::tests::problems;

    #[test]
    fn tells_what_is_wrong_with_collections() {
        let check = |locations: &str| problems(&format!("cidr_collections: {{c: {{locations: {{{locations}}}}}}}\n"));
        for (locations, expected) in [
            ("a: [10.1.0.0/16, 'fd00::/8'], b: [10.1.2.0/24]", &[][..]),
            (
                "",
                &[
                    "warning: cidr_collections.c.locations: the collection is empty: no client is in one of its locations",
                ],
            ),
            (
                "a: [], b: [10.1.0.0/16, 10.1.0.0/16]",
                &[
                    "warning: cidr_collections.c.locations.a: the list is empty: no client is in the location",
                    "warning: cidr_collections.c.locations.b[1]: 10.1.0.0/16 is in the list twice",
                ],
            ),
            (
                "a: [10.1.0.0/16], b: [10.2.0.0/16, 10.1.0.0/16]",
                &[
                    "error: cidr_collections.c.locations.b[1]: 10.1.0.0/16 is also a block of location `a` (keep one of them, or write \
                     a longer prefix into one of them)",
                ],
            ),
            (
                "'*': [10.1.0.0/16]",
                &[
                    "error: cidr_collections.c.locations.*: `*` stands for all addresses without a location: it has no CIDR blocks \
                     (remove it; record sets can name `*` without it)",
                ],
            ),
            (
                "'': [10.1.0.0/16]",
                &["error: cidr_collections.c.locations.: the name of a location must have 1 to 128 octets"],
            ),
        ] {
            assert_eq!(check(locations), expected, "{locations}");
        }
    }

    #[test]
    fn tells_what_is_wrong_with_record_sets_of_locations() {
        let check = |policies: &[(&str, &str)]| {
            let record = |(at, (collection, location)): (usize, &(&str, &str))| {
                format!(
                    "{{name: a, type: A, records: [10.1.0.1], set_identifier: s{at}, \
                     cidr_routing_policy: {{collection_id: {collection}, location_name: '{location}'}}}}"
                )
            };
            let records: Vec<String> = policies.iter().enumerate().map(record).collect();
            problems(&format!(
                "vpcs: {{v: {{region: us-east-1, cidr_blocks: [10.1.0.0/16]}}}}\n\
                 cidr_collections: {{office: {{locations: {{berlin: [10.1.0.0/20]}}}}, other: {{locations: {{berlin: [10.1.0.0/20]}}}}}}\n\
                 private_hosted_zones: {{Z: {{name: corp.example, vpc_ids: [v], records: [{}]}}}}\n",
                records.join(", ")
            ))
        };
        for (policies, expected) in [
            (&[("office", "berlin"), ("office", "*")][..], &[][..]),
            (&[("office", "*")], &[]),
            (
                &[("ofice", "*")],
                &[
                    "error: private_hosted_zones.Z.records[0].cidr_routing_policy.collection_id: there is no CIDR collection `ofice` \
                     (did you mean `office`?)",
                ],
            ),
            (
                &[("office", "berlim"), ("office", "*")],
                &[
                    "error: private_hosted_zones.Z.records[0].cidr_routing_policy.location_name: there is no location in `office` with \
                     the name `berlim` (did you mean `berlin`?)",
                ],
            ),
            (
                &[("office", "*"), ("other", "berlin")],
                &[
                    "error: private_hosted_zones.Z.records[1].cidr_routing_policy.collection_id: the other record sets of \
                     a.corp.example. A use the collection `office`: all of them must use the same one",
                ],
            ),
            (
                &[("office", "*"), ("office", "*")],
                &[
                    "error: private_hosted_zones.Z.records[1].cidr_routing_policy.location_name: records[0] of a.corp.example. A has \
                     the location `*` already",
                ],
            ),
            (
                &[("office", "berlin")],
                &[
                    "warning: private_hosted_zones.Z.records[0].cidr_routing_policy: a.corp.example. A has no record set for `*`: \
                     clients outside of its locations get no records (add one with {collection_id: office, location_name: \"*\"})",
                ],
            ),
        ] {
            assert_eq!(check(policies), expected, "{policies:?}");
        }
    }
}
