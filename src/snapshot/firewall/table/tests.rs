use super::*;
use crate::wire::Name;
use proptest::{collection::vec, prelude::*};

fn wire(text: &str) -> Box<[u8]> {
    Name::absolute(text).unwrap().to_lowercase().as_wire().into()
}

fn found(lists: &Lists, name: &str, qtype: u16) -> Vec<Match> {
    let mut all = Vec::new();
    lists.find(&LookupName::new(&wire(name)).unwrap(), qtype, &mut |found| {
        all.push(found);
        ControlFlow::Continue(())
    });
    all
}

/// Lists with the identifiers `l0` to `l3`, and no names.
fn four_lists() -> Lists {
    let ids: Vec<Id> = (0..4).map(|n| format!("l{n}")).collect();
    Lists::default().with_ids(ids.iter())
}

#[derive(Clone, Debug)]
struct PlainEntry {
    list: u32,
    name: String,
    scope: Scope,
    line: u32,
}

/// What the table is compared with: all entries, in the order in which they were added.
#[derive(Default)]
struct Plain(Vec<PlainEntry>);

impl Plain {
    fn add(&mut self, entry: &PlainEntry) {
        let is_same =
            |other: &PlainEntry| (other.list, &other.name, other.scope) == (entry.list, &entry.name, entry.scope);
        if !self.0.iter().any(is_same) {
            self.0.push(entry.clone());
        }
    }

    /// List, labels of the entry, whether it is for names below only, and line.
    fn find(&self, name: &str) -> Vec<(u32, u8, bool, u32)> {
        let name = Name::absolute(name).unwrap();
        let mut found = Vec::new();
        for skip in 0..=name.label_count() {
            for entry in &self.0 {
                let other = Name::absolute(&entry.name).unwrap();
                if other.label_count() + skip == name.label_count()
                    && name.is_at_or_below(&other)
                    && entry.scope.applies(skip)
                {
                    found.push((entry.list, other.label_count() as u8, entry.scope == Scope::Below, entry.line));
                }
            }
        }
        found
    }
}

fn any_name() -> impl Strategy<Value = String> {
    vec("[ab]{1,2}|com|co|uk|a-label-with-more-than-16-octets", 0..5)
        .prop_map(|labels| format!("{}.", labels.join(".")))
}

fn any_scope() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::Exact), Just(Scope::Below), Just(Scope::ExactAndBelow)]
}

/// An update: the list, the number of parts or 0 for single names, entries, and names whose entries go.
type Update = (u32, u32, Vec<(String, Scope)>, Vec<String>);

fn any_update() -> impl Strategy<Value = Update> {
    let parts = prop_oneof![Just(0), Just(1), Just(4), Just(16)];
    (0..4u32, parts, vec((any_name(), any_scope()), 0..40), vec(any_name(), 0..10))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn finds_the_entries_that_a_scan_of_all_entries_finds(updates in vec(any_update(), 1..8), names in vec(any_name(), 1..60)) {
        let (mut lists, mut plain) = (four_lists(), Plain::default());
        for (list, parts, entries, removed) in updates {
            let entries = entries.into_iter().enumerate();
            let entries: Vec<_> =
                entries.map(|(at, (name, scope))| PlainEntry { list, name, scope, line: at as u32 + 1 }).collect();
            let extents: Vec<Extent> = match parts {
                0 => vec![Extent::Names],
                count => (0..count).map(|number| Extent::Part { number, count }).collect(),
            };
            for extent in extents {
                let mut batch = Batch::new(list, extent, entries.len() as u64);
                if extent == Extent::Names {
                    removed.iter().for_each(|name| batch.remove(&wire(name)));
                }
                for PlainEntry { name, scope, line, .. } in &entries {
                    batch.add(&Entry { name: &wire(name), scope: *scope, line: *line, detail: Detail::Plain });
                }
                lists = lists.with_batch(&mut batch).unwrap();
            }
            plain.0.retain(|entry| entry.list != list || parts == 0 && !removed.contains(&entry.name));
            entries.iter().for_each(|entry| plain.add(entry));
        }
        for name in &names {
            let found = found(&lists, name, 1);
            let found: Vec<_> = found.iter().map(|m| (m.list, m.entry_labels, m.below_only, m.line)).collect();
            prop_assert_eq!(found, plain.find(name), "{}", name);
        }
    }
}

