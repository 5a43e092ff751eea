use crate::{
    manifest::{Access, MasterFile, PrivateHostedZone, Record, overlay::EditedSet, overlay::Overlay},
    snapshot::zone::{Job, Node, Search, Set, Zone, build, read_u16, work},
    wire::{
        Name,
        query::LookupName,
        rdata::{parse_text, rtype},
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
        let (source, data, overlay) = (source(), data(names), Arc::default());
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
    let job = Job { id: &"Z".to_string(), source, data, base, overlay, missing: None, serial: (None, 1) };
    build(job, &mut Vec::new()).map(|(zone, _)| zone)
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
