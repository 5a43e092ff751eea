//! The history of zones: the steps from one version to the next, for incremental transfers (RFC
//! 1995).

use crate::{
    manifest::{Id, work},
    snapshot::{
        Snapshot,
        zone::{Cursor, Node, Zone},
    },
    wire::rdata::rtype,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The maximum number of steps of a zone.
const MAX_STEPS: usize = 1000;
/// The maximum size of the steps of a small zone, in octets. The steps of a larger zone may take as
/// much as the zone itself.
const MIN_STEPS_OCTETS: usize = 64 << 10;

/// A record of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The owner, in wire format and lower case.
    pub owner: Box<[u8]>,
    /// The type.
    pub rtype: u16,
    /// The TTL, in seconds.
    pub ttl: u32,
    /// The data, without compression.
    pub rdata: Box<[u8]>,
}

impl Record {
    fn size(&self) -> usize {
        size_of::<Record>() + self.owner.len() + self.rdata.len()
    }
}

/// The step from one version of a zone to the next.
#[derive(Debug)]
pub struct Step {
    /// The serial before.
    pub from: u32,
    /// The removed records, with the old SOA record first.
    pub removed: Vec<Record>,
    /// The added records, with the new SOA record first.
    pub added: Vec<Record>,
    octets: usize,
}

/// The latest version of a zone, and the steps that lead to it.
struct Versions {
    zone: Arc<Zone>,
    steps: VecDeque<Arc<Step>>,
    octets: usize,
}

/// The history of all zones that others transfer.
#[derive(Default)]
pub struct History(Mutex<BTreeMap<Id, Versions>>);

/// The zones of a snapshot that others may transfer.
pub fn numbered(snapshot: &Snapshot) -> Vec<Arc<Zone>> {
    let zones = snapshot.serials.keys().filter_map(|id| snapshot.zone(id));
    zones.filter(|zone| zone.source.needs_serial() && zone.missing.is_none()).cloned().collect()
}

/// All records of a zone without the SOA record.
#[cfg(test)]
fn records(zone: &Zone) -> impl Iterator<Item = Record> {
    zone.nodes().flat_map(|node| records_of(zone, node))
}

/// The records of a name.
fn records_of(zone: &Zone, node: Node) -> VecDeque<Record> {
    let mut records = VecDeque::new();
    for (owner, set) in zone.sets_of(node).filter(|(_, set)| set.rtype() != rtype::SOA) {
        records.extend(set.values().map(|rdata| Record {
            owner: owner.as_slice().into(),
            rtype: set.rtype(),
            ttl: set.ttl(),
            rdata: rdata.into(),
        }));
    }
    records
}

/// The records of the name at a cursor, and the next cursor; none after the last name.
pub fn records_at(zone: &Zone, at: Cursor) -> Option<(VecDeque<Record>, Cursor)> {
    let (node, next) = zone.node_at(at)?;
    Some((records_of(zone, node), next))
}

/// The SOA record of a zone.
pub fn soa(zone: &Zone) -> Record {
    let rtype = rtype::SOA;
    let ttl = zone.apex_node().set(rtype).map_or(0, |set| set.ttl());
    Record { owner: zone.apex.clone(), rtype, ttl, rdata: zone.soa().into() }
}

impl Step {
    /// Compares two versions of a zone.
    fn new(old: &Zone, new: &Zone) -> Step {
        // Names are compared one by one: a copy of all records would take too much memory.
        let (mut removed, mut added) = (vec![soa(old)], vec![soa(new)]);
        let mut compare = |name: &[u8]| {
            work::count(1);
            let records = |zone: &Zone| zone.node_of(name).map_or_else(VecDeque::new, |node| records_of(zone, node));
            let (was, is) = (records(old), records(new));
            let (had, has): (HashSet<&Record>, HashSet<&Record>) = (was.iter().collect(), is.iter().collect());
            removed.extend(was.iter().filter(|record| !has.contains(record)).cloned());
            added.extend(is.iter().filter(|record| !had.contains(record)).cloned());
        };
        match old.names_changed_in(new) {
            Some(names) => names.iter().for_each(|name| compare(name)),
            None => {
                let name = |node: Node| [node.relative(), &old.apex].concat();
                old.nodes().for_each(|node| compare(&name(node)));
                let new_names = new.nodes().map(name).filter(|name| old.node_of(name).is_none());
                new_names.for_each(|name| compare(&name));
            }
        }
        removed[1..].sort();
        let octets = removed.iter().chain(&added).map(Record::size).sum();
        Step { from: old.serial(), removed, added, octets }
    }
}