#[test]
fn a_large_list_is_replaced_part_by_part() {
    const NAMES: u32 = 40_000;
    let text = |n: u32| format!("host{n:06}.bad{}.example", n % 1000);
    let mut lists = four_lists();
    for (round, list) in [(0, 0), (1, 1), (2, 0)] {
        for number in 0..16 {
            let mut batch = Batch::new(list, Extent::Part { number, count: 16 }, NAMES.into());
            for n in 0..NAMES {
                let entry = Entry {
                    name: &wire(&text(n)),
                    scope: Scope::ExactAndBelow,
                    line: n + round,
                    detail: Detail::Plain,
                };
                batch.add(&entry);
            }
            lists = lists.with_batch(&mut batch).unwrap();
        }
    }
    assert_eq!(lists.len(), u64::from(NAMES));
    for n in (0..NAMES).step_by(7) {
        let lines: Vec<_> = found(&lists, &format!("www.{}", text(n)), 1).iter().map(|m| (m.list, m.line)).collect();
        assert_eq!(lines, [(1, n + 1), (0, n + 2)]);
    }
    assert!(found(&lists, "host040000.bad0.example", 1).is_empty());
    assert!(lists.bits > 2);

    // The entries of the first list go, and their memory with them.
    let mut batch = Batch::new(1, Extent::ALL, 0);
    let lists = lists.with_batch(&mut batch).unwrap();
    let memory = lists.memory() as f64 / f64::from(NAMES);
    let name = wire(&text(0)).len() as f64;
    assert!(memory < name + 13.0, "{memory} octets for a name of {name}");
    assert!(lists.with_batch(&mut Batch::new(0, Extent::ALL, 0)).unwrap().is_empty());
}

#[test]
fn a_small_list_is_replaced_without_the_shards_that_have_none_of_its_entries() {
    let entry = |lists: Lists, list, names: &[String]| {
        let mut batch = Batch::new(list, Extent::ALL, names.len() as u64);
        for (line, name) in (1..).zip(names) {
            batch.add(&Entry { name: &wire(name), scope: Scope::Exact, line, detail: Detail::Plain });
        }
        lists.with_batch(&mut batch).unwrap()
    };
    let large: Vec<String> = (0..60_000).map(|n| format!("host{n}.large.example")).collect();
    let before = entry(four_lists(), 0, &large);
    let shards = before.shards().count();
    assert!(shards > 8, "{shards} shards");
    let after = entry(before.clone(), 1, &["one.example".into()]);
    let replaced = entry(after.clone(), 1, &["two.example".into()]);
    for (old, new, most) in [(&before, &after, 1), (&after, &replaced, 2)] {
        let others = new.shards().zip(old.shards()).filter(|((_, new), (_, old))| !new.shares_memory_with(old));
        assert!((1..=most).contains(&others.count()));
    }
    assert_eq!((found(&replaced, "one.example", 1).len(), found(&replaced, "two.example", 1).len()), (0, 1));
    assert!(replaced.rebuilt_names(1, 1) < 10_000);
    assert_eq!((replaced.rebuilt_names(0, 1), replaced.rebuilt_names(3, 1_000)), (60_001, 60_001));
}

#[test]
fn exceptions_and_conditions_decide_within_their_list() {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    let rule = |is_exception, is_important, conditions| Detail::Rule { is_exception, is_important, conditions };
    let entries = [
        ("example.com", Detail::Plain),
        ("good.example.com", rule(true, false, None)),
        ("bad.good.example.com", Detail::Plain),
        ("worst.good.example.com", rule(false, true, None)),
        ("best.worst.good.example.com", rule(true, true, None)),
        ("six.example", rule(false, false, Some(0))),
        ("four.example", rule(false, false, Some(1))),
        ("net", rule(false, false, Some(2))),
    ];
    let mut batch = Batch::new(2, Extent::ALL, 8);
    for (line, (name, detail)) in (1..).zip(entries) {
        batch.add(&Entry { name: &wire(name), scope: Scope::ExactAndBelow, line, detail });
    }
    let mut lists = four_lists().with_batch(&mut batch).unwrap();
    let conditions = [
        Conditions { types: [AAAA].into(), ..Conditions::default() },
        Conditions { not_types: [AAAA].into(), ..Conditions::default() },
        Conditions { except: [wire("kept.net")].into(), ..Conditions::default() },
    ];
    let data = ListData { conditions: conditions.into(), has_rules: true, ..ListData::default() };
    lists.set_data(2, Arc::new(data));
    for (name, qtype, line) in [
        ("www.example.com", A, Some(1)),
        ("good.example.com", A, None),
        ("bad.good.example.com", A, None),
        ("x.worst.good.example.com", A, Some(4)),
        ("best.worst.good.example.com", A, None),
        ("six.example", A, None),
        ("six.example", AAAA, Some(6)),
        ("four.example", A, Some(7)),
        ("four.example", AAAA, None),
        ("any.net", A, Some(8)),
        ("a.kept.net", A, None),
        ("notkept.net", A, Some(8)),
    ] {
        let lines: Vec<u32> = found(&lists, name, qtype).iter().map(|m| m.line).collect();
        assert_eq!(lines, Vec::from_iter(line), "{name} {qtype}");
    }
}

