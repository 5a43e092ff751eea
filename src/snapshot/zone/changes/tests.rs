use crate::{
    manifest::{
        Access, MasterFile, PrivateHostedZone, Record,
        overlay::{EditedSet, Overlay},
        transferred::Content,
        work,
    },
    snapshot::zone::{Job, Node, Search, Set, Zone, build, read_u16},
    wire::{
        Name,
        query::LookupName,
        rdata::{parse_text, rtype, type_to_text},
    },
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{collections::BTreeMap, sync::Arc};

const APEX: &str = "z.example";

fn name(relative: &str) -> Name {
    let absolute = if relative.is_empty() { APEX.to_string() } else { format!("{relative}.{APEX}") };
    Name::absolute(&absolute).unwrap()
}

/// The sets of a name: types with their data.
type Sets = Vec<(u16, Vec<String>)>;

fn edited(owner: &str, rtype: u16, values: &[String]) -> EditedSet {
    let value = |value: &String| parse_text(rtype, value, &Name::root()).unwrap();
    EditedSet { owner: name(owner), rtype, ttl: 60, values: values.iter().map(value).collect() }
}

fn source() -> Arc<PrivateHostedZone> {
    let mut source = PrivateHostedZone::empty(name(""));
    source.allow_update = serde_json::from_str::<Vec<Access>>(r#"[{"tsig_key": "k"}]"#).unwrap();
    Arc::new(source)
}

/// A zone of these records, and SOA and NS at its apex.
fn data(names: &BTreeMap<String, Sets>) -> MasterFile {
    let mut records = Vec::new();
    let apex: Sets = vec![
        (rtype::SOA, vec!["ns.z.example. h.z.example. 1 1 1 1 30".into()]),
        (rtype::NS, vec!["a.z.example.".into(), "ns.elsewhere.example.".into()]),
    ];
    for (owner, sets) in [(&String::new(), &apex)].into_iter().chain(names) {
        for (rtype, values) in sets {
            let set = edited(owner, *rtype, values);
            let (owner, rtype, ttl) = (set.owner, set.rtype, set.ttl);
            let record = |rdata| Record { owner: owner.clone(), rtype, ttl, rdata, file: 0, line: 0 };
            records.extend(set.values.into_iter().map(record));
        }
    }
    MasterFile { files: Vec::new(), records }
}

/// A zone with updates, and its source.
struct Updated {
    source: Arc<PrivateHostedZone>,
    data: MasterFile,
    overlay: Arc<Overlay>,
    zone: Zone,
}

impl Updated {
    fn new(names: &BTreeMap<String, Sets>) -> Option<Updated> {
        Updated::of(source(), names)
    }

    fn of(source: Arc<PrivateHostedZone>, names: &BTreeMap<String, Sets>) -> Option<Updated> {
        let (data, overlay) = (data(names), Arc::default());
        let zone = built(&source, Some(&data), None, None)?;
        Some(Updated { source, data, overlay, zone })
    }

    /// Makes an update, and returns the number of names and records that it read. None if the update has an error.
    fn update(&mut self, sets: &[EditedSet]) -> Option<usize> {
        let mut overlay = (*self.overlay).clone();
        overlay.add(sets);
        let overlay = Arc::new(overlay);
        let (zone, read) = work::of(|| built(&self.source, None, Some(&self.zone), Some(&overlay)));
        (self.zone, self.overlay) = (zone?, overlay);
        Some(read)
    }

    /// The zone, built again from its source and all updates.
    fn built_again(&self) -> Zone {
        built(&self.source, Some(&self.data), None, Some(&self.overlay)).unwrap()
    }
}

fn built(
    source: &Arc<PrivateHostedZone>,
    data: Option<&MasterFile>,
    base: Option<&Zone>,
    overlay: Option<&Arc<Overlay>>,
) -> Option<Zone> {
    let id = "Z".to_string();
    let job = Job { data, base, overlay, ..Job::new(&id, source) };
    build(job, &mut Vec::new()).map(|(zone, _)| zone)
}

/// A zone in the versions that transfers make of it.
struct Transferred {
    source: Arc<PrivateHostedZone>,
    content: Arc<Content>,
    zone: Zone,
}

impl Transferred {
    fn new(names: &BTreeMap<String, Sets>) -> Option<Transferred> {
        let mut source = (*source()).clone();
        source.primaries = serde_json::from_str(r#"[{"ip": "192.0.2.1"}]"#).unwrap();
        let (source, content) = (Arc::new(source), Arc::new(Content::of(name(""), &data(names).records).unwrap()));
        let zone = Transferred::built(&source, &content, None)?;
        Some(Transferred { source, content, zone })
    }

    fn built(source: &Arc<PrivateHostedZone>, content: &Arc<Content>, base: Option<&Zone>) -> Option<Zone> {
        let id = "Z".to_string();
        let job = Job { content: Some(content), base, ..Job::new(&id, source) };
        build(job, &mut Vec::new()).map(|(zone, _)| zone)
    }

    /// Makes what a difference says. Returns what that looked at; none, and nothing is changed, if the zone cannot be so.
    fn change(&mut self, serial: u32, sets: &[EditedSet]) -> Option<usize> {
        let mut content = (*self.content).clone();
        let soa = edited("", rtype::SOA, &[format!("ns.z.example. h.z.example. {serial} 1 1 1 30")]);
        for set in sets.iter().chain([&soa]) {
            content.remove_set(&set.owner, set.rtype);
            for rdata in set.values.clone() {
                let (owner, rtype, ttl) = (set.owner.clone(), set.rtype, set.ttl);
                content.add(&Record { owner, rtype, ttl, rdata, file: 0, line: 0 }).unwrap();
            }
        }
        let content = Arc::new(content);
        let (zone, looked_at) = work::of(|| Transferred::built(&self.source, &content, Some(&self.zone)));
        (self.zone, self.content) = (zone?, content);
        Some(looked_at)
    }

    /// The zone as a whole transfer has it, whose records come in another order.
    fn anew(&self) -> Zone {
        let record = |(owner, rtype, ttl, rdata): (&Name, u16, u32, &[u8])| Record {
            owner: owner.clone(),
            rtype,
            ttl,
            rdata: rdata.into(),
            file: 0,
            line: 0,
        };
        let sets = self.content.sets();
        let all =
            sets.flat_map(|(owner, rtype, values)| values.iter().map(move |(ttl, data)| (owner, rtype, ttl, data)));
        let mut records: Vec<Record> = all.map(record).collect();
        records.reverse();
        let content = Arc::new(Content::of(name(""), &records).unwrap());
        assert_eq!(content.digest(), self.content.digest());
        Transferred::built(&self.source, &content, None).unwrap()
    }
}

/// A set as an answer has it, with its additional sets.
fn set(node: Node, set: Set) -> String {
    let mut additional = Vec::new();
    node.additional(set, |target| {
        let joined = target.node.sets().filter(|other| set.is_joined_by(*other));
        let mut sets: Vec<_> = joined.map(|other| (other.rtype(), other.records())).collect();
        sets.sort();
        additional.push(format!("{:?} {} {} {sets:?}", target.relative, target.is_self, target.node.is_occluded()));
    });
    format!("{} +{additional:?}", octets(set))
}

fn octets(set: Set) -> String {
    let fixups: Vec<usize> = (set.fixups_at()..set.records_at()).step_by(2).map(|at| read_u16(set.block, at)).collect();
    format!("{} {} {:?} {fixups:?}", set.rtype(), set.count(), set.records())
}

/// The answers for all types of a name.
fn answered(zone: &Zone, name: &LookupName) -> String {
    let node = |what: &str, node: Node| {
        let mut sets: Vec<String> = node.sets().map(|of_node| set(node, of_node)).collect();
        sets.sort();
        format!("{what} {} {} {} {sets:?}", node.name(), node.has_cname(), node.labels())
    };
    match zone.search(name) {
        Search::Node(found) => node("node", found),
        Search::Wildcard(found) => node("wildcard", found),
        Search::Cut(found) => node("cut", found),
        Search::Dname(found) => node("dname", found),
        Search::Empty => "empty".into(),
        Search::EmptyWildcard(encloser) => format!("empty wildcard {encloser}"),
        Search::Missing => "missing".into(),
    }
}

/// All records, as in a zone transfer.
fn transferred(zone: &Zone) -> Vec<(Vec<u8>, u16, u32, Vec<u8>)> {
    let records = |(owner, set): (Vec<u8>, Set<'_>)| {
        let (rtype, ttl) = (set.rtype(), set.ttl());
        set.values().map(move |value| (owner.clone(), rtype, ttl, value)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = zone.record_sets().flat_map(records).collect();
    all.sort();
    all
}

fn assert_same(zone: &Zone, expected: &Zone, asked: &[LookupName]) {
    for name in asked {
        assert_eq!(answered(zone, name), answered(expected, name), "{}", crate::wire::name::name_text(name.wire()));
        let has = |zone: &Zone| zone.node_of(name.wire()).map(|node| node.name());
        assert_eq!(has(zone), has(expected));
    }
    assert_eq!(transferred(zone), transferred(expected));
    assert_eq!(octets(zone.negative()), octets(expected.negative()));
    assert_eq!(zone.nodes().next().map(|node| node.name()), Some(name("")));
    assert_eq!(
        (zone.nodes().count(), zone.records, zone.cuts()),
        (expected.nodes().count(), expected.records, expected.cuts())
    );
    assert_eq!((zone.digest, zone.digest), (expected.digest, zone.content_digest()));
}

/// All names of up to three labels, and some of four.
fn all_names() -> Vec<LookupName> {
    let labels = ["a", "b", "c", "*"];
    let mut names = vec![String::new()];
    let mut last = names.clone();
    for depth in 1..=4 {
        let labels = if depth == 4 { &["c"][..] } else { &labels[..] };
        let longer = |name: &String| labels.iter().map(|label| format!("{label}.{name}")).collect::<Vec<_>>();
        last = last.iter().flat_map(longer).collect();
        names.extend(last.clone());
    }
    let wire = |name: &String| Name::absolute(&format!("{name}{APEX}")).unwrap();
    names.iter().map(|name| LookupName::new(wire(name).as_wire()).unwrap()).collect()
}

fn owner() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "*"]), 1..4).prop_map(|labels| labels.join("."))
}

/// The sets of a name. `structural` is the percentage of zone cuts and of DNAMEs.
fn contents(structural: u32) -> impl Strategy<Value = Sets> {
    let address = |at: u8| format!("192.0.2.{at}");
    let target = || owner().prop_map(|owner| format!("{}.Z.example.", owner.to_uppercase()));
    let data = vec(
        prop_oneof![
            3 => vec(any::<u8>(), 1..3).prop_map(move |all| {
                (rtype::A, std::collections::BTreeSet::from_iter(all).into_iter().map(address).collect())
            }),
            1 => Just((rtype::AAAA, vec!["2001:db8::1".to_string()])),
            1 => Just((16, vec!["\"text\"".to_string()])),
            2 => (target(), target()).prop_map(|(one, other)| {
                (rtype::SVCB, vec!["1 . alpn=dot".into(), format!("2 {one} port=1"), format!("3 {other}")])
            }),
            1 => target().prop_map(|name| (rtype::HTTPS, vec![format!("0 {name}")])),
            2 => target().prop_map(|name| (rtype::MX, vec![format!("10 {name}"), "20 mx.elsewhere.example.".into()])),
            2 => (target(), target()).prop_map(|(one, other)| {
                (rtype::SRV, vec![format!("0 0 1 {one}"), format!("0 0 2 {other}"), format!("0 0 3 {one}")])
            }),
        ],
        0..3,
    );
    let data = data.prop_map(|sets| Sets::from_iter(BTreeMap::from_iter(sets)));
    let cut = (target(), data.clone()).prop_map(|(name, mut sets)| {
        sets.push((rtype::NS, vec![name]));
        sets
    });
    let rest = 100 - structural;
    prop_oneof![
        rest * 4 => data,
        rest => target().prop_map(|name| vec![(rtype::CNAME, vec![name])]),
        structural => cut,
        structural => Just(vec![(rtype::DNAME, vec!["elsewhere.example.".to_string()])]),
    ]
}

/// The changed sets of a name that gets the sets `to`.
fn change(names: &mut BTreeMap<String, Sets>, owner: &str, to: &Sets) -> Vec<EditedSet> {
    let from = names.insert(owner.to_string(), to.clone()).unwrap_or_default();
    let deleted = from.iter().filter(|(rtype, _)| !to.iter().any(|(other, _)| other == rtype));
    let mut sets: Vec<_> = deleted.map(|(rtype, _)| edited(owner, *rtype, &[])).collect();
    sets.extend(to.iter().map(|(rtype, values)| edited(owner, *rtype, values)));
    sets
}

proptest! {
    #[test]
    fn a_changed_zone_equals_a_zone_built_from_the_same_records(
        first in prop_oneof![vec((owner(), contents(0)), 0..8), vec((owner(), contents(12)), 0..8)],
        updates in vec(vec((owner(), contents(2)), 1..4), 1..12),
    ) {
        let asked = all_names();
        let mut names: BTreeMap<String, Sets> = first.into_iter().collect();
        let zone = Updated::new(&names);
        prop_assume!(zone.is_some());
        let mut zone = zone.unwrap();
        for update in updates {
            let before = names.clone();
            let sets: Vec<EditedSet> = update.iter().flat_map(|(owner, to)| change(&mut names, owner, to)).collect();
            if zone.update(&sets).is_none() {
                names = before;
                continue;
            }
            assert_same(&zone.zone, &zone.built_again(), &asked);
        }
    }
}

/// A zone with aliases of type A, of these owners and targets.
fn source_with_aliases(aliases: &[(String, String)]) -> Arc<PrivateHostedZone> {
    let record = |(owner, target): &(String, String)| {
        let name = self::name(target).to_string();
        serde_json::json!({"name": owner, "type": "A", "alias": {"name": name}})
    };
    let records: Vec<_> = aliases.iter().map(record).collect();
    let mut source = (*source()).clone();
    source.records = serde_json::from_value(records.into()).unwrap();
    Arc::new(source)
}

/// What secondaries get of a name.
fn copied(zone: &Zone, name: &LookupName) -> Vec<(u16, u32, Vec<Vec<u8>>)> {
    let sets = zone.node_of(name.wire()).into_iter().flat_map(|node| zone.sets_of(node));
    sets.map(|(_, set)| (set.rtype(), set.ttl(), set.values().collect())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each name that has other records in a later version is among those that are told, however aliases lead there.
    #[test]
    fn names_with_other_records_are_known(
        aliases in vec((select(vec!["al0", "al1", "al2.b", "*.al3"]), prop_oneof![owner(), select(vec!["al0", "al1", "al2.b", "x.al3", ""]).prop_map(String::from)]), 1..5),
        first in vec((owner(), contents(0)), 0..8),
        updates in vec(vec((owner(), contents(0)), 1..3), 1..8),
    ) {
        let aliases: BTreeMap<&str, String> = aliases.into_iter().collect();
        let aliases: Vec<(String, String)> = aliases.into_iter().map(|(owner, to)| (owner.into(), to)).collect();
        let mut asked = all_names();
        asked.extend(aliases.iter().map(|(owner, _)| LookupName::new(name(owner).as_wire()).unwrap()));
        let mut names: BTreeMap<String, Sets> = first.into_iter().collect();
        let zone = Updated::of(source_with_aliases(&aliases), &names);
        prop_assume!(zone.is_some());
        let mut zone = zone.unwrap();
        let mut versions = vec![zone.zone.clone()];
        for update in updates {
            let before = names.clone();
            let sets: Vec<EditedSet> = update.iter().flat_map(|(owner, to)| change(&mut names, owner, to)).collect();
            match zone.update(&sets) {
                Some(_) => versions.push(zone.zone.clone()),
                None => names = before,
            }
        }
        for (old, new) in versions.iter().zip(&versions[1..]).chain([(&versions[0], &zone.zone)]) {
            let Some(told) = old.names_changed_in(new) else { continue };
            for name in &asked {
                if copied(old, name) != copied(new, name) {
                    assert!(told.contains(name.wire()), "{}", crate::wire::name::name_text(name.wire()));
                }
            }
        }
    }
}

/// One alias that is touched, of many.
#[test]
fn only_aliases_that_a_change_may_touch_are_looked_at() {
    let mut names = hosts(1000);
    names.insert("*.w".into(), vec![(rtype::A, vec!["192.0.2.1".into()])]);
    let mut aliases: Vec<(String, String)> = (0..1000).map(|at| (format!("al{at}"), format!("n{at}"))).collect();
    aliases.extend((0..5).map(|at| (format!("wild{at}"), format!("x{at}.w"))));
    aliases.extend((0..5).map(|at| (format!("apex{at}"), String::new())));
    aliases.push(("far".into(), "al7".into()));
    let mut zone = Updated::of(source_with_aliases(&aliases), &names).unwrap();
    let address = vec!["192.0.2.9".to_string()];
    for (owner, rtype, touched) in [
        ("n7", rtype::A, vec!["al7", "far"]),
        ("n7", 16, vec!["al7", "far"]),
        ("other", rtype::A, vec![]),
        ("x1.w", rtype::A, vec!["wild1"]),
        ("a.x2.w", rtype::A, vec!["wild2"]),
        ("b.x2.w", rtype::A, vec![]),
        ("*.w", rtype::A, vec!["wild0", "wild1", "wild2", "wild3", "wild4"]),
        ("", rtype::A, vec!["apex0", "apex1", "apex2", "apex3", "apex4"]),
    ] {
        let old = zone.zone.clone();
        let values = if rtype == 16 { vec!["\"x\"".to_string()] } else { address.clone() };
        zone.update(&[edited(owner, rtype, &values)]).unwrap();
        let names = old.aliases_touched_in(&zone.zone).unwrap();
        let names: Vec<String> = names.iter().map(|name| String::from_utf8(name[1..].into()).unwrap()).collect();
        assert_eq!(names, touched, "{owner}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_zone_after_incremental_transfers_is_the_zone_that_is_transferred_as_a_whole(
        first in prop_oneof![vec((owner(), contents(0)), 0..8), vec((owner(), contents(12)), 0..8)],
        steps in vec(vec((owner(), contents(2)), 1..4), 1..12),
    ) {
        let asked = all_names();
        let mut names: BTreeMap<String, Sets> = first.into_iter().collect();
        let zone = Transferred::new(&names);
        prop_assume!(zone.is_some());
        let mut zone = zone.unwrap();
        for (step, serial) in steps.into_iter().zip(2..) {
            let before = names.clone();
            let sets: Vec<EditedSet> = step.iter().flat_map(|(owner, to)| change(&mut names, owner, to)).collect();
            if zone.change(serial, &sets).is_none() {
                names = before;
                continue;
            }
            assert_eq!(zone.zone.serial(), serial);
            assert_same(&zone.zone, &zone.anew(), &asked);
        }
    }
}

#[test]
fn an_incremental_transfer_costs_the_change_and_not_the_zone() {
    let mut zone = Transferred::new(&hosts(50_000)).unwrap();
    let asked: Vec<LookupName> = ["n1", "n2", "new", "n3", "deep.er.n3"]
        .iter()
        .map(|relative| LookupName::new(name(relative).as_wire()).unwrap())
        .collect();
    let (one, two) = (vec!["192.0.2.9".to_string()], vec!["192.0.2.8".to_string(), "192.0.2.9".to_string()]);
    for ((owner, values), serial) in
        [("n1", &one), ("new", &two), ("n2", &vec![]), ("deep.er.n3", &one), ("new", &vec![])].into_iter().zip(2..)
    {
        let looked_at = zone.change(serial, &[edited(owner, rtype::A, values)]).unwrap();
        assert!(looked_at < 500, "{owner}: {looked_at}");
    }
    assert_same(&zone.zone, &zone.anew(), &asked);
    // What has an error is not taken, and changes nothing.
    assert!(zone.change(9, &[edited("n1", rtype::CNAME, &["n2.z.example.".into()])]).is_none());
    assert_eq!(zone.zone.serial(), 6);
    // So much that the zone is built anew, and then little again.
    let all: Vec<EditedSet> = (0..20_000).map(|at| edited(&format!("n{at}"), rtype::A, &two)).collect();
    assert!(zone.change(10, &all).unwrap() > 50_000);
    assert!(zone.change(11, &[edited("n1", rtype::A, &one)]).unwrap() < 500);
    assert_same(&zone.zone, &zone.anew(), &asked);
}

/// The resource of a zone with these record sets in `records`.
fn resource(names: &BTreeMap<String, Sets>) -> Arc<PrivateHostedZone> {
    let records = names.iter().flat_map(|(owner, sets)| {
        sets.iter().map(move |(rtype, values)| {
            serde_json::json!({"name": owner, "type": type_to_text(*rtype), "ttl": 60, "records": values})
        })
    });
    let mut source = (*source()).clone();
    source.records = serde_json::from_value(records.collect()).unwrap();
    Arc::new(source)
}

/// The zone of a resource, after another version of it.
fn of_resource(source: &Arc<PrivateHostedZone>, base: Option<&Zone>) -> Option<Zone> {
    let id = "Z".to_string();
    build(Job { base, ..Job::new(&id, source) }, &mut Vec::new()).map(|(zone, _)| zone)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_zone_of_a_changed_resource_is_the_zone_that_is_built_from_it(
        first in vec((owner(), contents(5)), 0..8),
        steps in vec(vec((owner(), contents(2)), 1..4), 1..12),
    ) {
        let asked = all_names();
        let mut names: BTreeMap<String, Sets> = first.into_iter().collect();
        let zone = of_resource(&resource(&names), None);
        prop_assume!(zone.is_some());
        let mut zone = zone.unwrap();
        for step in steps {
            let before = names.clone();
            names.extend(step);
            let source = resource(&names);
            let (changed, anew) = (of_resource(&source, Some(&zone)), of_resource(&source, None));
            assert_eq!(changed.is_some(), anew.is_some());
            match changed.zip(anew) {
                None => names = before,
                Some((changed, anew)) => {
                    assert_same(&changed, &anew, &asked);
                    zone = changed;
                }
            }
        }
    }
}

#[test]
fn a_changed_resource_costs_the_change_and_not_the_zone() {
    let mut names = hosts(3000);
    let mut zone = of_resource(&resource(&names), None).unwrap();
    let address = || vec![(rtype::A, vec!["192.0.2.9".to_string()])];
    for (owner, to) in [("n7", address()), ("n2000", vec![]), ("new", address()), ("a.b.n9", address())] {
        names.insert(owner.into(), to);
        let (changed, looked_at) = work::of(|| of_resource(&resource(&names), Some(&zone)).unwrap());
        assert!(looked_at < 40, "{owner}: {looked_at}");
        assert_same(&changed, &of_resource(&resource(&names), None).unwrap(), &all_names());
        zone = changed;
    }
    // A record set that is in the resource twice, a warning, and another field build the zone again.
    let mut twice = (*resource(&names)).clone();
    twice.records.push(twice.records.iter().next().unwrap().clone());
    let twice = Arc::new(twice);
    zone = of_resource(&twice, Some(&zone)).unwrap();
    names.insert("n0".into(), Vec::new());
    let (changed, looked_at) = work::of(|| of_resource(&resource(&names), Some(&zone)).unwrap());
    assert!(looked_at > 3000);
    assert_same(&changed, &of_resource(&resource(&names), None).unwrap(), &all_names());
    let mut other = (*resource(&names)).clone();
    other.fallthrough = true;
    assert!(of_resource(&Arc::new(other), Some(&changed)).unwrap().fallthrough);
}

fn hosts(number: usize) -> BTreeMap<String, Sets> {
    (0..number).map(|at| (format!("n{at}"), vec![(rtype::A, vec!["192.0.2.1".to_string()])])).collect()
}

#[test]
fn the_cost_of_an_update_follows_the_size_of_the_change() {
    let mut names = hosts(3000);
    names.insert("x.deep.er".into(), vec![(rtype::A, vec!["192.0.2.1".into()])]);
    names.insert("*.w".into(), vec![(rtype::A, vec!["192.0.2.1".into()])]);
    names.insert("cut".into(), vec![(rtype::NS, vec!["ns.cut.z.example.".into()])]);
    names.insert("ns.cut".into(), vec![(rtype::A, vec!["192.0.2.1".into()])]);
    let mut zone = Updated::new(&names).unwrap();
    let asked: Vec<LookupName> = ["n1", "n2", "new", "x.deep.er", "deep.er", "er", "q.er", "q.w", "a.b.new", "b.new"]
        .iter()
        .map(|relative| LookupName::new(name(relative).as_wire()).unwrap())
        .collect();
    let address = vec!["192.0.2.9".to_string()];
    for (owner, rtype, values) in [
        ("n1", rtype::A, &address),
        ("new", rtype::A, &address),
        ("new", 16, &vec!["\"x\"".into()]),
        ("n2", rtype::A, &vec![]),
        ("x.deep.er", rtype::A, &vec![]),
        ("a.b.new", rtype::A, &address),
        ("*.er", rtype::A, &address),
        ("*.w", rtype::A, &vec![]),
        ("", rtype::MX, &vec!["10 new.z.example.".into()]),
        ("new", rtype::A, &vec![]),
        ("", rtype::NS, &vec!["n7.z.example.".into()]),
        ("n7", rtype::A, &address),
    ] {
        let read = zone.update(&[edited(owner, rtype, values)]).unwrap();
        assert!(read < 40, "{owner}: {read}");
        assert_same(&zone.zone, &zone.built_again(), &asked);
    }
    // A change of a zone cut builds the zone again. After that, the cost of updates follows their size again.
    for (owner, rtype, values) in [("cut", rtype::NS, &vec![]), ("ns.cut", rtype::A, &vec![])] {
        zone.update(&[edited(owner, rtype, values)]).unwrap();
        assert_same(&zone.zone, &zone.built_again(), &asked);
    }
    assert!(zone.update(&[edited("n1", rtype::A, &[])]).unwrap() < 40);
}

#[test]
fn builds_a_zone_again_when_it_has_too_many_changes() {
    let mut zone = Updated::new(&hosts(2000)).unwrap();
    let of_two: usize =
        (0..2).map(|at| zone.update(&[edited(&format!("x{at}"), rtype::A, &["192.0.2.1".into()])]).unwrap()).sum();
    let full = zone.built_again().memory();
    let mut all = 0;
    for at in 0..2500 {
        all += zone.update(&[edited(&format!("y{at}"), rtype::A, &["192.0.2.1".into()])]).unwrap();
        assert!(zone.zone.memory() < 4 * full);
    }
    assert!(zone.zone.changes.as_ref().unwrap().names.len() < 1000);
    assert!(all > 4000 && all < 2500 * of_two + 3 * 30_000, "{all}");
    let asked: Vec<LookupName> =
        ["x1", "y0", "y2499", "y2500"].iter().map(|at| LookupName::new(name(at).as_wire()).unwrap()).collect();
    assert_same(&zone.zone, &zone.built_again(), &asked);
}

#[test]
fn an_update_with_an_error_changes_nothing() {
    let mut zone = Updated::new(&hosts(3)).unwrap();
    assert!(zone.update(&[edited("n1", rtype::CNAME, &["n2.z.example.".into()])]).is_none());
    assert!(zone.update(&[edited("n1", rtype::SOA, &["a. b. 1 1 1 1 1".into()])]).is_none());
    assert!(zone.update(&[edited("*.n1", rtype::NS, &["a.".into()])]).is_none());
    assert!(zone.zone.changes.is_none());
}
