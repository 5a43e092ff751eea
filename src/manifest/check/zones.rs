//! Private hosted zones, but for what their records mean.

use super::{Checker, Known, key_of};
use crate::manifest::{Change, Id, Manifest, PrivateHostedZone, master::MAX_TTL};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

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

impl<'a> Checker<'a> {
    /// Checks some zones: all of them, or those that are [`touched`] by a change.
    pub(super) fn zones(&mut self, zones: impl Iterator<Item = (&'a Id, &'a Arc<PrivateHostedZone>)>) {
        const KIND: &str = "private_hosted_zones";
        let mut seen = HashMap::new();
        for (id, zone) in zones {
            if zone.vpc_ids.is_empty() {
                self.warning(KIND, id, "vpc_ids", "no VPC sees the zone");
            }
            self.vpc_list(KIND, id, &zone.vpc_ids);
            for (at, vpc) in zone.vpc_ids.iter().enumerate() {
                match seen.insert((&zone.name, vpc), id) {
                    Some(other) if other != id => {
                        let message = format!("`{vpc}` has a hosted zone {} already: `{other}`", zone.name);
                        self.error(KIND, id, format!("vpc_ids[{at}]"), message);
                    }
                    _ => {}
                }
            }
            for (at, set) in zone.records.iter().enumerate() {
                let field = format!("records[{at}]");
                if set.record_type.is_empty() {
                    self.error(KIND, id, &field, "the field `type` is missing");
                }
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
}