#[test]
fn several_records_of_local_data_are_one_match() {
    let local: Vec<LocalRecords> =
        (0..3u8).map(|n| LocalRecords { rtype: 1, ttl: 60, rdata: [10, 0, 0, n].into() }).collect();
    let mut batch = Batch::new(0, Extent::ALL, 2);
    for (line, number, scope) in [(1, 0, Scope::Exact), (2, 2, Scope::Exact), (3, 1, Scope::Below)] {
        let detail = Detail::Rpz(RpzAction::Local(number));
        batch.add(&Entry { name: &wire("bad.example"), scope, line, detail });
    }
    let mut lists = four_lists().with_batch(&mut batch).unwrap();
    lists.set_data(0, Arc::new(ListData { local: local.clone().into(), ..ListData::default() }));
    for (name, expected) in [("bad.example", &[0, 2][..]), ("x.bad.example", &[1])] {
        let found = found(&lists, name, 1);
        assert_eq!(found.len(), 1);
        let data: Vec<_> = lists.local_data(&found[0]).collect();
        assert_eq!(data, expected.iter().map(|&n| &local[n]).collect::<Vec<_>>());
    }
}

#[test]
fn a_hint_has_the_addresses_that_the_search_reads() {
    let mut batch = Batch::new(0, Extent::ALL, 2);
    for name in ["bad.example", "x.worse.example"] {
        batch.add(&Entry { name: &wire(name), scope: Scope::ExactAndBelow, line: 1, detail: Detail::Plain });
    }
    let lists = four_lists().with_batch(&mut batch).unwrap();
    let addresses = |name: &str| {
        let name = LookupName::new(&wire(name)).unwrap();
        lists.search_hint(&name).map(|hint| {
            [0, 1, 2].map(|stage| {
                let mut count = 0;
                (hint.visit_addresses(stage, &mut |_| count += 1), count)
            })
        })
    };
    // Names have two or three labels. A record is two addresses.
    assert_eq!(addresses("bad.example"), Some([(true, 1), (true, 1), (true, 2)]));
    assert_eq!(addresses("a.b.c.bad.example"), Some([(true, 1), (true, 2), (true, 2)]));
    assert_eq!(addresses("y.x.worse.example"), Some([(true, 1), (true, 2), (true, 2)]));
    assert_eq!(
        addresses("www.innocent.example").map(|[_, (is_listed, count), _]| (is_listed, count)),
        Some((false, 0))
    );
    assert_eq!((addresses("example"), addresses(".")), (None, None));
    assert!(four_lists().search_hint(&LookupName::new(&wire("bad.example")).unwrap()).is_none());
}

#[test]
fn a_visitor_ends_the_search() {
    let mut batch = Batch::new(0, Extent::ALL, 2);
    for name in ["example", "bad.example", "."] {
        batch.add(&Entry { name: &wire(name), scope: Scope::ExactAndBelow, line: 1, detail: Detail::Plain });
    }
    let lists = four_lists().with_batch(&mut batch).unwrap();
    let mut visits = 0;
    lists.find(&LookupName::new(&wire("x.bad.example")).unwrap(), 1, &mut |_| {
        visits += 1;
        ControlFlow::Break(())
    });
    assert_eq!((visits, found(&lists, "x.bad.example", 1).len(), found(&lists, ".", 1).len()), (1, 3, 1));
}

#[test]
fn lists_keep_their_numbers_until_their_names_are_removed() {
    let ids = |ids: &[&str]| -> Vec<Id> { ids.iter().map(|id| id.to_string()).collect() };
    let mut batch = Batch::new(1, Extent::ALL, 1);
    batch.add(&Entry { name: &wire("bad.example"), scope: Scope::Exact, line: 1, detail: Detail::Plain });
    let mut lists = Lists::default().with_ids(ids(&["a", "b"]).iter()).with_batch(&mut batch).unwrap();
    lists.set_state(1, ListState::Loaded);
    assert_eq!((lists.number("b"), lists.state(1), lists.state(0)), (Some(1), ListState::Loaded, ListState::Missing));
    assert_eq!(found(&lists, "bad.example", 1).len(), 1);

    let lists = lists.with_ids(ids(&["a", "c"]).iter());
    assert_eq!((lists.number("b"), lists.number("c"), lists.removed()), (None, Some(2), vec![1]));
    assert_eq!((lists.state(1), found(&lists, "bad.example", 1).len()), (ListState::Missing, 0));
    let mut lists = lists.with_batch(&mut Batch::new(1, Extent::ALL, 0)).unwrap();
    lists.forget(1);
    assert!(lists.is_empty() && lists.removed().is_empty());
    assert_eq!(lists.with_ids(ids(&["a", "c", "d"]).iter()).number("d"), Some(1));
}

#[test]
fn refuses_a_name_with_thousands_of_different_entries() {
    let mut batch = Batch::new(0, Extent::ALL, 1);
    for line in 0..5000 {
        let detail = Detail::Rpz(RpzAction::Local(line));
        batch.add(&Entry { name: &wire("bad.example"), scope: Scope::Exact, line, detail });
    }
    assert_eq!(four_lists().with_batch(&mut batch).unwrap_err(), TooManyNames);
}
