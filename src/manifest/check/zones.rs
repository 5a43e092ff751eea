//! Checks of private hosted zones. The compilation of a zone checks how its records fit together.

use super::{Checker, Index, key_of};
use crate::{
    manifest::{
        Change, Id, Manifest, Primary, PrivateHostedZone, Problem, Protocol, ResourceRecordSet,
        master::MAX_TTL,
        record_lints::{ZoneText, lint_owner, lint_value},
        record_sets::key_of as set_key_of,
        work,
    },
    wire::{
        Name,
        rdata::{type_from_text, type_to_text},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

const KIND: &str = "private_hosted_zones";
/// The number of values of a record set that are compared with the previous ones.
const MAX_COMPARED: usize = 100;

/// The zones that a change can affect, including the changed ones. Names of zones must be unique
/// within a VPC: a change affects all zones of the same name.
pub(super) fn affected<'a>(
    changed: &[Change<'a, PrivateHostedZone>],
    manifest: &'a Manifest,
    index: &Index,
) -> BTreeMap<&'a Id, &'a Arc<PrivateHostedZone>> {
    let new = changed.iter().filter_map(|change| change.new);
    let ids = new.filter_map(|zone| index.zones_named.get(&key_of(&zone.name))).flatten();
    ids.filter_map(|id| manifest.private_hosted_zones.get_key_value(id)).collect()
}

/// Whether a change can change how queries are forwarded.
pub(super) fn changes_routing(change: &Change<PrivateHostedZone>) -> bool {
    let (Some(old), Some(new)) = (change.old, change.new) else { return true };
    (&old.name, &old.vpc_ids, old.fallthrough) != (&new.name, &new.vpc_ids, new.fallthrough)
}

/// Whether a change can change which health checks are used.
pub(super) fn changes_health_checks(change: &Change<PrivateHostedZone>) -> bool {
    fn used<'a>(sets: impl Iterator<Item = &'a Arc<ResourceRecordSet>>) -> BTreeSet<&'a Id> {
        sets.filter_map(|set| set.health_check_id.as_ref()).collect()
    }
    match (change.old, change.new) {
        (Some(old), Some(new)) => {
            let runs = new.records.changes_since(&old.records);
            let gone = used(runs.iter().flat_map(|run| &run.gone).copied());
            gone != used(runs.iter().flat_map(|run| &run.came).copied())
        }
        (one, other) => one.or(other).is_some_and(|zone| !used(zone.records.iter()).is_empty()),
    }
}

/// Whether a change can change what Profiles with the zone have.
pub(super) fn changes_members(change: &Change<PrivateHostedZone>) -> bool {
    let is_public = |zone: Option<&Arc<PrivateHostedZone>>| zone.map(|zone| zone.public);
    changes_shadowing(change) || is_public(change.old) != is_public(change.new)
}

/// Whether a change can change what the zone shadows, or what shadows the zone.
pub(super) fn changes_shadowing(change: &Change<PrivateHostedZone>) -> bool {
    let (Some(old), Some(new)) = (change.old, change.new) else { return true };
    let runs = new.records.changes_since(&old.records);
    let mut changed = runs.iter().flat_map(|run| run.gone.iter().chain(&run.came));
    changes_routing(change) || changed.any(|set| set.name == "@" && set.alias.is_some())
}

/// Record sets of a zone, with their positions.
type PlacedSets<'a> = Vec<(usize, &'a ResourceRecordSet)>;

/// The zone of a problem that concerns its record sets.
pub(super) fn id_of_flawed_sets(problem: &Problem) -> Option<&Id> {
    problem.resource.as_ref().filter(|_| problem.field.starts_with("records")).map(|(_, id)| id)
}

/// All record sets of a zone.
pub(super) fn all_sets(zone: &PrivateHostedZone) -> PlacedSets<'_> {
    zone.records.iter().map(|set| &**set).enumerate().collect()
}

