//! The private hosted zones: a change compiles only the zones that it concerns.

use super::{
    Node, Snapshot,
    cidrs::CidrTables,
    health::Targets,
    slots::{Numbers, Slots},
    zone::{self, Serial, Zone},
};
use crate::manifest::{Id, Loaded, Manifest, Problem, ZoneData, changes};
use imbl::OrdSet;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The private hosted zones, compiled. A copy shares what does not change.
#[derive(Clone, Default)]
pub struct Zones {
    numbers: Numbers,
    list: Slots<Arc<Zone>>,
    /// The zones with dynamic updates.
    overlaid: OrdSet<Id>,
    /// The zones with routing policies.
    grouped: OrdSet<Id>,
}

impl Zones {
    /// The zone with a number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&Arc<Zone>> {
        self.list.get(number)
    }

    /// A zone by its identifier.
    pub fn of(&self, id: &str) -> Option<&Arc<Zone>> {
        self.get(self.numbers.get(id)?)
    }

    /// All zones, in the order of their identifiers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Zone>> {
        let all: Vec<&Arc<Zone>> = self.numbers.iter().filter_map(|number| self.get(number)).collect();
        all.into_iter()
    }

    /// A zone by its identifier, with its number.
    pub fn numbered(&self, id: &str) -> Option<(u32, &Zone)> {
        let number = self.numbers.get(id)?;
        Some((number, self.get(number)?))
    }

    /// All zones with their numbers, in the order of their identifiers.
    pub fn all_numbered(&self) -> impl Iterator<Item = (u32, &Zone)> {
        self.numbers.iter().filter_map(|number| Some((number, &**self.get(number)?)))
    }

    /// Gives routing policies the verdicts of their health checks, and the tables of their CIDR collections.
    pub(super) fn complete_groups(&mut self, targets: &Targets, cidrs: &CidrTables) {
        let grouped = self.grouped.iter().filter_map(|id| Some((self.numbers.get(id)?, id)));
        let changed = grouped.filter_map(|(number, _)| Some((number, self.get(number)?.with_groups(targets, cidrs)?)));
        for (number, zone) in changed.collect::<Vec<_>>() {
            self.list.set(number, Some(Arc::new(zone)));
        }
    }

    fn set(&mut self, id: &str, zone: Option<Zone>) {
        match zone.as_ref().is_some_and(|zone| zone.overlay.is_some()) {
            true => drop(self.overlaid.insert(id.into())),
            false => drop(self.overlaid.remove(id)),
        }
        match zone.as_ref().is_some_and(Zone::has_groups) {
            true => drop(self.grouped.insert(id.into())),
            false => drop(self.grouped.remove(id)),
        }
        match zone {
            Some(zone) => {
                let number = self.numbers.number(id);
                self.list.set(number, Some(Arc::new(zone)));
            }
            None => {
                if let Some(number) = self.numbers.remove(id) {
                    self.list.set(number, None);
                }
            }
        }
    }
}

/// The last serial of each zone that secondaries copy, by its identifier.
pub type Serials = Arc<BTreeMap<Id, Serial>>;

