//! Finds the record sets that differ between two versions of a zone's resource.
//!
//! If few record sets differ, zonal edits the zone and does not build it again.

use super::{Zone, build::DEFAULT_TTL};
use crate::{
    manifest::{PrivateHostedZone, ResourceRecordSet, overlay::EditedSet, protection::Protected},
    wire::{
        Name,
        rdata::{parse_text, rtype, type_from_text},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Maximum number of entries that may differ. Beyond it, the zone is built again.
const MAX_CHANGES: usize = 10_000;

impl Zone {
    /// Notes the protected record sets. They are those of `base` if its resource is the same.
    pub(super) fn protect(&mut self, base: Option<&Zone>) {
        self.protected = match base.filter(|base| Arc::ptr_eq(&base.source, &self.source)) {
            Some(base) => base.protected.clone(),
            None => Protected::of(&self.source).map(Arc::new),
        };
    }
}

/// Returns the record sets that differ in a newer version of a zone's resource.
///
/// Returns `None` if the zone must be built again. The reason is that more than a few record sets
/// differ, or that an alias, a routing policy, or the SOA or NS records of the zone differ.
pub(super) fn between(zone: &Zone, new: &PrivateHostedZone) -> Option<Vec<EditedSet>> {
    let old = &*zone.source;
    if !zone.shape.as_ref()?.is_plain || zone.overlay.is_some() || old.file.is_some() || !is_same_but_records(old, new)
    {
        return None;
    }
    let runs = new.records.changes_since(&old.records);
    let gone: Vec<&ResourceRecordSet> = runs.iter().flat_map(|run| &run.gone).map(|set| &***set).collect();
    let came: Vec<&ResourceRecordSet> = runs.iter().flat_map(|run| &run.came).map(|set| &***set).collect();
    if gone.len() + came.len() > MAX_CHANGES {
        return None;
    }
    let was = sets_of(&gone, &old.name)?;
    let mut is = sets_of(&came, &new.name)?;
    for ((owner, rtype), (_, values)) in &was {
        // The old entries must contain all records of the set. Otherwise another entry adds to it.
        let node = zone.node_of(owner.as_wire())?;
        let served: BTreeSet<Vec<u8>> = node.set(*rtype)?.values().collect();
        if served.len() != values.len() || !values.iter().all(|value| served.contains(&**value)) {
            return None;
        }
        is.entry((owner.clone(), *rtype)).or_default();
    }
    let edited = |((owner, rtype), (ttl, values)): (SetKey, SetValues)| {
        let is_own = owner == new.name && matches!(rtype, rtype::SOA | rtype::NS);
        let is_known = was.contains_key(&(owner.clone(), rtype));
        let node = zone.node_of(owner.as_wire());
        if is_own || !is_known && node.is_some_and(|node| node.set(rtype).is_some()) {
            return None;
        }
        Some(EditedSet { owner, rtype, ttl, values })
    };
    is.into_iter().map(edited).collect()
}

fn is_same_but_records(old: &PrivateHostedZone, new: &PrivateHostedZone) -> bool {
    rest(old) == rest(new)
}

/// Returns all fields of a zone's resource except its records.
fn rest(zone: &PrivateHostedZone) -> impl PartialEq + '_ {
    let PrivateHostedZone {
        name,
        vpc_ids,
        file,
        fallthrough,
        records: _,
        primaries,
        allow_notify,
        catalog,
        secondaries,
        allow_transfer,
        allow_update,
        transfer_policy_records,
        public,
        tags: _,
        aws: _,
    } = zone;
    let access = (allow_notify, secondaries, allow_transfer, transfer_policy_records, allow_update);
    ((name.as_wire(), vpc_ids, file, fallthrough, public), (primaries, catalog), access)
}

/// TTL and data of record sets, by owner and type.
type Sets = BTreeMap<SetKey, SetValues>;
/// Owner and type of a record set.
type SetKey = (Name, u16);
/// TTL in seconds, and the data of the records.
type SetValues = (u32, Vec<Box<[u8]>>);

/// Groups entries into record sets. `None` if an entry is an alias, has a routing policy, or has an
/// error.
fn sets_of(entries: &[&ResourceRecordSet], zone: &Name) -> Option<Sets> {
    let mut sets = Sets::new();
    for entry in entries {
        let owner = Name::parse(entry.name.as_bytes(), Some(zone)).ok()?.to_lowercase();
        let rtype = type_from_text(&entry.record_type)?;
        let (name, record_type, records) = (entry.name.clone(), entry.record_type.clone(), entry.records.clone());
        let plain = ResourceRecordSet { name, record_type, ttl: entry.ttl, records, ..ResourceRecordSet::default() };
        if **entry != plain || entry.records.is_empty() || !owner.is_at_or_below(zone) {
            return None;
        }
        let ttl = entry.ttl.unwrap_or(DEFAULT_TTL);
        let set = sets.entry((owner, rtype)).or_insert((ttl, Vec::new()));
        for text in &entry.records {
            let value: Box<[u8]> = parse_text(rtype, text, &Name::root()).ok()?;
            if set.0 != ttl || set.1.contains(&value) {
                return None;
            }
            set.1.push(value);
        }
    }
    Some(sets)
}
