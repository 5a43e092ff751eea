use super::*;
use crate::{
    control_plane::{
        change::{Change, ChangeError, Position, Prepare, PreparedChange},
        current::empty_snapshot,
        prepare::tests::World,
        updates::edits_of,
    },
    manifest::{
        collection::{Edit, Key},
        load::Extent,
        overlay::EditedSet,
        work,
    },
    wire::Name,
};
use arc_swap::ArcSwap;
use serde_json::json;
use std::fs;

#[test]
fn serves_the_last_valid_manifest_after_errors() {
    let directory = std::env::temp_dir().join(format!("zonal-publisher-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let node = Arc::default();
    let snapshot: Published = Arc::new(ArcSwap::from_pointee(empty_snapshot(&node)));
    let status = Arc::new(Status::default());
    let mut publisher = Publisher::new(snapshot.clone(), node, status.clone(), OnError::Refuse, None);
    let generations = publisher.generations();
    let mut loader = Loader::new(&directory);
    let good = "vpcs: {vpc-a: {region: r, cidr_blocks: [10.0.0.0/16]}}";
    let other = "vpcs: {vpc-b: {region: r, cidr_blocks: [10.0.0.0/16]}}";
    let cases = [
        (good, Some(LoadResult::Changed), 1, 0),
        (good, Some(LoadResult::Unchanged), 1, 0),
        ("vpcs: {vpc-a: {region: r, cidr_blocks: [10.0.0.0/99]}}", None, 1, 1),
        ("vpcs: [", None, 1, 2),
        (
            "vpcs: {vpc-a: {region: r, cidr_blocks: [10.0.0.0/16], resolver_addresses: [10.0.0.2, 10.0.0.2]}}",
            None,
            1,
            3,
        ),
        (good, Some(LoadResult::Unchanged), 1, 3),
        (other, Some(LoadResult::Changed), 2, 3),
    ];
    for (text, expected, generation, failures) in cases {
        fs::write(directory.join("a.yaml.new"), text).unwrap();
        fs::rename(directory.join("a.yaml.new"), directory.join("a.yaml")).unwrap();
        let loading = publisher.load(&mut loader, &LoadScope::default(), false);
        match &expected {
            Some(expected) => assert_eq!(loading, *expected, "{text}"),
            None => assert!(matches!(&loading, LoadResult::Failed(problems) if !problems.is_empty()), "{text}"),
        }
        assert_eq!(snapshot.load().generation, generation, "{text}");
        assert_eq!(*generations.borrow(), generation, "{text}");
        let state = status.state().clone();
        assert_eq!(state.last_error.is_some(), expected.is_none(), "{text}");
        assert!(state.last_error.is_none_or(|error| error.message.contains("a.yaml:")), "{text}");
        assert_eq!(state.resources.get("vpcs"), Some(&1));
        let counters = publisher.counters();
        assert_eq!(counters.reloads.with_label_values(&["failed"]).get(), failures, "{text}");
        assert_eq!(counters.reload_failed.get(), i64::from(expected.is_none()), "{text}");
    }
    fs::remove_dir_all(directory).unwrap();
}

/// Files that are written one after the other: a resource that moves to another file is never
/// missing, and no file is refused because another one comes later.
#[test]
fn waits_for_other_files_of_an_incomplete_change() {
    let directory = std::env::temp_dir().join(format!("zonal-publisher-early-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: &str| {
        fs::write(directory.join(".new"), text).unwrap();
        fs::rename(directory.join(".new"), directory.join(name)).unwrap();
        LoadScope { extent: Extent::Files([directory.join(name)].into()), ..LoadScope::default() }
    };
    let vpc = |id: &str| format!("vpcs: {{{id}: {{region: r, cidr_blocks: [10.0.0.0/16]}}}}");
    let zone = |vpcs: &str| format!("private_hosted_zones: {{Z: {{name: z.example, vpc_ids: [{vpcs}]}}}}");
    for on_error in [OnError::Refuse, OnError::SetAside] {
        let node = Arc::default();
        let snapshot: Published = Arc::new(ArcSwap::from_pointee(empty_snapshot(&node)));
        let mut publisher = Publisher::new(snapshot.clone(), node, Arc::default(), on_error, None);
        write("a.yaml", &vpc("vpc-a"));
        write("b.yaml", "");
        write("c.yaml", &zone("vpc-a"));
        let mut loader = Loader::new(&directory).keeping_texts();
        assert_eq!(publisher.load(&mut loader, &LoadScope::default(), true), LoadResult::Changed);
        let has = |vpc: &str| snapshot.load().manifest.vpcs.contains_key(vpc);
        // A VPC moves to another file.
        assert_eq!(publisher.load(&mut loader, &write("a.yaml", ""), true), LoadResult::Incomplete);
        assert!(has("vpc-a"), "{on_error:?}");
        assert_eq!(publisher.load(&mut loader, &write("b.yaml", &vpc("vpc-a")), true), LoadResult::Unchanged);
        // A zone comes before its VPC.
        assert_eq!(publisher.load(&mut loader, &write("c.yaml", &zone("vpc-a, vpc-b")), true), LoadResult::Incomplete);
        assert_eq!(publisher.load(&mut loader, &write("a.yaml", &vpc("vpc-b")), true), LoadResult::Changed);
        assert!(has("vpc-a") && has("vpc-b"));
        assert_eq!(publisher.counters().reloads.with_label_values(&["failed"]).get(), 0);
        // A part of a file, and a load that waits no longer.
        assert_eq!(publisher.load(&mut loader, &write("a.yaml", "vpcs: {"), true), LoadResult::Incomplete);
        let nothing_more = LoadScope { extent: Extent::Files(Default::default()), ..LoadScope::default() };
        assert!(matches!(publisher.load(&mut loader, &nothing_more, false), LoadResult::Failed(_)));
        assert!(has("vpc-b"));
        write("c.yaml", &zone("vpc-a"));
        write("a.yaml", "");
        assert_eq!(publisher.load(&mut loader, &LoadScope::default(), false), LoadResult::Changed);
        assert!(!has("vpc-b"));
    }
    fs::remove_dir_all(directory).unwrap();
}

/// A change of one record set in a large zone looks at a few chunks of the zone's sets, and writes the changed set alone. The
/// result on the disk, and the digest, are those of the whole zone.
#[test]
fn the_cost_of_a_change_of_record_sets_follows_the_change() {
    let directory = std::env::temp_dir().join(format!("zonal-publisher-sets-{}", std::process::id()));
    let publisher = |store: Option<StateStore>| {
        let node = Arc::default();
        let snapshot: Published = Arc::new(ArcSwap::from_pointee(empty_snapshot(&node)));
        (Publisher::new(snapshot.clone(), node, Arc::default(), OnError::Refuse, store), snapshot)
    };
    let edit = |kind: &str, id: &str, text: &[u8]| Edit { key: Key::new(kind, id).unwrap(), value: Some(text.into()) };
    let set = |number| json!({"name": format!("r{number}"), "type": "A", "ttl": 60, "records": ["192.0.2.1"]});
    let zone = json!({"name": "z.example", "vpc_ids": ["v"], "records": (0..20_000).map(set).collect::<Vec<_>>()});
    let vpc = edit("vpcs", "v", br#"{"region": "r", "cidr_blocks": ["10.0.0.0/16"]}"#);
    let (mut changed, snapshot) = publisher(Some(StateStore::open(&directory).unwrap().0));
    let whole = vec![vpc.clone(), edit("private_hosted_zones", "Z", zone.to_string().as_bytes())];
    changed.apply(vec![Change::fact(whole, Position::default())]);
    assert_eq!(snapshot.load().generation, 1);
    let written = || {
        let files = fs::read_dir(&directory).unwrap().map(Result::unwrap);
        let journals = files.filter(|file| file.file_name().to_string_lossy().starts_with("journal"));
        journals.map(|file| file.metadata().unwrap().len()).sum::<u64>()
    };
    for number in 0..40_u8 {
        // Every fifth update adds a set. Of the others, every fourth removes one.
        let owner = format!("r{}.z.example", u32::from(number) * 499 + if number % 5 == 0 { 30_000 } else { 0 });
        let values = if number % 4 == 1 && number % 5 > 0 { Vec::new() } else { vec![[192, 0, 2, number][..].into()] };
        let set = EditedSet { owner: Name::absolute(&owner).unwrap(), rtype: 1, ttl: 60, values };
        let edits = edits_of(&changed.delivered.0, "Z", &[set]).unwrap();
        let (before, position) = (written(), Position { revision: number.into(), ..Position::default() });
        let ((), looked_at) = work::of(|| changed.apply(vec![Change::fact(edits, position)]));
        assert_eq!(snapshot.load().generation, 2 + u64::from(number), "{owner}");
        // The first change builds the zone in the form that changes fast.
        assert!(number == 0 || looked_at < 4000, "{owner}: {looked_at}");
        assert!((1..600).contains(&(written() - before)), "{owner}: {}", written() - before);
    }
    // After reading, a pushed zone that differs in one set costs no more than an update of this set.
    let key = Key::new("private_hosted_zones", "Z").unwrap();
    let mut pushed: serde_json::Value = serde_json::from_slice(&changed.delivered.0.text(&key).unwrap()).unwrap();
    pushed["records"][700]["ttl"] = 61.into();
    let text = pushed.to_string();
    let (before, edits) = (written(), vec![edit("private_hosted_zones", "Z", text.as_bytes())]);
    let ((), looked_at) = work::of(|| changed.apply(vec![Change::fact(edits, Position::default())]));
    assert_eq!(snapshot.load().generation, 42);
    assert!(looked_at < 4000 && written() - before < 600, "{looked_at}, {}", written() - before);
    let text = changed.delivered.0.text(&key).unwrap();
    let digest = snapshot.load().digest;
    drop(changed);
    let recovered = StateStore::open(&directory).unwrap().1.state.unwrap().collection;
    assert_eq!(recovered.text(&key), Some(text.clone()));
    // A second publisher has no history. It receives the final text as the first version, and computes the same digest.
    let (mut second_publisher, snapshot) = publisher(None);
    let edits = vec![vpc, edit("private_hosted_zones", "Z", &text)];
    second_publisher.apply(vec![Change::fact(edits, Position::default())]);
    assert_eq!(snapshot.load().digest, digest);
    fs::remove_dir_all(directory).unwrap();
}

/// A strict change is refused if zonal would not serve the changed resource, also if the resource is already set aside.
#[test]
fn refuses_a_strict_change_of_a_resource_that_stays_set_aside() {
    let valid = r#"{"region": "r", "cidr_blocks": ["10.0.0.0/16"]}"#;
    let mut world = World::new(OnError::SetAside, &[("vpcs/v", valid), ("vpcs/w", valid)]);
    let broken = r#"{"region": "r", "cidr_blocks": ["10.0.0.0/16"], "resolver_addresses": ["10.0.0.2", "10.0.0.2"]}"#;
    world.put(&[("vpcs/v", broken)]);
    assert_eq!(world.set_aside(), ["vpcs/v"]);
    let mut change = |key: &str, text: &str| {
        let (kind, id) = key.split_once('/').unwrap();
        let edit = Edit { key: Key::new(kind, id).unwrap(), value: Some(text.as_bytes().into()) };
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        let prepare: Prepare = Box::new(move |_, position| {
            let position = Position { revision: position.revision + 1, ..position.clone() };
            Ok(PreparedChange { edits: vec![edit.clone()], position, deletions: None, is_whole: false })
        });
        let since = std::time::Instant::now();
        let change = Change { prepare, is_fact: false, trial: None, is_strict: true, since, reply: Some(reply) };
        world.publisher.apply(vec![change]);
        answer.try_recv().unwrap()
    };
    let other = broken.replace("10.0.0.2", "10.0.0.3");
    assert!(matches!(change("vpcs/v", &other), Err(ChangeError::Problems(problems)) if !problems.is_empty()));
    assert!(change("vpcs/w", &valid.replace("10.0.0.0", "10.1.0.0")).is_ok(), "other resources can change");
    assert!(change("vpcs/v", &valid.replace("10.0.0.0", "10.2.0.0")).is_ok());
    assert_eq!(world.set_aside(), [""; 0]);
}