/// Compiles the zones of `manifest` that a change may concern; `loaded` has their records. Returns all zones, the identifiers of the changed ones, and the serials.
pub(super) fn recompile(
    loaded: &Loaded,
    manifest: &Manifest,
    node: &Node,
    previous: Option<&Snapshot>,
    problems: &mut Vec<Problem>,
) -> (Zones, BTreeSet<Id>, Serials) {
    let mut zones = previous.map_or_else(Zones::default, |previous| previous.zones.clone());
    let mut serials = previous.map_or_else(Serials::default, |previous| previous.serials.clone());
    let mut changed = BTreeSet::new();
    let old_zones = zones.clone();
    let mut jobs: Vec<zone::Job> = Vec::new();
    for id in touched(loaded, manifest, previous) {
        let Some((id, source)) = manifest.private_hosted_zones.get_key_value(&id) else {
            zones.set(&id, None);
            changed.insert(id);
            continue;
        };
        let old = old_zones.of(id);
        let serial = (serials.get(id).copied(), node.started.max(1));
        let whole = zone::Job { serial, ..zone::Job::new(id, source) };
        if source.is_transferred() {
            let copy = loaded.transferred.get(id);
            let is_same = match (copy, previous.and_then(|previous| previous.transferred.get(id))) {
                (Some(copy), Some(old)) => copy.is_same(old),
                (copy, old) => copy.is_none() && old.is_none(),
            };
            match copy {
                _ if is_same && old.is_some_and(|old| old.is_of(source)) => {}
                None => jobs.push(zone::Job { missing: Some("the zone has not been transferred yet"), ..whole }),
                Some(copy) if copy.is_expired => {
                    jobs.push(zone::Job {
                        missing: Some("the zone has expired, because no primary answers for it"),
                        ..whole
                    });
                }
                Some(copy) => {
                    jobs.push(zone::Job { content: Some(&copy.content), base: old.map(|old| &**old), ..whole });
                }
            }
            continue;
        }
        let overlay = loaded.overlays.get(id).filter(|overlay| !overlay.is_empty());
        let (data, base) = match (loaded.zone_data.get(id), old) {
            (Some(ZoneData::Unchanged), Some(old)) => (None, Some(old)),
            (None, Some(old)) => (None, Some(old)),
            (Some(ZoneData::Read(data)), _) => (Some(data), None),
            _ => (None, None),
        };
        let is_dropped = old.is_some_and(|old| old.overlay.is_some() && overlay.is_none());
        let base = match base {
            // The old zone has updates that are dropped. It is built from its files once these are read.
            Some(old) if is_dropped && data.is_none() && source.file.is_some() && old.is_of(source) => continue,
            base => base.filter(|_| !is_dropped),
        };
        match base {
            Some(old) if overlay.map(Arc::as_ptr) == old.overlay.as_ref().map(Arc::as_ptr) && old.is_of(source) => {}
            _ => jobs.push(zone::Job { data, base: base.map(|old| &**old), overlay, ..whole }),
        }
    }
    for (id, zone, found) in build_zones(&jobs) {
        problems.extend(found);
        changed.insert(id.clone());
        let (zone, serial) = zone.unzip();
        zones.set(id, zone);
        if let Some(serial) = serial.flatten() {
            Arc::make_mut(&mut serials).insert(id.clone(), serial);
        }
    }
    (zones, changed, serials)
}

/// The zones that a change may concern.
fn touched(loaded: &Loaded, manifest: &Manifest, previous: Option<&Snapshot>) -> BTreeSet<Id> {
    let nothing = Default::default();
    let before = previous.map_or(&nothing, |previous| &previous.served.private_hosted_zones);
    let resources = changes(before, &manifest.private_hosted_zones);
    let mut touched: BTreeSet<Id> = resources.into_iter().map(|change| change.id.clone()).collect();
    let read = loaded.zone_data.iter().filter(|(_, data)| matches!(data, ZoneData::Read(_)));
    let updated = previous.into_iter().flat_map(|previous| &previous.zones.overlaid);
    let transferred = previous.into_iter().flat_map(|previous| previous.transferred.keys());
    let all = read.map(|(id, _)| id).chain(loaded.overlays.keys()).chain(updated);
    touched.extend(all.chain(loaded.transferred.keys()).chain(transferred).cloned());
    touched.retain(|id| {
        manifest.private_hosted_zones.contains_key(id)
            || previous.is_some_and(|previous| previous.zones.of(id).is_some())
    });
    touched
}

type Built<'a> = (&'a Id, Option<(Zone, Option<Serial>)>, Vec<Problem>);

/// Builds zones, in several threads if there are 16 or more.
fn build_zones<'a>(jobs: &[zone::Job<'a>]) -> Vec<Built<'a>> {
    let build = |jobs: &[zone::Job<'a>]| -> Vec<Built<'a>> {
        jobs.iter()
            .map(|job| {
                let mut problems = Vec::new();
                let zone = zone::build(*job, &mut problems);
                (job.id, zone, problems)
            })
            .collect()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len() / 16 + 1);
    if threads == 1 {
        return build(jobs);
    }
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            jobs.chunks(jobs.len().div_ceil(threads)).map(|part| scope.spawn(move || build(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}
