//! Private hosted zones, but for what their records mean.

use super::{Checker, Known, key_of};
use crate::{
    manifest::{
        Change, Id, Manifest, Primary, PrivateHostedZone, Protocol,
        master::MAX_TTL,
        meant::{ZoneText, of_owner, of_value},
    },
    wire::{
        Name,
        rdata::{type_from_text, type_to_text},
    },
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

const KIND: &str = "private_hosted_zones";
/// How many values of a set are compared with those in front of them.
const MAX_COMPARED: usize = 100;

/// The zones that a change can have touched, with the changed ones themselves: no VPC has two of one name.
pub(super) fn touched<'a>(
    changed: &[Change<'a, PrivateHostedZone>],
    manifest: &'a Manifest,
    known: &Known,
) -> BTreeMap<&'a Id, &'a Arc<PrivateHostedZone>> {
    let new = changed.iter().filter_map(|change| change.new);
    let ids = new.filter_map(|zone| known.zones_at.get(&key_of(&zone.name))).flatten();
    ids.filter_map(|id| manifest.private_hosted_zones.get_key_value(id)).collect()
}

/// Whether queries may go another way by this change.
pub(super) fn is_elsewhere(change: &Change<PrivateHostedZone>) -> bool {
    let (Some(old), Some(new)) = (change.old, change.new) else { return true };
    (&old.name, &old.vpc_ids, old.fallthrough) != (&new.name, &new.vpc_ids, new.fallthrough)
}

/// Whether a change can decide what the zone hides, or what hides it.
pub(super) fn is_renamed(change: &Change<PrivateHostedZone>) -> bool {
    let has_alias = |zone: &PrivateHostedZone| zone.records.iter().any(|set| set.name == "@" && set.alias.is_some());
    let (Some(old), Some(new)) = (change.old, change.new) else { return true };
    is_elsewhere(change) || has_alias(old) != has_alias(new)
}

impl<'a> Checker<'a> {
    /// Checks some zones: all of them, or those that are [`touched`] by a change.
    pub(super) fn zones(&mut self, zones: impl Iterator<Item = (&'a Id, &'a Arc<PrivateHostedZone>)>) {
        let mut seen = HashMap::new();
        for (id, zone) in zones {
            self.transfers(id, zone);
            if zone.vpc_ids.is_empty() && zone.catalog.is_none() {
                self.warning(KIND, id, "vpc_ids", "no VPC sees the zone");
            }
            self.vpc_list(KIND, id, "vpc_ids", &zone.vpc_ids);
            for (at, vpc) in zone.vpc_ids.iter().enumerate() {
                match seen.insert((&zone.name, vpc), id) {
                    Some(other) if other != id => {
                        let message = format!("`{vpc}` has a hosted zone {} already: `{other}`", zone.name);
                        self.error(KIND, id, format!("vpc_ids[{at}]"), message);
                    }
                    _ => {}
                }
            }
            self.zone_access(id, zone);
            if zone.name.is_wildcard() {
                self.error(KIND, id, "name", format!("{} is a wildcard, and a zone has a name of its own", zone.name));
                self.help("name the zone after what is behind the `*`, and the records `*`");
            }
            self.meant(id, zone);
            for (at, set) in zone.records.iter().enumerate() {
                let field = format!("records[{at}]");
                match &set.alias {
                    Some(_) if !set.records.is_empty() => {
                        self.error(KIND, id, &field, "a record set has either `records` or an `alias`, not both");
                    }
                    None if set.records.is_empty() => {
                        self.error(KIND, id, &field, "a record set needs `records` or an `alias`");
                    }
                    Some(_) if set.ttl.is_some() => {
                        let message = "an alias has its target's TTL: this one is not used";
                        self.warning(KIND, id, format!("{field}.ttl"), message);
                    }
                    _ => {}
                }
                if set.ttl.is_some_and(|ttl| ttl > MAX_TTL) {
                    let message = format!("a TTL is at most {MAX_TTL} seconds (RFC 2181, 8)");
                    self.error(KIND, id, format!("{field}.ttl"), message);
                }
            }
        }
    }

    /// Records that are valid, and likely to be meant otherwise.
    fn meant(&mut self, id: &str, zone: &PrivateHostedZone) {
        let text = ZoneText::new(&zone.name);
        let mut seen: HashMap<(Name, u16), usize> = HashMap::new();
        for (at, set) in zone.records.iter().enumerate() {
            if let Some(doubt) = of_owner(&set.name, &text) {
                self.error(KIND, id, format!("records[{at}].name"), doubt.message);
                self.help(doubt.help.unwrap_or_default());
            }
            let Some(rtype) = type_from_text(&set.record_type) else { continue };
            for (number, value) in set.records.iter().enumerate() {
                let field = || format!("records[{at}].records[{number}]");
                if let Some(doubt) = of_value(rtype, value, &text) {
                    self.error(KIND, id, field(), doubt.message);
                    self.help(doubt.help.unwrap_or_default());
                } else if number > 0 && number < MAX_COMPARED && set.records[..number].contains(value) {
                    self.warning(KIND, id, field(), format!("`{value}` is in the list already: it is answered once"));
                    self.help("take one of them out");
                }
            }
            let Ok(owner) = Name::parse(set.name.as_bytes(), Some(&zone.name)) else { continue };
            match seen.entry((owner, rtype)) {
                Entry::Vacant(place) => drop(place.insert(at)),
                Entry::Occupied(first) if set.alias.is_none() && zone.records[*first.get()].alias.is_none() => {
                    let (owner, rtype) = first.key();
                    let rtype = type_to_text(*rtype);
                    let message = format!(
                        "{owner} has {rtype} records in records[{}] already: all values are answered as one set",
                        first.get()
                    );
                    self.warning(KIND, id, format!("records[{at}].name"), message);
                    self.help("put all values into one `records`, or take one of the sets out");
                }
                // What an alias may not be beside is an error of its own.
                Entry::Occupied(_) => {}
            }
        }
    }

    /// Where a zone is transferred from, and whom the zones of a catalog are for.
    fn transfers(&mut self, id: &str, zone: &PrivateHostedZone) {
        let needs = |field: &str| format!("`{field}` is for zones that are transferred: it needs `primaries`");
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
            self.error(KIND, id, *field, "all records of a zone with `primaries` come from these");
            self.help(format!("take `{field}` or `primaries` out"));
        }
        if !zone.allow_update.is_empty() {
            self.error(KIND, id, "allow_update", "a zone with `primaries` is changed there");
        }
        self.primaries(id, "primaries", &zone.primaries);
        for (at, source) in zone.allow_notify.iter().enumerate() {
            if source.cidr_block.is_none() && source.tsig_key.is_none() {
                self.error(KIND, id, format!("allow_notify[{at}]"), "a `cidr_block`, a `tsig_key` or both are needed");
            }
        }
        let Some(catalog) = &zone.catalog else { return };
        self.primaries(id, "catalog.primaries", &catalog.primaries);
        if catalog.vpc_ids.is_empty() && catalog.groups.values().all(Vec::is_empty) {
            self.warning(KIND, id, "catalog", "no VPC sees the zones that the catalog lists");
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
                self.error(KIND, id, field("port"), "there is no port 0");
            }
            match primary.protocol {
                Protocol::Do53 if primary.server_name_indication.is_some() => {
                    self.warning(KIND, id, field("server_name_indication"), "Do53 has no certificate to check");
                }
                Protocol::Do53 | Protocol::DoT => {}
                Protocol::DoH | Protocol::DoQ => {
                    let message = format!("zones are transferred by Do53 or DoT, not by {}", primary.protocol);
                    self.error(KIND, id, field("protocol"), message);
                }
            }
            let address = primary.address();
            if !seen.insert(address) {
                self.warning(KIND, id, format!("{list}[{at}]"), format!("{address} is in the list already"));
            }
        }
    }

    /// Who may copy a zone and change it.
    fn zone_access(&mut self, id: &str, zone: &PrivateHostedZone) {
        let mut seen = HashSet::new();
        for (at, secondary) in zone.secondaries.iter().enumerate() {
            let field = format!("secondaries[{at}]");
            if secondary.port == 0 {
                self.error(KIND, id, format!("{field}.port"), "there is no port 0");
            }
            if secondary.ip.is_unspecified() || secondary.ip.is_multicast() {
                self.error(KIND, id, format!("{field}.ip"), format!("{} is no server's address", secondary.ip));
            }
            if !seen.insert((secondary.ip, secondary.port)) {
                let message = format!("{} port {} is in the list already", secondary.ip, secondary.port);
                self.error(KIND, id, field, message);
            }
        }
        for (list, allowed, needs_key) in
            [("allow_transfer", &zone.allow_transfer, false), ("allow_update", &zone.allow_update, true)]
        {
            for (at, access) in allowed.iter().enumerate() {
                let field = format!("{list}[{at}]");
                if access.tsig_key.is_none() && needs_key {
                    self.error(KIND, id, field, "updates need a TSIG key: an address alone proves nothing");
                    self.help("tsig_key: a name in `tsig_keys` of zonal.yaml");
                } else if access.tsig_key.is_none() && access.cidr_block.is_none() {
                    self.error(KIND, id, field, "it needs a `cidr_block`, a `tsig_key`, or both");
                }
            }
        }
    }
}