impl History {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Versions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the zones of a generation. Returns the zones that are new or have another serial.
    pub fn add(&self, zones: &[Arc<Zone>]) -> Vec<Arc<Zone>> {
        let ids: BTreeSet<&str> = zones.iter().map(|zone| zone.id.as_str()).collect();
        self.lock().retain(|id, _| ids.contains(id.as_str()));
        let mut changed = Vec::new();
        for zone in zones {
            let old = self.lock().get(&zone.id).map(|versions| versions.zone.clone());
            if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, zone)) {
                continue;
            }
            let old = old.filter(|old| old.apex == zone.apex);
            let is_other = old.as_ref().is_none_or(|old| old.serial() != zone.serial());
            // The comparison takes its time. The lock is free meanwhile, so that other zones can be
            // transferred.
            let step = old.filter(|_| is_other).map(|old| Arc::new(Step::new(&old, zone)));
            let mut all = self.lock();
            let versions = all.entry(zone.id.clone()).or_insert_with(|| Versions {
                zone: zone.clone(),
                steps: VecDeque::new(),
                octets: 0,
            });
            if versions.zone.apex != zone.apex {
                (versions.steps, versions.octets) = (VecDeque::new(), 0);
            }
            versions.zone = zone.clone();
            if let Some(step) = step {
                versions.octets += step.octets;
                versions.steps.push_back(step);
            }
            let max = MIN_STEPS_OCTETS.max(zone.memory());
            while (versions.octets > max || versions.steps.len() > MAX_STEPS)
                && let Some(oldest) = versions.steps.pop_front()
            {
                versions.octets -= oldest.octets;
            }
            if is_other {
                changed.push(zone.clone());
            }
        }
        changed
    }

    /// The latest version of a zone.
    pub fn latest(&self, id: &str) -> Option<Arc<Zone>> {
        self.lock().get(id).map(|versions| versions.zone.clone())
    }

    /// The latest version of a zone, and the steps that lead to it from a serial; none if the
    /// history does not have them.
    pub fn steps(&self, id: &str, from: u32) -> Option<(Arc<Zone>, Vec<Arc<Step>>)> {
        let all = self.lock();
        let versions = all.get(id)?;
        let first = versions.steps.iter().position(|step| step.from == from)?;
        Some((versions.zone.clone(), versions.steps.iter().skip(first).cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::{
            Loaded,
            overlay::{EditedSet, Overlay},
            transferred::{Content, ZoneCopy},
        },
        snapshot::{Snapshot, compile},
        transfer::answer::{Reader, RecordLimits, Transferred},
        wire::{Name, rdata, response},
    };

    /// The snapshot after `previous`, with a zone that has these names.
    fn snapshot(names: &[String], previous: Option<&Snapshot>) -> Snapshot {
        let set = |name: &String| serde_json::json!({"name": name, "type": "A", "records": ["192.0.2.1"]});
        let records: Vec<_> = names.iter().map(set).collect();
        let zones = serde_json::json!({
            "Z": {"name": "z.example", "vpc_ids": [], "records": records, "allow_transfer": [{"tsig_key": "k"}]},
            "Y": {"name": "y.example", "vpc_ids": []},
        });
        let manifest = serde_json::from_value(serde_json::json!({"private_hosted_zones": zones})).unwrap();
        compile(&Loaded { manifest, ..Loaded::default() }, &Arc::default(), previous).unwrap().0
    }

    fn names(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("n{number}")).collect()
    }

    #[test]
    fn has_steps_from_any_version_to_the_latest() {
        let history = History::default();
        let mut latest = snapshot(&names(0..3), None);
        let first = latest.zone("Z").unwrap().serial();
        assert_eq!(history.add(&numbered(&latest)).len(), 1, "a zone without secondaries is not in the history");
        assert!(history.add(&numbered(&latest)).is_empty() && history.latest("Y").is_none());
        let mut versions = vec![records(latest.zone("Z").unwrap()).collect::<BTreeSet<_>>()];
        for round in 1..6 {
            latest = snapshot(&names(round..2 * round + 3), Some(&latest));
            assert_eq!(history.add(&numbered(&latest))[0].serial(), first + round as u32);
            versions.push(records(latest.zone("Z").unwrap()).collect());
        }
        for (round, version) in versions.iter().enumerate() {
            let from = first + round as u32;
            let Some((zone, steps)) = history.steps("Z", from) else {
                assert_eq!(round, 5, "the latest version needs no steps");
                continue;
            };
            let mut version = version.clone();
            for step in steps {
                assert_eq!(step.from, crate::snapshot::zone::soa_serial(&step.removed[0].rdata));
                step.removed[1..].iter().for_each(|record| assert!(version.remove(record)));
                step.added[1..].iter().for_each(|record| assert!(version.insert(record.clone())));
            }
            assert_eq!(version, records(&zone).collect());
        }
        assert!(history.steps("Z", first - 1).is_none() && history.steps("Y", 1).is_none());
    }

    /// A zone of 3000 names with aliases to most, and a name that two aliases lead to, one by the
    /// other.
    fn updated_zone() -> Loaded {
        let set = |name: String| serde_json::json!({"name": name, "type": "A", "records": ["192.0.2.1"]});
        let mut records: Vec<_> = names(0..3000).into_iter().chain(["target".into()]).map(set).collect();
        let alias = |owner: &str, target: &str| serde_json::json!({"name": owner, "type": "A", "alias": {"name": format!("{target}.z.example")}});
        records.extend(names(0..2990).iter().map(|name| alias(&format!("to-{name}"), name)));
        records.extend([alias("alias", "target"), alias("far", "alias")]);
        let key = serde_json::json!([{"tsig_key": "k"}]);
        let zone = serde_json::json!({
            "name": "z.example", "vpc_ids": [], "records": records, "allow_transfer": key, "allow_update": key,
        });
        let manifest = serde_json::from_value(serde_json::json!({"private_hosted_zones": {"Z": zone}})).unwrap();
        Loaded { manifest, ..Loaded::default() }
    }

    /// This counts the compilation, the comparison of versions, and the check of the changes.
    #[test]
    fn an_update_costs_the_change_until_it_is_in_the_history() {
        let (mut loaded, history, mut overlay) = (updated_zone(), History::default(), Overlay::default());
        let mut latest = compile(&loaded, &Arc::default(), None).unwrap().0;
        history.add(&numbered(&latest));
        let first = latest.zone("Z").unwrap().serial();
        let mut versions = vec![records(latest.zone("Z").unwrap()).collect::<BTreeSet<_>>()];
        for (owner, address) in
            [("n7", Some(9)), ("n2995", None), ("new", Some(1)), ("a.b.n9", Some(1)), ("target", Some(7))]
        {
            let owner = Name::absolute(&format!("{owner}.z.example")).unwrap();
            let values = address.into_iter().map(|last| [192, 0, 2, last][..].into()).collect();
            overlay.add(&[EditedSet { owner, rtype: rtype::A, ttl: 60, values }]);
            loaded.overlays = [("Z".to_string(), Arc::new(overlay.clone()))].into_iter().collect();
            let (_, work) = work::of(|| {
                latest = compile(&loaded, &Arc::default(), Some(&latest)).unwrap().0;
                history.add(&numbered(&latest))
            });
            assert!(work < 40, "{work}");
            versions.push(records(latest.zone("Z").unwrap()).collect());
        }
        for (round, version) in versions.iter().enumerate().take(5) {
            let (zone, steps) = history.steps("Z", first + round as u32).unwrap();
            let mut version = version.clone();
            for step in steps {
                step.removed[1..].iter().for_each(|record| assert!(version.remove(record)));
                step.added[1..].iter().for_each(|record| assert!(version.insert(record.clone())));
            }
            assert_eq!(version, records(&zone).collect());
        }
        let (_, last) = history.steps("Z", first + 4).unwrap();
        assert_eq!(
            (last[0].removed.len(), last[0].added.len()),
            (4, 4),
            "the records of an alias change with its target"
        );
    }

    /// This counts everything from the differences of a primary to those for secondaries.
    #[test]
    fn an_incremental_transfer_costs_the_change_until_it_is_in_the_history() {
        let zone = serde_json::json!({
            "name": "z.example", "vpc_ids": [], "primaries": [{"ip": "192.0.2.1"}], "allow_transfer": [{"tsig_key": "k"}],
        });
        let manifest = serde_json::from_value(serde_json::json!({"private_hosted_zones": {"Z": zone}})).unwrap();
        let mut loaded = Loaded { manifest, ..Loaded::default() };
        let zone = Name::absolute("z.example").unwrap();
        let record = |owner: &str, text: &str| {
            let (rtype, data) = text.split_once(' ').unwrap();
            let rtype = rdata::type_from_text(rtype).unwrap();
            let owner = Name::parse(owner.as_bytes(), Some(&zone)).unwrap().as_wire().to_vec();
            let rdata = rdata::parse_text(rtype, data, &zone).unwrap().into();
            response::Record { owner, rtype, class: 1, ttl: 60, rdata }
        };
        let soa = |serial: u32| record("@", &format!("SOA ns hm {serial} 1 2 3 4"));
        let read = |old: Option<&Content>, records: Vec<response::Record>| {
            let mut reader = Reader::new(&zone, old, RecordLimits::new(usize::MAX, usize::MAX));
            match records.into_iter().filter_map(|record| reader.push(record).unwrap()).last() {
                Some(Transferred::Whole(content) | Transferred::Changed(content)) => Arc::new(content),
                other => panic!("{other:?}"),
            }
        };
        let hosts = (0..20_000).map(|number| record(&format!("n{number}"), "A 192.0.2.1"));
        let all = [soa(1), record("@", "NS ns")].into_iter().chain(hosts).chain([soa(1)]).collect();
        let (history, mut content) = (History::default(), read(None, all));
        let mut serve = |content: &Arc<Content>, previous: Option<&Snapshot>| {
            loaded.transferred =
                [("Z".to_string(), ZoneCopy { content: content.clone(), is_expired: false })].into_iter().collect();
            let snapshot = compile(&loaded, &Arc::default(), previous).unwrap().0;
            history.add(&numbered(&snapshot));
            snapshot
        };
        let mut latest = serve(&content, None);
        let mut versions = vec![records(latest.zone("Z").unwrap()).collect::<BTreeSet<_>>()];
        for serial in 2..12 {
            let (deleted_name, added_name) = (format!("n{serial}"), format!("new.n{serial}"));
            let deleted = vec![soa(serial), soa(serial - 1), record(&deleted_name, "A 192.0.2.1")];
            let added = vec![soa(serial), record(&added_name, "A 192.0.2.2"), soa(serial)];
            let (_, work) = work::of(|| {
                content = read(Some(&content), [deleted, added].concat());
                latest = serve(&content, Some(&latest));
            });
            assert!(work < 1000, "{work}");
            versions.push(records(latest.zone("Z").unwrap()).collect());
        }
        for (version, from) in versions.iter().zip(1..11) {
            let (zone, steps) = history.steps("Z", from).unwrap();
            let mut version = version.clone();
            for step in steps {
                step.removed[1..].iter().for_each(|record| assert!(version.remove(record)));
                step.added[1..].iter().for_each(|record| assert!(version.insert(record.clone())));
            }
            assert_eq!((version, zone.serial()), (records(&zone).collect(), 11));
        }
    }

    #[test]
    fn limits_the_size_of_the_steps() {
        let history = History::default();
        let mut latest = snapshot(&names(0..1), None);
        let first = latest.zone("Z").unwrap().serial();
        history.add(&numbered(&latest));
        for round in 0..20 {
            latest = snapshot(&names(round * 50..round * 50 + 100), Some(&latest));
            history.add(&numbered(&latest));
        }
        assert!(history.steps("Z", first).is_none(), "the oldest steps are gone");
        let (_, steps) = history.steps("Z", first + 19).unwrap();
        assert_eq!(steps.len(), 1);
        let octets: usize = history.lock()["Z"].steps.iter().map(|step| step.octets).sum();
        assert!(octets <= MIN_STEPS_OCTETS && octets == history.lock()["Z"].octets);
    }
}
