use super::*;
use proptest::{collection::vec, prelude::*, sample::Index};

fn apex() -> Name {
    Name::absolute("z.example").unwrap()
}

fn set(number: u32, address: u8) -> Arc<ResourceRecordSet> {
    Arc::new(ResourceRecordSet {
        name: format!("r{number}"),
        record_type: "A".into(),
        records: vec![format!("192.0.2.{address}")],
        protected: address == 9,
        ..ResourceRecordSet::default()
    })
}

fn list(number: u32) -> RecordSets {
    (0..number).map(|number| set(number, 1)).collect()
}

#[derive(Clone, Debug)]
enum Edit {
    Put(Option<Index>, u32),
    Remove(Index),
    Splice(Index, usize, Vec<u32>),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Option<Index>>(), 0..3000_u32).prop_map(|(at, name)| Edit::Put(at, name)),
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), 0..400_usize, vec(0..3000_u32, 0..300))
            .prop_map(|(at, gone, came)| Edit::Splice(at, gone, came)),
    ]
}

/// Makes an edit of a list, and the same edit of a vector.
fn make(edit: &Edit, sets: &mut RecordSets, expected: &mut Vec<Arc<ResourceRecordSet>>) {
    match edit {
        Edit::Put(Some(at), name) if !expected.is_empty() => {
            let (at, new) = (at.index(expected.len()), set(*name, 9));
            sets.replace(Some(&expected[at]), Some(new.clone()));
            expected[at] = new;
        }
        Edit::Put(_, name) => {
            let new = set(*name, 2);
            sets.replace(None, Some(new.clone()));
            expected.push(new);
        }
        Edit::Remove(at) if !expected.is_empty() => {
            let old = expected.remove(at.index(expected.len()));
            sets.replace(Some(&old), None);
        }
        Edit::Remove(_) => {}
        Edit::Splice(at, gone, came) => {
            let at = at.index(expected.len() + 1);
            let gone = (*gone).min(expected.len() - at);
            let came: Vec<_> = came.iter().map(|name| set(*name, 3)).collect();
            assert!(sets.splice(at, gone, came.clone()));
            drop(expected.splice(at..at + gone, came));
        }
    }
}

/// The list that the runs make of an older version.
fn with_runs(old: &RecordSets, runs: &[ChangedRun]) -> RecordSets {
    let mut sets = old.clone();
    for run in runs.iter().rev() {
        assert!(sets.splice(run.old_at, run.gone.len(), run.came.iter().map(|set| (*set).clone())));
    }
    sets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_edited_list_is_the_list_that_is_made_of_its_sets(start in 0..1500_u32, is_indexed in any::<bool>(), edits in vec(edit(), 1..12)) {
        let mut sets = list(start);
        let mut expected: Vec<_> = sets.iter().cloned().collect();
        let first = sets.clone();
        if is_indexed {
            sets.index(&apex());
        }
        for edit in edits {
            let old = sets.clone();
            make(&edit, &mut sets, &mut expected);
            prop_assert!(sets.iter().zip(&expected).all(|(one, other)| Arc::ptr_eq(one, other)));
            let again: RecordSets = expected.iter().cloned().collect();
            prop_assert_eq!((sets.len(), sets.is_empty()), (expected.len(), expected.is_empty()));
            prop_assert!(sets == again);
            prop_assert_eq!(sets.digest(), again.digest());
            prop_assert_eq!(sets.protected().count(), expected.iter().filter(|set| set.protected).count());
            prop_assert_eq!(sets.is_indexed(&apex()), is_indexed);
            for number in [0, 7, 700, 2999] {
                let key = key_of(&apex(), &set(number, 1)).unwrap();
                let found: Vec<_> = expected.iter().filter(|set| set.name == format!("r{number}")).collect();
                let known = sets.of_key(&apex(), &key);
                prop_assert_eq!(known.len(), found.len());
                prop_assert!(found.iter().all(|set| known.iter().any(|other| Arc::ptr_eq(set, other))));
            }
            for old in [&old, &first] {
                let runs = sets.changes_since(old);
                for run in &runs {
                    let is_at = |at: usize, sets: &RecordSets, some: &[&Arc<ResourceRecordSet>]| {
                        sets.iter().skip(at).zip(some).all(|(one, other)| Arc::ptr_eq(one, other))
                    };
                    prop_assert!(is_at(run.old_at, old, &run.gone) && is_at(run.new_at, &sets, &run.came));
                }
                prop_assert!(with_runs(old, &runs) == sets);
            }
        }
        // A list that shares no chunk has the same differences.
        let copy: RecordSets = expected.iter().map(|set| Arc::new((**set).clone())).collect();
        prop_assert!(copy.changes_since(&sets).is_empty());
        prop_assert!(with_runs(&first, &copy.changes_since(&first)) == sets);
        let shared = copy.sharing(&sets);
        prop_assert!(shared.chunks.iter().zip(&sets.chunks).all(|(one, other)| Arc::ptr_eq(one, other)));
        prop_assert!(expected.iter().cloned().collect::<RecordSets>().sharing(&first) == sets);
    }
}

#[test]
fn the_digest_depends_on_content_and_order() {
    let (sets, mut other) = (list(1000), list(1000));
    assert_eq!(sets.digest(), other.digest());
    let first = other.iter().next().unwrap().clone();
    other.replace(Some(&first), Some(set(0, 2)));
    assert_ne!(sets.digest(), other.digest());
    let mut moved = sets.clone();
    let first = sets.iter().next().unwrap().clone();
    moved.replace(Some(&first), None);
    assert_ne!(sets.digest(), moved.digest());
    moved.push(first.clone());
    assert_ne!(sets.digest(), moved.digest(), "another order");
    assert!(moved.splice(999, 1, []) && moved.splice(0, 0, [first]));
    assert_eq!(sets.digest(), moved.digest());
    assert!(!moved.splice(1000, 1, []) && !moved.splice(1001, 0, []) && !moved.splice(usize::MAX, 1, []));
}

#[test]
fn the_case_of_a_target_is_a_difference() {
    let alias = |target: &str| {
        let alias = serde_json::json!([{"name": "a", "type": "A", "alias": {"name": target}}]);
        serde_json::from_value::<RecordSets>(alias).unwrap()
    };
    let (lower, upper) = (alias("b.z.example"), alias("B.z.example"));
    assert!(lower == upper && lower.digest() != upper.digest());
    assert_eq!(upper.changes_since(&lower).len(), 1);
}

#[test]
fn a_change_costs_a_few_chunks_and_not_the_list() {
    let mut sets = list(50_000);
    let longest = sets.chunks.iter().map(|chunk| chunk.sets.len()).max().unwrap();
    assert!((200..800).contains(&sets.chunks.len()) && longest < 2000, "{} chunks, {longest}", sets.chunks.len());
    let key = |number| key_of(&apex(), &set(number, 1)).unwrap();
    let (_, of_first) = work::of(|| (sets.digest(), sets.index(&apex())));
    assert_eq!(of_first, 100_000);
    for number in 0..200 {
        let old = sets.clone();
        let (_, looked_at) = work::of(|| {
            let current = sets.of_key(&apex(), &key(number * 250));
            let new = (number % 3 > 0).then(|| set(number * 250, 7));
            sets.replace(current.first(), new);
            sets.replace(None, Some(set(60_000 + number, 7)));
            sets.changes_since(&old).iter().map(|run| run.gone.len() + run.came.len()).sum::<usize>()
                + usize::from(sets.digest()[0])
        });
        assert!(looked_at < 8 * longest, "{number}: {looked_at}");
    }
}