/// The record sets that a change of a zone adds, if only these can have problems. Otherwise, all record sets.
///
/// `old` is the zone before the change. Its record sets have no problems. The result has all record sets if the change
/// adds or removes a set with an identifier, or a set whose name and type another set has.
pub(super) fn sets_to_check<'a>(old: &'a PrivateHostedZone, zone: &'a PrivateHostedZone) -> PlacedSets<'a> {
    let apex = &zone.name;
    if *apex != old.name || !zone.records.is_indexed(apex) {
        return all_sets(zone);
    }
    let runs = zone.records.changes_since(&old.records);
    let is_alone = |set: &ResourceRecordSet| {
        let same_key = set_key_of(apex, set).map(|key| zone.records.of_key(apex, &key));
        set.set_identifier.is_none() && same_key.is_some_and(|sets| sets.len() < 2)
    };
    if !runs.iter().flat_map(|run| run.gone.iter().chain(&run.came)).all(|set| is_alone(set)) {
        return all_sets(zone);
    }
    let placed = runs.iter().flat_map(|run| (run.new_at..).zip(run.came.iter().copied()));
    placed.map(|(at, set)| (at, &**set)).collect()
}

impl<'a> Checker<'a> {
    /// Checks zones: all of them, or those that a change [affects](affected). `to_check` returns the record sets that can have
    /// problems.
    pub(super) fn zones(
        &mut self,
        zones: impl Iterator<Item = (&'a Id, &'a Arc<PrivateHostedZone>)>,
        to_check: impl Fn(&Id, &'a PrivateHostedZone) -> PlacedSets<'a>,
    ) {
        let (mut seen, mut public) = (HashMap::new(), HashMap::new());
        for (id, zone) in zones {
            self.transfers(id, zone);
            if zone.public {
                self.public_zone(id, zone, &mut public);
            } else if zone.vpc_ids.is_empty() && zone.catalog.is_none() && !self.is_in_profile(KIND, id) {
                self.warning(KIND, id, "vpc_ids", "the list is empty: no client sees the zone");
            }
            self.vpc_list(KIND, id, "vpc_ids", &zone.vpc_ids);
            for (at, vpc) in zone.vpc_ids.iter().enumerate() {
                match seen.insert((&zone.name, vpc), id) {
                    Some(other) if other != id => {
                        let message = format!("`{vpc}` already has hosted zone `{other}` with the name {}", zone.name);
                        self.error(KIND, id, format!("vpc_ids[{at}]"), message);
                    }
                    _ => {}
                }
            }
            self.zone_access(id, zone);
            if zone.name.is_wildcard() {
                self.error(
                    KIND,
                    id,
                    "name",
                    format!("{} is a wildcard, which cannot be the name of a zone", zone.name),
                );
                self.help("write the labels behind the `*` here, and `*` as the name of records");
            }
            let sets = to_check(id, zone);
            for (at, set) in sets.iter().filter(|(_, set)| !set.protected) {
                if set.protection_comment.is_some() {
                    let field = format!("records[{at}].protection_comment");
                    self.warning(KIND, id, field, "the comment has no effect without `protected: true`");
                }
            }
            self.record_lints(id, zone, &sets);
            self.routing_policies(id, zone, &sets);
            for (at, set) in sets {
                let field = format!("records[{at}]");
                match &set.alias {
                    Some(_) if !set.records.is_empty() => {
                        self.error(KIND, id, &field, "a record set has either `records` or `alias`, not both");
                    }
                    None if set.records.is_empty() => {
                        self.error(KIND, id, &field, "a record set needs `records` or `alias`");
                    }
                    Some(_) if set.ttl.is_some() => {
                        let message = "zonal ignores the field: an alias has the TTL of its target";
                        self.warning(KIND, id, format!("{field}.ttl"), message);
                    }
                    _ => {}
                }
                if set.ttl.is_some_and(|ttl| ttl > MAX_TTL) {
                    let message = format!("expected at most {MAX_TTL} seconds (RFC 2181, section 8)");
                    self.error(KIND, id, format!("{field}.ttl"), message);
                }
            }
        }
    }

    /// Checks a public zone. `seen` has the first public zone of each name.
    fn public_zone(&mut self, id: &'a Id, zone: &'a PrivateHostedZone, seen: &mut HashMap<&'a Name, &'a Id>) {
        if !zone.vpc_ids.is_empty() {
            self.error(KIND, id, "vpc_ids", "a public zone has no VPCs: every client resolves names in it");
            self.help("remove `vpc_ids` or `public`");
        }
        if zone.catalog.is_some() {
            self.error(KIND, id, "public", "a catalog cannot be public");
            self.help("remove `public`");
        }
        match seen.entry(&zone.name) {
            Entry::Vacant(entry) => drop(entry.insert(id)),
            Entry::Occupied(first) => {
                let message = format!("zonal does not use the zone: public zone `{}` has the same name", first.get());
                self.warning(KIND, id, "name", message);
                self.help("remove one of the two");
            }
        }
    }

    /// Checks for records that are valid, but most likely a mistake.
    fn record_lints(&mut self, id: &str, zone: &PrivateHostedZone, sets: &[(usize, &ResourceRecordSet)]) {
        let text = ZoneText::new(&zone.name);
        // For each name and type, the first set.
        let mut seen: HashMap<(Name, u16), (usize, &ResourceRecordSet)> = HashMap::new();
        for (at, set) in sets.iter().copied() {
            work::count(1);
            if let Some(finding) = lint_owner(&set.name, &text) {
                self.error(KIND, id, format!("records[{at}].name"), finding.message);
                self.help(finding.help.unwrap_or_default());
            }
            let Some(rtype) = type_from_text(&set.record_type) else { continue };
            for (number, value) in set.records.iter().enumerate() {
                let field = || format!("records[{at}].records[{number}]");
                if let Some(finding) = lint_value(rtype, value, &text) {
                    self.error(KIND, id, field(), finding.message);
                    self.help(finding.help.unwrap_or_default());
                } else if number > 0 && number < MAX_COMPARED && set.records[..number].contains(value) {
                    self.warning(KIND, id, field(), format!("`{value}` is in the list twice: zonal answers it once"));
                    self.help("remove one of the two");
                }
            }
            if set.set_identifier.is_some() {
                continue;
            }
            let Ok(owner) = Name::parse(set.name.as_bytes(), Some(&zone.name)) else { continue };
            match seen.entry((owner, rtype)) {
                Entry::Vacant(entry) => drop(entry.insert((at, set))),
                Entry::Occupied(first) if set.alias.is_none() && first.get().1.alias.is_none() => {
                    let (owner, rtype) = first.key();
                    let rtype = type_to_text(*rtype);
                    let message = format!(
                        "{owner} also has {rtype} records in records[{}]: zonal answers all values as one set",
                        first.get().0
                    );
                    self.warning(KIND, id, format!("records[{at}].name"), message);
                    self.help("write all values in one `records`, or remove one of the two sets");
                }
                // The compilation of the zone reports records beside an alias.
                Entry::Occupied(_) => {}
            }
        }
    }

    /// Checks the fields of zones that are transferred, and of catalogs.
    fn transfers(&mut self, id: &str, zone: &'a PrivateHostedZone) {
        let needs = |field: &str| format!("`{field}` needs `primaries`: it applies to zones that are transferred");
        if !zone.is_transferred() {
            if !zone.allow_notify.is_empty() {
                self.error(KIND, id, "allow_notify", needs("allow_notify"));
            }
            if zone.catalog.is_some() {
                self.error(KIND, id, "catalog", needs("catalog"));
            }
            return;
        }
        let others = [("file", zone.file.is_some()), ("records", !zone.records.is_empty())];
        for (field, _) in others.iter().filter(|(_, is_given)| *is_given) {
            self.error(KIND, id, *field, "a zone with `primaries` has no records of its own");
            self.help(format!("remove `{field}` or `primaries`"));
        }
        if !zone.allow_update.is_empty() {
            self.error(
                KIND,
                id,
                "allow_update",
                "a zone with `primaries` does not accept updates; send them to a primary",
            );
        }
        self.primaries(id, "primaries", &zone.primaries);
        for (at, source) in zone.allow_notify.iter().enumerate() {
            if source.cidr_block.is_none() && source.tsig_key.is_none() {
                self.error(KIND, id, format!("allow_notify[{at}]"), "expected `cidr_block`, `tsig_key` or both");
            }
        }
        let Some(catalog) = &zone.catalog else { return };
        self.primaries(id, "catalog.primaries", &catalog.primaries);
        if catalog.vpc_ids.is_empty() && catalog.groups.values().all(Vec::is_empty) {
            self.warning(KIND, id, "catalog", "the catalog has no VPCs: no client sees the zones that it lists");
        }
        self.vpc_list(KIND, id, "catalog.vpc_ids", &catalog.vpc_ids);
        for (group, vpcs) in &catalog.groups {
            self.vpc_list(KIND, id, &format!("catalog.groups.{group}"), vpcs);
        }
    }

    fn primaries(&mut self, id: &str, list: &str, primaries: &[Primary]) {
        let mut seen = HashSet::new();
        for (at, primary) in primaries.iter().enumerate() {
            let field = |name: &str| format!("{list}[{at}].{name}");
            if primary.port == Some(0) {
                self.error(KIND, id, field("port"), "expected a port from 1 to 65535");
            }
            match primary.protocol {
                Protocol::Do53 if primary.server_name_indication.is_some() => {
                    self.warning(KIND, id, field("server_name_indication"), "the transport Do53 has no certificate");
                }
                Protocol::Do53 | Protocol::DoT => {}
                Protocol::DoH | Protocol::DoQ => {
                    let message = format!("expected Do53 or DoT; zones cannot be transferred by {}", primary.protocol);
                    self.error(KIND, id, field("protocol"), message);
                }
            }
            let address = primary.address();
            if !seen.insert(address) {
                self.warning(KIND, id, format!("{list}[{at}]"), format!("{address} is in the list twice"));
            }
        }
    }

    /// Checks the secondaries of a zone, and the permissions to transfer and update it.
    fn zone_access(&mut self, id: &str, zone: &PrivateHostedZone) {
        let mut seen = HashSet::new();
        for (at, secondary) in zone.secondaries.iter().enumerate() {
            let field = format!("secondaries[{at}]");
            if secondary.port == 0 {
                self.error(KIND, id, format!("{field}.port"), "expected a port from 1 to 65535");
            }
            if secondary.ip.is_unspecified() || secondary.ip.is_multicast() {
                self.error(KIND, id, format!("{field}.ip"), format!("{} is not the address of a server", secondary.ip));
            }
            if !seen.insert((secondary.ip, secondary.port)) {
                let message = format!("{} port {} is in the list twice", secondary.ip, secondary.port);
                self.error(KIND, id, field, message);
            }
        }
        for (list, allowed, needs_key) in
            [("allow_transfer", &zone.allow_transfer, false), ("allow_update", &zone.allow_update, true)]
        {
            for (at, access) in allowed.iter().enumerate() {
                let field = format!("{list}[{at}]");
                if access.tsig_key.is_none() && needs_key {
                    self.error(
                        KIND,
                        id,
                        field,
                        "updates need a `tsig_key`: the source address alone is no proof of identity",
                    );
                    self.help("write a name from `tsig_keys` of zonal.yaml");
                } else if access.tsig_key.is_none() && access.cidr_block.is_none() {
                    self.error(KIND, id, field, "expected `cidr_block`, `tsig_key` or both");
                }
            }
        }
    }
}
